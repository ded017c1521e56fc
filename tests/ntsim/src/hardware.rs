//! Devices as a test describes them: IDs, resources, what they need, how they get power.

use crate::{Nanos, NtStatus, RegValue};

/// One hardware resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// I/O ports.
    Port {
        /// First port.
        base: u64,
        /// How many.
        len: u32,
    },
    /// A memory range.
    Memory {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u32,
    },
    /// An interrupt.
    Interrupt {
        /// IRQL or line.
        level: u16,
        /// Vector.
        vector: u32,
        /// Latched (edge) or level-triggered.
        latched: bool,
    },
    /// A DMA channel.
    Dma {
        /// Channel.
        channel: u32,
    },
    /// A `CM_PARTIAL_RESOURCE_DESCRIPTOR` as bytes.
    Raw([u8; 20]),
}

impl Resource {
    /// As a `CM_PARTIAL_RESOURCE_DESCRIPTOR`: Type, `ShareDisposition`, Flags, 16 bytes by type.
    pub(crate) fn encode(&self) -> [u8; 20] {
        let mut out = [0_u8; 20];
        let (kind, share, flags): (u8, u8, u16) = match self {
            Self::Port { base, len } => {
                out[4..12].copy_from_slice(&base.to_le_bytes());
                out[12..16].copy_from_slice(&len.to_le_bytes());
                // exclusive; CM_RESOURCE_PORT_IO
                (1, 1, 1)
            }
            Self::Interrupt {
                level,
                vector,
                latched,
            } => {
                out[4..6].copy_from_slice(&level.to_le_bytes());
                out[8..12].copy_from_slice(&vector.to_le_bytes());
                out[12..20].copy_from_slice(&1_u64.to_le_bytes());
                (2, 1, u16::from(*latched))
            }
            Self::Memory { base, len } => {
                out[4..12].copy_from_slice(&base.to_le_bytes());
                out[12..16].copy_from_slice(&len.to_le_bytes());
                (3, 1, 0)
            }
            Self::Dma { channel } => {
                out[4..8].copy_from_slice(&channel.to_le_bytes());
                (4, 1, 0)
            }
            Self::Raw(bytes) => return *bytes,
        };
        out[0] = kind;
        out[1] = share;
        out[2..4].copy_from_slice(&flags.to_le_bytes());
        out
    }
}

/// One resource that a device needs, an `IO_RESOURCE_DESCRIPTOR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which; a port or an interrupt is the only one of its kind that will do.
    pub resource: Resource,
    /// It does in place of the one before (`IO_RESOURCE_ALTERNATIVE`).
    pub alternative: bool,
}

impl Need {
    /// As an `IO_RESOURCE_DESCRIPTOR`: Option, Type, `ShareDisposition`, Flags, 24 bytes by type.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        out[0] = if self.alternative { 8 } else { 0 };
        let assigned = self.resource.encode();
        out[1..3].copy_from_slice(&assigned[..2]);
        out[4..6].copy_from_slice(&assigned[2..4]);
        match &self.resource {
            Resource::Port { base, len } | Resource::Memory { base, len } => {
                out[8..12].copy_from_slice(&len.to_le_bytes());
                out[12..16].copy_from_slice(&1_u32.to_le_bytes());
                out[16..24].copy_from_slice(&base.to_le_bytes());
                let last = base.saturating_add(u64::from(*len)).saturating_sub(1);
                out[24..32].copy_from_slice(&last.to_le_bytes());
            }
            Resource::Interrupt { vector: one, .. } | Resource::Dma { channel: one } => {
                out[8..12].copy_from_slice(&one.to_le_bytes());
                out[12..16].copy_from_slice(&one.to_le_bytes());
            }
            Resource::Raw(_) => {}
        }
        out
    }
}

/// An `IO_RESOURCE_REQUIREMENTS_LIST` of these lists, the preferred one first.
#[must_use]
pub fn requirements_list(lists: &[Vec<Need>]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = vec![0; 0x20];
    bytes[0x1C..0x20].copy_from_slice(&number(lists.len()));
    for list in lists {
        // Version and revision 1.
        bytes.extend([1, 0, 1, 0]);
        bytes.extend(number(list.len()));
        for need in list {
            bytes.extend(need.encode());
        }
    }
    let size = number(bytes.len());
    bytes[..4].copy_from_slice(&size);
    bytes
}

/// A device for [`Machine::plug`](crate::Machine::plug).
#[derive(Clone, Debug, Default)]
pub struct DeviceSpec {
    /// Name of the bus, such as `ACPI`.
    pub enumerator: String,
    /// Device id without the enumerator, such as `PNP0400`.
    pub device_id: String,
    /// Instance id.
    pub instance: String,
    /// Hardware ids, with enumerator.
    pub hardware_ids: Vec<String>,
    /// Compatible ids.
    pub compatible_ids: Vec<String>,
    /// Setup class name.
    pub class: String,
    /// Setup class, with braces.
    pub class_guid: String,
    /// Values of the hardware key (`Device Parameters`).
    pub hardware_key: Vec<(String, RegValue)>,
    /// Values of the software key.
    pub software_key: Vec<(String, RegValue)>,
    /// Resources as the bus sees them.
    pub raw: Vec<Resource>,
    /// Resources as the processor sees them.
    pub translated: Vec<Resource>,
    /// What it needs, in lists of which one is enough, the preferred one first. If there is one,
    /// the PnP manager asks the stack about them, and assigns resources from the answer.
    pub requirements: Vec<Vec<Need>>,
    /// `FILE_DEVICE_` type of the PDO.
    pub device_type: u32,
    /// Whether the PDO has `DO_POWER_PAGABLE`.
    pub power_pagable: bool,
    /// More flags of the PDO, such as `DO_DIRECT_IO`.
    pub flags: u32,
}

impl DeviceSpec {
    /// The same resources, raw and translated.
    #[must_use]
    pub fn with_resources(mut self, resources: &[Resource]) -> Self {
        self.raw = resources.to_vec();
        self.translated = resources.to_vec();
        self
    }
}

/// How a device gets full power, see [`Machine::set_power_up`](crate::Machine::set_power_up). By
/// default at once, and always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerUp {
    /// The answer of the bus, which leaves the device as it is.
    pub refused: Option<NtStatus>,
    /// It is not the bus that refuses, but a driver above the function driver, which does not see
    /// the request.
    pub above: bool,
    /// How long it takes.
    pub after: Nanos,
    /// The request ends before `PoRequestPowerIrp` returns, and so does its routine.
    pub inside: bool,
}

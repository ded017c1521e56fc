//! The requests to a port object (`\Device\ParallelPortN`).

use super::{Layout, SelectCommand, u64_at};
use crate::ioctl::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits, take};

const fn code(function: u32) -> u32 {
    buffered_code(FILE_DEVICE_PARALLEL_PORT, function)
}

/// Waits for the port, and has it then.
const IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE: u32 = code(11);
/// Asks for [`ParallelPortInformation`].
const IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO: u32 = code(12);
/// Connects an interrupt service routine.
const IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT: u32 = code(13);
/// Disconnects one.
const IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT: u32 = code(14);
/// Means nothing any more.
const IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO: u32 = code(15);
/// Asks for [`MoreParallelPortInformation`].
const IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO: u32 = code(17);
/// Sets the chip's mode.
const IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE: u32 = code(19);
/// Sets the chip back to compatibility mode.
const IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE: u32 = code(20);
/// Asks for [`ParallelPnpInformation`].
const IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO: u32 = code(21);
/// Looks for the devices of the IEEE 1284.3 chain, and numbers them.
const IOCTL_INTERNAL_INIT_1284_3_BUS: u32 = code(22);
/// Selects a device of the chain.
const IOCTL_INTERNAL_SELECT_DEVICE: u32 = code(23);
/// Deselects it.
const IOCTL_INTERNAL_DESELECT_DEVICE: u32 = code(24);
/// Frees the port.
const IOCTL_INTERNAL_PARALLEL_PORT_FREE: u32 = code(40);

/// An internal request to a port object, its buffers checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRequest {
    /// `IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE`
    Allocate,
    /// `IOCTL_INTERNAL_PARALLEL_PORT_FREE`
    Free,
    /// `IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO`
    GetPortInformation,
    /// `IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO`
    ReleasePortInformation,
    /// `IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO`
    GetMorePortInformation,
    /// `IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO`
    GetPnpInformation,
    /// `IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE`
    SetChipMode(u8),
    /// `IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE`
    ClearChipMode(u8),
    /// `IOCTL_INTERNAL_INIT_1284_3_BUS`
    InitializeChain,
    /// `IOCTL_INTERNAL_SELECT_DEVICE`
    Select(SelectCommand),
    /// `IOCTL_INTERNAL_DESELECT_DEVICE`
    Deselect(SelectCommand),
    /// `IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT`
    ConnectInterrupt(InterruptServiceRoutine),
    /// `IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT`
    DisconnectInterrupt(InterruptServiceRoutine),
}

impl PortRequest {
    /// Parses an `IRP_MJ_INTERNAL_DEVICE_CONTROL` to a port object.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` for a code that the object does not know;
    /// `STATUS_BUFFER_TOO_SMALL`, if a structure or the answer does not fit.
    pub fn parse(code: u32, input: &[u8], output_length: usize) -> Result<Self, Status> {
        Ok(match code {
            IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE => Self::Allocate,
            IOCTL_INTERNAL_PARALLEL_PORT_FREE => Self::Free,
            IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO => Self::ReleasePortInformation,
            IOCTL_INTERNAL_INIT_1284_3_BUS => Self::InitializeChain,
            IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO => {
                fits(output_length, ParallelPortInformation::SIZE)?;
                Self::GetPortInformation
            }
            IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO => {
                fits(output_length, MoreParallelPortInformation::SIZE)?;
                Self::GetMorePortInformation
            }
            IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO => {
                fits(output_length, ParallelPnpInformation::SIZE)?;
                Self::GetPnpInformation
            }
            IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE => Self::SetChipMode(chip_mode(input)?),
            IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE => Self::ClearChipMode(chip_mode(input)?),
            IOCTL_INTERNAL_SELECT_DEVICE => Self::Select(SelectCommand::parse(input)?),
            IOCTL_INTERNAL_DESELECT_DEVICE => Self::Deselect(SelectCommand::parse(input)?),
            IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT => {
                fits(output_length, InterruptInformation::SIZE)?;
                Self::ConnectInterrupt(InterruptServiceRoutine::parse(input)?)
            }
            IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT => {
                Self::DisconnectInterrupt(InterruptServiceRoutine::parse(input)?)
            }
            _ => return Err(Status::INVALID_PARAMETER),
        })
    }
}

/// `ModeFlags` of `PARALLEL_CHIP_MODE`, two bytes of which the second has no meaning.
fn chip_mode(input: &[u8]) -> Result<u8, Status> {
    let [mode, _] = take(input).ok_or(Status::BUFFER_TOO_SMALL)?;
    Ok(mode)
}

/// A mode that a client may set the chip to: the upper three bits of the ECR. The others, which
/// the header calls option bits, are the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChipMode {
    /// `ECR_BYTE_MODE`
    Byte,
    /// `ECR_FASTCENT_MODE`
    FastCentronics,
    /// `ECR_ECP_MODE`
    Ecp,
    /// `ECR_EPP_MODE`
    Epp,
}

impl ChipMode {
    /// The mode in an ECR value. `None`: one that is not for clients.
    #[must_use]
    pub const fn of(ecr: u8) -> Option<Self> {
        Some(match ecr & 0xE0 {
            0x20 => Self::Byte,
            0x40 => Self::FastCentronics,
            0x60 => Self::Ecp,
            0x80 => Self::Epp,
            _ => return None,
        })
    }
}

/// Addresses of the routines that a port object offers, and of their first argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRoutines {
    /// `TryAllocatePort`
    pub try_allocate: u64,
    /// `FreePort`
    pub free: u64,
    /// `QueryNumWaiters`
    pub waiters: u64,
    /// `TrySetChipMode`
    pub set_chip_mode: u64,
    /// `ClearChipMode`
    pub clear_chip_mode: u64,
    /// `TrySelectDevice`
    pub try_select: u64,
    /// `DeselectDevice`
    pub deselect: u64,
    /// `TryAllocatePortAtInterruptLevel`
    pub try_allocate_at_interrupt: u64,
    /// `FreePortFromInterruptLevel`
    pub free_from_interrupt: u64,
    /// `Context`
    pub context: u64,
}

/// `PARALLEL_PORT_INFORMATION`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParallelPortInformation {
    /// Base address of the registers as the bus has it.
    pub original_controller: u64,
    /// Base address of the registers.
    pub controller: u64,
    /// Bytes of I/O space there.
    pub span_of_controller: u32,
    /// What may be called.
    pub routines: PortRoutines,
}

impl ParallelPortInformation {
    /// Bytes of the structure.
    pub const SIZE: usize = 56;

    /// The structure.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        Layout::EMPTY
            .u64(0x00, self.original_controller)
            .u64(0x08, self.controller)
            .u32(0x10, self.span_of_controller)
            .u64(0x18, self.routines.try_allocate)
            .u64(0x20, self.routines.free)
            .u64(0x28, self.routines.waiters)
            .u64(0x30, self.routines.context)
            .0
    }
}

/// `MORE_PARALLEL_PORT_INFORMATION`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoreParallelPortInformation {
    /// `INTERFACE_TYPE`
    pub interface_type: u32,
    /// Number of the bus.
    pub bus_number: u32,
    /// IRQL of the interrupt; with the two others 0, if the port has none.
    pub interrupt_level: u32,
    /// Vector of the interrupt.
    pub interrupt_vector: u32,
    /// Processors that may be interrupted, a `KAFFINITY`.
    pub interrupt_affinity: u64,
    /// `KINTERRUPT_MODE`
    pub interrupt_mode: u32,
}

impl MoreParallelPortInformation {
    /// Bytes of the structure.
    pub const SIZE: usize = 32;

    /// The structure.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        Layout::EMPTY
            .u32(0x00, self.interface_type)
            .u32(0x04, self.bus_number)
            .u32(0x08, self.interrupt_level)
            .u32(0x0C, self.interrupt_vector)
            .u64(0x10, self.interrupt_affinity)
            .u32(0x18, self.interrupt_mode)
            .0
    }
}

/// `PARALLEL_PNP_INFORMATION`; its members that are documented as not used stay zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParallelPnpInformation {
    /// Base address of the ECP registers as the bus has it.
    pub original_ecp_controller: u64,
    /// Base address of the ECP registers; 0: there are none.
    pub ecp_controller: u64,
    /// Bytes of I/O space there.
    pub span_of_ecp_controller: u32,
    /// `PPT_*`
    pub hardware_capabilities: u32,
    /// Words that the ECP FIFO holds.
    pub fifo_depth: u32,
    /// Bits of such a word.
    pub fifo_width: u32,
    /// Devices in the IEEE 1284.3 chain, without the one at its end.
    pub chain_devices: u32,
    /// The chip mode that a client has set, an ECR value; 0: none.
    pub current_mode: u32,
    /// Address of the symbolic link's name, NUL-terminated.
    pub port_name: u64,
    /// What may be called.
    pub routines: PortRoutines,
}

impl ParallelPnpInformation {
    /// Bytes of the structure.
    pub const SIZE: usize = 112;

    /// The structure.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        Layout::EMPTY
            .u64(0x00, self.original_ecp_controller)
            .u64(0x08, self.ecp_controller)
            .u32(0x10, self.span_of_ecp_controller)
            .u32(0x18, self.hardware_capabilities)
            .u64(0x20, self.routines.set_chip_mode)
            .u64(0x28, self.routines.clear_chip_mode)
            .u32(0x30, self.fifo_depth)
            .u32(0x34, self.fifo_width)
            .u32(0x44, self.chain_devices)
            .u64(0x48, self.routines.try_select)
            .u64(0x50, self.routines.deselect)
            .u64(0x58, self.routines.context)
            .u32(0x60, self.current_mode)
            .u64(0x68, self.port_name)
            .0
    }
}

/// `PARALLEL_INTERRUPT_SERVICE_ROUTINE`: addresses of a client's routines and their contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptServiceRoutine {
    /// `InterruptServiceRoutine`
    pub routine: u64,
    /// `InterruptServiceContext`
    pub context: u64,
    /// `DeferredPortCheckRoutine`; 0: none.
    pub deferred_routine: u64,
    /// `DeferredPortCheckContext`
    pub deferred_context: u64,
}

impl InterruptServiceRoutine {
    const SIZE: usize = 32;

    fn parse(input: &[u8]) -> Result<Self, Status> {
        if input.len() < Self::SIZE {
            return Err(Status::BUFFER_TOO_SMALL);
        }
        Ok(Self {
            routine: u64_at(input, 0x00),
            context: u64_at(input, 0x08),
            deferred_routine: u64_at(input, 0x10),
            deferred_context: u64_at(input, 0x18),
        })
    }
}

/// `PARALLEL_INTERRUPT_INFORMATION`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptInformation {
    /// Address of the interrupt object.
    pub interrupt_object: u64,
    /// What may be called.
    pub routines: PortRoutines,
}

impl InterruptInformation {
    const SIZE: usize = 32;

    /// The structure.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        Layout::EMPTY
            .u64(0x00, self.interrupt_object)
            .u64(0x08, self.routines.try_allocate_at_interrupt)
            .u64(0x10, self.routines.free_from_interrupt)
            .u64(0x18, self.routines.context)
            .0
    }
}

#[cfg(test)]
mod tests;

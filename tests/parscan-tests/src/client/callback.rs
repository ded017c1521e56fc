//! The routines of the callback tables.

use ntsim::NtStatus;

use super::{
    puppet::{Table, argument},
    status,
};
use crate::parallel_h::SAFE_MODE;

/// A routine of a callback table, with its arguments after the context.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are parallel.h's own")]
pub enum Callback<'a> {
    // Of PARCLASS_INFORMATION.
    DetermineIeeeModes,
    NegotiateIeeeMode {
        forward: u16,
        reverse: u16,
        safety: u32,
        is_forward: bool,
    },
    TerminateIeeeMode,
    IeeeFwdToRevMode,
    IeeeRevToFwdMode,
    /// So many bytes.
    ParallelRead(usize),
    ParallelWrite(&'a [u8]),
    /// A `PARALLEL_1284_COMMAND`, by value.
    ParallelTryselect([u8; 8]),
    ParallelDeSelect([u8; 8]),
    // Of PARALLEL_PORT_INFORMATION.
    TryAllocatePort,
    FreePort,
    QueryNumWaiters,
    // Of PARALLEL_PNP_INFORMATION.
    TrySetChipMode(u8),
    ClearChipMode(u8),
    /// The address of a `PARALLEL_1284_COMMAND`.
    TrySelectDevice([u8; 8]),
    DeselectDevice([u8; 8]),
    /// `ParallelRead` with null for the count's address.
    ReadWithoutCount(usize),
    /// `ParallelWrite` with null for the count's address.
    WriteWithoutCount(&'a [u8]),
}

/// How a routine is called: its table and offset, kinds and values of arguments, buffer.
pub(super) struct Call {
    pub(super) place: (Table, usize),
    pub(super) kinds: u64,
    pub(super) values: [u64; 4],
    pub(super) data: Vec<u8>,
    pub(super) buffer: usize,
}

impl Callback<'_> {
    /// `NegotiateIeeeMode` as most clients call it: in the safe mode, to begin with the forward mode.
    #[must_use]
    pub const fn negotiate(forward: u16, reverse: u16) -> Self {
        Self::NegotiateIeeeMode {
            forward,
            reverse,
            safety: SAFE_MODE,
            is_forward: true,
        }
    }

    /// How it is called. Routines are by their offsets in the structures of parallel.h.
    pub(super) fn call(self) -> Call {
        const READ: usize = 0x40;
        const WRITE: usize = 0x48;

        let simple = |place, values| Call {
            place,
            kinds: 0,
            values,
            data: Vec::new(),
            buffer: 0,
        };
        let class = |offset| (Table::Parclass, offset);
        let of_port = |offset| simple((Table::Port, offset), [0; 4]);
        let of_pnp = |offset| (Table::Pnp, offset);
        let by_value =
            |offset, command| simple(class(offset), [u64::from_le_bytes(command), 0, 0, 0]);
        let transfer = |offset, data: &[u8], length: usize, kinds| Call {
            place: class(offset),
            kinds,
            values: [0, length as u64, 0, 0],
            data: data.to_vec(),
            buffer: length,
        };
        let by_address = |offset, command: [u8; 8]| Call {
            place: of_pnp(offset),
            kinds: argument::BUFFER,
            values: [0; 4],
            data: command.to_vec(),
            buffer: command.len(),
        };
        let counted = argument::BUFFER | argument::COUNT << 8;
        match self {
            Self::DetermineIeeeModes => simple(class(0x18), [0; 4]),
            Self::NegotiateIeeeMode {
                forward,
                reverse,
                safety,
                is_forward,
            } => simple(
                class(0x20),
                [
                    forward.into(),
                    reverse.into(),
                    safety.into(),
                    is_forward.into(),
                ],
            ),
            Self::TerminateIeeeMode => simple(class(0x28), [0; 4]),
            Self::IeeeFwdToRevMode => simple(class(0x30), [0; 4]),
            Self::IeeeRevToFwdMode => simple(class(0x38), [0; 4]),
            Self::ParallelRead(length) => transfer(READ, &[], length, counted),
            Self::ParallelWrite(data) => transfer(WRITE, data, data.len(), counted),
            Self::ParallelTryselect(command) => by_value(0x68, command),
            Self::ParallelDeSelect(command) => by_value(0x70, command),
            Self::TryAllocatePort => of_port(0x18),
            Self::FreePort => of_port(0x20),
            Self::QueryNumWaiters => of_port(0x28),
            Self::TrySetChipMode(mode) => simple(of_pnp(0x20), [mode.into(), 0, 0, 0]),
            Self::ClearChipMode(mode) => simple(of_pnp(0x28), [mode.into(), 0, 0, 0]),
            Self::TrySelectDevice(command) => by_address(0x48, command),
            Self::DeselectDevice(command) => by_address(0x50, command),
            Self::ReadWithoutCount(length) => transfer(READ, &[], length, argument::BUFFER),
            Self::WriteWithoutCount(data) => transfer(WRITE, data, data.len(), argument::BUFFER),
        }
    }
}

/// What a callback gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The register rax.
    pub value: u64,
    /// What it counted; [`Answer::UNCOUNTED`] if it wrote no count.
    pub count: u32,
    /// The buffer; what it did not write is [`UNTOUCHED`](super::puppet::UNTOUCHED).
    pub data: Vec<u8>,
}

impl Answer {
    /// The count before the call.
    pub const UNCOUNTED: u32 = u32::from_le_bytes([super::puppet::UNTOUCHED; 4]);

    /// As an NTSTATUS.
    #[must_use]
    pub fn status(&self) -> NtStatus {
        status(self.value)
    }

    /// As a BOOLEAN.
    #[must_use]
    pub const fn boolean(&self) -> bool {
        self.value.to_le_bytes()[0] != 0
    }

    /// As a USHORT.
    #[must_use]
    pub const fn short(&self) -> u16 {
        let bytes = self.value.to_le_bytes();
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// As a ULONG.
    #[must_use]
    pub fn long(&self) -> u32 {
        self.status().0
    }
}

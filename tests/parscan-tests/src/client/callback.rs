//! The routines of the callback tables.

use ntsim::NtStatus;

use super::{
    puppet::{Table, argument},
    status,
};
use crate::parallel_h::{ParclassRoutine, PnpRoutine, PortRoutine, SAFE_MODE};

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
    /// `ParallelRead` or `ParallelWrite` with null for the count's address.
    WithoutCount(ParclassRoutine, &'a [u8]),
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

    pub(super) fn call(self) -> Call {
        let simple = |place, values| Call {
            place,
            kinds: 0,
            values,
            data: Vec::new(),
            buffer: 0,
        };
        let class = |routine: ParclassRoutine| (Table::Parclass, routine as usize);
        let of_port = |routine: PortRoutine| simple((Table::Port, routine as usize), [0; 4]);
        let of_pnp = |routine: PnpRoutine| (Table::Pnp, routine as usize);
        let by_value =
            |routine, command| simple(class(routine), [u64::from_le_bytes(command), 0, 0, 0]);
        let transfer = |routine, data: &[u8], length: usize, kinds| Call {
            place: class(routine),
            kinds,
            values: [0, length as u64, 0, 0],
            data: data.to_vec(),
            buffer: length,
        };
        let by_address = |routine, command: [u8; 8]| Call {
            place: of_pnp(routine),
            kinds: argument::BUFFER,
            values: [0; 4],
            data: command.to_vec(),
            buffer: command.len(),
        };
        let counted = argument::BUFFER | argument::COUNT << 8;
        match self {
            Self::DetermineIeeeModes => simple(class(ParclassRoutine::DetermineIeeeModes), [0; 4]),
            Self::NegotiateIeeeMode {
                forward,
                reverse,
                safety,
                is_forward,
            } => simple(
                class(ParclassRoutine::NegotiateIeeeMode),
                [
                    forward.into(),
                    reverse.into(),
                    safety.into(),
                    is_forward.into(),
                ],
            ),
            Self::TerminateIeeeMode => simple(class(ParclassRoutine::TerminateIeeeMode), [0; 4]),
            Self::IeeeFwdToRevMode => simple(class(ParclassRoutine::IeeeFwdToRevMode), [0; 4]),
            Self::IeeeRevToFwdMode => simple(class(ParclassRoutine::IeeeRevToFwdMode), [0; 4]),
            Self::ParallelRead(length) => {
                transfer(ParclassRoutine::ParallelRead, &[], length, counted)
            }
            Self::ParallelWrite(data) => {
                transfer(ParclassRoutine::ParallelWrite, data, data.len(), counted)
            }
            Self::ParallelTryselect(command) => {
                by_value(ParclassRoutine::ParallelTryselect, command)
            }
            Self::ParallelDeSelect(command) => by_value(ParclassRoutine::ParallelDeSelect, command),
            Self::TryAllocatePort => of_port(PortRoutine::TryAllocatePort),
            Self::FreePort => of_port(PortRoutine::FreePort),
            Self::QueryNumWaiters => of_port(PortRoutine::QueryNumWaiters),
            Self::TrySetChipMode(mode) => {
                simple(of_pnp(PnpRoutine::TrySetChipMode), [mode.into(), 0, 0, 0])
            }
            Self::ClearChipMode(mode) => {
                simple(of_pnp(PnpRoutine::ClearChipMode), [mode.into(), 0, 0, 0])
            }
            Self::TrySelectDevice(command) => by_address(PnpRoutine::TrySelectDevice, command),
            Self::DeselectDevice(command) => by_address(PnpRoutine::DeselectDevice, command),
            Self::WithoutCount(routine, data) => {
                transfer(routine, data, data.len(), argument::BUFFER)
            }
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

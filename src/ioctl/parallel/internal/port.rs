//! The requests to a port object (`\Device\ParallelPortN`).

use super::SelectCommand;
use crate::ioctl::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits, layout::layout, take};

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

/// An internal request to a port object, its buffers checked, by where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRequest {
    /// In its sender's thread.
    Immediate(ImmediatePortRequest),
    /// When its client has the port.
    Queued(QueuedPortRequest),
}

/// An internal request that asks for the port, and may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedPortRequest {
    /// `IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE`
    Allocate,
    /// `IOCTL_INTERNAL_SELECT_DEVICE`. Of a client that has the port it is answered at once.
    Select(SelectCommand),
}

/// An internal request to a port object that waits for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmediatePortRequest {
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
        use {ImmediatePortRequest as Now, QueuedPortRequest as Later};
        Ok(match code {
            IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE => Self::Queued(Later::Allocate),
            IOCTL_INTERNAL_PARALLEL_PORT_FREE => Self::Immediate(Now::Free),
            IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO => {
                Self::Immediate(Now::ReleasePortInformation)
            }
            IOCTL_INTERNAL_INIT_1284_3_BUS => Self::Immediate(Now::InitializeChain),
            IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO => {
                fits(output_length, ParallelPortInformation::SIZE)?;
                Self::Immediate(Now::GetPortInformation)
            }
            IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO => {
                fits(output_length, MoreParallelPortInformation::SIZE)?;
                Self::Immediate(Now::GetMorePortInformation)
            }
            IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO => {
                fits(output_length, ParallelPnpInformation::SIZE)?;
                Self::Immediate(Now::GetPnpInformation)
            }
            IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE => {
                Self::Immediate(Now::SetChipMode(chip_mode(input)?))
            }
            IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE => {
                Self::Immediate(Now::ClearChipMode(chip_mode(input)?))
            }
            IOCTL_INTERNAL_SELECT_DEVICE => {
                Self::Queued(Later::Select(SelectCommand::parse(input)?))
            }
            IOCTL_INTERNAL_DESELECT_DEVICE => {
                Self::Immediate(Now::Deselect(SelectCommand::parse(input)?))
            }
            IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT => {
                fits(output_length, InterruptInformation::SIZE)?;
                Self::Immediate(Now::ConnectInterrupt(interrupt_routine(input)?))
            }
            IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT => {
                Self::Immediate(Now::DisconnectInterrupt(interrupt_routine(input)?))
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

fn interrupt_routine(input: &[u8]) -> Result<InterruptServiceRoutine, Status> {
    let bytes = input.first_chunk().ok_or(Status::BUFFER_TOO_SMALL)?;
    Ok(InterruptServiceRoutine::from_bytes(bytes))
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

layout! { ParallelPortInformation, 56: {
    0x00 => original_controller: u64,
    0x08 => controller: u64,
    0x10 => span_of_controller: u32,
    0x18 => routines.try_allocate: u64,
    0x20 => routines.free: u64,
    0x28 => routines.waiters: u64,
    0x30 => routines.context: u64,
} }

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

layout! { MoreParallelPortInformation, 32: {
    0x00 => interface_type: u32,
    0x04 => bus_number: u32,
    0x08 => interrupt_level: u32,
    0x0C => interrupt_vector: u32,
    0x10 => interrupt_affinity: u64,
    0x18 => interrupt_mode: u32,
} }

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

layout! { ParallelPnpInformation, 112: {
    0x00 => original_ecp_controller: u64,
    0x08 => ecp_controller: u64,
    0x10 => span_of_ecp_controller: u32,
    0x18 => hardware_capabilities: u32,
    0x20 => routines.set_chip_mode: u64,
    0x28 => routines.clear_chip_mode: u64,
    0x30 => fifo_depth: u32,
    0x34 => fifo_width: u32,
    0x44 => chain_devices: u32,
    0x48 => routines.try_select: u64,
    0x50 => routines.deselect: u64,
    0x58 => routines.context: u64,
    0x60 => current_mode: u32,
    0x68 => port_name: u64,
} }

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

layout! { InterruptServiceRoutine, 32: {
    0x00 => routine: u64,
    0x08 => context: u64,
    0x10 => deferred_routine: u64,
    0x18 => deferred_context: u64,
} }

/// `PARALLEL_INTERRUPT_INFORMATION`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptInformation {
    /// Address of the interrupt object.
    pub interrupt_object: u64,
    /// What may be called.
    pub routines: PortRoutines,
}

layout! { InterruptInformation, 32: {
    0x00 => interrupt_object: u64,
    0x08 => routines.try_allocate_at_interrupt: u64,
    0x10 => routines.free_from_interrupt: u64,
    0x18 => routines.context: u64,
} }

#[cfg(test)]
mod tests;

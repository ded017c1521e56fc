//! The requests to a parallel device (`\Device\ParallelN`): those of class drivers.

use crate::ioctl::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits, layout::layout};

const fn code(function: u32) -> u32 {
    buffered_code(FILE_DEVICE_PARALLEL_PORT, function)
}

/// Asks for resources, capabilities and routines: [`ParclassInformation`].
const IOCTL_INTERNAL_PARCLASS_CONNECT: u32 = code(30);
/// Ends the use of what `IOCTL_INTERNAL_PARCLASS_CONNECT` gave.
const IOCTL_INTERNAL_PARCLASS_DISCONNECT: u32 = code(31);
/// Ends the IEEE 1284 mode that is connected.
const IOCTL_INTERNAL_DISCONNECT_IDLE: u32 = code(32);
/// Allocates the port and selects the device.
const IOCTL_INTERNAL_LOCK_PORT: u32 = code(37);
/// Deselects the device and frees the port.
const IOCTL_INTERNAL_UNLOCK_PORT: u32 = code(38);
/// Allocates the port.
const IOCTL_INTERNAL_LOCK_PORT_NO_SELECT: u32 = code(52);
/// Frees the port.
const IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT: u32 = code(53);

/// An internal request to a parallel device, its buffers checked, by where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// In its sender's thread.
    Immediate(ImmediateDeviceRequest),
    /// By the device's worker, for it needs the port.
    Queued(QueuedDeviceRequest),
}

/// An internal request to a parallel device that needs no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmediateDeviceRequest {
    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    Connect,
    /// `IOCTL_INTERNAL_PARCLASS_DISCONNECT`
    Disconnect,
}

/// An internal request to a parallel device that needs the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedDeviceRequest {
    /// `IOCTL_INTERNAL_DISCONNECT_IDLE`
    DisconnectIdle,
    /// `IOCTL_INTERNAL_LOCK_PORT`, `IOCTL_INTERNAL_LOCK_PORT_NO_SELECT`
    Lock {
        /// The device is selected, too.
        select: bool,
    },
    /// `IOCTL_INTERNAL_UNLOCK_PORT`, `IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT`
    Unlock {
        /// The device is deselected, too.
        deselect: bool,
    },
}

impl DeviceRequest {
    /// Parses an `IRP_MJ_INTERNAL_DEVICE_CONTROL` to a parallel device.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` for a code that the device does not know;
    /// `STATUS_BUFFER_TOO_SMALL`, if the answer does not fit.
    pub fn parse(code: u32, output_length: usize) -> Result<Self, Status> {
        use {ImmediateDeviceRequest as Now, QueuedDeviceRequest as Later};
        Ok(match code {
            IOCTL_INTERNAL_PARCLASS_CONNECT => {
                fits(output_length, ParclassInformation::SIZE)?;
                Self::Immediate(Now::Connect)
            }
            IOCTL_INTERNAL_PARCLASS_DISCONNECT => Self::Immediate(Now::Disconnect),
            IOCTL_INTERNAL_DISCONNECT_IDLE => Self::Queued(Later::DisconnectIdle),
            IOCTL_INTERNAL_LOCK_PORT => Self::Queued(Later::Lock { select: true }),
            IOCTL_INTERNAL_LOCK_PORT_NO_SELECT => Self::Queued(Later::Lock { select: false }),
            IOCTL_INTERNAL_UNLOCK_PORT => Self::Queued(Later::Unlock { deselect: true }),
            IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT => {
                Self::Queued(Later::Unlock { deselect: false })
            }
            _ => return Err(Status::INVALID_PARAMETER),
        })
    }
}

/// Addresses of the routines that a parallel device offers, and of their first argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceRoutines {
    /// `DetermineIeeeModes`
    pub determine_modes: u64,
    /// `NegotiateIeeeMode`
    pub negotiate: u64,
    /// `TerminateIeeeMode`
    pub terminate: u64,
    /// `IeeeFwdToRevMode`
    pub forward_to_reverse: u64,
    /// `IeeeRevToFwdMode`
    pub reverse_to_forward: u64,
    /// `ParallelRead`
    pub read: u64,
    /// `ParallelWrite`
    pub write: u64,
    /// `ParclassContext`
    pub context: u64,
    /// `ParallelTryselect`
    pub try_select: u64,
    /// `ParallelDeSelect`
    pub deselect: u64,
}

/// `PARCLASS_INFORMATION` in the form of the header, with `EcrController`, `ParallelTryselect` and
/// `ParallelDeSelect`. The shorter form that the page prints is not offered: nothing but the
/// buffer's length could tell which one a client was built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParclassInformation {
    /// Base address of the port's registers.
    pub controller: u64,
    /// Base address of the ECP registers; 0: there are none.
    pub ecr_controller: u64,
    /// Bytes of I/O space at `controller`.
    pub span_of_controller: u32,
    /// What may be called.
    pub routines: DeviceRoutines,
    /// `PPT_*`
    pub hardware_capabilities: u32,
    /// Words that the ECP FIFO holds.
    pub fifo_depth: u32,
    /// Bits of such a word.
    pub fifo_width: u32,
}

layout! { ParclassInformation, 120: {
    0x00 => controller: u64,
    0x08 => ecr_controller: u64,
    0x10 => span_of_controller: u32,
    0x18 => routines.determine_modes: u64,
    0x20 => routines.negotiate: u64,
    0x28 => routines.terminate: u64,
    0x30 => routines.forward_to_reverse: u64,
    0x38 => routines.reverse_to_forward: u64,
    0x40 => routines.read: u64,
    0x48 => routines.write: u64,
    0x50 => routines.context: u64,
    0x58 => hardware_capabilities: u32,
    0x5C => fifo_depth: u32,
    0x60 => fifo_width: u32,
    0x68 => routines.try_select: u64,
    0x70 => routines.deselect: u64,
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_lengths() {
        use {ImmediateDeviceRequest as Now, QueuedDeviceRequest as Later};
        let now = |request| Ok(DeviceRequest::Immediate(request));
        let later = |request| Ok(DeviceRequest::Queued(request));
        for (code, output, expected) in [
            (0x0016_0078, 119, Err(Status::BUFFER_TOO_SMALL)),
            (0x0016_0078, 120, now(Now::Connect)),
            (0x0016_0078, 4096, now(Now::Connect)),
            (0x0016_007C, 0, now(Now::Disconnect)),
            (0x0016_0080, 0, later(Later::DisconnectIdle)),
            (0x0016_0094, 0, later(Later::Lock { select: true })),
            (0x0016_0098, 0, later(Later::Unlock { deselect: true })),
            (0x0016_00D0, 0, later(Later::Lock { select: false })),
            (0x0016_00D4, 0, later(Later::Unlock { deselect: false })),
            // One of the port object, and one of user mode.
            (0x0016_002C, 256, Err(Status::INVALID_PARAMETER)),
            (0x0016_0008, 256, Err(Status::INVALID_PARAMETER)),
        ] {
            assert_eq!(DeviceRequest::parse(code, output), expected, "{code:#x}");
        }
    }

    #[test]
    fn members_lie_where_the_header_has_them() {
        let number = |index: u64| 0x1111_1111_1111_1111 * index;
        let bytes = ParclassInformation {
            controller: number(1),
            ecr_controller: number(2),
            span_of_controller: 0x3333_3333,
            routines: DeviceRoutines {
                determine_modes: number(4),
                negotiate: number(5),
                terminate: number(6),
                forward_to_reverse: number(7),
                reverse_to_forward: number(8),
                read: number(9),
                write: number(10),
                context: number(11),
                try_select: number(12),
                deselect: number(13),
            },
            hardware_capabilities: 0x1010_1010,
            fifo_depth: 0x2020_2020,
            fifo_width: 0x3030_3030,
        }
        .to_bytes();
        let bytes = bytes.as_chunks::<8>().0;
        let fill = |byte| [byte; 8];
        for (index, expected) in [
            fill(0x11),
            fill(0x22),
            [0x33, 0x33, 0x33, 0x33, 0, 0, 0, 0],
            fill(0x44),
            fill(0x55),
            fill(0x66),
            fill(0x77),
            fill(0x88),
            fill(0x99),
            fill(0xAA),
            fill(0xBB),
            [0x10, 0x10, 0x10, 0x10, 0x20, 0x20, 0x20, 0x20],
            [0x30, 0x30, 0x30, 0x30, 0, 0, 0, 0],
            fill(0xCC),
            fill(0xDD),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(&bytes[index], expected, "offset {:#x}", index * 8);
        }
    }
}

//! The user requests on a parallel device (`\Device\ParallelN`, `LPTn`): ntddpar.h; and, as
//! [`PortRequest`] and [`DeviceRequest`], the internal ones of kernel clients: parallel.h.
//!
//! Every one is `METHOD_BUFFERED` and carries no pointer, so 32- and 64-bit callers send the same
//! bytes. What a request needs is checked here, before anything is queued: a bad request gets its
//! status at once and changes nothing.

mod address;
mod device_id;
mod internal;
mod modes;
mod negotiation;
pub mod port_programs;
mod port_state;
mod query_information;
mod set_information;
mod timeouts;

pub use address::{IOCTL_PAR_SET_READ_ADDRESS, IOCTL_PAR_SET_WRITE_ADDRESS};
pub use device_id::{
    DeviceIdSize, IOCTL_PAR_QUERY_DEVICE_ID, IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
    IOCTL_PAR_QUERY_RAW_DEVICE_ID,
};
pub use internal::{
    ChipMode, DeviceRequest, DeviceRoutines, ImmediateDeviceRequest, ImmediatePortRequest,
    InterruptInformation, InterruptServiceRoutine, MoreParallelPortInformation,
    ParallelPnpInformation, ParallelPortInformation, ParclassInformation, PortRequest,
    PortRoutines, QueuedDeviceRequest, QueuedPortRequest, SelectCommand,
};
pub use modes::IeeeModes;
pub use negotiation::{
    IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEFAULT_MODES,
    IOCTL_PAR_GET_DEVICE_CAPS, NegotiationMask,
};
pub use port_programs::{
    IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_GET_PORT, IOCTL_PARSCAN_RELEASE, IOCTL_PARSCAN_RUN,
    IOCTL_PARSCAN_WAIT_EDGE, RunRequest,
};
pub use port_state::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_LOCATION};
pub use query_information::{IOCTL_PAR_QUERY_INFORMATION, ParStatus};
pub use set_information::{IOCTL_PAR_SET_INFORMATION, SetInformation};
pub use timeouts::{IOCTL_SERIAL_GET_TIMEOUTS, IOCTL_SERIAL_SET_TIMEOUTS, SerialTimeouts};

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits, take};

/// A request whose buffers have been checked, by where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRequest {
    /// In its sender's thread: it needs no port.
    Immediate(ImmediateRequest),
    /// By the device's worker, for it needs the port, and may take seconds. This value is all that
    /// the worker is told: it travels with the IRP.
    Queued(QueuedRequest),
}

/// A request that is answered in its sender's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmediateRequest {
    /// `IOCTL_IEEE1284_GET_MODE`
    GetMode,
    /// `IOCTL_PAR_GET_DEFAULT_MODES`
    GetDefaultModes,
    /// `IOCTL_PAR_IS_PORT_FREE`
    IsPortFree,
    /// `IOCTL_PAR_QUERY_LOCATION`
    QueryLocation,
    /// `IOCTL_SERIAL_SET_TIMEOUTS`
    SetTimeouts(SerialTimeouts),
    /// `IOCTL_SERIAL_GET_TIMEOUTS`
    GetTimeouts,
    /// `IOCTL_PARSCAN_GET_PORT`
    GetPort,
}

/// A request that needs the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedRequest {
    /// `IOCTL_PAR_QUERY_INFORMATION`
    QueryInformation,
    /// `IOCTL_PAR_SET_INFORMATION`
    SetInformation(SetInformation),
    /// `IOCTL_PAR_QUERY_DEVICE_ID`
    QueryDeviceId,
    /// `IOCTL_PAR_QUERY_DEVICE_ID_SIZE`
    QueryDeviceIdSize,
    /// `IOCTL_PAR_QUERY_RAW_DEVICE_ID`
    QueryRawDeviceId,
    /// `IOCTL_IEEE1284_NEGOTIATE`, with the modes to choose from
    Negotiate(NegotiationMask),
    /// `IOCTL_PAR_GET_DEVICE_CAPS`, with the modes that must not be used
    GetDeviceCaps(IeeeModes),
    /// `IOCTL_PAR_SET_WRITE_ADDRESS`
    SetWriteAddress(u8),
    /// `IOCTL_PAR_SET_READ_ADDRESS`
    SetReadAddress(u8),
    /// `IOCTL_PARSCAN_CLAIM`
    Claim,
    /// `IOCTL_PARSCAN_RELEASE`
    Release {
        /// Data and control lines become what they were at the claim.
        restore: bool,
    },
    /// `IOCTL_PARSCAN_RUN`. The program is verified when the port is known. A short one on a claimed
    /// port needs no worker.
    Run(RunRequest),
    /// `IOCTL_PARSCAN_WAIT_EDGE`, with the time to wait, in milliseconds, or
    /// [`FOREVER`](port_programs::FOREVER). Only the first one needs the worker.
    WaitEdge(u32),
}

impl UserRequest {
    /// Parses an `IRP_MJ_DEVICE_CONTROL` to a parallel device.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` for a code that the device does not know (the documented answer
    /// of parallel devices, where most drivers say `STATUS_INVALID_DEVICE_REQUEST`); else the
    /// status of the request's own checks.
    pub fn parse(code: u32, input: &[u8], output_length: usize) -> Result<Self, Status> {
        use {ImmediateRequest as Now, QueuedRequest as Later};
        let output = output_length;
        Ok(match code {
            IOCTL_PAR_QUERY_INFORMATION => {
                query_information::parse(output)?;
                Self::Queued(Later::QueryInformation)
            }
            IOCTL_PAR_SET_INFORMATION => {
                Self::Queued(Later::SetInformation(SetInformation::parse(input)?))
            }
            // How much room it needs is known when the device has answered.
            IOCTL_PAR_QUERY_DEVICE_ID => Self::Queued(Later::QueryDeviceId),
            IOCTL_PAR_QUERY_RAW_DEVICE_ID => Self::Queued(Later::QueryRawDeviceId),
            IOCTL_PAR_QUERY_DEVICE_ID_SIZE => {
                device_id::parse_size(output)?;
                Self::Queued(Later::QueryDeviceIdSize)
            }
            IOCTL_IEEE1284_GET_MODE => {
                negotiation::parse_mask_query(output)?;
                Self::Immediate(Now::GetMode)
            }
            IOCTL_PAR_GET_DEFAULT_MODES => {
                negotiation::parse_mask_query(output)?;
                Self::Immediate(Now::GetDefaultModes)
            }
            IOCTL_IEEE1284_NEGOTIATE => Self::Queued(Later::Negotiate(
                negotiation::parse_negotiate(input, output)?,
            )),
            IOCTL_PAR_GET_DEVICE_CAPS => Self::Queued(Later::GetDeviceCaps(
                negotiation::parse_device_caps(input, output)?,
            )),
            IOCTL_PAR_SET_WRITE_ADDRESS => {
                Self::Queued(Later::SetWriteAddress(address::parse(input)?))
            }
            IOCTL_PAR_SET_READ_ADDRESS => {
                Self::Queued(Later::SetReadAddress(address::parse(input)?))
            }
            IOCTL_PAR_IS_PORT_FREE => {
                port_state::parse_is_free(output)?;
                Self::Immediate(Now::IsPortFree)
            }
            IOCTL_PAR_QUERY_LOCATION => {
                port_state::parse_location(output)?;
                Self::Immediate(Now::QueryLocation)
            }
            IOCTL_SERIAL_SET_TIMEOUTS => {
                Self::Immediate(Now::SetTimeouts(SerialTimeouts::parse(input)?))
            }
            IOCTL_SERIAL_GET_TIMEOUTS => {
                SerialTimeouts::parse_get(output)?;
                Self::Immediate(Now::GetTimeouts)
            }
            IOCTL_PARSCAN_GET_PORT => {
                port_programs::parse_get_port(output)?;
                Self::Immediate(Now::GetPort)
            }
            IOCTL_PARSCAN_CLAIM => {
                port_programs::parse_claim(input)?;
                Self::Queued(Later::Claim)
            }
            IOCTL_PARSCAN_RELEASE => Self::Queued(Later::Release {
                restore: port_programs::parse_release(input)?,
            }),
            IOCTL_PARSCAN_RUN => Self::Queued(Later::Run(RunRequest::parse(input, output)?)),
            IOCTL_PARSCAN_WAIT_EDGE => Self::Queued(Later::WaitEdge(
                port_programs::parse_wait_edge(input, output)?,
            )),
            _ => return Err(Status::INVALID_PARAMETER),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_ntddpar_h() {
        assert_eq!(IOCTL_PAR_QUERY_INFORMATION, 0x0016_0004);
        assert_eq!(IOCTL_PAR_SET_INFORMATION, 0x0016_0008);
    }

    #[test]
    fn an_unknown_code_is_an_invalid_parameter() {
        for code in [0, 0x0016_0000, 0x0016_002C, 0x0016_0078, u32::MAX] {
            assert_eq!(
                UserRequest::parse(code, &[1], 64),
                Err(Status::INVALID_PARAMETER),
                "{code:#x}"
            );
        }
    }
}

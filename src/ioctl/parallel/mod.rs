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
    IOCTL_PAR_QUERY_DEVICE_ID, IOCTL_PAR_QUERY_DEVICE_ID_SIZE, IOCTL_PAR_QUERY_RAW_DEVICE_ID,
};
pub use internal::{
    ChipMode, DeviceRequest, DeviceRoutines, InterruptInformation, InterruptServiceRoutine,
    MoreParallelPortInformation, ParallelPnpInformation, ParallelPortInformation,
    ParclassInformation, PortRequest, PortRoutines, SelectCommand,
};
pub use modes::IeeeModes;
pub use negotiation::{
    IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEFAULT_MODES,
    IOCTL_PAR_GET_DEVICE_CAPS, NegotiationMask,
};
pub use port_programs::{
    IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_GET_PORT, IOCTL_PARSCAN_RELEASE, IOCTL_PARSCAN_RUN,
    IOCTL_PARSCAN_WAIT_EDGE,
};
pub use port_state::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_LOCATION};
pub use query_information::{IOCTL_PAR_QUERY_INFORMATION, ParStatus, QueryInformation};
pub use set_information::{IOCTL_PAR_SET_INFORMATION, SetInformation};
pub use timeouts::{IOCTL_SERIAL_GET_TIMEOUTS, IOCTL_SERIAL_SET_TIMEOUTS, SerialTimeouts};

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits, take};

/// A request whose buffers have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRequest {
    /// `IOCTL_PAR_QUERY_INFORMATION`
    QueryInformation(QueryInformation),
    /// `IOCTL_PAR_SET_INFORMATION`
    SetInformation(SetInformation),
    /// `IOCTL_PAR_QUERY_DEVICE_ID`
    QueryDeviceId,
    /// `IOCTL_PAR_QUERY_DEVICE_ID_SIZE`
    QueryDeviceIdSize,
    /// `IOCTL_PAR_QUERY_RAW_DEVICE_ID`
    QueryRawDeviceId,
    /// `IOCTL_IEEE1284_GET_MODE`
    GetMode,
    /// `IOCTL_IEEE1284_NEGOTIATE`, with the modes to choose from
    Negotiate(NegotiationMask),
    /// `IOCTL_PAR_GET_DEFAULT_MODES`
    GetDefaultModes,
    /// `IOCTL_PAR_GET_DEVICE_CAPS`, with the modes that must not be used
    GetDeviceCaps(IeeeModes),
    /// `IOCTL_PAR_SET_WRITE_ADDRESS`
    SetWriteAddress(u8),
    /// `IOCTL_PAR_SET_READ_ADDRESS`
    SetReadAddress(u8),
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
    /// `IOCTL_PARSCAN_CLAIM`
    Claim,
    /// `IOCTL_PARSCAN_RELEASE`
    Release {
        /// Data and control lines become what they were at the claim.
        restore: bool,
    },
    /// `IOCTL_PARSCAN_RUN`. The program is verified when the port is known.
    Run,
    /// `IOCTL_PARSCAN_WAIT_EDGE`, with the time to wait, in milliseconds, or
    /// [`FOREVER`](port_programs::FOREVER).
    WaitEdge(u32),
}

/// What one line of the table does with the caller's input bytes and output length.
type Parse = fn(&[u8], usize) -> Result<UserRequest, Status>;

/// Code and parser of every request that the device answers.
const USER_REQUESTS: &[(u32, Parse)] = &[
    (IOCTL_PAR_QUERY_INFORMATION, |input, output| {
        QueryInformation::parse(input, output).map(UserRequest::QueryInformation)
    }),
    (IOCTL_PAR_SET_INFORMATION, |input, output| {
        SetInformation::parse(input, output).map(UserRequest::SetInformation)
    }),
    (IOCTL_PAR_QUERY_DEVICE_ID, |input, output| {
        device_id::parse_id(input, output).map(|()| UserRequest::QueryDeviceId)
    }),
    (IOCTL_PAR_QUERY_DEVICE_ID_SIZE, |input, output| {
        device_id::parse_size(input, output).map(|()| UserRequest::QueryDeviceIdSize)
    }),
    (IOCTL_IEEE1284_GET_MODE, |input, output| {
        negotiation::parse_mask_query(input, output).map(|()| UserRequest::GetMode)
    }),
    (IOCTL_IEEE1284_NEGOTIATE, |input, output| {
        negotiation::parse_negotiate(input, output).map(UserRequest::Negotiate)
    }),
    (IOCTL_PAR_SET_WRITE_ADDRESS, |input, output| {
        address::parse(input, output).map(UserRequest::SetWriteAddress)
    }),
    (IOCTL_PAR_SET_READ_ADDRESS, |input, output| {
        address::parse(input, output).map(UserRequest::SetReadAddress)
    }),
    (IOCTL_PAR_GET_DEVICE_CAPS, |input, output| {
        negotiation::parse_device_caps(input, output).map(UserRequest::GetDeviceCaps)
    }),
    (IOCTL_PAR_GET_DEFAULT_MODES, |input, output| {
        negotiation::parse_mask_query(input, output).map(|()| UserRequest::GetDefaultModes)
    }),
    (IOCTL_PAR_QUERY_RAW_DEVICE_ID, |input, output| {
        device_id::parse_id(input, output).map(|()| UserRequest::QueryRawDeviceId)
    }),
    (IOCTL_PAR_IS_PORT_FREE, |input, output| {
        port_state::parse_is_free(input, output).map(|()| UserRequest::IsPortFree)
    }),
    (IOCTL_PAR_QUERY_LOCATION, |input, output| {
        port_state::parse_location(input, output).map(|()| UserRequest::QueryLocation)
    }),
    (IOCTL_SERIAL_SET_TIMEOUTS, |input, output| {
        SerialTimeouts::parse(input, output).map(UserRequest::SetTimeouts)
    }),
    (IOCTL_SERIAL_GET_TIMEOUTS, |input, output| {
        SerialTimeouts::parse_get(input, output).map(|()| UserRequest::GetTimeouts)
    }),
    (IOCTL_PARSCAN_GET_PORT, |input, output| {
        port_programs::parse_get_port(input, output).map(|()| UserRequest::GetPort)
    }),
    (IOCTL_PARSCAN_CLAIM, |input, output| {
        port_programs::parse_claim(input, output).map(|()| UserRequest::Claim)
    }),
    (IOCTL_PARSCAN_RELEASE, |input, output| {
        port_programs::parse_release(input, output).map(|restore| UserRequest::Release { restore })
    }),
    (IOCTL_PARSCAN_RUN, |input, output| {
        port_programs::parse_run(input, output).map(|()| UserRequest::Run)
    }),
    (IOCTL_PARSCAN_WAIT_EDGE, |input, output| {
        port_programs::parse_wait_edge(input, output).map(UserRequest::WaitEdge)
    }),
];

impl UserRequest {
    /// Parses an `IRP_MJ_DEVICE_CONTROL` to a parallel device.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` for a code that the device does not know (the documented answer
    /// of parallel devices, where most drivers say `STATUS_INVALID_DEVICE_REQUEST`); else the
    /// status of the request's own checks.
    pub fn parse(code: u32, input: &[u8], output_length: usize) -> Result<Self, Status> {
        USER_REQUESTS
            .iter()
            .find(|(known, _)| *known == code)
            .map_or(Err(Status::INVALID_PARAMETER), |(_, parse)| {
                parse(input, output_length)
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

//! The user requests on a parallel device (`\Device\ParallelN`, `LPTn`): ntddpar.h.
//!
//! Every one is `METHOD_BUFFERED` and carries no pointer, so 32- and 64-bit callers send the same
//! bytes. What a request needs is checked here, before anything is queued: a bad request gets its
//! status at once and changes nothing.

mod query_information;
mod set_information;

pub use query_information::{IOCTL_PAR_QUERY_INFORMATION, ParStatus, QueryInformation};
pub use set_information::{IOCTL_PAR_SET_INFORMATION, SetInformation};

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code};

/// A request whose buffers have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRequest {
    /// `IOCTL_PAR_QUERY_INFORMATION`
    QueryInformation(QueryInformation),
    /// `IOCTL_PAR_SET_INFORMATION`
    SetInformation(SetInformation),
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
        for code in [0, 0x0016_0000, 0x0016_0030, 0x0016_0078, u32::MAX] {
            assert_eq!(
                UserRequest::parse(code, &[1], 64),
                Err(Status::INVALID_PARAMETER),
                "{code:#x}"
            );
        }
    }
}

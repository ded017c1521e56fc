//! What is answered at once: `IOCTL_PAR_IS_PORT_FREE` and `IOCTL_PAR_QUERY_LOCATION`.

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits};

/// 0x00160054. No input. Output: `BOOLEAN`, whether the port is free at this moment.
pub const IOCTL_PAR_IS_PORT_FREE: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 21);
/// 0x00160058. No input (the page's "input buffer" is the output). Output: `LPTn` in narrow
/// characters, and a NUL.
pub const IOCTL_PAR_QUERY_LOCATION: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 22);

/// A checked `IOCTL_PAR_IS_PORT_FREE`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: there is no room for the answer.
pub(super) fn parse_is_free(output_length: usize) -> Result<(), Status> {
    fits(output_length, 1)
}

/// A checked `IOCTL_PAR_QUERY_LOCATION`: whether the name fits is known with the name.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: there is no room even for a NUL.
pub(super) fn parse_location(output_length: usize) -> Result<(), Status> {
    fits(output_length, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_ntddpar_h() {
        assert_eq!(IOCTL_PAR_IS_PORT_FREE, 0x0016_0054);
        assert_eq!(IOCTL_PAR_QUERY_LOCATION, 0x0016_0058);
        assert_eq!(parse_is_free(0), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse_location(0), Err(Status::BUFFER_TOO_SMALL));
    }
}

//! The device ID: `IOCTL_PAR_QUERY_DEVICE_ID`, `_SIZE` and `IOCTL_PAR_QUERY_RAW_DEVICE_ID`.

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits};
use crate::ioctl::layout::layout;

/// 0x0016000C. No input. Output: the ID without its length prefix, and a NUL.
pub const IOCTL_PAR_QUERY_DEVICE_ID: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 3);
/// 0x00160010. No input. Output: `PAR_DEVICE_ID_SIZE_INFORMATION`, four bytes: what
/// `IOCTL_PAR_QUERY_DEVICE_ID` needs room for.
pub const IOCTL_PAR_QUERY_DEVICE_ID_SIZE: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 4);
/// 0x00160030. No input. Output: the two prefix bytes as the device sent them, the ID, and a NUL.
pub const IOCTL_PAR_QUERY_RAW_DEVICE_ID: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 12);

/// `PAR_DEVICE_ID_SIZE_INFORMATION`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIdSize {
    /// `DeviceIdSize`
    pub size: u32,
}

layout! { DeviceIdSize, 4: {
    0x00 => size: u32,
} }

/// A checked `IOCTL_PAR_QUERY_DEVICE_ID_SIZE`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than four bytes. (The page lists no status for
/// it.)
pub(super) fn parse_size(output_length: usize) -> Result<(), Status> {
    fits(output_length, DeviceIdSize::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_ntddpar_h() {
        assert_eq!(IOCTL_PAR_QUERY_DEVICE_ID, 0x0016_000C);
        assert_eq!(IOCTL_PAR_QUERY_DEVICE_ID_SIZE, 0x0016_0010);
        assert_eq!(IOCTL_PAR_QUERY_RAW_DEVICE_ID, 0x0016_0030);
    }

    #[test]
    fn the_size_needs_four_bytes() {
        assert_eq!(parse_size(3), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse_size(4), Ok(()));
    }
}

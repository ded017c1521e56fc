//! `IOCTL_PAR_QUERY_INFORMATION`: what the status lines say.

use bitflags::bitflags;

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, fits};

/// 0x00160004. No input. Output: `PAR_QUERY_INFORMATION`, one byte.
pub const IOCTL_PAR_QUERY_INFORMATION: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 1);

bitflags! {
    /// `PAR_QUERY_INFORMATION.Status` (ntddpar.h). `PARALLEL_INIT` and `PARALLEL_AUTOFEED` share
    /// the header's list but are never part of an answer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ParStatus: u8 {
        /// `PARALLEL_PAPER_EMPTY`
        const PAPER_EMPTY = 0x04;
        /// `PARALLEL_OFF_LINE`
        const OFF_LINE = 0x08;
        /// `PARALLEL_POWER_OFF`
        const POWER_OFF = 0x10;
        /// `PARALLEL_NOT_CONNECTED`
        const NOT_CONNECTED = 0x20;
        /// `PARALLEL_BUSY`
        const BUSY = 0x40;
        /// `PARALLEL_SELECTED`
        const SELECTED = 0x80;
    }
}

impl ParStatus {
    /// `PAR_QUERY_INFORMATION`
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 1] {
        [self.bits()]
    }

    /// Reads `PAR_QUERY_INFORMATION`.
    #[must_use]
    pub const fn from_bytes([status]: [u8; 1]) -> Self {
        Self::from_bits_retain(status)
    }
}

/// A checked `IOCTL_PAR_QUERY_INFORMATION`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: no room for `PAR_QUERY_INFORMATION` (1 byte).
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_of_output_is_enough() {
        assert_eq!(parse(0), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(1), Ok(()));
        assert_eq!((ParStatus::SELECTED | ParStatus::BUSY).to_bytes(), [0xC0]);
    }
}

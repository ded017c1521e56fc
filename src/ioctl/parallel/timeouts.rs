//! The two requests of serial ports that a parallel device takes: `IOCTL_SERIAL_SET_TIMEOUTS` and
//! `IOCTL_SERIAL_GET_TIMEOUTS` (ntddser.h).

use super::{Status, buffered_code, fits};
use crate::ioctl::layout::layout;

/// `FILE_DEVICE_SERIAL_PORT` (devioctl.h).
const FILE_DEVICE_SERIAL_PORT: u32 = 0x1B;

/// 0x001B001C. Input: `SERIAL_TIMEOUTS`, 20 bytes. No output.
pub const IOCTL_SERIAL_SET_TIMEOUTS: u32 = buffered_code(FILE_DEVICE_SERIAL_PORT, 7);
/// 0x001B0020. No input. Output: `SERIAL_TIMEOUTS`, 20 bytes.
pub const IOCTL_SERIAL_GET_TIMEOUTS: u32 = buffered_code(FILE_DEVICE_SERIAL_PORT, 8);

/// `SERIAL_TIMEOUTS`: milliseconds, five `ULONG`s. Zero multiplier and constant: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialTimeouts {
    /// `ReadIntervalTimeout`
    pub read_interval: u32,
    /// `ReadTotalTimeoutMultiplier`, for each byte
    pub read_multiplier: u32,
    /// `ReadTotalTimeoutConstant`
    pub read_constant: u32,
    /// `WriteTotalTimeoutMultiplier`, for each byte
    pub write_multiplier: u32,
    /// `WriteTotalTimeoutConstant`
    pub write_constant: u32,
}

layout! { SerialTimeouts, 20: {
    0x00 => read_interval: u32,
    0x04 => read_multiplier: u32,
    0x08 => read_constant: u32,
    0x0C => write_multiplier: u32,
    0x10 => write_constant: u32,
} }

impl SerialTimeouts {
    /// Checks the input of `IOCTL_SERIAL_SET_TIMEOUTS`.
    ///
    /// # Errors
    /// * `STATUS_BUFFER_TOO_SMALL`: the input is shorter than the structure.
    /// * `STATUS_INVALID_PARAMETER`: `ReadIntervalTimeout` and `ReadTotalTimeoutConstant` are both
    ///   `MAXULONG`.
    pub(super) fn parse(input: &[u8]) -> Result<Self, Status> {
        let bytes = input.first_chunk().ok_or(Status::BUFFER_TOO_SMALL)?;
        let timeouts = Self::from_bytes(bytes);
        if timeouts.read_interval == u32::MAX && timeouts.read_constant == u32::MAX {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(timeouts)
    }

    /// Checks the output length of `IOCTL_SERIAL_GET_TIMEOUTS`.
    ///
    /// # Errors
    /// `STATUS_BUFFER_TOO_SMALL`: it is shorter than the structure.
    pub(super) fn parse_get(output_length: usize) -> Result<(), Status> {
        fits(output_length, Self::SIZE)
    }

    /// How long a write of `bytes` may take, in milliseconds. `None`: as long as it wants.
    #[must_use]
    pub fn write_limit(self, bytes: usize) -> Option<u64> {
        limit(self.write_multiplier, self.write_constant, bytes)
    }

    /// How long a read of `bytes` may take, in milliseconds. `None`: as long as it wants.
    #[must_use]
    pub fn read_limit(self, bytes: usize) -> Option<u64> {
        limit(self.read_multiplier, self.read_constant, bytes)
    }
}

/// Multiplier times bytes and constant, in 64 bits.
fn limit(multiplier: u32, constant: u32, bytes: usize) -> Option<u64> {
    if multiplier == 0 && constant == 0 {
        return None;
    }
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Some(
        u64::from(multiplier)
            .saturating_mul(bytes)
            .saturating_add(u64::from(constant)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(fields: [u32; 5]) -> [u8; 20] {
        let mut bytes = [0; 20];
        for (place, field) in bytes.chunks_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn codes_are_those_of_ntddser_h() {
        assert_eq!(IOCTL_SERIAL_SET_TIMEOUTS, 0x001B_001C);
        assert_eq!(IOCTL_SERIAL_GET_TIMEOUTS, 0x001B_0020);
    }

    #[test]
    fn what_was_set_comes_back() {
        let input = bytes([1, 2, 3, 4, 0xFFFF_FFFF]);
        let timeouts = SerialTimeouts::parse(&input).unwrap();
        assert_eq!(timeouts.write_constant, u32::MAX);
        assert_eq!(timeouts.to_bytes(), input);
    }

    #[test]
    fn short_and_forbidden_ones_are_refused() {
        assert_eq!(
            SerialTimeouts::parse(&[0; 19]),
            Err(Status::BUFFER_TOO_SMALL)
        );
        assert_eq!(
            SerialTimeouts::parse(&bytes([u32::MAX, 0, u32::MAX, 0, 0])),
            Err(Status::INVALID_PARAMETER)
        );
        assert_eq!(SerialTimeouts::parse_get(19), Err(Status::BUFFER_TOO_SMALL));
    }

    #[test]
    fn limits_are_computed_in_64_bits() {
        let timeouts = SerialTimeouts {
            write_multiplier: u32::MAX,
            write_constant: u32::MAX,
            ..SerialTimeouts::default()
        };
        assert_eq!(
            timeouts.write_limit(0x100_0000),
            Some(0xFFFF_FFFF * 0x100_0000 + 0xFFFF_FFFF)
        );
        assert_eq!(timeouts.read_limit(5), None);
    }
}

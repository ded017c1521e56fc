//! ECP channel and EPP address: `IOCTL_PAR_SET_WRITE_ADDRESS` and `IOCTL_PAR_SET_READ_ADDRESS`.

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code, take};

/// 0x0016001C. Input: one byte. No output.
pub const IOCTL_PAR_SET_WRITE_ADDRESS: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 7);
/// 0x00160020. Input: one byte. No output.
pub const IOCTL_PAR_SET_READ_ADDRESS: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 8);

/// A checked request: the address.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: there is no input.
pub(super) fn parse(input: &[u8]) -> Result<u8, Status> {
    let [address] = take(input).ok_or(Status::INVALID_PARAMETER)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_needed() {
        assert_eq!(IOCTL_PAR_SET_WRITE_ADDRESS, 0x0016_001C);
        assert_eq!(IOCTL_PAR_SET_READ_ADDRESS, 0x0016_0020);
        assert_eq!(parse(&[]), Err(Status::INVALID_PARAMETER));
        assert_eq!(parse(&[0x7F, 1]), Ok(0x7F));
    }
}

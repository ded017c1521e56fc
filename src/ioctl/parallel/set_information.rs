//! `IOCTL_PAR_SET_INFORMATION`: reset and initialise the device, then report its condition.

use super::{FILE_DEVICE_PARALLEL_PORT, Status, buffered_code};

/// 0x00160008. Input: `PAR_SET_INFORMATION`, one byte. No output.
pub const IOCTL_PAR_SET_INFORMATION: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 2);

/// `PARALLEL_INIT` of ntddpar.h: the only value that `PAR_SET_INFORMATION.Init` may have.
const PARALLEL_INIT: u8 = 0x01;

/// A checked `IOCTL_PAR_SET_INFORMATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetInformation;

impl SetInformation {
    /// `PAR_SET_INFORMATION`
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 1] {
        [PARALLEL_INIT]
    }

    /// Checks the input. Longer buffers are allowed; only their first byte is read.
    ///
    /// # Errors
    /// * `STATUS_BUFFER_TOO_SMALL`: the input is shorter than `PAR_SET_INFORMATION` (1 byte).
    /// * `STATUS_INVALID_PARAMETER`: `Init` is not `PARALLEL_INIT`.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        match input.first() {
            None => Err(Status::BUFFER_TOO_SMALL),
            Some(&PARALLEL_INIT) => Ok(Self),
            Some(_) => Err(Status::INVALID_PARAMETER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_must_be_parallel_init() {
        assert_eq!(SetInformation::parse(&[]), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(SetInformation::parse(&[1]), Ok(SetInformation));
        assert_eq!(SetInformation::parse(&[1, 0xFF]), Ok(SetInformation));
        for init in (0..=u8::MAX).filter(|init| *init != 1) {
            assert_eq!(
                SetInformation::parse(&[init]),
                Err(Status::INVALID_PARAMETER),
                "{init:#x}"
            );
        }
    }
}

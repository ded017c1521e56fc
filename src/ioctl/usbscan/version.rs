//! `IOCTL_GET_VERSION`: the driver's version.

use super::{Status, fits, usbscan_code};
use crate::ioctl::layout::layout;

/// 0x80002000. No input. Output: `DRV_VERSION`, 12 bytes.
pub const IOCTL_GET_VERSION: u32 = usbscan_code(0);

/// `DRV_VERSION`: three `ULONG`s. Which numbers Windows' driver answers with is not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverVersion {
    /// `major`
    pub major: u32,
    /// `minor`
    pub minor: u32,
    /// `internal`, the vendor's own
    pub internal: u32,
}

impl DriverVersion {
    /// The version of this driver.
    pub const CURRENT: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        internal: number(env!("CARGO_PKG_VERSION_PATCH")),
    };
}

layout! { DriverVersion, 12: {
    0x00 => major: u32,
    0x04 => minor: u32,
    0x08 => internal: u32,
} }

/// A part of Cargo's version, which is decimal.
const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => 0,
    }
}

/// A checked `IOCTL_GET_VERSION`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `DRV_VERSION`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, DriverVersion::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_three_dwords() {
        let version = DriverVersion {
            major: 1,
            minor: 0x0203,
            internal: u32::MAX,
        };
        assert_eq!(
            version.to_bytes(),
            [1, 0, 0, 0, 3, 2, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]
        );
        assert_eq!(parse(11), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(12), Ok(()));
    }

    #[test]
    fn the_current_version_is_the_package_s() {
        let DriverVersion {
            major,
            minor,
            internal,
        } = DriverVersion::CURRENT;
        assert_eq!(
            format!("{major}.{minor}.{internal}"),
            env!("CARGO_PKG_VERSION")
        );
    }
}

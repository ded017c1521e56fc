//! `IOCTL_GET_DEVICE_DESCRIPTOR`: who made the device.

use super::{Status, fits, usbscan_code};
use crate::ioctl::layout::layout;

/// 0x80002018. Input: none that matters (the page lists the output structure as input, too).
/// Output: `DEVICE_DESCRIPTOR`, 8 bytes.
pub const IOCTL_GET_DEVICE_DESCRIPTOR: u32 = usbscan_code(6);

/// `DEVICE_DESCRIPTOR` of usbscan.h: four `USHORT`s, the last of which, `usLanguageId`, is not
/// used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceDescriptor {
    /// `usVendorId`
    pub vendor_id: u16,
    /// `usProductId`
    pub product_id: u16,
    /// `usBcdDevice`, the release
    pub bcd_device: u16,
}

layout! { DeviceDescriptor, 8: {
    0x00 => vendor_id: u16,
    0x02 => product_id: u16,
    0x04 => bcd_device: u16,
} }

/// A checked `IOCTL_GET_DEVICE_DESCRIPTOR`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `DEVICE_DESCRIPTOR`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, DeviceDescriptor::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_zero() {
        let descriptor = DeviceDescriptor {
            vendor_id: 0x04B8,
            product_id: 0x0110,
            bcd_device: 0x0102,
        };
        assert_eq!(descriptor.to_bytes(), [0xB8, 4, 0x10, 1, 2, 1, 0, 0]);
        assert_eq!(parse(7), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(8), Ok(()));
    }
}

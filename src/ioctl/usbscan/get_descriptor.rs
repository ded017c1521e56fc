//! `IOCTL_GET_USB_DESCRIPTOR`: a descriptor as the device sends it.

use super::{Status, fits, take, usbscan_code};

/// 0x80002020. Input: `USBSCAN_GET_DESCRIPTOR`, four bytes. Output: the descriptor, as much of it
/// as fits.
pub const IOCTL_GET_USB_DESCRIPTOR: u32 = usbscan_code(8);

/// `USBSCAN_GET_DESCRIPTOR`, and the room for the answer: the members of
/// `_URB_CONTROL_DESCRIPTOR_REQUEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetDescriptor {
    /// `DescriptorType`: 1 device, 2 configuration, 3 string. The device answers other types, or
    /// stalls.
    pub descriptor_type: u8,
    /// `Index`
    pub index: u8,
    /// `LanguageId`, of a string
    pub language_id: u16,
    /// Bytes of the output buffer, 1 at least: wLength.
    pub length: u16,
}

impl GetDescriptor {
    /// `USBSCAN_GET_DESCRIPTOR`
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [l0, l1] = self.language_id.to_le_bytes();
        [self.descriptor_type, self.index, l0, l1]
    }

    /// Checks both buffers.
    ///
    /// # Errors
    /// * `STATUS_INVALID_PARAMETER`: the input is shorter than four bytes, or the output is longer
    ///   than wLength can say (65535 bytes).
    /// * `STATUS_BUFFER_TOO_SMALL`: there is no output.
    pub(super) fn parse(input: &[u8], output_length: usize) -> Result<Self, Status> {
        let [descriptor_type, index, l0, l1] = take(input).ok_or(Status::INVALID_PARAMETER)?;
        fits(output_length, 1)?;
        Ok(Self {
            descriptor_type,
            index,
            language_id: u16::from_le_bytes([l0, l1]),
            length: u16::try_from(output_length).or(Err(Status::INVALID_PARAMETER))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_index_language() {
        assert_eq!(
            GetDescriptor::parse(&[3, 1, 0x09, 0x04, 0xFF], 255),
            Ok(GetDescriptor {
                descriptor_type: 3,
                index: 1,
                language_id: 0x0409,
                length: 255,
            })
        );
    }

    #[test]
    fn lengths_are_bounded() {
        for (input, output, status) in [
            (3, 0, Status::INVALID_PARAMETER),
            (4, 0, Status::BUFFER_TOO_SMALL),
            (4, 0x1_0000, Status::INVALID_PARAMETER),
        ] {
            let input = &[1, 0, 0, 0][..input];
            assert_eq!(GetDescriptor::parse(input, output), Err(status));
        }
        assert!(GetDescriptor::parse(&[1, 0, 0, 0], 0xFFFF).is_ok());
    }
}

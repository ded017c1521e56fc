//! Descriptors one by one (USB 2.0, 9.5 and 9.6).

use crate::ioctl::usbscan::DeviceDescriptor;

/// Bytes of a device descriptor (USB 2.0, table 9-8).
pub const DEVICE_DESCRIPTOR: usize = 18;
/// Bytes of the configuration descriptor, which a configuration begins with (table 9-10).
pub const CONFIGURATION_HEADER: usize = 9;
/// The longest configuration that is accepted, in bytes: what one control transfer carries on
/// every speed.
pub const MAX_TOTAL_LENGTH: usize = 4096;

/// bDescriptorType of a device descriptor (table 9-5).
const DEVICE: u8 = 1;
/// … of a configuration descriptor.
const CONFIGURATION: u8 = 2;
/// … of an interface descriptor.
pub(super) const INTERFACE: u8 = 4;
/// … of an endpoint descriptor.
pub(super) const ENDPOINT: u8 = 5;

/// What is wrong with a device's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A descriptor has another type than the one that was asked for.
    WrongType,
    /// A descriptor has fewer bytes than its type needs, or fewer than its own bLength says.
    Length,
    /// wTotalLength is less than a configuration descriptor, or more than [`MAX_TOTAL_LENGTH`].
    TotalLength,
    /// Fewer bytes came than wTotalLength says.
    Truncated,
    /// No interface has an alternate setting 0.
    NoInterface,
    /// The interface has more endpoint descriptors than bNumEndpoints says, or fewer.
    EndpointCount,
    /// bEndpointAddress has the number 0, reserved bits, or is that of another endpoint.
    EndpointAddress,
    /// wMaxPacketSize is more than 1024, or 0 on a bulk or interrupt IN endpoint.
    PacketSize,
}

/// The members of a descriptor of type `expected`: its first `N` bytes.
///
/// # Errors
/// [`Malformed::WrongType`], or [`Malformed::Length`] if there are fewer bytes, by bLength or in
/// truth.
pub(super) fn members<const N: usize>(bytes: &[u8], expected: u8) -> Result<[u8; N], Malformed> {
    let (length, actual) = match bytes {
        [length, actual, ..] => (usize::from(*length), *actual),
        _ => return Err(Malformed::Length),
    };
    if actual != expected {
        return Err(Malformed::WrongType);
    }
    match bytes.first_chunk() {
        Some(members) if length >= N => Ok(*members),
        _ => Err(Malformed::Length),
    }
}

/// Checks a device descriptor, as it came: [`DEVICE_DESCRIPTOR`] bytes.
///
/// # Errors
/// [`Malformed::WrongType`] or [`Malformed::Length`].
pub fn device_descriptor(bytes: &[u8]) -> Result<DeviceDescriptor, Malformed> {
    let [.., v0, v1, p0, p1, d0, d1, _, _, _, _] = members::<DEVICE_DESCRIPTOR>(bytes, DEVICE)?;
    Ok(DeviceDescriptor {
        vendor_id: u16::from_le_bytes([v0, v1]),
        product_id: u16::from_le_bytes([p0, p1]),
        bcd_device: u16::from_le_bytes([d0, d1]),
    })
}

/// How many bytes the whole configuration has, from [`CONFIGURATION_HEADER`] bytes of it: between
/// these and [`MAX_TOTAL_LENGTH`].
///
/// # Errors
/// [`Malformed::WrongType`], [`Malformed::Length`] or [`Malformed::TotalLength`].
pub fn total_length(header: &[u8]) -> Result<usize, Malformed> {
    let [_, _, t0, t1, ..] = members::<CONFIGURATION_HEADER>(header, CONFIGURATION)?;
    let total = usize::from(u16::from_le_bytes([t0, t1]));
    if (CONFIGURATION_HEADER..=MAX_TOTAL_LENGTH).contains(&total) {
        Ok(total)
    } else {
        Err(Malformed::TotalLength)
    }
}

/// Whether bmAttributes of a configuration descriptor says that the device can signal remote
/// wake-up \[USB 2.0, 9.6.3\].
#[must_use]
pub fn has_remote_wakeup(configuration: &[u8]) -> bool {
    configuration
        .get(7)
        .is_some_and(|attributes| attributes & 1 << 5 != 0)
}

/// Descriptors one after the other, of any type. Each has at least its bLength and
/// bDescriptorType, so the walk goes forward and ends; after an error there is nothing more.
pub(super) struct Descriptors<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Descriptors<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(*self.0.first()?);
        let (descriptor, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        // Also what is cut off, which is empty.
        Some(if descriptor.len() < 2 {
            self.0 = &[];
            Err(Malformed::Length)
        } else {
            Ok(descriptor)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCANNER: [u8; 18] = [
        18, 1, 0x00, 0x02, 0xFF, 0xFF, 0xFF, 64, 0xB8, 0x04, 0x10, 0x01, 0x02, 0x01, 1, 2, 3, 1,
    ];

    #[test]
    fn a_device_descriptor_names_the_device() {
        assert_eq!(
            device_descriptor(&SCANNER),
            Ok(DeviceDescriptor {
                vendor_id: 0x04B8,
                product_id: 0x0110,
                bcd_device: 0x0102,
            })
        );
        for length in 0..SCANNER.len() {
            let short = &SCANNER[..length];
            assert_eq!(device_descriptor(short), Err(Malformed::Length));
        }
        for (place, value, error) in [
            (0, 17, Malformed::Length),
            (0, 0, Malformed::Length),
            (1, 2, Malformed::WrongType),
        ] {
            let mut bytes = SCANNER;
            bytes[place] = value;
            assert_eq!(device_descriptor(&bytes), Err(error));
        }
    }

    #[test]
    fn the_total_length_is_bounded() {
        for (total, result) in [
            (0, Err(Malformed::TotalLength)),
            (8, Err(Malformed::TotalLength)),
            (9, Ok(9)),
            (4096, Ok(4096)),
            (4097, Err(Malformed::TotalLength)),
            (0xFFFF, Err(Malformed::TotalLength)),
        ] {
            let [t0, t1] = u16::to_le_bytes(total);
            let header = [9, 2, t0, t1, 1, 1, 0, 0xC0, 0];
            assert_eq!(total_length(&header), result, "{total}");
        }
        assert_eq!(total_length(&[9, 2, 9, 0]), Err(Malformed::Length));
        assert_eq!(
            total_length(&[9, 1, 9, 0, 1, 1, 0, 0xC0, 0]),
            Err(Malformed::WrongType)
        );
    }

    #[test]
    fn a_walk_goes_forward_or_ends() {
        let walk = |bytes| Descriptors(bytes).map(|item| item.map(<[u8]>::len));
        assert!(walk(&[]).eq([]));
        assert!(walk(&[2, 9, 3, 9, 9]).eq([Ok(2), Ok(3)]));
        // No length, half a header, more than there is.
        for bad in [
            &[2, 9, 0, 9, 9][..],
            &[2, 9, 1, 9],
            &[2, 9, 1],
            &[2, 9, 3, 9],
        ] {
            assert!(walk(bad).eq([Ok(2), Err(Malformed::Length)]), "{bad:?}");
        }
    }
}

//! `IOCTL_READ_REGISTERS` and `IOCTL_WRITE_REGISTERS`: vendor requests with a fixed bRequest.

use super::{Bitness, IoBlock, Status, VendorRequest, usbscan_code, vendor_request::Parsed};

/// 0x8000200C. Input: `IO_BLOCK`, 24 bytes (16 from a 32-bit caller). Output: `uLength` bytes.
pub const IOCTL_READ_REGISTERS: u32 = usbscan_code(3);
/// 0x80002010. Input: `IO_BLOCK`, and `uLength` bytes at its `pbyData`. No output.
pub const IOCTL_WRITE_REGISTERS: u32 = usbscan_code(4);

/// bRequest for one byte, or none.
const ONE_BYTE: u8 = 0x0C;
/// bRequest for several bytes.
const SEVERAL_BYTES: u8 = 0x04;

/// bRequest for so many bytes.
const fn request(length: u16) -> u8 {
    if length > 1 { SEVERAL_BYTES } else { ONE_BYTE }
}

/// A checked `IOCTL_READ_REGISTERS`. Its `pbyData` is not looked at.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: the input is shorter than `IO_BLOCK`, `uLength` is more than 65535,
/// or it is not the output length.
pub(super) fn parse_read(
    input: &[u8],
    output_length: usize,
    bitness: Bitness,
) -> Result<Parsed, Status> {
    let block = IoBlock::parse(input, bitness)?;
    VendorRequest::device_to_host(block, request, output_length)
}

/// A checked `IOCTL_WRITE_REGISTERS`.
///
/// # Errors
/// * `STATUS_INVALID_PARAMETER`: the input is shorter than `IO_BLOCK`, `uLength` is more than
///   65535, or `pbyData` is null although `uLength` is not 0.
/// * `STATUS_ACCESS_VIOLATION`: the data ends beyond the caller's address space.
pub(super) fn parse_write(input: &[u8], bitness: Bitness) -> Result<Parsed, Status> {
    let block = IoBlock::parse(input, bitness)?;
    VendorRequest::host_to_device(block, request, bitness)
}

#[cfg(test)]
mod tests {
    use super::{super::VendorDirection, *};

    /// uOffset 0x00012345, uLength 3, pbyData 0x00401000, uIndex 0x00560078.
    const NATIVE: [u8; 24] = [
        0x45, 0x23, 0x01, 0, 3, 0, 0, 0, 0x00, 0x10, 0x40, 0, 0, 0, 0, 0, 0x78, 0, 0x56, 0, 0xCC,
        0xCC, 0xCC, 0xCC,
    ];
    const BITS32: [u8; 16] = [
        0x45, 0x23, 0x01, 0, 3, 0, 0, 0, 0x00, 0x10, 0x40, 0, 0x78, 0, 0x56, 0,
    ];

    #[test]
    fn both_layouts_are_read() {
        for (input, bitness) in [(&NATIVE[..], Bitness::Native), (&BITS32, Bitness::Bits32)] {
            let (write, data) = parse_write(input, bitness).unwrap();
            assert_eq!(write.direction, VendorDirection::Out);
            assert_eq!(data, Some(0x0040_1000));
            assert_eq!(
                write.setup_packet(),
                [0x40, 0x04, 0x45, 0x23, 0x78, 0, 3, 0]
            );
            assert_eq!(write.flags(), 0);
            let (read, _) = parse_read(input, 3, bitness).unwrap();
            assert_eq!(read.direction, VendorDirection::In);
            assert_eq!(read.setup_packet(), [0xC0, 0x04, 0x45, 0x23, 0x78, 0, 3, 0]);
            assert_eq!(read.flags(), 1);
            for output in [2, 4] {
                assert_eq!(
                    parse_read(input, output, bitness),
                    Err(Status::INVALID_PARAMETER)
                );
            }
            for short in 0..input.len() {
                let result = parse_write(&input[..short], bitness);
                assert_eq!(result, Err(Status::INVALID_PARAMETER), "{short}");
            }
        }
    }

    #[test]
    fn one_byte_and_none_have_a_request_of_their_own() {
        for (length, request) in [(0, 0x0C), (1, 0x0C), (2, 0x04), (0xFFFF, 0x04)] {
            let mut input = NATIVE;
            input[4..6].copy_from_slice(&u16::to_le_bytes(length));
            let (write, _) = parse_write(&input, Bitness::Native).unwrap();
            assert_eq!((write.request, write.length), (request, length));
            let (read, _) = parse_read(&input, length.into(), Bitness::Native).unwrap();
            assert_eq!((read.request, read.length), (request, length));
        }
    }
}

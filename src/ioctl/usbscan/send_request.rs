//! `IOCTL_SEND_USB_REQUEST`: a vendor request of the client's choice.

use super::{Bitness, IoBlockEx, Status, VendorRequest, usbscan_code, vendor_request::Parsed};

/// 0x80002024. Input: `IO_BLOCK_EX`, 24 bytes (20 from a 32-bit caller), and for a write `uLength`
/// bytes at its `pbyData`. Output, for a read: `uLength` bytes.
///
/// The page wants the data of a write in the output buffer, too; with `METHOD_BUFFERED` its content
/// never gets here, so it is ignored.
pub const IOCTL_SEND_USB_REQUEST: u32 = usbscan_code(9);

/// A checked `IOCTL_SEND_USB_REQUEST`.
///
/// # Errors
/// * `STATUS_INVALID_PARAMETER`: the input is shorter than `IO_BLOCK_EX`, `uLength` is more than
///   65535, or, for a read, not the output length, as the page has it (a client that passes the
///   block itself as output would have it overwritten), or, for a write, `pbyData` is null although
///   `uLength` is not 0.
/// * `STATUS_ACCESS_VIOLATION`: the data of a write ends beyond the caller's address space.
pub(super) fn parse(
    input: &[u8],
    output_length: usize,
    bitness: Bitness,
) -> Result<Parsed, Status> {
    let extended = IoBlockEx::parse(input, bitness)?;
    let request = |_| extended.request;
    if extended.direction_in {
        VendorRequest::device_to_host(extended.block, request, output_length)
    } else {
        VendorRequest::host_to_device(extended.block, request, bitness)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::VendorDirection, *};

    /// uOffset 0x1234, uLength 2, pbyData 0x7FFE00401000, uIndex 0x5678, bRequest 0x9A,
    /// bmRequestType 0x80 (standard), fTransferDirectionIn.
    fn native(direction_in: u8) -> [u8; 24] {
        [
            0x34,
            0x12,
            0,
            0,
            2,
            0,
            0,
            0,
            0x00,
            0x10,
            0x40,
            0x00,
            0xFE,
            0x7F,
            0,
            0,
            0x78,
            0x56,
            0,
            0,
            0x9A,
            0x80,
            direction_in,
            0xCC,
        ]
    }

    #[test]
    fn the_type_is_vendor_whatever_the_client_says() {
        let (write, data) = parse(&native(0), 0, Bitness::Native).unwrap();
        assert_eq!(write.direction, VendorDirection::Out);
        assert_eq!(data, Some(0x7FFE_0040_1000));
        let wire = [0x9A, 0x34, 0x12, 0x78, 0x56, 2, 0];
        assert_eq!(write.setup_packet()[0], 0x40);
        assert_eq!(write.setup_packet()[1..], wire);
        for yes in [1, 0xFF] {
            let (read, _) = parse(&native(yes), 2, Bitness::Native).unwrap();
            assert_eq!(read.direction, VendorDirection::In);
            assert_eq!(read.setup_packet()[0], 0xC0);
            assert_eq!(read.setup_packet()[1..], wire);
        }
    }

    #[test]
    fn a_32_bit_caller_has_twenty_bytes() {
        let input = [
            0x34, 0x12, 0, 0, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x78, 0x56, 0, 0, 0x9A, 0x80, 0,
            0xCC,
        ];
        let (write, data) = parse(&input, 0, Bitness::Bits32).unwrap();
        assert_eq!(write.direction, VendorDirection::Out);
        assert_eq!(data, Some(0xFFFF_FFFF));
        assert_eq!(
            write.setup_packet(),
            [0x40, 0x9A, 0x34, 0x12, 0x78, 0x56, 1, 0]
        );
        assert_eq!(
            parse(&input[..19], 0, Bitness::Bits32),
            Err(Status::INVALID_PARAMETER)
        );
        assert_eq!(
            parse(&input, 0, Bitness::Native),
            Err(Status::INVALID_PARAMETER)
        );
    }

    #[test]
    fn a_read_needs_an_output_of_its_length_and_no_pointer() {
        let mut input = native(1);
        input[8..16].fill(0);
        assert!(parse(&input, 2, Bitness::Native).is_ok());
        // 24: the block itself as output.
        for output in [0, 1, 3, 24] {
            let result = parse(&input, output, Bitness::Native);
            assert_eq!(result, Err(Status::INVALID_PARAMETER), "{output}");
        }
    }
}

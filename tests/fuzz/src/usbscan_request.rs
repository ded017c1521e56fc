//! Any device control request to a still-image device, from a 64- or 32-bit program.

use arbitrary::Arbitrary;
use parscan_core::ioctl::{
    Status,
    usbscan::{
        Bitness, ChannelInfo, ControlRequest, DriverVersion, IOCTL_GET_VERSION,
        IOCTL_READ_REGISTERS, IOCTL_SEND_USB_REQUEST, IOCTL_SET_TIMEOUT, IOCTL_WRITE_REGISTERS,
        ImmediateUsbscanRequest as Now, Pipe, PipeConfiguration, UsbscanRequest, VendorDirection,
        VendorRequest,
    },
};

use super::Code;

/// The twelve codes follow one another in steps of four.
const CODES: u32 = 12;

/// A request.
#[derive(Arbitrary, Clone, Debug)]
pub struct Input<'a> {
    code: Code,
    /// The output buffer has the length that the input says in its second `ULONG`.
    is_consistent: bool,
    output_length: usize,
    is_32_bit: bool,
    bytes: &'a [u8],
}

/// Parses it.
///
/// # Panics
/// If the answer would not fit, bytes were misread, or a status is not one of those that the
/// device gives for a bad request.
pub fn run(input: &Input) {
    let code = match input.code {
        Code::Known(number) => IOCTL_GET_VERSION + u32::from(number) % CODES * 4,
        Code::Any(code) => code,
    };
    let bytes = input.bytes;
    let room = if input.is_consistent {
        dword(bytes, 4).unwrap_or_default() as usize
    } else {
        input.output_length
    };
    let bitness = if input.is_32_bit {
        Bitness::Bits32
    } else {
        Bitness::Native
    };
    let is_known =
        (IOCTL_GET_VERSION..=IOCTL_SET_TIMEOUT).contains(&code) && code.is_multiple_of(4);
    let request = match UsbscanRequest::parse(code, bytes, room, bitness) {
        Ok(request) => request,
        Err(status) => {
            let unknown = status == Status::INVALID_DEVICE_REQUEST;
            assert_eq!(unknown, !is_known, "{code:#x}");
            assert!(
                unknown
                    || [
                        Status::INVALID_PARAMETER,
                        Status::BUFFER_TOO_SMALL,
                        Status::ACCESS_VIOLATION
                    ]
                    .contains(&status),
                "{status:?}"
            );
            return;
        }
    };
    assert!(is_known, "{code:#x}");
    // The most that `Information` can be, where it does not depend on the device alone.
    let information = match request {
        UsbscanRequest::Immediate(Now::GetVersion) => DriverVersion::CURRENT.to_bytes().len(),
        UsbscanRequest::Immediate(Now::GetChannelAlign) => ChannelInfo::default().to_bytes().len(),
        UsbscanRequest::Immediate(Now::GetDeviceDescriptor) => 8,
        UsbscanRequest::Immediate(Now::GetPipeConfiguration) => PipeConfiguration::SIZE,
        UsbscanRequest::Control {
            request: ControlRequest::GetUsbDescriptor(descriptor),
            data,
        } => {
            assert_eq!(data, None);
            assert_eq!(descriptor.descriptor_type, bytes[0]);
            assert_eq!(descriptor.index, bytes[1]);
            assert_eq!(descriptor.language_id.to_le_bytes(), bytes[2..4]);
            descriptor.length.into()
        }
        UsbscanRequest::Immediate(Now::CancelIo(_)) | UsbscanRequest::ResetPipe(_) => {
            assert!(dword(bytes, 0).is_some_and(|pipe| pipe < 4));
            0
        }
        // What fits of a packet.
        UsbscanRequest::WaitOnDeviceEvent => 0,
        UsbscanRequest::Immediate(Now::SetTimeout(timeouts)) => {
            for (at, pipe) in [(0, Pipe::ReadData), (4, Pipe::WriteData), (8, Pipe::Event)] {
                let timeout = timeouts.of(pipe);
                let seconds = u64::from(dword(bytes, at).unwrap().min(214));
                let expected = (seconds != 0).then_some(seconds * 10_000_000);
                assert_eq!(timeout.hundred_nanoseconds(), expected);
            }
            0
        }
        UsbscanRequest::Control {
            request: ControlRequest::Vendor(request),
            data,
        } => vendor(code, request, data, bytes, bitness),
    };
    assert!(information <= room, "{request:?}: {information} of {room}");
}

/// Compares a vendor request with the caller's bytes. Gives what the device may answer.
fn vendor(
    code: u32,
    request: VendorRequest,
    data: Option<u64>,
    bytes: &[u8],
    bitness: Bitness,
) -> usize {
    let (index, pointer, needed) = match bitness {
        Bitness::Native => (16, 8..16, 24),
        Bitness::Bits32 if code == IOCTL_SEND_USB_REQUEST => (12, 8..12, 20),
        Bitness::Bits32 => (12, 8..12, 16),
    };
    assert!(bytes.len() >= needed);
    let setup = request.setup_packet();
    assert_eq!(setup[2..4], bytes[..2]);
    assert_eq!(setup[4..6], bytes[index..index + 2]);
    assert_eq!(Some(u32::from(request.length)), dword(bytes, 4));
    assert_eq!(setup[6..], request.length.to_le_bytes());
    let fixed = if request.length > 1 { 0x04 } else { 0x0C };
    let (is_in, number) = match code {
        IOCTL_READ_REGISTERS => (true, fixed),
        IOCTL_WRITE_REGISTERS => (false, fixed),
        _ => (bytes[index + 6] != 0, bytes[index + 4]),
    };
    assert_eq!(setup[0], if is_in { 0xC0 } else { 0x40 });
    assert_eq!(setup[1], number);
    assert_eq!(request.flags() & 1 != 0, is_in);
    match request.direction {
        VendorDirection::In => {
            assert!(is_in && data.is_none());
            request.length.into()
        }
        VendorDirection::Out => {
            assert!(!is_in);
            assert_eq!(data.is_some(), request.length != 0);
            if let Some(data) = data {
                let raw = &bytes[pointer];
                assert_eq!(data.to_le_bytes()[..raw.len()], *raw);
                assert!(
                    data.to_le_bytes()[raw.len()..]
                        .iter()
                        .all(|byte| *byte == 0)
                );
                assert_ne!(data, 0);
            }
            0
        }
    }
}

/// The `ULONG` at an offset.
fn dword(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

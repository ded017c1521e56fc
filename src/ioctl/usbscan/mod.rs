//! The user requests on a USB still-image device (`\\.\UsbscanN`): usbscan.h.
//!
//! All are `METHOD_BUFFERED`, `FILE_ANY_ACCESS`. `IO_BLOCK` and `IO_BLOCK_EX` carry a pointer, so
//! three requests have another layout from a 32-bit caller on 64-bit Windows, see [`Bitness`]; the
//! others are the same bytes from everybody. Those three end up as one: a [`VendorRequest`].
//!
//! Windows' documentation names no status but success; the ones here are our choice. What a
//! request needs is checked here, before anything is queued. What depends on the device (whether a
//! pipe is there, how long its packets are) is checked by the module `usb`.

mod channel_info;
mod device_descriptor;
mod event;
mod get_descriptor;
mod io_block;
mod pipe_configuration;
mod pipe_type;
mod registers;
mod send_request;
mod timeout;
mod vendor_request;
mod version;

pub use channel_info::{ChannelInfo, IOCTL_GET_CHANNEL_ALIGN_RQST};
pub use device_descriptor::{DeviceDescriptor, IOCTL_GET_DEVICE_DESCRIPTOR};
pub use event::IOCTL_WAIT_ON_DEVICE_EVENT;
pub use get_descriptor::{GetDescriptor, IOCTL_GET_USB_DESCRIPTOR};
pub use pipe_configuration::{
    IOCTL_GET_PIPE_CONFIGURATION, MAX_NUM_PIPES, PipeInformation, RawPipeType, pipe_configuration,
};
pub use pipe_type::{IOCTL_CANCEL_IO, IOCTL_RESET_PIPE, Pipe, PipeType};
pub use registers::{IOCTL_READ_REGISTERS, IOCTL_WRITE_REGISTERS};
pub use send_request::IOCTL_SEND_USB_REQUEST;
pub use timeout::{IOCTL_SET_TIMEOUT, Timeout, Timeouts};
pub use vendor_request::{
    USBD_TRANSFER_DIRECTION_IN, USBD_TRANSFER_DIRECTION_OUT, VendorDirection, VendorRequest,
};
pub use version::{DriverVersion, IOCTL_GET_VERSION};

use super::{Status, buffered_code, fits, take};

/// `FILE_DEVICE_USB_SCAN` (usbscan.h).
pub const FILE_DEVICE_USB_SCAN: u32 = 0x8000;
/// `IOCTL_INDEX` (usbscan.h): the function number of the first request.
const IOCTL_INDEX: u32 = 0x0800;

/// The code of the request with this number: 0x80002000 + 4 × `number`.
const fn usbscan_code(number: u32) -> u32 {
    buffered_code(FILE_DEVICE_USB_SCAN, IOCTL_INDEX | number)
}

/// How wide the caller's pointers are. A kernel client is native.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitness {
    /// 64 bits.
    Native,
    /// 32 bits: `IoIs32bitProcess` says so of a user-mode request.
    Bits32,
}

/// A request whose buffers have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsbscanRequest {
    /// `IOCTL_GET_VERSION`
    GetVersion,
    /// `IOCTL_CANCEL_IO`
    CancelIo(PipeType),
    /// `IOCTL_WAIT_ON_DEVICE_EVENT`
    WaitOnDeviceEvent,
    /// `IOCTL_GET_CHANNEL_ALIGN_RQST`
    GetChannelAlign,
    /// `IOCTL_GET_DEVICE_DESCRIPTOR`
    GetDeviceDescriptor,
    /// `IOCTL_RESET_PIPE`
    ResetPipe(PipeType),
    /// `IOCTL_GET_USB_DESCRIPTOR`
    GetUsbDescriptor(GetDescriptor),
    /// `IOCTL_READ_REGISTERS`, `IOCTL_WRITE_REGISTERS` or `IOCTL_SEND_USB_REQUEST`
    Vendor(VendorRequest),
    /// `IOCTL_GET_PIPE_CONFIGURATION`
    GetPipeConfiguration,
    /// `IOCTL_SET_TIMEOUT`
    SetTimeout(Timeouts),
}

/// What one line of the table does with the caller's input bytes, output length and bitness.
type ParseUsbscan = fn(&[u8], usize, Bitness) -> Result<UsbscanRequest, Status>;

/// Code and parser of every request that the device answers.
const USBSCAN_REQUESTS: &[(u32, ParseUsbscan)] = &[
    (IOCTL_GET_VERSION, |_, output, _| {
        version::parse(output).map(|()| UsbscanRequest::GetVersion)
    }),
    (IOCTL_CANCEL_IO, |input, _, _| {
        PipeType::parse(input).map(UsbscanRequest::CancelIo)
    }),
    (IOCTL_WAIT_ON_DEVICE_EVENT, |_, _, _| {
        Ok(UsbscanRequest::WaitOnDeviceEvent)
    }),
    (IOCTL_READ_REGISTERS, |input, output, bitness| {
        registers::parse_read(input, output, bitness).map(UsbscanRequest::Vendor)
    }),
    (IOCTL_WRITE_REGISTERS, |input, _, bitness| {
        registers::parse_write(input, bitness).map(UsbscanRequest::Vendor)
    }),
    (IOCTL_GET_CHANNEL_ALIGN_RQST, |_, output, _| {
        channel_info::parse(output).map(|()| UsbscanRequest::GetChannelAlign)
    }),
    (IOCTL_GET_DEVICE_DESCRIPTOR, |_, output, _| {
        device_descriptor::parse(output).map(|()| UsbscanRequest::GetDeviceDescriptor)
    }),
    (IOCTL_RESET_PIPE, |input, _, _| {
        PipeType::parse(input).map(UsbscanRequest::ResetPipe)
    }),
    (IOCTL_GET_USB_DESCRIPTOR, |input, output, _| {
        GetDescriptor::parse(input, output).map(UsbscanRequest::GetUsbDescriptor)
    }),
    (IOCTL_SEND_USB_REQUEST, |input, output, bitness| {
        send_request::parse(input, output, bitness).map(UsbscanRequest::Vendor)
    }),
    (IOCTL_GET_PIPE_CONFIGURATION, |_, output, _| {
        pipe_configuration::parse(output).map(|()| UsbscanRequest::GetPipeConfiguration)
    }),
    (IOCTL_SET_TIMEOUT, |input, _, _| {
        Timeouts::parse(input).map(UsbscanRequest::SetTimeout)
    }),
];

impl UsbscanRequest {
    /// Parses an `IRP_MJ_DEVICE_CONTROL` to a still-image device.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` for a code that the device does not know; else the status
    /// of the request's own checks.
    pub fn parse(
        code: u32,
        input: &[u8],
        output_length: usize,
        bitness: Bitness,
    ) -> Result<Self, Status> {
        USBSCAN_REQUESTS
            .iter()
            .find(|(known, _)| *known == code)
            .map_or(Err(Status::INVALID_DEVICE_REQUEST), |(_, parse)| {
                parse(input, output_length, bitness)
            })
    }
}

/// A structure of `N` bytes from the bytes of its members; zeros where they end.
fn structure<const N: usize>(members: impl IntoIterator<Item = u8>) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().zip(members) {
        *place = byte;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_usbscan_h() {
        for (code, name) in [
            (0x8000_2000, IOCTL_GET_VERSION),
            (0x8000_2004, IOCTL_CANCEL_IO),
            (0x8000_2008, IOCTL_WAIT_ON_DEVICE_EVENT),
            (0x8000_200C, IOCTL_READ_REGISTERS),
            (0x8000_2010, IOCTL_WRITE_REGISTERS),
            (0x8000_2014, IOCTL_GET_CHANNEL_ALIGN_RQST),
            (0x8000_2018, IOCTL_GET_DEVICE_DESCRIPTOR),
            (0x8000_201C, IOCTL_RESET_PIPE),
            (0x8000_2020, IOCTL_GET_USB_DESCRIPTOR),
            (0x8000_2024, IOCTL_SEND_USB_REQUEST),
            (0x8000_2028, IOCTL_GET_PIPE_CONFIGURATION),
            (0x8000_202C, IOCTL_SET_TIMEOUT),
        ] {
            assert_eq!(name, code, "{code:#x}");
        }
    }

    #[test]
    fn an_unknown_code_is_an_invalid_device_request() {
        for code in [0, 0x8000_1FFC, 0x8000_2001, 0x8000_2030, 0x0016_0004] {
            assert_eq!(
                UsbscanRequest::parse(code, &[0; 64], 64, Bitness::Native),
                Err(Status::INVALID_DEVICE_REQUEST),
                "{code:#x}"
            );
        }
    }
}

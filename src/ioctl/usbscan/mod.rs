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
pub use io_block::{BlockBytes, IoBlock, IoBlockEx};
pub use pipe_configuration::{
    IOCTL_GET_PIPE_CONFIGURATION, MAX_NUM_PIPES, PipeConfiguration, PipeInformation, RawPipeType,
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

/// A request whose buffers have been checked, by where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsbscanRequest {
    /// In its sender's thread, without the device.
    Immediate(ImmediateUsbscanRequest),
    /// `IOCTL_WAIT_ON_DEVICE_EVENT`: by the interrupt pipe of its handle, in order.
    WaitOnDeviceEvent,
    /// By the control pipe of its handle, in order.
    Control {
        /// The transfer. With the data that it sends it is all that the pipe's queue is told.
        request: ControlRequest,
        /// Where the data is that it sends: an address in the caller's memory, zero-extended, not
        /// null, and not past the end of the caller's address space. Nothing else is known of it,
        /// and only the requester's context has it. `None`: nothing is sent.
        data: Option<u64>,
    },
    /// `IOCTL_RESET_PIPE`: by the device's worker.
    ResetPipe(PipeType),
}

/// A request that is answered without the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmediateUsbscanRequest {
    /// `IOCTL_GET_VERSION`
    GetVersion,
    /// `IOCTL_CANCEL_IO`
    CancelIo(PipeType),
    /// `IOCTL_GET_CHANNEL_ALIGN_RQST`
    GetChannelAlign,
    /// `IOCTL_GET_DEVICE_DESCRIPTOR`
    GetDeviceDescriptor,
    /// `IOCTL_GET_PIPE_CONFIGURATION`
    GetPipeConfiguration,
    /// `IOCTL_SET_TIMEOUT`
    SetTimeout(Timeouts),
}

/// A request that becomes one transfer on the default control pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// `IOCTL_GET_USB_DESCRIPTOR`
    GetUsbDescriptor(GetDescriptor),
    /// `IOCTL_READ_REGISTERS`, `IOCTL_WRITE_REGISTERS` or `IOCTL_SEND_USB_REQUEST`
    Vendor(VendorRequest),
}

impl ControlRequest {
    /// Bytes of its data: wLength.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::GetUsbDescriptor(descriptor) => descriptor.length.into(),
            Self::Vendor(vendor) => vendor.length.into(),
        }
    }

    /// Whether the data comes from the device.
    #[must_use]
    pub const fn is_in(self) -> bool {
        match self {
            Self::GetUsbDescriptor(_) => true,
            Self::Vendor(vendor) => matches!(vendor.direction, VendorDirection::In),
        }
    }
}

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
        use ImmediateUsbscanRequest as Now;
        let output = output_length;
        Ok(match code {
            IOCTL_GET_VERSION => {
                version::parse(output)?;
                Self::Immediate(Now::GetVersion)
            }
            IOCTL_CANCEL_IO => Self::Immediate(Now::CancelIo(PipeType::parse(input)?)),
            IOCTL_WAIT_ON_DEVICE_EVENT => Self::WaitOnDeviceEvent,
            IOCTL_READ_REGISTERS => Self::vendor(registers::parse_read(input, output, bitness)?),
            IOCTL_WRITE_REGISTERS => Self::vendor(registers::parse_write(input, bitness)?),
            IOCTL_GET_CHANNEL_ALIGN_RQST => {
                channel_info::parse(output)?;
                Self::Immediate(Now::GetChannelAlign)
            }
            IOCTL_GET_DEVICE_DESCRIPTOR => {
                device_descriptor::parse(output)?;
                Self::Immediate(Now::GetDeviceDescriptor)
            }
            IOCTL_RESET_PIPE => Self::ResetPipe(PipeType::parse(input)?),
            IOCTL_GET_USB_DESCRIPTOR => Self::Control {
                request: ControlRequest::GetUsbDescriptor(GetDescriptor::parse(input, output)?),
                data: None,
            },
            IOCTL_SEND_USB_REQUEST => Self::vendor(send_request::parse(input, output, bitness)?),
            IOCTL_GET_PIPE_CONFIGURATION => {
                pipe_configuration::parse(output)?;
                Self::Immediate(Now::GetPipeConfiguration)
            }
            IOCTL_SET_TIMEOUT => Self::Immediate(Now::SetTimeout(Timeouts::parse(input)?)),
            _ => return Err(Status::INVALID_DEVICE_REQUEST),
        })
    }

    const fn vendor((request, data): (VendorRequest, Option<u64>)) -> Self {
        Self::Control {
            request: ControlRequest::Vendor(request),
            data,
        }
    }
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

//! What a vendor request on the default control pipe is made of.

use super::{Bitness, IoBlock, Status};

/// `USBD_TRANSFER_DIRECTION_OUT` (usb.h).
pub const USBD_TRANSFER_DIRECTION_OUT: u32 = 0;
/// `USBD_TRANSFER_DIRECTION_IN` (usb.h).
pub const USBD_TRANSFER_DIRECTION_IN: u32 = 1;

/// The `TransferFlags` of an IN request: what the page of `IOCTL_READ_REGISTERS` says.
/// (`IOCTL_SEND_USB_REQUEST` has 0 on its page, with which there is no IN request.) Without
/// `USBD_SHORT_TRANSFER_OK`, 2, a UHCI or OHCI host reports an error for an answer that is shorter
/// than asked for; EHCI and xHCI hosts do not care.
const IN_TRANSFER_FLAGS: u32 = USBD_TRANSFER_DIRECTION_IN;

/// Where the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorDirection {
    /// From the device to the output buffer, whose length is that of the request.
    In,
    /// From the caller to the device.
    Out,
}

/// A vendor request to the device: the members of `_URB_CONTROL_VENDOR_OR_CLASS_REQUEST` with
/// `URB_FUNCTION_VENDOR_DEVICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorRequest {
    /// Where the data goes.
    pub direction: VendorDirection,
    /// `Request`: bRequest
    pub request: u8,
    /// `Value`: wValue
    pub value: u16,
    /// `Index`: wIndex
    pub index: u16,
    /// `TransferBufferLength`: wLength, in bytes
    pub length: u16,
}

/// A vendor request, and where in the caller's memory the data is that it sends: an address that is
/// zero-extended, not null and not past the end of the caller's address space; nothing else is
/// known of it. It is valid in the requester's context only. `None`: nothing is sent.
pub(super) type Parsed = (VendorRequest, Option<u64>);

impl VendorRequest {
    /// The request of a block that takes its data from the device.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: `uLength` is not the output length, or more than wLength can say
    /// (65535).
    pub(super) fn device_to_host(
        block: IoBlock,
        request: impl FnOnce(u16) -> u8,
        output_length: usize,
    ) -> Result<Parsed, Status> {
        let vendor = Self::new(block, request, VendorDirection::In)?;
        if output_length != usize::from(vendor.length) {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok((vendor, None))
    }

    /// The request of a block that sends `pbyData` to the device.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: `uLength` is more than wLength can say (65535). Where there is
    /// data:
    /// * `STATUS_INVALID_PARAMETER`: `pbyData` is null.
    /// * `STATUS_ACCESS_VIOLATION`: its end is beyond the caller's address space.
    pub(super) fn host_to_device(
        block: IoBlock,
        request: impl FnOnce(u16) -> u8,
        bitness: Bitness,
    ) -> Result<Parsed, Status> {
        let vendor = Self::new(block, request, VendorDirection::Out)?;
        // Bytes that may follow the first one.
        let Some(following) = u64::from(vendor.length).checked_sub(1) else {
            return Ok((vendor, None));
        };
        if block.data == 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let last = match bitness {
            Bitness::Native => u64::MAX,
            Bitness::Bits32 => u32::MAX.into(),
        };
        if last.saturating_sub(block.data) < following {
            return Err(Status::ACCESS_VIOLATION);
        }
        Ok((vendor, Some(block.data)))
    }

    /// wValue and wIndex are the low 16 bits of `uOffset` and `uIndex`.
    fn new(
        block: IoBlock,
        request: impl FnOnce(u16) -> u8,
        direction: VendorDirection,
    ) -> Result<Self, Status> {
        let low = |[b0, b1, ..]: [u8; 4]| u16::from_le_bytes([b0, b1]);
        let length = u16::try_from(block.length).or(Err(Status::INVALID_PARAMETER))?;
        Ok(Self {
            direction,
            request: request(length),
            value: low(block.offset.to_le_bytes()),
            index: low(block.index.to_le_bytes()),
            length,
        })
    }

    /// `RequestTypeReservedBits`, which is bmRequestType: vendor, to or from the device
    /// (USB 2.0, table 9-2). No client can choose it.
    #[must_use]
    pub const fn request_type(self) -> u8 {
        match self.direction {
            VendorDirection::In => 0xC0,
            VendorDirection::Out => 0x40,
        }
    }

    /// `TransferFlags`
    #[must_use]
    pub const fn flags(self) -> u32 {
        match self.direction {
            VendorDirection::In => IN_TRANSFER_FLAGS,
            VendorDirection::Out => USBD_TRANSFER_DIRECTION_OUT,
        }
    }

    /// The setup packet that the device sees (USB 2.0, 9.3).
    #[must_use]
    pub const fn setup_packet(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.request_type(), self.request, v0, v1, i0, i1, l0, l1]
    }
}

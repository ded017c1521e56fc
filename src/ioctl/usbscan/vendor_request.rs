//! What a vendor request on the default control pipe is made of.

/// `USBD_TRANSFER_DIRECTION_OUT` (usb.h).
pub const USBD_TRANSFER_DIRECTION_OUT: u32 = 0;
/// `USBD_TRANSFER_DIRECTION_IN` (usb.h).
pub const USBD_TRANSFER_DIRECTION_IN: u32 = 1;

/// The `TransferFlags` of an IN request: what the page of `IOCTL_READ_REGISTERS` says.
/// (`IOCTL_SEND_USB_REQUEST` has 0 on its page, with which there is no IN request.) Without
/// `USBD_SHORT_TRANSFER_OK`, 2, a UHCI or OHCI host reports an error for an answer that is shorter
/// than asked for; EHCI and xHCI hosts do not care.
const IN_TRANSFER_FLAGS: u32 = USBD_TRANSFER_DIRECTION_IN;

/// Where the data goes, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorDirection {
    /// From the device to the output buffer, whose length is that of the request.
    In,
    /// From the caller to the device.
    Out {
        /// `pbyData`: an address in the caller's memory, zero-extended, not null and not past the
        /// end of its address space; nothing else is known of it. It is valid in the requester's
        /// context only, and means nothing where the length is 0.
        data: u64,
    },
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

impl VendorRequest {
    /// `RequestTypeReservedBits`, which is bmRequestType: vendor, to or from the device
    /// (USB 2.0, table 9-2). No client can choose it.
    #[must_use]
    pub const fn request_type(self) -> u8 {
        match self.direction {
            VendorDirection::In => 0xC0,
            VendorDirection::Out { .. } => 0x40,
        }
    }

    /// `TransferFlags`
    #[must_use]
    pub const fn flags(self) -> u32 {
        match self.direction {
            VendorDirection::In => IN_TRANSFER_FLAGS,
            VendorDirection::Out { .. } => USBD_TRANSFER_DIRECTION_OUT,
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

//! URBs as they lie in memory on x64 [usb.h], and the numbers in them.

/// The control code of a request to the USB stack: `USB_CTL` of usbioctl.h, `METHOD_NEITHER`.
const fn internal(function: u32) -> u32 {
    0x0022_0003 | function << 2
}

/// `IOCTL_INTERNAL_USB_SUBMIT_URB`
pub const IOCTL_INTERNAL_USB_SUBMIT_URB: u32 = internal(0);
/// `IOCTL_INTERNAL_USB_RESET_PORT`
pub const IOCTL_INTERNAL_USB_RESET_PORT: u32 = internal(1);
/// `IOCTL_INTERNAL_USB_GET_PORT_STATUS`: Argument1 = address of a ULONG.
pub const IOCTL_INTERNAL_USB_GET_PORT_STATUS: u32 = internal(4);
/// `IOCTL_INTERNAL_USB_CYCLE_PORT`
pub const IOCTL_INTERNAL_USB_CYCLE_PORT: u32 = internal(7);
/// `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION`
pub const IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION: u32 = internal(9);

numbers! { pub u32:
    /// `USBD_TRANSFER_DIRECTION_IN`
    DIRECTION_IN => 1,
    /// `USBD_SHORT_TRANSFER_OK`
    SHORT_TRANSFER_OK => 2,
    /// `USBD_DEFAULT_PIPE_TRANSFER`
    DEFAULT_PIPE_TRANSFER => 8,
}

/// `URB_FUNCTION_` codes.
pub mod function {
    #![allow(missing_docs, reason = "the names are usb.h's own")]
    numbers! { pub u16:
        SELECT_CONFIGURATION => 0x00,
        SELECT_INTERFACE => 0x01,
        ABORT_PIPE => 0x02,
        GET_CURRENT_FRAME_NUMBER => 0x07,
        CONTROL_TRANSFER => 0x08,
        BULK_OR_INTERRUPT_TRANSFER => 0x09,
        ISOCH_TRANSFER => 0x0A,
        GET_DESCRIPTOR_FROM_DEVICE => 0x0B,
        SET_DESCRIPTOR_TO_DEVICE => 0x0C,
        SET_FEATURE_TO_DEVICE => 0x0D,
        SET_FEATURE_TO_INTERFACE => 0x0E,
        SET_FEATURE_TO_ENDPOINT => 0x0F,
        CLEAR_FEATURE_TO_DEVICE => 0x10,
        CLEAR_FEATURE_TO_INTERFACE => 0x11,
        CLEAR_FEATURE_TO_ENDPOINT => 0x12,
        GET_STATUS_FROM_DEVICE => 0x13,
        GET_STATUS_FROM_INTERFACE => 0x14,
        GET_STATUS_FROM_ENDPOINT => 0x15,
        VENDOR_DEVICE => 0x17,
        VENDOR_INTERFACE => 0x18,
        VENDOR_ENDPOINT => 0x19,
        CLASS_DEVICE => 0x1A,
        CLASS_INTERFACE => 0x1B,
        CLASS_ENDPOINT => 0x1C,
        SYNC_RESET_PIPE_AND_CLEAR_STALL => 0x1E,
        CLASS_OTHER => 0x1F,
        VENDOR_OTHER => 0x20,
        GET_STATUS_FROM_OTHER => 0x21,
        CLEAR_FEATURE_TO_OTHER => 0x22,
        SET_FEATURE_TO_OTHER => 0x23,
        GET_DESCRIPTOR_FROM_ENDPOINT => 0x24,
        SET_DESCRIPTOR_TO_ENDPOINT => 0x25,
        GET_CONFIGURATION => 0x26,
        GET_INTERFACE => 0x27,
        GET_DESCRIPTOR_FROM_INTERFACE => 0x28,
        SET_DESCRIPTOR_TO_INTERFACE => 0x29,
        GET_MS_FEATURE_DESCRIPTOR => 0x2A,
        SYNC_RESET_PIPE => 0x30,
        SYNC_CLEAR_STALL => 0x31,
        CONTROL_TRANSFER_EX => 0x32,
        OPEN_STATIC_STREAMS => 0x35,
        CLOSE_STATIC_STREAMS => 0x36,
        BULK_USING_CHAINED_MDL => 0x37,
        ISOCH_USING_CHAINED_MDL => 0x38,
    }
}

/// `USBD_STATUS_` codes.
pub mod usbd {
    #![allow(missing_docs, reason = "the names are usb.h's own")]
    numbers! { pub u32:
        SUCCESS => 0,
        PENDING => 0x4000_0000,
        STALL_PID => 0xC000_0004,
        DATA_OVERRUN => 0xC000_0008,
        BABBLE_DETECTED => 0xC000_0012,
        ENDPOINT_HALTED => 0xC000_0030,
        INVALID_PARAMETER => 0x8000_0300,
        INTERNAL_HC_ERROR => 0x8000_0800,
        ERROR_SHORT_TRANSFER => 0x8000_0900,
        NOT_SUPPORTED => 0xC000_0E00,
        /// The header's own spelling: `INAVLID`.
        INVALID_CONFIGURATION_DESCRIPTOR => 0xC000_0F00,
        SET_CONFIG_FAILED => 0xC000_2000,
        BUFFER_TOO_SMALL => 0xC000_3000,
        INTERFACE_NOT_FOUND => 0xC000_4000,
        TIMEOUT => 0xC000_6000,
        DEVICE_GONE => 0xC000_7000,
        CANCELED => 0xC001_0000,
        BAD_NUMBER_OF_ENDPOINTS => 0xC010_0008,
    }
}

// Offsets in the members that the structures share.
numbers! { pub(super) usize:
    STATUS => 0x04,
    PIPE_HANDLE => 0x18,
    TRANSFER_FLAGS => 0x20,
    BUFFER_LENGTH => 0x24,
    BUFFER => 0x28,
    BUFFER_MDL => 0x30,
    LINK => 0x38,
    /// Where the setup members of a control URB start; 8 bytes.
    TAIL => 0x80,
    /// `_URB_SELECT_CONFIGURATION`: descriptor, handle, interfaces.
    CONFIG_DESCRIPTOR => 0x18,
    CONFIG_HANDLE => 0x20,
    CONFIG_INTERFACES => 0x28,
    /// `_URB_SELECT_INTERFACE`.
    SELECT_HANDLE => 0x18,
    SELECT_INTERFACES => 0x20,
    /// `USBD_INTERFACE_INFORMATION` up to its first pipe, and a pipe.
    INTERFACE_HEAD => 24,
    PIPE_SIZE => 24,
    /// `sizeof(struct _URB_SELECT_CONFIGURATION)`
    SELECT_CONFIGURATION_SIZE => 88,
}

/// Which structure a function uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    SelectConfiguration,
    SelectInterface,
    Pipe,
    FrameNumber,
    /// `_URB_CONTROL_TRANSFER`, with the SETUP packet in it; `true` = `_EX`, with a time-out.
    Control(bool),
    Transfer,
    /// One of the other control requests, sent by the stack with this `bmRequestType` and
    /// `bRequest`.
    Descriptor(u8, u8),
    Status(u8),
    Feature(u8, u8),
    /// Type bits (class 0x20, vendor 0x40) and recipient.
    Vendor(u8),
    GetConfiguration,
    GetInterface,
    /// Known to usb.h, not simulated.
    Unsupported,
}

impl Shape {
    pub(super) const fn of(code: u16) -> Option<Self> {
        use function as f;
        Some(match code {
            f::SELECT_CONFIGURATION => Self::SelectConfiguration,
            f::SELECT_INTERFACE => Self::SelectInterface,
            f::ABORT_PIPE
            | f::SYNC_RESET_PIPE_AND_CLEAR_STALL
            | f::SYNC_RESET_PIPE
            | f::SYNC_CLEAR_STALL => Self::Pipe,
            f::GET_CURRENT_FRAME_NUMBER => Self::FrameNumber,
            f::CONTROL_TRANSFER => Self::Control(false),
            f::CONTROL_TRANSFER_EX => Self::Control(true),
            f::BULK_OR_INTERRUPT_TRANSFER => Self::Transfer,
            f::GET_DESCRIPTOR_FROM_DEVICE => Self::Descriptor(0x80, 6),
            f::GET_DESCRIPTOR_FROM_INTERFACE => Self::Descriptor(0x81, 6),
            f::GET_DESCRIPTOR_FROM_ENDPOINT => Self::Descriptor(0x82, 6),
            f::SET_DESCRIPTOR_TO_DEVICE => Self::Descriptor(0x00, 7),
            f::SET_DESCRIPTOR_TO_INTERFACE => Self::Descriptor(0x01, 7),
            f::SET_DESCRIPTOR_TO_ENDPOINT => Self::Descriptor(0x02, 7),
            f::GET_STATUS_FROM_DEVICE => Self::Status(0x80),
            f::GET_STATUS_FROM_INTERFACE => Self::Status(0x81),
            f::GET_STATUS_FROM_ENDPOINT => Self::Status(0x82),
            f::GET_STATUS_FROM_OTHER => Self::Status(0x83),
            f::SET_FEATURE_TO_DEVICE => Self::Feature(0x00, 3),
            f::SET_FEATURE_TO_INTERFACE => Self::Feature(0x01, 3),
            f::SET_FEATURE_TO_ENDPOINT => Self::Feature(0x02, 3),
            f::SET_FEATURE_TO_OTHER => Self::Feature(0x03, 3),
            f::CLEAR_FEATURE_TO_DEVICE => Self::Feature(0x00, 1),
            f::CLEAR_FEATURE_TO_INTERFACE => Self::Feature(0x01, 1),
            f::CLEAR_FEATURE_TO_ENDPOINT => Self::Feature(0x02, 1),
            f::CLEAR_FEATURE_TO_OTHER => Self::Feature(0x03, 1),
            f::VENDOR_DEVICE => Self::Vendor(0x40),
            f::VENDOR_INTERFACE => Self::Vendor(0x41),
            f::VENDOR_ENDPOINT => Self::Vendor(0x42),
            f::VENDOR_OTHER => Self::Vendor(0x43),
            f::CLASS_DEVICE => Self::Vendor(0x20),
            f::CLASS_INTERFACE => Self::Vendor(0x21),
            f::CLASS_ENDPOINT => Self::Vendor(0x22),
            f::CLASS_OTHER => Self::Vendor(0x23),
            f::GET_CONFIGURATION => Self::GetConfiguration,
            f::GET_INTERFACE => Self::GetInterface,
            f::ISOCH_TRANSFER
            | f::GET_MS_FEATURE_DESCRIPTOR
            | f::OPEN_STATIC_STREAMS
            | f::CLOSE_STATIC_STREAMS
            | f::BULK_USING_CHAINED_MDL
            | f::ISOCH_USING_CHAINED_MDL => Self::Unsupported,
            _ => return None,
        })
    }

    /// What `UrbHeader.Length` is at least, and whether it must be just that.
    pub(super) const fn length(self) -> (usize, bool) {
        match self {
            Self::SelectConfiguration => (CONFIG_INTERFACES, false),
            Self::SelectInterface => (SELECT_INTERFACES, false),
            Self::Unsupported => (24, false),
            Self::Pipe => (40, true),
            Self::FrameNumber => (32, true),
            Self::Transfer => (128, true),
            _ => (136, true),
        }
    }

    /// Whether the URB has a transfer buffer.
    pub(super) const fn has_buffer(self) -> bool {
        !matches!(
            self,
            Self::SelectConfiguration
                | Self::SelectInterface
                | Self::Pipe
                | Self::FrameNumber
                | Self::Feature(..)
                | Self::Unsupported
        )
    }

    /// Byte ranges that must be zero: what usb.h reserves in this structure, but for the header.
    pub(super) const fn reserved(self) -> &'static [(usize, usize)] {
        const COMMON: (usize, usize) = (LINK, TAIL);
        match self {
            Self::Pipe => &[(0x20, 0x24)],
            Self::Transfer | Self::Control(false) => &[COMMON],
            Self::Control(true) => &[(0x3C, TAIL)],
            Self::Descriptor(..) => &[(0x18, 0x24), COMMON, (0x80, 0x82), (0x86, 0x88)],
            Self::Status(_) | Self::GetInterface => {
                &[(0x18, 0x24), COMMON, (0x80, 0x84), (0x86, 0x88)]
            }
            Self::GetConfiguration => &[(0x18, 0x24), COMMON, (0x80, 0x88)],
            Self::Feature(..) => &[(0x18, TAIL), (0x80, 0x82), (0x86, 0x88)],
            Self::Vendor(_) => &[(0x18, 0x20), COMMON, (0x86, 0x88)],
            _ => &[],
        }
    }

    /// Whether the stack must be called at `PASSIVE_LEVEL`: it waits for the device.
    pub(super) const fn synchronous(self, code: u16) -> bool {
        matches!(self, Self::SelectConfiguration | Self::SelectInterface)
            || matches!(self, Self::Pipe) && code != function::ABORT_PIPE
    }
}

/// Name of a function, without `URB_FUNCTION_`.
#[must_use]
pub fn function_name(code: u16) -> &'static str {
    use function as f;
    match code {
        f::SELECT_CONFIGURATION => "SELECT_CONFIGURATION",
        f::SELECT_INTERFACE => "SELECT_INTERFACE",
        f::ABORT_PIPE => "ABORT_PIPE",
        f::GET_CURRENT_FRAME_NUMBER => "GET_CURRENT_FRAME_NUMBER",
        f::CONTROL_TRANSFER => "CONTROL_TRANSFER",
        f::CONTROL_TRANSFER_EX => "CONTROL_TRANSFER_EX",
        f::BULK_OR_INTERRUPT_TRANSFER => "BULK_OR_INTERRUPT_TRANSFER",
        f::GET_DESCRIPTOR_FROM_DEVICE => "GET_DESCRIPTOR_FROM_DEVICE",
        f::VENDOR_DEVICE => "VENDOR_DEVICE",
        f::SYNC_RESET_PIPE_AND_CLEAR_STALL => "SYNC_RESET_PIPE_AND_CLEAR_STALL",
        f::SYNC_RESET_PIPE => "SYNC_RESET_PIPE",
        f::SYNC_CLEAR_STALL => "SYNC_CLEAR_STALL",
        f::GET_CONFIGURATION => "GET_CONFIGURATION",
        f::GET_INTERFACE => "GET_INTERFACE",
        _ => match Shape::of(code) {
            Some(Shape::Descriptor(..)) => "a descriptor request",
            Some(Shape::Status(_)) => "GET_STATUS",
            Some(Shape::Feature(..)) => "a feature request",
            Some(Shape::Vendor(kind)) if kind & 0x40 != 0 => "a vendor request",
            Some(Shape::Vendor(_)) => "a class request",
            _ => "an unknown function",
        },
    }
}

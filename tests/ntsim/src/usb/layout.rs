//! URBs as they lie in memory on x64 [usb.h], and the numbers in them.

/// `IOCTL_INTERNAL_USB_SUBMIT_URB`
pub const IOCTL_INTERNAL_USB_SUBMIT_URB: u32 = 0x0022_0003;
/// `IOCTL_INTERNAL_USB_RESET_PORT`
pub const IOCTL_INTERNAL_USB_RESET_PORT: u32 = 0x0022_0007;
/// `IOCTL_INTERNAL_USB_GET_PORT_STATUS`: Argument1 = address of a ULONG.
pub const IOCTL_INTERNAL_USB_GET_PORT_STATUS: u32 = 0x0022_0013;
/// `IOCTL_INTERNAL_USB_CYCLE_PORT`
pub const IOCTL_INTERNAL_USB_CYCLE_PORT: u32 = 0x0022_001F;

/// `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION`
pub const IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION: u32 = 0x0022_0027;

/// `USBD_TRANSFER_DIRECTION_IN`
pub const DIRECTION_IN: u32 = 1;
/// `USBD_SHORT_TRANSFER_OK`
pub const SHORT_TRANSFER_OK: u32 = 2;
/// `USBD_DEFAULT_PIPE_TRANSFER`
pub const DEFAULT_PIPE_TRANSFER: u32 = 8;

/// `URB_FUNCTION_` codes.
pub mod function {
    #![allow(missing_docs, reason = "the names are usb.h's own")]
    pub const SELECT_CONFIGURATION: u16 = 0x00;
    pub const SELECT_INTERFACE: u16 = 0x01;
    pub const ABORT_PIPE: u16 = 0x02;
    pub const GET_CURRENT_FRAME_NUMBER: u16 = 0x07;
    pub const CONTROL_TRANSFER: u16 = 0x08;
    pub const BULK_OR_INTERRUPT_TRANSFER: u16 = 0x09;
    pub const ISOCH_TRANSFER: u16 = 0x0A;
    pub const GET_DESCRIPTOR_FROM_DEVICE: u16 = 0x0B;
    pub const SET_DESCRIPTOR_TO_DEVICE: u16 = 0x0C;
    pub const SET_FEATURE_TO_DEVICE: u16 = 0x0D;
    pub const SET_FEATURE_TO_INTERFACE: u16 = 0x0E;
    pub const SET_FEATURE_TO_ENDPOINT: u16 = 0x0F;
    pub const CLEAR_FEATURE_TO_DEVICE: u16 = 0x10;
    pub const CLEAR_FEATURE_TO_INTERFACE: u16 = 0x11;
    pub const CLEAR_FEATURE_TO_ENDPOINT: u16 = 0x12;
    pub const GET_STATUS_FROM_DEVICE: u16 = 0x13;
    pub const GET_STATUS_FROM_INTERFACE: u16 = 0x14;
    pub const GET_STATUS_FROM_ENDPOINT: u16 = 0x15;
    pub const VENDOR_DEVICE: u16 = 0x17;
    pub const VENDOR_INTERFACE: u16 = 0x18;
    pub const VENDOR_ENDPOINT: u16 = 0x19;
    pub const CLASS_DEVICE: u16 = 0x1A;
    pub const CLASS_INTERFACE: u16 = 0x1B;
    pub const CLASS_ENDPOINT: u16 = 0x1C;
    pub const SYNC_RESET_PIPE_AND_CLEAR_STALL: u16 = 0x1E;
    pub const CLASS_OTHER: u16 = 0x1F;
    pub const VENDOR_OTHER: u16 = 0x20;
    pub const GET_STATUS_FROM_OTHER: u16 = 0x21;
    pub const CLEAR_FEATURE_TO_OTHER: u16 = 0x22;
    pub const SET_FEATURE_TO_OTHER: u16 = 0x23;
    pub const GET_DESCRIPTOR_FROM_ENDPOINT: u16 = 0x24;
    pub const SET_DESCRIPTOR_TO_ENDPOINT: u16 = 0x25;
    pub const GET_CONFIGURATION: u16 = 0x26;
    pub const GET_INTERFACE: u16 = 0x27;
    pub const GET_DESCRIPTOR_FROM_INTERFACE: u16 = 0x28;
    pub const SET_DESCRIPTOR_TO_INTERFACE: u16 = 0x29;
    pub const GET_MS_FEATURE_DESCRIPTOR: u16 = 0x2A;
    pub const SYNC_RESET_PIPE: u16 = 0x30;
    pub const SYNC_CLEAR_STALL: u16 = 0x31;
    pub const CONTROL_TRANSFER_EX: u16 = 0x32;
    pub const OPEN_STATIC_STREAMS: u16 = 0x35;
    pub const CLOSE_STATIC_STREAMS: u16 = 0x36;
    pub const BULK_USING_CHAINED_MDL: u16 = 0x37;
    pub const ISOCH_USING_CHAINED_MDL: u16 = 0x38;
}

/// `USBD_STATUS_` codes.
pub mod usbd {
    #![allow(missing_docs, reason = "the names are usb.h's own")]
    pub const SUCCESS: u32 = 0;
    pub const PENDING: u32 = 0x4000_0000;
    pub const STALL_PID: u32 = 0xC000_0004;
    pub const DATA_OVERRUN: u32 = 0xC000_0008;
    pub const BABBLE_DETECTED: u32 = 0xC000_0012;
    pub const ENDPOINT_HALTED: u32 = 0xC000_0030;
    pub const INVALID_PARAMETER: u32 = 0x8000_0300;
    pub const INTERNAL_HC_ERROR: u32 = 0x8000_0800;
    pub const ERROR_SHORT_TRANSFER: u32 = 0x8000_0900;
    pub const NOT_SUPPORTED: u32 = 0xC000_0E00;
    /// The header's own spelling: `INAVLID`.
    pub const INVALID_CONFIGURATION_DESCRIPTOR: u32 = 0xC000_0F00;
    pub const SET_CONFIG_FAILED: u32 = 0xC000_2000;
    pub const BUFFER_TOO_SMALL: u32 = 0xC000_3000;
    pub const INTERFACE_NOT_FOUND: u32 = 0xC000_4000;
    pub const TIMEOUT: u32 = 0xC000_6000;
    pub const DEVICE_GONE: u32 = 0xC000_7000;
    pub const CANCELED: u32 = 0xC001_0000;
    pub const BAD_NUMBER_OF_ENDPOINTS: u32 = 0xC010_0008;
}

// Offsets in the members that the structures share.
pub(super) const STATUS: usize = 0x04;
pub(super) const PIPE_HANDLE: usize = 0x18;
pub(super) const TRANSFER_FLAGS: usize = 0x20;
pub(super) const BUFFER_LENGTH: usize = 0x24;
pub(super) const BUFFER: usize = 0x28;
pub(super) const BUFFER_MDL: usize = 0x30;
pub(super) const LINK: usize = 0x38;
/// Where the setup members of a control URB start; 8 bytes.
pub(super) const TAIL: usize = 0x80;
/// `_URB_SELECT_CONFIGURATION`: descriptor, handle, interfaces.
pub(super) const CONFIG_DESCRIPTOR: usize = 0x18;
pub(super) const CONFIG_HANDLE: usize = 0x20;
pub(super) const CONFIG_INTERFACES: usize = 0x28;
/// `_URB_SELECT_INTERFACE`.
pub(super) const SELECT_HANDLE: usize = 0x18;
pub(super) const SELECT_INTERFACES: usize = 0x20;
/// `USBD_INTERFACE_INFORMATION` up to its first pipe, and a pipe.
pub(super) const INTERFACE_HEAD: usize = 24;
pub(super) const PIPE_SIZE: usize = 24;
/// `sizeof(struct _URB_SELECT_CONFIGURATION)`
pub(super) const SELECT_CONFIGURATION_SIZE: usize = 88;

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

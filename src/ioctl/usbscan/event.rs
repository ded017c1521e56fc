//! `IOCTL_WAIT_ON_DEVICE_EVENT`: the next packet of the interrupt pipe.

use super::usbscan_code;

/// 0x80002008. No input. Output: the packet, as much of it as fits. It pends until there is one.
///
/// The documentation wants a buffer that is large enough for the largest packet, but Microsoft's
/// own sample passes one byte: no length is refused.
pub const IOCTL_WAIT_ON_DEVICE_EVENT: u32 = usbscan_code(2);

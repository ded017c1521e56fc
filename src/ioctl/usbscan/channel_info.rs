//! `IOCTL_GET_CHANNEL_ALIGN_RQST`: the packet sizes of a handle's pipes.

use super::{Status, fits, usbscan_code};
use crate::ioctl::layout::layout;

/// 0x80002014. No input. Output: `CHANNEL_INFO`, 12 bytes.
pub const IOCTL_GET_CHANNEL_ALIGN_RQST: u32 = usbscan_code(5);

/// `CHANNEL_INFO`: maximum packet sizes in bytes, three `ULONG`s. 0: the handle has no such pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// `EventChannelSize`, interrupt
    pub event: u32,
    /// `uReadDataAlignment`, bulk IN
    pub read_data: u32,
    /// `uWriteDataAlignment`, bulk OUT
    pub write_data: u32,
}

layout! { ChannelInfo, 12: {
    0x00 => event: u32,
    0x04 => read_data: u32,
    0x08 => write_data: u32,
} }

/// A checked `IOCTL_GET_CHANNEL_ALIGN_RQST`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `CHANNEL_INFO`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, ChannelInfo::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_pipe_comes_first() {
        let info = ChannelInfo {
            event: 8,
            read_data: 0x0200,
            write_data: 0x0040,
        };
        assert_eq!(info.to_bytes(), [8, 0, 0, 0, 0, 2, 0, 0, 0x40, 0, 0, 0]);
        assert_eq!(parse(11), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(12), Ok(()));
    }
}

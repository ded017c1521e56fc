//! `IOCTL_GET_CHANNEL_ALIGN_RQST`: the packet sizes of a handle's pipes.

use super::{Status, fits, structure, usbscan_code};

/// 0x80002014. No input. Output: `CHANNEL_INFO`, 12 bytes.
pub const IOCTL_GET_CHANNEL_ALIGN_RQST: u32 = usbscan_code(5);

/// `CHANNEL_INFO`: maximum packet sizes in bytes, three `ULONG`s. 0: the handle has no such pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// `EventChannelSize`, interrupt
    pub event: u16,
    /// `uReadDataAlignment`, bulk IN
    pub read_data: u16,
    /// `uWriteDataAlignment`, bulk OUT
    pub write_data: u16,
}

impl ChannelInfo {
    /// The structure, 12 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let members = [self.event, self.read_data, self.write_data];
        structure(
            members
                .into_iter()
                .flat_map(|size| u32::from(size).to_le_bytes()),
        )
    }
}

/// A checked `IOCTL_GET_CHANNEL_ALIGN_RQST`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `CHANNEL_INFO`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, 12)
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

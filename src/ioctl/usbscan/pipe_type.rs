//! `IOCTL_CANCEL_IO` (of which `IOCTL_ABORT_PIPE` is another name) and `IOCTL_RESET_PIPE`.

use super::{Status, take, usbscan_code};

/// 0x80002004. Input: `PIPE_TYPE`, four bytes. No output.
pub const IOCTL_CANCEL_IO: u32 = usbscan_code(1);
/// 0x8000201C. Input: `PIPE_TYPE`, four bytes. No output.
pub const IOCTL_RESET_PIPE: u32 = usbscan_code(7);

/// One of the pipes that an open handle has, each of them at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// `EVENT_PIPE`: interrupt IN.
    Event,
    /// `READ_DATA_PIPE`: bulk IN.
    ReadData,
    /// `WRITE_DATA_PIPE`: bulk OUT.
    WriteData,
}

/// `PIPE_TYPE`: which pipes a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeType {
    /// One pipe of the handle.
    One(Pipe),
    /// `ALL_PIPE`: every pipe of the device, also those that other handles use.
    All,
}

impl PipeType {
    /// The structure.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let number: u32 = match self {
            Self::One(Pipe::Event) => 0,
            Self::One(Pipe::ReadData) => 1,
            Self::One(Pipe::WriteData) => 2,
            Self::All => 3,
        };
        number.to_le_bytes()
    }

    /// Checks the input of `IOCTL_CANCEL_IO` and `IOCTL_RESET_PIPE`. Whether the pipe is there is
    /// known by the handle.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the input is shorter than four bytes, or no `PIPE_TYPE`.
    pub(super) fn parse(input: &[u8]) -> Result<Self, Status> {
        match take(input).map(u32::from_le_bytes) {
            Some(0) => Ok(Self::One(Pipe::Event)),
            Some(1) => Ok(Self::One(Pipe::ReadData)),
            Some(2) => Ok(Self::One(Pipe::WriteData)),
            Some(3) => Ok(Self::All),
            _ => Err(Status::INVALID_PARAMETER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_pipe_types() {
        for (input, pipes) in [
            ([0, 0, 0, 0], PipeType::One(Pipe::Event)),
            ([1, 0, 0, 0], PipeType::One(Pipe::ReadData)),
            ([2, 0, 0, 0], PipeType::One(Pipe::WriteData)),
            ([3, 0, 0, 0], PipeType::All),
        ] {
            assert_eq!(PipeType::parse(&input), Ok(pipes));
        }
        for input in [
            &[][..],
            &[1, 0, 0],
            &[4, 0, 0, 0],
            &[0, 0, 0, 1],
            &[0xFF; 4],
        ] {
            assert_eq!(PipeType::parse(input), Err(Status::INVALID_PARAMETER));
        }
    }
}

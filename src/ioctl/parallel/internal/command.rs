//! `PARALLEL_1284_COMMAND`: which device of a port's chain a kernel client means.

use crate::ioctl::{Status, layout::layout};

/// Which device of a port's chain: `PARALLEL_1284_COMMAND`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectCommand {
    id: u8,
    flags: u32,
}

/// `PAR_END_OF_CHAIN_DEVICE`
const END_OF_CHAIN: u32 = 0x1;
/// `PAR_HAVE_PORT_KEEP_PORT`
const KEEP_PORT: u32 = 0x2;

layout! { SelectCommand, 8: {
    0x00 => id: u8,
    0x04 => flags: u32,
} }

impl SelectCommand {
    /// The command for the device `id` with `CommandFlags`, whose unknown bits mean nothing.
    #[must_use]
    pub const fn new(id: u8, flags: u32) -> Self {
        Self { id, flags }
    }

    /// # Errors
    /// `STATUS_BUFFER_TOO_SMALL`
    pub(super) fn parse(input: &[u8]) -> Result<Self, Status> {
        let bytes = input.first_chunk().ok_or(Status::BUFFER_TOO_SMALL)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The device of the IEEE 1284.3 daisy chain, counted from 0; `None`: the one at the end.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the chain has no more than `count` devices.
    pub const fn device(self, count: u8) -> Result<Option<u8>, Status> {
        if self.flags & END_OF_CHAIN != 0 {
            Ok(None)
        } else if self.id < count {
            Ok(Some(self.id))
        } else {
            Err(Status::INVALID_PARAMETER)
        }
    }

    /// The client has the port already, and keeps it when the device is deselected.
    #[must_use]
    pub const fn keeps_port(self) -> bool {
        self.flags & KEEP_PORT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_a_device_of_the_chain_or_its_end() {
        let parse = |bytes: &[u8]| SelectCommand::parse(bytes);
        assert_eq!(parse(&[0; 7]), Err(Status::BUFFER_TOO_SMALL));
        for (bytes, count, device, keeps) in [
            ([0, 0, 0, 0, 0, 0, 0, 0], 1, Ok(Some(0)), false),
            ([1, 0, 9, 9, 2, 0, 0, 0], 2, Ok(Some(1)), true),
            (
                [1, 0, 0, 0, 0, 0, 0, 0],
                1,
                Err(Status::INVALID_PARAMETER),
                false,
            ),
            (
                [0, 0, 0, 0, 0, 0, 0, 0],
                0,
                Err(Status::INVALID_PARAMETER),
                false,
            ),
            ([4, 0, 0, 0, 1, 0, 0, 0], 0, Ok(None), false),
            ([7, 0, 0, 0, 0xF3, 0, 0, 0], 2, Ok(None), true),
        ] {
            let command = parse(&bytes).expect("eight bytes");
            assert_eq!(command.device(count), device, "{bytes:?}");
            assert_eq!(command.keeps_port(), keeps, "{bytes:?}");
        }
    }
}

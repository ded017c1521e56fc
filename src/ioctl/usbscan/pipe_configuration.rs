//! `IOCTL_GET_PIPE_CONFIGURATION`: the device's endpoints.

use super::{Pipe, Status, fits, usbscan_code};
use crate::ioctl::layout::{Member, layout};

/// 0x80002028. No input. Output: `USBSCAN_PIPE_CONFIGURATION`, 68 bytes.
pub const IOCTL_GET_PIPE_CONFIGURATION: u32 = usbscan_code(10);

/// `MAX_NUM_PIPES`: the endpoints that the structure has room for.
pub const MAX_NUM_PIPES: usize = 8;

/// Bytes of `USBSCAN_PIPE_CONFIGURATION`: 68.
const LENGTH: usize = 4 + MAX_NUM_PIPES * PipeInformation::SIZE;

/// `RAW_PIPE_TYPE`: the numbers of bmAttributes, bits 1:0 (USB 2.0, table 9-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawPipeType(pub u32);

impl RawPipeType {
    /// `USBSCAN_PIPE_CONTROL`
    pub const CONTROL: Self = Self(0);
    /// `USBSCAN_PIPE_ISOCHRONOUS`
    pub const ISOCHRONOUS: Self = Self(1);
    /// `USBSCAN_PIPE_BULK`
    pub const BULK: Self = Self(2);
    /// `USBSCAN_PIPE_INTERRUPT`
    pub const INTERRUPT: Self = Self(3);
}

impl Member<4> for RawPipeType {
    fn to_le(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
    fn of_le(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

/// `USBSCAN_PIPE_INFORMATION`: an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeInformation {
    /// `MaximumPacketSize`, in bytes
    pub max_packet_size: u16,
    /// `EndpointAddress`; bit 7: IN
    pub endpoint_address: u8,
    /// `Interval`: bInterval
    pub interval: u8,
    /// `PipeType`
    pub pipe_type: RawPipeType,
}

layout! { PipeInformation, 8: {
    0x00 => max_packet_size: u16,
    0x02 => endpoint_address: u8,
    0x03 => interval: u8,
    0x04 => pipe_type: RawPipeType,
} }

impl PipeInformation {
    /// Which pipe of a handle the endpoint can be. `None`: isochronous, control, interrupt OUT.
    #[must_use]
    pub const fn pipe(self) -> Option<Pipe> {
        let is_in = self.endpoint_address & 0x80 != 0;
        match (self.pipe_type, is_in) {
            (RawPipeType::INTERRUPT, true) => Some(Pipe::Event),
            (RawPipeType::BULK, true) => Some(Pipe::ReadData),
            (RawPipeType::BULK, false) => Some(Pipe::WriteData),
            _ => None,
        }
    }
}

/// A checked `IOCTL_GET_PIPE_CONFIGURATION`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `USBSCAN_PIPE_CONFIGURATION`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, PipeConfiguration::SIZE)
}

/// `USBSCAN_PIPE_CONFIGURATION`: `NumberOfPipes`, then the table in place (the page calls it a
/// pointer), its unused entries zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeConfiguration<'a> {
    /// The endpoints; those after the eighth are left out.
    pub pipes: &'a [PipeInformation],
}

impl<'a> PipeConfiguration<'a> {
    /// Bytes of the structure.
    pub const SIZE: usize = LENGTH;

    /// The structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (number, table) = bytes.split_at_mut(4);
        let mut count: u32 = 0;
        for (place, pipe) in table.as_chunks_mut().0.iter_mut().zip(self.pipes) {
            *place = pipe.to_bytes();
            count += 1;
        }
        number.copy_from_slice(&count.to_le_bytes());
        bytes
    }

    /// Reads the structure: its table goes to `table`. A number beyond that is as if it was eight.
    #[must_use]
    pub fn from_bytes(
        bytes: &[u8; LENGTH],
        table: &'a mut [PipeInformation; MAX_NUM_PIPES],
    ) -> Self {
        let (number, rest) = bytes.split_at(4);
        let number = number.first_chunk().map_or(0, |it| u32::from_le_bytes(*it));
        for (place, pipe) in table.iter_mut().zip(rest.as_chunks().0) {
            *place = PipeInformation::from_bytes(pipe);
        }
        let count = usize::try_from(number).unwrap_or(usize::MAX);
        let table: &[PipeInformation] = table;
        Self {
            pipes: table.get(..count).unwrap_or(table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK_IN: PipeInformation = PipeInformation {
        max_packet_size: 0x0200,
        endpoint_address: 0x82,
        interval: 0x10,
        pipe_type: RawPipeType::BULK,
    };

    #[test]
    fn an_endpoint_is_eight_bytes() {
        assert_eq!(BULK_IN.to_bytes(), [0x00, 0x02, 0x82, 0x10, 2, 0, 0, 0]);
    }

    fn written(pipes: &[PipeInformation]) -> [u8; 68] {
        PipeConfiguration { pipes }.to_bytes()
    }

    #[test]
    fn unused_entries_are_zero() {
        assert_eq!(written(&[]), [0; 68]);
        let bytes = written(&[BULK_IN; 2]);
        assert_eq!(bytes[..4], [2, 0, 0, 0]);
        assert_eq!(bytes[4..12], BULK_IN.to_bytes());
        assert_eq!(bytes[12..20], BULK_IN.to_bytes());
        assert_eq!(bytes[20..], [0; 48]);
    }

    #[test]
    fn the_table_has_eight_places() {
        let mut bytes = [0xEE; 68];
        bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 0x82, 0x10, 2, 0, 0, 0]);
        let mut table = [PipeInformation::default(); MAX_NUM_PIPES];
        let read = PipeConfiguration::from_bytes(&bytes, &mut table);
        assert_eq!(read.pipes.len(), 2);
        assert_eq!(read.pipes[0], BULK_IN);
        assert_eq!(read.pipes[1].pipe_type, RawPipeType(0xEEEE_EEEE));
        bytes[..4].fill(0xFF);
        let read = PipeConfiguration::from_bytes(&bytes, &mut table);
        assert_eq!(read.pipes.len(), 8);
    }

    #[test]
    fn at_most_eight_are_told() {
        let bytes = written(&[BULK_IN; 9]);
        assert_eq!(bytes[..4], [8, 0, 0, 0]);
        assert_eq!(bytes[60..], BULK_IN.to_bytes());
        assert_eq!(parse(67), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(68), Ok(()));
    }

    #[test]
    fn direction_and_type_make_the_pipe() {
        for (pipe_type, endpoint_address, pipe) in [
            (RawPipeType::INTERRUPT, 0x81, Some(Pipe::Event)),
            (RawPipeType::INTERRUPT, 0x01, None),
            (RawPipeType::BULK, 0x81, Some(Pipe::ReadData)),
            (RawPipeType::BULK, 0x01, Some(Pipe::WriteData)),
            (RawPipeType::ISOCHRONOUS, 0x81, None),
            (RawPipeType::ISOCHRONOUS, 0x01, None),
            (RawPipeType::CONTROL, 0x81, None),
            (RawPipeType::CONTROL, 0x01, None),
        ] {
            let endpoint = PipeInformation {
                endpoint_address,
                pipe_type,
                ..BULK_IN
            };
            assert_eq!(endpoint.pipe(), pipe, "{endpoint:?}");
        }
    }
}

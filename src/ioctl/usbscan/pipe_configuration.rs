//! `IOCTL_GET_PIPE_CONFIGURATION`: the device's endpoints.

use super::{Pipe, Status, fits, structure, usbscan_code};

/// 0x80002028. No input. Output: `USBSCAN_PIPE_CONFIGURATION`, 68 bytes.
pub const IOCTL_GET_PIPE_CONFIGURATION: u32 = usbscan_code(10);

/// `MAX_NUM_PIPES`: the endpoints that the structure has room for.
pub const MAX_NUM_PIPES: usize = 8;

/// The length of `USBSCAN_PIPE_CONFIGURATION`.
const LENGTH: usize = 68;

/// `RAW_PIPE_TYPE`: the numbers of bmAttributes, bits 1:0 (USB 2.0, table 9-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPipeType {
    /// `USBSCAN_PIPE_CONTROL`
    Control = 0,
    /// `USBSCAN_PIPE_ISOCHRONOUS`
    Isochronous = 1,
    /// `USBSCAN_PIPE_BULK`
    Bulk = 2,
    /// `USBSCAN_PIPE_INTERRUPT`
    Interrupt = 3,
}

/// `USBSCAN_PIPE_INFORMATION`: an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl PipeInformation {
    /// The structure, 8 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [m0, m1] = self.max_packet_size.to_le_bytes();
        let [t0, t1, t2, t3] = (self.pipe_type as u32).to_le_bytes();
        [m0, m1, self.endpoint_address, self.interval, t0, t1, t2, t3]
    }

    /// Which pipe of a handle the endpoint can be. `None`: isochronous, control, interrupt OUT.
    #[must_use]
    pub const fn pipe(self) -> Option<Pipe> {
        let is_in = self.endpoint_address & 0x80 != 0;
        match (self.pipe_type, is_in) {
            (RawPipeType::Interrupt, true) => Some(Pipe::Event),
            (RawPipeType::Bulk, true) => Some(Pipe::ReadData),
            (RawPipeType::Bulk, false) => Some(Pipe::WriteData),
            _ => None,
        }
    }
}

/// A checked `IOCTL_GET_PIPE_CONFIGURATION`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than `USBSCAN_PIPE_CONFIGURATION`.
pub(super) fn parse(output_length: usize) -> Result<(), Status> {
    fits(output_length, LENGTH)
}

/// `USBSCAN_PIPE_CONFIGURATION`: `NumberOfPipes`, then the table in place (the page calls it a
/// pointer), its unused entries zero. Endpoints after the eighth are left out.
#[must_use]
pub fn pipe_configuration(pipes: &[PipeInformation]) -> [u8; LENGTH] {
    let pipes = pipes.get(..MAX_NUM_PIPES).unwrap_or(pipes);
    let number = u32::try_from(pipes.len()).unwrap_or_default();
    let table = pipes.iter().flat_map(|pipe| pipe.to_bytes());
    structure(number.to_le_bytes().into_iter().chain(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK_IN: PipeInformation = PipeInformation {
        max_packet_size: 0x0200,
        endpoint_address: 0x82,
        interval: 0x10,
        pipe_type: RawPipeType::Bulk,
    };

    #[test]
    fn an_endpoint_is_eight_bytes() {
        assert_eq!(BULK_IN.to_bytes(), [0x00, 0x02, 0x82, 0x10, 2, 0, 0, 0]);
    }

    #[test]
    fn unused_entries_are_zero() {
        assert_eq!(pipe_configuration(&[]), [0; 68]);
        let bytes = pipe_configuration(&[BULK_IN; 2]);
        assert_eq!(bytes[..4], [2, 0, 0, 0]);
        assert_eq!(bytes[4..12], BULK_IN.to_bytes());
        assert_eq!(bytes[12..20], BULK_IN.to_bytes());
        assert_eq!(bytes[20..], [0; 48]);
    }

    #[test]
    fn at_most_eight_are_told() {
        let bytes = pipe_configuration(&[BULK_IN; 9]);
        assert_eq!(bytes[..4], [8, 0, 0, 0]);
        assert_eq!(bytes[60..], BULK_IN.to_bytes());
        assert_eq!(parse(67), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse(68), Ok(()));
    }

    #[test]
    fn direction_and_type_make_the_pipe() {
        use RawPipeType::{Bulk, Control, Interrupt, Isochronous};
        for (pipe_type, endpoint_address, pipe) in [
            (Interrupt, 0x81, Some(Pipe::Event)),
            (Interrupt, 0x01, None),
            (Bulk, 0x81, Some(Pipe::ReadData)),
            (Bulk, 0x01, Some(Pipe::WriteData)),
            (Isochronous, 0x81, None),
            (Isochronous, 0x01, None),
            (Control, 0x81, None),
            (Control, 0x01, None),
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

//! What the machine remembers of every URB.

use std::fmt::Write as _;

use super::layout::{self, BUFFER, BUFFER_LENGTH, BUFFER_MDL, PIPE_HANDLE, TRANSFER_FLAGS};
use crate::{DevNode, Nanos, NtStatus};

/// A URB, from its submission to its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urb {
    /// Number since boot, from 1.
    pub number: u64,
    /// Whose.
    pub node: DevNode,
    /// When it was submitted, virtual nanoseconds.
    pub at: Nanos,
    /// IRQL of the submission.
    pub irql: u8,
    /// Where it lies.
    pub address: usize,
    /// `UrbHeader.Function`.
    pub function: u16,
    /// The whole URB as it was submitted, `UrbHeader.Length` bytes.
    pub sent: Vec<u8>,
    /// The whole URB as it was completed; empty before.
    pub back: Vec<u8>,
    /// `bEndpointAddress` of its pipe; 0 for the default pipe.
    pub endpoint: u8,
    /// The SETUP packets that it put on the bus, in order.
    pub setups: Vec<[u8; 8]>,
    /// The data that went over the bus, in whichever direction.
    pub data: Vec<u8>,
    /// `USBD_STATUS`; [`usbd::PENDING`](layout::usbd::PENDING) before the completion.
    pub usbd_status: u32,
    /// `IoStatus.Status`; `STATUS_PENDING` before the completion.
    pub status: NtStatus,
    /// Whether it was completed inside `IoCallDriver`.
    pub synchronous: bool,
    /// When it was completed.
    pub done: Option<Nanos>,
}

impl Urb {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.sent
            .get(at..at + N)
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; N])
    }

    /// `UrbHeader.Length`.
    #[must_use]
    pub fn length(&self) -> u16 {
        u16::from_le_bytes(self.bytes(0))
    }

    /// `PipeHandle`, of transfers and pipe requests.
    #[must_use]
    pub fn pipe_handle(&self) -> usize {
        usize::from_le_bytes(self.bytes(PIPE_HANDLE))
    }

    /// `TransferFlags`, of transfers and vendor or class requests.
    #[must_use]
    pub fn transfer_flags(&self) -> u32 {
        u32::from_le_bytes(self.bytes(TRANSFER_FLAGS))
    }

    /// `TransferBufferLength` as submitted.
    #[must_use]
    pub fn transfer_buffer_length(&self) -> u32 {
        u32::from_le_bytes(self.bytes(BUFFER_LENGTH))
    }

    /// `TransferBuffer`.
    #[must_use]
    pub fn transfer_buffer(&self) -> usize {
        usize::from_le_bytes(self.bytes(BUFFER))
    }

    /// `TransferBufferMDL`.
    #[must_use]
    pub fn transfer_buffer_mdl(&self) -> usize {
        usize::from_le_bytes(self.bytes(BUFFER_MDL))
    }

    /// `RequestTypeReservedBits`, of vendor and class requests.
    #[must_use]
    pub fn request_type_reserved_bits(&self) -> u8 {
        self.bytes::<1>(0x80)[0]
    }

    /// `Request`, of vendor and class requests.
    #[must_use]
    pub fn request(&self) -> u8 {
        self.bytes::<1>(0x81)[0]
    }

    /// `Value`, of vendor and class requests.
    #[must_use]
    pub fn value(&self) -> u16 {
        u16::from_le_bytes(self.bytes(0x82))
    }

    /// `Index`, of vendor and class requests.
    #[must_use]
    pub fn index(&self) -> u16 {
        u16::from_le_bytes(self.bytes(0x84))
    }

    /// `TransferBufferLength` as completed: how many bytes were transferred.
    #[must_use]
    pub fn transferred(&self) -> u32 {
        let bytes = self.back.get(BUFFER_LENGTH..BUFFER_LENGTH + 4);
        bytes
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }

    /// As a line of the trace shows it at its submission.
    pub(super) fn start_line(&self) -> String {
        let mut line = layout::function_name(self.function).to_owned();
        let shape = layout::Shape::of(self.function);
        let transfer = shape == Some(layout::Shape::Transfer);
        if transfer || shape == Some(layout::Shape::Pipe) {
            let _ = write!(line, " endpoint {:02x}", self.endpoint);
        }
        if shape.is_some_and(layout::Shape::has_buffer) {
            let _ = write!(line, " length {:#x}", self.transfer_buffer_length());
        }
        if transfer || matches!(shape, Some(layout::Shape::Vendor(_))) {
            let _ = write!(line, " flags {:#x}", self.transfer_flags());
        }
        line
    }

    /// The same at its completion, with the SETUP packets and the first bytes of the data.
    pub(super) fn end_line(&self) -> String {
        let hex = |bytes: &[u8]| {
            let text: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            text.join(" ")
        };
        let mut line = format!("USBD_STATUS {:#010x} {}", self.usbd_status, self.status);
        for setup in &self.setups {
            let _ = write!(line, " SETUP {}", hex(setup));
        }
        if !self.data.is_empty() {
            let head = &self.data[..self.data.len().min(16)];
            let _ = write!(line, " {} bytes: {}", self.data.len(), hex(head));
        }
        line
    }
}

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
    /// `bEndpointAddress` of its pipe; 0 for the default pipe.
    pub endpoint: u8,
    /// The SETUP packets that it put on the bus, in order.
    pub setups: Vec<[u8; 8]>,
    /// The data that went over the bus, in whichever direction.
    pub data: Vec<u8>,
    /// The whole URB as it was completed; empty before.
    pub back: Vec<u8>,
    /// `USBD_STATUS`; [`usbd::PENDING`](layout::usbd::PENDING) before the completion.
    pub usbd_status: u32,
    /// `IoStatus.Status`; `STATUS_PENDING` before the completion.
    pub status: NtStatus,
    /// Whether it was completed inside `IoCallDriver`.
    pub synchronous: bool,
    /// When it was completed.
    pub done: Option<Nanos>,
}

/// Members of the URB as it was submitted.
macro_rules! members {
    ($($(#[$doc:meta])* $name:ident: $t:ty = $at:expr;)*) => {
        impl Urb { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> $t {
                <$t>::from_le_bytes(self.bytes($at))
            }
        )* }
    };
}

members! {
    /// `UrbHeader.Length`.
    length: u16 = 0;
    /// `PipeHandle`, of transfers and pipe requests.
    pipe_handle: usize = PIPE_HANDLE;
    /// `TransferFlags`, of transfers and vendor or class requests.
    transfer_flags: u32 = TRANSFER_FLAGS;
    /// `TransferBufferLength` as submitted.
    transfer_buffer_length: u32 = BUFFER_LENGTH;
    /// `TransferBuffer`.
    transfer_buffer: usize = BUFFER;
    /// `TransferBufferMDL`.
    transfer_buffer_mdl: usize = BUFFER_MDL;
    /// `RequestTypeReservedBits`, of vendor and class requests.
    request_type_reserved_bits: u8 = 0x80;
    /// `Request`, of vendor and class requests.
    request: u8 = 0x81;
    /// `Value`, of vendor and class requests.
    value: u16 = 0x82;
    /// `Index`, of vendor and class requests.
    index: u16 = 0x84;
}

impl Urb {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.sent
            .get(at..at + N)
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; N])
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

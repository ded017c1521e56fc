use super::ScannerCore;
use crate::{
    ioctl::Status,
    kernel::{Data, Exchange, Irp, Next, Shared, Transfer},
};

/// `IOCTL_WAIT_ON_DEVICE_EVENT`: one packet of the interrupt pipe, by the channel's own memory. A
/// program may have room for less.
pub(super) struct Events {
    core: Shared<ScannerCore>,
    index: usize,
    /// Bytes of the packet that came.
    packet: Option<usize>,
}

impl Events {
    pub(super) const fn new(core: Shared<ScannerCore>, index: usize) -> Self {
        Self {
            core,
            index,
            packet: None,
        }
    }
}

impl Exchange for Events {
    fn begin(&mut self, _irp: &Irp) {
        self.packet = None;
    }

    fn next(&mut self, _irp: &mut Irp, own: &mut [u8]) -> Next {
        if let Some(length) = self.packet {
            return Next::Answer(length);
        }
        match self.core.pipe(self.index) {
            Some(pipe) => Next::Transfer(
                Transfer::Pipe { pipe, is_in: true },
                Data::Own { length: own.len() },
            ),
            None => Next::End(Status::INVALID_PARAMETER, 0),
        }
    }

    fn moved(&mut self, count: usize) {
        self.packet = Some(count);
    }
}

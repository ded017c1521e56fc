//! `IOCTL_WAIT_ON_DEVICE_EVENT`.

use super::{Limits, OpenPipe};
use crate::{
    ioctl::{Status, usbscan::Pipe},
    kernel::{Data, End, Exchange, Irp, Next, Shared, Time, Transfer},
};

/// `IOCTL_WAIT_ON_DEVICE_EVENT`: one packet of the interrupt pipe, by the channel's own memory. A
/// program may have room for less.
pub(super) struct Events {
    pipe: OpenPipe,
    limits: Shared<Limits>,
    /// Bytes of the packet that came.
    packet: Option<usize>,
}

impl Events {
    pub(super) const fn new(pipe: OpenPipe, limits: Shared<Limits>) -> Self {
        Self {
            pipe,
            limits,
            packet: None,
        }
    }
}

impl Exchange for Events {
    fn begin(&mut self, _irp: &Irp) -> Time {
        self.packet = None;
        self.limits.of(Pipe::Event)
    }

    fn next(&mut self, _irp: &mut Irp, own: &mut [u8]) -> Next {
        if let Some(length) = self.packet {
            return Next::End(End::Answer(length));
        }
        match self.pipe.handle() {
            Ok(pipe) => Next::Transfer(
                Transfer::Pipe { pipe, is_in: true },
                Data::Own { length: own.len() },
            ),
            Err(status) => Next::End(End::With(status, 0)),
        }
    }

    fn moved(&mut self, count: usize) {
        self.packet = Some(count);
    }

    fn failed(&mut self, status: Status, count: usize, _irp: &mut Irp, _own: &mut [u8]) -> End {
        match status {
            // The packet came, as the time was over.
            Status::IO_TIMEOUT if count != 0 => End::Answer(count),
            _ => End::With(status, 0),
        }
    }
}

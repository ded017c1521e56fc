//! `WriteFile` of a scanner.

use core::num::NonZeroU16;

use super::{Limits, OpenPipe};
use crate::{
    ioctl::{Status, usbscan::Pipe},
    kernel::{Data, End, Exchange, Irp, Next, Shared, Time, Transfer},
    usb::BulkWrite,
};

/// `WriteFile`: [`BulkWrite`] says what it is made of.
pub(super) struct Writes {
    pipe: OpenPipe,
    limits: Shared<Limits>,
    max_packet_size: NonZeroU16,
    write: BulkWrite,
}

impl Writes {
    pub(super) const fn new(
        pipe: OpenPipe,
        limits: Shared<Limits>,
        max_packet_size: NonZeroU16,
    ) -> Self {
        Self {
            pipe,
            limits,
            max_packet_size,
            write: BulkWrite::new(0, max_packet_size),
        }
    }
}

impl Exchange for Writes {
    fn begin(&mut self, irp: &Irp) -> Time {
        self.write = BulkWrite::new(irp.transfer_length(), self.max_packet_size);
        self.limits.of(Pipe::WriteData)
    }

    fn next(&mut self, _irp: &mut Irp, _own: &mut [u8]) -> Next {
        let done = self.write.done();
        let Some(part) = self.write.next() else {
            return Next::End(End::With(Status::SUCCESS, done));
        };
        match self.pipe.handle() {
            Ok(pipe) => Next::Transfer(
                Transfer::Pipe { pipe, is_in: false },
                Data::Caller {
                    offset: part.start,
                    length: part.len(),
                },
            ),
            Err(status) => Next::End(End::With(status, done)),
        }
    }

    fn moved(&mut self, _count: usize) {
        self.write.sent();
    }

    /// What went counts.
    fn failed(&mut self, status: Status, count: usize, irp: &mut Irp, _own: &mut [u8]) -> End {
        self.write.interrupted(count);
        End::With(status, irp.told(self.write.done()))
    }
}

use core::num::NonZeroU16;

use super::ScannerCore;
use crate::{
    ioctl::Status,
    kernel::{Data, Exchange, Irp, Next, Shared, Transfer},
    usb::BulkWrite,
};

/// `WriteFile`: [`BulkWrite`] says what it is made of.
pub(super) struct Writes {
    core: Shared<ScannerCore>,
    index: usize,
    max_packet_size: NonZeroU16,
    write: BulkWrite,
}

impl Writes {
    pub(super) const fn new(
        core: Shared<ScannerCore>,
        index: usize,
        max_packet_size: NonZeroU16,
    ) -> Self {
        Self {
            core,
            index,
            max_packet_size,
            write: BulkWrite::new(0, max_packet_size),
        }
    }
}

impl Exchange for Writes {
    fn begin(&mut self, irp: &Irp) {
        self.write = BulkWrite::new(irp.transfer_length(), self.max_packet_size);
    }

    fn next(&mut self, _irp: &mut Irp, _own: &mut [u8]) -> Next {
        let Some(part) = self.write.next() else {
            return Next::End(Status::SUCCESS, self.write.done());
        };
        match self.core.pipe(self.index) {
            Some(pipe) => Next::Transfer(
                Transfer::Pipe { pipe, is_in: false },
                Data::Caller {
                    offset: part.start,
                    length: part.len(),
                },
            ),
            None => Next::End(Status::INVALID_PARAMETER, 0),
        }
    }

    fn moved(&mut self, _count: usize) {
        self.write.sent();
    }
}

//! `WriteFile` of a scanner.

use core::num::NonZeroU16;

use super::{Limits, OpenPipe};
use crate::{
    ioctl::{Status, usbscan::Pipe},
    kernel::{Data, Irp, PlanEnd, PlanStep, Shared, TimeLimit, UrbTransfer},
    usb::BulkWrite,
};

/// `WriteFile`: [`BulkWrite`] says what it is made of. Its methods are those of
/// [`TransferPlan`](crate::kernel::TransferPlan).
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

    pub(super) fn begin(&mut self, irp: &Irp) -> TimeLimit {
        self.write = BulkWrite::new(irp.transfer_length(), self.max_packet_size);
        self.limits.of(Pipe::WriteData)
    }

    pub(super) fn next(&self) -> PlanStep {
        let done = self.write.done();
        let Some(part) = self.write.next() else {
            return PlanStep::End(PlanEnd::With(Status::SUCCESS, done));
        };
        match self.pipe.handle() {
            Ok(pipe) => PlanStep::Transfer(
                UrbTransfer::Pipe { pipe, is_in: false },
                Data::Caller {
                    offset: part.start,
                    length: part.len(),
                },
            ),
            Err(status) => PlanStep::End(PlanEnd::With(status, done)),
        }
    }

    pub(super) fn moved(&mut self) {
        self.write.sent();
    }

    /// What went counts.
    pub(super) fn failed(&mut self, status: Status, count: usize, irp: &Irp) -> PlanEnd {
        self.write.interrupted(count);
        PlanEnd::With(status, irp.told(self.write.done()))
    }
}

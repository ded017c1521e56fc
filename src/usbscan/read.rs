//! `ReadFile` of a scanner.

use super::{Limits, OpenPipe};
use crate::{
    ioctl::{Status, usbscan::Pipe},
    kernel::{Data, Irp, PlanEnd, PlanStep, Shared, TimeLimit, UrbTransfer},
    usb::{BulkRead, BulkReadStep},
};

/// `ReadFile`: [`BulkRead`] says what it is made of. The pipe queue's own memory is its bounce
/// buffer. Its methods are those of [`TransferPlan`](crate::kernel::TransferPlan).
pub(super) struct Reads {
    pipe: OpenPipe,
    limits: Shared<Limits>,
    stream: BulkRead,
}

impl Reads {
    pub(super) const fn new(pipe: OpenPipe, limits: Shared<Limits>, stream: BulkRead) -> Self {
        Self {
            pipe,
            limits,
            stream,
        }
    }

    /// The next step that is no copy, after the copies before it.
    ///
    /// # Errors
    /// As [`Irp::copy_to_caller`]; what was not copied is kept.
    fn step(&mut self, irp: &mut Irp, bounce: &[u8]) -> Result<BulkReadStep, Status> {
        loop {
            match self.stream.next() {
                BulkReadStep::Copy { from, to, length } => {
                    let end = from.saturating_add(length);
                    irp.copy_to_caller(to, bounce.get(from..end).unwrap_or_default())?;
                    self.stream.copied();
                }
                step => return Ok(step),
            }
        }
    }

    fn with_what_came(&self, status: Status, irp: &Irp) -> PlanEnd {
        PlanEnd::With(status, irp.told(self.stream.done()))
    }

    pub(super) fn begin(&mut self, irp: &Irp) -> TimeLimit {
        self.stream.begin(irp.transfer_length());
        self.limits.of(Pipe::ReadData)
    }

    pub(super) fn next(&mut self, irp: &mut Irp, bounce: &mut [u8]) -> PlanStep {
        let data = match self.step(irp, bounce) {
            Ok(BulkReadStep::Direct { to, length }) => Data::Caller { offset: to, length },
            Ok(BulkReadStep::Bounce { length }) => Data::Bounce { length },
            Ok(BulkReadStep::Copy { .. } | BulkReadStep::Done { .. }) => {
                return PlanStep::End(PlanEnd::With(Status::SUCCESS, self.stream.done()));
            }
            Err(status) => return PlanStep::End(self.with_what_came(status, irp)),
        };
        match self.pipe.handle() {
            Ok(pipe) => PlanStep::Transfer(UrbTransfer::Pipe { pipe, is_in: true }, data),
            Err(status) => PlanStep::End(self.with_what_came(status, irp)),
        }
    }

    pub(super) fn moved(&mut self, count: usize) {
        self.stream.received(count);
    }

    /// What came counts. If only the time is over it is a short read, and the next one goes on
    /// behind it; whatever else ended the read, the next one begins afresh.
    pub(super) fn failed(
        &mut self,
        status: Status,
        count: usize,
        irp: &mut Irp,
        bounce: &mut [u8],
    ) -> PlanEnd {
        self.stream.interrupted(count);
        if let Err(status) = self.step(irp, bounce) {
            return self.with_what_came(status, irp);
        }
        match self.stream.done() {
            done if done != 0 && status == Status::IO_TIMEOUT => {
                PlanEnd::With(Status::SUCCESS, done)
            }
            _ => {
                if status != Status::IO_TIMEOUT {
                    self.stream.discard();
                }
                self.with_what_came(status, irp)
            }
        }
    }

    pub(super) fn discard(&mut self) {
        self.stream.discard();
    }
}

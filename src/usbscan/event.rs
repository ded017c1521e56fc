//! `IOCTL_WAIT_ON_DEVICE_EVENT`.

use super::{Limits, OpenPipe};
use crate::{
    ioctl::{Status, usbscan::Pipe},
    kernel::{Data, PlanEnd, PlanStep, Shared, TimeLimit, UrbTransfer},
};

/// `IOCTL_WAIT_ON_DEVICE_EVENT`: one packet of the interrupt pipe, by the pipe queue's own memory.
/// A program may have room for less. Its methods are those of
/// [`TransferPlan`](crate::kernel::TransferPlan).
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

    pub(super) fn begin(&mut self) -> TimeLimit {
        self.packet = None;
        self.limits.of(Pipe::Event)
    }

    pub(super) fn next(&self, bounce: &[u8]) -> PlanStep {
        if let Some(length) = self.packet {
            return PlanStep::End(PlanEnd::Answer(length));
        }
        match self.pipe.handle() {
            Ok(pipe) => PlanStep::Transfer(
                UrbTransfer::Pipe { pipe, is_in: true },
                Data::Bounce {
                    length: bounce.len(),
                },
            ),
            Err(status) => PlanStep::End(PlanEnd::With(status, 0)),
        }
    }

    pub(super) const fn moved(&mut self, count: usize) {
        self.packet = Some(count);
    }

    pub(super) const fn failed(status: Status, count: usize) -> PlanEnd {
        match status {
            // The packet came, as the time was over.
            Status::IO_TIMEOUT if count != 0 => PlanEnd::Answer(count),
            _ => PlanEnd::With(status, 0),
        }
    }
}

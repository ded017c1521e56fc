//! What goes on in a pipe of a handle, whichever it is for.

use super::{
    control::{ControlTransfer, Controls},
    event::Events,
    read::Reads,
    write::Writes,
};
use crate::{
    ioctl::Status,
    kernel::{Irp, PlanEnd, PlanStep, TimeLimit, TransferPlan},
};

/// The plan of every pipe queue of a scanner. One type, so that what serves a queue is there once.
pub(super) enum Plan {
    /// `IOCTL_WAIT_ON_DEVICE_EVENT`
    Event(Events),
    /// `IRP_MJ_READ`
    Read(Reads),
    /// `IRP_MJ_WRITE`
    Write(Writes),
    /// What becomes a transfer on the default control pipe.
    Control(Controls),
}

impl TransferPlan for Plan {
    /// What a control request has; of others the IRP says all.
    type Carried = Option<ControlTransfer>;

    fn begin(&mut self, irp: &Irp, request: Option<ControlTransfer>) -> TimeLimit {
        match self {
            Self::Event(events) => events.begin(),
            Self::Read(reads) => reads.begin(irp),
            Self::Write(writes) => writes.begin(irp),
            Self::Control(controls) => controls.begin(request),
        }
    }

    fn next(&mut self, irp: &mut Irp, bounce: &mut [u8]) -> PlanStep {
        match self {
            Self::Event(events) => events.next(bounce),
            Self::Read(reads) => reads.next(irp, bounce),
            Self::Write(writes) => writes.next(),
            Self::Control(controls) => controls.next(),
        }
    }

    fn moved(&mut self, count: usize) {
        match self {
            Self::Event(events) => events.moved(count),
            Self::Read(reads) => reads.moved(count),
            Self::Write(writes) => writes.moved(),
            Self::Control(controls) => controls.moved(count),
        }
    }

    fn failed(
        &mut self,
        status: Status,
        count: usize,
        irp: &mut Irp,
        bounce: &mut [u8],
    ) -> PlanEnd {
        match self {
            Self::Event(_) => Events::failed(status, count),
            Self::Read(reads) => reads.failed(status, count, irp, bounce),
            Self::Write(writes) => writes.failed(status, count, irp),
            Self::Control(_) => PlanEnd::With(status, 0),
        }
    }

    fn carried(&mut self) -> &mut [u8] {
        match self {
            Self::Control(controls) => controls.carried(),
            _ => &mut [],
        }
    }

    fn ended(&mut self) {
        if let Self::Control(controls) = self {
            controls.ended();
        }
    }

    fn discard(&mut self) {
        if let Self::Read(reads) = self {
            reads.discard();
        }
    }
}

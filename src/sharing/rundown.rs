//! The way in and out of something that comes and goes.

use super::{Flag, Signal, Stage};

/// Rundown protection: a count of holders, and its end.
pub trait RundownCounter {
    /// One more holder, unless it is run down. At <= `DISPATCH_LEVEL`.
    fn acquire(&self) -> bool;
    /// A holder less. At <= `DISPATCH_LEVEL`.
    fn release(&self);
    /// From now on it cannot be acquired; waits for the last holder. At `PASSIVE_LEVEL`.
    fn run_down(&self);
    /// It can be acquired again, after [`RundownCounter::run_down`].
    fn renew(&self);
}

/// The gate in front of something that comes and goes, such as the hardware behind a device object
/// that is stopped and started. While it is open, anybody may enter; closing it waits until the
/// last one has left.
///
/// One at a time opens and closes it, in the PnP and the power path.
pub struct RundownGate<R, F, C, S> {
    rundown: R,
    open: F,
    suspended: F,
    /// Why those inside shall leave.
    leave: C,
    /// For gates that threads wait at.
    events: Option<RundownEvents<S>>,
}

/// What a thread can wait for at a [`RundownGate`].
pub struct RundownEvents<S> {
    /// Signalled while the gate is open.
    pub opened: S,
    /// Signalled while those inside shall leave.
    pub leave: S,
}

/// Why the holders inside a [`RundownGate`] shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// The thing behind the gate is gone.
    Gone,
    /// It will be there again.
    Suspended,
}

/// Those inside need not leave.
const STAY: u8 = 0;

impl LeaveReason {
    /// As [`RundownGate`] keeps it.
    const fn code(self) -> u8 {
        match self {
            Self::Gone => 1,
            Self::Suspended => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Gone),
            2 => Some(Self::Suspended),
            _ => None,
        }
    }
}

impl<R: RundownCounter, F: Flag, C: Stage, S: Signal> RundownGate<R, F, C, S> {
    /// A closed gate: of a rundown that is run down, flags that are not set, a stage of 0 and
    /// events that are not signalled.
    pub fn closed(
        rundown: R,
        [open, suspended]: [F; 2],
        leave: C,
        events: Option<RundownEvents<S>>,
    ) -> Self {
        Self {
            rundown,
            open,
            suspended,
            leave,
            events,
        }
    }

    /// Opens a closed gate.
    pub fn let_in(&self) {
        self.leave.replace(STAY);
        if let Some(events) = &self.events {
            events.leave.reset();
        }
        self.rundown.renew();
        self.open.replace(true);
        if let Some(events) = &self.events {
            events.opened.set();
        }
    }

    fn ask_to_leave(&self, why: LeaveReason) {
        self.leave.replace(why.code());
        if let Some(events) = &self.events {
            events.leave.set();
        }
    }

    /// Closes the gate and waits until the last holder has left. Whether it was open.
    #[inline(never)]
    fn shut(&self) -> bool {
        let open = self.open.replace(false);
        if open {
            if let Some(events) = &self.events {
                // First: a thread that is refused from now on waits.
                events.opened.reset();
            }
            self.rundown.run_down();
        }
        open
    }

    /// Closes the gate for good, or until it is opened with something else behind it. Waits until
    /// no thread is inside.
    pub fn close(&self) {
        self.shut();
        self.suspended.clear();
    }

    /// Closes the gate after asking everybody inside to leave at once.
    pub fn evict(&self) {
        self.ask_to_leave(LeaveReason::Gone);
        self.close();
    }

    /// Closes the gate until [`RundownGate::resume`], after asking everybody inside to leave at
    /// once, and then does `finish`, unless the gate was closed already.
    pub fn suspend(&self, finish: impl FnOnce()) {
        self.ask_to_leave(LeaveReason::Suspended);
        if self.shut() {
            finish();
            self.suspended.replace(true);
        }
    }

    /// Opens the gate that [`RundownGate::suspend`] closed, after `prepare`.
    pub fn resume(&self, prepare: impl FnOnce()) {
        if self.suspended.replace(false) {
            prepare();
            self.let_in();
        }
    }

    /// Enters, if the gate is open; then comes [`RundownGate::exit`]. At <= `DISPATCH_LEVEL`.
    pub fn enter(&self) -> bool {
        self.rundown.acquire()
    }

    /// Leaves. At <= `DISPATCH_LEVEL`.
    pub fn exit(&self) {
        self.rundown.release();
    }

    /// Whether the holders inside shall leave, and why.
    pub fn must_leave(&self) -> Option<LeaveReason> {
        LeaveReason::of(self.leave.read())
    }

    /// What threads can wait for, if they can.
    pub const fn events(&self) -> Option<&RundownEvents<S>> {
        self.events.as_ref()
    }
}

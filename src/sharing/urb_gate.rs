//! Whether the URBs of a device go out, and how many are out.

use super::Signal;
use crate::ioctl::Status;

/// The gate that the URBs of a device go through. Its methods run under one lock.
///
/// `idle` is set while there are no URBs; `shut` is set while no URB goes out, and none will soon.
/// Both are set at first, and the same every time.
pub struct UrbGate {
    flow: Flow,
    /// What new requests are refused with, unless they are let in.
    refusal: Status,
    /// What requests that are under way end with then.
    end: Status,
    urbs: u32,
}

/// Whether URBs go out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Closed,
    /// The device has no power.
    Asleep,
    /// Nor has it now, but new requests wait for it.
    Waking,
}

impl UrbGate {
    /// A closed gate, which was never open.
    pub const CLOSED: Self = Self {
        flow: Flow::Closed,
        refusal: Status::DEVICE_NOT_READY,
        end: Status::DEVICE_NOT_READY,
        urbs: 0,
    };

    /// Lets URBs through.
    pub fn open(&mut self, shut: &impl Signal) {
        self.flow = Flow::Open;
        shut.reset();
    }

    /// Lets no URB through from now on: new requests are refused with `refusal`, and requests that
    /// are under way end with `end`.
    pub fn close(&mut self, refusal: Status, end: Status, shut: &impl Signal) {
        self.shut(Flow::Closed, refusal, end, shut);
    }

    /// As [`UrbGate::close`], until [`UrbGate::wake`].
    pub fn sleep(&mut self, refusal: Status, end: Status, shut: &impl Signal) {
        self.shut(Flow::Asleep, refusal, end, shut);
    }

    fn shut(&mut self, flow: Flow, refusal: Status, end: Status, shut: &impl Signal) {
        shut.set();
        *self = Self {
            flow,
            refusal,
            end,
            urbs: self.urbs,
        };
    }

    /// No program uses the device: lets no URB through until [`UrbGate::wake`], for which requests
    /// that come wait. Not of a device that is closed or sleeps.
    pub fn park(&mut self, end: Status) {
        if self.flow == Flow::Open {
            self.flow = Flow::Waking;
            self.end = end;
        }
    }

    /// Power comes soon: lets requests in again, which wait for [`UrbGate::wake`].
    pub fn resume_requests(&mut self, shut: &impl Signal) {
        if self.flow == Flow::Asleep {
            self.flow = Flow::Waking;
            shut.reset();
        }
    }

    /// No power comes: requests are refused with `status` again, and those that wait for it are to
    /// end with `status`. Whether they are: not those of an open or closed device.
    pub fn lose(&mut self, status: Status, shut: &impl Signal) -> bool {
        let waits = matches!(self.flow, Flow::Asleep | Flow::Waking);
        if waits {
            self.shut(Flow::Asleep, status, status, shut);
        }
        waits
    }

    /// Lets URBs through again after [`UrbGate::sleep`]. Whether it was so.
    pub fn wake(&mut self, shut: &impl Signal) -> bool {
        let slept = matches!(self.flow, Flow::Asleep | Flow::Waking);
        if slept {
            self.open(shut);
        }
        slept
    }

    /// Whether requests wait for [`UrbGate::wake`].
    #[must_use]
    pub fn is_waking(&self) -> bool {
        self.flow == Flow::Waking
    }

    /// Whether new requests may begin.
    ///
    /// # Errors
    /// The refusal.
    pub const fn check(&self) -> Result<(), Status> {
        match self.flow {
            Flow::Open | Flow::Waking => Ok(()),
            Flow::Closed | Flow::Asleep => Err(self.refusal),
        }
    }

    /// A URB goes to the USB stack.
    ///
    /// # Errors
    /// It must not: what its request ends with.
    pub fn enter(&mut self, idle: &impl Signal) -> Result<(), Status> {
        if self.flow != Flow::Open {
            return Err(self.end);
        }
        self.urbs += 1;
        idle.reset();
        Ok(())
    }

    /// It came back.
    pub fn leave(&mut self, idle: &impl Signal) {
        self.urbs = self.urbs.saturating_sub(1);
        if self.urbs == 0 {
            idle.set();
        }
    }
}

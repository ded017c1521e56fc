use core::sync::atomic::{AtomicU32, Ordering};

use super::super::{Blocking, Passive, SpinLock, sync::Event};
use crate::ioctl::Status;

/// The URBs of a device that the USB stack has. While the device is stopped, asleep or gone, there
/// are none and no more go out.
pub(crate) struct Traffic {
    gate: SpinLock<Gate>,
    /// Signalled while there are no URBs.
    idle: Event,
    /// The pipes that are being reset, a bit each.
    held: AtomicU32,
}

struct Gate {
    /// A bit for each reason why no URB goes out.
    closed: u8,
    urbs: u32,
}

/// Why no URB goes out. Each reason ends by itself: a device that wakes up may be stopped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The device is not started, or it is stopped.
    NotStarted,
    /// The system sleeps.
    SystemSleeps,
    /// The device sleeps.
    DeviceSleeps,
    /// The device is gone.
    Gone,
}

impl Closed {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What new requests are refused with.
    const fn refusal(self) -> Status {
        match self {
            Self::Gone => Status::DELETE_PENDING,
            _ => Status::DEVICE_NOT_READY,
        }
    }

    /// What requests that are under way end with.
    pub(crate) const fn end(self) -> Status {
        match self {
            Self::Gone => Status::NO_SUCH_DEVICE,
            _ => Status::CANCELLED,
        }
    }
}

impl Gate {
    /// The reason that counts, if there is one: that the device is gone. The others are alike.
    const fn closed(&self) -> Option<Closed> {
        if self.closed & Closed::Gone.bit() != 0 {
            Some(Closed::Gone)
        } else if self.closed != 0 {
            Some(Closed::NotStarted)
        } else {
            None
        }
    }
}

impl Traffic {
    /// Lets nothing through yet: [`Closed::NotStarted`].
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new() -> Result<Self, Status> {
        let idle = Event::notification()?;
        idle.set();
        Ok(Self {
            gate: SpinLock::new(Gate {
                closed: Closed::NotStarted.bit(),
                urbs: 0,
            }),
            idle,
            held: AtomicU32::new(0),
        })
    }

    /// This is no reason any more. Lets URBs through, if there is no other. At
    /// <= `DISPATCH_LEVEL`.
    pub(crate) fn open(&self, reason: Closed) {
        self.gate.with(move |gate| gate.closed &= !reason.bit());
    }

    /// Lets no URB through from now on. At <= `DISPATCH_LEVEL`.
    pub(crate) fn close(&self, reason: Closed) {
        self.gate.with(move |gate| gate.closed |= reason.bit());
    }

    /// Waits until the USB stack has no URB. After [`Traffic::close`], when everything that is
    /// under way was told to end.
    pub(crate) fn wait_idle(&self, blocking: Blocking<'_>) {
        self.idle.wait(blocking);
    }

    /// Whether new requests may begin.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn check(&self) -> Result<(), Status> {
        match self.gate.with(|gate| gate.closed()) {
            Some(reason) => Err(reason.refusal()),
            None => Ok(()),
        }
    }

    /// A URB goes to the USB stack.
    ///
    /// # Errors
    /// It must not: what its request ends with.
    pub(super) fn enter(&self) -> Result<(), Status> {
        let idle = &self.idle;
        self.gate.with(move |gate| {
            if let Some(reason) = gate.closed() {
                return Err(reason.end());
            }
            gate.urbs += 1;
            idle.reset();
            Ok(())
        })
    }

    /// It came back.
    pub(super) fn leave(&self) {
        let idle = &self.idle;
        self.gate.with(move |gate| {
            gate.urbs = gate.urbs.saturating_sub(1);
            if gate.urbs == 0 {
                idle.set();
            }
        });
    }

    /// No new request begins on the pipes of `lane`, until [`Traffic::release`].
    pub(crate) fn hold(&self, lane: u32, _: Passive) {
        self.held.fetch_or(lane, Ordering::AcqRel);
    }

    /// The end of [`Traffic::hold`]. Whoever waits is not told.
    pub(crate) fn release(&self, lane: u32, _: Passive) {
        self.held.fetch_and(!lane, Ordering::AcqRel);
    }

    pub(super) fn is_held(&self, lane: u32) -> bool {
        self.held.load(Ordering::Acquire) & lane != 0
    }
}

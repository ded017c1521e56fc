//! The time-outs of a scanner's handle.

use crate::{
    ioctl::usbscan::{Pipe, Timeout, Timeouts},
    kernel::{SpinLock, TimeLimit},
};

/// How long the requests of a handle may take, for those that begin from now on.
pub(super) struct Limits(SpinLock<Set>);

#[derive(Clone, Copy)]
struct Set {
    timeouts: Timeouts,
    /// No `IOCTL_SET_TIMEOUT` came yet.
    is_default: bool,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self(SpinLock::new(Set {
            timeouts: Timeouts::default(),
            is_default: true,
        }))
    }

    /// `IOCTL_SET_TIMEOUT`. At <= `DISPATCH_LEVEL`.
    pub(super) fn set(&self, timeouts: Timeouts) {
        self.0.with(move |set| {
            *set = Set {
                timeouts,
                is_default: false,
            };
        });
    }

    /// Of a request on a pipe. What a program sets is for the whole request; the default one is for
    /// a device that says nothing, and a slow scan is none. At <= `DISPATCH_LEVEL`.
    #[inline]
    pub(super) fn of(&self, pipe: Pipe) -> TimeLimit {
        let set = self.0.with(|set| *set);
        time(set.timeouts.of(pipe), set.is_default)
    }

    /// Of a control request. At <= `DISPATCH_LEVEL`.
    pub(super) fn of_control(&self, is_in: bool) -> TimeLimit {
        let set = self.0.with(|set| *set);
        time(set.timeouts.of_control(is_in), false)
    }

    /// Of a reset of a pipe, in milliseconds: a control request that sends nothing. At
    /// <= `DISPATCH_LEVEL`.
    pub(super) fn of_reset(&self) -> u32 {
        let set = self.0.with(|set| *set);
        let limit = set.timeouts.of_control(false).milliseconds();
        // 214,000 at most.
        limit
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(u32::MAX)
    }
}

fn time(timeout: Timeout, renews: bool) -> TimeLimit {
    TimeLimit {
        limit: timeout.hundred_nanoseconds(),
        renews,
    }
}

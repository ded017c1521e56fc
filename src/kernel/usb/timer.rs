//! Timers with a deferred procedure call.

use core::cell::UnsafeCell;

use wdk_sys::{
    _TIMER_TYPE, KDPC, KTIMER, LARGE_INTEGER, PKDEFERRED_ROUTINE, PVOID,
    ntddk::{KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimerEx, KeSetTimer},
};

use super::super::Passive;

/// A timer that calls a routine at `DISPATCH_LEVEL`. It lies in nonpaged memory that does not move.
pub(in crate::kernel) struct Timer {
    timer: UnsafeCell<KTIMER>,
    dpc: UnsafeCell<KDPC>,
}

// SAFETY: the kernel synchronises access to both objects.
unsafe impl Send for Timer {}
// SAFETY: likewise.
unsafe impl Sync for Timer {}

impl Timer {
    pub(in crate::kernel) fn new() -> Self {
        Self {
            timer: UnsafeCell::new(KTIMER::default()),
            dpc: UnsafeCell::new(KDPC::default()),
        }
    }

    /// Makes the kernel objects; the timer calls `routine` with `context`.
    ///
    /// # Safety
    /// Once, before any other call; from now on the value does not move.
    pub(in crate::kernel) unsafe fn initialize(&self, routine: PKDEFERRED_ROUTINE, context: PVOID) {
        // SAFETY: the caller's promise.
        unsafe { KeInitializeTimerEx(self.timer.get(), _TIMER_TYPE::NotificationTimer) };
        // SAFETY: likewise.
        unsafe { KeInitializeDpc(self.dpc.get(), routine, context) };
    }

    /// Starts the timer, also anew. Whether it was running: its routine is called once then. At
    /// <= `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// Initialised; what the routine needs stays until it has run, or [`Timer::cancel`] said that
    /// it will not.
    #[inline]
    pub(in crate::kernel) unsafe fn start(&self, hundred_nanoseconds: u64) -> bool {
        let due = LARGE_INTEGER {
            // Negative: from now on.
            QuadPart: i64::try_from(hundred_nanoseconds).map_or(i64::MIN, i64::wrapping_neg),
        };
        // SAFETY: the caller's promise.
        unsafe { KeSetTimer(self.timer.get(), due, self.dpc.get()) != 0 }
    }

    /// Stops the timer. Whether it was running: its routine is not called then. At
    /// <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn cancel(&self) -> bool {
        // SAFETY: initialised by its owner.
        unsafe { KeCancelTimer(self.timer.get()) != 0 }
    }
}

/// Waits until no deferred procedure call that was queued before runs any more: before the driver
/// may be unloaded.
pub(crate) fn flush_deferred(_: Passive) {
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { KeFlushQueuedDpcs() };
}

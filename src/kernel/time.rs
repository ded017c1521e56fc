use core::ptr::{self, NonNull};

use wdk_sys::{
    _EX_TIMER, EX_TIMER_HIGH_RESOLUTION, LARGE_INTEGER,
    ntddk::{
        ExAllocateTimer, ExDeleteTimer, ExSetTimer, KeQueryPerformanceCounter,
        KeQueryUnbiasedInterruptTime, KeStallExecutionProcessor,
    },
};

use super::sync::{Waitable, relative};
use crate::ioctl::Status;

/// A clock that never goes back and does not run while the system sleeps, in milliseconds. At any
/// IRQL; its steps are those of the system's timer.
pub(crate) fn milliseconds() -> u64 {
    // SAFETY: no requirements.
    let hundred_nanoseconds = unsafe { KeQueryUnbiasedInterruptTime() };
    hundred_nanoseconds / 10_000
}

/// A clock that never goes back, in microseconds: as fine as there is. At any IRQL.
pub(crate) fn microseconds() -> u64 {
    let mut frequency = LARGE_INTEGER::default();
    // SAFETY: no requirements.
    let count = unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
    // SAFETY: all members of the union are plain.
    let count = u64::try_from(unsafe { count.QuadPart }).unwrap_or(0);
    // SAFETY: likewise.
    let frequency = u64::try_from(unsafe { frequency.QuadPart }).unwrap_or(0);
    let part = |count: u64, unit: u64| count.saturating_mul(unit).checked_div(frequency);
    let seconds = count.checked_div(frequency).unwrap_or(0);
    let rest = count.checked_rem(frequency).unwrap_or(0);
    let rest = part(rest, 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(rest)
}

/// How long something takes, in nanoseconds, as far as the performance counter tells: its steps are
/// 100 ns on most machines. At any IRQL.
pub(crate) fn duration_of(something: impl FnOnce()) -> u64 {
    let mut frequency = LARGE_INTEGER::default();
    // SAFETY: the place for the frequency is ours.
    let before = unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
    something();
    // SAFETY: the frequency is not asked for.
    let after = unsafe { KeQueryPerformanceCounter(ptr::null_mut()) };
    // SAFETY: every bit pattern of a LARGE_INTEGER is an i64.
    let [before, after, frequency] = [before, after, frequency].map(|it| unsafe { it.QuadPart });
    let ticks = u64::try_from(after.saturating_sub(before)).unwrap_or(0);
    let frequency = u64::try_from(frequency).unwrap_or(0);
    ticks
        .saturating_mul(1_000_000_000)
        .checked_div(frequency)
        .unwrap_or(0)
}

/// A timer that is more precise than the steps of the system's: half a millisecond or so.
pub(super) struct PreciseTimer(NonNull<_EX_TIMER>);

// SAFETY: the kernel synchronises access to the object.
unsafe impl Send for PreciseTimer {}
// SAFETY: likewise.
unsafe impl Sync for PreciseTimer {}

impl PreciseTimer {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new() -> Result<Self, Status> {
        // SAFETY: <= DISPATCH_LEVEL; no callback.
        let timer = unsafe { ExAllocateTimer(None, ptr::null_mut(), EX_TIMER_HIGH_RESOLUTION) };
        NonNull::new(timer)
            .map(Self)
            .ok_or(Status::INSUFFICIENT_RESOURCES)
    }

    /// Starts the timer, anew if it runs. One wait is ended by it. At <= `DISPATCH_LEVEL`.
    pub(super) fn start(&self, milliseconds: u32) {
        // SAFETY: all members of the union are plain.
        let due = unsafe { relative(milliseconds).QuadPart };
        // SAFETY: ours, and not deleted.
        unsafe { ExSetTimer(self.0.as_ptr(), due, 0, ptr::null_mut()) };
    }

    /// What a wait is for.
    pub(super) fn object(&self) -> Waitable<'_> {
        // SAFETY: timers are dispatcher objects; this one lives as long as `self`.
        unsafe { Waitable::new(self.0.as_ptr().cast()) }
    }
}

impl Drop for PreciseTimer {
    fn drop(&mut self) {
        // SAFETY: ours; nobody waits for it, and it has no callback that could run still.
        unsafe { ExDeleteTimer(self.0.as_ptr(), 1, 0, ptr::null_mut()) };
    }
}

/// Busy-waits. For at most 50 microseconds: the processor does nothing else.
pub(crate) fn stall(microseconds: u32) {
    // SAFETY: no requirements.
    unsafe { KeStallExecutionProcessor(microseconds) };
}

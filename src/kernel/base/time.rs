//! Clocks, timers and stalls.

use core::{
    num::NonZeroU64,
    ptr::{self, NonNull},
};

use wdk_sys::{
    _EX_TIMER, EX_TIMER_HIGH_RESOLUTION, LARGE_INTEGER,
    ntddk::{
        ExAllocateTimer, ExDeleteTimer, ExSetTimer, KeQueryPerformanceCounter,
        KeQueryUnbiasedInterruptTime, KeStallExecutionProcessor,
    },
};

use crate::ioctl::Status;
use crate::kernel::sync::Waitable;

/// A clock that never goes back and does not run while the system sleeps, in milliseconds. At any
/// IRQL; its steps are those of the system's timer.
pub(crate) fn milliseconds() -> u64 {
    // SAFETY: no requirements.
    let hundred_nanoseconds = unsafe { KeQueryUnbiasedInterruptTime() };
    hundred_nanoseconds / 10_000
}

/// A clock that never goes back, in microseconds: as fine as there is. At any IRQL.
pub(crate) fn microseconds() -> u64 {
    counted(1_000_000)
}

/// The same in nanoseconds.
pub(crate) fn nanoseconds() -> u64 {
    counted(1_000_000_000)
}

/// The performance counter, in parts of a second. One copy: what it costs is the counter.
#[inline(never)]
fn counted(parts: u64) -> u64 {
    let mut frequency = LARGE_INTEGER::default();
    // SAFETY: no requirements.
    let count = unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
    // SAFETY: all members of the union are plain.
    let count = u64::try_from(unsafe { count.QuadPart }).unwrap_or(0);
    // SAFETY: likewise.
    let frequency = u64::try_from(unsafe { frequency.QuadPart }).unwrap_or(0);
    // It never is 0.
    let frequency = NonZeroU64::new(frequency).unwrap_or(NonZeroU64::MIN);
    let seconds = count / frequency;
    // Less than a second: the product fits for any frequency below 18 GHz.
    let rest = (count % frequency).saturating_mul(parts) / frequency;
    seconds.saturating_mul(parts).saturating_add(rest)
}

/// The performance counter itself. At any IRQL.
pub(in crate::kernel) fn counter() -> u64 {
    // SAFETY: no requirements; the frequency is not asked for.
    let count = unsafe { KeQueryPerformanceCounter(ptr::null_mut()) };
    // SAFETY: all members of the union are plain.
    u64::try_from(unsafe { count.QuadPart }).unwrap_or(0)
}

/// Counts of the performance counter in a second. At any IRQL.
pub(crate) fn counter_frequency() -> u64 {
    let mut frequency = LARGE_INTEGER::default();
    // SAFETY: no requirements.
    unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
    // SAFETY: all members of the union are plain.
    u64::try_from(unsafe { frequency.QuadPart }).unwrap_or(0)
}

/// How long something takes, in nanoseconds, as far as the performance counter tells: its steps are
/// 100 ns on most machines. At any IRQL.
pub(crate) fn duration_of(something: impl FnOnce()) -> u64 {
    let before = nanoseconds();
    something();
    nanoseconds().saturating_sub(before)
}

/// A timer that is more precise than the steps of the system's: half a millisecond or so.
pub(in crate::kernel) struct PreciseTimer(NonNull<_EX_TIMER>);

// SAFETY: the kernel synchronises access to the object.
unsafe impl Send for PreciseTimer {}
// SAFETY: likewise.
unsafe impl Sync for PreciseTimer {}

impl PreciseTimer {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn try_new() -> Result<Self, Status> {
        // SAFETY: <= DISPATCH_LEVEL; no callback.
        let timer = unsafe { ExAllocateTimer(None, ptr::null_mut(), EX_TIMER_HIGH_RESOLUTION) };
        NonNull::new(timer)
            .map(Self)
            .ok_or(Status::INSUFFICIENT_RESOURCES)
    }

    /// Starts the timer, anew if it runs. One wait is ended by it. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn start(&self, milliseconds: u32) {
        self.start_ns(u64::from(milliseconds).saturating_mul(1_000_000));
    }

    /// The same in nanoseconds, of which hundreds count.
    pub(in crate::kernel) fn start_ns(&self, nanoseconds: u64) {
        let due = -i64::try_from(nanoseconds / 100).unwrap_or(i64::MAX);
        // SAFETY: ours, and not deleted.
        unsafe { ExSetTimer(self.0.as_ptr(), due, 0, ptr::null_mut()) };
    }

    /// What a wait is for.
    pub(in crate::kernel) fn object(&self) -> Waitable<'_> {
        // SAFETY: timers are dispatcher objects; this one lives as long as `self`.
        unsafe { Waitable::new(self.0.as_ptr().cast()) }
    }
}

impl Drop for PreciseTimer {
    fn drop(&mut self) {
        // SAFETY: ours; no thread waits for it, and it has no callback that could run still.
        unsafe { ExDeleteTimer(self.0.as_ptr(), 1, 0, ptr::null_mut()) };
    }
}

/// Busy-waits. For at most 50 microseconds: the processor does nothing else.
pub(crate) fn stall(microseconds: u32) {
    // SAFETY: no requirements.
    unsafe { KeStallExecutionProcessor(microseconds) };
}

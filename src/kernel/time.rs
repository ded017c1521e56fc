use wdk_sys::ntddk::{KeQueryUnbiasedInterruptTime, KeStallExecutionProcessor};

/// A clock that never goes back and does not run while the system sleeps, in milliseconds. At any
/// IRQL; its steps are those of the system's timer.
pub(crate) fn milliseconds() -> u64 {
    // SAFETY: no requirements.
    let hundred_nanoseconds = unsafe { KeQueryUnbiasedInterruptTime() };
    hundred_nanoseconds / 10_000
}

/// Busy-waits. For at most 50 microseconds: the processor does nothing else.
pub(crate) fn stall(microseconds: u32) {
    // SAFETY: no requirements.
    unsafe { KeStallExecutionProcessor(microseconds) };
}

use wdk_sys::ntddk::{
    KeDelayExecutionThread, KeQueryUnbiasedInterruptTime, KeStallExecutionProcessor,
};

use super::{Blocking, KERNEL_MODE, sync::relative};

/// A clock that never goes back and does not run while the system sleeps, in milliseconds. At any
/// IRQL; its steps are those of the system's timer.
pub(crate) fn milliseconds() -> u64 {
    // SAFETY: no requirements.
    let hundred_nanoseconds = unsafe { KeQueryUnbiasedInterruptTime() };
    hundred_nanoseconds / 10_000
}

/// Lets other threads run that wait for the processor; comes back at once if there are none.
pub(super) fn yield_now(blocking: Blocking) {
    delay(0, blocking);
}

/// Waits for this many milliseconds, whatever happens meanwhile.
pub(super) fn delay(milliseconds: u32, _: Blocking) {
    let mut interval = relative(milliseconds);
    // SAFETY: at <= APC_LEVEL; not alertable, kernel mode.
    let _ = unsafe { KeDelayExecutionThread(KERNEL_MODE, 0, &raw mut interval) };
}

/// Busy-waits. For at most 50 microseconds: the processor does nothing else.
pub(crate) fn stall(microseconds: u32) {
    // SAFETY: no requirements.
    unsafe { KeStallExecutionProcessor(microseconds) };
}

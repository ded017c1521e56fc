//! The time that the hardware lives in.

use parscan_models::Nanos;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

/// Nanoseconds on a clock that never goes back.
pub(crate) fn now() -> Nanos {
    let (mut count, mut frequency) = (0, 0);
    // SAFETY: local variables.
    unsafe { QueryPerformanceCounter(&raw mut count) };
    // SAFETY: likewise.
    unsafe { QueryPerformanceFrequency(&raw mut frequency) };
    let nanoseconds = i128::from(count) * 1_000_000_000 / i128::from(frequency.max(1));
    u64::try_from(nanoseconds).unwrap_or(0)
}

/// Keeps the processor busy until then.
pub(crate) fn busy_until(time: Nanos) {
    while now() < time {
        core::hint::spin_loop();
    }
}

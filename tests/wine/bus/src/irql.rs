//! The IRQL. Wine has none: here each thread has its own.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use windows_sys::Win32::System::Threading::{TlsAlloc, TlsGetValue, TlsSetValue};

pub(crate) const PASSIVE: u8 = 0;
pub(crate) const APC: u8 = 1;
pub(crate) const DISPATCH: u8 = 2;

static SLOT: AtomicU32 = AtomicU32::new(0);

/// Once, before anything else here.
pub(crate) fn initialize() {
    // SAFETY: no requirements.
    SLOT.store(unsafe { TlsAlloc() }, SeqCst);
}

pub(crate) fn current() -> u8 {
    // SAFETY: a slot of this process; null where nothing was set.
    let value = unsafe { TlsGetValue(SLOT.load(SeqCst)) };
    u8::try_from(value.addr()).unwrap_or(u8::MAX)
}

/// Gives the IRQL from before.
pub(crate) fn set(irql: u8) -> u8 {
    let before = current();
    // SAFETY: a slot of this process, for a number.
    unsafe {
        TlsSetValue(
            SLOT.load(SeqCst),
            core::ptr::without_provenance(usize::from(irql)),
        )
    };
    before
}

/// Runs `f` at an IRQL.
pub(crate) fn at<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    let before = set(irql);
    let result = f();
    set(before);
    result
}

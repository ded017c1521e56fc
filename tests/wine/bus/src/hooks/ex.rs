//! Rundown protection.

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use windows_sys::Win32::System::Threading::Sleep;

use crate::{irql, report::broken};

/// Bit 0 of the reference: no thread gets in any more. The others count who is in.
const CLOSED: usize = 1;
const ONE: usize = 2;

pub(super) unsafe extern "system" fn ex_initialize_rundown_protection(reference: &AtomicUsize) {
    reference.store(0, SeqCst);
}

pub(super) unsafe extern "system" fn ex_reinitialize_rundown_protection(reference: &AtomicUsize) {
    if reference.swap(0, SeqCst) != CLOSED {
        broken!("ExReInitializeRundownProtection before the rundown was over");
    }
}

pub(super) unsafe extern "system" fn ex_acquire_rundown_protection(reference: &AtomicUsize) -> u8 {
    let enter = |count: usize| (count & CLOSED == 0).then(|| count + ONE);
    u8::from(reference.fetch_update(SeqCst, SeqCst, enter).is_ok())
}

pub(super) unsafe extern "system" fn ex_release_rundown_protection(reference: &AtomicUsize) {
    if reference.fetch_sub(ONE, SeqCst) < ONE {
        broken!("ExReleaseRundownProtection without an acquisition");
    }
}

pub(super) unsafe extern "system" fn ex_wait_for_rundown_protection_release(
    reference: &AtomicUsize,
) {
    let level = irql::current();
    if level > irql::APC {
        broken!("ExWaitForRundownProtectionRelease at IRQL {level}");
    }
    reference.fetch_or(CLOSED, SeqCst);
    while reference.load(SeqCst) != CLOSED {
        // SAFETY: no requirements.
        unsafe { Sleep(1) };
    }
}

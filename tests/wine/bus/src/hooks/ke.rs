//! IRQL, spin locks, waits, time, timers.

use windows_sys::Wdk::System::SystemServices::{KeDelayExecutionThread, KeWaitForSingleObject};

use super::Hook;
use crate::{
    clock,
    deferred::{self, Dpc},
    irql,
    nt::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, Ptr, Status},
    report::broken,
};

pub(super) fn hooks() -> [Hook; 9] {
    [
        (
            "KeAcquireSpinLockRaiseToDpc",
            ke_acquire_spin_lock_raise_to_dpc as *const (),
        ),
        ("KeReleaseSpinLock", ke_release_spin_lock as *const ()),
        (
            "KeWaitForSingleObject",
            ke_wait_for_single_object as *const (),
        ),
        (
            "KeDelayExecutionThread",
            ke_delay_execution_thread as *const (),
        ),
        (
            "KeStallExecutionProcessor",
            ke_stall_execution_processor as *const (),
        ),
        (
            "KeQueryUnbiasedInterruptTime",
            ke_query_unbiased_interrupt_time as *const (),
        ),
        ("KeSetTimer", ke_set_timer as *const ()),
        ("KeCancelTimer", ke_cancel_timer as *const ()),
        ("KeFlushQueuedDpcs", ke_flush_queued_dpcs as *const ()),
    ]
}

unsafe extern "system" fn ke_acquire_spin_lock_raise_to_dpc(lock: *mut usize) -> u8 {
    let before = irql::set(irql::DISPATCH);
    if before > irql::DISPATCH {
        broken!("a spin lock acquired at IRQL {before}");
    }
    // SAFETY: the driver's lock.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    before
}

unsafe extern "system" fn ke_release_spin_lock(lock: *mut usize, before: u8) {
    let level = irql::current();
    if level != irql::DISPATCH {
        broken!("a spin lock released at IRQL {level}");
    }
    // SAFETY: the driver's lock.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    irql::set(before);
}

unsafe extern "system" fn ke_wait_for_single_object(
    object: *const core::ffi::c_void,
    reason: i32,
    mode: i8,
    alertable: bool,
    timeout: *const i64,
) -> Status {
    let level = irql::current();
    // SAFETY: null or the driver's.
    let looks_only = unsafe { timeout.as_ref() } == Some(&0);
    if level > irql::APC && !(looks_only && level == irql::DISPATCH) {
        broken!("KeWaitForSingleObject at IRQL {level}");
    }
    // SAFETY: as the driver called it.
    unsafe { KeWaitForSingleObject(object, reason, mode, alertable, timeout) }
}

unsafe extern "system" fn ke_delay_execution_thread(
    mode: i8,
    alertable: bool,
    interval: *const i64,
) -> Status {
    let level = irql::current();
    if level > irql::APC {
        broken!("KeDelayExecutionThread at IRQL {level}");
    }
    // SAFETY: as the driver called it.
    unsafe { KeDelayExecutionThread(mode, alertable, interval) }
}

unsafe extern "system" fn ke_stall_execution_processor(microseconds: u32) {
    clock::busy_until(clock::now() + u64::from(microseconds) * 1000);
}

unsafe extern "system" fn ke_query_unbiased_interrupt_time() -> u64 {
    clock::now() / 100
}

unsafe extern "system" fn ke_set_timer(timer: Ptr, due: i64, dpc: *mut Dpc) -> u8 {
    let Ok(ticks) = u64::try_from(due.saturating_neg()) else {
        broken!("KeSetTimer with an absolute time, which is not provided");
        return 0;
    };
    u8::from(deferred::set_timer(
        timer.addr(),
        clock::now() + ticks * 100,
        dpc.addr(),
    ))
}

unsafe extern "system" fn ke_cancel_timer(timer: Ptr) -> u8 {
    u8::from(deferred::cancel_timer(timer.addr()))
}

unsafe extern "system" fn ke_flush_queued_dpcs() {
    let level = irql::current();
    if level > irql::PASSIVE {
        broken!("KeFlushQueuedDpcs at IRQL {level}");
    }
    deferred::flush();
}

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

pub(super) fn hooks() -> [Hook; 14] {
    [
        ("KfRaiseIrql", kf_raise_irql as *const ()),
        ("KeLowerIrql", ke_lower_irql as *const ()),
        ("ExAllocateTimer", ex_allocate_timer as *const ()),
        ("ExSetTimer", ex_set_timer as *const ()),
        ("ExDeleteTimer", ex_delete_timer as *const ()),
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

unsafe extern "system" fn kf_raise_irql(level: u8) -> u8 {
    let before = irql::set(level);
    if before > level {
        broken!("KfRaiseIrql({level}) at IRQL {before}");
    }
    before
}

unsafe extern "system" fn ke_lower_irql(level: u8) {
    let before = irql::set(level);
    if before < level {
        broken!("KeLowerIrql({level}) at IRQL {before}");
    }
}

/// An `EX_TIMER` is a `KTIMER` of Wine's here, which threads can wait for, too.
unsafe extern "system" fn ex_allocate_timer(
    _callback: Ptr,
    _context: Ptr,
    _attributes: u32,
) -> Ptr {
    /// `SynchronizationTimer`
    const SYNCHRONIZATION: i32 = 1;
    let timer: Ptr = alloc::boxed::Box::into_raw(alloc::boxed::Box::new([0_u64; 16])).cast();
    // SAFETY: room for a KTIMER, which stays where it is.
    unsafe { KeInitializeTimerEx(timer, SYNCHRONIZATION) };
    timer
}

unsafe extern "system" fn ex_set_timer(
    timer: Ptr,
    due: i64,
    _period: i64,
    _parameters: Ptr,
) -> bool {
    // SAFETY: the driver's timer.
    unsafe { KeSetTimerEx(timer, due, 0, core::ptr::null_mut()) }
}

unsafe extern "system" fn ex_delete_timer(
    timer: Ptr,
    _cancel: bool,
    _wait: bool,
    _parameters: Ptr,
) -> bool {
    // SAFETY: the driver's timer. Its memory is left: Wine may look at it once more.
    unsafe { KeCancelTimer(timer) }
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn KeInitializeTimerEx(timer: Ptr, kind: i32);
    fn KeSetTimerEx(timer: Ptr, due: i64, period: i32, dpc: Ptr) -> bool;
    fn KeCancelTimer(timer: Ptr) -> bool;
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

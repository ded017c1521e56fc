//! IRQL, spin locks, waits, time, timers.

use alloc::boxed::Box;

use windows_sys::Wdk::{
    Foundation::KEVENT,
    System::SystemServices::{
        KeDelayExecutionThread, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject,
    },
};

use crate::{
    clock,
    deferred::{self, Dpc},
    irql,
    nt::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, Ptr, Status},
    report::broken,
};

pub(super) unsafe extern "system" fn kf_raise_irql(level: u8) -> u8 {
    let before = irql::set(level);
    if before > level {
        broken!("KfRaiseIrql({level}) at IRQL {before}");
    }
    before
}

pub(super) unsafe extern "system" fn ke_lower_irql(level: u8) {
    let before = irql::set(level);
    if before < level {
        broken!("KeLowerIrql({level}) at IRQL {before}");
    }
}

/// An `EX_TIMER`: an event that threads wait for, and a DPC that sets it. A `KTIMER` of Wine's holds
/// the lock of all waits while it waits for the end of its own callback, which wants the lock.
#[repr(C)]
pub(super) struct ExTimer {
    event: KEVENT,
    dpc: Dpc,
}

unsafe extern "system" fn ex_timer_is_due(_dpc: *mut Dpc, event: Ptr, _first: Ptr, _second: Ptr) {
    // SAFETY: the timer's event: it is freed once no DPC runs.
    unsafe { KeSetEvent(event.cast(), 0, false) };
}

pub(super) unsafe extern "system" fn ex_allocate_timer(
    _callback: Ptr,
    _context: Ptr,
    _attributes: u32,
) -> *mut ExTimer {
    /// `SynchronizationEvent`
    const SYNCHRONIZATION: i32 = 1;
    let timer = Box::into_raw(Box::new(ExTimer {
        // SAFETY: zeros are a KEVENT that is to be initialised.
        event: unsafe { core::mem::zeroed() },
        dpc: Dpc::new(ex_timer_is_due, core::ptr::null_mut()),
    }));
    // SAFETY: just allocated.
    let event = unsafe { &raw mut (*timer).event };
    // SAFETY: just allocated.
    unsafe { (*timer).dpc = Dpc::new(ex_timer_is_due, event.cast()) };
    // SAFETY: it stays where it is.
    unsafe { KeInitializeEvent(event, SYNCHRONIZATION, false) };
    timer
}

pub(super) unsafe extern "system" fn ex_set_timer(
    timer: *mut ExTimer,
    due: i64,
    _period: i64,
    _parameters: Ptr,
) -> bool {
    let was_set = deferred::cancel_timer(timer.addr());
    // SAFETY: the driver's timer.
    unsafe { KeResetEvent((&raw mut (*timer).event).cast()) };
    // SAFETY: the driver's timer.
    let dpc = unsafe { &raw mut (*timer).dpc };
    // SAFETY: as the driver called it; no period.
    unsafe { ke_set_timer(timer.cast(), due, dpc) };
    was_set
}

pub(super) unsafe extern "system" fn ex_delete_timer(
    timer: *mut ExTimer,
    _cancel: bool,
    _wait: bool,
    _parameters: Ptr,
) -> bool {
    let was_set = deferred::cancel_timer(timer.addr());
    deferred::flush();
    // SAFETY: allocated above, and its DPC runs no more.
    drop(unsafe { Box::from_raw(timer) });
    was_set
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn KeResetEvent(event: Ptr) -> i32;
}

pub(super) unsafe extern "system" fn ke_acquire_spin_lock_raise_to_dpc(lock: *mut usize) -> u8 {
    let before = irql::set(irql::DISPATCH);
    if before > irql::DISPATCH {
        broken!("a spin lock acquired at IRQL {before}");
    }
    // SAFETY: the driver's lock.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    before
}

pub(super) unsafe extern "system" fn ke_release_spin_lock(lock: *mut usize, before: u8) {
    let level = irql::current();
    if level != irql::DISPATCH {
        broken!("a spin lock released at IRQL {level}");
    }
    // SAFETY: the driver's lock.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    irql::set(before);
}

pub(super) unsafe extern "system" fn ke_wait_for_single_object(
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

pub(super) unsafe extern "system" fn ke_delay_execution_thread(
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

pub(super) unsafe extern "system" fn ke_stall_execution_processor(microseconds: u32) {
    clock::busy_until(clock::now() + u64::from(microseconds) * 1000);
}

pub(super) unsafe extern "system" fn ke_query_unbiased_interrupt_time() -> u64 {
    clock::now() / 100
}

pub(super) unsafe extern "system" fn ke_set_timer(timer: Ptr, due: i64, dpc: *mut Dpc) -> u8 {
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

pub(super) unsafe extern "system" fn ke_cancel_timer(timer: Ptr) -> u8 {
    u8::from(deferred::cancel_timer(timer.addr()))
}

pub(super) unsafe extern "system" fn ke_flush_queued_dpcs() {
    let level = irql::current();
    if level > irql::PASSIVE {
        broken!("KeFlushQueuedDpcs at IRQL {level}");
    }
    deferred::flush();
}

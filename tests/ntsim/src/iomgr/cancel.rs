//! Cancellation, and requests that stay too long after it.

use super::{DEVICE_CONTROL, INTERNAL_DEVICE_CONTROL, READ, Record, WRITE};
use crate::mem::Va;
use crate::nt::types::Irp;
use crate::nt::{guest, ke};
use crate::rules;
use crate::state::{DriverId, Kernel, fail, with};

/// Reads, writes and control requests that a driver has now and did not make.
pub(crate) fn requests_of(k: &Kernel, driver: DriverId) -> Vec<Va> {
    let has = |r: &Record| {
        r.done.is_none()
            && r.owner != Some(driver)
            && r.frames
                .iter()
                .rev()
                .find(|f| f.left.is_none())
                .is_some_and(|f| {
                    let cancels = matches!(
                        f.major,
                        READ | WRITE | DEVICE_CONTROL | INTERNAL_DEVICE_CONTROL
                    );
                    f.driver == driver && cancels
                })
    };
    let irps = k.io.irps.iter().filter(|(_, r)| has(r));
    irps.map(|(irp, _)| *irp).collect()
}

/// `IoCancelIrp`, and `NtCancelIoFileEx` for one request.
pub(crate) fn cancel(irp: Va) -> bool {
    if with(|k| k.io.is_done(irp)) {
        return false;
    }
    let old = ke::acquire_cancel();
    // It may have been completed while this thread waited for the lock.
    if with(|k| k.io.is_done(irp)) {
        ke::release_cancel(old);
        return false;
    }
    let i = Irp(irp);
    i.set_cancel(1);
    with(|k| {
        let now = k.now;
        if let Some(r) = k.io.irps.get_mut(&irp) {
            r.cancelled.get_or_insert(now);
        }
    });
    let routine = i.cancel_routine();
    i.set_cancel_routine(0);
    if routine == 0 {
        ke::release_cancel(old);
        return false;
    }
    i.set_cancel_irql(old);
    let device = i.sl().device();
    guest(routine, &[device, irp]);
    let now = ke::current_irql();
    let lock = with(|k| k.ke.cancel_lock);
    let held = with(|k| k.sched.thread().locks.iter().any(|l| l.lock == lock));
    if held {
        fail(
            rules::LOCK_HELD_RETURN,
            "cancel routine returned without IoReleaseCancelSpinLock",
        );
    }
    if now != old {
        fail(
            rules::IRQL_CHANGED,
            format!("cancel routine returned at IRQL {now}, should be {old}"),
        );
    }
    true
}

/// Cancelled IRPs that should have been completed by now [I8].
pub(crate) fn overdue(k: &Kernel) -> Option<u64> {
    k.io.irps
        .values()
        .find(|r| {
            r.is_out()
                && r.cancelled
                    .is_some_and(|at| k.now > at + k.config.cancel_timeout)
        })
        .map(|r| r.serial)
}

/// Whether a cancelled IRP still is somewhere.
pub(crate) fn cancelled_left(k: &Kernel) -> bool {
    k.io.irps
        .values()
        .any(|r| r.is_out() && r.cancelled.is_some())
}

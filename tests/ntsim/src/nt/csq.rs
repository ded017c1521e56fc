//! Cancel-safe queues, as their page describes them: the driver's callbacks keep the list, these
//! functions own the protocol around the cancel routine.
//!
//! `IO_CSQ`: Type 0, `InsertIrp` 8, `RemoveIrp` 0x10, `PeekNextIrp` 0x18, `AcquireLock` 0x20,
//! `ReleaseLock` 0x28, `CompleteCanceledIrp` 0x30. `IO_CSQ_IRP_CONTEXT`: Type 0, Irp 8, Csq 0x10.

use super::guest;
use super::types::Irp;
use crate::NtStatus;
use crate::mem::{Va, peek, poke};
use crate::state::{Kernel, status_of, with};

const TYPE_CONTEXT: u32 = 1;
pub(super) const TYPE_CSQ: u32 = 2;
pub(super) const TYPE_CSQ_EX: u32 = 3;

/// `IoCsqInitialize` and `IoCsqInitializeEx`, by the `Type` that they give the queue. Their pages
/// let them fail.
pub(super) extern "efiapi" fn initialize<const KIND: u32>(
    csq: Va,
    insert: Va,
    remove: Va,
    peek_next: Va,
    acquire: Va,
    release: Va,
    complete: Va,
) -> i32 {
    if with(Kernel::take_injection) {
        return NtStatus::INSUFFICIENT_RESOURCES.raw();
    }
    poke(csq, KIND);
    let callbacks = [insert, remove, peek_next, acquire, release, complete];
    for (i, callback) in callbacks.iter().enumerate() {
        poke(csq + 8 + 8 * i, *callback);
    }
    poke(csq + 0x38, 0_usize);
    0
}

fn callback(csq: Va, at: usize, args: &[usize]) -> usize {
    guest(peek(csq + at), args)
}

/// The driver's lock, held over `f`. The callbacks get a place for the old IRQL.
fn locked<R>(csq: Va, f: impl FnOnce() -> R) -> R {
    let mut irql = [0_u64; 1];
    let place = irql.as_mut_ptr().expose_provenance();
    callback(csq, 0x20, &[csq, place]);
    let result = f();
    let old: u8 = peek(place);
    callback(csq, 0x28, &[csq, usize::from(old)]);
    result
}

/// The queue that an IRP is in.
fn csq_of(irp: Irp) -> Va {
    let at = irp.csq_context();
    if peek::<u32>(at) == TYPE_CONTEXT {
        peek(at + 0x10)
    } else {
        at
    }
}

/// Takes the IRP out; the lock is held.
fn unlink(csq: Va, irp: Irp) {
    let context = irp.csq_context();
    callback(csq, 0x10, &[csq, irp.0]);
    if peek::<u32>(context) == TYPE_CONTEXT {
        poke(context + 8, 0_usize);
    }
    irp.set_csq_context(0);
}

extern "efiapi" fn cancel_routine(_device: Va, irp: Va) {
    let irp = Irp(irp);
    super::ke::release_cancel(irp.cancel_irql());
    let csq = csq_of(irp);
    locked(csq, || unlink(csq, irp));
    callback(csq, 0x30, &[csq, irp.0]);
}

/// Inserts; gives the insert callback's status.
fn insert(csq: Va, irp: Irp, context: Va, insert_context: usize) -> i32 {
    let own = if context == 0 { csq } else { context };
    if context != 0 {
        poke(context, TYPE_CONTEXT);
        poke(context + 8, irp.0);
        poke(context + 0x10, csq);
    }
    let (status, cancelled) = locked(csq, || {
        irp.set_csq_context(own);
        let status = if peek::<u32>(csq) == TYPE_CSQ_EX {
            status_of(callback(csq, 8, &[csq, irp.0, insert_context]))
        } else {
            callback(csq, 8, &[csq, irp.0]);
            NtStatus::SUCCESS
        };
        let sl = irp.sl();
        if !status.is_success() {
            irp.set_csq_context(0);
            // No page says what becomes of a mark that the driver has made before.
            sl.set_control(sl.control() & !super::types::SL_PENDING_RETURNED);
            return (status, false);
        }
        sl.set_control(sl.control() | super::types::SL_PENDING_RETURNED);
        irp.set_cancel_routine(cancel_routine as *const () as usize);
        // Cancelled before the routine was there: the thread that takes the routine out owns the IRP.
        let cancelled = irp.cancel() != 0 && irp.cancel_routine() != 0;
        if cancelled {
            irp.set_cancel_routine(0);
            unlink(csq, irp);
        }
        (status, cancelled)
    });
    if cancelled {
        callback(csq, 0x30, &[csq, irp.0]);
    }
    status.raw()
}

pub(super) extern "efiapi" fn io_csq_insert_irp(csq: Va, irp: Va, context: Va) {
    insert(csq, Irp(irp), context, 0);
}

pub(super) extern "efiapi" fn io_csq_insert_irp_ex(
    csq: Va,
    irp: Va,
    context: Va,
    insert_context: usize,
) -> i32 {
    insert(csq, Irp(irp), context, insert_context)
}

pub(super) extern "efiapi" fn io_csq_remove_irp(csq: Va, context: Va) -> Va {
    locked(csq, || {
        let irp: Va = peek(context + 8);
        if irp == 0 {
            return 0;
        }
        let irp = Irp(irp);
        if irp.cancel_routine() == 0 {
            // Its cancel routine is on its way.
            return 0;
        }
        irp.set_cancel_routine(0);
        unlink(csq, irp);
        irp.0
    })
}

pub(super) extern "efiapi" fn io_csq_remove_next_irp(csq: Va, peek_context: usize) -> Va {
    locked(csq, || {
        let mut irp = callback(csq, 0x18, &[csq, 0, peek_context]);
        while irp != 0 {
            let candidate = Irp(irp);
            if candidate.cancel_routine() != 0 {
                candidate.set_cancel_routine(0);
                unlink(csq, candidate);
                return irp;
            }
            irp = callback(csq, 0x18, &[csq, irp, peek_context]);
        }
        0
    })
}

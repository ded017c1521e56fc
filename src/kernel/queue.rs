use core::{
    cell::UnsafeCell,
    mem::offset_of,
    ptr::{self, NonNull},
};

use wdk_sys::{
    IO_CSQ, IO_REMOVE_LOCK, IRP, KIRQL, KSPIN_LOCK, LIST_ENTRY, NTSTATUS, PIO_CSQ, PIRP, PKIRQL,
    PVOID,
    ntddk::{
        IoCsqInitializeEx, IoCsqInsertIrpEx, IoCsqRemoveNextIrp, KeAcquireSpinLockRaiseToDpc,
        KeReleaseSpinLock,
    },
};

use super::{
    Device, Disposition, Irp, Role, check,
    irp::{FileId, current_slot},
    pool::PoolBox,
};
use crate::ioctl::Status;

/// A cancel-safe FIFO of IRPs, on the kernel's own `IoCsq` functions.
///
/// A queued IRP that is cancelled leaves the queue at once, with `STATUS_CANCELLED`. A closed
/// queue refuses every IRP with the status that it was closed with.
pub(super) struct Queue(PoolBox<UnsafeCell<Inner>>);

#[repr(C)]
struct Inner {
    /// First, for the callbacks are given its address.
    csq: IO_CSQ,
    lock: KSPIN_LOCK,
    list: LIST_ENTRY,
    /// What an insertion answers: success while the queue is open.
    refusal: NTSTATUS,
    remove_lock: NonNull<IO_REMOVE_LOCK>,
}

// SAFETY: everything is accessed under the queue's spin lock.
unsafe impl Send for Queue {}
// SAFETY: likewise.
unsafe impl Sync for Queue {}

impl Queue {
    /// A closed queue for the IRPs of `device`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        let queue = PoolBox::try_new(UnsafeCell::new(Inner {
            csq: IO_CSQ::default(),
            lock: 0,
            list: LIST_ENTRY::default(),
            refusal: Status::DEVICE_NOT_READY.0,
            remove_lock: device.remove_lock(),
        }))?;
        let inner = queue.get();
        // SAFETY: a place in live memory; nothing is read.
        let list = unsafe { &raw mut (*inner).list };
        let empty = LIST_ENTRY {
            Flink: list,
            Blink: list,
        };
        // SAFETY: InitializeListHead; the box does not move.
        unsafe { list.write(empty) };
        // SAFETY: nonpaged storage that outlives the queue's use.
        check(unsafe {
            IoCsqInitializeEx(
                inner.cast(),
                Some(insert),
                Some(remove),
                Some(peek_next),
                Some(acquire_lock),
                Some(release_lock),
                Some(complete_canceled),
            )
        })?;
        Ok(Self(queue))
    }

    fn csq(&self) -> PIO_CSQ {
        self.0.get().cast()
    }

    /// What the queue answers from now on: `None` opens it, a status closes it. What is in it
    /// stays.
    pub(super) fn set_refusal(&self, refusal: Option<Status>) {
        let mut irql = 0;
        // SAFETY: the queue is initialised.
        unsafe { acquire_lock(self.csq(), &raw mut irql) };
        // SAFETY: under the lock.
        unsafe { (*self.0.get()).refusal = refusal.unwrap_or(Status::SUCCESS).0 };
        // SAFETY: acquired above.
        unsafe { release_lock(self.csq(), irql) };
    }

    /// Queues the IRP, which is pending from now on. At <= `DISPATCH_LEVEL`.
    pub(super) fn insert(&self, irp: Irp) -> Disposition {
        let pending = irp.mark_pending();
        let lock = irp.remove_lock();
        let raw = irp.put_aside();
        // SAFETY: ours until the call; then the queue's, if it took it.
        let status =
            unsafe { IoCsqInsertIrpEx(self.csq(), raw.as_ptr(), ptr::null_mut(), ptr::null_mut()) };
        if let Err(refusal) = check(status) {
            // SAFETY: the queue did not take it.
            let irp = unsafe { Irp::resume(raw, lock) };
            let _ = irp.complete(refusal);
        }
        pending
    }

    /// The oldest IRP, of `file` only if one is named.
    pub(super) fn next(&self, file: Option<FileId>) -> Option<Irp> {
        let context = file.map_or(ptr::null_mut(), |file| file.0);
        // SAFETY: the queue is initialised.
        let irp = NonNull::new(unsafe { IoCsqRemoveNextIrp(self.csq(), context.cast()) })?;
        // SAFETY: set when the queue was made, and not changed.
        let lock = unsafe { (*self.0.get()).remove_lock };
        // SAFETY: `insert` put it aside, and it is ours again.
        Some(unsafe { Irp::resume(irp, lock) })
    }
}

/// The list entry that belongs to whoever owns the IRP.
///
/// # Safety
/// `irp` is a live IRP; nothing is read.
unsafe fn entry_of(irp: PIRP) -> *mut LIST_ENTRY {
    // SAFETY: the caller's promise.
    unsafe { &raw mut (*irp).Tail.Overlay.__bindgen_anon_2.ListEntry }
}

/// The IRP that a list entry is part of.
fn irp_of(entry: *mut LIST_ENTRY) -> PIRP {
    entry
        .cast::<u8>()
        .wrapping_sub(offset_of!(IRP, Tail.Overlay.__bindgen_anon_2.ListEntry))
        .cast()
}

// The callbacks: `insert`, `remove` and `peek_next` run under the lock.

unsafe extern "C" fn insert(csq: PIO_CSQ, irp: PIRP, _context: PVOID) -> NTSTATUS {
    // SAFETY: a Csq of ours is the first member of an Inner, and its lock is held.
    let inner = unsafe { &mut *csq.cast::<Inner>() };
    if !wdk::nt_success(inner.refusal) {
        return inner.refusal;
    }
    // SAFETY: the IRP is being queued: its list entry is ours.
    let entry = unsafe { entry_of(irp) };
    let last = inner.list.Blink;
    let links = LIST_ENTRY {
        Flink: &raw mut inner.list,
        Blink: last,
    };
    // SAFETY: InsertTailList.
    unsafe { entry.write(links) };
    // SAFETY: an entry of the list, or its head.
    unsafe { (*last).Flink = entry };
    inner.list.Blink = entry;
    inner.refusal
}

unsafe extern "C" fn remove(_csq: PIO_CSQ, irp: PIRP) {
    // SAFETY: the IRP is in the list.
    let entry = unsafe { entry_of(irp) };
    // SAFETY: likewise.
    let entry = unsafe { entry.read() };
    // SAFETY: RemoveEntryList: its neighbours are entries of the list, or its head.
    unsafe { (*entry.Blink).Flink = entry.Flink };
    // SAFETY: likewise.
    unsafe { (*entry.Flink).Blink = entry.Blink };
}

unsafe extern "C" fn peek_next(csq: PIO_CSQ, irp: PIRP, context: PVOID) -> PIRP {
    // SAFETY: as in `insert`.
    let inner = unsafe { &mut *csq.cast::<Inner>() };
    let head = &raw mut inner.list;
    let mut entry = if irp.is_null() {
        inner.list.Flink
    } else {
        // SAFETY: the IRP is in the list.
        let place = unsafe { entry_of(irp) };
        // SAFETY: likewise.
        unsafe { (*place).Flink }
    };
    while entry != head {
        let irp = irp_of(entry);
        let Some(slot) = NonNull::new(irp).map(current_slot) else {
            break;
        };
        // SAFETY: an IRP in the list is live and has a current stack location.
        let stack = unsafe { slot.read() };
        // SAFETY: likewise.
        let file = unsafe { (*stack).FileObject };
        if context.is_null() || context == file.cast() {
            return irp;
        }
        // SAFETY: an entry of the list.
        entry = unsafe { (*entry).Flink };
    }
    ptr::null_mut()
}

unsafe extern "C" fn acquire_lock(csq: PIO_CSQ, irql: PKIRQL) {
    // SAFETY: a Csq of ours; nothing is read.
    let lock = unsafe { &raw mut (*csq.cast::<Inner>()).lock };
    // SAFETY: nonpaged, initialised; <= DISPATCH_LEVEL.
    let before = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
    // SAFETY: the caller's variable.
    unsafe { irql.write(before) };
}

unsafe extern "C" fn release_lock(csq: PIO_CSQ, irql: KIRQL) {
    // SAFETY: a Csq of ours; nothing is read.
    let lock = unsafe { &raw mut (*csq.cast::<Inner>()).lock };
    // SAFETY: acquired by `acquire_lock`.
    unsafe { KeReleaseSpinLock(lock, irql) };
}

unsafe extern "C" fn complete_canceled(csq: PIO_CSQ, irp: PIRP) {
    if let Some(irp) = NonNull::new(irp) {
        // SAFETY: a Csq of ours; the member does not change.
        let lock = unsafe { (*csq.cast::<Inner>()).remove_lock };
        // SAFETY: the queue gave the IRP up to us.
        let irp = unsafe { Irp::resume(irp, lock) };
        let _ = irp.complete(Status::CANCELLED);
    }
}

//! Queues of IRPs that cancellation cannot harm.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use wdk_sys::{
    IO_CSQ, IRP, KIRQL, KSPIN_LOCK, LIST_ENTRY, NTSTATUS, PIO_CSQ, PIRP, PKIRQL, PVOID,
    ntddk::{
        IoCsqInitializeEx, IoCsqInsertIrpEx, IoCsqRemoveNextIrp, KeAcquireSpinLockRaiseToDpc,
        KeReleaseSpinLock,
    },
};

use crate::ioctl::Status;
use crate::kernel::{
    Device, Disposition, Irp, Role, check,
    device::RemoveLock,
    irp::{FileId, current_slot},
    open::OpenRef,
    pool::PoolBox,
};

/// A cancel-safe FIFO of IRPs, each with what it carries, on the kernel's own `IoCsq` functions,
/// and what `S` keeps under the same lock.
///
/// A queued IRP that is cancelled leaves the queue at once, with `STATUS_CANCELLED`.
pub(in crate::kernel) struct Queue<S: Admission>(PoolBox<QueueState<S>>);

#[repr(C)]
struct QueueState<S: Admission> {
    /// First, for the callbacks are given its address.
    links: Links,
    state: UnsafeCell<S>,
    aside: S::Aside,
}

/// What the callbacks use, whatever the queue keeps besides. Other processors spin on the lock
/// while one uses what it guards, so each member is a place of its own and no reference spans two.
#[repr(C)]
struct Links {
    csq: UnsafeCell<IO_CSQ>,
    lock: UnsafeCell<KSPIN_LOCK>,
    list: UnsafeCell<LIST_ENTRY>,
    /// Changed under the lock; looked at without it, too.
    length: AtomicU32,
    /// The IRP that [`Pick::ToServe`] has found last, while its call lasts.
    found: UnsafeCell<PIRP>,
    remove_lock: RemoveLock,
}

impl Links {
    /// The links that a callback of the `IoCsq` functions is about.
    ///
    /// # Safety
    /// `csq` is that of a queue, which lives as long as the reference is used.
    unsafe fn of<'a>(csq: PIO_CSQ) -> &'a Self {
        // SAFETY: `Queue::csq` made the pointer of a QueueState, which begins with its links.
        unsafe { &*csq.cast::<Self>() }
    }
}

/// What a queue keeps under its lock.
pub(in crate::kernel) trait Admission: Send + 'static {
    /// What is known of an arriving IRP, and what became of it.
    type Arriving;

    /// What travels with an IRP through the queue: its request as dispatch has parsed it. It is in
    /// the IRP itself, so it has no more than [`CARRIED_BYTES`], and needs no memory.
    type Carried: Send + 'static;

    /// What is used beside the lock, too.
    type Aside: Sync;

    /// How many may wait: of another the status is `STATUS_INVALID_DEVICE_STATE`.
    const MOST: u32 = u32::MAX;

    /// Whether an IRP may queue. Under the lock.
    ///
    /// # Errors
    /// It may not: the IRP goes back to its sender's thread, with the status.
    fn admit(
        &mut self,
        arrival: &mut Self::Arriving,
        carried: &mut Self::Carried,
    ) -> Result<(), Status>;

    /// An IRP that came through this open leaves the queue by [`Pick::ToServe`]. Under the lock.
    fn taken(_aside: &Self::Aside, _file: FileId) {}

    /// The ticket of a queued IRP, where IRPs are taken out by tickets ([`Pick::Before`]). Tickets
    /// rise.
    fn ticket(_carried: &Self::Carried) -> u64 {
        0
    }
}

/// Whether a request of a program's open may queue; of others it may. The thread that cleans the
/// open up notes that first and empties the queue then: a request either is in the queue by then,
/// or sees the note.
///
/// # Errors
/// `STATUS_CANCELLED`: the open was cleaned up while the request was on its way.
pub(in crate::kernel) fn admit_of(program: Option<OpenRef>) -> Result<(), Status> {
    match program {
        Some(open) if open.is_cleaned_up() => Err(Status::CANCELLED),
        _ => Ok(()),
    }
}

/// Which IRP to take out of a queue: the oldest one that meets a condition.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum Pick {
    /// None.
    Oldest,
    /// None, and [`Admission::taken`] is told of it.
    ToServe,
    /// It came through this open.
    Of(FileId),
    /// Its ticket is lower.
    Before(u64),
}

// SAFETY: everything is accessed under the queue's spin lock.
unsafe impl<S: Admission<Aside: Send>> Send for Queue<S> {}
// SAFETY: likewise; what is aside may be used by several threads.
unsafe impl<S: Admission> Sync for Queue<S> {}

impl<S: Admission> Queue<S> {
    /// A queue for the IRPs of `device`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn try_new<R: Role>(
        device: Device<'_, R>,
        state: S,
        aside: S::Aside,
    ) -> Result<Self, Status> {
        let queue = Self(PoolBox::try_new(QueueState {
            links: Links {
                csq: UnsafeCell::new(IO_CSQ::default()),
                lock: UnsafeCell::new(0),
                list: UnsafeCell::new(LIST_ENTRY::default()),
                length: AtomicU32::new(0),
                found: UnsafeCell::new(ptr::null_mut()),
                remove_lock: device.remove_lock(),
            },
            state: UnsafeCell::new(state),
            aside,
        })?);
        let list = queue.0.links.list.get();
        let empty = LIST_ENTRY {
            Flink: list,
            Blink: list,
        };
        // SAFETY: InitializeListHead; the box does not move.
        unsafe { list.write(empty) };
        // SAFETY: nonpaged storage that outlives the queue's use.
        check(unsafe {
            IoCsqInitializeEx(
                queue.csq(),
                Some(insert::<S>),
                Some(remove::<S>),
                Some(peek_next::<S>),
                Some(acquire_lock),
                Some(release_lock),
                Some(complete_canceled::<S>),
            )
        })?;
        Ok(queue)
    }

    fn csq(&self) -> PIO_CSQ {
        // Of the whole, for the callbacks reach the other members by it.
        ptr::from_ref(&*self.0).cast_mut().cast()
    }

    /// Runs `section` on what the queue keeps, under its lock, at `DISPATCH_LEVEL`; it can look at
    /// the IRPs. As for [`SpinLock::with`](crate::kernel::SpinLock::with), it must not block or
    /// complete a request.
    pub(in crate::kernel) fn with<T>(
        &self,
        section: impl FnOnce(&mut S, Queued<'_, S>) -> T + Send,
    ) -> T {
        let mut irql = 0;
        // SAFETY: the queue is initialised.
        unsafe { acquire_lock(self.csq(), &raw mut irql) };
        let queued = Queued {
            links: &self.0.links,
            admission: PhantomData,
        };
        // SAFETY: under the lock, so this is the only reference.
        let result = section(unsafe { &mut *self.0.state.get() }, queued);
        // SAFETY: acquired above.
        unsafe { release_lock(self.csq(), irql) };
        result
    }

    /// What is used beside the lock, too.
    pub(in crate::kernel) fn aside(&self) -> &S::Aside {
        &self.0.aside
    }

    /// Whether there is no IRP. One that arrives meanwhile may be missed: the thread that serves
    /// the queue is woken after its arrival.
    pub(in crate::kernel) fn is_empty(&self) -> bool {
        self.0.links.length.load(Ordering::Relaxed) == 0
    }

    /// Queues the IRP, which is pending from now on. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// It may not queue. It is pending all the same, which its end says.
    pub(in crate::kernel) fn insert(
        &self,
        irp: Irp,
        arrival: &mut S::Arriving,
        carried: S::Carried,
    ) -> Result<Disposition, (Irp, S::Carried, Status)> {
        let pending = irp.mark_pending();
        let lock = irp.remove_lock();
        let raw = irp.into_raw();
        let place = carried_by::<S>(raw.as_ptr());
        // SAFETY: the words belong to the owner of the IRP, which is ours.
        unsafe { place.write(carried) };
        // SAFETY: ours until the call; then the queue's, if it took it.
        let status = unsafe {
            IoCsqInsertIrpEx(
                self.csq(),
                raw.as_ptr(),
                ptr::null_mut(),
                ptr::from_mut(arrival).cast(),
            )
        };
        match check(status) {
            Ok(()) => Ok(pending),
            Err(refusal) => {
                // SAFETY: the queue did not take it, so what it carries is still there.
                let carried = unsafe { place.read() };
                // SAFETY: likewise.
                let irp = unsafe { Irp::resume(raw, lock) };
                // No page says that the mark outlives the refusal.
                let _ = irp.mark_pending();
                Err((irp, carried, refusal))
            }
        }
    }

    /// Completes every IRP that `pick` means, one after the other, with `status`. At
    /// <= `DISPATCH_LEVEL`, without a lock.
    pub(in crate::kernel) fn end_all(&self, pick: Pick, status: Status) {
        while let Some((irp, _carried)) = self.next(pick) {
            let _ = irp.complete(status);
        }
    }

    /// Takes an IRP out of the queue, with what it carries.
    #[inline]
    pub(in crate::kernel) fn next(&self, mut pick: Pick) -> Option<(Irp, S::Carried)> {
        let context = (&raw mut pick).cast();
        // SAFETY: the queue is initialised; the context lives as long as the call.
        let irp = NonNull::new(unsafe { IoCsqRemoveNextIrp(self.csq(), context) })?;
        // SAFETY: `insert` put it aside, and it is ours again, with what it carries.
        let carried = unsafe { carried_by::<S>(irp.as_ptr()).read() };
        // SAFETY: likewise.
        let irp = unsafe { Irp::resume(irp, self.0.links.remove_lock) };
        Some((irp, carried))
    }
}

/// The IRPs in a queue whose lock is held.
pub(in crate::kernel) struct Queued<'a, S> {
    links: &'a Links,
    admission: PhantomData<fn() -> S>,
}

impl<S: Admission> Queued<'_, S> {
    /// How many there are.
    pub(in crate::kernel) fn count(&self) -> u32 {
        self.links.length.load(Ordering::Relaxed)
    }

    /// Whether there is one that is not being cancelled.
    pub(in crate::kernel) fn is_any(&self) -> bool {
        self.oldest().is_some()
    }

    /// The ticket of the oldest that is not being cancelled.
    pub(in crate::kernel) fn first(&self) -> Option<u64> {
        // SAFETY: an entry of the list is a live IRP's, and `insert` wrote what it carries.
        self.oldest()
            .map(|irp| S::ticket(unsafe { &*carried_by::<S>(irp) }))
    }

    fn oldest(&self) -> Option<PIRP> {
        let head = self.links.list.get();
        // SAFETY: under the lock.
        let mut entry = unsafe { (*head).Flink };
        while entry != head {
            let irp = irp_of(entry);
            if !is_being_cancelled(irp) {
                return Some(irp);
            }
            // SAFETY: an entry of the list.
            entry = unsafe { (*entry).Flink };
        }
        None
    }
}

/// Whether an IRP in the list is about to leave it, for a thread cancels it: the `IoCsq` functions
/// do not give it out any more. That thread may take its time.
fn is_being_cancelled(irp: PIRP) -> bool {
    // SAFETY: a place in a live IRP; nothing is read.
    let routine = unsafe { &raw mut (*irp).CancelRoutine };
    // SAFETY: an IRP in the list is live while the lock is held; IoCancelIrp exchanges the member
    // from any thread, with an interlocked operation.
    let routine = unsafe { AtomicPtr::<()>::from_ptr(routine.cast()) };
    routine.load(Ordering::Relaxed).is_null()
}

/// The list entry that belongs to the IRP's owner.
///
/// # Safety
/// `irp` is a live IRP; nothing is read.
unsafe fn entry_of(irp: PIRP) -> *mut LIST_ENTRY {
    // SAFETY: the caller's promise.
    unsafe { &raw mut (*irp).Tail.Overlay.__bindgen_anon_2.ListEntry }
}

/// The most that an IRP carries: the first three words of its `DriverContext`, which belongs to the
/// driver that owns the IRP. (The last one is the `IoCsq` functions'.)
const CARRIED_BYTES: usize = 3 * size_of::<PVOID>();

/// Where a queued IRP has what it carries: from [`Queue::insert`] until it leaves the queue.
fn carried_by<S: Admission>(irp: PIRP) -> *mut S::Carried {
    const {
        assert!(size_of::<S::Carried>() <= CARRIED_BYTES);
        assert!(align_of::<S::Carried>() <= align_of::<PVOID>());
    }
    let words = offset_of!(
        IRP,
        Tail.Overlay.__bindgen_anon_1.__bindgen_anon_1.DriverContext
    );
    irp.cast::<u8>().wrapping_add(words).cast()
}

/// The IRP that a list entry is part of.
fn irp_of(entry: *mut LIST_ENTRY) -> PIRP {
    entry
        .cast::<u8>()
        .wrapping_sub(offset_of!(IRP, Tail.Overlay.__bindgen_anon_2.ListEntry))
        .cast()
}

// The callbacks: `insert`, `remove` and `peek_next` run under the lock.

unsafe extern "C" fn insert<S: Admission>(csq: PIO_CSQ, irp: PIRP, context: PVOID) -> NTSTATUS {
    // SAFETY: `Queue::csq` made the pointer of a QueueState.
    let inner = unsafe { &*csq.cast::<QueueState<S>>() };
    // SAFETY: `Queue::insert` passed it, and waits for this call.
    let arrival = unsafe { &mut *context.cast::<S::Arriving>() };
    // SAFETY: the lock is held, so this is the only reference.
    let state = unsafe { &mut *inner.state.get() };
    let links = &inner.links;
    // SAFETY: `Queue::insert` wrote it, and nothing else has the IRP before it is in the list.
    let carried = unsafe { &mut *carried_by::<S>(irp) };
    match state.admit(arrival, carried) {
        // The first condition is the compiler's: most queues have no limit.
        Ok(()) if S::MOST != u32::MAX && links.length.load(Ordering::Relaxed) >= S::MOST => {
            return Status::INVALID_DEVICE_STATE.0;
        }
        Ok(()) => {}
        Err(refusal) => return refusal.0,
    }
    // As many as there are IRPs: it does not overflow. Changed under the lock alone.
    let length = links.length.load(Ordering::Relaxed);
    links
        .length
        .store(length.wrapping_add(1), Ordering::Relaxed);
    // SAFETY: the IRP is being queued: its list entry is ours.
    let entry = unsafe { entry_of(irp) };
    let head = links.list.get();
    // SAFETY: the lock is held.
    let last = unsafe { (*head).Blink };
    let new = LIST_ENTRY {
        Flink: head,
        Blink: last,
    };
    // SAFETY: InsertTailList.
    unsafe { entry.write(new) };
    // SAFETY: an entry of the list, or its head.
    unsafe { (*last).Flink = entry };
    // SAFETY: the lock is held.
    unsafe { (*head).Blink = entry };
    Status::SUCCESS.0
}

unsafe extern "C" fn remove<S: Admission>(csq: PIO_CSQ, irp: PIRP) {
    // SAFETY: `Queue::csq` made the pointer of a QueueState.
    let inner = unsafe { &*csq.cast::<QueueState<S>>() };
    let links = &inner.links;
    let length = links.length.load(Ordering::Relaxed);
    links
        .length
        .store(length.wrapping_sub(1), Ordering::Relaxed);
    // SAFETY: the lock is held.
    if unsafe { links.found.get().replace(ptr::null_mut()) } == irp {
        // SAFETY: an IRP in the list is live.
        S::taken(&inner.aside, unsafe { file_of(irp) });
    }
    // SAFETY: the IRP is in the list.
    let entry = unsafe { entry_of(irp) };
    // SAFETY: likewise.
    let entry = unsafe { entry.read() };
    // SAFETY: RemoveEntryList: its neighbours are entries of the list, or its head.
    unsafe { (*entry.Blink).Flink = entry.Flink };
    // SAFETY: likewise.
    unsafe { (*entry.Flink).Blink = entry.Blink };
}

unsafe extern "C" fn peek_next<S: Admission>(csq: PIO_CSQ, irp: PIRP, context: PVOID) -> PIRP {
    // SAFETY: a Csq of ours.
    let links = unsafe { Links::of(csq) };
    // SAFETY: `Queue::next` passed it; a cancelled IRP is not looked for.
    let pick = unsafe { context.cast::<Pick>().as_ref() };
    let head = links.list.get();
    let before = if irp.is_null() {
        head
    } else {
        // SAFETY: the IRP is in the list.
        unsafe { entry_of(irp) }
    };
    // SAFETY: an entry of the list, or its head, whose lock is held.
    let mut entry = unsafe { (*before).Flink };
    let mut found = ptr::null_mut();
    while entry != head {
        let irp = irp_of(entry);
        // SAFETY: an IRP in the list is live.
        if unsafe { meets::<S>(irp, pick) } {
            found = irp;
            break;
        }
        // SAFETY: an entry of the list.
        entry = unsafe { (*entry).Flink };
    }
    if let Some(Pick::ToServe) = pick {
        // SAFETY: the lock is held, until this IRP is removed, or the next one is looked for
        // because another thread cancels this one.
        unsafe { links.found.get().write(found) };
    }
    found
}

/// Whether a queued IRP is one that is asked for.
///
/// # Safety
/// `irp` is in the list, whose lock is held.
unsafe fn meets<S: Admission>(irp: PIRP, pick: Option<&Pick>) -> bool {
    match pick {
        None | Some(Pick::Oldest | Pick::ToServe) => true,
        Some(Pick::Before(ticket)) => {
            // SAFETY: `insert` wrote it.
            S::ticket(unsafe { &*carried_by::<S>(irp) }) < *ticket
        }
        // SAFETY: likewise.
        Some(Pick::Of(file)) => unsafe { file_of(irp) == *file },
    }
}

/// The open that a queued IRP came through.
///
/// # Safety
/// `irp` is in the list, whose lock is held.
unsafe fn file_of(irp: PIRP) -> FileId {
    // SAFETY: the caller's promise.
    let slot = current_slot(unsafe { NonNull::new_unchecked(irp) });
    // SAFETY: an IRP in the list has a current stack location.
    let stack = unsafe { slot.read() };
    // SAFETY: likewise.
    FileId(unsafe { (*stack).FileObject })
}

unsafe extern "C" fn acquire_lock(csq: PIO_CSQ, irql: PKIRQL) {
    // SAFETY: a Csq of ours.
    let links = unsafe { Links::of(csq) };
    // SAFETY: nonpaged, initialised; <= DISPATCH_LEVEL.
    let before = unsafe { KeAcquireSpinLockRaiseToDpc(links.lock.get()) };
    // SAFETY: the caller's variable.
    unsafe { irql.write(before) };
}

unsafe extern "C" fn release_lock(csq: PIO_CSQ, irql: KIRQL) {
    // SAFETY: a Csq of ours.
    let links = unsafe { Links::of(csq) };
    // SAFETY: acquired by `acquire_lock`.
    unsafe { KeReleaseSpinLock(links.lock.get(), irql) };
}

unsafe extern "C" fn complete_canceled<S: Admission>(csq: PIO_CSQ, irp: PIRP) {
    // SAFETY: a Csq of ours.
    let lock = unsafe { Links::of(csq) }.remove_lock;
    // SAFETY: the queue gave the IRP up to us, with what it carries.
    drop(unsafe { carried_by::<S>(irp).read() });
    // SAFETY: the cancelled IRP, which is there.
    let irp = unsafe { NonNull::new_unchecked(irp) };
    // SAFETY: it is ours now.
    let irp = unsafe { Irp::resume(irp, lock) };
    let _ = irp.complete(Status::CANCELLED);
}

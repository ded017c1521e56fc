//! Spin locks, events and the gate in front of hardware.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use wdk_sys::{
    _EVENT_TYPE, _KWAIT_REASON, _WAIT_TYPE, EX_RUNDOWN_REF, KEVENT, KIRQL, KSPIN_LOCK, KWAIT_BLOCK,
    LARGE_INTEGER, PVOID, STATUS_SUCCESS,
    ntddk::{
        ExAcquireRundownProtection, ExInitializeRundownProtection, ExReInitializeRundownProtection,
        ExReleaseRundownProtection, ExWaitForRundownProtectionRelease, KeAcquireSpinLockRaiseToDpc,
        KeInitializeEvent, KeReleaseSpinLock, KeResetEvent, KeSetEvent, KeWaitForMultipleObjects,
        KeWaitForSingleObject,
    },
};

use crate::kernel::{Blocking, KERNEL_MODE, Passive, pool::PoolBox};
use crate::{ioctl::Status, sharing::Signal};

/// A spin lock and what it protects. For short critical sections at <= `DISPATCH_LEVEL`.
pub(crate) struct SpinLock<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one processor at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            // KeInitializeSpinLock is an inline function that stores 0.
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Runs `section` with the lock held, at `DISPATCH_LEVEL`. It must not block, complete a
    /// request or call another driver; being `Send`, it cannot hold a [`Passive`].
    pub(crate) fn with<R>(&self, section: impl FnOnce(&mut T) -> R + Send) -> R {
        // SAFETY: the lock lies in nonpaged memory, the caller runs at <= DISPATCH_LEVEL.
        let irql: KIRQL = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        // SAFETY: the lock is held, so this is the only reference.
        let result = section(unsafe { &mut *self.value.get() });
        // SAFETY: acquired above, with the IRQL from before.
        unsafe { KeReleaseSpinLock(self.lock.get(), irql) };
        result
    }
}

/// What a time-out looks like to the wait functions: relative, in 100 ns.
pub(in crate::kernel) fn relative(milliseconds: u32) -> LARGE_INTEGER {
    LARGE_INTEGER {
        QuadPart: -(i64::from(milliseconds) * 10_000),
    }
}

/// An event object.
pub(in crate::kernel) struct Event(PoolBox<UnsafeCell<KEVENT>>);

// SAFETY: the kernel synchronises access to the object.
unsafe impl Send for Event {}
// SAFETY: likewise.
unsafe impl Sync for Event {}

impl Signal for Event {
    fn set(&self) {
        self.set();
    }

    fn reset(&self) {
        self.reset();
    }
}

impl Event {
    /// An event that one wait resets.
    pub(in crate::kernel) fn synchronization() -> Result<Self, Status> {
        Self::try_new(_EVENT_TYPE::SynchronizationEvent)
    }

    /// An event that stays signalled.
    pub(in crate::kernel) fn notification() -> Result<Self, Status> {
        Self::try_new(_EVENT_TYPE::NotificationEvent)
    }

    fn try_new(kind: _EVENT_TYPE::Type) -> Result<Self, Status> {
        let event = PoolBox::try_new(UnsafeCell::new(KEVENT::default()))?;
        // SAFETY: the storage is nonpaged and does not move.
        unsafe { KeInitializeEvent(event.get(), kind, 0) };
        Ok(Self(event))
    }

    /// At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn set(&self) {
        // SAFETY: initialised; <= DISPATCH_LEVEL with Wait FALSE.
        unsafe { KeSetEvent(self.0.get(), 0, 0) };
    }

    /// At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn reset(&self) {
        // SAFETY: initialised.
        unsafe { KeResetEvent(self.0.get()) };
    }

    /// What a wait is for.
    pub(in crate::kernel) fn object(&self) -> Waitable<'_> {
        Waitable(self.0.get().cast(), PhantomData)
    }

    pub(in crate::kernel) fn wait(&self, _: Blocking) {
        self.wait_raw(ptr::null_mut());
    }

    /// Whether the event was signalled within the time.
    pub(in crate::kernel) fn wait_for(&self, milliseconds: u32, _: Blocking) -> bool {
        let mut timeout = relative(milliseconds);
        self.wait_raw(&raw mut timeout)
    }

    /// Whether the event is signalled, which ends with this. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn take(&self) -> bool {
        let mut timeout = relative(0);
        self.wait_raw(&raw mut timeout)
    }

    /// At <= `APC_LEVEL`, or with a time-out of 0 at <= `DISPATCH_LEVEL`.
    fn wait_raw(&self, timeout: *mut LARGE_INTEGER) -> bool {
        // SAFETY: initialised and nonpaged; the callers hold a Blocking, or do not wait; not alertable, kernel
        // mode, so it ends only by the event or the time-out.
        let status = unsafe {
            KeWaitForSingleObject(
                self.0.get().cast(),
                _KWAIT_REASON::Executive,
                KERNEL_MODE,
                0,
                timeout,
            )
        };
        status == STATUS_SUCCESS
    }
}

/// A dispatcher object that a thread can wait for.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Waitable<'a>(PVOID, PhantomData<&'a Event>);

impl Waitable<'_> {
    /// # Safety
    /// An initialised dispatcher object, nonpaged, which lives as long as the value.
    pub(in crate::kernel) const unsafe fn new(object: PVOID) -> Self {
        Self(object, PhantomData)
    }
}

/// The most objects that one wait is for.
const MOST_OBJECTS: usize = 4;

/// Waits until one of `objects` is signalled, four at the most: which, the first if there are
/// several, and only that one is taken. `None` after `milliseconds`, if there is such a limit.
pub(in crate::kernel) fn wait_any<'a>(
    objects: impl Iterator<Item = Waitable<'a>>,
    milliseconds: Option<u32>,
    _: Blocking,
) -> Option<usize> {
    let mut all: [PVOID; MOST_OBJECTS] = [ptr::null_mut(); MOST_OBJECTS];
    let mut count = 0;
    for (place, object) in all.iter_mut().zip(objects) {
        *place = object.0;
        count += 1;
    }
    let mut blocks = MaybeUninit::<[KWAIT_BLOCK; MOST_OBJECTS]>::uninit();
    let mut limit = milliseconds.map(relative);
    // SAFETY: `count` initialised, nonpaged objects; room for as many wait blocks, on this thread's
    // stack, which stays in memory in a wait of kernel mode; the caller holds a Blocking.
    let status = unsafe {
        KeWaitForMultipleObjects(
            count,
            all.as_mut_ptr(),
            _WAIT_TYPE::WaitAny,
            _KWAIT_REASON::Executive,
            KERNEL_MODE,
            0,
            limit
                .as_mut()
                .map_or(ptr::null_mut(), |limit| &raw mut *limit),
            blocks.as_mut_ptr().cast(),
        )
    };
    // STATUS_WAIT_0 and up. Not alertable, and no mutexes: else it is the time-out.
    let index = u32::try_from(status).ok().filter(|index| *index < count)?;
    usize::try_from(index).ok()
}

/// Rundown protection of something that comes and goes, such as the hardware behind a device object
/// that is stopped and started. While it is open, any thread may enter; closing it waits until the
/// last one has left.
pub(crate) struct Rundown<T> {
    protection: UnsafeCell<EX_RUNDOWN_REF>,
    value: UnsafeCell<MaybeUninit<T>>,
    open: AtomicBool,
    suspended: AtomicBool,
    leave: AtomicU8,
    /// For a rundown that threads wait at.
    events: Option<RundownEvents>,
}

/// What a thread can wait for at a [`Rundown`].
struct RundownEvents {
    /// Signalled while the rundown is open.
    opened: Event,
    /// Signalled while those inside shall leave.
    leave: Event,
}

/// Why the holder of a [`RundownGuard`] shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaveReason {
    /// The protected value is gone.
    Gone,
    /// It will be there again.
    Suspended,
}

impl LeaveReason {
    /// As [`Rundown`] keeps it: 0 is nothing.
    const fn code(self) -> u8 {
        match self {
            Self::Gone => 1,
            Self::Suspended => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Gone),
            2 => Some(Self::Suspended),
            _ => None,
        }
    }
}

// SAFETY: the value is written only while the rundown is closed, when no guard exists.
unsafe impl<T: Send + Sync> Sync for Rundown<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for Rundown<T> {}

impl<T: Copy> Rundown<T> {
    /// A closed rundown that threads can wait at.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_closed(passive: Passive) -> Result<Self, Status> {
        Ok(Self {
            events: Some(RundownEvents {
                opened: Event::notification()?,
                leave: Event::notification()?,
            }),
            ..Self::closed(passive)
        })
    }

    /// A closed rundown that no thread waits at.
    pub(crate) fn closed(_: Passive) -> Self {
        let mut rundown = EX_RUNDOWN_REF::default();
        // SAFETY: valid storage.
        unsafe { ExInitializeRundownProtection(&raw mut rundown) };
        // SAFETY: initialised and not acquired: returns at once, and from now on it is refused.
        unsafe { ExWaitForRundownProtectionRelease(&raw mut rundown) };
        Self {
            // A rundown reference without waiters is a counter that may be moved.
            protection: UnsafeCell::new(rundown),
            value: UnsafeCell::new(MaybeUninit::uninit()),
            open: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            leave: AtomicU8::new(0),
            events: None,
        }
    }

    /// Opens with `value`; an open rundown is closed first. This and what follows
    /// is called by one at a time, in the PnP and the power path.
    pub(crate) fn open(&self, value: T, passive: Passive) {
        self.close(passive);
        // SAFETY: the rundown is closed: no guard reads the value.
        unsafe { (*self.value.get()).write(value) };
        self.let_in();
    }

    fn let_in(&self) {
        self.leave.store(0, Ordering::Relaxed);
        if let Some(events) = &self.events {
            events.leave.reset();
        }
        // SAFETY: run down, so it may be initialised again.
        unsafe { ExReInitializeRundownProtection(self.protection.get()) };
        self.open.store(true, Ordering::Release);
        if let Some(events) = &self.events {
            events.opened.set();
        }
    }

    fn ask_to_leave(&self, why: LeaveReason) {
        self.leave.store(why.code(), Ordering::Release);
        if let Some(events) = &self.events {
            events.leave.set();
        }
    }

    /// Closes, and waits until the last guard is dropped. Whether it was open.
    fn shut(&self, _: Passive) -> bool {
        let open = self.open.swap(false, Ordering::AcqRel);
        if open {
            if let Some(events) = &self.events {
                // First: whoever is not let in from now on waits.
                events.opened.reset();
            }
            // SAFETY: initialised; at PASSIVE_LEVEL; no holder of a guard waits for this thread.
            unsafe { ExWaitForRundownProtectionRelease(self.protection.get()) };
        }
        open
    }

    /// Closes for good, or until it is opened with another value. Waits until the last guard is
    /// dropped.
    pub(crate) fn close(&self, passive: Passive) {
        self.shut(passive);
        self.suspended.store(false, Ordering::Relaxed);
    }

    /// Closes after asking every holder of a guard to leave at once.
    pub(crate) fn evict(&self, passive: Passive) {
        self.ask_to_leave(LeaveReason::Gone);
        self.close(passive);
    }

    /// Closes until [`Rundown::resume`], after asking every holder of a guard to leave at once, and then
    /// does `finish` with the value, unless the rundown was closed already.
    pub(crate) fn suspend(&self, finish: impl FnOnce(&T), passive: Passive) {
        self.ask_to_leave(LeaveReason::Suspended);
        if self.shut(passive) {
            // SAFETY: written before the rundown was open, and no thread writes it now.
            let value = unsafe { &*self.value.get() };
            // SAFETY: likewise.
            finish(unsafe { value.assume_init_ref() });
            self.suspended.store(true, Ordering::Relaxed);
        }
    }

    /// Opens what [`Rundown::suspend`] closed, with the same value, after `prepare`.
    pub(crate) fn resume(&self, prepare: impl FnOnce(&T), _: Passive) {
        if self.suspended.swap(false, Ordering::Relaxed) {
            // SAFETY: written before the rundown was first open, and no thread writes it now.
            let value = unsafe { &*self.value.get() };
            // SAFETY: likewise.
            prepare(unsafe { value.assume_init_ref() });
            self.let_in();
        }
    }

    /// Enters, if the rundown is open. At <= `DISPATCH_LEVEL`.
    pub(crate) fn enter(&self) -> Option<RundownGuard<'_, T>> {
        // SAFETY: initialised, nonpaged.
        let entered = unsafe { ExAcquireRundownProtection(self.protection.get()) };
        (entered != 0).then(|| RundownGuard(self))
    }

    /// Signalled while the rundown is open, if threads can wait at it.
    pub(in crate::kernel) fn opened(&self) -> Option<&Event> {
        self.events.as_ref().map(|events| &events.opened)
    }
}

/// A reference to a [`Rundown`], which cannot close before this is dropped.
pub(crate) struct RundownGuard<'a, T>(&'a Rundown<T>);

impl<T: Copy> RundownGuard<'_, T> {
    /// The protected value.
    pub(crate) fn value(&self) -> T {
        // SAFETY: written before the rundown opened, and not again while there is a guard.
        let value = unsafe { &*self.0.value.get() };
        // SAFETY: `open` initialised it.
        unsafe { value.assume_init() }
    }

    /// Whether the holder of this guard shall leave, and why.
    pub(crate) fn must_leave(&self) -> Option<LeaveReason> {
        LeaveReason::of(self.0.leave.load(Ordering::Acquire))
    }

    /// Signalled when the holders of guards shall leave, if threads can wait at the rundown.
    pub(in crate::kernel) fn leave_event(&self) -> Option<&Event> {
        self.0.events.as_ref().map(|events| &events.leave)
    }
}

impl<T> Drop for RundownGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `enter` acquired it.
        unsafe { ExReleaseRundownProtection(self.0.protection.get()) };
    }
}

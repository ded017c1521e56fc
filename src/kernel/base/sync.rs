//! Spin locks, events, and rundown protection of what comes and goes.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, AtomicU8},
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
use crate::{
    ioctl::Status,
    sharing::{RundownCounter, RundownEvents, RundownGate, Signal},
};

pub(crate) use crate::sharing::LeaveReason;

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
    #[inline]
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
    #[inline]
    fn set(&self) {
        self.set();
    }

    #[inline]
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
    #[inline]
    pub(in crate::kernel) fn set(&self) {
        // SAFETY: initialised; <= DISPATCH_LEVEL with Wait FALSE.
        unsafe { KeSetEvent(self.0.get(), 0, 0) };
    }

    /// At <= `DISPATCH_LEVEL`.
    #[inline]
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
        // SAFETY: initialised and nonpaged; the callers hold a Blocking, or do not wait; not
        // alertable, kernel mode, so it ends only by the event or the time-out.
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

/// The kernel's rundown protection.
struct RundownRef(UnsafeCell<EX_RUNDOWN_REF>);

// SAFETY: the kernel synchronises access to it.
unsafe impl Send for RundownRef {}
// SAFETY: likewise.
unsafe impl Sync for RundownRef {}

impl RundownRef {
    /// One that is run down.
    fn finished(_: Passive) -> Self {
        let mut rundown = EX_RUNDOWN_REF::default();
        // SAFETY: valid storage.
        unsafe { ExInitializeRundownProtection(&raw mut rundown) };
        // SAFETY: initialised and not acquired: returns at once, and from now on it is refused.
        unsafe { ExWaitForRundownProtectionRelease(&raw mut rundown) };
        // Without waiters it is a counter that may be moved.
        Self(UnsafeCell::new(rundown))
    }
}

impl RundownCounter for RundownRef {
    fn acquire(&self) -> bool {
        // SAFETY: initialised, nonpaged.
        unsafe { ExAcquireRundownProtection(self.0.get()) != 0 }
    }

    fn release(&self) {
        // SAFETY: initialised; the caller has acquired it.
        unsafe { ExReleaseRundownProtection(self.0.get()) };
    }

    fn run_down(&self) {
        // SAFETY: initialised; the rundown is closed at PASSIVE_LEVEL, and no holder of a guard
        // waits for the thread that closes it.
        unsafe { ExWaitForRundownProtectionRelease(self.0.get()) };
    }

    fn renew(&self) {
        // SAFETY: run down, so it may be initialised again.
        unsafe { ExReInitializeRundownProtection(self.0.get()) };
    }
}

/// Rundown protection of something that comes and goes, such as the hardware behind a device object
/// that is stopped and started. While it is open, any thread may enter; closing it waits until the
/// last one has left.
pub(crate) struct Rundown<T> {
    state: RundownGate<RundownRef, AtomicBool, AtomicU8, Event>,
    value: UnsafeCell<MaybeUninit<T>>,
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
        let events = RundownEvents {
            opened: Event::notification()?,
            leave: Event::notification()?,
        };
        Ok(Self::with_events(Some(events), passive))
    }

    /// A closed rundown that no thread waits at.
    pub(crate) fn closed(passive: Passive) -> Self {
        Self::with_events(None, passive)
    }

    fn with_events(events: Option<RundownEvents<Event>>, passive: Passive) -> Self {
        Self {
            state: RundownGate::closed(
                RundownRef::finished(passive),
                [const { AtomicBool::new(false) }; 2],
                AtomicU8::new(0),
                events,
            ),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Opens with `value`; an open rundown is closed first. This and what follows
    /// is called by one at a time, in the PnP and the power path.
    pub(crate) fn open(&self, value: T, passive: Passive) {
        self.close(passive);
        // SAFETY: the rundown is closed: no guard reads the value.
        unsafe { (*self.value.get()).write(value) };
        self.state.let_in();
    }

    /// Closes for good, or until it is opened with another value. Waits until the last guard is
    /// dropped.
    pub(crate) fn close(&self, _: Passive) {
        self.state.close();
    }

    /// Closes after asking every holder of a guard to leave at once.
    pub(crate) fn evict(&self, _: Passive) {
        self.state.evict();
    }

    /// Closes until [`Rundown::resume`], after asking every holder of a guard to leave at once, and
    /// then does `finish` with the value, unless the rundown was closed already.
    pub(crate) fn suspend(&self, finish: impl FnOnce(&T), _: Passive) {
        self.state.suspend(|| {
            // SAFETY: written before the rundown was open, and no thread writes it now.
            let value = unsafe { &*self.value.get() };
            // SAFETY: likewise.
            finish(unsafe { value.assume_init_ref() });
        });
    }

    /// Opens what [`Rundown::suspend`] closed, with the same value, after `prepare`.
    pub(crate) fn resume(&self, prepare: impl FnOnce(&T), _: Passive) {
        self.state.resume(|| {
            // SAFETY: written before the rundown was first open, and no thread writes it now.
            let value = unsafe { &*self.value.get() };
            // SAFETY: likewise.
            prepare(unsafe { value.assume_init_ref() });
        });
    }

    /// Enters, if the rundown is open. At <= `DISPATCH_LEVEL`.
    pub(crate) fn enter(&self) -> Option<RundownGuard<'_, T>> {
        self.state.enter().then(|| RundownGuard(self))
    }

    /// Signalled while the rundown is open, if threads can wait at it.
    pub(in crate::kernel) fn opened(&self) -> Option<&Event> {
        self.state.events().map(|events| &events.opened)
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

    /// The same, where it is.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: as in `value`; this value keeps the rundown open.
        let value = unsafe { &*self.0.value.get() };
        // SAFETY: `open` initialised it.
        unsafe { value.assume_init_ref() }
    }

    /// Whether the holder of this guard shall leave, and why.
    pub(crate) fn must_leave(&self) -> Option<LeaveReason> {
        self.0.state.must_leave()
    }

    /// Signalled when the holders of guards shall leave, if threads can wait at the rundown.
    pub(in crate::kernel) fn leave_event(&self) -> Option<&Event> {
        self.0.state.events().map(|events| &events.leave)
    }
}

impl<T> Drop for RundownGuard<'_, T> {
    fn drop(&mut self) {
        self.0.state.exit();
    }
}

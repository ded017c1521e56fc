//! The end of a request that a thread serves, as an event that the thread can wait for.

use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use wdk_sys::{
    DEVICE_OBJECT, IRP, PDRIVER_CANCEL,
    ntddk::{IoAcquireCancelSpinLock, IoReleaseCancelSpinLock},
};

use crate::ioctl::Status;
use crate::kernel::{Irp, sync::Event};

/// Tells a thread that the request which it serves shall end: its IRP was cancelled, or its open
/// cleaned up. It outlives the requests, of which it follows one at a time.
///
/// A queued IRP has the queue's cancel routine, which completes it. While it is served it has one
/// that only signals an event: the thread completes the IRP, and takes the routine away first.
///
/// The routine is done with IRP and event before it releases the cancel spin lock, under which
/// `IoCancelIrp` takes the routine and calls it. So a thread that finds the routine taken, and has
/// had the lock after that, knows that it touches nothing any more.
pub(in crate::kernel) struct Cancellation {
    requested: AtomicBool,
    /// Signalled while `requested` says so.
    event: Event,
}

impl Cancellation {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn try_new() -> Result<Self, Status> {
        Ok(Self {
            requested: AtomicBool::new(false),
            event: Event::notification()?,
        })
    }

    /// The request shall end. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.event.set();
    }

    /// Whether it shall. At any IRQL.
    pub(in crate::kernel) const fn requested(&self) -> &AtomicBool {
        &self.requested
    }

    /// Signalled when it shall.
    pub(in crate::kernel) const fn event(&self) -> &Event {
        &self.event
    }

    /// Another request is served from now on. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn begin(&self) {
        // Mostly it is not set.
        if self.requested.swap(false, Ordering::AcqRel) {
            self.event.reset();
        }
    }

    /// Follows the IRP, which is not queued, until [`Cancellation::let_go`]: it is not completed
    /// before that. At <= `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// `self` stays where it is until then.
    #[inline]
    pub(in crate::kernel) unsafe fn follow(&self, irp: &Irp) {
        let raw = irp.raw();
        // SAFETY: the word belongs to the IRP's owner.
        unsafe { follower_of(raw).write(self) };
        set_cancel_routine(raw, Some(cancelled));
        // IoCancelIrp sets the flag before it takes the routine: either it takes this one, or the
        // flag is seen here.
        if irp.is_cancelled() {
            self.request();
        }
    }

    /// The IRP ends: it is not followed any more. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn let_go(irp: &Irp) {
        if set_cancel_routine(irp.raw(), None) {
            return;
        }
        // The routine was called. It is at its end when the lock is free.
        let mut irql = 0;
        // SAFETY: <= DISPATCH_LEVEL; this thread has not got the lock.
        unsafe { IoAcquireCancelSpinLock(&raw mut irql) };
        // SAFETY: acquired above.
        unsafe { IoReleaseCancelSpinLock(irql) };
    }
}

/// Where an IRP that is served keeps who follows it: the first word of its `DriverContext`, which
/// belongs to the driver that owns the IRP.
fn follower_of(irp: NonNull<IRP>) -> *mut *const Cancellation {
    let words = offset_of!(
        IRP,
        Tail.Overlay.__bindgen_anon_1.__bindgen_anon_1.DriverContext
    );
    irp.as_ptr().cast::<u8>().wrapping_add(words).cast()
}

/// `IoSetCancelRoutine`, an inline function in C. Whether the IRP had one before.
fn set_cancel_routine(irp: NonNull<IRP>, routine: PDRIVER_CANCEL) -> bool {
    // SAFETY: a place in a live IRP; nothing is read.
    let place = unsafe { &raw mut (*irp.as_ptr()).CancelRoutine };
    // SAFETY: aligned, and used as an atomic only by everybody who may have the IRP now.
    let place = unsafe { AtomicPtr::from_ptr(place.cast::<*mut ()>()) };
    let routine = routine.map_or(core::ptr::null_mut(), |routine| routine as *mut ());
    !place.swap(routine, Ordering::SeqCst).is_null()
}

/// Cancel routine of an IRP that a thread serves: called with the cancel spin lock held, which it
/// releases.
unsafe extern "C" fn cancelled(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: IoCancelIrp passes the IRP.
    let irp = unsafe { NonNull::new_unchecked(irp) };
    // SAFETY: the IRP is not completed before the lock is free; IoCancelIrp has set the member.
    let irql = unsafe { (*irp.as_ptr()).CancelIrql };
    // SAFETY: `follow` wrote it.
    let follower = unsafe { follower_of(irp).read() };
    // SAFETY: it stays until `let_go`, which waits for the lock.
    unsafe { &*follower }.request();
    // SAFETY: IoCancelIrp acquired it for this routine.
    unsafe { IoReleaseCancelSpinLock(irql) };
}

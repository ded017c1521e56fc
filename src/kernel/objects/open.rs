//! What the driver keeps of each open of a device object, from `IRP_MJ_CREATE` to `IRP_MJ_CLOSE`.
//!
//! It is found by the file object's address, and not through the context words of the file object:
//! those of an open of a PDO belong to the function driver above it, and a kernel client may send a
//! request with the file object of another driver's device.

use core::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use crate::ioctl::Status;
use crate::kernel::{
    Shared, SpinLock,
    irp::FileId,
    pool::{PoolBox, release_raw},
};

/// The opens of a device object. All zero is an empty list.
pub(in crate::kernel) struct OpenList(SpinLock<First>);

/// The newest open, or null.
struct First(*mut OpenState);

// SAFETY: the list is used under its lock.
unsafe impl Send for First {}

/// What is kept of one open.
struct OpenState {
    file: FileId,
    /// The next older one, or null. Used under the list's lock.
    next: AtomicPtr<Self>,
    cleaned_up: AtomicBool,
    /// [`Shared::into_raw`] of what the open keeps alive, or null.
    context: AtomicPtr<c_void>,
}

/// An open whose state is known. It is good while a request of the open is under way:
/// `IRP_MJ_CLOSE` comes after the last one.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct OpenRef(NonNull<OpenState>);

// SAFETY: what it leads to is atomic, but for `file`, which does not change.
unsafe impl Send for OpenRef {}

impl OpenList {
    /// Notes a new open. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn add(&self, file: FileId) -> Result<OpenRef, Status> {
        let state = PoolBox::try_new(OpenState {
            file,
            next: AtomicPtr::new(ptr::null_mut()),
            cleaned_up: AtomicBool::new(false),
            context: AtomicPtr::new(ptr::null_mut()),
        })?;
        let open = OpenRef(state.into_raw());
        self.0.with(move |first| {
            open.state().next.store(first.0, Ordering::Relaxed);
            first.0 = open.0.as_ptr();
        });
        Ok(open)
    }

    /// What is known of an open; nothing of one that was not made of this device object. At <=
    /// `DISPATCH_LEVEL`.
    #[inline(never)]
    pub(in crate::kernel) fn find(&self, file: FileId) -> Option<OpenRef> {
        if file.is_none() {
            return None;
        }
        self.0.with(move |first| {
            let mut each = NonNull::new(first.0).map(OpenRef);
            while let Some(open) = each
                && open.state().file != file
            {
                each = open.next();
            }
            each
        })
    }

    /// The end of an open: nothing is known of it any more, and what it kept alive loses an owner.
    /// At `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// `open` is in this list, and used by no one after this.
    pub(in crate::kernel) unsafe fn remove(&self, open: OpenRef) {
        self.0.with(move |first| {
            let after = open.state().next.load(Ordering::Relaxed);
            let mut each = NonNull::new(first.0).map(OpenRef);
            if each.is_some_and(|newest| newest.0 == open.0) {
                first.0 = after;
                return;
            }
            while let Some(other) = each {
                if other.state().next.load(Ordering::Relaxed) == open.0.as_ptr() {
                    other.state().next.store(after, Ordering::Relaxed);
                    return;
                }
                each = other.next();
            }
        });
        // SAFETY: `add` made it of a box, and the caller's promise.
        let state = unsafe { PoolBox::from_raw(open.0) };
        if let Some(kept) = NonNull::new(state.context.load(Ordering::Acquire)) {
            // SAFETY: `set_context` stored it, and it goes with its place.
            unsafe { release_raw(kept) };
        }
    }
}

impl OpenRef {
    fn state(&self) -> &OpenState {
        // SAFETY: the open's state lives as long as its requests.
        unsafe { self.0.as_ref() }
    }

    fn next(self) -> Option<Self> {
        NonNull::new(self.state().next.load(Ordering::Relaxed)).map(Self)
    }

    /// Keeps `value` alive until the open is closed, whatever becomes of the device. Once for an
    /// open, when it is made.
    pub(in crate::kernel) fn set_context<T: Send + Sync + 'static>(self, value: &Shared<T>) {
        let kept = value.clone().into_raw();
        self.state().context.store(kept, Ordering::Release);
    }

    /// What [`OpenRef::set_context`] keeps, if it is a `T`.
    pub(in crate::kernel) fn context<T: Send + Sync + 'static>(self) -> Option<Shared<T>> {
        let kept = NonNull::new(self.state().context.load(Ordering::Acquire))?;
        // SAFETY: the open's owner, which stays until its `IRP_MJ_CLOSE`.
        unsafe { Shared::from_kept(kept) }
    }

    /// Notes that the open was cleaned up: its requests, queued or running, shall end.
    pub(in crate::kernel) fn set_cleaned_up(self) {
        self.state().cleaned_up.store(true, Ordering::Release);
    }

    /// Notes that the open is used after it was cleaned up: by a kernel client, whose requests go
    /// on.
    pub(in crate::kernel) fn set_used(self) {
        self.state().cleaned_up.store(false, Ordering::Release);
    }

    /// Whether the open was cleaned up. At any IRQL.
    pub(in crate::kernel) fn is_cleaned_up(self) -> bool {
        self.state().cleaned_up.load(Ordering::Acquire)
    }
}

//! As much of an IRP as a queue and a cancellation need.

use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

use wdk_sys::{
    FILE_OBJECT, IO_STACK_LOCATION, IRP, LIST_ENTRY, Overlay, OverlayCurrent, OverlayFirst,
    OverlaySecond, OverlayWords, Tail,
};

use super::device::RemoveLock;
use crate::ioctl::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub(super) *mut FILE_OBJECT);

// SAFETY: the pointer is compared only.
unsafe impl Send for FileId {}
// SAFETY: likewise.
unsafe impl Sync for FileId {}

impl FileId {
    pub(super) fn is_none(self) -> bool {
        self.0.is_null()
    }
}

pub(super) struct Disposition;

/// An IRP that the holder of the value owns.
pub(super) struct Irp {
    raw: NonNull<IRP>,
    lock: RemoveLock,
}

// SAFETY: an IRP belongs to the thread that owns the value.
unsafe impl Send for Irp {}

impl Drop for Irp {
    fn drop(&mut self) {
        unreachable!("an IRP is forgotten");
    }
}

impl Irp {
    pub(super) const unsafe fn resume(raw: NonNull<IRP>, lock: RemoveLock) -> Self {
        Self { raw, lock }
    }

    pub(super) const fn remove_lock(&self) -> RemoveLock {
        self.lock
    }

    pub(super) fn into_raw(self) -> NonNull<IRP> {
        ManuallyDrop::new(self).raw
    }

    pub(super) const fn raw(&self) -> NonNull<IRP> {
        self.raw
    }

    #[allow(clippy::unused_self, reason = "the stack location has no flags here")]
    pub(super) const fn mark_pending(&self) -> Disposition {
        Disposition
    }

    pub(super) fn is_cancelled(&self) -> bool {
        // SAFETY: a place in a live IRP; nothing is read.
        let flag = unsafe { &raw mut (*self.raw.as_ptr()).Cancel };
        // SAFETY: aligned, and written as an atomic only.
        let flag = unsafe { core::sync::atomic::AtomicU8::from_ptr(flag) };
        flag.load(core::sync::atomic::Ordering::SeqCst) != 0
    }

    /// The end of the IRP, which is its sender's then. Two of them are two writes without an order.
    pub(super) fn complete(self, status: Status) -> Disposition {
        let raw = self.into_raw();
        // SAFETY: the IRP is this one's, who gives it up.
        let before = unsafe { core::mem::replace(&mut (*raw.as_ptr()).Status, status.0) };
        assert_eq!(before, Status::PENDING.0, "completed twice");
        Disposition
    }
}

pub(super) fn current_slot(irp: NonNull<IRP>) -> *mut *mut IO_STACK_LOCATION {
    let irp = irp.as_ptr();
    // SAFETY: a place in an IRP; nothing is read.
    unsafe {
        &raw mut (*irp)
            .Tail
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation
    }
}

/// An IRP and its stack location, which a sender makes and frees.
pub(super) struct Sent(NonNull<IRP>);

// SAFETY: the sender waits for the end of the IRP before it frees it.
unsafe impl Send for Sent {}
// SAFETY: it gives out the pointer only.
unsafe impl Sync for Sent {}

impl Sent {
    pub(super) fn new(file: FileId) -> Self {
        let stack = Box::into_raw(Box::new(IO_STACK_LOCATION { FileObject: file.0 }));
        let irp = IRP {
            Status: Status::PENDING.0,
            Cancel: 0,
            CancelIrql: 0,
            CancelRoutine: None,
            Tail: Tail {
                Overlay: Overlay {
                    __bindgen_anon_1: OverlayFirst {
                        __bindgen_anon_1: OverlayWords {
                            DriverContext: [ptr::null_mut(); 4],
                        },
                    },
                    __bindgen_anon_2: OverlaySecond {
                        ListEntry: LIST_ENTRY::default(),
                        __bindgen_anon_1: OverlayCurrent {
                            CurrentStackLocation: stack,
                        },
                    },
                },
            },
        };
        Self(NonNull::from(Box::leak(Box::new(irp))))
    }

    /// The IRP as the dispatch routine has it.
    pub(super) fn arrive(&self) -> Irp {
        Irp {
            raw: self.0,
            lock: RemoveLock,
        }
    }

    /// `IoCancelIrp`
    pub(super) fn cancel(&self) {
        // SAFETY: the sender has not freed the IRP.
        unsafe { wdk_sys::ntddk::IoCancelIrp(self.0.as_ptr()) };
    }

    /// After the IRP has come back: what it was completed with.
    pub(super) fn free(self) -> Status {
        // SAFETY: no thread has the IRP any more.
        let irp = unsafe { Box::from_raw(self.0.as_ptr()) };
        let stack = irp.Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1;
        // SAFETY: `new` made it.
        drop(unsafe { Box::from_raw(stack.CurrentStackLocation) });
        Status(irp.Status)
    }
}

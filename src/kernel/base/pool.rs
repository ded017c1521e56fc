//! Nonpaged and paged pool, by functions that can fail.

use core::{
    any::TypeId,
    ffi::c_void,
    ops::{Deref, DerefMut},
    ptr,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence},
};

use wdk_sys::{
    POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, POOL_FLAGS, SIZE_T,
    ntddk::{ExAllocatePool2, ExFreePoolWithTag},
};

use crate::ioctl::Status;
use crate::kernel::TAG;

/// The alignment that pool memory has on 64-bit Windows.
const POOL_ALIGNMENT: usize = 16;

/// Room for a `T` in the pool, zeroed.
fn allocate<T>(flags: POOL_FLAGS) -> Result<NonNull<T>, Status> {
    const { assert!(align_of::<T>() <= POOL_ALIGNMENT && size_of::<T>() > 0) }
    allocate_bytes(flags, size_of::<T>()).map(NonNull::cast)
}

#[inline(never)]
fn allocate_bytes(flags: POOL_FLAGS, bytes: usize) -> Result<NonNull<u8>, Status> {
    // SAFETY: the callers run at <= DISPATCH_LEVEL (PASSIVE_LEVEL for paged pool), and `bytes` is
    // not zero.
    let memory = unsafe { ExAllocatePool2(flags, bytes as SIZE_T, TAG) };
    NonNull::new(memory.cast()).ok_or(Status::INSUFFICIENT_RESOURCES)
}

/// `bytes` (not zero) of zeroed paged pool for the PnP manager, which frees it.
///
/// # Errors
/// `STATUS_INSUFFICIENT_RESOURCES`
pub(in crate::kernel) fn allocate_paged(
    bytes: usize,
    _: crate::kernel::Passive,
) -> Result<NonNull<u8>, Status> {
    allocate_bytes(POOL_FLAG_PAGED, bytes)
}

/// Frees memory that came from this file, or that another driver allocated for the PnP manager.
///
/// # Safety
/// `memory` is a live pool allocation whose owner is the caller; `tag` is its tag, or 0 for memory
/// of unknown origin.
pub(in crate::kernel) unsafe fn free(memory: NonNull<u8>, tag: u32) {
    // SAFETY: the caller's promise.
    unsafe { ExFreePoolWithTag(memory.as_ptr().cast(), tag) };
}

/// A value in nonpaged pool, at an address that does not change: what kernel objects need, whose
/// lists point into themselves.
pub(in crate::kernel) struct PoolBox<T>(NonNull<T>);

// SAFETY: a PoolBox owns its value as a Box does.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: and a shared one gives out only shared references to it.
unsafe impl<T: Sync> Sync for PoolBox<T> {}

impl<T> PoolBox<T> {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn try_new(value: T) -> Result<Self, Status> {
        let memory = allocate::<T>(POOL_FLAG_NON_PAGED)?;
        // SAFETY: the memory is ours, large enough and aligned.
        unsafe { memory.write(value) };
        Ok(Self(memory))
    }

    /// A value whose bytes are all zero, made where it stays: for values that are large for a
    /// kernel stack.
    ///
    /// # Safety
    /// Such bytes are a value of `T`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    #[inline]
    pub(in crate::kernel) unsafe fn try_zeroed() -> Result<Self, Status> {
        // Zeroed by the pool.
        allocate::<T>(POOL_FLAG_NON_PAGED).map(Self)
    }

    /// The value's place; the end of it is [`PoolBox::from_raw`].
    pub(in crate::kernel) const fn into_raw(self) -> NonNull<T> {
        let place = self.0;
        core::mem::forget(self);
        place
    }

    /// # Safety
    /// [`PoolBox::into_raw`] gave the place, and this is done once.
    pub(in crate::kernel) const unsafe fn from_raw(place: NonNull<T>) -> Self {
        Self(place)
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value lives as long as its box.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: likewise, and there is no other reference.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for PoolBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value is live, and nothing reaches it after its box.
        unsafe { self.0.drop_in_place() };
        // SAFETY: `try_new` allocated it.
        unsafe { free(self.0.cast(), TAG) };
    }
}

/// The place of a value that one thread at a time takes out and puts back.
pub(crate) struct Slot<T>(AtomicPtr<T>);

impl<T: Send> Slot<T> {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new(value: T) -> Result<Self, Status> {
        let value = PoolBox::try_new(value)?;
        Ok(Self(AtomicPtr::new(value.into_raw().as_ptr())))
    }

    /// Takes the value out until the guard is dropped; `None`: another thread has it. At any IRQL.
    pub(crate) fn take(&self) -> Option<SlotGuard<'_, T>> {
        let value = NonNull::new(self.0.swap(ptr::null_mut(), Ordering::Acquire))?;
        Some(SlotGuard { slot: self, value })
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(value) = NonNull::new(*self.0.get_mut()) {
            // SAFETY: `try_new` made it of a box, and no guard has it.
            drop(unsafe { PoolBox::from_raw(value) });
        }
    }
}

/// Having the value of a [`Slot`], until this is dropped.
pub(crate) struct SlotGuard<'a, T> {
    slot: &'a Slot<T>,
    value: NonNull<T>,
}

impl<T> Deref for SlotGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is out of its slot: no other thread reaches it.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for SlotGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: likewise.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for SlotGuard<'_, T> {
    fn drop(&mut self) {
        self.slot.0.store(self.value.as_ptr(), Ordering::Release);
    }
}

/// Bytes in nonpaged pool, zeroed. For the time of one request.
pub(crate) struct Buffer {
    memory: NonNull<u8>,
    length: usize,
}

impl Buffer {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    #[inline]
    pub(crate) fn try_zeroed(length: usize) -> Result<Self, Status> {
        let memory = allocate_bytes(POOL_FLAG_NON_PAGED, length.max(1))?;
        Ok(Self { memory, length })
    }
}

impl Buffer {
    /// Where the bytes are, aligned as pool is.
    pub(in crate::kernel) const fn start(&mut self) -> NonNull<u8> {
        self.memory
    }
}

// SAFETY: the bytes are its own.
unsafe impl Send for Buffer {}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pool gave that many bytes, zeroed.
        unsafe { slice::from_raw_parts(self.memory.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: likewise; they are ours alone.
        unsafe { slice::from_raw_parts_mut(self.memory.as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `try_zeroed` allocated it.
        unsafe { free(self.memory, TAG) };
    }
}

/// A value in nonpaged pool with several owners: `Arc`, whose constructor cannot fail without an
/// abort.
pub(crate) struct Shared<T>(NonNull<Counted<T>>);

#[repr(C)]
struct Counted<T> {
    /// First, for a release that does not know `T`.
    header: Header,
    value: T,
}

struct Header {
    owners: AtomicUsize,
    /// Which `T` it is.
    kind: TypeId,
    /// Drops the value and frees the memory.
    destroy: unsafe fn(NonNull<Header>),
}

// SAFETY: as for Arc: every owner can reach the value, and the last one drops it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: 'static> Shared<T> {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new(value: T) -> Result<Self, Status> {
        let memory = allocate::<Counted<T>>(POOL_FLAG_NON_PAGED)?;
        let counted = Counted {
            header: Header {
                owners: AtomicUsize::new(1),
                kind: TypeId::of::<T>(),
                destroy: destroy::<T>,
            },
            value,
        };
        // SAFETY: the memory is ours, large enough and aligned.
        unsafe { memory.write(counted) };
        Ok(Self(memory))
    }

    /// One more owner of what an owner, as a pointer, has; `None`, if it is no `T`.
    ///
    /// # Safety
    /// [`Shared::into_raw`] made the pointer, and the owner stays during the call.
    pub(in crate::kernel) unsafe fn from_kept(raw: NonNull<c_void>) -> Option<Self> {
        // SAFETY: the allocation lives as long as an owner.
        let kind = unsafe { raw.cast::<Header>().as_ref() }.kind;
        if kind != TypeId::of::<T>() {
            return None;
        }
        let kept = core::mem::ManuallyDrop::new(Self(raw.cast()));
        Some(Self::clone(&kept))
    }
}

impl<T> Shared<T> {
    fn counted(&self) -> &Counted<T> {
        // SAFETY: the allocation lives as long as one owner.
        unsafe { self.0.as_ref() }
    }

    /// One owner, as a pointer; its end is [`release_raw`].
    pub(in crate::kernel) fn into_raw(self) -> *mut c_void {
        let raw = self.0.as_ptr().cast();
        core::mem::forget(self);
        raw
    }

    /// The same pointer, which is no owner.
    pub(in crate::kernel) const fn as_raw(&self) -> NonNull<c_void> {
        self.0.cast()
    }

    /// An owner again.
    ///
    /// # Safety
    /// [`Shared::into_raw`] of a `Shared<T>` made the pointer, and this is done once.
    pub(in crate::kernel) const unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        Self(raw.cast())
    }

    /// What an owner, as a pointer, has.
    ///
    /// # Safety
    /// [`Shared::into_raw`] of a `Shared<T>` made the pointer, and there is an owner for as long as
    /// the reference is used.
    pub(in crate::kernel) unsafe fn peek<'a>(raw: NonNull<c_void>) -> &'a T {
        // SAFETY: the caller's promise.
        &unsafe { raw.cast::<Counted<T>>().as_ref() }.value
    }
}

/// Ends an owner that [`Shared::into_raw`] made. One copy for all types: values own several.
///
/// # Safety
/// `raw` is such an owner, and is not used again.
#[inline(never)]
pub(in crate::kernel) unsafe fn release_raw(raw: NonNull<c_void>) {
    let header = raw.cast::<Header>();
    // SAFETY: the allocation lives as long as this owner.
    let counted = unsafe { header.as_ref() };
    let destroy = counted.destroy;
    if counted.owners.fetch_sub(1, Ordering::Release) != 1 {
        return;
    }
    // What the other owners did happens before the drop.
    fence(Ordering::Acquire);
    // SAFETY: this was the last owner.
    unsafe { destroy(header) };
}

/// # Safety
/// `header` is that of a `Counted<T>` without an owner.
unsafe fn destroy<T>(header: NonNull<Header>) {
    let counted = header.cast::<Counted<T>>();
    // SAFETY: the caller's promise.
    unsafe { counted.drop_in_place() };
    // SAFETY: `try_new` allocated it.
    unsafe { free(counted.cast(), TAG) };
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // As many owners as there are device objects and opens: the count cannot overflow.
        self.counted().header.owners.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: an owner, which ends here.
        unsafe { release_raw(self.0.cast()) };
    }
}

//! Device objects: made, found by the kernel's pointers, held against their removal, deleted.

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering},
};

use wdk_sys::{
    _DEVICE_RELATION_TYPE, DEVICE_OBJECT, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO,
    DO_POWER_PAGABLE, FILE_DEVICE_SECURE_OPEN, IO_REMOVE_LOCK, IRP,
    ntddk::{
        IoAcquireRemoveLockEx, IoAttachDeviceToDeviceStack, IoCreateDevice, IoDeleteDevice,
        IoDetachDevice, IoInitializeRemoveLockEx, IoInvalidateDeviceRelations,
        IoReleaseRemoveLockAndWaitEx, IoReleaseRemoveLockEx, ObfReferenceObject,
    },
};

use crate::ioctl::Status;
use crate::kernel::{
    Driver, Passive, Role, SecurityDescriptor, State, TAG, check, open::OpenList, size,
    string::unicode,
};

/// The next-lower device object of a function device object: where its IRPs go on to.
#[derive(Clone, Copy)]
pub(crate) struct Lower(NonNull<DEVICE_OBJECT>);

// SAFETY: a device object is used through kernel functions that synchronise themselves.
unsafe impl Send for Lower {}
// SAFETY: likewise.
unsafe impl Sync for Lower {}

impl Lower {
    pub(in crate::kernel) const fn raw(self) -> NonNull<DEVICE_OBJECT> {
        self.0
    }
}

/// The physical device object of a device: its identity to the PnP manager and the registry.
#[derive(Clone, Copy)]
pub(crate) struct PhysicalDevice(NonNull<DEVICE_OBJECT>);

// SAFETY: as for `Lower`.
unsafe impl Send for PhysicalDevice {}
// SAFETY: likewise.
unsafe impl Sync for PhysicalDevice {}

impl PhysicalDevice {
    /// # Safety
    /// `object` is a PDO that lives as long as this value is used.
    pub(in crate::kernel) const unsafe fn from_raw(object: NonNull<DEVICE_OBJECT>) -> Self {
        Self(object)
    }

    pub(in crate::kernel) const fn raw(self) -> *mut DEVICE_OBJECT {
        self.0.as_ptr()
    }

    /// Tells the PnP manager that the device may have other children now. At <= `DISPATCH_LEVEL`.
    pub(crate) fn children_changed(self) {
        // SAFETY: a live PDO.
        unsafe {
            IoInvalidateDeviceRelations(self.0.as_ptr(), _DEVICE_RELATION_TYPE::BusRelations);
        }
    }

    /// The object with one reference more, as the PnP manager wants it in a list of relations.
    pub(in crate::kernel) fn referenced(self) -> *mut DEVICE_OBJECT {
        // SAFETY: the object is live.
        unsafe { ObfReferenceObject(self.0.as_ptr().cast()) };
        self.0.as_ptr()
    }
}

/// The device extension: what `kernel` keeps of a device object, and its role.
#[repr(C)]
pub(in crate::kernel) struct Extension<R> {
    /// First, for an IRP knows its device by it, whatever the role.
    common: Common,
    role: UnsafeCell<MaybeUninit<R>>,
}

/// What a device extension has for every role. It may be all zero. It outlives the role: the kernel
/// frees it when the last open of the device object is closed.
pub(in crate::kernel) struct Common {
    remove_lock: UnsafeCell<IO_REMOVE_LOCK>,
    /// What it is attached to. Null for a child.
    lower: AtomicPtr<DEVICE_OBJECT>,
    state: AtomicU8,
    previous: AtomicU8,
    installed: AtomicBool,
    /// A child that its parent no longer reports: its `REMOVE_DEVICE` deletes it.
    missing: AtomicBool,
    opens: OpenList,
}

/// The remove lock of a device object. While it is held, the device object and its role stay.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RemoveLock(NonNull<Common>);

impl RemoveLock {
    fn common(&self) -> &Common {
        // SAFETY: the code that has the value holds the lock, or an IRP or an open of the device.
        unsafe { self.0.as_ref() }
    }

    fn raw(&self) -> *mut IO_REMOVE_LOCK {
        self.common().remove_lock.get()
    }

    /// What is known of the opens of the device object.
    pub(in crate::kernel) fn opens(&self) -> &OpenList {
        &self.common().opens
    }

    /// `IoAcquireRemoveLock`. At <= `DISPATCH_LEVEL`. The tag is only compared.
    ///
    /// # Errors
    /// `STATUS_DELETE_PENDING`: the device is being removed.
    pub(in crate::kernel) fn acquire(self, tag: *mut c_void) -> Result<(), Status> {
        // SAFETY: initialised when the device was created.
        check(unsafe {
            IoAcquireRemoveLockEx(self.raw(), tag, c"".as_ptr().cast(), 0, REMOVE_LOCK_SIZE)
        })
    }

    /// `IoReleaseRemoveLock`. At <= `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// It is held with this tag. The device may be gone after this.
    pub(in crate::kernel) unsafe fn release(self, tag: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { IoReleaseRemoveLockEx(self.raw(), tag, REMOVE_LOCK_SIZE) };
    }

    /// `IoReleaseRemoveLockAndWait`: from now on it is held no more, and cannot be acquired.
    ///
    /// # Safety
    /// It is held with this tag; at `PASSIVE_LEVEL`, once, in the removal of the device.
    pub(in crate::kernel) unsafe fn release_and_wait(self, tag: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { IoReleaseRemoveLockAndWaitEx(self.raw(), tag, REMOVE_LOCK_SIZE) };
    }

    /// Holds the device for as long as the value lives. `None`: it is being removed.
    pub(in crate::kernel) fn hold(self) -> Option<DeviceHold> {
        self.acquire(self.0.as_ptr().cast()).ok()?;
        Some(DeviceHold(self))
    }
}

/// The remove lock's size, by which the kernel tells its free layout from the checked one.
const REMOVE_LOCK_SIZE: u32 = size::<IO_REMOVE_LOCK>();

/// Holding a device object, its role and the driver's image: for code that uses them after the IRP
/// that it was called for is another thread's, or ended. At <= `DISPATCH_LEVEL`.
#[must_use = "the device is held while this lives"]
pub(in crate::kernel) struct DeviceHold(RemoveLock);

impl Drop for DeviceHold {
    fn drop(&mut self) {
        // SAFETY: `hold` acquired it with this tag.
        unsafe { self.0.release(self.0.0.as_ptr().cast()) };
    }
}

/// A device object of this driver.
pub(crate) struct Device<'d, R> {
    object: NonNull<DEVICE_OBJECT>,
    extension: &'d Extension<R>,
}

impl<R> Clone for Device<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Device<'_, R> {}

impl<'d, R: Role> Device<'d, R> {
    /// # Safety
    /// `object` is a device object that this file made, and lives as long as the value.
    pub(in crate::kernel) unsafe fn from_raw(object: NonNull<DEVICE_OBJECT>) -> Self {
        // SAFETY: a place in a live object, of which the I/O manager writes other members at any
        // time: so nowhere here is there a reference to one. Nothing is read.
        let extension = unsafe { &raw const (*object.as_ptr()).DeviceExtension };
        // SAFETY: it does not change.
        let extension = unsafe { extension.read() };
        Self {
            object,
            // SAFETY: `create` made the extension.
            extension: unsafe { &*extension.cast::<Extension<R>>() },
        }
    }

    pub(in crate::kernel) const fn raw(self) -> *mut DEVICE_OBJECT {
        self.object.as_ptr()
    }

    pub(in crate::kernel) const fn object(self) -> NonNull<DEVICE_OBJECT> {
        self.object
    }

    fn common(self) -> &'d Common {
        &self.extension.common
    }

    pub(in crate::kernel) const fn remove_lock(self) -> RemoveLock {
        RemoveLock(NonNull::from_ref(&self.extension.common))
    }

    /// The role. A thread that holds the remove lock, or runs in the PnP path, finds it installed.
    ///
    /// # Safety
    /// The caller holds the remove lock, or is what the removal of the device waits for.
    pub(in crate::kernel) unsafe fn role(self) -> &'d R {
        // SAFETY: `install` wrote it before `dispatch` lets any request through, and `delete` drops
        // it when none can arrive any more.
        let role = unsafe { &*self.extension.role.get() };
        // SAFETY: likewise.
        unsafe { role.assume_init_ref() }
    }

    /// Whether it has its role: not yet while `AddDevice` makes it, though it is attached.
    pub(in crate::kernel) fn is_installed(self) -> bool {
        self.common().installed.load(Ordering::Acquire)
    }

    /// The device object that it is attached to.
    pub(in crate::kernel) fn attached_to(self) -> Option<Lower> {
        NonNull::new(self.common().lower.load(Ordering::Acquire)).map(Lower)
    }

    /// Where the device stands in its PnP life.
    pub(crate) fn state(self) -> State {
        State::from_byte(self.common().state.load(Ordering::Acquire))
    }

    pub(in crate::kernel) fn set_state(self, state: State) {
        let before = self.common().state.swap(state as u8, Ordering::AcqRel);
        self.common().previous.store(before, Ordering::Release);
    }

    /// The state before the last change: what a cancelled query goes back to.
    pub(in crate::kernel) fn previous_state(self) -> State {
        State::from_byte(self.common().previous.load(Ordering::Acquire))
    }

    /// A child device object as the PnP manager's PDO.
    pub(crate) const fn physical(self) -> PhysicalDevice {
        PhysicalDevice(self.object)
    }

    /// Whether its parent no longer reports the child.
    pub(in crate::kernel) fn is_missing(self) -> bool {
        self.common().missing.load(Ordering::Acquire)
    }
}

/// How a device object is made.
pub(crate) struct DeviceOptions<'a> {
    /// Its name in the object namespace.
    pub(crate) name: &'a [u16],
    /// `FILE_DEVICE_*`
    pub(crate) device_type: u32,
    /// Who may open it; `None`: the INF or the class says so.
    pub(crate) security: Option<&'a SecurityDescriptor>,
    /// Reads and writes are direct (`DO_DIRECT_IO`): they come with locked pages.
    pub(crate) direct: bool,
}

/// A device object under construction: deleted again unless it is finished.
struct Draft<R: Role> {
    object: NonNull<DEVICE_OBJECT>,
    _role: PhantomData<R>,
}

impl<R: Role> Draft<R> {
    fn create(
        driver: Driver<R>,
        options: &DeviceOptions,
        passive: Passive,
    ) -> Result<Self, Status> {
        const { assert!(align_of::<Extension<R>>() <= 16) }
        let mut name = unicode(options.name);
        let mut object = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL; the name is copied; the extension is zeroed.
        let status = unsafe {
            IoCreateDevice(
                driver.raw(),
                size::<Extension<R>>(),
                &raw mut name,
                options.device_type,
                // Names behind the device are checked against its descriptor, too.
                FILE_DEVICE_SECURE_OPEN,
                0,
                &raw mut object,
            )
        };
        check(status)?;
        // SAFETY: IoCreateDevice made it.
        let object = unsafe { NonNull::new_unchecked(object) };
        let draft = Self {
            object,
            _role: PhantomData,
        };
        if let Some(security) = options.security {
            // SAFETY: the object is live, and the draft's.
            unsafe { security.apply(object, passive)? };
        }
        // SAFETY: the object is live and its extension large enough. All of an Extension's own
        // members may be zero.
        let device = unsafe { Device::<R>::from_raw(object) };
        // SAFETY: nonpaged storage, initialised once, here.
        unsafe {
            IoInitializeRemoveLockEx(device.remove_lock().raw(), TAG, 0, 0, REMOVE_LOCK_SIZE);
        }
        Ok(draft)
    }

    fn device(&self) -> Device<'_, R> {
        // SAFETY: `create` made the object, and it lives as long as the draft.
        unsafe { Device::from_raw(self.object) }
    }

    /// Writes the role. The device gets requests as soon as it is shown.
    fn install(self, role: R) -> NonNull<DEVICE_OBJECT> {
        let extension = self.device().extension;
        // SAFETY: no thread looks at the role before it is said to be installed.
        unsafe { (*extension.role.get()).write(role) };
        extension.common.installed.store(true, Ordering::Release);
        let object = self.object;
        core::mem::forget(self);
        object
    }
}

/// Lets a device be opened.
///
/// # Safety
/// The object is live, has its role, and no other thread changes its flags yet.
unsafe fn show(object: NonNull<DEVICE_OBJECT>) {
    // SAFETY: the caller's promise.
    unsafe { (*object.as_ptr()).Flags &= !DO_DEVICE_INITIALIZING };
}

impl<R: Role> Drop for Draft<R> {
    fn drop(&mut self) {
        // SAFETY: the draft was not finished, so no other thread has the object; drafts live in the
        // PnP path at PASSIVE_LEVEL.
        unsafe { dismantle::<R>(self.object) };
    }
}

/// Detaches and deletes a device object.
///
/// # Safety
/// At `PASSIVE_LEVEL`; `create` made the object; it and its role are not used any more.
#[inline(never)]
unsafe fn dismantle<R: Role>(object: NonNull<DEVICE_OBJECT>) {
    // SAFETY: the object is live.
    let device = unsafe { Device::<R>::from_raw(object) };
    if let Some(lower) = device.attached_to() {
        // SAFETY: the object is attached to it.
        unsafe { IoDetachDevice(lower.raw().as_ptr()) };
    }
    let extension = device.extension;
    if extension.common.installed.swap(false, Ordering::AcqRel) {
        // SAFETY: installed, and not used any more.
        let role = unsafe { &mut *extension.role.get() };
        // SAFETY: likewise; it is not dropped again.
        unsafe { role.assume_init_drop() };
    }
    // SAFETY: at PASSIVE_LEVEL, once.
    unsafe { IoDeleteDevice(object.as_ptr()) };
}

impl<R: Role> Driver<R> {
    /// Makes a function device object on top of the stack of `pdo`, the last step of `AddDevice`.
    /// `role` builds its state; it is given the object and what lies below.
    ///
    /// # Errors
    /// `STATUS_OBJECT_NAME_COLLISION`, `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_NO_SUCH_DEVICE`
    /// (the stack is going away), or what `role` says. Nothing is left then.
    pub(crate) fn create_function(
        self,
        pdo: PhysicalDevice,
        options: &DeviceOptions,
        passive: Passive,
        role: impl FnOnce(Device<'_, R>, Lower) -> Result<R, Status>,
    ) -> Result<(), Status> {
        let draft = Draft::create(self, options, passive)?;
        let object = draft.object.as_ptr();
        // SAFETY: both objects are live.
        let lower = unsafe { IoAttachDeviceToDeviceStack(object, pdo.raw()) };
        let lower = Lower(NonNull::new(lower).ok_or(Status::NO_SUCH_DEVICE)?);
        let below = &draft.device().common().lower;
        below.store(lower.raw().as_ptr(), Ordering::Release);
        let below = lower.raw().as_ptr();
        // SAFETY: the object below us stays while we are attached.
        let device_type = unsafe { (*below).DeviceType };
        // SAFETY: likewise.
        let characteristics = unsafe { (*below).Characteristics };
        // SAFETY: likewise.
        let flags = unsafe { (*below).Flags };
        // A stack must agree on its method.
        let method = match flags & (DO_BUFFERED_IO | DO_DIRECT_IO) {
            0 if options.direct => DO_DIRECT_IO,
            0 => DO_BUFFERED_IO,
            method => method,
        };
        // SAFETY: the object is live, and AddDevice sets these members of it alone.
        unsafe { (*object).DeviceType = device_type };
        // SAFETY: likewise.
        unsafe { (*object).Characteristics |= characteristics };
        // SAFETY: likewise.
        unsafe { (*object).Flags |= flags & DO_POWER_PAGABLE | method };
        let role = role(draft.device(), lower)?;
        let object = draft.install(role);
        // SAFETY: installed; AddDevice has not returned.
        unsafe { show(object) };
        Ok(())
    }
}

impl<R: Role> Device<'_, R> {
    /// Makes a child of this function device: a PDO of this driver as a bus driver.
    ///
    /// # Errors
    /// As [`Driver::create_function`]; also what setting the security descriptor gives.
    pub(crate) fn create_child(
        self,
        options: &DeviceOptions,
        passive: Passive,
        role: impl FnOnce(Device<'_, R>) -> Result<R, Status>,
    ) -> Result<OwnedDevice<R>, Status> {
        let parent = self.object.as_ptr();
        // SAFETY: the object is live.
        let driver = unsafe { (*parent).DriverObject };
        // SAFETY: likewise.
        let flags = unsafe { (*parent).Flags };
        // SAFETY: device objects have their driver's.
        let driver = unsafe { NonNull::new_unchecked(driver) };
        // SAFETY: device objects of this file belong to this driver.
        let draft = Draft::create(unsafe { Driver::from_raw(driver) }, options, passive)?;
        // A bus and its children agree on the IRQL of power requests.
        let flags = DO_BUFFERED_IO | flags & DO_POWER_PAGABLE;
        // SAFETY: the object is live, and no other thread sets its flags yet.
        unsafe { (*draft.object.as_ptr()).Flags |= flags };
        let role = role(draft.device())?;
        Ok(OwnedDevice {
            object: draft.install(role),
            _role: PhantomData,
        })
    }
}

/// A child device object; the function device object that made it deletes it.
pub(crate) struct OwnedDevice<R> {
    object: NonNull<DEVICE_OBJECT>,
    _role: PhantomData<R>,
}

// SAFETY: a device object may be used from any thread.
unsafe impl<R: Send + Sync> Send for OwnedDevice<R> {}

impl<R: Role> OwnedDevice<R> {
    /// The child as the PnP manager's PDO.
    pub(crate) const fn physical(&self) -> PhysicalDevice {
        PhysicalDevice(self.object)
    }

    /// The PnP manager is about to be told of the child for the first time, in a list of relations.
    /// Until now it could not be opened, so no request reached it.
    pub(crate) fn introduce(&self) {
        // SAFETY: its parent made it, and the PnP manager does not know it yet.
        unsafe { show(self.object) };
    }

    /// Deletes a child that was not introduced.
    pub(crate) fn discard(self, _: Passive) {
        // SAFETY: at PASSIVE_LEVEL; the object could not be opened, and the PnP manager does not
        // know it: no request has reached it.
        unsafe { dismantle::<R>(self.object) };
    }

    /// Gives the child up: it is gone, and its parent reports it no longer. The PnP manager removes
    /// it, and with its `REMOVE_DEVICE` the object is deleted.
    pub(crate) fn report_missing(self) {
        // SAFETY: the object is live.
        let device = unsafe { Device::<R>::from_raw(self.object) };
        device.common().missing.store(true, Ordering::Release);
    }

    /// Deletes the object. Its `REMOVE_DEVICE` is over: children go before their parent.
    pub(crate) fn delete(self, _: Passive) {
        // SAFETY: the object is live.
        let lock = unsafe { Device::<R>::from_raw(self.object) }.remove_lock();
        let tag = self.object.as_ptr().cast();
        // A kernel client may hold the object itself for longer: from here on it is refused.
        if lock.acquire(tag).is_ok() {
            // SAFETY: acquired with this tag; at PASSIVE_LEVEL, in the parent's REMOVE.
            unsafe { lock.release_and_wait(tag) };
        }
        // SAFETY: no request of the child is left, and none gets in.
        unsafe { dismantle::<R>(self.object) };
    }
}

/// Deletes a child that its parent no longer reports, the end of its `REMOVE_DEVICE`.
///
/// # Safety
/// At `PASSIVE_LEVEL`, in that request, which holds the remove lock with `tag`; the parent has
/// given the object up.
pub(in crate::kernel) unsafe fn delete_missing<R: Role>(device: Device<'_, R>, tag: NonNull<IRP>) {
    let lock = device.remove_lock();
    // SAFETY: the caller's promise.
    unsafe { lock.release_and_wait(tag.as_ptr().cast()) };
    // SAFETY: no request of the child is left, and none gets in.
    unsafe { dismantle::<R>(device.object) };
}

/// Deletes a function device object, the end of its `REMOVE_DEVICE`.
///
/// # Safety
/// At `PASSIVE_LEVEL`; its remove lock has been released for good, and the IRP is forwarded.
pub(in crate::kernel) unsafe fn delete_function<R: Role>(device: Device<'_, R>) {
    // SAFETY: the caller's promise: no request can reach the role any more.
    unsafe { dismantle::<R>(device.object) };
}

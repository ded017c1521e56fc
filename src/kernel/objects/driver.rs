//! A driver: its roles, its entry and its unload.

use core::{marker::PhantomData, ptr::NonNull};

use wdk_sys::{
    DEVICE_OBJECT, DRIVER_OBJECT, IRP_MJ_MAXIMUM_FUNCTION, IRP_MJ_PNP, IRP_MJ_POWER,
    IRP_MJ_SYSTEM_CONTROL, NTSTATUS, STATUS_SUCCESS,
};

use crate::kernel::{
    Device, Disposition, Irp, Passive, PhysicalDevice, Pnp, Request, dispatch, irql::Routine, trace,
};
use crate::{ioctl::Status, trace::Label};

/// The kinds of device object that a driver makes; one value lives in each device extension.
pub(crate) trait Role: Sized + Send + Sync + 'static {
    /// A device of ours was found: make its function device object.
    ///
    /// # Errors
    /// The device is not served, or there are no resources for it.
    fn add_device(
        driver: Driver<Self>,
        pdo: PhysicalDevice,
        passive: Passive,
    ) -> Result<(), Status>;

    /// What the device object is to the PnP manager.
    fn pnp(&self) -> Pnp<'_, Self>;

    /// What events call the device. At any IRQL.
    fn label(&self) -> Label;

    /// A request other than PnP, power and WMI. At <= `DISPATCH_LEVEL`, in the requester's thread.
    fn request(&self, device: Device<'_, Self>, irp: Irp, request: Request) -> Disposition;
}

/// The driver object.
pub(crate) struct Driver<R>(NonNull<DRIVER_OBJECT>, PhantomData<fn() -> R>);

impl<R> Clone for Driver<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Driver<R> {}

impl<R: Role> Driver<R> {
    pub(in crate::kernel) const fn raw(self) -> *mut DRIVER_OBJECT {
        self.0.as_ptr()
    }

    /// # Safety
    /// `object` is this driver's driver object, whose routines are those of `R`.
    pub(in crate::kernel) const unsafe fn from_raw(object: NonNull<DRIVER_OBJECT>) -> Self {
        Self(object, PhantomData)
    }
}

/// Fills the driver object: the whole of `DriverEntry`.
///
/// Every major function has an entry, so that no request falls to the I/O manager's default
/// behind the back of the remove lock.
pub(crate) fn initialize<R: Role>(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
    const { assert!(IRP_MJ_MAXIMUM_FUNCTION == 27) }
    driver.MajorFunction = [Some(dispatch::dispatch::<R>); 28];
    for major in [IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL] {
        if let Some(routine) = driver.MajorFunction.get_mut(major as usize) {
            *routine = Some(dispatch::system::<R>);
        }
    }
    driver.DriverUnload = Some(unload);
    // SAFETY: the I/O manager made the extension.
    match unsafe { driver.DriverExtension.as_mut() } {
        Some(extension) => extension.AddDevice = Some(add_device::<R>),
        None => return Status::UNSUCCESSFUL.0,
    }
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: the I/O manager calls DriverEntry at PASSIVE_LEVEL.
    trace::register(unsafe { Passive::of(&routine) });
    STATUS_SUCCESS
}

/// `AddDevice`, which the PnP manager calls at `PASSIVE_LEVEL` in a system thread.
unsafe extern "C" fn add_device<R: Role>(
    driver: *mut DRIVER_OBJECT,
    pdo: *mut DEVICE_OBJECT,
) -> NTSTATUS {
    // SAFETY: the PnP manager passes the driver object.
    let driver = unsafe { NonNull::new_unchecked(driver) };
    // SAFETY: and the PDO of the device.
    let pdo = unsafe { NonNull::new_unchecked(pdo) };
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: the PnP manager calls AddDevice at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    let object = driver.as_ptr();
    // SAFETY: it passes the driver object that `initialize` filled.
    let driver = unsafe { Driver::from_raw(driver) };
    // SAFETY: and the PDO of the device.
    let pdo = unsafe { PhysicalDevice::from_raw(pdo) };
    match R::add_device(driver, pdo, passive) {
        Ok(()) => STATUS_SUCCESS,
        Err(status) => {
            trace::add_failed(object, status);
            status.0
        }
    }
}

/// `DriverUnload`. Nothing but the provider outlives the last device object.
unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: the I/O manager calls it at PASSIVE_LEVEL.
    trace::unregister(unsafe { Passive::of(&routine) });
}

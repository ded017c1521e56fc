//! DriverEntry, the dispatch routine, unload.

use core::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use kernel_declarations::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, Dispatch, IRP, IRP_MJ_DEVICE_CONTROL,
    IoAcquireRemoveLockEx, IoInitializeRemoveLockEx, IoReleaseRemoveLockEx, IofCompleteRequest,
    Ptr, REMOVE_LOCK, SUCCESS, Status,
    control_device::{self, wide},
};

use crate::codes::HELD;

const TAG: u32 = u32::from_le_bytes(*b"PNul");

/// The one device.
static DEVICE: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(ptr::null_mut());

static NAME: [u16; 19] = wide(br"\Device\ParscanNull");
static LINK: [u16; 23] = wide(br"\DosDevices\ParscanNull");

/// The image's entry point: makes the device.
///
/// # Safety
/// The I/O manager calls it once, at `PASSIVE_LEVEL`.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(driver: *mut DRIVER_OBJECT, _path: Ptr) -> Status {
    // SAFETY: this driver's object.
    let device = match unsafe { control_device::create(driver, REMOVE_LOCK, &NAME, &LINK) } {
        Ok(device) => device,
        Err(status) => return status,
    };
    DEVICE.store(device, Relaxed);
    // SAFETY: the I/O manager's object, for this driver to fill.
    if let Some(driver) = unsafe { driver.as_mut() } {
        driver.DriverUnload = Some(unload);
        driver.MajorFunction = [Some(dispatch as Dispatch); 28];
    }
    // SAFETY: just made.
    if let Some(device) = unsafe { device.as_mut() } {
        // SAFETY: the extension is as long as it.
        unsafe {
            IoInitializeRemoveLockEx(device.DeviceExtension, TAG, 0, 0, REMOVE_LOCK);
        }
        device.Flags &= !DO_DEVICE_INITIALIZING;
    }
    SUCCESS
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: DriverEntry made it, and a driver is unloaded when no client has it open any more.
    unsafe { control_device::delete(DEVICE.load(Relaxed), &LINK) };
}

/// Every request.
unsafe extern "C" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: the IRP is with this driver.
    let location = unsafe { (*irp).CurrentStackLocation };
    // SAFETY: and so is its present stack location.
    let location = unsafe { &*location };
    if location.MajorFunction == IRP_MJ_DEVICE_CONTROL
        && location.device_io_control().IoControlCode == HELD
    {
        return held(device, irp);
    }
    complete(irp)
}

/// Completes the IRP while the remove lock is held.
fn held(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: this driver's device.
    let lock = unsafe { (*device).DeviceExtension };
    // SAFETY: initialised by DriverEntry.
    let status =
        unsafe { IoAcquireRemoveLockEx(lock, irp.cast(), c"".as_ptr().cast(), 0, REMOVE_LOCK) };
    if status < 0 {
        return complete_with(irp, status);
    }
    let status = complete(irp);
    // SAFETY: acquired above, with this tag, which is only compared.
    unsafe { IoReleaseRemoveLockEx(lock, irp.cast(), REMOVE_LOCK) };
    status
}

fn complete(irp: *mut IRP) -> Status {
    complete_with(irp, SUCCESS)
}

fn complete_with(irp: *mut IRP, status: Status) -> Status {
    // SAFETY: the IRP is with this driver.
    if let Some(irp) = unsafe { irp.as_mut() } {
        irp.IoStatus.Status = status;
        irp.IoStatus.Information = 0;
    }
    // SAFETY: and is not touched after this.
    unsafe { IofCompleteRequest(irp, 0) };
    status
}

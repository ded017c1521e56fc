//! The dispatch routines: they take an IRP, hold its device, and hand it to what it is for.

use core::ptr::NonNull;

use wdk_sys::{
    DEVICE_OBJECT, IRP, IRP_MJ_CREATE, IRP_MJ_PNP, IRP_MJ_SYSTEM_CONTROL, IRP_MN_REMOVE_DEVICE,
    NTSTATUS,
};

use crate::ioctl::Status;
use crate::kernel::{
    Device, Disposition, Irp, Request, Role, device::DeviceHold, irql::Routine, pnp, power,
};

/// The dispatch routine of `IRP_MJ_PNP`, `IRP_MJ_POWER` and `IRP_MJ_SYSTEM_CONTROL`, for every device
/// object.
pub(in crate::kernel) unsafe extern "C" fn system<R: Role>(
    object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
) -> NTSTATUS {
    let pass = |device: Device<'_, R>, irp: Irp, hold: Option<DeviceHold>, routine: &Routine| {
        let major = u32::from(irp.stack().MajorFunction);
        let removes =
            major == IRP_MJ_PNP && u32::from(irp.stack().MinorFunction) == IRP_MN_REMOVE_DEVICE;
        let _hold = hold.filter(|_| !removes);
        match major {
            // No device here provides WMI data.
            IRP_MJ_SYSTEM_CONTROL => pnp::pass_on(device, irp),
            // AddDevice has attached the device, and still makes the rest.
            _ if !device.is_installed() => pnp::pass_on(device, irp),
            IRP_MJ_PNP => pnp::plug_and_play(device, irp, routine),
            _ => power::power(device, irp),
        }
    };
    // SAFETY: the I/O manager calls this, with a device object of this driver and an IRP for it.
    unsafe { take(object, irp, pass) }
}

/// The dispatch routine of all other major functions.
pub(in crate::kernel) unsafe extern "C" fn dispatch<R: Role>(
    object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
) -> NTSTATUS {
    let pass = |device: Device<'_, R>, irp: Irp, _hold: Option<DeviceHold>, routine: &Routine| {
        match u32::from(irp.stack().MajorFunction) {
            _ if !device.is_installed() => irp.complete(Status::DEVICE_NOT_READY),
            IRP_MJ_CREATE => create(device, irp),
            _ => role_request(device, irp, routine),
        }
    };
    // SAFETY: the I/O manager calls this, with a device object of this driver and an IRP for it.
    unsafe { take(object, irp, pass) }
}

/// Takes an IRP that has come to a device object, holds the device, and passes both on.
///
/// The IRP may end, and the device be removed, while the code that passed it on still runs. Only
/// `REMOVE_DEVICE`, which waits for all who hold the device, lets go of it before.
///
/// # Safety
/// The I/O manager passed both to a dispatch routine of this driver, which calls this.
#[allow(clippy::inline_always, reason = "a part of every request")]
#[inline(always)]
unsafe fn take<R: Role>(
    object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    pass: impl FnOnce(Device<'_, R>, Irp, Option<DeviceHold>, &Routine) -> Disposition,
) -> NTSTATUS {
    // SAFETY: the caller's promise.
    let object = unsafe { NonNull::new_unchecked(object) };
    // SAFETY: likewise.
    let irp = unsafe { NonNull::new_unchecked(irp) };
    // SAFETY: likewise.
    let routine = unsafe { Routine::new() };
    // SAFETY: likewise.
    let device = unsafe { Device::<R>::from_raw(object) };
    // Without it the IRP is refused, too: a removal does not turn back.
    let hold = device.remove_lock().hold();
    // SAFETY: likewise.
    match unsafe { Irp::accept(irp, device.remove_lock()) } {
        Ok(irp) => pass(device, irp, hold, &routine).status(),
        Err(refused) => refused.status(),
    }
}

/// A request that the role sees. `CLEANUP` and `CLOSE` change first what is known of their open.
#[allow(clippy::inline_always, reason = "a part of every request")]
#[inline(always)]
fn role_request<R: Role>(device: Device<'_, R>, irp: Irp, routine: &Routine) -> Disposition {
    // SAFETY: the dispatch routine holds the device.
    let role = unsafe { device.role() };
    // SAFETY: this is the dispatch routine of the IRP.
    let request = unsafe { irp.request(routine) };
    if let Request::Cleanup(_) | Request::Close(_) = request {
        end_open(&irp, request);
    }
    role.request(device, irp, request)
}

/// `IRP_MJ_CLEANUP` and `IRP_MJ_CLOSE`
#[inline(never)]
fn end_open(irp: &Irp, request: Request) {
    match request {
        Request::Cleanup(_) => {
            if let Some(open) = irp.open() {
                open.set_cleaned_up();
            }
        }
        _ => irp.forget_open(),
    }
}

/// `IRP_MJ_CREATE`: the open is known from here on, unless the role refuses it, which it does at
/// once.
#[inline(never)]
fn create<R: Role>(device: Device<'_, R>, irp: Irp) -> Disposition {
    let lock = device.remove_lock();
    let open = match lock.opens().add(irp.file()) {
        Ok(open) => open,
        Err(status) => return irp.complete(status),
    };
    let request = irp.create();
    // SAFETY: the dispatch routine holds the device.
    let disposition = unsafe { device.role() }.request(device, irp, request);
    if !disposition.is_success() {
        // SAFETY: of a refused open no request comes, and its place is not another one's.
        unsafe { lock.opens().remove(open) };
    }
    disposition
}

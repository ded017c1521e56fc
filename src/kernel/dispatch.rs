use core::ptr::NonNull;

use wdk_sys::{DEVICE_OBJECT, IRP, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, NTSTATUS};

use super::{Device, Irp, Request, Role, pnp, power};
use crate::ioctl::Status;

/// The dispatch routine of every major function of every device object.
pub(super) unsafe extern "C" fn dispatch<R: Role>(
    object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
) -> NTSTATUS {
    let (Some(object), Some(irp)) = (NonNull::new(object), NonNull::new(irp)) else {
        return Status::INVALID_PARAMETER.0;
    };
    // SAFETY: the I/O manager calls this for device objects of this driver.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: and passes an IRP for it.
    let irp = match unsafe { Irp::accept(irp, device.remove_lock()) } {
        Ok(irp) => irp,
        Err(refused) => return refused.status(),
    };
    let disposition = match u32::from(irp.stack().MajorFunction) {
        // No device here provides WMI data.
        IRP_MJ_SYSTEM_CONTROL => pnp::pass_on(device, irp),
        // AddDevice has attached the device, and still makes the rest.
        IRP_MJ_PNP | IRP_MJ_POWER if !device.is_installed() => pnp::pass_on(device, irp),
        _ if !device.is_installed() => irp.complete(Status::DEVICE_NOT_READY),
        IRP_MJ_PNP => pnp::plug_and_play(device, irp),
        IRP_MJ_POWER => power::power(device, irp),
        _ => {
            // SAFETY: the IRP holds the remove lock until it ends, and the role is looked at only
            // before that or by the requests that follow.
            let role = unsafe { device.role() };
            // SAFETY: this is the dispatch routine of the IRP.
            let request = unsafe { irp.request() };
            if matches!(request, Request::Close(_)) {
                irp.file().let_go();
            }
            role.request(device, irp, request)
        }
    };
    disposition.status()
}

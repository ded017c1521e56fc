//! Power requests that a driver asks for.

use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

use crate::{
    irql,
    nt::{
        self, DEVICE_OBJECT, DEVICE_POWER, Device, INSUFFICIENT_RESOURCES, NOT_SUPPORTED, PENDING,
        Ptr, SET_POWER, Status, major,
    },
    report::broken,
    thread,
};

/// `PREQUEST_POWER_COMPLETE`
type Complete = unsafe extern "system" fn(*mut DEVICE_OBJECT, u8, u32, Ptr, *const IO_STATUS_BLOCK);

/// `IRP_MN_SET_POWER` of a device state only.
pub(super) unsafe extern "system" fn po_request_power_irp(
    device: *mut DEVICE_OBJECT,
    minor: u8,
    state: u32,
    complete: Option<Complete>,
    context: Ptr,
    _irp: *mut Ptr,
) -> Status {
    if minor != SET_POWER {
        broken!("PoRequestPowerIrp of minor {minor}, which is not provided");
        return NOT_SUPPORTED;
    }
    // SAFETY: the driver's device.
    let target = unsafe { Device::from_raw(device) };
    // Windows, too, sends it from a thread of its own when the stack's devices are pageable.
    let started = thread::start(move || {
        let (status, _) = target.top().request(|irp| {
            irp.set_function(major::POWER, SET_POWER);
            irp.set_parameter(1, DEVICE_POWER);
            irp.set_parameter(2, state as usize);
        });
        if let Some(complete) = complete {
            let block = nt::status_block(status);
            // SAFETY: as the driver asked. It may be called at this level, so it is.
            irql::at(irql::DISPATCH, || unsafe {
                complete(device, minor, state, context, &raw const block);
            });
        }
    });
    if started {
        PENDING
    } else {
        INSUFFICIENT_RESOURCES
    }
}

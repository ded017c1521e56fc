//! A request that goes down as a URB: the caller's bytes are the URB.
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

use core::ptr::copy_nonoverlapping;

use crate::api::{
    DEVICE_OBJECT, ExAllocatePool2, ExFreePoolWithTag, INSUFFICIENT_RESOURCES, IRP, IofCallDriver,
    NON_PAGED, PENDING, Ptr, SUCCESS, Status, TAG, buffer, current, finish, mark_pending,
    set_completion, set_status, status,
};
use crate::driver::{extension, leave};

/// `IOCTL_INTERNAL_USB_SUBMIT_URB`
const SUBMIT_URB: usize = 0x0022_0003;

/// Offset of `TransferBufferMDL`.
const BUFFER_MDL: usize = 0x30;

/// Gives the URB back to the caller, at whatever IRQL the bus completes it.
unsafe extern "C" fn done(device: *mut DEVICE_OBJECT, irp: *mut IRP, urb: Ptr) -> Status {
    unsafe {
        let length = usize::from(urb.cast::<u16>().read());
        if status(irp) >= 0 {
            copy_nonoverlapping(urb.cast::<u8>(), buffer(irp), length);
            set_status(irp, status(irp), length);
        }
        ExFreePoolWithTag(urb, TAG);
        if (*irp).PendingReturned {
            mark_pending(irp);
        }
    }
    leave(device, irp.cast());
    SUCCESS
}

/// Sends `length` bytes of the system buffer to the bus driver as a URB, in the caller's own IRP.
pub(crate) fn submit(device: *mut DEVICE_OBJECT, irp: *mut IRP, length: usize) -> Status {
    let urb: *mut u8 = unsafe { ExAllocatePool2(NON_PAGED, length.max(24), TAG) }.cast();
    if urb.is_null() {
        let status = finish(irp, INSUFFICIENT_RESOURCES, 0);
        leave(device, irp.cast());
        return status;
    }
    unsafe {
        copy_nonoverlapping(buffer(irp).cast_const(), urb, length);
        // METHOD_OUT_DIRECT: the data goes to the caller's own pages.
        if !(*irp).MdlAddress.is_null() && length >= BUFFER_MDL + 8 {
            let place: *mut usize = urb.add(BUFFER_MDL).cast();
            place.write((*irp).MdlAddress.addr());
        }
        let next = current(irp).sub(1);
        (*next).MajorFunction = 0x0F;
        (*next).Parameters = [urb as usize, 0, SUBMIT_URB, 0];
        set_completion(irp, done, urb.cast());
        mark_pending(irp);
        IofCallDriver((*extension(device)).lower, irp);
    }
    PENDING
}

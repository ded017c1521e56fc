//! The power policy owner: a device power request follows from each system power request.

use core::ptr::{from_mut, null, null_mut};

use crate::api::*;
use crate::driver::{PORT, enter, extension, leave, pass, sin};

const SET: u8 = 2;
const QUERY: u8 = 3;
const SYSTEM: u32 = 0;
const DEVICE: u32 = 1;
const D0: u32 = 1;
const D3: u32 = 4;

fn lower(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
    unsafe { (*extension(device)).lower }
}

fn tell(device: *mut DEVICE_OBJECT, state: u32) {
    unsafe { PoSetPowerState(device, DEVICE, state) };
}

/// After a successful start.
pub(crate) fn started(device: *mut DEVICE_OBJECT) {
    if !sin(60) {
        tell(device, D0);
    }
}

/// Before a removal goes down.
pub(crate) fn removed(device: *mut DEVICE_OBJECT) {
    if !sin(61) {
        tell(device, D3);
    }
}

pub(crate) unsafe extern "C" fn power(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let minor = unsafe { (*current(irp)).MinorFunction };
    let (kind, state) = (argument_low(irp, 1), argument_low(irp, 2));
    if unsafe { (*extension(device)).is_child } {
        if minor != SET && minor != QUERY {
            return finish(irp, status(irp), 0);
        }
        if minor == SET && kind == DEVICE {
            tell(device, state);
        }
        return finish(irp, SUCCESS, 0);
    }
    if sin(16) && minor > 3 {
        set_status(irp, SUCCESS, 0);
    }
    if sin(62) && minor == QUERY {
        return finish(irp, SUCCESS, 0);
    }
    // No sin: a driver may refuse.
    if sin(77) && minor == QUERY {
        return finish(irp, UNSUCCESSFUL, 0);
    }
    if minor != SET && !(minor == QUERY && kind == SYSTEM && !sin(201)) {
        return pass(device, irp);
    }
    if sin(63) && kind == DEVICE && state != D0 {
        tell(device, state);
        return pass(device, irp);
    }
    let refused = enter(device, irp);
    if refused < 0 {
        return finish(irp, refused, 0);
    }
    mark_pending(irp);
    if sin(64) {
        // Kept for ever.
        return PENDING;
    }
    if sin(65) && kind == SYSTEM && state > D0 {
        unsafe { ExFreePoolWithTag(ExAllocatePool2(NON_PAGED, 16, TAG), TAG) };
    }
    if sin(66) {
        sleep(1);
    }
    copy(irp);
    let routine = match (kind, state) {
        (SYSTEM, _) if minor == QUERY => system_queried,
        (SYSTEM, _) => system_done,
        (_, D0) => {
            if sin(67) {
                tell(device, D0);
            }
            powered
        }
        _ => {
            if sin(75) {
                unsafe {
                    let old = KfRaiseIrql(2);
                    tell(device, state);
                    KeLowerIrql(old);
                }
            }
            if !sin(68) {
                tell(device, state);
            }
            gone
        }
    };
    set_completion(irp, routine, device.cast());
    unsafe { IofCallDriver(lower(device), irp) };
    PENDING
}

/// What a completion routine gives that has asked for a device power request: the system's waits for
/// it, if there is one.
fn waits_for(device: *mut DEVICE_OBJECT, irp: *mut IRP, asked: Status) -> Status {
    if asked < 0 {
        leave(device, irp.cast());
        return SUCCESS;
    }
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn system_done(_: *mut DEVICE_OBJECT, irp: *mut IRP, context: Ptr) -> Status {
    let device: *mut DEVICE_OBJECT = context.cast();
    let works = argument_low(irp, 2) == D0;
    if sin(69) {
        set_status(irp, UNSUCCESSFUL, 0);
    }
    if sin(69) || sin(70) {
        leave(device, irp.cast());
        return SUCCESS;
    }
    let mut own: *mut IRP = null_mut();
    let out = if sin(71) {
        from_mut(&mut own).cast()
    } else {
        null_mut()
    };
    if works {
        // A child of it comes after it.
        if sin(200) {
            unsafe { PoRequestPowerIrp(device, SET, D0, null(), null_mut(), out) };
            leave(device, irp.cast());
            return SUCCESS;
        }
        let routine = asleep as *const ();
        let asked = unsafe { PoRequestPowerIrp(device, SET, D0, routine, irp.cast(), out) };
        return waits_for(device, irp, asked);
    }
    let routine = if sin(72) { null() } else { asleep as *const () };
    let asked = unsafe { PoRequestPowerIrp(device, SET, D3, routine, irp.cast(), out) };
    waits_for(device, irp, if sin(72) { UNSUCCESSFUL } else { asked })
}

/// The lower drivers agree with a system power state: the device is asked.
unsafe extern "C" fn system_queried(_: *mut DEVICE_OBJECT, irp: *mut IRP, context: Ptr) -> Status {
    let device: *mut DEVICE_OBJECT = context.cast();
    let state = if argument_low(irp, 2) == D0 { D0 } else { D3 };
    let routine = asleep as *const ();
    let asked = unsafe { PoRequestPowerIrp(device, QUERY, state, routine, irp.cast(), null_mut()) };
    waits_for(device, irp, asked)
}

/// The device power request has ended.
unsafe extern "C" fn asleep(
    device: *mut DEVICE_OBJECT,
    _minor: u8,
    _state: u32,
    irp: Ptr,
    _block: Ptr,
) {
    if sin(73) {
        outb(PORT, 0);
    }
    finish(irp.cast(), SUCCESS, 0);
    leave(device, irp);
}

unsafe extern "C" fn powered(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: Ptr) -> Status {
    let device: *mut DEVICE_OBJECT = context.cast();
    if !sin(74) {
        tell(device, D0);
    }
    leave(device, irp.cast());
    SUCCESS
}

unsafe extern "C" fn gone(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: Ptr) -> Status {
    leave(context.cast(), irp.cast());
    SUCCESS
}

//! A request that goes down as a URB: the caller's bytes are the URB. And idle requests.
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

use core::ptr::{copy_nonoverlapping, null, null_mut};

use crate::api::{
    DEVICE_OBJECT, ExAllocatePool2, ExFreePoolWithTag, INSUFFICIENT_RESOURCES, IRP, IoAllocateIrp,
    IoFreeIrp, IofCallDriver, KEVENT, KeInitializeEvent, KeLowerIrql, KeSetEvent,
    KeWaitForSingleObject, KfRaiseIrql, MORE_PROCESSING_REQUIRED, NON_PAGED, NOT_SUPPORTED,
    PENDING, PoRequestPowerIrp, Ptr, SUCCESS, Status, TAG, buffer, current, finish, mark_pending,
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
        (*next).Parameters.Others = [urb as usize, 0, SUBMIT_URB, 0];
        set_completion(irp, done, urb.cast());
        mark_pending(irp);
        IofCallDriver((*extension(device)).lower, irp);
    }
    PENDING
}

/// `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION`
const SUBMIT_IDLE_NOTIFICATION: usize = 0x0022_0027;
const WAIT_WAKE: u8 = 0;
const SET_POWER: u8 = 2;
/// Device power states, and `PowerSystemSleeping3`.
const D0: u32 = 1;
const D2: u32 = 3;
const S3: u32 = 4;

/// `USB_IDLE_CALLBACK_INFO`, what the callback does, and where its request's end is told.
#[repr(C)]
struct Idle {
    callback: unsafe extern "C" fn(Ptr),
    context: Ptr,
    does: u32,
    event: KEVENT,
}

static mut IDLE: Idle = Idle {
    callback: idle_now,
    context: null_mut(),
    does: 0,
    event: unsafe { core::mem::zeroed() },
};

fn event() -> *mut KEVENT {
    unsafe { &raw mut IDLE.event }
}

/// The idle callback: it asks for D2 and waits, or does something else.
unsafe extern "C" fn idle_now(device: Ptr) {
    let device: *mut DEVICE_OBJECT = device.cast();
    let routine = told as *const ();
    let ask = |state| unsafe {
        KeInitializeEvent(event(), 0, 0);
        PoRequestPowerIrp(device, SET_POWER, state, routine, null_mut(), null_mut());
        KeWaitForSingleObject(event().cast(), 0, 0, 0, null());
    };
    match unsafe { IDLE.does } {
        1 => {}
        2 => ask(D0),
        3 => {
            ask(D2);
            ask(D2);
        }
        _ => ask(D2),
    }
}

unsafe extern "C" fn told(_: *mut DEVICE_OBJECT, _: u8, _: u32, _: Ptr, _: Ptr) {
    unsafe { KeSetEvent(event(), 0, 0) };
}

unsafe extern "C" fn signalled(_: *mut DEVICE_OBJECT, _: u8, _: u32, _: Ptr, _: Ptr) {}

unsafe extern "C" fn came_back(_: *mut DEVICE_OBJECT, irp: *mut IRP, _: Ptr) -> Status {
    unsafe { IoFreeIrp(irp) };
    MORE_PROCESSING_REQUIRED
}

/// Makes an idle request, or sends a wait/wake IRP: `what` says how.
pub(crate) fn idle(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let what = unsafe { buffer(irp).cast::<u32>().read_unaligned() };
    let mut wake: *mut IRP = null_mut();
    let mut arm = |routine| unsafe {
        PoRequestPowerIrp(
            device,
            WAIT_WAKE,
            S3,
            routine,
            null_mut(),
            (&raw mut wake).cast(),
        );
    };
    match what {
        10 => arm(signalled as *const ()),
        11 => arm(null()),
        12 => unsafe {
            let old = KfRaiseIrql(2);
            arm(signalled as *const ());
            KeLowerIrql(old);
        },
        _ => {
            submit_idle(device, what);
            if what == 4 {
                submit_idle(device, what);
            }
        }
    }
    finish(irp, SUCCESS, 0)
}

fn submit_idle(device: *mut DEVICE_OBJECT, what: u32) {
    let lower = unsafe { (*extension(device)).lower };
    unsafe {
        IDLE.context = device.cast();
        IDLE.does = what;
        let irp = IoAllocateIrp((*lower).StackSize, 0);
        set_status(irp, NOT_SUPPORTED, 0);
        let next = current(irp).sub(1);
        (*next).MajorFunction = 0x0F;
        let length = if what == 5 { 8 } else { 16 };
        let info = (&raw mut IDLE).addr();
        (*next).Parameters.Others = [0, length, SUBMIT_IDLE_NOTIFICATION, info];
        set_completion(irp, came_back, null_mut());
        if what == 6 {
            let old = KfRaiseIrql(2);
            IofCallDriver(lower, irp);
            KeLowerIrql(old);
        } else {
            IofCallDriver(lower, irp);
        }
    }
}

//! Stacks, completion, cancel-safe queues, the service's registry key.

use core::{ffi::c_void, ptr};

use windows_sys::{
    Wdk::System::SystemServices::{
        IoAttachDeviceToDeviceStack, IoReleaseCancelSpinLock, IofCompleteRequest,
    },
    Win32::Foundation::UNICODE_STRING,
};

use crate::{
    filter, irql,
    nt::{
        self, DEVICE_OBJECT, DRIVER_OBJECT, Device, IRP, Irp, NOT_SUPPORTED, PENDING, Ptr, SUCCESS,
        Status, major,
    },
    report::broken,
};

/// The driver attaches a device to one on our bus: the filter goes on top.
pub(super) unsafe extern "system" fn io_attach_device_to_device_stack(
    source: *mut DEVICE_OBJECT,
    target: *mut DEVICE_OBJECT,
) -> *mut DEVICE_OBJECT {
    // SAFETY: as the driver called it.
    let lower = unsafe { IoAttachDeviceToDeviceStack(source, target) };
    if !lower.is_null() {
        // SAFETY: live devices.
        let (source, target) = unsafe { (Device::from_raw(source), Device::from_raw(target)) };
        filter::driver_attached(source, target);
    }
    lower
}

/// `IRP_MJ_DEVICE_CONTROL`: what a caller gets back is no longer than what it asked for.
fn gives_too_much(irp: Irp) -> bool {
    /// `METHOD_BUFFERED`
    const METHOD: u32 = 3;
    irp.major() == major::DEVICE_CONTROL
        && irp.parameter_u32(2) & METHOD == 0
        && irp.information() > irp.parameter_u32(0) as usize
}

pub(super) unsafe extern "system" fn iof_complete_request(irp: *mut IRP, boost: i8) {
    // SAFETY: the driver's IRP, or so it says.
    let it = unsafe { Irp::from_raw(irp) };
    if !it.is_live() {
        broken!("IRP {irp:p} completed twice");
        return;
    }
    let level = irql::current();
    if level > irql::DISPATCH {
        broken!("IofCompleteRequest at IRQL {level}");
    }
    if it.status() == PENDING {
        broken!("IRP {irp:p} completed with STATUS_PENDING");
    }
    if it.has_cancel_routine() {
        broken!("IRP {irp:p} completed with a cancel routine");
    }
    if gives_too_much(it) {
        broken!(
            "IRP {irp:p} completed with Information {}, more than the caller's buffer",
            it.information()
        );
    }
    // SAFETY: as the driver called it.
    unsafe { IofCompleteRequest(irp, boost) };
}

// The routines of an `IO_CSQ`.
pub(super) type Insert = unsafe extern "system" fn(*mut Csq, *mut IRP, Ptr) -> Status;
pub(super) type Peek = unsafe extern "system" fn(*mut Csq, *mut IRP, Ptr) -> *mut IRP;
pub(super) type Acquire = unsafe extern "system" fn(*mut Csq, *mut u8);
pub(super) type Release = unsafe extern "system" fn(*mut Csq, u8);
/// `CsqRemoveIrp` and `CsqCompleteCanceledIrp`
pub(super) type ForIrp = unsafe extern "system" fn(*mut Csq, *mut IRP);

/// `IO_CSQ` of `IoCsqInitializeEx`
#[repr(C)]
pub(super) struct Csq {
    kind: u32,
    insert: Insert,
    remove: ForIrp,
    peek: Peek,
    acquire: Acquire,
    release: Release,
    complete: ForIrp,
    reserved: Ptr,
}

/// `IO_TYPE_CSQ_EX`
const TYPE_CSQ_EX: u32 = 3;

pub(super) unsafe extern "system" fn io_csq_initialize_ex(
    csq: *mut Csq,
    insert: Insert,
    remove: ForIrp,
    peek: Peek,
    acquire: Acquire,
    release: Release,
    complete: ForIrp,
) -> Status {
    // SAFETY: the driver's memory for it.
    unsafe {
        csq.write(Csq {
            kind: TYPE_CSQ_EX,
            insert,
            remove,
            peek,
            acquire,
            release,
            complete,
            reserved: ptr::null_mut(),
        });
    }
    SUCCESS
}

/// Runs `section` under the queue's lock.
///
/// # Safety
/// An initialised queue.
unsafe fn under_lock<R>(csq: *mut Csq, section: impl FnOnce() -> R) -> R {
    let mut before = 0;
    // SAFETY: the driver's callback.
    unsafe { ((*csq).acquire)(csq, &raw mut before) };
    let result = section();
    // SAFETY: likewise.
    unsafe { ((*csq).release)(csq, before) };
    result
}

/// Takes an IRP out; under the lock.
///
/// # Safety
/// It is in the queue.
unsafe fn unlink(csq: *mut Csq, irp: Irp) {
    // SAFETY: the driver's callback, and a member that belongs to these functions.
    unsafe {
        ((*csq).remove)(csq, irp.raw());
        irp.queue_slot().write(ptr::null_mut());
    }
}

pub(super) unsafe extern "system" fn io_csq_insert_irp_ex(
    csq: *mut Csq,
    irp: *mut IRP,
    context: Ptr,
    insert_context: Ptr,
) -> Status {
    if !context.is_null() {
        broken!("IoCsqInsertIrpEx with a context, which is not provided");
        return NOT_SUPPORTED;
    }
    // SAFETY: the driver's IRP.
    let it = unsafe { Irp::from_raw(irp) };
    let section = || {
        // SAFETY: the driver's queue and IRP.
        let status = unsafe {
            it.queue_slot().write(csq.cast());
            ((*csq).insert)(csq, irp, insert_context)
        };
        if status < 0 {
            return (status, false);
        }
        it.mark_pending();
        it.set_cancel_routine(cancel_queued);
        let cancelled = it.is_cancelled() && it.take_cancel_routine();
        if cancelled {
            // SAFETY: just put in.
            unsafe { unlink(csq, it) };
        }
        (status, cancelled)
    };
    // SAFETY: the driver's queue.
    let (status, cancelled) = unsafe { under_lock(csq, section) };
    if cancelled {
        // SAFETY: the driver's callback, for an IRP that is out of the queue.
        unsafe { ((*csq).complete)(csq, irp) };
    }
    status
}

pub(super) unsafe extern "system" fn io_csq_remove_next_irp(
    csq: *mut Csq,
    peek_context: Ptr,
) -> *mut IRP {
    let section = || {
        let mut irp = ptr::null_mut();
        loop {
            // SAFETY: the driver's callback, with an IRP of the queue or none.
            irp = unsafe { ((*csq).peek)(csq, irp, peek_context) };
            if irp.is_null() {
                return irp;
            }
            // SAFETY: it is in the queue.
            let it = unsafe { Irp::from_raw(irp) };
            // Without its cancel routine it belongs to that routine, which is on its way.
            if it.take_cancel_routine() {
                // SAFETY: likewise.
                unsafe { unlink(csq, it) };
                return irp;
            }
        }
    };
    // SAFETY: the driver's queue.
    unsafe { under_lock(csq, section) }
}

/// The cancel routine of a queued IRP.
unsafe extern "system" fn cancel_queued(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: an IRP that is being cancelled.
    let it = unsafe { Irp::from_raw(irp) };
    // SAFETY: held by the thread that calls a cancel routine.
    unsafe { IoReleaseCancelSpinLock(it.cancel_irql()) };
    // SAFETY: written when it was put in.
    let csq = unsafe { it.queue_slot().read() }.cast::<Csq>();
    // SAFETY: no other thread takes it out: its cancel routine is gone.
    unsafe { under_lock(csq, || unlink(csq, it)) };
    // SAFETY: the driver's callback.
    unsafe { ((*csq).complete)(csq, irp) };
}

/// `OBJECT_ATTRIBUTES`
#[repr(C)]
struct ObjectAttributes {
    length: u32,
    root: Ptr,
    name: *const UNICODE_STRING,
    attributes: u32,
    security: Ptr,
    quality: Ptr,
}

/// `OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE`
const ATTRIBUTES: u32 = 0x40 | 0x200;

/// `DriverRegKeyParameters` only.
pub(super) unsafe extern "system" fn io_open_driver_registry_key(
    driver: *mut DRIVER_OBJECT,
    kind: i32,
    access: u32,
    _flags: u32,
    key: *mut Ptr,
) -> Status {
    if kind != 0 {
        return NOT_SUPPORTED;
    }
    // SAFETY: the driver's object; Wine fills the name of its service key in.
    let service = unsafe { nt::units(&raw const (*(*driver).DriverExtension).ServiceKeyName) };
    let path = [service, &nt::wide(r"\Parameters")].concat();
    let name = nt::unicode(&path);
    let attributes = ObjectAttributes {
        length: u32::try_from(size_of::<ObjectAttributes>()).unwrap_or(0),
        root: ptr::null_mut(),
        name: &raw const name,
        attributes: ATTRIBUTES,
        security: ptr::null_mut(),
        quality: ptr::null_mut(),
    };
    // SAFETY: local structures, and the caller's place for the handle.
    unsafe {
        nt::ZwCreateKey(
            key,
            access,
            (&raw const attributes).cast::<c_void>(),
            0,
            ptr::null(),
            0,
            ptr::null_mut(),
        )
    }
}

//! The driver's other role (`Client` parameter 1, or 2 for an exclusive device): a driver without AddDevice whose control device
//! makes it use `\\Device\\Misbehave0`, the device of the first.
#![allow(
    clippy::wildcard_imports,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

use core::ptr::{null, null_mut};

use crate::api::*;
use crate::driver::create_close;
use crate::server::Table;

#[repr(C)]
struct Client {
    file: Ptr,
    target: *mut DEVICE_OBJECT,
    own: *mut IRP,
    event: KEVENT,
    table: Table,
}

#[allow(clippy::cast_possible_truncation, reason = "a small structure")]
const EXTENSION_SIZE: u32 = size_of::<Client>() as u32;

pub(crate) unsafe fn entry(driver: *mut DRIVER_OBJECT, exclusive: bool) -> Status {
    let entries: [(u8, Dispatch); 4] = [
        (IRP_MJ_CREATE, create_close),
        (IRP_MJ_CLOSE, create_close),
        (IRP_MJ_CLEANUP, create_close),
        (IRP_MJ_DEVICE_CONTROL, control),
    ];
    let name = ustr(w!("\\Device\\Accomplice"));
    let link = ustr(w!("\\DosDevices\\ACCOMPLICE"));
    let mut device = null_mut();
    unsafe {
        for (major, routine) in entries {
            (*driver).MajorFunction[usize::from(major)] = Some(routine);
        }
        (*driver).DriverUnload = Some(unload);
        let status = IoCreateDevice(
            driver,
            EXTENSION_SIZE,
            &raw const name,
            0x22,
            0x100,
            u8::from(exclusive),
            &raw mut device,
        );
        if status < 0 {
            return status;
        }
        (*device).Flags |= 4;
        let status = IoCreateSymbolicLink(&raw const link, &raw const name);
        if status < 0 {
            IoDeleteDevice(device);
        }
        status
    }
}

unsafe extern "C" fn unload(driver: *mut DRIVER_OBJECT) {
    let link = ustr(w!("\\DosDevices\\ACCOMPLICE"));
    unsafe {
        IoDeleteSymbolicLink(&raw const link);
        IoDeleteDevice((*driver).FirstDevice);
    }
}

fn client(device: *mut DEVICE_OBJECT) -> *mut Client {
    unsafe { (*device).DeviceExtension.cast() }
}

const fn code(function: u32) -> u32 {
    0x0022_0000 | function << 2
}

unsafe extern "C" fn keep(_device: *mut DEVICE_OBJECT, _irp: *mut IRP, event: Ptr) -> Status {
    unsafe { KeSetEvent(event.cast(), 0, 0) };
    MORE_PROCESSING_REQUIRED
}

unsafe fn wait(event: *mut KEVENT) {
    unsafe { KeWaitForSingleObject(event.cast(), 0, 0, 0, null()) };
}

/// A threaded internal request, waited for. Gives status and Information.
unsafe fn threaded(
    target: *mut DEVICE_OBJECT,
    function: u32,
    data: *mut u8,
    input: u32,
    output: u32,
) -> (Status, usize) {
    let mut event: KEVENT = unsafe { core::mem::zeroed() };
    let mut iosb = IO_STATUS_BLOCK::default();
    unsafe {
        KeInitializeEvent(&raw mut event, 0, 0);
        let irp = IoBuildDeviceIoControlRequest(
            code(function),
            target,
            data.cast(),
            input,
            data.cast(),
            output,
            1,
            &raw mut event,
            &raw mut iosb,
        );
        if irp.is_null() {
            return (INSUFFICIENT_RESOURCES, 0);
        }
        // Nobody says on whose behalf: as from any driver.
        let no_file = (*current(irp).sub(1)).FileObject.is_null();
        let status = IofCallDriver(target, irp);
        if status == PENDING {
            wait(&raw mut event);
        }
        let answer = iosb.Status;
        if no_file && (status == PENDING || status == answer) {
            (answer, iosb.Information)
        } else {
            (UNSUCCESSFUL, 0)
        }
    }
}

/// Sends the client's own IRP with an internal request that waits in the target's queue.
unsafe fn send_own(c: *mut Client) -> Status {
    unsafe {
        let next = current((*c).own).sub(1);
        (*next).MajorFunction = 0x0F;
        (*next).Parameters.DeviceIoControl.IoControlCode = code(0x811);
        set_completion((*c).own, keep, (&raw mut (*c).event).cast());
        IofCallDriver((*c).target, (*c).own)
    }
}

unsafe extern "C" fn control(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let (output, input) = (argument_low(irp, 0), argument_low(irp, 1));
    let function = (argument_low(irp, 2) & 0x3FFF) / 4;
    let (status, information) = unsafe { perform(client(device), function, irp, input, output) };
    finish(irp, status, information)
}

/// Requests: 0x800 open, 0x801 close, 0x802 echo through the target, 0x803 a warning from it, 0x804
/// get its callback table, 0x805 call it, 0x806 call the routine that faults, 0x807 send an own
/// IRP, 0x808 cancel it, 0x809 send it again, have it finished and free it, 0x80A open and close by
/// handle, 0x80B reference and give back the file object, 0x80C a request that another thread
/// finishes, 0x80D leave a device reference, 0x80E close at `DISPATCH_LEVEL`.
unsafe fn perform(
    c: *mut Client,
    function: u32,
    irp: *mut IRP,
    input: u32,
    output: u32,
) -> (Status, usize) {
    let data = buffer(irp);
    unsafe {
        match function {
            0x800 => {
                let name = ustr(w!("\\Device\\Misbehave0"));
                let (file, target) = (&raw mut (*c).file, &raw mut (*c).target);
                (
                    IoGetDeviceObjectPointer(&raw const name, 0x12_019F, file, target),
                    0,
                )
            }
            0x801 => {
                ObfDereferenceObject((*c).file);
                (SUCCESS, 0)
            }
            0x802 => threaded((*c).target, 0x810, data, input, output),
            0x803 => threaded((*c).target, 0x814, data, 0, output),
            0x804 => {
                let table = (&raw mut (*c).table).cast();
                #[allow(clippy::cast_possible_truncation, reason = "a small structure")]
                let size = size_of::<Table>() as u32;
                let (status, information) = threaded((*c).target, 0x812, table, 0, size);
                if output as usize >= information {
                    memcpy(data.cast(), table.cast(), information);
                    return (status, information);
                }
                (status, 0)
            }
            0x805 => {
                let p = ((*c).table.allocate)((*c).table.context);
                let sum = ((*c).table.add)((*c).table.context, 1, 2, 3, 4, 5);
                if p.is_null() || sum != 55 {
                    return (UNSUCCESSFUL, 0);
                }
                (SUCCESS, 0)
            }
            0x806 => {
                core::hint::black_box(((*c).table.fault)((*c).table.context));
                (SUCCESS, 0)
            }
            0x807 => {
                (*c).own = IoAllocateIrp((*(*c).target).StackSize, 0);
                if (*c).own.is_null() {
                    return (INSUFFICIENT_RESOURCES, 0);
                }
                KeInitializeEvent(&raw mut (*c).event, 1, 0);
                (
                    if send_own(c) == PENDING {
                        SUCCESS
                    } else {
                        UNSUCCESSFUL
                    },
                    0,
                )
            }
            0x808 => {
                let found = IoCancelIrp((*c).own) != 0;
                wait(&raw mut (*c).event);
                if !found || !(*(*c).own).Cancel {
                    return (UNSUCCESSFUL, 0);
                }
                (status((*c).own), 0)
            }
            0x809 => {
                IoReuseIrp((*c).own, NOT_SUPPORTED);
                if send_own(c) != PENDING {
                    return (UNSUCCESSFUL, 0);
                }
                threaded((*c).target, 0x813, null_mut(), 0, 0);
                wait(&raw mut (*c).event);
                let answer = status((*c).own);
                IoFreeIrp((*c).own);
                (answer, 0)
            }
            0x80A => by_handle(),
            0x80B => {
                let file = (*c).file;
                let status = ObReferenceObjectByPointer(file, 0, PsThreadType, 0);
                if status >= 0 || ObReferenceObjectByPointer(file, 0, IoFileObjectType, 0) < 0 {
                    return (UNSUCCESSFUL, 0);
                }
                ObfDereferenceObject(file);
                (SUCCESS, 0)
            }
            0x80C => threaded((*c).target, 0x811, null_mut(), 0, 0),
            0x80D => {
                ObfReferenceObject((*c).target.cast());
                (SUCCESS, 0)
            }
            0x80E => {
                let old = KfRaiseIrql(2);
                ObfDereferenceObject((*c).file);
                KeLowerIrql(old);
                (SUCCESS, 0)
            }
            _ => (INVALID_DEVICE_REQUEST, 0),
        }
    }
}

unsafe fn by_handle() -> (Status, usize) {
    let name = ustr(w!("\\Device\\Misbehave0"));
    let attributes = ObjectAttributes {
        Length: 48,
        RootDirectory: null_mut(),
        ObjectName: &raw const name,
        Attributes: 0x240,
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    };
    let mut handle = null_mut();
    let mut file = null_mut();
    let mut iosb = IO_STATUS_BLOCK::default();
    unsafe {
        let status = ZwCreateFile(
            &raw mut handle,
            0x12_019F,
            &raw const attributes,
            &raw mut iosb,
            null(),
            0,
            7,
            1,
            0x40,
            null_mut(),
            0,
        );
        if status < 0 {
            return (status, 0);
        }
        // The file object outlives the handle: CLEANUP with the handle, CLOSE with the pointer.
        let status =
            ObReferenceObjectByHandle(handle, 0, IoFileObjectType, 0, &raw mut file, null_mut());
        ZwClose(handle);
        if status >= 0 {
            ObfDereferenceObject(file);
        }
        (status, 0)
    }
}

//! DriverEntry, the dispatch routine, unload.
#![allow(non_snake_case, clippy::upper_case_acronyms, reason = "Windows' names")]

use core::{
    ffi::c_void,
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use crate::codes::HELD;

/// `NTSTATUS`
type Status = i32;
type Dispatch = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP) -> Status;

const SUCCESS: Status = 0;
const FILE_DEVICE_UNKNOWN: u32 = 0x22;
const FILE_DEVICE_SECURE_OPEN: u32 = 0x100;
const DO_DEVICE_INITIALIZING: u32 = 0x80;
/// `IRP_MJ_DEVICE_CONTROL`
const DEVICE_CONTROL: u8 = 0x0E;
/// `IO_REMOVE_LOCK` of the free kernel, in bytes.
const REMOVE_LOCK: u32 = 0x20;
const TAG: u32 = u32::from_le_bytes(*b"PNul");

#[repr(C)]
struct UNICODE_STRING {
    Length: u16,
    MaximumLength: u16,
    Buffer: *const u16,
}

#[repr(C)]
struct DEVICE_OBJECT {
    head: [usize; 6],
    Flags: u32,
    middle: [u32; 3],
    DeviceExtension: *mut c_void,
}

#[repr(C)]
struct DRIVER_OBJECT {
    head: [usize; 13],
    DriverUnload: Option<unsafe extern "C" fn(*mut Self)>,
    MajorFunction: [Option<Dispatch>; 28],
}

/// With the member `Parameters.DeviceIoControl`.
#[repr(C)]
struct IO_STACK_LOCATION {
    MajorFunction: u8,
    rest: [u8; 7],
    lengths: [usize; 2],
    IoControlCode: u32,
}

#[repr(C)]
struct IRP {
    head: [usize; 6],
    /// `IoStatus`
    Status: Status,
    status_high: u32,
    Information: usize,
    others: [usize; 15],
    CurrentStackLocation: *const IO_STACK_LOCATION,
}

const _: () = {
    assert!(offset_of!(DEVICE_OBJECT, Flags) == 0x30);
    assert!(offset_of!(DEVICE_OBJECT, DeviceExtension) == 0x40);
    assert!(offset_of!(DRIVER_OBJECT, DriverUnload) == 0x68);
    assert!(offset_of!(DRIVER_OBJECT, MajorFunction) == 0x70);
    assert!(offset_of!(IO_STACK_LOCATION, IoControlCode) == 0x18);
    assert!(offset_of!(IRP, Status) == 0x30);
    assert!(offset_of!(IRP, CurrentStackLocation) == 0xB8);
};

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    fn IoCreateSymbolicLink(link: *const UNICODE_STRING, name: *const UNICODE_STRING) -> Status;
    fn IoDeleteSymbolicLink(link: *const UNICODE_STRING) -> Status;
    fn IoInitializeRemoveLockEx(lock: *mut c_void, tag: u32, minutes: u32, high: u32, size: u32);
    fn IoAcquireRemoveLockEx(
        lock: *mut c_void,
        tag: *mut c_void,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> Status;
    fn IoReleaseRemoveLockEx(lock: *mut c_void, tag: *mut c_void, size: u32);
    fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    fn KeBugCheckEx(code: u32, first: usize, second: usize, third: usize, fourth: usize) -> !;
}

/// The one device.
static DEVICE: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(ptr::null_mut());

/// An ASCII literal in UTF-16.
const fn wide<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut units = [0; N];
    let mut at = 0;
    while at < N {
        units[at] = text[at] as u16;
        at += 1;
    }
    units
}

static NAME: [u16; 19] = wide(br"\Device\ParscanNull");
static LINK: [u16; 23] = wide(br"\DosDevices\ParscanNull");

fn string(units: &'static [u16]) -> UNICODE_STRING {
    // Both names are short.
    let length = u16::try_from(size_of_val(units)).unwrap_or(0);
    UNICODE_STRING {
        Length: length,
        MaximumLength: length,
        Buffer: units.as_ptr(),
    }
}

/// The image's entry point: makes the device.
///
/// # Safety
/// The I/O manager calls it once, at `PASSIVE_LEVEL`.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> Status {
    let (name, link) = (string(&NAME), string(&LINK));
    let mut device = ptr::null_mut();
    // SAFETY: the driver object is this driver's; the name is only read.
    let status = unsafe {
        IoCreateDevice(
            driver,
            REMOVE_LOCK,
            &raw const name,
            FILE_DEVICE_UNKNOWN,
            FILE_DEVICE_SECURE_OPEN,
            0,
            &raw mut device,
        )
    };
    if status < 0 {
        return status;
    }
    // SAFETY: both names are only read.
    let status = unsafe { IoCreateSymbolicLink(&raw const link, &raw const name) };
    if status < 0 {
        // SAFETY: just made.
        unsafe { IoDeleteDevice(device) };
        return status;
    }
    DEVICE.store(device, Relaxed);
    // SAFETY: the I/O manager's object, for this driver to fill.
    if let Some(driver) = unsafe { driver.as_mut() } {
        driver.DriverUnload = Some(unload);
        driver.MajorFunction = [Some(dispatch as Dispatch); 28];
    }
    // SAFETY: just made.
    if let Some(device) = unsafe { device.as_mut() } {
        // SAFETY: the extension has room for it.
        unsafe {
            IoInitializeRemoveLockEx(device.DeviceExtension, TAG, 0, 0, REMOVE_LOCK);
        }
        device.Flags &= !DO_DEVICE_INITIALIZING;
    }
    SUCCESS
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    let link = string(&LINK);
    // SAFETY: the name is only read.
    unsafe { IoDeleteSymbolicLink(&raw const link) };
    // SAFETY: the device, which nobody has open any more.
    unsafe { IoDeleteDevice(DEVICE.load(Relaxed)) };
}

/// Every request.
unsafe extern "C" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: the IRP is with this driver.
    let location = unsafe { (*irp).CurrentStackLocation };
    // SAFETY: and so is its present stack location.
    let location = unsafe { &*location };
    if location.MajorFunction == DEVICE_CONTROL && location.IoControlCode == HELD {
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
        irp.Status = status;
        irp.Information = 0;
    }
    // SAFETY: and is not touched after this.
    unsafe { IofCompleteRequest(irp, 0) };
    status
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    /// `MANUALLY_INITIATED_CRASH`
    const CODE: u32 = 0xE2;
    // SAFETY: no conditions.
    unsafe { KeBugCheckEx(CODE, 0, 0, 0, 0) }
}

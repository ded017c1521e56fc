//! The kernel's structures and functions, as far as this driver uses them: wdm.h's members at their
//! x64 places.
#![allow(non_snake_case, clippy::upper_case_acronyms, reason = "Windows' names")]

use core::{ffi::c_void, mem::offset_of};

/// `NTSTATUS`
pub(crate) type Status = i32;
/// `PVOID`
pub(crate) type Ptr = *mut c_void;

pub(crate) const SUCCESS: Status = 0;
pub(crate) const PENDING: Status = 0x103;
pub(crate) const INVALID_PARAMETER: Status = 0xC000_000D_u32.cast_signed();
pub(crate) const INVALID_DEVICE_REQUEST: Status = 0xC000_0010_u32.cast_signed();
pub(crate) const MORE_PROCESSING_REQUIRED: Status = 0xC000_0016_u32.cast_signed();
pub(crate) const INSUFFICIENT_RESOURCES: Status = 0xC000_009A_u32.cast_signed();

/// `POOL_FLAG_NON_PAGED`
pub(crate) const NON_PAGED: u64 = 0x40;
pub(crate) const TAG: u32 = u32::from_le_bytes(*b"PClt");
pub(crate) const PASSIVE_LEVEL: u8 = 0;
pub(crate) const DISPATCH_LEVEL: u8 = 2;

pub(crate) const IRP_MJ_CREATE: usize = 0;
pub(crate) const IRP_MJ_CLOSE: usize = 2;
pub(crate) const IRP_MJ_DEVICE_CONTROL: u8 = 0x0E;
pub(crate) const IRP_MJ_INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
pub(crate) const IRP_MJ_CLEANUP: usize = 0x12;
/// `SL_INVOKE_ON_CANCEL`, `_SUCCESS`, `_ERROR`
pub(crate) const INVOKE_ALWAYS: u8 = 0xE0;
pub(crate) const DO_DEVICE_INITIALIZING: u32 = 0x80;

/// An object that only the kernel looks into, `N` pointers long.
#[repr(C)]
pub(crate) struct Opaque<const N: usize>(pub(crate) [usize; N]);

pub(crate) type KEVENT = Opaque<3>;
pub(crate) type KDPC = Opaque<8>;

#[repr(C)]
pub(crate) struct UNICODE_STRING {
    pub(crate) Length: u16,
    pub(crate) MaximumLength: u16,
    pub(crate) Buffer: *mut u16,
}

#[repr(C)]
pub(crate) struct DEVICE_OBJECT {
    head: usize,
    pub(crate) DriverObject: *mut DRIVER_OBJECT,
    links: [usize; 4],
    pub(crate) Flags: u32,
    middle: [u32; 3],
    DeviceExtension: Ptr,
    device_type: u32,
    pub(crate) StackSize: i8,
}

#[repr(C)]
pub(crate) struct DRIVER_OBJECT {
    head: [usize; 3],
    pub(crate) DriverStart: usize,
    pub(crate) DriverSize: u32,
    middle: [usize; 8],
    pub(crate) DriverUnload: Option<unsafe extern "C" fn(*mut Self)>,
    pub(crate) MajorFunction: [Option<Dispatch>; 28],
}

#[repr(C)]
pub(crate) struct FILE_OBJECT {
    head: usize,
    pub(crate) DeviceObject: *mut DEVICE_OBJECT,
}

/// With the member `Parameters.DeviceIoControl`.
#[repr(C)]
pub(crate) struct IO_STACK_LOCATION {
    pub(crate) MajorFunction: u8,
    minor: u8,
    flags: u8,
    pub(crate) Control: u8,
    pub(crate) OutputBufferLength: usize,
    pub(crate) InputBufferLength: usize,
    pub(crate) IoControlCode: usize,
    type3: usize,
    device: usize,
    pub(crate) FileObject: Ptr,
    pub(crate) CompletionRoutine: Option<Completion>,
    pub(crate) Context: Ptr,
}

#[repr(C)]
pub(crate) struct IRP {
    head: [usize; 3],
    pub(crate) SystemBuffer: *mut u8,
    thread_list: [usize; 2],
    /// `IoStatus`: its Status is the low half of the first word.
    pub(crate) Status: Status,
    status_high: u32,
    pub(crate) Information: usize,
    pub(crate) RequestorMode: u8,
    rest: [u8; 7],
    others: [usize; 14],
    pub(crate) CurrentStackLocation: *mut IO_STACK_LOCATION,
}

/// `IO_STATUS_BLOCK`
#[repr(C)]
#[derive(Default)]
pub(crate) struct IoStatusBlock {
    pub(crate) status: Status,
    high: u32,
    pub(crate) information: usize,
}

const _: () = {
    assert!(offset_of!(DEVICE_OBJECT, DriverObject) == 0x08);
    assert!(offset_of!(DEVICE_OBJECT, Flags) == 0x30);
    assert!(offset_of!(DEVICE_OBJECT, DeviceExtension) == 0x40);
    assert!(offset_of!(DEVICE_OBJECT, StackSize) == 0x4C);
    assert!(offset_of!(DRIVER_OBJECT, DriverStart) == 0x18);
    assert!(offset_of!(DRIVER_OBJECT, DriverUnload) == 0x68);
    assert!(offset_of!(DRIVER_OBJECT, MajorFunction) == 0x70);
    assert!(offset_of!(IO_STACK_LOCATION, IoControlCode) == 0x18);
    assert!(offset_of!(IO_STACK_LOCATION, FileObject) == 0x30);
    assert!(offset_of!(IO_STACK_LOCATION, CompletionRoutine) == 0x38);
    assert!(offset_of!(IRP, SystemBuffer) == 0x18);
    assert!(offset_of!(IRP, Status) == 0x30);
    assert!(offset_of!(IRP, RequestorMode) == 0x40);
    assert!(offset_of!(IRP, CurrentStackLocation) == 0xB8);
};

pub(crate) type Dispatch = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP) -> Status;
pub(crate) type Completion = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP, Ptr) -> Status;
pub(crate) type DpcRoutine = unsafe extern "C" fn(*mut KDPC, Ptr, Ptr, Ptr);
pub(crate) type WorkRoutine = unsafe extern "C" fn(Ptr, Ptr, Ptr);

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub(crate) fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> *mut u8;
    pub(crate) fn ExFreePoolWithTag(block: *mut u8, tag: u32);
    pub(crate) fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub(crate) fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    pub(crate) fn IoCreateSymbolicLink(
        name: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> Status;
    pub(crate) fn IoDeleteSymbolicLink(name: *const UNICODE_STRING) -> Status;
    pub(crate) fn IoGetDeviceObjectPointer(
        name: *const UNICODE_STRING,
        access: u32,
        file: *mut Ptr,
        device: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub(crate) fn ObfReferenceObject(object: Ptr) -> isize;
    pub(crate) fn ObfDereferenceObject(object: Ptr) -> isize;
    pub(crate) fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    pub(crate) fn IofCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status;
    pub(crate) fn IoAllocateIrp(stack_size: i8, quota: u8) -> *mut IRP;
    pub(crate) fn IoReuseIrp(irp: *mut IRP, status: Status);
    pub(crate) fn IoFreeIrp(irp: *mut IRP);
    pub(crate) fn IoCancelIrp(irp: *mut IRP) -> u8;
    pub(crate) fn IoBuildDeviceIoControlRequest(
        code: u32,
        device: *mut DEVICE_OBJECT,
        input: *const u8,
        input_length: u32,
        output: *mut u8,
        output_length: u32,
        internal: u8,
        event: *mut KEVENT,
        status: *mut IoStatusBlock,
    ) -> *mut IRP;
    pub(crate) fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> Ptr;
    pub(crate) fn IoQueueWorkItemEx(item: Ptr, routine: WorkRoutine, queue: i32, context: Ptr);
    pub(crate) fn IoFreeWorkItem(item: Ptr);
    pub(crate) fn KeGetCurrentIrql() -> u8;
    pub(crate) fn KfRaiseIrql(irql: u8) -> u8;
    pub(crate) fn KeLowerIrql(irql: u8);
    pub(crate) fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: u8);
    pub(crate) fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: u8) -> i32;
    pub(crate) fn KeWaitForSingleObject(
        object: *mut KEVENT,
        reason: i32,
        mode: i8,
        alertable: u8,
        timeout: *const i64,
    ) -> Status;
    pub(crate) fn KeInitializeDpc(dpc: *mut KDPC, routine: DpcRoutine, context: Ptr);
    pub(crate) fn KeInsertQueueDpc(dpc: *mut KDPC, first: Ptr, second: Ptr) -> u8;
    pub(crate) fn KeFlushQueuedDpcs();
    pub(crate) fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> !;
}

#[allow(dead_code, reason = "what the compiler calls")]
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn memcpy(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    fn memmove(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    fn memset(to: Ptr, value: i32, length: usize) -> Ptr;
    fn memcmp(left: *const c_void, right: *const c_void, length: usize) -> i32;
}

//! The kernel's functions and structures, as far as this driver uses them.
#![allow(
    non_snake_case,
    non_upper_case_globals,
    non_camel_case_types,
    clippy::too_many_arguments,
    clippy::upper_case_acronyms,
    reason = "Windows' names and signatures"
)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

use core::ffi::c_void;
use core::mem::offset_of;

pub(crate) type Status = i32;
pub(crate) type Ptr = *mut c_void;

pub(crate) const SUCCESS: Status = 0;
pub(crate) const PENDING: Status = 0x103;
pub(crate) const ACCESS_VIOLATION: Status = 0xC000_0005_u32.cast_signed();
pub(crate) const UNSUCCESSFUL: Status = 0xC000_0001_u32.cast_signed();
pub(crate) const INVALID_DEVICE_REQUEST: Status = 0xC000_0010_u32.cast_signed();
pub(crate) const MORE_PROCESSING_REQUIRED: Status = 0xC000_0016_u32.cast_signed();
pub(crate) const INSUFFICIENT_RESOURCES: Status = 0xC000_009A_u32.cast_signed();
pub(crate) const NOT_SUPPORTED: Status = 0xC000_00BB_u32.cast_signed();
pub(crate) const INVALID_DEVICE_STATE: Status = 0xC000_0184_u32.cast_signed();
pub(crate) const CANCELLED: Status = 0xC000_0120_u32.cast_signed();

pub(crate) const HIGH_RESOLUTION: u32 = 4;
pub(crate) const NO_WAKE: u32 = 8;
pub(crate) const NON_PAGED: u64 = 0x40;
pub(crate) const UNINITIALIZED: u64 = 0x2;
pub(crate) const EXECUTE: u64 = 0x80;
pub(crate) const PAGED: u64 = 0x100;
pub(crate) const TAG: u32 = u32::from_le_bytes(*b"MisB");

/// An object that only the kernel looks into, `N` pointers long.
#[repr(C)]
pub(crate) struct Opaque<const N: usize>([usize; N]);

pub(crate) type KEVENT = Opaque<3>;
pub(crate) type KSEMAPHORE = Opaque<4>;
pub(crate) type KMUTANT = Opaque<7>;
pub(crate) type KTIMER = Opaque<8>;
pub(crate) type KDPC = Opaque<8>;
pub(crate) type IO_CSQ = Opaque<8>;

#[repr(C)]
pub(crate) struct UNICODE_STRING {
    pub(crate) Length: u16,
    pub(crate) MaximumLength: u16,
    pub(crate) Buffer: *mut u16,
}

#[repr(C)]
pub(crate) struct LIST_ENTRY {
    pub(crate) Flink: *mut Self,
    pub(crate) Blink: *mut Self,
}

// The members of wdm.h's structures that this driver uses, at their x64 places.

#[repr(C)]
pub(crate) struct DEVICE_OBJECT {
    head: usize,
    pub(crate) DriverObject: *mut DRIVER_OBJECT,
    links: [usize; 4],
    pub(crate) Flags: u32,
    characteristics: u32,
    vpb: usize,
    pub(crate) DeviceExtension: Ptr,
    device_type: u32,
    pub(crate) StackSize: i8,
}

#[repr(C)]
pub(crate) struct DRIVER_OBJECT {
    head: usize,
    pub(crate) FirstDevice: *mut DEVICE_OBJECT,
    middle_links: [usize; 4],
    pub(crate) DriverExtension: *mut DRIVER_EXTENSION,
    middle: [usize; 6],
    pub(crate) DriverUnload: usize,
    pub(crate) MajorFunction: [usize; 28],
}

#[repr(C)]
pub(crate) struct DRIVER_EXTENSION {
    driver: usize,
    pub(crate) AddDevice: usize,
}

#[repr(C)]
pub(crate) struct IO_STACK_LOCATION {
    pub(crate) MajorFunction: u8,
    pub(crate) MinorFunction: u8,
    flags: u8,
    pub(crate) Control: u8,
    pub(crate) Parameters: [usize; 4],
    device: usize,
    pub(crate) FileObject: Ptr,
    pub(crate) CompletionRoutine: usize,
    pub(crate) Context: Ptr,
}

#[repr(C)]
pub(crate) struct IRP {
    head: usize,
    pub(crate) MdlAddress: *mut MDL,
    flags: u32,
    pub(crate) AssociatedIrp: *mut u8,
    thread_list: [usize; 2],
    pub(crate) IoStatus: [u64; 2],
    mode: i8,
    pub(crate) PendingReturned: bool,
    stack_count: i8,
    pub(crate) CurrentLocation: i8,
    pub(crate) Cancel: bool,
    pub(crate) CancelIrql: u8,
    rest: [u8; 2],
    iosb: usize,
    event: usize,
    overlay: [usize; 2],
    pub(crate) CancelRoutine: usize,
    pub(crate) UserBuffer: usize,
    driver_context: [usize; 4],
    thread: usize,
    auxiliary: usize,
    pub(crate) ListEntry: LIST_ENTRY,
    pub(crate) CurrentStackLocation: *mut IO_STACK_LOCATION,
    file: usize,
}

#[repr(C)]
pub(crate) struct MDL {
    next: usize,
    size: i16,
    pub(crate) MdlFlags: i16,
    process: usize,
    pub(crate) MappedSystemVa: *mut u8,
}

const _: () = {
    assert!(offset_of!(MDL, MdlFlags) == 0xA);
    assert!(offset_of!(MDL, MappedSystemVa) == 0x18);
    assert!(offset_of!(IRP, UserBuffer) == 0x70);
    assert!(offset_of!(DEVICE_OBJECT, Flags) == 0x30);
    assert!(offset_of!(DEVICE_OBJECT, DeviceExtension) == 0x40);
    assert!(offset_of!(DEVICE_OBJECT, StackSize) == 0x4C);
    assert!(offset_of!(DRIVER_OBJECT, DriverExtension) == 0x30);
    assert!(offset_of!(DRIVER_OBJECT, DriverUnload) == 0x68);
    assert!(offset_of!(IO_STACK_LOCATION, CompletionRoutine) == 0x38);
    assert!(offset_of!(IRP, IoStatus) == 0x30);
    assert!(offset_of!(IRP, CancelRoutine) == 0x68);
    assert!(offset_of!(IRP, ListEntry) == 0xA8);
    assert!(offset_of!(IRP, CurrentStackLocation) == 0xB8);
};

#[repr(C)]
pub(crate) struct ObjectAttributes {
    pub(crate) Length: u32,
    pub(crate) RootDirectory: Ptr,
    pub(crate) ObjectName: *const UNICODE_STRING,
    pub(crate) Attributes: u32,
    pub(crate) SecurityDescriptor: Ptr,
    pub(crate) SecurityQualityOfService: Ptr,
}

pub(crate) type Isr = unsafe extern "C" fn(Ptr, Ptr) -> u8;

pub(crate) const CONNECT_FULLY_SPECIFIED: u32 = 1;
pub(crate) const CONNECT_LINE_BASED: u32 = 2;

/// `IO_CONNECT_INTERRUPT_PARAMETERS`: the fully specified form; line-based ones end earlier.
#[repr(C)]
pub(crate) struct ConnectInterrupt {
    pub(crate) Version: u32,
    pub(crate) PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub(crate) InterruptObject: *mut Ptr,
    pub(crate) ServiceRoutine: Isr,
    pub(crate) ServiceContext: Ptr,
    pub(crate) SpinLock: *mut usize,
    pub(crate) SynchronizeIrql: u8,
    pub(crate) FloatingSave: u8,
    pub(crate) ShareVector: u8,
    pub(crate) Vector: u32,
    pub(crate) Irql: u8,
    pub(crate) InterruptMode: u32,
    pub(crate) ProcessorEnableMask: usize,
}

#[repr(C)]
pub(crate) struct DisconnectInterrupt {
    pub(crate) Version: u32,
    pub(crate) InterruptObject: Ptr,
}

const _: () = {
    assert!(offset_of!(ConnectInterrupt, SynchronizeIrql) == 0x30);
    assert!(offset_of!(ConnectInterrupt, Vector) == 0x34);
    assert!(offset_of!(ConnectInterrupt, Irql) == 0x38);
    assert!(offset_of!(ConnectInterrupt, InterruptMode) == 0x3C);
    assert!(offset_of!(ConnectInterrupt, ProcessorEnableMask) == 0x40);
};

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub(crate) static PsThreadType: Ptr;
    pub(crate) static IoFileObjectType: Ptr;
    pub(crate) static MmUserProbeAddress: u64;
    // For the exception tables in `seh`.
    fn __C_specific_handler();
    pub(crate) fn ProbeForRead(address: Ptr, len: usize, alignment: u32);
    pub(crate) fn ProbeForWrite(address: Ptr, len: usize, alignment: u32);
    pub(crate) fn ExRaiseStatus(status: Status) -> !;
    pub(crate) fn IoIs32bitProcess(irp: *mut IRP) -> u8;
    pub(crate) fn IoAllocateMdl(
        address: Ptr,
        len: u32,
        secondary: u8,
        quota: u8,
        irp: *mut IRP,
    ) -> *mut MDL;
    pub(crate) fn IoFreeMdl(mdl: *mut MDL);
    pub(crate) fn IoBuildPartialMdl(source: *mut MDL, target: *mut MDL, address: Ptr, len: u32);
    pub(crate) fn MmProbeAndLockPages(mdl: *mut MDL, mode: i8, operation: i32);
    pub(crate) fn MmUnlockPages(mdl: *mut MDL);
    pub(crate) fn MmBuildMdlForNonPagedPool(mdl: *mut MDL);
    pub(crate) fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: i8,
        cache: i32,
        base: Ptr,
        bug_check: u32,
        priority: u32,
    ) -> Ptr;
    pub(crate) fn DbgPrint(format: *const u8, ...) -> u32;
    pub(crate) fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> Ptr;
    pub(crate) fn ExFreePoolWithTag(p: Ptr, tag: u32);
    pub(crate) fn ExInitializeRundownProtection(r: *mut usize);
    pub(crate) fn ExAcquireRundownProtection(r: *mut usize) -> u8;
    pub(crate) fn ExReleaseRundownProtection(r: *mut usize);
    pub(crate) fn ExWaitForRundownProtectionRelease(r: *mut usize);
    pub(crate) fn ExAcquireFastMutex(m: Ptr);
    pub(crate) fn ExReleaseFastMutex(m: Ptr);
    pub(crate) fn IoCreateDevice(
        d: *mut DRIVER_OBJECT,
        ext: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        chars: u32,
        exclusive: u8,
        out: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub(crate) fn IoDeleteDevice(d: *mut DEVICE_OBJECT);
    pub(crate) fn IoAttachDeviceToDeviceStack(
        d: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> *mut DEVICE_OBJECT;
    pub(crate) fn IoDetachDevice(d: *mut DEVICE_OBJECT);
    pub(crate) fn IoCreateSymbolicLink(
        name: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> Status;
    pub(crate) fn IoDeleteSymbolicLink(name: *const UNICODE_STRING) -> Status;
    pub(crate) fn IoRegisterDeviceInterface(
        pdo: *mut DEVICE_OBJECT,
        class: *const u8,
        reference: *const UNICODE_STRING,
        link: *mut UNICODE_STRING,
    ) -> Status;
    pub(crate) fn IoSetDeviceInterfaceState(link: *const UNICODE_STRING, enable: u8) -> Status;
    pub(crate) fn IoOpenDeviceRegistryKey(
        pdo: *mut DEVICE_OBJECT,
        kind: u32,
        access: u32,
        key: *mut Ptr,
    ) -> Status;
    pub(crate) fn IoGetDeviceProperty(
        pdo: *mut DEVICE_OBJECT,
        property: i32,
        len: u32,
        buffer: Ptr,
        result: *mut u32,
    ) -> Status;
    pub(crate) fn IoInvalidateDeviceRelations(pdo: *mut DEVICE_OBJECT, kind: i32);
    pub(crate) fn IoGetDeviceObjectPointer(
        name: *const UNICODE_STRING,
        access: u32,
        file: *mut Ptr,
        device: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub(crate) fn IoConnectInterruptEx(p: *mut ConnectInterrupt) -> Status;
    pub(crate) fn IoDisconnectInterruptEx(p: *mut DisconnectInterrupt);
    pub(crate) fn IoCancelIrp(irp: *mut IRP) -> u8;
    pub(crate) fn IoReuseIrp(irp: *mut IRP, status: Status);
    pub(crate) fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    pub(crate) fn IofCallDriver(d: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status;
    pub(crate) fn IoAllocateIrp(size: i8, quota: u8) -> *mut IRP;
    pub(crate) fn IoFreeIrp(irp: *mut IRP);
    pub(crate) fn IoBuildDeviceIoControlRequest(
        code: u32,
        d: *mut DEVICE_OBJECT,
        input: Ptr,
        ilen: u32,
        output: Ptr,
        olen: u32,
        internal: u8,
        event: *mut KEVENT,
        iosb: *mut [u64; 2],
    ) -> *mut IRP;
    pub(crate) fn IoGetAttachedDeviceReference(d: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT;
    pub(crate) fn IoReleaseCancelSpinLock(irql: u8);
    pub(crate) fn IoAllocateErrorLogEntry(object: Ptr, size: u8) -> Ptr;
    pub(crate) fn IoWriteErrorLogEntry(entry: Ptr);
    pub(crate) fn EtwRegister(
        guid: *const u128,
        callback: Ptr,
        context: Ptr,
        handle: *mut u64,
    ) -> Status;
    pub(crate) fn EtwUnregister(handle: u64) -> Status;
    pub(crate) fn EtwSetInformation(handle: u64, class: u32, data: Ptr, length: u32) -> Status;
    pub(crate) fn EtwWriteTransfer(
        handle: u64,
        descriptor: *const [u64; 2],
        activity: Ptr,
        related: Ptr,
        count: u32,
        data: *const [u64; 2],
    ) -> Status;
    pub(crate) fn IoAllocateWorkItem(d: *mut DEVICE_OBJECT) -> Ptr;
    pub(crate) fn IoQueueWorkItemEx(
        item: Ptr,
        routine: unsafe extern "C" fn(Ptr, Ptr, Ptr),
        queue: i32,
        context: Ptr,
    );
    pub(crate) fn IoFreeWorkItem(item: Ptr);
    pub(crate) fn IoInitializeRemoveLockEx(
        lock: Ptr,
        tag: u32,
        minutes: u32,
        water: u32,
        size: u32,
    );
    pub(crate) fn IoAcquireRemoveLockEx(
        lock: Ptr,
        tag: Ptr,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> Status;
    pub(crate) fn IoReleaseRemoveLockEx(lock: Ptr, tag: Ptr, size: u32);
    pub(crate) fn IoReleaseRemoveLockAndWaitEx(lock: Ptr, tag: Ptr, size: u32);
    pub(crate) fn IoCsqInitialize(
        csq: *mut IO_CSQ,
        insert: Ptr,
        remove: Ptr,
        peek: Ptr,
        acquire: Ptr,
        release: Ptr,
        complete: Ptr,
    ) -> Status;
    pub(crate) fn IoCsqInsertIrp(csq: *mut IO_CSQ, irp: *mut IRP, context: Ptr);
    pub(crate) fn IoCsqRemoveNextIrp(csq: *mut IO_CSQ, context: Ptr) -> *mut IRP;
    pub(crate) fn PoSetPowerState(device: *mut DEVICE_OBJECT, kind: u32, state: u32) -> u32;
    pub(crate) fn PoRequestPowerIrp(
        device: *mut DEVICE_OBJECT,
        minor: u8,
        state: u32,
        routine: *const (),
        context: Ptr,
        irp: Ptr,
    ) -> Status;
    pub(crate) fn KeGetCurrentIrql() -> u8;
    pub(crate) fn KfRaiseIrql(irql: u8) -> u8;
    pub(crate) fn KeLowerIrql(irql: u8);
    pub(crate) fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8;
    pub(crate) fn KeReleaseSpinLock(lock: *mut usize, irql: u8);
    pub(crate) fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize);
    pub(crate) fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize);
    pub(crate) fn KeAcquireInStackQueuedSpinLock(lock: *mut usize, handle: *mut [usize; 3]);
    pub(crate) fn KeReleaseInStackQueuedSpinLock(handle: *mut [usize; 3]);
    pub(crate) fn KeInitializeSpinLock(lock: *mut usize);
    pub(crate) fn KeAcquireInterruptSpinLock(interrupt: Ptr) -> u8;
    pub(crate) fn KeReleaseInterruptSpinLock(interrupt: Ptr, irql: u8);
    pub(crate) fn KeSynchronizeExecution(
        interrupt: Ptr,
        routine: unsafe extern "C" fn(Ptr) -> u8,
        context: Ptr,
    ) -> u8;
    pub(crate) fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: u8);
    pub(crate) fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: u8) -> i32;
    pub(crate) fn KeInitializeSemaphore(s: *mut KSEMAPHORE, count: i32, limit: i32);
    pub(crate) fn KeReleaseSemaphore(s: *mut KSEMAPHORE, increment: i32, n: i32, wait: u8) -> i32;
    pub(crate) fn KeInitializeMutex(m: *mut KMUTANT, level: u32);
    pub(crate) fn KeReleaseMutex(m: *mut KMUTANT, wait: u8) -> i32;
    pub(crate) fn KeWaitForSingleObject(
        object: Ptr,
        reason: i32,
        mode: i8,
        alertable: u8,
        timeout: *const i64,
    ) -> Status;
    pub(crate) fn KeDelayExecutionThread(mode: i8, alertable: u8, interval: *const i64) -> Status;
    pub(crate) fn KeStallExecutionProcessor(us: u32);
    pub(crate) fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
    pub(crate) fn KeInitializeTimerEx(t: *mut KTIMER, kind: i32);
    pub(crate) fn KeSetTimer(t: *mut KTIMER, due: i64, dpc: *mut KDPC) -> u8;
    pub(crate) fn ExAllocateTimer(callback: Ptr, context: Ptr, attributes: u32) -> Ptr;
    pub(crate) fn ExSetTimer(timer: Ptr, due: i64, period: i64, parameters: Ptr) -> u8;
    pub(crate) fn ExDeleteTimer(timer: Ptr, cancel: u8, wait: u8, parameters: Ptr) -> u8;
    pub(crate) fn KeGetCurrentThread() -> Ptr;
    pub(crate) fn KeSetPriorityThread(thread: Ptr, priority: i32) -> i32;
    pub(crate) fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const Ptr,
        kind: i32,
        reason: i32,
        mode: u8,
        alertable: u8,
        timeout: *mut i64,
        blocks: Ptr,
    ) -> Status;
    pub(crate) fn KeCancelTimer(t: *mut KTIMER) -> u8;
    pub(crate) fn KeInitializeDpc(
        d: *mut KDPC,
        routine: unsafe extern "C" fn(*mut KDPC, Ptr, Ptr, Ptr),
        context: Ptr,
    );
    pub(crate) fn KeInsertQueueDpc(d: *mut KDPC, a: Ptr, b: Ptr) -> u8;
    pub(crate) fn KeRemoveQueueDpc(d: *mut KDPC) -> u8;
    pub(crate) fn KeFlushQueuedDpcs();
    pub(crate) fn KeEnterCriticalRegion();
    pub(crate) fn KeLeaveCriticalRegion();
    pub(crate) fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> !;
    pub(crate) fn PsCreateSystemThread(
        handle: *mut Ptr,
        access: u32,
        attributes: *const ObjectAttributes,
        process: Ptr,
        id: Ptr,
        routine: unsafe extern "C" fn(Ptr),
        context: Ptr,
    ) -> Status;
    pub(crate) fn PsTerminateSystemThread(status: Status) -> Status;
    pub(crate) fn ObReferenceObjectByHandle(
        handle: Ptr,
        access: u32,
        kind: Ptr,
        mode: i8,
        object: *mut Ptr,
        info: Ptr,
    ) -> Status;
    pub(crate) fn ObReferenceObjectByPointer(
        object: Ptr,
        access: u32,
        kind: Ptr,
        mode: i8,
    ) -> Status;
    pub(crate) fn ObfReferenceObject(object: Ptr) -> isize;
    pub(crate) fn ObfDereferenceObject(object: Ptr) -> isize;
    pub(crate) fn ZwClose(handle: Ptr) -> Status;
    pub(crate) fn ZwCreateFile(
        handle: *mut Ptr,
        access: u32,
        attributes: *const ObjectAttributes,
        iosb: *mut [u64; 2],
        size: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        options: u32,
        ea: Ptr,
        ea_length: u32,
    ) -> Status;
    pub(crate) fn ZwOpenKey(
        handle: *mut Ptr,
        access: u32,
        attributes: *const ObjectAttributes,
    ) -> Status;
    pub(crate) fn ZwQueryValueKey(
        key: Ptr,
        name: *const UNICODE_STRING,
        class: i32,
        buffer: Ptr,
        len: u32,
        result: *mut u32,
    ) -> Status;
    pub(crate) fn ZwSetValueKey(
        key: Ptr,
        name: *const UNICODE_STRING,
        title: u32,
        kind: u32,
        data: *const c_void,
        size: u32,
    ) -> Status;
    pub(crate) fn RtlInitUnicodeString(s: *mut UNICODE_STRING, text: *const u16);
    pub(crate) fn RtlFreeUnicodeString(s: *mut UNICODE_STRING);
    pub(crate) fn memcpy(to: Ptr, from: *const c_void, n: usize) -> Ptr;
    pub(crate) fn memset(to: Ptr, value: i32, n: usize) -> Ptr;
}

/// A NUL-terminated UTF-16 literal.
pub(crate) const fn utf16<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    let mut out = [0; N];
    let mut i = 0;
    while i < bytes.len() {
        out[i] = bytes[i] as u16;
        i += 1;
    }
    out
}

macro_rules! w {
    ($text:literal) => {{
        const TEXT: &[u16; $text.len() + 1] = &$crate::api::utf16::<{ $text.len() + 1 }>($text);
        TEXT.as_ptr()
    }};
}
pub(crate) use w;

pub(crate) fn ustr(text: *const u16) -> UNICODE_STRING {
    let mut s = UNICODE_STRING {
        Length: 0,
        MaximumLength: 0,
        Buffer: core::ptr::null_mut(),
    };
    unsafe { RtlInitUnicodeString(&raw mut s, text) };
    s
}

// Inline functions of wdm.h.

pub(crate) fn current(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    unsafe { (*irp).CurrentStackLocation }
}

pub(crate) fn list_entry(irp: *mut IRP) -> *mut LIST_ENTRY {
    unsafe { &raw mut (*irp).ListEntry }
}

pub(crate) fn irp_of(entry: *mut LIST_ENTRY) -> *mut IRP {
    unsafe { entry.cast::<u8>().sub(offset_of!(IRP, ListEntry)).cast() }
}

/// `Parameters.Others.Argument1 + n`.
pub(crate) fn argument(irp: *mut IRP, n: usize) -> usize {
    unsafe { current(irp).cast::<usize>().add(1 + n).read() }
}

/// The ULONG there.
pub(crate) fn argument_low(irp: *mut IRP, n: usize) -> u32 {
    unsafe { current(irp).cast::<usize>().add(1 + n).cast::<u32>().read() }
}

pub(crate) fn skip(irp: *mut IRP) {
    unsafe { (*irp).CurrentLocation += 1 };
    unsafe { (*irp).CurrentStackLocation = current(irp).add(1) };
}

pub(crate) fn copy(irp: *mut IRP) {
    let from = current(irp);
    let to = unsafe { from.sub(1) };
    unsafe {
        memcpy(
            to.cast(),
            from.cast(),
            offset_of!(IO_STACK_LOCATION, CompletionRoutine),
        )
    };
    unsafe { (*to).Control = 0 };
}

pub(crate) type Completion = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP, Ptr) -> Status;

pub(crate) fn set_completion(irp: *mut IRP, routine: Completion, context: Ptr) {
    let next = unsafe { current(irp).sub(1) };
    unsafe {
        (*next).CompletionRoutine = routine as usize;
        (*next).Context = context;
        (*next).Control = 0xE0;
    }
}

pub(crate) fn mark_pending(irp: *mut IRP) {
    unsafe { (*current(irp)).Control |= 1 };
}

pub(crate) fn set_cancel(irp: *mut IRP, routine: usize) {
    unsafe { (*irp).CancelRoutine = routine };
}

pub(crate) fn status(irp: *mut IRP) -> Status {
    unsafe { (&raw const (*irp).IoStatus).cast::<Status>().read() }
}

pub(crate) fn set_status(irp: *mut IRP, status: Status, information: usize) {
    let place = unsafe { (&raw mut (*irp).IoStatus).cast::<u64>() };
    unsafe {
        place.cast::<Status>().write(status);
        place.add(1).write(information as u64);
    }
}

pub(crate) fn finish(irp: *mut IRP, status: Status, information: usize) -> Status {
    set_status(irp, status, information);
    unsafe { IofCompleteRequest(irp, 0) };
    status
}

pub(crate) fn buffer(irp: *mut IRP) -> *mut u8 {
    unsafe { (*irp).AssociatedIrp }
}

pub(crate) fn sleep(ms: i64) {
    let units = -ms * 10_000;
    unsafe { KeDelayExecutionThread(0, 0, &raw const units) };
}

pub(crate) fn inb(port: u16) -> u8 {
    let value: u8;
    unsafe { core::arch::asm!("in al, dx", in("dx") port, out("al") value) };
    value
}

pub(crate) fn outb(port: u16, value: u8) {
    unsafe { core::arch::asm!("out dx, al", in("dx") port, in("al") value) };
}

pub(crate) fn outsb(port: u16, data: &[u8]) {
    unsafe {
        core::arch::asm!("rep outsb", in("dx") port, inout("rsi") data.as_ptr() => _, inout("rcx") data.len() => _);
    }
}

pub(crate) fn inw(port: u16) -> u16 {
    let value: u16;
    unsafe { core::arch::asm!("in ax, dx", in("dx") port, out("ax") value) };
    value
}

pub(crate) fn ind(port: u16) -> u32 {
    let value: u32;
    unsafe { core::arch::asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}

pub(crate) fn insw(port: u16, data: &mut [u16]) {
    unsafe {
        core::arch::asm!("rep insw", in("dx") port, inout("rdi") data.as_mut_ptr() => _, inout("rcx") data.len() => _);
    }
}

/// Reads a byte into al and gives the whole of rax, which held `before`.
pub(crate) fn inb_over(port: u16, before: u64) -> u64 {
    let after: u64;
    unsafe { core::arch::asm!("in al, dx", in("dx") port, inout("rax") before => after) };
    after
}

pub(crate) fn set_cr8(value: u64) {
    unsafe { core::arch::asm!("mov cr8, {}", in(reg) value) };
}

pub(crate) fn cr8() -> u64 {
    let value: u64;
    unsafe { core::arch::asm!("mov {}, cr8", out(reg) value) };
    value
}

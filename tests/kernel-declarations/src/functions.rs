//! What `ntoskrnl.exe` exports, as far as the drivers of the tests call it.
#![allow(
    missing_docs,
    non_snake_case,
    non_upper_case_globals,
    clippy::too_many_arguments,
    reason = "Windows' names and signatures, which its documentation explains"
)]

use core::ffi::c_void;

use crate::types::{
    ConnectInterrupt, DEVICE_OBJECT, DRIVER_OBJECT, DisconnectInterrupt, DpcRoutine, IO_CSQ,
    IO_STATUS_BLOCK, IRP, KDPC, KEVENT, KMUTANT, KSEMAPHORE, KTIMER, MDL, ObjectAttributes, Ptr,
    Status, UNICODE_STRING, WorkRoutine,
};

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub static PsThreadType: Ptr;
    pub static IoFileObjectType: Ptr;
    pub static MmUserProbeAddress: u64;
    /// For exception tables written in assembly.
    pub fn __C_specific_handler();
    pub fn ProbeForRead(address: Ptr, len: usize, alignment: u32);
    pub fn ProbeForWrite(address: Ptr, len: usize, alignment: u32);
    pub fn ExRaiseStatus(status: Status) -> !;
    pub fn IoIs32bitProcess(irp: *mut IRP) -> u8;
    pub fn IoAllocateMdl(
        address: Ptr,
        len: u32,
        secondary: u8,
        quota: u8,
        irp: *mut IRP,
    ) -> *mut MDL;
    pub fn IoFreeMdl(mdl: *mut MDL);
    pub fn IoBuildPartialMdl(source: *mut MDL, target: *mut MDL, address: Ptr, len: u32);
    pub fn MmProbeAndLockPages(mdl: *mut MDL, mode: i8, operation: i32);
    pub fn MmUnlockPages(mdl: *mut MDL);
    pub fn MmBuildMdlForNonPagedPool(mdl: *mut MDL);
    pub fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: i8,
        cache: i32,
        base: Ptr,
        bug_check: u32,
        priority: u32,
    ) -> Ptr;
    pub fn DbgPrint(format: *const u8, ...) -> u32;
    pub fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> Ptr;
    pub fn ExFreePoolWithTag(p: Ptr, tag: u32);
    pub fn ExInitializeRundownProtection(r: *mut usize);
    pub fn ExAcquireRundownProtection(r: *mut usize) -> u8;
    pub fn ExReleaseRundownProtection(r: *mut usize);
    pub fn ExWaitForRundownProtectionRelease(r: *mut usize);
    pub fn ExAcquireFastMutex(m: Ptr);
    pub fn ExReleaseFastMutex(m: Ptr);
    pub fn IoCreateDevice(
        d: *mut DRIVER_OBJECT,
        ext: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        chars: u32,
        exclusive: u8,
        out: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub fn IoDeleteDevice(d: *mut DEVICE_OBJECT);
    pub fn IoAttachDeviceToDeviceStack(
        d: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> *mut DEVICE_OBJECT;
    pub fn IoDetachDevice(d: *mut DEVICE_OBJECT);
    pub fn IoCreateSymbolicLink(
        name: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> Status;
    pub fn IoDeleteSymbolicLink(name: *const UNICODE_STRING) -> Status;
    pub fn IoRegisterDeviceInterface(
        pdo: *mut DEVICE_OBJECT,
        class: *const u8,
        reference: *const UNICODE_STRING,
        link: *mut UNICODE_STRING,
    ) -> Status;
    pub fn IoSetDeviceInterfaceState(link: *const UNICODE_STRING, enable: u8) -> Status;
    pub fn IoOpenDeviceRegistryKey(
        pdo: *mut DEVICE_OBJECT,
        kind: u32,
        access: u32,
        key: *mut Ptr,
    ) -> Status;
    pub fn IoGetDeviceProperty(
        pdo: *mut DEVICE_OBJECT,
        property: i32,
        len: u32,
        buffer: Ptr,
        result: *mut u32,
    ) -> Status;
    pub fn IoInvalidateDeviceRelations(pdo: *mut DEVICE_OBJECT, kind: i32);
    pub fn IoGetDeviceObjectPointer(
        name: *const UNICODE_STRING,
        access: u32,
        file: *mut Ptr,
        device: *mut *mut DEVICE_OBJECT,
    ) -> Status;
    pub fn IoConnectInterruptEx(p: *mut ConnectInterrupt) -> Status;
    pub fn IoDisconnectInterruptEx(p: *mut DisconnectInterrupt);
    pub fn IoCancelIrp(irp: *mut IRP) -> u8;
    pub fn IoReuseIrp(irp: *mut IRP, status: Status);
    pub fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    pub fn IofCallDriver(d: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status;
    pub fn IoAllocateIrp(size: i8, quota: u8) -> *mut IRP;
    pub fn IoFreeIrp(irp: *mut IRP);
    pub fn IoBuildDeviceIoControlRequest(
        code: u32,
        d: *mut DEVICE_OBJECT,
        input: Ptr,
        ilen: u32,
        output: Ptr,
        olen: u32,
        internal: u8,
        event: *mut KEVENT,
        iosb: *mut IO_STATUS_BLOCK,
    ) -> *mut IRP;
    pub fn IoGetAttachedDeviceReference(d: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT;
    pub fn IoReleaseCancelSpinLock(irql: u8);
    pub fn IoAllocateErrorLogEntry(object: Ptr, size: u8) -> Ptr;
    pub fn IoWriteErrorLogEntry(entry: Ptr);
    pub fn EtwRegister(guid: *const u128, callback: Ptr, context: Ptr, handle: *mut u64) -> Status;
    pub fn EtwUnregister(handle: u64) -> Status;
    pub fn EtwSetInformation(handle: u64, class: u32, data: Ptr, length: u32) -> Status;
    pub fn EtwWriteTransfer(
        handle: u64,
        descriptor: *const [u64; 2],
        activity: Ptr,
        related: Ptr,
        count: u32,
        data: *const [u64; 2],
    ) -> Status;
    pub fn IoAllocateWorkItem(d: *mut DEVICE_OBJECT) -> Ptr;
    pub fn IoQueueWorkItemEx(item: Ptr, routine: WorkRoutine, queue: i32, context: Ptr);
    pub fn IoFreeWorkItem(item: Ptr);
    pub fn IoInitializeRemoveLockEx(lock: Ptr, tag: u32, minutes: u32, water: u32, size: u32);
    pub fn IoAcquireRemoveLockEx(
        lock: Ptr,
        tag: Ptr,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> Status;
    pub fn IoReleaseRemoveLockEx(lock: Ptr, tag: Ptr, size: u32);
    pub fn IoReleaseRemoveLockAndWaitEx(lock: Ptr, tag: Ptr, size: u32);
    pub fn IoCsqInitialize(
        csq: *mut IO_CSQ,
        insert: Ptr,
        remove: Ptr,
        peek: Ptr,
        acquire: Ptr,
        release: Ptr,
        complete: Ptr,
    ) -> Status;
    pub fn IoCsqInsertIrp(csq: *mut IO_CSQ, irp: *mut IRP, context: Ptr);
    pub fn IoCsqRemoveNextIrp(csq: *mut IO_CSQ, context: Ptr) -> *mut IRP;
    pub fn PoSetPowerState(device: *mut DEVICE_OBJECT, kind: u32, state: u32) -> u32;
    pub fn PoRequestPowerIrp(
        device: *mut DEVICE_OBJECT,
        minor: u8,
        state: u32,
        routine: *const (),
        context: Ptr,
        irp: Ptr,
    ) -> Status;
    pub fn KeGetCurrentIrql() -> u8;
    pub fn KfRaiseIrql(irql: u8) -> u8;
    pub fn KeLowerIrql(irql: u8);
    pub fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8;
    pub fn KeReleaseSpinLock(lock: *mut usize, irql: u8);
    pub fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize);
    pub fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize);
    pub fn KeAcquireInStackQueuedSpinLock(lock: *mut usize, handle: *mut [usize; 3]);
    pub fn KeReleaseInStackQueuedSpinLock(handle: *mut [usize; 3]);
    pub fn KeInitializeSpinLock(lock: *mut usize);
    pub fn KeAcquireInterruptSpinLock(interrupt: Ptr) -> u8;
    pub fn KeReleaseInterruptSpinLock(interrupt: Ptr, irql: u8);
    pub fn KeSynchronizeExecution(
        interrupt: Ptr,
        routine: unsafe extern "C" fn(Ptr) -> u8,
        context: Ptr,
    ) -> u8;
    pub fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: u8);
    pub fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: u8) -> i32;
    pub fn KeInitializeSemaphore(s: *mut KSEMAPHORE, count: i32, limit: i32);
    pub fn KeReleaseSemaphore(s: *mut KSEMAPHORE, increment: i32, n: i32, wait: u8) -> i32;
    pub fn KeInitializeMutex(m: *mut KMUTANT, level: u32);
    pub fn KeReleaseMutex(m: *mut KMUTANT, wait: u8) -> i32;
    pub fn KeWaitForSingleObject(
        object: Ptr,
        reason: i32,
        mode: i8,
        alertable: u8,
        timeout: *const i64,
    ) -> Status;
    pub fn KeDelayExecutionThread(mode: i8, alertable: u8, interval: *const i64) -> Status;
    pub fn KeStallExecutionProcessor(us: u32);
    pub fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
    pub fn KeInitializeTimerEx(t: *mut KTIMER, kind: i32);
    pub fn KeSetTimer(t: *mut KTIMER, due: i64, dpc: *mut KDPC) -> u8;
    pub fn ExAllocateTimer(callback: Ptr, context: Ptr, attributes: u32) -> Ptr;
    pub fn ExSetTimer(timer: Ptr, due: i64, period: i64, parameters: Ptr) -> u8;
    pub fn ExDeleteTimer(timer: Ptr, cancel: u8, wait: u8, parameters: Ptr) -> u8;
    pub fn KeGetCurrentThread() -> Ptr;
    pub fn KeSetPriorityThread(thread: Ptr, priority: i32) -> i32;
    pub fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const Ptr,
        kind: i32,
        reason: i32,
        mode: u8,
        alertable: u8,
        timeout: *mut i64,
        blocks: Ptr,
    ) -> Status;
    pub fn KeCancelTimer(t: *mut KTIMER) -> u8;
    pub fn KeInitializeDpc(d: *mut KDPC, routine: DpcRoutine, context: Ptr);
    pub fn KeInsertQueueDpc(d: *mut KDPC, a: Ptr, b: Ptr) -> u8;
    pub fn KeRemoveQueueDpc(d: *mut KDPC) -> u8;
    pub fn KeFlushQueuedDpcs();
    pub fn KeEnterCriticalRegion();
    pub fn KeLeaveCriticalRegion();
    pub fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> !;
    pub fn PsCreateSystemThread(
        handle: *mut Ptr,
        access: u32,
        attributes: *const ObjectAttributes,
        process: Ptr,
        id: Ptr,
        routine: unsafe extern "C" fn(Ptr),
        context: Ptr,
    ) -> Status;
    pub fn PsTerminateSystemThread(status: Status) -> Status;
    pub fn ObReferenceObjectByHandle(
        handle: Ptr,
        access: u32,
        kind: Ptr,
        mode: i8,
        object: *mut Ptr,
        info: Ptr,
    ) -> Status;
    pub fn ObReferenceObjectByPointer(object: Ptr, access: u32, kind: Ptr, mode: i8) -> Status;
    pub fn ObfReferenceObject(object: Ptr) -> isize;
    pub fn ObfDereferenceObject(object: Ptr) -> isize;
    pub fn ZwClose(handle: Ptr) -> Status;
    pub fn ZwCreateFile(
        handle: *mut Ptr,
        access: u32,
        attributes: *const ObjectAttributes,
        iosb: *mut IO_STATUS_BLOCK,
        size: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        options: u32,
        ea: Ptr,
        ea_length: u32,
    ) -> Status;
    pub fn ZwOpenKey(handle: *mut Ptr, access: u32, attributes: *const ObjectAttributes) -> Status;
    pub fn ZwQueryValueKey(
        key: Ptr,
        name: *const UNICODE_STRING,
        class: i32,
        buffer: Ptr,
        len: u32,
        result: *mut u32,
    ) -> Status;
    pub fn ZwSetValueKey(
        key: Ptr,
        name: *const UNICODE_STRING,
        title: u32,
        kind: u32,
        data: *const c_void,
        size: u32,
    ) -> Status;
    pub fn RtlInitUnicodeString(s: *mut UNICODE_STRING, text: *const u16);
    pub fn RtlFreeUnicodeString(s: *mut UNICODE_STRING);
    // What the compiler calls, too.
    pub fn memcpy(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    pub fn memmove(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    pub fn memset(to: Ptr, value: i32, length: usize) -> Ptr;
    pub fn memcmp(left: *const c_void, right: *const c_void, length: usize) -> i32;
}

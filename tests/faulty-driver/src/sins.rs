//! The sins that a request can ask for, and a request that uses everything rightly.
#![allow(clippy::too_many_lines, reason = "one arm a sin")]

use core::ptr::{null, null_mut};

use crate::api::*;
use crate::driver::{PORT, extension, leave, remove_lock, set_event};
use crate::server;

fn alloc(size: usize) -> *mut u8 {
    unsafe { ExAllocatePool2(NON_PAGED, size, TAG).cast() }
}

/// A store next to a port instruction, between two kernel calls: what the machine replaces.
#[inline(never)]
unsafe fn store_beside_port(p: *mut u8) {
    unsafe {
        let level = KeGetCurrentIrql();
        core::arch::asm!(
            // What is before it is not moved.
            "push rax",
            "pop rax",
            "in al, dx",
            "mov byte ptr [{p} + 1], al",
            "mov byte ptr [{p}], al",
            p = in(reg) p,
            in("dx") PORT,
            out("al") _,
        );
        if KeGetCurrentIrql() != level {
            p.write_volatile(0);
        }
    }
}

unsafe extern "C" fn cancel_nothing(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    unsafe { IoReleaseCancelSpinLock((*irp).CancelIrql) };
}

unsafe extern "C" fn dpc_lowering(_dpc: *mut KDPC, _context: Ptr, _a: Ptr, _b: Ptr) {
    unsafe { KfRaiseIrql(5) };
}

unsafe extern "C" fn dpc_good(_dpc: *mut KDPC, context: Ptr, _a: Ptr, _b: Ptr) {
    unsafe { KeSetEvent(context.cast(), 0, 0) };
}

unsafe extern "C" fn work_critical(_device: Ptr, _context: Ptr, item: Ptr) {
    unsafe {
        IoFreeWorkItem(item);
        KeEnterCriticalRegion();
    }
}

unsafe extern "C" fn keep_quietly(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    _event: Ptr,
) -> Status {
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn raise(_device: *mut DEVICE_OBJECT, _irp: *mut IRP, _event: Ptr) -> Status {
    unsafe { KfRaiseIrql(2) };
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn stay_critical(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    _event: Ptr,
) -> Status {
    unsafe { KeEnterCriticalRegion() };
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn isr_event(_interrupt: Ptr, context: Ptr) -> u8 {
    let device: *mut DEVICE_OBJECT = context.cast();
    unsafe { KeSetEvent(&raw mut (*extension(device)).event, 0, 0) };
    1
}

/// A threaded request without data.
unsafe fn build(
    code: u32,
    target: *mut DEVICE_OBJECT,
    event: *mut KEVENT,
    iosb: *mut IO_STATUS_BLOCK,
) -> *mut IRP {
    let none = null_mut();
    unsafe { IoBuildDeviceIoControlRequest(code, target, none, 0, none, 0, 1, event, iosb) }
}

/// A threaded request whose event and status block are gone when it ends.
#[inline(never)]
unsafe fn send_and_leave(target: *mut DEVICE_OBJECT) {
    let mut event: KEVENT = unsafe { core::mem::zeroed() };
    let mut iosb = IO_STATUS_BLOCK::default();
    unsafe {
        KeInitializeEvent(&raw mut event, 0, 0);
        let own = build(
            0x0022_0000 | 0x811 << 2,
            target,
            &raw mut event,
            &raw mut iosb,
        );
        IofCallDriver(target, own);
    }
}

/// A threaded request that the lower device answers at once.
unsafe fn threaded(device: *mut DEVICE_OBJECT, signalled: u8, irql: u8) {
    let mut event: KEVENT = unsafe { core::mem::zeroed() };
    let mut iosb = IO_STATUS_BLOCK::default();
    unsafe {
        KeInitializeEvent(&raw mut event, 0, signalled);
        let lower = (*extension(device)).lower;
        let own = build(0x22_0000, lower, &raw mut event, &raw mut iosb);
        let old = KfRaiseIrql(irql);
        IofCallDriver(lower, own);
        KeLowerIrql(old);
    }
}

unsafe extern "C" fn cancel_holding(_device: *mut DEVICE_OBJECT, _irp: *mut IRP) {}

/// `DEVICE_OBJECT.Dpc`.
const DEVICE_DPC: usize = 0xC8;

/// The DPC that `IoInitializeDpcRequest` prepares and `IoRequestDpc` queues finishes the request.
pub(crate) unsafe fn request_dpc(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    unsafe {
        let dpc: *mut KDPC = device.cast::<u8>().add(DEVICE_DPC).cast();
        KeInitializeDpc(dpc, dpc_of_device, null_mut());
        mark_pending(irp);
        KeInsertQueueDpc(dpc, irp.cast(), null_mut());
    }
    PENDING
}

unsafe extern "C" fn dpc_of_device(dpc: *mut KDPC, _context: Ptr, irp: Ptr, _b: Ptr) {
    let device: *mut DEVICE_OBJECT = unsafe { dpc.cast::<u8>().sub(DEVICE_DPC).cast() };
    finish(irp.cast(), SUCCESS, 0);
    leave(device, irp);
}

#[unsafe(link_section = "PAGE")]
#[inline(never)]
fn pageable() {
    core::hint::black_box(0);
}

/// An unnamed device of this driver.
unsafe fn other(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
    let mut other = null_mut();
    unsafe {
        IoCreateDevice(
            (*device).DriverObject,
            0,
            null(),
            0x22,
            0,
            0,
            &raw mut other,
        )
    };
    other
}

/// Sends a request of our own down, with this completion routine.
unsafe fn send_own(device: *mut DEVICE_OBJECT, major: u8, routine: Completion) {
    unsafe {
        let own = IoAllocateIrp(4, 0);
        (*current(own).sub(1)).MajorFunction = major;
        set_completion(own, routine, null_mut());
        IofCallDriver((*extension(device)).lower, own);
    }
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    if core::hint::black_box(depth) == usize::MAX {
        return 0;
    }
    let room = [depth; 256];
    core::hint::black_box(&room);
    recurse(depth + 1) + room[depth % 256]
}

/// Commits sin `number`; where the machine lets it pass, the request still ends.
pub(crate) unsafe fn commit(
    number: u32,
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    output: usize,
) -> Status {
    let ext = extension(device);
    let tag: Ptr = irp.cast();
    let end = |status, information| {
        let status = finish(irp, status, information);
        leave(device, tag);
        status
    };
    unsafe {
        match number {
            0 => {
                finish(irp, SUCCESS, 0);
                IofCompleteRequest(irp, 0);
            }
            1 => {
                finish(irp, SUCCESS, 0);
                core::hint::black_box(status(irp));
            }
            2 => {
                leave(device, tag);
                return SUCCESS;
            }
            3 => {
                (*ext).kept = irp;
                return PENDING;
            }
            4 => {
                mark_pending(irp);
                finish(irp, SUCCESS, 0);
                leave(device, tag);
                return SUCCESS;
            }
            5 => {
                finish(irp, UNSUCCESSFUL, 0);
                leave(device, tag);
                return SUCCESS;
            }
            6 => return end(SUCCESS, output + 1),
            7 => return end(SUCCESS, output),
            8 => {
                set_cancel(irp, cancel_nothing as *const () as usize);
                return end(SUCCESS, 0);
            }
            9 => {
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                finish(irp, SUCCESS, 0);
                KeReleaseSpinLock(&raw mut (*ext).locks.a, old);
            }
            10 => {
                let old = KfRaiseIrql(2);
                KeWaitForSingleObject((&raw mut (*ext).event).cast(), 0, 0, 0, null());
                KeLowerIrql(old);
            }
            11 => {
                KfRaiseIrql(2);
            }
            12 => {
                KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                set_status(irp, SUCCESS, 0);
                mark_pending(irp);
                return PENDING;
            }
            13 => {
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                KeAcquireSpinLockAtDpcLevel(&raw mut (*ext).locks.b);
                KeReleaseSpinLockFromDpcLevel(&raw mut (*ext).locks.b);
                KeReleaseSpinLock(&raw mut (*ext).locks.a, old);
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.b);
                KeAcquireSpinLockAtDpcLevel(&raw mut (*ext).locks.a);
                KeReleaseSpinLockFromDpcLevel(&raw mut (*ext).locks.a);
                KeReleaseSpinLock(&raw mut (*ext).locks.b, old);
            }
            14 => {
                let p = alloc(32);
                p.add(32).write_volatile(1);
            }
            15 => {
                let p = alloc(32);
                ExFreePoolWithTag(p.cast(), TAG);
                p.write_volatile(1);
            }
            16 => {
                let p = alloc(32);
                ExFreePoolWithTag(p.cast(), TAG);
                ExFreePoolWithTag(p.cast(), TAG);
            }
            17 => {
                alloc(0);
            }
            18 => ExFreePoolWithTag(alloc(32).cast(), TAG + 1),
            19 => {
                leave(device, tag);
                leave(device, tag);
            }
            20 => leave(device, tag.wrapping_byte_add(8)),
            21 => IoInitializeRemoveLockEx(remove_lock(device), TAG, 0, 0, 32),
            22 => {
                let mut key = null_mut();
                IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut key);
                ZwClose(key);
                ZwClose(key);
            }
            23 => {
                let mut key = null_mut();
                IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut key);
                let old = KfRaiseIrql(2);
                ZwClose(key);
                KeLowerIrql(old);
            }
            24 => {
                core::ptr::null::<u32>().wrapping_add(2).read_volatile();
            }
            25 => {
                let p = ExAllocatePool2(PAGED, 32, TAG).cast::<u8>();
                let old = KfRaiseIrql(2);
                p.write_volatile(1);
                KeLowerIrql(old);
            }
            26 => {
                KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                KeAcquireSpinLockAtDpcLevel(&raw mut (*ext).locks.a);
            }
            27 => {
                let old = KfRaiseIrql(2);
                KeReleaseSpinLockFromDpcLevel(&raw mut (*ext).locks.a);
                KeLowerIrql(old);
            }
            28 => {
                let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                KeReleaseSpinLockFromDpcLevel(&raw mut (*ext).locks.a);
                KeLowerIrql(old);
            }
            29 => {
                let p: *mut KTIMER = ExAllocatePool2(NON_PAGED, 64, TAG).cast();
                KeInitializeTimerEx(p, 0);
                KeSetTimer(p, -10_000_000, null_mut());
                ExFreePoolWithTag(p.cast(), TAG);
            }
            30 => return end(PENDING, 0),
            31 => {
                ExAllocatePool2(EXECUTE, 32, TAG);
            }
            32 => {
                ExAllocatePool2(NON_PAGED, 32, 0);
            }
            33 => {
                let old = KfRaiseIrql(1);
                let mut other = null_mut();
                IoCreateDevice(
                    (*device).DriverObject,
                    0,
                    null(),
                    0x22,
                    0,
                    0,
                    &raw mut other,
                );
                KeLowerIrql(old);
            }
            34 => {
                KfRaiseIrql(2);
                KfRaiseIrql(1);
            }
            35 => {
                // No thread will ever complete it, CLEANUP or not.
                (*ext).kept = irp;
                mark_pending(irp);
                return PENDING;
            }
            36 => buffer(irp).add(output).write_volatile(1),
            37 => {
                core::hint::black_box(recurse(0));
            }
            38 => panic!(),
            39 => ExFreePoolWithTag(alloc(64).add(16).cast(), TAG),
            40 => {
                ObfDereferenceObject(device.cast());
            }
            41 => {
                KeInitializeDpc(&raw mut (*ext).delay.dpc, dpc_lowering, null_mut());
                KeInsertQueueDpc(&raw mut (*ext).delay.dpc, null_mut(), null_mut());
                sleep(5);
            }
            42 => {
                let item = IoAllocateWorkItem(device);
                IoQueueWorkItemEx(item, work_critical, 1, null_mut());
                sleep(5);
            }
            43 => {
                let mut event: KEVENT = core::mem::zeroed();
                KeWaitForSingleObject((&raw mut event).cast(), 0, 0, 0, null());
            }
            44 => {
                let mut mutex = [0_u64; 7];
                mutex[0] = 1;
                let mut key = null_mut();
                IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut key);
                ExAcquireFastMutex((&raw mut mutex).cast());
                let name = ustr(w!("X"));
                let mut len = 0;
                ZwQueryValueKey(key, &raw const name, 2, null_mut(), 0, &raw mut len);
                ExReleaseFastMutex((&raw mut mutex).cast());
            }
            45 => {
                let own = IoAllocateIrp(4, 0);
                (*current(own).sub(1)).MajorFunction = 0x0F;
                IofCallDriver((*ext).lower, own);
            }
            46 => {
                let own = IoAllocateIrp(4, 0);
                IoFreeIrp(own);
                IoFreeIrp(own);
            }
            47 => {
                let code = commit as *const () as *mut u8;
                code.write_volatile(0);
            }
            48 => loop {
                KeStallExecutionProcessor(1);
            },
            49 => {
                KeWaitForSingleObject((&raw mut (*ext).event).cast(), 0, 0, 0, null());
            }
            50 => IoReleaseRemoveLockAndWaitEx(remove_lock(device), tag, 32),
            51 => IofCompleteRequest(alloc(512).cast(), 0),
            52 => {
                KfRaiseIrql(3);
                finish(irp, SUCCESS, 0);
            }
            53 => {
                // An overrun inside the page, found when the block is freed.
                let p = alloc(20);
                p.add(20).write_volatile(1);
                ExFreePoolWithTag(p.cast(), TAG);
            }
            54 => {
                (*ext).locks.a = 77;
                KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
            }
            55 => {
                mark_pending(irp);
                let mut own_event: KEVENT = core::mem::zeroed();
                KeInitializeEvent(&raw mut own_event, 0, 0);
                (*ext).kept = irp;
                return UNSUCCESSFUL;
            }
            56 => {
                let mut thread = null_mut();
                PsCreateSystemThread(
                    &raw mut thread,
                    0x1F_FFFF,
                    null(),
                    null_mut(),
                    null_mut(),
                    good_thread,
                    null_mut(),
                );
            }
            57 => {
                core::arch::asm!("int 3");
            }
            58 => {
                IofCallDriver(null_mut(), irp);
            }
            59 => {
                finish(irp, SUCCESS, 0);
                leave(device, tag);
                return -1;
            }
            60 => KeLowerIrql(2),
            61 => {
                let old = KfRaiseIrql(2);
                ExAllocatePool2(PAGED, 32, TAG);
                KeLowerIrql(old);
            }
            62 => {
                let p = ExAllocatePool2(PAGED, 32, TAG);
                let old = KfRaiseIrql(2);
                ExFreePoolWithTag(p, TAG);
                KeLowerIrql(old);
            }
            63 => IoInitializeRemoveLockEx(alloc(32).cast(), TAG, 0, 0, 32),
            64 => {
                let mut a = [0_usize; 3];
                let mut b = [0_usize; 3];
                KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.a, &raw mut a);
                KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.b, &raw mut b);
                KeReleaseInStackQueuedSpinLock(&raw mut a);
            }
            65 => {
                let mut mutex: KMUTANT = core::mem::zeroed();
                KeInitializeMutex(&raw mut mutex, 0);
                KeReleaseMutex(&raw mut mutex, 0);
            }
            66 => {
                KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                KeInitializeSpinLock(&raw mut (*ext).locks.a);
            }
            67 => send_own(device, 0x1B, keep_quietly),
            68 => {
                let d = other(device);
                ObfReferenceObject(d.cast());
                IoDeleteDevice(d);
                IoDeleteDevice(d);
            }
            69 => IoDetachDevice(device),
            70 => {
                let d = other(device);
                IoAttachDeviceToDeviceStack(other(device), d);
                IoDeleteDevice(d);
            }
            71 => send_own(device, 0x0F, raise),
            72 => send_own(device, 0x0F, stay_critical),
            73 | 74 => {
                // 73: its cancel routine forgets the IRP; 74: it keeps the cancel spin lock.
                let routine = if number == 73 {
                    cancel_nothing as *const () as usize
                } else {
                    cancel_holding as *const () as usize
                };
                set_cancel(irp, routine);
                mark_pending(irp);
                return PENDING;
            }
            75 => {
                let own = IoAllocateIrp(1, 0);
                (*own).CurrentLocation = 1;
                IofCallDriver((*ext).lower, own);
            }
            76 => {
                let event: *mut KEVENT = ExAllocatePool2(NON_PAGED, 32, TAG).cast();
                KeInitializeEvent(event, 0, 0);
                let mut iosb = IO_STATUS_BLOCK::default();
                let own = build(0x22_0000, (*ext).lower, event, &raw mut iosb);
                ExFreePoolWithTag(event.cast(), TAG);
                IofCallDriver((*ext).lower, own);
            }
            78 => {
                pageable();
                let old = KfRaiseIrql(2);
                pageable();
                KeLowerIrql(old);
            }
            77 => {
                let p = ExAllocatePool2(NON_PAGED, 32, u32::from_le_bytes(*b"    "));
                core::hint::black_box(p);
            }
            79..=98 => return crate::user::commit(number, device, irp),
            100 => {
                let dpc: *mut KDPC = alloc(64).cast();
                KeInitializeDpc(dpc, dpc_good, null_mut());
                // At DISPATCH_LEVEL no processor takes it out of the queue.
                let old = KfRaiseIrql(2);
                KeInsertQueueDpc(dpc, null_mut(), null_mut());
                ExFreePoolWithTag(dpc.cast(), TAG);
                KeLowerIrql(old);
            }
            101 => {
                server::connect(device, CONNECT_LINE_BASED, 0, 0);
                IoDisconnectInterruptEx(&mut DisconnectInterrupt {
                    Version: CONNECT_FULLY_SPECIFIED,
                    InterruptObject: (*ext).server.interrupt,
                });
            }
            102 => threaded(device, 0, 1),
            103 => threaded(device, 1, 0),
            104 => {
                let top = IoGetAttachedDeviceReference(device);
                send_and_leave(top);
                server::finish_waiting(device);
                ObfDereferenceObject(top.cast());
            }
            105 => {
                server::connect_isr(device, CONNECT_LINE_BASED, 0, 0, isr_event);
            }
            106 => {
                server::connect(device, CONNECT_LINE_BASED, 0, 0);
                KeAcquireInterruptSpinLock((*ext).server.interrupt);
                KeLowerIrql(2);
            }
            107 => {
                let timer = ExAllocateTimer(null_mut(), null_mut(), HIGH_RESOLUTION);
                ExSetTimer(timer, -10_000, 0, null_mut());
                ExDeleteTimer(timer, 1, 1, null_mut());
                ExSetTimer(timer, -10_000, 0, null_mut());
            }
            108 => {
                core::hint::black_box(ExAllocateTimer(null_mut(), null_mut(), 0));
            }
            109 => {
                ExAllocateTimer(null_mut(), null_mut(), HIGH_RESOLUTION | NO_WAKE);
            }
            110 => {
                let timer = ExAllocateTimer(null_mut(), null_mut(), 0);
                ExDeleteTimer(timer, 0, 1, null_mut());
            }
            111 => {
                KeSetPriorityThread(KeGetCurrentThread(), 4);
            }
            112 => {
                let mut events: [KEVENT; 4] = core::mem::zeroed();
                for event in &mut events {
                    KeInitializeEvent(event, 0, 1);
                }
                let objects: [Ptr; 4] = core::array::from_fn(|i| (&raw mut events[i]).cast());
                KeWaitForMultipleObjects(4, objects.as_ptr(), 1, 0, 0, 0, null_mut(), null_mut());
            }
            113 => {
                EtwUnregister(0x1234);
            }
            114 => {
                let mut handle = 0;
                EtwRegister(&1, null_mut(), null_mut(), &raw mut handle);
            }
            115 => {
                let mut handle = 0;
                let old = KfRaiseIrql(2);
                EtwRegister(&1, null_mut(), null_mut(), &raw mut handle);
                KeLowerIrql(old);
            }
            // Metadata that is shorter than it says.
            116 => traced(b"\x20\0\0Name\0", b"", false),
            // A value is missing.
            117 => traced(b"\x0C\0\0Name\0a\0\x08\0", b"12", false),
            // Paged memory at DISPATCH_LEVEL.
            118 => traced(b"\x08\0\0Name\0", b"", true),
            119 => {
                IoAllocateErrorLogEntry(device.cast(), 250);
            }
            120 => {
                IoAllocateErrorLogEntry(device.cast(), 100);
            }
            // A string without an end.
            121 => {
                let entry = IoAllocateErrorLogEntry(device.cast(), 0x30);
                if !entry.is_null() {
                    entry.cast::<u8>().write_bytes(0, 0x28);
                    entry.cast::<u8>().add(0x28).write_bytes(1, 8);
                    entry.cast::<u16>().add(2).write(1);
                    entry.cast::<u16>().add(3).write(0x28);
                    entry.cast::<u32>().add(3).write(0xC004_0003);
                    IoWriteErrorLogEntry(entry);
                }
            }
            // Most of it never written.
            122 => {
                let entry = IoAllocateErrorLogEntry(device.cast(), 0x40);
                if !entry.is_null() {
                    entry.cast::<u8>().write_bytes(0, 0x28);
                    entry.cast::<u32>().add(3).write(0xC004_0003);
                    IoWriteErrorLogEntry(entry);
                }
            }
            153 => KeLeaveCriticalRegion(),
            154 => send_own(device, 0x0F, keep_paged),
            155 | 156 => {
                // 155: capabilities that were not initialised; 156: a request of the PnP manager's own.
                let own = IoAllocateIrp(4, 0);
                let next = current(own).sub(1);
                (*next).MajorFunction = 0x1B;
                (*next).MinorFunction = if number == 155 { 9 } else { 1 };
                (*next).Parameters.Others[0] = ExAllocatePool2(NON_PAGED, 64, TAG) as usize;
                (*own).IoStatus.Status = NOT_SUPPORTED;
                set_completion(own, keep_quietly, null_mut());
                IofCallDriver((*ext).lower, own);
            }
            157 => {
                let mut own_event: KEVENT = core::mem::zeroed();
                KeInitializeEvent(&raw mut own_event, 0, 1);
                KeWaitForSingleObject((&raw mut own_event).cast(), 6, 1, 0, null());
            }
            158 => {
                let mut key = null_mut();
                IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut key);
                let mut name = ustr(w!("X"));
                name.Length = 1;
                let mut len = 0;
                ZwQueryValueKey(key, &raw const name, 2, null_mut(), 0, &raw mut len);
            }
            159 => ExFreePoolWithTag(IoAllocateIrp(2, 0).cast(), TAG),
            160 => {
                let old = KfRaiseIrql(2);
                send_own(device, 0x12, keep_quietly);
                KeLowerIrql(old);
            }
            161 => {
                let mut object = null_mut();
                ObReferenceObjectByHandle(
                    core::ptr::without_provenance_mut(0x1234),
                    0,
                    null_mut(),
                    0,
                    &raw mut object,
                    null_mut(),
                );
            }
            162 => {
                let mut thread = null_mut();
                let attributes = kernel_handle();
                PsCreateSystemThread(
                    &raw mut thread,
                    0x1F_FFFF,
                    &raw const attributes,
                    null_mut(),
                    null_mut(),
                    thread_holding,
                    null_mut(),
                );
                ZwClose(thread);
                sleep(5);
            }
            163 => {
                // The completion routine of its sender goes along to the lower device.
                let own = IoAllocateIrp(6, 0);
                let next = current(own).sub(1);
                (*next).MajorFunction = 0x0F;
                (*next).Parameters.DeviceIoControl.IoControlCode = crate::server::CODE_COPY_ALL;
                set_completion(own, keep_quietly, null_mut());
                IofCallDriver(device, own);
            }
            164 => {
                KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
                KeReleaseSpinLock(&raw mut (*ext).locks.a, 1);
            }
            165 => {
                let mut handle = [0_usize; 3];
                KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.a, &raw mut handle);
                KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.a, &raw mut handle);
            }
            166 => {
                let mut handle = [0_usize; 3];
                KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.a, &raw mut handle);
                set_status(irp, SUCCESS, 0);
                mark_pending(irp);
                return PENDING;
            }
            167 => {
                let p = alloc(32);
                ExFreePoolWithTag(p.cast(), TAG);
                store_beside_port(p);
            }
            130..=147 => too_high(number, device, irp),
            _ => return end(INVALID_DEVICE_REQUEST, 0),
        }
    }
    end(SUCCESS, 0)
}

/// Registers a provider, writes an event with this metadata and these values, and unregisters.
unsafe fn traced(metadata: &[u8], values: &[u8], paged: bool) {
    const TRAITS: &[u8] = b"\x04\0M\0";
    let mut handle = 0;
    unsafe {
        EtwRegister(&1, null_mut(), null_mut(), &raw mut handle);
        EtwSetInformation(handle, 2, TRAITS.as_ptr().cast_mut().cast(), 4);
        let pool = ExAllocatePool2(PAGED, metadata.len(), TAG).cast::<u8>();
        if !pool.is_null() {
            pool.copy_from_nonoverlapping(metadata.as_ptr(), metadata.len());
            let block = |at: *const u8, length: usize, kind: u64| {
                [at.expose_provenance() as u64, length as u64 | kind << 32]
            };
            let at = if paged {
                pool
            } else {
                metadata.as_ptr().cast_mut()
            };
            let data = [
                block(TRAITS.as_ptr(), 4, 2),
                block(at, metadata.len(), 1),
                block(values.as_ptr(), values.len(), 0),
            ];
            // Channel 11, level 3; a keyword.
            let descriptor = [11 << 24 | 3 << 32, 1];
            let old = if paged { KfRaiseIrql(2) } else { 0 };
            EtwWriteTransfer(
                handle,
                &raw const descriptor,
                null_mut(),
                null_mut(),
                3,
                data.as_ptr(),
            );
            if paged {
                KeLowerIrql(old);
            }
            ExFreePoolWithTag(pool.cast(), TAG);
        }
        EtwUnregister(handle);
    }
}

/// One call at a level that its page does not allow, of each run-time rule of DDI compliance whose
/// functions the machine has.
unsafe fn too_high(number: u32, device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let ext = extension(device);
    let (passive, apc, dispatch, device_level) = (0, 1, 2, 5);
    let level = match number {
        130 => passive,
        131..=134 | 139 | 140 => dispatch,
        141 => device_level,
        _ => apc,
    };
    unsafe {
        let name = ustr(w!("\\DosDevices\\MISB"));
        let (mut out, mut file, mut target): (Ptr, Ptr, _) = (null_mut(), null_mut(), null_mut());
        let attributes = kernel_handle();
        let old = KfRaiseIrql(level);
        match number {
            130 => KeAcquireSpinLockAtDpcLevel(&raw mut (*ext).locks.a),
            131 => ExAcquireFastMutex((&raw mut out).cast()),
            132 => ProbeForRead(null_mut(), 0, 1),
            133 => ExRaiseStatus(UNSUCCESSFUL),
            134 => IoDeleteDevice(device),
            135 => IoDisconnectInterruptEx(null_mut()),
            136 => IoDetachDevice((*ext).lower),
            137 => {
                IoDeleteSymbolicLink(&raw const name);
            }
            138 => {
                IoGetDeviceObjectPointer(&raw const name, 0, &raw mut file, &raw mut target);
            }
            139 => sleep(1),
            140 => KeEnterCriticalRegion(),
            141 => {
                KeSetTimer(&raw mut (*ext).delay.timer, -10_000, null_mut());
            }
            142 => {
                ObReferenceObjectByHandle(null_mut(), 0, null_mut(), 0, &raw mut out, null_mut());
            }
            143 => {
                PsCreateSystemThread(
                    &raw mut out,
                    0,
                    &raw const attributes,
                    null_mut(),
                    null_mut(),
                    good_thread,
                    null_mut(),
                );
            }
            144 => {
                IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut out);
            }
            145 => {
                let mut interface = ustr(w!("X"));
                IoRegisterDeviceInterface((*ext).pdo, null(), null(), &raw mut interface);
            }
            146 => IoInitializeRemoveLockEx(remove_lock(device), TAG, 0, 0, 32),
            147 => IoReleaseRemoveLockAndWaitEx(remove_lock(device), irp.cast(), 32),
            _ => {}
        }
        KeLowerIrql(old);
    }
}

/// `OBJECT_ATTRIBUTES` with `OBJ_KERNEL_HANDLE` alone.
const fn kernel_handle() -> ObjectAttributes {
    ObjectAttributes {
        Length: 48,
        RootDirectory: null_mut(),
        ObjectName: null(),
        Attributes: 0x200,
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    }
}

unsafe extern "C" fn thread_holding(_context: Ptr) {
    unsafe {
        let mut mutex: KMUTANT = core::mem::zeroed();
        KeInitializeMutex(&raw mut mutex, 0);
        KeWaitForSingleObject((&raw mut mutex).cast(), 0, 0, 0, null());
        PsTerminateSystemThread(SUCCESS);
    }
}

/// A completion routine where it may be paged out.
#[unsafe(link_section = "PAGE")]
unsafe extern "C" fn keep_paged(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    _event: Ptr,
) -> Status {
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn good_thread(context: Ptr) {
    if !context.is_null() {
        sleep(2);
        unsafe { KeSetEvent(context.cast(), 0, 0) };
    }
    unsafe { PsTerminateSystemThread(SUCCESS) };
}

unsafe extern "C" fn good_work(_device: Ptr, context: Ptr, item: Ptr) {
    unsafe {
        IoFreeWorkItem(item);
        KeSetEvent(context.cast(), 0, 0);
    }
}

/// Uses the kernel rightly; a failed allocation ends it with the failure.
pub(crate) unsafe fn everything(device: *mut DEVICE_OBJECT) -> Status {
    let ext = extension(device);
    unsafe {
        DbgPrint(
            c"everything at IRQL %d on %ws\n".as_ptr().cast(),
            u32::from(KeGetCurrentIrql()),
            w!("faulty-driver"),
        );
        let mut event: KEVENT = core::mem::zeroed();
        KeInitializeEvent(&raw mut event, 1, 0);
        let event_ptr: Ptr = (&raw mut event).cast();

        // Pool.
        let p = ExAllocatePool2(NON_PAGED | UNINITIALIZED, 100, TAG);
        if p.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        memset(p, 7, 100);
        ExFreePoolWithTag(p, TAG);

        // Locks.
        let old = KeAcquireSpinLockRaiseToDpc(&raw mut (*ext).locks.a);
        KeAcquireSpinLockAtDpcLevel(&raw mut (*ext).locks.b);
        if cr8() != 2 {
            return UNSUCCESSFUL;
        }
        KeReleaseSpinLockFromDpcLevel(&raw mut (*ext).locks.b);
        KeReleaseSpinLock(&raw mut (*ext).locks.a, old);
        let mut handle = [0_usize; 3];
        KeAcquireInStackQueuedSpinLock(&raw mut (*ext).locks.b, &raw mut handle);
        KeReleaseInStackQueuedSpinLock(&raw mut handle);
        let mut mutex: KMUTANT = core::mem::zeroed();
        KeInitializeMutex(&raw mut mutex, 0);
        KeWaitForSingleObject((&raw mut mutex).cast(), 0, 0, 0, null());
        KeReleaseMutex(&raw mut mutex, 0);
        let mut semaphore: KSEMAPHORE = core::mem::zeroed();
        KeInitializeSemaphore(&raw mut semaphore, 0, 3);
        KeReleaseSemaphore(&raw mut semaphore, 0, 1, 0);
        KeWaitForSingleObject((&raw mut semaphore).cast(), 0, 0, 0, null());
        KeEnterCriticalRegion();
        KeLeaveCriticalRegion();
        let mut rundown = 0_usize;
        ExInitializeRundownProtection(&raw mut rundown);
        if ExAcquireRundownProtection(&raw mut rundown) != 0 {
            ExReleaseRundownProtection(&raw mut rundown);
        }
        ExWaitForRundownProtectionRelease(&raw mut rundown);

        // Time.
        let before = KeQueryPerformanceCounter(null_mut());
        KeStallExecutionProcessor(10);
        sleep(3);
        if KeQueryPerformanceCounter(null_mut()) - before < 30_000 {
            return UNSUCCESSFUL;
        }
        let none = 0_i64;
        if KeWaitForSingleObject(event_ptr, 0, 0, 0, &raw const none) != 0x102 {
            return UNSUCCESSFUL;
        }

        // A DPC, a work item, a thread: each signals the event.
        let mut dpc: KDPC = core::mem::zeroed();
        KeInitializeDpc(&raw mut dpc, dpc_good, event_ptr);
        // One that is taken back: at DISPATCH_LEVEL its processor is busy with us.
        let old = KfRaiseIrql(2);
        KeInsertQueueDpc(&raw mut dpc, null_mut(), null_mut());
        let waiting = KeRemoveQueueDpc(&raw mut dpc) != 0;
        KeLowerIrql(old);
        if !waiting || KeRemoveQueueDpc(&raw mut dpc) != 0 {
            return UNSUCCESSFUL;
        }
        KeInsertQueueDpc(&raw mut dpc, null_mut(), null_mut());
        KeWaitForSingleObject(event_ptr, 0, 0, 0, null());
        KeFlushQueuedDpcs();
        let item = IoAllocateWorkItem(device);
        if item.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        IoQueueWorkItemEx(item, good_work, 1, event_ptr);
        KeWaitForSingleObject(event_ptr, 0, 0, 0, null());
        let mut thread = null_mut();
        let mut object = null_mut();
        let attributes = kernel_handle();
        let status = PsCreateSystemThread(
            &raw mut thread,
            0x1F_FFFF,
            &raw const attributes,
            null_mut(),
            null_mut(),
            good_thread,
            event_ptr,
        );
        if status < 0 {
            return status;
        }
        ObReferenceObjectByHandle(
            thread,
            0x10_0000,
            PsThreadType,
            0,
            &raw mut object,
            null_mut(),
        );
        ZwClose(thread);
        KeWaitForSingleObject(event_ptr, 0, 0, 0, null());
        KeWaitForSingleObject(object, 0, 0, 0, null());
        ObfDereferenceObject(object);

        // Registry.
        let mut key = null_mut();
        let status = IoOpenDeviceRegistryKey((*ext).pdo, 1, 0xF_003F, &raw mut key);
        if status < 0 {
            return status;
        }
        let name = ustr(w!("Count"));
        let value = 5_u32;
        let mut data = [0_u32; 8];
        let mut len = 0;
        ZwSetValueKey(key, &raw const name, 0, 4, (&raw const value).cast(), 4);
        ZwQueryValueKey(
            key,
            &raw const name,
            2,
            (&raw mut data).cast(),
            32,
            &raw mut len,
        );
        ZwClose(key);
        let mut text = [0_u16; 64];
        IoGetDeviceProperty((*ext).pdo, 0xF, 128, (&raw mut text).cast(), &raw mut len);

        // Ports, one of them without a device.
        outsb(PORT, b"abc");
        let mut words = [0_u16; 3];
        insw(PORT + 2, &mut words);
        let good = inb(0x300) == 0xFF
            && inw(0x300) == 0xFFFF
            && inb(PORT + 1) == 1
            && inw(PORT + 2) == 2
            && ind(PORT + 4) == 4
            && words == [2; 3]
            && inb_over(PORT + 7, 0x1122_3344_5566_7788) == 0x1122_3344_5566_7707;
        set_cr8(2);
        let raised = KeGetCurrentIrql() == 2;
        set_cr8(0);
        if !good || !raised || cr8() != 0 {
            return UNSUCCESSFUL;
        }

        // Own requests: one allocated, one threaded; the bus knows neither.
        let own = IoAllocateIrp((*(*ext).lower).StackSize, 0);
        if own.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        (*current(own).sub(1)).MajorFunction = 0x0F;
        set_completion(own, set_event, event_ptr);
        IofCallDriver((*ext).lower, own);
        KeWaitForSingleObject(event_ptr, 0, 0, 0, null());
        let answer = crate::api::status(own);
        IoFreeIrp(own);
        let mut iosb = IO_STATUS_BLOCK::default();
        let own = build(0x22_0000, (*ext).lower, &raw mut event, &raw mut iosb);
        if own.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        let status = IofCallDriver((*ext).lower, own);
        if status == PENDING {
            KeWaitForSingleObject(event_ptr, 0, 0, 0, null());
        }
        if answer != INVALID_DEVICE_REQUEST {
            return NOT_SUPPORTED;
        }
        let _ = CANCELLED;
    }
    SUCCESS
}

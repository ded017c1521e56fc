//! What the driver offers to other drivers: internal requests, a callback table, and interrupts.

use core::ptr::null_mut;

use crate::api::*;
use crate::driver::{enter, extension, leave, remove_lock};

/// State of an FDO for this file.
#[repr(C)]
pub(crate) struct Server {
    pub(crate) interrupt: Ptr,
    version: u32,
    /// Interrupts, DPCs, `KeSynchronizeExecution` calls; then the IRQL that each saw last.
    pub(crate) seen: [u32; 6],
    pub(crate) dpc: KDPC,
}

/// Callback table that [`internal`] gives away.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) allocate: unsafe extern "C" fn(Ptr) -> Ptr,
    pub(crate) fault: unsafe extern "C" fn(Ptr) -> u32,
    pub(crate) add: unsafe extern "C" fn(Ptr, usize, usize, usize, usize, usize) -> usize,
    pub(crate) hold: unsafe extern "C" fn(Ptr, usize) -> Status,
    pub(crate) context: Ptr,
}

/// Pool that belongs to this driver, whichever driver asks.
unsafe extern "C" fn allocate(_context: Ptr) -> Ptr {
    unsafe { ExAllocatePool2(NON_PAGED, 24, TAG) }
}

unsafe extern "C" fn fault(context: Ptr) -> u32 {
    unsafe {
        context
            .cast::<u32>()
            .wrapping_byte_sub(0x0100_0000_0000)
            .read_volatile()
    }
}

unsafe extern "C" fn add(
    _context: Ptr,
    one: usize,
    two: usize,
    three: usize,
    four: usize,
    five: usize,
) -> usize {
    one + 2 * two + 3 * three + 4 * four + 5 * five
}

/// Takes its time, in milliseconds; refuses after removal.
unsafe extern "C" fn hold(context: Ptr, ms: usize) -> Status {
    let device: *mut DEVICE_OBJECT = context.cast();
    let tag: Ptr = (&raw const ms).cast_mut().cast();
    let status =
        unsafe { IoAcquireRemoveLockEx(remove_lock(device), tag, core::ptr::null(), 0, 32) };
    if status < 0 {
        return status;
    }
    if unsafe { KeGetCurrentIrql() } > 0 {
        leave(device, tag);
        return INVALID_DEVICE_STATE;
    }
    sleep(ms.cast_signed() as i64);
    leave(device, tag);
    SUCCESS
}

/// The internal request that is passed down with all of its stack location.
pub(crate) const CODE_COPY_ALL: u32 = 0x22_0000 | 0x815 << 2;

/// Internal requests: 0x810 echo, 0x811 wait in the queue, 0x812 callback table, 0x813 finish what
/// waits, 0x814 a warning with half of the answer, 0x815 the sin against `C9/207`.
pub(crate) unsafe extern "C" fn internal(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let ext = extension(device);
    if unsafe { (*ext).is_child } {
        return finish(irp, INVALID_DEVICE_REQUEST, 0);
    }
    let status = enter(device, irp);
    if status < 0 {
        return finish(irp, status, 0);
    }
    let tag: Ptr = irp.cast();
    let (output, input) = (argument_low(irp, 0) as usize, argument_low(irp, 1) as usize);
    let status = match (argument_low(irp, 2) & 0x3FFF) / 4 {
        0x810 => finish(irp, SUCCESS, input.min(output)),
        0x811 => {
            unsafe { IoCsqInsertIrp(&raw mut (*ext).queue.csq, irp, null_mut()) };
            return PENDING;
        }
        0x812 if output >= size_of::<Table>() => {
            let table = Table {
                allocate,
                fault,
                add,
                hold,
                context: device.cast(),
            };
            unsafe { buffer(irp).cast::<Table>().write_unaligned(table) };
            finish(irp, SUCCESS, size_of::<Table>())
        }
        0x813 => {
            finish_waiting(device);
            finish(irp, SUCCESS, 0)
        }
        0x814 => {
            unsafe { memset(buffer(irp).cast(), 0x77, output) };
            finish(irp, 0x8000_0005_u32.cast_signed(), output / 2)
        }
        0x815 => unsafe {
            let from = current(irp);
            let all = size_of::<IO_STACK_LOCATION>();
            memcpy(from.sub(1).cast(), from.cast(), all);
            IofCallDriver((*ext).lower, irp)
        },
        _ => finish(irp, INVALID_DEVICE_REQUEST, 0),
    };
    leave(device, tag);
    status
}

/// Completes one request of the queue.
pub(crate) fn finish_waiting(device: *mut DEVICE_OBJECT) {
    let waiting =
        unsafe { IoCsqRemoveNextIrp(&raw mut (*extension(device)).queue.csq, null_mut()) };
    if !waiting.is_null() {
        finish(waiting, SUCCESS, 0);
        leave(device, waiting.cast());
    }
}

// ---- interrupts ----

unsafe extern "C" fn isr(_interrupt: Ptr, context: Ptr) -> u8 {
    let device: *mut DEVICE_OBJECT = context.cast();
    unsafe {
        let s = &raw mut (*extension(device)).server;
        (*s).seen[0] += 1;
        (*s).seen[3] = u32::from(KeGetCurrentIrql());
        KeInsertQueueDpc(&raw mut (*s).dpc, null_mut(), null_mut());
    }
    1
}

unsafe extern "C" fn dpc(_dpc: *mut KDPC, context: Ptr, _a: Ptr, _b: Ptr) {
    let device: *mut DEVICE_OBJECT = context.cast();
    unsafe {
        let s = &raw mut (*extension(device)).server;
        (*s).seen[1] += 1;
        (*s).seen[4] = u32::from(KeGetCurrentIrql());
    }
}

unsafe extern "C" fn synchronised(context: Ptr) -> u8 {
    let device: *mut DEVICE_OBJECT = context.cast();
    unsafe {
        let s = &raw mut (*extension(device)).server;
        (*s).seen[2] += 1;
        (*s).seen[5] = u32::from(KeGetCurrentIrql());
    }
    1
}

/// Connects the device's interrupt, by line or as the numbers say.
pub(crate) unsafe fn connect(
    device: *mut DEVICE_OBJECT,
    version: u32,
    vector: u32,
    irql: u8,
) -> Status {
    unsafe { connect_isr(device, version, vector, irql, isr) }
}

/// The same with any service routine.
pub(crate) unsafe fn connect_isr(
    device: *mut DEVICE_OBJECT,
    version: u32,
    vector: u32,
    irql: u8,
    routine: Isr,
) -> Status {
    let ext = extension(device);
    unsafe {
        KeInitializeDpc(&raw mut (*ext).server.dpc, dpc, device.cast());
        let status = IoConnectInterruptEx(&mut ConnectInterrupt {
            Version: version,
            PhysicalDeviceObject: (*ext).pdo,
            InterruptObject: &raw mut (*ext).server.interrupt,
            ServiceRoutine: routine,
            ServiceContext: device.cast(),
            SpinLock: null_mut(),
            SynchronizeIrql: irql,
            FloatingSave: 0,
            ShareVector: 0,
            Vector: vector,
            Irql: irql,
            InterruptMode: 1,
            ProcessorEnableMask: 1,
        });
        if status >= 0 {
            (*ext).server.version = version;
        }
        status
    }
}

/// Disconnects the interrupt, if it is connected, and lets its DPC run out.
pub(crate) unsafe fn disconnect(device: *mut DEVICE_OBJECT) {
    let ext = extension(device);
    unsafe {
        let interrupt = core::mem::replace(&mut (*ext).server.interrupt, null_mut());
        if !interrupt.is_null() {
            IoDisconnectInterruptEx(&mut DisconnectInterrupt {
                Version: (*ext).server.version,
                InterruptObject: interrupt,
            });
            KeFlushQueuedDpcs();
        }
    }
}

/// Requests: 0x820 connect (input: version, vector, IRQL), 0x821 disconnect, 0x822 synchronise,
/// 0x823 what was seen.
pub(crate) unsafe fn interrupts(
    code: u32,
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    input: usize,
    output: usize,
) -> Status {
    let ext = extension(device);
    // System buffers are aligned to 16 bytes.
    let words: *mut u32 = buffer(irp).cast::<core::ffi::c_void>().cast();
    unsafe {
        match (code & 0x3FFF) / 4 {
            0x820 if input >= 12 => {
                let (version, vector) = (words.read_unaligned(), words.add(1).read_unaligned());
                let irql = words.add(2).read_unaligned().to_le_bytes()[0];
                finish(irp, connect(device, version, vector, irql), 0)
            }
            0x821 => {
                disconnect(device);
                finish(irp, SUCCESS, 0)
            }
            0x822 => {
                let interrupt = (*ext).server.interrupt;
                KeSynchronizeExecution(interrupt, synchronised, device.cast());
                let old = KeAcquireInterruptSpinLock(interrupt);
                synchronised(device.cast());
                KeReleaseInterruptSpinLock(interrupt, old);
                finish(irp, SUCCESS, 0)
            }
            0x823 if output >= 24 => {
                words.cast::<[u32; 6]>().write_unaligned((*ext).server.seen);
                finish(irp, SUCCESS, 24)
            }
            _ => finish(irp, INVALID_DEVICE_REQUEST, 0),
        }
    }
}

/// Answers 32 bytes: an address at offset 3, and old pool from offset 16 on.
pub(crate) unsafe fn leaky(device: *mut DEVICE_OBJECT, irp: *mut IRP, output: usize) -> Status {
    if output < 32 {
        return finish(irp, INVALID_DEVICE_REQUEST, 0);
    }
    unsafe {
        let old = ExAllocatePool2(NON_PAGED | UNINITIALIZED, 16, TAG);
        if old.is_null() {
            return finish(irp, INSUFFICIENT_RESOURCES, 0);
        }
        let out = buffer(irp);
        memset(out.cast(), 0, 32);
        out.add(3).cast::<usize>().write_unaligned(device as usize);
        // Not as a whole: the machine itself would see bytes that were not written.
        memcpy(out.add(16).cast(), old, 12);
        ExFreePoolWithTag(old, TAG);
    }
    finish(irp, SUCCESS, 32)
}

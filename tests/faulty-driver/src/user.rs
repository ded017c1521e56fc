//! Requests with user addresses and MDLs: served rightly, and the sins against them.

use core::ptr::null_mut;

use crate::api::*;
use crate::driver::leave;
use crate::seh::{SEEN, Seen, copy_in, guarded_call, trash, tried_call};

/// `NormalPagePriority | MdlMappingNoExecute`
const PRIORITY: u32 = 0x4000_0010;
const USER_MODE: i8 = 1;
const IO_MODIFY_ACCESS: i32 = 2;

fn probe_address() -> u64 {
    unsafe { MmUserProbeAddress }
}

/// The four arguments of a routine that runs under a handler.
struct Args([usize; 4]);

impl Args {
    /// Runs `routine` under a handler.
    fn guard(&mut self, routine: crate::seh::Routine) -> Status {
        unsafe { guarded_call(routine, (&raw mut *self).cast()) }
    }

    unsafe fn of(argument: Ptr) -> [usize; 4] {
        unsafe { (*argument.cast::<Self>()).0 }
    }
}

unsafe extern "C" fn copy(argument: Ptr) {
    unsafe {
        let [to, from, n, _] = Args::of(argument);
        memcpy(to as Ptr, from as Ptr, n);
    }
}

unsafe extern "C" fn probe(argument: Ptr) {
    unsafe {
        let [input, input_len, output, output_len] = Args::of(argument);
        ProbeForRead(input as Ptr, input_len, 4);
        ProbeForWrite(output as Ptr, output_len, 4);
    }
}

unsafe extern "C" fn lock(argument: Ptr) {
    unsafe {
        let [mdl, ..] = Args::of(argument);
        MmProbeAndLockPages(mdl as *mut MDL, USER_MODE, IO_MODIFY_ACCESS);
    }
}

/// Adds up what reads of all widths find, aligned and not.
unsafe extern "C" fn sum(argument: Ptr) {
    unsafe {
        let args = argument.cast::<Args>();
        let at = (*args).0[0] as *const u8;
        let mut sum = usize::from(at.read_volatile());
        sum += usize::from(at.add(1).cast::<u16>().read_unaligned());
        sum += at.add(3).cast::<u32>().read_unaligned() as usize;
        sum += usize::try_from(at.add(7).cast::<u64>().read_unaligned()).unwrap_or(0);
        let (low, high): (usize, usize);
        core::arch::asm!(
            "movups {x}, [{at}]",
            "movq {low}, {x}",
            "psrldq {x}, 8",
            "movq {high}, {x}",
            x = out(xmm_reg) _,
            at = in(reg) at.add(15),
            low = out(reg) low,
            high = out(reg) high,
        );
        sum += low + high;
        (*args).0[3] = sum;
    }
}

/// `MmGetSystemAddressForMdlSafe`
unsafe fn system_address(mdl: *mut MDL) -> *mut u8 {
    unsafe {
        if (*mdl).MdlFlags & 5 != 0 {
            (*mdl).MappedSystemVa
        } else {
            MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 0, PRIORITY).cast()
        }
    }
}

/// Locks and maps a user buffer by an MDL of our own and adds 1 to each byte, the first half through
/// a partial MDL.
unsafe fn by_mdl(address: usize, len: usize) -> Status {
    unsafe {
        #[allow(clippy::cast_possible_truncation, reason = "a ULONG")]
        let len32 = len as u32;
        let mdl = IoAllocateMdl(address as Ptr, len32, 0, 0, null_mut());
        if mdl.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        let status = Args([mdl as usize, 0, 0, 0]).guard(lock);
        if status < 0 {
            IoFreeMdl(mdl);
            return status;
        }
        let half = len32 / 2;
        let part = IoAllocateMdl(address as Ptr, half, 0, 0, null_mut());
        let mut status = INSUFFICIENT_RESOURCES;
        if !part.is_null() {
            IoBuildPartialMdl(mdl, part, address as Ptr, half);
            let (first, whole) = (system_address(part), system_address(mdl));
            if !first.is_null() && !whole.is_null() {
                for i in 0..len {
                    let base = if i < half as usize { first } else { whole };
                    *base.add(i) = (*base.add(i)).wrapping_add(1);
                }
                status = SUCCESS;
            }
            IoFreeMdl(part);
        }
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
        status
    }
}

/// A pool buffer described by an MDL.
unsafe fn pool_mdl() -> Status {
    unsafe {
        let pool = ExAllocatePool2(NON_PAGED, 100, TAG);
        if pool.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        let mdl = IoAllocateMdl(pool, 100, 0, 0, null_mut());
        let mut status = INSUFFICIENT_RESOURCES;
        if !mdl.is_null() {
            MmBuildMdlForNonPagedPool(mdl);
            let same = system_address(mdl).cast() == pool;
            status = if same { SUCCESS } else { UNSUCCESSFUL };
            IoFreeMdl(mdl);
        }
        ExFreePoolWithTag(pool, TAG);
        status
    }
}

fn is_user_range(address: usize, len: usize) -> bool {
    let end = address.checked_add(len);
    end.is_some_and(|end| end as u64 <= probe_address())
}

fn echo(bytes: &mut [u8], input: usize, output: usize) -> Status {
    if let Err(status) = copy_in(Some(probe_address()), input as u64, bytes) {
        return status;
    }
    if !is_user_range(output, bytes.len()) {
        return ACCESS_VIOLATION;
    }
    Args([output, bytes.as_ptr() as usize, bytes.len(), 0]).guard(copy)
}

/// The requests that use user memory rightly: status and Information.
pub(crate) unsafe fn serve(
    function: u32,
    irp: *mut IRP,
    input_len: usize,
    output_len: usize,
) -> (Status, usize) {
    let input = argument(irp, 3);
    let output = unsafe { (*irp).UserBuffer };
    match function {
        // Echo: captured by the shipping driver's routine, copied back by memcpy under a handler.
        0x810 => unsafe {
            let n = input_len.min(output_len);
            if n == 0 {
                return (SUCCESS, 0);
            }
            let pool = ExAllocatePool2(NON_PAGED, n, TAG).cast::<u8>();
            if pool.is_null() {
                return (INSUFFICIENT_RESOURCES, 0);
            }
            let status = echo(core::slice::from_raw_parts_mut(pool, n), input, output);
            ExFreePoolWithTag(pool.cast(), TAG);
            (status, if status < 0 { 0 } else { n })
        },
        // A read under filter and __finally; the output length chooses the filter's answer.
        0x811 => unsafe {
            SEEN = Seen::nothing([1, 0, -1][output_len % 3]);
            let status = if SEEN.answer == 0 {
                guarded_call(tried, input as Ptr)
            } else {
                tried_call(trash, input as Ptr)
            };
            let told = SEEN.filters == 0 || SEEN.access == (0, input);
            let status = if told { status } else { UNSUCCESSFUL };
            (status, SEEN.filters | SEEN.finals << 4)
        },
        0x812 => (unsafe { by_mdl(input, input_len) }, 0),
        // The I/O manager's MDL: the buffered input over and over for METHOD_OUT_DIRECT, the sum of
        // the bytes for METHOD_IN_DIRECT.
        0x813 => unsafe {
            let mdl = (*irp).MdlAddress;
            if mdl.is_null() {
                return (SUCCESS, 0);
            }
            let data = system_address(mdl);
            if data.is_null() {
                return (INSUFFICIENT_RESOURCES, 0);
            }
            if argument(irp, 2) & 3 == 1 {
                let sum = (0..output_len).map(|i| usize::from(*data.add(i))).sum();
                return (SUCCESS, sum);
            }
            for i in 0..output_len {
                *data.add(i) = *buffer(irp).add(i % input_len.max(1));
            }
            (SUCCESS, output_len)
        },
        0x814 => {
            let mut args = Args([input, input_len, output, output_len]);
            (args.guard(probe), 0)
        }
        0x815 => (SUCCESS, usize::from(unsafe { IoIs32bitProcess(irp) })),
        0x816 => {
            let mut args = Args([input, 0, 0, 0]);
            let status = args.guard(sum);
            (status, args.0[3])
        }
        0x817 => (unsafe { pool_mdl() }, 0),
        _ => (INVALID_DEVICE_REQUEST, 0),
    }
}

/// A filter that does not want the exception, inside a handler that does.
unsafe extern "C" fn tried(address: Ptr) {
    unsafe { tried_call(trash, address) };
}

/// A read or write without `DO_BUFFERED_IO`: through the MDL, or else at the user's address.
pub(crate) unsafe fn transfer(irp: *mut IRP, read: bool, len: usize) -> Status {
    unsafe {
        let mdl = (*irp).MdlAddress;
        if len == 0 {
            return SUCCESS;
        }
        let mut bytes = [0x5A_u8; 256];
        let n = len.min(bytes.len());
        if mdl.is_null() {
            let user = (*irp).UserBuffer;
            if !is_user_range(user, n) {
                return ACCESS_VIOLATION;
            }
            let own = bytes.as_mut_ptr() as usize;
            let mut args = Args(if read {
                [user, own, n, 0]
            } else {
                [own, user, n, 0]
            });
            return args.guard(copy);
        }
        let data = system_address(mdl);
        if data.is_null() {
            return INSUFFICIENT_RESOURCES;
        }
        if read {
            memset(data.cast(), 0x5A, len);
        }
        SUCCESS
    }
}

unsafe extern "C" fn capture_later(_device: Ptr, address: Ptr, item: Ptr) {
    let mut bytes = [0_u8; 4];
    let _ = copy_in(Some(probe_address()), address as u64, &mut bytes);
    unsafe { IoFreeWorkItem(item) };
}

/// An MDL over the sinner's input, locked.
unsafe fn locked(address: usize) -> *mut MDL {
    unsafe {
        let mdl = IoAllocateMdl(address as Ptr, 4, 0, 0, null_mut());
        Args([mdl as usize, 0, 0, 0]).guard(lock);
        mdl
    }
}

/// Commits sin `number` with the caller's input buffer, and ends the request.
pub(crate) unsafe fn commit(number: u32, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let input = argument(irp, 3);
    let at = input as Ptr;
    let mut bytes = [0_u8; 4];
    unsafe {
        match number {
            79 => {
                at.cast::<u8>().read_volatile();
            }
            80 => {
                let item = IoAllocateWorkItem(device);
                IoQueueWorkItemEx(item, capture_later, 1, at);
                sleep(5);
            }
            81 => {
                let old = KfRaiseIrql(2);
                let _ = copy_in(Some(probe_address()), input as u64, &mut bytes);
                KeLowerIrql(old);
            }
            82 => {
                let _ = copy_in(Some(probe_address()), input as u64, &mut bytes[..1]);
                let _ = copy_in(Some(probe_address()), input as u64, &mut bytes);
            }
            83 => {
                let mdl = locked(input);
                MmUnlockPages(mdl);
                MmUnlockPages(mdl);
            }
            84 => IoFreeMdl(locked(input)),
            85 => {
                let mdl = locked(input);
                MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 0, 0x10);
            }
            97 => {
                let mdl = locked(input);
                MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 1, PRIORITY);
            }
            98 => {
                let pool = ExAllocatePool2(PAGED, 32, TAG);
                MmBuildMdlForNonPagedPool(IoAllocateMdl(pool, 32, 0, 0, null_mut()));
            }
            86 => ProbeForRead(at, 4, 1),
            // A kernel address is no excuse for a handler.
            87 => {
                let _ = copy_in(None, 0xFFFF_8000_0000_0000, &mut bytes);
            }
            // The I/O manager does not find its MDL any more.
            88 => (*irp).MdlAddress = null_mut(),
            89 => {
                IoAllocateMdl(at, 4, 0, 0, null_mut());
            }
            90 => {
                locked(input);
            }
            91 => ExRaiseStatus(UNSUCCESSFUL),
            92 => {
                memcpy(bytes.as_mut_ptr().cast(), at, 4);
                core::hint::black_box(&bytes);
            }
            93 => {
                ustr(at.cast());
            }
            // The mapping ends with the lock.
            94 => {
                let mdl = locked(input);
                let data = system_address(mdl);
                MmUnlockPages(mdl);
                data.read_volatile();
            }
            95 => {
                // It is not locked.
                let mdl = IoAllocateMdl(at, 4, 0, 0, null_mut());
                MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 0, PRIORITY);
            }
            96 => {
                MmProbeAndLockPages(
                    IoAllocateMdl(at, 4, 0, 0, null_mut()),
                    USER_MODE,
                    IO_MODIFY_ACCESS,
                );
            }
            _ => {}
        }
    }
    let status = finish(irp, SUCCESS, 0);
    leave(device, irp.cast());
    status
}

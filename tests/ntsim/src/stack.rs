//! Kernel stacks: the driver runs on one of Windows' size, the machine on one of its own.
//!
//! A thread's driver code has [`SIZE`] bytes, as on Windows x64, above a guard. The machine's own
//! code, which stands for Windows', runs on the coroutine's stack: [`enter`] goes over to the
//! driver's, the import stubs ([`crate::cpu::import_entry`]) and traps come back. So what is on a
//! driver's stack is the driver's, and what Windows itself needs there is taken off by these figures:
//!
//! - [`RESERVE`] at the top, before the first routine of a driver: the trap frame of the system
//!   service (`KTRAP_FRAME`, 0x190 bytes in the public symbols), the service, the I/O manager, and a
//!   filter driver or Driver Verifier. Published stack traces of a user's request show less than
//!   1.5 KB between the first frame of the kernel and the dispatch routine.
//! - [`CHARGE`] for a kernel function from which a driver's code is called again (`IofCallDriver`,
//!   `IofCompleteRequest` and the like): such traces show 0x30 to 0x100 bytes a call, with Driver
//!   Verifier up to three times as much.
//! - [`LEAF`] that must be left at every kernel call: a function that waits saves a switch frame
//!   and the registers of its caller, and an interrupt can come in it, which pushes a trap frame
//!   before it goes over to a stack of its own.

use core::arch::global_asm;

use crate::mem::{PAGE, Va, peek, poke};

/// Bytes of a kernel stack (`KERNEL_STACK_SIZE` of x64; "Using the Kernel Stack" in the WDK).
pub(crate) const SIZE: usize = 24 << 10;
/// Bytes at its top that Windows has used when it calls the first driver routine.
pub(crate) const RESERVE: usize = 2 << 10;
/// Bytes that a kernel function uses which calls a driver.
pub(crate) const CHARGE: usize = 768;
/// Bytes that a kernel function needs at least.
pub(crate) const LEAF: usize = 1 << 10;

/// A region is as long as it is aligned: its first page, which holds [`Context`], is found from any
/// stack pointer in it. Between the two lies the guard.
const REGION: usize = 64 << 10;
const _: () = assert!(REGION == 1 << 16, "the assembly in cpu.rs says 0x10000");

/// What memory of a stack holds that was not used yet.
const PAINT: u64 = 0x4B43_4154_5354_4E21;

/// Where a thread's two stacks continue. The assembly knows it by offsets.
#[repr(C)]
pub(crate) struct Context {
    /// 0: the machine's stack, below the frame of the last [`enter`].
    pub host: Va,
    /// 8: the driver's, below what called the machine last.
    pub driver: Va,
    /// 16: 1 = driver code runs with the trap flag set.
    pub step: u64,
}

/// A driver's stack, for one thread at a time.
pub(crate) struct Stack {
    base: Va,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let map = |at: Va, len: usize, fixed: bool, prot: i32| {
            let flags = libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | if fixed { libc::MAP_FIXED } else { 0 };
            // SAFETY: a fresh mapping, or a part of the one made just before.
            let at = unsafe {
                libc::mmap(
                    core::ptr::with_exposed_provenance_mut(at),
                    len,
                    prot,
                    flags,
                    -1,
                    0,
                )
            };
            assert!(at != libc::MAP_FAILED, "no room for a kernel stack");
            at.expose_provenance()
        };
        let unmap = |at: Va, len: usize| {
            if len > 0 {
                // SAFETY: a part of the mapping made here that nothing uses.
                unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(at), len) };
            }
        };
        let all = map(0, 2 * REGION, false, libc::PROT_NONE);
        let base = all.next_multiple_of(REGION);
        unmap(all, base - all);
        unmap(base + REGION, all + REGION - base);
        let usable = libc::PROT_READ | libc::PROT_WRITE;
        map(base, PAGE, true, usable);
        map(base + REGION - SIZE, SIZE, true, usable);
        let stack = Self { base };
        let (limit, top) = stack.bounds();
        paint(limit, top);
        stack.renew();
        stack
    }

    /// Makes it as before the first routine of a thread.
    pub(crate) fn renew(&self) {
        let context = self.context();
        // SAFETY: the region's first page, which is this value's; no driver code runs on it now.
        unsafe {
            context.write(Context {
                host: 0,
                driver: self.base + REGION - RESERVE,
                step: 0,
            });
        }
    }

    pub(crate) fn context(&self) -> *mut Context {
        core::ptr::with_exposed_provenance_mut(self.base)
    }

    /// Bytes below what is in use.
    pub(crate) fn left(&self) -> usize {
        // SAFETY: the region's first page, which is this value's.
        let driver = unsafe { (*self.context()).driver };
        driver.saturating_sub(self.bounds().0)
    }

    /// Lowest address, and the one behind the highest.
    pub(crate) fn bounds(&self) -> (Va, Va) {
        (self.base + REGION - SIZE, self.base + REGION)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; the thread has ended.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(self.base), REGION) };
    }
}

/// Whether an address lies in the guard below a stack with this lowest address.
pub(crate) fn in_guard(limit: Va, va: Va) -> bool {
    (limit - (REGION - SIZE - PAGE)..limit).contains(&va)
}

/// Says what an overflow is.
pub(crate) fn overflow_text() -> String {
    format!("more than {SIZE} bytes, of which Windows has {RESERVE} and {CHARGE} a nested call")
}

fn paint(from: Va, to: Va) {
    for at in (from..to).step_by(8) {
        poke(at, PAINT);
    }
}

/// The lowest address that was written since the stack was painted; it is painted again up to
/// `top`, which nothing may be using.
pub(crate) fn take_mark(limit: Va, top: Va) -> Va {
    let mark = (limit..top)
        .step_by(8)
        .find(|at| peek::<u64>(*at) != PAINT)
        .unwrap_or(top);
    paint(mark, top);
    mark
}

global_asm!(
    ".text",
    ".p2align 4",
    ".hidden ntsim_enter",
    ".globl ntsim_enter",
    // usize enter(rdi routine, rsi seven arguments, rdx context)
    "ntsim_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rbx, rdx",
    "push qword ptr [rbx]",
    "push qword ptr [rbx + 8]",
    "sub rsp, 8",
    "mov [rbx], rsp",
    "mov r12, rdi",
    "mov rsp, [rbx + 8]",
    "sub rsp, 0x40",
    "mov rcx, [rsi]",
    "mov rdx, [rsi + 8]",
    "mov r8, [rsi + 16]",
    "mov r9, [rsi + 24]",
    "mov rax, [rsi + 32]",
    "mov [rsp + 0x20], rax",
    "mov rax, [rsi + 40]",
    "mov [rsp + 0x28], rax",
    "mov rax, [rsi + 48]",
    "mov [rsp + 0x30], rax",
    "test byte ptr [rbx + 16], 1",
    "jz 2f",
    "pushfq",
    "or dword ptr [rsp], 0x100",
    "popfq",
    "2:",
    "call r12",
    "mov rsp, [rbx]",
    "add rsp, 8",
    "pop qword ptr [rbx + 8]",
    "pop qword ptr [rbx]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".hidden ntsim_enter_end",
    ".globl ntsim_enter_end",
    "ntsim_enter_end:",
);

unsafe extern "C" {
    #[link_name = "ntsim_enter"]
    fn enter_code(routine: Va, args: *const usize, context: *mut Context) -> usize;
    #[link_name = "ntsim_enter_end"]
    fn enter_end();
}

/// Whether an instruction belongs to [`enter`]: the driver has returned.
pub(crate) fn is_enter(rip: Va) -> bool {
    (enter_code as *const () as usize..enter_end as *const () as usize).contains(&rip)
}

/// Calls a routine of a driver, with at most seven arguments, on the stack that `context` is of.
pub(crate) fn enter(routine: Va, args: &[usize], context: *mut Context) -> usize {
    let mut all = [0; 7];
    all[..args.len()].copy_from_slice(args);
    // SAFETY: the driver registered this address as a routine of this shape; if it is not code, the
    // call faults and the fault is reported. The stack is the running thread's.
    unsafe { enter_code(routine, all.as_ptr(), context) }
}

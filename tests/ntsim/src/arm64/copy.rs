//! The functions that the compiler calls: `memcpy` and its kin, in assembly.
//!
//! Their arguments may be user addresses, under the driver's exception handler, so a fault inside
//! them must be one that can be unwound. All are leaf functions: nothing is on the stack, and no
//! register that a function must preserve is changed.

use core::arch::global_asm;

use crate::mem::Va;
use crate::unwind::Registers;

global_asm!(
    ".text",
    ".p2align 4",
    ".hidden ntsim_copy_begin",
    ".globl ntsim_copy_begin",
    "ntsim_copy_begin:",
    // void *memmove(x0 to, x1 from, x2 bytes), also for memcpy
    ".hidden ntsim_memmove",
    ".globl ntsim_memmove",
    "ntsim_memmove:",
    "cbz x2, 3f",
    "mov x9, x0",
    "sub x10, x0, x1",
    // Backwards, if the destination begins inside the source.
    "cmp x10, x2",
    "b.lo 2f",
    "1:",
    "ldrb w11, [x1], #1",
    "strb w11, [x9], #1",
    "subs x2, x2, #1",
    "b.ne 1b",
    "ret",
    "2:",
    "add x1, x1, x2",
    "add x9, x9, x2",
    "4:",
    "ldrb w11, [x1, #-1]!",
    "strb w11, [x9, #-1]!",
    "subs x2, x2, #1",
    "b.ne 4b",
    "3:",
    "ret",
    // void *memset(x0 to, w1 value, x2 bytes)
    ".hidden ntsim_memset",
    ".globl ntsim_memset",
    "ntsim_memset:",
    "cbz x2, 3f",
    "mov x9, x0",
    "1:",
    "strb w1, [x9], #1",
    "subs x2, x2, #1",
    "b.ne 1b",
    "3:",
    "ret",
    // int memcmp(x0 a, x1 b, x2 bytes)
    ".hidden ntsim_memcmp",
    ".globl ntsim_memcmp",
    "ntsim_memcmp:",
    "mov x9, x0",
    "mov w0, wzr",
    "cbz x2, 3f",
    "1:",
    "ldrb w10, [x9], #1",
    "ldrb w11, [x1], #1",
    "subs w0, w10, w11",
    "b.ne 3f",
    "subs x2, x2, #1",
    "b.ne 1b",
    "3:",
    "ret",
    // void RtlFillMemory(x0 to, x1 bytes, w2 value)
    ".hidden ntsim_fill",
    ".globl ntsim_fill",
    "ntsim_fill:",
    "mov x9, x1",
    "mov w1, w2",
    "mov x2, x9",
    "b ntsim_memset",
    // void RtlZeroMemory(x0 to, x1 bytes)
    ".hidden ntsim_zero",
    ".globl ntsim_zero",
    "ntsim_zero:",
    "mov x2, x1",
    "mov w1, wzr",
    "b ntsim_memset",
    ".hidden ntsim_copy_end",
    ".globl ntsim_copy_end",
    "ntsim_copy_end:",
);

unsafe extern "C" {
    #[link_name = "ntsim_copy_begin"]
    fn begin();
    #[link_name = "ntsim_copy_end"]
    fn end();
    #[link_name = "ntsim_memmove"]
    pub(super) fn memmove();
    #[link_name = "ntsim_memset"]
    pub(super) fn memset();
    #[link_name = "ntsim_memcmp"]
    pub(super) fn memcmp();
    #[link_name = "ntsim_fill"]
    pub(super) fn fill();
    #[link_name = "ntsim_zero"]
    pub(super) fn zero();
}

/// Whether an instruction belongs to one of these functions.
pub(crate) fn contains(pc: Va) -> bool {
    (begin as *const () as usize..end as *const () as usize).contains(&pc)
}

/// Undoes what these functions do to registers that they must preserve: nothing.
pub(crate) const fn leave(_at: &mut Registers) {}

//! The code of the copy functions on ARM64. No register that a function must preserve is changed.

use core::arch::global_asm;

use crate::unwind::Registers;

global_asm!(
    ".text",
    ".p2align 4",
    symbol!("ntsim_copy_begin"),
    // void *memmove(x0 to, x1 from, x2 bytes), also for memcpy
    symbol!("ntsim_memmove"),
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
    symbol!("ntsim_memset"),
    "cbz x2, 3f",
    "mov x9, x0",
    "1:",
    "strb w1, [x9], #1",
    "subs x2, x2, #1",
    "b.ne 1b",
    "3:",
    "ret",
    // int memcmp(x0 a, x1 b, x2 bytes)
    symbol!("ntsim_memcmp"),
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
    symbol!("ntsim_fill"),
    "mov x9, x1",
    "mov w1, w2",
    "mov x2, x9",
    "b ntsim_memset",
    // void RtlZeroMemory(x0 to, x1 bytes)
    symbol!("ntsim_zero"),
    "mov x2, x1",
    "mov w1, wzr",
    "b ntsim_memset",
    symbol!("ntsim_copy_end"),
);

/// Undoes what these functions do to registers that they must preserve: nothing.
pub(crate) const fn leave(_at: &mut Registers) {}

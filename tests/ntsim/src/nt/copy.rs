//! The functions that the compiler calls: `memcpy` and its kin, in assembly.
//!
//! Their arguments may be user addresses, under the driver's exception handler, so a fault inside
//! them must be one that can be unwound. All are leaf functions of one form: rdi and rsi, which a
//! Win64 function must preserve, are put aside in r10 and r11 before anything can fault, and
//! nothing is on the stack.

use core::arch::global_asm;

use crate::mem::Va;
use crate::unwind::Registers;

global_asm!(
    ".text",
    ".p2align 4",
    ".hidden ntsim_copy_begin",
    ".globl ntsim_copy_begin",
    "ntsim_copy_begin:",
    // void *memmove(rcx to, rdx from, r8 bytes), also for memcpy
    ".hidden ntsim_memmove",
    ".globl ntsim_memmove",
    "ntsim_memmove:",
    "mov r10, rdi",
    "mov r11, rsi",
    "mov rax, rcx",
    "mov rdi, rcx",
    "mov rsi, rdx",
    "mov rcx, r8",
    "sub rdx, rdi",
    "neg rdx",
    // Backwards, if the destination begins inside the source.
    "cmp rdx, r8",
    "jb 2f",
    "rep movsb",
    "jmp 3f",
    "2:",
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "3:",
    "mov rdi, r10",
    "mov rsi, r11",
    "ret",
    // void *memset(rcx to, edx value, r8 bytes)
    ".hidden ntsim_memset",
    ".globl ntsim_memset",
    "ntsim_memset:",
    "mov r10, rdi",
    "mov r11, rsi",
    "mov r9, rcx",
    "mov rdi, rcx",
    "mov rcx, r8",
    "mov eax, edx",
    "rep stosb",
    "mov rax, r9",
    "mov rdi, r10",
    "mov rsi, r11",
    "ret",
    // int memcmp(rcx a, rdx b, r8 bytes)
    ".hidden ntsim_memcmp",
    ".globl ntsim_memcmp",
    "ntsim_memcmp:",
    "mov r10, rdi",
    "mov r11, rsi",
    "mov rsi, rcx",
    "mov rdi, rdx",
    "mov rcx, r8",
    "xor eax, eax",
    "cmp eax, eax",
    "repe cmpsb",
    "je 2f",
    "sbb eax, eax",
    "or eax, 1",
    "2:",
    "mov rdi, r10",
    "mov rsi, r11",
    "ret",
    // void RtlFillMemory(rcx to, rdx bytes, r8b value)
    ".hidden ntsim_fill",
    ".globl ntsim_fill",
    "ntsim_fill:",
    "xchg rdx, r8",
    "jmp ntsim_memset",
    // void RtlZeroMemory(rcx to, rdx bytes)
    ".hidden ntsim_zero",
    ".globl ntsim_zero",
    "ntsim_zero:",
    "mov r8, rdx",
    "xor edx, edx",
    "jmp ntsim_memset",
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
pub(crate) fn contains(rip: Va) -> bool {
    (begin as *const () as usize..end as *const () as usize).contains(&rip)
}

/// Undoes what these functions do to registers that they must preserve.
pub(crate) fn leave(at: &mut Registers) {
    const RSI: usize = 6;
    const RDI: usize = 7;
    at.general[RDI] = at.general[10];
    at.general[RSI] = at.general[11];
    // The direction flag is clear in every caller.
    at.rflags &= !0x400;
}

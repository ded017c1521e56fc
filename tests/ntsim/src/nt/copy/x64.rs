//! The code of the copy functions on x64.
//!
//! rdi and rsi, which a Win64 function must preserve, are put aside in r10 and r11 before anything
//! can fault.

use core::arch::global_asm;

use crate::unwind::Registers;

global_asm!(
    ".text",
    ".p2align 4",
    symbol!("ntsim_copy_begin"),
    // void *memmove(rcx to, rdx from, r8 bytes), also for memcpy
    symbol!("ntsim_memmove"),
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
    symbol!("ntsim_memset"),
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
    symbol!("ntsim_memcmp"),
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
    symbol!("ntsim_fill"),
    "xchg rdx, r8",
    "jmp ntsim_memset",
    // void RtlZeroMemory(rcx to, rdx bytes)
    symbol!("ntsim_zero"),
    "mov r8, rdx",
    "xor edx, edx",
    "jmp ntsim_memset",
    symbol!("ntsim_copy_end"),
);

/// Undoes what these functions do to registers that they must preserve.
pub(crate) fn leave(at: &mut Registers) {
    const RSI: usize = 6;
    const RDI: usize = 7;
    at.general[RDI] = at.general[10];
    at.general[RSI] = at.general[11];
    // The direction flag is clear in every caller.
    at.rflags &= !0x400;
}

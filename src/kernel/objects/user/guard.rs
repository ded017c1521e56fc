//! A copy that survives a fault, and the check of a user range before it.
//!
//! A fault on a user address stops Windows unless an exception handler is around the instruction.
//! Rust has no structured exception handling, so the handler is written in assembly. This file
//! knows no kernel type: the tests' own drivers are built with it, too.

use core::arch::global_asm;

/// `STATUS_ACCESS_VIOLATION`: the address is not the requester's to read.
const ACCESS_VIOLATION: i32 = 0xC000_0005_u32.cast_signed();

#[cfg(target_arch = "x86_64")]
global_asm!(
    // i32 guarded_copy(rcx: destination, rdx: source, r8: bytes)
    // Result in eax: 0, or the exception: STATUS_ACCESS_VIOLATION or STATUS_IN_PAGE_ERROR.
    ".text",
    ".p2align 4",
    ".globl parscan_guarded_copy",
    // Opens the function's entry in .pdata; the .seh_ lines below become its unwind codes.
    ".seh_proc parscan_guarded_copy",
    "parscan_guarded_copy:",
    // rsi and rdi belong to the caller: the exception restores them from these two places.
    "    push rsi",
    "    .seh_pushreg rsi",
    "    push rdi",
    "    .seh_pushreg rdi",
    // 8 bytes make the stack 16-byte aligned, which the calling convention wants.
    "    sub rsp, 8",
    "    .seh_stackalloc 8",
    // Handlers are called from here on only, not in the prologue.
    "    .seh_endprologue",
    "    mov rdi, rcx",
    "    mov rsi, rdx",
    "    mov rcx, r8",
    // The guarded range is this one instruction. It reads each byte once, in order.
    ".Lguard_begin:",
    "    rep movsb",
    ".Lguard_end:",
    "    xor eax, eax",
    ".Lguard_return:",
    "    add rsp, 8",
    "    pop rdi",
    "    pop rsi",
    "    ret",
    // Execution goes on here after a fault, with the stack as in the guarded range and the
    // exception's code in eax. Whatever is not STATUS_IN_PAGE_ERROR becomes an access violation,
    // so that no code can be taken for success.
    ".Lguard_fault:",
    "    mov ecx, {access_violation}",
    "    cmp eax, {in_page_error}",
    "    cmovne eax, ecx",
    "    jmp .Lguard_return",
    // The kernel's handler for C's __try, asked when there is an exception.
    "    .seh_handler __C_specific_handler, @except",
    // Its scope table: one scope, from begin up to end, both relative to the image. Filter 1 is
    // EXCEPTION_EXECUTE_HANDLER, for every exception; last, where to go on.
    "    .seh_handlerdata",
    "    .long 1",
    "    .long .Lguard_begin@IMGREL",
    "    .long .Lguard_end@IMGREL",
    "    .long 1",
    "    .long .Lguard_fault@IMGREL",
    // .seh_handlerdata has switched to .xdata.
    "    .text",
    "    .seh_endproc",
    access_violation = const 0xC000_0005_u32,
    in_page_error = const 0xC000_0006_u32,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    // i32 guarded_copy(x0: destination, x1: source, x2: bytes, not 0)
    // Result in w0: 0, or the exception: STATUS_ACCESS_VIOLATION or STATUS_IN_PAGE_ERROR.
    ".text",
    ".p2align 2",
    ".globl parscan_guarded_copy",
    // Opens the function's entry in .pdata; the .seh_ lines below become its unwind codes.
    ".seh_proc parscan_guarded_copy",
    "parscan_guarded_copy:",
    // Only a function with a frame can have a handler: the exception restores the stack pointer
    // and the return address from here.
    "    stp x29, x30, [sp, #-16]!",
    "    .seh_save_fplr_x 16",
    "    mov x29, sp",
    "    .seh_set_fp",
    "    .seh_endprologue",
    // The guarded range is the load alone, so that a fault of the store, into memory of the
    // kernel, stays what it is: a stop. Each byte is read once, in order.
    ".Lguard_begin:",
    "    ldrb w3, [x1], #1",
    ".Lguard_end:",
    "    strb w3, [x0], #1",
    "    subs x2, x2, #1",
    "    b.ne .Lguard_begin",
    "    mov w0, wzr",
    ".Lguard_return:",
    "    .seh_startepilogue",
    "    ldp x29, x30, [sp], #16",
    "    .seh_save_fplr_x 16",
    "    .seh_endepilogue",
    "    ret",
    // Execution goes on here after a fault, with the stack as in the guarded range and the
    // exception's code in w0. Whatever is not STATUS_IN_PAGE_ERROR becomes an access violation,
    // so that no code can be taken for success.
    ".Lguard_fault:",
    "    movz w1, #{low_in_page_error}",
    "    movk w1, #{high}, lsl #16",
    "    cmp w0, w1",
    "    movz w2, #{low_access_violation}",
    "    movk w2, #{high}, lsl #16",
    "    csel w0, w0, w2, eq",
    "    b .Lguard_return",
    // The kernel's handler for C's __try, asked when there is an exception, and its scope table as
    // on x64: one scope, from begin up to end, filter 1 (EXCEPTION_EXECUTE_HANDLER), and where to
    // go on.
    "    .seh_handler __C_specific_handler, @except",
    "    .seh_handlerdata",
    "    .long 1",
    "    .long .Lguard_begin@IMGREL",
    "    .long .Lguard_end@IMGREL",
    "    .long 1",
    "    .long .Lguard_fault@IMGREL",
    // .seh_handlerdata has switched to .xdata.
    "    .text",
    "    .seh_endproc",
    high = const 0xC000,
    low_access_violation = const 0x0005,
    low_in_page_error = const 0x0006,
);

unsafe extern "C" {
    fn parscan_guarded_copy(destination: *mut u8, source: *const u8, bytes: usize) -> i32;
}

/// Fills `into` from user address `address`, in the address space of the running thread. Reads each
/// byte at most once. At <= `APC_LEVEL`.
///
/// `probe` is `MmUserProbeAddress`: the range must end there or below. `None` is for a requester
/// in kernel mode, whose addresses are trusted.
///
/// # Errors
/// The `NTSTATUS` of the fault: `STATUS_ACCESS_VIOLATION` or `STATUS_IN_PAGE_ERROR`. What `into`
/// holds is then undefined, but not uninitialised.
pub(crate) fn copy_in(probe: Option<u64>, address: u64, into: &mut [u8]) -> Result<(), i32> {
    if into.is_empty() {
        return Ok(());
    }
    let length = into.len() as u64;
    let end = address.checked_add(length).ok_or(ACCESS_VIOLATION)?;
    if probe.is_some_and(|probe| end > probe) {
        return Err(ACCESS_VIOLATION);
    }
    let source = core::ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0));
    // SAFETY: `into` is writable for its length. The source may be anything below the probe
    // address: a fault there ends the copy. Kernel mode vouches for its own addresses.
    let status = unsafe { parscan_guarded_copy(into.as_mut_ptr(), source, into.len()) };
    if status == 0 { Ok(()) } else { Err(status) }
}

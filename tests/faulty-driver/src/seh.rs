//! Calls under an exception handler, in assembly: what `__try` would be in C.

use core::arch::global_asm;

use crate::api::Ptr;

/// The shipping driver's own copy routine.
#[path = "../../../src/kernel/objects/user/guard.rs"]
mod guard;
pub(crate) use guard::copy_in;

pub(crate) type Routine = unsafe extern "C" fn(Ptr);

global_asm!(
    // i32 guarded_call(rcx: routine, rdx: its argument): 0, or the exception's code.
    ".text",
    ".p2align 4",
    ".globl faulty_guarded_call",
    ".seh_proc faulty_guarded_call",
    "faulty_guarded_call:",
    "    sub rsp, 40",
    "    .seh_stackalloc 40",
    "    .seh_endprologue",
    "    mov rax, rcx",
    "    mov rcx, rdx",
    ".Lcall_begin:",
    "    call rax",
    // The return address must lie inside the scope.
    "    nop",
    ".Lcall_end:",
    "    xor eax, eax",
    ".Lcall_return:",
    "    add rsp, 40",
    "    ret",
    ".Lcall_fault:",
    "    jmp .Lcall_return",
    "    .seh_handler __C_specific_handler, @except",
    "    .seh_handlerdata",
    "    .long 1",
    "    .long .Lcall_begin@IMGREL",
    "    .long .Lcall_end@IMGREL",
    "    .long 1",
    "    .long .Lcall_fault@IMGREL",
    "    .text",
    "    .seh_endproc",
    // i32 tried_call(rcx: routine, rdx: its argument): a __try with a filter function around a
    // __try with a __finally, in a frame that is found by rbp. Every nonvolatile register is
    // expected to survive: a mark in each is compared afterwards.
    ".p2align 4",
    ".globl faulty_tried_call",
    ".seh_proc faulty_tried_call",
    "faulty_tried_call:",
    "    push rbp",
    "    .seh_pushreg rbp",
    "    push rbx",
    "    .seh_pushreg rbx",
    "    push r15",
    "    .seh_pushreg r15",
    "    sub rsp, 80",
    "    .seh_stackalloc 80",
    "    lea rbp, [rsp + 48]",
    "    .seh_setframe rbp, 48",
    "    movups [rsp + 64], xmm6",
    "    .seh_savexmm xmm6, 64",
    "    .seh_endprologue",
    "    mov rbx, 0x1111",
    "    mov r15, 0x2222",
    "    movq xmm6, r15",
    "    mov rax, rcx",
    "    mov rcx, rdx",
    // A moving stack pointer, so that only rbp tells the frame.
    "    sub rsp, 64",
    ".Ltry_begin:",
    "    call rax",
    "    nop",
    ".Ltry_end:",
    "    xor eax, eax",
    ".Ltry_return:",
    "    movq rcx, xmm6",
    "    cmp rcx, 0x2222",
    "    jne .Ltry_broken",
    "    cmp rbx, 0x1111",
    "    jne .Ltry_broken",
    "    cmp r15, 0x2222",
    "    jne .Ltry_broken",
    ".Ltry_out:",
    "    movups xmm6, [rbp + 16]",
    "    lea rsp, [rbp + 32]",
    "    pop r15",
    "    pop rbx",
    "    pop rbp",
    "    ret",
    ".Ltry_broken:",
    "    mov eax, 0xC0000001",
    "    jmp .Ltry_out",
    "    .seh_handler __C_specific_handler, @except, @unwind",
    "    .seh_handlerdata",
    "    .long 2",
    "    .long .Ltry_begin@IMGREL",
    "    .long .Ltry_end@IMGREL",
    "    .long faulty_finally@IMGREL",
    "    .long 0",
    "    .long .Ltry_begin@IMGREL",
    "    .long .Ltry_end@IMGREL",
    "    .long faulty_filter@IMGREL",
    "    .long .Ltry_return@IMGREL",
    "    .text",
    "    .seh_endproc",
    // void trash(rcx: address): reads there with other values in the nonvolatile registers.
    ".p2align 4",
    ".globl faulty_trash",
    ".seh_proc faulty_trash",
    "faulty_trash:",
    "    push rbx",
    "    .seh_pushreg rbx",
    "    push r15",
    "    .seh_pushreg r15",
    "    sub rsp, 24",
    "    .seh_stackalloc 24",
    "    movups [rsp], xmm6",
    "    .seh_savexmm xmm6, 0",
    "    .seh_endprologue",
    "    xor ebx, ebx",
    "    xor r15d, r15d",
    "    xorps xmm6, xmm6",
    "    movzx eax, byte ptr [rcx]",
    "    movups xmm6, [rsp]",
    "    add rsp, 24",
    "    pop r15",
    "    pop rbx",
    "    ret",
    "    .seh_endproc",
);

unsafe extern "C" {
    #[link_name = "faulty_guarded_call"]
    pub(crate) fn guarded_call(routine: Routine, argument: Ptr) -> i32;
    #[link_name = "faulty_tried_call"]
    pub(crate) fn tried_call(routine: Routine, argument: Ptr) -> i32;
    #[link_name = "faulty_trash"]
    pub(crate) fn trash(address: Ptr);
}

/// What the filter answers, and what filter and `__finally` saw.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) answer: i32,
    pub(crate) filters: usize,
    pub(crate) finals: usize,
    /// Whether the access that failed was a write (1), and its address.
    pub(crate) access: (usize, usize),
}

impl Seen {
    /// Nothing yet, with this answer.
    pub(crate) const fn nothing(answer: i32) -> Self {
        Self {
            answer,
            filters: 0,
            finals: 0,
            access: (0, 0),
        }
    }
}

pub(crate) static mut SEEN: Seen = Seen::nothing(1);

static GOOD: u8 = 7;

/// `LONG filter(EXCEPTION_POINTERS *, void *frame)`
#[unsafe(no_mangle)]
unsafe extern "C" fn faulty_filter(pointers: *const [*mut usize; 2], _frame: Ptr) -> i32 {
    unsafe {
        let [record, context] = *pointers;
        SEEN.filters += 1;
        // ExceptionInformation begins behind NumberParameters.
        SEEN.access = (record.add(4).read(), record.add(5).read());
        if SEEN.answer < 0 {
            // Context.Rcx: a good address for the instruction that faulted.
            context.byte_add(0x80).write(&raw const GOOD as usize);
        }
        SEEN.answer
    }
}

/// `void finally(BOOLEAN abnormal, void *frame)`
#[unsafe(no_mangle)]
unsafe extern "C" fn faulty_finally(abnormal: u8, _frame: Ptr) {
    if abnormal != 0 {
        unsafe { SEEN.finals += 1 };
    }
}

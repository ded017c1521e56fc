//! wdm.h's inline functions, and instructions, as this driver uses them.
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

use core::mem::offset_of;

pub(crate) use kernel_declarations::*;

pub(crate) const TAG: u32 = u32::from_le_bytes(*b"MisB");

/// A NUL-terminated UTF-16 literal.
pub(crate) const fn utf16<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    let mut out = [0; N];
    let mut i = 0;
    while i < bytes.len() {
        out[i] = bytes[i] as u16;
        i += 1;
    }
    out
}

macro_rules! w {
    ($text:literal) => {{
        const TEXT: &[u16; $text.len() + 1] = &$crate::api::utf16::<{ $text.len() + 1 }>($text);
        TEXT.as_ptr()
    }};
}
pub(crate) use w;

pub(crate) fn ustr(text: *const u16) -> UNICODE_STRING {
    let mut s = UNICODE_STRING {
        Length: 0,
        MaximumLength: 0,
        Buffer: core::ptr::null_mut(),
    };
    unsafe { RtlInitUnicodeString(&raw mut s, text) };
    s
}

// Inline functions of wdm.h.

pub(crate) fn current(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    unsafe { (*irp).CurrentStackLocation }
}

pub(crate) fn list_entry(irp: *mut IRP) -> *mut LIST_ENTRY {
    unsafe { &raw mut (*irp).ListEntry }
}

pub(crate) fn irp_of(entry: *mut LIST_ENTRY) -> *mut IRP {
    unsafe { entry.cast::<u8>().sub(offset_of!(IRP, ListEntry)).cast() }
}

/// `Parameters.Others.Argument1 + n`.
pub(crate) fn argument(irp: *mut IRP, n: usize) -> usize {
    unsafe { current(irp).cast::<usize>().add(1 + n).read() }
}

/// The ULONG there.
pub(crate) fn argument_low(irp: *mut IRP, n: usize) -> u32 {
    unsafe { current(irp).cast::<usize>().add(1 + n).cast::<u32>().read() }
}

pub(crate) fn skip(irp: *mut IRP) {
    unsafe { (*irp).CurrentLocation += 1 };
    unsafe { (*irp).CurrentStackLocation = current(irp).add(1) };
}

pub(crate) fn copy(irp: *mut IRP) {
    let from = current(irp);
    let to = unsafe { from.sub(1) };
    unsafe {
        memcpy(
            to.cast(),
            from.cast(),
            offset_of!(IO_STACK_LOCATION, CompletionRoutine),
        )
    };
    unsafe { (*to).Control = 0 };
}

pub(crate) fn set_completion(irp: *mut IRP, routine: Completion, context: Ptr) {
    let next = unsafe { current(irp).sub(1) };
    unsafe {
        (*next).CompletionRoutine = Some(routine);
        (*next).Context = context;
        (*next).Control = INVOKE_ALWAYS;
    }
}

pub(crate) fn mark_pending(irp: *mut IRP) {
    unsafe { (*current(irp)).Control |= 1 };
}

pub(crate) fn set_cancel(irp: *mut IRP, routine: usize) {
    unsafe { (*irp).CancelRoutine = routine };
}

pub(crate) fn status(irp: *mut IRP) -> Status {
    unsafe { (*irp).IoStatus.Status }
}

pub(crate) fn set_status(irp: *mut IRP, status: Status, information: usize) {
    unsafe {
        (*irp).IoStatus.Status = status;
        (*irp).IoStatus.Information = information;
    }
}

pub(crate) fn finish(irp: *mut IRP, status: Status, information: usize) -> Status {
    set_status(irp, status, information);
    unsafe { IofCompleteRequest(irp, 0) };
    status
}

pub(crate) fn buffer(irp: *mut IRP) -> *mut u8 {
    unsafe { (*irp).SystemBuffer }
}

pub(crate) fn sleep(ms: i64) {
    let units = -ms * 10_000;
    unsafe { KeDelayExecutionThread(0, 0, &raw const units) };
}

pub(crate) fn inb(port: u16) -> u8 {
    let value: u8;
    unsafe { core::arch::asm!("in al, dx", in("dx") port, out("al") value) };
    value
}

pub(crate) fn outb(port: u16, value: u8) {
    unsafe { core::arch::asm!("out dx, al", in("dx") port, in("al") value) };
}

pub(crate) fn outsb(port: u16, data: &[u8]) {
    unsafe {
        core::arch::asm!("rep outsb", in("dx") port, inout("rsi") data.as_ptr() => _, inout("rcx") data.len() => _);
    }
}

pub(crate) fn inw(port: u16) -> u16 {
    let value: u16;
    unsafe { core::arch::asm!("in ax, dx", in("dx") port, out("ax") value) };
    value
}

pub(crate) fn ind(port: u16) -> u32 {
    let value: u32;
    unsafe { core::arch::asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}

pub(crate) fn insw(port: u16, data: &mut [u16]) {
    unsafe {
        core::arch::asm!("rep insw", in("dx") port, inout("rdi") data.as_mut_ptr() => _, inout("rcx") data.len() => _);
    }
}

/// Reads a byte into al and gives the whole of rax, which held `before`.
pub(crate) fn inb_over(port: u16, before: u64) -> u64 {
    let after: u64;
    unsafe { core::arch::asm!("in al, dx", in("dx") port, inout("rax") before => after) };
    after
}

pub(crate) fn set_cr8(value: u64) {
    unsafe { core::arch::asm!("mov cr8, {}", in(reg) value) };
}

pub(crate) fn cr8() -> u64 {
    let value: u64;
    unsafe { core::arch::asm!("mov {}, cr8", out(reg) value) };
    value
}

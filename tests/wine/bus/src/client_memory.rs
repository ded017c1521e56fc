//! The memory of the program that sent a request.
//!
//! Windows calls a driver's dispatch routine in the sender's address space, so a pointer in the
//! request is good there. Wine's drivers run in a process of their own: the same pointer is nothing
//! there, or something else. For the requests that have such a pointer the filter stands in for the
//! shared address space: it copies what the pointer names into memory of this process, and puts
//! that address in the driver's copy of the request. Memory that the program cannot read either
//! becomes memory that no code can read, so that the driver's guard meets a real access violation.
//! The checks before that see the program's own address: one that is null or out of user space
//! stays as it is.

use core::ptr;

use windows_sys::{
    Wdk::System::SystemServices::{IoIs32bitProcess, PsGetCurrentProcessId},
    Win32::{
        Foundation::CloseHandle,
        System::{
            Diagnostics::Debug::ReadProcessMemory,
            Memory::{
                MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_NOACCESS, PAGE_READWRITE, VirtualAlloc,
                VirtualFree,
            },
            Threading::{OpenProcess, PROCESS_VM_READ},
        },
    },
};

use crate::{hooks::USER_PROBE_ADDRESS, nt::Irp};

/// usbscan.h: `IOCTL_WRITE_REGISTERS` takes an `IO_BLOCK`.
const IOCTL_WRITE_REGISTERS: u32 = 0x8000_2010;
/// `IOCTL_SEND_USB_REQUEST` takes an `IO_BLOCK_EX`.
const IOCTL_SEND_USB_REQUEST: u32 = 0x8000_2024;

// Members of `IO_BLOCK` and `IO_BLOCK_EX` of 64-bit programs.
const SIZE: usize = 24;
const LENGTH: usize = 4;
const DATA: usize = 8;
const DIRECTION_IN: usize = 22;
/// The longest transfer: wLength has 16 bits.
const LONGEST: usize = 0xFFFF;
const PAGE: usize = 0x1000;

/// Memory that stands in for the sender's.
pub(crate) struct StandIn(*mut u8);

impl Drop for StandIn {
    fn drop(&mut self) {
        // SAFETY: reserved by `stand_in`.
        unsafe { VirtualFree(self.0.cast(), 0, MEM_RELEASE) };
    }
}

/// Provides what a pointer in a control request names, if it has one; for as long as the result
/// lives.
pub(crate) fn stand_in(irp: Irp) -> Option<StandIn> {
    let code = irp.parameter_u32(2);
    let input = irp.parameter_u32(1) as usize;
    if !matches!(code, IOCTL_WRITE_REGISTERS | IOCTL_SEND_USB_REQUEST) || input < SIZE {
        return None;
    }
    // SAFETY: a live IRP. 32-bit programs are none of this bench.
    if unsafe { IoIs32bitProcess(irp.raw()) } {
        return None;
    }
    let block = irp.system_buffer();
    // SAFETY: the input is this long.
    let (length, address, is_in) = unsafe {
        (
            block.add(LENGTH).cast::<u32>().read_unaligned() as usize,
            block.add(DATA).cast::<u64>().read_unaligned(),
            code == IOCTL_SEND_USB_REQUEST && block.add(DIRECTION_IN).read() != 0,
        )
    };
    let end = address.checked_add(u64::try_from(length).ok()?)?;
    if is_in || length == 0 || length > LONGEST || address == 0 || end > USER_PROBE_ADDRESS {
        return None;
    }
    // The data ends where readable memory does.
    let committed = length.next_multiple_of(PAGE);
    // SAFETY: new memory.
    let memory = unsafe { VirtualAlloc(ptr::null(), committed + PAGE, MEM_RESERVE, PAGE_NOACCESS) };
    let memory = StandIn(ptr::NonNull::new(memory)?.as_ptr().cast());
    // SAFETY: just reserved.
    unsafe { VirtualAlloc(memory.0.cast(), committed, MEM_COMMIT, PAGE_READWRITE) };
    let start = memory.0.wrapping_add(committed - length);
    let start = if read_sender(address, start, length) {
        start
    } else {
        memory.0.wrapping_add(committed)
    };
    // SAFETY: the driver's copy of the request.
    unsafe {
        block
            .add(DATA)
            .cast::<usize>()
            .write_unaligned(start.expose_provenance());
    };
    Some(memory)
}

/// Reads the sender's memory: all of it, or not. In the dispatch routine only.
fn read_sender(address: u64, into: *mut u8, length: usize) -> bool {
    // SAFETY: in a dispatch routine Wine gives the sender's process.
    let id = unsafe { PsGetCurrentProcessId() };
    let Ok(id) = u32::try_from(id.addr()) else {
        return false;
    };
    // SAFETY: no requirements.
    let process = unsafe { OpenProcess(PROCESS_VM_READ, 0, id) };
    if process.is_null() {
        return false;
    }
    let mut read = 0;
    let from = ptr::without_provenance(usize::try_from(address).unwrap_or(0));
    // SAFETY: `into` is writable for `length`.
    let done = unsafe { ReadProcessMemory(process, from, into.cast(), length, &raw mut read) };
    // SAFETY: opened above.
    unsafe { CloseHandle(process) };
    done != 0 && read == length
}

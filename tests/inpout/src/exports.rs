//! The functions by their names: the only place with `unsafe`.
//!
//! Programs declare them in many ways: `short`, `int`, `byte`, with and without sign. So every
//! argument is taken with whatever stands above its low bits, and every result fills the whole
//! register. The 32-bit DLL's functions pop their arguments (`stdcall`).

use std::{
    ffi::c_void,
    mem, ptr, slice,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use parscan_client::Native;
use windows_sys::Win32::{
    Foundation::{HANDLE, HINSTANCE, TRUE},
    System::SystemServices::DLL_PROCESS_DETACH,
};

use crate::{IoSpace, Width};

/// This process's ports, from the first call on.
static SPACE: Mutex<Option<IoSpace<Native>>> = Mutex::new(None);

/// `FALSE`, in the whole register.
const NO: usize = 0;

fn with<R>(call: impl FnOnce(&mut IoSpace<Native>) -> R) -> R {
    let mut space = SPACE.lock().unwrap_or_else(PoisonError::into_inner);
    let space = space.get_or_insert_with(|| {
        let start = Instant::now();
        IoSpace::new(Native, move || start.elapsed())
    });
    call(space)
}

/// The end of the image's list of callbacks for thread-local storage, before its first entry: the
/// linker sorts this section by name, and the list begins behind `.CRT$XLA`.
///
/// The callback of Rust's library takes a thread-local slot of the process each time that the DLL is
/// unloaded, and never gives it back; a process has 1088 of them. Nothing here needs it: no
/// thread-local variable with a destructor is used.
#[used]
#[unsafe(link_section = ".CRT$XLAA")]
static NO_CALLBACKS: usize = 0;

/// When the DLL is unloaded, its handles are closed: some programs load, write and unload for every
/// byte. At the end of a process Windows does that, and other threads may have died with the lock.
#[unsafe(no_mangle)]
extern "system" fn DllMain(_module: HINSTANCE, reason: u32, process_ends: *const c_void) -> i32 {
    if reason == DLL_PROCESS_DETACH
        && process_ends.is_null()
        && let Ok(mut space) = SPACE.try_lock()
    {
        drop(space.take());
    }
    TRUE
}

fn read(address: u32, width: Width) -> usize {
    // usize has 32 bits at least.
    usize::try_from(with(|space| space.read(address, width))).unwrap_or(usize::MAX)
}

fn write(address: u32, width: Width, value: u32) {
    with(|space| space.write(address, width, value));
}

/// Bytes of `count` elements. `None`: more than an address space.
fn length(width: Width, count: u32) -> Option<usize> {
    usize::try_from(count).ok()?.checked_mul(width.bytes())
}

/// # Safety
/// `buffer` is null, or has `count` elements.
unsafe fn read_buffer(address: u32, width: Width, buffer: *mut u8, count: u32) {
    let Some(length) = length(width, count).filter(|_| !buffer.is_null()) else {
        return;
    };
    // SAFETY: the caller's promise.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer, length) };
    with(|space| space.read_buffer(address, width, buffer));
}

/// # Safety
/// `buffer` is null, or has `count` elements.
unsafe fn write_buffer(address: u32, width: Width, buffer: *const u8, count: u32) {
    let Some(length) = length(width, count).filter(|_| !buffer.is_null()) else {
        return;
    };
    // SAFETY: the caller's promise.
    let buffer = unsafe { slice::from_raw_parts(buffer, length) };
    with(|space| space.write_buffer(address, width, buffer));
}

/// Functions that read and write one element of a width.
macro_rules! elements {
    ($($read:ident, $write:ident: $width:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "system" fn $read(address: u32) -> usize {
            read(address, Width::$width)
        }

        #[unsafe(no_mangle)]
        extern "system" fn $write(address: u32, value: u32) {
            write(address, Width::$width, value);
        }
    )*};
}

elements! {
    Inp32, Out32: Uchar;
    DlPortReadPortUchar, DlPortWritePortUchar: Uchar;
    DlPortReadPortUshort, DlPortWritePortUshort: Ushort;
    DlPortReadPortUlong, DlPortWritePortUlong: Ulong;
}

#[unsafe(no_mangle)]
extern "system" fn IsInpOutDriverOpen() -> usize {
    usize::from(with(IoSpace::is_driver_open))
}

/// Whether Windows has 64 bits, whatever this process has.
#[unsafe(no_mangle)]
extern "system" fn IsXP64Bit() -> usize {
    #[cfg(target_pointer_width = "64")]
    return 1;
    #[cfg(not(target_pointer_width = "64"))]
    {
        use windows_sys::Win32::System::Threading::{GetCurrentProcess, IsWow64Process};
        let mut is_guest = 0;
        // SAFETY: a handle of this process, which needs no closing.
        let process = unsafe { GetCurrentProcess() };
        // SAFETY: `is_guest` is written on success.
        let known = unsafe { IsWow64Process(process, &raw mut is_guest) };
        usize::from(known != 0 && is_guest != 0)
    }
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortReadPortBufferUchar(address: u32, buffer: *mut u8, count: u32) {
    // SAFETY: the program's buffer, of that many elements by the function's contract.
    unsafe { read_buffer(address, Width::Uchar, buffer, count) };
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortReadPortBufferUshort(address: u32, buffer: *mut u16, count: u32) {
    // SAFETY: as above.
    unsafe { read_buffer(address, Width::Ushort, buffer.cast(), count) };
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortReadPortBufferUlong(address: u32, buffer: *mut u32, count: u32) {
    // SAFETY: as above.
    unsafe { read_buffer(address, Width::Ulong, buffer.cast(), count) };
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortWritePortBufferUchar(address: u32, buffer: *const u8, count: u32) {
    // SAFETY: as above.
    unsafe { write_buffer(address, Width::Uchar, buffer, count) };
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortWritePortBufferUshort(
    address: u32,
    buffer: *const u16,
    count: u32,
) {
    // SAFETY: as above.
    unsafe { write_buffer(address, Width::Ushort, buffer.cast(), count) };
}

#[unsafe(no_mangle)]
unsafe extern "system" fn DlPortWritePortBufferUlong(address: u32, buffer: *const u32, count: u32) {
    // SAFETY: as above.
    unsafe { write_buffer(address, Width::Ulong, buffer.cast(), count) };
}

/// Physical memory is not given out: there is none.
#[unsafe(no_mangle)]
unsafe extern "system" fn MapPhysToLin(
    _address: *const u8,
    _length: u32,
    handle: *mut HANDLE,
) -> *mut u8 {
    if !handle.is_null() {
        // SAFETY: the program's variable.
        unsafe { handle.write_unaligned(ptr::null_mut()) };
    }
    ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "system" fn UnmapPhysicalMemory(_handle: HANDLE, _address: *const u8) -> usize {
    NO
}

#[unsafe(no_mangle)]
extern "system" fn GetPhysLong(_address: *const u8, _value: *mut u32) -> usize {
    NO
}

#[unsafe(no_mangle)]
extern "system" fn SetPhysLong(_address: *const u8, _value: u32) -> usize {
    NO
}

/// 32 and 64 bits are what the results are made for.
const _: () = assert!(mem::size_of::<usize>() >= mem::size_of::<u32>());

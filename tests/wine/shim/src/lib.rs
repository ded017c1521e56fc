//! Windows' `bcryptprimitives.dll`, as far as Rust's library needs it. Wine 8 has no such module,
//! and does not start a program that imports from it.
#![cfg_attr(windows, no_std)]
#![cfg(windows)]

use core::panic::PanicInfo;

#[link(name = "advapi32", kind = "raw-dylib")]
unsafe extern "system" {
    /// `RtlGenRandom`. Fills a buffer; 0 is failure.
    fn SystemFunction036(buffer: *mut u8, length: u32) -> u8;
}

/// Fills a buffer with random bytes. 0 is failure, which callers need not expect.
///
/// # Safety
/// The buffer has that many bytes.
// The one function of this name in the image.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ProcessPrng(buffer: *mut u8, length: usize) -> i32 {
    let Ok(length) = u32::try_from(length) else {
        return 0;
    };
    // SAFETY: the buffer is the caller's, with this length.
    i32::from(unsafe { SystemFunction036(buffer, length) })
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {}
}

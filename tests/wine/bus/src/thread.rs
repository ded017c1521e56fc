//! Threads of this driver. None is waited for: they may run until the process ends.

use alloc::boxed::Box;
use core::{ffi::c_void, ptr};

use windows_sys::Win32::{Foundation::CloseHandle, System::Threading::CreateThread};

type Body = Box<dyn FnOnce()>;

/// Runs `body` on a thread of its own; what it owns must be fit for that. Whether it could.
pub(crate) fn start(body: impl FnOnce() + 'static) -> bool {
    let body: Box<Body> = Box::new(Box::new(body));
    let argument = Box::into_raw(body);
    // SAFETY: `enter` gets what it expects.
    let thread = unsafe {
        CreateThread(
            ptr::null(),
            0,
            Some(enter),
            argument.cast(),
            0,
            ptr::null_mut(),
        )
    };
    if thread.is_null() {
        // SAFETY: made above, and no other thread has it.
        drop(unsafe { Box::from_raw(argument) });
        return false;
    }
    // SAFETY: just opened.
    unsafe { CloseHandle(thread) };
    true
}

unsafe extern "system" fn enter(argument: *mut c_void) -> u32 {
    // SAFETY: `start` passed it to this thread alone.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    body();
    0
}

//! Threads of this driver. They run until the process ends.

use core::{ffi::c_void, ptr};

use windows_sys::Win32::{Foundation::CloseHandle, System::Threading::CreateThread};

/// Whether it could be started.
pub(crate) fn start(run: fn()) -> bool {
    // SAFETY: `enter` gets what it expects.
    let thread = unsafe {
        CreateThread(
            ptr::null(),
            0,
            Some(enter),
            run as *const c_void,
            0,
            ptr::null_mut(),
        )
    };
    if thread.is_null() {
        return false;
    }
    // SAFETY: just opened.
    unsafe { CloseHandle(thread) };
    true
}

unsafe extern "system" fn enter(run: *mut c_void) -> u32 {
    // SAFETY: `start` passed a function of this type.
    let run = unsafe { core::mem::transmute::<*mut c_void, fn()>(run) };
    run();
    0
}

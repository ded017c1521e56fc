//! Threads of this driver.

use core::{ffi::c_void, ptr};

use windows_sys::Win32::{
    Foundation::{CloseHandle, HANDLE},
    System::Threading::{CreateThread, INFINITE, WaitForSingleObject},
};

/// A thread that runs.
pub(crate) struct Thread(HANDLE);

impl Thread {
    pub(crate) fn start(run: fn()) -> Option<Self> {
        // SAFETY: `enter` gets what it expects.
        let handle = unsafe {
            CreateThread(
                ptr::null(),
                0,
                Some(enter),
                run as *const c_void,
                0,
                ptr::null_mut(),
            )
        };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// Waits for its end.
    pub(crate) fn join(self) {
        // SAFETY: a thread's handle, closed once.
        unsafe {
            WaitForSingleObject(self.0, INFINITE);
            CloseHandle(self.0);
        }
    }
}

unsafe extern "system" fn enter(run: *mut c_void) -> u32 {
    // SAFETY: `start` passed a function of this type.
    let run = unsafe { core::mem::transmute::<*mut c_void, fn()>(run) };
    run();
    0
}

use std::sync::OnceLock;

use windows_sys::{
    Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler},
    core::BOOL,
};

use crate::Cancel;

/// What Ctrl-C cancels.
static CANCEL: OnceLock<Cancel> = OnceLock::new();

/// A [`Cancel`] that Ctrl-C and Ctrl-Break cancel, instead of ending the program. The second
/// Ctrl-C ends it.
#[must_use]
pub fn cancel_on_ctrl_c() -> Cancel {
    let cancel = CANCEL.get_or_init(Cancel::default);
    // SAFETY: the handler is a function, which is there as long as the program.
    unsafe { SetConsoleCtrlHandler(Some(handler), 1) };
    cancel.clone()
}

/// Called by Windows, in a thread of its own.
extern "system" fn handler(event: u32) -> BOOL {
    match CANCEL.get() {
        Some(cancel)
            if matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT) && !cancel.is_cancelled() =>
        {
            cancel.cancel();
            1
        }
        _ => 0,
    }
}

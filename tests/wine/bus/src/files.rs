//! The files that programs have open on the devices of the driver under test.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use crate::{
    clock,
    lock::Lock,
    nt::{Device, FILE_OBJECT, major},
    report::say,
};

/// Filters, and the files that are open on their devices.
static FILES: Lock<Vec<(Device, usize)>> = Lock::new(Vec::new());

/// The thread that Wine dispatches programs' requests on.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// How long a device that is gone waits for programs to close it. Windows knows no limit.
const PATIENCE: u64 = 30_000_000_000;

/// The running thread is the one that programs' requests come on.
pub(crate) fn requests_come_here() {
    REQUESTS.store(thread(), SeqCst);
}

fn thread() -> u32 {
    // SAFETY: no requirements.
    unsafe { GetCurrentThreadId() }
}

pub(crate) fn opened(filter: Device, file: *mut FILE_OBJECT) {
    FILES.lock().push((filter, file.expose_provenance()));
}

pub(crate) fn closed(filter: Device, file: *mut FILE_OBJECT) {
    FILES.lock().retain(|it| *it != (filter, file.addr()));
    FILES.notify();
}

/// Sends a request about a file, as the I/O manager does for a program.
pub(crate) fn send(lower: Device, major: u8, file: *mut FILE_OBJECT) {
    lower.request(|irp| {
        irp.set_function(major, 0);
        irp.set_file(file);
        irp.set_user_mode();
    });
}

/// Waits until programs have closed all files on a device that is to be removed, as Windows does.
/// Where they cannot be closed any more, since Wine stops the drivers' process, or are not closed, the
/// files are closed for them.
pub(crate) fn settle(filter: Device, lower: Device) {
    let deadline = clock::now() + PATIENCE;
    let mut files = FILES.lock();
    while files.iter().any(|(it, _)| *it == filter) {
        if REQUESTS.load(SeqCst) == thread() || clock::now() > deadline {
            break;
        }
        files.wait(Some(100));
    }
    let left: Vec<_> = files.extract_if(.., |(it, _)| *it == filter).collect();
    drop(files);
    for (_, file) in left {
        say!("a file is closed for its program");
        let file = core::ptr::with_exposed_provenance_mut(file);
        send(lower, major::CLEANUP, file);
        send(lower, major::CLOSE, file);
    }
}

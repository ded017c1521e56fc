use std::{
    fs, io,
    os::windows::{fs::OpenOptionsExt, io::AsRawHandle},
    ptr,
    time::Instant,
};

use windows_sys::{
    Win32::{
        Foundation::{
            CloseHandle, ERROR_IO_PENDING, GENERIC_READ, GENERIC_WRITE, HANDLE, WAIT_OBJECT_0,
        },
        Storage::FileSystem::{FILE_FLAG_OVERLAPPED, ReadFile, WriteFile},
        System::{
            IO::{CancelIoEx, DeviceIoControl, GetOverlappedResult, OVERLAPPED},
            Threading::{CreateEventW, WaitForSingleObject},
        },
    },
    core::BOOL,
};

use super::{failure_of, last_failure, win32_of};
use crate::{Condition, Failure, Limits, Moved, Status, Transport};

/// How often a waiting request looks whether it was cancelled, in milliseconds.
const LOOK: u32 = 50;

/// A handle of ours.
pub(super) struct Handle(pub(super) HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was opened by this program and is closed once, here.
        unsafe { CloseHandle(self.0) };
    }
}

/// A device that is open for overlapped I/O.
pub(super) struct File(fs::File);

impl File {
    pub(super) fn open(path: &str) -> Result<Self, Failure> {
        fs::OpenOptions::new()
            .access_mode(GENERIC_READ | GENERIC_WRITE)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            .open(path)
            .map(Self)
            .map_err(|error| failure_of(win32(&error)))
    }

    /// Starts a request and waits until it has ended: by itself, or cancelled because of `limits`.
    /// The request is over when this returns, so what it points to may end then.
    fn request(
        &self,
        limits: &Limits,
        start: impl FnOnce(HANDLE, *mut OVERLAPPED) -> BOOL,
    ) -> Moved {
        if limits.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        let deadline = limits
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        // SAFETY: an unnamed event without attributes, manually reset.
        let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if event.is_null() {
            return Err(last_failure());
        }
        let event = Handle(event);
        let mut overlapped = OVERLAPPED {
            hEvent: event.0,
            ..OVERLAPPED::default()
        };
        let overlapped = &raw mut overlapped;
        let file = self.0.as_raw_handle();
        if start(file, overlapped) == 0 {
            let failure = last_failure();
            if failure.win32 != ERROR_IO_PENDING {
                return Err(failure);
            }
        }
        let mut late = false;
        loop {
            // SAFETY: our event.
            if unsafe { WaitForSingleObject(event.0, pause(deadline)) } == WAIT_OBJECT_0 {
                break;
            }
            late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late || limits.cancel.is_cancelled() {
                // SAFETY: our file, and the OVERLAPPED of the request that was started on it. If
                // it has just ended, nothing happens.
                unsafe { CancelIoEx(file, overlapped) };
                break;
            }
        }
        let mut moved = 0;
        // SAFETY: our file and the same OVERLAPPED. This waits until the request has ended, also
        // when it was cancelled: the driver has the buffers until then.
        unsafe { GetOverlappedResult(file, overlapped, &raw mut moved, 1) };
        // SAFETY: the request is over, the kernel does not write to it any more.
        let ended = unsafe { overlapped.read() };
        let mut result = outcome(ended.Internal, ended.InternalHigh);
        if let Err(failure) = &mut result
            && late
            && failure.condition() == Condition::Cancelled
        {
            *failure = Failure::timed_out(failure.transferred);
        }
        result
    }
}

/// Until the next look, in milliseconds: no longer than to the deadline.
fn pause(deadline: Option<Instant>) -> u32 {
    let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    rest.and_then(|rest| u32::try_from(rest.as_millis()).ok())
        .map_or(LOOK, |rest| rest.saturating_add(1).min(LOOK))
}

/// What a finished request has left: `OVERLAPPED.Internal` is its NTSTATUS, `InternalHigh` its
/// `Information`.
fn outcome(internal: usize, transferred: usize) -> Moved {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "an NTSTATUS, kept in a pointer's width"
    )]
    let status = Status((internal as u32).cast_signed());
    // A time-out is a success by its number.
    if status.is_success() && status != Status::TIMEOUT {
        return Ok(transferred);
    }
    Err(Failure {
        win32: win32_of(status.0),
        status: Some(status),
        transferred,
    })
}

fn win32(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or_default().cast_unsigned()
}

/// The length of a buffer, and of a longer one what a request can take.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Transport for File {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8], limits: &Limits) -> Moved {
        let or_null = |empty: bool, pointer: *mut u8| if empty { ptr::null_mut() } else { pointer };
        let sent = or_null(input.is_empty(), input.as_ptr().cast_mut());
        let received = or_null(output.is_empty(), output.as_mut_ptr());
        self.request(limits, |file, overlapped| {
            // SAFETY: both buffers have the lengths that are given, and live until the request has
            // ended, for which `request` waits; so does the OVERLAPPED.
            unsafe {
                DeviceIoControl(
                    file,
                    code,
                    sent.cast(),
                    length(input),
                    received.cast(),
                    length(output),
                    ptr::null_mut(),
                    overlapped,
                )
            }
        })
    }

    fn read(&self, buffer: &mut [u8], limits: &Limits) -> Moved {
        let (start, length) = (buffer.as_mut_ptr(), length(buffer));
        self.request(limits, |file, overlapped| {
            // SAFETY: as above.
            unsafe { ReadFile(file, start, length, ptr::null_mut(), overlapped) }
        })
    }

    fn write(&self, bytes: &[u8], limits: &Limits) -> Moved {
        // SAFETY: as above; the bytes are only read.
        self.request(limits, |file, overlapped| unsafe {
            WriteFile(
                file,
                bytes.as_ptr(),
                length(bytes),
                ptr::null_mut(),
                overlapped,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use windows_sys::Win32::{
        Foundation::INVALID_HANDLE_VALUE,
        Storage::FileSystem::PIPE_ACCESS_DUPLEX,
        System::Pipes::{CreateNamedPipeW, PIPE_TYPE_BYTE},
    };

    use super::{super::wide, *};
    use crate::Cancel;

    /// A named pipe, a device that is there on every Windows: what one end writes the other reads,
    /// and a read waits until there is something. Our end and the other one.
    fn pipe(name: &str) -> (File, Handle) {
        let path = format!(r"\\.\pipe\parscan-client-{}-{name}", std::process::id());
        let wide = wide(&path);
        // SAFETY: a name with a NUL; no attributes.
        let other = unsafe {
            CreateNamedPipeW(
                wide.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
                PIPE_TYPE_BYTE,
                1,
                4096,
                4096,
                0,
                ptr::null(),
            )
        };
        assert_ne!(other, INVALID_HANDLE_VALUE);
        (File::open(&path).unwrap(), Handle(other))
    }

    #[test]
    fn a_finished_request_has_its_own_status() {
        assert_eq!(outcome(0, 7), Ok(7));
        let paper = outcome(0x8000_000E, 100).unwrap_err();
        assert_eq!((paper.win32, paper.transferred), (28, 100));
        assert_eq!(paper.condition(), Condition::PaperEmpty);
        assert_eq!(
            outcome(0x102, 3).unwrap_err().condition(),
            Condition::TimedOut
        );
    }

    #[test]
    fn bytes_go_through() {
        let (near, other) = pipe("through");
        assert_eq!(near.write(b"abc", &Limits::default()), Ok(3));
        drop(other);
        let gone = near.write(b"abc", &Limits::default()).unwrap_err();
        assert_eq!(gone.transferred, 0);
        assert!(gone.status.is_some(), "{gone}");
    }

    #[test]
    fn a_read_ends_when_its_time_is_over() {
        let (near, _other) = pipe("late");
        let limits = Limits {
            timeout: Some(Duration::from_millis(120)),
            ..Limits::default()
        };
        let start = Instant::now();
        let failure = near.read(&mut [0; 8], &limits).unwrap_err();
        assert_eq!(failure.condition(), Condition::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn a_read_ends_when_it_is_cancelled() {
        let (near, _other) = pipe("cancel");
        let cancel = Cancel::default();
        let limits = Limits {
            timeout: None,
            cancel: cancel.clone(),
        };
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        let failure = near.read(&mut [0; 8], &limits).unwrap_err();
        assert_eq!(failure.condition(), Condition::Cancelled);
        assert_eq!(failure.status_name(), Some("STATUS_CANCELLED"));
        later.join().unwrap();
        assert_eq!(
            near.read(&mut [0; 8], &limits),
            Err(Failure::cancelled()),
            "and every later one"
        );
    }

    #[test]
    fn what_is_not_there_cannot_be_opened() {
        let failure = File::open(r"\\.\ParscanNothing").err().unwrap();
        assert_eq!(failure.condition(), Condition::NotFound);
        assert_eq!(failure.win32, 2);
        assert_eq!(failure.status_name(), Some("STATUS_OBJECT_NAME_NOT_FOUND"));
    }

    #[test]
    fn a_request_that_the_device_does_not_know_fails() {
        let (near, _other) = pipe("control");
        let failure = near
            .control(0x0016_0004, &[], &mut [0], &Limits::default())
            .unwrap_err();
        assert_ne!(failure.win32, 0);
        assert!(failure.status.is_some(), "{failure}");
    }
}

use std::fmt;

use crate::Status;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The Win32 error, as `GetLastError` has it.
    pub win32: u32,
    /// The status behind it, if Windows told. Several statuses share a Win32 error.
    pub status: Option<Status>,
    /// Bytes that moved nevertheless.
    pub transferred: usize,
}

/// What a [`Failure`] means to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The printer is out of paper.
    PaperEmpty,
    /// The printer has no power.
    PoweredOff,
    /// The printer is off-line.
    OffLine,
    /// The device is not ready; Windows does not tell whether it is off-line, switched off or not
    /// started.
    NotReady,
    /// Nothing is attached.
    NotConnected,
    /// Another one uses the port, and did so until the driver gave up.
    Busy,
    /// This user may not, or the device is open already.
    AccessDenied,
    /// There is no device of that name.
    NotFound,
    /// The device is being removed, or was.
    Removed,
    /// The request was cancelled.
    Cancelled,
    /// The time was over.
    TimedOut,
    /// The device did not do what the protocol demands.
    Protocol,
    /// The driver does not know this request.
    Unsupported,
    /// The driver does not take these arguments; a parallel driver also says so of a request that
    /// it does not know.
    InvalidParameter,
    /// Something else.
    Other,
}

/// Win32 errors, their names (winerror.h) and meanings, as far as a device request meets them.
const WIN32: &[(u32, &str, Condition)] = &[
    (1, "ERROR_INVALID_FUNCTION", Condition::Unsupported),
    (2, "ERROR_FILE_NOT_FOUND", Condition::NotFound),
    (3, "ERROR_PATH_NOT_FOUND", Condition::NotFound),
    (5, "ERROR_ACCESS_DENIED", Condition::AccessDenied),
    (6, "ERROR_INVALID_HANDLE", Condition::Other),
    (8, "ERROR_NOT_ENOUGH_MEMORY", Condition::Other),
    (21, "ERROR_NOT_READY", Condition::NotReady),
    (22, "ERROR_BAD_COMMAND", Condition::Other),
    (28, "ERROR_OUT_OF_PAPER", Condition::PaperEmpty),
    (31, "ERROR_GEN_FAILURE", Condition::Other),
    (32, "ERROR_SHARING_VIOLATION", Condition::AccessDenied),
    (50, "ERROR_NOT_SUPPORTED", Condition::Unsupported),
    (55, "ERROR_DEV_NOT_EXIST", Condition::Removed),
    (87, "ERROR_INVALID_PARAMETER", Condition::InvalidParameter),
    (121, "ERROR_SEM_TIMEOUT", Condition::TimedOut),
    (122, "ERROR_INSUFFICIENT_BUFFER", Condition::Other),
    (123, "ERROR_INVALID_NAME", Condition::NotFound),
    (170, "ERROR_BUSY", Condition::Busy),
    (303, "ERROR_DELETE_PENDING", Condition::Removed),
    (433, "ERROR_NO_SUCH_DEVICE", Condition::Removed),
    (995, "ERROR_OPERATION_ABORTED", Condition::Cancelled),
    (998, "ERROR_NOACCESS", Condition::Other),
    (1060, "ERROR_SERVICE_DOES_NOT_EXIST", Condition::NotFound),
    (1117, "ERROR_IO_DEVICE", Condition::Protocol),
    (1167, "ERROR_DEVICE_NOT_CONNECTED", Condition::NotConnected),
    (1450, "ERROR_NO_SYSTEM_RESOURCES", Condition::Other),
    (1460, "ERROR_TIMEOUT", Condition::TimedOut),
    (1617, "ERROR_DEVICE_REMOVED", Condition::Removed),
];

/// Meanings, and the statuses that have them.
const STATUSES: &[(Condition, &[u32])] = &[
    (Condition::TimedOut, &[0x0000_0102, 0xC000_00B5]),
    (Condition::PaperEmpty, &[0x8000_000E]),
    (Condition::PoweredOff, &[0x8000_000F]),
    (Condition::OffLine, &[0x8000_0010]),
    (Condition::Busy, &[0x8000_0011]),
    (Condition::Other, &[0xC000_0001, 0xC000_0005, 0xC000_0184]),
    (Condition::InvalidParameter, &[0xC000_000D]),
    (Condition::Removed, &[0xC000_000E, 0xC000_0056, 0xC000_02B6]),
    (Condition::Unsupported, &[0xC000_0010, 0xC000_00BB]),
    (Condition::AccessDenied, &[0xC000_0022, 0xC000_0043]),
    (Condition::NotFound, &[0xC000_0034]),
    (Condition::NotConnected, &[0xC000_009D]),
    (Condition::NotReady, &[0xC000_00A3]),
    (Condition::Cancelled, &[0xC000_0120]),
    (Condition::Protocol, &[0xC000_0185, 0xC000_0186]),
];

/// Names of statuses that have none in the driver's list.
const NAMES: &[(u32, &str)] = &[
    (0x8000_0011, "STATUS_DEVICE_BUSY"),
    (0xC000_0005, "STATUS_ACCESS_VIOLATION"),
    (0xC000_0043, "STATUS_SHARING_VIOLATION"),
    (0xC000_00B5, "STATUS_IO_TIMEOUT"),
    (0xC000_0184, "STATUS_INVALID_DEVICE_STATE"),
];

impl Failure {
    /// The caller had cancelled it before it began.
    #[cfg_attr(not(windows), allow(dead_code, reason = "only Windows has requests"))]
    pub(crate) const fn cancelled() -> Self {
        Self {
            win32: 995,
            status: None,
            transferred: 0,
        }
    }

    /// The request was ended by the caller's own time-out.
    #[cfg_attr(not(windows), allow(dead_code, reason = "only Windows has requests"))]
    pub(crate) const fn timed_out(transferred: usize) -> Self {
        Self {
            win32: 1460,
            status: None,
            transferred,
        }
    }

    /// What it means: by the status if there is one that says more than the Win32 error.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let by_status = self.status.and_then(|status| {
            STATUSES
                .iter()
                .find(|(_, values)| values.contains(&status.0.cast_unsigned()))
                .map(|(condition, _)| *condition)
        });
        by_status
            .or_else(|| {
                WIN32
                    .iter()
                    .find(|(value, ..)| *value == self.win32)
                    .map(|(.., condition)| *condition)
            })
            .unwrap_or(Condition::Other)
    }

    /// The name of the Win32 error, if it is one that devices fail with.
    #[must_use]
    pub fn win32_name(&self) -> Option<&'static str> {
        WIN32
            .iter()
            .find(|(value, ..)| *value == self.win32)
            .map(|(_, name, _)| *name)
    }

    /// The name of the status, if it is one that devices fail with.
    #[must_use]
    pub fn status_name(&self) -> Option<&'static str> {
        let status = self.status?;
        status.name().or_else(|| {
            NAMES
                .iter()
                .find(|(value, _)| *value == status.0.cast_unsigned())
                .map(|(_, name)| *name)
        })
    }
}

/// `STATUS_DEVICE_PAPER_EMPTY 0x8000000E (ERROR_OUT_OF_PAPER 28)`
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let win32 = self.win32_name().unwrap_or("Win32 error");
        match self.status {
            Some(status) => write!(
                f,
                "{} 0x{:08X} ({win32} {})",
                self.status_name().unwrap_or("NTSTATUS"),
                status.0,
                self.win32
            ),
            None => write!(f, "{win32} {}", self.win32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(win32: u32, status: Option<u32>) -> Failure {
        Failure {
            win32,
            status: status.map(|status| Status(status.cast_signed())),
            transferred: 0,
        }
    }

    #[test]
    fn the_status_says_more_than_the_win32_error() {
        for (win32, status, condition) in [
            (21, Some(0x8000_000F), Condition::PoweredOff),
            (21, Some(0x8000_0010), Condition::OffLine),
            (21, None, Condition::NotReady),
            (28, None, Condition::PaperEmpty),
            (170, None, Condition::Busy),
            (5, Some(0xC000_0056), Condition::Removed),
            (5, Some(0xC000_0022), Condition::AccessDenied),
            (995, Some(0xC000_0120), Condition::Cancelled),
            (1460, Some(0x102), Condition::TimedOut),
            (121, Some(0xC000_00B5), Condition::TimedOut),
            (31, Some(0xC000_0001), Condition::Other),
            (1, Some(0xC012_3456), Condition::Unsupported),
            (0x7FFF_FFFF, None, Condition::Other),
        ] {
            assert_eq!(
                failure(win32, status).condition(),
                condition,
                "{win32} {status:?}"
            );
        }
    }

    #[test]
    fn both_names_are_shown() {
        assert_eq!(
            failure(28, Some(0x8000_000E)).to_string(),
            "STATUS_DEVICE_PAPER_EMPTY 0x8000000E (ERROR_OUT_OF_PAPER 28)"
        );
        assert_eq!(
            failure(170, Some(0x8000_0011)).to_string(),
            "STATUS_DEVICE_BUSY 0x80000011 (ERROR_BUSY 170)"
        );
        assert_eq!(failure(21, None).to_string(), "ERROR_NOT_READY 21");
        assert_eq!(
            failure(4711, Some(0xC012_3456)).to_string(),
            "NTSTATUS 0xC0123456 (Win32 error 4711)"
        );
    }

    #[test]
    fn every_status_has_one_name() {
        for value in STATUSES.iter().flat_map(|(_, values)| *values) {
            assert_ne!(failure(0, Some(*value)).status_name(), None, "{value:#x}");
        }
    }
}

//! What went wrong, what to do about it, and the exit code.

use std::{fmt::Write as _, io};

use parscan_client::{Condition, Error, Failure};
use serde::Serialize;

use crate::render::{bytes, json_line};

/// How the program ends. The table in `--help` is [`EXIT_CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    NotFound,
    Denied,
    DeviceNotReady,
    TimedOut,
    Unhealthy,
    NotWindows,
    Cancelled,
}

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  something else failed; the message says what
    2  the command line is wrong
    3  there is no such device, or it went away
    4  this user may not, or somebody else has the device
    5  the device is not ready: no paper, off-line, no power, nothing attached
    6  it took too long
    7  doctor has found something to do
    8  this is not Windows
  130  ended by Ctrl-C";

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::DeviceNotReady => 5,
            Self::TimedOut => 6,
            Self::Unhealthy => 7,
            Self::NotWindows => 8,
            Self::Cancelled => 130,
        }
    }
}

/// How far a transfer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// Bytes that moved
    pub(crate) bytes: u64,
    /// Bytes that should have, where that is known
    pub(crate) total: Option<u64>,
}

/// Why the program failed.
#[derive(Debug)]
pub(crate) enum Complaint {
    /// The device, its driver or Windows
    Device {
        error: Error,
        /// In a transfer
        progress: Option<Progress>,
    },
    /// A file of the user
    File { what: String, error: io::Error },
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self::Device {
            error,
            progress: None,
        }
    }
}

/// Standard output and input fail like files.
impl From<io::Error> for Complaint {
    fn from(error: io::Error) -> Self {
        Self::File {
            what: "standard output".to_owned(),
            error,
        }
    }
}

/// The complaint in JSON.
#[derive(Serialize)]
struct Object<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: String,
    request: Option<&'static str>,
    status: Option<&'static str>,
    status_value: Option<u32>,
    win32: Option<&'static str>,
    win32_value: Option<u32>,
    progress: Option<Progress>,
    remedy: Option<&'a str>,
    exit_code: u8,
}

impl Complaint {
    /// A complaint about a file.
    pub(crate) fn file(what: &str) -> impl Fn(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |error| Self::File {
            what: what.clone(),
            error,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        let Self::Device { error, .. } = self else {
            return Exit::Failed;
        };
        match error {
            Error::NeedsWindows => Exit::NotWindows,
            Error::NotFound { .. } => Exit::NotFound,
            Error::Ambiguous { .. } | Error::TooLong { .. } | Error::Program(_) => Exit::Usage,
            Error::ShortAnswer { .. } => Exit::Failed,
            Error::Failed { failure, .. } => match failure.condition() {
                Condition::PaperEmpty
                | Condition::PoweredOff
                | Condition::OffLine
                | Condition::NotReady
                | Condition::NotConnected => Exit::DeviceNotReady,
                Condition::Busy | Condition::AccessDenied => Exit::Denied,
                Condition::NotFound | Condition::Removed => Exit::NotFound,
                Condition::TimedOut => Exit::TimedOut,
                Condition::Cancelled => Exit::Cancelled,
                Condition::Protocol
                | Condition::Unsupported
                | Condition::InvalidParameter
                | Condition::Other => Exit::Failed,
            },
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Device { error, .. } => {
                meaning(error).map_or_else(|| error.to_string(), |what| format!("{what}: {error}"))
            }
            Self::File { what, error } => format!("{what}: {error}"),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Device { error, .. } => remedy(error),
            Self::File { .. } => None,
        }
    }

    fn failure(&self) -> Option<(&'static str, &Failure)> {
        match self {
            Self::Device {
                error: Error::Failed { request, failure },
                ..
            } => Some((request, failure)),
            _ => None,
        }
    }

    const fn progress(&self) -> Option<Progress> {
        match self {
            Self::Device { progress, .. } => *progress,
            Self::File { .. } => None,
        }
    }

    /// For people, on standard error.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message());
        if let Some(Progress {
            bytes: moved,
            total,
        }) = self.progress()
        {
            let _ = match total {
                Some(total) => writeln!(text, "  {moved} of {} transferred", bytes(total)),
                None => writeln!(text, "  {} transferred", bytes(moved)),
            };
        }
        if let Some(remedy) = self.remedy() {
            let _ = writeln!(text, "  {remedy}");
        }
        text
    }

    /// For programs, on standard output.
    pub(crate) fn json(&self) -> String {
        let failure = self.failure();
        json_line(&Object {
            error: Body {
                message: self.message(),
                request: failure.map(|(request, _)| request),
                status: failure.and_then(|(_, failure)| failure.status_name()),
                status_value: failure
                    .and_then(|(_, failure)| Some(failure.status?.0.cast_unsigned())),
                win32: failure.and_then(|(_, failure)| failure.win32_name()),
                win32_value: failure.map(|(_, failure)| failure.win32),
                progress: self.progress(),
                remedy: self.remedy(),
                exit_code: self.exit().code(),
            },
        })
    }
}

/// What happened, in plain words.
fn meaning(error: &Error) -> Option<&'static str> {
    if is_about_edges(error) {
        return Some("the port serves no edges");
    }
    Some(match error.condition()? {
        Condition::PaperEmpty => "the printer is out of paper",
        Condition::PoweredOff => "the printer has no power",
        Condition::OffLine => "the printer is off-line",
        Condition::NotReady => "the device is not ready",
        Condition::NotConnected => "nothing is attached to the port",
        Condition::Busy => "somebody else uses the port",
        Condition::AccessDenied => "access denied",
        Condition::NotFound => "there is no such device",
        Condition::Removed => "the device was removed",
        Condition::Cancelled => "cancelled",
        Condition::TimedOut => "it took too long",
        Condition::Protocol => "the device did not answer as it should",
        Condition::Unsupported => "the driver does not know this request",
        Condition::InvalidParameter => "the driver refuses the request or its arguments",
        Condition::Other => return None,
    })
}

/// Whether a port of parscan says that programs may not wait for its edges.
fn is_about_edges(error: &Error) -> bool {
    matches!(error, Error::Failed { request: "IOCTL_PARSCAN_WAIT_EDGE", failure }
        if failure.condition() == Condition::Unsupported)
}

/// What the user can do.
fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        error if is_about_edges(error) => {
            "It needs ParscanWaitEdge = 1 in its hardware key and a restart of the device, and then an \
             edge-triggered interrupt that Windows has left for it."
        }
        Error::NeedsWindows => "Run parscanctl.exe on the Windows computer that has the device.",
        Error::NotFound { .. } => {
            "`parscanctl list` shows what there is, `parscanctl doctor` why something is not there."
        }
        Error::Failed { request, failure } => match failure.condition() {
            Condition::PaperEmpty => "Put paper in, then try again.",
            Condition::PoweredOff => "Switch the printer on, then try again.",
            Condition::OffLine => "Put the printer on-line, look for a fault on its panel.",
            Condition::NotReady => {
                "It may be off-line, switched off, or not started: `parscanctl status` and \
                 `parscanctl doctor` say more."
            }
            Condition::NotConnected => "Check the cable and the printer's power.",
            Condition::Busy => "Try again when the other program has finished.",
            Condition::AccessDenied => {
                "A port can be open once: close other programs that use it. By default only who is \
                 logged on at this computer may open it; from elsewhere, as a service or with \
                 another descriptor, an administrator may."
            }
            Condition::NotFound | Condition::Removed => {
                "`parscanctl list` shows what there is now."
            }
            Condition::TimedOut if matches!(*request, "ReadFile" | "WriteFile") => {
                "Give it more time with --timeout."
            }
            Condition::Protocol => {
                "The device may not speak this mode, or have no device ID: see `parscanctl caps`."
            }
            Condition::Unsupported | Condition::InvalidParameter => {
                "`parscanctl doctor` says which driver this is."
            }
            Condition::Other if *request == "IOCTL_IEEE1284_NEGOTIATE" => {
                "Port or device have none of these modes: `parscanctl caps` lists those that they have."
            }
            Condition::TimedOut | Condition::Cancelled | Condition::Other => return None,
        },
        Error::Ambiguous { .. } => "Name one with --port or --scanner.",
        Error::ShortAnswer { .. } | Error::TooLong { .. } | Error::Program(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Denied,
            Exit::DeviceNotReady,
            Exit::TimedOut,
            Exit::Unhealthy,
            Exit::NotWindows,
            Exit::Cancelled,
        ] {
            assert!(
                EXIT_CODES
                    .lines()
                    .any(|line| line.starts_with(&format!("{:5}  ", exit.code()))),
                "{exit:?}"
            );
        }
    }
}

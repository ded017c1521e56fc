use std::fmt;

use parscan_core::ioctl::parallel::port_programs::Mistake;

use crate::{Condition, Failure, InterfaceClass};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// This program does not run on Windows.
    NeedsWindows,
    /// There is no such device.
    NotFound {
        /// What was looked for
        class: InterfaceClass,
        /// Its name, if one was given
        name: Option<String>,
        /// The names that there are
        known: Vec<String>,
    },
    /// There are several devices, and no name was given.
    Ambiguous {
        /// What was looked for
        class: InterfaceClass,
        /// The names that there are
        known: Vec<String>,
    },
    /// Windows or the driver refused.
    Failed {
        /// The request or function that failed, by its name in Windows' headers
        request: &'static str,
        /// How
        failure: Failure,
    },
    /// The driver's answer is shorter than its structure.
    ShortAnswer {
        /// The request
        request: &'static str,
        /// Bytes that came
        bytes: usize,
    },
    /// A port program that the driver would refuse.
    Program(Mistake),
    /// More bytes than a request of USB can carry: its length has 16 bits.
    TooLong {
        /// Bytes that were asked for
        bytes: usize,
    },
}

impl Error {
    /// What it means, if Windows or the driver refused.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Failed { failure, .. } => Some(failure.condition()),
            _ => None,
        }
    }

    /// Bytes that moved before it failed.
    #[must_use]
    pub fn transferred(&self) -> usize {
        match self {
            Self::Failed { failure, .. } => failure.transferred,
            _ => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsWindows => f.write_str("this needs Windows: there are no such devices here"),
            Self::NotFound { class, name, known } => {
                match name {
                    Some(name) => write!(f, "there is no {class} {name}")?,
                    None => write!(f, "there is no {class}")?,
                }
                if known.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; there is {}", known.join(", "))
                }
            }
            Self::Ambiguous { class, known } => write!(
                f,
                "there is more than one {class}, say which: {}",
                known.join(", ")
            ),
            Self::Failed { request, failure } => write!(f, "{request} failed: {failure}"),
            Self::ShortAnswer { request, bytes } => {
                write!(
                    f,
                    "{request} answered with {bytes} bytes, which is too short"
                )
            }
            Self::Program(mistake) => write!(
                f,
                "instruction {} of the program: {}",
                mistake.instruction, mistake.what
            ),
            Self::TooLong { bytes } => {
                write!(f, "{bytes} bytes are more than the 65535 of a USB request")
            }
        }
    }
}

impl std::error::Error for Error {}

//! A broken rule, and why a driver is not loaded.

use core::fmt;

use crate::{Nanos, NtStatus, Rule, UnknownImport};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bugcheck {
    /// Which rule.
    pub rule: Rule,
    /// What happened.
    pub what: String,
    /// Driver and offset in its image, innermost first: the kernel call or the faulting
    /// instruction, then its callers. Empty for what shows only after the driver returned.
    pub frames: Vec<(String, u32)>,
    /// When, virtual nanoseconds.
    pub at: Nanos,
}

impl fmt::Display for Bugcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] {}: {}",
            self.rule.id, self.rule.code, self.rule.text, self.what
        )?;
        for (i, (name, rva)) in self.frames.iter().enumerate() {
            let word = if i == 0 { " at" } else { "," };
            write!(f, "{word} {name}+{rva:#x}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Bugcheck {}

/// Why a driver is not loaded.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The file is not a driver image.
    Image(String),
    /// Functions that this machine does not export, all of them.
    UnknownImports(Vec<UnknownImport>),
    /// DriverEntry failed; the image is unloaded again.
    EntryFailed(NtStatus),
    /// A rule was broken.
    Bugcheck(Bugcheck),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(what) => write!(f, "not a driver image: {what}"),
            Self::UnknownImports(list) => {
                write!(f, "functions that ntsim does not export:")?;
                for i in list {
                    write!(f, " {}!{}", i.module, i.name)?;
                }
                Ok(())
            }
            Self::EntryFailed(status) => write!(f, "DriverEntry returned {status}"),
            Self::Bugcheck(check) => check.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<Bugcheck> for LoadError {
    fn from(check: Bugcheck) -> Self {
        Self::Bugcheck(check)
    }
}

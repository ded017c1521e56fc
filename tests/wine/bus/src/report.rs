//! What the driver under test does wrong, and what the bench says on Wine's debug output.

use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write as _};

use crate::{lock::Lock, nt};

/// A line on the debug output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::report::line(format_args!($($arg)*)) };
}
pub(crate) use say;

/// A rule of the kernel that the driver broke.
macro_rules! broken {
    ($($arg:tt)*) => { $crate::report::broken_rule(format_args!($($arg)*)) };
}
pub(crate) use broken;

/// More are not kept.
const MOST: usize = 100;

static BROKEN: Lock<Vec<String>> = Lock::new(Vec::new());

pub(crate) fn line(what: fmt::Arguments<'_>) {
    let mut text = String::from("parscan bench: ");
    let _ = text.write_fmt(what);
    text.push('\0');
    // SAFETY: two strings that end with zero, for a format of one.
    unsafe { nt::DbgPrint(c"%s\n".as_ptr(), text.as_ptr()) };
}

pub(crate) fn broken_rule(what: fmt::Arguments<'_>) {
    line(format_args!("RULE BROKEN: {what}"));
    let mut broken = BROKEN.lock();
    if broken.len() < MOST {
        broken.push(alloc::format!("rule broken: {what}"));
    }
}

/// Every rule that was broken.
pub(crate) fn all() -> Vec<String> {
    BROKEN.lock().clone()
}

//! The kernel's structures and functions.

pub(crate) use kernel_declarations::*;

pub(crate) const TAG: u32 = u32::from_le_bytes(*b"PClt");

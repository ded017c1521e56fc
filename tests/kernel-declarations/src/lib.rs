//! The kernel's functions and structures, as far as the drivers of the tests use them, written from
//! the documentation of wdm.h and not taken from parscan.
//!
//! | module | what it has |
//! |---|---|
//! | [`types`] | structures with wdm.h's members at their x64 places, statuses, constants |
//! | [`functions`] | what `ntoskrnl.exe` exports |
//! | [`control_device`] | the named device of a driver that has no hardware |
//! | `crash` | the panic handler |
//!
//! Built for Windows targets only; elsewhere the crate is empty.
#![cfg_attr(windows, no_std)]

#[cfg(windows)]
pub mod control_device;
#[cfg(windows)]
mod crash;
#[cfg(windows)]
pub mod functions;
#[cfg(windows)]
pub mod types;

#[cfg(windows)]
pub use functions::*;
#[cfg(windows)]
pub use types::*;

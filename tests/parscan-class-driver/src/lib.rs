//! A kernel client of parallel ports: a driver that uses another driver's ports and devices as the
//! documentation of parallel.h tells, and does what a test tells it.
//!
//! It makes `\Device\ParscanClient`, which a test opens as `\\.\ParscanClient`. Every control
//! request to it is a command of [`puppet`]; whatever the command does, it is done here, in kernel
//! mode, as a class driver would do it.
//!
//! | module | what it is about |
//! |---|---|
//! | [`puppet`] | the commands, as the test sees them |
//! | `nt` | the kernel's structures and functions, as far as they are used |
//! | `kernel` | safe forms of them |
//! | `driver` | DriverEntry, requests, unload |
//! | `slot` | open devices, and the callback tables that they gave |
//! | `request` | requests to them |
//! | `interrupt` | interrupt and deferred routines for the port driver to call |
//! | `transfer` | a class driver's whole day: open, connect, lock, transfer, and back |
//! | `contend` | many clients that want one port |
//!
//! Built for Windows targets only; elsewhere the crate is the commands alone.
#![cfg_attr(windows, no_std)]

mod parallel_h;
pub mod puppet;

#[cfg(windows)]
mod contend;
#[cfg(windows)]
mod driver;
#[cfg(windows)]
mod interrupt;
#[cfg(windows)]
mod kernel;
#[cfg(windows)]
mod nt;
#[cfg(windows)]
mod request;
#[cfg(windows)]
mod slot;
#[cfg(windows)]
mod transfer;

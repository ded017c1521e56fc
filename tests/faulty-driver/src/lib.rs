//! A small PnP driver with one child device, well behaved unless told to commit a sin.
//!
//! Requests with codes from [`CODE_SIN`] on, or the value `Sin` of the service's `Parameters` key,
//! choose one broken rule each; `ntsim`'s tests check that the simulated machine names it. Built
//! for Windows targets only; elsewhere the crate is empty.
#![cfg_attr(windows, no_std)]
#![allow(
    clippy::wildcard_imports,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "this driver exists to be wrong: the machine checks it, not the reader"
)]

#[cfg(windows)]
mod api;
#[cfg(windows)]
mod client;
#[cfg(windows)]
mod driver;
#[cfg(windows)]
mod power;
#[cfg(windows)]
mod seh;
#[cfg(windows)]
mod server;
#[cfg(windows)]
mod sins;
#[cfg(windows)]
mod usb;
#[cfg(windows)]
mod user;

/// First control code of the sins: `CTL_CODE(FILE_DEVICE_UNKNOWN, 0x900, METHOD_BUFFERED,
/// FILE_ANY_ACCESS)`; the sin's number times four is added, and the method that a sin wants.
pub const CODE_SIN: u32 = 0x0022_2400;

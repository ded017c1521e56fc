//! A kernel driver that completes every request at once: what a request costs at least.
//!
//! It makes `\Device\ParscanNull`, which is opened as `\\.\ParscanNull`. Every request succeeds with
//! Information 0 and touches nothing but its IRP. The control code [`codes::HELD`] does the same while it
//! holds a remove lock, which every driver of a device that can be removed owes to every request.
//!
//! Built for Windows targets only; elsewhere the crate is the codes alone.
#![cfg_attr(windows, no_std)]

pub mod codes;

#[cfg(windows)]
mod driver;

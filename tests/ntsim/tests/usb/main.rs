//! URBs by hand against the USB bus driver and the scanner model.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod driver;
mod rules;
mod transfers;
mod wire;

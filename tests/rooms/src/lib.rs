//! The rooms of the driver that need no kernel, compiled for the host.
//!
//! `src/ioctl` and `src/ieee1284` are mounted here from the driver's own sources, so that their
//! tests run with plain `cargo test` and under Miri, without Microsoft's kit and without Windows.
#![cfg_attr(not(test), no_std)]

#[path = "../../../src/ieee1284/mod.rs"]
pub mod ieee1284;
#[path = "../../../src/ioctl/mod.rs"]
pub mod ioctl;

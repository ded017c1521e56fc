//! The modules of the driver that need no kernel, as a library for other hosts: the user's programs
//! parse and emit with the driver's own code.
//!
//! `src/ioctl`, `src/ieee1284`, `src/sharing`, `src/trace` and `src/usb` are mounted here from the
//! driver's own sources, so that their tests run with plain `cargo test` and under Miri, without Microsoft's kit
//! and without Windows. So are files of `src/kernel`, for tests: a list that needs no kernel, and
//! on a double of the kernel those whose memory several processors change.
#![cfg_attr(not(test), no_std)]

#[cfg(test)]
extern crate self as wdk_sys;

#[cfg(test)]
mod double;
#[path = "../../../src/ieee1284/mod.rs"]
pub mod ieee1284;
#[path = "../../../src/ioctl/mod.rs"]
pub mod ioctl;
#[cfg(test)]
mod kernel;
#[cfg(test)]
#[path = "../../../src/kernel/port/arbiter/wait_list.rs"]
mod places;
#[path = "../../../src/sharing/mod.rs"]
pub mod sharing;
#[path = "../../../src/trace/mod.rs"]
pub mod trace;
#[path = "../../../src/usb/mod.rs"]
pub mod usb;

#[cfg(test)]
pub use double::*;

/// What the chip of a port has beyond the first registers: two functions of an implementation of
/// [`ieee1284::Port`], for those who make one.
#[macro_export]
macro_rules! chip_has {
    (ecp: $ecp:expr, epp: $epp:expr) => {
        fn has_ecp(&self) -> bool {
            $ecp
        }

        fn has_epp(&self) -> bool {
            $epp
        }
    };
}

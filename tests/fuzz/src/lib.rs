//! What the fuzz targets do with their input. They are a library, so that ordinary tests can run
//! them, too.

use arbitrary::Arbitrary;

pub mod descriptors;
pub mod device_id;
pub mod engine;
pub mod ops;
pub mod peripheral;
pub mod port_program;
pub mod request;
pub mod usbscan_request;

#[allow(clippy::cast_possible_truncation, reason = "registers are bytes")]
#[path = "../../parscan-core/tests/wire/mod.rs"]
mod wire;

#[path = "../../parscan-core/tests/descriptors/mod.rs"]
mod set;

#[path = "../../parscan-core/tests/recorder/mod.rs"]
mod recorder;

/// A control code.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Code {
    /// One of the target's table.
    Known(u8),
    /// Any.
    Any(u32),
}

//! What the fuzz targets do with their input. They are a library, so that ordinary tests can run
//! them, too.

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

//! IEEE 1284 signalling: registers, status lines and what a host does with them.
//!
//! Everything here speaks to a [`Port`], which is an I/O range in the driver and a model in the
//! tests. Steps carry the event numbers of the standard where it has them. Nothing knows an IRP or
//! a kernel type; every wait is bounded and ends early when the port says so.
#![forbid(unsafe_code)]

mod condition;
mod initialize;
mod port;
mod registers;

pub use condition::Condition;
pub use initialize::{idle, initialize, read_condition};
pub use port::{Interrupted, Port, Register};
pub use registers::{Dcr, Dsr, Ecr};

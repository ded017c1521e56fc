//! IEEE 1284 signalling: registers, status lines and what a host does with them.
//!
//! Everything here speaks to a [`Port`], which is an I/O range in the driver and a model in the
//! tests. Steps carry the event numbers of the standard where it has them. Nothing knows an IRP or
//! a kernel type; every wait is bounded and ends early when the port says so.
//!
//! [`detect()`] finds out what the port can do. A [`Session`] is one peripheral on it: it chooses
//! modes, enters and leaves them, and moves bytes. Below it there is one file a mode, and below
//! those `lines`: the control lines, and waits for the peripheral's answers.
//!
//! Several peripherals on one port are a [`daisy`] chain, which connects one of them at a time. A
//! [`DeviceId`] is what a peripheral says it is; a [`PlugAndPlayId`] is what Windows makes of it.
#![forbid(unsafe_code)]

mod byte;
mod compatibility;
mod condition;
pub mod daisy;
mod detect;
mod device_id;
mod ecp;
mod epp;
mod fault;
mod fifo;
mod hardware_id;
mod initialize;
mod lines;
mod negotiate;
mod nibble;
mod port;
mod program;
mod quiet;
mod registers;
mod session;

pub use condition::Condition;
pub use detect::{Capabilities, Fifo, detect, fixed_ecr, has_byte};
pub use device_id::{DeviceId, IdLength};
pub use epp::end_epp;
pub use fault::Fault;
pub use hardware_id::{PlugAndPlayId, PlugAndPlayText};
pub use initialize::{initialize, read_condition};
pub use negotiate::Extensibility;
pub use port::{Access, Interrupted, Port, Register};
pub use program::{Ended, Outputs, TimedPort, run as run_program};
pub use quiet::{Before, steady_condition};
pub use registers::{CnfgA, Dcr, Dsr, Ecr};
pub use session::{Direction, Session, Transfer, Trouble};

//! Parallel ports and USB still-image devices from user mode.
//!
//! ```no_run
//! use parscan_client::{IeeeModes, Port};
//!
//! # fn main() -> Result<(), parscan_client::Error> {
//! for port in parscan_client::ports()? {
//!     println!("{} {}", port.name(), port.path);
//! }
//! let port = Port::open(Some("LPT1"))?;
//! port.initialize()?;
//! let chosen = port.negotiate(IeeeModes::NIBBLE, IeeeModes::ECP_ANY | IeeeModes::CENTRONICS)?;
//! println!("writing by {:?}: {} bytes", chosen.write, port.write(b"hello\r\n\x0C")?);
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//! | module | what is in it |
//! |---|---|
//! | [`Port`] | a device on a parallel port: ntddpar.h |
//! | [`PortProgram`], [`PortEdges`] | raw lines of a port, and edges of nAck, where the driver is parscan |
//! | [`Scanner`] | a still-image device: usbscan.h, with the layouts in [`usbscan`] |
//! | [`System`], [`Transport`] | what lies below: Windows, or a test's double |
//! | [`Error`], [`Failure`], [`Condition`] | what went wrong, with the NTSTATUS where Windows gives it |
//!
//! Devices are found by their interfaces, not by guessing names. All calls are synchronous for the
//! caller and overlapped below, so that each can have a time-out and be cancelled: see [`Limits`].
//! Nothing here but port programs and edges needs the driver to be parscan: the other requests are
//! those that Windows documents for its own drivers.
#![cfg_attr(not(windows), forbid(unsafe_code))]

mod device;
mod edges;
mod error;
mod failure;
mod find;
mod modes;
#[cfg(not(windows))]
mod other;
mod port;
mod program;
mod scanner;
mod transport;
pub mod usbscan;
#[cfg(windows)]
mod windows;

#[cfg(not(windows))]
pub use other::{Native, cancel_on_ctrl_c};
#[cfg(windows)]
pub use windows::{Native, cancel_on_ctrl_c};

pub use device::{
    DeviceNode, Interface, InterfaceClass, Package, Service, ServiceState, SetupClass,
};
pub use edges::PortEdges;
pub use error::Error;
pub use failure::{Condition, Failure};
pub use find::{list, ports, scanners};
pub use modes::{ModeError, mode_names, parse_modes};
pub use parscan_core::{
    ieee1284::DeviceId,
    ioctl::{
        self, Status,
        parallel::{IeeeModes, NegotiationMask, ParStatus, SerialTimeouts},
    },
};
pub use port::Port;
pub use program::{PortProgram, PortProgramRun};
pub use scanner::{Data, Scanner};
pub use transport::{Cancel, Limits, Moved, System, Transport};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

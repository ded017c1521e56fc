//! Models of parallel port chips and printers: the hardware half of a simulated PC.
//!
//! A driver's `in` and `out` instructions reach a [`PortDevice`]; the lines of the connector run
//! from there to a [`Peripheral`]. The rooms:
//!
//! - [`PortDevice`]: what answers on a block of I/O ports.
//! - [`Spp`]: the standard parallel port chip, with one [`Peripheral`] on its connector.
//! - [`Printer`]: a Centronics printer that a test can turn off, run out of paper, unplug …
//! - [`LineTrace`]: what a logic analyser on the connector records.
//! - `waveform` (feature `std`): that recording as a VCD file or as a text diagram.
//! - `qemu` (feature `std`): QEMU's isa-parallel as a `PortDevice`, a chip written by others.
//!
//! Time is virtual: every access carries its time, and nothing here waits. The models are written
//! from public descriptions of IEEE 1284 and share no code or table with the driver that they test.
//!
//! ```
//! use parscan_models::{Condition, Line, PortDevice, Printer, Spp, Width};
//!
//! let printer = Printer::new();
//! let mut port = Spp::new(Box::new(printer.clone()));
//! assert_eq!(port.read(1_000, 0, 1, Width::Byte) & 0xF8, 0xD8); // DSR: ready
//!
//! printer.set_condition(Condition::PaperEmpty);
//! assert_eq!(port.read(2_000, 0, 1, Width::Byte) & 0xF8, 0x70);
//!
//! port.write(3_000, 0, 2, Width::Byte, 0x08); // DCR: nInit low …
//! port.write(103_000, 0, 2, Width::Byte, 0x0C); // … for 100 us
//! assert_eq!(printer.resets(), 1);
//! let trace = port.trace().unwrap();
//! assert_eq!(trace.pulses(Line::NInit, false)[0].duration, 100_000);
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod line;
mod peripheral;
mod port;
mod printer;
mod spp;
mod trace;

#[cfg(feature = "std")]
pub mod qemu;
#[cfg(feature = "std")]
pub mod waveform;

pub use line::{HostLines, Levels, Line, PeripheralLines, Side};
pub use peripheral::{Peripheral, Unconnected};
pub use port::{Nanos, PortDevice, Width};
pub use printer::{Condition, Printer, Violation, ViolationKind};
pub use spp::Spp;
pub use trace::{Edge, LineTrace, Pulse, Sample};

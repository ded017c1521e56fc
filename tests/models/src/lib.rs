//! Models of parallel port chips, printers and a USB scanner: the hardware half of a simulated PC.
//!
//! A driver's `in` and `out` instructions reach a [`PortDevice`]; the lines of the connector run
//! from there to a [`Peripheral`]. The modules:
//!
//! - [`PortDevice`]: what answers on a block of I/O ports.
//! - [`Spp`], [`Ps2`], [`Epp`], [`Ecp`]: the port chips, each with one [`Peripheral`] on its
//!   connector. `Ecp` has the FIFO, and EPP if wanted.
//! - [`Printer`]: a Centronics printer that a test can turn off, run out of paper, unplug …
//! - [`Peripheral1284`]: a device with every IEEE 1284 mode, which watches the host and can
//!   [misbehave](Misbehaviour).
//! - [`DaisyChain`]: IEEE 1284.3 devices in a row, with any peripheral at the end.
//! - [`UsbFunction`]: what answers on a USB cable; [`Scanner`]: a still-image device that can
//!   misbehave, also in its [descriptors](DescriptorSet::hostile).
//! - [`LineTrace`]: what a logic analyser on the connector records.
//! - `waveform` (feature `std`): that recording as a VCD file, a text diagram or an SVG picture.
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
//!
//! A negotiation, and what the device saw of it:
//!
//! ```
//! use parscan_models::{Peripheral1284, Phase, PortDevice, Ps2, Width, extensibility};
//!
//! let device = Peripheral1284::new();
//! let mut port = Ps2::new(Box::new(device.clone()));
//! let mut now = 0;
//! let mut write = |offset, value| {
//!     now += 1_000;
//!     port.write(now, 0, offset, Width::Byte, value);
//! };
//! write(0, extensibility::ECP.into());
//! write(2, 0x06); // event 1: nSelectIn high, nAutoFd low
//! write(2, 0x07); // event 3: nStrobe low
//! write(2, 0x04); // event 4: nStrobe and nAutoFd high
//! assert_eq!(device.phase(), Phase::EcpForward);
//! assert_eq!(port.read(now + 1_000, 0, 1, Width::Byte) & 0x10, 0x10); // XFlag
//! assert!(device.violations().is_empty());
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

/// Builders of a handle whose state its clones share.
macro_rules! options {
    ($handle:ty, $state:ty: $(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $t:ty)?) = $set:expr;
    )*) => {
        impl $handle { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(self $(, $arg: $t)?) -> Self {
                let set: fn(&mut $state $(, $t)?) = $set;
                set(&mut self.0.borrow_mut() $(, $arg)?);
                self
            }
        )* }
    };
}

/// What can be read off such a handle.
macro_rules! views {
    ($handle:ty, $state:ty: $(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $t:ty)?) -> $seen:ty = $look:expr;
    )*) => {
        impl $handle { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self $(, $arg: $t)?) -> $seen {
                let look: fn(&$state $(, $t)?) -> $seen = $look;
                look(&self.0.borrow() $(, $arg)?)
            }
        )* }
    };
}

/// What makes such a handle a [`Peripheral`]: its state has the functions of the same names; with
/// more functions of the trait, if it has them. And its default, which is a new one.
macro_rules! shared_peripheral {
    ($handle:ty $(, $more:item)*) => {
        impl Default for $handle {
            fn default() -> Self {
                Self::new()
            }
        }

        impl $crate::Peripheral for $handle {
            fn host_changed(&mut self, now: $crate::Nanos, host: $crate::HostLines) {
                self.0.borrow_mut().host_changed(now, host);
            }

            fn lines(&mut self, now: $crate::Nanos) -> $crate::PeripheralLines {
                let mut state = self.0.borrow_mut();
                state.advance(now);
                state.lines()
            }

            fn next_change(&self, now: $crate::Nanos) -> Option<$crate::Nanos> {
                self.0.borrow().next_change(now)
            }

            $($more)*
        }
    };
}

mod chip;
mod daisy;
mod line;
mod peripheral;
mod peripheral1284;
mod port;
mod port_program;
mod printer;
mod scanner;
mod trace;
mod usb;

#[cfg(feature = "std")]
pub mod qemu;
#[cfg(feature = "std")]
pub mod waveform;

pub use chip::{ChipViolation, ChipViolationKind, Ecp, Epp, EppVersion, Ps2, Spp, TimeoutClear};
pub use daisy::{CppViolation, CppViolationKind, DaisyChain, DaisyMisbehaviour};
pub use line::{HostLines, Levels, Line, PeripheralLines, Side};
pub use peripheral::{Loopback, Peripheral, Unconnected};
pub use peripheral1284::{Channel, Misbehaviour, Peripheral1284, Phase, extensibility};
pub use port::{Nanos, PortDevice, Width};
pub use port_program::{PortAccess, ProgramTrace, check_program};
pub use printer::{Condition, Printer, Violation, ViolationKind};
pub use scanner::{DescriptorSet, Scanner};
pub use trace::{Edge, LineTrace, Pulse, Sample};
pub use usb::{Answer, Endpoint, Setup, Speed, UsbFunction};

//! Port chips.

/// [`PortDevice`](crate::PortDevice) of a chip whose registers are bytes, in `read_byte` and
/// `write_byte`; with more functions of the trait, if it has them.
macro_rules! byte_wide_port {
    ($chip:ty $(, $more:item)*) => {
        const _: () = {
            use $crate::{LineTrace, Nanos, PortDevice, Width, chip};

            impl PortDevice for $chip {
                fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
                    self.base.connector.catch_up(now);
                    chip::read_bytes(offset, width, |offset| self.read_byte(block, offset))
                }

                fn write(
                    &mut self,
                    now: Nanos,
                    block: usize,
                    offset: u16,
                    width: Width,
                    value: u32,
                ) {
                    self.base.connector.catch_up(now);
                    chip::write_bytes(offset, width, value, |offset, byte| {
                        self.write_byte(block, offset, byte);
                    });
                }

                fn advance(&mut self, now: Nanos) {
                    self.base.connector.look(now);
                }

                fn trace(&self) -> Option<&LineTrace> {
                    self.base.connector.trace()
                }

                $($more)*
            }
        };
    };
}

mod base;
mod connector;
mod ecp;
mod epp;
mod ps2;
mod spp;

pub use ecp::Ecp;
pub use epp::{Epp, EppVersion, TimeoutClear};
pub use ps2::Ps2;
pub use spp::Spp;

use crate::{Nanos, Width};

/// A rule about a chip's registers that software broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipViolation {
    /// When.
    pub time: Nanos,
    /// Which rule.
    pub kind: ChipViolationKind,
}

/// The rules that the chips watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChipViolationKind {
    /// The ECR went from mode `from` to mode `to` without 000 or 001 between, although one of them
    /// is a FIFO, test or configuration mode. The mode changes all the same.
    ModeChange {
        /// The mode left: ECR bits 7 to 5.
        from: u8,
        /// The mode entered.
        to: u8,
    },
    /// The ECR was set to a mode that this chip does not have: 101, or 100 without EPP. It then
    /// does nothing.
    NoSuchMode(u8),
    /// The ECR was written with something else than 00001 below its mode field, on a chip that has
    /// nothing there. It does not answer from then on.
    EcrLowBits(u8),
    /// DCR bit 5 changed in another ECR mode than 001. It changes all the same.
    DirectionChange,
    /// An ECR mode was left with this many bytes on their way to or from the FIFO. They are lost.
    BytesLost(usize),
    /// A byte was written to a full FIFO. It is lost.
    FifoOverrun,
    /// A byte was read from an empty FIFO. The last one is read again.
    FifoUnderrun,
    /// The FIFO was written in the reverse direction, or read in the forward direction.
    FifoDirection,
    /// DATA was written in an ECR mode in which the FIFO or nothing owns the data lines. The byte is
    /// lost.
    DataNotOwned,
    /// DCR held nStrobe or nAutoFd low when the FIFO began a byte, so that the hardware cannot move
    /// that line.
    ControlHeld,
    /// An EPP register was accessed while DCR did not leave nStrobe, nAutoFd, nSelectIn and nInit
    /// high. There is no EPP cycle.
    EppControl,
    /// An EPP access against the direction bit: a write with the drivers off, or, on a chip of EPP
    /// version 1.7, a read with the drivers on.
    EppDirection,
    /// DATA or DCR was written while the EPP time-out bit blocks them. The write is lost.
    BlockedByTimeout,
}

/// A list of broken rules that stays short whatever a program does.
#[derive(Debug, Default)]
struct Violations(alloc::vec::Vec<ChipViolation>);

impl Violations {
    /// More than a test reads, and little memory for one that does a thing wrong a million times.
    const MOST: usize = 4096;

    fn add(&mut self, time: Nanos, kind: ChipViolationKind) {
        if self.0.len() < Self::MOST {
            self.0.push(ChipViolation { time, kind });
        }
    }
}

/// A read of some width, as byte reads from the lowest offset up.
fn read_bytes(offset: u16, width: Width, mut read: impl FnMut(u16) -> u8) -> u32 {
    (0..width.bytes()).fold(0, |value, index| {
        let byte = offset.checked_add(index).map_or(0xFF, &mut read);
        value | u32::from(byte) << (8 * index)
    })
}

/// A write of some width, as byte writes from the lowest offset up.
fn write_bytes(offset: u16, width: Width, value: u32, mut write: impl FnMut(u16, u8)) {
    for (index, byte) in (0..width.bytes()).zip(value.to_le_bytes()) {
        if let Some(offset) = offset.checked_add(index) {
            write(offset, byte);
        }
    }
}

/// The builders and looks that all chips share; the chip keeps its registers in `base`.
macro_rules! chip_options {
    ($chip:ty) => {
        impl $chip {
            /// A chip whose DCR does not read back: it reads 0xFF.
            #[must_use]
            pub fn with_write_only_dcr(mut self) -> Self {
                self.base.wiring.dcr_reads_back = false;
                self
            }

            /// A chip whose DATA does not read back what it drives: it reads 0xFF while the drivers
            /// are on.
            #[must_use]
            pub fn with_write_only_data(mut self) -> Self {
                self.base.wiring.data_reads_back = false;
                self
            }

            /// A chip that drives its unused DSR and DCR bits low instead of leaving them at 1.
            #[must_use]
            pub fn with_unused_bits_low(mut self) -> Self {
                self.base.wiring.undriven = 0;
                self
            }

            /// A chip whose lines are traced from power-on.
            #[must_use]
            pub fn with_trace(mut self) -> Self {
                self.base.connector.start_trace();
                self
            }

            /// A chip that keeps no trace, for long runs.
            #[must_use]
            pub fn without_trace(mut self) -> Self {
                self.base.connector.stop_trace();
                self
            }

            /// Forgets what was traced up to now.
            pub fn restart_trace(&mut self) {
                self.base.connector.restart_trace();
            }

            /// The levels on the connector at the last access.
            #[must_use]
            pub fn levels(&mut self) -> crate::Levels {
                self.base.connector.levels()
            }
        }
    };
}
use chip_options;

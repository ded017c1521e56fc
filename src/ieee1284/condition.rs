//! What the status lines of an idle printer mean.

use super::Dsr;
use crate::ioctl::{Status, parallel::ParStatus};

/// A peripheral's condition, decoded from its five status lines in compatibility mode.
///
/// Microsoft documents the names of the conditions, not the lines behind them. The table below
/// follows the BIOS (INT 17h: paper out *and* selected is no printer), the order in which Linux's
/// lp checks, and printer manuals (paper end also pulls nFault low; Select and nFault drop without
/// power). It is data, so that measurements can correct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(ParStatus);

const READY: ParStatus = ParStatus::SELECTED;
const BUSY: ParStatus = ParStatus::SELECTED.union(ParStatus::BUSY);
const PAPER: ParStatus = ParStatus::PAPER_EMPTY.union(ParStatus::SELECTED);
const PAPER_BUSY: ParStatus = PAPER.union(ParStatus::BUSY);
const PAPER_OFF: ParStatus = ParStatus::PAPER_EMPTY.union(ParStatus::OFF_LINE);
const OFF_LINE: ParStatus = ParStatus::OFF_LINE;
const FAULT: ParStatus = ParStatus::OFF_LINE.union(ParStatus::SELECTED);
const NOTHING: ParStatus = ParStatus::NOT_CONNECTED;
const POWER_OFF: ParStatus = ParStatus::POWER_OFF;

/// Indexed by the upper five bits of the DSR: not Busy, nAck, PError, Select, nFault.
///
/// nAck low is the acknowledge pulse and says nothing by itself, but for the one row in which
/// every line is low: an unpowered device that pulls them down.
#[rustfmt::skip]
const TABLE: [ParStatus; 32] = [
    // PError, Select, nFault:
    // 000       001       010    011    100        101      110         111
    POWER_OFF, OFF_LINE, FAULT, BUSY,  PAPER_OFF, NOTHING, PAPER_BUSY, NOTHING, // Busy, nAck low
    OFF_LINE,  OFF_LINE, FAULT, BUSY,  PAPER_OFF, NOTHING, PAPER_BUSY, NOTHING, // Busy, nAck high
    POWER_OFF, OFF_LINE, FAULT, READY, PAPER_OFF, NOTHING, PAPER,      NOTHING, // ready, nAck low
    OFF_LINE,  OFF_LINE, FAULT, READY, PAPER_OFF, NOTHING, PAPER,      NOTHING, // ready, nAck high
];

impl Condition {
    /// Decodes the lines.
    #[must_use]
    pub fn of(lines: Dsr) -> Self {
        let row = usize::from(lines.bits() >> 3);
        // A u8 shifted by three is below 32.
        Self(TABLE.get(row).copied().unwrap_or(NOTHING))
    }

    /// The flags of `PAR_QUERY_INFORMATION`.
    #[must_use]
    pub const fn flags(self) -> ParStatus {
        self.0
    }

    /// Selected, not busy, no error.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.0 == READY
    }

    /// There is no peripheral that could become ready: not connected, or without power.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        self.0
            .intersects(ParStatus::NOT_CONNECTED.union(ParStatus::POWER_OFF))
    }

    /// A peripheral with power that rests: selected, without an error, busy or not. Only such a one
    /// is asked who it is.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        self.0 == READY || self.0 == BUSY
    }

    /// The lines say that there is no peripheral.
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        self.0.contains(ParStatus::NOT_CONNECTED)
    }

    /// The answer of `IOCTL_PAR_SET_INFORMATION`. A busy printer without an error is a success.
    #[must_use]
    #[inline(never)]
    pub const fn status(self) -> Status {
        if self.0.contains(ParStatus::NOT_CONNECTED) {
            Status::DEVICE_NOT_CONNECTED
        } else if self.0.contains(ParStatus::POWER_OFF) {
            Status::DEVICE_POWERED_OFF
        } else if self.0.contains(ParStatus::PAPER_EMPTY) {
            Status::DEVICE_PAPER_EMPTY
        } else if self.0.contains(ParStatus::OFF_LINE) {
            Status::DEVICE_OFF_LINE
        } else {
            Status::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the public decode, by the raw DSR values that real ports show.
    #[test]
    fn typical_raw_values() {
        let rows: &[(&[u8], u8, Status)] = &[
            (&[0xD8], 0x80, Status::SUCCESS),
            (&[0x58, 0x18], 0xC0, Status::SUCCESS),
            (&[0x70, 0x30], 0xC4, Status::DEVICE_PAPER_EMPTY),
            (&[0xF0, 0xB0], 0x84, Status::DEVICE_PAPER_EMPTY),
            (&[0x60, 0x20, 0xE0, 0xA0], 0x0C, Status::DEVICE_PAPER_EMPTY),
            (&[0xC0, 0x40], 0x08, Status::DEVICE_OFF_LINE),
            (&[0xC8, 0x48, 0x88, 0x08], 0x08, Status::DEVICE_OFF_LINE),
            (&[0xD0, 0x50, 0x90, 0x10], 0x88, Status::DEVICE_OFF_LINE),
            (
                &[0x78, 0xF8, 0x7F, 0xFF],
                0x20,
                Status::DEVICE_NOT_CONNECTED,
            ),
            (&[0xE8, 0x68], 0x20, Status::DEVICE_NOT_CONNECTED),
            (&[0x80, 0x00], 0x10, Status::DEVICE_POWERED_OFF),
            (&[0x98], 0x80, Status::SUCCESS),
        ];
        for (raws, flags, status) in rows {
            for raw in *raws {
                let condition = Condition::of(Dsr::from_bits_retain(*raw));
                assert_eq!(condition.flags().bits(), *flags, "DSR {raw:#04x}");
                assert_eq!(condition.status(), *status, "DSR {raw:#04x}");
            }
        }
    }

    #[test]
    fn the_three_low_bits_mean_nothing() {
        for raw in 0..=u8::MAX {
            assert_eq!(
                Condition::of(Dsr::from_bits_retain(raw)),
                Condition::of(Dsr::from_bits_retain(raw & 0xF8))
            );
        }
    }
}

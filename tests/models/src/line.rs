//! The lines of the connector and their levels.

use core::fmt;

/// Which end of the cable drives a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The PC.
    Host,
    /// The printer or other device.
    Peripheral,
}

/// One line of the connector, under its IEEE 1284 compatibility-mode name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Line {
    // The order is the order of the bits in `Levels`: the data lines come first.
    D0,
    D1,
    D2,
    D3,
    D4,
    D5,
    D6,
    D7,
    NStrobe,
    NAutoFd,
    NInit,
    NSelectIn,
    Busy,
    NAck,
    PError,
    Select,
    NFault,
}

impl Line {
    /// All lines: data, then the host's, then the peripheral's.
    pub const ALL: [Self; 17] = [
        Self::D0,
        Self::D1,
        Self::D2,
        Self::D3,
        Self::D4,
        Self::D5,
        Self::D6,
        Self::D7,
        Self::NStrobe,
        Self::NAutoFd,
        Self::NInit,
        Self::NSelectIn,
        Self::Busy,
        Self::NAck,
        Self::PError,
        Self::Select,
        Self::NFault,
    ];

    /// The eight data lines, least significant first.
    pub const DATA: [Self; 8] = match Self::ALL.first_chunk() {
        Some(lines) => *lines,
        None => unreachable!(),
    };

    /// The name as the standard spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::D0 => "D0",
            Self::D1 => "D1",
            Self::D2 => "D2",
            Self::D3 => "D3",
            Self::D4 => "D4",
            Self::D5 => "D5",
            Self::D6 => "D6",
            Self::D7 => "D7",
            Self::NStrobe => "nStrobe",
            Self::NAutoFd => "nAutoFd",
            Self::NInit => "nInit",
            Self::NSelectIn => "nSelectIn",
            Self::Busy => "Busy",
            Self::NAck => "nAck",
            Self::PError => "PError",
            Self::Select => "Select",
            Self::NFault => "nFault",
        }
    }

    /// The pin of the PC's DB-25 connector (IEEE 1284-A).
    #[must_use]
    pub const fn pin(self) -> u8 {
        match self {
            Self::NStrobe => 1,
            Self::D0 => 2,
            Self::D1 => 3,
            Self::D2 => 4,
            Self::D3 => 5,
            Self::D4 => 6,
            Self::D5 => 7,
            Self::D6 => 8,
            Self::D7 => 9,
            Self::NAck => 10,
            Self::Busy => 11,
            Self::PError => 12,
            Self::Select => 13,
            Self::NAutoFd => 14,
            Self::NFault => 15,
            Self::NInit => 16,
            Self::NSelectIn => 17,
        }
    }

    /// Who drives the line. The data lines count as the host's: they turn round only in the
    /// reverse phases of byte, EPP and ECP mode.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Busy | Self::NAck | Self::PError | Self::Select | Self::NFault => {
                Side::Peripheral
            }
            _ => Side::Host,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the host drives. `true` is a high line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::struct_excessive_bools,
    missing_docs,
    reason = "one field a line, under the standard's names"
)]
pub struct HostLines {
    /// D7 to D0, as far as the host drives them.
    pub data: u8,
    /// Whether the host drives D7 to D0. A chip with a direction bit can turn its drivers off.
    pub drives_data: bool,
    pub n_strobe: bool,
    pub n_auto_fd: bool,
    pub n_init: bool,
    pub n_select_in: bool,
}

impl HostLines {
    /// D7 to D0 as they are when the peripheral drives `peripheral`, or nothing. A line that nothing
    /// drives is high; one that both drive is low when one of them pulls it low.
    #[must_use]
    pub const fn bus(self, peripheral: Option<u8>) -> u8 {
        let host = if self.drives_data { self.data } else { 0xFF };
        match peripheral {
            Some(peripheral) => host & peripheral,
            None => host,
        }
    }

    /// Compatibility mode at rest: nSelectIn low, the other control lines high, data 0.
    pub const IDLE: Self = Self {
        data: 0,
        drives_data: true,
        n_strobe: true,
        n_auto_fd: true,
        n_init: true,
        n_select_in: false,
    };
}

/// What the peripheral drives. `true` is a high line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::struct_excessive_bools,
    missing_docs,
    reason = "one field a line, under the standard's names"
)]
pub struct PeripheralLines {
    pub busy: bool,
    pub n_ack: bool,
    pub p_error: bool,
    pub select: bool,
    pub n_fault: bool,
}

impl PeripheralLines {
    /// The lines for which a status register reads `dsr`; bits 2 to 0 are ignored. Lets a test name
    /// a line pattern by the value that data sheets and tables print.
    #[must_use]
    pub const fn from_dsr(dsr: u8) -> Self {
        Self {
            busy: dsr & 0x80 == 0, // the one inverted bit
            n_ack: dsr & 0x40 != 0,
            p_error: dsr & 0x20 != 0,
            select: dsr & 0x10 != 0,
            n_fault: dsr & 0x08 != 0,
        }
    }

    /// Bits 7 to 3 of the status register for these lines; bits 2 to 0 are 0.
    #[must_use]
    pub const fn to_dsr(self) -> u8 {
        (!self.busy as u8) << 7
            | (self.n_ack as u8) << 6
            | (self.p_error as u8) << 5
            | (self.select as u8) << 4
            | (self.n_fault as u8) << 3
    }
}

/// The levels of all lines at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Levels(u32);

impl Levels {
    /// The levels that the two sides make together, with the data lines as the host has them.
    #[must_use]
    pub const fn new(host: HostLines, peripheral: PeripheralLines) -> Self {
        Self(host.data as u32)
            .with(Line::NStrobe, host.n_strobe)
            .with(Line::NAutoFd, host.n_auto_fd)
            .with(Line::NInit, host.n_init)
            .with(Line::NSelectIn, host.n_select_in)
            .with(Line::Busy, peripheral.busy)
            .with(Line::NAck, peripheral.n_ack)
            .with(Line::PError, peripheral.p_error)
            .with(Line::Select, peripheral.select)
            .with(Line::NFault, peripheral.n_fault)
    }

    /// The level of one line: `true` is high.
    #[must_use]
    pub const fn get(self, line: Line) -> bool {
        self.0 & line.bit() != 0
    }

    /// The same levels with one line set.
    #[must_use]
    pub const fn with(self, line: Line, level: bool) -> Self {
        if level {
            Self(self.0 | line.bit())
        } else {
            Self(self.0 & !line.bit())
        }
    }

    /// The same levels with another byte on D7 to D0.
    #[must_use]
    pub const fn with_data(self, data: u8) -> Self {
        Self(self.0 & !0xFF | data as u32)
    }

    /// D7 to D0 as a byte.
    #[must_use]
    pub const fn data(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Levels({:02X}", self.data())?;
        for line in Line::ALL.into_iter().skip(8) {
            write!(f, " {line}={}", u8::from(self.get(line)))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_line_has_its_own_pin() {
        let mut pins: alloc::vec::Vec<u8> = Line::ALL.iter().map(|line| line.pin()).collect();
        pins.sort_unstable();
        assert!(pins.into_iter().eq(1..=17));
    }

    #[test]
    fn bits_follow_the_order_of_all() {
        for (bit, line) in Line::ALL.into_iter().enumerate() {
            assert_eq!(line.bit(), 1 << bit, "{line}");
        }
    }

    #[test]
    fn only_busy_is_inverted_in_the_status_register() {
        let low = PeripheralLines::from_dsr(0x80);
        assert_eq!(low.to_dsr(), 0x80);
        assert!(!low.busy && !low.n_ack && !low.p_error && !low.select && !low.n_fault);
        let high = PeripheralLines::from_dsr(0x78);
        assert!(high.busy && high.n_ack && high.p_error && high.select && high.n_fault);
    }

    proptest! {
        #[test]
        fn dsr_round_trip(dsr: u8) {
            prop_assert_eq!(PeripheralLines::from_dsr(dsr).to_dsr(), dsr & 0xF8);
        }

        #[test]
        fn levels_keep_every_line(data: u8, control in 0u8..16, dsr: u8) {
            let host = HostLines {
                data,
                drives_data: true,
                n_strobe: control & 1 != 0,
                n_auto_fd: control & 2 != 0,
                n_init: control & 4 != 0,
                n_select_in: control & 8 != 0,
            };
            let peripheral = PeripheralLines::from_dsr(dsr);
            let levels = Levels::new(host, peripheral);
            prop_assert_eq!(levels.data(), data);
            for (bit, line) in Line::DATA.into_iter().enumerate() {
                prop_assert_eq!(levels.get(line), data & (1 << bit) != 0);
            }
            prop_assert_eq!(levels.get(Line::NStrobe), host.n_strobe);
            prop_assert_eq!(levels.get(Line::NAutoFd), host.n_auto_fd);
            prop_assert_eq!(levels.get(Line::NInit), host.n_init);
            prop_assert_eq!(levels.get(Line::NSelectIn), host.n_select_in);
            prop_assert_eq!(levels.get(Line::Busy), peripheral.busy);
            prop_assert_eq!(levels.get(Line::NAck), peripheral.n_ack);
            prop_assert_eq!(levels.get(Line::PError), peripheral.p_error);
            prop_assert_eq!(levels.get(Line::Select), peripheral.select);
            prop_assert_eq!(levels.get(Line::NFault), peripheral.n_fault);
        }
    }
}

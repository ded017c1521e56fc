//! The registers that every chip has.

use alloc::boxed::Box;

use super::connector::Connector;
use crate::{HostLines, Peripheral};

// Offsets in block 0.
pub(super) const DATA: u16 = 0;
pub(super) const DSR: u16 = 1;
pub(super) const DCR: u16 = 2;

/// The DCR as a PC's firmware leaves it: nInit high, nSelectIn low, nStrobe and nAutoFd high.
const DCR_IDLE: u8 = 0x0C;
/// Which DCR bits exist: bits 6 and 7 are reserved.
const DCR_BITS: u8 = 0x3F;
/// The DSR bits that carry lines.
const DSR_BITS: u8 = 0xF8;
/// DCR bit 5: the data drivers are off.
pub(super) const DCR_DIRECTION: u8 = 0x20;

/// DATA, DSR and DCR with the connector behind them.
pub(super) struct Base {
    pub(super) connector: Connector,
    pub(super) data: u8,
    pub(super) dcr: u8,
    pub(super) wiring: Wiring,
}

/// How a chip's registers are connected.
pub(super) struct Wiring {
    pub(super) dcr_reads_back: bool,
    pub(super) data_reads_back: bool,
    /// What bits without a function read as.
    pub(super) undriven: u8,
    /// Whether DCR bit 5 turns the data drivers off.
    pub(super) bidirectional: bool,
}

impl Base {
    /// DCR 0x0C and DATA 0, as a PC's firmware leaves them.
    pub(super) fn new(peripheral: Box<dyn Peripheral>, bidirectional: bool) -> Self {
        Self {
            connector: Connector::new(peripheral, control_lines(DCR_IDLE)),
            data: 0,
            dcr: DCR_IDLE,
            wiring: Wiring {
                dcr_reads_back: true,
                data_reads_back: true,
                undriven: 0xFF,
                bidirectional,
            },
        }
    }

    /// What DATA and DCR put on the connector.
    pub(super) const fn host(&self) -> HostLines {
        HostLines {
            data: self.data,
            drives_data: !(self.wiring.bidirectional && self.dcr & DCR_DIRECTION != 0),
            ..control_lines(self.dcr)
        }
    }

    /// Puts DATA and DCR on the connector.
    pub(super) fn drive(&mut self) {
        let host = self.host();
        self.connector.drive(host);
    }

    pub(super) fn write_data(&mut self, value: u8) {
        self.data = value;
        self.drive();
    }

    pub(super) fn write_dcr(&mut self, value: u8) {
        self.set_dcr(value);
        self.drive();
    }

    /// Takes the bits that exist, without driving them yet.
    pub(super) const fn set_dcr(&mut self, value: u8) {
        self.dcr = value & DCR_BITS;
    }

    /// The levels of the data pins; a chip that does not read its own latch back shows them only
    /// while its drivers are off.
    pub(super) fn read_data(&mut self) -> u8 {
        if self.wiring.data_reads_back || !self.connector.host().drives_data {
            self.connector.bus()
        } else {
            0xFF
        }
    }

    pub(super) fn read_dsr(&mut self) -> u8 {
        self.connector.lines().to_dsr() | self.wiring.undriven & !DSR_BITS
    }

    pub(super) const fn read_dcr(&self) -> u8 {
        if self.wiring.dcr_reads_back {
            self.dcr | self.wiring.undriven & !DCR_BITS
        } else {
            0xFF
        }
    }
}

/// What DCR puts on its four lines: bits 0, 1 and 3 inverted.
const fn control_lines(dcr: u8) -> HostLines {
    HostLines {
        n_strobe: dcr & 0x01 == 0,
        n_auto_fd: dcr & 0x02 == 0,
        n_init: dcr & 0x04 != 0,
        n_select_in: dcr & 0x08 == 0,
        ..HostLines::IDLE
    }
}

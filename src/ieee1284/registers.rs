//! The registers of a PC parallel port, as software sees them.

use bitflags::bitflags;

bitflags! {
    /// Status register, base + 1. The upper five bits are the peripheral's lines.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Dsr: u8 {
        /// 1 while the line Busy is **low**: the one inverted status bit (pin 11).
        const NOT_BUSY = 0x80;
        /// Line nAck (pin 10), low in an acknowledge pulse.
        const N_ACK = 0x40;
        /// Line PError (pin 12), high at paper end.
        const P_ERROR = 0x20;
        /// Line Select (pin 13), high while on-line.
        const SELECT = 0x10;
        /// Line nFault (pin 15), low in an error.
        const N_FAULT = 0x08;
        /// An EPP cycle ended without the peripheral. Latched by chips with EPP.
        const EPP_TIME_OUT = 0x01;
        /// The five lines.
        const LINES = 0xF8;
    }
}

bitflags! {
    /// Control register, base + 2. Bits 0, 1 and 3 are inverted between register and line: a 1
    /// pulls the line low.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Dcr: u8 {
        /// nStrobe low (pin 1).
        const STROBE = 0x01;
        /// nAutoFd low (pin 14).
        const AUTO_FD = 0x02;
        /// nInit **high** (pin 16): not inverted.
        const N_INIT = 0x04;
        /// nSelectIn low (pin 17).
        const SELECT_IN = 0x08;
        /// Raise the interrupt at the rising edge of nAck.
        const ACK_INTERRUPT = 0x10;
        /// Data drivers off, so that the peripheral may drive the data lines.
        const REVERSE = 0x20;
    }
}

impl Dcr {
    /// Compatibility mode, idle: nInit high, nSelectIn low, nStrobe and nAutoFd high (0x0C).
    pub const IDLE: Self = Self::N_INIT.union(Self::SELECT_IN);
    /// The same with nInit low: the peripheral resets (0x08).
    pub const RESET: Self = Self::SELECT_IN;
    /// A 1284 mode, idle: nInit and nSelectIn high, nStrobe and nAutoFd high (0x04).
    pub const ACTIVE: Self = Self::N_INIT;
    /// In place of a soft copy: what the register holds is not known. No value that it could hold.
    pub const UNKNOWN: Self = Self::from_bits_retain(0xC0);
}

bitflags! {
    /// Extended control register of an ECP port, offset 2 of its second I/O range. The upper three
    /// bits are the mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ecr: u8 {
        /// No interrupt on nFault.
        const ERROR_INTERRUPT_OFF = 0x10;
        /// Written 1: no service interrupt. Reads 1 when one is pending.
        const SERVICE_INTERRUPT_OFF = 0x04;
        /// The FIFO is full. Read only.
        const FULL = 0x02;
        /// The FIFO is empty. Read only.
        const EMPTY = 0x01;
        // The mode.
        const _ = 0xE0;
    }
}

impl Ecr {
    /// Mode 000, SPP, with both interrupts off (0x14), like all the others.
    pub const SPP: Self = Self::of(0b000);
    /// Mode 001, PS/2: the only one in which the direction may change (0x34).
    pub const PS2: Self = Self::of(0b001);
    /// Mode 010, fast Centronics (0x54).
    pub const FAST_CENTRONICS: Self = Self::of(0b010);
    /// Mode 011, ECP (0x74).
    pub const ECP: Self = Self::of(0b011);
    /// Mode 100, EPP, where the chip has it (0x94).
    pub const EPP: Self = Self::of(0b100);
    /// Mode 110, FIFO test (0xD4).
    pub const TEST: Self = Self::of(0b110);
    /// Mode 111, configuration (0xF4).
    pub const CONFIGURATION: Self = Self::of(0b111);

    const fn of(mode: u8) -> Self {
        Self::from_bits_retain(mode << 5)
            .union(Self::ERROR_INTERRUPT_OFF)
            .union(Self::SERVICE_INTERRUPT_OFF)
    }
}

bitflags! {
    /// Configuration register A of an ECP port.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CnfgA: u8 {
        /// The full bit counts the byte that is on its way to the peripheral. If 0, there may be
        /// one more than the FIFO shows.
        const COUNTS_TRANSMITTER = 0x04;
        // Interrupt kind, word size and the rest.
        const _ = 0xFB;
    }
}

impl CnfgA {
    /// Width of a FIFO word in bits: 8, 16 or 32. The values without a meaning are taken for 8, the
    /// one that every chip has.
    #[must_use]
    pub const fn word_bits(self) -> u8 {
        match self.bits() >> 4 & 0b111 {
            0b000 => 16,
            0b010 => 32,
            _ => 8,
        }
    }
}

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
}

bitflags! {
    /// Extended control register of an ECP port, offset 2 of its second I/O range.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ecr: u8 {
        /// No interrupt on nFault.
        const ERROR_INTERRUPT_OFF = 0x10;
        /// No service interrupt.
        const SERVICE_INTERRUPT_OFF = 0x04;
    }
}

impl Ecr {
    /// Mode 000, SPP, with both interrupts off (0x14).
    pub const SPP: Self = Self::ERROR_INTERRUPT_OFF.union(Self::SERVICE_INTERRUPT_OFF);
}

//! The block of I/O ports behind which a chip sits.

use crate::LineTrace;

/// Virtual time since power-on, in nanoseconds.
pub type Nanos = u64;

/// How wide one access to an I/O port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// `in al, dx`: 8 bits.
    Byte,
    /// `in ax, dx`: 16 bits.
    Word,
    /// `in eax, dx`: 32 bits.
    Dword,
}

impl Width {
    /// How many bytes one access moves: 1, 2 or 4.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The value that an undriven bus shows: all bits 1.
    #[must_use]
    pub const fn floating(self) -> u32 {
        match self {
            Self::Byte => 0xFF,
            Self::Word => 0xFFFF,
            Self::Dword => 0xFFFF_FFFF,
        }
    }
}

/// What answers on a block of I/O ports.
///
/// `block` 0 holds the SPP and EPP registers (base + 0 to base + 7); `block` 1 is the ECP block
/// (base + 0x400 to base + 0x402 on an ISA-style port, a second BAR on a PCI card). `offset` is
/// counted from the start of the block. `now` never goes back between calls.
pub trait PortDevice {
    /// One `in` instruction. Bits that nothing drives read as 1, so a port with nothing behind it
    /// reads 0xFF. Bits above `width` are 0.
    fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32;

    /// One `out` instruction. Bits of `value` above `width` are ignored.
    fn write(&mut self, now: Nanos, block: usize, offset: u16, width: Width, value: u32);

    /// Lets time pass without an access, so that everything that happens on the lines up to and
    /// including `now` is in the trace. Call it before reading the trace.
    fn advance(&mut self, now: Nanos) {
        let _ = now;
    }

    /// Until when the last access kept the processor waiting, as an EPP cycle without an answer does
    /// for 10 us. A time before the access, such as 0, means not at all. A machine whose clock does
    /// not follow this sees a device whose time is ahead.
    fn held_until(&self) -> Nanos {
        0
    }

    /// The lines as a logic analyser on the connector sees them; `None` for a device that does not
    /// know its lines.
    fn trace(&self) -> Option<&LineTrace> {
        None
    }
}

//! A processor without an I/O space: ARM64.
//!
//! No port of the driver can be there. `PNP0400` and `PNP0401` describe I/O ports of a PC's
//! chipset, which no ARM64 machine has. A card could bring registers, which a bridge then shows in
//! memory; but ECP and EPP cycles through such a window were never tried, and a driver that guesses
//! at a machine's memory does harm. So the proof has no value, and the compiler leaves the whole
//! parallel role, which holds one, out of the image.

/// Nothing. Inside a structure, so that the optimiser alone sees what cannot be, and the role's
/// sources are the same for all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nothing {}

/// Proof that the processor has an I/O space, without which there is no parallel port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPortSpace(Nothing);

impl NoPortSpace {
    /// The proof, on a processor that has one: `None`.
    pub(crate) const fn here() -> Option<Self> {
        None
    }

    /// Reads a byte.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn read(self, _port: u16) -> u8 {
        match self.0 {}
    }

    /// Reads a byte for each.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn read_block(self, _port: u16, _bytes: &mut [u8]) {
        match self.0 {}
    }

    /// Writes every byte.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn write_block(self, _port: u16, _bytes: &[u8]) {
        match self.0 {}
    }

    /// Reads 32 bits for each.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn read_block32(self, _port: u16, _words: &mut [[u8; 4]]) {
        match self.0 {}
    }

    /// Writes every word.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn write_block32(self, _port: u16, _words: &[[u8; 4]]) {
        match self.0 {}
    }

    /// Writes a byte.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) const unsafe fn write(self, _port: u16, _value: u8) {
        match self.0 {}
    }
}

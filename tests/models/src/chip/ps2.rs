//! The PS/2-style port: data lines that turn round.

use alloc::boxed::Box;

use super::{
    base::{Base, DATA, DCR, DSR},
    chip_options,
};
use crate::Peripheral;

/// A bidirectional port: an [`Spp`](crate::Spp) whose DCR bit 5 turns the data drivers off.
///
/// With bit 5 at 1, DATA reads what the peripheral drives, and 0xFF when nothing drives; a write to
/// DATA is latched and shows when the drivers are on again. It keeps no trace unless built
/// [`with_trace`](Self::with_trace).
pub struct Ps2 {
    base: Base,
    aliased: bool,
}

chip_options!(Ps2);

impl Ps2 {
    /// A chip with `peripheral` on its connector.
    #[must_use]
    pub fn new(peripheral: Box<dyn Peripheral>) -> Self {
        Self {
            base: Base::new(peripheral, true),
            aliased: false,
        }
    }

    /// A card that does not decode address bit 10: block 1 shows the registers of block 0, so that
    /// DCR answers in the ECR's place.
    #[must_use]
    pub fn with_aliased_ecp_block(mut self) -> Self {
        self.aliased = true;
        self
    }

    fn answers(&self, block: usize) -> bool {
        block == 0 || self.aliased && block == 1
    }

    fn read_byte(&mut self, block: usize, offset: u16) -> u8 {
        match offset {
            DATA if self.answers(block) => self.base.read_data(),
            DSR if self.answers(block) => self.base.read_dsr(),
            DCR if self.answers(block) => self.base.read_dcr(),
            _ => 0xFF,
        }
    }

    fn write_byte(&mut self, block: usize, offset: u16, value: u8) {
        match offset {
            DATA if self.answers(block) => self.base.write_data(value),
            DCR if self.answers(block) => self.base.write_dcr(value),
            _ => {}
        }
    }
}

byte_wide_port!(Ps2);

//! The standard parallel port (SPP) chip.

use alloc::boxed::Box;

use super::{
    base::{Base, DATA, DCR, DSR},
    chip_options,
};
use crate::Peripheral;

// Offset in block 1.
const ECR: u16 = 2;

/// ECR bits 1 and 0 as they read here: FIFO not full, FIFO empty.
const ECR_EMPTY: u8 = 0x01;
/// ECR after reset: mode 000 (SPP), no error interrupt, no DMA, no service interrupt, FIFO empty.
const ECR_RESET: u8 = 0x15;

/// A standard parallel port: DATA, DSR and DCR, with one peripheral on the connector.
///
/// - DATA (offset 0) is a latch that always drives the data lines and reads back.
/// - DSR (offset 1) shows the peripheral's lines; bit 7 is the inverse of Busy. Writes are ignored.
/// - DCR (offset 2) drives nStrobe, nAutoFd and nSelectIn inverted and nInit straight. Bits 4
///   (interrupt enable) and 5 (direction) are held but do nothing: the chip has no interrupt line
///   and no reverse direction.
/// - Offsets 3 to 7, and every bit without a function, read as 1.
/// - A 16- or 32-bit access is as many 8-bit accesses, lowest offset first, as on an ISA bus.
///
/// At power-on DCR is 0x0C and DATA is 0, as a PC's firmware leaves them. This chip keeps a trace
/// unless built [`without_trace`](Self::without_trace).
pub struct Spp {
    base: Base,
    ecr: Option<u8>,
    aliased: bool,
}

chip_options!(Spp);

impl Spp {
    /// A chip with `peripheral` on its connector.
    #[must_use]
    pub fn new(peripheral: Box<dyn Peripheral>) -> Self {
        let chip = Self {
            base: Base::new(peripheral, false),
            ecr: None,
            aliased: false,
        };
        chip.with_trace()
    }

    /// A chip with an ECP block whose ECR starts as 0x15: SPP mode, FIFO empty. See
    /// [`with_ecr`](Self::with_ecr).
    #[must_use]
    pub fn with_ecp_block(self) -> Self {
        self.with_ecr(ECR_RESET)
    }

    /// A chip with an ECP block whose firmware left `ecr` in the ECR. The ECR holds bits 7 to 2;
    /// bits 1 and 0 always read 01 (not full, empty). There is no FIFO behind it: in mode 011 a
    /// byte written to DATA goes to the FIFO, and so does not reach the data lines. The other
    /// registers of the block read 0xFF.
    #[must_use]
    pub fn with_ecr(mut self, ecr: u8) -> Self {
        self.ecr = Some(ecr & !0x03 | ECR_EMPTY);
        self
    }

    /// An old card that does not decode address bit 10: block 1 shows the registers of block 0, so
    /// that DCR answers in the ECR's place.
    #[must_use]
    pub fn with_aliased_ecp_block(mut self) -> Self {
        self.aliased = true;
        self
    }

    /// The ECR, if there is an ECP block.
    #[must_use]
    pub const fn ecr(&self) -> Option<u8> {
        self.ecr
    }

    /// The block that answers for `block`.
    const fn decode(&self, block: usize) -> usize {
        if self.aliased && block == 1 { 0 } else { block }
    }

    fn read_byte(&mut self, block: usize, offset: u16) -> u8 {
        match (self.decode(block), offset) {
            (0, DATA) => self.base.read_data(),
            (0, DSR) => self.base.read_dsr(),
            (0, DCR) => self.base.read_dcr(),
            (1, ECR) => self.ecr.unwrap_or(0xFF),
            _ => 0xFF,
        }
    }

    fn write_byte(&mut self, block: usize, offset: u16, value: u8) {
        let data_is_fifo = self.ecr.is_some_and(|ecr| ecr >> 5 == 0b011);
        match (self.decode(block), offset) {
            (0, DATA) if !data_is_fifo => self.base.write_data(value),
            (0, DCR) => self.base.write_dcr(value),
            (1, ECR) => {
                if let Some(ecr) = &mut self.ecr {
                    *ecr = value & !0x03 | ECR_EMPTY;
                }
            }
            _ => {}
        }
    }
}

byte_wide_port!(Spp);

#[cfg(test)]
mod tests {
    use crate::{PortDevice as _, Width};

    use super::*;
    use crate::{Condition, Line, PeripheralLines, Printer, Unconnected};
    use proptest::prelude::*;

    fn empty_port() -> Spp {
        Spp::new(Box::new(Unconnected))
    }

    fn read(port: &mut Spp, block: usize, offset: u16) -> u32 {
        port.read(0, block, offset, Width::Byte)
    }

    fn write(port: &mut Spp, block: usize, offset: u16, value: u32) {
        port.write(0, block, offset, Width::Byte, value);
    }

    #[test]
    fn data_reads_back() {
        let mut port = empty_port();
        for value in 0..=0xFF {
            write(&mut port, 0, DATA, value);
            assert_eq!(read(&mut port, 0, DATA), value);
            assert_eq!(u32::from(port.levels().data()), value);
        }
    }

    #[test]
    fn dcr_drives_its_pins() {
        // (bit, its line, the level when the bit is 1)
        let bits = [
            (0, Line::NStrobe, false),
            (1, Line::NAutoFd, false),
            (2, Line::NInit, true),
            (3, Line::NSelectIn, false),
        ];
        for value in 0..=0xFF {
            let mut port = empty_port();
            write(&mut port, 0, DCR, value);
            for (bit, line, level) in bits {
                let set = value & 1 << bit != 0;
                assert_eq!(port.levels().get(line), set == level, "{line} {value:02X}");
            }
            assert_eq!(read(&mut port, 0, DCR), value | 0xC0);
        }
    }

    #[test]
    fn power_on_is_idle() {
        let mut port = empty_port();
        assert_eq!(read(&mut port, 0, DCR), 0xCC);
        assert_eq!(read(&mut port, 0, DATA), 0);
        let levels = port.levels();
        assert!(levels.get(Line::NStrobe) && levels.get(Line::NAutoFd) && levels.get(Line::NInit));
        assert!(!levels.get(Line::NSelectIn));
    }

    #[test]
    fn dsr_shows_the_lines_and_takes_no_write() {
        for row in (0..=0xF8).step_by(8) {
            let lines = PeripheralLines::from_dsr(row);
            let printer = Printer::new().with_condition(Condition::Other(lines));
            let mut port = Spp::new(Box::new(printer.clone()));
            write(&mut port, 0, DSR, 0);
            assert_eq!(read(&mut port, 0, DSR), u32::from(row) | 0x07);
            let mut port = Spp::new(Box::new(printer)).with_unused_bits_low();
            assert_eq!(read(&mut port, 0, DSR), u32::from(row));
            assert_eq!(read(&mut port, 0, DCR), 0x0C);
        }
        assert_eq!(read(&mut empty_port(), 0, DSR), 0x7F);
    }

    #[test]
    fn a_write_only_dcr_reads_ones() {
        let mut port = empty_port().with_write_only_dcr();
        write(&mut port, 0, DCR, 0x08);
        assert_eq!(read(&mut port, 0, DCR), 0xFF);
        assert!(!port.levels().get(Line::NInit));
    }

    #[test]
    fn the_rest_floats() {
        let mut port = empty_port();
        for (block, offset) in [(0, 3), (0, 7), (0, 0xFFFF), (1, 0), (1, 2), (2, 0)] {
            write(&mut port, block, offset, 0);
            assert_eq!(read(&mut port, block, offset), 0xFF);
        }
        assert!(port.trace().unwrap().samples().is_empty());
    }

    #[test]
    fn wide_accesses_are_byte_accesses() {
        let mut port = empty_port();
        port.write(0, 0, DATA, Width::Dword, 0xFF08_0041);
        assert_eq!(port.read(0, 0, DATA, Width::Word), 0x7F41);
        assert_eq!(port.read(0, 0, DATA, Width::Dword), 0xFFC8_7F41);
        assert_eq!(port.read(0, 0, 0xFFFF, Width::Word), 0xFFFF);
    }

    #[test]
    fn the_ecr_holds_its_mode() {
        let mut port = empty_port().with_ecp_block();
        assert_eq!(read(&mut port, 1, ECR), 0x15);
        // The usual detection: FIFO empty and not full; 0x34 reads back as 0x35.
        write(&mut port, 1, ECR, 0x34);
        assert_eq!(read(&mut port, 1, ECR), 0x35);
        write(&mut port, 1, ECR, 0x14);
        assert_eq!(port.ecr(), Some(0x15));
        assert_eq!(read(&mut port, 1, 0), 0xFF);
        assert_eq!(read(&mut port, 1, 1), 0xFF);
    }

    #[test]
    fn in_ecp_mode_data_goes_to_the_fifo() {
        let mut port = empty_port().with_ecr(0x75);
        write(&mut port, 0, DATA, 0x41);
        assert_eq!(port.levels().data(), 0);
        write(&mut port, 1, ECR, 0x14);
        write(&mut port, 0, DATA, 0x41);
        assert_eq!(port.levels().data(), 0x41);
    }

    #[test]
    fn every_change_is_traced_at_its_time() {
        let mut port = empty_port();
        port.write(10, 0, DATA, Width::Byte, 0xA5);
        port.write(20, 0, DATA, Width::Byte, 0xA5);
        port.write(30, 0, DCR, Width::Byte, 0x0D);
        port.advance(99);
        let trace = port.trace().unwrap();
        let times: alloc::vec::Vec<_> = trace.samples().iter().map(|s| s.time).collect();
        assert_eq!(times, [10, 30]);
        assert_eq!(trace.levels_at(10).data(), 0xA5);
        assert!(!trace.level_at(Line::NStrobe, 30));
        assert_eq!(trace.end(), 99);
        port.restart_trace();
        assert!(port.trace().unwrap().samples().is_empty());
        assert!(empty_port().without_trace().trace().is_none());
    }

    proptest! {
        /// Time that goes back, odd widths and odd places never panic, and reads stay within the
        /// width.
        #[test]
        fn any_access_is_answered(
            accesses in proptest::collection::vec(
                (any::<u64>(), 0usize..3, any::<u16>(), 0u8..3, any::<u32>(), any::<bool>()), 0..50)
        ) {
            let mut port = Spp::new(Box::new(Printer::new())).with_ecp_block();
            for (now, block, offset, width, value, is_read) in accesses {
                let width = [Width::Byte, Width::Word, Width::Dword][usize::from(width)];
                let offset = if value & 1 == 0 { offset } else { offset % 8 };
                if is_read {
                    let answer = port.read(now, block, offset, width);
                    prop_assert_eq!(answer & !width.floating(), 0);
                } else {
                    port.write(now, block, offset, width, value);
                }
            }
        }
    }
}

//! What the port's hardware can do.

use super::{CnfgA, Dcr, Dsr, Ecr, Port, Register, lines::settle};
use crate::ioctl::parallel::IeeeModes;

/// What the port's hardware can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent features of a chip"
)]
pub struct Capabilities {
    /// Data and control lines answer: there is a port at all.
    pub spp: bool,
    /// The data lines can be read (`PPT_BYTE_PRESENT`). `None`: not known, see [`has_byte`].
    pub byte: Option<bool>,
    /// There are EPP registers (`PPT_EPP_PRESENT`). On a port without an ECR that is likely, not
    /// certain: its registers do not tell.
    pub epp: bool,
    /// The EPP data register may be accessed 32 bits at a time (`PPT_EPP_32_PRESENT`). Never found
    /// out by [`detect`]: an access that a chip does not know may reach its neighbour.
    pub epp_32: bool,
    /// There is an ECR.
    pub ecr: bool,
    /// The ECR is written with 00001 below its mode field, as it reads: there are chips that lock
    /// up otherwise ([`fixed_ecr`]).
    pub ecr_fixed: bool,
    /// The ECP FIFO. With one, the port is an ECP port (`PPT_ECP_PRESENT`).
    pub fifo: Option<Fifo>,
}

/// The FIFO of an ECP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// How many words it holds, 1 to 1023.
    pub depth: u16,
    /// Width of a word in bits: 8, 16 or 32.
    pub width: u8,
    /// Full and empty bit count the byte that is on its way to the peripheral (cnfgA bit 2).
    pub counts_transmitter: bool,
}

impl Capabilities {
    /// A port of which nothing is known but that it is one.
    pub const SPP: Self = Self {
        spp: true,
        byte: Some(false),
        epp: false,
        epp_32: false,
        ecr: false,
        ecr_fixed: false,
        fifo: None,
    };

    /// The `PPT_*` bits of parallel.h (`HardwareCapabilities`).
    #[must_use]
    pub const fn ppt(&self) -> u32 {
        (self.fifo.is_some() as u32)
            | (self.epp as u32) << 1
            | ((self.epp && self.epp_32) as u32) << 2
            | (self.reads_data() as u32) << 3
    }

    /// Whether the data lines are known to be readable.
    pub(super) const fn reads_data(&self) -> bool {
        matches!(self.byte, Some(true))
    }

    /// The same with what was found out about the data lines. EPP needs lines of both directions.
    #[must_use]
    pub const fn with_byte(mut self, byte: bool) -> Self {
        self.byte = Some(byte);
        self.epp &= byte;
        self
    }

    /// Whether both are of the same port, whatever is known of its data lines.
    #[must_use]
    pub fn is_same_port(&self, other: &Self) -> bool {
        let known = |it: &Self| Self {
            byte: None,
            epp: false,
            ..*it
        };
        known(self) == known(other)
    }

    /// The modes that the port can do, with every peripheral that has them.
    #[must_use]
    pub fn modes(&self) -> IeeeModes {
        let mut modes = IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY | IeeeModes::NIBBLE;
        if self.reads_data() {
            modes |= IeeeModes::BYTE_BIDIR | IeeeModes::EPP_SW | IeeeModes::ECP_SW;
        }
        if self.epp && self.reads_data() {
            modes |= IeeeModes::EPP_HW;
        }
        if self.byte_fifo().is_some() && self.reads_data() {
            modes |= IeeeModes::ECP_HW_NOIRQ;
        }
        modes
    }

    /// The FIFO, if its words are bytes. Wider words would need padding at the end of a transfer,
    /// which the peripheral could not tell from data.
    pub(super) fn byte_fifo(&self) -> Option<Fifo> {
        self.fifo.filter(|fifo| fifo.width == 8)
    }
}

/// A FIFO at least as deep as this is none: the register is only echoing.
const DEPTH_LIMIT: u16 = 1024;
/// The mode field of the ECR.
const ECR_MODE: u8 = 0xE0;
/// What open lines read as.
const OPEN_BUS: u8 = 0xFF;

/// Finds out what the port's hardware can do, as far as its registers tell, and **moves no line**:
/// neither the control lines nor the data lines change, nor are the data drivers turned off. Needs
/// no peripheral; must not run in a transfer. At the end an ECP chip is in SPP mode, and the chip
/// asks for no interrupt.
///
/// What it does, register by register:
/// * DATA is read.
/// * DCR is read. Bit 4, which lets nAck interrupt and belongs to no line, is cleared, if it reads
///   1.
/// * DSR is read. A pending EPP time-out is cleared there: some chips ignore everything else until
///   it is.
/// * The ECR's mode field is written: 000 and 001, and, in a chip that keeps it, 100 for a look at
///   the EPP time-out bit, 110 (FIFO test) and 111 (configuration). None of them moves a line while
///   the direction is forward.
/// * The test FIFO is filled, which reaches no line.
///
/// Whether the data lines of a port without an ECR can be read is left open: [`has_byte`] finds it
/// out by moving them.
pub fn detect(port: &mut impl Port) -> Capabilities {
    let mut found = Capabilities {
        spp: has_spp(port),
        ..Capabilities::default()
    };
    if !found.spp {
        return found;
    }
    clear_epp_time_out(port);
    // Before anything else is written: in mode 011 DATA would be the FIFO's.
    let ecr = find_ecr(port);
    found.ecr = ecr.is_some();
    found.ecr_fixed = ecr == Some(true);
    let port = &mut OfEcr(port, found.ecr_fixed);
    let dcr = Dcr::from_bits_retain(port.read(Register::Dcr));
    if dcr.bits() != OPEN_BUS && dcr.contains(Dcr::ACK_INTERRUPT) {
        // Reserved bits stay as they are written everywhere: 0.
        let lines = Dcr::from_bits_truncate(dcr.bits()) - Dcr::ACK_INTERRUPT;
        port.write(Register::Dcr, lines.bits());
    }
    // Mode 001 is that of a port with a direction.
    found.byte = found.ecr.then_some(true);
    found.epp = has_epp(port, found.ecr);
    if found.ecr {
        found.fifo = fifo(port);
    }
    found
}

/// Clears a pending EPP time-out in all the ways that chips want, and says whether there is none
/// afterwards.
pub(super) fn clear_epp_time_out(port: &mut impl Port) -> bool {
    if !epp_time_out(port) {
        return true;
    }
    // By reading twice, by writing 1, by writing 0.
    let _ = port.read(Register::Dsr);
    let dsr = Dsr::from_bits_retain(port.read(Register::Dsr));
    port.write(Register::Dsr, (dsr | Dsr::EPP_TIME_OUT).bits());
    port.write(Register::Dsr, (dsr - Dsr::EPP_TIME_OUT).bits());
    !epp_time_out(port)
}

/// Whether an EPP cycle timed out.
pub(super) fn epp_time_out(port: &mut impl Port) -> bool {
    Dsr::from_bits_retain(port.read(Register::Dsr)).contains(Dsr::EPP_TIME_OUT)
}

/// Whether anything answers. DATA or DCR of a chip may not read back, and then read 0xFF; so may
/// the status lines of an empty connector. All three together are no port.
fn has_spp(port: &mut impl Port) -> bool {
    [Register::Dsr, Register::Dcr, Register::Data]
        .into_iter()
        .any(|register| port.read(register) != OPEN_BUS)
}

/// Chips whose ECR shows only its mode field show this below it.
const FIXED_ECR: u8 = 0x01;

/// What is written to an ECR whose lower bits are fixed, for a mode.
#[must_use]
pub const fn fixed_ecr(value: u8) -> u8 {
    value & ECR_MODE | FIXED_ECR
}

/// Whether there is an ECR, and whether its lower bits are fixed. It is one if its mode field holds
/// what is written; the lower bits show what they like, and are written as they were read. Old
/// cards decode ten address bits and show the DCR once more in its place: what reads the same is
/// not written.
fn find_ecr(port: &mut impl Port) -> Option<bool> {
    if !port.has_ecp() {
        return None;
    }
    let found = port.read(Register::Ecr);
    if found == OPEN_BUS || found == port.read(Register::Dcr) {
        return None;
    }
    let others = found & !ECR_MODE;
    let fixed = others == FIXED_ECR;
    // The modes from 010 on are left through SPP.
    let holds = [Ecr::SPP, Ecr::PS2, Ecr::SPP].map(|ecr| {
        let mode = ecr.bits() & ECR_MODE;
        port.write(Register::Ecr, mode | others);
        port.read(Register::Ecr) & ECR_MODE == mode
    }) == [true; 3];
    if holds && !fixed {
        // No interrupts.
        port.write(Register::Ecr, Ecr::SPP.bits());
    }
    holds.then_some(fixed)
}

/// Finds out whether the data drivers can be turned off: then the lines differ from what is
/// latched. That takes one look, as the terminators of a peripheral pull them up, and a peripheral
/// that is at rest does not drive them. `patterns` allows to change what is latched when that look
/// says nothing: on a port without a direction the lines change then, too. `None`: not known.
///
/// DCR must be in compatibility mode at rest; it is so afterwards, and DATA is as it was.
pub fn has_byte(port: &mut impl Port, patterns: bool) -> Option<bool> {
    let before = port.read(Register::Data);
    port.write(Register::Dcr, (Dcr::IDLE | Dcr::REVERSE).bits());
    settle(port);
    let mut differs = port.read(Register::Data) != before;
    if !differs && patterns {
        // What does not read back while it is driven reads as open lines now, too.
        let other = !before;
        port.write(Register::Data, other);
        settle(port);
        differs = port.read(Register::Data) != other;
        port.write(Register::Data, before);
    }
    port.write(Register::Dcr, Dcr::IDLE.bits());
    (differs || patterns).then_some(differs)
}

/// Whether there is an EPP time-out bit that is clear, or can be cleared.
fn has_epp<P: Port>(port: &mut OfEcr<'_, P>, ecr: bool) -> bool {
    if !port.0.has_epp() {
        return false;
    }
    if !ecr {
        return clear_epp_time_out(port.0);
    }
    // A chip whose time-out bit is clear in other modes, too, has none ("phony EPP").
    for mode in [Ecr::SPP, Ecr::PS2] {
        port.write(Register::Ecr, mode.bits());
        if clear_epp_time_out(port.0) {
            port.write(Register::Ecr, Ecr::SPP.bits());
            return false;
        }
    }
    port.write(Register::Ecr, Ecr::EPP.bits());
    let works = port.read(Register::Ecr) & ECR_MODE == Ecr::EPP.bits() & ECR_MODE
        && clear_epp_time_out(port.0);
    port.write(Register::Ecr, Ecr::SPP.bits());
    works
}

/// Whether the EPP registers of a port without an ECR make cycles: a bit that is never set is
/// always clear, too. An address is read in compatibility mode, where a peripheral does not answer:
/// the cycle times out, or, if there is a peripheral that answers nevertheless, gives its address.
/// It moves nSelectIn for 10 us.
pub(super) fn makes_epp_cycles(port: &mut impl Port) -> bool {
    // Drivers off, as some chips want it for a read.
    port.write(Register::Dcr, (Dcr::ACTIVE | Dcr::REVERSE).bits());
    let answer = port.read(Register::EppAddress);
    let works = if epp_time_out(port) {
        clear_epp_time_out(port)
    } else {
        answer != OPEN_BUS
    };
    port.write(Register::Dcr, Dcr::IDLE.bits());
    works
}

/// A port whose ECR is written as its chip wants it.
struct OfEcr<'a, P>(&'a mut P, bool);

impl<P: Port> OfEcr<'_, P> {
    fn read(&mut self, register: Register) -> u8 {
        self.0.read(register)
    }

    fn write(&mut self, register: Register, value: u8) {
        let fixed = self.1 && register == Register::Ecr;
        let value = if fixed { fixed_ecr(value) } else { value };
        self.0.write(register, value);
    }
}

/// Measures the FIFO. `None`: the register is no FIFO.
fn fifo<P: Port>(port: &mut OfEcr<'_, P>) -> Option<Fifo> {
    // An empty FIFO in every mode but 000 and 001 comes by passing through one of them.
    port.write(Register::Ecr, Ecr::SPP.bits());
    port.write(Register::Ecr, Ecr::TEST.bits());
    let depth = (1..DEPTH_LIMIT).find(|_| {
        port.write(Register::EcpFifo, 0xAA);
        ecr(port).contains(Ecr::FULL)
    });
    port.write(Register::Ecr, Ecr::SPP.bits());
    let depth = depth?;
    port.write(Register::Ecr, Ecr::CONFIGURATION.bits());
    let configuration = CnfgA::from_bits_retain(port.read(Register::EcpFifo));
    port.write(Register::Ecr, Ecr::SPP.bits());
    Some(Fifo {
        depth,
        width: configuration.word_bits(),
        counts_transmitter: configuration.contains(CnfgA::COUNTS_TRANSMITTER),
    })
}

fn ecr<P: Port>(port: &mut OfEcr<'_, P>) -> Ecr {
    Ecr::from_bits_retain(port.read(Register::Ecr))
}

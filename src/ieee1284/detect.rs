//! What the port's hardware can do.

use super::{CnfgA, Dcr, Dsr, Ecr, Port, Register};
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
    /// The data lines can be read (`PPT_BYTE_PRESENT`).
    pub byte: bool,
    /// There are EPP registers (`PPT_EPP_PRESENT`).
    pub epp: bool,
    /// The EPP data register may be accessed 32 bits at a time (`PPT_EPP_32_PRESENT`). Never found
    /// out by [`detect`]: an access that a chip does not know may reach its neighbour.
    pub epp_32: bool,
    /// There is an ECR.
    pub ecr: bool,
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
    /// How many words are free when a service interrupt asks for more. 0: it does not.
    pub write_threshold: u16,
    /// How many words are in it when a service interrupt offers them. 0: it does not.
    pub read_threshold: u16,
    /// Full and empty bit count the byte that is on its way to the peripheral (cnfgA bit 2).
    pub counts_transmitter: bool,
}

impl Capabilities {
    /// A port of which nothing is known but that it is one.
    pub const SPP: Self = Self {
        spp: true,
        byte: false,
        epp: false,
        epp_32: false,
        ecr: false,
        fifo: None,
    };

    /// The `PPT_*` bits of parallel.h (`HardwareCapabilities`).
    #[must_use]
    pub const fn ppt(&self) -> u32 {
        (self.fifo.is_some() as u32)
            | (self.epp as u32) << 1
            | ((self.epp && self.epp_32) as u32) << 2
            | (self.byte as u32) << 3
    }

    /// The modes that the port can do, with every peripheral that has them.
    #[must_use]
    pub fn modes(&self) -> IeeeModes {
        let mut modes = IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY | IeeeModes::NIBBLE;
        if self.byte {
            modes |= IeeeModes::BYTE_BIDIR | IeeeModes::EPP_SW | IeeeModes::ECP_SW;
        }
        if self.epp {
            modes |= IeeeModes::EPP_HW;
        }
        if self.byte_fifo().is_some() && self.byte {
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
/// From a word in the test FIFO to the service interrupt bit, in microseconds.
const THRESHOLD_US: u32 = 5;
/// ECR values to detect an ECR by: what is written, and what is read, with the empty FIFO's bit.
const ECR_PROBE: (u8, u8) = (0x34, 0x35);
/// Two data patterns; no line keeps one of them by itself in both.
const PATTERNS: [u8; 2] = [0x55, 0xAA];

/// Finds out what the port's hardware can do. Needs no peripheral, and disturbs none that is at
/// rest; must not run in a transfer. At the end the port is at rest.
pub fn detect(port: &mut impl Port) -> Capabilities {
    let mut found = Capabilities::default();
    // Some chips ignore everything else while a time-out is pending.
    clear_epp_time_out(port);
    found.spp = has_spp(port);
    if found.spp {
        found.ecr = has_ecr(port);
        found.byte = has_byte(port, found.ecr);
        found.epp = has_epp(port, found.ecr);
        if found.ecr {
            found.fifo = fifo(port);
        }
    }
    rest(port, &found);
    found
}

/// Puts the port at rest: compatibility mode, and no line asks anything of a peripheral.
pub fn rest(port: &mut impl Port, capabilities: &Capabilities) {
    if capabilities.ecr {
        port.write(Register::Ecr, Ecr::SPP.bits());
    }
    port.write(Register::Data, 0);
    port.write(Register::Dcr, Dcr::IDLE.bits());
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

/// Whether the control or the data register holds what is written.
fn has_spp(port: &mut impl Port) -> bool {
    let controls = [Dcr::IDLE | Dcr::AUTO_FD, Dcr::IDLE].map(|dcr| {
        port.write(Register::Dcr, dcr.bits());
        port.read(Register::Dcr) & 0x0F == dcr.bits()
    });
    controls == [true; 2]
        || PATTERNS.map(|pattern| {
            port.write(Register::Data, pattern);
            port.read(Register::Data) == pattern
        }) == [true; 2]
}

/// Whether there is an ECR, and not the DCR once more: old cards decode ten address bits.
fn has_ecr(port: &mut impl Port) -> bool {
    if !port.has_ecp() {
        return false;
    }
    let mirrors = [Dcr::IDLE | Dcr::AUTO_FD, Dcr::IDLE].map(|dcr| {
        port.write(Register::Dcr, dcr.bits());
        port.read(Register::Ecr) & 0b11 == dcr.bits() & 0b11
    });
    if mirrors == [true; 2] {
        return false;
    }
    // Empty, not full.
    if port.read(Register::Ecr) & 0b11 != Ecr::EMPTY.bits() {
        return false;
    }
    port.write(Register::Ecr, ECR_PROBE.0);
    let echo = port.read(Register::Ecr);
    port.write(Register::Ecr, Ecr::SPP.bits());
    port.write(Register::Dcr, Dcr::IDLE.bits());
    echo == ECR_PROBE.1
}

/// Whether the data drivers can be turned off: then the lines differ from what is written.
fn has_byte(port: &mut impl Port, ecr: bool) -> bool {
    if ecr {
        port.write(Register::Ecr, Ecr::PS2.bits());
    }
    port.write(Register::Dcr, (Dcr::IDLE | Dcr::REVERSE).bits());
    let holds = PATTERNS.map(|pattern| {
        port.write(Register::Data, pattern);
        port.read(Register::Data) == pattern
    });
    port.write(Register::Dcr, Dcr::IDLE.bits());
    if ecr {
        port.write(Register::Ecr, Ecr::SPP.bits());
    }
    holds != [true; 2]
}

/// Whether there is an EPP time-out bit that works.
fn has_epp(port: &mut impl Port, ecr: bool) -> bool {
    if !port.has_epp() {
        return false;
    }
    if ecr {
        // A chip whose time-out bit is clear in the other modes, too, has none ("phony EPP").
        for mode in [Ecr::SPP, Ecr::PS2, Ecr::FAST_CENTRONICS, Ecr::ECP] {
            // FAST_CENTRONICS and ECP are entered and left through SPP.
            port.write(Register::Ecr, Ecr::SPP.bits());
            port.write(Register::Ecr, mode.bits());
            let clears = clear_epp_time_out(port);
            port.write(Register::Ecr, Ecr::SPP.bits());
            if clears {
                return false;
            }
        }
        port.write(Register::Ecr, Ecr::PS2.bits());
    }
    // Drivers off, as some chips want it for a read.
    port.write(Register::Dcr, (Dcr::ACTIVE | Dcr::REVERSE).bits());
    if ecr {
        port.write(Register::Ecr, Ecr::EPP.bits());
    }
    let mut works = clear_epp_time_out(port);
    // A bit that is never set is always clear. A peripheral at rest does not raise nWait (Busy),
    // so an EPP cycle must time out. It reads an address: that moves nSelectIn only.
    let resting = Dsr::from_bits_retain(port.read(Register::Dsr)).contains(Dsr::NOT_BUSY);
    if works && resting {
        let _ = port.read(Register::EppAddress);
        works = epp_time_out(port) && clear_epp_time_out(port);
    }
    if ecr {
        port.write(Register::Ecr, Ecr::PS2.bits());
    }
    port.write(Register::Dcr, Dcr::IDLE.bits());
    if ecr {
        port.write(Register::Ecr, Ecr::SPP.bits());
    }
    works
}

/// Measures the FIFO. `None`: the register is no FIFO.
fn fifo(port: &mut impl Port) -> Option<Fifo> {
    // An empty FIFO in every mode but 000 and 001 comes by passing through one of them.
    port.write(Register::Ecr, Ecr::SPP.bits());
    port.write(Register::Ecr, Ecr::TEST.bits());
    let depth = (1..DEPTH_LIMIT).find(|_| {
        port.write(Register::EcpFifo, 0xAA);
        ecr(port).contains(Ecr::FULL)
    });
    let write_threshold = depth.and_then(|depth| {
        threshold(port, depth, |port| {
            let _ = port.read(Register::EcpFifo);
        })
    });
    port.write(Register::Ecr, Ecr::PS2.bits());
    let depth = depth?;

    // The other threshold counts when the port is turned round.
    port.write(Register::Dcr, (Dcr::IDLE | Dcr::REVERSE).bits());
    port.write(Register::Ecr, Ecr::TEST.bits());
    let read_threshold = threshold(port, depth, |port| port.write(Register::EcpFifo, 0xAA));
    port.write(Register::Ecr, Ecr::PS2.bits());
    port.write(Register::Dcr, Dcr::IDLE.bits());

    port.write(Register::Ecr, Ecr::CONFIGURATION.bits());
    let configuration = CnfgA::from_bits_retain(port.read(Register::EcpFifo));
    port.write(Register::Ecr, Ecr::SPP.bits());
    Some(Fifo {
        depth,
        width: configuration.word_bits()?,
        write_threshold: write_threshold.unwrap_or(0),
        read_threshold: read_threshold.unwrap_or(0),
        counts_transmitter: configuration.contains(CnfgA::COUNTS_TRANSMITTER),
    })
}

/// Counts steps until the service interrupt is due. It is enabled for that; the port's interrupt
/// is not connected.
fn threshold<P: Port>(port: &mut P, depth: u16, mut step: impl FnMut(&mut P)) -> Option<u16> {
    port.write(
        Register::Ecr,
        (Ecr::TEST - Ecr::SERVICE_INTERRUPT_OFF).bits(),
    );
    let count = (1..=depth).find(|_| {
        step(port);
        port.stall(THRESHOLD_US);
        ecr(port).contains(Ecr::SERVICE_INTERRUPT_OFF)
    });
    port.write(Register::Ecr, Ecr::TEST.bits());
    count
}

fn ecr(port: &mut impl Port) -> Ecr {
    Ecr::from_bits_retain(port.read(Register::Ecr))
}

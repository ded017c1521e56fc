//! A session on a port whose every register reads as the input says: nothing there keeps to any
//! protocol.

use arbitrary::Arbitrary;
use parscan_core::ieee1284::{Capabilities, Fifo, Interrupted, Port, Register, Session, detect};

use super::ops::{Op, apply};

/// The registers for a while.
#[derive(Clone, Copy)]
struct Step {
    dsr: u8,
    data: u8,
    /// Full, empty and interrupt bit of the ECR; the mode is what was written, unless `odd`.
    ecr: u8,
    /// Microseconds.
    hold: u64,
}

impl Step {
    /// Bytes of input a step.
    const BYTES: usize = 3;

    fn new([dsr, data, rest]: [u8; Self::BYTES]) -> Self {
        Self {
            // Half of them are lines that the protocols wait for.
            dsr: if dsr & 0x02 == 0 {
                dsr
            } else {
                TYPICAL[usize::from(dsr >> 4)] | dsr & 0x01
            },
            data,
            ecr: if data & 0x01 == 0 {
                rest << 2 | rest
            } else {
                rest
            },
            hold: 1 << ((rest >> 3) % 23),
        }
    }
}

/// Status lines after events of the protocols.
const TYPICAL: [u8; 16] = [
    0xD8, 0xD8, 0x58, 0xB8, 0xB8, 0xF8, 0xC0, 0xC0, 0xD0, 0xD0, 0x90, 0x80, 0x00, 0x78, 0xF0, 0x98,
];

/// When waits end early.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Patience {
    /// After a quarter of so many accesses,
    accesses: u16,
    /// or so many milliseconds.
    milliseconds: u16,
}

/// A port and what is done with it.
#[derive(Arbitrary, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent features")]
pub struct Input<'a> {
    has_ecp: bool,
    has_epp: bool,
    /// Finds the capabilities out, rather than being told.
    detect: bool,
    byte: bool,
    epp: bool,
    epp_32: bool,
    ecr: bool,
    /// Depth, and whether it counts the transmitter's byte.
    fifo: Option<(u16, bool)>,
    /// Also the other registers read as they want.
    odd: bool,
    /// Every look at the status lines is the next step, whatever time it is.
    by_look: bool,
    /// The steps come again and again; else the last one stays.
    repeat: bool,
    ops: Vec<(Patience, Op)>,
    steps: &'a [u8],
}

/// Accesses after the end of the patience: 64 bytes without a look at it, or a FIFO of 1023, and
/// what leads to rest.
const GRACE_ACCESSES: u64 = 10_000;
/// Time after it.
const GRACE_US: u64 = 200_000;
/// The longest detection: a FIFO of 1023, filled and emptied twice.
const DETECTION: u64 = 10_000;
/// The longest patience.
const PATIENCE_MS: u64 = 10_000;
/// More operations find nothing new.
const MOST_OPS: usize = 16;

struct Adversary<'a> {
    input: &'a Input<'a>,
    steps: Vec<Step>,
    next: usize,
    until: u64,
    us: u64,
    accesses: u64,
    dcr: u8,
    ecr: u8,
    data: u8,
    end_accesses: u64,
    end_us: u64,
    /// The session uses the ECR.
    uses_ecr: bool,
    /// What the ECR has shown below its mode field: a bit for each of the 32 values.
    ecr_shown: u32,
}

impl<'a> Adversary<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        let (steps, _) = input.steps.as_chunks();
        Self {
            input,
            steps: steps.iter().map(|bytes| Step::new(*bytes)).collect(),
            next: 0,
            until: 0,
            us: 0,
            accesses: 0,
            dcr: 0x0C,
            ecr: 0,
            data: 0,
            end_accesses: DETECTION,
            end_us: u64::MAX,
            uses_ecr: false,
            ecr_shown: 0,
        }
    }

    fn patience(&mut self, patience: Patience) {
        self.end_accesses = self.accesses + u64::from(patience.accesses) / 4;
        self.end_us = self.us + u64::from(patience.milliseconds).min(PATIENCE_MS) * 1000;
    }

    const fn is_over(&self) -> bool {
        self.accesses >= self.end_accesses || self.us >= self.end_us
    }

    fn interrupted(&self) -> Result<(), Interrupted> {
        if self.is_over() {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }

    fn check(&mut self) {
        if !self.is_over() {
            return;
        }
        // What came first counts from then on.
        self.end_accesses = self.end_accesses.min(self.accesses);
        self.end_us = self.end_us.min(self.us);
        assert!(
            self.accesses - self.end_accesses <= GRACE_ACCESSES,
            "accesses without an end"
        );
        assert!(self.us - self.end_us <= GRACE_US, "time without an end");
    }

    fn access(&mut self) {
        self.accesses += 1;
        self.us += 1;
        self.check();
    }

    /// The step at this moment.
    fn step(&mut self, look: bool) -> Step {
        const FLOATING: Step = Step {
            dsr: 0xFF,
            data: 0xFF,
            ecr: 0xFF,
            hold: 1,
        };
        let steps = &self.steps;
        if self.input.by_look {
            self.next += usize::from(look);
        } else {
            while self.until <= self.us && (self.input.repeat || self.next < steps.len()) {
                let hold = steps.get(self.next % steps.len().max(1));
                self.until += hold.unwrap_or(&FLOATING).hold;
                self.next += 1;
            }
        }
        let Some(last) = steps.len().checked_sub(1) else {
            return FLOATING;
        };
        let now = self.next.saturating_sub(1);
        let now = if self.input.repeat {
            now % steps.len()
        } else {
            now.min(last)
        };
        steps[now]
    }

    const fn mode(&self) -> u8 {
        self.ecr >> 5
    }

    fn is_at_rest(&self) -> bool {
        self.dcr == 0x0C && self.mode() == 0
    }
}

impl Port for Adversary<'_> {
    fn read(&mut self, register: Register) -> u8 {
        self.access();
        let step = self.step(register == Register::Dsr);
        match register {
            Register::Dsr => step.dsr,
            Register::Data if self.dcr & 0x20 == 0 && !self.input.odd => self.data,
            Register::Dcr if !self.input.odd => self.dcr,
            Register::Ecr => {
                let ecr = if self.input.odd {
                    step.ecr
                } else {
                    self.ecr & 0xF8 | step.ecr & 0x07
                };
                self.ecr_shown |= 1 << (ecr & 0x1F);
                ecr
            }
            Register::EppData | Register::EppAddress => {
                self.epp_cycle();
                assert_ne!(self.dcr & 0x20, 0, "EPP read with the data drivers on");
                step.data
            }
            Register::EcpFifo => {
                assert!(
                    matches!(self.mode(), 2 | 3 | 6 | 7),
                    "FIFO: {}",
                    self.mode()
                );
                step.data
            }
            _ => step.data,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        self.access();
        match register {
            Register::Data => self.data = value,
            Register::Dcr => {
                assert_eq!(value & 0xD0, 0, "interrupt or reserved bits: {value:#x}");
                assert!(
                    (self.dcr ^ value) & 0x20 == 0 || self.mode() < 2,
                    "direction changed in mode {}",
                    self.mode()
                );
                self.dcr = value;
            }
            Register::Ecr => {
                let (was, is) = (self.mode(), value >> 5);
                assert!(was < 2 || is < 2 || was == is, "mode {was} to {is}");
                // Test mode has it on for a moment; the port's interrupt is not connected. The
                // detection writes what the chip shows below its mode field, and a chip that shows
                // 00001 there gets it always.
                let others = value & 0x1F;
                let shown = !self.uses_ecr && self.ecr_shown >> others & 1 != 0 || others == 0x01;
                assert!(shown || value & 0x10 != 0 && (value & 0x04 != 0 || is == 6));
                self.ecr = value;
            }
            Register::EppData | Register::EppAddress => {
                self.epp_cycle();
                assert_eq!(self.dcr & 0x20, 0, "EPP write with the data drivers off");
            }
            Register::EcpFifo => {
                assert!(matches!(self.mode(), 2 | 3 | 6), "FIFO: {}", self.mode());
            }
            Register::Dsr => {}
            Register::CnfgB => panic!("cnfgB is never written"),
        }
    }

    fn stall(&mut self, microseconds: u32) {
        assert!((1..=50).contains(&microseconds), "{microseconds} us");
        self.us += u64::from(microseconds);
        self.check();
    }

    fn yield_now(&mut self) -> Result<(), Interrupted> {
        self.check();
        self.interrupted()
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.check();
        self.interrupted()?;
        self.us += u64::from(milliseconds) * 1000;
        if self.is_over() {
            // Sleeps end with the patience.
            self.us = self.us.min(self.end_us);
        }
        self.interrupted()
    }

    fn now(&mut self) -> u64 {
        self.us / 1000
    }

    fn has_ecp(&self) -> bool {
        self.input.has_ecp
    }

    fn has_epp(&self) -> bool {
        self.input.has_epp
    }
}

impl Adversary<'_> {
    fn epp_cycle(&self) {
        assert!(self.input.has_epp, "no EPP registers");
        assert!(
            !self.uses_ecr || self.mode() == 4,
            "EPP in mode {}",
            self.mode()
        );
    }
}

/// Does everything, then ends.
///
/// # Panics
/// If an operation does not end, or not at rest, moves more than there is, or breaks a rule of the
/// chip.
pub fn run(input: &Input<'_>) {
    let mut port = Adversary::new(input);
    let capabilities = if input.detect {
        let found = detect(&mut port);
        // It leaves the control lines as they are: here, as the port says that they are.
        assert!(
            port.mode() == 0 && port.dcr & 0xD0 == 0,
            "after the detection"
        );
        port.dcr = 0x0C;
        found
    } else {
        told(input)
    };
    port.uses_ecr = capabilities.ecr;
    let mut session = Session::new(capabilities);
    for (patience, op) in input.ops.iter().take(MOST_OPS) {
        port.patience(*patience);
        apply(*op, &mut session, &mut port);
        assert!(
            session.is_connected() || port.is_at_rest(),
            "{op:?}: DCR {:02X}, ECR {:02X}",
            port.dcr,
            port.ecr
        );
    }
    port.patience(Patience {
        accesses: 0,
        milliseconds: 0,
    });
    session.terminate(&mut port);
    assert!(!session.is_connected() && port.is_at_rest(), "at the end");
}

fn told(input: &Input<'_>) -> Capabilities {
    let ecr = input.ecr && input.has_ecp;
    Capabilities {
        byte: Some(input.byte),
        epp: input.epp && input.has_epp,
        epp_32: input.epp_32,
        ecr,
        fifo: input.fifo.filter(|_| ecr).map(|(depth, counts)| Fifo {
            // Half of them have the usual depth.
            depth: if depth & 1 == 0 {
                16
            } else {
                (depth / 2).clamp(1, 1023)
            },
            width: 8,
            counts_transmitter: counts,
        }),
        ..Capabilities::SPP
    }
}

//! The extended capabilities port: a FIFO that makes the handshakes.

use alloc::{boxed::Box, collections::VecDeque};

use super::{
    ChipViolation, ChipViolationKind, EppVersion, TimeoutClear, Violations,
    base::{Base, DATA, DCR, DCR_DIRECTION, DSR},
    chip_options,
    epp::{ADDRESS, DSR_TIMEOUT, EppEngine, LAST_DATA, epp_options},
    read_bytes, write_bytes,
};
use crate::{LineTrace, Nanos, Peripheral, PortDevice, Width};

// Offsets in block 1.
const FIFO: u16 = 0;
const CNFG_B: u16 = 1;
const ECR: u16 = 2;

// ECR bits.
const ECR_DMA: u8 = 0x08;
const ECR_SERVICE: u8 = 0x04;
const ECR_FULL: u8 = 0x02;
const ECR_EMPTY: u8 = 0x01;
/// SPP mode, nothing enabled.
const ECR_RESET: u8 = 0x14;

// ECR modes: bits 7 to 5.
const SPP: u8 = 0b000;
const PS2: u8 = 0b001;
const FAST_CENTRONICS: u8 = 0b010;
const ECP: u8 = 0b011;
const EPP: u8 = 0b100;
const RESERVED: u8 = 0b101;
const TEST: u8 = 0b110;
const CONFIGURATION: u8 = 0b111;

/// cnfgA bit 2: the full bit counts the byte in the transmitter.
const CNFG_A_COUNTS_TRANSMITTER: u8 = 0x04;

// What fast Centronics keeps: data set-up, strobe and hold.
const SET_UP: Nanos = 600;
const STROBE: Nanos = 600;
const HOLD: Nanos = 450;

/// A byte of the FIFO with its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    byte: u8,
    command: bool,
}

/// How far the byte on the lines has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Idle,
    /// Fast Centronics: the data lines are set, and nStrobe falls at this time.
    SetUp(Nanos),
    /// nStrobe is low until this time.
    Strobe(Nanos),
    /// The data lines stay until this time.
    Hold(Nanos),
    /// ECP forward: `HostClk` is low until this time at least, and until Busy is high.
    ClockLow(Nanos),
    /// `HostClk` is high again; done at this time, when Busy is low.
    ClockHigh(Nanos),
    /// ECP reverse: `HostAck` is high until nAck is high.
    Acked,
}

/// An ECP chip: a [`Ps2`](crate::Ps2) with a FIFO, and EPP registers if
/// [built so](Self::with_epp).
///
/// The ECR (block 1, offset 2) selects the mode in bits 7 to 5. Bits 1 and 0 show the FIFO full and
/// empty.
///
/// - 000: standard port; DCR bit 5 does not turn the drivers off.
/// - 001: PS/2-style port.
/// - 010: what is written to block 1, offset 0 goes out with the Centronics handshake.
/// - 011: the same with the ECP handshake; a byte written to DATA goes out as a command. With DCR
///   bit 5 at 1 the FIFO fills from the peripheral, and runs are expanded.
/// - 100: EPP, if the chip has it.
/// - 110: the FIFO can be written and read, and nothing reaches the connector.
/// - 111: cnfgA and cnfgB at offsets 0 and 1.
///
/// The FIFO moves bytes while time passes between accesses. Its depth is in bytes, and it takes
/// 16- and 32-bit accesses whole if cnfgA shows such a word size; others are as many 8-bit accesses
/// from the lowest offset up. There is no DMA and no interrupt line: serviceIntr is a bit to poll.
///
/// It keeps no trace unless built [`with_trace`](Self::with_trace).
#[allow(clippy::struct_excessive_bools, reason = "options and lines")]
pub struct Ecp {
    base: Base,
    epp: Option<EppEngine>,
    phony_epp: bool,
    fixed_ecr: bool,
    locked_up: bool,
    /// Bits 7 to 2.
    ecr: u8,
    cnfg_a: u8,
    cnfg_b: u8,
    depth: usize,
    read_threshold: usize,
    write_threshold: usize,
    byte_time: Nanos,
    decompresses: bool,
    fifo: VecDeque<Entry>,
    /// What the FIFO gave last.
    last_read: u8,
    /// The byte on its way out.
    transmitter: Option<Entry>,
    transfer: Transfer,
    /// Not before this time does the next byte begin.
    ready_at: Nanos,
    /// The count of a run whose byte is still to come.
    run: Option<u8>,
    /// A byte that is still to go into the FIFO so often.
    expanding: (u8, usize),
    // What the hardware does to the lines.
    out: u8,
    clock_low: bool,
    ack_low: bool,
    violations: Violations,
}

chip_options!(Ecp);
epp_options!(Ecp);

impl Ecp {
    /// A chip with `peripheral` on its connector: a FIFO of 16 bytes with both thresholds at 8, 0.5
    /// us a byte, cnfgA 0x94, cnfgB 0, ECR 0x15 (SPP mode), and no EPP.
    #[must_use]
    pub fn new(peripheral: Box<dyn Peripheral>) -> Self {
        Self {
            base: Base::new(peripheral, false),
            epp: None,
            phony_epp: false,
            fixed_ecr: false,
            locked_up: false,
            ecr: ECR_RESET,
            cnfg_a: 0x94,
            cnfg_b: 0,
            depth: 16,
            read_threshold: 8,
            write_threshold: 8,
            byte_time: 500,
            decompresses: true,
            fifo: VecDeque::new(),
            last_read: 0xFF,
            transmitter: None,
            transfer: Transfer::Idle,
            ready_at: 0,
            run: None,
            expanding: (0, 0),
            out: 0,
            clock_low: false,
            ack_low: false,
            violations: Violations::default(),
        }
    }

    /// How many bytes the FIFO holds, at least 1. The thresholds become half of it.
    #[must_use]
    pub fn with_fifo_depth(mut self, depth: usize) -> Self {
        self.depth = depth.max(1);
        let half = (depth / 2).max(1);
        self.with_thresholds(half, half)
    }

    /// readIntrThreshold and writeIntrThreshold: how many bytes are in the FIFO, or free in it, when
    /// it asks for service.
    #[must_use]
    pub fn with_thresholds(mut self, read: usize, write: usize) -> Self {
        (self.read_threshold, self.write_threshold) = (read, write);
        self
    }

    /// How long a byte takes in mode 011, apart from waiting for the peripheral.
    #[must_use]
    pub fn with_byte_time(mut self, time: Nanos) -> Self {
        self.byte_time = time;
        self
    }

    /// What cnfgA reads: bit 7 level interrupt, bits 6 to 4 word size (001 is 8 bits), bit 2 that
    /// the full bit counts the byte in the transmitter. The chip obeys bit 2.
    #[must_use]
    pub fn with_cnfg_a(mut self, value: u8) -> Self {
        self.cnfg_a = value;
        self
    }

    /// What cnfgB reads at first: bits 5 to 3 IRQ, bits 2 to 0 DMA channel. Software can change
    /// these; bit 7 is 0, since the chip does not compress.
    #[must_use]
    pub fn with_cnfg_b(mut self, value: u8) -> Self {
        self.cnfg_b = value & 0x7F;
        self
    }

    /// A chip whose firmware left `ecr` in the ECR.
    #[must_use]
    pub fn with_ecr(mut self, ecr: u8) -> Self {
        self.write_ecr(ecr);
        self
    }

    /// A chip that puts the counts of runs into the FIFO as they come.
    #[must_use]
    pub fn without_decompression(mut self) -> Self {
        self.decompresses = false;
        self
    }

    /// A chip with EPP in mode 100. In the other modes the EPP registers read 0xFF, and DSR bit 0 is
    /// a bit without a function.
    #[must_use]
    pub fn with_epp(mut self) -> Self {
        self.epp_mut();
        self
    }

    /// A chip without EPP whose DSR bit 0 reads 0 in all modes, as if there were.
    #[must_use]
    pub fn with_phony_epp(mut self) -> Self {
        self.phony_epp = true;
        self
    }

    /// A chip whose ECR has only its mode field, with 00001 below it, and which locks up when
    /// something else is written there: Oxford Semiconductor's `OXmPCI840`, by Linux's `parport_pc.c`.
    #[must_use]
    pub fn with_fixed_ecr(mut self) -> Self {
        self.fixed_ecr = true;
        self.ecr = 0;
        self
    }

    /// The ECR as software would read it now.
    #[must_use]
    pub fn ecr(&self) -> u8 {
        if self.locked_up {
            return 0xFF;
        }
        let mut ecr = self.ecr;
        if self.fixed_ecr {
            ecr &= 0xE0;
        }
        if self.is_full() {
            ecr |= ECR_FULL;
        }
        if self.occupied() == 0 {
            ecr |= ECR_EMPTY;
        }
        ecr
    }

    /// How many bytes are in the FIFO.
    #[must_use]
    pub fn fifo_len(&self) -> usize {
        self.fifo.len()
    }

    /// The rules that software broke, oldest first, at most 4096.
    #[must_use]
    pub fn violations(&self) -> &[ChipViolation] {
        &self.violations.0
    }

    fn epp_mut(&mut self) -> &mut EppEngine {
        self.epp.get_or_insert_with(EppEngine::new)
    }

    const fn mode(&self) -> u8 {
        self.ecr >> 5
    }

    /// Whether DCR bit 5 means reverse now: modes 000 and 010 are always forward.
    const fn is_reverse(&self) -> bool {
        self.base.wiring.bidirectional && self.base.dcr & DCR_DIRECTION != 0
    }

    /// How many bytes count for the full and empty bits.
    fn occupied(&self) -> usize {
        let counts = self.cnfg_a & CNFG_A_COUNTS_TRANSMITTER != 0;
        self.fifo.len() + usize::from(counts && self.transmitter.is_some())
    }

    fn is_full(&self) -> bool {
        self.occupied() >= self.depth
    }

    fn violation(&mut self, kind: ChipViolationKind) {
        self.violations.add(self.base.connector.now(), kind);
    }

    /// Puts DATA, DCR and what the FIFO does on the connector.
    fn drive(&mut self) {
        let mut host = self.base.host();
        if matches!(self.mode(), FAST_CENTRONICS | ECP) {
            host.data = self.out;
            host.n_strobe &= !self.clock_low;
            host.n_auto_fd &= !self.ack_low;
        }
        self.base.connector.drive(host);
    }

    fn write_ecr(&mut self, value: u8) {
        if self.fixed_ecr && value & 0x1F != 0x01 {
            self.violation(ChipViolationKind::EcrLowBits(value));
            self.locked_up = true;
        }
        let (from, to) = (self.mode(), value >> 5);
        if from != to {
            if matches!(from, FAST_CENTRONICS | ECP | TEST | CONFIGURATION)
                && !matches!(to, SPP | PS2)
            {
                self.violation(ChipViolationKind::ModeChange { from, to });
            }
            if to == RESERVED {
                self.violation(ChipViolationKind::NoSuchMode(to));
            }
            let lost = self.fifo.len() + usize::from(self.transmitter.is_some()) + self.expanding.1;
            if matches!(from, FAST_CENTRONICS | ECP) && lost > 0 {
                self.violation(ChipViolationKind::BytesLost(lost));
            }
            self.fifo.clear();
            self.transmitter = None;
            self.transfer = Transfer::Idle;
            self.run = None;
            self.expanding = (0, 0);
            self.out = self.base.data;
            self.clock_low = false;
        }
        self.ecr = value & !(ECR_FULL | ECR_EMPTY);
        self.base.wiring.bidirectional = !matches!(to, SPP | FAST_CENTRONICS);
        if from != to {
            // HostAck low tells the peripheral that it may send.
            self.ack_low = to == ECP && self.is_reverse();
        }
        self.drive();
        self.ask_for_service();
    }

    fn write_dcr(&mut self, value: u8) {
        if (self.base.dcr ^ value) & DCR_DIRECTION != 0 {
            if self.mode() != PS2 {
                self.violation(ChipViolationKind::DirectionChange);
            }
            if self.mode() == ECP {
                self.ack_low = value & DCR_DIRECTION != 0;
                self.clock_low = false;
                self.transfer = Transfer::Idle;
            }
        }
        self.base.set_dcr(value);
        self.drive();
        self.ask_for_service();
    }

    /// Sets serviceIntr when it is enabled and the FIFO has come to the threshold.
    fn ask_for_service(&mut self) {
        let free = self.depth.saturating_sub(self.occupied());
        let due = match self.mode() {
            FAST_CENTRONICS | ECP | TEST if self.is_reverse() => {
                self.occupied() >= self.read_threshold
            }
            FAST_CENTRONICS | ECP | TEST => free >= self.write_threshold,
            _ => false,
        };
        if due && self.ecr & ECR_DMA == 0 {
            self.ecr |= ECR_SERVICE;
        }
    }

    /// Software writes a byte to the FIFO.
    fn push(&mut self, byte: u8, command: bool) {
        if self.mode() != TEST && self.is_reverse() {
            self.violation(ChipViolationKind::FifoDirection);
        } else if self.is_full() {
            self.violation(ChipViolationKind::FifoOverrun);
        } else {
            self.fifo.push_back(Entry { byte, command });
            self.run(self.base.connector.now());
        }
    }

    /// Software reads a byte from the FIFO.
    fn pop(&mut self) -> u8 {
        if self.mode() != TEST && !self.is_reverse() {
            self.violation(ChipViolationKind::FifoDirection);
            return 0xFF;
        }
        match self.fifo.pop_front() {
            Some(entry) => self.last_read = entry.byte,
            None => self.violation(ChipViolationKind::FifoUnderrun),
        }
        self.run(self.base.connector.now());
        self.last_read
    }

    /// Moves bytes between FIFO and peripheral up to the time `now`.
    fn run(&mut self, now: Nanos) {
        while matches!(self.mode(), FAST_CENTRONICS | ECP) && self.step(now) {}
        self.base.connector.catch_up(now);
        self.ask_for_service();
    }

    /// The next step of the handshake, if it comes by `now`.
    fn step(&mut self, now: Nanos) -> bool {
        match self.transfer {
            Transfer::Idle if self.is_reverse() => return self.receive(now),
            Transfer::Idle => return self.begin(now),
            Transfer::SetUp(until) => {
                if !self.reach(until, now) {
                    return false;
                }
                self.clock_low = true;
                self.transfer = Transfer::Strobe(until.saturating_add(STROBE));
            }
            Transfer::Strobe(until) => {
                if !self.reach(until, now) {
                    return false;
                }
                self.clock_low = false;
                self.transfer = Transfer::Hold(until.saturating_add(HOLD));
            }
            Transfer::Hold(until) => {
                if !self.reach(until, now) {
                    return false;
                }
                self.finish(until);
            }
            Transfer::ClockLow(until) => {
                if !self.reach(until, now) || !self.base.connector.wait(now, |lines| lines.busy) {
                    return false;
                }
                self.clock_low = false;
                let half = self.byte_time - self.byte_time / 2;
                let until = self.base.connector.now().saturating_add(half);
                self.transfer = Transfer::ClockHigh(until);
            }
            Transfer::ClockHigh(until) => {
                if !self.reach(until, now) || !self.base.connector.wait(now, |lines| !lines.busy) {
                    return false;
                }
                self.ack_low = false;
                self.finish(until);
            }
            Transfer::Acked => {
                if !self.base.connector.wait(now, |lines| lines.n_ack) {
                    return false;
                }
                self.ack_low = true;
                self.finish(self.base.connector.now().saturating_add(self.byte_time));
            }
        }
        self.drive();
        true
    }

    /// Lets time pass up to `until`, unless that is after `now`.
    fn reach(&mut self, until: Nanos, now: Nanos) -> bool {
        if until > now {
            return false;
        }
        self.base.connector.catch_up(until);
        true
    }

    fn finish(&mut self, ready_at: Nanos) {
        self.transmitter = None;
        self.transfer = Transfer::Idle;
        self.ready_at = ready_at;
        self.ask_for_service();
    }

    /// Begins the FIFO's next byte, when the peripheral is ready for it.
    fn begin(&mut self, now: Nanos) -> bool {
        let Some(entry) = self.fifo.front().copied() else {
            return false;
        };
        if !self.reach(self.ready_at, now) || !self.base.connector.wait(now, |lines| !lines.busy) {
            return false;
        }
        let now = self.base.connector.now();
        self.fifo.pop_front();
        self.transmitter = Some(entry);
        self.out = entry.byte;
        if self.mode() == ECP {
            self.control_held(0x03);
            self.ack_low = entry.command;
            self.drive();
            self.clock_low = true;
            self.transfer = Transfer::ClockLow(now.saturating_add(self.byte_time / 2));
        } else {
            self.control_held(0x01);
            self.transfer = Transfer::SetUp(now.saturating_add(SET_UP));
        }
        self.drive();
        self.ask_for_service();
        true
    }

    /// Takes a byte that the peripheral offers, when there is room for it.
    fn receive(&mut self, now: Nanos) -> bool {
        while self.expanding.1 > 0 && !self.is_full() {
            self.expanding.1 -= 1;
            let byte = self.expanding.0;
            let command = false;
            self.fifo.push_back(Entry { byte, command });
        }
        if self.is_full()
            || !self.reach(self.ready_at, now)
            || !self.base.connector.wait(now, |lines| !lines.n_ack)
        {
            return false;
        }
        self.control_held(0x02);
        let byte = self.base.connector.bus();
        let command = !self.base.connector.lines().busy;
        if command && self.decompresses && byte < 0x80 {
            self.run = Some(byte);
        } else {
            // The first of a run has its room; the others wait for theirs.
            self.expanding = (byte, usize::from(self.run.take().unwrap_or(0)));
            self.fifo.push_back(Entry { byte, command });
        }
        self.ack_low = false;
        self.transfer = Transfer::Acked;
        self.drive();
        self.ask_for_service();
        true
    }

    /// Whether an access is one of the FIFO's own words. Others are split by the bus, and reach the
    /// registers behind the FIFO too.
    const fn is_fifo_word(&self, block: usize, offset: u16, width: Width) -> bool {
        let word = match self.cnfg_a >> 4 & 0x07 {
            0b000 => 2,
            0b010 => 4,
            _ => 1,
        };
        let mode = self.mode();
        let is_fifo = matches!(mode, FAST_CENTRONICS | ECP | TEST);
        is_fifo && block == 1 && offset == FIFO && width.bytes() <= word
    }

    /// Notes when DCR keeps the hardware from its lines.
    fn control_held(&mut self, bits: u8) {
        if self.base.dcr & bits != 0 {
            self.violation(ChipViolationKind::ControlHeld);
        }
    }

    fn read_dsr(&mut self) -> u8 {
        let dsr = self.base.read_dsr();
        match &mut self.epp {
            Some(epp) if self.ecr >> 5 == EPP => dsr & !DSR_TIMEOUT | epp.read_timeout(),
            _ if self.phony_epp => dsr & !DSR_TIMEOUT,
            _ => dsr,
        }
    }

    fn read_byte(&mut self, block: usize, offset: u16) -> u8 {
        match (block, offset, self.mode()) {
            (0, DATA, _) => self.base.read_data(),
            (0, DSR, _) => self.read_dsr(),
            (0, DCR, _) => self.base.read_dcr(),
            (0, ADDRESS..=LAST_DATA, EPP) => match &mut self.epp {
                Some(epp) => epp.read(&mut self.base, &mut self.violations, offset),
                None => 0xFF,
            },
            (1, FIFO, ECP | TEST) => self.pop(),
            (1, FIFO, CONFIGURATION) => self.cnfg_a,
            (1, CNFG_B, CONFIGURATION) => self.cnfg_b,
            (1, ECR, _) => self.ecr(),
            _ => 0xFF,
        }
    }

    fn write_byte(&mut self, block: usize, offset: u16, value: u8) {
        match (block, offset, self.mode()) {
            (0, DATA | DCR, _) if self.epp.as_ref().is_some_and(EppEngine::blocks) => {
                self.violation(ChipViolationKind::BlockedByTimeout);
            }
            (0, DATA, SPP | PS2 | EPP) => self.base.write_data(value),
            (0, DATA, ECP) => self.push(value, true),
            (0, DATA, _) => self.violation(ChipViolationKind::DataNotOwned),
            (0, DSR, EPP) => {
                if let Some(epp) = &mut self.epp {
                    epp.write_dsr(value);
                }
            }
            (0, DCR, _) => self.write_dcr(value),
            (0, ADDRESS..=LAST_DATA, EPP) => {
                if let Some(epp) = &mut self.epp {
                    epp.write(&mut self.base, &mut self.violations, offset, value);
                }
            }
            (1, FIFO, FAST_CENTRONICS | ECP | TEST) => self.push(value, false),
            (1, CNFG_B, CONFIGURATION) => self.cnfg_b = self.cnfg_b & 0xC0 | value & 0x3F,
            (1, ECR, _) => self.write_ecr(value),
            _ => {}
        }
    }
}

impl PortDevice for Ecp {
    fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
        self.run(now);
        let whole = self.is_fifo_word(block, offset, width);
        read_bytes(offset, width, |place| {
            self.read_byte(block, if whole { offset } else { place })
        })
    }

    fn write(&mut self, now: Nanos, block: usize, offset: u16, width: Width, value: u32) {
        self.run(now);
        let whole = self.is_fifo_word(block, offset, width);
        write_bytes(offset, width, value, |place, byte| {
            self.write_byte(block, if whole { offset } else { place }, byte);
        });
    }

    fn advance(&mut self, now: Nanos) {
        self.run(now);
        self.base.connector.look(now);
    }

    fn held_until(&self) -> Nanos {
        self.base.connector.now()
    }

    fn trace(&self) -> Option<&LineTrace> {
        self.base.connector.trace()
    }
}

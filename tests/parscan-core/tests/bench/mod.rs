//! A port with a peripheral on it, in one small piece: enough to run every mode, to count what the
//! driver does, and to misbehave at a chosen moment. Time is virtual: an access takes 1 us.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    unreachable_pub,
    clippy::collapsible_match,
    clippy::collapsible_if,
    reason = "a state machine reads best as a table of phases"
)]

#[path = "../host/mod.rs"]
mod host;

use std::collections::VecDeque;

use parscan_core::ieee1284::{Interrupted, Port, Register};

pub use host::{Meter, known};

pub const NOT_BUSY: u8 = 0x80;
pub const N_ACK: u8 = 0x40;
pub const P_ERROR: u8 = 0x20;
pub const SELECT: u8 = 0x10;
pub const N_FAULT: u8 = 0x08;

/// nStrobe, nAutoFd and nSelectIn are low while their bit is 1, nInit while its bit is 0.
const STROBE: u8 = 0x01;
const AUTO_FD: u8 = 0x02;
const INIT: u8 = 0x04;
const SELECT_IN: u8 = 0x08;
const REVERSE: u8 = 0x20;

/// A ready printer.
const READY: u8 = NOT_BUSY | N_ACK | SELECT | N_FAULT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Compatibility,
    /// Event 2 was given.
    Asked,
    /// Event 3 was seen.
    AskedStrobe,
    Nibble,
    Byte,
    Epp,
    EcpSetup,
    EcpForward,
    EcpReverse,
    /// Event 24 was given.
    Leaving,
    /// Event 27 was given.
    Left,
}

/// What the chip can do.
#[derive(Clone, Copy, Debug)]
pub struct Chip {
    pub bidirectional: bool,
    pub epp: bool,
    /// Depth of the ECP FIFO; 0: no ECP block.
    pub fifo: usize,
    /// Time of a byte between FIFO and peripheral.
    pub fifo_us: u64,
    /// The control register reads 0xFF.
    pub write_only: bool,
}

impl Chip {
    pub const SPP: Self = Self {
        bidirectional: false,
        epp: false,
        fifo: 0,
        fifo_us: 1,
        write_only: false,
    };
    pub const PS2: Self = Self {
        bidirectional: true,
        ..Self::SPP
    };
    pub const EPP: Self = Self {
        epp: true,
        ..Self::PS2
    };
    pub const ECP: Self = Self {
        fifo: 16,
        ..Self::PS2
    };
    pub const ALL: Self = Self {
        epp: true,
        ..Self::ECP
    };
}

pub struct Bench {
    pub chip: Chip,
    pub us: u64,
    /// Its clock counts microseconds; an interruption by it wakes a sleep, too.
    pub meter: Meter,
    pub yields: u64,
    pub dcr: u8,
    pub data: u8,
    pub ecr: u8,
    pub fifo: VecDeque<u8>,
    fifo_next: u64,
    epp_time_out: bool,
    /// Changes of direction outside of mode 001, bytes lost in a FIFO …
    pub violations: Vec<String>,
    pub device: Device,
}

pub struct Device {
    pub phase: Phase,
    /// Extensibility bytes that are answered with yes.
    pub supports: Vec<u8>,
    pub is_1284: bool,
    /// Delay of every answer.
    pub delay_us: u64,
    /// Busy after each compatibility byte.
    pub busy_us: u64,
    pub received: Vec<u8>,
    pub commands: Vec<u8>,
    pub addresses: Vec<u8>,
    pub source: VecDeque<u8>,
    pub id: Vec<u8>,
    pub resets: usize,
    /// After this many received bytes, the lines show this.
    pub trouble: Option<(usize, u8)>,
    /// Events (by running number) after which it does not answer any more.
    pub dead_after: Option<usize>,
    /// Stalls at this received byte in ECP until it is recovered.
    pub stall_at: Option<usize>,
    pub recoveries: usize,
    /// Sends runs to the host with this encoding: (count, byte) pairs come before `source`.
    pub runs: VecDeque<(u8, u8)>,
    run_pending: Option<u8>,
    rle: Option<u8>,
    pub rle_negotiated: bool,
    request: u8,
    events: usize,
    second: bool,
    current: Option<u8>,
    shown: u8,
    drives: Option<u8>,
    due: VecDeque<(u64, u8, Option<u8>)>,
}

impl Device {
    fn new() -> Self {
        Self {
            phase: Phase::Compatibility,
            supports: vec![0x00, 0x01, 0x04, 0x05, 0x10, 0x14, 0x30, 0x34, 0x40],
            is_1284: true,
            delay_us: 0,
            busy_us: 0,
            received: vec![],
            commands: vec![],
            addresses: vec![],
            source: VecDeque::new(),
            id: vec![],
            resets: 0,
            trouble: None,
            dead_after: None,
            stall_at: None,
            recoveries: 0,
            runs: VecDeque::new(),
            run_pending: None,
            rle: None,
            rle_negotiated: false,
            request: 0,
            events: 0,
            second: false,
            current: None,
            shown: READY,
            drives: None,
            due: VecDeque::new(),
        }
    }

    fn is_dead(&self) -> bool {
        self.dead_after.is_some_and(|after| self.events > after)
    }

    fn show(&mut self, now: u64, lines: u8) {
        self.drive(now, lines, None);
    }

    fn drive(&mut self, now: u64, lines: u8, data: Option<u8>) {
        self.events += 1;
        if !self.is_dead() {
            self.due.push_back((now + self.delay_us, lines, data));
        }
    }

    fn settle(&mut self, now: u64) {
        while let Some((at, lines, data)) = self.due.front().copied() {
            if at > now {
                break;
            }
            self.due.pop_front();
            self.shown = lines;
            self.drives = data;
        }
    }

    fn last_lines(&self) -> u8 {
        self.due.back().map_or(self.shown, |(_, lines, _)| *lines)
    }

    fn next_byte(&mut self) -> Option<u8> {
        if self.request & 0x04 != 0 {
            if self.id.is_empty() {
                None
            } else {
                Some(self.id.remove(0))
            }
        } else {
            self.source.pop_front()
        }
    }

    fn has_data(&self) -> bool {
        if self.request & 0x04 != 0 {
            !self.id.is_empty()
        } else {
            !self.source.is_empty()
        }
    }

    /// Status lines between reverse bytes.
    fn availability(&self) -> u8 {
        let data = if self.has_data() {
            0
        } else {
            N_FAULT | P_ERROR
        };
        NOT_BUSY | N_ACK | SELECT | data
    }

    fn take(&mut self, byte: u8) {
        if self.phase == Phase::EcpForward {
            if let Some(count) = self.rle.take() {
                self.received
                    .extend(std::iter::repeat_n(byte, usize::from(count) + 1));
                return;
            }
        }
        self.received.push(byte);
    }

    fn stalls(&self) -> bool {
        self.stall_at == Some(self.received.len())
    }

    fn compatibility(&mut self, now: u64) {
        let busy = now + self.busy_us;
        self.due.clear();
        if let Some((_, lines)) = self.trouble.filter(|(at, _)| self.received.len() >= *at) {
            self.shown = lines;
            return;
        }
        if self.busy_us > 0 {
            self.shown = READY & !NOT_BUSY;
            self.due.push_back((busy, READY, None));
        } else {
            self.shown = READY;
        }
    }

    /// The host's control lines went from `was` to `is`.
    #[allow(clippy::too_many_lines, reason = "one arm a phase")]
    fn control(&mut self, now: u64, was: u8, is: u8, data: u8) {
        self.settle(now);
        let low = |bit| was & bit == 0 && is & bit != 0;
        let high = |bit| was & bit != 0 && is & bit == 0;
        if was & INIT != 0
            && is & INIT == 0
            && !matches!(self.phase, Phase::EcpForward | Phase::EcpReverse)
        {
            self.resets += 1;
            self.phase = Phase::Compatibility;
            self.due.clear();
            self.compatibility(now);
            return;
        }
        if low(SELECT_IN)
            && !matches!(
                self.phase,
                Phase::Compatibility | Phase::Epp | Phase::Leaving | Phase::Left
            )
        {
            // Event 22, or an immediate termination.
            self.due.clear();
            self.drives = None;
            self.current = None;
            if is & INIT == 0 {
                self.phase = Phase::Compatibility;
                self.compatibility(now);
                return;
            }
            self.phase = Phase::Leaving;
            let x = !self.last_lines() & SELECT;
            // 23, 24: Busy and nFault high, XFlag inverted, nAck low.
            self.show(now, x | N_FAULT);
            return;
        }
        match self.phase {
            Phase::Compatibility => {
                if low(STROBE) && is & SELECT_IN != 0 {
                    if self.shown & NOT_BUSY != 0 {
                        self.received.push(data);
                        self.compatibility(now);
                    }
                } else if is & (SELECT_IN | AUTO_FD) == AUTO_FD && high(SELECT_IN) && self.is_1284 {
                    self.request = data;
                    self.phase = Phase::Asked;
                    self.show(now, NOT_BUSY | P_ERROR | SELECT | N_FAULT);
                }
            }
            Phase::Asked => {
                if low(STROBE) {
                    self.phase = Phase::AskedStrobe;
                }
            }
            Phase::AskedStrobe => {
                if high(STROBE) {
                    let yes = self.supports.contains(&self.request);
                    let x = if yes == (self.request == 0) {
                        0
                    } else {
                        SELECT
                    };
                    let (phase, lines) = match self.request {
                        0x00 | 0x04 => (Phase::Nibble, self.availability()),
                        0x01 | 0x05 => (Phase::Byte, self.availability()),
                        0x40 => (Phase::Epp, READY),
                        _ => (Phase::EcpSetup, NOT_BUSY | N_ACK | N_FAULT),
                    };
                    self.rle_negotiated = self.request & 0x20 != 0;
                    self.phase = if yes { phase } else { Phase::Byte };
                    self.second = false;
                    self.show(now, lines & !SELECT | x);
                }
            }
            Phase::Nibble => {
                if low(AUTO_FD) {
                    if self.current.is_none() {
                        self.current = self.next_byte();
                    }
                    let Some(byte) = self.current else { return };
                    let n = if self.second { byte >> 4 } else { byte & 15 };
                    let lines = (n & 7) << 3 | if n & 8 == 0 { NOT_BUSY } else { 0 };
                    self.show(now, lines);
                } else if high(AUTO_FD) && self.current.is_some() {
                    if self.second {
                        self.current = None;
                        let lines = self.availability();
                        self.show(now, lines);
                    } else {
                        let lines = self.last_lines() | N_ACK;
                        self.show(now, lines);
                    }
                    self.second = !self.second;
                }
            }
            Phase::Byte => {
                if low(AUTO_FD) {
                    self.current = self.next_byte();
                    if let Some(byte) = self.current {
                        let lines = self.availability() & !N_ACK;
                        self.drive(now, lines, Some(byte));
                    }
                } else if high(AUTO_FD) && self.current.is_some() {
                    self.current = None;
                    let lines = self.availability();
                    self.show(now, lines);
                }
            }
            Phase::Epp => {
                let strobe = low(AUTO_FD) || low(SELECT_IN);
                let ends = high(AUTO_FD) || high(SELECT_IN);
                if strobe && !self.stalls() {
                    let data_cycle = is & AUTO_FD != 0;
                    if is & STROBE != 0 {
                        if data_cycle {
                            self.received.push(data);
                        } else {
                            self.addresses.push(data);
                        }
                        self.show(now, READY & !NOT_BUSY);
                    } else {
                        let byte = self.source.pop_front().unwrap_or(0xEE);
                        self.drive(now, READY & !NOT_BUSY, Some(byte));
                    }
                } else if ends {
                    self.show(now, READY);
                }
            }
            Phase::EcpSetup => {
                if low(AUTO_FD) {
                    self.phase = Phase::EcpForward;
                    self.show(now, NOT_BUSY | N_ACK | P_ERROR | SELECT | N_FAULT);
                }
            }
            Phase::EcpForward => {
                let idle = NOT_BUSY | N_ACK | P_ERROR | SELECT | N_FAULT;
                if low(STROBE) {
                    if self.stalls() {
                        return;
                    }
                    if is & AUTO_FD == 0 {
                        self.take(data);
                    } else if data & 0x80 == 0 {
                        self.rle = Some(data);
                    } else {
                        self.commands.push(data & 0x7F);
                    }
                    self.show(now, idle & !NOT_BUSY);
                } else if high(STROBE) && is & INIT != 0 && was & INIT != 0 {
                    self.show(now, idle);
                } else if was & INIT != 0 && is & INIT == 0 {
                    if is & REVERSE != 0 {
                        self.phase = Phase::EcpReverse;
                        self.show(now, idle & !P_ERROR);
                        self.offer(now);
                    } else {
                        self.recoveries += 1;
                        self.show(now, idle & !P_ERROR);
                    }
                } else if was & INIT == 0 && is & INIT != 0 {
                    self.stall_at = None;
                    self.show(now, idle);
                }
            }
            Phase::EcpReverse => {
                let idle = NOT_BUSY | N_ACK | SELECT | N_FAULT;
                if was & INIT == 0 && is & INIT != 0 {
                    if let Some(byte) = self.current.take() {
                        // Not acknowledged.
                        self.source.push_front(byte);
                    }
                    self.phase = Phase::EcpForward;
                    self.show(now, idle | P_ERROR);
                } else if high(AUTO_FD) && self.current.is_some() {
                    self.show(now, idle);
                    self.current = None;
                } else if low(AUTO_FD) {
                    self.offer(now);
                }
            }
            Phase::Leaving => {
                if low(AUTO_FD) {
                    self.phase = Phase::Left;
                    self.show(now, READY);
                } else if is & SELECT_IN == 0 {
                    self.phase = Phase::Compatibility;
                    self.control(now, was, is, data);
                }
            }
            Phase::Left => {
                if high(AUTO_FD) {
                    self.phase = Phase::Compatibility;
                }
            }
        }
    }

    /// Events 18 and 19: nAck pulses in reverse idle while nFault is low.
    pub fn offer_in_reverse_idle(&mut self, now: u64) {
        let lines = self.availability();
        self.due.push_back((now, lines & !N_ACK, None));
        self.due.push_back((now + 5, lines, None));
    }

    /// The next byte in ECP reverse.
    fn offer(&mut self, now: u64) {
        let idle = NOT_BUSY | N_ACK | SELECT | N_FAULT;
        if let Some(byte) = self.run_pending.take() {
            self.current = Some(byte);
            self.drive(now, idle & !N_ACK & !NOT_BUSY, Some(byte));
            return;
        }
        if let Some((count, byte)) = self.runs.pop_front() {
            self.run_pending = Some(byte);
            self.current = Some(count);
            self.drive(now, idle & !N_ACK, Some(count));
            return;
        }
        self.current = self.next_byte();
        if let Some(byte) = self.current {
            self.drive(now, idle & !N_ACK & !NOT_BUSY, Some(byte));
        }
    }
}

impl Bench {
    pub fn new(chip: Chip) -> Self {
        Self {
            chip,
            us: 0,
            meter: Meter::default(),
            yields: 0,
            dcr: 0x0C,
            data: 0,
            ecr: 0x14,
            fifo: VecDeque::new(),
            fifo_next: 0,
            epp_time_out: false,
            violations: vec![],
            device: Device::new(),
        }
    }

    /// Whether the port is as it must be between operations.
    pub fn is_at_rest(&self) -> bool {
        self.dcr == 0x0C && (self.chip.fifo == 0 || self.ecr >> 5 == 0)
    }

    fn tick(&mut self) {
        self.us += 1;
        self.meter.accesses += 1;
        self.settle();
    }

    fn settle(&mut self) {
        self.device.settle(self.us);
        self.fifo_moves();
    }

    fn mode(&self) -> u8 {
        if self.chip.fifo == 0 {
            1
        } else {
            self.ecr >> 5
        }
    }

    fn fifo_moves(&mut self) {
        while self.fifo_next <= self.us {
            self.fifo_next = self.fifo_next.max(self.us.saturating_sub(1)) + self.chip.fifo_us;
            let mode = self.mode();
            let device = &mut self.device;
            match mode {
                2 => {
                    if device.shown & NOT_BUSY != 0 {
                        if let Some(byte) = self.fifo.pop_front() {
                            device.received.push(byte);
                            device.compatibility(self.us);
                        }
                    }
                }
                3 if self.dcr & REVERSE == 0 => {
                    if !device.stalls() && !device.is_dead() {
                        if let Some(byte) = self.fifo.pop_front() {
                            device.events += 1;
                            device.take(byte);
                        }
                    }
                }
                3 => {
                    if self.fifo.len() < self.chip.fifo
                        && device.phase == Phase::EcpReverse
                        && !device.is_dead()
                    {
                        if let Some(byte) = device.current.take() {
                            device.events += 1;
                            self.fifo.push_back(byte);
                        }
                        device.current = device.source.pop_front();
                    }
                }
                _ => {}
            }
        }
    }

    /// What is on the control lines: in ECP mode the chip drives nStrobe and nAutoFd.
    fn driven(&self) -> u8 {
        match (self.mode(), self.dcr & REVERSE) {
            (3, 0) => self.dcr & !(STROBE | AUTO_FD),
            (3, _) => self.dcr & !STROBE | AUTO_FD,
            _ => self.dcr,
        }
    }

    fn full_empty(&self) -> u8 {
        if !(2..=6).contains(&self.mode()) {
            return 1;
        }
        u8::from(self.fifo.is_empty()) | u8::from(self.fifo.len() >= self.chip.fifo) << 1
    }

    fn epp_cycle(&mut self) -> bool {
        let lines_right = self.dcr & 0x0F == INIT;
        if !self.epp_works() {
            return false;
        }
        let answers = self.device.phase == Phase::Epp
            && lines_right
            && !self.device.stalls()
            && !self.device.is_dead();
        if answers {
            self.device.events += 1;
        } else {
            self.epp_time_out = true;
        }
        answers
    }

    fn epp_works(&self) -> bool {
        self.chip.epp && (self.chip.fifo == 0 || self.mode() == 4)
    }
}

impl Bench {
    fn interrupted(&self) -> Result<(), Interrupted> {
        self.meter.interrupted(self.us)
    }
}

impl Port for Bench {
    fn read(&mut self, register: Register) -> u8 {
        self.tick();
        match register {
            Register::Data => {
                if self.dcr & REVERSE != 0 && self.chip.bidirectional && self.mode() != 0 {
                    self.device.drives.unwrap_or(0xFF)
                } else {
                    self.data
                }
            }
            Register::Dsr => {
                let bit = if self.epp_works() {
                    u8::from(self.epp_time_out)
                } else {
                    1
                };
                self.device.shown | 0x06 | bit
            }
            Register::Dcr => {
                if self.chip.write_only {
                    0xFF
                } else {
                    self.dcr | 0xC0
                }
            }
            Register::EppAddress => {
                if self.epp_cycle() {
                    self.device.addresses.last().copied().unwrap_or(0)
                } else {
                    0xFF
                }
            }
            Register::EppData => {
                if self.epp_cycle() {
                    self.device.source.pop_front().unwrap_or(0xEE)
                } else {
                    0xFF
                }
            }
            Register::EcpFifo if self.chip.fifo > 0 => match self.mode() {
                7 => 0x14,
                _ => self.fifo.pop_front().unwrap_or(0xDD),
            },
            Register::Ecr if self.chip.fifo > 0 => {
                let mut ecr = self.ecr & 0xFC | self.full_empty();
                if self.mode() == 6 && self.ecr & 4 == 0 {
                    let due = if self.dcr & REVERSE == 0 {
                        self.chip.fifo - self.fifo.len() >= 8
                    } else {
                        self.fifo.len() >= 8
                    };
                    ecr |= u8::from(due) << 2;
                }
                ecr
            }
            _ => 0xFF,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        self.tick();
        match register {
            Register::Data => self.data = value,
            Register::Dsr => {
                if self.epp_works() {
                    self.epp_time_out = false;
                }
            }
            Register::Dcr => {
                let was = self.driven();
                if (self.dcr ^ value) & REVERSE != 0 && self.chip.fifo > 0 && self.mode() != 1 {
                    self.violations
                        .push(format!("direction in mode {}", self.mode()));
                }
                self.dcr = value;
                let is = self.driven();
                self.device.control(self.us, was, is, self.data);
            }
            Register::EppAddress => {
                if self.epp_cycle() {
                    self.device.addresses.push(value);
                }
            }
            Register::EppData => {
                if self.epp_cycle() {
                    self.device.received.push(value);
                }
            }
            Register::EcpFifo if self.chip.fifo > 0 => {
                if self.fifo.len() < self.chip.fifo && matches!(self.mode(), 2 | 3 | 6) {
                    self.fifo.push_back(value);
                } else {
                    self.violations.push("FIFO overrun".into());
                }
            }
            Register::Ecr if self.chip.fifo > 0 => {
                let was = self.mode();
                let is = value >> 5;
                if was > 1 && is > 1 && was != is {
                    self.violations.push(format!("mode {was} to {is}"));
                }
                if is < 2 {
                    if matches!(was, 2 | 3) && !self.fifo.is_empty() {
                        self.violations
                            .push(format!("{} bytes lost", self.fifo.len()));
                    }
                    self.fifo.clear();
                }
                let lines = self.driven();
                self.ecr = value & 0xFC;
                let is = self.driven();
                self.device.control(self.us, lines, is, self.data);
                self.fifo_next = self.us + 1;
            }
            _ => {}
        }
    }

    fn stall(&mut self, microseconds: u32) {
        assert!(microseconds <= 50);
        self.us += u64::from(microseconds);
        self.meter.stalled += u64::from(microseconds);
        self.settle();
    }

    fn yield_now(&mut self) -> Result<(), Interrupted> {
        self.yields += 1;
        self.interrupted()
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.interrupted()?;
        let end = self.us + u64::from(milliseconds) * 1000;
        let end = self.meter.interrupt.time.map_or(end, |at| end.min(at));
        self.meter.sleeps += 1;
        while self.us < end {
            // A FIFO goes on by itself.
            self.us = if self.fifo.is_empty() {
                end
            } else {
                self.us + 1
            };
            self.settle();
        }
        self.interrupted()
    }

    fn now(&mut self) -> u64 {
        self.us / 1000
    }

    fn microseconds(&mut self) -> u64 {
        self.us
    }

    fn has_ecp(&self) -> bool {
        self.chip.fifo > 0
    }

    fn has_epp(&self) -> bool {
        true
    }
}

//! The device behind the handle: a step for every place in the protocol, and the events that lead
//! from one to the next under the standard's numbers.

mod answer;
mod data;
mod follow;
mod watch;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::{Channel, Misbehaviour, Phase, extensibility};
use crate::printer::State as Centronics;
use crate::{Condition, HostLines, Nanos, PeripheralLines, Violation, ViolationKind};
use follow::is_event_1;

/// TP: the least set-up and pulse.
const PULSE: Nanos = 500;
/// TL: what a device may take for an answer, and so what a host has to wait.
const PATIENCE: Nanos = 35_000_000;
/// TH: what a host may take in a termination before the device ends it alone.
const HOST_ANSWER: Nanos = 1_000_000_000;
/// The shortest nInit pulse that ends EPP mode by the book.
const EPP_EXIT: Nanos = 50_000;
/// What the device says of itself unless the test sets another ID.
const DEVICE_ID: &[u8] =
    b"\x00\x4AMFG:Parscan;MDL:Model 1284;CLS:PRINTER;DES:Model of an IEEE 1284 device;";
/// More violations than a test reads, and little memory.
const MOST_VIOLATIONS: usize = 4096;

/// When a misbehaviour begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    Bytes(usize),
    Event(u8),
}

/// Where the device is in the protocol. The steps that wait for the device itself have the event it
/// owes in their description; the others say what they wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Compatibility,
    // Negotiation.
    /// Owes event 2.
    Called,
    /// For event 3.
    Asked,
    /// For event 4.
    Strobed,
    /// Owes events 5 and 6.
    Answering,
    /// For event 22.
    Refused,
    // Nibble and byte mode.
    /// For event 7 or 22.
    HostBusy,
    /// No data, and the host waits for some.
    ReverseIdle,
    /// Owes events 18 and 19, then waits for event 20.
    Waking,
    /// Owes event 9.
    Offering,
    /// For event 10.
    Offered,
    /// Owes event 11.
    Closing,
    /// Nibble mode, between the two halves: for event 7.
    HalfByte,
    /// Byte mode: for event 16.
    AwaitClock,
    /// Byte mode: for event 17.
    Clock,
    // EPP mode.
    /// For a strobe.
    Epp,
    /// Owes event 58.
    EppCycle,
    /// For the end of the strobe.
    EppAcked,
    /// Owes event 60.
    EppEnding,
    // ECP mode.
    /// For event 30.
    Setup,
    /// Owes event 31.
    SettingUp,
    /// Forward idle: for event 35, 39 or 22.
    Forward,
    /// Owes event 36.
    Taking,
    /// For event 37.
    Taken,
    /// Owes event 32.
    Releasing,
    /// Owes event 73.
    Recovering,
    /// For event 74.
    Recovered,
    /// Owes event 75.
    Resuming,
    /// Owes event 40.
    Turning,
    /// Reverse idle: for data, event 38 or event 47.
    Reverse,
    /// Owes event 43.
    ReverseOffering,
    /// For event 44.
    ReverseOffered,
    /// Owes event 45.
    ReverseClosing,
    /// For event 46.
    ReverseClosed,
    /// Owes event 49.
    TurningBack,
    // Termination.
    /// Owes event 24.
    Ending,
    /// For event 25.
    Ended,
    /// Owes event 27.
    Restoring,
    /// For event 28.
    Restored,
}

impl Step {
    const fn phase(self, byte_mode: bool) -> Phase {
        match self {
            Self::Compatibility => Phase::Compatibility,
            Self::Called | Self::Asked | Self::Strobed | Self::Answering => Phase::Negotiation,
            Self::Refused => Phase::Refused,
            Self::AwaitClock | Self::Clock => Phase::Byte,
            Self::HalfByte => Phase::Nibble,
            Self::HostBusy
            | Self::ReverseIdle
            | Self::Waking
            | Self::Offering
            | Self::Offered
            | Self::Closing => {
                if byte_mode {
                    Phase::Byte
                } else {
                    Phase::Nibble
                }
            }
            Self::Epp | Self::EppCycle | Self::EppAcked | Self::EppEnding => Phase::Epp,
            Self::Setup
            | Self::SettingUp
            | Self::Forward
            | Self::Taking
            | Self::Taken
            | Self::Releasing
            | Self::Recovering
            | Self::Recovered
            | Self::Resuming => Phase::EcpForward,
            Self::Turning
            | Self::Reverse
            | Self::ReverseOffering
            | Self::ReverseOffered
            | Self::ReverseClosing
            | Self::ReverseClosed
            | Self::TurningBack => Phase::EcpReverse,
            Self::Ending | Self::Ended | Self::Restoring | Self::Restored => Phase::Termination,
        }
    }
}

/// What is wrong with the device at the moment.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one for each misbehaviour")]
struct Trouble {
    no_negotiation: bool,
    late: Option<Nanos>,
    silent: bool,
    dead: bool,
    wrong_x_flag: bool,
    stall_forward: bool,
    no_recovery: bool,
    stall_reverse: bool,
    ack_low: bool,
    wait_stuck: Option<bool>,
}

/// What the test gave to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Data(u8),
    Channel(u8),
}

/// A byte that the device offers.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    byte: u8,
    command: bool,
    /// How many given bytes it stands for.
    takes: usize,
}

/// A byte that the host offers.
#[derive(Clone, Copy, Debug, Default)]
struct Latched {
    byte: u8,
    /// ECP: a command. EPP: for the address register.
    command: bool,
    /// EPP: a write.
    write: bool,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "options and lines")]
pub(super) struct Device {
    // How it behaves.
    pub(super) requests: Vec<u8>,
    pub(super) response: Nanos,
    pub(super) byte_time: Nanos,
    pub(super) id: Vec<u8>,
    pub(super) epp_exit_resets: bool,
    trouble: Trouble,
    triggers: Vec<(Trigger, Misbehaviour)>,
    // What goes on.
    pub(super) printer: Centronics,
    /// The condition that the lines show.
    condition: Condition,
    now: Nanos,
    host: HostLines,
    powered: bool,
    step: Step,
    /// The event that the device owes, and when it comes.
    pending: Option<(Nanos, u8)>,
    /// When the device last owed an event.
    asked: Nanos,
    /// The device did not answer in time, so the host may do as it likes.
    excused: bool,
    /// Something changed that idle lines may show.
    stale: bool,
    /// The lines outside compatibility mode.
    lines: PeripheralLines,
    data: Option<u8>,
    conflict: bool,
    request: u8,
    x_flag: bool,
    data_since: Option<Nanos>,
    strobe_fell: Nanos,
    strobe_width: Nanos,
    auto_fd_fell: Nanos,
    init_fell: Nanos,
    /// nInit is low from the end of EPP mode, and means no reset.
    init_masked: bool,
    latched: Latched,
    offer: Offer,
    /// Nibble mode: the first half was sent.
    half: bool,
    /// ECP forward: the count of a run whose byte is to come.
    run: Option<u8>,
    /// ECP reverse: how many bytes the next one stands for.
    run_out: Option<usize>,
    pub(super) channel: u8,
    pub(super) epp_address: u8,
    source: VecDeque<Given>,
    epp_sources: BTreeMap<u8, VecDeque<u8>>,
    /// The next byte of the device ID, while it is what the host reads.
    id_next: Option<usize>,
    // What was seen.
    pub(super) received: Vec<u8>,
    /// Where in `received` the bytes of a channel begin.
    sections: Vec<(Channel, usize)>,
    pub(super) moved: usize,
    pub(super) negotiations: Vec<u8>,
    pub(super) terminations: usize,
    pub(super) immediate_terminations: usize,
    pub(super) recoveries: usize,
    violations: Vec<Violation>,
}

impl Device {
    pub(super) fn new() -> Self {
        let mut printer = Centronics::new();
        printer.busy_delay = 0;
        printer.byte_time = 0;
        printer.ack_width = PULSE;
        Self {
            requests: extensibility::ALL.to_vec(),
            response: 0,
            byte_time: 0,
            id: DEVICE_ID.to_vec(),
            epp_exit_resets: false,
            trouble: Trouble::default(),
            triggers: Vec::new(),
            condition: printer.condition,
            lines: printer.lines(),
            printer,
            now: 0,
            host: HostLines::IDLE,
            powered: false,
            step: Step::Compatibility,
            pending: None,
            asked: 0,
            excused: false,
            stale: false,
            data: None,
            conflict: false,
            request: 0,
            x_flag: false,
            data_since: None,
            strobe_fell: 0,
            strobe_width: 0,
            auto_fd_fell: 0,
            init_fell: 0,
            init_masked: false,
            latched: Latched::default(),
            offer: Offer::default(),
            half: false,
            run: None,
            run_out: None,
            channel: 0,
            epp_address: 0,
            source: VecDeque::new(),
            epp_sources: BTreeMap::new(),
            id_next: None,
            received: Vec::new(),
            sections: Vec::new(),
            moved: 0,
            negotiations: Vec::new(),
            terminations: 0,
            immediate_terminations: 0,
            recoveries: 0,
            violations: Vec::new(),
        }
    }

    // What the test does and sees.

    pub(super) fn set_condition(&mut self, condition: Condition) {
        self.printer.set_condition(condition);
        self.condition_changed();
    }

    pub(super) fn misbehave(&mut self, misbehaviour: Misbehaviour) {
        let trouble = &mut self.trouble;
        match misbehaviour {
            Misbehaviour::NoNegotiation => trouble.no_negotiation = true,
            Misbehaviour::Late(time) => trouble.late = Some(time),
            Misbehaviour::Silent => trouble.silent = true,
            Misbehaviour::Dead => {
                // The last look, with the printer's lines if it is one now.
                self.lines = self.lines();
                self.trouble.dead = true;
            }
            Misbehaviour::WrongXFlag => trouble.wrong_x_flag = true,
            Misbehaviour::StallForward => trouble.stall_forward = true,
            Misbehaviour::StallForwardForever => {
                trouble.stall_forward = true;
                trouble.no_recovery = true;
            }
            Misbehaviour::StallReverse => trouble.stall_reverse = true,
            Misbehaviour::AckLow => trouble.ack_low = true,
            Misbehaviour::WaitStuck(level) => trouble.wait_stuck = Some(level),
            Misbehaviour::Condition(condition) => self.set_condition(condition),
        }
    }

    pub(super) fn misbehave_later(&mut self, trigger: Trigger, misbehaviour: Misbehaviour) {
        if matches!(trigger, Trigger::Bytes(count) if count <= self.moved) {
            self.misbehave(misbehaviour);
        } else {
            self.triggers.push((trigger, misbehaviour));
        }
    }

    pub(super) fn behave(&mut self) {
        let was_dead = self.trouble.dead;
        self.trouble = Trouble::default();
        self.triggers.clear();
        self.stale = true;
        if was_dead {
            self.back_to_compatibility();
        }
    }

    pub(super) fn give(&mut self, channel: Option<Channel>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.stale = true;
        match channel {
            Some(Channel::Epp(address)) => {
                self.epp_sources.entry(address).or_default().extend(bytes);
                return;
            }
            Some(Channel::Ecp(channel)) => self.source.push_back(Given::Channel(channel & 0x7F)),
            _ => {}
        }
        self.source.extend(bytes.iter().copied().map(Given::Data));
    }

    pub(super) fn to_send(&self) -> usize {
        let is_data = |given: &&Given| matches!(given, Given::Data(_));
        let epp: usize = self.epp_sources.values().map(VecDeque::len).sum();
        self.source.iter().filter(is_data).count() + epp
    }

    pub(super) fn received_on(&self, channel: Channel) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, (section, start)) in self.sections.iter().enumerate() {
            if *section == channel {
                let next = self.sections.get(index + 1);
                let end = next.map_or(self.received.len(), |(_, end)| *end);
                bytes.extend(&self.received[*start..end]);
            }
        }
        bytes
    }

    pub(super) fn clear_received(&mut self) {
        self.received.clear();
        self.sections.clear();
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut all = self.violations.clone();
        all.extend(&self.printer.violations);
        all.sort_by_key(|violation| violation.time);
        all
    }

    pub(super) const fn phase(&self) -> Phase {
        self.step.phase(self.is_byte_mode())
    }

    // The lines.

    pub(super) fn lines(&self) -> PeripheralLines {
        if !self.printer.condition.is_alive() {
            return self.printer.lines();
        }
        if self.trouble.dead {
            return self.lines;
        }
        let mut lines = match self.step {
            Step::Compatibility | Step::Called => self.printer.lines(),
            _ => self.lines,
        };
        lines.n_ack &= !self.trouble.ack_low;
        if let (Some(level), Phase::Epp) = (self.trouble.wait_stuck, self.phase()) {
            lines.busy = level;
        }
        lines
    }

    pub(super) const fn data(&self) -> Option<u8> {
        if self.printer.condition.is_alive() {
            self.data
        } else {
            None
        }
    }

    pub(super) fn next_change(&self, now: Nanos) -> Option<Nanos> {
        let owed = self.pending.map(|(time, _)| time);
        let own_end = self.is_terminating().then(|| self.own_end());
        let times = [owed, own_end, self.printer.next_change(now)];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    // Time.

    pub(super) fn advance(&mut self, now: Nanos) {
        loop {
            match self.pending {
                Some((time, event)) if time <= now => {
                    self.pending = None;
                    self.pass_time(time);
                    // The condition may have changed before.
                    if self.step != Step::Compatibility {
                        self.happen(event);
                        self.react();
                        self.check_bus();
                    }
                }
                _ => break,
            }
        }
        if self.is_terminating() && now >= self.own_end() {
            self.pass_time(self.own_end());
            self.end_immediately();
        }
        self.pass_time(now);
        if core::mem::take(&mut self.stale) && !self.trouble.dead {
            self.refresh();
            self.react();
            self.check_bus();
        }
    }

    fn pass_time(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        self.printer.advance(self.now);
        if self.printer.condition != self.condition {
            self.condition_changed();
        }
    }

    fn condition_changed(&mut self) {
        self.condition = self.printer.condition;
        self.stale = true;
        if !self.condition.is_alive() {
            // Without power or cable nothing of the mode is left.
            self.step = Step::Compatibility;
            self.pending = None;
            self.data = None;
            self.forget_mode();
        }
    }

    const fn is_byte_mode(&self) -> bool {
        self.request & !0x04 == extensibility::BYTE
    }

    const fn has_rle(&self) -> bool {
        self.request & !0x04 == extensibility::ECP_RLE
    }

    /// Whether the device takes forward data.
    fn is_ready(&self) -> bool {
        !self.printer.resetting && self.condition.lines() == Condition::Ready.lines()
    }

    // What the host does.

    pub(super) fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.advance(now);
        let before = core::mem::replace(&mut self.host, host);
        if !core::mem::replace(&mut self.powered, true) {
            self.printer.host_changed(self.now, host);
            return;
        }
        self.note_edges(before, host);
        if self.trouble.dead || !self.condition.is_alive() {
            if !host.n_select_in {
                self.data = None;
            }
            if !self.trouble.dead {
                self.tell_printer();
            }
        } else if self.step == Step::Compatibility {
            self.tell_printer();
            if is_event_1(host) && !is_event_1(before) {
                self.call();
            }
        } else {
            self.react();
        }
        self.check_bus();
    }

    /// Lets compatibility mode see the host's lines, and takes the bytes that came.
    fn tell_printer(&mut self) {
        let mut host = self.host;
        host.n_init |= self.init_masked;
        self.printer.host_changed(self.now, host);
        if !self.printer.received.is_empty() {
            let bytes = core::mem::take(&mut self.printer.received);
            for byte in &bytes {
                self.take(Channel::Compatibility, *byte, 1);
            }
            // Keeps the memory.
            self.printer.received = bytes;
            self.printer.received.clear();
            self.byte_done();
        }
    }

    /// Event 1.
    fn call(&mut self) {
        if self.trouble.no_negotiation || self.printer.resetting {
            return;
        }
        if self
            .data_since
            .is_some_and(|since| self.now - since < PULSE)
        {
            self.violation(ViolationKind::SetUpTooShort);
        }
        if !self.host.drives_data {
            self.violation(ViolationKind::DataNotDriven);
        }
        self.step = Step::Called;
        // A byte on its way is finished first.
        let busy = self
            .printer
            .busy_until()
            .map_or(0, |until| until - self.now);
        self.answer_in(2, self.response_time().max(busy));
    }

    // What the device answers.

    // Bytes.

    fn begin_trouble(&mut self, due: impl Fn(Trigger) -> bool) {
        let mut index = 0;
        while let Some((trigger, misbehaviour)) = self.triggers.get(index).copied() {
            if due(trigger) {
                self.triggers.remove(index);
                self.misbehave(misbehaviour);
            } else {
                index += 1;
            }
        }
    }
}

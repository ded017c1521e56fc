//! The device behind the handle: a step for every place in the protocol, and the events that lead
//! from one to the next under the standard's numbers.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use super::{Channel, Misbehaviour, Phase, extensibility};
use crate::{
    Condition, HostLines, Nanos, PeripheralLines, Violation, ViolationKind,
    printer::State as Centronics,
};

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
/// A run of so many bytes is worth a count.
const SHORTEST_RUN: usize = 3;
/// The most bytes that one count stands for.
const LONGEST_RUN: usize = 128;

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

    /// When the device ends a termination that the host does not finish.
    const fn own_end(&self) -> Nanos {
        self.asked.saturating_add(HOST_ANSWER)
    }

    const fn is_terminating(&self) -> bool {
        matches!(self.phase(), Phase::Termination)
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

    fn violation(&mut self, kind: ViolationKind) {
        if self.violations.len() < MOST_VIOLATIONS {
            let time = self.now;
            self.violations.push(Violation {
                since: time,
                time,
                kind,
            });
        }
    }

    /// Notes an event that is not the standard's next, unless the device is to blame.
    fn out_of_order(&mut self) {
        if !self.excused {
            self.violation(ViolationKind::OutOfOrder);
        }
    }

    /// Notes when both sides begin to drive the data lines.
    fn check_bus(&mut self) {
        let conflict = self.host.drives_data && self.data().is_some();
        if conflict && !self.conflict {
            self.violation(ViolationKind::BusConflict);
        }
        self.conflict = conflict;
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

    /// Keeps the times of edges, and notes those that no step expects.
    fn note_edges(&mut self, before: HostLines, host: HostLines) {
        let now = self.now;
        if before.bus(None) != host.bus(None) {
            self.data_since = Some(now);
            if matches!(self.step, Step::Called | Step::Asked | Step::Strobed) {
                self.violation(ViolationKind::HoldTooShort);
            }
        }
        let fell = |before: bool, now: bool| before && !now;
        if fell(before.n_strobe, host.n_strobe) {
            self.strobe_fell = now;
        }
        if fell(host.n_strobe, before.n_strobe) {
            self.strobe_width = now - self.strobe_fell;
        }
        if fell(before.n_auto_fd, host.n_auto_fd) {
            self.auto_fd_fell = now;
        }
        if fell(before.n_init, host.n_init) {
            self.init_fell = now;
        }
        if fell(host.n_init, before.n_init)
            && core::mem::take(&mut self.init_masked)
            && now - self.init_fell < EPP_EXIT
        {
            self.violation(ViolationKind::ResetTooShort);
        }
        // The end of a mode is always allowed, though it may lose data.
        let leaving = !host.n_select_in && self.phase() != Phase::Epp;
        if leaving || self.trouble.dead {
            return;
        }
        if self.now >= self.asked.saturating_add(PATIENCE) && self.owes() {
            self.excused = true;
        }
        let strobe = before.n_strobe != host.n_strobe;
        let auto_fd = before.n_auto_fd != host.n_auto_fd;
        let init = before.n_init != host.n_init;
        let wrong = strobe && !self.expects_strobe()
            || auto_fd && !self.expects_auto_fd()
            || init && !self.expects_init();
        if wrong {
            self.out_of_order();
        }
    }

    /// Whether nStrobe may change now.
    const fn expects_strobe(&self) -> bool {
        match self.step {
            // nWrite may end together with the strobe.
            Step::EppCycle | Step::EppAcked => self.host.n_auto_fd && self.host.n_select_in,
            step => matches!(
                step,
                Step::Compatibility
                    | Step::Asked
                    | Step::Strobed
                    | Step::AwaitClock
                    | Step::Clock
                    | Step::Epp
                    | Step::EppEnding
                    | Step::Forward
                    | Step::Taking
                    | Step::Taken
                    | Step::Recovering
                    | Step::Recovered
                    | Step::Ending
                    | Step::Ended
                    | Step::Restoring
                    | Step::Restored
            ),
        }
    }

    /// Whether nAutoFd may change now.
    const fn expects_auto_fd(&self) -> bool {
        !matches!(
            self.step,
            Step::Called
                | Step::Asked
                | Step::Answering
                | Step::SettingUp
                | Step::Offering
                | Step::Closing
                | Step::Clock
                | Step::Turning
                | Step::ReverseOffering
                | Step::ReverseClosing
                | Step::TurningBack
        )
    }

    /// Whether nInit may change now: in EPP mode to end it, in ECP mode to turn round.
    const fn expects_init(&self) -> bool {
        match self.phase() {
            Phase::Compatibility | Phase::Epp | Phase::EcpReverse | Phase::Termination => true,
            Phase::EcpForward => !matches!(self.step, Step::Setup | Step::SettingUp | Step::Taken),
            _ => false,
        }
    }

    /// Whether the device has an answer to give.
    const fn owes(&self) -> bool {
        matches!(
            self.step,
            Step::Called
                | Step::Answering
                | Step::Offering
                | Step::Closing
                | Step::EppCycle
                | Step::EppEnding
                | Step::SettingUp
                | Step::Taking
                | Step::Releasing
                | Step::Recovering
                | Step::Resuming
                | Step::Turning
                | Step::ReverseClosing
                | Step::TurningBack
                | Step::Ending
                | Step::Restoring
        )
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

    /// Goes as far as the host's lines allow.
    fn react(&mut self) {
        while self.follow() {}
    }

    /// One step for the host's lines as they are; `false` when there is nothing to do.
    fn follow(&mut self) -> bool {
        match self.phase() {
            Phase::Compatibility => false,
            _ if self.trouble.dead => false,
            Phase::Termination => self.follow_termination(),
            Phase::Epp => self.follow_epp(),
            _ if !self.host.n_select_in => {
                self.leave();
                true
            }
            Phase::Negotiation => self.follow_negotiation(),
            Phase::Refused => false,
            Phase::Nibble | Phase::Byte => self.follow_reverse(),
            Phase::EcpForward => self.follow_ecp_forward(),
            Phase::EcpReverse => self.follow_ecp_reverse(),
        }
    }

    fn follow_negotiation(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::Asked if !host.n_strobe => {
                self.request = host.bus(None);
                self.step = Step::Strobed;
            }
            Step::Strobed if host.n_strobe && host.n_auto_fd => {
                if self.strobe_width < PULSE {
                    self.violation(ViolationKind::StrobeTooShort);
                }
                self.step = Step::Answering;
                self.answer(6);
            }
            _ => return false,
        }
        true
    }

    fn follow_reverse(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::HostBusy if !host.n_auto_fd => {
                if let Some(offer) = self.next_offer() {
                    self.offer = offer;
                    self.half = false;
                    self.step = Step::Offering;
                    self.answer_in(9, self.response_time().max(self.byte_time));
                } else {
                    self.step = Step::ReverseIdle;
                }
            }
            Step::ReverseIdle if host.n_auto_fd => self.step = Step::HostBusy,
            Step::ReverseIdle if self.has_data() => {
                self.step = Step::Waking;
                self.answer(18);
            }
            Step::Waking if host.n_auto_fd && self.pending.is_none() => {
                self.lines.n_ack = true;
                self.step = Step::HostBusy;
                self.show_data_available(); // event 21
            }
            Step::Offered if host.n_auto_fd => {
                if self.half || self.is_byte_mode() {
                    self.sent();
                }
                self.step = Step::Closing;
                self.answer(11);
            }
            Step::HalfByte if !host.n_auto_fd => {
                self.half = true;
                self.step = Step::Offering;
                self.answer(9);
            }
            Step::AwaitClock if !host.n_strobe => self.step = Step::Clock,
            Step::AwaitClock if !host.n_auto_fd => {
                self.out_of_order(); // without events 16 and 17
                self.step = Step::HostBusy;
            }
            Step::Clock if host.n_strobe => {
                if self.strobe_width < PULSE {
                    self.violation(ViolationKind::StrobeTooShort);
                }
                self.step = Step::HostBusy;
            }
            _ => return false,
        }
        true
    }

    fn follow_epp(&mut self) -> bool {
        let host = self.host;
        if !host.n_init {
            // Event 68.
            self.init_masked = !self.epp_exit_resets;
            self.terminations += 1;
            self.back_to_compatibility();
            return true;
        }
        let strobed = !host.n_auto_fd || !host.n_select_in;
        match self.step {
            Step::Epp if strobed => {
                let both = !host.n_auto_fd && !host.n_select_in;
                if both {
                    self.out_of_order();
                }
                self.latched = Latched {
                    byte: host.bus(None),
                    command: host.n_auto_fd,
                    write: !host.n_strobe,
                };
                if !self.latched.write {
                    self.data = Some(self.epp_register());
                } else if !host.drives_data {
                    self.violation(ViolationKind::DataNotDriven);
                }
                self.step = Step::EppCycle;
                self.asked = self.now;
                if self.takes_epp_cycle() {
                    self.answer(58);
                }
            }
            Step::EppCycle if !strobed => {
                // The host gave up.
                self.pending = None;
                self.data = None;
                self.step = Step::Epp;
            }
            Step::EppAcked if !strobed => {
                self.data = None;
                self.step = Step::EppEnding;
                self.answer_in(60, self.response_time().max(self.byte_time));
            }
            _ => return false,
        }
        true
    }

    fn takes_epp_cycle(&self) -> bool {
        let forward = self.latched.write && !self.latched.command;
        self.trouble.wait_stuck.is_none() && (self.is_ready() || !forward)
    }

    /// What an EPP read of the register in `latched` shows.
    fn epp_register(&self) -> u8 {
        if self.latched.command {
            return self.epp_address;
        }
        let own = self.epp_sources.get(&self.epp_address);
        let all = self.source.iter().find_map(|given| match given {
            Given::Data(byte) => Some(*byte),
            Given::Channel(_) => None,
        });
        own.and_then(VecDeque::front)
            .copied()
            .or(all)
            .unwrap_or(0xFF)
    }

    /// The byte of an EPP data read has gone.
    fn epp_sent(&mut self) {
        let own = self.epp_sources.get_mut(&self.epp_address);
        if own.and_then(VecDeque::pop_front).is_none() {
            while let Some(Given::Channel(_)) = self.source.pop_front() {}
        }
        self.moved += 1;
    }

    fn follow_ecp_forward(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::Setup if !host.n_auto_fd => {
                self.step = Step::SettingUp;
                self.answer(31);
            }
            Step::Forward if !host.n_strobe => {
                if self.lines.busy {
                    self.violation(ViolationKind::NotReady);
                }
                if !host.drives_data {
                    self.violation(ViolationKind::DataNotDriven);
                }
                self.latched = Latched {
                    byte: host.bus(None),
                    command: !host.n_auto_fd,
                    write: true,
                };
                self.step = Step::Taking;
                self.asked = self.now;
                if self.trouble.stall_forward {
                    self.excused = true;
                } else {
                    self.answer(36);
                }
            }
            Step::Forward if !host.n_init => {
                if host.n_auto_fd {
                    self.out_of_order(); // without event 38
                } else if self.now - self.auto_fd_fell < PULSE {
                    self.violation(ViolationKind::SetUpTooShort);
                }
                self.step = Step::Turning;
                self.answer(40);
            }
            Step::Taking if !host.n_init => {
                self.pending = None;
                self.step = Step::Recovering;
                self.asked = self.now;
                if !self.trouble.no_recovery {
                    self.answer(73);
                }
            }
            Step::Taking if host.n_strobe => {
                self.out_of_order(); // the host takes the byte back
                self.pending = None;
                self.step = Step::Forward;
            }
            Step::Taken if host.n_strobe => {
                self.step = Step::Releasing;
                self.byte_done();
                if self.step == Step::Releasing && self.is_ready() {
                    self.answer_in(32, self.response_time().max(self.byte_time));
                }
            }
            Step::Recovered if host.n_strobe && host.n_init => {
                self.step = Step::Resuming;
                self.answer(75);
            }
            _ => return false,
        }
        true
    }

    fn follow_ecp_reverse(&mut self) -> bool {
        let host = self.host;
        if host.n_init && self.step != Step::TurningBack {
            // Event 47.
            self.pending = None;
            self.step = Step::TurningBack;
            self.answer(49);
            return true;
        }
        match self.step {
            Step::Reverse if !host.n_auto_fd && !self.trouble.stall_reverse => {
                let Some(offer) = self.next_offer() else {
                    return false;
                };
                self.offer = offer;
                self.step = Step::ReverseOffering;
                self.answer_in(43, self.response_time().max(self.byte_time));
            }
            Step::ReverseOffered if host.n_auto_fd => {
                self.sent();
                self.step = Step::ReverseClosing;
                self.answer(45);
            }
            Step::ReverseClosed if !host.n_auto_fd => {
                self.step = Step::Reverse;
                self.byte_done();
            }
            _ => return false,
        }
        true
    }

    fn follow_termination(&mut self) -> bool {
        let host = self.host;
        if host.n_select_in || !host.n_strobe {
            // Something else begins before the end.
            self.out_of_order();
            self.end_immediately();
            return true;
        }
        if !host.n_init {
            self.end_immediately();
            return true;
        }
        match self.step {
            Step::Ended if !host.n_auto_fd => {
                self.step = Step::Restoring;
                self.answer(27);
            }
            Step::Restored if host.n_auto_fd => {
                self.terminations += 1;
                self.back_to_compatibility();
            }
            _ => return false,
        }
        true
    }

    /// nSelectIn is low in another mode than EPP.
    fn leave(&mut self) {
        self.pending = None;
        self.data = None;
        let idle = matches!(
            self.step,
            Step::Refused
                | Step::HostBusy
                | Step::ReverseIdle
                | Step::Waking
                | Step::AwaitClock
                | Step::Setup
                | Step::Forward
                | Step::Releasing
        );
        let host = self.host;
        if idle && host.n_strobe && host.n_init && !self.trouble.silent {
            if self.step == Step::AwaitClock || !host.n_auto_fd {
                self.out_of_order();
            }
            self.lines.busy = true; // event 23
            self.lines.n_fault = true;
            self.step = Step::Ending;
            self.answer(24);
        } else if self.phase() == Phase::Negotiation {
            self.back_to_compatibility();
        } else {
            self.end_immediately();
        }
    }

    fn end_immediately(&mut self) {
        self.immediate_terminations += 1;
        self.back_to_compatibility();
    }

    fn back_to_compatibility(&mut self) {
        self.step = Step::Compatibility;
        self.pending = None;
        self.data = None;
        self.forget_mode();
        // The data lines changed when they did, and not now.
        self.printer.data_since = self.data_since;
        if let Some(host) = &mut self.printer.host {
            host.data = self.host.data;
        }
        self.tell_printer();
        if is_event_1(self.host) {
            self.call();
        }
    }

    /// What does not outlive the mode.
    fn forget_mode(&mut self) {
        self.trouble.silent = false;
        self.trouble.stall_forward &= self.trouble.no_recovery;
        self.excused = false;
        self.run = None;
        self.run_out = None;
        self.id_next = None;
    }

    // What the device answers.

    const fn response_time(&self) -> Nanos {
        match self.trouble.late {
            Some(time) => time,
            None => self.response,
        }
    }

    fn answer(&mut self, event: u8) {
        self.answer_in(event, self.response_time());
    }

    /// The device owes `event`, and gives it after `delay`.
    fn answer_in(&mut self, event: u8, delay: Nanos) {
        self.asked = self.now;
        if !self.triggers.is_empty() {
            self.begin_trouble(|trigger| trigger == Trigger::Event(event));
        }
        // The trouble may take effect on this very answer.
        let delay = delay.max(self.trouble.late.unwrap_or(0));
        if delay > PATIENCE {
            self.excused = true;
        }
        if self.step == Step::Compatibility || self.trouble.dead {
        } else if self.trouble.silent {
            self.excused = true;
        } else if delay == 0 {
            self.happen(event);
        } else {
            self.pending = Some((self.now.saturating_add(delay), event));
        }
    }

    /// The lines of an event of the standard.
    fn happen(&mut self, event: u8) {
        match event {
            2 => {
                self.lines = PeripheralLines {
                    busy: !self.is_ready(),
                    n_ack: false,
                    p_error: true,
                    select: true,
                    n_fault: true,
                };
                self.step = Step::Asked;
            }
            6 => self.answer_request(),
            9 => {
                if self.is_byte_mode() {
                    self.data = Some(self.offer.byte);
                } else {
                    let shift = if self.half { 4 } else { 0 };
                    let bit = |bit: u8| self.offer.byte >> shift >> bit & 1 != 0;
                    self.lines.n_fault = bit(0);
                    self.lines.select = bit(1);
                    self.lines.p_error = bit(2);
                    self.lines.busy = bit(3);
                }
                self.lines.n_ack = false;
                self.step = Step::Offered;
            }
            11 => {
                self.lines.n_ack = true;
                self.data = None;
                if !self.half && !self.is_byte_mode() {
                    self.step = Step::HalfByte;
                } else {
                    self.step = if self.is_byte_mode() {
                        Step::AwaitClock
                    } else {
                        Step::HostBusy
                    };
                    self.show_data_available(); // events 12 and 13
                    self.byte_done();
                }
            }
            18 => {
                self.lines.n_ack = false;
                self.lines.n_fault = false;
                self.answer_in(19, PULSE);
            }
            19 => self.lines.n_ack = true,
            24 => {
                self.lines.select = !self.x_flag;
                self.lines.n_ack = false;
                self.step = Step::Ended;
            }
            27 => {
                self.lines = self.printer.lines(); // event 26
                self.step = Step::Restored;
            }
            _ => self.happen_in_epp_or_ecp(event),
        }
    }

    fn happen_in_epp_or_ecp(&mut self, event: u8) {
        match event {
            31 | 49 | 75 => {
                self.data = None;
                self.lines.n_ack = true;
                self.lines.p_error = true;
                if event == 75 {
                    self.recoveries += 1;
                    self.trouble.stall_forward = false;
                    self.excused = false;
                }
                self.step = Step::Forward;
                self.show_forward_idle();
            }
            32 => {
                self.step = Step::Forward;
                self.show_forward_idle();
            }
            36 => {
                self.lines.busy = true;
                self.take_ecp();
                self.step = Step::Taken;
            }
            40 => {
                self.lines.p_error = false;
                self.data = Some(0xFF);
                self.step = Step::Reverse;
            }
            43 => {
                self.data = Some(self.offer.byte);
                self.lines.busy = !self.offer.command;
                self.lines.n_ack = false;
                self.step = Step::ReverseOffered;
            }
            45 => {
                self.lines.n_ack = true;
                self.lines.n_fault = !self.has_data();
                self.step = Step::ReverseClosed;
            }
            58 => {
                self.lines.busy = true;
                let Latched {
                    byte,
                    command,
                    write,
                } = self.latched;
                match (write, command) {
                    (true, true) => self.epp_address = byte,
                    (true, false) => self.take(Channel::Epp(self.epp_address), byte, 1),
                    (false, true) => {}
                    (false, false) => self.epp_sent(),
                }
                self.step = Step::EppAcked;
            }
            60 => {
                self.lines.busy = false;
                self.step = Step::Epp;
                self.byte_done();
            }
            73 => {
                self.lines.p_error = false;
                self.step = Step::Recovered;
            }
            _ => {}
        }
    }

    /// Events 5 and 6.
    fn answer_request(&mut self) {
        let accepted =
            self.requests.contains(&self.request) && extensibility::ALL.contains(&self.request);
        self.negotiations.push(self.request);
        self.x_flag = accepted ^ (self.request == extensibility::NIBBLE);
        self.x_flag ^= self.trouble.wrong_x_flag;
        self.lines.select = self.x_flag;
        self.lines.n_ack = true;
        if !accepted {
            self.step = Step::Refused;
            return;
        }
        self.id_next = (self.request & 0x04 != 0).then_some(0);
        match self.request & !0x04 {
            extensibility::NIBBLE | extensibility::BYTE => {
                self.step = Step::HostBusy;
                self.show_data_available();
            }
            extensibility::EPP => {
                self.lines.busy = false; // nWait
                self.step = Step::Epp;
            }
            _ => {
                self.lines.p_error = false;
                self.lines.busy = false;
                self.channel = 0;
                self.step = Step::Setup;
            }
        }
    }

    /// nFault and PError show whether there is data, Busy whether forward data would be taken.
    fn show_data_available(&mut self) {
        let none = !self.has_data();
        self.lines.n_fault = none;
        self.lines.p_error = none;
        self.lines.select = self.x_flag;
        self.lines.busy = !self.is_ready();
    }

    fn show_forward_idle(&mut self) {
        self.lines.busy = !self.is_ready();
        self.lines.n_fault = !self.has_data();
    }

    /// Lets idle lines follow what changed inside the device.
    fn refresh(&mut self) {
        match self.step {
            Step::HostBusy => self.show_data_available(),
            Step::Forward => self.show_forward_idle(),
            Step::Reverse => self.lines.n_fault = !self.has_data(),
            Step::Releasing if self.pending.is_none() && self.is_ready() => self.answer(32),
            Step::EppCycle if self.pending.is_none() && self.takes_epp_cycle() => self.answer(58),
            _ => {}
        }
    }

    // Bytes.

    /// Whether there is something to send.
    fn has_data(&self) -> bool {
        match self.id_next {
            Some(next) => next < self.id.len(),
            None => !self.source.is_empty(),
        }
    }

    /// What to send next.
    fn next_offer(&mut self) -> Option<Offer> {
        let data = |byte, takes| Offer {
            byte,
            command: false,
            takes,
        };
        if let Some(next) = self.id_next {
            return self.id.get(next).map(|byte| data(*byte, 1));
        }
        let is_ecp = self.phase() == Phase::EcpReverse;
        loop {
            match *self.source.front()? {
                Given::Channel(channel) if is_ecp => {
                    return Some(Offer {
                        byte: 0x80 | channel,
                        command: true,
                        takes: 1,
                    });
                }
                Given::Channel(_) => {
                    self.source.pop_front();
                }
                Given::Data(byte) => {
                    if let Some(count) = self.run_out {
                        return Some(data(byte, count));
                    }
                    let same = |given: &&Given| **given == Given::Data(byte);
                    let longest = self.source.iter().take(LONGEST_RUN);
                    let count = if is_ecp && self.has_rle() {
                        longest.take_while(same).count()
                    } else {
                        1
                    };
                    return Some(match u8::try_from(count) {
                        Ok(count) if usize::from(count) >= SHORTEST_RUN => Offer {
                            byte: count - 1,
                            command: true,
                            takes: 0,
                        },
                        _ => data(byte, 1),
                    });
                }
            }
        }
    }

    /// The host has the offered byte.
    fn sent(&mut self) {
        let Offer {
            byte,
            command,
            takes,
        } = self.offer;
        if let Some(next) = &mut self.id_next {
            *next += 1;
            self.moved += 1;
        } else if takes == 0 {
            self.run_out = Some(usize::from(byte) + 1);
        } else {
            self.run_out = None;
            let takes = takes.min(self.source.len());
            self.source.drain(..takes);
            if !command {
                self.moved += takes;
            }
        }
    }

    /// A forward ECP byte has come.
    fn take_ecp(&mut self) {
        let Latched { byte, command, .. } = self.latched;
        if !command {
            let count = usize::from(self.run.take().unwrap_or(0)) + 1;
            self.take(Channel::Ecp(self.channel), byte, count);
        } else if byte & 0x80 != 0 {
            self.channel = byte & 0x7F;
        } else if self.has_rle() {
            self.run = Some(byte);
        } else {
            self.violation(ViolationKind::RunNotNegotiated);
        }
    }

    fn take(&mut self, channel: Channel, byte: u8, count: usize) {
        if self
            .sections
            .last()
            .is_none_or(|(last, _)| *last != channel)
        {
            self.sections.push((channel, self.received.len()));
        }
        for _ in 0..count {
            self.received.push(byte);
        }
        self.moved += count;
    }

    /// A byte is through: the time for trouble that waits for the number of bytes.
    fn byte_done(&mut self) {
        if !self.triggers.is_empty() {
            let moved = self.moved;
            self.begin_trouble(|trigger| matches!(trigger, Trigger::Bytes(n) if n <= moved));
        }
    }

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

/// 1284 active and nAutoFd low, the rest at rest.
const fn is_event_1(host: HostLines) -> bool {
    host.n_select_in && !host.n_auto_fd && host.n_strobe && host.n_init
}

//! A Centronics printer.

use alloc::{collections::VecDeque, rc::Rc, vec::Vec};
use core::cell::RefCell;

use crate::{HostLines, Nanos, PeripheralLines, Pulse, Unconnected};

/// The shortest nInit pulse that resets the printer.
const RESET_PULSE: Nanos = 50_000;
/// How long data must be stable before nStrobe falls.
const DATA_SET_UP: Nanos = 500;
/// How long nStrobe must be low.
const STROBE_MIN: Nanos = 500;
/// How long nStrobe may be low.
const STROBE_MAX: Nanos = 500_000;
/// How long data must be stable after nStrobe rises.
const DATA_HOLD: Nanos = 500;
/// From the end of the nAck pulse to Busy low.
const ACK_TO_READY: Nanos = 500;

/// How a printer is, and so what its lines show while it is not taking a byte or resetting.
///
/// The values are DSR's bits 7 to 3 as software reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// 0xD8: on line, takes bytes.
    Ready,
    /// 0x58: on line, busy until the condition changes.
    Busy,
    /// 0x70: out of paper, still selected.
    PaperEmpty,
    /// 0x48: switched off line by its user, without a fault.
    OffLine,
    /// 0x80: attached without power; it pulls all its lines low.
    PoweredOff,
    /// 0x50: a fault such as an open cover, selected.
    Fault,
    /// 0x78: no cable; the host's pull-ups keep all lines high.
    Unplugged,
    /// A printer with power that shows exactly these lines. It takes bytes if they are Ready's.
    Other(PeripheralLines),
}

impl Condition {
    /// Every condition that has a name.
    pub const NAMED: [Self; 7] = [
        Self::Ready,
        Self::Busy,
        Self::PaperEmpty,
        Self::OffLine,
        Self::PoweredOff,
        Self::Fault,
        Self::Unplugged,
    ];

    /// The lines of a printer at rest in this condition.
    #[must_use]
    pub const fn lines(self) -> PeripheralLines {
        const READY: PeripheralLines = PeripheralLines {
            busy: false,
            n_ack: true,
            p_error: false,
            select: true,
            n_fault: true,
        };
        const BUSY: PeripheralLines = PeripheralLines {
            busy: true,
            ..READY
        };
        match self {
            Self::Ready => READY,
            Self::Busy => BUSY,
            Self::PaperEmpty => PeripheralLines {
                p_error: true,
                n_fault: false,
                ..BUSY
            },
            Self::OffLine => PeripheralLines {
                select: false,
                ..BUSY
            },
            Self::Fault => PeripheralLines {
                n_fault: false,
                ..BUSY
            },
            Self::PoweredOff => PeripheralLines {
                busy: false,
                n_ack: false,
                p_error: false,
                select: false,
                n_fault: false,
            },
            Self::Unplugged => Unconnected::LINES,
            Self::Other(lines) => lines,
        }
    }

    /// Whether a printer with power is at the end of the cable.
    pub(crate) const fn is_alive(self) -> bool {
        !matches!(self, Self::PoweredOff | Self::Unplugged)
    }
}

/// A rule of the interface that the host broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When what broke the rule began: of a pulse, its first edge; else the same as `time`.
    pub since: Nanos,
    /// When the peripheral noticed.
    pub time: Nanos,
    /// Which rule.
    pub kind: ViolationKind,
}

impl Violation {
    /// Whether the rule is broken all the same if so much of the time between `since` and `time`
    /// does not count: time that the host's processor was taken away for.
    #[must_use]
    pub const fn stands_without(&self, uncounted: Nanos) -> bool {
        match self.kind {
            ViolationKind::StrobeTooLong => {
                self.time.saturating_sub(self.since) > STROBE_MAX.saturating_add(uncounted)
            }
            _ => true,
        }
    }
}

/// The rules of the interface that a printer or a [`Peripheral1284`](crate::Peripheral1284) watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// Data changed less than 0.5 us before nStrobe fell. The byte is taken as it stands then.
    SetUpTooShort,
    /// nStrobe was low for less than 0.5 us. The byte is lost.
    StrobeTooShort,
    /// nStrobe was low for more than 500 us. The byte is taken.
    StrobeTooLong,
    /// Data changed while nStrobe was low or less than 0.5 us after it rose. The byte is taken as
    /// it stood when nStrobe fell.
    HoldTooShort,
    /// nStrobe fell while the printer was selected by nSelectIn but not ready. The byte is lost.
    NotReady,
    /// nInit was low for less than 50 us. No reset; EPP ends all the same.
    ResetTooShort,
    /// The host moved a line in an order that the standard does not have, or without waiting for the
    /// answer.
    OutOfOrder,
    /// The host drove the data lines while the peripheral did, and the byte on them is lost.
    BusConflict,
    /// The host gave a byte while its data drivers were off. The byte is what the pull-ups show.
    DataNotDriven,
    /// An ECP run length came although run-length encoding was not negotiated. It is ignored.
    RunNotNegotiated,
}

/// What happens inside the printer at its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    BusyHigh,
    AckLow,
    AckHigh,
    BusyLow,
    ResetRecognised,
    ResetDone,
    Condition(Condition),
}

impl Event {
    /// Belongs to taking a byte.
    const fn is_transfer(self) -> bool {
        matches!(
            self,
            Self::BusyHigh | Self::AckLow | Self::AckHigh | Self::BusyLow
        )
    }

    /// Belongs to a reset.
    const fn is_reset(self) -> bool {
        matches!(self, Self::ResetRecognised | Self::ResetDone)
    }
}

/// A Centronics printer, as a handle: clones share one printer, so a test keeps one and gives the
/// other to the chip, and can change the printer while the machine runs.
///
/// **Bytes.** When nStrobe falls while the printer is ready and nSelectIn and nInit allow it, the
/// printer latches the data and raises Busy (within 0.5 us). Once nStrobe has risen it works on the
/// byte, pulses nAck low and drops Busy.
///
/// **Reset.** When nInit has been low for 50 us the printer drops what it was doing and shows the
/// condition of [`with_condition_during_reset`](Self::with_condition_during_reset), by default
/// busy. [`with_reset_time`](Self::with_reset_time) after nInit has risen it settles to its
/// condition, or to that of [`with_reset_outcome`](Self::with_reset_outcome).
///
/// It speaks compatibility mode only, so it does not answer a 1284 negotiation.
#[derive(Clone, Debug)]
pub struct Printer(Rc<RefCell<State>>);

/// What happens in compatibility mode, for every device that has it.
#[derive(Debug)]
pub(crate) struct State {
    // How it behaves.
    pub(crate) condition: Condition,
    during_reset: Condition,
    pub(crate) reset_time: Nanos,
    reset_outcome: Option<Condition>,
    pub(crate) busy_delay: Nanos,
    pub(crate) byte_time: Nanos,
    pub(crate) ack_width: Nanos,
    // What goes on.
    now: Nanos,
    pub(crate) host: Option<HostLines>,
    events: VecDeque<(Nanos, Event)>,
    /// The byte on its way and when nStrobe fell for it.
    latched: Option<(Nanos, u8)>,
    busy: bool,
    ack: bool,
    pub(crate) resetting: bool,
    pub(crate) data_since: Option<Nanos>,
    strobe_rose: Option<Nanos>,
    init_fell: Option<Nanos>,
    // What was seen.
    pub(crate) received: Vec<u8>,
    pub(crate) resets: usize,
    init_pulses: Vec<Pulse>,
    pub(crate) violations: Vec<Violation>,
}

impl Printer {
    /// A ready printer. Busy rises 0.2 us after nStrobe falls, a byte takes 20 us, nAck is low for
    /// 5 us; a reset takes 1 s.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(State::new())))
    }

    /// Changes the condition; the lines show it from the chip's next look at them.
    ///
    /// A reset that runs goes on and settles to the new condition (or to the reset outcome), but
    /// without power or cable reset and byte are given up.
    pub fn set_condition(&self, condition: Condition) {
        self.0.borrow_mut().set_condition(condition);
    }

    /// Changes the condition at a time to come; a past time means now.
    pub fn set_condition_at(&self, time: Nanos, condition: Condition) {
        self.0.borrow_mut().set_condition_at(time, condition);
    }
}

options! { Printer, State:
    /// Starts in `condition`.
    with_condition(condition: Condition) = |state, condition| state.set_condition(condition);
    /// How long a reset takes, from nInit rising. `Nanos::MAX`: it never comes back.
    with_reset_time(time: Nanos) = |state, time| state.reset_time = time;
    /// The condition after every reset, whatever it was before: [`Condition::Ready`] makes a
    /// printer that is, say, off line until it is reset.
    with_reset_outcome(condition: Condition) =
        |state, condition| state.reset_outcome = Some(condition);
    /// What the lines show while a reset runs; [`Condition::Busy`] unless set.
    with_condition_during_reset(condition: Condition) =
        |state, condition| state.during_reset = condition;
    /// From nStrobe falling to Busy high. Real printers stay within 0.5 us.
    with_busy_delay(time: Nanos) = |state, time| state.busy_delay = time;
    /// From nStrobe rising to nAck low. `Nanos::MAX`: stuck at the first byte.
    with_byte_time(time: Nanos) = |state, time| state.byte_time = time;
    /// How long nAck is low after a byte. Real printers: 0.5 to 10 us.
    with_ack_width(time: Nanos) = |state, time| state.ack_width = time;
}

views! { Printer, State:
    /// The condition at the chip's last look, or as set since.
    condition() -> Condition = |state| state.condition;
    /// Every byte taken, oldest first. A reset does not clear it.
    received() -> Vec<u8> = |state| state.received.clone();
    /// How many resets began: nInit low for at least 50 us while the printer had power.
    resets() -> usize = |state| state.resets;
    /// Whether a reset runs, from its recognition to its end.
    is_resetting() -> bool = |state| state.resetting;
    /// Every pulse of nInit low that reached the printer, with or without power, however short.
    init_pulses() -> Vec<Pulse> = |state| state.init_pulses.clone();
    /// How many nInit pulses were too short for a reset.
    glitches() -> usize = |state| {
        let short = |violation: &&Violation| violation.kind == ViolationKind::ResetTooShort;
        state.violations.iter().filter(short).count()
    };
    /// The rules that the host broke, oldest first, with the short resets that
    /// [`glitches`](Self::glitches) counts.
    violations() -> Vec<Violation> = |state| state.violations.clone();
}

shared_peripheral!(Printer);

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            condition: Condition::Ready,
            during_reset: Condition::Busy,
            reset_time: 1_000_000_000,
            reset_outcome: None,
            busy_delay: 200,
            byte_time: 20_000,
            ack_width: 5_000,
            now: 0,
            host: None,
            events: VecDeque::new(),
            latched: None,
            busy: false,
            ack: false,
            resetting: false,
            data_since: None,
            strobe_rose: None,
            init_fell: None,
            received: Vec::new(),
            resets: 0,
            init_pulses: Vec::new(),
            violations: Vec::new(),
        }
    }

    fn schedule(&mut self, time: Nanos, event: Event) {
        // After everything that was asked for the same time earlier.
        let place = self.events.partition_point(|(other, _)| *other <= time);
        self.events.insert(place, (time, event));
    }

    pub(crate) fn advance(&mut self, now: Nanos) {
        while let Some((time, event)) = self.events.front().copied()
            && time <= now
        {
            self.events.pop_front();
            self.now = self.now.max(time);
            self.happen(event);
        }
        self.now = self.now.max(now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::BusyHigh => self.busy = true,
            Event::AckLow => self.ack = true,
            Event::AckHigh => self.ack = false,
            Event::BusyLow => {
                self.busy = false;
                self.latched = None;
            }
            Event::ResetRecognised => {
                if self.condition.is_alive() {
                    self.drop_byte();
                    self.resetting = true;
                    self.resets += 1;
                }
            }
            Event::ResetDone => {
                self.resetting = false;
                if let Some(outcome) = self.reset_outcome {
                    self.set_condition(outcome);
                }
            }
            Event::Condition(condition) => self.set_condition(condition),
        }
    }

    pub(crate) fn set_condition(&mut self, condition: Condition) {
        self.condition = condition;
        if !condition.is_alive() {
            self.drop_byte();
            self.resetting = false;
            self.events.retain(|(_, event)| !event.is_reset());
        }
        if condition == Condition::Unplugged {
            // The rest of a pulse does not arrive.
            self.init_fell = None;
        }
    }

    pub(crate) fn set_condition_at(&mut self, time: Nanos, condition: Condition) {
        if time <= self.now {
            self.set_condition(condition);
        } else {
            self.schedule(time, Event::Condition(condition));
        }
    }

    pub(crate) fn next_change(&self, now: Nanos) -> Option<Nanos> {
        let mut times = self.events.iter().map(|(time, _)| *time);
        times.find(|time| *time > now)
    }

    /// When the byte on its way is done; `None` when there is none.
    pub(crate) fn busy_until(&self) -> Option<Nanos> {
        let last = |(time, event): &(Nanos, Event)| event.is_transfer().then_some(*time);
        self.events.iter().filter_map(last).next_back()
    }

    fn drop_byte(&mut self) {
        self.latched = None;
        self.busy = false;
        self.ack = false;
        self.events.retain(|(_, event)| !event.is_transfer());
    }

    pub(crate) fn lines(&self) -> PeripheralLines {
        if self.resetting {
            return self.during_reset.lines();
        }
        let lines = self.condition.lines();
        PeripheralLines {
            busy: lines.busy || self.busy,
            n_ack: lines.n_ack && !self.ack,
            ..lines
        }
    }

    fn violation(&mut self, kind: ViolationKind) {
        self.violation_since(self.now, kind);
    }

    fn violation_since(&mut self, since: Nanos, kind: ViolationKind) {
        self.violations.push(Violation {
            since,
            time: self.now,
            kind,
        });
    }

    pub(crate) fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.advance(now);
        // Before power-on the host's lines count as idle, with the data that it shows first.
        let before = self.host.replace(host).unwrap_or(HostLines {
            data: host.data,
            ..HostLines::IDLE
        });
        if self.condition == Condition::Unplugged {
            return;
        }
        if before.data != host.data {
            self.data_changed();
        }
        match (before.n_init, host.n_init) {
            (true, false) => self.init_falls(),
            (false, true) => self.init_rises(),
            _ => {}
        }
        match (before.n_strobe, host.n_strobe) {
            (true, false) => self.strobe_falls(host),
            (false, true) => self.strobe_rises(),
            _ => {}
        }
        self.advance(now);
    }

    fn data_changed(&mut self) {
        self.data_since = Some(self.now);
        let strobed = self.latched.is_some() && self.strobe_rose.is_none();
        let held = |rose| self.latched.is_none() || self.now >= rose + DATA_HOLD;
        if strobed || !self.strobe_rose.is_none_or(held) {
            self.violation(ViolationKind::HoldTooShort);
        }
    }

    fn init_falls(&mut self) {
        self.init_fell = Some(self.now);
        self.events.retain(|(_, event)| !event.is_reset());
        self.schedule(self.now.saturating_add(RESET_PULSE), Event::ResetRecognised);
    }

    fn init_rises(&mut self) {
        let Some(start) = self.init_fell.take() else {
            return;
        };
        let duration = self.now - start;
        self.init_pulses.push(Pulse { start, duration });
        self.events.retain(|(_, event)| !event.is_reset());
        if duration < RESET_PULSE {
            self.violation(ViolationKind::ResetTooShort);
        }
        // A short pulse within a reset starts its time again.
        if self.resetting {
            self.schedule(self.now.saturating_add(self.reset_time), Event::ResetDone);
        }
    }

    fn strobe_falls(&mut self, host: HostLines) {
        // With nSelectIn high this is another mode's HostClk.
        if host.n_select_in || !self.condition.is_alive() {
            return;
        }
        let ready = self.lines() == Condition::Ready.lines();
        if !ready || self.latched.is_some() || !host.n_init {
            self.violation(ViolationKind::NotReady);
            return;
        }
        if self
            .data_since
            .is_some_and(|since| self.now - since < DATA_SET_UP)
        {
            self.violation(ViolationKind::SetUpTooShort);
        }
        self.latched = Some((self.now, host.data));
        self.strobe_rose = None;
        self.schedule(self.now.saturating_add(self.busy_delay), Event::BusyHigh);
    }

    fn strobe_rises(&mut self) {
        // A second pulse while the printer works on a byte is not this byte's.
        let (Some((fell, byte)), None) = (self.latched, self.strobe_rose) else {
            return;
        };
        let width = self.now - fell;
        if width < STROBE_MIN {
            self.violation(ViolationKind::StrobeTooShort);
            self.drop_byte();
            return;
        }
        if width > STROBE_MAX {
            self.violation_since(fell, ViolationKind::StrobeTooLong);
        }
        self.strobe_rose = Some(self.now);
        self.received.push(byte);
        // nAck answers a byte that Busy has announced.
        let done = self.now.saturating_add(self.byte_time);
        let done = done.max(fell.saturating_add(self.busy_delay));
        self.schedule(done, Event::AckLow);
        let acked = done.saturating_add(self.ack_width);
        self.schedule(acked, Event::AckHigh);
        self.schedule(acked.saturating_add(ACK_TO_READY), Event::BusyLow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Line, PortDevice, Spp, Width};
    use alloc::{boxed::Box, vec};
    use proptest::prelude::*;

    type Host<'a> = &'a dyn Fn(&mut Spp);

    const US: Nanos = 1_000;
    const MS: Nanos = 1_000_000;

    /// A chip with a printer behind it.
    fn port(printer: &Printer) -> Spp {
        Spp::new(Box::new(printer.clone()))
    }

    fn dsr(port: &mut Spp, now: Nanos) -> u8 {
        (port.read(now, 0, 1, Width::Byte) & 0xF8) as u8
    }

    fn dcr(port: &mut Spp, now: Nanos, value: u8) {
        port.write(now, 0, 2, Width::Byte, value.into());
    }

    fn data(port: &mut Spp, now: Nanos, value: u8) {
        port.write(now, 0, 0, Width::Byte, value.into());
    }

    /// A ready printer behind a chip.
    fn ready() -> (Printer, Spp) {
        let printer = Printer::new();
        let port = port(&printer);
        (printer, port)
    }

    /// A reset: nInit low for 100 us from 0 on.
    fn reset(port: &mut Spp) {
        dcr(port, 0, 0x08);
        dcr(port, 100 * US, 0x0C);
    }

    /// A byte that is there from 10 us on, with nStrobe falling and rising then.
    fn strobe_from(port: &mut Spp, fall: Nanos, rise: Nanos) {
        data(port, 10 * US, 0x41);
        dcr(port, fall, 0x0D);
        dcr(port, rise, 0x0C);
    }

    /// One byte as the standard wants it, from `now`: 1 us set-up, 1 us strobe, 1 us hold.
    fn strobe(port: &mut Spp, now: Nanos, byte: u8) -> Nanos {
        data(port, now, byte);
        dcr(port, now + US, 0x0D);
        dcr(port, now + 2 * US, 0x0C);
        now + 3 * US
    }

    fn kinds(printer: &Printer) -> Vec<ViolationKind> {
        printer.violations().iter().map(|v| v.kind).collect()
    }

    #[test]
    fn conditions_show_the_rows_of_the_status_table() {
        use Condition::{Busy, Fault, OffLine, Other, PaperEmpty, PoweredOff, Ready, Unplugged};
        for (condition, row) in [
            (Ready, 0xD8),
            (Busy, 0x58),
            (PaperEmpty, 0x70),
            (OffLine, 0x48),
            (PoweredOff, 0x80),
            (Fault, 0x50),
            (Unplugged, 0x78),
            (Other(PeripheralLines::from_dsr(0x60)), 0x60),
        ] {
            let printer = Printer::new().with_condition(condition);
            assert_eq!(dsr(&mut port(&printer), US), row, "{condition:?}");
            assert_eq!(printer.condition(), condition);
        }
    }

    #[test]
    fn a_condition_can_change_while_the_machine_runs() {
        let (printer, mut port) = ready();
        assert_eq!(dsr(&mut port, US), 0xD8);
        printer.set_condition(Condition::PaperEmpty);
        assert_eq!(dsr(&mut port, 2 * US), 0x70);
        printer.set_condition_at(10 * US, Condition::Ready);
        assert_eq!(dsr(&mut port, 10 * US - 1), 0x70);
        assert_eq!(dsr(&mut port, 30 * US), 0xD8);
        let trace = port.trace().unwrap();
        let empty = trace.pulses(Line::PError, true);
        assert_eq!(
            empty,
            vec![Pulse {
                start: 2 * US,
                duration: 8 * US
            }],
            "the scheduled change lies at its own time"
        );
        printer.set_condition_at(5 * US, Condition::Busy);
        assert_eq!(printer.condition(), Condition::Busy, "the past is now");
    }

    #[test]
    fn a_reset_pulse_of_50_us_resets() {
        let printer = Printer::new().with_reset_time(300 * MS);
        let mut port = port(&printer);
        dcr(&mut port, 10 * US, 0x08);
        assert_eq!(dsr(&mut port, 59 * US), 0xD8);
        dcr(&mut port, 60 * US, 0x0C);
        assert_eq!((printer.resets(), printer.glitches()), (1, 0));
        assert!(printer.is_resetting());
        let end = 60 * US + 300 * MS;
        assert_eq!(dsr(&mut port, 60 * US), 0x58);
        assert_eq!(dsr(&mut port, end - 1), 0x58);
        assert_eq!(dsr(&mut port, end), 0xD8);
        assert!(!printer.is_resetting());
        assert_eq!(
            printer.init_pulses(),
            vec![Pulse {
                start: 10 * US,
                duration: 50 * US
            }]
        );
        assert_eq!(
            printer.init_pulses(),
            port.trace().unwrap().pulses(Line::NInit, false)
        );
    }

    #[test]
    fn a_reset_shows_busy_while_n_init_is_still_low() {
        let (printer, mut port) = ready();
        dcr(&mut port, 0, 0x08);
        assert_eq!(dsr(&mut port, 49_999), 0xD8);
        assert_eq!(dsr(&mut port, 50_000), 0x58);
        // It waits for nInit to rise, however long that takes.
        assert_eq!(dsr(&mut port, 10_000 * MS), 0x58);
        dcr(&mut port, 10_000 * MS, 0x0C);
        assert_eq!(dsr(&mut port, 11_000 * MS), 0xD8);
        assert_eq!(printer.resets(), 1);
    }

    #[test]
    fn a_shorter_pulse_is_a_glitch() {
        let (printer, mut port) = ready();
        dcr(&mut port, 10 * US, 0x08);
        dcr(&mut port, 60 * US - 1, 0x0C);
        assert_eq!(dsr(&mut port, 200 * US), 0xD8);
        assert_eq!((printer.resets(), printer.glitches()), (0, 1));
        assert_eq!(kinds(&printer), [ViolationKind::ResetTooShort]);
        assert_eq!(printer.init_pulses()[0].duration, 50 * US - 1);
    }

    #[test]
    fn a_second_reset_starts_the_time_again() {
        let printer = Printer::new().with_reset_time(100 * MS);
        let mut port = port(&printer);
        reset(&mut port);
        dcr(&mut port, 50 * MS, 0x08);
        dcr(&mut port, 50 * MS + 100 * US, 0x0C);
        assert_eq!(dsr(&mut port, 140 * MS), 0x58);
        assert_eq!(dsr(&mut port, 150 * MS + 100 * US), 0xD8);
        assert_eq!(printer.resets(), 2);
        // A glitch in the middle of a reset does not leave it hanging.
        dcr(&mut port, 200 * MS, 0x08);
        dcr(&mut port, 200 * MS + 60 * US, 0x0C);
        dcr(&mut port, 210 * MS, 0x08);
        dcr(&mut port, 210 * MS + US, 0x0C);
        assert_eq!(dsr(&mut port, 309 * MS), 0x58);
        assert_eq!(dsr(&mut port, 311 * MS), 0xD8);
        assert_eq!((printer.resets(), printer.glitches()), (3, 1));
    }

    #[test]
    fn a_reset_settles_to_the_condition_or_to_the_outcome() {
        let printer = Printer::new()
            .with_condition(Condition::PaperEmpty)
            .with_reset_time(MS);
        let mut chip = port(&printer);
        reset(&mut chip);
        assert_eq!(dsr(&mut chip, MS), 0x58);
        assert_eq!(dsr(&mut chip, 2 * MS), 0x70, "there is still no paper");

        let printer = Printer::new()
            .with_condition(Condition::OffLine)
            .with_reset_time(MS)
            .with_reset_outcome(Condition::Ready)
            .with_condition_during_reset(Condition::OffLine);
        let mut chip = port(&printer);
        assert_eq!(dsr(&mut chip, 0), 0x48);
        reset(&mut chip);
        assert_eq!(dsr(&mut chip, MS), 0x48);
        assert_eq!(dsr(&mut chip, 2 * MS), 0xD8);
        assert_eq!(printer.condition(), Condition::Ready);
    }

    #[test]
    fn a_printer_without_power_or_cable_has_no_reset() {
        for (condition, row, pulses) in [
            (Condition::PoweredOff, 0x80, 1),
            (Condition::Unplugged, 0x78, 0),
        ] {
            let printer = Printer::new().with_condition(condition);
            let mut port = port(&printer);
            dcr(&mut port, 0, 0x08);
            assert_eq!(dsr(&mut port, 90 * US), row);
            dcr(&mut port, 100 * US, 0x0C);
            assert_eq!(dsr(&mut port, 200 * US), row);
            assert_eq!(printer.resets(), 0);
            assert_eq!(printer.init_pulses().len(), pulses);
            assert_eq!(printer.glitches(), 0);
        }
    }

    #[test]
    fn power_that_goes_away_ends_a_reset() {
        let (printer, mut port) = ready();
        reset(&mut port);
        printer.set_condition_at(MS, Condition::PoweredOff);
        assert_eq!(dsr(&mut port, 2 * MS), 0x80);
        printer.set_condition(Condition::Ready);
        assert_eq!(dsr(&mut port, 3 * MS), 0xD8);
    }

    #[test]
    fn unplugging_in_the_middle_of_a_pulse_loses_it() {
        let (printer, mut port) = ready();
        dcr(&mut port, 0, 0x08);
        printer.set_condition_at(60 * US, Condition::Unplugged);
        dcr(&mut port, 100 * US, 0x0C);
        printer.set_condition(Condition::Ready);
        assert_eq!(dsr(&mut port, 200 * US), 0xD8);
        assert_eq!(printer.resets(), 1, "it had begun");
        assert!(printer.init_pulses().is_empty());
    }

    #[test]
    fn a_byte_is_taken_acknowledged_and_done() {
        let (printer, mut port) = ready();
        strobe(&mut port, 10 * US, 0x41); // nStrobe low from 11 us to 12 us
        port.advance(100 * US);
        assert_eq!(printer.received(), [0x41]);
        assert_eq!(printer.violations(), []);
        let trace = port.trace().unwrap();
        let pulse = |start, duration| vec![Pulse { start, duration }];
        assert_eq!(trace.pulses(Line::NStrobe, false), pulse(11_000, 1_000));
        assert_eq!(trace.pulses(Line::NAck, false), pulse(32_000, 5_000));
        // Busy: 0.2 us after nStrobe fell, until 0.5 us after nAck rose.
        assert_eq!(trace.pulses(Line::Busy, true), pulse(11_200, 26_300));
    }

    #[test]
    fn a_byte_can_take_for_ever() {
        let printer = Printer::new().with_byte_time(Nanos::MAX);
        let mut port = port(&printer);
        strobe(&mut port, 10 * US, 0x41);
        assert_eq!(dsr(&mut port, 3_600_000 * MS), 0x58);
        // A reset gets it out.
        dcr(&mut port, 3_600_000 * MS, 0x08);
        dcr(&mut port, 3_600_001 * MS, 0x0C);
        assert_eq!(dsr(&mut port, 3_700_000 * MS), 0xD8);
    }

    #[test]
    fn broken_strobe_timing_is_recorded() {
        let short_set_up = |port: &mut Spp| strobe_from(port, 10 * US + 499, 12 * US);
        let short_strobe = |port: &mut Spp| strobe_from(port, 11 * US, 11 * US + 499);
        let long_strobe = |port: &mut Spp| strobe_from(port, 11 * US, 511 * US + 1);
        let no_hold = |port: &mut Spp| {
            strobe(port, 10 * US, 0x41);
            data(port, 12 * US + 499, 0x42);
        };
        let change_in_strobe = |port: &mut Spp| {
            data(port, 10 * US, 0x41);
            dcr(port, 11 * US, 0x0D);
            data(port, 11 * US + 600, 0x42);
            dcr(port, 13 * US, 0x0C);
        };
        let at_the_limits = |port: &mut Spp| {
            data(port, 10 * US, 0x41);
            dcr(port, 10 * US + 500, 0x0D);
            dcr(port, 10 * US + 1000, 0x0C);
            data(port, 10 * US + 1500, 0x00);
        };
        let cases: [(Host<'_>, &[ViolationKind], &[u8]); 6] = [
            (&short_set_up, &[ViolationKind::SetUpTooShort], &[0x41]),
            (&short_strobe, &[ViolationKind::StrobeTooShort], &[]),
            (&long_strobe, &[ViolationKind::StrobeTooLong], &[0x41]),
            (&no_hold, &[ViolationKind::HoldTooShort], &[0x41]),
            (&change_in_strobe, &[ViolationKind::HoldTooShort], &[0x41]),
            (&at_the_limits, &[], &[0x41]),
        ];
        for (host, expected, received) in cases {
            let printer = Printer::new();
            let mut port = port(&printer);
            host(&mut port);
            assert_eq!(dsr(&mut port, MS), 0xD8);
            assert_eq!(kinds(&printer), expected);
            assert_eq!(printer.received(), received);
        }
    }

    #[test]
    fn time_that_does_not_count_excuses_a_long_strobe_only() {
        let (printer, mut port) = ready();
        strobe_from(&mut port, 11 * US, 600 * US);
        // Busy: the byte is lost, whatever the host was kept by.
        dcr(&mut port, 602 * US, 0x0D);
        let [long, lost] = printer.violations()[..] else {
            panic!("{:?}", printer.violations());
        };
        assert_eq!((long.since, long.time), (11 * US, 600 * US));
        assert!(long.stands_without(89 * US - 1));
        assert!(!long.stands_without(89 * US));
        assert_eq!(lost.kind, ViolationKind::NotReady);
        assert!(lost.stands_without(MS));
    }

    #[test]
    fn a_strobe_to_a_busy_printer_is_lost() {
        let (printer, mut port) = ready();
        let next = strobe(&mut port, 10 * US, 0x41);
        strobe(&mut port, next, 0x42);
        strobe(&mut port, MS, 0x43);
        assert_eq!(printer.received(), [0x41, 0x43]);
        assert_eq!(kinds(&printer), [ViolationKind::NotReady]);
        for condition in [Condition::OffLine, Condition::PaperEmpty, Condition::Busy] {
            printer.set_condition(condition);
            strobe(&mut port, 2 * MS, 0x44);
        }
        assert_eq!(printer.received(), [0x41, 0x43]);
        assert_eq!(kinds(&printer).len(), 4);
    }

    #[test]
    fn n_select_in_must_be_low() {
        let (printer, mut port) = ready();
        data(&mut port, 10 * US, 0x41);
        dcr(&mut port, 11 * US, 0x05);
        dcr(&mut port, 12 * US, 0x04);
        assert_eq!(dsr(&mut port, 13 * US), 0xD8);
        assert_eq!(printer.received(), []);
        assert_eq!(printer.violations(), []);
    }

    #[test]
    fn it_does_not_answer_a_negotiation() {
        let (_, mut port) = ready();
        data(&mut port, 10 * US, 0x00);
        dcr(&mut port, 11 * US, 0x06); // event 1
        assert_eq!(dsr(&mut port, 40 * MS), 0xD8, "not 0x38");
    }

    #[test]
    fn no_byte_during_reset() {
        let (printer, mut port) = ready();
        reset(&mut port);
        strobe(&mut port, 200 * US, 0x41);
        assert_eq!(printer.received(), []);
        assert_eq!(kinds(&printer), [ViolationKind::NotReady]);
    }

    proptest! {
        /// Any host that keeps the rules gets every byte across, in order.
        #[test]
        fn every_byte_of_a_good_host_arrives(
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
            set_up in 500u64..5_000,
            width in 500u64..=500_000,
            hold in 500u64..5_000,
            byte_time in 0u64..100_000,
            ack in 500u64..10_000,
            busy_delay in 0u64..=500,
        ) {
            let printer = Printer::new()
                .with_byte_time(byte_time)
                .with_ack_width(ack)
                .with_busy_delay(busy_delay);
            let mut port = port(&printer);
            let mut now = US;
            for byte in &bytes {
                while dsr(&mut port, now) != 0xD8 {
                    now += 100;
                }
                data(&mut port, now, *byte);
                now += set_up;
                dcr(&mut port, now, 0x0D);
                now += width;
                dcr(&mut port, now, 0x0C);
                now += hold;
            }
            port.advance(now + MS);
            prop_assert_eq!(printer.received(), &bytes[..]);
            prop_assert_eq!(printer.violations(), []);
            let trace = port.trace().unwrap();
            prop_assert_eq!(trace.pulses(Line::NAck, false).len(), bytes.len());
            prop_assert!(trace.pulses(Line::NAck, false).iter().all(|p| p.duration == ack));
            prop_assert_eq!(trace.pulses(Line::Busy, true).len(), bytes.len());
        }

        /// Whatever the host does, the nInit pulses add up and the trace agrees with the printer.
        #[test]
        fn every_init_pulse_is_a_reset_or_a_glitch(
            steps in proptest::collection::vec((1u64..200_000, 0u8..64, any::<u8>()), 0..60)
        ) {
            let printer = Printer::new().with_reset_time(70_000);
            let mut port = port(&printer);
            let mut now = 0;
            for (wait, control, byte) in steps {
                now += wait;
                data(&mut port, now, byte);
                dcr(&mut port, now, control);
            }
            dcr(&mut port, now, 0x0C);
            port.advance(now + MS);
            let pulses = printer.init_pulses();
            prop_assert_eq!(&pulses, &port.trace().unwrap().pulses(Line::NInit, false));
            prop_assert_eq!(printer.resets() + printer.glitches(), pulses.len());
            prop_assert_eq!(
                printer.resets(),
                pulses.iter().filter(|p| p.duration >= 50_000).count()
            );
            prop_assert!(!printer.is_resetting());
            prop_assert_eq!(dsr(&mut port, now + 2 * MS), 0xD8);
        }
    }
}

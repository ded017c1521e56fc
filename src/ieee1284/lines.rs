//! The port as the protocols see it: its lines, and waits for what the peripheral does with them.

use super::{Capabilities, Dcr, Dsr, Ecr, Fault, Interrupted, Port, Register};

/// TL: how long a 1284 peripheral may take to answer an event, in milliseconds.
pub(super) const TL: u64 = 35;
/// T-infinite: the peripheral may take as long as it wants. The owner of the port ends the wait.
pub(super) const T_INF: u64 = u64::MAX;

/// Looks at the lines in a row before the processor is offered to others. Fast peripherals answer
/// within the first two.
const SPIN: u32 = 8;
/// How much longer than lately a peripheral may take before the thread sleeps, in microseconds: for
/// one that is busy for a moment after each byte, a sleep would be longer than the moment.
const LINGER_US: u64 = 2000;
/// A sleep is this part of the time waited so far, so that it is noticed late by no more than that.
const SLEEP_PART: u64 = 16;
/// The shortest sleep between two looks, in milliseconds.
const SHORTEST_SLEEP_MS: u64 = 1;
/// The longest: a peripheral that is off-line for minutes is looked at four times a second.
const LONGEST_SLEEP_MS: u64 = 250;
/// How many microseconds before the time that a peripheral took lately a sleep ends: as much as a
/// precise sleep may be too long.
const EARLY_US: u64 = 500;
/// The longest time that a peripheral is expected to take because it did so lately, in
/// microseconds: one that is faster all of a sudden loses no more than this.
const LONGEST_PACE_US: u64 = 20_000;
/// The coarsest step of [`Port::now`], in milliseconds. A limit must be exceeded by a step to be
/// exceeded for certain.
const TICK_MS: u64 = 16;
/// How long the answer inside a byte is still waited for after an interruption, so that the byte is
/// whole: in steps of [`GRACE_STEP_US`].
pub(super) const GRACE: u32 = 20;
/// Between two looks then, in microseconds.
const GRACE_STEP_US: u32 = 25;
/// Bytes after which the processor is offered to others, when nothing needs a wait.
const CHECK_BYTES: u32 = 64;

/// The lines of a port that is owned for one operation.
///
/// Control lines are never read back, as many ports cannot: what was written last is kept.
pub(super) struct Lines<'a, P> {
    pub(super) port: &'a mut P,
    dcr: Dcr,
    has_ecr: bool,
    interrupted: bool,
    /// The event that was waited for when that happened; 0: none that has a number.
    awaited: u8,
    unchecked: u32,
    /// How long the peripheral took lately when it was slow, in microseconds.
    pace: u64,
    /// Reads of the status register between two steps.
    reads: u32,
}

/// Ports as slow as this need nothing between two steps, in nanoseconds.
const SLOW_NS: u32 = 600;
/// What is kept between two steps on faster ones: TP, 500 ns, with a margin for what an access was
/// measured wrongly, and what printers are built for.
const STEP_NS: u32 = 750;

/// How many reads of the status register there are between two steps.
#[inline(never)]
fn reads_between(access_ns: u32) -> u32 {
    match access_ns {
        SLOW_NS.. => 0,
        access => STEP_NS.div_ceil(access.max(1)),
    }
}

#[inline(never)]
fn read_status(port: &mut impl Port, reads: u32) {
    for _ in 0..reads {
        let _ = port.read(Register::Dsr);
    }
}

/// [`Lines::settle`] where there are no [`Lines`].
pub(super) fn settle(port: &mut impl Port) {
    let reads = reads_between(port.access_ns());
    read_status(port, reads);
}

impl<'a, P: Port> Lines<'a, P> {
    /// The lines of `port`, whose control register holds `dcr`.
    pub(super) fn new(port: &'a mut P, dcr: Dcr, capabilities: &Capabilities) -> Self {
        Self {
            reads: reads_between(port.access_ns()),
            port,
            dcr,
            has_ecr: capabilities.ecr,
            interrupted: false,
            awaited: 0,
            unchecked: 0,
            pace: 0,
        }
    }

    /// The event that was waited for at an interruption; 0: none that has a number.
    pub(super) const fn awaited(&self) -> u8 {
        self.awaited
    }

    /// What the control register holds.
    pub(super) const fn dcr(&self) -> Dcr {
        self.dcr
    }

    /// Writes the control register.
    pub(super) fn control(&mut self, dcr: Dcr) {
        self.dcr = dcr;
        self.port.write(Register::Dcr, dcr.bits());
    }

    /// The control register was written past these lines.
    pub(super) const fn is_now(&mut self, dcr: Dcr) {
        self.dcr = dcr;
    }

    /// Writes the control register if it holds something else.
    pub(super) fn control_is(&mut self, dcr: Dcr) {
        if self.dcr != dcr {
            self.control(dcr);
        }
    }

    /// Writes the control register with nStrobe `low`, for one access and no longer, and then with
    /// nStrobe `high`: a strobe may last 500 us at most.
    ///
    /// What was written before is there for TP then, nStrobe is low for TP, and what is there stays
    /// so for TP afterwards, after which Busy shows, too.
    #[inline]
    pub(super) fn strobe(&mut self, low: Dcr, high: Dcr) {
        self.settle();
        self.port.strobe(low.bits(), high.bits(), self.reads);
        self.settle();
        self.dcr = high;
    }

    /// Writes a few bytes with a strobe each, for as long as the status lines show `ready` before
    /// it: how many. Of the time between two steps as [`Lines::strobe`].
    #[inline]
    pub(super) fn write_strobed(&mut self, bytes: &[u8], ready: Dsr, low: Dcr, high: Dcr) -> usize {
        self.dcr = high;
        let dcr = [low.bits(), high.bits()];
        self.port
            .write_strobed(bytes, ready.bits(), dcr, self.reads)
    }

    /// Between two steps: lets TP pass, if the accesses alone do not.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.is_fast() {
            read_status(self.port, self.reads);
        }
    }

    /// Whether two accesses take less than TP.
    pub(super) const fn is_fast(&self) -> bool {
        self.reads > 0
    }

    /// The control register was written past this, or may be: what it holds is not known.
    pub(super) const fn forget(&mut self) {
        self.dcr = Dcr::UNKNOWN;
    }

    /// Drives the data lines.
    pub(super) fn data(&mut self, byte: u8) {
        self.port.write(Register::Data, byte);
    }

    /// Samples the data lines.
    pub(super) fn read_data(&mut self) -> u8 {
        self.port.read(Register::Data)
    }

    /// Samples the status lines.
    pub(super) fn dsr(&mut self) -> Dsr {
        Dsr::from_bits_retain(self.port.read(Register::Dsr))
    }

    /// Sets the mode of an ECP chip; other ports have none. Between two of the modes from 010 on,
    /// 000 or 001 must be passed.
    pub(super) fn mode(&mut self, ecr: Ecr) {
        if self.has_ecr {
            self.port.write(Register::Ecr, ecr.bits());
        }
    }

    /// Compatibility mode, forward, nothing asserted: at once, whatever was before.
    pub(super) fn idle(&mut self) {
        if self.dcr.contains(Dcr::REVERSE) {
            // The peripheral has a microsecond to release the data lines: an access, the next one.
            self.control(Dcr::IDLE | Dcr::REVERSE);
            if self.is_fast() {
                self.port.stall(1);
            }
            self.mode(Ecr::PS2);
            self.control(Dcr::IDLE);
            self.mode(Ecr::SPP);
        } else {
            self.mode(Ecr::SPP);
            self.control(Dcr::IDLE);
        }
    }

    /// Between two bytes: whether to go on. For most of them a look at flags.
    ///
    /// # Errors
    /// [`Interrupted`]
    #[allow(clippy::inline_always, reason = "a part of every byte")]
    #[inline(always)]
    pub(super) fn proceed(&mut self, bytes: u32) -> Result<(), Interrupted> {
        if self.is_interrupted() {
            self.interrupted = true;
            return Err(Interrupted);
        }
        self.unchecked = self.unchecked.saturating_add(bytes);
        if self.unchecked >= CHECK_BYTES {
            self.unchecked = 0;
            return self.check();
        }
        Ok(())
    }

    /// Whether [`Lines::proceed`] would not go on: a look at flags.
    #[allow(clippy::inline_always, reason = "a part of every byte")]
    #[inline(always)]
    pub(super) fn is_interrupted(&mut self) -> bool {
        self.interrupted || self.port.is_interrupted()
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Interrupted`]
    #[inline(never)]
    pub(super) fn check(&mut self) -> Result<(), Interrupted> {
        if !self.interrupted && self.port.yield_now().is_err() {
            self.interrupted = true;
        }
        if self.interrupted {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }

    /// Looks until there is something to see: a few times in a row, then as the peripheral's pace
    /// says. For about as long as it took lately the thread sleeps; around that time it looks
    /// without a pause, while no other thread wants the processor; and after that it sleeps longer
    /// and longer. `None` after `limit` milliseconds, and a last look.
    ///
    /// # Errors
    /// [`Interrupted`]
    #[inline]
    pub(super) fn poll<T>(
        &mut self,
        limit: u64,
        mut look: impl FnMut(&mut P) -> Option<T>,
    ) -> Result<Option<T>, Interrupted> {
        match look(self.port) {
            Some(seen) => Ok(Some(seen)),
            None => self.poll_on(limit, &mut look),
        }
    }

    /// After the first look.
    #[cold]
    #[inline(never)]
    fn poll_on<T>(
        &mut self,
        limit: u64,
        look: &mut dyn Sampler<P, T>,
    ) -> Result<Option<T>, Interrupted> {
        let mut row = |port: &mut P, looks| (0..looks).find_map(|_| look.sample(port));
        if let Some(seen) = row(self.port, SPIN - 1) {
            return Ok(Some(seen));
        }
        // The last sleep, in microseconds.
        let mut slept: u64 = 0;
        let start = self.port.microseconds();
        let limit = limit.saturating_add(TICK_MS).saturating_mul(1000);
        loop {
            let waited = self.port.microseconds().saturating_sub(start);
            // After the clock: what came during a long sleep counts.
            if let Some(seen) = row(self.port, if slept > 0 { 1 } else { SPIN }) {
                // In a sleep it came earlier, who knows when: in the middle.
                let took = waited.saturating_sub(slept / 2);
                // One slow byte is no new pace yet.
                self.pace = self.pace.midpoint(took.min(LONGEST_PACE_US));
                return Ok(Some(seen));
            }
            if waited > limit {
                return Ok(None);
            }
            if self.interrupted {
                return Err(Interrupted);
            }
            let sleep = self.sleep_after(waited);
            let rest = match u32::try_from(sleep) {
                Ok(sleep) if sleep > 0 => self.port.sleep(sleep),
                _ => self.port.linger(),
            };
            self.interrupted = rest.is_err();
            rest?;
            slept = sleep.saturating_mul(1000);
        }
    }

    /// How many milliseconds to sleep before the next look at a peripheral that was waited for so
    /// many microseconds; 0: not at all.
    fn sleep_after(&self, waited: u64) -> u64 {
        let early = self.pace.saturating_sub(waited.saturating_add(EARLY_US)) / 1000;
        if early > 0 {
            early
        } else if waited < self.pace.saturating_add(LINGER_US) {
            0
        } else {
            (waited / 1000 / SLEEP_PART).clamp(SHORTEST_SLEEP_MS, LONGEST_SLEEP_MS)
        }
    }

    /// Waits until the status lines in `mask` are as in `value`; gives all of them.
    ///
    /// # Errors
    /// [`Interrupted`]
    #[allow(clippy::inline_always, reason = "a part of every byte")]
    #[inline(always)]
    pub(super) fn wait(
        &mut self,
        limit: u64,
        mask: Dsr,
        value: Dsr,
    ) -> Result<Option<Dsr>, Interrupted> {
        match seen(self.port, mask, value) {
            Some(dsr) => Ok(Some(dsr)),
            None => self.wait_on(limit, mask, value),
        }
    }

    /// After the first look.
    #[cold]
    #[inline(never)]
    fn wait_on(&mut self, limit: u64, mask: Dsr, value: Dsr) -> Result<Option<Dsr>, Interrupted> {
        self.poll_on(limit, &mut |port: &mut P| seen(port, mask, value))
    }

    /// Waits for `event`, which may take the peripheral as long as it wants.
    ///
    /// # Errors
    /// [`Interrupted`]
    #[inline]
    pub(super) fn wait_for_event(
        &mut self,
        event: u8,
        mask: Dsr,
        value: Dsr,
    ) -> Result<(), Interrupted> {
        let result = self.wait(T_INF, mask, value);
        if result.is_err() {
            self.awaited = event;
        }
        result.map(drop)
    }

    /// Waits for the peripheral's answer within TL: `event`, at which the status lines in `mask`
    /// become as in `value`.
    ///
    /// An interruption is not taken at once: there is half a millisecond more for the answer, so
    /// that a byte that is under way arrives whole. [`Lines::proceed`] tells of it after that.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    #[allow(clippy::inline_always, reason = "a part of every byte")]
    #[inline(always)]
    pub(super) fn answer(&mut self, event: u8, mask: Dsr, value: Dsr) -> Result<Dsr, Fault> {
        self.answer_within(TL, event, mask, value)
    }

    /// The same with another limit, in milliseconds.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    #[allow(clippy::inline_always, reason = "a part of every byte")]
    #[inline(always)]
    pub(super) fn answer_within(
        &mut self,
        limit: u64,
        event: u8,
        mask: Dsr,
        value: Dsr,
    ) -> Result<Dsr, Fault> {
        match seen(self.port, mask, value) {
            Some(dsr) => Ok(dsr),
            None => self.answer_on(limit, event, mask, value),
        }
    }

    /// After the first look.
    #[cold]
    #[inline(never)]
    fn answer_on(&mut self, limit: u64, event: u8, mask: Dsr, value: Dsr) -> Result<Dsr, Fault> {
        match self.wait_on(limit, mask, value) {
            Ok(Some(dsr)) => Ok(dsr),
            Ok(None) => Err(Fault::NoAnswer(event)),
            Err(Interrupted) => {
                let late = self.grace(GRACE, |port| seen(port, mask, value));
                if late.is_none() {
                    self.awaited = event;
                }
                late.ok_or(Fault::Interrupted)
            }
        }
    }

    /// After an interruption: the last chance to see something, in `steps` of 25 us.
    pub(super) fn grace<T>(
        &mut self,
        steps: u32,
        mut look: impl FnMut(&mut P) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..steps {
            if let Some(seen) = look(self.port) {
                return Some(seen);
            }
            self.port.stall(GRACE_STEP_US);
        }
        None
    }
}

/// What there is to see on a port.
///
/// Not a `dyn FnMut`, whose table has a second copy of every closure, for a call by value.
trait Sampler<P, T> {
    /// Looks once.
    fn sample(&mut self, port: &mut P) -> Option<T>;
}

impl<P, T, F: FnMut(&mut P) -> Option<T>> Sampler<P, T> for F {
    fn sample(&mut self, port: &mut P) -> Option<T> {
        self(port)
    }
}

/// One look at the status lines.
#[inline]
fn seen(port: &mut impl Port, mask: Dsr, value: Dsr) -> Option<Dsr> {
    let dsr = Dsr::from_bits_retain(port.read(Register::Dsr));
    (dsr & mask == value).then_some(dsr)
}

//! The hardware of a port: which ranges are whose, and accesses to them.

use super::cards::{self, Places};
use crate::{
    ieee1284,
    ieee1284::{Before, Capabilities, Ecr, Interrupted, Register, TimedPort},
    ioctl::Status,
    kernel::{
        Bus, InterruptResource, IoPort, IoRange, LeaveReason, PciIdentity, Resource, Resources,
        RundownGuard, Waits, duration_of, microseconds, milliseconds, nanoseconds, stall,
        unpreempted,
    },
};

/// The hardware of a port: its I/O ranges, and what was found behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hardware {
    ranges: Ranges,
    capabilities: Capabilities,
    addresses: Addresses,
    /// The same as the bus has them.
    original: Addresses,
    bus: Bus,
    interrupt: Option<InterruptResource>,
}

/// Where registers are: base addresses, and bytes of I/O space.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    /// DATA, DSR, DCR and the EPP registers.
    pub(super) registers: (u64, u32),
    /// The ECP block; zero, if there is none.
    pub(super) ecp: (u64, u32),
}

/// The I/O ranges of a port.
#[derive(Clone, Copy, Debug)]
struct Ranges {
    /// DATA, DSR, DCR, and from offset 3 the EPP registers.
    registers: IoRange,
    /// The ECP block: FIFO, configuration, ECR.
    ecp: Option<IoRange>,
    /// The three that every byte needs.
    data: IoPort,
    dsr: IoPort,
    dcr: IoPort,
    /// The lower bits of the ECR are not written, see [`Capabilities::ecr_fixed`].
    ecr_fixed: bool,
    /// How long an access takes, in nanoseconds.
    access_ns: u32,
}

/// The ranges that Windows assigned, in their order. A PCI card's are its base address registers.
#[derive(Clone, Copy)]
struct Windows([Option<IoRange>; MOST_WINDOWS]);

/// A PCI device has no more.
const MOST_WINDOWS: usize = 6;
/// An ECP block of an ISA port is so far behind the registers.
const ISA_ECP_OFFSET: u64 = 0x400;

impl Windows {
    /// # Errors
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: a range outside of the I/O space.
    fn of(resources: Resources<'_>) -> Result<Self, Status> {
        let mut windows = [None; MOST_WINDOWS];
        let mut places = windows.iter_mut();
        for resource in resources.iter() {
            let window = match resource {
                Resource::Port { start, length } => {
                    Some(IoRange::new(start, length).ok_or(Status::DEVICE_CONFIGURATION_ERROR)?)
                }
                // Memory has its number, too; registers there would need other instructions.
                Resource::Memory => None,
                Resource::Interrupt(_) | Resource::Other => continue,
            };
            let Some(place) = places.next() else { break };
            *place = window;
        }
        Ok(Self(windows))
    }

    fn get(&self, place: usize) -> Option<IoRange> {
        self.0.get(place).copied().flatten()
    }

    /// The place of the first that is as long as this and fulfils `fits`.
    #[inline(never)]
    fn find(&self, length: u16, fits: &mut dyn FnMut(usize, IoRange) -> bool) -> Option<usize> {
        self.0.iter().enumerate().find_map(|(place, window)| {
            let window = window.filter(|window| window.length() >= length)?;
            fits(place, window).then_some(place)
        })
    }

    fn addresses(&self, places: Places) -> Addresses {
        let of = |place: usize| {
            self.get(place)
                .map_or((0, 0), |range| (range.base().into(), range.length().into()))
        };
        Addresses {
            registers: of(places.registers),
            ecp: places.ecp.map_or((0, 0), of),
        }
    }
}

/// Offsets of the registers that every port has.
const DATA: u16 = 0;
const DSR: u16 = 1;
const DCR: u16 = 2;
/// DATA, DSR and DCR are the least that a port has.
const LEAST_REGISTERS: u16 = 3;
/// With the EPP registers a port has eight.
const EPP_REGISTERS: u16 = 8;
/// Between two looks at a peripheral that has nothing to say, in milliseconds: at first, and in the
/// end.
const PAUSE_MS: (u32, u32) = (10, 250);
/// A pause is this part of the pauses before it together, so that data are noticed late by no more
/// than that.
const PAUSE_PART: u32 = 16;
/// The ECR is the last of an ECP block.
const LEAST_ECP: u16 = 3;

impl Hardware {
    /// What Windows assigned: ranges of ports for the registers and for an ECP block. `card` says
    /// which is which, if it is a PCI card; see [`Ranges::choose`]. The interrupt is for kernel
    /// clients; DMA is not used. `raw` are the same resources as the bus has them. Finds out what
    /// the port can do, without moving a line. `epp_32` says that 32-bit accesses to the EPP data
    /// register are safe.
    ///
    /// # Errors
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: no ports at all, none that is long enough for the
    /// registers, or one outside the I/O space.
    pub(super) fn start(
        raw: Resources<'_>,
        resources: Resources<'_>,
        epp_32: bool,
        card: Option<PciIdentity>,
    ) -> Result<Self, Status> {
        let windows = Windows::of(resources)?;
        let places = Ranges::choose(&windows, card).ok_or(Status::DEVICE_CONFIGURATION_ERROR)?;
        let mut ranges = Ranges::at(&windows, places).ok_or(Status::DEVICE_CONFIGURATION_ERROR)?;
        let addresses = windows.addresses(places);
        // A bus that numbers ports otherwise than the processor is not one of PCs; if it does, it
        // does so for all of them.
        let original = Windows::of(raw)
            .ok()
            .filter(|raw| Ranges::at(raw, places).is_some())
            .map_or(addresses, |raw| raw.addresses(places));
        let mut capabilities = ieee1284::detect(&mut NonBlockingPort(ranges));
        ranges.ecr_fixed = capabilities.ecr_fixed;
        ranges.access_ns = ranges.measure();
        capabilities.epp_32 = capabilities.epp && epp_32;
        let interrupt = resources.iter().find_map(|resource| match resource {
            Resource::Interrupt(interrupt) => Some(interrupt),
            _ => None,
        });
        Ok(Self {
            ranges,
            capabilities,
            addresses,
            original,
            bus: resources.bus(),
            interrupt,
        })
    }

    /// The port, for steps that do not wait: at <= `DISPATCH_LEVEL`.
    pub(super) const fn non_blocking(&self) -> NonBlockingPort {
        NonBlockingPort(self.ranges)
    }

    /// The lines before the power goes.
    pub(super) fn lines(&self) -> Before {
        Before::of(&mut self.non_blocking())
    }

    /// The power is back: the lines are made as they were, where they are not.
    pub(super) fn restore(&self, lines: Before) {
        self.set_ecr(Ecr::SPP.bits());
        lines.restore_after_sleep(&mut self.non_blocking());
    }

    /// Ends EPP, which a [`Session`](ieee1284::Session) has left connected.
    pub(super) fn end_epp(&self) {
        ieee1284::end_epp(&mut self.non_blocking(), &self.capabilities);
    }

    /// Writes the ECR, if there is one: a chip without it needs no mode for its registers.
    pub(super) fn set_ecr(&self, ecr: u8) {
        if self.capabilities.ecr {
            self.ranges.write(Register::Ecr, ecr);
        }
    }

    /// Where the registers are.
    pub(super) const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where the registers are as the bus has it.
    pub(super) const fn original_addresses(&self) -> Addresses {
        self.original
    }

    /// The bus that the port is on.
    pub(super) const fn bus(&self) -> Bus {
        self.bus
    }

    /// The port's interrupt, if Windows assigned one.
    pub(super) const fn interrupt(&self) -> Option<InterruptResource> {
        self.interrupt
    }

    /// Where the status register is: its range, and its offset there.
    pub(super) fn status_place(&self) -> Option<(IoRange, u16)> {
        self.ranges.place(Register::Dsr)
    }

    /// How long an access takes, in nanoseconds: measured at the start.
    pub(super) const fn access_ns(&self) -> u32 {
        self.ranges.access_ns
    }

    /// What the port can do.
    pub(super) const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl Ranges {
    /// Which of the windows are the registers and the ECP block. No line moves.
    ///
    /// A known card says it ([`cards`]), and so do two windows at the distance of an ISA port's.
    /// Otherwise, or if nothing answers there, the first window that answers as registers do has
    /// them. The next one is the ECP block, else the one before: of an unknown card only if it
    /// looks like one, for it could be a serial port.
    fn choose(windows: &Windows, card: Option<PciIdentity>) -> Option<Places> {
        let answers = |place: usize| {
            windows
                .get(place)
                .is_some_and(|window| answers(window, LEAST_REGISTERS))
        };
        if let Some(places) = card
            .and_then(cards::places)
            .filter(|it| answers(it.registers))
        {
            return Some(Places {
                ecp: places.ecp.filter(|ecp| windows.get(*ecp).is_some()),
                ..places
            });
        }
        let first = windows.find(LEAST_REGISTERS, &mut |_, _| true)?;
        let registers = windows
            .find(LEAST_REGISTERS, &mut |_, window| {
                answers_as_registers(window)
            })
            .unwrap_or(first);
        let base = windows.get(registers).map(IoRange::base)?;
        let is_ecp = |place: usize, window: IoRange| {
            place != registers && (card.is_none() || looks_like_ecp(window))
        };
        let mut isa = |_, window: IoRange| {
            u64::from(window.base()) == u64::from(base).saturating_add(ISA_ECP_OFFSET)
        };
        let ecp = windows
            .find(LEAST_ECP, &mut isa)
            .or_else(|| {
                windows.find(LEAST_ECP, &mut |place, it| {
                    place > registers && is_ecp(place, it)
                })
            })
            .or_else(|| windows.find(LEAST_ECP, &mut |place, it| is_ecp(place, it)));
        Some(Places { registers, ecp })
    }

    fn at(windows: &Windows, places: Places) -> Option<Self> {
        let registers = windows
            .get(places.registers)
            .filter(|range| range.length() >= LEAST_REGISTERS)?;
        let ecp = places
            .ecp
            .and_then(|ecp| windows.get(ecp))
            .filter(|range| range.length() >= LEAST_ECP);
        Some(Self {
            registers,
            ecp,
            data: registers.at(DATA)?,
            dsr: registers.at(DSR)?,
            dcr: registers.at(DCR)?,
            ecr_fixed: false,
            access_ns: SLOW_ACCESS_NS,
        })
    }

    /// How long a read of the status register takes, in nanoseconds: the shortest of some attempts,
    /// as an interrupt may come in one of them. No other thread gets the processor meanwhile.
    fn measure(&self) -> u32 {
        let ranges = *self;
        let attempts = (0..ATTEMPTS).map(|_| {
            unpreempted(move || {
                duration_of(|| {
                    for _ in 0..READS {
                        let _ = ranges.read(Register::Dsr);
                    }
                })
            })
        });
        let shortest = attempts.min().unwrap_or(0) / u64::from(READS);
        // A counter that stands still tells nothing; a tenth of a microsecond is the safe side.
        u32::try_from(shortest)
            .unwrap_or(SLOW_ACCESS_NS)
            .max(FAST_ACCESS_NS)
    }

    /// Range and offset of a register. `None`: the port does not have it.
    #[inline]
    fn place(&self, register: Register) -> Option<(IoRange, u16)> {
        Some(match register {
            Register::Data => (self.registers, DATA),
            Register::Dsr => (self.registers, DSR),
            Register::Dcr => (self.registers, DCR),
            Register::EppAddress => (self.registers, 3),
            Register::EppData => (self.registers, 4),
            Register::EcpFifo => (self.ecp?, 0),
            Register::CnfgB => (self.ecp?, 1),
            Register::Ecr => (self.ecp?, 2),
        })
    }

    #[inline]
    fn read(&self, register: Register) -> u8 {
        match register {
            Register::Data => self.data.read(),
            Register::Dsr => self.dsr.read(),
            Register::Dcr => self.dcr.read(),
            other => self.read_other(other),
        }
    }

    #[inline]
    fn write(&self, register: Register, value: u8) {
        match register {
            Register::Data => self.data.write(value),
            Register::Dcr => self.dcr.write(value),
            other => self.write_other(other, value),
        }
    }

    /// Writes the control register twice, with so many reads of the status register in between,
    /// while no other thread can have the processor.
    #[inline]
    fn strobe(&self, low: u8, high: u8, reads: u32) {
        let (dsr, dcr) = (self.dsr, self.dcr);
        unpreempted(move || {
            dcr.write(low);
            for _ in 0..reads {
                let _ = dsr.read();
            }
            dcr.write(high);
        });
    }

    /// As [`ieee1284::Port::write_strobed`].
    fn write_strobed(&self, bytes: &[u8], wanted: u8, [low, high]: [u8; 2], reads: u32) -> usize {
        let (data, dsr, dcr) = (self.data, self.dsr, self.dcr);
        let settle = move || {
            for _ in 0..reads {
                let _ = dsr.read();
            }
        };
        unpreempted(move || {
            let mut written = 0;
            for byte in bytes {
                if dsr.read() & wanted != wanted {
                    break;
                }
                data.write(*byte);
                settle();
                dcr.write(low);
                settle();
                dcr.write(high);
                settle();
                written += 1;
            }
            written
        })
    }

    #[inline(never)]
    fn read_other(&self, register: Register) -> u8 {
        self.place(register)
            .map_or(0xFF, |(range, offset)| range.read(offset))
    }

    #[inline(never)]
    fn write_other(&self, register: Register, value: u8) {
        let value = if self.ecr_fixed && register == Register::Ecr {
            ieee1284::fixed_ecr(value)
        } else {
            value
        };
        if let Some((range, offset)) = self.place(register) {
            range.write(offset, value);
        }
    }

    const fn has_epp(&self) -> bool {
        self.registers.length() >= EPP_REGISTERS
    }
}

/// Reads of the status register at once, and how often, to measure an access.
const READS: u32 = 16;
const ATTEMPTS: u32 = 3;
/// What an access takes on ISA, and at least anywhere, in nanoseconds.
const SLOW_ACCESS_NS: u32 = 1000;
const FAST_ACCESS_NS: u32 = 50;

/// What open lines read as.
const OPEN_BUS: u8 = 0xFF;

/// Whether anything answers in a window.
#[inline(never)]
fn answers(window: IoRange, registers: u16) -> bool {
    (0..registers).any(|offset| window.read(offset) != OPEN_BUS)
}

/// Whether what answers can be DATA, DSR and DCR. No port at rest has nStrobe low; the ECR in DCR's
/// place shows that its FIFO is empty there, and a serial port that no interrupt is pending.
fn answers_as_registers(window: IoRange) -> bool {
    let dcr = window.read(2);
    answers(window, LEAST_REGISTERS) && (dcr == OPEN_BUS || dcr & 1 == 0)
}

/// Whether what answers can be an ECP block: a FIFO that is empty, not full, and not only that, as
/// a serial port would show.
fn looks_like_ecp(window: IoRange) -> bool {
    /// A serial port without a pending interrupt, without and with its FIFO.
    const NO_INTERRUPT: [u8; 2] = [0x01, 0xC1];
    let ecr = window.read(2);
    ecr != OPEN_BUS && ecr & 0b11 == 0b01 && !NO_INTERRUPT.contains(&ecr)
}

/// A port for steps that do not wait.
pub(super) struct NonBlockingPort(Ranges);

impl ieee1284::Port for NonBlockingPort {
    fn read(&mut self, register: Register) -> u8 {
        self.0.read(register)
    }

    fn write(&mut self, register: Register, value: u8) {
        self.0.write(register, value);
    }

    fn access_ns(&self) -> u32 {
        self.0.access_ns
    }

    fn stall(&mut self, microseconds: u32) {
        stall(microseconds);
    }

    fn unpreempted<T: Send>(
        &mut self,
        section: impl FnOnce(&mut dyn ieee1284::Access) -> T + Send,
    ) -> T {
        let mut port = Self(self.0);
        unpreempted(move || section(&mut port))
    }

    fn strobe(&mut self, low: u8, high: u8, reads: u32) {
        self.0.strobe(low, high, reads);
    }

    fn write_strobed(&mut self, bytes: &[u8], wanted: u8, dcr: [u8; 2], reads: u32) -> usize {
        self.0.write_strobed(bytes, wanted, dcr, reads)
    }

    #[inline]
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        Err(Interrupted)
    }

    fn sleep(&mut self, _milliseconds: u32) -> Result<(), Interrupted> {
        Err(Interrupted)
    }

    fn now(&mut self) -> u64 {
        milliseconds()
    }

    fn has_ecp(&self) -> bool {
        self.0.ecp.is_some()
    }

    fn has_epp(&self) -> bool {
        self.0.has_epp()
    }
}

impl TimedPort for NonBlockingPort {
    fn nanoseconds(&mut self) -> u64 {
        nanoseconds()
    }

    fn sleep_ns(&mut self, _nanoseconds: u64) -> Result<(), Interrupted> {
        Err(Interrupted)
    }
}

/// A port in the hands of a request: its waits end when the request, its time or the hardware
/// does.
pub(super) struct OwnedPort<'a> {
    ranges: Ranges,
    inside: RundownGuard<'a, Hardware>,
    waits: Waits<'a>,
    /// When the request's time is over, on the clock of `milliseconds`.
    deadline: Option<u64>,
    /// The operation is on its way back to rest.
    ending: bool,
    /// How long it has paused, in milliseconds.
    paused: u32,
    why: Status,
}

impl<'a> OwnedPort<'a> {
    pub(super) fn new(
        inside: RundownGuard<'a, Hardware>,
        waits: Waits<'a>,
        limit: Option<u64>,
    ) -> Self {
        Self {
            ranges: inside.get().ranges,
            inside,
            waits,
            deadline: limit.map(|limit| milliseconds().saturating_add(limit)),
            ending: false,
            paused: 0,
            why: Status::CANCELLED,
        }
    }

    /// The status of a request whose protocol was [`Interrupted`].
    pub(super) const fn why(&self) -> Status {
        self.why
    }

    /// Sleeps a little, between two looks at a peripheral that has nothing to say.
    ///
    /// # Errors
    /// The status to end the request with.
    pub(super) fn pause(&mut self) -> Result<(), Status> {
        let (first, last) = PAUSE_MS;
        let pause = (self.paused / PAUSE_PART).clamp(first, last);
        self.paused = self.paused.saturating_add(pause);
        ieee1284::Port::sleep(self, pause).map_err(|Interrupted| self.why)
    }

    /// The hardware.
    pub(super) fn hardware(&self) -> &Hardware {
        self.inside.get()
    }

    /// Gives the rest of the operation, the way back to rest, a chance: only the removal of the
    /// hardware ends its waits.
    pub(super) fn end(&mut self) {
        self.deadline = None;
        self.ending = true;
    }

    #[inline(never)]
    fn check(&self) -> Result<(), Status> {
        match self.inside.must_leave() {
            Some(LeaveReason::Gone) => return Err(Status::DEVICE_REMOVED),
            Some(LeaveReason::Suspended) if !self.ending => {
                return Err(Status::POWER_STATE_INVALID);
            }
            Some(LeaveReason::Suspended) | None => {}
        }
        if self.deadline.is_some_and(|end| milliseconds() >= end) {
            return Err(Status::TIMEOUT);
        }
        Ok(())
    }

    /// Waits for as long as the operation has time and its hardware.
    fn wait(&self, time: u32) -> Result<(), Status> {
        let left = self
            .deadline
            .map_or(u64::MAX, |end| end.saturating_sub(milliseconds()));
        let time = u32::try_from(left).map_or(time, |left| time.min(left));
        // Who was told to leave is on its way back to rest, and takes its time for it.
        let told = self.inside.must_leave().is_some();
        let inside = (!told).then_some(&self.inside);
        self.waits.sleep(time, inside)
    }

    #[inline(never)]
    fn interruptible(&mut self, result: Result<(), Status>) -> Result<(), Interrupted> {
        result.and_then(|()| self.check()).map_err(|why| {
            self.why = why;
            Interrupted
        })
    }
}

impl ieee1284::Port for OwnedPort<'_> {
    fn read(&mut self, register: Register) -> u8 {
        self.ranges.read(register)
    }

    fn write(&mut self, register: Register, value: u8) {
        self.ranges.write(register, value);
    }

    fn read_block(&mut self, register: Register, bytes: &mut [u8]) {
        match self.ranges.place(register) {
            Some((range, offset)) => range.read_block(offset, bytes),
            None => bytes.fill(0xFF),
        }
    }

    fn write_block(&mut self, register: Register, bytes: &[u8]) {
        if let Some((range, offset)) = self.ranges.place(register) {
            range.write_block(offset, bytes);
        }
    }

    fn read_block32(&mut self, register: Register, words: &mut [[u8; 4]]) {
        match self.ranges.place(register) {
            Some((range, offset)) => range.read_block32(offset, words),
            None => words.as_flattened_mut().fill(0xFF),
        }
    }

    fn write_block32(&mut self, register: Register, words: &[[u8; 4]]) {
        if let Some((range, offset)) = self.ranges.place(register) {
            range.write_block32(offset, words);
        }
    }

    fn access_ns(&self) -> u32 {
        self.ranges.access_ns
    }

    fn stall(&mut self, microseconds: u32) {
        stall(microseconds);
    }

    fn unpreempted<T: Send>(
        &mut self,
        section: impl FnOnce(&mut dyn ieee1284::Access) -> T + Send,
    ) -> T {
        ieee1284::Port::unpreempted(&mut NonBlockingPort(self.ranges), section)
    }

    #[inline]
    fn strobe(&mut self, low: u8, high: u8, reads: u32) {
        self.ranges.strobe(low, high, reads);
    }

    #[inline]
    fn write_strobed(&mut self, bytes: &[u8], wanted: u8, dcr: [u8; 2], reads: u32) -> usize {
        self.ranges.write_strobed(bytes, wanted, dcr, reads)
    }

    #[inline]
    fn is_interrupted(&mut self) -> bool {
        let goes_on = self.deadline.is_none()
            && self.inside.must_leave().is_none()
            && self.waits.check().is_ok();
        // Why not, and whether the deadline is over.
        !goes_on && self.yield_now().is_err()
    }

    #[inline]
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        let result = self.waits.check();
        self.interruptible(result)
    }

    fn linger(&mut self) -> Result<(), Interrupted> {
        self.waits.stand_back();
        self.yield_now()
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        let result = self.check().and_then(|()| self.wait(milliseconds));
        self.interruptible(result)
    }

    fn now(&mut self) -> u64 {
        milliseconds()
    }

    fn microseconds(&mut self) -> u64 {
        microseconds()
    }

    fn has_ecp(&self) -> bool {
        self.ranges.ecp.is_some()
    }

    fn has_epp(&self) -> bool {
        self.ranges.has_epp()
    }
}

/// The peripheral is no longer waited for.
impl Drop for OwnedPort<'_> {
    fn drop(&mut self) {
        self.waits.stand_up();
    }
}

impl TimedPort for OwnedPort<'_> {
    fn nanoseconds(&mut self) -> u64 {
        nanoseconds()
    }

    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        let result = self
            .check()
            .and_then(|()| self.waits.sleep_ns(nanoseconds, &self.inside));
        self.interruptible(result)
    }
}

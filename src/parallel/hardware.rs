use crate::{
    ieee1284,
    ieee1284::{Capabilities, Interrupted, Register},
    ioctl::Status,
    kernel::{
        Bus, Inside, InterruptResource, IoRange, Leave, Resource, Resources, Waits, microseconds,
        milliseconds, stall, unpreempted,
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
}

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
    /// What Windows assigned: the first range of ports are the registers, a second one is the ECP
    /// block. The interrupt is for kernel clients; DMA is not used. `raw` are the same resources as
    /// the bus has them. Finds out what the port can do; the lines are at
    /// rest afterwards. `epp_32` says that 32-bit accesses to the EPP data register are safe.
    ///
    /// # Errors
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: no ports at all, memory in their place, a range
    /// that is too short for its registers, or one outside the I/O space.
    pub(super) fn start(
        raw: Resources<'_>,
        resources: Resources<'_>,
        epp_32: bool,
    ) -> Result<Self, Status> {
        let (ranges, addresses) = Ranges::from_resources(resources)?;
        // A bus that numbers ports otherwise than the processor is not one of PCs; if it does, it
        // does so for all of them.
        let original = Ranges::from_resources(raw).map_or(addresses, |(_, original)| original);
        let mut capabilities = ieee1284::detect(&mut Unwaiting(ranges));
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
    pub(super) const fn unwaiting(&self) -> Unwaiting {
        Unwaiting(self.ranges)
    }

    /// Puts the port at rest.
    pub(super) fn rest(&self) {
        ieee1284::rest(&mut self.unwaiting(), &self.capabilities);
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

    /// What the port can do.
    pub(super) const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl Ranges {
    fn from_resources(resources: Resources<'_>) -> Result<(Self, Addresses), Status> {
        let mut registers = None;
        let mut ecp = None;
        let mut addresses = Addresses::default();
        for resource in resources.iter() {
            match resource {
                Resource::Port { start, length } => {
                    let range =
                        IoRange::new(start, length).ok_or(Status::DEVICE_CONFIGURATION_ERROR)?;
                    if registers.is_none() {
                        if range.length() < LEAST_REGISTERS {
                            return Err(Status::DEVICE_CONFIGURATION_ERROR);
                        }
                        registers = Some(range);
                        addresses.registers = (start, length);
                    } else if ecp.is_none() && range.length() >= LEAST_ECP {
                        ecp = Some(range);
                        addresses.ecp = (start, length);
                    }
                }
                // Registers behind a memory window would need other instructions.
                Resource::Memory => return Err(Status::DEVICE_CONFIGURATION_ERROR),
                Resource::Interrupt(_) | Resource::Other => {}
            }
        }
        let registers = registers.ok_or(Status::DEVICE_CONFIGURATION_ERROR)?;
        Ok((Self { registers, ecp }, addresses))
    }

    /// Range and offset of a register. `None`: the port does not have it.
    fn place(&self, register: Register) -> Option<(IoRange, u16)> {
        Some(match register {
            Register::Data => (self.registers, 0),
            Register::Dsr => (self.registers, 1),
            Register::Dcr => (self.registers, 2),
            Register::EppAddress => (self.registers, 3),
            Register::EppData => (self.registers, 4),
            Register::EcpFifo => (self.ecp?, 0),
            Register::CnfgB => (self.ecp?, 1),
            Register::Ecr => (self.ecp?, 2),
        })
    }

    fn read(&self, register: Register) -> u8 {
        self.place(register)
            .map_or(0xFF, |(range, offset)| range.read(offset))
    }

    fn write(&self, register: Register, value: u8) {
        if let Some((range, offset)) = self.place(register) {
            range.write(offset, value);
        }
    }

    const fn has_epp(&self) -> bool {
        self.registers.length() >= EPP_REGISTERS
    }
}

/// A port for steps that do not wait.
pub(super) struct Unwaiting(Ranges);

impl ieee1284::Port for Unwaiting {
    fn read(&mut self, register: Register) -> u8 {
        self.0.read(register)
    }

    fn write(&mut self, register: Register, value: u8) {
        self.0.write(register, value);
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

/// The peripheral is no longer waited for.
impl Drop for PortInUse<'_> {
    fn drop(&mut self) {
        self.waits.stand_up();
    }
}

/// A port in the hands of a request: its waits end when the request, its time or the hardware
/// does.
pub(super) struct PortInUse<'a> {
    ranges: Ranges,
    inside: Inside<'a, Hardware>,
    waits: Waits<'a>,
    /// When the request's time is over, on the clock of `milliseconds`.
    deadline: Option<u64>,
    /// The operation is on its way back to rest.
    ending: bool,
    /// How long it has paused, in milliseconds.
    paused: u32,
    why: Status,
}

impl<'a> PortInUse<'a> {
    pub(super) fn new(inside: Inside<'a, Hardware>, waits: Waits<'a>, limit: Option<u64>) -> Self {
        Self {
            ranges: inside.value().ranges,
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

    /// Gives the rest of the operation, the way back to rest, a chance: only the removal of the
    /// hardware ends its waits.
    pub(super) fn end(&mut self) {
        self.deadline = None;
        self.ending = true;
    }

    fn check(&self) -> Result<(), Status> {
        match self.inside.must_leave() {
            Some(Leave::Gone) => return Err(Status::DEVICE_REMOVED),
            Some(Leave::Suspended) if !self.ending => return Err(Status::POWER_STATE_INVALID),
            Some(Leave::Suspended) | None => {}
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

    fn interruptible(&mut self, result: Result<(), Status>) -> Result<(), Interrupted> {
        result.and_then(|()| self.check()).map_err(|why| {
            self.why = why;
            Interrupted
        })
    }
}

impl ieee1284::Port for PortInUse<'_> {
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

    fn stall(&mut self, microseconds: u32) {
        stall(microseconds);
    }

    fn unpreempted<T: Send>(
        &mut self,
        section: impl FnOnce(&mut dyn ieee1284::Access) -> T + Send,
    ) -> T {
        ieee1284::Port::unpreempted(&mut Unwaiting(self.ranges), section)
    }

    fn is_interrupted(&mut self) -> bool {
        let result = self.waits.check();
        self.interruptible(result).is_err()
    }

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

use crate::{
    ieee1284,
    ieee1284::{Interrupted, Register},
    ioctl::Status,
    kernel::{Inside, IoRange, Resource, Resources, Task, milliseconds, stall},
};

/// The I/O ranges of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hardware {
    /// DATA, DSR, DCR, and from offset 3 the EPP registers.
    registers: IoRange,
    /// The ECP block: FIFO, configuration, ECR.
    ecp: Option<IoRange>,
}

/// DATA, DSR and DCR are the least that a port has.
const LEAST_REGISTERS: u16 = 3;
/// The ECR is the last of an ECP block.
const LEAST_ECP: u16 = 3;

const DATA: u16 = 0;
const DSR: u16 = 1;
const DCR: u16 = 2;
const ECR: u16 = 2;

impl Hardware {
    /// What Windows assigned: the first range of ports are the registers, a second one is the ECP
    /// block. Interrupt and DMA are not used.
    ///
    /// # Errors
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: no ports at all, memory in their place, a range
    /// that is too short for its registers, or one outside the I/O space.
    pub(super) fn from_resources(resources: Resources<'_>) -> Result<Self, Status> {
        let mut registers = None;
        let mut ecp = None;
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
                    } else if ecp.is_none() && range.length() >= LEAST_ECP {
                        ecp = Some(range);
                    }
                }
                // Registers behind a memory window would need other instructions.
                Resource::Memory => return Err(Status::DEVICE_CONFIGURATION_ERROR),
                Resource::Interrupt | Resource::Other => {}
            }
        }
        let registers = registers.ok_or(Status::DEVICE_CONFIGURATION_ERROR)?;
        Ok(Self { registers, ecp })
    }

    /// Brings the lines to rest. For the start of the port, when nobody else has it.
    pub(super) fn idle(self) {
        ieee1284::idle(&mut Unwaiting(self));
    }

    fn read(self, register: Register) -> u8 {
        match register {
            Register::Data => self.registers.read(DATA),
            Register::Dsr => self.registers.read(DSR),
            Register::Dcr => self.registers.read(DCR),
            Register::Ecr => self.ecp.map_or(0xFF, |ecp| ecp.read(ECR)),
        }
    }

    fn write(self, register: Register, value: u8) {
        match register {
            Register::Data => self.registers.write(DATA, value),
            Register::Dsr => self.registers.write(DSR, value),
            Register::Dcr => self.registers.write(DCR, value),
            Register::Ecr => {
                if let Some(ecp) = self.ecp {
                    ecp.write(ECR, value);
                }
            }
        }
    }
}

/// A port for steps that do not wait.
struct Unwaiting(Hardware);

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

    fn sleep(&mut self, _milliseconds: u32) -> Result<(), Interrupted> {
        Err(Interrupted)
    }

    fn now(&mut self) -> u64 {
        milliseconds()
    }

    fn has_ecp(&self) -> bool {
        self.0.ecp.is_some()
    }
}

/// A port in the hands of a request: its waits end when the request or the hardware does.
pub(super) struct PortInUse<'a> {
    hardware: Hardware,
    inside: Inside<'a, Hardware>,
    task: &'a Task<'a>,
    why: Status,
}

impl<'a> PortInUse<'a> {
    pub(super) fn new(inside: Inside<'a, Hardware>, task: &'a Task<'a>) -> Self {
        Self {
            hardware: inside.value(),
            inside,
            task,
            why: Status::CANCELLED,
        }
    }

    /// The status of a request whose protocol was [`Interrupted`].
    pub(super) const fn why(&self) -> Status {
        self.why
    }

    fn check(&self) -> Result<(), Status> {
        if self.inside.must_leave() {
            return Err(Status::DEVICE_REMOVED);
        }
        self.task.check()
    }
}

impl ieee1284::Port for PortInUse<'_> {
    fn read(&mut self, register: Register) -> u8 {
        self.hardware.read(register)
    }

    fn write(&mut self, register: Register, value: u8) {
        self.hardware.write(register, value);
    }

    fn stall(&mut self, microseconds: u32) {
        stall(microseconds);
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.check()
            .and_then(|()| self.task.wait(milliseconds))
            .and_then(|()| self.check())
            .map_err(|why| {
                self.why = why;
                Interrupted
            })
    }

    fn now(&mut self) -> u64 {
        milliseconds()
    }

    fn has_ecp(&self) -> bool {
        self.hardware.ecp.is_some()
    }
}

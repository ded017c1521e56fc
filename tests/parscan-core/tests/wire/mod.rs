//! The hardware models as a `Port`. Time is virtual: an access takes a microsecond, and waits
//! advance the clock.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test uses its part"
)]

#[path = "../host/mod.rs"]
mod host;

use parscan_core::ieee1284::{Interrupted, Port, Register};
use parscan_models::{ChipViolation, Ecp, Epp, Nanos, PortDevice, Ps2, Spp, Width};

pub use host::{Meter, known};

const US: Nanos = 1000;

/// A chip that tells which of its rules were broken.
pub trait Chip: PortDevice {
    fn broken(&self) -> Vec<ChipViolation> {
        vec![]
    }
}

impl Chip for Spp {}
impl Chip for Ps2 {}
impl Chip for Epp {
    fn broken(&self) -> Vec<ChipViolation> {
        self.violations().to_vec()
    }
}
impl Chip for Ecp {
    fn broken(&self) -> Vec<ChipViolation> {
        self.violations().to_vec()
    }
}

pub struct Wire {
    pub chip: Box<dyn Chip>,
    pub now: Nanos,
    /// Its clock counts milliseconds.
    pub meter: Meter,
    pub ecp: bool,
    /// What an EPP access takes, in microseconds: the chip holds the bus for it.
    pub epp_us: Nanos,
    dcr: u8,
    ecr: u8,
}

impl Wire {
    pub fn new(chip: Box<dyn Chip>, ecp: bool) -> Self {
        Self {
            chip,
            now: 0,
            meter: Meter::default(),
            ecp,
            epp_us: 1,
            dcr: 0x0C,
            ecr: 0,
        }
    }

    /// Whether the port is as it must be between operations.
    pub fn is_at_rest(&self) -> bool {
        self.dcr == 0x0C && self.ecr >> 5 == 0
    }

    /// What was written to the control register last.
    pub fn dcr(&self) -> u8 {
        self.dcr
    }

    pub fn milliseconds(&self) -> u64 {
        self.now / 1_000_000
    }

    fn place(register: Register) -> (usize, u16) {
        match register {
            Register::Data => (0, 0),
            Register::Dsr => (0, 1),
            Register::Dcr => (0, 2),
            Register::EppAddress => (0, 3),
            Register::EppData => (0, 4),
            Register::EcpFifo => (1, 0),
            Register::CnfgB => (1, 1),
            Register::Ecr => (1, 2),
        }
    }

    fn input(&mut self, register: Register, width: Width) -> u32 {
        self.meter.accesses += 1;
        self.now += US;
        let (block, offset) = Self::place(register);
        let value = self.chip.read(self.now, block, offset, width);
        self.hold(register);
        value
    }

    fn output(&mut self, register: Register, width: Width, value: u32) {
        self.meter.accesses += 1;
        self.now += US;
        let (block, offset) = Self::place(register);
        self.chip.write(self.now, block, offset, width, value);
        self.hold(register);
        match register {
            Register::Dcr => self.dcr = value as u8,
            Register::Ecr => self.ecr = value as u8,
            _ => {}
        }
    }

    fn hold(&mut self, register: Register) {
        self.now = self.now.max(self.chip.held_until());
        if matches!(register, Register::EppAddress | Register::EppData) {
            self.now += (self.epp_us - 1) * US;
        }
    }

    fn interrupted(&self) -> Result<(), Interrupted> {
        self.meter.interrupted(self.milliseconds())
    }
}

impl Port for Wire {
    fn read(&mut self, register: Register) -> u8 {
        self.input(register, Width::Byte) as u8
    }

    fn write(&mut self, register: Register, value: u8) {
        self.output(register, Width::Byte, value.into());
    }

    fn read_block32(&mut self, register: Register, words: &mut [[u8; 4]]) {
        for word in words {
            *word = self.input(register, Width::Dword).to_le_bytes();
        }
    }

    fn write_block32(&mut self, register: Register, words: &[[u8; 4]]) {
        for word in words {
            self.output(register, Width::Dword, u32::from_le_bytes(*word));
        }
    }

    fn stall(&mut self, microseconds: u32) {
        assert!(microseconds <= 50, "{microseconds}");
        self.now += Nanos::from(microseconds) * US;
        self.meter.stalled += u64::from(microseconds);
    }

    fn yield_now(&mut self) -> Result<(), Interrupted> {
        self.interrupted()
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.interrupted()?;
        self.meter.sleeps += 1;
        self.now += Nanos::from(milliseconds) * 1000 * US;
        self.interrupted()
    }

    fn now(&mut self) -> u64 {
        self.now / 1_000_000
    }

    fn has_ecp(&self) -> bool {
        self.ecp
    }

    fn has_epp(&self) -> bool {
        true
    }
}

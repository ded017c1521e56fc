//! A port that parscan serves: its claim, its registers, and the mode that its ECR shows.

use std::time::Duration;

use parscan_client::{
    Condition, Error, Limits, Port, PortProgram, System,
    ioctl::parallel::port_programs::{
        GetRegister, Instruction, PortDescription, PortFeatures, RunEnd,
    },
};

/// How long one request may take. What the driver does at once takes microseconds; this is for a
/// port whose resources Windows moves at that moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// Accesses of one program: with few of them it runs in the caller's thread.
const ACCESSES: usize = 32;

/// Control bits 0 to 3: the lines.
const LINES: u8 = 0x0F;
/// Control bit 5: the data lines are turned round.
const DIRECTION: u8 = 0x20;

/// The extended control register below its mode field: no interrupts, no DMA, an empty FIFO.
const ECR_LOW: u8 = 0x15;

/// What is at an address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One of the first three registers.
    Register(GetRegister),
    /// The extended control register.
    Ecr,
}

/// A port.
pub(crate) struct ServedPort {
    pub(crate) path: String,
    pub(crate) description: PortDescription,
    held: Option<Held>,
    /// It is not tried again before.
    again_at: Duration,
}

/// A port that this process has claimed.
struct Held {
    port: Port,
    /// The ECR shows mode 001, in which the direction can be changed; else 000.
    byte_mode: bool,
    /// Whether the data lines are turned round; not known of what an earlier program left.
    reversed: Option<bool>,
}

/// Why a port cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not now: another program has it, or it sleeps.
    Busy,
    /// Never: it is not parscan's, or not the port's own device.
    Foreign,
    /// It is gone.
    Gone,
}

impl Refusal {
    fn of(error: &Error) -> Self {
        match error.condition() {
            // The latter: an answer that is none of parscan's.
            Some(Condition::Unsupported | Condition::InvalidParameter) | None => Self::Foreign,
            Some(Condition::NotFound | Condition::Removed) => Self::Gone,
            Some(_) => Self::Busy,
        }
    }
}

/// Opens a port and asks what it is.
///
/// Neither waits: a port that another program has open refuses, and the answer needs no turn.
pub(crate) fn open(system: &dyn System, path: &str) -> Result<(Port, PortDescription), Refusal> {
    let mut port = Port::open_on(system, Some(path)).map_err(|error| Refusal::of(&error))?;
    port.set_limits(Limits {
        timeout: Some(PATIENCE),
        ..Limits::default()
    });
    let description = port.describe().map_err(|error| Refusal::of(&error))?;
    Ok((port, description))
}

/// Claims a port, unless a kernel client has it: nothing waits for one.
fn claim(port: &Port) -> Result<(), Refusal> {
    let free = port.is_free().map_err(|error| Refusal::of(&error))?;
    if !free {
        return Err(Refusal::Busy);
    }
    port.claim().map_err(|error| Refusal::of(&error))
}

impl ServedPort {
    pub(crate) const fn new(path: String, description: PortDescription) -> Self {
        Self {
            path,
            description,
            held: None,
            again_at: Duration::ZERO,
        }
    }

    /// Its register at an address, if that is in it.
    pub(crate) fn register(&self, address: u16) -> Option<Place> {
        let register = match u64::from(address).checked_sub(self.description.base)? {
            0 => GetRegister::Data,
            1 => GetRegister::Status,
            2 => GetRegister::Control,
            _ => return None,
        };
        Some(Place::Register(register))
    }

    /// Its ECR, if that is at an address.
    pub(crate) fn ecr(&self, address: u16) -> Option<Place> {
        /// From the base: where every ISA port has it.
        const USUAL: u64 = 0x402;
        /// In the ECP block.
        const ITS_OWN: u64 = 2;
        let PortDescription {
            base,
            ecp_base,
            features,
            ..
        } = self.description;
        let address = Some(u64::from(address));
        let usual = base.checked_add(USUAL);
        let its_own = ecp_base.checked_add(ITS_OWN);
        let is_there = features.contains(PortFeatures::ECR) && ecp_base != 0;
        (is_there && (address == usual || address == its_own)).then_some(Place::Ecr)
    }

    /// Whether this process has it. One that was pulled out is let go of.
    pub(crate) fn is_held(&mut self) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        if let Err(error) = held.port.describe()
            && Refusal::of(&error) == Refusal::Gone
        {
            self.held = None;
        }
        self.held.is_some()
    }

    /// Whether it could be claimed: it is, and given straight back.
    pub(crate) fn could_be_held(&self, system: &dyn System) -> bool {
        open(system, &self.path)
            .and_then(|(port, _)| {
                claim(&port)?;
                port.release(false).map_err(|error| Refusal::of(&error))
            })
            .is_ok()
    }

    /// Claims it, unless this process has it. A port that refuses is not asked again for `pause`.
    ///
    /// # Errors
    /// It refuses, or did so a moment ago.
    pub(crate) fn hold(
        &mut self,
        system: &dyn System,
        now: impl FnOnce() -> Duration,
        pause: Duration,
    ) -> Result<(), Refusal> {
        if self.held.is_some() {
            return Ok(());
        }
        let now = now();
        if now < self.again_at {
            return Err(Refusal::Busy);
        }
        self.again_at = now.saturating_add(pause);
        let (port, description) = open(system, &self.path)?;
        if description.base != self.description.base {
            // Windows has given it other resources.
            return Err(Refusal::Gone);
        }
        claim(&port)?;
        self.description = description;
        self.held = Some(Held {
            port,
            byte_mode: description.features.contains(PortFeatures::DIRECTION),
            reversed: None,
        });
        Ok(())
    }

    /// Runs a program. `None`: it was not done.
    fn run(&mut self, program: &PortProgram) -> Option<Vec<u8>> {
        match self.held.as_ref()?.port.run(program) {
            Ok(run) => (run.result.end == RunEnd::Done).then_some(run.output),
            Err(error) => {
                if Refusal::of(&error) == Refusal::Gone {
                    self.held = None;
                }
                None
            }
        }
    }

    /// Whether direction bits are the chip's.
    fn can_turn(&self) -> bool {
        let turns = self.description.features.contains(PortFeatures::DIRECTION);
        turns && self.held.as_ref().is_some_and(|held| held.byte_mode)
    }

    /// Reads a place so many times. What could not be read stays as it is.
    pub(crate) fn read(&mut self, place: Place, bytes: &mut [u8]) {
        let Place::Register(register) = place else {
            if let Some(held) = &self.held {
                bytes.fill(u8::from(held.byte_mode) << 5 | ECR_LOW);
            }
            return;
        };
        let mask = if register == GetRegister::Control && !self.can_turn() {
            !DIRECTION
        } else {
            0xFF
        };
        for part in bytes.chunks_mut(ACCESSES) {
            let program = part.iter().fold(PortProgram::new(), |program, _| {
                program.then(Instruction::Get(register))
            });
            let Some(output) = self.run(&program) else {
                return;
            };
            for (byte, read) in part.iter_mut().zip(output) {
                *byte = read & mask;
            }
        }
    }

    /// Writes bytes to a place, one after the other.
    pub(crate) fn write(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Register(GetRegister::Data) => {
                self.write_each(bytes, PortProgram::data);
            }
            Place::Register(GetRegister::Control) => {
                let mask = if self.can_turn() {
                    LINES | DIRECTION
                } else {
                    LINES
                };
                let done =
                    self.write_each(bytes, |program, byte| program.control(byte & mask, mask));
                if let (Some(held), Some(last)) = (&mut self.held, bytes.last())
                    && mask & DIRECTION != 0
                {
                    held.reversed = done.then_some(last & DIRECTION != 0);
                }
            }
            Place::Register(GetRegister::Status) => {}
            Place::Ecr => {
                for byte in bytes {
                    self.write_ecr(*byte);
                }
            }
        }
    }

    /// Whether all were written.
    fn write_each(&mut self, bytes: &[u8], write: impl Fn(PortProgram, u8) -> PortProgram) -> bool {
        bytes.chunks(ACCESSES).all(|part| {
            let program = part
                .iter()
                .fold(PortProgram::new(), |program, byte| write(program, *byte));
            self.run(&program).is_some()
        })
    }

    /// Modes 000 and 001 are shown; the chip stays in the one that the claim has set. Others would
    /// be a FIFO's.
    fn write_ecr(&mut self, byte: u8) {
        let byte_mode = match byte >> 5 {
            0b000 => false,
            0b001 => true,
            _ => return,
        };
        if !byte_mode && self.can_turn() {
            let forward = PortProgram::new().control(0, DIRECTION);
            let reversed = self.held.as_ref().and_then(|held| held.reversed);
            // In mode 000 the lines are the host's.
            if reversed != Some(false) && self.run(&forward).is_none() {
                return;
            }
        }
        if let Some(held) = &mut self.held {
            held.byte_mode = byte_mode;
            if !byte_mode {
                held.reversed = Some(false);
            }
        }
    }
}

//! The interpreter of port programs, and the trait of ports that can be asked for the time in
//! nanoseconds.

use super::{Interrupted, Port, Register};
use crate::ioctl::parallel::port_programs::{
    EppRegister, GetRegister, Instruction, MOST_DEPTH, Program, RunEnd, RunResult,
};

/// A port whose accesses can be timed.
pub trait TimedPort: Port {
    /// A clock that never goes back, in nanoseconds; as fine as the system has one. At any IRQL.
    fn nanoseconds(&mut self) -> u64;

    /// Sleeps for about so many nanoseconds, by the finest timer that there is.
    ///
    /// # Errors
    /// [`Interrupted`], also when it was so before the call.
    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted>;
}

/// What the registers that a program writes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The data register.
    pub data: u8,
    /// The control register.
    pub control: u8,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a time-out.
    As(RunEnd),
    /// The port was [`Interrupted`], which knows why.
    Interrupted,
}

/// The longest that a processor is kept busy at once: the rest of a longer DELAY.
const STALL_NS: u64 = 50_000;
/// A slot of PACE that is nearer than this is waited for without giving the processor away: the
/// timer might come back too late.
const NEAR_SLOT_NS: u64 = 1_000_000;
/// How often the clock is looked at for the last microsecond.
const MOST_CLOCK_LOOKS: u32 = 64;
/// A WAIT looks as fast as it can for this long.
const FAST_LOOKS_NS: u64 = 50_000;
/// Then it lets other threads run between two looks until this time.
const YIELDING_LOOKS_NS: u64 = 5_000_000;
/// Then it sleeps.
const LOOK_NS: u64 = 500_000;

/// Runs a program. `outputs` are the registers as they are, and then as the program leaves them;
/// `output` gets the bytes that are read.
///
/// A program that is not atomic can be interrupted before every instruction and in every wait. An
/// atomic one neither sleeps nor asks.
///
/// Comes back with `end` as [`RunEnd::Done`], [`RunEnd::TimeOut`] or, if the port was interrupted,
/// [`RunEnd::Cancelled`]: then [`Ended`] says so, and the port knows better why.
pub fn run(
    port: &mut impl TimedPort,
    program: &Program<'_>,
    outputs: &mut Outputs,
    output: &mut [u8],
) -> (RunResult, Ended) {
    let start = port.nanoseconds();
    let mut run = Run {
        port,
        outputs,
        room: output,
        data: program.data(),
        access_ns: u64::from(program.access_ns()),
        atomic: program.is_atomic(),
        loops: [Loop::default(); MOST_DEPTH as usize],
        depth: 0,
        last_access: start,
        ends_here: false,
        pace: None,
        result: RunResult {
            end: RunEnd::Done,
            instruction: 0,
            accesses: 0,
            output: 0,
            missed: 0,
            elapsed_ns: 0,
        },
    };
    let ended = run.all(program);
    // A program that ends with an access ends with that.
    let end = if run.ends_here {
        run.last_access
    } else {
        run.port.nanoseconds()
    };
    let mut result = run.result;
    result.elapsed_ns = end.saturating_sub(start);
    result.end = match ended {
        Ended::As(end) => end,
        Ended::Interrupted => RunEnd::Cancelled,
    };
    (result, ended)
}

/// A loop that is open.
#[derive(Clone, Copy, Default)]
struct Loop {
    /// Its first instruction.
    body: u32,
    /// How often it is done again.
    left: u32,
}

/// The slots of PACE.
struct SlotClock {
    interval: u64,
    /// When the next one is; the first is when the first access is ready.
    next: Option<u64>,
}

struct Run<'a, P> {
    port: &'a mut P,
    outputs: &'a mut Outputs,
    room: &'a mut [u8],
    data: &'a [u8],
    access_ns: u64,
    atomic: bool,
    loops: [Loop; MOST_DEPTH as usize],
    depth: usize,
    /// When the last access was over.
    last_access: u64,
    /// Nothing was done after it.
    ends_here: bool,
    pace: Option<SlotClock>,
    result: RunResult,
}

impl<P: TimedPort> Run<'_, P> {
    fn all(&mut self, program: &Program<'_>) -> Ended {
        while let Some(instruction) = program.instruction(self.result.instruction as usize) {
            match self.step(program, instruction) {
                Ok(true) => {}
                Ok(false) => return Ended::As(RunEnd::TimeOut),
                Err(Interrupted) => return Ended::Interrupted,
            }
        }
        Ended::As(RunEnd::Done)
    }

    fn check(&mut self) -> Result<(), Interrupted> {
        if !self.atomic && self.port.is_interrupted() {
            return Err(Interrupted);
        }
        Ok(())
    }

    /// One instruction. `false`: a WAIT ended the program.
    fn step(
        &mut self,
        program: &Program<'_>,
        instruction: Instruction,
    ) -> Result<bool, Interrupted> {
        self.ends_here = false;
        self.check()?;
        let mut next = self.result.instruction + 1;
        match instruction {
            Instruction::Data(value) => self.data(value)?,
            Instruction::NextData => {
                let value = self.next_byte();
                self.data(value)?;
            }
            Instruction::Control { value, mask } => self.control(value, mask),
            Instruction::NextControl { mask } => {
                let value = self.next_byte();
                self.control(value, mask);
            }
            Instruction::Get(register) => {
                let value = self.port.read(match register {
                    GetRegister::Data => Register::Data,
                    GetRegister::Status => Register::Dsr,
                    GetRegister::Control => Register::Dcr,
                });
                self.accessed();
                self.append(value);
            }
            Instruction::Wait { mask, value, go_on } => {
                let time = match program.instruction(next as usize) {
                    Some(Instruction::Until(time)) => time.ns(),
                    _ => 0,
                };
                let (status, met) = self.wait(mask, value, time)?;
                self.accessed();
                if go_on {
                    self.append(status);
                } else if !met {
                    return Ok(false);
                }
                next += 1;
            }
            // It went with its WAIT.
            Instruction::Until(_) => {}
            // An access takes that long by itself.
            Instruction::Delay(time) if time.ns() <= u64::from(program.access_ns()) => {}
            Instruction::Delay(time) => {
                let until = self.last_access.saturating_add(time.ns());
                self.wait_until(until, STALL_NS)?;
            }
            Instruction::Pace(time) => {
                self.pace = (time.ns() != 0).then_some(SlotClock {
                    interval: time.ns(),
                    next: None,
                });
            }
            Instruction::Loop(times) => {
                if let Some(place) = self.loops.get_mut(self.depth) {
                    *place = Loop {
                        body: next,
                        left: times.saturating_sub(1),
                    };
                    self.depth += 1;
                }
            }
            Instruction::End => {
                let innermost = self.depth.saturating_sub(1);
                if let Some(place) = self.loops.get_mut(innermost) {
                    if place.left == 0 {
                        self.depth = innermost;
                    } else {
                        place.left -= 1;
                        next = place.body;
                    }
                }
            }
            Instruction::EppOut(register, value) => {
                self.port.write(epp(register), value);
                self.accessed();
            }
            Instruction::EppIn(register) => {
                let value = self.port.read(epp(register));
                self.accessed();
                self.append(value);
            }
        }
        self.result.instruction = next;
        Ok(true)
    }

    /// The next byte of the data area, which the verifier found long enough.
    fn next_byte(&mut self) -> u8 {
        match self.data.split_first() {
            Some((byte, rest)) => {
                self.data = rest;
                *byte
            }
            None => 0,
        }
    }

    fn append(&mut self, byte: u8) {
        if let Some(place) = self.room.get_mut(self.result.output as usize) {
            *place = byte;
            self.result.output += 1;
        }
    }

    /// An access is over.
    #[inline]
    fn accessed(&mut self) {
        self.last_access = self.port.nanoseconds();
        self.ends_here = true;
        self.result.accesses += 1;
    }

    /// DATA and `NEXT_DATA`, in their slot.
    fn data(&mut self, value: u8) -> Result<(), Interrupted> {
        if let Some(slot) = self.pace.as_ref().and_then(|pace| pace.next) {
            self.wait_until(slot, NEAR_SLOT_NS)?;
        }
        if let Some(pace) = &mut self.pace {
            let now = self.port.nanoseconds();
            let slot = pace.next.unwrap_or(now);
            // A slot is missed if the one after it has come, too.
            let late = now.saturating_sub(slot);
            let missed = late.checked_div(pace.interval).unwrap_or(0);
            let count = u32::try_from(missed).unwrap_or(u32::MAX);
            self.result.missed = self.result.missed.saturating_add(count);
            let slots = missed.saturating_add(1);
            pace.next = Some(slot.saturating_add(slots.saturating_mul(pace.interval)));
        }
        self.outputs.data = value;
        self.port.write(Register::Data, value);
        self.accessed();
        Ok(())
    }

    /// CONTROL and `NEXT_CONTROL`.
    fn control(&mut self, value: u8, mask: u8) {
        let control = self.outputs.control & !mask | value & mask;
        self.outputs.control = control;
        self.port.write(Register::Dcr, control);
        self.accessed();
    }

    /// Waits for status lines: the status that was seen last, and whether they were so.
    fn wait(&mut self, mask: u8, value: u8, time: u64) -> Result<(u8, bool), Interrupted> {
        let start = self.port.nanoseconds();
        loop {
            // The clock first: a thread that is kept from running does not take what it sees then
            // for a time-out.
            let waited = self.port.nanoseconds().saturating_sub(start);
            let status = self.port.read(Register::Dsr);
            if status & mask == value {
                return Ok((status, true));
            }
            if waited >= time {
                return Ok((status, false));
            }
            self.check()?;
            if self.atomic || waited < FAST_LOOKS_NS {
            } else if waited < YIELDING_LOOKS_NS {
                self.port.linger()?;
            } else {
                self.port.sleep_ns(LOOK_NS.min(time - waited))?;
            }
        }
    }

    /// Waits until an access that begins now is over at a time: by the timer until it is as near as
    /// `near`, and then busily.
    fn wait_until(&mut self, time: u64, near: u64) -> Result<(), Interrupted> {
        let mut looks = 0;
        loop {
            let now = self.port.nanoseconds();
            let left = time.saturating_sub(now).saturating_sub(self.access_ns);
            if left == 0 {
                return Ok(());
            }
            if left > near && !self.atomic {
                self.port.sleep_ns(left - near)?;
                continue;
            }
            self.check()?;
            if left < 1000 && looks < MOST_CLOCK_LOOKS {
                // A look at the clock takes time, too, and is shorter than a stall.
                looks += 1;
                continue;
            }
            let stall = (left.min(STALL_NS) / 1000).max(1);
            self.port.stall(u32::try_from(stall).unwrap_or(1));
        }
    }
}

const fn epp(register: EppRegister) -> Register {
    match register {
        EppRegister::Data => Register::EppData,
        EppRegister::Address => Register::EppAddress,
    }
}

//! The verifier: what a program costs, and whether it may run at all, before its first access.

use core::fmt;

use super::{
    DIRECT_ACCESSES, DIRECT_NS, DIRECT_STEPS, Instruction, MOST_ACCESSES, MOST_DEPTH,
    MOST_INSTRUCTIONS, MOST_NS, MOST_STEPS, RunInput, RunResult, Time,
};

/// What the verifier must know of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// The data lines can be turned round.
    pub direction: bool,
    /// The chip does EPP cycles.
    pub epp: bool,
    /// How long an access takes, in nanoseconds.
    pub access_ns: u32,
}

/// Control bits 0 to 3: the lines.
const CONTROL_LINES: u8 = 0x0F;
/// Control bit 5: the direction of the data lines.
const DIRECTION: u8 = 0x20;
/// Status bits 3 to 7: the lines.
const STATUS_LINES: u8 = 0xF8;
/// How long a chip waits for the peripheral in an EPP cycle before it gives up, in nanoseconds.
const EPP_TIME_OUT_NS: u64 = 10_000;

/// What a program costs: upper bounds, reached when every WAIT times out and goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Accesses. A WAIT counts as one, however often it looks.
    pub accesses: u64,
    /// Bytes of output.
    pub output: u64,
    /// Bytes that are taken from the data area.
    pub data: u64,
    /// Declared time, in nanoseconds.
    pub ns: u64,
    /// Instructions that are executed.
    pub steps: u64,
}

/// Why a program does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The instruction; their number, if it is about the whole program.
    pub instruction: usize,
    /// What is wrong with it.
    pub what: WhatIsWrong,
}

/// What is wrong with an instruction, or with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhatIsWrong {
    /// No or too many instructions.
    Length,
    /// There is no such instruction.
    Unknown,
    /// A control or status bit that a program may not use, a value outside its mask, or a mask
    /// without a bit.
    Bits,
    /// The chip has no such thing.
    Unsupported,
    /// A WAIT without its UNTIL, or an UNTIL without its WAIT.
    Until,
    /// Loops nested too deep, a LOOP without END, an END without LOOP, or a LOOP of 0 times.
    Loop,
    /// Too many accesses.
    Accesses,
    /// Too many instructions are executed: [`MOST_STEPS`], or [`DIRECT_STEPS`] if it is to run
    /// without interruption.
    Steps,
    /// It takes too long: [`MOST_NS`], or [`DIRECT_NS`] if it is to run without interruption.
    Time,
    /// It takes more or fewer bytes from the data area than there are.
    Data,
    /// Its output does not fit.
    Output,
}

impl fmt::Display for WhatIsWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "there is none, or there are too many",
            Self::Unknown => "there is no such instruction",
            Self::Bits => "a bit that programs may not use, or a value outside its mask",
            Self::Unsupported => "the port has no such thing",
            Self::Until => "a WAIT and its UNTIL belong together",
            Self::Loop => "LOOP and END do not match, or are nested too deep",
            Self::Accesses => "too many accesses",
            Self::Steps => "too many instructions are executed",
            Self::Time => "it takes too long",
            Self::Data => "the data area has not as many bytes as are taken from it",
            Self::Output => "there is no room for its output",
        })
    }
}

/// A verified program.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    code: &'a [[u8; 4]],
    data: &'a [u8],
    atomic: bool,
    uses_epp: bool,
    access_ns: u32,
    cost: Cost,
}

impl<'a> Program<'a> {
    /// The instruction at a place. `None`: behind the last one.
    #[must_use]
    pub fn instruction(&self, index: usize) -> Option<Instruction> {
        self.code.get(index).copied().and_then(Instruction::decode)
    }

    /// How many instructions there are.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.code.len()
    }

    /// The data area.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// It runs at `DISPATCH_LEVEL` as a whole.
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        self.atomic
    }

    /// There are EPP cycles in it.
    #[must_use]
    pub const fn uses_epp(&self) -> bool {
        self.uses_epp
    }

    /// How long an access takes, in nanoseconds.
    #[must_use]
    pub const fn access_ns(&self) -> u32 {
        self.access_ns
    }

    /// What it costs.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether it is short enough for its caller's thread.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.cost.accesses <= DIRECT_ACCESSES as u64
            && self.cost.ns <= DIRECT_NS as u64
            && self.cost.steps <= DIRECT_STEPS as u64
    }
}

/// What a sequence of instructions costs, when it is not yet known how far apart the accesses are
/// that PACE has in its hand as the sequence begins.
#[derive(Clone, Copy, Default)]
struct Part {
    cost: Cost,
    /// Accesses before the first PACE: their time is not in `cost`.
    open: u64,
    /// The last PACE.
    pace: Option<Time>,
}

impl Part {
    fn add(&mut self, accesses: u64, ns: u64) {
        self.cost.accesses = self.cost.accesses.saturating_add(accesses);
        self.cost.ns = self.cost.ns.saturating_add(ns);
    }

    /// DATA or `NEXT_DATA`.
    fn add_paced(&mut self, access_ns: u64) {
        if let Some(pace) = self.pace {
            self.add(1, access_ns.max(pace.ns()));
        } else {
            self.add(1, 0);
            self.open = self.open.saturating_add(1);
        }
    }

    /// An instruction that is not LOOP or END.
    fn add_instruction(&mut self, instruction: Instruction, access_ns: u64) {
        let with_time_out = access_ns.saturating_add(EPP_TIME_OUT_NS);
        match instruction {
            Instruction::Data(_) | Instruction::NextData => self.add_paced(access_ns),
            Instruction::Control { .. }
            | Instruction::NextControl { .. }
            | Instruction::Get(_)
            | Instruction::Wait { .. } => self.add(1, access_ns),
            Instruction::Until(time) | Instruction::Delay(time) => self.add(0, time.ns()),
            Instruction::Pace(time) => self.pace = Some(time),
            Instruction::EppOut(..) | Instruction::EppIn(_) => self.add(1, with_time_out),
            Instruction::Loop(_) | Instruction::End => {}
        }
        let takes = matches!(
            instruction,
            Instruction::NextData | Instruction::NextControl { .. }
        );
        let gives = matches!(
            instruction,
            Instruction::Get(_) | Instruction::EppIn(_) | Instruction::Wait { go_on: true, .. }
        );
        self.cost.data = self.cost.data.saturating_add(takes.into());
        self.cost.output = self.cost.output.saturating_add(gives.into());
    }

    /// This part, and `next` after it.
    fn then(&mut self, next: &Self, access_ns: u64) {
        let cost = &mut self.cost;
        cost.accesses = cost.accesses.saturating_add(next.cost.accesses);
        cost.output = cost.output.saturating_add(next.cost.output);
        cost.data = cost.data.saturating_add(next.cost.data);
        cost.steps = cost.steps.saturating_add(next.cost.steps);
        cost.ns = cost.ns.saturating_add(next.cost.ns);
        match self.pace {
            Some(pace) => {
                let open = next.open.saturating_mul(access_ns.max(pace.ns()));
                cost.ns = cost.ns.saturating_add(open);
            }
            None => self.open = self.open.saturating_add(next.open),
        }
        self.pace = next.pace.or(self.pace);
    }

    /// This part, so many times.
    fn repeat(&mut self, times: u32, access_ns: u64) {
        let times = u64::from(times);
        let cost = &mut self.cost;
        cost.accesses = cost.accesses.saturating_mul(times);
        cost.output = cost.output.saturating_mul(times);
        cost.data = cost.data.saturating_mul(times);
        cost.steps = cost.steps.saturating_mul(times);
        cost.ns = cost.ns.saturating_mul(times);
        match self.pace {
            // From the second time on, the accesses before the first PACE have the last one.
            Some(pace) => {
                let open = self.open.saturating_mul(access_ns.max(pace.ns()));
                let again = open.saturating_mul(times.saturating_sub(1));
                cost.ns = cost.ns.saturating_add(again);
            }
            None => self.open = self.open.saturating_mul(times),
        }
    }

    /// The cost of a whole program, which begins without PACE.
    fn total(&self, access_ns: u64) -> Cost {
        let open = self.open.saturating_mul(access_ns);
        Cost {
            ns: self.cost.ns.saturating_add(open),
            ..self.cost
        }
    }
}

/// Verifies a program for a chip. `output_length` is the caller's room: result and output.
///
/// A program that is accepted makes no more than [`MOST_ACCESSES`] accesses, executes no more than
/// [`MOST_STEPS`] instructions, declares no more than [`MOST_NS`], has exactly the data that it
/// takes, room for what it reads, and changes no bit but those of the data register and control
/// bits 0 to 3, and 5 where the chip has it.
///
/// # Errors
/// The first [`Mistake`].
pub fn verify<'a>(
    input: &RunInput<'a>,
    output_length: usize,
    chip: Chip,
) -> Result<Program<'a>, Mistake> {
    let code = input.code;
    let whole = |what| Mistake {
        instruction: code.len(),
        what,
    };
    if code.is_empty() || code.len() > MOST_INSTRUCTIONS as usize {
        return Err(whole(WhatIsWrong::Length));
    }
    let (cost, uses_epp) = measure(code, chip)?;
    if cost.accesses > u64::from(MOST_ACCESSES) {
        return Err(whole(WhatIsWrong::Accesses));
    }
    let (most_steps, most_ns) = if input.atomic {
        (DIRECT_STEPS, u64::from(DIRECT_NS))
    } else {
        (MOST_STEPS, MOST_NS)
    };
    if cost.steps > u64::from(most_steps) {
        return Err(whole(WhatIsWrong::Steps));
    }
    if cost.ns > most_ns {
        return Err(whole(WhatIsWrong::Time));
    }
    if cost.data != input.data.len() as u64 {
        return Err(whole(WhatIsWrong::Data));
    }
    let room = output_length.checked_sub(RunResult::SIZE);
    if room.is_none_or(|room| cost.output > room as u64) {
        return Err(whole(WhatIsWrong::Output));
    }
    Ok(Program {
        code,
        data: input.data,
        atomic: input.atomic,
        uses_epp,
        access_ns: chip.access_ns,
        cost,
    })
}

/// What a program costs, and whether there are EPP cycles in it.
fn measure(code: &[[u8; 4]], chip: Chip) -> Result<(Cost, bool), Mistake> {
    let whole = |what| Mistake {
        instruction: code.len(),
        what,
    };
    let access_ns = u64::from(chip.access_ns);
    // The innermost open loop, or the program: its cost, and how often it is done.
    let mut part = (Part::default(), 0);
    // Those around it. Most programs have none, so nothing is written here for them.
    let mut outer = [None; MOST_DEPTH as usize];
    let mut depth: usize = 0;
    let mut uses_epp = false;
    let mut waits = false;
    for (index, bytes) in code.iter().enumerate() {
        let wrong = |what| Mistake {
            instruction: index,
            what,
        };
        let instruction = Instruction::decode(*bytes).ok_or_else(|| wrong(WhatIsWrong::Unknown))?;
        if waits != matches!(instruction, Instruction::Until(_)) {
            return Err(wrong(WhatIsWrong::Until));
        }
        waits = matches!(instruction, Instruction::Wait { .. });
        check_bits(instruction, chip).map_err(wrong)?;
        part.0.cost.steps = part.0.cost.steps.saturating_add(1);
        match instruction {
            Instruction::Loop(times) => {
                let place = outer.get_mut(depth);
                let place = place.filter(|_| times > 0);
                *place.ok_or_else(|| wrong(WhatIsWrong::Loop))? = Some(part);
                part = (Part::default(), times);
                depth += 1;
                continue;
            }
            Instruction::End => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| wrong(WhatIsWrong::Loop))?;
                let around = outer.get_mut(depth).and_then(Option::take);
                let (mut inner, times) = part;
                inner.repeat(times, access_ns);
                part = around.unwrap_or_default();
                part.0.then(&inner, access_ns);
                continue;
            }
            _ => {}
        }
        part.0.add_instruction(instruction, access_ns);
        uses_epp |= matches!(instruction, Instruction::EppOut(..) | Instruction::EppIn(_));
    }
    if waits {
        return Err(whole(WhatIsWrong::Until));
    }
    if depth != 0 {
        return Err(whole(WhatIsWrong::Loop));
    }
    Ok((part.0.total(access_ns), uses_epp))
}

/// Whether the bits of an instruction are those that a program may use.
fn check_bits(instruction: Instruction, chip: Chip) -> Result<(), WhatIsWrong> {
    match instruction {
        Instruction::Control { value, mask } if value & !mask != 0 => Err(WhatIsWrong::Bits),
        Instruction::Control { mask, .. } | Instruction::NextControl { mask } => {
            if mask == 0 || mask & !(CONTROL_LINES | DIRECTION) != 0 {
                Err(WhatIsWrong::Bits)
            } else if mask & DIRECTION != 0 && !chip.direction {
                Err(WhatIsWrong::Unsupported)
            } else {
                Ok(())
            }
        }
        Instruction::Wait { mask, value, .. }
            if mask == 0 || mask & !STATUS_LINES != 0 || value & !mask != 0 =>
        {
            Err(WhatIsWrong::Bits)
        }
        Instruction::EppOut(..) | Instruction::EppIn(_) if !chip.epp => {
            Err(WhatIsWrong::Unsupported)
        }
        _ => Ok(()),
    }
}

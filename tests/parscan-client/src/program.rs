//! Port programs: a typed builder, and the calls of a [`Port`] that are about raw lines.

use std::time::Duration;

use parscan_core::ioctl::parallel::{
    IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_GET_PORT, IOCTL_PARSCAN_RELEASE, IOCTL_PARSCAN_RUN,
    port_programs::{
        ATOMIC, Chip, Instruction, MOST_ACCESSES, Mistake, PortDescription, RESTORE_LINES,
        RunHeader, RunInput, RunResult, Time, WhatIsWrong, verify,
    },
};

use crate::{Error, Port, port::Request};

/// A sequence of accesses to a port's lines, which the driver runs as a whole.
///
/// ```
/// use std::time::Duration;
/// use parscan_client::PortProgram;
///
/// // A trigger: 1 on the data lines for 10 us, which nothing stretches.
/// let trigger = PortProgram::new().data(1).delay(Duration::from_micros(10)).data(0).atomic();
/// # trigger.check().unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortProgram {
    code: Vec<[u8; 4]>,
    bytes: Vec<u8>,
    atomic: bool,
    /// A time that no instruction can have, and where.
    too_long: Option<usize>,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortProgramRun {
    /// How it ended, and its counts.
    pub result: RunResult,
    /// The bytes that it read.
    pub output: Vec<u8>,
}

/// A chip that has everything and is fast: what is wrong with a program on it is wrong on all.
const ANY_CHIP: Chip = Chip {
    direction: true,
    epp: true,
    access_ns: 1,
};

impl PortProgram {
    /// An empty program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an instruction.
    #[must_use]
    pub fn then(mut self, instruction: Instruction) -> Self {
        self.code.push(instruction.encode());
        self
    }

    fn timed(mut self, time: Duration, instruction: fn(Time) -> Instruction) -> Self {
        let ns = u64::try_from(time.as_nanos()).ok();
        if let Some(time) = ns.and_then(Time::from_ns) {
            return self.then(instruction(time));
        }
        self.too_long.get_or_insert(self.code.len());
        self
    }

    /// Writes the data register.
    #[must_use]
    pub fn data(self, value: u8) -> Self {
        self.then(Instruction::Data(value))
    }

    /// Changes the control bits of `mask`.
    #[must_use]
    pub fn control(self, value: u8, mask: u8) -> Self {
        self.then(Instruction::Control { value, mask })
    }

    /// The next instruction is over at least so long after the last access.
    #[must_use]
    pub fn delay(self, time: Duration) -> Self {
        self.timed(time, Instruction::Delay)
    }

    /// Writes of the data register are so far apart from here.
    #[must_use]
    pub fn pace(self, time: Duration) -> Self {
        self.timed(time, Instruction::Pace)
    }

    /// Waits until (status & `mask`) == `value`. A time-out ends the program, or, with `go_on`, only
    /// the wait: the status is appended to the output then, however the wait ended.
    #[must_use]
    pub fn wait(self, mask: u8, value: u8, time_out: Duration, go_on: bool) -> Self {
        self.then(Instruction::Wait { mask, value, go_on })
            .timed(time_out, Instruction::Until)
    }

    /// Does `body` so many times.
    #[must_use]
    pub fn repeat(self, times: u32, body: impl FnOnce(Self) -> Self) -> Self {
        body(self.then(Instruction::Loop(times))).then(Instruction::End)
    }

    /// Appends to the data area, which `NextData` and `NextControl` take their bytes from.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The whole program runs at `DISPATCH_LEVEL`: 50 us at the most.
    #[must_use]
    pub const fn atomic(mut self) -> Self {
        self.atomic = true;
        self
    }

    /// What the driver's verifier says of the program: the bytes that it reads at the most.
    ///
    /// # Errors
    /// What is wrong with it on every port.
    pub fn check(&self) -> Result<usize, Mistake> {
        if let Some(instruction) = self.too_long {
            return Err(Mistake {
                instruction,
                what: WhatIsWrong::Time,
            });
        }
        let input = RunInput {
            atomic: self.atomic,
            code: &self.code,
            data: &self.bytes,
        };
        let room = RunResult::SIZE + MOST_ACCESSES as usize;
        let program = verify(&input, room, ANY_CHIP)?;
        Ok(usize::try_from(program.cost().output).unwrap_or(room))
    }

    /// The input of `IOCTL_PARSCAN_RUN`.
    fn request(&self) -> Vec<u8> {
        let header = RunHeader {
            flags: if self.atomic { ATOMIC } else { 0 },
            instructions: u32::try_from(self.code.len()).unwrap_or(u32::MAX),
            data: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
        };
        [
            &header.to_bytes()[..],
            self.code.as_flattened(),
            &self.bytes,
        ]
        .concat()
    }
}

impl Port {
    /// What the port is, and what it has (`IOCTL_PARSCAN_GET_PORT`).
    ///
    /// # Errors
    /// The driver refused, or is not parscan.
    pub fn describe(&self) -> Result<PortDescription, Error> {
        const NAME: &str = "IOCTL_PARSCAN_GET_PORT";
        let answer: [u8; PortDescription::SIZE] = self.answer(&Request {
            name: NAME,
            code: IOCTL_PARSCAN_GET_PORT,
            input: &[],
        })?;
        PortDescription::parse(&answer).ok_or(Error::ShortAnswer {
            request: NAME,
            bytes: answer.len(),
        })
    }

    /// The port is this handle's from now on, until it is released or closed; no line moves
    /// (`IOCTL_PARSCAN_CLAIM`).
    ///
    /// # Errors
    /// [`Condition::Busy`](crate::Condition::Busy): another client kept it.
    pub fn claim(&self) -> Result<(), Error> {
        self.order(&Request {
            name: "IOCTL_PARSCAN_CLAIM",
            code: IOCTL_PARSCAN_CLAIM,
            input: &[0; 4],
        })
    }

    /// Gives the port back, with the lines as they are, or as they were when it was claimed
    /// (`IOCTL_PARSCAN_RELEASE`).
    ///
    /// # Errors
    /// The port is not claimed.
    pub fn release(&self, restore: bool) -> Result<(), Error> {
        let flags = if restore { RESTORE_LINES } else { 0 };
        self.order(&Request {
            name: "IOCTL_PARSCAN_RELEASE",
            code: IOCTL_PARSCAN_RELEASE,
            input: &flags.to_le_bytes(),
        })
    }

    /// Runs a program (`IOCTL_PARSCAN_RUN`). How it ended is in its result.
    ///
    /// # Errors
    /// [`Error::Program`]; the driver refused, as it does where the chip has not what the program
    /// needs.
    pub fn run(&self, program: &PortProgram) -> Result<PortProgramRun, Error> {
        const NAME: &str = "IOCTL_PARSCAN_RUN";
        let output = program.check().map_err(Error::Program)?;
        let mut answer = self.bytes(
            &Request {
                name: NAME,
                code: IOCTL_PARSCAN_RUN,
                input: &program.request(),
            },
            RunResult::SIZE + output,
        )?;
        let short = Error::ShortAnswer {
            request: NAME,
            bytes: answer.len(),
        };
        let result = RunResult::parse(&answer).ok_or(short)?;
        answer.drain(..RunResult::SIZE);
        answer.truncate(result.output as usize);
        Ok(PortProgramRun {
            result,
            output: answer,
        })
    }
}

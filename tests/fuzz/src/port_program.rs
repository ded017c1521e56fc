//! Any port program, as a request brings it: it is refused, or it stays within what the verifier
//! said, and writes no bit that is not its own.

use arbitrary::Arbitrary;
use parscan_core::{
    ieee1284::{Interrupted, Outputs, Port, Register, TimedPort, run_program},
    ioctl::parallel::port_programs::{
        Chip, MOST_ACCESSES, MOST_NS, MOST_STEPS, RunEnd, RunInput, RunRequest, RunResult, verify,
    },
};
use parscan_models::{PortAccess, check_program};

/// A request and its port.
#[derive(Arbitrary, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Input<'a> {
    request: &'a [u8],
    /// As the request has it, or with these instructions behind a good header.
    whole: bool,
    room: u16,
    direction: bool,
    epp: bool,
    atomic: bool,
    words: Vec<[u8; 4]>,
    data: &'a [u8],
    /// What the status register reads, over and over.
    status: Vec<u8>,
    /// How often the port may be asked before it is interrupted.
    patience: Option<u16>,
}

const ACCESS_NS: u64 = 1000;
const LONGEST: u64 = 20_000;

struct Wire<'a> {
    now: u64,
    accesses: Vec<PortAccess>,
    status: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    patience: Option<u16>,
    sleeps: u64,
}

impl Wire<'_> {
    fn access(&mut self, register: Register, written: Option<u8>) -> u8 {
        let start = self.now;
        self.now += ACCESS_NS;
        let (offset, read) = match register {
            Register::Data => (0, 1),
            Register::Dsr => (1, self.status.next().copied().unwrap_or(0)),
            Register::Dcr => (2, 3),
            Register::EppAddress => (3, 4),
            Register::EppData => (4, 5),
            _ => panic!("{register:?}"),
        };
        let read = if written.is_some() { 0 } else { read };
        self.accesses.push(PortAccess {
            start,
            end: self.now,
            offset,
            written,
            read,
        });
        read
    }

    fn interrupted(&mut self) -> Result<(), Interrupted> {
        match &mut self.patience {
            Some(0) => Err(Interrupted),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Port for Wire<'_> {
    fn read(&mut self, register: Register) -> u8 {
        self.access(register, None)
    }
    fn write(&mut self, register: Register, value: u8) {
        self.access(register, Some(value));
    }
    fn stall(&mut self, microseconds: u32) {
        assert!((1..=50).contains(&microseconds));
        self.now += u64::from(microseconds) * 1000;
    }
    fn is_interrupted(&mut self) -> bool {
        self.interrupted().is_err()
    }
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        self.interrupted()
    }
    fn sleep(&mut self, _: u32) -> Result<(), Interrupted> {
        panic!("too coarse")
    }
    fn now(&mut self) -> u64 {
        self.now / 1_000_000
    }
    fn has_ecp(&self) -> bool {
        true
    }
    fn has_epp(&self) -> bool {
        true
    }
}

impl TimedPort for Wire<'_> {
    fn nanoseconds(&mut self) -> u64 {
        self.now
    }
    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        self.interrupted()?;
        self.sleeps += 1;
        self.now += nanoseconds;
        Ok(())
    }
}

/// Parses, verifies and runs it.
///
/// # Panics
/// If an accepted program does what it may not, or not what a second reading of it says.
pub fn run(input: &Input) {
    let from_words = RunInput {
        atomic: input.atomic,
        code: &input.words,
        data: input.data,
    };
    let parsed = if input.whole {
        match RunRequest::parse(input.request, RunResult::SIZE) {
            Ok(parsed) => parsed.parts(input.request),
            Err(_) => return,
        }
    } else {
        from_words
    };
    let chip = Chip {
        direction: input.direction,
        epp: input.epp,
        access_ns: 1000,
    };
    let Ok(program) = verify(&parsed, input.room.into(), chip) else {
        return;
    };
    let cost = program.cost();
    assert!(cost.accesses <= MOST_ACCESSES.into() && cost.steps <= MOST_STEPS.into());
    assert!(cost.ns <= MOST_NS && cost.output + 32 <= input.room.into());
    assert_eq!(cost.data, parsed.data.len() as u64);
    if cost.accesses > LONGEST || cost.steps > LONGEST || cost.ns > 50_000_000 {
        return;
    }
    let mut wire = Wire {
        now: 0,
        accesses: Vec::new(),
        status: input.status.iter().cycle(),
        patience: input.patience,
        sleeps: 0,
    };
    let mut outputs = Outputs {
        data: 0,
        control: 0x0C,
    };
    let mut output = vec![0; usize::try_from(cost.output).unwrap()];
    let (result, _) = run_program(&mut wire, &program, &mut outputs, &mut output);
    let allowed = if input.direction { 0x2F } else { 0x0F };
    for access in &wire.accesses {
        match (access.offset, access.written) {
            (2, Some(value)) => assert_eq!(value & !allowed, 0),
            (1, Some(_)) => panic!("the status register is written"),
            (3 | 4, _) => assert!(input.epp),
            _ => {}
        }
    }
    assert!(!parsed.atomic || wire.sleeps == 0);
    assert!(u64::from(result.accesses) <= cost.accesses);
    assert!(u64::from(result.output) <= cost.output);
    let trace = check_program(
        (parsed.code.as_flattened(), parsed.data),
        0x0C,
        0,
        &wire.accesses,
        (ACCESS_NS, 2000),
    )
    .unwrap();
    assert_eq!(trace.output, output[..result.output as usize]);
    assert_eq!(trace.accesses, result.accesses);
    assert_eq!(trace.control, outputs.control);
    assert_eq!(trace.missed, u64::from(result.missed));
    if result.end != RunEnd::Cancelled {
        assert!(trace.end.is_some());
    }
}

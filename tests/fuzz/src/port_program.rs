//! Any port program, as a request brings it: it is refused, or it stays within what the verifier
//! said, and writes no bit that is not its own.

use std::{iter::Cycle, slice};

use arbitrary::Arbitrary;
use parscan_core::{
    ieee1284::{Outputs, run_program},
    ioctl::parallel::port_programs::{
        Chip, MOST_ACCESSES, MOST_NS, MOST_STEPS, RunEnd, RunInput, RunRequest, RunResult, verify,
    },
};
use parscan_models::check_program;

use super::recorder::{ACCESS_NS, BEGIN_NS, Recorder, Status};

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

const LONGEST: u64 = 20_000;

/// The input's bytes, over and over.
impl Status for Cycle<slice::Iter<'_, u8>> {
    fn at(&mut self, _: u64) -> u8 {
        self.next().copied().unwrap_or(0)
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
    let mut wire = Recorder::new(input.status.iter().cycle());
    if let Some(patience) = input.patience {
        wire.patience = u64::from(patience) + 1;
    }
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
        BEGIN_NS,
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

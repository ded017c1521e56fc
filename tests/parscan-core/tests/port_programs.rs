//! Port programs: the verifier, and the interpreter against a second reading of the same programs.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod cases;
mod generated;
mod recorder;

use cases::cases;
use generated::{AnyInstruction, Generated, Shape};
use parscan_core::{
    ieee1284::{Ended, Outputs, run_program},
    ioctl::parallel::port_programs::{
        Chip, EppRegister, Instruction, MOST_ACCESSES, MOST_NS, MOST_STEPS, Mistake, RunEnd,
        RunInput, RunResult, Time, WhatIsWrong, verify,
    },
};
use parscan_models::{ProgramTrace, check_program};
use proptest::prelude::*;
use recorder::{ACCESS_NS, BEGIN_NS, Recorder};

const CHIP: Chip = Chip {
    direction: true,
    epp: true,
    access_ns: ACCESS_NS as u32,
};

fn recorder() -> Recorder<Vec<(u64, u8)>> {
    Recorder::new(vec![(0, 0x58)])
}

fn code(instructions: &[Instruction]) -> Vec<[u8; 4]> {
    instructions.iter().map(|it| it.encode()).collect()
}

fn input<'a>(code: &'a [[u8; 4]], data: &'a [u8]) -> RunInput<'a> {
    RunInput {
        atomic: false,
        code,
        data,
    }
}

const ROOM: usize = 1 << 20;

fn mistake(instructions: &[Instruction], data: &[u8]) -> Mistake {
    let code = code(instructions);
    verify(&input(&code, data), ROOM, CHIP).unwrap_err()
}

struct Outcome {
    result: RunResult,
    ended: Ended,
    outputs: Outputs,
    bytes: Vec<u8>,
    port: Recorder<Vec<(u64, u8)>>,
}

/// Runs a program that the verifier accepts.
#[track_caller]
fn run_on(mut port: Recorder<Vec<(u64, u8)>>, input: &RunInput) -> Outcome {
    let program = verify(input, ROOM, CHIP).unwrap();
    let mut outputs = Outputs {
        data: 0,
        control: 0x0C,
    };
    let mut bytes = vec![0xEE; program.cost().output as usize];
    let (result, ended) = run_program(&mut port, &program, &mut outputs, &mut bytes);
    bytes.truncate(result.output as usize);
    Outcome {
        result,
        ended,
        outputs,
        bytes,
        port,
    }
}

#[track_caller]
fn run(instructions: &[Instruction], data: &[u8]) -> Outcome {
    let code = code(instructions);
    run_on(recorder(), &input(&code, data))
}

/// What the second reading says of the same program.
#[track_caller]
fn second(input: &RunInput, outcome: &Outcome, slack: u64) -> ProgramTrace {
    check_program(
        (input.code.as_flattened(), input.data),
        0x0C,
        BEGIN_NS,
        &outcome.port.accesses,
        (ACCESS_NS, slack),
    )
    .unwrap()
}

/// Both readings say the same.
#[track_caller]
fn assert_same(outcome: &Outcome, trace: &ProgramTrace) {
    let result = &outcome.result;
    assert_eq!(outcome.bytes, trace.output);
    assert_eq!(result.accesses, trace.accesses);
    assert_eq!(u64::from(result.missed), trace.missed);
    assert_eq!(outcome.outputs.control, trace.control);
    assert_eq!(outcome.outputs.data, trace.data.unwrap_or(0));
    assert_eq!(result.elapsed_ns, outcome.port.now - BEGIN_NS);
    match trace.end {
        // In a DELAY at its end, for one.
        _ if outcome.ended == Ended::Interrupted => {
            assert!(!matches!(trace.end, Some(Err(_))));
        }
        Some(Ok(())) => assert_eq!(result.end, RunEnd::Done),
        Some(Err(index)) => assert_eq!(
            (result.end, result.instruction as usize),
            (RunEnd::TimeOut, index)
        ),
        None => panic!("accesses are missing"),
    }
}

fn ns(ns: u64) -> Time {
    Time::from_ns(ns).unwrap()
}

use Instruction as I;

#[test]
fn a_trigger_is_three_instructions_and_two_accesses() {
    let outcome = run(&[I::Data(1), I::Delay(ns(10_000)), I::Data(0)], &[]);
    let edges: Vec<_> = outcome
        .port
        .accesses
        .iter()
        .map(|it| (it.end, it.offset, it.written))
        .collect();
    // High from the end of one access to the end of the other.
    assert_eq!(edges, [(8_000, 0, Some(1)), (18_000, 0, Some(0))]);
    assert_eq!(outcome.result.accesses, 2);
    assert_eq!(outcome.result.instruction, 3);
    assert_eq!(outcome.result.elapsed_ns, 11_000);
    assert_eq!(outcome.port.sleeps, 0);
}

#[test]
fn bits_that_are_not_for_programs_are_refused() {
    let bits = |instruction: I| mistake(&[I::Data(0), instruction], &[0]).what;
    for bit in [0x10, 0x40, 0x80] {
        assert_eq!(
            bits(I::Control {
                value: bit,
                mask: bit
            }),
            WhatIsWrong::Bits
        );
        assert_eq!(
            bits(I::Control {
                value: 0,
                mask: bit | 1
            }),
            WhatIsWrong::Bits
        );
        assert_eq!(bits(I::NextControl { mask: bit }), WhatIsWrong::Bits);
    }
    // A value outside its mask, and no mask.
    assert_eq!(bits(I::Control { value: 2, mask: 1 }), WhatIsWrong::Bits);
    assert_eq!(bits(I::Control { value: 0, mask: 0 }), WhatIsWrong::Bits);
    let spp = Chip {
        direction: false,
        epp: false,
        ..CHIP
    };
    for instruction in [
        I::Control {
            value: 0x20,
            mask: 0x20,
        },
        I::NextControl { mask: 0x21 },
        I::EppOut(EppRegister::Address, 1),
        I::EppIn(EppRegister::Data),
    ] {
        let code = code(&[instruction]);
        let refused = verify(&input(&code, &[]), ROOM, spp).unwrap_err();
        assert_eq!(refused.what, WhatIsWrong::Unsupported, "{instruction:?}");
    }
}

#[test]
fn what_runs_for_ever_is_refused() {
    let long = (1 << 24) - 1;
    let empty = [I::Loop(long), I::Loop(long), I::End, I::End];
    assert_eq!(mistake(&empty, &[]).what, WhatIsWrong::Steps);
    let nothing = [I::Loop(long), I::Delay(ns(0)), I::End];
    assert_eq!(mistake(&nothing, &[]).what, WhatIsWrong::Steps);
    let accesses = [I::Loop((1 << 20) + 1), I::Data(0), I::End];
    assert_eq!(mistake(&accesses, &[]).what, WhatIsWrong::Accesses);
    let slow = [I::Loop(8), I::Delay(ns(8_000_000_000)), I::End];
    assert_eq!(mistake(&slow, &[]).what, WhatIsWrong::Time);
    let waits = [
        I::Loop(8),
        I::Wait {
            mask: 0x80,
            value: 0,
            go_on: true,
        },
        I::Until(ns(8_000_000_000)),
        I::End,
    ];
    assert_eq!(mistake(&waits, &[]).what, WhatIsWrong::Time);
    // The pace that a loop leaves is the one with which it begins again.
    let paced = [I::Loop(9), I::Data(0), I::Pace(ns(8_000_000_000)), I::End];
    assert_eq!(mistake(&paced, &[]).what, WhatIsWrong::Time);
}

#[test]
fn structure_is_checked() {
    for (program, index, what) in [
        (&[I::End][..], 0, WhatIsWrong::Loop),
        (&[I::Loop(1)], 1, WhatIsWrong::Loop),
        (&[I::Loop(0), I::End], 0, WhatIsWrong::Loop),
        (&[I::Loop(1); 5], 4, WhatIsWrong::Loop),
        (&[I::Until(ns(1))], 0, WhatIsWrong::Until),
        (
            &[I::Wait {
                mask: 8,
                value: 0,
                go_on: false,
            }],
            1,
            WhatIsWrong::Until,
        ),
        (
            &[
                I::Wait {
                    mask: 8,
                    value: 0,
                    go_on: false,
                },
                I::End,
            ],
            1,
            WhatIsWrong::Until,
        ),
        (&[I::NextData], 1, WhatIsWrong::Data),
    ] {
        assert_eq!(
            mistake(program, &[]),
            Mistake {
                instruction: index,
                what
            }
        );
    }
    assert_eq!(mistake(&[I::Data(0)], &[1]).what, WhatIsWrong::Data);
    let code = code(&[I::Get(
        parscan_core::ioctl::parallel::port_programs::GetRegister::Data,
    )]);
    let refused = verify(&input(&code, &[]), 32, CHIP).unwrap_err();
    assert_eq!(refused.what, WhatIsWrong::Output);
    assert!(verify(&input(&code, &[]), 33, CHIP).is_ok());
    let unknown = [[14, 0, 0, 0]];
    let refused = verify(&input(&unknown, &[]), 32, CHIP).unwrap_err();
    assert_eq!(refused.what, WhatIsWrong::Unknown);
}

#[test]
fn what_is_atomic_is_short() {
    let fits = code(&[I::Data(1), I::Delay(ns(48_000)), I::Data(0)]);
    let long = code(&[I::Data(1), I::Delay(ns(48_001)), I::Data(0)]);
    let atomic = |code| {
        verify(
            &RunInput {
                atomic: true,
                code,
                data: &[],
            },
            ROOM,
            CHIP,
        )
    };
    assert!(atomic(&fits).is_ok());
    assert_eq!(atomic(&long).unwrap_err().what, WhatIsWrong::Time);
}

#[test]
fn a_grid_does_not_drift() {
    for hertz in [8_000, 22_050, 44_100_u64] {
        let interval = 1_000_000_000 / hertz;
        // A second of slots; Miri is slow.
        let slots = if cfg!(miri) { 40 } else { hertz };
        let data: Vec<u8> = (0..slots).map(|it| it as u8).collect();
        let code = code(&[
            I::Pace(ns(interval)),
            I::Loop(slots as u32),
            I::NextData,
            I::End,
        ]);
        let input = input(&code, &data);
        let outcome = run_on(recorder(), &input);
        assert_eq!(outcome.result.missed, 0);
        assert_eq!(u64::from(outcome.result.accesses), slots);
        for (slot, access) in (0..).zip(&outcome.port.accesses) {
            let due = BEGIN_NS + slot * interval;
            assert!(
                (due - 1000..due + 1000).contains(&access.start),
                "{hertz}: {slot}"
            );
            assert_eq!(access.written, Some(slot as u8));
        }
    }
}

#[test]
fn slots_that_are_over_are_counted_and_the_grid_stays() {
    // Slots are 2 ms apart, and the timer takes 3.1 ms too long.
    let code = code(&[I::Pace(ns(2_000_000)), I::Loop(4), I::Data(1), I::End]);
    let input = input(&code, &[]);
    let mut port = recorder();
    port.late = 3_100_000;
    let outcome = run_on(port, &input);
    let trace = second(&input, &outcome, 3_200_000);
    assert_same(&outcome, &trace);
    assert_eq!(outcome.result.missed, 3);
    for access in &outcome.port.accesses[1..] {
        let since = access.start - BEGIN_NS;
        assert!(since % 2_000_000 < 1_000_000 + 1000, "{since}");
    }
}

#[test]
fn a_wait_sees_the_line_or_its_time_is_over() {
    let wait = |time, go_on| {
        [
            I::Wait {
                mask: 0x40,
                value: 0,
                go_on,
            },
            I::Until(ns(time)),
            I::Data(9),
        ]
    };
    // nAck goes low after 20 us, for 5 us.
    let mut port = recorder();
    port.status = vec![(0, 0x58), (27_000, 0x18), (32_000, 0x58)];
    let program = code(&wait(1_000_000, false));
    let outcome = run_on(port, &input(&program, &[]));
    assert_eq!(outcome.result.end, RunEnd::Done);
    assert_eq!(outcome.port.accesses.last().unwrap().start, 28_000);
    assert_eq!(outcome.result.accesses, 2);
    // Never: the program ends, and nothing follows.
    let outcome = run(&wait(2_000_000_000, false), &[]);
    assert_eq!(outcome.result.end, RunEnd::TimeOut);
    assert_eq!((outcome.result.instruction, outcome.bytes.len()), (0, 0));
    assert!((2_000_000_000..2_000_010_000).contains(&outcome.result.elapsed_ns));
    assert!(outcome.port.sleeps > 1000, "it gives the processor away");
    // Or it goes on, and tells what it saw.
    let outcome = run(&wait(100_000, true), &[]);
    assert_eq!(outcome.result.end, RunEnd::Done);
    assert_eq!(outcome.bytes, [0x58]);
    assert_eq!(outcome.port.accesses.last().unwrap().written, Some(9));
}

#[test]
fn a_program_can_be_interrupted_before_every_instruction() {
    let program = code(&[
        I::Data(1),
        I::Control {
            value: 0x08,
            mask: 0x0A,
        },
        I::Delay(ns(300_000)),
        I::Data(2),
        I::Pace(ns(30_000)),
        I::Loop(3),
        I::Data(3),
        I::End,
        I::EppOut(EppRegister::Data, 4),
    ]);
    let input = input(&program, &[]);
    let mut seen = std::collections::BTreeSet::new();
    for patience in 1.. {
        let mut port = recorder();
        port.patience = patience;
        let outcome = run_on(port, &input);
        let trace = second(&input, &outcome, 1000);
        assert_same(&outcome, &trace);
        seen.insert(outcome.result.instruction);
        if outcome.ended == Ended::As(RunEnd::Done) {
            break;
        }
    }
    assert_eq!(seen, (0..=9).collect());
}

proptest! {
    #![proptest_config(cases(10_000, 4))]

    /// Thousands of programs, and what the second reading says of each.
    #[test]
    #[cfg_attr(miri, ignore = "one program may make a million accesses")]
    fn both_readings_agree(shape: Shape, patience in prop::option::of(1_u64..200), late in 0..3_u64) {
        let Generated { code, data } = shape.program();
        let input = input(&code, &data);
        let Ok(program) = verify(&input, ROOM, CHIP) else {
            return Err(TestCaseError::reject("too long"));
        };
        let mut port = recorder();
        port.status = shape.status();
        port.late = late * 700_000;
        port.patience = patience.unwrap_or(u64::MAX);
        let slack = 2_000 + port.late;
        let cost = program.cost();
        let outcome = run_on(port, &input);
        let trace = second(&input, &outcome, slack);
        assert_same(&outcome, &trace);
        prop_assert!(u64::from(outcome.result.accesses) <= cost.accesses);
        prop_assert!(u64::from(outcome.result.output) <= cost.output);
        if patience.is_none() && outcome.result.end == RunEnd::Done {
            prop_assert_eq!(u64::from(outcome.result.accesses), cost.accesses);
            prop_assert_eq!(u64::from(outcome.result.output), cost.output);
        }
        if late == 0 {
            // Each access may be a microsecond late for the steps of a stall, and no look of a WAIT
            // may be later than that.
            let most = cost.ns + 2_000 * cost.accesses + 1_000;
            prop_assert!(outcome.result.elapsed_ns <= most, "{} {most}", outcome.result.elapsed_ns);
        }
    }

    /// What is accepted is bounded, and writes nothing that it may not.
    #[test]
    fn accepted_is_bounded(words: Vec<AnyInstruction>, data in 0_usize..4, atomic: bool, room in 0_usize..64) {
        let code: Vec<[u8; 4]> = words.iter().map(|it| it.0).collect();
        let data = vec![0xFF; data];
        let input = RunInput { atomic, code: &code, data: &data };
        if let Ok(program) = verify(&input, room, CHIP) {
            let cost = program.cost();
            prop_assert!(cost.accesses <= u64::from(MOST_ACCESSES));
            prop_assert!(cost.ns <= MOST_NS);
            prop_assert!(cost.steps <= u64::from(MOST_STEPS));
            prop_assert!(cost.output + 32 <= room as u64);
            prop_assert_eq!(cost.data, data.len() as u64);
            if cost.accesses <= 10_000 && cost.steps <= 10_000 {
                let outcome = run_on(recorder(), &input);
                for access in &outcome.port.accesses {
                    if access.offset == 2 {
                        prop_assert_eq!(access.written.unwrap_or(0) & 0xD0, 0);
                    }
                    prop_assert!(access.offset != 1 || access.written.is_none());
                }
                if atomic {
                    prop_assert_eq!(outcome.port.sleeps, 0);
                }
            }
        }
    }
}

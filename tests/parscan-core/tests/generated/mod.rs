//! Programs by chance: such as a verifier may accept, and four bytes of any kind.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use parscan_core::ioctl::parallel::port_programs::{EppRegister, GetRegister, Instruction, Time};
use proptest::prelude::*;

/// A program that is mostly accepted.
#[derive(Clone, Debug)]
pub struct Shape {
    parts: Vec<Part>,
    data: Vec<u8>,
    status: Vec<(u64, u8)>,
}

#[derive(Clone, Debug)]
enum Part {
    One(Instruction),
    Wait(Instruction, Time),
    Loop(u32, Vec<Part>),
}

pub struct Generated {
    pub code: Vec<[u8; 4]>,
    pub data: Vec<u8>,
}

/// Whole microseconds, short ones mostly.
fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        6 => 0_u64..200,
        2 => 0_u64..3_000,
        1 => 0_u64..20_000,
    ]
    .prop_map(|us| Time::from_ns(us * 1000).unwrap())
}

fn epp() -> impl Strategy<Value = EppRegister> {
    prop_oneof![Just(EppRegister::Data), Just(EppRegister::Address)]
}

fn control_mask() -> impl Strategy<Value = u8> {
    (1_u8..0x20).prop_map(|bits| bits & 0x0F | (bits & 0x10) << 1)
}

fn part() -> impl Strategy<Value = Part> {
    let one = prop_oneof![
        4 => any::<u8>().prop_map(Instruction::Data),
        3 => (any::<u8>(), control_mask())
            .prop_map(|(value, mask)| Instruction::Control { value: value & mask, mask }),
        1 => Just(Instruction::Get(GetRegister::Data)),
        2 => Just(Instruction::Get(GetRegister::Status)),
        1 => Just(Instruction::Get(GetRegister::Control)),
        3 => Just(Instruction::NextData),
        2 => control_mask().prop_map(|mask| Instruction::NextControl { mask }),
        3 => time().prop_map(Instruction::Delay),
        2 => time().prop_map(Instruction::Pace),
        1 => (epp(), any::<u8>()).prop_map(|(register, value)| Instruction::EppOut(register, value)),
        1 => epp().prop_map(Instruction::EppIn),
    ]
    .prop_map(Part::One);
    let wait =
        (1_u8..0x20, any::<u8>(), any::<bool>(), time()).prop_map(|(mask, value, go_on, time)| {
            let mask = mask << 3;
            let value = value & mask;
            Part::Wait(Instruction::Wait { mask, value, go_on }, time)
        });
    prop_oneof![9 => one, 1 => wait].prop_recursive(4, 40, 6, |inner| {
        (1_u32..6, prop::collection::vec(inner, 0..6))
            .prop_map(|(times, body)| Part::Loop(times, body))
    })
}

impl Arbitrary for Shape {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let status = prop::collection::vec((0_u64..2_000, any::<u8>()), 0..8);
        (
            prop::collection::vec(part(), 1..20),
            prop::collection::vec(any::<u8>(), 1..8),
            status,
        )
            .prop_map(|(parts, data, changes)| {
                let mut now = 0;
                let mut status = vec![(0, 0x58)];
                for (later, value) in changes {
                    now += later * 1000;
                    status.push((now, value));
                }
                Self {
                    parts,
                    data,
                    status,
                }
            })
            .boxed()
    }
}

impl Shape {
    /// The program, with as much data as it takes.
    pub fn program(&self) -> Generated {
        let mut code = Vec::new();
        let mut taken = 0;
        emit(&self.parts, 1, &mut code, &mut taken);
        let data = self.data.iter().copied().cycle().take(taken).collect();
        Generated { code, data }
    }

    /// The status, by time in nanoseconds.
    pub fn status(&self) -> Vec<(u64, u8)> {
        self.status.clone()
    }
}

fn emit(parts: &[Part], times: usize, code: &mut Vec<[u8; 4]>, taken: &mut usize) {
    for part in parts {
        match part {
            Part::One(instruction) => {
                if matches!(
                    instruction,
                    Instruction::NextData | Instruction::NextControl { .. }
                ) {
                    *taken += times;
                }
                code.push(instruction.encode());
            }
            Part::Wait(wait, time) => {
                code.push(wait.encode());
                code.push(Instruction::Until(*time).encode());
            }
            Part::Loop(count, body) => {
                code.push(Instruction::Loop(*count).encode());
                emit(body, times * *count as usize, code, taken);
                code.push(Instruction::End.encode());
            }
        }
    }
}

/// Four bytes: an instruction, mostly, right or wrong.
#[derive(Clone, Copy, Debug)]
pub struct AnyInstruction(pub [u8; 4]);

impl Arbitrary for AnyInstruction {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            1 => any::<[u8; 4]>(),
            2 => (0_u8..15, any::<u8>()).prop_map(|(operation, a)| [operation, a, 0, 0]),
            2 => (1_u8..14, 0_u8..4).prop_map(|(operation, a)| [operation, a, 0, 0]),
            2 => (2_u8..14, 0_u8..16, 0_u8..48).prop_map(|(operation, a, b)| [operation, a, b, 0]),
            1 => (0_u8..=255, 0_u8..32).prop_map(|(value, mask)| [6, mask << 3, value & mask << 3, 1]),
            1 => (0_u8..200).prop_map(|ns| [7, ns, 0, 0]),
            1 => Just([11, 0, 0, 0]),
        ]
        .prop_map(Self)
        .boxed()
    }
}

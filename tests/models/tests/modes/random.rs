//! Accesses without any sense: no panic, and what can never be is not.

use std::{cell::RefCell, rc::Rc};

use parscan_models::{
    Condition, Ecp, Epp, Levels, Line, Misbehaviour, Nanos, Peripheral, Peripheral1284, Phase,
    PortDevice, Ps2, Spp, TimeoutClear, Width,
};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    Read(usize, u16, Width),
    Write(usize, u16, Width, u32),
    Give(Vec<u8>),
    Misbehave(Misbehaviour),
    MisbehaveAtByte(usize, Misbehaviour),
    MisbehaveAtEvent(u8, Misbehaviour),
    Behave,
    Advance,
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![
        8 => Just(Width::Byte),
        1 => Just(Width::Word),
        1 => Just(Width::Dword),
    ]
}

/// Mostly the registers that there are.
fn place() -> impl Strategy<Value = (usize, u16)> {
    prop_oneof![
        10 => (0usize..1, 0u16..3),
        2 => (0usize..1, 3u16..8),
        6 => (1usize..2, 0u16..3),
        1 => (0usize..3, any::<u16>()),
    ]
}

/// Mostly the values that hosts write.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => proptest::sample::select(&[0x04u32, 0x05, 0x06, 0x07, 0x0C, 0x0D, 0x0E, 0x08, 0x24,
            0x25, 0x26, 0x22, 0x20, 0x2C, 0x01][..]),
        4 => proptest::sample::select(&[0x14u32, 0x34, 0x54, 0x74, 0x94, 0xB4, 0xD4, 0xF4, 0x70,
            0x00, 0x10, 0x30, 0x40, 0x80][..]),
        2 => any::<u32>(),
    ]
}

fn misbehaviour() -> impl Strategy<Value = Misbehaviour> {
    prop_oneof![
        Just(Misbehaviour::NoNegotiation),
        (0..50_000_000u64).prop_map(Misbehaviour::Late),
        Just(Misbehaviour::Silent),
        Just(Misbehaviour::Dead),
        Just(Misbehaviour::WrongXFlag),
        Just(Misbehaviour::StallForward),
        Just(Misbehaviour::StallForwardForever),
        Just(Misbehaviour::StallReverse),
        Just(Misbehaviour::AckLow),
        any::<bool>().prop_map(Misbehaviour::WaitStuck),
        proptest::sample::select(
            &[
                Condition::Ready,
                Condition::OffLine,
                Condition::PaperEmpty,
                Condition::Unplugged,
                Condition::PoweredOff
            ][..]
        )
        .prop_map(Misbehaviour::Condition),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => (place(), width()).prop_map(|((block, offset), width)| Act::Read(block, offset, width)),
        60 => (place(), width(), value())
            .prop_map(|((block, offset), width, value)| Act::Write(block, offset, width, value)),
        2 => proptest::collection::vec(0u8..3, 0..20).prop_map(Act::Give),
        1 => misbehaviour().prop_map(Act::Misbehave),
        1 => (0usize..10, misbehaviour()).prop_map(|(n, m)| Act::MisbehaveAtByte(n, m)),
        1 => (0u8..80, misbehaviour()).prop_map(|(e, m)| Act::MisbehaveAtEvent(e, m)),
        2 => Just(Act::Behave),
        3 => Just(Act::Advance),
    ]
}

fn acts() -> impl Strategy<Value = Vec<(Nanos, Act)>> {
    let wait = prop_oneof![
        20 => 0u64..3_000,
        4 => 0u64..50_000_000,
        1 => 0u64..2_000_000_000,
    ];
    proptest::collection::vec((wait, act()), 0..200)
}

/// A chip whose lines can be looked at.
trait Chip: PortDevice {
    fn now(&mut self) -> Levels;
    fn check(&self) {}
}

macro_rules! chips {
    ($($chip:ty),*) => { $(impl Chip for $chip {
        fn now(&mut self) -> Levels {
            self.levels()
        }
    })* };
}
chips!(Spp, Ps2, Epp);

impl Chip for Ecp {
    fn now(&mut self) -> Levels {
        self.levels()
    }

    fn check(&self) {
        assert!(self.fifo_len() <= 16);
        assert_ne!(self.ecr() & 3, 3, "full and empty");
        if self.ecr() & 0xC0 == 0 {
            assert_eq!(self.fifo_len(), 0, "modes 000 and 001 keep nothing");
        }
    }
}

fn run(chip: &Rc<RefCell<dyn Chip>>, device: &Peripheral1284, acts: Vec<(Nanos, Act)>) {
    let mut now = 0;
    for (wait, act) in acts {
        now += wait;
        match act {
            Act::Read(block, offset, width) => {
                let answer = chip.borrow_mut().read(now, block, offset, width);
                assert_eq!(answer & !width.floating(), 0);
            }
            Act::Write(block, offset, width, value) => {
                chip.borrow_mut().write(now, block, offset, width, value);
            }
            Act::Give(bytes) => device.give(&bytes),
            Act::Misbehave(m) => device.misbehave(m),
            Act::MisbehaveAtByte(n, m) => device.misbehave_at_byte(n, m),
            Act::MisbehaveAtEvent(e, m) => device.misbehave_at_event(e, m),
            Act::Behave => {
                device.behave();
                device.set_condition(Condition::Ready);
            }
            Act::Advance => chip.borrow_mut().advance(now),
        }
        chip.borrow().check();
        if Peripheral::data(&mut device.clone(), now).is_some() {
            assert!(
                matches!(device.phase(), Phase::Byte | Phase::Epp | Phase::EcpReverse),
                "no other phase drives the data lines"
            );
            let active = chip.borrow_mut().now().get(Line::NSelectIn);
            assert!(
                active || device.phase() == Phase::Epp,
                "released with nSelectIn low"
            );
        }
        assert!(
            chip.borrow()
                .trace()
                .is_none_or(|trace| trace.end() >= now || wait == 0 || trace.end() <= now)
        );
    }
    // However it went, a device that is well comes to rest when the host does.
    device.behave();
    device.set_condition(Condition::Ready);
    let mut chip = chip.borrow_mut();
    let mut write = |after: Nanos, block, offset, value| {
        now += after;
        chip.write(now, block, offset, Width::Byte, value);
    };
    write(20_000, 1, 2, 0x34);
    for value in [0, 1] {
        write(20_000, 0, 1, value);
    }
    for (after, value) in [(20_000, 0x0C), (20_000, 0x08), (100_000, 0x0C)] {
        write(after, 0, 2, value);
    }
    now += 3_000_000_000;
    chip.advance(now);
    assert_eq!(chip.read(now, 0, 1, Width::Byte) & 0xF8, 0xD8);
    assert_eq!(device.phase(), Phase::Compatibility);
    let data = u32::from(chip.now().data());
    assert_eq!(
        chip.read(now, 0, 0, Width::Byte),
        data,
        "nothing else drives"
    );
    // And it works.
    chip.write(now + 1_000, 0, 0, Width::Byte, 0x41);
    chip.write(now + 2_000, 0, 2, Width::Byte, 0x0D);
    chip.write(now + 3_000, 0, 2, Width::Byte, 0x0C);
    assert_eq!(device.received().last(), Some(&0x41));
}

proptest! {
    #[test]
    fn any_host_meets_answers(
        acts in acts(),
        chip in 0..5,
        trace: bool,
        response in prop_oneof![Just(0u64), 0u64..40_000_000],
    ) {
        let device = Peripheral1284::new().with_response(response);
        let plug = Box::new(device.clone());
        let chip: Rc<RefCell<dyn Chip>> = match (chip, trace) {
            (0, _) => Rc::new(RefCell::new(Spp::new(plug))),
            (1, _) => Rc::new(RefCell::new(Ps2::new(plug).with_trace())),
            (2, true) => Rc::new(RefCell::new(Epp::new(plug).with_trace())),
            (2, false) => Rc::new(RefCell::new(
                Epp::new(plug).with_timeout_clear(TimeoutClear::WriteZero).with_timeout_blocking_spp())),
            (3, _) => Rc::new(RefCell::new(Ecp::new(plug).with_epp().with_cycle_time(400))),
            (_, true) => Rc::new(RefCell::new(Ecp::new(plug).with_trace())),
            (_, false) => Rc::new(RefCell::new(Ecp::new(plug).with_cnfg_a(0x90))),
        };
        run(&chip, &device, acts);
    }

    /// With and without a trace a chip and its device do the same.
    #[test]
    fn a_trace_changes_nothing(acts in acts(), response in prop_oneof![Just(0u64), 0u64..1_000_000]) {
        let answers = [false, true].map(|trace| {
            let device = Peripheral1284::new().with_response(response);
            let mut chip = Ecp::new(Box::new(device.clone())).with_epp();
            if trace {
                chip = chip.with_trace();
            }
            let mut now = 0;
            let mut answers = Vec::new();
            for (wait, act) in &acts {
                now += wait;
                match act {
                    Act::Read(block, offset, width) => {
                        answers.push(chip.read(now, *block, *offset, *width));
                    }
                    Act::Write(block, offset, width, value) => {
                        chip.write(now, *block, *offset, *width, *value);
                    }
                    Act::Advance => chip.advance(now),
                    _ => {}
                }
            }
            (answers, device.received(), device.violations(), chip.violations().to_vec())
        });
        prop_assert_eq!(&answers[0], &answers[1]);
    }
}

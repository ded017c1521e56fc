//! The daisy chain of IEEE 1284.3 against the models: devices get their addresses and are selected,
//! and nothing that is not in the chain sees a pulse of nStrobe.
// There is no unsafe code here; under Miri the tests of `session` are enough.
#![cfg(not(miri))]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod wire;

use std::{cell::Cell, rc::Rc};

use parscan_core::ieee1284::{
    Capabilities, DeviceId, Interrupted, Port, Register, Session, daisy, initialize,
};
use parscan_models::{
    Condition, DaisyChain, DaisyMisbehaviour, Ecp, Epp, HostLines, Line, Nanos, Peripheral,
    Peripheral1284, PeripheralLines, Printer, Ps2, Spp, Width,
};
use proptest::prelude::*;
use wire::{Chip, Wire, known};

const US: Nanos = 1_000;

/// What the documentation of the functions promises.
const ASSIGN_COST: (u64, Nanos) = (48, 200 * US);
const SELECT_COST: (u64, Nanos) = (32, 160 * US);
const NOBODY_COST: (u64, Nanos) = (10, 60 * US);

const CHIPS: [&str; 5] = ["spp", "ps2", "epp", "ecp", "ecp+epp"];

fn wire(chip: &str, peripheral: impl Peripheral + 'static) -> Wire {
    let device = Box::new(peripheral);
    let port: Box<dyn Chip> = match chip {
        "spp" => Box::new(Spp::new(device)),
        "ps2" => Box::new(Ps2::new(device)),
        "epp" => Box::new(Epp::new(device)),
        "ecp" => Box::new(Ecp::new(device)),
        _ => Box::new(Ecp::new(device).with_epp()),
    };
    Wire::new(port, chip.starts_with("ecp"))
}

fn spp(peripheral: impl Peripheral + 'static) -> Wire {
    Wire::new(Box::new(Spp::new(Box::new(peripheral)).with_trace()), false)
}

/// Runs an operation; it must cost no more than it says, and leave the port at rest.
#[track_caller]
fn within<T>(cost: (u64, Nanos), wire: &mut Wire, run: impl FnOnce(&mut Wire) -> T) -> T {
    let before = (wire.meter.accesses, wire.now, wire.meter.sleeps);
    let result = run(wire);
    let (accesses, time) = (wire.meter.accesses - before.0, wire.now - before.1);
    assert!(accesses <= cost.0, "{accesses} accesses");
    assert!(time <= cost.1, "{time} ns");
    assert_eq!(wire.meter.sleeps, before.2);
    assert!(wire.is_at_rest());
    assert_eq!(wire.chip.broken(), []);
    result
}

fn strobes(wire: &Wire) -> usize {
    wire.chip
        .trace()
        .unwrap()
        .edges(Line::NStrobe)
        .filter(|edge| !edge.level)
        .count()
}

fn device(model: u8) -> Peripheral1284 {
    let id = format!("\0\x1BMFG:Chain;MDL:Device {model};CLS:X;");
    Peripheral1284::new()
        .with_device_id(id.as_bytes())
        .with_reset_time(US)
}

/// `count` devices, and a printer at the end.
fn chain(count: u8) -> (DaisyChain<Printer>, Vec<Peripheral1284>, Printer) {
    let printer = Printer::new();
    let devices: Vec<_> = (0..count).map(device).collect();
    let chain = devices
        .iter()
        .cloned()
        .fold(DaisyChain::new(printer.clone()), DaisyChain::with_device);
    (chain, devices, printer)
}

#[test]
fn every_device_gets_its_address_and_two_are_counted() {
    for (count, name) in (0..=4_u8).flat_map(|count| CHIPS.map(|name| (count, name))) {
        let (chain, devices, printer) = chain(count);
        let mut wire = wire(name, chain.clone());
        known(&mut wire);
        // Again and again, as a driver does that is started a second time.
        for _ in 0..2 {
            let cost = if count == 0 { NOBODY_COST } else { ASSIGN_COST };
            let found = within(cost, &mut wire, daisy::assign);
            assert_eq!(found, count.min(2), "{name}, {count}");
        }
        let expected: Vec<u8> = if count == 0 {
            vec![]
        } else {
            std::iter::once(0x30).chain(0..count).collect()
        };
        assert_eq!(chain.commands(), expected.repeat(2), "{name}");
        let addresses: Vec<_> = (0..count).map(Some).collect();
        assert_eq!(chain.addresses(), addresses, "{name}");
        assert_eq!(chain.selected(), None, "{name}");
        assert_eq!(wire.chip.read(wire.now, 0, 0, Width::Byte), 0, "{name}");
        assert_eq!(chain.violations(), []);
        assert_eq!(printer.received(), []);
        assert_eq!(printer.violations(), []);
        for device in devices {
            assert_eq!(device.received(), []);
            assert_eq!(device.violations(), []);
        }
    }
}

#[test]
fn the_selected_device_has_the_port_for_itself() {
    for name in CHIPS {
        let (chain, devices, printer) = chain(4);
        let mut wire = wire(name, chain.clone());
        let capabilities = known(&mut wire);
        daisy::assign(&mut wire);
        for (address, device) in (0..).zip(&devices) {
            assert!(
                within(SELECT_COST, &mut wire, |wire| daisy::select(wire, address)),
                "{name}, {address}"
            );
            assert_eq!(chain.selected(), Some(address.into()), "{name}");
            let mut session = Session::new(capabilities);
            let mut id = [0; 64];
            let length = session.device_id(&mut wire, &mut id).unwrap();
            assert_eq!(
                DeviceId(&id[..length.stored]).get(DeviceId::MODEL),
                Some(format!("Device {address}").as_bytes()),
                "{name}"
            );
            // The bytes of a packet, too, are only bytes when each has its nStrobe.
            let bytes = [0xAA, 0x55, 0x00, 0xFF, 0x87, 0x78, 0x30, address];
            let sent = session.write(&mut wire, &bytes);
            assert_eq!((sent.bytes, sent.result), (bytes.len(), Ok(())), "{name}");
            session.terminate(&mut wire);
            assert_eq!(device.received(), bytes, "{name}, {address}");
            assert_eq!(chain.selected(), Some(address.into()), "{name}");
        }
        within(SELECT_COST, &mut wire, daisy::deselect_all);
        assert_eq!(chain.selected(), None, "{name}");
        let sent = Session::new(capabilities).write(&mut wire, b"end");
        assert_eq!((sent.bytes, sent.result), (3, Ok(())), "{name}");
        assert_eq!(printer.received(), b"end", "{name}");
        assert_eq!(chain.violations(), [], "{name}");
        assert_eq!(printer.violations(), [], "{name}");
        for device in devices {
            // Nothing of the others' has reached it.
            assert_eq!(device.received().len(), 8, "{name}");
            assert_eq!(device.violations(), [], "{name}");
            assert_eq!(device.resets(), 0, "{name}");
        }
    }
}

#[test]
fn the_printer_at_the_end_may_be_in_any_condition() {
    for condition in Condition::NAMED {
        let (chain, _, printer) = chain(2);
        printer.set_condition(condition);
        let mut wire = spp(chain.clone());
        assert_eq!(daisy::assign(&mut wire), 2, "{condition:?}");
        assert!(daisy::select(&mut wire, 1), "{condition:?}");
        assert!(
            initialize(&mut wire, &Capabilities::SPP)
                .unwrap()
                .is_ready()
        );
        daisy::deselect_all(&mut wire);
        assert_eq!(chain.selected(), None, "{condition:?}");
        assert_eq!(printer.received(), []);
        assert_eq!(printer.resets(), 0);
        assert_eq!(printer.violations(), []);
        assert_eq!(chain.violations(), []);
    }
}

#[test]
fn an_address_without_a_device_is_not_selected() {
    let (chain, ..) = chain(2);
    let mut wire = spp(chain.clone());
    assert_eq!(daisy::assign(&mut wire), 2);
    for address in [2, 3] {
        assert!(!daisy::select(&mut wire, address), "{address}");
        assert_eq!(chain.selected(), None);
    }
    let (accesses, commands) = (wire.meter.accesses, chain.commands());
    for address in [4, 5, 0x10, 0x80, 0xFF] {
        assert!(!daisy::select(&mut wire, address), "{address}");
    }
    assert_eq!(wire.meter.accesses, accesses);
    assert_eq!(chain.commands(), commands);
}

#[test]
fn another_selection_replaces_the_first() {
    let (chain, ..) = chain(3);
    let mut wire = spp(chain.clone());
    daisy::assign(&mut wire);
    for address in [0, 2, 1, 1, 0] {
        assert!(daisy::select(&mut wire, address));
        assert_eq!(chain.selected(), Some(address.into()));
    }
    // Which addresses there are is found out with no device selected.
    assert_eq!(daisy::assign(&mut wire), 2);
    assert_eq!(chain.selected(), None);
}

/// Everything that can be tried.
fn try_all(wire: &mut Wire) {
    within(ASSIGN_COST, wire, daisy::assign);
    within(SELECT_COST, wire, |wire| daisy::select(wire, 0));
    within(SELECT_COST, wire, daisy::deselect_all);
}

/// The five lines in every combination.
fn patterns() -> impl Iterator<Item = PeripheralLines> {
    (0..32).map(|lines| PeripheralLines::from_dsr(lines << 3))
}

#[test]
fn a_printer_never_sees_nstrobe() {
    for lines in patterns() {
        for name in CHIPS {
            let printer = Printer::new().with_condition(Condition::Other(lines));
            let mut wire = wire(name, printer.clone());
            known(&mut wire);
            assert_eq!(within(NOBODY_COST, &mut wire, daisy::assign), 0, "{name}");
            assert!(!within(NOBODY_COST, &mut wire, |w| daisy::select(w, 0)));
            within(NOBODY_COST, &mut wire, daisy::deselect_all);
            assert_eq!(printer.received(), [], "{name}");
        }
        let printer = Printer::new().with_condition(Condition::Other(lines));
        let mut wire = spp(printer.clone());
        try_all(&mut wire);
        assert_eq!(strobes(&wire), 0, "{lines:?}");
        assert_eq!(printer.received(), []);
        assert_eq!(printer.violations(), []);
    }
}

#[test]
fn a_printer_that_changes_meanwhile_never_sees_nstrobe() {
    for before in patterns() {
        for after in patterns() {
            for time in (0..80).step_by(4) {
                let printer = Printer::new().with_condition(Condition::Other(before));
                printer.set_condition_at(time * US, Condition::Other(after));
                let mut wire = spp(printer.clone());
                assert_eq!(daisy::assign(&mut wire), 0);
                assert_eq!(strobes(&wire), 0, "{before:?} {after:?} at {time} us");
                assert_eq!(printer.received(), []);
            }
        }
    }
}

#[test]
fn a_printer_at_work_never_sees_nstrobe() {
    for gap in 0..50 {
        let printer = Printer::new();
        let mut wire = spp(printer.clone());
        let capabilities = known(&mut wire);
        let sent = Session::new(capabilities).write(&mut wire, b"A");
        assert_eq!(sent.bytes, 1);
        wire.stall(gap);
        let before = strobes(&wire);
        try_all(&mut wire);
        assert_eq!(strobes(&wire), before);
        assert_eq!(printer.received(), b"A");
        assert_eq!(printer.violations(), []);
    }
}

/// A peripheral that counts the pulses of nStrobe which it is selected for.
#[derive(Clone)]
struct Watcher {
    lines: PeripheralLines,
    pulses: Rc<Cell<usize>>,
}

impl Watcher {
    fn new(lines: PeripheralLines) -> Self {
        Self {
            lines,
            pulses: Rc::default(),
        }
    }
}

impl Peripheral for Watcher {
    fn host_changed(&mut self, _: Nanos, host: HostLines) {
        if !host.n_strobe {
            self.pulses.set(self.pulses.get() + 1);
        }
    }
    fn lines(&mut self, _: Nanos) -> PeripheralLines {
        self.lines
    }
}

#[test]
fn devices_that_answer_wrongly_get_no_address() {
    for number in 0..3 {
        for lines in patterns() {
            let end = Watcher::new(Condition::Ready.lines());
            let chain = DaisyChain::new(end.clone()).with_device(device(0));
            chain.misbehave(0, DaisyMisbehaviour::WrongAnswer(number, lines));
            let mut wire = spp(chain.clone());
            let found = within(ASSIGN_COST, &mut wire, daisy::assign);
            // nAck may be anything, Busy of the third answer tells the last one, and nFault then
            // whether it is selected, which none may be now.
            let right: &[u8] = match number {
                0 => &[0xB8, 0xF8],
                1 => &[0x18, 0x58],
                _ => &[0x38, 0x78, 0xB8, 0xF8],
            };
            let right = right.contains(&lines.to_dsr());
            assert_eq!(found > 0, right, "answer {number}: {lines:?}");
            assert_eq!(chain.addresses(), [right.then_some(0)]);
            try_all(&mut wire);
            assert_eq!(end.pulses.get(), 0, "answer {number}: {lines:?}");
            assert_eq!(chain.violations(), []);
        }
    }
}

#[test]
fn devices_that_fall_silent_get_no_address() {
    for count in 0..3 {
        for lines in patterns() {
            let end = Watcher::new(lines);
            let chain = DaisyChain::new(end.clone()).with_device(device(0));
            chain.misbehave(0, DaisyMisbehaviour::Answers(count));
            let mut wire = spp(chain.clone());
            try_all(&mut wire);
            assert_eq!(end.pulses.get(), 0, "after {count}: {lines:?}");
            assert_eq!(chain.violations(), []);
            let mistaken = count == 2 && lines.p_error && lines.select;
            assert!(mistaken || chain.commands().is_empty(), "{lines:?}");
        }
    }
}

#[test]
fn a_deaf_device_is_a_cable() {
    let (chain, devices, printer) = chain(3);
    chain.misbehave(1, DaisyMisbehaviour::Answers(0));
    let mut wire = spp(chain.clone());
    assert_eq!(daisy::assign(&mut wire), 2);
    assert_eq!(chain.addresses(), [Some(0), None, Some(1)]);
    assert!(daisy::select(&mut wire, 1));
    assert_eq!(chain.selected(), Some(2));
    assert_eq!(printer.received(), []);
    assert_eq!(devices[1].received(), []);
}

#[test]
fn a_printer_behind_a_device_that_does_not_know_it_is_the_last_gets_no_address() {
    for lines in patterns() {
        let end = Watcher::new(lines);
        let chain = DaisyChain::new(end.clone()).with_device(device(0));
        chain.misbehave(0, DaisyMisbehaviour::NeverLast);
        let mut wire = spp(chain.clone());
        let found = within(ASSIGN_COST, &mut wire, daisy::assign);
        // An empty connector looks like one more device that is not selected.
        let empty = lines.p_error && lines.select && lines.n_fault;
        assert_eq!(found, if empty { 2 } else { 1 }, "{lines:?}");
        assert_eq!(chain.addresses(), [Some(0)]);
        assert!(empty || end.pulses.get() == 0, "{lines:?}");
    }
    for condition in [
        Condition::Ready,
        Condition::PaperEmpty,
        Condition::Unplugged,
    ] {
        let (chain, _, printer) = chain(1);
        chain.misbehave(0, DaisyMisbehaviour::NeverLast);
        printer.set_condition(condition);
        daisy::assign(&mut spp(chain));
        assert_eq!(printer.received(), [], "{condition:?}");
    }
}

#[test]
fn a_device_that_does_not_take_the_selection_is_not_selected() {
    let (chain, ..) = chain(2);
    chain.misbehave(1, DaisyMisbehaviour::NeverSelected);
    let mut wire = spp(chain.clone());
    assert_eq!(daisy::assign(&mut wire), 2);
    assert!(daisy::select(&mut wire, 0));
    assert!(!daisy::select(&mut wire, 1));
    assert_eq!(chain.selected(), None);
}

/// A port whose status register reads what is given, then 0xFF.
struct Script {
    reads: std::vec::IntoIter<u8>,
    seen: Vec<u8>,
    data: u8,
    dcr: u8,
    accesses: usize,
}

impl Port for Script {
    fn read(&mut self, register: Register) -> u8 {
        assert_eq!(register, Register::Dsr);
        self.accesses += 1;
        let dsr = self.reads.next().unwrap_or(0xFF);
        self.seen.push(dsr & 0xB8);
        dsr
    }
    fn write(&mut self, register: Register, value: u8) {
        self.accesses += 1;
        match register {
            Register::Data => {
                assert_eq!(self.dcr & 0x01, 0, "nStrobe high");
                if value == 0xAA {
                    self.seen.clear();
                }
                self.data = value;
            }
            Register::Dcr => {
                self.dcr = value;
                assert_eq!(value & !0x01, 0x0C);
                if value & 0x01 != 0 {
                    // The three answers.
                    assert_eq!(self.seen.first(), Some(&0xB8));
                    assert_eq!(self.seen.get(1), Some(&0x18));
                    assert!(self.seen.get(2).is_some_and(|third| third & 0x30 == 0x30));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    fn stall(&mut self, microseconds: u32) {
        assert!(microseconds <= 50);
    }
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        panic!("must not wait")
    }
    fn sleep(&mut self, _: u32) -> Result<(), Interrupted> {
        panic!("must not wait")
    }
    fn now(&mut self) -> u64 {
        panic!("must not wait")
    }
    fn has_ecp(&self) -> bool {
        true
    }
    fn has_epp(&self) -> bool {
        true
    }
}

proptest! {
    /// Answers that are right more often than by chance.
    #[test]
    fn nstrobe_falls_after_three_answers_only(
        reads in proptest::collection::vec(
            prop_oneof![Just(0xF8), Just(0x58), Just(0xF0), Just(0x78), Just(0x30), any::<u8>()],
            0..40,
        ),
        address in any::<u8>(),
    ) {
        let mut port = Script {
            reads: reads.into_iter(),
            seen: vec![],
            data: 0,
            dcr: 0x0C,
            accesses: 0,
        };
        prop_assert!(daisy::assign(&mut port) <= 2);
        prop_assert!(port.accesses <= ASSIGN_COST.0 as usize);
        port.accesses = 0;
        daisy::select(&mut port, address);
        prop_assert!(port.accesses <= SELECT_COST.0 as usize);
        daisy::deselect_all(&mut port);
        prop_assert_eq!((port.data, port.dcr), (0, 0x0C));
    }
}

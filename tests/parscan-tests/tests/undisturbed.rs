//! What hangs on a port is left alone: a recorder on the connector sees every edge of the host's
//! lines, and there is none that no request asked for.

use std::{cell::RefCell, rc::Rc};

use ntsim::{NtStatus, RegValue, Resource};
use parscan_models::{
    Condition, Ecp, Epp, HostLines, Levels, Line, Nanos, Peripheral, Peripheral1284,
    PeripheralLines, PortDevice, Ps2, Spp, Width,
};
use parscan_tests::{
    MS, Pc, Setup, check,
    modes::{AnyChip, BoxedChip, Chip, Failures},
    ntddpar::{
        IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_QUERY_DEVICE_ID,
        IOCTL_PAR_QUERY_INFORMATION, modes,
    },
};

/// What a recorder saw of the host's lines: when, and how they were then.
type Record = Rc<RefCell<Vec<(Nanos, HostLines)>>>;

/// A recorder, in front of a peripheral.
struct Recorder<P> {
    record: Record,
    peripheral: P,
}

impl<P: Peripheral> Peripheral for Recorder<P> {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.record.borrow_mut().push((now, host));
        self.peripheral.host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        self.peripheral.lines(now)
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        self.peripheral.data(now)
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.peripheral.next_change(now)
    }
}

/// A chip that a program of another system has used before: DATA holds something.
fn chip(kind: Chip, record: &Record, device: &Peripheral1284) -> Box<dyn AnyChip> {
    let recorder = Box::new(Recorder {
        record: record.clone(),
        peripheral: device.clone(),
    });
    let mut chip: Box<dyn AnyChip> = match kind {
        Chip::Spp => Box::new(Spp::new(recorder).without_trace()),
        Chip::Ps2 => Box::new(Ps2::new(recorder)),
        Chip::Epp => Box::new(Epp::new(recorder)),
        Chip::Ecp => Box::new(Ecp::new(recorder)),
        Chip::EcpEpp => Box::new(Ecp::new(recorder).with_epp()),
    };
    chip.write(1, 0, 0, Width::Byte, 0xA5);
    record.borrow_mut().clear();
    chip
}

type Bench = (Pc<BoxedChip, Peripheral1284>, Record);

fn bench(kind: Chip, device: &Peripheral1284, probe: Option<u32>) -> Bench {
    let record = Record::default();
    let chip = BoxedChip::from(chip(kind, &record, device));
    let mut setup = Setup {
        hardware_key: probe
            .map(|probe| ("ParscanProbe".into(), RegValue::Dword(probe)))
            .into_iter()
            .collect(),
        ..Setup::default()
    };
    if matches!(kind, Chip::Ecp | Chip::EcpEpp) {
        setup.ecp = true;
        setup.resources.push(Resource::Port {
            base: 0x778,
            len: 3,
        });
    }
    (setup.started_with(chip, device.clone()), record)
}

/// Three looks at the hardware, and a night.
fn live(pc: &Pc<BoxedChip, Peripheral1284>) {
    for _ in 0..3 {
        check(pc.machine.enumerate(pc.node));
        check(pc.machine.run_until_idle());
    }
    check(pc.machine.sleep());
    check(pc.machine.wake());
    check(pc.machine.run_until_idle());
    check(pc.machine.enumerate(pc.node));
    check(pc.machine.run_until_idle());
}

fn children(pc: &Pc<BoxedChip, Peripheral1284>) -> usize {
    pc.machine.children(pc.node).len()
}

#[test]
fn with_probe_0_no_line_moves_whoever_is_there() {
    let mut failures = Failures::default();
    for kind in Chip::ALL {
        for condition in conditions() {
            let device = Peripheral1284::new().with_condition(condition);
            let (pc, record) = bench(kind, &device, Some(0));
            live(&pc);
            let what = format!("{kind:?}, {condition:?}");
            let edges = record.borrow().clone();
            failures.expect(edges.is_empty(), || format!("{what}: {edges:?}"));
            failures.expect(children(&pc) == 1, || format!("{what}: children"));
            pc.remove();
        }
    }
    failures.end();
}

/// Those in which a device is not asked.
const SILENT: [Condition; 6] = [
    Condition::PaperEmpty,
    Condition::OffLine,
    Condition::PoweredOff,
    Condition::Fault,
    Condition::Unplugged,
    Condition::Other(PeripheralLines::from_dsr(0xF8)),
];

fn conditions() -> impl Iterator<Item = Condition> {
    [Condition::Ready, Condition::Busy]
        .into_iter()
        .chain(SILENT)
}

#[test]
fn nobody_at_rest_is_asked_and_no_line_moves() {
    let mut failures = Failures::default();
    for kind in Chip::ALL {
        for condition in SILENT {
            let device = Peripheral1284::new().with_condition(condition);
            let (pc, record) = bench(kind, &device, None);
            live(&pc);
            let lpt1 = pc.open();
            // These ask, too.
            let id = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 256);
            let caps = pc.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, &[0, 0], 2);
            let state = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
            let what = format!("{kind:?}, {condition:?}");
            failures.expect(id.status == NtStatus::IO_DEVICE_ERROR, || {
                format!("{what}: ID {}", id.status)
            });
            failures.expect(
                caps.status == NtStatus::SUCCESS
                    && caps.output == (modes::CENTRONICS | modes::IEEE_COMPATIBILITY).to_le_bytes(),
                || format!("{what}: {caps:?}"),
            );
            failures.expect(state.status == NtStatus::SUCCESS, || {
                format!("{what}: {}", state.status)
            });
            check(pc.machine.close(lpt1));
            let edges = record.borrow().clone();
            failures.expect(edges.is_empty(), || format!("{what}: {edges:?}"));
            pc.remove();
        }
    }
    failures.end();
}

#[test]
fn who_was_asked_finds_every_line_as_it_was() {
    let mut failures = Failures::default();
    for kind in Chip::ALL {
        for condition in [Condition::Ready, Condition::Busy] {
            let device = Peripheral1284::new()
                .with_condition(condition)
                .with_reset_at_epp_exit();
            let (pc, record) = bench(kind, &device, None);
            live(&pc);
            let what = format!("{kind:?}, {condition:?}");
            failures.expect(children(&pc) == 2, || format!("{what}: children"));
            let lpt1 = pc.open();
            let id = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 256);
            let caps = pc.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, &[0, 0], 2);
            failures.expect(id.status == NtStatus::SUCCESS, || {
                format!("{what}: {}", id.status)
            });
            failures.expect(caps.status == NtStatus::SUCCESS, || {
                format!("{what}: {}", caps.status)
            });
            check(pc.machine.close(lpt1));
            let (now, last) = *record.borrow().last().expect("it was asked");
            let was = HostLines {
                data: 0xA5,
                ..HostLines::IDLE
            };
            failures.expect(last == was, || format!("{what}: at {now} {last:?}"));
            let resets = record
                .borrow()
                .iter()
                .filter(|(_, host)| !host.n_init)
                .count();
            failures.expect(resets == 0, || format!("{what}: {resets} times nInit low"));
            failures.expect(device.received().is_empty(), || format!("{what}: bytes"));
            failures.expect(device.violations().is_empty(), || {
                format!("{what}: {:?}", device.violations())
            });
            pc.remove();
        }
    }
    failures.end();
}

/// A printer that cannot be asked keeps its device; it goes when no device is there, twice in a row.
#[test]
fn a_known_device_stays_until_the_second_miss() {
    let device = Peripheral1284::new();
    let (pc, _) = bench(Chip::Spp, &device, None);
    let look = || {
        check(pc.machine.enumerate(pc.node));
        check(pc.machine.run_until_idle());
        children(&pc)
    };
    assert_eq!(look(), 2);
    for condition in conditions() {
        device.set_condition(condition);
        let stays = if matches!(condition, Condition::Unplugged | Condition::Other(_)) {
            [2, 1, 1]
        } else {
            [2; 3]
        };
        for (n, expected) in stays.into_iter().enumerate() {
            assert_eq!(look(), expected, "{condition:?}, look {n}");
        }
        device.set_condition(Condition::Ready);
        assert_eq!(look(), 2, "{condition:?}");
    }
    // A miss, and then it is there: that was no second one.
    for _ in 0..3 {
        device.set_condition(Condition::Unplugged);
        assert_eq!(look(), 2);
        device.set_condition(Condition::Ready);
        assert_eq!(look(), 2);
    }
    pc.remove();
}

/// Power takes what the chip held; it is set up as it was, and nothing else moves.
#[test]
fn after_a_night_the_lines_are_as_they_were() {
    let device = Peripheral1284::new().with_condition(Condition::Unplugged);
    let (pc, record) = bench(Chip::EcpEpp, &device, None);
    check(pc.machine.sleep());
    // The chip comes back as from reset.
    let now = pc.machine.now();
    pc.chip.borrow_mut().write(now, 0, 0, Width::Byte, 0);
    pc.chip.borrow_mut().write(now, 0, 2, Width::Byte, 0x00);
    record.borrow_mut().clear();
    check(pc.machine.wake());
    check(pc.machine.run_until_idle());
    let expected = [
        HostLines {
            data: 0xA5,
            n_init: false,
            n_select_in: true,
            ..HostLines::IDLE
        },
        HostLines {
            data: 0xA5,
            ..HostLines::IDLE
        },
    ];
    let seen: Vec<_> = record.borrow().iter().map(|(_, host)| *host).collect();
    assert_eq!(seen, expected);
    pc.remove();
}

/// EPP stays connected between the requests of one open: nInit, which resets many devices, is low
/// only at the end, once.
#[test]
fn epp_keeps_its_state_between_requests() {
    for kind in [Chip::Epp, Chip::EcpEpp] {
        for mode in [modes::EPP_HW, modes::EPP_SW] {
            let device = Peripheral1284::new().with_reset_at_epp_exit();
            let (pc, record) = bench(kind, &device, None);
            let lpt1 = pc.open();
            record.borrow_mut().clear();
            let both = modes::mask(mode, mode);
            let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &both, 4);
            assert_eq!(chosen.status, NtStatus::SUCCESS, "{kind:?} {mode:#06x}");
            assert_eq!(chosen.output, both, "{kind:?} {mode:#06x}");
            device.give(b"reply");
            for part in [&b"first"[..], b"second"] {
                let result = check(pc.machine.write(lpt1, part));
                assert_eq!(result.status, NtStatus::SUCCESS, "{kind:?} {mode:#06x}");
            }
            let reply = check(pc.machine.read(lpt1, 5));
            assert_eq!(reply.output, b"reply", "{kind:?} {mode:#06x}");
            // Another look at the hardware does not end it, either.
            check(pc.machine.enumerate(pc.node));
            check(pc.machine.run_until_idle());
            assert_eq!(children(&pc), 2);
            let lows = |record: &Record| {
                let record = record.borrow();
                let all = record.windows(2);
                all.filter(|pair| pair[0].1.n_init && !pair[1].1.n_init)
                    .count()
            };
            assert_eq!(lows(&record), 0, "{kind:?} {mode:#06x}");
            assert_eq!(device.received(), b"firstsecond");
            check(pc.machine.close(lpt1));
            assert_eq!(lows(&record), 1, "{kind:?} {mode:#06x}");
            let last = record.borrow().last().map(|(_, host)| *host);
            assert_eq!(
                last.map(|host| (host.n_select_in, host.n_init)),
                Some((false, true))
            );
            check(pc.machine.run_for(2000 * MS));
            pc.remove();
        }
    }
}

/// Who looks, sees what is there: levels at power-on are those that firmware left.
#[test]
fn the_recorder_records() {
    let device = Peripheral1284::new();
    let record = Record::default();
    let mut chip = chip(Chip::Ps2, &record, &device);
    chip.write(2, 0, 2, Width::Byte, 0x0D);
    chip.write(3, 0, 2, Width::Byte, 0x2C);
    assert_eq!(record.borrow().len(), 2);
    let levels: Levels = chip.levels();
    assert!(levels.get(Line::NStrobe));
}

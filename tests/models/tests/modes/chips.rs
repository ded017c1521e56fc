//! What the chips show to a detection, and their EPP cycles.

use std::{cell::RefCell, rc::Rc};

use parscan_models::{
    Channel, ChipViolationKind, Ecp, Epp, EppVersion, Line, Misbehaviour, Peripheral1284,
    PortDevice, Printer, Ps2, Spp, TimeoutClear, Unconnected, ViolationKind, Width, extensibility,
};
use proptest::prelude::*;

use crate::host::{EPP, Host, Missing, Shared};

/// What a detection finds.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a list of findings")]
struct Found {
    spp: bool,
    ecr: bool,
    ps2: bool,
    epp: bool,
    fifo: usize,
    write_threshold: usize,
    read_threshold: usize,
    word: u8,
}

/// Clears the time-out bit in all the ways that there are.
fn clear_timeout(host: &mut Host) -> bool {
    if host.dsr() & 1 == 0 {
        return true;
    }
    host.dsr();
    let dsr = host.dsr();
    for value in [dsr | 1, dsr & 0xFE] {
        host.output(0, 1, Width::Byte, value.into());
    }
    host.dsr() & 1 == 0
}

/// After how many of these, up to `depth`, the FIFO asks for service; 0: never.
fn threshold(host: &mut Host, depth: usize, touch: impl Fn(&mut Host)) -> usize {
    let mut counts = 1..=depth;
    let count = counts.find(|_| {
        touch(host);
        host.read_ecr() & 0x04 != 0
    });
    count.unwrap_or(0)
}

fn detect(host: &mut Host) -> Found {
    let mut found = Found::default();
    let read_dcr = |host: &mut Host| host.input(0, 2, Width::Byte) as u8;
    clear_timeout(host);
    found.spp = [0x0C, 0x0E].iter().all(|value| {
        host.dcr(*value);
        read_dcr(host) & 0x0F == *value
    }) || [0xAA, 0x55].iter().all(|value| {
        host.data(*value);
        host.read_data() == *value
    });
    host.dcr(0x0C);

    let ecr = host.read_ecr();
    let mut mirror = false;
    if ecr & 0x03 == read_dcr(host) & 0x03 {
        host.dcr(0x0E);
        mirror = host.read_ecr() & 0x02 == read_dcr(host) & 0x02;
        host.dcr(0x0C);
    }
    if !mirror && host.read_ecr() & 0x03 == 0x01 {
        host.ecr(0x34);
        found.ecr = host.read_ecr() == 0x35;
    }
    if mirror {
        host.dcr(0x0C);
    }

    host.dcr(0x2C);
    for value in [0x55, 0xAA] {
        host.data(value);
        found.ps2 |= host.read_data() != value;
    }
    host.dcr(0x0C);

    if found.ecr {
        host.dcr(0x04);
        host.ecr(0x94);
        found.epp = clear_timeout(host);
        for ecr in [0x14, 0x34, 0x14, 0x54, 0x14, 0x74, 0x14] {
            host.ecr(ecr);
            found.epp &= !clear_timeout(host);
        }
        host.dcr(0x0C);

        host.ecr(0xD4);
        while found.fifo < 1024 && host.read_ecr() & 0x02 == 0 {
            host.fifo(0xAA);
            found.fifo += 1;
        }
        host.ecr(0xD0);
        found.write_threshold = threshold(host, found.fifo, |host| {
            host.read_fifo();
        });
        host.ecr(0x34);
        host.dcr(0x2C);
        host.ecr(0xD0);
        found.read_threshold = threshold(host, found.fifo, |host| host.fifo(0xAA));
        host.ecr(0x34);
        host.dcr(0x0C);
        host.ecr(0xF4);
        found.word = host.read_fifo() >> 4 & 0x07;
        host.ecr(0x14);
    } else {
        found.epp = clear_timeout(host);
    }
    host.data(0);
    found
}

#[test]
fn a_detection_finds_what_is_there() {
    let spp = Found {
        spp: true,
        ..Found::default()
    };
    let ps2 = Found {
        spp: true,
        ps2: true,
        ..Found::default()
    };
    let epp = Found {
        spp: true,
        ps2: true,
        epp: true,
        ..Found::default()
    };
    let ecp = || Found {
        spp: true,
        ecr: true,
        ps2: true,
        fifo: 16,
        write_threshold: 8,
        read_threshold: 8,
        word: 1,
        ..Found::default()
    };
    let port = || Box::new(Unconnected);
    let cases: Vec<(&str, Host, Found)> = vec![
        ("spp", Host::new(Spp::new(port())), spp),
        (
            "spp, aliased",
            Host::new(Spp::new(port()).with_aliased_ecp_block()),
            Found {
                spp: true,
                ..Found::default()
            },
        ),
        (
            "spp, no read back of DCR",
            Host::new(Spp::new(port()).with_write_only_dcr()),
            Found {
                spp: true,
                ..Found::default()
            },
        ),
        (
            "no read back at all",
            Host::new(
                Spp::new(port())
                    .with_write_only_dcr()
                    .with_write_only_data(),
            ),
            Found {
                ps2: true, // DATA reads something else, which is all that the test asks
                ..Found::default()
            },
        ),
        ("ps2", Host::new(Ps2::new(port())), ps2),
        (
            "ps2, aliased",
            Host::new(Ps2::new(port()).with_aliased_ecp_block()),
            Found {
                spp: true,
                ps2: true,
                ..Found::default()
            },
        ),
        ("epp", Host::new(Epp::new(port())), epp),
        ("ecp", Host::new(Ecp::new(port())), ecp()),
        (
            "ecp+epp",
            Host::new(Ecp::new(port()).with_epp()),
            Found { epp: true, ..ecp() },
        ),
        (
            "phony epp",
            Host::new(Ecp::new(port()).with_phony_epp()),
            ecp(),
        ),
        (
            "another fifo",
            Host::new(
                Ecp::new(port())
                    .with_fifo_depth(64)
                    .with_thresholds(10, 20)
                    .with_cnfg_a(0xA4),
            ),
            Found {
                fifo: 64,
                write_threshold: 20,
                read_threshold: 10,
                word: 2,
                ..ecp()
            },
        ),
    ];
    for (name, mut host, expected) in cases {
        assert_eq!(detect(&mut host), expected, "{name}");
    }
}

#[test]
fn a_detection_disturbs_no_device_and_breaks_no_rule() {
    let chip = Rc::new(RefCell::new(Ecp::new(Box::new(Printer::new())).with_epp()));
    detect(&mut Host::shared(chip.clone()));
    assert_eq!(chip.borrow().violations(), []);
    let device = Peripheral1284::new();
    detect(&mut Host::new(
        Ecp::new(Box::new(device.clone())).with_epp(),
    ));
    assert_eq!(device.violations(), []);
    assert_eq!(device.received(), []);
    assert_eq!(device.resets(), 0);
}

#[test]
fn the_drivers_of_a_ps2_port_turn_off() {
    let mut host = Host::new(Ps2::new(Box::new(Unconnected)));
    host.data(0x5A);
    assert_eq!(host.read_data(), 0x5A);
    host.dcr(0x2C);
    assert_eq!(host.read_data(), 0xFF);
    host.data(0xA5);
    assert_eq!(host.read_data(), 0xFF);
    host.dcr(0x0C);
    assert_eq!(host.read_data(), 0xA5);

    let mut host = Host::new(Ps2::new(Box::new(Unconnected)).with_write_only_data());
    host.data(0x5A);
    assert_eq!(host.read_data(), 0xFF);

    // Both drive: a low line wins.
    let device = Peripheral1284::new();
    device.give(&[0x0F]);
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.enter(extensibility::BYTE).unwrap();
    host.data(0x55);
    host.dcr(0x06);
    assert_eq!(host.read_data(), 0x05);
    assert_eq!(device.violations()[0].kind, ViolationKind::BusConflict);
}

#[test]
fn hardware_epp_moves_a_byte_for_every_byte_of_an_access() {
    for (chip, make) in EPP {
        let device = Peripheral1284::new();
        let mut host = make(&device);
        host.enter(extensibility::EPP).unwrap();
        host.output(0, 3, Width::Byte, 0x07);
        host.output(0, 4, Width::Byte, 0x11);
        host.output(0, 4, Width::Word, 0x3322);
        host.output(0, 4, Width::Dword, 0x7766_5544);
        let sent = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        assert_eq!(device.received_on(Channel::Epp(7)), sent, "{chip}");
        assert_eq!(host.input(0, 3, Width::Byte), 0x07);
        device.give(&sent);
        assert_eq!(host.input(0, 4, Width::Dword), 0x4433_2211, "{chip}");
        assert_eq!(host.input(0, 4, Width::Word), 0x6655);
        assert_eq!(host.input(0, 6, Width::Byte), 0x77);
        assert_eq!(host.dsr() & 0x01, 0);
        assert_eq!(host.read_data(), 0x40, "the drivers are on again");
        host.leave_epp();
        assert_eq!(device.violations(), [], "{chip}");
    }
}

#[test]
fn an_epp_cycle_looks_like_the_standard_s() {
    let device = Peripheral1284::new().with_response(1_000);
    let chip = Rc::new(RefCell::new(
        Epp::new(Box::new(device.clone()))
            .with_trace()
            .with_cycle_time(400),
    ));
    let mut host = Host::shared(chip.clone());
    host.enter(extensibility::EPP).unwrap();
    chip.borrow_mut().restart_trace();
    let start = host.now + 1_000;
    host.output(0, 4, Width::Byte, 0xA5);
    host.sleep(10_000);
    let chip = chip.borrow();
    let trace = chip.trace().unwrap();
    let pulse = |line, level| {
        let pulses = trace.pulses(line, level);
        assert_eq!(pulses.len(), 1, "{line}");
        (
            pulses[0].start - start,
            pulses[0].start - start + pulses[0].duration,
        )
    };
    assert_eq!(pulse(Line::NStrobe, false), (0, 1_300), "nWrite");
    assert_eq!(pulse(Line::NAutoFd, false), (100, 1_200), "nDStrb");
    assert_eq!(pulse(Line::Busy, true), (1_100, 2_200), "nWait");
    assert_eq!(trace.levels_at(start + 1_100).data(), 0xA5);
    assert_eq!(device.received(), [0xA5]);
}

#[test]
fn a_timeout_is_latched_until_it_is_cleared() {
    type Clear = fn(&mut Host);
    let clears: [(TimeoutClear, Clear, Clear); 3] = [
        (
            TimeoutClear::ReadTwice,
            |host| {
                host.dsr();
            },
            |host| {
                host.dsr();
            },
        ),
        (
            TimeoutClear::WriteOne,
            |host| host.output(0, 1, Width::Byte, 0x00),
            |host| host.output(0, 1, Width::Byte, 0x01),
        ),
        (
            TimeoutClear::WriteZero,
            |host| host.output(0, 1, Width::Byte, 0x01),
            |host| host.output(0, 1, Width::Byte, 0x00),
        ),
    ];
    for (clear, not_enough, enough) in clears {
        let device = Peripheral1284::new();
        let chips = [
            Host::new(Epp::new(Box::new(device.clone())).with_timeout_clear(clear)),
            Host::new(
                Ecp::new(Box::new(device.clone()))
                    .with_timeout_clear(clear)
                    .with_ecr(0x94),
            ),
        ];
        for mut host in chips {
            host.dcr(0x04);
            // EPP was not negotiated, so the device does not answer.
            assert_eq!(host.input(0, 4, Width::Byte), 0xFF);
            not_enough(&mut host);
            if clear != TimeoutClear::ReadTwice {
                assert_eq!(host.dsr() & 1, 1, "{clear:?}");
            }
            enough(&mut host);
            assert_eq!(host.dsr() & 1, 0, "{clear:?}");
            host.output(0, 4, Width::Byte, 0);
            assert_eq!(host.dsr() & 1, 1, "{clear:?}");
            assert!(clear_timeout(&mut host));
        }
        assert_eq!(device.received(), []);
    }
}

#[test]
fn the_timeout_comes_after_10_us() {
    for (response, arrives) in [(9_000, true), (10_001, false)] {
        let device = Peripheral1284::new();
        let mut host = Host::new(Epp::new(Box::new(device.clone())));
        host.enter(extensibility::EPP).unwrap();
        device.misbehave(Misbehaviour::Late(response));
        host.output(0, 4, Width::Byte, 0x41);
        assert_eq!(host.dsr() & 1, u8::from(!arrives));
        assert_eq!(device.received().len(), usize::from(arrives));
        assert_eq!(device.violations(), []);
    }
}

#[test]
fn a_pending_timeout_can_block_the_other_registers() {
    let chip = Rc::new(RefCell::new(
        Epp::new(Box::new(Unconnected)).with_timeout_blocking_spp(),
    ));
    let mut host = Host::shared(chip.clone());
    host.dcr(0x04);
    host.data(0x11);
    host.output(0, 4, Width::Byte, 0);
    host.data(0x22);
    host.dcr(0x0C);
    assert_eq!(host.read_data(), 0x11);
    assert_eq!(host.input(0, 2, Width::Byte) & 0x3F, 0x04);
    assert!(clear_timeout(&mut host));
    host.data(0x22);
    assert_eq!(host.read_data(), 0x22);
    let kinds: Vec<_> = chip.borrow().violations().iter().map(|v| v.kind).collect();
    assert_eq!(kinds, [ChipViolationKind::BlockedByTimeout; 2]);
}

#[test]
fn epp_needs_its_lines_and_direction() {
    let kinds = |chip: &Shared<Epp>| -> Vec<ChipViolationKind> {
        chip.borrow().violations().iter().map(|v| v.kind).collect()
    };
    for dcr in [0x0C, 0x05, 0x06, 0x00] {
        let chip = Rc::new(RefCell::new(Epp::new(Box::new(Unconnected))));
        let mut host = Host::shared(chip.clone());
        host.dcr(dcr);
        assert_eq!(host.input(0, 4, Width::Byte), 0xFF);
        assert_eq!(host.dsr() & 1, 0);
        assert_eq!(kinds(&chip), [ChipViolationKind::EppControl]);
    }
    for (version, read, write, conflict) in [
        (EppVersion::V1_9, 0, 1, false),
        (EppVersion::V1_7, 1, 1, true),
    ] {
        let device = Peripheral1284::new();
        device.give(&[0x0F, 0x0F]);
        let chip = Rc::new(RefCell::new(
            Epp::new(Box::new(device.clone())).with_epp_version(version),
        ));
        let mut host = Host::shared(chip.clone());
        host.enter(extensibility::EPP).unwrap();
        host.data(0x55);
        let expected = if conflict { 0x05 } else { 0x0F };
        assert_eq!(host.input(0, 4, Width::Byte), expected);
        assert_eq!(kinds(&chip).len(), read);
        assert_eq!(!device.violations().is_empty(), conflict, "{version:?}");
        host.dcr(0x24);
        assert_eq!(host.input(0, 4, Width::Byte), 0x0F);
        host.output(0, 4, Width::Byte, 0x41);
        assert_eq!(kinds(&chip).len(), read + write);
        let received: &[u8] = if conflict { &[0xFF] } else { &[] };
        assert_eq!(device.received(), received, "{version:?}");
    }
}

#[test]
fn stuck_n_wait_is_a_timeout() {
    for (version, level, dsr) in [
        (EppVersion::V1_9, false, 0x81),
        (EppVersion::V1_9, true, 0x01),
        (EppVersion::V1_7, false, 0x81),
    ] {
        let device = Peripheral1284::new();
        let mut host = Host::new(Epp::new(Box::new(device.clone())).with_epp_version(version));
        host.enter(extensibility::EPP).unwrap();
        host.output(0, 4, Width::Byte, 1);
        device.misbehave(Misbehaviour::WaitStuck(level));
        host.output(0, 4, Width::Byte, 2);
        assert_eq!(host.dsr() & 0x81, dsr, "{version:?} {level}");
        device.behave();
        host.output(0, 4, Width::Byte, 3);
        assert_eq!(device.received(), [1, 3]);
        host.leave_epp();
        assert_eq!(device.violations(), []);
    }
    let device = Peripheral1284::new();
    device.misbehave(Misbehaviour::WaitStuck(true));
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(extensibility::EPP).unwrap();
    assert_eq!(host.write_epp(0x02, 1), Err(Missing(60)));
}

proptest! {
    /// Any mix of accesses to the EPP registers moves the bytes in order.
    #[test]
    fn epp_keeps_the_order(values in proptest::collection::vec((any::<u32>(), 0u8..3), 0..60)) {
        for (_, make) in EPP {
            let device = Peripheral1284::new();
            let mut host = make(&device);
            host.enter(extensibility::EPP).unwrap();
            let mut sent = Vec::new();
            for (value, width) in &values {
                let width = [Width::Byte, Width::Word, Width::Dword][usize::from(*width)];
                host.output(0, 4, width, *value);
                sent.extend(&value.to_le_bytes()[..width.bytes().into()]);
            }
            prop_assert_eq!(device.received(), &sent[..]);
            device.give(&sent);
            for (value, width) in &values {
                let width = [Width::Byte, Width::Word, Width::Dword][usize::from(*width)];
                prop_assert_eq!(host.input(0, 4, width), value & width.floating());
            }
        }
    }
}

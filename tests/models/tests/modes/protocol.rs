//! The device's modes, with hosts that keep the rules and hosts that do not.

use parscan_models::{
    Channel, Condition, Line, LineTrace, Nanos, Peripheral1284, Phase, PortDevice, Ps2, Spp,
    ViolationKind, extensibility,
};

use crate::host::{Answer, BIDIRECTIONAL, CHIPS, Chip, Host, MS, Missing, TROUBLES, US};

const TEXT: &[u8] = b"\x00\xFF\x55\xAAIEEE 1284";

fn kinds(device: &Peripheral1284) -> Vec<ViolationKind> {
    device.violations().iter().map(|v| v.kind).collect()
}

/// Devices that answer at once, within a poll, and slowly.
const RESPONSES: [Nanos; 4] = [0, 300, 5 * US, 20 * MS];

fn device(response: Nanos) -> Peripheral1284 {
    Peripheral1284::new()
        .with_response(response)
        .with_byte_time(response)
}

/// A test of each of these chips with a device of each kind.
fn each(chips: &[Chip], test: impl Fn(&str, &Peripheral1284, &mut Host)) {
    for response in RESPONSES {
        for (chip, make) in chips {
            let device = device(response);
            test(chip, &device, &mut make(&device));
        }
    }
}

#[test]
fn compatibility_mode_takes_bytes() {
    each(&CHIPS, |chip, device, host| {
        for byte in TEXT {
            host.expect(5, 0xF8, 0xD8).unwrap();
            host.write_compat(*byte).unwrap();
        }
        assert_eq!(device.received_on(Channel::Compatibility), TEXT, "{chip}");
        assert_eq!(device.violations(), [], "{chip}");
    });
}

#[test]
fn conditions_show_in_compatibility_mode() {
    for (condition, dsr) in [(Condition::Ready, 0xD8)].into_iter().chain(TROUBLES) {
        for (chip, make) in CHIPS {
            let device = Peripheral1284::new().with_condition(condition);
            let mut host = make(&device);
            assert_eq!(host.dsr() & 0xF8, dsr, "{chip}");
        }
    }
    let device = Peripheral1284::new();
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    device.set_condition_at(5 * MS, Condition::PaperEmpty);
    host.write_compat(1).unwrap();
    host.sleep(5 * MS);
    assert_eq!(host.write_compat(2), Err(0x70));
    assert_eq!(device.received(), [1]);
    host.dcr(0x08);
    host.sleep(60 * US);
    host.dcr(0x0C);
    assert_eq!(device.resets(), 1);
}

#[test]
fn every_request_gets_its_x_flag() {
    for request in 0..=0xFF {
        let device = Peripheral1284::new();
        let mut host = Host::new(Spp::new(Box::new(device.clone())));
        let known = extensibility::ALL.contains(&request);
        // Accepted is high, but low for plain nibble mode.
        assert_eq!(
            host.ask(request),
            Ok(known && request != 0),
            "{request:02X}"
        );
        assert_eq!(device.negotiations(), [request]);
        let phase = match request {
            0x00 | 0x04 => Phase::Nibble,
            0x01 | 0x05 => Phase::Byte,
            0x10 | 0x14 | 0x30 | 0x34 => Phase::EcpForward,
            0x40 => Phase::Epp,
            _ => Phase::Refused,
        };
        assert_eq!(device.phase(), phase, "{request:02X}");
        if phase == Phase::Epp {
            host.leave_epp();
        } else {
            host.terminate().unwrap();
        }
        assert_eq!(device.phase(), Phase::Compatibility);
        assert_eq!(host.dsr() & 0xF8, 0xD8);
        assert_eq!((device.terminations(), device.resets()), (1, 0));
        assert_eq!(device.violations(), []);
        host.write_compat(0x41).unwrap();
        assert_eq!(device.received(), [0x41], "{request:02X}");
    }
    // A device without nibble mode refuses it with XFlag high.
    let device = Peripheral1284::new().with_requests(&[extensibility::BYTE]);
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    assert_eq!(host.ask(0x00), Ok(true));
    host.terminate().unwrap();
    assert_eq!(host.ask(0x10), Ok(false));
    host.terminate().unwrap();
    assert_eq!(host.ask(0x01), Ok(true));
}

#[test]
fn a_device_that_is_not_there_does_not_answer() {
    for condition in [Condition::PoweredOff, Condition::Unplugged] {
        let device = Peripheral1284::new().with_condition(condition);
        let mut host = Host::new(Spp::new(Box::new(device.clone())));
        assert_eq!(host.ask(0), Err(Missing(2)));
    }
    // Out of paper is no reason not to answer.
    let device = Peripheral1284::new().with_condition(Condition::PaperEmpty);
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.enter(0x04).unwrap();
    let id = host.read_all(Host::read_nibble_mode).unwrap();
    assert_eq!(id.len(), 74);
    host.terminate().unwrap();
    assert_eq!(host.dsr() & 0xF8, 0x70);
}

#[test]
fn a_byte_on_its_way_is_finished_before_a_negotiation() {
    let device = Peripheral1284::new().with_byte_time(200 * US);
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.write_compat(0x41).unwrap();
    let start = host.now;
    assert_eq!(host.ask(0x10), Ok(true));
    assert!(host.now - start > 190 * US);
    assert_eq!(device.violations(), []);
}

fn nibble(host: &mut Host) -> Answer<Vec<u8>> {
    host.read_all(Host::read_nibble_mode)
}

fn byte(host: &mut Host) -> Answer<Vec<u8>> {
    host.read_all(Host::read_byte_mode)
}

fn ecp(host: &mut Host) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    host.reverse_ecp()?;
    let mut count = 1;
    while host.dsr() & 0x48 != 0x48 {
        match host.read_ecp()? {
            (byte, false) => bytes.extend(vec![byte; std::mem::replace(&mut count, 1)]),
            (run, true) => count = usize::from(run) + 1,
        }
    }
    host.forward_ecp()?;
    Ok(bytes)
}

#[test]
fn reverse_modes_bring_what_was_given() {
    type Read = fn(&mut Host) -> Answer<Vec<u8>>;
    let modes: [(u8, Read); 4] = [
        (extensibility::NIBBLE, nibble),
        (extensibility::BYTE, byte),
        (extensibility::ECP, ecp),
        (extensibility::ECP_RLE, ecp),
    ];
    let mut sent = TEXT.to_vec();
    sent.extend([7; 300]);
    for response in RESPONSES {
        for (request, read) in modes {
            let chips = if request == 0 {
                &CHIPS[..]
            } else {
                &BIDIRECTIONAL[..]
            };
            for (chip, make) in chips {
                let device = device(response);
                let mut host = make(&device);
                device.give(&sent);
                host.enter(request).unwrap();
                assert!(host.data_available());
                assert_eq!(read(&mut host).unwrap(), sent, "{chip} {request:02X}");
                assert!(!host.data_available());
                assert_eq!(device.to_send(), 0);
                host.dcr(0x04);
                host.terminate().unwrap();
                assert_eq!(device.violations(), [], "{chip} {request:02X}");
                assert_eq!(device.immediate_terminations(), 0);
            }
        }
    }
}

#[test]
fn every_id_request_sends_the_id_as_it_is() {
    let ids: [&[u8]; 6] = [
        b"\x00\x0EMFG:A;MDL:B;",
        b"\x00\x0CMFG:A;MDL:B;",
        b"\x0E\x00MFG:A;MDL:B;",
        b"\xFF\xFFMFG:A;MDL:B;",
        b"\x00\x00MFG:A;MDL:B",
        b"",
    ];
    for id in ids {
        for (chip, make) in BIDIRECTIONAL {
            let device = Peripheral1284::new().with_device_id(id);
            device.give(b"not this");
            let mut host = make(&device);
            for _ in 0..2 {
                host.enter(extensibility::ID_NIBBLE).unwrap();
                assert_eq!(nibble(&mut host).unwrap(), id, "{chip}");
                host.terminate().unwrap();
                host.enter(extensibility::ID_BYTE).unwrap();
                assert_eq!(byte(&mut host).unwrap(), id, "{chip}");
                host.dcr(0x04);
                host.terminate().unwrap();
                for request in [extensibility::ID_ECP, extensibility::ID_ECP_RLE] {
                    host.enter(request).unwrap();
                    assert_eq!(ecp(&mut host).unwrap(), id, "{chip}");
                    host.terminate().unwrap();
                }
            }
            assert_eq!(device.violations(), []);
            assert_eq!(device.to_send(), 8);
        }
    }
}

#[test]
fn reverse_idle_wakes_when_data_come() {
    let device = Peripheral1284::new();
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.enter(extensibility::NIBBLE).unwrap();
    assert!(!host.data_available());
    host.dcr(0x06); // reverse idle
    host.sleep(MS);
    assert_eq!(host.dsr() & 0x48, 0x48);
    device.give(b"x");
    host.sleep(10 * US);
    host.dcr(0x04); // event 20
    assert_eq!(host.dsr() & 0x28, 0x00);
    assert_eq!(nibble(&mut host).unwrap(), b"x");
    let trace = trace(&mut host, |host| {
        host.dcr(0x06);
        host.terminate().unwrap();
    });
    assert_eq!(trace.pulses(Line::NAck, false).len(), 1, "events 24 and 27");
    assert_eq!(device.violations(), []);

    // The interrupt of events 18 and 19.
    let mut port = Spp::new(Box::new(device.clone()));
    for (time, dcr) in [(1, 0x06), (2, 0x07), (3, 0x04), (4, 0x06)] {
        port.write(time * MS, 0, 2, parscan_models::Width::Byte, dcr);
    }
    device.give(b"y");
    port.advance(5 * MS);
    port.advance(6 * MS);
    let last = *port
        .trace()
        .unwrap()
        .pulses(Line::NAck, false)
        .last()
        .unwrap();
    assert_eq!((last.start, last.duration), (5 * MS, 500));
}

/// What `act` does to the lines; needs a chip that traces.
fn trace(host: &mut Host, act: impl FnOnce(&mut Host)) -> LineTrace {
    let start = host.now;
    act(host);
    host.with_port(|port| {
        let all = port.trace().unwrap();
        let mut part = LineTrace::new(start, all.levels_at(start));
        for sample in all.samples().iter().filter(|s| s.time > start) {
            part.record(sample.time, sample.levels);
        }
        part
    })
}

#[test]
fn epp_in_software_reads_and_writes_registers() {
    each(&BIDIRECTIONAL, |chip, device, host| {
        host.enter(extensibility::EPP).unwrap();
        host.dcr(0x04);
        host.write_epp(0x08, 0x05).unwrap();
        for byte in TEXT {
            host.write_epp(0x02, *byte).unwrap();
        }
        host.write_epp(0x08, 0x06).unwrap();
        host.write_epp(0x02, 0x66).unwrap();
        assert_eq!(device.received_on(Channel::Epp(5)), TEXT, "{chip}");
        assert_eq!(device.received_on(Channel::Epp(6)), [0x66], "{chip}");
        assert_eq!(host.read_epp(0x08), Ok(0x06), "{chip}");
        device.give_on(Channel::Epp(6), &[1, 2]);
        device.give(&[3]);
        device.give_on(Channel::Epp(7), &[4]);
        for byte in [1, 2, 3, 0xFF] {
            assert_eq!(host.read_epp(0x02), Ok(byte), "{chip}");
        }
        host.write_epp(0x08, 0x07).unwrap();
        assert_eq!(host.read_epp(0x02), Ok(4), "{chip}");
        host.leave_epp();
        assert_eq!(device.phase(), Phase::Compatibility);
        assert_eq!(device.violations(), [], "{chip}");
        assert_eq!(device.resets(), 0);
    });
}

#[test]
fn the_epp_exit_may_be_a_reset() {
    let device = Peripheral1284::new().with_reset_at_epp_exit();
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(extensibility::EPP).unwrap();
    host.leave_epp();
    assert_eq!(device.resets(), 1);
    let device = Peripheral1284::new();
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(extensibility::EPP).unwrap();
    host.dcr(0x08);
    host.dcr(0x0C);
    assert_eq!(device.phase(), Phase::Compatibility);
    assert_eq!(kinds(&device), [ViolationKind::ResetTooShort]);
}

#[test]
fn ecp_in_software_has_channels_and_runs() {
    each(&BIDIRECTIONAL, |chip, device, host| {
        host.enter(extensibility::ECP_RLE).unwrap();
        for byte in TEXT {
            host.write_ecp(*byte, false).unwrap();
        }
        host.write_ecp(0x85, true).unwrap();
        assert_eq!(device.ecp_channel(), 5);
        host.write_ecp(0x11, false).unwrap();
        host.write_ecp(99, true).unwrap();
        host.write_ecp(0x22, false).unwrap();
        host.write_ecp(0x33, false).unwrap();
        let mut on_5 = vec![0x11];
        on_5.extend([0x22; 100]);
        on_5.push(0x33);
        assert_eq!(device.received_on(Channel::Ecp(0)), TEXT, "{chip}");
        assert_eq!(device.received_on(Channel::Ecp(5)), on_5, "{chip}");
        host.terminate().unwrap();
        assert_eq!(device.violations(), [], "{chip}");
    });
    let device = Peripheral1284::new();
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.enter(extensibility::ECP).unwrap();
    host.write_ecp(99, true).unwrap();
    host.write_ecp(0x22, false).unwrap();
    assert_eq!(kinds(&device), [ViolationKind::RunNotNegotiated]);
    assert_eq!(device.received(), [0x22]);
}

#[test]
fn ecp_reverse_sends_commands_for_channels_and_runs() {
    let device = Peripheral1284::new();
    device.give_on(Channel::Ecp(9), &[1, 1, 2]);
    device.give(&[3; 130]);
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(extensibility::ECP_RLE).unwrap();
    assert!(host.data_available());
    host.reverse_ecp().unwrap();
    assert_eq!(device.phase(), Phase::EcpReverse);
    for expected in [
        (0x89, true),
        (1, false),
        (1, false),
        (2, false),
        (127, true),
        (3, false),
        (3, false),
        (3, false),
    ] {
        assert_eq!(host.read_ecp(), Ok(expected));
    }
    assert_eq!(host.dsr() & 0x68, 0x48, "nothing more, still reverse");
    device.give(&[4, 5]);
    assert_eq!(host.read_ecp(), Ok((4, false)));
    // Turning back while a byte waits does not take it.
    host.forward_ecp().unwrap();
    assert_eq!(device.to_send(), 1);
    host.terminate().unwrap();
    assert_eq!(device.violations(), []);
}

#[test]
fn an_immediate_termination_releases_the_bus_and_loses_the_byte() {
    type Start = fn(&mut Host);
    let starts: [(u8, Start); 5] = [
        (extensibility::NIBBLE, |host| host.dcr(0x06)),
        (extensibility::NIBBLE, |host| {
            host.dcr(0x06);
            host.dcr(0x04);
        }),
        (extensibility::BYTE, |host| {
            host.dcr(0x24);
            host.dcr(0x26);
        }),
        (extensibility::ECP, |host| host.reverse_ecp().unwrap()),
        (extensibility::ECP, |host| host.dcr(0x05)),
    ];
    for (request, start) in starts {
        let device = Peripheral1284::new();
        device.give(b"ab");
        let mut host = Host::new(Ps2::new(Box::new(device.clone())));
        host.enter(request).unwrap();
        start(&mut host);
        host.dcr(0x2C);
        assert_eq!(device.phase(), Phase::Compatibility);
        assert_eq!(host.read_data(), 0xFF, "released");
        host.dcr(0x0C);
        assert_eq!(host.dsr() & 0xF8, 0xD8);
        let counts = (device.immediate_terminations(), device.terminations());
        assert_eq!(counts, (1, 0));
        assert_eq!(device.violations(), []);
        host.write_compat(0x41).unwrap();
        assert_eq!(device.received_on(Channel::Compatibility), [0x41]);
        assert_eq!(device.to_send(), 2);
    }
}

#[test]
fn a_reset_ends_any_mode() {
    for request in [0x00, 0x01, 0x10, 0x40] {
        let device = Peripheral1284::new();
        let mut host = Host::new(Ps2::new(Box::new(device.clone())));
        host.enter(request).unwrap();
        host.dcr(0x08);
        host.sleep(60 * US);
        host.dcr(0x0C);
        assert_eq!(device.phase(), Phase::Compatibility);
        assert_eq!(device.resets(), usize::from(request != 0x40));
        assert_eq!(device.violations(), []);
    }
}

#[test]
fn a_termination_that_the_host_does_not_finish_ends_by_itself() {
    let device = Peripheral1284::new();
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.enter(0x10).unwrap();
    host.dcr(0x0C);
    assert_eq!(device.phase(), Phase::Termination);
    host.sleep(999 * MS);
    assert_eq!(device.phase(), Phase::Termination);
    host.sleep(2 * MS);
    assert_eq!(device.phase(), Phase::Compatibility);
    assert_eq!(host.dsr() & 0xF8, 0xD8);
    // And by a byte that comes before its end.
    host.enter(0x10).unwrap();
    host.dcr(0x0C);
    host.data(0x41);
    host.dcr(0x0D);
    host.dcr(0x0C);
    assert_eq!(device.received(), [0x41]);
    assert_eq!(kinds(&device), [ViolationKind::OutOfOrder]);
}

/// A host that breaks one rule, and what the device notes.
#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn broken_rules_are_noted() {
    type Act = fn(&mut Host);
    use ViolationKind::{
        BusConflict, DataNotDriven, HoldTooShort, NotReady, OutOfOrder, SetUpTooShort,
        StrobeTooShort,
    };
    let cases: [(&str, Act, &[ViolationKind]); 6] = [
        (
            "no set-up before event 1",
            |host| {
                host.data(0x10);
                host.quick(2, 0x06, 499);
            },
            &[SetUpTooShort],
        ),
        (
            "the request changes",
            |host| {
                host.data(0x10);
                host.dcr(0x06);
                host.data(0x11);
            },
            &[HoldTooShort],
        ),
        (
            "event 3 too short",
            |host| {
                host.data(0x10);
                host.dcr(0x06);
                host.dcr(0x07);
                host.quick(2, 0x04, 499);
            },
            &[StrobeTooShort],
        ),
        (
            "event 4 without event 3",
            |host| {
                host.data(0x10);
                host.dcr(0x06);
                host.dcr(0x04);
            },
            &[OutOfOrder],
        ),
        (
            "the request is not driven",
            |host| {
                host.dcr(0x2C);
                host.dcr(0x26);
            },
            &[DataNotDriven],
        ),
        (
            "events 16 and 17 too short",
            |host| {
                host.enter(0x01).unwrap();
                host.dcr(0x26);
                host.dcr(0x24);
                host.dcr(0x25);
                host.quick(2, 0x24, 499);
            },
            &[StrobeTooShort],
        ),
    ];
    let check = |name: &str, act: &dyn Fn(&mut Host), expected: &[ViolationKind]| {
        let device = Peripheral1284::new();
        device.give(b"data");
        let mut host = Host::new(Ps2::new(Box::new(device.clone())));
        act(&mut host);
        assert_eq!(kinds(&device), expected, "{name}");
    };
    for (name, act, expected) in cases {
        check(name, &act, expected);
    }
    // In a mode: what is written to the control register.
    for (name, mode, controls, expected) in [
        (
            "byte mode with the drivers on",
            0x01,
            &[0x06][..],
            BusConflict,
        ),
        (
            "byte mode without events 16 and 17",
            0x01,
            &[0x26, 0x24, 0x26],
            OutOfOrder,
        ),
        ("nStrobe in nibble mode", 0x00, &[0x05], OutOfOrder),
        (
            "the ECP bus is turned with the drivers on",
            0x10,
            &[0x06, 0x02],
            BusConflict,
        ),
        ("events 38 and 39 at once", 0x10, &[0x22], SetUpTooShort),
        ("event 39 without event 38", 0x10, &[0x20], OutOfOrder),
        (
            "an EPP write with the drivers off",
            0x40,
            &[0x25, 0x27],
            DataNotDriven,
        ),
        (
            "an EPP read with the drivers on",
            0x40,
            &[0x06],
            BusConflict,
        ),
    ] {
        let act = |host: &mut Host| {
            host.enter(mode).unwrap();
            for control in controls {
                host.dcr(*control);
            }
        };
        check(name, &act, &[expected]);
    }
    // An ECP byte while Busy is high.
    let device = Peripheral1284::new().with_byte_time(100 * US);
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(0x10).unwrap();
    device.set_condition(Condition::OffLine);
    host.dcr(0x05);
    assert_eq!(kinds(&device), [NotReady]);
}

#[test]
fn a_host_that_does_not_wait_is_out_of_order() {
    let device = Peripheral1284::new().with_response(10 * US);
    let mut host = Host::new(Spp::new(Box::new(device.clone())));
    host.data(0x00);
    host.dcr(0x06);
    host.dcr(0x07);
    host.dcr(0x04);
    assert!(kinds(&device).contains(&ViolationKind::OutOfOrder));
}

/// A not ready device takes no forward data in any mode, and goes on when it is ready.
#[test]
fn a_device_that_runs_out_of_paper_waits_for_it() {
    let device = Peripheral1284::new();
    let mut host = Host::new(Ps2::new(Box::new(device.clone())));
    host.enter(0x10).unwrap();
    host.write_ecp(1, false).unwrap();
    device.set_condition(Condition::PaperEmpty);
    assert_eq!(host.write_ecp(2, false), Err(Missing(32)));
    device.set_condition(Condition::Ready);
    host.write_ecp(2, false).unwrap();
    host.terminate().unwrap();
    host.enter(0x40).unwrap();
    device.set_condition(Condition::OffLine);
    assert_eq!(host.write_epp(0x02, 3), Err(Missing(58)));
    host.dcr(0x04);
    host.write_epp(0x08, 4).unwrap();
    assert_eq!(host.read_epp(0x02), Ok(0xFF));
    host.leave_epp();
    assert_eq!(host.dsr() & 0xF8, 0x48);
    assert_eq!(device.received(), [1, 2]);
    assert_eq!(device.violations(), []);
}

#[test]
fn the_trace_shows_the_bus_of_both_sides() {
    let device = Peripheral1284::new().with_response(2 * US);
    device.give(&[0x5A]);
    let mut host = Host::new(Ps2::new(Box::new(device.clone())).with_trace());
    host.enter(0x01).unwrap();
    let trace = trace(&mut host, |host| {
        assert_eq!(host.read_byte_mode(), Ok(0x5A));
    });
    let data: Vec<(Nanos, u8)> = trace
        .samples()
        .iter()
        .map(|s| (s.time - trace.start(), s.levels.data()))
        .collect();
    let mut bytes: Vec<u8> = data.iter().map(|(_, byte)| *byte).collect();
    bytes.dedup();
    assert_eq!(bytes, [0xFF, 0x5A, 0xFF]);
    let ack = trace.pulses(Line::NAck, false);
    assert_eq!(ack.len(), 1);
    // Event 7 is the second access; event 9 follows 2 us later.
    assert_eq!(ack[0].start - trace.start(), 4 * US);
}

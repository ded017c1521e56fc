//! What a host sees of a device that misbehaves.

use parscan_models::{
    Condition, Misbehaviour, Peripheral1284, Phase, Ps2, Spp, ViolationKind, extensibility,
};

use crate::host::{Host, MS, Missing, TROUBLES, US};

fn host(device: &Peripheral1284) -> Host {
    Host::new(Ps2::new(Box::new(device.clone())))
}

/// A device that has these bytes for the host and misbehaves as said, and a host with it.
fn ill(bytes: &[u8], misbehave: impl FnOnce(&Peripheral1284)) -> (Peripheral1284, Host) {
    let device = Peripheral1284::new();
    device.give(bytes);
    misbehave(&device);
    let host = host(&device);
    (device, host)
}

#[test]
fn no_negotiation() {
    let (device, mut host) = ill(b"", |device| device.misbehave(Misbehaviour::NoNegotiation));
    assert_eq!(host.ask(0x00), Err(Missing(2)));
    assert_eq!(host.dsr() & 0xF8, 0xD8);
    host.write_compat(1).unwrap();
    device.behave();
    assert_eq!(host.ask(0x00), Ok(false));
    assert_eq!(device.violations(), []);
}

#[test]
fn late_answers() {
    for (time, answer) in [(34_900 * US, Ok(true)), (36 * MS, Err(Missing(2)))] {
        let (device, mut host) = ill(b"", |device| device.misbehave(Misbehaviour::Late(time)));
        assert_eq!(host.ask(0x10), answer);
        assert_eq!(device.violations(), []);
        assert_eq!(device.phase() == Phase::Compatibility, answer.is_err());
    }
    // Late from event 6 on: the host goes away in time, and nothing is left behind.
    let (device, mut host) = ill(b"", |device| {
        device.misbehave_at_event(6, Misbehaviour::Late(36 * MS));
    });
    assert_eq!(host.ask(0x10), Err(Missing(6)));
    host.dcr(0x0C);
    assert_eq!(device.phase(), Phase::Compatibility);
    host.sleep(10 * MS);
    assert_eq!(host.dsr() & 0xF8, 0xD8);
    assert_eq!(device.negotiations(), []);
}

#[test]
fn a_late_termination_is_left_to_itself() {
    let device = Peripheral1284::new();
    let mut host = host(&device);
    host.enter(0x10).unwrap();
    device.misbehave(Misbehaviour::Late(36 * MS));
    assert_eq!(host.terminate(), Err(Missing(24)));
    host.sleep(10 * MS);
    device.behave();
    for byte in [1, 2] {
        host.data(byte);
        host.dcr(0x0D);
        host.dcr(0x0C);
        host.sleep(10 * US);
    }
    assert_eq!(device.received(), [1, 2]);
    assert_eq!(device.violations(), []);
}

#[test]
fn the_wrong_x_flag() {
    let device = Peripheral1284::new().with_requests(&[0x00, 0x10]);
    device.misbehave(Misbehaviour::WrongXFlag);
    let mut host = host(&device);
    for (request, x_flag) in [(0x00, true), (0x10, false), (0x01, true)] {
        assert_eq!(host.ask(request), Ok(x_flag));
        host.terminate().unwrap();
    }
}

/// Every answer can fail to come, and the host gets out by nSelectIn.
#[test]
fn silence_at_any_event() {
    type Act = fn(&mut Host) -> Result<(), Missing>;
    let nibble: Act = |host| {
        host.enter(0x00)?;
        host.read_nibble_mode()?;
        host.terminate()
    };
    let byte: Act = |host| {
        host.enter(0x01)?;
        host.read_byte_mode()?;
        host.terminate()
    };
    let ecp: Act = |host| {
        host.enter(0x10)?;
        host.write_ecp(1, false)?;
        host.reverse_ecp()?;
        host.read_ecp()?;
        host.forward_ecp()?;
        host.terminate()
    };
    let cases: [(Act, &[u8]); 3] = [
        (nibble, &[2, 6, 9, 11, 24, 27]),
        (byte, &[2, 6, 9, 11, 24, 27]),
        (ecp, &[2, 6, 31, 36, 32, 40, 43, 45, 49, 24, 27]),
    ];
    for (act, events) in cases {
        for event in events {
            let (device, mut host) = ill(b"abc", |device| {
                device.misbehave_at_event(*event, Misbehaviour::Silent);
            });
            // 23 and 26 belong to the same answers as 24 and 27.
            assert_eq!(act(&mut host), Err(Missing(*event)));
            host.dcr(0x0C);
            host.sleep(1_001 * MS);
            assert_eq!(device.phase(), Phase::Compatibility, "{event}");
            assert_eq!(host.dsr() & 0xF8, 0xD8, "{event}");
            assert_eq!(act(&mut host), Ok(()), "it is well again after {event}");
            assert_eq!(device.violations(), [], "{event}");
        }
    }
    for event in [58, 60] {
        let (device, mut host) = ill(b"", |device| {
            device.misbehave_at_event(event, Misbehaviour::Silent);
        });
        host.enter(0x40).unwrap();
        assert_eq!(host.write_epp(0x02, 1), Err(Missing(event)));
        host.leave_epp();
        host.enter(0x40).unwrap();
        host.write_epp(0x02, 2).unwrap();
        assert_eq!(device.violations(), []);
    }
}

#[test]
fn a_dead_device_keeps_its_lines() {
    let (device, mut host) = ill(b"abcdef", |device| {
        device.misbehave_at_byte(2, Misbehaviour::Dead);
    });
    host.enter(0x01).unwrap();
    assert_eq!(host.read_byte_mode(), Ok(b'a'));
    assert_eq!(host.read_byte_mode(), Ok(b'b'));
    assert_eq!(host.read_byte_mode(), Err(Missing(9)));
    let lines = host.dsr();
    host.dcr(0x2C);
    assert_eq!(host.dsr(), lines);
    assert_eq!(host.ask(0x00), Err(Missing(2)));
    host.dcr(0x08);
    host.sleep(MS);
    host.dcr(0x0C);
    assert_eq!(host.dsr(), lines);
    assert_eq!(device.resets(), 0);
    device.behave();
    assert_eq!(host.dsr() & 0xF8, 0xD8);
    host.enter(0x00).unwrap();
    assert_eq!(host.read_nibble_mode(), Ok(b'c'));
    // One that dies while it drives the data lines lets go of them.
    let (_device, mut host) = ill(&[0x55], |device| {
        device.misbehave_at_event(11, Misbehaviour::Dead);
    });
    host.enter(0x01).unwrap();
    assert_eq!(host.read_byte_mode(), Err(Missing(11)));
    assert_eq!(host.read_data(), 0x55);
    host.dcr(0x2C);
    assert_eq!(host.read_data(), 0xFF);
}

#[test]
fn an_ecp_stall_ends_with_a_recovery_or_never() {
    let (device, mut host) = ill(b"", |device| {
        device.misbehave_at_byte(3, Misbehaviour::StallForward);
    });
    host.enter(extensibility::ECP).unwrap();
    for byte in 0..3 {
        host.write_ecp(byte, false).unwrap();
    }
    assert_eq!(host.write_ecp(3, false), Err(Missing(36)));
    host.recover_ecp().unwrap();
    host.write_ecp(3, false).unwrap();
    assert_eq!(device.received(), [0, 1, 2, 3]);
    assert_eq!(device.recoveries(), 1);
    host.terminate().unwrap();
    assert_eq!(device.violations(), []);

    let (device, mut host) = ill(b"", |device| {
        device.misbehave(Misbehaviour::StallForwardForever);
    });
    for _ in 0..2 {
        host.enter(extensibility::ECP).unwrap();
        assert_eq!(host.write_ecp(3, false), Err(Missing(36)));
        assert_eq!(host.recover_ecp(), Err(Missing(73)));
        assert_eq!(host.terminate(), Err(Missing(24)), "it is an immediate one");
        assert_eq!(host.dsr() & 0xF8, 0xD8);
    }
    assert_eq!(device.immediate_terminations(), 2);
    assert_eq!(device.violations(), []);
}

#[test]
fn an_ecp_reverse_stall_shows_data_but_sends_none() {
    let (device, mut host) = ill(b"abc", |device| {
        device.misbehave_at_byte(1, Misbehaviour::StallReverse);
    });
    host.enter(extensibility::ECP).unwrap();
    host.reverse_ecp().unwrap();
    assert_eq!(host.read_ecp(), Ok((b'a', false)));
    assert_eq!(host.read_ecp(), Err(Missing(43)));
    assert!(host.data_available());
    host.forward_ecp().unwrap();
    host.terminate().unwrap();
    assert_eq!(device.violations(), []);
}

#[test]
fn conditions_at_a_byte() {
    for (condition, dsr) in TROUBLES {
        let device = Peripheral1284::new();
        device.misbehave_at_byte(2, Misbehaviour::Condition(condition));
        let mut host = Host::new(Spp::new(Box::new(device.clone())));
        host.write_compat(0).unwrap();
        host.write_compat(1).unwrap();
        assert_eq!(host.write_compat(2), Err(dsr));
        assert_eq!(device.received(), [0, 1]);

        let (device, mut host) = ill(b"abc", |device| {
            device.misbehave_at_byte(2, Misbehaviour::Condition(condition));
        });
        host.enter(extensibility::ECP).unwrap();
        host.write_ecp(0, false).unwrap();
        let second = host.write_ecp(1, false);
        assert_eq!(device.received(), [0, 1], "{condition:?}");
        if matches!(condition, Condition::PoweredOff) {
            assert_eq!(second, Ok(()), "Busy is low without power");
            assert_eq!(host.write_ecp(2, false), Err(Missing(36)));
        } else {
            assert_eq!(second, Err(Missing(32)), "{condition:?}");
        }
        host.terminate().ok();
        assert_eq!(host.dsr() & 0xF8, dsr);
        device.set_condition(Condition::Ready);
        host.enter(extensibility::NIBBLE).unwrap();
        assert_eq!(host.read_nibble_mode(), Ok(b'a'));
        host.terminate().unwrap();
    }
}

#[test]
fn n_ack_stays_low() {
    let (device, mut host) = ill(b"", |device| device.misbehave(Misbehaviour::AckLow));
    assert_eq!(host.dsr() & 0x40, 0);
    assert_eq!(host.ask(0x00), Err(Missing(6)));
    assert_eq!(host.terminate(), Err(Missing(27)));
    host.sleep(1_001 * MS);
    device.behave();
    assert_eq!(host.dsr() & 0xF8, 0xD8);
}

#[test]
fn a_printer_that_is_gone_in_the_middle_of_an_id() {
    let (device, mut host) = ill(b"", |device| {
        device.misbehave_at_byte(10, Misbehaviour::Condition(Condition::Unplugged));
    });
    host.enter(extensibility::ID_NIBBLE).unwrap();
    let mut bytes = 0;
    while host.data_available() && host.read_nibble_mode().is_ok() {
        bytes += 1;
    }
    assert_eq!(bytes, 10, "pull-ups show no data available");
    assert_eq!(host.terminate(), Err(Missing(24)));
    assert_eq!(device.phase(), Phase::Compatibility);
    let conflict = |v: &parscan_models::Violation| v.kind == ViolationKind::BusConflict;
    assert!(!device.violations().iter().any(conflict));
}

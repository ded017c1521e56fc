//! The driver's protocols against the hardware models, which were written from the same
//! descriptions by other authors: two readings meet here.
// There is no unsafe code here; under Miri the tests of `session` are enough.
#![cfg(not(miri))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]

mod wire;

use parscan_core::{
    ieee1284::{Capabilities, DeviceId, Direction, Fault, Session, Transfer},
    ioctl::{
        Status,
        parallel::{IeeeModes, NegotiationMask},
    },
};
use parscan_models::{
    Channel, ChipViolationKind, Condition, Ecp, Epp, EppVersion, Misbehaviour, Nanos,
    Peripheral1284, Phase, Ps2, Spp, TimeoutClear, Unconnected, ViolationKind, extensibility,
};
use wire::{Chip, Wire, known};

const MS: Nanos = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Spp,
    Ps2,
    Epp,
    Epp17,
    Ecp,
    EcpEpp,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Spp,
        Self::Ps2,
        Self::Epp,
        Self::Epp17,
        Self::Ecp,
        Self::EcpEpp,
    ];
}

fn chip(kind: Kind, peripheral: &Peripheral1284) -> Wire {
    let device = Box::new(peripheral.clone());
    let chip: Box<dyn Chip> = match kind {
        Kind::Spp => Box::new(Spp::new(device).without_trace()),
        Kind::Ps2 => Box::new(Ps2::new(device)),
        Kind::Epp => Box::new(Epp::new(device)),
        Kind::Epp17 => Box::new(Epp::new(device).with_epp_version(EppVersion::V1_7)),
        Kind::Ecp => Box::new(Ecp::new(device)),
        Kind::EcpEpp => Box::new(Ecp::new(device).with_epp()),
    };
    Wire::new(chip, matches!(kind, Kind::Ecp | Kind::EcpEpp))
}

/// What to write with, what to read with, on which chip, and the port accesses a byte that each
/// may cost.
const MODES: &[(IeeeModes, IeeeModes, Kind, f64, f64)] = &[
    (
        IeeeModes::CENTRONICS,
        IeeeModes::NIBBLE,
        Kind::Spp,
        4.01,
        8.1,
    ),
    (
        IeeeModes::CENTRONICS,
        IeeeModes::BYTE_BIDIR,
        Kind::Ps2,
        4.01,
        7.1,
    ),
    (
        IeeeModes::IEEE_COMPATIBILITY,
        IeeeModes::BYTE_BIDIR,
        Kind::Ecp,
        1.2,
        7.1,
    ),
    (IeeeModes::EPP_HW, IeeeModes::EPP_HW, Kind::Epp, 1.05, 1.05),
    (
        IeeeModes::EPP_HW,
        IeeeModes::EPP_HW,
        Kind::Epp17,
        1.05,
        1.05,
    ),
    (
        IeeeModes::EPP_HW,
        IeeeModes::EPP_HW,
        Kind::EcpEpp,
        1.05,
        1.05,
    ),
    (IeeeModes::EPP_SW, IeeeModes::EPP_SW, Kind::Ps2, 5.1, 5.1),
    (
        IeeeModes::ECP_HW_NOIRQ,
        IeeeModes::ECP_HW_NOIRQ,
        Kind::Ecp,
        1.2,
        1.2,
    ),
    (IeeeModes::ECP_SW, IeeeModes::ECP_SW, Kind::Ps2, 5.1, 5.1),
    (IeeeModes::ECP_SW, IeeeModes::ECP_SW, Kind::Ecp, 5.1, 5.1),
];

type Mode = (IeeeModes, IeeeModes, Kind, f64, f64);

const MANY: usize = 8000;

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n * 7 + n / 256) as u8 ^ 0x5A)
        .collect()
}

fn peripheral() -> Peripheral1284 {
    Peripheral1284::new().with_reset_time(MS)
}

fn start(mode: &Mode, peripheral: &Peripheral1284) -> (Wire, Session) {
    let mut port = chip(mode.2, peripheral);
    let capabilities = known(&mut port);
    let mut session = Session::new(capabilities);
    let offered = NegotiationMask {
        write: mode.0,
        read: mode.1,
    };
    let chosen = session.negotiate(&mut port, offered);
    let expected = NegotiationMask {
        // An empty mask keeps the default.
        write: if mode.0.is_empty() {
            NegotiationMask::DEFAULT.write
        } else {
            mode.0
        },
        read: if mode.1.is_empty() {
            NegotiationMask::DEFAULT.read
        } else {
            mode.1
        },
    };
    assert_eq!(chosen, Ok(expected), "{mode:?}");
    assert!(rests(&port, &session), "{mode:?}");
    (port, session)
}

/// At rest; or in EPP, which stays until another mode is needed.
fn rests(port: &Wire, session: &Session) -> bool {
    port.is_at_rest() || session.is_connected() && port.dcr() == 0x04
}

/// No rule of chip or device was broken.
#[track_caller]
fn assert_clean(port: &Wire, peripheral: &Peripheral1284, what: &str) {
    assert_eq!(port.chip.broken(), [], "{what}");
    assert_eq!(peripheral.violations(), [], "{what}");
}

#[test]
fn chips_are_told_apart() {
    for kind in Kind::ALL {
        let peripheral = peripheral();
        let mut port = chip(kind, &peripheral);
        let found = known(&mut port);
        let is_ecp = matches!(kind, Kind::Ecp | Kind::EcpEpp);
        let has_epp = matches!(kind, Kind::Epp | Kind::Epp17 | Kind::EcpEpp);
        assert!(found.spp, "{kind:?}");
        assert_eq!(found.byte, Some(kind != Kind::Spp), "{kind:?}");
        assert_eq!(found.epp, has_epp, "{kind:?}");
        assert_eq!(found.ecr, is_ecp, "{kind:?}");
        assert_eq!(
            found.fifo.map(|f| (f.depth, f.width)),
            is_ecp.then_some((16, 8))
        );
        assert!(port.is_at_rest(), "{kind:?}");
        assert_clean(&port, &peripheral, &format!("{kind:?}"));
        assert_eq!(peripheral.received(), []);
        assert_eq!(peripheral.resets(), 0);
        assert_eq!(peripheral.negotiations(), []);
    }
}

#[test]
fn odd_chips_are_told_apart() {
    let unconnected = || Box::new(Unconnected);
    let chips: Vec<(&str, Wire, Capabilities)> = vec![
        (
            "write-only DCR",
            Wire::new(
                Box::new(Spp::new(unconnected()).with_write_only_dcr()),
                false,
            ),
            Capabilities::SPP,
        ),
        (
            "write-only DATA",
            Wire::new(
                Box::new(Ps2::new(unconnected()).with_write_only_data()),
                false,
            ),
            Capabilities {
                byte: Some(true),
                ..Capabilities::SPP
            },
        ),
        (
            "the DCR in the ECR's place",
            Wire::new(
                Box::new(Ps2::new(unconnected()).with_aliased_ecp_block()),
                true,
            ),
            Capabilities {
                byte: Some(true),
                ..Capabilities::SPP
            },
        ),
        (
            "an SPP with an ECP range",
            Wire::new(Box::new(Spp::new(unconnected())), true),
            Capabilities::SPP,
        ),
    ];
    for (what, mut port, expected) in chips {
        assert_eq!(known(&mut port), expected, "{what}");
    }
    for depth in [1, 2, 16, 64, 1023] {
        let chip = Ecp::new(unconnected())
            .with_fifo_depth(depth)
            .with_phony_epp();
        let found = known(&mut Wire::new(Box::new(chip), true));
        assert_eq!(found.fifo.map(|f| usize::from(f.depth)), Some(depth));
        assert!(!found.epp);
    }
    let chip = Ecp::new(unconnected()).with_fifo_depth(1024);
    assert_eq!(known(&mut Wire::new(Box::new(chip), true)).fifo, None);
    let chip = Ecp::new(unconnected()).with_cnfg_a(0x84);
    let found = known(&mut Wire::new(Box::new(chip), true));
    assert_eq!(found.fifo.map(|f| f.width), Some(16));
    assert!(!found.modes().contains(IeeeModes::ECP_HW_NOIRQ));
    for clear in [
        TimeoutClear::ReadTwice,
        TimeoutClear::WriteOne,
        TimeoutClear::WriteZero,
    ] {
        let device = Box::new(peripheral());
        let chip = Epp::new(device)
            .with_timeout_clear(clear)
            .with_timeout_blocking_spp();
        assert!(
            known(&mut Wire::new(Box::new(chip), false)).epp,
            "{clear:?}"
        );
    }
}

#[test]
fn every_mode_moves_its_bytes_at_its_price() {
    for mode in MODES {
        let peripheral = peripheral();
        let (mut port, mut session) = start(mode, &peripheral);
        let what = format!("{mode:?}");
        let data = pattern(MANY);
        session.connect(&mut port, Direction::Forward).unwrap();
        let before = port.meter.accesses;
        let transfer = session.write(&mut port, &data);
        let cost = (port.meter.accesses - before) as f64 / MANY as f64;
        println!("{what}: {cost:.3} written");
        assert_eq!((transfer.bytes, transfer.result), (MANY, Ok(())), "{what}");
        assert!(peripheral.received() == data, "{what}");
        assert!(cost <= mode.3, "{what}: {cost}");
        assert_clean(&port, &peripheral, &what);

        peripheral.give(&data);
        session.connect(&mut port, Direction::Reverse).unwrap();
        let before = port.meter.accesses;
        let mut buffer = vec![0; MANY];
        let transfer = session.read(&mut port, &mut buffer);
        let cost = (port.meter.accesses - before) as f64 / MANY as f64;
        println!("{what}: {cost:.3} read");
        assert_eq!((transfer.bytes, transfer.result), (MANY, Ok(())), "{what}");
        assert!(buffer == data, "{what}");
        assert!(cost <= mode.4, "{what}: {cost}");
        session.terminate(&mut port);
        assert!(port.is_at_rest(), "{what}");
        assert_eq!(peripheral.phase(), Phase::Compatibility, "{what}");
        assert_eq!(peripheral.immediate_terminations(), 0, "{what}");
        assert_clean(&port, &peripheral, &what);
    }
}

/// A mebibyte each way, in every mode on every chip that has it.
#[test]
fn a_mebibyte_arrives_in_every_mode_on_every_chip() {
    let data = pattern(1 << 20);
    for kind in Kind::ALL {
        let modes = known(&mut chip(kind, &peripheral())).modes();
        for mode in modes.iter() {
            let none = IeeeModes::empty();
            let write_only = IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY;
            let read_only = IeeeModes::NIBBLE | IeeeModes::BYTE_BIDIR;
            if !read_only.contains(mode) {
                let peripheral = peripheral();
                let (mut port, mut session) = start(&(mode, none, kind, 0.0, 0.0), &peripheral);
                peripheral.clear_received();
                let transfer = session.write(&mut port, &data);
                assert_eq!(transfer.result, Ok(()), "{mode:?} {kind:?}");
                assert_eq!(transfer.bytes, data.len(), "{mode:?} {kind:?}");
                assert!(peripheral.received() == data, "{mode:?} {kind:?}");
                session.terminate(&mut port);
                assert_clean(&port, &peripheral, &format!("{mode:?} {kind:?}"));
            }
            if !write_only.contains(mode) {
                let peripheral = peripheral();
                let (mut port, mut session) = start(&(none, mode, kind, 0.0, 0.0), &peripheral);
                peripheral.give(&data);
                let mut buffer = vec![0; data.len()];
                let transfer = session.read(&mut port, &mut buffer);
                assert_eq!(transfer.result, Ok(()), "{mode:?} {kind:?}");
                assert_eq!(transfer.bytes, data.len(), "{mode:?} {kind:?}");
                assert!(buffer == data, "{mode:?} {kind:?}");
                session.terminate(&mut port);
                assert_clean(&port, &peripheral, &format!("{mode:?} {kind:?}"));
            }
        }
    }
}

#[test]
fn epp_moves_four_bytes_an_access() {
    let peripheral = peripheral();
    let mut port = chip(Kind::EcpEpp, &peripheral);
    let mut session = Session::new(Capabilities {
        epp_32: true,
        ..known(&mut port)
    });
    let epp = NegotiationMask {
        write: IeeeModes::EPP_HW,
        read: IeeeModes::EPP_HW,
    };
    assert_eq!(session.negotiate(&mut port, epp), Ok(epp));
    let data = pattern(MANY + 3);
    let before = port.meter.accesses;
    assert_eq!(session.write(&mut port, &data).bytes, data.len());
    let cost = (port.meter.accesses - before) as f64 / MANY as f64;
    assert!(cost <= 0.30, "{cost}");
    assert!(peripheral.received() == data);
    peripheral.give(&data);
    let mut buffer = vec![0; data.len()];
    assert_eq!(session.read(&mut port, &mut buffer).bytes, data.len());
    assert!(buffer == data);
    assert_clean(&port, &peripheral, "EPP 32");
}

#[test]
fn addresses_and_channels_arrive() {
    for mode in MODES {
        let peripheral = peripheral();
        let (mut port, mut session) = start(mode, &peripheral);
        let channel = if IeeeModes::EPP_ANY.contains(mode.0) {
            Channel::Epp(9)
        } else if IeeeModes::ECP_ANY.contains(mode.0) {
            Channel::Ecp(9)
        } else {
            continue;
        };
        session.set_address(Direction::Forward, 9).unwrap();
        session.set_address(Direction::Reverse, 9).unwrap();
        assert_eq!(session.write(&mut port, b"nine").result, Ok(()), "{mode:?}");
        assert_eq!(peripheral.received_on(channel), b"nine", "{mode:?}");
        peripheral.give_on(channel, b"back");
        let mut buffer = [0; 4];
        assert_eq!(session.read(&mut port, &mut buffer).bytes, 4, "{mode:?}");
        assert_eq!(&buffer, b"back", "{mode:?}");
        assert_clean(&port, &peripheral, &format!("{mode:?}"));
    }
}

#[test]
fn data_that_come_later_are_found() {
    for mode in MODES.iter().filter(|m| !IeeeModes::EPP_ANY.contains(m.1)) {
        let peripheral = peripheral();
        let (mut port, mut session) = start(mode, &peripheral);
        let what = format!("{mode:?}");
        let mut buffer = [0; 10];
        for round in [1, 2, 3] {
            let transfer = session.read(&mut port, &mut buffer);
            assert_eq!((transfer.bytes, transfer.result), (0, Ok(())), "{what}");
            peripheral.give(&[round, 7, 8]);
            port.now += 50 * MS;
            let transfer = session.read(&mut port, &mut buffer);
            assert_eq!((transfer.bytes, transfer.result), (3, Ok(())), "{what}");
            assert_eq!(buffer[..3], [round, 7, 8], "{what}");
        }
        session.terminate(&mut port);
        assert_clean(&port, &peripheral, &what);
    }
}

#[test]
fn reads_in_pieces_lose_nothing() {
    let data = pattern(200);
    for mode in MODES {
        let peripheral = peripheral();
        let (mut port, mut session) = start(mode, &peripheral);
        let what = format!("{mode:?}");
        peripheral.give(&data);
        let mut buffer = vec![0; 200];
        for (n, part) in buffer.chunks_mut(13).enumerate() {
            let transfer = session.read(&mut port, part);
            assert_eq!(
                (transfer.bytes, transfer.result),
                (part.len(), Ok(())),
                "{what}"
            );
            if n % 3 == 0 {
                assert_eq!(
                    session.write(&mut port, &[n as u8]).result,
                    Ok(()),
                    "{what}"
                );
            }
        }
        assert_eq!(buffer, data, "{what}");
        assert_eq!(peripheral.received(), [0, 3, 6, 9, 12, 15], "{what}");
        assert_clean(&port, &peripheral, &what);
    }
}

#[test]
fn the_device_id_survives_its_makers() {
    let text = b"MFG:Acme;MDL:One;CLS:PRINTER;";
    let n = text.len() as u8;
    for (kind, request) in [
        (Kind::Spp, extensibility::ID_NIBBLE),
        (Kind::Ps2, extensibility::ID_BYTE),
        (Kind::Ecp, extensibility::ID_BYTE),
        (Kind::Ps2, extensibility::ID_ECP),
        (Kind::Ecp, extensibility::ID_ECP),
    ] {
        for prefix in [
            [0, n + 2],
            [0, n],
            [n + 2, 0],
            [n, 0],
            [0, 0],
            [0, 99],
            [0xFF; 2],
        ] {
            let whole = [&prefix[..], text].concat();
            let peripheral = peripheral()
                .with_requests(&[request])
                .with_device_id(&whole);
            let mut port = chip(kind, &peripheral);
            let mut session = Session::new(known(&mut port));
            let mut sink = [0; 100];
            let length = session.device_id(&mut port, &mut sink).unwrap();
            assert_eq!(
                length.stored,
                whole.len(),
                "{kind:?} {request:#x} {prefix:?}"
            );
            let id = DeviceId(&sink[..length.stored]);
            assert_eq!(id.raw(), whole);
            assert_eq!(id.get(DeviceId::CLASS), Some(&b"PRINTER"[..]));
            assert!(port.is_at_rest());
            assert_eq!(peripheral.phase(), Phase::Compatibility);
            assert_clean(
                &port,
                &peripheral,
                &format!("{kind:?} {request:#x} {prefix:?}"),
            );
        }
    }
}

#[test]
fn modes_of_the_device_are_found() {
    let both = IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY;
    let nibble = both | IeeeModes::NIBBLE;
    let epp = IeeeModes::EPP_ANY;
    for (requests, found) in [
        (
            &extensibility::ALL[..],
            known(&mut chip(Kind::EcpEpp, &peripheral())).modes(),
        ),
        // EPP is not tried, for its end is a reset.
        (&[extensibility::NIBBLE], both | IeeeModes::NIBBLE | epp),
        (&[extensibility::BYTE], nibble | IeeeModes::BYTE_BIDIR | epp),
        (
            &[extensibility::ECP],
            nibble | IeeeModes::ECP_HW_NOIRQ | IeeeModes::ECP_SW | epp,
        ),
        // XFlag says nothing of nibble mode.
        (&[], nibble | epp),
    ] {
        let peripheral = peripheral().with_requests(requests);
        let mut port = chip(Kind::EcpEpp, &peripheral);
        let mut session = Session::new(known(&mut port));
        let none = IeeeModes::empty();
        assert_eq!(session.device_modes(&mut port, none), Ok(found));
        let before = port.meter.accesses;
        assert_eq!(session.device_modes(&mut port, both), Ok(found - both));
        assert_eq!(port.meter.accesses, before);
        assert!(port.is_at_rest());
        assert_eq!(peripheral.resets(), 0);
        assert_clean(&port, &peripheral, "caps");
    }
}

/// Cancels a transfer of 16 bytes at every access. The count is true, the lines are at rest, and
/// the next transfer goes on where this one ended.
#[test]
fn a_cancelled_transfer_tells_the_truth() {
    for mode in MODES {
        for response in [0, 5_000, 60_000] {
            if IeeeModes::EPP_ANY.contains(mode.0) && response > 5_000 {
                continue; // nWait within 10 us
            }
            for at in 0..600 {
                let late = cancelled_write(mode, response, at) & cancelled_read(mode, response, at);
                if late {
                    break;
                }
            }
        }
    }
}

/// A peripheral that takes longer than the grace of an interruption: the byte, and the turn of the
/// link, may be lost, but the chip is never told what it must not be.
#[test]
fn an_interruption_in_the_middle_of_a_turn_keeps_the_chips_rules() {
    for mode in MODES
        .iter()
        .filter(|mode| mode.1 == IeeeModes::ECP_HW_NOIRQ)
    {
        // Every wait is thousands of looks long.
        for at in (0..60_000).step_by(211) {
            let peripheral = peripheral().with_response(3 * MS);
            let (mut port, mut session) = start(mode, &peripheral);
            port.meter.interrupt.at = Some(port.meter.accesses + at);
            peripheral.give(&pattern(16));
            let transfer = session.read(&mut port, &mut [0; 16]);
            if transfer.result.is_ok() {
                break;
            }
            assert!(port.is_at_rest(), "access {at}");
            assert_eq!(port.chip.broken(), [], "access {at}");
        }
    }
}

/// A transfer that was interrupted, and what goes on from there.
struct Cancelled {
    peripheral: Peripheral1284,
    port: Wire,
    session: Session,
    what: String,
    bytes: usize,
    /// The interruption came too late: the transfer was whole.
    late: bool,
}

/// Interrupts a transfer at access `at`, with answers after `response`. The device has `given` for
/// the host.
fn cancelled(
    mode: &Mode,
    response: Nanos,
    at: u64,
    given: &[u8],
    transfer: impl FnOnce(&mut Session, &mut Wire) -> Transfer,
) -> Cancelled {
    let peripheral = peripheral()
        .with_response(response)
        .with_byte_time(response);
    let (mut port, mut session) = start(mode, &peripheral);
    port.epp_us = 4 * response / 1000 + 1;
    let what = format!("{mode:?}, {response} ns, access {at}");
    port.meter.interrupt.at = Some(port.meter.accesses + at);
    peripheral.give(given);
    let Transfer { bytes, result } = transfer(&mut session, &mut port);
    if result.is_err() {
        assert_eq!(result, Err(Fault::Interrupted), "{what}");
        assert!(rests(&port, &session), "{what}");
    }
    port.meter.interrupt.at = None;
    port.now += 100 * MS;
    Cancelled {
        peripheral,
        port,
        session,
        what,
        bytes,
        late: result.is_ok(),
    }
}

fn cancelled_write(mode: &Mode, response: Nanos, at: u64) -> bool {
    let data = pattern(16);
    let mut it = cancelled(mode, response, at, &[], |session, port| {
        session.write(port, &data)
    });
    let what = &it.what;
    let rest = it.session.write(&mut it.port, &data[it.bytes..]);
    assert_eq!(rest.result, Ok(()), "{what}");
    it.session.terminate(&mut it.port);
    it.port.now += 100 * MS;
    let _ = it.session.condition(&mut it.port);
    assert_eq!(it.peripheral.received(), data, "{what}");
    assert_clean(&it.port, &it.peripheral, what);
    it.late
}

fn cancelled_read(mode: &Mode, response: Nanos, at: u64) -> bool {
    let data = pattern(16);
    let mut buffer = [0; 16];
    let mut it = cancelled(mode, response, at, &data, |session, port| {
        session.read(port, &mut buffer)
    });
    let what = &it.what;
    let rest = &mut buffer[it.bytes..];
    let wanted = rest.len();
    let transfer = it.session.read(&mut it.port, rest);
    assert_eq!(
        (transfer.bytes, transfer.result),
        (wanted, Ok(())),
        "{what}"
    );
    assert_eq!(buffer[..], data, "{what}");
    assert_clean(&it.port, &it.peripheral, what);
    it.late
}

/// Whatever a device does at whatever byte or event: the operations end in time, at rest, and with
/// a count that is not more than what arrived.
#[test]
fn misbehaviour_ends() {
    let moments: &[usize] = &[0, 1, 7, 16, 20, 24, 31];
    for mode in MODES {
        for misbehaviour in Misbehaviour::EXAMPLES {
            for moment in moments {
                let peripheral = peripheral();
                let (mut port, mut session) = start(mode, &peripheral);
                let what = format!("{mode:?}, {misbehaviour:?} at byte {moment}");
                peripheral.give(&pattern(16));
                peripheral.misbehave_at_byte(*moment, misbehaviour);
                // A busy printer may take for ever; the program gives up after ten seconds.
                port.meter.interrupt.time = Some(port.milliseconds() + 10_000);
                let begin = port.milliseconds();
                let transfer = session.write(&mut port, &pattern(16));
                let arrived = peripheral.received().len();
                // A dead device may still look like a printer that is ready, and a line that does
                // not move like an answer.
                let told = mode.0.bits() & 3 != 0 && misbehaviour == Misbehaviour::Dead
                    || misbehaviour == Misbehaviour::WaitStuck(true)
                    || misbehaviour == Misbehaviour::Condition(Condition::Unplugged)
                        && mode.2 == Kind::Epp17;
                assert!(
                    told || transfer.bytes <= arrived,
                    "{what}: {transfer:?} of {arrived}"
                );
                if transfer.result.is_err() {
                    assert!(rests(&port, &session), "{what}");
                }
                let mut buffer = [0; 16];
                let transfer = session.read(&mut port, &mut buffer);
                if transfer.result.is_err() {
                    assert!(rests(&port, &session), "{what}");
                }
                let known = !matches!(
                    misbehaviour,
                    Misbehaviour::Condition(_) | Misbehaviour::AckLow
                ) && !IeeeModes::EPP_ANY.contains(mode.1);
                if known {
                    assert_eq!(
                        buffer[..transfer.bytes],
                        pattern(16)[..transfer.bytes],
                        "{what}"
                    );
                }
                session.terminate(&mut port);
                assert!(port.is_at_rest(), "{what}");
                let took = port.milliseconds() - begin;
                assert!(took < 11_000, "{what}: {took} ms");
            }
        }
    }
}

#[test]
fn stalled_ecp_goes_on_after_a_recovery() {
    for mode in MODES.iter().filter(|m| IeeeModes::ECP_ANY.contains(m.0)) {
        for byte in [0, 1, 15, 16, 17, 39] {
            let peripheral = peripheral();
            let (mut port, mut session) = start(mode, &peripheral);
            let what = format!("{mode:?} at {byte}");
            peripheral.misbehave_at_byte(byte, Misbehaviour::StallForward);
            if byte == 0 {
                peripheral.misbehave(Misbehaviour::StallForward);
            }
            let transfer = session.write(&mut port, &pattern(40));
            assert_eq!((transfer.bytes, transfer.result), (40, Ok(())), "{what}");
            assert_eq!(peripheral.received(), pattern(40), "{what}");
            assert_eq!(peripheral.recoveries(), 1, "{what}");
            assert!(port.milliseconds() < 5000, "{what}");
            // Emptying the FIFO is part of it.
            let broken = port.chip.broken();
            assert!(
                broken
                    .iter()
                    .all(|v| matches!(v.kind, ChipViolationKind::BytesLost(_))),
                "{what}: {broken:?}"
            );
            assert_eq!(peripheral.violations(), [], "{what}");
        }
    }
}

#[test]
fn stalled_ecp_without_a_recovery_fails() {
    for mode in MODES.iter().filter(|m| IeeeModes::ECP_ANY.contains(m.0)) {
        for byte in [1, 15, 16, 17, 39] {
            let peripheral = peripheral();
            let (mut port, mut session) = start(mode, &peripheral);
            let what = format!("{mode:?} at {byte}");
            peripheral.misbehave_at_byte(byte, Misbehaviour::StallForwardForever);
            let transfer = session.write(&mut port, &pattern(40));
            assert_eq!(transfer.result, Err(Fault::NoAnswer(73)), "{what}");
            assert_eq!(transfer.bytes, byte, "{what}");
            assert_eq!(peripheral.received(), pattern(byte), "{what}");
            assert!(port.is_at_rest());
            assert!(port.milliseconds() < 5000, "{what}");
        }
    }
}

#[test]
fn a_printer_in_trouble_says_which() {
    for mode in MODES.iter().filter(|m| m.0.bits() & 3 != 0) {
        for (condition, status) in [
            (Condition::PaperEmpty, Status::DEVICE_PAPER_EMPTY),
            (Condition::Fault, Status::DEVICE_OFF_LINE),
            (Condition::PoweredOff, Status::DEVICE_POWERED_OFF),
        ] {
            for byte in [0, 1, 15, 16, 20] {
                let peripheral = peripheral().with_byte_time(20_000);
                let (mut port, mut session) = start(mode, &peripheral);
                let what = format!("{mode:?}, {condition:?} at {byte}");
                if byte == 0 {
                    peripheral.set_condition(condition);
                } else {
                    peripheral.misbehave_at_byte(byte, Misbehaviour::Condition(condition));
                }
                let transfer = session.write(&mut port, &pattern(40));
                assert_eq!(
                    transfer.result.map_err(Fault::status),
                    Err(status),
                    "{what}"
                );
                let arrived = peripheral.received().len();
                // A FIFO does not notice that the power is gone: its last burst does not count.
                let absent = condition == Condition::PoweredOff && mode.2 == Kind::Ecp;
                assert!(
                    transfer.bytes == arrived
                        || transfer.bytes + 1 == arrived
                        || absent && transfer.bytes < arrived,
                    "{what}: {} of {arrived}",
                    transfer.bytes
                );
                assert!(port.is_at_rest(), "{what}");
                assert!(port.milliseconds() < 100, "{what}");
            }
        }
    }
}

/// A device that is busy for a while after each byte sets the pace, and the processor is free for
/// others meanwhile.
#[test]
fn a_slow_device_keeps_its_pace_and_the_processor() {
    let bytes = 1000;
    for mode in MODES {
        for byte_time in [50_000, 200_000] {
            if IeeeModes::EPP_ANY.contains(mode.0) {
                continue; // nWait within 10 us
            }
            let peripheral = peripheral().with_byte_time(byte_time);
            let (mut port, mut session) = start(mode, &peripheral);
            let what = format!("{mode:?}, {byte_time} ns");
            session.connect(&mut port, Direction::Forward).unwrap();
            let (begin, stalled) = (port.now, port.meter.stalled);
            let transfer = session.write(&mut port, &pattern(bytes));
            assert_eq!((transfer.bytes, transfer.result), (bytes, Ok(())), "{what}");
            let took = (port.now - begin) as f64;
            let pace = byte_time as f64 * bytes as f64;
            let stalled = (port.meter.stalled - stalled) as f64 * 1000.0;
            println!(
                "{what}: {:.3} of its pace, {:.3} stalled",
                took / pace,
                stalled / took
            );
            assert!(stalled < 0.2 * took, "{what}: stalled {stalled} of {took}");
            assert!(took < 1.1 * pace, "{what}: {took} for {pace}");
        }
    }
}

#[test]
fn a_chip_that_hides_its_last_byte() {
    for mode in MODES.iter().filter(|m| m.2 == Kind::Ecp) {
        let peripheral = peripheral().with_response(20_000);
        let device = Box::new(peripheral.clone());
        let mut port = Wire::new(Box::new(Ecp::new(device).with_cnfg_a(0x90)), true);
        let mut session = Session::new(known(&mut port));
        let offered = NegotiationMask {
            write: mode.0,
            read: mode.1,
        };
        session.negotiate(&mut port, offered).unwrap();
        for _ in 0..3 {
            assert_eq!(session.write(&mut port, &pattern(40)).bytes, 40);
        }
        assert_eq!(
            peripheral.received(),
            [pattern(40), pattern(40), pattern(40)].concat()
        );
        assert_clean(&port, &peripheral, &format!("{mode:?}"));
    }
}

#[test]
fn a_reset_ends_every_mode() {
    for mode in MODES {
        let peripheral = peripheral();
        let (mut port, mut session) = start(mode, &peripheral);
        session.connect(&mut port, Direction::Reverse).unwrap();
        let resets = peripheral.resets();
        assert!(session.initialize(&mut port).unwrap().is_ready());
        assert!(peripheral.resets() > resets, "{mode:?}");
        assert_eq!(peripheral.phase(), Phase::Compatibility);
        assert!(port.is_at_rest());
        let broken = peripheral.violations();
        assert!(
            broken
                .iter()
                .all(|v| v.kind != ViolationKind::ResetTooShort),
            "{broken:?}"
        );
    }
}

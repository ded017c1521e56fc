//! The protocols against a peripheral that takes part, one that does not, and one that stops.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers"
)]

mod bench;
mod cases;

use bench::{Bench, Chip, known};
use cases::cases;
use parscan_core::{
    ieee1284::{Capabilities, Condition, DeviceId, Direction, Dsr, Fault, Session, Transfer},
    ioctl::{
        Status,
        parallel::{IeeeModes, NegotiationMask},
    },
};
use proptest::prelude::*;

/// A mode under test: for writing, for reading, and the chip that it needs.
struct Mode {
    name: &'static str,
    write: IeeeModes,
    read: IeeeModes,
    chip: Chip,
    /// Port accesses a byte, at most, with a peripheral that is always ready.
    write_cost: f64,
    read_cost: f64,
}

const NONE: IeeeModes = IeeeModes::empty();

const MODES: &[Mode] = &[
    Mode {
        name: "Centronics, nibble",
        write: IeeeModes::CENTRONICS,
        read: IeeeModes::NIBBLE,
        chip: Chip::SPP,
        write_cost: 4.01,
        read_cost: 8.1,
    },
    Mode {
        name: "fast Centronics, byte",
        write: IeeeModes::IEEE_COMPATIBILITY,
        read: IeeeModes::BYTE_BIDIR,
        chip: Chip::ECP,
        write_cost: 1.2,
        read_cost: 7.1,
    },
    Mode {
        name: "byte, without an ECR",
        write: IeeeModes::IEEE_COMPATIBILITY,
        read: IeeeModes::BYTE_BIDIR,
        chip: Chip::PS2,
        write_cost: 4.01,
        read_cost: 7.1,
    },
    Mode {
        name: "EPP",
        write: IeeeModes::EPP_HW,
        read: IeeeModes::EPP_HW,
        chip: Chip::EPP,
        write_cost: 1.2,
        read_cost: 1.2,
    },
    Mode {
        name: "EPP, with an ECR",
        write: IeeeModes::EPP_HW,
        read: IeeeModes::EPP_HW,
        chip: Chip::ALL,
        write_cost: 1.2,
        read_cost: 1.2,
    },
    Mode {
        name: "EPP by software",
        write: IeeeModes::EPP_SW,
        read: IeeeModes::EPP_SW,
        chip: Chip::PS2,
        write_cost: 5.1,
        read_cost: 5.1,
    },
    Mode {
        name: "ECP",
        write: IeeeModes::ECP_HW_NOIRQ,
        read: IeeeModes::ECP_HW_NOIRQ,
        chip: Chip::ECP,
        write_cost: 1.2,
        read_cost: 1.2,
    },
    Mode {
        name: "ECP by software",
        write: IeeeModes::ECP_SW,
        read: IeeeModes::ECP_SW,
        chip: Chip::PS2,
        write_cost: 5.1,
        read_cost: 5.1,
    },
];

/// At rest; or in EPP, which stays until another mode is needed.
fn rests(bench: &Bench, session: &Session) -> bool {
    bench.is_at_rest() || session.is_connected() && bench.dcr == 0x04
}

/// How many bytes tests move where more say more.
const MANY: usize = if cfg!(miri) { 40 } else { 8000 };

/// Bytes without runs.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n * 7 + n / 256) as u8 ^ 0x5A)
        .collect()
}

/// Just so many bytes were moved, and all went well.
#[track_caller]
fn assert_moved(transfer: &Transfer, bytes: usize, what: &str) {
    assert_eq!((transfer.bytes, transfer.result), (bytes, Ok(())), "{what}");
}

impl Mode {
    /// A port whose session uses the mode.
    fn start(&self) -> (Bench, Session) {
        let mut bench = Bench::new(self.chip);
        let capabilities = known(&mut bench);
        assert_eq!(bench.violations, [] as [&str; 0], "{}", self.name);
        let mut session = Session::new(capabilities);
        let offered = NegotiationMask {
            write: self.write,
            read: self.read,
        };
        assert_eq!(
            session.negotiate(&mut bench, offered),
            Ok(offered),
            "{}",
            self.name
        );
        assert!(rests(&bench, &session), "{}", self.name);
        bench.device.resets = 0;
        (bench, session)
    }
}

#[test]
fn chips_are_told_apart() {
    let spp = Capabilities::SPP;
    let ps2 = Capabilities {
        byte: Some(true),
        ..spp
    };
    let epp = Capabilities { epp: true, ..ps2 };
    for write_only in [false, true] {
        for (chip, expected) in [(Chip::SPP, spp), (Chip::PS2, ps2), (Chip::EPP, epp)] {
            let mut bench = Bench::new(Chip { write_only, ..chip });
            assert_eq!(known(&mut bench), expected);
            assert!(bench.is_at_rest());
            assert_eq!(bench.device.received, []);
            assert_eq!(bench.device.resets, 0);
        }
        for chip in [Chip::ECP, Chip::ALL] {
            let mut bench = Bench::new(Chip { write_only, ..chip });
            let found = known(&mut bench);
            assert!(found.spp && found.byte == Some(true) && found.ecr);
            assert_eq!(found.epp, chip.epp);
            let fifo = found.fifo.unwrap();
            assert_eq!((fifo.depth, fifo.width), (16, 8));
            assert!(fifo.counts_transmitter);
            assert!(bench.is_at_rest());
            assert_eq!(bench.violations, [] as [&str; 0]);
        }
    }
}

#[test]
fn capability_bits_are_those_of_parallel_h() {
    let mut all = known(&mut Bench::new(Chip::ALL));
    assert_eq!(all.ppt(), 0x0B);
    all.epp_32 = true;
    assert_eq!(all.ppt(), 0x0F);
    assert_eq!(known(&mut Bench::new(Chip::ECP)).ppt(), 0x09);
    assert_eq!(known(&mut Bench::new(Chip::EPP)).ppt(), 0x0A);
    assert_eq!(known(&mut Bench::new(Chip::SPP)).ppt(), 0);
}

/// Moves many bytes, at no more than this many accesses a byte, and goes.
fn moved_at_its_price(
    mode: &Mode,
    (mut bench, mut session): (Bench, Session),
    most: f64,
    transfer: impl FnOnce(&mut Session, &mut Bench) -> Transfer,
) -> Bench {
    let before = bench.meter.accesses;
    let transfer = transfer(&mut session, &mut bench);
    let cost = (bench.meter.accesses - before) as f64 / MANY as f64;
    println!("{}: {cost:.3} accesses a byte", mode.name);
    assert_moved(&transfer, MANY, mode.name);
    if !cfg!(miri) {
        assert!(cost <= most, "{}: {cost}", mode.name);
    }
    session.terminate(&mut bench);
    assert!(bench.is_at_rest(), "{}", mode.name);
    assert_eq!(bench.violations, [] as [&str; 0], "{}", mode.name);
    bench
}

#[test]
fn every_mode_writes_at_its_price() {
    for mode in MODES {
        let (mut bench, mut session) = mode.start();
        let data = pattern(MANY);
        session.connect(&mut bench, Direction::Forward).unwrap();
        let ready = (bench, session);
        let bench = moved_at_its_price(mode, ready, mode.write_cost, |session, bench| {
            session.write(bench, &data)
        });
        assert!(bench.device.received == data, "{}", mode.name);
    }
}

#[test]
fn every_mode_reads_at_its_price() {
    for mode in MODES {
        let (mut bench, mut session) = mode.start();
        let data = pattern(MANY);
        bench.device.source = data.iter().copied().collect();
        session.connect(&mut bench, Direction::Reverse).unwrap();
        let mut buffer = vec![0; MANY];
        moved_at_its_price(mode, (bench, session), mode.read_cost, |session, bench| {
            session.read(bench, &mut buffer)
        });
        assert!(buffer == data, "{}", mode.name);
    }
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_read_gives_what_there_is() {
    for mode in MODES
        .iter()
        .filter(|m| !IeeeModes::EPP_ANY.contains(m.read))
    {
        let (mut bench, mut session) = mode.start();
        let mut buffer = [0; 10];
        let transfer = session.read(&mut bench, &mut buffer);
        assert_moved(&transfer, 0, mode.name);
        bench.device.source.extend([1, 2, 3]);
        if mode.read == IeeeModes::ECP_SW {
            // The peripheral of this bench offers a byte only when something moves.
            session.terminate(&mut bench);
        }
        if matches!(mode.read, IeeeModes::NIBBLE | IeeeModes::BYTE_BIDIR) {
            // Reverse idle: the peripheral pulses nAck with nFault low, events 18 and 19.
            bench.device.offer_in_reverse_idle(bench.us);
        }
        let transfer = session.read(&mut bench, &mut buffer);
        assert_moved(&transfer, 3, mode.name);
        assert_eq!(buffer[..3], [1, 2, 3], "{}", mode.name);
        let transfer = session.read(&mut bench, &mut []);
        assert_moved(&transfer, 0, mode.name);
        session.terminate(&mut bench);
        assert!(bench.is_at_rest(), "{}", mode.name);
    }
}

#[test]
fn writes_and_reads_alternate() {
    for mode in MODES {
        let (mut bench, mut session) = mode.start();
        for round in 0..3u8 {
            bench.device.received.clear();
            let data = pattern(40 + usize::from(round));
            let transfer = session.write(&mut bench, &data);
            assert_eq!(transfer.result, Ok(()), "{}", mode.name);
            assert_eq!(bench.device.received, data, "{}", mode.name);
            bench.device.source = data.iter().copied().collect();
            let mut buffer = vec![0; data.len()];
            // In pieces: ECP by hardware has to keep what its FIFO took too much.
            let (first, second) = buffer.split_at_mut(7);
            let transfer = session.read(&mut bench, first);
            assert_moved(&transfer, 7, mode.name);
            let transfer = session.read(&mut bench, second);
            assert_eq!(transfer.result, Ok(()), "{}", mode.name);
            assert_eq!(transfer.bytes, data.len() - 7, "{}", mode.name);
            assert_eq!(buffer, data, "{}", mode.name);
        }
        assert_eq!(bench.violations, [] as [&str; 0], "{}", mode.name);
    }
}

/// Whether a transfer of 16 bytes is whole, and not interrupted; then the port is at rest.
fn is_whole(transfer: &Transfer, bench: &Bench, session: &Session, what: &str) -> bool {
    let whole = transfer.result.is_ok();
    if whole {
        assert_eq!(transfer.bytes, 16);
    } else {
        assert_eq!(transfer.result, Err(Fault::Interrupted), "{what}");
        assert!(rests(bench, session), "{what}");
    }
    whole
}

/// With answers after `delay` and an interruption at access `at`, moves 16 bytes; `false` when it
/// came too late to interrupt anything.
fn interrupted_write(mode: &Mode, delay: u64, at: u64) -> bool {
    let (mut bench, mut session) = mode.start();
    bench.device.delay_us = delay;
    bench.device.busy_us = delay;
    bench.chip.fifo_us = delay.max(1);
    bench.meter.interrupt.at = Some(bench.meter.accesses + at);
    let data = pattern(16);
    let transfer = session.write(&mut bench, &data);
    let late = is_whole(
        &transfer,
        &bench,
        &session,
        &format!("{} at {at}", mode.name),
    );
    assert_eq!(
        bench.device.received.len(),
        transfer.bytes,
        "{} at {at}, {delay} us",
        mode.name
    );
    assert_eq!(bench.device.received, data[..transfer.bytes]);
    bench.meter.interrupt.at = None;
    bench.us += 100_000;
    bench.violations.clear();
    let transfer = session.write(&mut bench, b"next");
    assert_eq!(
        (transfer.bytes, transfer.result),
        (4, Ok(())),
        "{} at {at}",
        mode.name
    );
    assert!(bench.device.received.ends_with(b"next"));
    assert_eq!(bench.violations, [] as [&str; 0], "{} at {at}", mode.name);
    late
}

fn interrupted_read(mode: &Mode, delay: u64, at: u64) -> bool {
    let (mut bench, mut session) = mode.start();
    bench.device.delay_us = delay;
    bench.chip.fifo_us = delay.max(1);
    bench.meter.interrupt.at = Some(bench.meter.accesses + at);
    let data = pattern(16);
    bench.device.source = data.iter().copied().collect();
    let mut buffer = [0; 16];
    let transfer = session.read(&mut bench, &mut buffer);
    let late = is_whole(
        &transfer,
        &bench,
        &session,
        &format!("{} at {at}", mode.name),
    );
    assert_eq!(buffer[..transfer.bytes], data[..transfer.bytes]);
    bench.meter.interrupt.at = None;
    bench.us += 100_000;
    let taken = transfer.bytes;
    let transfer = session.read(&mut bench, &mut buffer[taken..]);
    assert_eq!(
        (transfer.bytes, transfer.result),
        (16 - taken, Ok(())),
        "{} at {at}, {delay} us",
        mode.name
    );
    assert_eq!(buffer[..], data[..], "{} at {at}, {delay} us", mode.name);
    late
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_cancelled_transfer_tells_the_truth() {
    for mode in MODES {
        for delay in [0, 30, 200] {
            if IeeeModes::EPP_ANY.contains(mode.write) && delay > 0 {
                continue; // nWait within 10 us
            }
            for at in 0..1000 {
                if interrupted_write(mode, delay, at) {
                    break;
                }
            }
            for at in 0..1000 {
                if interrupted_read(mode, delay, at) {
                    break;
                }
            }
        }
    }
}

/// What ends a peripheral's part, event by event: the operation must end, at rest, in time.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_peripheral_that_stops_is_left() {
    for mode in MODES {
        for after in 0..60 {
            let (mut bench, mut session) = mode.start();
            bench.device.dead_after = Some(after);
            bench.meter.interrupt.time = Some(bench.us + 5_000_000);
            bench.device.source = pattern(16).into();
            let start = bench.us;
            let mut buffer = [0; 16];
            let transfer = session.read(&mut bench, &mut buffer);
            assert!(transfer.bytes <= 16);
            assert_eq!(buffer[..transfer.bytes], pattern(16)[..transfer.bytes]);
            let transfer = session.write(&mut bench, &pattern(16));
            // Lines that are stuck at "ready" look like a printer.
            let told = mode.write.bits() & 3 != 0;
            assert!(
                told || transfer.bytes <= bench.device.received.len(),
                "{} after {after}: {} of {}",
                mode.name,
                transfer.bytes,
                bench.device.received.len()
            );
            if transfer.result.is_err() {
                assert!(rests(&bench, &session), "{} after {after}", mode.name);
            }
            session.terminate(&mut bench);
            assert!(bench.is_at_rest(), "{} after {after}", mode.name);
            let seconds = (bench.us - start) / 1_000_000;
            assert!(seconds < 20, "{} after {after}: {seconds} s", mode.name);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn nobody_who_speaks_ieee_1284() {
    let mut bench = Bench::new(Chip::ALL);
    bench.device.is_1284 = false;
    let mut session = Session::new(known(&mut bench));
    let start = bench.us;
    let mut buffer = [0; 4];
    let transfer = session.read(&mut bench, &mut buffer);
    assert_eq!(
        (transfer.bytes, transfer.result),
        (0, Err(Fault::NotIeee1284))
    );
    let waited = bench.us - start;
    assert!((35_000..80_000).contains(&waited), "{waited} us");
    assert!(bench.is_at_rest());
    assert_eq!(
        session.device_id(&mut bench, &mut buffer),
        Err(Fault::NotIeee1284)
    );
    assert_eq!(
        session.device_modes(&mut bench, NONE),
        Ok(IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY)
    );
    assert_eq!(session.write(&mut bench, b"text").result, Ok(()));
    assert_eq!(bench.device.received, b"text");
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn an_answer_just_inside_the_limit_is_taken() {
    let (mut bench, mut session) = MODES[0].start();
    bench.device.delay_us = 34_900;
    bench.device.source.extend([0xA5]);
    let mut buffer = [0; 1];
    let transfer = session.read(&mut bench, &mut buffer);
    assert_eq!((transfer.bytes, transfer.result), (1, Ok(())));
    assert_eq!(buffer, [0xA5]);
}

#[test]
fn the_fastest_common_modes_are_chosen() {
    let any = NegotiationMask {
        write: IeeeModes::all(),
        read: IeeeModes::all(),
    };
    for (supports, write, read) in [
        (
            &[0x00, 0x01, 0x10, 0x40][..],
            IeeeModes::ECP_HW_NOIRQ,
            IeeeModes::ECP_HW_NOIRQ,
        ),
        (&[0x00, 0x01, 0x40], IeeeModes::EPP_HW, IeeeModes::EPP_HW),
        (
            &[0x00, 0x01],
            IeeeModes::IEEE_COMPATIBILITY,
            IeeeModes::BYTE_BIDIR,
        ),
        (&[0x00], IeeeModes::IEEE_COMPATIBILITY, IeeeModes::NIBBLE),
    ] {
        let mut bench = Bench::new(Chip::ALL);
        bench.device.supports = supports.to_vec();
        let mut session = Session::new(known(&mut bench));
        assert_eq!(session.modes(), NegotiationMask::DEFAULT);
        let chosen = NegotiationMask { write, read };
        assert_eq!(session.negotiate(&mut bench, any), Ok(chosen));
        assert_eq!(session.modes(), chosen);
        assert_eq!(session.is_connected(), write == IeeeModes::EPP_HW);
        assert!(rests(&bench, &session));
    }
}

#[test]
fn a_mask_that_fits_nothing_changes_nothing() {
    let mut bench = Bench::new(Chip::SPP);
    bench.device.supports = vec![];
    let mut session = Session::new(known(&mut bench));
    for (write, read, fault) in [
        (IeeeModes::ECP_ANY, NONE, Fault::Unsupported),
        (NONE, IeeeModes::BYTE_BIDIR, Fault::Unsupported),
        (IeeeModes::NIBBLE, NONE, Fault::Unsupported),
    ] {
        assert_eq!(
            session.negotiate(&mut bench, NegotiationMask { write, read }),
            Err(fault)
        );
        assert_eq!(session.modes(), NegotiationMask::DEFAULT);
        assert!(bench.is_at_rest());
    }
    let none = NegotiationMask {
        write: NONE,
        read: NONE,
    };
    assert_eq!(
        session.negotiate(&mut bench, none),
        Ok(NegotiationMask::DEFAULT)
    );
}

#[test]
fn a_connected_mode_is_not_negotiated_over() {
    let (mut bench, mut session) = MODES[0].start();
    session.connect(&mut bench, Direction::Reverse).unwrap();
    assert!(session.is_connected());
    let fault = session
        .negotiate(&mut bench, NegotiationMask::DEFAULT)
        .unwrap_err();
    assert_eq!(fault.status(), Status::DEVICE_PROTOCOL_ERROR);
    assert!(session.is_connected());
    session.terminate(&mut bench);
    assert!(!session.is_connected() && bench.is_at_rest());
    session.terminate(&mut bench);
}

#[test]
fn addresses_go_with_the_next_transfer() {
    for mode in MODES {
        let (mut bench, mut session) = mode.start();
        session.set_address(Direction::Forward, 5).unwrap();
        for _ in 0..2 {
            assert_eq!(session.write(&mut bench, b"ab").result, Ok(()));
        }
        let sent = if IeeeModes::ECP_ANY.contains(mode.write) {
            assert_eq!(
                session.set_address(Direction::Forward, 128),
                Err(Fault::Address)
            );
            &bench.device.commands
        } else {
            session.set_address(Direction::Forward, 200).unwrap();
            &bench.device.addresses
        };
        if IeeeModes::EPP_ANY.contains(mode.write) || IeeeModes::ECP_ANY.contains(mode.write) {
            assert_eq!(sent, &[5], "{}", mode.name);
        } else {
            assert_eq!(sent, &[], "{}", mode.name);
        }
        assert_eq!(bench.device.received, b"abab", "{}", mode.name);
    }
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn trouble_ends_a_write_with_its_name() {
    for mode in MODES.iter().filter(|m| m.write.bits() & 3 != 0) {
        for (lines, status) in [
            (0x70, Status::DEVICE_PAPER_EMPTY),
            (0x40, Status::DEVICE_OFF_LINE),
            (0x50, Status::DEVICE_OFF_LINE),
            (0x00, Status::DEVICE_POWERED_OFF),
        ] {
            for at in [1, 7, 16, 17, 39, 40] {
                let (mut bench, mut session) = mode.start();
                bench.device.trouble = Some((at, lines));
                let transfer = session.write(&mut bench, &pattern(40));
                assert_eq!(bench.device.received, pattern(at), "{}", mode.name);
                // The last burst of a FIFO does not count when no device is there any more.
                let absent = lines == 0x00 && mode.chip.fifo > 0;
                assert!(
                    transfer.bytes == at || absent && transfer.bytes < at,
                    "{} at {at} {lines:#x}: {}",
                    mode.name,
                    transfer.bytes
                );
                if at < 40 {
                    assert_eq!(transfer.result.map_err(Fault::status), Err(status));
                    assert!(bench.is_at_rest());
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_stalled_ecp_peripheral_is_recovered() {
    for mode in MODES
        .iter()
        .filter(|m| IeeeModes::ECP_ANY.contains(m.write))
    {
        for at in [0, 1, 15, 16, 20, 39] {
            let (mut bench, mut session) = mode.start();
            bench.device.stall_at = Some(at);
            let transfer = session.write(&mut bench, &pattern(40));
            assert_moved(&transfer, 40, mode.name);
            assert_eq!(bench.device.recoveries, 1, "{} at {at}", mode.name);
            assert_eq!(bench.device.received, pattern(40), "{} at {at}", mode.name);
            assert!(bench.us < 4_000_000, "{} us", bench.us);
        }
    }
}

#[test]
fn an_epp_time_out_is_told_and_cleared() {
    for mode in MODES
        .iter()
        .filter(|m| IeeeModes::EPP_ANY.contains(m.write))
    {
        let (mut bench, mut session) = mode.start();
        bench.device.stall_at = Some(40);
        let transfer = session.write(&mut bench, &pattern(64));
        assert_eq!(transfer.result, Err(Fault::EppTimeOut), "{}", mode.name);
        let least = if mode.write == IeeeModes::EPP_SW {
            40
        } else {
            // What the block of the time-out moved is not known.
            32
        };
        assert_eq!(transfer.bytes, least, "{}", mode.name);
        assert!(bench.is_at_rest());
        bench.device.stall_at = None;
        bench.device.received.clear();
        let transfer = session.write(&mut bench, &pattern(64));
        assert_moved(&transfer, 64, mode.name);
    }
}

#[test]
fn runs_are_encoded_and_decoded() {
    let mode = &MODES[7];
    let (mut bench, mut session) = mode.start();
    let mut data = vec![7; 300];
    data.extend([1, 2, 2, 3, 3, 3]);
    let before = bench.meter.accesses;
    let transfer = session.write(&mut bench, &data);
    assert_eq!((transfer.bytes, transfer.result), (306, Ok(())));
    assert!(bench.device.rle_negotiated);
    assert_eq!(bench.device.received, data);
    assert!(
        bench.meter.accesses - before < 150,
        "{}",
        bench.meter.accesses - before
    );

    bench.device.runs.extend([(127, 9), (0, 8), (2, 7)]);
    let mut buffer = [0; 100];
    let transfer = session.read(&mut bench, &mut buffer);
    assert_eq!((transfer.bytes, transfer.result), (100, Ok(())));
    assert_eq!(buffer, [9; 100]);
    let transfer = session.read(&mut bench, &mut buffer);
    assert_eq!((transfer.bytes, transfer.result), (32, Ok(())));
    assert_eq!(buffer[..32], [vec![9; 28], vec![8], vec![7; 3]].concat());
}

#[test]
fn the_device_id_comes_in_every_mode() {
    let id = b"\x00\x16MFG:Acme;MDL:One;\r\n;x";
    for (chip, supports) in [
        (Chip::SPP, &[0x04][..]),
        (Chip::PS2, &[0x05]),
        (Chip::ECP, &[0x05]),
        (Chip::PS2, &[0x14]),
        (Chip::ECP, &[0x14]),
    ] {
        let mut bench = Bench::new(chip);
        bench.device.supports = supports.to_vec();
        bench.device.id = id.to_vec();
        let mut session = Session::new(known(&mut bench));
        let mut sink = [0; 64];
        let length = session.device_id(&mut bench, &mut sink).unwrap();
        assert_eq!((length.stored, length.total), (22, 22), "{supports:?}");
        let read = DeviceId(&sink[..length.stored]);
        assert_eq!(read.raw(), &id[..22]);
        assert_eq!(read.get(DeviceId::MODEL), Some(&b"One"[..]));
        assert!(bench.is_at_rest());
        assert_eq!(bench.violations, [] as [&str; 0]);
    }
    let mut bench = Bench::new(Chip::ECP);
    bench.device.supports = vec![0x00];
    let mut session = Session::new(known(&mut bench));
    assert_eq!(
        session.device_id(&mut bench, &mut [0; 9]),
        Err(Fault::Refused)
    );
    assert!(bench.is_at_rest());
}

/// A peripheral that is busy for a while after each byte sets the pace, and the processor is free
/// for others meanwhile.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_slow_peripheral_keeps_its_pace_and_the_processor() {
    let bytes = 1000;
    for mode in MODES.iter().filter(|m| m.write.bits() & 3 != 0) {
        for busy in [50, 200, 1000] {
            let (mut bench, mut session) = mode.start();
            bench.device.busy_us = busy;
            bench.chip.fifo_us = 1;
            let start = bench.us;
            let stalled = bench.meter.stalled;
            let transfer = session.write(&mut bench, &pattern(bytes));
            assert_eq!(transfer.result, Ok(()));
            let took = bench.us - start;
            let pace = busy * bytes as u64;
            assert!(took * 10 <= pace * 11, "{}: {took} for {pace}", mode.name);
            let stalled = bench.meter.stalled - stalled;
            assert!(
                stalled * 5 <= took,
                "{}: stalled {stalled} of {took}",
                mode.name
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn a_printer_that_pauses_costs_little() {
    let (mut bench, mut session) = MODES[0].start();
    bench.device.busy_us = 2_000_000;
    let before = bench.meter.accesses;
    assert_eq!(session.write(&mut bench, &pattern(3)).bytes, 3);
    // Four seconds of pause, most of them slept through.
    assert!(
        bench.meter.accesses - before < 6000,
        "{}",
        bench.meter.accesses - before
    );
    assert!(
        (100..500).contains(&bench.meter.sleeps),
        "{}",
        bench.meter.sleeps
    );
}

#[test]
#[cfg_attr(miri, ignore = "long")]
fn initialize_drops_everything() {
    for mode in MODES {
        let (mut bench, mut session) = mode.start();
        session.connect(&mut bench, Direction::Reverse).unwrap();
        bench.device.resets = 0;
        assert_eq!(
            session.initialize(&mut bench).map(Condition::status),
            Ok(Status::SUCCESS)
        );
        assert!(bench.device.resets >= 1);
        assert_eq!(session.modes(), NegotiationMask::DEFAULT);
        assert!(!session.is_connected() && bench.is_at_rest());
        session.connect(&mut bench, Direction::Reverse).unwrap();
        assert!(session.condition(&mut bench).unwrap().is_ready());
        assert!(!session.is_connected() && bench.is_at_rest());
    }
}

#[test]
fn the_status_lines_are_named_in_one_place() {
    assert_eq!(Dsr::NOT_BUSY.bits(), bench::NOT_BUSY);
    assert_eq!(Dsr::N_ACK.bits(), bench::N_ACK);
    assert_eq!(Dsr::P_ERROR.bits(), bench::P_ERROR);
    assert_eq!(Dsr::SELECT.bits(), bench::SELECT);
    assert_eq!(Dsr::N_FAULT.bits(), bench::N_FAULT);
}

proptest! {
    #![proptest_config(cases(64, 64))]

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn any_bytes_survive_any_mode(
        mode in 0..MODES.len(),
        data in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 1..200),
        cut in 0usize..200,
        delay in 0u64..8,
    ) {
        let mode = &MODES[mode];
        let (mut bench, mut session) = mode.start();
        bench.device.delay_us = delay;
        let (first, second) = data.split_at(cut.min(data.len()));
        for part in [first, second] {
            let transfer = session.write(&mut bench, part);
            prop_assert_eq!((transfer.bytes, transfer.result), (part.len(), Ok(())));
        }
        prop_assert_eq!(&bench.device.received, &data);
        bench.device.source = data.iter().copied().collect();
        let mut buffer = vec![0; data.len()];
        let (first, second) = buffer.split_at_mut(cut.min(data.len()));
        for part in [first, second] {
            let transfer = session.read(&mut bench, part);
            prop_assert_eq!((transfer.bytes, transfer.result), (part.len(), Ok(())));
        }
        prop_assert_eq!(&buffer, &data);
        session.terminate(&mut bench);
        prop_assert!(bench.is_at_rest());
    }
}

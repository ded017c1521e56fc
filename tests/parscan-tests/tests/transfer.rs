//! Reading and writing in every mode, on every chip that has it.

use std::time::Instant;

use ntsim::{CANARY, Handle, NtStatus};
use parscan_models::Peripheral1284;
use parscan_tests::{
    check,
    modes::{Chip, ModesPc, channel, pattern, pc},
    ntddpar::{IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, modes},
};

/// How much goes each way.
const AMOUNT: usize = 64 << 10;

/// A test of every mode on every chip that has it: of the machine, its device, the mode, and the
/// names of both.
fn everywhere<W: Iterator<Item = (u16, &'static str)>>(
    ways: impl Fn(Chip) -> W,
    test: impl Fn(&ModesPc, Handle, &Peripheral1284, u16, &str),
) {
    for chip in Chip::ALL {
        on_chip(chip, ways(chip), &test);
    }
}

/// The same on the chip that has every mode.
fn with_everything<W: Iterator<Item = (u16, &'static str)>>(
    ways: impl Fn(Chip) -> W,
    test: impl Fn(&ModesPc, Handle, &Peripheral1284, u16, &str),
) {
    on_chip(Chip::EcpEpp, ways(Chip::EcpEpp), test);
}

fn on_chip(
    chip: Chip,
    ways: impl Iterator<Item = (u16, &'static str)>,
    test: impl Fn(&ModesPc, Handle, &Peripheral1284, u16, &str),
) {
    for (mode, name) in ways {
        let peripheral = Peripheral1284::new();
        let what = format!("{chip:?} {name}");
        pc(chip, &peripheral).with_open(|pc, lpt1| test(pc, lpt1, &peripheral, mode, &what));
    }
}

/// Chooses modes, and gives what the driver says of them.
#[track_caller]
fn choose(pc: &ModesPc, lpt1: Handle, offered: [u8; 4], what: &str) -> Vec<u8> {
    let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
    assert_eq!(chosen.status, NtStatus::SUCCESS, "{what}");
    chosen.output
}

/// Tells what a transfer cost.
fn tell<R>(pc: &ModesPc, what: &str, transfer: impl FnOnce() -> R) -> R {
    let (began, accesses) = (Instant::now(), pc.machine.port_accesses());
    let result = transfer();
    println!(
        "{what}: {} accesses, {:?}",
        pc.machine.port_accesses() - accesses,
        began.elapsed()
    );
    result
}

#[test]
fn what_is_written_arrives_in_every_mode_on_every_chip() {
    let data = pattern(AMOUNT);
    everywhere(Chip::ways_to_write, |pc, lpt1, peripheral, mode, what| {
        let chosen = choose(pc, lpt1, modes::mask(0, mode), what);
        assert_eq!(chosen, modes::mask(modes::NIBBLE, mode), "{what}");
        let result = tell(pc, what, || check(pc.machine.write(lpt1, &data)));
        assert_eq!(result.status, NtStatus::SUCCESS, "{what}");
        assert_eq!(result.information, data.len(), "{what}");
        assert!(
            peripheral.received_on(channel(mode)) == data,
            "{what}: {} bytes arrived",
            peripheral.received_on(channel(mode)).len()
        );
    });
}

#[test]
fn what_the_peripheral_gives_is_read_in_every_mode_on_every_chip() {
    let data = pattern(AMOUNT);
    everywhere(Chip::ways_to_read, |pc, lpt1, peripheral, mode, what| {
        choose(pc, lpt1, modes::mask(mode, 0), what);
        let mode_now = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
        assert_eq!(mode_now.output, modes::mask(mode, modes::CENTRONICS));
        peripheral.give(&data);
        let got = tell(pc, what, || {
            pc.read_until(lpt1, data.len(), |left| left, what)
        });
        assert!(got == data, "{what}");
    });
}

/// Many small reads get the same bytes as one large one, wherever a FIFO was ahead of them.
#[test]
fn small_reads_lose_nothing() {
    let data = pattern(1000);
    for size in [1, 3, 16, 17] {
        everywhere(Chip::ways_to_read, |pc, lpt1, peripheral, mode, what| {
            choose(pc, lpt1, modes::mask(mode, 0), what);
            peripheral.give(&data);
            let got = pc.read_until(lpt1, 200, |_| size, what);
            assert!(data.starts_with(&got), "{what}, {size} at a time");
        });
    }
}

/// 1 MiB in every mode, in one request.
#[test]
fn long_writes_arrive() {
    let data = &pattern(1 << 20)[..];
    with_everything(Chip::ways_to_write, |pc, lpt1, peripheral, mode, name| {
        pc.choose(lpt1, 0, mode);
        let result = check(pc.machine.write(lpt1, data));
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, data.len()), "{name}");
        assert!(peripheral.received_on(channel(mode)) == data, "{name}");
    });
}

/// The other way.
#[test]
fn long_reads_arrive() {
    let data = &pattern(1 << 20)[..];
    with_everything(Chip::ways_to_read, |pc, lpt1, peripheral, mode, name| {
        pc.choose(lpt1, mode, 0);
        peripheral.give(data);
        let result = check(pc.machine.read(lpt1, data.len()));
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, data.len()), "{name}");
        assert!(result.output == data, "{name}");
    });
}

/// A driver above the device may do direct I/O: then the bytes are in the program's own pages.
#[test]
fn direct_requests_are_served_as_buffered_ones() {
    let data = pattern(1000);
    let peripheral = Peripheral1284::new();
    let pc = pc(Chip::EcpEpp, &peripheral);
    pc.machine.do_direct_io(r"\\.\LPT1");
    let lpt1 = pc.open();
    let result = check(pc.machine.write(lpt1, &data));
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, 1000));
    assert_eq!(peripheral.received(), data);
    peripheral.give(&data);
    let result = check(pc.machine.read(lpt1, 1200));
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, 1000));
    assert_eq!(result.output[..1000], data);
    assert_eq!(result.output[1000..], [CANARY; 200], "not a byte more");
    pc.close_and_finish(lpt1);
}

/// The same without memory for a copy of the bytes, or for the pages: the request says so, before a
/// byte has moved, and the next one works.
#[test]
fn direct_requests_without_memory_move_nothing() {
    let data = pattern(100);
    for writes in [true, false] {
        let mut failed = 0;
        for k in 1..10 {
            let peripheral = Peripheral1284::new();
            let pc = pc(Chip::EcpEpp, &peripheral);
            pc.machine.do_direct_io(r"\\.\LPT1");
            let lpt1 = pc.open();
            pc.machine.inject_into(pc.driver);
            peripheral.give(&data);
            let request = || {
                if writes {
                    check(pc.machine.write(lpt1, &data))
                } else {
                    check(pc.machine.read(lpt1, 100))
                }
            };
            pc.machine.inject_failure(k);
            let first = request();
            pc.machine.inject_no_failure();
            if first.status == NtStatus::SUCCESS {
                assert_eq!(first.information, 100, "{k}");
            } else {
                failed += 1;
                let expected = (NtStatus::INSUFFICIENT_RESOURCES, 0);
                assert_eq!(first.outcome(), expected, "{k}");
                assert_eq!(peripheral.received(), b"", "{k}");
                let again = request();
                assert_eq!(again.outcome(), (NtStatus::SUCCESS, 100), "{k}");
                assert!(writes || again.output == data, "{k}");
            }
            pc.close_and_finish(lpt1);
        }
        assert!(failed > 0, "writes: {writes}");
    }
}

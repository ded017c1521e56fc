//! Reading and writing in every mode, on every chip that has it.

use std::time::Instant;

use ntsim::{CANARY, NtStatus};
use parscan_models::Peripheral1284;
use parscan_tests::{
    check,
    modes::{Chip, channel, pattern, pc},
    ntddpar::{IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, modes},
};

/// How much goes each way.
const AMOUNT: usize = 64 << 10;

#[test]
fn what_is_written_arrives_in_every_mode_on_every_chip() {
    let data = pattern(AMOUNT);
    for chip in Chip::ALL {
        for (mode, name) in chip.ways_to_write() {
            let began = Instant::now();
            let peripheral = Peripheral1284::new();
            let pc = pc(chip, &peripheral);
            let lpt1 = pc.open();
            let offered = modes::mask(0, mode);
            let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
            assert_eq!(chosen.status, NtStatus::SUCCESS, "{chip:?} {name}");
            assert_eq!(
                chosen.output,
                modes::mask(modes::NIBBLE, mode),
                "{chip:?} {name}"
            );
            let accesses = pc.machine.port_accesses();
            let result = check(pc.machine.write(lpt1, &data));
            assert_eq!(result.status, NtStatus::SUCCESS, "{chip:?} {name}");
            assert_eq!(result.information, data.len(), "{chip:?} {name}");
            assert!(
                peripheral.received_on(channel(mode)) == data,
                "{chip:?} {name}: {} bytes arrived",
                peripheral.received_on(channel(mode)).len()
            );
            println!(
                "{chip:?} {name}: {} accesses, {:?}",
                pc.machine.port_accesses() - accesses,
                began.elapsed()
            );
            pc.close_and_finish(lpt1);
        }
    }
}

#[test]
fn what_the_peripheral_gives_is_read_in_every_mode_on_every_chip() {
    let data = pattern(AMOUNT);
    for chip in Chip::ALL {
        for (mode, name) in chip.ways_to_read() {
            let began = Instant::now();
            let peripheral = Peripheral1284::new();
            let pc = pc(chip, &peripheral);
            let lpt1 = pc.open();
            let offered = modes::mask(mode, 0);
            let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
            assert_eq!(chosen.status, NtStatus::SUCCESS, "{chip:?} {name}");
            let mode_now = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
            assert_eq!(mode_now.output, modes::mask(mode, modes::CENTRONICS));
            peripheral.give(&data);
            let accesses = pc.machine.port_accesses();
            let what = format!("{chip:?} {name}");
            let got = pc.read_until(lpt1, data.len(), |left| left, &what);
            assert!(got == data, "{chip:?} {name}");
            println!(
                "{chip:?} {name}: {} accesses, {:?}",
                pc.machine.port_accesses() - accesses,
                began.elapsed()
            );
            pc.close_and_finish(lpt1);
        }
    }
}

/// Many small reads get the same bytes as one large one, wherever a FIFO was ahead of them.
#[test]
fn small_reads_lose_nothing() {
    let data = pattern(1000);
    for chip in Chip::ALL {
        for (mode, name) in chip.ways_to_read() {
            for size in [1, 3, 16, 17] {
                let peripheral = Peripheral1284::new();
                let pc = pc(chip, &peripheral);
                let lpt1 = pc.open();
                let offered = modes::mask(mode, 0);
                let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
                assert_eq!(chosen.status, NtStatus::SUCCESS, "{chip:?} {name}");
                peripheral.give(&data);
                let what = format!("{chip:?} {name}");
                let got = pc.read_until(lpt1, 200, |_| size, &what);
                assert!(data.starts_with(&got), "{chip:?} {name}, {size} at a time");
                pc.close_and_finish(lpt1);
            }
        }
    }
}

/// 1 MiB in every mode, in one request.
#[test]
fn long_writes_arrive() {
    let data = &pattern(1 << 20)[..];
    for (mode, name) in Chip::EcpEpp.ways_to_write() {
        let peripheral = Peripheral1284::new();
        let pc = pc(Chip::EcpEpp, &peripheral);
        let lpt1 = pc.open();
        pc.choose(lpt1, 0, mode);
        let result = check(pc.machine.write(lpt1, data));
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, data.len()), "{name}");
        assert!(peripheral.received_on(channel(mode)) == data, "{name}");
        pc.close_and_finish(lpt1);
    }
}

/// The other way.
#[test]
fn long_reads_arrive() {
    let data = &pattern(1 << 20)[..];
    for (mode, name) in Chip::EcpEpp.ways_to_read() {
        let peripheral = Peripheral1284::new();
        let pc = pc(Chip::EcpEpp, &peripheral);
        let lpt1 = pc.open();
        pc.choose(lpt1, mode, 0);
        peripheral.give(data);
        let result = check(pc.machine.read(lpt1, data.len()));
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, data.len()), "{name}");
        assert!(result.output == data, "{name}");
        pc.close_and_finish(lpt1);
    }
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

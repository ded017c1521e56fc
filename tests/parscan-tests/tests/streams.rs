//! What programs do with a port that they take for a file.

use ntsim::NtStatus;
use parscan_models::{Printer, Spp};
use parscan_tests::{MS, Setup, check};

const FLUSH_BUFFERS: u8 = 0x09;

/// `FlushFileBuffers` ends when what was written before has gone out.
#[test]
fn a_flush_ends_after_what_was_written() {
    // 40 bytes in four seconds.
    let printer = Printer::new().with_byte_time(100 * MS);
    let pc = Setup::default().started_with(Spp::new(Box::new(printer.clone())), printer.clone());
    let lpt1 = pc.open();
    let flushed = check(pc.machine.send_from_user(lpt1, FLUSH_BUFFERS, 0, 0, &[], 0));
    assert_eq!(flushed.outcome(), (NtStatus::SUCCESS, 0));
    let write = pc.machine.start_write(lpt1, &[b'x'; 40]);
    check(pc.machine.run_for(MS));
    let flush = pc
        .machine
        .start_from_user(lpt1, FLUSH_BUFFERS, 0, 0, &[], 0);
    check(pc.machine.run_for(1000 * MS));
    assert!(!pc.machine.is_done(&flush));
    let flushed = check(pc.machine.finish(&flush));
    assert_eq!(flushed.outcome(), (NtStatus::SUCCESS, 0));
    assert_eq!(printer.received().len(), 40);
    // Its program hears of it in a moment.
    check(pc.machine.run_for(MS));
    assert!(pc.machine.is_done(&write));
    check(pc.machine.finish(&write));
    pc.close_and_finish(lpt1);
}

/// A program that opened the port for appending writes at -1, and one without a place at -2.
#[test]
fn writes_go_to_the_end_and_to_the_file_pointer() {
    let printer = Printer::new();
    let pc = Setup::default().started_with(Spp::new(Box::new(printer.clone())), printer.clone());
    let lpt1 = pc.open();
    for (offset, text) in [(-1, "end"), (-2, "here"), (0, "zero")] {
        let written = check(pc.machine.write_at(lpt1, offset, text.as_bytes()));
        assert_eq!(
            written.outcome(),
            (NtStatus::SUCCESS, text.len()),
            "{offset}"
        );
    }
    assert_eq!(printer.received(), b"endherezero");
    for offset in [1, -3, i64::MIN, i64::MAX, 0xFFFF_FFFF] {
        let written = check(pc.machine.write_at(lpt1, offset, b"no"));
        assert_eq!(
            written.outcome(),
            (NtStatus::INVALID_PARAMETER, 0),
            "{offset}"
        );
    }
    // They are places to write, not to read.
    let read = check(pc.machine.read_at(lpt1, -1, 1));
    assert_eq!(read.status, NtStatus::INVALID_PARAMETER);
    pc.close_and_finish(lpt1);
}

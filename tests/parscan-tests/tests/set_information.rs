//! `IOCTL_PAR_SET_INFORMATION` and `IOCTL_PAR_QUERY_INFORMATION`, as a program sees them.

use ntsim::{Caller, NtStatus};
use parscan_models::{Condition, Line, PeripheralLines, PortDevice, Printer};
use parscan_tests::{
    MS, Pc, Setup, US, check,
    ntddpar::{
        IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_SET_INFORMATION, PARALLEL_BUSY, PARALLEL_INIT,
        PARALLEL_NOT_CONNECTED, PARALLEL_OFF_LINE, PARALLEL_PAPER_EMPTY, PARALLEL_POWER_OFF,
        PARALLEL_SELECTED,
    },
};

/// Every condition, with the answers that the documentation gives it: flags and status.
const CONDITIONS: [(Condition, u8, NtStatus); 7] = [
    (Condition::Ready, PARALLEL_SELECTED, NtStatus::SUCCESS),
    (
        Condition::Busy,
        PARALLEL_SELECTED | PARALLEL_BUSY,
        NtStatus::SUCCESS,
    ),
    (
        Condition::PaperEmpty,
        PARALLEL_PAPER_EMPTY | PARALLEL_SELECTED | PARALLEL_BUSY,
        NtStatus::DEVICE_PAPER_EMPTY,
    ),
    (
        Condition::OffLine,
        PARALLEL_OFF_LINE,
        NtStatus::DEVICE_OFF_LINE,
    ),
    (
        Condition::Fault,
        PARALLEL_OFF_LINE | PARALLEL_SELECTED,
        NtStatus::DEVICE_OFF_LINE,
    ),
    (
        Condition::PoweredOff,
        PARALLEL_POWER_OFF,
        NtStatus::DEVICE_POWERED_OFF,
    ),
    (
        Condition::Unplugged,
        PARALLEL_NOT_CONNECTED,
        NtStatus::DEVICE_NOT_CONNECTED,
    ),
];

/// A PC whose printer is made so before the program comes.
fn with_printer(make: impl FnOnce(Printer) -> Printer) -> Pc {
    let pc = Pc::new();
    let _ = make(pc.printer.clone());
    pc
}

#[test]
fn every_condition_has_its_documented_status() {
    for (condition, _, status) in CONDITIONS {
        with_printer(|printer| printer.with_condition(condition)).with_open(|pc, lpt1| {
            let result = pc.initialize(lpt1);
            assert_eq!(result.status, status, "{condition:?}");
            assert_eq!(result.information, 0, "{condition:?}");
            assert!(
                result.took <= 6000 * MS,
                "{condition:?}: {} ms",
                result.took / MS
            );
        });
    }
}

#[test]
fn query_gives_the_flags_without_moving_a_line() {
    for (condition, flags, _) in CONDITIONS {
        with_printer(|printer| printer.with_condition(condition)).with_open(|pc, lpt1| {
            pc.chip.borrow_mut().advance(pc.machine.now());
            pc.chip.borrow_mut().restart_trace();
            let result = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
            assert_eq!(result.status, NtStatus::SUCCESS, "{condition:?}");
            assert_eq!(result.information, 1);
            assert_eq!(result.output, [flags], "{condition:?}");
            let chip = pc.chip.borrow();
            let trace = chip.trace().unwrap();
            for line in Line::ALL {
                assert_eq!(trace.edges(line).count(), 0, "{condition:?} {line:?}");
            }
            drop(chip);
        });
    }
}

#[test]
fn the_reset_pulse_keeps_the_printers_rules() {
    for ecp in [false, true] {
        let mut setup = Setup {
            ecp,
            ..Setup::default()
        };
        if ecp {
            setup.resources.push(ntsim::Resource::Port {
                base: 0x778,
                len: 3,
            });
        }
        setup.started().with_open(|pc, lpt1| {
            pc.chip.borrow_mut().restart_trace();
            assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
            pc.chip.borrow_mut().advance(pc.machine.now());
            let chip = pc.chip.borrow();
            let trace = chip.trace().unwrap();
            let pulses = trace.pulses(Line::NInit, false);
            assert_eq!(pulses.len(), 1);
            assert!(pulses[0].duration >= 50 * US, "{} ns", pulses[0].duration);
            assert_eq!(trace.pulses(Line::NSelectIn, true), vec![], "nSelectIn");
            assert!(!trace.level_at(Line::NSelectIn, pulses[0].start));
            for line in [Line::NStrobe, Line::NAutoFd, Line::D0, Line::D7] {
                assert_eq!(trace.edges(line).count(), 0, "{line:?}");
            }
            if ecp {
                assert_eq!(chip.ecr().map(|ecr| ecr >> 5), Some(0), "SPP mode");
            }
            assert_eq!(pc.printer.resets(), 1);
            assert_eq!(pc.printer.glitches(), 0);
            drop(chip);
        });
    }
}

#[test]
fn a_slow_printer_is_waited_for() {
    let pc = Pc::new();
    let printer = pc.printer.clone().with_reset_time(3200 * MS);
    let lpt1 = pc.open();
    let result = pc.initialize(lpt1);
    assert_eq!(result.status, NtStatus::SUCCESS);
    assert!((3200 * MS..3300 * MS).contains(&result.took));
    assert!(!printer.is_resetting());
    pc.close_and_finish(lpt1);
}

#[test]
fn a_printer_that_a_reset_brings_on_line_is_ready() {
    with_printer(|printer| {
        printer
            .with_condition(Condition::OffLine)
            .with_reset_time(500 * MS)
            .with_reset_outcome(Condition::Ready)
    })
    .with_open(|pc, lpt1| {
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    });
}

#[test]
fn a_printer_that_changes_its_mind_is_believed_last() {
    let busy = with_printer(|printer| printer.with_reset_time(0).with_condition(Condition::Busy));
    busy.with_open(|pc, lpt1| {
        pc.printer
            .set_condition_at(pc.machine.now() + 2000 * MS, Condition::PaperEmpty);
        let result = pc.initialize(lpt1);
        assert_eq!(result.status, NtStatus::DEVICE_PAPER_EMPTY);
    });
}

/// All 32 patterns of the five lines: a status, and no surprise.
#[test]
fn every_pattern_of_the_lines_is_answered() {
    Pc::new().with_open(|pc, lpt1| {
        for bits in 0..32u8 {
            let lines = PeripheralLines::from_dsr(bits << 3);
            pc.printer.set_condition(Condition::Other(lines));
            let query = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
            assert_eq!(query.status, NtStatus::SUCCESS);
            let [flags] = query.output[..] else {
                panic!("one byte");
            };
            assert_eq!(
                flags & 0x03,
                0,
                "INIT and AUTOFEED are no answers, pattern {bits:05b}"
            );
            assert_ne!(flags, 0, "pattern {bits:05b}");
            let status = pc.initialize(lpt1).status;
            let expected = if flags & PARALLEL_NOT_CONNECTED != 0 {
                NtStatus::DEVICE_NOT_CONNECTED
            } else if flags & PARALLEL_POWER_OFF != 0 {
                NtStatus::DEVICE_POWERED_OFF
            } else if flags & PARALLEL_PAPER_EMPTY != 0 {
                NtStatus::DEVICE_PAPER_EMPTY
            } else if flags & PARALLEL_OFF_LINE != 0 {
                NtStatus::DEVICE_OFF_LINE
            } else {
                NtStatus::SUCCESS
            };
            assert_eq!(status, expected, "pattern {bits:05b}, flags {flags:#04x}");
        }
    });
}

#[test]
fn bad_input_gets_its_status_and_moves_no_line() {
    Pc::new().with_open(|pc, lpt1| {
        let accesses = pc.machine.port_accesses();
        let set = IOCTL_PAR_SET_INFORMATION;
        let query = IOCTL_PAR_QUERY_INFORMATION;
        for (code, input, output, status) in [
            (set, vec![], 0, NtStatus::BUFFER_TOO_SMALL),
            (set, vec![], 16, NtStatus::BUFFER_TOO_SMALL),
            (query, vec![], 0, NtStatus::BUFFER_TOO_SMALL),
            (query, vec![1], 0, NtStatus::BUFFER_TOO_SMALL),
        ] {
            let result = pc.control(lpt1, code, &input, output);
            assert_eq!(result.outcome(), (status, 0));
            assert!(result.output.iter().all(|byte| *byte == ntsim::CANARY));
        }
        for init in (0..=u8::MAX).filter(|init| *init != PARALLEL_INIT) {
            let result = pc.control(lpt1, set, &[init, PARALLEL_INIT], 4);
            assert_eq!(result.status, NtStatus::INVALID_PARAMETER, "{init:#x}");
            assert_eq!(result.information, 0);
            assert!(result.output.iter().all(|byte| *byte == ntsim::CANARY));
        }
        assert_eq!(pc.machine.port_accesses(), accesses);
    });
}

#[test]
fn long_buffers_are_fine_and_nothing_more_than_the_answer_comes_back() {
    Pc::new().with_open(|pc, lpt1| {
        let mut input = vec![0xA5; 4096];
        input[0] = PARALLEL_INIT;
        let result = pc.control(lpt1, IOCTL_PAR_SET_INFORMATION, &input, 4096);
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, 0));
        assert!(result.output.iter().all(|byte| *byte == ntsim::CANARY));
        let result = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &input, 4096);
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, 1));
        assert_eq!(result.output[0], PARALLEL_SELECTED);
        assert!(result.output[1..].iter().all(|byte| *byte == ntsim::CANARY));
    });
}

/// A warning status copies the output buffer back, where an error would not: nothing may be in it.
#[test]
fn a_warning_brings_no_bytes_back() {
    with_printer(|printer| printer.with_condition(Condition::PaperEmpty)).with_open(|pc, lpt1| {
        let result = pc.control(lpt1, IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 64);
        assert_eq!(result.status, NtStatus::DEVICE_PAPER_EMPTY);
        assert_eq!(result.information, 0);
        assert!(result.output.iter().all(|byte| *byte == ntsim::CANARY));
    });
}

#[test]
fn a_32_bit_program_gets_the_same() {
    let pc = Pc::new();
    let lpt1 = check(pc.machine.open(r"\\.\LPT1", Caller::User32)).unwrap();
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    let query = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
    assert_eq!(query.output, [PARALLEL_SELECTED]);
    pc.close_and_finish(lpt1);
}

#[test]
fn the_request_pends_and_does_not_hold_up_its_caller() {
    with_printer(|printer| printer.with_reset_time(3000 * MS)).with_open(|pc, lpt1| {
        let reset = pc.start_initialize(lpt1);
        check(pc.machine.run_for(MS));
        assert!(!pc.machine.is_done(&reset));
        // What needs no port is answered meanwhile.
        let start = pc.machine.now();
        let bad = pc.control(lpt1, IOCTL_PAR_SET_INFORMATION, &[7], 0);
        assert_eq!(bad.status, NtStatus::INVALID_PARAMETER);
        assert!(pc.machine.now() - start < MS);
        assert_eq!(check(pc.machine.finish(&reset)).status, NtStatus::SUCCESS);
    });
}

#[test]
fn requests_are_served_in_order() {
    with_printer(|printer| printer.with_reset_time(100 * MS)).with_open(|pc, lpt1| {
        let requests: Vec<_> = (0..8).map(|_| pc.start_initialize(lpt1)).collect();
        for (served, request) in requests.iter().enumerate() {
            assert_eq!(check(pc.machine.finish(request)).status, NtStatus::SUCCESS);
            assert!(pc.printer.resets() > served);
        }
        assert_eq!(pc.printer.resets(), requests.len());
    });
}

/// The five seconds are mostly slept: the processor is not held.
#[test]
fn waiting_costs_no_processor_time() {
    with_printer(|printer| printer.with_condition(Condition::Busy)).with_open(|pc, lpt1| {
        let before = pc.machine.times();
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        let after = pc.machine.times();
        let (cpu, all) = (after.cpu - before.cpu, after.now - before.now);
        assert!(all >= 5000 * MS);
        assert!(cpu * 100 < all, "{cpu} ns of {all} ns");
    });
}

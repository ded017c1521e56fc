//! Requests that end early: cancelled, their handle closed, their port pulled out.

use std::{cell::Cell, rc::Rc};

use ntsim::{Handle, IoResult, NtStatus, When};
use parscan_models::{Condition, Line, Peripheral1284};
use parscan_tests::{
    MS, Pc, check,
    modes::{Chip, Failures, pc},
    ntddpar::{
        IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_QUERY_DEVICE_ID,
        IOCTL_PAR_QUERY_INFORMATION, modes,
    },
};

/// A PC whose printer never gets ready, so that a reset takes five seconds.
fn waiting_pc() -> Pc {
    let pc = Pc::new();
    pc.printer.set_condition(Condition::Busy);
    pc
}

/// The same, and an open of it.
fn waiting() -> (Pc, Handle) {
    let pc = waiting_pc();
    let lpt1 = pc.open();
    (pc, lpt1)
}

/// The port is idle: nothing asserted, and nSelectIn low as at rest.
fn assert_idle(pc: &Pc) {
    let levels = pc.chip.borrow_mut().levels();
    for (line, level) in [
        (Line::NStrobe, true),
        (Line::NAutoFd, true),
        (Line::NInit, true),
        (Line::NSelectIn, false),
    ] {
        assert_eq!(levels.get(line), level, "{line:?}");
    }
}

#[test]
fn a_cancelled_reset_ends_at_once_and_the_next_one_works() {
    for at in [0, 1, 10, 100, 1000, 4990] {
        waiting_pc().with_open(|pc, lpt1| {
            let reset = pc.start_initialize(lpt1);
            check(pc.machine.run_for(at * MS));
            let cancelled = pc.machine.now();
            check(pc.machine.cancel(&reset));
            let result = check(pc.machine.finish(&reset));
            assert_eq!(result.status, NtStatus::CANCELLED, "after {at} ms");
            assert_eq!(result.information, 0);
            assert!(pc.machine.now() - cancelled <= 20 * MS, "after {at} ms");
            assert_idle(pc);
            pc.printer.set_condition(Condition::Ready);
            assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        });
    }
}

/// Cancelled just before the k-th access to the port, for every k of the first second.
#[test]
fn a_reset_can_be_cancelled_at_every_port_access() {
    for k in 1..=60 {
        waiting_pc().with_open(|pc, lpt1| {
            let reset = pc.start_initialize(lpt1);
            let request = reset.clone();
            pc.at_access(k, move |machine| {
                check(machine.cancel(&request));
            });
            let result = check(pc.machine.finish(&reset));
            assert_eq!(result.status, NtStatus::CANCELLED, "access {k}");
            assert_eq!(result.information, 0);
            assert_idle(pc);
            pc.printer.set_condition(Condition::Ready);
            assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        });
    }
}

#[test]
fn queued_requests_are_cancelled_one_by_one() {
    waiting_pc().with_open(|pc, lpt1| {
        let requests: Vec<_> = (0..5).map(|_| pc.start_initialize(lpt1)).collect();
        check(pc.machine.run_for(100 * MS));
        for index in [3, 1, 4, 2] {
            assert!(
                check(pc.machine.cancel(&requests[index])),
                "a queued request has a cancel routine"
            );
            let result = check(pc.machine.finish(&requests[index]));
            assert_eq!(result.status, NtStatus::CANCELLED);
            assert_eq!(result.information, 0);
        }
        assert!(!pc.machine.is_done(&requests[0]));
        assert_eq!(
            check(pc.machine.finish(&requests[0])).status,
            NtStatus::SUCCESS
        );
        assert_eq!(pc.printer.resets(), 1, "cancelled requests move no line");
    });
}

#[test]
fn closing_the_handle_ends_its_requests() {
    for at in [0, 5, 500] {
        let (pc, lpt1) = waiting();
        let requests: Vec<_> = (0..4).map(|_| pc.start_initialize(lpt1)).collect();
        // A moment at least: every thread has sent its request.
        check(pc.machine.run_for(at * MS + MS / 10));
        let closed = pc.machine.now();
        check(pc.machine.close(lpt1));
        for request in &requests {
            let result = check(pc.machine.finish(request));
            assert_eq!(result.status, NtStatus::CANCELLED, "after {at} ms");
        }
        assert!(pc.machine.now() - closed <= 20 * MS, "after {at} ms");
        assert_idle(&pc);
        // The device is free for the next program.
        let lpt1 = pc.open();
        pc.printer.set_condition(Condition::Ready);
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        pc.close_and_finish(lpt1);
    }
}

/// A request ended with the port.
#[track_caller]
fn assert_gone(result: &IoResult, what: &str) {
    let gone = [NtStatus::DEVICE_REMOVED, NtStatus::DELETE_PENDING];
    assert!(gone.contains(&result.status), "{what}: {}", result.status);
}

#[test]
fn pulling_the_port_out_ends_its_requests_and_touches_no_port() {
    for at in [0, 5, 500] {
        let (pc, lpt1) = waiting();
        let requests: Vec<_> = (0..4).map(|_| pc.start_initialize(lpt1)).collect();
        check(pc.machine.run_for(at * MS));
        check(pc.machine.unplug(pc.node));
        for request in &requests {
            let result = check(pc.machine.finish(request));
            assert_gone(&result, &format!("after {at} ms"));
        }
        let accesses = pc.machine.port_accesses();
        let late = pc.initialize(lpt1);
        assert_eq!(late.status, NtStatus::DELETE_PENDING);
        assert!(pc.try_open(r"\\.\LPT1").is_err());
        check(pc.machine.close(lpt1));
        assert_eq!(pc.machine.port_accesses(), accesses);
        check(pc.machine.unload(pc.driver));
    }
}

/// The port is pulled out just before the k-th access: whatever the request was doing, it ends,
/// and nothing is left.
#[test]
fn the_port_can_be_pulled_out_at_every_access() {
    for k in 1..=40 {
        let (pc, lpt1) = waiting();
        let reset = pc.start_initialize(lpt1);
        let node = pc.node;
        pc.at_access(k, move |machine| {
            check(machine.unplug(node));
        });
        let result = check(pc.machine.finish(&reset));
        assert_gone(&result, &format!("access {k}"));
        check(pc.machine.close(lpt1));
        // The removal goes on by itself until the device is gone.
        check(pc.machine.run_until_idle());
        check(pc.machine.unload(pc.driver));
    }
}

/// The handle is closed while another thread's write is on its way into the driver: it ends,
/// wherever it is just then.
#[test]
fn the_handle_can_be_closed_at_any_kernel_call_of_a_write() {
    for k in 1..=60 {
        let (pc, lpt1) = waiting();
        let closed = Rc::new(Cell::new(false));
        let done = Rc::clone(&closed);
        let call = pc.machine.kernel_calls() + k;
        pc.machine.at(When::KernelCall(call), move |machine| {
            done.set(true);
            assert_eq!(check(machine.close(lpt1)), NtStatus::SUCCESS);
        });
        let write = pc.machine.start_write(lpt1, b"never printed");
        let result = check(pc.machine.finish(&write));
        assert!(closed.get());
        assert_eq!(result.status, NtStatus::CANCELLED, "closed at call {k}");
        pc.remove();
    }
}

/// What asks the peripheral is cancelled, or loses its port, at an access: it ends, and leaves a port
/// at rest. The device may be in EPP before.
#[test]
fn questions_end_early_at_every_access() {
    let ecp = modes::mask(modes::ECP_SW, modes::ECP_SW);
    let by_epp = modes::mask(modes::EPP_SW, modes::EPP_HW);
    let questions: [(u32, &[u8], usize); 5] = [
        (IOCTL_PAR_QUERY_INFORMATION, &[], 1),
        (IOCTL_PAR_GET_DEVICE_CAPS, &[0, 0], 2),
        (IOCTL_IEEE1284_NEGOTIATE, &ecp, 4),
        (IOCTL_IEEE1284_NEGOTIATE, &by_epp, 4),
        (IOCTL_PAR_QUERY_DEVICE_ID, &[], 200),
    ];
    let mut failures = Failures::default();
    for (code, input, output) in questions {
        for (epp, unplugs) in [(false, false), (false, true), (true, false)] {
            // Every access at first, and some of the others.
            for k in (1..).map(|step: u64| step + step * step / 16) {
                let what = format!("{code:#x}, access {k}, EPP {epp}, unplugs {unplugs}");
                let pc = pc(Chip::EcpEpp, &Peripheral1284::new());
                let lpt1 = pc.open();
                if epp {
                    pc.choose(lpt1, modes::EPP_HW, modes::EPP_HW);
                }
                let question = pc.machine.start_io_control(lpt1, code, input, output);
                let (request, node) = (question.clone(), pc.node);
                let reached = Rc::new(Cell::new(false));
                let here = Rc::clone(&reached);
                pc.at_access(k, move |machine| {
                    here.set(true);
                    if unplugs {
                        check(machine.unplug(node));
                    } else {
                        check(machine.cancel(&request));
                    }
                });
                let status = check(pc.machine.finish(&question)).status;
                let early = if unplugs {
                    NtStatus::DEVICE_REMOVED
                } else {
                    NtStatus::CANCELLED
                };
                failures.expect(status == early || status == NtStatus::SUCCESS, || {
                    format!("{what}: {status}")
                });
                if !reached.get() {
                    failures.expect(status == NtStatus::SUCCESS, || format!("{what}: {status}"));
                    break;
                }
                if unplugs {
                    check(pc.machine.close(lpt1));
                    check(pc.machine.run_for(MS));
                    pc.unload();
                } else {
                    failures.end_case(&pc, lpt1, &what);
                }
            }
        }
    }
    failures.end();
}

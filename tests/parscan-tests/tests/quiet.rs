//! While nothing happens, the driver does nothing: what waits is woken by what it waits for, by its
//! end, and not by the clock to look whether there is something.

use ntsim::{Machine, NtStatus};
use parscan_models::Peripheral1284;
use parscan_tests::{
    MS, SECOND, check,
    client::{PORT, on_device, with_client},
    modes::{Chip, pc},
    ntddpar::IOCTL_PAR_QUERY_DEVICE_ID,
    parallel_h::{IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_UNLOCK_PORT},
    scanner::ScannerPc,
    usbscan_h::{ALL_PIPE, IOCTL_RESET_PIPE, pipe_type},
};

const MINUTE: u64 = 60 * SECOND;

/// How often the clock woke the driver in ten minutes.
#[track_caller]
fn wakeups(machine: &Machine) -> u64 {
    // What was begun settles.
    check(machine.run_for(SECOND));
    let before = machine.times().timer_wakeups;
    check(machine.run_for(10 * MINUTE));
    machine.times().timer_wakeups - before
}

#[test]
fn an_idle_driver_is_never_woken() {
    let pc = pc(Chip::EcpEpp, &Peripheral1284::new());
    let lpt1 = pc.open();
    assert_eq!(
        check(pc.machine.write(lpt1, b"text")).status,
        NtStatus::SUCCESS
    );
    assert_eq!(wakeups(&pc.machine), 0, "with an open device");
    check(pc.machine.close(lpt1));
    assert_eq!(wakeups(&pc.machine), 0);
    pc.finish();
    let pc = ScannerPc::new();
    assert_eq!(wakeups(&pc.machine), 0, "a scanner");
    pc.finish();
}

#[test]
fn a_pending_wait_for_an_event_wakes_nobody() {
    ScannerPc::new().with_open(|pc, file| {
        let event = pc.wait_on_event(file, 8);
        assert_eq!(wakeups(&pc.machine), 0);
        assert!(!pc.machine.is_done(&event));
        pc.scanner.press(&[1]);
        assert_eq!(pc.finish_request(&event).status, NtStatus::SUCCESS);
    });
}

#[test]
fn a_locked_port_wakes_nobody() {
    on_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, device| {
        assert_eq!(device.order(IOCTL_INTERNAL_LOCK_PORT), NtStatus::SUCCESS);
        assert_eq!(wakeups(&pc.machine), 0);
        assert_eq!(device.order(IOCTL_INTERNAL_UNLOCK_PORT), NtStatus::SUCCESS);
    });
}

/// A port is stopped for a moment when Windows gives it other resources: the moment may be long.
#[test]
fn requests_that_wait_for_a_stopped_port_wake_nobody() {
    pc(Chip::EcpEpp, &Peripheral1284::new()).with_open(|pc, lpt1| {
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        let requests = [
            pc.start_initialize(lpt1),
            pc.machine
                .start_io_control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 100),
        ];
        check(pc.machine.run_for(MS));
        assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(wakeups(&pc.machine), 0);
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        for request in requests {
            assert_eq!(check(pc.machine.finish(&request)).status, NtStatus::SUCCESS);
        }
    });
}

#[test]
fn requests_that_wait_for_a_sleeping_port_wake_nobody() {
    pc(Chip::EcpEpp, &Peripheral1284::new()).with_open(|pc, lpt1| {
        assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
        let write = pc.machine.start_write(lpt1, b"text");
        let init = pc.start_initialize(lpt1);
        assert_eq!(wakeups(&pc.machine), 0);
        check(pc.machine.wake());
        check(pc.machine.settle());
        for request in [write, init] {
            assert_eq!(check(pc.machine.finish(&request)).status, NtStatus::SUCCESS);
        }
    });
}

/// A request waits for a port that a kernel client has for as long as the registry says, 5 seconds:
/// once.
#[test]
fn a_request_that_waits_for_the_port_is_woken_once() {
    with_client(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, client| {
        let port = client.open(PORT);
        let lpt1 = pc.open();
        port.allocate();
        let before = pc.machine.times().timer_wakeups;
        let result = pc.initialize(lpt1);
        assert_eq!(result.status, NtStatus::DEVICE_BUSY);
        assert!((5000..5020).contains(&(result.took / MS)));
        assert_eq!(pc.machine.times().timer_wakeups - before, 1);
        // As soon as the port is free, the next one has it.
        let write = pc.machine.start_write(lpt1, b"text");
        check(pc.machine.run_for(SECOND));
        port.free();
        let took = check(pc.machine.finish(&write)).took;
        assert!((SECOND..SECOND + MS).contains(&took), "{took} ns");
        port.close();
        check(pc.machine.close(lpt1));
    });
}

/// A scanner that does not answer the reset of a pipe is waited for until the time of writes is over,
/// two minutes unless the program sets another: one wake-up.
#[test]
fn a_reset_without_an_answer_is_woken_by_its_time_alone() {
    ScannerPc::new().with_open(|pc, file| {
        pc.scanner.set_silent(0, true);
        let reset = pc.start(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0);
        assert_eq!(wakeups(&pc.machine), 1);
        assert_eq!(pc.finish_request(&reset).status, NtStatus::IO_TIMEOUT);
        pc.scanner.set_silent(0, false);
    });
}

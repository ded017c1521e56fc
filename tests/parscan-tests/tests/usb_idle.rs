//! A scanner that no program uses is suspended if the registry says so, comes back when it is opened, and
//! wakes up by its button.

use std::{cell::Cell, rc::Rc};

use ntsim::{
    Config, DevNode, Machine, NtStatus, PowerUp, When,
    usb::{HubIdle, layout::function},
};
use parscan_models::Scanner;
use parscan_tests::{
    MS, SECOND, check,
    scanner::{BULK_IN, Opened, ScannerPc, ScannerSetup},
};

/// Device power states.
const D0: u32 = 0;
const D2: u32 = 2;
const D3: u32 = 3;

/// Selective suspend, whatever the device can, 300 ms after the last close.
const SUSPEND: [(&str, u32); 4] = [
    ("DeviceIdleEnabled", 1),
    ("DefaultIdleState", 1),
    ("DefaultIdleTimeout", 300),
    ("DeviceIdleIgnoreWakeEnable", 1),
];

fn setup(numbers: &[(&str, u32)]) -> ScannerSetup {
    ScannerSetup::default().with_numbers(numbers)
}

/// A scanner that says that it can wake up by itself.
fn with_button(numbers: &[(&str, u32)]) -> ScannerPc {
    let setup = setup(numbers);
    setup.scanner.set_remote_wakeup();
    setup.started()
}

/// A scanner that has been suspended.
fn suspended(setup: ScannerSetup) -> ScannerPc {
    let pc = setup.started();
    check(pc.machine.run_for(SECOND));
    assert_eq!(power(&pc), D2);
    pc
}

fn power(pc: &ScannerPc) -> u32 {
    pc.machine.usb_power(pc.node)
}

/// The scanner works as if nothing had happened.
#[track_caller]
fn works(pc: &ScannerPc, file: Opened) {
    pc.scanner.set_registers(0x2000, &[1, 2, 3, 4]);
    let registers = pc.read_registers(file, 0x2000, 4);
    assert_eq!(registers.status, NtStatus::SUCCESS);
    assert_eq!(registers.output, [1, 2, 3, 4]);
    let image = Scanner::image(3, 70_000);
    pc.scanner.send(BULK_IN, &image, false);
    let read = pc.read(file, image.len());
    assert_eq!(read.status, NtStatus::SUCCESS);
    assert!(read.output == image);
    assert_eq!(power(pc), D0);
}

/// Opened, used and closed.
#[track_caller]
fn use_once(pc: &ScannerPc) {
    let file = pc.open();
    works(pc, file);
    pc.close(file);
}

/// Nothing is suspended that the registry does not ask for; a device that cannot wake up only if that is said,
/// too, as Microsoft documents it for WinUSB.
/// The last handle is closed, and the scanner suspended; then the end.
#[track_caller]
fn finish_suspended(pc: ScannerPc, file: Opened) {
    pc.close(file);
    check(pc.machine.run_for(SECOND));
    assert_eq!(power(&pc), D2);
    pc.finish();
}

#[test]
fn the_registry_says_whether_a_scanner_is_suspended() {
    let [enabled, state, timeout, ignore] = SUSPEND;
    for (numbers, can_wake, expected) in [
        (&[][..], true, false),
        (&[enabled, timeout], true, false),
        (&[state, timeout], true, false),
        (
            &[("DeviceIdleEnabled", 0), state, timeout, ignore],
            true,
            false,
        ),
        (&[enabled, ("DefaultIdleState", 0), timeout], true, false),
        (&[enabled, state, timeout], false, false),
        (&[enabled, state, timeout], true, true),
        (&[enabled, state, timeout, ignore], false, true),
    ] {
        let setup = setup(numbers);
        if can_wake {
            setup.scanner.set_remote_wakeup();
        }
        let pc = setup.started();
        check(pc.machine.run_for(10 * SECOND));
        let idle = pc.machine.usb_idle(pc.node);
        let state = if expected { D2 } else { D0 };
        assert_eq!(power(&pc), state, "{numbers:?}, {can_wake}");
        assert_eq!(idle.requests, usize::from(expected), "{numbers:?}");
        assert_eq!(idle.wake, expected && can_wake, "{numbers:?}");
        use_once(&pc);
        pc.finish();
    }
}

#[test]
fn it_is_suspended_so_long_after_the_last_close() {
    for (timeout, at_once) in [(Some(0), true), (Some(2000), false), (None, false)] {
        let mut numbers = SUSPEND.to_vec();
        numbers.retain(|(name, _)| *name != "DefaultIdleTimeout");
        numbers.extend(timeout.map(|timeout| ("DefaultIdleTimeout", timeout)));
        let pc = setup(&numbers).started();
        // The time of WinUSB.
        let after = u64::from(timeout.unwrap_or(5000)) * MS;
        for _ in 0..3 {
            let (file, other) = (pc.open(), pc.open());
            check(pc.machine.run_for(60 * SECOND));
            works(&pc, file);
            pc.close(file);
            check(pc.machine.run_for(60 * SECOND));
            works(&pc, other);
            pc.close(other);
            if !at_once {
                check(pc.machine.run_for(after - 10 * MS));
                assert_eq!(power(&pc), D0);
            }
            check(pc.machine.run_for(30 * MS));
            assert_eq!(power(&pc), D2);
        }
        pc.finish();
    }
}

/// The open does not wait for the device, its requests do, and none of them is refused.
#[test]
fn an_open_brings_it_back() {
    for (seed, after) in [(1, 0), (2, 0), (3, 2 * SECOND), (4, 2 * SECOND)] {
        let mut setup = ScannerSetup::seeded(seed).with_numbers(&SUSPEND);
        setup.config.force_pending = seed % 2 == 0;
        let pc = suspended(setup);
        let up = PowerUp {
            after,
            ..PowerUp::default()
        };
        pc.machine.set_power_up(pc.node, up);
        let before = pc.machine.now();
        let file = pc.open();
        assert!(pc.machine.now() - before < 100 * MS);
        pc.scanner.set_registers(0x2000, &[9; 4]);
        let registers = pc.read_registers(file, 0x2000, 4);
        assert_eq!(registers.status, NtStatus::SUCCESS);
        assert_eq!(registers.output, [9; 4]);
        assert!(pc.machine.now() - before >= after);
        works(&pc, file);
        finish_suspended(pc, file);
    }
}

#[test]
fn a_scanner_that_does_not_come_back_is_not_ready() {
    for above in [false, true] {
        let pc = suspended(setup(&SUSPEND));
        let refused = PowerUp {
            refused: Some(NtStatus::UNSUCCESSFUL),
            above,
            ..PowerUp::default()
        };
        pc.machine.set_power_up(pc.node, refused);
        let file = pc.open();
        for _ in 0..3 {
            let read = pc.read(file, 512);
            assert_eq!(read.status, NtStatus::DEVICE_NOT_READY);
            check(pc.machine.run_for(3 * SECOND));
        }
        pc.machine.set_power_up(pc.node, PowerUp::default());
        works(&pc, file);
        finish_suspended(pc, file);
    }
}

/// The scanner is closed between any two pieces, and suspended: the image is whole.
#[test]
fn a_scan_is_whole_that_is_suspended_between_any_two_reads() {
    const PIECE: usize = 10 * 512;
    let pc = setup(&SUSPEND).started();
    let image = Scanner::image(31, 16 * PIECE);
    pc.scanner.send(BULK_IN, &image, false);
    for (k, piece) in image.chunks(PIECE).enumerate() {
        let file = pc.open();
        let read = pc.read(file, PIECE);
        assert_eq!(read.status, NtStatus::SUCCESS);
        assert!(read.output == piece, "piece {k}");
        pc.close(file);
        check(pc.machine.run_for(SECOND));
        assert_eq!(power(&pc), D2);
        assert_eq!(pc.machine.usb_idle(pc.node).suspended, k + 1);
    }
    pc.finish();
}

/// A scanner whose hub has answered its idle requests like this for a minute: how many there were.
fn refused(numbers: &[(&str, u32)], status: NtStatus) -> (ScannerPc, usize) {
    let pc = setup(numbers).loaded();
    pc.machine.set_hub_idle(pc.node, HubIdle::Refuses(status));
    assert_eq!(
        check(pc.machine.add_device(pc.node, pc.driver)),
        NtStatus::SUCCESS
    );
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    check(pc.machine.run_for(60 * SECOND));
    let requests = pc.machine.usb_idle(pc.node).requests;
    (pc, requests)
}

/// What the hub may answer at once, and whether it is asked again.
#[test]
fn a_hub_that_refuses_is_asked_again() {
    for (status, again) in [
        (NtStatus::DEVICE_BUSY, true),
        (NtStatus::POWER_STATE_INVALID, true),
        (NtStatus::UNSUCCESSFUL, true),
        (NtStatus::CANCELLED, true),
        (NtStatus::SUCCESS, true),
        (NtStatus::NOT_SUPPORTED, false),
        (NtStatus::INVALID_DEVICE_REQUEST, false),
    ] {
        let (pc, requests) = refused(&SUSPEND, status);
        let expected = match status {
            _ if !again => 1..=1,
            // 300 ms, and twice the pause before each time.
            _ => 7..=8,
        };
        assert!(expected.contains(&requests), "{status}: {requests}");
        assert_eq!(power(&pc), D0);
        use_once(&pc);
        pc.machine.set_hub_idle(pc.node, HubIdle::After(0));
        check(pc.machine.run_for(SECOND));
        assert_eq!(power(&pc), if again { D2 } else { D0 }, "{status}");
        use_once(&pc);
        pc.finish();
    }
}

/// A device that may be suspended at once asks no hub again and again that does not do it.
#[test]
fn a_hub_that_gives_back_at_once_is_not_asked_again_and_again() {
    for status in [
        NtStatus::CANCELLED,
        NtStatus::SUCCESS,
        NtStatus::DEVICE_BUSY,
    ] {
        let at_once = SUSPEND.map(|(name, value)| match name {
            "DefaultIdleTimeout" => (name, 0),
            _ => (name, value),
        });
        // 1 ms, and twice the pause before each time.
        let (pc, requests) = refused(&at_once, status);
        assert!((15..=18).contains(&requests), "{status}: {requests}");
        use_once(&pc);
        pc.finish();
    }
}

/// The hub may give back what it has when the system falls asleep: it is asked as at first then.
#[test]
fn a_hub_is_asked_as_at_first_after_the_system_has_slept() {
    let (pc, before) = refused(&SUSPEND, NtStatus::CANCELLED);
    pc.machine.set_hub_idle(pc.node, HubIdle::After(0));
    assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
    check(pc.machine.run_for(SECOND));
    check(pc.machine.wake());
    check(pc.machine.run_for(SECOND));
    assert_eq!(power(&pc), D2);
    assert_eq!(pc.machine.usb_idle(pc.node).requests, before + 1);
    use_once(&pc);
    pc.finish();
}

/// A hub that never finds the time holds no request up.
#[test]
fn an_idle_request_that_stays_out_is_cancelled() {
    let pc = setup(&SUSPEND).started();
    pc.machine.set_hub_idle(pc.node, HubIdle::Never);
    for _ in 0..3 {
        check(pc.machine.run_for(SECOND));
        assert!(pc.machine.usb_idle(pc.node).request);
        assert_eq!(power(&pc), D0);
        use_once(&pc);
    }
    check(pc.machine.run_for(SECOND));
    assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
    assert!(!pc.machine.usb_idle(pc.node).request);
    assert_eq!(power(&pc), D3);
    check(pc.machine.wake());
    use_once(&pc);
    check(pc.machine.run_for(SECOND));
    assert!(pc.machine.usb_idle(pc.node).request);
    pc.finish();
}

/// Without memory for the device power IRP the callback leaves the device as it is; without memory
/// for the request there is none. It is tried again.
#[test]
fn low_resources_leave_it_awake() {
    let pc = setup(&SUSPEND).started();
    pc.machine.set_power_memory(false);
    check(pc.machine.run_for(3 * SECOND));
    let idle = pc.machine.usb_idle(pc.node);
    assert!(idle.requests > 1 && idle.suspended == 0, "{idle:?}");
    use_once(&pc);
    pc.machine.set_power_memory(true);
    check(pc.machine.run_for(SECOND));
    assert_eq!(power(&pc), D2);
    // And the way back.
    pc.machine.set_power_memory(false);
    let file = pc.open();
    let read = pc.machine.start_read(file.handle, 512);
    check(pc.machine.run_for(SECOND));
    assert!(!pc.machine.is_done(&read));
    pc.machine.set_power_memory(true);
    check(pc.machine.run_for(2 * SECOND));
    pc.scanner.send(BULK_IN, &[1; 512], false);
    assert_eq!(pc.finish_request(&read).status, NtStatus::SUCCESS);
    pc.close_and_finish(file);
}

/// Machines on which requests to lower drivers end later, or not.
fn pending(force_pending: bool) -> impl Fn(u64) -> Config {
    move |seed| Config {
        seed,
        force_pending,
        ..Config::default()
    }
}

/// What happens at each kernel call of a suspension and of the way back.
fn at_every_call(
    config: impl Fn(u64) -> Config,
    event: impl Fn(&ScannerPc) -> Box<dyn FnOnce(&Machine)>,
) {
    let mut calls = 0;
    loop {
        calls += 1;
        let setup = ScannerSetup {
            config: config(calls),
            ..setup(&SUSPEND)
        };
        setup.scanner.set_remote_wakeup();
        let pc = setup.started();
        let from = pc.machine.kernel_calls();
        let (happened, armed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(true)));
        let (seen, may, part) = (happened.clone(), armed.clone(), event(&pc));
        pc.machine
            .at(When::KernelCall(from + calls), move |machine| {
                if may.get() {
                    seen.set(true);
                    part(machine);
                }
            });
        check(pc.machine.run_for(2 * SECOND));
        let path = r"\\.\Usbscan0";
        if let Ok(file) = pc.try_open(path, ntsim::Caller::User64) {
            // It may be interrupted by the event.
            let _ = pc.read_registers(file, 0, 4);
            pc.close(file);
        }
        check(pc.machine.run_for(2 * SECOND));
        armed.set(false);
        // The event may have removed the device.
        if let Ok(file) = pc.try_open(path, ntsim::Caller::User64) {
            works(&pc, file);
            pc.close(file);
            check(pc.machine.run_for(2 * SECOND));
            assert_eq!(power(&pc), D2, "call {calls}");
            pc.finish();
        } else {
            check(pc.machine.run_until_idle());
            pc.unload();
        }
        if !happened.get() {
            break;
        }
    }
    assert!(calls > 20, "{calls}");
}

#[test]
fn it_can_be_opened_at_every_moment() {
    for force_pending in [false, true] {
        at_every_call(pending(force_pending), |pc| {
            pc.scanner.set_registers(0x2000, &[7]);
            let block = parscan_tests::usbscan_h::IoBlock {
                offset: 0x2000,
                length: 1,
                ..parscan_tests::usbscan_h::IoBlock::default()
            };
            Box::new(move |machine| {
                let caller = ntsim::Caller::User64;
                let handle = check(machine.open(r"\\.\Usbscan0", caller)).expect("opened");
                let code = parscan_tests::usbscan_h::IOCTL_READ_REGISTERS;
                let input = block.bytes(caller);
                let read = check(machine.device_io_control(handle, code, &input, 1));
                // Never refused, and never interrupted.
                assert_eq!(
                    (read.status, &read.output[..]),
                    (NtStatus::SUCCESS, &[7][..])
                );
                assert_eq!(check(machine.close(handle)), NtStatus::SUCCESS);
            })
        });
    }
}

#[test]
fn the_system_can_sleep_at_every_moment() {
    for force_pending in [false, true] {
        at_every_call(pending(force_pending), |pc| {
            let node = pc.node;
            Box::new(move |machine| {
                assert_eq!(check(machine.sleep()), NtStatus::SUCCESS);
                assert_eq!(machine.usb_power(node), D3);
                let idle = machine.usb_idle(node);
                assert!(!idle.request && !idle.wake, "{idle:?}");
                check(machine.wake());
            })
        });
    }
}

/// [`at_every_call`], of an event that takes the machine and the devnode alone.
fn happens_at_every_call(event: fn(&Machine, DevNode)) {
    at_every_call(Config::seeded, |pc| {
        let node = pc.node;
        Box::new(move |machine| event(machine, node))
    });
}

#[test]
fn it_can_be_stopped_at_every_moment() {
    happens_at_every_call(|machine, node| {
        assert_eq!(check(machine.stop(node)), NtStatus::SUCCESS);
        let idle = machine.usb_idle(node);
        assert!(!idle.request && !idle.wake, "{idle:?}");
        assert_eq!(check(machine.start(node)), NtStatus::SUCCESS);
    });
}

#[test]
fn it_can_be_unplugged_at_every_moment() {
    happens_at_every_call(|machine, node| {
        check(machine.unplug(node));
    });
}

#[test]
fn it_can_be_removed_at_every_moment() {
    happens_at_every_call(|machine, node| {
        assert_eq!(check(machine.remove(node)), NtStatus::SUCCESS);
    });
}

/// The button of a scanner that is suspended: it comes back, without an open, and is suspended again.
#[test]
fn its_signal_wakes_it_up() {
    let pc = with_button(&SUSPEND);
    for k in 1..5 {
        check(pc.machine.run_for(SECOND));
        let idle = pc.machine.usb_idle(pc.node);
        assert_eq!((idle.request, idle.wake, idle.suspended), (true, true, k));
        assert_eq!(power(&pc), D2);
        assert!(pc.machine.signal_wake(pc.node));
        check(pc.machine.run_for(100 * MS));
        assert_eq!(power(&pc), D0);
        assert!(!pc.machine.usb_idle(pc.node).wake);
        assert!(!pc.machine.signal_wake(pc.node), "no request waits for it");
    }
    // What it has to say is heard by who opens it next.
    pc.scanner.press(&[5]);
    let file = pc.open();
    let event = pc.wait_on_event(file, 8);
    assert_eq!(pc.finish_request(&event).output[..1], [5]);
    pc.close_and_finish(file);
}

/// A signal and an open at once.
#[test]
fn its_signal_meets_an_open() {
    for seed in 0..40 {
        let setup = ScannerSetup::seeded(seed).with_numbers(&SUSPEND);
        setup.scanner.set_remote_wakeup();
        let pc = suspended(setup);
        let node = pc.node;
        let at = pc.machine.kernel_calls() + 1 + seed;
        pc.machine.at(When::KernelCall(at), move |machine| {
            let _ = machine.signal_wake(node);
        });
        use_once(&pc);
        check(pc.machine.run_for(SECOND));
        assert_eq!(power(&pc), D2);
        pc.finish();
    }
}

const S3: u32 = 4;

/// Only a scanner that can, and whose registry says so, wakes the system, and only from the states
/// that its hub can wake it from.
#[test]
fn the_registry_says_whether_it_wakes_the_system() {
    for (wakes, can, suspends) in [
        (true, true, false),
        (true, true, true),
        (true, false, false),
        (false, true, true),
        (false, true, false),
    ] {
        let mut numbers = vec![("SystemWakeEnabled", u32::from(wakes))];
        if suspends {
            numbers.extend(SUSPEND);
        }
        let setup = setup(&numbers);
        if can {
            setup.scanner.set_remote_wakeup();
        }
        let pc = setup.started();
        let listens = wakes && can;
        assert_eq!(
            pc.machine.usb_idle(pc.node).wake,
            listens,
            "from the start on"
        );
        for round in 0..3 {
            check(pc.machine.run_for(SECOND));
            let idle = pc.machine.usb_idle(pc.node);
            assert_eq!(idle.wake, listens || suspends && can, "{round}");
            assert_eq!(power(&pc), if suspends { D2 } else { D0 });
            assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
            assert_eq!(power(&pc), if listens { D2 } else { D3 });
            assert_eq!(pc.machine.usb_idle(pc.node).wake, listens);
            assert_eq!(pc.machine.signal_wake(pc.node), listens);
            check(pc.machine.run_for(10 * MS));
            check(pc.machine.wake());
            check(pc.machine.settle());
            check(pc.machine.run_for(10 * MS));
            assert_eq!(
                pc.machine.usb_idle(pc.node).wake,
                listens,
                "it listens again"
            );
            use_once(&pc);
        }
        // Shutdown: from there nothing wakes up.
        check(pc.machine.run_for(SECOND));
        check(pc.machine.shut_down());
        assert_eq!(power(&pc), D3);
        assert!(!pc.machine.usb_idle(pc.node).wake);
        pc.machine
            .send_power_irp(pc.node, 2, [0, 0, 1, 0])
            .expect("kept");
        check(pc.machine.settle());
        pc.finish();
    }
}

/// From D2 there is no way to D3 but by D0.
#[test]
fn a_suspended_scanner_sleeps_with_the_system_by_way_of_full_power() {
    let pc = suspended(setup(&SUSPEND));
    let before = pc.machine.usb_powers(pc.node).len();
    assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
    check(pc.machine.wake());
    check(pc.machine.settle());
    check(pc.machine.run_for(SECOND));
    assert_eq!(pc.machine.usb_powers(pc.node)[before..], [D0, D3, D0, D2]);
    assert_eq!(
        check(
            pc.machine
                .send_power_irp(pc.node, 3, [0, 0, S3 as usize, 0])
        )
        .0,
        NtStatus::SUCCESS
    );
    use_once(&pc);
    pc.finish();
}

/// Whatever cannot be had of what a suspension and the way back need: nothing is lost or left.
#[test]
fn every_failing_call_is_survived() {
    for k in 1.. {
        let mut numbers = SUSPEND.to_vec();
        numbers.push(("SystemWakeEnabled", 1));
        let setup = setup(&numbers);
        setup.scanner.set_remote_wakeup();
        let pc = setup.loaded();
        assert_eq!(
            check(pc.machine.add_device(pc.node, pc.driver)),
            NtStatus::SUCCESS
        );
        pc.machine.inject_failure(k);
        let started = check(pc.machine.start(pc.node)) == NtStatus::SUCCESS;
        check(pc.machine.run_for(2 * SECOND));
        if let Ok(file) = pc.try_open(r"\\.\Usbscan0", ntsim::Caller::User64) {
            let _ = pc.read_registers(file, 0, 4);
            pc.close(file);
        }
        check(pc.machine.run_for(5 * SECOND));
        assert!(!started || power(&pc) == D2 || pc.machine.usb_idle(pc.node).requests == 0);
        assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
        check(pc.machine.wake());
        check(pc.machine.settle());
        let failed = !pc.machine.failed_calls().is_empty();
        pc.finish();
        if !failed {
            assert!(k > 20, "{k}");
            break;
        }
    }
}

/// The documents want no `SELECT_CONFIGURATION` of nothing when a device stops or is removed, and
/// no registry value asked for it: the start's is the last URB.
#[test]
fn a_stop_and_a_removal_send_nothing() {
    let pc = ScannerPc::new();
    let started = pc.machine.urb_count();
    let of_start = pc.urbs_since(0);
    assert_eq!(
        of_start.last().expect("a URB").function,
        function::SELECT_CONFIGURATION
    );
    assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
    assert_eq!(pc.machine.urb_count(), started);
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    let started = pc.machine.urb_count();
    check(pc.machine.unplug(pc.node));
    assert_eq!(pc.machine.urb_count(), started);
    pc.unload();
    drop(pc);
    let pc = ScannerPc::new();
    let (started, machine) = (pc.machine.urb_count(), pc.machine.clone());
    pc.finish();
    assert_eq!(machine.urb_count(), started);
}

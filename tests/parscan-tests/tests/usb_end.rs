//! How requests of a scanner end otherwise: by a button, cancelled, reset, out of time, asleep,
//! stopped, removed.

use ntsim::{NtStatus, Pending, When};
use parscan_models::{Endpoint, Scanner, Speed};
use parscan_tests::{
    MS, SECOND, check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        self, ALL_PIPE, EVENT_PIPE, IOCTL_CANCEL_IO, IOCTL_RESET_PIPE, IOCTL_SET_TIMEOUT,
        READ_DATA_PIPE, WRITE_DATA_PIPE, pipe_type, timeout,
    },
};

/// Two events, two reads and two writes that wait for the device.
struct Waiting {
    events: Vec<Pending>,
    reads: Vec<Pending>,
    writes: Vec<Pending>,
}

impl Waiting {
    fn start(pc: &ScannerPc, file: Opened) -> Self {
        pc.scanner.set_silent(BULK_OUT, true);
        let waiting = Self {
            events: (0..2).map(|_| pc.wait_on_event(file, 8)).collect(),
            reads: (0..2)
                .map(|_| pc.machine.start_read(file.handle, 100_000))
                .collect(),
            writes: (0..2)
                .map(|_| pc.machine.start_write(file.handle, &vec![1; 100_000]))
                .collect(),
        };
        check(pc.machine.run_for(10 * MS));
        waiting
    }

    fn of(&self, pipe: u32) -> &[Pending] {
        match pipe {
            EVENT_PIPE => &self.events,
            READ_DATA_PIPE => &self.reads,
            _ => &self.writes,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pending> {
        self.events.iter().chain(&self.reads).chain(&self.writes)
    }

    #[track_caller]
    fn end_with(&self, pc: &ScannerPc, status: NtStatus) {
        for request in self.all() {
            let result = pc.finish_request(request);
            assert_eq!(result.outcome(), (status, 0));
        }
    }
}

#[test]
fn a_button_ends_the_wait_whatever_room_there_is() {
    ScannerPc::new().with_open(|pc, file| {
        for room in [0, 1, 3, 8, 64] {
            let event = pc.wait_on_event(file, room);
            check(pc.machine.run_for(300 * SECOND));
            assert!(!pc.machine.is_done(&event), "no time-out");
            pc.scanner.press(&[0xA1, 0xA2, 0xA3, 0xA4, 0xA5]);
            let event = pc.finish_request(&event);
            let fits = room.min(5);
            assert_eq!(event.outcome(), (NtStatus::SUCCESS, fits));
            assert_eq!(event.output[..fits], [0xA1, 0xA2, 0xA3, 0xA4, 0xA5][..fits]);
        }
    });
}

#[test]
fn every_request_can_be_cancelled() {
    for seed in 0..8 {
        ScannerSetup::seeded(seed).started().with_open(|pc, file| {
            let waiting = Waiting::start(pc, file);
            for request in waiting.all() {
                check(pc.machine.cancel(request));
            }
            waiting.end_with(pc, NtStatus::CANCELLED);
            pc.scanner.set_silent(BULK_OUT, false);
            assert_eq!(pc.write(file, &[1; 100]).information, 100);
        });
    }
}

/// Cancelled just as its URB goes out, for each URB of a transfer.
#[test]
fn a_transfer_can_be_cancelled_at_every_urb() {
    for k in 1..=5 {
        ScannerPc::new().with_open(|pc, file| {
            let image = Scanner::image(7, 300_000);
            pc.scanner.send(BULK_IN, &image, false);
            let read = pc.machine.start_read(file.handle, 280_000);
            let request = read.clone();
            pc.machine
                .at(When::Urb(pc.machine.urb_count() + k), move |machine| {
                    check(machine.cancel(&request));
                });
            let read = pc.finish_request(&read);
            assert_eq!(read.status, NtStatus::CANCELLED, "URB {k}");
            // What the URBs before it brought is there, and told.
            let came = read.information;
            assert_eq!(came, usize::try_from(k - 1).unwrap() * 0x1_0000, "URB {k}");
            assert!(read.output[..came] == image[..came], "URB {k}");
            let next = pc.read(file, 512);
            assert_eq!(next.outcome(), (NtStatus::SUCCESS, 512));
            assert!(next.output == image[came..came + 512], "URB {k}");
        });
    }
}

#[test]
fn cancel_io_ends_the_requests_of_one_pipe_of_the_handle() {
    for pipe in [EVENT_PIPE, READ_DATA_PIPE, WRITE_DATA_PIPE] {
        let pc = ScannerPc::new();
        let (file, other) = (pc.open(), pc.open());
        let waiting = Waiting::start(&pc, file);
        let others = Waiting::start(&pc, other);
        let cancel = pc.control(file, IOCTL_CANCEL_IO, &pipe_type(pipe), 0);
        assert_eq!(cancel.outcome(), (NtStatus::SUCCESS, 0));
        for request in waiting.of(pipe) {
            let result = pc.finish_request(request);
            assert_eq!(result.outcome(), (NtStatus::CANCELLED, 0));
        }
        check(pc.machine.run_for(SECOND));
        let ended = waiting
            .all()
            .chain(others.all())
            .filter(|request| pc.machine.is_done(request))
            .count();
        assert_eq!(ended, 2, "nothing else");
        let cancel = pc.control(file, IOCTL_CANCEL_IO, &pipe_type(ALL_PIPE), 0);
        assert_eq!(cancel.status, NtStatus::SUCCESS);
        waiting.end_with(&pc, NtStatus::CANCELLED);
        // Documented: all pipes are those of other handles, too.
        others.end_with(&pc, NtStatus::CANCELLED);
        pc.close(file);
        pc.close_and_finish(other);
    }
}

#[test]
fn pipes_that_are_not_there_are_refused() {
    let pc = ScannerSetup {
        scanner: Scanner::with_endpoints(Speed::High, &[Endpoint::bulk(0x81, 512)]),
        ..ScannerSetup::default()
    }
    .started();
    let file = pc.open();
    for code in [IOCTL_CANCEL_IO, IOCTL_RESET_PIPE] {
        for (pipe, status) in [
            (EVENT_PIPE, NtStatus::INVALID_PARAMETER),
            (READ_DATA_PIPE, NtStatus::SUCCESS),
            (WRITE_DATA_PIPE, NtStatus::INVALID_PARAMETER),
            (ALL_PIPE, NtStatus::SUCCESS),
            (4, NtStatus::INVALID_PARAMETER),
        ] {
            let result = pc.control(file, code, &pipe_type(pipe), 0);
            assert_eq!(result.outcome(), (status, 0), "{pipe}");
        }
        let short = pc.control(file, code, &[0; 3], 0);
        assert_eq!(short.status, NtStatus::INVALID_PARAMETER);
    }
    let event = pc.control(file, usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT, &[], 8);
    assert_eq!(event.status, NtStatus::INVALID_PARAMETER);
    assert_eq!(pc.write(file, &[1]).status, NtStatus::INVALID_PARAMETER);
    pc.close_and_finish(file);
}

/// A reset ends what is under way on the pipe, for every handle, and what is queued goes on.
#[test]
fn a_pipe_is_reset_while_it_is_used() {
    for seed in 0..8 {
        let pc = ScannerSetup::seeded(seed).started();
        let (file, other) = (pc.open(), pc.open());
        let waiting = Waiting::start(&pc, file);
        let others = Waiting::start(&pc, other);
        let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(READ_DATA_PIPE), 0);
        assert_eq!(reset.outcome(), (NtStatus::SUCCESS, 0));
        for reads in [&waiting.reads, &others.reads] {
            // Either may have been the first.
            let ended = reads.iter().filter(|read| pc.machine.is_done(read));
            let [first] = ended.collect::<Vec<_>>()[..] else {
                panic!("one read ends");
            };
            let first = pc.finish_request(first);
            assert_eq!(first.outcome(), (NtStatus::CANCELLED, 0));
        }
        check(pc.machine.run_for(10 * MS));
        assert!(!pc.machine.is_done(&waiting.events[0]));
        for _ in 0..2 {
            pc.scanner.send(BULK_IN, b"after the reset", false);
        }
        for reads in [&waiting.reads, &others.reads] {
            let moved: usize = reads
                .iter()
                .map(|read| pc.finish_request(read).information)
                .sum();
            assert_eq!(moved, 15);
        }
        let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0);
        assert_eq!(reset.status, NtStatus::SUCCESS);
        pc.close(file);
        pc.close_and_finish(other);
    }
}

#[test]
fn a_reset_that_the_device_does_not_answer_can_be_cancelled() {
    ScannerPc::new().with_open(|pc, file| {
        pc.scanner.set_silent(0, true);
        let reset = pc.start(file, IOCTL_RESET_PIPE, &pipe_type(READ_DATA_PIPE), 0);
        check(pc.machine.run_for(SECOND));
        assert!(!pc.machine.is_done(&reset));
        check(pc.machine.cancel(&reset));
        assert_eq!(pc.finish_request(&reset).status, NtStatus::CANCELLED);
        pc.scanner.set_silent(0, false);
        pc.scanner.send(BULK_IN, b"it works", false);
        assert_eq!(pc.read(file, 64).information, 8);
    });
}

/// A reset is a control request, too: it ends.
#[test]
fn a_reset_is_given_its_time() {
    for (set, seconds) in [(None, 120), (Some((3, 5, 7)), 5), (Some((0, 0, 0)), 120)] {
        ScannerPc::new().with_open(|pc, file| {
            if let Some((read, write, event)) = set {
                let result = pc.control(file, IOCTL_SET_TIMEOUT, &timeout(read, write, event), 0);
                assert_eq!(result.status, NtStatus::SUCCESS);
            }
            pc.scanner.set_silent(0, true);
            let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(READ_DATA_PIPE), 0);
            assert_eq!(reset.outcome(), (NtStatus::IO_TIMEOUT, 0));
            assert_eq!(reset.took / SECOND, seconds, "{set:?}");
            pc.scanner.set_silent(0, false);
            pc.scanner.send(BULK_IN, b"it works", false);
            assert_eq!(pc.read(file, 64).information, 8);
        });
    }
}

#[test]
fn requests_are_given_their_time_and_no_less() {
    for (set, seconds) in [
        (None, (120u32, 120u32, 0u32)),
        (Some((1, 2, 3)), (1, 2, 3)),
        (Some((214, 215, u32::MAX)), (214, 214, 214)),
        (Some((0, 0, 0)), (0, 0, 0)),
    ] {
        let pc = ScannerPc::new();
        let (file, other) = (pc.open(), pc.open());
        if let Some((read, write, event)) = set {
            let result = pc.control(file, IOCTL_SET_TIMEOUT, &timeout(read, write, event), 0);
            assert_eq!(result.outcome(), (NtStatus::SUCCESS, 0));
        }
        pc.scanner.set_silent(BULK_OUT, true);
        let others = pc.wait_on_event(other, 8);
        let requests = [
            (pc.machine.start_read(file.handle, 64), seconds.0),
            (pc.machine.start_write(file.handle, &[0; 64]), seconds.1),
            (pc.wait_on_event(file, 8), seconds.2),
        ];
        for (request, seconds) in &requests {
            if *seconds == 0 {
                continue;
            }
            let result = pc.finish_request(request);
            assert_eq!(result.outcome(), (NtStatus::IO_TIMEOUT, 0));
            let time = u64::from(*seconds) * SECOND;
            assert!(
                (time..time + 100 * MS).contains(&result.took),
                "{seconds} s: {} ms",
                result.took / MS
            );
        }
        check(pc.machine.run_for(500 * SECOND));
        for (request, seconds) in &requests {
            assert_eq!(pc.machine.is_done(request), *seconds != 0);
        }
        assert!(!pc.machine.is_done(&others), "a time-out is of a handle");
        pc.close(file);
        pc.close_and_finish(other);
    }
}

/// The time is that of the whole transfer, and a transfer that is fast enough has no time-out.
#[test]
fn the_time_is_that_of_the_whole_read() {
    ScannerPc::new().with_open(|pc, file| {
        let result = pc.control(file, IOCTL_SET_TIMEOUT, &timeout(1, 1, 1), 0);
        assert_eq!(result.status, NtStatus::SUCCESS);
        // Fifty requests, each of a tenth of a second.
        for round in 1..=50u64 {
            pc.scanner.hold(BULK_IN, pc.machine.now() + 100 * MS);
            pc.scanner.send(BULK_IN, &[1; 100], false);
            let read = pc.read(file, 100);
            assert_eq!(read.status, NtStatus::SUCCESS, "{round}");
        }
        // 64 KiB come, and then nothing: a short read, and then none.
        pc.scanner.send(BULK_IN, &vec![1; 0x1_0000], false);
        for (status, came) in [(NtStatus::SUCCESS, 0x1_0000), (NtStatus::IO_TIMEOUT, 0)] {
            let read = pc.read(file, 0x2_0000);
            assert_eq!(read.outcome(), (status, came));
            assert!((SECOND..SECOND + 100 * MS).contains(&read.took));
        }
    });
}

#[test]
fn closing_a_handle_ends_its_requests_and_no_others() {
    let pc = ScannerPc::new();
    let (file, other) = (pc.open(), pc.open());
    let waiting = Waiting::start(&pc, file);
    let others = Waiting::start(&pc, other);
    pc.close(file);
    waiting.end_with(&pc, NtStatus::CANCELLED);
    assert!(others.all().all(|request| !pc.machine.is_done(request)));
    pc.close(other);
    others.end_with(&pc, NtStatus::CANCELLED);
    pc.finish();
}

/// `IRP_MN_SET_POWER`
const SET_POWER: u8 = 2;
/// `SystemPowerState`, `DevicePowerState`
const SYSTEM: usize = 0;
const DEVICE: usize = 1;

#[test]
fn before_the_device_sleeps_its_requests_end() {
    for (kind, down, up) in [(SYSTEM, 4, 1), (DEVICE, 4, 1)] {
        ScannerPc::new().with_open(|pc, file| {
            let waiting = Waiting::start(pc, file);
            let power = |state| {
                check(
                    pc.machine
                        .send_power_irp(pc.node, SET_POWER, [0, kind, state, 0]),
                )
                .0
            };
            assert_eq!(power(down), NtStatus::SUCCESS);
            waiting.end_with(pc, NtStatus::CANCELLED);
            let before = pc.machine.urb_count();
            assert_eq!(pc.read(file, 64).status, NtStatus::DEVICE_NOT_READY);
            assert_eq!(
                pc.read_registers(file, 0, 4).status,
                NtStatus::DEVICE_NOT_READY
            );
            assert_eq!(pc.machine.urb_count(), before);
            assert_eq!(power(up), NtStatus::SUCCESS);
            let event = pc.wait_on_event(file, 8);
            pc.scanner.press(&[1]);
            assert_eq!(pc.finish_request(&event).status, NtStatus::SUCCESS);
        });
    }
}

#[test]
fn a_stopped_device_is_not_ready_and_starts_again() {
    ScannerPc::new().with_open(|pc, file| {
        let waiting = Waiting::start(pc, file);
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        assert!(waiting.all().all(|request| !pc.machine.is_done(request)));
        assert_eq!(check(pc.machine.cancel_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
        waiting.end_with(pc, NtStatus::CANCELLED);
        assert_eq!(pc.read(file, 64).status, NtStatus::DEVICE_NOT_READY);
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        pc.scanner.send(BULK_IN, b"again", false);
        assert_eq!(pc.read(file, 64).information, 5);
    });
}

/// Stopped, and started again with other endpoints: what a handle knows of its pipes is no longer
/// true, so its requests are refused. With the same endpoints it goes on.
#[test]
fn a_handle_belongs_to_the_endpoints_that_it_was_opened_with() {
    let endpoints = Scanner::default().endpoints();
    let larger = [
        // The same places, but another type, another size, another address.
        Endpoint::interrupt(0x81, 64, 4),
        Endpoint::bulk(0x02, 64),
        Endpoint::bulk(0x83, 64),
    ];
    for (other, same) in [
        (&larger[..], false),
        (&endpoints[..2], false),
        (&endpoints, true),
    ] {
        ScannerPc::new().with_open(|pc, file| {
            let waiting = Waiting::start(pc, file);
            assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
            assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
            waiting.end_with(pc, NtStatus::CANCELLED);
            pc.scanner.set_endpoints(other);
            pc.scanner.set_silent(BULK_OUT, false);
            assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
            let before = pc.machine.urb_count();
            if same {
                assert_eq!(pc.write(file, &[1; 100]).information, 100);
            } else {
                let refused = (NtStatus::INVALID_DEVICE_STATE, 0);
                for code in usbscan_h::REQUESTS {
                    let result = pc.control(file, code, &[0; 24], 68);
                    assert_eq!(result.outcome(), refused, "{code:#x}");
                }
                for result in [pc.read(file, 64), pc.write(file, &[1; 100])] {
                    assert_eq!(result.outcome(), refused);
                }
                assert_eq!(pc.machine.urb_count(), before);
            }
            let new = pc.open();
            assert_eq!(pc.write(new, &[1; 100]).information, 100);
            pc.close(new);
        });
    }
}

/// Waking up is not starting.
#[test]
fn a_stopped_device_that_wakes_up_is_not_ready_yet() {
    for kind in [SYSTEM, DEVICE] {
        ScannerPc::new().with_open(|pc, file| {
            let power = |state| {
                check(
                    pc.machine
                        .send_power_irp(pc.node, SET_POWER, [0, kind, state, 0]),
                )
                .0
            };
            assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
            assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
            for state in [4, 1] {
                assert_eq!(power(state), NtStatus::SUCCESS);
                let before = pc.machine.urb_count();
                let read = pc.read_registers(file, 0, 4);
                assert_eq!(read.status, NtStatus::DEVICE_NOT_READY, "{kind}: {state}");
                assert_eq!(pc.machine.urb_count(), before);
            }
            assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
            assert_eq!(pc.read_registers(file, 0, 4).status, NtStatus::SUCCESS);
        });
    }
}

#[test]
fn a_removal_ends_what_is_pending() {
    for seed in 0..8 {
        let pc = ScannerSetup::seeded(seed).started();
        let file = pc.open();
        let waiting = Waiting::start(&pc, file);
        check(pc.machine.unplug(pc.node));
        waiting.end_with(&pc, NtStatus::NO_SUCH_DEVICE);
        let late = pc.read(file, 64);
        assert_eq!(late.outcome(), (NtStatus::DELETE_PENDING, 0));
        assert!(pc.try_open(r"\\.\Usbscan0", file.caller).is_err());
        pc.close(file);
        check(pc.machine.run_until_idle());
        pc.unload();
    }
}

#[test]
fn two_scanners_have_two_names() {
    let pc = ScannerPc::new();
    let second = Scanner::default();
    let spec = ScannerSetup::default().device("2");
    let node = pc.machine.plug_usb(
        spec,
        std::rc::Rc::new(std::cell::RefCell::new(second.clone())),
    );
    assert_eq!(
        check(pc.machine.add_device(node, pc.driver)),
        NtStatus::SUCCESS
    );
    assert_eq!(check(pc.machine.start(node)), NtStatus::SUCCESS);
    let file = pc.open_as(r"\\.\usbscan1", ntsim::Caller::User64);
    second.send(BULK_IN, b"second", false);
    assert_eq!(pc.read(file, 64).information, 6);
    pc.close(file);
    check(pc.machine.remove(node));
    pc.finish();
}

/// A reset that finds no memory says so, and the next one works.
#[test]
fn a_reset_without_memory_is_told() {
    ScannerPc::new().with_open(|pc, file| {
        pc.machine.inject_into(pc.driver);
        let mut failed = 0;
        for k in 1..6 {
            pc.machine.inject_failure(k);
            let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(READ_DATA_PIPE), 0);
            pc.machine.inject_no_failure();
            if reset.status != NtStatus::SUCCESS {
                failed += 1;
                assert_eq!(
                    reset.outcome(),
                    (NtStatus::INSUFFICIENT_RESOURCES, 0),
                    "{k}"
                );
            }
            pc.scanner.send(BULK_IN, b"it works", false);
            assert_eq!(pc.read(file, 64).information, 8, "{k}");
        }
        assert!(failed > 0);
    });
}

//! Port programs on the shipping driver: what moves on the lines, when, and for whom.

use std::{cell::RefCell, rc::Rc};

use ntsim::{Caller, Config, Handle, NtStatus, Stop, When, Where, Who};
use parscan_models::{Line, PortAccess};
use parscan_tests::{
    MS, SECOND, Setup, US, check,
    client::{Callback, DEVICE, PASSIVE, on_port},
    ntddpar::{IOCTL_IEEE1284_GET_MODE, IOCTL_PAR_IS_PORT_FREE},
    parallel_h::{
        IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        IOCTL_INTERNAL_PARALLEL_PORT_FREE,
    },
    port_programs::{
        END, End, IOCTL_PARSCAN_GET_PORT, IOCTL_PARSCAN_RUN, LinesPc, NEXT_DATA, Ran, control,
        data, delay, delay_us, get, lines_pc, next_control, pace, repeat, request, second_reading,
        until, wait,
    },
};

const IDLE: u8 = 0x0C;

fn pc() -> LinesPc {
    lines_pc(Setup::default())
}

fn writes(accesses: &[PortAccess]) -> Vec<(u16, Option<u8>)> {
    accesses.iter().map(|it| (it.offset, it.written)).collect()
}

/// Claims the port, and sets its lines.
#[track_caller]
fn claim_and_set(pc: &LinesPc, lpt1: Handle, lines: [[u8; 4]; 2]) {
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    pc.run_to_end(lpt1, &request(&lines, &[], false), 0);
}

#[test]
fn the_port_is_described() {
    pc().with_open(|pc, lpt1| {
        let port = pc.control(lpt1, IOCTL_PARSCAN_GET_PORT, &[], 64);
        assert_eq!(port.outcome(), (NtStatus::SUCCESS, 64));
        let at = |offset: usize| u32::from_le_bytes(port.output[offset..][..4].try_into().unwrap());
        assert_eq!((at(0), at(4)), (1, 64), "version and size");
        assert_eq!((at(8), at(12)), (0x378, 0), "base");
        assert_eq!((at(16), at(24)), (0, 8), "no ECR, eight registers");
        assert_eq!(at(28), 0x01, "the direction, and nothing else");
        assert!((900..1200).contains(&at(32)), "{} ns an access", at(32));
        assert_eq!((at(36), at(48), at(52)), (4096, 1 << 20, 4));
        assert_eq!((at(56), at(60)), (64, 50_000));
        let short = pc.control(lpt1, IOCTL_PARSCAN_GET_PORT, &[], 63);
        assert_eq!(short.status, NtStatus::BUFFER_TOO_SMALL);
    });
}

#[test]
fn a_trigger_makes_its_accesses_and_no_other_and_allocates_nothing() {
    pc().with_open(|pc, lpt1| {
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        for atomic in [false, true] {
            let trigger = request(&[data(1), delay(10_000), data(0)], &[], atomic);
            let _ = pc.accesses();
            let allocations = pc.machine.allocations(pc.driver);
            let before = pc.machine.times();
            let ran = Ran::of(&pc.run(lpt1, &trigger, 0));
            let after = pc.machine.times();
            assert_eq!(pc.machine.allocations(pc.driver), allocations);
            assert_eq!((ran.end, ran.instruction, ran.accesses), (End::Done, 3, 2));
            let accesses = pc.accesses();
            assert_eq!(writes(&accesses), [(0, Some(1)), (0, Some(0))]);
            let width = accesses[1].start - accesses[0].start;
            assert!((10 * US..=11 * US).contains(&width), "{width} ns");
            assert_eq!(after.sleeping, before.sleeping, "in the caller's thread");
        }
    });
}

/// The scheduler takes the processor away for milliseconds wherever it may: a pulse that is atomic
/// keeps its width, and another does not.
#[test]
fn an_atomic_pulse_is_not_stretched() {
    let mut stretched = 0;
    for seed in 0..200 {
        let pc = lines_pc(Setup::with_config(Config {
            preempt_per_mille: 0,
            preempted_ns: 3 * MS,
            ..Config::default()
        }));
        pc.machine.reseed(seed, 300);
        let lpt1 = pc.open();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let _ = pc.accesses();
        let pulse = request(&[data(0x81), delay(10_000), data(0)], &[], true);
        let ran = Ran::of(&pc.run(lpt1, &pulse, 0));
        assert_eq!(ran.end, End::Done);
        let accesses = pc.accesses();
        let width = accesses[1].start - accesses[0].start;
        assert!((10 * US..=11 * US).contains(&width), "{seed}: {width} ns");
        if seed < 20 {
            let plain = request(&[data(0x81), delay(10_000), data(0)], &[], false);
            pc.run_to_end(lpt1, &plain, 0);
            let accesses = pc.accesses();
            let width = accesses[1].start - accesses[0].start;
            assert!(width >= 10 * US);
            stretched += u32::from(width > 11 * US);
        }
        pc.close_and_finish(lpt1);
    }
    assert!(stretched > 0, "the load is one");
}

/// Every instruction between the two accesses of an atomic pulse runs at `DISPATCH_LEVEL`, so that no
/// thread takes the processor away there. And where the caller's thread does lose it, for
/// milliseconds, the pulse has its width.
#[test]
fn an_atomic_pulse_keeps_its_width_at_every_instruction() {
    let pc = lines_pc(Setup::with_config(Config {
        preempt_per_mille: 0,
        patch_ports: false,
        max_steps: u64::MAX,
        ..Config::default()
    }));
    let lpt1 = pc.open();
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    let pulse = request(&[data(1), delay(10_000), data(0)], &[], true);
    let send = || {
        let program = pulse.clone();
        let _ = pc.accesses();
        pc.machine.start_thread("a program", move |machine| {
            let ran = check(machine.device_io_control(lpt1, IOCTL_PARSCAN_RUN, &program, 32));
            assert_eq!(Ran::of(&ran).end, End::Done);
        })
    };
    let watch = |thread, decide: Box<dyn FnMut(Stop) -> bool>| {
        let (who, place) = (Who::Thread(thread), Where::Instructions);
        pc.machine.watch(who, place, pc.driver, decide);
    };
    let width = |what: u64| {
        let accesses = pc.accesses();
        assert_eq!(writes(&accesses), [(0, Some(1)), (0, Some(0))], "{what}");
        let width = accesses[1].start - accesses[0].start;
        assert!((10 * US..=11 * US).contains(&width), "{what}: {width} ns");
    };
    // Of each instruction: the accesses before it, and its IRQL.
    let stops = Rc::new(RefCell::new(Vec::new()));
    let (seen, machine, before) = (
        Rc::clone(&stops),
        pc.machine.clone(),
        pc.machine.port_accesses(),
    );
    let thread = send();
    let note = move |stop: Stop| {
        let accesses = machine.port_accesses() - before;
        seen.borrow_mut().push((accesses, stop.irql));
        false
    };
    watch(thread, Box::new(note));
    assert!(check(pc.machine.run_threads(&[thread], 20 * MS)));
    pc.machine.end_watch();
    width(0);
    let stops = stops.take();
    let inside = stops.iter().filter(|it| it.0 == 1).count();
    assert!(inside > 20, "{inside}");
    assert!(stops.iter().all(|it| it.0 != 1 || it.1 >= 2));
    let mut points: Vec<u64> = (1..)
        .zip(&stops)
        .filter(|it| it.1.1 < 2)
        .map(|it| it.0)
        .collect();
    println!(
        "{} instructions, {inside} of them inside, {} below DISPATCH_LEVEL",
        stops.len(),
        points.len()
    );
    let every = points.len().div_ceil(16);
    points = points.into_iter().step_by(every).collect();
    for point in points {
        let thread = send();
        watch(thread, Box::new(move |stop| stop.number == point));
        assert!(
            !check(pc.machine.run_threads(&[thread], 20 * MS)),
            "{point}"
        );
        check(pc.machine.run_for(5 * MS));
        pc.machine.let_go();
        assert!(check(pc.machine.run_threads(&[thread], 20 * MS)));
        pc.machine.end_watch();
        width(point);
    }
    pc.close_and_finish(lpt1);
}

#[test]
fn lines_are_read_back_through_the_plug() {
    pc().with_open(|pc, lpt1| {
        let code = [data(0x0B), get(1), get(0), get(2), data(0x14), get(1)];
        // Without a claim, in the worker; with one, at once.
        for claimed in [false, true] {
            if claimed {
                assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
            }
            let ran = Ran::of(&pc.run(lpt1, &request(&code, &[], false), 4));
            let [status, now, dcr, other] = ran.output[..].try_into().unwrap();
            // D0, D1, D3 to nFault, Select, nAck; D4 to Busy, which is inverted.
            assert_eq!((status & 0xF8, now), (0xD8, 0x0B));
            assert_eq!((dcr & 0x2F, other & 0xF8), (IDLE, 0x20));
        }
    });
}

#[test]
fn a_bad_program_moves_nothing() {
    pc().with_open(|pc, lpt1| {
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let _ = pc.accesses();
        let good = request(&[data(1), data(2)], &[], false);
        let forever = [repeat(0xFF_FFFF), repeat(0xFF_FFFF), END, END];
        // More steps, accesses and nanoseconds than 64 bits count.
        let countless = |inner: [u8; 4]| {
            let again = repeat(0xFF_FFFF);
            [again, again, again, inner, END, END, END, inner, data(1)]
        };
        for (bad, output) in [
            (good[..good.len() - 1].to_vec(), 0),
            ([&good[..], &[0]].concat(), 0),
            (request(&[data(1), control(0x10, 0x10)], &[], false), 0),
            (request(&[data(1), control(0, 0x80)], &[], false), 0),
            (request(&[data(1), [12, 0, 1, 0]], &[], false), 0),
            (request(&[data(1), [14, 0, 0, 0]], &[], false), 0),
            (request(&forever, &[], false), 0),
            (request(&countless(delay_us(50_000)), &[], false), 0),
            (request(&countless(data(1)), &[], false), 0),
            (request(&countless(get(1)), &[], false), 4096),
            (request(&[data(1), wait(0x08, 0x08, true)], &[], false), 1),
            (request(&[data(1), repeat(2)], &[], false), 0),
            (request(&[data(1), NEXT_DATA], &[], false), 0),
            (request(&[data(1), get(1)], &[], false), 0),
            (request(&[data(1), delay_us(51)], &[], true), 0),
            (vec![], 0),
        ] {
            let refused = pc.run(lpt1, &bad, output);
            assert_eq!(refused.status, NtStatus::INVALID_PARAMETER, "{bad:?}");
            assert_eq!(refused.information, 0);
        }
        let no_header = pc.control(lpt1, IOCTL_PARSCAN_RUN, &good, 31);
        assert_eq!(no_header.status, NtStatus::INVALID_PARAMETER);
        assert_eq!(pc.accesses(), []);
    });
}

#[test]
fn a_handle_that_may_not_write_moves_no_line() {
    let pc = pc();
    let open = |access| check(pc.machine.open_with(r"\\.\LPT1", Caller::User64, access)).unwrap();
    let program = request(&[data(1)], &[], false);
    for access in [(true, false), (false, true)] {
        let lpt1 = open(access);
        let _ = pc.accesses();
        assert_eq!(pc.claim(lpt1), NtStatus::ACCESS_DENIED);
        assert_eq!(pc.release(lpt1, false), NtStatus::ACCESS_DENIED);
        assert_eq!(pc.run(lpt1, &program, 0).status, NtStatus::ACCESS_DENIED);
        assert_eq!(
            pc.control(lpt1, IOCTL_PARSCAN_GET_PORT, &[], 64).status,
            NtStatus::SUCCESS
        );
        assert_eq!(pc.accesses(), []);
        check(pc.machine.close(lpt1));
    }
    pc.finish();
}

/// `IOCTL_PARSCAN_CLAIM` and `IOCTL_PARSCAN_RELEASE`.
#[test]
fn a_claim_moves_no_line_and_lines_stay_or_are_restored() {
    let pc = pc();
    let lpt1 = pc.open();
    let set = request(&[data(0x5A), control(0x01, 0x09)], &[], false);
    for restore in [false, true] {
        let before = pc.registers();
        let _ = pc.accesses();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        assert!(pc.accesses().iter().all(|it| it.written.is_none()));
        assert_eq!(pc.claim(lpt1), NtStatus::INVALID_DEVICE_STATE);
        pc.run_to_end(lpt1, &set, 0);
        assert_eq!(pc.registers(), (0x5A, 0x05));
        assert_eq!(pc.release(lpt1, restore), NtStatus::SUCCESS);
        assert_eq!(pc.registers(), if restore { before } else { (0x5A, 0x05) });
        assert_eq!(pc.release(lpt1, restore), NtStatus::INVALID_DEVICE_STATE);
    }
    // Nor does a program's end move them.
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    let other = request(&[data(0xA5)], &[], false);
    pc.run_to_end(lpt1, &other, 0);
    let _ = pc.accesses();
    check(pc.machine.close(lpt1));
    assert_eq!(pc.accesses(), []);
    assert_eq!(pc.registers(), (0xA5, 0x05));
    // The next one who uses the port sets it at rest.
    let lpt1 = pc.open();
    let _ = pc.control(
        lpt1,
        parscan_tests::ntddpar::IOCTL_PAR_QUERY_INFORMATION,
        &[],
        1,
    );
    assert_eq!(pc.registers(), (0, IDLE));
    pc.close_and_finish(lpt1);
}

#[test]
fn samples_come_on_their_grid() {
    for hertz in [8_000_u32, 22_050, 44_100] {
        let pc = lines_pc(Setup::with_config(Config {
            max_steps: u64::MAX,
            ..Config::default()
        }));
        let lpt1 = pc.open();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let interval = 1_000_000_000 / hertz;
        let samples: Vec<u8> = (0..hertz).map(|it| it.to_le_bytes()[0]).collect();
        let code = [pace(interval), repeat(hertz), NEXT_DATA, END];
        let _ = pc.accesses();
        let ran = Ran::of(&pc.run(lpt1, &request(&code, &samples, false), 0));
        assert_eq!((ran.end, ran.missed, ran.accesses), (End::Done, 0, hertz));
        let accesses = pc.accesses();
        let first = accesses[0].start;
        let mut late = 0;
        for (slot, access) in (0..).zip(&accesses) {
            let due = first + slot * u64::from(interval);
            // It begins in its slot, or is over then; the clock's steps are 100 ns.
            assert!(access.start + US + 200 >= due, "{hertz}: {slot}");
            late = late.max(access.start.saturating_sub(due));
        }
        println!(
            "{hertz} Hz: {} samples, at most {late} ns late",
            accesses.len()
        );
        assert!(late <= 3 * US, "{hertz}: {late}");
        pc.close_and_finish(lpt1);
    }
}

/// The scheduler takes time away from the worker: the samples that are left come in their slots, and
/// the result tells how many slots had none.
#[test]
fn missed_slots_are_counted() {
    for (hertz, seed) in [(8_000_u32, 1), (22_050, 2), (44_100, 3)] {
        let pc = lines_pc(Setup::with_config(Config {
            seed,
            // A few times a second.
            preempt_per_mille: 1,
            preempted_ns: 2 * MS,
            max_steps: u64::MAX,
            ..Config::default()
        }));
        let lpt1 = pc.open();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let interval = 1_000_000_000 / hertz;
        let samples: Vec<u8> = (0..hertz / 10).map(|it| it.to_le_bytes()[0]).collect();
        let code = [pace(interval), repeat(hertz / 10), NEXT_DATA, END];
        let _ = pc.accesses();
        let ran = Ran::of(&pc.run(lpt1, &request(&code, &samples, false), 0));
        assert_eq!((ran.end, ran.accesses), (End::Done, hertz / 10));
        let accesses = pc.accesses();
        // An access of 1 us may begin before its slot, and none comes before its place on the grid.
        let (first, interval) = (accesses[0].start, u64::from(interval));
        let slot = |it: &PortAccess| (it.start - first + 1200) / interval;
        assert!((0..).zip(&accesses).all(|(place, it)| slot(it) >= place));
        // The last one is on time, so this is how many slots there were.
        let passed = accesses.last().map_or(0, slot) + 1;
        let missed = passed - u64::from(hertz / 10);
        println!("{hertz} Hz: {passed} slots, {missed} missed");
        assert_eq!(u64::from(ran.missed), missed, "{hertz}");
        assert!(missed > 10, "{hertz}: time was taken away");
        pc.close_and_finish(lpt1);
    }
}

#[test]
fn a_long_program_ends_with_its_request() {
    pc().with_open(|pc, lpt1| {
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let code = [
            data(1),
            get(1),
            repeat(7),
            delay_us(8_000_000),
            END,
            data(2),
        ];
        let _ = pc.accesses();
        let pending =
            pc.machine
                .start_io_control(lpt1, IOCTL_PARSCAN_RUN, &request(&code, &[], false), 64);
        check(pc.machine.run_for(SECOND));
        let _ = check(pc.machine.cancel(&pending));
        let before = pc.machine.now();
        let ran = Ran::of(&check(pc.machine.finish(&pending)));
        assert!(pc.machine.now() - before < 20 * MS);
        assert_eq!((ran.end, ran.instruction), (End::Cancelled, 3));
        assert_eq!(ran.output.len(), 1, "no byte that was read is lost");
        assert_eq!(pc.registers().0, 1, "lines stay");
    });
}

/// The same in one section and in many: control bytes of its data, a WAIT whose time-out is noted,
/// and one whose time-out is its end.
#[test]
fn a_wait_that_is_not_met_is_noted_or_ends_the_program() {
    let pc = pc();
    let lpt1 = pc.open();
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    for atomic in [true, false] {
        let look = request(&[control(0x08, 0x0C), get(1)], &[], true);
        let status = Ran::of(&pc.run(lpt1, &look, 1)).output[0];
        let (met, other) = (status & 0x80, !status & 0xF8);
        let mut code = vec![
            next_control(0x0C),
            wait(0x80, met, true),
            until(9_500),
            wait(0xF8, other, true),
            until(9_500),
            data(1),
        ];
        if !atomic {
            code.extend([delay_us(300), data(1)]);
        }
        let ends = code.len();
        code.extend([wait(0xF8, other, false), until(9_500), data(2)]);
        let _ = pc.accesses();
        let ran = Ran::of(&pc.run(lpt1, &request(&code, &[0x08], atomic), 2));
        let accesses = pc.accesses();
        let trace = second_reading(&code, &[0x08], 0x08, &accesses, 2 * MS);
        assert_eq!(trace.end, Some(Err(ends)), "{atomic}");
        assert_eq!(ran.end, End::TimeOut, "{atomic}");
        assert_eq!(ran.instruction as usize, ends, "{atomic}");
        assert_eq!(ran.accesses, trace.accesses, "{atomic}");
        assert_eq!(ran.output, trace.output, "{atomic}");
        assert_eq!(ran.output.len(), 2, "{atomic}");
        assert_eq!(pc.registers(), (1, 0x08), "{atomic}");
    }
    pc.close_and_finish(lpt1);
}

#[test]
fn the_registers_of_a_claimed_port_come_back_after_a_sleep() {
    pc().with_open(|pc, lpt1| {
        claim_and_set(pc, lpt1, [data(0xC3), control(0x02, 0x0F)]);
        assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
        let _ = pc.accesses();
        check(pc.machine.wake());
        check(pc.machine.settle());
        assert_eq!(writes(&pc.accesses()), [(0, Some(0xC3)), (2, Some(0x02))]);
    });
}

#[test]
fn sleep_and_removal_end_a_program() {
    let code = [data(1), repeat(7), delay_us(8_000_000), END, data(2)];
    for (remove, expected) in [(false, End::PowerLost), (true, End::Removed)] {
        let pc = pc();
        let lpt1 = pc.open();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let pending =
            pc.machine
                .start_io_control(lpt1, IOCTL_PARSCAN_RUN, &request(&code, &[], false), 64);
        check(pc.machine.run_for(SECOND));
        if remove {
            let _ = check(pc.machine.unplug(pc.node));
        } else {
            assert_eq!(check(pc.machine.sleep()), NtStatus::SUCCESS);
        }
        let ran = Ran::of(&check(pc.machine.finish(&pending)));
        assert_eq!((ran.end, ran.instruction), (expected, 2));
        if remove {
            check(pc.machine.close(lpt1));
            pc.unload();
        } else {
            check(pc.machine.wake());
            check(pc.machine.settle());
            pc.close_and_finish(lpt1);
        }
    }
}

/// The port goes at every access of a program: the rest of it does not reach the registers.
#[test]
fn the_port_goes_at_every_access() {
    let code = [
        data(1),
        control(1, 1),
        delay(200_000),
        data(2),
        get(1),
        delay(100_000),
        control(0, 1),
        data(3),
    ];
    for step in 1..=6 {
        let pc = pc();
        let lpt1 = pc.open();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let _ = pc.accesses();
        let at = pc.machine.port_accesses() + step;
        let node = pc.node;
        pc.machine.at(When::PortAccess(at), move |machine| {
            let _ = check(machine.unplug(node));
        });
        let ran = pc.run(lpt1, &request(&code, &[], false), 1);
        let accesses = pc.accesses();
        let trace = second_reading(&code, &[], IDLE, &accesses, 2 * MS);
        let ran = Ran::of(&ran);
        assert_eq!(ran.accesses, trace.accesses, "{step}");
        assert_eq!(ran.output, trace.output, "{step}");
        check(pc.machine.close(lpt1));
        pc.unload();
    }
}

#[test]
fn a_second_program_and_a_look_for_devices_leave_a_claim_alone() {
    pc().with_open(|pc, lpt1| {
        claim_and_set(pc, lpt1, [data(0x77), control(0x00, 0x0C)]);
        let _ = pc.accesses();
        assert_eq!(
            pc.try_open(r"\\.\LPT1").unwrap_err(),
            NtStatus::ACCESS_DENIED
        );
        check(pc.machine.enumerate(pc.node));
        assert_eq!(pc.accesses(), []);
        let mode = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
        assert_eq!(mode.status, NtStatus::SUCCESS);
        assert_eq!(pc.registers(), (0x77, 0x00));
    });
}

/// A kernel client meets a port that a program has claimed: it waits, or is told; no line moves.
#[test]
fn a_kernel_client_leaves_a_claim_alone() {
    on_port(pc(), |pc, client, port| {
        port.port_information();
        let class = client.attach(DEVICE);
        class.connect();
        let lpt1 = pc.open();
        claim_and_set(pc, lpt1, [data(0x77), control(0x00, 0x0C)]);
        let _ = pc.accesses();
        let free = pc.control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1);
        assert_eq!(free.output, [0]);
        assert_eq!(class.order(IOCTL_INTERNAL_LOCK_PORT), NtStatus::DEVICE_BUSY);
        assert!(!port.call(Callback::TryAllocatePort, PASSIVE).boolean());
        assert_eq!(
            port.order(IOCTL_INTERNAL_PARALLEL_PORT_FREE),
            NtStatus::INVALID_DEVICE_STATE
        );
        let waiting = port.wait_for_port();
        check(pc.machine.run_for(10 * SECOND));
        assert_eq!(pc.accesses(), []);
        // The program goes on meanwhile, and gives the port back.
        let more = request(&[data(0x78)], &[], false);
        pc.run_to_end(lpt1, &more, 0);
        let _ = pc.accesses();
        assert_eq!(pc.release(lpt1, false), NtStatus::SUCCESS);
        assert_eq!(waiting.finish().status, NtStatus::SUCCESS);
        assert_eq!(pc.accesses(), [], "lines stay for the next owner");
        assert_eq!(pc.registers(), (0x78, 0x00));
        // The other way round: nothing moves for a program while a client has the port.
        let began = pc.machine.now();
        assert_eq!(pc.claim(lpt1), NtStatus::DEVICE_BUSY);
        let waited = pc.machine.now() - began;
        assert!((5 * SECOND..6 * SECOND).contains(&waited), "{waited}");
        assert_eq!(pc.run(lpt1, &more, 0).status, NtStatus::DEVICE_BUSY);
        assert_eq!(pc.accesses(), []);
        port.free();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        // A program that dies gives it back, too.
        let waiting = port.start_order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE);
        check(pc.machine.close(lpt1));
        assert_eq!(waiting.finish().status, NtStatus::SUCCESS);
        assert_eq!(pc.registers(), (0x78, 0x00));
        port.free();
        class.close();
    });
}

/// Ten thousand programs: their edges, against the second reading.
#[test]
fn edges_are_those_of_the_program() {
    let mut state = 0x9E37_79B9_u32;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let pc = lines_pc(Setup::with_config(Config {
        max_steps: u64::MAX,
        ..Config::default()
    }));
    let lpt1 = pc.open();
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    let mut dcr = IDLE;
    let mut total = 0;
    for number in 0..10_000 {
        let mut code = vec![data(0)];
        let mut bytes = Vec::new();
        let mut output = 0;
        let mut times = 1;
        for _ in 0..=random(8) {
            let value = random(256).to_le_bytes()[0];
            match random(9) {
                0 | 1 => code.push(data(value)),
                2 => {
                    let mask = (value >> 4).max(1);
                    code.push(control(value & mask, mask));
                }
                3 => {
                    code.push(get(value % 3));
                    output += times;
                }
                4 => code.push(delay(random(120) * 1000)),
                5 => code.push(pace(random(80) * 1000)),
                6 if times == 1 => {
                    let again = random(5) + 1;
                    times = again as usize;
                    code.push(repeat(again));
                }
                7 => {
                    code.push(NEXT_DATA);
                    bytes.extend(std::iter::repeat_n(value, times));
                }
                _ if times > 1 || code.contains(&repeat(1)) && !code.contains(&END) => {
                    code.push(END);
                    times = 1;
                }
                _ => code.push(data(value)),
            }
        }
        let open = |code: &[[u8; 4]]| {
            let loops = code.iter().filter(|it| it[0] == 10).count();
            loops - code.iter().filter(|it| **it == END).count()
        };
        while open(&code) > 0 {
            code.push(END);
        }
        let _ = pc.accesses();
        let ran = Ran::of(&pc.run(lpt1, &request(&code, &bytes, false), output));
        let accesses = pc.accesses();
        let trace = second_reading(&code, &bytes, dcr, &accesses, 2 * MS);
        assert_eq!(trace.end, Some(Ok(())), "{number}");
        assert_eq!(ran.end, End::Done, "{number}");
        assert_eq!(ran.accesses, trace.accesses, "{number}");
        assert_eq!(ran.output, trace.output, "{number}");
        assert_eq!(u64::from(ran.missed), trace.missed, "{number}");
        dcr = trace.control;
        total += accesses.len();
    }
    println!("10000 programs, {total} accesses");
    pc.close_and_finish(lpt1);
}

#[test]
fn the_connector_shows_the_pulse() {
    pc().with_open(|pc, lpt1| {
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let pulse = request(&[data(1), delay(10_000), data(0)], &[], true);
        let from = pc.machine.now();
        pc.run_to_end(lpt1, &pulse, 0);
        let chip = pc.chip.borrow();
        let trace = parscan_models::PortDevice::trace(&*chip).unwrap();
        let pulses: Vec<_> = trace
            .pulses(Line::DATA[0], true)
            .into_iter()
            .filter(|pulse| pulse.start >= from)
            .collect();
        assert_eq!(pulses.len(), 1);
        assert!((10 * US..=11 * US).contains(&pulses[0].duration));
        drop(chip);
    });
}

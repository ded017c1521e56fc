//! `IOCTL_PARSCAN_WAIT_EDGE`: edges of nAck by the port's interrupt, with their stamps.

use std::{cell::RefCell, rc::Rc};

use ntsim::{Caller, Handle, NtStatus, Pending, RegValue, When};
use parscan_tests::{
    MS, Setup, check,
    client::{
        Callback, Client, DEVICE, DISPATCH, PASSIVE, PORT, Request, on_device, on_port,
        puppet::{Note, isr},
    },
    ntddpar::IOCTL_PAR_QUERY_INFORMATION,
    parallel_h::IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
    port_programs::{
        Ack, EDGE, EDGES, Edges, End, FOREVER, IOCTL_PARSCAN_GET_PORT, IOCTL_PARSCAN_WAIT_EDGE,
        LinesPc, Ran, VECTOR, ack_pc, control, data, delay_us, get, request, with_interrupt,
    },
};

const SUCCESS: NtStatus = NtStatus::SUCCESS;
const HIGH: u8 = 0x78;

fn pc() -> (LinesPc, Ack) {
    ack_pc(with_interrupt(Setup::default(), true, Some(1)))
}

/// A program that waits for edges; it may have claimed the port.
struct Watched {
    pc: LinesPc,
    ack: Ack,
    lpt1: Handle,
    waiting: Pending,
}

impl Watched {
    fn new(claimed: bool) -> Self {
        let (pc, ack) = pc();
        let lpt1 = pc.open();
        if claimed {
            assert_eq!(pc.claim(lpt1), SUCCESS);
        }
        let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
        Self {
            pc,
            ack,
            lpt1,
            waiting,
        }
    }

    /// An edge comes, and is told.
    #[track_caller]
    fn ends_by_an_edge(self) {
        assert!(self.ack.pulse(&self.pc.machine, HIGH));
        assert_one_edge(&self.pc, &self.waiting);
        self.pc.close_and_finish(self.lpt1);
    }
}

fn none() -> Edges {
    Edges {
        edges: vec![],
        lost: 0,
        left: 0,
    }
}

/// The end of a wait that one edge ended.
#[track_caller]
fn assert_one_edge(pc: &LinesPc, waiting: &Pending) {
    let told = Edges::of(&check(pc.machine.finish(waiting)));
    assert_eq!(told.edges.len(), 1);
}

#[test]
fn a_thousand_edges_at_a_kilohertz_come_with_their_stamps() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    // The watch begins with the first request.
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 64)), none());
    let sent = Rc::new(RefCell::new(Vec::new()));
    let begin = pc.machine.now() + MS;
    for number in 0..1000_u64 {
        let (ack, sent) = (ack.clone(), Rc::clone(&sent));
        // Not in step with the counter.
        let at = begin + number * MS + number * 37 % 100;
        let status = HIGH & !(0x38 & (number.to_le_bytes()[0] << 3));
        pc.machine.at(When::Time(at), move |machine| {
            sent.borrow_mut().push((machine.now(), status));
            assert!(ack.pulse(machine, status), "{number}");
        });
    }
    let mut seen = Vec::new();
    let mut answers = 0;
    let before = pc.machine.times();
    while seen.len() < 1000 {
        let told = Edges::of(&pc.wait_edge(lpt1, 100, 64));
        assert!(!told.edges.is_empty(), "after {}", seen.len());
        assert_eq!((told.lost, told.left), (0, 0));
        answers += 1;
        // A program that is slow now and then.
        if answers % 50 == 0 {
            check(pc.machine.run_for(40 * MS));
        }
        seen.extend(told.edges);
    }
    let after = pc.machine.times();
    let sent = sent.borrow();
    for (number, ((stamp, status), (time, lines))) in seen.iter().zip(&*sent).enumerate() {
        let late = (stamp * 100).abs_diff(*time);
        assert!(late <= 100, "{number}: {stamp} for {time} ns");
        assert_eq!(status & 0xF8, *lines, "{number}");
    }
    assert_eq!((seen.len(), sent.len()), (1000, 1000));
    // The status register in each interrupt, and nothing else: the driver does not poll.
    assert_eq!(after.port_accesses - before.port_accesses, 1000);
    let timers = after.timer_wakeups - before.timer_wakeups;
    println!("{answers} answers, {timers} timers");
    pc.close_and_finish(lpt1);
}

#[test]
fn nothing_happens_without_the_registry_value() {
    for (latched, allowed) in [(true, None), (true, Some(0)), (false, Some(1))] {
        let (pc, ack) = ack_pc(with_interrupt(Setup::default(), latched, allowed));
        let lpt1 = pc.open();
        let described = pc.control(lpt1, IOCTL_PARSCAN_GET_PORT, &[], 64);
        assert_eq!(
            described.output[28] & 0x18,
            0x08,
            "an interrupt, and no edges"
        );
        let _ = pc.accesses();
        let refused = pc.wait_edge(lpt1, FOREVER, 1);
        assert_eq!(refused.outcome(), (NtStatus::NOT_SUPPORTED, 0));
        assert_eq!(pc.accesses(), []);
        assert!(!ack.pulse(&pc.machine, HIGH));
        assert!(!check(pc.machine.interrupt(VECTOR)), "not connected");
        pc.close_and_finish(lpt1);
    }
    // Nor without an interrupt.
    let setup = Setup {
        hardware_key: vec![("ParscanWaitEdge".into(), RegValue::Dword(1))],
        ..Setup::default()
    };
    let (pc, _) = ack_pc(setup);
    let lpt1 = pc.open();
    let refused = pc.wait_edge(lpt1, FOREVER, 1);
    assert_eq!(refused.status, NtStatus::NOT_SUPPORTED);
    pc.close_and_finish(lpt1);
}

#[test]
fn the_port_says_that_edges_are_served() {
    let (pc, _) = pc();
    let lpt1 = pc.open();
    let described = pc.control(lpt1, IOCTL_PARSCAN_GET_PORT, &[], 64);
    assert_eq!(described.output[28] & 0x18, 0x18);
    pc.close_and_finish(lpt1);
}

#[test]
fn short_buffers_are_refused() {
    let (pc, _) = pc();
    let lpt1 = pc.open();
    let _ = pc.accesses();
    for input in [0, 1, 3, 5, 8] {
        let refused = pc.control(lpt1, IOCTL_PARSCAN_WAIT_EDGE, &[0; 8][..input], 1048);
        assert_eq!(refused.status, NtStatus::INVALID_PARAMETER, "{input}");
    }
    for output in [0, 1, EDGES, EDGES + EDGE - 1] {
        let refused = pc.control(lpt1, IOCTL_PARSCAN_WAIT_EDGE, &[0; 4], output);
        assert_eq!(refused.outcome(), (NtStatus::INVALID_PARAMETER, 0));
    }
    assert_eq!(pc.accesses(), []);
    assert!(!pc.interrupts());
    pc.close_and_finish(lpt1);
}

#[test]
fn who_may_read_may_wait_and_moves_no_line() {
    let (pc, ack) = pc();
    let open = |access| check(pc.machine.open_with(r"\\.\LPT1", Caller::User64, access)).unwrap();
    let writer = open((false, true));
    assert_eq!(pc.wait_edge(writer, 0, 1).status, NtStatus::ACCESS_DENIED);
    check(pc.machine.close(writer));
    let lpt1 = open((true, false));
    let lines = pc.registers();
    let waiting = pc.start_wait_edge(lpt1, FOREVER, 1);
    assert_eq!(pc.registers(), lines);
    assert!(pc.interrupts());
    assert!(ack.pulse(&pc.machine, HIGH));
    assert_one_edge(&pc, &waiting);
    check(pc.machine.close(lpt1));
    assert_eq!(pc.registers(), lines);
    assert!(!pc.interrupts(), "not longer than the handle");
    assert!(!check(pc.machine.interrupt(VECTOR)));
    pc.finish();
}

#[test]
fn the_last_64_are_kept_and_an_answer_has_as_many_as_fit() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 1)), none());
    let stamps: Vec<u64> = (0..100)
        .map(|_| {
            check(pc.machine.run_for(MS));
            let now = pc.machine.now();
            assert!(ack.pulse(&pc.machine, HIGH));
            now / 100
        })
        .collect();
    let first = Edges::of(&pc.wait_edge(lpt1, FOREVER, 10));
    assert_eq!((first.lost, first.left, first.edges.len()), (36, 54, 10));
    let rest = Edges::of(&pc.wait_edge(lpt1, FOREVER, 100));
    assert_eq!((rest.lost, rest.left, rest.edges.len()), (0, 0, 54));
    let told: Vec<u64> = first
        .edges
        .iter()
        .chain(&rest.edges)
        .map(|it| it.0)
        .collect();
    let off = |(told, stamp): (&u64, &u64)| told.abs_diff(*stamp);
    assert!(told.iter().zip(&stamps[36..]).map(off).all(|off| off <= 1));
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 100)), none());
    check(pc.machine.close(lpt1));
    // Another handle begins anew.
    let lpt1 = pc.open();
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 100)), none());
    pc.close_and_finish(lpt1);
}

#[test]
fn a_wait_ends_with_its_time_by_one_timer() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    for (milliseconds, claimed) in [(1, false), (50, false), (7000, true)] {
        if claimed {
            assert_eq!(pc.claim(lpt1), SUCCESS);
        }
        let _ = pc.accesses();
        let before = pc.machine.times();
        let result = pc.wait_edge(lpt1, milliseconds, 4);
        let after = pc.machine.times();
        assert_eq!(Edges::of(&result), none());
        let took = after.now - before.now;
        let time = u64::from(milliseconds) * MS;
        assert!(
            (time..time + 20 * MS).contains(&took),
            "{milliseconds}: {took}"
        );
        assert!(after.timer_wakeups - before.timer_wakeups <= 2);
        assert!(pc.accesses().len() <= 4, "the driver does not poll");
    }
    // A timer of a request that an edge has ended does not end the next one.
    for _ in 0..20 {
        let waiting = pc.start_wait_edge(lpt1, 10, 4);
        check(pc.machine.run_for(9 * MS + 850_000));
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_one_edge(&pc, &waiting);
        let next = pc.start_wait_edge(lpt1, 100, 4);
        check(pc.machine.run_for(30 * MS));
        assert!(!pc.machine.is_done(&next));
        assert_eq!(Edges::of(&check(pc.machine.finish(&next))), none());
    }
    pc.close_and_finish(lpt1);
}

#[test]
fn one_request_waits_at_a_time_and_is_cancelled() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    for _ in 0..3 {
        let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
        for time in [0, 10, FOREVER] {
            let second = pc.wait_edge(lpt1, time, 4);
            let expected = (NtStatus::INVALID_DEVICE_STATE, 0);
            assert_eq!(second.outcome(), expected);
        }
        // Others go on.
        let ran = Ran::of(&pc.run(lpt1, &request(&[data(7), get(0)], &[], false), 1));
        assert_eq!(ran.output, [7]);
        check(pc.machine.cancel(&waiting));
        let ended = check(pc.machine.finish(&waiting));
        assert_eq!(ended.outcome(), (NtStatus::CANCELLED, 0));
    }
    assert!(ack.pulse(&pc.machine, HIGH), "the watch goes on");
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)).edges.len(), 1);
    let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
    check(pc.machine.close(lpt1));
    assert_eq!(
        check(pc.machine.finish(&waiting)).status,
        NtStatus::CANCELLED
    );
    assert!(!pc.interrupts());
    pc.finish();
}

/// The bit of the interrupt stays in the control register, whatever a program writes to it.
#[test]
fn programs_run_while_edges_are_watched() {
    let code = [control(0x01, 0x0F), get(2), control(0x0C, 0x0F), data(3)];
    let long = [control(0x02, 0x0F), delay_us(200), control(0x0C, 0x0F)];
    for claimed in [false, true] {
        let watched = Watched::new(claimed);
        let (pc, lpt1) = (&watched.pc, watched.lpt1);
        for program in [&code[..], &long] {
            let ran = Ran::of(&pc.run(lpt1, &request(program, &[], false), 1));
            assert_eq!(ran.end, End::Done);
            assert!(pc.interrupts(), "{claimed}");
            let written = pc.accesses();
            let dcr = |it: &parscan_models::PortAccess| (it.offset == 2).then_some(it.written?);
            assert!(written.iter().filter_map(dcr).all(|dcr| dcr & 0x10 != 0));
            assert_eq!(pc.registers().1, 0x0C);
        }
        if claimed {
            assert_eq!(pc.release(lpt1, true), SUCCESS);
            assert!(pc.interrupts());
            assert_eq!(pc.registers(), (0, 0x0C));
        }
        watched.ends_by_an_edge();
    }
}

/// An edge in the middle of a program, and its answer to the request that waits: by the program's
/// own thread.
#[test]
fn an_edge_comes_while_a_program_runs() {
    let Watched {
        pc,
        ack,
        lpt1,
        waiting,
    } = Watched::new(true);
    pc.at_access(1, move |machine| {
        assert!(ack.pulse(machine, HIGH));
    });
    let pulse = request(&[data(1), delay_us(10), data(0)], &[], true);
    pc.run_to_end(lpt1, &pulse, 0);
    assert_one_edge(&pc, &waiting);
    pc.close_and_finish(lpt1);
}

/// A transfer has nAck for itself: it acknowledges bytes.
#[test]
fn a_transfer_has_the_port_for_itself() {
    for claimed in [false, true] {
        let watched = Watched::new(claimed);
        let (pc, lpt1) = (&watched.pc, watched.lpt1);
        let _ = pc.accesses();
        let status = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
        assert_eq!(status.status, SUCCESS);
        let accesses = pc.accesses();
        let control: Vec<u8> = accesses
            .iter()
            .filter(|it| it.offset == 2)
            .filter_map(|it| it.written)
            .collect();
        assert_eq!(control.first().map(|it| it & 0x10), Some(0), "{control:x?}");
        assert_eq!(
            control.last().map(|it| it & 0x10),
            Some(0x10),
            "{control:x?}"
        );
        assert!(control.iter().all(|it| it & 0x0F == 0x0C), "{control:x?}");
        assert!(!pc.machine.is_done(&watched.waiting));
        watched.ends_by_an_edge();
    }
}

/// A kernel client that has the port has the control register, and the edges are not a program's.
#[test]
fn a_kernel_client_has_the_port_for_itself() {
    let (pc, ack) = pc();
    on_port(pc, |pc, _, port| {
        port.port_information();
        let lpt1 = pc.open();
        let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
        port.allocate();
        assert!(!pc.interrupts());
        assert!(!check(pc.machine.interrupt(VECTOR)), "not the program's");
        check(pc.machine.run_for(MS));
        assert!(!pc.machine.is_done(&waiting));
        // A watch that would begin now waits for the port, as all do.
        port.free();
        assert!(pc.interrupts());
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_one_edge(pc, &waiting);
        // The handle ends while the client has the port: its control register is not touched.
        port.allocate();
        let _ = pc.accesses();
        check(pc.machine.close(lpt1));
        assert_eq!(pc.accesses(), []);
        let lpt1 = pc.open();
        let busy = pc.wait_edge(lpt1, FOREVER, 4);
        assert_eq!(busy.status, NtStatus::DEVICE_BUSY);
        assert!(!pc.interrupts());
        port.free();
        check(pc.machine.close(lpt1));
    });
}

/// A class driver locks the same device that the program has open.
#[test]
fn a_class_driver_has_the_port_for_itself() {
    let (pc, ack) = pc();
    let client = Client::load(&pc);
    let class = client.attach(DEVICE);
    let lpt1 = pc.open();
    class.connect();
    let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
    class.lock();
    assert!(!pc.interrupts());
    assert!(!ack.pulse(&pc.machine, HIGH));
    class.call(Callback::TerminateIeeeMode, PASSIVE);
    assert!(!pc.interrupts());
    class.unlock();
    assert!(pc.interrupts());
    assert!(ack.pulse(&pc.machine, HIGH));
    assert_one_edge(&pc, &waiting);
    check(pc.machine.close(lpt1));
    class.lock();
    let lpt1 = pc.open();
    assert_eq!(pc.wait_edge(lpt1, 0, 4).status, NtStatus::DEVICE_BUSY);
    class.unlock();
    check(pc.machine.close(lpt1));
    class.close();
    client.unload();
    pc.finish();
}

/// Service routines of kernel clients and edges of a program, on one line: either comes and goes.
#[test]
fn clients_and_edges_share_the_line() {
    let mut setup = with_interrupt(Setup::default(), true, Some(1));
    let clients = ("EnableConnectInterruptIoctl".into(), RegValue::Dword(1));
    setup.hardware_key.push(clients);
    let (pc, ack) = ack_pc(setup);
    let client = Client::load(&pc);
    let port = client.open(PORT);
    port.port_information();
    let lpt1 = pc.open();
    let connect = |number| {
        let status = port
            .interrupt(
                IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
                number,
                isr::TRY | isr::NO_DEFERRED,
            )
            .status;
        assert_eq!(status, SUCCESS);
    };
    let called = |clients: &[usize]| {
        let notes = client.notes().into_iter();
        let told: Vec<_> = notes
            .filter(|it| it.0 == Note::Isr)
            .map(|it| it.1)
            .collect();
        assert_eq!(told, clients);
    };
    connect(3);
    let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
    connect(5);
    let _ = client.notes();
    assert!(ack.pulse(&pc.machine, HIGH));
    check(pc.machine.run_for(MS));
    // The port is not taken by a service routine while edges are watched on it.
    let tried = client.notes();
    let results: Vec<u8> = tried
        .iter()
        .filter(|it| it.0 == Note::Tried)
        .map(|it| it.2)
        .collect();
    assert_eq!(results, [0, 0]);
    assert_one_edge(&pc, &waiting);
    for number in [3, 5] {
        assert_eq!(port.disconnect_interrupt(number), SUCCESS);
    }
    let _ = client.notes();
    assert!(
        ack.pulse(&pc.machine, HIGH),
        "the watch goes on without clients"
    );
    called(&[]);
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)).edges.len(), 1);
    connect(1);
    check(pc.machine.close(lpt1));
    let _ = client.notes();
    check(pc.machine.interrupt(VECTOR));
    check(pc.machine.run_for(MS));
    called(&[1]);
    port.call(Callback::FreePort, DISPATCH);
    let lpt1 = pc.open();
    let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
    assert_eq!(port.disconnect_interrupt(1), SUCCESS);
    // The last open of the port object ends its clients, and not the watch.
    port.close();
    assert!(ack.pulse(&pc.machine, HIGH));
    assert_one_edge(&pc, &waiting);
    check(pc.machine.close(lpt1));
    client.unload();
    pc.finish();
}

#[test]
fn a_wait_outlasts_sleep_and_stop() {
    for claimed in [false, true] {
        let (pc, ack) = pc();
        let lpt1 = pc.open();
        if claimed {
            assert_eq!(pc.claim(lpt1), SUCCESS);
            let set = request(&[data(0xC3), control(0x02, 0x0F)], &[], false);
            pc.run_to_end(lpt1, &set, 0);
        }
        let waiting = pc.start_wait_edge(lpt1, FOREVER, 4);
        assert_eq!(check(pc.machine.sleep()), SUCCESS);
        assert!(!check(pc.machine.interrupt(VECTOR)), "asleep");
        check(pc.machine.wake());
        check(pc.machine.settle());
        assert!(!pc.machine.is_done(&waiting));
        assert!(pc.interrupts(), "claimed: {claimed}");
        if claimed {
            assert_eq!(pc.registers(), (0xC3, 0x02));
        } else {
            assert!(check(pc.machine.query_stop(pc.node)).is_success());
            assert!(!pc.interrupts());
            assert_eq!(check(pc.machine.stop(pc.node)), SUCCESS);
            assert!(!check(pc.machine.interrupt(VECTOR)), "stopped");
            assert_eq!(check(pc.machine.start(pc.node)), SUCCESS);
            check(pc.machine.settle());
            assert!(!pc.machine.is_done(&waiting));
            assert!(pc.interrupts());
        }
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_one_edge(&pc, &waiting);
        pc.close_and_finish(lpt1);
    }
}

/// The port comes back without an interrupt: the wait ends.
#[test]
fn a_wait_ends_where_the_interrupt_went() {
    let watched = Watched::new(false);
    let (pc, lpt1) = (watched.pc, watched.lpt1);
    assert!(check(pc.machine.query_stop(pc.node)).is_success());
    assert_eq!(check(pc.machine.stop(pc.node)), SUCCESS);
    let registers = [parscan_tests::LPT1_REGISTERS];
    pc.machine.set_resources(pc.node, &registers, &registers);
    assert_eq!(check(pc.machine.start(pc.node)), SUCCESS);
    let ended = check(pc.machine.finish(&watched.waiting));
    assert_eq!(ended.outcome(), (NtStatus::NOT_SUPPORTED, 0));
    assert_eq!(pc.wait_edge(lpt1, 0, 4).status, NtStatus::NOT_SUPPORTED);
    pc.close_and_finish(lpt1);
}

#[test]
fn removal_ends_a_wait() {
    for claimed in [false, true] {
        let Watched {
            pc, lpt1, waiting, ..
        } = Watched::new(claimed);
        assert_eq!(check(pc.machine.unplug(pc.node)), SUCCESS);
        let ended = check(pc.machine.finish(&waiting));
        assert_eq!(ended.outcome(), (NtStatus::DEVICE_REMOVED, 0));
        assert!(!check(pc.machine.interrupt(VECTOR)));
        let late = pc.wait_edge(lpt1, FOREVER, 4);
        assert_eq!(late.status, NtStatus::DELETE_PENDING);
        check(pc.machine.close(lpt1));
        pc.unload();
    }
}

/// No memory, or no interrupt, for the first request: it says so, and the next one works.
#[test]
fn a_failure_leaves_no_watch() {
    let mut failed = 0;
    for k in 1..20 {
        let (pc, ack) = pc();
        let lpt1 = pc.open();
        pc.machine.inject_failure(k);
        let first = pc.wait_edge(lpt1, 0, 4);
        pc.machine.inject_no_failure();
        if first.status != SUCCESS {
            failed += 1;
            assert_eq!(first.information, 0);
            assert!(!pc.interrupts());
        }
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)).edges.len(), 1);
        pc.close_and_finish(lpt1);
    }
    assert!(failed > 0, "IoConnectInterruptEx may fail");
}

/// An edge costs no memory.
#[test]
fn an_edge_allocates_nothing() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
    let before = pc.machine.allocations(pc.driver);
    for _ in 0..10 {
        let waiting = pc.start_wait_edge(lpt1, 1000, 4);
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_one_edge(&pc, &waiting);
    }
    assert_eq!(pc.machine.allocations(pc.driver), before);
    pc.close_and_finish(lpt1);
}

/// A device at the end of the chain has no lines.
#[test]
fn other_devices_have_no_edges() {
    let (pc, _) = pc();
    let client = Client::load(&pc);
    let device = client.open(DEVICE);
    // A kernel client may ask as a program does.
    let plain = device.send(&Request::plain(IOCTL_PARSCAN_WAIT_EDGE, &[0; 4], 1048));
    assert_eq!(plain.status, SUCCESS);
    device.close();
    client.unload();
    assert!(!pc.interrupts());
    pc.finish();
}

/// A stopped port has no edges, and says so at once; a first wait is told to come again.
#[test]
fn a_stopped_port_has_no_edges() {
    for watched in [true, false] {
        let (pc, ack) = pc();
        let lpt1 = pc.open();
        if watched {
            assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
        }
        assert!(check(pc.machine.query_stop(pc.node)).is_success());
        assert_eq!(check(pc.machine.stop(pc.node)), SUCCESS);
        let stopped = pc.wait_edge(lpt1, 0, 4);
        if watched {
            assert_eq!(Edges::of(&stopped), none());
        } else {
            assert_eq!(stopped.outcome(), (NtStatus::DEVICE_NOT_READY, 0));
        }
        assert_eq!(check(pc.machine.start(pc.node)), SUCCESS);
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
        assert!(ack.pulse(&pc.machine, HIGH));
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)).edges.len(), 1);
        pc.close_and_finish(lpt1);
    }
}

/// The watch of a handle that is closed while the port is stopped, or sleeps, is over when the port
/// comes back.
#[test]
fn a_watch_that_ends_while_the_port_is_away_stays_over() {
    for sleeps in [false, true] {
        let (pc, ack) = pc();
        let lpt1 = pc.open();
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
        if sleeps {
            assert_eq!(check(pc.machine.sleep()), SUCCESS);
        } else {
            assert!(check(pc.machine.query_stop(pc.node)).is_success());
            assert_eq!(check(pc.machine.stop(pc.node)), SUCCESS);
        }
        check(pc.machine.close(lpt1));
        if sleeps {
            check(pc.machine.wake());
        } else {
            assert_eq!(check(pc.machine.start(pc.node)), SUCCESS);
        }
        check(pc.machine.settle());
        assert!(!pc.interrupts(), "sleeps: {sleeps}");
        assert!(!ack.pulse(&pc.machine, HIGH));
        let lpt1 = pc.open();
        assert_eq!(Edges::of(&pc.wait_edge(lpt1, 0, 4)), none());
        pc.close_and_finish(lpt1);
    }
}

/// A kernel client waits by a request without its file object, and one after another, the second
/// longer than the first.
#[test]
fn a_kernel_client_waits_without_its_file_object() {
    on_device(pc().0, |pc, _, device| {
        let _ = pc;
        for file in [false, true] {
            let wait = |milliseconds: &'static [u8; 4]| Request {
                file,
                ..Request::plain(IOCTL_PARSCAN_WAIT_EDGE, milliseconds, EDGES + EDGE)
            };
            let first = device.start(&wait(&[50, 0, 0, 0]));
            check(pc.machine.run_for(10 * MS));
            assert!(first.poll().is_none());
            let taken = device.send(&wait(&[10, 0, 0, 0]));
            assert_eq!(taken.status, NtStatus::INVALID_DEVICE_STATE);
            let ended = first.finish();
            assert_eq!(ended.outcome(), (SUCCESS, EDGES));
            assert!((49 * MS..70 * MS).contains(&ended.took), "{}", ended.took);
            let second = device.start(&wait(&[0xFF; 4]));
            check(pc.machine.run_for(100 * MS));
            assert!(second.poll().is_none());
            second.cancel();
            assert_eq!(second.finish().outcome(), (NtStatus::CANCELLED, 0));
        }
    });
}

/// The time of a request that was cancelled does not end the next one.
#[test]
fn the_time_of_a_cancelled_wait_is_forgotten() {
    let (pc, ack) = pc();
    let lpt1 = pc.open();
    for next in [FOREVER, 200] {
        for before_end in 0..20 {
            let waiting = pc.start_wait_edge(lpt1, 10, 4);
            check(pc.machine.run_for(9 * MS + before_end * 50_000));
            let _ = check(pc.machine.cancel(&waiting));
            let second = pc.start_wait_edge(lpt1, next, 4);
            let first = check(pc.machine.finish(&waiting)).status;
            assert!(first == NtStatus::CANCELLED || first == SUCCESS, "{first}");
            check(pc.machine.run_for(40 * MS));
            assert!(!pc.machine.is_done(&second), "{next}, {before_end}");
            assert!(ack.pulse(&pc.machine, HIGH));
            assert_one_edge(&pc, &second);
        }
    }
    pc.close_and_finish(lpt1);
}

/// An interrupt whose level is none is no interrupt of a PC.
#[test]
fn an_interrupt_of_an_odd_level_is_not_connected() {
    let mut setup = with_interrupt(Setup::default(), true, Some(1));
    for resource in &mut setup.resources {
        if let ntsim::Resource::Interrupt { level, .. } = resource {
            *level = 300;
        }
    }
    let (pc, _) = ack_pc(setup);
    let lpt1 = pc.open();
    let refused = pc.wait_edge(lpt1, 0, 4);
    assert!(refused.status.is_error(), "{}", refused.status);
    assert_eq!(refused.information, 0);
    assert!(!pc.interrupts());
    pc.close_and_finish(lpt1);
}

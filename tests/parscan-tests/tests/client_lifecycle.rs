//! Locks, connections and queued requests from their beginning to every end that they may have: in
//! order, twice, forgotten, cancelled, too late, and with the port pulled out.

use std::{cell::Cell, rc::Rc};

use ntsim::{NtStatus, RegValue, When};
use parscan_models::{Condition, Misbehaviour, Peripheral1284, Phase};
use parscan_tests::{
    MS, Setup, US, check,
    client::{Callback, Client, DEVICE, PASSIVE, PORT, Request, Slot, on_device, with_client},
    modes::{Chip, Failures, ModesPc, pattern, pc, pc_with},
    ntddpar::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_INFORMATION, modes},
    parallel_h::{
        IOCTL_INTERNAL_DISCONNECT_IDLE, IOCTL_INTERNAL_LOCK_PORT,
        IOCTL_INTERNAL_LOCK_PORT_NO_SELECT, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        IOCTL_INTERNAL_PARALLEL_PORT_FREE, IOCTL_INTERNAL_PARCLASS_DISCONNECT,
        IOCTL_INTERNAL_SELECT_DEVICE, IOCTL_INTERNAL_UNLOCK_PORT,
        IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT, command, command_flags,
    },
};

const SUCCESS: NtStatus = NtStatus::SUCCESS;
const INVALID_DEVICE_STATE: NtStatus = NtStatus::INVALID_DEVICE_STATE;

/// How long a request waits for the port unless the registry says otherwise, in milliseconds.
const PATIENCE: u64 = 5000;

fn plain_pc() -> ModesPc {
    pc(Chip::EcpEpp, &Peripheral1284::new())
}

/// Whether the device says that the port is free.
#[track_caller]
fn is_free(device: &Slot<'_>) -> bool {
    let result = device.plain(IOCTL_PAR_IS_PORT_FREE, &[], 1);
    assert_eq!(result.outcome(), (SUCCESS, 1));
    result.output == [1]
}

/// Whether a program finds the port free: no client has the device open.
#[track_caller]
fn is_free_for_programs(pc: &ModesPc) -> bool {
    let lpt1 = pc.open();
    let result = pc.control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1);
    check(pc.machine.close(lpt1));
    assert_eq!(result.status, SUCCESS);
    result.output == [1]
}

/// A client's open of the port object, which has the port.
#[track_caller]
fn owner(client: &Client) -> Slot<'_> {
    let owner = client.open(PORT);
    owner.allocate();
    owner
}

#[test]
fn locks_are_taken_and_given_back_once() {
    on_device(plain_pc(), |_, _, device| {
        let pairs = [
            (IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_UNLOCK_PORT),
            (
                IOCTL_INTERNAL_LOCK_PORT_NO_SELECT,
                IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT,
            ),
        ];
        for (lock, unlock) in pairs {
            assert_eq!(device.order(unlock), INVALID_DEVICE_STATE, "without lock");
            assert!(is_free(device));
            assert_eq!(device.order(lock), SUCCESS);
            assert!(!is_free(device));
            for (again, _) in pairs {
                assert_eq!(device.order(again), INVALID_DEVICE_STATE, "second lock");
            }
            assert!(!is_free(device));
            assert_eq!(device.order(unlock), SUCCESS);
            assert!(is_free(device));
            assert_eq!(device.order(unlock), INVALID_DEVICE_STATE, "second unlock");
        }
    });
}

/// `IoBuildDeviceIoControlRequest` puts no file object into the stack location.
#[test]
fn requests_without_a_file_object_are_served() {
    with_client(plain_pc(), |_, client| {
        let (device, port) = (client.open(DEVICE), client.open(PORT));
        let bare = |slot: &Slot<'_>, code| {
            let request = Request {
                file: false,
                ..Request::internal(code, &[], 0)
            };
            slot.send(&request).status
        };
        assert_eq!(bare(&device, IOCTL_INTERNAL_LOCK_PORT), SUCCESS);
        assert!(!is_free(&device));
        assert_eq!(bare(&device, IOCTL_INTERNAL_UNLOCK_PORT), SUCCESS);
        assert_eq!(bare(&port, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE), SUCCESS);
        assert!(!is_free(&device));
        assert_eq!(bare(&port, IOCTL_INTERNAL_PARALLEL_PORT_FREE), SUCCESS);
        assert!(is_free(&device));
        port.close();
        device.close();
    });
}

#[test]
fn disconnecting_is_done_in_any_order_and_twice() {
    on_device(plain_pc(), |_, _, device| {
        assert_eq!(
            device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
            SUCCESS,
            "not connected"
        );
        // The guide's order.
        device.connect();
        device.lock();
        assert_eq!(device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT), SUCCESS);
        assert!(!is_free(device), "the lock is not the connection's");
        device.unlock();
        assert_eq!(
            device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
            SUCCESS,
            "twice"
        );
        // The other one.
        device.connect();
        device.lock();
        device.unlock();
        assert_eq!(device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT), SUCCESS);
        assert!(is_free(device));
    });
}

#[test]
fn what_a_client_forgets_ends_with_its_file() {
    for connected in [false, true] {
        for mode in [0, modes::ECP_HW_NOIRQ, modes::EPP_HW, modes::CENTRONICS] {
            let peripheral = Peripheral1284::new();
            with_client(pc(Chip::EcpEpp, &peripheral), |pc, client| {
                let device = client.open_locked();
                if mode != 0 {
                    let negotiated =
                        device.call(Callback::negotiate(mode, mode | modes::NIBBLE), PASSIVE);
                    assert_eq!(negotiated.status(), SUCCESS, "{mode:#06x}");
                }
                if !connected {
                    assert_eq!(device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT), SUCCESS);
                }
                device.close();
                assert!(is_free_for_programs(pc), "{mode:#06x}");
                assert_eq!(peripheral.phase(), Phase::Compatibility, "{mode:#06x}");
                assert_eq!(pc.not_at_rest(), [""; 0], "{mode:#06x}");
                // The next one finds everything as the first did.
                let device = client.open_locked();
                device.unlock();
                device.close();
            });
        }
    }
}

#[test]
fn an_allocation_ends_with_its_file() {
    with_client(plain_pc(), |pc, client| {
        let (first, second) = (owner(client), client.open(PORT));
        let waiting = second.wait_for_port();
        first.close();
        assert_eq!(
            waiting.finish().status,
            SUCCESS,
            "the next one in the queue"
        );
        assert!(!is_free_for_programs(pc));
        second.close();
        assert!(is_free_for_programs(pc));
    });
}

#[test]
fn queued_requests_are_cancelled_and_leave_no_trace() {
    with_client(plain_pc(), |pc, client| {
        let (holder, port, device) = (client.open(PORT), client.open(PORT), client.open(DEVICE));
        let select = command(0, command_flags::END_OF_CHAIN_DEVICE);
        let cases: [(&Slot<'_>, u32, &[u8]); 4] = [
            (&port, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, &[]),
            (&port, IOCTL_INTERNAL_SELECT_DEVICE, &select),
            (&device, IOCTL_INTERNAL_LOCK_PORT, &[]),
            (&device, IOCTL_INTERNAL_LOCK_PORT_NO_SELECT, &[]),
        ];
        holder.allocate();
        for (slot, code, input) in cases {
            // Once at once, once after it has waited.
            for wait in [0, 100] {
                let before = pc.machine.port_accesses();
                let request = slot.start(&Request::internal(code, input, 0));
                assert_eq!(request.dispatched, NtStatus::PENDING, "{code:#x}");
                check(pc.machine.run_for(wait * MS));
                assert!(request.poll().is_none(), "{code:#x}");
                request.cancel();
                let result = request.finish();
                assert_eq!(result.outcome(), (NtStatus::CANCELLED, 0), "{code:#x}");
                assert!(result.took < (wait + 20) * MS, "{code:#x}");
                assert_eq!(pc.machine.port_accesses(), before, "{code:#x}");
            }
        }
        holder.free();
        // No request that was cancelled got it.
        assert!(is_free(&device));
        for slot in [holder, port, device] {
            slot.close();
        }
    });
}

/// A file that is closed takes its queued requests with it.
#[test]
fn queued_requests_end_with_their_file() {
    with_client(plain_pc(), |pc, client| {
        let (holder, port) = (owner(client), client.open(PORT));
        let select = command(0, command_flags::END_OF_CHAIN_DEVICE);
        let queued = [
            port.start_order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE),
            port.start(&Request::internal(IOCTL_INTERNAL_SELECT_DEVICE, &select, 0)),
        ];
        port.close();
        for request in queued {
            let result = request.poll().expect("cancelled by CLEANUP");
            let expected = (NtStatus::CANCELLED, 0);
            assert_eq!(result.outcome(), expected);
        }
        holder.free();
        assert!(is_free_for_programs(pc));
        holder.close();
    });
}

/// A PC on which requests wait so many milliseconds for the port.
fn patient(patience: Option<u32>) -> ModesPc {
    let setup = Setup {
        hardware_key: patience
            .map(|patience| ("ParscanPortTimeout".into(), RegValue::Dword(patience)))
            .into_iter()
            .collect(),
        ..Setup::default()
    };
    pc_with(Chip::EcpEpp, &Peripheral1284::new(), setup)
}

#[test]
fn requests_of_the_device_wait_so_long_for_the_port() {
    for (registry, patience) in [(None, PATIENCE), (Some(1500), 1500), (Some(0), 0)] {
        with_client(patient(registry), |pc, client| {
            let (holder, port) = (owner(client), client.open(PORT));
            let allocate = port.start_order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE);
            let in_time = |took: u64| (patience..=patience + 100).contains(&(took / MS));

            let device = client.open(DEVICE);
            for code in [IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_LOCK_PORT_NO_SELECT] {
                let before = pc.machine.port_accesses();
                let result = device.internal(code, &[], 0);
                assert_eq!(result.status, NtStatus::DEVICE_BUSY, "{registry:?}");
                assert_eq!(result.information, 0, "{registry:?}");
                assert!(in_time(result.took), "{registry:?}: {} ns", result.took);
                assert_eq!(pc.machine.port_accesses(), before, "{registry:?}");
            }
            device.close();

            let lpt1 = pc.open();
            let before = pc.machine.port_accesses();
            let result = check(pc.machine.write(lpt1, b"text"));
            assert_eq!(result.status, NtStatus::DEVICE_BUSY, "{registry:?}");
            assert_eq!(result.information, 0, "{registry:?}");
            assert!(in_time(result.took), "{registry:?}: {} ns", result.took);
            assert_eq!(pc.machine.port_accesses(), before, "{registry:?}");

            // Who asks for the port itself waits for ever.
            check(pc.machine.run_for(3 * PATIENCE * MS));
            assert!(allocate.poll().is_none(), "{registry:?}");
            holder.free();
            assert_eq!(allocate.finish().status, SUCCESS);
            port.free();
            let result = check(pc.machine.write(lpt1, b"text"));
            assert_eq!(result.outcome(), (SUCCESS, 4));
            check(pc.machine.close(lpt1));
            port.close();
            holder.close();
        });
    }
}

#[test]
fn a_lock_that_waits_is_granted_in_time() {
    with_client(plain_pc(), |pc, client| {
        let holder = owner(client);
        let device = client.open(DEVICE);
        let lock = device.start_order(IOCTL_INTERNAL_LOCK_PORT);
        check(pc.machine.run_for((PATIENCE - 1000) * MS));
        assert!(lock.poll().is_none());
        holder.free();
        assert_eq!(lock.finish().status, SUCCESS);
        assert!(!is_free(&device));
        // Its time-out does not come back.
        check(pc.machine.run_for(2 * PATIENCE * MS));
        assert!(!is_free(&device));
        device.unlock();
        assert!(is_free(&device));
        device.close();
        holder.close();
    });
}

/// The owner of the lock reads and writes by requests, too, and does not wait for itself.
#[test]
fn the_owner_of_the_lock_sends_requests() {
    let peripheral = Peripheral1284::new();
    with_client(pc(Chip::EcpEpp, &peripheral), |pc, client| {
        let device = client.open_locked();
        device.choose(modes::NIBBLE, modes::ECP_HW_NOIRQ);
        let written = device.call(Callback::ParallelWrite(b"by callback"), PASSIVE);
        assert_eq!((written.status(), written.count), (SUCCESS, 11));
        assert!(!is_free(&device));
        device.unlock();
        assert!(is_free(&device));
        assert_eq!(peripheral.received(), b"by callback");
        device.close();
        assert_eq!(pc.not_at_rest(), [""; 0]);
    });
}

/// A callback that comes while another one is inside a handshake has its turn after that: none
/// fails, and no byte of the two is mixed.
#[test]
fn a_callback_waits_for_the_one_that_is_under_way() {
    let peripheral = Peripheral1284::new();
    with_client(pc(Chip::EcpEpp, &peripheral), |pc, client| {
        let device = client.open_locked();
        let (first, second, third) = (pattern(64), [0xA5; 48], [0x5A; 40]);
        peripheral.set_condition(Condition::Busy);
        let calls = [&first[..], &second, &third]
            .map(|data| device.start_call(Callback::ParallelWrite(data), PASSIVE));
        check(pc.machine.run_for(20 * MS));
        assert!(calls.iter().all(|call| !device.has_returned(call)));
        peripheral.set_condition(Condition::Ready);
        let written = calls.map(|call| device.finish_call(&call));
        assert_eq!(
            written.map(|answer| (answer.status(), answer.count)),
            [(SUCCESS, 64), (SUCCESS, 48), (SUCCESS, 40)]
        );
        // Which of those that wait is next is the scheduler's choice.
        let mut rest = &peripheral.received()[..];
        while !rest.is_empty() {
            let next = [&first[..], &second, &third]
                .into_iter()
                .find_map(|data| rest.strip_prefix(data));
            rest = next.unwrap_or_else(|| panic!("mixed: {rest:x?}"));
        }
        device.unlock();
        device.close();
    });
}

/// Pulls the port out while `ParallelWrite` waits for the peripheral.
#[test]
fn a_callback_inside_a_handshake_knows_that_the_port_is_gone() {
    for (mode, misbehaviour) in [
        (modes::CENTRONICS, Misbehaviour::Condition(Condition::Busy)),
        (modes::ECP_SW, Misbehaviour::StallForwardForever),
        (modes::ECP_HW_NOIRQ, Misbehaviour::StallForwardForever),
    ] {
        let peripheral = Peripheral1284::new();
        let pc = pc(Chip::EcpEpp, &peripheral);
        let client = Client::load(&pc);
        let device = client.open_locked();
        device.choose(0, mode);
        peripheral.misbehave_at_byte(8, misbehaviour);
        let data = pattern(64);
        let writing = device.start_call(Callback::ParallelWrite(&data), PASSIVE);
        check(pc.machine.run_for(2 * MS));
        assert!(!device.has_returned(&writing), "{mode:#06x}");
        assert_eq!(check(pc.machine.unplug(pc.node)), SUCCESS);
        let after = pc.machine.port_accesses();
        let answer = device.finish_call(&writing);
        assert_eq!(answer.status(), NtStatus::DEVICE_REMOVED, "{mode:#06x}");
        // A FIFO takes more than the peripheral.
        assert!(
            (8..64).contains(&answer.count),
            "{mode:#06x}: {}",
            answer.count
        );
        for code in [
            IOCTL_INTERNAL_LOCK_PORT,
            IOCTL_INTERNAL_UNLOCK_PORT,
            IOCTL_INTERNAL_PARCLASS_DISCONNECT,
        ] {
            let status = device.order(code);
            // What gives back may succeed.
            assert!(
                status == NtStatus::DEVICE_REMOVED
                    || status == NtStatus::DELETE_PENDING
                    || code != IOCTL_INTERNAL_LOCK_PORT && status == SUCCESS,
                "{mode:#06x}, {code:#x}: {status}"
            );
        }
        device.close();
        check(pc.machine.run_for(1000 * MS));
        assert_eq!(pc.machine.port_accesses(), after, "{mode:#06x}");
        client.unload();
        pc.unload();
    }
}

/// The same at every access of a short transfer, in every mode.
#[test]
fn the_port_may_go_at_every_access_of_a_callback() {
    let mut failures = Failures::default();
    for (mode, name) in modes::ALL {
        let writes = Chip::EcpEpp.write_modes() & mode != 0;
        for access in 1.. {
            let what = || format!("{name}, access {access}");
            let peripheral = Peripheral1284::new();
            peripheral.give(b"abc");
            let pc = pc(Chip::EcpEpp, &peripheral);
            let client = Client::load(&pc);
            let device = client.open_locked();
            if writes {
                device.choose(0, mode);
            } else {
                device.choose(mode, 0);
            }
            let moment = Rc::new(Cell::new(None));
            let (node, out) = (pc.node, Rc::clone(&moment));
            let when = When::PortAccess(pc.machine.port_accesses() + access);
            pc.machine.at(when, move |machine| {
                out.set(Some(None));
                check(machine.unplug(node));
                out.set(Some(Some(machine.port_accesses())));
            });
            let answer = if writes {
                device.call(Callback::ParallelWrite(b"abc"), PASSIVE)
            } else {
                device.call(Callback::ParallelRead(3), PASSIVE)
            };
            // A closure that is due has its turn at last.
            check(pc.machine.run_for(US));
            let Some(mut after) = moment.get() else {
                // The transfer was over before. The closure still waits for an access: no more.
                assert!(access > 3, "{}", what());
                break;
            };
            // The removal may take longer than the callback.
            for _ in 0..1000 {
                if after.is_some() {
                    break;
                }
                check(pc.machine.run_for(MS));
                after = moment.get().flatten();
            }
            let after = after.expect("the removal ends");
            let status = answer.status();
            failures.expect(
                [SUCCESS, NtStatus::DEVICE_REMOVED].contains(&status),
                || format!("{}: {status}", what()),
            );
            failures.expect(answer.count <= 3, || {
                format!("{}: {}", what(), answer.count)
            });
            device.close();
            check(pc.machine.run_for(MS));
            let now = pc.machine.port_accesses();
            failures.expect(now == after, || {
                format!("{}: {} accesses after the end", what(), now - after)
            });
            client.unload();
            pc.unload();
        }
    }
    failures.end();
}

/// A class driver that is attached above the device has no open of its own; a program's open comes
/// and goes meanwhile.
#[test]
fn the_end_of_a_programs_open_ends_no_connection_but_its_own() {
    with_client(plain_pc(), |pc, client| {
        let class = client.attach(DEVICE);
        let program = pc.open();
        class.connect();
        class.lock();
        check(pc.machine.close(program));
        let written = class.call(Callback::ParallelWrite(b"x"), PASSIVE);
        assert_eq!(
            written.status(),
            SUCCESS,
            "still connected, and its own lock"
        );
        assert!(!is_free_for_programs(pc));
        class.unlock();
        assert_eq!(class.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT), SUCCESS);
        let late = class.call(Callback::ParallelWrite(b"x"), PASSIVE);
        assert_eq!(late.status(), INVALID_DEVICE_STATE);
        class.close();
    });
}

/// At the end of the chain, for a client that has the port: it keeps the port, or gives it back.
const KEEP: [u8; 8] = command(
    0,
    command_flags::END_OF_CHAIN_DEVICE | command_flags::HAVE_PORT_KEEP_PORT,
);
const GIVE_BACK: [u8; 8] = command(0, command_flags::END_OF_CHAIN_DEVICE);

/// Callbacks that wait for another one of the same device.
const WAITING: [Callback<'static>; 4] = [
    Callback::TerminateIeeeMode,
    Callback::ParallelWrite(b"more"),
    Callback::ParallelTryselect(KEEP),
    Callback::ParallelDeSelect(GIVE_BACK),
];

/// The choice of ECP both ways, which connects one of them.
const fn ecp(is_forward: bool) -> Callback<'static> {
    Callback::NegotiateIeeeMode {
        forward: modes::ECP_SW,
        reverse: modes::ECP_SW,
        safety: 0,
        is_forward,
    }
}

/// What happens while a callback of the client that has the lock waits for the peripheral. Then the
/// peripheral takes its bytes, and what is `left` over ends.
#[track_caller]
fn beside_a_callback<'a, T>(
    pc: &ModesPc,
    device: &Slot<'a>,
    test: impl FnOnce(&Slot<'a>) -> T,
    left: impl FnOnce(&Slot<'a>, T),
) {
    pc.printer.set_condition(Condition::Busy);
    let writing = device.start_call(Callback::ParallelWrite(b"text"), PASSIVE);
    check(pc.machine.run_for(5 * MS));
    assert!(!device.has_returned(&writing));
    let started = test(device);
    check(pc.machine.run_for(100 * MS));
    pc.printer.set_condition(Condition::Ready);
    let written = device.finish_call(&writing);
    assert_eq!((written.status(), written.count), (SUCCESS, 4));
    left(device, started);
}

/// Requests to a device of which a callback uses the peripheral: they wait for its end, unless they
/// are cancelled before.
#[test]
fn requests_wait_for_a_callback_and_are_cancelled() {
    on_device(plain_pc(), |pc, _, device| {
        device.connect();
        for (request, locked, expected) in [
            (
                Request::plain(IOCTL_PAR_QUERY_INFORMATION, &[], 1),
                true,
                (SUCCESS, 1),
            ),
            (
                Request::internal(IOCTL_INTERNAL_LOCK_PORT, &[], 0),
                true,
                (INVALID_DEVICE_STATE, 0),
            ),
            (
                Request::internal(IOCTL_INTERNAL_DISCONNECT_IDLE, &[], 0),
                true,
                (SUCCESS, 0),
            ),
            (
                Request::internal(IOCTL_INTERNAL_UNLOCK_PORT, &[], 0),
                false,
                (SUCCESS, 0),
            ),
        ] {
            let code = request.code;
            for cancelled in [true, false] {
                if is_free(device) {
                    device.lock();
                }
                beside_a_callback(
                    pc,
                    device,
                    |device| {
                        let waiting = device.start(&request);
                        check(pc.machine.run_for(20 * MS));
                        assert!(waiting.poll().is_none(), "{code:#x}");
                        if cancelled {
                            waiting.cancel();
                            check(pc.machine.run_for(5 * MS));
                            let ended = waiting.poll().map(|it| it.outcome());
                            assert_eq!(ended, Some((NtStatus::CANCELLED, 0)), "{code:#x}");
                        }
                        waiting
                    },
                    |device, waiting| {
                        let stays = cancelled || locked;
                        if !cancelled {
                            assert_eq!(waiting.finish().outcome(), expected, "{code:#x}");
                        }
                        assert_eq!(is_free(device), !stays, "{code:#x}");
                    },
                );
            }
        }
        assert_eq!(pc.not_at_rest(), [""; 0]);
    });
}

/// Callbacks of one client in two threads: the second one waits for the first.
#[test]
fn callbacks_wait_for_each_other() {
    on_device(plain_pc(), |pc, _, device| {
        device.connect();
        for callback in WAITING {
            let what = format!("{callback:?}");
            device.lock();
            beside_a_callback(
                pc,
                device,
                |device| {
                    let second = device.start_call(callback, PASSIVE);
                    check(pc.machine.run_for(20 * MS));
                    assert!(!device.has_returned(&second), "{what}");
                    second
                },
                |device, second| {
                    let answer = device.finish_call(&second);
                    assert_eq!(answer.status(), SUCCESS, "{what}");
                },
            );
            let gives_back = matches!(callback, Callback::ParallelDeSelect(_));
            assert_eq!(is_free(device), gives_back, "{what}");
            if !gives_back {
                device.unlock();
            }
        }
        let received = pc.printer.received();
        assert_eq!(received, b"texttextmoretexttext");
        assert_eq!(pc.not_at_rest(), [""; 0]);
    });
}

/// Pulls the port out, or ends the connection: what the calls that wait are told.
#[track_caller]
fn break_off(pc: &ModesPc, device: &Slot<'_>, unplugs: bool) -> NtStatus {
    if unplugs {
        assert_eq!(check(pc.machine.unplug(pc.node)), SUCCESS);
        return NtStatus::DEVICE_REMOVED;
    }
    assert_eq!(device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT), SUCCESS);
    INVALID_DEVICE_STATE
}

/// The end of the connection, or of the lock, ends what waits for a callback of it.
#[test]
fn callbacks_that_wait_end_with_what_they_need() {
    for unplugs in [false, true] {
        for callback in WAITING {
            let what = format!("{callback:?}, {unplugs}");
            let pc = plain_pc();
            let client = Client::load(&pc);
            let device = client.open_locked();
            pc.printer.set_condition(Condition::Busy);
            let first = device.start_call(Callback::ParallelWrite(b"text"), PASSIVE);
            check(pc.machine.run_for(5 * MS));
            let second = device.start_call(callback, PASSIVE);
            check(pc.machine.run_for(20 * MS));
            assert!(!device.has_returned(&second), "{what}");
            let expected = break_off(&pc, &device, unplugs);
            let before = pc.machine.now();
            let ended = [device.finish_call(&first), device.finish_call(&second)];
            assert!(pc.machine.now() - before < 100 * MS, "{what}");
            let [first, second] = ended.map(|it| it.status());
            assert_eq!(first, expected, "{what}");
            // The page of the first knows success alone, and what gives back may succeed.
            let ends = matches!(
                callback,
                Callback::TerminateIeeeMode | Callback::ParallelDeSelect(_)
            );
            assert!(
                second == expected || ends && second == SUCCESS,
                "{what}: {second}"
            );
            device.close();
            client.unload();
            if unplugs {
                pc.unload();
            } else {
                pc.remove();
            }
        }
    }
}

/// A peripheral that does not answer the turn of its link: the routine says so, and the next one
/// finds a port at rest.
#[test]
fn a_link_that_does_not_turn_is_told() {
    let peripheral = Peripheral1284::new();
    on_device(pc(Chip::EcpEpp, &peripheral), |pc, _, device| {
        device.connect();
        device.lock();
        for (mode, turn) in [
            (modes::ECP_SW, Callback::IeeeFwdToRevMode),
            (modes::ECP_SW, Callback::IeeeRevToFwdMode),
            (modes::NIBBLE, Callback::IeeeFwdToRevMode),
        ] {
            let what = format!("{mode:#06x}, {turn:?}");
            let forward = matches!(turn, Callback::IeeeFwdToRevMode);
            let negotiated = device.call(
                Callback::NegotiateIeeeMode {
                    forward: if mode == modes::NIBBLE {
                        modes::CENTRONICS
                    } else {
                        mode
                    },
                    reverse: mode,
                    safety: 0,
                    is_forward: forward,
                },
                PASSIVE,
            );
            assert_eq!(negotiated.status(), SUCCESS, "{what}");
            peripheral.misbehave(Misbehaviour::Dead);
            let turned = device.call(turn, PASSIVE);
            assert!(turned.status().is_error(), "{what}: {}", turned.status());
            peripheral.behave();
            assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
            assert_eq!(
                device.call(Callback::TerminateIeeeMode, PASSIVE).status(),
                SUCCESS,
                "{what}"
            );
        }
        device.unlock();
    });
}

/// The port goes, or the connection ends, while the peripheral thinks about a turn of its link.
#[test]
fn the_port_may_go_while_a_link_turns() {
    for (forward, event, turn) in [
        (true, 40, Callback::IeeeFwdToRevMode),
        (false, 49, Callback::IeeeRevToFwdMode),
    ] {
        for unplugs in [true, false] {
            let peripheral = Peripheral1284::new();
            let pc = pc(Chip::EcpEpp, &peripheral);
            let client = Client::load(&pc);
            let device = client.open_locked();
            assert_eq!(device.call(ecp(forward), PASSIVE).status(), SUCCESS);
            peripheral.misbehave_at_event(event, Misbehaviour::Silent);
            let turning = device.start_call(turn, PASSIVE);
            check(pc.machine.run_for(10 * MS));
            assert!(!device.has_returned(&turning), "event {event}");
            let expected = break_off(&pc, &device, unplugs);
            let status = device.finish_call(&turning).status();
            assert_eq!(status, expected, "event {event}");
            peripheral.behave();
            device.close();
            client.unload();
            if unplugs {
                pc.unload();
            } else {
                assert_eq!(pc.not_at_rest(), [""; 0], "event {event}");
                pc.remove();
            }
        }
    }
}

/// The port goes while a link turns round: the routine says so, and touches no register after.
#[test]
fn the_port_may_go_at_every_access_of_a_turn() {
    for (forward, turn) in [
        (true, Callback::IeeeFwdToRevMode),
        (false, Callback::IeeeRevToFwdMode),
    ] {
        for access in 1.. {
            let pc = plain_pc();
            let client = Client::load(&pc);
            let device = client.open_locked();
            assert_eq!(device.call(ecp(forward), PASSIVE).status(), SUCCESS);
            let (node, gone) = (pc.node, Rc::new(Cell::new(false)));
            let unplugged = Rc::clone(&gone);
            pc.at_access(access, move |machine| {
                unplugged.set(true);
                check(machine.unplug(node));
            });
            let status = device.call(turn, PASSIVE).status();
            let reached = gone.get();
            assert!(
                status == SUCCESS || reached && status == NtStatus::DEVICE_REMOVED,
                "{forward}, access {access}: {status}"
            );
            device.close();
            check(pc.machine.run_for(MS));
            client.unload();
            if gone.get() {
                pc.unload();
            } else {
                pc.remove();
            }
            if !reached {
                break;
            }
        }
    }
}

//! The scenes: who does what at the same time, and what must hold when all is over.
//!
//! Every scene ends with the removal of the device and the unload of its drivers, which see that
//! all memory, handles, references and IRPs are back. Statuses are those that the documentation of a
//! request allows for what happens to it in the scene.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ntsim::{Config, IoResult, Machine, NtStatus, RegValue, Resource};
use parscan_lab::{
    LPT1_REGISTERS, MS, Pc, Setup, assert_nothing_left, check,
    client::{
        Callback, Client, DEVICE, PASSIVE, PORT, Slot,
        puppet::{isr, note},
    },
    modes::{Chip, ModesPc, pc_with},
    ntddpar::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_SET_INFORMATION, PARALLEL_INIT, modes},
    parallel_h::{
        CONNECT_INTERRUPT, DISCONNECT_INTERRUPT, PARCLASS_DISCONNECT, PORT_ALLOCATE, PORT_FREE,
        SAFE_MODE,
    },
};
use parscan_models::Peripheral1284;

use crate::explore::{Cast, Scene, actor};

/// The interrupt of LPT1, as Windows translates it on this machine.
const VECTOR: u32 = 0x37;

/// All of them.
pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "requests-end",
        about: "user request x completion x CLEANUP, CLOSE and removal",
        build: requests_end,
        quick: true,
    },
    Scene {
        name: "relations-without-power",
        about: "QUERY_DEVICE_RELATIONS of a port that has no power",
        build: relations_without_power,
        quick: true,
    },
    Scene {
        name: "deferred-checks",
        about: "free x allocate and free x deferred port checks",
        build: deferred_checks,
        quick: true,
    },
    Scene {
        name: "connections",
        about: "disconnect of the last client x connect of a new one",
        build: connections,
        quick: true,
    },
    Scene {
        name: "two-opens",
        about: "close of one open x callbacks of a client that connected by another",
        build: two_opens,
        quick: true,
    },
    Scene {
        name: "interrupt-at-removal",
        about: "CONNECT_INTERRUPT x removal x interrupt",
        build: interrupt_at_removal,
        quick: true,
    },
];

/// Something that a part takes out of the scene.
type Place<T> = Rc<RefCell<Option<T>>>;

fn place<T>(value: T) -> Place<T> {
    Rc::new(RefCell::new(Some(value)))
}

fn take<T>(place: &Place<T>) -> T {
    place.borrow_mut().take().expect("taken once")
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A request's status is one of these, and Information 0 unless it is success.
#[track_caller]
fn expect(what: &str, result: &IoResult, allowed: &[NtStatus]) {
    assert!(
        allowed.contains(&result.status),
        "{what} ended with {}, allowed are {allowed:?}",
        result.status
    );
    assert!(
        result.status == NtStatus::SUCCESS || result.information == 0,
        "{what}: {} with Information {}",
        result.status,
        result.information
    );
}

/// How a request may end that its handle's CLEANUP or the device's removal ends.
const ENDS: &[NtStatus] = &[
    NtStatus::SUCCESS,
    NtStatus::CANCELLED,
    NtStatus::DELETE_PENDING,
    NtStatus::DEVICE_REMOVED,
    NtStatus::DEVICE_NOT_CONNECTED,
    NtStatus::NO_SUCH_DEVICE,
];

fn initialize(machine: &Machine, handle: ntsim::Handle) -> IoResult {
    let code = IOCTL_PAR_SET_INFORMATION;
    check(machine.device_io_control(handle, code, &[PARALLEL_INIT], 0))
}

/// The driver's last words: nothing left on the machine.
fn unload(machine: &Machine, driver: ntsim::DriverId) {
    check(machine.unload(driver));
    assert_nothing_left(machine);
}

/// One program waits for a request; another sends one; the first closes the handle, and the device
/// is pulled out.
fn requests_end(config: Config) -> Cast {
    let pc = Setup {
        config,
        ..Setup::default()
    }
    .started();
    let Pc {
        machine,
        driver,
        node,
        ..
    } = pc;
    let lpt1 = check(machine.open(r"\\.\LPT1", ntsim::Caller::User64)).expect("LPT1");
    let first = machine.start_io_control(lpt1, IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 0);
    check(machine.run_for(2 * MS));
    let second: Rc<RefCell<Option<IoResult>>> = Rc::default();
    let result = Rc::clone(&second);
    Cast {
        machine: machine.clone(),
        driver,
        actors: vec![
            actor("requester", move |machine| {
                *result.borrow_mut() = Some(initialize(machine, lpt1));
            }),
            actor("the end of the handle and the device", move |machine| {
                expect("the first request", &check(machine.finish(&first)), ENDS);
                check(machine.close(lpt1));
                assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
            }),
        ],
        window: 3000 * MS,
        end: Box::new(move || {
            // Of a handle that was closed before the request came there is no request.
            let mut allowed = ENDS.to_vec();
            allowed.push(NtStatus::INVALID_HANDLE);
            expect("the second request", &take(&second), &allowed);
            unload(&machine, driver);
        }),
    }
}

/// The device's D0 failed; the PnP manager asks what is behind the port.
fn relations_without_power(config: Config) -> Cast {
    let pc = Setup {
        config,
        ..Setup::default()
    }
    .started();
    let Pc {
        machine,
        driver,
        node,
        ..
    } = pc;
    // SET_POWER, device, D3.
    let (status, _) = check(machine.send_power_irp(node, 2, [0, 1, 4, 0]));
    assert_eq!(status, NtStatus::SUCCESS);
    Cast {
        machine: machine.clone(),
        driver,
        actors: vec![actor("enumeration", move |machine| {
            check(machine.enumerate(node));
        })],
        window: 35 * MS,
        end: Box::new(move || {
            assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
            unload(&machine, driver);
        }),
    }
}

fn interrupt_pc(config: Config) -> ModesPc {
    let setup = Setup {
        config,
        hardware_key: vec![("EnableConnectInterruptIoctl".into(), RegValue::Dword(1))],
        resources: vec![
            LPT1_REGISTERS,
            Resource::Interrupt {
                level: 7,
                vector: VECTOR,
                latched: true,
            },
        ],
        ..Setup::default()
    };
    pc_with(Chip::Ps2, &Peripheral1284::new(), setup)
}

/// Clients with deferred port check routines wait for the port. Its owner frees it; a program takes
/// it and gives it back. Who waits is told after the last free.
fn deferred_checks(config: Config) -> Cast {
    let pc = interrupt_pc(config);
    let client = leak(Client::load(&pc));
    let port = client.open(PORT);
    port.port_information();
    for number in [3, 0] {
        let connected = port.interrupt(CONNECT_INTERRUPT, number, 0);
        assert_eq!(connected.status, NtStatus::SUCCESS);
    }
    let lpt1 = pc.open();
    let _ = client.notes();
    assert_eq!(port.order(PORT_ALLOCATE), NtStatus::SUCCESS);
    let port = place(port);
    let (owner, program) = (Rc::clone(&port), Rc::new(Cell::new(false)));
    let done = Rc::clone(&program);
    let machine = pc.machine.clone();
    Cast {
        machine: machine.clone(),
        driver: pc.driver,
        actors: vec![
            actor("owner", move |_| {
                owner
                    .borrow()
                    .as_ref()
                    .expect("the port")
                    .call(Callback::FreePort, PASSIVE);
            }),
            actor("program", move |machine| {
                // What was told before does not count: the port is taken and freed from here on.
                let _ = client.notes();
                let result = initialize(machine, lpt1);
                expect("the program's request", &result, &[NtStatus::SUCCESS]);
                done.set(true);
            }),
        ],
        window: 50 * MS,
        end: Box::new(move || {
            assert!(program.get());
            check(machine.run_for(100 * MS));
            let free = check(machine.device_io_control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1));
            assert_eq!(free.output, [1], "the port is free at last");
            let notes = client.notes();
            for number in [3, 0] {
                let told = notes
                    .iter()
                    .any(|(kind, client, _)| *kind == note::DEFERRED && *client == number);
                assert!(
                    told,
                    "the port was taken and freed again, and client {number} was not told: {notes:?}"
                );
            }
            check(machine.close(lpt1));
            let port = take(&port);
            for number in [3, 0] {
                let _ = port.interrupt(DISCONNECT_INTERRUPT, number, 0);
            }
            port.close();
            client.leave();
            pc.finish();
        }),
    }
}

/// A callback of a client that is connected, which a device serves to no other.
#[track_caller]
fn expect_served(what: &str, slot: &Slot<'_>) {
    let negotiate = Callback::NegotiateIeeeMode {
        forward: modes::CENTRONICS,
        reverse: modes::NIBBLE,
        safety: SAFE_MODE,
        is_forward: true,
    };
    slot.lock();
    let answer = slot.call(negotiate, PASSIVE).status();
    assert_eq!(
        answer,
        NtStatus::SUCCESS,
        "NegotiateIeeeMode of {what}, which is connected and has the port"
    );
    let answer = slot.call(Callback::TerminateIeeeMode, PASSIVE).status();
    assert_eq!(answer, NtStatus::SUCCESS, "TerminateIeeeMode of {what}");
    slot.unlock();
}

fn client_pc(config: Config) -> ModesPc {
    let setup = Setup {
        config,
        ..Setup::default()
    };
    pc_with(Chip::EcpEpp, &Peripheral1284::new(), setup)
}

/// The only client disconnects while the next one connects.
fn connections(config: Config) -> Cast {
    let pc = client_pc(config);
    let client = leak(Client::load(&pc));
    let (old, new) = (client.open(DEVICE), client.open(DEVICE));
    old.connect();
    let (old, new) = (place(old), place(new));
    let (going, coming) = (Rc::clone(&old), Rc::clone(&new));
    let machine = pc.machine.clone();
    Cast {
        machine,
        driver: pc.driver,
        actors: vec![
            actor("disconnect", move |_| {
                let slot = going.borrow();
                let status = slot.as_ref().expect("a slot").order(PARCLASS_DISCONNECT);
                assert_eq!(status, NtStatus::SUCCESS);
            }),
            actor("connect", move |_| {
                coming.borrow().as_ref().expect("a slot").connect();
            }),
        ],
        window: 50 * MS,
        end: Box::new(move || {
            let (old, new) = (take(&old), take(&new));
            expect_served("the new client", &new);
            assert_eq!(new.order(PARCLASS_DISCONNECT), NtStatus::SUCCESS);
            old.close();
            new.close();
            client.leave();
            pc.finish();
        }),
    }
}

/// A client is connected by one open and works; another open of the same device is closed.
fn two_opens(config: Config) -> Cast {
    let pc = client_pc(config);
    let client = leak(Client::load(&pc));
    let (one, other) = (client.open(DEVICE), client.open(DEVICE));
    one.connect();
    let (one, other) = (place(one), place(other));
    let (works, goes) = (Rc::clone(&one), other);
    Cast {
        machine: pc.machine.clone(),
        driver: pc.driver,
        actors: vec![
            actor("close", move |_| take(&goes).close()),
            actor("callbacks", move |_| {
                expect_served("a client", works.borrow().as_ref().expect("a slot"));
            }),
        ],
        window: 50 * MS,
        end: Box::new(move || {
            let one = take(&one);
            expect_served("a client, after another open was closed", &one);
            assert_eq!(one.order(PARCLASS_DISCONNECT), NtStatus::SUCCESS);
            one.close();
            client.leave();
            pc.finish();
        }),
    }
}

/// A client connects its interrupt routine while the port is pulled out, and the line is pulled.
fn interrupt_at_removal(config: Config) -> Cast {
    let pc = interrupt_pc(config);
    let client = leak(Client::load(&pc));
    let port = client.open(PORT);
    port.port_information();
    let _ = client.notes();
    let node = pc.node;
    let port = place(port);
    let connecting = Rc::clone(&port);
    let closing = Rc::clone(&port);
    let connected = Rc::new(Cell::new(NtStatus::PENDING));
    let (set, at_end) = (Rc::clone(&connected), Rc::clone(&connected));
    let machine = pc.machine.clone();
    Cast {
        machine: machine.clone(),
        driver: pc.driver,
        actors: vec![
            actor("connect", move |_| {
                let slot = connecting.borrow();
                let slot = slot.as_ref().expect("a slot");
                set.set(slot.interrupt(CONNECT_INTERRUPT, 3, isr::CLAIM).status);
            }),
            actor("removal", move |machine| {
                machine.disconnect(node);
                // REMOVE comes when the client has closed its open.
                let gone = machine.start_thread("surprise removal", move |machine| {
                    assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
                });
                let _ = gone;
            }),
            actor("interrupt", move |machine| {
                check(machine.interrupt(VECTOR));
            }),
        ],
        window: 50 * MS,
        end: Box::new(move || {
            check(machine.run_for(MS));
            // Whoever was told SUCCESS may disconnect; nothing calls the routine any more.
            let slot = take(&closing);
            if at_end.get() == NtStatus::SUCCESS {
                let _ = slot.interrupt(DISCONNECT_INTERRUPT, 3, 0);
            }
            slot.close();
            check(machine.run_for(100 * MS));
            client.leave();
            unload(&machine, pc.driver);
        }),
    }
}
const _: u32 = PORT_FREE;

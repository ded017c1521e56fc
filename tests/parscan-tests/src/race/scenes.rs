//! The scenes: who does what at the same time, and what must hold when all is over.
//!
//! Every scene ends with the removal of the device and the unload of its drivers, which see that
//! all memory, handles, references and IRPs are back. Statuses are those that the documentation of a
//! request allows for what happens to it in the scene.

use std::{
    cell::{Cell, Ref, RefCell},
    rc::Rc,
};

use ntsim::{
    Caller, Config, DevNode, DriverId, Handle, IoResult, Machine, NtStatus, Pending, RegValue,
    Resource, usb::HubIdle,
};
use parscan_models::Peripheral1284;
use parscan_tests::{
    LPT1_REGISTERS, MS, Setup, assert_nothing_left, check,
    client::{
        Callback, Client, DEVICE, PASSIVE, PORT, Slot,
        puppet::{Note, isr},
    },
    modes::{Chip, ModesPc, pc_with},
    ntddpar::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_SET_INFORMATION, PARALLEL_INIT, modes},
    parallel_h::{
        IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, IOCTL_INTERNAL_PARCLASS_DISCONNECT,
    },
    port_programs::{
        Ack, EDGE, EDGES, Edges, FOREVER, IOCTL_PARSCAN_WAIT_EDGE, LinesPc, Wire, ack_pc,
        with_interrupt,
    },
    scanner::{BULK_IN, ScannerPc, ScannerSetup},
    usbscan_h::{self, IOCTL_READ_REGISTERS, IoBlock},
};

use crate::explore::{Actor, Cast, Scene, actor};

/// The interrupt of LPT1, as Windows translates it on this machine.
const VECTOR: u32 = 0x37;

macro_rules! scenes {
    ($($name:literal: $build:expr, $about:literal;)*) => {
        &[$(Scene { name: $name, about: $about, build: $build }),*]
    };
}

/// All of them.
pub(crate) const SCENES: &[Scene] = scenes! {
    "requests-end": requests_end,
        "user request x completion x CLEANUP, CLOSE and removal";
    "relations-without-power": relations_without_power,
        "QUERY_DEVICE_RELATIONS of a port that has no power";
    "deferred-checks": deferred_checks,
        "free x allocate and free x deferred port checks";
    "connections": connections,
        "disconnect of the last client x connect of a new one";
    "two-opens": two_opens,
        "close of one open x callbacks of a client that connected by another";
    "interrupt-at-removal": interrupt_at_removal,
        "CONNECT_INTERRUPT x removal x interrupt";
    "allocate-free-cancel": allocate_free_cancel,
        "allocate x free x cancel x interrupt";
    "interrupt-takes": interrupt_takes,
        "allocate x free x interrupt x deferred DPC";
    "interrupt-and-disconnect": interrupt_and_disconnect,
        "interrupt and its DPC x IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT of the client";
    "checks-and-removal": checks_and_removal,
        "deferred port checks that are left to the DPC x IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT and removal";
    "callback-and-disconnect": callback_and_disconnect,
        "callback x disconnect";
    "two-callbacks": two_callbacks,
        "callback x another callback of the same client";
    "stop-start": stop_start,
        "STOP and START x request";
    "sleep-wake": sleep_wake,
        "sleep and wake x request";
    "cancel-cleanup": cancel_cleanup,
        "cancel x completion x CLEANUP x CLOSE";
    "open-and-removal": open_and_removal,
        "CREATE, request and CLOSE x removal x unload";
    "edge-told": edge_told,
        "WAIT_EDGE x interrupt x cancel: the edge is told once";
    "edge-end": edge_end,
        "first WAIT_EDGE x interrupt x CLEANUP, CLOSE and removal";
    "scanner-read": scanner_read,
        "bulk queue: request x completion x cancel x CLEANUP x removal";
    "scanner-read-data": scanner_read_data,
        "bulk queue: the end of a request whose data is there x cancel x CLEANUP x removal";
    "scanner-event": scanner_event,
        "event queue: the same";
    "scanner-event-data": scanner_event_data,
        "event queue: the end of a request whose event is there x the same";
    "scanner-control": scanner_control,
        "control queue: the same";
    "scanner-in-call": scanner_in_call,
        "control queue: URBs that end in the call x the same";
    "scanner-reset": scanner_reset,
        "reset queue: the same";
    "scanner-two-handles": scanner_two_handles,
        "two handles of a scanner on one pipe x close x completion";
    "scanner-sleep": scanner_sleep,
        "sleep and wake x read";
    "scanner-idle": |config| scanner_idle(config, 0),
        "a scanner is to be suspended x open and close x sleep and wake-up x removal";
    "scanner-resume": |config| scanner_idle(config, 100 * MS),
        "a suspended scanner signals x open and close x sleep and wake-up x removal";
};

/// Something that a part takes out of the scene.
type Place<T> = Rc<RefCell<Option<T>>>;

fn place<T>(value: T) -> Place<T> {
    Rc::new(RefCell::new(Some(value)))
}

/// Something that a part puts there, for another to see.
fn shared<T>() -> [Place<T>; 2] {
    let place = Place::default();
    [Rc::clone(&place), place]
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

/// How a request may end while another client has the port.
const BUSY: &[NtStatus] = &[NtStatus::SUCCESS, NtStatus::DEVICE_BUSY];

/// Waits for a request, and puts its result there.
fn finish(machine: &Machine, request: &Pending, result: &Place<IoResult>) {
    *result.borrow_mut() = Some(check(machine.finish(request)));
}

fn initialize(machine: &Machine, handle: Handle) -> IoResult {
    let code = IOCTL_PAR_SET_INFORMATION;
    check(machine.device_io_control(handle, code, &[PARALLEL_INIT], 0))
}

/// A started port, whose device no client has open: the machine, the driver, the devnode.
fn started(config: Config) -> (Machine, DriverId, DevNode) {
    let pc = Setup::with_config(config).started();
    (pc.machine, pc.driver, pc.node)
}

/// A program's handle of the device.
fn open(machine: &Machine) -> Handle {
    check(machine.open(r"\\.\LPT1", Caller::User64)).expect("LPT1")
}

/// The port is removed, and its driver unloaded.
fn remove(machine: &Machine, node: DevNode, driver: DriverId) {
    assert_eq!(check(machine.remove(node)), NtStatus::SUCCESS);
    unload(machine, driver);
}

/// The driver's last words: nothing left on the machine.
fn unload(machine: &Machine, driver: DriverId) {
    check(machine.unload(driver));
    assert_nothing_left(machine);
}

/// What an actor sees of something that another takes out of the scene in the end.
fn seen<T>(place: &Place<T>) -> Ref<'_, T> {
    Ref::map(place.borrow(), |value| {
        value.as_ref().expect("not taken yet")
    })
}

// What several scenes have.

/// The line is pulled.
fn interrupt() -> Actor {
    actor("interrupt", |machine| {
        check(machine.interrupt(VECTOR));
    })
}

/// The system sleeps, if every device lets it, and wakes up.
fn sleep() -> Actor {
    actor("sleep", |machine| {
        if check(machine.sleep()).is_success() {
            check(machine.wake());
            check(machine.settle());
        }
    })
}

/// A handle is closed, and the device is pulled out.
#[track_caller]
fn close_and_unplug(machine: &Machine, handle: Handle, node: DevNode) {
    check(machine.close(handle));
    assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
}

/// The device is pulled out.
fn unplug(name: &'static str, node: DevNode) -> Actor {
    actor(name, move |machine| {
        assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
    })
}

/// The same while a client has it open: REMOVE comes when the client has closed it.
fn surprise_removal(node: DevNode) -> Actor {
    actor("removal", move |machine| {
        machine.disconnect(node);
        let _ = machine.start_thread("surprise removal", move |machine| {
            assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
        });
    })
}

/// A request is cancelled, if it was sent.
fn cancel(request: Place<Pending>) -> Actor {
    actor("cancel", move |machine| {
        let pending = request.borrow().clone();
        if let Some(pending) = pending {
            check(machine.cancel(&pending));
        }
    })
}

#[track_caller]
fn ordered(slot: &Slot<'_>, code: u32) {
    assert_eq!(slot.order(code), NtStatus::SUCCESS);
}

#[track_caller]
fn expect_free(machine: &Machine, lpt1: Handle) {
    let free = check(machine.device_io_control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1));
    assert_eq!(free.output, [1], "the port is free at last");
}

/// A program's request while a client has the port for a time: it may take longer than the program
/// waits.
#[track_caller]
fn expect_busy_or_done(machine: &Machine, lpt1: Handle) {
    expect_busy_done_or(machine, lpt1, &[]);
}

/// The same, if the device may also refuse for other reasons.
#[track_caller]
fn expect_busy_done_or(machine: &Machine, lpt1: Handle, others: &[NtStatus]) {
    let allowed = [BUSY, others].concat();
    expect(
        "the program's request",
        &initialize(machine, lpt1),
        &allowed,
    );
}

/// The end of a client and of its port.
fn client_ends(slot: Slot<'_>, client: &Client, pc: ModesPc) {
    slot.close();
    client.leave();
    pc.finish();
}

/// The end of a client whose port was pulled out.
fn client_of_gone_ends(slot: Slot<'_>, client: &Client, machine: &Machine, driver: DriverId) {
    slot.close();
    check(machine.run_for(100 * MS));
    client.leave();
    unload(machine, driver);
}

/// The end of a program that finds the port free at last.
#[track_caller]
fn finds_it_free_and_ends(machine: &Machine, lpt1: Handle) {
    check(machine.run_for(100 * MS));
    expect_free(machine, lpt1);
    check(machine.close(lpt1));
}

/// The end of a scene that leaves the device at work.
fn serves_and_ends(machine: &Machine, lpt1: Handle, node: DevNode, driver: DriverId) {
    let result = initialize(machine, lpt1);
    expect("a request afterwards", &result, &[NtStatus::SUCCESS]);
    check(machine.close(lpt1));
    remove(machine, node, driver);
}

/// A client that has the port object open and an interrupt routine connected.
fn interrupt_client(pc: &ModesPc, number: usize, options: u64) -> (&'static Client, Slot<'static>) {
    let client = leak(Client::load(pc));
    let port = client.open(PORT);
    port.port_information();
    let connected = port.interrupt(IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT, number, options);
    assert_eq!(connected.status, NtStatus::SUCCESS);
    (client, port)
}

/// One program waits for a request; another sends one; the first closes the handle, and the device
/// is pulled out.
fn requests_end(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    let lpt1 = open(&machine);
    let first = machine.start_io_control(lpt1, IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 0);
    check(machine.run_for(2 * MS));
    let [second, result] = shared();
    Cast::new(&machine, driver)
        .actor("requester", move |machine| {
            *result.borrow_mut() = Some(initialize(machine, lpt1));
        })
        .actor("the end of the handle and the device", move |machine| {
            expect("the first request", &check(machine.finish(&first)), ENDS);
            close_and_unplug(machine, lpt1, node);
        })
        .end(move || {
            // Of a handle that was closed before the request came there is no request.
            let allowed = [ENDS, &[NtStatus::INVALID_HANDLE]].concat();
            expect("the second request", &take(&second), &allowed);
            unload(&machine, driver);
        })
        .within(700 * MS)
}

/// The device's D0 failed; the PnP manager asks what is behind the port.
fn relations_without_power(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    // SET_POWER, device, D3.
    let (status, _) = check(machine.send_power_irp(node, 2, [0, 1, 4, 0]));
    assert_eq!(status, NtStatus::SUCCESS);
    Cast::new(&machine, driver)
        .actor("enumeration", move |machine| {
            check(machine.enumerate(node));
        })
        .end(move || {
            assert_eq!(check(machine.unplug(node)), NtStatus::SUCCESS);
            unload(&machine, driver);
        })
        .within(35 * MS)
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
        let connected = port.interrupt(IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT, number, 0);
        assert_eq!(connected.status, NtStatus::SUCCESS);
    }
    let lpt1 = pc.open();
    let _ = client.notes();
    port.allocate();
    let port = place(port);
    let (owner, program) = (Rc::clone(&port), Rc::new(Cell::new(false)));
    let done = Rc::clone(&program);
    let machine = pc.machine.clone();
    Cast::new(&machine, pc.driver)
        .actor("owner", move |_| {
            owner
                .borrow()
                .as_ref()
                .expect("the port")
                .call(Callback::FreePort, PASSIVE);
        })
        .actor("program", move |machine| {
            // What was told before does not count: the port is taken and freed from here on.
            let _ = client.notes();
            let result = initialize(machine, lpt1);
            // The owner may keep the port longer than a program waits for it.
            expect("the program's request", &result, BUSY);
            done.set(true);
        })
        .end(move || {
            assert!(program.get());
            check(machine.run_for(100 * MS));
            expect_free(&machine, lpt1);
            let notes = client.notes();
            for number in [3, 0] {
                let told = notes
                    .iter()
                    .any(|(kind, client, _)| *kind == Note::Deferred && *client == number);
                assert!(
                    told,
                    "the port was taken and freed again, and client {number} was not told: {notes:?}"
                );
            }
            check(machine.close(lpt1));
            let port = take(&port);
            for number in [3, 0] {
                let _ = port.disconnect_interrupt(number);
            }
            client_ends(port, client, pc);
        })
}

/// A callback of a client that is connected, which a device serves to no other.
#[track_caller]
fn expect_served(what: &str, slot: &Slot<'_>) {
    slot.lock();
    expect_served_with_lock(what, slot);
}

/// The same, if the client gets the port: another that is held may keep it for longer than
/// `IOCTL_INTERNAL_LOCK_PORT` waits.
#[track_caller]
fn expect_served_if_free(what: &str, slot: &Slot<'_>) {
    match slot.order(IOCTL_INTERNAL_LOCK_PORT) {
        NtStatus::DEVICE_BUSY => {}
        status => {
            assert_eq!(status, NtStatus::SUCCESS, "LOCK_PORT");
            expect_served_with_lock(what, slot);
        }
    }
}

#[track_caller]
fn expect_served_with_lock(what: &str, slot: &Slot<'_>) {
    let negotiate = Callback::negotiate(modes::CENTRONICS, modes::NIBBLE);
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
    let setup = Setup::with_config(config);
    pc_with(Chip::EcpEpp, &Peripheral1284::new(), setup)
}

/// The only client disconnects while the next one connects.
fn connections(config: Config) -> Cast {
    let pc = client_pc(config);
    let client = leak(Client::load(&pc));
    let (old, new) = (client.attach(DEVICE), client.attach(DEVICE));
    old.connect();
    let (old, new) = (place(old), place(new));
    let (going, coming) = (Rc::clone(&old), Rc::clone(&new));
    let machine = pc.machine.clone();
    Cast::new(&machine, pc.driver)
        .actor("disconnect", move |_| {
            let slot = going.borrow();
            let status = slot
                .as_ref()
                .expect("a slot")
                .order(IOCTL_INTERNAL_PARCLASS_DISCONNECT);
            assert_eq!(status, NtStatus::SUCCESS);
        })
        .actor("connect", move |_| {
            coming.borrow().as_ref().expect("a slot").connect();
        })
        .end(move || {
            let (old, new) = (take(&old), take(&new));
            expect_served("the new client", &new);
            ordered(&new, IOCTL_INTERNAL_PARCLASS_DISCONNECT);
            old.close();
            client_ends(new, client, pc);
        })
}

/// A class driver that is attached above the device is connected and works; a program's open of the
/// same device is closed.
fn two_opens(config: Config) -> Cast {
    let pc = client_pc(config);
    let client = leak(Client::load(&pc));
    let class = client.attach(DEVICE);
    let program = pc.open();
    class.connect();
    let class = place(class);
    let works = Rc::clone(&class);
    Cast::new(&pc.machine, pc.driver)
        .actor("close", move |machine| {
            check(machine.close(program));
        })
        .actor("callbacks", move |_| {
            expect_served_if_free("a client", works.borrow().as_ref().expect("a slot"));
        })
        .end(move || {
            let class = take(&class);
            expect_served("a client, after another open was closed", &class);
            ordered(&class, IOCTL_INTERNAL_PARCLASS_DISCONNECT);
            client_ends(class, client, pc);
        })
}

/// A client connects its interrupt routine while the port is pulled out, and the line is pulled.
/// Another one is connected, whose routine takes the port and has it freed by the driver's DPC.
fn interrupt_at_removal(config: Config) -> Cast {
    let pc = interrupt_pc(config);
    let (client, port) = interrupt_client(&pc, 0, isr::CLAIM | isr::TRY | isr::FREE);
    let _ = client.notes();
    let node = pc.node;
    let port = place(port);
    let connecting = Rc::clone(&port);
    let closing = Rc::clone(&port);
    let connected = Rc::new(Cell::new(NtStatus::PENDING));
    let (set, at_end) = (Rc::clone(&connected), Rc::clone(&connected));
    let machine = pc.machine.clone();
    Cast::new(&machine, pc.driver)
        .actor("connect", move |_| {
            let slot = seen(&connecting);
            set.set(
                slot.interrupt(IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT, 3, isr::CLAIM)
                    .status,
            );
        })
        .with(surprise_removal(node))
        .with(interrupt())
        .end(move || {
            check(machine.run_for(MS));
            // A client that was told SUCCESS may disconnect; nothing calls the routine any more.
            let slot = take(&closing);
            let _ = slot.disconnect_interrupt(0);
            if at_end.get() == NtStatus::SUCCESS {
                let _ = slot.disconnect_interrupt(3);
            }
            client_of_gone_ends(slot, client, &machine, pc.driver);
        })
}

/// A port request that waits for its owner is cancelled while the owner frees the port; another
/// client wants it, too.
fn allocate_free_cancel(config: Config) -> Cast {
    let pc = interrupt_pc(config);
    let client = leak(Client::load(&pc));
    let owner = client.open(PORT);
    owner.port_information();
    let waiter = leak(client.open(PORT));
    owner.allocate();
    let waiting = waiter.wait_for_port();
    let lpt1 = pc.open();
    let owner = place(owner);
    let frees = Rc::clone(&owner);
    let waiting = Rc::new(waiting);
    let cancelled = Rc::clone(&waiting);
    let waiting = Rc::new(RefCell::new(Some(waiting)));
    let machine = pc.machine.clone();
    Cast::new(&machine, pc.driver)
        .actor("owner", move |_| {
            let slot = frees.borrow();
            slot.as_ref()
                .expect("the port")
                .call(Callback::FreePort, PASSIVE);
        })
        .actor("cancel", move |_| {
            let _ = cancelled.cancel();
        })
        .actor("program", move |machine| {
            expect_busy_or_done(machine, lpt1);
        })
        .with(interrupt())
        .end(move || {
            let waiting = Rc::into_inner(take(&waiting)).expect("no actor has it");
            let result = waiting.finish();
            let allowed = [NtStatus::SUCCESS, NtStatus::CANCELLED];
            expect("PORT_ALLOCATE", &result, &allowed);
            if result.status == NtStatus::SUCCESS {
                waiter.free();
            }
            let result = initialize(&machine, lpt1);
            expect("a request of the free port", &result, &[NtStatus::SUCCESS]);
            check(machine.close(lpt1));
            let owner = take(&owner);
            owner.close();
            waiter.give_back();
            client.leave();
            pc.finish();
        })
}

/// A client whose interrupt routine takes the port, and has it freed by the driver's DPC, and a
/// program's open of the device.
fn interrupt_taker(config: Config) -> (ModesPc, &'static Client, Place<Slot<'static>>, Handle) {
    let pc = interrupt_pc(config);
    let (client, port) = interrupt_client(&pc, 3, isr::CLAIM | isr::TRY | isr::FREE);
    let lpt1 = pc.open();
    (pc, client, place(port), lpt1)
}

/// A client's interrupt routine takes the port from a program and gives it back in its DPC; a
/// program and a client want it at the same time.
fn interrupt_takes(config: Config) -> Cast {
    let (pc, client, port, lpt1) = interrupt_taker(config);
    let (takes, machine) = (Rc::clone(&port), pc.machine.clone());
    Cast::new(&machine, pc.driver)
        .actor("client", move |_| {
            let slot = seen(&takes);
            if slot.call(Callback::TryAllocatePort, PASSIVE).boolean() {
                slot.call(Callback::FreePort, PASSIVE);
            }
        })
        .with(interrupt())
        .actor("program", move |machine| {
            expect_busy_or_done(machine, lpt1);
        })
        .end(move || {
            finds_it_free_and_ends(&machine, lpt1);
            let port = take(&port);
            let _ = port.disconnect_interrupt(3);
            client_ends(port, client, pc);
        })
}

/// A client's interrupt routine takes the port, and has it freed by the driver's DPC, while the client
/// disconnects the routine: what it took is freed all the same.
fn interrupt_and_disconnect(config: Config) -> Cast {
    let (pc, client, port, lpt1) = interrupt_taker(config);
    let (goes, machine) = (Rc::clone(&port), pc.machine.clone());
    Cast::new(&machine, pc.driver)
        .with(interrupt())
        .actor("disconnect", move |_| {
            let slot = seen(&goes);
            let result = slot.interrupt(IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, 3, 0);
            assert_eq!(result.status, NtStatus::SUCCESS);
        })
        .end(move || {
            finds_it_free_and_ends(&machine, lpt1);
            client_ends(take(&port), client, pc);
        })
}

/// A client's deferred routine takes the port and frees it, so that it is called again, until the
/// driver leaves the calls to its DPC. Meanwhile the client disconnects, and the port is pulled out.
fn checks_and_removal(config: Config) -> Cast {
    let pc = interrupt_pc(config);
    let (client, port) = interrupt_client(&pc, 3, isr::TAKE);
    port.allocate();
    let node = pc.node;
    let port = place(port);
    let (frees, goes) = (Rc::clone(&port), Rc::clone(&port));
    Cast::new(&pc.machine, pc.driver)
        .actor("owner", move |_| {
            let slot = seen(&frees);
            slot.call(Callback::FreePort, PASSIVE);
        })
        .actor("disconnect", move |_| {
            let slot = seen(&goes);
            // The port may be gone by then, and its clients with it.
            let _ = slot.disconnect_interrupt(3);
        })
        .with(surprise_removal(node))
        .end(move || {
            let machine = pc.machine.clone();
            check(machine.run_for(MS));
            client_of_gone_ends(take(&port), client, &machine, pc.driver);
        })
}

/// The client disconnects while a callback of it is under way, and another thread frees the lock.
fn callback_and_disconnect(config: Config) -> Cast {
    let pc = client_pc(config);
    let client = leak(Client::load(&pc));
    let class = client.attach(DEVICE);
    class.connect();
    class.lock();
    let class = place(class);
    let (calls, goes) = (Rc::clone(&class), Rc::clone(&class));
    Cast::new(&pc.machine, pc.driver)
        .actor("callback", move |_| {
            let slot = seen(&calls);
            let answer = slot.call(Callback::ParallelWrite(b"x"), PASSIVE);
            let allowed = [NtStatus::SUCCESS, NtStatus::INVALID_DEVICE_STATE];
            assert!(allowed.contains(&answer.status()), "{}", answer.status());
        })
        .actor("disconnect", move |_| {
            let slot = seen(&goes);
            ordered(&slot, IOCTL_INTERNAL_PARCLASS_DISCONNECT);
        })
        .end(move || {
            let class = take(&class);
            class.unlock();
            client_ends(class, client, pc);
        })
}

/// Two threads of a client call routines of the table at the same time: each has its turn.
fn two_callbacks(config: Config) -> Cast {
    let peripheral = Peripheral1284::new();
    let pc = pc_with(Chip::EcpEpp, &peripheral, Setup::with_config(config));
    let client = leak(Client::load(&pc));
    let class = client.attach(DEVICE);
    class.connect();
    class.lock();
    let class = place(class);
    let writes = |class: &Place<Slot<'static>>, data: &'static [u8]| {
        let class = Rc::clone(class);
        move |_: &Machine| {
            let answer = seen(&class).call(Callback::ParallelWrite(data), PASSIVE);
            assert_eq!(
                (answer.status(), answer.count as usize),
                (NtStatus::SUCCESS, data.len())
            );
        }
    };
    Cast::new(&pc.machine, pc.driver)
        .actor("one", writes(&class, b"one"))
        .actor("two", writes(&class, b"TWO"))
        .end(move || {
            let received = peripheral.received();
            assert!(
                received == b"oneTWO" || received == b"TWOone",
                "{received:?}"
            );
            let class = take(&class);
            class.unlock();
            client_ends(class, client, pc);
        })
}

/// A request comes while the device is stopped for new resources and started again.
fn stop_start(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    let lpt1 = open(&machine);
    Cast::new(&machine, driver)
        .actor("request", move |machine| {
            expect_busy_done_or(machine, lpt1, &[NtStatus::DEVICE_NOT_READY]);
        })
        .actor("rebalance", move |machine| {
            // An open handle may make the driver refuse.
            if check(machine.query_stop(node)).is_success() {
                assert_eq!(check(machine.stop(node)), NtStatus::SUCCESS);
                assert_eq!(check(machine.start(node)), NtStatus::SUCCESS);
            }
        })
        .end(move || serves_and_ends(&machine, lpt1, node, driver))
        .within(700 * MS)
}

/// A request comes while the system goes to sleep and wakes up.
fn sleep_wake(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    let lpt1 = open(&machine);
    Cast::new(&machine, driver)
        .actor("request", move |machine| {
            expect_busy_done_or(
                machine,
                lpt1,
                &[
                    NtStatus::DEVICE_NOT_READY,
                    NtStatus::POWER_STATE_INVALID,
                    NtStatus::DELETE_PENDING,
                    NtStatus::DEVICE_REMOVED,
                ],
            );
        })
        .with(sleep())
        .end(move || serves_and_ends(&machine, lpt1, node, driver))
        .within(700 * MS)
}

/// A queued request is cancelled, completed, cleaned up and closed at once.
fn cancel_cleanup(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    let lpt1 = open(&machine);
    let started = |machine: &Machine| {
        machine.start_io_control(lpt1, IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 0)
    };
    let (first, second) = (started(&machine), started(&machine));
    check(machine.run_for(2 * MS));
    let (one, other) = (first.clone(), second.clone());
    Cast::new(&machine, driver)
        .actor("cancel of the one that is served", move |machine| {
            check(machine.cancel(&one));
        })
        .actor("cancel of the one that is queued", move |machine| {
            check(machine.cancel(&other));
        })
        .actor("close", move |machine| {
            check(machine.close(lpt1));
        })
        .end(move || {
            expect("the first request", &check(machine.finish(&first)), ENDS);
            expect("the second request", &check(machine.finish(&second)), ENDS);
            remove(&machine, node, driver);
        })
        .within(700 * MS)
}

/// A program opens the device, asks and closes; the device is pulled out.
fn open_and_removal(config: Config) -> Cast {
    let (machine, driver, node) = started(config);
    Cast::new(&machine, driver)
        .actor("program", move |machine| {
            if let Ok(lpt1) = check(machine.open(r"\\.\LPT1", Caller::User64)) {
                expect("a request", &initialize(machine, lpt1), ENDS);
                check(machine.close(lpt1));
            }
        })
        .with(unplug("removal", node))
        .end(move || unload(&machine, driver))
        .within(700 * MS)
}

fn edge_pc(config: Config) -> (LinesPc, Ack) {
    let setup = Setup::with_config(config);
    ack_pc(with_interrupt(setup, true, Some(1)))
}

fn start_wait_edge(machine: &Machine, lpt1: Handle) -> Pending {
    let input = FOREVER.to_le_bytes();
    machine.start_io_control(lpt1, IOCTL_PARSCAN_WAIT_EDGE, &input, EDGES + EDGE)
}

/// A program waits for an edge, which comes, and cancels its request: the edge is in the answer, or in
/// the next one.
fn edge_told(config: Config) -> Cast {
    let (pc, ack) = edge_pc(config);
    let lpt1 = pc.open();
    let first = pc.wait_edge(lpt1, 0, 1);
    assert_eq!(Edges::of(&first).edges, []);
    let request: Place<Pending> = Rc::default();
    let result: Place<IoResult> = Rc::default();
    let (sent, ended, asked) = (Rc::clone(&request), Rc::clone(&result), Rc::clone(&request));
    Cast::new(&pc.machine, pc.driver)
        .actor("request", move |machine| {
            let pending = start_wait_edge(machine, lpt1);
            *sent.borrow_mut() = Some(pending.clone());
            finish(machine, &pending, &ended);
        })
        .actor("interrupt", move |machine| {
            assert!(ack.pulse(machine, Wire::IDLE), "it is the watch's");
        })
        .with(cancel(asked))
        .end(move || {
            let result = take(&result);
            expect(
                "WAIT_EDGE",
                &result,
                &[NtStatus::SUCCESS, NtStatus::CANCELLED],
            );
            let mut told = Edges::of(&pc.wait_edge(lpt1, 0, 64)).edges.len();
            if result.status == NtStatus::SUCCESS {
                let in_time = Edges::of(&result).edges.len();
                assert_ne!(
                    in_time, 0,
                    "an answer without an edge, and time without an end"
                );
                told += in_time;
            }
            assert_eq!(told, 1, "edges told");
            check(pc.machine.close(lpt1));
            assert!(!pc.interrupts(), "the interrupt is enabled without a watch");
            pc.finish();
        })
}

/// The first request for edges comes while the line is pulled, the handle is closed and the device
/// pulled out.
fn edge_end(config: Config) -> Cast {
    let (pc, ack) = edge_pc(config);
    let lpt1 = pc.open();
    let LinesPc {
        machine,
        driver,
        node,
        ..
    } = pc;
    let [result, ended] = shared();
    Cast::new(&machine, driver)
        .actor("request", move |machine| {
            let pending = start_wait_edge(machine, lpt1);
            finish(machine, &pending, &ended);
        })
        .actor("interrupt", move |machine| {
            ack.pulse(machine, Wire::IDLE);
        })
        .actor("close and removal", move |machine| {
            close_and_unplug(machine, lpt1, node);
        })
        .end(move || {
            let allowed = [ENDS, &[NtStatus::INVALID_HANDLE]].concat();
            expect("WAIT_EDGE", &take(&result), &allowed);
            unload(&machine, driver);
        })
}

// ---- the scanner ----

/// The scanner's frames are a millisecond each, and no time-out of the driver ends what these
/// scenes begin.
const SCANNER_HELD: u64 = 300 * MS;

fn scanner(config: Config) -> ScannerPc {
    ScannerSetup::with_config(config).started()
}

/// What may become of a request to a scanner that is cancelled, closed, reset or removed.
fn scanner_ends(others: &[NtStatus]) -> Vec<NtStatus> {
    let of_scanners = [NtStatus::INVALID_HANDLE, NtStatus::IO_TIMEOUT];
    [ENDS, &of_scanners, others].concat()
}

/// A read that ends early tells how many bytes it took from the device, so that none is lost.
#[track_caller]
fn expect_read(what: &str, result: &IoResult, length: usize, allowed: &[NtStatus]) {
    let mut status_alone = result.clone();
    if result.information <= length {
        status_alone.information = 0;
    }
    expect(what, &status_alone, allowed);
}

/// One of the scanner's queues: a request, its end by the device, by its cancel or CLEANUP, and the
/// removal. URBs end in the bus's own thread, which belongs to the request's: so its end is stopped
/// everywhere, too, if it needs no other actor.
fn queue_scene(
    mut config: Config,
    begin: impl Fn(&Machine, &parscan_models::Scanner, Handle) -> Pending + 'static,
    answer: impl FnOnce(&parscan_models::Scanner) + 'static,
) -> Cast {
    config.urbs_in_call = false;
    queue_scene_on(scanner(config), begin, answer)
}

fn queue_scene_on(
    pc: ScannerPc,
    begin: impl Fn(&Machine, &parscan_models::Scanner, Handle) -> Pending + 'static,
    answer: impl FnOnce(&parscan_models::Scanner) + 'static,
) -> Cast {
    let file = pc.open();
    let (machine, driver, node) = (pc.machine, pc.driver, pc.node);
    let scanner = pc.scanner;
    let request: Place<Pending> = Rc::default();
    let result: Place<IoResult> = Rc::default();
    let (sent, ended, asked) = (Rc::clone(&request), Rc::clone(&result), Rc::clone(&request));
    let sends = scanner.clone();
    Cast::new(&machine, driver)
        .actor("request", move |machine| {
            let pending = begin(machine, &sends, file.handle);
            *sent.borrow_mut() = Some(pending.clone());
            finish(machine, &pending, &ended);
        })
        .actor("device", move |_| answer(&scanner))
        .with(cancel(asked))
        .actor("close and removal", move |machine| {
            close_and_unplug(machine, file.handle, node);
        })
        .end(move || {
            expect_read("the request", &take(&result), 100_000, &scanner_ends(&[]));
            unload(&machine, driver);
        })
        .within(100 * MS)
        .held_for(SCANNER_HELD)
}

fn scanner_read(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, _, handle| machine.start_read(handle, 100_000),
        |scanner| scanner.send(BULK_IN, &[7; 512], true),
    )
}

fn scanner_read_data(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, scanner, handle| {
            scanner.send(BULK_IN, &[7; 600], true);
            machine.start_read(handle, 1000)
        },
        |_| {},
    )
}

fn scanner_event(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, _, handle| wait_on_event(machine, handle),
        |scanner| {
            scanner.press(&[1, 2, 3]);
        },
    )
}

fn scanner_event_data(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, scanner, handle| {
            scanner.press(&[1, 2, 3]);
            wait_on_event(machine, handle)
        },
        |_| {},
    )
}

fn wait_on_event(machine: &Machine, handle: Handle) -> Pending {
    machine.start_io_control(handle, usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT, &[], 8)
}

fn scanner_control(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, _, handle| read_registers(machine, handle),
        |_| {},
    )
}

fn scanner_in_call(config: Config) -> Cast {
    queue_scene_on(
        scanner(config),
        |machine, _, handle| read_registers(machine, handle),
        |_| {},
    )
}

fn read_registers(machine: &Machine, handle: Handle) -> Pending {
    let block = usbscan_h::IoBlock {
        offset: 0,
        length: 4,
        ..usbscan_h::IoBlock::default()
    };
    let input = block.bytes(Caller::User64);
    machine.start_io_control(handle, usbscan_h::IOCTL_READ_REGISTERS, &input, 4)
}

fn scanner_reset(config: Config) -> Cast {
    queue_scene(
        config,
        |machine, _, handle| {
            let pipe = usbscan_h::pipe_type(usbscan_h::READ_DATA_PIPE);
            machine.start_io_control(handle, usbscan_h::IOCTL_RESET_PIPE, &pipe, 0)
        },
        |_| {},
    )
}

/// Two handles read from one pipe; one is closed, the pipe is reset.
fn scanner_two_handles(config: Config) -> Cast {
    let pc = scanner(config);
    let (one, other) = (pc.open(), pc.open());
    let (machine, driver, node) = (pc.machine, pc.driver, pc.node);
    let scanner = pc.scanner;
    let first = machine.start_read(one.handle, 1000);
    check(machine.run_for(MS));
    let (waits, result) = (first.clone(), Rc::new(RefCell::new(None)));
    let set = Rc::clone(&result);
    Cast::new(&machine, driver)
        .actor("second read", move |machine| {
            let read = machine.start_read(other.handle, 1000);
            finish(machine, &read, &set);
        })
        .actor("close of the first", move |machine| {
            check(machine.close(one.handle));
            expect_read(
                "the first read",
                &check(machine.finish(&waits)),
                1000,
                &scanner_ends(&[]),
            );
        })
        .actor("device", move |_| {
            // A read that is ended may have taken what it does not give.
            for _ in 0..4 {
                scanner.send(BULK_IN, &[7; 600], true);
            }
        })
        .end(move || {
            expect_read("the second read", &take(&result), 1000, &scanner_ends(&[]));
            check(machine.close(other.handle));
            remove(&machine, node, driver);
        })
        .within(100 * MS)
        .held_for(SCANNER_HELD)
}

/// A read waits while the system sleeps and wakes up, and the scanner is pulled out.
fn scanner_sleep(config: Config) -> Cast {
    let pc = scanner(config);
    let file = pc.open();
    let (machine, driver, node) = (pc.machine, pc.driver, pc.node);
    let scanner = pc.scanner;
    let [result, set] = shared();
    Cast::new(&machine, driver)
        .actor("read", move |machine| {
            scanner.send(BULK_IN, &[7; 600], true);
            let read = machine.start_read(file.handle, 1000);
            finish(machine, &read, &set);
        })
        .with(sleep())
        .end(move || {
            let allowed =
                scanner_ends(&[NtStatus::DEVICE_NOT_READY, NtStatus::POWER_STATE_INVALID]);
            expect_read("the read", &take(&result), 1000, &allowed);
            check(machine.close(file.handle));
            remove(&machine, node, driver);
        })
        .within(100 * MS)
        .held_for(SCANNER_HELD)
}

/// A scanner that no program uses is about to be suspended, or was so long ago that it is. It is opened and
/// closed, signals, sleeps with the system, and is removed.
fn scanner_idle(config: Config, before: u64) -> Cast {
    let setup = ScannerSetup::with_config(config);
    setup.scanner.set_remote_wakeup();
    let pc = setup
        .with_numbers(&[
            ("DeviceIdleEnabled", 1),
            ("DefaultIdleState", 1),
            ("DefaultIdleTimeout", 1),
        ])
        .loaded();
    let (machine, driver, node) = (pc.machine, pc.driver, pc.node);
    machine.set_hub_idle(node, HubIdle::After(0));
    assert_eq!(check(machine.add_device(node, driver)), NtStatus::SUCCESS);
    assert_eq!(check(machine.start(node)), NtStatus::SUCCESS);
    check(machine.run_for(before));
    Cast::new(&machine, driver)
        .actor("open", move |machine| {
            let _ = machine.signal_wake(node);
            let Ok(handle) = check(machine.open(r"\\.\Usbscan0", Caller::User64)) else {
                return;
            };
            let input = IoBlock {
                length: 1,
                ..IoBlock::default()
            };
            let input = input.bytes(Caller::User64);
            let read = machine.device_io_control(handle, IOCTL_READ_REGISTERS, &input, 1);
            let allowed =
                scanner_ends(&[NtStatus::DEVICE_NOT_READY, NtStatus::POWER_STATE_INVALID]);
            expect("the read", &check(read), &allowed);
            check(machine.close(handle));
        })
        .with(sleep())
        .with(unplug("unplug", node))
        .end(move || {
            check(machine.run_for(100 * MS));
            unload(&machine, driver);
        })
        .within(100 * MS)
        .held_for(SCANNER_HELD)
}

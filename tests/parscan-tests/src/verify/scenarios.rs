//! What is disturbed: a device's whole life with a use of it, in both roles.

use std::{cell::RefCell, rc::Rc};

use ntsim::{
    Caller, DevNode, DriverId, Handle, IoResult, LoadError, Machine, NodeState, NtStatus, RegValue,
    Resource, SharedPort,
};
use parscan_models::{Ecp, Epp, Peripheral1284, PortDevice, Ps2, Scanner, Spp};
use parscan_tests::{
    LPT1_REGISTERS, MS, Pc, Setup, assert_nothing_left, check,
    client::{Client, DEVICE, PORT, puppet::Step},
    driver_image,
    modes::{Chip, pattern},
    ntddpar::{self, GUID_DEVINTERFACE_PARCLASS, modes},
    port_programs as lines,
    scanner::{BULK_IN, ScannerSetup},
    usbscan_h::{self, GUID_DEVINTERFACE_IMAGE},
};

use crate::run::{Disturbance, Run};

/// Bytes of a transfer through a port.
const AMOUNT: usize = 12;
/// Bytes of a scan: three URBs.
const SCAN: usize = 150_000;

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    pub(crate) play: Box<dyn Fn(&Run)>,
}

fn scenario(name: &str, about: &'static str, play: impl Fn(&Run) + 'static) -> Scenario {
    Scenario {
        name: name.to_owned(),
        about,
        play: Box::new(play),
    }
}

/// Scenarios: their names, what they are about, and what is played.
macro_rules! scenarios {
    ($($name:literal, $about:literal: $play:expr;)*) => {
        vec![$(scenario($name, $about, $play)),*]
    };
}

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = scenarios! {
        "port-requests", "a program's requests to a port":
            |run| port(run, Chip::Spp, requests);
        "port-init", "PARALLEL_INIT":
            |run| port(run, Chip::Spp, initialize);
        "port-two-writes", "a write while another one is under way":
            |run| port(run, Chip::Ps2, two_writes);
        "port-program", "a program on the port's lines":
            |run| port(run, Chip::Ps2, port_program);
        "port-stop-start", "QUERY_STOP, STOP and START":
            |run| port(run, Chip::Spp, stop_start);
        "client-class-driver", "a class driver connects, locks, transfers":
            |run| with_client(run, class_driver);
        "client-contention", "four kernel clients of one port":
            |run| {
                // This client looks after its own accesses no more than a program would.
                run.without(Disturbance::Sleep);
                with_client(run, contention);
            };
        "scanner-requests", "a program's requests to a scanner":
            |run| scanner(run, scanner_requests);
        "scanner-scan", "a scan: command, image":
            |run| scanner(run, scan);
        "scanner-event", "a button, and a read that is closed":
            |run| scanner(run, event);
        "scanner-two-handles", "two handles on one pipe":
            |run| scanner(run, two_handles);
        "scanner-stop-start", "QUERY_STOP, STOP and START":
            |run| scanner(run, scanner_stop_start);
    };
    for (mode, name) in modes::ALL {
        for chip in [Chip::EcpEpp, Chip::Spp] {
            let write = move |user: &User<'_>| write(user, mode);
            let read = move |user: &User<'_>| read(user, mode);
            if chip.write_modes() & mode != 0 {
                let name = format!("port-write-{chip:?}-{name}").replace(' ', "-");
                all.push(scenario(&name, "a write in one mode", move |run| {
                    port(run, chip, write);
                }));
            }
            if chip.read_modes() & mode != 0 {
                let name = format!("port-read-{chip:?}-{name}").replace(' ', "-");
                all.push(scenario(&name, "a read in one mode", move |run| {
                    port(run, chip, read);
                }));
            }
        }
    }
    all
}

/// A program, or what stands for several, with a device open.
struct User<'a> {
    run: &'a Run,
    machine: &'a Machine,
    node: DevNode,
    handle: Handle,
    /// What a program opens.
    name: String,
    /// What is on the port.
    peripheral: Option<Peripheral1284>,
    /// Or on the cable.
    scanner: Option<Scanner>,
}

impl User<'_> {
    #[track_caller]
    fn control(&self, what: &str, code: u32, input: &[u8], room: usize) -> IoResult {
        let request = self
            .machine
            .start_io_control(self.handle, code, input, room);
        let result = check(self.machine.finish(&request));
        self.run.expect_result(what, &result, room);
        result
    }

    /// A transfer ended as it may, and moved all of it if nothing came between.
    #[track_caller]
    fn expect_whole(&self, what: &str, result: &IoResult, amount: usize) {
        self.run.expect_result(what, result, amount);
        let moved = result.information;
        assert!(
            moved == amount || self.run.is_disturbed(),
            "{what} of {moved}"
        );
    }

    /// Another handle of another program, if it can be opened.
    fn other(&self) -> Option<Handle> {
        let opened = check(self.machine.open(&self.name, Caller::User32));
        self.run
            .succeeded("open", opened.err().unwrap_or(NtStatus::SUCCESS));
        opened.ok()
    }
}

fn shared(chip: impl PortDevice + 'static) -> SharedPort {
    Rc::new(RefCell::new(chip))
}

fn chip_of(chip: Chip, peripheral: &Peripheral1284) -> SharedPort {
    let attached = Box::new(peripheral.clone());
    match chip {
        Chip::Spp => shared(Spp::new(attached).without_trace()),
        Chip::Ps2 => shared(Ps2::new(attached).without_trace()),
        Chip::Epp => shared(Epp::new(attached).without_trace()),
        Chip::Ecp => shared(Ecp::new(attached).without_trace()),
        Chip::EcpEpp => shared(Ecp::new(attached).with_epp().without_trace()),
    }
}

/// Loads the driver; `None` if a disturbance kept it from that.
fn load(run: &Run, machine: &Machine, service: &str, role: u32) -> Option<DriverId> {
    match machine.load_driver(driver_image(), service, &[("Role", RegValue::Dword(role))]) {
        Ok(driver) => {
            machine.inject_into(driver);
            Some(driver)
        }
        Err(LoadError::EntryFailed(status)) => {
            run.succeeded("DriverEntry", status);
            assert_nothing_left(machine);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Adds and starts a device, opens it, and lets it be used: once with the disturbance, and once
/// after it.
fn live(run: &Run, machine: &Machine, node: DevNode, driver: DriverId, with: impl Fn()) {
    run.set_target(node, driver);
    let added = check(machine.add_device(node, driver));
    let added = run.succeeded("AddDevice", added);
    let started = added && run.succeeded("IRP_MN_START_DEVICE", check(machine.start(node)));
    if started {
        with();
    }
    run.end(machine, added);
}

/// Opens a device by its name, or, where low resources have cost it that, by its interface.
fn open(run: &Run, machine: &Machine, name: &str, class: &str) -> Option<(Handle, String)> {
    let interface = machine
        .interfaces()
        .into_iter()
        .find(|(it, _, enabled)| *enabled && it.eq_ignore_ascii_case(class))
        .map(|(_, link, _)| link);
    for name in std::iter::once(name.to_owned()).chain(interface) {
        match check(machine.open(&name, Caller::User64)) {
            Ok(handle) => return Some((handle, name)),
            Err(status) => {
                run.succeeded("IRP_MJ_CREATE", status);
            }
        }
    }
    None
}

/// Uses a device with the disturbance, and again after it.
fn twice(user: &User<'_>, with: &dyn Fn(&User<'_>)) {
    with(user);
    if user.run.calm(user.machine) {
        with(user);
    }
}

fn port(run: &Run, chip: Chip, with: impl Fn(&User<'_>) + 'static) {
    let peripheral = Peripheral1284::new();
    on_port(run, chip, &peripheral, |machine, node, _| {
        let opened = open(run, machine, r"\\.\LPT1", GUID_DEVINTERFACE_PARCLASS);
        let Some((handle, name)) = opened else {
            return;
        };
        let user = User {
            run,
            machine,
            node,
            handle,
            name,
            peripheral: Some(peripheral.clone()),
            scanner: None,
        };
        twice(&user, &with);
        check(machine.close(handle));
    });
}

fn on_port(
    run: &Run,
    chip: Chip,
    peripheral: &Peripheral1284,
    with: impl Fn(&Machine, DevNode, DriverId),
) {
    let mut setup = Setup {
        config: run.config(),
        ..Setup::default()
    };
    let machine = Machine::boot(setup.config.clone());
    let hardware = chip_of(chip, peripheral);
    machine.map_ports(0x378, 8, 0, Rc::clone(&hardware));
    setup.resources = vec![LPT1_REGISTERS];
    if matches!(chip, Chip::Ecp | Chip::EcpEpp) {
        machine.map_ports(0x778, 3, 1, hardware);
        setup.resources.push(Resource::Port {
            base: 0x778,
            len: 3,
        });
    }
    run.begin(&machine);
    let Some(driver) = load(run, &machine, "ParscanPort", 1) else {
        return;
    };
    let node = machine.plug(setup.device());
    live(run, &machine, node, driver, || {
        with(&machine, node, driver);
    });
}

// ---- programs of a port ----

fn requests(user: &User<'_>) {
    let timeouts = ntddpar::timeouts([0, 0, 0, 0, 500]);
    user.control(
        "SET_TIMEOUTS",
        ntddpar::IOCTL_SERIAL_SET_TIMEOUTS,
        &timeouts,
        0,
    );
    for (what, code, room) in [
        ("GET_TIMEOUTS", ntddpar::IOCTL_SERIAL_GET_TIMEOUTS, 20),
        ("QUERY_INFORMATION", ntddpar::IOCTL_PAR_QUERY_INFORMATION, 1),
        ("GET_MODE", ntddpar::IOCTL_IEEE1284_GET_MODE, 4),
        ("GET_DEVICE_CAPS", ntddpar::IOCTL_PAR_GET_DEVICE_CAPS, 4),
        ("GET_DEFAULT_MODES", ntddpar::IOCTL_PAR_GET_DEFAULT_MODES, 4),
        ("IS_PORT_FREE", ntddpar::IOCTL_PAR_IS_PORT_FREE, 1),
        ("QUERY_LOCATION", ntddpar::IOCTL_PAR_QUERY_LOCATION, 32),
        (
            "QUERY_DEVICE_ID_SIZE",
            ntddpar::IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
            4,
        ),
        ("QUERY_DEVICE_ID", ntddpar::IOCTL_PAR_QUERY_DEVICE_ID, 200),
        (
            "QUERY_RAW_DEVICE_ID",
            ntddpar::IOCTL_PAR_QUERY_RAW_DEVICE_ID,
            200,
        ),
    ] {
        user.control(what, code, &[], room);
    }
}

fn initialize(user: &User<'_>) {
    let init = [ntddpar::PARALLEL_INIT];
    user.control(
        "PARALLEL_INIT",
        ntddpar::IOCTL_PAR_SET_INFORMATION,
        &init,
        0,
    );
}

fn choose(user: &User<'_>, read: u16, write: u16) {
    let offered = modes::mask(read, write);
    user.control("NEGOTIATE", ntddpar::IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
}

fn write(user: &User<'_>, mode: u16) {
    choose(user, 0, mode);
    let data = pattern(AMOUNT);
    let result = check(user.machine.write(user.handle, &data));
    user.expect_whole("a write", &result, AMOUNT);
}

fn read(user: &User<'_>, mode: u16) {
    choose(user, mode, 0);
    if let Some(peripheral) = &user.peripheral {
        let given = peripheral.to_send();
        peripheral.give(&pattern(AMOUNT - given.min(AMOUNT)));
    }
    let result = check(user.machine.read(user.handle, AMOUNT));
    user.run.expect_result("a read", &result, AMOUNT);
    let some = result.information > 0;
    assert!(some || user.run.is_disturbed(), "a read of nothing");
}

fn two_writes(user: &User<'_>) {
    let data = pattern(AMOUNT);
    let requests = [(); 2].map(|()| user.machine.start_write(user.handle, &data));
    for request in &requests {
        let result = check(user.machine.finish(request));
        user.run.expect_result("a write", &result, AMOUNT);
    }
}

fn port_program(user: &User<'_>) {
    let code = [
        lines::pace(2000),
        lines::repeat(3),
        lines::NEXT_DATA,
        lines::get(1),
        lines::delay_us(5),
        lines::END,
    ];
    let result = user.control("GET_PORT", lines::IOCTL_PARSCAN_GET_PORT, &[], 64);
    assert!(result.information > 0 || user.run.is_disturbed());
    let claim = user
        .machine
        .start_io_control(user.handle, lines::IOCTL_PARSCAN_CLAIM, &[0; 4], 0);
    let claimed = check(user.machine.finish(&claim));
    user.run.expect_result("CLAIM", &claimed, 0);
    if claimed.status == NtStatus::SUCCESS {
        let request = lines::request(&code, &[1, 2, 3], false);
        user.control("RUN", lines::IOCTL_PARSCAN_RUN, &request, lines::RESULT + 8);
        let release = || user.control("RELEASE", lines::IOCTL_PARSCAN_RELEASE, &[1, 0, 0, 0], 0);
        // One that is cancelled leaves the claim as it is.
        if release().status == NtStatus::CANCELLED {
            release();
        }
    }
}

fn stop_start(user: &User<'_>) {
    if restarted(user) {
        let code = ntddpar::IOCTL_PAR_QUERY_INFORMATION;
        user.control("QUERY_INFORMATION", code, &[], 1);
    }
}

/// `QUERY_STOP`, `STOP` and `START`, as long as the device is there. Gives whether it still is.
fn restarted(user: &User<'_>) -> bool {
    let (machine, node) = (user.machine, user.node);
    let is = |state| machine.node_state(node) == state;
    if !is(NodeState::Started) {
        return false;
    }
    // An open handle may make the driver refuse.
    let agreed = check(machine.query_stop(node)).is_success();
    if !is(NodeState::Started) {
        return false;
    }
    if !agreed {
        return check(machine.cancel_stop(node)).is_success();
    }
    let stopped = check(machine.stop(node));
    user.run.succeeded("IRP_MN_STOP_DEVICE", stopped);
    is(NodeState::Stopped) && {
        let started = check(machine.start(node));
        user.run.succeeded("IRP_MN_START_DEVICE", started) && is(NodeState::Started)
    }
}

// ---- kernel clients ----

fn with_client(run: &Run, with: impl Fn(&Run, &Client)) {
    let peripheral = Peripheral1284::new();
    on_port(run, Chip::EcpEpp, &peripheral, |machine, node, driver| {
        let pc = Pc {
            machine: machine.clone(),
            printer: (),
            chip: Rc::new(RefCell::new(())),
            driver,
            node,
        };
        let client = Client::load(&pc);
        with(run, &client);
        if run.calm(machine) {
            with(run, &client);
        }
        client.unload();
    });
}

fn class_driver(run: &Run, client: &Client) {
    let data = pattern(AMOUNT);
    let day = client.transfer(DEVICE, [modes::ECP_HW_NOIRQ, modes::NIBBLE], &data, 4);
    for (number, status) in day.statuses.iter().enumerate() {
        let excused = status.0 == Step::NOT_TAKEN || run.is_disturbed();
        // Nothing was given to read.
        let read = number == Step::Read as usize;
        assert!(
            status.is_success() || excused || read,
            "step {number}: {status}"
        );
    }
    assert!(day.written as usize <= AMOUNT && day.read <= 4);
}

fn contention(run: &Run, client: &Client) {
    let contention = client.start_contention(PORT, 4, 12, 1).finish();
    assert_eq!(contention.two_owners, 0, "two owners");
    assert_eq!(contention.out_of_order, 0, "out of order");
    assert!(
        contention.failed == 0 || run.is_disturbed(),
        "{}",
        contention.status
    );
}

// ---- programs of a scanner ----

fn scanner(run: &Run, with: impl Fn(&User<'_>) + 'static) {
    let setup = ScannerSetup {
        config: run.config(),
        ..ScannerSetup::default()
    };
    let model = setup.scanner.clone();
    let machine = Machine::boot(setup.config.clone());
    run.begin(&machine);
    let Some(driver) = load(run, &machine, "ParscanScan", 2) else {
        return;
    };
    let node = machine.plug_usb(setup.device("1"), Rc::new(RefCell::new(model.clone())));
    live(run, &machine, node, driver, || {
        let opened = open(run, &machine, r"\\.\Usbscan0", GUID_DEVINTERFACE_IMAGE);
        let Some((handle, name)) = opened else {
            return;
        };
        let user = User {
            run,
            machine: &machine,
            node,
            handle,
            name,
            peripheral: None,
            scanner: Some(model.clone()),
        };
        twice(&user, &with);
        check(machine.close(handle));
    });
}

fn scanner_requests(user: &User<'_>) {
    let block = usbscan_h::IoBlock {
        offset: 0x40,
        length: 4,
        ..usbscan_h::IoBlock::default()
    };
    let registers = block.bytes(Caller::User64);
    let address = user.machine.user_alloc(Caller::User64, &[1, 2, 3, 4]);
    let written = usbscan_h::IoBlock {
        data: address as u64,
        ..block
    };
    let all = usbscan_h::pipe_type(usbscan_h::ALL_PIPE);
    let configuration = usbscan_h::PIPE_CONFIGURATION_SIZE;
    for (what, code, input, room) in [
        (
            "SET_TIMEOUT",
            usbscan_h::IOCTL_SET_TIMEOUT,
            usbscan_h::timeout(2, 2, 2),
            0,
        ),
        ("GET_VERSION", usbscan_h::IOCTL_GET_VERSION, vec![], 12),
        (
            "GET_CHANNEL_ALIGN_RQST",
            usbscan_h::IOCTL_GET_CHANNEL_ALIGN_RQST,
            vec![],
            12,
        ),
        (
            "GET_DEVICE_DESCRIPTOR",
            usbscan_h::IOCTL_GET_DEVICE_DESCRIPTOR,
            vec![],
            8,
        ),
        (
            "GET_PIPE_CONFIGURATION",
            usbscan_h::IOCTL_GET_PIPE_CONFIGURATION,
            vec![],
            configuration,
        ),
        (
            "GET_USB_DESCRIPTOR",
            usbscan_h::IOCTL_GET_USB_DESCRIPTOR,
            usbscan_h::get_descriptor(1, 0, 0).to_vec(),
            18,
        ),
        (
            "READ_REGISTERS",
            usbscan_h::IOCTL_READ_REGISTERS,
            registers,
            4,
        ),
        (
            "WRITE_REGISTERS",
            usbscan_h::IOCTL_WRITE_REGISTERS,
            written.bytes(Caller::User64),
            0,
        ),
        ("RESET_PIPE", usbscan_h::IOCTL_RESET_PIPE, all.to_vec(), 0),
        ("CANCEL_IO", usbscan_h::IOCTL_CANCEL_IO, all.to_vec(), 0),
    ] {
        user.control(what, code, &input, room);
    }
    user.machine.user_free(address);
}

fn scan(user: &User<'_>) {
    if let Some(scanner) = &user.scanner {
        scanner.forget(BULK_IN);
    }
    let length = u32::try_from(SCAN).unwrap_or(0);
    let command = Scanner::scan_command(length, 100);
    let write = check(user.machine.write(user.handle, &command));
    user.run.expect_result("the command", &write, command.len());
    if write.information < command.len() {
        return;
    }
    let timeout = usbscan_h::timeout(2, 2, 2);
    user.control("SET_TIMEOUT", usbscan_h::IOCTL_SET_TIMEOUT, &timeout, 0);
    let read = check(user.machine.read(user.handle, SCAN));
    user.expect_whole("the image", &read, SCAN);
}

fn event(user: &User<'_>) {
    let Some(other) = user.other() else {
        return;
    };
    let code = usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT;
    let wait = user.machine.start_io_control(user.handle, code, &[], 8);
    let read = user.machine.start_read(other, 512);
    check(user.machine.run_for(5 * MS));
    if let Some(scanner) = &user.scanner {
        scanner.press(&[1, 2, 3]);
    }
    check(user.machine.run_for(200 * MS));
    // A wait that met a sleep has ended with it; one that is there still ends by its cancel.
    let pressed = user.machine.is_done(&wait);
    assert!(pressed || user.run.is_disturbed(), "the button is not told");
    check(user.machine.cancel(&wait));
    let result = check(user.machine.finish(&wait));
    if pressed {
        user.run.expect_result("the button", &result, 8);
    }
    check(user.machine.close(other));
    let result = check(user.machine.finish(&read));
    user.run
        .expect("the read", result.status, NtStatus::CANCELLED);
}

fn two_handles(user: &User<'_>) {
    let Some(other) = user.other() else {
        return;
    };
    if let Some(scanner) = &user.scanner {
        scanner.forget(BULK_IN);
        for _ in 0..4 {
            scanner.send(BULK_IN, &[7; 600], true);
        }
    }
    let timeout = usbscan_h::timeout(2, 2, 2);
    for handle in [user.handle, other] {
        let set = user
            .machine
            .start_io_control(handle, usbscan_h::IOCTL_SET_TIMEOUT, &timeout, 0);
        let set = check(user.machine.finish(&set));
        user.run.expect_result("SET_TIMEOUT", &set, 0);
    }
    let reads = [user.handle, other].map(|handle| user.machine.start_read(handle, 600));
    for read in &reads {
        let result = check(user.machine.finish(read));
        user.run.expect_result("a read", &result, 600);
    }
    check(user.machine.close(other));
}

fn scanner_stop_start(user: &User<'_>) {
    if restarted(user) {
        user.control("GET_VERSION", usbscan_h::IOCTL_GET_VERSION, &[], 12);
    }
}

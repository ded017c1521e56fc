//! A long life: many devices that come and go under load, and a day in an office.

use std::{cell::RefCell, rc::Rc};

use ntsim::{
    Caller, Config, DevNode, DriverId, Handle, Held, Machine, NodeState, NtStatus, Resource,
    SharedPort,
};
use parscan_models::{Condition, Ecp, Peripheral1284, Scanner};
use parscan_tests::{
    LPT1_REGISTERS, MS, Setup, assert_nothing_left, check, driver_image,
    modes::Chip,
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, modes},
    scanner::ScannerSetup,
    usbscan_h,
};

use crate::dice::Dice;

/// bEndpointAddress of the default scanner's bulk pipe to the host.
const BULK_IN: u8 = 0x81;
const SECOND: u64 = 1000 * MS;
const HOUR: u64 = 3600 * SECOND;

/// A machine with the driver loaded, and what there is to plug in.
struct Desk {
    machine: Machine,
    driver: DriverId,
    peripheral: Peripheral1284,
    instances: u32,
    setup: Setup,
}

/// A scanner on the cable.
struct Plugged {
    node: DevNode,
    model: Scanner,
}

impl Desk {
    fn new(seed: u64) -> Self {
        let config = Config {
            seed,
            keep_paged: true,
            trace_ports: false,
            trace_limit: 0,
            max_steps: u64::MAX,
            ..Config::default()
        };
        let machine = Machine::boot(config);
        let peripheral = Peripheral1284::new().with_byte_time(1000);
        let chip = Ecp::new(Box::new(peripheral.clone())).with_epp();
        let hardware: SharedPort = Rc::new(RefCell::new(chip.without_trace()));
        machine.map_ports(0x378, 8, 0, Rc::clone(&hardware));
        machine.map_ports(0x778, 3, 1, hardware);
        let driver = machine
            .load_driver(driver_image(), "Parscan", &[])
            .unwrap_or_else(|error| panic!("{error}"));
        let ecr = Resource::Port {
            base: 0x778,
            len: 3,
        };
        Self {
            machine,
            driver,
            peripheral,
            instances: 0,
            setup: Setup {
                resources: vec![LPT1_REGISTERS, ecr],
                ..Setup::default()
            },
        }
    }

    fn start(&self, node: DevNode) {
        let added = check(self.machine.add_device(node, self.driver));
        assert_eq!(added, NtStatus::SUCCESS, "AddDevice");
        let started = check(self.machine.start(node));
        assert_eq!(started, NtStatus::SUCCESS, "IRP_MN_START_DEVICE");
    }

    fn plug_port(&mut self) -> DevNode {
        self.instances += 1;
        let mut device = self.setup.device();
        device.instance = format!("{:06}", self.instances);
        let node = self.machine.plug(device);
        self.start(node);
        node
    }

    fn plug_scanner(&mut self) -> Plugged {
        self.instances += 1;
        let model = Scanner::default();
        let device = ScannerSetup::default().device(&format!("{:06}", self.instances));
        let function = Rc::new(RefCell::new(model.clone()));
        let node = self.machine.plug_usb(device, function);
        self.start(node);
        Plugged { node, model }
    }

    fn open(&self, name: &str) -> Handle {
        check(self.machine.open(name, Caller::User64))
            .unwrap_or_else(|status| panic!("{name}: {status}"))
    }

    fn held(&self) -> Held {
        check(self.machine.run_for(MS));
        self.machine.held_by(self.driver)
    }
}

/// The system sleeps for so long, if its devices agree. Gives whether it did.
fn nap(machine: &Machine, time: u64) -> bool {
    let agreed = check(machine.sleep()).is_success();
    if agreed {
        check(machine.run_for(time));
        check(machine.wake());
        check(machine.settle());
    }
    agreed
}

/// What a run of [`cycles`] or [`day`] did, to be printed.
pub(crate) type Told = Vec<(&'static str, u64)>;

/// So many times: plug in, start, use, stop or sleep in the midst of it, and out, pulled or removed;
/// both roles at once.
pub(crate) fn cycles(count: u64, seed: u64) -> (Told, Held) {
    let mut dice = Dice::new(seed);
    let mut desk = Desk::new(seed);
    let (mut requests, mut stops, mut sleeps, mut pulled) = (0, 0, 0, 0);
    let mut first: Option<Held> = None;
    for cycle in 0..count {
        let port = desk.plug_port();
        let scanner = desk.plug_scanner();
        let machine = desk.machine.clone();
        let names = [r"\\.\LPT1", r"\\.\Usbscan0", r"\\.\Usbscan0"];
        let files = names.map(|name| desk.open(name));
        scanner.model.send(BULK_IN, &vec![1; 100_000], false);
        desk.peripheral.give(&[2; 30]);
        let length = dice.below(3000) + 1;
        let event = usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT;
        let mut under_way = vec![
            machine.start_write(files[0], &vec![3; length]),
            machine.start_read(files[0], 20),
            machine.start_write(files[0], &[4; 50]),
            machine.start_read(files[1], 120_000),
            machine.start_io_control(files[1], event, &[], 8),
            machine.start_read(files[2], 512),
            machine.start_write(files[2], &vec![5; 70_000]),
        ];
        requests += under_way.len() as u64;
        check(machine.run_for(dice.time()));
        match dice.below(4) {
            0 => {
                for node in [port, scanner.node] {
                    if check(machine.query_stop(node)).is_success() {
                        check(machine.stop(node));
                        check(machine.run_for(dice.time()));
                        let started = check(machine.start(node));
                        assert_eq!(started, NtStatus::SUCCESS, "restart");
                        stops += 1;
                    } else {
                        check(machine.cancel_stop(node));
                    }
                }
            }
            1 => sleeps += u64::from(nap(&machine, dice.time())),
            _ => {}
        }
        under_way.push(machine.start_write(files[0], &[6; 200]));
        requests += 1;
        check(machine.run_for(dice.time()));
        let nodes = [port, scanner.node];
        let pull = !dice.one_in(3);
        if pull {
            for node in nodes {
                check(machine.unplug(node));
                pulled += 1;
            }
        }
        for file in files {
            check(machine.close(file));
        }
        for request in &under_way {
            check(machine.finish(request));
        }
        check(machine.settle());
        if !pull {
            for node in nodes {
                assert_eq!(check(machine.remove(node)), NtStatus::SUCCESS);
            }
        }
        check(machine.run_until_idle());
        let held = desk.held();
        assert_eq!(machine.live_irps(), 0, "IRPs after cycle {cycle}");
        let first = first.get_or_insert(held);
        assert_eq!(held, *first, "after cycle {cycle}");
    }
    let held = desk.held();
    check(desk.machine.unload(desk.driver));
    assert_nothing_left(&desk.machine);
    let told = vec![
        ("cycles", count),
        ("requests", requests),
        ("stops", stops),
        ("sleeps", sleeps),
        ("surprise removals", pulled),
    ];
    (told, held)
}

/// What a day has seen.
#[derive(Default)]
struct Log {
    prints: u64,
    printed: u64,
    scans: u64,
    scanned: u64,
    buttons: u64,
    sleeps: u64,
    unplugs: u64,
    paper: u64,
}

/// So many hours of virtual time in an office.
pub(crate) fn day(hours: u64, seed: u64) -> (Told, Held) {
    let mut dice = Dice::new(seed);
    let mut desk = Desk::new(seed);
    let port = desk.plug_port();
    let mut scanner = desk.plug_scanner();
    let mut log = Log::default();
    print(&desk, &mut dice, &mut log);
    scan(&desk, &scanner.model, &mut dice, &mut log);
    let first = desk.held();
    for hour in 0..hours {
        let end = desk.machine.now() + HOUR;
        let tasks = match hour % 24 {
            0..7 | 20..24 => 0,
            12 => 1,
            _ => 6 + dice.below(8),
        };
        if tasks < 2 {
            // Nights and lunch: the machine sleeps for a while.
            log.sleeps += u64::from(nap(&desk.machine, HOUR / 2));
        }
        for _ in 0..tasks {
            match dice.below(10) {
                0..5 => print(&desk, &mut dice, &mut log),
                5..8 => scan(&desk, &scanner.model, &mut dice, &mut log),
                8 => button(&desk, &scanner.model, &mut log),
                _ => {
                    // The cable is pulled in the midst of a scan.
                    let file = desk.open(r"\\.\Usbscan0");
                    let read = desk.machine.start_read(file, 4096);
                    check(desk.machine.run_for(20 * MS));
                    check(desk.machine.unplug(scanner.node));
                    check(desk.machine.close(file));
                    check(desk.machine.finish(&read));
                    check(desk.machine.run_for(SECOND));
                    scanner = desk.plug_scanner();
                    log.unplugs += 1;
                }
            }
            let pause = u64::try_from(dice.below(180)).unwrap_or(0) * SECOND;
            check(desk.machine.run_for(pause));
        }
        let left = end.saturating_sub(desk.machine.now());
        check(desk.machine.run_for(left));
        let held = desk.held();
        assert_eq!(held, first, "after hour {hour}");
        assert_eq!(desk.machine.live_irps(), 0, "IRPs after hour {hour}");
    }
    let held = desk.held();
    for node in [port, scanner.node] {
        assert_eq!(desk.machine.node_state(node), NodeState::Started);
        assert_eq!(check(desk.machine.remove(node)), NtStatus::SUCCESS);
    }
    check(desk.machine.unload(desk.driver));
    assert_nothing_left(&desk.machine);
    let told = vec![
        ("hours", hours),
        ("prints", log.prints),
        ("bytes printed", log.printed),
        ("times without paper", log.paper),
        ("scans", log.scans),
        ("bytes scanned", log.scanned),
        ("buttons", log.buttons),
        ("sleeps", log.sleeps),
        ("unplugs", log.unplugs),
    ];
    (told, held)
}

/// A job in a mode of the port; now and then the paper runs out and comes back.
fn print(desk: &Desk, dice: &mut Dice, log: &mut Log) {
    let machine = &desk.machine;
    let lpt1 = desk.open(r"\\.\LPT1");
    let all = Chip::EcpEpp.write_modes();
    let offered: Vec<u16> = modes::ALL
        .iter()
        .map(|it| it.0)
        .filter(|it| all & it != 0)
        .collect();
    let mode = dice.of(&offered);
    let input = modes::mask(0, mode);
    let chosen = check(machine.device_io_control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &input, 4));
    assert_eq!(chosen.status, NtStatus::SUCCESS, "mode {mode:#x}");
    let data = vec![0x41; 500 + dice.below(8000)];
    desk.peripheral.clear_received();
    // In other modes than these a program waits for the paper.
    let tells = modes::CENTRONICS | modes::IEEE_COMPATIBILITY;
    let without_paper = mode & tells != 0 && dice.one_in(3);
    if without_paper {
        desk.peripheral.set_condition(Condition::PaperEmpty);
        let refused = check(machine.write(lpt1, &data));
        assert_eq!(refused.information, 0, "printed without paper");
        desk.peripheral.set_condition(Condition::Ready);
        log.paper += 1;
        check(machine.run_for(10 * SECOND));
    }
    let result = check(machine.write(lpt1, &data));
    assert_eq!(result.status, NtStatus::SUCCESS, "mode {mode:#x}");
    assert_eq!(result.information, data.len());
    log.prints += 1;
    log.printed += data.len() as u64;
    check(machine.close(lpt1));
    desk.peripheral.clear_received();
}

fn scan(desk: &Desk, model: &Scanner, dice: &mut Dice, log: &mut Log) {
    let machine = &desk.machine;
    let file = desk.open(r"\\.\Usbscan0");
    let length = 20_000 + dice.below(300_000);
    let command = Scanner::scan_command(u32::try_from(length).unwrap_or(0), 100);
    model.forget(BULK_IN);
    let sent = check(machine.write(file, &command));
    assert_eq!(sent.status, NtStatus::SUCCESS, "the command");
    let mut got = 0;
    while got < length {
        let read = check(machine.read(file, (length - got).min(65_536)));
        assert_eq!(read.status, NtStatus::SUCCESS, "after {got} of {length}");
        assert!(read.information > 0, "nothing after {got} of {length}");
        got += read.information;
    }
    log.scans += 1;
    log.scanned += got as u64;
    check(machine.close(file));
}

fn button(desk: &Desk, model: &Scanner, log: &mut Log) {
    let machine = &desk.machine;
    let file = desk.open(r"\\.\Usbscan0");
    let code = usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT;
    let wait = machine.start_io_control(file, code, &[], 8);
    check(machine.run_for(30 * SECOND));
    model.press(&[1, 0x80]);
    let result = check(machine.finish(&wait));
    assert_eq!((result.status, result.information), (NtStatus::SUCCESS, 2));
    log.buttons += 1;
    check(machine.close(file));
}

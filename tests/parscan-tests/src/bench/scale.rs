//! What a request costs when there are many: devices at once, and requests in a queue.
//!
//! It must cost what it costs alone, and no lock may be one that two devices use: else processors
//! would wait for each other that have nothing to do with each other.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use ntsim::{
    Caller, Counts, DeviceSpec, DriverId, Handle, IoResult, LockUse, Machine, NtStatus, Resource,
};
use parscan_models::{Peripheral1284, Scanner};
use parscan_tests::{
    Setup, check, driver_image,
    modes::{BoxedChip, Chip},
    ntddpar,
    scanner::ScannerSetup,
    usbscan_h,
};

use super::{
    requests::{Meter, config},
    sheet::{Column, Row, Table, held},
};

/// For each request.
const COLUMNS: &[Column] = &[
    held("instructions"),
    held("locks"),
    held("allocations"),
    held("shared locks"),
];

/// How much more a request may cost than alone, as a factor.
const FLAT: f64 = 1.05;

/// Where the registers of up to four ports are.
const PORTS: [u64; 4] = [0x378, 0x278, 0x268, 0x368];

/// A device, and the request that is measured.
struct Target {
    handle: Handle,
    code: u32,
    input: Vec<u8>,
    output: usize,
}

impl Meter {
    /// The table.
    ///
    /// # Panics
    /// A request costs more than alone, or two devices use one lock.
    pub(super) fn scale(&self) -> Table {
        let mut rows = Vec::new();
        for count in [1, 2, 4, 8, 16, 32, 64] {
            let (machine, driver, targets) = scanners(count);
            let name = format!("IOCTL_GET_USB_DESCRIPTOR of {count} scanners");
            rows.push(self.at_once(&name, (&machine, driver), &targets, 1));
        }
        flat(&rows);
        let first = rows.len();
        for count in [1, 2, 4] {
            let (machine, driver, targets) = ports(count);
            let name = format!("IOCTL_PAR_QUERY_INFORMATION of {count} ports");
            rows.push(self.at_once(&name, (&machine, driver), &targets, 1));
        }
        flat(&rows[first..]);
        let first = rows.len();
        for count in [1, 10, 100, 1000] {
            let (machine, driver, targets) = ports(1);
            let name = format!("IOCTL_PAR_QUERY_INFORMATION, {count} in a queue");
            rows.push(self.at_once(&name, (&machine, driver), &targets, count));
        }
        flat(&rows[first..]);
        Table {
            title: "Many at once",
            about: "A request to each of so many devices, or so many to one, all sent before the \
                    first is waited for: what each costs.\nA shared lock is one that requests to \
                    two devices acquire.",
            columns: COLUMNS,
            rows,
        }
    }

    /// So many requests to each of the devices.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn at_once(
        &self,
        name: &str,
        on: (&Machine, DriverId),
        targets: &[Target],
        times: usize,
    ) -> Row {
        let (machine, _) = on;
        let all = || {
            let requests: Vec<_> = (0..times)
                .flat_map(|_| targets)
                .map(|it| machine.start_io_control(it.handle, it.code, &it.input, it.output))
                .collect();
            for request in &requests {
                succeeded(&check(machine.finish(request)));
            }
        };
        let counts = self.twice(name, on, all);
        let shared = self.shared(name, on, targets);
        assert!(shared.is_empty(), "{name}: two devices use {shared:?}");
        for target in targets {
            check(machine.close(target.handle));
        }
        let each = |count: u64| Some(count as f64 / (times * targets.len()) as f64);
        Row {
            name: name.to_owned(),
            cells: vec![
                each(counts.instructions),
                each(counts.lock_acquisitions()),
                each(counts.allocations),
                Some(shared.len() as f64),
            ],
        }
    }

    /// The locks that requests to more than one of the devices acquire.
    fn shared(&self, name: &str, on: (&Machine, DriverId), targets: &[Target]) -> Vec<LockUse> {
        let (machine, _) = on;
        let mut users: BTreeMap<usize, Vec<(usize, LockUse)>> = BTreeMap::new();
        for (index, it) in targets.iter().enumerate() {
            let request = || {
                let result = machine.device_io_control(it.handle, it.code, &it.input, it.output);
                succeeded(&check(result));
            };
            let Counts { locks, .. } = self.once(name, on, request);
            for lock in locks {
                users.entry(lock.address).or_default().push((index, lock));
            }
        }
        users
            .into_values()
            .filter(|users| users.iter().any(|(index, _)| *index != users[0].0))
            .map(|users| users[0].1.clone())
            .collect()
    }
}

fn succeeded(result: &IoResult) {
    assert_eq!(result.status, NtStatus::SUCCESS);
}

/// No row is dearer than the first.
fn flat(rows: &[Row]) {
    let cost = |row: &Row| row.cells[0].unwrap_or_default();
    let alone = cost(&rows[0]);
    for row in rows {
        assert!(
            cost(row) <= alone * FLAT,
            "{}: {} instructions, {alone} alone",
            row.name,
            cost(row)
        );
    }
}

fn scanners(count: usize) -> (Machine, DriverId, Vec<Target>) {
    let setup = ScannerSetup::default();
    let machine = Machine::boot(config());
    let driver = machine
        .load_driver(driver_image(), "ParscanScan", &setup.parameters)
        .unwrap_or_else(|error| panic!("{error}"));
    let targets = (0..count)
        .map(|index| {
            let function = Rc::new(RefCell::new(Scanner::default()));
            let spec = setup.device(&index.to_string());
            let node = machine.plug_usb(spec, function);
            started(check(machine.add_device(node, driver)));
            started(check(machine.start(node)));
            let name = format!(r"\\.\Usbscan{index}");
            Target {
                handle: check(machine.open(&name, Caller::User64)).expect("a scanner"),
                code: usbscan_h::IOCTL_GET_USB_DESCRIPTOR,
                input: usbscan_h::get_descriptor(1, 0, 0).to_vec(),
                output: 18,
            }
        })
        .collect();
    (machine, driver, targets)
}

fn ports(count: usize) -> (Machine, DriverId, Vec<Target>) {
    let setup = Setup::default();
    let machine = Machine::boot(config());
    let driver = machine
        .load_driver(driver_image(), "ParscanPort", &setup.parameters)
        .unwrap_or_else(|error| panic!("{error}"));
    let targets = PORTS
        .iter()
        .take(count)
        .enumerate()
        .map(|(index, base)| {
            let chip = BoxedChip::new(Chip::Ps2, &Peripheral1284::new());
            let first = u16::try_from(*base).expect("a port");
            machine.map_ports(first, 8, 0, Rc::new(RefCell::new(chip)));
            let resource = Resource::Port {
                base: *base,
                len: 8,
            };
            let spec = DeviceSpec {
                instance: (index + 1).to_string(),
                ..setup.device()
            }
            .with_resources(&[resource]);
            let node = machine.plug(spec);
            started(check(machine.add_device(node, driver)));
            started(check(machine.start(node)));
            check(machine.run_until_idle());
            let name = format!(r"\\.\LPT{}", index + 1);
            Target {
                handle: check(machine.open(&name, Caller::User64)).expect("a port"),
                code: ntddpar::IOCTL_PAR_QUERY_INFORMATION,
                input: Vec::new(),
                output: 1,
            }
        })
        .collect();
    (machine, driver, targets)
}

fn started(status: NtStatus) {
    assert_eq!(status, NtStatus::SUCCESS, "the start of a device");
}

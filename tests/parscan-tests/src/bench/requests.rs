//! What each request costs the processor: instructions of the driver, memory, locks, switches.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use ntsim::{Caller, Config, Counts, DriverId, Lock, Machine, NtStatus, Resource};
use parscan_models::{Condition, Peripheral1284, Scanner};
use parscan_tests::{
    MS, Pc, Setup, US, check,
    client::{Callback, Client, DEVICE, DISPATCH, PASSIVE, PORT},
    modes::{Chip, ModesPc, pattern, pc_with},
    ntddpar::{self, modes},
    parallel_h,
    port_programs::{self, lines_pc},
    scanner::{ScannerPc, ScannerSetup},
    symbols::Symbols,
    usbscan_h::{self, IoBlock},
};

use super::{
    loops::{Code, SHOWN},
    sheet::{Column, Row, Sheet, Table, held, told},
};

#[path = "../../../null-driver/src/codes.rs"]
#[allow(unreachable_pub, reason = "it is a module of the driver, too")]
mod codes;

/// A device ID of 35 bytes with its length prefix.
const DEVICE_ID: &[u8] = b"MFG:Parscan;MDL:1284;CLS:PRINTER;";

/// What is measured of a request.
const COLUMNS: &[Column] = &[
    held("instructions"),
    held("allocations"),
    held("bytes"),
    held("kernel calls"),
    held("locks"),
    held("switches"),
    held("accesses"),
];

/// The same of one that is answered at once, beside drivers that do nothing.
const AT_ONCE: &[Column] = &[
    held("instructions"),
    told("null driver"),
    told("ratio"),
    told("with lock"),
    told("ratio"),
    held("allocations"),
    held("bytes"),
    held("kernel calls"),
    held("locks"),
];

/// Of a transfer, for each byte.
const A_BYTE: &[Column] = &[
    held("instructions"),
    told("accesses"),
    told("per access"),
    held("one byte"),
];

/// Of what the PnP manager asks for.
const OF_DEVICES: &[Column] = &[
    held("instructions"),
    held("allocations"),
    held("bytes"),
    held("kernel calls"),
    held("accesses"),
    held("us"),
];
const BYTES: &[Column] = &[held("bytes")];
const ACQUISITIONS: &[Column] = &[told("acquisitions")];

/// The rows whose locks are named.
const LOCKS_OF: [&str; 9] = [
    "IOCTL_IEEE1284",
    "IOCTL_PAR_GET",
    "IOCTL_PAR_IS",
    "IOCTL_PAR_QUERY_INFORMATION",
    "IOCTL_SERIAL",
    "IOCTL_GET",
    "IOCTL_SET_TIMEOUT",
    "IOCTL_WRITE_REGISTERS of 1 b",
    "LOCK_PORT",
];

/// Measures, and keeps what is told besides.
pub(crate) struct Meter {
    symbols: Symbols,
    code: Code,
    loops: RefCell<String>,
    /// The row whose places are printed.
    profile: Option<String>,
    locks: RefCell<Vec<Row>>,
    marks: RefCell<BTreeMap<String, usize>>,
}

/// Where a fixed price and one for each piece meet: this many bytes, and three times as many.
const SOME: usize = 64;

impl Meter {
    pub(crate) fn new(image: &Path, profile: Option<String>) -> Self {
        Self {
            symbols: Symbols::beside(image),
            code: Code::of(image),
            loops: RefCell::default(),
            profile,
            locks: RefCell::default(),
            marks: RefCell::default(),
        }
    }

    /// Does it once without, and once with counting.
    pub(super) fn twice(
        &self,
        name: &str,
        on: (&Machine, DriverId),
        mut f: impl FnMut(),
    ) -> Counts {
        f();
        self.once(name, on, f)
    }

    /// From rest to rest: what a request before this one left to do is its own.
    pub(super) fn once(&self, name: &str, on: (&Machine, DriverId), f: impl FnOnce()) -> Counts {
        let (machine, _) = on;
        check(machine.run_until_idle());
        let start = machine.now();
        let mut end = start;
        let counts = self.meanwhile(name, on, || {
            f();
            end = machine.now();
            check(machine.run_until_idle());
        });
        Counts {
            time: end - start,
            ..counts
        }
    }

    /// While something goes on.
    fn meanwhile(&self, name: &str, on: (&Machine, DriverId), f: impl FnOnce()) -> Counts {
        let (machine, driver) = on;
        machine.count(driver);
        f();
        let counts = machine.counted();
        if self.profile.as_ref().is_some_and(|it| name.contains(it)) {
            self.print(name, &counts);
        }
        let mut by_place: BTreeMap<String, u64> = BTreeMap::new();
        for used in &counts.locks {
            *by_place
                .entry(self.lock(&used.lock, used.site))
                .or_default() += used.count;
        }
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        for (lock, count) in by_place {
            if !LOCKS_OF.iter().any(|it| name.starts_with(it)) {
                break;
            }
            self.locks.borrow_mut().push(Row {
                name: format!("{name}: {lock}"),
                cells: vec![Some(count as f64)],
            });
        }
        counts
    }

    /// The most frequent functions of a row, and its kernel calls.
    fn print(&self, name: &str, counts: &Counts) {
        eprintln!("\n{name}: {} instructions", counts.instructions);
        let mut functions: BTreeMap<String, u64> = BTreeMap::new();
        for (place, count) in &counts.places {
            let function = self.function(*place);
            *functions.entry(function).or_default() += count;
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (function, count) in functions {
            eprintln!("  {count:>8}  {function}");
        }
        if env::var_os("PARSCAN_PLACES").is_some() {
            for (place, count) in &counts.places {
                eprintln!("  {place:#x} {count}");
            }
        }
        for (call, count) in &counts.calls {
            eprintln!("  {count:>8}  calls of {call}");
        }
    }

    fn function(&self, place: u32) -> String {
        let name = self.symbols.name(place.into());
        let name = name.unwrap_or_else(|| format!("{place:#x}"));
        let name = name.split('+').next().unwrap_or_default();
        let words: Vec<&str> = name
            .split("::")
            .filter(|it| !it.contains('$') && it.len() > 2)
            .collect();
        words[words.len().saturating_sub(2)..].join("::")
    }

    fn lock(&self, lock: &Lock, site: u32) -> String {
        let place = match lock {
            Lock::Device(name, _) => name.clone(),
            Lock::Pool { size, .. } => format!("{size} bytes of pool"),
            Lock::Cancel => "the cancel spin lock".to_owned(),
            Lock::Other => "elsewhere".to_owned(),
        };
        format!("{place}, by {}", self.function(site))
    }

    /// The stacks of a machine whose driver was unloaded.
    fn keep_marks(&self, machine: &Machine) {
        for (name, used) in machine.stack_marks() {
            let mut marks = self.marks.borrow_mut();
            let mark = marks.entry(name).or_default();
            *mark = used.max(*mark);
        }
    }

    /// Everything.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn measure(&self, sheet: &mut Sheet) {
        let null = self.null();
        sheet.tables.push(Table {
            title: "Requests that are answered at once",
            about: "Instructions of the driver, the kernel's own excluded; beside a driver that \
                    completes the request and\ndoes nothing else, and one that holds the remove \
                    lock meanwhile.",
            columns: AT_ONCE,
            rows: [self.lpt_at_once(), self.scanner_at_once()]
                .concat()
                .into_iter()
                .map(|(name, counts)| at_once(&name, &counts, null))
                .collect(),
        });
        let mut queued = self.lpt_queued();
        queued.extend(self.scanner_queued());
        sheet.tables.push(Table {
            title: "Requests that wait for their turn",
            about: "From the request to its result, in all threads. A switch is one to a thread of the driver, and back.",
            columns: COLUMNS,
            rows: queued
                .iter()
                .map(|(name, counts)| row(name, counts))
                .collect(),
        });
        sheet.tables.push(Table {
            title: "Kernel clients",
            about: "Requests and callbacks of parallel.h.",
            columns: COLUMNS,
            rows: self
                .client()
                .iter()
                .map(|(name, counts)| row(name, counts))
                .collect(),
        });
        sheet.tables.push(Table {
            title: "A byte",
            about: "Of a long transfer, without its beginning and end; and a whole request of one \
                    byte.",
            columns: A_BYTE,
            rows: self.bytes(),
        });
        sheet.tables.push(Table {
            title: "Devices",
            about: "From the request of the PnP manager to its end. A port is looked at after its \
                    start: a device there tells its ID,\n35 bytes here, which takes the accesses of \
                    IOCTL_PAR_QUERY_DEVICE_ID above; the others are START's own.",
            columns: OF_DEVICES,
            rows: self.devices(),
        });
        sheet.loops = self.loops.take();
        let locks = self.locks.take();
        // Its own say which locks devices share.
        sheet.tables.push(self.scale());
        sheet.tables.push(Table {
            title: "Stacks",
            about: "The most bytes that a thread used, by what it began with, with 2048 bytes for \
                    Windows at the top\nand 768 for each call of the kernel that calls back.",
            columns: BYTES,
            rows: self
                .marks
                .borrow()
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "hook"))
                .map(|(name, used)| Row {
                    name: name.clone(),
                    cells: vec![Some(*used as f64)],
                })
                .collect(),
        });
        sheet.tables.push(Table {
            title: "Which locks",
            about: "Of requests and kernel clients: where the lock is, and the function that acquires \
                    it.",
            columns: ACQUISITIONS,
            rows: locks,
        });
    }

    /// A driver that does nothing: at once, and with the remove lock.
    fn null(&self) -> [u64; 2] {
        let machine = Machine::boot(config());
        let driver = machine
            .load_driver(null_image(), "ParscanNull", &[])
            .unwrap_or_else(|error| panic!("{error}"));
        let handle = check(machine.open(r"\\.\ParscanNull", Caller::User64)).expect("the device");
        let on = (&machine, driver);
        let costs = [codes::PLAIN, codes::HELD].map(|code| {
            let request = || {
                let result = check(machine.device_io_control(handle, code, &[], 4));
                assert_eq!(result.status, NtStatus::SUCCESS);
            };
            self.twice("null driver", on, request).instructions
        });
        check(machine.close(handle));
        check(machine.unload(driver));
        costs
    }

    fn lpt_at_once(&self) -> Vec<(String, Counts)> {
        let pc = lines_pc(setup());
        let lpt1 = pc.open();
        let on = (&pc.machine, pc.driver);
        let timeouts = ntddpar::timeouts([0, 0, 1000, 0, 1000]);
        let cases: [(&str, u32, &[u8], usize); 8] = [
            (
                "IOCTL_IEEE1284_GET_MODE",
                ntddpar::IOCTL_IEEE1284_GET_MODE,
                &[],
                4,
            ),
            (
                "IOCTL_PAR_GET_DEFAULT_MODES",
                ntddpar::IOCTL_PAR_GET_DEFAULT_MODES,
                &[],
                4,
            ),
            (
                "IOCTL_PAR_IS_PORT_FREE",
                ntddpar::IOCTL_PAR_IS_PORT_FREE,
                &[],
                1,
            ),
            (
                "IOCTL_PAR_QUERY_LOCATION",
                ntddpar::IOCTL_PAR_QUERY_LOCATION,
                &[],
                16,
            ),
            (
                "IOCTL_SERIAL_SET_TIMEOUTS",
                ntddpar::IOCTL_SERIAL_SET_TIMEOUTS,
                &timeouts,
                0,
            ),
            (
                "IOCTL_SERIAL_GET_TIMEOUTS",
                ntddpar::IOCTL_SERIAL_GET_TIMEOUTS,
                &[],
                20,
            ),
            (
                "GET_PORT of port programs",
                port_programs::IOCTL_PARSCAN_GET_PORT,
                &[],
                64,
            ),
            ("an unknown request to LPTn", 0x0016_0FFC, &[], 0),
        ];
        let mut rows: Vec<_> = cases
            .into_iter()
            .map(|(name, code, input, output)| {
                let request = || drop(pc.control(lpt1, code, input, output));
                (name.to_owned(), self.twice(name, on, request))
            })
            .collect();
        assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
        let program = port_programs::request(&[port_programs::data(1)], &[], true);
        let name = "RUN of one write, claimed";
        let request = || drop(pc.run(lpt1, &program, 0));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        assert_eq!(pc.release(lpt1, true), NtStatus::SUCCESS);
        let name = "WriteFile of no byte";
        let request = || drop(check(pc.machine.write(lpt1, &[])));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        check(pc.machine.close(lpt1));
        let name = "CREATE, CLEANUP and CLOSE of LPTn";
        let request = || assert_eq!(check(pc.machine.close(pc.open())), NtStatus::SUCCESS);
        rows.push((name.to_owned(), self.twice(name, on, request)));
        let lpt1 = pc.open();
        check(pc.machine.unplug(pc.node));
        let name = "a request to a port that is gone";
        let request = || drop(pc.control(lpt1, ntddpar::IOCTL_PAR_QUERY_INFORMATION, &[], 1));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        check(pc.machine.close(lpt1));
        pc.unload();
        rows
    }

    fn lpt_queued(&self) -> Vec<(String, Counts)> {
        let printer = Peripheral1284::new()
            .with_device_id(DEVICE_ID)
            .with_reset_time(0);
        let pc = pc_with(Chip::Ps2, &printer, setup());
        let lpt1 = pc.open();
        let on = (&pc.machine, pc.driver);
        let cases: [(&str, u32, &[u8], usize); 8] = [
            (
                "IOCTL_PAR_QUERY_INFORMATION",
                ntddpar::IOCTL_PAR_QUERY_INFORMATION,
                &[],
                1,
            ),
            (
                "IOCTL_PAR_SET_INFORMATION",
                ntddpar::IOCTL_PAR_SET_INFORMATION,
                &[ntddpar::PARALLEL_INIT],
                0,
            ),
            (
                "IOCTL_PAR_QUERY_DEVICE_ID, 35 bytes",
                ntddpar::IOCTL_PAR_QUERY_DEVICE_ID,
                &[],
                100,
            ),
            (
                "IOCTL_PAR_QUERY_DEVICE_ID_SIZE",
                ntddpar::IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
                &[],
                4,
            ),
            (
                "IOCTL_PAR_QUERY_RAW_DEVICE_ID",
                ntddpar::IOCTL_PAR_QUERY_RAW_DEVICE_ID,
                &[],
                100,
            ),
            (
                "IOCTL_PAR_SET_WRITE_ADDRESS",
                ntddpar::IOCTL_PAR_SET_WRITE_ADDRESS,
                &[0],
                0,
            ),
            (
                "IOCTL_IEEE1284_NEGOTIATE of byte mode",
                ntddpar::IOCTL_IEEE1284_NEGOTIATE,
                &modes::mask(modes::BYTE_BIDIR, 0),
                4,
            ),
            (
                "IOCTL_PAR_GET_DEVICE_CAPS",
                ntddpar::IOCTL_PAR_GET_DEVICE_CAPS,
                &[0; 2],
                2,
            ),
        ];
        let mut rows: Vec<_> = cases
            .into_iter()
            .map(|(name, code, input, output)| {
                let request = || {
                    let result = pc.control(lpt1, code, input, output);
                    assert_eq!(result.status, NtStatus::SUCCESS, "{name}");
                };
                (name.to_owned(), self.twice(name, on, request))
            })
            .collect();
        let name = "WriteFile of 5 bytes, Centronics";
        let request = || drop(check(pc.machine.write(lpt1, b"hello")));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        let name = "a second of waiting for a busy printer";
        printer.set_condition(Condition::Busy);
        let write = pc.machine.start_write(lpt1, b"!");
        check(pc.machine.run_for(3000 * MS));
        let request = || check(pc.machine.run_for(1000 * MS));
        rows.push((name.to_owned(), self.meanwhile(name, on, request)));
        printer.set_condition(Condition::Ready);
        check(pc.machine.finish(&write));
        check(pc.machine.close(lpt1));
        pc.remove();
        self.keep_marks(&pc.machine);
        rows
    }

    fn scanner_at_once(&self) -> Vec<(String, Counts)> {
        let pc = scanner();
        let file = pc.open();
        let on = (&pc.machine, pc.driver);
        let cases: [(&str, u32, &[u8], usize); 6] = [
            ("IOCTL_GET_VERSION", usbscan_h::IOCTL_GET_VERSION, &[], 12),
            (
                "IOCTL_GET_CHANNEL_ALIGN_RQST",
                usbscan_h::IOCTL_GET_CHANNEL_ALIGN_RQST,
                &[],
                12,
            ),
            (
                "IOCTL_GET_DEVICE_DESCRIPTOR",
                usbscan_h::IOCTL_GET_DEVICE_DESCRIPTOR,
                &[],
                8,
            ),
            (
                "IOCTL_GET_PIPE_CONFIGURATION",
                usbscan_h::IOCTL_GET_PIPE_CONFIGURATION,
                &[],
                68,
            ),
            (
                "IOCTL_SET_TIMEOUT",
                usbscan_h::IOCTL_SET_TIMEOUT,
                &usbscan_h::timeout(10, 10, 10),
                0,
            ),
            (
                "IOCTL_CANCEL_IO of the read pipe",
                usbscan_h::IOCTL_CANCEL_IO,
                &usbscan_h::pipe_type(usbscan_h::READ_DATA_PIPE),
                0,
            ),
        ];
        let mut rows: Vec<_> = cases
            .into_iter()
            .map(|(name, code, input, output)| {
                let request = || {
                    let result = pc.control(file, code, input, output);
                    assert_eq!(result.status, NtStatus::SUCCESS, "{name}");
                };
                (name.to_owned(), self.twice(name, on, request))
            })
            .collect();
        pc.close(file);
        let name = "CREATE, CLEANUP and CLOSE of UsbscanN";
        let request = || pc.close(pc.open());
        rows.push((name.to_owned(), self.twice(name, on, request)));
        pc.finish();
        rows
    }

    fn scanner_queued(&self) -> Vec<(String, Counts)> {
        let pc = scanner();
        let file = pc.open();
        let on = (&pc.machine, pc.driver);
        let mut rows = Vec::new();
        let name = "IOCTL_READ_REGISTERS of 1 byte";
        let request = || drop(pc.read_registers(file, 0x20, 1));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        let data = Scanner::image(1, 65);
        let memory = pc.machine.user_alloc(Caller::User64, &data);
        for length in [1_u32, 64, 65] {
            let name = format!("IOCTL_WRITE_REGISTERS of {length} bytes");
            let block = IoBlock {
                offset: 0x20,
                length,
                data: memory as u64,
                index: 0,
            };
            let request = || {
                let result = pc.write_registers(file, block);
                assert_eq!(result.status, NtStatus::SUCCESS);
            };
            let counts = self.twice(&name, on, request);
            rows.push((name, counts));
        }
        let name = "IOCTL_GET_USB_DESCRIPTOR";
        let input = usbscan_h::get_descriptor(1, 0, 0);
        let request = || drop(pc.control(file, usbscan_h::IOCTL_GET_USB_DESCRIPTOR, &input, 18));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        let name = "IOCTL_RESET_PIPE";
        let input = usbscan_h::pipe_type(usbscan_h::READ_DATA_PIPE);
        let request = || drop(pc.control(file, usbscan_h::IOCTL_RESET_PIPE, &input, 0));
        rows.push((name.to_owned(), self.twice(name, on, request)));
        let name = "ReadFile of 64 KiB from a scanner";
        let read = || {
            pc.scanner.send(0x81, &Scanner::image(1, 64 << 10), false);
            let result = pc.read(file, 64 << 10);
            assert_eq!(result.information, 64 << 10);
        };
        rows.push((name.to_owned(), self.twice(name, on, read)));
        let name = "WriteFile of 64 KiB to a scanner";
        let data = Scanner::image(2, 64 << 10);
        let write = || {
            let result = pc.write(file, &data);
            assert_eq!(result.information, 64 << 10);
        };
        rows.push((name.to_owned(), self.twice(name, on, write)));
        pc.machine.user_free(memory);
        pc.close(file);
        assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
        pc.unload();
        self.keep_marks(&pc.machine);
        rows
    }

    fn client(&self) -> Vec<(String, Counts)> {
        let printer = Peripheral1284::new().with_device_id(DEVICE_ID);
        let pc = pc_with(Chip::Ps2, &printer, setup());
        let client = Client::load(&pc);
        let on = (&pc.machine, pc.driver);
        let device = client.open(DEVICE);
        let mut rows = Vec::new();
        let name = "PARCLASS_CONNECT";
        let connect = || {
            device.connect();
        };
        rows.push((name.to_owned(), self.once(name, on, connect)));
        device.lock();
        device.unlock();
        let name = "LOCK_PORT";
        rows.push((name.to_owned(), self.once(name, on, || device.lock())));
        for data in [&b"!"[..], b"twenty bytes to send"] {
            let name = format!("ParallelWrite of {} bytes", data.len());
            let write = || {
                let answer = device.call(Callback::ParallelWrite(data), PASSIVE);
                assert_eq!(answer.status(), NtStatus::SUCCESS);
            };
            let counts = self.twice(&name, on, write);
            rows.push((name, counts));
        }
        let name = "UNLOCK_PORT";
        rows.push((name.to_owned(), self.once(name, on, || device.unlock())));
        let name = "PARCLASS_DISCONNECT";
        let disconnect = || {
            let status = device.order(parallel_h::IOCTL_INTERNAL_PARCLASS_DISCONNECT);
            assert_eq!(status, NtStatus::SUCCESS);
        };
        rows.push((name.to_owned(), self.once(name, on, disconnect)));
        device.close();
        let port = client.open(PORT);
        let name = "GET_PARALLEL_PORT_INFO";
        let ask = || {
            port.port_information();
        };
        rows.push((name.to_owned(), self.twice(name, on, ask)));
        for (name, callback) in [
            ("TryAllocatePort", Callback::TryAllocatePort),
            ("QueryNumWaiters", Callback::QueryNumWaiters),
            ("FreePort", Callback::FreePort),
        ] {
            let call = || drop(port.call(callback, DISPATCH));
            rows.push((name.to_owned(), self.once(name, on, call)));
        }
        for (name, code) in [
            (
                "PARALLEL_PORT_ALLOCATE",
                parallel_h::IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
            ),
            (
                "PARALLEL_PORT_FREE",
                parallel_h::IOCTL_INTERNAL_PARALLEL_PORT_FREE,
            ),
        ] {
            let order = || assert_eq!(port.order(code), NtStatus::SUCCESS);
            rows.push((name.to_owned(), self.once(name, on, order)));
        }
        port.close();
        client.unload();
        pc.finish();
        rows
    }

    /// A byte in every mode.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn bytes(&self) -> Vec<Row> {
        let cases = [
            ("Centronics, write", modes::CENTRONICS, Chip::Spp, false),
            (
                "Centronics by FIFO, write",
                modes::IEEE_COMPATIBILITY,
                Chip::Ecp,
                false,
            ),
            ("nibble, read", modes::NIBBLE, Chip::Spp, true),
            ("byte, read", modes::BYTE_BIDIR, Chip::Ps2, true),
            ("EPP, write", modes::EPP_HW, Chip::Epp, false),
            ("EPP, read", modes::EPP_HW, Chip::Epp, true),
            ("ECP by FIFO, write", modes::ECP_HW_NOIRQ, Chip::Ecp, false),
            ("ECP by FIFO, read", modes::ECP_HW_NOIRQ, Chip::Ecp, true),
            ("EPP by software, write", modes::EPP_SW, Chip::Ps2, false),
            ("EPP by software, read", modes::EPP_SW, Chip::Ps2, true),
            ("ECP by software, write", modes::ECP_SW, Chip::Ps2, false),
            ("ECP by software, read", modes::ECP_SW, Chip::Ps2, true),
        ];
        let mut rows = Vec::new();
        for (access, speed) in [(US, ""), (100, ", fast port")] {
            for (name, mode, chip, is_read) in cases {
                let name = format!("{name}{speed}");
                let [one, some, more] = self.transfers(&name, mode, chip, is_read, access);
                let bytes = (2 * SOME) as f64;
                let instructions = (more.instructions - some.instructions) as f64 / bytes;
                let accesses = (more.accesses - some.accesses) as f64 / bytes;
                if let Some(case) = SHOWN.into_iter().find(|(its, _)| *its == name) {
                    let shown = self.code.shown(case, [&some, &more], bytes);
                    self.loops.borrow_mut().push_str(&shown);
                }
                rows.push(Row {
                    name,
                    cells: vec![
                        Some(instructions),
                        Some(accesses),
                        Some(instructions / accesses),
                        Some(one.instructions as f64),
                    ],
                });
            }
        }
        rows
    }

    /// Transfers of one, some and three times as many bytes.
    fn transfers(
        &self,
        name: &str,
        mode: u16,
        chip: Chip,
        is_read: bool,
        access: u64,
    ) -> [Counts; 3] {
        let peripheral = Peripheral1284::new();
        let mut setup = setup();
        setup.config.port_access_ns = access;
        let pc: ModesPc = pc_with(chip, &peripheral, setup);
        let lpt1 = pc.open();
        if is_read {
            pc.choose(lpt1, mode, 0);
        } else {
            pc.choose(lpt1, 0, mode);
        }
        let on = (&pc.machine, pc.driver);
        // The first one learns the peripheral.
        let mut counts = [SOME, 1, SOME, 3 * SOME].map(|length| {
            let data = pattern(length);
            self.once(&format!("{name}, {length}"), on, || {
                if is_read {
                    peripheral.give(&data);
                    let mut left = length;
                    while left > 0 {
                        let result = check(pc.machine.read(lpt1, left));
                        assert_ne!(result.information, 0, "{name}");
                        left -= result.information;
                    }
                } else {
                    let result = check(pc.machine.write(lpt1, &data));
                    assert_eq!(result.information, length, "{name}");
                }
            })
        });
        check(pc.machine.close(lpt1));
        pc.remove();
        counts.rotate_left(1);
        let [one, some, many, _] = counts;
        [one, some, many]
    }

    fn devices(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (name, chip, condition) in [
            ("of a port without FIFO", Chip::Ps2, Condition::Ready),
            ("of a port with FIFO", Chip::Ecp, Condition::Ready),
            (
                "of a port without FIFO, nobody there",
                Chip::Ps2,
                Condition::Unplugged,
            ),
        ] {
            let pc = loaded(chip);
            pc.printer.set_condition(condition);
            let on = (&pc.machine, pc.driver);
            let add = || {
                let added = check(pc.machine.add_device(pc.node, pc.driver));
                assert_eq!(added, NtStatus::SUCCESS);
            };
            let what = format!("AddDevice {name}");
            rows.push(device(&what, &self.once(&what, on, add)));
            let start = || {
                let started = check(pc.machine.start(pc.node));
                assert_eq!(started, NtStatus::SUCCESS);
            };
            let what = format!("START {name}");
            rows.push(device(&what, &self.once(&what, on, start)));
            let again = || check(pc.machine.enumerate(pc.node));
            let what = format!("a later look at the devices {name}");
            rows.push(device(&what, &self.once(&what, on, again)));
            let remove = || assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
            let what = format!("REMOVE {name}");
            rows.push(device(&what, &self.once(&what, on, remove)));
            pc.unload();
            self.keep_marks(&pc.machine);
        }
        let pc = ScannerSetup {
            config: config(),
            ..ScannerSetup::default()
        }
        .loaded();
        let on = (&pc.machine, pc.driver);
        let add = || {
            let added = check(pc.machine.add_device(pc.node, pc.driver));
            assert_eq!(added, NtStatus::SUCCESS);
        };
        rows.push(device(
            "AddDevice of a scanner",
            &self.once("AddDevice of a scanner", on, add),
        ));
        let start = || {
            let started = check(pc.machine.start(pc.node));
            assert_eq!(started, NtStatus::SUCCESS);
        };
        rows.push(device(
            "START of a scanner",
            &self.once("START of a scanner", on, start),
        ));
        let remove = || assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
        rows.push(device(
            "REMOVE of a scanner",
            &self.once("REMOVE of a scanner", on, remove),
        ));
        pc.unload();
        self.keep_marks(&pc.machine);
        rows
    }
}

pub(super) fn config() -> Config {
    Config {
        trace_ports: false,
        trace_limit: 0,
        max_steps: u64::MAX,
        // Nothing but the driver decides who runs.
        preempt_per_mille: 0,
        // Their instructions are seen.
        patch_ports: false,
        keep_paged: true,
        measure_stacks: true,
        ..Config::default()
    }
}

fn setup() -> Setup {
    Setup {
        config: config(),
        ..Setup::default()
    }
}

fn scanner() -> ScannerPc {
    ScannerSetup {
        config: config(),
        ..ScannerSetup::default()
    }
    .started()
}

/// A machine whose port has not been added yet.
fn loaded(chip: Chip) -> Pc<parscan_tests::modes::BoxedChip, Peripheral1284> {
    let mut setup = setup();
    if chip == Chip::Ecp {
        setup.ecp = true;
        setup.resources.push(Resource::Port {
            base: 0x778,
            len: 3,
        });
    }
    let peripheral = Peripheral1284::new().with_device_id(DEVICE_ID);
    let model = parscan_tests::modes::BoxedChip::new(chip, &peripheral);
    setup.loaded_with(model, peripheral)
}

/// Where the null driver's image is: `NULL_DRIVER_SYS`, or where cargo puts it.
fn null_image() -> PathBuf {
    let path = env::var_os("NULL_DRIVER_SYS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../target/x86_64-pc-windows-msvc/release/null_driver.dll"
            ))
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "no image of the null driver at {}: build it with `cargo build --release --target \
         x86_64-pc-windows-msvc -p null-driver`, or name it in NULL_DRIVER_SYS",
        path.display()
    );
    path
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn row(name: &str, counts: &Counts) -> Row {
    Row {
        name: name.to_owned(),
        cells: vec![
            Some(counts.instructions as f64),
            Some(counts.allocations as f64),
            Some(counts.bytes as f64),
            Some(counts.kernel_calls() as f64),
            Some(counts.lock_acquisitions() as f64),
            Some(counts.switches as f64),
            Some(counts.accesses as f64),
        ],
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn at_once(name: &str, counts: &Counts, [null, with_lock]: [u64; 2]) -> Row {
    let instructions = counts.instructions as f64;
    Row {
        name: name.to_owned(),
        cells: vec![
            Some(instructions),
            Some(null as f64),
            Some(instructions / null as f64),
            Some(with_lock as f64),
            Some(instructions / with_lock as f64),
            Some(counts.allocations as f64),
            Some(counts.bytes as f64),
            Some(counts.kernel_calls() as f64),
            Some(counts.lock_acquisitions() as f64),
        ],
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn device(name: &str, counts: &Counts) -> Row {
    Row {
        name: name.to_owned(),
        cells: vec![
            Some(counts.instructions as f64),
            Some(counts.allocations as f64),
            Some(counts.bytes as f64),
            Some(counts.kernel_calls() as f64),
            Some(counts.accesses as f64),
            Some((counts.time / US) as f64),
        ],
    }
}

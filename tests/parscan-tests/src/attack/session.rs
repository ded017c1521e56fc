//! A machine under attack: several programs, a port with something on it, a scanner, the system.

use std::{cell::RefCell, rc::Rc};

use ntsim::{
    Caller, Config, Coverage, DevNode, DriverId, Handle, LoadError, Machine, NodeState, NtStatus,
    Pending, PortDevice, Protection, RegValue, Resource, SharedPort, Width,
};
use parscan_models::{
    Condition, DescriptorSet, Ecp, Epp, Misbehaviour, Nanos, Peripheral1284, Ps2, Scanner, Spp,
};
use parscan_tests::{
    LPT1_REGISTERS, MS, Pc, Setup, assert_nothing_left, check,
    client::{Client, PORT},
    driver_image,
    scanner::ScannerSetup,
};

use crate::{counters, counters::Counter, dice::Dice, requests};

/// The interrupt of LPT1, as Windows translates it on this machine.
const VECTOR: u32 = 0x37;
/// Requests that are under way at once, at most.
const UNDER_WAY: usize = 24;
/// Handles that are open at once, at most.
const OPEN: usize = 10;

/// Lengths of reads and writes: of a port, every byte of which costs the host time, and of a scanner.
const SHORT: [usize; 8] = [0, 1, 2, 3, 7, 16, 17, 100];
const LONG: [usize; 10] = [0, 1, 2, 16, 100, 511, 512, 513, 4096, 70_000];

/// A program's handle.
struct Program {
    handle: Handle,
    caller: Caller,
    of_port: bool,
}

/// A request under way.
struct UnderWay {
    request: Pending,
    handle: Handle,
    /// What it may tell at most; none for what ends in a program's own memory.
    room: Option<usize>,
}

/// A chip whose registers read as they want.
struct Noise(Dice);

impl PortDevice for Noise {
    fn read(&mut self, _: Nanos, _: usize, _: u16, width: Width) -> u32 {
        self.0.word() & width.floating()
    }

    fn write(&mut self, _: Nanos, _: usize, _: u16, _: Width, _: u32) {}
}

/// Everything on one machine.
struct Session {
    dice: Dice,
    machine: Machine,
    driver: DriverId,
    port: DevNode,
    scanner_node: DevNode,
    scanner: Scanner,
    peripheral: Peripheral1284,
    programs: Vec<Program>,
    under_way: Vec<UnderWay>,
    /// What each kind of program has for its buffers.
    memory: [[usize; 2]; 2],
    has_canary: bool,
    /// A kernel client that looks after its own accesses no more than a program would.
    has_client: bool,
    instances: usize,
}

fn shared(chip: impl PortDevice + 'static) -> SharedPort {
    Rc::new(RefCell::new(chip))
}

/// A chip; whether it has an ECP block, and whether what is written to it can be read back.
fn chip(dice: &mut Dice, peripheral: &Peripheral1284) -> (SharedPort, bool, bool) {
    let attached = Box::new(peripheral.clone());
    match dice.below(7) {
        0 => (shared(Spp::new(attached).without_trace()), false, true),
        1 => (shared(Ps2::new(attached).without_trace()), false, true),
        2 => (shared(Epp::new(attached).without_trace()), false, true),
        3 => (shared(Ecp::new(attached).without_trace()), true, true),
        4 => (shared(Noise(dice.clone())), dice.one_in(2), false),
        _ => (
            shared(Ecp::new(attached).with_epp().without_trace()),
            true,
            true,
        ),
    }
}

/// Attacks one machine with so many requests. All of it follows from the seed.
#[allow(
    clippy::too_many_lines,
    reason = "a machine, from its parts to its end"
)]
pub(crate) fn play(seed: u64, requests: usize, coverage: Option<&'static Coverage>, echo: bool) {
    let mut dice = Dice::new(seed);
    let has_canary = dice.one_in(4);
    let config = Config {
        seed,
        preempt_per_mille: if dice.one_in(16) {
            200
        } else {
            dice.of(&[0, 0, 2, 10])
        },
        filter: !dice.one_in(4),
        force_pending: dice.one_in(4),
        early_cleanup: dice.one_in(2),
        // Taking it away at every spin lock costs most of the time.
        keep_paged: !dice.one_in(16),
        canary: has_canary,
        trace_ports: echo,
        trace_calls: echo,
        echo,
        trace_limit: if echo { 200_000 } else { 0 },
        max_steps: 200_000_000,
        ..Config::default()
    };
    let machine = Machine::boot(config);
    if let Some(coverage) = coverage {
        machine.cover(coverage);
    }
    let peripheral = Peripheral1284::new()
        .with_response(dice.of(&[0, 0, 0, 1000, 20_000]))
        .with_byte_time(dice.of(&[0, 0, 0, 20_000]));
    let (hardware, ecp, is_chip) = chip(&mut dice, &peripheral);
    machine.map_ports(0x378, 8, 0, Rc::clone(&hardware));
    let mut setup = Setup {
        hardware_key: vec![("ParscanEpp32".into(), RegValue::Dword(dice.of(&[0, 1])))],
        resources: vec![LPT1_REGISTERS],
        ..Setup::default()
    };
    if ecp {
        machine.map_ports(0x778, 3, 1, hardware);
        setup.resources.push(Resource::Port {
            base: 0x778,
            len: 3,
        });
    }
    let has_interrupt = dice.one_in(2);
    if has_interrupt {
        setup.resources.push(Resource::Interrupt {
            level: 7,
            vector: VECTOR,
            latched: true,
        });
    }
    // Now and then there is little memory.
    if dice.one_in(8) {
        let at = u64::try_from(dice.below(200)).unwrap_or(0) + 1;
        machine.inject_failure(at);
    }
    let driver = match machine.load_driver(driver_image(), "Parscan", &[]) {
        Ok(driver) => driver,
        Err(LoadError::EntryFailed(status)) => {
            assert!(!machine.failed_calls().is_empty(), "DriverEntry: {status}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    machine.inject_into(driver);
    let port = machine.plug(setup.device());
    let model = Scanner::default();
    if dice.one_in(3) {
        let seed = u64::from(dice.word() % 100_000);
        model.set_descriptors(DescriptorSet::hostile(seed));
    }
    let scanner_setup = ScannerSetup {
        scanner: model.clone(),
        is_buffered: dice.one_in(4),
        ..ScannerSetup::default()
    };
    let function = Rc::new(RefCell::new(model.clone()));
    let scanner_node = machine.plug_usb(scanner_setup.device("1"), function);
    for node in [port, scanner_node] {
        if check(machine.add_device(node, driver)).is_success() {
            let _ = check(machine.start(node));
        }
    }
    let memory = [Caller::User64, Caller::User32]
        .map(|caller| [(); 2].map(|()| machine.user_alloc(caller, &vec![0x3C; 8192])));
    for [_, odd] in memory {
        let protections = [
            Protection::None,
            Protection::Read,
            Protection::Lost,
            Protection::ReadWrite,
        ];
        machine.user_protect(odd, 4096, dice.of(&protections));
    }
    let mut session = Session {
        dice,
        machine,
        driver,
        port,
        scanner_node,
        scanner: model,
        peripheral,
        programs: Vec::new(),
        under_way: Vec::new(),
        memory,
        has_canary,
        has_client: false,
        instances: 1,
    };
    session.has_client = session.dice.one_in(4) && is_started(&session, port);
    let client = session.has_client.then(|| session.client());
    let contention = client.as_ref().map(|client| {
        let grants = u64::try_from(session.dice.below(60)).unwrap_or(0) + 4;
        client.start_contention(PORT, 3, grants, seed)
    });
    let (mut made, mut steps) = (0, 0);
    // Without a device that started there is nobody to ask.
    while made < requests && steps < 4 * requests {
        made += session.step(has_interrupt);
        steps += 1;
    }
    session.close_all();
    if let Some(contention) = contention {
        let outcome = contention.finish();
        assert_eq!(outcome.two_owners, 0, "two owners of the port");
        // Whose port goes, or reads as it wants, sees more.
        let sure = is_chip && is_started(&session, port);
        assert!(!sure || outcome.intrusions == 0, "{outcome:?}");
    }
    if let Some(client) = client {
        client.unload();
    }
    session.end();
}

fn is_started(session: &Session, node: DevNode) -> bool {
    session.machine.node_state(node) == NodeState::Started
}

impl Session {
    fn client(&self) -> Client {
        Client::load(&Pc {
            machine: self.machine.clone(),
            printer: (),
            chip: Rc::new(RefCell::new(())),
            driver: self.driver,
            node: self.port,
        })
    }

    /// One thing that somebody does. Gives how many requests it made.
    fn step(&mut self, has_interrupt: bool) -> usize {
        if self.programs.is_empty() || self.dice.one_in(40) && self.programs.len() < OPEN {
            self.open();
        }
        match self.dice.below(100) {
            0..60 => return self.request(),
            60..72 => {
                let time = self.dice.time();
                check(self.machine.run_for(time));
            }
            72..80 => self.cancel(),
            80..82 => self.close(),
            82..88 => self.peripheral(),
            88..95 => self.scanner(),
            95 if has_interrupt => {
                check(self.machine.interrupt(VECTOR));
            }
            96 => self.little_memory(),
            97..100 if self.dice.one_in(30) => self.system(),
            _ => {}
        }
        self.sweep();
        0
    }

    fn open(&mut self) {
        let links = self.machine.links();
        let known = [
            r"\\.\LPT1",
            r"\\.\LPT1\x",
            r"\Device\Parallel0",
            r"\Device\Parallel0.0",
            r"\Device\ParallelPort0",
            r"\\.\Usbscan0",
            r"\\.\Usbscan0\0",
            r"\\.\Usbscan0\1",
            r"\\.\Usbscan0\2",
            r"\\.\Usbscan0\9",
            r"\\.\Usbscan0\",
            r"\\.\Usbscan0\00000000000000000000000000000001",
            r"\\.\Usbscan1",
            r"\\.\LPT2",
        ];
        let name = if links.is_empty() || self.dice.one_in(2) {
            self.dice.of(&known).to_owned()
        } else {
            let place = self.dice.below(links.len());
            let link = &links[place].0;
            let tail = self
                .dice
                .of(&["", "", "", r"\0", r"\1", r"\7", r"\-1", r"\1x"]);
            format!(
                r"\\.\{}{tail}",
                link.rsplit('\\').next().unwrap_or_default()
            )
        };
        let caller = self
            .dice
            .of(&[Caller::User64, Caller::User64, Caller::User32]);
        counters::add(Counter::Opens, 1);
        if let Ok(handle) = check(self.machine.open(&name, caller)) {
            self.programs.push(Program {
                handle,
                caller,
                of_port: !name.to_lowercase().contains("usb"),
            });
        }
    }

    fn request(&mut self) -> usize {
        let Some(count) = Some(self.programs.len()).filter(|count| *count > 0) else {
            return 0;
        };
        let place = self.dice.below(count);
        let (handle, caller, of_port) = {
            let program = &self.programs[place];
            (program.handle, program.caller, program.of_port)
        };
        let memory = self.memory[usize::from(caller == Caller::User32)];
        let dice = &mut self.dice;
        let (request, room) = match dice.below(10) {
            0 | 1 => {
                let all = if of_port { &SHORT[..] } else { &LONG[..] };
                let length = dice.of(all);
                (self.machine.start_read(handle, length), Some(length))
            }
            2 | 3 => {
                let all = if of_port { &SHORT[..] } else { &LONG[..] };
                let length = dice.of(all);
                let data = vec![dice.byte(); length];
                (self.machine.start_write(handle, &data), Some(length))
            }
            4 => {
                // Buffers wherever they are.
                let it = requests::any(dice, caller, &memory, of_port);
                let own = dice.of(&memory);
                let far = dice.of(&[0, 1, 0x1000, 0xFFFF_8000_0000_0000, usize::MAX - 4]);
                let input = if dice.one_in(3) {
                    far
                } else {
                    own + dice.below(64)
                };
                let output = if dice.one_in(3) {
                    far
                } else {
                    own + 4096 + dice.below(64)
                };
                if input == own {
                    self.machine
                        .user_write(own, &it.input[..it.input.len().min(512)]);
                }
                let (input, output) = ((input, it.input.len()), (output, it.output.min(4000)));
                (
                    self.machine
                        .start_io_control_at(handle, it.code, input, output),
                    None,
                )
            }
            _ => {
                let it = requests::any(dice, caller, &memory, of_port);
                let buffered = it.code.trailing_zeros() >= 2;
                (
                    self.machine
                        .start_io_control(handle, it.code, &it.input, it.output),
                    buffered.then_some(it.output),
                )
            }
        };
        self.under_way.push(UnderWay {
            request,
            handle,
            room,
        });
        counters::add(Counter::Requests, 1);
        if self.under_way.len() >= UNDER_WAY || self.dice.one_in(3) {
            let time = self.dice.time();
            check(self.machine.run_for(time.min(MS)));
        }
        self.sweep();
        while self.under_way.len() >= UNDER_WAY {
            self.cancel();
            check(self.machine.run_for(MS));
            self.sweep();
        }
        1
    }

    /// Takes up what has ended.
    fn sweep(&mut self) {
        let mut at = 0;
        while at < self.under_way.len() {
            if self.machine.is_done(&self.under_way[at].request) {
                let ended = self.under_way.swap_remove(at);
                self.take(&ended);
            } else {
                at += 1;
            }
        }
    }

    /// What must hold of every result.
    fn take(&mut self, ended: &UnderWay) {
        let result = check(self.machine.finish(&ended.request));
        assert!(result.status.name().is_some(), "{:#010X}", result.status.0);
        assert_ne!(result.status, NtStatus::PENDING, "a request that ended");
        if let Some(room) = ended.room {
            let told = result.information;
            assert!(told <= room, "{told} of {room}: {}", result.status);
            if self.has_canary {
                let leaks = self.machine.leaks(&result);
                let addresses = leaks
                    .iter()
                    .filter(|leak| !matches!(leak.kind, ntsim::LeakKind::Beyond { .. }));
                assert_eq!(addresses.count(), 0, "{leaks:?}");
            }
        }
    }

    fn cancel(&mut self) {
        let Some(count) = Some(self.under_way.len()).filter(|count| *count > 0) else {
            return;
        };
        let place = self.dice.below(count);
        counters::add(Counter::Cancels, 1);
        check(self.machine.cancel(&self.under_way[place].request));
    }

    fn close(&mut self) {
        if self.programs.is_empty() {
            return;
        }
        let place = self.dice.below(self.programs.len());
        let program = self.programs.swap_remove(place);
        self.finish_with(&program);
    }

    /// A program ends: its handle is closed, and so end its requests.
    fn finish_with(&mut self, program: &Program) {
        check(self.machine.close(program.handle));
        let mut at = 0;
        while at < self.under_way.len() {
            if self.under_way[at].handle == program.handle {
                let ended = self.under_way.swap_remove(at);
                self.take(&ended);
            } else {
                at += 1;
            }
        }
    }

    fn peripheral(&mut self) {
        let dice = &mut self.dice;
        counters::add(Counter::Hostile, 1);
        let all = [
            Misbehaviour::NoNegotiation,
            Misbehaviour::Late(34 * MS),
            Misbehaviour::Late(60 * MS),
            Misbehaviour::Silent,
            Misbehaviour::Dead,
            Misbehaviour::WrongXFlag,
            Misbehaviour::StallForward,
            Misbehaviour::StallForwardForever,
            Misbehaviour::StallReverse,
            Misbehaviour::AckLow,
            Misbehaviour::WaitStuck(true),
            Misbehaviour::WaitStuck(false),
        ];
        let conditions = [
            Condition::Ready,
            Condition::Busy,
            Condition::PaperEmpty,
            Condition::OffLine,
            Condition::PoweredOff,
            Condition::Unplugged,
        ];
        match dice.below(6) {
            0 => self.peripheral.misbehave(dice.of(&all)),
            1 => self
                .peripheral
                .misbehave_at_byte(dice.below(20), dice.of(&all)),
            2 => self.peripheral.set_condition(dice.of(&conditions)),
            3 => {
                let length = dice.below(100);
                let bytes = dice.bytes(length);
                self.peripheral.give(&bytes);
            }
            _ => {
                self.peripheral.behave();
                self.peripheral.set_condition(Condition::Ready);
            }
        }
    }

    fn scanner(&mut self) {
        let dice = &mut self.dice;
        counters::add(Counter::Hostile, 1);
        let endpoints = self.scanner.endpoints();
        let endpoint = if endpoints.is_empty() {
            0x81
        } else {
            endpoints[dice.below(endpoints.len())].address
        };
        let k = dice.word() % 200;
        match dice.below(10) {
            0 => self.scanner.stall_at(endpoint, k),
            1 => self.scanner.stall_status_at(k % 8),
            2 => self.scanner.babble_at(endpoint, k, 1 + dice.below(2000)),
            3 => self.scanner.silence_at(endpoint, k),
            4 => self.scanner.set_silent(endpoint, dice.one_in(2)),
            5 => {
                let length = dice.below(12);
                let report = dice.bytes(length);
                self.scanner.press(&report);
            }
            _ if endpoint & 0x80 != 0 => {
                let length = dice.of(&[0, 1, 511, 512, 513, 20_000, 70_000]);
                // Nothing that looks like old memory.
                let bytes = vec![dice.byte() & 0x7F; length];
                self.scanner.send(endpoint, &bytes, dice.one_in(2));
            }
            _ => {
                for endpoint in endpoints {
                    self.scanner.set_silent(endpoint.address, false);
                }
            }
        }
    }

    /// One of the next calls that can fail fails.
    fn little_memory(&mut self) {
        counters::add(Counter::Faults, 1);
        self.machine.inject_no_failure();
        let at = u64::try_from(self.dice.below(60)).unwrap_or(0) + 1;
        self.machine.inject_failure(at);
    }

    /// What the system, or who sits before it, does.
    fn system(&mut self) {
        let machine = self.machine.clone();
        let is_port = self.dice.one_in(2);
        let node = if is_port {
            self.port
        } else {
            self.scanner_node
        };
        match self.dice.below(4) {
            0 if !self.has_client => {
                counters::add(Counter::Sleeps, 1);
                if check(machine.sleep()).is_success() {
                    check(machine.run_for(5 * MS));
                    check(machine.wake());
                    check(machine.settle());
                }
            }
            1 => {
                counters::add(Counter::Stops, 1);
                if machine.node_state(node) == NodeState::Started {
                    if check(machine.query_stop(node)).is_success() {
                        check(machine.stop(node));
                        check(machine.run_for(MS));
                        let _ = check(machine.start(node));
                    } else {
                        check(machine.cancel_stop(node));
                    }
                }
            }
            _ => self.unplug(is_port),
        }
    }

    fn unplug(&mut self, is_port: bool) {
        let machine = self.machine.clone();
        counters::add(Counter::Unplugs, 1);
        let old = if is_port {
            self.port
        } else {
            self.scanner_node
        };
        if machine.node_state(old) != NodeState::Started {
            return;
        }
        check(machine.unplug(old));
        // Its programs notice, sooner or later.
        let (gone, stay): (Vec<_>, Vec<_>) = self
            .programs
            .drain(..)
            .partition(|program| program.of_port == is_port);
        self.programs = stay;
        for program in gone {
            self.finish_with(&program);
        }
        check(machine.run_for(100 * MS));
        self.instances += 1;
        let instance = self.instances.to_string();
        let new = if is_port {
            let mut device = Setup::default().device();
            device.instance = instance;
            machine.plug(device)
        } else {
            let model = Scanner::default();
            if self.dice.one_in(3) {
                let seed = u64::from(self.dice.word() % 100_000);
                model.set_descriptors(DescriptorSet::hostile(seed));
            }
            self.scanner = model.clone();
            let setup = ScannerSetup::default();
            machine.plug_usb(setup.device(&instance), Rc::new(RefCell::new(model)))
        };
        if check(machine.add_device(new, self.driver)).is_success() {
            let _ = check(machine.start(new));
        }
        if is_port {
            self.port = new;
        } else {
            self.scanner_node = new;
        }
    }

    fn close_all(&mut self) {
        self.machine.inject_no_failure();
        for program in std::mem::take(&mut self.programs) {
            self.finish_with(&program);
        }
        assert!(self.under_way.is_empty(), "requests without a handle");
    }

    /// The devices go, the driver is unloaded, and nothing is left.
    fn end(self) {
        let machine = &self.machine;
        check(machine.settle());
        for node in [self.port, self.scanner_node] {
            match machine.node_state(node) {
                NodeState::Removed | NodeState::SurpriseRemoved => {}
                _ => {
                    check(machine.remove(node));
                }
            }
        }
        check(machine.run_until_idle());
        check(machine.unload(self.driver));
        assert_nothing_left(machine);
    }
}

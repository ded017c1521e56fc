//! A machine under attack: several programs, a port with something on it, a scanner, the system.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    str::FromStr,
};

use ntsim::{
    Caller, Config, Coverage, DevNode, DriverId, Handle, LoadError, Machine, NodeState, NtStatus,
    Pending, Protection,
};
use parscan_models::{Condition, Misbehaviour, Scanner};
use parscan_tests::{
    MS, Pc, assert_nothing_left, check,
    client::{Client, PORT},
    driver_image,
    ntddpar::{
        IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_SET_READ_ADDRESS, IOCTL_PAR_SET_WRITE_ADDRESS,
        IOCTL_SERIAL_SET_TIMEOUTS, modes, timeouts,
    },
    port_programs as lines,
};

use crate::{
    counters,
    counters::Counter,
    dice::Dice,
    hardware::{self, Hardware, VECTOR},
    kernel_client::Visit,
    requests,
};

/// Requests that are under way at once, at most.
const UNDER_WAY: usize = 24;
/// Handles that are open at once, at most.
const OPEN: usize = 10;

/// Lengths of reads and writes: of a port, every byte of which costs the host time, and of a scanner.
const SHORT: [usize; 8] = [0, 1, 2, 3, 7, 16, 17, 100];
const LONG: [usize; 10] = [0, 1, 2, 16, 100, 511, 512, 513, 4096, 70_000];

/// A program's handle.
pub(crate) struct Program {
    pub(crate) handle: Handle,
    pub(crate) caller: Caller,
    pub(crate) of_port: bool,
}

/// A request under way.
struct UnderWay {
    request: Pending,
    handle: Handle,
    /// What it may tell at most; none for what ends in a program's own memory.
    room: Option<usize>,
}

/// A class driver beside the programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    None,
    /// It comes and goes, and gives back what it takes.
    Visits,
    /// Several clients of the port at once, which look after their accesses no more than a program
    /// would: a sleep would take the port from them.
    Contention,
}

/// Everything on one machine.
pub(crate) struct Session {
    pub(crate) dice: Dice,
    pub(crate) machine: Machine,
    pub(crate) driver: DriverId,
    pub(crate) port: DevNode,
    pub(crate) scanner_node: DevNode,
    pub(crate) scanner: Scanner,
    pub(crate) hardware: Hardware,
    pub(crate) programs: Vec<Program>,
    under_way: Vec<UnderWay>,
    /// What each kind of program has for its buffers.
    memory: [[usize; 2]; 2],
    has_canary: bool,
    kernel: Kernel,
    pub(crate) instances: usize,
    /// The system sleeps, or goes to sleep, or wakes up.
    pub(crate) asleep: Rc<Cell<bool>>,
    /// Nothing comes in the midst of it any more.
    pub(crate) is_over: Rc<Cell<bool>>,
}

/// What decides a session: one seed for what the machine is, and one for what happens on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seed {
    pub(crate) machine: u32,
    pub(crate) acts: u32,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.machine, self.acts)
    }
}

impl FromStr for Seed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (machine, acts) = text.split_once(':').ok_or("not MACHINE:ACTS")?;
        let number = |text: &str| text.parse().map_err(|_| "not a number");
        Ok(Self {
            machine: number(machine)?,
            acts: number(acts)?,
        })
    }
}

/// Attacks one machine with so many requests. All of it follows from the seeds.
#[allow(
    clippy::too_many_lines,
    reason = "a machine, from its parts to its end"
)]
pub(crate) fn play(seed: Seed, requests: usize, coverage: Option<&'static Coverage>, echo: bool) {
    let mut dice = Dice::new(u64::from(seed.machine));
    let has_canary = dice.one_in(4);
    let config = Config {
        seed: u64::from(seed.acts),
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
        etw_level: dice.of(&[None, None, Some(0), Some(2), Some(5)]),
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
    let hardware = Hardware::new(&mut dice);
    hardware.install(&machine);
    // Now and then there is little memory.
    if dice.one_in(8) {
        let at = u64::try_from(dice.below(200)).unwrap_or(0) + 1;
        machine.inject_failure(at);
    }
    let parameters = hardware::parameters(&mut dice);
    let driver = match machine.load_driver(driver_image(), "Parscan", &parameters) {
        Ok(driver) => driver,
        Err(LoadError::EntryFailed(status)) => {
            assert!(!machine.failed_calls().is_empty(), "DriverEntry: {status}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    machine.inject_into(driver);
    let port = machine.plug(hardware.device(&mut dice, 1));
    let (model, device) = hardware::scanner(&mut dice, 1);
    let scanner_node = machine.plug_usb(device, Rc::new(RefCell::new(model.clone())));
    if dice.one_in(8) {
        machine.set_power_up(scanner_node, hardware::power_up(&mut dice));
    }
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
        hardware,
        programs: Vec::new(),
        under_way: Vec::new(),
        memory,
        has_canary,
        kernel: Kernel::None,
        instances: 1,
        asleep: Rc::default(),
        is_over: Rc::default(),
    };
    if session.is_started(port) {
        session.kernel = session.dice.of(&[
            Kernel::None,
            Kernel::None,
            Kernel::Visits,
            Kernel::Contention,
        ]);
    }
    session.dice = Dice::new(u64::from(seed.acts));
    let client = (session.kernel != Kernel::None).then(|| session.client());
    let contention = client.as_ref().filter(|_| session.has_contention());
    let contention = contention.map(|client| {
        let grants = u64::try_from(session.dice.below(60)).unwrap_or(0) + 4;
        client.start_contention(PORT, 3, grants, u64::from(seed.acts))
    });
    let visitor = client.as_ref().filter(|_| contention.is_none());
    let (mut made, mut steps) = (0, 0);
    // Without a device that started there is nobody to ask.
    while made < requests && steps < 4 * requests {
        made += session.step(visitor);
        steps += 1;
    }
    session.close_all();
    if let Some(contention) = contention {
        let outcome = contention.finish();
        assert_eq!(outcome.two_owners, 0, "two owners of the port");
        // Whose port goes, or reads as it wants, sees more.
        let sure =
            session.hardware.is_chip.get() && session.port == port && session.is_started(port);
        assert!(!sure || outcome.intrusions == 0, "{outcome:?}");
    }
    if let Some(client) = client {
        client.unload();
    }
    session.end();
}

impl Session {
    pub(crate) fn has_contention(&self) -> bool {
        self.kernel == Kernel::Contention
    }

    fn client(&self) -> Client {
        Client::load(&Pc {
            machine: self.machine.clone(),
            printer: (),
            chip: Rc::new(RefCell::new(())),
            driver: self.driver,
            node: self.port,
        })
    }

    /// One thing that a program, a device or the system does. Gives how many requests it made.
    fn step(&mut self, visitor: Option<&Client>) -> usize {
        if self.programs.is_empty() || self.dice.one_in(40) && self.programs.len() < OPEN {
            self.open();
        }
        if self.dice.one_in(100) {
            self.replace_lost();
        }
        match self.dice.below(100) {
            0..58 => return self.request(),
            58..60 => return self.use_well(),
            60..72 => {
                let time = self.dice.time();
                check(self.machine.run_for(time));
            }
            72..80 => self.cancel(),
            80..82 => self.close(),
            82..87 => self.peripheral(),
            87..93 => self.scanner(),
            93 if self.hardware.has_interrupt => {
                check(self.machine.interrupt(VECTOR));
            }
            94 => self.ambush(),
            95 if self.dice.one_in(3) => {
                if let Some(client) = visitor {
                    let visit = Visit {
                        client,
                        machine: &self.machine,
                        has_interrupt: self.hardware.has_interrupt,
                        port: self.port,
                        peripheral: &self.hardware.peripheral,
                    };
                    visit.make(&mut self.dice);
                }
            }
            96 => self.little_memory(),
            97..100 if self.dice.one_in(8) => self.system(),
            _ => {}
        }
        self.sweep();
        0
    }

    /// A program that knows what it does: it chooses a mode and transfers, or claims the port and
    /// runs programs on its lines. What comes between is up to the others.
    fn use_well(&mut self) -> usize {
        let ports = self.programs.iter().filter(|it| it.of_port);
        let handles: Vec<Handle> = ports.map(|it| it.handle).collect();
        let Some(place) = Some(handles.len()).filter(|it| *it > 0) else {
            return 0;
        };
        let handle = handles[self.dice.below(place)];
        let mut all: Vec<(u32, Vec<u8>, usize)> = Vec::new();
        if self.dice.one_in(2) {
            all.push((lines::IOCTL_PARSCAN_CLAIM, vec![0; 4], 0));
            for _ in 0..=self.dice.below(5) {
                if self.dice.one_in(4) {
                    let wait = self.dice.of(&[0, 1, 50, u32::MAX]);
                    let room = self.dice.of(&[lines::EDGES, 60, 400]);
                    all.push((
                        lines::IOCTL_PARSCAN_WAIT_EDGE,
                        wait.to_le_bytes().to_vec(),
                        room,
                    ));
                } else {
                    let (input, room) = requests::program(&mut self.dice);
                    all.push((lines::IOCTL_PARSCAN_RUN, input, room));
                }
            }
            let restore = u8::from(self.dice.one_in(2));
            all.push((lines::IOCTL_PARSCAN_RELEASE, vec![restore, 0, 0, 0], 0));
        } else {
            let every: Vec<u16> = modes::ALL.iter().map(|it| it.0).collect();
            let (read, write) = (self.dice.of(&every), self.dice.of(&every));
            let input = modes::mask(read, write).to_vec();
            if self.dice.one_in(2) {
                let limit = self.dice.of(&[0, 1, 20, 600, 3000]);
                let limits = timeouts([0, 0, limit, 0, limit]);
                all.push((IOCTL_SERIAL_SET_TIMEOUTS, limits, 0));
            }
            if self.dice.one_in(4) {
                let codes = [IOCTL_PAR_SET_READ_ADDRESS, IOCTL_PAR_SET_WRITE_ADDRESS];
                let address = self.dice.of(&[0, 1, 0x7F]);
                all.push((self.dice.of(&codes), vec![address], 0));
            }
            all.push((IOCTL_IEEE1284_NEGOTIATE, input, 4));
        }
        let transfers = all[0].0 != lines::IOCTL_PARSCAN_CLAIM;
        for (code, input, room) in &all {
            let request = self.machine.start_io_control(handle, *code, input, *room);
            self.follow(request, handle, Some(*room));
            if self.hardware.has_interrupt && self.dice.one_in(2) {
                check(self.machine.interrupt(VECTOR));
            }
        }
        let mut made = all.len();
        if transfers {
            for _ in 0..=self.dice.below(3) {
                let length = self.dice.of(&[1, 3, 17, 40]);
                let request = if self.dice.one_in(2) {
                    let bytes = self.dice.text(length);
                    self.hardware.peripheral.give(&bytes);
                    self.machine.start_read(handle, length)
                } else {
                    // Runs of bytes, which ECP may compress.
                    let data = vec![self.dice.plain(); length];
                    self.machine.start_write(handle, &data)
                };
                self.follow(request, handle, Some(length));
                made += 1;
            }
        }
        made
    }

    /// A request was made; what has ended is taken up.
    fn follow(&mut self, request: Pending, handle: Handle, room: Option<usize>) {
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
            // What the class driver of the tests does for a program is no part of this.
            if link.contains("Client") {
                return;
            }
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

    pub(crate) fn request(&mut self) -> usize {
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
                let data = vec![dice.plain(); length];
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
        self.follow(request, handle, room);
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
    pub(crate) fn finish_with(&mut self, program: &Program) {
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
        let peripheral = &self.hardware.peripheral;
        match dice.below(8) {
            7 => drop(
                peripheral
                    .clone()
                    .with_device_id(&hardware::device_id(dice)),
            ),
            0 => peripheral.misbehave(dice.of(&all)),
            1 => peripheral.misbehave_at_byte(dice.below(20), dice.of(&all)),
            2 => peripheral.misbehave_at_event(dice.byte() % 80, dice.of(&all)),
            3 => peripheral.set_condition(dice.of(&conditions)),
            4 => {
                let length = dice.below(100);
                let bytes = dice.text(length);
                peripheral.give(&bytes);
            }
            _ => {
                peripheral.behave();
                peripheral.set_condition(Condition::Ready);
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
            6 if dice.one_in(2) => {
                let until = self.machine.now() + dice.time();
                self.scanner.hold_at(endpoint, k % 8, until);
            }
            7 if dice.one_in(4) => self.scanner.limit_packets(endpoint, dice.of(&[1, 64, 512])),
            5 => {
                let length = dice.below(12);
                let report = dice.text(length);
                self.scanner.press(&report);
            }
            _ if endpoint & 0x80 != 0 => {
                let length = dice.of(&[0, 1, 511, 512, 513, 20_000, 70_000]);
                let bytes = vec![dice.plain(); length];
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

    fn close_all(&mut self) {
        self.is_over.set(true);
        self.machine.inject_no_failure();
        for program in std::mem::take(&mut self.programs) {
            self.finish_with(&program);
        }
        assert!(self.under_way.is_empty(), "requests without a handle");
    }

    /// The devices go, the driver is unloaded, and nothing is left; or the system is shut down.
    fn end(mut self) {
        let shuts_down = self.kernel == Kernel::None && self.dice.one_in(16);
        let machine = &self.machine;
        for node in [self.port, self.scanner_node] {
            machine.set_power_up(node, ntsim::PowerUp::default());
        }
        machine.set_power_memory(true);
        if shuts_down {
            if !self.asleep.get() {
                check(machine.shut_down());
            }
            return;
        }
        // A removal may be under way.
        check(machine.run_until_idle());
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

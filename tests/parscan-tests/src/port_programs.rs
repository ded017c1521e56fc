//! The requests of port programs, as a program knows them. Written from their documentation, not
//! taken from the driver.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ntsim::{Handle, IoResult, Machine, Nanos, NtStatus, RegValue, Resource};
use parscan_models::{
    HostLines, Loopback, Peripheral, PeripheralLines, PortAccess, PortDevice, ProgramTrace, Ps2,
    Width, check_program,
};

use crate::{LPT1_REGISTERS, Pc, Setup, check, observed::Observed};

/// What a program may know of the port.
pub const IOCTL_PARSCAN_GET_PORT: u32 = 0x0016_2400;
/// The port becomes the handle's.
pub const IOCTL_PARSCAN_CLAIM: u32 = 0x0016_E404;
/// It is given back.
pub const IOCTL_PARSCAN_RELEASE: u32 = 0x0016_E408;
/// A program runs.
pub const IOCTL_PARSCAN_RUN: u32 = 0x0016_E40C;
/// Edges of nAck are waited for.
pub const IOCTL_PARSCAN_WAIT_EDGE: u32 = 0x0016_6410;

/// Bytes of `PARSCAN_EDGES` and of each edge behind it.
pub const EDGES: usize = 24;
/// Bytes of an edge.
pub const EDGE: usize = 16;
/// A time-out that is none.
pub const FOREVER: u32 = u32::MAX;

/// Bytes of `PARSCAN_RESULT`.
pub const RESULT: usize = 32;

/// `DATA`
#[must_use]
pub const fn data(value: u8) -> [u8; 4] {
    [1, value, 0, 0]
}
/// `CONTROL`
#[must_use]
pub const fn control(value: u8, mask: u8) -> [u8; 4] {
    [2, value, mask, 0]
}
/// `GET` of register 0 to 2.
#[must_use]
pub const fn get(register: u8) -> [u8; 4] {
    [3, register, 0, 0]
}
/// `NEXT_DATA`
pub const NEXT_DATA: [u8; 4] = [4, 0, 0, 0];
/// `END`
pub const END: [u8; 4] = [11, 0, 0, 0];
/// An instruction with a time of up to 8.3 ms, in nanoseconds.
const fn timed(operation: u8, ns: u32) -> [u8; 4] {
    let [a, b, c, _] = ns.to_le_bytes();
    [operation, a, b, c]
}
/// `NEXT_CONTROL`
#[must_use]
pub const fn next_control(mask: u8) -> [u8; 4] {
    [5, mask, 0, 0]
}
/// `WAIT`; at a time-out the program goes on, or ends. `until` comes next.
#[must_use]
pub const fn wait(mask: u8, value: u8, goes_on: bool) -> [u8; 4] {
    [6, mask, value, goes_on as u8]
}
/// `UNTIL`
#[must_use]
pub const fn until(ns: u32) -> [u8; 4] {
    timed(7, ns)
}
/// `DELAY`
#[must_use]
pub const fn delay(ns: u32) -> [u8; 4] {
    timed(8, ns)
}
/// `DELAY`, in microseconds.
#[must_use]
pub const fn delay_us(us: u32) -> [u8; 4] {
    timed(8, us | 0x80_0000)
}
/// `PACE`
#[must_use]
pub const fn pace(ns: u32) -> [u8; 4] {
    timed(9, ns)
}
/// `LOOP`
#[must_use]
pub const fn repeat(times: u32) -> [u8; 4] {
    timed(10, times)
}

/// The input of RUN.
///
/// # Panics
/// If it is larger than any program.
#[must_use]
pub fn request(code: &[[u8; 4]], bytes: &[u8], atomic: bool) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).expect("small").to_le_bytes();
    [
        &1_u32.to_le_bytes()[..],
        &u32::from(atomic).to_le_bytes(),
        &number(code.len()),
        &number(bytes.len()),
        code.as_flattened(),
        bytes,
    ]
    .concat()
}

/// The `ULONG`s of an answer by their offsets. It succeeded, and begins with version 1.
#[track_caller]
fn longs(result: &IoResult) -> impl Fn(usize) -> u32 {
    assert_eq!(result.status, NtStatus::SUCCESS);
    let at = |offset| {
        let four = result.output[offset..offset + 4].try_into();
        u32::from_le_bytes(four.expect("four bytes"))
    };
    assert_eq!(at(0), 1, "version");
    at
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program is done.
    Done,
    /// A WAIT had no answer.
    TimeOut,
    /// The request was cancelled.
    Cancelled,
    /// The port's power went.
    PowerLost,
    /// The port went.
    Removed,
}

impl End {
    /// By its number in `PARSCAN_RESULT`.
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::TimeOut,
            2 => Self::Cancelled,
            3 => Self::PowerLost,
            4 => Self::Removed,
            other => panic!("a run ended with {other}"),
        }
    }
}

/// `PARSCAN_RESULT` and the bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// Where.
    pub instruction: u32,
    /// Accesses done.
    pub accesses: u32,
    /// Slots of PACE that were missed.
    pub missed: u32,
    /// Nanoseconds.
    pub elapsed: u64,
    /// Bytes read.
    pub output: Vec<u8>,
}

impl Ran {
    /// The answer of a RUN that succeeded.
    ///
    /// # Panics
    /// If it did not, or its lengths do not fit each other.
    #[track_caller]
    #[must_use]
    pub fn of(result: &IoResult) -> Self {
        let at = longs(result);
        let output = at(16) as usize;
        assert_eq!(result.information, RESULT + output);
        Self {
            end: End::of(at(4)),
            instruction: at(8),
            accesses: at(12),
            missed: at(20),
            elapsed: u64::from(at(24)) | u64::from(at(28)) << 32,
            output: result.output[RESULT..result.information].to_vec(),
        }
    }
}

/// `PARSCAN_EDGES` and the edges behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Stamp, in counts of the performance counter, and status register.
    pub edges: Vec<(u64, u8)>,
    /// Edges that were lost.
    pub lost: u32,
    /// Edges that did not fit.
    pub left: u32,
}

impl Edges {
    /// The answer of a `WAIT_EDGE` that succeeded.
    ///
    /// # Panics
    /// If it did not, or its members are not as documented.
    #[track_caller]
    #[must_use]
    pub fn of(result: &IoResult) -> Self {
        let at = longs(result);
        let quad = |offset| u64::from(at(offset)) | u64::from(at(offset + 4)) << 32;
        assert_eq!(quad(16), 10_000_000, "the counter's steps are 100 ns");
        let count = at(4) as usize;
        assert_eq!(result.information, EDGES + count * EDGE);
        let edge = |number: usize| {
            let offset = EDGES + number * EDGE;
            let [status, rest @ ..] = at(offset + 8).to_le_bytes();
            assert_eq!((rest, at(offset + 12)), ([0; 3], 0), "reserved");
            (quad(offset), status)
        };
        Self {
            edges: (0..count).map(edge).collect(),
            lost: at(8),
            left: at(12),
        }
    }
}

/// A chip whose accesses are recorded.
pub struct Recorded {
    chip: Ps2,
    /// The accesses, at the time at which the chip saw them.
    pub accesses: Vec<PortAccess>,
}

impl Recorded {
    /// Those since the last call.
    pub fn take(&mut self) -> Vec<PortAccess> {
        std::mem::take(&mut self.accesses)
    }

    /// Whether the chip raises its interrupt at the rising edge of nAck: bit 4 of the control
    /// register.
    pub fn interrupts(&mut self, now: Nanos) -> bool {
        self.chip.read(now, 0, 2, Width::Byte) & 0x10 != 0
    }

    /// What data and control register hold.
    pub fn registers(&mut self, now: Nanos) -> (u8, u8) {
        let mut read = |offset| self.chip.read(now, 0, offset, Width::Byte).to_le_bytes()[0];
        (read(0), read(2) & 0x2F)
    }
}

impl PortDevice for Recorded {
    fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
        let value = self.chip.read(now, block, offset, width);
        self.accesses.push(PortAccess {
            start: now,
            end: now,
            offset,
            written: None,
            read: value.to_le_bytes()[0],
        });
        value
    }

    fn write(&mut self, now: Nanos, block: usize, offset: u16, width: Width, value: u32) {
        self.chip.write(now, block, offset, width, value);
        self.accesses.push(PortAccess {
            start: now,
            end: now,
            offset,
            written: Some(value.to_le_bytes()[0]),
            read: 0,
        });
    }

    fn trace(&self) -> Option<&parscan_models::LineTrace> {
        self.chip.trace()
    }
}

impl Observed for Recorded {
    fn observed(&self, _machine: &Machine) -> Vec<String> {
        Vec::new()
    }
}

impl Observed for Loopback {
    fn observed(&self, _machine: &Machine) -> Vec<String> {
        Vec::new()
    }
}

/// Something that sets the five status lines as it is told, and listens to no other.
#[derive(Clone)]
pub struct Wire(Rc<Cell<u8>>);

impl Wire {
    /// All lines high, as the status register shows them.
    pub const IDLE: u8 = 0x78;

    /// The status lines are these, as the status register shows them.
    pub fn set(&self, status: u8) {
        self.0.set(status);
    }
}

impl Peripheral for Wire {
    fn host_changed(&mut self, _now: Nanos, _host: HostLines) {}

    fn lines(&mut self, _now: Nanos) -> PeripheralLines {
        PeripheralLines::from_dsr(self.0.get())
    }
}

/// The interrupt of LPT1, as Windows translates it on this machine.
pub const VECTOR: u32 = 0x37;

/// A port with an interrupt, which programs may wait for.
#[must_use]
pub fn with_interrupt(setup: Setup, latched: bool, allowed: Option<u32>) -> Setup {
    let mut hardware_key = setup.hardware_key;
    if let Some(value) = allowed {
        hardware_key.push(("ParscanWaitEdge".into(), RegValue::Dword(value)));
    }
    Setup {
        hardware_key,
        resources: vec![
            LPT1_REGISTERS,
            Resource::Interrupt {
                level: 7,
                vector: VECTOR,
                latched,
            },
        ],
        ..setup
    }
}

/// nAck of a port, in the hands of a test.
#[derive(Clone)]
pub struct Ack {
    chip: Rc<RefCell<Recorded>>,
    wire: Wire,
}

impl Ack {
    /// nAck falls and rises again, to lines as in `status`: an interrupt, if the chip is told to.
    /// Whether one came, and was the driver's.
    #[allow(clippy::must_use_candidate, reason = "it is done for the edge, too")]
    pub fn pulse(&self, machine: &Machine, status: u8) -> bool {
        self.wire.set(status & !0x40);
        self.wire.set(status | 0x40);
        let enabled = self.chip.borrow_mut().interrupts(machine.now());
        enabled && check(machine.interrupt(VECTOR))
    }
}

/// A PC with a PS/2 port whose accesses are recorded, and a device at its status lines.
#[must_use]
pub fn ack_pc(mut setup: Setup) -> (LinesPc, Ack) {
    setup.config.trace_ports = false;
    let wire = Wire(Rc::new(Cell::new(Wire::IDLE)));
    let chip = recorded(Box::new(wire.clone()));
    let pc = setup
        .loaded_on(chip.clone(), Loopback::default(), chip.clone())
        .start();
    (pc, Ack { chip, wire })
}

fn recorded(peripheral: Box<dyn Peripheral>) -> Rc<RefCell<Recorded>> {
    Rc::new(RefCell::new(Recorded {
        chip: Ps2::new(peripheral).with_trace(),
        accesses: Vec::new(),
    }))
}

/// A PC with a PS/2 port whose accesses are recorded, and a plug on it that leads data lines back.
pub type LinesPc = Pc<Recorded, Loopback>;

/// A [`LinesPc`].
#[must_use]
pub fn lines_pc(mut setup: Setup) -> LinesPc {
    setup.config.trace_ports = false;
    let recorded = recorded(Box::new(Loopback::default()));
    setup
        .loaded_on(recorded.clone(), Loopback::default(), recorded)
        .start()
}

impl LinesPc {
    /// CLAIM.
    #[must_use]
    pub fn claim(&self, handle: Handle) -> NtStatus {
        self.control(handle, IOCTL_PARSCAN_CLAIM, &[0; 4], 0).status
    }

    /// RELEASE, with lines as they were at the claim or as they are.
    #[must_use]
    pub fn release(&self, handle: Handle, restore: bool) -> NtStatus {
        self.control(handle, IOCTL_PARSCAN_RELEASE, &[restore.into(), 0, 0, 0], 0)
            .status
    }

    /// RUN with room for `output` bytes.
    #[must_use]
    pub fn run(&self, handle: Handle, request: &[u8], output: usize) -> IoResult {
        self.control(handle, IOCTL_PARSCAN_RUN, request, RESULT + output)
    }

    /// The same of a program that is done to its end.
    ///
    /// # Panics
    /// If it ended otherwise.
    #[track_caller]
    #[allow(
        clippy::must_use_candidate,
        reason = "programs are run for what they do, too"
    )]
    pub fn run_to_end(&self, handle: Handle, request: &[u8], output: usize) -> Ran {
        let ran = Ran::of(&self.run(handle, request, output));
        assert_eq!(ran.end, End::Done);
        ran
    }

    /// `WAIT_EDGE` with room for `most` edges.
    #[must_use]
    pub fn wait_edge(&self, handle: Handle, milliseconds: u32, most: usize) -> IoResult {
        let room = EDGES + most * EDGE;
        self.control(
            handle,
            IOCTL_PARSCAN_WAIT_EDGE,
            &milliseconds.to_le_bytes(),
            room,
        )
    }

    /// The same, started and on its way.
    #[must_use]
    pub fn start_wait_edge(
        &self,
        handle: Handle,
        milliseconds: u32,
        most: usize,
    ) -> ntsim::Pending {
        let room = EDGES + most * EDGE;
        let input = milliseconds.to_le_bytes();
        let pending = self
            .machine
            .start_io_control(handle, IOCTL_PARSCAN_WAIT_EDGE, &input, room);
        check(self.machine.run_for(100 * crate::US));
        pending
    }

    /// Whether the chip is told to raise its interrupt.
    #[must_use]
    pub fn interrupts(&self) -> bool {
        let now = self.machine.now();
        self.chip.borrow_mut().interrupts(now)
    }

    /// The accesses since the last call.
    #[must_use]
    pub fn accesses(&self) -> Vec<PortAccess> {
        self.chip.borrow_mut().take()
    }

    /// What data and control register hold.
    #[must_use]
    pub fn registers(&self) -> (u8, u8) {
        let now = self.machine.now();
        self.chip.borrow_mut().registers(now)
    }
}

/// What the second reading says of a program that ran on a port at rest; accesses may be `slack`
/// late.
///
/// # Panics
/// If an access is another than the program's.
#[track_caller]
#[must_use]
pub fn second_reading(
    code: &[[u8; 4]],
    bytes: &[u8],
    control: u8,
    accesses: &[PortAccess],
    slack: Nanos,
) -> ProgramTrace {
    let start = accesses.first().map_or(0, |access| access.start);
    check_program(
        (code.as_flattened(), bytes),
        control,
        start,
        accesses,
        (1000, slack),
    )
    .unwrap_or_else(|why| panic!("{why}"))
}

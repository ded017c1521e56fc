//! The requests of port programs, as a program knows them. Written from their documentation, not
//! taken from the driver.

use std::{cell::RefCell, rc::Rc};

use ntsim::{Handle, IoResult, Machine, Nanos, NtStatus};
use parscan_models::{Loopback, PortAccess, PortDevice, ProgramTrace, Ps2, Width, check_program};

use crate::{Pc, Setup, observed::Observed};

/// What a program may know of the port.
pub const GET_PORT: u32 = 0x0016_2400;
/// The port becomes the handle's.
pub const CLAIM: u32 = 0x0016_E404;
/// It is given back.
pub const RELEASE: u32 = 0x0016_E408;
/// A program runs.
pub const RUN: u32 = 0x0016_E40C;

/// Bytes of `PARSCAN_RESULT`.
pub const RESULT: usize = 32;

/// How a run ended.
pub mod end {
    /// The program is done.
    pub const DONE: u32 = 0;
    /// A WAIT had no answer.
    pub const TIME_OUT: u32 = 1;
    /// The request was cancelled.
    pub const CANCELLED: u32 = 2;
    /// The port's power went.
    pub const POWER_LOST: u32 = 3;
    /// The port went.
    pub const REMOVED: u32 = 4;
}

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

/// `PARSCAN_RESULT` and the bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended: [`end`].
    pub end: u32,
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
        assert_eq!(result.status, NtStatus::SUCCESS);
        let at = |offset: usize| {
            let four = result.output[offset..offset + 4].try_into();
            u32::from_le_bytes(four.expect("four bytes"))
        };
        assert_eq!(at(0), 1, "version");
        let output = at(16) as usize;
        assert_eq!(result.information, RESULT + output);
        Self {
            end: at(4),
            instruction: at(8),
            accesses: at(12),
            missed: at(20),
            elapsed: u64::from(at(24)) | u64::from(at(28)) << 32,
            output: result.output[RESULT..result.information].to_vec(),
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

/// A PC with a PS/2 port whose accesses are recorded, and a plug on it that leads data lines back.
pub type LinesPc = Pc<Recorded, Loopback>;

/// A [`LinesPc`].
#[must_use]
pub fn lines_pc(mut setup: Setup) -> LinesPc {
    setup.config.trace_ports = false;
    let recorded = Recorded {
        chip: Ps2::new(Box::new(Loopback::default())).with_trace(),
        accesses: Vec::new(),
    };
    let recorded = Rc::new(RefCell::new(recorded));
    setup
        .loaded_on(recorded.clone(), Loopback::default(), recorded)
        .start()
}

impl LinesPc {
    /// CLAIM.
    #[must_use]
    pub fn claim(&self, handle: Handle) -> NtStatus {
        self.control(handle, CLAIM, &[0; 4], 0).status
    }

    /// RELEASE, with lines as they were at the claim or as they are.
    #[must_use]
    pub fn release(&self, handle: Handle, restore: bool) -> NtStatus {
        self.control(handle, RELEASE, &[restore.into(), 0, 0, 0], 0)
            .status
    }

    /// RUN with room for `output` bytes.
    #[must_use]
    pub fn run(&self, handle: Handle, request: &[u8], output: usize) -> IoResult {
        self.control(handle, RUN, request, RESULT + output)
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

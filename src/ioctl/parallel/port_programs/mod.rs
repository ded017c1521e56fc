//! Port programs: raw lines for user programs. Requests of this driver's own, which no header of
//! Microsoft's has.
//!
//! `IOCTL_PARSCAN_CLAIM` makes the port its handle's until `IOCTL_PARSCAN_RELEASE` or close;
//! `IOCTL_PARSCAN_RUN` runs a [`Program`], which is verified as a whole before its first access.
//! The access bits are in the codes, so that the I/O manager itself turns a handle away that may
//! not write: no line moves for it.
//!
//! Every number is little-endian; there is no pointer and no padding, so 32- and 64-bit programs
//! send the same bytes.

mod edges;
mod instruction;
mod verify;

pub(super) use edges::parse as parse_wait_edge;
pub use edges::{Edge, EdgeRing, EdgesHeader, FOREVER, MOST_EDGES};
pub use instruction::{EppRegister, GetRegister, Instruction, Time};
pub use verify::{Chip, Cost, Mistake, Program, WhatIsWrong, verify};

use super::{FILE_DEVICE_PARALLEL_PORT, Status, fits, take};
use crate::ioctl::{FILE_READ_ACCESS, FILE_WRITE_ACCESS, buffered_code_with_access};

/// 0x00162400. No input. Output: `PARSCAN_PORT`, [`PortDescription`].
pub const IOCTL_PARSCAN_GET_PORT: u32 = code(0, 0);
/// 0x0016E404. Input: flags, a ULONG, 0. The port is the handle's; no line moves.
pub const IOCTL_PARSCAN_CLAIM: u32 = code(1, FILE_READ_ACCESS | FILE_WRITE_ACCESS);
/// 0x0016E408. Input: flags, a ULONG: [`RESTORE_LINES`].
pub const IOCTL_PARSCAN_RELEASE: u32 = code(2, FILE_READ_ACCESS | FILE_WRITE_ACCESS);
/// 0x0016E40C. Input: `PARSCAN_RUN` ([`RunHeader`]), program, data. Output: `PARSCAN_RESULT`
/// ([`RunResult`]), the bytes that were read.
pub const IOCTL_PARSCAN_RUN: u32 = code(3, FILE_READ_ACCESS | FILE_WRITE_ACCESS);
/// 0x00166410. Input: how long to wait, in milliseconds, a ULONG. Output: `PARSCAN_EDGES`
/// ([`EdgesHeader`]), the edges of nAck since the last answer ([`Edge`]). Pends until there is one.
pub const IOCTL_PARSCAN_WAIT_EDGE: u32 = code(4, FILE_READ_ACCESS);
/// The function codes begin here: those below 0x800 are Microsoft's.
const FIRST_FUNCTION: u32 = 0x900;

const fn code(number: u32, access: u32) -> u32 {
    buffered_code_with_access(FILE_DEVICE_PARALLEL_PORT, FIRST_FUNCTION + number, access)
}

/// The version of all structures here.
pub const VERSION: u32 = 1;
/// The most instructions of a program.
pub const MOST_INSTRUCTIONS: u32 = 4096;
/// How deep loops may be nested.
pub const MOST_DEPTH: u32 = 4;
/// The most accesses of one run.
pub const MOST_ACCESSES: u32 = 1 << 20;
/// The most time that a program may declare, in nanoseconds.
pub const MOST_NS: u64 = 60_000_000_000;
/// The most instructions that one run executes, those in loops as often as they are done: what
/// makes no access takes time, too.
pub const MOST_STEPS: u32 = 1 << 22;
/// The most instructions that a program executes which runs in the caller's thread, or without
/// being interrupted.
pub const DIRECT_STEPS: u32 = 256;
/// The most accesses of a program that runs in the caller's thread.
pub const DIRECT_ACCESSES: u32 = 64;
/// The most time that it may declare, and a program that runs without being interrupted, in
/// nanoseconds.
pub const DIRECT_NS: u32 = 50_000;

/// `PARSCAN_PORT`: what a program may know of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortDescription {
    /// Where the data register is in I/O space: a name, for a program cannot access it.
    pub base: u64,
    /// Where the ECP block is, whose third register is the ECR; 0: there is none.
    pub ecp_base: u64,
    /// Registers from `base`.
    pub span: u32,
    /// What the port has, and how it is.
    pub features: PortFeatures,
    /// How long one access takes, in nanoseconds: measured when the port was started.
    pub access_ns: u32,
}

bitflags::bitflags! {
    /// `PARSCAN_PORT.Features`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PortFeatures: u32 {
        /// The data lines can be turned round: control bit 5.
        const DIRECTION = 0x01;
        /// The chip does EPP cycles.
        const EPP = 0x02;
        /// There is an ECR.
        const ECR = 0x04;
        /// Windows assigned an interrupt.
        const INTERRUPT = 0x08;
        /// `IOCTL_PARSCAN_WAIT_EDGE` is served.
        const EDGES = 0x10;
        /// The port is claimed.
        const CLAIMED = 0x20;
    }
}

impl PortDescription {
    /// Bytes of `PARSCAN_PORT`.
    pub const SIZE: usize = 64;

    /// The structure: version, size, base, ECP base, span, features, access time, the limits
    /// (instructions, accesses, time, depth, accesses and time of a program that runs at once).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut writer = Writer::<{ Self::SIZE }>::new();
        writer
            .u32(VERSION)
            .u32(64)
            .u64(self.base)
            .u64(self.ecp_base)
            .u32(self.span)
            .u32(self.features.bits())
            .u32(self.access_ns)
            .u32(MOST_INSTRUCTIONS)
            .u64(MOST_NS)
            .u32(MOST_ACCESSES)
            .u32(MOST_DEPTH)
            .u32(DIRECT_ACCESSES)
            .u32(DIRECT_NS);
        writer.bytes
    }

    /// Reads the structure. `None`: it is short, or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::SIZE] = versioned(bytes)?;
        Some(Self {
            base: u64_at(&bytes, 8)?,
            ecp_base: u64_at(&bytes, 16)?,
            span: u32_at(&bytes, 24)?,
            features: PortFeatures::from_bits_retain(u32_at(&bytes, 28)?),
            access_ns: u32_at(&bytes, 32)?,
        })
    }
}

/// A checked `IOCTL_PARSCAN_GET_PORT`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`
pub(super) fn parse_get_port(output_length: usize) -> Result<(), Status> {
    fits(output_length, PortDescription::SIZE)
}

/// A flag of `IOCTL_PARSCAN_RELEASE`: data and control lines become what they were at
/// `IOCTL_PARSCAN_CLAIM`. Without it they stay.
pub const RESTORE_LINES: u32 = 1;

fn flags(input: &[u8], known: u32) -> Result<u32, Status> {
    let flags = <[u8; 4]>::try_from(input).map_err(|_| Status::INVALID_PARAMETER)?;
    let flags = u32::from_le_bytes(flags);
    if flags & !known != 0 {
        return Err(Status::INVALID_PARAMETER);
    }
    Ok(flags)
}

/// A checked `IOCTL_PARSCAN_CLAIM`. No flag is known.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: the input is no ULONG, or not 0.
pub(super) fn parse_claim(input: &[u8]) -> Result<(), Status> {
    flags(input, 0).map(drop)
}

/// A checked `IOCTL_PARSCAN_RELEASE`: whether the lines are restored.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: the input is no ULONG, or has an unknown flag.
pub(super) fn parse_release(input: &[u8]) -> Result<bool, Status> {
    flags(input, RESTORE_LINES).map(|flags| flags & RESTORE_LINES != 0)
}

/// A flag of [`RunHeader`]: the program runs as a whole at `DISPATCH_LEVEL`. Its declared time is
/// [`DIRECT_NS`] at most.
pub const ATOMIC: u32 = 1;

/// `PARSCAN_RUN`, in front of the instructions and the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// [`ATOMIC`]
    pub flags: u32,
    /// Instructions, four bytes each.
    pub instructions: u32,
    /// Bytes of the data area behind them.
    pub data: u32,
}

impl RunHeader {
    /// Bytes of `PARSCAN_RUN`.
    pub const SIZE: usize = 16;

    /// The structure: version, flags, instructions, bytes of data.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut writer = Writer::<{ Self::SIZE }>::new();
        writer
            .u32(VERSION)
            .u32(self.flags)
            .u32(self.instructions)
            .u32(self.data);
        writer.bytes
    }

    /// Reads the structure. `None`: it is of another version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        if u32_at(bytes, 0)? != VERSION {
            return None;
        }
        Some(Self {
            flags: u32_at(bytes, 4)?,
            instructions: u32_at(bytes, 8)?,
            data: u32_at(bytes, 12)?,
        })
    }
}

/// A checked `IOCTL_PARSCAN_RUN`: how its input falls into parts. Its program is verified when the
/// port is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRequest {
    atomic: bool,
    /// [`MOST_INSTRUCTIONS`] at most.
    instructions: u16,
}

/// The three parts of a request's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunInput<'a> {
    /// The whole program runs at `DISPATCH_LEVEL`.
    pub atomic: bool,
    /// The instructions.
    pub code: &'a [[u8; 4]],
    /// The data area.
    pub data: &'a [u8],
}

impl RunRequest {
    /// Checks both buffers.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: another version, an unknown flag, no instruction or too many,
    /// a length that is not that of header, instructions and data together, or no room for
    /// `PARSCAN_RESULT`.
    pub fn parse(input: &[u8], output_length: usize) -> Result<Self, Status> {
        Self::of(input)
            .filter(|_| output_length >= RunResult::SIZE)
            .ok_or(Status::INVALID_PARAMETER)
    }

    fn of(input: &[u8]) -> Option<Self> {
        let (header, rest) = input.split_first_chunk::<{ RunHeader::SIZE }>()?;
        let header = RunHeader::from_bytes(header)?;
        if header.flags & !ATOMIC != 0 || !(1..=MOST_INSTRUCTIONS).contains(&header.instructions) {
            return None;
        }
        // At most 16 KiB.
        let code = header.instructions as usize * size_of::<[u8; 4]>();
        let data = rest.len().checked_sub(code)?;
        (data == header.data as usize).then_some(Self {
            atomic: header.flags & ATOMIC != 0,
            instructions: u16::try_from(header.instructions).ok()?,
        })
    }

    /// The parts of the input that was checked. (Another one falls into other parts.)
    #[must_use]
    pub fn parts(self, input: &[u8]) -> RunInput<'_> {
        let rest = input.get(RunHeader::SIZE..).unwrap_or_default();
        let length = usize::from(self.instructions) * size_of::<[u8; 4]>();
        let (code, data) = rest.split_at_checked(length).unwrap_or_default();
        RunInput {
            atomic: self.atomic,
            code: code.as_chunks().0,
            data,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RunEnd {
    /// The program is done.
    Done = 0,
    /// A WAIT without its flag had no answer in its time.
    TimeOut = 1,
    /// The request was cancelled.
    Cancelled = 2,
    /// The port's power went.
    PowerLost = 3,
    /// The port went.
    Removed = 4,
}

impl RunEnd {
    const fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Done,
            1 => Self::TimeOut,
            2 => Self::Cancelled,
            3 => Self::PowerLost,
            4 => Self::Removed,
            _ => return None,
        })
    }
}

/// `PARSCAN_RESULT`, in front of the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunResult {
    /// How it ended.
    pub end: RunEnd,
    /// The instruction at which it ended; of a program that is done, their number.
    pub instruction: u32,
    /// Accesses done. A WAIT counts as one, however often it looks.
    pub accesses: u32,
    /// Bytes of output.
    pub output: u32,
    /// Slots of PACE that were over before their access could be made.
    pub missed: u32,
    /// Time from the first instruction to the end, in nanoseconds.
    pub elapsed_ns: u64,
}

impl RunResult {
    /// Bytes of `PARSCAN_RESULT`.
    pub const SIZE: usize = 32;

    /// The structure: version, end, instruction, accesses, bytes of output, missed slots, time.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut writer = Writer::<{ Self::SIZE }>::new();
        writer
            .u32(VERSION)
            .u32(self.end as u32)
            .u32(self.instruction)
            .u32(self.accesses)
            .u32(self.output)
            .u32(self.missed)
            .u64(self.elapsed_ns);
        writer.bytes
    }

    /// Reads the structure. `None`: it is short, or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::SIZE] = versioned(bytes)?;
        Some(Self {
            end: RunEnd::of(u32_at(&bytes, 4)?)?,
            instruction: u32_at(&bytes, 8)?,
            accesses: u32_at(&bytes, 12)?,
            output: u32_at(&bytes, 16)?,
            missed: u32_at(&bytes, 20)?,
            elapsed_ns: u64_at(&bytes, 24)?,
        })
    }
}

/// The bytes of a structure that begins with its version. `None`: it is short, or of another one.
fn versioned<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    take(bytes).filter(|bytes: &[u8; N]| u32_at(bytes, 0) == Some(VERSION))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|eight| u64::from_le_bytes(*eight))
}

/// A structure that is being written, member by member.
struct Writer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Writer<N> {
    const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }

    /// By value, and inlined: the places are known then, and a member is a move.
    #[inline]
    fn put<const M: usize>(&mut self, member: [u8; M]) -> &mut Self {
        let rest = self.bytes.get_mut(self.length..).unwrap_or_default();
        if let Some(place) = rest.first_chunk_mut() {
            *place = member;
        }
        self.length += M;
        self
    }

    #[inline]
    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    #[inline]
    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_carry_their_access_bits() {
        assert_eq!(IOCTL_PARSCAN_GET_PORT, 0x0016_2400);
        assert_eq!(IOCTL_PARSCAN_CLAIM, 0x0016_E404);
        assert_eq!(IOCTL_PARSCAN_RELEASE, 0x0016_E408);
        assert_eq!(IOCTL_PARSCAN_RUN, 0x0016_E40C);
        assert_eq!(IOCTL_PARSCAN_WAIT_EDGE, 0x0016_6410);
    }

    #[test]
    fn what_is_written_is_read() {
        let port = PortDescription {
            base: 0xD100,
            ecp_base: 0xD500,
            span: 8,
            features: PortFeatures::EPP | PortFeatures::CLAIMED,
            access_ns: 1234,
        };
        assert_eq!(PortDescription::parse(&port.to_bytes()), Some(port));
        assert_eq!(PortDescription::parse(&port.to_bytes()[..63]), None);
        let result = RunResult {
            end: RunEnd::PowerLost,
            instruction: 1,
            accesses: 2,
            output: 3,
            missed: 4,
            elapsed_ns: 5 << 40,
        };
        assert_eq!(RunResult::parse(&result.to_bytes()), Some(result));
    }

    #[test]
    fn flags_are_exactly_a_ulong() {
        assert_eq!(parse_claim(&[0; 4]), Ok(()));
        for bad in [&[][..], &[0; 3], &[0; 5], &[1, 0, 0, 0], &[0, 0, 0, 0x80]] {
            assert_eq!(parse_claim(bad), Err(Status::INVALID_PARAMETER));
        }
        assert_eq!(parse_release(&[0; 4]), Ok(false));
        assert_eq!(parse_release(&[1, 0, 0, 0]), Ok(true));
        assert_eq!(parse_release(&[2, 0, 0, 0]), Err(Status::INVALID_PARAMETER));
    }

    fn input(header: RunHeader, rest: &[u8]) -> Vec<u8> {
        [&header.to_bytes()[..], rest].concat()
    }

    #[test]
    fn lengths_must_add_up() {
        let header = RunHeader {
            flags: 0,
            instructions: 2,
            data: 3,
        };
        let good = input(header, &[7; 11]);
        let parsed = RunRequest::parse(&good, 32).unwrap().parts(&good);
        assert_eq!((parsed.code.len(), parsed.data.len()), (2, 3));
        assert_eq!(RunRequest::parse(&good, 31), Err(Status::INVALID_PARAMETER));
        let huge = RunHeader {
            data: u32::MAX,
            ..header
        };
        let none = RunHeader {
            instructions: 0,
            data: 11,
            ..header
        };
        let many = RunHeader {
            instructions: 4097,
            data: 0,
            ..header
        };
        let flag = RunHeader { flags: 2, ..header };
        for bad in [
            good[..26].to_vec(),
            good[..15].to_vec(),
            input(header, &[7; 12]),
            input(huge, &[7; 11]),
            input(none, &[7; 11]),
            input(many, &vec![7; 4 * 4097]),
            input(flag, &[7; 11]),
            vec![],
        ] {
            assert_eq!(RunRequest::parse(&bad, 32), Err(Status::INVALID_PARAMETER));
        }
        let mut version = good;
        version[0] = 2;
        assert_eq!(
            RunRequest::parse(&version, 32),
            Err(Status::INVALID_PARAMETER)
        );
    }
}

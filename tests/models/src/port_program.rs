//! A second reading of port programs: what a program's accesses must be, and when.
//!
//! The program becomes a tree, and the tree is walked along a recorded list of accesses: each must
//! be the one that the program asks for next, no sooner than it allows and hardly later.

use alloc::{format, string::String, vec, vec::Vec};

use crate::Nanos;

/// An access that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// When it began.
    pub start: Nanos,
    /// When it was over.
    pub end: Nanos,
    /// The register: its offset from the base of the port.
    pub offset: u16,
    /// What was written.
    pub written: Option<u8>,
    /// What was read; 0 of a write.
    pub read: u8,
}

/// What a program did, as its accesses tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramTrace {
    /// The program was done, or ended by a time-out at this instruction. `None`: the accesses end
    /// before it does.
    pub end: Option<Result<(), usize>>,
    /// Accesses, of which a WAIT is one.
    pub accesses: u32,
    /// Bytes read.
    pub output: Vec<u8>,
    /// Slots of PACE that were over when their access was made.
    pub missed: u64,
    /// The data register at the end, if the program wrote it.
    pub data: Option<u8>,
    /// The control register at the end.
    pub control: u8,
}

/// A program's tree.
enum Node {
    /// The instruction at this index.
    Leaf(usize, [u8; 4]),
    Loop(u32, Vec<Node>),
}

/// Why a walk is over.
enum Stop {
    /// No accesses are left.
    Exhausted,
    /// A WAIT ended the program.
    TimeOut(usize),
    /// An access is not the one that must be next.
    Wrong(String),
}

struct Walk<'a> {
    accesses: core::iter::Peekable<core::slice::Iter<'a, PortAccess>>,
    data: core::slice::Iter<'a, u8>,
    access_ns: Nanos,
    slack: Nanos,
    /// When the next access may begin.
    now: Nanos,
    last: Nanos,
    /// Interval; origin, once there is one, and number of the next slot.
    grid: Option<(Nanos, Option<Nanos>, Nanos)>,
    /// The time-out of a WAIT that is pending: its instruction, mask, value and whether it goes on.
    wait: Option<(usize, u8, u8, bool)>,
    trace: ProgramTrace,
}

/// Checks `accesses` against a program: `code` are its instructions, four bytes each, and `data`
/// its data area. It begins at `start` with `control` in the control register. Accesses may come
/// up to `slack` later than the program allows; `access_ns` is how long one takes.
///
/// # Errors
/// The first access that is wrong, in words.
///
/// # Panics
/// If the program is not one that a verifier lets pass.
pub fn check_program(
    (code, data): (&[u8], &[u8]),
    control: u8,
    start: Nanos,
    accesses: &[PortAccess],
    (access_ns, slack): (Nanos, Nanos),
) -> Result<ProgramTrace, String> {
    let mut open = vec![(0, Vec::new())];
    for (index, word) in code.chunks_exact(4).enumerate() {
        let word = [word[0], word[1], word[2], word[3]];
        match word[0] {
            10 => open.push((number(word), Vec::new())),
            11 => {
                let (times, body) = open.pop().unwrap();
                open.last_mut().unwrap().1.push(Node::Loop(times, body));
            }
            _ => open.last_mut().unwrap().1.push(Node::Leaf(index, word)),
        }
    }
    let (_, tree) = open.pop().unwrap();
    let mut walk = Walk {
        accesses: accesses.iter().peekable(),
        data: data.iter(),
        access_ns,
        slack,
        now: start,
        last: start,
        grid: None,
        wait: None,
        trace: ProgramTrace {
            end: None,
            accesses: 0,
            output: Vec::new(),
            missed: 0,
            data: None,
            control,
        },
    };
    match walk.nodes(&tree) {
        Ok(()) => {
            if let Some(access) = walk.accesses.peek() {
                return Err(format!("{access:?} after the end"));
            }
            walk.trace.end = Some(Ok(()));
        }
        Err(Stop::TimeOut(index)) => {
            if let Some(access) = walk.accesses.peek() {
                return Err(format!("{access:?} after the time-out"));
            }
            walk.trace.end = Some(Err(index));
        }
        Err(Stop::Exhausted) => {}
        Err(Stop::Wrong(why)) => return Err(why),
    }
    Ok(walk.trace)
}

fn number(word: [u8; 4]) -> u32 {
    u32::from_le_bytes([word[1], word[2], word[3], 0])
}

/// A time: the highest of its 24 bits says microseconds.
fn time(word: [u8; 4]) -> Nanos {
    let value = Nanos::from(number(word));
    if value >= 0x80_0000 {
        (value - 0x80_0000) * 1000
    } else {
        value
    }
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), Stop> {
        for node in nodes {
            match node {
                Node::Leaf(index, word) => self.leaf(*index, *word)?,
                Node::Loop(times, body) => {
                    for _ in 0..*times {
                        self.nodes(body)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next access, which must be on this register and not be early or late.
    fn next(&mut self, index: usize, offset: u16) -> Result<PortAccess, Stop> {
        let access = **self.accesses.peek().ok_or(Stop::Exhausted)?;
        let wrong = |what: &str, now| {
            Stop::Wrong(format!("instruction {index}: {what} {access:?}, due {now}"))
        };
        if access.offset != offset {
            return Err(wrong("another register", self.now));
        }
        // What counts is when it reaches the lines.
        if access.end < self.now {
            return Err(wrong("too soon", self.now));
        }
        if access.start > self.now + self.slack {
            return Err(wrong("too late", self.now));
        }
        self.accesses.next();
        self.done(access);
        Ok(access)
    }

    fn done(&mut self, access: PortAccess) {
        self.now = access.end;
        self.last = access.end;
    }

    fn write(&mut self, index: usize, offset: u16, value: u8) -> Result<(), Stop> {
        let access = self.next(index, offset)?;
        if access.written != Some(value) {
            return Err(Stop::Wrong(format!(
                "instruction {index}: {value:#04x} is due, not {access:?}"
            )));
        }
        self.trace.accesses += 1;
        Ok(())
    }

    fn read(&mut self, index: usize, offset: u16) -> Result<(), Stop> {
        let access = self.next(index, offset)?;
        if access.written.is_some() {
            return Err(Stop::Wrong(format!(
                "instruction {index}: a read is due, not {access:?}"
            )));
        }
        self.trace.accesses += 1;
        self.trace.output.push(access.read);
        Ok(())
    }

    fn data_line(&mut self, index: usize, value: u8) -> Result<(), Stop> {
        if let Some((interval, origin, slot)) = self.grid {
            // The first access is the origin.
            let began = self.accesses.peek().map(|access| access.start);
            let origin = origin.or(began).unwrap_or(0);
            let due = origin + slot * interval;
            if slot > 0 {
                // It begins in its slot, or is over then.
                self.now = self.now.max(due.saturating_sub(self.access_ns));
            }
            let began = began.unwrap_or(due);
            let missed = (began.saturating_sub(due)) / interval;
            self.write(index, 0, value)?;
            self.trace.missed += missed;
            self.grid = Some((interval, Some(origin), slot + missed + 1));
        } else {
            self.write(index, 0, value)?;
        }
        self.trace.data = Some(value);
        Ok(())
    }

    fn control(&mut self, index: usize, value: u8, mask: u8) -> Result<(), Stop> {
        let mut wanted = self.trace.control;
        for bit in (0..8).map(|bit| 1 << bit).filter(|bit| mask & bit != 0) {
            wanted = if value & bit != 0 {
                wanted | bit
            } else {
                wanted & !bit
            };
        }
        self.write(index, 2, wanted)?;
        self.trace.control = wanted;
        Ok(())
    }

    fn leaf(&mut self, index: usize, word: [u8; 4]) -> Result<(), Stop> {
        match word[0] {
            1 => self.data_line(index, word[1]),
            2 => self.control(index, word[1], word[2]),
            3 => self.read(index, word[1].into()),
            4 => {
                let value = *self.data.next().unwrap();
                self.data_line(index, value)
            }
            5 => {
                let value = *self.data.next().unwrap();
                self.control(index, value, word[1])
            }
            6 => {
                self.wait = Some((index, word[1], word[2], word[3] == 1));
                Ok(())
            }
            7 => self.looks(time(word)),
            8 => {
                if time(word) > self.access_ns {
                    self.now = self.now.max(self.last + time(word));
                }
                Ok(())
            }
            9 => {
                self.grid = (time(word) != 0).then_some((time(word), None, 0));
                Ok(())
            }
            12 => self.write(index, 4 - u16::from(word[1]), word[2]),
            13 => self.read(index, 4 - u16::from(word[1])),
            _ => unreachable!("a program that was verified"),
        }
    }

    /// The looks of a WAIT: none after the one that sees the lines as wanted, and none before the
    /// last one that was made when the time was over.
    fn looks(&mut self, time: Nanos) -> Result<(), Stop> {
        let (index, mask, value, go_on) = self.wait.take().unwrap();
        let first = self.accesses.peek().map_or(0, |access| access.start);
        if first > 0 && (first + self.access_ns < self.now || first > self.now + self.slack) {
            return Err(Stop::Wrong(format!(
                "instruction {index}: the first look is at {first}, due {}",
                self.now
            )));
        }
        let over = first + time;
        loop {
            let access = **self.accesses.peek().ok_or(Stop::Exhausted)?;
            if (access.offset, access.written) != (1, None) {
                return Err(Stop::Wrong(format!(
                    "instruction {index}: a look is due, not {access:?}"
                )));
            }
            self.accesses.next();
            self.done(access);
            let met = access.read & mask == value;
            if !met && access.start < over {
                continue;
            }
            if !met && access.start > over + self.slack {
                return Err(Stop::Wrong(format!(
                    "instruction {index}: {access:?}, but the time was over at {over}"
                )));
            }
            self.trace.accesses += 1;
            if go_on {
                self.trace.output.push(access.read);
            } else if !met {
                return Err(Stop::TimeOut(index));
            }
            return Ok(());
        }
    }
}

//! A port for port programs that records what they do.

use parscan_core::ieee1284::{Interrupted, Port, Register, TimedPort};
use parscan_models::PortAccess;

/// How long an access takes, in nanoseconds.
pub(crate) const ACCESS_NS: u64 = 1000;

/// When a recording begins, in nanoseconds.
pub(crate) const BEGIN_NS: u64 = 7_000;

/// What the status register reads.
pub(crate) trait Status {
    /// At this time, in nanoseconds.
    fn at(&mut self, time: u64) -> u8;
}

/// By time: from each time on.
impl Status for Vec<(u64, u8)> {
    fn at(&mut self, time: u64) -> u8 {
        let status = self.iter().rev().find(|(from, _)| *from <= time);
        status.expect("from the beginning on").1
    }
}

/// A port that records. An access takes [`ACCESS_NS`]; stalls and sleeps take what they are asked
/// for, sleeps `late` more.
pub(crate) struct Recorder<S> {
    /// Nanoseconds.
    pub(crate) now: u64,
    /// All of them.
    pub(crate) accesses: Vec<PortAccess>,
    /// Where the status comes from.
    pub(crate) status: S,
    /// Nanoseconds.
    pub(crate) late: u64,
    /// How many.
    pub(crate) stalls: u64,
    /// How many.
    pub(crate) sleeps: u64,
    /// How many times it may be asked whether it is interrupted.
    pub(crate) patience: u64,
}

impl<S: Status> Recorder<S> {
    /// A port that is never interrupted.
    pub(crate) fn new(status: S) -> Self {
        Self {
            now: BEGIN_NS,
            accesses: Vec::new(),
            status,
            late: 0,
            stalls: 0,
            sleeps: 0,
            patience: u64::MAX,
        }
    }

    fn access(&mut self, register: Register, written: Option<u8>) -> u8 {
        let start = self.now;
        self.now += ACCESS_NS;
        let (offset, read) = match register {
            Register::Data => (0, 0xA5),
            Register::Dsr => (1, self.status.at(start)),
            Register::Dcr => (2, 0xCC),
            Register::EppAddress => (3, 0x33),
            Register::EppData => (4, 0x44),
            _ => panic!("{register:?} is none of a program's"),
        };
        let read = if written.is_some() { 0 } else { read };
        self.accesses.push(PortAccess {
            start,
            end: self.now,
            offset,
            written,
            read,
        });
        read
    }

    fn interrupted(&mut self) -> Result<(), Interrupted> {
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 {
            return Err(Interrupted);
        }
        Ok(())
    }
}

impl<S: Status> Port for Recorder<S> {
    fn read(&mut self, register: Register) -> u8 {
        self.access(register, None)
    }
    fn write(&mut self, register: Register, value: u8) {
        self.access(register, Some(value));
    }
    fn stall(&mut self, microseconds: u32) {
        assert!((1..=50).contains(&microseconds));
        self.stalls += 1;
        self.now += u64::from(microseconds) * 1000;
    }
    fn is_interrupted(&mut self) -> bool {
        self.interrupted().is_err()
    }
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        self.interrupted()
    }
    fn sleep(&mut self, _: u32) -> Result<(), Interrupted> {
        panic!("too coarse")
    }
    fn now(&mut self) -> u64 {
        self.now / 1_000_000
    }
    parscan_core::chip_has! { ecp: true, epp: true }
}

impl<S: Status> TimedPort for Recorder<S> {
    fn nanoseconds(&mut self) -> u64 {
        self.now
    }
    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        assert!(nanoseconds > 0);
        self.interrupted()?;
        self.sleeps += 1;
        self.now += nanoseconds + self.late;
        Ok(())
    }
}

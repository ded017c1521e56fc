//! What processors share, as state machines: who may do what now, and who is to be told.
//!
//! `kernel` keeps each of them under one of its locks, and does what it answers: it sets
//! events, takes IRPs out of queues, calls routines. Nothing here knows a lock, an event or an IRP,
//! so `tests/interleavings` runs the same code in every order that two and three processors can
//! bring about.
//!
//! What is used without a lock is an atomic behind a small trait ([`Flag`], [`Stage`], [`Word`]); an event
//! that is set and reset under the lock is a [`Signal`].
#![forbid(unsafe_code)]

mod arbiter;
mod flight;
mod idle;
mod rounds;
mod rundown;
mod serving;
mod stop;
mod urb_gate;

pub use arbiter::{Arbiter, Arrival, Look, Next, Oldest, Released};
pub use flight::Flight;
pub use idle::{Idle, Returned};
pub use rounds::{IDLE, Rounds};
pub use rundown::{LeaveReason, RundownCounter, RundownEvents, RundownGate};
pub use serving::Serving;
pub use stop::Stop;
pub use urb_gate::UrbGate;

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};

/// A notification event: those who wait for it go on while it is set.
pub trait Signal {
    /// At <= `DISPATCH_LEVEL`.
    fn set(&self);
    /// At <= `DISPATCH_LEVEL`.
    fn reset(&self);
}

/// A flag that is used without a lock. At any IRQL.
pub trait Flag {
    /// Acquires.
    fn is_set(&self) -> bool;
    /// Acquires and releases. The value before.
    fn replace(&self, value: bool) -> bool;
    /// Releases.
    fn clear(&self);
}

impl Flag for AtomicBool {
    fn is_set(&self) -> bool {
        self.load(Ordering::Acquire)
    }

    fn replace(&self, value: bool) -> bool {
        self.swap(value, Ordering::AcqRel)
    }

    fn clear(&self) {
        self.store(false, Ordering::Release);
    }
}

/// How far something is that one processor does for all. At any IRQL.
pub trait Stage {
    /// Acquires and releases. The value before.
    fn replace(&self, value: u8) -> u8;
    /// Changes `from` to `to`, acquires and releases. Whether it was `from`.
    fn change(&self, from: u8, to: u8) -> bool;
    /// Acquires.
    fn read(&self) -> u8;
}

impl Stage for AtomicU8 {
    fn replace(&self, value: u8) -> u8 {
        self.swap(value, Ordering::AcqRel)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn read(&self) -> u8 {
        self.load(Ordering::Acquire)
    }
}

/// A word that is used without a lock. At any IRQL.
pub trait Word {
    /// Acquires and releases. The value before.
    fn replace(&self, value: usize) -> usize;
    /// Changes `from` to `to`, acquires and releases. Whether it was `from`.
    fn change(&self, from: usize, to: usize) -> bool;
    /// Acquires.
    fn read(&self) -> usize;
}

impl Word for AtomicUsize {
    fn replace(&self, value: usize) -> usize {
        self.swap(value, Ordering::AcqRel)
    }

    fn change(&self, from: usize, to: usize) -> bool {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn read(&self) -> usize {
        self.load(Ordering::Acquire)
    }
}

/// A status that is used without a lock. At any IRQL.
pub trait Note {
    /// Acquires.
    fn read(&self) -> i32;
    /// Releases.
    fn write(&self, value: i32);
}

impl Note for AtomicI32 {
    fn read(&self) -> i32 {
        self.load(Ordering::Acquire)
    }

    fn write(&self, value: i32) {
        self.store(value, Ordering::Release);
    }
}

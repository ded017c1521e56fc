//! Who has a thing that one at a time may have, and who gets it next.

use super::Flag;
use crate::ioctl::Status;

/// Who has the thing, and what arrivals are answered. Its methods run under one lock, that of the
/// queue in which those who wait stand.
///
/// `taken` is the same flag every time. It is set while a client has the thing, or it is being
/// passed on; it stands apart, for interrupt service routines cannot take the lock.
pub struct Arbiter<O> {
    /// The owner that stands for the driver itself.
    system: O,
    /// Nothing while the thing is being passed on.
    owner: Option<O>,
    /// A thread is passing the thing on: who frees it meanwhile leaves it to them. So the line is
    /// walked in a loop, and not by a completion routine that frees in the completion that it
    /// frees in.
    passing: bool,
    /// The system has the thing next, before everybody who waits.
    reserved: bool,
    /// What arrivals are answered with: success while the line is open.
    refusal: Status,
    next_ticket: u64,
}

/// What an arrival is answered, if it is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has the thing.
    Has,
    /// It waits, with this ticket. Tickets rise.
    Waits(u64),
}

/// A client has freed the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// It is to be passed on by the thread that freed it, with [`Arbiter::next`].
    pub pass_on: bool,
    /// It was the system's: the threads that wait are to look again, for their patience begins.
    pub was_system: bool,
}

/// The oldest of those who wait.
#[derive(Clone, Copy, Debug)]
pub struct Oldest<O> {
    /// The ticket of the oldest IRP.
    pub irp: Option<u64>,
    /// Ticket and name of the oldest thread.
    pub thread: Option<(u64, O)>,
}

/// What to do next with a thing that is being passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: a client has it, or none wants it.
    Done,
    /// The system has it now: the threads that wait are to look again, for their patience rests.
    System,
    /// The oldest thread has it: it leaves the line and is told.
    Thread,
    /// Take the oldest IRP with a lower ticket out of the queue and give the thing to it, by
    /// [`Arbiter::give`]; then ask again, also if there is no such IRP any more.
    Irp(u64),
}

/// How a thread's wait in the line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It has the thing.
    Granted,
    /// The line was closed: the thread leaves it.
    Refused(Status),
    /// It waits for its turn.
    Waiting,
    /// It waits for the system, which has the thing.
    Suspended,
}

impl<O: Copy + PartialEq> Arbiter<O> {
    /// The arbiter of a thing that `system`, the driver itself, has: `taken` is set.
    pub const fn new(system: O) -> Self {
        Self {
            system,
            owner: Some(system),
            passing: false,
            reserved: false,
            refusal: Status::SUCCESS,
            next_ticket: 0,
        }
    }

    /// Whether the owner is one that `is` accepts.
    pub fn is_owned_by(&self, is: impl FnOnce(O) -> bool) -> bool {
        self.owner.is_some_and(is)
    }

    /// Takes the thing if it is free, and the line open.
    pub fn try_acquire(&mut self, taken: &impl Flag, owner: O) -> bool {
        let free = self.refusal.is_success() && !taken.replace(true);
        if free {
            self.owner = Some(owner);
        }
        free
    }

    /// A client arrives, and waits if need be.
    ///
    /// # Errors
    /// The line is closed: the refusal.
    pub fn acquire(&mut self, taken: &impl Flag, owner: O) -> Result<Arrival, Status> {
        if !self.refusal.is_success() {
            return Err(self.refusal);
        }
        if self.try_acquire(taken, owner) {
            return Ok(Arrival::Has);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        Ok(Arrival::Waits(ticket))
    }

    /// The system takes the thing: now, or as soon as its owner leaves it.
    pub fn reserve(&mut self, taken: &impl Flag) {
        if taken.replace(true) {
            self.reserved = true;
        } else {
            self.owner = Some(self.system);
        }
    }

    /// The end of [`Arbiter::reserve`]. Whether the system has taken the thing: it is to leave it.
    pub const fn end_reservation(&mut self) -> bool {
        !core::mem::replace(&mut self.reserved, false)
    }

    /// What was taken by `taken` alone, from an interrupt service routine, becomes `owner`'s by
    /// name, so that it can be freed. Whether there is such a thing.
    pub fn claim(&mut self, taken: &impl Flag, owner: O) -> bool {
        let unnamed = self.owner.is_none() && !self.passing && taken.is_set();
        if unnamed {
            self.owner = Some(owner);
        }
        unnamed
    }

    /// Frees the thing, if its owner is one that `is` accepts.
    pub fn release(&mut self, is: impl FnOnce(O) -> bool) -> Option<Released> {
        let owner = self.owner?;
        if !is(owner) {
            return None;
        }
        self.owner = None;
        Some(Released {
            // The thread that passes things on finds this one.
            pass_on: !core::mem::replace(&mut self.passing, true),
            was_system: owner == self.system,
        })
    }

    /// Who is next. For the one who passes the thing on, until it does not answer [`Next::Irp`].
    pub fn next(&mut self, taken: &impl Flag, oldest: Oldest<O>) -> Next {
        if self.owner.is_some() {
            self.passing = false;
            return Next::Done;
        }
        if core::mem::replace(&mut self.reserved, false) {
            self.owner = Some(self.system);
            self.passing = false;
            return Next::System;
        }
        match (oldest.irp, oldest.thread) {
            (None, None) => {
                self.passing = false;
                taken.clear();
                Next::Done
            }
            (Some(_), None) => Next::Irp(u64::MAX),
            (Some(irp), Some((thread, _))) if irp < thread => Next::Irp(thread),
            (_, Some((_, owner))) => {
                self.owner = Some(owner);
                self.passing = false;
                Next::Thread
            }
        }
    }

    /// The thing is `owner`'s, who came with the IRP that [`Arbiter::next`] spoke of.
    pub const fn give(&mut self, owner: O) {
        self.owner = Some(owner);
    }

    /// How the wait of a thread stands. `granted`: it has left the line by [`Next::Thread`].
    pub fn look(&self, granted: bool) -> Look {
        if granted {
            Look::Granted
        } else if !self.refusal.is_success() {
            Look::Refused(self.refusal)
        } else if self.owner == Some(self.system) {
            Look::Suspended
        } else {
            Look::Waiting
        }
    }

    /// Refuses arrivals with `status` from now on, if `may` accepts what they are answered now.
    /// Those who wait are to be told, all of them. The client that has the thing has it still.
    pub fn refuse(&mut self, status: Status, may: impl FnOnce(Status) -> bool) {
        if may(self.refusal) {
            self.refusal = status;
        }
    }

    /// Lets arrivals in again, if they are refused with `status`.
    pub fn open_again(&mut self, status: Status) {
        if self.refusal == status {
            self.refusal = Status::SUCCESS;
        }
    }
}

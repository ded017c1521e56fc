//! The line in front of a thing that one at a time may have, as `src/kernel/port/arbiter.rs` walks it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use loom::{
    cell::UnsafeCell,
    sync::{Mutex, Notify},
};
use parscan_core::{
    ioctl::Status,
    sharing::{Arbiter, Arrival, Flag as _, Look, Next, Oldest},
};

use crate::Flag;

/// Who has the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The sender of an IRP.
    Irp(u32),
    /// A thread.
    Thread(u32),
    /// An interrupt service routine.
    Interrupt,
    /// The driver itself.
    System,
}

/// A line, and the thing.
pub struct Line {
    front: Mutex<Front>,
    taken: Flag,
    /// What only its owner may touch: loom reports two who do, and one who does not see what the one
    /// before has done.
    thing: UnsafeCell<u32>,
    /// How many IRPs are over, and how many of them had the thing.
    completed: AtomicU32,
    granted: AtomicU32,
}

struct Front {
    arbiter: Arbiter<Owner>,
    irps: VecDeque<(u64, u32)>,
    threads: VecDeque<(u64, Arc<Place>)>,
    /// From a reservation to its end: no client gets the thing anew.
    system_wants: bool,
}

/// A thread that waits.
struct Place {
    number: u32,
    served: AtomicBool,
    told: Notify,
}

impl Line {
    /// A line whose thing the system has.
    #[must_use]
    pub fn of_system() -> Self {
        Self {
            front: Mutex::new(Front {
                arbiter: Arbiter::new(Owner::System),
                irps: VecDeque::new(),
                threads: VecDeque::new(),
                system_wants: false,
            }),
            taken: Flag::new(true),
            thing: UnsafeCell::new(0),
            completed: AtomicU32::new(0),
            granted: AtomicU32::new(0),
        }
    }

    /// A line whose thing is free.
    #[must_use]
    pub fn free() -> Self {
        let line = Self::of_system();
        assert!(line.leave(Owner::System));
        line
    }

    fn with<T>(&self, section: impl FnOnce(&mut Front) -> T) -> T {
        section(&mut self.front.lock().unwrap())
    }

    /// What an owner does with the thing.
    pub fn use_it(&self) {
        self.thing.with_mut(|_| ());
    }

    /// `Line::try_acquire`
    pub fn try_acquire(&self, owner: Owner) -> bool {
        self.with(|front| {
            let taken = front.arbiter.try_acquire(&self.taken, owner);
            assert!(!taken || !front.system_wants, "{owner:?} before the system");
            taken
        })
    }

    /// `Line::reserve`
    pub fn reserve(&self) {
        self.with(|front| {
            front.arbiter.reserve(&self.taken);
            front.system_wants = true;
        });
    }

    /// `Line::end_reservation`
    pub fn end_reservation(&self) -> bool {
        self.with(|front| {
            front.system_wants = false;
            front.arbiter.end_reservation()
        })
    }

    /// `Line::try_take_at_interrupt`: no lock.
    pub fn try_take_at_interrupt(&self) -> bool {
        !self.taken.replace(true)
    }

    /// `Line::claim_for_interrupt`
    pub fn claim_for_interrupt(&self) -> bool {
        self.with(|front| front.arbiter.claim(&self.taken, Owner::Interrupt))
    }

    /// `Line::acquire`: the IRP uses the thing and frees it in its completion, if it gets it.
    pub fn acquire(&self, number: u32) {
        let had = self.with(
            |front| match front.arbiter.acquire(&self.taken, Owner::Irp(number)) {
                Ok(Arrival::Waits(ticket)) => {
                    front.irps.push_back((ticket, number));
                    false
                }
                Ok(Arrival::Has) => {
                    assert!(!front.system_wants, "the IRP before the system");
                    true
                }
                Err(_) => {
                    self.completed.fetch_add(1, Ordering::Relaxed);
                    false
                }
            },
        );
        if had {
            self.grant(number);
        }
    }

    /// The IRP has the thing.
    fn grant(&self, number: u32) {
        self.use_it();
        self.completed.fetch_add(1, Ordering::Relaxed);
        self.granted.fetch_add(1, Ordering::Relaxed);
        assert!(self.leave(Owner::Irp(number)), "the IRP had it");
    }

    /// `Line::enter`, with all the patience there is, or none.
    ///
    /// # Errors
    /// The line's refusal; `STATUS_DEVICE_BUSY`: no patience.
    pub fn enter(&self, number: u32, patient: bool) -> Result<(), Status> {
        let place = Arc::new(Place {
            number,
            served: false.into(),
            told: Notify::new(),
        });
        let arrival = self.with(|front| {
            let arrival = front.arbiter.acquire(&self.taken, Owner::Thread(number))?;
            match arrival {
                Arrival::Waits(ticket) => front.threads.push_back((ticket, Arc::clone(&place))),
                Arrival::Has => assert!(!front.system_wants, "{number} before the system"),
            }
            Ok(arrival)
        });
        if arrival? == Arrival::Has {
            return Ok(());
        }
        let out = |front: &mut Front| {
            let before = front.threads.len();
            front
                .threads
                .retain(|(_, other)| !Arc::ptr_eq(other, &place));
            front.threads.len() != before
        };
        loop {
            let look = self.with(|front| {
                let served = place.served.load(Ordering::Relaxed);
                let look = front.arbiter.look(served);
                if let Look::Refused(_) = look {
                    out(front);
                }
                look
            });
            match look {
                Look::Granted => return Ok(()),
                Look::Refused(refusal) => return Err(refusal),
                Look::Waiting | Look::Suspended if patient => place.told.wait(),
                Look::Waiting | Look::Suspended => {
                    return if self.with(out) {
                        Err(Status::DEVICE_BUSY)
                    } else {
                        Ok(())
                    };
                }
            }
        }
    }

    /// `Line::leave`
    pub fn leave(&self, owner: Owner) -> bool {
        let next = self.with(|front| {
            let left = front.arbiter.release(|other| other == owner)?;
            if left.was_system {
                front.tell_all();
            }
            Some(if left.pass_on {
                self.next(front)
            } else {
                Next::Done
            })
        });
        if let Some(Next::Irp(before)) = next {
            self.pass_on(before);
        }
        next.is_some()
    }

    fn pass_on(&self, before: u64) {
        let mut next = Next::Irp(before);
        while let Next::Irp(before) = next {
            let irp = self.with(|front| {
                let index = front.irps.iter().position(|(ticket, _)| *ticket < before)?;
                front.irps.remove(index)
            });
            if let Some((_, number)) = irp {
                self.with(|front| {
                    assert!(!front.system_wants, "the IRP before the system");
                    front.arbiter.give(Owner::Irp(number));
                });
                self.grant(number);
            }
            next = self.with(|front| self.next(front));
        }
    }

    fn next(&self, front: &mut Front) -> Next {
        let oldest = Oldest {
            irp: front.irps.front().map(|(ticket, _)| *ticket),
            thread: front
                .threads
                .front()
                .map(|(ticket, place)| (*ticket, Owner::Thread(place.number))),
        };
        let next = front.arbiter.next(&self.taken, oldest);
        match next {
            Next::System => front.tell_all(),
            Next::Thread => {
                assert!(!front.system_wants, "a thread before the system");
                if let Some((_, place)) = front.threads.pop_front() {
                    place.served.store(true, Ordering::Relaxed);
                    place.told.notify();
                }
            }
            Next::Done | Next::Irp(_) => {}
        }
        next
    }

    /// `Line::close`
    pub fn close(&self, status: Status) {
        self.with(|front| {
            front.arbiter.refuse(status, |_| true);
            front.tell_all();
        });
        while self
            .with(|front| {
                let irp = front.irps.pop_front();
                self.complete(irp.is_some());
                irp
            })
            .is_some()
        {}
    }

    /// An IRP that waits is cancelled, if there is one.
    pub fn cancel(&self) {
        self.with(|front| {
            self.complete(front.irps.pop_front().is_some());
        });
    }

    /// How many IRPs are over, and how many of them had the thing.
    pub fn completed(&self) -> (u32, u32) {
        let [completed, granted] =
            [&self.completed, &self.granted].map(|it| it.load(Ordering::Relaxed));
        (completed, granted)
    }

    fn complete(&self, any: bool) {
        self.completed.fetch_add(u32::from(any), Ordering::Relaxed);
    }

    /// No client has the thing, and none waits for it.
    pub fn assert_at_rest(&self) {
        assert!(!self.taken.is_set(), "a free was lost");
        self.with(|front| {
            assert!(!front.arbiter.is_owned_by(|_| true));
            assert!(front.irps.is_empty() && front.threads.is_empty());
        });
    }
}

impl Front {
    fn tell_all(&self) {
        for (_, place) in &self.threads {
            place.told.notify();
        }
    }
}

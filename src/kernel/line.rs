//! A thing that one at a time may have, and the line in front of it.

mod places;

use core::{ptr, sync::atomic::AtomicBool};

use super::{
    Device, Disposition, Irp, Role, Waiter, Waits,
    irp::FileId,
    milliseconds,
    queue::{Admission, Pick, Queue},
};
use crate::{
    ioctl::Status,
    sharing::{Arbiter, Arrival, Flag as _, Look, Next, Oldest},
};
use places::{Place, Places, Pointer};

/// Who has the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A request that came through this open. Kernel clients may send requests without one.
    Open(FileId),
    /// A kernel client, by a routine that it called: which one is not known.
    Caller,
    /// A kernel client, by a routine that it called from its interrupt service routine.
    InterruptService,
    /// A device object and its thread; the number tells them apart.
    Device(usize),
    /// The driver itself: the thing is not for others now.
    System,
}

/// Which owners are meant.
pub(crate) type Accepts<'a> = &'a (dyn Fn(Owner) -> bool + Sync);

/// A thing with one owner at a time, and everybody who waits for it, in the order of arrival:
/// requests of kernel clients, which pend, and threads, which wait.
///
/// It passes from owner to owner at <= `DISPATCH_LEVEL`. Nothing is locked meanwhile: having the
/// thing is a state, not a lock. While nobody has it, nobody waits.
///
/// Who has it and who gets it next is the [`Arbiter`]'s to say; here are the IRPs and the threads.
pub(crate) struct Line {
    queue: Queue<Front>,
    /// Somebody has the thing, or it is being passed on. Apart from the other state, for interrupt
    /// service routines cannot take the queue's lock.
    taken: AtomicBool,
}

/// What the line keeps under its lock.
struct Front {
    arbiter: Arbiter<Owner>,
    threads: Places<Waiting>,
}

/// How a thread waits.
#[derive(Clone, Copy)]
struct Waiting {
    ticket: u64,
    owner: Owner,
    waiter: *const Waiter,
}

// SAFETY: what a waiter has may be used by every thread.
unsafe impl Send for Waiting {}

impl Waiting {
    /// Lets the thread look how its wait stands. Under the line's lock, while the thread is in the
    /// line, or was until now.
    fn tell(self) {
        // SAFETY: its thread waits, and with it the one that it waits as: it does not go on before
        // it has had the lock.
        unsafe { &*self.waiter }.told().set();
    }
}

/// An IRP that arrives at the line.
pub(super) struct Newcomer {
    /// [`Line::taken`]
    taken: *const AtomicBool,
    owner: Owner,
    granted: bool,
}

impl Admission for Front {
    type Arrival = Newcomer;

    fn admit(&mut self, arrival: &mut Newcomer) -> Result<u64, Status> {
        // SAFETY: `Line::arrive` passed its own, and waits for this call.
        let taken = unsafe { &*arrival.taken };
        match self.arbiter.arrive(taken, arrival.owner)? {
            Arrival::Waits(ticket) => Ok(ticket),
            Arrival::Has => {
                arrival.granted = true;
                // A queue takes errors for a refusal only.
                Err(Status::UNSUCCESSFUL)
            }
        }
    }
}

/// How long a thread waits for the thing, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// So long as others than the system have it. What the system has is waited for without an
    /// end: for whoever holds up no request of the system.
    Awake(u32),
    /// So long, whoever has it.
    InAll(u32),
}

impl Line {
    /// The line of `device`, whose IRPs wait in it. The system has the thing.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            queue: Queue::try_new(
                device,
                Front {
                    arbiter: Arbiter::new(Owner::System),
                    threads: Places::new(),
                },
            )?,
            taken: AtomicBool::new(true),
        })
    }

    /// Whether nobody has the thing.
    pub(crate) fn is_free(&self) -> bool {
        !self.taken.is_set()
    }

    /// Whether the owner is one that `is` accepts.
    pub(crate) fn is_owned_by(&self, is: Accepts<'_>) -> bool {
        self.queue
            .with(move |front, _| front.arbiter.is_owned_by(is))
    }

    /// How many IRPs wait.
    pub(crate) fn waiting_requests(&self) -> u32 {
        self.queue.with(|_, queued| queued.count)
    }

    /// Takes the thing if it is free; never waits. At <= `DISPATCH_LEVEL`.
    pub(crate) fn try_take(&self, owner: Owner) -> bool {
        let taken = &self.taken;
        self.queue
            .with(|front, _| front.arbiter.try_take(taken, owner))
    }

    /// The system takes the thing: now, or as soon as its owner leaves it. At <= `DISPATCH_LEVEL`.
    pub(crate) fn reserve(&self) {
        let taken = &self.taken;
        self.queue.with(|front, _| front.arbiter.reserve(taken));
    }

    /// The end of [`Line::reserve`]. Whether the system has taken the thing: it is to leave it.
    pub(crate) fn end_reservation(&self) -> bool {
        self.queue.with(|front, _| front.arbiter.end_reservation())
    }

    /// Takes the thing if it is free, from an interrupt service routine. Its end begins
    /// with [`Line::claim_for_interrupt`].
    pub(crate) fn try_take_at_interrupt(&self) -> bool {
        !self.taken.replace(true)
    }

    /// What [`Line::try_take_at_interrupt`] took becomes the interrupt service routine's by name, so
    /// that it can be freed. Whether there is such a thing. At `DISPATCH_LEVEL`.
    pub(crate) fn claim_for_interrupt(&self) -> bool {
        let taken = &self.taken;
        self.queue
            .with(|front, _| front.arbiter.claim(taken, Owner::InterruptService))
    }

    /// An IRP asks for the thing. Once it has it, now or later, it goes to `grant`, which completes
    /// it; later it is the `grant` of whoever frees the thing. At <= `DISPATCH_LEVEL`.
    pub(crate) fn arrive(&self, irp: Irp, grant: &dyn Fn(Irp) -> Disposition) -> Disposition {
        let owner = Owner::Open(irp.file());
        if self.try_take(owner) {
            return grant(irp);
        }
        let mut arrival = Newcomer {
            taken: &raw const self.taken,
            owner,
            granted: false,
        };
        match self.queue.insert(irp, &mut arrival) {
            Ok(pending) => pending,
            // It became free in between.
            Err((irp, _)) if arrival.granted => grant(irp).pending(),
            Err((irp, refusal)) => irp.complete(refusal).pending(),
        }
    }

    /// A thread waits for the thing.
    ///
    /// # Errors
    /// `STATUS_DEVICE_BUSY`: it was not free in that time. The line's refusal. As
    /// [`Waits::check`].
    pub(crate) fn enter(
        &self,
        owner: Owner,
        waits: &Waits<'_>,
        patience: Patience,
    ) -> Result<(), Status> {
        let (limit, through_sleep) = match patience {
            Patience::Awake(limit) => (u64::from(limit), true),
            Patience::InAll(limit) => (u64::from(limit), false),
        };
        let thread = waits.waiter();
        let mut place = Place::new();
        // SAFETY: this thread stays here until the place has left the list, and uses it by this
        // pointer only, under the lock.
        let place = unsafe { Pointer::new(&raw mut place) };
        let taken = &self.taken;
        let arrived = self.queue.with(move |front, _| {
            let arrival = front.arbiter.arrive(taken, owner)?;
            if let Arrival::Waits(ticket) = arrival {
                let waiting = Waiting {
                    ticket,
                    owner,
                    waiter: ptr::from_ref(thread),
                };
                // SAFETY: it is new, and this function does not end before it has left the list.
                unsafe { front.threads.push(place, waiting) };
            }
            Ok(arrival)
        });
        if arrived? == Arrival::Has {
            return Ok(());
        }
        // Since when others than the system have had the thing.
        let mut since = None;
        loop {
            let left = match self.look(place) {
                Look::Granted => return Ok(()),
                Look::Refused(refusal) => return Err(refusal),
                Look::Suspended if through_sleep => {
                    since = None;
                    None
                }
                Look::Waiting | Look::Suspended => {
                    let now = milliseconds();
                    let waited = now.saturating_sub(*since.get_or_insert(now));
                    Some(limit.saturating_sub(waited))
                }
            };
            let result = if left == Some(0) {
                Err(Status::DEVICE_BUSY)
            } else {
                // No more than the patience, a u32.
                let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
                waits.wait_to_be_told(left)
            };
            if let Err(why) = result {
                // Granted at the last moment: the operation itself finds out that it shall end.
                let left = self
                    .queue
                    .with(move |front, _| front.threads.take_out(place));
                return if left { Err(why) } else { Ok(()) };
            }
        }
    }

    fn look(&self, place: Pointer<Waiting>) -> Look {
        self.queue.with(move |front, _| {
            let look = front.arbiter.look(place.is_served());
            if let Look::Refused(_) = look {
                front.threads.take_out(place);
            }
            look
        })
    }

    /// Frees the thing, if its owner is one that `is` accepts, and passes it on. An IRP that gets
    /// it goes to `grant`, which completes it. Whether it was freed. At <= `DISPATCH_LEVEL`.
    pub(crate) fn leave(&self, is: Accepts<'_>, grant: &dyn Fn(Irp) -> Disposition) -> bool {
        let left = self.queue.with(move |front, _| {
            let left = front.arbiter.leave(is)?;
            if left.was_system {
                front.threads.for_each(Waiting::tell);
            }
            Some(left)
        });
        if left.is_some_and(|left| left.pass_on) {
            self.pass_on(grant);
        }
        left.is_some()
    }

    /// Gives the thing to whoever waits longest, until somebody keeps it or nobody is left.
    fn pass_on(&self, grant: &dyn Fn(Irp) -> Disposition) {
        while let Next::Irp(before) = self.next() {
            if let Some(irp) = self.queue.next(Pick::Before(before)) {
                let owner = Owner::Open(irp.file());
                self.queue.with(move |front, _| front.arbiter.give(owner));
                let _ = grant(irp);
            }
        }
    }

    /// Who is next. A thread gets the thing at once.
    fn next(&self) -> Next {
        let taken = &self.taken;
        self.queue.with(|front, queued| {
            let oldest = Oldest {
                irp: queued.first,
                thread: front.threads.first().map(|it| (it.ticket, it.owner)),
            };
            let next = front.arbiter.next(taken, oldest);
            match next {
                Next::System => front.threads.for_each(Waiting::tell),
                Next::Thread => {
                    if let Some(thread) = front.threads.take_first() {
                        thread.tell();
                    }
                }
                Next::Done | Next::Irp(_) => {}
            }
            next
        })
    }

    /// Ends every wait with `status`, and refuses arrivals with it from now on. Whoever has the
    /// thing has it still. At <= `DISPATCH_LEVEL`.
    pub(crate) fn close(&self, status: Status) {
        self.shut(status, |_| true);
    }

    /// As [`Line::close`], until [`Line::open_again`]; a line that is closed stays so.
    pub(crate) fn close_for_now(&self, status: Status) {
        self.shut(status, Status::is_success);
    }

    /// The end of [`Line::close_for_now`] with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn open_again(&self, status: Status) {
        self.queue
            .with(move |front, _| front.arbiter.open_again(status));
    }

    fn shut(&self, status: Status, may: fn(Status) -> bool) {
        self.queue.with(move |front, _| {
            front.arbiter.refuse(status, may);
            front.threads.for_each(Waiting::tell);
        });
        while let Some(irp) = self.queue.next(Pick::Oldest) {
            let _ = irp.complete(status);
        }
    }

    /// Ends the waits of the requests of an open.
    pub(crate) fn clean_up(&self, file: FileId) {
        while let Some(irp) = self.queue.next(Pick::Of(file)) {
            let _ = irp.complete(Status::CANCELLED);
        }
    }
}

//! A thing that one at a time may have, and the line in front of it.

use core::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Device, Disposition, Irp, Role, Waits,
    irp::FileId,
    milliseconds,
    queue::{Admission, Pick, Queue},
};
use crate::ioctl::Status;

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
pub(crate) struct Line {
    queue: Queue<Places>,
    /// Somebody has the thing, or it is being passed on. Apart from the other state, for interrupt
    /// service routines cannot take the queue's lock.
    taken: AtomicBool,
}

/// What the line keeps under its lock.
struct Places {
    /// Nothing while the thing is being passed on.
    owner: Option<Owner>,
    /// Somebody is passing the thing on: who frees it meanwhile leaves it to them. So the line is
    /// walked in a loop, and not by a completion routine that frees in the completion that it
    /// frees in.
    passing: bool,
    /// The system has the thing next, before everybody who waits.
    reserved: bool,
    /// What arrivals are answered with: success while the line is open.
    refusal: Status,
    next_ticket: u64,
    /// The threads that wait, the oldest first.
    threads: *const Place,
}

// SAFETY: the places are alive while they are in the list, and used under the lock.
unsafe impl Send for Places {}

/// The place of a thread in the line, on its stack.
struct Place {
    next: Cell<*const Place>,
    ticket: Cell<u64>,
    owner: Owner,
    granted: Cell<bool>,
    waiter: *const super::Waiter,
}

/// A place, for critical sections.
#[derive(Clone, Copy)]
struct PlacePointer(*const Place);

// SAFETY: used under the lock.
unsafe impl Send for PlacePointer {}

impl PlacePointer {
    /// # Safety
    /// The place lives, and the line's lock is held.
    unsafe fn get<'a>(self) -> &'a Place {
        // SAFETY: the caller's promise.
        unsafe { &*self.0 }
    }
}

/// An IRP that arrives at the line.
pub(super) struct Arrival {
    /// [`Line::taken`]
    taken: *const AtomicBool,
    owner: Owner,
    granted: bool,
}

impl Admission for Places {
    type Arrival = Arrival;

    fn admit(&mut self, arrival: &mut Arrival) -> Result<u64, Status> {
        // SAFETY: `Line::arrive` passed its own, and waits for this call.
        let taken = unsafe { &*arrival.taken };
        self.arrive(taken, arrival.owner)
            .inspect_err(|granted| arrival.granted = *granted == Status::SUCCESS)
            // A queue takes errors for a refusal only.
            .map_err(|status| {
                if status.is_success() {
                    Status::UNSUCCESSFUL
                } else {
                    status
                }
            })
    }
}

impl Places {
    /// Somebody arrives: they get a ticket.
    ///
    /// # Errors
    /// They need none: `STATUS_SUCCESS`, the thing is theirs; or the refusal.
    fn arrive(&mut self, taken: &AtomicBool, owner: Owner) -> Result<u64, Status> {
        if !self.refusal.is_success() {
            return Err(self.refusal);
        }
        if !taken.swap(true, Ordering::AcqRel) {
            self.owner = Some(owner);
            return Err(Status::SUCCESS);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        Ok(ticket)
    }

    /// Appends a thread.
    fn push(&mut self, place: PlacePointer) {
        let mut last = ptr::null::<Place>();
        let mut each = self.threads;
        while !each.is_null() {
            last = each;
            // SAFETY: places in the list are alive, and the lock is held.
            each = unsafe { PlacePointer(each).get() }.next.get();
        }
        if last.is_null() {
            self.threads = place.0;
        } else {
            // SAFETY: likewise.
            unsafe { PlacePointer(last).get() }.next.set(place.0);
        }
    }

    /// Lets every thread that waits look how its wait stands.
    fn tell_all(&self) {
        let mut each = self.threads;
        while !each.is_null() {
            // SAFETY: places in the list are alive, and the lock is held.
            let place = unsafe { PlacePointer(each).get() };
            // SAFETY: its thread waits, and with it the one that it waits as.
            unsafe { &*place.waiter }.told().set();
            each = place.next.get();
        }
    }

    /// Gives the thing, which is being passed on, to the system.
    fn give_to_system(&mut self) {
        self.owner = Some(Owner::System);
        self.passing = false;
        // Their patience rests.
        self.tell_all();
    }

    /// Takes a thread out of the list. Whether it was there.
    fn unlink(&mut self, place: PlacePointer) -> bool {
        let mut before = ptr::null::<Place>();
        let mut each = self.threads;
        while !each.is_null() {
            // SAFETY: places in the list are alive, and the lock is held.
            let next = unsafe { PlacePointer(each).get() }.next.get();
            if each == place.0 {
                if before.is_null() {
                    self.threads = next;
                } else {
                    // SAFETY: likewise.
                    unsafe { PlacePointer(before).get() }.next.set(next);
                }
                return true;
            }
            before = each;
            each = next;
        }
        false
    }
}

/// What to do next with a thing that is being passed on.
enum Next {
    /// Nothing: somebody has it, or nobody wants it.
    Done,
    /// Give it to the oldest IRP with a lower ticket.
    Irp(u64),
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

/// How a thread's wait in the line stands.
enum Look {
    /// It has the thing.
    Granted,
    /// The line was closed, and the thread is no longer in it.
    Refused(Status),
    /// It waits for its turn.
    Waiting,
    /// It waits for the system, which has the thing.
    Suspended,
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
                Places {
                    owner: Some(Owner::System),
                    passing: false,
                    reserved: false,
                    refusal: Status::SUCCESS,
                    next_ticket: 0,
                    threads: ptr::null(),
                },
            )?,
            taken: AtomicBool::new(true),
        })
    }

    /// Whether nobody has the thing.
    pub(crate) fn is_free(&self) -> bool {
        !self.taken.load(Ordering::Acquire)
    }

    /// Whether the owner is one that `is` accepts.
    pub(crate) fn is_owned_by(&self, is: Accepts<'_>) -> bool {
        self.queue.with(move |line, _| line.owner.is_some_and(is))
    }

    /// How many IRPs wait.
    pub(crate) fn waiting_requests(&self) -> u32 {
        self.queue.with(|_, queued| queued.count)
    }

    /// Takes the thing if it is free; never waits. At <= `DISPATCH_LEVEL`.
    pub(crate) fn try_take(&self, owner: Owner) -> bool {
        let taken = &self.taken;
        self.queue.with(|line, _| {
            let free = line.refusal.is_success() && !taken.swap(true, Ordering::AcqRel);
            if free {
                line.owner = Some(owner);
            }
            free
        })
    }

    /// The system takes the thing: now, or as soon as its owner leaves it. At <= `DISPATCH_LEVEL`.
    pub(crate) fn reserve(&self) {
        let taken = &self.taken;
        self.queue.with(|line, _| {
            if taken.swap(true, Ordering::AcqRel) {
                line.reserved = true;
            } else {
                line.owner = Some(Owner::System);
            }
        });
    }

    /// The end of [`Line::reserve`]. Whether the system has taken the thing: it is to leave it.
    pub(crate) fn end_reservation(&self) -> bool {
        self.queue
            .with(|line, _| !core::mem::replace(&mut line.reserved, false))
    }

    /// Takes the thing if it is free, from an interrupt service routine. Its end begins
    /// with [`Line::claim_for_interrupt`].
    pub(crate) fn try_take_at_interrupt(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// What [`Line::try_take_at_interrupt`] took becomes the interrupt service routine's by name, so
    /// that it can be freed. Whether there is such a thing. At `DISPATCH_LEVEL`.
    pub(crate) fn claim_for_interrupt(&self) -> bool {
        let taken = &self.taken;
        self.queue.with(|line, _| {
            let unnamed = line.owner.is_none() && !line.passing && taken.load(Ordering::Acquire);
            if unnamed {
                line.owner = Some(Owner::InterruptService);
            }
            unnamed
        })
    }

    /// An IRP asks for the thing. Once it has it, now or later, it goes to `grant`, which completes
    /// it; later it is the `grant` of whoever frees the thing. At <= `DISPATCH_LEVEL`.
    pub(crate) fn arrive(&self, irp: Irp, grant: &dyn Fn(Irp) -> Disposition) -> Disposition {
        let owner = Owner::Open(irp.file());
        if self.try_take(owner) {
            return grant(irp);
        }
        let mut arrival = Arrival {
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
        let place = Place {
            next: Cell::new(ptr::null()),
            ticket: Cell::new(0),
            owner,
            granted: Cell::new(false),
            waiter: waits.waiter(),
        };
        let pointer = PlacePointer(&raw const place);
        let taken = &self.taken;
        let arrived = self.queue.with(move |line, _| {
            let ticket = line.arrive(taken, owner)?;
            // SAFETY: this thread's own place; the lock is held.
            unsafe { pointer.get() }.ticket.set(ticket);
            line.push(pointer);
            Ok(())
        });
        match arrived {
            Ok(()) => {}
            Err(Status::SUCCESS) => return Ok(()),
            Err(refusal) => return Err(refusal),
        }
        // Since when others than the system have had the thing.
        let mut since = None;
        loop {
            let left = match self.look(pointer) {
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
                let left = self.queue.with(move |line, _| line.unlink(pointer));
                return if left { Err(why) } else { Ok(()) };
            }
        }
    }

    fn look(&self, place: PlacePointer) -> Look {
        self.queue.with(move |line, _| {
            // SAFETY: the calling thread's place; the lock is held.
            if unsafe { place.get() }.granted.get() {
                Look::Granted
            } else if !line.refusal.is_success() {
                line.unlink(place);
                Look::Refused(line.refusal)
            } else if line.owner == Some(Owner::System) {
                Look::Suspended
            } else {
                Look::Waiting
            }
        })
    }

    /// Frees the thing, if its owner is one that `is` accepts, and passes it on. An IRP that gets
    /// it goes to `grant`, which completes it. Whether it was freed. At <= `DISPATCH_LEVEL`.
    pub(crate) fn leave(&self, is: Accepts<'_>, grant: &dyn Fn(Irp) -> Disposition) -> bool {
        let left = self.queue.with(move |line, _| {
            let owner = line.owner.take_if(|owner| is(*owner))?;
            if owner == Owner::System {
                // Their patience begins.
                line.tell_all();
            }
            Some(core::mem::replace(&mut line.passing, true))
        });
        match left {
            None => return false,
            // Whoever is passing things on finds this one.
            Some(true) => {}
            Some(false) => self.pass_on(grant),
        }
        true
    }

    /// Gives the thing to whoever waits longest, until somebody keeps it or nobody is left.
    fn pass_on(&self, grant: &dyn Fn(Irp) -> Disposition) {
        while let Next::Irp(before) = self.next() {
            if let Some(irp) = self.queue.next(Pick::Before(before)) {
                let owner = Owner::Open(irp.file());
                self.queue.with(move |line, _| line.owner = Some(owner));
                let _ = grant(irp);
            }
        }
    }

    /// Who is next. A thread gets the thing at once.
    fn next(&self) -> Next {
        let taken = &self.taken;
        self.queue.with(|line, queued| {
            if line.owner.is_some() {
                line.passing = false;
                return Next::Done;
            }
            if core::mem::replace(&mut line.reserved, false) {
                line.give_to_system();
                return Next::Done;
            }
            let Some(thread) = (!line.threads.is_null()).then_some(PlacePointer(line.threads))
            else {
                if queued.count > 0 {
                    return Next::Irp(u64::MAX);
                }
                line.passing = false;
                taken.store(false, Ordering::Release);
                return Next::Done;
            };
            // SAFETY: places in the list are alive, and the lock is held.
            let place = unsafe { thread.get() };
            if queued.first.is_some_and(|first| first < place.ticket.get()) {
                return Next::Irp(place.ticket.get());
            }
            line.unlink(thread);
            line.owner = Some(place.owner);
            line.passing = false;
            place.granted.set(true);
            // SAFETY: its thread waits, and with it the one that it waits as.
            unsafe { &*place.waiter }.told().set();
            Next::Done
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
        self.queue.with(move |line, _| {
            if line.refusal == status {
                line.refusal = Status::SUCCESS;
            }
        });
    }

    fn shut(&self, status: Status, may: fn(Status) -> bool) {
        self.queue.with(move |line, _| {
            if may(line.refusal) {
                line.refusal = status;
            }
            line.tell_all();
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

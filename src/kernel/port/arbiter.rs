//! Who has a shared port, and the queue of those who wait for it.

mod wait_list;

use core::{ptr, sync::atomic::AtomicBool};

use crate::kernel::{
    Device, Disposition, Irp, Role, Waiter, Waits,
    irp::FileId,
    milliseconds,
    queue::{Admission, Pick, Queue, Queued},
};
use crate::{
    ioctl::{Status, parallel::QueuedPortRequest},
    sharing::{Arbiter, Arrival, Flag as _, Look, Next, Oldest},
};
use wait_list::{WaitEntry, WaitEntryRef, WaitList};

/// Who has the port.
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
    /// The driver itself: the port is not for others now.
    System,
}

/// Which owners are meant.
#[derive(Clone, Copy)]
pub(crate) enum Owners {
    /// This one.
    Only(Owner),
    /// A kernel client, by a request or a routine but for its interrupt service routine; that of this
    /// open, if both are known.
    Client(FileId),
    /// Any other than this one.
    AllBut(Owner),
}

impl Owners {
    fn include(self, owner: Owner) -> bool {
        match (self, owner) {
            (Self::Only(one), owner) => one == owner,
            (Self::Client(file), Owner::Open(other)) => {
                file == other || file.is_none() || other.is_none()
            }
            (Self::Client(_), owner) => owner == Owner::Caller,
            (Self::AllBut(one), owner) => one != owner,
        }
    }
}

/// A port with one owner at a time, and everybody who waits for it, in the order of arrival:
/// requests of kernel clients, which pend, and threads, which wait.
///
/// It passes from owner to owner at <= `DISPATCH_LEVEL`. Nothing is locked meanwhile: having the
/// thing is a state, not a lock. While it is free, none waits.
///
/// Who has it and who gets it next is the [`Arbiter`]'s to say; here are the IRPs and the threads.
pub(crate) struct PortArbiter {
    queue: Queue<ArbiterState>,
    /// The port has an owner, or is being passed on. Apart from the other state, for interrupt
    /// service routines cannot take the queue's lock.
    taken: AtomicBool,
}

/// What the queue keeps under its lock.
struct ArbiterState {
    arbiter: Arbiter<Owner>,
    threads: WaitList<WaitingThread>,
}

/// How a thread waits.
#[derive(Clone, Copy)]
struct WaitingThread {
    ticket: u64,
    owner: Owner,
    waiter: *const Waiter,
}

// SAFETY: what a waiter has may be used by every thread.
unsafe impl Send for WaitingThread {}

impl WaitingThread {
    /// Lets the thread look how its wait stands. Under the arbiter's lock, while the thread is in
    /// the line, or was until now.
    fn tell(self) {
        // SAFETY: its thread waits, and with it the one that it waits as: it does not go on before
        // it has had the lock.
        unsafe { &*self.waiter }.told().set();
    }
}

/// An IRP that asks for the port.
pub(in crate::kernel) struct IrpArrival {
    /// [`PortArbiter::taken`]
    taken: *const AtomicBool,
    owner: Owner,
    granted: bool,
}

/// What an IRP that waits for the port carries.
pub(in crate::kernel) struct WaitingIrp {
    /// Its place in the order of arrival, once it has one.
    ticket: u64,
    /// What it asks for.
    request: QueuedPortRequest,
}

impl Admission for ArbiterState {
    type Arriving = IrpArrival;
    type Carried = WaitingIrp;
    type Aside = ();

    fn admit(&mut self, arrival: &mut IrpArrival, waiting: &mut WaitingIrp) -> Result<(), Status> {
        // SAFETY: `PortArbiter::acquire_for_irp` passed its own, and waits for this call.
        let taken = unsafe { &*arrival.taken };
        match self.arbiter.acquire(taken, arrival.owner)? {
            Arrival::Waits(ticket) => {
                waiting.ticket = ticket;
                Ok(())
            }
            Arrival::Has => {
                arrival.granted = true;
                // A queue takes errors for a refusal only.
                Err(Status::UNSUCCESSFUL)
            }
        }
    }

    fn ticket(waiting: &WaitingIrp) -> u64 {
        waiting.ticket
    }
}

/// Where requests go on that have the port.
pub(crate) trait Granter {
    /// What an IRP asked for that has the port now: completes it.
    fn grant(&self, irp: Irp, request: QueuedPortRequest) -> Disposition;
}

impl ArbiterState {
    /// Who is next. A thread gets the port at once.
    fn next(&mut self, taken: &AtomicBool, queued: &Queued<'_, Self>) -> Next {
        let oldest = Oldest {
            irp: queued.first(),
            thread: self.threads.first().map(|it| (it.ticket, it.owner)),
        };
        let next = self.arbiter.next(taken, oldest);
        match next {
            Next::System => self.threads.for_each(WaitingThread::tell),
            Next::Thread => {
                if let Some(thread) = self.threads.take_first() {
                    thread.tell();
                }
            }
            Next::Done | Next::Irp(_) => {}
        }
        next
    }
}

/// How long a thread waits for the port, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) enum AcquireTimeout {
    /// So long as others than the system have it. What the system has is waited for without an
    /// end: for a thread that holds up no request of the system.
    Awake(u32),
    /// So long, whichever client has it.
    InAll(u32),
}

impl PortArbiter {
    /// The arbiter of `device`, whose IRPs wait in it. The system has the port.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            queue: Queue::try_new(
                device,
                ArbiterState {
                    arbiter: Arbiter::new(Owner::System),
                    threads: WaitList::new(),
                },
                (),
            )?,
            taken: AtomicBool::new(true),
        })
    }

    /// Whether the port has no owner.
    pub(crate) fn is_free(&self) -> bool {
        !self.taken.is_set()
    }

    /// Whether the owner is one of these.
    pub(crate) fn is_owned_by(&self, owners: Owners) -> bool {
        self.queue
            .with(move |state, _| state.arbiter.is_owned_by(|owner| owners.include(owner)))
    }

    /// How many IRPs wait.
    pub(crate) fn waiting_requests(&self) -> u32 {
        self.queue.with(|_, queued| queued.count())
    }

    /// Takes the port if it is free; never waits. At <= `DISPATCH_LEVEL`.
    #[inline]
    pub(crate) fn try_acquire(&self, owner: Owner) -> bool {
        let taken = &self.taken;
        self.queue
            .with(|state, _| state.arbiter.try_acquire(taken, owner))
    }

    /// The system takes the port: now, or as soon as its owner leaves it. At <= `DISPATCH_LEVEL`.
    pub(crate) fn reserve(&self) {
        let taken = &self.taken;
        self.queue.with(|state, _| state.arbiter.reserve(taken));
    }

    /// The end of [`PortArbiter::reserve`]. Whether the system has taken the port: it is to leave
    /// it.
    pub(crate) fn end_reservation(&self) -> bool {
        self.queue.with(|state, _| state.arbiter.end_reservation())
    }

    /// Takes the port if it is free, from an interrupt service routine. Its end begins
    /// with [`PortArbiter::claim_for_interrupt`].
    pub(crate) fn try_acquire_at_interrupt(&self) -> bool {
        !self.taken.replace(true)
    }

    /// What [`PortArbiter::try_acquire_at_interrupt`] took becomes the interrupt service routine's
    /// by name, so that it can be freed. Whether there is such a thing. At `DISPATCH_LEVEL`.
    pub(crate) fn claim_for_interrupt(&self) -> bool {
        let taken = &self.taken;
        self.queue
            .with(|state, _| state.arbiter.claim(taken, Owner::InterruptService))
    }

    /// An IRP asks for the port. Once it has it, now or later, it goes to `granter`, which completes
    /// it; later it is the `granter` of the client that frees the port. At <= `DISPATCH_LEVEL`.
    pub(crate) fn acquire_for_irp(
        &self,
        irp: Irp,
        request: QueuedPortRequest,
        granter: &dyn Granter,
    ) -> Disposition {
        let owner = Owner::Open(irp.file());
        if self.try_acquire(owner) {
            return granter.grant(irp, request);
        }
        let mut arrival = IrpArrival {
            taken: &raw const self.taken,
            owner,
            granted: false,
        };
        let waiting = WaitingIrp { ticket: 0, request };
        match self.queue.insert(irp, &mut arrival, waiting) {
            Ok(pending) => pending,
            // It became free in between.
            Err((irp, _, _)) if arrival.granted => granter.grant(irp, request).pending(),
            Err((irp, _, refusal)) => irp.complete(refusal).pending(),
        }
    }

    /// A thread waits for the port.
    ///
    /// # Errors
    /// `STATUS_DEVICE_BUSY`: it was not free in that time. The arbiter's refusal. As
    /// [`Waits::check`].
    pub(crate) fn acquire(
        &self,
        owner: Owner,
        waits: &Waits<'_>,
        acquire_timeout: AcquireTimeout,
    ) -> Result<(), Status> {
        let (limit, through_sleep) = match acquire_timeout {
            AcquireTimeout::Awake(limit) => (u64::from(limit), true),
            AcquireTimeout::InAll(limit) => (u64::from(limit), false),
        };
        let thread = waits.waiter();
        let mut place = WaitEntry::new();
        // SAFETY: this thread stays here until the place has left the list, and uses it by this
        // pointer only, under the lock.
        let place = unsafe { WaitEntryRef::new(&raw mut place) };
        let taken = &self.taken;
        let arrived = self.queue.with(move |state, _| {
            let arrival = state.arbiter.acquire(taken, owner)?;
            if let Arrival::Waits(ticket) = arrival {
                let waiting = WaitingThread {
                    ticket,
                    owner,
                    waiter: ptr::from_ref(thread),
                };
                // SAFETY: it is new, and this function does not end before it has left the list.
                unsafe { state.threads.push(place, waiting) };
            }
            Ok(arrival)
        });
        if arrived? == Arrival::Has {
            return Ok(());
        }
        // Since when others than the system have had the port.
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
                // No more than the time-out, a u32.
                let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
                waits.wait_to_be_told(left)
            };
            if let Err(why) = result {
                // Granted at the last moment: the operation itself finds out that it shall end.
                let left = self
                    .queue
                    .with(move |state, _| state.threads.take_out(place));
                return if left { Err(why) } else { Ok(()) };
            }
        }
    }

    fn look(&self, place: WaitEntryRef<WaitingThread>) -> Look {
        self.queue.with(move |state, _| {
            let look = state.arbiter.look(place.is_served());
            if let Look::Refused(_) = look {
                state.threads.take_out(place);
            }
            look
        })
    }

    /// Frees the port, if its owner is one of these, and passes it on. An IRP that gets
    /// it goes to `granter`, which completes it. Whether it was freed. At <= `DISPATCH_LEVEL`.
    pub(crate) fn release(&self, owners: Owners, granter: &dyn Granter) -> bool {
        let taken = &self.taken;
        let next = self.queue.with(move |state, queued| {
            let left = state.arbiter.release(|owner| owners.include(owner))?;
            if left.was_system {
                state.threads.for_each(WaitingThread::tell);
            }
            Some(if left.pass_on {
                state.next(taken, &queued)
            } else {
                Next::Done
            })
        });
        if let Some(Next::Irp(before)) = next {
            self.pass_on(before, granter);
        }
        next.is_some()
    }

    /// Gives the port to the client that waits longest, until one keeps it or none is left. The
    /// first is an IRP whose ticket is lower than `before`.
    #[cold]
    fn pass_on(&self, before: u64, granter: &dyn Granter) {
        let taken = &self.taken;
        let mut next = Next::Irp(before);
        while let Next::Irp(before) = next {
            if let Some((irp, waiting)) = self.queue.next(Pick::Before(before)) {
                let owner = Owner::Open(irp.file());
                self.queue.with(move |state, _| state.arbiter.give(owner));
                let _ = granter.grant(irp, waiting.request);
            }
            next = self.queue.with(|state, queued| state.next(taken, &queued));
        }
    }

    /// Ends every wait with `status`, and refuses arrivals with it from now on. A client that has
    /// the thing has it still. At <= `DISPATCH_LEVEL`.
    pub(crate) fn close(&self, status: Status) {
        self.shut(status, |_| true);
    }

    /// As [`PortArbiter::close`], until [`PortArbiter::open_again`]; an arbiter that is closed
    /// stays so.
    pub(crate) fn close_for_now(&self, status: Status) {
        self.shut(status, Status::is_success);
    }

    /// The end of [`PortArbiter::close_for_now`] with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn open_again(&self, status: Status) {
        self.queue
            .with(move |state, _| state.arbiter.open_again(status));
    }

    fn shut(&self, status: Status, may: fn(Status) -> bool) {
        self.queue.with(move |state, _| {
            state.arbiter.refuse(status, may);
            state.threads.for_each(WaitingThread::tell);
        });
        self.queue.end_all(Pick::Oldest, status);
    }

    /// Ends the waits of the requests of an open.
    pub(crate) fn clean_up(&self, file: FileId) {
        self.queue.end_all(Pick::Of(file), Status::CANCELLED);
    }
}

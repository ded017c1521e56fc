//! Serving the requests of a channel, one after the other.

use core::{ffi::c_void, mem::ManuallyDrop, ptr::NonNull, sync::atomic::Ordering};

use wdk_sys::{
    DEVICE_OBJECT, IRP, NTSTATUS, PVOID, STATUS_MORE_PROCESSING_REQUIRED, ntddk::IofCallDriver,
};

use super::{
    super::{
        super::{Buffer, Irp, Shared, irp::KeptHold, queue::Pick},
        Data, Memory, PartialMdl, Transfer, Urb,
    },
    Channel, End, Exchange, Next, Time, now,
};
use crate::{ioctl::Status, sharing::Flight};

/// How a transfer ended: how many bytes it moved.
type Outcome = Result<usize, Failure>;

/// A transfer that failed, or was not sent.
pub(super) struct Failure {
    status: Status,
    /// Bytes that were moved all the same.
    count: usize,
}

impl Failure {
    /// The transfer was not sent.
    const fn unsent(status: Status) -> Self {
        Self { status, count: 0 }
    }
}

/// What belongs to the runner, whichever request it serves.
pub(super) struct Work<E> {
    pub(super) exchange: E,
    own: Buffer,
    carried: Option<Buffer>,
    /// Bytes of the transfer that was sent.
    length: usize,
    /// That of the request.
    time: Time,
    /// For direct requests.
    part: Option<PartialMdl>,
}

impl<E> Work<E> {
    pub(super) const fn new(exchange: E, own: Buffer, part: Option<PartialMdl>) -> Self {
        Self {
            exchange,
            own,
            carried: None,
            length: 0,
            time: Time {
                limit: None,
                renews: false,
            },
            part,
        }
    }
}

/// The right to serve requests of a channel: there is one at a time. It has an IRP that holds the
/// device, or the reference of one that it completed, or works for a caller who holds the device.
pub(super) struct Runner<E>(Shared<Channel<E>>);

impl<E: Exchange> Runner<E> {
    /// For whoever made the channel busy.
    pub(super) fn new(channel: &Shared<Channel<E>>) -> Self {
        Self(channel.clone())
    }

    pub(super) fn work(&mut self) -> &mut Work<E> {
        // SAFETY: there is one runner, and this borrows it.
        unsafe { &mut *self.0.work.get() }
    }

    /// A request will be served in a moment: whoever ends requests from now on ends it, too.
    fn announce(&self) {
        self.0.flight.with(Flight::announce);
    }

    /// There is no request, or it is over.
    fn retire(&self) {
        self.0.flight.with(Flight::retire);
    }

    /// Serves what is queued.
    pub(super) fn serve_queue(self) {
        if let Some((runner, irp, carried)) = self.next_request() {
            runner.begin_and_run(irp, carried);
        }
    }

    /// The next request, if there is one; else this was the runner's end.
    fn next_request(self) -> Option<(Self, Irp, Option<Buffer>)> {
        let channel = &self.0;
        loop {
            // Before it leaves the queue, so that nobody who ends requests misses it.
            self.announce();
            if !channel.traffic.is_held(channel.lane)
                && let Some((irp, carried)) = channel.queue.next_with(Pick::Oldest)
            {
                return Some((self, irp, carried));
            }
            self.retire();
            let more = channel.queue.with(|busy, queued| {
                busy.0 = queued.first.is_some() && !channel.traffic.is_held(channel.lane);
                busy.0
            });
            if !more {
                channel.traffic.tell(channel.lane);
                return None;
            }
        }
    }

    fn begin_and_run(mut self, irp: Irp, carried: Option<Buffer>) {
        self.begin(&irp, carried);
        self.run(irp, None);
    }

    /// A request begins, and its time.
    fn begin(&mut self, irp: &Irp, carried: Option<Buffer>) {
        let discard = self.0.discard.swap(false, Ordering::AcqRel);
        let work = self.work();
        if discard {
            work.exchange.discard();
        }
        work.time = work.exchange.begin(irp);
        work.carried = carried;
        if let Some(limit) = work.time.limit {
            self.arm(limit);
        }
    }

    /// The request's time begins, or begins anew.
    fn arm(&self, limit: u64) {
        let deadline = now().saturating_add(limit);
        self.0
            .flight
            .with(move |flight| flight.set_deadline(deadline));
        // One owner is the timer's.
        let _ = self.0.clone().into_raw();
        // SAFETY: the channel stays while the timer has its owner.
        if unsafe { self.0.timer.start(limit) } {
            // It was running, and has one already.
            // SAFETY: the owner from above.
            drop(unsafe { Shared::<Channel<E>>::from_raw(self.0.as_raw()) });
        }
    }

    /// Goes on with a request until the USB stack has it, or no more are queued. `outcome`: how the
    /// URB ended that it had.
    pub(super) fn run(self, irp: Irp, outcome: Option<Outcome>) {
        let (mut runner, mut irp, mut outcome) = (self, irp, outcome);
        loop {
            let work = runner.work();
            let mut renew = None;
            let next = match outcome.take() {
                Some(Err(Failure { status, count })) => {
                    let own = &mut work.own;
                    Next::End(work.exchange.failed(status, count, &mut irp, own))
                }
                Some(Ok(count)) => {
                    work.exchange.moved(count);
                    renew = work.time.limit.filter(|_| work.time.renews && count != 0);
                    work.exchange.next(&mut irp, &mut work.own)
                }
                None => work.exchange.next(&mut irp, &mut work.own),
            };
            match next {
                Next::Transfer(transfer, data) => {
                    if let Some(limit) = renew {
                        runner.arm(limit);
                    }
                    match runner.send(irp, transfer, data) {
                        Some((again, back, end)) => {
                            (runner, irp, outcome) = (again, back, Some(end));
                        }
                        None => return,
                    }
                }
                Next::End(end) => {
                    // Given up after the runner: last of all, or when the next request is there.
                    let _hold = runner.finish(irp, &end);
                    match runner.next_request() {
                        Some((again, next, carried)) => {
                            (runner, irp) = (again, next);
                            runner.begin(&irp, carried);
                        }
                        None => return,
                    }
                }
            }
        }
    }

    /// Ends a request. The device stays until what comes back is dropped.
    fn finish(&mut self, irp: Irp, end: &End) -> KeptHold {
        if self.0.timer.cancel() {
            // SAFETY: the timer's owner, which its routine will not take now.
            drop(unsafe { Shared::<Channel<E>>::from_raw(self.0.as_raw()) });
        }
        self.retire();
        let work = self.work();
        if let Some(carried) = work.carried.take() {
            work.exchange.give_back(carried);
        }
        // Before the pages that it describes are unlocked.
        if let Some(part) = &mut work.part {
            part.prepare();
        }
        let (status, information) = match *end {
            End::With(status, information) => (status, information),
            End::Answer(length) => {
                let packet = work.own.get(..length).unwrap_or_default();
                (Status::SUCCESS, irp.put_output(packet))
            }
        };
        irp.complete_keeping_hold(status, information)
    }

    /// Where the data is.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: not there.
    fn memory(&mut self, irp: &Irp, data: Data) -> Result<Memory, Status> {
        let work = self.work();
        let memory = match data {
            Data::Caller { offset, length } => match irp.mdl() {
                Some(whole) => work
                    .part
                    .as_mut()
                    .and_then(|part| {
                        // SAFETY: the I/O manager's MDL; `finish` prepares ours before the request
                        // ends.
                        unsafe { part.describe(whole, offset, length) }
                    })
                    .map(|part| Memory::pages(part, length)),
                None => irp
                    .buffered(offset, length)
                    .map(|start| Memory::buffer(start, length)),
            },
            Data::Output { length } => irp
                .output(length)
                .map(|start| Memory::buffer(start, length)),
            Data::Own { length } => work
                .own
                .get_mut(..length)
                .map(|own| Memory::buffer(own.as_mut_ptr(), length)),
            Data::Carried { length } => work
                .carried
                .as_deref_mut()
                .unwrap_or_default()
                .get_mut(..length)
                .map(|carried| Memory::buffer(carried.as_mut_ptr(), length)),
        };
        memory.ok_or(Status::INVALID_PARAMETER)
    }

    /// Sends a URB with the request's IRP. If it comes back at once, or does not go out, the rest
    /// is the caller's.
    fn send(
        mut self,
        mut irp: Irp,
        transfer: Transfer,
        data: Data,
    ) -> Option<(Self, Irp, Outcome)> {
        let memory = match self.memory(&irp, data) {
            Ok(memory) => memory,
            Err(status) => return Some((self, irp, Err(Failure::unsent(status)))),
        };
        self.work().length = memory.length();
        if let Err(refusal) = self.0.traffic.enter() {
            return Some((self, irp, Err(Failure::unsent(refusal))));
        }
        let urb = self.0.urb.get();
        // SAFETY: the runner's until the IRP is sent.
        unsafe { urb.write(Urb::transfer(transfer, memory)) };
        let raw = irp.raw();
        let lower = self.0.lower;
        let channel = self.0.as_raw();
        irp.set_urb(urb.cast(), Some(completed::<E>), channel.as_ptr());
        let irp = ManuallyDrop::new(irp);
        let departed = self
            .0
            .flight
            .with(move |flight| flight.depart(irp, |irp| irp.is_cancelled()));
        if let Err((irp, why)) = departed {
            let irp = ManuallyDrop::into_inner(irp);
            self.0.traffic.leave();
            return Some((self, irp, Err(Failure::unsent(why))));
        }
        // The runner is nobody's now, and its owner of the channel stays with it: while there are
        // holders, it is there, and after them nothing of it is touched here.
        let Self(owner) = self;
        let _ = owner.into_raw();
        // SAFETY: the stack location is filled, and the IRP handed over; the completion routine
        // keeps it. What it returns says nothing new.
        let _ = unsafe { IofCallDriver(lower.raw().as_ptr(), raw.as_ptr()) };
        // SAFETY: this is a holder.
        unsafe { let_go(channel) }
    }
}

/// A holder of the request that the USB stack had lets go of it. The last one takes up the runner;
/// for any other one the channel may be gone when this returns.
///
/// # Safety
/// `channel` is a `Shared<Channel<E>>`. The caller is one of the holders, and none any more after
/// this.
pub(super) unsafe fn let_go<E: Exchange>(
    channel: NonNull<c_void>,
) -> Option<(Runner<E>, Irp, Outcome)> {
    let (irp, why) = {
        // SAFETY: the channel stays while there are holders, and the lock is not touched after it
        // was let go.
        let flight = &unsafe { Shared::<Channel<E>>::peek(channel) }.flight;
        flight.with(Flight::let_go)?
    };
    let irp = ManuallyDrop::into_inner(irp);
    // SAFETY: `send` left its owner for the last holder.
    let mut runner = Runner(unsafe { Shared::<Channel<E>>::from_raw(channel) });
    runner.0.traffic.leave();
    // SAFETY: the URB came back, and the runner is here.
    let urb = unsafe { runner.0.urb.get().read() };
    let moved = urb.moved().min(runner.work().length);
    let status = irp.status();
    let outcome = if status.is_success() {
        Ok(moved)
    } else {
        Err(Failure {
            status: why.unwrap_or(status),
            // Else nobody wrote to it, and its length is what was asked for.
            count: if urb.has_failed() { moved } else { 0 },
        })
    };
    Some((runner, irp, outcome))
}

/// Completion routine of a request's IRP, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn completed<E: Exchange>(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    if let Some(context) = NonNull::new(context) {
        // SAFETY: `send` passed the channel; the completion is a holder.
        if let Some((runner, irp, outcome)) = unsafe { let_go::<E>(context) } {
            runner.run(irp, Some(outcome));
        }
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

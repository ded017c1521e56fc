//! Serving the requests of a channel, one after the other.

use core::{ffi::c_void, ptr::NonNull, sync::atomic::Ordering};

use wdk_sys::{
    DEVICE_OBJECT, IRP, NTSTATUS, PVOID, STATUS_MORE_PROCESSING_REQUIRED, ntddk::IofCallDriver,
};

use super::{
    super::{
        super::{Buffer, Irp, Shared, queue::Pick},
        Data, Memory, PartialMdl, Transfer, Urb,
    },
    Channel, Exchange, Next, now,
};
use crate::ioctl::Status;

/// What belongs to the runner, whichever request it serves.
pub(super) struct Work<E> {
    pub(super) exchange: E,
    own: Buffer,
    carried: Option<Buffer>,
    /// Bytes of the transfer that was sent.
    length: usize,
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
            part,
        }
    }
}

/// The right to serve requests of a channel: there is one at a time.
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
        self.0.flight.with(|flight| {
            flight.active = true;
            flight.why = None;
        });
    }

    /// There is no request, or it is over.
    fn retire(&self) {
        self.0.flight.with(|flight| {
            flight.active = false;
            flight.deadline = None;
        });
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
                busy.0 = queued.count > 0 && !channel.traffic.is_held(channel.lane);
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
        let work = self.work();
        work.exchange.begin(irp);
        work.carried = carried;
        let limit = self.0.limit.load(Ordering::Relaxed);
        if limit != 0 {
            let deadline = now().saturating_add(limit);
            self.0
                .flight
                .with(move |flight| flight.deadline = Some(deadline));
            // One owner is the timer's.
            let _ = self.0.clone().into_raw();
            // SAFETY: the channel stays while the timer has its owner.
            unsafe { self.0.timer.start(limit) };
        }
    }

    /// Goes on with a request until the USB stack has it, or no more are queued. `result`: how the
    /// URB ended that it had.
    pub(super) fn run(self, irp: Irp, result: Option<Result<usize, Status>>) {
        let (mut runner, mut irp, mut result) = (self, irp, result);
        loop {
            let work = runner.work();
            let next = match result.take() {
                Some(Err(status)) => Next::End(status, 0),
                Some(Ok(count)) => {
                    work.exchange.moved(count);
                    work.exchange.next(&mut irp, &mut work.own)
                }
                None => work.exchange.next(&mut irp, &mut work.own),
            };
            match next {
                Next::Transfer(transfer, data) => match runner.send(irp, transfer, data) {
                    Some((again, back, end)) => (runner, irp, result) = (again, back, Some(end)),
                    None => return,
                },
                end => {
                    runner.finish(irp, &end);
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

    /// Ends a request.
    fn finish(&mut self, irp: Irp, end: &Next) {
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
        let _ = match *end {
            Next::Answer(length) => {
                let fits = length.min(irp.output_length());
                match work.own.get(..fits) {
                    Some(bytes) if fits != 0 => irp.answer(bytes),
                    _ => irp.complete(Status::SUCCESS),
                }
            }
            Next::End(status, information) => irp.complete_with(status, information),
            // Only ends come here.
            Next::Transfer(..) => irp.complete(Status::UNSUCCESSFUL),
        };
    }

    /// Where the data is.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: not there.
    fn memory(&mut self, irp: &Irp, data: Data) -> Result<Memory, Status> {
        let work = self.work();
        let memory = match data {
            Data::Caller { offset, length } => {
                let part = work.part.as_mut().zip(irp.mdl());
                part.and_then(|(part, whole)| {
                    // SAFETY: the I/O manager's MDL; `finish` prepares ours before the request
                    // ends.
                    unsafe { part.describe(whole, offset, length) }
                })
                .map(|part| Memory::pages(part, length))
            }
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
    ) -> Option<(Self, Irp, Result<usize, Status>)> {
        let memory = match self.memory(&irp, data) {
            Ok(memory) if !irp.is_cancelled() => memory,
            Ok(_) => return Some((self, irp, Err(Status::CANCELLED))),
            Err(status) => return Some((self, irp, Err(status))),
        };
        self.work().length = memory.length();
        if let Err(refusal) = self.0.traffic.enter() {
            return Some((self, irp, Err(refusal)));
        }
        let urb = self.0.urb.get();
        // SAFETY: the runner's until the IRP is sent.
        unsafe { urb.write(Urb::transfer(transfer, memory)) };
        let raw = irp.raw();
        let channel = self.0.clone();
        let context = channel.as_raw().as_ptr();
        irp.set_urb(urb.cast(), Some(completed::<E>), context);
        let refused = channel.flight.with(move |flight| {
            if let Some(why) = flight.why {
                return Err((irp, why));
            }
            flight.irp = Some(irp);
            // This sender, and the completion.
            flight.holders = 2;
            Ok(())
        });
        if let Err((irp, why)) = refused {
            channel.traffic.leave();
            return Some((self, irp, Err(why)));
        }
        // The runner is nobody's now. Its owner of the channel stays with it.
        let Self(owner) = self;
        let _ = owner.into_raw();
        // SAFETY: the stack location is filled, and the IRP handed over; the completion routine
        // keeps it. What it returns says nothing new.
        let _ = unsafe { IofCallDriver(channel.lower.raw().as_ptr(), raw.as_ptr()) };
        // SAFETY: this is a holder.
        unsafe { let_go(channel.as_raw()) }
    }
}

/// A holder of the request that the USB stack had lets go of it. The last one takes up the runner.
///
/// # Safety
/// `channel` is a `Shared<Channel<E>>`. The caller is one of the holders, and none any more after
/// this.
pub(super) unsafe fn let_go<E: Exchange>(
    channel: NonNull<c_void>,
) -> Option<(Runner<E>, Irp, Result<usize, Status>)> {
    let raw = channel;
    // SAFETY: the channel stays while there are holders.
    let channel = unsafe { Shared::<Channel<E>>::peek(raw) };
    let (irp, why) = channel.flight.with(|flight| {
        flight.holders = flight.holders.saturating_sub(1);
        let last = flight.holders == 0;
        Some((flight.irp.take_if(|_| last)?, flight.why))
    })?;
    channel.traffic.leave();
    // SAFETY: `send` left its owner for the last holder.
    let mut runner = Runner(unsafe { Shared::from_raw(raw) });
    let status = irp.status();
    let result = if status.is_success() {
        // SAFETY: the URB came back, and the runner is here.
        let moved = unsafe { &*channel.urb.get() }.moved();
        Ok(moved.min(runner.work().length))
    } else {
        Err(why.unwrap_or(status))
    };
    Some((runner, irp, result))
}

/// Completion routine of a request's IRP, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn completed<E: Exchange>(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    if let Some(context) = NonNull::new(context) {
        // SAFETY: `send` passed the channel; the completion is a holder.
        if let Some((runner, irp, result)) = unsafe { let_go::<E>(context) } {
            runner.run(irp, Some(result));
        }
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

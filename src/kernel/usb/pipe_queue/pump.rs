//! Serving the requests of a pipe queue, one after the other.

use core::{ffi::c_void, mem::ManuallyDrop, ptr::NonNull, sync::atomic::Ordering};

use wdk_sys::{
    DEVICE_OBJECT, IRP, NTSTATUS, PVOID, STATUS_MORE_PROCESSING_REQUIRED, ntddk::IofCallDriver,
};

use super::{
    super::{
        super::{Buffer, Irp, Shared, irp::KeptHold, queue::Pick},
        Data, Memory, PartialMdl, Urb, UrbTransfer, report,
    },
    PipeQueue, PlanEnd, PlanStep, TimeLimit, TransferPlan, now,
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

/// What belongs to the pump, whichever request it serves.
pub(super) struct PumpState<E> {
    pub(super) plan: E,
    bounce: Buffer,
    /// Bytes of the transfer that was sent.
    length: usize,
    /// That of the request.
    time: TimeLimit,
    /// For direct requests.
    part: Option<PartialMdl>,
}

impl<E> PumpState<E> {
    pub(super) const fn new(plan: E, bounce: Buffer, part: Option<PartialMdl>) -> Self {
        Self {
            plan,
            bounce,
            length: 0,
            time: TimeLimit {
                limit: None,
                renews: false,
            },
            part,
        }
    }
}

/// The right to serve requests of a pipe queue: there is one at a time. It has an IRP that holds
/// the device, or the reference of one that it completed, or works for a caller who holds the
/// device.
pub(super) struct Pump<E: TransferPlan>(Shared<PipeQueue<E>>);

impl<E: TransferPlan> Pump<E> {
    /// For the thread that made the pipe queue busy.
    pub(super) fn new(pipe_queue: &Shared<PipeQueue<E>>) -> Self {
        Self(pipe_queue.clone())
    }

    pub(super) fn work(&mut self) -> &mut PumpState<E> {
        // SAFETY: there is one pump, and this borrows it.
        unsafe { &mut *self.0.work.get() }
    }

    /// A request will be served in a moment: a thread that ends requests ends it, too.
    fn announce(&self) {
        self.0.flight.with(Flight::announce);
    }

    /// There is no request, or it is over.
    fn retire(&self) {
        self.0.flight.with(Flight::retire);
    }

    /// Serves what is queued.
    #[inline]
    pub(super) fn serve_queue(self) {
        if let Some((pump, irp, request)) = self.next_request() {
            pump.begin_and_run(irp, request);
        }
    }

    /// The next request, if there is one; else this was the pump's end.
    fn next_request(self) -> Option<(Self, Irp, E::Carried)> {
        let pipe_queue = &self.0;
        loop {
            // A request that is missed here is seen below, under the lock.
            if !pipe_queue.queue.is_empty() && !pipe_queue.urb_gate.is_held(pipe_queue.pipe_mask) {
                // Before it leaves the queue, so that no thread that ends requests misses it.
                self.announce();
                if let Some((irp, request)) = pipe_queue.queue.next(Pick::Oldest) {
                    return Some((self, irp, request));
                }
                self.retire();
            }
            let more = pipe_queue.queue.with(|busy, queued| {
                busy.0 = queued.is_any() && !pipe_queue.urb_gate.is_held(pipe_queue.pipe_mask);
                busy.0
            });
            if !more {
                pipe_queue.urb_gate.tell(pipe_queue.pipe_mask);
                return None;
            }
        }
    }

    fn begin_and_run(mut self, irp: Irp, request: E::Carried) {
        self.begin(&irp, request);
        self.run(irp, None);
    }

    /// A request begins, and its time.
    fn begin(&mut self, irp: &Irp, request: E::Carried) {
        let discard = self.0.discard.swap(false, Ordering::AcqRel);
        let work = self.work();
        if discard {
            work.plan.discard();
        }
        work.time = work.plan.begin(irp, request);
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
        // SAFETY: the pipe queue stays while the timer has its owner.
        if unsafe { self.0.timer.start(limit) } {
            // It was running, and has one already.
            // SAFETY: the owner from above.
            drop(unsafe { Shared::<PipeQueue<E>>::from_raw(self.0.as_raw()) });
        }
    }

    /// Goes on with a request until the USB stack has it, or no more are queued. `outcome`: how the
    /// URB ended that it had.
    pub(super) fn run(self, irp: Irp, outcome: Option<Outcome>) {
        let (mut pump, mut irp, mut outcome) = (self, irp, outcome);
        loop {
            let work = pump.work();
            let mut renew = None;
            let next = match outcome.take() {
                Some(Err(Failure { status, count })) => {
                    let bounce = &mut work.bounce;
                    PlanStep::End(work.plan.failed(status, count, &mut irp, bounce))
                }
                Some(Ok(count)) => {
                    work.plan.moved(count);
                    renew = work.time.limit.filter(|_| work.time.renews && count != 0);
                    work.plan.next(&mut irp, &mut work.bounce)
                }
                None => work.plan.next(&mut irp, &mut work.bounce),
            };
            match next {
                PlanStep::Transfer(transfer, data) => {
                    if let Some(limit) = renew {
                        pump.arm(limit);
                    }
                    match pump.send(irp, transfer, data) {
                        Some((again, back, end)) => {
                            (pump, irp, outcome) = (again, back, Some(end));
                        }
                        None => return,
                    }
                }
                PlanStep::End(end) => {
                    // Given up after the pump: last of all, or when the next request is there.
                    let _hold = pump.finish(irp, &end);
                    match pump.next_request() {
                        Some((again, next, request)) => {
                            (pump, irp) = (again, next);
                            pump.begin(&irp, request);
                        }
                        None => return,
                    }
                }
            }
        }
    }

    /// Ends a request. The device stays until what comes back is dropped.
    fn finish(&mut self, irp: Irp, end: &PlanEnd) -> KeptHold {
        if self.0.timer.cancel() {
            // SAFETY: the timer's owner, which its routine will not take now.
            drop(unsafe { Shared::<PipeQueue<E>>::from_raw(self.0.as_raw()) });
        }
        self.retire();
        let work = self.work();
        work.plan.ended();
        // Before the pages that it describes are unlocked.
        if let Some(part) = &mut work.part {
            part.prepare();
        }
        let (status, information) = match *end {
            PlanEnd::With(status, information) => (status, information),
            PlanEnd::Answer(length) => {
                let packet = work.bounce.get(..length).unwrap_or_default();
                (Status::SUCCESS, irp.put_output(packet))
            }
        };
        irp.complete_keeping_hold(status, information)
    }

    /// Sends a URB with the request's IRP. If it comes back at once, or does not go out, the rest
    /// is the caller's.
    fn send(
        mut self,
        mut irp: Irp,
        transfer: UrbTransfer,
        data: Data,
    ) -> Option<(Self, Irp, Outcome)> {
        let work = self.work();
        let carried = work.plan.carried();
        let memory = match memory(&irp, data, work.part.as_mut(), &mut work.bounce, carried) {
            Ok(memory) => memory,
            Err(status) => return Some((self, irp, Err(Failure::unsent(status)))),
        };
        self.work().length = memory.length();
        if let Err(refusal) = self.0.urb_gate.enter() {
            return Some((self, irp, Err(Failure::unsent(refusal))));
        }
        let urb = self.0.urb.get();
        // SAFETY: the pump's until the IRP is sent.
        unsafe { urb.write(Urb::transfer(transfer, memory)) };
        let raw = irp.raw();
        let lower = self.0.lower;
        let pipe_queue = self.0.as_raw();
        irp.set_urb(urb.cast(), Some(completed::<E>), pipe_queue.as_ptr());
        let irp = ManuallyDrop::new(irp);
        let departed = self
            .0
            .flight
            .with(move |flight| flight.depart(irp, |irp| irp.is_cancelled()));
        if let Err((irp, why)) = departed {
            let irp = ManuallyDrop::into_inner(irp);
            self.0.urb_gate.leave();
            return Some((self, irp, Err(Failure::unsent(why))));
        }
        // The pump has no owner now, and its owner of the pipe queue stays with it: while there are
        // holders, it is there, and after them nothing of it is touched here.
        let Self(owner) = self;
        let _ = owner.into_raw();
        // SAFETY: the stack location is filled, and the IRP handed over; the completion routine
        // keeps it. What it returns says nothing new.
        let _ = unsafe { IofCallDriver(lower.raw().as_ptr(), raw.as_ptr()) };
        // SAFETY: this is a holder.
        unsafe { release_irp(pipe_queue) }
    }
}

/// Where the data of a URB is: in the requester's pages, which `part` describes, or in what belongs
/// to the request.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: not there.
fn memory(
    irp: &Irp,
    data: Data,
    part: Option<&mut PartialMdl>,
    bounce: &mut [u8],
    carried: &mut [u8],
) -> Result<Memory, Status> {
    let room = match data {
        Data::Caller { offset, length } => match irp.mdl() {
            Some(whole) => {
                return part
                    .and_then(|part| {
                        // SAFETY: the I/O manager's MDL; `finish` prepares ours before the request
                        // ends.
                        unsafe { part.describe(whole, offset, length) }
                    })
                    .map(|part| Memory::pages(part, length))
                    .ok_or(Status::INVALID_PARAMETER);
            }
            None => irp.buffered(offset, length),
        },
        Data::Output { length } => irp.output(length),
        Data::Bounce { length } => bounce.get_mut(..length).map(<[u8]>::as_mut_ptr),
        Data::Carried { length } => carried.get_mut(..length).map(<[u8]>::as_mut_ptr),
    };
    let length = data.length();
    room.map(|start| Memory::buffer(start, length))
        .ok_or(Status::INVALID_PARAMETER)
}

/// A holder of the request that the USB stack had lets go of it. The last one takes up the pump;
/// for any other one the pipe queue may be gone when this returns.
///
/// # Safety
/// `pipe_queue` is a `Shared<PipeQueue<E>>`. The caller is one of the holders, and none any more
/// after this.
pub(super) unsafe fn release_irp<E: TransferPlan>(
    pipe_queue: NonNull<c_void>,
) -> Option<(Pump<E>, Irp, Outcome)> {
    let (irp, why) = {
        // SAFETY: the pipe queue stays while there are holders, and the lock is not touched after
        // it was let go.
        let flight = &unsafe { Shared::<PipeQueue<E>>::peek(pipe_queue) }.flight;
        flight.with(Flight::release)?
    };
    let irp = ManuallyDrop::into_inner(irp);
    // SAFETY: `send` left its owner for the last holder.
    let mut pump = Pump(unsafe { Shared::<PipeQueue<E>>::from_raw(pipe_queue) });
    pump.0.urb_gate.leave();
    // SAFETY: the URB came back, and the pump is here.
    let urb = unsafe { pump.0.urb.get().read() };
    let moved = urb.moved().min(pump.work().length);
    let status = irp.status();
    let outcome = if status.is_success() {
        Ok(moved)
    } else {
        Err(Failure {
            status: {
                let label = pump.0.urb_gate.label();
                report::failure(label, pump.0.pipe_mask, &urb, status, why, moved);
                why.unwrap_or(status)
            },
            // Else nothing wrote to it, and its length is what was asked for.
            count: if urb.has_failed() { moved } else { 0 },
        })
    };
    Some((pump, irp, outcome))
}

/// Completion routine of a request's IRP, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn completed<E: TransferPlan>(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `send` passed the pipe queue.
    let context = unsafe { NonNull::new_unchecked(context) };
    // SAFETY: the completion is a holder.
    if let Some((pump, irp, outcome)) = unsafe { release_irp::<E>(context) } {
        pump.run(irp, Some(outcome));
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

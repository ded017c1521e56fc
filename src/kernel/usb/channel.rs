//! The requests that go one after the other on one pipe of one open.

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use wdk_sys::{
    DEVICE_OBJECT, IRP, KDPC, NTSTATUS, PVOID, STATUS_MORE_PROCESSING_REQUIRED,
    ntddk::{IoCancelIrp, IofCallDriver, KeQueryUnbiasedInterruptTime},
};

use super::{
    super::{
        Buffer, Device, Disposition, Irp, Lower, Role, Shared, SpinLock,
        queue::{Admission, Pick, Queue},
    },
    Data, Memory, PartialMdl, Timer, Traffic, Transfer, Urb,
};
use crate::ioctl::Status;

/// What the requests of a channel are made of. The methods are called one at a time, at
/// <= `DISPATCH_LEVEL`.
pub(crate) trait Exchange: Send + 'static {
    /// A request begins. `carried`: it brought memory with it.
    fn begin(&mut self, irp: &Irp, carried: bool);

    /// What is to be done now. `own` is the channel's own memory.
    fn next(&mut self, irp: &mut Irp, own: &mut [u8]) -> Next;

    /// The transfer went well and moved `count` bytes. [`Exchange::next`] follows.
    fn moved(&mut self, count: usize);

    /// The pipe was reset.
    fn reset(&mut self) {}
}

/// What is to be done for a request.
pub(crate) enum Next {
    /// Send this.
    Transfer(Transfer, Data),
    /// End it, with this Information.
    End(Status, usize),
    /// End it with the first bytes of the channel's own memory as its output, as many as fit.
    Answer(usize),
}

/// What a channel is made of.
pub(crate) struct ChannelOptions<'a> {
    /// The next-lower device object, that of the USB stack.
    pub(crate) lower: Lower,
    /// The device's URBs.
    pub(crate) traffic: &'a Shared<Traffic>,
    /// The bit of the pipe in [`Traffic::hold`]; 0 for the default pipe, which is never reset.
    pub(crate) lane: u32,
    /// Bytes of own memory.
    pub(crate) own: usize,
    /// Its requests are direct reads or writes.
    pub(crate) direct: bool,
    /// The time of a request, in 100 ns; `None`: for ever.
    pub(crate) limit: Option<u64>,
}

/// A queue of requests, and the one that is being served: its URB, its time.
///
/// The request's own IRP takes the URB to the USB stack, so whoever cancels the request cancels
/// the URB, too. Who ends a request for another reason does the same and leaves a note why.
///
/// While a request is served there is one [`Runner`]. It is in the hands of whoever goes on with
/// the request, and nobody's while the USB stack has the URB: the last one who looks at it then,
/// of its sender, its completion and those who cancel it, takes the runner up again. So nothing
/// recurses where a URB completes at once, and no IRP is touched that is gone.
pub(crate) struct Channel<E> {
    queue: Queue<Busy>,
    flight: SpinLock<Flight>,
    /// The USB stack's while it has it, else the runner's.
    urb: UnsafeCell<Urb>,
    /// The runner's.
    work: UnsafeCell<Work<E>>,
    timer: Timer,
    /// In 100 ns; 0: for ever.
    limit: AtomicU64,
    lower: Lower,
    traffic: Shared<Traffic>,
    lane: u32,
}

// SAFETY: each member is the kernel's, under a lock, or says who uses it: one at a time.
unsafe impl<E: Send> Send for Channel<E> {}
// SAFETY: likewise.
unsafe impl<E: Send> Sync for Channel<E> {}

/// Whether there is a runner.
struct Busy(bool);

impl Admission for Busy {
    type Arrival = ();

    fn admit(&mut self, (): &mut ()) -> Result<u64, Status> {
        Ok(0)
    }
}

/// The request that is being served.
struct Flight {
    /// There is one, or there will be in a moment.
    active: bool,
    /// Why it shall end.
    why: Option<Status>,
    /// When it shall end, by [`now`].
    deadline: Option<u64>,
    /// The request, while the USB stack has it.
    irp: Option<Irp>,
    /// Those who look at it meanwhile.
    holders: u32,
}

struct Work<E> {
    exchange: E,
    own: Buffer,
    carried: Option<Buffer>,
    /// Bytes of the transfer that was sent.
    length: usize,
    /// For direct requests.
    part: Option<PartialMdl>,
}

/// A clock for deadlines, in 100 ns.
fn now() -> u64 {
    // SAFETY: no requirements.
    unsafe { KeQueryUnbiasedInterruptTime() }
}

impl<E: Exchange> Channel<E> {
    /// A channel of `device`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(
        device: Device<'_, R>,
        options: &ChannelOptions<'_>,
        exchange: E,
    ) -> Result<Shared<Self>, Status> {
        let part = options.direct.then(PartialMdl::try_new).transpose()?;
        let channel = Shared::try_new(Self {
            queue: Queue::try_new(device, Busy(false))?,
            flight: SpinLock::new(Flight {
                active: false,
                why: None,
                deadline: None,
                irp: None,
                holders: 0,
            }),
            urb: UnsafeCell::new(Urb::EMPTY),
            work: UnsafeCell::new(Work {
                exchange,
                own: Buffer::try_zeroed(options.own)?,
                carried: None,
                length: 0,
                part,
            }),
            timer: Timer::new(),
            limit: AtomicU64::new(options.limit.unwrap_or(0)),
            lower: options.lower,
            traffic: options.traffic.clone(),
            lane: options.lane,
        })?;
        // SAFETY: the channel was just made, in pool, where it stays.
        unsafe {
            channel
                .timer
                .initialize(Some(time_over::<E>), channel.as_raw().as_ptr());
        }
        Ok(channel)
    }

    /// Sets the time of the requests that begin from now on.
    pub(crate) fn set_limit(&self, hundred_nanoseconds: Option<u64>) {
        let limit = hundred_nanoseconds.unwrap_or(0);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether no request is being served.
    pub(crate) fn is_idle(&self) -> bool {
        !self.queue.with(|busy, _| busy.0)
    }

    /// Ends the request that is being served, if there is one and `of` says so: soon, with
    /// `status`, unless it succeeds at this moment. At <= `DISPATCH_LEVEL`.
    fn end_flight(this: &Shared<Self>, status: Status, of: fn(&Flight) -> bool) {
        let irp = this.flight.with(move |flight| {
            if !flight.active || flight.why.is_some() || !of(flight) {
                return None;
            }
            flight.why = Some(status);
            let irp = flight.irp.as_ref().map(Irp::raw)?;
            flight.holders += 1;
            Some(Held(irp))
        });
        if let Some(Held(irp)) = irp {
            // SAFETY: as one of the holders; the IRP is not completed before they have let go.
            unsafe { IoCancelIrp(irp.as_ptr()) };
            // SAFETY: a holder since above.
            if let Some((runner, irp, result)) = unsafe { let_go::<E>(this.as_raw()) } {
                runner.run(irp, Some(result));
            }
        }
    }
}

/// An IRP that the USB stack has, to be cancelled.
struct Held(NonNull<IRP>);

// SAFETY: `IoCancelIrp` takes any IRP, in any thread.
unsafe impl Send for Held {}

impl<E: Exchange> Shared<Channel<E>> {
    /// Queues a request, which may have brought memory with it. At <= `DISPATCH_LEVEL`.
    pub(crate) fn request(&self, irp: Irp, carried: Option<Buffer>) -> Disposition {
        let pending = match self.queue.insert_with(irp, &mut (), carried) {
            Ok(pending) => pending,
            Err((irp, refusal)) => return irp.complete(refusal).pending(),
        };
        self.resume();
        pending
    }

    /// Goes on with the queue, if nobody does. At <= `DISPATCH_LEVEL`.
    pub(crate) fn resume(&self) {
        let ready = self.queue.with(|busy, queued| {
            let ready = !busy.0 && queued.count > 0 && !self.traffic.is_held(self.lane);
            busy.0 |= ready;
            ready
        });
        if ready {
            Runner(self.clone()).serve_queue();
        }
    }

    /// The channel for a request at once, if no other is served or queued.
    pub(crate) fn claim(&self) -> Option<Claim<E>> {
        let free = self.queue.with(|busy, queued| {
            let free = !busy.0 && queued.count == 0 && !self.traffic.is_held(self.lane);
            busy.0 |= free;
            free
        });
        free.then(|| Claim(Runner(self.clone())))
    }

    /// Ends every request, queued or being served, with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn end(&self, status: Status) {
        while let Some(irp) = self.queue.next(Pick::Oldest) {
            let _ = irp.complete(status);
        }
        self.end_active(status);
    }

    /// Ends the request that is being served with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn end_active(&self, status: Status) {
        Channel::end_flight(self, status, |_| true);
    }

    /// The pipe was reset, and is held yet; nothing is being served.
    pub(crate) fn reset(&self) {
        let free = self
            .queue
            .with(|busy, _| !core::mem::replace(&mut busy.0, true));
        if free {
            let mut runner = Runner(self.clone());
            runner.work().exchange.reset();
            runner.serve_queue();
        }
    }
}

/// The right to serve requests of a channel: there is one at a time.
struct Runner<E>(Shared<Channel<E>>);

/// A channel that was claimed for a request: to be started, or given up.
#[must_use = "the channel serves nobody until then"]
pub(crate) struct Claim<E>(Runner<E>);

impl<E: Exchange> Claim<E> {
    /// `length` bytes of the channel's own memory, if it has as many: for what the request brings.
    pub(crate) fn own(&mut self, length: usize) -> Option<&mut [u8]> {
        self.0.work().own.get_mut(..length)
    }

    /// Serves the request.
    pub(crate) fn start(self, irp: Irp) -> Disposition {
        let pending = irp.mark_pending();
        self.0.announce();
        self.0.begin_and_run(irp, None);
        pending
    }

    /// Gives the channel up.
    pub(crate) fn give_up(self) {
        self.0.serve_queue();
    }
}

impl<E: Exchange> Runner<E> {
    fn work(&mut self) -> &mut Work<E> {
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
    fn serve_queue(self) {
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
        work.exchange.begin(irp, carried.is_some());
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
    fn run(self, irp: Irp, result: Option<Result<usize, Status>>) {
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
        work.carried = None;
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
            Data::Carried => work
                .carried
                .as_mut()
                .map(|carried| Memory::buffer(carried.as_mut_ptr(), carried.len())),
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
unsafe fn let_go<E: Exchange>(
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

/// The time of a request is over.
unsafe extern "C" fn time_over<E: Exchange>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: PVOID,
    _second: PVOID,
) {
    if let Some(context) = NonNull::new(context) {
        // SAFETY: `begin` left this owner for the timer.
        let channel = unsafe { Shared::<Channel<E>>::from_raw(context) };
        // The request that the timer was started for may be over, and another one served.
        Channel::end_flight(&channel, Status::IO_TIMEOUT, |flight| {
            flight.deadline.is_some_and(|deadline| deadline <= now())
        });
    }
}

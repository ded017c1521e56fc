//! The requests that go one after the other on one pipe of one open.

mod pump;

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use wdk_sys::{
    IRP, KDPC, PVOID,
    ntddk::{IoCancelIrp, KeQueryUnbiasedInterruptTime},
};

use super::{
    super::{
        Buffer, Device, Disposition, Irp, Lower, Role, Shared, SpinLock,
        open::OpenRef,
        queue::{Admission, Pick, Queue, admit_of},
    },
    Data, DeviceUrbGate, PartialMdl, Timer, Urb, UrbTransfer,
};
use crate::{ioctl::Status, sharing::Flight};
use pump::{Pump, PumpState, release_irp};

/// What the requests of a pipe queue are made of: the role's business, which this room does not
/// know. The methods are called one at a time, at <= `DISPATCH_LEVEL`.
pub(crate) trait TransferPlan: Send + 'static {
    /// What dispatch has parsed a request to, which travels with its IRP.
    type Carried: Send + 'static;

    /// A request begins. How long it may take.
    fn begin(&mut self, irp: &Irp, request: Self::Carried) -> TimeLimit;

    /// What is to be done now. `bounce` is the pipe queue's own memory.
    fn next(&mut self, irp: &mut Irp, bounce: &mut [u8]) -> PlanStep;

    /// The transfer went well and moved `count` bytes. [`TransferPlan::next`] follows.
    fn moved(&mut self, count: usize);

    /// The transfer failed and had moved `count` bytes by then, or was not sent. `status` says why:
    /// `STATUS_IO_TIMEOUT` means that the request's time is over. How the request ends.
    fn failed(&mut self, status: Status, count: usize, irp: &mut Irp, bounce: &mut [u8])
    -> PlanEnd;

    /// The memory that came with the request, for [`Data::Carried`]. It stays where it is until
    /// the transfer is over.
    fn carried(&mut self) -> &mut [u8];

    /// The request ends: what it brought with it is not used any more.
    fn ended(&mut self);

    /// What is kept for later requests is void: the pipe was reset, or what went on in it aborted.
    fn discard(&mut self);
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    /// In 100 ns; `None`: for ever.
    pub(crate) limit: Option<u64>,
    /// It begins anew with each transfer that moved bytes.
    pub(crate) renews: bool,
}

/// What is to be done for a request.
pub(crate) enum PlanStep {
    /// Send this.
    Transfer(UrbTransfer, Data),
    /// End it.
    End(PlanEnd),
}

/// How a request ends.
pub(crate) enum PlanEnd {
    /// With this Information.
    With(Status, usize),
    /// With the first bytes of the pipe queue's own memory as its output, as many as fit.
    Answer(usize),
}

/// What a pipe queue is made of.
pub(crate) struct PipeQueueOptions<'a> {
    /// The next-lower device object, that of the USB stack.
    pub(crate) lower: Lower,
    /// The device's URBs.
    pub(crate) urb_gate: &'a Shared<DeviceUrbGate>,
    /// The bit of the pipe in [`DeviceUrbGate::hold`]; 0 for the default pipe, which is never
    /// reset.
    pub(crate) pipe_mask: u32,
    /// Bytes of own memory.
    pub(crate) bounce: usize,
    /// Its requests are reads or writes, which may be direct.
    pub(crate) direct: bool,
}

/// A queue of requests, and the one that is being served: its URB, its time.
///
/// The request's own IRP takes the URB to the USB stack, so a thread that cancels the request
/// cancels the URB, too. Who ends a request for another reason does the same and leaves a note why.
///
/// While a request is served there is one [`Pump`]. It is in the hands of the thread that goes on
/// with the request, and no thread's while the USB stack has the URB: the last one who looks at it
/// then, of its sender, its completion and those who cancel it, takes the pump up again. So nothing
/// recurses where a URB completes at once, and no IRP is touched that is gone.
///
/// The device and the driver stay while there is a pump: each of its requests holds the device's
/// remove lock, and of one that it completes it keeps the reference until the next one is there, or
/// it has touched its last byte.
pub(crate) struct PipeQueue<E: TransferPlan> {
    queue: Queue<Busy<E::Carried>>,
    /// The request that is being served. The pipe queue does not go before its IRP is back.
    flight: SpinLock<Flight<ManuallyDrop<Irp>>>,
    /// The USB stack's while it has it, else the pump's.
    urb: UnsafeCell<Urb>,
    /// The pump's.
    work: UnsafeCell<PumpState<E>>,
    timer: Timer,
    /// What is kept for later requests is void, as soon as one begins.
    discard: AtomicBool,
    lower: Lower,
    urb_gate: Shared<DeviceUrbGate>,
    pipe_mask: u32,
}

// SAFETY: each member is the kernel's, under a lock, or says who uses it: one at a time.
unsafe impl<E: TransferPlan> Send for PipeQueue<E> {}
// SAFETY: likewise.
unsafe impl<E: TransferPlan> Sync for PipeQueue<E> {}

/// Whether there is a pump.
struct Busy<C>(bool, PhantomData<fn() -> C>);

/// What is known of an arriving request.
struct PipeArrival {
    /// [`Irp::program`]
    program: Option<OpenRef>,
    /// Requests may begin now. If the queue takes this one, its sender's thread is the pump.
    begins: bool,
}

impl<C: Send + 'static> Admission for Busy<C> {
    type Arriving = PipeArrival;
    type Carried = C;
    type Aside = ();

    fn admit(&mut self, arrival: &mut PipeArrival, _: &mut C) -> Result<(), Status> {
        admit_of(arrival.program)?;
        arrival.begins &= !self.0;
        self.0 |= arrival.begins;
        Ok(())
    }
}

/// A clock for deadlines, in 100 ns.
fn now() -> u64 {
    // SAFETY: no requirements.
    unsafe { KeQueryUnbiasedInterruptTime() }
}

impl<E: TransferPlan> PipeQueue<E> {
    /// A pipe queue of `device`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(
        device: Device<'_, R>,
        options: &PipeQueueOptions<'_>,
        plan: E,
    ) -> Result<Shared<Self>, Status> {
        let part = options.direct.then(PartialMdl::try_new).transpose()?;
        let pipe_queue = Shared::try_new(Self {
            queue: Queue::try_new(device, Busy(false, PhantomData), ())?,
            flight: SpinLock::new(Flight::IDLE),
            urb: UnsafeCell::new(Urb::EMPTY),
            work: UnsafeCell::new(PumpState::new(
                plan,
                Buffer::try_zeroed(options.bounce)?,
                part,
            )),
            timer: Timer::new(),
            discard: AtomicBool::new(false),
            lower: options.lower,
            urb_gate: options.urb_gate.clone(),
            pipe_mask: options.pipe_mask,
        })?;
        // SAFETY: the pipe queue was just made, in pool, where it stays.
        unsafe {
            pipe_queue
                .timer
                .initialize(Some(time_over::<E>), pipe_queue.as_raw().as_ptr());
        }
        Ok(pipe_queue)
    }

    /// What is kept for later requests is void. At any IRQL.
    pub(crate) fn discard(&self) {
        self.discard.store(true, Ordering::Release);
    }

    /// Whether no request is being served.
    pub(crate) fn is_idle(&self) -> bool {
        !self.queue.with(|busy, _| busy.0)
    }

    /// Ends the request that is being served, if there is one and `of` says so: soon, with
    /// `status`, unless it succeeds at this moment. At <= `DISPATCH_LEVEL`.
    fn end_flight(this: &Shared<Self>, status: Status, of: fn(&Flight<ManuallyDrop<Irp>>) -> bool) {
        let irp = this
            .flight
            .with(move |flight| flight.end(status, of).map(|irp| Held(irp.raw())));
        if let Some(Held(irp)) = irp {
            // SAFETY: as one of the holders; the IRP is not completed before they have let go.
            unsafe { IoCancelIrp(irp.as_ptr()) };
            // SAFETY: a holder since above.
            if let Some((pump, irp, outcome)) = unsafe { release_irp::<E>(this.as_raw()) } {
                pump.run(irp, Some(outcome));
            }
        }
    }
}

/// An IRP that the USB stack has, to be cancelled.
struct Held(NonNull<IRP>);

// SAFETY: `IoCancelIrp` takes any IRP, in any thread.
unsafe impl Send for Held {}

impl<E: TransferPlan> Shared<PipeQueue<E>> {
    /// Queues a request. At <= `DISPATCH_LEVEL`.
    pub(crate) fn request(&self, irp: Irp, request: E::Carried) -> Disposition {
        let mut arrival = PipeArrival {
            program: irp.program(),
            begins: !self.urb_gate.is_held(self.pipe_mask),
        };
        match self.queue.insert(irp, &mut arrival, request) {
            Ok(pending) => {
                if arrival.begins {
                    Pump::new(self).serve_queue();
                } else {
                    // What held it may have ended before it was there.
                    self.resume();
                }
                pending
            }
            Err((irp, _, refusal)) => irp.complete(refusal).pending(),
        }
    }

    /// Goes on with the queue, if no pump does. At <= `DISPATCH_LEVEL`.
    pub(crate) fn resume(&self) {
        let ready = self.queue.with(|busy, queued| {
            let ready = !busy.0 && queued.is_any() && !self.urb_gate.is_held(self.pipe_mask);
            busy.0 |= ready;
            ready
        });
        if ready {
            Pump::new(self).serve_queue();
        }
    }

    /// Ends every request, queued or being served, with `status`, and discards what is kept for
    /// later ones. At <= `DISPATCH_LEVEL`.
    pub(crate) fn end(&self, status: Status) {
        // First, so that it is not missed where a request succeeds at this moment.
        self.discard();
        self.queue.end_all(Pick::Oldest, status);
        self.end_active(status);
    }

    /// Ends the request that is being served with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn end_active(&self, status: Status) {
        PipeQueue::end_flight(self, status, |_| true);
    }
}

/// The time of a request is over.
unsafe extern "C" fn time_over<E: TransferPlan>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: PVOID,
    _second: PVOID,
) {
    // SAFETY: `try_new` passed the pipe queue.
    let context = unsafe { NonNull::new_unchecked(context) };
    // SAFETY: `arm` left this owner for the timer.
    let pipe_queue = unsafe { Shared::<PipeQueue<E>>::from_raw(context) };
    // The request that the timer was started for may be over, and another one served.
    PipeQueue::end_flight(&pipe_queue, Status::IO_TIMEOUT, |flight| {
        flight.is_over(now())
    });
}

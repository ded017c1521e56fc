//! Waits that end: by what is waited for, by cancellation, by removal.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::kernel::{
    Blocking, RundownGuard,
    cancel::Cancellation,
    sync::{Event, Rundown, Waitable, wait_any},
    time::PreciseTimer,
    worker::WorkerThread,
};
use crate::{ioctl::Status, sharing::Stop};

/// One who waits, in one thread at a time, until told to stop.
pub(crate) struct Waiter {
    /// Something has changed for the one who waits in a
    /// [`PortArbiter`](crate::kernel::PortArbiter).
    told: Event,
    /// Whether the waits shall end.
    stop: Stop<AtomicI32, Event>,
    /// For short sleeps.
    timer: PreciseTimer,
}

/// Sleeps that are shorter than this many milliseconds, the longest step of the system's timer, are
/// precise. Others are not worth it that the processor is woken more often for everybody.
const PRECISE_MS: u32 = 16;

impl Waiter {
    /// One who may wait.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new() -> Result<Self, Status> {
        Ok(Self {
            told: Event::synchronization()?,
            stop: Stop::new(AtomicI32::new(Status::SUCCESS.0), Event::notification()?),
            timer: PreciseTimer::try_new()?,
        })
    }

    /// Ends every wait, now and from now on, with `status`, an error. At <= `DISPATCH_LEVEL`.
    pub(crate) fn stop(&self, status: Status) {
        self.stop.stop(status);
    }

    /// Lets waits wait again. At <= `DISPATCH_LEVEL`.
    pub(crate) fn resume(&self) {
        self.stop.resume();
    }

    /// Whether waits go on.
    ///
    /// # Errors
    /// The status that they were stopped with.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.stop.check()
    }

    /// The event that [`Waits::wait_to_be_told`] waits for.
    pub(in crate::kernel) const fn told(&self) -> &Event {
        &self.told
    }
}

/// The waits of one request, or of one call of a kernel client.
#[derive(Clone, Copy)]
pub(crate) struct Waits<'a> {
    waiter: &'a Waiter,
    /// Whose request it is, if it is one.
    worker: Option<&'a WorkerThread>,
    /// [`Cancellation::requested`] of the request, if it is one.
    cancelled: &'a AtomicBool,
    blocking: Blocking<'a>,
}

/// Of what is no request.
static NEVER_CANCELLED: AtomicBool = AtomicBool::new(false);

impl<'a> Waits<'a> {
    /// The waits of something that only its waiter's end ends.
    pub(crate) const fn new(waiter: &'a Waiter, blocking: Blocking<'a>) -> Self {
        Self {
            waiter,
            worker: None,
            cancelled: &NEVER_CANCELLED,
            blocking,
        }
    }

    /// The waits of a request, which its cancellation ends, too.
    pub(in crate::kernel) const fn of_request(
        worker: &'a WorkerThread,
        blocking: Blocking<'a>,
    ) -> Self {
        Self {
            waiter: worker.waiter(),
            worker: Some(worker),
            cancelled: worker.cancellation().requested(),
            blocking,
        }
    }

    fn cancellation(&self) -> Option<&'a Cancellation> {
        self.worker.map(WorkerThread::cancellation)
    }

    /// Whether the request shall go on.
    ///
    /// # Errors
    /// The status to end it with: why its waiter was stopped, or `STATUS_CANCELLED`.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.waiter.check()?;
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Status::CANCELLED);
        }
        Ok(())
    }

    /// Lets every other thread go before this one that wants the processor, until
    /// [`Waits::stand_up`]. In a thread of another driver, whose priority is not this driver's
    /// business, nothing changes.
    ///
    /// Windows documents no way to offer the processor to threads of the same priority.
    /// (`KeDelayExecutionThread` does not say what an interval of zero does, `ZwYieldExecution` has
    /// no page.)
    pub(crate) fn stand_back(&self) {
        if let Some(worker) = self.worker {
            worker.stand_back(self.blocking);
        }
    }

    /// The end of [`Waits::stand_back`].
    pub(crate) fn stand_up(&self) {
        if let Some(worker) = self.worker {
            worker.stand_up(self.blocking);
        }
    }

    /// Waits until one of `objects` is signalled, of which two may be there at the most: which of
    /// these, the first if it is several. `None`: `milliseconds` are over, if there is such a
    /// limit.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(in crate::kernel) fn wait_for<const N: usize>(
        &self,
        objects: [Option<Waitable<'_>>; N],
        milliseconds: Option<u32>,
    ) -> Result<Option<usize>, Status> {
        loop {
            self.check()?;
            let cancelled = self.cancellation().map(|it| it.event().object());
            let ends = [Some(self.waiter.stop.event().object()), cancelled];
            // Those that are there, first: their number is the index.
            let count = objects.iter().flatten().count();
            let all = objects.iter().chain(&ends).flatten().copied();
            match wait_any(all, milliseconds, self.blocking) {
                // Told to end, and perhaps to go on since.
                Some(index) if index >= count => {}
                signalled => return Ok(signalled),
            }
        }
    }

    /// Waits for `milliseconds`, or until the one who is `inside` shall leave.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn sleep<T: Copy>(
        &self,
        milliseconds: u32,
        inside: Option<&RundownGuard<'_, T>>,
    ) -> Result<(), Status> {
        let leave = inside
            .and_then(RundownGuard::leave_event)
            .map(Event::object);
        let timer = (1..PRECISE_MS).contains(&milliseconds).then(|| {
            self.waiter.timer.start(milliseconds);
            self.waiter.timer.object()
        });
        // The limit, too: should two wait as one, each has it.
        self.wait_for([timer, leave], Some(milliseconds))?;
        self.check()
    }

    /// As [`Waits::sleep`], in nanoseconds, as precisely as the system can.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn sleep_ns<T: Copy>(
        &self,
        nanoseconds: u64,
        inside: &RundownGuard<'_, T>,
    ) -> Result<(), Status> {
        let leave = inside.leave_event().map(Event::object);
        self.waiter.timer.start_ns(nanoseconds);
        // Should two wait as one, each has the limit.
        let limit = u32::try_from(nanoseconds / 1_000_000).unwrap_or(u32::MAX);
        self.wait_for(
            [Some(self.waiter.timer.object()), leave],
            Some(limit.saturating_add(1)),
        )?;
        self.check()
    }

    /// Enters a gate as soon as it is open, unless `hope` is stopped before.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: it is closed, and none that threads can wait at. The status that
    /// `hope` was stopped with. As [`Waits::check`].
    pub(crate) fn enter<'g, T: Copy>(
        &self,
        gate: &'g Rundown<T>,
        hope: &Waiter,
    ) -> Result<RundownGuard<'g, T>, Status> {
        loop {
            self.check()?;
            if let Some(inside) = gate.enter() {
                return Ok(inside);
            }
            hope.check()?;
            let opened = gate.opened().ok_or(Status::DEVICE_NOT_READY)?;
            let objects = [opened.object(), hope.stop.event().object()].map(Some);
            self.wait_for(objects, None)?;
        }
    }

    /// Waits until [`Waiter::told`] is signalled, or for `milliseconds`.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(in crate::kernel) fn wait_to_be_told(
        &self,
        milliseconds: Option<u32>,
    ) -> Result<(), Status> {
        self.wait_for([Some(self.waiter.told.object())], milliseconds)
            .map(drop)
    }

    pub(in crate::kernel) const fn waiter(&self) -> &'a Waiter {
        self.waiter
    }
}

/// A turn that one at a time may have, for as long as a handshake takes.
pub(crate) struct Mutex(Event);

impl Mutex {
    /// A turn that is free.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new() -> Result<Self, Status> {
        let event = Event::synchronization()?;
        event.set();
        Ok(Self(event))
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// As [`Waits::check`].
    #[inline(never)]
    pub(crate) fn lock(&self, waits: &Waits<'_>) -> Result<MutexGuard<'_>, Status> {
        waits.check()?;
        // Mostly it is free.
        if let Some(taken) = self.try_lock() {
            return Ok(taken);
        }
        waits.wait_for([Some(self.0.object())], None)?;
        Ok(MutexGuard(self))
    }

    /// Takes the turn if it is free; never waits. At <= `DISPATCH_LEVEL`.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_>> {
        // Not `then_some`: a guard that is made in vain would give the turn away that another thread
        // has.
        self.0.take().then(|| MutexGuard(self))
    }

    /// Waits for the turn, without an end: for ends themselves, after the thread that has it was
    /// told to stop.
    pub(crate) fn lock_uninterrupted(&self, blocking: Blocking<'_>) -> MutexGuard<'_> {
        self.0.wait(blocking);
        MutexGuard(self)
    }
}

/// Having the [`Mutex`], until this is dropped.
pub(crate) struct MutexGuard<'a>(&'a Mutex);

impl Drop for MutexGuard<'_> {
    fn drop(&mut self) {
        self.0.0.set();
    }
}

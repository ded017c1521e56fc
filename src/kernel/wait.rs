//! Waits that end: by what is waited for, by cancellation, by removal.

use core::sync::atomic::AtomicI32;

use super::{
    Blocking, Inside,
    cancel::Cancellation,
    sync::{Event, Gate, wait_any},
    time::yield_now,
};
use crate::{ioctl::Status, sharing::Stop};

/// One who waits, in one thread at a time, until told to stop.
pub(crate) struct Waiter {
    /// Something has changed for the one who waits in a [`Line`](super::Line).
    told: Event,
    /// Whether the waits shall end.
    stop: Stop<AtomicI32, Event>,
}

impl Waiter {
    /// One who may wait.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new() -> Result<Self, Status> {
        Ok(Self {
            told: Event::synchronization()?,
            stop: Stop::new(AtomicI32::new(Status::SUCCESS.0), Event::notification()?),
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
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.stop.check()
    }

    /// The event that [`Waits::wait_to_be_told`] waits for.
    pub(super) const fn told(&self) -> &Event {
        &self.told
    }
}

/// The waits of one request, or of one call of a kernel client.
#[derive(Clone, Copy)]
pub(crate) struct Waits<'a> {
    waiter: &'a Waiter,
    cancellation: Option<&'a Cancellation>,
    blocking: Blocking<'a>,
}

impl<'a> Waits<'a> {
    /// The waits of something that only its waiter's end ends.
    pub(crate) const fn new(waiter: &'a Waiter, blocking: Blocking<'a>) -> Self {
        Self {
            waiter,
            cancellation: None,
            blocking,
        }
    }

    /// The waits of a request, which its cancellation ends, too.
    pub(super) const fn of_request(
        waiter: &'a Waiter,
        cancellation: &'a Cancellation,
        blocking: Blocking<'a>,
    ) -> Self {
        Self {
            waiter,
            cancellation: Some(cancellation),
            blocking,
        }
    }

    /// Whether the request shall go on.
    ///
    /// # Errors
    /// The status to end it with: why its waiter was stopped, or `STATUS_CANCELLED`.
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.waiter.check()?;
        if self.cancellation.is_some_and(Cancellation::is_requested) {
            return Err(Status::CANCELLED);
        }
        Ok(())
    }

    /// Lets other threads run that wait for the processor.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(crate) fn yield_now(&self) -> Result<(), Status> {
        yield_now(self.blocking);
        self.check()
    }

    /// Waits until one of `events` is signalled, of which two may be there at the most: which of
    /// these, the first if it is several. `None`: `milliseconds` are over, if there is such a
    /// limit.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(super) fn wait_for<const N: usize>(
        &self,
        events: [Option<&Event>; N],
        milliseconds: Option<u32>,
    ) -> Result<Option<usize>, Status> {
        loop {
            self.check()?;
            let ends = [
                Some(self.waiter.stop.event()),
                self.cancellation.map(Cancellation::event),
            ];
            // Those that are there, first: their number is the index.
            let count = events.iter().flatten().count();
            let all = events.iter().chain(&ends).flatten().copied();
            match wait_any(all, milliseconds, self.blocking) {
                // Told to end, and perhaps to go on since.
                Some(index) if index >= count => {}
                signalled => return Ok(signalled),
            }
        }
    }

    /// Waits for `milliseconds`.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<(), Status> {
        self.wait_for([], Some(milliseconds))?;
        self.check()
    }

    /// The same, at the most for as long as whoever is `inside` may stay there.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn wait_inside<T: Copy>(
        &self,
        milliseconds: u32,
        inside: &Inside<'_, T>,
    ) -> Result<(), Status> {
        self.wait_for([inside.leave_event()], Some(milliseconds))?;
        self.check()
    }

    /// Enters a gate as soon as it is open, unless `hope` is stopped before.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: it is closed, and none that threads can wait at. The status that
    /// `hope` was stopped with. As [`Waits::check`].
    pub(crate) fn enter<'g, T: Copy>(
        &self,
        gate: &'g Gate<T>,
        hope: &Waiter,
    ) -> Result<Inside<'g, T>, Status> {
        loop {
            self.check()?;
            if let Some(inside) = gate.enter() {
                return Ok(inside);
            }
            hope.check()?;
            let opened = gate.opened().ok_or(Status::DEVICE_NOT_READY)?;
            self.wait_for([Some(opened), Some(hope.stop.event())], None)?;
        }
    }

    /// Waits until [`Waiter::told`] is signalled, or for `milliseconds`.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(super) fn wait_to_be_told(&self, milliseconds: Option<u32>) -> Result<(), Status> {
        self.wait_for([Some(self.waiter.told())], milliseconds)
            .map(drop)
    }

    pub(super) const fn waiter(&self) -> &'a Waiter {
        self.waiter
    }
}

/// A turn that one at a time may have, for as long as a handshake takes.
pub(crate) struct Turn(Event);

impl Turn {
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
    pub(crate) fn take(&self, waits: &Waits<'_>) -> Result<Taken<'_>, Status> {
        waits.wait_for([Some(&self.0)], None)?;
        Ok(Taken(self))
    }

    /// Waits for the turn, without an end: for ends themselves, after whoever has it was told to
    /// stop.
    pub(crate) fn take_at_last(&self, blocking: Blocking<'_>) -> Taken<'_> {
        self.0.wait(blocking);
        Taken(self)
    }
}

/// Having the [`Turn`], until this is dropped.
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.set();
    }
}

//! Waits that end: by what is waited for, by cancellation, by removal.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::{Blocking, irp::Cancellation, sync::Event, time::yield_now};
use crate::ioctl::Status;

/// The longest single wait, in milliseconds: how fast a cancellation is noticed.
const SLICE_MS: u32 = 10;

/// Somebody who waits, in one thread at a time, until told to stop.
pub(crate) struct Waiter {
    /// What was waited for in a [`Line`](super::Line) is there.
    granted: Event,
    /// The waits shall end; stays signalled.
    stop: Event,
    stopped: AtomicBool,
    /// What the waits end with.
    status: AtomicI32,
}

impl Waiter {
    /// Somebody who may wait.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new() -> Result<Self, Status> {
        Ok(Self {
            granted: Event::synchronization()?,
            stop: Event::notification()?,
            stopped: AtomicBool::new(false),
            status: AtomicI32::new(0),
        })
    }

    /// Ends every wait, now and from now on, with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn stop(&self, status: Status) {
        self.status.store(status.0, Ordering::Relaxed);
        self.stopped.store(true, Ordering::Release);
        self.stop.set();
    }

    /// Lets waits wait again. At <= `DISPATCH_LEVEL`.
    pub(crate) fn resume(&self) {
        self.stopped.store(false, Ordering::Release);
        self.stop.reset();
    }

    /// Whether waits go on.
    ///
    /// # Errors
    /// The status that they were stopped with.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(Status(self.status.load(Ordering::Relaxed)));
        }
        Ok(())
    }

    pub(super) const fn granted(&self) -> &Event {
        &self.granted
    }
}

/// The waits of one request, or of one call of a kernel client.
#[derive(Clone, Copy)]
pub(crate) struct Waits<'a> {
    waiter: &'a Waiter,
    cancellation: Option<Cancellation<'a>>,
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
        cancellation: Cancellation<'a>,
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
        if self
            .cancellation
            .as_ref()
            .is_some_and(Cancellation::is_requested)
        {
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

    /// Waits for about `milliseconds`.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<(), Status> {
        let mut left = milliseconds;
        loop {
            self.check()?;
            if left == 0 {
                return Ok(());
            }
            let slice = left.min(SLICE_MS);
            self.waiter.stop.wait_for(slice, self.blocking);
            left -= slice;
        }
    }

    /// Waits for `event`, which one wait resets, for a moment: it may come back without it.
    pub(super) fn wait_a_moment_for(&self, event: &Event) -> bool {
        event.wait_for(SLICE_MS, self.blocking)
    }

    /// Waits for what [`Waiter::granted`] tells, for a moment.
    pub(super) fn wait_a_moment_for_grant(&self) {
        self.wait_a_moment_for(self.waiter.granted());
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
        loop {
            waits.check()?;
            if waits.wait_a_moment_for(&self.0) {
                return Ok(Taken(self));
            }
        }
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

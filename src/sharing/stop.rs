//! Waits that are told to end.

use super::{Note, Signal};
use crate::ioctl::Status;

/// Whether those who wait shall go on, and why not. Who waits asks [`Stop::check`] first and waits
/// then for [`Stop::event`], too.
pub struct Stop<N, S> {
    /// What the waits end with; success: they go on.
    status: N,
    /// Set while the waits shall end.
    event: S,
}

impl<N: Note, S: Signal> Stop<N, S> {
    /// Of a status that is success and an event that is not set.
    pub const fn new(status: N, event: S) -> Self {
        Self { status, event }
    }

    /// Ends every wait, now and from now on, with `status`, an error. At <= `DISPATCH_LEVEL`.
    pub fn stop(&self, status: Status) {
        self.status.write(status.0);
        self.event.set();
    }

    /// Lets waits wait again. At <= `DISPATCH_LEVEL`.
    pub fn resume(&self) {
        self.status.write(Status::SUCCESS.0);
        self.event.reset();
    }

    /// Whether waits go on.
    ///
    /// # Errors
    /// The status that they were stopped with.
    pub fn check(&self) -> Result<(), Status> {
        match Status(self.status.read()) {
            Status::SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// Set while waits shall end.
    pub const fn event(&self) -> &S {
        &self.event
    }
}

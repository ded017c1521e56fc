//! An operation on the port, in the session of the client that uses the device.

use core::sync::atomic::Ordering;

use super::{
    super::{Hardware, Place, hardware::OwnedPort},
    DeviceCore, NOT_ASKED, PortLock, word_of,
};
use crate::{
    ieee1284::{Fault, Session},
    ioctl::Status,
    kernel::{MutexGuard, RundownGuard, Waits, event},
    trace::{Cause, TraceEvent},
};

/// Having the port for an operation.
pub(super) struct Allocation<'a> {
    pub(super) device: &'a DeviceCore,
    /// It is locked, and stays so afterwards.
    pub(super) locked: bool,
    pub(super) _turn: MutexGuard<'a>,
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if !self.locked {
            self.device.free_port();
        }
    }
}

/// What is done on a port that is taken.
///
/// Not a `dyn FnMut`, whose table has a second copy of every closure, for a call by value.
pub(super) trait Operation<'a, T = ()> {
    /// Does it.
    fn run(&mut self, session: &mut Session, port: &mut OwnedPort<'a>) -> T;
}

impl<'a, T, F: FnMut(&mut Session, &mut OwnedPort<'a>) -> T> Operation<'a, T> for F {
    fn run(&mut self, session: &mut Session, port: &mut OwnedPort<'a>) -> T {
        self(session, port)
    }
}

/// Runs `operation` by way of a function that takes it in its common form; what it gives.
///
/// # Errors
/// What the function says, if it did not run the operation.
pub(super) fn once<'a, T>(
    operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    run: impl FnOnce(&mut dyn Operation<'a>) -> Result<(), Status>,
) -> Result<T, Status> {
    let mut operation = Some(operation);
    let mut result = None;
    run(&mut |session: &mut Session, port: &mut OwnedPort<'a>| {
        result = operation.take().map(|operation| operation(session, port));
    })?;
    result.ok_or(Status::UNSUCCESSFUL)
}

impl DeviceCore {
    /// As [`DeviceCore::with_port`], for an operation that gives a status; or why it was not done.
    /// If the port's power goes meanwhile, it is done again when it is back, and its time begins
    /// anew.
    pub(super) fn with_power<'a>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        operation: &mut dyn Operation<'a, Status>,
    ) -> Status {
        loop {
            let mut status = Status::UNSUCCESSFUL;
            let mut settled = |session: &mut Session, port: &mut OwnedPort<'a>| {
                self.settle(session, port);
                status = operation.run(session, port);
            };
            let done = self.on_peripheral(waits, limit, &mut settled);
            match done {
                Ok(()) if status == Status::POWER_STATE_INVALID => {}
                Ok(()) => return status,
                Err(why) => return why,
            }
        }
    }

    /// Runs `operation` on the port: takes it, unless a class driver has locked it, and gives it
    /// back at rest. `limit` is the time of the operation in milliseconds.
    ///
    /// # Errors
    /// Why the operation does not begin: `STATUS_DEVICE_BUSY`, `STATUS_CANCELLED`,
    /// `STATUS_DELETE_PENDING`, `STATUS_DEVICE_REMOVED`, or `STATUS_UNSUCCESSFUL`, if a device of
    /// the chain does not let itself be selected.
    pub(in crate::parallel) fn with_port<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    ) -> Result<T, Status> {
        once(operation, |operation| {
            self.on_peripheral(waits, limit, operation)
        })
    }

    /// As [`DeviceCore::with_port`]: the one copy of it.
    #[inline(never)]
    fn on_peripheral<'a>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        operation: &mut dyn Operation<'a>,
    ) -> Result<(), Status> {
        let allocation = self.allocate(&waits)?;
        self.in_session(waits, limit, allocation.locked, operation)
    }

    fn allocate<'a>(&'a self, waits: &Waits<'_>) -> Result<Allocation<'a>, Status> {
        let turn = self.peripheral.lock(waits)?;
        let locked = !self.lock.is(PortLock::FREE);
        if !locked {
            self.port.take(self.owner(), waits)?;
        }
        let allocation = Allocation {
            device: self,
            locked,
            _turn: turn,
        };
        if !locked {
            self.select(waits)?;
        }
        Ok(allocation)
    }

    /// Selects the device, when the hardware is there. The port is ours.
    #[inline]
    pub(super) fn select(&self, waits: &Waits<'_>) -> Result<(), Status> {
        let device = match self.place {
            Place::Chain(device) => Some(device),
            _ => None,
        };
        if self.port.is_selected(device) {
            return Ok(());
        }
        match self.select_any(device, waits)? {
            Status::SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// As [`PortCore::select`], when the hardware is there.
    pub(super) fn select_any(
        &self,
        device: Option<u8>,
        waits: &Waits<'_>,
    ) -> Result<Status, Status> {
        let inside = self.port.enter_when_there(waits)?;
        Ok(self.port.select_on(Some(inside.get()), device))
    }

    /// Runs an operation with the session of the client that uses the device. The port is ours;
    /// `keep` says that the mode stays connected afterwards: else the next user may be another
    /// client.
    ///
    /// # Errors
    /// As [`PortCore::enter_when_there`](super::super::PortCore::enter_when_there) and
    /// [`DeviceCore::in_session_on`]: it was not run.
    #[inline(never)]
    pub(super) fn in_session<'a>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        keep: bool,
        operation: &mut dyn Operation<'a>,
    ) -> Result<(), Status> {
        let inside = self.port.enter_when_there(&waits)?;
        self.in_session_on(inside, waits, limit, keep, operation)
    }

    /// As [`DeviceCore::in_session`], on hardware that was entered.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL`: another thread has the session, without the turn.
    #[inline(never)]
    pub(super) fn in_session_on<'a>(
        &'a self,
        inside: RundownGuard<'a, Hardware>,
        waits: Waits<'a>,
        limit: Option<u64>,
        keep: bool,
        operation: &mut dyn Operation<'a>,
    ) -> Result<(), Status> {
        // The lock of the peripheral is ours: no other thread has the session.
        let mut slot = self.session.take().ok_or(Status::UNSUCCESSFUL)?;
        if self.session_over.swap(false, Ordering::AcqRel) {
            *slot = None;
        }
        let capabilities = self.port.capabilities(inside.get());
        let wakes = self.port.wakes();
        // A port that was restarted may be another one.
        if slot
            .as_ref()
            .is_some_and(|session| !session.capabilities().is_same_port(&capabilities))
        {
            *slot = None;
        }
        let session = slot.get_or_insert_with(|| Session::new(capabilities));
        let mut port = OwnedPort::new(inside, waits, limit);
        if self.wakes.swap(wakes, Ordering::AcqRel) != wakes {
            session.disconnected();
        }
        let still_held = self.port.take_held_epp(self.address());
        if session.is_held() && !still_held {
            session.disconnected();
        }
        session.forget_lines();
        operation.run(session, &mut port);
        self.tell_trouble(session, port.why());
        if !keep {
            port.end();
            session.release(&mut port);
            if session.is_held() {
                self.port.hold_epp(self.address());
            }
        }
        if self.watches_edges() && !self.is_locked() {
            self.port.enable_edges(port.hardware());
        }
        self.port.learn(session.capabilities());
        self.modes
            .store(word_of(session.modes()), Ordering::Release);
        let known = session.known_device_modes();
        self.device_modes.store(
            known.map_or(NOT_ASKED, |modes| modes.bits().into()),
            Ordering::Release,
        );
        if self.session_over.load(Ordering::Acquire) {
            // It ended meanwhile, with its open.
            self.forget_modes();
        }
        Ok(())
    }

    /// Tells of a peripheral that did not answer, or not within the request's time.
    fn tell_trouble(&self, session: &mut Session, why: Status) {
        let timed_out = why == Status::TIMEOUT;
        let (cause, mode, number) = match session.take_trouble() {
            Some(it) if it.fault != Fault::Interrupted => {
                let cause = match it.fault {
                    Fault::NotIeee1284 => Cause::NotIeee1284,
                    Fault::EppTimeOut => Cause::Epp,
                    _ => Cause::NoAnswer,
                };
                (cause, it.mode, it.event)
            }
            Some(it) if timed_out => (Cause::WriteTime, it.mode, it.event),
            // Between two looks at a peripheral that has nothing to read.
            None if timed_out => (Cause::ReadTime, session.mode_name(), 0),
            _ => return,
        };
        let what = TraceEvent::TimedOut {
            cause,
            mode,
            event: number,
        };
        event(self.number().label(), &what);
    }

    /// Leaves a connected mode. The port is ours, and the turn.
    pub(super) fn end_mode(&self, waits: Waits<'_>) {
        // Hardware that is gone, or sleeps, has no mode. A removal must not wait for it.
        if let Some(inside) = self.port.enter() {
            let _ = self.in_session_on(
                inside,
                waits,
                None,
                true,
                &mut Session::terminate::<OwnedPort>,
            );
        }
    }
}

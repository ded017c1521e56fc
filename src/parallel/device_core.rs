//! How a parallel device is used: by requests of programs, which take the port one at a time, and
//! by a class driver, which locks it and calls the routines of parallel.h.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{
    Hardware, Place, PortCore, PortNumber,
    hardware::PortInUse,
    requests::{Preferences, status_of},
};
use crate::{
    ieee1284::{Direction, Fault, Session},
    ioctl::{
        Status,
        parallel::{DeviceRequest, IeeeModes, NegotiationMask, ParclassInformation, SelectCommand},
    },
    kernel::{
        Blocking, DeviceCallbacks, Disposition, Inside, Irp, Owner, Passive, Shared, SpinLock,
        Taken, Task, Turn, Waiter, Waits, device_routines,
    },
};

/// How long a request waits for a stopped port between two looks, in milliseconds.
const STOPPED_POLL_MS: u32 = 50;

/// What everybody shares who uses a parallel device: the device object, its worker, and the class
/// driver that has it open, for as long as one of them is there.
pub(crate) struct DeviceCore {
    place: Place,
    port: Shared<PortCore>,
    /// The device is open.
    open: AtomicBool,
    /// What the open program has chosen.
    pub(super) preferences: SpinLock<Preferences>,
    /// For whoever speaks to the peripheral at this moment.
    turn: Turn,
    lock: SpinLock<Lock>,
    /// Connections (`IOCTL_INTERNAL_PARCLASS_CONNECT`) that were not ended.
    connections: AtomicU32,
    /// What [`PortCore::wakes`] was when the session was used last.
    wakes: AtomicU32,
    /// For the waits of the class driver's calls.
    client: Waiter,
}

/// Whether a class driver has locked the port, and how.
#[derive(Clone, Copy)]
struct Lock {
    held: bool,
    /// The device was open then: it is not when a class driver is attached to it.
    by_open: bool,
}

impl Lock {
    const FREE: Self = Self {
        held: false,
        by_open: false,
    };
}

/// Having the port for an operation.
struct Allocation<'a> {
    device: &'a DeviceCore,
    /// It is locked, and stays so afterwards.
    locked: bool,
    _turn: Taken<'a>,
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if !self.locked {
            self.device.free_port();
        }
    }
}

impl DeviceCore {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(place: Place, port: Shared<PortCore>) -> Result<Self, Status> {
        Ok(Self {
            place,
            port,
            open: AtomicBool::new(false),
            preferences: SpinLock::new(Preferences::DEFAULT),
            turn: Turn::try_new()?,
            lock: SpinLock::new(Lock::FREE),
            connections: AtomicU32::new(0),
            wakes: AtomicU32::new(0),
            client: Waiter::try_new()?,
        })
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    pub(super) fn number(&self) -> PortNumber {
        self.port.number()
    }

    /// Whether nobody has the port at this moment.
    pub(super) fn is_free(&self) -> bool {
        self.port.is_free()
    }

    /// Whether the port has hardware that answers.
    pub(super) fn is_present(&self) -> bool {
        self.port.is_present()
    }

    /// The device as an owner of the port.
    fn owner(&self) -> Owner {
        Owner::Device(self.address())
    }

    fn free_port(&self) {
        let owner = self.owner();
        self.port.free_if(&|other| other == owner);
    }

    /// The device as one that leaves EPP connected.
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Ends EPP, if it is still connected on behalf of this device.
    fn end_held_epp(&self) {
        // Another owner has ended it, or will.
        if self.port.try_take(self.owner()) {
            self.port.end_held_epp(self.address());
            self.free_port();
        }
    }

    fn is_locked(&self) -> bool {
        self.lock.with(|lock| lock.held)
    }

    // Opens and removal.

    /// `IRP_MJ_CREATE`. Whether the device was not open.
    pub(super) fn try_open(&self) -> bool {
        !self.open.swap(true, Ordering::AcqRel)
    }

    /// `IRP_MJ_CLOSE`
    pub(super) fn closed(&self, passive: Passive) {
        self.clean_up(passive);
        self.end_held_epp();
        self.preferences.with(|it| *it = Preferences::DEFAULT);
        self.open.store(false, Ordering::Release);
    }

    /// The device is started.
    pub(super) fn start(&self) {
        self.client.resume();
    }

    /// `IRP_MJ_CLEANUP`, and once more at `IRP_MJ_CLOSE`: a class driver that forgot to disconnect
    /// or to unlock does so now.
    pub(super) fn clean_up(&self, passive: Passive) {
        self.disconnect_all(Status::CANCELLED);
        if self.lock.with(|lock| lock.held && lock.by_open) {
            self.end_lock(passive);
        }
        // For a class driver that is attached, and goes on.
        self.client.resume();
    }

    /// The device is removed: calls of a class driver end, and so does its lock.
    pub(super) fn vanish(&self, passive: Passive) {
        self.disconnect_all(Status::DEVICE_REMOVED);
        self.end_lock(passive);
        self.end_held_epp();
        self.preferences.with(|it| *it = Preferences::DEFAULT);
    }

    /// Ends a lock, whoever has it.
    fn end_lock(&self, passive: Passive) {
        let _turn = self.turn.take_at_last(passive.blocking());
        if self
            .lock
            .with(|lock| core::mem::replace(lock, Lock::FREE))
            .held
        {
            self.end_mode(self.port.waits(passive));
            self.free_port();
        }
    }

    /// Ends the calls of class drivers, now and from now on, with `status`.
    fn disconnect_all(&self, status: Status) {
        self.client.stop(status);
        let connections = self.connections.swap(0, Ordering::AcqRel);
        self.port.disconnected(connections);
    }

    // Operations on the port.

    /// As [`DeviceCore::with_port`], for an operation that gives a status. If the port's power goes
    /// meanwhile, it is done again when it is back, and its time begins anew.
    pub(super) fn with_power<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        mut operation: impl FnMut(&mut Session, &mut PortInUse<'a>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        loop {
            match self.with_port(waits, limit, &mut operation).flatten() {
                Err(Status::POWER_STATE_INVALID) => {}
                result => return result,
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
    pub(super) fn with_port<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        operation: impl FnOnce(&mut Session, &mut PortInUse<'a>) -> T,
    ) -> Result<T, Status> {
        let allocation = self.allocate(&waits)?;
        self.in_session(waits, limit, allocation.locked, operation)
    }

    fn allocate<'a>(&'a self, waits: &Waits<'_>) -> Result<Allocation<'a>, Status> {
        let turn = self.turn.take(waits)?;
        let locked = self.is_locked();
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
    fn select(&self, waits: &Waits<'_>) -> Result<(), Status> {
        let device = match self.place {
            Place::Chain(device) => Some(device),
            _ => None,
        };
        match self.select_any(device, waits)? {
            Status::SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// As [`PortCore::select`], when the hardware is there.
    fn select_any(&self, device: Option<u8>, waits: &Waits<'_>) -> Result<Status, Status> {
        let inside = self.enter(waits)?;
        Ok(self.port.select_on(Some(&inside.value()), device))
    }

    /// Runs an operation with the session of whoever uses the device. The port is ours; `keep` says
    /// that the mode stays connected afterwards: else the next user may be somebody else.
    fn in_session<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        keep: bool,
        operation: impl FnOnce(&mut Session, &mut PortInUse<'a>) -> T,
    ) -> Result<T, Status> {
        let inside = self.enter(&waits)?;
        let capabilities = self.port.capabilities(&inside.value());
        let wakes = self.port.wakes();
        let mut port = PortInUse::new(inside, waits, limit);
        let mut session = self
            .preferences
            .with(|it| it.session)
            // A port that was restarted may be another one.
            .filter(|session| session.capabilities().is_same_port(&capabilities))
            .unwrap_or(Session::new(capabilities));
        if self.wakes.swap(wakes, Ordering::AcqRel) != wakes {
            session.disconnected();
        }
        let still_held = self.port.take_held_epp(self.address());
        if session.is_held() && !still_held {
            session.disconnected();
        }
        session.forget_lines();
        let result = operation(&mut session, &mut port);
        if !keep {
            port.end();
            session.release(&mut port);
            if session.is_held() {
                self.port.hold_epp(self.address());
            }
        }
        self.port.learn(session.capabilities());
        self.preferences.with(|it| it.session = Some(session));
        Ok(result)
    }

    /// Waits until the hardware is there: a port is stopped for a moment when Windows gives it
    /// other resources.
    fn enter(&self, waits: &Waits<'_>) -> Result<Inside<'_, Hardware>, Status> {
        loop {
            waits.check()?;
            if let Some(inside) = self.port.enter() {
                return Ok(inside);
            }
            waits.wait(STOPPED_POLL_MS)?;
        }
    }

    /// Leaves a connected mode. The port is ours, and the turn.
    fn end_mode(&self, waits: Waits<'_>) {
        // Hardware that is gone has no mode.
        if self.port.enter().is_some() {
            let _ = self.in_session(waits, None, true, Session::terminate);
        }
    }

    // Internal requests.

    /// An internal request that is answered at once. `None`: it needs the port.
    pub(super) fn answer_internal(&self, request: DeviceRequest) -> Option<Result<Answer, Status>> {
        match request {
            DeviceRequest::Connect => Some(self.connect().map(Answer::Information)),
            DeviceRequest::Disconnect => {
                self.disconnect();
                Some(Ok(Answer::Done))
            }
            DeviceRequest::DisconnectIdle
            | DeviceRequest::Lock { .. }
            | DeviceRequest::Unlock { .. } => None,
        }
    }

    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    fn connect(&self) -> Result<ParclassInformation, Status> {
        let hardware = self.port.enter().ok_or(Status::DEVICE_NOT_READY)?.value();
        let addresses = hardware.addresses();
        let fifo = hardware.capabilities().fifo;
        if self.connections.fetch_add(1, Ordering::AcqRel) == 0 {
            self.client.resume();
        }
        self.port.connected();
        Ok(ParclassInformation {
            controller: addresses.registers.0,
            ecr_controller: addresses.ecp.0,
            span_of_controller: addresses.registers.1,
            routines: device_routines(self),
            hardware_capabilities: self.port.ppt(&hardware),
            fifo_depth: fifo.map_or(0, |fifo| u32::from(fifo.depth)),
            fifo_width: fifo.map_or(0, |fifo| u32::from(fifo.width)),
        })
    }

    /// `IOCTL_INTERNAL_PARCLASS_DISCONNECT`. The last one ends the calls that are under way.
    fn disconnect(&self) {
        let before = self
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                count.checked_sub(1)
            });
        if let Ok(before) = before {
            self.port.disconnected(1);
            if before == 1 {
                self.client.stop(Status::INVALID_DEVICE_STATE);
            }
        }
    }

    /// An internal request that needs the port, in the worker's thread.
    pub(super) fn serve_internal(&self, task: Task, request: DeviceRequest) -> Disposition {
        let result = match request {
            DeviceRequest::Lock { select } => self.lock(&task.waits(), select),
            DeviceRequest::Unlock { deselect } => self.unlock(&task.waits(), deselect),
            DeviceRequest::DisconnectIdle => self.disconnect_idle(&task.waits()),
            // Answered at once; they never come here.
            DeviceRequest::Connect | DeviceRequest::Disconnect => Err(Status::INVALID_PARAMETER),
        };
        task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
    }

    fn lock(&self, waits: &Waits<'_>, select: bool) -> Result<(), Status> {
        let mut allocation = self.allocate_for_lock(waits)?;
        if select {
            self.select(waits)?;
        }
        self.hold();
        allocation.locked = true;
        Ok(())
    }

    /// The port, which is ours, stays so until it is unlocked.
    fn hold(&self) {
        let by_open = self.open.load(Ordering::Acquire);
        self.lock.with(move |lock| {
            *lock = Lock {
                held: true,
                by_open,
            };
        });
    }

    /// Takes the port for a lock, without selecting the device.
    fn allocate_for_lock<'a>(&'a self, waits: &Waits<'_>) -> Result<Allocation<'a>, Status> {
        let turn = self.turn.take(waits)?;
        if self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        self.port.take(self.owner(), waits)?;
        Ok(Allocation {
            device: self,
            locked: false,
            _turn: turn,
        })
    }

    fn unlock(&self, waits: &Waits<'_>, deselect: bool) -> Result<(), Status> {
        let _turn = self.turn.take(waits)?;
        if !self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        self.end_mode(*waits);
        if deselect {
            // One that does not answer any more is deselected.
            let _ = self.port.select(None);
        }
        self.lock.with(|lock| *lock = Lock::FREE);
        self.free_port();
        Ok(())
    }

    /// `IOCTL_INTERNAL_DISCONNECT_IDLE`
    fn disconnect_idle(&self, waits: &Waits<'_>) -> Result<(), Status> {
        let _turn = self.turn.take(waits)?;
        if !self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        self.in_session(*waits, None, true, Session::terminate)
    }

    // The routines of a class driver.

    /// Whether a class driver may call: it is connected, and has locked the port.
    ///
    /// # Errors
    /// `STATUS_DEVICE_REMOVED`, `STATUS_INVALID_DEVICE_STATE`
    fn serves_client(&self) -> Result<(), Status> {
        self.client.check()?;
        if self.connections.load(Ordering::Acquire) == 0 || !self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        Ok(())
    }

    /// Runs an operation of a class driver, which has locked the port.
    pub(super) fn with_locked_port<'a, T>(
        &'a self,
        blocking: Blocking<'a>,
        limit: Option<u64>,
        operation: impl FnOnce(&mut Session, &mut PortInUse<'a>) -> T,
    ) -> Result<T, Status> {
        self.serves_client()?;
        let waits = Waits::new(&self.client, blocking);
        let _turn = self.turn.take(&waits)?;
        self.serves_client()?;
        self.in_session(waits, limit, true, operation)
    }

    fn call(
        &self,
        blocking: Blocking<'_>,
        operation: impl FnOnce(&mut Session, &mut PortInUse<'_>) -> Result<(), Fault>,
    ) -> Status {
        self.with_locked_port(blocking, None, |session, port| {
            operation(session, port).map_err(|fault| status_of(fault, port))
        })
        .flatten()
        .map_or_else(|why| why, |()| Status::SUCCESS)
    }
}

/// The answer to an internal request.
pub(super) enum Answer {
    /// Success, with the structure.
    Information(ParclassInformation),
    /// Success.
    Done,
}

impl Answer {
    pub(super) fn complete(self, irp: Irp) -> Disposition {
        match self {
            Self::Information(information) => irp.answer(&information.to_bytes()),
            Self::Done => irp.complete(Status::SUCCESS),
        }
    }
}

impl DeviceCallbacks for DeviceCore {
    /// The modes that port and peripheral both have. The peripheral is asked if the port is locked
    /// and the caller may wait; before it has been, these are the port's modes.
    fn determine_modes(&self, blocking: Option<Blocking<'_>>) -> IeeeModes {
        let excluded = self.preferences.with(|it| it.excluded);
        let asked = blocking.and_then(|blocking| {
            self.with_locked_port(blocking, None, |session, port| {
                session.device_modes(port, excluded).ok()
            })
            .ok()
            .flatten()
        });
        let known = || {
            let session = self.preferences.with(|it| it.session);
            session.and_then(|session| session.known_device_modes())
        };
        let port = || {
            let inside = self.port.enter();
            inside.map_or(IeeeModes::empty(), |inside| {
                self.port.capabilities(&inside.value()).modes()
            })
        };
        asked.or_else(known).unwrap_or_else(port) - excluded
    }

    fn negotiate(
        &self,
        write: IeeeModes,
        read: IeeeModes,
        forward: bool,
        blocking: Blocking<'_>,
    ) -> Status {
        let direction = if forward {
            Direction::Forward
        } else {
            Direction::Reverse
        };
        self.call(blocking, |session, port| {
            session.negotiate(port, NegotiationMask { read, write })?;
            session.connect(port, direction)
        })
    }

    fn terminate(&self, blocking: Blocking<'_>) -> Status {
        self.call(blocking, |session, port| {
            session.terminate(port);
            Ok(())
        })
    }

    fn forward_to_reverse(&self, blocking: Blocking<'_>) -> Status {
        self.call(blocking, |session, port| {
            session.connect(port, Direction::Reverse)
        })
    }

    fn reverse_to_forward(&self, blocking: Blocking<'_>) -> Status {
        self.call(blocking, |session, port| {
            session.connect(port, Direction::Forward)
        })
    }

    fn read(&self, buffer: &mut [u8], blocking: Blocking<'_>) -> (usize, Status) {
        let limit = self.read_limit(buffer.len());
        self.with_locked_port(blocking, limit, |session, port| {
            Self::read_bytes(session, port, limit, buffer)
        })
        .unwrap_or_else(|why| (0, why))
    }

    fn write(&self, data: &[u8], blocking: Blocking<'_>) -> (usize, Status) {
        let limit = self.write_limit(data.len());
        self.with_locked_port(blocking, limit, |session, port| {
            session.set_patient(limit.is_some());
            Self::write_bytes(session, port, data)
        })
        .unwrap_or_else(|why| (0, why))
    }

    /// As `TrySelectDevice` of the port object, for a class driver: allocates the port by locking
    /// it, unless it has.
    fn try_select(&self, command: SelectCommand, blocking: Blocking<'_>) -> Status {
        if let Err(why) = self.client.check() {
            return why;
        }
        let device = match self.port.device_of(command) {
            Ok(device) => device,
            Err(status) => return status,
        };
        let waits = Waits::new(&self.client, blocking);
        let _turn = match self.turn.take(&waits) {
            Ok(turn) => turn,
            Err(why) => return why,
        };
        if self.connections.load(Ordering::Acquire) == 0 || self.is_locked() != command.keeps_port()
        {
            return Status::INVALID_DEVICE_STATE;
        }
        if !command.keeps_port() {
            if !self.port.try_take(self.owner()) {
                return Status::PENDING;
            }
            self.hold();
        }
        self.select_any(device, &waits).unwrap_or_else(|why| why)
    }

    fn deselect(&self, command: SelectCommand, blocking: Blocking<'_>) -> Status {
        if let Err(status) = self.port.device_of(command) {
            return status;
        }
        let waits = Waits::new(&self.client, blocking);
        let result = if command.keeps_port() {
            self.serves_client().map(|()| self.port.select(None))
        } else {
            self.serves_client()
                .and_then(|()| self.unlock(&waits, true))
                .map(|()| Status::SUCCESS)
        };
        result.unwrap_or_else(|why| why)
    }
}

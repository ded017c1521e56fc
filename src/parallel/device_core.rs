//! How a parallel device is used: by requests of programs, which take the port one at a time, and
//! by a class driver, which locks it and calls the routines of parallel.h.

use core::sync::atomic::{AtomicU32, Ordering};

use super::{
    Hardware, Place, PortCore, PortNumber,
    hardware::OwnedPort,
    requests::{Preferences, status_of},
};
use crate::{
    DeviceRole,
    ieee1284::{Direction, Fault, Session},
    ioctl::{
        Status,
        parallel::{DeviceRequest, IeeeModes, NegotiationMask, ParclassInformation, SelectCommand},
    },
    kernel::{
        Blocking, Device, DeviceCallbacks, Disposition, FileId, Irp, Mutex, MutexGuard, Owner,
        Passive, Pending, RundownGuard, Shared, SpinLock, Task, Waiter, Waits, device_routines,
        event,
    },
    trace::{Cause, Event},
};

/// What everybody shares who uses a parallel device: the device object, its worker, and the class
/// driver that has it open, for as long as one of them is there.
pub(crate) struct DeviceCore {
    place: Place,
    port: Shared<PortCore>,
    clients: SpinLock<Clients>,
    /// What the open program has chosen.
    pub(super) preferences: SpinLock<Preferences>,
    /// The modes of its session, as `IOCTL_IEEE1284_GET_MODE` answers them.
    modes: AtomicU32,
    /// For whoever speaks to the peripheral at this moment.
    peripheral: Mutex,
    lock: SpinLock<Lock>,
    /// What [`PortCore::wakes`] was when the session was used last.
    wakes: AtomicU32,
    /// For the waits of the class driver's calls.
    client: Waiter,
    /// The request that waits for an edge.
    pending: Pending,
    /// For whoever gives edges to a request.
    edge_order: SpinLock<()>,
}

/// Who uses the device, and the connections (`IOCTL_INTERNAL_PARCLASS_CONNECT`) that were not ended.
/// Whether calls of class drivers go on is changed under the same lock.
struct Clients {
    /// The one open of the device.
    open: Option<FileId>,
    /// A kernel client made it.
    of_kernel: bool,
    /// Connections of the client whose open it is.
    by_open: u32,
    /// Connections of clients without an open of this device: of a class driver that is attached
    /// above it.
    by_others: u32,
    /// The device is started.
    started: bool,
}

impl Clients {
    fn is_open(&self, file: FileId) -> bool {
        self.open == Some(file)
    }

    /// Whether a client's request with this file object is of the client whose open it is.
    /// `IoBuildDeviceIoControlRequest` puts no file object into a request: then it is, if a kernel
    /// client has the device open. A program sends no such request.
    fn is_of_open(&self, file: FileId) -> bool {
        self.is_open(file) || self.of_kernel && self.open.is_some() && file.is_none()
    }

    /// The connections of the client that a request of this file came from.
    fn connections_of(&mut self, file: FileId) -> &mut u32 {
        if self.is_of_open(file) {
            &mut self.by_open
        } else {
            &mut self.by_others
        }
    }

    const fn is_connected(&self) -> bool {
        self.by_open != 0 || self.by_others != 0
    }
}

/// Whether a class driver has locked the port, or a program has claimed it, and by what its lock ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// None has.
    Free,
    /// One that came through this open, whose end is the lock's.
    ByOpen(FileId),
    /// One that is attached above the device.
    ByOther,
    /// The program whose open it is has claimed the port, until it ends.
    ByProgram(FileId),
}

/// Having the port for an operation.
struct Allocation<'a> {
    device: &'a DeviceCore,
    /// It is locked, and stays so afterwards.
    locked: bool,
    _turn: MutexGuard<'a>,
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
    pub(super) fn try_new(
        device: Device<'_, DeviceRole>,
        place: Place,
        port: Shared<PortCore>,
    ) -> Result<Self, Status> {
        Ok(Self {
            place,
            port,
            clients: SpinLock::new(Clients {
                open: None,
                of_kernel: false,
                by_open: 0,
                by_others: 0,
                started: false,
            }),
            preferences: SpinLock::new(Preferences::DEFAULT),
            modes: AtomicU32::new(word_of(NegotiationMask::DEFAULT)),
            peripheral: Mutex::try_new()?,
            lock: SpinLock::new(Lock::Free),
            wakes: AtomicU32::new(0),
            client: Waiter::try_new()?,
            pending: Pending::try_new(device)?,
            edge_order: SpinLock::new(()),
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

    /// The device as one that leaves EPP connected, and as an owner of the port.
    pub(super) fn address(&self) -> usize {
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

    pub(super) fn port(&self) -> &PortCore {
        &self.port
    }

    /// The request that waits for an edge.
    pub(super) const fn pending(&self) -> &Pending {
        &self.pending
    }

    /// For whoever gives edges to a request.
    pub(super) const fn edge_order(&self) -> &SpinLock<()> {
        &self.edge_order
    }

    /// The turn, after whoever has it.
    pub(super) fn turn_at_last(&self, blocking: Blocking<'_>) -> MutexGuard<'_> {
        self.peripheral.lock_uninterrupted(blocking)
    }

    /// The turn, if it is free.
    pub(super) fn try_lock_peripheral(&self) -> Option<MutexGuard<'_>> {
        self.peripheral.try_lock()
    }

    /// Whether a class driver has locked the port.
    pub(super) fn is_locked(&self) -> bool {
        self.lock
            .with(|lock| matches!(*lock, Lock::ByOpen(_) | Lock::ByOther))
    }

    /// Whether a program has claimed it.
    pub(super) fn is_claimed(&self) -> bool {
        self.lock.with(|lock| matches!(*lock, Lock::ByProgram(_)))
    }

    // Opens and removal.

    /// `IRP_MJ_CREATE`. Whether the device was not open.
    pub(super) fn try_open(&self, irp: &Irp) -> bool {
        let (file, of_kernel) = (irp.file(), !irp.is_from_user());
        self.clients.with(|clients| {
            let free = clients.open.is_none();
            if free {
                clients.open = Some(file);
                clients.of_kernel = of_kernel;
            }
            free
        })
    }

    /// What a program has chosen ends with its open.
    fn forget_preferences(&self) {
        let modes = &self.modes;
        self.preferences.with(move |it| {
            modes.store(word_of(NegotiationMask::DEFAULT), Ordering::Release);
            *it = Preferences::DEFAULT;
        });
    }

    /// `PARCLASS_NEGOTIATION_MASK`: the modes of the session.
    pub(super) fn modes(&self) -> [u8; 4] {
        self.modes.load(Ordering::Acquire).to_le_bytes()
    }

    /// `IRP_MJ_CLOSE`
    pub(super) fn closed(&self, file: FileId, passive: Passive) {
        self.clean_up(file, passive);
        self.end_held_epp();
        self.forget_preferences();
        self.clients.with(|clients| {
            if clients.is_open(file) {
                clients.open = None;
            }
        });
    }

    /// The device is started.
    pub(super) fn start(&self, passive: Passive) {
        self.pending.open(self, passive);
        self.clients.with(|clients| {
            clients.started = true;
            self.client.resume();
        });
    }

    /// `IRP_MJ_CLEANUP`, and once more at `IRP_MJ_CLOSE`: a class driver that came through this open,
    /// and forgot to disconnect or to unlock, does so now.
    pub(super) fn clean_up(&self, file: FileId, passive: Passive) {
        let ended = self.clients.with(|clients| {
            if !clients.is_open(file) {
                return 0;
            }
            let ended = core::mem::take(&mut clients.by_open);
            if ended != 0 && !clients.is_connected() {
                self.client.stop(Status::CANCELLED);
            }
            ended
        });
        self.port.disconnected(ended);
        if self.clients.with(|clients| clients.is_open(file)) {
            self.end_edges(file, passive);
        }
        let ends = [Lock::ByOpen(file), Lock::ByProgram(file)];
        if self.lock.with(|lock| ends.contains(lock)) {
            self.end_lock(passive);
        }
    }

    /// The device is removed: calls of class drivers end, and so does their lock, and with `status`
    /// what waits for an edge.
    pub(super) fn disconnect_hardware(&self, status: Status, passive: Passive) {
        self.pending.close(status, passive);
        self.end_edge_watch(passive);
        let ended = self.clients.with(|clients| {
            clients.started = false;
            self.client.stop(Status::DEVICE_REMOVED);
            core::mem::take(&mut clients.by_open)
                .saturating_add(core::mem::take(&mut clients.by_others))
        });
        self.port.disconnected(ended);
        self.end_lock(passive);
        self.end_held_epp();
        self.forget_preferences();
    }

    /// Ends a lock, whoever has it.
    fn end_lock(&self, passive: Passive) {
        let _turn = self.peripheral.lock_uninterrupted(passive.blocking());
        let lock = self.lock.with(|lock| core::mem::replace(lock, Lock::Free));
        if lock == Lock::Free {
            return;
        }
        self.end_mode(self.port.waits(passive));
        if matches!(lock, Lock::ByProgram(_)) {
            // Lines stay: relays do not click because a program ends.
            self.end_claim(false);
        }
        self.free_port();
    }

    // Operations on the port.

    /// As [`DeviceCore::with_port`], for an operation that gives a status. If the port's power goes
    /// meanwhile, it is done again when it is back, and its time begins anew.
    pub(super) fn with_power<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        mut operation: impl FnMut(&mut Session, &mut OwnedPort<'a>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        loop {
            let settled = |session: &mut Session, port: &mut OwnedPort<'a>| {
                self.settle(session, port);
                operation(session, port)
            };
            match self.with_port(waits, limit, settled).flatten() {
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
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    ) -> Result<T, Status> {
        let allocation = self.allocate(&waits)?;
        self.in_session(waits, limit, allocation.locked, operation)
    }

    fn allocate<'a>(&'a self, waits: &Waits<'_>) -> Result<Allocation<'a>, Status> {
        let turn = self.peripheral.lock(waits)?;
        let locked = self.lock.with(|lock| *lock != Lock::Free);
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
        let inside = self.port.enter_when_there(waits)?;
        Ok(self.port.select_on(Some(&inside.value()), device))
    }

    /// Runs an operation with the session of whoever uses the device. The port is ours; `keep` says
    /// that the mode stays connected afterwards: else the next user may be somebody else.
    fn in_session<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        keep: bool,
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    ) -> Result<T, Status> {
        let inside = self.port.enter_when_there(&waits)?;
        Ok(self.in_session_on(inside, waits, limit, keep, operation))
    }

    /// As [`DeviceCore::in_session`], on hardware that was entered.
    fn in_session_on<'a, T>(
        &'a self,
        inside: RundownGuard<'a, Hardware>,
        waits: Waits<'a>,
        limit: Option<u64>,
        keep: bool,
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    ) -> T {
        let capabilities = self.port.capabilities(&inside.value());
        let wakes = self.port.wakes();
        let mut port = OwnedPort::new(inside, waits, limit);
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
        self.tell_trouble(&mut session, port.why());
        if !keep {
            port.end();
            session.release(&mut port);
            if session.is_held() {
                self.port.hold_epp(self.address());
            }
        }
        if self.watches_edges() && !self.is_locked() {
            self.port.enable_edges(&port.hardware());
        }
        self.port.learn(session.capabilities());
        let modes = &self.modes;
        self.preferences.with(move |it| {
            modes.store(word_of(session.modes()), Ordering::Release);
            it.session = Some(session);
        });
        result
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
        let what = Event::TimedOut {
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
            self.in_session_on(inside, waits, None, true, Session::terminate);
        }
    }

    // Internal requests.

    /// An internal request that is answered at once. `None`: it needs the port.
    pub(super) fn answer_internal(
        &self,
        request: DeviceRequest,
        file: FileId,
    ) -> Option<Result<InternalAnswer, Status>> {
        match request {
            DeviceRequest::Connect => Some(self.connect(file).map(InternalAnswer::Information)),
            DeviceRequest::Disconnect => {
                self.disconnect(file);
                Some(Ok(InternalAnswer::Done))
            }
            DeviceRequest::DisconnectIdle
            | DeviceRequest::Lock { .. }
            | DeviceRequest::Unlock { .. } => None,
        }
    }

    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    fn connect(&self, file: FileId) -> Result<ParclassInformation, Status> {
        let hardware = self.port.found()?;
        let addresses = hardware.addresses();
        let fifo = hardware.capabilities().fifo;
        self.clients.with(|clients| {
            // It is being removed at this moment.
            if !clients.started {
                return Err(Status::DELETE_PENDING);
            }
            if !clients.is_connected() {
                self.client.resume();
            }
            let connections = clients.connections_of(file);
            *connections = connections.saturating_add(1);
            self.port.connected();
            Ok(())
        })?;
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
    fn disconnect(&self, file: FileId) {
        self.clients.with(|clients| {
            let connections = clients.connections_of(file);
            if *connections == 0 {
                return;
            }
            *connections -= 1;
            self.port.disconnected(1);
            if !clients.is_connected() {
                self.client.stop(Status::INVALID_DEVICE_STATE);
            }
        });
    }

    /// An internal request that needs the port, in the worker's thread.
    pub(super) fn serve_internal(&self, task: Task, request: DeviceRequest) -> Disposition {
        let result = match request {
            DeviceRequest::Lock { select } => self.lock(&task.waits(), task.irp().file(), select),
            DeviceRequest::Unlock { deselect } => self.unlock(&task.waits(), deselect),
            DeviceRequest::DisconnectIdle => self.disconnect_idle(&task.waits()),
            // Answered at once; they never come here.
            DeviceRequest::Connect | DeviceRequest::Disconnect => Err(Status::INVALID_PARAMETER),
        };
        task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
    }

    fn lock(&self, waits: &Waits<'_>, file: FileId, select: bool) -> Result<(), Status> {
        let mut allocation = self.allocate_for_lock(waits)?;
        if select {
            self.select(waits)?;
        }
        self.hold(file);
        allocation.locked = true;
        Ok(())
    }

    /// The port, which is ours, stays so until it is unlocked.
    fn hold(&self, file: FileId) {
        if let Some(inside) = self.port.enter() {
            self.port.disable_edges(&inside.value());
        }
        let new = self.clients.with(|clients| match clients.open {
            Some(open) if clients.is_of_open(file) => Lock::ByOpen(open),
            _ => Lock::ByOther,
        });
        self.lock.with(move |lock| *lock = new);
    }

    /// Takes the port for a lock, without selecting the device.
    fn allocate_for_lock<'a>(&'a self, waits: &Waits<'_>) -> Result<Allocation<'a>, Status> {
        let turn = self.peripheral.lock(waits)?;
        if self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        if self.is_claimed() {
            // A program may keep the port for long, and gives it back in this thread.
            return Err(Status::DEVICE_BUSY);
        }
        self.port.take(self.owner(), waits)?;
        Ok(Allocation {
            device: self,
            locked: false,
            _turn: turn,
        })
    }

    /// A program takes the port, and keeps it if `begin` succeeds.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_STATE`: it has it. `STATUS_DEVICE_BUSY`: another client has. As
    /// [`Waits::check`].
    pub(super) fn hold_for_program(
        &self,
        waits: &Waits<'_>,
        file: FileId,
        begin: impl FnOnce(&Self) -> Result<(), Status>,
    ) -> Result<(), Status> {
        if self.is_claimed() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        let mut allocation = match self.allocate_for_lock(waits) {
            // A class driver has.
            Err(Status::INVALID_DEVICE_STATE) => return Err(Status::DEVICE_BUSY),
            allocation => allocation?,
        };
        begin(self)?;
        self.lock.with(move |lock| *lock = Lock::ByProgram(file));
        allocation.locked = true;
        Ok(())
    }

    /// A program gives the port back, after `end`.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_STATE`: it does not have it. As [`Waits::check`].
    pub(super) fn let_go_of_program(
        &self,
        waits: &Waits<'_>,
        end: impl FnOnce(&Self),
    ) -> Result<(), Status> {
        let _turn = self.peripheral.lock(waits)?;
        if !self.is_claimed() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        end(self);
        self.lock.with(|lock| *lock = Lock::Free);
        self.free_port();
        Ok(())
    }

    fn unlock(&self, waits: &Waits<'_>, deselect: bool) -> Result<(), Status> {
        let _turn = self.peripheral.lock(waits)?;
        if !self.is_locked() {
            return Err(Status::INVALID_DEVICE_STATE);
        }
        self.end_mode(*waits);
        if deselect {
            // One that does not answer any more is deselected.
            let _ = self.port.select(None);
        }
        self.lock.with(|lock| *lock = Lock::Free);
        self.free_port();
        Ok(())
    }

    /// `IOCTL_INTERNAL_DISCONNECT_IDLE`
    fn disconnect_idle(&self, waits: &Waits<'_>) -> Result<(), Status> {
        let _turn = self.peripheral.lock(waits)?;
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
        self.check_connected()?;
        if self.is_locked() {
            Ok(())
        } else {
            Err(Status::INVALID_DEVICE_STATE)
        }
    }

    /// Whether a class driver is connected.
    ///
    /// # Errors
    /// `STATUS_DEVICE_REMOVED`, `STATUS_INVALID_DEVICE_STATE`
    fn check_connected(&self) -> Result<(), Status> {
        let (started, connected) = self
            .clients
            .with(|clients| (clients.started, clients.is_connected()));
        match (started, connected) {
            (true, true) => Ok(()),
            (true, false) => Err(Status::INVALID_DEVICE_STATE),
            (false, _) => Err(Status::DEVICE_REMOVED),
        }
    }

    /// Runs an operation of a class driver, which has locked the port.
    pub(super) fn with_locked_port<'a, T>(
        &'a self,
        blocking: Blocking<'a>,
        limit: Option<u64>,
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'a>) -> T,
    ) -> Result<T, Status> {
        self.serves_client()?;
        let waits = Waits::new(&self.client, blocking);
        let _turn = self.peripheral.lock(&waits)?;
        self.serves_client()?;
        self.in_session(waits, limit, true, |session, port| {
            self.settle(session, port);
            operation(session, port)
        })
    }

    fn call(
        &self,
        blocking: Blocking<'_>,
        operation: impl FnOnce(&mut Session, &mut OwnedPort<'_>) -> Result<(), Fault>,
    ) -> Status {
        self.with_locked_port(blocking, None, |session, port| {
            operation(session, port).map_err(|fault| status_of(fault, port))
        })
        .flatten()
        .map_or_else(|why| why, |()| Status::SUCCESS)
    }
}

/// The answer to an internal request.
pub(super) enum InternalAnswer {
    /// Success, with the structure.
    Information(ParclassInformation),
    /// Success.
    Done,
}

impl InternalAnswer {
    pub(super) fn complete(self, irp: Irp) -> Disposition {
        match self {
            Self::Information(information) => irp.answer(&information.to_bytes()),
            Self::Done => irp.complete(Status::SUCCESS),
        }
    }
}

const fn word_of(modes: NegotiationMask) -> u32 {
    u32::from_le_bytes(modes.to_bytes())
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
            let found = self.port.found();
            found.map_or(IeeeModes::empty(), |hardware| {
                self.port.capabilities(&hardware).modes()
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
        if let Err(why) = self.check_connected() {
            return why;
        }
        let device = match self.port.device_of(command) {
            Ok(device) => device,
            Err(status) => return status,
        };
        let waits = Waits::new(&self.client, blocking);
        let _turn = match self.peripheral.lock(&waits) {
            Ok(turn) => turn,
            Err(why) => return why,
        };
        if let Err(why) = self.check_connected() {
            return why;
        }
        if self.is_locked() != command.keeps_port() {
            return Status::INVALID_DEVICE_STATE;
        }
        if !command.keeps_port() {
            if !self.port.try_take(self.owner()) {
                return Status::PENDING;
            }
            // A routine does not tell which client calls it: the open's, if there is one.
            let open = self.clients.with(|clients| clients.open);
            self.hold(open.unwrap_or(FileId::NONE));
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

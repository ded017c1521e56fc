//! The internal requests of class drivers: connection, lock, and the claim of a program.

use super::{
    super::hardware::OwnedPort,
    DeviceCore, Lock,
    requests::status_of,
    session::{Allocation, Operation, once},
};
use crate::{
    ieee1284::{Fault, Session},
    ioctl::{
        Status,
        parallel::{ImmediateDeviceRequest, ParclassInformation, QueuedDeviceRequest},
    },
    kernel::{Blocking, Disposition, FileId, Irp, Task, Waits, device_routines},
};

impl DeviceCore {
    /// Answers an internal request that needs no port.
    pub(in crate::parallel) fn answer_internal(
        &self,
        irp: Irp,
        request: ImmediateDeviceRequest,
    ) -> Disposition {
        match request {
            // IOCTL_INTERNAL_PARCLASS_CONNECT
            ImmediateDeviceRequest::Connect => match self.connect(irp.file()) {
                Ok(information) => irp.answer(&information.to_bytes()),
                Err(status) => irp.complete(status),
            },
            // IOCTL_INTERNAL_PARCLASS_DISCONNECT
            ImmediateDeviceRequest::Disconnect => {
                self.disconnect(irp.file());
                irp.complete(Status::SUCCESS)
            }
        }
    }

    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    pub(super) fn connect(&self, file: FileId) -> Result<ParclassInformation, Status> {
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
    pub(in crate::parallel) fn serve_internal(
        &self,
        task: Task,
        request: QueuedDeviceRequest,
    ) -> Disposition {
        let result = match request {
            // IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_LOCK_PORT_NO_SELECT
            QueuedDeviceRequest::Lock { select } => {
                self.lock(&task.waits(), task.irp().file(), select)
            }
            // IOCTL_INTERNAL_UNLOCK_PORT, IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT
            QueuedDeviceRequest::Unlock { deselect } => self.unlock(&task.waits(), deselect),
            // IOCTL_INTERNAL_DISCONNECT_IDLE
            QueuedDeviceRequest::DisconnectIdle => self.disconnect_idle(&task.waits()),
        };
        task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
    }

    pub(super) fn lock(&self, waits: &Waits<'_>, file: FileId, select: bool) -> Result<(), Status> {
        let mut allocation = self.allocate_for_lock(waits)?;
        if select {
            self.select(waits)?;
        }
        self.hold(file);
        allocation.locked = true;
        Ok(())
    }

    /// The port, which is ours, stays so until it is unlocked.
    pub(super) fn hold(&self, file: FileId) {
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
        match self.lock.with(|lock| *lock) {
            Lock::Free => {}
            Lock::ByOpen(_) | Lock::ByOther => return Err(Status::INVALID_DEVICE_STATE),
            // A program may keep the port for long, and gives it back in this thread.
            Lock::ByProgram(_) => return Err(Status::DEVICE_BUSY),
        }
        self.port.take(self.owner(), waits)?;
        Ok(Allocation {
            device: self,
            locked: false,
            _turn: turn,
        })
    }

    pub(super) fn unlock(&self, waits: &Waits<'_>, deselect: bool) -> Result<(), Status> {
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
        self.in_session(*waits, None, true, &mut Session::terminate::<OwnedPort>)
    }

    /// Whether a class driver may call: it is connected, and has locked the port.
    ///
    /// # Errors
    /// `STATUS_DEVICE_REMOVED`, `STATUS_INVALID_DEVICE_STATE`
    pub(super) fn serves_client(&self) -> Result<(), Status> {
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
    pub(super) fn check_connected(&self) -> Result<(), Status> {
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
        once(operation, |operation| {
            self.on_locked_port(blocking, limit, operation)
        })
    }

    #[inline(never)]
    fn on_locked_port<'a>(
        &'a self,
        blocking: Blocking<'a>,
        limit: Option<u64>,
        operation: &mut dyn Operation<'a>,
    ) -> Result<(), Status> {
        self.serves_client()?;
        let waits = Waits::new(&self.client, blocking);
        let _turn = self.peripheral.lock(&waits)?;
        self.serves_client()?;
        let mut settled = |session: &mut Session, port: &mut OwnedPort<'a>| {
            self.settle(session, port);
            operation.run(session, port);
        };
        self.in_session(waits, limit, true, &mut settled)
    }

    pub(super) fn call(
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
}

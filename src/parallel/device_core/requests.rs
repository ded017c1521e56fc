//! What the device does for each request.

use super::{super::hardware::OwnedPort, DeviceCore, session::Operation};
use crate::{
    ieee1284::{Condition, Direction, Fault, Session, Transfer},
    ioctl::{
        Status,
        parallel::{
            DeviceIdSize, IeeeModes, ImmediateRequest, NegotiationMask, QueuedRequest,
            SerialTimeouts,
        },
    },
    kernel::{Buffer, Disposition, Irp, Shared, Task, Waits},
};

/// The most bytes of a device ID, with its length prefix, and room for a NUL.
pub(in crate::parallel) const LONGEST_ID: usize = 0xFFFF;
/// Bytes of the length prefix of a device ID.
const ID_PREFIX: usize = 2;

/// What the open program has chosen; the defaults come back when it closes the device.
#[derive(Clone, Copy)]
pub(in crate::parallel) struct Preferences {
    /// Modes that must not be used (`IOCTL_PAR_GET_DEVICE_CAPS`).
    pub(in crate::parallel) excluded: IeeeModes,
    /// `SERIAL_TIMEOUTS`
    timeouts: SerialTimeouts,
}

impl Preferences {
    /// No limits, the default modes.
    pub(in crate::parallel) const DEFAULT: Self = Self {
        excluded: IeeeModes::empty(),
        timeouts: SerialTimeouts {
            read_interval: 0,
            read_multiplier: 0,
            read_constant: 0,
            write_multiplier: 0,
            write_constant: 0,
        },
    };
}

/// Bytes of the longest name of a port and its NUL.
const LOCATION: usize = 20;

impl DeviceCore {
    /// Answers a request that needs no port.
    pub(in crate::parallel) fn answer(&self, irp: Irp, request: ImmediateRequest) -> Disposition {
        match request {
            // IOCTL_IEEE1284_GET_MODE
            ImmediateRequest::GetMode => irp.answer_inline(&self.modes()),
            // IOCTL_PAR_GET_DEFAULT_MODES
            ImmediateRequest::GetDefaultModes => irp.answer(&NegotiationMask::DEFAULT.to_bytes()),
            // IOCTL_PAR_IS_PORT_FREE
            ImmediateRequest::IsPortFree => irp.answer(&[u8::from(self.is_free())]),
            // IOCTL_PAR_QUERY_LOCATION
            ImmediateRequest::QueryLocation => {
                let name = self.place().lpt::<10>(self.number());
                let mut bytes = [0; LOCATION];
                let mut length = 1;
                let units = name.units().iter().take(LOCATION - 1);
                for (place, unit) in bytes.iter_mut().zip(units) {
                    // A name of ours is of letters and digits.
                    *place = u8::try_from(*unit).unwrap_or(b'?');
                    length += 1;
                }
                irp.answer(bytes.get(..length).unwrap_or_default())
            }
            // IOCTL_SERIAL_GET_TIMEOUTS
            ImmediateRequest::GetTimeouts => {
                irp.answer(&self.preferences.with(|it| it.timeouts).to_bytes())
            }
            // IOCTL_SERIAL_SET_TIMEOUTS
            ImmediateRequest::SetTimeouts(timeouts) => {
                self.preferences.with(|it| it.timeouts = timeouts);
                irp.complete(Status::SUCCESS)
            }
            // IOCTL_PARSCAN_GET_PORT
            ImmediateRequest::GetPort => match self.describe() {
                Ok(description) => irp.answer(&description),
                Err(status) => irp.complete(status),
            },
        }
    }

    /// A device control request that needs the port.
    pub(in crate::parallel) fn serve(
        this: &Shared<Self>,
        task: Task,
        request: QueuedRequest,
    ) -> Disposition {
        match request {
            // IOCTL_PAR_SET_INFORMATION
            QueuedRequest::SetInformation(_) => {
                let condition = this.on_port(&task, |session, port| session.initialize(port));
                task.complete(condition.map_or_else(|why| why, Condition::status))
            }
            // IOCTL_PAR_QUERY_INFORMATION
            QueuedRequest::QueryInformation => {
                match this.on_port(&task, |session, port| session.condition(port)) {
                    Ok(condition) => task.answer(&condition.flags().to_bytes()),
                    Err(why) => task.complete(why),
                }
            }
            // IOCTL_PAR_QUERY_DEVICE_ID
            QueuedRequest::QueryDeviceId => this.device_id(task, IdForm::Text),
            // IOCTL_PAR_QUERY_RAW_DEVICE_ID
            QueuedRequest::QueryRawDeviceId => this.device_id(task, IdForm::Raw),
            // IOCTL_PAR_QUERY_DEVICE_ID_SIZE
            QueuedRequest::QueryDeviceIdSize => this.device_id(task, IdForm::Size),
            // IOCTL_IEEE1284_NEGOTIATE
            QueuedRequest::Negotiate(offered) => {
                let excluded = this.preferences.with(|it| it.excluded);
                let allowed = NegotiationMask {
                    read: offered.read.difference(excluded),
                    write: offered.write.difference(excluded),
                };
                // An empty mask would keep the mode; nothing was left over here.
                if allowed.read.is_empty() != offered.read.is_empty()
                    || allowed.write.is_empty() != offered.write.is_empty()
                {
                    return task.complete(Status::UNSUCCESSFUL);
                }
                let chosen = this.on_port(&task, |session, port| {
                    match session.negotiate(port, allowed) {
                        Err(Fault::Interrupted) => Err(Fault::Interrupted),
                        chosen => Ok(chosen.ok()),
                    }
                });
                match chosen {
                    Ok(Some(chosen)) => task.answer(&chosen.to_bytes()),
                    // The page has no other status for a device without the modes.
                    Ok(None) => task.complete(Status::UNSUCCESSFUL),
                    Err(why) => task.complete(why),
                }
            }
            // IOCTL_PAR_GET_DEVICE_CAPS
            QueuedRequest::GetDeviceCaps(excluded) => {
                this.preferences.with(|it| it.excluded = excluded);
                let modes =
                    this.on_port(&task, |session, port| session.device_modes(port, excluded));
                match modes {
                    Ok(modes) => task.answer(&modes.to_bytes()),
                    Err(why) => task.complete(why),
                }
            }
            // IOCTL_PARSCAN_CLAIM
            QueuedRequest::Claim => {
                let result = this.claim(&task.waits(), task.irp().file());
                task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
            }
            // IOCTL_PARSCAN_RELEASE
            QueuedRequest::Release { restore } => {
                let result = this.release(&task.waits(), restore);
                task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
            }
            // IOCTL_PARSCAN_RUN
            QueuedRequest::Run(run) => this.run(task, run),
            // IOCTL_PAR_SET_WRITE_ADDRESS
            QueuedRequest::SetWriteAddress(address) => {
                this.set_address(task, Direction::Forward, address)
            }
            // IOCTL_PAR_SET_READ_ADDRESS
            QueuedRequest::SetReadAddress(address) => {
                this.set_address(task, Direction::Reverse, address)
            }
            // IOCTL_PARSCAN_WAIT_EDGE
            QueuedRequest::WaitEdge(milliseconds) => Self::begin_edges(this, task, milliseconds),
        }
    }

    fn set_address(&self, task: Task, direction: Direction, address: u8) -> Disposition {
        let result = self.on_port(&task, |session, _port| {
            session.set_address(direction, address)
        });
        task.complete(result.map_or_else(|why| why, |()| Status::SUCCESS))
    }

    /// `IRP_MJ_WRITE`
    pub(in crate::parallel) fn write_request(&self, task: Task) -> Disposition {
        let copy;
        let data = if task.irp().is_direct() {
            match Self::copy_of_data(&task) {
                Ok(bytes) => copy = bytes,
                Err(status) => return task.complete(status),
            }
            &copy
        } else {
            task.irp().write_data()
        };
        let limit = self.write_limit(data.len());
        let mut written = 0;
        let mut write = |session: &mut Session, port: &mut OwnedPort<'_>| {
            // With a time-out a fault is waited for as a busy peripheral is.
            session.set_patient(limit.is_some());
            // After a sleep, the rest.
            let rest = data.get(written..).unwrap_or_default();
            let (count, status) = Self::write_bytes(session, port, rest);
            written += count;
            status
        };
        let status = self.with_power(task.waits(), limit, &mut write);
        task.complete_transfer(status, written)
    }

    /// The bytes of a direct write, as they are now: their owner may change them at any time.
    fn copy_of_data(task: &Task) -> Result<Buffer, Status> {
        let mut copy = Buffer::try_zeroed(task.irp().transfer_length())?;
        task.irp().copy_from_caller(&mut copy)?;
        Ok(copy)
    }

    /// `IRP_MJ_READ`
    pub(in crate::parallel) fn read_request(&self, mut task: Task) -> Disposition {
        if task.irp().is_direct() {
            return self.direct_read_request(task);
        }
        let (waits, buffer) = task.read_parts();
        let (status, read) = self.read_with_power(waits, buffer);
        task.complete_transfer(status, read)
    }

    /// The same for a requester whose device does direct I/O.
    fn direct_read_request(&self, mut task: Task) -> Disposition {
        // Mapped first, so that no byte is read that could not be handed out.
        let buffer = task
            .copy_to_caller(&[])
            .and_then(|()| Buffer::try_zeroed(task.irp().transfer_length()));
        let mut buffer = match buffer {
            Ok(buffer) => buffer,
            Err(status) => return task.complete(status),
        };
        let (status, read) = self.read_with_power(task.waits(), &mut buffer);
        match task.copy_to_caller(buffer.get(..read).unwrap_or_default()) {
            Ok(()) => task.complete_transfer(status, read),
            Err(status) => task.complete(status),
        }
    }

    /// Reads, however often the port's power goes and comes: how it ended, and how much there was.
    fn read_with_power(&self, waits: Waits<'_>, buffer: &mut [u8]) -> (Status, usize) {
        let limit = self.read_limit(buffer.len());
        let mut read = 0;
        let mut read_bytes = |session: &mut Session, port: &mut OwnedPort<'_>| {
            let (count, status) = Self::read_bytes(session, port, limit, buffer);
            read = count;
            match status {
                // What is there is what there was.
                Status::POWER_STATE_INVALID if count > 0 => Status::SUCCESS,
                status => status,
            }
        };
        let status = self.with_power(waits, limit, &mut read_bytes);
        (status, read)
    }

    /// The time of a write, in milliseconds.
    #[inline]
    pub(super) fn write_limit(&self, length: usize) -> Option<u64> {
        self.preferences.with(|it| it.timeouts).write_limit(length)
    }

    /// The time of a read, in milliseconds.
    #[inline]
    pub(super) fn read_limit(&self, length: usize) -> Option<u64> {
        self.preferences.with(|it| it.timeouts).read_limit(length)
    }

    /// Writes bytes: how many, and how it ended.
    pub(super) fn write_bytes(
        session: &mut Session,
        port: &mut OwnedPort<'_>,
        data: &[u8],
    ) -> (usize, Status) {
        let transfer = session.write(port, data);
        (transfer.bytes, transfer_status(transfer, port))
    }

    /// Reads what the peripheral has at this moment: how much, and how it ended. If it has nothing
    /// and there is a limit, waits that long for a first byte.
    pub(super) fn read_bytes(
        session: &mut Session,
        port: &mut OwnedPort<'_>,
        limit: Option<u64>,
        buffer: &mut [u8],
    ) -> (usize, Status) {
        loop {
            let transfer = session.read(port, buffer);
            let status = transfer_status(transfer, port);
            if transfer.bytes > 0 || status != Status::SUCCESS || limit.is_none() {
                // With an error the program would not get the bytes, and the peripheral would not
                // give them again. The next read meets the error, if it is still there. (Who
                // cancels a read has given its bytes up: it gets `STATUS_CANCELLED`, and how many
                // there were.)
                return match status {
                    Status::IO_DEVICE_ERROR if transfer.bytes > 0 => {
                        (transfer.bytes, Status::SUCCESS)
                    }
                    status => (transfer.bytes, status),
                };
            }
            if let Err(why) = port.pause() {
                return (0, why);
            }
        }
    }

    /// Reads the device ID and answers with it in this form.
    fn device_id(&self, task: Task, form: IdForm) -> Disposition {
        // What the program has room for, and the prefix. Zeroed: the NUL is there.
        let room = task.irp().output_length().saturating_add(ID_PREFIX);
        let mut buffer = match Buffer::try_zeroed(room.min(LONGEST_ID.saturating_add(1))) {
            Ok(buffer) => buffer,
            Err(status) => return task.complete(status),
        };
        let length = self.on_port(&task, |session, port| {
            let sink = buffer.split_last_mut().map(|(_nul, sink)| sink);
            session.device_id(port, sink.unwrap_or_default())
        });
        let length = match length {
            Ok(length) => length,
            Err(why) => return task.complete(why),
        };
        let total = length.total;
        let text = match form {
            IdForm::Text => buffer.get(ID_PREFIX..=total),
            IdForm::Raw => buffer.get(..=total),
            IdForm::Size => {
                // Without the prefix, and with a NUL.
                let size = total.saturating_sub(ID_PREFIX).saturating_add(1);
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                return task.answer(&DeviceIdSize { size }.to_bytes());
            }
        };
        match text {
            Some(text) => task.answer(text),
            // Longer than what the program has room for.
            None => task.complete(Status::BUFFER_TOO_SMALL),
        }
    }

    /// Runs an operation of the peripheral's session on the port.
    ///
    /// # Errors
    /// The status to end the request with.
    fn on_port<T>(
        &self,
        task: &Task,
        mut operation: impl FnMut(&mut Session, &mut OwnedPort<'_>) -> Result<T, Fault>,
    ) -> Result<T, Status> {
        let mut result = None;
        let mut told =
            |session: &mut Session, port: &mut OwnedPort<'_>| match operation(session, port) {
                Ok(value) => {
                    result = Some(value);
                    Status::SUCCESS
                }
                Err(fault) => status_of(fault, port),
            };
        let status = self.for_task(task, &mut told);
        result.ok_or(status)
    }

    /// As [`DeviceCore::with_power`], with the waits of a task: the one copy of it.
    #[inline(never)]
    fn for_task<'a>(&'a self, task: &'a Task, operation: &mut dyn Operation<'a, Status>) -> Status {
        self.with_power(task.waits(), None, operation)
    }
}

/// A form of the device ID.
#[derive(Clone, Copy)]
enum IdForm {
    /// Its bytes without the prefix, and a NUL.
    Text,
    /// Its bytes, and a NUL.
    Raw,
    /// `PAR_DEVICE_ID_SIZE_INFORMATION`
    Size,
}

/// The status of a request that ended with a fault.
#[inline(never)]
pub(in crate::parallel) fn status_of(fault: Fault, port: &OwnedPort<'_>) -> Status {
    match fault {
        Fault::Interrupted => port.why(),
        fault => fault.status(),
    }
}

fn transfer_status(transfer: Transfer, port: &OwnedPort<'_>) -> Status {
    match transfer.result {
        Ok(()) => Status::SUCCESS,
        Err(fault) => status_of(fault, port),
    }
}

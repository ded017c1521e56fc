//! The routines of parallel.h that a class driver calls.

use super::DeviceCore;
use crate::{
    ieee1284::Direction,
    ioctl::{
        Status,
        parallel::{IeeeModes, NegotiationMask, SelectCommand},
    },
    kernel::{Blocking, DeviceCallbacks, FileId, Waits},
};

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
        let port = || {
            let found = self.port.found();
            found.map_or(IeeeModes::empty(), |hardware| {
                self.port.capabilities(&hardware).modes()
            })
        };
        asked
            .or_else(|| self.known_device_modes())
            .unwrap_or_else(port)
            - excluded
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

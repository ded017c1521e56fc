use core::sync::atomic::{AtomicBool, Ordering};

use super::{
    Hardware, PortNumber, SharedHardware,
    hardware::PortInUse,
    requests::{Immediate, Preferences},
};
use crate::{
    Role,
    ioctl::{Status, parallel::UserRequest},
    kernel::{
        BusInformation, Child, ChildText, Create, Device, Disposition, Guid, Inside, Interface,
        Irp, Passive, Request, SpinLock, State, SymbolicLink, Task, TransferKind, Waits, Wide,
        Worker,
    },
};

/// `GUID_DEVINTERFACE_PARCLASS` (ntddpar.h): the interface of parallel devices.
const GUID_DEVINTERFACE_PARCLASS: Guid =
    Guid::new(0x811F_C6A5, 0xF728, 0x11D0, 0xA537_0000_F875_3ED1);
/// `GUID_BUS_TYPE_LPTENUM` (wdmguid.h).
const GUID_BUS_TYPE_LPTENUM: Guid = Guid::new(0xC4CA_1000, 0x2DDC, 0x11D5, 0xA17A_00C0_4F60_524D);

/// How long a request waits for a stopped port between two looks, in milliseconds.
const STOPPED_POLL_MS: u32 = 50;

/// `FileStandardInformation` and `FilePositionInformation` of `FILE_INFORMATION_CLASS` (wdm.h).
const FILE_STANDARD_INFORMATION: i32 = 5;
const FILE_POSITION_INFORMATION: i32 = 14;

/// A parallel device: the physical device object `\Device\ParallelM`, which programs open as
/// `LPTn`. One open at a time.
pub(crate) struct ParallelDevice {
    pub(super) number: PortNumber,
    hardware: SharedHardware,
    worker: Worker,
    open: AtomicBool,
    names: SpinLock<Names>,
    /// What the open program has chosen.
    pub(super) preferences: SpinLock<Preferences>,
    /// A request has the port.
    in_use: AtomicBool,
}

/// What programs find the device by, while it is started.
struct Names {
    interface: Option<Interface>,
    link: Option<SymbolicLink>,
}

impl ParallelDevice {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(
        device: Device<'_, Role>,
        number: PortNumber,
        hardware: SharedHardware,
    ) -> Result<Self, Status> {
        Ok(Self {
            number,
            hardware,
            worker: Worker::try_new(device)?,
            open: AtomicBool::new(false),
            names: SpinLock::new(Names {
                interface: None,
                link: None,
            }),
            preferences: SpinLock::new(Preferences::DEFAULT),
            in_use: AtomicBool::new(false),
        })
    }

    pub(crate) const fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Whether nobody has the port at this moment.
    pub(super) fn is_free(&self) -> bool {
        !self.in_use.load(Ordering::Acquire)
    }

    /// A request to the device object, in the requester's thread.
    pub(crate) fn request(&self, state: State, irp: Irp, request: Request) -> Disposition {
        match request {
            Request::Create(create) => irp.complete(self.open(state, create)),
            Request::Cleanup(_) => self.worker.clean_up(irp),
            Request::Close => {
                self.preferences.with(|it| *it = Preferences::DEFAULT);
                self.open.store(false, Ordering::Release);
                irp.complete(Status::SUCCESS)
            }
            Request::DeviceControl { code } => {
                let parsed = state
                    .serves()
                    .and_then(|()| UserRequest::parse(code, irp.input(), irp.output_length()));
                match parsed {
                    Ok(request) => match self.answer_at_once(request) {
                        Some(Immediate::Data(data)) => irp.answer(data.as_bytes()),
                        Some(Immediate::Done) => irp.complete(Status::SUCCESS),
                        // The others need the port, and may take seconds.
                        None => self.worker.queue(irp),
                    },
                    Err(status) => irp.complete(status),
                }
            }
            Request::Read { offset } | Request::Write { offset } => match state.serves() {
                Err(status) => irp.complete(status),
                // A stream has no places.
                Ok(()) if offset != 0 => irp.complete(Status::INVALID_PARAMETER),
                Ok(()) if irp.transfer_length() == 0 => irp.complete(Status::SUCCESS),
                Ok(()) => self.worker.queue(irp),
            },
            Request::QueryInformation { class } => match (state, class) {
                (State::SurpriseRemoved | State::Removed, _) => {
                    irp.complete(Status::DEVICE_REMOVED)
                }
                // A file of no length, at its beginning: all members are zero.
                (_, FILE_STANDARD_INFORMATION) => irp.answer(&[0; 24]),
                (_, FILE_POSITION_INFORMATION) => irp.answer(&[0; 8]),
                _ => irp.complete(Status::INVALID_PARAMETER),
            },
            Request::InternalDeviceControl => match state.serves() {
                Ok(()) => irp.complete(Status::INVALID_PARAMETER),
                Err(status) => irp.complete(status),
            },
            Request::Other => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }

    /// `IRP_MJ_CREATE`
    fn open(&self, state: State, create: Create) -> Status {
        match state {
            State::RemovePending | State::SurpriseRemoved | State::Removed => {
                return Status::DELETE_PENDING;
            }
            State::Added => return Status::DEVICE_NOT_READY,
            State::Started | State::StopPending | State::Stopped => {}
        }
        if create.directory {
            return Status::NOT_A_DIRECTORY;
        }
        if create.has_name {
            return Status::OBJECT_NAME_NOT_FOUND;
        }
        if self.open.swap(true, Ordering::AcqRel) {
            return Status::ACCESS_DENIED;
        }
        Status::SUCCESS
    }

    /// A queued request, in the worker's thread.
    pub(crate) fn serve(&self, task: Task) -> Disposition {
        match task.irp().transfer() {
            Some(TransferKind::Read) => self.read(task),
            Some(TransferKind::Write) => self.write(task),
            None => {
                let irp = task.irp();
                // It was parsed before it was queued, and its buffer is ours: the same comes out.
                match UserRequest::parse(irp.code(), irp.input(), irp.output_length()) {
                    Ok(request) => self.control(task, request),
                    Err(status) => task.complete(status),
                }
            }
        }
    }

    /// Runs `operation` on the port: takes it, and gives it back at rest. `limit` is the time of
    /// the request in milliseconds.
    ///
    /// # Errors
    /// Why the request ends before the operation begins: `STATUS_CANCELLED`,
    /// `STATUS_DELETE_PENDING` or `STATUS_DEVICE_REMOVED`.
    pub(super) fn with_port<'a, T>(
        &'a self,
        waits: Waits<'a>,
        limit: Option<u64>,
        operation: impl FnOnce(&mut PortInUse<'a>, Hardware) -> T,
    ) -> Result<T, Status> {
        let inside = self.enter(&waits)?;
        let hardware = inside.value();
        self.in_use.store(true, Ordering::Release);
        let mut port = PortInUse::new(inside, waits, limit);
        let result = operation(&mut port, hardware);
        drop(port);
        self.in_use.store(false, Ordering::Release);
        Ok(result)
    }

    /// Waits until the hardware is there: a port is stopped for a moment when Windows gives it
    /// other resources.
    fn enter(&self, waits: &Waits<'_>) -> Result<Inside<'_, Hardware>, Status> {
        loop {
            waits.check()?;
            if let Some(inside) = self.hardware.enter() {
                return Ok(inside);
            }
            waits.wait(STOPPED_POLL_MS)?;
        }
    }
}

impl Child<Role> for ParallelDevice {
    fn start(&self, device: Device<'_, Role>, passive: Passive) -> Result<(), Status> {
        let interface =
            Interface::register(device.physical(), &GUID_DEVINTERFACE_PARCLASS, passive)?;
        self.worker.start(device, passive)?;
        // A name that is taken does not keep the device from working: there is the interface.
        let target = self.number.device_name();
        let link = SymbolicLink::create(self.number.link_name(), target.units(), passive).ok();
        interface.enable(true, passive);
        let names = Names {
            interface: Some(interface),
            link,
        };
        let old = self
            .names
            .with(move |place| core::mem::replace(place, names));
        drop(old);
        Ok(())
    }

    fn vanish(&self, status: Status, passive: Passive) {
        let names = self.names.with(|names| Names {
            interface: names.interface.take(),
            link: names.link.take(),
        });
        if let Some(interface) = &names.interface {
            interface.enable(false, passive);
        }
        drop(names);
        self.worker.stop(status, passive);
    }

    fn device_id(&self) -> Wide<200> {
        Wide::new(r"LPTENUM\MicrosoftRawPort")
    }

    /// The IDs by which Windows knows the raw device of a port; 958A is the CRC of the name.
    fn hardware_ids(&self) -> Wide<200> {
        Wide::new("LPTENUM\\MicrosoftRawPort958A\0MicrosoftRawPort958A\0")
    }

    fn instance_id(&self) -> Wide<200> {
        self.number.lpt()
    }

    fn text(&self, text: ChildText) -> Wide<200> {
        match text {
            ChildText::Description => Wide::new("Printer Port Logical Interface"),
            ChildText::Location => self.number.lpt(),
        }
    }

    fn bus(&self) -> BusInformation {
        BusInformation {
            kind: GUID_BUS_TYPE_LPTENUM,
        }
    }
}

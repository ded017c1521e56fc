use core::sync::atomic::{AtomicBool, Ordering};

use super::{Hardware, PortNumber, SharedHardware, hardware::PortInUse};
use crate::{
    Role,
    ieee1284::{self, Condition, Interrupted},
    ioctl::{Status, parallel::UserRequest},
    kernel::{
        BusInformation, Child, ChildText, Create, Device, Disposition, Guid, Inside, Interface,
        Irp, Passive, Request, SpinLock, State, SymbolicLink, Task, Wide, Worker,
    },
};

/// `GUID_DEVINTERFACE_PARCLASS` (ntddpar.h): the interface of parallel devices.
const GUID_DEVINTERFACE_PARCLASS: Guid =
    Guid::new(0x811F_C6A5, 0xF728, 0x11D0, 0xA537_0000_F875_3ED1);
/// `GUID_BUS_TYPE_LPTENUM` (wdmguid.h).
const GUID_BUS_TYPE_LPTENUM: Guid = Guid::new(0xC4CA_1000, 0x2DDC, 0x11D5, 0xA17A_00C0_4F60_524D);

/// How long a request waits for a stopped port between two looks, in milliseconds.
const STOPPED_POLL_MS: u32 = 50;

/// A parallel device: the physical device object `\Device\ParallelM`, which programs open as
/// `LPTn`. One open at a time.
pub(crate) struct ParallelDevice {
    number: PortNumber,
    hardware: SharedHardware,
    worker: Worker,
    open: AtomicBool,
    names: SpinLock<Names>,
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
        })
    }

    pub(crate) const fn worker(&self) -> &Worker {
        &self.worker
    }

    /// A request to the device object, in the requester's thread.
    pub(crate) fn request(&self, state: State, irp: Irp, request: Request) -> Disposition {
        match request {
            Request::Create(create) => irp.complete(self.open(state, create)),
            Request::Cleanup(_) => self.worker.clean_up(irp),
            Request::Close => {
                self.open.store(false, Ordering::Release);
                irp.complete(Status::SUCCESS)
            }
            Request::DeviceControl { code } => {
                let parsed = state
                    .serves()
                    .and_then(|()| UserRequest::parse(code, irp.input(), irp.output_length()));
                match parsed {
                    // Both need the port, and may take seconds.
                    Ok(UserRequest::QueryInformation(_) | UserRequest::SetInformation(_)) => {
                        self.worker.queue(irp)
                    }
                    Err(status) => irp.complete(status),
                }
            }
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
        let irp = task.irp();
        // It was parsed before it was queued, and its buffer is ours: the same comes out.
        let request = UserRequest::parse(irp.code(), irp.input(), irp.output_length());
        match request {
            Ok(UserRequest::SetInformation(_)) => {
                let condition = self.with_port(&task, ieee1284::initialize);
                task.complete(condition.map_or_else(|why| why, Condition::status))
            }
            Ok(UserRequest::QueryInformation(query)) => {
                match self.with_port(&task, ieee1284::read_condition) {
                    Ok(condition) => task.answer(&query.answer(condition.flags())),
                    Err(why) => task.complete(why),
                }
            }
            Err(status) => task.complete(status),
        }
    }

    /// Runs `operation` on the port.
    ///
    /// # Errors
    /// Why the request ends before the operation did: `STATUS_CANCELLED`,
    /// `STATUS_DELETE_PENDING` or `STATUS_DEVICE_REMOVED`.
    fn with_port<'a, T>(
        &'a self,
        task: &'a Task<'a>,
        operation: impl FnOnce(&mut PortInUse<'a>) -> Result<T, Interrupted>,
    ) -> Result<T, Status> {
        let mut port = PortInUse::new(self.enter(task)?, task);
        operation(&mut port).map_err(|Interrupted| port.why())
    }

    /// Waits until the hardware is there: a port is stopped for a moment when Windows gives it
    /// other resources.
    fn enter<'a>(&'a self, task: &Task<'_>) -> Result<Inside<'a, Hardware>, Status> {
        loop {
            task.check()?;
            if let Some(inside) = self.hardware.enter() {
                return Ok(inside);
            }
            task.wait(STOPPED_POLL_MS)?;
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

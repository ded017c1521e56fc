//! The device object of a parallel device, which programs open as `LPTn`.

use super::{DeviceCore, Identity, Place, PortCore, device_core::programs::Direct};
use crate::{
    DeviceRole,
    ioctl::{
        Status,
        parallel::{DeviceRequest, QueuedDeviceRequest, QueuedRequest, RunRequest, UserRequest},
    },
    kernel::{
        At, BusInformation, ChildDevice, ChildText, Create, Device, Disposition, Guid, ID_UNITS,
        Interface, Irp, Passive, PortSpace, Request, Server, Shared, SpinLock, StartFailure, State,
        SymbolicLink, Task, Wide, WorkItem, Worker,
    },
    trace::{Label, Step},
};

/// `GUID_DEVINTERFACE_PARCLASS` (ntddpar.h): the interface of parallel devices.
const GUID_DEVINTERFACE_PARCLASS: Guid =
    Guid::new(0x811F_C6A5, 0xF728, 0x11D0, 0xA537_0000_F875_3ED1);
/// `GUID_BUS_TYPE_LPTENUM` (wdmguid.h).
const GUID_BUS_TYPE_LPTENUM: Guid = Guid::new(0xC4CA_1000, 0x2DDC, 0x11D5, 0xA17A_00C0_4F60_524D);

/// `FileStandardInformation` and `FilePositionInformation` of `FILE_INFORMATION_CLASS` (wdm.h).
const FILE_STANDARD_INFORMATION: i32 = 5;
const FILE_POSITION_INFORMATION: i32 = 14;

/// `FILE_WRITE_TO_END_OF_FILE` and `FILE_USE_FILE_POINTER_POSITION` (wdm.h), with -1 in the upper
/// half: where a program writes that has opened a file for appending, or does not say where.
const HERE: [i64; 2] = [-1, -2];

/// A parallel device: the physical device object `\Device\ParallelM`, which programs open as
/// `LPTn`, or that of a device on the port, `\Device\ParallelM.x`. One open at a time.
pub(crate) struct ParallelDevice {
    /// Leaves the device out of the image, where there is no port.
    _space: PortSpace,
    core: Shared<DeviceCore>,
    identity: Shared<Identity>,
    worker: Worker<WorkerRequest>,
    work: WorkItem,
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
        device: Device<'_, DeviceRole>,
        space: PortSpace,
        place: Place,
        identity: Shared<Identity>,
        port: Shared<PortCore>,
    ) -> Result<Self, Status> {
        Ok(Self {
            _space: space,
            core: Shared::try_new(DeviceCore::try_new(device, place, port)?)?,
            identity,
            worker: Worker::try_new(device)?,
            work: WorkItem::try_new(device)?,
            names: SpinLock::new(Names {
                interface: None,
                link: None,
            }),
        })
    }

    /// What events call the device.
    pub(crate) fn label(&self) -> Label {
        self.core.number().label()
    }

    /// A request to the device object, in the requester's thread.
    pub(crate) fn request(&self, state: State, irp: Irp, request: Request) -> Disposition {
        match request {
            Request::Create(_) | Request::Cleanup(_) | Request::Close(_) => {
                self.open_or_close(state, irp, request)
            }
            Request::DeviceControl { code } => match state.serves() {
                Ok(()) => self.device_control(irp, code),
                Err(status) => irp.complete(status),
            },
            Request::Read { offset } => self.transfer(state, irp, offset == 0, WorkerRequest::Read),
            Request::Write { offset } => {
                // A stream has no places, but for those that mean "here" and "at the end".
                let here = offset == 0 || HERE.contains(&offset);
                self.transfer(state, irp, here, WorkerRequest::Write)
            }
            // Its turn comes when what was written before has gone out.
            Request::Flush => match state.serves() {
                Ok(()) => self.worker.queue(irp, WorkerRequest::Flush),
                Err(status) => irp.complete(status),
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
            Request::InternalDeviceControl { code, .. } => match state.serves() {
                Ok(()) => self.internal_device_control(irp, code),
                Err(status) => irp.complete(status),
            },
            Request::Foreign => irp.complete(Status::INVALID_PARAMETER),
            Request::Other => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }

    /// `IRP_MJ_READ` and `IRP_MJ_WRITE`, at a place of the stream or not.
    fn transfer(&self, state: State, irp: Irp, here: bool, request: WorkerRequest) -> Disposition {
        match state.serves() {
            Err(status) => irp.complete(status),
            Ok(()) if !here => irp.complete(Status::INVALID_PARAMETER),
            Ok(()) if irp.transfer_length() == 0 => irp.complete(Status::SUCCESS),
            Ok(()) => self.worker.queue(irp, request),
        }
    }

    /// `IRP_MJ_CREATE`, `IRP_MJ_CLEANUP` and `IRP_MJ_CLOSE`
    #[inline(never)]
    fn open_or_close(&self, state: State, irp: Irp, request: Request) -> Disposition {
        match request {
            Request::Create(create) => {
                let status = self.open(state, create, &irp);
                if status.is_success() {
                    irp.set_open_context(&self.core);
                }
                irp.complete(status)
            }
            Request::Cleanup(passive) => {
                self.worker.clean_up(irp.file(), passive);
                self.core.clean_up(irp.file(), passive);
                irp.complete(Status::SUCCESS)
            }
            Request::Close(passive) => {
                self.core.closed(irp.file(), passive);
                irp.complete(Status::SUCCESS)
            }
            _ => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }

    /// `IRP_MJ_DEVICE_CONTROL`
    #[inline(never)]
    fn device_control(&self, irp: Irp, code: u32) -> Disposition {
        match UserRequest::parse(code, irp.input(), irp.output_length()) {
            Ok(UserRequest::Immediate(request)) => self.core.answer(irp, request),
            Ok(UserRequest::Queued(QueuedRequest::Run(run))) => self.run(irp, run),
            // The first one begins the watch, and needs the port for that.
            Ok(UserRequest::Queued(QueuedRequest::WaitEdge(milliseconds)))
                if self.core.watches_edges() =>
            {
                self.core.wait_for_edges(irp, milliseconds)
            }
            Ok(UserRequest::Queued(request)) => {
                self.worker.queue(irp, WorkerRequest::Request(request))
            }
            Err(status) => irp.complete(status),
        }
    }

    #[inline(never)]
    fn run(&self, irp: Irp, run: RunRequest) -> Disposition {
        match self.core.run_now(&irp, run) {
            Direct::Done(answer) => irp.answer(answer.as_bytes()),
            Direct::Refused(status) => irp.complete(status),
            Direct::Later => {
                let request = WorkerRequest::Request(QueuedRequest::Run(run));
                self.worker.queue(irp, request)
            }
        }
    }

    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`
    #[inline(never)]
    fn internal_device_control(&self, irp: Irp, code: u32) -> Disposition {
        match DeviceRequest::parse(code, irp.output_length()) {
            Ok(DeviceRequest::Immediate(request)) => self.core.answer_internal(irp, request),
            Ok(DeviceRequest::Queued(request)) => {
                self.worker.queue(irp, WorkerRequest::Internal(request))
            }
            Err(status) => irp.complete(status),
        }
    }

    /// `IRP_MJ_CREATE`
    fn open(&self, state: State, create: Create, irp: &Irp) -> Status {
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
        if !self.core.is_present() {
            return Status::INVALID_DEVICE_REQUEST;
        }
        if !self.core.try_open(irp) {
            return Status::ACCESS_DENIED;
        }
        Status::SUCCESS
    }
}

/// What the worker of a parallel device serves.
#[derive(Clone, Copy)]
pub(crate) enum WorkerRequest {
    /// `IRP_MJ_READ`
    Read,
    /// `IRP_MJ_WRITE`
    Write,
    /// `IRP_MJ_FLUSH_BUFFERS`
    Flush,
    /// A device control request.
    Request(QueuedRequest),
    /// An internal one.
    Internal(QueuedDeviceRequest),
}

impl Server for ParallelDevice {
    type Carried = WorkerRequest;

    fn worker(&self) -> &Worker<WorkerRequest> {
        &self.worker
    }

    fn serve(&self, task: Task, request: WorkerRequest) -> Disposition {
        match request {
            WorkerRequest::Read => self.core.read_request(task),
            WorkerRequest::Write => self.core.write_request(task),
            // What was written before it has gone out.
            WorkerRequest::Flush => task.complete(Status::SUCCESS),
            WorkerRequest::Request(request) => DeviceCore::serve(&self.core, task, request),
            WorkerRequest::Internal(request) => self.core.serve_internal(task, request),
        }
    }
}

impl ChildDevice<DeviceRole> for ParallelDevice {
    fn start(&self, device: Device<'_, DeviceRole>, passive: Passive) -> Result<(), StartFailure> {
        let (place, number) = (self.core.place(), self.core.number());
        // Clients find devices by the interface, and the one at the end of the chain by its driver.
        let interface = match place {
            Place::EndOfChain => None,
            Place::Raw | Place::Chain(_) => {
                let class = &GUID_DEVINTERFACE_PARCLASS;
                let interface = Interface::register(device.physical(), class, passive);
                Some(interface.at(Step::Worker)?)
            }
        };
        Worker::start(self, passive).at(Step::Worker)?;
        self.core.start(passive);
        // A name that is taken does not keep the device from working: there is the interface.
        let target = place.device_name(number);
        let link = SymbolicLink::create(place.link_name(number), target.units(), passive).ok();
        if let Some(interface) = &interface {
            interface.enable(true, passive);
        }
        let names = Names { interface, link };
        let old = self
            .names
            .with(move |place| core::mem::replace(place, names));
        drop(old);
        Ok(())
    }

    fn disconnect_hardware(&self, status: Status, passive: Passive) {
        let names = self.names.with(|names| Names {
            interface: names.interface.take(),
            link: names.link.take(),
        });
        if let Some(interface) = &names.interface {
            interface.enable(false, passive);
        }
        drop(names);
        self.worker.stop(status, passive);
        self.core.disconnect_hardware(status, passive);
    }

    fn work(&self) -> &WorkItem {
        &self.work
    }

    fn device_id(&self) -> Wide<ID_UNITS> {
        self.identity.device_id()
    }

    fn hardware_ids(&self) -> Wide<ID_UNITS> {
        self.identity.hardware_ids()
    }

    fn compatible_ids(&self) -> Wide<ID_UNITS> {
        self.identity.compatible_ids()
    }

    fn instance_id(&self) -> Wide<ID_UNITS> {
        Identity::instance_id(self.core.place(), self.core.number())
    }

    fn text(&self, text: ChildText) -> Wide<ID_UNITS> {
        match text {
            ChildText::Description => self.identity.description(),
            ChildText::Location => self.core.place().lpt(self.core.number()),
        }
    }

    fn bus(&self) -> BusInformation {
        BusInformation {
            kind: GUID_BUS_TYPE_LPTENUM,
        }
    }
}

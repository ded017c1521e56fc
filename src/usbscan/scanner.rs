//! The device object of a still-image device.

use core::ops::Range;

use super::{Open, ScannerCore, suspend::suspend_settings};
use crate::{
    DeviceRole,
    ioctl::{
        Status,
        usbscan::{
            Bitness, DriverVersion, FILE_DEVICE_USB_SCAN, ImmediateUsbscanRequest, Pipe,
            PipeConfiguration, PipeType, UsbscanRequest,
        },
    },
    kernel::{
        At, Create, Device, DeviceOptions, Disposition, Driver, FunctionDevice, Guid, Interface,
        Irp, Key, Lower, Passive, PassiveWork, PhysicalDevice, Request, Requester, Resources,
        SecurityDescriptor, Server, Shared, SpinLock, StartFailure, State, Suspend, SymbolicLink,
        Task, Wide, Worker, flush_deferred,
    },
    trace::{Label, Step},
};

/// `GUID_DEVINTERFACE_IMAGE` (wiaintfc.h), which is also the setup class.
const GUID_DEVINTERFACE_IMAGE: Guid = Guid::new(0x6BDD_1FC6, 0x810F, 0x11D0, 0xBEC7_0800_2BE2_092F);
/// `REG_SZ` in the software key: what programs pass to `CreateFile`.
const CREATE_FILE_NAME: &str = "CreateFileName";
/// The highest N of `UsbscanN`.
const HIGHEST: u32 = 255;

/// A still-image device: the function device object `\Device\UsbscanN`, which programs open as
/// `UsbscanN`, as often as they like.
pub(crate) struct Scanner {
    pdo: PhysicalDevice,
    number: u32,
    interface: Interface,
    /// `\DosDevices\UsbscanN`, until the device is gone.
    link: SpinLock<Option<SymbolicLink>>,
    core: Shared<ScannerCore>,
    /// Resets pipes.
    worker: Worker<PipeType>,
    work: PassiveWork,
    suspend: Shared<Suspend>,
}

/// `AddDevice` for a still-image device.
///
/// # Errors
/// `STATUS_OBJECT_NAME_COLLISION`, if all names are taken; `STATUS_INSUFFICIENT_RESOURCES`; what
/// registering the interface gives. Nothing is left then.
pub(crate) fn add_scanner(
    driver: Driver<DeviceRole>,
    pdo: PhysicalDevice,
    passive: Passive,
) -> Result<(), Status> {
    let mut result = Err(Status::OBJECT_NAME_COLLISION);
    for number in 0..=HIGHEST {
        let name = Wide::<32>::new(r"\Device\Usbscan").push_number(number);
        let options = DeviceOptions {
            name: name.units(),
            device_type: FILE_DEVICE_USB_SCAN,
            security: Some(&SecurityDescriptor::LOCAL_USERS),
            direct: true,
        };
        result = driver.create_function(pdo, &options, passive, |device, lower| {
            let link = Wide::new(r"\DosDevices\Usbscan").push_number(number);
            Ok(DeviceRole::StillImage(Scanner {
                pdo,
                number,
                link: SpinLock::new(Some(SymbolicLink::create(link, name.units(), passive)?)),
                interface: Interface::register(pdo, &GUID_DEVINTERFACE_IMAGE, passive)?,
                core: Shared::try_new(ScannerCore::try_new(lower, Label::scanner(number))?)?,
                worker: Worker::try_new(device)?,
                work: PassiveWork::try_new(device)?,
                suspend: Suspend::try_new(device)?,
            }))
        });
        // A name that another device has: the next number.
        if result != Err(Status::OBJECT_NAME_COLLISION) {
            break;
        }
    }
    result
}

impl Scanner {
    /// What events call the device.
    pub(crate) fn label(&self) -> Label {
        self.core.label()
    }

    /// A request, in the requester's thread.
    pub(crate) fn request(
        &self,
        device: Device<'_, DeviceRole>,
        irp: Irp,
        request: Request,
    ) -> Disposition {
        let open = irp.kept_for_open::<Open>();
        match request {
            Request::Create(create) => {
                let status = match self.open(device, &irp, create) {
                    Ok(()) => {
                        self.work.power().request();
                        Status::SUCCESS
                    }
                    Err(status) => status,
                };
                return irp.complete(status);
            }
            Request::Cleanup(passive) => {
                self.worker.clean_up(irp.file(), passive);
                if let Some(open) = &open {
                    open.end(PipeType::All, Status::CANCELLED);
                }
                return irp.complete(Status::SUCCESS);
            }
            Request::Close(_) => {
                let file = irp.file();
                self.core.opens().remove(|open| open.is_of(file));
                device.unused();
                return irp.complete(Status::SUCCESS);
            }
            _ => {}
        }
        // A kernel client may send requests without an open; there are none for it.
        let Some(open) = open else {
            return irp.complete(Status::INVALID_DEVICE_REQUEST);
        };
        self.work.power().request();
        let state = device.state().serves();
        let ready = state.and_then(|()| self.core.urb_gate().check());
        if let Err(status) = ready.and_then(|()| open.check(&self.core)) {
            return irp.complete(status);
        }
        match request {
            Request::DeviceControl { .. } => {
                let requester = Requester::of(&irp, &request);
                self.control(&open, irp, requester)
            }
            Request::Read { .. } | Request::Write { .. } if irp.transfer_length() == 0 => {
                irp.complete(Status::SUCCESS)
            }
            // A stream has no places: the offset means nothing.
            Request::Read { .. } => open.transfer(Pipe::ReadData, irp),
            Request::Write { .. } => open.transfer(Pipe::WriteData, irp),
            _ => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }

    /// `IRP_MJ_CREATE`
    fn open(
        &self,
        device: Device<'_, DeviceRole>,
        irp: &Irp,
        create: Create,
    ) -> Result<(), Status> {
        match device.state() {
            State::RemovePending | State::SurpriseRemoved | State::Removed => {
                return Err(Status::DELETE_PENDING);
            }
            State::Added => return Err(Status::DEVICE_NOT_READY),
            State::Started | State::StopPending | State::Stopped => {}
        }
        if create.directory {
            return Err(Status::NOT_A_DIRECTORY);
        }
        let file = irp.file();
        let open = Open::try_new(device, &self.core, file, irp.file_name())?;
        let open = Shared::try_new(open)?;
        self.core.opens().add(open.clone())?;
        irp.set_open_context(&open);
        device.used();
        Ok(())
    }

    /// `IRP_MJ_DEVICE_CONTROL`
    fn control(&self, open: &Open, irp: Irp, requester: Requester<'_>) -> Disposition {
        let bitness = if irp.is_from_32_bit_process() {
            Bitness::Bits32
        } else {
            Bitness::Native
        };
        match UsbscanRequest::parse(irp.code(), irp.input(), irp.output_length(), bitness) {
            Ok(UsbscanRequest::Immediate(request)) => self.answer(open, irp, request),
            // IOCTL_WAIT_ON_DEVICE_EVENT
            Ok(UsbscanRequest::WaitOnDeviceEvent) => open.transfer(Pipe::Event, irp),
            Ok(UsbscanRequest::Control { request, data }) => {
                open.control(irp, request, data, requester)
            }
            // The worker waits for the device, and does it.
            Ok(UsbscanRequest::ResetPipe(which)) => match self.select(open, which) {
                Ok(_) => self.worker.queue(irp, which),
                Err(status) => irp.complete(status),
            },
            Err(status) => irp.complete(status),
        }
    }

    /// Answers a request without the device.
    fn answer(&self, open: &Open, irp: Irp, request: ImmediateUsbscanRequest) -> Disposition {
        match request {
            // IOCTL_GET_VERSION
            ImmediateUsbscanRequest::GetVersion => irp.answer(&DriverVersion::CURRENT.to_bytes()),
            // IOCTL_GET_DEVICE_DESCRIPTOR
            ImmediateUsbscanRequest::GetDeviceDescriptor => match self.core.descriptor() {
                Some(descriptor) => irp.answer(&descriptor.to_bytes()),
                None => irp.complete(Status::DEVICE_NOT_READY),
            },
            // IOCTL_GET_CHANNEL_ALIGN_RQST
            ImmediateUsbscanRequest::GetChannelAlign => match self.core.pipes() {
                Some(pipes) => irp.answer(&pipes.channel_info(open.pipes()).to_bytes()),
                None => irp.complete(Status::DEVICE_NOT_READY),
            },
            // IOCTL_GET_PIPE_CONFIGURATION
            ImmediateUsbscanRequest::GetPipeConfiguration => match self.core.pipes() {
                Some(pipes) => {
                    let pipes = pipes.table();
                    irp.answer(&PipeConfiguration { pipes }.to_bytes())
                }
                None => irp.complete(Status::DEVICE_NOT_READY),
            },
            // IOCTL_SET_TIMEOUT
            ImmediateUsbscanRequest::SetTimeout(timeouts) => {
                open.set_timeouts(timeouts);
                irp.complete(Status::SUCCESS)
            }
            // IOCTL_CANCEL_IO
            ImmediateUsbscanRequest::CancelIo(which) => {
                if let Err(status) = self.select(open, which) {
                    return irp.complete(status);
                }
                match which {
                    PipeType::One(_) => open.end(which, Status::CANCELLED),
                    // Documented: of every handle.
                    PipeType::All => self
                        .core
                        .opens()
                        .for_each(|open| open.end(which, Status::CANCELLED)),
                }
                irp.complete(Status::SUCCESS)
            }
        }
    }

    /// The pipes that a request of this handle is about.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the device was never started. As [`Pipes::select`].
    fn select(&self, open: &Open, which: PipeType) -> Result<Range<usize>, Status> {
        let pipes = self.core.pipes().ok_or(Status::DEVICE_NOT_READY)?;
        pipes.select(open.pipes(), which)
    }

    /// `IOCTL_RESET_PIPE`, in the worker's thread.
    fn reset(&self, task: &Task, which: PipeType) -> Result<(), Status> {
        let open = task.irp().kept_for_open::<Open>();
        let open = open.ok_or(Status::DEVICE_NOT_READY)?;
        while self.core.urb_gate().is_waking() {
            self.core.urb_gate().wait_for_change(&task.waits())?;
        }
        let (waits, limit) = (task.waits(), open.reset_limit());
        for index in self.select(&open, which)? {
            let pipe = open.endpoint(&self.core, index);
            self.core.reset_pipe(&pipe, &waits, limit, task.passive())?;
        }
        Ok(())
    }

    /// Ends every request with `status`; new ones that need the device are refused with `refusal`.
    fn end_all(&self, refusal: Status, status: Status) {
        self.core.urb_gate().close(refusal, status);
        self.end_opens(status);
    }

    fn end_opens(&self, status: Status) {
        self.core
            .opens()
            .for_each(|open| open.end(PipeType::All, status));
    }
}

impl Server for Scanner {
    type Carried = PipeType;

    fn worker(&self) -> &Worker<PipeType> {
        &self.worker
    }

    fn serve(&self, task: Task, which: PipeType) -> Disposition {
        // IOCTL_RESET_PIPE
        let status = match self.reset(&task, which) {
            Ok(()) => Status::SUCCESS,
            Err(status) => status,
        };
        task.complete(status)
    }
}

impl FunctionDevice<DeviceRole> for Scanner {
    fn lower(&self) -> Lower {
        self.core.lower()
    }

    fn work(&self) -> &PassiveWork {
        &self.work
    }

    fn start(
        &self,
        _device: Device<'_, DeviceRole>,
        _raw: Resources<'_>,
        _resources: Resources<'_>,
        passive: Passive,
    ) -> Result<(), StartFailure> {
        self.stop(passive);
        self.core.start(passive)?;
        let settings = suspend_settings(self.pdo, &self.core, passive);
        self.suspend.configure(settings, passive);
        Worker::start(self, passive).at(Step::Worker)?;
        self.core.urb_gate().open();
        // Without it the device works, too, and is found by its interface.
        if let Ok(key) = Key::of_software(self.pdo, passive) {
            let name = Wide::new(r"\\.\Usbscan").push_number(self.number);
            let _ = key.set_text(&Wide::new(CREATE_FILE_NAME), &name);
        }
        self.interface.enable(true, passive);
        Ok(())
    }

    fn query_stop(&self) -> Result<(), Status> {
        // Whatever is under way can be ended.
        Ok(())
    }

    fn cancel_stop(&self) {}

    fn stop(&self, passive: Passive) {
        self.end_all(Status::DEVICE_NOT_READY, Status::CANCELLED);
        self.core.urb_gate().wait_idle(passive.blocking());
    }

    fn disconnect_hardware(&self, passive: Passive) {
        self.interface.enable(false, passive);
        drop(self.link.with(Option::take));
        self.end_all(Status::DELETE_PENDING, Status::NO_SUCH_DEVICE);
        self.worker.stop(Status::DELETE_PENDING, passive);
        self.core.urb_gate().wait_idle(passive.blocking());
    }

    fn remove(&self, passive: Passive) {
        // Opens that are not closed yet stay until then, by themselves.
        self.core.opens().clear();
        flush_deferred(passive);
    }

    /// Documented: requests end before the device sleeps, and programs begin them again.
    fn sleep(&self, passive: Passive) {
        let urb_gate = self.core.urb_gate();
        urb_gate.sleep(Status::DEVICE_NOT_READY, Status::CANCELLED);
        self.end_opens(Status::CANCELLED);
        urb_gate.wait_idle(passive.blocking());
    }

    /// The configuration and its pipes are those from before.
    fn wake(&self, _passive: Passive) {
        if self.core.urb_gate().wake() {
            self.core.opens().for_each(Open::resume_all);
        }
    }

    fn resume_requests(&self) {
        self.core.urb_gate().resume_requests();
    }

    fn suspend(&self) -> Option<&Suspend> {
        Some(&self.suspend)
    }

    fn park(&self) {
        self.core.urb_gate().park();
    }

    fn unpark(&self) {
        if self.core.urb_gate().wake() {
            self.core.opens().for_each(Open::resume_all);
        }
    }

    fn settle(&self, passive: Passive) {
        self.core.urb_gate().wait_idle(passive.blocking());
    }

    fn lost(&self) {
        if self.core.urb_gate().lose(Status::DEVICE_NOT_READY) {
            self.end_opens(Status::DEVICE_NOT_READY);
        }
    }
}

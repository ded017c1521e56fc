use super::{Hardware, ParallelDevice, PortNumber, SharedHardware};
use crate::{
    Role,
    ioctl::{FILE_DEVICE_PARALLEL_PORT, Status},
    kernel::{
        Device, DeviceOptions, Disposition, Driver, Function, Gate, Guid, Interface, Irp, Key,
        Lower, OwnedDevice, Passive, PhysicalDevice, Request, Resources, SecurityDescriptor,
        Shared, SpinLock, State, Wide,
    },
};

/// `GUID_DEVINTERFACE_PARALLEL` (ntddpar.h): the interface of port objects.
const GUID_DEVINTERFACE_PARALLEL: Guid =
    Guid::new(0x97F7_6EF0, 0xF883, 0x11D0, 0xAF1F_0000_F800_845C);

/// `REG_DWORD` in the hardware key of a port: 1 says that its chip takes 32-bit accesses to the
/// EPP data register. Finding that out by trying could reach the registers behind it.
const EPP_32: &str = "ParscanEpp32";

/// A parallel port: the function device object `\Device\ParallelPortM`.
pub(crate) struct Port {
    lower: Lower,
    pdo: PhysicalDevice,
    number: PortNumber,
    interface: Interface,
    hardware: SharedHardware,
    /// The device `LPTn`, once the PnP manager has asked for children.
    child: SpinLock<Option<OwnedDevice<Role>>>,
}

/// `AddDevice` for a parallel port.
///
/// # Errors
/// `STATUS_OBJECT_NAME_COLLISION`, if all 255 names are taken; `STATUS_INSUFFICIENT_RESOURCES`;
/// what registering the interface gives. Nothing is left then.
pub(crate) fn add_port(
    driver: Driver<Role>,
    pdo: PhysicalDevice,
    passive: Passive,
) -> Result<(), Status> {
    let mut result = Err(Status::OBJECT_NAME_COLLISION);
    for number in PortNumber::candidates(pdo, passive) {
        let name = number.port_name();
        let options = DeviceOptions {
            name: name.units(),
            device_type: FILE_DEVICE_PARALLEL_PORT,
        };
        result = driver.create_function(pdo, &options, passive, |_device, lower| {
            Ok(Role::Port(Port {
                lower,
                pdo,
                number,
                interface: Interface::register(pdo, &GUID_DEVINTERFACE_PARALLEL, passive)?,
                hardware: Shared::try_new(Gate::closed(passive))?,
                child: SpinLock::new(None),
            }))
        });
        // A name that another driver has: the next number.
        if result != Err(Status::OBJECT_NAME_COLLISION) {
            break;
        }
    }
    result
}

impl Port {
    /// A request to the port object. Its documented requests are internal ones, of kernel clients.
    pub(crate) fn request(state: State, irp: Irp, request: Request) -> Disposition {
        match request {
            Request::Create(create) => {
                let status = match state {
                    State::RemovePending | State::SurpriseRemoved | State::Removed => {
                        Status::DELETE_PENDING
                    }
                    _ if create.directory => Status::NOT_A_DIRECTORY,
                    _ if create.has_name => Status::OBJECT_NAME_NOT_FOUND,
                    _ => Status::SUCCESS,
                };
                irp.complete(status)
            }
            Request::Cleanup(_) | Request::Close => irp.complete(Status::SUCCESS),
            Request::InternalDeviceControl => match state.serves() {
                Ok(()) => irp.complete(Status::INVALID_PARAMETER),
                Err(status) => irp.complete(status),
            },
            Request::DeviceControl { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::QueryInformation { .. }
            | Request::Other => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }
}

impl Function<Role> for Port {
    fn lower(&self) -> Lower {
        self.lower
    }

    fn start(
        &self,
        _device: Device<'_, Role>,
        resources: Resources<'_>,
        passive: Passive,
    ) -> Result<(), Status> {
        // A started port that gets other resources lets go of the old ones first.
        self.hardware.close(passive);
        let epp_32 = Key::of_device(self.pdo, false, passive)
            .ok()
            .and_then(|key| key.dword(&Wide::new(EPP_32)))
            == Some(1);
        let hardware = Hardware::start(resources, epp_32)?;
        self.hardware.open(hardware, passive);
        self.number.save(self.pdo, passive);
        self.interface.enable(true, passive);
        Ok(())
    }

    fn stop(&self, passive: Passive) {
        self.hardware.close(passive);
    }

    fn vanish(&self, passive: Passive) {
        self.interface.enable(false, passive);
        self.hardware.evict(passive);
    }

    fn remove(&self, passive: Passive) {
        if let Some(child) = self.child.with(Option::take) {
            child.delete(passive);
        }
    }

    fn children(
        &self,
        device: Device<'_, Role>,
        passive: Passive,
        report: &mut dyn FnMut(PhysicalDevice),
    ) -> Result<(), Status> {
        let known = self
            .child
            .with(|child| child.as_ref().map(OwnedDevice::physical));
        let child = match known {
            Some(child) => child,
            None => self.make_child(device, passive)?,
        };
        report(child);
        Ok(())
    }
}

impl Port {
    fn make_child(
        &self,
        port: Device<'_, Role>,
        passive: Passive,
    ) -> Result<PhysicalDevice, Status> {
        let name = self.number.device_name();
        let options = DeviceOptions {
            name: name.units(),
            device_type: FILE_DEVICE_PARALLEL_PORT,
        };
        let child = port.create_child(
            &options,
            &SecurityDescriptor::LOCAL_USERS,
            passive,
            |device| {
                ParallelDevice::try_new(device, self.number, self.hardware.clone())
                    .map(Role::ParallelDevice)
            },
        )?;
        let physical = child.physical();
        self.child.with(move |place| *place = Some(child));
        Ok(physical)
    }
}

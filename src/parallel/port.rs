//! The device object of a parallel port, and the devices that it finds.

use core::sync::atomic::{AtomicU8, Ordering};

use super::{
    Hardware, Identity, ParallelDevice, Place, PortCore, PortNumber,
    device_core::requests::{LONGEST_ID, status_of},
    hardware::OwnedPort,
};
use crate::{
    DeviceRole,
    ieee1284::{DeviceId, IdLength, Interrupted, Session, steady_condition},
    ioctl::{FILE_DEVICE_PARALLEL_PORT, Status},
    kernel::{
        At, Buffer, Children, Device, DeviceOptions, Disposition, Driver, FunctionDevice, Guid,
        Interface, Irp, Key, Lower, OwnedDevice, Owner, Passive, PassiveWork, PhysicalDevice,
        PortSpace, Request, Resources, RundownGuard, SecurityDescriptor, Shared, SpinLock,
        StartFailure, State, Waits, Wide,
    },
    trace::{Label, Step},
};

/// `GUID_DEVINTERFACE_PARALLEL` (ntddpar.h): the interface of port objects.
const GUID_DEVINTERFACE_PARALLEL: Guid =
    Guid::new(0x97F7_6EF0, 0xF883, 0x11D0, 0xAF1F_0000_F800_845C);

/// `REG_DWORD` in the hardware key of a port: 1 says that its chip takes 32-bit accesses to the
/// EPP data register. Finding that out by trying could reach the registers behind it.
const EPP_32: &str = "ParscanEpp32";

/// How long a look at the devices on the port waits for the port, in milliseconds. If it is in use,
/// the devices are taken to be the same.
const LOOK_WAIT_MS: u32 = 500;
/// How long a device may take to tell its ID then, in milliseconds.
const LOOK_LIMIT_MS: u64 = 2000;

/// Room for the ID of nearly every device. A longer one is asked for once more.
const USUAL_ID: usize = 1024;

/// A parallel port: the function device object `\Device\ParallelPortM`.
pub(crate) struct ParallelPort {
    space: PortSpace,
    lower: Lower,
    interface: Interface,
    work: PassiveWork,
    core: Shared<PortCore>,
    /// The devices that were found, by [`PLACES`]. Changed in the PnP path alone.
    children: SpinLock<[Option<Attached>; PLACES.len()]>,
    /// How often in a row the port answered that there is no device, by place.
    misses: [AtomicU8; PLACES.len()],
}

/// What was seen on a port.
enum Seen {
    /// A device that says who it is: so much of its ID.
    Id(IdLength),
    /// The status lines say that there is no peripheral.
    Nobody,
    /// Something that does not say who it is.
    Silent,
    /// The port has no power, or is stopped.
    NoPort,
}

/// The devices that a port may have.
const PLACES: [Place; 4] = [
    Place::Raw,
    // The first look there finds the chain, too.
    Place::EndOfChain,
    Place::Chain(0),
    Place::Chain(1),
];

/// A device on the port.
struct Attached {
    identity: Shared<Identity>,
    device: OwnedDevice<DeviceRole>,
    /// The PnP manager was told of it, in a list of children. Only then it removes it.
    reported: bool,
    /// It is gone, and the PnP manager is to be told so, by a list without it.
    gone: bool,
}

/// What a look at a place found.
enum LookResult {
    /// A device.
    Found(Shared<Identity>),
    /// There is no such place, or it is not to be looked at.
    None,
    /// The status lines say that there is no peripheral.
    Nobody,
    /// It is off, busy or asleep, or does not say who it is; or the port is in use, or stopped.
    Unknown,
}

/// A device goes with so many looks in a row that found none.
const MISSES: u8 = 2;

/// `AddDevice` for a parallel port.
///
/// # Errors
/// `STATUS_OBJECT_NAME_COLLISION`, if all 255 names are taken; `STATUS_INSUFFICIENT_RESOURCES`;
/// what registering the interface gives. Nothing is left then.
pub(crate) fn add_port(
    driver: Driver<DeviceRole>,
    pdo: PhysicalDevice,
    space: PortSpace,
    passive: Passive,
) -> Result<(), Status> {
    let mut result = Err(Status::OBJECT_NAME_COLLISION);
    for number in PortNumber::candidates(pdo, passive) {
        let name = number.port_name();
        let options = DeviceOptions {
            name: name.units(),
            device_type: FILE_DEVICE_PARALLEL_PORT,
            security: None,
            direct: false,
        };
        result = driver.create_function(pdo, &options, passive, |device, lower| {
            let work = PassiveWork::try_new(device)?;
            let power = work.power().clone();
            Ok(DeviceRole::Port(ParallelPort {
                space,
                lower,
                work,
                interface: Interface::register(pdo, &GUID_DEVINTERFACE_PARALLEL, passive)?,
                core: Shared::try_new(PortCore::try_new(device, pdo, number, power, passive)?)?,
                children: SpinLock::new([const { None }; PLACES.len()]),
                misses: [const { AtomicU8::new(0) }; PLACES.len()],
            }))
        });
        // A name that another driver has: the next number.
        if result != Err(Status::OBJECT_NAME_COLLISION) {
            break;
        }
    }
    result
}

impl ParallelPort {
    /// What events call the port.
    pub(crate) fn label(&self) -> Label {
        self.core.number().label()
    }

    /// A request to the port object. Its documented requests are internal ones, of kernel clients.
    pub(crate) fn request(&self, state: State, irp: Irp, request: Request) -> Disposition {
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
                if status.is_success() {
                    self.core.opened();
                    irp.set_open_context(&self.core);
                }
                irp.complete(status)
            }
            Request::Cleanup(_) => {
                self.core.clean_up(irp.file());
                irp.complete(Status::SUCCESS)
            }
            Request::Close(passive) => {
                self.core.closed(irp.file(), passive);
                irp.complete(Status::SUCCESS)
            }
            Request::InternalDeviceControl { code, passive } => match state.serves() {
                Ok(()) => self.core.request(irp, code, passive),
                Err(status) => irp.complete(status),
            },
            Request::Foreign => irp.complete(Status::INVALID_PARAMETER),
            Request::DeviceControl { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::Flush
            | Request::QueryInformation { .. }
            | Request::Other => irp.complete(Status::INVALID_DEVICE_REQUEST),
        }
    }

    /// Looks whether there is a device at a place.
    fn look(&self, place: Place, passive: Passive) -> Result<LookResult, Status> {
        match self.look_for(place, USUAL_ID, passive)? {
            Some(look) => Ok(look),
            // Once more, with room for any.
            None => Ok(self
                .look_for(place, LONGEST_ID, passive)?
                .unwrap_or(LookResult::Unknown)),
        }
    }

    /// The same with room for an ID of `room` bytes. `None`: it is longer.
    fn look_for(
        &self,
        place: Place,
        room: usize,
        passive: Passive,
    ) -> Result<Option<LookResult>, Status> {
        let device = match place {
            Place::Raw => return Identity::raw().map(LookResult::Found).map(Some),
            _ if !self.core.probes() => return Ok(Some(LookResult::None)),
            Place::Chain(device) if device >= self.core.chain() => {
                return Ok(Some(LookResult::None));
            }
            Place::Chain(device) => Some(device),
            Place::EndOfChain => None,
        };
        if self.core.is_asleep() {
            // Its power comes with a request that the system makes when this one is over.
            self.core.look_again();
            return Ok(Some(LookResult::Unknown));
        }
        // Zeroed, and freed in any case.
        let mut id = Buffer::try_zeroed(room)?;
        let waits = self.core.waits(passive);
        let owner = Owner::Device(core::ptr::from_ref(self).addr());
        if self.core.holds_epp() {
            return Ok(Some(LookResult::Unknown));
        }
        if self.core.take_within(owner, &waits, LOOK_WAIT_MS).is_err() {
            if self.core.is_asleep() {
                self.core.look_again();
            }
            return Ok(Some(LookResult::Unknown));
        }
        let seen = match self.core.enter() {
            Some(inside) => self.ask(inside, waits, device, &mut id),
            None => Seen::NoPort,
        };
        // Deselects it, too.
        self.core.free_for(owner);
        Ok(Some(match seen {
            Seen::NoPort => {
                self.core.look_again();
                LookResult::Unknown
            }
            Seen::Nobody => LookResult::Nobody,
            Seen::Silent => LookResult::Unknown,
            Seen::Id(length) if length.stored < length.total && room < LONGEST_ID => {
                return Ok(None);
            }
            Seen::Id(length) => {
                let id = DeviceId(id.get(..length.stored).unwrap_or_default());
                Identity::of(id)?.map_or(LookResult::Unknown, LookResult::Found)
            }
        }))
    }

    /// Asks a device for its ID, if the status lines show that there is one at rest. Else no line
    /// moves, but those that select a device of a chain, which is known to be there. The port is
    /// the caller's.
    fn ask(
        &self,
        inside: RundownGuard<'_, Hardware>,
        waits: Waits<'_>,
        device: Option<u8>,
        id: &mut [u8],
    ) -> Seen {
        let hardware = inside.value();
        let mut port = OwnedPort::new(inside, waits, Some(LOOK_LIMIT_MS));
        let before = hardware.lines();
        if device.is_some() && self.core.select_on(Some(&hardware), device) != Status::SUCCESS {
            before.restore(&mut hardware.non_blocking());
            return Seen::Silent;
        }
        let seen = match steady_condition(&mut port) {
            Err(Interrupted) if port.why() == Status::POWER_STATE_INVALID => Seen::NoPort,
            Err(Interrupted) | Ok(None) => Seen::Silent,
            Ok(Some(condition)) if condition.is_nobody() => Seen::Nobody,
            Ok(Some(condition)) if !condition.is_at_rest() => Seen::Silent,
            Ok(Some(_)) => {
                if device.is_none() {
                    self.core.survey(&hardware);
                }
                let mut session = Session::new(self.core.capabilities(&hardware));
                let answer = session.device_id(&mut port, id);
                self.core.learn(session.capabilities());
                match answer {
                    Ok(length) => Seen::Id(length),
                    Err(fault) if status_of(fault, &port) == Status::POWER_STATE_INVALID => {
                        Seen::NoPort
                    }
                    Err(_) => Seen::Silent,
                }
            }
        };
        if device.is_some() {
            let _ = self.core.select_on(Some(&hardware), None);
            before.restore(&mut hardware.non_blocking());
        }
        seen
    }

    /// Brings what Windows knows of a place up to date.
    fn update(
        &self,
        index: usize,
        place: Place,
        port: Device<'_, DeviceRole>,
        passive: Passive,
    ) -> Result<(), Status> {
        let look = self.look(place, passive)?;
        let misses = match (self.misses.get(index), &look) {
            // What does not answer may be there all the same.
            (_, LookResult::Unknown) => return Ok(()),
            (Some(misses), LookResult::Nobody) => {
                misses.fetch_add(1, Ordering::Relaxed).saturating_add(1)
            }
            (Some(misses), _) => {
                misses.store(0, Ordering::Relaxed);
                0
            }
            (None, _) => 0,
        };
        let found = match look {
            LookResult::Nobody if misses < MISSES => return Ok(()),
            LookResult::Unknown | LookResult::Nobody | LookResult::None => None,
            LookResult::Found(identity) => Some(identity),
        };
        let known = self.known(index, |child| (child.identity.clone(), child.reported));
        let same = known.as_ref().map(|(identity, _)| &**identity) == found.as_deref();
        let reported = known.is_some_and(|(_, reported)| reported);
        if same || reported {
            self.children.with(|children| {
                if let Some(child) = children.get_mut(index).and_then(Option::as_mut) {
                    child.gone = !same;
                }
            });
            if !same && found.is_some() {
                // The old device has the name until Windows has removed it. Then the new one is
                // found.
                self.core.pdo().children_changed();
            }
            return Ok(());
        }
        // One that Windows never heard of, and never removes.
        let gone = self
            .children
            .with(|children| children.get_mut(index).and_then(Option::take));
        if let Some(gone) = gone {
            gone.device.discard(passive);
        }
        let Some(identity) = found else {
            return Ok(());
        };
        let child = self.make_child(place, identity, port, passive)?;
        let _ = self
            .children
            .with(move |children| children.get_mut(index).and_then(|it| it.replace(child)));
        Ok(())
    }

    /// What `of` says of a device that was found.
    fn known<T: Send>(&self, index: usize, of: impl FnOnce(&Attached) -> T + Send) -> Option<T> {
        self.children
            .with(|children| children.get(index).and_then(Option::as_ref).map(of))
    }

    fn make_child(
        &self,
        place: Place,
        identity: Shared<Identity>,
        port: Device<'_, DeviceRole>,
        passive: Passive,
    ) -> Result<Attached, Status> {
        let name = place.device_name(self.core.number());
        let options = DeviceOptions {
            name: name.units(),
            device_type: FILE_DEVICE_PARALLEL_PORT,
            security: Some(&SecurityDescriptor::LOCAL_USERS),
            direct: false,
        };
        let device = port.create_child(&options, passive, |device| {
            let (identity, port) = (identity.clone(), self.core.clone());
            ParallelDevice::try_new(device, self.space, place, identity, port)
                .map(DeviceRole::ParallelDevice)
        })?;
        Ok(Attached {
            identity,
            device,
            reported: false,
            gone: false,
        })
    }
}

impl FunctionDevice<DeviceRole> for ParallelPort {
    fn lower(&self) -> Lower {
        self.lower
    }

    fn work(&self) -> &PassiveWork {
        &self.work
    }

    fn start(
        &self,
        _device: Device<'_, DeviceRole>,
        raw: Resources<'_>,
        resources: Resources<'_>,
        passive: Passive,
    ) -> Result<(), StartFailure> {
        // A started port that gets other resources lets go of the old ones first.
        self.core.stop(passive);
        let epp_32 = Key::of_device(self.core.pdo(), false, passive)
            .ok()
            .and_then(|key| key.dword(&Wide::new(EPP_32)))
            == Some(1);
        let card = self.core.pdo().pci_identity(passive);
        let hardware = Hardware::start(raw, resources, epp_32, card).at(Step::Resources)?;
        self.core.start(hardware, passive);
        self.core.number().save(self.core.pdo(), passive);
        self.core.number().show(self.core.pdo(), passive);
        self.interface.enable(true, passive);
        Ok(())
    }

    fn query_stop(&self) -> Result<(), Status> {
        self.core.query_stop()
    }

    fn cancel_stop(&self) {
        self.core.give_back();
    }

    fn stop(&self, passive: Passive) {
        self.core.stop(passive);
    }

    fn sleep(&self, passive: Passive) {
        self.core.sleep(passive);
    }

    fn wake(&self, passive: Passive) {
        self.core.wake(passive);
    }

    fn resume_requests(&self) {
        self.core.resume_requests();
    }

    fn lost(&self) {
        self.core.lost();
    }

    fn disconnect_hardware(&self, passive: Passive) {
        self.interface.enable(false, passive);
        self.core.disconnect_hardware(passive);
    }

    fn remove(&self, passive: Passive) {
        let mut children = self
            .children
            .with(|children| core::mem::replace(children, [const { None }; PLACES.len()]));
        for child in children.iter_mut().filter_map(Option::take) {
            child.device.delete(passive);
        }
    }

    fn is_bus(&self) -> bool {
        true
    }

    fn children(
        &self,
        device: Device<'_, DeviceRole>,
        passive: Passive,
        children: &mut Children,
    ) -> Result<(), Status> {
        for (index, place) in PLACES.into_iter().enumerate() {
            let result = self.update(index, place, device, passive);
            // Without its raw device a port is of no use; the others may come later.
            if place == Place::Raw {
                result?;
            }
            let there = self.known(index, |child| {
                (!child.gone).then(|| child.device.physical())
            });
            if let Some(child) = there.flatten() {
                children.add(child);
            }
        }
        Ok(())
    }

    fn reported(&self) {
        let mut gone = [const { None }; PLACES.len()];
        for (index, gone) in gone.iter_mut().enumerate() {
            *gone = self.children.with(|children| {
                let place = children.get_mut(index)?;
                let gone = place.take_if(|child| child.gone);
                if let Some(child) = place
                    && !core::mem::replace(&mut child.reported, true)
                {
                    child.device.introduce();
                }
                gone
            });
        }
        for child in gone.iter_mut().filter_map(Option::take) {
            child.device.report_missing();
        }
    }

    fn uses_interrupt(&self, passive: Passive) -> Option<bool> {
        Some(self.core.uses_interrupt(passive))
    }
}

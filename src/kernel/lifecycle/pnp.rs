//! The PnP and WMI requests of function devices and of the children they enumerate.
//!
//! A function device (FDO) acts and passes a request down; a child (PDO) is the bottom of its
//! stack and completes everything. What a device does not know passes, or ends, with its status
//! untouched: Driver Verifier sends unknown minor codes to see just that.
//!
//! # What PnP and power requests wait for
//! Never for what only another PnP or power request can bring:
//!
//! | wait | ended by |
//! |---|---|
//! | a device's turn (`PassiveWork::alone`) | the request that acts, each of whose waits is in this table |
//! | the hardware's gate, at sleep and removal | the thread inside, which is asked to leave, and looks at it in every wait of a handshake |
//! | the hardware's gate, at STOP | the port is the system's then, and no thread inside |
//! | a worker's thread, at removal | the worker, whose waits were told to end |
//! | the turn at a peripheral, at a child's removal | the thread that has it, which was told to end; hardware that sleeps is not waited for |
//! | the port, in `QUERY_DEVICE_RELATIONS` | its owner, or after half a second none; a port that sleeps is looked at again when it has power |
//! | URBs, at sleep, stop and removal | the USB stack, which was told to cancel them; those of a start end after five seconds, too |
//! | an idle request and a wait/wake IRP, at START, STOP and removal | the USB stack, which was told to cancel them; the bus driver's callback ends with a device power IRP, which no PnP request holds up |
//! | a client's interrupt routines, deferred procedure calls | their own end |
//! | the remove lock | requests that were ended or handed to the lower drivers before, which give them back |
//!
//! Sources: the pages of the minor IRPs, "Removing a Device in a Function Driver" and "Using Remove
//! Locks" of the Windows driver documentation.

use core::ptr::NonNull;

use wdk_sys::{
    _BUS_QUERY_ID_TYPE, _DEVICE_POWER_STATE, _DEVICE_RELATION_TYPE, _DEVICE_TEXT_TYPE,
    BUS_QUERY_ID_TYPE, DEVICE_CAPABILITIES, DEVICE_OBJECT, DEVICE_RELATIONS, IRP,
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION,
    IRP_MN_FILTER_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES,
    IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, IRP_MN_SURPRISE_REMOVAL, NTSTATUS, PDEVICE_OBJECT,
    PNP_BUS_INFORMATION, PVOID, STATUS_MORE_PROCESSING_REQUIRED,
};

use crate::kernel::{
    At, Device, Disposition, Guid, Irp, Lower, Passive, PassiveWork, PhysicalDevice, Resources,
    Role, StartFailure, Suspend, Wide, WorkItem,
    device::{delete_function, delete_missing},
    flush_deferred, idle,
    irql::Routine,
    pool::{allocate_paged, free},
    power,
    resources::without_unused,
    trace::start_ended,
};
use crate::{ioctl::Status, trace::Step};

/// Where a device stands in its PnP life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// There, not started yet (or not again).
    Added,
    /// Working.
    Started,
    /// Asked whether it may be stopped.
    StopPending,
    /// Stopped to get other resources: no hardware access.
    Stopped,
    /// Asked whether it may be removed: no new opens.
    RemovePending,
    /// Pulled out.
    SurpriseRemoved,
    /// Removed.
    Removed,
}

impl State {
    pub(in crate::kernel) const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Started,
            2 => Self::StopPending,
            3 => Self::Stopped,
            4 => Self::RemovePending,
            5 => Self::SurpriseRemoved,
            6 => Self::Removed,
            _ => Self::Added,
        }
    }

    /// The status with which a request that needs the device fails in this state, if it does.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY` before the start, `STATUS_DELETE_PENDING` from the removal on.
    #[inline(never)]
    pub(crate) const fn serves(self) -> Result<(), Status> {
        match self {
            Self::Added => Err(Status::DEVICE_NOT_READY),
            // A stopped device goes on in a moment: its requests wait.
            Self::Started | Self::StopPending | Self::Stopped | Self::RemovePending => Ok(()),
            Self::SurpriseRemoved | Self::Removed => Err(Status::DELETE_PENDING),
        }
    }
}

/// What a device object is to the PnP manager.
pub(crate) enum Pnp<'a, R> {
    /// A function device object, attached to a PDO of another driver.
    Function(&'a dyn FunctionDevice<R>),
    /// A physical device object that a function device of this driver enumerates.
    Child(&'a dyn ChildDevice<R>),
}

/// A function device. The PnP and the power manager call it, one at a time.
pub(crate) trait FunctionDevice<R> {
    /// The object that unhandled requests go on to.
    fn lower(&self) -> Lower;

    /// `START_DEVICE`, when the lower drivers have started. In a started device: new resources,
    /// `raw` as the bus has them, and `resources` translated.
    ///
    /// # Errors
    /// The device cannot work with the resources; nothing of the start is left then.
    fn start(
        &self,
        device: Device<'_, R>,
        raw: Resources<'_>,
        resources: Resources<'_>,
        passive: Passive,
    ) -> Result<(), StartFailure>;

    /// `QUERY_STOP_DEVICE`: whether the device may be stopped now. If so, no client begins to use
    /// it before the next start, or [`FunctionDevice::cancel_stop`].
    ///
    /// # Errors
    /// It may not, and goes on as before.
    fn query_stop(&self) -> Result<(), Status>;

    /// `CANCEL_STOP_DEVICE` after a [`FunctionDevice::query_stop`].
    fn cancel_stop(&self);

    /// `STOP_DEVICE`: lets go of the hardware. Requests wait for the next start.
    fn stop(&self, passive: Passive);

    /// `SURPRISE_REMOVAL`, or the first half of a `REMOVE_DEVICE` without one: the hardware is
    /// not touched any more, requests end, interfaces are disabled.
    fn disconnect_hardware(&self, passive: Passive);

    /// The end of `REMOVE_DEVICE`: no request is left. Children are deleted here.
    fn remove(&self, passive: Passive);

    /// Whether the device has children.
    fn is_bus(&self) -> bool {
        false
    }

    /// `QUERY_DEVICE_RELATIONS` for `BusRelations` of a bus: adds every child.
    ///
    /// # Errors
    /// The children could not be made.
    fn children(
        &self,
        _device: Device<'_, R>,
        _passive: Passive,
        _children: &mut Children,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// The list of what [`FunctionDevice::children`] handed over goes to the PnP manager: it knows
    /// of these children, and no longer of others.
    fn reported(&self) {}

    /// `FILTER_RESOURCE_REQUIREMENTS`, at any time: whether the device uses an interrupt. It needs
    /// none, and no DMA. `None`: its requirements are what the bus says.
    fn uses_interrupt(&self, _passive: Passive) -> Option<bool> {
        None
    }

    /// What carries the device's requests to `PASSIVE_LEVEL`.
    fn work(&self) -> &PassiveWork;

    /// The device's power goes. Whatever is under way waits for [`FunctionDevice::wake`] or ends;
    /// the hardware is not touched any more when this returns. A second one is a no-operation.
    fn sleep(&self, passive: Passive);

    /// The device has full power again, and forgot what it was told. Without a
    /// [`FunctionDevice::sleep`] before it a no-operation.
    fn wake(&self, passive: Passive);

    /// Full power is asked for: [`FunctionDevice::wake`] follows, or [`FunctionDevice::lost`].
    /// Requests wait for it. At <= `DISPATCH_LEVEL`.
    fn resume_requests(&self) {}

    /// What suspends the device while no program uses it, if something does.
    fn suspend(&self) -> Option<&Suspend> {
        None
    }

    /// Nothing goes to the hardware from now on: requests that come wait for
    /// [`FunctionDevice::unpark`], or for [`FunctionDevice::wake`]. No program uses the device. At
    /// <= `DISPATCH_LEVEL`.
    fn park(&self) {}

    /// The end of [`FunctionDevice::park`]; a no-operation without it. At <= `DISPATCH_LEVEL`.
    fn unpark(&self) {}

    /// Waits until nothing of the device is on its bus, after [`FunctionDevice::park`].
    fn settle(&self, _passive: Passive) {}

    /// There will be no power, until it is asked for again: a thread that waits for it is told, and
    /// requests are refused with `STATUS_DEVICE_NOT_READY`. Without a [`FunctionDevice::sleep`]
    /// before it a no-operation. At <= `DISPATCH_LEVEL`.
    fn lost(&self) {}
}

/// A child: a device that this driver enumerates and that runs without another function driver.
pub(crate) trait ChildDevice<R> {
    /// `START_DEVICE`; may follow a `REMOVE_DEVICE`.
    ///
    /// # Errors
    /// The device cannot work; nothing of the start is left then.
    fn start(&self, device: Device<'_, R>, passive: Passive) -> Result<(), StartFailure>;

    /// `SURPRISE_REMOVAL` or `REMOVE_DEVICE`; a second one is a no-operation. Requests end with
    /// `status`.
    fn disconnect_hardware(&self, status: Status, passive: Passive);

    /// What carries a power request of the child to `PASSIVE_LEVEL`.
    fn work(&self) -> &WorkItem;

    /// `QUERY_ID`: device ID.
    fn device_id(&self) -> Wide<{ ID_UNITS }>;

    /// `QUERY_ID`: hardware IDs, each followed by a NUL.
    fn hardware_ids(&self) -> Wide<{ ID_UNITS }>;

    /// `QUERY_ID`: compatible IDs, each followed by a NUL; none, if empty.
    fn compatible_ids(&self) -> Wide<{ ID_UNITS }>;

    /// `QUERY_ID`: instance ID, unique among the children of the parent.
    fn instance_id(&self) -> Wide<{ ID_UNITS }>;

    /// `QUERY_DEVICE_TEXT`.
    fn text(&self, text: ChildText) -> Wide<{ ID_UNITS }>;

    /// `QUERY_BUS_INFORMATION`.
    fn bus(&self) -> BusInformation;
}

/// The most units of an ID or text of a child (`MAX_DEVICE_ID_LEN` of cfgmgr32.h).
pub(crate) const ID_UNITS: usize = 200;

/// The texts of `QUERY_DEVICE_TEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildText {
    /// What the device is.
    Description,
    /// Where it is.
    Location,
}

/// The bus that a child sits on.
pub(crate) struct BusInformation {
    /// `BusTypeGuid`; the legacy type is `PNPBus`, the number 0.
    pub(crate) kind: Guid,
}

/// `IRP_MJ_PNP`
#[cold]
#[inline(never)]
pub(in crate::kernel) fn plug_and_play<R: Role>(
    device: Device<'_, R>,
    irp: Irp,
    routine: &Routine,
) -> Disposition {
    // SAFETY: PnP requests arrive at PASSIVE_LEVEL (READ_CONFIG and WRITE_CONFIG may not, and
    // pass without using the token).
    let passive = unsafe { Passive::of(routine) };
    // SAFETY: the IRP holds the remove lock; after REMOVE the role is not looked at again.
    match unsafe { device.role() }.pnp() {
        Pnp::Function(function) => function_pnp(device, function, irp, passive),
        Pnp::Child(child) => child_pnp(device, child, irp, passive),
    }
}

fn function_pnp<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    irp: Irp,
    passive: Passive,
) -> Disposition {
    let lower = function.lower();
    match u32::from(irp.stack().MinorFunction) {
        IRP_MN_START_DEVICE | IRP_MN_FILTER_RESOURCE_REQUIREMENTS => {
            forward_then_resume(device, irp, lower)
        }
        IRP_MN_QUERY_STOP_DEVICE => {
            if device.state() == State::Started {
                if let Err(status) = function.query_stop() {
                    return irp.complete_with_status(status);
                }
                device.set_state(State::StopPending);
            }
            irp.forward_success(lower)
        }
        IRP_MN_STOP_DEVICE => {
            idle::quiesce(device, passive);
            function.work().alone(passive, || {
                function.stop(passive);
                device.set_state(State::Stopped);
            });
            irp.forward_success(lower)
        }
        IRP_MN_CANCEL_STOP_DEVICE if device.state() == State::StopPending => {
            forward_then_resume(device, irp, lower)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            if device.state() != State::RemovePending {
                device.set_state(State::RemovePending);
            }
            irp.forward_success(lower)
        }
        IRP_MN_CANCEL_REMOVE_DEVICE if device.state() == State::RemovePending => {
            forward_then_resume(device, irp, lower)
        }
        // Sent though no query had reached us.
        IRP_MN_CANCEL_STOP_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE => irp.forward_success(lower),
        IRP_MN_SURPRISE_REMOVAL => {
            device.set_state(State::SurpriseRemoved);
            function.work().power().gone();
            idle::quiesce(device, passive);
            function
                .work()
                .alone(passive, || function.disconnect_hardware(passive));
            irp.forward_success(lower)
        }
        IRP_MN_REMOVE_DEVICE => remove_function(device, function, irp, passive),
        IRP_MN_QUERY_DEVICE_RELATIONS
            if function.is_bus() && relation(&irp) == _DEVICE_RELATION_TYPE::BusRelations =>
        {
            match bus_relations(device, function, &irp, passive) {
                Ok(list) => {
                    function.reported();
                    irp.forward_with(lower, list)
                }
                Err(status) => irp.complete_with_status(status),
            }
        }
        // No port or scanner holds a paging, dump or hibernation file.
        IRP_MN_DEVICE_USAGE_NOTIFICATION if usage_in_path(&irp) => {
            irp.complete_with_status(Status::UNSUCCESSFUL)
        }
        _ => irp.forward(lower),
    }
}

/// `REMOVE_DEVICE` of a function device: the order of "Using Remove Locks", in which the lower
/// drivers can give back requests of ours before we wait for them, and the detach comes last.
fn remove_function<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    irp: Irp,
    passive: Passive,
) -> Disposition {
    let lower = function.lower();
    device.set_state(State::Removed);
    function.work().power().gone();
    idle::quiesce(device, passive);
    function.work().alone(passive, || {
        function.disconnect_hardware(passive);
        power::removed(device);
    });
    let lock = device.remove_lock();
    let (disposition, tag) = irp.forward_success_locked(lower);
    // SAFETY: acquired with this tag when the IRP was accepted; at PASSIVE_LEVEL.
    unsafe { lock.release_and_wait(tag.as_ptr().cast()) };
    function.remove(passive);
    // A timer that ran out before it was stopped.
    flush_deferred(passive);
    // SAFETY: no request is left, and `function` is not used any more.
    unsafe { delete_function(device) };
    disposition
}

/// Sends a request down, to go on in [`resume`] when the lower drivers are done. Always pending:
/// other devices start meanwhile.
fn forward_then_resume<R: Role>(device: Device<'_, R>, irp: Irp, lower: Lower) -> Disposition {
    irp.forward_then(lower, Some(lower_done::<R>), device.raw().cast())
}

/// Completion routine, at <= `DISPATCH_LEVEL`: hands the IRP to a work item. The I/O manager passes
/// no device object for a driver without a further stack location.
unsafe extern "C" fn lower_done<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `forward_then_resume` passed it.
    let object = unsafe { NonNull::new_unchecked(context.cast::<DEVICE_OBJECT>()) };
    // SAFETY: likewise, and the IRP holds the device.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: likewise.
    if let Pnp::Function(function) = unsafe { device.role() }.pnp() {
        // SAFETY: the I/O manager passes the IRP.
        let irp = unsafe { NonNull::new_unchecked(irp) };
        // SAFETY: accepted under this lock, and stopped on its way up here.
        let irp = unsafe { Irp::resume(irp, device.remove_lock()) };
        let work = match u32::from(irp.stack().MinorFunction) {
            IRP_MN_FILTER_RESOURCE_REQUIREMENTS => &function.work().requirements,
            _ => &function.work().pnp,
        };
        // SAFETY: only one such request is under way at a time, for the PnP manager waits for each.
        unsafe { work.queue(Some(resume::<R>), irp) };
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// The second half of a request that the lower drivers act on first.
unsafe extern "C" fn resume<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: the device that the work item was allocated for; `lower_done` passed the IRP.
    let (device, irp) = unsafe { power::taken_up::<R>(object.cast(), context.cast()) };
    // SAFETY: the IRP holds the remove lock.
    let role = unsafe { device.role() };
    if u32::from(irp.stack().MinorFunction) == IRP_MN_FILTER_RESOURCE_REQUIREMENTS {
        if let Pnp::Function(function) = role.pnp() {
            let _ = filter_requirements(function, irp, passive);
        } else {
            let _ = irp.complete_as_is();
        }
        return;
    }
    if !irp.status().is_success() {
        if u32::from(irp.stack().MinorFunction) == IRP_MN_START_DEVICE {
            let refusal = Err(irp.status()).at(Step::LowerDrivers);
            start_ended(device, role.label(), refusal);
        }
        let _ = irp.complete_as_is();
        return;
    }
    let status = match role.pnp() {
        Pnp::Function(function) if u32::from(irp.stack().MinorFunction) == IRP_MN_START_DEVICE => {
            // SAFETY: the member that belongs to START_DEVICE.
            let start = unsafe { irp.stack().Parameters.StartDevice };
            // SAFETY: the PnP manager's list, which lives as long as the IRP.
            let resources = unsafe { Resources::new(start.AllocatedResourcesTranslated) };
            // SAFETY: likewise.
            let raw = unsafe { Resources::new(start.AllocatedResources) };
            idle::quiesce(device, passive);
            let started = function.work().alone(passive, || {
                function.start(device, raw, resources, passive)?;
                power::started(device);
                device.set_state(State::Started);
                Ok(())
            });
            if started.is_ok() {
                idle::started(device, passive);
            }
            start_ended(device, role.label(), started);
            started.map_or_else(|failure| failure.status, |()| Status::SUCCESS)
        }
        // A cancelled query.
        Pnp::Function(function) => {
            if device.state() == State::StopPending {
                function.cancel_stop();
            }
            device.set_state(device.previous_state());
            Status::SUCCESS
        }
        // Children never get here: they complete everything at once.
        Pnp::Child(_) => Status::SUCCESS,
    };
    let _ = irp.complete_with_status(status);
}

/// The second half of `FILTER_RESOURCE_REQUIREMENTS`: a device that uses no interrupt, and no DMA
/// channel, needs none, and starts where others have taken them. The bus does not handle the
/// request, so its status is `STATUS_NOT_SUPPORTED`, and stays so if nothing is to be changed, or
/// there is no memory for it.
fn filter_requirements<R: Role>(
    function: &dyn FunctionDevice<R>,
    irp: Irp,
    passive: Passive,
) -> Disposition {
    let old = core::ptr::with_exposed_provenance::<u8>(irp.information());
    let handled = irp.status().is_success() || irp.status() == Status::NOT_SUPPORTED;
    let Some(old) = NonNull::new(old.cast_mut()).filter(|_| handled) else {
        return irp.complete_as_is();
    };
    let Some(interrupt) = function.uses_interrupt(passive) else {
        return irp.complete_as_is();
    };
    // SAFETY: Information is null or a list of requirements, which is this driver's meanwhile.
    let Some(new) = (unsafe { without_unused(old, interrupt, passive) }) else {
        return irp.complete_as_is();
    };
    // SAFETY: the driver that puts a new list into the IRP frees the old one.
    unsafe { free(old, 0) };
    irp.complete_with(Status::SUCCESS, new.as_ptr().expose_provenance())
}

fn child_pnp<R: Role>(
    device: Device<'_, R>,
    child: &dyn ChildDevice<R>,
    irp: Irp,
    passive: Passive,
) -> Disposition {
    let status = match u32::from(irp.stack().MinorFunction) {
        IRP_MN_START_DEVICE => {
            let started = child.start(device, passive);
            if started.is_ok() {
                power::started(device);
                device.set_state(State::Started);
            }
            // SAFETY: the IRP holds the remove lock.
            start_ended(device, unsafe { device.role() }.label(), started);
            started.map_or_else(|failure| failure.status, |()| Status::SUCCESS)
        }
        IRP_MN_QUERY_STOP_DEVICE => {
            device.set_state(State::StopPending);
            Status::SUCCESS
        }
        IRP_MN_STOP_DEVICE => {
            // The child has no hardware of its own: its requests wait for its parent's.
            device.set_state(State::Stopped);
            Status::SUCCESS
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            device.set_state(State::RemovePending);
            Status::SUCCESS
        }
        IRP_MN_CANCEL_STOP_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE => {
            if matches!(device.state(), State::StopPending | State::RemovePending) {
                device.set_state(device.previous_state());
            }
            Status::SUCCESS
        }
        IRP_MN_SURPRISE_REMOVAL => {
            device.set_state(State::SurpriseRemoved);
            child.disconnect_hardware(Status::DEVICE_REMOVED, passive);
            Status::SUCCESS
        }
        IRP_MN_REMOVE_DEVICE => {
            device.set_state(State::Removed);
            child.disconnect_hardware(Status::DELETE_PENDING, passive);
            power::removed(device);
            if device.is_missing() {
                return irp.complete_after(|tag| {
                    // SAFETY: the tag that the IRP was accepted with; this is its REMOVE, after
                    // which no request comes, and the parent has given the object up.
                    unsafe { delete_missing(device, tag) };
                });
            }
            // The parent still reports the child, so the object stays and may be started again.
            Status::SUCCESS
        }
        IRP_MN_QUERY_CAPABILITIES => capabilities(&irp),
        IRP_MN_DEVICE_USAGE_NOTIFICATION if usage_in_path(&irp) => Status::UNSUCCESSFUL,
        IRP_MN_QUERY_ID => return answer_pointer(irp, |irp| query_id(child, irp, passive)),
        IRP_MN_QUERY_DEVICE_TEXT => {
            return answer_pointer(irp, |irp| query_text(child, irp, passive));
        }
        IRP_MN_QUERY_BUS_INFORMATION => {
            return answer_pointer(irp, |_| query_bus(child, passive).map(Some));
        }
        IRP_MN_QUERY_DEVICE_RELATIONS
            if relation(&irp) == _DEVICE_RELATION_TYPE::TargetDeviceRelation =>
        {
            return answer_pointer(irp, |_| {
                relations([device.physical()].into_iter(), 1, passive).map(Some)
            });
        }
        _ => return irp.complete_as_is(),
    };
    irp.complete_with_status(status)
}

/// Ends a request whose answer is a pool allocation that the PnP manager frees. `None` leaves the
/// request as it came.
fn answer_pointer(
    irp: Irp,
    answer: impl FnOnce(&Irp) -> Result<Option<NonNull<u8>>, Status>,
) -> Disposition {
    match answer(&irp) {
        Ok(Some(memory)) => irp.complete_with(Status::SUCCESS, memory.as_ptr().expose_provenance()),
        Ok(None) => irp.complete_as_is(),
        Err(status) => irp.complete(status),
    }
}

fn relation(irp: &Irp) -> i32 {
    // SAFETY: the member that belongs to QUERY_DEVICE_RELATIONS.
    unsafe { irp.stack().Parameters.QueryDeviceRelations.Type }
}

fn usage_in_path(irp: &Irp) -> bool {
    // SAFETY: the member that belongs to DEVICE_USAGE_NOTIFICATION.
    unsafe { irp.stack().Parameters.UsageNotification.InPath != 0 }
}

/// A list of relations in paged pool, each object referenced.
fn relations(
    objects: impl Iterator<Item = PhysicalDevice>,
    count: u32,
    passive: Passive,
) -> Result<NonNull<u8>, Status> {
    let extra = (count as usize).saturating_sub(1) * size_of::<PDEVICE_OBJECT>();
    let memory = allocate_paged(size_of::<DEVICE_RELATIONS>() + extra, passive)?;
    let list = memory.cast::<DEVICE_RELATIONS>().as_ptr();
    // SAFETY: the allocation is large enough.
    unsafe { (*list).Count = count };
    // SAFETY: a place in it; nothing is read.
    let first = unsafe { (&raw mut (*list).Objects).cast::<PDEVICE_OBJECT>() };
    for (index, object) in (0..count as usize).zip(objects) {
        // SAFETY: `count` objects have room.
        let place = unsafe { first.add(index) };
        // SAFETY: likewise.
        unsafe { place.write(object.referenced()) };
    }
    Ok(memory)
}

/// The most children that a device reports.
const MOST_CHILDREN: usize = 8;

/// The children of a device, for `BusRelations`.
#[derive(Default)]
pub(crate) struct Children {
    places: [Option<PhysicalDevice>; MOST_CHILDREN],
    count: u32,
}

impl Children {
    /// One more; what is beyond [`MOST_CHILDREN`] is left out.
    pub(crate) fn add(&mut self, child: PhysicalDevice) {
        if let Some(place) = self.places.get_mut(self.count as usize) {
            *place = Some(child);
            self.count += 1;
        }
    }
}

/// The answer to `BusRelations`: what drivers above put into the list, and our children.
fn bus_relations<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    irp: &Irp,
    passive: Passive,
) -> Result<usize, Status> {
    let mut children = Children::default();
    function.children(device, passive, &mut children)?;
    let Children { places, count } = children;
    let old = core::ptr::with_exposed_provenance_mut::<DEVICE_RELATIONS>(irp.information());
    // SAFETY: Information is null or a list of relations.
    let old_count = unsafe { old.as_ref() }.map_or(0, |list| list.Count);
    let old_objects = (0..old_count as usize).filter_map(|index| {
        // SAFETY: there is a list, for it has an object.
        let first = unsafe { (&raw const (*old).Objects).cast::<PDEVICE_OBJECT>() };
        // SAFETY: it has `old_count` objects.
        let place = unsafe { first.add(index) };
        // SAFETY: likewise.
        NonNull::new(unsafe { place.read() })
    });
    // The references of the old list move to the new one, so they are only copied.
    let all = old_count.saturating_add(count);
    let new = relations(places.into_iter().flatten(), all, passive)?;
    let list = new.cast::<DEVICE_RELATIONS>().as_ptr();
    // SAFETY: a place in the new list; nothing is read.
    let first = unsafe { (&raw mut (*list).Objects).cast::<PDEVICE_OBJECT>() };
    for (index, object) in (count as usize..).zip(old_objects) {
        // SAFETY: the new list has room for ours and the old ones.
        let place = unsafe { first.add(index) };
        // SAFETY: likewise.
        unsafe { place.write(object.as_ptr()) };
    }
    if let Some(old) = NonNull::new(old) {
        // SAFETY: the driver that puts a new list into the IRP frees the old one.
        unsafe { free(old.cast(), 0) };
    }
    Ok(new.as_ptr().expose_provenance())
}

/// Text as a NUL-terminated string in paged pool.
fn paged_string(units: &[u16], passive: Passive) -> Result<NonNull<u8>, Status> {
    // Zeroed: the NULs, two for lists of strings, are there.
    let memory = allocate_paged((units.len() + 2) * size_of::<u16>(), passive)?;
    // SAFETY: the allocation is larger than the text.
    unsafe {
        memory
            .cast::<u16>()
            .as_ptr()
            .copy_from_nonoverlapping(units.as_ptr(), units.len());
    }
    Ok(memory)
}

fn query_id<R>(
    child: &dyn ChildDevice<R>,
    irp: &Irp,
    passive: Passive,
) -> Result<Option<NonNull<u8>>, Status> {
    // SAFETY: the member that belongs to QUERY_ID.
    let kind: BUS_QUERY_ID_TYPE = unsafe { irp.stack().Parameters.QueryId.IdType };
    let id = match kind {
        _BUS_QUERY_ID_TYPE::BusQueryDeviceID => child.device_id(),
        _BUS_QUERY_ID_TYPE::BusQueryHardwareIDs => child.hardware_ids(),
        _BUS_QUERY_ID_TYPE::BusQueryInstanceID => child.instance_id(),
        _BUS_QUERY_ID_TYPE::BusQueryCompatibleIDs => child.compatible_ids(),
        _ => return Ok(None),
    };
    if id.units().is_empty() {
        return Ok(None);
    }
    paged_string(id.units(), passive).map(Some)
}

fn query_text<R>(
    child: &dyn ChildDevice<R>,
    irp: &Irp,
    passive: Passive,
) -> Result<Option<NonNull<u8>>, Status> {
    // SAFETY: the member that belongs to QUERY_DEVICE_TEXT.
    let kind = unsafe { irp.stack().Parameters.QueryDeviceText.DeviceTextType };
    let text = match kind {
        _DEVICE_TEXT_TYPE::DeviceTextDescription => ChildText::Description,
        _DEVICE_TEXT_TYPE::DeviceTextLocationInformation => ChildText::Location,
        _ => return Ok(None),
    };
    paged_string(child.text(text).units(), passive).map(Some)
}

fn query_bus<R>(child: &dyn ChildDevice<R>, passive: Passive) -> Result<NonNull<u8>, Status> {
    let memory = allocate_paged(size_of::<PNP_BUS_INFORMATION>(), passive)?;
    let information = PNP_BUS_INFORMATION {
        BusTypeGuid: *child.bus().kind.raw(),
        LegacyBusType: wdk_sys::_INTERFACE_TYPE::PNPBus,
        BusNumber: 0,
    };
    // SAFETY: the allocation has the structure's size.
    unsafe { memory.cast::<PNP_BUS_INFORMATION>().write(information) };
    Ok(memory)
}

/// `QUERY_CAPABILITIES` of a child: it runs without a function driver, and vanishes with its
/// parent.
fn capabilities(irp: &Irp) -> Status {
    // SAFETY: the member that belongs to QUERY_CAPABILITIES.
    let capabilities = unsafe { irp.stack().Parameters.DeviceCapabilities.Capabilities };
    // SAFETY: the sender's structure, or null.
    let Some(capabilities) = (unsafe { capabilities.as_mut() }) else {
        return Status::INVALID_PARAMETER;
    };
    if capabilities.Version != 1
        || usize::from(capabilities.Size) < size_of::<DEVICE_CAPABILITIES>()
    {
        return Status::UNSUCCESSFUL;
    }
    capabilities.set_RawDeviceOK(1);
    capabilities.set_SilentInstall(1);
    capabilities.set_SurpriseRemovalOK(1);
    // Full power while the system works, off in every sleep state.
    capabilities.DeviceState = [_DEVICE_POWER_STATE::PowerDeviceD3; 7];
    let [unspecified, working, ..] = &mut capabilities.DeviceState;
    *unspecified = _DEVICE_POWER_STATE::PowerDeviceUnspecified;
    *working = _DEVICE_POWER_STATE::PowerDeviceD0;
    Status::SUCCESS
}

/// What this driver does not handle: a function device sends it on, for a child this is the end. At
/// <= `DISPATCH_LEVEL`.
#[cold]
#[inline(never)]
pub(in crate::kernel) fn pass_on<R: Role>(device: Device<'_, R>, irp: Irp) -> Disposition {
    match device.attached_to() {
        Some(lower) => irp.forward(lower),
        None => irp.complete_as_is(),
    }
}

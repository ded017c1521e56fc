//! The power of devices.
//!
//! A function device is the power policy owner of its stack. When the power manager puts the
//! system to sleep, or wakes it up, the device asks for the device power state that fits: D0 for
//! S0, and D3 for every sleep state, or D2, if it waits there to wake the system up. Its request to
//! the power manager comes back through the whole stack, and on this way the device acts. A query
//! of the power manager is answered by a query of the device in the same way. The system does not
//! wait for a device without children that wakes up; with children it does.
//!
//! A request may end before `PoRequestPowerIrp` returns, so what it is about is noted before the
//! call ([`PowerSupply`](crate::kernel::supply::PowerSupply)) and taken back by the thread that
//! sees the request fail: the device's own part of it, or, where it did not get as far, its
//! `PowerCompletion` routine.
//!
//! A device that no program uses may be suspended meanwhile, and wait for its own signal:
//! [`idle`](crate::kernel::idle). From D2 it goes to another state by way of D0.
//!
//! What must happen at `PASSIVE_LEVEL` happens in work items, for power requests come at
//! <= `DISPATCH_LEVEL`, and their dispatch routine must not wait in any case.
//!
//! Sources: "Handling a System Set-Power IRP in a Device Power Policy Owner", "Handling a System
//! Query-Power IRP in a Device Power Policy Owner", "Handling Device Power State Requests", "Rules
//! for Handling Power IRPs" and the page of `PoRequestPowerIrp` of the Windows driver
//! documentation.

use core::ptr::{self, NonNull};

use wdk_sys::{
    _DEVICE_POWER_STATE, _IO_STATUS_BLOCK as IO_STATUS_BLOCK, _POWER_STATE_TYPE,
    _SYSTEM_POWER_STATE, DEVICE_OBJECT, DEVICE_POWER_STATE, IRP, IRP_MN_QUERY_POWER,
    IRP_MN_SET_POWER, IRP_MN_WAIT_WAKE, NTSTATUS, PDEVICE_OBJECT, POWER_STATE,
    PREQUEST_POWER_COMPLETE, PVOID, STATUS_MORE_PROCESSING_REQUIRED, SYSTEM_POWER_STATE, UCHAR,
    ntddk::{PoRequestPowerIrp, PoSetPowerState},
};

use crate::kernel::{
    Device, Disposition, FunctionDevice, Irp, Passive, Pnp, Role, State, Suspend, check, event,
    idle,
    irql::{Routine, is_passive},
    supply::Conclusion,
};
use crate::{ioctl::Status, trace::TraceEvent};

const D0: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD0;
const D2: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD2;
const D3: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD3;
const S0: SYSTEM_POWER_STATE = _SYSTEM_POWER_STATE::PowerSystemWorking;

/// What an `IRP_MN_SET_POWER` sets.
#[derive(Clone, Copy)]
enum Change {
    /// The system.
    System(SYSTEM_POWER_STATE),
    /// The device.
    Device(DEVICE_POWER_STATE),
}

impl Change {
    /// What a `SET_POWER` sets.
    fn of(irp: &Irp) -> Option<Self> {
        (u32::from(irp.stack().MinorFunction) == IRP_MN_SET_POWER)
            .then(|| Self::in_parameters(irp))
            .flatten()
    }

    /// What a `QUERY_POWER` asks about.
    fn asked_by(irp: &Irp) -> Option<Self> {
        (u32::from(irp.stack().MinorFunction) == IRP_MN_QUERY_POWER)
            .then(|| Self::in_parameters(irp))
            .flatten()
    }

    fn in_parameters(irp: &Irp) -> Option<Self> {
        // SAFETY: the member that belongs to SET_POWER and QUERY_POWER.
        let power = unsafe { irp.stack().Parameters.Power };
        match power.Type {
            _POWER_STATE_TYPE::SystemPowerState => {
                // SAFETY: the type says which member there is.
                Some(Self::System(unsafe { power.State.SystemState }))
            }
            _POWER_STATE_TYPE::DevicePowerState => {
                // SAFETY: the type says which member there is.
                Some(Self::Device(unsafe { power.State.DeviceState }))
            }
            _ => None,
        }
    }
}

/// `IRP_MJ_POWER`, at <= `DISPATCH_LEVEL`.
#[cold]
#[inline(never)]
pub(in crate::kernel) fn power<R: Role>(device: Device<'_, R>, irp: Irp) -> Disposition {
    let change = Change::of(&irp);
    let is_query = u32::from(irp.stack().MinorFunction) == IRP_MN_QUERY_POWER;
    // SAFETY: the IRP holds the remove lock.
    match unsafe { device.role() }.pnp() {
        Pnp::Function(function) => {
            let lower = function.lower();
            let context = device.raw().cast();
            match change {
                Some(Change::System(_)) => {
                    irp.agreed()
                        .forward_then(lower, Some(system_done::<R>), context)
                }
                Some(Change::Device(D0)) => irp.forward_then(lower, Some(has_power::<R>), context),
                Some(Change::Device(_)) => {
                    let pending = irp.mark_pending();
                    later(function, irp);
                    pending
                }
                None => match Change::asked_by(&irp) {
                    Some(Change::System(_)) => {
                        irp.agreed()
                            .forward_then(lower, Some(system_queried::<R>), context)
                    }
                    // Whatever is under way can wait or end.
                    Some(Change::Device(_)) => irp.agreed().forward(lower),
                    None if is_query => irp.agreed().forward(lower),
                    None if u32::from(irp.stack().MinorFunction) == IRP_MN_WAIT_WAKE => {
                        idle::wait_wake(device, irp, lower)
                    }
                    None => irp.forward(lower),
                },
            }
        }
        Pnp::Child(child) => {
            match change {
                // That is told below DISPATCH_LEVEL.
                Some(Change::Device(state)) if state != D0 && !is_passive() => {
                    let pending = irp.mark_pending();
                    // SAFETY: there is one device power request at a time.
                    unsafe { child.work().queue(Some(child_sleeps::<R>), irp) };
                    return pending;
                }
                // Of its parent's hardware a child has no power of its own.
                Some(Change::Device(state)) => tell(device, state),
                Some(Change::System(_)) => {}
                None if is_query => {}
                None => return irp.complete_as_is(),
            }
            irp.complete_with_status(Status::SUCCESS)
        }
    }
}

/// Work item: a child is told to sleep.
unsafe extern "C" fn child_sleeps<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: `power` queued it, with the IRP.
    let (device, irp) = unsafe { taken_up::<R>(object.cast(), context.cast()) };
    if let Some(Change::Device(state)) = Change::of(&irp) {
        tell(device, state);
    }
    let _ = irp.complete_with_status(Status::SUCCESS);
}

/// Tells the power manager the device's power state, where that is allowed: at
/// <= `DISPATCH_LEVEL` for full power, else below.
pub(in crate::kernel) fn tell<R: Role>(device: Device<'_, R>, state: DEVICE_POWER_STATE) {
    if state != D0 && !is_passive() {
        return;
    }
    // SAFETY: the object is live; the level was looked at.
    unsafe {
        PoSetPowerState(
            device.raw(),
            _POWER_STATE_TYPE::DevicePowerState,
            device_state(state),
        )
    };
}

/// An event of the device, whose role the caller holds.
fn tell_event<R: Role>(device: Device<'_, R>, what: &TraceEvent) {
    // SAFETY: the caller's promise.
    event(unsafe { device.role() }.label(), what);
}

/// `START_DEVICE` implies full power.
pub(in crate::kernel) fn started<R: Role>(device: Device<'_, R>) {
    // SAFETY: the caller's START_DEVICE holds the remove lock.
    if let Pnp::Function(function) = unsafe { device.role() }.pnp() {
        function.work().power().started();
    }
    tell(device, D0);
}

/// What a policy owner wants a device power state for.
#[derive(Clone, Copy)]
enum Purpose {
    /// `IRP_MN_SET_POWER`
    Set,
    /// `IRP_MN_QUERY_POWER`
    Query,
}

/// `REMOVE_DEVICE` implies none.
pub(in crate::kernel) fn removed<R: Role>(device: Device<'_, R>) {
    tell(device, D3);
}

fn device_state(state: DEVICE_POWER_STATE) -> POWER_STATE {
    let mut power = POWER_STATE::default();
    power.DeviceState = state;
    power
}

/// Asks the power manager to send a device power IRP for `state` to the device's stack. `routine`
/// is told how it ended, perhaps before this returns, and given `context`. At <= `DISPATCH_LEVEL`.
///
/// # Errors
/// `STATUS_INSUFFICIENT_RESOURCES`: nothing was sent, and the routine is not called.
fn ask_for<R: Role>(
    device: Device<'_, R>,
    purpose: Purpose,
    state: DEVICE_POWER_STATE,
    routine: PREQUEST_POWER_COMPLETE,
    context: PVOID,
) -> Result<(), Status> {
    const SET: UCHAR = {
        assert!(IRP_MN_SET_POWER == 2);
        2
    };
    const QUERY: UCHAR = {
        assert!(IRP_MN_QUERY_POWER == 3);
        3
    };
    let minor = match purpose {
        Purpose::Set => SET,
        Purpose::Query => QUERY,
    };
    // SAFETY: the object is live. The last argument is for other minors.
    check(unsafe {
        PoRequestPowerIrp(
            device.raw(),
            minor,
            device_state(state),
            routine,
            context,
            ptr::null_mut(),
        )
    })
}

/// What a completion routine or a work item was given.
///
/// # Safety
/// `object` is a device object of a role `R`, and `irp` was accepted for it, and comes back to it
/// here.
pub(in crate::kernel) unsafe fn taken_up<'d, R: Role>(
    object: PVOID,
    irp: *mut IRP,
) -> (Device<'d, R>, Irp) {
    // SAFETY: the caller's promise.
    let object = unsafe { NonNull::new_unchecked(object.cast::<DEVICE_OBJECT>()) };
    // SAFETY: likewise; the IRP holds the device.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: the caller's promise.
    let irp = unsafe { NonNull::new_unchecked(irp) };
    // SAFETY: likewise.
    let irp = unsafe { Irp::resume(irp, device.remove_lock()) };
    (device, irp)
}

/// The function device that an IRP belongs to, which holds it.
fn function_of<'d, R: Role>(
    device: Device<'d, R>,
    _irp: &Irp,
) -> Option<&'d dyn FunctionDevice<R>> {
    // SAFETY: the IRP holds the remove lock.
    match unsafe { device.role() }.pnp() {
        Pnp::Function(function) => Some(function),
        // Children forward nothing, and never get here.
        Pnp::Child(_) => None,
    }
}

/// As [`ask_for`], before a system power IRP goes on: `routine` is given the IRP as its context,
/// and with [`ended`] owns it.
///
/// # Errors
/// The IRP comes back: nothing was sent, and the routine is not called.
fn ask_before<R: Role>(
    irp: Irp,
    device: Device<'_, R>,
    purpose: Purpose,
    state: DEVICE_POWER_STATE,
    routine: PREQUEST_POWER_COMPLETE,
) -> Result<(), Irp> {
    let raw = irp.into_raw();
    ask_for(device, purpose, state, routine, raw.as_ptr().cast()).map_err(|_| {
        // SAFETY: the request was not made, so the IRP is still here.
        unsafe { Irp::resume(raw, device.remove_lock()) }
    })
}

/// Completion routine of a system power request, at <= `DISPATCH_LEVEL`: the lower drivers know.
unsafe extern "C" fn system_done<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `power` passed the device, and the I/O manager the IRP.
    let (device, irp) = unsafe { taken_up::<R>(context, irp) };
    let (change, function) = (Change::of(&irp), function_of(device, &irp));
    match (change, function) {
        (Some(Change::System(S0)), Some(function)) => {
            idle::system_works(device);
            let supply = function.work().power();
            if !function.is_bus() {
                // A device that is being removed needs no power.
                let _ = supply.wake(None);
                return irp.continue_completion();
            }
            // Its children come after it.
            match supply.wake(Some(irp.into_raw())) {
                Err(Some(raw)) => {
                    // SAFETY: it came back.
                    unsafe { Irp::resume(raw, device.remove_lock()) }.continue_completion()
                }
                _ => STATUS_MORE_PROCESSING_REQUIRED,
            }
        }
        (Some(Change::System(state)), Some(function)) if irp.status().is_success() => {
            function.work().power().sleep();
            if let Some(irp) = idle::sleeps(device, state, irp) {
                go_to_sleep(device, function, irp);
            }
            STATUS_MORE_PROCESSING_REQUIRED
        }
        _ => irp.continue_completion(),
    }
}

/// Goes on with a system power request for a sleep state: the device is next. No idle request is
/// out. At <= `DISPATCH_LEVEL`.
pub(in crate::kernel) fn go_to_sleep<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    irp: Irp,
) {
    let lock = device.remove_lock();
    let raw = function.work().power().after_requests(irp.into_raw());
    if let Some(raw) = raw {
        // SAFETY: it came back.
        put_to_sleep(device, function, unsafe { Irp::resume(raw, lock) });
    }
}

/// As [`go_to_sleep`], when no request for full power is under way.
fn put_to_sleep<R: Role>(device: Device<'_, R>, function: &dyn FunctionDevice<R>, irp: Irp) {
    // There is no way from one sleep state to another.
    let asked = if function.work().power().is_suspended() {
        ask_before(irp, device, Purpose::Set, D0, Some(resumed::<R>))
    } else {
        ask_to_sleep(device, function, irp)
    };
    if let Err(irp) = asked {
        // The system sleeps all the same.
        sleep_anyway(function, irp);
    }
}

/// As [`ask_before`], for the state that fits the system's.
fn ask_to_sleep<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    irp: Irp,
) -> Result<(), Irp> {
    let state = match Change::of(&irp) {
        Some(Change::System(system)) => state_for(function, system),
        _ => D3,
    };
    ask_before(irp, device, Purpose::Set, state, Some(sleeps::<R>))
}

/// The device power state that fits a system power state.
fn state_for<R>(
    function: &dyn FunctionDevice<R>,
    system: SYSTEM_POWER_STATE,
) -> DEVICE_POWER_STATE {
    match function.suspend() {
        _ if system == S0 => D0,
        Some(suspend) if suspend.wakes_from(system) => D2,
        _ => D3,
    }
}

/// The device, which was suspended, has full power, or was refused it: it goes to sleep with the
/// system. At <= `DISPATCH_LEVEL`.
unsafe extern "C" fn resumed<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `put_to_sleep` put the IRP aside; the power manager calls this, with its block.
    let (device, irp, _) = unsafe { ended::<R>(context, block) };
    let Some(function) = function_of(device, &irp) else {
        let _ = irp.complete_as_is();
        return;
    };
    if let Err(irp) = ask_to_sleep(device, function, irp) {
        sleep_anyway(function, irp);
    }
}

/// Asks for D2, of a device that no program uses; see [`ask_for`].
///
/// # Errors
/// As [`ask_for`].
pub(in crate::kernel) fn ask_for_sleep<R: Role>(
    device: Device<'_, R>,
    routine: PREQUEST_POWER_COMPLETE,
    context: PVOID,
) -> Result<(), Status> {
    ask_for(device, Purpose::Set, D2, routine, context)
}

/// Completion routine of a system power query, at <= `DISPATCH_LEVEL`: the lower drivers agree, or
/// not.
unsafe extern "C" fn system_queried<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `power` passed the device, and the I/O manager the IRP.
    let (device, irp) = unsafe { taken_up::<R>(context, irp) };
    let (Some(Change::System(system)), Some(function)) =
        (Change::asked_by(&irp), function_of(device, &irp))
    else {
        return irp.continue_completion();
    };
    if !irp.status().is_success() {
        return irp.continue_completion();
    }
    let state = state_for(function, system);
    match ask_before(irp, device, Purpose::Query, state, Some(queried::<R>)) {
        Ok(()) => STATUS_MORE_PROCESSING_REQUIRED,
        // No driver has anything against it that could be asked.
        Err(irp) => irp.continue_completion(),
    }
}

/// The system power IRP that a `PowerCompletion` routine was given, and how the device's ended.
///
/// # Safety
/// `context` is that IRP, which was put aside on its way up to its device of a role `R`; `block` is
/// the power manager's.
unsafe fn ended<'d, R: Role>(
    context: PVOID,
    block: *mut IO_STATUS_BLOCK,
) -> (Device<'d, R>, Irp, Status) {
    // SAFETY: the caller's promise.
    let irp = unsafe { NonNull::new_unchecked(context.cast::<IRP>()) };
    // SAFETY: likewise.
    let object = unsafe { Irp::device_of(irp) };
    // SAFETY: likewise.
    let (device, irp) = unsafe { taken_up::<R>(object.cast(), irp.as_ptr()) };
    // SAFETY: likewise.
    (device, irp, unsafe { status_of(block) })
}

/// How a request for a power IRP ended.
///
/// # Safety
/// The power manager passed the block to the `PowerCompletion` routine that calls this: "a pointer
/// to the `IO_STATUS_BLOCK` structure for the completed IRP".
pub(in crate::kernel) unsafe fn status_of(block: *mut IO_STATUS_BLOCK) -> Status {
    // SAFETY: the caller's promise.
    let result = unsafe { &(*block).__bindgen_anon_1 };
    // SAFETY: both members of the union are plain.
    Status(unsafe { result.Status })
}

/// The device's stack was asked: the end of the system power query. At <= `DISPATCH_LEVEL`.
unsafe extern "C" fn queried<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `system_queried` put the IRP aside; the power manager calls this, with its block.
    let (_, irp, status) = unsafe { ended::<R>(context, block) };
    let _ = irp.complete_with_status(status);
}

/// The device sleeps: the end of the system power request that made it do so. At
/// <= `DISPATCH_LEVEL`.
unsafe extern "C" fn sleeps<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `ask_to_sleep` put the IRP aside; the power manager calls this, with its block.
    let (device, irp, status) = unsafe { ended::<R>(context, block) };
    let irp = irp.with_status(status);
    match function_of(device, &irp) {
        // The request may not have come as far as the device.
        Some(function) if !status.is_success() => sleep_anyway(function, irp),
        _ => {
            let _ = irp.complete_as_is();
        }
    }
}

/// Goes on with a system power request in [`sleep_now`].
fn sleep_anyway<R: Role>(function: &dyn FunctionDevice<R>, irp: Irp) {
    // SAFETY: there is one system power request at a time.
    unsafe { function.work().system.queue(Some(sleep_now::<R>), irp) };
}

/// Work item: the system goes to sleep, and the device was not told to. Its hardware may lose its
/// power, or only what it was told, so it is left alone until it is set up again.
unsafe extern "C" fn sleep_now<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: `sleep_anyway` queued it, with the IRP.
    let (device, irp) = unsafe { taken_up::<R>(object.cast(), context.cast()) };
    if let Some(function) = function_of(device, &irp) {
        function.work().alone(passive, || {
            if uses_hardware(device) {
                function.sleep(passive);
            }
        });
    }
    let _ = irp.complete_as_is();
}

/// A request for full power of [`PowerSupply`](crate::kernel::supply::PowerSupply). It has noted
/// the request, and the remove lock is held for it with the supply as its tag. At <=
/// `DISPATCH_LEVEL`.
///
/// # Safety
/// `object` is a function device object of a role `R`.
pub(in crate::kernel) unsafe fn ask_for_full_power<R: Role>(object: NonNull<DEVICE_OBJECT>) {
    // SAFETY: the caller's promise.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: the remove lock is held.
    let Pnp::Function(function) = unsafe { device.role() }.pnp() else {
        return;
    };
    function.resume_requests();
    let context = device.raw().cast();
    if ask_for(device, Purpose::Set, D0, Some(powered::<R>), context).is_err() {
        // SAFETY: no request was made that the lock is held for.
        unsafe { conclude(device, function, true) };
    }
}

/// The end of a request for full power, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn powered<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    _block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `ask_for_full_power` passed it.
    let object = unsafe { NonNull::new_unchecked(context.cast::<DEVICE_OBJECT>()) };
    // SAFETY: likewise.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: the remove lock is held for the request.
    if let Pnp::Function(function) = unsafe { device.role() }.pnp() {
        // SAFETY: likewise.
        unsafe { idle::settled(device) };
        // SAFETY: it has ended.
        unsafe { conclude(device, function, false) };
    }
}

/// A request for full power is over, or could not be made (`refused`).
///
/// # Safety
/// The remove lock is held for the request, which is not concluded yet; the device is not used
/// after this.
unsafe fn conclude<R: Role>(
    device: Device<'_, R>,
    function: &dyn FunctionDevice<R>,
    refused: bool,
) {
    let supply = function.work().power();
    let lock = device.remove_lock();
    let (held, sleeper) = loop {
        match supply.conclude(refused) {
            Conclusion::Lost => {
                tell_event(device, &TraceEvent::PowerRefused);
                function.lost();
            }
            Conclusion::Over(held, sleeper) => break (held, sleeper),
        }
    };
    let tag = supply.tag();
    if let Some(raw) = held {
        // SAFETY: `system_done` put it aside, and no other thread has it any more.
        let _ = unsafe { Irp::resume(raw, lock) }.complete_as_is();
    }
    if let Some(raw) = sleeper {
        // SAFETY: `go_to_sleep` put it aside, and no other thread has it any more.
        put_to_sleep(device, function, unsafe { Irp::resume(raw, lock) });
    }
    // SAFETY: the caller's promise.
    unsafe { lock.release(tag) };
}

/// Completion routine of the request for full power, at <= `DISPATCH_LEVEL`: the device has it.
unsafe extern "C" fn has_power<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `power` passed the device, and the I/O manager the IRP.
    let (device, irp) = unsafe { taken_up::<R>(context, irp) };
    let Some(function) = function_of(device, &irp) else {
        return irp.continue_completion();
    };
    later(function, irp);
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Goes on with a device power request in [`act`].
fn later<R: Role>(function: &dyn FunctionDevice<R>, irp: Irp) {
    // SAFETY: there is one device power request at a time.
    unsafe { function.work().device.queue(Some(act::<R>), irp) };
}

/// Work item: the device's own part of a device power request.
unsafe extern "C" fn act<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: `later` queued it, with the IRP.
    let (device, irp) = unsafe { taken_up::<R>(object.cast(), context.cast()) };
    let (Some(Change::Device(state)), Some(function)) =
        (Change::of(&irp), function_of(device, &irp))
    else {
        let _ = irp.complete_as_is();
        return;
    };
    if state == D0 {
        let succeeded = irp.status().is_success();
        let supply = function.work().power();
        function.work().alone(passive, || {
            if succeeded {
                // A system that has fallen asleep again takes it away in a moment.
                if supply.comes() && uses_hardware(device) {
                    function.wake(passive);
                    idle::woken(device, passive);
                    tell_event(device, &TraceEvent::Power { works: true });
                }
                // A removal told D3 for good, or will when this is done.
                if device.state() != State::Removed {
                    tell(device, D0);
                }
                return;
            }
            // One that sleeps goes on to do so, and who waits for it is told at the end.
            if supply.fails() {
                if uses_hardware(device) {
                    function.sleep(passive);
                }
                tell_event(device, &TraceEvent::PowerRefused);
                function.lost();
            }
        });
        let _ = irp.complete_as_is();
    } else {
        function.work().alone(passive, || {
            let is_suspending =
                state == D2 && function.suspend().is_some_and(Suspend::is_suspending);
            if is_suspending {
                function.settle(passive);
            } else if uses_hardware(device) {
                function.sleep(passive);
            }
            function.work().power().goes(is_suspending);
            tell_event(device, &TraceEvent::Power { works: false });
            tell(device, state);
        });
        let context = device.raw().cast();
        let _ = irp
            .agreed()
            .forward_then(function.lower(), Some(has_none::<R>), context);
    }
}

/// Whether the device has its hardware. If not, its next start gives it power, too.
fn uses_hardware<R: Role>(device: Device<'_, R>) -> bool {
    match device.state() {
        State::Started | State::StopPending | State::RemovePending => true,
        State::Added | State::Stopped | State::SurpriseRemoved | State::Removed => false,
    }
}

/// Completion routine of a request to power down, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn has_none<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `act` passed the device, and the I/O manager the IRP.
    let (_, irp) = unsafe { taken_up::<R>(context, irp) };
    irp.continue_completion()
}

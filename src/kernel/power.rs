//! The power of devices.
//!
//! A function device is the power policy owner of its stack. When the power manager puts the
//! system to sleep, or wakes it up, the device asks for the device power state that fits: D3 for
//! every sleep state, for the devices of this driver wake nobody up, and D0 for S0. Its request to
//! the power manager comes back through the whole stack, and on this way the device acts. The
//! system does not wait for devices that wake up.
//!
//! What must happen at `PASSIVE_LEVEL` happens in work items, for power requests come at
//! <= `DISPATCH_LEVEL`, and their dispatch routine must not wait in any case.
//!
//! Sources: "Handling System Power State Requests", "Handling Device Power State Requests", "Rules
//! for Handling Power IRPs" and "Fast Resume" of the Windows driver documentation.

use core::ptr::{self, NonNull};

use wdk_sys::{
    _DEVICE_POWER_STATE, _IO_STATUS_BLOCK as IO_STATUS_BLOCK, _POWER_STATE_TYPE,
    _SYSTEM_POWER_STATE, DEVICE_OBJECT, DEVICE_POWER_STATE, IRP, IRP_MN_QUERY_POWER,
    IRP_MN_SET_POWER, NTSTATUS, PDEVICE_OBJECT, POWER_STATE, PREQUEST_POWER_COMPLETE, PVOID,
    STATUS_MORE_PROCESSING_REQUIRED, UCHAR,
    ntddk::{PoRequestPowerIrp, PoSetPowerState},
};

use super::{Device, Disposition, Function, Irp, Passive, Pnp, Role, State, check, time::delay};
use crate::ioctl::Status;

/// How often full power is asked for, should there be no memory for the request.
const TRIES: u32 = 10;
/// The time between two of them, in milliseconds.
const TRY_AGAIN_MS: u32 = 100;

const D0: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD0;
const D3: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD3;

/// What an `IRP_MN_SET_POWER` sets.
#[derive(Clone, Copy)]
enum Change {
    /// The system: whether it works (`PowerSystemWorking`).
    System { works: bool },
    /// The device.
    Device(DEVICE_POWER_STATE),
}

impl Change {
    fn of(irp: &Irp) -> Option<Self> {
        if u32::from(irp.stack().MinorFunction) != IRP_MN_SET_POWER {
            return None;
        }
        // SAFETY: the member that belongs to SET_POWER.
        let power = unsafe { irp.stack().Parameters.Power };
        match power.Type {
            _POWER_STATE_TYPE::SystemPowerState => Some(Self::System {
                // SAFETY: the type says which member there is.
                works: unsafe { power.State.SystemState }
                    == _SYSTEM_POWER_STATE::PowerSystemWorking,
            }),
            _POWER_STATE_TYPE::DevicePowerState => {
                // SAFETY: the type says which member there is.
                Some(Self::Device(unsafe { power.State.DeviceState }))
            }
            _ => None,
        }
    }
}

/// `IRP_MJ_POWER`, at <= `DISPATCH_LEVEL`.
pub(super) fn power<R: Role>(device: Device<'_, R>, irp: Irp) -> Disposition {
    let change = Change::of(&irp);
    let is_query = u32::from(irp.stack().MinorFunction) == IRP_MN_QUERY_POWER;
    // SAFETY: the IRP holds the remove lock.
    match unsafe { device.role() }.pnp() {
        Pnp::Function(function) => {
            let lower = function.lower();
            let context = device.raw().cast();
            match change {
                Some(Change::System { .. }) => {
                    irp.agreed()
                        .forward_then(lower, Some(system_done::<R>), context)
                }
                Some(Change::Device(D0)) => irp.forward_then(lower, Some(has_power::<R>), context),
                Some(Change::Device(_)) => {
                    let pending = irp.mark_pending();
                    later(function, irp);
                    pending
                }
                // Whatever is under way can wait or end.
                None if is_query => irp.agreed().forward(lower),
                None => irp.forward(lower),
            }
        }
        Pnp::Child(_) => {
            match change {
                // Of its parent's hardware a child has no power of its own.
                Some(Change::Device(state)) => tell(device, state),
                Some(Change::System { .. }) => {}
                None if is_query => {}
                None => return irp.complete_as_is(),
            }
            irp.complete_with_status(Status::SUCCESS)
        }
    }
}

/// Tells the power manager the device's power state, where that is allowed: at
/// <= `DISPATCH_LEVEL` for full power, else below.
pub(super) fn tell<R: Role>(device: Device<'_, R>, state: DEVICE_POWER_STATE) {
    if state != D0 && Passive::now().is_none() {
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

/// `START_DEVICE` implies full power.
pub(super) fn started<R: Role>(device: Device<'_, R>) {
    tell(device, D0);
}

/// `REMOVE_DEVICE` implies none.
pub(super) fn removed<R: Role>(device: Device<'_, R>) {
    tell(device, D3);
}

fn device_state(state: DEVICE_POWER_STATE) -> POWER_STATE {
    let mut power = POWER_STATE::default();
    power.DeviceState = state;
    power
}

/// Asks the power manager to send an `IRP_MN_SET_POWER` for `state` to the device's stack.
/// `routine` is told how it ended, and given `irp`. At <= `DISPATCH_LEVEL`.
fn ask_for<R: Role>(
    device: Device<'_, R>,
    state: DEVICE_POWER_STATE,
    routine: PREQUEST_POWER_COMPLETE,
    irp: *mut IRP,
) -> Result<(), Status> {
    const MINOR: UCHAR = {
        assert!(IRP_MN_SET_POWER == 2);
        2
    };
    // SAFETY: the object is live. The last argument is for other minors.
    check(unsafe {
        PoRequestPowerIrp(
            device.raw(),
            MINOR,
            device_state(state),
            routine,
            irp.cast(),
            ptr::null_mut(),
        )
    })
}

/// What a completion routine or a work item of this file was given.
///
/// # Safety
/// `object` is a device object of a role `R`, and `irp` was accepted for it, and comes back to it
/// here.
unsafe fn taken_up<'d, R: Role>(object: PVOID, irp: *mut IRP) -> Option<(Device<'d, R>, Irp)> {
    let object = NonNull::new(object.cast::<DEVICE_OBJECT>())?;
    // SAFETY: the caller's promise; the IRP holds the device.
    let device = unsafe { Device::<R>::from_raw(object) };
    // SAFETY: likewise.
    let irp = unsafe { Irp::resume(NonNull::new(irp)?, device.remove_lock()) };
    Some((device, irp))
}

/// The function device that an IRP belongs to, which holds it.
fn function_of<'d, R: Role>(device: Device<'d, R>, _irp: &Irp) -> Option<&'d dyn Function<R>> {
    // SAFETY: the IRP holds the remove lock.
    match unsafe { device.role() }.pnp() {
        Pnp::Function(function) => Some(function),
        // Children forward nothing, and never get here.
        Pnp::Child(_) => None,
    }
}

/// Completion routine of a system power request, at <= `DISPATCH_LEVEL`: the lower drivers know.
unsafe extern "C" fn system_done<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `power` passed the device.
    let Some((device, irp)) = (unsafe { taken_up::<R>(context, irp) }) else {
        return STATUS_MORE_PROCESSING_REQUIRED;
    };
    let (change, function) = (Change::of(&irp), function_of(device, &irp));
    match (change, function) {
        (Some(Change::System { works: true }), Some(function)) => {
            if ask_for(device, D0, None, ptr::null_mut()).is_ok() {
                function.awaken();
                return irp.go_on();
            }
            // SAFETY: there is one system power request at a time.
            unsafe { function.work().system.queue(Some(ask_again::<R>), irp) };
            STATUS_MORE_PROCESSING_REQUIRED
        }
        (Some(Change::System { works: false }), Some(_)) if irp.status().is_success() => {
            let raw = irp.put_aside();
            match ask_for(device, D3, Some(sleeps::<R>), raw.as_ptr()) {
                Ok(()) => STATUS_MORE_PROCESSING_REQUIRED,
                // The system sleeps all the same, and the device keeps its power.
                // SAFETY: the request was not made, so the IRP is still here.
                Err(_) => unsafe { Irp::resume(raw, device.remove_lock()) }.go_on(),
            }
        }
        _ => irp.go_on(),
    }
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
    let Some(irp) = NonNull::new(context.cast::<IRP>()) else {
        return;
    };
    // SAFETY: `system_done` put it aside.
    let object = unsafe { Irp::device_of(irp) };
    // SAFETY: and stopped it on its way up to that device.
    if let Some((_, irp)) = unsafe { taken_up::<R>(object.cast(), irp.as_ptr()) } {
        // SAFETY: the power manager's, which lives as long as this call.
        let status = unsafe { block.as_ref() }.map_or(Status::SUCCESS, |block| {
            // SAFETY: both members of the union are plain.
            Status(unsafe { block.__bindgen_anon_1.Status })
        });
        let _ = irp.complete_with_status(status);
    }
}

/// Work item: there was no memory to ask for full power, and without it the device would sleep on.
unsafe extern "C" fn ask_again<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::new() };
    // SAFETY: `system_done` queued it, with the IRP.
    let Some((device, irp)) = (unsafe { taken_up::<R>(object.cast(), context.cast()) }) else {
        return;
    };
    for _ in 0..TRIES {
        delay(TRY_AGAIN_MS, passive.blocking());
        if ask_for(device, D0, None, ptr::null_mut()).is_ok() {
            if let Some(function) = function_of(device, &irp) {
                function.awaken();
            }
            break;
        }
    }
    let _ = irp.complete_as_is();
}

/// Completion routine of the request for full power, at <= `DISPATCH_LEVEL`: the device has it.
unsafe extern "C" fn has_power<R: Role>(
    _object: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `power` passed the device.
    if let Some((device, irp)) = unsafe { taken_up::<R>(context, irp) } {
        match function_of(device, &irp) {
            Some(function) => later(function, irp),
            None => return irp.go_on(),
        }
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Goes on with a device power request in [`act`].
fn later<R: Role>(function: &dyn Function<R>, irp: Irp) {
    // SAFETY: there is one device power request at a time.
    unsafe { function.work().device.queue(Some(act::<R>), irp) };
}

/// Work item: the device's own part of a device power request.
unsafe extern "C" fn act<R: Role>(object: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::new() };
    // SAFETY: `later` queued it, with the IRP.
    let Some((device, irp)) = (unsafe { taken_up::<R>(object.cast(), context.cast()) }) else {
        return;
    };
    let (Some(Change::Device(state)), Some(function)) =
        (Change::of(&irp), function_of(device, &irp))
    else {
        let _ = irp.complete_as_is();
        return;
    };
    if state == D0 {
        let succeeded = irp.status().is_success();
        function.work().alone(passive, || {
            match (uses_hardware(device), succeeded) {
                (true, true) => function.wake(passive),
                // It sleeps on, and whatever waits for it is told.
                (true, false) => function.sleep(passive),
                (false, _) => {}
            }
            if succeeded {
                tell(device, D0);
            }
        });
        let _ = irp.complete_as_is();
    } else {
        function.work().alone(passive, || {
            if uses_hardware(device) {
                function.sleep(passive);
            }
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
    // SAFETY: `act` passed the device.
    match unsafe { taken_up::<R>(context, irp) } {
        Some((_, irp)) => irp.go_on(),
        None => STATUS_MORE_PROCESSING_REQUIRED,
    }
}

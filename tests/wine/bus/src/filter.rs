//! The filter above parscan's devices: on top of each function device that it attaches to our bus,
//! and on top of each child that it reports. It does what Wine's kernel leaves out:
//!
//! - `START_DEVICE` carries no resources there, and the I/O manager waits for ever if it is pending;
//! - `IRP_MJ_CLEANUP` is not sent;
//! - devices are asked for their IDs while AddDevice still makes them;
//! - `REMOVE_DEVICE` does not wait until the device's handles are closed, which then never reaches
//!   the driver;
//! - a pointer in a request's buffer is good in the program's process, not in this one.

use crate::{
    bus::{self, State},
    client_memory, entry, files,
    hooks::give_away,
    nt::{Device, Filter, Irp, NOT_SUPPORTED, Role, SUCCESS, Status, Which, major, pnp},
    report::say,
};

/// The driver under test has attached `function` to `target`.
pub(crate) fn driver_attached(function: Device, target: Device) {
    if target.driver() == entry::driver()
        && let Role::Child(which) = target.role()
    {
        entry::watch_unload(function.driver());
        function.begin();
        attach(function, Some((target, which)));
    }
}

fn attach(device: Device, bottom: Option<(Device, Which)>) {
    let filter = Filter {
        lower: device,
        bottom,
    };
    let made = Device::create(entry::driver(), Role::Filter(filter), None, false);
    let above = made.ok().and_then(|it| Some((it, it.attach(device)?)));
    let Some((it, lower)) = above else {
        say!("no filter above a device");
        return;
    };
    it.set_role(Role::Filter(Filter { lower, bottom }));
    it.inherit(lower);
    it.finish();
}

/// A request to a filter.
pub(crate) fn dispatch(device: Device, filter: Filter, irp: Irp) -> Status {
    if let Some((bottom, _)) = filter.bottom
        && filter.lower.is_initializing()
    {
        // Windows asks nothing before AddDevice is back; Wine asks for IDs on the way.
        return irp.forward(bottom);
    }
    match irp.major() {
        major::PNP => plug_and_play(device, filter, irp),
        major::CREATE => {
            files::requests_come_here();
            let file = irp.file();
            if irp.forward_and_wait(filter.lower) >= SUCCESS {
                files::opened(device, file);
            }
            irp.complete_as_is()
        }
        major::CLOSE => {
            let file = irp.file();
            files::send(filter.lower, major::CLEANUP, file);
            irp.forward_and_wait(filter.lower);
            files::closed(device, file);
            irp.complete_as_is()
        }
        major::DEVICE_CONTROL => {
            // Until the dispatch routine is back: no longer may a driver rely on the sender's
            // address space.
            let _memory = client_memory::stand_in(irp);
            irp.forward(filter.lower)
        }
        _ => irp.forward(filter.lower),
    }
}

fn plug_and_play(device: Device, filter: Filter, irp: Irp) -> Status {
    let Filter { lower, bottom } = filter;
    let which = bottom.map(|(_, which)| which);
    match irp.minor() {
        pnp::START_DEVICE => {
            device.inherit(lower);
            if let Some(port) = which.and_then(Which::port) {
                let resources = bus::resources(port);
                irp.set_parameter(0, resources);
                irp.set_parameter(1, resources);
            }
            let status = irp.forward_and_wait(lower);
            if let Some(which) = which {
                let state = if status < 0 {
                    State::Failed(status)
                } else {
                    State::Started
                };
                bus::set_state(which, state);
            }
            irp.complete_as_is();
            if status >= SUCCESS
                && let Some((bottom, which)) = bottom
                && which.port().is_some()
            {
                // Windows asks every device that has started, Wine only when it is told to.
                bus::ask_for_children(bottom);
            }
            return status;
        }
        pnp::REMOVE_DEVICE => {
            files::settle(device, lower);
            // Before: Wine frees the lower device at once when its driver deletes it.
            lower.detach_upper();
            irp.forward_and_wait(lower);
            if let Some(which) = which {
                bus::set_state(which, State::Removed);
            }
            let status = irp.complete_as_is();
            device.delete();
            return status;
        }
        pnp::STOP_DEVICE | pnp::SURPRISE_REMOVAL => {
            let state = if irp.minor() == pnp::STOP_DEVICE {
                State::Stopped
            } else {
                State::Gone
            };
            irp.forward_and_wait(lower);
            if let Some(which) = which {
                bus::set_state(which, state);
            }
        }
        pnp::QUERY_DEVICE_RELATIONS => {
            let status = irp.forward_and_wait(lower);
            // BusRelations
            if status >= SUCCESS && irp.parameter_u32(0) == 0 {
                filter_children(device, irp.information());
            }
            give_away(irp.information());
        }
        pnp::QUERY_ID if irp.parameter_u32(0) == bus::COMPATIBLE_IDS => {
            let status = irp.forward_and_wait(lower);
            give_away(irp.information());
            // No answer means none to Windows; Wine installs no device without.
            if status == NOT_SUPPORTED
                && let Some(none) = bus::strings(&[""])
            {
                irp.set_result(SUCCESS, none);
            }
        }
        // Their answers are pool that the PnP manager frees.
        pnp::QUERY_ID | pnp::QUERY_DEVICE_TEXT | pnp::QUERY_BUS_INFORMATION => {
            irp.forward_and_wait(lower);
            give_away(irp.information());
        }
        _ => {
            irp.forward_and_wait(lower);
        }
    }
    irp.complete_as_is()
}

/// Puts filters above the children in a `DEVICE_RELATIONS` that have none.
fn filter_children(device: Device, relations: usize) {
    if relations == 0 {
        return;
    }
    for child in bus::relations_of(relations) {
        if child.driver() != device.driver() && child.upper().is_none() {
            attach(child, None);
        }
    }
}

//! The root device, and the children that it enumerates.

use alloc::vec::Vec;
use core::{fmt, ptr};

use windows_sys::Wdk::{
    Foundation::DEVICE_OBJECT,
    System::SystemServices::{
        BusRelations, DEVICE_CAPABILITIES, IoInvalidateDeviceRelations, ObfReferenceObject,
    },
};

use crate::{
    entry,
    lock::Lock,
    nt::{
        self, Device, INSUFFICIENT_RESOURCES, INVALID_DEVICE_REQUEST, Irp, Role, SUCCESS, Status,
        Which, major, pnp,
    },
    port::{RANGES, Range},
    usb,
};

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never plugged in.
    Absent,
    /// On the bus; its driver has not started it.
    Plugged,
    Started,
    Stopped,
    /// Off the bus by surprise; programs still have it open.
    Gone,
    Removed,
    Failed(Status),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Plugged => f.write_str("plugged"),
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Gone => f.write_str("gone"),
            Self::Removed => f.write_str("removed"),
            Self::Failed(status) => write!(f, "failed {status:08X}"),
        }
    }
}

/// A place on the bus.
#[derive(Clone, Copy)]
struct Place {
    which: Which,
    /// The physical device object, until it is deleted.
    device: Option<Device>,
    present: bool,
    state: State,
}

impl Place {
    const fn new(which: Which) -> Self {
        Self {
            which,
            device: None,
            present: false,
            state: State::Absent,
        }
    }
}

struct Bus {
    /// The root device's physical device object.
    root: Option<Device>,
    places: [Place; 3],
}

static BUS: Lock<Bus> = Lock::new(Bus {
    root: None,
    places: [
        Place::new(Which::Port),
        Place::new(Which::Port2),
        Place::new(Which::Scanner),
    ],
});

impl Bus {
    fn place(&mut self, which: Which) -> Option<&mut Place> {
        self.places.iter_mut().find(|it| it.which == which)
    }
}

pub(crate) fn set_state(which: Which, state: State) {
    if let Some(place) = BUS.lock().place(which) {
        place.state = state;
    }
}

pub(crate) fn state(which: Which) -> State {
    BUS.lock().place(which).map_or(State::Absent, |it| it.state)
}

/// The device on the bus, if there is one.
pub(crate) fn device(which: Which) -> Option<Device> {
    BUS.lock().place(which).filter(|it| it.present)?.device
}

/// `DRIVER_ADD_DEVICE`
///
/// # Safety
/// The PnP manager calls it.
pub(crate) unsafe extern "system" fn add_device(
    driver: *const nt::DRIVER_OBJECT,
    root: *const DEVICE_OBJECT,
) -> Status {
    // SAFETY: the PnP manager's device.
    let root = unsafe { Device::from_raw(root.cast_mut()) };
    let function = match Device::create(driver, Role::Bus(root), None, false) {
        Ok(it) => it,
        Err(status) => return status,
    };
    let Some(lower) = function.attach(root) else {
        function.delete();
        return nt::NO_SUCH_DEVICE;
    };
    function.set_role(Role::Bus(lower));
    function.finish();
    BUS.lock().root = Some(root);
    SUCCESS
}

/// Puts a device on the bus. Whether it could.
pub(crate) fn plug(which: Which) -> bool {
    let mut bus = BUS.lock();
    let Some(root) = bus.root else {
        return false;
    };
    let Some(place) = bus.place(which).filter(|it| it.device.is_none()) else {
        return false;
    };
    let Ok(device) = Device::create(entry::driver(), Role::Child(which), None, true) else {
        return false;
    };
    device.finish();
    place.device = Some(device);
    place.present = true;
    place.state = State::Plugged;
    drop(bus);
    ask_for_children(root);
    true
}

/// Takes a device off the bus. Whether there was one.
pub(crate) fn unplug(which: Which) -> bool {
    let mut bus = BUS.lock();
    let Some(root) = bus.root else {
        return false;
    };
    let Some(place) = bus.place(which).filter(|it| it.present) else {
        return false;
    };
    place.present = false;
    drop(bus);
    ask_for_children(root);
    true
}

/// The PnP manager shall ask a device, by its physical device object, which children it has.
pub(crate) fn ask_for_children(physical: Device) {
    // SAFETY: a physical device object.
    unsafe { IoInvalidateDeviceRelations(physical.raw(), BusRelations) };
}

/// A request to the root device.
pub(crate) fn dispatch_root(device: Device, lower: Device, irp: Irp) -> Status {
    if irp.major() != major::PNP {
        return irp.complete_as_is();
    }
    match irp.minor() {
        pnp::QUERY_DEVICE_RELATIONS if irp.parameter_u32(0) == BusRelations.cast_unsigned() => {
            match children() {
                Some(list) => irp.set_result(SUCCESS, list),
                None => return irp.complete(INSUFFICIENT_RESOURCES, 0),
            }
        }
        pnp::START_DEVICE => {
            irp.forward_and_wait(lower);
            return irp.complete(SUCCESS, 0);
        }
        pnp::REMOVE_DEVICE => {
            irp.set_result(SUCCESS, 0);
            irp.forward_and_wait(lower);
            let status = irp.complete_as_is();
            let mut bus = BUS.lock();
            bus.root = None;
            let left: Vec<_> = bus
                .places
                .iter_mut()
                .filter_map(|it| it.device.take())
                .collect();
            drop(bus);
            for child in left {
                child.delete();
            }
            lower.detach_upper();
            device.delete();
            return status;
        }
        pnp::SURPRISE_REMOVAL
        | pnp::QUERY_REMOVE_DEVICE
        | pnp::CANCEL_REMOVE_DEVICE
        | pnp::QUERY_STOP_DEVICE
        | pnp::CANCEL_STOP_DEVICE
        | pnp::STOP_DEVICE => irp.set_result(SUCCESS, 0),
        _ => {}
    }
    irp.forward(lower)
}

/// A `DEVICE_RELATIONS` of what is on the bus, each referenced.
fn children() -> Option<usize> {
    let bus = BUS.lock();
    let present: Vec<_> = bus
        .places
        .iter()
        .filter(|it| it.present)
        .filter_map(|it| it.device)
        .collect();
    drop(bus);
    // Count, and padding; then the pointers, one place at least.
    let memory = nt::pool(size_of::<usize>() * (1 + present.len().max(1)))?;
    let list = memory.cast::<usize>().as_ptr();
    // SAFETY: that long; pool is aligned.
    unsafe { list.write(present.len()) };
    for (at, child) in present.into_iter().enumerate() {
        // SAFETY: a live device of this driver.
        unsafe { ObfReferenceObject(child.raw().cast()) };
        // SAFETY: within the memory.
        unsafe { list.add(1 + at).write(child.raw().expose_provenance()) };
    }
    Some(memory.as_ptr().expose_provenance())
}

/// The devices in a `DEVICE_RELATIONS`.
pub(crate) fn relations_of(list: usize) -> Vec<Device> {
    let list = ptr::with_exposed_provenance::<usize>(list);
    // SAFETY: a driver's answer; the count is a ULONG.
    let count = unsafe { list.cast::<u32>().read() } as usize;
    (0..count)
        .map(|at| {
            // SAFETY: as many as it says, each a live device.
            unsafe {
                let device = list.add(1 + at).read();
                Device::from_raw(ptr::with_exposed_provenance_mut(device))
            }
        })
        .collect()
}

/// A request to a device on the bus.
pub(crate) fn dispatch_child(device: Device, which: Which, irp: Irp) -> Status {
    match irp.major() {
        major::PNP => child_pnp(device, which, irp),
        major::INTERNAL_DEVICE_CONTROL if which == Which::Scanner => usb::internal_control(irp),
        major::POWER | major::CREATE | major::CLOSE | major::CLEANUP => irp.complete(SUCCESS, 0),
        major::DEVICE_CONTROL | major::INTERNAL_DEVICE_CONTROL => {
            irp.complete(INVALID_DEVICE_REQUEST, 0)
        }
        _ => irp.complete_as_is(),
    }
}

fn child_pnp(device: Device, which: Which, irp: Irp) -> Status {
    match irp.minor() {
        pnp::QUERY_ID => match identity(which, irp.parameter_u32(0)) {
            Some(text) => irp.complete(SUCCESS, text),
            None => irp.complete_as_is(),
        },
        pnp::QUERY_CAPABILITIES => {
            /// `UniqueID`
            const UNIQUE: u32 = 1 << 6;
            /// `Removable` and `SurpriseRemovalOK`, of what has a plug
            const REMOVABLE: u32 = 1 << 4 | 1 << 9;
            let capabilities =
                ptr::with_exposed_provenance_mut::<DEVICE_CAPABILITIES>(irp.parameter(0));
            // SAFETY: the sender's structure.
            if let Some(it) = unsafe { capabilities.as_mut() } {
                it._bitfield |= UNIQUE;
                if which == Which::Scanner {
                    it._bitfield |= REMOVABLE;
                }
            }
            irp.complete(SUCCESS, 0)
        }
        pnp::START_DEVICE => {
            if which == Which::Scanner {
                usb::connect();
            }
            irp.complete(SUCCESS, 0)
        }
        pnp::STOP_DEVICE | pnp::SURPRISE_REMOVAL => {
            if which == Which::Scanner {
                usb::disconnect();
            }
            irp.complete(SUCCESS, 0)
        }
        pnp::REMOVE_DEVICE => {
            if which == Which::Scanner {
                usb::disconnect();
            }
            let status = irp.complete(SUCCESS, 0);
            let mut bus = BUS.lock();
            let gone = bus
                .place(which)
                .filter(|it| !it.present)
                .and_then(|it| it.device.take());
            drop(bus);
            if gone == Some(device) {
                device.delete();
            }
            status
        }
        pnp::QUERY_REMOVE_DEVICE
        | pnp::CANCEL_REMOVE_DEVICE
        | pnp::QUERY_STOP_DEVICE
        | pnp::CANCEL_STOP_DEVICE => irp.complete(SUCCESS, 0),
        _ => irp.complete_as_is(),
    }
}

// `BUS_QUERY_ID_TYPE`
const DEVICE_ID: u32 = 0;
const HARDWARE_IDS: u32 = 1;
pub(crate) const COMPATIBLE_IDS: u32 = 2;
const INSTANCE_ID: u32 = 3;

/// The answer to `IRP_MN_QUERY_ID`.
fn identity(which: Which, kind: u32) -> Option<usize> {
    let texts: &[&str] = match (which, kind) {
        (Which::Port, INSTANCE_ID) => &["1"],
        (Which::Port2, INSTANCE_ID) => &["2"],
        (Which::Port | Which::Port2, DEVICE_ID) => &[r"ACPI\PNP0401"],
        (Which::Port | Which::Port2, HARDWARE_IDS) => {
            &[r"ACPI\VEN_PNP&DEV_0401", r"ACPI\PNP0401", "*PNP0401", ""]
        }
        (Which::Port | Which::Port2, COMPATIBLE_IDS) => &["*PNP0400", ""],
        (Which::Scanner, DEVICE_ID) => &[r"USB\VID_04A9&PID_1909"],
        (Which::Scanner, INSTANCE_ID) => &["0001"],
        (Which::Scanner, HARDWARE_IDS) => &[
            r"USB\VID_04A9&PID_1909&REV_0102",
            r"USB\VID_04A9&PID_1909",
            "",
        ],
        (Which::Scanner, COMPATIBLE_IDS) => &[
            r"USB\Class_06&SubClass_01&Prot_01",
            r"USB\Class_06&SubClass_01",
            r"USB\Class_06",
            "",
        ],
        _ => return None,
    };
    strings(texts)
}

/// Strings in pool, each with its zero; the address.
pub(crate) fn strings(texts: &[&str]) -> Option<usize> {
    let units: Vec<u16> = texts
        .iter()
        .flat_map(|text| text.encode_utf16().chain([0]))
        .collect();
    let memory = nt::pool(size_of_val(units.as_slice()))?
        .cast::<u16>()
        .as_ptr();
    // SAFETY: that long.
    unsafe { ptr::copy_nonoverlapping(units.as_ptr(), memory, units.len()) };
    Some(memory.expose_provenance())
}

/// `CM_RESOURCE_LIST`
#[repr(C, align(8))]
struct Resources([u32; 15]);

/// `CmResourceTypePort`, `CmResourceShareDeviceExclusive`, `CM_RESOURCE_PORT_IO` and
/// `CM_RESOURCE_PORT_16_BIT_DECODE`
const PORT: u32 = 0x0011_0101;

/// One list: Isa, bus 0, version and revision 1, two ranges of ports.
const fn resources_of((registers, ecp_registers): (Range, Range)) -> Resources {
    Resources([
        1,
        1,
        0,
        0x0001_0001,
        2,
        PORT,
        registers.0 as u32,
        0,
        registers.1 as u32,
        0,
        PORT,
        ecp_registers.0 as u32,
        0,
        ecp_registers.1 as u32,
        0,
    ])
}

static RESOURCES: [Resources; RANGES.len()] = [resources_of(RANGES[0]), resources_of(RANGES[1])];

/// Where a port's resources are, raw and translated.
pub(crate) fn resources(port: usize) -> usize {
    RESOURCES
        .get(port)
        .map_or(0, |resources| ptr::from_ref(resources).expose_provenance())
}

//! The PnP manager, and the bus driver on whose devices everything else stands.

use crate::iomgr::{self, PNP, POWER, REMOVE, SURPRISE, SYSTEM_CONTROL};
use crate::mem::{Kind, Va, peek, poke, poke_bytes};
use crate::nt::types::{
    DO_BUFFERED_IO, DO_BUS_ENUMERATED_DEVICE, DO_DEVICE_INITIALIZING, DO_DIRECT_IO,
    DO_POWER_PAGABLE, Dev, Drv, Irp, SL_PENDING_RETURNED, Sl, wide,
};
use crate::nt::{Entry, guest, io};
use crate::power;
use crate::registry::RegValue;
use crate::rules;
use crate::sched::{self, ThreadKind};
use crate::state::{DriverId, Kernel, Site, fail, status_of, with};
use crate::{DeviceSpec, Nanos, NtStatus, PowerUp, Resource};

/// A device that the PnP manager knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevNode(pub(crate) usize);

/// Where a device stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Reported, no function driver yet.
    Found,
    /// AddDevice succeeded.
    Added,
    /// `IRP_MN_START_DEVICE` succeeded.
    Started,
    /// `IRP_MN_STOP_DEVICE` was sent.
    Stopped,
    /// `IRP_MN_SURPRISE_REMOVAL` was sent; handles may keep it here.
    SurpriseRemoved,
    /// `IRP_MN_REMOVE_DEVICE` was sent.
    Removed,
}

/// What a device says of itself, see [`crate::Machine::device_ids`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceIds {
    /// `BusQueryDeviceID`, with enumerator.
    pub device_id: String,
    /// `BusQueryInstanceID`.
    pub instance: String,
    /// `BusQueryHardwareIDs`.
    pub hardware_ids: Vec<String>,
    /// `BusQueryCompatibleIDs`.
    pub compatible_ids: Vec<String>,
    /// `BusQueryContainerID`, empty if not answered.
    pub container_id: String,
    /// `DeviceTextDescription`.
    pub description: String,
    /// `DeviceTextLocationInformation`.
    pub location: String,
    /// The flag bits of its `DEVICE_CAPABILITIES`: the dword after Size and Version.
    pub capabilities: u32,
}

/// What a device's bus does with it, where that is the machine's own.
pub(crate) struct OnBus {
    /// The device power state that it gave the device.
    pub power: u32,
    /// How the device gets full power.
    pub power_up: PowerUp,
    /// What it answers to `IRP_MN_START_DEVICE`, if not success.
    pub fails_start: Option<NtStatus>,
}

pub(crate) struct Node {
    pub pdo: Va,
    pub bus: OnBus,
    pub parent: Option<DevNode>,
    pub state: NodeState,
    pub spec: DeviceSpec,
    pub children: Vec<DevNode>,
    pub gone: bool,
    pub removing: bool,
    /// It has had its REMOVE and is still reported: nothing to remove until it is added again.
    idle: bool,
    pub container_id: String,
    pub location: String,
    pub driver_key: String,
    pub text: String,
    pub capabilities: u32,
}

#[derive(Default)]
pub(crate) struct Pnp {
    pub nodes: Vec<Node>,
    names: u32,
    /// Thread that holds the PnP manager, and how often.
    busy: Option<(sched::Tid, u32)>,
    /// Resources that others have.
    pub occupied: Vec<Resource>,
    pub bus: usize,
    pub filter: usize,
}

impl Pnp {
    pub(crate) fn next_device_name(&mut self) -> String {
        self.names += 1;
        format!(r"\Device\{:08x}", self.names + 0x10)
    }

    fn of_pdo(&self, pdo: Va) -> Option<usize> {
        self.nodes
            .iter()
            .rposition(|n| n.pdo == pdo && n.pdo != 0 && !(n.gone && n.state == NodeState::Removed))
    }
}

pub(crate) fn bottom_of(k: &Kernel, mut device: Va) -> Va {
    while let Some(lower) = k.devices.get(&device).and_then(|d| d.lower) {
        device = lower;
    }
    device
}

pub(crate) fn node_of(k: &Kernel, device: Va) -> Option<usize> {
    k.pnp.of_pdo(bottom_of(k, device))
}

const ENUM: &str = r"\Registry\Machine\System\CurrentControlSet\Enum";
const CLASS: &str = r"\Registry\Machine\System\CurrentControlSet\Control\Class";

impl DeviceSpec {
    fn path(&self) -> String {
        format!(r"{}\{}\{}", self.enumerator, self.device_id, self.instance)
    }
}

/// What the bus driver and the device answered.
pub(crate) fn device_ids(k: &Kernel, node: DevNode) -> DeviceIds {
    let node = &k.pnp.nodes[node.0];
    let spec = &node.spec;
    DeviceIds {
        device_id: format!(r"{}\{}", spec.enumerator, spec.device_id),
        instance: spec.instance.clone(),
        hardware_ids: spec.hardware_ids.clone(),
        compatible_ids: spec.compatible_ids.clone(),
        container_id: node.container_id.clone(),
        description: node.text.clone(),
        location: node.location.clone(),
        capabilities: node.capabilities,
    }
}

/// The translated resources of a PDO's device.
pub(crate) fn translated(k: &Kernel, pdo: Va) -> Option<Vec<Resource>> {
    let n = k.pnp.of_pdo(pdo)?;
    Some(k.pnp.nodes[n].spec.translated.clone())
}

/// `Enumerator\Device\Instance` of a PDO.
pub(crate) fn instance_path(k: &Kernel, pdo: Va) -> Option<String> {
    k.pnp.of_pdo(pdo).map(|n| k.pnp.nodes[n].spec.path())
}

/// Paths of the hardware key and of the software key of a PDO.
pub(crate) fn registry_keys(k: &Kernel, pdo: Va) -> Option<(String, String)> {
    let node = &k.pnp.nodes[k.pnp.of_pdo(pdo)?];
    Some((
        format!(r"{ENUM}\{}\Device Parameters", node.spec.path()),
        format!(r"{CLASS}\{}", node.driver_key),
    ))
}

fn multi(list: &[String]) -> Vec<u8> {
    RegValue::MultiSz(list.to_vec()).encode().1
}

/// `IoGetDeviceProperty`.
pub(crate) fn property(k: &Kernel, pdo: Va, property: i32) -> Result<Vec<u8>, NtStatus> {
    let n = k.pnp.of_pdo(pdo).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
    let node = &k.pnp.nodes[n];
    let spec = &node.spec;
    let text = |s: &str| {
        if s.is_empty() {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND)
        } else {
            Ok(wide(s))
        }
    };
    // The upper bits carry the type for static analysis only.
    match property & 0xFFF {
        0x0 => text(&node.text),
        0x9 => match k
            .registry
            .get(&format!(r"{ENUM}\{}", spec.path()), FRIENDLY_NAME)
        {
            Some(RegValue::Sz(name)) => text(&name),
            _ => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
        },
        0x1 => Ok(multi(&spec.hardware_ids)),
        0x2 => Ok(multi(&spec.compatible_ids)),
        0x5 => text(&spec.class),
        0x6 => text(&spec.class_guid),
        0x7 => text(&node.driver_key),
        0xA => text(&node.location),
        0xB => text(
            k.devices
                .get(&pdo)
                .and_then(|d| d.name.as_deref())
                .unwrap_or(""),
        ),
        0xF => text(&spec.enumerator),
        0x12 => Ok(0_u32.to_le_bytes().to_vec()),
        0xE | 0x10 | 0x11 => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
        _ => Err(NtStatus::INVALID_PARAMETER_2),
    }
}

/// The value of a devnode's key that Windows shows instead of its description.
const FRIENDLY_NAME: &str = "FriendlyName";

/// `IoSetDevicePropertyData` of `DEVPKEY_Device_FriendlyName`: a text with its NUL.
pub(crate) fn set_friendly_name(k: &mut Kernel, pdo: Va, bytes: &[u8]) -> NtStatus {
    let Some(n) = k.pnp.of_pdo(pdo) else {
        return NtStatus::INVALID_DEVICE_REQUEST;
    };
    let path = format!(r"{ENUM}\{}", k.pnp.nodes[n].spec.path());
    match RegValue::decode(1, bytes) {
        RegValue::Sz(name) => k.registry.set(&path, FRIENDLY_NAME, &RegValue::Sz(name)),
        _ => return NtStatus::INVALID_PARAMETER,
    }
    NtStatus::SUCCESS
}

// ---- the machine's own drivers ----

/// The bus driver's PnP, power and WMI dispatch routine: completes everything.
pub(crate) extern "efiapi" fn bus_dispatch(device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    let sl = i.sl();
    if sl.major() == POWER
        && let Some((after, refused)) = with(|k| power::bus_answer(k, device, sl))
    {
        return answer_late(device, irp, after, refused);
    }
    let answer = match (sl.major(), sl.minor()) {
        (PNP, minor) => bus_pnp(device, i, sl, minor),
        (POWER, power::SET_POWER) => Some(with(|k| bus_power(k, device, sl))),
        (POWER, power::QUERY_POWER) => Some(NtStatus::SUCCESS),
        (POWER | SYSTEM_CONTROL, _) => None,
        _ => Some(NtStatus::INVALID_DEVICE_REQUEST),
    };
    if let Some(status) = answer {
        i.set_status(status);
    }
    if with(|k| k.config.force_pending) && matches!(sl.major(), PNP | POWER) {
        sl.set_control(sl.control() | SL_PENDING_RETURNED);
        with(|k| {
            let until = k.now + 1_000_000;
            let body = Box::new(move || {
                sched::wait("the bus", Some(until), |_| false);
                iomgr::finish(irp);
            });
            k.sched.spawn("bus", ThreadKind::Caller, 0, body);
        });
        return NtStatus::PENDING.raw();
    }
    let status = i.status();
    iomgr::finish(irp);
    status.raw()
}

/// `SET_POWER` to D0 at a bus that takes its time, or refuses.
fn answer_late(device: Va, irp: Va, after: Nanos, refused: Option<NtStatus>) -> i32 {
    let i = Irp(irp);
    let sl = i.sl();
    let answer = move || refused.unwrap_or_else(|| with(|k| bus_power(k, device, sl)));
    if after == 0 {
        let status = answer();
        i.set_status(status);
        iomgr::finish(irp);
        return status.raw();
    }
    sl.set_control(sl.control() | SL_PENDING_RETURNED);
    with(|k| {
        let until = k.now + after;
        let body = Box::new(move || {
            sched::wait("the bus", Some(until), |_| false);
            i.set_status(answer());
            iomgr::finish(irp);
        });
        k.sched.spawn("bus", ThreadKind::Caller, 0, body);
    });
    NtStatus::PENDING.raw()
}

/// `SET_POWER` at the bus. A device that is gone has no power any more.
fn bus_power(k: &mut Kernel, device: Va, sl: Sl) -> NtStatus {
    let (kind, state) = (sl.low(1), sl.low(2));
    if kind == 1 {
        let gone = node_of(k, device).is_some_and(|n| k.pnp.nodes[n].gone);
        if gone && state == power::D0 {
            return NtStatus::NO_SUCH_DEVICE;
        }
        power::set_actual(k, device, state);
    }
    NtStatus::SUCCESS
}

fn bus_pnp(device: Va, irp: Irp, sl: Sl, minor: u8) -> Option<NtStatus> {
    const TARGET_RELATION: u32 = 4;
    match minor {
        0..=6 | SURPRISE => {
            if minor == 0 {
                let fails = with(|k| k.pnp.nodes[node_of(k, device)?].bus.fails_start);
                if fails.is_some() {
                    return fails;
                }
                with(|k| power::set_actual(k, device, power::D0));
            }
            Some(NtStatus::SUCCESS)
        }
        7 if sl.low(0) == TARGET_RELATION => {
            with(|k| io::reference(k, device));
            let mut list = [0_u8; 16];
            list[0] = 1;
            list[8..].copy_from_slice(&device.to_le_bytes());
            let va = crate::nt::ex::pool_for_driver(&list, true, *b"PnpR");
            irp.set_information(va);
            Some(NtStatus::SUCCESS)
        }
        9 => {
            let caps = sl.arg1();
            poke(caps + 4, peek::<u32>(caps + 4) | 1 << 6);
            // DeviceState: S0 = D0, the others D3
            poke(caps + 16 + 4, 1_i32);
            for s in 2..7 {
                poke(caps + 16 + 4 * s, 4_i32);
            }
            with(|k| crate::usb::idle::capabilities(k, device, caps));
            Some(NtStatus::SUCCESS)
        }
        _ => None,
    }
}

/// The filter that I/O verification puts between PDO and FDO: passes everything down.
pub(crate) extern "efiapi" fn filter_dispatch(device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    let sl = i.sl();
    let remove = sl.major() == PNP && sl.minor() == REMOVE;
    let Some(lower) = with(|k| k.devices.get(&device).and_then(|d| d.lower)) else {
        return iomgr::invalid_device_request(device, irp);
    };
    i.move_location(1);
    let status = iomgr::call_driver(lower, irp);
    if remove {
        with(|k| {
            io::detach(k, lower);
            if let Some(d) = k.devices.get_mut(&device) {
                d.deleted = true;
            }
        });
        io::release_if_gone(device);
        io::release_if_gone(lower);
    }
    status.raw()
}

/// Runs one operation of the PnP manager: Windows does them one after the other.
pub(crate) fn exclusive<R>(f: impl FnOnce() -> R) -> R {
    let me = with(|k| k.sched.current);
    let free = move |k: &Kernel| k.pnp.busy.is_none_or(|(tid, _)| tid == me);
    while !with(|k| free(k)) {
        sched::wait("the PnP manager", None, free);
    }
    with(|k| {
        let depth = k.pnp.busy.map_or(0, |(_, n)| n);
        k.pnp.busy = Some((me, depth + 1));
    });
    let result = f();
    with(|k| {
        k.pnp.busy = match k.pnp.busy {
            Some((tid, n)) if n > 1 => Some((tid, n - 1)),
            _ => None,
        };
    });
    result
}

// ---- nodes ----

fn new_node(k: &mut Kernel, pdo: Va, parent: Option<DevNode>, spec: DeviceSpec) -> DevNode {
    let number = k.pnp.nodes.len();
    let key = if spec.class_guid.is_empty() {
        String::new()
    } else {
        format!(r"{}\{number:04}", spec.class_guid)
    };
    let path = spec.path();
    let base = format!(r"{ENUM}\{path}");
    k.registry.create(&format!(r"{base}\Device Parameters"));
    for (name, value) in &spec.hardware_key {
        k.registry
            .set(&format!(r"{base}\Device Parameters"), name, value);
    }
    if !key.is_empty() {
        let software = format!(r"{CLASS}\{key}");
        k.registry.create(&software);
        for (name, value) in &spec.software_key {
            k.registry.set(&software, name, value);
        }
    }
    k.note(format!("device {path}"));
    k.pnp.nodes.push(Node {
        pdo,
        bus: OnBus {
            power: power::D0,
            power_up: PowerUp::default(),
            fails_start: None,
        },
        parent,
        state: NodeState::Found,
        spec,
        children: Vec::new(),
        gone: false,
        removing: false,
        idle: false,
        container_id: String::new(),
        location: String::new(),
        driver_key: key,
        text: String::new(),
        capabilities: 0,
    });
    DevNode(number)
}

pub(crate) fn plug(k: &mut Kernel, spec: DeviceSpec) -> DevNode {
    let bus = DriverId(k.pnp.bus);
    plug_on(k, bus, spec)
}

/// A device on the bus of one of the machine's own bus drivers.
pub(crate) fn plug_on(k: &mut Kernel, bus: DriverId, spec: DeviceSpec) -> DevNode {
    let name = k.pnp.next_device_name();
    let pdo = io::make_device(k, bus, 0, Some(name), spec.device_type, 0x80, false);
    let dev = Dev(pdo);
    let mut flags = dev.flags() & !DO_DEVICE_INITIALIZING | DO_BUS_ENUMERATED_DEVICE | spec.flags;
    if spec.power_pagable {
        flags |= DO_POWER_PAGABLE;
    }
    dev.set_flags(flags);
    if let Some(d) = k.devices.get_mut(&pdo) {
        d.is_pdo = true;
        d.reported = true;
    }
    let text = spec.device_id.clone();
    let node = new_node(k, pdo, None, spec);
    k.pnp.nodes[node.0].text = text;
    node
}

fn pdo(node: DevNode) -> Va {
    with(|k| k.pnp.nodes[node.0].pdo)
}

/// Whether the device may not be deleted now: still reported by its bus, or not removed yet.
pub(crate) fn deleted_early(k: &Kernel, device: Va) -> bool {
    let Some(n) = k.pnp.of_pdo(device) else {
        return false;
    };
    let node = &k.pnp.nodes[n];
    let parent_leaves = node.parent.is_none_or(|p| {
        let p = &k.pnp.nodes[p.0];
        p.removing || p.state == NodeState::Removed
    });
    let reported = k.devices.get(&device).is_some_and(|d| d.reported);
    let removed = node.removing || node.idle || node.state == NodeState::Removed;
    (reported || !removed) && !parent_leaves
}

/// Why the PnP manager lets no client open a device now.
pub(crate) fn open_refused(k: &Kernel, device: Va) -> Option<NtStatus> {
    let node = &k.pnp.nodes[node_of(k, device)?];
    match node.state {
        NodeState::Started | NodeState::Stopped => None,
        _ => Some(NtStatus::NO_SUCH_DEVICE),
    }
}

fn open_handles(k: &Kernel, node: usize) -> usize {
    let mut device = k.pnp.nodes[node].pdo;
    let mut count = k.io.open_files_on(device);
    while let Some(upper) = k.devices.get(&device).and_then(|d| d.upper) {
        device = upper;
        count += k.io.open_files_on(device);
    }
    count
}

/// Sends a PnP, power or WMI IRP to a node's stack.
pub(crate) fn send(
    node: DevNode,
    major: u8,
    minor: u8,
    status: NtStatus,
    information: usize,
    fill: impl FnOnce(Sl),
) -> (NtStatus, usize) {
    let pdo = pdo(node);
    // It went while this was waited for.
    if pdo == 0 {
        return (NtStatus::NO_SUCH_DEVICE, information);
    }
    let (irp, top) = iomgr::prepare(pdo, |irp, sl| {
        irp.set_status(status);
        irp.set_information(information);
        sl.set_major(major);
        sl.set_minor(minor);
        fill(sl);
    });
    iomgr::send(irp, top)
}

fn send_pnp(node: DevNode, minor: u8, fill: impl FnOnce(Sl)) -> (NtStatus, usize) {
    send(node, PNP, minor, NtStatus::NOT_SUPPORTED, 0, fill)
}

pub(crate) fn add_device(node: DevNode, driver: DriverId) -> NtStatus {
    let (object, name, filter) = with(|k| {
        let d = k.driver(driver);
        (d.object, d.name.clone(), k.config.filter)
    });
    let routine = Drv(object).add_device();
    if routine == 0 {
        fail(rules::NO_DISPATCH, format!("{name} has no AddDevice"));
    }
    let default = with(|k| k.io.default_dispatch);
    for major in [PNP, POWER, SYSTEM_CONTROL, iomgr::CREATE, iomgr::CLOSE] {
        if Drv(object).major(major) == default {
            fail(
                rules::NO_DISPATCH,
                format!("{name}: IRP_MJ_{}", crate::trace::major_name(major)),
            );
        }
    }
    let pdo = pdo(node);
    // It went while this was waited for.
    if pdo == 0 {
        return NtStatus::NO_SUCH_DEVICE;
    }
    if filter {
        with(|k| {
            let id = DriverId(k.pnp.filter);
            let dev = io::make_device(k, id, 0, None, Dev(pdo).device_type(), 0, false);
            let inherited = DO_BUFFERED_IO | DO_DIRECT_IO | DO_POWER_PAGABLE;
            Dev(dev).set_flags(Dev(pdo).flags() & inherited);
            io::attach(k, dev, pdo);
        });
    }
    let entry = Entry::now();
    // A child that another device has made may wait for its first report.
    let before = with(|k| k.devices.keys().copied().collect());
    let status = status_of(guest(routine, &[object, pdo]));
    entry.check("AddDevice");
    if status.is_success() {
        if let Some((rule, what)) = with(|k| io::check_added(k, driver, &before)) {
            fail(rule, what);
        }
        with(|k| {
            let n = &mut k.pnp.nodes[node.0];
            (n.state, n.idle) = (NodeState::Added, false);
        });
    } else {
        drop_filter(pdo);
        with(|k| k.note(format!("AddDevice failed: {status}")));
    }
    status
}

fn drop_filter(pdo: Va) {
    let upper = with(|k| {
        let upper = k.devices.get(&pdo)?.upper?;
        let internal = k.driver(k.devices.get(&upper)?.driver).is_internal();
        (internal && k.devices.get(&upper)?.upper.is_none()).then_some(upper)
    });
    if let Some(filter) = upper {
        with(|k| {
            io::detach(k, pdo);
            if let Some(d) = k.devices.get_mut(&filter) {
                d.deleted = true;
            }
        });
        io::release_if_gone(filter);
    }
}

fn resource_list(resources: &[Resource]) -> Va {
    if resources.is_empty() {
        return 0;
    }
    let mut bytes = Vec::new();
    // One full descriptor: Internal interface type 0, bus 0; version and revision 1.
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(u32::try_from(resources.len()).unwrap_or(0).to_le_bytes());
    for r in resources {
        bytes.extend(r.encode());
    }
    with(|k| {
        let va = k.mem.alloc(
            bytes.len(),
            Kind::System("a CM_RESOURCE_LIST"),
            true,
            None,
            Site::default(),
            || 0,
        );
        poke_bytes(va, &bytes);
        va
    })
}

/// Finds resources for a device that says what it needs: those of the first list of which all are
/// free, or one of their alternatives.
fn assign(node: DevNode) -> bool {
    let lists = with(|k| k.pnp.nodes[node.0].spec.requirements.clone());
    if lists.is_empty() {
        return true;
    }
    let (_, list) = filter_requirements(node, &crate::requirements_list(&lists));
    let known: Vec<_> = lists.into_iter().flatten().collect();
    let occupied = with(|k| k.pnp.occupied.clone());
    let number = |at: usize| {
        let bytes = list.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes) as usize
    };
    let mut at = 0x20;
    for _ in 0..number(0x1C) {
        let first = at + 8;
        at = first + 32 * number(at + 4);
        let descriptors = list.get(first..at).unwrap_or_default();
        // Each group: whatever of it is free.
        let mut groups: Vec<Option<Resource>> = Vec::new();
        for descriptor in descriptors.chunks_exact(32) {
            let Some(need) = known.iter().find(|n| n.encode()[1..] == descriptor[1..]) else {
                fail(
                    rules::UNSUPPORTED,
                    "a requirement that the bus did not report".to_owned(),
                );
            };
            let free = Some(need.resource.clone()).filter(|r| !occupied.contains(r));
            match groups.last_mut() {
                Some(last) if descriptor[0] & 8 != 0 => {
                    *last = last.take().or(free);
                }
                _ => groups.push(free),
            }
        }
        if let Some(found) = groups.into_iter().collect::<Option<Vec<_>>>() {
            with(|k| {
                let spec = &mut k.pnp.nodes[node.0].spec;
                spec.raw.clone_from(&found);
                spec.translated = found;
            });
            return true;
        }
    }
    false
}

pub(crate) fn start(node: DevNode) -> NtStatus {
    // What has been pulled out meanwhile is not started.
    if with(|k| k.pnp.nodes[node.0].gone) {
        return NtStatus::NO_SUCH_DEVICE;
    }
    if !assign(node) {
        with(|k| k.note("no free resources".to_owned()));
        give_up(node);
        return NtStatus::CONFLICTING_ADDRESSES;
    }
    let (raw, translated) = with(|k| {
        let s = &k.pnp.nodes[node.0].spec;
        (s.raw.clone(), s.translated.clone())
    });
    let (raw, translated) = (resource_list(&raw), resource_list(&translated));
    let (status, _) = send_pnp(node, 0, |sl| {
        sl.set_arg1(raw);
        sl.set_arg2(translated);
    });
    with(|k| {
        k.mem.free(raw, Site::default());
        k.mem.free(translated, Site::default());
    });
    if !status.is_success() {
        with(|k| {
            k.pnp.nodes[node.0].idle = false;
            k.note(format!("START failed: {status}"));
        });
        give_up(node);
        return status;
    }
    if let Some((rule, what)) = with(|k| power::check_started(k, k.pnp.nodes[node.0].pdo)) {
        fail(rule, what);
    }
    with(|k| {
        let n = &mut k.pnp.nodes[node.0];
        (n.state, n.idle) = (NodeState::Started, false);
    });
    capabilities(node);
    query_state(node);
    enumerate(node);
    status
}

/// A device did not start. One that had been started may be open: `SURPRISE_REMOVAL`, and `REMOVE`
/// with the end of the last handle.
fn give_up(node: DevNode) {
    if with(|k| k.pnp.nodes[node.0].state) == NodeState::Stopped {
        surprise_remove(node);
    } else {
        remove(node);
    }
}

/// `IRP_MN_FILTER_RESOURCE_REQUIREMENTS`: the list goes down in pool that a driver may replace.
pub(crate) fn filter_requirements(node: DevNode, list: &[u8]) -> (NtStatus, Vec<u8>) {
    let va = if list.is_empty() {
        0
    } else {
        crate::nt::ex::pool_for_driver(list, true, *b"PnpR")
    };
    let (status, back) = send(node, PNP, 0x0D, NtStatus::NOT_SUPPORTED, va, |sl| {
        sl.set_arg1(va);
    });
    if back == 0 {
        return (status, Vec::new());
    }
    // ListSize comes first.
    let bytes = crate::mem::peek_bytes(back, peek::<u32>(back) as usize);
    crate::nt::ex::free_pool(back, None);
    (status, bytes)
}

fn capabilities(node: DevNode) {
    let caps = with(|k| k.system_alloc(64, "DEVICE_CAPABILITIES"));
    poke(caps, 64_u16);
    poke(caps + 2, 1_u16);
    poke(caps + 8, u32::MAX);
    poke(caps + 12, u32::MAX);
    let (status, _) = send_pnp(node, 9, |sl| sl.set_arg1(caps));
    let bits: u32 = peek(caps + 4);
    with(|k| {
        if status.is_success() {
            k.pnp.nodes[node.0].capabilities = bits;
        }
        k.mem.free(caps, Site::default());
    });
}

fn query_state(node: DevNode) {
    let (status, state) = send_pnp(node, 0x14, |_| {});
    if status.is_success() && state != 0 {
        with(|k| k.note(format!("PNP_DEVICE_STATE {state:#x}")));
    }
}

/// A string that a driver returned in Information; the PnP manager frees it.
fn take_string(va: Va, list: bool) -> Vec<String> {
    let mut strings = Vec::new();
    let mut at = va;
    loop {
        let text = crate::nt::types::wide_z(at);
        if text.is_empty() {
            break;
        }
        at += 2 * (text.encode_utf16().count() + 1);
        strings.push(text);
        if !list {
            break;
        }
    }
    crate::nt::ex::free_pool(va, None);
    strings
}

fn query_strings(node: DevNode, minor: u8, argument: usize, list: bool) -> Vec<String> {
    let (status, va) = send_pnp(node, minor, |sl| sl.set_arg1(argument));
    if status.is_success() && va != 0 {
        take_string(va, list)
    } else {
        Vec::new()
    }
}

/// `QUERY_ID`. An id that the driver leaves unanswered is an empty list, a failure is one.
fn query_ids(node: DevNode, id: usize, list: bool) -> Result<Vec<String>, NtStatus> {
    let (status, va) = send_pnp(node, 0x13, |sl| sl.set_arg1(id));
    if status.is_success() && va != 0 {
        Ok(take_string(va, list))
    } else if status.is_success() || status == NtStatus::NOT_SUPPORTED {
        Ok(Vec::new())
    } else {
        Err(status)
    }
}

fn check_id(id: &str, what: &str) {
    let bad = id
        .encode_utf16()
        .find(|u| *u <= 0x20 || *u > 0x7F || *u == u16::from(b','));
    if let Some(unit) = bad {
        fail(rules::BAD_ID, format!("{what} {id:?} holds {unit:#x}"));
    }
    if id.len() >= 200 {
        fail(rules::BAD_ID, format!("{what} {id:?} is too long"));
    }
}

/// A container id is a GUID in braces.
fn check_container(id: &str) {
    let good = id.len() == 38
        && id.bytes().enumerate().all(|(i, b)| match i {
            0 => b == b'{',
            37 => b == b'}',
            9 | 14 | 19 | 24 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if !id.is_empty() && !good {
        fail(rules::BAD_ID, format!("container id {id:?} is not a GUID"));
    }
}

const BUS_RELATIONS: usize = 0;

/// `IRP_MN_QUERY_DEVICE_RELATIONS` for the bus, and what follows from the answer.
pub(crate) fn enumerate(node: DevNode) {
    query_bus(node, 0);
}

/// The same after a driver above put the device `other` into the list. Whether it is still there.
pub(crate) fn enumerate_beside(node: DevNode, other: DevNode) -> bool {
    let other = pdo(other);
    // The list's, and the manager's own, which it has of a device that a bus told.
    with(|k| {
        io::reference(k, other);
        io::reference(k, other);
    });
    let list = [1, other].map(usize::to_le_bytes);
    let list = crate::nt::ex::pool_for_driver(list.as_flattened(), true, *b"Rela");
    let stays = query_bus(node, list).contains(&other);
    io::dereference(other);
    stays
}

/// The device that a bus tells for itself: the status, and whether it is that one alone.
pub(crate) fn query_target(node: DevNode) -> (NtStatus, bool) {
    const TARGET_DEVICE_RELATION: usize = 4;
    let (status, list) = send(node, PNP, 7, NtStatus::NOT_SUPPORTED, 0, |sl| {
        sl.set_arg1(TARGET_DEVICE_RELATION);
    });
    if !status.is_success() || list == 0 {
        return (status, false);
    }
    let own = pdo(node);
    let is_own = peek::<u32>(list) == 1 && peek::<Va>(list + 8) == own;
    crate::nt::ex::free_pool(list, None);
    if is_own {
        io::dereference(own);
    }
    (status, is_own)
}

/// The children that a bus tells, beside those in a `list`, or none.
fn query_bus(node: DevNode, list: Va) -> Vec<Va> {
    // A device that has gone is not asked for its children.
    let is_there = with(|k| {
        let n = &k.pnp.nodes[node.0];
        !n.gone && n.state == NodeState::Started
    });
    if !is_there {
        return Vec::new();
    }
    let (status, list) = send(node, PNP, 7, NtStatus::NOT_SUPPORTED, list, |sl| {
        sl.set_arg1(BUS_RELATIONS);
    });
    if !status.is_success() || list == 0 {
        return Vec::new();
    }
    let count = peek::<u32>(list) as usize;
    let found: Vec<Va> = (0..count).map(|i| peek(list + 8 + 8 * i)).collect();
    crate::nt::ex::free_pool(list, None);
    let mut fresh = Vec::new();
    for pdo in &found {
        let known = with(|k| k.pnp.of_pdo(*pdo));
        let broken = with(|k| match k.devices.get(pdo) {
            None => Some((
                rules::RELATION_NOT_PDO,
                format!("{pdo:#x} is not a device object"),
            )),
            Some(d) if d.lower.is_some() => Some((
                rules::RELATION_NOT_PDO,
                format!("{pdo:#x} is attached to another device"),
            )),
            Some(d) if d.refs < 1 + i32::from(known.is_some()) => {
                Some((rules::RELATION_REFERENCE, format!("{pdo:#x}")))
            }
            Some(_) => None,
        });
        if let Some((rule, what)) = broken {
            fail(rule, what);
        }
        if known.is_some() {
            // The manager holds one from the first report.
            io::dereference(*pdo);
        } else {
            let agrees = with(|k| {
                let top = iomgr::top_of(k, k.pnp.nodes[node.0].pdo);
                (Dev(top).flags() ^ Dev(*pdo).flags()) & DO_POWER_PAGABLE == 0
            });
            if !agrees {
                fail(
                    rules::POWER_PAGABLE,
                    format!("child {pdo:#x} and its parent"),
                );
            }
            with(|k| {
                if let Some(d) = k.devices.get_mut(pdo) {
                    d.is_pdo = true;
                }
                Dev(*pdo).set_flags(Dev(*pdo).flags() | DO_BUS_ENUMERATED_DEVICE);
            });
            fresh.push(*pdo);
        }
        with(|k| {
            if let Some(d) = k.devices.get_mut(pdo) {
                d.reported = true;
            }
        });
    }
    // Missing ones first.
    let children = with(|k| k.pnp.nodes[node.0].children.clone());
    for child in children {
        let (pdo, state) = with(|k| {
            let n = &k.pnp.nodes[child.0];
            (n.pdo, n.state)
        });
        if pdo != 0 && !found.contains(&pdo) && state != NodeState::Removed {
            with(|k| {
                k.pnp.nodes[child.0].gone = true;
                if let Some(d) = k.devices.get_mut(&pdo) {
                    d.reported = false;
                }
            });
            surprise_remove(child);
        }
    }
    for pdo in fresh {
        new_child(node, pdo);
    }
    found
}

/// A bit of `DEVICE_CAPABILITIES`.
const RAW_DEVICE_OK: u32 = 1 << 8;

fn new_child(parent: DevNode, pdo: Va) {
    let child = with(|k| {
        let node = new_node(k, pdo, Some(parent), DeviceSpec::default());
        k.pnp.nodes[parent.0].children.push(node);
        node
    });
    let mut ids = [const { Vec::new() }; 5];
    for (place, (id, list)) in
        ids.iter_mut()
            .zip([(0, false), (3, false), (1, true), (2, true), (5, false)])
    {
        match query_ids(child, id, list) {
            Ok(strings) => *place = strings,
            // A device that cannot say who it is is not enumerated.
            Err(status) => {
                with(|k| {
                    k.note(format!(
                        "QUERY_ID {id} failed: {status}; the child is ignored"
                    ));
                });
                return;
            }
        }
    }
    let [
        mut device_id,
        mut instance,
        hardware,
        compatible,
        mut container,
    ] = ids;
    let container_id = container.pop().unwrap_or_default();
    check_container(&container_id);
    let device_id = device_id.pop().unwrap_or_default();
    let instance = instance.pop().unwrap_or_default();
    for (what, list) in [
        ("device id", std::slice::from_ref(&device_id)),
        ("instance id", std::slice::from_ref(&instance)),
        ("hardware id", &hardware[..]),
        ("compatible id", &compatible[..]),
    ] {
        for id in list {
            check_id(id, what);
        }
    }
    let Some((enumerator, device)) = device_id.split_once('\\') else {
        fail(
            rules::BAD_ID,
            format!("device id {device_id:?} has no enumerator"),
        );
    };
    if instance.is_empty() {
        fail(rules::BAD_ID, format!("{device_id} has no instance id"));
    }
    let spec = DeviceSpec {
        enumerator: enumerator.to_owned(),
        device_id: device.to_owned(),
        instance,
        hardware_ids: hardware,
        compatible_ids: compatible,
        ..DeviceSpec::default()
    };
    let path = spec.path();
    let twin = with(|k| {
        k.pnp.nodes.iter().any(|n| {
            n.state != NodeState::Removed
                && n.pdo != pdo
                && n.spec.path().eq_ignore_ascii_case(&path)
        })
    });
    if twin {
        fail(rules::RELATION_DUPLICATE, path);
    }
    with(|k| {
        k.registry
            .create(&format!(r"{ENUM}\{path}\Device Parameters"));
        k.note(format!("child {path}"));
        k.pnp.nodes[child.0].spec = spec;
        k.pnp.nodes[child.0].container_id = container_id;
    });
    capabilities(child);
    let text = |kind| {
        query_strings(child, 0x0C, kind, false)
            .pop()
            .unwrap_or_default()
    };
    let (description, location) = (text(0), text(1));
    with(|k| {
        k.pnp.nodes[child.0].text = description;
        k.pnp.nodes[child.0].location = location;
    });
    // PNP_BUS_INFORMATION, resources, requirements: pool that the manager frees.
    for minor in [0x15, 0x0A, 0x0B] {
        let (status, va) = send_pnp(child, minor, |_| {});
        if status.is_success() && va != 0 {
            crate::nt::ex::free_pool(va, None);
        }
    }
    send_pnp(child, 0x19, |_| {});
    if with(|k| k.pnp.nodes[child.0].capabilities) & RAW_DEVICE_OK != 0 {
        start(child);
    }
}

fn later(name: &str, device: Va, f: fn(DevNode)) {
    with(|k| {
        if let Some(n) = node_of(k, device) {
            k.sched.spawn(
                name,
                ThreadKind::Caller,
                0,
                Box::new(move || exclusive(|| f(DevNode(n)))),
            );
        }
    });
}

pub(crate) fn enumerate_later(device: Va) {
    with(|k| {
        let path = node_of(k, device).map(|n| k.pnp.nodes[n].spec.path());
        k.note(match path {
            Some(path) => format!("bus relations of {path} invalidated"),
            None => {
                format!("bus relations of {device:#x} invalidated: no device of the PnP manager")
            }
        });
    });
    later("PnP", device, |node| {
        if with(|k| k.pnp.nodes[node.0].state == NodeState::Started) {
            enumerate(node);
        }
    });
}

pub(crate) fn query_state_later(device: Va) {
    later("PnP", device, query_state);
}

/// Children that have had an IRP other than the bus driver's queries.
fn children(node: DevNode) -> Vec<DevNode> {
    children_if(node, |n| {
        !matches!(n.state, NodeState::Removed | NodeState::Found)
    })
}

/// Children that a REMOVE must still reach: also those without a driver.
fn present(node: DevNode) -> Vec<DevNode> {
    children_if(node, |n| n.state != NodeState::Removed && !n.idle)
}

fn children_if(node: DevNode, wanted: impl Fn(&Node) -> bool) -> Vec<DevNode> {
    with(|k| {
        let all = k.pnp.nodes[node.0].children.iter().copied();
        all.filter(|c| wanted(&k.pnp.nodes[c.0])).collect()
    })
}

/// `QUERY_REMOVE`: children first. The first refusal ends it, and each device that was asked gets
/// `CANCEL_REMOVE`.
pub(crate) fn query_remove(node: DevNode) -> NtStatus {
    query(node, QUERY_REMOVE, CANCEL_REMOVE)
}

/// `QUERY_STOP`, the same way.
pub(crate) fn query_stop(node: DevNode) -> NtStatus {
    query(node, QUERY_STOP, CANCEL_STOP)
}

const QUERY_REMOVE: u8 = 1;
const CANCEL_REMOVE: u8 = 3;
const QUERY_STOP: u8 = 5;
const CANCEL_STOP: u8 = 6;

fn query(node: DevNode, minor: u8, cancel: u8) -> NtStatus {
    let mut asked = Vec::new();
    for child in children(node) {
        let status = query(child, minor, cancel);
        if !status.is_success() {
            for node in asked {
                simple(node, cancel);
            }
            return status;
        }
        asked.push(child);
    }
    let status = if minor == QUERY_REMOVE && with(|k| open_handles(k, node.0)) > 0 {
        // Windows refuses while handles are open, before asking the driver.
        NtStatus::UNSUCCESSFUL
    } else {
        let (status, _) = send_pnp(node, minor, |_| {});
        if !status.is_success() {
            send_pnp(node, cancel, |_| {});
        }
        status
    };
    if !status.is_success() {
        for node in asked {
            simple(node, cancel);
        }
    }
    status
}

/// A minor that goes to the children first, then to the device.
pub(crate) fn simple(node: DevNode, minor: u8) -> NtStatus {
    for child in children(node) {
        simple(child, minor);
    }
    send_pnp(node, minor, |_| {}).0
}

pub(crate) fn stop(node: DevNode) -> NtStatus {
    if with(|k| k.pnp.nodes[node.0].gone) {
        return NtStatus::NO_SUCH_DEVICE;
    }
    let status = simple(node, 4);
    with(|k| k.pnp.nodes[node.0].state = NodeState::Stopped);
    check_interrupts(node, "IRP_MN_STOP_DEVICE");
    status
}

/// A device without resources has no interrupt connected.
fn check_interrupts(node: DevNode, after: &str) {
    let left = with(|k| crate::nt::interrupt::connected_to(k, k.pnp.nodes[node.0].pdo));
    if let Some(left) = left {
        fail(rules::INTERRUPT_LEFT, format!("{left} after {after}"));
    }
}

pub(crate) fn surprise_remove(node: DevNode) -> NtStatus {
    for child in present(node) {
        with(|k| k.pnp.nodes[child.0].gone = true);
        surprise_remove(child);
    }
    let state = with(|k| k.pnp.nodes[node.0].state);
    let mut status = NtStatus::SUCCESS;
    if matches!(state, NodeState::Started | NodeState::Stopped) {
        (status, _) = send_pnp(node, SURPRISE, |_| {});
        with(|k| k.pnp.nodes[node.0].state = NodeState::SurpriseRemoved);
        check_interrupts(node, "IRP_MN_SURPRISE_REMOVAL");
    }
    remove_when_closed(node);
    status
}

fn remove_when_closed(node: DevNode) {
    let free = with(|k| {
        let n = &k.pnp.nodes[node.0];
        !n.removing
            && n.state != NodeState::Removed
            && open_handles(k, node.0) == 0
            && n.children.iter().all(|c| {
                let c = &k.pnp.nodes[c.0];
                matches!(c.state, NodeState::Removed | NodeState::Found)
            })
    });
    if free {
        remove(node);
    }
}

/// After the last handle of a surprise-removed device is closed, REMOVE comes.
pub(crate) fn after_close(device: Va) {
    after_close_of(with(|k| node_of(k, device)).map(DevNode));
}

fn after_close_of(mut node: Option<DevNode>) {
    while let Some(n) = node {
        let (waits, parent) = with(|k| {
            let node = &k.pnp.nodes[n.0];
            (node.state == NodeState::SurpriseRemoved, node.parent)
        });
        if !waits {
            break;
        }
        if with(|k| k.sched.thread().outer.is_empty()) {
            exclusive(|| remove_when_closed(n));
        } else {
            // A driver's call ends in the close: the PnP manager has a thread of its own.
            with(|k| {
                let body = Box::new(move || {
                    exclusive(|| remove_when_closed(n));
                    after_close_of(parent);
                });
                k.sched.spawn("PnP", ThreadKind::Caller, 0, body);
            });
            return;
        }
        node = parent;
    }
}

pub(crate) fn remove(node: DevNode) -> NtStatus {
    // It went while this was waited for.
    if pdo(node) == 0 {
        return NtStatus::SUCCESS;
    }
    with(|k| k.pnp.nodes[node.0].removing = true);
    for child in present(node) {
        remove(child);
    }
    // The manager's references to the children end: the parent deletes them in its REMOVE.
    let old = with(|k| core::mem::take(&mut k.pnp.nodes[node.0].children));
    for child in old {
        let pdo = with(|k| {
            let n = &mut k.pnp.nodes[child.0];
            n.gone = true;
            n.state = NodeState::Removed;
            core::mem::take(&mut n.pdo)
        });
        if pdo != 0 {
            io::dereference(pdo);
        }
    }
    // The stack as it is now: all but the PDO must be gone afterwards.
    let stack: Vec<Va> = with(|k| {
        let mut list = Vec::new();
        let mut at = k.pnp.nodes[node.0].pdo;
        while let Some(upper) = k.devices.get(&at).and_then(|d| d.upper) {
            list.push(upper);
            at = upper;
        }
        list
    });
    let (status, _) = send_pnp(node, REMOVE, |_| {});
    let kept = with(|k| {
        let n = &mut k.pnp.nodes[node.0];
        n.state = NodeState::Removed;
        n.removing = false;
        stack.iter().find_map(|va| {
            let d = k.devices.get(va).filter(|d| !d.deleted)?;
            Some(format!("{} keeps {:?}", k.driver(d.driver).name, d.name))
        })
    });
    if !status.is_success() {
        fail(
            rules::MUST_NOT_FAIL,
            format!("IRP_MN_REMOVE_DEVICE: {status}"),
        );
    }
    if let Some(what) = kept {
        fail(rules::REMOVE_KEPT, what);
    }
    check_interrupts(node, "IRP_MN_REMOVE_DEVICE");
    let (gone, pdo, own) = with(|k| {
        let n = &k.pnp.nodes[node.0];
        let own = n.parent.is_none();
        (n.gone, n.pdo, own)
    });
    if gone && pdo != 0 {
        with(|k| k.pnp.nodes[node.0].pdo = 0);
        if own {
            with(|k| {
                if let Some(d) = k.devices.get_mut(&pdo) {
                    d.deleted = true;
                }
            });
            io::release_if_gone(pdo);
        } else {
            io::dereference(pdo);
        }
    }
    if !gone {
        with(|k| {
            let n = &mut k.pnp.nodes[node.0];
            (n.state, n.idle) = (NodeState::Found, true);
        });
    }
    status
}

/// The device is off its bus, and the PnP manager does not know yet.
pub(crate) fn disconnect(k: &mut Kernel, node: DevNode) {
    let n = &mut k.pnp.nodes[node.0];
    n.gone = true;
    let pdo = n.pdo;
    if let Some(d) = k.devices.get_mut(&pdo) {
        d.reported = false;
    }
    crate::usb::disconnect(k, pdo);
}

/// The device disappears from its bus.
pub(crate) fn unplug(node: DevNode) -> NtStatus {
    with(|k| disconnect(k, node));
    surprise_remove(node)
}

impl crate::Machine {
    /// A device's bus answers every `IRP_MN_START_DEVICE` with this from now on.
    pub fn fail_start(&self, node: DevNode, status: Option<NtStatus>) {
        self.with(|k| k.pnp.nodes[node.0].bus.fails_start = status);
    }
}

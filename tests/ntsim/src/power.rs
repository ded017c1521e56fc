//! The power manager: system and device power IRPs, and what must hold of them.
//!
//! A system power IRP goes to every device; the policy owner of a stack asks for the device power
//! IRP that fits. The power manager sends a stack one device power IRP at a time, from the caller
//! or from a thread of its own, at `DISPATCH_LEVEL` as often as not unless the stack is pageable.

use std::collections::{BTreeMap, BTreeSet};

use crate::iomgr::{self, POWER};
use crate::mem::{Va, poke};
use crate::nt::types::{DO_POWER_PAGABLE, Dev, Sl};
use crate::nt::{APC, DISPATCH, Entry, PASSIVE, guest, io, ke};
use crate::pnp::{self, DevNode, NodeState};
use crate::rules::{self, Rule};
use crate::sched::{self, ThreadKind};
use crate::state::{Kernel, fail, with};
use crate::{Nanos, NtStatus, PowerUp, Resource};

// `IRP_MN_` codes of `POWER`.
numbers! { pub(crate) u8:
    WAIT_WAKE => 0,
    SET_POWER => 2,
    QUERY_POWER => 3,
}

// `POWER_STATE_TYPE`, and the states.
numbers! { pub(crate) u32:
    /// `SystemPowerState`
    SYSTEM => 0,
    /// `DevicePowerState`
    DEVICE => 1,
    /// `PowerSystemWorking`
    S0 => 1,
    /// `PowerSystemSleeping3`
    S3 => 4,
    /// `PowerSystemShutdown`
    S5 => 6,
    /// `PowerDeviceD0`
    D0 => 1,
    /// `PowerDeviceD2`
    D2 => 3,
    /// `PowerDeviceD3`
    D3 => 4,
}

/// How long a power IRP may take, nanoseconds.
const LIMIT: Nanos = 600_000_000_000;

#[derive(Default)]
pub(crate) struct Po {
    /// PDOs to whose stacks a device power IRP is on its way.
    busy: BTreeSet<Va>,
    /// PDOs to whose stacks a system power IRP is on its way, and what came of it.
    system: BTreeMap<Va, Policy>,
    /// Device power IRPs that drivers asked for.
    asked: usize,
    /// Devices without power.
    off: usize,
    /// There is no memory for what drivers ask for.
    pub(crate) no_memory: bool,
    /// PDOs whose stacks a system power query is on its way to, and whether the policy owner has
    /// asked the device.
    queried: BTreeMap<Va, bool>,
}

/// What the policy owner of a stack did about a system power IRP.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Copy, Debug, Default)]
struct Policy {
    /// It asked for a device power IRP; to be told its end, if the system goes to sleep.
    asked: bool,
    /// That has ended, or could not be made.
    ended: bool,
    /// It failed.
    failed: bool,
    /// There was no memory for it.
    refused: bool,
}

type Broken = Option<(Rule, String)>;

/// How long the machine's own bus takes for a power IRP, and its answer, if a test says so.
pub(crate) fn bus_answer(k: &Kernel, pdo: Va, sl: Sl) -> Option<(Nanos, Option<NtStatus>)> {
    if target(sl) != Some((DEVICE, D0)) {
        return None;
    }
    let up = k.pnp.nodes[pnp::node_of(k, pdo)?].bus.power_up;
    let refused = up.refused.filter(|_| !up.above);
    (up.after > 0 || refused.is_some()).then_some((up.after, refused))
}

/// What a `SET_POWER` in a stack location sets: type and state.
fn target(sl: Sl) -> Option<(u32, u32)> {
    (sl.major() == POWER && sl.minor() == SET_POWER).then(|| (sl.low(1), sl.low(2)))
}

/// Whether a power IRP takes power away.
pub(crate) fn is_down(sl: Sl) -> bool {
    target(sl).is_some_and(|(_, state)| state > D0)
}

/// The device power state that the device's driver last told.
fn told(k: &Kernel, device: Va) -> u32 {
    k.devices.get(&device).map_or(0, |d| d.power)
}

fn name(k: &Kernel, device: Va) -> String {
    let device = k.devices.get(&device);
    let owner = device.map_or("no driver", |d| k.driver(d.driver).name.as_str());
    let name = device.and_then(|d| d.name.as_deref()).unwrap_or("unnamed");
    format!("{name} of {owner}")
}

/// The power of a device that the machine's own bus gives or takes.
pub(crate) fn set_actual(k: &mut Kernel, pdo: Va, state: u32) {
    if let Some(n) = pnp::node_of(k, pdo) {
        let before = core::mem::replace(&mut k.pnp.nodes[n].bus.power, state);
        match (before == D0, state == D0) {
            (true, false) => k.po.off += 1,
            (false, true) => k.po.off -= 1,
            _ => {}
        }
    }
}

/// What a port access breaks: its device has no power.
pub(crate) fn check_port(k: &Kernel, port: u16) -> Broken {
    if k.po.off == 0 {
        return None;
    }
    let has = |r: &Resource| {
        matches!(r, Resource::Port { base, len }
        if (*base..base + u64::from(*len)).contains(&u64::from(port)))
    };
    let node = k
        .pnp
        .nodes
        .iter()
        .find(|n| n.pdo != 0 && n.bus.power != D0 && n.spec.translated.iter().any(has))?;
    let what = format!("port {port:#06x} in D{}", node.bus.power - 1);
    Some((rules::POWER_ACCESS, what))
}

// ---- rules ----

/// When a driver passes a power or PnP IRP on.
pub(crate) fn check_forward(k: &Kernel, device: Va, sl: Sl) -> Broken {
    let told = told(k, device);
    let broken = match target(sl) {
        Some((DEVICE, state)) if state > D0 && told != state => {
            format!(
                "D{} passed down, told was D{}",
                state - 1,
                told.wrapping_sub(1)
            )
        }
        None if sl.major() == iomgr::PNP && sl.minor() == iomgr::REMOVE && told == D0 => {
            let node = pnp::node_of(k, device).map(|n| k.pnp.nodes[n].state);
            if node == Some(NodeState::SurpriseRemoved) {
                return None;
            }
            "IRP_MN_REMOVE_DEVICE passed down in D0".to_owned()
        }
        _ => return None,
    };
    Some((
        rules::POWER_UNTOLD,
        format!("{}: {broken}", name(k, device)),
    ))
}

/// Whether a device that `REMOVE_DEVICE` has been sent to refuses an IRP, as Microsoft's samples do:
/// with the status of the remove lock, which is run down.
fn refused_by_removal(k: &Kernel, device: Va, status: NtStatus) -> bool {
    let leaves = |n: usize| k.pnp.nodes[n].gone || k.pnp.nodes[n].removing;
    status == NtStatus::DELETE_PENDING && pnp::node_of(k, device).is_none_or(leaves)
}

/// When a dispatch routine returned: a function driver pends `SET_POWER`.
pub(crate) fn check_return(k: &Kernel, device: Va, minor: u8, status: NtStatus) -> Broken {
    let attached = k.devices.get(&device).is_some_and(|d| d.lower.is_some());
    let pends = status == NtStatus::PENDING || refused_by_removal(k, device, status);
    (attached && minor == SET_POWER && !pends).then(|| {
        (
            rules::POWER_NOT_PENDED,
            format!("{} returned {status}", name(k, device)),
        )
    })
}

/// When an IRP leaves a device upwards. `lower`: how it left the device below.
pub(crate) fn check_leaving(
    k: &Kernel,
    device: Va,
    sl: Sl,
    status: NtStatus,
    lower: Option<NtStatus>,
) -> Broken {
    let told = told(k, device);
    let who = || name(k, device);
    let child = k
        .devices
        .get(&device)
        .is_some_and(|d| d.is_pdo && d.lower.is_none());
    if sl.major() == iomgr::PNP && sl.minor() == iomgr::REMOVE && child && told == D0 {
        let what = format!("{}: IRP_MN_REMOVE_DEVICE completed in D0", who());
        return Some((rules::POWER_UNTOLD, what));
    }
    let pdo = pnp::bottom_of(k, device);
    let node = pnp::node_of(k, device);
    let started = node.map(|n| k.pnp.nodes[n].state) == Some(NodeState::Started);
    if sl.major() == POWER && sl.minor() == QUERY_POWER && sl.low(1) == SYSTEM {
        let asked = k.po.queried.get(&pdo).copied().unwrap_or(true);
        let agreed = status.is_success() && !child && started;
        return (agreed && !asked).then(|| {
            let what = format!("{}: IRP_MN_QUERY_POWER", who());
            (rules::POWER_POLICY, what)
        });
    }
    let (kind, state) = target(sl)?;
    let policy = k.po.system.get(&pdo).copied();
    let lower_succeeded = lower.is_none_or(NtStatus::is_success);
    if !status.is_success() && lower_succeeded {
        let of_device = kind == SYSTEM && policy.is_some_and(|p| p.failed);
        let removed = refused_by_removal(k, device, status);
        return (!of_device && !removed)
            .then(|| (rules::POWER_FAILED, format!("{}: {status}", who())));
    }
    if !status.is_success() {
        return None;
    }
    if kind == DEVICE {
        // A removal, which implies none, may come between its word and the end of the IRP.
        let leaves = node.is_none_or(|n| k.pnp.nodes[n].gone || k.pnp.nodes[n].removing);
        if leaves && state == D0 {
            return None;
        }
        let what = || format!("{}: D{} reached, not told", who(), state.wrapping_sub(1));
        return (told != state).then(|| (rules::POWER_UNTOLD, what()));
    }
    let policy = policy.filter(|_| !child && started)?;
    let good = policy.asked && (state == S0 || policy.ended);
    if !good {
        return Some((rules::POWER_POLICY, who()));
    }
    let has_children = node.is_some_and(|n| {
        let children = &k.pnp.nodes[n].children;
        children
            .iter()
            .any(|c| k.pnp.nodes[c.0].state == NodeState::Started)
    });
    let early = state == S0 && has_children && !policy.ended && !policy.refused;
    early.then(|| (rules::POWER_CHILDREN, who()))
}

/// After a successful START: each driver of the stack has told D0.
pub(crate) fn check_started(k: &Kernel, pdo: Va) -> Broken {
    let mut at = Some(pdo);
    while let Some(device) = at {
        let d = k.devices.get(&device)?;
        if !k.driver(d.driver).is_internal() && d.power != D0 {
            let what = format!("{}: IRP_MN_START_DEVICE", name(k, device));
            return Some((rules::POWER_UNTOLD, what));
        }
        at = d.upper;
    }
    None
}

/// What a kernel call breaks by its name alone, made while a power IRP is being dispatched.
pub(crate) fn check_call(k: &mut Kernel, function: &'static str) -> Broken {
    let frames = &k.sched.thread().frames;
    let mut power = frames.iter().filter(|f| f.major == POWER).peekable();
    power.peek()?;
    let down = power.any(|f| f.power_down);
    let waits = matches!(
        function,
        "KeWaitForSingleObject"
            | "KeWaitForMultipleObjects"
            | "KeDelayExecutionThread"
            | "ZwWaitForSingleObject"
            | "IoForwardIrpSynchronously"
            | "IoReleaseRemoveLockAndWaitEx"
            | "ExWaitForRundownProtectionRelease"
    );
    let allocates = function.starts_with("ExAllocate") || function.starts_with("IoAllocate");
    if waits {
        Some((rules::POWER_WAIT, function.to_owned()))
    } else if allocates && down {
        Some((rules::POWER_ALLOCATE, function.to_owned()))
    } else {
        None
    }
}

// ---- what drivers call ----

/// `PoSetPowerState`.
pub(crate) fn tell(device: Va, kind: u32, state: u32) -> u32 {
    let broken = with(|k| {
        if k.devices.get(&device).is_none_or(|d| d.deleted) {
            return Some((
                rules::FORWARD_BAD_DEVICE,
                format!("PoSetPowerState({device:#x})"),
            ));
        }
        if kind != DEVICE || !(D0..=4).contains(&state) {
            let what = format!("PoSetPowerState type {kind}, state {state}");
            return Some((rules::POWER_REQUEST, what));
        }
        let irql = k.sched.thread().irql;
        if state != D0 && irql > APC {
            let what = format!("PoSetPowerState(D{}) at IRQL {irql}", state - 1);
            return Some((rules::IRQL_CALL, what));
        }
        let attached = k.devices.get(&device).is_some_and(|d| d.lower.is_some());
        let actual = pnp::node_of(k, device).map(|n| k.pnp.nodes[n].bus.power);
        (attached && state == D0 && actual.is_some_and(|a| a != D0))
            .then(|| (rules::POWER_EARLY, name(k, device)))
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
    with(|k| {
        k.devices
            .get_mut(&device)
            .map_or(0, |d| core::mem::replace(&mut d.power, state))
    })
}

/// A device power IRP that a driver asked for.
#[derive(Clone, Copy)]
struct Asked {
    device: Va,
    pdo: Va,
    minor: u8,
    state: u32,
    routine: Va,
    context: usize,
}

/// `PoRequestPowerIrp`.
pub(crate) fn request(
    device: Va,
    minor: u8,
    state: u32,
    routine: Va,
    context: usize,
    out: Va,
) -> NtStatus {
    if !matches!(minor, WAIT_WAKE | SET_POWER | QUERY_POWER) {
        return NtStatus::INVALID_PARAMETER_2;
    }
    if (minor == WAIT_WAKE) != (out != 0) || minor != WAIT_WAKE && !(D0..=4).contains(&state) {
        fail(
            rules::POWER_REQUEST,
            format!("PoRequestPowerIrp minor {minor}, state {state}, Irp {out:#x}"),
        );
    }
    let refused = with(|k| k.take_injection() || k.po.no_memory);
    let broken = with(|k| {
        let pdo = pnp::bottom_of(k, device);
        crate::usb::idle::asked(k, pdo, minor, state, refused)
    });
    if let Some(what) = broken {
        fail(rules::IDLE_CALLBACK, what);
    }
    if minor == WAIT_WAKE {
        return wait_wake(device, state, (routine, context), out, refused);
    }
    let pdo = with(|k| {
        if k.devices.get(&device).is_none_or(|d| d.deleted) {
            return None;
        }
        let pdo = pnp::bottom_of(k, device);
        if minor == SET_POWER
            && let Some(policy) = k.po.system.get_mut(&pdo)
        {
            policy.asked = state == D0 || routine != 0;
            policy.ended = refused;
            policy.refused = refused;
        }
        if minor == QUERY_POWER
            && let Some(asked) = k.po.queried.get_mut(&pdo)
        {
            *asked = true;
        }
        Some(pdo)
    });
    let Some(pdo) = pdo else {
        fail(
            rules::FORWARD_BAD_DEVICE,
            format!("PoRequestPowerIrp({device:#x})"),
        );
    };
    if refused {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let asked = Asked {
        device,
        pdo,
        minor,
        state,
        routine,
        context,
    };
    let up = with(|k| {
        let n = (minor, state) == (SET_POWER, D0);
        let n = n.then(|| pnp::node_of(k, pdo)).flatten();
        n.map(|n| k.pnp.nodes[n].bus.power_up).unwrap_or_default()
    });
    // Either from the caller, who may then have the answer before this returns, or later.
    let at_once = with(|k| {
        // The power manager's own reference.
        if let Some(d) = k.devices.get_mut(&pdo) {
            d.refs += 1;
        }
        k.po.asked += 1;
        let level = k.sched.thread().irql;
        let pageable = Dev(pdo).flags() & DO_POWER_PAGABLE != 0;
        let free = !k.po.busy.contains(&pdo) && (level == PASSIVE || !pageable);
        let at_once = free && (up.inside || k.rng.below(2) == 0);
        if at_once {
            k.po.busy.insert(pdo);
        }
        at_once
    });
    go(asked, up, at_once);
    NtStatus::PENDING
}

/// `IRP_MN_WAIT_WAKE`: it goes down from the driver's call, and may take for ever.
fn wait_wake(
    device: Va,
    state: u32,
    (routine, context): (Va, usize),
    out: Va,
    refused: bool,
) -> NtStatus {
    let (level, handles) = with(|k| {
        let t = k.sched.thread();
        (t.irql, t.frames.iter().any(|f| f.major == POWER))
    });
    let what = match () {
        () if level > PASSIVE => Some(format!("at IRQL {level}")),
        () if handles => Some("while a power IRP is being dispatched".to_owned()),
        () if routine == 0 => Some("no callback routine".to_owned()),
        () if !(S0..=S5).contains(&state) => Some(format!("system power state {state}")),
        () => None,
    };
    if let Some(what) = what {
        fail(rules::WAKE_REQUEST, what);
    }
    if refused {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    let pdo = with(|k| {
        let pdo = pnp::bottom_of(k, device);
        if let Some(d) = k.devices.get_mut(&pdo) {
            d.refs += 1;
        }
        pdo
    });
    let (irp, top) = iomgr::prepare(pdo, |irp, sl| {
        irp.set_status(NtStatus::NOT_SUPPORTED);
        sl.set_major(POWER);
        sl.set_minor(WAIT_WAKE);
        sl.set_arg1(state as usize);
    });
    poke(out, irp.0);
    iomgr::call_driver(top, irp.0);
    spawn(move || {
        let (status, _) = iomgr::wait_done(irp.0);
        call_routine(device, WAIT_WAKE, state, (routine, context), status);
        with(|k| {
            if let Some(d) = k.devices.get_mut(&pdo) {
                d.refs -= 1;
            }
        });
        io::release_if_gone(pdo);
        iomgr::finished(irp.0);
    });
    NtStatus::PENDING
}

/// Calls a `PowerCompletion` routine.
fn call_routine(
    device: Va,
    minor: u8,
    state: u32,
    (routine, context): (Va, usize),
    status: NtStatus,
) {
    let block = with(|k| k.system_alloc(16, "an IO_STATUS_BLOCK"));
    poke(block, status.0);
    let before = ke::current_irql();
    let raised = with(|k| k.rng.below(2) == 0);
    if raised && before < DISPATCH {
        ke::set_irql(DISPATCH);
    }
    let entry = Entry::now();
    let arguments = [device, usize::from(minor), state as usize, context, block];
    guest(routine, &arguments);
    entry.check("power completion routine");
    ke::set_irql(before);
    with(|k| k.mem.free(block, crate::state::Site::default()));
}

/// Sends what a driver asked for, from its own call (`at_once`) or later.
fn go(asked: Asked, up: PowerUp, at_once: bool) {
    // A driver above refuses it: the driver that asked never sees it.
    let above = up.refused.filter(|_| up.above);
    if at_once {
        if let Some(status) = above {
            if up.inside {
                ended(asked, status);
            } else {
                spawn(move || {
                    sleep_for(up.after);
                    ended(asked, status);
                });
            }
            return;
        }
        let irp = start(asked);
        // Other processors go on meanwhile.
        if up.inside || with(|k| k.io.is_done(irp)) {
            end(asked, irp);
        } else {
            spawn(move || end(asked, irp));
        }
    } else {
        spawn(move || {
            take(asked.pdo);
            if let Some(status) = above {
                sleep_for(up.after);
                return ended(asked, status);
            }
            let level = level(asked.pdo);
            ke::set_irql(level);
            let irp = start(asked);
            ke::set_irql(PASSIVE);
            end(asked, irp);
        });
    }
}

fn sleep_for(time: Nanos) {
    let until = with(|k| k.now + time);
    sched::wait("a driver above", Some(until), |_| false);
}

fn spawn(body: impl FnOnce() + 'static) {
    with(|k| {
        k.sched.spawn(
            "the power manager",
            ThreadKind::Caller,
            PASSIVE,
            Box::new(body),
        )
    });
}

/// At which level a stack gets its next power IRP.
fn level(pdo: Va) -> u8 {
    let pageable = Dev(pdo).flags() & DO_POWER_PAGABLE != 0;
    if !pageable && with(|k| k.rng.below(2) == 0) {
        DISPATCH
    } else {
        PASSIVE
    }
}

/// Waits for a stack's turn with a device power IRP.
fn take(pdo: Va) {
    let free = move |k: &Kernel| !k.po.busy.contains(&pdo);
    while !with(|k| free(k)) {
        sched::wait("a stack's device power IRP", None, free);
    }
    with(|k| k.po.busy.insert(pdo));
}

fn fill(sl: Sl, minor: u8, kind: u32, state: u32) {
    sl.set_major(POWER);
    sl.set_minor(minor);
    poke(sl.0 + 8 + 8, kind);
    poke(sl.0 + 8 + 16, state);
}

/// Sends the IRP.
fn start(asked: Asked) -> Va {
    let (irp, top) = iomgr::prepare(asked.pdo, |irp, sl| {
        irp.set_status(NtStatus::NOT_SUPPORTED);
        fill(sl, asked.minor, DEVICE, asked.state);
    });
    iomgr::call_driver(top, irp.0);
    irp.0
}

/// Waits for its end, and tells the driver that asked.
fn end(asked: Asked, irp: Va) {
    let status = wait(irp);
    ended(asked, status);
}

/// Tells the driver that asked how it ended.
fn ended(asked: Asked, status: NtStatus) {
    with(|k| {
        k.po.busy.remove(&asked.pdo);
        if asked.minor == SET_POWER
            && let Some(policy) = k.po.system.get_mut(&asked.pdo)
        {
            policy.ended = true;
            policy.failed = !status.is_success();
        }
    });
    if asked.routine != 0 {
        let routine = (asked.routine, asked.context);
        call_routine(asked.device, asked.minor, asked.state, routine, status);
    }
    with(|k| {
        if let Some(d) = k.devices.get_mut(&asked.pdo) {
            d.refs -= 1;
        }
        k.po.asked -= 1;
    });
    io::release_if_gone(asked.pdo);
}

/// The end of a power IRP, which must come in time.
fn wait(irp: Va) -> NtStatus {
    let until = with(|k| k.now + LIMIT);
    if !with(|k| k.io.is_done(irp))
        && !sched::wait("a power IRP", Some(until), move |k| k.io.is_done(irp))
    {
        fail(rules::POWER_TIMEOUT, "not completed in ten minutes");
    }
    iomgr::wait_done(irp).0
}

// ---- what the machine's user does ----

/// Sends any power IRP to a stack.
pub(crate) fn send(node: DevNode, minor: u8, arguments: [usize; 4]) -> (NtStatus, usize) {
    let pdo = with(|k| k.pnp.nodes[node.0].pdo);
    // It went while this was waited for.
    if pdo == 0 {
        return (NtStatus::NO_SUCH_DEVICE, 0);
    }
    let sets = minor == SET_POWER;
    let (of_device, of_system) = (sets && arguments[1] == 1, sets && arguments[1] == 0);
    let query = minor == QUERY_POWER && arguments[1] == 0;
    if of_device {
        take(pdo);
    }
    if of_system {
        with(|k| k.po.system.insert(pdo, Policy::default()));
    }
    if query {
        with(|k| k.po.queried.insert(pdo, false));
    }
    let (irp, top) = iomgr::prepare(pdo, |irp, sl| {
        irp.set_status(NtStatus::NOT_SUPPORTED);
        sl.set_arg1(arguments[0]);
        sl.set_arg2(arguments[1]);
        sl.set_arg3(arguments[2]);
        sl.set_arg4(arguments[3]);
        sl.set_major(POWER);
        sl.set_minor(minor);
    });
    ke::set_irql(level(pdo));
    iomgr::call_driver(top, irp.0);
    ke::set_irql(PASSIVE);
    wait(irp.0);
    let (status, information) = iomgr::finished(irp.0);
    with(|k| {
        if of_device {
            k.po.busy.remove(&pdo);
        }
        if of_system {
            k.po.system.remove(&pdo);
        }
        if query {
            k.po.queried.remove(&pdo);
        }
    });
    (status, information)
}

fn set_system(node: DevNode, minor: u8, state: u32) -> NtStatus {
    send(node, minor, [0, SYSTEM as usize, state as usize, 0]).0
}

/// The started devices, each before its children.
fn devices() -> Vec<DevNode> {
    with(|k| {
        let mut list: Vec<_> = k.pnp.nodes.iter().enumerate().collect();
        list.retain(|(_, n)| {
            n.pdo != 0 && matches!(n.state, NodeState::Started | NodeState::Stopped)
        });
        // A child is found after its parent.
        list.into_iter().map(|(n, _)| DevNode(n)).collect()
    })
}

/// The system goes to sleep in `state`: if devices are asked (`asks`), unless one does not want to.
pub(crate) fn sleep(state: u32, asks: bool) -> NtStatus {
    let devices = devices();
    if asks {
        for (asked, node) in devices.iter().rev().enumerate() {
            let status = set_system(*node, QUERY_POWER, state);
            if !status.is_success() {
                for node in devices.iter().rev().take(asked + 1) {
                    set_system(*node, SET_POWER, S0);
                }
                return status;
            }
        }
    }
    with(|k| k.note(format!("the system goes to S{}", state - 1)));
    for node in devices.iter().rev() {
        set_system(*node, SET_POWER, state);
    }
    NtStatus::SUCCESS
}

/// The system works again. Devices may still be on their way to full power.
pub(crate) fn wake() {
    with(|k| k.note("the system goes to S0"));
    for node in devices() {
        set_system(node, SET_POWER, S0);
    }
}

/// Whether no device power IRP is on its way.
pub(crate) fn is_settled(k: &Kernel) -> bool {
    k.po.busy.is_empty() && k.po.asked == 0
}

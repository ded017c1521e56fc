//! The I/O manager: IRPs on their way through driver stacks, and the user's side of them.

use std::collections::BTreeMap;

use crate::mem::{Kind, State, Va, peek, poke, poke_bytes};
use crate::nt::types::{
    DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO, Dev, Drv, FILE_DEVICE, FILE_FLAGS,
    FILE_NAME, FILE_SIZE, Header, IRP_SIZE, Irp, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, SL_SIZE, Sl,
};
use crate::nt::{DISPATCH, Entry, PASSIVE, guest, ke, mm};
use crate::rules;
use crate::sched;
use crate::state::{DriverId, Kernel, Object, Site, fail, status_of, with};
use crate::trace::EventKind;
use crate::user::Lent;
use crate::{Caller, Nanos, NtStatus};

pub(crate) const CREATE: u8 = 0;
pub(crate) const CLOSE: u8 = 2;
pub(crate) const READ: u8 = 3;
const QUERY_INFORMATION: u8 = 5;
pub(crate) const WRITE: u8 = 4;
pub(crate) const DEVICE_CONTROL: u8 = 0x0E;
pub(crate) const INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
pub(crate) const CLEANUP: u8 = 0x12;
pub(crate) const POWER: u8 = 0x16;
pub(crate) const SYSTEM_CONTROL: u8 = 0x17;
pub(crate) const PNP: u8 = 0x1B;

const QUERY_CAPABILITIES: u8 = 9;
/// `sizeof(DEVICE_CAPABILITIES)`
const CAPABILITIES_SIZE: u16 = 64;
const QUERY_REMOVE: u8 = 1;
pub(crate) const REMOVE: u8 = 2;
const CANCEL_REMOVE: u8 = 3;
pub(crate) const STOP: u8 = 4;
const QUERY_STOP: u8 = 5;
const CANCEL_STOP: u8 = 6;
pub(crate) const SURPRISE: u8 = 0x17;

/// What fills the caller's output buffer before a request, so that a test sees what was copied.
pub const CANARY: u8 = 0xCA;

/// A dispatch routine on a thread's stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub major: u8,
    pub minor: u8,
    pub driver: DriverId,
    pub user: bool,
    /// A power IRP that takes power away.
    pub power_down: bool,
}

/// One device's turn with an IRP.
#[derive(Clone, Debug)]
struct Frame {
    device: Va,
    driver: DriverId,
    internal: bool,
    location: i8,
    major: u8,
    minor: u8,
    entry: (NtStatus, usize),
    routine: (u8, Va, usize),
    forwarded: bool,
    lower: Option<NtStatus>,
    /// Status and pending bit when the IRP left this device upwards.
    left: Option<(NtStatus, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// Sent by the machine for a caller.
    Manager,
    /// `IoAllocateIrp`.
    Allocated,
    /// `IoBuildDeviceIoControlRequest`. Null, if the buffer cannot be locked.
    Threaded,
}

#[derive(Clone, Debug)]
struct SystemBuffer {
    va: Va,
    input: usize,
    /// What the bytes after the input were filled with.
    fill: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Record {
    serial: u64,
    maker: Maker,
    owner: Option<DriverId>,
    frames: Vec<Frame>,
    buffer: Option<SystemBuffer>,
    output: usize,
    bounded: bool,
    file: Va,
    is32: bool,
    /// The MDL that the I/O manager made for it.
    mdl: Va,
    done: Option<(NtStatus, usize)>,
    data: Vec<u8>,
    cancelled: Option<Nanos>,
    /// The thread of a threaded IRP, and its stack.
    issuer: (sched::Tid, (Va, Va)),
    /// Dispatch routines that have it on their stack.
    running: u32,
    /// Its sender has the result.
    collected: bool,
}

#[derive(Clone, Debug)]
struct File {
    device: Va,
    caller: Caller,
    /// Open handles to it.
    handles: u32,
    /// CLEANUP was sent.
    cleaned: bool,
    /// Who uses it runs at `DISPATCH_LEVEL`.
    at_dispatch: bool,
    /// What its handle may: `FILE_READ_ACCESS`, `FILE_WRITE_ACCESS`.
    access: u32,
    /// The driver that got it from `IoGetDeviceObjectPointer`, and where.
    owner: Option<(DriverId, Site)>,
}

impl Record {
    /// Whether a driver has it now.
    fn is_out(&self) -> bool {
        self.done.is_none() && (self.maker != Maker::Allocated || self.is_below())
    }

    /// Whether a driver that got it with `IoCallDriver` has not completed it.
    fn is_below(&self) -> bool {
        self.frames.iter().any(|f| f.left.is_none())
    }
}

#[derive(Default)]
pub(crate) struct Io {
    irps: BTreeMap<Va, Record>,
    files: BTreeMap<Va, File>,
    serial: u64,
    processes: (Va, Va, Va),
    pub default_dispatch: Va,
}

impl Io {
    pub(crate) fn set_processes(&mut self, system: Va, user64: Va, user32: Va) {
        self.processes = (system, user64, user32);
    }

    pub(crate) fn current_process(&self) -> Va {
        self.processes.0
    }

    /// Drops the record of an IRP that nobody will ask for again.
    fn forget(&mut self, irp: Va) {
        if self
            .irps
            .get(&irp)
            .is_some_and(|r| r.done.is_some() && r.collected && r.running == 0)
        {
            self.irps.remove(&irp);
        }
    }

    pub(crate) fn is_done(&self, irp: Va) -> bool {
        self.irps.get(&irp).is_none_or(|r| r.done.is_some())
    }

    pub(crate) fn is_32bit(&self, irp: Va) -> bool {
        self.irps.get(&irp).is_some_and(|r| r.is32)
    }

    /// IRPs of a driver's own making that still exist.
    pub(crate) fn owned_by(&self, driver: DriverId) -> usize {
        self.irps
            .values()
            .filter(|r| r.owner == Some(driver) && r.done.is_none())
            .count()
    }

    /// File objects that a driver has a pointer to and never gave back: the device and the place.
    pub(crate) fn files_of(&self, driver: DriverId) -> impl Iterator<Item = (Va, Site)> {
        self.files.values().filter_map(move |f| {
            let (owner, site) = f.owner?;
            (owner == driver).then_some((f.device, site))
        })
    }

    pub(crate) fn open_files_on(&self, device: Va) -> usize {
        self.files.values().filter(|f| f.device == device).count()
    }
}

/// Whether `IRP_MN_REMOVE_DEVICE` is being dispatched on this thread.
pub(crate) fn in_remove_device(k: &mut Kernel) -> bool {
    k.sched
        .thread()
        .frames
        .iter()
        .any(|f| f.major == PNP && f.minor == REMOVE)
}

/// Whether this thread runs a dispatch routine for a user-mode request.
pub(crate) fn in_user_request(k: &mut Kernel) -> bool {
    k.sched.thread().frames.last().is_some_and(|f| f.user)
}

/// Whether `IRP_MN_SURPRISE_REMOVAL` is being dispatched to `device` on this thread.
pub(crate) fn in_surprise(k: &mut Kernel, driver: DriverId) -> bool {
    k.sched
        .thread()
        .frames
        .last()
        .is_some_and(|f| f.major == PNP && f.minor == SURPRISE && f.driver == driver)
}

/// A live IRP inside memory that is about to be freed.
pub(crate) fn busy_in(k: &Kernel, start: Va, len: usize) -> Option<String> {
    k.io.irps
        .range(start..start + len)
        .find(|(_, r)| r.done.is_none())
        .map(|_| "an IRP [C4/105]".to_owned())
}

/// Makes an IRP with room for `stack_size` devices.
fn new_irp(maker: Maker, stack_size: i8) -> Irp {
    with(|k| {
        let owner = if maker == Maker::Manager {
            None
        } else {
            k.caller()
        };
        let site = k.site();
        let tid = k.sched.current;
        let issuer = (tid, k.sched.thread().stack());
        let locations = usize::try_from(stack_size).unwrap_or(0);
        let size = IRP_SIZE + locations * SL_SIZE;
        let va = k.mem.alloc(size, Kind::Irp, false, owner, site, || 0);
        k.io.serial += 1;
        let serial = k.io.serial;
        Irp(va).initialise(stack_size);
        k.io.irps.insert(
            va,
            Record {
                serial,
                maker,
                owner,
                frames: Vec::new(),
                buffer: None,
                output: 0,
                bounded: false,
                file: 0,
                is32: false,
                mdl: 0,
                done: None,
                data: Vec::new(),
                cancelled: None,
                issuer,
                running: 0,
                collected: false,
            },
        );
        Irp(va)
    })
}

pub(crate) fn allocate(stack_size: i8) -> Irp {
    new_irp(Maker::Allocated, stack_size)
}

/// `IoFreeIrp`.
pub(crate) fn free(irp: Va) {
    enum Answer {
        Good,
        Bad(String),
    }
    let answer = with(|k| {
        let Some(r) = k.io.irps.get(&irp) else {
            return Answer::Bad(format!("{irp:#x} is not an IRP [C9/01]"));
        };
        match r.maker {
            Maker::Allocated if r.done.is_some() => Answer::Bad("IRP freed twice".to_owned()),
            Maker::Allocated if r.is_below() => {
                Answer::Bad("IRP freed while a lower driver has it".to_owned())
            }
            Maker::Allocated => {
                if let Some(r) = k.io.irps.get_mut(&irp) {
                    r.done = Some((NtStatus::SUCCESS, 0));
                    r.collected = true;
                }
                let site = k.site();
                k.mem.free(irp, site);
                k.io.forget(irp);
                Answer::Good
            }
            Maker::Threaded => Answer::Bad("a threaded IRP belongs to the I/O manager".to_owned()),
            Maker::Manager => Answer::Bad("the IRP was not made by a driver".to_owned()),
        }
    });
    if let Answer::Bad(what) = answer {
        fail(rules::OWN_IRP, what);
    }
}

/// `IoReuseIrp`.
pub(crate) fn reuse(irp: Va, status: NtStatus) {
    let good = with(|k| {
        let r = k.io.irps.get_mut(&irp)?;
        let good = r.maker == Maker::Allocated && r.done.is_none() && !r.is_below();
        r.frames.clear();
        r.cancelled = None;
        good.then_some(())
    });
    if good.is_none() {
        fail(
            rules::OWN_IRP,
            "IoReuseIrp on an IRP in use or not from IoAllocateIrp [C9/310]",
        );
    }
    let irp = Irp(irp);
    irp.initialise(irp.stack_count());
    irp.set_status(status);
}

fn known_fdo_minor(minor: u8) -> bool {
    matches!(minor, 0x00..=0x09 | 0x0D | 0x14 | 0x16 | SURPRISE)
}

fn handled_down(minor: u8) -> bool {
    matches!(minor, QUERY_REMOVE | REMOVE | STOP | QUERY_STOP | SURPRISE)
}

fn must_succeed(minor: u8) -> bool {
    matches!(
        minor,
        REMOVE | CANCEL_REMOVE | STOP | CANCEL_STOP | SURPRISE
    )
}

fn minor_name(major: u8, minor: u8) -> String {
    if major == PNP {
        format!("IRP_MN_{}", crate::trace::pnp_minor_name(minor))
    } else {
        format!("{} minor {minor:#x}", crate::trace::major_name(major))
    }
}

type Broken = Option<(rules::Rule, String)>;

/// What must hold when a driver passes on an IRP that was given to it.
fn check_forward(k: &Kernel, f: &Frame, irp: Irp, target: Va) -> Broken {
    let what = minor_name(f.major, f.minor);
    if irp.cancel_routine() != 0 {
        return Some((rules::FORWARD_CANCEL, what));
    }
    let lower = k.devices.get(&f.device).and_then(|d| d.lower);
    if matches!(f.major, PNP | POWER | SYSTEM_CONTROL) && lower != Some(target) {
        return Some((
            rules::FORWARD_TARGET,
            format!("{what} sent to {target:#x}, next lower is {lower:#x?}"),
        ));
    }
    let next = irp.location() - 1;
    if next < 1 {
        return Some((rules::FORWARD_NO_LOCATION, what));
    }
    let own = irp.sl_at(f.location);
    if next == f.location {
        let now = (own.control() & 0xE0, own.routine(), own.context());
        let before = (f.routine.0 & 0xE0, f.routine.1, f.routine.2);
        if now != before {
            return Some((rules::FORWARD_SKIP_ROUTINE, what));
        }
    } else if next == f.location - 1 {
        let sl = irp.sl_at(next);
        if matches!(f.major, PNP | POWER | SYSTEM_CONTROL)
            && (sl.major() != f.major || sl.minor() != f.minor)
        {
            return Some((rules::FORWARD_LOCATION, what));
        }
        if sl.control() & 0xE0 != 0
            && f.routine.1 != 0
            && sl.routine() == f.routine.1
            && sl.context() == f.routine.2
        {
            return Some((rules::FORWARD_ROUTINE_COPIED, what));
        }
    } else {
        return Some((rules::FORWARD_LOCATION, what));
    }
    if let Some(broken) = crate::power::check_forward(k, f.device, own) {
        return Some(broken);
    }
    let status = irp.status();
    let (was, information) = f.entry;
    let own_error = status.is_error() && status != NtStatus::NOT_SUPPORTED && status != was;
    match f.major {
        PNP => {
            if !known_fdo_minor(f.minor) && (status != was || irp.information() != information) {
                return Some((
                    rules::PNP_TOUCHED,
                    format!("{what}: {was} became {status} before forwarding"),
                ));
            }
            if own_error {
                return Some((rules::PNP_FAILED_FORWARDED, format!("{what}: {status}")));
            }
            if status == NtStatus::NOT_SUPPORTED && was != NtStatus::NOT_SUPPORTED {
                return Some((rules::NOT_SUPPORTED_SET, what));
            }
            if handled_down(f.minor) && status == NtStatus::NOT_SUPPORTED {
                return Some((rules::PNP_UNHANDLED, what));
            }
        }
        POWER => {
            let unknown = !matches!(f.minor, 0..=3);
            if own_error || unknown && (status != was || irp.information() != information) {
                return Some((rules::POWER_FORWARDING, format!("{what}: {status}")));
            }
        }
        SYSTEM_CONTROL if status != was => {
            return Some((rules::WMI_FORWARDING, format!("{what}: {status}")));
        }
        _ => {}
    }
    None
}

/// What must hold when a driver itself completes a PnP, power or WMI IRP.
fn check_completion(k: &Kernel, f: &Frame, irp: Irp) -> Broken {
    let what = minor_name(f.major, f.minor);
    let status = irp.status();
    let (was, _) = f.entry;
    let is_pdo = k
        .devices
        .get(&f.device)
        .is_some_and(|d| d.lower.is_none() && d.is_pdo);
    match f.major {
        PNP => {
            if must_succeed(f.minor) && status.is_error() && status != was {
                return Some((rules::MUST_NOT_FAIL, format!("{what}: {status}")));
            }
            if f.forwarded {
                return None;
            }
            if is_pdo {
                if status == NtStatus::NOT_SUPPORTED && was != NtStatus::NOT_SUPPORTED {
                    return Some((rules::NOT_SUPPORTED_SET, what));
                }
                if matches!(f.minor, 0..=6 | SURPRISE) && status == NtStatus::NOT_SUPPORTED {
                    return Some((rules::PDO_UNHANDLED, what));
                }
                let known = matches!(f.minor, 0x00..=0x16 | SURPRISE | 0x19);
                if !known && status != was {
                    return Some((rules::PDO_TOUCHED, format!("{what}: {was} became {status}")));
                }
            } else if status.is_success() || status == NtStatus::NOT_SUPPORTED || status == was {
                return Some((rules::PNP_NOT_FORWARDED, format!("{what}: {status}")));
            }
        }
        POWER if !f.forwarded && !is_pdo && (status.is_success() || status == was) => {
            return Some((
                rules::POWER_FORWARDING,
                format!("{what} completed with {status} instead of passed down"),
            ));
        }
        POWER if is_pdo && !matches!(f.minor, 0..=3) && status != was => {
            return Some((
                rules::POWER_FORWARDING,
                format!("{what}: {was} became {status}"),
            ));
        }
        SYSTEM_CONTROL if !f.forwarded => {
            let provider = irp.sl().arg1();
            if provider != f.device && (!is_pdo || status != was) {
                return Some((rules::WMI_FORWARDING, what));
            }
        }
        _ => {}
    }
    None
}

fn device_of(k: &Kernel, device: Va) -> Option<(DriverId, Va, bool)> {
    let d = k.devices.get(&device)?;
    k.mem.live(device)?;
    let driver = k.driver(d.driver);
    Some((d.driver, driver.object, driver.is_internal()))
}

/// Where the completion of a threaded IRP could not run, or nobody would see it.
fn check_threaded(k: &Kernel, irp: Irp) -> Broken {
    let t = k.sched.threads.get(&k.sched.current)?;
    if !t.takes_apcs() {
        let guarded = if t.guarded > 0 {
            " inside a fast mutex"
        } else {
            ""
        };
        let what = format!("IoCallDriver at IRQL {}{guarded}", t.irql);
        return Some((rules::THREADED_APC, what));
    }
    let event = irp.user_event();
    if event != 0 && ke::alive(k, event) && Header(event).signal() != 0 {
        return Some((rules::THREADED_SIGNALLED, format!("event {event:#x}")));
    }
    None
}

/// What must hold of a PnP IRP that a driver made.
fn check_own(sl: Sl) -> Broken {
    if sl.major() != PNP {
        return None;
    }
    let what = minor_name(PNP, sl.minor());
    if matches!(sl.minor(), 0..=QUERY_STOP | CANCEL_STOP | SURPRISE) {
        return Some((rules::OWN_RESERVED, what));
    }
    if sl.minor() == QUERY_CAPABILITIES {
        let capabilities = sl.arg1();
        let (size, version): (u16, u16) = (peek(capabilities), peek(capabilities + 2));
        // Address and UINumber follow the flags.
        let numbers: [u32; 2] = peek(capabilities + 8);
        if (size, version, numbers) != (CAPABILITIES_SIZE, 1, [u32::MAX; 2]) {
            let found =
                format!("Size {size}, Version {version}, Address and UINumber {numbers:x?}");
            return Some((rules::OWN_CAPABILITIES, found));
        }
    }
    None
}

/// What must hold of any request, and of its completion routine, when it is sent.
fn check_next(k: &Kernel, next: Sl) -> Broken {
    let irql = k.sched.threads.get(&k.sched.current).map_or(0, |t| t.irql);
    let may_rise = matches!(
        next.major(),
        READ | WRITE | DEVICE_CONTROL | INTERNAL_DEVICE_CONTROL | POWER
    );
    if irql >= DISPATCH && !may_rise {
        let what = format!("{} at IRQL {irql}", minor_name(next.major(), next.minor()));
        return Some((rules::FORWARD_IRQL, what));
    }
    let routine = next.routine();
    (next.control() & 0xE0 != 0 && k.mem.in_section(routine)).then(|| {
        let what = format!("routine {routine:#x}");
        (rules::COMPLETION_PAGED, what)
    })
}

/// `IoCallDriver`.
#[allow(clippy::too_many_lines, reason = "one transaction, told in order")]
pub(crate) fn call_driver(device: Va, irp: Va) -> NtStatus {
    let irp = Irp(irp);
    if with(|k| k.io.irps.get(&irp.0).is_some_and(|r| r.done.is_none())) && irp.location() <= 1 {
        fail(rules::FORWARD_NO_LOCATION, "IoCallDriver");
    }
    let (from, broken) = with(|k| {
        let Some(r) = k.io.irps.get(&irp.0) else {
            return (None, Some((rules::NOT_AN_IRP, format!("{:#x}", irp.0))));
        };
        if r.done.is_some() {
            return (
                None,
                Some((
                    rules::DOUBLE_COMPLETION,
                    "IoCallDriver with a completed IRP".to_owned(),
                )),
            );
        }
        if device_of(k, device).is_none() {
            return (
                None,
                Some((rules::FORWARD_BAD_DEVICE, format!("{device:#x}"))),
            );
        }
        let from = r.frames.iter().rposition(|f| f.left.is_none());
        let frame = from.map(|i| r.frames[i].clone());
        let broken = match frame {
            Some(f) if !f.internal => check_forward(k, &f, irp, device),
            None if matches!(r.maker, Maker::Allocated | Maker::Threaded) => {
                let sl = Sl(irp.sl_pointer() - SL_SIZE);
                let no_status = irp.status() != NtStatus::NOT_SUPPORTED;
                if matches!(sl.major(), PNP | POWER | SYSTEM_CONTROL) && no_status {
                    Some((
                        rules::OWN_PNP_STATUS,
                        crate::trace::major_name(sl.major()).to_owned(),
                    ))
                } else if r.maker == Maker::Allocated && sl.routine() == 0 {
                    Some((
                        rules::OWN_IRP,
                        "sent without a completion routine".to_owned(),
                    ))
                } else if r.maker == Maker::Threaded {
                    check_threaded(k, irp)
                } else {
                    check_own(sl)
                }
            }
            _ => None,
        };
        let spinning = k.sched.thread().locks.iter().any(|l| l.family.spins());
        let broken =
            broken.or_else(|| spinning.then(|| (rules::LOCK_HELD_CALL, "IoCallDriver".to_owned())));
        let broken = broken.or_else(|| check_next(k, irp.sl_at(irp.location() - 1)));
        (from, broken)
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
    irp.move_location(-1);
    let sl = irp.sl();
    sl.set_device(device);
    let (major, minor) = (sl.major(), sl.minor());
    let code = if matches!(major, DEVICE_CONTROL | INTERNAL_DEVICE_CONTROL) {
        sl.low(2)
    } else {
        0
    };
    let Some((index, routine, internal)) = with(|k| {
        let (driver, object, internal) = device_of(k, device)?;
        let name = k.driver(driver).name.clone();
        let user = irp.requestor_mode() != 0;
        let r = k.io.irps.get_mut(&irp.0)?;
        if let Some(i) = from {
            r.frames[i].forwarded = true;
        }
        r.frames.push(Frame {
            device,
            driver,
            internal,
            location: irp.location(),
            major,
            minor,
            entry: (irp.status(), irp.information()),
            routine: (sl.control(), sl.routine(), sl.context()),
            forwarded: false,
            lower: None,
            left: None,
        });
        // An IRP that a driver filled by hand: METHOD_BUFFERED gives Information its bound.
        if r.maker == Maker::Allocated && from.is_none() {
            r.bounded = matches!(major, DEVICE_CONTROL | INTERNAL_DEVICE_CONTROL)
                && code.trailing_zeros() >= 2;
            r.output = sl.low(0) as usize;
        }
        r.running += 1;
        let (index, serial) = (r.frames.len() - 1, r.serial);
        if !internal {
            k.event(EventKind::Dispatch {
                irp: serial,
                function: (major, minor),
                code,
                driver: name,
            });
        }
        k.sched.thread().frames.push(Running {
            major,
            minor,
            driver,
            user,
            power_down: crate::power::is_down(sl),
        });
        Some((index, Drv(object).major(major), internal))
    }) else {
        fail(rules::NOT_AN_IRP, "vanished");
    };
    if !internal {
        crate::points::reach(crate::Point::Irp);
    }
    let entry = Entry::now();
    let status = status_of(guest(routine, &[device, irp.0]));
    with(|k| k.sched.thread().frames.pop());
    if !internal {
        entry.check("dispatch routine");
        check_return(irp, index, status);
    }
    with(|k| {
        if let Some(i) = from
            && let Some(r) = k.io.irps.get_mut(&irp.0)
        {
            r.frames[i].lower = Some(status);
        }
        if let Some(r) = k.io.irps.get_mut(&irp.0) {
            r.running -= 1;
        }
        k.io.forget(irp.0);
    });
    status
}

/// What a dispatch routine's return value must agree with.
fn check_return(irp: Irp, index: usize, status: NtStatus) {
    let broken: Broken = with(|k| {
        let r = k.io.irps.get(&irp.0)?;
        let f = r.frames.get(index)?.clone();
        let serial = r.serial;
        let what = format!(
            "{} of {} returned {status}",
            minor_name(f.major, f.minor),
            k.driver(f.driver).name
        );
        k.event(EventKind::Returned {
            irp: serial,
            status,
        });
        if status.0 == u32::MAX {
            return Some((rules::SUSPICIOUS_STATUS, what));
        }
        if f.major == POWER
            && let Some(broken) = crate::power::check_return(k, f.device, f.minor, status)
        {
            return Some(broken);
        }
        if let Some((left, marked)) = f.left {
            return match (status == NtStatus::PENDING, marked) {
                (true, false) => Some((rules::PENDING_NOT_MARKED, what)),
                (false, true) => Some((rules::MARKED_NOT_PENDING, what)),
                (false, false) if status != left => {
                    let rule = if f.forwarded {
                        rules::FORWARD_STATUS
                    } else {
                        rules::STATUS_MISMATCH
                    };
                    Some((rule, format!("{what}, the IRP was completed with {left}")))
                }
                _ => None,
            };
        }
        let marked = irp.sl_at(f.location).pending();
        let below = f.forwarded && f.lower == Some(NtStatus::PENDING);
        match (status == NtStatus::PENDING, marked) {
            (true, true) => None,
            (true, false) if below => None,
            (true, false) => Some((rules::PENDING_NOT_MARKED, what)),
            (false, true) => Some((rules::MARKED_NOT_PENDING, what)),
            (false, false) if below => Some((
                rules::FORWARD_STATUS,
                format!("{what}, the lower driver returned STATUS_PENDING"),
            )),
            (false, false) => Some((rules::UNHANDLED_IRP, what)),
        }
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
}

/// `IoCompleteRequest` from a driver.
pub(crate) fn complete(irp: Va) {
    let irql = ke::current_irql();
    let broken: Broken = with(|k| {
        let Some(r) = k.io.irps.get(&irp) else {
            let gone = k
                .mem
                .find(irp)
                .is_some_and(|b| b.va == irp && b.kind == Kind::Irp);
            let rule = if gone {
                rules::DOUBLE_COMPLETION
            } else {
                rules::NOT_AN_IRP
            };
            return Some((rule, format!("IoCompleteRequest({irp:#x})")));
        };
        let r = r.clone();
        if r.done.is_some() {
            return Some((rules::DOUBLE_COMPLETION, format!("IRP {}", r.serial)));
        }
        if irql > DISPATCH {
            return Some((rules::COMPLETE_IRQL, format!("IRQL {irql}")));
        }
        if k.sched.thread().locks.iter().any(|l| l.family.spins()) {
            return Some((rules::LOCK_HELD_CALL, "IoCompleteRequest".to_owned()));
        }
        let irp = Irp(irp);
        let status = irp.status();
        if status == NtStatus::PENDING || status.0 == u32::MAX {
            return Some((rules::COMPLETED_PENDING, status.to_string()));
        }
        if irp.cancel_routine() != 0 {
            return Some((rules::CANCEL_ROUTINE_SET, format!("IRP {}", r.serial)));
        }
        let Some(f) = r.frames.iter().rev().find(|f| f.left.is_none()) else {
            return Some((
                rules::OWN_IRP,
                "completed by the driver that made it".to_owned(),
            ));
        };
        if let Some(caller) = k.caller()
            && caller != f.driver
        {
            return Some((
                rules::FORWARD_BELOW,
                format!("IRP {} is with {}", r.serial, k.driver(f.driver).name),
            ));
        }
        if r.bounded && !status.is_error() && irp.information() > r.output {
            return Some((
                rules::INFORMATION_TOO_LARGE,
                format!(
                    "Information {} with {} bytes of output",
                    irp.information(),
                    r.output
                ),
            ));
        }
        check_completion(k, f, irp)
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
    finish(irp);
}

/// Walks a completed IRP up its stack.
pub(crate) fn finish(irp: Va) {
    let irp = Irp(irp);
    with(|k| {
        if let Some(r) = k.io.irps.get(&irp.0) {
            let serial = r.serial;
            let (status, information) = (irp.status(), irp.information());
            k.event(EventKind::Completed {
                irp: serial,
                status,
                information,
            });
        }
    });
    while irp.location() <= irp.stack_count() {
        let sl = irp.sl();
        let location = irp.location();
        let (control, routine, context) = (sl.control(), sl.routine(), sl.context());
        let pending = sl.pending();
        let status = irp.status();
        let broken = with(|k| {
            let r = k.io.irps.get_mut(&irp.0)?;
            let lower = r.frames.iter().find(|f| f.location < location);
            let lower = lower.and_then(|f| Some(f.left?.0));
            let mut leaving = Vec::new();
            for f in &mut r.frames {
                if f.location == location && f.left.is_none() {
                    f.left = Some((status, pending));
                    if !f.internal {
                        leaving.push(f.device);
                    }
                }
            }
            leaving
                .into_iter()
                .find_map(|d| crate::power::check_leaving(k, d, sl, status, lower))
        });
        if let Some((rule, what)) = broken {
            fail(rule, what);
        }
        irp.set_pending_returned(u8::from(pending));
        irp.move_location(1);
        let above = (irp.location() <= irp.stack_count()).then(|| irp.sl());
        let wanted = if status.is_success() {
            SL_INVOKE_ON_SUCCESS
        } else {
            SL_INVOKE_ON_ERROR
        } | if irp.cancel() != 0 {
            SL_INVOKE_ON_CANCEL
        } else {
            0
        };
        sl.clear();
        if control & wanted != 0 && routine != 0 {
            let device = above.map_or(0, Sl::device);
            let entry = Entry::now();
            let answer = status_of(guest(routine, &[device, irp.0, context]));
            entry.check_completion();
            if answer == NtStatus::MORE_PROCESSING_REQUIRED {
                return;
            }
            let internal = with(|k| {
                k.io.irps.get(&irp.0).is_none_or(|r| {
                    r.frames
                        .iter()
                        .all(|f| f.location != location + 1 || f.internal)
                })
            });
            if let Some(above) = above
                && pending
                && !above.pending()
                && !internal
            {
                fail(
                    rules::COMPLETION_NOT_MARKED,
                    format!("routine {routine:#x}"),
                );
            }
        } else if let Some(above) = above
            && pending
        {
            above.set_control(above.control() | SL_PENDING_RETURNED);
        }
    }
    deliver(irp);
}

/// Gives the result to whoever sent the IRP, and takes the IRP away. What a thread's own IRP still
/// needs happens in that thread, where an APC can run.
fn deliver(irp: Irp) {
    let issuer = with(|k| {
        let r = k.io.irps.get(&irp.0)?;
        (r.maker == Maker::Threaded).then_some(r.issuer.0)
    });
    let Some(tid) = issuer else {
        return hand_over(irp);
    };
    let ready = move |k: &Kernel| {
        let t = k.sched.threads.get(&tid);
        t.is_none_or(sched::Thread::takes_apcs)
    };
    if ke::current_irql() == PASSIVE && with(|k| ready(k)) {
        return hand_over(irp);
    }
    with(|k| {
        let body = Box::new(move || {
            sched::wait("the thread of a threaded IRP to take APCs", None, ready);
            hand_over(irp);
        });
        k.sched
            .spawn("an APC", sched::ThreadKind::Caller, PASSIVE, body);
    });
}

fn hand_over(irp: Irp) {
    let (status, information) = (irp.status(), irp.information());
    let maker = with(|k| k.io.irps.get(&irp.0).map(|r| r.maker));
    if maker == Some(Maker::Allocated) {
        fail(
            rules::OWN_IRP,
            "an IoAllocateIrp IRP came back and its completion routine did not keep it",
        );
    }
    let buffer = with(|k| k.io.irps.get(&irp.0).and_then(|r| r.buffer.clone()));
    if let Some(buffer) = buffer
        && !status.is_error()
        && information > 0
    {
        let bounded = with(|k| k.io.irps.get(&irp.0).is_some_and(|r| r.bounded));
        let length = information.min(buffer.input + buffer.fill.len());
        let bytes = if bounded {
            crate::mem::peek_bytes(buffer.va, length)
        } else {
            Vec::new()
        };
        if bounded && let Some(at) = leaked(&bytes, &buffer) {
            fail(
                rules::INFORMATION_LEAK,
                format!(
                    "bytes from offset {at} of {length} returned were never written by the driver"
                ),
            );
        }
        if maker == Some(Maker::Threaded) {
            poke_bytes(irp.user_buffer(), &bytes);
        }
        with(|k| {
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.data = bytes;
            }
        });
    }
    if maker == Some(Maker::Threaded) {
        let (iosb, event) = (irp.user_iosb(), irp.user_event());
        let gone = with(|k| {
            let (tid, (limit, top)) = k.io.irps.get(&irp.0)?.issuer;
            let thread = k.sched.threads.get(&tid);
            let thread = thread.filter(|_| !k.sched.is_done(tid));
            let floor = thread.map_or(top, sched::Thread::floor);
            [iosb, event].into_iter().find_map(|va| {
                if k.mem.find(va).is_some_and(|b| b.state == State::Freed) {
                    Some(format!("{va:#x} was freed before the IRP ended"))
                } else if (limit..floor).contains(&va) {
                    Some(format!(
                        "{va:#x} is on a part of the stack that its function left before the IRP ended [C9/0C]"
                    ))
                } else {
                    None
                }
            })
        });
        if let Some(what) = gone {
            fail(rules::THREADED_IRP, what);
        }
        if iosb != 0 {
            poke(iosb, u64::from(status.0));
            poke(iosb + 8, information);
        }
        if event != 0 {
            ke::set_event(event);
        }
    }
    let own = with(|k| k.io.irps.get(&irp.0).map_or(0, |r| r.mdl));
    if !with(|k| mm::release_list(k, irp, own)) {
        fail(
            rules::MDL_LEFT_LOCKED,
            "the MDL of the caller's buffer is not in Irp->MdlAddress at completion",
        );
    }
    let torn = with(|k| {
        let site = k.site();
        let r = k.io.irps.get_mut(&irp.0)?;
        r.done = Some((status, information));
        r.collected = r.maker == Maker::Threaded;
        let buffer = r.buffer.as_ref().map(|b| b.va);
        k.io.forget(irp.0);
        let mut torn = None;
        if let Some(va) = buffer
            && !k.mem.free(va, site)
        {
            torn = Some(va);
        }
        k.mem.free(irp.0, site);
        torn
    });
    if let Some(va) = torn {
        fail(
            rules::POOL_CORRUPT,
            format!("next to system buffer {va:#x}"),
        );
    }
}

/// First place where at least four bytes in a row still hold the machine's random fill.
fn leaked(bytes: &[u8], buffer: &SystemBuffer) -> Option<usize> {
    let mut run = 0;
    for (i, byte) in bytes.iter().enumerate().skip(buffer.input) {
        if buffer.fill.get(i - buffer.input) == Some(byte) {
            run += 1;
            if run == 4 {
                return Some(i - 3);
            }
        } else {
            run = 0;
        }
    }
    None
}

/// The top of the stack in which a device is.
pub(crate) fn top_of(k: &Kernel, mut device: Va) -> Va {
    while let Some(upper) = k.devices.get(&device).and_then(|d| d.upper) {
        device = upper;
    }
    device
}

/// Makes an IRP for the stack that `device` is in; `fill` writes its first stack location.
pub(crate) fn prepare(device: Va, fill: impl FnOnce(Irp, Sl)) -> (Irp, Va) {
    let top = with(|k| top_of(k, device));
    let irp = new_irp(Maker::Manager, Dev(top).stack_size());
    let thread = crate::nt::ob::current_thread_object();
    irp.set_thread(thread);
    let first = irp.sl_at(irp.stack_count());
    fill(irp, first);
    (irp, top)
}

/// Sends an IRP and waits for its end.
pub(crate) fn send(irp: Irp, top: Va) -> (NtStatus, usize) {
    call_driver(top, irp.0);
    wait_done(irp.0);
    finished(irp.0)
}

pub(crate) fn wait_done(irp: Va) -> (NtStatus, usize) {
    sched::wait("an IRP", None, move |k| k.io.is_done(irp));
    with(|k| k.io.irps.get(&irp).and_then(|r| r.done)).unwrap_or((NtStatus::UNSUCCESSFUL, 0))
}

/// Status and Information of an IRP that has ended; its details are forgotten.
pub(crate) fn finished(irp: Va) -> (NtStatus, usize) {
    let (status, information, _) = collect(irp);
    (status, information)
}

/// The result of a request for whoever sent it; forgets the IRP's details.
fn collect(irp: Va) -> (NtStatus, usize, Vec<u8>) {
    with(|k| {
        let Some(r) = k.io.irps.get_mut(&irp) else {
            return (NtStatus::UNSUCCESSFUL, 0, Vec::new());
        };
        let (status, information) = r.done.unwrap_or((NtStatus::PENDING, 0));
        let data = core::mem::take(&mut r.data);
        r.collected = true;
        k.io.forget(irp);
        (status, information, data)
    })
}

const IRP_BUFFERED_IO: u32 = 0x10;
const IRP_DEALLOCATE_BUFFER: u32 = 0x20;

pub(crate) fn system_buffer(k: &mut Kernel, irp: Irp, input: &[u8], length: usize) {
    if length == 0 {
        return;
    }
    let mut fill: Vec<u8> = Vec::new();
    let mut content = input.iter();
    let mut old = crate::leaks::old_content(&k.config, &mut k.rng, crate::BUFFER_CANARY);
    let va = k.mem.alloc(
        length,
        Kind::SystemBuffer,
        false,
        None,
        Site::default(),
        || {
            if let Some(byte) = content.next() {
                *byte
            } else {
                let byte = old();
                fill.push(byte);
                byte
            }
        },
    );
    irp.set_system_buffer(va);
    irp.set_flags(irp.flags() | IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER);
    if let Some(r) = k.io.irps.get_mut(&irp.0) {
        r.buffer = Some(SystemBuffer {
            va,
            input: input.len(),
            fill,
        });
    }
}

/// The user's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Control {
        code: u32,
        internal: bool,
    },
    /// An internal control request sent at `DISPATCH_LEVEL`.
    AtDispatch {
        code: u32,
    },
    Read {
        offset: i64,
    },
    Write {
        offset: i64,
    },
    /// `IRP_MJ_QUERY_INFORMATION`, always buffered.
    QueryInformation {
        class: i32,
    },
    /// Any request of user mode, see [`Machine::send_from_user`](crate::Machine::send_from_user).
    User {
        major: u8,
        minor: u8,
        code: u32,
    },
}

fn file_of(handle: usize) -> Result<(Va, Va, Caller), NtStatus> {
    with(|k| match k.handles.get(&handle).map(|h| h.object.clone()) {
        Some(Object::File(va)) => {
            let f = k.io.files.get(&va).ok_or(NtStatus::INVALID_HANDLE)?;
            Ok((va, f.device, f.caller))
        }
        Some(_) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        None => Err(NtStatus::INVALID_HANDLE),
    })
}

/// Requests through a kernel component's handle come at `DISPATCH_LEVEL` from now on, or no longer.
/// Gives whether it is one.
pub(crate) fn use_at_dispatch(handle: usize, at_dispatch: bool) -> bool {
    let Ok((file, _, Caller::Kernel)) = file_of(handle) else {
        return false;
    };
    with(|k| {
        let file = k.io.files.get_mut(&file);
        file.map(|f| f.at_dispatch = at_dispatch).is_some()
    })
}

/// A finished request.
pub(crate) struct Finished {
    pub status: NtStatus,
    pub information: usize,
    pub output: Vec<u8>,
}

impl Finished {
    /// A request that the I/O manager itself refuses.
    const fn refused(status: NtStatus, output: Vec<u8>) -> Self {
        Self {
            status,
            information: 0,
            output,
        }
    }
}

/// How a request's bytes travel between caller and driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// The I/O manager copies.
    Buffered,
    /// It locks the caller's output buffer, or that of a transfer, and passes an MDL; `write`:
    /// the driver may write there.
    Direct { write: bool },
    /// The driver gets the caller's addresses.
    Neither,
}

impl Transfer {
    fn of(what: Request, flags: u32) -> Self {
        match what {
            Request::Control { code, .. } | Request::AtDispatch { code } => Self::of_code(code),
            Request::QueryInformation { .. } => Self::Buffered,
            Request::User { major, code, .. } => crate::majors::transfer(major, code, flags),
            Request::Read { .. } => Self::of_device(flags, true),
            Request::Write { .. } => Self::of_device(flags, false),
        }
    }

    /// By the method in a control code.
    pub(crate) const fn of_code(code: u32) -> Self {
        match code & 3 {
            0 => Self::Buffered,
            // METHOD_IN_DIRECT: the "output" buffer is data for the device.
            1 => Self::Direct { write: false },
            2 => Self::Direct { write: true },
            _ => Self::Neither,
        }
    }

    /// By the flags of the top device object.
    pub(crate) const fn of_device(flags: u32, write: bool) -> Self {
        if flags & DO_BUFFERED_IO != 0 {
            Self::Buffered
        } else if flags & DO_DIRECT_IO != 0 {
            Self::Direct { write }
        } else {
            Self::Neither
        }
    }
}

/// A caller's two buffers: address and length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub input: (Va, usize),
    pub output: (Va, usize),
}

/// One request on an open handle, up to its end. `started` gets the IRP as soon as it exists.
///
/// The caller's buffers are its own, made for this request where the driver gets to see them.
pub(crate) fn request(
    handle: usize,
    what: Request,
    input: &[u8],
    output: usize,
    started: impl FnOnce(Va),
) -> Finished {
    let mut out = vec![CANARY; output];
    let (file, device, mut caller) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return Finished::refused(status, out),
    };
    if matches!(what, Request::User { .. }) && caller == Caller::Kernel {
        caller = Caller::User64;
    }
    if caller != Caller::Kernel && lacks_access(file, what) {
        return Finished::refused(NtStatus::ACCESS_DENIED, out);
    }
    let flags = with(|k| Dev(top_of(k, device)).flags());
    let opened = (file, device, caller);
    if Transfer::of(what, flags) == Transfer::Buffered {
        let buffers = Buffers {
            input: (0, input.len()),
            output: (0, output),
        };
        let (status, information, data) = run(opened, what, input, buffers, started);
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        return Finished {
            status,
            information,
            output: out,
        };
    }
    let lent = with(|k| Lent::new(k, caller, input, &out));
    let buffers = Buffers {
        input: lent.input,
        output: lent.output,
    };
    let (status, information, _) = run(opened, what, input, buffers, started);
    Finished {
        status,
        information,
        output: with(|k| lent.take(k)),
    }
}

/// The same with buffers at addresses that the caller names, good or bad. The output is what is
/// in the output buffer afterwards; nothing, if it is not there.
pub(crate) fn request_at(
    handle: usize,
    what: Request,
    buffers: Buffers,
    started: impl FnOnce(Va),
) -> Finished {
    let opened = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return Finished::refused(status, Vec::new()),
    };
    let (file, device, caller) = opened;
    let user = caller != Caller::Kernel;
    if user && lacks_access(file, what) {
        return Finished::refused(NtStatus::ACCESS_DENIED, Vec::new());
    }
    let read = move |(va, len): (Va, usize)| {
        if !user {
            return Ok(crate::mem::peek_bytes(va, len));
        }
        with(|k| k.user.capture(va, len))
    };
    let transfer = Transfer::of(what, with(|k| Dev(top_of(k, device)).flags()));
    // What the I/O manager captures: all of METHOD_NEITHER and of a direct transfer is left alone.
    let control = matches!(what, Request::Control { .. } | Request::AtDispatch { .. });
    let captured =
        transfer == Transfer::Buffered || control && matches!(transfer, Transfer::Direct { .. });
    let input = match captured.then(|| read(buffers.input)).transpose() {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(status) => return Finished::refused(status, Vec::new()),
    };
    let (mut status, mut information, data) = run(opened, what, &input, buffers, started);
    if !data.is_empty() {
        let data = &data[..data.len().min(buffers.output.1)];
        if !user {
            poke_bytes(buffers.output.0, data);
        } else if let Err(fault) = with(|k| k.user.store(buffers.output.0, data)) {
            (status, information) = (fault, 0);
        }
    }
    Finished {
        status,
        information,
        output: read(buffers.output).unwrap_or_default(),
    }
}

/// Sends a request and waits for its end; gives what the I/O manager would copy to the caller.
fn run(
    (file, device, caller): (Va, Va, Caller),
    what: Request,
    input: &[u8],
    buffers: Buffers,
    started: impl FnOnce(Va),
) -> (NtStatus, usize, Vec<u8>) {
    let internal_at_dispatch = matches!(what, Request::AtDispatch { .. });
    let at_dispatch =
        internal_at_dispatch || with(|k| k.io.files.get(&file).is_some_and(|f| f.at_dispatch));
    let flags = with(|k| Dev(top_of(k, device)).flags());
    let transfer = Transfer::of(what, flags);
    let writing = match what {
        Request::Write { .. } => true,
        Request::User { major, .. } => crate::majors::writes(major),
        _ => false,
    };
    let target = if writing {
        buffers.input
    } else {
        buffers.output
    };
    let mut mdl = 0;
    let mut extra = 0;
    if let Transfer::Direct { write } = transfer
        && target.1 > 0
    {
        let (va, len) = target;
        match with(|k| mm::lock_for_request(k, caller, va, len, write)) {
            Ok(locked) => mdl = locked,
            Err(status) => return (status, 0, Vec::new()),
        }
    }
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        irp.set_requestor_mode(u8::from(caller != Caller::Kernel));
        irp.set_mdl(mdl);
        sl.set_file(file);
        let buffered = transfer == Transfer::Buffered;
        let mut bounded = buffered;
        with(|k| {
            let output_len = buffers.output.1;
            match what {
                Request::Control { code, .. } | Request::AtDispatch { code } => {
                    let internal = internal_at_dispatch
                        || matches!(what, Request::Control { internal: true, .. });
                    sl.set_major(if internal {
                        INTERNAL_DEVICE_CONTROL
                    } else {
                        DEVICE_CONTROL
                    });
                    crate::majors::control(k, irp, sl, code, transfer, input, buffers);
                }
                Request::User { major, minor, code } => {
                    let function = (major, minor, code);
                    (bounded, extra) =
                        crate::majors::fill(k, irp, sl, function, transfer, input, buffers);
                }
                Request::Read { offset } | Request::Write { offset } => {
                    sl.set_major(if writing { WRITE } else { READ });
                    sl.set_arg1(target.1);
                    poke(sl.0 + 8 + 16, offset);
                    irp.set_user_buffer(target.0);
                    if buffered {
                        bounded = !writing;
                        system_buffer(k, irp, input, target.1);
                    }
                }
                Request::QueryInformation { class } => {
                    sl.set_major(QUERY_INFORMATION);
                    sl.set_arg1(output_len);
                    poke(sl.0 + 8 + 8, class);
                    irp.set_user_buffer(buffers.output.0);
                    system_buffer(k, irp, &[], output_len);
                }
            }
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.bounded = bounded;
                r.output = output_len;
                r.file = file;
                r.is32 = caller == Caller::User32;
                r.mdl = mdl;
            }
        });
    });
    started(irp.0);
    if at_dispatch {
        ke::set_irql(DISPATCH);
    }
    let thread = with(|k| {
        let thread = k.sched.current;
        k.user.enter(thread, caller);
        thread
    });
    call_driver(top, irp.0);
    if at_dispatch {
        ke::set_irql(crate::nt::PASSIVE);
    }
    wait_done(irp.0);
    with(|k| k.user.leave(thread));
    let result = collect(irp.0);
    with(|k| k.mem.free(extra, Site::default()));
    result
}

/// Makes the reads and writes of a device's stack direct, as a driver on top of it that does direct
/// I/O would. Whether there is such a device.
pub(crate) fn do_direct_io(k: &Kernel, name: &str) -> bool {
    let Some((device, _)) = resolve(k, name) else {
        return false;
    };
    let top = Dev(top_of(k, device));
    top.set_flags(top.flags() & !DO_BUFFERED_IO | DO_DIRECT_IO);
    true
}

/// Splits a name into the device it leads to and the rest.
fn resolve(k: &Kernel, name: &str) -> Option<(Va, String)> {
    let mut name = canonical(name);
    for _ in 0..8 {
        let folded = name.to_lowercase();
        let device = k
            .devices
            .values()
            .filter(|d| !d.deleted)
            .filter_map(|d| Some((d, d.name.as_ref()?.to_lowercase())))
            .filter(|(_, n)| {
                folded == *n
                    || folded.starts_with(n.as_str()) && folded[n.len()..].starts_with('\\')
            })
            .max_by_key(|(_, n)| n.len());
        if let Some((d, n)) = device {
            return Some((d.va, name[n.len()..].to_owned()));
        }
        let link = k
            .links
            .iter()
            .filter(|(l, _)| {
                folded == **l
                    || folded.starts_with(l.as_str()) && folded[l.len()..].starts_with('\\')
            })
            .max_by_key(|(l, _)| l.len())?;
        name = canonical(&format!("{}{}", link.1.target, &name[link.0.len()..]));
    }
    None
}

/// One spelling for the several names of the DOS device directory.
pub(crate) fn canonical(name: &str) -> String {
    for prefix in [r"\\.\", r"\\?\", r"\??\", r"\DosDevices\", r"\GLOBAL??\"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!(r"\GLOBAL??\{rest}");
        }
    }
    name.to_owned()
}

/// `NtCreateFile`. `kernel`: a kernel handle.
pub(crate) fn open(name: &str, caller: Caller, kernel: bool) -> Result<usize, NtStatus> {
    let (file, _) = open_file(name, caller)?;
    Ok(with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.handles += 1;
        }
        poke(
            file + FILE_FLAGS,
            peek::<u32>(file + FILE_FLAGS) | FO_HANDLE_CREATED,
        );
        k.new_handle(Object::File(file), kernel)
    }))
}

/// `FILE_READ_ACCESS` and `FILE_WRITE_ACCESS` of `CTL_CODE`.
const FILE_READ_ACCESS: u32 = 1;
const FILE_WRITE_ACCESS: u32 = 2;

/// Whether a control code asks for access that the handle does not have (`RequiredAccess` of
/// `CTL_CODE`).
fn lacks_access(file: Va, what: Request) -> bool {
    let Request::Control {
        code,
        internal: false,
    } = what
    else {
        return false;
    };
    let has = with(|k| k.io.files.get(&file).map_or(0, |f| f.access));
    (code >> 14) & 3 & !has != 0
}

/// Takes the right to write, or to read, from a handle, as if it had been opened without.
pub(crate) fn restrict(handle: usize, read: bool, write: bool) {
    if let Ok((file, ..)) = file_of(handle) {
        with(|k| {
            if let Some(file) = k.io.files.get_mut(&file) {
                file.access =
                    u32::from(read) * FILE_READ_ACCESS + u32::from(write) * FILE_WRITE_ACCESS;
            }
        });
    }
}

const FO_SYNCHRONOUS_IO: u32 = 2;
const FO_CLEANUP_COMPLETE: u32 = 0x4000;
const FO_HANDLE_CREATED: u32 = 0x4_0000;

/// Makes a file object with one reference and sends its CREATE. Gives it and its device.
fn open_file(name: &str, caller: Caller) -> Result<(Va, Va), NtStatus> {
    let Some((device, rest)) = with(|k| resolve(k, name)) else {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    };
    let refused = with(|k| {
        let d = k.devices.get(&device)?;
        if Dev(device).flags() & DO_DEVICE_INITIALIZING != 0 {
            return Some(NtStatus::NO_SUCH_DEVICE);
        }
        if d.exclusive && d.opens > 0 {
            return Some(NtStatus::ACCESS_DENIED);
        }
        crate::pnp::open_refused(k, device)
    });
    if let Some(status) = refused {
        return Err(status);
    }
    let file = with(|k| {
        let file = k.system_alloc(FILE_SIZE, "a file object");
        poke(file, 5_u16);
        poke(file + 2, u16::try_from(FILE_SIZE).unwrap_or(0));
        poke(file + FILE_DEVICE, device);
        poke(file + FILE_FLAGS, FO_SYNCHRONOUS_IO);
        if !rest.is_empty() {
            let units = crate::nt::types::wide(&rest);
            let text = k.system_alloc(units.len(), "a file name");
            poke_bytes(text, &units);
            crate::nt::types::set_unicode(file + FILE_NAME, text, units.len() - 2, units.len());
        }
        k.refs.insert(file, 1);
        if let Some(d) = k.devices.get_mut(&device) {
            d.opens += 1;
        }
        Dev(device).set_reference_count(Dev(device).reference_count() + 1);
        k.io.files.insert(
            file,
            File {
                device,
                caller,
                handles: 0,
                cleaned: false,
                at_dispatch: false,
                access: FILE_READ_ACCESS | FILE_WRITE_ACCESS,
                owner: None,
            },
        );
        file
    });
    let context = with(|k| {
        let context = k.system_alloc(0x20, "an IO_SECURITY_CONTEXT");
        // DesiredAccess: GENERIC_READ | GENERIC_WRITE as file rights
        poke(context + 16, 0x0012_019F_u32);
        context
    });
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        irp.set_requestor_mode(u8::from(caller != Caller::Kernel));
        sl.set_major(CREATE);
        sl.set_file(file);
        sl.set_arg1(context);
        // FILE_OPEN, FILE_NON_DIRECTORY_FILE
        sl.set_arg2(0x0100_0040);
        poke(sl.0 + 8 + 18, 3_u16);
    });
    let (status, _) = send(irp, top);
    with(|k| k.mem.free(context, Site::default()));
    if status.is_success() {
        return Ok((file, device));
    }
    forget_file(file, device);
    // It may be what a removal waits for.
    crate::pnp::after_close(device);
    Err(status)
}

fn forget_file(file: Va, device: Va) {
    with(|k| {
        k.io.files.remove(&file);
        if let Some(d) = k.devices.get_mut(&device) {
            d.opens = d.opens.saturating_sub(1);
        }
        if k.mem.live(device).is_some() {
            Dev(device).set_reference_count(Dev(device).reference_count() - 1);
        }
        let text: Va = peek(file + FILE_NAME + 8);
        k.mem.free(text, Site::default());
        k.mem.free(file, Site::default());
        k.refs.remove(&file);
    });
    crate::nt::io::release_if_gone(device);
}

/// `NtClose` on a file handle: after the last one CLEANUP, and CLOSE unless a driver still has a
/// pointer to the file object.
pub(crate) fn close(handle: usize) -> NtStatus {
    let (file, device, _) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let last = with(|k| {
        k.handles.remove(&handle);
        k.io.files.get_mut(&file).is_some_and(|f| {
            f.handles -= 1;
            f.handles == 0
        })
    });
    if last {
        clean_up(file, device);
    }
    let left = with(|k| {
        let refs = k.refs.get_mut(&file)?;
        *refs -= 1;
        Some(*refs)
    });
    if left == Some(0) {
        close_file(file, device);
    }
    NtStatus::SUCCESS
}

/// CLEANUP, then the file's IRPs must end.
fn clean_up(file: Va, device: Va) {
    send_for_file(file, device, CLEANUP);
    with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.cleaned = true;
        }
    });
    poke(
        file + FILE_FLAGS,
        peek::<u32>(file + FILE_FLAGS) | FO_CLEANUP_COMPLETE,
    );
    let until = with(|k| k.now + k.config.cancel_timeout);
    let mine = move |k: &Kernel| {
        k.io.irps
            .values()
            .all(|r| r.file != file || r.done.is_some())
    };
    if !sched::wait("the file's IRPs after CLEANUP", Some(until), mine) {
        fail(
            rules::CLEANUP_LEFT,
            "requests of the file object are still pending",
        );
    }
}

fn send_for_file(file: Va, device: Va, major: u8) {
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        sl.set_major(major);
        sl.set_file(file);
    });
    send(irp, top);
}

/// The end of a file object that nobody refers to.
fn close_file(file: Va, device: Va) {
    if !with(|k| k.io.files.get(&file).is_some_and(|f| f.cleaned)) {
        clean_up(file, device);
    }
    send_for_file(file, device, CLOSE);
    forget_file(file, device);
    crate::pnp::after_close(device);
}

/// Closes a file object whose last reference a driver gave back; later, in a worker, if that was
/// above `PASSIVE_LEVEL`. Whether it was a file object.
pub(crate) fn last_reference(file: Va) -> bool {
    let found = with(|k| k.io.files.get(&file).map(|f| (f.device, f.handles)));
    let Some((device, handles)) = found else {
        return false;
    };
    if handles > 0 {
        fail(
            rules::REFERENCE,
            format!("file object {file:#x} dereferenced to 0 with {handles} handles open"),
        );
    }
    if ke::current_irql() == PASSIVE {
        close_file(file, device);
    } else {
        with(|k| {
            let body = Box::new(move || close_file(file, device));
            k.sched
                .spawn("deferred close", sched::ThreadKind::Caller, PASSIVE, body);
        });
    }
    true
}

/// Reads, writes and control requests that a driver has now and did not make.
pub(crate) fn requests_of(k: &Kernel, driver: DriverId) -> Vec<Va> {
    let has = |r: &Record| {
        r.done.is_none()
            && r.owner != Some(driver)
            && r.frames
                .iter()
                .rev()
                .find(|f| f.left.is_none())
                .is_some_and(|f| {
                    let cancels = matches!(
                        f.major,
                        READ | WRITE | DEVICE_CONTROL | INTERNAL_DEVICE_CONTROL
                    );
                    f.driver == driver && cancels
                })
    };
    let irps = k.io.irps.iter().filter(|(_, r)| has(r));
    irps.map(|(irp, _)| *irp).collect()
}

/// `IoCancelIrp`, and `NtCancelIoFileEx` for one request.
pub(crate) fn cancel(irp: Va) -> bool {
    if with(|k| k.io.is_done(irp)) {
        return false;
    }
    let old = ke::acquire_cancel();
    // It may have been completed while this thread waited for the lock.
    if with(|k| k.io.is_done(irp)) {
        ke::release_cancel(old);
        return false;
    }
    let i = Irp(irp);
    i.set_cancel(1);
    with(|k| {
        let now = k.now;
        if let Some(r) = k.io.irps.get_mut(&irp) {
            r.cancelled.get_or_insert(now);
        }
    });
    let routine = i.cancel_routine();
    i.set_cancel_routine(0);
    if routine == 0 {
        ke::release_cancel(old);
        return false;
    }
    i.set_cancel_irql(old);
    let device = i.sl().device();
    guest(routine, &[device, irp]);
    let now = ke::current_irql();
    let lock = with(|k| k.ke.cancel_lock);
    let held = with(|k| k.sched.thread().locks.iter().any(|l| l.lock == lock));
    if held {
        fail(
            rules::LOCK_HELD_RETURN,
            "cancel routine returned without IoReleaseCancelSpinLock",
        );
    }
    if now != old {
        fail(
            rules::IRQL_CHANGED,
            format!("cancel routine returned at IRQL {now}, should be {old}"),
        );
    }
    true
}

/// Cancelled IRPs that should have been completed by now [I8].
pub(crate) fn overdue(k: &Kernel) -> Option<u64> {
    k.io.irps
        .values()
        .find(|r| {
            r.is_out()
                && r.cancelled
                    .is_some_and(|at| k.now > at + k.config.cancel_timeout)
        })
        .map(|r| r.serial)
}

/// Whether a cancelled IRP still is somewhere.
pub(crate) fn cancelled_left(k: &Kernel) -> bool {
    k.io.irps
        .values()
        .any(|r| r.is_out() && r.cancelled.is_some())
}

/// `IoBuildDeviceIoControlRequest`. Null, if the buffer cannot be locked.
#[allow(clippy::too_many_arguments, reason = "the function's own arguments")]
pub(crate) fn build_control(
    code: u32,
    device: Va,
    input: Va,
    input_len: usize,
    output: Va,
    output_len: usize,
    internal: bool,
    event: Va,
    iosb: Va,
) -> Irp {
    let mut mdl = 0;
    if let Transfer::Direct { write } = Transfer::of_code(code)
        && output_len > 0
    {
        let locked = with(|k| mm::lock_for_request(k, Caller::Kernel, output, output_len, write));
        let Ok(locked) = locked else {
            return Irp(0);
        };
        mdl = locked;
    }
    let irp = new_irp(Maker::Threaded, Dev(device).stack_size());
    irp.set_user_event(event);
    irp.set_user_iosb(iosb);
    irp.set_user_buffer(output);
    irp.set_thread(crate::nt::ob::current_thread_object());
    let sl = irp.sl_at(irp.stack_count());
    sl.set_major(if internal {
        INTERNAL_DEVICE_CONTROL
    } else {
        DEVICE_CONTROL
    });
    sl.set_arg1(output_len);
    sl.set_arg2(input_len);
    sl.set_arg3(code as usize);
    // Read before the machine's state is borrowed: a bad address is the caller's fault.
    let bytes = match code & 3 {
        3 => Vec::new(),
        _ => crate::mem::peek_bytes(input, input_len),
    };
    with(|k| match code & 3 {
        0 => {
            system_buffer(k, irp, &bytes, input_len.max(output_len));
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.bounded = true;
                r.output = output_len;
            }
        }
        3 => sl.set_arg4(input),
        _ => {
            system_buffer(k, irp, &bytes, input_len);
            irp.set_mdl(mdl);
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.mdl = mdl;
            }
        }
    });
    irp
}

/// What a driver object's table holds where the driver put nothing.
pub(crate) extern "efiapi" fn invalid_device_request(_device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    i.set_status(NtStatus::INVALID_DEVICE_REQUEST);
    i.set_information(0);
    finish(irp);
    NtStatus::INVALID_DEVICE_REQUEST.raw()
}

/// Whether the address is a file object's.
pub(crate) fn is_file(k: &Kernel, object: Va) -> bool {
    k.io.files.contains_key(&object)
}

/// Whether a block is a live system buffer or IRP: what tests of the machine look at.
pub(crate) fn live_irps(k: &Kernel) -> usize {
    k.mem
        .live_blocks()
        .filter(|b| b.kind == Kind::Irp && b.state == State::Live)
        .count()
}

/// `IoGetDeviceObjectPointer`: a file object with one reference and no handle.
pub(crate) fn open_for_driver(name: &str) -> Result<(Va, Va), NtStatus> {
    let (owner, site) = with(|k| (k.caller(), k.site()));
    let (file, device) = open_file(name, Caller::Kernel)?;
    with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.owner = owner.map(|o| (o, site));
        }
    });
    if with(|k| k.config.early_cleanup) {
        clean_up(file, device);
    }
    Ok(with(|k| (file, top_of(k, device))))
}

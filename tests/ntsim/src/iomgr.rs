//! The I/O manager: IRPs on their way through driver stacks, and the user's side of them.

use std::collections::BTreeMap;

use crate::mem::{Kind, State, Va, peek, poke, poke_bytes};
use crate::nt::types::{
    DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO, Dev, Drv, FILE_DEVICE, FILE_FLAGS,
    FILE_NAME, FILE_SIZE, IRP_SIZE, Irp, MDL_SIZE, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, SL_SIZE, Sl,
};
use crate::nt::{DISPATCH, Entry, guest, ke};
use crate::rules;
use crate::sched;
use crate::state::{DriverId, Kernel, Object, Site, fail, status_of, with};
use crate::trace::EventKind;
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

const QUERY_REMOVE: u8 = 1;
pub(crate) const REMOVE: u8 = 2;
const CANCEL_REMOVE: u8 = 3;
const STOP: u8 = 4;
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
    /// `IoBuildDeviceIoControlRequest`.
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
    done: Option<(NtStatus, usize)>,
    data: Vec<u8>,
    cancelled: Option<Nanos>,
    /// Dispatch routines that have it on their stack.
    running: u32,
    /// Its sender has the result.
    collected: bool,
}

#[derive(Clone, Debug)]
struct File {
    device: Va,
    caller: Caller,
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
                done: None,
                data: Vec::new(),
                cancelled: None,
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
            Maker::Allocated if r.frames.iter().any(|f| f.left.is_none()) => {
                Answer::Bad("IRP freed while a lower driver has it".to_owned())
            }
            Maker::Allocated => {
                if let Some(r) = k.io.irps.get_mut(&irp) {
                    r.done = Some((NtStatus::SUCCESS, 0));
                    r.collected = true;
                }
                let site = k.site();
                k.mem.free(irp, site);
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
        let good = r.maker == Maker::Allocated
            && r.done.is_none()
            && r.frames.iter().all(|f| f.left.is_some());
        r.frames.clear();
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
                } else {
                    None
                }
            }
            _ => None,
        };
        let spinning = k.sched.thread().locks.iter().any(|l| l.family.spins());
        let broken =
            broken.or_else(|| spinning.then(|| (rules::LOCK_HELD_CALL, "IoCallDriver".to_owned())));
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
        });
        Some((index, Drv(object).major(major), internal))
    }) else {
        fail(rules::NOT_AN_IRP, "vanished");
    };
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
        with(|k| {
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                for f in &mut r.frames {
                    if f.location == location && f.left.is_none() {
                        f.left = Some((status, pending));
                    }
                }
            }
        });
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

/// Gives the result to whoever sent the IRP, and takes the IRP away.
fn deliver(irp: Irp) {
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
            [iosb, event]
                .into_iter()
                .find(|va| k.mem.find(*va).is_some_and(|b| b.state == State::Freed))
        });
        if let Some(va) = gone {
            fail(
                rules::THREADED_IRP,
                format!("{va:#x} was freed before the IRP ended"),
            );
        }
        if iosb != 0 {
            poke(iosb, u64::from(status.0));
            poke(iosb + 8, information);
        }
        if event != 0 {
            ke::set_event(event);
        }
    }
    let torn = with(|k| {
        let site = k.site();
        let r = k.io.irps.get_mut(&irp.0)?;
        r.done = Some((status, information));
        r.collected = r.maker == Maker::Threaded;
        let buffer = r.buffer.as_ref().map(|b| b.va);
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
    let (status, information) = wait_done(irp.0);
    collect(irp.0);
    (status, information)
}

pub(crate) fn wait_done(irp: Va) -> (NtStatus, usize) {
    sched::wait("an IRP", None, move |k| k.io.is_done(irp));
    with(|k| k.io.irps.get(&irp).and_then(|r| r.done)).unwrap_or((NtStatus::UNSUCCESSFUL, 0))
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

fn system_buffer(k: &mut Kernel, irp: Irp, input: &[u8], length: usize) {
    if length == 0 {
        return;
    }
    let mut fill: Vec<u8> = Vec::new();
    let mut content = input.iter();
    let rng = &mut k.rng;
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
                let byte = rng.byte();
                fill.push(byte);
                byte
            }
        },
    );
    irp.set_system_buffer(va);
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

/// A finished request.
pub(crate) struct Finished {
    pub status: NtStatus,
    pub information: usize,
    pub output: Vec<u8>,
}

/// One request on an open handle, up to its end. `started` gets the IRP as soon as it exists.
#[allow(clippy::too_many_lines, reason = "one transaction, told in order")]
pub(crate) fn request(
    handle: usize,
    what: Request,
    input: &[u8],
    output: usize,
    started: impl FnOnce(Va),
) -> Finished {
    let at_dispatch = matches!(what, Request::AtDispatch { .. });
    let what = match what {
        Request::AtDispatch { code } => Request::Control {
            code,
            internal: true,
        },
        other => other,
    };
    let mut out = vec![CANARY; output];
    let failed = |status| Finished {
        status,
        information: 0,
        output: vec![CANARY; output],
    };
    let (file, device, caller) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return failed(status),
    };
    let top = with(|k| top_of(k, device));
    let flags = Dev(top).flags();
    let mut mapped: Option<(Va, usize)> = None;
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        irp.set_requestor_mode(u8::from(caller != Caller::Kernel));
        sl.set_file(file);
        let mut bounded = false;
        with(|k| {
            let (input_len, output_len) = (input.len(), output);
            match what {
                Request::Control { code, internal } => {
                    sl.set_major(if internal {
                        INTERNAL_DEVICE_CONTROL
                    } else {
                        DEVICE_CONTROL
                    });
                    sl.set_arg1(output_len);
                    sl.set_arg2(input_len);
                    sl.set_arg3(code as usize);
                    match code & 3 {
                        0 => {
                            bounded = true;
                            system_buffer(k, irp, input, input_len.max(output_len));
                        }
                        1 | 2 => {
                            system_buffer(k, irp, input, input_len);
                            if output_len > 0 {
                                mapped = Some(direct(k, irp, &out));
                            }
                        }
                        _ => k.note("METHOD_NEITHER request without user addresses"),
                    }
                }
                Request::AtDispatch { .. } | Request::QueryInformation { .. } => {}
                Request::Read { offset } | Request::Write { offset } => {
                    let write = matches!(what, Request::Write { .. });
                    sl.set_major(if write { WRITE } else { READ });
                    let length = if write { input_len } else { output_len };
                    sl.set_arg1(length);
                    poke(sl.0 + 8 + 16, offset);
                    if flags & DO_BUFFERED_IO != 0 {
                        bounded = !write;
                        system_buffer(k, irp, if write { input } else { &[] }, length);
                    } else if flags & DO_DIRECT_IO != 0 && length > 0 {
                        mapped = Some(direct(k, irp, if write { input } else { &out }));
                    }
                }
            }
            if let Request::QueryInformation { class } = what {
                sl.set_major(QUERY_INFORMATION);
                sl.set_arg1(output);
                poke(sl.0 + 8 + 8, class);
                bounded = true;
                system_buffer(k, irp, &[], output);
            }
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.bounded = bounded;
                r.output = output;
                r.file = file;
                r.is32 = caller == Caller::User32;
            }
        });
    });
    started(irp.0);
    if at_dispatch {
        ke::set_irql(DISPATCH);
    }
    call_driver(top, irp.0);
    if at_dispatch {
        ke::set_irql(crate::nt::PASSIVE);
    }
    wait_done(irp.0);
    let (status, information, data) = collect(irp.0);
    let n = data.len().min(out.len());
    out[..n].copy_from_slice(&data[..n]);
    if let Some((va, mdl)) = mapped {
        if !matches!(what, Request::Write { .. }) {
            out = crate::mem::peek_bytes(va, output);
        }
        with(|k| {
            k.mem.free(va, Site::default());
            k.mem.free(mdl, Site::default());
        });
    }
    Finished {
        status,
        information,
        output: out,
    }
}

const MDL_MAPPED_TO_SYSTEM_VA: u16 = 1;
const MDL_PAGES_LOCKED: u16 = 2;

/// A locked and mapped buffer with its MDL.
fn direct(k: &mut Kernel, irp: Irp, content: &[u8]) -> (Va, usize) {
    let mut bytes = content.iter();
    let va = k.mem.alloc(
        content.len(),
        Kind::System("a user's buffer"),
        false,
        None,
        Site::default(),
        || bytes.next().copied().unwrap_or(0),
    );
    let mdl = k.system_alloc(MDL_SIZE + 8 * (content.len() / 4096 + 2), "an MDL");
    poke(mdl + 8, u16::try_from(MDL_SIZE).unwrap_or(0));
    poke(mdl + 10, MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED);
    poke(mdl + 0x18, va);
    poke(mdl + 0x20, va & !0xFFF);
    poke(mdl + 0x28, u32::try_from(content.len()).unwrap_or(u32::MAX));
    poke(mdl + 0x2C, u32::try_from(va & 0xFFF).unwrap_or(0));
    irp.set_mdl(mdl);
    (va, mdl)
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

/// `NtCreateFile`.
pub(crate) fn open(name: &str, caller: Caller) -> Result<usize, NtStatus> {
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
        poke(file + FILE_FLAGS, 2_u32);
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
        k.io.files.insert(file, File { device, caller });
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
        return Ok(with(|k| {
            k.new_handle(Object::File(file), caller == Caller::Kernel)
        }));
    }
    forget_file(file, device);
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

/// `NtClose` on a file handle: CLEANUP, wait for the file's IRPs, CLOSE.
pub(crate) fn close(handle: usize) -> NtStatus {
    let (file, device, _) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return status,
    };
    with(|k| k.handles.remove(&handle));
    close_file(file, device);
    NtStatus::SUCCESS
}

/// The end of a file object.
fn close_file(file: Va, device: Va) {
    for major in [CLEANUP, CLOSE] {
        let (irp, top) = prepare(device, |irp, sl| {
            irp.set_file(file);
            sl.set_major(major);
            sl.set_file(file);
        });
        send(irp, top);
        if major == CLEANUP {
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
    }
    forget_file(file, device);
    crate::pnp::after_close(device);
}

/// Closes a file object whose last reference a driver gave back. Whether it was one.
pub(crate) fn last_reference(file: Va) -> bool {
    let device = with(|k| k.io.files.get(&file).map(|f| f.device));
    if let Some(device) = device {
        close_file(file, device);
    }
    device.is_some()
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
            r.done.is_none()
                && r.cancelled
                    .is_some_and(|at| k.now > at + k.config.cancel_timeout)
        })
        .map(|r| r.serial)
}

/// Whether a cancelled IRP still is somewhere.
pub(crate) fn cancelled_left(k: &Kernel) -> bool {
    k.io.irps
        .values()
        .any(|r| r.done.is_none() && r.cancelled.is_some())
}

/// `IoBuildDeviceIoControlRequest`.
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
    match code & 3 {
        0 => {
            let bytes = crate::mem::peek_bytes(input, input_len);
            with(|k| {
                system_buffer(k, irp, &bytes, input_len.max(output_len));
                if let Some(r) = k.io.irps.get_mut(&irp.0) {
                    r.bounded = true;
                    r.output = output_len;
                }
            });
        }
        3 => {
            sl.set_arg4(input);
            irp.set_user_buffer(output);
        }
        _ => fail(
            rules::UNSUPPORTED,
            "IoBuildDeviceIoControlRequest with a direct method",
        ),
    }
    irp
}

/// What a driver object's table holds where the driver put nothing.
pub(crate) extern "win64" fn invalid_device_request(_device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    i.set_status(NtStatus::INVALID_DEVICE_REQUEST);
    i.set_information(0);
    finish(irp);
    NtStatus::INVALID_DEVICE_REQUEST.raw()
}

/// Whether a block is a live system buffer or IRP: what tests of the machine look at.
pub(crate) fn live_irps(k: &Kernel) -> usize {
    k.mem
        .live_blocks()
        .filter(|b| b.kind == Kind::Irp && b.state == State::Live)
        .count()
}

/// `IoGetDeviceObjectPointer`: opens, keeps the file object referenced and closes the handle.
pub(crate) fn open_for_driver(name: &str) -> Result<(Va, Va), NtStatus> {
    let handle = open(name, Caller::Kernel)?;
    let (file, device, _) = file_of(handle)?;
    with(|k| {
        k.handles.remove(&handle);
        Ok((file, top_of(k, device)))
    })
}

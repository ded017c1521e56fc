//! The rules of IRPs: what is looked at when a driver forwards, completes or returns from one.

use super::{
    CANCEL_REMOVE, CANCEL_STOP, CAPABILITIES_SIZE, DEVICE_CONTROL, Frame, INTERNAL_DEVICE_CONTROL,
    PNP, POWER, QUERY_CAPABILITIES, QUERY_REMOVE, QUERY_STOP, READ, REMOVE, STOP, SURPRISE,
    SYSTEM_CONTROL, WRITE,
};
use crate::mem::{Va, peek};
use crate::nt::types::{Header, Irp, Sl};
use crate::nt::{DISPATCH, ke};
use crate::state::{DriverId, Kernel, fail, with};
use crate::trace::EventKind;
use crate::{NtStatus, rules};

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

pub(super) type Broken = Option<(rules::Rule, String)>;

/// What must hold when a driver passes on an IRP that was given to it.
pub(super) fn check_forward(k: &Kernel, f: &Frame, irp: Irp, target: Va) -> Broken {
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
pub(super) fn check_completion(k: &Kernel, f: &Frame, irp: Irp) -> Broken {
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

pub(super) fn device_of(k: &Kernel, device: Va) -> Option<(DriverId, Va, bool)> {
    let d = k.devices.get(&device)?;
    k.mem.live(device)?;
    let driver = k.driver(d.driver);
    Some((d.driver, driver.object, driver.is_internal()))
}

/// Where the completion of a threaded IRP could not run, or nobody would see it.
pub(super) fn check_threaded(k: &Kernel, irp: Irp) -> Broken {
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
pub(super) fn check_own(sl: Sl) -> Broken {
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
pub(super) fn check_next(k: &Kernel, next: Sl) -> Broken {
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

/// What a dispatch routine's return value must agree with.
pub(super) fn check_return(irp: Irp, index: usize, status: NtStatus) {
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

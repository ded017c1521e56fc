//! The way of an IRP: down through the dispatch routines, up through the completion routines, and the
//! end of it.

use super::checks::{
    Broken, check_completion, check_forward, check_next, check_own, check_return, check_threaded,
    device_of,
};
use super::packet::new_irp;
use super::{
    DEVICE_CONTROL, Frame, INTERNAL_DEVICE_CONTROL, Maker, PNP, POWER, Running, SYSTEM_CONTROL,
    SystemBuffer,
};
use crate::mem::{Kind, State, Va, poke, poke_bytes};
use crate::nt::types::{
    Dev, Drv, Irp, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED, SL_SIZE, Sl,
};
use crate::nt::{DISPATCH, Entry, PASSIVE, guest, ke, mm};
use crate::state::{Kernel, fail, status_of, with};
use crate::trace::EventKind;
use crate::{NtStatus, rules, sched};

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
pub(super) fn collect(irp: Va) -> (NtStatus, usize, Vec<u8>) {
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

/// What a driver object's table holds where the driver put nothing.
pub(crate) extern "efiapi" fn invalid_device_request(_device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    i.set_status(NtStatus::INVALID_DEVICE_REQUEST);
    i.set_information(0);
    finish(irp);
    NtStatus::INVALID_DEVICE_REQUEST.raw()
}

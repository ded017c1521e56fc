//! A URB's way: submission, waiting, cancellation, completion.

use std::rc::Rc;

use parscan_models::Nanos;

use super::bus::{Step, frame, interval, last_packet, step};
use super::check::{self, Work};
use super::layout::{BUFFER_LENGTH, STATUS, function_name, usbd};
use super::{Flight, Urb};
use crate::NtStatus;
use crate::iomgr;
use crate::mem::{Va, peek_bytes, poke};
use crate::nt::types::{Irp, SL_PENDING_RETURNED};
use crate::nt::{DISPATCH, ke, mm};
use crate::rules;
use crate::sched::{self, ThreadKind};
use crate::state::{Kernel, fail, with};
use crate::trace::EventKind;

/// `IOCTL_INTERNAL_USB_SUBMIT_URB`. Gives what the dispatch routine returns.
pub(super) fn submit(pdo: Va, irp: Irp) -> NtStatus {
    crate::points::reach(crate::Point::Urb);
    let urb = irp.sl().arg1();
    let irql = ke::current_irql();
    let plan = with(|k| {
        let device = k.usb.devices.get(&pdo)?;
        Some(check::plan(k, device, urb, irql))
    });
    let plan = match plan {
        Some(Ok(plan)) => plan,
        Some(Err((rule, what))) => fail(rule, what),
        None => fail(rules::UNSUPPORTED, "URB to a PDO without a USB device"),
    };
    let (number, at_once) = with(|k| {
        let number = record(k, pdo, urb, irql, &plan);
        // A test that wants this URB gets its turn before the bus does anything.
        let wanted = k.sched.hook_at_urb(number);
        let now = k.now;
        let mut buffer = plan.buffer;
        let mut view = None;
        if let Some(b) = &buffer
            && b.mdl != 0
            && k.usb.maps
        {
            mm::map_partial(k, b.mdl);
        }
        if let Some(b) = &mut buffer
            && let Some((va, mapped)) = mm::device_view(k, b.mdl)
        {
            b.va = va;
            view = Some(mapped);
        }
        let deadline = (plan.timeout != 0).then(|| now + u64::from(plan.timeout) * 1_000_000);
        k.usb.flights.insert(
            number,
            Flight {
                pdo,
                irp: irp.0,
                urb,
                length: plan.length,
                hash: check::hash(urb, plan.length),
                lane: plan.work.lane(),
                work: plan.work,
                has_buffer: plan.shape.has_buffer(),
                buffer,
                view,
                done: 0,
                end: (irp.cancel() != 0).then_some(usbd::CANCELED),
                deadline,
            },
        );
        let lucky = k.rng.below(4) == 0 && k.config.urbs_in_call;
        let free = k.usb.is_first(number);
        (number, lucky && free && !wanted)
    });
    if at_once && let Some(status) = run_at_once(number) {
        return complete(number, status, true);
    }
    let sl = irp.sl();
    sl.set_control(sl.control() | SL_PENDING_RETURNED);
    irp.set_cancel_routine(cancel as *const () as usize);
    with(|k| {
        let body = Box::new(move || fly(number));
        k.sched.spawn("USB", ThreadKind::Caller, 0, body)
    });
    NtStatus::PENDING
}

fn record(k: &mut Kernel, pdo: Va, urb: Va, irql: u8, plan: &check::Plan) -> u64 {
    k.usb.count += 1;
    let number = k.usb.count;
    let entry = Urb {
        number,
        node: k.usb.devices[&pdo].node,
        at: k.now,
        irql,
        address: urb,
        function: plan.function,
        sent: peek_bytes(urb, plan.length),
        back: Vec::new(),
        endpoint: plan.endpoint,
        setups: Vec::new(),
        data: Vec::new(),
        usbd_status: usbd::PENDING,
        status: NtStatus::PENDING,
        synchronous: false,
        done: None,
    };
    k.event(EventKind::Urb {
        number,
        text: format!("-> {}", entry.start_line()),
    });
    if k.usb.log.len() < k.config.trace_limit {
        k.usb.log.push(entry);
    }
    number
}

/// The cancel routine of a pending URB's IRP. The URB ends from the bus's own thread.
extern "efiapi" fn cancel(_device: Va, irp: Va) {
    with(|k| {
        if let Some(f) = k.usb.flights.values_mut().find(|f| f.irp == irp) {
            f.end.get_or_insert(usbd::CANCELED);
        }
    });
    ke::release_cancel(Irp(irp).cancel_irql());
}

/// Does what can be done within one frame without waiting.
fn run_at_once(number: u64) -> Option<u32> {
    if with(|k| k.usb.end(number)).is_some() {
        return None;
    }
    match step(number) {
        Step::Done(status) => Some(status),
        _ => None,
    }
}

/// A URB on its way, in a thread of its own.
fn fly(number: u64) {
    let over = move |k: &Kernel| k.usb.end(number).is_some();
    let status = loop {
        if with(|k| over(k)) {
            break last_frame(number);
        }
        if !with(|k| k.usb.is_first(number)) {
            sched::wait("its turn on a USB pipe", None, move |k| {
                k.usb.is_first(number) || over(k)
            });
            continue;
        }
        let (fresh, cost) = with(|k| (k.usb.flights[&number].done == 0, first_cost(k, number)));
        if fresh {
            pause(number, cost);
            if with(|k| over(k)) {
                continue;
            }
        }
        if let Some(status) = drive(number) {
            break status;
        }
    };
    complete(number, status, false);
}

/// The status of a URB that was ended from outside.
fn last_frame(number: u64) -> u32 {
    let (end, late) = with(|k| {
        let end = k.usb.end(number).unwrap_or(usbd::CANCELED);
        let late = k.usb.cancels_late && k.usb.is_first(number);
        (end, late && end == usbd::CANCELED)
    });
    match late.then(|| last_packet(number)).flatten() {
        Some(Step::Done(status)) => status,
        _ => end,
    }
}

/// Steps until the URB is done (its status) or ended from outside (`None`).
fn drive(number: u64) -> Option<u32> {
    loop {
        if with(|k| k.usb.end(number)).is_some() {
            return None;
        }
        match step(number) {
            Step::Done(status) => return Some(status),
            Step::Pause(time) => pause(number, time),
            Step::Wait(until) => {
                if let Some(status) = wait_for_device(number, until) {
                    return Some(status);
                }
            }
        }
    }
}

/// Bus time before anything can have happened.
fn first_cost(k: &Kernel, number: u64) -> Nanos {
    let flight = &k.usb.flights[&number];
    let Some(device) = k.usb.devices.get(&flight.pdo) else {
        return 0;
    };
    let (period, packets) = frame(device.speed);
    match &flight.work {
        Work::Transfer { pipe, .. } if pipe.endpoint.attributes & 3 == 3 => {
            interval(device.speed, pipe.endpoint.interval)
        }
        Work::Transfer { .. } => period,
        Work::Control { .. } => {
            let data = flight.buffer.as_ref().map_or(0, |b| b.len.div_ceil(64));
            period * (data + 3).div_ceil(packets) as Nanos
        }
        _ => 1000,
    }
}

fn pause(number: u64, time: Nanos) {
    let until = with(|k| k.now + time);
    sched::wait("the USB bus", Some(until), move |k| {
        k.usb.end(number).is_some()
    });
}

/// Waits while the device answers NAK. Gives a status if the request's own time is up.
fn wait_for_device(number: u64, until: Option<Nanos>) -> Option<u32> {
    let (function, endpoint, deadline, now) = with(|k| {
        let f = k.usb.flights.get(&number)?;
        let function = Rc::clone(&k.usb.devices.get(&f.pdo)?.function);
        let endpoint = match &f.work {
            Work::Transfer { pipe, .. } => pipe.endpoint.address,
            _ => 0,
        };
        Some((function, endpoint, f.deadline, k.now))
    })?;
    if deadline.is_some_and(|d| d <= now) {
        return Some(usbd::TIMEOUT);
    }
    let seen = function.borrow().ready_at(now, endpoint);
    let until = [until, deadline].into_iter().flatten().min();
    sched::wait("a USB device", until, move |k| {
        let f = function.borrow();
        let next = f.ready_at(k.now, endpoint);
        k.usb.end(number).is_some()
            || !f.attached()
            // Already asked at "now" and refused: only time helps.
            || next != seen && seen.is_none_or(|t| t > now)
    });
    None
}

/// `IoStatus.Status` for a `USBD_STATUS`.
const fn status_of(status: u32) -> NtStatus {
    match status {
        usbd::SUCCESS => NtStatus::SUCCESS,
        usbd::CANCELED => NtStatus::CANCELLED,
        usbd::DEVICE_GONE => NtStatus::NO_SUCH_DEVICE,
        usbd::NOT_SUPPORTED => NtStatus::NOT_SUPPORTED,
        usbd::TIMEOUT => NtStatus::IO_TIMEOUT,
        usbd::INVALID_PARAMETER
        | usbd::INVALID_CONFIGURATION_DESCRIPTOR
        | usbd::INTERFACE_NOT_FOUND
        | usbd::BUFFER_TOO_SMALL
        | usbd::BAD_NUMBER_OF_ENDPOINTS => NtStatus::INVALID_PARAMETER,
        _ => NtStatus::UNSUCCESSFUL,
    }
}

/// The URB must still be there, and as it was submitted; its OUT data too.
pub(super) fn check_intact(number: u64) {
    let broken = with(|k| {
        let f = k.usb.flights.get(&number)?;
        let what = k.usb.log.get(usize::try_from(number).ok()? - 1);
        let name = what.map_or("a URB", |u| function_name(u.function));
        if let Err(why) = check::resident(k, f.urb, f.length) {
            return Some((rules::URB_FREED, format!("{name}: {why}")));
        }
        if check::hash(f.urb, f.length) != f.hash {
            return Some((rules::URB_TOUCHED, name.to_owned()));
        }
        let b = f.buffer.as_ref().filter(|b| b.len > 0)?;
        if b.mdl != 0 {
            let gone = k
                .mem
                .contains(b.mdl)
                .then(|| check::resident(k, b.mdl, 0x30));
            let why = gone?.err()?;
            return Some((
                rules::URB_FREED,
                format!("{name}: TransferBufferMDL: {why}"),
            ));
        }
        if let Err(why) = check::resident(k, b.va, b.len) {
            return Some((rules::URB_FREED, format!("{name}: transfer buffer: {why}")));
        }
        if !b.is_in && b.hash != 0 && check::hash(b.va, b.len) != b.hash {
            return Some((rules::URB_TOUCHED, format!("{name}: data to be sent")));
        }
        None
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
}

/// Writes the results and gives the IRP back, at `DISPATCH_LEVEL`.
fn complete(number: u64, usbd_status: u32, synchronous: bool) -> NtStatus {
    check_intact(number);
    let Some(flight) = with(|k| k.usb.flights.remove(&number)) else {
        return NtStatus::NO_SUCH_DEVICE;
    };
    if let Some(view) = &flight.view
        && !with(|k| mm::end_device_view(k, view))
    {
        fail(rules::URB_FREED, "pages of TransferBufferMDL");
    }
    let status = status_of(usbd_status);
    poke(flight.urb + STATUS, usbd_status);
    if flight.has_buffer {
        let done = u32::try_from(flight.done).unwrap_or(u32::MAX);
        poke(flight.urb + BUFFER_LENGTH, done);
    }
    with(|k| {
        let now = k.now;
        let back = peek_bytes(flight.urb, flight.length);
        let mut line = None;
        if let Some(entry) = k.usb.entry(number) {
            entry.back = back;
            entry.usbd_status = usbd_status;
            entry.status = status;
            entry.synchronous = synchronous;
            entry.done = Some(now);
            line = Some(entry.end_line());
        }
        let text = format!("<- {}", line.unwrap_or_else(|| status.to_string()));
        k.event(EventKind::Urb { number, text });
    });
    let irp = Irp(flight.irp);
    irp.set_cancel_routine(0);
    irp.set_status(status);
    irp.set_information(0);
    let irql = ke::current_irql();
    ke::set_irql(DISPATCH);
    iomgr::finish(irp.0);
    ke::set_irql(irql);
    status
}

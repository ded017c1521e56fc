//! The bus: control transfers, packets, and what a URB does between them.

use std::rc::Rc;

use parscan_models::{Answer, Nanos, Setup, Speed};

use super::check::{self, Then, Work};
use super::layout::{SHORT_TRANSFER_OK, usbd};
use super::run::check_intact;
use super::{Pipe, SharedFunction, report_gone};
use crate::mem::{Va, peek_bytes, poke, poke_bytes};
use crate::rules;
use crate::state::{Kernel, fail, with};

/// Length of a frame or microframe, and how many packets of a bulk pipe fit in.
pub(super) const fn frame(speed: Speed) -> (Nanos, usize) {
    match speed {
        Speed::Full => (1_000_000, 19),
        Speed::High => (125_000, 13),
        // 62,500 bytes after 8b/10b coding; headers, acknowledgements and credits take a fifth.
        Speed::Super => (125_000, 48),
    }
}

/// Time between two polls of an interrupt endpoint.
pub(super) fn interval(speed: Speed, interval: u8) -> Nanos {
    match speed {
        Speed::Full => 1_000_000 * Nanos::from(interval.max(1)),
        Speed::High | Speed::Super => 125_000 << (interval.clamp(1, 16) - 1),
    }
}

/// What a step of a URB comes to.
pub(super) enum Step {
    Done(u32),
    /// The frame is full.
    Pause(Nanos),
    /// The device says NAK, until this time or until something happens.
    Wait(Option<Nanos>),
}

/// Goes on with a URB as far as one frame allows.
pub(super) fn step(number: u64) -> Step {
    let Some((work, function, speed, pdo, now)) = with(|k| {
        let f = k.usb.flights.get(&number)?;
        let d = k.usb.devices.get(&f.pdo)?;
        let function = Rc::clone(&d.function);
        Some((f.work.clone(), function, d.speed, f.pdo, k.now))
    }) else {
        return Step::Done(usbd::DEVICE_GONE);
    };
    if !matches!(work, Work::Answer(_)) && !function.borrow().attached() {
        report_gone(pdo);
        return Step::Pause(0);
    }
    match work {
        Work::Answer(status) => Step::Done(status),
        Work::Frame => {
            let number_of = u32::try_from(now / 1_000_000).unwrap_or(u32::MAX);
            answer_in_urb(number, |urb| poke(urb + 0x18, number_of));
            Step::Done(usbd::SUCCESS)
        }
        Work::Reset { pipe } => {
            with(|k| set_halt(k, pdo, pipe, false));
            Step::Done(usbd::SUCCESS)
        }
        Work::Abort { pipe } => with(|k| {
            k.usb.end_all(pdo, Some(pipe), number, usbd::CANCELED);
            // It may be over before those that it ends.
            let busy = k.usb.busy_on(pdo, pipe).is_some_and(|n| n < number);
            if busy && k.rng.below(2) == 0 {
                Step::Pause(1000)
            } else {
                Step::Done(usbd::SUCCESS)
            }
        }),
        Work::Control { setups, then } => control(number, pdo, now, &function, setups, then),
        Work::Transfer { pipe, flags } => {
            let halted = with(|k| {
                let d = k.usb.devices.get(&pdo)?;
                Some(d.pipes.iter().find(|p| p.handle == pipe.handle)?.halted)
            });
            if halted == Some(true) {
                return Step::Done(usbd::ENDPOINT_HALTED);
            }
            let mut t = Transfer {
                number,
                pdo,
                pipe,
                flags,
                speed,
                function,
            };
            t.one_frame(now)
        }
    }
}

fn set_halt(k: &mut Kernel, pdo: Va, pipe: Va, halted: bool) {
    if let Some(d) = k.usb.devices.get_mut(&pdo)
        && let Some(p) = d.pipes.iter_mut().find(|p| p.handle == pipe)
    {
        p.halted = halted;
    }
}

/// Notes that a frame was asked for in vain.
fn not_ready(ready: Option<Nanos>, now: Nanos, period: Nanos) -> Step {
    match ready {
        Some(t) if t <= now => Step::Wait(Some(now + period)),
        other => Step::Wait(other),
    }
}

fn control(
    number: u64,
    pdo: Va,
    now: Nanos,
    function: &SharedFunction,
    setups: Vec<Setup>,
    then: Then,
) -> Step {
    if let Some(status) = with(|k| k.usb.breaks_with.take()) {
        return Step::Done(status);
    }
    let ready = function.borrow().ready_at(now, 0);
    if ready.is_none_or(|t| t > now) {
        return Step::Wait(ready);
    }
    let buffer = live_buffer(number);
    let selecting = matches!(then, Then::Select(_));
    let mut done = 0;
    for setup in setups {
        let out = match &buffer {
            Some((va, len)) if !setup.is_in() => peek_bytes(*va, *len),
            _ => Vec::new(),
        };
        with(|k| {
            if let Some(entry) = k.usb.entry(number) {
                entry.setups.push(setup.to_bytes());
            }
        });
        let answer = function.borrow_mut().control(now, setup, &out);
        match answer {
            Answer::Nak => return not_ready(Some(now), now, 1_000_000),
            Answer::Stall if selecting => return Step::Done(usbd::SET_CONFIG_FAILED),
            Answer::Stall => return Step::Done(usbd::STALL_PID),
            Answer::Data(data) if setup.is_in() => {
                let room = buffer.map_or(0, |(_, len)| len);
                if data.len() > room {
                    return Step::Done(usbd::DATA_OVERRUN);
                }
                if let Some((va, _)) = buffer {
                    poke_bytes(va, &data);
                }
                done = data.len();
                note_data(number, &data);
            }
            Answer::Data(_) => {
                done = out.len();
                note_data(number, &out);
            }
        }
    }
    with(|k| {
        if let Some(f) = k.usb.flights.get_mut(&number) {
            f.done = done;
        }
    });
    if !function.borrow_mut().status_stage(now) {
        return Step::Done(if selecting {
            usbd::SET_CONFIG_FAILED
        } else {
            usbd::STALL_PID
        });
    }
    match then {
        Then::Nothing => {}
        Then::Reset(pipe) => with(|k| set_halt(k, pdo, pipe, false)),
        Then::Select(selection) => answer_in_urb(number, |urb| selection.apply(pdo, urb)),
    }
    Step::Done(usbd::SUCCESS)
}

/// Writes members of the URB that only this function has.
fn answer_in_urb(number: u64, write: impl FnOnce(Va)) {
    check_intact(number);
    if let Some(urb) = with(|k| Some(k.usb.flights.get(&number)?.urb)) {
        write(urb);
        with(|k| {
            if let Some(f) = k.usb.flights.get_mut(&number) {
                f.hash = check::hash(f.urb, f.length);
            }
        });
    }
}

fn note_data(number: u64, data: &[u8]) {
    with(|k| {
        if let Some(entry) = k.usb.entry(number) {
            entry.data.extend(data);
        }
    });
}

/// The transfer buffer, which must still be there.
fn live_buffer(number: u64) -> Option<(Va, usize)> {
    let (found, broken) = with(|k| {
        let Some(b) = k
            .usb
            .flights
            .get(&number)
            .and_then(|f| f.buffer.as_ref())
            .filter(|b| b.len > 0)
        else {
            return (None, None);
        };
        let gone = if b.mdl == 0 || k.mem.contains(b.va) {
            check::resident(k, b.va, b.len).err()
        } else {
            None
        };
        (Some((b.va, b.len)), gone)
    });
    if let Some(why) = broken {
        fail(rules::URB_FREED, format!("transfer buffer: {why}"));
    }
    found
}

/// The transaction that a transfer has on the bus is finished, though the device said NAK to the
/// ones before.
pub(super) fn last_packet(number: u64) -> Option<Step> {
    let (transfer, now) = with(|k| {
        let f = k.usb.flights.get(&number)?;
        let Work::Transfer { pipe, flags } = &f.work else {
            return None;
        };
        let d = k.usb.devices.get(&f.pdo)?;
        let transfer = Transfer {
            number,
            pdo: f.pdo,
            pipe: *pipe,
            flags: *flags,
            speed: d.speed,
            function: Rc::clone(&d.function),
        };
        Some((transfer, k.now))
    })?;
    let (va, len) = live_buffer(number).unwrap_or((0, 0));
    if transfer.pipe.endpoint.address & 0x80 != 0 {
        transfer.packet_in(now, va, len)
    } else {
        transfer.packet_out(now, va, len)
    }
}

/// A bulk or interrupt transfer.
struct Transfer {
    number: u64,
    pdo: Va,
    pipe: Pipe,
    flags: u32,
    speed: Speed,
    function: SharedFunction,
}

impl Transfer {
    fn done(&self) -> usize {
        with(|k| k.usb.flights.get(&self.number).map_or(0, |f| f.done))
    }

    fn advance(&self, data: &[u8]) {
        with(|k| {
            if let Some(f) = k.usb.flights.get_mut(&self.number) {
                f.done += data.len();
            }
        });
        note_data(self.number, data);
    }

    fn halt(&self, status: u32) -> Step {
        with(|k| set_halt(k, self.pdo, self.pipe.handle, true));
        Step::Done(status)
    }

    fn one_frame(&mut self, now: Nanos) -> Step {
        let endpoint = self.pipe.endpoint;
        let interrupt = endpoint.attributes & 3 == 3;
        let (mut period, mut packets) = frame(self.speed);
        if interrupt {
            period = interval(self.speed, endpoint.interval);
            packets = 1;
        }
        for _ in 0..packets {
            let ready = self.function.borrow().ready_at(now, endpoint.address);
            if ready.is_none_or(|t| t > now) {
                return Step::Wait(ready);
            }
            let (va, len) = live_buffer(self.number).unwrap_or((0, 0));
            let step = if endpoint.address & 0x80 != 0 {
                self.packet_in(now, va, len)
            } else {
                self.packet_out(now, va, len)
            };
            match step {
                Some(Step::Wait(_)) => return not_ready(Some(now), now, period),
                Some(step) => return step,
                None => {}
            }
        }
        Step::Pause(period)
    }

    /// One packet; `None`: more to come.
    fn packet_in(&self, now: Nanos, va: Va, len: usize) -> Option<Step> {
        if let Some(status) = with(|k| k.usb.breaks_with.take()) {
            return Some(self.halt(status));
        }
        let max = usize::from(self.pipe.endpoint.max_packet);
        let address = self.pipe.endpoint.address;
        let answer = self.function.borrow_mut().packet_in(now, address);
        let data = match answer {
            Answer::Nak => return Some(Step::Wait(None)),
            Answer::Stall => return Some(self.halt(usbd::STALL_PID)),
            Answer::Data(data) => data,
        };
        if data.len() > max {
            return Some(self.halt(usbd::BABBLE_DETECTED));
        }
        let done = self.done();
        let room = len - done;
        let taken = data.len().min(room);
        if taken > 0 {
            poke_bytes(va + done, &data[..taken]);
        }
        self.advance(&data[..taken]);
        if data.len() > room {
            return Some(self.halt(usbd::DATA_OVERRUN));
        }
        let full = done + taken == len;
        if (data.len() < max || data.is_empty()) && !full {
            // UHCI and OHCI stop at a short packet that the URB does not allow; EHCI and xHCI do not care.
            if self.flags & SHORT_TRANSFER_OK == 0 && self.speed == Speed::Full {
                return Some(self.halt(usbd::ERROR_SHORT_TRANSFER));
            }
            return Some(Step::Done(usbd::SUCCESS));
        }
        full.then_some(Step::Done(usbd::SUCCESS))
    }

    fn packet_out(&self, now: Nanos, va: Va, len: usize) -> Option<Step> {
        let max = usize::from(self.pipe.endpoint.max_packet);
        let address = self.pipe.endpoint.address;
        let done = self.done();
        let n = max.min(len - done);
        if n == 0 && len > 0 {
            return Some(Step::Done(usbd::INTERNAL_HC_ERROR));
        }
        let data = peek_bytes(va + done, n);
        let answer = self.function.borrow_mut().packet_out(now, address, &data);
        match answer {
            Answer::Nak => return Some(Step::Wait(None)),
            Answer::Stall => return Some(self.halt(usbd::STALL_PID)),
            Answer::Data(_) => self.advance(&data),
        }
        (done + n == len).then_some(Step::Done(usbd::SUCCESS))
    }
}

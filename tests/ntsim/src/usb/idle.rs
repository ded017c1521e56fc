//! The hub's side of a device that sleeps by itself: idle requests, and signals to wake up.
//!
//! An idle request stays out until the device gets full power, goes, or the request is cancelled. The
//! hub calls back when it has looked around, in a thread of its own or inside `IoCallDriver`, also
//! where the request is being cancelled; the request is not completed before the callback returned.

use crate::iomgr::{self, POWER};
use crate::mem::Va;
use crate::nt::types::{Irp, SL_PENDING_RETURNED, Sl};
use crate::nt::{DISPATCH, Entry, PASSIVE, guest, ke};
use crate::power::{D0, D2, D3, S3, SET_POWER};
use crate::rules;
use crate::sched::{self, ThreadKind, Tid};
use crate::state::{Kernel, fail, with};
use crate::{DevNode, Machine, Nanos, NtStatus};

/// The lowest state that the host controller wakes the system from.
const SYSTEM_WAKE: u32 = S3;
/// The length of `USB_IDLE_CALLBACK_INFO`.
const INFO: usize = 16;

/// What the hub does about idle requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubIdle {
    /// It calls back after this time.
    After(Nanos),
    /// It never finds the time.
    Never,
    /// It completes the request with this status.
    Refuses(NtStatus),
}

/// An idle request that the hub has.
struct Request {
    irp: Va,
    callback: Va,
    context: usize,
    /// What it ends with, as soon as no callback runs.
    end: Option<NtStatus>,
    /// The callback has been called.
    called: bool,
    /// The thread that is in the callback.
    inside: Option<Tid>,
    /// The callback asked for less power: in vain, if there was no memory.
    asked: Option<bool>,
}

/// What the hub keeps of a device that may sleep by itself.
pub(super) struct Sleeper {
    hub: HubIdle,
    request: Option<Request>,
    /// The wait/wake IRP.
    wake: Option<Va>,
    /// The device power state.
    power: u32,
    /// Those that the device had, one after the other.
    powers: Vec<u32>,
    /// Idle requests that came.
    requests: usize,
    /// How often the device was suspended by a callback.
    suspended: usize,
}

/// What is out of a USB device, see [`Machine::usb_idle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsbIdle {
    /// An idle request is.
    pub request: bool,
    /// A wait/wake IRP is.
    pub wake: bool,
    /// Idle requests that came.
    pub requests: usize,
    /// How often the device was suspended by a callback.
    pub suspended: usize,
}

impl Default for Sleeper {
    fn default() -> Self {
        Self {
            hub: HubIdle::After(1_000_000),
            request: None,
            wake: None,
            power: D0,
            powers: Vec::new(),
            requests: 0,
            suspended: 0,
        }
    }
}

fn sleeper(k: &mut Kernel, pdo: Va) -> Option<&mut Sleeper> {
    Some(&mut k.usb.devices.get_mut(&pdo)?.sleeper)
}

/// Ends an IRP of the hub's at `DISPATCH_LEVEL`.
fn complete(irp: Va, status: NtStatus) {
    let i = Irp(irp);
    i.set_cancel_routine(0);
    i.set_status(status);
    let irql = ke::current_irql();
    ke::set_irql(DISPATCH);
    iomgr::finish(irp);
    ke::set_irql(irql);
}

fn pend(irp: Irp, routine: Va) -> i32 {
    let sl = irp.sl();
    sl.set_control(sl.control() | SL_PENDING_RETURNED);
    irp.set_cancel_routine(routine);
    NtStatus::PENDING.raw()
}

// ---- idle requests ----

/// `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION`. Gives what the dispatch routine returns.
pub(super) fn submit(pdo: Va, irp: Irp) -> i32 {
    let sl = irp.sl();
    let (length, info) = (sl.low(1) as usize, sl.arg4());
    let level = ke::current_irql();
    if level > PASSIVE {
        fail(rules::URB_IRQL, format!("idle request at IRQL {level}"));
    }
    let found = with(|k| {
        let d = k.usb.devices.get(&pdo)?;
        let memory = super::check::resident(k, info, INFO).err();
        let broken = memory
            .or((length != INFO).then(|| format!("InputBufferLength {length}")))
            .or((!d.gone && (!d.started || !d.in_d0)).then(|| "the device is not in D0".to_owned()))
            .or(d
                .sleeper
                .request
                .is_some()
                .then(|| "a second one".to_owned()));
        Some((broken, d.gone, d.sleeper.hub))
    });
    let Some((broken, gone, hub)) = found else {
        fail(
            rules::UNSUPPORTED,
            "idle request to a PDO without a USB device",
        );
    };
    if let Some(what) = broken {
        fail(rules::IDLE_REQUEST, what);
    }
    with(|k| {
        if let Some(s) = sleeper(k, pdo) {
            s.requests += 1;
        }
    });
    let answer = match hub {
        _ if gone => Some(NtStatus::NO_SUCH_DEVICE),
        _ if irp.cancel() != 0 => Some(NtStatus::CANCELLED),
        HubIdle::Refuses(status) => Some(status),
        HubIdle::After(_) | HubIdle::Never => None,
    };
    if let Some(status) = answer {
        complete(irp.0, status);
        return status.raw();
    }
    let (callback, context): (Va, usize) = (crate::mem::peek(info), crate::mem::peek(info + 8));
    let inside = with(|k| {
        if let Some(s) = sleeper(k, pdo) {
            s.request = Some(Request {
                irp: irp.0,
                callback,
                context,
                end: None,
                called: false,
                inside: None,
                asked: None,
            });
        }
        k.note("idle request");
        k.rng.below(4) == 0
    });
    let pending = pend(irp, cancel_idle as *const () as usize);
    if inside && hub == HubIdle::After(0) {
        call_back(pdo);
    }
    with(|k| {
        let body = Box::new(move || hub_thread(pdo, hub));
        k.sched.spawn("hub", ThreadKind::Caller, 0, body)
    });
    pending
}

extern "efiapi" fn cancel_idle(_device: Va, irp: Va) {
    with(|k| {
        for d in k.usb.devices.values_mut() {
            if let Some(r) = d.sleeper.request.as_mut().filter(|r| r.irp == irp) {
                r.end.get_or_insert(NtStatus::CANCELLED);
            }
        }
    });
    ke::release_cancel(Irp(irp).cancel_irql());
}

fn ends(k: &Kernel, pdo: Va) -> bool {
    let device = k.usb.devices.get(&pdo);
    device
        .and_then(|d| d.sleeper.request.as_ref())
        .is_none_or(|r| r.end.is_some())
}

/// Looks around, calls back, and gives the request back in the end.
fn hub_thread(pdo: Va, hub: HubIdle) {
    if let HubIdle::After(time) = hub {
        let until = with(|k| k.now + time);
        sched::wait("a quiet hub", Some(until), move |k| ends(k, pdo));
        // It may not know yet that the driver does not want it any more.
        let unaware = with(|k| {
            let cancelled = |r: &Request| r.end == Some(NtStatus::CANCELLED);
            let known = sleeper(k, pdo)
                .and_then(|s| s.request.as_ref())
                .is_some_and(|r| r.end.is_none() || cancelled(r));
            known && (!ends(k, pdo) || k.rng.below(2) == 0)
        });
        if unaware {
            call_back(pdo);
        }
    }
    sched::wait("the end of an idle request", None, move |k| ends(k, pdo));
    let over = with(|k| sleeper(k, pdo)?.request.take());
    if let Some(r) = over {
        complete(r.irp, r.end.unwrap_or(NtStatus::CANCELLED));
    }
}

/// Calls the driver's callback, once, if the device has full power.
fn call_back(pdo: Va) {
    let call = with(|k| {
        let me = k.sched.current;
        let d = k.usb.devices.get_mut(&pdo)?;
        if d.gone || !d.started || !d.in_d0 {
            return None;
        }
        let r = d.sleeper.request.as_mut().filter(|r| !r.called)?;
        (r.called, r.inside) = (true, Some(me));
        Some((r.callback, r.context))
    });
    let Some((callback, context)) = call else {
        return;
    };
    let entry = Entry::now();
    guest(callback, &[context]);
    entry.check("idle callback");
    let wrong = with(|k| {
        let d = k.usb.devices.get_mut(&pdo)?;
        let r = d.sleeper.request.as_mut()?;
        r.inside = None;
        let asked = r.asked;
        let awake = d.in_d0 && !d.gone && d.started;
        d.sleeper.suspended += usize::from(!awake);
        match asked {
            None if awake => Some("did not ask for D2"),
            Some(true) if awake => Some("returned before the device was in D2"),
            _ => None,
        }
    });
    if let Some(what) = wrong {
        fail(rules::IDLE_CALLBACK, what);
    }
}

/// `PoRequestPowerIrp`, for a device whose callback runs: what it breaks. `refused`: there is no
/// memory for it.
pub(crate) fn asked(
    k: &mut Kernel,
    pdo: Va,
    minor: u8,
    state: u32,
    refused: bool,
) -> Option<String> {
    let me = k.sched.current;
    let r = sleeper(k, pdo)?.request.as_mut()?;
    let inside = r.inside?;
    if minor != SET_POWER {
        return None;
    }
    if state != D2 {
        return Some(format!(
            "D{} asked for while it runs",
            state.wrapping_sub(1)
        ));
    }
    if inside == me && r.asked.replace(!refused).is_some() {
        return Some("two device power IRPs".to_owned());
    }
    None
}

// ---- what happens to the device ----

/// `SET_POWER` of a device power state is at the bus. What it breaks.
pub(super) fn powered(k: &mut Kernel, pdo: Va, state: u32) -> Option<String> {
    let s = sleeper(k, pdo)?;
    s.power = state;
    s.powers.push(state - D0);
    if let Some(r) = &mut s.request {
        match state {
            D0 => drop(r.end.get_or_insert(NtStatus::SUCCESS)),
            D3 => drop(r.end.get_or_insert(NtStatus::POWER_STATE_INVALID)),
            _ => {}
        }
    }
    (state == D3 && s.wake.is_some()).then(|| "D3".to_owned())
}

/// The device is removed or off the cable: what is out ends.
pub(super) fn gone(k: &mut Kernel, pdo: Va) {
    if let Some(r) = sleeper(k, pdo).and_then(|s| s.request.as_mut()) {
        r.end.get_or_insert(NtStatus::CANCELLED);
    }
}

/// What must not be out when a device stops or goes.
pub(super) fn check_left(pdo: Va, what: &str) {
    let (idle, wake) = with(|k| {
        let s = sleeper(k, pdo);
        s.map_or((false, false), |s| (s.request.is_some(), s.wake.is_some()))
    });
    if idle {
        fail(rules::IDLE_LEFT, what);
    }
    if wake {
        fail(rules::WAKE_LEFT, what);
    }
}

// ---- wake-up ----

/// What a device that can wake up says of its power: `DEVICE_CAPABILITIES` at `caps`.
pub(crate) fn capabilities(k: &Kernel, pdo: Va, caps: Va) {
    if can_wake(k, pdo) {
        // S1, S2 and S3 leave it in D2.
        for s in 2..=SYSTEM_WAKE as usize {
            crate::mem::poke(caps + 16 + 4 * s, D2);
        }
        crate::mem::poke(caps + 44, SYSTEM_WAKE);
        crate::mem::poke(caps + 48, D2);
    }
}

fn can_wake(k: &Kernel, pdo: Va) -> bool {
    let device = k.usb.devices.get(&pdo);
    device.is_some_and(|d| d.function.try_borrow().is_ok_and(|f| f.can_wake()))
}

/// `IRP_MN_WAIT_WAKE`. Gives what the dispatch routine returns.
pub(super) fn wait_wake(pdo: Va, irp: Irp, sl: Sl) -> i32 {
    // Parameters.WaitWake.PowerState
    let lowest = sl.low(0);
    let answer = with(|k| {
        let can = can_wake(k, pdo);
        let Some(d) = k.usb.devices.get_mut(&pdo) else {
            return Some(NtStatus::NOT_SUPPORTED);
        };
        let s = &mut d.sleeper;
        let refused = if !can {
            NtStatus::NOT_SUPPORTED
        } else if s.wake.is_some() {
            NtStatus::DEVICE_BUSY
        } else if d.gone || !d.started || s.power > D2 || lowest > SYSTEM_WAKE {
            NtStatus::INVALID_DEVICE_STATE
        } else if irp.cancel() != 0 {
            NtStatus::CANCELLED
        } else {
            s.wake = Some(irp.0);
            k.note("waits for a signal to wake up");
            return None;
        };
        Some(refused)
    });
    match answer {
        Some(status) => {
            complete(irp.0, status);
            status.raw()
        }
        None => pend(irp, cancel_wake as *const () as usize),
    }
}

extern "efiapi" fn cancel_wake(_device: Va, irp: Va) {
    ke::release_cancel(Irp(irp).cancel_irql());
    // The device signalled at the same time: then that is what it ends with.
    let mine = with(|k| {
        let found = k
            .usb
            .devices
            .values_mut()
            .find(|d| d.sleeper.wake == Some(irp));
        found.is_some_and(|d| d.sleeper.wake.take().is_some())
    });
    if mine {
        complete(irp, NtStatus::CANCELLED);
    }
}

impl Machine {
    /// What the hub does about the idle requests of a USB device that come from now on. By default it
    /// calls back after a millisecond.
    pub fn set_hub_idle(&self, node: DevNode, hub: HubIdle) {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            if let Some(s) = sleeper(k, pdo) {
                s.hub = hub;
            }
        });
    }

    /// What the hub has of a USB device.
    #[must_use]
    pub fn usb_idle(&self, node: DevNode) -> UsbIdle {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            sleeper(k, pdo).map_or_else(UsbIdle::default, |s| UsbIdle {
                request: s.request.is_some(),
                wake: s.wake.is_some(),
                requests: s.requests,
                suspended: s.suspended,
            })
        })
    }

    /// The device power state that a USB device has: 0 is D0.
    #[must_use]
    pub fn usb_power(&self, node: DevNode) -> u32 {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            sleeper(k, pdo).map_or(D3, |s| s.power) - D0
        })
    }

    /// The device power states that a USB device was put in since it was plugged in: 0 is D0.
    #[must_use]
    pub fn usb_powers(&self, node: DevNode) -> Vec<u32> {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            sleeper(k, pdo).map_or_else(Vec::new, |s| s.powers.clone())
        })
    }

    /// A USB device that sleeps signals remote wake-up: whether the host listens. If the system
    /// sleeps, it is for [`Machine::wake`] to wake it.
    #[must_use]
    pub fn signal_wake(&self, node: DevNode) -> bool {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            let Some(s) = sleeper(k, pdo).filter(|s| s.power == D2) else {
                return false;
            };
            let Some(irp) = s.wake.take() else {
                return false;
            };
            k.note("signals remote wake-up");
            let body = Box::new(move || {
                // Its cancel routine may be about to run: it finds that it is not its own any more.
                complete(irp, NtStatus::SUCCESS);
            });
            k.sched.spawn("hub", ThreadKind::Caller, 0, body);
            true
        })
    }
}

/// Whether this is `IRP_MN_WAIT_WAKE`.
pub(super) fn is_wait_wake(sl: Sl) -> bool {
    (sl.major(), sl.minor()) == (POWER, 0)
}

//! USB: a bus driver whose devices answer URBs, and what stands behind it.
//!
//! [`Machine::plug_usb`](crate::Machine::plug_usb) makes a device node of the enumerator `USB` with
//! a model on its cable. Its PDO answers `IOCTL_INTERNAL_USB_SUBMIT_URB` and the port requests.
//!
//! | file | what lives there |
//! |---|---|
//! | `layout` | URBs in memory, function and status codes |
//! | `check` | what must hold of a URB when it is submitted |
//! | `config` | selecting configurations and interfaces |
//! | `run` | a URB's way: submission, waiting, cancellation, completion |
//! | `bus` | what goes over the bus for it |
//! | `idle` | idle requests, and signals to wake up |
//! | `log` | what tests see of every URB |
//! | `api` | the test's side |
//!
//! The stack is strict with the driver and lenient with the device: it opens pipes as the
//! descriptors ask, also with a packet size of zero, so that the driver meets what the oldest host
//! stacks let through.
//!
//! Every URB takes bus time: 13 packets a microframe on high speed, 48 on super speed, 19 a frame on
//! full speed, and
//! an interrupt endpoint one packet in its interval. Completion comes at `DISPATCH_LEVEL`; what the
//! device can answer at once is sometimes, by the seed, completed inside `IoCallDriver`.

mod api;
mod bus;
mod check;
mod config;
pub(crate) mod idle;
pub mod layout;
mod log;
mod run;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use parscan_models::{Endpoint, Nanos, Setup, Speed, UsbFunction};

pub use idle::{HubIdle, UsbIdle};
pub use log::Urb;

use crate::iomgr::{self, INTERNAL_DEVICE_CONTROL, PNP, POWER, REMOVE, STOP, SURPRISE};
use crate::mem::{Va, peek, poke};
use crate::nt::mm::DeviceView;
use crate::nt::types::{Irp, Sl};
use crate::nt::{PASSIVE, ke};
use crate::rules;
use crate::sched::{self, ThreadKind};
use crate::state::{Kernel, fail, with};
use crate::{DevNode, NtStatus, pnp};
use check::{Buffer, Work};

/// A USB device model that the test keeps a hand on.
pub type SharedFunction = Rc<RefCell<dyn UsbFunction>>;

/// An open pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pipe {
    handle: Va,
    interface: u8,
    endpoint: Endpoint,
    halted: bool,
}

struct Device {
    node: DevNode,
    function: SharedFunction,
    speed: Speed,
    started: bool,
    in_d0: bool,
    gone: bool,
    /// Handle and `bConfigurationValue` of the selected configuration.
    configuration: Option<(Va, u8)>,
    /// Its descriptor, as the driver gave it.
    descriptor: Vec<u8>,
    pipes: Vec<Pipe>,
    sleeper: idle::Sleeper,
}

/// A URB that the stack has.
struct Flight {
    pdo: Va,
    irp: Va,
    urb: Va,
    length: usize,
    hash: u64,
    work: Work,
    buffer: Option<Buffer>,
    /// The bus's way to a buffer in user pages.
    view: Option<DeviceView>,
    has_buffer: bool,
    /// The pipe whose transfers go one after the other; 0 = the default pipe, `None` = needs none.
    lane: Option<Va>,
    /// Bytes transferred.
    done: usize,
    /// `USBD_STATUS` with which it ends early: cancelled, aborted or gone.
    end: Option<u32>,
    deadline: Option<Nanos>,
}

#[derive(Default)]
pub(crate) struct Usb {
    /// Number of the bus driver.
    pub bus: usize,
    /// URBs submitted since boot.
    pub count: u64,
    devices: BTreeMap<Va, Device>,
    flights: BTreeMap<u64, Flight>,
    log: Vec<Urb>,
    handles: usize,
    /// [`Machine::cancel_late`](crate::Machine::cancel_late)
    cancels_late: bool,
    /// [`Machine::reverse_pipes`](crate::Machine::reverse_pipes)
    reverses: bool,
    /// [`Machine::map_transfers`](crate::Machine::map_transfers)
    maps: bool,
    /// [`Machine::break_transfer`](crate::Machine::break_transfer)
    breaks_with: Option<u32>,
    replugged: Vec<(DevNode, DevNode)>,
}

impl Usb {
    /// A handle as drivers see it: opaque, and no address.
    fn new_handle(&mut self) -> Va {
        self.handles += 1;
        0xFFFF_E000_0000_0000 | self.handles << 5
    }

    fn entry(&mut self, number: u64) -> Option<&mut Urb> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.log.get_mut(index)
    }

    fn busy(&self, pdo: Va) -> Option<u64> {
        self.flights
            .iter()
            .find(|(_, f)| f.pdo == pdo)
            .map(|(number, _)| *number)
    }

    /// What the driver has pending on a pipe.
    fn busy_on(&self, pdo: Va, pipe: Va) -> Option<u64> {
        self.flights
            .iter()
            .find(|(_, f)| f.pdo == pdo && f.lane == Some(pipe))
            .map(|(number, _)| *number)
    }

    fn end(&self, number: u64) -> Option<u32> {
        self.flights.get(&number)?.end
    }

    /// Whether no earlier URB is on the same pipe.
    fn is_first(&self, number: u64) -> bool {
        let Some(mine) = self.flights.get(&number) else {
            return true;
        };
        mine.lane.is_none()
            || self
                .flights
                .range(..number)
                .all(|(_, f)| f.pdo != mine.pdo || f.lane != mine.lane)
    }

    /// Ends every URB of a device, or of one of its pipes, that came before number `before`.
    fn end_all(&mut self, pdo: Va, pipe: Option<Va>, before: u64, status: u32) {
        for (_, f) in self.flights.range_mut(..before) {
            if f.pdo == pdo && (pipe.is_none() || f.lane == pipe) {
                f.end.get_or_insert(status);
            }
        }
    }
}

/// Puts a device with `function` behind it on the bus.
fn plug(k: &mut Kernel, spec: crate::DeviceSpec, function: SharedFunction) -> DevNode {
    let speed = function.borrow().speed();
    let bus = crate::DriverId(k.usb.bus);
    let node = pnp::plug_on(k, bus, spec);
    let pdo = k.pnp.nodes[node.0].pdo;
    k.usb.devices.insert(
        pdo,
        Device {
            node,
            function,
            speed,
            started: false,
            in_d0: true,
            gone: false,
            configuration: None,
            descriptor: Vec::new(),
            pipes: Vec::new(),
            sleeper: idle::Sleeper::default(),
        },
    );
    node
}

/// The device is off the cable: what is pending ends with `USBD_STATUS_DEVICE_GONE`.
pub(crate) fn disconnect(k: &mut Kernel, pdo: Va) {
    if let Some(d) = k.usb.devices.get_mut(&pdo)
        && !d.gone
    {
        d.gone = true;
        k.usb
            .end_all(pdo, None, u64::MAX, layout::usbd::DEVICE_GONE);
        idle::gone(k, pdo);
        k.note("USB device off the cable");
    }
}

/// How long the hub takes to report a device that is gone, nanoseconds.
const HUB_DELAY: Nanos = 10_000_000;

/// The host noticed by itself that the device is gone: the hub tells the PnP manager.
fn report_gone(pdo: Va) {
    with(|k| {
        let Some(node) = k.usb.devices.get(&pdo).filter(|d| !d.gone).map(|d| d.node) else {
            return;
        };
        disconnect(k, pdo);
        let until = k.now + HUB_DELAY;
        let body = Box::new(move || {
            sched::wait("the hub", Some(until), |_| false);
            pnp::exclusive(|| pnp::unplug(node));
        });
        k.sched.spawn("hub", ThreadKind::Caller, 0, body);
    });
}

/// The bus driver's dispatch routine. What is not USB's own is done as on every bus.
pub(crate) extern "efiapi" fn dispatch(device: Va, irp: Va) -> i32 {
    let i = Irp(irp);
    let sl = i.sl();
    match (sl.major(), sl.minor()) {
        (INTERNAL_DEVICE_CONTROL, _) => {
            let code = sl.low(2);
            if code == layout::IOCTL_INTERNAL_USB_SUBMIT_URB {
                return run::submit(device, i).raw();
            }
            if code == layout::IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION {
                return idle::submit(device, i);
            }
            if let Some(status) = port_request(device, sl, code) {
                i.set_status(status);
                i.set_information(0);
                iomgr::finish(irp);
                return status.raw();
            }
        }
        (PNP, minor) => pnp_minor(device, sl, minor),
        // SET_POWER of a device state
        (POWER, 2) if sl.low(1) == 1 => power(device, sl.low(2)),
        _ if idle::is_wait_wake(sl) => return idle::wait_wake(device, i, sl),
        _ => {}
    }
    pnp::bus_dispatch(device, irp)
}

fn refuse_pending(device: Va, what: &str) {
    if let Some(number) = with(|k| k.usb.busy(device)) {
        fail(
            rules::URB_PENDING,
            format!("{what} while URB {number} is pending"),
        );
    }
}

fn pnp_minor(device: Va, sl: Sl, minor: u8) {
    match minor {
        0 => with(|k| {
            if let Some(d) = k.usb.devices.get_mut(&device) {
                (d.started, d.in_d0) = (true, true);
            }
            idle::powered(k, device, 1);
        }),
        STOP | REMOVE => {
            refuse_pending(device, "IRP_MN_REMOVE_DEVICE or IRP_MN_STOP_DEVICE");
            idle::check_left(device, "IRP_MN_REMOVE_DEVICE or IRP_MN_STOP_DEVICE");
            with(|k| {
                if let Some(d) = k.usb.devices.get_mut(&device) {
                    d.started = false;
                    d.configuration = None;
                    d.pipes.clear();
                }
            });
        }
        SURPRISE => with(|k| disconnect(k, device)),
        // QUERY_CAPABILITIES: Removable
        9 => {
            let caps = sl.arg1();
            poke(caps + 4, peek::<u32>(caps + 4) | 1 << 4);
        }
        _ => {}
    }
}

fn power(device: Va, state: u32) {
    const D0: u32 = 1;
    if state != D0 {
        refuse_pending(device, "power-down");
    }
    let broken = with(|k| {
        let d = k.usb.devices.get_mut(&device)?;
        d.in_d0 = state == D0;
        idle::powered(k, device, state)
    });
    if let Some(what) = broken {
        fail(rules::WAKE_LEFT, what);
    }
}

/// The requests to the hub's port; `None`: not one of them.
fn port_request(device: Va, sl: Sl, code: u32) -> Option<NtStatus> {
    let what = match code {
        layout::IOCTL_INTERNAL_USB_GET_PORT_STATUS => "IOCTL_INTERNAL_USB_GET_PORT_STATUS",
        layout::IOCTL_INTERNAL_USB_RESET_PORT => "IOCTL_INTERNAL_USB_RESET_PORT",
        layout::IOCTL_INTERNAL_USB_CYCLE_PORT => "IOCTL_INTERNAL_USB_CYCLE_PORT",
        _ => return None,
    };
    if ke::current_irql() > PASSIVE {
        fail(rules::URB_IRQL, what);
    }
    let (function, node, gone) = with(|k| {
        let d = k.usb.devices.get(&device)?;
        Some((Rc::clone(&d.function), d.node, d.gone))
    })?;
    let attached = !gone && function.borrow().attached();
    if code == layout::IOCTL_INTERNAL_USB_GET_PORT_STATUS {
        // USBD_PORT_ENABLED, USBD_PORT_CONNECTED
        poke(sl.arg1(), if attached { 3_u32 } else { 0 });
        return Some(NtStatus::SUCCESS);
    }
    refuse_pending(device, what);
    if !attached {
        return Some(NtStatus::NO_SUCH_DEVICE);
    }
    if code == layout::IOCTL_INTERNAL_USB_RESET_PORT {
        return Some(reset_port(device, &function));
    }
    with(|k| {
        let body = Box::new(move || {
            let spec = with(|k| k.pnp.nodes[node.0].spec.clone());
            pnp::exclusive(|| pnp::unplug(node));
            with(|k| {
                let now = k.now;
                function.borrow_mut().bus_reset(now);
                let fresh = plug(k, spec, function);
                k.usb.replugged.push((node, fresh));
            });
        });
        k.sched.spawn("hub", ThreadKind::Caller, 0, body);
    });
    Some(NtStatus::SUCCESS)
}

/// A bus reset of 50 ms; then the same configuration again. Handles stay valid.
fn reset_port(device: Va, function: &SharedFunction) -> NtStatus {
    let until = with(|k| k.now + 50_000_000);
    sched::wait("a port reset", Some(until), |_| false);
    let now = with(|k| k.now);
    function.borrow_mut().bus_reset(now);
    let value = with(|k| {
        let d = k.usb.devices.get_mut(&device)?;
        for pipe in &mut d.pipes {
            pipe.halted = false;
        }
        Some(d.configuration?.1)
    });
    if let Some(value) = value {
        let setup = Setup {
            request: 9,
            value: value.into(),
            ..Setup::default()
        };
        if !matches!(
            function.borrow_mut().control(now, setup, &[]),
            parscan_models::Answer::Data(_)
        ) {
            return NtStatus::UNSUCCESSFUL;
        }
    }
    NtStatus::SUCCESS
}

//! The I/O manager: IRPs on their way through driver stacks, and the user's side of them.

mod cancel;
mod checks;
mod dispatch;
mod file;
mod packet;
mod request;

use crate::mem::{Kind, State, Va};
use crate::state::{DriverId, Kernel, Site};
use crate::{Caller, Nanos, NtStatus, sched};
use std::collections::BTreeMap;

pub(crate) use cancel::{cancel, cancelled_left, overdue, requests_of};
pub(crate) use dispatch::{
    call_driver, complete, finish, finished, invalid_device_request, prepare, send, top_of,
    wait_done,
};
pub(crate) use file::{canonical, close, is_file, last_reference, open, open_for_driver};
pub(crate) use packet::{allocate, build_control, free, reuse, system_buffer};
pub(crate) use request::{
    Buffers, Finished, Request, Transfer, do_direct_io, request, request_at, restrict,
    use_at_dispatch,
};

// `IRP_MJ_` codes.
numbers! { pub(crate) u8:
    CREATE => 0,
    CLOSE => 2,
    READ => 3,
    WRITE => 4,
    QUERY_INFORMATION => 5,
    DEVICE_CONTROL => 0x0E,
    INTERNAL_DEVICE_CONTROL => 0x0F,
    CLEANUP => 0x12,
    POWER => 0x16,
    SYSTEM_CONTROL => 0x17,
    PNP => 0x1B,
}

// `IRP_MN_` codes of `PNP`.
numbers! { pub(crate) u8:
    QUERY_REMOVE => 1,
    REMOVE => 2,
    CANCEL_REMOVE => 3,
    STOP => 4,
    QUERY_STOP => 5,
    CANCEL_STOP => 6,
    QUERY_CAPABILITIES => 9,
    SURPRISE => 0x17,
}

/// `sizeof(DEVICE_CAPABILITIES)`
const CAPABILITIES_SIZE: u16 = 64;

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

    /// Drops the record of an IRP that will not be asked for again.
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

/// Whether a block is a live system buffer or IRP: what tests of the machine look at.
pub(crate) fn live_irps(k: &Kernel) -> usize {
    k.mem
        .live_blocks()
        .filter(|b| b.kind == Kind::Irp && b.state == State::Live)
        .count()
}

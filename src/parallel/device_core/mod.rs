//! How a parallel device is used: by requests of programs, which take the port one at a time, and
//! by a class driver, which locks it and calls the routines of parallel.h.
//!
//! | module | what it does with the device |
//! |---|---|
//! | `opens` | the one open, start and removal |
//! | `session` | an operation on the port: taken, selected, in the mode of the session |
//! | `class_driver` | the internal requests of parallel.h: connection and lock |
//! | `callbacks` | the routines of parallel.h |
//! | `programs` | port programs: the claim, and who runs them |
//! | `requests` | what programs ask for |

mod callbacks;
mod class_driver;
mod opens;
pub(super) mod programs;
pub(super) mod requests;
mod session;

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use requests::Preferences;

use super::{Place, PortCore, PortNumber};
use crate::{
    DeviceRole,
    ieee1284::Session,
    ioctl::{
        Status,
        parallel::{IeeeModes, NegotiationMask},
    },
    kernel::{
        Blocking, Device, FileId, Mutex, MutexGuard, Owner, Pending, Shared, Slot, SpinLock, Waiter,
    },
};

/// What everybody shares who uses a parallel device: the device object, its worker, and the class
/// driver that has it open, for as long as one of them is there.
pub(crate) struct DeviceCore {
    place: Place,
    port: Shared<PortCore>,
    clients: SpinLock<Clients>,
    /// What the open program has chosen.
    pub(super) preferences: SpinLock<Preferences>,
    /// Modes and addresses of the peripheral, once a request has needed the port. Taken out with
    /// the lock of the peripheral.
    session: Slot<Option<Session>>,
    /// The session is over: the next operation begins another one.
    session_over: AtomicBool,
    /// The modes of the session, as `IOCTL_IEEE1284_GET_MODE` answers them.
    modes: AtomicU32,
    /// The modes that port and peripheral both have; [`NOT_ASKED`]: the session has not asked.
    device_modes: AtomicU32,
    /// For the thread that speaks to the peripheral at this moment.
    peripheral: Mutex,
    lock: PortLock,
    /// What [`PortCore::wakes`] was when the session was used last.
    wakes: AtomicU32,
    /// For the waits of the class driver's calls.
    client: Waiter,
    /// The request that waits for an edge.
    pending: Pending,
    /// For the thread that gives edges to a request.
    edge_order: SpinLock<()>,
}

/// Who uses the device, and the connections (`IOCTL_INTERNAL_PARCLASS_CONNECT`) that were not
/// ended. Whether calls of class drivers go on is changed under the same lock.
struct Clients {
    /// The one open of the device.
    open: Option<FileId>,
    /// A kernel client made it.
    of_kernel: bool,
    /// Connections of the client whose open it is.
    by_open: u32,
    /// Connections of clients without an open of this device: of a class driver that is attached
    /// above it.
    by_others: u32,
    /// The device is started.
    started: bool,
}

impl Clients {
    fn is_open(&self, file: FileId) -> bool {
        self.open == Some(file)
    }

    /// Whether a client's request with this file object is of the client whose open it is.
    /// `IoBuildDeviceIoControlRequest` puts no file object into a request: then it is, if a kernel
    /// client has the device open. A program sends no such request.
    fn is_of_open(&self, file: FileId) -> bool {
        self.is_open(file) || self.of_kernel && self.open.is_some() && file.is_none()
    }

    /// The connections of the client that a request of this file came from.
    fn connections_of(&mut self, file: FileId) -> &mut u32 {
        if self.is_of_open(file) {
            &mut self.by_open
        } else {
            &mut self.by_others
        }
    }

    const fn is_connected(&self) -> bool {
        self.by_open != 0 || self.by_others != 0
    }
}

/// Whether a class driver has locked the port, or a program has claimed it, and by what its lock
/// ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// None has.
    Free,
    /// One that came through this open, whose end is the lock's.
    ByOpen(FileId),
    /// One that is attached above the device.
    ByOther,
    /// The program whose open it is has claimed the port, until it ends.
    ByProgram(FileId),
}

/// [`DeviceCore::device_modes`] before the peripheral was asked.
const NOT_ASKED: u32 = u32::MAX;

/// A [`Lock`], whose kind is looked at without a spin lock: it changes under the lock of the
/// peripheral.
struct PortLock {
    lock: SpinLock<Lock>,
    kind: AtomicU8,
}

impl PortLock {
    const FREE: u8 = 0;
    const CLASS_DRIVER: u8 = 1;
    const PROGRAM: u8 = 2;

    const fn new() -> Self {
        Self {
            lock: SpinLock::new(Lock::Free),
            kind: AtomicU8::new(Self::FREE),
        }
    }

    fn with<R>(&self, section: impl FnOnce(&mut Lock) -> R + Send) -> R {
        let kind = &self.kind;
        self.lock.with(move |lock| {
            let result = section(lock);
            let now = match lock {
                Lock::Free => Self::FREE,
                Lock::ByOpen(_) | Lock::ByOther => Self::CLASS_DRIVER,
                Lock::ByProgram(_) => Self::PROGRAM,
            };
            kind.store(now, Ordering::Release);
            result
        })
    }

    fn is(&self, kind: u8) -> bool {
        self.kind.load(Ordering::Acquire) == kind
    }
}

impl DeviceCore {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(
        device: Device<'_, DeviceRole>,
        place: Place,
        port: Shared<PortCore>,
    ) -> Result<Self, Status> {
        Ok(Self {
            place,
            port,
            clients: SpinLock::new(Clients {
                open: None,
                of_kernel: false,
                by_open: 0,
                by_others: 0,
                started: false,
            }),
            preferences: SpinLock::new(Preferences::DEFAULT),
            session: Slot::try_new(None)?,
            session_over: AtomicBool::new(false),
            modes: AtomicU32::new(word_of(NegotiationMask::DEFAULT)),
            device_modes: AtomicU32::new(NOT_ASKED),
            peripheral: Mutex::try_new()?,
            lock: PortLock::new(),
            wakes: AtomicU32::new(0),
            client: Waiter::try_new()?,
            pending: Pending::try_new(device)?,
            edge_order: SpinLock::new(()),
        })
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    pub(super) fn number(&self) -> PortNumber {
        self.port.number()
    }

    /// Whether the port has no owner at this moment.
    pub(super) fn is_free(&self) -> bool {
        self.port.is_free()
    }

    /// Whether the port has hardware that answers.
    pub(super) fn is_present(&self) -> bool {
        self.port.is_present()
    }

    /// The device as an owner of the port.
    fn owner(&self) -> Owner {
        Owner::Device(self.address())
    }

    #[inline]
    fn free_port(&self) {
        self.port.free_for(self.owner());
    }

    /// The device as one that leaves EPP connected, and as an owner of the port.
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Ends EPP, if it is still connected on behalf of this device.
    fn end_held_epp(&self) {
        // Another owner has ended it, or will.
        if self.port.try_take(self.owner()) {
            self.port.end_held_epp(self.address());
            self.free_port();
        }
    }

    pub(super) fn port(&self) -> &PortCore {
        &self.port
    }

    /// The request that waits for an edge.
    pub(super) const fn pending(&self) -> &Pending {
        &self.pending
    }

    /// For the thread that gives edges to a request.
    pub(super) const fn edge_order(&self) -> &SpinLock<()> {
        &self.edge_order
    }

    /// The lock of the peripheral, after the thread that has it.
    pub(super) fn lock_peripheral_uninterrupted(&self, blocking: Blocking<'_>) -> MutexGuard<'_> {
        self.peripheral.lock_uninterrupted(blocking)
    }

    /// The lock of the peripheral, if it is free.
    pub(super) fn try_lock_peripheral(&self) -> Option<MutexGuard<'_>> {
        self.peripheral.try_lock()
    }

    /// Whether a class driver has locked the port.
    pub(super) fn is_locked(&self) -> bool {
        self.lock.is(PortLock::CLASS_DRIVER)
    }

    /// Whether a program has claimed it.
    pub(super) fn is_claimed(&self) -> bool {
        self.lock.is(PortLock::PROGRAM)
    }
}

impl DeviceCore {
    /// The modes that port and peripheral both have, if the session has asked.
    fn known_device_modes(&self) -> Option<IeeeModes> {
        let modes = self.device_modes.load(Ordering::Acquire);
        u16::try_from(modes).ok().map(IeeeModes::from_bits_retain)
    }
}

/// The modes of both directions in one word.
const fn word_of(modes: NegotiationMask) -> u32 {
    u32::from_le_bytes(modes.to_bytes())
}

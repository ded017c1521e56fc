//! `IOCTL_PARSCAN_WAIT_EDGE`: who watches nAck, when its edges count, and the request that waits.
//!
//! A watch begins with a program's first request and ends with its handle, so that no edge between
//! two requests is lost. While it lasts the chip's interrupt is enabled, by bit 4 of the control
//! register, whenever the port is the program's or free: another client, and a transfer, have
//! the register and nAck for themselves.

use core::sync::atomic::{AtomicBool, Ordering};

use super::{DeviceCore, Hardware, Place, PortCore};
use crate::{
    ieee1284::{Dcr, Port, Register},
    ioctl::{
        Status,
        parallel::port_programs::{EdgesHeader, FOREVER},
    },
    kernel::{
        Disposition, FileId, InterruptResource, Irp, Key, Passive, PendingOwner, RundownGuard,
        Shared, SpinLock, Task, Wide, counter_frequency,
    },
};

/// `REG_DWORD` in the hardware key of a port: 1 lets programs wait for edges, and has Windows
/// assign an interrupt to the port.
const WAIT_EDGE: &str = "ParscanWaitEdge";

/// The watch on a port's edges, in its [`PortCore`].
pub(super) struct EdgeWatch {
    /// As the hardware key said at the last start.
    allowed: AtomicBool,
    /// The device that watches.
    watcher: SpinLock<Option<Shared<DeviceCore>>>,
    /// For the thread that changes the rest, and with it the control register.
    chip: SpinLock<()>,
    /// There is a watch.
    on: AtomicBool,
    /// The chip's interrupt is enabled for it. As long as it is, no client uses the control
    /// register but the program that watches: another owner of the port begins by ending it.
    enabled: AtomicBool,
}

impl EdgeWatch {
    pub(super) const fn new() -> Self {
        Self {
            allowed: AtomicBool::new(false),
            watcher: SpinLock::new(None),
            chip: SpinLock::new(()),
            on: AtomicBool::new(false),
            enabled: AtomicBool::new(false),
        }
    }

    /// Whether the hardware key lets programs wait for edges.
    pub(super) fn is_wanted(key: &Key) -> bool {
        key.dword(&Wide::new(WAIT_EDGE)) == Some(1)
    }

    /// The port is started.
    pub(super) fn set_allowed(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::Relaxed);
    }

    /// The bit that is set in the control register while the chip's interrupt is enabled.
    pub(super) fn control_bit(&self) -> u8 {
        if self.enabled.load(Ordering::Acquire) {
            Dcr::ACK_INTERRUPT.bits()
        } else {
            0
        }
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn watcher(&self) -> Option<Shared<DeviceCore>> {
        self.watcher.with(|watcher| watcher.clone())
    }
}

impl PortCore {
    /// The interrupt that edges are watched by: a latched one. On a level-sensitive line, which
    /// devices share, a service routine must know whether its own device interrupts, and a parallel
    /// port has no register that says it.
    ///
    /// # Errors
    /// `STATUS_NOT_SUPPORTED`: there is none, or the hardware key does not allow it.
    fn edge_interrupt(&self, hardware: &Hardware) -> Result<InterruptResource, Status> {
        hardware
            .interrupt()
            .filter(|it| it.latched && self.edges().allowed.load(Ordering::Relaxed))
            .ok_or(Status::NOT_SUPPORTED)
    }

    /// Whether `IOCTL_PARSCAN_WAIT_EDGE` is served.
    pub(super) fn serves_edges(&self, hardware: &Hardware) -> bool {
        self.edge_interrupt(hardware).is_ok()
    }

    /// A device begins to watch. The port is its own.
    ///
    /// # Errors
    /// As [`PortCore::edge_interrupt`] and [`Interrupt::watch`](crate::kernel::Interrupt::watch).
    fn watch(
        &self,
        device: &Shared<DeviceCore>,
        hardware: &Hardware,
        passive: Passive,
    ) -> Result<(), Status> {
        self.connect_watch(hardware, passive)?;
        let watcher = device.clone();
        self.edges()
            .watcher
            .with(move |place| *place = Some(watcher));
        self.edges().on.store(true, Ordering::Release);
        Ok(())
    }

    fn connect_watch(&self, hardware: &Hardware, passive: Passive) -> Result<(), Status> {
        let resource = self.edge_interrupt(hardware)?;
        let status = hardware.status_place().ok_or(Status::NOT_SUPPORTED)?;
        self.interrupt()
            .watch(self, self.pdo(), resource, status, passive)
    }

    /// The hardware is there again, perhaps with another interrupt: the watch goes on, or ends.
    pub(super) fn watch_again(&self, hardware: &Hardware, passive: Passive) {
        if !self.edges().is_on() {
            return;
        }
        if let Err(status) = self.connect_watch(hardware, passive)
            && self.end_watch(Some(hardware), passive)
            && let Some(watcher) = self.edges().watcher.with(Option::take)
        {
            watcher.pending().end(status);
        }
    }

    /// The port becomes the program's, or free: edges count, if they are watched. By who has
    /// the port, at <= `DISPATCH_LEVEL`.
    pub(super) fn enable_edges(&self, hardware: &Hardware) {
        let edges = self.edges();
        if !edges.is_on() {
            return;
        }
        edges.chip.with(|()| {
            if edges.is_on() {
                self.set_edge_bit(hardware, true);
                if !edges.enabled.swap(true, Ordering::AcqRel) {
                    self.interrupt().count_edges(true);
                }
            }
        });
    }

    /// The same, where the hardware may not be there.
    pub(super) fn enable_edges_if_there(&self) {
        if self.edges().is_on()
            && let Some(inside) = self.enter()
        {
            self.enable_edges(&inside.value());
        }
    }

    /// The control register and nAck are another client's, or a transfer's: edges do not count. By
    /// who has the port, at <= `DISPATCH_LEVEL`.
    #[inline]
    pub(super) fn disable_edges(&self, hardware: &Hardware) {
        // Only who has the port enables them, or has made way for the caller.
        if self.edges().control_bit() != 0 {
            self.edges().chip.with(|()| self.disable(Some(hardware)));
        }
    }

    /// As [`PortCore::disable_edges`], if a device other than the one that watches has the port
    /// now.
    pub(super) fn disable_edges_of_others(&self, device: usize) {
        if self.edges().control_bit() == 0 {
            return;
        }
        let own = self.edges().watcher.with(move |watcher| {
            watcher
                .as_ref()
                .is_some_and(|watcher| watcher.address() == device)
        });
        if !own && let Some(inside) = self.enter() {
            self.disable_edges(&inside.value());
        }
    }

    /// The hardware goes, and its registers with it.
    pub(super) fn forget_edges(&self) {
        self.edges().chip.with(|()| self.disable(None));
    }

    /// Under the lock of the chip.
    fn disable(&self, hardware: Option<&Hardware>) {
        if self.edges().enabled.swap(false, Ordering::AcqRel) {
            self.interrupt().count_edges(false);
            if let Some(hardware) = hardware {
                self.set_edge_bit(hardware, false);
            }
        }
    }

    /// Sets or clears the bit, and moves no line.
    fn set_edge_bit(&self, hardware: &Hardware, set: bool) {
        let mut port = hardware.non_blocking();
        let control = Dcr::from_bits_retain(port.read(Register::Dcr));
        if control.contains(Dcr::ACK_INTERRUPT) != set {
            let lines = self.raw().control(control.bits());
            let bit = if set {
                Dcr::ACK_INTERRUPT
            } else {
                Dcr::empty()
            };
            port.write(Register::Dcr, lines | bit.bits());
        }
    }

    /// The end of a watch. Whether there was one.
    fn end_watch(&self, hardware: Option<&Hardware>, passive: Passive) -> bool {
        let edges = self.edges();
        let was = edges.chip.with(|()| {
            // No other client uses the control register if the bit is set.
            self.disable(hardware);
            edges.on.swap(false, Ordering::AcqRel)
        });
        if was {
            self.interrupt().unwatch(passive);
        }
        was
    }

    /// There are edges, at `DISPATCH_LEVEL`.
    pub(super) fn tell_edges(&self) {
        if let Some(watcher) = self.edges().watcher() {
            watcher.deliver_edges();
        }
    }

    /// Moves edges into the answer of a request: its bytes.
    fn answer_edges(&self, irp: &mut Irp) -> usize {
        let frequency = counter_frequency();
        let room = irp.output_buffer();
        if let Some(length) = self.interrupt().answer_edges(room, frequency) {
            return length;
        }
        // The line is not connected at this moment.
        let none = EdgesHeader {
            edges: 0,
            lost: 0,
            left: 0,
            frequency,
        };
        match room.first_chunk_mut() {
            Some(place) => {
                *place = none.to_bytes();
                EdgesHeader::SIZE
            }
            None => 0,
        }
    }
}

/// What becomes of a request that may wait.
enum Now {
    /// It is answered: so many bytes.
    Answered(Irp, usize),
    /// Another one waits.
    Taken(Irp),
    /// It waits.
    Waits(Irp),
}

impl DeviceCore {
    /// Whether the device watches edges: then a request for them needs no worker.
    pub(super) fn watches_edges(&self) -> bool {
        self.port().edges().is_on() && matches!(self.place(), Place::Raw)
    }

    /// `IOCTL_PARSCAN_WAIT_EDGE` of a device that does not watch yet, in the worker's thread.
    pub(super) fn begin_edges(this: &Shared<Self>, task: Task, milliseconds: u32) -> Disposition {
        match Self::begin_watch(this, &task) {
            Ok(()) => this.wait_for_edges(task.into_irp(), milliseconds),
            Err(status) => task.complete(status),
        }
    }

    /// # Errors
    /// `STATUS_NOT_SUPPORTED`: not the port's own device, or as [`PortCore::edge_interrupt`].
    /// `STATUS_DEVICE_BUSY`: another client has the port. As
    /// [`Waits::check`](crate::kernel::Waits::check).
    fn begin_watch(this: &Shared<Self>, task: &Task) -> Result<(), Status> {
        if !matches!(this.place(), Place::Raw) {
            return Err(Status::NOT_SUPPORTED);
        }
        // No client is kept from the port for what will not be.
        this.port().edge_interrupt(&this.port().found()?)?;
        this.with_port(task.waits(), None, |_, port| {
            if this.is_locked() {
                // By a class driver, whose the control register is.
                return Err(Status::DEVICE_BUSY);
            }
            if this.watches_edges() {
                return Ok(());
            }
            this.port().watch(this, port.hardware(), task.passive())
        })
        .flatten()
    }

    /// `IOCTL_PARSCAN_WAIT_EDGE` of a device that watches: it is answered at once if there are
    /// edges, and pends otherwise. At <= `DISPATCH_LEVEL`.
    pub(super) fn wait_for_edges(&self, irp: Irp, milliseconds: u32) -> Disposition {
        let mut irp = irp;
        // Who takes edges does so alone: they are for the request that waits.
        let now = self.edge_order().with(|()| {
            if self.pending().is_taken() {
                return Now::Taken(irp);
            }
            if milliseconds == 0 || self.port().interrupt().has_edges() {
                let length = self.port().answer_edges(&mut irp);
                return Now::Answered(irp, length);
            }
            Now::Waits(irp)
        });
        match now {
            Now::Answered(irp, length) => irp.complete_with(Status::SUCCESS, length),
            Now::Taken(irp) => irp.complete(Status::INVALID_DEVICE_STATE),
            Now::Waits(irp) => {
                let limit = (milliseconds != FOREVER).then_some(milliseconds);
                let pending = self.pending().wait(irp, limit);
                // What came in between found no request.
                self.deliver_edges();
                pending
            }
        }
    }

    /// Gives edges to the request that waits for them. At <= `DISPATCH_LEVEL`.
    fn deliver_edges(&self) {
        self.answer_pending(|| {
            let has_edges = self.port().interrupt().has_edges();
            has_edges.then(|| self.pending().next()).flatten()
        });
    }

    /// Answers the request that waits, if `take` takes it. At <= `DISPATCH_LEVEL`.
    fn answer_pending(&self, take: impl FnOnce() -> Option<Irp> + Send) {
        let answered = self.edge_order().with(|()| {
            let mut irp = take()?;
            let length = self.port().answer_edges(&mut irp);
            Some((irp, length))
        });
        if let Some((irp, length)) = answered {
            let _ = irp.complete_with(Status::SUCCESS, length);
        }
    }

    /// `IRP_MJ_CLEANUP`, and the device's removal: the watch ends, and the request that waits.
    pub(super) fn end_edges(&self, file: FileId, passive: Passive) {
        self.pending().clean_up(file);
        self.end_edge_watch(passive);
    }

    /// The watch ends.
    pub(super) fn end_edge_watch(&self, passive: Passive) {
        if !self.watches_edges() {
            return;
        }
        // A program that runs in another thread has the control register.
        let _turn = self
            .is_claimed()
            .then(|| self.lock_peripheral_uninterrupted(passive.blocking()));
        let inside = self.port().enter();
        let hardware = inside.as_ref().map(RundownGuard::value);
        let was = self.port().end_watch(hardware.as_ref(), passive);
        drop(inside);
        if was {
            drop(self.port().edges().watcher.with(Option::take));
        }
    }
}

impl PendingOwner for DeviceCore {
    fn time_over(&self) {
        self.answer_pending(|| self.pending().next_late());
    }
}

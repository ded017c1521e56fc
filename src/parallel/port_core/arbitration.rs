//! Who has the port, and what is undone when an owner gives it back.

use core::sync::atomic::Ordering;

use super::{NONE, PortCore};
use crate::{
    ieee1284::daisy,
    ioctl::{Status, parallel::QueuedPortRequest},
    kernel::{AcquireTimeout, Disposition, Granter, Irp, Owner, Owners, Waits, event},
    trace::TraceEvent,
};

impl PortCore {
    /// Whether the port has no owner.
    pub(in crate::parallel) fn is_free(&self) -> bool {
        self.arbiter.is_free()
    }

    /// Waits for the port.
    ///
    /// # Errors
    /// `STATUS_DEVICE_BUSY`: another client kept it for too long. `STATUS_DELETE_PENDING`: it has
    /// vanished. `STATUS_DEVICE_NOT_READY`: it was refused its power. As [`Waits::check`].
    pub(in crate::parallel) fn take(&self, owner: Owner, waits: &Waits<'_>) -> Result<(), Status> {
        self.power.request();
        let acquire_timeout = AcquireTimeout::Awake(self.acquire_timeout.load(Ordering::Relaxed));
        let entered = self.arbiter.acquire(owner, waits, acquire_timeout);
        if let (Err(Status::DEVICE_BUSY), AcquireTimeout::Awake(waited)) =
            (entered, acquire_timeout)
        {
            event(self.number.label(), &TraceEvent::PortBusy { waited });
        }
        entered?;
        self.taken(false);
        self.settle(owner_address(owner));
        Ok(())
    }

    /// Takes the port for the driver itself, unless a client, or the system, has it for longer than
    /// `milliseconds`. Its end is [`PortCore::free_for`].
    ///
    /// # Errors
    /// As [`PortCore::take`].
    pub(in crate::parallel) fn take_within(
        &self,
        owner: Owner,
        waits: &Waits<'_>,
        milliseconds: u32,
    ) -> Result<(), Status> {
        self.arbiter
            .acquire(owner, waits, AcquireTimeout::InAll(milliseconds))?;
        self.settle(owner_address(owner));
        Ok(())
    }

    /// Takes the port if it is free.
    pub(in crate::parallel) fn try_take(&self, owner: Owner) -> bool {
        let taken = self.arbiter.try_acquire(owner);
        if taken {
            self.settle(owner_address(owner));
        }
        taken
    }

    /// Leaves EPP connected until another owner has the port. The port is the caller's, who is
    /// about to free it.
    pub(in crate::parallel) fn hold_epp(&self, device: usize) {
        self.held.store(device, Ordering::Release);
    }

    /// Whether EPP is connected on behalf of this device, which has the port again.
    pub(in crate::parallel) fn take_held_epp(&self, device: usize) -> bool {
        self.held
            .compare_exchange(device, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends EPP that is connected on behalf of this device. The port is the caller's.
    pub(in crate::parallel) fn end_held_epp(&self, device: usize) {
        if self.take_held_epp(device)
            && let Some(inside) = self.hardware.enter()
        {
            inside.value().end_epp();
        }
    }

    /// Whether EPP is connected, and its device does not have the port at this moment.
    pub(in crate::parallel) fn holds_epp(&self) -> bool {
        self.held.load(Ordering::Acquire) != 0
    }

    /// The port has a new owner: EPP ends, unless it is connected on behalf of that one, and edges
    /// do not count, unless that one watches them. At <= `DISPATCH_LEVEL`.
    pub(super) fn settle(&self, device: usize) {
        self.disable_edges_of_others(device);
        let held = self.held.load(Ordering::Acquire);
        if held == 0 || held == device {
            return;
        }
        self.held.store(0, Ordering::Release);
        if let Some(inside) = self.hardware.enter() {
            inside.value().end_epp();
        }
    }

    /// As [`PortCore::free_if`], for the owner, which calls this.
    pub(in crate::parallel) fn free_for(&self, owner: Owner) {
        self.restore();
        self.release(Owners::Only(owner));
    }

    /// Frees the port, if its owner is one of these: with the chip in compatibility mode
    /// and the end of the chain selected, it goes to the client that waits longest. Whether it was
    /// so. At <= `DISPATCH_LEVEL`.
    pub(in crate::parallel) fn free_if(&self, owners: Owners) -> bool {
        if !self.arbiter.is_owned_by(owners) {
            return false;
        }
        self.restore();
        self.release(owners)
    }

    fn release(&self, owners: Owners) -> bool {
        let freed = self.arbiter.release(owners, self);
        if freed && self.arbiter.is_free() {
            self.interrupt.call_deferred();
        }
        freed
    }

    /// Undoes what an owner did to the chip and the chain.
    pub(super) fn restore(&self) {
        let mode = self.chip_mode.swap(0, Ordering::SeqCst);
        let selected = self.selected.swap(NONE, Ordering::AcqRel);
        if (mode, selected) != (0, NONE) {
            self.restore_chip(mode, selected);
        }
        self.enable_edges_if_there();
    }

    fn restore_chip(&self, mode: u8, selected: u8) {
        // In SPP mode data lines would be driven that a program has left turned round.
        if mode != 0 && !self.raw.is_reversed() {
            self.show_chip_mode();
        }
        if selected != NONE
            && let Some(inside) = self.hardware.enter()
        {
            daisy::deselect_all(&mut inside.value().non_blocking());
        }
    }

    #[inline]
    fn taken(&self, by_client: bool) {
        event(self.number.label(), &TraceEvent::PortTaken { by_client });
    }
}

impl Granter for PortCore {
    /// What the request asked for besides is done now.
    fn grant(&self, irp: Irp, request: QueuedPortRequest) -> Disposition {
        self.taken(true);
        self.settle(0);
        let status = match request {
            // IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE
            QueuedPortRequest::Allocate => Status::SUCCESS,
            // The chain may be another one than when it asked.
            QueuedPortRequest::Select(command) => self
                .device_of(command)
                .map_or_else(|why| why, |device| self.select(device)),
        };
        if !status.is_success() {
            let owner = Owner::Open(irp.file());
            self.free_if(Owners::Only(owner));
        }
        irp.complete(status)
    }
}

/// The address of a device object that owns the port; 0 for others.
const fn owner_address(owner: Owner) -> usize {
    match owner {
        Owner::Device(address) => address,
        _ => 0,
    }
}

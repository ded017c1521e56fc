//! PnP and power of a port: its hardware comes, sleeps, wakes up and goes.

use core::sync::atomic::{Ordering, fence};

use super::{
    super::{Hardware, edges::EdgeWatch},
    CONNECT_INTERRUPT, DEFAULT_TIMEOUT_MS, PORT_TIMEOUT, PROBE, PortCore, UNKNOWN,
};
use crate::{
    ieee1284::daisy,
    ioctl::Status,
    kernel::{Key, Owner, Owners, Passive, RundownGuard, Waits, Wide},
};

impl PortCore {
    /// The hardware is there.
    pub(in crate::parallel) fn start(&self, hardware: Hardware, passive: Passive) {
        let key = Key::of_device(self.pdo, false, passive).ok();
        let value = |name| key.as_ref().and_then(|key| key.dword(&Wide::new(name)));
        let acquire_timeout = value(PORT_TIMEOUT).unwrap_or(DEFAULT_TIMEOUT_MS);
        self.acquire_timeout
            .store(acquire_timeout, Ordering::Relaxed);
        let allowed = value(CONNECT_INTERRUPT).is_some_and(|value| value != 0);
        self.interrupt_allowed.store(allowed, Ordering::Relaxed);
        self.edges
            .set_allowed(key.as_ref().is_some_and(EdgeWatch::is_wanted));
        self.probes
            .store(value(PROBE) != Some(0), Ordering::Relaxed);
        let present = hardware.capabilities().spp;
        self.present.store(present, Ordering::Relaxed);
        self.surveyed.store(false, Ordering::Relaxed);
        self.byte.store(UNKNOWN, Ordering::Relaxed);
        self.held.store(0, Ordering::Relaxed);
        self.hardware.open(hardware, passive);
        self.found.with(move |found| *found = Some(hardware));
        self.watch_again(&hardware, passive);
        // Its lines are at rest.
        self.wakes.fetch_add(1, Ordering::AcqRel);
        self.resume_requests();
        if self.sleeps.swap(false, Ordering::AcqRel) {
            self.arbiter.end_reservation();
        }
        self.give_back();
    }

    /// Whether kernel clients may connect to the port's interrupt, or programs wait for its edges,
    /// as the hardware key says now.
    pub(in crate::parallel) fn uses_interrupt(&self, passive: Passive) -> bool {
        Key::of_device(self.pdo, false, passive).is_ok_and(|key| {
            let clients = key.dword(&Wide::new(CONNECT_INTERRUPT));
            clients.is_some_and(|value| value != 0) || EdgeWatch::is_wanted(&key)
        })
    }

    /// Whether the port may be stopped now. It may not while a kernel client knows where its
    /// registers are, or a client uses it.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL`
    pub(in crate::parallel) fn query_stop(&self) -> Result<(), Status> {
        let known = self.opens.load(Ordering::Acquire) != 0
            || self.connections.load(Ordering::Acquire) != 0;
        if known || !self.arbiter.try_acquire(Owner::System) {
            return Err(Status::UNSUCCESSFUL);
        }
        self.settle(0);
        Ok(())
    }

    /// The end of what [`PortCore::query_stop`] began.
    pub(in crate::parallel) fn give_back(&self) {
        self.free_if(Owners::Only(Owner::System));
    }

    /// The hardware goes away, and comes back with the next start.
    pub(in crate::parallel) fn stop(&self, passive: Passive) {
        self.found.with(|found| *found = None);
        // In this order: who connects a routine is inside the gate, so none is connected
        // afterwards.
        self.hardware.close(passive);
        self.forget_edges();
        self.interrupt.end(passive);
    }

    /// The power of the hardware goes. Operations end with `STATUS_POWER_STATE_INVALID`. Who has
    /// the port keeps it; no other client gets it, and none that waits runs out of time once it is
    /// free.
    pub(in crate::parallel) fn sleep(&self, passive: Passive) {
        if !self.sleeps.swap(true, Ordering::SeqCst) {
            self.arbiter.reserve();
        }
        self.hardware.suspend(
            |hardware| {
                if self.held.swap(0, Ordering::AcqRel) != 0 {
                    hardware.end_epp();
                }
                self.disable_edges(hardware);
                let lines = hardware.lines();
                // What an owner has connected ends with the power.
                let owned = self.arbiter.is_owned_by(Owners::AllBut(Owner::System));
                let lines = if owned { lines.at_rest() } else { lines };
                self.lines.with(|it| *it = Some(lines));
            },
            passive,
        );
    }

    /// The hardware has power again: what its owner and the chain need is set up as it was.
    pub(in crate::parallel) fn wake(&self, passive: Passive) {
        let before = self.chain();
        let mut chip_mode = 0;
        self.hardware.resume(
            |hardware| {
                let lines = self.lines.with(Option::take);
                if self.raw.is_claimed() {
                    // Nothing but what the program asked for; the direction needs its mode.
                    chip_mode = self.chip_mode.load(Ordering::SeqCst);
                    if chip_mode != 0 {
                        hardware.set_ecr(chip_mode);
                    }
                    self.raw.wake(hardware);
                    self.enable_edges(hardware);
                    self.wakes.fetch_add(1, Ordering::AcqRel);
                    return;
                }
                self.raw.wake(hardware);
                if let Some(lines) = lines {
                    hardware.restore(lines);
                }
                let selected = self.selected.load(Ordering::Acquire);
                if before != 0 {
                    self.assign_addresses(hardware);
                }
                if selected < self.chain() && daisy::select(&mut hardware.non_blocking(), selected)
                {
                    self.selected.store(selected, Ordering::Release);
                }
                chip_mode = self.chip_mode.load(Ordering::SeqCst);
                if chip_mode != 0 {
                    hardware.set_ecr(chip_mode);
                }
                self.wakes.fetch_add(1, Ordering::AcqRel);
            },
            passive,
        );
        // Who changed it meanwhile did not reach the chip.
        fence(Ordering::SeqCst);
        if self.chip_mode.load(Ordering::SeqCst) != chip_mode {
            self.show_chip_mode();
        }
        self.resume_requests();
        if self.sleeps.swap(false, Ordering::SeqCst) && self.arbiter.end_reservation() {
            self.give_back();
        }
        if self.unknown.swap(false, Ordering::SeqCst) || self.chain() != before {
            self.pdo.children_changed();
        }
    }

    /// Power is asked for: requests that need the port wait for it. At <= `DISPATCH_LEVEL`.
    pub(in crate::parallel) fn resume_requests(&self) {
        self.lost.resume();
        self.arbiter.open_again(Status::DEVICE_NOT_READY);
    }

    /// The port, which sleeps, gets no power: requests that need it are told. At <=
    /// `DISPATCH_LEVEL`.
    pub(in crate::parallel) fn lost(&self) {
        self.lost.stop(Status::DEVICE_NOT_READY);
        self.arbiter.close_for_now(Status::DEVICE_NOT_READY);
    }

    /// Whether it is worth while to wait for hardware that is not there: it will be, or the wait
    /// ends otherwise. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the port was refused its power.
    pub(super) fn check_power(&self) -> Result<(), Status> {
        self.power.request();
        self.lost.check()
    }

    /// How often the port was put at rest after its power came back: then no mode is connected.
    pub(in crate::parallel) fn wakes(&self) -> u32 {
        self.wakes.load(Ordering::Acquire)
    }

    /// Whether the port sleeps, or will in a moment.
    pub(in crate::parallel) fn is_asleep(&self) -> bool {
        self.sleeps.load(Ordering::SeqCst)
    }

    /// A look at the devices on the port did not find out who is there, for the hardware was not:
    /// it is done again when it is, or now, if it has come back meanwhile.
    pub(in crate::parallel) fn look_again(&self) {
        self.unknown.store(true, Ordering::SeqCst);
        if !self.is_asleep() && self.unknown.swap(false, Ordering::SeqCst) {
            self.pdo.children_changed();
        }
    }

    /// The hardware has gone for good.
    pub(in crate::parallel) fn disconnect_hardware(&self, passive: Passive) {
        self.waiter.stop(Status::DEVICE_REMOVED);
        self.arbiter.close(Status::DELETE_PENDING);
        self.found.with(|found| *found = None);
        // As in `stop`.
        self.hardware.evict(passive);
        self.forget_edges();
        self.interrupt.end(passive);
    }

    /// What was found at the start, also while the port sleeps. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the port is stopped. `STATUS_DEVICE_REMOVED`: it is gone.
    #[inline]
    pub(in crate::parallel) fn found(&self) -> Result<Hardware, Status> {
        self.found
            .with(|found| *found)
            .ok_or_else(|| self.absence())
    }

    /// What a request is told that needs hardware which is not there.
    #[cold]
    #[inline(never)]
    pub(super) fn absence(&self) -> Status {
        if self.waiter.check().is_err() {
            Status::DEVICE_REMOVED
        } else {
            Status::DEVICE_NOT_READY
        }
    }

    /// Enters the hardware, if it is there.
    pub(in crate::parallel) fn enter(&self) -> Option<RundownGuard<'_, Hardware>> {
        self.hardware.enter()
    }

    /// Enters the hardware as soon as it is there: a port is stopped for a moment when Windows
    /// gives it other resources.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(in crate::parallel) fn enter_when_there(
        &self,
        waits: &Waits<'_>,
    ) -> Result<RundownGuard<'_, Hardware>, Status> {
        if let Some(inside) = self.hardware.enter() {
            return Ok(inside);
        }
        self.check_power()?;
        waits.enter(&self.hardware, &self.lost)
    }
}

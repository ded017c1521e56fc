//! What of a device is on the bus, and when nothing may be.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::super::{Blocking, Passive, SpinLock, Waits, sync::Event};
use crate::{ioctl::Status, sharing::UrbGate, trace::Label};

/// The URBs of a device that the USB stack has. While the device is stopped, asleep or gone, there
/// are none and no more go out.
///
/// When the system works again its programs do not wait for the device: their requests are queued
/// until it has power, too.
pub(crate) struct DeviceUrbGate {
    /// What events call the device.
    label: Label,
    gate: SpinLock<UrbGate>,
    /// Whether requests wait for [`DeviceUrbGate::wake`]. Changed under the lock, and looked at
    /// without it.
    waking: AtomicBool,
    /// Whether new requests may begin. Likewise.
    admits: AtomicBool,
    /// Signalled while there are no URBs.
    idle: Event,
    /// Signalled while no URB goes out, and none will soon.
    shut: Event,
    /// Something has changed for the thread that waits for power, or for a pipe without requests.
    changed: Event,
    /// The pipes that are being reset, a bit each.
    held: AtomicU32,
}

impl DeviceUrbGate {
    /// Lets nothing through yet.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new(label: Label) -> Result<Self, Status> {
        let idle = Event::notification()?;
        idle.set();
        let shut = Event::notification()?;
        shut.set();
        Ok(Self {
            label,
            gate: SpinLock::new(UrbGate::CLOSED),
            waking: AtomicBool::new(false),
            admits: AtomicBool::new(false),
            idle,
            shut,
            changed: Event::synchronization()?,
            held: AtomicU32::new(0),
        })
    }

    /// Changes whether URBs go out.
    fn change<T>(&self, change: impl FnOnce(&mut UrbGate) -> T + Send) -> T {
        let (waking, admits) = (&self.waking, &self.admits);
        self.gate.with(move |gate| {
            let result = change(gate);
            waking.store(gate.is_waking(), Ordering::Release);
            admits.store(gate.check().is_ok(), Ordering::Release);
            result
        })
    }

    pub(super) const fn label(&self) -> Label {
        self.label
    }

    /// Lets URBs through. At <= `DISPATCH_LEVEL`.
    pub(crate) fn open(&self) {
        self.change(|gate| gate.open(&self.shut));
        self.changed.set();
    }

    /// Lets no URB through from now on: new requests are refused with `refusal`, and requests that
    /// are under way end with `end`. A request that was let in before ends, as it goes on: none
    /// waits for power any more. At <= `DISPATCH_LEVEL`.
    pub(crate) fn close(&self, refusal: Status, end: Status) {
        let shut = &self.shut;
        self.change(move |gate| gate.close(refusal, end, shut));
        self.changed.set();
    }

    /// As [`DeviceUrbGate::close`], until [`DeviceUrbGate::wake`].
    pub(crate) fn sleep(&self, refusal: Status, end: Status) {
        let shut = &self.shut;
        self.change(move |gate| gate.sleep(refusal, end, shut));
        self.changed.set();
    }

    /// No program uses the device: requests that come wait for [`DeviceUrbGate::wake`]. At <=
    /// `DISPATCH_LEVEL`.
    pub(crate) fn park(&self) {
        self.change(|gate| gate.park(Status::CANCELLED));
    }

    /// Power comes soon: lets requests in again, which wait for [`DeviceUrbGate::wake`]. At
    /// <= `DISPATCH_LEVEL`.
    pub(crate) fn resume_requests(&self) {
        self.change(|gate| gate.resume_requests(&self.shut));
    }

    /// No power comes: requests are refused with `status` again, and those that wait for it are to
    /// end with `status`. Whether they are: not those of an open or closed device. At
    /// <= `DISPATCH_LEVEL`.
    pub(crate) fn lose(&self, status: Status) -> bool {
        let shut = &self.shut;
        self.change(move |gate| gate.lose(status, shut))
    }

    /// Lets URBs through again after [`DeviceUrbGate::sleep`]. Whether it was so: the threads that
    /// wait are not told.
    pub(crate) fn wake(&self) -> bool {
        let slept = self.change(|gate| gate.wake(&self.shut));
        self.changed.set();
        slept
    }

    /// Whether requests wait for [`DeviceUrbGate::wake`].
    pub(crate) fn is_waking(&self) -> bool {
        self.waking.load(Ordering::Acquire)
    }

    /// A request has ended on the pipes of `pipe_mask`, or another change came that
    /// [`DeviceUrbGate::wait_for_change`] may be for. At <= `DISPATCH_LEVEL`.
    #[inline]
    pub(super) fn tell(&self, pipe_mask: u32) {
        if self.held.load(Ordering::Acquire) & pipe_mask != 0 {
            self.changed.set();
        }
    }

    /// Waits until something has changed of what one thread of the device may wait for: power, or
    /// the last request on a pipe that is held. It looks, waits here, and looks again.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(crate) fn wait_for_change(&self, waits: &Waits<'_>) -> Result<(), Status> {
        waits
            .wait_for([Some(self.changed.object())], None)
            .map(drop)
    }

    /// Signalled while [`DeviceUrbGate::check`] refuses.
    pub(super) const fn shut_event(&self) -> &Event {
        &self.shut
    }

    /// Waits until the USB stack has no URB. After [`DeviceUrbGate::close`], when everything that
    /// is under way was told to end.
    pub(crate) fn wait_idle(&self, blocking: Blocking<'_>) {
        self.idle.wait(blocking);
    }

    /// Whether new requests may begin.
    ///
    /// # Errors
    /// The refusal.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.admits.load(Ordering::Acquire) {
            return Ok(());
        }
        self.gate.with(|gate| gate.check())
    }

    /// A URB goes to the USB stack.
    ///
    /// # Errors
    /// It must not: what its request ends with.
    pub(super) fn enter(&self) -> Result<(), Status> {
        self.gate.with(|gate| gate.enter(&self.idle))
    }

    /// It came back.
    pub(super) fn leave(&self) {
        self.gate.with(|gate| gate.leave(&self.idle));
    }

    /// No new request begins on the pipes of `pipe_mask`, until [`DeviceUrbGate::release`].
    pub(crate) fn hold(&self, pipe_mask: u32, _: Passive) {
        self.held.fetch_or(pipe_mask, Ordering::AcqRel);
    }

    /// The end of [`DeviceUrbGate::hold`]. The threads that wait are not told.
    pub(crate) fn release(&self, pipe_mask: u32, _: Passive) {
        self.held.fetch_and(!pipe_mask, Ordering::AcqRel);
    }

    /// Whether the requests on the pipes of `pipe_mask` wait: for a reset, or for power.
    pub(super) fn is_held(&self, pipe_mask: u32) -> bool {
        self.held.load(Ordering::Acquire) & pipe_mask != 0 || self.is_waking()
    }
}

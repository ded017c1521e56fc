//! Selective suspend of a USB device that no program uses, and the wake-up by the device itself.
//!
//! After a while without a user the device is offered to its bus driver: an idle request,
//! `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION`, which stays out. When all is quiet on its hub,
//! the bus driver calls back, and the device goes to D2 there. While the request is out nothing is
//! sent to the device ([`FunctionDevice::park`]). An open has the request cancelled; when it is
//! back the device goes on, or asks for its power first. So no request is interrupted by a
//! suspension, and none is refused for it.
//!
//! A device that can wake up has an `IRP_MN_WAIT_WAKE` out: from the callback on, or, if it may
//! wake the system, from its start on. Its signal ends the idle request like a user does.
//!
//! Both IRPs can be cancelled while they come back, so each is a [`Flight`]: the last one who looks
//! at it goes on with it.
//!
//! | what happens | idle request | wait/wake IRP |
//! |---|---|---|
//! | open | cancelled | stays |
//! | the hub gives it back, and has not suspended the device | made again after twice the time, and so on; the last close and the system's sleep set it anew. Never, if the hub knows no such request | stays |
//! | the device signals | cancelled | ends; sent anew if the device may wake the system |
//! | system sleep | cancelled; its end goes on with the system power IRP, by way of D0 | stays, if the device may wake the system from there; else cancelled |
//! | stop, removal | cancelled and waited for | cancelled and waited for |
//!
//! Sources: "USB Selective Suspend", "Remote Wakeup of USB Devices", "Sending a Wait/Wake IRP",
//! "Canceling a Wait/Wake IRP" and the page of `IRP_MN_WAIT_WAKE` of the Windows driver
//! documentation.

use core::{cell::UnsafeCell, ptr::NonNull};

use wdk_sys::{
    _IO_STATUS_BLOCK as IO_STATUS_BLOCK, DEVICE_OBJECT, IO_STACK_LOCATION, IRP,
    IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MN_WAIT_WAKE, KDPC, NTSTATUS, PDEVICE_OBJECT, POWER_STATE,
    PVOID, STATUS_MORE_PROCESSING_REQUIRED, SYSTEM_POWER_STATE, UCHAR,
    ntddk::{IoAllocateIrp, IoCancelIrp, IoFreeIrp, IofCallDriver, PoRequestPowerIrp},
};

use crate::kernel::{
    Device, Disposition, FunctionDevice, Irp, Lower, Passive, Pnp, Role, SpinLock, WorkItem, check,
    device::RemoveLock,
    irp::{INVOKE_ALWAYS, fill_next},
    irql::Routine,
    power,
    sync::Event,
    usb::Timer,
};
use crate::{
    ioctl::Status,
    sharing::{Flight, Idle, Returned},
};

/// `IOCTL_INTERNAL_USB_SUBMIT_IDLE_NOTIFICATION` (usbioctl.h): `CTL_CODE(FILE_DEVICE_USB,
/// USB_IDLE_NOTIFICATION, METHOD_NEITHER, FILE_ANY_ACCESS)`.
const SUBMIT_IDLE_NOTIFICATION: u32 = 0x0022_0027;

/// The longest pause before an idle request is made again that suspended nothing, in milliseconds,
/// unless the first one is longer.
const LONGEST_PAUSE_MS: u64 = 600_000;
/// 100 ns in a millisecond.
const HUNDRED_NS: u64 = 10_000;

const INTERNAL: u8 = {
    assert!(IRP_MJ_INTERNAL_DEVICE_CONTROL == 0x0F);
    0x0F
};
const WAIT_WAKE: UCHAR = {
    assert!(IRP_MN_WAIT_WAKE == 0);
    0
};

/// `USB_IDLE_CALLBACK_INFO` (usbioctl.h). The callback comes at `PASSIVE_LEVEL`.
#[repr(C)]
struct IdleCallbackInfo {
    callback: Option<unsafe extern "C" fn(PVOID)>,
    context: PVOID,
}

/// Its length, as a ULONG.
const CALLBACK_INFO_SIZE: u32 = crate::kernel::size::<IdleCallbackInfo>();

/// What a device may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SuspendSettings {
    /// It is suspended after so many milliseconds without a user. `None`: never.
    pub(crate) idle_after: Option<u32>,
    /// It can signal in D2, and this is the lowest system power state that it can wake the system
    /// from. `None`: it cannot.
    pub(crate) wakes: Option<SYSTEM_POWER_STATE>,
    /// It may wake the system from the system power states with these bits.
    pub(crate) wakes_from: u8,
}

impl SuspendSettings {
    /// It does nothing by itself.
    pub(crate) const NONE: Self = Self {
        idle_after: None,
        wakes: None,
        wakes_from: 0,
    };
}

/// The suspension of a USB device, and its wake-up.
pub(crate) struct Suspend {
    state: SpinLock<SuspendState>,
    timer: Timer,
    /// Makes idle requests, and sends wait/wake IRPs anew.
    work: WorkItem,
    /// Set while no idle request is out.
    back: Event,
    /// Set while no wait/wake IRP is out.
    unarmed: Event,
    /// The request for D2 has ended.
    is_down: Event,
    info: UnsafeCell<IdleCallbackInfo>,
    lock: RemoveLock,
}

// SAFETY: what the bus driver reads is written before it has it, and the kernel synchronises the
// use of its objects.
unsafe impl Send for Suspend {}
// SAFETY: likewise.
unsafe impl Sync for Suspend {}

/// An IRP that someone below has, or that was put aside.
#[derive(Clone, Copy)]
struct Raw(NonNull<IRP>);

// SAFETY: an IRP may be cancelled and completed in any thread.
unsafe impl Send for Raw {}

struct SuspendState {
    settings: SuspendSettings,
    idle: Idle,
    /// The idle request.
    request: Flight<Raw>,
    /// The system power IRP that goes on when it is back.
    held: Option<Raw>,
    /// How long the timer runs next, in milliseconds.
    pause: u64,
    /// The work item is queued.
    queued: bool,
    /// The wait/wake IRP.
    wake: Flight<Raw>,
    /// It was asked for, and has not ended.
    armed: bool,
    /// It has come to this driver on its way down.
    sent: bool,
}

impl Suspend {
    /// The suspension of `device`, a function device that was not started yet.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(
        device: Device<'_, R>,
    ) -> Result<crate::kernel::Shared<Self>, Status> {
        let object = device.object();
        let event = || {
            let event = Event::notification()?;
            event.set();
            Ok(event)
        };
        let suspend = crate::kernel::Shared::try_new(Self {
            state: SpinLock::new(SuspendState {
                settings: SuspendSettings::NONE,
                idle: Idle::STOPPED,
                request: Flight::IDLE,
                held: None,
                pause: 0,
                queued: false,
                wake: Flight::IDLE,
                armed: false,
                sent: false,
            }),
            timer: Timer::new(),
            work: WorkItem::try_new(device)?,
            back: event()?,
            unarmed: event()?,
            is_down: event()?,
            info: UnsafeCell::new(IdleCallbackInfo {
                callback: Some(idle_now::<R>),
                context: object.as_ptr().cast(),
            }),
            lock: device.remove_lock(),
        })?;
        // SAFETY: the value was just made, in pool, where it stays.
        unsafe {
            suspend
                .timer
                .initialize(Some(time_over::<R>), object.as_ptr().cast());
        }
        Ok(suspend)
    }

    /// The tag with which the remove lock is held for what is out.
    fn tag(&self) -> PVOID {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Starts the timer. With the state's lock held.
    fn count(&self, state: &SuspendState) {
        // SAFETY: initialised; deferred procedure calls are flushed before the device goes.
        unsafe { self.timer.start(state.pause.saturating_mul(HUNDRED_NS)) };
    }

    /// Queues the work item, which holds the remove lock. With the state's lock held.
    fn queue<R: Role>(&self, state: &mut SuspendState) {
        if state.queued || self.lock.acquire(self.tag()).is_err() {
            return;
        }
        state.queued = true;
        // SAFETY: it is not queued: `queued` is reset by its routine alone.
        unsafe { self.work.queue_bare(Some(work::<R>)) };
    }

    /// What the device may do by itself from its start on. In `START_DEVICE`.
    pub(crate) fn configure(&self, settings: SuspendSettings, _: Passive) {
        self.state.with(move |state| state.settings = settings);
    }

    /// Whether the device waits to wake the system up from this system power state.
    pub(in crate::kernel) fn wakes_from(&self, system: SYSTEM_POWER_STATE) -> bool {
        self.state
            .with(move |state| state.armed && state.settings.may_wake_from(system))
    }

    /// Whether the device is powered down because no program uses it.
    pub(in crate::kernel) fn is_suspending(&self) -> bool {
        self.state.with(|state| state.idle.is_down())
    }
}

impl SuspendState {
    /// The timer runs for as long as is set.
    fn wait_anew(&mut self) {
        self.pause = self.settings.idle_after.unwrap_or(0).into();
    }

    /// The timer runs for twice as long.
    fn wait_longer(&mut self) {
        let longest = LONGEST_PAUSE_MS.max(self.settings.idle_after.unwrap_or(0).into());
        self.pause = self.pause.saturating_mul(2).clamp(1, longest);
    }
}

impl SuspendSettings {
    fn may_wake_from(&self, system: SYSTEM_POWER_STATE) -> bool {
        u8::try_from(system).is_ok_and(|state| state < 8 && self.wakes_from & 1 << state != 0)
    }
}

/// The device and its suspension, of a device object that someone holds.
struct Context<'d, R> {
    device: Device<'d, R>,
    function: &'d dyn FunctionDevice<R>,
    suspend: &'d Suspend,
}

impl<R> Clone for Context<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Context<'_, R> {}

impl<'d, R: Role> Context<'d, R> {
    /// `None`, if the device has no suspension.
    ///
    /// # Safety
    /// Its remove lock is held for as long as the value is used, or its removal waits for the
    /// caller.
    unsafe fn of(device: Device<'d, R>) -> Option<Self> {
        // SAFETY: the caller's promise.
        let Pnp::Function(function) = unsafe { device.role() }.pnp() else {
            return None;
        };
        let suspend = function.suspend()?;
        Some(Self {
            device,
            function,
            suspend,
        })
    }

    /// # Safety
    /// As [`Context::of`], and `object` is a device object of a role `R`.
    unsafe fn from_raw(object: PVOID) -> Option<Self> {
        // SAFETY: the caller's promise.
        let object = unsafe { NonNull::new_unchecked(object.cast::<DEVICE_OBJECT>()) };
        // SAFETY: likewise.
        let device = unsafe { Device::from_raw(object) };
        // SAFETY: likewise.
        unsafe { Self::of(device) }
    }

    /// Changes the state; if that says so, the idle request is cancelled. After it nothing is
    /// touched that the request holds. At <= `DISPATCH_LEVEL`.
    fn interrupt(self, change: impl FnOnce(&mut SuspendState) -> bool + Send) {
        let irp = self.suspend.state.with(move |state| {
            let out = change(state);
            out.then(|| state.request.end(Status::CANCELLED, |_| true).copied())
                .flatten()
        });
        if let Some(Raw(irp)) = irp {
            // SAFETY: as one of its holders; it is not freed before they have let go.
            unsafe { IoCancelIrp(irp.as_ptr()) };
            self.let_go();
        }
    }

    /// A holder of the idle request lets go of it; the last one goes on.
    fn let_go(self) {
        let last = self.suspend.state.with(|state| state.request.release());
        if let Some((Raw(irp), why)) = last {
            // SAFETY: it came back, and no other thread has it.
            let block = unsafe { irp.as_ref() }.IoStatus;
            // SAFETY: both members of the union are plain.
            let status = Status(unsafe { block.__bindgen_anon_1.Status });
            // SAFETY: `submit` allocated it.
            unsafe { IoFreeIrp(irp.as_ptr()) };
            self.returned(status, why.is_some());
        }
    }

    /// The idle request is back, or could not be made. `ended`: this driver ended it. The device may
    /// be gone after this. At <= `DISPATCH_LEVEL`.
    fn returned(self, status: Status, ended: bool) {
        let suspend = self.suspend;
        let (what, held) = suspend.state.with(move |state| {
            state.request.retire();
            // "Drivers should put the device in D0", unless it was powered off.
            let what = match state.idle.returned() {
                Returned::WantsPower if status == Status::POWER_STATE_INVALID => Returned::Stay,
                what => what,
            };
            if matches!(
                status,
                Status::NOT_SUPPORTED | Status::INVALID_DEVICE_REQUEST
            ) {
                state.idle.give_up();
            }
            // A bus driver that gives it back and has not suspended the device, whatever it says, is
            // not asked again and again.
            let failed = !status.is_success() && status != Status::CANCELLED;
            if failed || !ended && matches!(what, Returned::GoOn) {
                state.wait_longer();
            }
            suspend.back.set();
            (what, state.held.take())
        });
        match what {
            Returned::GoOn => {
                self.function.unpark();
                suspend.state.with(|state| {
                    if state.idle.again() {
                        suspend.count(state);
                    }
                });
            }
            Returned::WantsPower => self.function.work().power().resume(),
            Returned::Stay => {}
        }
        let (lock, tag) = (suspend.lock, suspend.tag());
        if let Some(Raw(irp)) = held {
            // SAFETY: `sleeps` put it aside, and no other thread has it any more.
            let irp = unsafe { Irp::resume(irp, lock) };
            power::go_to_sleep(self.device, self.function, irp);
        }
        // SAFETY: held for the request, which is over.
        unsafe { lock.release(tag) };
    }

    /// Makes the idle request, which takes over the caller's hold of the remove lock.
    fn submit(self, passive: Passive) {
        let suspend = self.suspend;
        self.function.park();
        match self.idle_request(passive) {
            Ok((lower, irp)) => {
                let departed = suspend.state.with(move |state| {
                    state.request.depart(irp, |_| false).map_err(|(_, why)| why)
                });
                let Raw(irp) = irp;
                if let Err(why) = departed {
                    // SAFETY: allocated, and not sent.
                    unsafe { IoFreeIrp(irp.as_ptr()) };
                    return self.returned(why, true);
                }
                // SAFETY: the stack location is filled, and the IRP handed over; the completion
                // routine keeps it. At PASSIVE_LEVEL.
                let _ = unsafe { IofCallDriver(lower.raw().as_ptr(), irp.as_ptr()) };
                self.let_go();
            }
            Err(status) => self.returned(status, false),
        }
    }

    /// The IRP of an idle request.
    fn idle_request(self, _: Passive) -> Result<(Lower, Raw), Status> {
        let lower = self.function.lower();
        // SAFETY: the object below stays while we are attached.
        let stack_size = unsafe { lower.raw().as_ref() }.StackSize;
        // SAFETY: <= DISPATCH_LEVEL.
        let irp = NonNull::new(unsafe { IoAllocateIrp(stack_size, 0) })
            .ok_or(Status::INSUFFICIENT_RESOURCES)?;
        let mut location = IO_STACK_LOCATION {
            MajorFunction: INTERNAL,
            Control: INVOKE_ALWAYS,
            CompletionRoutine: Some(came_back::<R>),
            Context: self.device.raw().cast(),
            ..Default::default()
        };
        location.Parameters.DeviceIoControl.IoControlCode = SUBMIT_IDLE_NOTIFICATION;
        location.Parameters.DeviceIoControl.InputBufferLength = CALLBACK_INFO_SIZE;
        location.Parameters.DeviceIoControl.Type3InputBuffer = self.suspend.info.get().cast();
        let mut block = IO_STATUS_BLOCK::default();
        block.__bindgen_anon_1.Status = Status::NOT_SUPPORTED.0;
        // SAFETY: a new IRP, which is ours.
        unsafe { (*irp.as_ptr()).IoStatus = block };
        // SAFETY: likewise, and it has a location below its current one.
        unsafe { fill_next(irp, location) };
        Ok((lower, Raw(irp)))
    }

    /// Sends a wait/wake IRP, if the device can wake up and none is out.
    fn arm(self, _: Passive) {
        let suspend = self.suspend;
        let wakes = suspend.state.with(|state| {
            let wakes = state
                .settings
                .wakes
                .filter(|_| !state.armed && state.idle.is_powered())?;
            suspend.lock.acquire(suspend.tag()).ok()?;
            state.armed = true;
            state.wake.announce();
            suspend.unarmed.reset();
            Some(wakes)
        });
        let Some(system) = wakes else {
            return;
        };
        let mut lowest = POWER_STATE::default();
        lowest.SystemState = system;
        // The dispatch routine sees it, and knows it from there.
        let mut irp = core::ptr::null_mut();
        let context = self.device.raw().cast();
        // SAFETY: at PASSIVE_LEVEL, with a live object; the IRP is told to a variable.
        let sent = check(unsafe {
            PoRequestPowerIrp(
                self.device.raw(),
                WAIT_WAKE,
                lowest,
                Some(woke::<R>),
                context,
                &raw mut irp,
            )
        });
        if sent.is_err() {
            self.disarmed();
        }
    }

    /// The wait/wake IRP has ended, or was not made. The device may be gone after this.
    fn disarmed(self) {
        let suspend = self.suspend;
        suspend.state.with(|state| {
            state.wake.retire();
            (state.armed, state.sent) = (false, false);
            suspend.unarmed.set();
        });
        // SAFETY: held for the IRP.
        unsafe { suspend.lock.release(suspend.tag()) };
    }

    /// Cancels the wait/wake IRP. At <= `DISPATCH_LEVEL`.
    fn disarm(self) {
        let irp = self
            .suspend
            .state
            .with(|state| state.wake.end(Status::CANCELLED, |_| true).copied());
        if let Some(Raw(irp)) = irp {
            // SAFETY: as one of its holders; it goes no further up before they have let go.
            unsafe { IoCancelIrp(irp.as_ptr()) };
            if let Some(irp) = self.let_go_of_wake() {
                let _ = irp.complete_as_is();
            }
        }
    }

    /// A holder of the wait/wake IRP lets go of it: for the last one the IRP, on its way up.
    fn let_go_of_wake(self) -> Option<Irp> {
        let (Raw(irp), _) = self.suspend.state.with(|state| state.wake.release())?;
        // SAFETY: it came back from below, and no other thread has it.
        Some(unsafe { Irp::resume(irp, self.suspend.lock) })
    }
}

// ---- what happens to the device ----

/// The device was started. In `START_DEVICE`.
pub(in crate::kernel) fn started<R: Role>(device: Device<'_, R>, passive: Passive) {
    // SAFETY: the START_DEVICE holds the remove lock.
    let Some(context) = (unsafe { Context::of(device) }) else {
        return;
    };
    let suspend = context.suspend;
    let wakes_system = suspend.state.with(|state| {
        let after = state.settings.idle_after;
        state.wait_anew();
        if state.idle.start(after.is_some()) {
            suspend.count(state);
        }
        state.settings.wakes_from != 0
    });
    if wakes_system {
        context.arm(passive);
    }
}

/// The device has full power again.
pub(in crate::kernel) fn woken<R: Role>(device: Device<'_, R>, _: Passive) {
    // SAFETY: the power IRP holds the remove lock.
    if let Some(Context { suspend, .. }) = unsafe { Context::of(device) } {
        suspend.state.with(|state| {
            if state.idle.woken() {
                suspend.count(state);
            }
        });
    }
}

/// The system works again: power that comes from now on stays. At <= `DISPATCH_LEVEL`.
pub(in crate::kernel) fn system_works<R: Role>(device: Device<'_, R>) {
    // SAFETY: the power IRP holds the remove lock.
    if let Some(Context { suspend, .. }) = unsafe { Context::of(device) } {
        suspend.state.with(|state| {
            state.wait_anew();
            state.idle.system_works();
        });
    }
}

/// The request for full power is over: a device that may wake the system is made to wait for its
/// signal again. At <= `DISPATCH_LEVEL`.
///
/// # Safety
/// The remove lock is held.
pub(in crate::kernel) unsafe fn settled<R: Role>(device: Device<'_, R>) {
    // SAFETY: the caller's promise.
    if let Some(Context { suspend, .. }) = unsafe { Context::of(device) } {
        suspend.state.with(|state| {
            if state.settings.wakes_from != 0 && !state.armed && state.idle.is_powered() {
                suspend.queue::<R>(state);
            }
        });
    }
}

/// The device is about to be started, stopped or removed: no idle request and no wait/wake IRP is
/// out when this returns, and none is made before [`started`]. The USB stack was told to cancel
/// them; a callback that runs meanwhile ends with its device power IRP, which no PnP request holds
/// up.
pub(in crate::kernel) fn quiesce<R: Role>(device: Device<'_, R>, passive: Passive) {
    // SAFETY: the PnP request holds the remove lock.
    let Some(context) = (unsafe { Context::of(device) }) else {
        return;
    };
    context.interrupt(|state| state.idle.stop());
    context.disarm();
    let suspend = context.suspend;
    suspend.timer.cancel();
    suspend.back.wait(passive.blocking());
    suspend.unarmed.wait(passive.blocking());
}

/// The system goes to sleep, the lower drivers know, and the device is to sleep next. `None`: the
/// system power IRP goes on by [`power::go_to_sleep`] when the idle request is back. At
/// <= `DISPATCH_LEVEL`.
pub(in crate::kernel) fn sleeps<R: Role>(
    device: Device<'_, R>,
    system: SYSTEM_POWER_STATE,
    irp: Irp,
) -> Option<Irp> {
    // SAFETY: the IRP holds the remove lock.
    let Some(context) = (unsafe { Context::of(device) }) else {
        return Some(irp);
    };
    let stays = context.suspend.state.with(move |state| {
        // From here on no wait/wake IRP is sent.
        state.idle.halt();
        state.settings.may_wake_from(system)
    });
    if !stays {
        context.disarm();
    }
    let lock = irp.remove_lock();
    let raw = Raw(irp.into_raw());
    // Nothing is touched after it, for the IRP may hold the device no more.
    let mut waits = false;
    let told = &mut waits;
    context.interrupt(move |state| {
        *told = state.idle.is_out();
        if *told {
            state.held = Some(raw);
        }
        *told
    });
    if waits {
        return None;
    }
    let Raw(irp) = raw;
    // SAFETY: it was put aside above, and no other thread has it.
    Some(unsafe { Irp::resume(irp, lock) })
}

impl<R: Role> Device<'_, R> {
    /// One more uses the device: it is not suspended until [`Device::unused`]. At
    /// <= `DISPATCH_LEVEL`, in a request, which holds the device.
    pub(crate) fn used(self) {
        // SAFETY: the caller's request holds the remove lock.
        if let Some(context) = unsafe { Context::of(self) } {
            context.interrupt(|state| state.idle.enter());
        }
    }

    /// The end of [`Device::used`].
    pub(crate) fn unused(self) {
        // SAFETY: the caller's request holds the remove lock.
        if let Some(Context { suspend, .. }) = unsafe { Context::of(self) } {
            suspend.state.with(|state| {
                state.wait_anew();
                if state.idle.leave() {
                    suspend.count(state);
                }
            });
        }
    }
}

/// `IRP_MN_WAIT_WAKE` on its way down, at `PASSIVE_LEVEL`.
pub(in crate::kernel) fn wait_wake<R: Role>(
    device: Device<'_, R>,
    irp: Irp,
    lower: Lower,
) -> Disposition {
    // SAFETY: the IRP holds the remove lock.
    let Some(context) = (unsafe { Context::of(device) }) else {
        return irp.forward(lower);
    };
    let raw = Raw(irp.raw());
    let departed = context.suspend.state.with(move |state| {
        // Another driver's: the bus driver says what it thinks of two.
        if !state.armed || state.sent {
            return None;
        }
        state.sent = true;
        Some(state.wake.depart(raw, |_| false).map_err(|(_, why)| why))
    });
    match departed {
        None => irp.forward(lower),
        Some(Err(why)) => irp.complete_with_status(why),
        Some(Ok(())) => {
            let object = device.raw().cast();
            // The dispatch routine holds the device for its length.
            let pending = irp.forward_then(lower, Some(signalled::<R>), object);
            if let Some(irp) = context.let_go_of_wake() {
                let _ = irp.complete_as_is();
            }
            pending
        }
    }
}

// ---- what the kernel calls ----

/// The timer: at `DISPATCH_LEVEL`.
unsafe extern "C" fn time_over<R: Role>(
    _dpc: *mut KDPC,
    object: PVOID,
    _first: PVOID,
    _second: PVOID,
) {
    // SAFETY: `try_new` passed the device; deferred procedure calls are flushed before it goes.
    if let Some(Context { suspend, .. }) = unsafe { Context::<R>::from_raw(object) } {
        suspend.state.with(|state| {
            if state.idle.time_over() {
                suspend.queue::<R>(state);
            }
        });
    }
}

/// Work item: makes the idle request, or sends a wait/wake IRP.
unsafe extern "C" fn work<R: Role>(object: PDEVICE_OBJECT, _context: PVOID) {
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: a work item runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: the device that the work item was made for; `queue` holds its remove lock.
    let Some(context) = (unsafe { Context::<R>::from_raw(object.cast()) }) else {
        return;
    };
    let suspend = context.suspend;
    let (asks, arms) = suspend.state.with(|state| {
        state.queued = false;
        let asks = state.idle.ask();
        if asks {
            state.request.announce();
            suspend.back.reset();
        }
        (asks, state.settings.wakes_from != 0)
    });
    if arms {
        context.arm(passive);
    }
    if asks {
        context.submit(passive);
    } else {
        // SAFETY: held for the work item.
        unsafe { suspend.lock.release(suspend.tag()) };
    }
}

/// `USB_IDLE_CALLBACK`: the bus driver has the device suspended. At `PASSIVE_LEVEL`; it is in D2
/// when this returns.
unsafe extern "C" fn idle_now<R: Role>(object: PVOID) {
    // SAFETY: the bus driver calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: documented.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: `try_new` passed the device; the idle request holds its remove lock.
    let Some(context) = (unsafe { Context::<R>::from_raw(object) }) else {
        return;
    };
    let suspend = context.suspend;
    context.arm(passive);
    suspend.is_down.reset();
    suspend.state.with(|state| state.idle.power_down());
    match power::ask_for_sleep(context.device, Some(is_down::<R>), object) {
        Ok(()) => suspend.is_down.wait(passive.blocking()),
        // Documented: then the request is cancelled, and the callback returns at once.
        Err(_) => context.interrupt(|state| {
            state.idle.keep_power();
            state.wait_longer();
            true
        }),
    }
}

/// The device's power IRP of [`idle_now`] is over. At <= `DISPATCH_LEVEL`.
unsafe extern "C" fn is_down<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    object: PVOID,
    _block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `idle_now` passed the device, and waits for this.
    if let Some(Context { suspend, .. }) = unsafe { Context::<R>::from_raw(object) } {
        suspend.is_down.set();
    }
}

/// Completion routine of the idle request, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn came_back<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    object: PVOID,
) -> NTSTATUS {
    // SAFETY: `submit` passed the device; the request holds its remove lock.
    if let Some(context) = unsafe { Context::<R>::from_raw(object) } {
        context.let_go();
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Completion routine of the wait/wake IRP, at <= `DISPATCH_LEVEL`.
unsafe extern "C" fn signalled<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    object: PVOID,
) -> NTSTATUS {
    // SAFETY: `wait_wake` passed the device; the IRP holds its remove lock.
    let context = unsafe { Context::<R>::from_raw(object) };
    match context.and_then(Context::let_go_of_wake) {
        Some(irp) => irp.continue_completion(),
        None => STATUS_MORE_PROCESSING_REQUIRED,
    }
}

/// The end of the wait/wake IRP. At <= `DISPATCH_LEVEL`.
unsafe extern "C" fn woke<R: Role>(
    _object: *mut DEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    object: PVOID,
    block: *mut IO_STATUS_BLOCK,
) {
    // SAFETY: `arm` passed the device; the request for the IRP holds its remove lock.
    let Some(context) = (unsafe { Context::<R>::from_raw(object) }) else {
        return;
    };
    // SAFETY: the power manager calls this.
    if unsafe { power::status_of(block) }.is_success() {
        // It goes to D0 when the idle request is back; from system sleep it does with the system.
        context.interrupt(|state| state.idle.is_out());
    }
    context.disarmed();
}

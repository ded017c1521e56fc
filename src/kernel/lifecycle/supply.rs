//! Whether a device has the power that the system's state wants for it, and who asks for it.
//!
//! When the system works, the device asks the power manager for full power. There may be no memory
//! for the request: then it is made again by a timer, and by every request that needs the device.
//! The device can also be refused its power: then a thread that waits for it is told, and the next
//! request tries again. A device is never given up.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use wdk_sys::{DEVICE_OBJECT, IRP, KDPC, PVOID};

use crate::ioctl::Status;
use crate::kernel::{
    Device, Role, Shared, SpinLock, device::RemoveLock, milliseconds, power::ask_for_full_power,
    usb::Timer,
};

/// How long requests wait for power that there is no memory to ask for, in milliseconds: as long
/// as a request waits for a port that another client has.
const PATIENCE_MS: u64 = 5000;
/// The first pause after which it is asked for again, in milliseconds; each is twice the one
/// before.
const FIRST_PAUSE_MS: u64 = 100;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 10_000;
/// A device that was refused its power is asked for again after this time at the earliest, in
/// milliseconds, however many requests come.
const REFUSED_MS: u64 = 1000;
/// 100 ns in a millisecond.
const HUNDRED_NS: u64 = 10_000;

/// The power of a function device, shared with those whose requests need it.
pub(crate) struct PowerSupply {
    state: SpinLock<Supply>,
    /// A request that needs the device has to ask for power. Looked at without the lock.
    wanting: AtomicBool,
    /// Runs while there is no memory to ask.
    timer: Timer,
    device: NonNull<DEVICE_OBJECT>,
    lock: RemoveLock,
    /// [`ask_for_full_power`] for the device's role.
    ask: unsafe fn(NonNull<DEVICE_OBJECT>),
}

// SAFETY: the device object is used under its remove lock, and kernel objects may be used from any
// thread.
unsafe impl Send for PowerSupply {}
// SAFETY: likewise.
unsafe impl Sync for PowerSupply {}

/// What stands between a device and its power.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SupplyStage {
    /// Nothing: it has it.
    Full,
    /// The system sleeps, or the device was told to.
    Asleep,
    /// The system works, and full power is on its way, or is asked for again.
    Waking,
    /// The device was refused its power, or there was no memory to ask for it for too long.
    Lost,
    /// The device is removed.
    Gone,
}

struct Supply {
    stage: SupplyStage,
    /// The system works.
    works: bool,
    /// Requests for full power that have not ended.
    asks: u32,
    /// There was no memory for the last one, and the timer runs.
    short: bool,
    /// How long the timer runs next, in milliseconds.
    pause: u64,
    /// When the system worked again, or the device was refused its power, by `milliseconds`.
    since: u64,
    /// The system power IRP that ends when the device has its power.
    held: Option<HeldIrp>,
    /// The system power IRP that goes on to put the device to sleep when no thread asks any more.
    sleeper: Option<HeldIrp>,
    /// The device was powered down because no program uses it, and was not powered up since.
    suspended: bool,
}

/// A system power IRP that was put aside.
struct HeldIrp(NonNull<IRP>);

// SAFETY: an IRP may be completed in any thread.
unsafe impl Send for HeldIrp {}

/// What to do at the end of a request for full power.
pub(in crate::kernel) enum Conclusion {
    /// Tell the threads that wait that there will be no power, and conclude again.
    Lost,
    /// Complete the first of these system power IRPs, go on to sleep with the second, as far as
    /// there are any, and release the remove lock.
    Over(Option<NonNull<IRP>>, Option<NonNull<IRP>>),
}

impl Supply {
    /// Whether requests have to ask for power.
    #[inline(never)]
    fn wants(&self) -> bool {
        self.stage == SupplyStage::Lost || self.stage == SupplyStage::Waking && self.short
    }
}

impl PowerSupply {
    /// The power of `device`, a function device, which has none yet.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(in crate::kernel) fn try_new<R: Role>(
        device: Device<'_, R>,
    ) -> Result<Shared<Self>, Status> {
        let object = device.object();
        let supply = Shared::try_new(Self {
            state: SpinLock::new(Supply {
                stage: SupplyStage::Full,
                works: true,
                asks: 0,
                short: false,
                pause: FIRST_PAUSE_MS,
                since: 0,
                held: None,
                sleeper: None,
                suspended: false,
            }),
            wanting: AtomicBool::new(false),
            timer: Timer::new(),
            device: object,
            lock: device.remove_lock(),
            ask: ask_for_full_power::<R>,
        })?;
        // SAFETY: the supply was just made, in pool, where it stays.
        unsafe {
            supply
                .timer
                .initialize(Some(time_over), supply.as_raw().as_ptr());
        }
        Ok(supply)
    }

    /// The tag with which the remove lock is held for a request.
    pub(in crate::kernel) fn tag(&self) -> PVOID {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Changes the state; afterwards it is known whether requests have to ask.
    fn change<T>(&self, change: impl FnOnce(&mut Supply) -> T + Send) -> T {
        let wanting = &self.wanting;
        self.state.with(move |supply| {
            let result = change(supply);
            wanting.store(supply.wants(), Ordering::Release);
            result
        })
    }

    /// The timer is not needed any more. With the state's lock held.
    fn calm(&self, supply: &mut Supply) {
        if core::mem::replace(&mut supply.short, false) {
            self.timer.cancel();
        }
    }

    /// Notes one more request for full power, for which the remove lock is held from now on.
    /// Whether it may be made. With the state's lock held.
    #[inline(never)]
    fn begin(&self, supply: &mut Supply) -> bool {
        if supply.stage == SupplyStage::Gone {
            return false;
        }
        // The device object lives until after `gone`, which takes the state's lock.
        if self.lock.acquire(self.tag()).is_err() {
            return false;
        }
        self.calm(supply);
        if supply.stage != SupplyStage::Full {
            supply.stage = SupplyStage::Waking;
        }
        supply.asks += 1;
        true
    }

    /// The system works: asks for full power. `held` is the system power IRP, if it ends when the
    /// device has it, perhaps before this returns. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// The device is being removed: the IRP comes back.
    pub(in crate::kernel) fn wake(
        &self,
        held: Option<NonNull<IRP>>,
    ) -> Result<(), Option<NonNull<IRP>>> {
        let held = held.map(HeldIrp);
        let now = milliseconds();
        let refused = self.change(move |supply| {
            supply.works = true;
            if !self.begin(supply) {
                return Err(held);
            }
            supply.pause = FIRST_PAUSE_MS;
            supply.since = now;
            supply.held = held;
            Ok(())
        });
        match refused {
            Ok(()) => {
                // SAFETY: the remove lock is held, and the object is one of the role that `ask` is
                // for.
                unsafe { (self.ask)(self.device) };
                Ok(())
            }
            Err(held) => Err(held.map(|HeldIrp(irp)| irp)),
        }
    }

    /// The device was powered down because no program uses it, and is to go on: asks for full
    /// power. Not while the system sleeps. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn resume(&self) {
        let now = milliseconds();
        let asks = self.change(move |supply| {
            if !supply.works || supply.stage == SupplyStage::Gone {
                return false;
            }
            // Also if it did not get as far as the device.
            supply.stage = SupplyStage::Asleep;
            supply.pause = FIRST_PAUSE_MS;
            supply.since = now;
            self.begin(supply)
        });
        if asks {
            // SAFETY: the remove lock is held, and the object is one of the role that `ask` is for.
            unsafe { (self.ask)(self.device) };
        }
    }

    /// Whether the device was powered down because no program uses it, and was not powered up
    /// since.
    pub(in crate::kernel) fn is_suspended(&self) -> bool {
        self.state.with(|supply| supply.suspended)
    }

    /// Asks for power that the device should have, if no thread does: for a request that needs it,
    /// or because the time has come (`timer`).
    fn again(&self, timer: bool) {
        let now = milliseconds();
        let asks = self.change(move |supply| {
            let due = match supply.stage {
                SupplyStage::Waking => supply.short,
                SupplyStage::Lost => {
                    supply.short || !timer && now.saturating_sub(supply.since) >= REFUSED_MS
                }
                SupplyStage::Full | SupplyStage::Asleep | SupplyStage::Gone => false,
            };
            due && supply.works && supply.asks == 0 && self.begin(supply)
        });
        if asks {
            // SAFETY: the remove lock is held, and the object is one of the role that `ask` is for.
            unsafe { (self.ask)(self.device) };
        }
    }

    /// A request that needs the device has arrived: asks for its power, if it should have it and
    /// has not. At <= `DISPATCH_LEVEL`.
    #[inline]
    pub(crate) fn request(&self) {
        if self.wanting.load(Ordering::Acquire) {
            self.again(false);
        }
    }

    /// A request for full power has ended, or there was no memory for it (`refused`). To be called
    /// until it is over. At <= `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn conclude(&self, refused: bool) -> Conclusion {
        let now = milliseconds();
        let conclusion = self.change(move |supply| {
            if supply.asks == 1 && supply.stage == SupplyStage::Waking {
                let left = PATIENCE_MS.saturating_sub(now.saturating_sub(supply.since));
                if refused {
                    self.wait(supply, left);
                }
                if !refused || left == 0 {
                    supply.stage = SupplyStage::Lost;
                    if !refused {
                        supply.since = now;
                    }
                    return None;
                }
            }
            supply.asks = supply.asks.saturating_sub(1);
            // Several requests end together: no caller waits for half of them.
            let over = supply.asks == 0;
            let held = supply.held.take_if(|_| over);
            Some((held, supply.sleeper.take_if(|_| over)))
        });
        conclusion.map_or(Conclusion::Lost, |(held, sleeper)| {
            let raw = |HeldIrp(irp)| irp;
            Conclusion::Over(held.map(raw), sleeper.map(raw))
        })
    }

    /// Starts the timer. Requests wait for so many milliseconds more, if at all: it does not run
    /// longer than they do. With the state's lock held.
    fn wait(&self, supply: &mut Supply, left: u64) {
        supply.short = true;
        let pause = match left {
            0 => supply.pause,
            left => supply.pause.min(left),
        };
        supply.pause = supply.pause.saturating_mul(2).min(LONGEST_PAUSE_MS);
        // SAFETY: initialised; the supply outlives the timer, which `gone` stops.
        unsafe { self.timer.start(pause.saturating_mul(HUNDRED_NS)) };
    }

    /// The device has full power: whether it may use it, for the system works.
    pub(in crate::kernel) fn comes(&self) -> bool {
        self.change(|supply| {
            self.calm(supply);
            supply.suspended = false;
            if supply.stage != SupplyStage::Gone && supply.works {
                supply.stage = SupplyStage::Full;
            }
            supply.works
        })
    }

    /// The device was refused full power. Whether it is to be left alone from now on, and the
    /// thread that waits for it told: it had power, or there is no request of its own, whose end
    /// does so.
    pub(in crate::kernel) fn fails(&self) -> bool {
        let now = milliseconds();
        self.change(move |supply| {
            let now_lost = supply.stage == SupplyStage::Full
                || supply.stage == SupplyStage::Waking && supply.asks == 0;
            if now_lost {
                supply.stage = SupplyStage::Lost;
                supply.since = now;
            }
            now_lost
        })
    }

    /// The device was told to sleep: because no program uses it (`suspended`), or with the system.
    pub(in crate::kernel) fn goes(&self, suspended: bool) {
        self.change(move |supply| {
            supply.suspended = suspended;
            if supply.stage == SupplyStage::Full {
                supply.stage = SupplyStage::Asleep;
            }
        });
    }

    /// The system goes to sleep: no thread asks any more.
    pub(in crate::kernel) fn sleep(&self) {
        self.change(|supply| {
            supply.works = false;
            self.calm(supply);
            if supply.stage != SupplyStage::Gone {
                supply.stage = SupplyStage::Asleep;
            }
        });
    }

    /// The system goes to sleep, [`PowerSupply::sleep`], and this is its IRP, put aside. It comes
    /// back if no request for full power is under way: such a one would power the device up when it
    /// already sleeps. Else it is told at the end of the last one.
    pub(in crate::kernel) fn after_requests(&self, irp: NonNull<IRP>) -> Option<NonNull<IRP>> {
        let irp = HeldIrp(irp);
        let back = self.state.with(move |supply| {
            if supply.asks == 0 {
                return Some(irp);
            }
            supply.sleeper = Some(irp);
            None
        });
        back.map(|HeldIrp(irp)| irp)
    }

    /// `START_DEVICE` implies full power.
    pub(in crate::kernel) fn started(&self) {
        self.change(|supply| {
            self.calm(supply);
            supply.suspended = false;
            if supply.stage != SupplyStage::Gone {
                supply.stage = SupplyStage::Full;
            }
        });
    }

    /// The device is removed: no thread asks any more. A timer that has run out may still call,
    /// until deferred procedure calls were flushed.
    pub(in crate::kernel) fn gone(&self) {
        self.change(|supply| {
            self.calm(supply);
            supply.stage = SupplyStage::Gone;
        });
    }
}

/// The timer: at `DISPATCH_LEVEL`.
unsafe extern "C" fn time_over(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    // SAFETY: `try_new` passed the supply.
    let context = unsafe { NonNull::new_unchecked(context) };
    // SAFETY: the device has an owner of its supply, and deferred procedure calls are flushed before
    // it goes.
    unsafe { Shared::<PowerSupply>::peek(context) }.again(true);
}

//! What a driver costs, counted exactly: instructions, kernel calls, memory, locks, switches.
//!
//! While a driver is counted, all threads run its code with the trap flag set, and the signal handler
//! adds one at each of its instructions: nothing else happens there. What the kernel itself does, or
//! `memcpy` and its kin, is not the driver's. A string instruction counts as one, as does a port
//! access.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::mem::{Kind, Va};
use crate::sched::{ThreadKind, Tid};
use crate::state::{Kernel, with};
use crate::{DriverId, Machine};

thread_local! {
    /// One counter for each byte of the counted driver's image; null, if none is counted.
    static COUNTERS: Cell<*mut u64> = const { Cell::new(core::ptr::null_mut()) };
}

#[cfg_attr(
    target_arch = "aarch64",
    allow(dead_code, reason = "no single step there")
)]
/// Whether a driver is counted; if so, adds one at this offset in its image. Called by the signal
/// handler, for offsets in the image alone.
pub(crate) fn instruction(offset: usize) -> bool {
    let counters = COUNTERS.get();
    if counters.is_null() {
        return false;
    }
    // SAFETY: there is a counter for each byte of the image.
    let counter = unsafe { counters.add(offset) };
    // SAFETY: the counters live while `COUNTERS` leads to them, and only this thread uses them now.
    unsafe { *counter += 1 };
    true
}

/// What is counted of a driver.
pub(crate) struct Counting {
    driver: DriverId,
    places: Box<[u64]>,
    calls: BTreeMap<&'static str, u64>,
    locks: BTreeMap<(Va, Va), u64>,
    switches: u64,
    last: Tid,
    before: Totals,
}

#[derive(Clone, Copy)]
struct Totals {
    given: (u64, u64),
    accesses: u64,
    time: crate::Nanos,
}

impl Totals {
    fn of(k: &Kernel, driver: DriverId) -> Self {
        Self {
            given: k.mem.given_to(driver),
            accesses: k.ports.accesses,
            time: k.now,
        }
    }
}

/// What a driver did while it was counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Instructions of the driver.
    pub instructions: u64,
    /// The same by offset in its image, those that ran.
    pub places: Vec<(u32, u64)>,
    /// Calls of kernel functions, but for those that the compiler calls, such as `memcpy`.
    pub calls: BTreeMap<&'static str, u64>,
    /// Blocks of memory that it got: pool, IRPs, MDLs, work items.
    pub allocations: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Which locks it acquired.
    pub locks: Vec<LockUse>,
    /// How often the processor went over to a system thread or a work item; back is as often.
    pub switches: u64,
    /// Port accesses.
    pub accesses: u64,
    /// Virtual time, nanoseconds.
    pub time: crate::Nanos,
}

/// A lock that a driver acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockUse {
    /// Where it lies.
    pub lock: Lock,
    /// Its address.
    pub address: usize,
    /// Where in the driver it was acquired: an offset in its image.
    pub site: u32,
    /// How often.
    pub count: u64,
}

/// Where a lock lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// In the extension of a device object, with its name, at this offset.
    Device(String, usize),
    /// In a block of pool of this size that the driver allocated at this offset of its image.
    Pool {
        /// Bytes of the block.
        size: usize,
        /// Where in the driver the block was allocated.
        site: u32,
        /// Where in the block the lock is.
        offset: usize,
    },
    /// The system's cancel spin lock.
    Cancel,
    /// Elsewhere.
    Other,
}

impl Counts {
    /// Calls of kernel functions.
    #[must_use]
    pub fn kernel_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Acquisitions of locks.
    #[must_use]
    pub fn lock_acquisitions(&self) -> u64 {
        self.locks.iter().map(|used| used.count).sum()
    }
}

impl Kernel {
    /// A driver calls a kernel function.
    pub(crate) fn count_call(&mut self, driver: DriverId, name: &'static str) {
        if let Some(counting) = &mut self.counting
            && counting.driver == driver
        {
            *counting.calls.entry(name).or_default() += 1;
        }
    }

    /// The running thread acquires a lock.
    pub(crate) fn count_lock(&mut self, lock: Va) {
        let caller = self.caller();
        let site = self.site().0;
        if let Some(counting) = &mut self.counting
            && Some(counting.driver) == caller
        {
            *counting.locks.entry((lock, site)).or_default() += 1;
        }
    }

    /// A thread is about to run.
    pub(crate) fn count_switch(&mut self, thread: Tid) {
        let is_driver =
            self.sched.threads.get(&thread).is_some_and(|thread| {
                matches!(thread.kind, ThreadKind::System | ThreadKind::WorkItem)
            });
        if let Some(counting) = &mut self.counting
            && counting.last != thread
        {
            counting.last = thread;
            counting.switches += u64::from(is_driver);
        }
    }

    /// Which of the threads that can run does so while a driver is counted: the one that did, as long
    /// as it can.
    pub(crate) fn next_counted(&self, ready: &[Tid]) -> Option<Tid> {
        let last = self.counting.as_ref()?.last;
        let same = ready.iter().find(|tid| **tid == last);
        same.or_else(|| ready.first()).copied()
    }

    /// Whether drivers run with the trap flag, to be counted.
    pub(crate) const fn is_counting(&self) -> bool {
        self.counting.is_some()
    }

    fn lock_at(&self, va: Va) -> Lock {
        if va == self.ke.cancel_lock {
            return Lock::Cancel;
        }
        let Some(block) = self.mem.find(va) else {
            return Lock::Other;
        };
        let offset = va - block.va;
        match block.kind {
            Kind::Pool(_) => Lock::Pool {
                size: block.size,
                site: self.locate(block.allocated.0).map_or(0, |(_, rva)| rva),
                offset,
            },
            Kind::Device => {
                let device = self.devices.get(&block.va);
                let name = device.and_then(|device| device.name.clone());
                Lock::Device(name.unwrap_or_default(), offset)
            }
            _ => Lock::Other,
        }
    }
}

impl Machine {
    /// Counts what this driver does from now on, until [`Machine::counted`]. Ports are to be unpatched
    /// ([`Config::patch_ports`](crate::Config::patch_ports)), or what is replaced there is not seen.
    /// Not while a thread is watched.
    pub fn count(&self, driver: DriverId) {
        with(|k| {
            let image = k.driver(driver).image.as_ref();
            let (first, size) = image.map_or((0, 0), |image| (image.base, image.size));
            let mut places = vec![0_u64; size].into_boxed_slice();
            COUNTERS.set(places.as_mut_ptr());
            crate::cpu::set_watched((first, first + size));
            let before = Totals::of(k, driver);
            k.counting = Some(Counting {
                driver,
                places,
                calls: BTreeMap::new(),
                locks: BTreeMap::new(),
                switches: 0,
                last: 0,
                before,
            });
        });
    }

    /// What was counted.
    ///
    /// # Panics
    /// If nothing was.
    #[must_use]
    pub fn counted(&self) -> Counts {
        with(|k| {
            let Counting {
                driver,
                places,
                calls,
                locks,
                switches,
                before,
                ..
            } = k.counting.take().expect("a driver that is counted");
            COUNTERS.set(core::ptr::null_mut());
            k.sched.disarm();
            let after = Totals::of(k, driver);
            let ran = places.iter().enumerate().filter(|(_, count)| **count != 0);
            Counts {
                instructions: places.iter().sum(),
                places: ran
                    .filter_map(|(at, count)| Some((u32::try_from(at).ok()?, *count)))
                    .collect(),
                calls,
                allocations: after.given.0 - before.given.0,
                bytes: after.given.1 - before.given.1,
                locks: locks
                    .into_iter()
                    .map(|((address, site), count)| LockUse {
                        lock: k.lock_at(address),
                        address,
                        site: k.locate(site).map_or(0, |(_, rva)| rva),
                        count,
                    })
                    .collect(),
                switches,
                accesses: after.accesses - before.accesses,
                time: after.time - before.time,
            }
        })
    }
}

/// Forgets what a machine that is gone was counting.
pub(crate) fn reset() {
    COUNTERS.set(core::ptr::null_mut());
}

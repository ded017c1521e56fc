//! What there is in the machine: devices, links, threads, events, what a driver holds.

use super::Machine;
use crate::bugcheck::Bugcheck;
use crate::state::Kernel;
use crate::{DriverId, Registry, etw, iomgr, nt, sched, trace};

/// A device object, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name in the object name space.
    pub name: Option<String>,
    /// Name of its driver.
    pub driver: String,
    /// `Flags`.
    pub flags: u32,
    /// `DeviceType`.
    pub device_type: u32,
    /// `Characteristics`.
    pub characteristics: u32,
    /// Self-relative security descriptor set on it, empty if none.
    pub security: Vec<u8>,
    /// Whether it is a PDO.
    pub is_pdo: bool,
}

/// What can be read off the machine at any time.
macro_rules! views {
    ($($(#[$doc:meta])* $name:ident -> $seen:ty = $look:expr;)*) => {
        impl Machine { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> $seen {
                let look: fn(&mut Kernel) -> $seen = $look;
                self.with(look)
            }
        )* }
    };
}

views! {
    /// IRPs that exist.
    live_irps -> usize = |k| iomgr::live_irps(k);
    /// What happened so far.
    trace -> Vec<trace::Event> = |k| k.trace.clone();
    /// The events that sessions got.
    etw_events -> Vec<etw::EtwEvent> = |k| k.etw.events().to_vec();
    /// How often drivers called `EtwWriteTransfer`.
    etw_writes -> u64 = |k| k.etw.writes;
    /// The entries of the error log.
    error_log -> Vec<etw::LogEntry> = |k| k.etw.log().to_vec();
    /// How many port accesses there were since boot.
    port_accesses -> u64 = |k| k.ports.accesses;
    /// How many kernel functions drivers have called since boot, but for those that the compiler
    /// calls, such as `memcpy`.
    kernel_calls -> u64 = |k| k.calls;
}

impl Machine {
    /// Device objects that exist.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.with(|k| {
            k.devices
                .values()
                .filter(|d| !d.deleted)
                .map(|d| {
                    let dev = nt::types::Dev(d.va);
                    DeviceInfo {
                        name: d.name.clone(),
                        driver: k.driver(d.driver).name.clone(),
                        flags: dev.flags(),
                        device_type: dev.device_type(),
                        characteristics: dev.characteristics(),
                        security: d.security.clone(),
                        is_pdo: d.is_pdo,
                    }
                })
                .collect()
        })
    }

    /// Symbolic links: name and target.
    #[must_use]
    pub fn links(&self) -> Vec<(String, String)> {
        self.with(|k| {
            k.links
                .values()
                .map(|l| (l.name.clone(), l.target.clone()))
                .collect()
        })
    }

    /// Device interfaces: class, link name, whether enabled.
    #[must_use]
    pub fn interfaces(&self) -> Vec<(String, String, bool)> {
        self.with(|k| {
            k.interfaces
                .iter()
                .map(|i| (i.class.clone(), i.link.clone(), i.enabled))
                .collect()
        })
    }

    /// System threads of drivers that are running.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.with(|k| {
            let s = &k.sched;
            s.threads
                .iter()
                .filter(|(t, th)| th.kind == sched::ThreadKind::System && !s.is_done(**t))
                .count()
        })
    }

    /// Reads or changes the registry.
    pub fn registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        self.with(|k| f(&mut k.registry))
    }

    /// An ETW session listens to events up to a level from now on, 0 for every level; or none does.
    ///
    /// # Errors
    /// A rule was broken in an enable callback.
    pub fn listen(&self, level: Option<u8>) -> Result<(), Bugcheck> {
        sched::call("listen", move || etw::listen(level))
    }

    /// An ETW session asks every provider to tell how things are: who listens stays.
    ///
    /// # Errors
    /// A rule was broken in an enable callback.
    pub fn capture_trace_state(&self) -> Result<(), Bugcheck> {
        sched::call("capture state", etw::capture_state)
    }

    /// How many blocks of memory this driver has got from the kernel since boot: pool, IRPs, MDLs,
    /// work items.
    #[must_use]
    pub fn allocations(&self, driver: DriverId) -> u64 {
        self.with(|k| k.mem.given_to(driver).0)
    }

    /// What this driver holds now.
    #[must_use]
    pub fn held_by(&self, driver: DriverId) -> Held {
        self.with(|k| {
            let mut held = Held::default();
            for block in k.mem.live_blocks().filter(|b| b.owner == Some(driver)) {
                held.blocks += 1;
                held.bytes += block.size;
            }
            let handles = k.handles.values();
            held.handles = handles.filter(|h| h.owner == Some(driver)).count();
            let devices = k.devices.values();
            held.devices = devices.filter(|d| d.driver == driver && !d.deleted).count();
            let links = k.links.values();
            held.links = links.filter(|l| l.owner == Some(driver)).count();
            let live = |(tid, t): &(&sched::Tid, &sched::Thread)| {
                t.owner == Some(driver) && !k.sched.is_done(**tid)
            };
            held.threads = k.sched.threads.iter().filter(live).count();
            held.work_items = k
                .work_items
                .values()
                .filter(|w| w.owner == Some(driver))
                .count();
            held.timers = nt::ke::ex_timers_of(k, driver);
            held
        })
    }

    /// The broken rule that stopped the machine, if any.
    #[must_use]
    pub fn bugcheck(&self) -> Option<Bugcheck> {
        self.with(|k| k.bugcheck.clone())
    }
}

/// What a driver holds: see [`Machine::held_by`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Blocks of memory: pool, IRPs, MDLs, device objects, work items.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Open handles.
    pub handles: usize,
    /// Device objects.
    pub devices: usize,
    /// Symbolic links, but for those of interfaces.
    pub links: usize,
    /// System threads that run.
    pub threads: usize,
    /// `IO_WORKITEM`s.
    pub work_items: usize,
    /// `EX_TIMER`s.
    pub timers: usize,
}

//! The machine's state and the one way to reach it.
//!
//! A machine belongs to one host thread. Its state is borrowed for short moments only, never
//! across a call into the driver or a thread switch.

use std::cell::{Cell, UnsafeCell};
use std::collections::{BTreeMap, HashMap};

use crate::image::Image;
use crate::mem::{Kind, Mem, Va};
use crate::ports::Ports;
use crate::registry::Registry;
use crate::rules::Rule;
use crate::sched::{Sched, Tid};
use crate::trace::{Event, EventKind};
use crate::walk::{Place, walk};
use crate::{Bugcheck, Config, Nanos, NtStatus};

/// A loaded driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriverId(pub(crate) usize);

/// A place in a driver's code: the return address of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Site(pub Va);

/// What the I/O manager keeps of a driver.
pub(crate) struct Driver {
    pub name: String,
    pub object: Va,
    pub image: Option<Image>,
    pub loaded: bool,
    pub service_key: String,
}

impl Driver {
    /// The machine's own drivers follow their own rules.
    pub(crate) fn is_internal(&self) -> bool {
        self.image.is_none()
    }
}

/// What the I/O manager keeps of a device object, besides the object itself.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Device {
    pub va: Va,
    pub driver: DriverId,
    pub name: Option<String>,
    pub extension: (Va, usize),
    pub lower: Option<Va>,
    pub upper: Option<Va>,
    pub refs: i32,
    /// Who took how many of them, given back ones taken off.
    pub holders: BTreeMap<DriverId, i32>,
    pub opens: u32,
    pub deleted: bool,
    pub exclusive: bool,
    pub security: Vec<u8>,
    pub is_pdo: bool,
    pub reported: bool,
    /// The device power state that its driver told: 0 before it did.
    pub power: u32,
}

/// An object that drivers reference or have handles to.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Thread(Tid),
    File(Va),
    Key(String),
    Device(Va),
}

/// An open handle.
#[derive(Clone, Debug)]
pub(crate) struct HandleRec {
    pub object: Object,
    pub owner: Option<DriverId>,
    pub kernel: bool,
    pub site: Site,
}

/// A device interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub class: String,
    pub link: String,
    pub pdo: Va,
    pub driver: Option<DriverId>,
    pub enabled: bool,
}

/// A symbolic link in the object name space.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub name: String,
    pub target: String,
    pub owner: Option<DriverId>,
}

pub(crate) struct Kernel {
    pub config: Config,
    pub rng: Rng,
    pub now: Nanos,
    pub cpu_time: Nanos,
    pub sched: Sched,
    pub mem: Mem,
    pub ports: Ports,
    pub registry: Registry,
    pub trace: Vec<Event>,
    pub bugcheck: Option<Bugcheck>,
    pub drivers: Vec<Driver>,
    pub devices: BTreeMap<Va, Device>,
    pub links: BTreeMap<String, Link>,
    pub handles: BTreeMap<usize, HandleRec>,
    pub next_handle: usize,
    pub interfaces: Vec<Interface>,
    pub io: crate::iomgr::Io,
    pub pnp: crate::pnp::Pnp,
    pub po: crate::power::Po,
    pub usb: crate::usb::Usb,
    pub etw: crate::etw::Etw,
    pub ke: crate::nt::ke::Ke,
    pub mdls: BTreeMap<Va, crate::nt::mm::Mdl>,
    pub user: crate::user::UserMemory,
    /// Kernel calls of drivers since boot.
    pub calls: u64,
    pub remove_locks: BTreeMap<Va, crate::nt::remlock::RemoveLock>,
    pub work_items: BTreeMap<Va, crate::nt::work::WorkItem>,
    pub refs: BTreeMap<Va, i32>,
    pub failable: u64,
    pub fail_at: Vec<u64>,
    pub failed_calls: Vec<String>,
    pub inject: bool,
    /// The one driver whose calls fault injection counts and fails.
    pub inject_into: Option<DriverId>,
    /// A panic of a model, on its way to the test.
    pub seen_stacks: Option<crate::SeenStacks>,
    pub panic: Option<Box<dyn core::any::Any + Send>>,
    /// Who is asked at every point.
    pub points: Option<crate::points::Decide>,
    /// Whose reached blocks are noted, for drivers that are loaded from now on.
    #[cfg(target_arch = "x86_64")]
    pub coverage: Option<&'static crate::Coverage>,
    pub data_exports: HashMap<&'static str, Va>,
    /// The driver that is counted.
    pub counting: Option<crate::count::Counting>,
}

pub(crate) struct Core {
    kernel: UnsafeCell<Kernel>,
    borrowed: Cell<bool>,
}

thread_local! {
    static CORE: Cell<*const Core> = const { Cell::new(core::ptr::null()) };
}

impl Core {
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self {
            kernel: UnsafeCell::new(kernel),
            borrowed: Cell::new(false),
        }
    }

    /// Makes this the machine of the calling host thread.
    pub(crate) fn enter(&self) {
        assert!(
            CORE.get().is_null(),
            "one machine at a time on a host thread: drop the other one first"
        );
        CORE.set(self);
    }

    pub(crate) fn leave() {
        CORE.set(core::ptr::null());
    }
}

/// Borrows this host thread's machine.
pub(crate) fn with<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    let core = CORE.get();
    assert!(!core.is_null(), "no machine on this host thread");
    // SAFETY: the machine is alive while it is entered.
    let core = unsafe { &*core };
    assert!(!core.borrowed.replace(true), "machine state borrowed twice");
    // SAFETY: the flag above makes this the only reference.
    let kernel = unsafe { &mut *core.kernel.get() };
    let result = f(kernel);
    core.borrowed.set(false);
    result
}

/// Ends a borrow whose holder will never run again.
pub(crate) fn abandon_borrow() {
    let core = CORE.get();
    if !core.is_null() {
        // SAFETY: the machine is alive while it is entered.
        unsafe { &*core }.borrowed.set(false);
    }
}

/// Stops the machine: the driver broke `rule`. Never returns; the running thread is abandoned.
pub(crate) fn fail(rule: Rule, what: impl Into<String>) -> ! {
    let sites = with_abandoned(|k| k.call_stack());
    fail_with(rule, what.into(), &sites)
}

/// Borrows the state whichever thread held it: only for threads that end here.
fn with_abandoned<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    abandon_borrow();
    with(f)
}

pub(crate) fn fail_with(rule: Rule, what: String, stack: &[Va]) -> ! {
    with_abandoned(|k| {
        if k.bugcheck.is_none() {
            let mut sites: Vec<Va> = Vec::new();
            for va in stack {
                if !sites.contains(va) {
                    sites.push(*va);
                }
            }
            let frames = sites
                .iter()
                .filter_map(|va| k.locate(*va))
                .take(12)
                .collect();
            let check = Bugcheck {
                rule,
                what,
                frames,
                at: k.now,
            };
            k.note(format!("BUGCHECK {check}"));
            k.bugcheck = Some(check);
        }
    });
    crate::sched::die()
}

impl Kernel {
    /// Driver and offset of a code address.
    pub(crate) fn locate(&self, va: Va) -> Option<(String, u32)> {
        self.drivers.iter().find_map(|d| {
            let image = d.image.as_ref()?;
            let rva = image.rva(va)?;
            Some((d.name.clone(), rva))
        })
    }

    pub(crate) fn driver_at(&self, va: Va) -> Option<DriverId> {
        self.drivers
            .iter()
            .position(|d| d.image.as_ref().is_some_and(|i| i.rva(va).is_some()))
            .map(DriverId)
    }

    /// The driver that made the kernel call now running.
    pub(crate) fn caller(&self) -> Option<DriverId> {
        self.sched.threads.get(&self.sched.current)?.caller
    }

    /// The same with its place; in one of the machine's own drivers, the driver that called that.
    pub(crate) fn asker(&self) -> (Option<DriverId>, Site) {
        let outer = self.sched.threads.get(&self.sched.current);
        match (self.caller(), outer.and_then(|t| t.outer.last())) {
            (None, Some((call, _, caller))) => (*caller, Site(*call)),
            (caller, _) => (caller, self.site()),
        }
    }

    /// The stack inside the drivers that led to the kernel call now running, through the kernel
    /// calls around it.
    pub(crate) fn call_stack(&self) -> Vec<Va> {
        let mut stack = self.own_stack();
        stack.extend(self.outer_stack());
        stack
    }

    /// The innermost part of it: up to the first kernel code.
    pub(crate) fn own_stack(&self) -> Vec<Va> {
        let Some(t) = self.sched.threads.get(&self.sched.current) else {
            return Vec::new();
        };
        self.walk(t.call, t.call_place, false)
    }

    /// The rest of it: the kernel calls from which drivers were called.
    fn outer_stack(&self) -> Vec<Va> {
        let Some(t) = self.sched.threads.get(&self.sched.current) else {
            return Vec::new();
        };
        let parts = t.outer.iter().rev();
        parts
            .flat_map(|(call, place, _)| self.walk(*call, *place, false))
            .collect()
    }

    /// The stack inside the drivers at a fault: from the faulting instruction on, or (`called`)
    /// from the return address of a call that led to no code.
    pub(crate) fn fault_stack(&self, place: Place, called: bool) -> Vec<Va> {
        let mut stack = self.walk(place.rip, place, !called);
        stack.extend(self.outer_stack());
        stack
    }

    fn walk(&self, rip: Va, place: Place, fault: bool) -> Vec<Va> {
        if rip == 0 {
            return Vec::new();
        }
        let images: Vec<_> = self
            .drivers
            .iter()
            .filter(|d| d.loaded)
            .filter_map(|d| d.image.as_ref())
            .collect();
        let top = self.sched.stack_top();
        walk(&images, Place { rip, ..place }, fault, top)
    }

    /// Whether the address is code of a loaded driver.
    pub(crate) fn is_code(&self, va: Va) -> bool {
        self.drivers
            .iter()
            .any(|d| d.loaded && d.image.as_ref().is_some_and(|i| i.contains(va)))
    }

    /// Whether a routine is one of the machine's own, not a driver's.
    #[allow(clippy::unused_self, reason = "a question to the machine")]
    pub(crate) fn is_internal(&self, routine: Va) -> bool {
        crate::cpu::is_own_code(routine)
    }

    pub(crate) fn site(&self) -> Site {
        Site(self.sched.current_call().unwrap_or(0))
    }

    pub(crate) fn site_name(&self, site: Site) -> String {
        match self.locate(site.0) {
            Some((name, rva)) => format!("{name}+{rva:#x}"),
            None => "the machine".to_owned(),
        }
    }

    pub(crate) fn event(&mut self, kind: EventKind) {
        let event = Event {
            at: self.now,
            thread: self.sched.current,
            kind,
        };
        if self.config.echo {
            eprintln!("{event}");
        }
        if self.trace.len() < self.config.trace_limit {
            self.trace.push(event);
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.event(EventKind::Note(text.into()));
    }

    pub(crate) fn driver(&self, id: DriverId) -> &Driver {
        &self.drivers[id.0]
    }

    /// Allocates memory of the machine's own for drivers to see, zeroed.
    pub(crate) fn system_alloc(&mut self, size: usize, what: &'static str) -> Va {
        self.mem
            .alloc(size, Kind::System(what), false, None, Site::default(), || 0)
    }

    pub(crate) fn new_handle(&mut self, object: Object, kernel: bool) -> usize {
        self.next_handle += 4;
        let value = if kernel {
            // Kernel handles have the top bits set.
            0xFFFF_FFFF_8000_0000 | self.next_handle
        } else {
            self.next_handle
        };
        let owner = self.caller();
        let site = self.site();
        self.handles.insert(
            value,
            HandleRec {
                object,
                owner,
                kernel,
                site,
            },
        );
        value
    }

    /// Whether fault injection wants the present failable call to fail.
    pub(crate) fn take_injection(&mut self) -> bool {
        core::mem::take(&mut self.inject)
    }

    /// Whether fault injection lets the kernel call now running go on.
    pub(crate) fn may_go_on(&mut self) -> Result<(), NtStatus> {
        if self.take_injection() {
            Err(NtStatus::INSUFFICIENT_RESOURCES)
        } else {
            Ok(())
        }
    }

    /// Memory for something of this kind that the running driver makes: where, and for whom. `None`,
    /// if fault injection takes it.
    pub(crate) fn make(&mut self, size: usize, kind: Kind) -> Option<(Va, Option<DriverId>)> {
        if self.take_injection() {
            return None;
        }
        let (owner, site) = (self.caller(), self.site());
        Some((self.mem.alloc(size, kind, false, owner, site, || 0), owner))
    }

    /// A handle of the kernel's to a key of the registry that is there.
    pub(crate) fn open_existing_key(&mut self, path: String) -> Result<usize, NtStatus> {
        self.may_go_on()?;
        if self.registry.exists(&path) {
            Ok(self.open_key(path))
        } else {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND)
        }
    }

    /// A handle of the kernel's to a key of the registry.
    pub(crate) fn open_key(&mut self, path: String) -> usize {
        self.new_handle(Object::Key(path), true)
    }
}

/// A small generator of reproducible choices (splitmix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

pub(crate) const fn status_of(raw: usize) -> NtStatus {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "an NTSTATUS is the low half of rax"
    )]
    NtStatus(raw as u32)
}

/// Whether a thread holds the state now.
pub(crate) fn is_borrowed() -> bool {
    let core = CORE.get();
    // SAFETY: the machine is alive while it is entered.
    !core.is_null() && unsafe { &*core }.borrowed.get()
}

pub(crate) fn current_core() -> *const Core {
    CORE.get()
}

impl Drop for Core {
    fn drop(&mut self) {
        self.kernel.get_mut().sched.abandon();
        Self::leave();
    }
}

//! A simulated NT machine: loads a Windows x64 kernel driver (`.sys`, PE32+) into this Linux
//! process and runs it as Windows would, with virtual time and with Driver Verifier's rules as
//! named failures.
//!
//! # What a machine is
//!
//! [`Machine::boot`] makes one. It has I/O ports behind which models sit ([`Machine::map_ports`]),
//! a bus whose devices a test plugs in ([`Machine::plug`]), a registry, drivers
//! ([`Machine::load_driver`], as many as a test wants), interrupts ([`Machine::interrupt`]), and
//! callers in user and kernel mode ([`Machine::open`],
//! [`Machine::device_io_control`]). Everything the driver does goes through simulated kernel
//! functions or traps; a broken rule stops the machine with a [`Bugcheck`] that names the rule, the
//! bug check that Driver Verifier would raise, and the place in the driver's image.
//!
//! ```no_run
//! use ntsim::{Caller, Config, DeviceSpec, Machine, Resource};
//!
//! let machine = Machine::boot(Config::default());
//! let driver = machine.load_driver("parscan.sys", "parscan", &[])?;
//! let node = machine.plug(DeviceSpec {
//!     enumerator: "ACPI".into(),
//!     device_id: "PNP0400".into(),
//!     instance: "1".into(),
//!     ..DeviceSpec::default()
//! }.with_resources(&[Resource::Port { base: 0x378, len: 8 }]));
//! assert!(machine.add_device(node, driver)?.is_success());
//! assert!(machine.start(node)?.is_success());
//! let handle = machine.open(r"\\.\LPT1", Caller::User64)?.expect("open");
//! let answer = machine.device_io_control(handle, 0x0016_0008, &[], 4)?;
//! println!("{} {:?}", answer.status, answer.output);
//! machine.close(handle)?;
//! machine.remove(node)?;
//! machine.unload(driver)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rooms
//!
//! | room | what lives there |
//! |---|---|
//! | `image` | PE loading: mapping, relocations, imports |
//! | `cpu` | traps: `in`/`out`, `mov cr8`, faults and their names |
//! | `sched` | threads as coroutines, virtual time, seeded choice |
//! | `stack` | kernel stacks of Windows' size, and the machine's own beside them |
//! | `watch` | threads stopped at an instruction or a kernel call, and held there |
//! | `mem` | guard-paged memory |
//! | `user` | user memory: who touches it, where, and how often |
//! | `unwind` | frames inside a driver, from `.pdata` |
//! | `seh` | structured exceptions: handlers found, asked, and gone on in |
//! | `nt` | the exported functions, one file a prefix, one table |
//! | `iomgr` | IRPs: dispatch, completion, cancellation, the user's side |
//! | `pnp` | device tree, bus driver, start and removal |
//! | `power` | sleep and wake-up, device power IRPs |
//! | `majors` | requests of user mode, by any major function |
//! | `routine` | routines whose addresses drivers gave away |
//! | `leaks` | what an answer must not hold |
//! | [`etw`] | ETW providers and sessions, and the error log |
//! | [`usb`] | USB devices: a bus driver that answers URBs |
//! | [`Registry`], [`rules`], [`trace`], `ports` | as their names say |
//!
//! A new kernel function is an `extern "efiapi"` function in `nt` and one line in its table; a new
//! rule is one line in [`rules`] and a `fail` where it is broken. (`efiapi` is Rust's name for the
//! calling convention of Windows on either processor: `win64` on x64, that of C on ARM64.)
//!
//! # Processors
//!
//! The machine has the processor of its host and loads a driver for that. On ARM64, in `arm64`, are
//! its own traps, unwinding and exceptions; there is no I/O space. Not there: exception filters and
//! `__finally` blocks, functions that raise, touching user memory with anything but single loads and
//! stores of up to eight bytes.
//!
//! # Limits
//!
//! One machine at a time on a host thread. Each NT thread has a processor of its own, and one runs
//! at a time: they change places at kernel calls and port accesses, by the seed, and at any
//! instruction of a driver where a test holds one ([`Machine::watch`]). A held thread keeps its IRQL
//! and its locks for as long as the test likes, whatever virtual time goes by. Memory is as if every
//! processor saw every write at once and in order: what only a weaker order shows (x86-64 delays
//! a write behind a later read) is not found. An interrupt runs beside the other threads, too: it does
//! not hold up a processor, and comes when the test says so. A DPC waits for the thread that queued
//! it to come below `DISPATCH_LEVEL`, unless [`Config::several_processors`] gives it another one.
//! Driver code runs on a stack of 24 KB with a guard; what Windows itself needs of it is taken off by
//! fixed figures (room `stack`). Exceptions are those of user addresses and those that kernel
//! functions raise; what a driver reads through a mapped MDL is not counted as a fetch. Not there:
//! MDLs mapped into user space, message-signalled interrupts, DMA, `IRP_MN_WAIT_WAKE`, access checks
//! at open.
#![allow(
    clippy::similar_names,
    reason = "IRP, IRQL, PDO and FDO are what they are called"
)]
#![cfg_attr(
    target_arch = "aarch64",
    allow(
        dead_code,
        unused_imports,
        reason = "port I/O, and letting one instruction through, are for x64"
    )
)]
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod count;
#[cfg(target_arch = "x86_64")]
mod coverage;
#[cfg_attr(target_arch = "aarch64", path = "arm64/cpu.rs")]
mod cpu;
pub mod etw;
mod fault;
mod image;
mod iomgr;
mod leaks;
mod majors;
mod mem;
mod nt;
#[cfg_attr(target_arch = "aarch64", path = "arm64/patch.rs")]
mod patch;
mod pnp;
mod points;
mod ports;
mod power;
mod registry;
mod routine;
pub mod rules;
mod sched;
#[cfg_attr(target_arch = "aarch64", path = "arm64/seh.rs")]
mod seh;
mod signals;
#[cfg_attr(target_arch = "aarch64", path = "arm64/stack.rs")]
mod stack;
mod state;
mod status;
pub mod trace;
#[cfg_attr(target_arch = "aarch64", path = "arm64/unwind.rs")]
mod unwind;
pub mod usb;
mod user;
mod walk;
mod watch;

use core::fmt;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

pub use count::{Counts, Lock, LockUse};
#[cfg(target_arch = "x86_64")]
pub use coverage::{Block, Coverage};
pub use image::UnknownImport;
pub use iomgr::CANARY;
pub use leaks::{BUFFER_CANARY, Leak, LeakKind, POOL_CANARY};
pub use parscan_models::{Nanos, PortDevice, UsbFunction, Width};
pub use pnp::{DevNode, DeviceIds, NodeState};
pub use points::{Choice, Point, after_fork};
pub use ports::SharedPort;
pub use registry::{RegValue, Registry};
pub use routine::RoutineCall;
pub use rules::Rule;
pub use sched::When;
pub use state::DriverId;
pub use status::NtStatus;
pub use user::Protection;
pub use watch::{INTERRUPTED, Running, Stop, Where, Who};

use mem::{Va, poke, poke_bytes};
use nt::types::{DRIVER_EXTENSION_SIZE, DRIVER_NAME, DRIVER_SIZE, Drv, SERVICE_KEY_NAME};
use state::{Core, Driver, Kernel, Site, fail, status_of, with};

/// How a machine behaves.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Config {
    /// Decides every choice of the scheduler and every random byte.
    pub seed: u64,
    /// Records every kernel call.
    pub trace_calls: bool,
    /// Records every port access.
    pub trace_ports: bool,
    /// Prints events to standard error as they happen.
    pub echo: bool,
    /// At most so many events are kept.
    pub trace_limit: usize,
    /// CPU time of a port access, nanoseconds.
    pub port_access_ns: Nanos,
    /// CPU time of a kernel call, nanoseconds.
    pub call_ns: Nanos,
    /// Chance, out of 1000, that another thread gets its turn at a kernel call or port access.
    pub preempt_per_mille: u16,
    /// For how long a thread that lost its turn so stays away at least, nanoseconds, while virtual time
    /// goes on: threads of its processor run. At `DISPATCH_LEVEL` there are none.
    pub preempted_ns: Nanos,
    /// Puts a filter device between PDO and FDO, as I/O verification does.
    pub filter: bool,
    /// The bus completes PnP and power IRPs late and from another thread, so that every driver
    /// above sees `STATUS_PENDING`.
    pub force_pending: bool,
    /// A URB that needs no wait may end in the call that sends it, one out of four by chance; else
    /// each ends in the bus's own thread.
    pub urbs_in_call: bool,
    /// How many kernel calls and port accesses one call of this interface may take.
    pub max_steps: u64,
    /// How much virtual time one call of this interface may take, nanoseconds.
    pub max_time: Nanos,
    /// How long a cancelled request may stay pending, nanoseconds.
    pub cancel_timeout: Nanos,
    /// `IoGetDeviceObjectPointer` sends CLEANUP right after CREATE, for the handle that it used and
    /// closed; otherwise CLEANUP comes before CLOSE, with the last reference. The documents leave
    /// open which; a driver has to bear both.
    pub early_cleanup: bool,
    /// Pageable memory stays at `DISPATCH_LEVEL`: for long runs, as taking it away at every spin lock
    /// costs the host more than all the rest. Who touches it then goes unnoticed.
    pub keep_paged: bool,
    /// Memory that a driver gets with old content is full of [`POOL_CANARY`] or [`BUFFER_CANARY`]
    /// instead of random bytes, for [`Machine::leaks`].
    pub canary: bool,
    /// Port instructions of drivers are replaced by calls of the machine where they can be, which is
    /// faster than a trap; [`Machine::watch`] does not see what is replaced.
    pub patch_ports: bool,
    /// Notes how much of their stacks threads use, for [`Machine::stack_marks`].
    pub measure_stacks: bool,
    /// The level of events that an ETW session listens to from the start on; 0 is every level.
    pub etw_level: Option<u8>,
    /// Processors are there for all that could run: a DPC runs beside the thread that queued it, even
    /// while that is at `DISPATCH_LEVEL`, and a thread that spins for a lock goes on as soon as the
    /// lock is free, if that thread's turn comes by the seed.
    pub several_processors: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            trace_calls: false,
            trace_ports: true,
            echo: false,
            trace_limit: 200_000,
            port_access_ns: 1000,
            call_ns: 100,
            preempt_per_mille: 50,
            preempted_ns: 0,
            filter: true,
            force_pending: false,
            urbs_in_call: true,
            max_steps: 20_000_000,
            max_time: 3_600_000_000_000,
            cancel_timeout: 60_000_000_000,
            early_cleanup: true,
            keep_paged: false,
            canary: false,
            patch_ports: true,
            measure_stacks: false,
            etw_level: None,
            several_processors: false,
        }
    }
}

/// Who opens a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A 64-bit user process.
    User64,
    /// A 32-bit user process: `IoIs32bitProcess` is TRUE.
    User32,
    /// A kernel component.
    Kernel,
}

/// An open file object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(usize);

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bugcheck {
    /// Which rule.
    pub rule: Rule,
    /// What happened.
    pub what: String,
    /// Driver and offset in its image, innermost first: the kernel call or the faulting
    /// instruction, then its callers. Empty for what shows only after the driver returned.
    pub frames: Vec<(String, u32)>,
    /// When, virtual nanoseconds.
    pub at: Nanos,
}

impl fmt::Display for Bugcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] {}: {}",
            self.rule.id, self.rule.code, self.rule.text, self.what
        )?;
        for (i, (name, rva)) in self.frames.iter().enumerate() {
            let word = if i == 0 { " at" } else { "," };
            write!(f, "{word} {name}+{rva:#x}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Bugcheck {}

/// Why a driver is not loaded.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The file is not a driver image.
    Image(String),
    /// Functions that this machine does not export, all of them.
    UnknownImports(Vec<UnknownImport>),
    /// DriverEntry failed; the image is unloaded again.
    EntryFailed(NtStatus),
    /// A rule was broken.
    Bugcheck(Bugcheck),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(what) => write!(f, "not a driver image: {what}"),
            Self::UnknownImports(list) => {
                write!(f, "functions that ntsim does not export:")?;
                for i in list {
                    write!(f, " {}!{}", i.module, i.name)?;
                }
                Ok(())
            }
            Self::EntryFailed(status) => write!(f, "DriverEntry returned {status}"),
            Self::Bugcheck(check) => check.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<Bugcheck> for LoadError {
    fn from(check: Bugcheck) -> Self {
        Self::Bugcheck(check)
    }
}

/// One hardware resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// I/O ports.
    Port {
        /// First port.
        base: u64,
        /// How many.
        len: u32,
    },
    /// A memory range.
    Memory {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u32,
    },
    /// An interrupt.
    Interrupt {
        /// IRQL or line.
        level: u16,
        /// Vector.
        vector: u32,
        /// Latched (edge) or level-triggered.
        latched: bool,
    },
    /// A DMA channel.
    Dma {
        /// Channel.
        channel: u32,
    },
    /// A `CM_PARTIAL_RESOURCE_DESCRIPTOR` as bytes.
    Raw([u8; 20]),
}

impl Resource {
    /// As a `CM_PARTIAL_RESOURCE_DESCRIPTOR`: Type, `ShareDisposition`, Flags, 16 bytes by type.
    fn encode(&self) -> [u8; 20] {
        let mut out = [0_u8; 20];
        let (kind, share, flags): (u8, u8, u16) = match self {
            Self::Port { base, len } => {
                out[4..12].copy_from_slice(&base.to_le_bytes());
                out[12..16].copy_from_slice(&len.to_le_bytes());
                // exclusive; CM_RESOURCE_PORT_IO
                (1, 1, 1)
            }
            Self::Interrupt {
                level,
                vector,
                latched,
            } => {
                out[4..6].copy_from_slice(&level.to_le_bytes());
                out[8..12].copy_from_slice(&vector.to_le_bytes());
                out[12..20].copy_from_slice(&1_u64.to_le_bytes());
                (2, 1, u16::from(*latched))
            }
            Self::Memory { base, len } => {
                out[4..12].copy_from_slice(&base.to_le_bytes());
                out[12..16].copy_from_slice(&len.to_le_bytes());
                (3, 1, 0)
            }
            Self::Dma { channel } => {
                out[4..8].copy_from_slice(&channel.to_le_bytes());
                (4, 1, 0)
            }
            Self::Raw(bytes) => return *bytes,
        };
        out[0] = kind;
        out[1] = share;
        out[2..4].copy_from_slice(&flags.to_le_bytes());
        out
    }
}

/// One resource that a device needs, an `IO_RESOURCE_DESCRIPTOR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which; a port or an interrupt is the only one of its kind that will do.
    pub resource: Resource,
    /// It does in place of the one before (`IO_RESOURCE_ALTERNATIVE`).
    pub alternative: bool,
}

impl Need {
    /// As an `IO_RESOURCE_DESCRIPTOR`: Option, Type, `ShareDisposition`, Flags, 24 bytes by type.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        out[0] = if self.alternative { 8 } else { 0 };
        let assigned = self.resource.encode();
        out[1..3].copy_from_slice(&assigned[..2]);
        out[4..6].copy_from_slice(&assigned[2..4]);
        match &self.resource {
            Resource::Port { base, len } | Resource::Memory { base, len } => {
                out[8..12].copy_from_slice(&len.to_le_bytes());
                out[12..16].copy_from_slice(&1_u32.to_le_bytes());
                out[16..24].copy_from_slice(&base.to_le_bytes());
                let last = base.saturating_add(u64::from(*len)).saturating_sub(1);
                out[24..32].copy_from_slice(&last.to_le_bytes());
            }
            Resource::Interrupt { vector: one, .. } | Resource::Dma { channel: one } => {
                out[8..12].copy_from_slice(&one.to_le_bytes());
                out[12..16].copy_from_slice(&one.to_le_bytes());
            }
            Resource::Raw(_) => {}
        }
        out
    }
}

/// An `IO_RESOURCE_REQUIREMENTS_LIST` of these lists, the preferred one first.
#[must_use]
pub fn requirements_list(lists: &[Vec<Need>]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = vec![0; 0x20];
    bytes[0x1C..0x20].copy_from_slice(&number(lists.len()));
    for list in lists {
        // Version and revision 1.
        bytes.extend([1, 0, 1, 0]);
        bytes.extend(number(list.len()));
        for need in list {
            bytes.extend(need.encode());
        }
    }
    let size = number(bytes.len());
    bytes[..4].copy_from_slice(&size);
    bytes
}

/// A device for [`Machine::plug`].
#[derive(Clone, Debug, Default)]
pub struct DeviceSpec {
    /// Name of the bus, such as `ACPI`.
    pub enumerator: String,
    /// Device id without the enumerator, such as `PNP0400`.
    pub device_id: String,
    /// Instance id.
    pub instance: String,
    /// Hardware ids, with enumerator.
    pub hardware_ids: Vec<String>,
    /// Compatible ids.
    pub compatible_ids: Vec<String>,
    /// Setup class name.
    pub class: String,
    /// Setup class, with braces.
    pub class_guid: String,
    /// Values of the hardware key (`Device Parameters`).
    pub hardware_key: Vec<(String, RegValue)>,
    /// Values of the software key.
    pub software_key: Vec<(String, RegValue)>,
    /// Resources as the bus sees them.
    pub raw: Vec<Resource>,
    /// Resources as the processor sees them.
    pub translated: Vec<Resource>,
    /// What it needs, in lists of which one is enough, the preferred one first. If there is one,
    /// the PnP manager asks the stack about them, and assigns resources from the answer.
    pub requirements: Vec<Vec<Need>>,
    /// `FILE_DEVICE_` type of the PDO.
    pub device_type: u32,
    /// Whether the PDO has `DO_POWER_PAGABLE`.
    pub power_pagable: bool,
    /// More flags of the PDO, such as `DO_DIRECT_IO`.
    pub flags: u32,
}

impl DeviceSpec {
    /// The same resources, raw and translated.
    #[must_use]
    pub fn with_resources(mut self, resources: &[Resource]) -> Self {
        self.raw = resources.to_vec();
        self.translated = resources.to_vec();
        self
    }
}

/// How a device gets full power, see [`Machine::set_power_up`]. By default at once, and always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerUp {
    /// The answer of the bus, which leaves the device as it is.
    pub refused: Option<NtStatus>,
    /// It is not the bus that refuses, but a driver above the function driver, which does not see
    /// the request.
    pub above: bool,
    /// How long it takes.
    pub after: Nanos,
    /// The request ends before `PoRequestPowerIrp` returns, and so does its routine.
    pub inside: bool,
}

/// What a request gave its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoResult {
    /// Final status.
    pub status: NtStatus,
    /// `Information`, usually the number of bytes.
    pub information: usize,
    /// The caller's whole output buffer afterwards; what was not copied still is [`CANARY`].
    pub output: Vec<u8>,
    /// Virtual time that the request took.
    pub took: Nanos,
}

struct Slot {
    irp: Option<Va>,
    result: Option<IoResult>,
}

/// A request under way.
#[derive(Clone)]
pub struct Pending(Rc<RefCell<Slot>>);

/// The call stacks that systematic fault injection has failed once.
#[derive(Clone, Debug, Default)]
pub struct SeenStacks(Rc<RefCell<std::collections::BTreeSet<Vec<u32>>>>);

impl SeenStacks {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a stack. Returns whether it is new.
    pub(crate) fn note(&self, stack: Vec<u32>) -> bool {
        self.0.borrow_mut().insert(stack)
    }
}

/// Totals since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Virtual time, nanoseconds.
    pub now: Nanos,
    /// Processor time of drivers: calls, port accesses and stalls.
    pub cpu: Nanos,
    /// Of it, in `KeStallExecutionProcessor`.
    pub stalled: Nanos,
    /// Waits and delays.
    pub sleeping: Nanos,
    /// How often time alone woke a driver: waits and delays that ended so, and timers that expired.
    pub timer_wakeups: u64,
    /// Port accesses.
    pub port_accesses: u64,
    /// Of them, on ports where nobody answered.
    pub unanswered: u64,
}

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

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Machine {
    core: Rc<Core>,
}

impl Machine {
    /// Makes a machine on the calling host thread.
    ///
    /// # Panics
    /// If the thread already has one.
    #[must_use]
    pub fn boot(config: Config) -> Self {
        cpu::install();
        cpu::reset();
        count::reset();
        let kernel = Kernel {
            rng: state::Rng::new(config.seed),
            mem: mem::Mem::new(config.keep_paged),
            sched: sched::Sched::new(config.measure_stacks),
            etw: etw::Etw::new(config.etw_level),
            config,
            now: 0,
            cpu_time: 0,
            ports: ports::Ports::default(),
            registry: Registry::default(),
            trace: Vec::new(),
            bugcheck: None,
            drivers: Vec::new(),
            devices: std::collections::BTreeMap::new(),
            links: std::collections::BTreeMap::new(),
            handles: std::collections::BTreeMap::new(),
            next_handle: 0,
            interfaces: Vec::new(),
            io: iomgr::Io::default(),
            pnp: pnp::Pnp::default(),
            po: power::Po::default(),
            usb: usb::Usb::default(),
            ke: nt::ke::Ke::default(),
            mdls: std::collections::BTreeMap::new(),
            user: user::UserMemory::default(),
            calls: 0,
            remove_locks: std::collections::BTreeMap::new(),
            work_items: std::collections::BTreeMap::new(),
            refs: std::collections::BTreeMap::new(),
            failable: 0,
            fail_at: Vec::new(),
            failed_calls: Vec::new(),
            inject: false,
            inject_into: None,
            panic: None,
            seen_stacks: None,
            points: None,
            #[cfg(target_arch = "x86_64")]
            coverage: None,
            data_exports: std::collections::HashMap::new(),
            counting: None,
        };
        let core = Rc::new(Core::new(kernel));
        core.enter();
        with(|k| {
            k.ke.cancel_lock = k.system_alloc(8, "the cancel spin lock");
            k.data_exports = nt::data_exports(k);
            let processes = [
                k.system_alloc(64, "the system process"),
                k.system_alloc(64, "a process"),
                k.system_alloc(64, "a 32-bit process"),
            ];
            k.io.set_processes(processes[0], processes[1], processes[2]);
            k.io.default_dispatch = iomgr::invalid_device_request as *const () as usize;
            for key in [
                r"\Registry\Machine\System\CurrentControlSet\Services",
                r"\Registry\Machine\System\CurrentControlSet\Enum",
                r"\Registry\Machine\System\CurrentControlSet\Control\Class",
            ] {
                k.registry.create(key);
            }
            k.pnp.bus = internal_driver(k, "ACPI", pnp::bus_dispatch as *const () as usize);
            k.usb.bus = internal_driver(k, "USBHUB3", usb::dispatch as *const () as usize);
            k.pnp.filter = internal_driver(
                k,
                "VerifierFilter",
                pnp::filter_dispatch as *const () as usize,
            );
        });
        Self { core }
    }

    /// The machine of the calling host thread, for hooks.
    pub(crate) fn current() -> Self {
        let core = state::current_core();
        // SAFETY: hooks run while a machine is alive; it lives in an `Rc`.
        unsafe { Rc::increment_strong_count(core) };
        // SAFETY: the count was raised just now.
        let core = unsafe { Rc::from_raw(core) };
        Self { core }
    }

    /// Puts a model behind I/O ports. `block` is what the model gets as its block number.
    pub fn map_ports(&self, base: u16, len: u16, block: usize, device: SharedPort) {
        self.with(|k| k.ports.map(base, len, block, device));
    }

    /// Takes away the range that starts at `base`: nobody answers there any more.
    pub fn unmap_ports(&self, base: u16) {
        self.with(|k| k.ports.unmap(base));
    }

    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        debug_assert!(core::ptr::eq(Rc::as_ptr(&self.core), state::current_core()));
        with(f)
    }

    /// Loads a driver: maps it, makes its service key with the values of `Parameters`, runs
    /// DriverEntry.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_driver(
        &self,
        path: impl AsRef<Path>,
        service: &str,
        parameters: &[(&str, RegValue)],
    ) -> Result<DriverId, LoadError> {
        let image = self.with(|k| {
            let data = k.data_exports.clone();
            let number = k.drivers.len();
            image::Image::load(
                path.as_ref(),
                &mut k.rng,
                &|name| data.get(name).copied(),
                number,
                k.config.patch_ports,
            )
        });
        let image = image.map_err(|e| match e {
            image::ImageError::Unreadable(what) => LoadError::Image(what),
            image::ImageError::UnknownImports(list) => LoadError::UnknownImports(list),
        })?;
        let entry = image.entry;
        #[cfg(target_arch = "x86_64")]
        if let Some(coverage) = self.with(|k| k.coverage) {
            coverage.arm(path.as_ref(), image.base);
        }
        let (id, object, path) = self.with(|k| {
            let key = format!(r"\Registry\Machine\System\CurrentControlSet\Services\{service}");
            k.registry.create(&key);
            k.registry.set(&key, "Type", &RegValue::Dword(1));
            k.registry.create(&format!(r"{key}\Parameters"));
            for (name, value) in parameters {
                k.registry.set(&format!(r"{key}\Parameters"), name, value);
            }
            let object = driver_object(k, service);
            Drv(object).set_start(image.base);
            Drv(object).set_size(u32::try_from(image.size).unwrap_or(0));
            Drv(object).set_init(entry);
            for section in &image.paged {
                k.mem.add_section(*section);
            }
            let path = unicode_string(k, &key);
            k.drivers.push(Driver {
                name: service.to_owned(),
                object,
                image: Some(image),
                loaded: true,
                service_key: key,
            });
            k.note(format!("driver {service}"));
            (DriverId(k.drivers.len() - 1), object, path)
        });
        let status = sched::call("DriverEntry", move || {
            let check = nt::Entry::now();
            let status = status_of(nt::guest(entry, &[object, path]));
            check.check("DriverEntry");
            // The registry path's string is gone after DriverEntry.
            with(|k| {
                let text: Va = mem::peek(path + 8);
                k.mem.free(text, Site::default());
                k.mem.free(path, Site::default());
            });
            status
        })?;
        if status.is_success() {
            // The I/O manager makes the devices that DriverEntry made ready to be opened.
            self.with(|k| {
                for d in k.devices.values().filter(|d| d.driver == id && !d.deleted) {
                    let dev = nt::types::Dev(d.va);
                    dev.set_flags(dev.flags() & !nt::types::DO_DEVICE_INITIALIZING);
                }
            });
            return Ok(id);
        }
        sched::call("unload", move || after_unload(id))?;
        Err(LoadError::EntryFailed(status))
    }

    /// Changes the resources that the next [`Machine::start`] gives the device.
    pub fn set_resources(&self, node: DevNode, raw: &[Resource], translated: &[Resource]) {
        self.with(|k| {
            let spec = &mut k.pnp.nodes[node.0].spec;
            spec.raw = raw.to_vec();
            spec.translated = translated.to_vec();
        });
    }

    /// Other devices have these resources.
    pub fn occupy(&self, resources: &[Resource]) {
        self.with(|k| k.pnp.occupied.extend_from_slice(resources));
    }

    /// What the device was assigned last.
    #[must_use]
    pub fn assigned(&self, node: DevNode) -> Vec<Resource> {
        self.with(|k| k.pnp.nodes[node.0].spec.translated.clone())
    }

    /// `IRP_MN_FILTER_RESOURCE_REQUIREMENTS` with an `IO_RESOURCE_REQUIREMENTS_LIST` as bytes
    /// (empty = none). Gives the status and the list that came back.
    ///
    /// # Errors
    /// A broken rule.
    pub fn filter_resource_requirements(
        &self,
        node: DevNode,
        list: &[u8],
    ) -> Result<(NtStatus, Vec<u8>), Bugcheck> {
        let list = list.to_vec();
        sched::call("FILTER_RESOURCE_REQUIREMENTS", move || {
            pnp::exclusive(|| pnp::filter_requirements(node, &list))
        })
    }

    /// Plugs a device into the machine's bus.
    #[must_use]
    pub fn plug(&self, spec: DeviceSpec) -> DevNode {
        self.with(|k| pnp::plug(k, spec))
    }

    /// Makes the reads and writes of a started device direct from now on, as a driver on top of its
    /// stack would that sets `DO_DIRECT_IO`.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn do_direct_io(&self, name: &str) {
        let found = self.with(|k| iomgr::do_direct_io(k, name));
        assert!(found, "no device {name}");
    }

    /// Calls the driver's AddDevice for the device.
    ///
    /// # Errors
    /// A broken rule.
    pub fn add_device(&self, node: DevNode, driver: DriverId) -> Result<NtStatus, Bugcheck> {
        sched::call("AddDevice", move || {
            pnp::exclusive(|| pnp::add_device(node, driver))
        })
    }

    /// Starts the device with its resources; then capabilities, state and children. After a failed
    /// start the device gets its REMOVE.
    ///
    /// # Errors
    /// A broken rule.
    pub fn start(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("START_DEVICE", move || pnp::exclusive(|| pnp::start(node)))
    }

    /// Asks for the device's children again.
    ///
    /// # Errors
    /// A broken rule.
    pub fn enumerate(&self, node: DevNode) -> Result<(), Bugcheck> {
        sched::call("enumeration", move || {
            pnp::exclusive(|| pnp::enumerate(node));
        })
    }

    /// `IRP_MN_QUERY_STOP_DEVICE`, children first. After a refusal everybody who was asked gets
    /// `IRP_MN_CANCEL_STOP_DEVICE`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn query_stop(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("QUERY_STOP", move || {
            pnp::exclusive(|| pnp::query_stop(node))
        })
    }

    /// `IRP_MN_STOP_DEVICE`. [`Machine::start`] starts the device again.
    ///
    /// # Errors
    /// A broken rule.
    pub fn stop(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("STOP", move || pnp::exclusive(|| pnp::stop(node)))
    }

    /// `IRP_MN_CANCEL_STOP_DEVICE`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn cancel_stop(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("CANCEL_STOP", move || {
            pnp::exclusive(|| pnp::simple(node, 6))
        })
    }

    /// `IRP_MN_QUERY_REMOVE_DEVICE`, children first; refused without asking while a handle is open.
    /// After a refusal everybody who was asked gets `IRP_MN_CANCEL_REMOVE_DEVICE`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn query_remove(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("QUERY_REMOVE", move || {
            pnp::exclusive(|| pnp::query_remove(node))
        })
    }

    /// `IRP_MN_CANCEL_REMOVE_DEVICE`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn cancel_remove(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("CANCEL_REMOVE", move || {
            pnp::exclusive(|| pnp::simple(node, 3))
        })
    }

    /// The device disappears: `IRP_MN_SURPRISE_REMOVAL` for its children and itself, then REMOVE;
    /// REMOVE waits until the last handle is closed.
    ///
    /// # Errors
    /// A broken rule.
    pub fn unplug(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("surprise removal", move || {
            pnp::exclusive(|| pnp::unplug(node))
        })
    }

    /// `IRP_MN_REMOVE_DEVICE` for children and device, as after a granted query or a disable. The
    /// device stays on the bus and can be added again.
    ///
    /// # Errors
    /// A broken rule.
    pub fn remove(&self, node: DevNode) -> Result<NtStatus, Bugcheck> {
        sched::call("REMOVE", move || pnp::exclusive(|| pnp::remove(node)))
    }

    /// Sends any PnP IRP, also one with a minor that does not exist. `arguments` are
    /// `Parameters.Others`. The device's state does not change.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_pnp_irp(
        &self,
        node: DevNode,
        minor: u8,
        arguments: [usize; 4],
    ) -> Result<(NtStatus, usize), Bugcheck> {
        self.send_irp(node, iomgr::PNP, minor, arguments)
    }

    /// The same as a filter above sends it that has set a status.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_answered_pnp_irp(
        &self,
        node: DevNode,
        minor: u8,
        status: NtStatus,
    ) -> Result<(NtStatus, usize), Bugcheck> {
        sched::call("an IRP", move || {
            pnp::send(node, iomgr::PNP, minor, status, 0, |_| ())
        })
    }

    /// Sends a power IRP; see [`Machine::send_pnp_irp`]. For `SET_POWER` and `QUERY_POWER` the
    /// arguments are `SystemContext`, Type, State and `ShutdownType`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_power_irp(
        &self,
        node: DevNode,
        minor: u8,
        arguments: [usize; 4],
    ) -> Result<(NtStatus, usize), Bugcheck> {
        sched::call("a power IRP", move || power::send(node, minor, arguments))
    }

    /// The system goes to sleep (S3): every started device, children first, is asked, and then told.
    /// When this returns all have completed their `SET_POWER`. If a device refuses, gives its
    /// status, and whoever was asked is told that the system works. Time goes on as always.
    ///
    /// # Errors
    /// A broken rule.
    pub fn sleep(&self) -> Result<NtStatus, Bugcheck> {
        sched::call("sleep", || pnp::exclusive(|| power::sleep(power::S3, true)))
    }

    /// As [`Machine::sleep`], when there is no time to ask: the battery is empty.
    ///
    /// # Errors
    /// A broken rule.
    pub fn sleep_unasked(&self) -> Result<NtStatus, Bugcheck> {
        sched::call("sleep", || {
            pnp::exclusive(|| power::sleep(power::S3, false))
        })
    }

    /// The system is shut down (S5): as [`Machine::sleep`], but nobody is asked.
    ///
    /// # Errors
    /// A broken rule.
    pub fn shut_down(&self) -> Result<NtStatus, Bugcheck> {
        sched::call("shutdown", || {
            pnp::exclusive(|| power::sleep(power::S5, false))
        })
    }

    /// The system works again (S0): every device is told, parents first. When this returns devices
    /// may still be on their way to full power, see [`Machine::settle`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn wake(&self) -> Result<(), Bugcheck> {
        sched::call("wake-up", || pnp::exclusive(power::wake))
    }

    /// How a device gets full power from now on, when its driver asks for it.
    pub fn set_power_up(&self, node: DevNode, up: PowerUp) {
        self.with(|k| k.pnp.nodes[node.0].power_up = up);
    }

    /// Whether there is memory for the device power IRPs that drivers ask for.
    pub fn set_power_memory(&self, there_is: bool) {
        self.with(|k| k.po.no_memory = !there_is);
    }

    /// Waits until no device changes its power any more.
    ///
    /// # Errors
    /// A broken rule.
    pub fn settle(&self) -> Result<(), Bugcheck> {
        sched::call("power changes", || {
            sched::wait("power changes", None, power::is_settled);
        })
    }

    /// The device is off its bus, and nobody has noticed: what needs it fails. Its
    /// [`Machine::unplug`] is to follow.
    pub fn disconnect(&self, node: DevNode) {
        self.with(|k| pnp::disconnect(k, node));
    }

    /// Sends an `IRP_MJ_SYSTEM_CONTROL`; see [`Machine::send_pnp_irp`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_wmi_irp(
        &self,
        node: DevNode,
        minor: u8,
        arguments: [usize; 4],
    ) -> Result<(NtStatus, usize), Bugcheck> {
        self.send_irp(node, iomgr::SYSTEM_CONTROL, minor, arguments)
    }

    /// A device pulls its interrupt line: the service routines connected to the vector run at their
    /// IRQL, in a context of their own or in that of the hook that calls this. Gives whether one of
    /// them said that the interrupt was its own. DPCs run afterwards, when the machine runs.
    ///
    /// # Errors
    /// A broken rule.
    pub fn interrupt(&self, vector: u32) -> Result<bool, Bugcheck> {
        sched::call("an interrupt", move || nt::interrupt::raise(vector))
    }

    #[allow(clippy::unused_self, reason = "every operation takes the machine")]
    fn send_irp(
        &self,
        node: DevNode,
        major: u8,
        minor: u8,
        arguments: [usize; 4],
    ) -> Result<(NtStatus, usize), Bugcheck> {
        sched::call("an IRP", move || {
            pnp::send(node, major, minor, NtStatus::NOT_SUPPORTED, 0, |sl| {
                sl.set_arg1(arguments[0]);
                sl.set_arg2(arguments[1]);
                sl.set_arg3(arguments[2]);
                sl.set_arg4(arguments[3]);
            })
        })
    }

    /// The device's state.
    #[must_use]
    pub fn node_state(&self, node: DevNode) -> NodeState {
        self.with(|k| k.pnp.nodes[node.0].state)
    }

    /// The device's children that are there, with `Enumerator\Device\Instance`.
    #[must_use]
    pub fn children(&self, node: DevNode) -> Vec<(DevNode, String)> {
        self.with(|k| {
            k.pnp.nodes[node.0]
                .children
                .iter()
                .filter_map(|c| Some((*c, pnp::instance_path(k, k.pnp.nodes[c.0].pdo)?)))
                .collect()
        })
    }

    /// What the device says of itself: ids, text, capabilities.
    #[must_use]
    pub fn device_ids(&self, node: DevNode) -> DeviceIds {
        self.with(|k| pnp::device_ids(k, node))
    }

    /// `NtCreateFile`: by Win32 name (`\\.\LPT1`), interface path (`\\?\…`) or NT name.
    ///
    /// # Errors
    /// A broken rule; inside, the status of a refused open.
    pub fn open(&self, name: &str, caller: Caller) -> Result<Result<Handle, NtStatus>, Bugcheck> {
        let name = name.to_owned();
        sched::call("open", move || {
            iomgr::open(&name, caller, caller == Caller::Kernel).map(Handle)
        })
    }

    /// As [`Machine::open`], with `GENERIC_READ`, `GENERIC_WRITE`, both or neither.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn open_with(
        &self,
        name: &str,
        caller: Caller,
        (read, write): (bool, bool),
    ) -> Result<Result<Handle, NtStatus>, Bugcheck> {
        let opened = self.open(name, caller)?;
        if let Ok(handle) = opened {
            iomgr::restrict(handle.0, read, write);
        }
        Ok(opened)
    }

    /// `NtClose`: CLEANUP, the file's requests end, CLOSE.
    ///
    /// # Errors
    /// A broken rule.
    pub fn close(&self, handle: Handle) -> Result<NtStatus, Bugcheck> {
        sched::call("close", move || iomgr::close(handle.0))
    }

    /// `NtDeviceIoControlFile`, up to the end of the request.
    ///
    /// # Errors
    /// A broken rule.
    pub fn device_io_control(
        &self,
        handle: Handle,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Result<IoResult, Bugcheck> {
        let what = iomgr::Request::Control {
            code,
            internal: false,
        };
        self.request(handle, what, input, output)
    }

    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`, as another driver sends it.
    ///
    /// # Errors
    /// A broken rule.
    pub fn internal_device_control(
        &self,
        handle: Handle,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Result<IoResult, Bugcheck> {
        let what = iomgr::Request::Control {
            code,
            internal: true,
        };
        self.request(handle, what, input, output)
    }

    /// The same from a kernel component that runs at `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn internal_device_control_at_dispatch(
        &self,
        handle: Handle,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Result<IoResult, Bugcheck> {
        let what = iomgr::Request::AtDispatch { code };
        self.request(handle, what, input, output)
    }

    /// The kernel component that has this handle runs at `DISPATCH_LEVEL` from now on, or no longer:
    /// all its requests but the last, which `NtClose` makes, reach the driver there.
    ///
    /// # Panics
    /// If it is not a kernel component's handle.
    pub fn use_at_dispatch(&self, handle: Handle, at_dispatch: bool) {
        assert!(
            iomgr::use_at_dispatch(handle.0, at_dispatch),
            "no handle of a kernel component"
        );
    }

    /// Allocates zeroed kernel memory for a caller's own use, for the life of the machine.
    #[must_use]
    pub fn allocate(&self, size: usize) -> usize {
        self.with(|k| k.system_alloc(size, "a test's memory"))
    }

    /// Reads kernel memory; a bad address is a broken rule, as for a driver.
    ///
    /// # Errors
    /// A broken rule.
    pub fn read_memory(&self, address: usize, length: usize) -> Result<Vec<u8>, Bugcheck> {
        sched::call("a read", move || mem::peek_bytes(address, length))
    }

    /// Writes kernel memory; see [`Machine::read_memory`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn write_memory(&self, address: usize, bytes: &[u8]) -> Result<(), Bugcheck> {
        let bytes = bytes.to_vec();
        sched::call("a write", move || poke_bytes(address, &bytes))
    }

    /// `NtReadFile`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn read(&self, handle: Handle, length: usize) -> Result<IoResult, Bugcheck> {
        self.request(handle, iomgr::Request::Read { offset: 0 }, &[], length)
    }

    /// `NtReadFile` from a byte offset.
    ///
    /// # Errors
    /// A broken rule.
    pub fn read_at(
        &self,
        handle: Handle,
        offset: i64,
        length: usize,
    ) -> Result<IoResult, Bugcheck> {
        self.request(handle, iomgr::Request::Read { offset }, &[], length)
    }

    /// `NtWriteFile` to a byte offset.
    ///
    /// # Errors
    /// A broken rule.
    pub fn write_at(&self, handle: Handle, offset: i64, data: &[u8]) -> Result<IoResult, Bugcheck> {
        self.request(handle, iomgr::Request::Write { offset }, data, 0)
    }

    /// `NtQueryInformationFile`, for a class that the I/O manager does not answer itself.
    ///
    /// # Errors
    /// A broken rule.
    pub fn query_information(
        &self,
        handle: Handle,
        class: i32,
        length: usize,
    ) -> Result<IoResult, Bugcheck> {
        self.request(
            handle,
            iomgr::Request::QueryInformation { class },
            &[],
            length,
        )
    }

    /// `NtWriteFile`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn write(&self, handle: Handle, data: &[u8]) -> Result<IoResult, Bugcheck> {
        self.request(handle, iomgr::Request::Write { offset: 0 }, data, 0)
    }

    fn request(
        &self,
        handle: Handle,
        what: iomgr::Request,
        input: &[u8],
        output: usize,
    ) -> Result<IoResult, Bugcheck> {
        let pending = self.begin(handle, what, input, output);
        self.finish(&pending)
    }

    fn begin(&self, handle: Handle, what: iomgr::Request, input: &[u8], output: usize) -> Pending {
        let input = input.to_vec();
        self.spawn_request(move |started| iomgr::request(handle.0, what, &input, output, started))
    }

    /// Runs a request in a thread of its caller; `body` tells the IRP as soon as it exists.
    pub(crate) fn spawn_request(
        &self,
        body: impl FnOnce(&dyn Fn(Va)) -> iomgr::Finished + 'static,
    ) -> Pending {
        let slot = Rc::new(RefCell::new(Slot {
            irp: None,
            result: None,
        }));
        let out = Rc::clone(&slot);
        self.with(|k| {
            if !k.sched.inside() {
                k.sched.steps = 0;
            }
            k.sched.spawn(
                "caller",
                sched::ThreadKind::Caller,
                0,
                Box::new(move || {
                    let start = with(|k| k.now);
                    let done = body(&|irp| out.borrow_mut().irp = Some(irp));
                    out.borrow_mut().result = Some(IoResult {
                        status: done.status,
                        information: done.information,
                        output: done.output,
                        took: with(|k| k.now) - start,
                    });
                }),
            )
        });
        Pending(slot)
    }

    /// Starts a device control request and comes back at once. Nothing runs before
    /// [`Machine::run_for`], [`Machine::run_until_idle`] or [`Machine::finish`].
    #[must_use]
    pub fn start_io_control(
        &self,
        handle: Handle,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Pending {
        let what = iomgr::Request::Control {
            code,
            internal: false,
        };
        self.begin(handle, what, input, output)
    }

    /// Starts a read; see [`Machine::start_io_control`].
    #[must_use]
    pub fn start_read(&self, handle: Handle, length: usize) -> Pending {
        self.begin(handle, iomgr::Request::Read { offset: 0 }, &[], length)
    }

    /// Starts a write; see [`Machine::start_io_control`].
    #[must_use]
    pub fn start_write(&self, handle: Handle, data: &[u8]) -> Pending {
        self.begin(handle, iomgr::Request::Write { offset: 0 }, data, 0)
    }

    /// Whether the request is finished.
    #[must_use]
    pub fn is_done(&self, pending: &Pending) -> bool {
        pending.0.borrow().result.is_some()
    }

    /// Cancels the request (`NtCancelIoFileEx`). Returns whether a cancel routine ran.
    ///
    /// # Errors
    /// A broken rule.
    pub fn cancel(&self, pending: &Pending) -> Result<bool, Bugcheck> {
        let irp = pending.0.borrow().irp;
        sched::call("cancel", move || irp.is_some_and(iomgr::cancel))
    }

    /// Runs the machine until the request is finished.
    ///
    /// # Errors
    /// A broken rule; [`rules::HANG`] if it never finishes.
    pub fn finish(&self, pending: &Pending) -> Result<IoResult, Bugcheck> {
        let slot = Rc::clone(&pending.0);
        let wait = Rc::clone(&pending.0);
        sched::call("a request", move || {
            sched::wait("the end of a request", None, move |_| {
                wait.borrow().result.is_some()
            });
        })?;
        let result = slot.borrow().result.clone();
        Ok(result.unwrap_or(IoResult {
            status: NtStatus::UNSUCCESSFUL,
            information: 0,
            output: Vec::new(),
            took: 0,
        }))
    }

    /// Runs the machine for some virtual time.
    ///
    /// # Errors
    /// A broken rule.
    pub fn run_for(&self, time: Nanos) -> Result<(), Bugcheck> {
        let until = self.with(|k| {
            k.sched.steps = 0;
            k.now + time
        });
        sched::run(&move |k| k.now >= until, until)?;
        self.check_overdue()
    }

    /// Runs the machine until nothing more can happen, or only periodic timers are left for an hour.
    ///
    /// # Errors
    /// A broken rule.
    pub fn run_until_idle(&self) -> Result<(), Bugcheck> {
        let limit = self.with(|k| {
            k.sched.steps = 0;
            k.now + k.config.max_time
        });
        sched::run(&|_| false, limit)?;
        self.check_overdue()
    }

    fn check_overdue(&self) -> Result<(), Bugcheck> {
        let Some(serial) = self.with(|k| iomgr::overdue(k)) else {
            return Ok(());
        };
        sched::call("the watch on cancelled requests", move || {
            fail(rules::CANCEL_TIMEOUT, format!("IRP {serial}"))
        })
    }

    /// Runs `f` in a thread of the machine's own at a time, a port access or a URB, whatever else is
    /// going on then: to cancel, unplug or change a model in the middle of something.
    pub fn at(&self, when: When, f: impl FnOnce(&Machine) + 'static) {
        self.with(|k| k.sched.add_hook(when, Box::new(f)));
    }

    /// Makes the `k`-th failable kernel call from now fail (1 = the next one).
    pub fn inject_failure(&self, k: u64) {
        self.with(|kernel| {
            let at = kernel.failable.saturating_add(k);
            kernel.fail_at.push(at);
        });
    }

    /// The failures that [`Machine::inject_failure`] asked for and that did not come yet do not come.
    pub fn inject_no_failure(&self) {
        self.with(|kernel| kernel.fail_at.clear());
    }

    /// Fault injection counts and fails the calls of this driver only, from now on.
    pub fn inject_into(&self, driver: DriverId) {
        self.with(|k| k.inject_into = Some(driver));
    }

    /// Systematic fault injection as Windows does it: a failable call fails if the stack inside the
    /// driver that leads to it is new to `seen`, and passes from then on. Boot machines with the
    /// same `seen` until it does not grow any more.
    pub fn fail_new_stacks(&self, seen: &SeenStacks) {
        self.with(|k| k.seen_stacks = Some(seen.clone()));
    }

    /// How many calls that can fail were made since boot.
    #[must_use]
    pub fn failable_calls(&self) -> u64 {
        self.with(|k| k.failable)
    }

    /// The calls that were made to fail, with their place in the driver.
    #[must_use]
    pub fn failed_calls(&self) -> Vec<String> {
        self.with(|k| k.failed_calls.clone())
    }

    /// Unloads the driver: `DriverUnload`, then everything it left behind is a broken rule. As on
    /// Windows that waits until nobody has one of the driver's devices open.
    ///
    /// # Errors
    /// A broken rule; [`rules::HANG`] if a device stays open.
    pub fn unload(&self, driver: DriverId) -> Result<(), Bugcheck> {
        sched::call("unload", move || {
            // Queued PnP work first.
            pnp::exclusive(|| ());
            let closed = move |k: &Kernel| {
                k.devices
                    .values()
                    .all(|d| d.driver != driver || d.opens == 0)
            };
            if !with(|k| closed(k)) {
                sched::wait("the last handle to the driver's devices", None, closed);
            }
            let (object, name) = with(|k| (k.driver(driver).object, k.driver(driver).name.clone()));
            let routine = Drv(object).unload();
            if routine == 0 {
                fail(rules::NO_DISPATCH, format!("{name} has no DriverUnload"));
            }
            let entry = nt::Entry::now();
            nt::guest(routine, &[object]);
            entry.check("DriverUnload");
            after_unload(driver);
        })
    }

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

    /// IRPs that exist.
    #[must_use]
    pub fn live_irps(&self) -> usize {
        self.with(|k| iomgr::live_irps(k))
    }

    /// Reads or changes the registry.
    pub fn registry<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        self.with(|k| f(&mut k.registry))
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Vec<trace::Event> {
        self.with(|k| k.trace.clone())
    }

    /// An ETW session listens to events up to a level from now on, 0 for every level; or none does.
    ///
    /// # Errors
    /// A rule was broken in an enable callback.
    pub fn listen(&self, level: Option<u8>) -> Result<(), Bugcheck> {
        sched::call("listen", move || etw::listen(level))
    }

    /// The events that sessions got.
    #[must_use]
    pub fn etw_events(&self) -> Vec<etw::EtwEvent> {
        self.with(|k| k.etw.events().to_vec())
    }

    /// How often drivers called `EtwWriteTransfer`.
    #[must_use]
    pub fn etw_writes(&self) -> u64 {
        self.with(|k| k.etw.writes)
    }

    /// The entries of the error log.
    #[must_use]
    pub fn error_log(&self) -> Vec<etw::LogEntry> {
        self.with(|k| k.etw.log().to_vec())
    }

    /// Virtual time since boot.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.with(|k| k.now)
    }

    /// Totals of time and port accesses.
    #[must_use]
    pub fn times(&self) -> Times {
        self.with(|k| Times {
            now: k.now,
            cpu: k.cpu_time,
            stalled: k.ke.stalled,
            sleeping: k.ke.sleeping,
            timer_wakeups: k.ke.timer_wakeups,
            port_accesses: k.ports.accesses,
            unanswered: k.ports.unanswered,
        })
    }

    /// How many port accesses there were since boot.
    #[must_use]
    pub fn port_accesses(&self) -> u64 {
        self.with(|k| k.ports.accesses)
    }

    /// How many kernel functions drivers have called since boot, but for those that the compiler
    /// calls, such as `memcpy`.
    #[must_use]
    pub fn kernel_calls(&self) -> u64 {
        self.with(|k| k.calls)
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

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

fn unicode_string(k: &mut Kernel, text: &str) -> Va {
    let units = nt::types::wide(text);
    let buffer = k.system_alloc(units.len(), "a string");
    poke_bytes(buffer, &units);
    let string = k.system_alloc(16, "a UNICODE_STRING");
    nt::types::set_unicode(string, buffer, units.len() - 2, units.len());
    string
}

fn driver_object(k: &mut Kernel, name: &str) -> Va {
    let object = k.system_alloc(DRIVER_SIZE, "a driver object");
    let extension = k.system_alloc(DRIVER_EXTENSION_SIZE, "a driver extension");
    let drv = Drv(object);
    drv.set_kind(4);
    poke(object + 2, u16::try_from(DRIVER_SIZE).unwrap_or(0));
    drv.set_extension(extension);
    poke(extension, object);
    for (at, text) in [
        (object + DRIVER_NAME, format!(r"\Driver\{name}")),
        (extension + SERVICE_KEY_NAME, name.to_owned()),
    ] {
        let units = nt::types::wide(&text);
        let buffer = k.system_alloc(units.len(), "a string");
        poke_bytes(buffer, &units);
        nt::types::set_unicode(at, buffer, units.len() - 2, units.len());
    }
    for major in 0..28 {
        drv.set_major(major, k.io.default_dispatch);
    }
    object
}

fn internal_driver(k: &mut Kernel, name: &str, dispatch: Va) -> usize {
    let object = driver_object(k, name);
    for major in 0..28 {
        Drv(object).set_major(major, dispatch);
    }
    k.drivers.push(Driver {
        name: name.to_owned(),
        object,
        image: None,
        loaded: true,
        service_key: String::new(),
    });
    k.drivers.len() - 1
}

fn device_name(k: &Kernel, device: Va) -> String {
    let name = k.devices.get(&device).and_then(|d| d.name.clone());
    name.unwrap_or_else(|| format!("device {device:#x}"))
}

/// Lists what a driver left behind, by kind; then takes its image away.
fn after_unload(driver: DriverId) {
    if let Some(left) = with(|k| nt::interrupt::connected_by(k, driver)) {
        fail(rules::INTERRUPT_LEFT, format!("{left} at unload"));
    }
    let locked = with(|k| nt::mm::left_by(k, driver, true));
    if !locked.is_empty() {
        fail(rules::MDL_LEFT_LOCKED, locked.join("; "));
    }
    let (unload, leak) = with(|k| leftovers(k, driver));
    if !unload.is_empty() {
        fail(rules::UNLOAD_LEFT, unload.join("; "));
    }
    if !leak.is_empty() {
        fail(rules::LEAK, leak.join("; "));
    }
    with(|k| {
        let d = &mut k.drivers[driver.0];
        d.loaded = false;
        if let Some(image) = &d.image {
            image.seal();
            let (base, size) = (image.base, image.size);
            k.mem.drop_sections(base, size);
        }
        let d = &k.drivers[driver.0];
        let name = d.name.clone();
        k.note(format!("{name} unloaded"));
    });
}

fn leftovers(k: &Kernel, driver: DriverId) -> (Vec<String>, Vec<String>) {
    let mut unload: Vec<String> = Vec::new();
    let mut leak: Vec<String> = Vec::new();
    for d in k.devices.values().filter(|d| d.driver == driver) {
        let name = d.name.clone().unwrap_or_else(|| "unnamed".to_owned());
        if d.deleted {
            let by = d.holders.iter().filter(|(_, n)| **n > 0);
            let by: Vec<_> = by.map(|(d, _)| k.driver(*d).name.as_str()).collect();
            let by = by.join(", ");
            leak.push(format!(
                "{} references to device {name}, taken by {by}",
                d.refs
            ));
        } else {
            unload.push(format!("device {name}"));
        }
    }
    for l in k.links.values().filter(|l| l.owner == Some(driver)) {
        unload.push(format!("symbolic link {}", l.name));
    }
    for i in &k.interfaces {
        if i.driver == Some(driver) && i.enabled {
            unload.push(format!("enabled interface {}", i.link));
        }
    }
    for (tid, t) in &k.sched.threads {
        if t.owner == Some(driver) {
            if !k.sched.is_done(*tid) {
                unload.push(format!("running system thread {tid}"));
            }
            let refs = k.refs.get(&t.object).copied().unwrap_or(1);
            if refs > 1 {
                leak.push(format!("{} references to thread {tid}", refs - 1));
            }
        }
    }
    let busy = k
        .sched
        .threads
        .iter()
        .filter(|(t, th)| {
            matches!(
                th.kind,
                sched::ThreadKind::WorkItem | sched::ThreadKind::Dpc
            ) && th.owner == Some(driver)
                && !k.sched.is_done(**t)
        })
        .count();
    if busy > 0 {
        unload.push(format!("{busy} work items or DPCs still to run"));
    }
    let items = k
        .work_items
        .values()
        .filter(|w| w.owner == Some(driver))
        .count();
    if items > 0 {
        unload.push(format!("{items} work items"));
    }
    if let Some(image) = &k.driver(driver).image {
        unload.extend(nt::ke::armed_in_image(k, image.base, image.size));
    }
    let timers = nt::ke::ex_timers_of(k, driver);
    if timers > 0 {
        unload.push(format!("{timers} EX_TIMERs"));
    }
    etw::left_by(k, driver, &mut unload, &mut leak);
    let irps = k.io.owned_by(driver);
    if irps > 0 {
        unload.push(format!("{irps} IRPs of its own"));
    }
    for d in k.devices.values().filter(|d| d.driver != driver) {
        let held = d.holders.get(&driver).copied().unwrap_or(0);
        if held > 0 {
            leak.push(format!("{held} references to {}", device_name(k, d.va)));
        }
    }
    for (device, site) in k.io.files_of(driver) {
        leak.push(format!(
            "file object of {} from {}",
            device_name(k, device),
            k.site_name(site)
        ));
    }
    for h in k.handles.values().filter(|h| h.owner == Some(driver)) {
        leak.push(format!("handle opened at {}", k.site_name(h.site)));
    }
    leak.extend(nt::mm::left_by(k, driver, false));
    for b in k.mem.live_blocks().filter(|b| b.owner == Some(driver)) {
        if let mem::Kind::Pool(_) = b.kind {
            leak.push(format!(
                "{} bytes of {} allocated at {}",
                b.size,
                fault::describe(b.kind),
                k.site_name(b.allocated)
            ));
        }
    }
    (unload, leak)
}

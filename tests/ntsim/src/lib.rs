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
//! # Modules
//!
//! | module | what it is about |
//! |---|---|
//! | `machine` | what a test can tell a machine and ask it, one file a subject |
//! | `config`, `hardware`, `bugcheck` | how a machine behaves, devices as a test describes them, broken rules |
//! | `image` | PE loading: mapping, relocations, imports |
//! | `cpu` | traps: `in`/`out`, `mov cr8`, faults and their names |
//! | `sched` | threads as coroutines, virtual time, seeded choice |
//! | `stack` | kernel stacks of Windows' size, and the machine's own beside them |
//! | `watch` | threads stopped at an instruction or a kernel call, and held there |
//! | `mem` | guard-paged memory |
//! | `pageable` | what of it is taken away at `DISPATCH_LEVEL`, and given back when it is touched |
//! | `user` | user memory: who touches it, where, and how often |
//! | `unwind` | frames inside a driver, from `.pdata` |
//! | `seh` | structured exceptions: handlers found, asked, and gone on in |
//! | `nt` | the exported functions, one file a prefix, one table |
//! | `iomgr` | IRPs: made, checked, dispatched, completed, cancelled; files; the user's side |
//! | `pnp` | device tree, bus driver, start and removal |
//! | `power` | sleep and wake-up, device power IRPs |
//! | `majors` | requests of user mode, by any major function |
//! | `routine` | routines whose addresses drivers gave away |
//! | `leaks` | what an answer must not hold |
//! | `left_behind` | what a driver left when it was unloaded |
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
//! fixed figures (module `stack`). Exceptions are those of user addresses and those that kernel
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

/// Numbers of one type, by the names that Windows' headers give them.
macro_rules! numbers {
    ($vis:vis $t:ty: $($(#[$doc:meta])* $name:ident => $value:expr,)*) => {
        $($(#[$doc])* $vis const $name: $t = $value;)*
    };
}

mod bugcheck;
mod config;
mod count;
#[cfg(target_arch = "x86_64")]
mod coverage;
#[cfg_attr(target_arch = "aarch64", path = "arm64/cpu.rs")]
mod cpu;
pub mod etw;
mod fault;
mod hardware;
mod image;
mod iomgr;
mod leaks;
mod left_behind;
mod machine;
mod majors;
mod mem;
mod nt;
mod pageable;
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

pub use bugcheck::{Bugcheck, LoadError};
pub use config::Config;
pub use count::{Counts, Lock, LockUse};
#[cfg(target_arch = "x86_64")]
pub use coverage::{Block, Coverage, FILE as COVERAGE_FILE, IMAGE as COVERAGE_IMAGE};
pub use hardware::{DeviceSpec, Need, PowerUp, Resource, requirements_list};
pub use image::UnknownImport;
pub use iomgr::CANARY;
pub use leaks::{BUFFER_CANARY, Canary, Leak, LeakKind, POOL_CANARY};
pub(crate) use machine::Slot;
pub use machine::{
    Answer, Caller, DeviceInfo, Handle, Held, IoResult, IrpResult, Machine, Pending, SeenStacks,
    Times,
};
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

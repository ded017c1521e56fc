//! How a machine behaves.

use crate::Nanos;

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
    /// Memory that a driver gets with old content is full of [`POOL_CANARY`](crate::POOL_CANARY) or
    /// [`BUFFER_CANARY`](crate::BUFFER_CANARY) instead of random bytes, for
    /// [`Machine::leaks`](crate::Machine::leaks).
    pub canary: bool,
    /// Port instructions of drivers are replaced by calls of the machine where they can be, which is
    /// faster than a trap; [`Machine::watch`](crate::Machine::watch) does not see what is replaced.
    pub patch_ports: bool,
    /// Notes how much of their stacks threads use, for
    /// [`Machine::stack_marks`](crate::Machine::stack_marks).
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

impl Config {
    /// The usual machine with this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }
}

//! Virtual time, what happens at a time, and memory and interrupts at the test's wish.

use super::Machine;
use crate::bugcheck::Bugcheck;
use crate::mem::{self, poke_bytes};
use crate::{Nanos, When, nt, sched};

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

impl Machine {
    /// A device pulls its interrupt line: the service routines connected to the vector run at their
    /// IRQL, in a context of their own or in that of the hook that calls this. Gives whether one of
    /// them said that the interrupt was its own. DPCs run afterwards, when the machine runs.
    ///
    /// # Errors
    /// A broken rule.
    pub fn interrupt(&self, vector: u32) -> Result<bool, Bugcheck> {
        sched::call("an interrupt", move || nt::interrupt::raise(vector))
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

    /// Runs `f` in a thread of the machine's own at a time, a port access or a URB, whatever else is
    /// going on then: to cancel, unplug or change a model in the middle of something.
    pub fn at(&self, when: When, f: impl FnOnce(&Machine) + 'static) {
        self.with(|k| k.sched.add_hook(when, Box::new(f)));
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
}

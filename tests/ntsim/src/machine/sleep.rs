//! Sleep and wake-up.

use super::{IrpResult, Machine};
use crate::bugcheck::Bugcheck;
use crate::hardware::PowerUp;
use crate::{DevNode, NtStatus, pnp, power, sched};

impl Machine {
    /// Sends a power IRP; see [`Machine::send_pnp_irp`]. For `SET_POWER` and `QUERY_POWER` the
    /// arguments are `SystemContext`, Type, State and `ShutdownType`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_power_irp(&self, node: DevNode, minor: u8, arguments: [usize; 4]) -> IrpResult {
        sched::call("a power IRP", move || power::send(node, minor, arguments))
    }

    /// The system goes to sleep (S3): every started device, children first, is asked, and then told.
    /// When this returns all have completed their `SET_POWER`. If a device refuses, gives its
    /// status, and each device that was asked is told that the system works. Time goes on as always.
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

    /// The system is shut down (S5): as [`Machine::sleep`], but no device is asked.
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
        self.with(|k| k.pnp.nodes[node.0].bus.power_up = up);
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
}

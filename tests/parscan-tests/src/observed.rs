//! What the hardware objected to: set-up times, events out of order, illegal changes of mode.

use ntsim::Machine;
use parscan_models::{DaisyChain, Ecp, Epp, Peripheral, Peripheral1284, Printer, Ps2, Spp};

/// Hardware that watches the host.
pub trait Observed {
    /// Everything that it objected to, as text. Not that a pulse became too long by
    /// [`Machine::unpreempted_delay`]: no driver can bound that.
    fn observed(&self, machine: &Machine) -> Vec<String>;
}

/// Chips that accept whatever they are told.
macro_rules! tolerant {
    ($($chip:ty),*) => {$(
        impl Observed for $chip {
            fn observed(&self, _machine: &Machine) -> Vec<String> {
                Vec::new()
            }
        }
    )*};
}

/// Chips that keep a list.
macro_rules! watching {
    ($($chip:ty),*) => {$(
        impl Observed for $chip {
            fn observed(&self, _machine: &Machine) -> Vec<String> {
                self.violations().iter().map(|it| format!("{it:?}")).collect()
            }
        }
    )*};
}

/// Peripherals that keep a list, and watch how long pulses are.
macro_rules! timing {
    ($($device:ty),*) => {$(
        impl Observed for $device {
            fn observed(&self, machine: &Machine) -> Vec<String> {
                self.violations()
                    .iter()
                    .filter(|it| {
                        it.stands_without(machine.unpreempted_delay(it.since, it.time))
                    })
                    .map(|it| format!("{it:?}"))
                    .collect()
            }
        }
    )*};
}

tolerant!(Spp, Ps2);
watching!(Epp, Ecp);
timing!(Printer, Peripheral1284);

impl<E: Peripheral> Observed for DaisyChain<E> {
    fn observed(&self, _machine: &Machine) -> Vec<String> {
        let violations = self.violations();
        violations.iter().map(|it| format!("{it:?}")).collect()
    }
}

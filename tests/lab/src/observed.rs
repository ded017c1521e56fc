//! What the hardware objected to: set-up times, events out of order, illegal changes of mode.

use parscan_models::{DaisyChain, Ecp, Epp, Peripheral, Peripheral1284, Printer, Ps2, Spp};

/// Hardware that watches the host.
pub trait Observed {
    /// Everything that it objected to, as text.
    fn observed(&self) -> Vec<String>;
}

/// Chips that accept whatever they are told.
macro_rules! tolerant {
    ($($chip:ty),*) => {$(
        impl Observed for $chip {
            fn observed(&self) -> Vec<String> {
                Vec::new()
            }
        }
    )*};
}

/// Hardware that keeps a list.
macro_rules! watching {
    ($($model:ty),*) => {$(
        impl Observed for $model {
            fn observed(&self) -> Vec<String> {
                self.violations().iter().map(|it| format!("{it:?}")).collect()
            }
        }
    )*};
}

tolerant!(Spp, Ps2);
watching!(Epp, Ecp, Printer, Peripheral1284);

impl<E: Peripheral> Observed for DaisyChain<E> {
    fn observed(&self) -> Vec<String> {
        let violations = self.violations();
        violations.iter().map(|it| format!("{it:?}")).collect()
    }
}

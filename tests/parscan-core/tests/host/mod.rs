//! What the hosts of these tests share: what they count, when their waits are interrupted, and how a
//! driver looks at a port.

use parscan_core::ieee1284::{Capabilities, Interrupted, Port, detect, has_byte};

/// What a host counts, and when it is interrupted.
#[derive(Default)]
pub struct Meter {
    pub accesses: u64,
    /// Microseconds.
    pub stalled: u64,
    pub sleeps: u64,
    pub interrupt: Interruption,
}

/// From when on waits are interrupted.
#[derive(Default)]
pub struct Interruption {
    /// From this access on.
    pub at: Option<u64>,
    /// From this time on, by the host's clock.
    pub time: Option<u64>,
}

impl Meter {
    /// Whether waits are interrupted at this time.
    pub fn interrupted(&self, time: u64) -> Result<(), Interrupted> {
        let accesses = self.interrupt.at.is_some_and(|at| self.accesses >= at);
        if accesses || self.interrupt.time.is_some_and(|at| time >= at) {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// What a driver knows of a port that it has used: what the registers tell, and the data lines.
pub fn known(port: &mut impl Port) -> Capabilities {
    let found = detect(port);
    match found.byte {
        None if found.spp => match has_byte(port, true) {
            Some(byte) => found.with_byte(byte),
            None => found,
        },
        _ => found,
    }
}

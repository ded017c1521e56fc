//! What is on the other end of the cable.

use crate::{HostLines, Nanos, PeripheralLines};

/// A device on a port's connector. It sees the host's lines and answers with its own.
///
/// Times never go back from call to call.
pub trait Peripheral {
    /// The host's lines are `host` from `now` on. Called once at power-on, and then at every
    /// change.
    fn host_changed(&mut self, now: Nanos, host: HostLines);

    /// The peripheral's lines at `now`.
    fn lines(&mut self, now: Nanos) -> PeripheralLines;

    /// What the peripheral drives on D7 to D0 at `now`; `None` while it leaves them to the host, as
    /// it does except in the reverse phases of byte, EPP and ECP mode.
    fn data(&mut self, now: Nanos) -> Option<u8> {
        let _ = now;
        None
    }

    /// The first time after `now` at which the lines may change by themselves, so that a recorder
    /// can look at that moment. `None`: not before the host does something.
    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        let _ = now;
        None
    }
}

/// An empty connector: pull-ups keep all five lines high, so the upper bits of DSR read 0x78.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unconnected;

impl Unconnected {
    /// What the pull-ups show.
    pub const LINES: PeripheralLines = PeripheralLines {
        busy: true,
        n_ack: true,
        p_error: true,
        select: true,
        n_fault: true,
    };
}

/// A plug that leads data lines back to status lines: D0 to nFault, D1 to Select, D2 to PError, D3
/// to nAck and D4 to Busy. Data 0 to 31 read as `data << 3`, but for the inverted Busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback {
    data: u8,
}

impl Peripheral for Loopback {
    fn host_changed(&mut self, _now: Nanos, host: HostLines) {
        self.data = host.bus(None);
    }

    fn lines(&mut self, _now: Nanos) -> PeripheralLines {
        PeripheralLines::from_dsr((self.data << 3) ^ 0x80)
    }
}

impl Peripheral for Unconnected {
    fn host_changed(&mut self, _now: Nanos, _host: HostLines) {}

    fn lines(&mut self, _now: Nanos) -> PeripheralLines {
        Self::LINES
    }
}

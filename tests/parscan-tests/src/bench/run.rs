//! One measured transfer.

use ntsim::{Config, NtStatus, RegValue};
use parscan_models::{Nanos, Peripheral1284};
use parscan_tests::{
    Setup, check,
    modes::{Chip, channel, pattern, pc_with},
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, modes},
};

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the peripheral.
    Write,
    /// From it.
    Read,
}

impl Way {
    /// As it is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What to transfer, and how.
#[derive(Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) mode: u16,
    pub(crate) chip: Chip,
    pub(crate) way: Way,
    pub(crate) epp_32: bool,
    pub(crate) bytes: usize,
    /// What the peripheral takes for a byte.
    pub(crate) byte_time: Nanos,
    /// What an access to the port takes.
    pub(crate) access: Nanos,
}

/// What it cost.
pub(crate) struct Cost {
    accesses: u64,
    pub(crate) time: Nanos,
    /// Processor time, with stalls.
    pub(crate) cpu: Nanos,
    pub(crate) stalled: Nanos,
}

impl Transfer {
    /// Does it on a machine of its own.
    ///
    /// # Panics
    /// If the driver fails it, or the wrong bytes arrive.
    pub(crate) fn cost(&self) -> Cost {
        let data = pattern(self.bytes);
        let peripheral = Peripheral1284::new().with_byte_time(self.byte_time);
        let mut setup = Setup {
            config: Config {
                // Long transfers are meant.
                max_steps: u64::MAX,
                port_access_ns: self.access,
                ..Config::default()
            },
            ..Setup::default()
        };
        if self.epp_32 {
            let allowed = ("ParscanEpp32".into(), RegValue::Dword(1));
            setup.hardware_key.push(allowed);
        }
        let pc = pc_with(self.chip, &peripheral, setup);
        let lpt1 = pc.open();
        let offered = match self.way {
            Way::Write => modes::mask(0, self.mode),
            Way::Read => modes::mask(self.mode, 0),
        };
        let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS, "negotiation");
        if self.way == Way::Read {
            peripheral.give(&data);
        }
        let before = pc.machine.times();
        match self.way {
            Way::Write => {
                let result = check(pc.machine.write(lpt1, &data));
                assert_eq!(result.status, NtStatus::SUCCESS, "write");
                assert_eq!(result.information, data.len(), "write");
            }
            Way::Read => {
                let mut got = Vec::new();
                while got.len() < data.len() {
                    let result = check(pc.machine.read(lpt1, data.len() - got.len()));
                    assert_eq!(result.status, NtStatus::SUCCESS, "read");
                    assert_ne!(result.information, 0, "read: after {}", got.len());
                    got.extend_from_slice(&result.output[..result.information]);
                }
                assert!(got == data, "other bytes were read");
            }
        }
        let after = pc.machine.times();
        if self.way == Way::Write {
            let arrived = peripheral.received_on(channel(self.mode));
            assert!(arrived == data, "other bytes arrived");
        }
        check(pc.machine.close(lpt1));
        pc.finish();
        Cost {
            accesses: after.port_accesses - before.port_accesses,
            time: after.now - before.now,
            cpu: after.cpu - before.cpu,
            stalled: after.stalled - before.stalled,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
impl Cost {
    /// Port accesses for each of `bytes`.
    pub(crate) fn accesses_a_byte(&self, bytes: usize) -> f64 {
        Self::a_byte(self.accesses, bytes)
    }

    /// A part of the whole time, in percent.
    pub(crate) fn share(&self, part: Nanos) -> f64 {
        part as f64 * 100.0 / self.time as f64
    }

    /// A count or time for each of `bytes`.
    pub(crate) fn a_byte(count: u64, bytes: usize) -> f64 {
        count as f64 / bytes as f64
    }
}

//! The enhanced parallel port: registers whose accesses are whole handshakes.

use alloc::boxed::Box;

use super::{
    ChipViolation, ChipViolationKind, Violations,
    base::{Base, DATA, DCR, DCR_DIRECTION, DSR},
    chip_options,
};
use crate::{Nanos, Peripheral};

/// Offset of the address register.
pub(super) const ADDRESS: u16 = 3;
/// The last offset of the data register, which begins after the address register.
pub(super) const LAST_DATA: u16 = 7;
/// How long a cycle waits for nWait.
const TIMEOUT: Nanos = 10_000;
/// DSR bit 0: a cycle timed out.
pub(super) const DSR_TIMEOUT: u8 = 0x01;

/// Which EPP a chip speaks. They differ in who has to be careful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EppVersion {
    /// A cycle starts whatever nWait shows, and DCR bit 5 must be 0 for a write and 1 for a read.
    V1_7,
    /// A cycle starts only when nWait is low, and a read turns the drivers off by itself; DCR bit 5
    /// must be 0.
    V1_9,
}

/// What clears the time-out bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutClear {
    /// Two reads of DSR, which still show the bit.
    ReadTwice,
    /// Writing a 1 to it.
    WriteOne,
    /// Writing a 0 to it.
    WriteZero,
}

/// Which of the two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Address,
    Data,
}

/// The part of a chip that makes EPP cycles.
pub(super) struct EppEngine {
    pub(super) version: EppVersion,
    pub(super) clear: TimeoutClear,
    pub(super) blocks_spp: bool,
    pub(super) cycle_time: Nanos,
    timeout: bool,
    /// How often DSR was read since the time-out.
    reads: u8,
}

impl EppEngine {
    pub(super) const fn new() -> Self {
        Self {
            version: EppVersion::V1_9,
            clear: TimeoutClear::WriteOne,
            blocks_spp: false,
            cycle_time: 0,
            timeout: false,
            reads: 0,
        }
    }

    /// Whether the time-out bit keeps DATA and DCR from being written.
    pub(super) const fn blocks(&self) -> bool {
        self.blocks_spp && self.timeout
    }

    /// DSR bit 0 as software reads it.
    pub(super) fn read_timeout(&mut self) -> u8 {
        if !self.timeout {
            return 0;
        }
        self.reads = self.reads.saturating_add(1);
        if self.clear == TimeoutClear::ReadTwice && self.reads == 2 {
            self.timeout = false;
        }
        DSR_TIMEOUT
    }

    /// A write to DSR.
    pub(super) fn write_dsr(&mut self, value: u8) {
        let one = value & DSR_TIMEOUT != 0;
        match self.clear {
            TimeoutClear::WriteOne if one => self.timeout = false,
            TimeoutClear::WriteZero if !one => self.timeout = false,
            _ => {}
        }
    }

    /// One read cycle: what the peripheral drove, or 0xFF.
    pub(super) fn read(&mut self, base: &mut Base, violations: &mut Violations, at: u16) -> u8 {
        if self.version == EppVersion::V1_7 && base.dcr & DCR_DIRECTION == 0 {
            violations.add(base.connector.now(), ChipViolationKind::EppDirection);
        }
        let byte = self.cycle(base, violations, register(at), None);
        byte.unwrap_or(0xFF)
    }

    /// One write cycle.
    pub(super) fn write(
        &mut self,
        base: &mut Base,
        violations: &mut Violations,
        at: u16,
        byte: u8,
    ) {
        let drivers_off = base.dcr & DCR_DIRECTION != 0;
        if drivers_off {
            violations.add(base.connector.now(), ChipViolationKind::EppDirection);
        }
        // A chip of version 1.9 reads then.
        let byte = (!drivers_off || self.version == EppVersion::V1_7).then_some(byte);
        self.cycle(base, violations, register(at), byte);
    }

    /// A cycle with the events of the standard: the byte on the data lines at the peripheral's
    /// answer, or `None` when there was no cycle or no answer.
    fn cycle(
        &mut self,
        base: &mut Base,
        violations: &mut Violations,
        register: Register,
        write: Option<u8>,
    ) -> Option<u8> {
        if base.dcr & 0x0F != 0x04 {
            violations.add(base.connector.now(), ChipViolationKind::EppControl);
            return None;
        }
        let step = self.cycle_time / 4;
        let until = base.connector.now().saturating_add(TIMEOUT);
        let ready = self.version == EppVersion::V1_7 || base.connector.wait(until, |l| !l.busy);
        let mut answered = None;
        if ready {
            let mut host = base.host();
            if let Some(byte) = write {
                host.data = byte;
                host.n_strobe = false; // nWrite
            } else if self.version == EppVersion::V1_9 {
                host.drives_data = false;
            }
            base.connector.drive(host);
            pause(base, step);
            match register {
                Register::Address => host.n_select_in = false,
                Register::Data => host.n_auto_fd = false,
            }
            base.connector.drive(host);
            pause(base, step);
            if base.connector.wait(until, |lines| lines.busy) {
                pause(base, step);
                answered = Some(base.connector.bus());
            }
            (host.n_select_in, host.n_auto_fd) = (true, true);
            base.connector.drive(host);
            pause(base, step);
            base.drive();
        }
        if answered.is_none() {
            self.timeout = true;
            self.reads = 0;
        }
        answered
    }
}

/// Lets a part of a cycle's time pass.
fn pause(base: &mut Base, time: Nanos) {
    if time > 0 {
        let until = base.connector.now().saturating_add(time);
        base.connector.catch_up(until);
    }
}

const fn register(offset: u16) -> Register {
    if offset == ADDRESS {
        Register::Address
    } else {
        Register::Data
    }
}

/// A builder of the chips with EPP for each of these options of their engine, which the chip keeps
/// behind `epp_mut`.
macro_rules! engine_options {
    ($chip:ty: $(
        $(#[$doc:meta])*
        $name:ident($($option:ident: $t:ty)?) sets $field:ident = $value:expr;
    )*) => {
        impl $chip { $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self $(, $option: $t)?) -> Self {
                self.epp_mut().$field = $value;
                self
            }
        )* }
    };
}
pub(super) use engine_options;

/// The builders of the chips with EPP.
macro_rules! epp_options {
    ($chip:ty) => {
        $crate::chip::epp::engine_options! { $chip:
            /// Which EPP the chip speaks; 1.9 unless set.
            with_epp_version(version: EppVersion) sets version = version;
            /// What clears the time-out bit; writing a 1 unless set.
            with_timeout_clear(clear: TimeoutClear) sets clear = clear;
            /// A chip that ignores writes to DATA and DCR while the time-out bit is set.
            with_timeout_blocking_spp() sets blocks_spp = true;
            /// How long the chip takes for a cycle, apart from its waiting for the peripheral; 0
            /// unless set. Only traces show it: an access returns at once, and the next one comes
            /// to a chip whose time may already be further.
            with_cycle_time(time: Nanos) sets cycle_time = time;
        }
    };
}
pub(super) use epp_options;

/// An EPP chip without an ECP block: a [`Ps2`](crate::Ps2) with the EPP registers.
///
/// - An access to the address register (offset 3) or the data register (offsets 4 to 7) is an EPP
///   cycle for every byte of its width. The chip moves nWrite, nDStrb and nAStrb; the peripheral
///   answers with nWait.
/// - When nWait does not answer within 10 us, the cycle ends, a read gives 0xFF, and DSR bit 0 is
///   1 until it is [cleared](TimeoutClear). The chip's time is then 10 us ahead of the access.
/// - A cycle needs DCR 0x04: nInit high, and nStrobe, nAutoFd and nSelectIn left high to the
///   hardware. Otherwise nothing happens but an entry in [`violations`](Self::violations).
///
/// It keeps no trace unless built [`with_trace`](Self::with_trace).
pub struct Epp {
    base: Base,
    engine: EppEngine,
    violations: Violations,
}

chip_options!(Epp);
epp_options!(Epp);

impl Epp {
    /// A chip with `peripheral` on its connector.
    #[must_use]
    pub fn new(peripheral: Box<dyn Peripheral>) -> Self {
        Self {
            base: Base::new(peripheral, true),
            engine: EppEngine::new(),
            violations: Violations::default(),
        }
    }

    /// The rules that software broke, oldest first, at most 4096.
    #[must_use]
    pub fn violations(&self) -> &[ChipViolation] {
        &self.violations.0
    }

    fn epp_mut(&mut self) -> &mut EppEngine {
        &mut self.engine
    }

    fn read_byte(&mut self, block: usize, offset: u16) -> u8 {
        match (block, offset) {
            (0, DATA) => self.base.read_data(),
            (0, DSR) => self.base.read_dsr() & !DSR_TIMEOUT | self.engine.read_timeout(),
            (0, DCR) => self.base.read_dcr(),
            (0, ADDRESS..=LAST_DATA) => {
                self.engine
                    .read(&mut self.base, &mut self.violations, offset)
            }
            _ => 0xFF,
        }
    }

    fn write_byte(&mut self, block: usize, offset: u16, value: u8) {
        match (block, offset) {
            (0, DATA | DCR) if self.engine.blocks() => {
                let now = self.base.connector.now();
                self.violations
                    .add(now, ChipViolationKind::BlockedByTimeout);
            }
            (0, DATA) => self.base.write_data(value),
            (0, DSR) => self.engine.write_dsr(value),
            (0, DCR) => self.base.write_dcr(value),
            (0, ADDRESS..=LAST_DATA) => {
                self.engine
                    .write(&mut self.base, &mut self.violations, offset, value);
            }
            _ => {}
        }
    }
}

byte_wide_port!(
    Epp,
    fn held_until(&self) -> Nanos {
        self.base.connector.now()
    }
);

//! Looking at a port without changing it, and leaving it as it was.
//!
//! What hangs on a port's lines need not be a printer: relays, motors and programmers take every
//! edge for an order. So a peripheral is asked who it is only when its status lines show one that
//! has power and rests, and afterwards every line is as it was.

use super::{Condition, Dcr, Dsr, Interrupted, Port, Register};

/// Between the two looks at the lines that must agree, in milliseconds.
const SAMPLE_MS: u32 = 1;
/// Between two looks at a peripheral that shows itself ready, in microseconds.
const READY_US: u32 = 20;
/// How many looks at most.
const SAMPLES: u32 = 10;
/// What a register that does not read back shows.
const WRITE_ONLY: u8 = 0xFF;

/// The condition of the peripheral, if it can be told: two looks a millisecond apart agree, and
/// neither falls into an acknowledge pulse. Only reads.
///
/// # Errors
/// [`Interrupted`]: the wait ended early.
pub fn steady_condition(port: &mut impl Port) -> Result<Option<Condition>, Interrupted> {
    let before = lines(port);
    let (lines, agree) = settled(port, before)?;
    Ok(agree.then(|| Condition::of(lines)))
}

/// The status lines, for a request that asks for them and does no more with them than to tell.
///
/// A peripheral that shows itself ready is believed after a moment: no other state looks so while
/// its lines change, and a thread that slept would cost more than the answer.
///
/// # Errors
/// [`Interrupted`]: the wait ended early.
pub(super) fn steady_lines(port: &mut impl Port) -> Result<Dsr, Interrupted> {
    let mut before = lines(port);
    if Condition::of(before).is_ready() && before.contains(Dsr::N_ACK) {
        port.yield_now()?;
        port.stall(READY_US);
        let now = lines(port);
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Ok(settled(port, before)?.0)
}

/// The lines when two looks agree, the first of which saw `before`; or those of the last look, and
/// that none did.
fn settled(port: &mut impl Port, mut before: Dsr) -> Result<(Dsr, bool), Interrupted> {
    for _ in 0..SAMPLES {
        port.sleep(SAMPLE_MS)?;
        let now = lines(port);
        // All lines low is no pulse but a device without power.
        let pulse =
            !now.contains(Dsr::N_ACK) && now.intersects(Dsr::P_ERROR | Dsr::SELECT | Dsr::N_FAULT);
        if now == before && !pulse {
            return Ok((now, true));
        }
        before = now;
    }
    Ok((before, false))
}

fn lines(port: &mut impl Port) -> Dsr {
    Dsr::from_bits_retain(port.read(Register::Dsr)) & Dsr::LINES
}

/// What the host's lines were, to make them so again.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    data: u8,
    dcr: u8,
}

impl Before {
    /// Reads what is on the lines.
    pub fn of(port: &mut impl Port) -> Self {
        Self {
            data: port.read(Register::Data),
            dcr: port.read(Register::Dcr),
        }
    }

    /// Makes the lines as they were; an ECP chip must be in SPP mode, and the control lines at rest
    /// if they moved. A control register that does not read back is put at rest, such a data
    /// register gets 0. Nothing is written that is so already, as far as that can be read.
    pub fn restore(self, port: &mut impl Port) {
        let data = port.read(Register::Data);
        if data != self.data {
            port.write(Register::Data, self.data);
        } else if data == WRITE_ONLY {
            port.write(Register::Data, 0);
        }
        let shown = port.read(Register::Dcr);
        // What shows neither that nor rest does not read back, and did not before.
        let reads_back = shown == self.dcr || is_at_rest(shown);
        let lines = if reads_back { self } else { self.at_rest() };
        lines.restore_control(shown, port);
    }

    /// The same after a time without power, in which no client used it: what still reads as it did
    /// is left alone, and so is a data register that does not read back.
    pub fn restore_after_sleep(self, port: &mut impl Port) {
        if self.data != WRITE_ONLY && port.read(Register::Data) != self.data {
            port.write(Register::Data, self.data);
        }
        let shown = port.read(Register::Dcr);
        self.restore_control(shown, port);
    }

    /// The same lines, but for the control lines, which are at rest.
    #[must_use]
    pub const fn at_rest(self) -> Self {
        Self {
            dcr: WRITE_ONLY,
            ..self
        }
    }

    /// The control register shows `shown`.
    fn restore_control(self, shown: u8, port: &mut impl Port) {
        let dcr = if self.dcr == WRITE_ONLY {
            Dcr::IDLE.bits()
        } else {
            self.dcr
        };
        if shown != dcr {
            // Reserved bits stay as they are written everywhere: 0.
            port.write(Register::Dcr, Dcr::from_bits_truncate(dcr).bits());
        }
    }
}

/// Whether a control register that shows this holds [`Dcr::IDLE`]. Chips show what they like in the
/// reserved bits.
const fn is_at_rest(shown: u8) -> bool {
    Dcr::from_bits_truncate(shown).bits() == Dcr::IDLE.bits()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;

    /// A control register that shows one value after the other, and what is written to it.
    struct Control {
        shows: Vec<u8>,
        written: Vec<u8>,
    }

    impl Port for Control {
        fn read(&mut self, register: Register) -> u8 {
            match register {
                Register::Dcr => self.shows.remove(0),
                _ => 0x5A,
            }
        }
        fn write(&mut self, register: Register, value: u8) {
            assert_eq!(register, Register::Dcr);
            self.written.push(value);
        }
        fn stall(&mut self, _: u32) {}
        fn yield_now(&mut self) -> Result<(), Interrupted> {
            Ok(())
        }
        fn sleep(&mut self, _: u32) -> Result<(), Interrupted> {
            Ok(())
        }
        fn now(&mut self) -> u64 {
            0
        }
        fn has_ecp(&self) -> bool {
            false
        }
        fn has_epp(&self) -> bool {
            false
        }
    }

    /// What is written after a peripheral was asked, if the register showed this before and shows
    /// that afterwards.
    fn restored(before: u8, after: u8) -> Vec<u8> {
        let mut port = Control {
            shows: vec![before, after],
            written: vec![],
        };
        Before::of(&mut port).restore(&mut port);
        port.written
    }

    #[test]
    fn control_lines_are_as_they_were() {
        assert_eq!(restored(0x0C, 0x0C), []);
        assert_eq!(restored(0x0E, 0x0C), [0x0E]);
        // Nothing moved.
        assert_eq!(restored(0x0E, 0x0E), []);
    }

    #[test]
    fn reserved_bits_are_written_as_0() {
        assert_eq!(restored(0xCC, 0xCC), []);
        assert_eq!(restored(0xCE, 0xCC), [0x0E]);
    }

    #[test]
    fn a_control_register_that_does_not_read_back_is_put_at_rest() {
        assert_eq!(restored(0xFF, 0xFF), [0x0C]);
        assert_eq!(restored(0x3B, 0x55), [0x0C]);
    }
}

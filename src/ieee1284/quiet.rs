//! Looking at a port without changing it, and leaving it as it was.
//!
//! What hangs on a port's lines need not be a printer: relays, motors and programmers take every
//! edge for an order. So a peripheral is asked who it is only when its status lines show one that
//! has power and rests, and afterwards every line is as it was.

use super::{Condition, Dcr, Dsr, Interrupted, Port, Register};

/// Between the two looks at the lines that must agree, in milliseconds.
const SAMPLE_MS: u32 = 1;
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
    let (lines, agree) = steady_lines(port)?;
    Ok(agree.then(|| Condition::of(lines)))
}

/// The status lines, and whether two looks agreed.
///
/// # Errors
/// [`Interrupted`]: the wait ended early.
pub(super) fn steady_lines(port: &mut impl Port) -> Result<(Dsr, bool), Interrupted> {
    let mut before = lines(port);
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

    /// Makes the lines as they were; an ECP chip must be in SPP mode. A control register that does
    /// not read back is put at rest, such a data register gets 0. Nothing is written that is so
    /// already, as far as that can be read.
    pub fn restore(self, port: &mut impl Port) {
        let data = port.read(Register::Data);
        if data != self.data {
            port.write(Register::Data, self.data);
        } else if data == WRITE_ONLY {
            port.write(Register::Data, 0);
        }
        self.restore_control(port);
    }

    /// The same after a time without power, which nobody else used: what still reads as it did is
    /// left alone, and so is a data register that does not read back.
    pub fn restore_after_sleep(self, port: &mut impl Port) {
        if self.data != WRITE_ONLY && port.read(Register::Data) != self.data {
            port.write(Register::Data, self.data);
        }
        self.restore_control(port);
    }

    /// The same lines, but for the control lines, which are at rest.
    #[must_use]
    pub const fn at_rest(self) -> Self {
        Self {
            dcr: WRITE_ONLY,
            ..self
        }
    }

    fn restore_control(self, port: &mut impl Port) {
        let dcr = if self.dcr == WRITE_ONLY {
            Dcr::IDLE.bits()
        } else {
            self.dcr
        };
        if port.read(Register::Dcr) != dcr {
            port.write(Register::Dcr, dcr);
        }
    }
}

//! What the FIFO modes of an ECP port have in common.

use super::{Dsr, Ecr, Fifo, Interrupted, Port, Register, lines::Lines};

/// Pauses before the first looks at a FIFO that drains, in microseconds: a FIFO of 16 bytes needs
/// some ten with a fast peripheral. After them, [`Lines::poll`] decides.
const PAUSES_US: [u32; 4] = [2, 4, 8, 16];

/// How long a FIFO may go on draining after an interruption, in steps of 25 us: some milliseconds.
/// While it drains, what is in it can only be guessed.
const GRACE: u32 = 200;

/// How a wait for an empty FIFO ended.
pub(super) enum Drained {
    /// Every byte has left the port.
    Empty,
    /// The caller's look at the lines found something.
    Noticed,
    /// The limit has passed.
    TimeUp,
    /// The port's owner ended it.
    Interrupted,
}

/// From an empty FIFO to the end of the last strobe, in microseconds: set-up, strobe and hold.
const LAST_BYTE_US: u32 = 5;

/// How long a FIFO takes to drain, as learnt from the last time.
#[derive(Clone, Copy, Default)]
pub(super) struct FifoPace {
    us: u32,
}

impl FifoPace {
    /// The longest pause before the first look. A FIFO that needs much longer belongs to a slow
    /// peripheral, and the processor has better things to do.
    const LIMIT_US: u32 = 40;
}

impl Fifo {
    /// What fits into the empty FIFO, and what comes after it.
    #[inline]
    pub(super) fn split(self, data: &[u8]) -> (&[u8], &[u8]) {
        data.split_at_checked(usize::from(self.depth).max(1))
            .unwrap_or((data, &[]))
    }
}

/// Waits until the FIFO has drained, at most `limit` milliseconds. `notice` looks at other things
/// meanwhile, when it takes longer.
pub(super) fn drain<P: Port>(
    lines: &mut Lines<'_, P>,
    pace: &mut FifoPace,
    limit: u64,
    notice: fn(&mut P) -> bool,
) -> Drained {
    let expected = pace.us;
    if expected > 0 {
        lines.port.stall(expected);
    }
    if is_empty(lines.port) {
        // A little less next time, in case it was too long.
        pace.us = expected.saturating_sub(1);
        return Drained::Empty;
    }
    for pause in PAUSES_US {
        lines.port.stall(pause);
        pace.us = pace.us.saturating_add(pause).min(FifoPace::LIMIT_US);
        if is_empty(lines.port) {
            return Drained::Empty;
        }
    }
    wait(lines, limit, is_empty, notice)
}

/// Waits until the last byte has left the port, too: the FIFO has drained, and the peripheral is
/// not busy.
///
/// A chip whose empty bit does not count the byte between FIFO and peripheral is given
/// `answer_us` for the peripheral's Busy.
#[inline(never)]
pub(super) fn finish<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    answer_us: u32,
    limit: u64,
    notice: fn(&mut P) -> bool,
) -> Drained {
    lines.port.stall(LAST_BYTE_US);
    if !fifo.counts_transmitter {
        for _ in 0..answer_us / LAST_BYTE_US {
            if !lines.dsr().contains(Dsr::NOT_BUSY) {
                break;
            }
            lines.port.stall(LAST_BYTE_US);
        }
    }
    wait(lines, limit, is_finished, notice)
}

fn is_finished(port: &mut impl Port) -> bool {
    let dsr = Dsr::from_bits_retain(port.read(Register::Dsr));
    dsr.contains(Dsr::NOT_BUSY) && is_empty(port)
}

#[inline(never)]
fn wait<P: Port>(
    lines: &mut Lines<'_, P>,
    limit: u64,
    drained: fn(&mut P) -> bool,
    notice: fn(&mut P) -> bool,
) -> Drained {
    let result = lines.poll(limit, |port| {
        if drained(port) {
            Some(Drained::Empty)
        } else if notice(port) {
            Some(Drained::Noticed)
        } else {
            None
        }
    });
    match result {
        Ok(seen) => seen.unwrap_or(Drained::TimeUp),
        Err(Interrupted) => lines
            .grace(GRACE, |port| drained(port).then_some(Drained::Empty))
            .unwrap_or(Drained::Interrupted),
    }
}

fn is_empty(port: &mut impl Port) -> bool {
    ecr(port).contains(Ecr::EMPTY)
}

/// What was found in a FIFO that did not drain.
pub(super) struct Residue {
    /// How many of the bytes that came next were put into it.
    pub(super) filled: usize,
    /// There was nothing in it.
    pub(super) drained: bool,
    /// How many bytes, of all that were put into it, have not left the port.
    pub(super) unsent: usize,
}

/// Counts what is left in a FIFO that does not drain, and empties it. Afterwards the port is in
/// PS/2 mode.
///
/// The chip tells only whether its FIFO is full: it is filled until it is, with the bytes that come
/// next, so that a peripheral that wakes up meanwhile gets nothing wrong. Without such bytes it is
/// filled with zeros, which are only counted. `taken` tells whether the peripheral has the byte
/// that is between FIFO and peripheral, though the chip is not through with it.
#[inline(never)]
pub(super) fn residue<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    next: &[u8],
    taken: fn(&mut P) -> bool,
) -> Residue {
    let mut filled: usize = 0;
    let mut padding: usize = 0;
    let mut next = next.iter();
    let drained = is_empty(lines.port);
    let depth = if drained { 0 } else { fifo.depth };
    for _ in 0..depth {
        if ecr(lines.port).contains(Ecr::FULL) {
            break;
        }
        if let Some(byte) = next.next() {
            lines.port.write(Register::EcpFifo, *byte);
            filled = filled.saturating_add(1);
        } else {
            lines.port.write(Register::EcpFifo, 0);
            padding = padding.saturating_add(1);
        }
    }
    let taken = taken(lines.port);
    lines.mode(Ecr::PS2);
    // One more byte may be between FIFO and peripheral.
    let unsent = usize::from(depth)
        .saturating_sub(padding)
        .saturating_add(usize::from(!fifo.counts_transmitter))
        .saturating_sub(usize::from(taken));
    Residue {
        filled,
        drained,
        unsent,
    }
}

/// Reads the ECR.
pub(super) fn ecr(port: &mut impl Port) -> Ecr {
    Ecr::from_bits_retain(port.read(Register::Ecr))
}

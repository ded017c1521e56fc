//! Compatibility mode (Centronics): bytes to a printer, by software or by the FIFO.

use super::{
    Condition, Dcr, Dsr, Ecr, Fault, Fifo, Port, Register,
    fifo::{self, Drained, FifoPace},
    lines::{Lines, T_INF},
    quiet::steady_lines,
};

/// What the lines say before a byte.
enum Readiness {
    /// The peripheral takes a byte.
    Ready,
    /// It shows a fault.
    Trouble,
}

/// One look at the peripheral; `None` while it is busy, and nothing else. nFault and Busy decide:
/// what PError and Select show of a peripheral without a fault means something for printers only,
/// and other devices leave them open.
fn readiness(port: &mut impl Port) -> Option<Readiness> {
    let dsr = Dsr::from_bits_retain(port.read(Register::Dsr));
    if !dsr.contains(Dsr::N_FAULT) {
        Some(Readiness::Trouble)
    } else if dsr.contains(Dsr::NOT_BUSY) {
        Some(Readiness::Ready)
    } else {
        None
    }
}

fn is_in_trouble(port: &mut impl Port) -> bool {
    matches!(readiness(port), Some(Readiness::Trouble))
}

/// A second, longer look at a fault.
fn confirm<P: Port>(lines: &mut Lines<'_, P>) -> Result<(), Fault> {
    let dsr = steady_lines(lines.port)?;
    if dsr.contains(Dsr::N_FAULT) {
        // It was nothing.
        Ok(())
    } else {
        Err(Fault::Condition(Condition::of(dsr)))
    }
}

/// Waits until the peripheral takes a byte, however long it is busy; if the writer is `patient`,
/// also however long it shows a fault.
#[inline]
fn ready<P: Port>(lines: &mut Lines<'_, P>, patient: bool) -> Result<(), Fault> {
    loop {
        let look = |port: &mut P| {
            readiness(port).filter(|seen| !patient || matches!(seen, Readiness::Ready))
        };
        match lines.poll(T_INF, look)? {
            Some(Readiness::Ready) => return Ok(()),
            Some(Readiness::Trouble) => confirm(lines)?,
            None => {}
        }
    }
}

/// Writes bytes with the control lines: four accesses a byte. `done` counts those that the printer
/// was given.
///
/// Data set-up, strobe and hold must be 0.75 us each. Every step is an access of about 1 us, so
/// none of them stalls.
///
/// # Errors
/// [`Fault::Condition`], [`Fault::Interrupted`]
pub(super) fn write<P: Port>(
    lines: &mut Lines<'_, P>,
    data: &[u8],
    done: &mut usize,
    patient: bool,
) -> Result<(), Fault> {
    lines.control_is(Dcr::IDLE);
    let mut rest = data;
    loop {
        let sent = burst(lines, rest);
        *done = done.saturating_add(sent);
        let Some((byte, after)) = rest.get(sent..).and_then(<[u8]>::split_first) else {
            return Ok(());
        };
        // Of a burst's length, and it fits.
        lines.proceed(u32::try_from(sent).unwrap_or(0).saturating_add(1))?;
        // 1: Busy low.
        ready(lines, patient)?;
        // 2: the byte.
        lines.data(*byte);
        // 3: nStrobe low. 4: nStrobe high. The next look at the lines holds the data.
        lines.strobe(Dcr::IDLE | Dcr::STROBE, Dcr::IDLE);
        *done = done.saturating_add(1);
        rest = after;
    }
}

/// Bytes that are sent before the processor is offered to others.
const BURST: usize = 56;
/// Bytes that are sent while no other thread can have the processor: 32 us on a slow port.
const FEW: usize = 8;

/// Sends bytes for as long as the peripheral is ready at the first look, and nothing asks the
/// writer to end: the accesses of the protocol, and little else. How many.
fn burst<P: Port>(lines: &mut Lines<'_, P>, data: &[u8]) -> usize {
    /// What [`readiness`] wants.
    const READY: Dsr = Dsr::N_FAULT.union(Dsr::NOT_BUSY);
    let mut sent = 0;
    for few in data.chunks(FEW).take(BURST / FEW) {
        if lines.is_interrupted() {
            break;
        }
        let count = lines.write_strobed(few, READY, Dcr::IDLE | Dcr::STROBE, Dcr::IDLE);
        sent += count;
        if count < few.len() {
            break;
        }
    }
    sent
}

/// Writes bytes through the FIFO (mode 010): little more than one access a byte. `done` counts
/// those that have left the port.
///
/// # Errors
/// [`Fault::Condition`], [`Fault::Interrupted`]
pub(super) fn write_fifo<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    data: &[u8],
    done: &mut usize,
    patient: bool,
) -> Result<(), Fault> {
    lines.control_is(Dcr::IDLE);
    lines.check()?;
    let start = *done;
    loop {
        ready(lines, patient)?;
        lines.mode(Ecr::FAST_CENTRONICS);
        let rest = data.get(done.saturating_sub(start)..).unwrap_or_default();
        let result = bursts(lines, fifo, rest, done);
        lines.mode(Ecr::SPP);
        match result {
            // The chip does not look at nFault: what it has not sent waits outside of it.
            Err(Fault::Condition(_)) if patient => {}
            result => return result,
        }
    }
}

fn bursts<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    data: &[u8],
    done: &mut usize,
) -> Result<(), Fault> {
    let mut pace = FifoPace::default();
    let mut rest = data;
    while !rest.is_empty() {
        let chunk;
        (chunk, rest) = fifo.split(rest);
        lines.proceed(u32::from(fifo.depth))?;
        lines.port.write_block(Register::EcpFifo, chunk);
        let fault = loop {
            let mut drained = fifo::drain(lines, &mut pace, T_INF, is_in_trouble);
            if matches!(drained, Drained::Empty) && rest.is_empty() {
                drained = fifo::finish(lines, fifo, 0, T_INF, is_in_trouble);
            }
            match drained {
                Drained::Empty => break None,
                Drained::Noticed => {
                    if let Err(fault) = confirm(lines) {
                        break Some(fault);
                    }
                }
                // T-infinite is never over.
                Drained::TimeUp | Drained::Interrupted => break Some(Fault::Interrupted),
            }
        };
        if let Some(fault) = fault {
            let left = fifo::residue(lines, fifo, rest, |_| false);
            if !(is_absent(fault) && left.drained) {
                let written = chunk.len().saturating_add(left.filled);
                *done = done.saturating_add(written.saturating_sub(left.unsent));
            }
            return Err(fault);
        }
        let after = if is_in_trouble(lines.port) {
            confirm(lines)
        } else {
            Ok(())
        };
        if !after.is_err_and(is_absent) {
            *done = done.saturating_add(chunk.len());
        }
        after?;
    }
    Ok(())
}

/// There is no peripheral. The chip asks only for Busy, and a printer without power is never busy:
/// what the FIFO sent last went nowhere.
fn is_absent(fault: Fault) -> bool {
    matches!(fault, Fault::Condition(condition) if condition.is_absent())
}

//! EPP: a read or write cycle for each byte, by the chip or with the control lines.

use super::{
    Access, Capabilities, Dcr, Dsr, Ecr, Fault, Port, Register,
    detect::{clear_epp_time_out, epp_time_out},
    lines::Lines,
    negotiate::leave_epp,
};

/// Bytes between two looks at the time-out bit. What a block with a time-out moved is not known,
/// so it counts as nothing: the smaller, the less is lost.
const BLOCK: usize = 32;
/// How long nWait is looked for in a software cycle, in nanoseconds. The peripheral has 10 us;
/// twice that leaves room for what an access was measured wrongly.
const CYCLE_NS: u32 = 20_000;
/// The longest time that is reckoned for an access.
const ACCESS_NS: u32 = 1000;

/// How many looks for nWait that is.
fn looks(port: &impl Port) -> u32 {
    CYCLE_NS.div_ceil(port.access_ns().clamp(1, ACCESS_NS))
}

/// Which of the peripheral's two registers a cycle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Address cycles: nAStrb.
    Address,
    /// Data cycles: nDStrb.
    Data,
}

impl Space {
    const fn register(self) -> Register {
        match self {
            Self::Address => Register::EppAddress,
            Self::Data => Register::EppData,
        }
    }

    /// The strobe, low.
    const fn strobe(self) -> Dcr {
        match self {
            Self::Address => Dcr::SELECT_IN,
            Self::Data => Dcr::AUTO_FD,
        }
    }
}

/// Writes bytes by hardware: little more than one access a byte, or one for four. `done` counts
/// whole blocks that the peripheral took.
///
/// # Errors
/// [`Fault::EppTimeOut`], [`Fault::Interrupted`]
pub(super) fn write<P: Port>(
    lines: &mut Lines<'_, P>,
    capabilities: &Capabilities,
    space: Space,
    data: &[u8],
    done: &mut usize,
) -> Result<(), Fault> {
    lines.check()?;
    turn(lines, Dcr::ACTIVE);
    begin(lines)?;
    for block in data.chunks(BLOCK) {
        lines.proceed(count(block))?;
        if capabilities.epp_32 && space == Space::Data {
            let (words, rest) = block.as_chunks();
            lines.port.write_block32(Register::EppData, words);
            lines.port.write_block(Register::EppData, rest);
        } else {
            lines.port.write_block(space.register(), block);
        }
        end(lines)?;
        *done = done.saturating_add(block.len());
    }
    Ok(())
}

/// Reads bytes by hardware. `done` counts whole blocks that the peripheral gave.
///
/// # Errors
/// [`Fault::EppTimeOut`], [`Fault::Interrupted`]
pub(super) fn read<P: Port>(
    lines: &mut Lines<'_, P>,
    capabilities: &Capabilities,
    space: Space,
    bytes: &mut [u8],
    done: &mut usize,
) -> Result<(), Fault> {
    lines.check()?;
    turn(lines, Dcr::ACTIVE | Dcr::REVERSE);
    begin(lines)?;
    for block in bytes.chunks_mut(BLOCK) {
        lines.proceed(count(block))?;
        if capabilities.epp_32 && space == Space::Data {
            let (words, rest) = block.as_chunks_mut();
            lines.port.read_block32(Register::EppData, words);
            lines.port.read_block(Register::EppData, rest);
        } else {
            lines.port.read_block(space.register(), block);
        }
        end(lines)?;
        *done = done.saturating_add(block.len());
    }
    Ok(())
}

/// Prepares the chip for cycles in one direction. Some chips turn the data lines round by
/// themselves for a read, others want the direction bit, which moves in PS/2 mode only.
#[inline]
fn turn<P: Port>(lines: &mut Lines<'_, P>, dcr: Dcr) {
    if lines.dcr() != dcr {
        lines.mode(Ecr::PS2);
        lines.control(dcr);
        lines.mode(Ecr::EPP);
    }
}

/// No time-out may be pending: it would be taken for one of ours. nWait is low (60), or the
/// connector is open, which some chips would take for an answer.
fn begin<P: Port>(lines: &mut Lines<'_, P>) -> Result<(), Fault> {
    if clear_epp_time_out(lines.port) {
        at_rest(lines)
    } else {
        Err(Fault::EppTimeOut)
    }
}

/// After a block: whether every cycle had its peripheral.
#[inline]
fn end<P: Port>(lines: &mut Lines<'_, P>) -> Result<(), Fault> {
    if epp_time_out(lines.port) {
        clear_epp_time_out(lines.port);
        Err(Fault::EppTimeOut)
    } else {
        Ok(())
    }
}

/// Prepares the chip after the negotiation, for cycles by hardware or by software.
pub(super) fn enter<P: Port>(lines: &mut Lines<'_, P>, hardware: bool) {
    lines.mode(Ecr::PS2);
    lines.control_is(Dcr::ACTIVE);
    if hardware {
        lines.mode(Ecr::EPP);
    }
}

/// Between two cycles: at rest, and the data lines are the host's.
pub(super) fn forward<P: Port>(lines: &mut Lines<'_, P>, hardware: bool) {
    if hardware {
        turn(lines, Dcr::ACTIVE);
    } else {
        lines.control_is(Dcr::ACTIVE);
    }
}

/// Ends EPP on a port whose [`Session`](super::Session) is not at hand: its owner held it
/// ([`Session::is_held`](super::Session::is_held)). Stalls for 50 us. IRQL: `DISPATCH_LEVEL` or
/// below.
pub fn end_epp(port: &mut impl Port, capabilities: &Capabilities) {
    leave_epp(&mut Lines::new(port, Dcr::ACTIVE, capabilities));
}

/// Writes bytes with the control lines: five accesses a byte. `done` counts those that the
/// peripheral took.
///
/// # Errors
/// [`Fault::EppTimeOut`], [`Fault::Interrupted`]
pub(super) fn write_by_software<P: Port>(
    lines: &mut Lines<'_, P>,
    space: Space,
    data: &[u8],
    done: &mut usize,
) -> Result<(), Fault> {
    /// nWrite low.
    const WRITE: Dcr = Dcr::ACTIVE.union(Dcr::STROBE);
    lines.check()?;
    lines.mode(Ecr::PS2);
    lines.control_is(Dcr::ACTIVE);
    // 60: nWait low, or the connector is open.
    at_rest(lines)?;
    lines.control(WRITE);
    for byte in data {
        lines.proceed(1)?;
        lines.data(*byte);
        lines.settle();
        // 62 (address: 56): nDStrb low. 58: nWait high. 63 (59): nDStrb high.
        cycle(lines, WRITE, space, |_| ())?;
        *done = done.saturating_add(1);
        // 60: nWait low.
        at_rest(lines)?;
    }
    // 61: nWrite high.
    lines.control(Dcr::ACTIVE);
    Ok(())
}

/// Reads bytes with the control lines: five accesses a byte. `done` counts those that the
/// peripheral gave.
///
/// # Errors
/// [`Fault::EppTimeOut`], [`Fault::Interrupted`]
pub(super) fn read_by_software<P: Port>(
    lines: &mut Lines<'_, P>,
    space: Space,
    bytes: &mut [u8],
    done: &mut usize,
) -> Result<(), Fault> {
    /// The peripheral may drive the data lines.
    const READ: Dcr = Dcr::ACTIVE.union(Dcr::REVERSE);
    lines.check()?;
    lines.mode(Ecr::PS2);
    lines.control_is(READ);
    // 60: nWait low, or the connector is open.
    at_rest(lines)?;
    for byte in bytes {
        lines.proceed(1)?;
        // 67 (address: 64): nDStrb low. 58: nWait high; the byte is on the data lines. 63 (59):
        // nDStrb high.
        *byte = cycle(lines, READ, space, |port| port.read(Register::Data))?;
        *done = done.saturating_add(1);
        // 60: nWait low.
        at_rest(lines)?;
    }
    lines.control(Dcr::ACTIVE);
    Ok(())
}

/// A cycle: its strobe is low until the peripheral answers, and `middle` is done then, and no
/// longer. `dcr` is what the control register holds besides. Without an answer the strobe stays
/// low.
fn cycle<P: Port, T: Send>(
    lines: &mut Lines<'_, P>,
    dcr: Dcr,
    space: Space,
    middle: impl FnOnce(&mut dyn Access) -> T + Send,
) -> Result<T, Fault> {
    let low = dcr | space.strobe();
    let looks = looks(lines.port);
    let result = lines.port.unpreempted(move |port| {
        port.write(Register::Dcr, low.bits());
        if !waited(port, Dsr::empty(), looks) {
            return None;
        }
        let result = middle(port);
        port.write(Register::Dcr, dcr.bits());
        Some(result)
    });
    lines.is_now(if result.is_some() { dcr } else { low });
    result.ok_or(Fault::EppTimeOut)
}

/// Waits until the peripheral is ready for a cycle: nWait low.
#[inline]
fn at_rest<P: Port>(lines: &mut Lines<'_, P>) -> Result<(), Fault> {
    let looks = looks(lines.port);
    if waited(lines.port, Dsr::NOT_BUSY, looks) {
        Ok(())
    } else {
        Err(Fault::EppTimeOut)
    }
}

/// Waits for nWait (Busy), not longer than a cycle may last. Whether it came.
fn waited(port: &mut dyn Access, value: Dsr, looks: u32) -> bool {
    (0..looks).any(|_| {
        let dsr = Dsr::from_bits_retain(port.read(Register::Dsr));
        dsr & Dsr::NOT_BUSY == value
    })
}

/// Length of a block; one fits by far.
fn count(block: &[u8]) -> u32 {
    u32::try_from(block.len()).unwrap_or(u32::MAX)
}

//! Nibble mode: bytes from the peripheral over the status lines, four bits at a time.

use super::{
    Dcr, Dsr, Fault, Port,
    lines::{Lines, TL},
};

/// Reads bytes until `bytes` is full or the peripheral has no more: eight accesses a byte. `done`
/// counts them. Without data it ends in reverse idle, where the peripheral can offer new data, and
/// from where the next call starts.
///
/// The sample that shows event 9 also has the nibble: the peripheral set it up half a microsecond
/// before. A second look would cost two accesses more.
///
/// # Errors
/// [`Fault::NoAnswer`], [`Fault::Interrupted`]
pub(super) fn read<P: Port>(
    lines: &mut Lines<'_, P>,
    bytes: &mut [u8],
    done: &mut usize,
) -> Result<(), Fault> {
    lines.check()?;
    let mut bytes = bytes.iter_mut().peekable();
    if bytes.peek().is_none() {
        return Ok(());
    }
    let mut available = offered(lines)?;
    for byte in bytes {
        if !available {
            // 7, without data: reverse idle.
            lines.control(Dcr::ACTIVE | Dcr::AUTO_FD);
            break;
        }
        lines.proceed(1)?;
        let (low, _) = nibble(lines)?;
        let (high, after) = nibble(lines)?;
        *byte = low | high << 4;
        *done = done.saturating_add(1);
        available = data_available(after);
    }
    Ok(())
}

/// Between bytes, or in reverse idle: whether the peripheral has data. In reverse idle that is
/// left, if it has. Byte mode works the same.
///
/// # Errors
/// [`Fault::NoAnswer`], [`Fault::Interrupted`]
pub(super) fn offered<P: Port>(lines: &mut Lines<'_, P>) -> Result<bool, Fault> {
    let dsr = lines.dsr();
    if !data_available(dsr) {
        return Ok(false);
    }
    let idle = lines.dcr();
    if idle.contains(Dcr::AUTO_FD) {
        // 18: nAck low with nFault low, 19: nAck high.
        if !dsr.contains(Dsr::N_ACK) && lines.wait(TL, Dsr::N_ACK, Dsr::N_ACK)?.is_none() {
            return Err(Fault::NoAnswer(19));
        }
        // 20: nAutoFd high. The host is busy, data are available (21).
        lines.control(idle - Dcr::AUTO_FD);
    }
    Ok(true)
}

/// nFault low, between bytes: the peripheral has data.
pub(super) const fn data_available(dsr: Dsr) -> bool {
    !dsr.contains(Dsr::N_FAULT)
}

/// One nibble, and the status lines after it.
#[allow(clippy::inline_always, reason = "a part of every byte")]
#[inline(always)]
fn nibble<P: Port>(lines: &mut Lines<'_, P>) -> Result<(u8, Dsr), Fault> {
    // 7: nAutoFd low, the host is ready.
    lines.control(Dcr::ACTIVE | Dcr::AUTO_FD);
    // 9: nAck low; the nibble was there before (8).
    let mut dsr = lines.answer(9, Dsr::N_ACK, Dsr::empty())?;
    if lines.is_fast() {
        // The first look may have come before all lines had their levels.
        lines.settle();
        dsr = lines.dsr();
    }
    // 10: nAutoFd high.
    lines.control(Dcr::ACTIVE);
    // 11: nAck high. After the second nibble the lines have their meaning again (12, 13).
    let after = lines.answer(11, Dsr::N_ACK, Dsr::N_ACK)?;
    Ok((bits(dsr), after))
}

/// The nibble on the status lines: nFault, Select, PError, Busy.
const fn bits(dsr: Dsr) -> u8 {
    // Bits 3 to 5 are bits 0 to 2; bit 7 is the inverse of Busy, bit 3.
    let raw = dsr.bits();
    (raw >> 3 & 0b0111) | (!raw >> 4 & 0b1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_the_top_bit_and_the_only_inverted_one() {
        // Lines Busy, PError, Select, nFault; nAck is low.
        for (raw, nibble) in [
            (0x80, 0b0000),
            (0x88, 0b0001),
            (0x90, 0b0010),
            (0xA0, 0b0100),
            (0x00, 0b1000),
            (0x38, 0b1111),
        ] {
            assert_eq!(bits(Dsr::from_bits_retain(raw)), nibble, "{raw:#04x}");
        }
    }
}

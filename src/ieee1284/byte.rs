//! Byte mode: bytes from the peripheral over the data lines.

use super::{
    Dcr, Dsr, Ecr, Fault, Port,
    lines::Lines,
    nibble::{data_available, offered},
};

/// At rest in byte mode: the data lines belong to the peripheral.
const ACTIVE: Dcr = Dcr::ACTIVE.union(Dcr::REVERSE);

/// Reads bytes until `bytes` is full or the peripheral has no more: seven accesses a byte. `done`
/// counts them. Without data it ends in reverse idle, as nibble mode does. The data lines stay
/// turned round until the mode is terminated.
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
    if !lines.dcr().contains(Dcr::REVERSE) {
        // 14: data lines to input.
        lines.mode(Ecr::PS2);
        let active = lines.dcr();
        lines.control(active | Dcr::REVERSE);
    }
    let mut available = offered(lines)?;
    for byte in bytes {
        if !available {
            // 7, without data: reverse idle.
            lines.control(ACTIVE | Dcr::AUTO_FD);
            break;
        }
        lines.proceed(1)?;
        // 7: nAutoFd low, the host is ready.
        lines.control(ACTIVE | Dcr::AUTO_FD);
        // 9: nAck low; the byte is on the data lines.
        lines.answer(9, Dsr::N_ACK, Dsr::empty())?;
        lines.settle();
        *byte = lines.read_data();
        // 10: nAutoFd high.
        lines.control(ACTIVE);
        // 11: nAck high.
        let after = lines.answer(11, Dsr::N_ACK, Dsr::N_ACK)?;
        // 16, 17: nStrobe low, one access long: the byte was taken.
        lines.strobe(ACTIVE | Dcr::STROBE, ACTIVE);
        *done = done.saturating_add(1);
        available = data_available(after);
    }
    Ok(())
}

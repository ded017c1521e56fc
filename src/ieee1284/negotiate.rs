//! Entering and leaving the modes of IEEE 1284.

use super::{Dcr, Dsr, Ecr, Fault, Port, lines::Lines};

/// An extensibility byte: what the host asks for in a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensibility(pub u8);

impl Extensibility {
    /// Nibble mode.
    pub const NIBBLE: Self = Self(0x00);
    /// Byte mode.
    pub const BYTE: Self = Self(0x01);
    /// Device ID over nibble mode.
    pub const ID_NIBBLE: Self = Self(0x04);
    /// Device ID over byte mode.
    pub const ID_BYTE: Self = Self(0x05);
    /// ECP.
    pub const ECP: Self = Self(0x10);
    /// Device ID over ECP.
    pub const ID_ECP: Self = Self(0x14);
    /// ECP with run-length encoding.
    pub const ECP_RLE: Self = Self(0x30);
    /// EPP.
    pub const EPP: Self = Self(0x40);

    /// Whether `XFlag` says yes. Every peripheral has nibble mode, and tolerant ones get its
    /// `XFlag`, which is the only one to be low, wrong: there it is not looked at.
    const fn accepted(self, x_flag: bool) -> bool {
        x_flag || self.0 == Self::NIBBLE.0
    }
}

/// How long nInit is low when EPP ends, in microseconds: at least 50.
const EPP_EXIT_US: u32 = 50;

/// Asks for a mode, from compatibility mode at rest. Afterwards the lines are as event 6 leaves
/// them: nSelectIn and the other control lines high, nothing asserted.
///
/// # Errors
/// The lines are at rest again then.
/// * [`Fault::NotIeee1284`]: event 2 did not come.
/// * [`Fault::Refused`]: the peripheral does not have the mode.
/// * [`Fault::NoAnswer`]: event 6 did not come.
/// * [`Fault::Interrupted`]
pub(super) fn negotiate<P: Port>(
    lines: &mut Lines<'_, P>,
    request: Extensibility,
) -> Result<(), Fault> {
    let result = exchange(lines, request);
    let left = match result {
        Ok(()) | Err(Fault::NotIeee1284) => true,
        Err(Fault::Refused) => terminate(lines),
        Err(_) => false,
    };
    if !left && request == Extensibility::EPP {
        // A peripheral that is in EPP after all does not look at nSelectIn.
        leave_epp(lines);
    } else if result.is_err() {
        lines.idle();
    }
    result
}

fn exchange<P: Port>(lines: &mut Lines<'_, P>, request: Extensibility) -> Result<(), Fault> {
    lines.check()?;
    lines.control_is(Dcr::IDLE);
    // Event 0: the request on the data lines. An access is longer than the set-up time.
    lines.data(request.0);
    lines.settle();
    // Event 1: nSelectIn high, nAutoFd low.
    lines.control(Dcr::ACTIVE | Dcr::AUTO_FD);
    // Event 2: PError, Select and nFault high, nAck low.
    lines
        .answer(
            2,
            Dsr::N_ACK | Dsr::P_ERROR | Dsr::SELECT | Dsr::N_FAULT,
            Dsr::P_ERROR | Dsr::SELECT | Dsr::N_FAULT,
        )
        .map_err(|fault| match fault {
            Fault::NoAnswer(_) => Fault::NotIeee1284,
            other => other,
        })?;
    // Event 3: nStrobe low, one access long. Event 4: nStrobe and nAutoFd high.
    lines.strobe(Dcr::ACTIVE | Dcr::AUTO_FD | Dcr::STROBE, Dcr::ACTIVE);
    // Event 6: nAck high. Event 5, XFlag, comes before it.
    let answer = lines.answer(6, Dsr::N_ACK, Dsr::N_ACK)?;
    if request.accepted(answer.contains(Dsr::SELECT)) {
        Ok(())
    } else {
        Err(Fault::Refused)
    }
}

/// Leaves a mode for compatibility mode, from where that is valid: after a negotiation, between
/// bytes of nibble and byte mode, in ECP when forward idle. A peripheral that does not take part
/// is left all the same, which is an immediate termination. Gives whether it took part.
pub(super) fn terminate<P: Port>(lines: &mut Lines<'_, P>) -> bool {
    // In byte mode the peripheral may drive the data lines until the end.
    let reverse = lines.dcr() & Dcr::REVERSE;
    // Event 22: nSelectIn low, nAutoFd high.
    lines.control(Dcr::IDLE | reverse);
    // Event 24: nAck low, after Busy and nFault high (23) and XFlag inverted.
    let answers = lines.answer(24, Dsr::N_ACK, Dsr::empty()).is_ok();
    if answers {
        // Event 25: nAutoFd low.
        lines.control(Dcr::IDLE | Dcr::AUTO_FD | reverse);
        // Event 27: nAck high, after the status lines are back in their old meaning (26). If it
        // does not come, there is nothing else to do than to go on.
        let _ = lines.answer(27, Dsr::N_ACK, Dsr::N_ACK);
    }
    // Event 28: nAutoFd high; at rest.
    lines.idle();
    answers
}

/// Leaves EPP, which has an exit of its own. Many printers take it for a reset.
pub(super) fn leave_epp<P: Port>(lines: &mut Lines<'_, P>) {
    let reverse = lines.dcr() & Dcr::REVERSE;
    lines.mode(Ecr::PS2);
    // Event 68: nInit low.
    lines.control(Dcr::RESET | reverse);
    lines.port.stall(EPP_EXIT_US);
    // Event 69: nInit high; at rest.
    lines.idle();
}

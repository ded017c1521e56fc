//! The raw lines of a port between two port programs: what its registers hold, and who set it.

use core::sync::atomic::{AtomicBool, Ordering};

use super::{Hardware, hardware::NonBlockingPort};
use crate::{
    ieee1284::{Dcr, Outputs, Port, Register},
    kernel::SpinLock,
};

/// What a port knows of its registers between two programs.
#[derive(Clone, Copy)]
pub(super) struct RawLines {
    /// A program has the port.
    pub(super) claimed: bool,
    pub(super) outputs: Outputs,
    /// `outputs` is what the registers hold.
    pub(super) known: bool,
    /// The same when the port was claimed.
    at_claim: Outputs,
    /// A program has left lines as it wanted them: the next one who uses the port otherwise puts it
    /// at rest first.
    left: bool,
}

/// The registers of a port at rest.
pub(super) const AT_REST: Outputs = Outputs {
    data: 0,
    control: Dcr::IDLE.bits(),
};

impl RawLines {
    pub(super) const NEW: Self = Self {
        claimed: false,
        outputs: AT_REST,
        known: false,
        at_claim: AT_REST,
        left: false,
    };

    /// What the registers hold: known, or read. Direction is not: chips read it as they like. It is
    /// forward, but for a program that left it otherwise.
    pub(super) fn look(mut self, port: &mut NonBlockingPort) -> Self {
        if !self.known {
            let direction = self.direction();
            self.outputs = Outputs {
                data: port.read(Register::Data),
                control: port.read(Register::Dcr) & LINES | direction,
            };
            self.known = true;
        }
        self
    }

    /// The direction that the control register holds, which does not tell it.
    const fn direction(self) -> u8 {
        if self.left {
            self.outputs.control & Dcr::REVERSE.bits()
        } else {
            0
        }
    }
}

/// The control lines in the control register.
pub(super) const LINES: u8 = 0x0F;

/// Changes the registers, and no more of them than differ. `bit` is set in the control register.
pub(super) fn change(port: &mut NonBlockingPort, from: Outputs, to: Outputs, bit: u8) {
    if from.control != to.control {
        port.write(Register::Dcr, to.control | bit);
    }
    if from.data != to.data {
        port.write(Register::Data, to.data);
    }
}

/// The raw lines of a port, in its [`PortCore`](super::PortCore).
pub(super) struct LinesState {
    lines: SpinLock<RawLines>,
    /// A program has set them, or they are known. Changed under the lock; the thread that has the
    /// port looks at it without.
    used: AtomicBool,
}

impl LinesState {
    pub(super) const fn new() -> Self {
        Self {
            lines: SpinLock::new(RawLines::NEW),
            used: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(super) fn get(&self) -> RawLines {
        self.lines.with(|lines| *lines)
    }

    fn change<T>(&self, change: impl FnOnce(&mut RawLines) -> T + Send) -> T {
        let used = &self.used;
        self.lines.with(move |lines| {
            let result = change(lines);
            used.store(lines.known || lines.left, Ordering::Release);
            result
        })
    }

    /// A program begins to use the lines.
    pub(super) fn begin(&self, hardware: &Hardware, claim: bool) {
        let mut lines = self.get().look(&mut hardware.non_blocking());
        if claim {
            lines.claimed = true;
            lines.at_claim = lines.outputs;
        }
        self.change(move |place| *place = lines);
    }

    /// A program has used them.
    #[inline]
    pub(super) fn set(&self, outputs: Outputs) {
        self.change(move |lines| {
            lines.left |= lines.outputs != outputs;
            lines.outputs = outputs;
        });
    }

    /// A claim is over; the lines become what they were at its begin, if they shall. The port may
    /// be gone.
    pub(super) fn end_claim(&self, hardware: Option<&Hardware>, restore: bool, bit: u8) {
        let lines = self.get();
        if let Some(hardware) = hardware
            && restore
            && lines.known
        {
            let mut port = hardware.non_blocking();
            change(&mut port, lines.outputs, lines.at_claim, bit);
            self.set(lines.at_claim);
        }
        self.change(|lines| {
            lines.claimed = false;
            // Others may use the port from now on.
            lines.known = false;
        });
    }

    /// Whether the data lines are turned round.
    pub(super) fn is_reversed(&self) -> bool {
        self.get().outputs.control & Dcr::REVERSE.bits() != 0
    }

    /// What the control register, which reads so, holds of lines and direction.
    pub(super) fn control(&self, read: u8) -> u8 {
        let lines = self.get();
        if lines.known {
            return lines.outputs.control;
        }
        read & LINES | lines.direction()
    }

    /// The port is used otherwise than by a program: whether it is to be put at rest first.
    #[inline]
    pub(super) fn used(&self) -> bool {
        self.used.load(Ordering::Acquire) && self.taken_from_program()
    }

    /// As [`LinesState::used`], of lines that a program has used.
    #[cold]
    #[inline(never)]
    fn taken_from_program(&self) -> bool {
        self.change(|lines| {
            lines.known = false;
            if lines.left {
                lines.outputs = AT_REST;
            }
            core::mem::replace(&mut lines.left, false)
        })
    }

    /// Whether a program has the port.
    pub(super) fn is_claimed(&self) -> bool {
        self.get().claimed
    }

    /// The chip has power again: the registers of a claimed port are written as they were.
    pub(super) fn wake(&self, hardware: &Hardware) {
        let lines = self.get();
        if lines.claimed {
            let outputs = if lines.known { lines.outputs } else { AT_REST };
            let mut port = hardware.non_blocking();
            port.write(Register::Data, outputs.data);
            port.write(Register::Dcr, outputs.control);
        } else {
            self.change(|lines| {
                lines.left = false;
                lines.known = false;
                lines.outputs = AT_REST;
            });
        }
    }
}

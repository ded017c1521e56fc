//! Something that one processor at a time does, again for each that asks meanwhile.

use super::{Flag, Stage};

/// No processor does it.
pub const IDLE: u8 = 0;
/// One does, and was not asked since it began.
const DOING: u8 = 1;
/// It was asked for since.
const AGAIN: u8 = 2;

/// Something that is done after every time it is asked for, by one processor at a time: in rounds.
///
/// The one who does it may leave what is left to another, such as a DPC.
pub struct Rounds<S, F> {
    stage: S,
    /// Left to another, who has not begun.
    handed_over: F,
}

impl<S: Stage, F: Flag> Rounds<S, F> {
    /// Of a stage that is [`IDLE`] and a flag that is not set.
    pub const fn new(stage: S, handed_over: F) -> Self {
        Self { stage, handed_over }
    }

    /// It is asked for. Whether the caller is to do it: [`Rounds::begin`] comes next.
    pub fn ask(&self) -> bool {
        self.stage.replace(AGAIN) == IDLE
    }

    /// A round begins: it is for all that was asked by now.
    pub fn begin(&self) {
        // Acquires what those who asked did before.
        self.stage.replace(DOING);
    }

    /// The round is over. Whether it was the last one; else another one follows, or
    /// [`Rounds::hand_over`].
    pub fn end(&self) -> bool {
        self.stage.change(DOING, IDLE)
    }

    /// Leaves the next round to the thread that calls [`Rounds::take_over`], which `request` asks
    /// for. `request` says whether they will; if not, there is nothing to be done any more.
    pub fn hand_over(&self, request: impl FnOnce() -> bool) {
        self.handed_over.replace(true);
        if !request() && self.handed_over.replace(false) {
            self.stage.replace(IDLE);
        }
    }

    /// Whether there is a round that was left to the caller.
    pub fn take_over(&self) -> bool {
        self.handed_over.replace(false)
    }
}

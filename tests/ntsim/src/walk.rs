//! Calls of a driver, from the innermost outwards.

use crate::image::Image;
use crate::mem::Va;
use crate::unwind::{CALL, Registers, leave};

/// Where a walk starts: on ARM64 pc, sp and x29.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub rip: Va,
    pub rsp: Va,
    pub rbp: Va,
}

#[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
pub(crate) const fn va(value: u64) -> Va {
    value as Va
}

/// Return addresses outwards, as long as they lie in one of `images`; the starting one is first.
/// `fault`: the start is the instruction itself, not the return address of a call.
pub(crate) fn walk(images: &[&Image], start: Place, fault: bool, top: Va) -> Vec<Va> {
    let mut at = Registers::from(start);
    let mut frames = Vec::new();
    while frames.len() < 32
        && let Some(image) = images.iter().find(|i| i.contains(at.rip()))
    {
        // A return address may lie just behind its function, if the call does not return.
        let inside = if fault && frames.is_empty() {
            at.rip()
        } else {
            at.rip() - CALL
        };
        frames.push(at.rip());
        if leave(image, inside, &mut at, top).is_none() {
            break;
        }
        at.pop();
    }
    frames
}

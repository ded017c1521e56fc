//! Call stacks inside a driver's image, from its exception directory (`.pdata`).
//!
//! Format: Microsoft's "x64 exception handling" page. A `RUNTIME_FUNCTION` is begin, end and unwind
//! information, each an RVA; the unwind codes tell what the prologue did to the stack.

use crate::image::Image;
use crate::mem::{Va, peek};

const PUSH_NONVOL: u8 = 0;
const ALLOC_LARGE: u8 = 1;
const ALLOC_SMALL: u8 = 2;
const SET_FPREG: u8 = 3;
const SAVE_NONVOL: u8 = 4;
const SAVE_NONVOL_FAR: u8 = 5;
const SAVE_XMM128: u8 = 8;
const SAVE_XMM128_FAR: u8 = 9;
const CHAINED: u8 = 4;

/// Number of rbp in unwind codes; it is the frame pointer of functions that have one.
const RBP: usize = 5;

/// Where a walk starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub rip: Va,
    pub rsp: Va,
    pub rbp: Va,
}

/// Return addresses outwards, as long as they lie in one of `images`; the starting one is first.
/// `fault`: the start is the instruction itself, not the return address of a call.
pub(crate) fn walk(images: &[&Image], start: Place, fault: bool, top: Va) -> Vec<Va> {
    let mut at = start;
    let mut frames = Vec::new();
    while frames.len() < 32
        && let Some(image) = images.iter().find(|i| i.contains(at.rip))
    {
        // A return address may lie just behind its function, if the call does not return.
        let inside = if fault && frames.is_empty() {
            at.rip
        } else {
            at.rip - 1
        };
        frames.push(at.rip);
        let floor = at.rsp;
        if leave(image, inside, &mut at, top).is_none() || at.rsp < floor || at.rsp + 8 > top {
            break;
        }
        at.rip = peek(at.rsp);
        at.rsp += 8;
    }
    frames
}

/// Undoes the prologue of the function around `rip`.
fn leave(image: &Image, rip: Va, at: &mut Place, top: Va) -> Option<()> {
    let offset = u32::try_from(rip - image.base).ok()?;
    let Some(mut entry) = find(image, offset) else {
        // A leaf function: nothing on the stack.
        return Some(());
    };
    let mut reached = offset - entry.0;
    let on_stack = |va: Va| va.is_multiple_of(8) && va + 8 <= top;
    loop {
        let info = image.base + entry.1 as usize;
        let flags = peek::<u8>(info) >> 3;
        let count = usize::from(peek::<u8>(info + 2));
        let frame_register = peek::<u8>(info + 3);
        let base = at.rsp;
        let mut i = 0;
        while i < count {
            let code = info + 4 + 2 * i;
            let done = u32::from(peek::<u8>(code)) <= reached;
            let op = peek::<u8>(code + 1);
            let extra = usize::from(op >> 4);
            let slots = match op & 0xF {
                PUSH_NONVOL | ALLOC_SMALL | SET_FPREG => 1,
                ALLOC_LARGE if extra == 0 => 2,
                SAVE_NONVOL | SAVE_XMM128 => 2,
                ALLOC_LARGE | SAVE_NONVOL_FAR | SAVE_XMM128_FAR => 3,
                _ => return None,
            };
            if done {
                match op & 0xF {
                    PUSH_NONVOL => {
                        if !on_stack(at.rsp) {
                            return None;
                        }
                        if extra == RBP {
                            at.rbp = peek(at.rsp);
                        }
                        at.rsp += 8;
                    }
                    ALLOC_SMALL => at.rsp += 8 * extra + 8,
                    ALLOC_LARGE if extra == 0 => {
                        at.rsp += 8 * usize::from(peek::<u16>(code + 2));
                    }
                    ALLOC_LARGE => at.rsp += peek::<u32>(code + 2) as usize,
                    SET_FPREG => {
                        if usize::from(frame_register & 0xF) != RBP {
                            return None;
                        }
                        at.rsp = at.rbp.checked_sub(16 * usize::from(frame_register >> 4))?;
                    }
                    SAVE_NONVOL if extra == RBP => {
                        let place = base + 8 * usize::from(peek::<u16>(code + 2));
                        if !on_stack(place) {
                            return None;
                        }
                        at.rbp = peek(place);
                    }
                    _ => {}
                }
            }
            i += slots;
        }
        if flags & CHAINED == 0 {
            return Some(());
        }
        // The parent's RUNTIME_FUNCTION follows the codes; its prologue is complete.
        let parent = info + 4 + 2 * (count + count % 2);
        entry = (peek(parent), peek(parent + 8));
        reached = u32::MAX;
    }
}

/// Begin and unwind information of the function that holds an RVA.
fn find(image: &Image, offset: u32) -> Option<(u32, u32)> {
    let (table, len) = image.pdata;
    let (mut low, mut high) = (0, len / 12);
    while low < high {
        let middle = usize::midpoint(low, high);
        let at = image.base + table + 12 * middle;
        let (begin, end): (u32, u32) = (peek(at), peek(at + 4));
        if offset < begin {
            high = middle;
        } else if offset >= end {
            low = middle + 1;
        } else {
            return Some((begin, peek(at + 8)));
        }
    }
    None
}

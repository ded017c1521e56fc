//! Frames inside a driver's image, from its exception directory (`.pdata`).
//!
//! Format: Microsoft's "ARM64 exception handling" page. A `RUNTIME_FUNCTION` is the begin as an RVA,
//! and either packed unwind data or the RVA of a record in `.xdata`, whose codes tell what the
//! prologue did, last step first. Epilogues are not looked at: no call and no fault is in one.

use crate::image::Image;
use crate::mem::{Va, peek};
use crate::walk::{Place, va};

/// The function's handler wants exceptions.
pub(crate) const EHANDLER: u8 = 1;

const FP: usize = 29;
const LR: usize = 30;

/// So many bytes before a return address, which may lie just behind its function, is the call.
pub(crate) const CALL: Va = 4;

/// What a frame has in its registers. Assembly of `cpu` knows the layout.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct Registers {
    pub x: [u64; 31],
    pub sp: u64,
    pub pc: u64,
    pub pstate: u64,
    pub v: [u128; 32],
}

impl Registers {
    pub(crate) fn rip(&self) -> Va {
        va(self.pc)
    }

    /// Goes to the return address.
    pub(crate) fn pop(&mut self) {
        self.pc = self.x[LR];
    }
}

impl From<Place> for Registers {
    /// Registers that a walk does not need are not known.
    fn from(place: Place) -> Self {
        let mut registers = Self {
            pc: place.rip as u64,
            sp: place.rsp as u64,
            ..Self::default()
        };
        registers.x[FP] = place.rbp as u64;
        registers
    }
}

/// The function around an instruction, as exception handling wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Function {
    /// [`EHANDLER`]; 0 in the prologue, where no handler is called.
    pub flags: u8,
    /// Its language handler, and that handler's data.
    pub handler: Va,
    pub data: Va,
}

/// Undoes the prologue of the function around `pc`: the return address is in x30 then. `None`, if
/// the stack does not hold what the unwind information says.
pub(crate) fn leave(image: &Image, pc: Va, at: &mut Registers, top: Va) -> Option<Function> {
    let floor = at.sp;
    let offset = u32::try_from(pc - image.base).ok()?;
    let Some((begin, data)) = find(image, offset) else {
        // A leaf function: nothing on the stack.
        return Some(Function::default());
    };
    let function = if is_packed(data) {
        undo_packed(data, at, top)?
    } else {
        undo_record(image, data, offset - begin, at, top)?
    };
    (at.sp >= floor && va(at.sp) <= top).then_some(function)
}

/// Whether unwind data is packed, and not the place of a record, whose lowest two bits are 0.
const fn is_packed(data: u32) -> bool {
    !data.is_multiple_of(4)
}

/// The registers on the stack that are put back.
struct Stack<'r> {
    at: &'r mut Registers,
    top: Va,
}

impl Stack<'_> {
    fn word(&self, offset: usize) -> Option<u64> {
        let va = va(self.at.sp).checked_add(offset)?;
        (va.is_multiple_of(8) && va + 8 <= self.top).then(|| peek(va))
    }

    fn general(&mut self, register: usize, offset: usize) -> Option<()> {
        let value = self.word(offset)?;
        *self.at.x.get_mut(register)? = value;
        Some(())
    }

    /// The lower half, which is what a function preserves.
    fn floating(&mut self, register: usize, offset: usize) -> Option<()> {
        let value = self.word(offset)?;
        let slot = self.at.v.get_mut(register)?;
        *slot = *slot >> 64 << 64 | u128::from(value);
        Some(())
    }

    fn free(&mut self, bytes: usize) {
        self.at.sp += bytes as u64;
    }
}

/// A record in `.xdata`.
fn undo_record(
    image: &Image,
    record: u32,
    reached: u32,
    at: &mut Registers,
    top: Va,
) -> Option<Function> {
    let record = image.base + record as usize;
    let header: u32 = peek(record);
    let (mut epilogues, mut words) = (header >> 22 & 0x1F, header >> 27);
    let mut codes = record + 4;
    if epilogues == 0 && words == 0 {
        let more: u32 = peek(codes);
        (epilogues, words) = (more & 0xFFFF, more >> 16 & 0xFF);
        codes += 4;
    }
    let single_epilogue = header >> 21 & 1 != 0;
    if !single_epilogue {
        codes += 4 * epilogues as usize;
    }
    let behind = codes + 4 * words as usize;
    // How many steps the prologue has, and how many of them are done.
    let mut steps = 0;
    let mut code = codes;
    while !matches!(peek::<u8>(code), 0xE4 | 0xE5) {
        steps += 1;
        code += length(peek(code));
    }
    let done = (reached / 4).min(steps);
    let mut code = codes;
    for _ in done..steps {
        code += length(peek(code));
    }
    undo_codes(code, &mut Stack { at, top })?;
    let mut function = Function::default();
    if header >> 20 & 1 != 0 && done == steps {
        function.flags = EHANDLER;
        function.handler = image.base + peek::<u32>(behind) as usize;
        function.data = behind + 4;
    }
    Some(function)
}

/// Bytes of an unwind code.
const fn length(first: u8) -> usize {
    match first {
        0..=0xBF | 0xE1 | 0xE3..=0xFF => 1,
        0xC0..=0xDF | 0xE2 => 2,
        0xE0 => 4,
    }
}

/// Carries out codes up to their end.
fn undo_codes(mut code: Va, stack: &mut Stack<'_>) -> Option<()> {
    // Pairs that were saved behind the one that comes next in the codes.
    let mut behind = 0;
    loop {
        let first: u8 = peek(code);
        // The code's bytes as a number, as the page writes them.
        let wide = usize::from(first) << 8 | usize::from(peek::<u8>(code + 1));
        let (near, z5, z6) = (usize::from(first), wide & 0x1F, wide & 0x3F);
        code += length(first);
        match first {
            0x00..=0x1F => stack.free(16 * (near & 0x1F)),
            0x20..=0x3F => {
                pairs(stack, 19, 0, &mut behind)?;
                stack.free(8 * (near & 0x1F));
            }
            0x40..=0x7F => {
                stack.general(FP, 8 * (near & 0x3F))?;
                stack.general(LR, 8 * (near & 0x3F) + 8)?;
            }
            0x80..=0xBF => {
                stack.general(FP, 0)?;
                stack.general(LR, 8)?;
                stack.free(8 * (near & 0x3F) + 8);
            }
            0xC0..=0xC7 => stack.free(16 * (wide & 0x7FF)),
            0xC8..=0xCB => pairs(stack, 19 + (wide >> 6 & 0xF), 8 * z6, &mut behind)?,
            0xCC..=0xCF => {
                pairs(stack, 19 + (wide >> 6 & 0xF), 0, &mut behind)?;
                stack.free(8 * z6 + 8);
            }
            0xD0..=0xD3 => stack.general(19 + (wide >> 6 & 0xF), 8 * z6)?,
            0xD4 | 0xD5 => {
                stack.general(19 + (wide >> 5 & 0xF), 0)?;
                stack.free(8 * z5 + 8);
            }
            0xD6 | 0xD7 => {
                stack.general(19 + 2 * (wide >> 6 & 7), 8 * z6)?;
                stack.general(LR, 8 * z6 + 8)?;
            }
            0xD8..=0xDB => {
                let register = 8 + (wide >> 6 & 7);
                let (offset, after) = if first < 0xDA {
                    (8 * z6, 0)
                } else {
                    (0, 8 * z6 + 8)
                };
                stack.floating(register, offset)?;
                stack.floating(register + 1, offset + 8)?;
                stack.free(after);
            }
            0xDC | 0xDD => stack.floating(8 + (wide >> 6 & 7), 8 * z6)?,
            0xDE => {
                stack.floating(8 + (wide >> 5 & 7), 0)?;
                stack.free(8 * z5 + 8);
            }
            0xE0 => {
                let bytes = [1, 2, 3].map(|i| usize::from(peek::<u8>(code - 4 + i)));
                stack.free(16 * (bytes[0] << 16 | bytes[1] << 8 | bytes[2]));
            }
            0xE1 => stack.at.sp = stack.at.x[FP],
            0xE2 => stack.at.sp = stack.at.x[FP].checked_sub(8 * (wide as u64 & 0xFF))?,
            0xE3 => {}
            0xE4 | 0xE5 => return Some(()),
            0xE6 => behind += 1,
            // Vectors of any length, signed return addresses, frames of interrupts: not in drivers
            // that are made here.
            _ => return None,
        }
    }
}

/// A pair of general registers, and those that were saved behind it.
fn pairs(stack: &mut Stack<'_>, register: usize, offset: usize, behind: &mut usize) -> Option<()> {
    for i in 0..=core::mem::take(behind) {
        stack.general(register + 2 * i, offset + 16 * i)?;
        stack.general(register + 2 * i + 1, offset + 16 * i + 8)?;
    }
    Some(())
}

/// Packed unwind data: the prologue is of the usual form, and complete.
fn undo_packed(data: u32, at: &mut Registers, top: Va) -> Option<Function> {
    let field = |from: u32, bits: u32| (data >> from & ((1 << bits) - 1)) as usize;
    let (floats, integers, homes) = (field(13, 3), field(16, 4), field(20, 1));
    let (chain, size) = (field(21, 2), 16 * field(23, 9));
    let floats = if floats == 0 { 0 } else { floats + 1 };
    let words = integers + usize::from(chain == 1) + floats + 8 * homes;
    let saved = (8 * words).next_multiple_of(16);
    let locals = size.checked_sub(saved)?;
    let mut stack = Stack { at, top };
    if chain >= 2 {
        stack.at.sp = stack.at.x[FP];
        stack.general(FP, 0)?;
        stack.general(LR, 8)?;
    }
    stack.free(locals);
    for i in 0..integers {
        stack.general(19 + i, 8 * i)?;
    }
    let mut offset = 8 * integers;
    if chain == 1 {
        stack.general(LR, offset)?;
        offset += 8;
    }
    for i in 0..floats {
        stack.floating(8 + i, offset + 8 * i)?;
    }
    stack.free(saved);
    Some(Function::default())
}

/// Begin and unwind data of the function that holds an RVA.
fn find(image: &Image, offset: u32) -> Option<(u32, u32)> {
    let at = image.search_pdata(8, offset, |at| {
        let (begin, data): (u32, u32) = (peek(at), peek(at + 4));
        let instructions = if is_packed(data) {
            data >> 2 & 0x7FF
        } else {
            peek::<u32>(image.base + data as usize) & 0x3_FFFF
        };
        begin..begin + 4 * instructions
    })?;
    Some((peek(at), peek(at + 4)))
}

//! Frames inside a driver's image, from its exception directory (`.pdata`).
//!
//! Format: Microsoft's "x64 exception handling" page. A `RUNTIME_FUNCTION` is begin, end and unwind
//! information, each an RVA; the unwind codes tell what the prologue did to the stack, and the
//! flags whether the function has a handler for exceptions.

use crate::image::Image;
use crate::mem::{Va, peek};
use crate::walk::{Place, va};

// Unwind codes, and the flag of a function with a chained part.
numbers! { u8:
    PUSH_NONVOL => 0,
    ALLOC_LARGE => 1,
    ALLOC_SMALL => 2,
    SET_FPREG => 3,
    SAVE_NONVOL => 4,
    SAVE_NONVOL_FAR => 5,
    SAVE_XMM128 => 8,
    SAVE_XMM128_FAR => 9,
    CHAINED => 4,
}

/// `UNW_FLAG_EHANDLER`: the function's handler wants exceptions.
pub(crate) const EHANDLER: u8 = 1;
/// `UNW_FLAG_UHANDLER`: it wants to know when the frame is left by an exception.
pub(crate) const UHANDLER: u8 = 2;

/// Numbers of registers in unwind codes.
pub(crate) const RSP: usize = 4;
pub(crate) const RBP: usize = 5;

/// So many bytes before a return address, which may lie just behind its function, is the call.
pub(crate) const CALL: Va = 1;

/// What a frame has in its registers, general ones by their number in unwind codes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Registers {
    pub general: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub xmm: [u128; 16],
}

impl Registers {
    pub(crate) fn rip(&self) -> Va {
        va(self.rip)
    }

    pub(crate) fn rsp(&self) -> Va {
        va(self.general[RSP])
    }

    /// Pops the return address.
    pub(crate) fn pop(&mut self) {
        self.rip = peek(self.rsp());
        self.general[RSP] += 8;
    }
}

impl From<Place> for Registers {
    /// Registers that a walk does not need are not known.
    fn from(place: Place) -> Self {
        let mut registers = Self {
            rip: place.rip as u64,
            ..Self::default()
        };
        registers.general[RSP] = place.rsp as u64;
        registers.general[RBP] = place.rbp as u64;
        registers
    }
}

/// The function around an instruction, as exception handling wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Function {
    /// Its `RUNTIME_FUNCTION`; 0 for a leaf function, which has none.
    pub entry: Va,
    /// The stack pointer of its body, by which the frame is known.
    pub establisher: Va,
    /// [`EHANDLER`] and [`UHANDLER`]; 0 in the prologue, where no handler is called.
    pub flags: u8,
    /// Its language handler, and that handler's data.
    pub handler: Va,
    pub data: Va,
}

/// Undoes the prologue of the function around `rip`: the return address is on top of the stack
/// then. `None`, if the stack does not hold what the unwind information says.
pub(crate) fn leave(image: &Image, rip: Va, at: &mut Registers, top: Va) -> Option<Function> {
    let floor = at.rsp();
    let function = undo(image, rip, at, top)?;
    (at.rsp() >= floor && at.rsp() + 8 <= top).then_some(function)
}

fn undo(image: &Image, rip: Va, at: &mut Registers, top: Va) -> Option<Function> {
    let offset = u32::try_from(rip - image.base).ok()?;
    let mut function = Function {
        establisher: at.rsp(),
        ..Function::default()
    };
    let Some(mut entry) = find(image, offset) else {
        // A leaf function: nothing on the stack.
        return Some(function);
    };
    function.entry = entry;
    let mut reached = offset - peek::<u32>(entry);
    let mut in_prologue = false;
    loop {
        let info = image.base + peek::<u32>(entry + 8) as usize;
        let flags = peek::<u8>(info) >> 3;
        let prologue = u32::from(peek::<u8>(info + 1));
        let count = usize::from(peek::<u8>(info + 2));
        let frame_register = peek::<u8>(info + 3);
        let (register, distance) = (
            usize::from(frame_register & 0xF),
            16 * usize::from(frame_register >> 4),
        );
        let prologue_done = reached >= prologue;
        let base = if register != 0 && prologue_done {
            va(at.general[register]).checked_sub(distance)?
        } else {
            at.rsp()
        };
        if entry == function.entry {
            in_prologue = !prologue_done;
            function.establisher = base;
        }
        undo_codes(info, count, reached, base, at, top)?;
        // Behind the codes, whose number is even: the handler or the parent.
        let behind = info + 4 + 2 * (count + count % 2);
        if flags & CHAINED == 0 {
            if flags & (EHANDLER | UHANDLER) != 0 && !in_prologue {
                function.flags = flags;
                function.handler = image.base + peek::<u32>(behind) as usize;
                function.data = behind + 4;
            }
            return Some(function);
        }
        // A RUNTIME_FUNCTION, whose prologue is complete.
        entry = behind;
        reached = u32::MAX;
    }
}

/// Undoes what the first `reached` bytes of a function did.
fn undo_codes(
    info: Va,
    count: usize,
    reached: u32,
    base: Va,
    at: &mut Registers,
    top: Va,
) -> Option<()> {
    let frame_register = peek::<u8>(info + 3);
    let saved = |va: Va| (va.is_multiple_of(8) && va + 8 <= top).then(|| peek::<u64>(va));
    let mut i = 0;
    while i < count {
        let code = info + 4 + 2 * i;
        let done = u32::from(peek::<u8>(code)) <= reached;
        let op = peek::<u8>(code + 1);
        let extra = usize::from(op >> 4);
        let near = || usize::from(peek::<u16>(code + 2));
        let far = || peek::<u32>(code + 2) as usize;
        let slots = match op & 0xF {
            PUSH_NONVOL | ALLOC_SMALL | SET_FPREG => 1,
            ALLOC_LARGE if extra == 0 => 2,
            SAVE_NONVOL | SAVE_XMM128 => 2,
            ALLOC_LARGE | SAVE_NONVOL_FAR | SAVE_XMM128_FAR => 3,
            _ => return None,
        };
        if done {
            let mut move_stack = |by: usize| at.general[RSP] += by as u64;
            match op & 0xF {
                PUSH_NONVOL => {
                    let value = saved(at.rsp())?;
                    at.general[RSP] += 8;
                    at.general[extra] = value;
                }
                ALLOC_SMALL => move_stack(8 * extra + 8),
                ALLOC_LARGE if extra == 0 => move_stack(8 * near()),
                ALLOC_LARGE => move_stack(far()),
                SET_FPREG => {
                    let frame = at.general[usize::from(frame_register & 0xF)];
                    at.general[RSP] = frame.checked_sub(16 * u64::from(frame_register >> 4))?;
                }
                SAVE_NONVOL => at.general[extra] = saved(base + 8 * near())?,
                SAVE_NONVOL_FAR => at.general[extra] = saved(base + far())?,
                SAVE_XMM128 | SAVE_XMM128_FAR => {
                    let place = base + if slots == 2 { 16 * near() } else { far() };
                    let (low, high) = (saved(place)?, saved(place + 8)?);
                    at.xmm[extra] = u128::from(high) << 64 | u128::from(low);
                }
                _ => {}
            }
        }
        i += slots;
    }
    Some(())
}

/// The `RUNTIME_FUNCTION` of the function that holds an RVA.
fn find(image: &Image, offset: u32) -> Option<Va> {
    image.search_pdata(12, offset, |at| peek(at)..peek(at + 4))
}

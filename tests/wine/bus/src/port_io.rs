//! Instructions that a program may not execute: `in` and `out` in all their forms, and moves from
//! and to CR8. Each one raises an exception, is done here, and the program goes on behind it.

use core::ptr;

use parscan_models::Width;
use windows_sys::Win32::{
    Foundation::EXCEPTION_PRIV_INSTRUCTION,
    System::Diagnostics::Debug::{
        AddVectoredExceptionHandler, CONTEXT, EXCEPTION_CONTINUE_EXECUTION,
        EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS,
    },
};

use crate::{irql, port, report::say};

/// Whether it could.
pub(crate) fn start() -> bool {
    // SAFETY: the handler has this type, and this image stays.
    !unsafe { AddVectoredExceptionHandler(1, Some(handle)) }.is_null()
}

unsafe extern "system" fn handle(exception: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system's structures.
    let (record, context) = unsafe {
        (
            &*(*exception).ExceptionRecord,
            &mut *(*exception).ContextRecord,
        )
    };
    if record.ExceptionCode != EXCEPTION_PRIV_INSTRUCTION {
        return EXCEPTION_CONTINUE_SEARCH;
    }
    let mut bytes = [0; LONGEST];
    let code = ptr::with_exposed_provenance::<u8>(usize::try_from(context.Rip).unwrap_or(0));
    // SAFETY: the instruction was executed here. What is behind it is in the same section, which is
    // no shorter than a page.
    unsafe { ptr::copy_nonoverlapping(code, bytes.as_mut_ptr(), LONGEST) };
    let Some((instruction, length)) = Instruction::decode(&bytes) else {
        say!("privileged instruction at {code:p} that is not provided: {bytes:02x?}");
        return EXCEPTION_CONTINUE_SEARCH;
    };
    instruction.execute(context);
    context.Rip += length;
    EXCEPTION_CONTINUE_EXECUTION
}

/// No longer than this with all their prefixes.
const LONGEST: usize = 8;

enum Instruction {
    /// `in al, dx` …; `None`: the port is in DX.
    In(Width, Option<u8>),
    Out(Width, Option<u8>),
    /// `rep insb` …
    InString(Width, bool),
    OutString(Width, bool),
    /// `mov r, cr8`
    ReadIrql(u8),
    /// `mov cr8, r`
    WriteIrql(u8),
}

impl Instruction {
    /// The instruction and its length [Intel SDM 2: IN, OUT, INS, OUTS, MOV control registers].
    fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let (mut wide, mut repeats, mut rex) = (Width::Dword, false, 0);
        let mut rest = bytes.iter().copied();
        let opcode = loop {
            match rest.next()? {
                0x66 => wide = Width::Word,
                0xF3 => repeats = true,
                prefix @ 0x40..=0x4F => rex = prefix,
                opcode => break opcode,
            }
        };
        let width = if opcode & 1 == 0 { Width::Byte } else { wide };
        let instruction = match opcode {
            0xE4 | 0xE5 => Self::In(width, Some(rest.next()?)),
            0xE6 | 0xE7 => Self::Out(width, Some(rest.next()?)),
            0xEC | 0xED => Self::In(width, None),
            0xEE | 0xEF => Self::Out(width, None),
            0x6C | 0x6D => Self::InString(width, repeats),
            0x6E | 0x6F => Self::OutString(width, repeats),
            0x0F => {
                let (second, operands) = (rest.next()?, rest.next()?);
                let control = operands >> 3 & 7 | (rex & 4) << 1;
                let general = operands & 7 | (rex & 1) << 3;
                match (second, control) {
                    (0x20, 8) => Self::ReadIrql(general),
                    (0x22, 8) => Self::WriteIrql(general),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let length = bytes.len() - rest.len();
        Some((instruction, u64::try_from(length).ok()?))
    }

    fn execute(self, context: &mut CONTEXT) {
        let dx = low16(context.Rdx);
        match self {
            Self::In(width, immediate) => {
                let value = port::access(immediate.map_or(dx, u16::from), width, None);
                context.Rax = match width {
                    // As every 32-bit result, it clears the upper half.
                    Width::Dword => value.into(),
                    _ => context.Rax & !u64::from(width.floating()) | u64::from(value),
                };
            }
            Self::Out(width, immediate) => {
                let value = low32(context.Rax) & width.floating();
                port::access(immediate.map_or(dx, u16::from), width, Some(value));
            }
            Self::InString(width, repeats) => string(context, width, repeats, |context, step| {
                let bytes = port::access(dx, width, None).to_le_bytes();
                let to = ptr::with_exposed_provenance_mut(address(context.Rdi));
                // SAFETY: the program's own memory, as it named it.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, usize::from(width.bytes())) };
                context.Rdi = context.Rdi.wrapping_add_signed(step);
            }),
            Self::OutString(width, repeats) => string(context, width, repeats, |context, step| {
                let mut bytes = [0; 4];
                let from = ptr::with_exposed_provenance(address(context.Rsi));
                // SAFETY: the program's own memory, as it named it.
                unsafe {
                    ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), usize::from(width.bytes()));
                };
                port::access(dx, width, Some(u32::from_le_bytes(bytes)));
                context.Rsi = context.Rsi.wrapping_add_signed(step);
            }),
            Self::ReadIrql(to) => {
                if let Some(to) = register(context, to) {
                    *to = irql::current().into();
                }
            }
            Self::WriteIrql(from) => {
                if let Some(from) = register(context, from) {
                    irql::set(from.to_le_bytes()[0]);
                }
            }
        }
    }
}

/// A string instruction: once, or as often as RCX says.
fn string(
    context: &mut CONTEXT,
    width: Width,
    repeats: bool,
    mut one: impl FnMut(&mut CONTEXT, i64),
) {
    /// EFLAGS: the direction flag
    const DOWN: u32 = 0x400;
    let step = i64::from(width.bytes());
    let step = if context.EFlags & DOWN == 0 {
        step
    } else {
        -step
    };
    let count = if repeats { context.Rcx } else { 1 };
    for _ in 0..count {
        one(context, step);
    }
    if repeats {
        context.Rcx = 0;
    }
}

/// A general register by its number.
fn register(context: &mut CONTEXT, number: u8) -> Option<&mut u64> {
    Some(match number {
        0 => &mut context.Rax,
        1 => &mut context.Rcx,
        2 => &mut context.Rdx,
        3 => &mut context.Rbx,
        4 => &mut context.Rsp,
        5 => &mut context.Rbp,
        6 => &mut context.Rsi,
        7 => &mut context.Rdi,
        8 => &mut context.R8,
        9 => &mut context.R9,
        10 => &mut context.R10,
        11 => &mut context.R11,
        12 => &mut context.R12,
        13 => &mut context.R13,
        14 => &mut context.R14,
        15 => &mut context.R15,
        _ => return None,
    })
}

fn low16(register: u64) -> u16 {
    let bytes = register.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn low32(register: u64) -> u32 {
    let bytes = register.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn address(register: u64) -> usize {
    usize::try_from(register).unwrap_or(0)
}

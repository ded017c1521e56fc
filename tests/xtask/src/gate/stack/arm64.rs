//! The same of ARM64: frames by Microsoft's "ARM64 exception handling" page, calls by the
//! instructions that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use object::{LittleEndian as LE, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, read::pe::PeFile64};

use super::{Function, POINTER, executable, word};

/// Bytes of a `RUNTIME_FUNCTION`.
const ENTRY: usize = 8;
/// Registers that a call may change: x0 to x18.
const VOLATILE: usize = 19;
const FP: usize = 29;
const SP: usize = 31;

/// The functions of `.pdata`, and those between them, which have no frame: each begins where the
/// linker's map has a name.
pub(super) fn functions(
    file: &PeFile64<'_>,
    image: &[u8],
    names: &BTreeMap<u32, String>,
) -> Option<BTreeMap<u32, Function>> {
    let pdata = file.data_directory(IMAGE_DIRECTORY_ENTRY_EXCEPTION)?;
    let start = pdata.virtual_address.get(LE) as usize;
    let entries = image.get(start..start + pdata.size.get(LE) as usize)?;
    let mut found = BTreeMap::new();
    for entry in entries.chunks_exact(ENTRY) {
        let (begin, data) = (word(entry, 0)?, word(entry, 4)?);
        let (length, frame) = if data.is_multiple_of(4) {
            record(image, data)?
        } else {
            // Packed: the length in instructions, the frame in units of 16 bytes.
            (4 * (data >> 2 & 0x7FF), 16 * (data >> 23))
        };
        let function = Function {
            end: begin + length,
            frame,
            ..Function::default()
        };
        found.insert(begin, function);
    }
    for section in file.section_table().iter().filter(|it| executable(it)) {
        let start = section.virtual_address.get(LE);
        let end = start + section.virtual_size.get(LE);
        let framed: Vec<(u32, u32)> = found
            .range(start..end)
            .map(|(at, it)| (*at, it.end))
            .chain([(end, end)])
            .collect();
        let mut gap = start;
        for (at, behind) in framed {
            let mut leaf_end = at;
            for (leaf, _) in names.range(gap..at.max(gap)).rev() {
                let function = Function {
                    end: leaf_end,
                    ..Function::default()
                };
                found.insert(*leaf, function);
                leaf_end = *leaf;
            }
            gap = behind;
        }
    }
    Some(found)
}

/// Bytes of a function and of its frame, by its record in `.xdata`.
fn record(image: &[u8], at: u32) -> Option<(u32, u32)> {
    let header = word(image, at)?;
    let (mut epilogues, mut words) = (header >> 22 & 0x1F, header >> 27);
    let mut codes = at + 4;
    if epilogues == 0 && words == 0 {
        let more = word(image, codes)?;
        (epilogues, words) = (more & 0xFFFF, more >> 16 & 0xFF);
        codes += 4;
    }
    if header >> 21 & 1 == 0 {
        codes += 4 * epilogues;
    }
    let codes = image.get(codes as usize..(codes + 4 * words) as usize)?;
    Some((4 * (header & 0x3_FFFF), frame(codes)?))
}

/// What a prologue takes of the stack, by its unwind codes.
fn frame(codes: &[u8]) -> Option<u32> {
    let mut bytes = 0;
    let mut at = 0;
    loop {
        let first = *codes.get(at)?;
        let code = |index: usize| codes.get(at + index).copied().map(u32::from);
        let near = u32::from(first);
        at += match first {
            // alloc_s, save_r19r20_x
            0x00..=0x1F => {
                bytes += 16 * near;
                1
            }
            0x20..=0x3F => {
                bytes += 8 * (near & 0x1F);
                1
            }
            // save_fplr, save_fplr_x
            0x40..=0x7F => 1,
            0x80..=0xBF => {
                bytes += 8 * (near & 0x3F) + 8;
                1
            }
            // alloc_m
            0xC0..=0xC7 => {
                bytes += 16 * ((near & 7) << 8 | code(1)?);
                2
            }
            // save_regp_x, save_fregp_x
            0xCC..=0xCF | 0xDA | 0xDB => {
                bytes += 8 * (code(1)? & 0x3F) + 8;
                2
            }
            // save_reg_x, save_freg_x
            0xD4 | 0xD5 | 0xDE => {
                bytes += 8 * (code(1)? & 0x1F) + 8;
                2
            }
            // alloc_l
            0xE0 => {
                bytes += 16 * (code(1)? << 16 | code(2)? << 8 | code(3)?);
                4
            }
            // end, end_c
            0xE4 | 0xE5 => return Some(bytes),
            // Other saves, add_fp
            0xC8..=0xDD | 0xE2 => 2,
            // set_fp, nop, save_next
            0xE1 | 0xE3 | 0xE6 => 1,
            _ => return None,
        };
    }
}

/// Where a register's value is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    /// An address in the image.
    Address(u32),
    /// Loaded, from this distance to a pointer.
    Loaded(u64),
    /// Loaded from the frame.
    Frame,
    /// A function of another module.
    Import,
}

/// Bits of an instruction as a signed number.
const fn signed(instruction: u32, from: u32, bits: u32) -> i32 {
    (instruction << (32 - from - bits)).cast_signed() >> (32 - bits)
}

/// Notes what the function at `start` calls, and gives the functions whose address it takes.
pub(super) fn read_code(
    functions: &mut BTreeMap<u32, Function>,
    image: &[u8],
    start: u32,
    imports: &core::ops::Range<u32>,
) -> Option<BTreeSet<u32>> {
    let end = functions.get(&start)?.end;
    let mut taken = BTreeSet::new();
    let mut function = Function::default();
    let mut registers = [Value::Unknown; 32];
    for pc in (start..end).step_by(4) {
        let code = word(image, pc)?;
        let register = |from: u32| (code >> from & 31) as usize;
        let branch = |offset: i32| pc.wrapping_add_signed(4 * offset);
        let mut set = |registers: &mut [Value; 32], number: usize, value: Value| {
            // 31 is no register here, or the stack pointer.
            if number < SP
                && let Some(slot) = registers.get_mut(number)
            {
                *slot = value;
            }
            if let Value::Address(target) = value
                && functions.contains_key(&target)
            {
                taken.insert(target);
            }
        };
        let load = |base: usize, offset: u64| match registers[base] {
            _ if base == SP || base == FP => Value::Frame,
            Value::Address(at) if imports.contains(&at.wrapping_add(offset as u32)) => {
                Value::Import
            }
            _ => Value::Loaded(offset),
        };
        if code & 0xFC00_0000 == 0x9400_0000 {
            // bl
            function.callees.insert(branch(signed(code, 0, 26)));
            registers[..VOLATILE].fill(Value::Unknown);
        } else if code & 0xFFFF_FC1F == 0xD63F_0000 || code & 0xFFFF_FC1F == 0xD61F_0000 {
            // blr, br
            let is_call = code & 0x0020_0000 != 0;
            match registers[register(5)] {
                Value::Import => {}
                Value::Frame => function.calls_frame = true,
                Value::Loaded(offset) => drop(function.slots.insert(offset)),
                // A jump to what was computed is a choice inside the function.
                Value::Unknown | Value::Address(_) if is_call => {
                    function.slots.insert(POINTER);
                }
                _ => {}
            }
            if is_call {
                registers[..VOLATILE].fill(Value::Unknown);
            }
        } else if let Some(offset) = match code {
            _ if code & 0xFC00_0000 == 0x1400_0000 => Some(signed(code, 0, 26)),
            // b.cond, cbz, cbnz, tbz, tbnz
            _ if code & 0xFF00_0000 == 0x5400_0000 || code & 0x7E00_0000 == 0x3400_0000 => {
                Some(signed(code, 5, 19))
            }
            _ if code & 0x7E00_0000 == 0x3600_0000 => Some(signed(code, 5, 14)),
            _ => None,
        } {
            let target = branch(offset);
            if !(start..end).contains(&target) {
                function.callees.insert(target);
            }
        } else if code & 0x1F00_0000 == 0x1000_0000 {
            // adr, adrp
            let offset = signed(code, 5, 19) << 2 | (code >> 29 & 3).cast_signed();
            let target = if code >> 31 == 0 {
                pc.wrapping_add_signed(offset)
            } else {
                (pc & !0xFFF).wrapping_add_signed(offset << 12)
            };
            let number = register(0);
            // The address of a page alone is of no function.
            if number < SP {
                registers[number] = Value::Address(target);
            }
            if code >> 31 == 0 {
                set(&mut registers, number, Value::Address(target));
            }
        } else if code & 0xFF80_0000 == 0x9100_0000 {
            // add of an immediate
            let shift = if code & 0x40_0000 == 0 { 0 } else { 12 };
            let value = match registers[register(5)] {
                Value::Address(at) if register(5) != SP => {
                    Value::Address(at + ((code >> 10 & 0xFFF) << shift))
                }
                _ => Value::Unknown,
            };
            set(&mut registers, register(0), value);
        } else if code & 0xFFE0_FFE0 == 0xAA00_03E0 {
            // mov
            let value = registers[register(16)];
            set(&mut registers, register(0), value);
        } else if code & 0xFFC0_0000 == 0xF940_0000 {
            // ldr
            let value = load(register(5), u64::from(8 * (code >> 10 & 0xFFF)));
            if let Value::Loaded(offset) = value {
                function.loaded.insert(offset);
            }
            set(&mut registers, register(0), value);
        } else if code & 0xFE40_0000 == 0xA840_0000 {
            // ldp
            let offset = u64::from((8 * signed(code, 15, 7)).cast_unsigned());
            let values = [load(register(5), offset), load(register(5), offset + 8)];
            for (number, value) in [register(0), register(10)].into_iter().zip(values) {
                if let Value::Loaded(offset) = value {
                    function.loaded.insert(offset);
                }
                set(&mut registers, number, value);
            }
        } else if !is_store(code) {
            set(&mut registers, register(0), Value::Unknown);
        }
    }
    let known = functions.get_mut(&start)?;
    known.callees = function.callees;
    known.slots = function.slots;
    known.loaded = function.loaded;
    known.calls_frame = function.calls_frame;
    Some(taken)
}

/// Whether the lowest bits of an instruction are no result: stores, comparisons are not told apart.
const fn is_store(code: u32) -> bool {
    match code >> 27 & 7 {
        0b101 | 0b001 => code >> 22 & 1 == 0,
        0b111 => code >> 22 & 3 == 0,
        _ => false,
    }
}

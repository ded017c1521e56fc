//! The same of ARM64: frames by Microsoft's "ARM64 exception handling" page, calls by the
//! instructions that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use object::{LittleEndian as LE, read::pe::PeFile64};

use super::{Function, POINTER, exceptions, executable, word};

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
    let entries = exceptions(file, image)?;
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
            // save_fplr_x
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
            // save_fplr, set_fp, nop, save_next
            0x40..=0x7F | 0xE1 | 0xE3 | 0xE6 => 1,
            _ => return None,
        };
    }
}

/// What an instruction does, as far as calls are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `bl`
    Call(u32),
    /// A branch, of any kind.
    Jump(u32),
    /// `blr` or `br`
    Indirect {
        register: usize,
        is_call: bool,
    },
    /// `adr`; `adrp`, whose page is of no function by itself.
    Address {
        register: usize,
        at: u32,
        is_page: bool,
    },
    /// `add` of a number
    Add {
        register: usize,
        from: usize,
        number: u32,
    },
    /// `mov`
    Copy {
        register: usize,
        from: usize,
    },
    /// `ldr`, or one half of `ldp`
    Load {
        register: usize,
        base: usize,
        offset: u32,
    },
    Pair {
        registers: [usize; 2],
        base: usize,
        offset: u32,
    },
    /// Anything else that has a result.
    Result(usize),
    Store,
}

impl Step {
    fn of(pc: u32, code: u32) -> Self {
        let register = |from: u32| (code >> from & 31) as usize;
        let branch = |from, bits| pc.wrapping_add_signed(4 * signed(code, from, bits));
        match code {
            _ if code & 0xFC00_0000 == 0x9400_0000 => Self::Call(branch(0, 26)),
            _ if code & 0xFC00_0000 == 0x1400_0000 => Self::Jump(branch(0, 26)),
            // b.cond; cbz, cbnz
            _ if code & 0xFF00_0000 == 0x5400_0000 || code & 0x7E00_0000 == 0x3400_0000 => {
                Self::Jump(branch(5, 19))
            }
            // tbz, tbnz
            _ if code & 0x7E00_0000 == 0x3600_0000 => Self::Jump(branch(5, 14)),
            _ if code & 0xFFDF_FC1F == 0xD61F_0000 => Self::Indirect {
                register: register(5),
                is_call: code & 0x20_0000 != 0,
            },
            _ if code & 0x1F00_0000 == 0x1000_0000 => {
                let offset = signed(code, 5, 19) << 2 | (code >> 29 & 3).cast_signed();
                let is_page = code >> 31 != 0;
                Self::Address {
                    register: register(0),
                    at: if is_page {
                        (pc & !0xFFF).wrapping_add_signed(offset << 12)
                    } else {
                        pc.wrapping_add_signed(offset)
                    },
                    is_page,
                }
            }
            _ if code & 0xFF80_0000 == 0x9100_0000 => Self::Add {
                register: register(0),
                from: register(5),
                number: (code >> 10 & 0xFFF) << if code & 0x40_0000 == 0 { 0 } else { 12 },
            },
            _ if code & 0xFFE0_FFE0 == 0xAA00_03E0 => Self::Copy {
                register: register(0),
                from: register(16),
            },
            _ if code & 0xFFC0_0000 == 0xF940_0000 => Self::Load {
                register: register(0),
                base: register(5),
                offset: 8 * (code >> 10 & 0xFFF),
            },
            _ if code & 0xFE40_0000 == 0xA840_0000 => Self::Pair {
                registers: [register(0), register(10)],
                base: register(5),
                offset: (8 * signed(code, 15, 7)).cast_unsigned(),
            },
            _ if is_store(code) => Self::Store,
            _ => Self::Result(register(0)),
        }
    }
}

/// Bits of an instruction as a signed number.
const fn signed(instruction: u32, from: u32, bits: u32) -> i32 {
    (instruction << (32 - from - bits)).cast_signed() >> (32 - bits)
}

/// Whether the lowest bits of an instruction are a register that it stores.
const fn is_store(code: u32) -> bool {
    match code >> 27 & 7 {
        0b101 | 0b001 => code >> 22 & 1 == 0,
        0b111 => matches!(code >> 22 & 3, 0),
        _ => false,
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

/// What was read of a function so far.
struct Reader<'a> {
    functions: &'a BTreeMap<u32, Function>,
    imports: &'a core::ops::Range<u32>,
    registers: [Value; 32],
    function: Function,
    taken: BTreeSet<u32>,
}

impl Reader<'_> {
    fn value(&self, register: usize) -> Value {
        self.registers
            .get(register)
            .copied()
            .unwrap_or(Value::Unknown)
    }

    /// 31 is no register, or the stack pointer.
    fn set(&mut self, register: usize, value: Value) {
        if register < SP
            && let Some(slot) = self.registers.get_mut(register)
        {
            *slot = value;
        }
        if let Value::Loaded(offset) = value {
            self.function.loaded.insert(offset);
        }
    }

    fn load(&self, base: usize, offset: u32) -> Value {
        match self.value(base) {
            _ if base == SP || base == FP => Value::Frame,
            Value::Address(at) if self.imports.contains(&at.wrapping_add(offset)) => Value::Import,
            _ => Value::Loaded(offset.into()),
        }
    }

    fn take(&mut self, step: Step, own: &core::ops::Range<u32>) {
        match step {
            Step::Call(target) => {
                self.function.callees.insert(target);
                self.registers[..VOLATILE].fill(Value::Unknown);
            }
            Step::Jump(target) => {
                if !own.contains(&target) {
                    self.function.callees.insert(target);
                }
            }
            Step::Indirect { register, is_call } => {
                match self.value(register) {
                    Value::Frame => self.function.calls_frame = true,
                    Value::Loaded(offset) => drop(self.function.slots.insert(offset)),
                    Value::Unknown | Value::Address(_) if is_call => {
                        self.function.slots.insert(POINTER);
                    }
                    // Another module's; or a jump to what was computed, a choice in the function.
                    _ => {}
                }
                if is_call {
                    self.registers[..VOLATILE].fill(Value::Unknown);
                }
            }
            Step::Address {
                register,
                at,
                is_page,
            } => self.address(register, at, !is_page),
            Step::Add {
                register,
                from,
                number,
            } => match self.value(from) {
                Value::Address(at) if from != SP => {
                    self.address(register, at.wrapping_add(number), true);
                }
                _ => self.set(register, Value::Unknown),
            },
            Step::Copy { register, from } => self.set(register, self.value(from)),
            Step::Load {
                register,
                base,
                offset,
            } => self.set(register, self.load(base, offset)),
            Step::Pair {
                registers: [first, second],
                base,
                offset,
            } => {
                let values = [offset, offset.wrapping_add(8)].map(|at| self.load(base, at));
                self.set(first, values[0]);
                self.set(second, values[1]);
            }
            Step::Result(register) => self.set(register, Value::Unknown),
            Step::Store => {}
        }
    }

    fn address(&mut self, register: usize, at: u32, is_whole: bool) {
        self.set(register, Value::Address(at));
        if is_whole && self.functions.contains_key(&at) {
            self.taken.insert(at);
        }
    }
}

/// Notes what the function at `start` calls, and gives the functions whose address it takes.
pub(super) fn read_code(
    functions: &mut BTreeMap<u32, Function>,
    image: &[u8],
    start: u32,
    imports: &core::ops::Range<u32>,
) -> Option<BTreeSet<u32>> {
    let own = start..functions.get(&start)?.end;
    let mut reader = Reader {
        functions,
        imports,
        registers: [Value::Unknown; 32],
        function: Function::default(),
        taken: BTreeSet::new(),
    };
    for pc in own.clone().step_by(4) {
        reader.take(Step::of(pc, word(image, pc)?), &own);
    }
    let Reader {
        function, taken, ..
    } = reader;
    let known = functions.get_mut(&start)?;
    *known = Function {
        end: known.end,
        frame: known.frame,
        ..function
    };
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_prologues_take() {
        // stp x19, x20, [sp, #-64]!; stp x21, x22; str x23; stp x29, x30; add fp, sp, #40
        assert_eq!(
            frame(&[0xE2, 0x05, 0x45, 0xD1, 0x04, 0xE6, 0x28, 0xE4]),
            Some(64)
        );
        // stp x29, x30, [sp, #-16]!; sub sp, sp, #0x1230 and #0x10
        assert_eq!(
            frame(&[0x01, 0xC1, 0x23, 0xE1, 0x81, 0xE4]),
            Some(0x10 + 0x1230 + 16)
        );
        // sub sp, sp, #0x10000
        assert_eq!(frame(&[0xE0, 0x00, 0x10, 0x00, 0xE4]), Some(0x1_0000));
        // str x19, [sp, #-16]!; stp d8, d9, [sp, #-16]!
        assert_eq!(frame(&[0xDA, 0x01, 0xD4, 0x01, 0xE4]), Some(32));
        assert_eq!(frame(&[0x01]), None);
    }

    /// The function at 0x1000 with these instructions, and what it takes the address of.
    fn read(code: &[u32]) -> (Function, BTreeSet<u32>) {
        let mut image = vec![0; 0x1000];
        image.extend(code.iter().flat_map(|it| it.to_le_bytes()));
        let function = |end| Function {
            end,
            ..Function::default()
        };
        let end = u32::try_from(image.len()).unwrap();
        let mut functions = BTreeMap::from([(0x1000, function(end)), (0x2010, function(0x2020))]);
        let taken = read_code(&mut functions, &image, 0x1000, &(0x3000..0x3100)).unwrap();
        (functions.remove(&0x1000).unwrap(), taken)
    }

    #[test]
    fn calls_are_found() {
        // bl 0x2010; b 0x2010; b.ne to itself
        for (code, callees) in [(0x9400_0404, 1), (0x1400_0404, 1), (0x5400_0001, 0)] {
            assert_eq!(read(&[code]).0.callees.len(), callees, "{code:#x}");
        }
        // adrp x0, 0x2000; add x0, x0, #0x10
        let (_, taken) = read(&[0xB000_0000, 0x9100_4000]);
        assert_eq!(taken, BTreeSet::from([0x2010]));
        // ldr x8, [x1, #24]; blr x8: a place in a table
        let (function, _) = read(&[0xF940_0C28, 0xD63F_0100]);
        assert_eq!(function.slots, BTreeSet::from([24]));
        // adrp x8, 0x3000; ldr x8, [x8, #8]; blr x8: an import
        let (function, _) = read(&[0xD000_0008, 0xF940_0508, 0xD63F_0100]);
        assert!(function.slots.is_empty() && function.callees.is_empty());
        // ldr x8, [sp, #8]; blr x8: from the frame
        let (function, _) = read(&[0xF940_07E8, 0xD63F_0100]);
        assert!(function.calls_frame);
        // blr x8: another driver's routine
        let (function, _) = read(&[0xD63F_0100]);
        assert_eq!(function.slots, BTreeSet::from([POINTER]));
    }
}

//! Shorter ways to the machine's ports.
//!
//! An `in`, an `out` and a `mov cr8` fault in a user process, and a signal costs as much as
//! thousands of instructions. So where it can be done without any other difference, the loader puts
//! a jump in the place of such an instruction and of the few next to it. The jump leads behind the
//! image, where the port instruction is a call of the machine and its neighbours are as they were.
//! What cannot be moved safely is left alone, and faults.
//!
//! A neighbour that touches memory can fault where it is now. Then it is known by the place that it
//! had: see [`Plan::origin`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, Instruction,
    InstructionBlock, Mnemonic, OpKind, Register,
};
use object::read::pe::PeFile64;
use object::{LittleEndian as LE, pe};

use crate::mem::PAGE;

/// Bytes of `jmp rel32`.
const JUMP: usize = 5;
/// `lea rsp, [rsp - 128]`: System V code keeps the 128 bytes below its stack pointer.
const SKIP_RED_ZONE: [u8; 5] = [0x48, 0x8D, 0x64, 0x24, 0x80];
/// `call [rip + rel32]`
const CALL: [u8; 2] = [0xFF, 0x15];
/// `RUNTIME_FUNCTION`
const ENTRY: usize = 12;
/// `UNW_FLAG_EHANDLER | UNW_FLAG_UHANDLER`, in the upper five bits of the first byte.
const HANDLERS: u8 = 3 << 3;

/// What is written into an image, and behind it. Offsets are from the image's base.
#[derive(Default)]
pub(crate) struct Plan {
    /// The jumps: where, and over how many bytes.
    pub(crate) jumps: Vec<(usize, Vec<u8>)>,
    /// What goes behind the image. It begins with room for the address of what is called.
    pub(crate) code: Vec<u8>,
    /// Where a call returns to, and the instruction in whose place it is. In order.
    sites: Vec<(usize, Instruction)>,
    /// Where a neighbour is now, and where it was. In order.
    moved: Vec<(usize, usize)>,
}

impl Plan {
    /// That of a driver file, made once.
    pub(crate) fn of(file: &[u8], parsed: &PeFile64<'_>) -> Arc<Self> {
        static KNOWN: Mutex<Vec<(Vec<u8>, Arc<Plan>)>> = Mutex::new(Vec::new());
        // Another test's panic leaves nothing half done here.
        let mut known = KNOWN
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, plan)) = known.iter().find(|(bytes, _)| bytes == file) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(Self::make(file, parsed).unwrap_or_default());
        known.push((file.to_vec(), Arc::clone(&plan)));
        plan
    }

    /// The instruction in whose place a call is that returns to `offset`.
    pub(crate) fn site(&self, offset: usize) -> Option<Instruction> {
        let found = self.sites.binary_search_by_key(&offset, |(at, _)| *at);
        Some(self.sites[found.ok()?].1)
    }

    /// Where the instruction was that is at `offset` now.
    pub(crate) fn origin(&self, offset: usize) -> Option<usize> {
        let found = self.moved.binary_search_by_key(&offset, |(at, _)| *at);
        Some(self.moved[found.ok()?].1)
    }

    fn make(file: &[u8], parsed: &PeFile64<'_>) -> Option<Self> {
        let size = parsed.nt_headers().optional_header.size_of_image.get(LE) as usize;
        let mut image = vec![0_u8; size];
        let mut code = Vec::new();
        for section in parsed.section_table().iter() {
            let start = section.virtual_address.get(LE) as usize;
            let bytes = section.pe_data(file).ok()?;
            let count = bytes.len().min(section.virtual_size.get(LE) as usize);
            image
                .get_mut(start..start + count)?
                .copy_from_slice(&bytes[..count]);
            if section.characteristics.get(LE).0 & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 {
                code.push(start..start + count);
            }
        }
        let pdata = parsed.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION)?;
        let start = pdata.virtual_address.get(LE) as usize;
        let entries = image
            .get(start..start + pdata.size.get(LE) as usize)?
            .to_vec();
        let mut plan = Self {
            code: vec![0; size_of::<usize>()],
            ..Self::default()
        };
        let functions = entries.chunks_exact(ENTRY).map(|entry| {
            let [begin, end, unwind] = [0, 4, 8].map(|at| number(entry, at));
            (begin..end, unwind)
        });
        for (function, unwind) in functions {
            let whole = code
                .iter()
                .any(|c| c.start <= function.start && function.end <= c.end);
            if whole && image.get(unwind).is_some_and(|first| first & HANDLERS == 0) {
                plan.function(&image, &code, function, size.next_multiple_of(PAGE));
            }
        }
        plan.code
            .resize(plan.code.len().next_multiple_of(PAGE), 0xCC);
        Some(plan)
    }

    fn function(
        &mut self,
        image: &[u8],
        code: &[Range<usize>],
        function: Range<usize>,
        area: usize,
    ) {
        let bytes = &image[function.clone()];
        let decoder = Decoder::with_ip(64, bytes, function.start as u64, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        if instructions.iter().any(Instruction::is_invalid) {
            return;
        }
        let Some(targets) = targets(image, code, &instructions) else {
            return;
        };
        for window in windows(&instructions, &targets) {
            self.replace(&instructions[window], area);
        }
    }

    /// Puts a jump in the place of these instructions.
    fn replace(&mut self, old: &[Instruction], area: usize) {
        let undo = (self.code.len(), self.sites.len(), self.moved.len());
        if self.write(old, area).is_none() {
            self.code.truncate(undo.0);
            self.sites.truncate(undo.1);
            self.moved.truncate(undo.2);
            return;
        }
        let (first, last) = (&old[0], &old[old.len() - 1]);
        let start = offset(first.ip());
        let mut jump = vec![0xE9];
        jump.extend(relative(start + JUMP, area + undo.0));
        // Nothing comes here: int3.
        jump.resize(offset(last.next_ip()) - start, 0xCC);
        self.jumps.push((start, jump));
    }

    /// Writes what the jump leads to.
    fn write(&mut self, old: &[Instruction], area: usize) -> Option<()> {
        for instruction in old {
            if is_port(instruction) {
                self.code.extend(SKIP_RED_ZONE);
                self.code.extend(CALL);
                let after = area + self.code.len() + 4;
                self.code.extend(relative(after, area));
                self.sites.push((after, *instruction));
            } else {
                let at = area + self.code.len();
                self.moved.push((at, offset(instruction.ip())));
                let one = [*instruction];
                let block = InstructionBlock::new(&one, at as u64);
                let moved = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE).ok()?;
                self.code.extend(moved.code_buffer);
            }
        }
        let last = old.last()?;
        self.code.push(0xE9);
        let after = area + self.code.len() + 4;
        self.code.extend(relative(after, offset(last.next_ip())));
        Some(())
    }
}

/// What the machine carries out itself.
pub(crate) fn is_port(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::In
        | Mnemonic::Out
        | Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => true,
        Mnemonic::Mov => {
            [instruction.op0_register(), instruction.op1_register()].contains(&Register::CR8)
        }
        _ => false,
    }
}

/// How an instruction can be moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Movable {
    /// It does the same at another address, and cannot fault there: it works on registers, or
    /// branches.
    Freely,
    /// The same, but it can fault: it loads or stores.
    WithFaults,
    /// It is another there.
    Not,
}

impl Movable {
    fn of(instruction: &Instruction) -> Self {
        let plain = match instruction.flow_control() {
            FlowControl::Next => true,
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                instruction.op0_kind() == OpKind::NearBranch64
            }
            _ => false,
        };
        if !plain
            || instruction.is_stack_instruction()
            || instruction.is_privileged()
            || instruction.is_string_instruction()
            || instruction.is_ip_rel_memory_operand()
            || matches!(
                instruction.mnemonic(),
                // They fault, or look where they are.
                Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Ud2 | Mnemonic::Int3
            )
        {
            return Self::Not;
        }
        let kinds = (0..instruction.op_count()).map(|operand| instruction.op_kind(operand));
        let mut movable = Self::Freely;
        for kind in kinds {
            match kind {
                OpKind::Register
                | OpKind::NearBranch64
                | OpKind::Immediate8
                | OpKind::Immediate32
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
                | OpKind::Immediate16
                | OpKind::Immediate8_2nd => {}
                OpKind::Memory => movable = Self::WithFaults,
                _ => return Self::Not,
            }
        }
        movable
    }
}

/// What is replaced in a function: windows that do not overlap, in order.
fn windows(all: &[Instruction], targets: &BTreeSet<u64>) -> Vec<Range<usize>> {
    let mut windows: Vec<Range<usize>> = Vec::new();
    for index in 0..all.len() {
        let taken = windows.last().map_or(0, |last| last.end);
        if index < taken || !is_port(&all[index]) {
            continue;
        }
        if let Some(found) = window(all, taken, index, targets) {
            windows.push(found);
        } else if let Some(last) = windows.last_mut() {
            // Together with the one before.
            let both = last.start..index + 1;
            if index - last.end < JUMP && fits(all, &both, targets, true) {
                *last = both;
            }
        }
    }
    windows
}

/// The fewest instructions around that at `index` which have room for a jump, can be moved, and
/// are not jumped into. Those that cannot fault are preferred.
fn window(
    all: &[Instruction],
    from: usize,
    index: usize,
    targets: &BTreeSet<u64>,
) -> Option<Range<usize>> {
    [false, true].into_iter().find_map(|faults| {
        (from..=index).rev().take(JUMP).find_map(|start| {
            let room = |end: usize| all[end].next_ip() - all[start].ip() >= JUMP as u64;
            let end = (index..all.len()).take(JUMP).find(|end| room(*end))?;
            let window = start..end + 1;
            fits(all, &window, targets, faults).then_some(window)
        })
    })
}

/// Whether a jump can be in the place of these instructions. With `faults` they may load and store;
/// then no block begins among them, behind a branch.
fn fits(all: &[Instruction], window: &Range<usize>, targets: &BTreeSet<u64>, faults: bool) -> bool {
    let inside = &all[window.clone()];
    let [before @ .., _] = inside else {
        return false;
    };
    inside.iter().all(|instruction| {
        is_port(instruction)
            || match Movable::of(instruction) {
                Movable::Freely => true,
                Movable::WithFaults => faults,
                Movable::Not => false,
            }
    }) && inside[1..].iter().all(|it| !targets.contains(&it.ip()))
        && (!faults
            || before
                .iter()
                .all(|it| it.flow_control() == FlowControl::Next))
}

/// Where a function may jump to, and more. `None`: not known.
fn targets(
    image: &[u8],
    code: &[Range<usize>],
    instructions: &[Instruction],
) -> Option<BTreeSet<u64>> {
    let mut targets = BTreeSet::new();
    let mut tables = 0;
    let mut computed = false;
    for instruction in instructions {
        match instruction.flow_control() {
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                targets.insert(instruction.near_branch_target());
            }
            FlowControl::IndirectBranch => computed = true,
            _ => {}
        }
        // A table of a computed jump: distances from its start, as far as they lead to code.
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            let table = offset(instruction.ip_rel_memory_address());
            let entries = image.get(table..).unwrap_or_default().chunks_exact(4);
            let found = entries
                .map(|entry| table.wrapping_add_signed(distance(entry)))
                .take_while(|target| code.iter().any(|range| range.contains(target)));
            let before = targets.len();
            targets.extend(found.map(|target| target as u64));
            tables += usize::from(targets.len() > before);
        }
    }
    (!computed || tables > 0).then_some(targets)
}

fn distance(entry: &[u8]) -> isize {
    let bytes = entry.try_into().unwrap_or_default();
    i32::from_le_bytes(bytes) as isize
}

fn number(bytes: &[u8], at: usize) -> usize {
    let bytes = bytes[at..at + 4].try_into().unwrap_or_default();
    u32::from_le_bytes(bytes) as usize
}

#[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
const fn offset(ip: u64) -> usize {
    ip as usize
}

/// The distance of a branch that ends at `from`. Images are far smaller than 2 GiB.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "both are in one image"
)]
const fn relative(from: usize, to: usize) -> [u8; 4] {
    (to.wrapping_sub(from) as i32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: usize = 0x1000;

    fn plan(function: &[u8]) -> Plan {
        let mut plan = Plan::default();
        let whole = 0..function.len();
        plan.function(function, std::slice::from_ref(&whole), whole.clone(), AREA);
        plan
    }

    fn decoded(code: &[u8], ip: usize) -> Vec<Instruction> {
        let decoder = Decoder::with_ip(64, code, ip as u64, DecoderOptions::NONE);
        decoder.into_iter().collect()
    }

    #[test]
    fn neighbours_do_the_same_elsewhere() {
        // in al, dx; test al, 0x20; je to the start; ret
        let plan = plan(&[0xEC, 0xA8, 0x20, 0x74, 0xFB, 0xC3]);
        assert_eq!(plan.jumps.len(), 1);
        let (at, jump) = &plan.jumps[0];
        assert_eq!((*at, jump.len()), (0, JUMP));
        assert_eq!(decoded(jump, 0)[0].near_branch_target(), AREA as u64);
        let moved = decoded(&plan.code, AREA);
        let mnemonics: Vec<Mnemonic> = moved.iter().map(Instruction::mnemonic).collect();
        let expected = [
            Mnemonic::Lea,
            Mnemonic::Call,
            Mnemonic::Test,
            Mnemonic::Je,
            Mnemonic::Jmp,
        ];
        assert_eq!(mnemonics, expected);
        assert_eq!(moved[3].near_branch_target(), 0);
        assert_eq!(moved[4].near_branch_target(), 5);
        let back = offset(moved[2].ip());
        assert_eq!(plan.site(back).unwrap().mnemonic(), Mnemonic::In);
        assert!(plan.site(back + 1).is_none());
    }

    #[test]
    fn what_cannot_be_moved_is_left_alone() {
        for function in [
            // in al, dx; test al, 0x20; je to the test; ret
            [0xEC, 0xA8, 0x20, 0x74, 0xFC, 0xC3].as_slice(),
            // in al, dx; mov [rip + 1], al; ret
            &[0xEC, 0x88, 0x05, 0x01, 0x00, 0x00, 0x00, 0xC3],
            // in al, dx; jne to the end; mov [rcx], al; ret
            &[0xEC, 0x75, 0x02, 0x88, 0x01, 0xC3],
            // in al, dx; nop x 4; jmp rax
            &[0xEC, 0x90, 0x90, 0x90, 0x90, 0xFF, 0xE0],
            // in al, dx; ret
            &[0xEC, 0xC3],
        ] {
            let plan = plan(function);
            assert!(plan.jumps.is_empty() && plan.code.is_empty());
        }
    }

    #[test]
    fn a_neighbour_that_touches_memory_is_known_by_where_it_was() {
        // in al, dx; mov [rcx + 1], al; mov [rcx], al; ret
        let plan = plan(&[0xEC, 0x88, 0x41, 0x01, 0x88, 0x01, 0xC3]);
        assert_eq!(plan.jumps.len(), 1);
        assert_eq!(plan.jumps[0].1.len(), 6);
        let moved = decoded(&plan.code, AREA);
        let places = moved[2..4].iter().map(|it| plan.origin(offset(it.ip())));
        assert_eq!(places.collect::<Vec<_>>(), [Some(1), Some(4)]);
        assert_eq!(plan.origin(AREA), None);
    }

    #[test]
    fn two_ports_share_a_jump() {
        // jmp to the ret; mov al, 1; out dx, al; mov al, 0; out dx, al; ret
        let code = [0xEB, 0x06, 0xB0, 0x01, 0xEE, 0xB0, 0x00, 0xEE, 0xC3];
        let plan = plan(&code);
        assert_eq!(plan.jumps.len(), 1);
        assert_eq!((plan.jumps[0].0, plan.jumps[0].1.len()), (2, 6));
        let moved = decoded(&plan.code, AREA);
        assert_eq!(moved.last().unwrap().near_branch_target(), 8);
    }
}

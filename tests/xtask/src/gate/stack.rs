//! How deep the driver goes into a kernel stack: the frames of `.pdata`, summed over the call graph.
//!
//! A kernel stack has 24 KB, of which the system call, the I/O manager and the drivers above take
//! their part before the driver's first frame, and the drivers below theirs after its last one. So a
//! chain of the driver's own frames is bounded, from each function that the kernel calls.
//!
//! What a call leads to is read from the code: direct calls and jumps to other functions; a call
//! through a word of a trait object's table leads to every function that stands at this place in one
//! of the image's tables; any other call through a pointer is of another driver's routine, or ends
//! the last owner of shared memory. A function that such a chain would enter twice is counted once.
//! What a panic formats and calls does not count: the machine stops there.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::{
    LittleEndian as LE,
    pe::{IMAGE_DIRECTORY_ENTRY_EXCEPTION, IMAGE_DIRECTORY_ENTRY_IAT, IMAGE_FILE_MACHINE_ARM64},
    read::pe::PeFile64,
};

use super::{Group, executable};

mod arm64;

/// The longest chain of frames that is allowed, in bytes: half of a kernel stack.
const MOST: u32 = 12 << 10;

/// Bytes of a `RUNTIME_FUNCTION`.
const ENTRY: usize = 12;
/// `UNW_FLAG_CHAININFO`
const CHAINED: u8 = 4;
/// What a call pushes, and all that a function without an entry has.
const RETURN_ADDRESS: u32 = 8;

/// A function of the image.
#[derive(Default)]
struct Function {
    end: u32,
    /// Bytes of its frame with the return address.
    frame: u32,
    callees: BTreeSet<u32>,
    /// Places in tables that it calls through, and other pointers that it calls.
    slots: BTreeSet<u64>,
    /// Places that it loads pointers from, to be called there or elsewhere.
    loaded: BTreeSet<u64>,
    /// It calls through pointers in its frame, which it or its caller has put there.
    calls_frame: bool,
}

/// A call through a pointer that does not stand in a trait object's table.
const POINTER: u64 = u64::MAX;
/// What a trait object's table begins with: drop, size, alignment.
const TABLE_HEAD: u64 = 24;
/// The function behind the pointer to the end of shared memory, in the linker's map.
const DESTROY: &str = "pool::destroy";
/// Parts of the names of functions that only a panic calls.
const OF_PANIC: [&str; 4] = ["core3fmt", "core::fmt", "panic", "rust_begin_unwind"];

/// The functions of an image by their addresses, relative to its base.
struct Graph {
    functions: BTreeMap<u32, Function>,
    /// Functions by their places in tables of trait objects; those behind other pointers.
    methods: BTreeMap<u64, BTreeSet<u32>>,
    /// Whose address the code takes: the kernel calls them.
    taken: BTreeSet<u32>,
}

/// The deepest chain below a function.
#[derive(Clone, Default)]
struct Chain {
    bytes: u32,
    path: Vec<u32>,
}

/// No chain of calls is deeper than [`MOST`].
pub(super) fn check(file: &PeFile64<'_>, map: Option<&str>) -> Group {
    let mut group = Group::new("stack");
    let names = names(map, file.nt_headers().optional_header.image_base.get(LE));
    let Some(graph) = Graph::of(file, &names) else {
        group
            .violations
            .push("the frames in .pdata cannot be read".to_owned());
        return group;
    };
    let mut deepest = (0, String::new());
    for (entry, chain) in graph.entries() {
        let name = name_of(&names, entry);
        group.expect(chain.bytes <= MOST, || {
            let path: Vec<String> = chain
                .path
                .iter()
                .map(|at| {
                    let frame = graph.functions.get(at).map_or(0, |it| it.frame);
                    format!("{frame} {}", name_of(&names, *at))
                })
                .collect();
            format!(
                "{} bytes of frames below {name}, {MOST} are allowed: {}",
                chain.bytes,
                path.join(" > ")
            )
        });
        if chain.bytes > deepest.0 {
            deepest = (chain.bytes, name);
        }
    }
    group.summary = format!(
        "at most {} bytes of frames, below {} ({MOST} are allowed)",
        deepest.0, deepest.1
    );
    group
}

impl Graph {
    /// `None`: the image is not as linkers make it.
    fn of(file: &PeFile64<'_>, names: &BTreeMap<u32, String>) -> Option<Self> {
        let image = mapped(file)?;
        let is_arm64 = file.nt_headers().file_header.machine.get(LE) == IMAGE_FILE_MACHINE_ARM64;
        let mut graph = Self {
            functions: if is_arm64 {
                arm64::functions(file, &image, names)?
            } else {
                functions(file, &image)?
            },
            methods: BTreeMap::new(),
            taken: BTreeSet::new(),
        };
        graph.methods = graph.tables(file, &image);
        let destroys = graph.functions.keys().copied();
        let destroys = destroys.filter(|at| names.get(at).is_some_and(|it| it.ends_with(DESTROY)));
        graph.methods.insert(POINTER, destroys.collect());
        let imports = file
            .data_directory(IMAGE_DIRECTORY_ENTRY_IAT)
            .map_or(0..0, |iat| {
                let start = iat.virtual_address.get(LE);
                start..start + iat.size.get(LE)
            });
        let starts: Vec<u32> = graph.functions.keys().copied().collect();
        for start in starts {
            if is_arm64 {
                let taken = arm64::read_code(&mut graph.functions, &image, start, &imports)?;
                graph.taken.extend(taken);
                continue;
            }
            let end = graph.functions.get(&start)?.end;
            let bytes = image.get(start as usize..end as usize)?;
            let decoder = Decoder::with_ip(64, bytes, u64::from(start), DecoderOptions::NONE);
            // Where each register was loaded from last.
            let mut loads = BTreeMap::new();
            for instruction in decoder {
                graph.note(start, &instruction, &imports, &loads);
                if instruction.op0_kind() == OpKind::Register {
                    let is_load = instruction.mnemonic() == Mnemonic::Mov
                        && instruction.op1_kind() == OpKind::Memory
                        && instruction.memory_base() != Register::RSP;
                    let from = is_load.then(|| instruction.memory_displacement64());
                    loads.insert(instruction.op0_register(), from);
                    if let Some(function) = graph.functions.get_mut(&start) {
                        function.loaded.extend(from);
                    }
                }
            }
        }
        graph.resolve_frames();
        let entry = file
            .nt_headers()
            .optional_header
            .address_of_entry_point
            .get(LE);
        graph.taken.insert(entry);
        for (at, name) in names {
            if OF_PANIC.iter().any(|part| name.contains(part)) {
                graph.functions.remove(at);
                graph.taken.remove(at);
            }
        }
        Some(graph)
    }

    /// What calls through pointers in frames lead to: what stands at the places that the function, or
    /// one of its callers, loads pointers from.
    fn resolve_frames(&mut self) {
        let mut more: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (at, function) in &self.functions {
            for target in function.callees.iter().chain([at]) {
                if self.functions.get(target).is_some_and(|it| it.calls_frame) {
                    more.entry(*target).or_default().extend(&function.loaded);
                }
            }
        }
        for (at, slots) in more {
            let known = slots
                .into_iter()
                .filter(|slot| self.methods.contains_key(slot));
            if let Some(function) = self.functions.get_mut(&at) {
                function.slots.extend(known);
            }
        }
    }

    /// The tables of trait objects in sections without code: runs of relocated words behind a size
    /// and an alignment.
    fn tables(&mut self, file: &PeFile64<'_>, image: &[u8]) -> BTreeMap<u64, BTreeSet<u32>> {
        let base = file.nt_headers().optional_header.image_base.get(LE);
        let quad = |at: u32| {
            let bytes = image.get(at as usize..at as usize + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let mut pointers = BTreeMap::new();
        let blocks = file
            .data_directories()
            .relocation_blocks(file.data(), &file.section_table());
        if let Ok(Some(mut blocks)) = blocks {
            while let Ok(Some(block)) = blocks.next() {
                for relocation in block {
                    let at = relocation.virtual_address;
                    let in_code = super::containing(file, at).is_some_and(executable);
                    if let (false, Some(word)) = (in_code, quad(at))
                        && let Ok(target) = u32::try_from(word.wrapping_sub(base))
                    {
                        pointers.insert(at, target);
                    }
                }
            }
        }
        let mut found: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        let mut place = (0, POINTER);
        for (at, target) in &pointers {
            let size = at.checked_sub(16).and_then(quad);
            let alignment = at.checked_sub(8).and_then(quad);
            let begins = size.is_some_and(|size| size <= 0x1_0000)
                && alignment.is_some_and(|it| it.is_power_of_two() && it <= 64);
            place = match place {
                _ if begins => (*at, TABLE_HEAD),
                (before, slot) if before + 8 == *at && slot != POINTER => (*at, slot + 8),
                _ => (*at, POINTER),
            };
            if self.functions.contains_key(target) {
                if place.1 == POINTER {
                    // Code that the driver copies from here, such as dispatch routines.
                    self.taken.insert(*target);
                } else {
                    found.entry(place.1).or_default().insert(*target);
                }
            }
            // A drop in front of the size and the alignment.
            if begins && let Some(drop) = at.checked_sub(24).and_then(|at| pointers.get(&at)) {
                found.entry(0).or_default().insert(*drop);
            }
        }
        found
    }

    /// What an instruction of the function at `start` says of it.
    fn note(
        &mut self,
        start: u32,
        instruction: &Instruction,
        imports: &core::ops::Range<u32>,
        loads: &BTreeMap<Register, Option<u64>>,
    ) {
        let to = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            let target = to(instruction.ip_rel_memory_address());
            if self.functions.contains_key(&target) {
                self.taken.insert(target);
            }
        }
        let through_import = instruction.is_ip_rel_memory_operand()
            && imports.contains(&to(instruction.ip_rel_memory_address()));
        let near = instruction.op0_kind() == OpKind::NearBranch64;
        let target = near.then(|| to(instruction.near_branch_target()));
        let Some(function) = self.functions.get_mut(&start) else {
            return;
        };
        match (instruction.flow_control(), target) {
            (FlowControl::Call, Some(target)) => {
                function.callees.insert(target);
            }
            (FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch, Some(target))
                if !(start..function.end).contains(&target) =>
            {
                function.callees.insert(target);
            }
            (FlowControl::IndirectCall | FlowControl::IndirectBranch, _) if !through_import => {
                if instruction.op0_kind() == OpKind::Memory
                    && instruction.memory_base() == Register::RSP
                {
                    function.calls_frame = true;
                    return;
                }
                let from = if instruction.op0_kind() == OpKind::Memory {
                    Some(instruction.memory_displacement64())
                } else {
                    loads.get(&instruction.op0_register()).copied().flatten()
                };
                // A jump to a register that was computed is a choice inside the function.
                let is_jump = instruction.flow_control() == FlowControl::IndirectBranch;
                if from.is_some() || !is_jump {
                    function.slots.insert(from.unwrap_or(POINTER));
                }
            }
            _ => {}
        }
    }

    /// The functions that the kernel calls, each with the deepest chain below it.
    fn entries(&self) -> impl Iterator<Item = (u32, Chain)> {
        let mut known = BTreeMap::new();
        let mut chains = Vec::new();
        for entry in &self.taken {
            let chain = self.below(*entry, &mut Vec::new(), &mut known);
            chains.push((*entry, chain));
        }
        chains.into_iter()
    }

    fn below(&self, function: u32, path: &mut Vec<u32>, known: &mut BTreeMap<u32, Chain>) -> Chain {
        if let Some(chain) = known.get(&function) {
            return chain.clone();
        }
        let Some(it) = self.functions.get(&function) else {
            // A leaf, or a thunk of an import.
            return Chain {
                bytes: RETURN_ADDRESS,
                path: vec![function],
            };
        };
        if path.contains(&function) {
            return Chain::default();
        }
        path.push(function);
        let methods = it.slots.iter().flat_map(|slot| {
            let known = self
                .methods
                .get(slot)
                .or_else(|| self.methods.get(&POINTER));
            known.into_iter().flatten()
        });
        let mut deepest = Chain::default();
        for callee in it.callees.iter().chain(methods) {
            let chain = self.below(*callee, path, known);
            if chain.bytes > deepest.bytes {
                deepest = chain;
            }
        }
        path.pop();
        let mut chain = Chain {
            bytes: it.frame + deepest.bytes,
            path: vec![function],
        };
        chain.path.extend(deepest.path);
        known.insert(function, chain.clone());
        chain
    }
}

/// The image as it is in memory.
fn mapped(file: &PeFile64<'_>) -> Option<Vec<u8>> {
    let size = file.nt_headers().optional_header.size_of_image.get(LE) as usize;
    let mut image = vec![0; size];
    for section in file.section_table().iter() {
        let start = section.virtual_address.get(LE) as usize;
        let bytes = section.pe_data(file.data()).ok()?;
        let count = bytes.len().min(section.virtual_size.get(LE) as usize);
        image
            .get_mut(start..start + count)?
            .copy_from_slice(&bytes[..count]);
    }
    Some(image)
}

fn word(image: &[u8], at: u32) -> Option<u32> {
    let bytes = image.get(at as usize..at as usize + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The exception directory, `.pdata`: empty, if no function of the image has a frame.
fn exceptions<'i>(file: &PeFile64<'_>, image: &'i [u8]) -> Option<&'i [u8]> {
    let Some(pdata) = file.data_directory(IMAGE_DIRECTORY_ENTRY_EXCEPTION) else {
        return Some(&[]);
    };
    let start = pdata.virtual_address.get(LE) as usize;
    image.get(start..start + pdata.size.get(LE) as usize)
}

/// The functions of `.pdata`.
fn functions(file: &PeFile64<'_>, image: &[u8]) -> Option<BTreeMap<u32, Function>> {
    let entries = exceptions(file, image)?;
    let mut found = BTreeMap::new();
    for entry in entries.chunks_exact(ENTRY) {
        let [begin, end, unwind] = [0, 4, 8].map(|at| word(entry, at));
        let function = Function {
            end: end?,
            frame: frame(image, unwind?)? + RETURN_ADDRESS,
            ..Function::default()
        };
        found.insert(begin?, function);
    }
    for section in file.section_table().iter().filter(|it| executable(it)) {
        let start = section.virtual_address.get(LE);
        leaves(
            image,
            start..start + section.virtual_size.get(LE),
            &mut found,
        )?;
    }
    Some(found)
}

/// Adds what stands between the functions of `.pdata`: functions without a frame, each behind the
/// filling of the one before.
fn leaves(
    image: &[u8],
    code: core::ops::Range<u32>,
    found: &mut BTreeMap<u32, Function>,
) -> Option<()> {
    /// `int3`
    const FILLING: u8 = 0xCC;
    let framed: Vec<(u32, u32)> = found
        .range(code.clone())
        .map(|(start, it)| (*start, it.end))
        .chain([(code.end, code.end)])
        .collect();
    let mut gap = code.start;
    for (start, end) in framed {
        let bytes = image.get(gap as usize..start.max(gap) as usize)?;
        let mut begins = None;
        for (at, byte) in (gap..).zip(bytes.iter().chain([&FILLING])) {
            match (begins, *byte == FILLING) {
                (None, false) => begins = Some(at),
                (Some(first), true) => {
                    let leaf = Function {
                        end: at,
                        frame: RETURN_ADDRESS,
                        ..Function::default()
                    };
                    found.insert(first, leaf);
                    begins = None;
                }
                _ => {}
            }
        }
        gap = end;
    }
    Some(())
}

/// What a prologue takes of the stack, by its `UNWIND_INFO`.
fn frame(image: &[u8], unwind: u32) -> Option<u32> {
    let at = unwind as usize;
    let flags = image.get(at)? >> 3;
    let count = usize::from(*image.get(at + 2)?);
    let codes = image.get(at + 4..at + 4 + 2 * count)?;
    let slot = |index: usize| {
        let pair = codes.get(2 * index..2 * index + 2)?;
        Some(u16::from_le_bytes([pair[0], pair[1]]))
    };
    let mut bytes = 0;
    let mut index = 0;
    while index < count {
        let [_, code] = slot(index)?.to_le_bytes();
        let (operation, info) = (code & 0xF, u32::from(code >> 4));
        index += match operation {
            // UWOP_PUSH_NONVOL
            0 => {
                bytes += 8;
                1
            }
            // UWOP_ALLOC_LARGE
            1 if info == 0 => {
                bytes += u32::from(slot(index + 1)?) * 8;
                2
            }
            1 => {
                bytes += u32::from(slot(index + 1)?) | u32::from(slot(index + 2)?) << 16;
                3
            }
            // UWOP_ALLOC_SMALL
            2 => {
                bytes += info * 8 + 8;
                1
            }
            // UWOP_SAVE_NONVOL, UWOP_SAVE_XMM128
            4 | 8 => 2,
            // The same with a far offset.
            5 | 9 => 3,
            // UWOP_PUSH_MACHFRAME
            10 => {
                bytes += 40 + 8 * info;
                1
            }
            // UWOP_SET_FPREG, UWOP_EPILOG
            _ => 1,
        };
    }
    if flags & CHAINED != 0 {
        // The entry of the function that this is a part of.
        let parent = unwind + 4 + 2 * u32::try_from(count.next_multiple_of(2)).ok()?;
        bytes += frame(image, word(image, parent + 8)?)?;
    }
    Some(bytes)
}

/// The symbols of a linker's map by their addresses, relative to the image's base.
fn names(map: Option<&str>, base: u64) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for line in map.unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let (Some(_), Some(name), Some(address)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let Ok(address) = u64::from_str_radix(address, 16)
            && let Ok(at) = u32::try_from(address.wrapping_sub(base))
        {
            found.entry(at).or_insert_with(|| readable(name));
        }
    }
    found
}

/// The path in a mangled name (`_ZN`), without its hash; any other name as it is.
fn readable(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else {
        return name.to_owned();
    };
    let mut parts = Vec::new();
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit())
        && let Ok(length) = rest[..end].parse::<usize>()
        && let Some(part) = rest.get(end..end + length)
    {
        parts.push(part);
        rest = &rest[end + length..];
    }
    if parts
        .last()
        .is_some_and(|it| it.len() == 17 && it.starts_with('h'))
    {
        parts.pop();
    }
    parts.join("::")
}

fn name_of(names: &BTreeMap<u32, String>, at: u32) -> String {
    let known = names.get(&at).cloned();
    known.unwrap_or_else(|| format!("{at:#x}"))
}

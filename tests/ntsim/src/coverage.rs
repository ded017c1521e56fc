//! Which basic blocks of a driver's code were reached.
//!
//! The first byte of every block that no thread has come to yet is a breakpoint; the first thread that
//! comes to it puts the byte back, and notes the block for all machines of this process and of those
//! that it forked since. So a block costs one signal, and what was seen before costs nothing.
//!
//! What is noted can be a file that several processes share: [`FILE`] names one for every machine of
//! a process, whatever program it is.
//!
//! Blocks are found by following the code from every function of the exception directory, from every
//! address in code that data refers to, and from every call.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

use crate::Machine;
use crate::mem::{PAGE, Va};
use crate::patch::Plan;

/// `RUNTIME_FUNCTION`
const ENTRY: usize = 12;
const BREAKPOINT: u8 = 0xCC;

/// The environment variable that names the image whose blocks are noted in [`FILE`].
pub const IMAGE: &str = "NTSIM_COVERAGE_IMAGE";
/// The environment variable that names the file for what is reached, by whatever machine of this
/// process: a byte for every byte of the image.
pub const FILE: &str = "NTSIM_COVERAGE_FILE";
/// Images of one thread's machines that breakpoints are in; more than a test loads at a time.
const LOADED: usize = 32;

/// A basic block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte, from the image's base.
    pub start: u32,
    /// Behind its last.
    pub end: u32,
}

/// The blocks of an image, and those that were reached. It lives as long as the process.
pub struct Coverage {
    path: PathBuf,
    blocks: Vec<Block>,
    /// For every byte of the image: the byte that a breakpoint is in the place of, or none here.
    old: Vec<Option<u8>>,
    /// For every byte of the image: 1 if it begins a block that was reached. Shared with processes
    /// that are forked.
    seen: &'static [AtomicU8],
    code: Vec<(u32, u32)>,
}

thread_local! {
    /// Where the images lie whose breakpoints are set, the last ones. A machine stays on its thread.
    static BASES: Cell<[Va; LOADED]> = const { Cell::new([0; LOADED]) };
}

/// Blocks that this process, and those that it comes from, reached before all others.
static FOUND: AtomicUsize = AtomicUsize::new(0);

static ACTIVE: AtomicPtr<Coverage> = AtomicPtr::new(core::ptr::null_mut());

/// A breakpoint at `at`: whether it was one of these. It is gone then.
pub(crate) fn hit(at: Va) -> bool {
    let active = ACTIVE.load(Ordering::Relaxed);
    if active.is_null() {
        return false;
    }
    // SAFETY: what was activated lives for ever.
    let coverage = unsafe { &*active };
    let found = BASES.get().into_iter().find_map(|base| {
        let offset = at.checked_sub(base).filter(|_| base != 0)?;
        Some((offset, coverage.old.get(offset).copied()??))
    });
    let Some((offset, old)) = found else {
        return false;
    };
    let place: *mut u8 = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: the code pages are writable while breakpoints are set.
    if unsafe { place.read() } != BREAKPOINT {
        return false;
    }
    // SAFETY: as above.
    unsafe { place.write(old) };
    if coverage.seen[offset].swap(1, Ordering::Relaxed) == 0 {
        FOUND.fetch_add(1, Ordering::Relaxed);
    }
    true
}

/// The image as it is in memory, and what in it is code.
struct Layout {
    image: Vec<u8>,
    code: Vec<(usize, usize)>,
    /// By their first byte, from the exception directory.
    functions: BTreeMap<usize, Function>,
}

/// A function, or a part of one.
struct Function {
    end: usize,
    /// Where its instructions begin.
    instructions: BTreeSet<usize>,
    /// It has jumps that only a table tells the targets of.
    is_computed: bool,
}

impl Layout {
    fn is_code(&self, at: usize) -> bool {
        self.code
            .iter()
            .any(|(start, end)| (*start..*end).contains(&at))
    }

    /// The function around a place.
    fn around(&self, at: usize) -> Option<&Function> {
        let (_, function) = self.functions.range(..=at).next_back()?;
        (at < function.end).then_some(function)
    }

    /// Whether code can begin there: it does not lie inside of an instruction.
    fn can_begin(&self, at: usize) -> bool {
        let inside = |function: &Function| function.instructions.contains(&at);
        self.is_code(at) && self.around(at).is_none_or(inside)
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn decode(&self, at: usize) -> Option<Instruction> {
        let bytes = self.image.get(at..(at + 15).min(self.image.len()))?;
        let one = Decoder::with_ip(64, bytes, at as u64, DecoderOptions::NONE).decode();
        (!one.is_invalid()).then_some(one)
    }
}

impl Coverage {
    /// That of an image file.
    ///
    /// # Errors
    /// What is wrong with the file.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn of(path: &Path) -> Result<&'static Self, String> {
        Self::noted(path, None)
    }

    /// That of an image file, with what is reached in a file that other processes share: made if
    /// there is none, and else taken up.
    ///
    /// # Errors
    /// What is wrong with either file.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn shared(path: &Path, noted: &Path) -> Result<&'static Self, String> {
        Self::noted(path, Some(noted))
    }

    /// What the environment asks for, once for all machines of the process.
    pub(crate) fn of_environment() -> Option<&'static Self> {
        static ASKED: OnceLock<Option<&'static Coverage>> = OnceLock::new();
        let open = || {
            let (image, file) = (env::var_os(IMAGE)?, env::var_os(FILE)?);
            let opened = Self::shared(Path::new(&image), Path::new(&file));
            Some(opened.unwrap_or_else(|error| panic!("{FILE}: {error}")))
        };
        *ASKED.get_or_init(open)
    }

    fn noted(path: &Path, noted: Option<&Path>) -> Result<&'static Self, String> {
        let file = std::fs::read(path).map_err(|error| error.to_string())?;
        let parsed = PeFile64::parse(&*file).map_err(|error| error.to_string())?;
        let layout = layout(&file, &parsed).ok_or("the sections lie outside")?;
        let entry = parsed.nt_headers().optional_header.address_of_entry_point;
        let mut roots = roots(&layout, &parsed, &file);
        roots.insert(entry.get(LE) as usize);
        let mut blocks = blocks(&layout, roots);
        // What the loader moves elsewhere is no block of its own.
        let plan = Plan::of(&file, &parsed);
        let moved = |start: usize| {
            let inside = |(at, jump): &(usize, Vec<u8>)| (at + 1..at + jump.len()).contains(&start);
            plan.jumps.iter().any(inside)
        };
        blocks.retain(|block| !moved(block.start as usize));
        let size = layout.image.len();
        let whole = size.next_multiple_of(PAGE);
        let shared = noted
            .map(|noted| {
                let mut open = OpenOptions::new();
                let open = open.read(true).write(true).create(true).truncate(false);
                let file = open.open(noted).map_err(|error| error.to_string())?;
                let length = u64::try_from(whole).unwrap_or(u64::MAX);
                file.set_len(length).map_err(|error| error.to_string())?;
                Ok::<_, String>(file)
            })
            .transpose()?;
        let (kind, descriptor) = shared
            .as_ref()
            .map_or((libc::MAP_ANONYMOUS, -1), |file| (0, file.as_raw_fd()));
        // SAFETY: a new mapping of our own.
        let place = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | kind,
                descriptor,
                0,
            )
        };
        assert_ne!(place, libc::MAP_FAILED, "no memory");
        // SAFETY: the mapping is as long, is never unmapped, and any byte is an atomic one.
        let seen = unsafe { core::slice::from_raw_parts(place.cast::<AtomicU8>(), whole) };
        let mut old = vec![None; size];
        for block in &blocks {
            let at = block.start as usize;
            let jumps = plan.jumps.iter().find(|(start, _)| *start == at);
            old[at] = Some(jumps.map_or(layout.image[at], |(_, jump)| jump[0]));
        }
        let code = layout
            .code
            .iter()
            .map(|(start, end)| (narrow(*start), narrow(*end)));
        Ok(Box::leak(Box::new(Self {
            path: path.to_owned(),
            blocks,
            old,
            seen,
            code: code.collect(),
        })))
    }

    /// All blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether a block was reached.
    #[must_use]
    pub fn is_reached(&self, block: Block) -> bool {
        self.seen[block.start as usize].load(Ordering::Relaxed) != 0
    }

    /// How many blocks were reached.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.blocks
            .iter()
            .filter(|block| self.is_reached(**block))
            .count()
    }

    /// How many blocks this process reached before all others that share the notes; a process that
    /// was forked begins with what its parent had.
    #[must_use]
    pub fn found() -> usize {
        FOUND.load(Ordering::Relaxed)
    }

    /// Sets the breakpoints in an image that was loaded from the file.
    pub(crate) fn arm(&'static self, path: &Path, base: Va) {
        if path != self.path {
            return;
        }
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        for (start, end) in &self.code {
            let at = core::ptr::with_exposed_provenance_mut(base + *start as usize);
            // SAFETY: a section of an image that was mapped just now.
            unsafe { libc::mprotect(at, (end - start) as usize, all) };
        }
        for block in self.blocks.iter().filter(|block| !self.is_reached(**block)) {
            let start = block.start as usize;
            // Another byte stands where this machine leaves a port instruction that others replace.
            if self.old[start] == Some(crate::mem::peek(base + start)) {
                crate::mem::poke(base + start, BREAKPOINT);
            }
        }
        let mut bases = BASES.get();
        bases.rotate_right(1);
        bases[0] = base;
        BASES.set(bases);
        ACTIVE.store(core::ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn layout(file: &[u8], parsed: &PeFile64<'_>) -> Option<Layout> {
    let size = parsed.nt_headers().optional_header.size_of_image.get(LE) as usize;
    let mut image = vec![0; size.next_multiple_of(PAGE)];
    let mut code = Vec::new();
    for section in parsed.section_table().iter() {
        let start = section.virtual_address.get(LE) as usize;
        let bytes = section.pe_data(file).ok()?;
        let length = section.virtual_size.get(LE) as usize;
        let count = bytes.len().min(length);
        image
            .get_mut(start..start + count)?
            .copy_from_slice(&bytes[..count]);
        if section.characteristics.get(LE).0 & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 {
            code.push((start, start + length.next_multiple_of(PAGE)));
        }
    }
    let mut layout = Layout {
        image,
        code,
        functions: BTreeMap::new(),
    };
    if let Some(table) = parsed.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION) {
        let start = table.virtual_address.get(LE) as usize;
        for at in (start..start + table.size.get(LE) as usize).step_by(ENTRY) {
            let (begin, end) = (layout.long(at)? as usize, layout.long(at + 4)? as usize);
            let function = function(&layout, begin, end);
            layout.functions.insert(begin, function);
        }
    }
    Some(layout)
}

fn function(layout: &Layout, begin: usize, end: usize) -> Function {
    let mut function = Function {
        end,
        instructions: BTreeSet::new(),
        is_computed: false,
    };
    let mut at = begin;
    while at < end
        && let Some(one) = layout.decode(at)
    {
        function.instructions.insert(at);
        function.is_computed |= one.flow_control() == FlowControl::IndirectBranch;
        at += one.len();
    }
    function
}

/// Where code begins: functions with unwind data, and what data points to.
fn roots(layout: &Layout, parsed: &PeFile64<'_>, file: &[u8]) -> BTreeSet<usize> {
    let mut roots: BTreeSet<usize> = layout.functions.keys().copied().collect();
    let base = parsed.nt_headers().optional_header.image_base.get(LE);
    let sections = parsed.section_table();
    if let Ok(Some(mut blocks)) = parsed.data_directories().relocation_blocks(file, &sections) {
        while let Ok(Some(block)) = blocks.next() {
            for relocation in block {
                let at = relocation.virtual_address as usize;
                let Some(bytes) = layout.image.get(at..at + 8) else {
                    continue;
                };
                let value = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
                roots.extend(usize::try_from(value.wrapping_sub(base)));
            }
        }
    }
    roots.retain(|at| layout.can_begin(*at));
    roots
}

/// Follows the code.
fn blocks(layout: &Layout, roots: BTreeSet<usize>) -> Vec<Block> {
    let mut leaders = roots.clone();
    let mut work: Vec<usize> = roots.into_iter().collect();
    // Where each instruction ends, and whether what follows is another block.
    let mut known = BTreeMap::new();
    while let Some(mut at) = work.pop() {
        while !known.contains_key(&at) && layout.is_code(at) {
            let Some(one) = layout.decode(at) else {
                break;
            };
            let next = at + one.len();
            let mut targets = Vec::new();
            if one.is_ip_rel_memory_operand() && one.mnemonic() == Mnemonic::Lea {
                let place = usize::try_from(one.ip_rel_memory_address()).unwrap_or(0);
                if layout.is_code(place) {
                    targets.push(place);
                } else {
                    targets.extend(table(layout, at, place));
                }
            }
            let near = one.op0_kind() == OpKind::NearBranch64;
            if near {
                targets.extend(usize::try_from(one.near_branch_target()));
            }
            let goes_on = match one.flow_control() {
                FlowControl::ConditionalBranch => {
                    targets.push(next);
                    true
                }
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => true,
                _ => false,
            };
            known.insert(at, (next, goes_on));
            for target in targets {
                if layout.can_begin(target) && leaders.insert(target) {
                    work.push(target);
                }
            }
            if !goes_on {
                break;
            }
            at = next;
        }
    }
    let mut blocks = Vec::new();
    for start in &leaders {
        let mut at = *start;
        while let Some((next, goes_on)) = known.get(&at) {
            at = *next;
            if !goes_on || leaders.contains(&at) {
                break;
            }
        }
        if at > *start {
            blocks.push(Block {
                start: narrow(*start),
                end: narrow(at),
            });
        }
    }
    blocks
}

/// The targets of a computed jump of the function around `from`, if there is a table at `start`:
/// distances from its start, as far as they lead to instructions of that function.
fn table(layout: &Layout, from: usize, start: usize) -> Vec<usize> {
    let mut targets = Vec::new();
    let Some(function) = layout.around(from).filter(|it| it.is_computed) else {
        return targets;
    };
    while let Some(distance) = layout.long(start + 4 * targets.len()) {
        let target = start.wrapping_add_signed(distance.cast_signed() as isize);
        if !function.instructions.contains(&target) {
            break;
        }
        targets.push(target);
    }
    targets
}

impl Machine {
    /// Notes from now on which blocks of drivers are reached that are loaded from the image's file.
    /// One machine of a process at a time.
    pub fn cover(&self, coverage: &'static Coverage) {
        crate::state::with(|k| k.coverage = Some(coverage));
    }
}

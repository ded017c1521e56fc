//! Pool: blocks with tags, so that what is left at unload is seen.

use alloc::{collections::BTreeMap, string::String};
use core::fmt::Write as _;

use windows_sys::Wdk::{
    Foundation::NonPagedPoolNx,
    System::SystemServices::{ExAllocatePoolWithTag, ExFreePoolWithTag},
};

use crate::{
    irql,
    lock::Lock,
    nt::Ptr,
    report::{self, broken},
};

/// `POOL_FLAG_UNINITIALIZED`
const UNINITIALIZED: u64 = 2;
/// `POOL_FLAG_PAGED`
const PAGED: u64 = 0x100;
/// What uninitialised memory holds.
const JUNK: u8 = 0xCD;
/// What is behind every block.
const FENCE: [u8; 16] = [0xFD; 16];

struct Block {
    tag: u32,
    size: usize,
}

/// The driver's blocks.
static BLOCKS: Lock<BTreeMap<usize, Block>> = Lock::new(BTreeMap::new());

pub(super) unsafe extern "system" fn ex_allocate_pool2(flags: u64, size: usize, tag: u32) -> Ptr {
    let level = irql::current();
    if level > irql::DISPATCH || flags & PAGED != 0 && level > irql::APC {
        broken!("ExAllocatePool2({flags:#x}) at IRQL {level}");
    }
    if size == 0 || tag == 0 {
        broken!("ExAllocatePool2: {size} bytes, tag {tag:#x}");
    }
    // Wine's pool, since Wine's PnP manager frees what it is given.
    // SAFETY: no requirements.
    let memory = unsafe { ExAllocatePoolWithTag(NonPagedPoolNx, size + FENCE.len(), tag) };
    if memory.is_null() {
        return memory;
    }
    let fill = if flags & UNINITIALIZED == 0 { 0 } else { JUNK };
    // SAFETY: just allocated, this long.
    unsafe {
        memory.cast::<u8>().write_bytes(fill, size);
        memory
            .cast::<u8>()
            .add(size)
            .cast::<[u8; 16]>()
            .write(FENCE);
    }
    BLOCKS.lock().insert(memory.addr(), Block { tag, size });
    memory
}

pub(super) unsafe extern "system" fn ex_free_pool_with_tag(memory: Ptr, tag: u32) {
    let level = irql::current();
    if level > irql::DISPATCH {
        broken!("ExFreePoolWithTag at IRQL {level}");
    }
    match BLOCKS.lock().remove(&memory.addr()) {
        None => {
            // Not freed: a second time would break the heap.
            broken!("ExFreePoolWithTag of {memory:p}, which is no block of the driver");
            return;
        }
        Some(block) => {
            if block.tag != tag {
                broken!(
                    "a block with tag {} freed with {}",
                    name(block.tag),
                    name(tag)
                );
            }
            // SAFETY: allocated with a fence behind it.
            let fence = unsafe {
                memory
                    .cast::<u8>()
                    .add(block.size)
                    .cast::<[u8; 16]>()
                    .read()
            };
            if fence != FENCE {
                broken!("a block of {} bytes was overrun", block.size);
            }
            // SAFETY: allocated this long.
            unsafe { memory.cast::<u8>().write_bytes(JUNK, block.size) };
        }
    }
    // SAFETY: allocated there.
    unsafe { ExFreePoolWithTag(memory, tag) };
}

/// A block goes over to the kernel, which frees it. No matter if it is none.
pub(crate) fn give_away(memory: usize) {
    BLOCKS.lock().remove(&memory);
}

/// A tag as tools show it.
fn name(tag: u32) -> String {
    let printable = |byte: u8| {
        if byte.is_ascii_graphic() {
            char::from(byte)
        } else {
            '.'
        }
    };
    tag.to_le_bytes().map(printable).into_iter().collect()
}

/// How many blocks there are; for each tag how many, and their bytes; every rule that was broken.
pub(crate) fn summary() -> String {
    let mut tags = BTreeMap::<u32, (usize, usize)>::new();
    let mut text = String::new();
    {
        let blocks = BLOCKS.lock();
        for block in blocks.values() {
            let (count, bytes) = tags.entry(block.tag).or_default();
            *count += 1;
            *bytes += block.size;
        }
        let _ = writeln!(text, "{}", blocks.len());
    }
    for (tag, (count, bytes)) in tags {
        let _ = writeln!(text, "{} {count} blocks, {bytes} bytes", name(tag));
    }
    for broken in report::all() {
        let _ = writeln!(text, "{broken}");
    }
    text
}

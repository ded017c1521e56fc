//! MDLs and the end of user space.

use crate::{
    nt::{MDL, Ptr},
    report::broken,
};

/// As on x64 Windows.
pub(crate) static USER_PROBE_ADDRESS: u64 = 0x7FFF_FFFF_0000;

const PAGE: usize = 0x1000;
/// Wine's room for a page's number behind an MDL; Windows has twice that.
const FRAME: usize = 4;
const MAPPED_TO_SYSTEM_VA: i16 = 0x1;
const PARTIAL: i16 = 0x10;
const PARTIAL_HAS_BEEN_MAPPED: i16 = 0x20;

/// `MmGetMdlVirtualAddress`: in Wine also where the memory is, whichever process it is mapped for.
///
/// # Safety
/// A live MDL.
pub(crate) unsafe fn address(mdl: *const MDL) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        (*mdl)
            .StartVa
            .cast::<u8>()
            .wrapping_add((*mdl).ByteOffset as usize)
    }
}

pub(super) unsafe extern "system" fn io_build_partial_mdl(
    source: *mut MDL,
    target: *mut MDL,
    start: *mut u8,
    length: u32,
) {
    // SAFETY: the driver's MDLs, or so it says.
    let (from, count) = unsafe { (address(source), (*source).ByteCount as usize) };
    let skip = start.addr().wrapping_sub(from.addr());
    let rest = count.saturating_sub(skip);
    let length = if length == 0 { rest } else { length as usize };
    let offset = start.addr() % PAGE;
    // SAFETY: likewise.
    let room = unsafe { usize::try_from((*target).Size).unwrap_or(0) };
    let need = size_of::<MDL>() + FRAME * (offset + length).div_ceil(PAGE);
    if skip > count || length > rest || need > room {
        broken!(
            "IoBuildPartialMdl: {length} bytes at {start:p} do not fit source and target; from {from:p} count {count} room {room} need {need} "
        );
        return;
    }
    // SAFETY: likewise.
    unsafe {
        (*target).StartVa = start.wrapping_sub(offset).cast();
        (*target).ByteOffset = u32::try_from(offset).unwrap_or(0);
        (*target).ByteCount = u32::try_from(length).unwrap_or(u32::MAX);
        (*target).MdlFlags = (*target).MdlFlags & !MAPPED_TO_SYSTEM_VA | PARTIAL;
    }
}

pub(super) unsafe extern "system" fn mm_map_locked_pages_specify_cache(
    mdl: *mut MDL,
    _mode: u8,
    _cache: i32,
    _base: Ptr,
    _bug_check: u32,
    _priority: u32,
) -> Ptr {
    // SAFETY: the driver's MDL.
    unsafe {
        let place = address(mdl);
        (*mdl).MappedSystemVa = place.cast();
        (*mdl).MdlFlags |= MAPPED_TO_SYSTEM_VA;
        if (*mdl).MdlFlags & PARTIAL != 0 {
            (*mdl).MdlFlags |= PARTIAL_HAS_BEEN_MAPPED;
        }
        place.cast()
    }
}

pub(super) unsafe extern "system" fn mm_unmap_locked_pages(base: Ptr, mdl: *mut MDL) {
    // SAFETY: the driver's MDL.
    unsafe {
        if (*mdl).MdlFlags & MAPPED_TO_SYSTEM_VA == 0 || (*mdl).MappedSystemVa != base {
            broken!("MmUnmapLockedPages of what is not mapped");
        }
        (*mdl).MdlFlags &= !(MAPPED_TO_SYSTEM_VA | PARTIAL_HAS_BEEN_MAPPED);
    }
}

//! `Mm` and `Probe`: user buffers probed, MDLs built, locked and mapped.

use core::arch::naked_asm;
use core::mem::offset_of;

use windows_sys::Wdk::Foundation::MDL;

use super::types::{Irp, MDL_SIZE};
use super::{APC, ke};
use crate::cpu::raising_entry;
use crate::fault::call_is_guarded;
use crate::mem::{Kind, PAGE, State, Va, peek, poke};
use crate::rules;
use crate::state::{DriverId, Kernel, Site, fail, with};
use crate::user::{PROBE, is_user};
use crate::{Caller, NtStatus};

const NEXT: usize = offset_of!(MDL, Next);
const SIZE: usize = offset_of!(MDL, Size);
const FLAGS: usize = offset_of!(MDL, MdlFlags);
const MAPPED_VA: usize = offset_of!(MDL, MappedSystemVa);
const START_VA: usize = offset_of!(MDL, StartVa);
const BYTE_COUNT: usize = offset_of!(MDL, ByteCount);
const BYTE_OFFSET: usize = offset_of!(MDL, ByteOffset);

// `MdlFlags`.
numbers! { u16:
    MAPPED_TO_SYSTEM_VA => 0x1,
    PAGES_LOCKED => 0x2,
    SOURCE_IS_NONPAGED_POOL => 0x4,
    PARTIAL => 0x10,
    PARTIAL_HAS_BEEN_MAPPED => 0x20,
    WRITE_OPERATION => 0x80,
}

/// `MdlMappingNoExecute`
const NO_EXECUTE: u32 = 0x4000_0000;

/// The frame number that stands for a page of kernel memory.
const KERNEL_FRAME: usize = 0x10_0000;

/// What the machine knows of an MDL.
#[derive(Clone, Debug)]
pub(crate) struct Mdl {
    owner: Option<DriverId>,
    site: Site,
    /// Frames of user memory that it describes; empty for kernel memory.
    frames: Vec<u32>,
    /// Its own mapping of these frames.
    view: Option<Va>,
}

fn flags(mdl: Va) -> u16 {
    peek(mdl + FLAGS)
}

fn set_flags(mdl: Va, set: u16, clear: u16) {
    poke(mdl + FLAGS, flags(mdl) & !clear | set);
}

/// `MmGetMdlVirtualAddress` and `MmGetMdlByteCount`.
fn range(mdl: Va) -> (Va, usize) {
    let start: Va = peek(mdl + START_VA);
    let offset: u32 = peek(mdl + BYTE_OFFSET);
    let count: u32 = peek(mdl + BYTE_COUNT);
    (start + offset as usize, count as usize)
}

fn pages(va: Va, len: usize) -> usize {
    (va % PAGE + len).div_ceil(PAGE)
}

/// Makes an MDL for a range, with nothing locked.
fn allocate(k: &mut Kernel, va: Va, len: usize) -> Va {
    let (owner, site) = (k.caller(), k.site());
    let size = MDL_SIZE + 8 * pages(va, len);
    let mdl = k
        .mem
        .alloc(size, Kind::System("an MDL"), false, owner, site, || 0);
    poke(mdl + SIZE, u16::try_from(size).unwrap_or(u16::MAX));
    poke(mdl + START_VA, va & !(PAGE - 1));
    poke(mdl + BYTE_COUNT, u32::try_from(len).unwrap_or(u32::MAX));
    poke(mdl + BYTE_OFFSET, u32::try_from(va % PAGE).unwrap_or(0));
    let mdl_record = Mdl {
        owner,
        site,
        frames: Vec::new(),
        view: None,
    };
    k.mdls.insert(mdl, mdl_record);
    mdl
}

/// Locks the pages of an MDL. User memory is what `mode` may see of it.
fn lock(k: &mut Kernel, mdl: Va, user_mode: bool, write: bool) -> Result<(), NtStatus> {
    let (va, len) = range(mdl);
    let end = va.checked_add(len).ok_or(NtStatus::ACCESS_VIOLATION)?;
    let pfn = mdl + MDL_SIZE;
    if is_user(va) {
        if end > PROBE {
            return Err(NtStatus::ACCESS_VIOLATION);
        }
        let frames = k.user.lock(va, len, write)?;
        for (i, frame) in frames.iter().enumerate() {
            poke(pfn + 8 * i, *frame as usize + 1);
        }
        if let Some(m) = k.mdls.get_mut(&mdl) {
            m.frames = frames;
        }
    } else {
        let live = k
            .mem
            .find(va)
            .is_some_and(|b| b.state == State::Live && va >= b.va && end <= b.va + b.size);
        let stack = k.sched.in_stack(va, len);
        if user_mode || !live && !stack && k.driver_at(va).is_none() {
            return Err(NtStatus::ACCESS_VIOLATION);
        }
        for i in 0..pages(va, len) {
            poke(pfn + 8 * i, KERNEL_FRAME + va / PAGE + i);
        }
    }
    let operation = if write { WRITE_OPERATION } else { 0 };
    set_flags(mdl, PAGES_LOCKED | operation, 0);
    Ok(())
}

/// Gives up an MDL's own mapping.
fn unmap(k: &mut Kernel, mdl: Va) {
    if let Some(view) = k.mdls.get_mut(&mdl).and_then(|m| m.view.take()) {
        k.user.unmap_view(view);
    }
    set_flags(mdl, 0, MAPPED_TO_SYSTEM_VA | PARTIAL_HAS_BEEN_MAPPED);
}

fn unlock(k: &mut Kernel, mdl: Va) {
    unmap(k, mdl);
    if let Some(m) = k.mdls.get_mut(&mdl) {
        for frame in core::mem::take(&mut m.frames) {
            k.user.release(frame);
        }
    }
    set_flags(mdl, 0, PAGES_LOCKED | WRITE_OPERATION);
}

fn forget(k: &mut Kernel, mdl: Va) {
    let site = k.site();
    k.mdls.remove(&mdl);
    k.mem.free(mdl, site);
}

/// What the I/O manager does with a caller's buffer of a direct request.
pub(crate) fn lock_for_request(
    k: &mut Kernel,
    caller: Caller,
    va: Va,
    len: usize,
    write: bool,
) -> Result<Va, NtStatus> {
    let mdl = allocate(k, va, len);
    if let Some(m) = k.mdls.get_mut(&mdl) {
        m.owner = None;
    }
    match lock(k, mdl, caller != Caller::Kernel, write) {
        Ok(()) => Ok(mdl),
        Err(status) => {
            forget(k, mdl);
            Err(status)
        }
    }
}

/// What the I/O manager does with the MDLs of a request that ends: unlocks and frees the list.
/// Gives whether `own`, which it made itself, was among them.
pub(crate) fn release_list(k: &mut Kernel, irp: Irp, own: Va) -> bool {
    let mut found = own == 0;
    let mut mdl = irp.mdl();
    irp.set_mdl(0);
    while k.mdls.contains_key(&mdl) {
        let next = peek(mdl + NEXT);
        found |= mdl == own;
        if flags(mdl) & PAGES_LOCKED != 0 {
            unlock(k, mdl);
        } else {
            unmap(k, mdl);
        }
        forget(k, mdl);
        mdl = next;
    }
    found
}

/// A device's own way to the pages of an MDL, as long as a transfer takes.
#[derive(Debug)]
pub(crate) struct DeviceView {
    view: Va,
    frames: Vec<u32>,
}

/// Lets a device at the user pages that an MDL describes; gives where its first byte is. `None`
/// for kernel memory, which the device reaches as it is.
pub(crate) fn device_view(k: &mut Kernel, mdl: Va) -> Option<(Va, DeviceView)> {
    let frames = k.mdls.get(&mdl).map(|m| m.frames.clone())?;
    if frames.is_empty() {
        return None;
    }
    let view = k.user.map_view(&frames).expect("a device's mapping");
    for frame in &frames {
        k.user.reference(*frame);
    }
    Some((view + range(mdl).0 % PAGE, DeviceView { view, frames }))
}

/// The transfer is over. Whether the pages still belong to another process.
pub(crate) fn end_device_view(k: &mut Kernel, view: &DeviceView) -> bool {
    k.user.unmap_view(view.view);
    let lost = view.frames.iter().any(|f| k.user.has_one_user(*f));
    for frame in &view.frames {
        k.user.release(*frame);
    }
    !lost
}

/// The MDLs that a driver has, those with locked pages or the others.
pub(crate) fn left_by(k: &Kernel, driver: DriverId, locked: bool) -> Vec<String> {
    k.mdls
        .iter()
        .filter(|(va, m)| m.owner == Some(driver) && (flags(**va) & PAGES_LOCKED != 0) == locked)
        .map(|(_, m)| format!("an MDL allocated at {}", k.site_name(m.site)))
        .collect()
}

/// Stops the machine unless `mdl` is an MDL and `right` says that its flags are right.
fn expect(mdl: Va, what: &str, right: impl FnOnce(u16) -> bool) {
    let known = with(|k| k.mdls.contains_key(&mdl));
    if !known {
        fail(rules::MDL_STATE, format!("{what}: {mdl:#x} is not an MDL"));
    }
    let flags = flags(mdl);
    if !right(flags) {
        fail(rules::MDL_STATE, format!("{what}: MdlFlags {flags:#x}"));
    }
}

// ---- functions that raise exceptions ----

macro_rules! raising {
    ($($name:ident => $inner:path;)*) => {
        $(
            #[unsafe(naked)]
            pub(super) extern "C" fn $name() {
                #[cfg(target_arch = "x86_64")]
                naked_asm!(
                    "lea rax, [rip + {inner}]",
                    "jmp {entry}",
                    inner = sym $inner,
                    entry = sym raising_entry,
                );
                #[cfg(target_arch = "aarch64")]
                naked_asm!(
                    "adrp x16, {inner}",
                    "add x16, x16, :lo12:{inner}",
                    "b {entry}",
                    inner = sym $inner,
                    entry = sym raising_entry,
                )
            }
        )*
    };
}

raising! {
    probe_for_read => probe_read;
    probe_for_write => probe_write;
    mm_probe_and_lock_pages => probe_and_lock;
    ex_raise_status => raise_status;
    ex_raise_access_violation => raise_access_violation;
}

fn raised(result: Result<(), NtStatus>) -> u32 {
    result.err().map_or(0, |status| status.0)
}

/// The rule for whatever may raise because of a user address.
fn expect_guard(what: &str) {
    if !call_is_guarded() {
        fail(rules::USER_UNGUARDED, format!("{what} called"));
    }
}

/// The common part of both probes: alignment, then range.
fn probe(va: Va, len: usize, alignment: u32) -> Result<(), NtStatus> {
    if len == 0 {
        return Ok(());
    }
    if !va.is_multiple_of(alignment.max(1) as usize) {
        return Err(NtStatus::DATATYPE_MISALIGNMENT);
    }
    match va.checked_add(len) {
        Some(end) if end <= PROBE => Ok(()),
        _ => Err(NtStatus::ACCESS_VIOLATION),
    }
}

extern "efiapi" fn probe_read(va: Va, len: usize, alignment: u32) -> u32 {
    expect_guard("ProbeForRead");
    raised(probe(va, len, alignment))
}

extern "efiapi" fn probe_write(va: Va, len: usize, alignment: u32) -> u32 {
    expect_guard("ProbeForWrite");
    let result = probe(va, len, alignment).and_then(|()| {
        // One byte of each page is read and written back.
        with(|k| k.user.access(va, len, true)).map_err(|(status, _)| status)
    });
    raised(result)
}

extern "efiapi" fn probe_and_lock(mdl: Va, mode: u8, operation: i32) -> u32 {
    expect(mdl, "MmProbeAndLockPages", |f| {
        f & (PAGES_LOCKED | MAPPED_TO_SYSTEM_VA | SOURCE_IS_NONPAGED_POOL | PARTIAL) == 0
    });
    let (va, _) = range(mdl);
    if is_user(va) || mode != 0 {
        expect_guard("MmProbeAndLockPages");
        let irql = ke::current_irql();
        if irql > APC {
            let what = format!("MmProbeAndLockPages of pageable memory at IRQL {irql}");
            fail(rules::IRQL_CALL, what);
        }
        if !with(|k| k.user.is_own(k.sched.current, va)) {
            fail(
                rules::USER_CONTEXT,
                format!("MmProbeAndLockPages of {va:#x}"),
            );
        }
    }
    // IoReadAccess is 0; IoWriteAccess and IoModifyAccess need a writable page.
    raised(with(|k| lock(k, mdl, mode != 0, operation != 0)))
}

extern "efiapi" fn raise_status(status: u32) -> u32 {
    status
}

extern "efiapi" fn raise_access_violation() -> u32 {
    NtStatus::ACCESS_VIOLATION.0
}

// ---- MDLs ----

pub(super) extern "efiapi" fn io_allocate_mdl(
    va: Va,
    len: u32,
    secondary: u8,
    _charge_quota: u8,
    irp: Va,
) -> Va {
    with(|k| {
        if k.take_injection() {
            return 0;
        }
        let mdl = allocate(k, va, len as usize);
        if irp != 0 {
            let irp = Irp(irp);
            if secondary == 0 {
                irp.set_mdl(mdl);
            } else {
                let mut last = irp.mdl();
                while last != 0 && peek::<Va>(last + NEXT) != 0 {
                    last = peek(last + NEXT);
                }
                poke(last + NEXT, mdl);
            }
        }
        mdl
    })
}

pub(super) extern "efiapi" fn io_free_mdl(mdl: Va) {
    let known = with(|k| k.mdls.contains_key(&mdl));
    if known && flags(mdl) & PAGES_LOCKED != 0 {
        fail(rules::MDL_LEFT_LOCKED, "IoFreeMdl");
    }
    expect(mdl, "IoFreeMdl", |f| {
        f & MAPPED_TO_SYSTEM_VA == 0 || f & PARTIAL != 0
    });
    with(|k| {
        unmap(k, mdl);
        forget(k, mdl);
    });
}

pub(super) extern "efiapi" fn mm_unlock_pages(mdl: Va) {
    expect(mdl, "MmUnlockPages", |f| {
        f & PAGES_LOCKED != 0 && f & (PARTIAL | SOURCE_IS_NONPAGED_POOL) == 0
    });
    with(|k| unlock(k, mdl));
}

pub(super) extern "efiapi" fn mm_build_mdl_for_non_paged_pool(mdl: Va) {
    expect(mdl, "MmBuildMdlForNonPagedPool", |f| {
        f & (PAGES_LOCKED | MAPPED_TO_SYSTEM_VA | PARTIAL) == 0
    });
    let (va, len) = range(mdl);
    let nonpaged = with(|k| {
        k.mem
            .find(va)
            .is_some_and(|b| b.state == State::Live && !b.paged && va + len <= b.va + b.size)
    });
    if !nonpaged {
        fail(
            rules::MDL_STATE,
            format!("MmBuildMdlForNonPagedPool: {va:#x} is not nonpaged pool [C4/7F]"),
        );
    }
    for i in 0..pages(va, len) {
        poke(mdl + MDL_SIZE + 8 * i, KERNEL_FRAME + va / PAGE + i);
    }
    poke(mdl + MAPPED_VA, va);
    set_flags(mdl, SOURCE_IS_NONPAGED_POOL, 0);
}

pub(super) extern "efiapi" fn io_build_partial_mdl(source: Va, target: Va, va: Va, len: u32) {
    expect(source, "IoBuildPartialMdl (source)", |f| {
        f & (PAGES_LOCKED | SOURCE_IS_NONPAGED_POOL | PARTIAL) != 0
    });
    expect(target, "IoBuildPartialMdl (target)", |f| {
        f & (PAGES_LOCKED | MAPPED_TO_SYSTEM_VA) == 0
    });
    let (start, count) = range(source);
    let whole = (start + count).saturating_sub(va);
    let len = if len == 0 { whole } else { len as usize };
    let room = (usize::from(peek::<u16>(target + SIZE)) - MDL_SIZE) / 8;
    if va < start || len > whole || pages(va, len) > room {
        fail(
            rules::MDL_STATE,
            format!("IoBuildPartialMdl: {len} bytes at {va:#x} do not fit source and target"),
        );
    }
    let skip = va / PAGE - start / PAGE;
    let need = pages(va, len);
    for i in 0..need {
        let frame: usize = peek(source + MDL_SIZE + 8 * (skip + i));
        poke(target + MDL_SIZE + 8 * i, frame);
    }
    poke(target + START_VA, va & !(PAGE - 1));
    poke(target + BYTE_OFFSET, u32::try_from(va % PAGE).unwrap_or(0));
    poke(target + BYTE_COUNT, u32::try_from(len).unwrap_or(u32::MAX));
    with(|k| {
        unmap(k, target);
        let frames = k
            .mdls
            .get(&source)
            .and_then(|m| m.frames.get(skip..skip + need))
            .map_or_else(Vec::new, <[u32]>::to_vec);
        if let Some(m) = k.mdls.get_mut(&target) {
            m.frames = frames;
        }
    });
    let nonpaged = flags(source) & SOURCE_IS_NONPAGED_POOL;
    if nonpaged != 0 {
        poke(target + MAPPED_VA, va);
    }
    set_flags(target, PARTIAL | nonpaged, 0);
}

pub(super) extern "efiapi" fn mm_map_locked_pages_specify_cache(
    mdl: Va,
    mode: u8,
    _cache: i32,
    _base: Va,
    bug_check: u32,
    priority: u32,
) -> Va {
    if mode != 0 {
        fail(rules::UNSUPPORTED, "an MDL mapped into user space");
    }
    if bug_check != 0 {
        let what = "MmMapLockedPagesSpecifyCache in KernelMode";
        fail(rules::MDL_BUG_CHECK, what);
    }
    if priority & NO_EXECUTE == 0 {
        fail(rules::MDL_EXECUTABLE, format!("priority {priority:#x}"));
    }
    expect(mdl, "MmMapLockedPagesSpecifyCache", |f| {
        f & (PAGES_LOCKED | PARTIAL) != 0
            && f & (MAPPED_TO_SYSTEM_VA | SOURCE_IS_NONPAGED_POOL) == 0
    });
    let mapped = with(|k| {
        if k.take_injection() {
            return None;
        }
        map(k, mdl)
    });
    mapped.unwrap_or(0)
}

/// Maps the pages that an MDL describes: where. `None`: there is no room.
fn map(k: &mut Kernel, mdl: Va) -> Option<Va> {
    let (va, _) = range(mdl);
    let frames = k.mdls.get(&mdl)?.frames.clone();
    let mapped = if frames.is_empty() {
        // Kernel memory stays where it is.
        va
    } else {
        let view = k.user.map_view(&frames)?;
        k.mdls.get_mut(&mdl)?.view = Some(view);
        view + va % PAGE
    };
    poke(mdl + MAPPED_VA, mapped);
    let partial = if flags(mdl) & PARTIAL == 0 {
        0
    } else {
        PARTIAL_HAS_BEEN_MAPPED
    };
    set_flags(mdl, MAPPED_TO_SYSTEM_VA | partial, 0);
    Some(mapped)
}

/// As a lower driver does that reads the pages of a partial MDL itself: the mapping is left to the
/// driver that made the MDL.
pub(crate) fn map_partial(k: &mut Kernel, mdl: Va) {
    let of = flags(mdl);
    if of & PARTIAL != 0 && of & (MAPPED_TO_SYSTEM_VA | SOURCE_IS_NONPAGED_POOL) == 0 {
        let _ = map(k, mdl);
    }
}

pub(super) extern "efiapi" fn mm_unmap_locked_pages(base: Va, mdl: Va) {
    expect(mdl, "MmUnmapLockedPages", |f| {
        f & MAPPED_TO_SYSTEM_VA != 0 && peek::<Va>(mdl + MAPPED_VA) == base
    });
    with(|k| unmap(k, mdl));
}

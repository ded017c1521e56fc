//! `Ex`: pool, rundown protection, fast mutexes.

use super::ke::{self, Family, current_irql};
use super::{APC, DISPATCH};
use crate::mem::{Kind, State, Va, peek, poke};
use crate::rules;
use crate::sched;
use crate::state::{fail, with};

const POOL_FLAG_UNINITIALIZED: u64 = 0x2;
const POOL_FLAG_NON_PAGED: u64 = 0x40;
const POOL_FLAG_NON_PAGED_EXECUTE: u64 = 0x80;
const POOL_FLAG_PAGED: u64 = 0x100;

pub(super) extern "efiapi" fn ex_allocate_pool2(flags: u64, size: usize, tag: u32) -> Va {
    let irql = current_irql();
    if size == 0 {
        fail(rules::POOL_ZERO, "ExAllocatePool2 with size 0");
    }
    if flags & POOL_FLAG_NON_PAGED_EXECUTE != 0 {
        fail(rules::POOL_EXECUTABLE, "POOL_FLAG_NON_PAGED_EXECUTE");
    }
    let letters = tag.to_le_bytes();
    if letters.iter().all(|b| *b == 0 || *b == b' ') || letters == *b"None" {
        fail(rules::POOL_TAG, format!("tag {tag:#010x}"));
    }
    let paged = flags & POOL_FLAG_PAGED != 0;
    if !paged && flags & POOL_FLAG_NON_PAGED == 0 {
        // No pool type given: the function fails.
        return 0;
    }
    if paged && irql > APC {
        fail(rules::POOL_IRQL, format!("at IRQL {irql}"));
    }
    let uninitialised = flags & POOL_FLAG_UNINITIALIZED != 0;
    with(|k| {
        if k.take_injection() {
            return 0;
        }
        let (owner, site) = (k.caller(), k.site());
        let mut old = crate::leaks::old_content(&k.config, &mut k.rng, crate::POOL_CANARY);
        k.mem.alloc(size, Kind::Pool(tag), paged, owner, site, || {
            if uninitialised { old() } else { 0 }
        })
    })
}

/// Allocates what the machine hands to a driver that frees it with `ExFreePool`.
pub(crate) fn pool_for_driver(bytes: &[u8], paged: bool, tag: [u8; 4]) -> Va {
    with(|k| {
        let (owner, site) = k.asker();
        let tag = Kind::Pool(u32::from_le_bytes(tag));
        let mut content = bytes.iter();
        k.mem
            .alloc(bytes.len().max(1), tag, paged, owner, site, || {
                content.next().copied().unwrap_or(0)
            })
    })
}

enum Found {
    Good,
    Bad(rules::Rule, String),
}

/// `ExFreePoolWithTag`; no tag = any.
pub(crate) fn free_pool(va: Va, tag: Option<u32>) {
    let irql = current_irql();
    let found = with(|k| {
        let Some(block) = k.mem.find(va).cloned() else {
            return Found::Bad(rules::POOL_BAD_FREE, format!("{va:#x}"));
        };
        if block.va != va {
            return Found::Bad(
                rules::POOL_BAD_FREE,
                format!("{va:#x} is inside a block that starts at {:#x}", block.va),
            );
        }
        let Kind::Pool(real) = block.kind else {
            let rule = if block.kind == Kind::Irp {
                rules::OWN_IRP_POOL
            } else {
                rules::POOL_BAD_FREE
            };
            return Found::Bad(
                rule,
                format!(
                    "{va:#x} is {}, not pool",
                    crate::fault::describe(block.kind)
                ),
            );
        };
        if block.state == State::Freed {
            return Found::Bad(
                rules::POOL_DOUBLE_FREE,
                format!("first freed by {}", k.site_name(block.freed)),
            );
        }
        if let Some(tag) = tag
            && tag != real
        {
            return Found::Bad(
                rules::POOL_TAG_MISMATCH,
                format!("allocated with {real:#010x}, freed with {tag:#010x}"),
            );
        }
        if block.paged && irql > APC || irql > DISPATCH {
            return Found::Bad(rules::POOL_FREE_IRQL, format!("at IRQL {irql}"));
        }
        if let Some(what) = ke::queued_in(k, va, block.size) {
            return Found::Bad(rules::DPC_BUSY, what);
        }
        if let Some(what) = ke::busy_in(k, va, block.size)
            .or_else(|| super::work::busy_in(k, va, block.size))
            .or_else(|| crate::iomgr::busy_in(k, va, block.size))
        {
            return Found::Bad(rules::FREED_BUSY, what);
        }
        ke::forget(k, va, block.size);
        k.remove_locks
            .retain(|l, _| !(va..va + block.size).contains(l));
        let site = k.site();
        if k.mem.free(va, site) {
            Found::Good
        } else {
            Found::Bad(
                rules::POOL_CORRUPT,
                format!(
                    "next to a {}-byte block allocated by {}",
                    block.size,
                    k.site_name(block.allocated)
                ),
            )
        }
    });
    if let Found::Bad(rule, what) = found {
        fail(rule, what);
    }
}

pub(super) extern "efiapi" fn ex_free_pool(va: Va) {
    free_pool(va, None);
}

pub(super) extern "efiapi" fn ex_free_pool_with_tag(va: Va, tag: u32) {
    // Tag 0 frees any block, as ExFreePool does.
    free_pool(va, (tag != 0).then_some(tag));
}

// ---- rundown protection: one word, count * 2, bit 0 = run down ----

pub(super) extern "efiapi" fn ex_initialize_rundown_protection(rundown: Va) {
    poke(rundown, 0_usize);
}

pub(super) extern "efiapi" fn ex_acquire_rundown_protection(rundown: Va) -> u8 {
    let word: usize = peek(rundown);
    if word & 1 != 0 {
        return 0;
    }
    poke(rundown, word + 2);
    1
}

pub(super) extern "efiapi" fn ex_release_rundown_protection(rundown: Va) {
    let word: usize = peek(rundown);
    if word < 2 {
        fail(
            rules::REFERENCE,
            "ExReleaseRundownProtection without acquire",
        );
    }
    poke(rundown, word - 2);
}

pub(super) extern "efiapi" fn ex_wait_for_rundown_protection_release(rundown: Va) {
    poke(rundown, peek::<usize>(rundown) | 1);
    sched::wait("rundown protection", None, move |k| {
        !ke::alive(k, rundown) || peek::<usize>(rundown) <= 1
    });
}

pub(super) extern "efiapi" fn ex_rundown_completed(rundown: Va) {
    poke(rundown, 1_usize);
}

// ---- fast mutexes: FAST_MUTEX { Count, Owner, Contention, Event, OldIrql } ----

pub(super) extern "efiapi" fn ex_initialize_fast_mutex(mutex: Va) {
    if !ke::is_free(mutex) {
        fail(rules::LOCK_REINIT, format!("fast mutex {mutex:#x}"));
    }
    poke(mutex, 1_i32);
    poke(mutex + 8, 0_usize);
}

fn lock(mutex: Va) {
    let old = current_irql();
    ke::set_irql(APC);
    ke::acquire(mutex, Family::FastMutex, old);
    poke(mutex, 0_i32);
    poke(mutex + 0x30, u32::from(old));
    with(|k| k.sched.thread().guarded += 1);
}

pub(super) extern "efiapi" fn ex_acquire_fast_mutex(mutex: Va) {
    if peek::<i32>(mutex) != 1 && ke::is_free(mutex) {
        fail(rules::LOCK_UNINITIALISED, format!("fast mutex {mutex:#x}"));
    }
    lock(mutex);
}

pub(super) extern "efiapi" fn ex_try_to_acquire_fast_mutex(mutex: Va) -> u8 {
    if !ke::is_free(mutex) {
        return 0;
    }
    lock(mutex);
    1
}

pub(super) extern "efiapi" fn ex_release_fast_mutex(mutex: Va) {
    let held = ke::release(mutex, Family::FastMutex);
    poke(mutex, 1_i32);
    with(|k| k.sched.thread().guarded -= 1);
    ke::set_irql(held.old_irql);
}

pub(super) extern "efiapi" fn ex_get_previous_mode() -> u8 {
    0
}

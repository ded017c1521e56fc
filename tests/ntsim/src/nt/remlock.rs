//! Remove locks. The lock's memory keeps the documented common block (Removed, `IoCount`, an event);
//! who holds it with which tag is the machine's own knowledge.

use super::types::Header;
use crate::NtStatus;
use crate::mem::{Va, poke};
use crate::rules;
use crate::sched;
use crate::state::{Kernel, fail, with};

#[derive(Clone, Debug, Default)]
pub(crate) struct RemoveLock {
    tags: Vec<usize>,
    removed: bool,
}

pub(super) extern "efiapi" fn io_initialize_remove_lock_ex(
    lock: Va,
    _tag: u32,
    _max_minutes: u32,
    _high_water: u32,
    _size: u32,
) {
    enum Place {
        Good,
        Again,
        Outside,
    }
    let place = with(|k| {
        if k.remove_locks.contains_key(&lock) {
            return Place::Again;
        }
        let inside = k.devices.values().any(|d| {
            let (start, len) = d.extension;
            !d.deleted && (start..start + len).contains(&lock)
        });
        if inside { Place::Good } else { Place::Outside }
    });
    match place {
        Place::Good => {}
        Place::Again => fail(rules::REMLOCK_REINIT, format!("remove lock {lock:#x}")),
        Place::Outside => fail(rules::REMLOCK_PLACE, format!("remove lock {lock:#x}")),
    }
    poke(lock, 0_u32);
    poke(lock + 4, 1_i32);
    Header(lock + 8).initialise(1, 0x18, 0);
    with(|k| k.remove_locks.insert(lock, RemoveLock::default()));
}

fn publish(k: &mut Kernel, lock: Va) -> bool {
    let Some(r) = k.remove_locks.get(&lock) else {
        return false;
    };
    poke(lock, u8::from(r.removed));
    let count = i32::try_from(r.tags.len()).unwrap_or(i32::MAX - 1);
    poke(lock + 4, count + i32::from(!r.removed));
    true
}

pub(super) extern "efiapi" fn io_acquire_remove_lock_ex(
    lock: Va,
    tag: usize,
    _file: Va,
    _line: u32,
    _size: u32,
) -> i32 {
    let result = with(|k| {
        let r = k.remove_locks.get_mut(&lock)?;
        if r.removed {
            return Some(NtStatus::DELETE_PENDING);
        }
        r.tags.push(tag);
        publish(k, lock);
        Some(NtStatus::SUCCESS)
    });
    match result {
        Some(status) => status.raw(),
        None => fail(
            rules::REMLOCK_PLACE,
            format!("remove lock {lock:#x} was never initialised"),
        ),
    }
}

/// Takes one holder with this tag off the list.
fn drop_tag(lock: Va, tag: usize) -> bool {
    with(|k| {
        let Some(r) = k.remove_locks.get_mut(&lock) else {
            return false;
        };
        let Some(at) = r.tags.iter().position(|t| *t == tag) else {
            return false;
        };
        r.tags.remove(at);
        publish(k, lock)
    })
}

pub(super) extern "efiapi" fn io_release_remove_lock_ex(lock: Va, tag: usize, _size: u32) {
    if !drop_tag(lock, tag) {
        fail(
            rules::REMLOCK_TAG,
            format!("remove lock {lock:#x}, tag {tag:#x}"),
        );
    }
}

pub(super) extern "efiapi" fn io_release_remove_lock_and_wait_ex(lock: Va, tag: usize, _size: u32) {
    if !with(crate::iomgr::in_remove_device) {
        fail(
            rules::REMLOCK_WAIT,
            "IoReleaseRemoveLockAndWait outside IRP_MN_REMOVE_DEVICE",
        );
    }
    if !drop_tag(lock, tag) {
        fail(
            rules::REMLOCK_WAIT,
            format!("tag {tag:#x} was not acquired"),
        );
    }
    with(|k| {
        if let Some(r) = k.remove_locks.get_mut(&lock) {
            r.removed = true;
        }
        publish(k, lock);
    });
    sched::wait("the remove lock", None, move |k| {
        k.remove_locks.get(&lock).is_none_or(|r| r.tags.is_empty())
    });
    super::ke::set_event(lock + 8);
}

/// Forgets the remove locks of an extension that is gone.
pub(crate) fn forget(k: &mut Kernel, start: Va, len: usize) {
    k.remove_locks
        .retain(|l, _| !(start..start + len).contains(l));
}

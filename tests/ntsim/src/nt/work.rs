//! Work items.

use super::{Entry, guest};
use crate::mem::{Kind, Va};
use crate::rules;
use crate::sched::ThreadKind;
use crate::state::{DriverId, Kernel, fail, with};

/// What the machine keeps of an `IO_WORKITEM`.
#[derive(Clone, Debug)]
pub(crate) struct WorkItem {
    device: Va,
    queued: bool,
    pub owner: Option<DriverId>,
}

pub(super) extern "efiapi" fn io_allocate_work_item(device: Va) -> Va {
    let known = with(|k| k.devices.get(&device).is_some_and(|d| !d.deleted));
    if !known {
        fail(
            rules::FORWARD_BAD_DEVICE,
            format!("IoAllocateWorkItem with {device:#x}"),
        );
    }
    with(|k| {
        let Some((va, owner)) = k.make(0x58, Kind::WorkItem) else {
            return 0;
        };
        let item = WorkItem {
            device,
            queued: false,
            owner,
        };
        k.work_items.insert(va, item);
        va
    })
}

fn queue(item: Va, routine: Va, context: usize, extended: bool) {
    let found = with(|k| {
        let w = k.work_items.get_mut(&item)?;
        if core::mem::replace(&mut w.queued, true) {
            return None;
        }
        let (device, owner) = (w.device, w.owner);
        if let Some(d) = k.devices.get_mut(&device) {
            d.refs += 1;
        }
        Some((device, owner))
    });
    let Some((device, owner)) = found else {
        fail(
            rules::FREED_BUSY,
            format!("work item {item:#x} not allocated, or queued twice"),
        );
    };
    with(|k| {
        let tid = k.sched.spawn(
            "work item",
            ThreadKind::WorkItem,
            0,
            Box::new(move || {
                // From here on the routine may queue or free the item.
                with(|k| {
                    if let Some(w) = k.work_items.get_mut(&item) {
                        w.queued = false;
                    }
                });
                let entry = Entry::now();
                if extended {
                    guest(routine, &[device, context, item]);
                } else {
                    guest(routine, &[device, context]);
                }
                entry.check("work item routine");
                crate::nt::io::dereference(device);
            }),
        );
        if let Some(t) = k.sched.threads.get_mut(&tid) {
            t.owner = owner;
        }
    });
}

pub(super) extern "efiapi" fn io_queue_work_item(
    item: Va,
    routine: Va,
    _queue: i32,
    context: usize,
) {
    queue(item, routine, context, false);
}

pub(super) extern "efiapi" fn io_queue_work_item_ex(
    item: Va,
    routine: Va,
    _queue: i32,
    context: usize,
) {
    queue(item, routine, context, true);
}

pub(super) extern "efiapi" fn io_free_work_item(item: Va) {
    let state = with(|k| {
        let w = k.work_items.get(&item)?;
        let queued = w.queued;
        if !queued {
            k.work_items.remove(&item);
            let site = k.site();
            k.mem.free(item, site);
        }
        Some(queued)
    });
    match state {
        Some(false) => {}
        Some(true) => fail(rules::FREED_BUSY, "IoFreeWorkItem on a queued work item"),
        None => fail(
            rules::POOL_BAD_FREE,
            format!("IoFreeWorkItem({item:#x}): not a work item"),
        ),
    }
}

pub(crate) fn busy_in(k: &Kernel, start: Va, len: usize) -> Option<String> {
    k.work_items
        .iter()
        .find(|(va, w)| w.queued && (start..start + len).contains(*va))
        .map(|(va, _)| format!("queued work item at +{:#x}", va - start))
}

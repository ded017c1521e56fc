//! What a driver left behind when it was unloaded.

use crate::mem::Va;
use crate::state::{Kernel, fail, with};
use crate::{DriverId, etw, fault, mem, nt, rules, sched};

fn device_name(k: &Kernel, device: Va) -> String {
    let name = k.devices.get(&device).and_then(|d| d.name.clone());
    name.unwrap_or_else(|| format!("device {device:#x}"))
}

/// Lists what a driver left behind, by kind; then takes its image away.
pub(crate) fn after_unload(driver: DriverId) {
    if let Some(left) = with(|k| nt::interrupt::connected_by(k, driver)) {
        fail(rules::INTERRUPT_LEFT, format!("{left} at unload"));
    }
    let locked = with(|k| nt::mm::left_by(k, driver, true));
    if !locked.is_empty() {
        fail(rules::MDL_LEFT_LOCKED, locked.join("; "));
    }
    let (unload, leak) = with(|k| leftovers(k, driver));
    if !unload.is_empty() {
        fail(rules::UNLOAD_LEFT, unload.join("; "));
    }
    if !leak.is_empty() {
        fail(rules::LEAK, leak.join("; "));
    }
    with(|k| {
        let d = &mut k.drivers[driver.0];
        d.loaded = false;
        if let Some(image) = &d.image {
            image.seal();
            let (base, size) = (image.base, image.size);
            k.mem.drop_sections(base, size);
        }
        let d = &k.drivers[driver.0];
        let name = d.name.clone();
        k.note(format!("{name} unloaded"));
    });
}

fn leftovers(k: &Kernel, driver: DriverId) -> (Vec<String>, Vec<String>) {
    let mut unload: Vec<String> = Vec::new();
    let mut leak: Vec<String> = Vec::new();
    for d in k.devices.values().filter(|d| d.driver == driver) {
        let name = d.name.clone().unwrap_or_else(|| "unnamed".to_owned());
        if d.deleted {
            let by = d.holders.iter().filter(|(_, n)| **n > 0);
            let by: Vec<_> = by.map(|(d, _)| k.driver(*d).name.as_str()).collect();
            let by = by.join(", ");
            leak.push(format!(
                "{} references to device {name}, taken by {by}",
                d.refs
            ));
        } else {
            unload.push(format!("device {name}"));
        }
    }
    for l in k.links.values().filter(|l| l.owner == Some(driver)) {
        unload.push(format!("symbolic link {}", l.name));
    }
    for i in &k.interfaces {
        if i.driver == Some(driver) && i.enabled {
            unload.push(format!("enabled interface {}", i.link));
        }
    }
    for (tid, t) in &k.sched.threads {
        if t.owner == Some(driver) {
            if !k.sched.is_done(*tid) {
                unload.push(format!("running system thread {tid}"));
            }
            let refs = k.refs.get(&t.object).copied().unwrap_or(1);
            if refs > 1 {
                leak.push(format!("{} references to thread {tid}", refs - 1));
            }
        }
    }
    let busy = k
        .sched
        .threads
        .iter()
        .filter(|(t, th)| {
            matches!(
                th.kind,
                sched::ThreadKind::WorkItem | sched::ThreadKind::Dpc
            ) && th.owner == Some(driver)
                && !k.sched.is_done(**t)
        })
        .count();
    if busy > 0 {
        unload.push(format!("{busy} work items or DPCs still to run"));
    }
    let items = k
        .work_items
        .values()
        .filter(|w| w.owner == Some(driver))
        .count();
    if items > 0 {
        unload.push(format!("{items} work items"));
    }
    if let Some(image) = &k.driver(driver).image {
        unload.extend(nt::ke::armed_in_image(k, image.base, image.size));
    }
    let timers = nt::ke::ex_timers_of(k, driver);
    if timers > 0 {
        unload.push(format!("{timers} EX_TIMERs"));
    }
    etw::left_by(k, driver, &mut unload, &mut leak);
    let irps = k.io.owned_by(driver);
    if irps > 0 {
        unload.push(format!("{irps} IRPs of its own"));
    }
    for d in k.devices.values().filter(|d| d.driver != driver) {
        let held = d.holders.get(&driver).copied().unwrap_or(0);
        if held > 0 {
            leak.push(format!("{held} references to {}", device_name(k, d.va)));
        }
    }
    for (device, site) in k.io.files_of(driver) {
        leak.push(format!(
            "file object of {} from {}",
            device_name(k, device),
            k.site_name(site)
        ));
    }
    for h in k.handles.values().filter(|h| h.owner == Some(driver)) {
        leak.push(format!("handle opened at {}", k.site_name(h.site)));
    }
    leak.extend(nt::mm::left_by(k, driver, false));
    for b in k.mem.live_blocks().filter(|b| b.owner == Some(driver)) {
        if let mem::Kind::Pool(_) = b.kind {
            leak.push(format!(
                "{} bytes of {} allocated at {}",
                b.size,
                fault::describe(b.kind),
                k.site_name(b.allocated)
            ));
        }
    }
    (unload, leak)
}

//! Enumeration, and devices that go and come back.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{Bench, code, each_seed, opened};
use ntsim::trace::{EventKind, pnp_minor_name};
use ntsim::{Bugcheck, DevNode, Machine, NodeState, NtStatus};

/// PnP minors that `faulty-driver` got since event number `from`; the device of an IRP is not told.
fn minors(b: &Bench, from: usize) -> Vec<&'static str> {
    b.machine.trace()[from..]
        .iter()
        .filter_map(|e| match &e.kind {
            EventKind::Dispatch {
                function: (0x1B, minor),
                ..
            } => Some(pnp_minor_name(*minor)),
            _ => None,
        })
        .collect()
}

fn child(b: &Bench) -> DevNode {
    b.machine.children(b.node)[0].0
}

#[test]
fn a_child_tells_who_it_is() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let ids = b.machine.device_ids(child(&b));
    assert_eq!(ids.device_id, r"MISB\CHILD");
    assert_eq!(ids.instance, "0");
    assert_eq!(ids.hardware_ids, [r"MISB\CHILD"]);
    assert_eq!(ids.compatible_ids, [r"MISB\GENERIC"]);
    assert_eq!(ids.container_id, "{01234567-89AB-cdef-0123-456789abcdef}");
    assert_eq!(
        (ids.description.as_str(), ids.location.as_str()),
        ("Child", "Child")
    );
    // UniqueID, RawDeviceOK
    assert_eq!(ids.capabilities & 0x140, 0x140);
    let all = minors(&b, 0);
    for minor in [
        "QUERY_ID",
        "QUERY_CAPABILITIES",
        "QUERY_DEVICE_TEXT",
        "QUERY_RESOURCES",
    ] {
        assert!(all.contains(&minor), "{minor}");
    }
    Ok(())
}

#[test]
fn a_child_no_longer_reported_is_removed_by_a_worker() -> Result<(), Bugcheck> {
    each_seed(|b, m, h| {
        let child = child(b);
        m.run_until_idle()?;
        let from = m.trace().len();
        m.device_io_control(h, code(0x806), &[], 0)?;
        m.run_until_idle()?;
        assert_eq!(m.node_state(child), NodeState::Removed);
        assert_eq!(m.children(b.node), []);
        let all = minors(b, from);
        assert_eq!(
            all,
            [
                "QUERY_DEVICE_RELATIONS",
                "SURPRISE_REMOVAL",
                "REMOVE_DEVICE"
            ]
        );
        let noted = m.trace()[from..].iter().any(
            |e| matches!(&e.kind, EventKind::Note(t) if t.starts_with("bus relations of ACPI")),
        );
        assert!(noted);
        // It comes back as a new device.
        m.device_io_control(h, code(0x806), &[], 0)?;
        m.run_until_idle()?;
        assert_eq!(m.children(b.node).len(), 1);
        b.down(h)
    })
}

#[test]
fn a_removed_child_still_reported_starts_again() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let m = &b.machine;
    let child = child(&b);
    m.remove(child)?;
    assert_eq!(m.node_state(child), NodeState::Found);
    m.enumerate(b.node)?;
    assert_eq!(m.start(child)?, NtStatus::SUCCESS);
    assert_eq!(m.node_state(child), NodeState::Started);
    // Removed, and then not reported any more: a second REMOVE lets its bus driver delete it.
    m.remove(child)?;
    m.device_io_control(h, code(0x806), &[], 0)?;
    m.run_until_idle()?;
    assert_eq!(m.node_state(child), NodeState::Removed);
    b.down(h)
}

#[test]
fn who_refuses_a_query_gets_its_cancel() -> Result<(), Bugcheck> {
    // The FDO refuses; the child, asked before it, is told too.
    let (b, h) = opened(43)?;
    let m = &b.machine;
    m.close(h)?;
    for (query, asked, told) in [
        (
            Machine::query_remove as fn(&_, _) -> _,
            "QUERY_REMOVE_DEVICE",
            "CANCEL_REMOVE_DEVICE",
        ),
        (
            Machine::query_stop,
            "QUERY_STOP_DEVICE",
            "CANCEL_STOP_DEVICE",
        ),
    ] {
        let from = m.trace().len();
        assert_eq!(query(m, b.node)?, NtStatus::UNSUCCESSFUL, "{asked}");
        assert_eq!(minors(&b, from), [asked, asked, told, told]);
    }
    Ok(())
}

#[test]
fn removal_waits_for_the_last_file_object() -> Result<(), Bugcheck> {
    let (b, first) = opened(0)?;
    let m = &b.machine;
    let second = m.open(r"\\.\MISB", ntsim::Caller::User32)?.expect("open");
    m.unplug(b.node)?;
    for h in [first, second] {
        assert_eq!(m.node_state(b.node), NodeState::SurpriseRemoved);
        m.close(h)?;
    }
    assert_eq!(m.node_state(b.node), NodeState::Removed);
    m.unload(b.driver)
}

#[test]
fn a_pdo_that_is_gone_but_not_removed_is_not_deleted() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let m = &b.machine;
    let child = child(&b);
    let devices = m.devices();
    let pdo = devices
        .iter()
        .find(|d| d.is_pdo && d.driver == "faulty-driver");
    let name = pdo.and_then(|d| d.name.clone()).expect("a name");
    let open = m.open(&name, ntsim::Caller::User64)?.expect("open");
    m.device_io_control(h, code(0x806), &[], 0)?;
    m.run_until_idle()?;
    // The handle keeps the child.
    assert_eq!(m.node_state(child), NodeState::SurpriseRemoved);
    let check = m
        .device_io_control(h, code(0x826), &[], 0)
        .expect_err("deleted too early");
    assert_eq!(check.rule, ntsim::rules::PDO_DELETED_EARLY);
    let _ = open;
    Ok(())
}

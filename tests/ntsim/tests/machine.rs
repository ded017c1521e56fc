//! The machine's own features, with `faulty-driver` on its good side.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{bench, code, each_seed, image, opened, opened_on, panic_of, up};
use ntsim::trace::EventKind;
use ntsim::{
    Bugcheck, Caller, Config, LoadError, Machine, NodeState, NtStatus, RegValue, When, rules,
};

#[test]
fn a_failing_driver_entry_is_reported() {
    let machine = Machine::boot(Config::default());
    let result = machine.load_driver(image(), "faulty-driver", &[("Sin", RegValue::Dword(30))]);
    assert!(matches!(
        result,
        Err(LoadError::EntryFailed(NtStatus::UNSUCCESSFUL))
    ));
}

#[test]
fn a_file_that_is_no_driver_is_refused() {
    let machine = Machine::boot(Config::default());
    let result = machine.load_driver(env!("CARGO_MANIFEST_PATH"), "x", &[]);
    assert!(matches!(result, Err(LoadError::Image(_))));
}

#[test]
fn buffered_reads_and_writes_work() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let r = b.machine.read(h, 10)?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 10));
    assert_eq!(r.output, [0x5A; 10]);
    let r = b.machine.write(h, b"text")?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 4));
    Ok(())
}

#[test]
fn opens_fail_where_nothing_is_started() -> Result<(), Bugcheck> {
    let b = bench(Config::default(), 0);
    let m = &b.machine;
    let missing = m.open(r"\\.\MISB", Caller::User64)?;
    assert_eq!(missing, Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    m.add_device(b.node, b.driver)?;
    let early = m.open(r"\\.\MISB", Caller::User64)?;
    assert_eq!(early, Err(NtStatus::NO_SUCH_DEVICE));
    m.start(b.node)?;
    let by_interface = m.interfaces()[0].1.replace(r"\??\", r"\\?\");
    for name in [
        r"\\.\MISB",
        r"\Device\Misbehave0",
        r"\DosDevices\MISB",
        &by_interface,
    ] {
        let h = m.open(name, Caller::User32)?.expect(name);
        m.close(h)?;
    }
    Ok(())
}

#[test]
fn a_hook_unplugs_in_the_middle() -> Result<(), Bugcheck> {
    each_seed(|b, m, h| {
        let node = b.node;
        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        m.at(When::PortAccess(m.port_accesses() + 2), move |m| {
            m.unplug(node).expect("unplug");
            flag.set(true);
        });
        // The request touches ports, then waits for its thread; the device goes meanwhile.
        m.device_io_control(h, code(0x805), &[], 0)?;
        m.run_for(10_000_000)?;
        assert!(ran.get());
        assert_eq!(m.node_state(node), NodeState::SurpriseRemoved);
        // The last close lets the removal finish.
        m.close(h)?;
        assert_eq!(m.node_state(node), NodeState::Removed);
        m.unload(b.driver)
    })
}

#[test]
fn a_timed_hook_cancels() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let m = &b.machine;
    let waiting = m.start_io_control(h, code(0x801), &[], 0);
    let request = waiting.clone();
    let at = m.now() + 5_000_000;
    m.at(When::Time(at), move |m| {
        assert!(m.cancel(&request).expect("cancel"));
    });
    let r = m.finish(&waiting)?;
    assert_eq!(r.status, NtStatus::CANCELLED);
    assert!(r.took >= 4_000_000 && r.took < 6_000_000, "{}", r.took);
    Ok(())
}

/// Everything up to the unload, whatever fails on the way; gives the number of failable calls.
fn life_with_failure(k: u64, seed: u64) -> Result<u64, Bugcheck> {
    let b = bench(Config::seeded(seed), 0);
    let m = &b.machine;
    let before = m.failable_calls();
    if k > 0 {
        m.inject_failure(k);
    }
    if m.add_device(b.node, b.driver)?.is_success() {
        if m.start(b.node)?.is_success()
            && let Ok(h) = m.open(r"\\.\MISB", Caller::User64)?
        {
            m.device_io_control(h, code(0x805), &[], 0)?;
            m.device_io_control(h, code(0x803), &[], 0)?;
            m.close(h)?;
        }
        if m.node_state(b.node) == NodeState::Started {
            m.remove(b.node)?;
        }
    }
    m.unload(b.driver)?;
    if k > 0 {
        assert_eq!(m.failed_calls().len(), 1);
    }
    Ok(m.failable_calls() - before)
}

#[test]
fn every_single_failure_is_survived() {
    let total = life_with_failure(0, 1).expect("no failure");
    assert!(total > 10, "{total}");
    for k in 1..=total {
        if let Err(check) = life_with_failure(k, 1) {
            panic!("failure {k} of {total}: {check}");
        }
    }
}

/// Names and times of a run's kernel calls.
fn story(seed: u64) -> Vec<(u64, u32, &'static str)> {
    let (b, h) = opened_on(
        Config {
            seed,
            trace_calls: true,
            ..Config::default()
        },
        0,
    )
    .expect("up");
    b.machine
        .device_io_control(h, code(0x805), &[], 0)
        .expect("all");
    b.machine
        .trace()
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::Call { name, .. } => Some((e.at, e.thread, name)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let first = story(7);
    assert!(first.len() > 100);
    assert_eq!(first, story(7));
    assert!((8..20).any(|seed| story(seed) != first));
}

#[test]
fn a_stopped_machine_refuses_work() {
    let b = bench(Config::default(), 7);
    let first = b.machine.add_device(b.node, b.driver).expect_err("a sin");
    assert_eq!(first.rule, rules::DEVICE_INITIALIZING);
    let second = b.machine.start(b.node).expect_err("stopped");
    assert_eq!(first, second);
    assert_eq!(b.machine.bugcheck(), Some(first));
}

#[test]
fn a_models_panic_reaches_the_test() {
    struct Broken;
    impl ntsim::PortDevice for Broken {
        fn read(&mut self, _: u64, _: usize, _: u16, _: ntsim::Width) -> u32 {
            0
        }
        fn write(&mut self, _: u64, _: usize, _: u16, _: ntsim::Width, _: u32) {
            panic!("the model is broken");
        }
    }
    let text = panic_of(|| {
        let b = bench(Config::default(), 0);
        b.machine.unmap_ports(0x378);
        b.machine
            .map_ports(0x378, 8, 0, Rc::new(std::cell::RefCell::new(Broken)));
        let _ = up(&b);
    });
    assert_eq!(text, "the model is broken");
}

#[test]
fn memory_and_time_are_counted() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let before = b.machine.times();
    b.machine.device_io_control(h, code(0x805), &[], 0)?;
    let after = b.machine.times();
    assert_eq!(after.stalled - before.stalled, 10_000);
    assert_eq!(after.port_accesses - before.port_accesses, 12);
    assert_eq!(after.unanswered - before.unanswered, 2);
    assert!(after.sleeping > before.sleeping);
    Ok(())
}

#[test]
fn many_requests_cost_little() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(
        Config {
            trace_limit: 0,
            ..Config::default()
        },
        0,
    )?;
    for _ in 0..20_000 {
        b.machine.device_io_control(h, code(0x800), b"hello", 8)?;
    }
    assert_eq!(b.machine.live_irps(), 0);
    // Half of them pended by one thread and finished by another.
    for _ in 0..5_000 {
        let waiting = b.machine.start_io_control(h, code(0x801), &[], 0);
        b.machine.run_for(1_000)?;
        b.machine.device_io_control(h, code(0x802), &[], 0)?;
        b.machine.finish(&waiting)?;
    }
    assert_eq!(b.machine.live_irps(), 0);
    Ok(())
}

#[test]
fn every_stack_fails_once() {
    let seen = ntsim::SeenStacks::default();
    let mut runs = 0;
    loop {
        let before = seen.len();
        let b = bench_with_stacks(&seen);
        let m = &b.machine;
        let life = || -> Result<(), Bugcheck> {
            if m.add_device(b.node, b.driver)?.is_success() && m.start(b.node)?.is_success() {
                if let Ok(h) = m.open(r"\\.\MISB", Caller::User64)? {
                    m.device_io_control(h, code(0x805), &[], 0)?;
                    m.close(h)?;
                }
                m.remove(b.node)?;
            }
            m.unload(b.driver)
        };
        if let Err(check) = life() {
            panic!("run {runs}, {:?}: {check}", m.failed_calls());
        }
        runs += 1;
        if seen.len() == before {
            break;
        }
    }
    assert!(seen.len() > 10, "{}", seen.len());
    assert!(runs > 5, "{runs}");
}

fn bench_with_stacks(seen: &ntsim::SeenStacks) -> common::Bench {
    let b = bench(Config::default(), 0);
    b.machine.fail_new_stacks(seen);
    b
}

#[test]
fn a_bugcheck_names_its_callers() {
    let (b, h) = opened(0).expect("up");
    // Sin 38, a panic, goes through core's functions to the panic handler.
    let check = b
        .machine
        .device_io_control(h, 0x0022_2400 + 4 * 38, &[], 0)
        .expect_err("a panic");
    assert!(check.frames.len() >= 3, "{check}");
    assert!(check.frames.iter().all(|f| f.0 == "faulty-driver"));
}

#[test]
fn resource_requirements_pass_through() -> Result<(), Bugcheck> {
    let b = bench(Config::default(), 0);
    b.machine.add_device(b.node, b.driver)?;
    let list: Vec<u8> = [40_u32, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let (status, back) = b.machine.filter_resource_requirements(b.node, &list)?;
    assert_eq!(status, NtStatus::NOT_SUPPORTED);
    assert_eq!(back, list);
    Ok(())
}

#[test]
fn all_unknown_imports_are_named_at_once() {
    let mut bytes = std::fs::read(image()).expect("the image");
    let names = [&b"KeStallExecutionProcessor"[..], b"IoFreeWorkItem"];
    for name in names {
        let at = bytes
            .windows(name.len())
            .position(|w| w == name)
            .expect("an import");
        bytes[at + name.len() - 1] = b'Q';
    }
    let file = std::env::temp_dir().join(format!("ntsim-{}.sys", std::process::id()));
    std::fs::write(&file, bytes).expect("a file");
    let machine = Machine::boot(Config::default());
    let result = machine.load_driver(&file, "x", &[]);
    std::fs::remove_file(&file).expect("gone");
    let Err(LoadError::UnknownImports(list)) = result else {
        panic!("{result:?}");
    };
    let list: Vec<_> = list.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(list, ["IoFreeWorkIteQ", "KeStallExecutionProcessoQ"]);
}

#[test]
fn kernel_callers_come_at_dispatch_level() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let h = b
        .machine
        .open(r"\Device\Misbehave0", Caller::Kernel)?
        .expect("open");
    let r = b
        .machine
        .internal_device_control_at_dispatch(h, code(0x800), &[], 0)?;
    assert_eq!(r.status, NtStatus::INVALID_DEVICE_REQUEST);
    Ok(())
}

#[test]
fn a_kernel_component_stays_at_dispatch_level() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let name = r"\Device\Misbehave0";
    let h = b.machine.open(name, Caller::Kernel)?.expect("open");
    // Some of everything, and much of that is for PASSIVE_LEVEL only.
    let everything = || b.machine.device_io_control(h, code(0x805), &[], 0);
    assert_eq!(everything()?.status, NtStatus::SUCCESS);
    b.machine.use_at_dispatch(h, true);
    let echo = b.machine.device_io_control(h, code(0x800), b"abc", 3)?;
    assert_eq!(echo.output, b"abc");
    b.machine.use_at_dispatch(h, false);
    assert_eq!(everything()?.status, NtStatus::SUCCESS);
    b.machine.use_at_dispatch(h, true);
    assert!(everything().is_err());
    Ok(())
}

#[test]
fn what_a_driver_gets_is_counted() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let h = b.machine.open(r"\\.\MISB", Caller::User64)?.expect("open");
    // The I/O manager's own memory is not the driver's; a work item is, a block of pool too.
    for (request, blocks) in [(code(0x800), 0), (code(0x803), 1), (code(0x810) | 3, 1)] {
        let before = b.machine.allocations(b.driver);
        let answer = b.machine.device_io_control(h, request, b"abc", 3)?;
        assert_eq!(answer.status, NtStatus::SUCCESS);
        assert_eq!(b.machine.allocations(b.driver) - before, blocks);
    }
    Ok(())
}

#[test]
fn memory_is_read_as_a_driver_would() {
    let machine = Machine::boot(Config::default());
    let at = machine.allocate(16);
    machine.write_memory(at, &[1, 2, 3]).expect("written");
    assert_eq!(machine.read_memory(at, 4).expect("read"), [1, 2, 3, 0]);
    let check = machine.read_memory(at, 17).expect_err("beyond the end");
    assert_eq!(check.rule, rules::POOL_OVERRUN);
}

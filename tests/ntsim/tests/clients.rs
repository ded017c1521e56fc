//! Two drivers in one machine: `faulty-driver` with its device, and `faulty-driver` again as a driver without
//! AddDevice that uses this device.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{Bench, accomplice, bench, code, image, up};
use ntsim::trace::EventKind;
use ntsim::{
    Bugcheck, Caller, Config, DriverId, Handle, LoadError, Machine, NodeState, NtStatus, RegValue,
    rules,
};

struct Pair {
    b: Bench,
    handle: Handle,
    client: DriverId,
    ask: Handle,
}

fn pair(config: Config) -> Result<Pair, Bugcheck> {
    let b = bench(config, 0);
    let handle = up(&b)?;
    let (client, ask) = accomplice(&b.machine);
    Ok(Pair {
        b,
        handle,
        client,
        ask,
    })
}

/// Both drivers, and the client has the server's device open.
fn using() -> Result<Pair, Bugcheck> {
    let p = pair(Config::default())?;
    assert_eq!(p.ask(OPEN)?, NtStatus::SUCCESS);
    Ok(p)
}

/// Twenty orders of the threads.
fn seeds() -> impl Iterator<Item = Config> {
    (0..20).map(Config::seeded)
}

/// A test of both drivers, the client with the server's device open, on each of these machines.
fn each_pair(
    configs: impl IntoIterator<Item = Config>,
    test: impl Fn(&Pair, &Machine) -> Result<(), Bugcheck>,
) -> Result<(), Bugcheck> {
    for config in configs {
        let p = pair(config)?;
        assert_eq!(p.ask(OPEN)?, NtStatus::SUCCESS);
        test(&p, &p.b.machine)?;
    }
    Ok(())
}

impl Pair {
    /// One request to the client; gives its status.
    fn ask(&self, function: u32) -> Result<NtStatus, Bugcheck> {
        let m = &self.b.machine;
        Ok(m.device_io_control(self.ask, code(function), &[], 0)?
            .status)
    }

    /// The client goes, and leaves this behind.
    fn client_leaks(&self, what: &str) -> Result<(), Bugcheck> {
        let m = &self.b.machine;
        m.close(self.ask)?;
        let check = m.unload(self.client).expect_err("a leak");
        assert_eq!(check.rule, rules::LEAK);
        assert!(check.what.contains(what), "{check}");
        Ok(())
    }

    fn down(&self) -> Result<(), Bugcheck> {
        let m = &self.b.machine;
        m.close(self.ask)?;
        m.unload(self.client)?;
        self.b.down(self.handle)?;
        m.run_until_idle()?;
        assert_eq!((m.live_irps(), m.links()), (0, vec![]));
        Ok(())
    }
}

const OPEN: u32 = 0x800;
const CLOSE: u32 = 0x801;

/// Majors that the driver's dispatch routines got, with the requests of this test left out.
fn majors(m: &Machine, driver: &str) -> Vec<u8> {
    m.trace()
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::Dispatch {
                function,
                driver: d,
                ..
            } if d == driver => Some(function.0),
            _ => None,
        })
        .collect()
}

#[test]
fn a_driver_without_adddevice_is_opened_and_unloaded() -> Result<(), Bugcheck> {
    let machine = Machine::boot(Config::default());
    let (client, ask) = accomplice(&machine);
    let device = &machine.devices()[0];
    assert_eq!(device.name.as_deref(), Some(r"\Device\Accomplice"));
    // DO_DEVICE_INITIALIZING is the I/O manager's to clear after DriverEntry.
    assert_eq!(device.flags & 0x80, 0);
    let r = machine.device_io_control(ask, code(OPEN), &[], 0)?;
    assert_eq!(r.status, NtStatus::OBJECT_NAME_NOT_FOUND);
    machine.close(ask)?;
    machine.unload(client)?;
    assert_eq!(machine.devices(), []);
    let gone = machine.open(r"\\.\ACCOMPLICE", Caller::User64)?;
    assert_eq!(gone, Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    Ok(())
}

#[test]
fn unload_waits_for_the_last_handle() -> Result<(), Bugcheck> {
    let machine = Machine::boot(Config::default());
    let (client, ask) = accomplice(&machine);
    let at = machine.now() + 5_000_000;
    machine.at(ntsim::When::Time(at), move |m| {
        m.close(ask).expect("close");
    });
    machine.unload(client)?;
    assert!(machine.now() >= at);
    let (client, _ask) = accomplice(&machine);
    let check = machine.unload(client).expect_err("a handle is open");
    assert_eq!(check.rule, rules::HANG);
    Ok(())
}

#[test]
fn a_pointer_opens_and_its_last_reference_closes() -> Result<(), Bugcheck> {
    for early_cleanup in [false, true] {
        let p = pair(Config {
            early_cleanup,
            ..Config::default()
        })?;
        let m = &p.b.machine;
        let before = majors(m, "faulty-driver").len();
        assert_eq!(p.ask(OPEN)?, NtStatus::SUCCESS);
        let after_open = majors(m, "faulty-driver")[before..].to_vec();
        assert_eq!(p.ask(0x80B)?, NtStatus::SUCCESS);
        assert_eq!(p.ask(CLOSE)?, NtStatus::SUCCESS);
        let all = majors(m, "faulty-driver")[before..].to_vec();
        assert_eq!(all, [0, 0x12, 2]);
        let expected: &[u8] = if early_cleanup { &[0, 0x12] } else { &[0] };
        assert_eq!(after_open, expected);
        p.down()?;
    }
    Ok(())
}

#[test]
fn a_pointer_given_back_at_dispatch_closes_later() -> Result<(), Bugcheck> {
    let p = using()?;
    assert_eq!(p.ask(0x80E)?, NtStatus::SUCCESS);
    p.b.machine.run_until_idle()?;
    assert_eq!(majors(&p.b.machine, "faulty-driver").last(), Some(&2));
    p.down()
}

#[test]
fn a_file_opened_by_name_gets_cleanup_with_its_handle() -> Result<(), Bugcheck> {
    let p = pair(Config::default())?;
    let m = &p.b.machine;
    let before = majors(m, "faulty-driver").len();
    assert_eq!(p.ask(0x80A)?, NtStatus::SUCCESS);
    assert_eq!(majors(m, "faulty-driver")[before..], [0, 0x12, 2]);
    p.down()
}

#[test]
fn threaded_requests_give_exactly_information_bytes() -> Result<(), Bugcheck> {
    let configs = [false, true].map(|force_pending| Config {
        force_pending,
        ..Config::default()
    });
    each_pair(configs, |p, m| {
        let r = m.device_io_control(p.ask, code(0x802), b"hello", 8)?;
        assert_eq!(r.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(&r.output[..5], b"hello");
        // The server says that four of its eight bytes count, with a warning.
        let r = m.device_io_control(p.ask, code(0x803), b"abcdefgh", 8)?;
        assert_eq!(r.outcome(), (NtStatus::BUFFER_OVERFLOW, 4));
        assert_eq!(r.output[..4], [0x77; 4]);
        // What came back to the client: four bytes in a buffer of eight.
        assert_eq!(r.output[4..], [ntsim::CANARY; 4]);
        p.ask(CLOSE)?;
        p.down()
    })
}

#[test]
fn a_pending_threaded_request_ends_in_its_own_thread() -> Result<(), Bugcheck> {
    each_pair(seeds(), |p, m| {
        let waiting = m.start_io_control(p.ask, code(0x80C), &[], 0);
        m.run_for(1_000_000)?;
        assert!(!m.is_done(&waiting));
        // The server's own user finishes it.
        m.device_io_control(p.handle, code(0x802), &[], 0)?;
        assert_eq!(m.finish(&waiting)?.status, NtStatus::SUCCESS);
        p.ask(CLOSE)?;
        p.down()
    })
}

#[test]
fn an_own_irp_is_cancelled_reused_and_freed() -> Result<(), Bugcheck> {
    each_pair(seeds(), |p, m| {
        assert_eq!(p.ask(0x807)?, NtStatus::SUCCESS);
        assert_eq!(p.ask(0x808)?, NtStatus::CANCELLED);
        // A cancelled IRP that its maker keeps is no delay.
        m.run_for(100_000_000_000)?;
        assert_eq!(p.ask(0x809)?, NtStatus::SUCCESS);
        p.ask(CLOSE)?;
        p.down()
    })
}

#[test]
fn what_a_callback_allocates_is_its_drivers() -> Result<(), Bugcheck> {
    let p = using()?;
    let m = &p.b.machine;
    p.ask(0x804)?;
    assert_eq!(p.ask(0x805)?, NtStatus::SUCCESS);
    p.ask(CLOSE)?;
    m.close(p.ask)?;
    // The client called it, the server leaks it.
    m.unload(p.client)?;
    m.close(p.handle)?;
    m.remove(p.b.node)?;
    let check = m.unload(p.b.driver).expect_err("a leak");
    assert_eq!(check.rule, rules::LEAK);
    assert!(check.what.starts_with("24 bytes of pool"), "{check}");
    Ok(())
}

#[test]
fn a_fault_in_a_callback_names_both_drivers() -> Result<(), Bugcheck> {
    let p = using()?;
    p.ask(0x804)?;
    let check = p.ask(0x806).expect_err("a fault");
    assert_eq!(check.rule, rules::NULL_ACCESS);
    let names: Vec<_> = check.frames.iter().map(|f| f.0.as_str()).collect();
    assert_eq!(names[0], "faulty-driver", "{check}");
    assert!(names[1..].contains(&"accomplice"), "{check}");
    Ok(())
}

#[test]
fn a_fault_below_another_driver_names_both() -> Result<(), Bugcheck> {
    let p = using()?;
    p.ask(0x804)?;
    // Gone with its device: the table leads nowhere.
    p.ask(CLOSE)?;
    p.b.down(p.handle)?;
    let check = p.ask(0x805).expect_err("unloaded code");
    assert_eq!(check.rule, rules::NULL_ACCESS);
    assert!(check.what.contains("execute"), "{check}");
    assert_eq!(check.frames[0].0, "accomplice", "{check}");
    Ok(())
}

#[test]
fn a_file_object_left_is_the_clients_leak() -> Result<(), Bugcheck> {
    let p = using()?;
    p.client_leaks(r"file object of \Device\Misbehave0 from accomplice+")
}

#[test]
fn a_device_reference_left_is_the_clients_leak() -> Result<(), Bugcheck> {
    let p = using()?;
    p.ask(0x80D)?;
    p.ask(CLOSE)?;
    p.client_leaks("1 references to")
}

#[test]
fn a_driver_that_has_it_open_delays_the_removal() -> Result<(), Bugcheck> {
    each_pair(seeds(), |p, m| {
        m.close(p.handle)?;
        assert_eq!(m.query_remove(p.b.node)?, NtStatus::UNSUCCESSFUL);
        m.unplug(p.b.node)?;
        assert_eq!(m.node_state(p.b.node), NodeState::SurpriseRemoved);
        // The PnP manager works on in its own thread.
        p.ask(CLOSE)?;
        m.run_until_idle()?;
        assert_eq!(m.node_state(p.b.node), NodeState::Removed);
        m.close(p.ask)?;
        m.unload(p.client)?;
        m.unload(p.b.driver)
    })
}

#[test]
fn a_dispatch_routine_may_be_held_while_the_other_driver_goes() -> Result<(), Bugcheck> {
    let p = using()?;
    let m = &p.b.machine;
    let waiting = m.start_io_control(p.ask, code(0x80C), &[], 0);
    m.run_for(1_000_000)?;
    m.close(p.handle)?;
    m.unplug(p.b.node)?;
    assert_eq!(m.finish(&waiting)?.status, NtStatus::UNSUCCESSFUL);
    p.ask(CLOSE)?;
    m.run_until_idle()?;
    assert_eq!(m.node_state(p.b.node), NodeState::Removed);
    Ok(())
}

#[test]
fn one_driver_unloads_while_the_other_is_busy() -> Result<(), Bugcheck> {
    let p = pair(Config::default())?;
    let m = &p.b.machine;
    // A work item of the server's is under way.
    let busy = m.start_io_control(p.handle, code(0x803), &[], 0);
    m.run_for(1_000_000)?;
    assert!(!m.is_done(&busy));
    m.close(p.ask)?;
    m.unload(p.client)?;
    assert_eq!(m.finish(&busy)?.status, NtStatus::SUCCESS);
    Ok(())
}

#[test]
fn faults_are_injected_into_one_driver() -> Result<(), Bugcheck> {
    let p = pair(Config::default())?;
    let m = &p.b.machine;
    m.inject_into(p.client);
    let before = m.failable_calls();
    m.inject_failure(1);
    // The server's calls pass and are not counted.
    let r = m.device_io_control(p.handle, code(0x805), &[], 0)?;
    assert_eq!(r.status, NtStatus::SUCCESS);
    assert_eq!(m.failable_calls(), before);
    assert_eq!(p.ask(OPEN)?, NtStatus::INSUFFICIENT_RESOURCES);
    assert!(m.failed_calls()[0].contains("accomplice+"));
    p.down()
}

#[test]
fn an_exclusive_device_is_opened_once() {
    let machine = Machine::boot(Config::default());
    let load = |service| {
        let parameters = [("Client", RegValue::Dword(2))];
        machine.load_driver(image(), service, &parameters)
    };
    load("exclusive").expect("load");
    let open = || {
        machine
            .open(r"\\.\ACCOMPLICE", Caller::User64)
            .expect("no broken rule")
    };
    let first = open().expect("open");
    assert_eq!(open(), Err(NtStatus::ACCESS_DENIED));
    machine.close(first).expect("close");
    assert!(open().is_ok());
    // The name is taken: the second one's DriverEntry fails and nothing is left of it.
    let second = load("second");
    assert!(matches!(
        second,
        Err(LoadError::EntryFailed(NtStatus::OBJECT_NAME_COLLISION))
    ));
}

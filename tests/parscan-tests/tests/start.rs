//! `IRP_MN_START_DEVICE` that the bus, or a driver between, has failed: the device never came up, and
//! is touched by nothing.

use ntsim::{Config, DevNode, DriverId, Machine, NodeState, NtStatus};
use parscan_tests::{Setup, assert_nothing_left, check, scanner::ScannerSetup};

const STATUSES: [NtStatus; 3] = [
    NtStatus::INSUFFICIENT_RESOURCES,
    NtStatus::NO_SUCH_DEVICE,
    NtStatus::IO_DEVICE_ERROR,
];

/// With a bus that answers at once, or from another thread, and a filter between or not.
fn configs() -> impl Iterator<Item = Config> {
    [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .map(|(force_pending, filter)| Config {
            force_pending,
            filter,
            etw_level: Some(2),
            ..Config::default()
        })
}

/// The start of a device fails, and with it goes what AddDevice made; what the driver did before is
/// all undone, and a start that succeeds is a start like any other. `touched` tells how often the
/// hardware was touched so far.
fn fails_and_then_starts(
    name: &str,
    touched: impl Fn(&Machine) -> u64,
    load: impl Fn(Config) -> (Machine, DevNode, DriverId),
) {
    for config in configs() {
        let (machine, node, driver) = load(config);
        fails_and_then_starts_on(&machine, node, driver, name, &touched);
    }
}

fn fails_and_then_starts_on(
    machine: &Machine,
    node: DevNode,
    driver: DriverId,
    name: &str,
    touched: impl Fn(&Machine) -> u64,
) {
    for status in STATUSES {
        machine.fail_start(node, Some(status));
        assert_eq!(check(machine.add_device(node, driver)), NtStatus::SUCCESS);
        let before = touched(machine);
        // The status is that of the lower driver. The machine sends REMOVE after it.
        assert_eq!(check(machine.start(node)), status);
        assert_eq!(touched(machine), before, "the device was touched");
        assert_eq!(machine.node_state(node), NodeState::Found);
        assert_eq!(machine.children(node), vec![]);
        assert_nothing_left(machine);
    }
    machine.fail_start(node, None);
    assert_eq!(check(machine.add_device(node, driver)), NtStatus::SUCCESS);
    assert_eq!(check(machine.start(node)), NtStatus::SUCCESS);
    let opened = check(machine.open(name, ntsim::Caller::User64));
    let handle = opened.unwrap_or_else(|status| panic!("{name}: {status}"));
    // Stopped for other resources, and then its bus fails it: its handle is for nothing more.
    assert_eq!(check(machine.query_stop(node)), NtStatus::SUCCESS);
    assert_eq!(check(machine.stop(node)), NtStatus::SUCCESS);
    machine.fail_start(node, Some(NtStatus::INSUFFICIENT_RESOURCES));
    let before = touched(machine);
    let status = check(machine.start(node));
    assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
    let read = check(machine.read(handle, 4));
    assert!(!read.status.is_success(), "{}", read.status);
    assert_eq!(touched(machine), before, "the device was touched");
    check(machine.close(handle));
    check(machine.run_until_idle());
    check(machine.unload(driver));
    assert_nothing_left(machine);
}

#[test]
fn a_port_whose_bus_fails_the_start_is_not_touched() {
    fails_and_then_starts(r"\\.\LPT1", Machine::port_accesses, |config| {
        let pc = Setup::with_config(config).loaded();
        (pc.machine, pc.node, pc.driver)
    });
}

#[test]
fn a_scanner_whose_bus_fails_the_start_is_not_touched() {
    fails_and_then_starts(r"\\.\Usbscan0", Machine::urb_count, |config| {
        let pc = ScannerSetup::with_config(config).loaded();
        (pc.machine, pc.node, pc.driver)
    });
}

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

/// What the hardware has seen so far.
type Touched = fn(&Machine) -> u64;

/// The start fails, and with it goes what AddDevice made; what the driver did before is all undone,
/// and a start that succeeds is a start like any other.
fn fails_and_then_starts(
    machine: &Machine,
    node: DevNode,
    driver: DriverId,
    name: &str,
    touched: Touched,
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
    for config in configs() {
        let setup = Setup {
            config,
            ..Setup::default()
        };
        let pc = setup.loaded();
        let touched: Touched = Machine::port_accesses;
        fails_and_then_starts(&pc.machine, pc.node, pc.driver, r"\\.\LPT1", touched);
    }
}

#[test]
fn a_scanner_whose_bus_fails_the_start_is_not_touched() {
    for config in configs() {
        let setup = ScannerSetup {
            config,
            ..ScannerSetup::default()
        };
        let pc = setup.loaded();
        let touched: Touched = Machine::urb_count;
        fails_and_then_starts(&pc.machine, pc.node, pc.driver, r"\\.\Usbscan0", touched);
    }
}

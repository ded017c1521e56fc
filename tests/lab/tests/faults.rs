//! Every call that can fail fails once, at every place: the driver says so with a status, works on
//! where it can, and leaves nothing behind.

use ntsim::NtStatus;
use parscan_lab::{Pc, Setup, check, driver_image};
use parscan_models::{Printer, Spp};

/// Loads, starts, uses, removes and unloads the driver, with the k-th call that can fail failing.
/// Returns whether there was a k-th one, and which steps succeeded.
fn life(k: u64) -> (bool, Vec<NtStatus>) {
    let setup = Setup::default();
    let machine = ntsim::Machine::boot(setup.config.clone());
    let printer = Printer::new();
    let chip = std::rc::Rc::new(std::cell::RefCell::new(Spp::new(Box::new(printer.clone()))));
    machine.map_ports(0x378, 8, 0, chip.clone());
    machine.inject_failure(k);
    let mut steps = Vec::new();
    match machine.load_driver(driver_image(), "ParscanPort", &setup.parameters) {
        Ok(driver) => {
            let node = machine.plug(setup.device());
            let added = check(machine.add_device(node, driver));
            steps.push(added);
            let pc = Pc {
                machine: machine.clone(),
                printer,
                chip,
                driver,
                node,
            };
            if added.is_success() {
                let started = check(machine.start(node));
                steps.push(started);
                if started.is_success() {
                    // By the name, or by the interface if the name could not be made, or not at
                    // all if the device did not start.
                    let interface = machine
                        .interfaces()
                        .into_iter()
                        .find(|(class, _, enabled)| {
                            *enabled
                                && class.eq_ignore_ascii_case(
                                    parscan_lab::ntddpar::GUID_DEVINTERFACE_PARCLASS,
                                )
                        })
                        .map(|(_, link, _)| link);
                    let handle = pc
                        .try_open(r"\\.\LPT1")
                        .or_else(|status| interface.map_or(Err(status), |i| pc.try_open(&i)));
                    match handle {
                        Ok(handle) => {
                            steps.push(pc.initialize(handle).status);
                            check(machine.close(handle));
                        }
                        Err(status) => steps.push(status),
                    }
                    check(machine.remove(node));
                }
            }
            check(machine.unload(driver));
        }
        Err(ntsim::LoadError::EntryFailed(status)) => steps.push(status),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(machine.links(), vec![], "call {k}");
    assert_eq!(machine.threads(), 0, "call {k}");
    assert_eq!(machine.live_irps(), 0, "call {k}");
    (!machine.failed_calls().is_empty(), steps)
}

#[test]
fn every_failing_call_is_survived() {
    let (_, clean) = life(u64::MAX);
    assert_eq!(clean, [NtStatus::SUCCESS; 3]);
    let mut failures = 0;
    let mut k = 1;
    loop {
        let (reached, steps) = life(k);
        if !reached {
            break;
        }
        assert!(!steps.is_empty());
        if steps.iter().any(|status| !status.is_success()) {
            failures += 1;
        }
        k += 1;
        assert!(k < 500, "no end of failable calls");
    }
    assert!(k > 15, "only {k} calls can fail: is injection on?");
    assert!(
        failures > 8,
        "only {failures} of {k} failing calls were noticed"
    );
}

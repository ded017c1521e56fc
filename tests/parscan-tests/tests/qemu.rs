//! The driver on a chip that this project did not write: QEMU's isa-parallel.

use std::{cell::RefCell, rc::Rc};

use ntsim::NtStatus;
use parscan_models::qemu::QemuPort;
use parscan_tests::{
    Setup, check,
    modes::pattern,
    ntddpar::{IOCTL_PAR_QUERY_INFORMATION, PARALLEL_SELECTED},
};

#[test]
fn qemus_trace_shows_the_reset() {
    let port = QemuPort::start()
        .unwrap_or_else(|error| panic!("{error}; Debian package qemu-system-x86 has it"));
    let port = Rc::new(RefCell::new(port));
    let pc = Setup::default().started_on(port.clone());
    let lpt1 = pc.open();
    let before = port.borrow().trace_lines().unwrap().len();
    let result = pc.initialize(lpt1);
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, 0));
    let lines = port.borrow().trace_lines().unwrap();
    let writes: Vec<_> = lines[before..]
        .iter()
        .filter(|line| line.contains("parallel_ioport_write"))
        .map(|line| {
            let value = |key| {
                let mut words = line.split_whitespace().skip_while(|word| *word != key);
                words.nth(1).unwrap_or_default().to_owned()
            };
            (value("addr"), value("val"))
        })
        .collect();
    let dcr = |value: &str| ("0x02".to_owned(), value.to_owned());
    assert_eq!(writes, [dcr("0x08"), dcr("0x0c")]);
    let query = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
    assert_eq!(query.output, [PARALLEL_SELECTED]);
    pc.close_and_finish(lpt1);
}

#[test]
fn what_is_written_arrives_in_qemus_file() {
    let port = QemuPort::start()
        .unwrap_or_else(|error| panic!("{error}; Debian package qemu-system-x86 has it"));
    let port = Rc::new(RefCell::new(port));
    let mut setup = Setup::default();
    setup.config.trace_ports = false;
    let pc = setup.started_on(port.clone());
    let lpt1 = pc.open();
    let data = pattern(64 << 10);
    let result = check(pc.machine.write(lpt1, &data));
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, data.len()));
    let output = port.borrow().output().unwrap();
    assert!(output == data, "{} bytes arrived", output.len());
    pc.close_and_finish(lpt1);
}

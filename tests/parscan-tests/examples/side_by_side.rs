//! parscan.sys on QEMU's parallel port, for `side-by-side/run.sh`: prints so many bytes with one
//! `WriteFile`, and tells how many port accesses QEMU's trace shows for it.

use std::{cell::RefCell, env, rc::Rc};

use ntsim::NtStatus;
use parscan_models::qemu::QemuPort;
use parscan_tests::{Setup, check, modes::pattern};

fn main() {
    let bytes = env::args().nth(1).and_then(|it| it.parse().ok());
    let data = pattern(bytes.expect("how many bytes?"));
    let port = QemuPort::start()
        .unwrap_or_else(|error| panic!("{error}; Debian package qemu-system-x86 has it"));
    let port = Rc::new(RefCell::new(port));
    let mut setup = Setup::default();
    setup.config.trace_ports = false;
    setup.config.max_steps = u64::MAX;
    let pc = setup.started_on(port.clone());
    let lpt1 = pc.open();
    let accesses = || {
        let lines = port.borrow().trace_lines().expect("QEMU's trace");
        let ours = lines.iter().filter(|line| line.contains("parallel_ioport"));
        ours.count()
    };
    let before = accesses();
    let result = check(pc.machine.write(lpt1, &data));
    assert_eq!(
        (result.status, result.information),
        (NtStatus::SUCCESS, data.len())
    );
    println!("{}", accesses() - before);
    check(pc.machine.close(lpt1));
    pc.finish();
}

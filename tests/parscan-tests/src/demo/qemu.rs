//! The demo on the parallel port of QEMU.

use std::{cell::RefCell, path::Path, rc::Rc};

use anstream::println;
use anyhow::{Context, Result, ensure};
use parscan_models::qemu::QemuPort;
use parscan_tests::{Setup, check, ntddpar};

use crate::show;

pub(crate) fn run(_out: &Path) -> Result<()> {
    let port = Rc::new(RefCell::new(QemuPort::start().context(
        "cannot start QEMU (Debian package qemu-system-x86; `cargo xtask demo` installs it)",
    )?));
    let pc = Setup::default().started_on(port.clone());
    show::machine(
        &pc.machine,
        r"ACPI\PNP0400, I/O 0x378-0x37F, QEMU's isa-parallel behind it",
    );
    show::title(
        r"A program opens \\.\LPT1 and sends IOCTL_PAR_SET_INFORMATION { Init = PARALLEL_INIT }",
    );
    let lpt1 = pc.open();
    let before = port.borrow().trace_lines()?.len();
    let set = pc.initialize(lpt1);
    show::result("QEMU", &set);
    let query = pc.control(lpt1, ntddpar::IOCTL_PAR_QUERY_INFORMATION, &[], 1);
    let flags = query.output.first().copied().unwrap_or(0);
    println!("  {:<13} 0x{flags:02X} {}", "lines", show::flags(flags));
    check(pc.machine.close(lpt1));
    show::title("What QEMU's own trace saw");
    let lines = port.borrow().trace_lines()?;
    let seen = &lines[before..];
    for line in seen {
        println!("  {line}");
    }
    let writes: Vec<_> = seen
        .iter()
        .filter(|line| line.contains("parallel_ioport_write"))
        .collect();
    ensure!(
        writes.len() == 2 && writes[0].ends_with("0x08") && writes[1].ends_with("0x0c"),
        "the control register should go 0x08, 0x0C"
    );
    show::note("The control register went 0x08 (nInit low, nSelectIn low), then 0x0C.");
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
    show::goodbye(&pc.machine, "port");
    Ok(())
}

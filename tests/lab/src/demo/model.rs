//! The demo on our own model of a port and a printer.

use std::path::Path;

use anstream::println;
use anyhow::{Context, Result};
use parscan_lab::{
    MS, Pc, check,
    ntddpar::{IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_SET_INFORMATION},
};
use parscan_models::{
    Condition, Line, PortDevice,
    waveform::{self, Signal},
};

use crate::show;

/// The printer's conditions, and how a person calls them.
const CONDITIONS: [(&str, Condition); 7] = [
    ("ready", Condition::Ready),
    ("busy", Condition::Busy),
    ("out of paper", Condition::PaperEmpty),
    ("off-line", Condition::OffLine),
    ("cover open", Condition::Fault),
    ("switched off", Condition::PoweredOff),
    ("no cable", Condition::Unplugged),
];

pub(crate) fn run(out: &Path) -> Result<()> {
    let pc = Pc::new();
    let _ = pc.printer.clone().with_reset_time(700 * MS);
    show::machine(
        &pc.machine,
        r"ACPI\PNP0400, I/O 0x378-0x37F, a Centronics printer on the cable",
    );
    conditions(&pc);
    bad_input(&pc);
    cancel(&pc);
    wave(&pc, out)?;
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
    show::goodbye(&pc.machine);
    Ok(())
}

/// The request in every condition of the printer.
fn conditions(pc: &Pc) {
    show::title(
        r"A program opens \\.\LPT1 and sends IOCTL_PAR_SET_INFORMATION { Init = PARALLEL_INIT }",
    );
    println!(
        "  {:<13} {:<39} {:<5} {:<9} {:<10} QUERY_INFORMATION says",
        "printer", "status", "Info", "after", "nInit low"
    );
    for (name, condition) in CONDITIONS {
        pc.printer.set_condition(condition);
        let lpt1 = pc.open();
        pc.chip.borrow_mut().advance(pc.machine.now());
        pc.chip.borrow_mut().restart_trace();
        let set = pc.initialize(lpt1);
        pc.chip.borrow_mut().advance(pc.machine.now());
        let pulse = pc
            .chip
            .borrow()
            .trace()
            .and_then(|trace| trace.pulses(Line::NInit, false).first().copied())
            .map_or("-".to_owned(), |pulse| show::duration(pulse.duration));
        let query = pc.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
        let flags = query.output.first().copied().unwrap_or(0);
        println!(
            "  {name:<13} {} {:<5} {:<9} {pulse:<10} 0x{flags:02X} {}",
            show::status(set.status),
            set.information,
            show::duration(set.took),
            show::flags(flags)
        );
        check(pc.machine.close(lpt1));
    }
    show::note("Paper, power and off-line are warnings: neither a success nor an error.");
}

/// What a careless program may send.
fn bad_input(pc: &Pc) {
    show::title("The same with bad input: no line of the port moves");
    pc.printer.set_condition(Condition::Ready);
    let lpt1 = pc.open();
    let set = IOCTL_PAR_SET_INFORMATION;
    let query = IOCTL_PAR_QUERY_INFORMATION;
    let before = pc.machine.port_accesses();
    println!("  {:<47} {:<39} Info", "request", "status");
    for (what, code, input, output) in [
        ("SET_INFORMATION, no input", set, &[][..], 0),
        ("SET_INFORMATION, Init = 0x00", set, &[0x00][..], 0),
        (
            "SET_INFORMATION, Init = 0x02 (AUTOFEED)",
            set,
            &[0x02][..],
            0,
        ),
        (
            "QUERY_INFORMATION, no room for the answer",
            query,
            &[][..],
            0,
        ),
        (
            "0x00160078, a kernel client's PARCLASS_CONNECT",
            0x0016_0078,
            &[][..],
            120,
        ),
        (
            "0x80002010, another device's request",
            0x8000_2010,
            &[0; 24][..],
            0,
        ),
    ] {
        let result = pc.control(lpt1, code, input, output);
        println!(
            "  {what:<47} {} {}",
            show::status(result.status),
            result.information
        );
    }
    show::note(&format!(
        "port accesses: {}",
        pc.machine.port_accesses() - before
    ));
    check(pc.machine.close(lpt1));
}

/// A program that loses patience.
fn cancel(pc: &Pc) {
    show::title("The printer stays busy, and the program cancels after 1.5 s");
    pc.printer.set_condition(Condition::Busy);
    let lpt1 = pc.open();
    let request = pc.start_initialize(lpt1);
    check(pc.machine.run_for(1500 * MS));
    let cancelled = pc.machine.now();
    check(pc.machine.cancel(&request));
    let result = check(pc.machine.finish(&request));
    println!(
        "  {:<13} {} {:<5} {} after the cancel",
        "busy",
        show::status(result.status),
        result.information,
        show::duration(pc.machine.now() - cancelled)
    );
    check(pc.machine.close(lpt1));
    pc.printer.set_condition(Condition::Ready);
}

/// The reset pulse, as a logic analyser on the connector sees it.
fn wave(pc: &Pc, out: &Path) -> Result<()> {
    let lpt1 = pc.open();
    check(pc.machine.run_for(MS));
    pc.chip.borrow_mut().advance(pc.machine.now());
    pc.chip.borrow_mut().restart_trace();
    let _ = pc.initialize(lpt1);
    let mut chip = pc.chip.borrow_mut();
    chip.advance(pc.machine.now());
    let trace = chip.trace().context("the model keeps a trace")?;
    let pulse = trace.pulses(Line::NInit, false);
    let pulse = pulse.first().context("there was a reset")?;
    show::title("The reset on the connector, as a logic analyser shows it");
    let signals = [
        Signal::Line(Line::NInit),
        Signal::Line(Line::NSelectIn),
        Signal::Line(Line::NStrobe),
        Signal::Line(Line::Busy),
        Signal::Line(Line::Select),
    ];
    let from = pulse.start.saturating_sub(20_000);
    for line in waveform::ascii(trace, &signals, from, trace.end(), 96).lines() {
        println!("{}", format!("  {line}").trim_end());
    }
    let path = out.join("reset.vcd");
    waveform::save_vcd(trace, "IOCTL_PAR_SET_INFORMATION", &path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "\n  nInit was low for {}, with nSelectIn low all the time.",
        show::duration(pulse.duration)
    );
    println!("  waveform: {} (for GTKWave)", path.display());
    drop(chip);
    check(pc.machine.close(lpt1));
    Ok(())
}

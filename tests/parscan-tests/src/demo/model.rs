//! The demo on our own model of a port and a printer.

use std::path::Path;

use anstream::println;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ntsim::IoResult;
use parscan_models::{
    Condition, Line, PortDevice,
    waveform::{self, Signal},
};
use parscan_tests::{
    MS, Pc, US, check,
    modes::pattern,
    negotiation,
    ntddpar::{IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_SET_INFORMATION},
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
    print(&pc)?;
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
    show::goodbye(&pc.machine, "port");
    // There is one machine at a time.
    drop(pc);
    device_id(out)
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
    show::indented(&waveform::ascii(trace, &signals, from, trace.end(), 96));
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

/// What the page says.
const PAGE: &str = "parscan test page\r\n\
     The quick brown fox jumps over the lazy dog. 0123456789\r\n\
     Every byte of this went over the lines of the port.\r\n\x0C";
/// The longer print.
const LONG: usize = 64 << 10;

/// A page of text, and more.
fn print(pc: &Pc) -> Result<()> {
    // At least until the last reset is over.
    check(pc.machine.run_for(1000 * MS));
    let _ = pc.printer.clone().with_byte_time(0).with_ack_width(500);
    pc.printer.set_condition(Condition::Ready);
    let lpt1 = pc.open();
    pc.chip.borrow_mut().advance(pc.machine.now());
    pc.chip.borrow_mut().restart_trace();
    let earlier = pc.printer.received().len();

    show::title("A program prints: WriteFile, to a printer that is always ready");
    println!(
        "  {:<13} {:<39} {:<7} {:<9} accesses a byte",
        "print", "status", "Info", "after"
    );
    let before = pc.machine.port_accesses();
    let result = check(pc.machine.write(lpt1, PAGE.as_bytes()));
    written("a page", &result, pc.machine.port_accesses() - before);
    let arrived = pc.printer.received().split_off(earlier);
    let trace = {
        let mut chip = pc.chip.borrow_mut();
        chip.advance(pc.machine.now());
        chip.trace().context("the model keeps a trace")?.clone()
    };

    let data = pattern(LONG);
    let before = pc.machine.port_accesses();
    let request = pc.machine.start_write(lpt1, &data);
    // On a terminal only.
    let bar = ProgressBar::new(LONG as u64).with_style(ProgressStyle::with_template(
        "  64 KiB        {bar:40} {bytes} of {total_bytes}",
    )?);
    while !pc.machine.is_done(&request) {
        check(pc.machine.run_for(5 * MS));
        pc.chip.borrow_mut().restart_trace();
        let printed = pc.printer.received().len() - earlier - arrived.len();
        bar.set_position(printed as u64);
    }
    bar.finish_and_clear();
    let result = check(pc.machine.finish(&request));
    written("64 KiB", &result, pc.machine.port_accesses() - before);
    let more = pc.printer.received().split_off(earlier + arrived.len());
    ensure!(
        arrived == PAGE.as_bytes() && more == data,
        "something else arrived"
    );

    println!(
        "\n  What arrived, {} bytes and the same 64 KiB:\n",
        arrived.len()
    );
    for line in String::from_utf8_lossy(&arrived).lines() {
        println!("    | {}", line.replace('\x0C', "(form feed)"));
    }
    let strobes = trace.pulses(Line::NStrobe, false);
    let [first, second, ..] = strobes.as_slice() else {
        bail!("two bytes have two strobes");
    };
    println!("\n  The first two bytes on the connector:\n");
    let signals = [
        Signal::Data,
        Signal::Line(Line::NStrobe),
        Signal::Line(Line::Busy),
        Signal::Line(Line::NAck),
    ];
    let (from, to) = (first.start - 2 * US, second.start + 3 * US);
    show::indented(&waveform::ascii(&trace, &signals, from, to, 96));
    check(pc.machine.close(lpt1));
    Ok(())
}

/// A line about a write.
fn written(what: &str, result: &IoResult, accesses: u64) {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let a_byte = accesses as f64 / result.information.max(1) as f64;
    println!(
        "  {what:<13} {} {:<7} {:<9} {a_byte:.2}",
        show::status(result.status),
        result.information,
        show::duration(result.took)
    );
}

/// A second PC, whose printer has IEEE 1284: who are you?
fn device_id(out: &Path) -> Result<()> {
    let pc = negotiation::pc();
    show::title("Another PC, with an IEEE 1284 printer: IOCTL_PAR_QUERY_DEVICE_ID");
    let recording = negotiation::record(&pc);
    let result = &recording.result;
    show::result("device ID", result);
    println!();
    let text = result.information.saturating_sub(1);
    let id = String::from_utf8_lossy(result.output.get(..text).unwrap_or_default());
    for part in id.split_terminator(';') {
        let (key, value) = part.split_once(':').context("a part without a key")?;
        println!("    {key:<4} {value}");
    }

    println!("\n  How it was asked for, in nibble mode: the negotiation\n");
    show::indented(&recording.text(96));
    println!();
    for event in &recording.events {
        println!("    {:<5} {}", event.number, event.what);
    }
    let vcd = out.join("negotiation.vcd");
    waveform::save_vcd(&recording.trace, "IOCTL_PAR_QUERY_DEVICE_ID", &vcd)
        .with_context(|| format!("cannot write {}", vcd.display()))?;
    let picture = out.join("negotiation.svg");
    std::fs::write(&picture, recording.svg())
        .with_context(|| format!("cannot write {}", picture.display()))?;
    println!("\n  waveform: {} (for GTKWave)", vcd.display());
    println!("  picture:  {}", picture.display());
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
    show::goodbye(&pc.machine, "port");
    Ok(())
}

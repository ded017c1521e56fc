//! A strobe has a longest time, whatever else the processor has to do meanwhile.

use ntsim::{Config, Handle, Nanos, NtStatus};
use parscan_models::{DaisyChain, Line, Peripheral1284, PortDevice, Printer, Ps2, Spp};
use parscan_tests::{
    MS, Pc, Setup, US, check,
    modes::{channel, pattern},
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, modes},
};

/// A machine on which a thread that can be preempted is, after every access and kernel call, for
/// two milliseconds.
fn busy() -> Setup {
    Setup::with_config(Config {
        preempt_per_mille: 1000,
        preempted_ns: 2 * MS,
        trace_ports: false,
        ..Config::default()
    })
}

/// How long a line was low, each time.
fn pulses(chip: &dyn PortDevice, line: Line) -> Vec<Nanos> {
    let trace = chip.trace().expect("a recording of the lines");
    let mut low = (!trace.initial().get(line)).then_some(trace.start());
    let mut pulses = Vec::new();
    for sample in trace.samples() {
        match (low, sample.levels.get(line)) {
            (None, false) => low = Some(sample.time),
            (Some(since), true) => {
                pulses.push(sample.time - since);
                low = None;
            }
            _ => {}
        }
    }
    pulses
}

#[track_caller]
fn assert_short(pulses: &[Nanos], least: usize) {
    println!(
        "{} pulses, {:?} to {:?} ns",
        pulses.len(),
        pulses.iter().min(),
        pulses.iter().max()
    );
    assert!(pulses.len() >= least, "{} pulses", pulses.len());
    let wrong: Vec<_> = pulses
        .iter()
        .filter(|pulse| !(US / 2..=500 * US).contains(*pulse))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?} ns");
}

/// Centronics: 0.5 us to 500 us.
#[test]
fn a_printer_gets_its_strobes_in_time() {
    let printer = Printer::new();
    let chip = Spp::new(Box::new(printer.clone()));
    let pc: Pc = busy().started_with(chip, printer);
    let lpt1 = pc.open();
    let data = pattern(300);
    let before = pc.machine.now();
    let result = check(pc.machine.write(lpt1, &data));
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, 300));
    assert!(pc.machine.now() - before > 300 * MS, "the machine is busy");
    assert_eq!(pc.printer.received(), data);
    assert_short(&pulses(&*pc.chip.borrow(), Line::NStrobe), 300);
    pc.close_and_finish(lpt1);
}

/// A bidirectional port with an IEEE 1284 peripheral that has something to say.
fn ps2(peripheral: &Peripheral1284) -> Pc<Ps2, Peripheral1284> {
    let chip = Ps2::new(Box::new(peripheral.clone())).with_trace();
    busy().started_with(chip, peripheral.clone())
}

fn choose(pc: &Pc<Ps2, Peripheral1284>, lpt1: Handle, read: u16, write: u16) {
    let offered = modes::mask(read, write);
    let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
    assert_eq!(chosen.status, NtStatus::SUCCESS);
}

/// The negotiation's events 3 and 4, and byte mode's 16 and 17.
#[test]
fn negotiation_and_byte_mode_pull_the_strobe_shortly() {
    let peripheral = Peripheral1284::new();
    let pc = ps2(&peripheral);
    let lpt1 = pc.open();
    choose(&pc, lpt1, modes::BYTE_BIDIR, 0);
    let data = pattern(50);
    peripheral.give(&data);
    let result = check(pc.machine.read(lpt1, 50));
    assert_eq!((result.status, result.output), (NtStatus::SUCCESS, data));
    assert_short(&pulses(&*pc.chip.borrow(), Line::NStrobe), 51);
    pc.close_and_finish(lpt1);
}

/// The peripheral has 10 us for each half of a cycle, and the host does not keep it longer than
/// that. nDStrb is nAutoFd, which is low longer in the negotiation only.
#[test]
fn epp_by_software_keeps_its_cycles_short() {
    const BYTES: usize = 50;
    let peripheral = Peripheral1284::new();
    let pc = ps2(&peripheral);
    let lpt1 = pc.open();
    choose(&pc, lpt1, modes::EPP_SW, modes::EPP_SW);
    let data = pattern(BYTES);
    let result = check(pc.machine.write(lpt1, &data));
    assert_eq!(result.outcome(), (NtStatus::SUCCESS, BYTES));
    assert_eq!(peripheral.received_on(channel(modes::EPP_SW)), data);
    peripheral.give(&data);
    let result = check(pc.machine.read(lpt1, BYTES));
    assert_eq!((result.status, result.output), (NtStatus::SUCCESS, data));
    let (short, long): (Vec<_>, Vec<_>) = pulses(&*pc.chip.borrow(), Line::NAutoFd)
        .into_iter()
        .partition(|pulse| *pulse <= 20 * US);
    assert_eq!(short.len(), 2 * BYTES, "{long:?}");
    pc.close_and_finish(lpt1);
}

/// The command packets of IEEE 1284.3.
#[test]
fn the_chain_gets_its_strobes_in_time() {
    let chain = DaisyChain::new(Printer::new())
        .with_device(Peripheral1284::new())
        .with_device(Peripheral1284::new());
    let chip = Spp::new(Box::new(chain.clone()));
    let pc = busy().started_with(chip, chain);
    assert_short(&pulses(&*pc.chip.borrow(), Line::NStrobe), 3);
    pc.finish();
}

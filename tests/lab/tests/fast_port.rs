//! A port as on PCI Express, where an access takes a tenth of a microsecond: what the standard bounds
//! by time is kept by time, and nothing is lost in any mode.

use ntsim::NtStatus;
use parscan_lab::{
    Setup, check,
    modes::{Chip, Failures, ModesPc, channel, pattern, pc_with},
    ntddpar::modes,
};
use parscan_models::{Nanos, Peripheral1284, Printer, Spp};

const FAST: Nanos = 100;

fn setup(access: Nanos) -> Setup {
    let mut setup = Setup::default();
    setup.config.port_access_ns = access;
    setup
}

fn pc(chip: Chip, device: &Peripheral1284, access: Nanos) -> ModesPc {
    pc_with(chip, device, setup(access))
}

/// The device watches set-up, strobe and hold, 500 ns each, in every mode.
#[test]
fn nothing_is_lost_in_any_mode() {
    let mut failures = Failures::default();
    let data = pattern(700);
    for access in [FAST, 150, 400, 600, 1000] {
        for chip in Chip::ALL {
            for (mode, name) in modes::ALL {
                let what = format!("{access} ns, {chip:?} {name}");
                if chip.write_modes() & mode != 0 {
                    let device = Peripheral1284::new();
                    let pc = pc(chip, &device, access);
                    let lpt1 = pc.open();
                    pc.choose(lpt1, 0, mode);
                    let result = check(pc.machine.write(lpt1, &data));
                    failures.expect(
                        (result.status, result.information) == (NtStatus::SUCCESS, data.len()),
                        || format!("{what}: {} {}", result.status, result.information),
                    );
                    failures.expect(device.received_on(channel(mode)) == data, || {
                        format!("{what}: other bytes arrived")
                    });
                    check(pc.machine.close(lpt1));
                    let broken = device.violations();
                    failures.expect(broken.is_empty(), || format!("{what}: {:?}", broken[0]));
                    pc.remove();
                }
                if chip.read_modes() & mode != 0 {
                    let device = Peripheral1284::new();
                    let pc = pc(chip, &device, access);
                    let lpt1 = pc.open();
                    pc.choose(lpt1, mode, 0);
                    device.give(&data);
                    let result = check(pc.machine.read(lpt1, data.len()));
                    failures.expect(
                        result.status == NtStatus::SUCCESS && result.output == data,
                        || format!("{what}: {} {}", result.status, result.information),
                    );
                    check(pc.machine.close(lpt1));
                    let broken = device.violations();
                    failures.expect(broken.is_empty(), || format!("{what}: {:?}", broken[0]));
                    pc.remove();
                }
            }
        }
    }
    failures.end();
}

/// Busy may rise as late as half a microsecond after the strobe.
#[test]
fn a_printer_that_is_late_with_busy_gets_every_byte_once() {
    for access in [FAST, 400, 1000] {
        let printer = Printer::new().with_busy_delay(500);
        let chip = Spp::new(Box::new(printer.clone()));
        let pc = setup(access).started_with(chip, printer.clone());
        let lpt1 = pc.open();
        let data = pattern(300);
        let result = check(pc.machine.write(lpt1, &data));
        assert_eq!(result.status, NtStatus::SUCCESS, "{access} ns");
        assert_eq!(printer.received(), data, "{access} ns");
        assert_eq!(printer.violations(), [], "{access} ns");
        check(pc.machine.close(lpt1));
        pc.finish();
    }
}

/// Only fast ports pay for it.
#[test]
fn a_slow_port_needs_no_more_accesses() {
    let cost = |access: Nanos| {
        let printer = Printer::new().with_byte_time(0).with_ack_width(500);
        let chip = Spp::new(Box::new(printer.clone()));
        let pc = setup(access).started_with(chip, printer);
        let lpt1 = pc.open();
        let _ = check(pc.machine.write(lpt1, b"first"));
        let before = pc.machine.port_accesses();
        let started = pc.machine.now();
        assert_eq!(
            check(pc.machine.write(lpt1, &[b'x'; 1000])).information,
            1000
        );
        let result = (
            pc.machine.port_accesses() - before,
            pc.machine.now() - started,
        );
        check(pc.machine.close(lpt1));
        pc.remove();
        result
    };
    let (slow, _) = cost(1000);
    let (fast, time) = cost(FAST);
    assert!(slow <= 6 * 1000, "{slow}");
    assert!(fast > slow, "{fast}");
    // Set-up, strobe and hold of 750 ns, and what else a byte takes.
    assert!((2_250..5_000).contains(&(time / 1000)), "{time}");
}

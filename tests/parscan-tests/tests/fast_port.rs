//! A port as on PCI Express, where an access takes a tenth of a microsecond: what the standard bounds
//! by time is kept by time, and nothing is lost in any mode.

use std::{cell::RefCell, rc::Rc};

use ntsim::{Handle, NtStatus};
use parscan_models::{
    DaisyChain, HostLines, Nanos, Peripheral, Peripheral1284, PeripheralLines, Printer, Ps2, Spp,
};
use parscan_tests::{
    Setup, check,
    client::{Callback, PASSIVE, on_locked_device},
    modes::{Chip, Failures, ModesPc, channel, pattern, pc_with},
    ntddpar::{
        IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_QUERY_INFORMATION, modes,
    },
};

const FAST: Nanos = 100;
/// As fast as the driver takes an access to be at least.
const FASTEST: Nanos = 50;

fn setup(access: Nanos) -> Setup {
    let mut setup = Setup::default();
    setup.config.port_access_ns = access;
    setup
}

fn pc(chip: Chip, device: &Peripheral1284, access: Nanos) -> ModesPc {
    pc_with(chip, device, setup(access))
}

/// The end of a case: what the device objected to is noted.
fn end(pc: &ModesPc, lpt1: Handle, device: &Peripheral1284, failures: &mut Failures, what: &str) {
    check(pc.machine.close(lpt1));
    let broken = device.violations();
    failures.expect(broken.is_empty(), || format!("{what}: {:?}", broken[0]));
    pc.remove();
}

/// The device watches set-up, strobe and hold, 500 ns each, in every mode.
#[test]
fn nothing_is_lost_in_any_mode() {
    let mut failures = Failures::default();
    let data = pattern(700);
    for access in [FASTEST, FAST, 400, 600, 1000] {
        for chip in Chip::ALL {
            for (mode, name) in modes::ALL {
                let what = format!("{access} ns, {chip:?} {name}");
                if chip.write_modes() & mode != 0 {
                    let device = Peripheral1284::new();
                    let pc = pc(chip, &device, access);
                    let lpt1 = pc.open();
                    pc.choose(lpt1, 0, mode);
                    let result = check(pc.machine.write(lpt1, &data));
                    failures.expect(result.outcome() == (NtStatus::SUCCESS, data.len()), || {
                        format!("{what}: {} {}", result.status, result.information)
                    });
                    failures.expect(device.received_on(channel(mode)) == data, || {
                        format!("{what}: other bytes arrived")
                    });
                    end(&pc, lpt1, &device, &mut failures, &what);
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
                    end(&pc, lpt1, &device, &mut failures, &what);
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
        pc.close_and_finish(lpt1);
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

/// Both directions in one link: events 38 to 40 and 47 to 49 of ECP, EPP's cycles one after another.
#[test]
fn a_link_turns_round() {
    let mut failures = Failures::default();
    for access in [FASTEST, FAST, 1000] {
        for mode in [
            modes::ECP_HW_NOIRQ,
            modes::ECP_SW,
            modes::EPP_HW,
            modes::EPP_SW,
        ] {
            let what = format!("{access} ns, {mode:#06x}");
            let device = Peripheral1284::new();
            let pc = pc(Chip::EcpEpp, &device, access);
            let lpt1 = pc.open();
            pc.choose(lpt1, mode, mode);
            for round in 1..=3_usize {
                let data = pattern(40);
                let written = check(pc.machine.write(lpt1, &data));
                failures.expect(written.information == data.len(), || {
                    format!(
                        "{what}, {round}: {} {}",
                        written.status, written.information
                    )
                });
                device.give(&data);
                let read = check(pc.machine.read(lpt1, data.len()));
                failures.expect(read.output == data, || {
                    format!("{what}, {round}: read {} {}", read.status, read.information)
                });
                let arrived = device.received_on(channel(mode)).len();
                failures.expect(arrived == round * data.len(), || {
                    format!("{what}, {round}: {arrived} bytes arrived")
                });
            }
            end(&pc, lpt1, &device, &mut failures, &what);
        }
    }
    failures.end();
}

/// EPP's 10 us are microseconds, and not a number of looks, by software as by the chip, which has
/// them for the whole cycle.
#[test]
fn a_slow_answer_in_epp_is_in_time() {
    for access in [FASTEST, FAST, 1000] {
        for (mode, response) in [(modes::EPP_SW, 9_000), (modes::EPP_HW, 4_000)] {
            let device = Peripheral1284::new().with_response(response);
            let pc = pc(Chip::EcpEpp, &device, access);
            let lpt1 = pc.open();
            pc.choose(lpt1, mode, mode);
            let data = pattern(100);
            let written = check(pc.machine.write(lpt1, &data));
            assert_eq!(written.information, 100, "{access} ns, {mode:#06x}");
            device.give(&data);
            let read = check(pc.machine.read(lpt1, 100));
            assert_eq!(read.output, data, "{access} ns, {mode:#06x}");
            assert_eq!(device.received(), data, "{access} ns, {mode:#06x}");
            check(pc.machine.close(lpt1));
            pc.remove();
        }
    }
}

/// The command packets of a daisy chain: 7 us a byte, 1 us of set-up and of nStrobe.
#[test]
fn a_chain_gets_its_addresses() {
    for access in [FASTEST, FAST, 1000] {
        let chain = DaisyChain::new(Peripheral1284::new())
            .with_device(Peripheral1284::new())
            .with_device(Peripheral1284::new());
        let chip = Spp::new(Box::new(chain.clone()));
        let pc = setup(access).started_with(chip, chain.clone());
        check(pc.machine.enumerate(pc.node));
        check(pc.machine.run_until_idle());
        // The raw device, the two of the chain, and the one at its end.
        assert_eq!(pc.machine.children(pc.node).len(), 4, "{access} ns");
        assert_eq!(chain.violations(), [], "{access} ns");
        pc.remove();
    }
}

/// A cable on which every other line takes a while longer to its level than nAck does.
struct Slow {
    device: Peripheral1284,
    late: Nanos,
    shown: Rc<RefCell<Shown>>,
}

struct Shown {
    lines: PeripheralLines,
    data: Option<u8>,
    /// When nAck fell last.
    fell: Nanos,
}

impl Slow {
    fn new(device: &Peripheral1284, late: Nanos) -> Self {
        let shown = Shown {
            lines: PeripheralLines::from_dsr(0xDF),
            data: None,
            fell: 0,
        };
        Self {
            device: device.clone(),
            late,
            shown: Rc::new(RefCell::new(shown)),
        }
    }
}

impl Peripheral for Slow {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.device.host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        let real = self.device.lines(now);
        let data = self.device.data(now);
        let mut shown = self.shown.borrow_mut();
        if shown.lines.n_ack && !real.n_ack {
            shown.fell = now;
        }
        if real.n_ack || now >= shown.fell + self.late {
            shown.lines = real;
            shown.data = data;
        } else {
            shown.lines.n_ack = false;
        }
        shown.lines
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        let _ = self.lines(now);
        self.device.data(now)?;
        self.shown.borrow().data.or(Some(0xFF))
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.device.next_change(now)
    }
}

/// Nibbles and bytes are sampled when the lines have settled: on a port that is fast enough to look
/// before, a second time.
#[test]
fn data_are_sampled_after_the_lines_have_settled() {
    for access in [FASTEST, FAST] {
        for mode in [modes::NIBBLE, modes::BYTE_BIDIR] {
            let device = Peripheral1284::new();
            let chip = Ps2::new(Box::new(Slow::new(&device, 450)));
            let pc = setup(access).started_with(chip, device.clone());
            let lpt1 = pc.open();
            let offered = modes::mask(mode, 0);
            let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
            assert_eq!(chosen.status, NtStatus::SUCCESS, "{access} ns, {mode:#06x}");
            let data = pattern(300);
            device.give(&data);
            let read = check(pc.machine.read(lpt1, data.len()));
            assert_eq!(read.output, data, "{access} ns, {mode:#06x}");
            check(pc.machine.close(lpt1));
            pc.remove();
        }
    }
}

/// What asks only, and what a class driver calls, keeps the times, too.
#[test]
fn questions_and_callbacks_are_answered_as_on_a_slow_port() {
    let mut failures = Failures::default();
    let answers = [FAST, 1000].map(|access| {
        let device = Peripheral1284::new();
        let fast = pc(Chip::EcpEpp, &device, access);
        let lpt1 = fast.open();
        let state = fast.control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1);
        let caps = fast.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, &[0, 0], 2);
        assert_eq!(state.status, NtStatus::SUCCESS);
        assert_eq!(caps.status, NtStatus::SUCCESS);
        let what = format!("{access} ns");
        end(&fast, lpt1, &device, &mut failures, &what);
        (state.output, caps.output)
    });
    assert_eq!(answers[0], answers[1]);
    for mode in [modes::ECP_SW, modes::ECP_HW_NOIRQ, modes::EPP_SW] {
        let device = Peripheral1284::new();
        on_locked_device(pc(Chip::EcpEpp, &device, FAST), |_, _, class| {
            let call = |callback| {
                let status = class.call(callback, PASSIVE).status();
                assert_eq!(status, NtStatus::SUCCESS, "{mode:#06x}");
            };
            call(Callback::negotiate(mode, mode));
            call(Callback::ParallelWrite(b"forth"));
            device.give(b"back");
            call(Callback::IeeeFwdToRevMode);
            let read = class.call(Callback::ParallelRead(4), PASSIVE);
            assert_eq!(read.data, b"back", "{mode:#06x}");
            call(Callback::IeeeRevToFwdMode);
            call(Callback::ParallelWrite(b"again"));
            call(Callback::TerminateIeeeMode);
        });
        assert_eq!(
            device.received_on(channel(mode)),
            b"forthagain",
            "{mode:#06x}"
        );
    }
    failures.end();
}

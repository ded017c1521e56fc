//! What people have on their ports: devices without a printer's lines, that take their time, and
//! chips that show what no other does.

use std::{cell::RefCell, rc::Rc};

use ntsim::NtStatus;
use parscan_models::{
    Condition, Ecp, Epp, HostLines, Misbehaviour, Nanos, Peripheral, Peripheral1284,
    PeripheralLines, Phase, PortDevice, Spp, Width,
};
use parscan_tests::{
    MS, Setup, check,
    modes::{Chip, Failures, channel, pattern, pc, pc_with},
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEVICE_CAPS, modes},
};

const MINUTE: Nanos = 60_000 * MS;

/// A latch behind the data lines, as of a relay card or a programmer: it takes what is there when
/// nStrobe rises, and its status lines are what they are.
#[derive(Clone)]
struct Latch {
    lines: PeripheralLines,
    strobe: bool,
    taken: Rc<RefCell<Vec<u8>>>,
}

impl Peripheral for Latch {
    fn host_changed(&mut self, _now: Nanos, host: HostLines) {
        if host.n_strobe && !self.strobe {
            self.taken.borrow_mut().push(host.data);
        }
        self.strobe = host.n_strobe;
    }

    fn lines(&mut self, _now: Nanos) -> PeripheralLines {
        self.lines
    }
}

/// nFault high and Busy low: bytes go, whatever PError, Select and nAck show. nFault low refuses.
#[test]
fn who_has_no_printers_lines_gets_every_byte() {
    for levels in 0..16_u8 {
        let [p_error, select, n_ack, n_fault] = [1, 2, 4, 8].map(|line| levels & line != 0);
        let latch = Latch {
            lines: PeripheralLines {
                busy: false,
                n_ack,
                p_error,
                select,
                n_fault,
            },
            strobe: true,
            taken: Rc::default(),
        };
        let pc = Setup::default().started_with(Spp::new(Box::new(latch.clone())), latch.clone());
        let lpt1 = pc.open();
        latch.taken.borrow_mut().clear();
        let written = check(pc.machine.write(lpt1, b"latched"));
        let taken = latch.taken.borrow().clone();
        if n_fault {
            assert_eq!(written.outcome(), (NtStatus::SUCCESS, 7), "{levels:#x}");
            assert_eq!(taken, b"latched", "{levels:#x}");
        } else {
            assert_ne!(written.status, NtStatus::SUCCESS, "{levels:#x}");
            assert_eq!((written.information, taken.len()), (0, 0), "{levels:#x}");
        }
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

/// A write refuses a fault at once, and waits for its end as long as its time-out says. A printer
/// that is off-line without a fault is busy, and is waited for in any case.
#[test]
fn a_fault_is_waited_for_with_a_time_out() {
    for (condition, status) in [
        (Condition::PaperEmpty, Some(NtStatus::DEVICE_PAPER_EMPTY)),
        (Condition::OffLine, None),
        (Condition::PoweredOff, Some(NtStatus::DEVICE_POWERED_OFF)),
        (Condition::Fault, Some(NtStatus::DEVICE_OFF_LINE)),
    ] {
        let device = Peripheral1284::new();
        pc(Chip::Spp, &device).with_open(|pc, lpt1| {
            device.set_condition(condition);
            if let Some(status) = status {
                let refused = check(pc.machine.write(lpt1, b"text"));
                assert_eq!(refused.outcome(), (status, 0), "{condition:?}");
                assert!(refused.took < 100 * MS, "{condition:?}: {}", refused.took);
            }
            pc.set_timeouts(lpt1, [0, 0, 0, 0, 5000]);
            let late = check(pc.machine.write(lpt1, b"text"));
            assert_ne!(late.status, NtStatus::SUCCESS, "{condition:?}");
            assert_eq!(late.information, 0, "{condition:?}");
            let took = late.took / MS;
            assert!((4900..5300).contains(&took), "{condition:?}: {took} ms");
            let write = pc.machine.start_write(lpt1, b"text");
            check(pc.machine.run_for(2000 * MS));
            assert!(!pc.machine.is_done(&write), "{condition:?}");
            device.set_condition(Condition::Ready);
            let written = check(pc.machine.finish(&write));
            assert_eq!(written.outcome(), (NtStatus::SUCCESS, 4), "{condition:?}");
            assert_eq!(device.received(), b"text", "{condition:?}");
        });
    }
}

/// PeriphAck held (event 32) is no stall: the device is out of paper, or draws a page, for minutes.
/// Nothing is sent twice and nothing lost, and the count is exact.
#[test]
fn ecp_waits_for_event_32_as_long_as_it_takes() {
    let mut failures = Failures::default();
    let data = pattern(200);
    for mode in [modes::ECP_HW_NOIRQ, modes::ECP_SW] {
        for end in ["ready", "cancel", "time"] {
            let what = format!("{mode:#06x}, {end}");
            let device = Peripheral1284::new();
            let pc = pc(Chip::Ecp, &device);
            let lpt1 = pc.open();
            pc.choose(lpt1, 0, mode);
            if end == "time" {
                pc.set_timeouts(lpt1, [0, 0, 0, 0, 120_000]);
            }
            device.misbehave_at_byte(50, Misbehaviour::Condition(Condition::Busy));
            let write = pc.machine.start_write(lpt1, &data);
            check(
                pc.machine
                    .run_for(if end == "time" { MINUTE } else { 5 * MINUTE }),
            );
            failures.expect(!pc.machine.is_done(&write), || format!("{what}: it ended"));
            failures.expect(device.recoveries() == 0, || {
                format!("{what}: {} recoveries", device.recoveries())
            });
            let expected = match end {
                "ready" => {
                    device.behave();
                    device.set_condition(Condition::Ready);
                    NtStatus::SUCCESS
                }
                "cancel" => {
                    check(pc.machine.cancel(&write));
                    NtStatus::CANCELLED
                }
                _ => NtStatus::TIMEOUT,
            };
            let ended = check(pc.machine.finish(&write));
            failures.expect(ended.status == expected, || {
                format!("{what}: {}", ended.status)
            });
            let arrived = device.received_on(channel(mode));
            failures.expect(
                arrived.len() == ended.information && data.starts_with(&arrived),
                || {
                    format!(
                        "{what}: told {}, arrived {}",
                        ended.information,
                        arrived.len()
                    )
                },
            );
            // The rest goes on where this ended.
            device.behave();
            device.set_condition(Condition::Ready);
            let rest = check(pc.machine.write(lpt1, &data[ended.information..]));
            failures.expect(
                device.received_on(channel(mode)) == data && device.recoveries() == 0,
                || format!("{what}: the rest {} {}", rest.status, rest.information),
            );
            check(pc.machine.close(lpt1));
            pc.remove();
        }
    }
    failures.end();
}

/// Tolerant devices answer the request for nibble mode, the only one whose right XFlag is low, with
/// a high one: it is not looked at.
#[test]
fn a_wrong_x_flag_for_nibble_mode_is_no_refusal() {
    let device = Peripheral1284::new();
    device.misbehave(Misbehaviour::WrongXFlag);
    let pc = pc(Chip::Spp, &device);
    let lpt1 = pc.open();
    device.give(b"nibbles");
    let read = check(pc.machine.read(lpt1, 7));
    assert_eq!(
        (read.status, &read.output[..]),
        (NtStatus::SUCCESS, &b"nibbles"[..])
    );
    check(pc.machine.close(lpt1));
    pc.remove();
}

/// Word sizes that cnfgA does not define mean 8 bits: the FIFO is used.
#[test]
fn an_unknown_word_size_is_a_byte() {
    for cnfg_a in [0xB4, 0xC4, 0xD4, 0xE4, 0xF4] {
        let device = Peripheral1284::new();
        let chip = Ecp::new(Box::new(device.clone())).with_cnfg_a(cnfg_a);
        let mut setup = pc_setup();
        setup.config.trace_ports = false;
        let pc = setup.started_with(chip, device.clone());
        let lpt1 = pc.open();
        let ecp = modes::mask(0, modes::ECP_HW_NOIRQ);
        let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &ecp, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS, "{cnfg_a:#04x}");
        let data = pattern(4000);
        let before = pc.machine.port_accesses();
        let written = check(pc.machine.write(lpt1, &data));
        assert_eq!(written.information, data.len(), "{cnfg_a:#04x}");
        assert_eq!(device.received_on(channel(modes::ECP_HW_NOIRQ)), data);
        let accesses = pc.machine.port_accesses() - before;
        assert!(
            accesses < 2 * data.len() as u64,
            "{cnfg_a:#04x}: {accesses}"
        );
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

/// A port with an ECP block.
fn pc_setup() -> Setup {
    let mut setup = Setup {
        ecp: true,
        ..Setup::default()
    };
    setup.resources.push(ntsim::Resource::Port {
        base: 0x778,
        len: 3,
    });
    setup
}

/// A port that firmware left in ECP mode (011) takes what is written to DATA for a command: nothing
/// is, before it is found and in SPP mode.
#[test]
fn a_port_that_firmware_left_in_ecp_mode_sends_nothing() {
    for ecr in [0x15, 0x35, 0x55, 0x75, 0x77, 0x95, 0xD5, 0xF5] {
        let device = Peripheral1284::new();
        let chip = Ecp::new(Box::new(device.clone())).with_ecr(ecr);
        let pc = pc_setup().started_with(chip, device.clone());
        assert_eq!(device.received(), b"", "{ecr:#04x}");
        assert_eq!(device.violations(), [], "{ecr:#04x}");
        let lpt1 = pc.open();
        let written = check(pc.machine.write(lpt1, b"plain"));
        assert_eq!(written.information, 5, "{ecr:#04x}");
        assert_eq!(device.received(), b"plain", "{ecr:#04x}");
        pc.close_and_finish(lpt1);
    }
}

/// A device that the end of EPP, an nInit pulse, resets: NEGOTIATE for both directions succeeds, and
/// so does the transfer.
#[test]
fn epp_both_ways_with_a_device_that_its_end_resets() {
    for chip in [Chip::Epp, Chip::EcpEpp] {
        let device = Peripheral1284::new()
            .with_reset_at_epp_exit()
            .with_reset_time(500 * MS);
        let pc = pc_with(chip, &device, Setup::default());
        let lpt1 = pc.open();
        pc.choose(lpt1, modes::EPP_HW, modes::EPP_HW);
        device.give(b"back");
        assert_eq!(check(pc.machine.write(lpt1, b"forth")).information, 5);
        assert_eq!(check(pc.machine.read(lpt1, 4)).output, b"back");
        assert_eq!(device.received(), b"forth");
        assert_eq!(device.resets(), 0);
        check(pc.machine.close(lpt1));
        check(pc.machine.run_for(1000 * MS));
        pc.remove();
    }
}

/// A device that answers address cycles before a host has negotiated EPP with it.
#[derive(Clone)]
struct Eager {
    device: Peripheral1284,
    select_in: bool,
    /// When nSelectIn, which is nAStrb, fell last.
    asked: Option<Nanos>,
}

impl Eager {
    fn answers(&self, now: Nanos) -> bool {
        self.asked.is_some_and(|asked| now < asked + 5_000)
            && self.device.phase() == Phase::Compatibility
    }
}

impl Peripheral for Eager {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        if self.select_in && !host.n_select_in && host.n_auto_fd && host.n_init {
            self.asked = Some(now);
        }
        self.select_in = host.n_select_in;
        self.device.host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        let mut lines = self.device.lines(now);
        lines.busy |= self.answers(now);
        lines
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        if self.answers(now) {
            Some(0x12)
        } else {
            self.device.data(now)
        }
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.device.next_change(now)
    }
}

/// EPP is not absent because a cycle did not time out.
#[test]
fn a_device_that_answers_address_cycles_leaves_epp_there() {
    for has_ecr in [false, true] {
        let device = Peripheral1284::new();
        let eager = Box::new(Eager {
            device: device.clone(),
            select_in: false,
            asked: None,
        });
        let pc = if has_ecr {
            pc_setup().started_with(AnyEpp::Ecp(Ecp::new(eager).with_epp()), device.clone())
        } else {
            Setup::default().started_with(AnyEpp::Epp(Epp::new(eager)), device.clone())
        };
        let lpt1 = pc.open();
        let caps = pc.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, &[0, 0], 2);
        assert_eq!(caps.status, NtStatus::SUCCESS, "{has_ecr}");
        let caps = u16::from_le_bytes([caps.output[0], caps.output[1]]);
        assert!(caps & modes::EPP_HW != 0, "{has_ecr}: {caps:#06x}");
        let epp = modes::mask(modes::EPP_HW, modes::EPP_HW);
        let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &epp, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS, "{has_ecr}");
        assert_eq!(check(pc.machine.write(lpt1, b"cycles")).information, 6);
        assert_eq!(device.received(), b"cycles", "{has_ecr}");
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

/// A chip with EPP registers, with or without an ECR.
enum AnyEpp {
    Epp(Epp),
    Ecp(Ecp),
}

impl AnyEpp {
    fn chip(&mut self) -> &mut dyn PortDevice {
        match self {
            Self::Epp(chip) => chip,
            Self::Ecp(chip) => chip,
        }
    }
}

impl PortDevice for AnyEpp {
    fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
        self.chip().read(now, block, offset, width)
    }

    fn write(&mut self, now: Nanos, block: usize, offset: u16, width: Width, value: u32) {
        self.chip().write(now, block, offset, width, value);
    }

    fn held_until(&self) -> Nanos {
        match self {
            Self::Epp(chip) => chip.held_until(),
            Self::Ecp(chip) => chip.held_until(),
        }
    }
}

/// A device that takes the request for ECP, and not the turn of the link: the read says so, and the
/// next one, when the device behaves, gets everything.
#[test]
fn a_link_that_does_not_turn_round_loses_nothing() {
    let mut failures = Failures::default();
    for chip in [Chip::Ps2, Chip::Ecp] {
        for (mode, name) in chip.ways_to_read() {
            if mode & (modes::ECP_SW | modes::ECP_HW_NOIRQ) == 0 {
                continue;
            }
            for trouble in [Misbehaviour::Silent, Misbehaviour::Dead] {
                let what = format!("{chip:?}, {name}, {trouble:?}");
                let device = Peripheral1284::new();
                let pc = pc(chip, &device);
                let lpt1 = pc.open();
                pc.choose(lpt1, mode, 0);
                device.give(b"reply");
                device.misbehave_at_event(40, trouble);
                let read = check(pc.machine.read(lpt1, 5));
                failures.expect(read.outcome() == (NtStatus::IO_DEVICE_ERROR, 0), || {
                    format!("{what}: {} {}", read.status, read.information)
                });
                failures.expect_rest(&pc, &what);
                device.behave();
                let read = check(pc.machine.read(lpt1, 5));
                failures.expect(read.output == b"reply", || {
                    format!("{what}: then {} {}", read.status, read.information)
                });
                failures.end_case(&pc, lpt1, &what);
            }
        }
    }
    failures.end();
}

/// A line that shows a fault for a moment is no fault, by the control lines as by the FIFO.
#[test]
fn a_fault_that_is_over_at_the_second_look_is_none() {
    let mut failures = Failures::default();
    let data = pattern(40);
    for chip in [Chip::Spp, Chip::Ecp] {
        for (mode, name) in chip.ways_to_write() {
            if mode & (modes::CENTRONICS | modes::IEEE_COMPATIBILITY) == 0 {
                continue;
            }
            for moment in [0, 20] {
                let what = format!("{chip:?}, {name}, byte {moment}");
                let device = Peripheral1284::new();
                let pc = pc(chip, &device);
                let lpt1 = pc.open();
                pc.choose(lpt1, 0, mode);
                if moment == 0 {
                    device.set_condition(Condition::Fault);
                } else {
                    device.misbehave_at_byte(moment, Misbehaviour::Condition(Condition::Fault));
                }
                let write = pc.machine.start_write(lpt1, &data);
                check(pc.machine.run_for(200_000));
                device.behave();
                device.set_condition(Condition::Ready);
                let written = check(pc.machine.finish(&write));
                let whole = written.outcome() == (NtStatus::SUCCESS, data.len());
                failures.expect(whole && device.received() == data, || {
                    let arrived = device.received().len();
                    format!(
                        "{what}: {} {}, {arrived} arrived",
                        written.status, written.information
                    )
                });
                failures.end_case(&pc, lpt1, &what);
            }
        }
    }
    failures.end();
}

/// A printer that is busy, its chip's FIFO full, and then shows a fault: the write tells it, and how
/// much arrived. The rest comes when the printer is well.
#[test]
fn a_fault_while_the_fifo_is_full_is_told() {
    let mut failures = Failures::default();
    let data = pattern(60);
    for (condition, status) in [
        (Condition::PaperEmpty, NtStatus::DEVICE_PAPER_EMPTY),
        (Condition::Fault, NtStatus::DEVICE_OFF_LINE),
        (Condition::PoweredOff, NtStatus::DEVICE_POWERED_OFF),
    ] {
        for busy in [1, 8, 25, 59] {
            let what = format!("{condition:?} after {busy}");
            let device = Peripheral1284::new();
            let pc = pc(Chip::Ecp, &device);
            let lpt1 = pc.open();
            pc.choose(lpt1, 0, modes::IEEE_COMPATIBILITY);
            device.misbehave_at_byte(busy, Misbehaviour::Condition(Condition::Busy));
            let write = pc.machine.start_write(lpt1, &data);
            check(pc.machine.run_for(50 * MS));
            failures.expect(!pc.machine.is_done(&write), || format!("{what}: it ended"));
            device.set_condition(condition);
            let ended = check(pc.machine.finish(&write));
            failures.expect(ended.status == status, || {
                format!("{what}: {}", ended.status)
            });
            let arrived = device.received();
            // Of what was sent last to a device that has no power then, the chip does not tell.
            let told = &data[..ended.information];
            let is_absent = condition == Condition::PoweredOff;
            let fits = told == arrived || is_absent && arrived.starts_with(told);
            failures.expect(fits, || {
                format!("{what}: told {}, {} arrived", told.len(), arrived.len())
            });
            device.behave();
            device.set_condition(Condition::Ready);
            let rest = check(pc.machine.write(lpt1, &data[ended.information..]));
            failures.expect(rest.status == NtStatus::SUCCESS, || {
                format!("{what}: the rest {}", rest.status)
            });
            failures.end_case(&pc, lpt1, &what);
        }
    }
    failures.end();
}

/// Runs of ECP are of 128 bytes at most; longer ones are several.
#[test]
fn runs_of_every_length_arrive() {
    for length in [2, 3, 127, 128, 129, 255, 256, 257, 1000] {
        let device = Peripheral1284::new();
        pc(Chip::Ps2, &device).with_open(|pc, lpt1| {
            pc.choose(lpt1, 0, modes::ECP_SW);
            let data = [vec![0x5A; length], vec![0xA5], vec![0x5A; length]].concat();
            let written = check(pc.machine.write(lpt1, &data));
            assert_eq!(
                written.outcome(),
                (NtStatus::SUCCESS, data.len()),
                "{length}"
            );
            assert!(
                device.received_on(channel(modes::ECP_SW)) == data,
                "{length}"
            );
        });
    }
}

/// From EPP by the control lines to EPP by the chip on a device that has stopped answering: the chip
/// is not let loose on it.
#[test]
fn a_device_that_stopped_answering_in_epp_is_told() {
    for stuck in [true, false] {
        let device = Peripheral1284::new();
        pc(Chip::EcpEpp, &device).with_open(|pc, lpt1| {
            pc.choose(lpt1, modes::EPP_SW, modes::EPP_HW);
            device.give(b"reply");
            assert_eq!(check(pc.machine.read(lpt1, 5)).output, b"reply");
            device.misbehave(Misbehaviour::WaitStuck(stuck));
            let written = check(pc.machine.write(lpt1, b"text"));
            assert_eq!(written.status, NtStatus::IO_DEVICE_ERROR, "{stuck}");
            device.behave();
            let written = check(pc.machine.write(lpt1, b"text"));
            assert_eq!(written.outcome(), (NtStatus::SUCCESS, 4), "{stuck}");
        });
    }
}

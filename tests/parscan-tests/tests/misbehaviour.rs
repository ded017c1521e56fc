//! Devices that break the rules: every request ends in time, tells the truth, and leaves the port
//! at rest; and when the device behaves again, so does everything else.

use ntsim::{Handle, Nanos, NtStatus};
use parscan_models::{Condition, Misbehaviour, Peripheral1284};
use parscan_tests::{
    MS, check,
    modes::{Chip, Failures, ModesPc, channel, pattern, pc},
    ntddpar::modes,
};

/// Bytes of a transfer.
const AMOUNT: usize = 20;

/// After so many bytes.
const MOMENTS: [usize; 3] = [0, 7, 16];

/// What a transfer may end with.
const STATUSES: [NtStatus; 7] = [
    NtStatus::SUCCESS,
    NtStatus::TIMEOUT,
    NtStatus::IO_DEVICE_ERROR,
    NtStatus::DEVICE_OFF_LINE,
    NtStatus::DEVICE_PAPER_EMPTY,
    NtStatus::DEVICE_POWERED_OFF,
    NtStatus::DEVICE_NOT_CONNECTED,
];

/// The limit that the program sets for a write: a printer may be busy for ever.
const WRITE_LIMIT_MS: u32 = 10_000;
/// Every answer has 35 ms. A device that takes nearly all of it has five events a byte; one that
/// stalls gets 3.5 s before a recovery of 2 x 58 ms. A clock tick of 16 ms is on top of each.
const LIMIT: Nanos = (4 * 50 * AMOUNT as Nanos + 3500 + 1000) * MS;

fn is_compatible(mode: u16) -> bool {
    mode & (modes::CENTRONICS | modes::IEEE_COMPATIBILITY) != 0
}

/// What no host can know: a dead printer may look like one that is ready, and a line that does not
/// move like an answer.
fn looks_well(mode: u16, misbehaviour: Misbehaviour, moment: usize) -> bool {
    match misbehaviour {
        Misbehaviour::Dead => is_compatible(mode) && moment == 0,
        Misbehaviour::WaitStuck(true) => mode == modes::EPP_SW && moment == 0,
        _ => false,
    }
}

/// How many bytes more than the driver told may have arrived when a write failed: those that the
/// chip does not tell of. It may be fewer, but never more.
fn unknown(chip: Chip, mode: u16, misbehaviour: Misbehaviour) -> usize {
    let is_absent = matches!(
        misbehaviour,
        Misbehaviour::Condition(Condition::PoweredOff | Condition::Unplugged)
    );
    match mode {
        // The cycle that timed out may be any of a block.
        modes::EPP_HW => AMOUNT,
        // Taken, but without the end of the handshake.
        modes::ECP_HW_NOIRQ => 1,
        // The chip asks only for Busy, and a missing device is never busy: the last burst does not count.
        modes::IEEE_COMPATIBILITY if chip == Chip::EcpEpp && is_absent => 16,
        _ => 0,
    }
}

#[test]
fn writes_to_a_misbehaving_device_end_in_time_and_tell_the_truth() {
    let data = pattern(AMOUNT);
    for_every_case(Chip::write_modes, |case, failures| {
        let (pc, device, what) = (&case.pc, &case.device, &case.what);
        pc.choose(case.lpt1, 0, case.mode);
        pc.set_timeouts(case.lpt1, [0, 0, 0, 0, WRITE_LIMIT_MS]);
        device.misbehave_at_byte(case.moment, case.misbehaviour);
        let result = check(pc.machine.write(case.lpt1, &data));
        let (told, arrived) = (result.information, device.received());
        failures.expect(STATUSES.contains(&result.status), || {
            format!("{what}: {}", result.status)
        });
        failures.expect(
            (result.status == NtStatus::SUCCESS) == (told == AMOUNT),
            || format!("{what}: {} with {told}", result.status),
        );
        failures.expect(data.starts_with(&arrived), || {
            format!("{what}: other bytes arrived")
        });
        let count = arrived.len();
        failures.expect(
            count
                .checked_sub(told)
                .is_some_and(|more| more <= unknown(case.chip, case.mode, case.misbehaviour))
                || looks_well(case.mode, case.misbehaviour, case.moment),
            || format!("{what}: {}, told {told}, arrived {count}", result.status),
        );
        // For the next byte of ECP a device may let the host wait as long as the program does.
        let limit = if is_compatible(case.mode) || is_ecp(case.mode) {
            (Nanos::from(WRITE_LIMIT_MS) + 100) * MS
        } else {
            LIMIT
        };
        failures.expect_took(&result, ..limit, what);
        failures.expect_rest(pc, what);
        case.heal();
        device.clear_received();
        let next = check(pc.machine.write(case.lpt1, &data));
        failures.expect(
            next.outcome() == (NtStatus::SUCCESS, AMOUNT)
                && device.received_on(channel(case.mode)) == data,
            || {
                format!(
                    "{what}: the next write: {} {:x?}",
                    next.status,
                    device.received()
                )
            },
        );
    });
}

#[test]
fn reads_from_a_misbehaving_device_end_in_time_and_go_on_where_they_ended() {
    let data = pattern(AMOUNT);
    for_every_case(Chip::read_modes, |case, failures| {
        let (pc, device, what) = (&case.pc, &case.device, &case.what);
        pc.choose(case.lpt1, case.mode, 0);
        device.give(&data);
        device.misbehave_at_byte(case.moment, case.misbehaviour);
        let result = check(pc.machine.read(case.lpt1, AMOUNT));
        let sent = AMOUNT - device.to_send();
        let told = result.information;
        failures.expect(STATUSES.contains(&result.status), || {
            format!("{what}: {}", result.status)
        });
        // Without power all lines are low, which in ECP case.mode offers a byte.
        let phantom = usize::from(
            case.mode == modes::ECP_HW_NOIRQ
                && case.misbehaviour == Misbehaviour::Condition(Condition::PoweredOff)
                || looks_well(case.mode, case.misbehaviour, case.moment),
        );
        // Half a byte is none, although its sender may think that it has gone.
        let lost = if case.mode == modes::EPP_HW {
            AMOUNT
        } else {
            1
        };
        failures.expect(told <= sent + phantom && sent <= told + lost, || {
            format!("{what}: {}, told {told}, sent {sent}", result.status)
        });
        let got = &result.output[..told.min(sent)];
        failures.expect(data.starts_with(got), || {
            format!("{what}: {} with other bytes: {got:x?}", result.status)
        });
        failures.expect_took(&result, ..LIMIT, what);
        failures.expect_rest(pc, what);
        case.heal();
        let next = check(pc.machine.read(case.lpt1, AMOUNT - sent));
        failures.expect(
            next.outcome() == (NtStatus::SUCCESS, AMOUNT - sent) && next.output == data[sent..],
            || {
                format!(
                    "{what}: told {told}, sent {sent}, then {} {:x?} of {data:x?}",
                    next.status, next.output
                )
            },
        );
    });
}

/// A device that misbehaves at a moment, on a port whose mode a test chooses.
struct Case {
    chip: Chip,
    mode: u16,
    misbehaviour: Misbehaviour,
    moment: usize,
    what: String,
    device: Peripheral1284,
    pc: ModesPc,
    lpt1: Handle,
}

impl Case {
    /// The device comes to itself.
    fn heal(&self) {
        self.device.behave();
        self.device.set_condition(Condition::Ready);
        check(self.pc.machine.run_for(2000 * MS));
    }
}

/// Every mode of the two chips that have most of them, every misbehaviour, every moment.
fn for_every_case(has: impl Fn(Chip) -> u16, run: impl Fn(&Case, &mut Failures)) {
    let mut failures = Failures::default();
    for chip in [Chip::EcpEpp, Chip::Ps2] {
        for (mode, name) in modes::ALL {
            if has(chip) & mode == 0 {
                continue;
            }
            for misbehaviour in Misbehaviour::EXAMPLES {
                for moment in MOMENTS {
                    let device = Peripheral1284::new();
                    let pc = pc(chip, &device);
                    let case = Case {
                        chip,
                        mode,
                        misbehaviour,
                        moment,
                        what: format!("{chip:?} {name}, {misbehaviour:?} at byte {moment}"),
                        device,
                        lpt1: pc.open(),
                        pc,
                    };
                    run(&case, &mut failures);
                    failures.end_case(&case.pc, case.lpt1, &case.what);
                }
            }
        }
    }
    failures.end();
}

const fn is_ecp(mode: u16) -> bool {
    mode & (modes::ECP_HW_NOIRQ | modes::ECP_SW) != 0
}

/// A printer that runs out of paper or goes off line says so, with the bytes that it has.
#[test]
fn a_printer_in_trouble_says_which_and_when() {
    let mut failures = Failures::default();
    let data = pattern(40);
    for chip in Chip::ALL {
        for (mode, name) in modes::ALL
            .into_iter()
            .filter(|(mode, _)| is_compatible(*mode))
        {
            for byte_time in [0, 20_000, 200_000] {
                for (condition, status) in [
                    (Condition::PaperEmpty, NtStatus::DEVICE_PAPER_EMPTY),
                    (Condition::Fault, NtStatus::DEVICE_OFF_LINE),
                ] {
                    for moment in [0, 1, 2, 15, 16, 17, 32, 39] {
                        let what =
                            format!("{chip:?} {name}, {byte_time} ns, {condition:?} at {moment}");
                        let device = Peripheral1284::new().with_byte_time(byte_time);
                        let pc = pc(chip, &device);
                        let lpt1 = pc.open();
                        pc.choose(lpt1, 0, mode);
                        device.misbehave_at_byte(moment, Misbehaviour::Condition(condition));
                        let result = check(pc.machine.write(lpt1, &data));
                        failures.expect(
                            result.outcome() == (status, moment)
                                && device.received() == data[..moment],
                            || {
                                format!(
                                    "{what}: {} {}, arrived {}",
                                    result.status,
                                    result.information,
                                    device.received().len()
                                )
                            },
                        );
                        failures.expect_took(&result, ..200 * MS, &what);
                        failures.expect_rest(&pc, &what);
                        // Paper is put in, and the program sends the rest.
                        device.set_condition(Condition::Ready);
                        let rest = &data[result.information..];
                        let next = check(pc.machine.write(lpt1, rest));
                        failures.expect(
                            next.outcome() == (NtStatus::SUCCESS, rest.len())
                                && device.received() == data,
                            || format!("{what}: the rest: {} {}", next.status, next.information),
                        );
                        check(pc.machine.close(lpt1));
                        // Emptying the FIFO is part of it, so the chip tells of lost bytes.
                        assert_eq!(device.violations(), [], "{what}");
                        pc.remove();
                    }
                }
            }
        }
    }
    failures.end();
}

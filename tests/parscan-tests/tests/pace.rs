//! What a transfer costs: time, processor time, memory; and the limits that a program sets.

use ntsim::{Nanos, NtStatus, When};
use parscan_models::{Condition, Peripheral1284};
use parscan_tests::{
    MS, US, check,
    modes::{Chip, Failures, channel, pattern, pc},
    ntddpar::modes,
};

fn is_epp(mode: u16) -> bool {
    mode & (modes::EPP_HW | modes::EPP_SW) != 0
}

/// A device that is busy for 50 us after each byte sets the pace, and the processor does something
/// better than to wait for it.
#[test]
fn a_slow_device_sets_the_pace_and_leaves_the_processor_to_others() {
    const BYTES: usize = 2000;
    const BYTE_TIME: Nanos = 50 * US;
    let mut failures = Failures::default();
    let data = pattern(BYTES);
    for chip in [Chip::Spp, Chip::EcpEpp] {
        for (mode, name) in modes::ALL {
            for (write, has) in [(true, chip.write_modes()), (false, chip.read_modes())] {
                // An EPP cycle has 10 us.
                if has & mode == 0 || is_epp(mode) {
                    continue;
                }
                let what = format!("{chip:?} {name}, {}", if write { "write" } else { "read" });
                let device = Peripheral1284::new().with_byte_time(BYTE_TIME);
                pc(chip, &device).with_open(|pc, lpt1| {
                    if write {
                        pc.choose(lpt1, 0, mode);
                    } else {
                        pc.choose(lpt1, mode, 0);
                        device.give(&data);
                    }
                    let before = pc.machine.times();
                    let result = if write {
                        check(pc.machine.write(lpt1, &data))
                    } else {
                        check(pc.machine.read(lpt1, BYTES))
                    };
                    let after = pc.machine.times();
                    failures.expect(result.outcome() == (NtStatus::SUCCESS, BYTES), || {
                        format!("{what}: {} {}", result.status, result.information)
                    });
                    if write {
                        failures.expect(device.received_on(channel(mode)) == data, || {
                            format!("{what}: other bytes arrived")
                        });
                    } else {
                        failures.expect(result.output == data, || format!("{what}: other bytes"));
                    }
                    let took = after.now - before.now;
                    // These devices begin with a byte when the host is through with the last one.
                    let host = match mode {
                        modes::NIBBLE | modes::BYTE_BIDIR => 8 * US,
                        _ => 0,
                    };
                    let pace = (BYTE_TIME + host) * BYTES as Nanos;
                    let percent = |part: Nanos| part * 100 / took;
                    let (stalled, cpu) = (after.stalled - before.stalled, after.cpu - before.cpu);
                    println!(
                        "{what}: {} ns a byte, stalled {} %, cpu {} %",
                        took / BYTES as Nanos,
                        percent(stalled),
                        percent(cpu)
                    );
                    failures.expect(stalled * 5 < took, || {
                        format!("{what}: stalled {} %", percent(stalled))
                    });
                    failures.expect(took * 10 < pace * 11, || {
                        format!("{what}: {} us for {} us", took / US, pace / US)
                    });
                });
            }
        }
    }
    failures.end();
}

/// A device that takes milliseconds for a byte is known by that after some bytes: most of its time is
/// slept through, and it keeps its pace all the same.
#[test]
fn a_device_of_milliseconds_costs_little() {
    const BYTES: usize = 200;
    for byte_time in [5 * MS, 20 * MS] {
        let device = Peripheral1284::new().with_byte_time(byte_time);
        pc(Chip::Spp, &device).with_open(|pc, lpt1| {
            pc.choose(lpt1, 0, modes::CENTRONICS);
            let before = pc.machine.times();
            let result = check(pc.machine.write(lpt1, &pattern(BYTES)));
            let after = pc.machine.times();
            assert_eq!(result.outcome(), (NtStatus::SUCCESS, BYTES));
            let (cpu, took) = (after.cpu - before.cpu, after.now - before.now);
            let pace = byte_time * BYTES as Nanos;
            println!(
                "{} us a byte: {} us, cpu {} %, {} timers",
                byte_time / US,
                took / US / BYTES as Nanos,
                cpu * 100 / took,
                after.timer_wakeups - before.timer_wakeups
            );
            assert!(took * 100 < pace * 105, "{took} ns for {pace} ns");
            assert!(cpu * 4 < took, "cpu {cpu} of {took} ns");
        });
    }
}

/// A printer that is busy for minutes is looked at some times a second, and a cancellation does not
/// wait for the next look.
#[test]
fn a_printer_that_is_busy_for_minutes_is_rarely_looked_at() {
    let device = Peripheral1284::new();
    pc(Chip::Spp, &device).with_open(|pc, lpt1| {
        device.set_condition(Condition::Busy);
        for cancelled in [false, true] {
            let write = pc.machine.start_write(lpt1, b"text");
            check(pc.machine.run_for(60_000 * MS));
            let before = pc.machine.times();
            check(pc.machine.run_for(60_000 * MS));
            let after = pc.machine.times();
            let looks = after.port_accesses - before.port_accesses;
            let timers = after.timer_wakeups - before.timer_wakeups;
            println!("{looks} looks and {timers} timers a minute");
            assert!((60..=300).contains(&looks), "{looks} looks a minute");
            assert!(timers <= 300, "{timers} timers a minute");
            let end = pc.machine.now();
            let (status, late) = if cancelled {
                check(pc.machine.cancel(&write));
                (NtStatus::CANCELLED, 2 * MS)
            } else {
                device.set_condition(Condition::Ready);
                (NtStatus::SUCCESS, 260 * MS)
            };
            assert_eq!(check(pc.machine.finish(&write)).status, status);
            let took = pc.machine.now() - end;
            assert!(took < late, "{took} ns");
            device.set_condition(Condition::Busy);
        }
        device.set_condition(Condition::Ready);
    });
}

/// The data stay in the request's own buffer: the driver allocates nothing for them.
#[test]
fn a_long_transfer_needs_no_more_memory_than_a_short_one() {
    for (chip, mode) in [
        (Chip::Spp, modes::CENTRONICS),
        (Chip::EcpEpp, modes::IEEE_COMPATIBILITY),
        (Chip::EcpEpp, modes::EPP_HW),
        (Chip::EcpEpp, modes::ECP_HW_NOIRQ),
    ] {
        let device = Peripheral1284::new();
        pc(chip, &device).with_open(|pc, lpt1| {
            pc.choose(lpt1, 0, mode);
            let long = if mode == modes::CENTRONICS {
                64 << 10
            } else {
                1 << 20
            };
            let calls = [16, 4 << 10, long].map(|length| {
                let before = pc.machine.failable_calls();
                let result = check(pc.machine.write(lpt1, &pattern(length)));
                assert_eq!(
                    result.outcome(),
                    (NtStatus::SUCCESS, length),
                    "{chip:?} {mode:#06x}"
                );
                pc.machine.failable_calls() - before
            });
            assert_eq!(calls, [0; 3], "{chip:?} {mode:#06x}");
        });
    }
}

/// A write with a limit ends there, with the bytes that the device has.
#[test]
fn a_write_ends_with_its_time() {
    let mut failures = Failures::default();
    let data = pattern(1000);
    // The limit is 100 ms in each case.
    for (multiplier, constant) in [(0, 100), (1, 0), (0, 0)] {
        for (mode, name) in modes::ALL {
            if Chip::EcpEpp.write_modes() & mode == 0 || is_epp(mode) {
                continue;
            }
            let what = format!("{name}, {multiplier} ms a byte and {constant} ms");
            let device = Peripheral1284::new().with_byte_time(5 * MS);
            let pc = pc(Chip::EcpEpp, &device);
            let lpt1 = pc.open();
            pc.choose(lpt1, 0, mode);
            pc.set_timeouts(lpt1, [0, 0, 0, multiplier, constant]);
            let data = &data[..100];
            let result = check(pc.machine.write(lpt1, data));
            let arrived = device.received();
            let in_time = multiplier == 0 && constant == 0;
            let expected = if in_time {
                NtStatus::SUCCESS
            } else {
                NtStatus::TIMEOUT
            };
            failures.expect(result.status == expected, || {
                format!("{what}: {}", result.status)
            });
            // A byte that is between chip and device may be unknown.
            let unknown = usize::from(mode == modes::ECP_HW_NOIRQ);
            failures.expect(
                data.starts_with(&arrived)
                    && result.information <= arrived.len()
                    && arrived.len() <= result.information + unknown,
                || {
                    format!(
                        "{what}: told {}, arrived {}",
                        result.information,
                        arrived.len()
                    )
                },
            );
            if !in_time {
                failures.expect((17..=22).contains(&arrived.len()), || {
                    format!("{what}: {} bytes in 100 ms", arrived.len())
                });
                // The clock has ticks of 16 ms, and the device has its say at the end.
                failures.expect_took(&result, 99 * MS..160 * MS, &what);
            }
            failures.end_case(&pc, lpt1, &what);
        }
    }
    failures.end();
}

#[test]
fn a_write_to_a_busy_printer_waits_as_long_as_the_program_wants() {
    let device = Peripheral1284::new().with_condition(Condition::Busy);
    pc(Chip::Spp, &device).with_open(|pc, lpt1| {
        for limit in [1, 100, 5000] {
            pc.set_timeouts(lpt1, [0, 0, 0, 0, limit]);
            let result = check(pc.machine.write(lpt1, b"text"));
            assert_eq!(result.outcome(), (NtStatus::TIMEOUT, 0), "{limit} ms");
            let took = result.took / MS;
            assert!(
                (u64::from(limit) - 1..u64::from(limit) + 50).contains(&took),
                "{limit} ms: {took} ms"
            );
            assert_eq!(pc.not_at_rest(), [""; 0]);
        }
        // Limits are computed in 64 bits, and none is none.
        for fields in [[0; 5], [0, 0, 0, u32::MAX, u32::MAX]] {
            pc.set_timeouts(lpt1, fields);
            let write = pc.machine.start_write(lpt1, b"text");
            check(pc.machine.run_for(600_000 * MS));
            assert!(!pc.machine.is_done(&write), "{fields:x?}");
            let before = pc.machine.times();
            check(pc.machine.run_for(10_000 * MS));
            let after = pc.machine.times();
            let (cpu, all) = (after.cpu - before.cpu, after.now - before.now);
            assert!(cpu * 100 < all, "{cpu} ns of {all} ns");
            device.set_condition(Condition::Ready);
            let result = check(pc.machine.finish(&write));
            assert_eq!(result.outcome(), (NtStatus::SUCCESS, 4), "{fields:x?}");
            device.set_condition(Condition::Busy);
        }
        device.set_condition(Condition::Ready);
    });
}

/// A read takes what is there. With a limit it waits for a first byte, no longer than that.
#[test]
fn a_read_waits_for_a_first_byte_if_the_program_wants() {
    let mut failures = Failures::default();
    for (mode, name) in modes::ALL {
        // EPP has no way to say that there are no data.
        if Chip::EcpEpp.read_modes() & mode == 0 || is_epp(mode) {
            continue;
        }
        let device = Peripheral1284::new();
        let pc = pc(Chip::EcpEpp, &device);
        let lpt1 = pc.open();
        pc.choose(lpt1, mode, 0);
        // An interval alone is no total limit.
        for fields in [[0; 5], [u32::MAX, 0, 0, 0, 0], [50, 0, 0, 5, 5]] {
            pc.set_timeouts(lpt1, fields);
            let result = check(pc.machine.read(lpt1, 10));
            failures.expect(
                result.outcome() == (NtStatus::SUCCESS, 0) && result.took < 150 * MS,
                || format!("{name}, {fields:x?}: {result:?}"),
            );
            failures.expect_rest(&pc, name);
        }
        for fields in [[0, 0, 300, 0, 0], [0, 30, 0, 0, 0], [0, 20, 100, 0, 0]] {
            pc.set_timeouts(lpt1, fields);
            let what = format!("{name}, {fields:?}");
            let result = check(pc.machine.read(lpt1, 10));
            failures.expect(result.outcome() == (NtStatus::TIMEOUT, 0), || {
                format!("{what}: {result:?}")
            });
            failures.expect_took(&result, 299 * MS..350 * MS, &what);
            failures.expect_rest(&pc, &what);
            // In the middle of the wait there is something.
            let giver = device.clone();
            let then = pc.machine.now() + 150 * MS;
            pc.machine
                .at(When::Time(then), move |_| giver.give(b"some"));
            let result = check(pc.machine.read(lpt1, 10));
            failures.expect(
                result.status == NtStatus::SUCCESS && result.output.starts_with(b"some"),
                || format!("{what}: {result:?}"),
            );
            failures.expect(result.information == 4, || {
                format!("{what}: {}", result.information)
            });
            failures.expect_took(&result, 150 * MS..270 * MS, &what);
            failures.expect_rest(&pc, &what);
        }
        // A byte that comes every 50 ms is more than nothing, but not all in time.
        let slow = Peripheral1284::new().with_byte_time(20 * MS);
        pc.close_and_finish(lpt1);
        let pc = parscan_tests::modes::pc(Chip::EcpEpp, &slow);
        let lpt1 = pc.open();
        pc.choose(lpt1, mode, 0);
        pc.set_timeouts(lpt1, [0, 0, 300, 0, 0]);
        slow.give(&pattern(100));
        let result = check(pc.machine.read(lpt1, 100));
        let told = result.information;
        failures.expect(
            result.status == NtStatus::TIMEOUT && result.output[..told] == pattern(told),
            || format!("{name}, slow: {} {told}", result.status),
        );
        failures.expect((13..=17).contains(&told), || {
            format!("{name}, slow: {told} bytes in 300 ms")
        });
        failures.expect_took(&result, 299 * MS..400 * MS, &format!("{name}, slow"));
        let rest = slow.to_send();
        // What a FIFO took at the last moment is the next read's.
        let kept = 100 - told - rest;
        failures.expect(kept <= usize::from(mode == modes::ECP_HW_NOIRQ), || {
            format!("{name}, slow: told {told}, {rest} left")
        });
        failures.expect_rest(&pc, name);
        let next = check(pc.machine.read(lpt1, 100));
        failures.expect(
            next.information > 0
                && next.output[..next.information] == pattern(100)[told..][..next.information],
            || format!("{name}, slow: {} more", next.information),
        );
        check(pc.machine.close(lpt1));
        pc.remove();
    }
    failures.end();
}

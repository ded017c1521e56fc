//! What a trigger costs: the driver's instructions, counted one by one, beside those of a request that
//! completes at once.

use std::{cell::Cell, rc::Rc};

use ntsim::{Config, Handle, NtStatus, Where, Who};
use parscan_tests::{
    MS, Setup, check,
    ntddpar::IOCTL_IEEE1284_GET_MODE,
    port_programs::{IOCTL_PARSCAN_RUN, LinesPc, RESULT, data, delay, lines_pc, request},
};

use crate::line;

/// Instructions that a one-write RUN may have: three times those of `GET_MODE` when the limit was set,
/// which took 368 then. That other requests have become shorter makes no trigger slower.
const MOST: u64 = 3 * 368;

/// What one request took.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Instructions of the driver.
    all: u64,
    /// Of them, up to and with the first access to the port.
    to_access: u64,
    accesses: usize,
    allocations: u64,
}

/// Prints the rows. How many miss their limit.
pub(crate) fn print(json: bool) -> u32 {
    let pc = lines_pc(Setup {
        config: Config {
            preempt_per_mille: 0,
            patch_ports: false,
            ..Config::default()
        },
        ..Setup::default()
    });
    let lpt1 = pc.open();
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS, "CLAIM");
    let write = request(&[data(1)], &[], false);
    let pulse = [data(1), delay(10_000), data(0)];
    let (plain, atomic) = (request(&pulse, &[], false), request(&pulse, &[], true));
    let mode = count(&pc, lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
    let rows = [
        ("GET_MODE", mode, 0),
        (
            "RUN, one write",
            count(&pc, lpt1, IOCTL_PARSCAN_RUN, &write, RESULT),
            1,
        ),
        (
            "RUN, pulse of 10 us",
            count(&pc, lpt1, IOCTL_PARSCAN_RUN, &plain, RESULT),
            2,
        ),
        (
            "the same, ATOMIC",
            count(&pc, lpt1, IOCTL_PARSCAN_RUN, &atomic, RESULT),
            2,
        ),
    ];
    check(pc.machine.close(lpt1));
    pc.finish();
    if !json {
        println!(
            "\nInstructions of the driver for a trigger on a claimed port, counted one by one; at \
             most {MOST} for one write.\n"
        );
        println!(
            "  {:<20} {:>12} {:>19} {:>9} {:>12}",
            "request", "instructions", "to the first access", "accesses", "allocations"
        );
    }
    let mut missed = 0;
    for (place, (name, count, accesses)) in rows.into_iter().enumerate() {
        let good = count.accesses == accesses
            && count.allocations == 0
            && (place != 1 || count.all <= MOST);
        missed += u32::from(!good);
        let first = if accesses == 0 {
            None
        } else {
            Some(count.to_access)
        };
        if json {
            let number = |value: u64| u32::try_from(value).map_or(f64::NAN, f64::from);
            line(
                "trigger",
                name,
                "instructions",
                number(count.all),
                None,
                None,
            );
            if let Some(first) = first {
                let row = format!("{name}, to the first access");
                line("trigger", &row, "instructions", number(first), None, None);
            }
        } else {
            println!(
                "  {name:<20} {:>12} {:>19} {:>9} {:>12}{}",
                count.all,
                first.map_or("-".to_owned(), |first| first.to_string()),
                count.accesses,
                count.allocations,
                if good { "" } else { "  MISSED" }
            );
        }
    }
    missed
}

/// Counts one request.
fn count(pc: &LinesPc, lpt1: Handle, code: u32, input: &[u8], output: usize) -> Count {
    let _ = pc.accesses();
    let machine = &pc.machine;
    let (allocations, before) = (machine.allocations(pc.driver), machine.port_accesses());
    let input = input.to_vec();
    let program = machine.start_thread("a program", move |machine| {
        let result = check(machine.device_io_control(lpt1, code, &input, output));
        assert_eq!(result.status, NtStatus::SUCCESS);
    });
    let counted = Rc::new(Cell::new(Count::default()));
    let (count, looks) = (Rc::clone(&counted), machine.clone());
    machine.watch(
        Who::Thread(program),
        Where::Instructions,
        pc.driver,
        move |_| {
            let mut now = count.get();
            now.all += 1;
            now.to_access += u64::from(looks.port_accesses() == before);
            count.set(now);
            false
        },
    );
    assert!(
        check(machine.run_threads(&[program], MS)),
        "it is served at once"
    );
    machine.end_watch();
    Count {
        accesses: pc.accesses().len(),
        allocations: machine.allocations(pc.driver) - allocations,
        ..counted.get()
    }
}

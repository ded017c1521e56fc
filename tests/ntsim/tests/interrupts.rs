//! Interrupts, their DPCs and locks.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{VECTOR, bench, code, each_seed, opened, opened_on, up};
use ntsim::{Bugcheck, Config, Handle, Machine, NtStatus, When, rules};

const LINE_BASED: u32 = 2;
const FULLY_SPECIFIED: u32 = 1;

fn connect(m: &Machine, h: Handle, numbers: [u32; 3]) -> Result<NtStatus, Bugcheck> {
    let input = numbers.map(u32::to_le_bytes).concat();
    Ok(m.device_io_control(h, code(0x820), &input, 0)?.status)
}

/// Interrupts, DPCs and synchronised calls so far, and the IRQL of the last of each.
fn seen(m: &Machine, h: Handle) -> Result<Vec<u32>, Bugcheck> {
    let r = m.device_io_control(h, code(0x823), &[], 24)?;
    let words = r.output.chunks_exact(4);
    Ok(words
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        .collect())
}

#[test]
fn an_isr_runs_at_dirql_and_its_dpc_after_it() -> Result<(), Bugcheck> {
    for (seed, numbers) in (0..20).zip(
        [[LINE_BASED, 0, 0], [FULLY_SPECIFIED, VECTOR, 7]]
            .iter()
            .cycle(),
    ) {
        let (b, h) = opened_on(
            Config {
                seed,
                preempt_per_mille: 300,
                ..Config::default()
            },
            0,
        )?;
        let m = &b.machine;
        assert!(!m.interrupt(VECTOR)?, "nothing is connected");
        assert_eq!(connect(m, h, *numbers)?, NtStatus::SUCCESS);
        assert!(m.interrupt(VECTOR)?);
        assert!(!m.interrupt(VECTOR + 1)?);
        m.run_until_idle()?;
        m.device_io_control(h, code(0x822), &[], 0)?;
        assert_eq!(seen(m, h)?, [1, 1, 2, 7, 2, 7]);
        m.device_io_control(h, code(0x821), &[], 0)?;
        assert!(!m.interrupt(VECTOR)?);
        b.down(h)?;
    }
    Ok(())
}

#[test]
fn interrupts_come_in_the_middle_of_anything() -> Result<(), Bugcheck> {
    each_seed(|b, m, h| {
        assert_eq!(connect(m, h, [LINE_BASED, 0, 0])?, NtStatus::SUCCESS);
        let at = m.port_accesses();
        for k in 1..=8 {
            m.at(When::PortAccess(at + k), |m| {
                assert!(m.interrupt(VECTOR).expect("no broken rule"));
            });
        }
        let r = m.device_io_control(h, code(0x805), &[], 0)?;
        assert_eq!(r.status, NtStatus::SUCCESS);
        m.run_until_idle()?;
        let seen = seen(m, h)?;
        assert_eq!((seen[0], seen[3], seen[4]), (8, 7, 2));
        // A DPC that is queued already is not queued again.
        assert!((1..=8).contains(&seen[1]), "{}", seen[1]);
        // Surprise removal disconnects.
        m.unplug(b.node)?;
        m.close(h)?;
        m.unload(b.driver)
    })
}

#[test]
fn only_what_the_device_has_is_connected() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let m = &b.machine;
    for (numbers, status) in [
        ([FULLY_SPECIFIED, VECTOR + 1, 7], NtStatus::NOT_FOUND),
        ([FULLY_SPECIFIED, VECTOR, 6], NtStatus::NOT_FOUND),
        ([9, VECTOR, 7], NtStatus::INVALID_PARAMETER_1),
        ([FULLY_SPECIFIED, VECTOR, 7], NtStatus::SUCCESS),
        // Not shared: the vector is taken.
        ([LINE_BASED, 0, 0], NtStatus::INVALID_PARAMETER),
    ] {
        assert_eq!(connect(m, h, numbers)?, status, "{numbers:?}");
    }
    m.device_io_control(h, code(0x821), &[], 0)?;
    Ok(())
}

#[test]
fn a_device_without_interrupt_has_none_to_connect() -> Result<(), Bugcheck> {
    let b = bench(Config::default(), 0);
    b.machine.set_resources(b.node, &[], &[]);
    let h = up(&b)?;
    let status = connect(&b.machine, h, [LINE_BASED, 0, 0])?;
    assert_eq!(status, NtStatus::NOT_FOUND);
    Ok(())
}

#[test]
fn stop_gives_the_interrupt_back() -> Result<(), Bugcheck> {
    // Life sin 42 connects at start and disconnects at stop, but not at removal.
    let (b, h) = opened(42)?;
    let m = &b.machine;
    assert!(m.interrupt(VECTOR)?);
    m.query_stop(b.node)?;
    m.stop(b.node)?;
    assert!(!m.interrupt(VECTOR)?);
    m.start(b.node)?;
    assert!(m.interrupt(VECTOR)?);
    m.close(h)?;
    let check = m.remove(b.node).expect_err("left connected");
    assert_eq!(check.rule, rules::INTERRUPT_LEFT);
    Ok(())
}

#[test]
fn a_device_objects_own_dpc_finishes_a_request() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let r = b.machine.device_io_control(h, code(0x825), &[], 0)?;
    assert_eq!(r.status, NtStatus::SUCCESS);
    Ok(())
}

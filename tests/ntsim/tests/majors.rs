//! Requests of user mode with any major, leaks in answers, and routines that drivers gave away.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{accomplice, code, each_seed, opened, opened_on};
use ntsim::{
    Bugcheck, CANARY, Caller, Config, Leak, LeakKind, Machine, NtStatus, POOL_CANARY, When, rules,
};

const MAJORS: &[u8] = &[
    0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x11, 0x14, 0x15, 0x19, 0x1A,
];

#[test]
fn majors_without_a_routine_are_refused() -> Result<(), Bugcheck> {
    for caller in [Caller::User64, Caller::User32] {
        let (b, _) = opened(0)?;
        let m = &b.machine;
        let h = m.open(r"\\.\MISB", caller)?.expect("open");
        for major in MAJORS {
            for minor in 0..4 {
                let r = m.send_from_user(h, *major, minor, 5, &[1; 24], 40)?;
                assert_eq!(r.status, NtStatus::INVALID_DEVICE_REQUEST, "{major:#x}");
                assert_eq!((r.information, m.leaks(&r)), (0, vec![]));
                assert_eq!(r.output, [CANARY; 40]);
            }
        }
        assert_eq!(m.live_irps(), 0);
    }
    Ok(())
}

#[test]
fn majors_with_a_routine_reach_it() -> Result<(), Bugcheck> {
    let (b, h) = opened(0)?;
    let m = &b.machine;
    let r = m.send_from_user(h, 0x03, 0, 0, &[], 6)?;
    assert_eq!((r.status, r.output), (NtStatus::SUCCESS, vec![0x5A; 6]));
    let r = m.send_from_user(h, 0x04, 0, 0, b"text", 0)?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 4));
    let r = m.send_from_user(h, 0x0E, 0, code(0x800), b"hello", 8)?;
    assert_eq!((r.information, &r.output[..5]), (5, &b"hello"[..]));
    // As a driver would forward it that takes a user's code for its own.
    let r = m.send_from_user(h, 0x0F, 0, code(0x810), b"hello", 8)?;
    assert_eq!((r.information, &r.output[..5]), (5, &b"hello"[..]));
    // METHOD_NEITHER: the driver captures from user memory and answers there.
    let r = m.send_from_user(h, 0x0E, 0, code(0x810) | 3, b"hello", 8)?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 5));
    assert_eq!(r.output, b"hello\xCA\xCA\xCA");
    let waiting = m.start_from_user(h, 0x0F, 0, code(0x811), &[], 0);
    m.run_for(1_000_000)?;
    assert!(m.cancel(&waiting)?);
    assert_eq!(m.finish(&waiting)?.status, NtStatus::CANCELLED);
    Ok(())
}

#[test]
#[should_panic(expected = "user mode cannot send")]
fn pnp_is_not_for_users() {
    let (b, h) = opened(0).expect("up");
    let _ = b.machine.send_from_user(h, 0x1B, 0, 0, &[], 0);
}

#[test]
fn leaks_are_found_at_any_offset() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(
        Config {
            canary: true,
            ..Config::default()
        },
        0,
    )?;
    let m = &b.machine;
    let clean = m.device_io_control(h, code(0x800), b"hello", 8)?;
    assert_eq!(m.leaks(&clean), []);
    let r = m.device_io_control(h, code(0x824), &[], 40)?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 32));
    let old = &r.output[16..28];
    assert!(old.is_sorted_by(|byte, next| *next == POOL_CANARY.after(*byte)));
    let found = m.leaks(&r);
    assert_eq!(found.len(), 2, "{found:?}");
    let old = LeakKind::Old { length: 12 };
    assert_eq!(
        found[0],
        Leak {
            offset: 16,
            kind: old
        }
    );
    assert_eq!(found[1].offset, 3);
    assert!(
        matches!(&found[1].kind, LeakKind::Address { what, .. } if what.contains("device object"))
    );
    // The same bytes under an error status: none of them should have come.
    let stained = ntsim::IoResult {
        status: NtStatus::UNSUCCESSFUL,
        ..r
    };
    let beyond = m.leaks(&stained);
    assert!(
        matches!(
            beyond.last(),
            Some(Leak {
                offset: 0,
                kind: LeakKind::Beyond { length: 32 }
            })
        ),
        "{beyond:?}"
    );
    Ok(())
}

/// The callback table: allocate, fault, add, hold, context.
fn table(m: &Machine) -> Result<Vec<usize>, Bugcheck> {
    let (_, ask) = accomplice(m);
    m.device_io_control(ask, code(0x800), &[], 0)?;
    let r = m.device_io_control(ask, code(0x804), &[], 40)?;
    assert_eq!(r.information, 40);
    // Addresses that one driver means for another are leaks only where a user sees them.
    assert!(m.leaks(&r).len() >= 5);
    m.device_io_control(ask, code(0x801), &[], 0)?;
    let words = r.output.chunks_exact(8);
    let value = |w: &[u8]| w.iter().rev().fold(0, |v, b| v << 8 | usize::from(*b));
    Ok(words.map(value).collect())
}

#[test]
fn routines_take_up_to_six_arguments() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let m = &b.machine;
    let t = table(m)?;
    for irql in 0..=2 {
        let sum = m.call_routine(t[2], &[t[4], 1, 2, 3, 4, 5], irql)?;
        assert_eq!(sum, 55);
    }
    let check = m.call_routine(t[1], &[t[4]], 2).expect_err("a fault");
    assert_eq!(check.rule, rules::NULL_ACCESS);
    Ok(())
}

#[test]
fn a_routine_is_held_while_the_device_goes() -> Result<(), Bugcheck> {
    each_seed(|b, m, h| {
        let t = table(m)?;
        let held = m.start_routine(t[3], &[t[4], 20], 0);
        let node = b.node;
        let at = m.now() + 5_000_000;
        m.at(When::Time(at), move |m| {
            m.unplug(node).expect("unplug");
            m.close(h).expect("close");
        });
        m.run_for(10_000_000)?;
        assert!(!m.is_returned(&held));
        // REMOVE waits for it.
        assert_eq!(m.finish_routine(&held)? & 0xFFFF_FFFF, 0);
        m.run_until_idle()?;
        assert_eq!(m.node_state(node), ntsim::NodeState::Removed);
        Ok(())
    })
}

#[test]
fn a_routine_refuses_above_its_irql() -> Result<(), Bugcheck> {
    let (b, _) = opened(0)?;
    let t = table(&b.machine)?;
    let status = b.machine.call_routine(t[3], &[t[4], 20], 2)?;
    assert_eq!(
        status & 0xFFFF_FFFF,
        NtStatus::INVALID_DEVICE_STATE.0 as usize
    );
    Ok(())
}

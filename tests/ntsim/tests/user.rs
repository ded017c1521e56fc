//! User memory, structured exceptions and MDLs, with `faulty-driver` on its good side.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{bench, code, opened, opened_on, panic_of};
use ntsim::{Bugcheck, CANARY, Caller, Config, Handle, Machine, NtStatus, Protection, When, rules};

const PAGE: usize = 4096;
const METHOD_IN_DIRECT: u32 = 1;
const METHOD_OUT_DIRECT: u32 = 2;
const METHOD_NEITHER: u32 = 3;

/// Captures the input and copies it to the output.
const ECHO: u32 = code(0x810) | METHOD_NEITHER;
/// Reads the first input byte under a filter, which answers 1, 0, -1 for 0, 1, 2 bytes of output.
const FILTER: u32 = code(0x811) | METHOD_NEITHER;
/// Adds 1 to each input byte, through an MDL of the driver's.
const BY_MDL: u32 = code(0x812) | METHOD_NEITHER;
const PROBE: u32 = code(0x814) | METHOD_NEITHER;
const IS_32BIT: u32 = code(0x815) | METHOD_NEITHER;
/// Adds up reads of 1, 2, 4, 8 and 16 bytes.
const SUM: u32 = code(0x816) | METHOD_NEITHER;
const POOL_MDL: u32 = code(0x817);

const USERS: [Caller; 2] = [Caller::User64, Caller::User32];

fn machine(seed: u64, sin: u32) -> Result<common::Bench, Bugcheck> {
    let b = bench(Config::seeded(seed), sin);
    assert!(b.machine.add_device(b.node, b.driver)?.is_success());
    assert!(b.machine.start(b.node)?.is_success());
    Ok(b)
}

fn open(m: &Machine, caller: Caller) -> Result<Handle, Bugcheck> {
    Ok(m.open(r"\\.\MISB", caller)?.expect("open"))
}

/// An open device, and so much user memory, each byte another than the ones around it: where it is,
/// and what is in it.
fn numbered(seed: u64, length: usize) -> Result<(common::Bench, Handle, usize, Vec<u8>), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(seed), 0)?;
    let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
    let at = b.machine.user_alloc(Caller::User64, &bytes);
    Ok((b, h, at, bytes))
}

fn echo(m: &Machine, h: Handle, address: usize, n: usize) -> Result<NtStatus, Bugcheck> {
    let out = m.user_alloc(Caller::User64, &vec![CANARY; n]);
    let r = m.device_io_control_at(h, ECHO, (address, n), (out, n))?;
    if r.status.is_success() {
        assert_eq!(r.information, n);
        assert_eq!(r.output, m.user_read(address, n));
    } else {
        assert_eq!(r.information, 0);
        assert_eq!(r.output, vec![CANARY; n], "nothing is copied back");
    }
    m.user_free(out);
    Ok(r.status)
}

#[test]
fn addresses_pass_through_unseen() -> Result<(), Bugcheck> {
    let b = machine(1, 0)?;
    let m = &b.machine;
    for caller in USERS {
        let h = open(m, caller)?;
        let wide = m.device_io_control(h, IS_32BIT, &[], 0)?;
        assert_eq!(wide.information, usize::from(caller == Caller::User32));
        // The machine lends the buffers.
        let r = m.device_io_control(h, ECHO, b"hello", 8)?;
        assert_eq!(r.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(&r.output, b"hello\xCA\xCA\xCA");
        let r = m.device_io_control(h, ECHO, &[], 0)?;
        assert_eq!(r.status, NtStatus::SUCCESS);
        let address = m.user_alloc(caller, &[1, 2, 3]);
        assert_eq!(address > u32::MAX as usize, caller == Caller::User64);
        assert_eq!(address % 8, 0);
        m.user_free(address);
        m.close(h)?;
    }
    Ok(())
}

#[test]
fn every_good_range_is_echoed() -> Result<(), Bugcheck> {
    let (b, h, at, _) = numbered(2, 3 * PAGE)?;
    let m = &b.machine;
    for (offset, n) in [
        (0, 1),
        (1, 7),
        (PAGE - 1, 2),
        (3, 2 * PAGE + 1),
        (0, 3 * PAGE),
    ] {
        assert_eq!(echo(m, h, at + offset, n)?, NtStatus::SUCCESS);
    }
    m.user_protect(at, 3 * PAGE, Protection::Read);
    assert_eq!(echo(m, h, at, 3 * PAGE)?, NtStatus::SUCCESS);
    Ok(())
}

#[test]
fn every_bad_pointer_is_an_access_violation() -> Result<(), Bugcheck> {
    for caller in USERS {
        let b = machine(3, 0)?;
        let m = &b.machine;
        let h = open(m, caller)?;
        let kernel = m.allocate(64);
        let freed = m.user_alloc(caller, &[0; 64]);
        m.user_free(freed);
        let good = m.user_alloc(caller, &[7; 2 * PAGE]);
        let hidden = m.user_alloc(caller, &[7; 2 * PAGE]);
        m.user_protect(hidden + PAGE, 1, Protection::None);
        let bad = [
            ("null", 0, 4),
            ("near null", 0x10, 4),
            ("freed", freed, 4),
            ("behind the end", good + 2 * PAGE, 1),
            ("last byte on the next page, not there", good + 1, 2 * PAGE),
            ("misaligned and beyond", good + 2 * PAGE - 3, 4),
            ("no access", hidden + PAGE, 1),
            ("last byte not accessible", hidden + 1, PAGE),
            ("wraps", usize::MAX - 3, 8),
            ("ends at the top", usize::MAX - 7, 8),
            ("kernel range", 0xFFFF_8000_0000_0000, 4),
            ("not canonical", 0x8000_0000_0000_0000, 4),
            ("kernel memory", kernel, 4),
            ("probe address", 0x00FF_FFFF_0000, 1),
            ("up to the probe address and beyond", 0x00FF_FFFE_FFFF, 2),
        ];
        for (what, address, n) in bad {
            assert_eq!(
                echo(m, h, address, n)?,
                NtStatus::ACCESS_VIOLATION,
                "{what}"
            );
            // As output, too: what is copied before the fault stays.
            let r = m.device_io_control_at(h, ECHO, (good, n.min(64)), (address, n.min(64)));
            let r = r?;
            let partly = n > 64;
            let expected = if partly {
                NtStatus::SUCCESS
            } else {
                NtStatus::ACCESS_VIOLATION
            };
            assert_eq!((what, r.status), (what, expected));
        }
        m.user_protect(good, 1, Protection::Read);
        let r = m.device_io_control_at(h, ECHO, (good, 4), (good + 8, 4))?;
        assert_eq!(r.status, NtStatus::ACCESS_VIOLATION, "read-only output");
        m.user_protect(good, 1, Protection::Lost);
        assert_eq!(echo(m, h, good, 4)?, NtStatus::IN_PAGE_ERROR);
        b.down(h)?;
    }
    Ok(())
}

#[test]
fn memory_that_vanishes_at_any_touch_is_an_access_violation() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(4), 0)?;
    let m = &b.machine;
    for k in 1..=9 {
        let at = m.user_alloc(Caller::User64, &[1, 2, 3, 4, 5, 6, 7, 8]);
        m.on_touch(at, k, move |m| m.user_free(at));
        let before = m.touches(at);
        let r = m.device_io_control_at(h, ECHO, (at, 8), (0, 8))?;
        assert_eq!(r.status, NtStatus::ACCESS_VIOLATION);
        // The ninth touch never comes: the output is what was bad.
        assert_eq!(m.touches(at) - before, k.min(8));
    }
    Ok(())
}

#[test]
fn memory_that_changes_is_read_once() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(5), 0)?;
    let m = &b.machine;
    let at = m.user_alloc(Caller::User64, b"abcdefgh");
    let out = m.user_alloc(Caller::User64, &[0; 8]);
    m.on_touch(at, 4, move |m| m.user_write(at, b"ABCDEFGH"));
    let r = m.device_io_control_at(h, ECHO, (at, 8), (out, 8))?;
    assert_eq!(r.output, b"abcDEFGH");
    Ok(())
}

#[test]
fn a_hook_comes_at_each_kernel_call() -> Result<(), Bugcheck> {
    let mut seen = Vec::new();
    for call in 1..40 {
        let (b, h) = opened_on(Config::seeded(6), 0)?;
        let m = &b.machine;
        let at = m.user_alloc(Caller::User64, &[9; 16]);
        let out = m.user_alloc(Caller::User64, &[0; 16]);
        let first = m.kernel_calls();
        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        m.at(When::KernelCall(first + call), move |m| {
            m.user_free(at);
            flag.set(true);
        });
        let r = m.device_io_control_at(h, ECHO, (at, 16), (out, 16))?;
        if m.kernel_calls() < first + call {
            assert!(!ran.get());
            break;
        }
        assert!(ran.get());
        seen.push(r.status);
        b.down(h)?;
    }
    // Before the capture: gone. After it: nothing is missed.
    assert_eq!(seen.first(), Some(&NtStatus::ACCESS_VIOLATION));
    assert_eq!(seen.last(), Some(&NtStatus::SUCCESS));
    assert!(seen.is_sorted_by_key(|s| s.is_success()), "{seen:?}");
    Ok(())
}

#[test]
fn filters_and_finally_run_as_c_has_them() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(7), 0)?;
    let m = &b.machine;
    let good = m.user_alloc(Caller::User64, &[1]);
    let out = m.user_alloc(Caller::User64, &[0; 2]);
    let ask = |at: usize, answer: usize| -> Result<_, Bugcheck> {
        let r = m.device_io_control_at(h, FILTER, (at, 1), (out, answer))?;
        Ok((r.status, r.information & 0xF, r.information >> 4))
    };
    for answer in 0..3 {
        assert_eq!(ask(good, answer)?, (NtStatus::SUCCESS, 0, 0));
    }
    // Status, filter calls, __finally calls.
    assert_eq!(ask(0x1234, 0)?, (NtStatus::ACCESS_VIOLATION, 1, 1));
    // EXCEPTION_CONTINUE_SEARCH: the handler further out takes it.
    assert_eq!(ask(0x1234, 1)?, (NtStatus::ACCESS_VIOLATION, 1, 1));
    // EXCEPTION_CONTINUE_EXECUTION: the filter has repaired the address.
    assert_eq!(ask(0x1234, 2)?, (NtStatus::SUCCESS, 1, 0));
    Ok(())
}

#[test]
fn every_width_of_access_is_let_through() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(8), 0)?;
    let m = &b.machine;
    let mut bytes = vec![0; PAGE];
    bytes.extend((1..=31).collect::<Vec<u8>>());
    bytes.resize(2 * PAGE, 0);
    let mut whole = [0_u8; 31];
    whole.copy_from_slice(&bytes[PAGE..PAGE + 31]);
    let number = |range: core::ops::Range<usize>| {
        let mut word = [0; 8];
        word[..range.len()].copy_from_slice(&whole[range]);
        usize::from_le_bytes(word)
    };
    let expected = number(0..1)
        + number(1..3)
        + number(3..7)
        + number(7..15)
        + number(15..23)
        + number(23..31);
    // At every place of a page boundary inside the 31 bytes.
    for shift in 0..31 {
        let mut moved = bytes.clone();
        moved.rotate_left(shift);
        let at = m.user_alloc(Caller::User64, &moved);
        let r = m.device_io_control_at(h, SUM, (at + PAGE - shift, 31), (0, 0))?;
        assert_eq!(r.outcome(), (NtStatus::SUCCESS, expected));
        if shift > 0 {
            m.user_protect(at + PAGE, 1, Protection::None);
            let r = m.device_io_control_at(h, SUM, (at + PAGE - shift, 31), (0, 0))?;
            assert_eq!(r.status, NtStatus::ACCESS_VIOLATION);
        }
        m.user_free(at);
    }
    Ok(())
}

#[test]
fn probes_check_alignment_range_and_writability() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(9), 0)?;
    let m = &b.machine;
    let at = m.user_alloc(Caller::User64, &[0; PAGE]);
    let probe = |input, output| -> Result<NtStatus, Bugcheck> {
        Ok(m.device_io_control_at(h, PROBE, input, output)?.status)
    };
    let odd = NtStatus::DATATYPE_MISALIGNMENT;
    let bad = NtStatus::ACCESS_VIOLATION;
    assert_eq!(probe((at, 8), (at, 8))?, NtStatus::SUCCESS);
    assert_eq!(probe((at + 1, 8), (at, 8))?, odd);
    assert_eq!(probe((at, 8), (at + 2, 8))?, odd);
    assert_eq!(probe((usize::MAX - 3, 8), (at, 8))?, bad);
    // ProbeForRead looks at the range only, ProbeForWrite at the pages.
    assert_eq!(probe((0x1_0000, 8), (at, 8))?, NtStatus::SUCCESS);
    assert_eq!(probe((at, 8), (0x1_0000, 8))?, bad);
    // Nothing is asked of no bytes.
    assert_eq!(probe((usize::MAX, 0), (3, 0))?, NtStatus::SUCCESS);
    Ok(())
}

#[test]
fn the_io_manager_locks_direct_buffers() -> Result<(), Bugcheck> {
    let b = machine(10, 0)?;
    let m = &b.machine;
    for caller in [Caller::User64, Caller::User32, Caller::Kernel] {
        let h = open(m, caller)?;
        let r = m.device_io_control(h, code(0x813) | METHOD_OUT_DIRECT, b"xyz", 7)?;
        assert_eq!(
            (r.status, r.output.as_slice()),
            (NtStatus::SUCCESS, &b"xyzxyzx"[..])
        );
        let r = m.device_io_control(h, code(0x813) | METHOD_OUT_DIRECT, b"xyz", 0)?;
        assert_eq!(r.outcome(), (NtStatus::SUCCESS, 0));
        m.close(h)?;
    }
    let h = open(m, Caller::User64)?;
    let at = m.user_alloc(Caller::User64, &[1; 2 * PAGE]);
    let ask = |method, from: usize, n: usize| -> Result<_, Bugcheck> {
        let r = m.device_io_control_at(h, code(0x813) | method, (at, 4), (from, n))?;
        Ok(r.outcome())
    };
    let bad = (NtStatus::ACCESS_VIOLATION, 0);
    assert_eq!(
        ask(METHOD_IN_DIRECT, at + 5, PAGE + 100)?,
        (NtStatus::SUCCESS, PAGE + 100)
    );
    assert_eq!(
        ask(METHOD_OUT_DIRECT, at + PAGE - 2, 4)?,
        (NtStatus::SUCCESS, 4)
    );
    m.user_protect(at + PAGE, 1, Protection::Read);
    // Read access is enough for METHOD_IN_DIRECT.
    assert_eq!(
        ask(METHOD_IN_DIRECT, at + PAGE - 2, 4)?.0,
        NtStatus::SUCCESS
    );
    assert_eq!(ask(METHOD_OUT_DIRECT, at + PAGE - 2, 4)?, bad);
    assert_eq!(ask(METHOD_IN_DIRECT, at + 1, 2 * PAGE)?, bad);
    assert_eq!(ask(METHOD_IN_DIRECT, m.allocate(8), 4)?, bad);
    assert_eq!(ask(METHOD_IN_DIRECT, usize::MAX - 1, 4)?, bad);
    // The buffered half, too, is captured by the I/O manager.
    let r = m.device_io_control_at(h, code(0x813) | METHOD_OUT_DIRECT, (0, 4), (at, 4))?;
    assert_eq!(r.status, NtStatus::ACCESS_VIOLATION);
    Ok(())
}

#[test]
fn a_driver_locks_and_maps_user_memory() -> Result<(), Bugcheck> {
    let (b, h, at, bytes) = numbered(11, 2 * PAGE)?;
    let m = &b.machine;
    let (from, length) = (at + 100, PAGE + 10);
    let r = m.device_io_control_at(h, BY_MDL, (from, length), (0, 0))?;
    assert_eq!(r.status, NtStatus::SUCCESS);
    let raised: Vec<u8> = bytes[100..100 + length]
        .iter()
        .map(|byte| byte.wrapping_add(1))
        .collect();
    assert_eq!(m.user_read(from, length), raised);
    assert_eq!(m.user_read(at, 100), bytes[..100]);
    for (what, address, length) in [
        ("unmapped", 0x5000, 4),
        ("kernel", m.allocate(64), 4),
        ("wraps", usize::MAX - 1, 4),
        ("beyond", from, 2 * PAGE),
    ] {
        let r = m.device_io_control_at(h, BY_MDL, (address, length), (0, 0))?;
        assert_eq!((what, r.status), (what, NtStatus::ACCESS_VIOLATION));
    }
    m.user_protect(at, PAGE, Protection::Read);
    let r = m.device_io_control_at(h, BY_MDL, (at, 8), (0, 0))?;
    assert_eq!(r.status, NtStatus::ACCESS_VIOLATION, "IoModifyAccess");
    let r = m.device_io_control(h, POOL_MDL, &[], 0)?;
    assert_eq!(r.status, NtStatus::SUCCESS);
    b.down(h)
}

#[test]
fn an_mdl_outlives_the_memory_it_locks() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(16), 0)?;
    let m = &b.machine;
    // Gone at each kernel call: either before the lock, or too late to matter.
    let mut seen = Vec::new();
    for call in 1..30 {
        let at = m.user_alloc(Caller::User64, &[0; 64]);
        let first = m.kernel_calls();
        m.at(When::KernelCall(first + call), move |m| m.user_free(at));
        let r = m.device_io_control_at(h, BY_MDL, (at, 64), (0, 0))?;
        let over = m.kernel_calls() < first + call;
        if over {
            // Take the hook away: one more request runs into it.
            m.device_io_control(h, IS_32BIT, &[], 0)?;
        }
        seen.push(r.status);
        if over {
            break;
        }
    }
    assert_eq!(seen.first(), Some(&NtStatus::ACCESS_VIOLATION));
    assert_eq!(seen.last(), Some(&NtStatus::SUCCESS));
    b.down(h)
}

#[test]
fn reads_and_writes_follow_the_devices_flags() -> Result<(), Bugcheck> {
    // DO_BUFFERED_IO, DO_DIRECT_IO, neither.
    for sin in [0, 50, 51] {
        let (b, h) = opened_on(Config::seeded(12), sin)?;
        let m = &b.machine;
        let r = m.read(h, 10)?;
        assert_eq!(r.outcome(), (NtStatus::SUCCESS, 10));
        assert_eq!(r.output, [0x5A; 10]);
        assert_eq!(m.write(h, b"text")?.status, NtStatus::SUCCESS);
        let at = m.user_alloc(Caller::User64, &[3; PAGE]);
        let r = m.read_to(h, at + 7, 9)?;
        assert_eq!(
            (r.status, r.output.as_slice()),
            (NtStatus::SUCCESS, &[0x5A; 9][..])
        );
        assert_eq!(m.write_from(h, at, 12)?.status, NtStatus::SUCCESS);
        m.user_protect(at, 1, Protection::Read);
        assert_eq!(m.write_from(h, at, 12)?.status, NtStatus::SUCCESS);
        for (address, n) in [(at, 4), (0, 4), (at + PAGE, 1), (0x7FFF_0000_0000, 4)] {
            let r = m.read_to(h, address, n)?;
            assert_eq!((sin, r.status), (sin, NtStatus::ACCESS_VIOLATION));
        }
        if sin != 51 {
            assert_eq!(m.write_from(h, 0x30, 4)?.status, NtStatus::ACCESS_VIOLATION);
        }
        b.down(h)?;
    }
    Ok(())
}

#[test]
fn buffered_requests_fail_before_the_driver_sees_them() -> Result<(), Bugcheck> {
    let b = machine(13, 0)?;
    let m = &b.machine;
    let h = open(m, Caller::User32)?;
    let at = m.user_alloc(Caller::User32, b"12345678");
    // The PnP manager still asks for the children.
    m.run_until_idle()?;
    let calls = m.kernel_calls();
    let r = m.device_io_control_at(h, code(0x800), (at + 4, 8), (at, 8))?;
    assert_eq!(r.status, NtStatus::ACCESS_VIOLATION);
    assert_eq!(m.kernel_calls(), calls);
    let r = m.device_io_control_at(h, code(0x800), (at, 8), (at, 4))?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 4));
    // The driver did its part; the copy back fails.
    let r = m.device_io_control_at(h, code(0x800), (at, 8), (0x30, 8))?;
    assert_eq!(r.status, NtStatus::ACCESS_VIOLATION);
    Ok(())
}

#[test]
fn a_hooks_panic_reaches_the_test() {
    let text = panic_of(|| {
        let (b, h) = opened(0).expect("up");
        let at = b.machine.user_alloc(Caller::User64, &[0; 4]);
        b.machine.on_touch(at, 2, |_| panic!("the hook is broken"));
        let _ = b.machine.device_io_control_at(h, ECHO, (at, 4), (at, 4));
    });
    assert_eq!(text, "the hook is broken");
}

#[test]
fn a_fault_without_handler_names_its_place() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(14), 0)?;
    let m = &b.machine;
    let sin = (0x0022_2400 + 4 * 79) | METHOD_NEITHER;
    // Unmapped: as ever. Mapped: lucky on Windows, named here.
    let check = m
        .device_io_control_at(h, sin, (0x7000, 4), (0, 0))
        .expect_err("a bad address");
    assert_eq!(check.rule, rules::NULL_ACCESS);
    assert_eq!(
        check.frames.first().map(|f| f.0.as_str()),
        Some("faulty-driver")
    );
    Ok(())
}

#[test]
fn a_big_capture_is_quick() -> Result<(), Bugcheck> {
    let (b, h) = opened_on(Config::seeded(15), 0)?;
    let m = &b.machine;
    let bytes: Vec<u8> = (0..=250).cycle().take(0xFFFF).collect();
    let at = m.user_alloc(Caller::User64, &bytes);
    let start = std::time::Instant::now();
    assert_eq!(echo(m, h, at, bytes.len())?, NtStatus::SUCCESS);
    let took = start.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
    println!("64 KiB in and out: {took:?}");
    Ok(())
}

//! Every sin of `faulty-driver` stops the machine with its own rule; virtue passes.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{Bench, bench, code, up};
use ntsim::{Bugcheck, CANARY, Config, Handle, NtStatus};

fn down(b: &Bench, handle: Handle) -> Result<(), Bugcheck> {
    let m = &b.machine;
    m.close(handle)?;
    m.query_remove(b.node)?;
    m.remove(b.node)?;
    m.unload(b.driver)
}

fn virtue(seed: u64) -> Result<(), Bugcheck> {
    let config = Config {
        seed,
        trace_ports: seed < 3,
        preempt_per_mille: if seed.is_multiple_of(3) { 400 } else { 50 },
        ..Config::default()
    };
    let b = bench(config, 0);
    let m = &b.machine;
    let h = up(&b)?;
    assert_eq!(m.children(b.node).len(), 1);
    let r = m.device_io_control(h, code(0x800), b"hello", 8)?;
    assert_eq!(r.outcome(), (NtStatus::SUCCESS, 5));
    assert_eq!(&r.output[..5], b"hello");
    assert_eq!(r.output[5..], [CANARY; 3]);
    let r = m.device_io_control(h, code(0x805), &[], 0)?;
    assert_eq!(r.status, NtStatus::SUCCESS);
    assert!(b.echo.borrow().written.ends_with(b"abc"));
    assert!(r.took > 3_000_000);
    for function in [0x803, 0x804] {
        let r = m.device_io_control(h, code(function), &[], 0)?;
        assert_eq!(r.status, NtStatus::SUCCESS);
    }
    // Waiting requests: one finished by another, one cancelled, one left for CLEANUP.
    let first = m.start_io_control(h, code(0x801), &[], 0);
    m.run_for(1_000_000)?;
    assert!(!m.is_done(&first));
    m.device_io_control(h, code(0x802), &[], 0)?;
    assert_eq!(m.finish(&first)?.status, NtStatus::SUCCESS);
    let second = m.start_io_control(h, code(0x801), &[], 0);
    m.run_for(1_000_000)?;
    assert!(m.cancel(&second)?);
    assert_eq!(m.finish(&second)?.status, NtStatus::CANCELLED);
    let third = m.start_io_control(h, code(0x801), &[], 0);
    m.run_for(1_000_000)?;
    // Untouched: minors and requests that no driver knows.
    assert_eq!(
        m.send_pnp_irp(b.node, 0x30, [0; 4])?.0,
        NtStatus::NOT_SUPPORTED
    );
    m.send_power_irp(b.node, 0x20, [0; 4])?;
    m.send_wmi_irp(b.node, 8, [0; 4])?;
    // Sleep and wake-up.
    for _ in 0..2 {
        assert!(m.sleep()?.is_success());
        m.run_for(1_000_000)?;
        m.wake()?;
        m.settle()?;
    }
    // The child goes and comes back.
    m.device_io_control(h, code(0x806), &[], 0)?;
    m.run_for(10_000_000)?;
    assert!(m.children(b.node).len() <= 1);
    // Stop and start again.
    assert!(m.query_stop(b.node)?.is_success());
    m.cancel_stop(b.node)?;
    m.query_stop(b.node)?;
    m.stop(b.node)?;
    assert!(m.start(b.node)?.is_success());
    m.close(h)?;
    assert_eq!(m.finish(&third)?.status, NtStatus::CANCELLED);
    m.query_remove(b.node)?;
    m.cancel_remove(b.node)?;
    if seed.is_multiple_of(2) {
        m.query_remove(b.node)?;
        m.remove(b.node)?;
    } else {
        m.unplug(b.node)?;
    }
    if let Err(check) = m.unload(b.driver) {
        for event in m.trace() {
            eprintln!("{event}");
        }
        return Err(check);
    }
    m.run_until_idle()?;
    assert_eq!(m.live_irps(), 0);
    assert_eq!(m.links(), []);
    assert_eq!(m.threads(), 0);
    Ok(())
}

#[test]
fn virtue_passes_with_every_seed() {
    // NTSIM_SEEDS asks for more.
    let seeds = std::env::var("NTSIM_SEEDS").map_or(100, |n| n.parse().expect("a number"));
    for seed in 0..seeds {
        if let Err(check) = virtue(seed) {
            panic!("seed {seed}: {check}");
        }
    }
}

/// Commits request sin `number`; the machine must stop somewhere up to the unload.
fn request_sin(number: u32, seed: u64) -> Result<(), Bugcheck> {
    let config = Config {
        seed,
        ..Config::default()
    };
    request_sin_with(&config, number)
}

/// The same on such a machine.
fn request_sin_with(config: &Config, number: u32) -> Result<(), Bugcheck> {
    let config = Config {
        max_steps: 200_000,
        ..config.clone()
    };
    let b = bench(config, 0);
    let h = up(&b)?;
    let m = &b.machine;
    let method = match number {
        // The sins with user addresses; one needs METHOD_OUT_DIRECT.
        88 => 2,
        79..=98 => 3,
        _ => 0,
    };
    let code = (0x0022_2400 + 4 * number) | method;
    let p = m.start_io_control(h, code, &[1, 2, 3, 4], 64);
    m.run_for(1_000_000_000)?;
    if number == 105 {
        m.interrupt(common::VECTOR)?;
    }
    if m.is_done(&p) {
        down(&b, h)
    } else {
        // What never ends: ask for its end, or close.
        match number {
            35 => {
                m.close(h)?;
            }
            73 | 74 => {
                m.cancel(&p)?;
            }
            _ => {}
        }
        m.finish(&p)?;
        down(&b, h)
    }
}

/// A sin's number, and the rule that catches it: id and code.
type Sin = (u32, &'static str, &'static str);

const REQUEST_SINS: &[Sin] = &[
    (0, "I1", "44"),         // completed twice
    (1, "I1", "C9/44"),      // touched after completion
    (2, "I1", "C9/226"),     // forgotten
    (3, "I2", "C9/23D"),     // pending, not marked
    (4, "I2", "C9/23E"),     // marked, not pending
    (5, "I3", "C9/224"),     // other status returned
    (6, "I3", "C9/312"),     // Information too large
    (7, "M5", "ntsim/leak"), // uninitialised bytes returned
    (8, "I4", "C9/07"),      // cancel routine set
    (9, "L2", "SpinLockSafe"),
    (10, "Q1", "C4/121"),   // wait at DISPATCH
    (11, "Q2", "C9/05"),    // IRQL not restored
    (12, "L4", "C4/40007"), // spin lock kept
    (13, "L1", "C4/1001"),  // order
    (14, "M1", "CD"),       // overrun
    (15, "M1", "CC"),       // after free
    (16, "M1", "C4/13"),    // twice
    (17, "M1", "C4/00"),    // zero size
    (18, "M1", "C4/16"),    // other tag
    (19, "K2", "C4/D5"),    // remove lock twice
    (20, "K2", "C4/D5"),    // other tag
    (21, "K1", "C4/D7"),    // initialised again
    (22, "U2", "93"),       // handle twice
    (23, "Q1", "C4/E6"),    // ZwClose at DISPATCH
    (24, "X1", "50"),       // null
    (25, "Q3", "D1"),       // paged pool at DISPATCH
    (26, "L1", "C4/1000"),  // recursion
    (27, "L1", "C4/1007"),  // not held
    (28, "L3", "C4/1008"),  // other family
    (29, "M3", "C7"),       // armed timer
    (30, "I3", "C9/06"),    // completed with PENDING
    (31, "M4", "C4/2000"),  // executable
    (32, "M1", "C4/16t"),   // no tag
    (33, "Q1", "C4/E5"),    // IoCreateDevice at APC_LEVEL
    (34, "Q1", "C4/30"),    // raise downwards
    (35, "I8", "C4/135c"),  // left after CLEANUP
    (36, "M1", "CD"),       // beyond the system buffer
    (37, "X1", "7F/8"),     // stack overflow
    (38, "X2", "KeBugCheckEx"),
    (39, "M1", "C4/10"),             // free inside a block
    (40, "A3", "C4/3F"),             // reference too few
    (41, "Q2", "C9/05"),             // DPC returns at another IRQL
    (42, "Q2", "C4/C5"),             // work item stays in a critical region
    (43, "L1", "C4/1002"),           // event not initialised
    (44, "Q1", "C4/E6"),             // Zw inside a fast mutex
    (45, "I7", "C9/20A"),            // own IRP without completion routine
    (46, "I7", "C9/20A"),            // own IRP freed twice
    (47, "X1", "50"),                // write to code
    (48, "H1", "ntsim/hang"),        // endless loop
    (49, "H1", "ntsim/hang"),        // deadlock
    (50, "K3", "C4/D6"),             // wait outside REMOVE
    (51, "I1", "C9/03"),             // not an IRP
    (52, "I4", "C9/0E"),             // completed above DISPATCH
    (53, "M1", "C1"),                // overrun seen at free
    (54, "L1", "C4/1002"),           // garbage in a lock
    (55, "I2", "C9/23E"),            // marked, error returned
    (56, "U2", "C4/F6"),             // user handle
    (57, "X1", "1E"),                // int 3
    (58, "I5", "C9/04"),             // null device
    (59, "I3", "C9/21B"),            // returned -1
    (60, "Q1", "C4/31"),             // lowered upwards
    (61, "M1", "C4/01"),             // paged pool allocated at DISPATCH
    (62, "M1", "C4/11"),             // and freed
    (63, "K1", "C4/D7p"),            // remove lock in pool
    (64, "L1", "C4/1003"),           // queued locks out of order
    (65, "L1", "C4/1004"),           // another thread's mutex
    (66, "L1", "C4/1005"),           // initialised while held
    (67, "F6", "C9/20E"),            // own PnP IRP with success
    (68, "A2", "C9/240"),            // deleted twice
    (69, "A2", "C9/202"),            // nothing to detach
    (70, "A2", "C9/201"),            // deleted under another device
    (71, "I6", "C4/FA"),             // completion routine raises
    (72, "I6", "C4/FB"),             // completion routine enters a critical region
    (73, "I8", "C4/135"),            // cancelled and forgotten
    (74, "L4", "C4/40007"),          // cancel spin lock kept
    (75, "I5", "C9/208"),            // no stack location
    (76, "I7", "C9/0D"),             // event freed too early
    (78, "Q3", "D1"),                // PAGE code at DISPATCH
    (77, "M1", "C4/16t"),            // blank tag
    (79, "U1", "3B"),                // user memory without a handler
    (80, "U1", "ntsim/context"),     // in a work item
    (81, "U1", "0A"),                // at DISPATCH
    (82, "U1", "DoubleFetch"),       // twice
    (83, "U3", "C4/B0"),             // unlocked twice
    (84, "U3", "CB"),                // freed while locked
    (85, "M4", "C4/2002"),           // mapped executable
    (86, "U1", "3B"),                // probed without a handler
    (87, "X1", "50"),                // kernel address under a handler
    (88, "U3", "CB"),                // the I/O manager's MDL hidden
    (89, "M2", "C4/62"),             // MDL left at unload
    (90, "U3", "CB"),                // locked at unload
    (91, "X1", "1E"),                // raised without a handler
    (92, "U1", "3B"),                // memcpy without a handler
    (93, "U1", "3B"),                // user address given to a kernel function
    (94, "X1", "50"),                // mapping used after unlock
    (95, "U3", "C4/B0"),             // mapped, not locked
    (96, "U1", "3B"),                // locked without a handler
    (100, "M3", "C7/1"),             // queued DPC in freed pool
    (101, "N1", "CA/9"),             // interrupt disconnected as another kind
    (102, "I7", "C9/302"),           // threaded IRP sent at APC_LEVEL
    (103, "I7", "C9/307"),           // threaded IRP with a signalled event
    (104, "I7", "C9/0D"),            // event on a part of the stack that is left
    (105, "Q1", "C4/E5"),            // KeSetEvent in an ISR
    (106, "Q1", "C4/31"),            // lowered with an interrupt spin lock held
    (107, "M3", "C7/0"),             // EX_TIMER set after it was deleted
    (108, "N1", "CE"),               // EX_TIMER left at unload
    (109, "M3", "C7/E"),             // EX_TIMER precise and lazy
    (110, "M3", "C7/E"),             // waited for the end of a timer that runs on
    (111, "N2", "ntsim/thread"),     // priority of a program's thread
    (112, "X1", "1E"),               // wait for four objects without wait blocks
    (113, "N2", "ntsim/etw-handle"), // unregistered twice, or never registered
    (114, "N1", "CE"),               // provider left at unload
    (115, "Q1", "C4/E5"),            // registered at DISPATCH
    (116, "N2", "ntsim/etw-event"),  // metadata of another length
    (117, "N2", "ntsim/etw-event"),  // a value that is missing
    (118, "Q3", "D1"),               // event in paged memory at DISPATCH
    (119, "N2", "ntsim/error-log"),  // entry too large
    (120, "M2", "C4/62"),            // entry left at unload
    (121, "N2", "ntsim/error-log"),  // string without an end
    (122, "N2", "ntsim/error-log"),  // bytes that were not written
    (97, "U3", "C4/82"),             // mapped with BugCheckOnFailure
    (98, "U3", "C4/B0"),             // built for nonpaged pool over paged pool
    (153, "Q2", "C4/3E"),            // critical region not entered
    (154, "I6", "C9/227"),           // completion routine in PAGE
    (155, "F6", "C9/233"),           // DEVICE_CAPABILITIES of zeros
    (156, "F6", "C9/237"),           // own QUERY_REMOVE_DEVICE
    (157, "Q1", "C4/123"),           // UserMode wait for an event on the stack
    (158, "U2", "C4/E4"),            // Length 1
    (159, "I7", "C4/105"),           // IRP given to ExFreePool
    (160, "I5", "C9/23A"),           // CLEANUP sent at DISPATCH
    (161, "U2", "C4/3C"),            // no handle
    (162, "L4", "C4/100A"),          // thread ends with a mutex
    (163, "I5", "C9/207"),           // the sender's completion routine copied
    (164, "Q2", "C9/05"),            // spin lock released to another IRQL
    (165, "L1", "C4/1000"),          // queued spin lock twice
    (166, "L4", "C4/40007"),         // queued spin lock kept
    (167, "M1", "CC"),               // after free, beside a port instruction
];

/// The request sins that call a kernel function at an IRQL that it is not for.
const CALLS_AT_WRONG_IRQL: &[u32] = &[
    130, // KeAcquireSpinLockAtDpcLevel at PASSIVE
    131, // ExAcquireFastMutex at DISPATCH
    132, // ProbeForRead at DISPATCH
    133, // ExRaiseStatus at DISPATCH
    134, // IoDeleteDevice at DISPATCH
    135, // IoDisconnectInterruptEx at APC
    136, // IoDetachDevice at APC
    137, // IoDeleteSymbolicLink at APC
    138, // IoGetDeviceObjectPointer at APC
    139, // KeDelayExecutionThread at DISPATCH
    140, // KeEnterCriticalRegion at DISPATCH
    141, // KeSetTimer at a DIRQL
    142, // ObReferenceObjectByHandle at APC
    143, // PsCreateSystemThread at APC
    144, // IoOpenDeviceRegistryKey at APC
    145, // IoRegisterDeviceInterface at APC
    146, // IoInitializeRemoveLock at APC
    147, // IoReleaseRemoveLockAndWait at APC
];

/// Every request sin with the rule that catches it.
fn request_sins() -> Vec<Sin> {
    let calls = CALLS_AT_WRONG_IRQL.iter();
    let calls = calls.map(|number| (*number, "Q1", "C4/E5"));
    REQUEST_SINS.iter().copied().chain(calls).collect()
}

/// Commits each of the sins with so many seeds; its rule must stop the machine.
fn all_named(
    kind: &str,
    sins: &[Sin],
    seeds: u64,
    commit: impl Fn(u32, u64) -> Result<(), Bugcheck>,
) {
    let mut wrong = Vec::new();
    for (number, id, code) in sins {
        let expected = (*id, *code);
        for seed in 0..seeds {
            let got = match commit(*number, seed) {
                Ok(()) => "nothing found".to_owned(),
                Err(check) if (check.rule.id, check.rule.code) == expected => continue,
                Err(check) => format!("got {check}"),
            };
            wrong.push(format!(
                "{kind} sin {number}, seed {seed}: expected {expected:?}, {got}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_request_sin_is_named() {
    all_named("request", &request_sins(), 5, request_sin);
}

#[test]
fn a_fault_beside_a_port_is_named_as_if_nothing_were_replaced() {
    let named = [false, true].map(|patch_ports| {
        let config = Config {
            patch_ports,
            ..Config::default()
        };
        let check = request_sin_with(&config, 167).unwrap_err();
        assert!(check.what.starts_with("write at offset 0x1 "), "{check}");
        assert!(check.frames.len() > 1, "{check}");
        (check.rule.code, check.frames)
    });
    assert_eq!(named[0], named[1]);
}

/// A life with everything in it that the parameter's sins wait for.
fn life(sin: u32, seed: u64) -> Result<(), Bugcheck> {
    let config = Config {
        seed,
        force_pending: matches!(sin, 0 | 20 | 39 | 44),
        ..Config::default()
    };
    let b = bench(config, sin);
    let m = &b.machine;
    let h = up(&b)?;
    m.send_pnp_irp(b.node, 0x30, [0; 4])?;
    m.send_power_irp(b.node, 0x20, [0; 4])?;
    m.send_wmi_irp(b.node, 8, [0; 4])?;
    if sin == 45 {
        m.send_answered_pnp_irp(b.node, 0x14, NtStatus::SUCCESS)?;
    }
    for (child, _) in m.children(b.node) {
        m.send_pnp_irp(child, 0x30, [0; 4])?;
    }
    m.sleep()?;
    if sin == 200 {
        m.set_power_up(
            b.node,
            ntsim::PowerUp {
                after: 1_000_000,
                ..ntsim::PowerUp::default()
            },
        );
    }
    m.wake()?;
    m.settle()?;
    m.query_stop(b.node)?;
    m.cancel_stop(b.node)?;
    m.close(h)?;
    if sin == 35 {
        for (child, _) in m.children(b.node) {
            m.remove(child)?;
        }
    }
    m.query_remove(b.node)?;
    m.cancel_remove(b.node)?;
    if (seed.is_multiple_of(2) || sin == 15) && sin != 61 {
        m.unplug(b.node)?;
    } else {
        m.remove(b.node)?;
    }
    m.unload(b.driver)
}

const LIFE_SINS: &[Sin] = &[
    (1, "M2", "C4/62"),    // pool left
    (2, "N1", "CE"),       // thread left
    (3, "N1", "CE"),       // link left
    (4, "F1", "C9/22E"),   // completed instead of passed down
    (5, "F1", "C9/213"),   // unknown minor touched
    (6, "F1", "C9/215"),   // failed and forwarded
    (7, "A1", "C9/243"),   // DO_DEVICE_INITIALIZING
    (8, "A2", "C9/21D"),   // deleted while attached
    (9, "M2", "C4/62"),    // handle left
    (10, "F3", "C9/247"),  // REMOVE failed
    (11, "A2", "C9/21E"),  // not deleted
    (12, "F1", "C9/217"),  // QUERY_REMOVE not handled
    (13, "A1", "C9/245"),  // both buffer flags
    (14, "A1", "C9/23F"),  // DO_POWER_PAGABLE
    (15, "A2", "C9/242"),  // detached in SURPRISE_REMOVAL
    (16, "F4", "C9/230"),  // bogus power minor touched
    (17, "F5", "C9/220"),  // WMI completed
    (18, "I5", "C9/211"),  // lower filter skipped
    (19, "I5", "C9/206"),  // Skip and completion routine
    (20, "I6", "C9/228"),  // pending not propagated
    (21, "F7", "C9/21F"),  // no power dispatch
    (22, "N1", "CE"),      // interface left enabled
    (25, "N1", "CE"),      // work item left
    (26, "I5", "C9/203"),  // forwarded with a cancel routine
    (27, "M1", "CC"),      // extension touched after delete
    (28, "N1", "CE"),      // own IRP left
    (29, "M2", "C4/62"),   // device reference left
    (31, "K3", "C4/D6"),   // released before release-and-wait
    (32, "A3", "CA/5"),    // relations without reference
    (33, "A3", "C9/248"),  // relations with an FDO
    (34, "F3", "C9/247"),  // PDO fails REMOVE
    (36, "F2", "C9/22A"),  // PDO leaves QUERY_STOP
    (37, "A3", "CA/3"),    // bad id
    (38, "F2", "C9/213p"), // PDO answers an unknown minor
    (35, "A2", "C9/221"),  // PDO deleted though reported
    (39, "I5", "C9/205"),  // completed while below
    (40, "I5", "C9/212"),  // location neither copied nor skipped
    (41, "A3", "C9/249"),  // two children with one id
    (42, "N1", "ntsim/interrupt"),
    (44, "I2", "C9/224b"), // STATUS_PENDING of the lower driver hidden
    (45, "F3", "C9/216"),  // an answer turned into STATUS_NOT_SUPPORTED
    (60, "P1", "ntsim/power-untold"), // START
    (61, "P1", "ntsim/power-untold"), // REMOVE
    (62, "F4", "C9/230"),  // QUERY_POWER completed instead of passed down
    (63, "P1", "MarkPower"), // SET_POWER not pended
    (64, "P1", "9F"),      // SET_POWER never completed
    (65, "P1", "PowerDownAllocate"),
    (66, "F4", "ntsim/power-wait"),
    (67, "P1", "ntsim/power-early"),
    (68, "P1", "ntsim/power-untold"), // power goes
    (69, "P1", "PowerDownFail"),
    (70, "P1", "ntsim/policy"), // no device power request
    (71, "P1", "C4/4100B"),     // a place for the IRP
    (72, "P1", "ntsim/policy"), // not waited for the device power request
    (73, "P1", "ntsim/power-access"),
    (74, "P1", "ntsim/power-untold"), // power came
    (75, "Q1", "C4/E5"),              // powered down at DISPATCH
    (76, "A1", "C9/23F"),             // a child's DO_POWER_PAGABLE
    (200, "P1", "ntsim/policy-children"),
    (201, "P1", "ntsim/policy"), // no device power query
];

#[test]
fn every_life_sin_is_named() {
    all_named("life", LIFE_SINS, 4, life);
}

#[test]
fn a_driver_may_refuse_to_sleep() {
    let b = bench(Config::default(), 77);
    let up = up(&b);
    let m = &b.machine;
    assert_eq!(m.sleep(), Ok(NtStatus::UNSUCCESSFUL));
    assert_eq!(m.settle(), Ok(()));
    assert_eq!(down(&b, up.expect("started")), Ok(()));
}

#[test]
fn forced_pending_is_handled() {
    for seed in 0..20 {
        life(0, seed).unwrap_or_else(|check| panic!("{check}"));
    }
}

/// The page that names every rule, with what shows that it is enforced.
const PAGE: &str = include_str!("../rules.md");

/// The cells of a table's rows, of the table under this heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let heading = format!("## {heading}\n");
    let after = PAGE.split_once(&heading).expect("a heading").1;
    let section = after.split("\n## ").next().unwrap_or(after);
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1)
        .map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// The sins that a cell names, with the code of the rule that catches each.
fn named(cell: &str) -> Vec<(String, Option<&'static str>)> {
    let of = |sins: &[Sin], number: &str| {
        let number: u32 = number.parse().ok()?;
        sins.iter().find(|sin| sin.0 == number).map(|sin| sin.2)
    };
    let sins = cell.split(", ").filter_map(|sin| {
        let (kind, name) = sin.split_once(' ')?;
        match kind {
            "request" => Some((sin.to_owned(), of(&request_sins(), name))),
            "life" => Some((sin.to_owned(), of(LIFE_SINS, name))),
            _ => None,
        }
    });
    sins.collect()
}

/// The page has every rule once, with its code, and every sin with the rule that catches it.
#[test]
fn the_page_of_rules_is_true() {
    let tests = [include_str!("rules.rs"), include_str!("usb/rules.rs")];
    let mut wrong = Vec::new();
    let mut shown = Vec::new();
    let listed = rows("Rules");
    for rule in ntsim::rules::CATALOGUE {
        let of_it = |row: &&Vec<&str>| row[..2] == [rule.name, rule.code];
        if listed.iter().filter(of_it).count() != 1 {
            wrong.push(format!("{} [{}] has not one row", rule.name, rule.code));
        }
    }
    for row in &listed {
        let [name, code, option, by] = row[..] else {
            wrong.push(format!("{row:?}: not four cells"));
            continue;
        };
        let known = |rule: &&ntsim::Rule| (rule.name, rule.code) == (name, code);
        if !ntsim::rules::CATALOGUE.iter().any(|rule| known(&rule)) || option.is_empty() {
            wrong.push(format!("{name} [{code}] is no rule, or has no option"));
        }
        let sins = named(by);
        for (sin, caught) in &sins {
            shown.push(sin.clone());
            if *caught != Some(code) {
                wrong.push(format!("{name} [{code}]: {sin} is caught by {caught:?}"));
            }
        }
        let by_test = by
            .strip_prefix("test `")
            .and_then(|test| test.strip_suffix('`'))
            .is_some_and(|test| {
                let line = format!("fn {test}()");
                tests.iter().any(|file| file.contains(&line))
            });
        if sins.is_empty() && !by_test && name != "UNSUPPORTED" {
            wrong.push(format!("{name} [{code}]: nothing shows it"));
        }
    }
    for (kind, sins) in [("request", &request_sins()[..]), ("life", LIFE_SINS)] {
        let missing = sins
            .iter()
            .map(|sin| format!("{kind} {}", sin.0))
            .filter(|sin| !shown.contains(sin));
        wrong.extend(missing.map(|sin| format!("{sin} is not on the page")));
    }
    for row in rows("DDI compliance checking") {
        let sins = named(row[1]);
        let without = row[1] == "-" && row[2].contains("not simulated");
        if sins.is_empty() && !without || sins.iter().any(|(_, caught)| caught.is_none()) {
            wrong.push(format!("{row:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn direct_io_below_must_be_inherited() {
    let machine = ntsim::Machine::boot(Config::default());
    let driver = machine
        .load_driver(common::image(), "faulty-driver", &[])
        .expect("load");
    let node = machine.plug(ntsim::DeviceSpec {
        flags: 0x10,
        ..common::spec()
    });
    let check = machine.add_device(node, driver).expect_err("a broken rule");
    assert_eq!(check.rule, ntsim::rules::BUFFER_INHERIT);
}

//! What an administrator is told: the events of the ETW provider, and the entries in the event log.
//! Each failure says which device, which step or mode, and what to do; none has data of a user; and
//! while no session listens nothing is sent.

use ntsim::{
    NtStatus, PowerUp,
    etw::{EtwEvent, EtwValue},
};
use parscan_models::{Condition, DescriptorSet, Misbehaviour, Peripheral1284};
use parscan_tests::{
    MS, Setup, check,
    modes::{Chip, ModesPc, pattern, pc},
    ntddpar::{IOCTL_PAR_QUERY_DEVICE_ID, modes},
    scanner::{BULK_IN, ScannerPc, ScannerSetup},
    usbscan_h::{IOCTL_RESET_PIPE, IOCTL_SET_TIMEOUT, READ_DATA_PIPE, pipe_type, timeout},
};

/// The GUID that ETW tools make of the name `Parscan`.
const GUID: &str = "5d67e879-5dd6-56ae-75b1-ef3dd824ae50";
/// Levels of winmeta.h.
const ERROR: u8 = 2;
const WARNING: u8 = 3;
const INFO: u8 = 4;

/// A session's level, as bytes of a start.
const EVERYTHING: Option<u8> = Some(0);

/// A port, and a session that wants errors.
fn errors() -> Setup {
    let mut setup = Setup::default();
    setup.config.etw_level = Some(ERROR);
    setup
}

fn named(events: &[EtwEvent], name: &str) -> Vec<EtwEvent> {
    events
        .iter()
        .filter(|it| it.name == name)
        .cloned()
        .collect()
}

/// The one event of a name.
#[track_caller]
fn only(events: &[EtwEvent], name: &str) -> EtwEvent {
    match named(events, name).as_slice() {
        [event] => event.clone(),
        _ => panic!("not one {name} among {events:#?}"),
    }
}

/// A sentence that says what to do, not only what happened.
#[track_caller]
fn assert_helps(event: &EtwEvent) {
    let remedy = event.text("Remedy");
    assert!(remedy.len() > 40 && remedy.ends_with('.'), "{event}");
    assert_eq!(
        (event.provider.as_str(), event.guid.as_str()),
        ("Parscan", GUID)
    );
}

#[test]
fn a_start_is_told() {
    let mut setup = Setup::default();
    setup.config.etw_level = EVERYTHING;
    let pc = setup.started();
    let events = pc.machine.etw_events();
    // The port, and the device on it.
    let started = named(&events, "Started");
    assert_eq!(started.len(), 2);
    for event in started {
        assert_eq!((event.text("Device"), event.level), ("LPT1", INFO));
        assert_eq!(event.guid, GUID);
    }
    assert_eq!(pc.machine.error_log(), []);
    pc.finish();
}

#[test]
fn a_port_without_its_ports_says_so_in_an_event_and_in_the_event_log() {
    let mut setup = errors();
    setup.resources = Vec::new();
    let pc = setup.loaded();
    assert!(check(pc.machine.add_device(pc.node, pc.driver)).is_success());
    let status = check(pc.machine.start(pc.node));
    assert_eq!(status, NtStatus(0xC000_0182));
    let events = pc.machine.etw_events();
    let failed = only(&events, "StartFailed");
    assert_eq!(failed.level, ERROR);
    assert_eq!(failed.text("Device"), "LPT1");
    assert_eq!(failed.text("Step"), "I/O ranges");
    assert_eq!(failed.number("Status"), 0xC000_0182);
    assert_helps(&failed);
    let log = pc.machine.error_log();
    let [entry] = log.as_slice() else {
        panic!("{log:?}");
    };
    assert_eq!(entry.source, "ParscanPort");
    assert_eq!(entry.object, r"\Device\ParallelPort0");
    assert_eq!((entry.code, entry.status), (0xE000_0003, 0xC000_0182));
    assert_eq!(entry.strings, ["LPT1", "0xC0000182"]);
    pc.remove();
}

#[test]
fn a_device_that_is_not_served_says_so_without_a_device_object() {
    let mut setup = errors();
    setup.parameters = Vec::new();
    setup.class_guid = "{4D36E96C-E325-11CE-BFC1-08002BE10318}";
    let pc = setup.loaded();
    let status = check(pc.machine.add_device(pc.node, pc.driver));
    assert_eq!(status, NtStatus(0xC000_00BB));
    let failed = only(&pc.machine.etw_events(), "StartFailed");
    assert_eq!(failed.text("Step"), "AddDevice");
    assert_helps(&failed);
    let log = pc.machine.error_log();
    assert_eq!(
        (log[0].code, log[0].object.as_str()),
        (0xE000_0001, r"\Driver\ParscanPort")
    );
    check(pc.machine.remove(pc.node));
    pc.unload();
}

#[test]
fn a_scanner_that_does_not_answer_says_at_which_descriptor() {
    let mut setup = ScannerSetup::default();
    setup.config.etw_level = EVERYTHING;
    let pc = setup.loaded();
    pc.scanner.set_silent(0, true);
    assert!(check(pc.machine.add_device(pc.node, pc.driver)).is_success());
    let status = check(pc.machine.start(pc.node));
    assert_eq!(status, NtStatus::IO_TIMEOUT);
    let events = pc.machine.etw_events();
    let failed = only(&events, "StartFailed");
    assert_eq!(failed.text("Device"), "Usbscan0");
    assert_eq!(failed.text("Step"), "USB device descriptor");
    assert_eq!(failed.number("Status"), 0xC000_00B5);
    assert_helps(&failed);
    let timed_out = only(&events, "TimedOut");
    assert_eq!(timed_out.text("Mode"), "USB descriptor request");
    assert_helps(&timed_out);
    let log = pc.machine.error_log();
    assert_eq!(log[0].source, "ParscanScan");
    assert_eq!(log[0].strings, ["Usbscan0", "0xC00000B5"]);
    check(pc.machine.remove(pc.node));
    pc.unload();
}

#[test]
fn descriptors_that_contradict_themselves_are_told_as_such() {
    let mut steps = Vec::new();
    for seed in 0..20 {
        let mut setup = ScannerSetup::default();
        setup.config.etw_level = Some(ERROR);
        setup.scanner.set_descriptors(DescriptorSet::hostile(seed));
        let pc = setup.loaded();
        assert!(check(pc.machine.add_device(pc.node, pc.driver)).is_success());
        let status = check(pc.machine.start(pc.node));
        let events = named(&pc.machine.etw_events(), "StartFailed");
        assert_eq!(
            events.len(),
            usize::from(!status.is_success()),
            "seed {seed}"
        );
        assert_eq!(pc.machine.error_log().len(), events.len(), "seed {seed}");
        for event in events {
            assert_eq!(event.number("Status"), u64::from(status.0));
            assert_helps(&event);
            steps.push(event.text("Step").to_owned());
        }
        check(pc.machine.remove(pc.node));
        pc.unload();
    }
    assert!(
        steps
            .iter()
            .any(|it| it == "contents of the USB descriptors"),
        "{steps:?}"
    );
}

/// A PC whose peripheral misbehaves from now on, in a mode, with a time-out of a second.
fn in_mode(read: u16, write: u16, misbehaviour: Misbehaviour) -> (ModesPc, ntsim::Handle) {
    let device = Peripheral1284::new();
    let pc = pc(Chip::EcpEpp, &device);
    let lpt1 = pc.open();
    if (read, write) != (0, 0) {
        pc.choose(lpt1, read, write);
    }
    pc.set_timeouts(lpt1, [0, 0, 1000, 0, 1000]);
    check(pc.machine.listen(Some(WARNING)));
    device.give(&pattern(8));
    device.misbehave_at_byte(4, misbehaviour);
    (pc, lpt1)
}

/// A second is less than what a byte gets in ECP (event 36; by hardware it is the chip that waits)
/// before the host's recovery, whose first event is 73.
#[test]
fn a_time_out_of_a_write_tells_mode_and_event() {
    for (mode, misbehaviour, name, event) in [
        (
            modes::CENTRONICS,
            Misbehaviour::Condition(Condition::Busy),
            "Centronics",
            0,
        ),
        (
            modes::IEEE_COMPATIBILITY,
            Misbehaviour::Condition(Condition::Busy),
            "Centronics",
            0,
        ),
        (
            modes::ECP_SW,
            Misbehaviour::StallForwardForever,
            "ECP by software",
            36,
        ),
        (
            modes::ECP_HW_NOIRQ,
            Misbehaviour::StallForwardForever,
            "ECP by hardware",
            0,
        ),
        (
            modes::EPP_SW,
            Misbehaviour::WaitStuck(false),
            "EPP by software",
            58,
        ),
        (
            modes::EPP_HW,
            Misbehaviour::WaitStuck(false),
            "EPP by hardware",
            58,
        ),
    ] {
        let (pc, lpt1) = in_mode(0, mode, misbehaviour);
        let result = check(pc.machine.write(lpt1, &pattern(20)));
        assert!(result.information < 20, "{name}");
        let told = only(&pc.machine.etw_events(), "TimedOut");
        assert_eq!(told.text("Device"), "LPT1", "{name}");
        assert_stuck(&told, name, event);
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

/// The event of a transfer that got no further says where.
#[track_caller]
fn assert_stuck(told: &EtwEvent, mode: &str, event: u64) {
    assert_eq!(told.text("Mode"), mode);
    assert_eq!(told.number("Ieee1284Event"), event, "{told}");
    assert_helps(told);
}

#[test]
fn a_stalled_ecp_transfer_tells_the_event_of_its_recovery() {
    for (mode, name) in [
        (modes::ECP_SW, "ECP by software"),
        (modes::ECP_HW_NOIRQ, "ECP by hardware"),
    ] {
        let (pc, lpt1) = in_mode(0, mode, Misbehaviour::StallForwardForever);
        pc.set_timeouts(lpt1, [0, 0, 0, 0, 20_000]);
        let result = check(pc.machine.write(lpt1, &pattern(20)));
        assert_eq!(result.status, NtStatus::IO_DEVICE_ERROR, "{name}");
        let told = only(&pc.machine.etw_events(), "TimedOut");
        assert_stuck(&told, name, 73);
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

#[test]
fn a_time_out_of_a_read_tells_mode_and_event() {
    for (mode, name, event) in [
        (modes::NIBBLE, "nibble", 9),
        (modes::BYTE_BIDIR, "byte", 9),
        (modes::EPP_SW, "EPP by software", 58),
        (modes::EPP_HW, "EPP by hardware", 58),
    ] {
        let misbehaviour = if event == 58 {
            Misbehaviour::WaitStuck(false)
        } else {
            Misbehaviour::Silent
        };
        let (pc, lpt1) = in_mode(mode, 0, misbehaviour);
        let _ = check(pc.machine.read(lpt1, 8));
        let told = named(&pc.machine.etw_events(), "TimedOut");
        let told = told
            .first()
            .unwrap_or_else(|| panic!("{name}: nothing told"));
        assert_stuck(told, name, event);
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

#[test]
fn a_device_with_nothing_to_say_and_one_from_before_1284_are_told_as_such() {
    // ECP offers no byte: not an error, until the program's own time is over.
    for (mode, name) in [
        (modes::ECP_SW, "ECP by software"),
        (modes::ECP_HW_NOIRQ, "ECP by hardware"),
        (modes::NIBBLE, "nibble"),
    ] {
        let device = Peripheral1284::new();
        let pc = pc(Chip::EcpEpp, &device);
        let lpt1 = pc.open();
        pc.choose(lpt1, mode, 0);
        pc.set_timeouts(lpt1, [0, 0, 500, 0, 0]);
        check(pc.machine.listen(Some(WARNING)));
        let result = check(pc.machine.read(lpt1, 8));
        assert_eq!(result.status, NtStatus::TIMEOUT, "{name}");
        let told = only(&pc.machine.etw_events(), "TimedOut");
        assert_eq!((told.text("Mode"), told.number("Ieee1284Event")), (name, 0));
        assert!(told.text("Remedy").contains("nothing to say"), "{told}");
        check(pc.machine.close(lpt1));
        pc.remove();
    }
    let (pc, lpt1) = in_mode(0, 0, Misbehaviour::Late(0));
    pc.printer.misbehave(Misbehaviour::NoNegotiation);
    let _ = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 64);
    let told = only(&pc.machine.etw_events(), "TimedOut");
    assert_eq!(
        (told.text("Mode"), told.number("Ieee1284Event")),
        ("nibble", 2)
    );
    assert!(told.text("Remedy").contains("cable"), "{told}");
    check(pc.machine.close(lpt1));
    pc.remove();
}

#[test]
fn a_stall_is_told_with_its_usbd_status() {
    ScannerPc::new().with_open(|pc, file| {
        check(pc.machine.listen(Some(WARNING)));
        pc.scanner.stall_at(BULK_IN, 0);
        assert_eq!(pc.read(file, 64).status, NtStatus::UNSUCCESSFUL);
        let told = only(&pc.machine.etw_events(), "UsbError");
        assert_eq!(told.text("Device"), "Usbscan0");
        // USBD_STATUS_STALL_PID, URB_FUNCTION_BULK_OR_INTERRUPT_TRANSFER
        assert_eq!(told.number("UsbdStatus"), 0xC000_0004, "{told}");
        assert_eq!(told.number("UrbFunction"), 9);
        assert!(told.number("Pipe") < 8, "{told}");
        assert!(told.text("Remedy").contains("STALL"), "{told}");
        assert_helps(&told);
    });
}

#[test]
fn a_scanner_that_says_nothing_in_time_is_told() {
    ScannerPc::new().with_open(|pc, file| {
        check(pc.machine.listen(Some(WARNING)));
        let set = pc.control(file, IOCTL_SET_TIMEOUT, &timeout(2, 2, 2), 0);
        assert_eq!(set.status, NtStatus::SUCCESS);
        pc.scanner.silence_at(BULK_IN, 0);
        assert_eq!(pc.read(file, 64).status, NtStatus::IO_TIMEOUT);
        let told = only(&pc.machine.etw_events(), "TimedOut");
        assert_eq!(told.text("Mode"), "USB bulk or interrupt transfer");
        assert_helps(&told);
    });
}

#[test]
fn sleep_wake_up_and_a_refused_power_are_told() {
    let pc = ScannerPc::new();
    check(pc.machine.listen(Some(INFO)));
    check(pc.machine.sleep());
    check(pc.machine.wake());
    check(pc.machine.settle());
    let refused = PowerUp {
        refused: Some(NtStatus(0xC000_0001)),
        ..PowerUp::default()
    };
    check(pc.machine.sleep());
    pc.machine.set_power_up(pc.node, refused);
    check(pc.machine.wake());
    check(pc.machine.settle());
    let events = pc.machine.etw_events();
    let states: Vec<_> = named(&events, "Power")
        .iter()
        .map(|it| it.text("State").to_owned())
        .collect();
    assert_eq!(states, ["D3", "D0", "D3"]);
    let told = named(&events, "PowerRefused");
    assert!(!told.is_empty() && told[0].level == WARNING, "{events:#?}");
    assert_helps(&told[0]);
    pc.finish();
}

#[test]
fn who_has_the_port_and_who_waits_in_vain_is_told() {
    let pc = Setup::default().started();
    check(pc.machine.listen(EVERYTHING));
    let lpt1 = pc.open();
    let port = check(
        pc.machine
            .open(r"\Device\ParallelPort0", ntsim::Caller::Kernel),
    )
    .unwrap();
    // IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE
    let taken = check(
        pc.machine
            .internal_device_control(port, 0x0016_002C, &[], 0),
    );
    assert_eq!(taken.status, NtStatus::SUCCESS);
    let result = pc.initialize(lpt1);
    assert_eq!(result.status, NtStatus(0x8000_0011));
    let events = pc.machine.etw_events();
    assert_eq!(only(&events, "PortTaken").text("Owner"), "kernel client");
    let busy = only(&events, "PortBusy");
    assert_eq!((busy.text("Device"), busy.level), ("LPT1", WARNING));
    assert_eq!(busy.number("WaitedMilliseconds"), 5000);
    assert_helps(&busy);
    check(pc.machine.close(port));
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    let owners: Vec<_> = named(&pc.machine.etw_events(), "PortTaken")
        .iter()
        .map(|it| it.text("Owner").to_owned())
        .collect();
    assert_eq!(owners, ["kernel client", "device object"]);
    pc.close_and_finish(lpt1);
}

#[test]
fn nothing_is_sent_while_nobody_listens_to_that_level() {
    for level in [None, Some(ERROR)] {
        ScannerPc::new().with_open(|pc, file| {
            check(pc.machine.listen(EVERYTHING));
            check(pc.machine.listen(level));
            pc.scanner.stall_at(BULK_IN, 0);
            assert_eq!(pc.read(file, 64).status, NtStatus::UNSUCCESSFUL);
            assert_eq!(pc.machine.etw_writes(), 0, "{level:?}");
        });
    }
}

#[test]
fn a_program_that_fails_all_the_time_does_not_flood_the_session() {
    let (pc, lpt1) = in_mode(0, 0, Misbehaviour::Late(0));
    pc.printer.misbehave(Misbehaviour::NoNegotiation);
    for _ in 0..40 {
        let _ = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 64);
    }
    let first = named(&pc.machine.etw_events(), "TimedOut").len();
    assert!((16..=32).contains(&first), "{first}");
    check(pc.machine.run_for(20_000 * MS));
    let _ = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 64);
    let events = named(&pc.machine.etw_events(), "TimedOut");
    let left_out: u64 = events.iter().map(|it| it.number("LeftOut")).sum();
    assert_eq!(left_out + events.len() as u64, 41);
    check(pc.machine.close(lpt1));
    pc.remove();
}

#[test]
fn no_event_has_what_a_user_sends() {
    const SECRET: &[u8] = b"my password";
    let (pc, lpt1) = in_mode(0, modes::ECP_SW, Misbehaviour::StallForwardForever);
    let _ = check(pc.machine.write(lpt1, SECRET));
    for event in pc.machine.etw_events() {
        for (name, value) in &event.fields {
            // No kernel address, and no I/O address of the port.
            match value {
                EtwValue::Text(text) => assert!(!text.contains("password"), "{name}={text}"),
                EtwValue::Number(number) => {
                    assert!(*number < 1 << 32 && *number != 0x378, "{name}={number:#x}");
                }
            }
        }
    }
    check(pc.machine.close(lpt1));
    pc.remove();
}

/// What the bus says of a transfer that failed has its own advice.
#[test]
fn every_usbd_status_has_its_advice() {
    for (status, advice) in [
        (0xC000_0001, "cable"),
        (0xC000_0002, "cable"),
        (0xC000_0003, "cable"),
        (0xC000_0004, "STALL"),
        (0xC000_0005, "cable"),
        (0xC000_0006, "cable"),
        (0xC000_0008, "more than was asked"),
        (0xC000_000C, "more than was asked"),
        (0xC000_0011, "cable"),
        (0xC000_0030, "STALL"),
        (0xC000_7000, "unplugged"),
        (0xC000_0009, "report this status"),
    ] {
        ScannerPc::new().with_open(|pc, file| {
            check(pc.machine.listen(Some(WARNING)));
            pc.scanner.send(BULK_IN, &[1; 64], false);
            pc.machine.break_transfer(status);
            let read = pc.read(file, 64);
            assert!(!read.status.is_success(), "{status:#x}: {}", read.status);
            let told = only(&pc.machine.etw_events(), "UsbError");
            assert_eq!(told.number("UsbdStatus"), u64::from(status), "{told}");
            assert!(told.text("Remedy").contains(advice), "{told}");
            assert_helps(&told);
        });
    }
}

/// A session that asks how things are changes nothing: who listened is told as before.
#[test]
fn a_session_that_asks_for_the_state_changes_nothing() {
    ScannerPc::new().with_open(|pc, file| {
        for listens in [false, true] {
            check(pc.machine.listen(listens.then_some(WARNING)));
            check(pc.machine.capture_trace_state());
            let before = pc.machine.etw_events().len();
            pc.scanner.stall_at(BULK_IN, 0);
            assert_eq!(pc.read(file, 64).status, NtStatus::UNSUCCESSFUL);
            let told = pc.machine.etw_events().len() - before;
            assert_eq!(told, usize::from(listens));
            let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(READ_DATA_PIPE), 0);
            assert_eq!(reset.status, NtStatus::SUCCESS);
        }
    });
}

/// A bus that answers with other pipes than the device told of, and one that gives a request up: the
/// start fails and says where, and the next one is as any.
#[test]
fn a_start_fails_with_what_the_bus_answers() {
    /// `USBD_STATUS_CANCELED`
    const CANCELED: u32 = 0xC001_0000;
    for (gives_up, step) in [
        (false, "select the USB configuration"),
        (true, "USB device descriptor"),
    ] {
        let mut setup = ScannerSetup::default();
        setup.config.etw_level = EVERYTHING;
        let pc = setup.loaded();
        let added = check(pc.machine.add_device(pc.node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS);
        if gives_up {
            pc.machine.break_transfer(CANCELED);
        } else {
            pc.machine.reverse_pipes(true);
        }
        let status = check(pc.machine.start(pc.node));
        assert!(status.is_error(), "{status}");
        let failed = only(&pc.machine.etw_events(), "StartFailed");
        assert_eq!(failed.text("Step"), step);
        assert_eq!(failed.number("Status"), u64::from(status.0));
        assert_helps(&failed);
        pc.machine.reverse_pipes(false);
        let added = check(pc.machine.add_device(pc.node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        pc.finish();
    }
}

//! Start, stop and removal; names, links and interfaces; what Windows may send besides.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ntsim::{
    Caller, Config, DevNode, DeviceSpec, DriverId, Machine, Need, NodeState, NtStatus, RegValue,
    Resource, When, requirements_list,
};
use parscan_models::{Condition, Spp, Unconnected};
use parscan_tests::{
    LPT1_REGISTERS, MS, Pc, Setup, assert_link, check,
    client::on_port,
    ntddpar::{GUID_DEVINTERFACE_PARALLEL, GUID_DEVINTERFACE_PARCLASS},
    scanner::ScannerSetup,
};

const HARDWARE_KEY: &str =
    r"\Registry\Machine\SYSTEM\CurrentControlSet\Enum\ACPI\PNP0400\1\Device Parameters";

fn device_names(pc: &Pc) -> Vec<String> {
    let mut names: Vec<_> = pc
        .machine
        .devices()
        .into_iter()
        .filter(|device| device.driver == "ParscanPort")
        .filter_map(|device| device.name)
        .collect();
    names.sort();
    names
}

/// A program opens the port, resets the printer and closes the port.
#[track_caller]
fn assert_works(pc: &Pc) {
    let lpt1 = pc.open();
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    check(pc.machine.close(lpt1));
}

#[test]
fn load_start_use_remove_unload_leave_nothing() {
    for seed in 0..50 {
        for filter in [false, true] {
            let pc = Setup::with_config(Config {
                seed,
                filter,
                preempt_per_mille: 300,
                ..Config::default()
            })
            .started();
            let lpt1 = pc.open();
            assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
            pc.close_and_finish(lpt1);
        }
    }
}

#[test]
fn a_started_port_has_its_documented_names() {
    let pc = Pc::new();
    assert_eq!(
        device_names(&pc),
        [r"\Device\Parallel0", r"\Device\ParallelPort0"]
    );
    assert_link(&pc.machine, r"\LPT1", r"\Device\Parallel0");
    let interfaces = pc.machine.interfaces();
    for class in [GUID_DEVINTERFACE_PARALLEL, GUID_DEVINTERFACE_PARCLASS] {
        let found: Vec<_> = interfaces
            .iter()
            .filter(|(guid, ..)| guid.eq_ignore_ascii_case(class))
            .collect();
        assert_eq!(found.len(), 1, "{class}: {interfaces:?}");
        assert!(found[0].2, "{class} is enabled");
        let handle = pc.try_open(&found[0].1).expect("opened by its interface");
        check(pc.machine.close(handle));
    }
    let children = pc.machine.children(pc.node);
    assert_eq!(children.len(), 1);
    assert!(
        children[0].1.starts_with(r"LPTENUM\MicrosoftRawPort\") && children[0].1.ends_with("LPT1"),
        "{children:?}"
    );
    assert_eq!(pc.machine.node_state(children[0].0), NodeState::Started);
    pc.finish();
}

#[test]
fn the_device_is_protected_and_so_are_names_behind_it() {
    let pc = Pc::new();
    let devices = pc.machine.devices();
    for name in [r"\Device\ParallelPort0", r"\Device\Parallel0"] {
        let device = devices
            .iter()
            .find(|device| device.name.as_deref() == Some(name))
            .unwrap();
        assert_ne!(device.characteristics & 0x100, 0, "FILE_DEVICE_SECURE_OPEN");
    }
    let child = devices
        .iter()
        .find(|device| device.name.as_deref() == Some(r"\Device\Parallel0"))
        .unwrap();
    // D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FRFW;;;IU), self-relative. No other user, and no inheritance.
    let security = &child.security;
    assert_eq!(security[2..4], [0x04, 0x90], "control");
    let dacl = usize::from(security[16]);
    assert_eq!(security[dacl + 4], 3, "three entries");
    let mut at = dacl + 8;
    let mut granted = Vec::new();
    for _ in 0..3 {
        let length = usize::from(security[at + 2]);
        let mask = u32::from_le_bytes(security[at + 4..at + 8].try_into().unwrap());
        let sid = &security[at + 8..at + length];
        let authorities: Vec<u32> = sid[8..]
            .chunks(4)
            .map(|part| u32::from_le_bytes(part.try_into().unwrap()))
            .collect();
        granted.push((authorities, mask));
        at += length;
    }
    assert_eq!(at, security.len());
    assert_eq!(
        granted,
        [
            (vec![18], 0x001F_01FF),
            (vec![32, 544], 0x001F_01FF),
            (vec![4], 0x0012_019F)
        ]
    );
    pc.finish();
}

#[test]
fn one_open_at_a_time() {
    let pc = Pc::new();
    let first = pc.open();
    assert_eq!(
        pc.try_open(r"\\.\LPT1").err(),
        Some(NtStatus::ACCESS_DENIED)
    );
    let kernel = check(pc.machine.open(r"\Device\Parallel0", Caller::Kernel));
    assert_eq!(kernel.err(), Some(NtStatus::ACCESS_DENIED));
    check(pc.machine.close(first));
    let again = pc.open();
    check(pc.machine.close(again));
    // The port itself is shared.
    let ports: Vec<_> = (0..3)
        .map(|_| check(pc.machine.open(r"\Device\ParallelPort0", Caller::Kernel)).unwrap())
        .collect();
    for port in ports {
        check(pc.machine.close(port));
    }
    pc.finish();
}

#[test]
fn names_behind_the_device_do_not_exist() {
    let pc = Pc::new();
    assert_eq!(
        pc.try_open(r"\\.\LPT1\x").err(),
        Some(NtStatus::OBJECT_NAME_NOT_FOUND)
    );
    let lpt1 = pc.open();
    pc.close_and_finish(lpt1);
}

/// A printer from before IEEE 1284 prints, and has nothing to read.
#[test]
fn an_old_printer_prints() {
    Pc::new().with_open(|pc, lpt1| {
        let write = check(pc.machine.write(lpt1, b"hello"));
        assert_eq!(write.outcome(), (NtStatus::SUCCESS, b"hello".len()));
        assert_eq!(pc.printer.received(), b"hello");
        let read = check(pc.machine.read(lpt1, 16));
        assert_eq!(read.outcome(), (NtStatus::IO_DEVICE_ERROR, 0));
    });
}

#[test]
fn nonsense_resources_are_refused() {
    let port = |base, len| Resource::Port { base, len };
    let memory = Resource::Memory {
        base: 0xFED0_0000,
        len: 8,
    };
    let mut many = vec![Resource::Dma { channel: 3 }; 100];
    many.push(LPT1_REGISTERS);
    let cases: Vec<Vec<Resource>> = vec![
        vec![],
        vec![port(0x378, 1)],
        vec![port(0x378, 2)],
        vec![port(0x378, 0)],
        vec![memory],
        vec![port(0xFFFE, 8)],
        vec![port(0x1_0378, 8)],
        vec![port(u64::MAX, 8)],
        vec![port(0x378, u32::MAX)],
        vec![Resource::Dma { channel: 1 }],
        vec![Resource::Interrupt {
            level: 7,
            vector: 0x37,
            latched: true,
        }],
        many,
    ];
    for resources in cases {
        let pc = Setup {
            resources: resources.clone(),
            ..Setup::default()
        }
        .loaded();
        assert_eq!(
            check(pc.machine.add_device(pc.node, pc.driver)),
            NtStatus::SUCCESS
        );
        let status = check(pc.machine.start(pc.node));
        assert!(!status.is_success(), "{resources:?}: {status:?}");
        assert_eq!(pc.machine.port_accesses(), 0, "{resources:?}");
        assert_eq!(device_names(&pc), [""; 0], "{resources:?}");
        check(pc.machine.unload(pc.driver));
        assert_eq!(pc.machine.live_irps(), 0);
    }
}

#[test]
fn three_registers_are_enough_and_other_resources_are_ignored() {
    let irq = Resource::Interrupt {
        level: 7,
        vector: 0x37,
        latched: true,
    };
    for resources in [
        vec![Resource::Port {
            base: 0x378,
            len: 3,
        }],
        vec![irq.clone(), LPT1_REGISTERS],
        vec![LPT1_REGISTERS, irq, Resource::Dma { channel: 3 }],
        // A second range that is too short for an ECP block.
        vec![
            LPT1_REGISTERS,
            Resource::Port {
                base: 0x778,
                len: 2,
            },
        ],
    ] {
        let pc = Setup {
            resources,
            ..Setup::default()
        }
        .started();
        assert_works(&pc);
        assert_eq!(pc.machine.times().unanswered, 0);
        pc.finish();
    }
}

#[test]
fn the_number_is_chosen_as_documented() {
    let name = |value: &str| ("PortName".to_owned(), RegValue::Sz(value.into()));
    let saved = |value| ("ParscanPortNumber".to_owned(), RegValue::Dword(value));
    for (values, number) in [
        (vec![], 1),
        (vec![name("LPT1")], 1),
        (vec![name("LPT3")], 3),
        (vec![name("lpt7")], 7),
        (vec![name("LPT255")], 255),
        (vec![saved(4)], 4),
        (vec![name("LPT2"), saved(4)], 2),
        // Malformed: the next rule decides.
        (vec![name("LPT0"), saved(4)], 4),
        (vec![name("LPT256"), saved(4)], 4),
        (vec![name("LPT"), saved(5)], 5),
        (vec![name("LPT01"), saved(5)], 5),
        (vec![name("LPT1 "), saved(5)], 5),
        (vec![name("LPT-1"), saved(5)], 5),
        (vec![name("COM1"), saved(5)], 5),
        (vec![name("LPT99999999999999999999"), saved(5)], 5),
        // One more than 32 bits hold, after its last digit.
        (vec![name("LPT4294967296"), saved(5)], 5),
        (vec![name(""), saved(5)], 5),
        (vec![name(&"LPT1".repeat(500)), saved(5)], 5),
        (vec![name("ＬＰＴ１"), saved(5)], 5),
        (vec![("PortName".into(), RegValue::Dword(3)), saved(5)], 5),
        (
            vec![("PortName".into(), RegValue::Raw(1, vec![b'L'])), saved(5)],
            5,
        ),
        (vec![saved(0)], 1),
        (vec![saved(256)], 1),
        (vec![saved(u32::MAX)], 1),
        (
            vec![("ParscanPortNumber".into(), RegValue::Sz("3".into()))],
            1,
        ),
        (
            vec![("ParscanPortNumber".into(), RegValue::Raw(4, vec![3]))],
            1,
        ),
    ] {
        let pc = Setup {
            hardware_key: values.clone(),
            ..Setup::default()
        }
        .started();
        let m = number - 1;
        assert_eq!(
            device_names(&pc),
            [
                format!(r"\Device\Parallel{m}"),
                format!(r"\Device\ParallelPort{m}")
            ],
            "{values:?}"
        );
        let lpt = pc.try_open(&format!(r"\\.\LPT{number}")).unwrap();
        check(pc.machine.close(lpt));
        // It has the same number after the next start of Windows.
        let kept = pc
            .machine
            .registry(|registry| registry.get(HARDWARE_KEY, "ParscanPortNumber"));
        assert_eq!(kept, Some(RegValue::Dword(number)), "{values:?}");
        pc.finish();
    }
}

/// Windows' own ports have "(LPTn)" in the name under which Windows lists them, and programs look
/// for it.
#[test]
fn the_friendly_name_tells_the_number() {
    let device = HARDWARE_KEY
        .strip_suffix(r"\Device Parameters")
        .expect("the hardware key is below the device's");
    let named = |value: &str| vec![("PortName".to_owned(), RegValue::Sz(value.into()))];
    for (before, hardware_key, after) in [
        // ntsim calls a device by its ID.
        (None, vec![], "PNP0400 (LPT1)"),
        (None, named("LPT3"), "PNP0400 (LPT3)"),
        // From the class installer, or from who owns the machine.
        (
            Some("ECP Printer Port (LPT1)"),
            vec![],
            "ECP Printer Port (LPT1)",
        ),
        (Some("Mill (LPT1), left"), vec![], "Mill (LPT1), left"),
        // Of another number, or none at all.
        (Some("Printer Port (LPT10)"), vec![], "PNP0400 (LPT1)"),
        (Some("Port (LPT2)"), named("LPT22"), "PNP0400 (LPT22)"),
        (Some("Port (COM1)"), vec![], "PNP0400 (LPT1)"),
    ] {
        let pc = Setup {
            hardware_key,
            ..Setup::default()
        }
        .loaded();
        if let Some(before) = before {
            let value = RegValue::Sz(before.into());
            pc.machine
                .registry(|registry| registry.set(device, "FriendlyName", &value));
        }
        let shown = name_after_start(&pc, device);
        assert_eq!(shown, Some(RegValue::Sz(after.into())), "{before:?}");
        pc.finish();
    }
}

/// Starts the port: the name that Windows shows then, which is below this key.
#[track_caller]
fn name_after_start<C, P>(pc: &Pc<C, P>, device: &str) -> Option<RegValue> {
    let added = check(pc.machine.add_device(pc.node, pc.driver));
    assert_eq!(added, NtStatus::SUCCESS);
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    pc.machine
        .registry(|registry| registry.get(device, "FriendlyName"))
}

#[test]
fn two_ports_get_two_numbers() {
    let pc = Pc::new();
    let mut second = Setup {
        hardware_key: vec![("PortName".into(), RegValue::Sz("LPT1".into()))],
        resources: vec![Resource::Port {
            base: 0x278,
            len: 8,
        }],
        ..Setup::default()
    }
    .device();
    second.instance = "2".into();
    // Nothing is attached to it.
    let chip = Spp::new(Box::new(Unconnected));
    pc.machine
        .map_ports(0x278, 8, 0, Rc::new(RefCell::new(chip)));
    let second = pc.machine.plug(second);
    assert_eq!(
        check(pc.machine.add_device(second, pc.driver)),
        NtStatus::SUCCESS
    );
    assert_eq!(check(pc.machine.start(second)), NtStatus::SUCCESS);
    let (lpt1, lpt2) = (pc.open(), pc.try_open(r"\\.\LPT2").unwrap());
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    assert_eq!(pc.initialize(lpt2).status, NtStatus::DEVICE_NOT_CONNECTED);
    check(pc.machine.close(lpt1));
    check(pc.machine.close(lpt2));
    assert_eq!(check(pc.machine.remove(second)), NtStatus::SUCCESS);
    pc.finish();
}

/// The role is the device's own; the INF's parameter overrides.
#[test]
fn a_device_is_served_as_what_it_is() {
    let other_class = "{6BDD1FC6-810F-11D0-BEC7-08002BE2092F}";
    let (port, scanner) = (Some(r"\Device\ParallelPort0"), Some(r"\Device\Usbscan0"));
    for (enumerator, class_guid, role, name) in [
        ("ACPI", parscan_tests::PORTS_CLASS, None, port),
        ("PCI", parscan_tests::PORTS_CLASS, None, port),
        ("ACPI", other_class, None, None),
        ("USB", other_class, None, scanner),
        ("USB", parscan_tests::PORTS_CLASS, None, scanner),
        ("ACPI", other_class, Some(1), port),
        ("ACPI", parscan_tests::PORTS_CLASS, Some(2), scanner),
        ("ACPI", parscan_tests::PORTS_CLASS, Some(77), port),
    ] {
        let parameters = role
            .map(|role| ("Role", RegValue::Dword(role)))
            .into_iter()
            .collect();
        let pc = Setup {
            enumerator,
            class_guid,
            parameters,
            ..Setup::default()
        }
        .loaded();
        let status = check(pc.machine.add_device(pc.node, pc.driver));
        let what = format!("{enumerator} {class_guid} {role:?}");
        let Some(name) = name else {
            assert_eq!(status, NtStatus::NOT_SUPPORTED, "{what}");
            check(pc.machine.unload(pc.driver));
            continue;
        };
        assert_eq!(status, NtStatus::SUCCESS, "{what}");
        assert_eq!(device_names(&pc), [name], "{what}");
        let started = check(pc.machine.start(pc.node));
        // There is a parallel port, whatever it is taken for: nothing that answers URBs.
        assert_eq!(started.is_success(), Some(name) == port, "{what}");
        pc.finish();
    }
}

#[test]
fn a_stopped_port_is_left_alone_and_its_requests_wait() {
    Pc::new().with_open(|pc, lpt1| {
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
        let accesses = pc.machine.port_accesses();
        let reset = pc.start_initialize(lpt1);
        check(pc.machine.run_for(2000 * MS));
        assert!(!pc.machine.is_done(&reset));
        assert_eq!(pc.machine.port_accesses(), accesses);
        let second = pc.start_initialize(lpt1);
        check(pc.machine.run_for(MS));
        check(pc.machine.cancel(&second));
        assert_eq!(
            check(pc.machine.finish(&second)).status,
            NtStatus::CANCELLED
        );
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.finish(&reset)).status, NtStatus::SUCCESS);
    });
}

#[test]
fn a_cancelled_stop_and_a_cancelled_removal_change_nothing() {
    let pc = Pc::new();
    for _ in 0..2 {
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.cancel_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.query_remove(pc.node)), NtStatus::SUCCESS);
        assert_eq!(
            pc.try_open(r"\\.\LPT1").err(),
            Some(NtStatus::DELETE_PENDING),
            "no new opens"
        );
        assert_eq!(check(pc.machine.cancel_remove(pc.node)), NtStatus::SUCCESS);
        assert_works(&pc);
    }
    // Spurious ones, too.
    assert_eq!(check(pc.machine.cancel_stop(pc.node)), NtStatus::SUCCESS);
    assert_eq!(check(pc.machine.cancel_remove(pc.node)), NtStatus::SUCCESS);
    let lpt1 = pc.open();
    pc.close_and_finish(lpt1);
}

#[test]
fn a_removed_port_comes_back() {
    let pc = Pc::new();
    for _ in 0..3 {
        assert_eq!(check(pc.machine.query_remove(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
        assert_eq!(device_names(&pc), [""; 0]);
        assert_eq!(pc.machine.links(), vec![]);
        assert_eq!(
            check(pc.machine.add_device(pc.node, pc.driver)),
            NtStatus::SUCCESS
        );
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        assert_works(&pc);
    }
    pc.finish();
}

#[test]
fn the_device_can_be_disabled_and_enabled_under_its_port() {
    let pc = Pc::new();
    let child = pc.machine.children(pc.node)[0].0;
    for _ in 0..3 {
        assert_eq!(check(pc.machine.remove(child)), NtStatus::SUCCESS);
        assert!(pc.try_open(r"\\.\LPT1").is_err());
        assert_eq!(pc.machine.threads(), 0);
        assert_eq!(check(pc.machine.start(child)), NtStatus::SUCCESS);
        assert_works(&pc);
    }
    pc.finish();
}

#[test]
fn requests_before_the_start_are_refused() {
    let pc = Setup::default().loaded();
    assert_eq!(
        check(pc.machine.add_device(pc.node, pc.driver)),
        NtStatus::SUCCESS
    );
    let port = check(pc.machine.open(r"\Device\ParallelPort0", Caller::Kernel));
    if let Ok(port) = port {
        let result = check(
            pc.machine
                .internal_device_control(port, 0x0016_0030, &[], 56),
        );
        assert_eq!(result.status, NtStatus::DEVICE_NOT_READY);
        check(pc.machine.close(port));
    }
    assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
    check(pc.machine.unload(pc.driver));
}

/// Major functions of what programs do with an open device: read, write, query, flush, control.
const REQUESTS: [u8; 5] = [0x03, 0x04, 0x05, 0x09, 0x0E];

/// A driver may send what it likes to a device that is not started, without an open of it.
#[test]
fn requests_without_an_open_before_the_start_are_refused() {
    let refused = |machine: &Machine, node: DevNode, what: &str| {
        for major in REQUESTS {
            let (status, information) = check(machine.send_request_irp(node, major, [4, 0, 0, 0]));
            let unready = [NtStatus::DEVICE_NOT_READY, NtStatus::INVALID_DEVICE_REQUEST];
            assert!(unready.contains(&status), "{what}, {major:#x}: {status}");
            assert_eq!(information, 0, "{what}, {major:#x}");
        }
    };
    let pc = Setup::default().loaded();
    let added = check(pc.machine.add_device(pc.node, pc.driver));
    assert_eq!(added, NtStatus::SUCCESS);
    refused(&pc.machine, pc.node, "a port");
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    pc.finish();
    let pc = ScannerSetup::default().loaded();
    let added = check(pc.machine.add_device(pc.node, pc.driver));
    assert_eq!(added, NtStatus::SUCCESS);
    refused(&pc.machine, pc.node, "a scanner");
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    pc.finish();
}

/// The same for the device on the port, which Windows starts after it: at kernel calls of both starts
/// it is opened, and asked for no bytes.
#[test]
fn a_device_on_the_port_serves_from_its_start_on() {
    let (mut unready, mut served) = (0, 0);
    for step in (0..).step_by(3) {
        let pc = Setup::default().loaded();
        let added = check(pc.machine.add_device(pc.node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS);
        let at = pc.machine.kernel_calls() + 1 + step;
        let (port, seen) = (pc.node, Rc::new(RefCell::new(Vec::new())));
        let (note, over) = (Rc::clone(&seen), Rc::new(Cell::new(false)));
        let is_over = Rc::clone(&over);
        pc.machine.at(When::KernelCall(at), move |machine| {
            let device = machine.children(port).first().map(|(device, _)| *device);
            let Some(device) = device.filter(|_| !is_over.get()) else {
                return;
            };
            let (read, _) = check(machine.send_request_irp(device, REQUESTS[0], [0; 4]));
            note.borrow_mut().push(read);
            match check(machine.open(r"\Device\Parallel0", Caller::Kernel)) {
                Ok(open) => {
                    check(machine.close(open));
                }
                Err(status) => note.borrow_mut().push(status),
            }
        });
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        let reached = pc.machine.kernel_calls() >= at;
        over.set(true);
        // What began meanwhile ends.
        check(pc.machine.run_for(MS));
        for status in seen.borrow().iter() {
            match *status {
                NtStatus::DEVICE_NOT_READY => unready += 1,
                NtStatus::SUCCESS => served += 1,
                // The I/O manager does not find it yet.
                NtStatus::NO_SUCH_DEVICE => {}
                other => panic!("{step}: {other}"),
            }
        }
        assert_works(&pc);
        pc.finish();
        if !reached {
            break;
        }
    }
    assert!(unready > 0 && served > 0, "{unready}, {served}");
}

/// PnP, power and WMI requests that no driver knows, as Driver Verifier sends them: the machine
/// fails the test if a status changes on its way.
#[test]
fn unknown_minors_pass_untouched() {
    let pc = Pc::new();
    let child = pc.machine.children(pc.node)[0].0;
    for node in [pc.node, child] {
        for minor in [0x0A, 0x0E, 0x0F, 0x10, 0x12, 0x18, 0x19, 0x1A, 0x42, 0xFF] {
            let (status, information) = check(pc.machine.send_pnp_irp(node, minor, [0; 4]));
            assert_eq!(
                (status, information),
                (NtStatus::NOT_SUPPORTED, 0),
                "PnP {minor:#x}"
            );
        }
        for minor in [0x00, 0x01, 0x04, 0x42, 0xFF] {
            let (status, _) = check(pc.machine.send_power_irp(node, minor, [0; 4]));
            assert_eq!(status, NtStatus::NOT_SUPPORTED, "power {minor:#x}");
        }
        for minor in [0x00, 0x01, 0x08, 0x0B, 0x42, 0xFF] {
            let (status, _) = check(pc.machine.send_wmi_irp(node, minor, [0; 4]));
            assert_eq!(status, NtStatus::NOT_SUPPORTED, "WMI {minor:#x}");
        }
        // QUERY_POWER and SET_POWER: system to S3 and back, device to D3 and back.
        for (kind, state) in [(0, 4), (1, 4), (1, 1), (0, 1)] {
            for minor in [3, 2] {
                let (status, _) =
                    check(pc.machine.send_power_irp(node, minor, [0, kind, state, 0]));
                assert_eq!(status, NtStatus::SUCCESS, "power {minor} {kind} {state}");
            }
        }
        // DEVICE_USAGE_NOTIFICATION: no paging, dump or hibernation file on a printer port.
        let (status, _) = check(pc.machine.send_pnp_irp(node, 0x16, [1, 1, 0, 0]));
        assert_eq!(status, NtStatus::UNSUCCESSFUL);
    }
    let lpt1 = pc.open();
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    pc.close_and_finish(lpt1);
}

/// `AddDevice` and `START_DEVICE`, with requests at a kernel call of `AddDevice`. Whether there was
/// such a call.
fn add_with_requests(machine: &Machine, node: DevNode, driver: DriverId, step: u64) -> bool {
    let at = machine.kernel_calls() + 1 + step;
    machine.at(When::KernelCall(at), move |machine| {
        // QUERY_PNP_DEVICE_STATE; QUERY_POWER for D0; REGINFO.
        check(machine.send_pnp_irp(node, 0x14, [0; 4]));
        check(machine.send_power_irp(node, 3, [0, 1, 1, 0]));
        check(machine.send_wmi_irp(node, 8, [0; 4]));
        let (read, _) = check(machine.send_request_irp(node, REQUESTS[0], [4, 0, 0, 0]));
        let unready = [NtStatus::DEVICE_NOT_READY, NtStatus::INVALID_DEVICE_REQUEST];
        assert!(unready.contains(&read), "{read}");
    });
    assert_eq!(check(machine.add_device(node, driver)), NtStatus::SUCCESS);
    let reached = machine.kernel_calls() >= at;
    assert_eq!(check(machine.start(node)), NtStatus::SUCCESS);
    reached
}

/// Once `AddDevice` has attached the device, a driver that knows its stack can send something.
#[test]
fn requests_may_come_while_the_device_is_made() {
    let port = |step| {
        let pc = Setup::default().loaded();
        let reached = add_with_requests(&pc.machine, pc.node, pc.driver, step);
        pc.finish();
        reached
    };
    let scanner = |step| {
        let pc = ScannerSetup::default().loaded();
        let reached = add_with_requests(&pc.machine, pc.node, pc.driver, step);
        pc.finish();
        reached
    };
    assert!((0..1000).take_while(|step| port(*step)).count() > 10);
    assert!((0..1000).take_while(|step| scanner(*step)).count() > 10);
}

#[test]
fn unload_and_load_again() {
    let pc = Pc::new();
    assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
    check(pc.machine.unload(pc.driver));
    let driver = pc
        .machine
        .load_driver(parscan_tests::driver_image(), "ParscanPort", &[])
        .unwrap();
    assert_eq!(
        check(pc.machine.add_device(pc.node, driver)),
        NtStatus::SUCCESS
    );
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    let lpt1 = pc.open();
    pc.printer.set_condition(Condition::OffLine);
    assert_eq!(pc.initialize(lpt1).status, NtStatus::DEVICE_OFF_LINE);
    check(pc.machine.close(lpt1));
    Pc { driver, ..pc }.finish();
}

const IRQ7: Resource = Resource::Interrupt {
    level: 7,
    vector: 0x37,
    latched: true,
};
const IRQ5: Resource = Resource::Interrupt {
    level: 5,
    vector: 0x35,
    latched: true,
};
const DMA3: Resource = Resource::Dma { channel: 3 };

fn need(resource: &Resource) -> Need {
    Need {
        resource: resource.clone(),
        alternative: false,
    }
}

fn or(resource: &Resource) -> Need {
    Need {
        resource: resource.clone(),
        alternative: true,
    }
}

/// A machine with a port that needs these resources, and others have those.
fn port_that_needs(
    needs: Vec<Vec<Need>>,
    occupied: &[Resource],
    wants: Option<&str>,
) -> (Pc, NtStatus) {
    let value = |name: &&str| {
        (
            (*name).into(),
            RegValue::Dword((wants == Some(*name)).into()),
        )
    };
    let setup = Setup {
        hardware_key: WANTS.iter().map(value).collect(),
        ..Setup::default()
    };
    let mut device = setup.device();
    device.requirements = needs;
    device.instance = "2".into();
    let pc = setup.loaded();
    pc.machine.occupy(occupied);
    let node = pc.machine.plug(device);
    assert_eq!(
        check(pc.machine.add_device(node, pc.driver)),
        NtStatus::SUCCESS
    );
    let status = check(pc.machine.start(node));
    (Pc { node, ..pc }, status)
}

/// Values of the hardware key that have an interrupt assigned.
const WANTS: [&str; 2] = ["EnableConnectInterruptIoctl", "ParscanWaitEdge"];

/// A port uses neither interrupt nor DMA, unless its hardware key says that kernel clients may
/// connect to the interrupt, or programs wait for edges.
#[test]
fn a_port_starts_where_others_have_its_interrupt() {
    let whole = || vec![vec![need(&LPT1_REGISTERS), need(&IRQ7), need(&DMA3)]];
    let either = || {
        vec![vec![
            need(&LPT1_REGISTERS),
            need(&IRQ7),
            or(&IRQ5),
            need(&DMA3),
        ]]
    };
    for (needs, occupied, connects, assigned) in [
        (whole(), vec![IRQ7, DMA3], false, vec![LPT1_REGISTERS]),
        (whole(), vec![], false, vec![LPT1_REGISTERS]),
        (either(), vec![IRQ7, IRQ5], false, vec![LPT1_REGISTERS]),
        // An interrupt is preferred, where it is of use.
        (whole(), vec![DMA3], true, vec![LPT1_REGISTERS, IRQ7]),
        (either(), vec![IRQ7], true, vec![LPT1_REGISTERS, IRQ5]),
        (either(), vec![IRQ7, IRQ5], true, vec![LPT1_REGISTERS]),
    ] {
        let what = format!("{occupied:?}, {connects}");
        for name in WANTS {
            let wants = connects.then_some(name);
            let (pc, status) = port_that_needs(needs.clone(), &occupied, wants);
            assert_eq!(status, NtStatus::SUCCESS, "{what}");
            assert_eq!(pc.machine.assigned(pc.node), assigned, "{what}");
            let lpt1 = pc.open();
            assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS, "{what}");
            pc.close_and_finish(lpt1);
        }
    }
    // It needs its registers.
    let (pc, status) = port_that_needs(whole(), &[LPT1_REGISTERS], None);
    assert_eq!(status, NtStatus::CONFLICTING_ADDRESSES);
    check(pc.machine.unload(pc.driver));
}

/// What is left keeps its order and its bytes; a list that has nothing to leave out, or makes no
/// sense, comes back as it went.
#[test]
fn requirements_are_filtered_as_documented() {
    let pc = Pc::new();
    let filter = |list: &[u8]| check(pc.machine.filter_resource_requirements(pc.node, list));
    let unchanged = |list: &[u8]| {
        assert_eq!(filter(list), (NtStatus::NOT_SUPPORTED, list.to_vec()));
    };
    let ecp = Resource::Port {
        base: 0x778,
        len: 3,
    };
    // Device-private data of the bus, which is no alternative.
    let mut private = [0x5A; 20];
    private[0] = 0x81;
    let private = Resource::Raw(private);
    let before = requirements_list(&[
        vec![
            need(&LPT1_REGISTERS),
            need(&IRQ7),
            or(&IRQ5),
            need(&private),
            need(&ecp),
            or(&LPT1_REGISTERS),
            need(&DMA3),
        ],
        vec![need(&DMA3), need(&ecp)],
    ]);
    let after = requirements_list(&[
        vec![
            need(&LPT1_REGISTERS),
            need(&private),
            need(&ecp),
            or(&LPT1_REGISTERS),
        ],
        vec![need(&ecp)],
    ]);
    assert_eq!(filter(&before), (NtStatus::SUCCESS, after.clone()));
    unchanged(&after);
    unchanged(&[]);
    unchanged(&requirements_list(&[]));
    // Nothing would be left.
    unchanged(&requirements_list(&[vec![need(&IRQ7)]]));
    // More lists, or more descriptors, than there is room for.
    for at in [0x1C, 0x24] {
        let mut damaged = before.clone();
        damaged[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        unchanged(&damaged);
    }
    // An end anywhere.
    for length in 0..u32::try_from(before.len()).expect("short") {
        let mut short = before.clone();
        short[..4].copy_from_slice(&length.to_le_bytes());
        let left = short[..length as usize].to_vec();
        assert_eq!(filter(&short), (NtStatus::NOT_SUPPORTED, left));
    }
    // No memory for another list.
    pc.machine.inject_into(pc.driver);
    let mut kept = 0;
    for k in 1..6 {
        pc.machine.inject_failure(k);
        let answer = filter(&before);
        if answer != (NtStatus::SUCCESS, after.clone()) {
            assert_eq!(answer, (NtStatus::NOT_SUPPORTED, before.clone()), "{k}");
            kept += 1;
        }
    }
    assert!(kept > 0);
    pc.finish();
}

/// A driver above the port may have a device of its own to report: the list keeps it.
#[test]
fn devices_that_a_driver_above_reports_stay_in_the_list() {
    let pc = Pc::new();
    let other = pc.machine.plug(DeviceSpec::default());
    let children = pc.machine.children(pc.node);
    assert!(check(pc.machine.enumerate_beside(pc.node, other)));
    assert_eq!(pc.machine.children(pc.node), children);
    pc.finish();
}

/// A port that may have an interrupt can be left without one, but not without anything.
#[test]
fn a_list_of_an_interrupt_alone_stays() {
    let setup = Setup {
        hardware_key: vec![(WANTS[0].into(), RegValue::Dword(1))],
        ..Setup::default()
    };
    let pc = setup.started();
    for needs in [
        vec![vec![need(&IRQ7)]],
        vec![vec![need(&LPT1_REGISTERS)], vec![need(&IRQ7)]],
    ] {
        let list = requirements_list(&needs);
        let filtered = check(pc.machine.filter_resource_requirements(pc.node, &list));
        assert_eq!(filtered, (NtStatus::NOT_SUPPORTED, list));
    }
    pc.finish();
}

/// Where the bus has the port otherwise than the processor is told to kernel clients; where its list
/// makes no sense the port has the addresses that the processor uses.
#[test]
fn a_raw_list_that_makes_no_sense_is_not_needed() {
    let port = |base, len| Resource::Port { base, len };
    let memory = Resource::Memory {
        base: 0xFED0_0000,
        len: 8,
    };
    for (raw, original) in [
        (vec![port(0x1378, 8)], 0x1378),
        (vec![], 0x378),
        (vec![IRQ7], 0x378),
        (vec![memory], 0x378),
        (vec![port(0x1378, 2)], 0x378),
        (vec![port(0x1_0378, 8)], 0x378),
        (vec![Resource::Dma { channel: 3 }; 100], 0x378),
    ] {
        let pc = Setup::default().loaded();
        pc.machine.set_resources(pc.node, &raw, &[LPT1_REGISTERS]);
        let added = check(pc.machine.add_device(pc.node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS);
        assert_eq!(
            check(pc.machine.start(pc.node)),
            NtStatus::SUCCESS,
            "{raw:?}"
        );
        on_port(pc, |_, _, client| {
            let information = client.port_information();
            assert_eq!(information.original_controller, original, "{raw:?}");
            assert_eq!(information.controller, 0x378, "{raw:?}");
        });
    }
}

/// There are 255 numbers for ports: the next one has none, and works when one is free again.
#[test]
fn the_256th_port_has_no_number() {
    let pc = Setup::default().loaded();
    let plug = |number: u32| {
        let mut device = Setup::default().device();
        device.instance = format!("{number}");
        pc.machine.plug(device)
    };
    let add = |node| check(pc.machine.add_device(node, pc.driver));
    let nodes: Vec<_> = (2..=257).map(plug).collect();
    let (last, others) = nodes.split_last().expect("many");
    for node in others {
        assert_eq!(add(*node), NtStatus::SUCCESS);
    }
    assert_eq!(add(*last), NtStatus::OBJECT_NAME_COLLISION);
    assert_eq!(check(pc.machine.remove(others[6])), NtStatus::SUCCESS);
    assert_eq!(add(*last), NtStatus::SUCCESS);
    assert!(device_names(&pc).contains(&r"\Device\ParallelPort6".to_owned()));
    for node in nodes {
        assert_eq!(check(pc.machine.remove(node)), NtStatus::SUCCESS);
    }
    check(pc.machine.unload(pc.driver));
}

/// What is attached is named by who installs it: a value of the registry may lack its end.
#[test]
fn a_friendly_name_without_its_end_is_read_as_far_as_it_goes() {
    let device = HARDWARE_KEY
        .strip_suffix(r"\Device Parameters")
        .expect("the hardware key is below the device's");
    let text: Vec<u8> = "Mill (LPT1)"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let pc = Setup::default().loaded();
    let value = RegValue::Raw(1, text.clone());
    pc.machine
        .registry(|registry| registry.set(device, "FriendlyName", &value));
    let shown = name_after_start(&pc, device);
    assert_eq!(
        shown.map(|it| it.encode().1[..text.len()].to_vec()),
        Some(text)
    );
    assert_works(&pc);
    pc.finish();
}

/// Who wants to hear of a device's end asks its bus for the device object. A driver may ask for its
/// capabilities, too, and for no place to put them.
#[test]
fn a_device_on_the_port_answers_for_itself() {
    let pc = Pc::new();
    let (device, _) = pc.machine.children(pc.node)[0];
    for _ in 0..3 {
        let target = check(pc.machine.target_relation(device));
        assert_eq!(target, (NtStatus::SUCCESS, true));
    }
    pc.machine.inject_into(pc.driver);
    pc.machine.inject_failure(1);
    let target = check(pc.machine.target_relation(device));
    assert_eq!(target, (NtStatus::INSUFFICIENT_RESOURCES, false));
    pc.machine.inject_no_failure();
    let nowhere = check(pc.machine.send_pnp_irp(device, 0x09, [0; 4]));
    assert_eq!(nowhere, (NtStatus::INVALID_PARAMETER, 0));
    assert_works(&pc);
    pc.finish();
}

//! The computers of the transcripts, by their names there.

use parscan_client::{
    DeviceNode, IeeeModes, Interface, Package, ParStatus, Service, ServiceState, Status,
};

use super::{Model, Printer, ScannerModel, World};

const ID: &[u8] = b"\x00\x38MFG:Acme;MDL:Laser 1\x1b;CMD:PCL,PJL;CLS:PRINTER;SN:0042;";

fn printer() -> Printer {
    Printer {
        location: "LPT1",
        status: ParStatus::SELECTED,
        initialize: 0,
        id: ID,
        modes: IeeeModes::CENTRONICS
            | IeeeModes::IEEE_COMPATIBILITY
            | IeeeModes::NIBBLE
            | IeeeModes::BYTE_BIDIR
            | IeeeModes::ECP_HW_NOIRQ,
        says: b"",
        write_fails: None,
        interrupted: None,
        edges: None,
    }
}

/// Three edges a millisecond apart.
const THREE_EDGES: [u64; 3] = [70_000_000, 70_010_000, 70_020_001];

/// More at once than the driver keeps.
const MANY_EDGES: [u64; 66] = {
    let mut edges = [0; 66];
    let mut number = 0;
    while number < 66 {
        edges[number] = 1000 * (number as u64 + 1);
        number += 1;
    }
    edges
};

fn in_condition(status: ParStatus, initialize: u32) -> Printer {
    Printer {
        status,
        initialize,
        write_fails: Some((100, initialize)),
        ..printer()
    }
}

fn scanner() -> ScannerModel {
    ScannerModel {
        events: &[&[1, 2, 3, 4], &[0xFF]],
        image: 100_000,
        fails: 0,
    }
}

/// LPTn with n = `number`, a child of the port.
fn port_interface(number: u32) -> Interface {
    Interface {
        path: format!(
            r"\\?\lptenum#microsoftrawport#{number}#{{811fc6a5-f728-11d0-a537-0000f8753ed1}}"
        ),
        node: DeviceNode {
            instance_id: format!(r"LPTENUM\MICROSOFTRAWPORT\{number}&LPT{number}"),
            description: Some("Printer Port Logical Interface".to_owned()),
            service: Some("ParscanPort".to_owned()),
            object_name: Some(format!(r"\Device\Parallel{}", number - 1)),
            started: Some(true),
            ..DeviceNode::default()
        },
    }
}

fn scanner_node() -> DeviceNode {
    DeviceNode {
        instance_id: r"USB\VID_04B8&PID_0110\5&1".to_owned(),
        description: Some("Flatbed".to_owned()),
        hardware_ids: vec![r"USB\VID_04B8&PID_0110".to_owned()],
        service: Some("ParscanScan".to_owned()),
        create_file_name: Some(r"\\.\Usbscan0".to_owned()),
        package: package("oem8.inf", "parscan project", "0.1.0.0"),
        started: Some(true),
        ..DeviceNode::default()
    }
}

fn scanner_interface() -> Interface {
    Interface {
        path: r"\\?\usb#vid_04b8&pid_0110#5&1#{6bdd1fc6-810f-11d0-bec7-08002be2092f}".to_owned(),
        node: scanner_node(),
    }
}

fn port_node() -> DeviceNode {
    DeviceNode {
        instance_id: r"ACPI\PNP0401\1".to_owned(),
        description: Some("ECP Printer Port (parscan)".to_owned()),
        hardware_ids: vec![
            r"ACPI\VEN_PNP&DEV_0401".to_owned(),
            r"ACPI\PNP0401".to_owned(),
        ],
        service: Some("ParscanPort".to_owned()),
        package: package("oem7.inf", "parscan project", "0.1.0.0"),
        started: Some(true),
        ..DeviceNode::default()
    }
}

fn package(inf: &str, provider: &str, version: &str) -> Package {
    Package {
        inf: Some(inf.to_owned()),
        provider: Some(provider.to_owned()),
        version: Some(version.to_owned()),
    }
}

fn running(name: &'static str, image: &str) -> (&'static str, Service) {
    (name, Service::enabled(image, ServiceState::Running))
}

const PARSCAN: &str =
    r"\SystemRoot\System32\DriverStore\FileRepository\parscan_lpt.inf_1\parscan.sys";
const PARPORT: &str = r"\SystemRoot\System32\drivers\parport.sys";

fn with_printer(printer: Printer) -> World {
    World {
        ports: vec![(port_interface(1), Model::Printer(printer))],
        ports_class: vec![port_node()],
        services: vec![running("ParscanPort", PARSCAN)],
        ..World::default()
    }
}

fn with_scanner(scanner: ScannerModel) -> World {
    World {
        scanners: vec![(scanner_interface(), Model::Scanner(scanner))],
        image_class: vec![scanner_node()],
        services: vec![running("ParscanScan", PARSCAN)],
        ..World::default()
    }
}

fn closed(status: Status) -> World {
    let mut world = with_printer(printer());
    world.ports[0].1 = Model::Closed(status);
    world
}

/// A computer by its name. `None`: there is none of that name.
pub(crate) fn world(name: &str) -> Option<World> {
    one_printer(name)
        .map(with_printer)
        .or_else(|| several(name))
}

/// The computers that have one printer and nothing else.
fn one_printer(name: &str) -> Option<Printer> {
    Some(match name {
        "printer" => printer(),
        "printer that talks" => Printer {
            says: b"@PJL INFO STATUS\r\nCODE=10001\r\n",
            ..printer()
        },
        "trigger box" => Printer {
            edges: Some(&THREE_EDGES),
            ..printer()
        },
        "fast trigger box" => Printer {
            edges: Some(&MANY_EDGES),
            ..printer()
        },
        "printer without ID" => Printer {
            id: b"",
            modes: IeeeModes::CENTRONICS,
            ..printer()
        },
        "out of paper" => in_condition(ParStatus::PAPER_EMPTY | ParStatus::OFF_LINE, 0x8000_000E),
        "off-line" => in_condition(ParStatus::OFF_LINE, 0x8000_0010),
        "no power" => in_condition(ParStatus::POWER_OFF, 0x8000_000F),
        "no cable" => in_condition(ParStatus::NOT_CONNECTED, 0xC000_009D),
        "busy port" => in_condition(ParStatus::SELECTED, 0x8000_0011),
        "slow printer" => Printer {
            write_fails: Some((20_000, 0x102)),
            ..printer()
        },
        "unplugged" => Printer {
            write_fails: Some((5_000, 0xC000_02B6)),
            ..printer()
        },
        "Ctrl-C" => Printer {
            interrupted: Some(16_484),
            ..printer()
        },
        _ => return None,
    })
}

/// The other ones.
fn several(name: &str) -> Option<World> {
    Some(match name {
        "nothing" => World::default(),
        "in use" => closed(Status::ACCESS_DENIED),
        "stopped" => closed(Status::DEVICE_NOT_READY),
        "two printers" => {
            let mut world = with_printer(printer());
            // LPT10 comes after LPT2 in every list.
            let ten = Printer {
                location: "LPT10",
                ..printer()
            };
            world
                .ports
                .insert(0, (port_interface(10), Model::Printer(ten)));
            let two = Printer {
                location: "LPT2",
                ..printer()
            };
            world.ports.push((port_interface(2), Model::Printer(two)));
            world
        }
        "unnamed printer" => {
            let mut world = with_printer(printer());
            world.ports[0].0.node.object_name = None;
            world
        }
        "scanner" => with_scanner(scanner()),
        "scanner that stalls" => with_scanner(ScannerModel {
            fails: 0xC000_0001,
            ..scanner()
        }),
        "slow scanner" => with_scanner(ScannerModel {
            fails: 0xC000_00B5,
            ..scanner()
        }),
        "everything" => {
            let mut world = with_printer(printer());
            let scanner = with_scanner(scanner());
            world.scanners = scanner.scanners;
            world.image_class = scanner.image_class;
            world.services.extend(scanner.services);
            world
                .services
                .push(running("Spooler", r"C:\Windows\System32\spoolsv.exe"));
            world.elevated = true;
            world
        }
        "in-box driver" => {
            let mut world = with_printer(printer());
            let port = &mut world.ports_class[0];
            port.description = Some("ECP Printer Port (LPT1)".to_owned());
            port.service = Some("Parport".to_owned());
            port.package = package("msports.inf", "Microsoft", "10.0.19041.1");
            world.ports[0].0.node.service = Some("Parport".to_owned());
            world.services = vec![running("Parport", PARPORT)];
            let mut serial = port_node();
            serial.hardware_ids = vec![r"ACPI\PNP0501".to_owned()];
            serial.service = Some("Serial".to_owned());
            world.ports_class.push(serial);
            world
        }
        "quiet port" => {
            let mut world = with_printer(printer());
            world.ports_class[0].parscan_probe = Some(0);
            world
        }
        "unsigned" => {
            let mut world = with_printer(printer());
            world.ports.clear();
            world.ports_class[0].started = Some(false);
            world.ports_class[0].problem = Some(52);
            world.services[0].1.state = ServiceState::Stopped;
            world
        }
        "no driver" => {
            let mut world = with_scanner(scanner());
            world.scanners.clear();
            world.services.clear();
            let scanner = &mut world.image_class[0];
            scanner.service = None;
            scanner.package.inf = None;
            scanner.started = Some(false);
            scanner.problem = Some(28);
            world
        }
        "never had a driver" => never_driven(),
        _ => return None,
    })
}

/// Devices of no class: a port, a listed scanner, one that is not, and a mouse.
fn never_driven() -> World {
    let node = |instance: &str, id: &str, compatible: &str| DeviceNode {
        instance_id: instance.to_owned(),
        hardware_ids: vec![id.to_owned()],
        compatible_ids: vec![compatible.to_owned()],
        problem: Some(28),
        started: Some(false),
        ..DeviceNode::default()
    };
    World {
        without_class: vec![
            node(r"ACPI\PNP0400\1", r"ACPI\PNP0400", "*PNP0400"),
            node(
                r"USB\VID_04A9&PID_1909\6&2",
                r"USB\VID_04A9&PID_1909",
                r"USB\Class_FF",
            ),
            node(
                r"USB\VID_04B8&PID_0110\5&1",
                r"USB\VID_04B8&PID_0110",
                r"USB\Class_06",
            ),
            node(
                r"USB\VID_046D&PID_C077\7&3",
                r"USB\VID_046D&PID_C077",
                r"USB\Class_03",
            ),
        ],
        ..World::default()
    }
}

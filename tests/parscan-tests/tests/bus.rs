//! The bus: what Windows finds on a port, and what becomes of it.

use std::{cell::RefCell, rc::Rc};

use ntsim::{DevNode, NodeState, NtStatus};
use parscan_models::{
    DaisyChain, DaisyMisbehaviour, HostLines, Nanos, Peripheral, Peripheral1284, PeripheralLines,
    Spp, Unconnected,
};
use parscan_tests::{
    Pc, SECOND, Setup, check,
    client::{Callback, Client, DEVICE, END_OF_CHAIN, PASSIVE, PORT, Request},
    ntddpar::{GUID_DEVINTERFACE_PARCLASS, IOCTL_PAR_QUERY_LOCATION},
    observed::Observed,
    parallel_h::{IOCTL_INTERNAL_INIT_1284_3_BUS, IOCTL_INTERNAL_SELECT_DEVICE, command},
};

const SUCCESS: NtStatus = NtStatus::SUCCESS;
const RAW: &str = r"LPTENUM\MicrosoftRawPort";

/// A device ID with its length before it.
fn id(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len() + 2).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A printer as of 1995, whose hardware ID Microsoft's documentation shows.
fn laserjet() -> Peripheral1284 {
    Peripheral1284::new().with_device_id(&id(
        "MFG:Hewlett-Packard;MDL:HP LaserJet 4P;CLS:PRINTER;DES:Hewlett-Packard LaserJet 4P;",
    ))
}

/// The same manufacturer, another printer.
fn deskjet() -> Peripheral1284 {
    Peripheral1284::new().with_device_id(&id("MFG:HEWLETT-PACKARD;MDL:DESKJET 1120C;CLS:PRINTER;"))
}

/// A connector that devices are plugged into and pulled out of.
#[derive(Clone)]
struct Connector(Rc<RefCell<Wire>>);

struct Wire {
    device: Box<dyn Peripheral>,
    host: Option<HostLines>,
    now: Nanos,
}

impl Connector {
    fn new(device: impl Peripheral + 'static) -> Self {
        Self(Rc::new(RefCell::new(Wire {
            device: Box::new(device),
            host: None,
            now: 0,
        })))
    }

    fn plug(&self, device: impl Peripheral + 'static) {
        let mut wire = self.0.borrow_mut();
        wire.device = Box::new(device);
        if let Some(host) = wire.host {
            let now = wire.now;
            wire.device.host_changed(now, host);
        }
    }

    fn pull(&self) {
        self.plug(Unconnected);
    }
}

impl Peripheral for Connector {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        let mut wire = self.0.borrow_mut();
        (wire.now, wire.host) = (now, Some(host));
        wire.device.host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        let mut wire = self.0.borrow_mut();
        wire.now = now;
        wire.device.lines(now)
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        self.0.borrow_mut().device.data(now)
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.0.borrow().device.next_change(now)
    }
}

impl Observed for Connector {
    fn observed(&self, _machine: &ntsim::Machine) -> Vec<String> {
        Vec::new()
    }
}

type BusPc<P> = Pc<Spp, P>;

fn started<P: Peripheral + Clone + 'static>(device: &P) -> BusPc<P> {
    let chip = Spp::new(Box::new(device.clone()));
    Setup::default().started_with(chip, device.clone())
}

/// The children, their device instance IDs.
fn children<P>(pc: &BusPc<P>) -> Vec<String> {
    let children = pc.machine.children(pc.node);
    let mut ids: Vec<_> = children.into_iter().map(|(_, id)| id).collect();
    ids.sort();
    ids
}

/// A port whose device can be exchanged, and a device on it.
fn with(device: impl Peripheral + 'static) -> (Connector, BusPc<Connector>) {
    let connector = Connector::new(device);
    let pc = started(&connector);
    (connector, pc)
}

/// The child whose device ID begins so.
fn child<P>(pc: &BusPc<P>, device_id: &str) -> DevNode {
    let children = pc.machine.children(pc.node);
    let found = children.iter().find(|(_, id)| id.starts_with(device_id));
    found
        .unwrap_or_else(|| panic!("{device_id}: {children:?}"))
        .0
}

fn look_again<P>(pc: &BusPc<P>) {
    check(pc.machine.enumerate(pc.node));
    check(pc.machine.run_until_idle());
}

/// What the links `LPTn` and `LPTn.x` lead to.
fn links<P>(pc: &BusPc<P>) -> Vec<String> {
    let links = pc.machine.links().into_iter();
    let mut links: Vec<_> = links
        .filter(|(name, _)| name.contains(r"\LPT") && !name.contains('#'))
        .map(|(_, target)| target)
        .collect();
    links.sort();
    links
}

#[test]
fn a_printer_is_known_by_its_device_id() {
    let printer = laserjet();
    let pc = started(&printer);
    let node = child(&pc, r"LPTENUM\Hewlett-PackardHP_LaserJet_4P");
    let ids = pc.machine.device_ids(node);
    assert_eq!(ids.device_id, r"LPTENUM\Hewlett-PackardHP_LaserJet_4P");
    assert_eq!(
        ids.hardware_ids,
        [
            r"LPTENUM\Hewlett-PackardHP_La7EE2",
            "Hewlett-PackardHP_La7EE2"
        ]
    );
    assert_eq!(ids.compatible_ids, ["HP_LaserJet_4P"]);
    assert_eq!(ids.description, "Hewlett-Packard LaserJet 4P");
    assert_eq!(ids.location, "LPT1.4");
    assert_eq!(ids.instance, "LPT1.4");
    // RawDeviceOK: it works without a function driver.
    assert_eq!(pc.machine.node_state(node), NodeState::Started);
    let raw = pc.machine.device_ids(child(&pc, RAW));
    assert_eq!(
        raw.hardware_ids,
        [r"LPTENUM\MicrosoftRawPort958A", "MicrosoftRawPort958A"]
    );
    // Clients find it by its driver, not by the interface; it has its link.
    let interfaces = pc.machine.interfaces();
    let parclass = interfaces
        .iter()
        .filter(|(class, _, enabled)| {
            class.eq_ignore_ascii_case(GUID_DEVINTERFACE_PARCLASS) && *enabled
        })
        .count();
    assert_eq!(parclass, 1, "{interfaces:?}");
    assert_eq!(links(&pc), [r"\Device\Parallel0", END_OF_CHAIN]);

    // It is a parallel device like the raw one.
    let lpt = pc.try_open(r"\\.\LPT1.4").expect("opened");
    assert_eq!(pc.try_open(END_OF_CHAIN), Err(NtStatus::ACCESS_DENIED));
    let place = pc.control(lpt, IOCTL_PAR_QUERY_LOCATION, &[], 16);
    assert_eq!(place.output[..place.information], *b"LPT1.4\0");
    let written = check(pc.machine.write(lpt, b"hello"));
    assert_eq!(written.outcome(), (SUCCESS, 5));
    assert_eq!(printer.received(), b"hello");
    pc.close_and_finish(lpt);
}

#[test]
fn a_printer_comes_and_goes() {
    let (connector, pc) = with(Unconnected);
    assert_eq!(children(&pc).len(), 1);
    for _ in 0..3 {
        connector.plug(laserjet());
        look_again(&pc);
        assert_eq!(children(&pc).len(), 2, "{:?}", children(&pc));
        // Another look finds the same one.
        let node = child(&pc, r"LPTENUM\Hewlett-Packard");
        look_again(&pc);
        assert_eq!(child(&pc, r"LPTENUM\Hewlett-Packard"), node);

        connector.pull();
        // One look that finds no device may be wrong.
        look_again(&pc);
        assert_eq!(child(&pc, r"LPTENUM\Hewlett-Packard"), node);
        look_again(&pc);
        assert_eq!(children(&pc), [format!(r"{RAW}\LPT1")]);
        assert_eq!(links(&pc), [r"\Device\Parallel0"]);
        assert_eq!(
            pc.try_open(END_OF_CHAIN),
            Err(NtStatus::OBJECT_NAME_NOT_FOUND)
        );
    }
    pc.finish();
}

/// The names are the same, and the old one has them until Windows has removed it.
#[test]
fn one_printer_takes_the_place_of_another() {
    let (connector, pc) = with(laserjet());
    child(&pc, r"LPTENUM\Hewlett-PackardHP_LaserJet_4P");
    connector.plug(deskjet());
    look_again(&pc);
    look_again(&pc);
    child(&pc, r"LPTENUM\HEWLETT-PACKARDDESKJET_1120C");
    assert_eq!(children(&pc).len(), 2);
    // One letter is another.
    let sister = id("MFG:HEWLETT-PACKARD;MDL:DESKJET 1120D;CLS:PRINTER;");
    connector.plug(Peripheral1284::new().with_device_id(&sister));
    look_again(&pc);
    look_again(&pc);
    child(&pc, r"LPTENUM\HEWLETT-PACKARDDESKJET_1120D");
    assert_eq!(children(&pc).len(), 2);
    pc.finish();
}

/// A program has it open: it stays until the program closes it, and what it asks for fails.
#[test]
fn a_printer_is_pulled_out_while_it_is_open() {
    let (connector, pc) = with(laserjet());
    let lpt = pc.try_open(END_OF_CHAIN).expect("opened");
    connector.pull();
    look_again(&pc);
    look_again(&pc);
    let written = check(pc.machine.write(lpt, b"hello"));
    assert_eq!(written.outcome(), (NtStatus::DELETE_PENDING, 0));
    check(pc.machine.close(lpt));
    check(pc.machine.run_until_idle());
    assert_eq!(children(&pc).len(), 1);
    connector.plug(deskjet());
    look_again(&pc);
    assert_eq!(children(&pc).len(), 2);
    pc.finish();
}

/// The look at the bus does not wait for a client that has the port, and disturbs none.
#[test]
fn a_port_in_use_keeps_its_children() {
    let (connector, pc) = with(laserjet());
    let client = Client::load(&pc);
    let device = client.open_locked();
    let before = pc.machine.port_accesses();
    connector.pull();
    look_again(&pc);
    assert_eq!(pc.machine.port_accesses(), before);
    assert_eq!(children(&pc).len(), 2);
    device.unlock();
    device.close();
    look_again(&pc);
    look_again(&pc);
    assert_eq!(children(&pc).len(), 1);
    client.unload();
    pc.finish();
}

/// An ID that a device lists is the hardware ID of another one, with its enumerator or without.
#[test]
fn the_compatible_ids_are_those_that_the_device_lists() {
    let printer = Peripheral1284::new().with_device_id(&id(
        r"MFG:Acme;MDL:One;CID:lptenum\Acme Two, ,PCL;CLS:PRINTER;",
    ));
    let pc = started(&printer);
    let ids = pc.machine.device_ids(child(&pc, r"LPTENUM\AcmeOne"));
    assert_eq!(
        ids.compatible_ids,
        [r"LPTENUM\Acme_Two", "PCL", "1284_CID_PCL", "One"]
    );
    pc.finish();
}

/// What no ID may contain would stop Windows with a bug check.
#[test]
fn hostile_device_ids_make_harmless_names() {
    for text in [
        "MFG:,,,;MDL:\u{1}\u{2}\u{7F}\\\\;",
        "MFG:A;MDL:B;CID:x,,y\u{3},\\z;",
        "MFG:;MDL:;",
        "MDL:no manufacturer;",
        "no keys at all",
        "MFG:  ;MDL: \t ;CLS:PRINTER;",
        "   :x; MFG :A; MDL :   ;",
        ";;;;",
    ] {
        let printer = Peripheral1284::new().with_device_id(&id(text));
        let pc = started(&printer);
        for (node, name) in pc.machine.children(pc.node) {
            let ids = pc.machine.device_ids(node);
            let all = [ids.device_id, ids.instance]
                .into_iter()
                .chain(ids.hardware_ids)
                .chain(ids.compatible_ids);
            for it in all {
                assert!(
                    it.chars().all(|c| c > ' ' && c <= '\u{7F}' && c != ','),
                    "{text:?}, {name}: {it:?}"
                );
                assert!(it.matches('\\').count() <= 1, "{text:?}: {it:?}");
            }
        }
        pc.finish();
    }
    let long = format!(
        "MFG:{};MDL:{};CID:{};",
        "M".repeat(500),
        "D".repeat(9000),
        "C,".repeat(900)
    );
    let printer = Peripheral1284::new().with_device_id(&id(&long));
    let pc = started(&printer);
    let node = child(&pc, r"LPTENUM\MMMM");
    let ids = pc.machine.device_ids(node);
    assert!(ids.device_id.len() + ids.instance.len() < 172, "{ids:?}");
    pc.finish();
}

#[test]
fn the_devices_of_a_daisy_chain_are_children_of_their_own() {
    let devices = [deskjet(), laserjet()];
    let end = Peripheral1284::new().with_device_id(&id("MFG:Acme;MDL:End;CLS:PRINTER;"));
    let chain = DaisyChain::new(end.clone())
        .with_device(devices[0].clone())
        .with_device(devices[1].clone());
    let pc = started(&chain);
    assert_eq!(children(&pc).len(), 4, "{:?}", children(&pc));
    assert_eq!(
        links(&pc),
        [
            r"\Device\Parallel0",
            r"\Device\Parallel0.0",
            r"\Device\Parallel0.1",
            END_OF_CHAIN
        ]
    );
    let named = [
        (r"\Device\Parallel0.0", b"first", &devices[0]),
        (r"\Device\Parallel0.1", b"other", &devices[1]),
        (END_OF_CHAIN, b"third", &end),
        (DEVICE, b"again", &end),
    ];
    // Nothing is selected between two requests, so they may come in any order.
    for _ in 0..2 {
        for (name, text, device) in named {
            device.clear_received();
            let handle = pc.try_open(name).expect(name);
            let written = check(pc.machine.write(handle, text));
            assert_eq!(written.outcome(), (SUCCESS, 5), "{name}");
            assert_eq!(device.received(), text, "{name}");
            check(pc.machine.close(handle));
            assert_eq!(chain.selected(), None);
        }
    }
    for (_, _, device) in named {
        assert!(
            device.received().len() <= 5,
            "no device got another's bytes"
        );
    }

    // A kernel client selects them by number.
    let client = Client::load(&pc);
    let port = client.open(PORT);
    assert_eq!(port.pnp_information().device_count, 2);
    for device in 0..2u8 {
        let select = port.internal(IOCTL_INTERNAL_SELECT_DEVICE, &command(device, 0), 0);
        assert_eq!(select.status, SUCCESS);
        assert_eq!(chain.selected(), Some(usize::from(device)));
        // Freed without being deselected: the driver does it.
        port.free();
        assert_eq!(chain.selected(), None);
    }
    let beyond = port.internal(IOCTL_INTERNAL_SELECT_DEVICE, &command(2, 0), 0);
    assert_eq!(beyond.status, NtStatus::INVALID_PARAMETER);
    port.close();

    // So does a class driver, by locking the device.
    let device = client.open(r"\Device\Parallel0.1");
    device.connect();
    device.lock();
    assert_eq!(chain.selected(), Some(1));
    devices[1].clear_received();
    let written = device.call(Callback::ParallelWrite(b"class"), PASSIVE);
    assert_eq!((written.status(), written.count), (SUCCESS, 5));
    assert_eq!(devices[1].received(), b"class");
    device.unlock();
    assert_eq!(chain.selected(), None);
    device.close();
    client.unload();
    assert_eq!(chain.violations(), []);
    pc.finish();
}

/// A device whose list of relations found no memory is no device to Windows: nothing removes it but
/// its port.
#[test]
fn a_device_that_windows_never_heard_of_is_deleted() {
    let names = |pc: &BusPc<Connector>| {
        let devices = pc.machine.devices().into_iter();
        let mut names: Vec<_> = devices
            .filter(|device| device.driver == "ParscanPort")
            .filter_map(|device| device.name)
            .collect();
        names.sort();
        names
    };
    let port_alone = [r"\Device\Parallel0", r"\Device\ParallelPort0"];
    let mut unheard = 0;
    for k in 1.. {
        let (connector, pc) = with(Unconnected);
        connector.plug(laserjet());
        pc.machine.inject_into(pc.driver);
        pc.machine.inject_failure(k);
        look_again(&pc);
        let failed = !pc.machine.failed_calls().is_empty();
        let made = names(&pc).len() > 2;
        unheard += u32::from(made && children(&pc).len() == 1);
        // It goes before Windows asks again, and there is memory. Two looks miss it.
        pc.machine.inject_no_failure();
        connector.pull();
        look_again(&pc);
        look_again(&pc);
        assert_eq!(names(&pc), port_alone, "{k}");
        // Or another one is there.
        pc.machine.inject_failure(k);
        connector.plug(laserjet());
        look_again(&pc);
        pc.machine.inject_no_failure();
        connector.plug(deskjet());
        look_again(&pc);
        look_again(&pc);
        child(&pc, r"LPTENUM\HEWLETT-PACKARDDESKJET_1120C");
        connector.pull();
        look_again(&pc);
        look_again(&pc);
        assert_eq!(names(&pc), port_alone, "{k}");
        pc.finish();
        if !failed {
            break;
        }
    }
    assert!(unheard > 0);
}

/// A device is gone, and the list that says so finds no memory: Windows has it still, and may remove
/// it and start it again.
#[test]
fn a_device_whose_end_windows_was_not_told_of_stays() {
    let mut stayed = 0;
    for k in 1.. {
        let (connector, pc) = with(laserjet());
        let node = child(&pc, r"LPTENUM\Hewlett-Packard");
        connector.pull();
        pc.machine.inject_into(pc.driver);
        pc.machine.inject_failure(k);
        look_again(&pc);
        let failed = !pc.machine.failed_calls().is_empty();
        pc.machine.inject_no_failure();
        if children(&pc).len() == 2 {
            stayed += 1;
            check(pc.machine.remove(node));
            assert_eq!(check(pc.machine.start(node)), SUCCESS, "{k}");
        }
        look_again(&pc);
        look_again(&pc);
        assert_eq!(children(&pc), [format!(r"{RAW}\LPT1")], "{k}");
        pc.finish();
        if !failed {
            break;
        }
    }
    assert!(stayed > 0);
}

/// A selection waits for the port, and the device goes meanwhile: it is told that there is none, and
/// the port is the next one's.
#[test]
fn a_selection_that_waits_may_find_its_device_gone() {
    let end = laserjet();
    let chain = DaisyChain::new(end.clone()).with_device(deskjet());
    let (connector, pc) = with(chain);
    assert_eq!(children(&pc).len(), 3, "{:?}", children(&pc));
    let client = Client::load(&pc);
    let (owner, waiter) = (client.open(PORT), client.open(PORT));
    owner.allocate();
    let select = command(0, 0);
    let waiting = waiter.start(&Request::internal(IOCTL_INTERNAL_SELECT_DEVICE, &select, 0));
    assert_eq!(waiting.dispatched, NtStatus::PENDING);
    connector.plug(end);
    assert_eq!(owner.order(IOCTL_INTERNAL_INIT_1284_3_BUS), SUCCESS);
    assert_eq!(owner.pnp_information().device_count, 0);
    owner.free();
    assert_eq!(waiting.finish().outcome(), (NtStatus::INVALID_PARAMETER, 0));
    owner.allocate();
    owner.free();
    // Windows hears of it without a look of its own.
    check(pc.machine.run_for(60 * SECOND));
    check(pc.machine.run_until_idle());
    look_again(&pc);
    assert_eq!(children(&pc).len(), 2, "{:?}", children(&pc));
    owner.close();
    waiter.close();
    client.unload();
    pc.finish();
}

/// The look for devices meets one of the chain that does not let itself be selected, or a port that is
/// stopped: what is known stays.
#[test]
fn a_device_of_the_chain_that_is_silent_stays() {
    let chain = DaisyChain::new(laserjet()).with_device(deskjet());
    let pc = started(&chain);
    let before = children(&pc);
    assert_eq!(before.len(), 3);
    chain.misbehave(0, DaisyMisbehaviour::NeverSelected);
    look_again(&pc);
    assert_eq!(children(&pc), before);
    assert_eq!(chain.selected(), None);
    assert_eq!(check(pc.machine.query_stop(pc.node)), SUCCESS);
    assert_eq!(check(pc.machine.stop(pc.node)), SUCCESS);
    let accesses = pc.machine.port_accesses();
    check(pc.machine.enumerate(pc.node));
    assert_eq!(pc.machine.port_accesses(), accesses);
    assert_eq!(check(pc.machine.start(pc.node)), SUCCESS);
    check(pc.machine.run_until_idle());
    assert_eq!(children(&pc), before);
    pc.finish();
}

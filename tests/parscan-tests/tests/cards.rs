//! PCI cards: which of their ranges is what, and a port behind which nothing answers.

use ntsim::{NodeState, NtStatus, Resource};
use parscan_models::{Ecp, Peripheral1284, PortDevice, Spp, Unconnected};
use parscan_tests::{
    LPT1_REGISTERS, Pc, Setup, check,
    client::{Client, DEVICE, PORT},
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, modes},
    observed::Observed,
    parallel_h::IOCTL_INTERNAL_INIT_1284_3_BUS,
};

const fn block(base: u64) -> Resource {
    Resource::Port { base, len: 8 }
}

const SPP_BLOCK: Resource = block(0xDC00);
const ECP_BLOCK: Resource = block(0xD880);
const MEMORY: Resource = Resource::Memory {
    base: 0xFEBF_F000,
    len: 0x1000,
};
const INTERRUPT: Resource = Resource::Interrupt {
    level: 9,
    vector: 0x91,
    latched: false,
};

fn started<C: PortDevice + 'static>(
    chip: C,
    device: &Peripheral1284,
    resources: &[Resource],
    hardware_id: &str,
) -> Pc<C, Peripheral1284> {
    let pci = hardware_id.starts_with("PCI");
    let setup = Setup {
        resources: vec![],
        enumerator: if pci { "PCI" } else { "ACPI" },
        ..Setup::default()
    };
    let mut spec = setup.device().with_resources(resources);
    if pci {
        spec.hardware_ids = vec![hardware_id.into()];
    }
    let mut pc = setup.loaded_with(chip, device.clone());
    pc.machine.unmap_ports(0x378);
    pc.machine.map_ports(0xDC00, 8, 0, pc.chip.clone());
    pc.machine.map_ports(0xD880, 3, 1, pc.chip.clone());
    pc.node = pc.machine.plug(spec);
    assert_eq!(
        check(pc.machine.add_device(pc.node, pc.driver)),
        NtStatus::SUCCESS
    );
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    pc
}

/// Prints, in Centronics and in ECP by the FIFO: the ECP block was found.
fn prints<C: PortDevice + Observed>(
    pc: &Pc<C, Peripheral1284>,
    device: &Peripheral1284,
    what: &str,
) {
    let lpt1 = pc.open();
    let written = check(pc.machine.write(lpt1, b"plain"));
    assert_eq!(written.outcome(), (NtStatus::SUCCESS, 5), "{what}");
    let ecp = modes::mask(0, modes::ECP_HW_NOIRQ);
    let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &ecp, 4);
    assert_eq!(chosen.status, NtStatus::SUCCESS, "{what}");
    let written = check(pc.machine.write(lpt1, b"and fast"));
    assert_eq!(written.outcome(), (NtStatus::SUCCESS, 8), "{what}");
    assert_eq!(device.received(), b"plainand fast", "{what}");
    assert_eq!(device.violations(), [], "{what}");
    assert_eq!(pc.chip.borrow().observed(&pc.machine), [""; 0], "{what}");
    check(pc.machine.close(lpt1));
}

#[test]
fn a_card_starts_and_prints_whatever_else_it_has() {
    // MosChip's 9805 and ASIX' AX99100 are known, the third is not, and the last one is no card.
    for id in [
        r"PCI\VEN_9710&DEV_9805&SUBSYS_00101000&REV_01",
        r"PCI\VEN_125B&DEV_9100&SUBSYS_2000A000&REV_00",
        r"PCI\VEN_FFFE&DEV_0001&SUBSYS_00000000&REV_00",
        r"ACPI\PNP0401",
    ] {
        let orders = [
            vec![SPP_BLOCK, ECP_BLOCK, MEMORY, MEMORY, INTERRUPT],
            vec![SPP_BLOCK, ECP_BLOCK, INTERRUPT],
            // The table is wrong, or there is none: what answers counts.
            vec![MEMORY, ECP_BLOCK, SPP_BLOCK, INTERRUPT],
            vec![LPT1_REGISTERS, MEMORY, SPP_BLOCK, ECP_BLOCK],
        ];
        for resources in orders {
            let device = Peripheral1284::new();
            let chip = Ecp::new(Box::new(device.clone()));
            let pc = started(chip, &device, &resources, id);
            prints(&pc, &device, &format!("{id} {resources:?}"));
            pc.remove();
        }
    }
}

/// Oxford's chips lock up when more than the mode of the ECR is written.
#[test]
fn nothing_but_the_mode_is_written_to_an_ecr_that_has_nothing_else() {
    let device = Peripheral1284::new();
    let chip = Ecp::new(Box::new(device.clone())).with_fixed_ecr();
    let id = r"PCI\VEN_1415&DEV_C000&SUBSYS_C0001415&REV_00";
    let pc = started(chip, &device, &[SPP_BLOCK, ECP_BLOCK, INTERRUPT], id);
    let lpt1 = pc.open();
    let written = check(pc.machine.write(lpt1, b"plain"));
    assert_eq!(written.status, NtStatus::SUCCESS);
    let byte = modes::mask(modes::BYTE_BIDIR, 0);
    let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &byte, 4);
    assert_eq!(chosen.status, NtStatus::SUCCESS);
    device.give(b"back");
    assert_eq!(check(pc.machine.read(lpt1, 4)).output, b"back");
    assert_eq!(device.received(), b"plain");
    assert_eq!(pc.chip.borrow().observed(&pc.machine), [""; 0]);
    check(pc.machine.close(lpt1));
    pc.remove();
}

/// Windows may start a port whose hardware is not there; the open tells.
#[test]
fn an_open_fails_where_nothing_answers() {
    for resources in [
        vec![LPT1_REGISTERS],
        vec![LPT1_REGISTERS, MEMORY, INTERRUPT],
    ] {
        let setup = Setup {
            resources,
            ..Setup::default()
        };
        let pc = setup.loaded_with(Spp::new(Box::new(Unconnected)), Peripheral1284::new());
        pc.machine.unmap_ports(0x378);
        assert_eq!(
            check(pc.machine.add_device(pc.node, pc.driver)),
            NtStatus::SUCCESS
        );
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        assert_eq!(pc.machine.node_state(pc.node), NodeState::Started);
        for name in [r"\\.\LPT1", DEVICE] {
            assert_eq!(
                pc.try_open(name),
                Err(NtStatus::INVALID_DEVICE_REQUEST),
                "{name}"
            );
        }
        pc.remove();
    }
}

/// A card's interrupt line is shared, and level-triggered: who asks for one that no driver serves stops
/// the machine. So the chip does not, whatever firmware has left.
#[test]
fn nothing_asks_for_an_interrupt_that_nobody_serves() {
    let device = Peripheral1284::new();
    let mut chip = Ecp::new(Box::new(device.clone()));
    chip.write(1, 0, 2, parscan_models::Width::Byte, 0x1C);
    let pc = started(
        chip,
        &device,
        &[SPP_BLOCK, ECP_BLOCK, INTERRUPT],
        r"PCI\VEN_9710&DEV_9805&SUBSYS_00101000&REV_01",
    );
    prints(&pc, &device, "interrupts");
    let now = pc.machine.now();
    let dcr = pc
        .chip
        .borrow_mut()
        .read(now, 0, 2, parscan_models::Width::Byte);
    assert_eq!(dcr & 0x10, 0, "{dcr:#04x}");
    let ecr = pc.chip.borrow().ecr();
    assert_eq!(ecr & 0x14, 0x14, "{ecr:#04x}");
    pc.remove();
}

/// IDs that end early, and cards whose table is for others, start as ports that are not known.
#[test]
fn a_card_with_an_odd_id_starts_by_what_answers() {
    for id in [
        r"PCI\VEN_97",
        r"PCI\VEN_9710&DEV_98",
        r"PCI\VEN_9710&DEV_9805&SUBSYS_0010",
        r"PCI\VEN_XYZW&DEV_9805&SUBSYS_00101000",
        r"PCI\",
        r"PCI",
        // The registers are in the third window, and there is no ECP block.
        r"PCI\VEN_9710&DEV_9835&SUBSYS_00121000&REV_01",
    ] {
        let device = Peripheral1284::new();
        let chip = Ecp::new(Box::new(device.clone()));
        let resources = [LPT1_REGISTERS, MEMORY, SPP_BLOCK, ECP_BLOCK, INTERRUPT];
        let pc = started(chip, &device, &resources, id);
        let lpt1 = pc.open();
        let written = check(pc.machine.write(lpt1, b"plain"));
        assert_eq!(written.outcome(), (NtStatus::SUCCESS, 5), "{id}");
        assert_eq!(device.received(), b"plain", "{id}");
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

/// A class driver looks for a chain on a port behind which nothing answers: there is none.
#[test]
fn no_chain_is_found_where_nothing_answers() {
    let pc = Setup::default().loaded_with(Spp::new(Box::new(Unconnected)), Peripheral1284::new());
    pc.machine.unmap_ports(0x378);
    let added = check(pc.machine.add_device(pc.node, pc.driver));
    assert_eq!(added, NtStatus::SUCCESS);
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
    let client = Client::load(&pc);
    let opened = client.try_open(PORT);
    if let Ok(port) = opened {
        let found = port.order(IOCTL_INTERNAL_INIT_1284_3_BUS);
        assert_eq!(found, NtStatus::SUCCESS);
        assert_eq!(port.pnp_information().device_count, 0);
        port.close();
    }
    client.unload();
    pc.remove();
}

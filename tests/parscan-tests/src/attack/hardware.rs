//! What is on a machine under attack: chips of every kind, cards, chains, device IDs, values in the
//! registry.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ntsim::{DeviceSpec, Machine, Nanos, Need, PortDevice, RegValue, Resource, SharedPort, Width};
use parscan_models::{
    DaisyChain, DaisyMisbehaviour, DescriptorSet, Ecp, Epp, EppVersion, Loopback, Peripheral,
    Peripheral1284, PeripheralLines, Printer, Ps2, Scanner, Spp, TimeoutClear, Unconnected,
};
use parscan_tests::{LPT1_REGISTERS, MS, PORTS_CLASS, Setup, scanner::ScannerSetup};

use crate::dice::Dice;

/// The interrupt of LPT1, as Windows translates it on this machine.
pub(crate) const VECTOR: u32 = 0x37;
/// Where a card's blocks are.
const CARD: (u16, u16) = (0xDC00, 0xD880);
const MEMORY: Resource = Resource::Memory {
    base: 0xFEBF_F000,
    len: 0x1000,
};

/// A chip whose registers read as they want.
struct Noise(Dice);

impl PortDevice for Noise {
    fn read(&mut self, _: Nanos, _: usize, _: u16, width: Width) -> u32 {
        self.0.word() & width.floating()
    }

    fn write(&mut self, _: Nanos, _: usize, _: u16, _: Width, _: u32) {}
}

/// The hardware of a port.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Hardware {
    chip: SharedPort,
    has_ecp: bool,
    /// What is written to it can be read back.
    pub(crate) is_chip: Cell<bool>,
    pub(crate) peripheral: Peripheral1284,
    /// Windows assigns an interrupt to it.
    pub(crate) has_interrupt: bool,
    is_card: bool,
    values: Vec<(String, RegValue)>,
    requirements: bool,
}

fn shared(chip: impl PortDevice + 'static) -> SharedPort {
    Rc::new(RefCell::new(chip))
}

impl Hardware {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let peripheral = Peripheral1284::new()
            .with_response(dice.of(&[0, 0, 0, 1000, 20_000]))
            .with_byte_time(dice.of(&[0, 0, 0, 20_000]));
        let peripheral = if dice.one_in(3) {
            peripheral.with_device_id(&device_id(dice))
        } else {
            peripheral
        };
        let (chip, has_ecp, is_chip) = chip(dice, &peripheral);
        Self {
            chip,
            has_ecp,
            is_chip: Cell::new(is_chip),
            peripheral,
            has_interrupt: dice.one_in(2),
            is_card: dice.one_in(6),
            values: port_values(dice),
            requirements: dice.one_in(6),
        }
    }

    /// Its registers answer.
    pub(crate) fn install(&self, machine: &Machine) {
        let (registers, ecr) = if self.is_card { CARD } else { (0x378, 0x778) };
        machine.map_ports(registers, 8, 0, Rc::clone(&self.chip));
        if self.has_ecp {
            machine.map_ports(ecr, 3, 1, Rc::clone(&self.chip));
        }
    }

    /// The devnode that Windows finds it by.
    pub(crate) fn device(&self, dice: &mut Dice, instance: usize) -> DeviceSpec {
        let mut resources = if self.is_card {
            // Which ranges are whose may be impossible to know.
            self.is_chip.set(false);
            card(dice)
        } else {
            vec![LPT1_REGISTERS]
        };
        if self.has_ecp && !self.is_card {
            resources.push(Resource::Port {
                base: 0x778,
                len: 3,
            });
        }
        if self.has_interrupt {
            resources.push(Resource::Interrupt {
                level: 7,
                vector: VECTOR,
                latched: dice.one_in(2),
            });
        }
        if dice.one_in(30) {
            self.is_chip.set(false);
            let at = dice.below(resources.len());
            match dice.below(3) {
                0 => drop(resources.remove(at)),
                1 => resources.push(MEMORY),
                _ => resources.insert(at, strange(dice)),
            }
        }
        let enumerator = if self.is_card { "PCI" } else { "ACPI" };
        // A device that is not a port's.
        let class_guid = if dice.one_in(30) {
            "{4D36E96C-E325-11CE-BFC1-08002BE10318}"
        } else {
            PORTS_CLASS
        };
        let setup = Setup {
            hardware_key: self.values.clone(),
            enumerator,
            class_guid,
            ..Setup::default()
        };
        let mut spec = setup.device().with_resources(&resources);
        spec.instance = instance.to_string();
        if self.is_card {
            spec.hardware_ids = vec![dice.of(&CARDS).to_owned()];
        }
        if self.requirements {
            spec.requirements = vec![needs(dice, &resources), needs(dice, &resources)];
        }
        spec
    }
}

/// Hardware IDs of cards: some that the driver knows, and one that it does not.
const CARDS: [&str; 4] = [
    r"PCI\VEN_9710&DEV_9805&SUBSYS_00101000&REV_01",
    r"PCI\VEN_125B&DEV_9100&SUBSYS_2000A000&REV_00",
    r"PCI\VEN_1415&DEV_C000&SUBSYS_C0001415&REV_00",
    r"PCI\VEN_FFFE&DEV_0001&SUBSYS_00000000&REV_00",
];

/// The ranges of a card, in any order.
fn card(dice: &mut Dice) -> Vec<Resource> {
    let port = |base: u16, len| Resource::Port {
        base: base.into(),
        len,
    };
    let (registers, ecr) = (port(CARD.0, 8), port(CARD.1, 8));
    let other = port(0xDF00, dice.of(&[4, 8, 16, 32]));
    match dice.below(5) {
        0 => vec![registers, ecr],
        1 => vec![registers, ecr, MEMORY, MEMORY],
        2 => vec![MEMORY, ecr, registers],
        3 => vec![other, MEMORY, registers, ecr],
        _ => vec![registers, other],
    }
}

/// What no bus assigns to a port.
fn strange(dice: &mut Dice) -> Resource {
    match dice.below(4) {
        0 => Resource::Dma { channel: 3 },
        1 => Resource::Port {
            base: u64::from(dice.word()),
            len: dice.of(&[0, 1, 2, 3, 7, 9, u32::MAX]),
        },
        2 => Resource::Memory { base: 0, len: 0 },
        _ => {
            let mut raw = [0; 20];
            for byte in &mut raw[1..] {
                *byte = dice.byte();
            }
            // CmResourceTypeDevicePrivate and its kin.
            raw[0] = dice.of(&[0, 5, 6, 128, 129, 255]);
            Resource::Raw(raw)
        }
    }
}

/// A list of requirements: the registers, and perhaps more, with alternatives.
fn needs(dice: &mut Dice, resources: &[Resource]) -> Vec<Need> {
    let mut needs: Vec<Need> = resources
        .iter()
        .map(|resource| Need {
            resource: resource.clone(),
            alternative: false,
        })
        .collect();
    for (resource, alternative) in [
        (
            Resource::Interrupt {
                level: 5,
                vector: 0x35,
                latched: true,
            },
            true,
        ),
        (Resource::Dma { channel: 3 }, false),
        (Resource::Dma { channel: 1 }, true),
    ] {
        if dice.one_in(2) {
            needs.push(Need {
                resource,
                alternative,
            });
        }
    }
    needs
}

/// A chip; whether it has an ECP block, and whether what is written to it can be read back.
fn chip(dice: &mut Dice, peripheral: &Peripheral1284) -> (SharedPort, bool, bool) {
    let attached = attached(dice, peripheral);
    let version = dice.of(&[EppVersion::V1_7, EppVersion::V1_9]);
    let clear = dice.of(&[
        TimeoutClear::ReadTwice,
        TimeoutClear::WriteOne,
        TimeoutClear::WriteZero,
    ]);
    match dice.below(9) {
        0 => {
            let chip = Spp::new(attached).without_trace();
            match dice.below(4) {
                0 => (shared(chip.with_ecp_block()), true, true),
                1 => (shared(chip.with_aliased_ecp_block()), true, true),
                2 => (
                    shared(chip.with_ecp_block().with_ecr(dice.byte())),
                    true,
                    true,
                ),
                _ => (shared(chip), false, true),
            }
        }
        1 => {
            let chip = Ps2::new(attached).without_trace();
            if dice.one_in(3) {
                (shared(chip.with_aliased_ecp_block()), true, true)
            } else {
                (shared(chip), false, true)
            }
        }
        2 => {
            let chip = Epp::new(attached)
                .without_trace()
                .with_epp_version(version)
                .with_timeout_clear(clear);
            if dice.one_in(4) {
                // What is written while the time-out bit is set does not count.
                (shared(chip.with_timeout_blocking_spp()), false, false)
            } else {
                (shared(chip), false, true)
            }
        }
        3 => (shared(Noise(dice.clone())), dice.one_in(2), false),
        4 => (
            shared(Ecp::new(attached).with_fixed_ecr().without_trace()),
            true,
            true,
        ),
        kind => {
            let depth = dice.of(&[1, 2, 8, 16, 16, 64]);
            // The firmware has left it in a mode that a driver without its ECR cannot end.
            let is_left = dice.one_in(4);
            let mut chip = Ecp::new(attached)
                .without_trace()
                .with_fifo_depth(depth)
                .with_byte_time(dice.of(&[0, 500, 50_000]));
            if dice.one_in(4) {
                chip = chip.with_cnfg_a(dice.byte());
            }
            if dice.one_in(4) {
                chip = chip.with_cnfg_b(dice.byte());
            }
            if is_left {
                chip = chip.with_ecr(dice.byte());
            }
            if dice.one_in(4) {
                chip = chip.without_decompression();
            }
            if dice.one_in(8) {
                chip = chip.with_phony_epp();
            }
            if kind > 5 {
                chip = chip
                    .with_epp()
                    .with_epp_version(version)
                    .with_timeout_clear(clear);
            }
            (shared(chip), true, !is_left)
        }
    }
}

/// What is on a chip: the peripheral, mostly, at times behind a chain.
fn attached(dice: &mut Dice, peripheral: &Peripheral1284) -> Box<dyn Peripheral> {
    match dice.below(12) {
        0 => Box::new(Unconnected),
        1 => Box::new(Loopback::default()),
        2 => Box::new(Printer::new()),
        3..6 => {
            let mut chain = DaisyChain::new(peripheral.clone());
            let length = dice.below(4);
            for _ in 0..length {
                let device = Peripheral1284::new();
                chain = chain.with_device(if dice.one_in(2) {
                    device.with_device_id(&device_id(dice))
                } else {
                    device
                });
            }
            if length > 0 && dice.one_in(3) {
                let wrong = dice.of(&[
                    DaisyMisbehaviour::Answers(0),
                    DaisyMisbehaviour::Answers(1),
                    DaisyMisbehaviour::Answers(2),
                    DaisyMisbehaviour::WrongAnswer(1, PeripheralLines::from_dsr(0x80)),
                    DaisyMisbehaviour::NeverLast,
                    DaisyMisbehaviour::NeverSelected,
                ]);
                chain.misbehave(dice.below(length), wrong);
            }
            Box::new(chain)
        }
        _ => Box::new(peripheral.clone()),
    }
}

/// An IEEE 1284 device ID, with its length, right or wrong.
pub(crate) fn device_id(dice: &mut Dice) -> Vec<u8> {
    let keys: [&str; 16] = [
        "MFG",
        "MANUFACTURER",
        "MDL",
        "MODEL",
        "CMD",
        "COMMAND SET",
        "CLS",
        "CLASS",
        "DES",
        "DESCRIPTION",
        "CID",
        "COMPATIBLE ID",
        "SN",
        "1284.4DL",
        "mfg",
        "",
    ];
    let values: [&str; 12] = [
        "Hewlett-Packard",
        "HP",
        "Acme",
        "LaserJet 4L",
        "PRINTER",
        "SCANNER,PRINTER",
        "MODEM,NET,HDC,PCMCIA,MEDIA,FDC,PORTS,DIGCAM",
        "",
        " a b,c\\d/e ",
        "4d,4e,1",
        "\u{FC}\u{80}\u{1}",
        ":::",
    ];
    let mut text: Vec<u8> = Vec::new();
    if dice.one_in(2) {
        text.extend(b"MFG:Parscan;MDL:Attack;");
    }
    for _ in 0..dice.below(9) {
        text.extend(dice.of(&keys).bytes());
        if !dice.one_in(10) {
            text.push(b':');
        }
        if dice.one_in(10) {
            let byte = dice.byte();
            text.extend(vec![byte; dice.of(&[100, 300, 3000])]);
        } else {
            text.extend(dice.of(&values).bytes());
        }
        if !dice.one_in(10) {
            text.push(b';');
        }
    }
    let length = match dice.below(8) {
        0 => usize::from(dice.byte()),
        1 => 0xFFFF,
        2 => 2,
        3 => text.len(),
        _ => text.len() + 2,
    };
    let [low, high, ..] = length.to_le_bytes();
    let mut id = if dice.one_in(8) {
        vec![low, high]
    } else {
        vec![high, low]
    };
    id.extend(text);
    id
}

/// A value that is as it should be, mostly.
fn number(dice: &mut Dice, good: &[u32]) -> RegValue {
    let value = dice.of(good);
    match dice.below(12) {
        0 => RegValue::Dword(dice.word()),
        1 => RegValue::Sz(value.to_string()),
        2 => RegValue::Qword(u64::from(value)),
        3 => RegValue::Raw(4, vec![dice.byte(); dice.of(&[0, 1, 3, 5, 300])]),
        _ => RegValue::Dword(value),
    }
}

/// A text that is as it should be, mostly.
fn text(dice: &mut Dice, good: &[&str]) -> RegValue {
    let value = dice.of(good).to_owned();
    match dice.below(12) {
        0 => RegValue::Dword(dice.word()),
        1 => RegValue::ExpandSz(value),
        2 => RegValue::MultiSz(vec![value.clone(), value]),
        // Without a NUL, with an odd number of bytes, or none at all.
        3 => RegValue::Raw(1, vec![0x41; dice.of(&[0, 1, 2, 7, 600])]),
        4 => RegValue::Sz("L".repeat(dice.of(&[0, 100, 4000]))),
        _ => RegValue::Sz(value),
    }
}

/// Values of a port's hardware key.
fn port_values(dice: &mut Dice) -> Vec<(String, RegValue)> {
    let mut values = Vec::new();
    for (name, good) in [
        ("ParscanEpp32", &[0, 1][..]),
        ("ParscanWaitEdge", &[1, 1, 1, 0]),
        ("ParscanProbe", &[0, 1, 2]),
        ("ParscanPortNumber", &[1, 2, 30, 255, 0, 256]),
        ("ParscanPortTimeout", &[0, 1, 100, 5000, u32::MAX]),
        ("EnableConnectInterruptIoctl", &[1, 1, 1, 0]),
    ] {
        if dice.one_in(2) {
            values.push((name.to_owned(), number(dice, good)));
        }
    }
    if dice.one_in(3) {
        let good = [
            "LPT1", "LPT3", "lpt2", "LPT0", "LPT01", "LPT256", "COM1", "LPT",
        ];
        values.push(("PortName".to_owned(), text(dice, &good)));
    }
    values
}

/// A scanner, and how Windows finds it.
pub(crate) fn scanner(dice: &mut Dice, instance: usize) -> (Scanner, DeviceSpec) {
    let model = Scanner::default();
    if dice.one_in(3) {
        let seed = u64::from(dice.word() % 100_000);
        model.set_descriptors(DescriptorSet::hostile(seed));
    }
    if dice.one_in(2) {
        model.set_remote_wakeup();
    }
    let mut setup = ScannerSetup {
        scanner: model.clone(),
        is_buffered: dice.one_in(4),
        ..ScannerSetup::default()
    };
    if dice.one_in(2) {
        for (name, good) in [
            ("DeviceIdleEnabled", &[1, 1, 1, 0][..]),
            ("DefaultIdleState", &[1, 1, 1, 0]),
            ("DefaultIdleTimeout", &[0, 1, 3, 20]),
            ("DeviceIdleIgnoreWakeEnable", &[1, 1, 0]),
            ("SystemWakeEnabled", &[0, 1]),
        ] {
            if !dice.one_in(10) {
                setup
                    .hardware_key
                    .push((name.to_owned(), number(dice, good)));
            }
        }
    }
    if dice.one_in(3) {
        let good = ["Usbscan0", "Scanner", r"Usbscan7", r"bad\name", ""];
        let value = text(dice, &good);
        let key = if dice.one_in(2) {
            &mut setup.software_key
        } else {
            &mut setup.hardware_key
        };
        key.push(("CreateFileName".to_owned(), value));
    }
    (model, setup.device(&instance.to_string()))
}

/// Values in the driver's own key.
pub(crate) fn parameters(dice: &mut Dice) -> Vec<(&'static str, RegValue)> {
    if dice.one_in(20) {
        vec![("Role", number(dice, &[0, 1, 2, 3]))]
    } else {
        Vec::new()
    }
}

/// How long a device takes to get power, and whether it gets any.
pub(crate) fn power_up(dice: &mut Dice) -> ntsim::PowerUp {
    ntsim::PowerUp {
        refused: dice
            .one_in(4)
            .then_some(ntsim::NtStatus::INSUFFICIENT_RESOURCES),
        above: dice.one_in(4),
        after: dice.of(&[0, 0, MS, 20 * MS]),
        inside: dice.one_in(3),
    }
}

//! Which range of a PCI card is what.
//!
//! An ACPI port says it itself: its first range has the registers, its second one the ECP block. A
//! PCI card has up to six ranges, and what is in which differs. Facts of Linux's `parport_pc.c` and
//! `parport_serial.c`, which list the base address registers of each; **none of these cards was
//! tried with this driver**. Of a card with two ports the first one is used. A card that is not in
//! the table, or does not answer where the table says, is found by what its registers answer.

use crate::kernel::PciIdentity;

/// Where a card has its port: numbers of base address registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// DATA, DSR, DCR and the EPP registers.
    pub(super) registers: usize,
    /// The ECP block, if it has one of its own.
    pub(super) ecp: Option<usize>,
}

struct Card {
    vendor: u16,
    device: u16,
    /// `SUBSYS` of the hardware ID: the subsystem's device, then its vendor; 0 is any.
    subsystem: u32,
    places: Places,
}

const fn card(
    vendor: u16,
    device: u16,
    subsystem: u32,
    registers: usize,
    ecp: Option<usize>,
) -> Card {
    Card {
        vendor,
        device,
        subsystem,
        places: Places { registers, ecp },
    }
}

const ASIX: u16 = 0x125B;
const AFAVLAB: u16 = 0x14DB;
const LAVA: u16 = 0x1407;
const NETMOS: u16 = 0x9710;
const OXFORD: u16 = 0x1415;
const QUATECH: u16 = 0x135C;
const SIIG: u16 = 0x131F;
const SUNIX: u16 = 0x1FD4;
const TIMEDIA: u16 = 0x1409;
const TITAN: u16 = 0x14D2;
const WCH: u16 = 0x4348;
const WCH_PCIE: u16 = 0x1C00;

/// The first that fits counts. The INF lists the same cards, and of those that come with serial
/// ports alone, too, only the subsystems that have a printer port.
///
/// Sources: `parport_pc.c` (P) and `parport_serial.c` (S) of Linux have the numbers of the base
/// address registers, its `pci_ids.h` the IDs, and the list `pci.ids` of 2023-04-11 (I) says once
/// more what the device is.
const CARDS: &[Card] = &[
    // NetMos, MosChip, ASIX. P, I.
    card(NETMOS, 0x9705, 0, 0, None),    // P
    card(NETMOS, 0x9715, 0, 0, Some(1)), // P
    card(NETMOS, 0x9755, 0, 0, Some(1)), // P
    card(NETMOS, 0x9805, 0, 0, Some(1)), // P, I
    card(NETMOS, 0x9815, 0, 0, Some(1)), // P, I
    // With serial ports. The subsystem is 1000 with 00PS: P printer ports, S serial ones (S).
    card(NETMOS, 0x9735, 0, 2, None), // S
    card(NETMOS, 0x9745, 0, 2, None), // S
    card(NETMOS, 0x9835, 0, 2, None), // S, I
    card(NETMOS, 0x9845, 0, 2, None), // S, I
    card(NETMOS, 0x9855, 0, 0, None), // S, I
    // A000 with 2000 is a function that is a printer port, with 1000 one that is a serial port
    // (I of the AX99100, `8250_pci.c`); P has 1000 for the 9865, too.
    card(NETMOS, 0x9865, 0x2000_A000, 0, None),    // P, I
    card(NETMOS, 0x9900, 0x2000_A000, 0, None),    // P, I
    card(NETMOS, 0x9900, 0x3011_A000, 3, Some(4)), // S
    card(NETMOS, 0x9900, 0x3012_A000, 3, Some(4)), // S
    card(NETMOS, 0x9900, 0x3020_A000, 0, Some(1)), // S
    card(NETMOS, 0x9901, 0x2000_A000, 0, None),    // P, I
    card(NETMOS, 0x9912, 0x2000_A000, 0, Some(1)), // S, I
    // Linux since 2023 ("parport_pc: Add support for ASIX AX99100"): the ECR is in BAR 1.
    card(ASIX, 0x9100, 0x2000_A000, 0, Some(1)), // P, I
    // WCH: CH352, CH353, and CH382 without and with serial ports.
    card(WCH, 0x5053, 0, 1, None),                // S, I
    card(WCH, 0x7053, 0x3253_4348, 2, None),      // S, I
    card(WCH_PCIE, 0x3050, 0x3050_1C00, 2, None), // P, S
    card(WCH_PCIE, 0x3250, 0x3250_1C00, 2, None), // S
    // Oxford Semiconductor: OX12PCI840, OX16PCI954 and OX16PCI952 (function 1), OXPCIe840 and
    // OXPCIe952. All in P and I.
    card(OXFORD, 0x8403, 0, 0, Some(1)),
    card(OXFORD, 0x9513, 0, 0, Some(1)),
    card(OXFORD, 0x9523, 0, 0, Some(1)),
    card(OXFORD, 0xC000, 0, 0, Some(1)),
    card(OXFORD, 0xC004, 0, 0, Some(1)),
    card(OXFORD, 0xC100, 0, 0, Some(1)),
    card(OXFORD, 0xC104, 0, 0, Some(1)),
    card(OXFORD, 0xC110, 0, 0, Some(1)),
    card(OXFORD, 0xC114, 0, 0, Some(1)),
    card(OXFORD, 0xC118, 0, 0, Some(1)),
    card(OXFORD, 0xC11C, 0, 0, Some(1)),
    // SUNIX, and Timedia, which made cards for it.
    card(SUNIX, 0x1999, 0x0100_1FD4, 1, Some(2)),   // S
    card(SUNIX, 0x1999, 0x0101_1FD4, 1, Some(2)),   // S
    card(SUNIX, 0x1999, 0x0102_1FD4, 1, Some(2)),   // S
    card(SUNIX, 0x1999, 0x0104_1FD4, 1, Some(2)),   // S
    card(TIMEDIA, 0x7268, 0x0101_1409, 0, None),    // P
    card(TIMEDIA, 0x7268, 0x0102_1409, 0, None),    // P
    card(TIMEDIA, 0x7268, 0x0103_1409, 0, Some(1)), // P, I
    card(TIMEDIA, 0x7268, 0x0104_1409, 0, Some(1)), // P, I
    card(TIMEDIA, 0x7268, 0x9018_1409, 0, Some(1)), // P
    // Titan: 010L, and 110L and 210L with serial ports.
    card(TITAN, 0x8001, 0, 3, None), // P, I
    card(TITAN, 0x8011, 0, 3, None), // S, I
    card(TITAN, 0x8021, 0, 3, None), // S, I
    // Others.
    card(AFAVLAB, 0x2120, 0, 0, Some(1)), // P, I
    card(AFAVLAB, 0x2121, 0, 0, Some(1)), // P
    card(LAVA, 0x8000, 0, 0, None),       // P, I
    card(QUATECH, 0x0278, 0, 0, Some(1)), // P
    card(SIIG, 0x1020, 0, 2, Some(3)),    // P, I
    card(SIIG, 0x2020, 0, 0, Some(1)),    // P, I
];

/// Where the card has its port, if it is known.
pub(super) fn places(card: PciIdentity) -> Option<Places> {
    CARDS
        .iter()
        .find(|known| {
            (known.vendor, known.device) == (card.vendor, card.device)
                && (known.subsystem == 0 || known.subsystem == card.subsystem)
        })
        .map(|known| known.places)
}

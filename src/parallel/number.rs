//! The n of `LPTn`: found, chosen, saved, and shown.

use crate::{
    kernel::{Key, Passive, PhysicalDevice, Property, Text, Wide},
    trace::Label,
};

/// The n of `LPTn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortNumber(u32);

/// The longest friendly name that is read or written, in units with the NUL.
const NAME_UNITS: usize = 128;
/// The longest description that becomes a part of it: " (LPT255)" has nine units.
const DESCRIPTION_UNITS: usize = NAME_UNITS - 10;

/// The highest n that anybody uses.
const HIGHEST: u32 = 255;

/// The value in which the Ports class installer names a port, `LPTn`.
const PORT_NAME: &str = "PortName";
/// The value in which this driver keeps the number that it chose itself.
const SAVED_NUMBER: &str = "ParscanPortNumber";

impl PortNumber {
    /// The numbers to try, in order: `PortName`'s, the one that we saved, then the lowest free
    /// ones. A malformed value is no number; it never keeps a port from working.
    pub(super) fn candidates(
        pdo: PhysicalDevice,
        passive: Passive,
    ) -> impl Iterator<Item = Self> + use<> {
        let key = Key::of_device(pdo, false, passive).ok();
        let named = key
            .as_ref()
            .and_then(|key| key.text(&Wide::new(PORT_NAME)))
            .and_then(|name| Self::from_name(&name));
        let saved = key
            .as_ref()
            .and_then(|key| key.dword(&Wide::new(SAVED_NUMBER)))
            .and_then(Self::new);
        named
            .into_iter()
            .chain(saved)
            .chain((1..=HIGHEST).map(Self))
    }

    fn new(number: u32) -> Option<Self> {
        (1..=HIGHEST).contains(&number).then_some(Self(number))
    }

    /// `LPT` in any case, and 1 to 255 without sign, blank or leading zero.
    fn from_name(name: &Text) -> Option<Self> {
        let [l, p, t, digits @ ..] = name.units() else {
            return None;
        };
        if !Wide::<4>::from_units(&[*l, *p, *t]).is("LPT") || digits.first() == Some(&48) {
            return None;
        }
        let mut number = 0u32;
        for digit in digits {
            let digit = char::from_u32(u32::from(*digit))?.to_digit(10)?;
            number = number.checked_mul(10)?.checked_add(digit)?;
        }
        Self::new(number)
    }

    /// Keeps the number, so that the port has it again after the next start of Windows. Without
    /// it the port works, too.
    pub(super) fn save(self, pdo: PhysicalDevice, passive: Passive) {
        if let Ok(key) = Key::of_device(pdo, true, passive) {
            let name = Wide::new(SAVED_NUMBER);
            if key.dword(&name) != Some(self.0) {
                let _ = key.set_dword(&name, self.0);
            }
        }
    }

    /// Windows' own ports have their number in the name under which Windows lists them, such as
    /// "Printer Port (LPT1)", and programs look for it there. The Ports class installer is
    /// documented to write it for serial ports; whether it does for a parallel one is not. A name
    /// that has "(LPTn)" stays; otherwise the port gets the INF's name with it. Without it the port
    /// works, too.
    pub(super) fn show(self, pdo: PhysicalDevice, passive: Passive) {
        let number = Wide::<16>::new("(LPT").push_number(self.0).push(")");
        let named = pdo.property::<NAME_UNITS>(Property::FriendlyName, passive);
        if named.is_some_and(|name| name.contains(&number)) {
            return;
        }
        let name = pdo
            .property::<DESCRIPTION_UNITS>(Property::Description, passive)
            .unwrap_or_else(|| Wide::new("Printer Port"));
        let name = Wide::<NAME_UNITS>::from_units(name.units())
            .push(" (LPT")
            .push_number(self.0)
            .push(")");
        let _ = pdo.set_friendly_name(&name, passive);
    }

    /// `\DosDevices\LPTn`.
    pub(super) fn link_name(self) -> Wide<32> {
        Wide::new(r"\DosDevices\LPT").push_number(self.0)
    }

    /// `\Device\ParallelPortM`, the port object.
    pub(super) fn port_name(self) -> Wide<32> {
        Wide::new(r"\Device\ParallelPort").push_number(self.0 - 1)
    }

    /// What events call the port and its devices.
    pub(super) const fn label(self) -> Label {
        Label::port(self.0)
    }

    /// `LPTn`.
    pub(super) fn lpt<const N: usize>(self) -> Wide<N> {
        Wide::new("LPT").push_number(self.0)
    }
}

/// Which device on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The port itself, as the device that programs know.
    Raw,
    /// A device of the IEEE 1284.3 chain, counted from 0 at the host.
    Chain(u8),
    /// The device at the end of the chain, or without a chain the only one: a printer, mostly.
    EndOfChain,
}

/// The number of the end of the chain in names.
const END_OF_CHAIN: u32 = 4;

impl Place {
    /// `\Device\ParallelM`, `\Device\ParallelM.x`: the device object.
    pub(super) fn device_name(self, number: PortNumber) -> Wide<32> {
        self.named(Wide::new(r"\Device\Parallel").push_number(number.0 - 1))
    }

    /// `\DosDevices\LPTn`, `\DosDevices\LPTn.x`: the device's link for user programs.
    pub(super) fn link_name(self, number: PortNumber) -> Wide<32> {
        self.named(number.link_name())
    }

    /// `LPTn`, `LPTn.x`.
    pub(super) fn lpt<const N: usize>(self, number: PortNumber) -> Wide<N> {
        self.named(number.lpt())
    }

    /// A name of the port, for the device.
    fn named<const N: usize>(self, port: Wide<N>) -> Wide<N> {
        match self {
            Self::Raw => port,
            Self::Chain(device) => port.push(".").push_number(u32::from(device)),
            Self::EndOfChain => port.push(".").push_number(END_OF_CHAIN),
        }
    }
}

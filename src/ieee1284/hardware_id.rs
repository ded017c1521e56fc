//! The names under which Plug and Play knows a device with a device ID.

use core::fmt::{self, Write as _};

use super::{
    DeviceId,
    device_id::{is_same, trimmed},
};

/// Characters of manufacturer and model in a hardware ID, before the checksum.
const NAME: usize = 20;
/// The longest text, in characters. The PnP manager takes less than 172 for device ID and instance
/// ID together (`MAX_DEVICE_ID_LEN` - 28): this leaves 35 beside `LPTENUM\` for the instance.
const LONGEST: usize = 128;
/// What the enumerator of parallel ports puts before its IDs. A compatible ID may have it, too.
const ENUMERATOR: &str = "LPTENUM\\";
/// What the INF files of printer class drivers have before the compatible IDs of devices.
const CLASS_DRIVER: &str = "1284_CID_";

/// The checksum's table for the low four bits of a byte (CRC-16, polynomial 0x8005 reflected).
#[rustfmt::skip]
const LOW: [u16; 16] = [
    0x0000, 0xC0C1, 0xC181, 0x0140, 0xC301, 0x03C0, 0x0280, 0xC241,
    0xC601, 0x06C0, 0x0780, 0xC741, 0x0500, 0xC5C1, 0xC481, 0x0440,
];
/// The same for the high four bits. The last entry is not that of the CRC, which is 0x4400: it was
/// published so, and every hardware ID has been made with it since.
#[rustfmt::skip]
const HIGH: [u16; 16] = [
    0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
    0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4600,
];

/// The identity of a device with manufacturer and model in its device ID.
///
/// What comes from the device may be anything. A character that an ID must not have bug-checks the
/// system (documented at `IRP_MN_QUERY_ID`: up to 0x20, above 0x7F, and the comma). Blanks become
/// underscores, as documented, and so do the other illegal characters, the DEL and the backslash,
/// which separates the enumerator from the ID.
///
/// Sources: Microsoft's "Plug and Play Parallel Port Devices" 1.0b, the pages about
/// `IRP_MN_QUERY_ID` and "Printer Connected to an LPT Port", and the output of `DevCon` that its
/// examples show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlugAndPlayId<'a> {
    id: DeviceId<'a>,
    manufacturer: &'a [u8],
    model: &'a [u8],
}

impl<'a> PlugAndPlayId<'a> {
    /// The identity in a device ID. `None` without a manufacturer or a model, which the
    /// specification says are always there.
    #[must_use]
    pub fn of(id: DeviceId<'a>) -> Option<Self> {
        let value = |keys| id.get(keys).filter(|value| !value.is_empty());
        Some(Self {
            id,
            manufacturer: value(DeviceId::MANUFACTURER)?,
            model: value(DeviceId::MODEL)?,
        })
    }

    /// Manufacturer and model in full, for the device ID of the device's node: after `LPTENUM\`,
    /// as in `LPTENUM\HEWLETT-PACKARDDESKJET_1120C`. 128 characters at most.
    #[must_use]
    pub fn device_id(&self) -> PlugAndPlayText {
        PlugAndPlayText::of("", self.name().map(id_character))
    }

    /// The ID that INF files name, with and without `LPTENUM\` before it: 20 characters of
    /// manufacturer and model, and the checksum of both in full, as in `Hewlett-PackardHP_La7EE2`.
    #[must_use]
    pub fn hardware_id(&self) -> PlugAndPlayText {
        let mut text = PlugAndPlayText::of("", self.name().take(NAME).map(id_character));
        // Before any character is replaced.
        let checksum = checksum(self.name());
        for shift in [12, 8, 4, 0] {
            let digit = usize::from(checksum >> shift & 0xF);
            // Four bits are below 16.
            text.push(b"0123456789ABCDEF".get(digit).copied().unwrap_or(b'0'));
        }
        text
    }

    /// Gives the compatible IDs to `take`, the most specific first. For each one that the device
    /// lists (CID, separated by commas): itself, as INF files name another device's hardware ID, and
    /// after `1284_CID_`, as those of printer class drivers do. Last, the model, as INF files of
    /// printers have it. One with more than 128 characters would match nothing when cut, and is left
    /// out.
    pub fn each_compatible_id(&self, mut take: impl FnMut(PlugAndPlayText)) {
        let mut make = |prefix: &str, id: &[u8]| {
            if prefix.len().saturating_add(id.len()) <= LONGEST {
                let characters = id.iter().copied().map(id_character);
                take(PlugAndPlayText::of(prefix, characters));
            }
        };
        let list = self.id.get(DeviceId::COMPATIBLE_ID).unwrap_or_default();
        for id in list.split(|byte| *byte == b',').map(trimmed) {
            match after(ENUMERATOR, id) {
                _ if id.is_empty() => {}
                Some(rest) => make(ENUMERATOR, rest),
                None => {
                    make("", id);
                    make(CLASS_DRIVER, id);
                }
            }
        }
        make("", self.model);
    }

    /// What a user may read while there is no driver: what the device says of itself (DES), else
    /// manufacturer and model. What is not printable ASCII is an underscore here, too. 128
    /// characters at most.
    #[must_use]
    pub fn description(&self) -> PlugAndPlayText {
        let said = self.id.get(DeviceId::DESCRIPTION).unwrap_or_default();
        if said.is_empty() {
            let name = self.manufacturer.iter().chain(b" ").chain(self.model);
            PlugAndPlayText::of("", name.copied().map(text_character))
        } else {
            PlugAndPlayText::of("", said.iter().copied().map(text_character))
        }
    }

    /// What kind of device it says it is (CLS), in upper case: `PRINTER`, `MODEM`, `NET`, `HDC`,
    /// `PCMCIA`, `MEDIA`, `FDC`, `PORTS`, `SCANNER`, `DIGICAM` or something of its own. Empty if it
    /// does not say.
    #[must_use]
    pub fn class(&self) -> PlugAndPlayText {
        let said = self.id.get(DeviceId::CLASS).unwrap_or_default();
        let upper = |byte: &u8| text_character(byte.to_ascii_uppercase());
        PlugAndPlayText::of("", said.iter().map(upper))
    }

    /// Manufacturer and model, as the device sent them but for blanks around them.
    fn name(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.manufacturer.iter().chain(self.model).copied()
    }
}

/// A short text of printable ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlugAndPlayText {
    /// Only the first `length` count.
    bytes: [u8; LONGEST],
    length: usize,
}

impl PlugAndPlayText {
    /// A text of ASCII characters, cut to what fits.
    fn of(prefix: &str, characters: impl Iterator<Item = u8>) -> Self {
        let mut text = Self::starting(prefix.as_bytes());
        for byte in characters.take(LONGEST) {
            text.push(byte);
        }
        text
    }

    #[inline(never)]
    fn starting(prefix: &[u8]) -> Self {
        let mut text = Self {
            bytes: [0; LONGEST],
            length: 0,
        };
        for byte in prefix {
            text.push(*byte);
        }
        text
    }

    #[inline(never)]
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length = self.length.saturating_add(1);
        }
    }
}

impl AsRef<[u8]> for PlugAndPlayText {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Display for PlugAndPlayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref()
            .iter()
            .try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// What follows `prefix`, in whatever case.
fn after<'a>(prefix: &str, id: &'a [u8]) -> Option<&'a [u8]> {
    let (start, rest) = id.split_at_checked(prefix.len())?;
    (is_same(prefix, start) && !rest.is_empty()).then_some(rest)
}

/// A character as an ID may have it.
const fn id_character(byte: u8) -> u8 {
    match byte {
        b',' | b'\\' => b'_',
        _ if byte.is_ascii_graphic() => byte,
        _ => b'_',
    }
}

/// A character as a text may have it.
const fn text_character(byte: u8) -> u8 {
    if byte.is_ascii_graphic() || byte == b' ' {
        byte
    } else {
        b'_'
    }
}

/// The checksum of the specification's appendix.
fn checksum(bytes: impl Iterator<Item = u8>) -> u16 {
    let entry = |table: &[u16; 16], index: u16| {
        // Four bits are below 16.
        table.get(usize::from(index)).copied().unwrap_or(0)
    };
    bytes.fold(0, |crc, byte| {
        let index = (crc ^ u16::from(byte)) & 0xFF;
        crc >> 8 ^ entry(&LOW, index & 0xF) ^ entry(&HIGH, index >> 4)
    })
}

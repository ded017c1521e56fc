//! The device ID: what a peripheral says it is.

use super::Fault;

/// The most bytes that an ID may have, with its prefix: its length has 16 bits.
const LONGEST: usize = 0xFFFF;
/// Bytes of the length prefix.
const PREFIX: usize = 2;
/// A length beyond this is suspected to be little-endian.
const PLAUSIBLE: usize = 4096;
/// Bytes that are asked for at once.
const CHUNK: usize = 64;

/// How much of a device ID there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdLength {
    /// Bytes in the caller's buffer.
    pub stored: usize,
    /// Bytes that the peripheral sent, with the two of the prefix. More than `stored`, if the
    /// buffer was too short.
    pub total: usize,
}

/// Reads an ID from `next`, which fills a buffer and says how far: less than asked for when the
/// peripheral has no more.
///
/// The prefix is a big-endian length that counts itself. Peripherals get it wrong: it may not
/// count itself, have its bytes swapped, or mean nothing. So it only says where to look for the
/// final semicolon; the ID is never longer than what really came, nor than 65535 bytes.
///
/// # Errors
/// Those of `next`.
pub(super) fn collect(
    sink: &mut [u8],
    mut next: impl FnMut(&mut [u8]) -> Result<usize, Fault>,
) -> Result<IdLength, Fault> {
    let mut id = Collector {
        sink,
        length: IdLength::default(),
        prefix: [0; PREFIX],
        last: 0,
        ended: false,
    };
    id.up_to(PREFIX, &mut next)?;
    let length = usize::from(u16::from_be_bytes(id.prefix));
    let swapped = usize::from(u16::from_le_bytes(id.prefix));
    if length > PLAUSIBLE && (PREFIX..length).contains(&swapped) {
        id.up_to_semicolon(swapped, &mut next)?;
        if id.is_complete() {
            return Ok(id.length);
        }
    }
    if length < PREFIX {
        id.up_to(LONGEST, &mut next)?;
    } else {
        id.up_to_semicolon(length, &mut next)?;
    }
    Ok(id.length)
}

/// An ID on its way into the caller's buffer.
struct Collector<'a> {
    sink: &'a mut [u8],
    length: IdLength,
    prefix: [u8; PREFIX],
    last: u8,
    /// The peripheral has no more.
    ended: bool,
}

impl Collector<'_> {
    /// Reads until `length` bytes are there; and if they do not end in a semicolon, two more: the
    /// length may not count itself.
    fn up_to_semicolon(
        &mut self,
        length: usize,
        next: &mut impl FnMut(&mut [u8]) -> Result<usize, Fault>,
    ) -> Result<(), Fault> {
        self.up_to(length, next)?;
        if !self.is_complete() {
            self.up_to(length.saturating_add(PREFIX), next)?;
        }
        Ok(())
    }

    const fn is_complete(&self) -> bool {
        self.last == b';' || self.ended
    }

    /// Reads until `total` bytes are there, or no more come.
    fn up_to(
        &mut self,
        total: usize,
        next: &mut impl FnMut(&mut [u8]) -> Result<usize, Fault>,
    ) -> Result<(), Fault> {
        let total = total.min(LONGEST);
        while !self.ended && self.length.total < total {
            let mut chunk = [0; CHUNK];
            let wanted = total.saturating_sub(self.length.total).min(CHUNK);
            let asked = chunk.get_mut(..wanted).unwrap_or_default();
            let count = next(asked)?;
            self.ended = count < wanted;
            let came = asked.get(..count).unwrap_or_default();
            copy(&mut self.prefix, self.length.total, came);
            let stored = copy(self.sink, self.length.total, came);
            self.length.stored = self.length.stored.saturating_add(stored);
            self.length.total = self.length.total.saturating_add(came.len());
            self.last = came.last().copied().unwrap_or(self.last);
        }
        Ok(())
    }
}

/// Copies bytes to a place in a buffer, as many as there is room for there: how many.
fn copy(to: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let room = to.get_mut(at..).unwrap_or_default();
    let count = room.len().min(bytes.len());
    for (slot, byte) in room.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    count
}

/// A device ID as a peripheral sent it: `KEY:value;` pairs after a length prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId<'a>(pub &'a [u8]);

impl<'a> DeviceId<'a> {
    /// The keys of the manufacturer, for [`DeviceId::get`].
    pub const MANUFACTURER: &'static [&'static str] = &["MFG", "MANUFACTURER"];
    /// The keys of the model.
    pub const MODEL: &'static [&'static str] = &["MDL", "MODEL"];
    /// The keys of the command set, the languages that the peripheral understands.
    pub const COMMAND_SET: &'static [&'static str] = &["CMD", "COMMAND SET"];
    /// The keys of the class: PRINTER, SCANNER …
    pub const CLASS: &'static [&'static str] = &["CLS", "CLASS"];
    /// The keys of the description.
    pub const DESCRIPTION: &'static [&'static str] = &["DES", "DESCRIPTION"];
    /// The key of the compatible ID.
    pub const COMPATIBLE_ID: &'static [&'static str] = &["CID", "COMPATIBLEID"];
    /// The keys of the serial number.
    pub const SERIAL_NUMBER: &'static [&'static str] = &["SN", "SERN", "SERIALNUMBER"];

    /// All bytes, the prefix included (`IOCTL_PAR_QUERY_RAW_DEVICE_ID`, without its NUL).
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The bytes after the prefix (`IOCTL_PAR_QUERY_DEVICE_ID`, without its NUL).
    #[must_use]
    pub fn cooked(self) -> &'a [u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    /// The pairs, without the blanks around keys and values. Parts without a colon are left out.
    pub fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.cooked()
            .split(|byte| *byte == b';')
            .filter_map(|part| {
                let mut halves = part.splitn(2, |byte| *byte == b':');
                let key = trimmed(halves.next()?);
                Some((key, trimmed(halves.next()?)))
            })
    }

    /// The value of the first pair with one of these keys, in whatever case.
    #[must_use]
    pub fn get(self, keys: &[&str]) -> Option<&'a [u8]> {
        self.pairs()
            .find(|(key, _)| keys.iter().any(|wanted| is_same(wanted, key)))
            .map(|(_, value)| value)
    }
}

/// Without the blanks around it. In one copy, as [`is_same`].
#[inline(never)]
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Whether a text is this, in whatever case. Texts are short here: a byte at a time will do.
#[inline(never)]
pub(super) fn is_same(wanted: &str, text: &[u8]) -> bool {
    wanted.len() == text.len()
        && wanted
            .bytes()
            .zip(text)
            .all(|(wanted, byte)| wanted.eq_ignore_ascii_case(byte))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{format, string::String, vec, vec::Vec};

    use super::*;

    /// A peripheral that sends `sent` and has no more then.
    fn read(sent: &[u8], room: usize) -> (Vec<u8>, IdLength) {
        let mut sink = vec![0; room];
        let mut rest = sent.iter();
        let length = collect(&mut sink, |bytes| {
            Ok(bytes
                .iter_mut()
                .zip(&mut rest)
                .map(|(slot, byte)| *slot = *byte)
                .count())
        })
        .unwrap();
        sink.truncate(length.stored);
        (sink, length)
    }

    /// What follows a complete ID, from peripherals that begin again.
    const AGAIN: &str = "MFG:again;";

    fn text(length: usize) -> String {
        format!("{}{}", "x".repeat(length - 1), ";")
    }

    #[test]
    fn the_length_is_found_whatever_the_prefix_says() {
        let id = "MFG:Acme;MDL:Laser 1;";
        let n = u16::try_from(id.len()).unwrap();
        let right = (n + 2).to_be_bytes();
        for (what, prefix, more) in [
            ("right", right, AGAIN),
            ("not counting itself", n.to_be_bytes(), AGAIN),
            ("swapped", (n + 2).to_le_bytes(), AGAIN),
            ("swapped, not counting itself", n.to_le_bytes(), AGAIN),
            ("zero", [0, 0], ""),
            ("one", [0, 1], ""),
            ("too long", [0x0F, 0xFF], ""),
            ("far too long", [0xFF, 0xFF], ""),
        ] {
            let whole = [&prefix[..], id.as_bytes()].concat();
            let (raw, length) = read(&[&whole[..], more.as_bytes()].concat(), 100);
            assert_eq!(raw, whole, "{what}");
            assert_eq!(length.total, whole.len(), "{what}");
            assert_eq!(DeviceId(&raw).cooked(), id.as_bytes(), "{what}");
            assert_eq!(DeviceId(&raw).raw(), whole, "{what}");
        }
    }

    #[test]
    fn a_missing_final_semicolon_is_no_harm() {
        let id = b"\x00\x0AMFG:Acme";
        assert_eq!(read(id, 100).0, id);
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn a_long_id_with_an_odd_length_is_not_cut() {
        // 0x1100 might be 0x0011, but there is no semicolon at 17 or 19.
        let id = text(0x1100 - 2);
        let whole = [b"\x11\x00", id.as_bytes()].concat();
        assert_eq!(read(&whole, 0x2000).1.total, 0x1100);
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn nothing_is_longer_than_sixteen_bits_say() {
        for prefix in [[0, 0], [0xFF, 0xFF]] {
            let whole = [&prefix[..], &vec![b'x'; 70_000]].concat();
            let (_, length) = read(&whole, 10);
            assert_eq!(
                length,
                IdLength {
                    stored: 10,
                    total: 0xFFFF
                }
            );
        }
    }

    #[test]
    fn the_whole_length_is_known_without_room() {
        let whole = b"\x00\x0BMFG:Acme;";
        assert_eq!(
            read(whole, 4),
            (
                whole[..4].to_vec(),
                IdLength {
                    stored: 4,
                    total: 11
                }
            )
        );
        assert_eq!(read(whole, 0).1.total, 11);
        assert_eq!(read(&[], 4).1, IdLength::default());
        assert_eq!(read(&[7], 4).1.total, 1);
    }

    #[test]
    fn keys_are_found_in_any_case() {
        let id =
            DeviceId(b"\0\0MANUFACTURER:Acme ; mdl: Laser:1;junk;CLS:PRINTER;DES:;MFG:other;x");
        assert_eq!(id.get(DeviceId::MANUFACTURER), Some(&b"Acme"[..]));
        assert_eq!(id.get(DeviceId::MODEL), Some(&b"Laser:1"[..]));
        assert_eq!(id.get(DeviceId::CLASS), Some(&b"PRINTER"[..]));
        assert_eq!(id.get(DeviceId::DESCRIPTION), Some(&b""[..]));
        assert_eq!(id.get(DeviceId::SERIAL_NUMBER), None);
        assert_eq!(DeviceId(b"").get(DeviceId::MODEL), None);
        assert_eq!(DeviceId(b"\0").cooked(), b"");
    }
}

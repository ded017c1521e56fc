//! TraceLogging's wire format: events that describe themselves, so no manifest is installed.
//!
//! An event goes out with a descriptor and three blocks: the provider's traits, the event's
//! metadata (its name, and name and type of each field), and the fields' values one after the
//! other. Source: the documented layout in TraceLoggingProvider.h and Microsoft's crate
//! `tracelogging` (MIT), which the tests compare it with. That crate itself is not used: its
//! `Provider::register` panics, and no panic path may be in the image.

use super::{Label, Status};

/// How a field is written: TDH's in-type, and out-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// UTF-8 with a NUL: `TDH_INTYPE_ANSISTRING`, `TDH_OUTTYPE_UTF8`.
    Text,
    /// `TDH_INTYPE_UINT8`
    U8,
    /// `TDH_INTYPE_UINT16`
    U16,
    /// `TDH_INTYPE_UINT32`
    U32,
    /// `TDH_INTYPE_HEXINT32`
    Hex32,
    /// `TDH_INTYPE_HEXINT32`, `TDH_OUTTYPE_NTSTATUS`
    NtStatus,
}

impl Type {
    /// In-type and out-type; 0 is no out-type.
    const fn bytes(self) -> (u8, u8) {
        match self {
            Self::Text => (2, 35),
            Self::U8 => (4, 0),
            Self::U16 => (6, 0),
            Self::U32 => (8, 0),
            Self::Hex32 => (20, 0),
            Self::NtStatus => (20, 14),
        }
    }
}

/// A field: its name and type.
pub(super) type Field = (&'static str, Type);

/// An in-type with this bit has an out-type behind it.
const HAS_OUT_TYPE: u8 = 0x80;

/// Bytes of [`metadata`].
pub(super) const fn metadata_size(name: &str, fields: &[Field]) -> usize {
    // Its own size, a byte of tags, the name and a NUL.
    let mut size = 2 + 1 + name.len() + 1;
    let mut index = 0;
    while index < fields.len() {
        let (name, kind) = fields[index];
        size += name.len() + 2 + (kind.bytes().1 != 0) as usize;
        index += 1;
    }
    size
}

/// The metadata of an event: its size, no tags, its name, its fields. Evaluated at compile time.
pub(super) const fn metadata<const N: usize>(name: &str, fields: &[Field]) -> [u8; N] {
    let mut bytes = put([0; N], 3, name);
    [bytes[0], bytes[1]] = size_bytes(N);
    let mut at = 3 + name.len() + 1;
    let mut index = 0;
    while index < fields.len() {
        let (name, kind) = fields[index];
        bytes = put(bytes, at, name);
        at += name.len() + 1;
        let (in_type, out_type) = kind.bytes();
        if out_type == 0 {
            bytes[at] = in_type;
            at += 1;
        } else {
            bytes[at] = in_type | HAS_OUT_TYPE;
            bytes[at + 1] = out_type;
            at += 2;
        }
        index += 1;
    }
    assert!(at == N);
    bytes
}

/// The traits of a provider: their size and its name. Evaluated at compile time.
pub(super) const fn traits<const N: usize>(name: &str) -> [u8; N] {
    assert!(N == 2 + name.len() + 1);
    let mut bytes = put([0; N], 2, name);
    [bytes[0], bytes[1]] = size_bytes(N);
    bytes
}

/// A size in front of metadata or traits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked; try_from is not const"
)]
const fn size_bytes(size: usize) -> [u8; 2] {
    assert!(size <= u16::MAX as usize);
    (size as u16).to_le_bytes()
}

/// Writes a text; a NUL is behind it already.
const fn put<const N: usize>(mut bytes: [u8; N], at: usize, text: &str) -> [u8; N] {
    let text = text.as_bytes();
    let mut index = 0;
    while index < text.len() {
        bytes[at + index] = text[index];
        index += 1;
    }
    bytes
}

/// The values of an event's fields, one after the other. What has no room is left out; every event
/// has it.
pub struct Payload {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Payload {
    /// The most bytes of values.
    pub const ROOM: usize = 320;

    pub(super) const EMPTY: Self = Self {
        bytes: [0; Self::ROOM],
        length: 0,
    };

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// [`Type::Text`]
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.append(text.as_bytes());
        self.byte(0);
        self
    }

    /// [`Type::Text`] of a device.
    pub(super) fn label(&mut self, label: Label) -> &mut Self {
        label.letters(|letter| self.byte(letter));
        self.byte(0);
        self
    }

    /// [`Type::U8`]
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.byte(value);
        self
    }

    /// [`Type::U16`]
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.append(&value.to_le_bytes());
        self
    }

    /// [`Type::U32`] or [`Type::Hex32`]
    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.append(&value.to_le_bytes());
        self
    }

    /// [`Type::NtStatus`]
    pub(super) fn status(&mut self, status: Status) -> &mut Self {
        self.u32(status.0.cast_unsigned())
    }
}

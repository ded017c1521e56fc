//! UTF-16 text of bounded length.

use core::ops::{Deref, DerefMut};

use wdk_sys::UNICODE_STRING;

use crate::ioctl::Status;
use crate::kernel::pool::PoolBox;

/// UTF-16 text of at most `N` units, on the stack or in a device's state.
///
/// For names that the driver makes itself, which are ASCII and of known length. What does not fit
/// is left out.
#[derive(Clone, Copy)]
pub(crate) struct Wide<const N: usize> {
    units: [u16; N],
    length: usize,
}

impl<const N: usize> PartialEq for Wide<N> {
    fn eq(&self, other: &Self) -> bool {
        self.units() == other.units()
    }
}

impl<const N: usize> Eq for Wide<N> {}

impl<const N: usize> Wide<N> {
    /// The text of `ascii`.
    pub(crate) fn new(ascii: &str) -> Self {
        let empty = Self {
            units: [0; N],
            length: 0,
        };
        empty.push(ascii)
    }

    /// The text of `units` up to the first NUL.
    pub(crate) fn from_units(units: &[u16]) -> Self {
        let mut text = Self::new("");
        for unit in units.iter().take_while(|unit| **unit != 0) {
            text.push_unit(*unit);
        }
        text
    }

    /// Whether the text is `ascii`, but for the case of letters.
    pub(crate) fn is(&self, ascii: &str) -> bool {
        self.units().len() == ascii.len()
            && self.units().iter().zip(ascii.bytes()).all(|(unit, byte)| {
                u8::try_from(*unit).is_ok_and(|unit| unit.eq_ignore_ascii_case(&byte))
            })
    }

    /// Whether `part` is somewhere in the text.
    pub(crate) fn contains<const M: usize>(&self, part: &Wide<M>) -> bool {
        let part = part.units();
        part.is_empty() || self.units().windows(part.len()).any(|units| units == part)
    }

    /// The same text with `ascii` behind it.
    pub(crate) fn push(mut self, ascii: &str) -> Self {
        self.append(ascii);
        self
    }

    /// Puts `ascii` behind the text.
    pub(crate) fn append(&mut self, ascii: impl AsRef<[u8]>) {
        for byte in ascii.as_ref() {
            self.push_unit(u16::from(*byte));
        }
    }

    /// The same text with a number behind it, in decimal.
    pub(crate) fn push_number(mut self, number: u32) -> Self {
        let room = self.units.get_mut(self.length..).unwrap_or_default();
        self.length += put_number(room, number);
        self
    }

    fn push_unit(&mut self, unit: u16) {
        if let Some(place) = self.units.get_mut(self.length) {
            *place = unit;
            self.length += 1;
        }
    }

    /// The text.
    pub(crate) fn units(&self) -> &[u16] {
        self.units.get(..self.length).unwrap_or_default()
    }

    /// Where the text is, for kernel clients that are told its address.
    pub(crate) fn address(&self) -> u64 {
        self.units.as_ptr().expose_provenance() as u64
    }

    /// How many units have room behind the text.
    pub(crate) const fn room(&self) -> usize {
        N.saturating_sub(self.length)
    }

    /// A `UNICODE_STRING` over the text. The kernel functions that take one copy it.
    pub(in crate::kernel) fn unicode(&self) -> UNICODE_STRING {
        unicode(self.units())
    }
}

/// Puts a number at the beginning of `room`, in decimal, as far as it fits: how many units. One copy
/// for texts of all lengths.
#[inline(never)]
fn put_number(room: &mut [u16], number: u32) -> usize {
    // From the last digit on: a u32 has ten at the most.
    let mut digits = [0; 10];
    let mut length = 0;
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        // A decimal digit fits.
        *place = u16::from(b'0') + ((rest % 10) & 0xF) as u16;
        length += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.iter().skip(digits.len() - length);
    room.iter_mut()
        .zip(digits)
        .map(|(place, digit)| *place = *digit)
        .count()
}

/// `COUNT` texts in nonpaged pool: together they would be large for a kernel stack.
pub(crate) struct Texts<const COUNT: usize, const N: usize>(PoolBox<[Wide<N>; COUNT]>);

impl<const COUNT: usize, const N: usize> Texts<COUNT, N> {
    /// Empty texts.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_empty() -> Result<Self, Status> {
        // SAFETY: zeroes are an empty text.
        unsafe { PoolBox::try_zeroed() }.map(Self)
    }
}

impl<const COUNT: usize, const N: usize> Deref for Texts<COUNT, N> {
    type Target = [Wide<N>; COUNT];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<const COUNT: usize, const N: usize> DerefMut for Texts<COUNT, N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A `UNICODE_STRING` over `units`, which stays borrowed by the caller for as long as it is used.
pub(in crate::kernel) fn unicode(units: &[u16]) -> UNICODE_STRING {
    // 32,767 units are the most that a UNICODE_STRING can tell.
    let bytes = u16::try_from(units.len().saturating_mul(2)).unwrap_or(0xFFFE);
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_ptr().cast_mut(),
    }
}

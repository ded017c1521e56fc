//! Structures as bytes: one table of members says both ways, how a structure is written and how it
//! is read.

/// A member of a structure: `N` bytes, little-endian.
pub(super) trait Member<const N: usize>: Sized {
    /// Its bytes.
    fn to_le(self) -> [u8; N];
    /// From its bytes.
    fn of_le(bytes: [u8; N]) -> Self;
}

macro_rules! numbers {
    ($($number:ty: $size:literal),*) => {$(
        impl Member<$size> for $number {
            #[inline]
            fn to_le(self) -> [u8; $size] {
                self.to_le_bytes()
            }
            #[inline]
            fn of_le(bytes: [u8; $size]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}

numbers!(u8: 1, u16: 2, u32: 4, u64: 8);

/// Writes a member at its offset, where the structure has room for it.
#[inline]
pub(super) fn put<const OFFSET: usize, const N: usize, const SIZE: usize>(
    bytes: &mut [u8; SIZE],
    member: impl Member<N>,
) {
    const { assert!(OFFSET + N <= SIZE) }
    if let Some(place) = bytes.get_mut(OFFSET..).and_then(<[u8]>::first_chunk_mut) {
        *place = member.to_le();
    }
}

/// Reads a member at its offset.
#[inline]
pub(super) fn get<const OFFSET: usize, const N: usize, const SIZE: usize, M: Member<N>>(
    bytes: &[u8; SIZE],
) -> M {
    const { assert!(OFFSET + N <= SIZE) }
    let member = bytes.get(OFFSET..).and_then(<[u8]>::first_chunk);
    M::of_le(member.copied().unwrap_or([0; N]))
}

/// Gives a structure its `SIZE`, `to_bytes` and `from_bytes`: by the offset of each member.
///
/// Padding and members without a meaning are zero where it is written, and not looked at where it
/// is read.
macro_rules! layout {
    ($name:ident, $size:literal: {
        $($offset:literal => $($field:ident).+: $member:ty),* $(,)?
    }) => {
        impl $name {
            /// Bytes of the structure.
            pub const SIZE: usize = $size;

            /// The structure.
            #[must_use]
            pub fn to_bytes(&self) -> [u8; Self::SIZE] {
                let mut bytes = [0; Self::SIZE];
                $($crate::ioctl::layout::put::<$offset, _, _>(&mut bytes, self.$($field).+);)*
                bytes
            }

            /// Reads the structure.
            #[must_use]
            pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                let mut it = Self::default();
                $(it.$($field).+ = $crate::ioctl::layout::get::<$offset, _, _, $member>(bytes);)*
                it
            }
        }
    };
}
pub(super) use layout;

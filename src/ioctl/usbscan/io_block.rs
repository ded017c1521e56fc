//! `IO_BLOCK` and `IO_BLOCK_EX`, the two structures with a pointer.

use super::{Bitness, Status};

/// `IO_BLOCK`, whose members `IO_BLOCK_EX` begins with.
///
/// | member | native | 32 bits |
/// |---|---|---|
/// | `uOffset` | 0 | 0 |
/// | `uLength` | 4 | 4 |
/// | `pbyData` | 8 | 8 |
/// | `uIndex` | 16 | 12 |
/// | `IO_BLOCK` ends | 24 | 16 |
/// | `bRequest`, `bmRequestType`, `fTransferDirectionIn` of `IO_BLOCK_EX` | 20 … 22 | 16 … 18 |
/// | `IO_BLOCK_EX` ends | 24 | 20 |
///
/// From a 64-bit caller both are 24 bytes: only the code tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoBlock {
    /// `uOffset`
    pub offset: u32,
    /// `uLength`
    pub length: u32,
    /// `pbyData`, zero-extended
    pub data: u64,
    /// `uIndex`
    pub index: u32,
}

/// `IO_BLOCK_EX`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoBlockEx {
    /// The members of `IO_BLOCK`.
    pub block: IoBlock,
    /// `bRequest`
    pub request: u8,
    /// `bmRequestType`. The driver does not use it: with it a client could forge standard requests.
    pub request_type: u8,
    /// `fTransferDirectionIn`
    pub direction_in: bool,
}

/// A block of either kind, as a caller has it in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockBytes {
    bytes: [u8; 24],
    length: usize,
}

impl BlockBytes {
    const EMPTY: Self = Self {
        bytes: [0; 24],
        length: 0,
    };

    /// The structure, its padding zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(mut self, member: &[u8]) -> Self {
        let places = self.bytes.iter_mut().skip(self.length);
        for (place, byte) in places.zip(member) {
            *place = *byte;
        }
        self.length += member.len();
        self
    }
}

impl IoBlock {
    /// Reads the structure.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the input is shorter.
    #[inline]
    pub fn parse(input: &[u8], bitness: Bitness) -> Result<Self, Status> {
        let padding = match bitness {
            Bitness::Native => 4,
            Bitness::Bits32 => 0,
        };
        let (block, rest) = Self::split(input, bitness)?;
        if rest.len() < padding {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(block)
    }

    /// The structure. Of `data` only what a pointer of the caller can say.
    #[must_use]
    pub fn to_bytes(self, bitness: Bitness) -> BlockBytes {
        let members = self.members(bitness);
        match bitness {
            Bitness::Native => members.push(&[0; 4]),
            Bitness::Bits32 => members,
        }
    }

    fn members(self, bitness: Bitness) -> BlockBytes {
        let [d0, d1, d2, d3, ..] = self.data.to_le_bytes();
        let block = BlockBytes::EMPTY
            .push(&self.offset.to_le_bytes())
            .push(&self.length.to_le_bytes());
        match bitness {
            Bitness::Native => block.push(&self.data.to_le_bytes()),
            Bitness::Bits32 => block.push(&[d0, d1, d2, d3]),
        }
        .push(&self.index.to_le_bytes())
    }

    /// The members, and the bytes after them.
    #[inline]
    fn split(input: &[u8], bitness: Bitness) -> Result<(Self, &[u8]), Status> {
        let (offset, rest) = split(input)?;
        let (length, rest) = split(rest)?;
        let (data, rest) = match bitness {
            Bitness::Native => {
                let (data, rest) = split(rest)?;
                (u64::from_le_bytes(data), rest)
            }
            Bitness::Bits32 => {
                let (data, rest) = split(rest)?;
                (u32::from_le_bytes(data).into(), rest)
            }
        };
        let (index, rest) = split(rest)?;
        let block = Self {
            offset: u32::from_le_bytes(offset),
            length: u32::from_le_bytes(length),
            data,
            index: u32::from_le_bytes(index),
        };
        Ok((block, rest))
    }
}

impl IoBlockEx {
    /// Reads the structure.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the input is shorter.
    #[inline]
    pub fn parse(input: &[u8], bitness: Bitness) -> Result<Self, Status> {
        let (block, rest) = IoBlock::split(input, bitness)?;
        let ([request, request_type, direction_in, _], _) = split(rest)?;
        Ok(Self {
            block,
            request,
            request_type,
            direction_in: direction_in != 0,
        })
    }

    /// The structure.
    #[must_use]
    pub fn to_bytes(self, bitness: Bitness) -> BlockBytes {
        self.block.members(bitness).push(&[
            self.request,
            self.request_type,
            self.direction_in.into(),
            0,
        ])
    }
}

/// The first `N` bytes, and the rest.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: there are fewer.
#[inline]
fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Status> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Status::INVALID_PARAMETER)?;
    Ok((*first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: IoBlock = IoBlock {
        offset: 0x1122_3344,
        length: 5,
        data: 0x7FFE_DCBA_9876,
        index: 0x0A0B_0C0D,
    };
    const EXTENDED: IoBlockEx = IoBlockEx {
        block: BLOCK,
        request: 0x9A,
        request_type: 0xC0,
        direction_in: true,
    };

    /// Sizes and offsets as compiled from usbscan.h: uOffset 0, uLength 4, pbyData 8, uIndex 0x10
    /// (0x0C), bRequest 0x14 (0x10), bmRequestType, fTransferDirectionIn.
    #[test]
    fn blocks_have_the_layout_of_a_64_bit_program() {
        let block = BLOCK.to_bytes(Bitness::Native);
        assert_eq!(
            block.as_bytes(),
            [
                0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x7F, 0, 0, 0x0D,
                0x0C, 0x0B, 0x0A, 0, 0, 0, 0
            ]
        );
        let extended = EXTENDED.to_bytes(Bitness::Native);
        assert_eq!(extended.as_bytes()[..20], block.as_bytes()[..20]);
        assert_eq!(extended.as_bytes()[20..], [0x9A, 0xC0, 1, 0]);
    }

    #[test]
    fn blocks_have_the_layout_of_a_32_bit_program() {
        let block = BLOCK.to_bytes(Bitness::Bits32);
        assert_eq!(
            block.as_bytes(),
            [
                0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0, 0x76, 0x98, 0xBA, 0xDC, 0x0D, 0x0C, 0x0B, 0x0A
            ]
        );
        let extended = IoBlockEx {
            request_type: 0x40,
            direction_in: false,
            ..EXTENDED
        }
        .to_bytes(Bitness::Bits32);
        assert_eq!(extended.as_bytes()[..16], *block.as_bytes());
        assert_eq!(extended.as_bytes()[16..], [0x9A, 0x40, 0, 0]);
    }
}

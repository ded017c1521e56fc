//! `IO_BLOCK` and `IO_BLOCK_EX`, the two structures with a pointer.

use super::{Bitness, Status, VendorDirection, VendorRequest};

/// The members of `IO_BLOCK`, which `IO_BLOCK_EX` begins with.
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
#[derive(Clone, Copy)]
pub(super) struct IoBlock {
    /// The low 16 bits of `uOffset`
    value: u16,
    /// `uLength`
    pub(super) length: u16,
    /// `pbyData`
    data: u64,
    /// The low 16 bits of `uIndex`
    index: u16,
    bitness: Bitness,
}

/// What `IO_BLOCK_EX` has after the members of `IO_BLOCK`. `bmRequestType` is not used: with it a
/// client could forge standard requests.
pub(super) struct BlockExtension {
    /// `bRequest`
    pub(super) request: u8,
    /// `fTransferDirectionIn`
    pub(super) is_in: bool,
}

impl IoBlock {
    /// An `IO_BLOCK`.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the input is shorter than the structure, or `uLength` more than
    /// wLength can say (65535).
    pub(super) fn parse(input: &[u8], bitness: Bitness) -> Result<Self, Status> {
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

    /// An `IO_BLOCK_EX`.
    ///
    /// # Errors
    /// As [`IoBlock::parse`].
    pub(super) fn parse_ex(
        input: &[u8],
        bitness: Bitness,
    ) -> Result<(Self, BlockExtension), Status> {
        let (block, rest) = Self::split(input, bitness)?;
        let ([request, _, direction_in, _], _) = split(rest)?;
        let extension = BlockExtension {
            request,
            is_in: direction_in != 0,
        };
        Ok((block, extension))
    }

    /// The common members, and the bytes after them.
    fn split(input: &[u8], bitness: Bitness) -> Result<(Self, &[u8]), Status> {
        let ([v0, v1, ..], rest) = split::<4>(input)?;
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
        let ([i0, i1, ..], rest) = split::<4>(rest)?;
        let block = Self {
            value: u16::from_le_bytes([v0, v1]),
            length: u16::try_from(u32::from_le_bytes(length)).or(Err(Status::INVALID_PARAMETER))?,
            data,
            index: u16::from_le_bytes([i0, i1]),
            bitness,
        };
        Ok((block, rest))
    }

    /// The request that takes its data from the device.
    pub(super) const fn device_to_host(self, request: u8) -> VendorRequest {
        self.vendor(request, VendorDirection::In)
    }

    /// The request that sends `pbyData` to the device.
    ///
    /// # Errors
    /// Where there is data:
    /// * `STATUS_INVALID_PARAMETER`: `pbyData` is null.
    /// * `STATUS_ACCESS_VIOLATION`: its end is beyond the caller's address space.
    pub(super) fn host_to_device(self, request: u8) -> Result<VendorRequest, Status> {
        if self.length != 0 {
            if self.data == 0 {
                return Err(Status::INVALID_PARAMETER);
            }
            let last = match self.bitness {
                Bitness::Native => u64::MAX,
                Bitness::Bits32 => u32::MAX.into(),
            };
            // Bytes that may follow the first one.
            let following = u64::from(self.length).saturating_sub(1);
            if last.saturating_sub(self.data) < following {
                return Err(Status::ACCESS_VIOLATION);
            }
        }
        Ok(self.vendor(request, VendorDirection::Out { data: self.data }))
    }

    const fn vendor(self, request: u8, direction: VendorDirection) -> VendorRequest {
        VendorRequest {
            direction,
            request,
            value: self.value,
            index: self.index,
            length: self.length,
        }
    }
}

/// The first `N` bytes, and the rest.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: there are fewer.
fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Status> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Status::INVALID_PARAMETER)?;
    Ok((*first, rest))
}

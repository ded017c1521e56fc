//! The internal requests of kernel clients: parallel.h.
//!
//! They arrive as `IRP_MJ_INTERNAL_DEVICE_CONTROL` only. Their codes overlap with those of user
//! requests, and what they carry are kernel addresses, so nothing here is ever looked up for
//! another major. Layouts are those of x64: there are no 32-bit drivers beside a 64-bit kernel.
//!
//! Sources: the pages of parallel.h and the guide to parallel ports of the Windows driver
//! documentation; offsets compiled from the public header.

mod class;
mod command;
mod port;

pub use class::{DeviceRequest, DeviceRoutines, ParclassInformation};
pub use command::SelectCommand;
pub use port::{
    ChipMode, InterruptInformation, InterruptServiceRoutine, MoreParallelPortInformation,
    ParallelPnpInformation, ParallelPortInformation, PortRequest, PortRoutines,
};

/// A structure being written, all zero but for the members that are put into it: padding and
/// members without a meaning tell nothing.
struct Layout<const SIZE: usize>([u8; SIZE]);

impl<const SIZE: usize> Layout<SIZE> {
    const EMPTY: Self = Self([0; SIZE]);

    /// Puts a member at its offset.
    fn put<const N: usize>(mut self, offset: usize, member: [u8; N]) -> Self {
        if let Some(place) = self
            .0
            .get_mut(offset..)
            .and_then(<[u8]>::first_chunk_mut::<N>)
        {
            *place = member;
        }
        self
    }

    fn u32(self, offset: usize, member: u32) -> Self {
        self.put(offset, member.to_le_bytes())
    }

    fn u64(self, offset: usize, member: u64) -> Self {
        self.put(offset, member.to_le_bytes())
    }
}

/// A member of a structure that was checked to be long enough.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |member| u64::from_le_bytes(*member))
}

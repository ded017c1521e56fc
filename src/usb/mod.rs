//! What a USB still-image device says of itself, and how its pipes are used.
//!
//! Descriptors come from a device that is not trusted: [`Pipes`] and [`device_descriptor`] take
//! bytes and give checked values, or say what is wrong with them ([`Malformed`]). A file name
//! chooses the endpoints of a handle ([`OpenEndpoints`]). [`BulkRead`] and [`BulkWrite`] say which
//! transfers a `ReadFile` or `WriteFile` is made of. Nothing knows a URB or a kernel type.
#![forbid(unsafe_code)]

mod bulk_read;
mod bulk_write;
mod descriptor;
mod open_endpoints;
mod pipes;

pub use bulk_read::{BulkRead, BulkReadStep};
pub use bulk_write::BulkWrite;
pub use descriptor::{
    CONFIGURATION_HEADER, DEVICE_DESCRIPTOR, MAX_TOTAL_LENGTH, Malformed, device_descriptor,
    has_remote_wakeup, total_length,
};
pub use open_endpoints::OpenEndpoints;
pub use pipes::Pipes;

use core::num::NonZeroU16;

/// The longest transfer that is asked for at once, in bytes: the least that all host controllers
/// carry on every speed, by Microsoft's page on USB bandwidth allocation.
const MAX_TRANSFER: usize = 0x1_0000;

/// How many of `wanted` bytes go in one transfer of whole packets. 0: there is not one whole
/// packet.
fn whole_packets(wanted: usize, max_packet_size: NonZeroU16) -> usize {
    let length = wanted.min(MAX_TRANSFER);
    let partial = length
        .checked_rem(max_packet_size.get().into())
        .unwrap_or_default();
    length.saturating_sub(partial)
}

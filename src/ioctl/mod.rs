//! Control codes and the layouts of requests and answers.
//!
//! Pure parsing and encoding: bytes in, values out. Nothing here knows an IRP or a kernel type, so
//! all of it runs in ordinary tests on any host.
//!
//! A code is dispatched on (device object, major function, code), never on the code alone: eight
//! numbers of `ntddpar.h` and `parallel.h` mean different things as a user request and as an
//! internal one. Hence one parser a device and major: [`parallel::UserRequest`],
//! [`parallel::DeviceRequest`], [`parallel::PortRequest`], [`usbscan::UsbscanRequest`].
//!
//! Each is called once for a request, in the dispatch routine. What it gives says where the request
//! is answered, at once (`Immediate`) or by a queue (`Queued`), and is all that is known of it from
//! there on: it travels with the IRP. So nothing is checked twice, and no code is looked at again.
//!
//! Structures are tables of members, from which both ways come: the driver's, and that of the
//! client library and parscanctl, which use the same types.
//!
//! To add a request: one file beside the others with its code, its structure and its checks, one
//! arm in the parser of its device, and one arm where it is done, which the compiler asks for then.
//! What each request does is in the page that follows.
//!
#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

mod layout;
pub mod parallel;
mod status;
pub mod usbscan;

pub use status::Status;

/// The device type of every parallel-port request (`FILE_DEVICE_PARALLEL_PORT`, devioctl.h).
pub const FILE_DEVICE_PARALLEL_PORT: u32 = 0x16;

/// The code of a `METHOD_BUFFERED`, `FILE_ANY_ACCESS` request: `CTL_CODE` of devioctl.h.
#[must_use]
pub const fn buffered_code(device_type: u32, function: u32) -> u32 {
    (device_type << 16) | (function << 2)
}

/// `FILE_READ_ACCESS`: the I/O manager lets only handles that may read send the request.
pub const FILE_READ_ACCESS: u32 = 1;
/// `FILE_WRITE_ACCESS`: only handles that may write.
pub const FILE_WRITE_ACCESS: u32 = 2;

/// As [`buffered_code`], for handles that have `access`.
#[must_use]
pub const fn buffered_code_with_access(device_type: u32, function: u32, access: u32) -> u32 {
    buffered_code(device_type, function) | (access << 14)
}

/// The first `N` bytes of the input. `None`, if it is shorter.
fn take<const N: usize>(input: &[u8]) -> Option<[u8; N]> {
    input.first_chunk().copied()
}

/// Whether an answer of `needed` bytes fits.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`
const fn fits(output_length: usize, needed: usize) -> Result<(), Status> {
    if output_length < needed {
        Err(Status::BUFFER_TOO_SMALL)
    } else {
        Ok(())
    }
}

//! The still-image role: a USB scanner or camera, with the requests of usbscan.h.
//!
//! ```text
//! programs                 \\.\UsbscanN, \\.\UsbscanN\index, GUID_DEVINTERFACE_IMAGE
//!    |
//! Open, one a handle       four queues: events, reads, writes, control. Each serves its
//!    |                     requests one after the other, and none waits for another
//! Scanner (FDO)            \Device\UsbscanN: start and stop, power, pipes
//!    |                     URBs
//! USB stack
//! ```
//!
//! What a request needs is parsed by [`crate::ioctl::usbscan`]; which pipes a handle has, and which
//! transfers a read or write is made of, says [`crate::usb`]. Here they meet requests: what a
//! pipe queue does is told by its `Plan`.
//!
//! Three deviations from the documentation: events have no time-out before a program sets one, a
//! time-out beyond 214 seconds is 214 seconds, and `IOCTL_SEND_USB_REQUEST` that reads has
//! `USBD_TRANSFER_DIRECTION_IN`. All are in [`crate::ioctl::usbscan`]. A time-out runs from the
//! moment in which a request's turn comes, whatever the request is made of.
//!
//! While no handle is open the device may be suspended, if the registry says so; requests wait for
//! it to come back.
//!
//! However a read or write ends, the bytes that were moved are told: a read whose time is over
//! succeeds with them, any other failure has them as its Information. What a packet had beyond a
//! read is the next one's, unless what went on in the pipe was aborted.

mod buffer_cache;
mod control;
mod event;
mod limits;
mod open;
mod plan;
mod read;
mod reset;
mod scanner;
mod scanner_core;
mod suspend;
mod write;

pub(crate) use scanner::{Scanner, add_scanner};

use buffer_cache::BufferCache;
use limits::Limits;
use open::Open;
use scanner_core::{OpenPipe, ScannerCore};

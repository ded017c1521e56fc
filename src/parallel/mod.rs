//! The parallel role: a port object for the hardware, and device objects for what is attached to
//! it.
//!
//! ```text
//! programs                 \\.\LPTn, GUID_DEVINTERFACE_PARCLASS
//! class drivers               requests and routines of parallel.h
//!    |                            |
//! ParallelDevice (PDO)     \Device\ParallelM, and \Device\ParallelM.x for what says who it is.
//!    |                     Exclusive: requests queue to its worker
//!    |
//! Port (FDO)               \Device\ParallelPortM, shared: kernel clients allocate the port
//!    |
//! PDO of ACPI or PCI       I/O ranges
//! ```
//!
//! M is n - 1. All of them share a [`PortCore`]: it has the [`Hardware`], which is there between
//! the start and the stop of the port, and one queue for all that want to use it. A worker takes
//! the port for each request; a class driver locks it and then calls the routines that it was given
//! (its [`DeviceCore`] has them), and a client of the port object allocates it and uses the
//! registers itself. Requests that arrive while the port is stopped wait for the next start.

mod cards;
mod device;
mod device_core;
mod edges;
mod hardware;
mod identity;
mod lines;
mod number;
mod port;
mod port_core;

pub(crate) use device::ParallelDevice;
pub(crate) use port::{ParallelPort, add_port};

use device_core::DeviceCore;
use hardware::Hardware;
use identity::Identity;
use number::{Place, PortNumber};
use port_core::PortCore;

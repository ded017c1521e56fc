//! The parallel role: a port object for the hardware, a device object for what is attached to it.
//!
//! ```text
//! user programs            \\.\LPTn, GUID_DEVINTERFACE_PARCLASS
//!    |
//! ParallelDevice (PDO)     \Device\ParallelM, exclusive: requests queue to its worker
//!    |
//! Port (FDO)               \Device\ParallelPortM, shared: owns the hardware
//!    |
//! PDO of ACPI or PCI       I/O ranges
//! ```
//!
//! M is n - 1. Both objects share the port's [`Hardware`], which is there between the start and
//! the stop of the port; requests that arrive while it is stopped wait for the next start.

mod device;
mod hardware;
mod number;
mod port;
mod requests;

pub(crate) use device::ParallelDevice;
pub(crate) use port::{Port, add_port};

use hardware::Hardware;
use number::PortNumber;

use crate::kernel::{Gate, Shared};

/// The hardware of a port, for everybody who may use it.
type SharedHardware = Shared<Gate<Hardware>>;

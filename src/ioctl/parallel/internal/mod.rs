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

pub use class::{
    DeviceRequest, DeviceRoutines, ImmediateDeviceRequest, ParclassInformation, QueuedDeviceRequest,
};
pub use command::SelectCommand;
pub use port::{
    ChipMode, ImmediatePortRequest, InterruptInformation, InterruptServiceRoutine,
    MoreParallelPortInformation, ParallelPnpInformation, ParallelPortInformation, PortRequest,
    PortRoutines, QueuedPortRequest,
};

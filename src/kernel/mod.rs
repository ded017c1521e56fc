//! Safe types over `wdk-sys`: the only room with FFI and `unsafe`.
//!
//! Nothing here knows a parallel port or a USB device. Three rules of the kernel become types:
//! * an [`Irp`] is a value that exactly one of `complete`, `forward` and `queue` consumes, and a
//!   dispatch routine must return the [`Disposition`] that they give back: completing twice and
//!   touching a completed IRP do not compile, and an image with a path that forgets one does not
//!   link;
//! * what may block takes a [`Passive`] token, which only code that runs at `PASSIVE_LEVEL` is
//!   given, and which cannot be carried into a [`SpinLock`]'s critical section;
//! * memory comes from `try_` functions only: running out of it is a status.

mod callbacks;
mod cancel;
mod device;
mod dispatch;
mod driver;
mod guid;
mod interface;
mod interrupt;
mod io_port;
mod irp;
mod irql;
mod layout;
mod line;
mod members;
mod open;
mod pnp;
mod pool;
mod power;
mod queue;
mod registry;
mod resources;
mod security;
mod string;
mod supply;
mod sync;
mod time;
mod usb;
mod user;
mod wait;
mod work;
mod worker;

pub(crate) use callbacks::{DeviceCallbacks, PortCallbacks, device_routines, port_routines};
pub(crate) use device::{Device, DeviceOptions, Lower, OwnedDevice, PhysicalDevice};
pub(crate) use driver::{Driver, Role, initialize};
pub(crate) use guid::Guid;
pub(crate) use interface::{Interface, SymbolicLink};
pub(crate) use interrupt::{Interrupt, InterruptOwner};
pub(crate) use io_port::{IoRange, PortSpace};
pub(crate) use irp::{Create, Disposition, FileId, Irp, Request, TransferKind};
pub(crate) use irql::{Blocking, Passive, unpreempted};
pub(crate) use line::{Accepts, Line, Owner, Patience};
pub(crate) use members::Members;
pub(crate) use pnp::{BusInformation, Child, ChildText, Function, ID_UNITS, Pnp, State};
pub(crate) use pool::{Buffer, Shared};
pub(crate) use registry::{Key, PciIdentity, Property, Text};
pub(crate) use resources::{Bus, InterruptResource, Resource, Resources};
pub(crate) use security::SecurityDescriptor;
pub(crate) use string::{Texts, Wide};
pub(crate) use supply::PowerSupply;
pub(crate) use sync::{Gate, Inside, Leave, SpinLock};
pub(crate) use time::{duration_of, microseconds, milliseconds, nanoseconds, stall};
pub(crate) use usb::{
    Channel, ChannelOptions, Data, End, Exchange, Next, PipeHandle, SelectedPipe, Time, Traffic,
    Transfer, UsbDevice, VendorTransfer, flush_deferred,
};
pub(crate) use user::Requester;
pub(crate) use wait::{Taken, Turn, Waiter, Waits};
pub(crate) use work::{PassiveWork, WorkItem};
pub(crate) use worker::{Task, Worker};

use crate::ioctl::Status;

/// The pool tag of everything this driver allocates by itself: "Pscn" in tools that list tags.
const TAG: u32 = u32::from_le_bytes(*b"Pscn");

/// `KernelMode` of `MODE`, as the functions want it.
const KERNEL_MODE: wdk_sys::KPROCESSOR_MODE = 0;

/// The size of a structure, as the kernel's functions want it.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked at compile time; try_from is not const"
)]
const fn size<T>() -> u32 {
    const { assert!(size_of::<T>() <= u32::MAX as usize) }
    size_of::<T>() as u32
}

/// A status that is an error or a warning becomes `Err`.
fn check(status: wdk_sys::NTSTATUS) -> Result<(), Status> {
    if wdk::nt_success(status) {
        Ok(())
    } else {
        Err(Status(status))
    }
}

//! Safe types over `wdk-sys`: the only module with FFI and `unsafe`.
//!
//! | module | what lives there |
//! |---|---|
//! | `base` | IRQL tokens, locks, waits, time, pool, strings |
//! | `objects` | the I/O manager's objects: driver, device, open, IRP, queue, worker, work item |
//! | `lifecycle` | PnP, power, resources, registry, names and security of a device |
//! | `port` | a shared parallel port: arbiter, port I/O, interrupt, the C routines of parallel.h |
//! | `usb` | URBs, and the requests that they carry |
//!
//! `base`, `objects` and `lifecycle` know no parallel port and no USB device: they are generic over
//! the [`Role`] of a device object. Three rules of the kernel become types:
//! * an [`Irp`] is a value that exactly one of `complete`, `forward` and `queue` consumes, and a
//!   dispatch routine must return the [`Disposition`] that they give back: completing twice and
//!   touching a completed IRP do not compile, and an image with a path that forgets one does not
//!   link;
//! * what may block takes a [`Passive`] token, which only code that runs at `PASSIVE_LEVEL` is
//!   given, and which cannot be carried into a [`SpinLock`]'s critical section;
//! * memory comes from `try_` functions only: running out of it is a status.

mod base;
mod lifecycle;
mod objects;
mod port;
mod trace;
mod usb;

use base::{guid, irql, pool, string, sync, time, wait};
use lifecycle::{idle, interface, pnp, power, registry, resources, security, supply};
use objects::{
    cancel, device, dispatch, driver, irp, open, pending, queue, shared_list, user, work, worker,
};
use port::{arbiter, callbacks, interrupt, io_port};

pub(crate) use arbiter::{AcquireTimeout, Granter, Owner, Owners, PortArbiter};
pub(crate) use callbacks::{DeviceCallbacks, PortCallbacks, device_routines, port_routines};
pub(crate) use device::{Device, DeviceOptions, Lower, OwnedDevice, PhysicalDevice};
pub(crate) use driver::{Driver, Role, initialize};
pub(crate) use guid::Guid;
pub(crate) use idle::{Suspend, SuspendSettings};
pub(crate) use interface::{Interface, SymbolicLink};
pub(crate) use interrupt::{Interrupt, InterruptOwner};
pub(crate) use io_port::{IoPort, IoRange, PortSpace};
pub(crate) use irp::{Create, Disposition, FileId, Irp, Request};
pub(crate) use irql::{Blocking, Passive, unpreempted};
pub(crate) use pending::{Pending, PendingOwner};
pub(crate) use pnp::{
    BusInformation, ChildDevice, ChildText, Children, FunctionDevice, ID_UNITS, Pnp, State,
};
pub(crate) use pool::{Buffer, Shared, Slot};
pub(crate) use registry::{Key, PciIdentity, Property, Text};
pub(crate) use resources::{Bus, InterruptResource, Resource, Resources};
pub(crate) use security::SecurityDescriptor;
pub(crate) use shared_list::SharedList;
pub(crate) use string::{Texts, Wide};
pub(crate) use supply::PowerSupply;
pub(crate) use sync::{LeaveReason, Rundown, RundownGuard, SpinLock};
pub(crate) use time::{
    counter_frequency, duration_of, microseconds, milliseconds, nanoseconds, stall,
};
pub(crate) use trace::{At, StartFailure, event};
pub(crate) use usb::{
    Data, DeviceUrbGate, PipeHandle, PipeQueue, PipeQueueOptions, PlanEnd, PlanStep,
    PowerCapabilities, SelectedPipe, TimeLimit, TransferPlan, UrbTransfer, UsbDevice,
    VendorTransfer, flush_deferred,
};
pub(crate) use user::Requester;
pub(crate) use wait::{Mutex, MutexGuard, Waiter, Waits};
pub(crate) use work::{PassiveWork, WorkItem};
pub(crate) use worker::{Server, Task, Worker};

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

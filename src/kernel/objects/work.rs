//! How PnP and power requests of a function device reach `PASSIVE_LEVEL`.

use core::ptr::NonNull;

use wdk_sys::{
    _IO_WORKITEM as IO_WORKITEM, _WORK_QUEUE_TYPE, PIO_WORKITEM_ROUTINE,
    ntddk::{IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem},
};

use crate::ioctl::Status;
use crate::kernel::{Device, Irp, Passive, PowerSupply, Role, Shared, wait::Mutex};

/// A work item of a device object.
pub(crate) struct WorkItem(NonNull<IO_WORKITEM>);

// SAFETY: the kernel synchronises the use of a work item.
unsafe impl Send for WorkItem {}
// SAFETY: likewise.
unsafe impl Sync for WorkItem {}

impl WorkItem {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        // SAFETY: the object is live, and outlives its role, which has the item.
        let item = unsafe { IoAllocateWorkItem(device.raw()) };
        NonNull::new(item)
            .map(Self)
            .ok_or(Status::INSUFFICIENT_RESOURCES)
    }

    /// Has `routine` called at `PASSIVE_LEVEL`, with the device object and the IRP, which is
    /// pending and belongs to the routine then. At <= `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The item is not queued.
    pub(in crate::kernel) unsafe fn queue(&self, routine: PIO_WORKITEM_ROUTINE, irp: Irp) {
        let irp = irp.into_raw();
        // SAFETY: allocated, and the caller's promise. It does not allocate.
        unsafe {
            IoQueueWorkItem(
                self.0.as_ptr(),
                routine,
                _WORK_QUEUE_TYPE::DelayedWorkQueue,
                irp.as_ptr().cast(),
            );
        }
    }
}

impl WorkItem {
    /// As [`WorkItem::queue`], without an IRP. The driver's own remove lock is held for the
    /// routine.
    ///
    /// # Safety
    /// The item is not queued.
    pub(in crate::kernel) unsafe fn queue_bare(&self, routine: PIO_WORKITEM_ROUTINE) {
        // SAFETY: allocated, and the caller's promise.
        unsafe {
            IoQueueWorkItem(
                self.0.as_ptr(),
                routine,
                _WORK_QUEUE_TYPE::DelayedWorkQueue,
                core::ptr::null_mut(),
            );
        }
    }
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        // SAFETY: allocated, and not queued: its request would hold the device.
        unsafe { IoFreeWorkItem(self.0.as_ptr()) };
    }
}

/// What carries the requests of a function device from their completion routines to
/// `PASSIVE_LEVEL`. Of each kind there is one at a time: the PnP manager waits for each of its
/// requests, and so does the power manager. Allocated with the device: a device that falls asleep
/// must not need memory.
pub(crate) struct PassiveWork {
    /// For PnP requests.
    pub(in crate::kernel) pnp: WorkItem,
    /// For `FILTER_RESOURCE_REQUIREMENTS`, which may come at any time.
    pub(in crate::kernel) requirements: WorkItem,
    /// For system power requests.
    pub(in crate::kernel) system: WorkItem,
    /// For device power requests.
    pub(in crate::kernel) device: WorkItem,
    /// Its power, and who asks for it.
    power: Shared<PowerSupply>,
    /// For the thread that changes what the device may do: PnP and power requests come at the same
    /// time.
    lock: Mutex,
}

impl PassiveWork {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            pnp: WorkItem::try_new(device)?,
            requirements: WorkItem::try_new(device)?,
            system: WorkItem::try_new(device)?,
            device: WorkItem::try_new(device)?,
            power: PowerSupply::try_new(device)?,
            lock: Mutex::try_new()?,
        })
    }

    /// The device's power.
    pub(crate) const fn power(&self) -> &Shared<PowerSupply> {
        &self.power
    }

    /// Runs `act` while no other PnP or power request of the device acts.
    pub(in crate::kernel) fn alone<T>(&self, passive: Passive, act: impl FnOnce() -> T) -> T {
        let _turn = self.lock.lock_uninterrupted(passive.blocking());
        act()
    }
}

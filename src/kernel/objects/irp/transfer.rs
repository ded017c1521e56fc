//! What a request needs on its way through the USB stack: its buffer, its next stack location, and
//! the hold that it leaves behind.
//!
//! Others write to an IRP while it is this driver's (the I/O manager its `Cancel`), and to its MDL
//! (a driver that maps it): both are read by member, and no reference to either is made.

use core::{
    ffi::c_void,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU8, Ordering},
};

use wdk_sys::{
    _MEMORY_CACHING_TYPE, IO_STACK_LOCATION, IRP, IRP_MJ_INTERNAL_DEVICE_CONTROL, MDL,
    MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, PIO_COMPLETION_ROUTINE, PVOID,
    ntddk::{IoIs32bitProcess, IofCompleteRequest, MmMapLockedPagesSpecifyCache},
};

use super::{INVOKE_ALWAYS, Irp, NO_BOOST, TransferKind, tag_of};
use crate::{
    ioctl::Status,
    kernel::{KERNEL_MODE, device::RemoveLock, usb::IOCTL_INTERNAL_USB_SUBMIT_URB},
};

/// `NormalPagePriority | MdlMappingNoExecute`
const PRIORITY: u32 = 16 | 0x4000_0000;

impl Irp {
    pub(in crate::kernel) const fn raw(&self) -> NonNull<IRP> {
        self.raw
    }

    /// Whether the request comes from a 32-bit program, whose pointers are that wide.
    pub(crate) fn is_from_32_bit_process(&self) -> bool {
        // SAFETY: <= DISPATCH_LEVEL, with the IRP as it came to this driver.
        self.is_from_user() && unsafe { IoIs32bitProcess(self.raw.as_ptr()) } != 0
    }

    /// What an `IRP_MJ_CREATE` named behind the device, UTF-16.
    pub(crate) fn file_name(&self) -> &[u16] {
        let file = self.file().0;
        if file.is_null() {
            return &[];
        }
        // SAFETY: a CREATE has a file object, which lives as long as the IRP.
        let name = unsafe { (*file).FileName };
        if name.Buffer.is_null() || name.Length == 0 {
            return &[];
        }
        // SAFETY: the I/O manager's string, which does not change while the CREATE is under way.
        unsafe { slice::from_raw_parts(name.Buffer, usize::from(name.Length) / 2) }
    }

    /// Whether the request was cancelled.
    pub(in crate::kernel) fn is_cancelled(&self) -> bool {
        // SAFETY: a place in a live IRP; nothing is read.
        let flag = unsafe { &raw mut (*self.raw.as_ptr()).Cancel };
        // SAFETY: likewise; the I/O manager sets it from any thread.
        let flag = unsafe { AtomicU8::from_ptr(flag) };
        flag.load(Ordering::Relaxed) != 0
    }

    /// The pages of a direct read or write. `None`: it is a buffered one, or has no bytes.
    pub(in crate::kernel) fn mdl(&self) -> Option<NonNull<MDL>> {
        // SAFETY: the IRP is live, and the member does not change while it is ours.
        NonNull::new(unsafe { (*self.raw.as_ptr()).MdlAddress })
    }

    /// `length` bytes of the buffer of a buffered read or write, from `offset` on: nonpaged memory
    /// of the I/O manager. `None`: they are not all in it.
    pub(in crate::kernel) fn buffered(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let buffer = self.system_buffer();
        let end = offset.checked_add(length)?;
        let fits = self.transfer().is_some() && !buffer.is_null() && end <= self.transfer_length();
        fits.then(|| buffer.wrapping_add(offset))
    }

    /// The buffer of a device control request, if its output has `length` bytes.
    #[inline]
    pub(in crate::kernel) fn output(&self, length: usize) -> Option<*mut u8> {
        let buffer = self.system_buffer();
        let fits = length == 0 || !buffer.is_null() && length <= self.output_length();
        fits.then_some(buffer)
    }

    /// Writes `bytes` to the output of a device control request, as many as fit: how many those
    /// are.
    pub(in crate::kernel) fn put_output(&self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.output_length());
        match self.output(length) {
            Some(to) if length != 0 => {
                // SAFETY: the I/O manager allocated at least the output length; `bytes` lie
                // elsewhere.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), length) };
                length
            }
            _ => 0,
        }
    }

    /// What a read or write tells that ends with an error after `moved` bytes: how many of them
    /// are where they belong. Of a buffered read that failed the caller gets none.
    pub(crate) fn told(&self, moved: usize) -> usize {
        let is_lost = self.mdl().is_none() && self.transfer() == Some(TransferKind::Read);
        if is_lost { 0 } else { moved }
    }

    /// Copies `bytes` to the buffer of a read, from `offset` on. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`: the buffer could not be mapped. `STATUS_INVALID_PARAMETER`:
    /// it ends before.
    pub(crate) fn copy_to_caller(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Status> {
        let to = match self.mdl() {
            Some(mdl) => mapped(mdl, offset, bytes.len())?,
            None => self
                .buffered(offset, bytes.len())
                .ok_or(Status::INVALID_PARAMETER)?,
        };
        // SAFETY: as many bytes have room; they are the driver's own, so nothing overlaps.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Whether the bytes of a read or write are in the requester's pages (`DO_DIRECT_IO` of the
    /// device on top of the stack), and not in a buffer of the I/O manager's.
    pub(crate) fn is_direct(&self) -> bool {
        self.system_buffer().is_null() && self.mdl().is_some()
    }

    /// Fills `into` with the beginning of a direct write's bytes, which the requester may change at
    /// any time. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// As [`Irp::copy_to_caller`].
    pub(crate) fn copy_from_caller(&self, into: &mut [u8]) -> Result<(), Status> {
        let mdl = self.mdl().ok_or(Status::INVALID_PARAMETER)?;
        let from = mapped(mdl, 0, into.len())?;
        // SAFETY: as many bytes are there; `into` is the driver's own, so nothing overlaps.
        unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Sends the request on its way to the USB stack as a URB: fills the next stack location. It
    /// is still this driver's to be sent; `routine` gets it back.
    pub(in crate::kernel) fn set_urb(
        &mut self,
        urb: *mut c_void,
        routine: PIO_COMPLETION_ROUTINE,
        context: PVOID,
    ) {
        // SAFETY: the stack size of this device is one more than the lower one's, so there is a
        // next location, below the current one.
        let next = unsafe { self.current().sub(1) };
        // SAFETY: the location is ours until the IRP is sent.
        unsafe { next.write(submit_urb(urb, routine, context)) };
    }

    /// As [`Irp::complete_with`], for a request that is pending; its reference of the remove lock
    /// is not given up, and comes back.
    pub(in crate::kernel) fn complete_keeping_hold(
        self,
        status: Status,
        information: usize,
    ) -> KeptHold {
        self.set_status(status, information);
        let (tag, lock) = self.into_parts();
        // SAFETY: the IRP is ours, and this consumes it; <= DISPATCH_LEVEL, no lock held.
        unsafe { IofCompleteRequest(tag.as_ptr(), NO_BOOST) };
        KeptHold { lock, tag }
    }
}

/// What a completed request held: its device, with all that belongs to it, is not removed and the
/// driver not unloaded before this is dropped.
#[must_use = "the device stays until this is dropped"]
pub(in crate::kernel) struct KeptHold {
    lock: RemoveLock,
    /// Only compared: the IRP is gone.
    tag: NonNull<IRP>,
}

impl Drop for KeptHold {
    fn drop(&mut self) {
        // SAFETY: the request acquired it with this tag, and did not give it up.
        unsafe { self.lock.release(tag_of(self.tag)) };
    }
}

/// Where `length` bytes of locked pages are in system memory, from `offset` on:
/// `MmGetSystemAddressForMdlSafe`. At <= `DISPATCH_LEVEL`.
///
/// # Errors
/// As [`Irp::copy_to_caller`].
fn mapped(mdl: NonNull<MDL>, offset: usize, length: usize) -> Result<*mut u8, Status> {
    let raw = mdl.as_ptr();
    // SAFETY: the I/O manager's MDL, which lives as long as the IRP; the member does not change.
    let count = unsafe { (*raw).ByteCount };
    if offset
        .checked_add(length)
        .is_none_or(|end| end > count as usize)
    {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: likewise; a driver that maps it writes the member, and that is done by its owner
    // alone.
    let flags = unsafe { (*raw).MdlFlags };
    let is_mapped = u32::from(flags.cast_unsigned())
        & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)
        != 0;
    let start = if is_mapped {
        // SAFETY: likewise.
        unsafe { (*raw).MappedSystemVa }
    } else {
        // SAFETY: its pages are locked; the mapping goes with them, when the request ends.
        unsafe {
            MmMapLockedPagesSpecifyCache(
                raw,
                KERNEL_MODE,
                _MEMORY_CACHING_TYPE::MmCached,
                core::ptr::null_mut(),
                0,
                PRIORITY.cast_signed(),
            )
        }
    };
    let start = NonNull::new(start.cast::<u8>()).ok_or(Status::INSUFFICIENT_RESOURCES)?;
    // Inside the buffer, as checked.
    Ok(start.as_ptr().wrapping_add(offset))
}

/// The stack location of `IOCTL_INTERNAL_USB_SUBMIT_URB`.
pub(in crate::kernel) fn submit_urb(
    urb: *mut c_void,
    routine: PIO_COMPLETION_ROUTINE,
    context: PVOID,
) -> IO_STACK_LOCATION {
    const MAJOR: u8 = {
        assert!(IRP_MJ_INTERNAL_DEVICE_CONTROL == 0x0F);
        0x0F
    };
    let mut stack = IO_STACK_LOCATION {
        MajorFunction: MAJOR,
        Control: INVOKE_ALWAYS,
        CompletionRoutine: routine,
        Context: context,
        ..IO_STACK_LOCATION::default()
    };
    stack.Parameters.Others.Argument1 = urb;
    stack.Parameters.DeviceIoControl.IoControlCode = IOCTL_INTERNAL_USB_SUBMIT_URB;
    stack
}

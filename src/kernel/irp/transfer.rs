//! What a request needs on its way through the USB stack: its direct buffer, and its next stack
//! location.

use core::{ffi::c_void, ptr::NonNull, slice};

use wdk_sys::{
    _MEMORY_CACHING_TYPE, IO_STACK_LOCATION, IRP, IRP_MJ_INTERNAL_DEVICE_CONTROL, MDL,
    MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL, PIO_COMPLETION_ROUTINE, PVOID,
    ntddk::{IoIs32bitProcess, MmMapLockedPagesSpecifyCache},
};

use super::{INVOKE_ALWAYS, Irp};
use crate::{
    ioctl::Status,
    kernel::{KERNEL_MODE, usb::IOCTL_INTERNAL_USB_SUBMIT_URB},
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
        // SAFETY: a CREATE has a file object, which lives as long as the IRP.
        let Some(file) = (unsafe { self.stack().FileObject.as_ref() }) else {
            return &[];
        };
        let name = file.FileName;
        if name.Buffer.is_null() || name.Length == 0 {
            return &[];
        }
        // SAFETY: the I/O manager's string, which does not change while the CREATE is under way.
        unsafe { slice::from_raw_parts(name.Buffer, usize::from(name.Length) / 2) }
    }

    /// Whether somebody cancelled the request.
    pub(in crate::kernel) fn is_cancelled(&self) -> bool {
        // SAFETY: a place in a live IRP; nothing is read.
        let flag = unsafe { &raw const (*self.raw.as_ptr()).Cancel };
        // SAFETY: likewise; the I/O manager sets it from any thread.
        unsafe { flag.read_volatile() != 0 }
    }

    /// The pages of a direct read or write.
    pub(in crate::kernel) fn mdl(&self) -> Option<NonNull<MDL>> {
        // SAFETY: a place in a live IRP; nothing is read.
        let mdl = unsafe { &raw const (*self.raw.as_ptr()).MdlAddress };
        // SAFETY: it does not change while the IRP is ours.
        NonNull::new(unsafe { mdl.read() })
    }

    /// The buffer of a device control request, if its output has `length` bytes.
    pub(in crate::kernel) fn output(&self, length: usize) -> Option<*mut u8> {
        let buffer = self.system_buffer();
        let fits = length == 0 || !buffer.is_null() && length <= self.output_length();
        fits.then_some(buffer)
    }

    /// Copies `bytes` to the buffer of a direct read, from `offset` on. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`: the buffer could not be mapped. `STATUS_INVALID_PARAMETER`:
    /// it ends before.
    pub(crate) fn copy_to_caller(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Status> {
        let start = self.direct_buffer(offset, bytes.len())?;
        // SAFETY: as many bytes have room; they are the driver's own, so nothing overlaps.
        unsafe {
            start
                .as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
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
        let start = self.direct_buffer(0, into.len())?;
        // SAFETY: as many bytes are there; `into` is the driver's own, so nothing overlaps.
        unsafe {
            start
                .as_ptr()
                .copy_to_nonoverlapping(into.as_mut_ptr(), into.len());
        }
        Ok(())
    }

    /// Where `length` bytes of the buffer of a direct request are, from `offset` on.
    fn direct_buffer(&self, offset: usize, length: usize) -> Result<NonNull<u8>, Status> {
        let mdl = self.mdl().ok_or(Status::INVALID_PARAMETER)?;
        let (flags, mapped, count) = {
            // SAFETY: the I/O manager's MDL, which lives as long as the IRP.
            let mdl = unsafe { mdl.as_ref() };
            (mdl.MdlFlags, mdl.MappedSystemVa, mdl.ByteCount as usize)
        };
        if offset.checked_add(length).is_none_or(|end| end > count) {
            return Err(Status::INVALID_PARAMETER);
        }
        // MmGetSystemAddressForMdlSafe
        let is_mapped = u32::from(flags.cast_unsigned())
            & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)
            != 0;
        let start = if is_mapped {
            mapped
        } else {
            // SAFETY: its pages are locked; the mapping goes with them, when the request ends.
            unsafe {
                MmMapLockedPagesSpecifyCache(
                    mdl.as_ptr(),
                    KERNEL_MODE,
                    _MEMORY_CACHING_TYPE::MmCached,
                    core::ptr::null_mut(),
                    0,
                    PRIORITY.cast_signed(),
                )
            }
        };
        let start = NonNull::new(start.cast::<u8>()).ok_or(Status::INSUFFICIENT_RESOURCES)?;
        // SAFETY: inside the buffer, as checked.
        Ok(unsafe { start.add(offset) })
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

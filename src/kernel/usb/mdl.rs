//! MDLs that describe parts of other MDLs.

use core::ptr::NonNull;

use wdk_sys::{
    MDL, MDL_PARTIAL_HAS_BEEN_MAPPED,
    ntddk::{IoAllocateMdl, IoBuildPartialMdl, IoFreeMdl, MmUnmapLockedPages},
};

use crate::ioctl::Status;

/// The longest part that is described, in bytes.
const LONGEST: u32 = 0x1_0000;
/// The worst place of a part in its first page.
const PAGE_END: usize = 0xFFF;

/// An MDL for parts of other MDLs, of 64 KiB at most.
pub(super) struct PartialMdl(NonNull<MDL>);

// SAFETY: the MDL belongs to this value.
unsafe impl Send for PartialMdl {}

impl PartialMdl {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new() -> Result<Self, Status> {
        // SAFETY: the address only says how many pages there may be.
        let mdl = unsafe {
            IoAllocateMdl(
                core::ptr::without_provenance_mut(PAGE_END),
                LONGEST,
                0,
                0,
                core::ptr::null_mut(),
            )
        };
        NonNull::new(mdl)
            .map(Self)
            .ok_or(Status::INSUFFICIENT_RESOURCES)
    }

    /// Describes `length` bytes of `source` from `offset` on. `None`: they are not all in it, or
    /// there are none, or too many.
    ///
    /// # Safety
    /// `source` is a live MDL of locked pages; they stay so until [`PartialMdl::prepare`].
    #[inline]
    pub(super) unsafe fn describe(
        &mut self,
        source: NonNull<MDL>,
        offset: usize,
        length: usize,
    ) -> Option<NonNull<MDL>> {
        self.prepare();
        // By member: a driver that maps the source writes to other members of it.
        let whole = source.as_ptr();
        // SAFETY: the caller's promise; the member does not change.
        let count = unsafe { (*whole).ByteCount };
        let end = offset.checked_add(length)?;
        let bytes = u32::try_from(length).ok().filter(|it| *it <= LONGEST)?;
        if bytes == 0 || end > count as usize {
            return None;
        }
        // SAFETY: likewise.
        let page = unsafe { (*whole).StartVa };
        // SAFETY: likewise.
        let in_page = unsafe { (*whole).ByteOffset };
        // MmGetMdlVirtualAddress
        let start = page
            .wrapping_byte_add(in_page as usize)
            .wrapping_byte_add(offset);
        // SAFETY: the part is inside the source, and the target has room for its pages.
        unsafe { IoBuildPartialMdl(source.as_ptr(), self.0.as_ptr(), start, bytes) };
        Some(self.0)
    }

    /// `MmPrepareMdlForReuse`: undoes the mapping that a lower driver may have made.
    #[inline(never)]
    pub(super) fn prepare(&mut self) {
        let mdl = self.0.as_ptr();
        // SAFETY: ours, and the USB stack has no request with it now.
        let flags = unsafe { (*mdl).MdlFlags };
        if flags.cast_unsigned() & PARTIAL_HAS_BEEN_MAPPED != 0 {
            // SAFETY: likewise.
            let address = unsafe { (*mdl).MappedSystemVa };
            // SAFETY: the flag says that there is a mapping, and the member where.
            unsafe { MmUnmapLockedPages(address, self.0.as_ptr()) };
        }
    }
}

/// `MDL_PARTIAL_HAS_BEEN_MAPPED`
#[allow(clippy::cast_possible_truncation, reason = "a bit of a CSHORT")]
const PARTIAL_HAS_BEEN_MAPPED: u16 = MDL_PARTIAL_HAS_BEEN_MAPPED as u16;

impl Drop for PartialMdl {
    fn drop(&mut self) {
        self.prepare();
        // SAFETY: `try_new` allocated it.
        unsafe { IoFreeMdl(self.0.as_ptr()) };
    }
}

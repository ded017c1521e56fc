//! Security descriptors of device objects.

use core::ptr::{self, NonNull};

use wdk_sys::{
    DEVICE_OBJECT, HANDLE, OBJ_KERNEL_HANDLE,
    ntddk::{ObOpenObjectByPointer, ZwClose, ZwSetSecurityObject},
};

use crate::ioctl::Status;
use crate::kernel::{KERNEL_MODE, Passive, check};

/// `DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION` (winnt.h).
const PROTECTED_DACL: u32 = 0x8000_0004;
/// `WRITE_DAC` (winnt.h).
const WRITE_DAC: u32 = 0x0004_0000;

/// A security descriptor for a device object, in self-relative form.
///
/// The function that makes named devices with one (`IoCreateDeviceSecure`) is a static library of
/// the WDK; this does what it does with exports of the kernel. The INF's descriptor does not reach
/// a child: that is another device node.
#[repr(C, align(4))]
pub(crate) struct SecurityDescriptor([u8; 92]);

impl SecurityDescriptor {
    /// `D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FRFW;;;IU)`: everything for the system and administrators,
    /// reading and writing for the users who are logged on at the machine. The same as the INF
    /// gives the port, in file rights, as no mapping of generic ones is needed then.
    #[rustfmt::skip]
    pub(crate) const LOCAL_USERS: Self = Self([
        // Revision, SE_SELF_RELATIVE | SE_DACL_PROTECTED | SE_DACL_PRESENT
        1, 0, 0x04, 0x90,
        // No owner, group and SACL; the DACL follows at 20
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
        // ACL: revision 2, 72 bytes, 3 entries
        2, 0, 72, 0, 3, 0, 0, 0,
        // Allowed, 20 bytes, FILE_ALL_ACCESS, S-1-5-18
        0, 0, 20, 0, 0xFF, 0x01, 0x1F, 0x00,
        1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0,
        // Allowed, 24 bytes, FILE_ALL_ACCESS, S-1-5-32-544
        0, 0, 24, 0, 0xFF, 0x01, 0x1F, 0x00,
        1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 0x02, 0, 0,
        // Allowed, 20 bytes, FILE_GENERIC_READ | FILE_GENERIC_WRITE, S-1-5-4
        0, 0, 20, 0, 0x9F, 0x01, 0x12, 0x00,
        1, 1, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0,
    ]);

    /// Puts the descriptor on a device object that cannot be opened yet.
    ///
    /// # Safety
    /// `object` is a live device object.
    pub(in crate::kernel) unsafe fn apply(
        &self,
        object: NonNull<DEVICE_OBJECT>,
        _: Passive,
    ) -> Result<(), Status> {
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: a live object, opened from kernel mode by its address; at PASSIVE_LEVEL.
        check(unsafe {
            ObOpenObjectByPointer(
                object.as_ptr().cast(),
                OBJ_KERNEL_HANDLE,
                ptr::null_mut(),
                WRITE_DAC,
                ptr::null_mut(),
                KERNEL_MODE,
                &raw mut handle,
            )
        })?;
        // SAFETY: our handle; the descriptor is only read.
        let status = unsafe {
            ZwSetSecurityObject(
                handle,
                PROTECTED_DACL,
                ptr::from_ref(&self.0).cast_mut().cast(),
            )
        };
        // SAFETY: our handle, closed once.
        let _ = unsafe { ZwClose(handle) };
        check(status)
    }
}

//! The control device of a driver that has no hardware: a name, and a link to it for programs.

use core::ptr;

use crate::{
    DEVICE_OBJECT, DRIVER_OBJECT, FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_UNKNOWN, IoCreateDevice,
    IoCreateSymbolicLink, IoDeleteDevice, IoDeleteSymbolicLink, Status, UNICODE_STRING,
};

/// An ASCII literal in UTF-16.
#[must_use]
pub const fn wide<const N: usize>(text: &[u8; N]) -> [u16; N] {
    let mut units = [0; N];
    let mut at = 0;
    while at < N {
        units[at] = text[at] as u16;
        at += 1;
    }
    units
}

/// A short name as the kernel's functions take it.
#[must_use]
pub fn string(units: &'static [u16]) -> UNICODE_STRING {
    let length = u16::try_from(size_of_val(units)).unwrap_or(0);
    UNICODE_STRING {
        Length: length,
        MaximumLength: length,
        Buffer: units.as_ptr().cast_mut(),
    }
}

/// Makes the device and its link. The device is still being initialised.
///
/// # Errors
/// The status of what failed; nothing is left then.
///
/// # Safety
/// In `DriverEntry`, with this driver's object.
pub unsafe fn create(
    driver: *mut DRIVER_OBJECT,
    extension: u32,
    name: &'static [u16],
    link: &'static [u16],
) -> Result<*mut DEVICE_OBJECT, Status> {
    let (name, link) = (string(name), string(link));
    let mut device = ptr::null_mut();
    // SAFETY: the driver object is this driver's; the name is only read.
    let status = unsafe {
        IoCreateDevice(
            driver,
            extension,
            &raw const name,
            FILE_DEVICE_UNKNOWN,
            FILE_DEVICE_SECURE_OPEN,
            0,
            &raw mut device,
        )
    };
    if status < 0 {
        return Err(status);
    }
    // SAFETY: both names are only read.
    let status = unsafe { IoCreateSymbolicLink(&raw const link, &raw const name) };
    if status < 0 {
        // SAFETY: just made.
        unsafe { IoDeleteDevice(device) };
        return Err(status);
    }
    Ok(device)
}

/// Deletes both.
///
/// # Safety
/// `create` made the device with this link, and no file object of it is left.
pub unsafe fn delete(device: *mut DEVICE_OBJECT, link: &'static [u16]) {
    let link = string(link);
    // SAFETY: the name is only read.
    unsafe { IoDeleteSymbolicLink(&raw const link) };
    // SAFETY: the caller's device, which no client has open any more.
    unsafe { IoDeleteDevice(device) };
}

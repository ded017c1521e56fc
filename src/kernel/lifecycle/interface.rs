//! Device interfaces and symbolic links: the names by which programs find a device.

use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use wdk_sys::{
    UNICODE_STRING,
    ntddk::{
        IoCreateSymbolicLink, IoDeleteSymbolicLink, IoRegisterDeviceInterface,
        IoSetDeviceInterfaceState, RtlFreeUnicodeString,
    },
};

use crate::ioctl::Status;
use crate::kernel::{Guid, Passive, PhysicalDevice, Wide, check};

/// A device interface, by which programs find the device.
pub(crate) struct Interface {
    link: UNICODE_STRING,
    enabled: AtomicBool,
}

// SAFETY: the string is not changed after it was made.
unsafe impl Send for Interface {}
// SAFETY: likewise.
unsafe impl Sync for Interface {}

impl Interface {
    /// Registers the interface, disabled.
    ///
    /// # Errors
    /// What `IoRegisterDeviceInterface` says.
    pub(crate) fn register(pdo: PhysicalDevice, class: &Guid, _: Passive) -> Result<Self, Status> {
        let mut link = UNICODE_STRING::default();
        // SAFETY: at PASSIVE_LEVEL, in the PnP path, with a PDO.
        check(unsafe {
            IoRegisterDeviceInterface(pdo.raw(), class.raw(), ptr::null_mut(), &raw mut link)
        })?;
        Ok(Self {
            link,
            enabled: AtomicBool::new(false),
        })
    }

    /// Enables or disables the interface, if it is not so already. A failure is not one of the
    /// device: it works, and is found by name.
    pub(crate) fn enable(&self, enable: bool, _: Passive) {
        if self.enabled.swap(enable, Ordering::AcqRel) != enable {
            let mut link = self.link;
            // SAFETY: at PASSIVE_LEVEL; the name came from the registration.
            let _ = unsafe { IoSetDeviceInterfaceState(&raw mut link, u8::from(enable)) };
        }
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        // SAFETY: allocated by the registration; interfaces are dropped with their device, at
        // PASSIVE_LEVEL.
        unsafe { RtlFreeUnicodeString(&raw mut self.link) };
    }
}

/// A name in `\DosDevices`, deleted with this value.
pub(crate) struct SymbolicLink(Wide<32>);

impl SymbolicLink {
    /// Makes the link.
    ///
    /// # Errors
    /// `STATUS_OBJECT_NAME_COLLISION`, if the name is taken.
    pub(crate) fn create(name: Wide<32>, target: &[u16], _: Passive) -> Result<Self, Status> {
        let mut link = name.unicode();
        let mut target = crate::kernel::string::unicode(target);
        // SAFETY: at PASSIVE_LEVEL; both names are copied.
        check(unsafe { IoCreateSymbolicLink(&raw mut link, &raw mut target) })?;
        Ok(Self(name))
    }
}

impl Drop for SymbolicLink {
    fn drop(&mut self) {
        let mut link = self.0.unicode();
        // SAFETY: links are dropped in the PnP path, at PASSIVE_LEVEL.
        let _ = unsafe { IoDeleteSymbolicLink(&raw mut link) };
    }
}

//! Hosts other than Windows.

use crate::{
    Cancel, DeviceNode, Error, Interface, InterfaceClass, Service, SetupClass, System, Transport,
};

/// This computer, which does not run Windows: everything fails with [`Error::NeedsWindows`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl System for Native {
    fn interfaces(&self, _: InterfaceClass) -> Result<Vec<Interface>, Error> {
        Err(Error::NeedsWindows)
    }

    fn devices(&self, _: SetupClass) -> Result<Vec<DeviceNode>, Error> {
        Err(Error::NeedsWindows)
    }

    fn devices_without_class(&self) -> Result<Vec<DeviceNode>, Error> {
        Err(Error::NeedsWindows)
    }

    fn service(&self, _: &str) -> Result<Option<Service>, Error> {
        Err(Error::NeedsWindows)
    }

    fn is_elevated(&self) -> bool {
        false
    }

    fn open(&self, _: &str) -> Result<Box<dyn Transport>, Error> {
        Err(Error::NeedsWindows)
    }
}

/// A [`Cancel`] that nothing cancels: Ctrl-C ends the program, as always.
#[must_use]
pub fn cancel_on_ctrl_c() -> Cancel {
    Cancel::default()
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{DeviceNode, Error, Failure, Interface, InterfaceClass, Service, SetupClass};

/// Says that what is going on should end. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the request that is under way, and every later one.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What ends a request before the driver does: then it is cancelled by `CancelIoEx`, and fails with
/// [`Condition::TimedOut`](crate::Condition::TimedOut) or
/// [`Condition::Cancelled`](crate::Condition::Cancelled) and the bytes that went until then.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// How long one request may take. `None`: as long as it wants.
    pub timeout: Option<Duration>,
    /// Ends it at any time.
    pub cancel: Cancel,
}

/// The bytes that a request moved (`Information`), or what Windows says, with the bytes that moved
/// nevertheless.
pub type Moved = Result<usize, Failure>;

/// An open device: `DeviceIoControl`, `ReadFile` and `WriteFile`.
///
/// Each call returns when the request has ended, never before: the driver may use the buffers until
/// then. It gives the bytes that moved (`Information`).
///
/// # Errors
/// All fail with what Windows says, and with the bytes that moved nevertheless. `STATUS_TIMEOUT`,
/// by its number a success, is a failure here.
#[allow(clippy::missing_errors_doc, reason = "told once, above")]
pub trait Transport: Send {
    /// `DeviceIoControl`. An empty slice stands for a null pointer.
    fn control(&self, code: u32, input: &[u8], output: &mut [u8], limits: &Limits) -> Moved;

    /// `ReadFile`
    fn read(&self, buffer: &mut [u8], limits: &Limits) -> Moved;

    /// `WriteFile`
    fn write(&self, bytes: &[u8], limits: &Limits) -> Moved;
}

/// How an open device is called: for one with a `name` and a `path`.
macro_rules! opened {
    ($example:literal) => {
        #[doc = concat!("The name that it was found by, `", $example, "`.")]
        #[must_use]
        pub fn name(&self) -> &str {
            &self.name
        }

        /// The path that was opened.
        #[must_use]
        pub fn path(&self) -> &str {
            &self.path
        }
    };
}
pub(crate) use opened;

/// The computer: what devices there are, and opening them.
#[allow(
    clippy::missing_errors_doc,
    reason = "each fails with the failure of the Windows function that it names"
)]
pub trait System {
    /// The device interfaces of a class that are there and enabled (`SetupDiGetClassDevsW`).
    fn interfaces(&self, class: InterfaceClass) -> Result<Vec<Interface>, Error>;

    /// The present devices of a setup class, working or not (`SetupDiGetClassDevsW`).
    fn devices(&self, class: SetupClass) -> Result<Vec<DeviceNode>, Error>;

    /// The present devices that belong to no setup class, for no driver was ever installed for them
    /// (`SetupDiGetClassDevsW`). They are known by their bus alone: instance ID, hardware IDs.
    fn devices_without_class(&self) -> Result<Vec<DeviceNode>, Error>;

    /// A service. `None`: there is none of that name (`QueryServiceConfigW`).
    fn service(&self, name: &str) -> Result<Option<Service>, Error>;

    /// Whether this program runs with an administrator's rights.
    fn is_elevated(&self) -> bool;

    /// Opens a path for reading and writing, with overlapped I/O (`CreateFileW`).
    fn open(&self, path: &str) -> Result<Box<dyn Transport>, Error>;
}

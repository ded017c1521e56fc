//! Windows: the only place with `unsafe`.

mod console;
mod devices;
mod file;
mod service;

pub use console::cancel_on_ctrl_c;

use windows_sys::Win32::{
    Foundation::{GetLastError, RtlNtStatusToDosError},
    Security::{GetTokenInformation, TOKEN_ELEVATION, TOKEN_QUERY, TokenElevation},
    System::Threading::{GetCurrentProcess, OpenProcessToken},
};

use crate::{
    DeviceNode, Error, Failure, Interface, InterfaceClass, Service, SetupClass, Status, System,
    Transport, port::failed,
};

#[cfg_attr(
    target_arch = "x86",
    link(name = "ntdll", kind = "raw-dylib", import_name_type = "undecorated")
)]
#[cfg_attr(not(target_arch = "x86"), link(name = "ntdll", kind = "raw-dylib"))]
unsafe extern "system" {
    /// The status that the last failing function of this thread got. Undocumented, and exported
    /// by every Windows since XP.
    safe fn RtlGetLastNtStatus() -> i32;
}

/// This computer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl System for Native {
    fn interfaces(&self, class: InterfaceClass) -> Result<Vec<Interface>, Error> {
        devices::interfaces(class.guid())
    }

    fn devices(&self, class: SetupClass) -> Result<Vec<DeviceNode>, Error> {
        devices::devices(class.guid())
    }

    fn devices_without_class(&self) -> Result<Vec<DeviceNode>, Error> {
        devices::devices_without_class()
    }

    fn service(&self, name: &str) -> Result<Option<Service>, Error> {
        service::query(name)
    }

    fn is_elevated(&self) -> bool {
        is_elevated()
    }

    fn open(&self, path: &str) -> Result<Box<dyn Transport>, Error> {
        match file::File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(failure) => Err(failed("CreateFileW")(failure)),
        }
    }
}

/// The failure of the function that was called last. To be called before any other.
fn last_failure() -> Failure {
    // SAFETY: reads a variable of this thread.
    failure_of(unsafe { GetLastError() })
}

/// The failure behind a Win32 error of the function that was called last.
fn failure_of(win32: u32) -> Failure {
    let status = RtlGetLastNtStatus();
    // Not every error comes from a status: this one may be left from something earlier.
    let is_its_cause = win32_of(status) == win32;
    Failure {
        win32,
        status: is_its_cause.then_some(Status(status)),
        transferred: 0,
    }
}

/// Windows' own mapping.
fn win32_of(status: i32) -> u32 {
    // SAFETY: looks the number up in a table.
    unsafe { RtlNtStatusToDosError(status) }
}

/// `text` with a NUL.
fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The text before the first NUL.
fn narrow(text: &[u16]) -> String {
    let end = text.iter().position(|unit| *unit == 0);
    String::from_utf16_lossy(&text[..end.unwrap_or(text.len())])
}

/// The size of a structure, as Windows wants to be told.
#[allow(
    clippy::cast_possible_truncation,
    reason = "structures of Windows are small"
)]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

fn is_elevated() -> bool {
    let mut token = std::ptr::null_mut();
    // SAFETY: a handle of this process, which needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: `token` is written on success.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) } == 0 {
        return false;
    }
    let token = file::Handle(token);
    let mut elevation = TOKEN_ELEVATION::default();
    let mut length = 0;
    // SAFETY: the buffer has the size that is given, and this class fills it with a
    // TOKEN_ELEVATION.
    let known = unsafe {
        GetTokenInformation(
            token.0,
            TokenElevation,
            (&raw mut elevation).cast(),
            size::<TOKEN_ELEVATION>(),
            &raw mut length,
        )
    };
    known != 0 && elevation.TokenIsElevated != 0
}

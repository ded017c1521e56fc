use std::ptr;

use windows_sys::Win32::{
    Foundation::ERROR_SERVICE_DOES_NOT_EXIST,
    System::Services::{
        CloseServiceHandle, OpenSCManagerW, OpenServiceW, QUERY_SERVICE_CONFIGW,
        QueryServiceConfigW, QueryServiceStatus, SC_HANDLE, SC_MANAGER_CONNECT, SERVICE_DISABLED,
        SERVICE_QUERY_CONFIG, SERVICE_QUERY_STATUS, SERVICE_RUNNING, SERVICE_STATUS,
        SERVICE_STOPPED,
    },
};

use super::{last_failure, wide};
use crate::{Error, Service, ServiceState, port::failed};

/// The most that `QueryServiceConfigW` gives, in bytes.
const LARGEST_CONFIG: u32 = 8192;

struct Handle(SC_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was opened here and is closed once.
        unsafe { CloseServiceHandle(self.0) };
    }
}

/// The text at a pointer of a service's configuration.
///
/// # Safety
/// `text` is null, or points to text with a NUL.
unsafe fn text(text: *const u16) -> String {
    if text.is_null() {
        return String::new();
    }
    let mut units = Vec::new();
    for index in 0.. {
        // SAFETY: not past the NUL, by the caller's promise.
        let place = unsafe { text.add(index) };
        // SAFETY: the same.
        match unsafe { place.read() } {
            0 => break,
            unit => units.push(unit),
        }
    }
    String::from_utf16_lossy(&units)
}

/// A service, by its name. Ordinary users may ask this.
pub(super) fn query(name: &str) -> Result<Option<Service>, Error> {
    // SAFETY: this computer, its active database.
    let manager = unsafe { OpenSCManagerW(ptr::null(), ptr::null(), SC_MANAGER_CONNECT) };
    if manager.is_null() {
        return Err(failed("OpenSCManagerW")(last_failure()));
    }
    let manager = Handle(manager);
    let name = wide(name);
    // SAFETY: an open manager, and text with a NUL.
    let service = unsafe {
        OpenServiceW(
            manager.0,
            name.as_ptr(),
            SERVICE_QUERY_STATUS | SERVICE_QUERY_CONFIG,
        )
    };
    if service.is_null() {
        let failure = last_failure();
        if failure.win32 == ERROR_SERVICE_DOES_NOT_EXIST {
            return Ok(None);
        }
        return Err(failed("OpenServiceW")(failure));
    }
    let service = Handle(service);
    let mut status = SERVICE_STATUS::default();
    // SAFETY: an open service; the structure is ours.
    if unsafe { QueryServiceStatus(service.0, &raw mut status) } == 0 {
        return Err(failed("QueryServiceStatus")(last_failure()));
    }
    // Aligned for the structure, which has pointers.
    let mut buffer = vec![0u64; LARGEST_CONFIG as usize / size_of::<u64>()];
    let config: *mut QUERY_SERVICE_CONFIGW = buffer.as_mut_ptr().cast();
    let mut needed = 0;
    // SAFETY: an open service, and a buffer of that many bytes.
    let known = unsafe { QueryServiceConfigW(service.0, config, LARGEST_CONFIG, &raw mut needed) };
    if known == 0 {
        return Err(failed("QueryServiceConfigW")(last_failure()));
    }
    // SAFETY: the structure was filled in; the buffer is still there.
    let config = unsafe { config.read() };
    Ok(Some(Service {
        state: match status.dwCurrentState {
            SERVICE_RUNNING => ServiceState::Running,
            SERVICE_STOPPED => ServiceState::Stopped,
            _ => ServiceState::Changing,
        },
        // SAFETY: it points into `buffer`, which is still there.
        image: unsafe { text(config.lpBinaryPathName) },
        disabled: config.dwStartType == SERVICE_DISABLED,
    }))
}

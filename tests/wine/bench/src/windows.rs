//! Windows: the only place with `unsafe`.

use std::{io, ptr};

use windows_sys::{
    Win32::{
        Devices::DeviceAndDriverInstallation::{
            DIF_REGISTERDEVICE, HDEVINFO, INSTALLFLAG_FORCE, SP_DEVINFO_DATA, SPDRP_HARDWAREID,
            SPOST_PATH, SetupCopyOEMInfW, SetupDiCallClassInstaller, SetupDiCreateDeviceInfoList,
            SetupDiCreateDeviceInfoW, SetupDiDestroyDeviceInfoList, SetupDiGetINFClassW,
            SetupDiSetDeviceRegistryPropertyW, UpdateDriverForPlugAndPlayDevicesW,
        },
        Foundation::INVALID_HANDLE_VALUE,
    },
    core::{BOOL, GUID},
};

/// Room for a path or a name, in UTF-16 units.
const TEXT: u32 = 1024;

/// `text` with a NUL.
fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The whole path of a file, with a NUL: the functions below look elsewhere for a bare name.
fn path(file: &str) -> Result<Vec<u16>, String> {
    let path = std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(wide(&path.to_string_lossy()))
}

/// The failure of the function that was called last, unless it succeeded.
fn check(result: BOOL, function: &str) -> Result<(), String> {
    if result == 0 {
        Err(format!("{function}: {}", io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

/// `SetupCopyOEMInf`, as `pnputil /add-driver` does. Gives the name that the INF got.
pub(crate) fn add(inf: &str) -> Result<String, String> {
    let inf = path(inf)?;
    let mut name = vec![0u16; TEXT as usize];
    let mut file = ptr::null_mut();
    // SAFETY: text with a NUL, and a buffer of that many units; `file` points into it afterwards.
    let result = unsafe {
        SetupCopyOEMInfW(
            inf.as_ptr(),
            ptr::null(),
            SPOST_PATH,
            0,
            name.as_mut_ptr(),
            TEXT,
            ptr::null_mut(),
            &raw mut file,
        )
    };
    check(result, "SetupCopyOEMInfW")?;
    let name = String::from_utf16_lossy(&name);
    let name = name.split('\0').next().unwrap_or_default();
    Ok(name.rsplit('\\').next().unwrap_or_default().to_owned())
}

/// A list of devices, as `SetupAPI` keeps it.
struct Devices(HDEVINFO);

impl Drop for Devices {
    fn drop(&mut self) {
        // SAFETY: it was made here and is destroyed once.
        unsafe { SetupDiDestroyDeviceInfoList(self.0) };
    }
}

/// Makes a root device and installs its driver, as `devcon install` does.
pub(crate) fn root(inf: &str, id: &str) -> Result<(), String> {
    device(inf, &format!(r"{id}\0000"), id)
}

/// Makes a device of this instance ID known, whether it is there or not, and installs its driver.
pub(crate) fn device(inf: &str, instance: &str, id: &str) -> Result<(), String> {
    let file = path(inf)?;
    let mut class = GUID::from_u128(0);
    let mut class_name = vec![0u16; TEXT as usize];
    // SAFETY: text with a NUL, and a buffer of that many units.
    let result = unsafe {
        SetupDiGetINFClassW(
            file.as_ptr(),
            &raw mut class,
            class_name.as_mut_ptr(),
            TEXT,
            ptr::null_mut(),
        )
    };
    check(result, "SetupDiGetINFClassW")?;
    // SAFETY: a list for devices of any class, no window.
    let list = unsafe { SetupDiCreateDeviceInfoList(ptr::null(), ptr::null_mut()) };
    if list == INVALID_HANDLE_VALUE as HDEVINFO {
        check(0, "SetupDiCreateDeviceInfoList")?;
    }
    let list = Devices(list);
    let instance = wide(instance);
    let mut device = SP_DEVINFO_DATA {
        cbSize: u32::try_from(size_of::<SP_DEVINFO_DATA>()).unwrap_or_default(),
        ..SP_DEVINFO_DATA::default()
    };
    // SAFETY: our list, text with a NUL, and a structure that has its size in it.
    let result = unsafe {
        SetupDiCreateDeviceInfoW(
            list.0,
            instance.as_ptr(),
            &raw const class,
            ptr::null(),
            ptr::null_mut(),
            0,
            &raw mut device,
        )
    };
    check(result, "SetupDiCreateDeviceInfoW")?;
    // A list of texts: each with a NUL, and one at its end.
    let ids: Vec<u8> = wide(&format!("{id}\0"))
        .into_iter()
        .flat_map(u16::to_le_bytes)
        .collect();
    // SAFETY: our list, its device, and bytes with their count.
    let result = unsafe {
        SetupDiSetDeviceRegistryPropertyW(
            list.0,
            &raw mut device,
            SPDRP_HARDWAREID,
            ids.as_ptr(),
            u32::try_from(ids.len()).unwrap_or_default(),
        )
    };
    check(result, "SetupDiSetDeviceRegistryPropertyW")?;
    // SAFETY: our list and its device.
    let result =
        unsafe { SetupDiCallClassInstaller(DIF_REGISTERDEVICE, list.0, &raw const device) };
    check(result, "SetupDiCallClassInstaller")?;
    update(inf, id)
}

/// `UpdateDriverForPlugAndPlayDevices`, as `pnputil /add-driver /install` does.
pub(crate) fn update(inf: &str, id: &str) -> Result<(), String> {
    let (inf, id) = (path(inf)?, wide(id));
    // SAFETY: no window; texts with a NUL; whether to restart is not asked.
    let result = unsafe {
        UpdateDriverForPlugAndPlayDevicesW(
            ptr::null_mut(),
            id.as_ptr(),
            inf.as_ptr(),
            INSTALLFLAG_FORCE,
            ptr::null_mut(),
        )
    };
    check(result, "UpdateDriverForPlugAndPlayDevicesW")
}

use std::ptr;

use windows_sys::{
    Win32::{
        Devices::DeviceAndDriverInstallation::{
            CM_DRP_SERVICE, CM_Get_DevNode_Registry_PropertyW, CM_Get_DevNode_Status,
            CM_Get_Parent, CR_SUCCESS, DICS_FLAG_GLOBAL, DIGCF_ALLCLASSES, DIGCF_DEVICEINTERFACE,
            DIGCF_PRESENT, DIREG_DEV, DIREG_DRV, DN_HAS_PROBLEM, DN_STARTED, HDEVINFO,
            SP_DEVICE_INTERFACE_DATA, SP_DEVICE_INTERFACE_DETAIL_DATA_W, SP_DEVINFO_DATA,
            SPDRP_CLASSGUID, SPDRP_COMPATIBLEIDS, SPDRP_DEVICEDESC, SPDRP_FRIENDLYNAME,
            SPDRP_HARDWAREID, SPDRP_PHYSICAL_DEVICE_OBJECT_NAME, SPDRP_SERVICE,
            SetupDiDestroyDeviceInfoList, SetupDiEnumDeviceInfo, SetupDiEnumDeviceInterfaces,
            SetupDiGetClassDevsW, SetupDiGetDeviceInstanceIdW, SetupDiGetDeviceInterfaceDetailW,
            SetupDiGetDeviceRegistryPropertyW, SetupDiOpenDevRegKey,
        },
        Foundation::{ERROR_NO_MORE_ITEMS, INVALID_HANDLE_VALUE},
        System::Registry::{
            HKEY, KEY_QUERY_VALUE, REG_SZ, RRF_RT_REG_DWORD, RRF_RT_REG_SZ, RegCloseKey,
            RegGetValueW,
        },
    },
    core::GUID,
};

use super::{last_failure, narrow, size, wide};
use crate::{DeviceNode, Error, Interface, Package, port::failed};

/// Room for any text that is asked for here, in UTF-16 units.
const TEXT_UNITS: u32 = 4096;
/// The same in bytes.
const TEXT_BYTES: u32 = TEXT_UNITS * 2;
/// The same as a length of slices.
const TEXT: usize = TEXT_UNITS as usize;

/// A list of devices, as `SetupAPI` keeps it.
struct Devices {
    set: HDEVINFO,
    class: GUID,
}

impl Drop for Devices {
    fn drop(&mut self) {
        // SAFETY: it was made here and is destroyed once.
        unsafe { SetupDiDestroyDeviceInfoList(self.set) };
    }
}

/// The present devices of a setup class.
pub(super) fn devices(class: u128) -> Result<Vec<DeviceNode>, Error> {
    let devices = Devices::open(class, DIGCF_PRESENT)?;
    let mut nodes = Vec::new();
    for index in 0.. {
        let mut info = device_info();
        // SAFETY: our list; the structure has its size in it.
        if unsafe { SetupDiEnumDeviceInfo(devices.set, index, &raw mut info) } == 0 {
            break;
        }
        nodes.push(devices.node(&info));
    }
    ended("SetupDiEnumDeviceInfo")?;
    Ok(nodes)
}

/// The present devices of no setup class.
pub(super) fn devices_without_class() -> Result<Vec<DeviceNode>, Error> {
    let devices = Devices::open_all()?;
    let mut nodes = Vec::new();
    for index in 0.. {
        let mut info = device_info();
        // SAFETY: our list; the structure has its size in it.
        if unsafe { SetupDiEnumDeviceInfo(devices.set, index, &raw mut info) } == 0 {
            break;
        }
        if devices.text(&info, SPDRP_CLASSGUID).is_none() {
            nodes.push(DeviceNode {
                // A parent's service does not serve it.
                service: devices.text(&info, SPDRP_SERVICE),
                ..devices.node(&info)
            });
        }
    }
    ended("SetupDiEnumDeviceInfo")?;
    Ok(nodes)
}

/// The enabled interfaces of a class.
///
/// By `SetupAPI` and not by `CM_Get_Device_Interface_ListW`: this gives the device with the
/// interface, and works in Wine, too.
pub(super) fn interfaces(class: u128) -> Result<Vec<Interface>, Error> {
    let devices = Devices::open(class, DIGCF_PRESENT | DIGCF_DEVICEINTERFACE)?;
    let mut found = Vec::new();
    for index in 0.. {
        let mut interface = SP_DEVICE_INTERFACE_DATA {
            cbSize: size::<SP_DEVICE_INTERFACE_DATA>(),
            ..SP_DEVICE_INTERFACE_DATA::default()
        };
        // SAFETY: our list, all of its devices; the structure has its size in it.
        let more = unsafe {
            SetupDiEnumDeviceInterfaces(
                devices.set,
                ptr::null(),
                &raw const devices.class,
                index,
                &raw mut interface,
            )
        };
        if more == 0 {
            break;
        }
        let (path, info) = devices.detail(&interface)?;
        found.push(Interface {
            path,
            node: devices.node(&info),
        });
    }
    ended("SetupDiEnumDeviceInterfaces")?;
    Ok(found)
}

/// Fails unless an enumeration ended because there are no more.
fn ended(function: &'static str) -> Result<(), Error> {
    let failure = last_failure();
    if failure.win32 == ERROR_NO_MORE_ITEMS {
        Ok(())
    } else {
        Err(failed(function)(failure))
    }
}

fn device_info() -> SP_DEVINFO_DATA {
    SP_DEVINFO_DATA {
        cbSize: size::<SP_DEVINFO_DATA>(),
        ..SP_DEVINFO_DATA::default()
    }
}

impl Devices {
    fn open(class: u128, flags: u32) -> Result<Self, Error> {
        let class = GUID::from_u128(class);
        // SAFETY: a GUID of ours; no enumerator and no window.
        let set =
            unsafe { SetupDiGetClassDevsW(&raw const class, ptr::null(), ptr::null_mut(), flags) };
        if set == INVALID_HANDLE_VALUE as HDEVINFO {
            return Err(failed("SetupDiGetClassDevsW")(last_failure()));
        }
        Ok(Self { set, class })
    }

    /// The present devices of every class, and of none.
    fn open_all() -> Result<Self, Error> {
        let flags = DIGCF_PRESENT | DIGCF_ALLCLASSES;
        // SAFETY: no class, no enumerator and no window.
        let set = unsafe { SetupDiGetClassDevsW(ptr::null(), ptr::null(), ptr::null_mut(), flags) };
        if set == INVALID_HANDLE_VALUE as HDEVINFO {
            return Err(failed("SetupDiGetClassDevsW")(last_failure()));
        }
        Ok(Self {
            set,
            class: GUID::from_u128(0),
        })
    }

    /// The path of an interface, and its device.
    fn detail(
        &self,
        interface: &SP_DEVICE_INTERFACE_DATA,
    ) -> Result<(String, SP_DEVINFO_DATA), Error> {
        let mut info = device_info();
        // SP_DEVICE_INTERFACE_DETAIL_DATA_W: its fixed size, then the path.
        let mut detail = vec![0u32; TEXT / 2];
        detail[0] = size::<SP_DEVICE_INTERFACE_DETAIL_DATA_W>();
        // SAFETY: our list and an interface of it; the buffer has the size that is given and is
        // aligned.
        let known = unsafe {
            SetupDiGetDeviceInterfaceDetailW(
                self.set,
                interface,
                detail.as_mut_ptr().cast(),
                TEXT_BYTES,
                ptr::null_mut(),
                &raw mut info,
            )
        };
        if known == 0 {
            return Err(failed("SetupDiGetDeviceInterfaceDetailW")(last_failure()));
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the two halves of a double word"
        )]
        let path: Vec<u16> = detail[1..]
            .iter()
            .flat_map(|both| [*both as u16, (both >> 16) as u16])
            .collect();
        Ok((narrow(&path), info))
    }

    fn node(&self, info: &SP_DEVINFO_DATA) -> DeviceNode {
        let software = self.key(info, DIREG_DRV);
        let hardware = self.key(info, DIREG_DEV);
        let value = |name: &str| software.as_ref().and_then(|key| key.text(name));
        let (started, problem) = status(info.DevInst);
        DeviceNode {
            instance_id: self.instance_id(info).unwrap_or_default(),
            description: self
                .text(info, SPDRP_FRIENDLYNAME)
                .or_else(|| self.text(info, SPDRP_DEVICEDESC)),
            hardware_ids: self.texts(info, SPDRP_HARDWAREID),
            compatible_ids: self.texts(info, SPDRP_COMPATIBLEIDS),
            service: self
                .text(info, SPDRP_SERVICE)
                .or_else(|| parent_service(info.DevInst)),
            object_name: self.text(info, SPDRP_PHYSICAL_DEVICE_OBJECT_NAME),
            package: Package {
                inf: value("InfPath"),
                provider: value("ProviderName"),
                version: value("DriverVersion"),
            },
            create_file_name: value("CreateFileName"),
            parscan_probe: hardware.and_then(|key| key.number("ParscanProbe")),
            started,
            problem,
        }
    }

    fn instance_id(&self, info: &SP_DEVINFO_DATA) -> Option<String> {
        let mut text = vec![0; TEXT];
        // SAFETY: our list and a device of it; the buffer has that many units.
        let known = unsafe {
            SetupDiGetDeviceInstanceIdW(
                self.set,
                info,
                text.as_mut_ptr(),
                TEXT_UNITS,
                ptr::null_mut(),
            )
        };
        (known != 0).then(|| narrow(&text))
    }

    /// A property that is a text.
    fn text(&self, info: &SP_DEVINFO_DATA, property: u32) -> Option<String> {
        self.texts(info, property).into_iter().next()
    }

    /// A property that is one text or several.
    fn texts(&self, info: &SP_DEVINFO_DATA, property: u32) -> Vec<String> {
        let mut text = vec![0u16; TEXT];
        // SAFETY: our list and a device of it; the buffer has that many bytes.
        let known = unsafe {
            SetupDiGetDeviceRegistryPropertyW(
                self.set,
                info,
                property,
                ptr::null_mut(),
                text.as_mut_ptr().cast(),
                TEXT_BYTES,
                ptr::null_mut(),
            )
        };
        if known == 0 {
            return Vec::new();
        }
        text.split(|unit| *unit == 0)
            .take_while(|part| !part.is_empty())
            .map(String::from_utf16_lossy)
            .collect()
    }

    /// Where the driver's INF and the driver keep their values: the software key (`DIREG_DRV`) or the
    /// hardware key (`DIREG_DEV`).
    fn key(&self, info: &SP_DEVINFO_DATA, kind: u32) -> Option<Key> {
        // SAFETY: our list and a device of it.
        let key = unsafe {
            SetupDiOpenDevRegKey(self.set, info, DICS_FLAG_GLOBAL, 0, kind, KEY_QUERY_VALUE)
        };
        (!ptr::eq(key, INVALID_HANDLE_VALUE)).then(|| Key(key))
    }
}

struct Key(HKEY);

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: it was opened here and is closed once.
        unsafe { RegCloseKey(self.0) };
    }
}

impl Key {
    fn text(&self, name: &str) -> Option<String> {
        let name = wide(name);
        let mut text = vec![0u16; TEXT];
        let mut bytes = TEXT_BYTES;
        // SAFETY: an open key, a name with a NUL, and a buffer of that many bytes.
        let error = unsafe {
            RegGetValueW(
                self.0,
                ptr::null(),
                name.as_ptr(),
                RRF_RT_REG_SZ,
                ptr::null_mut(),
                text.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        (error == 0).then(|| narrow(&text))
    }

    fn number(&self, name: &str) -> Option<u32> {
        let name = wide(name);
        let mut number = 0_u32;
        let mut bytes = size::<u32>();
        // SAFETY: an open key, a name with a NUL, and room for a number.
        let error = unsafe {
            RegGetValueW(
                self.0,
                ptr::null(),
                name.as_ptr(),
                RRF_RT_REG_DWORD,
                ptr::null_mut(),
                (&raw mut number).cast(),
                &raw mut bytes,
            )
        };
        (error == 0).then_some(number)
    }
}

/// Whether a device is started, and its problem.
fn status(device: u32) -> (Option<bool>, Option<u32>) {
    let (mut flags, mut problem) = (0, 0);
    // SAFETY: the instance handle of a listed device; both numbers are ours.
    let result = unsafe { CM_Get_DevNode_Status(&raw mut flags, &raw mut problem, device, 0) };
    // A present device has some flag; Wine answers with none.
    if result != CR_SUCCESS || flags == 0 {
        return (None, None);
    }
    (
        Some(flags & DN_STARTED != 0),
        (flags & DN_HAS_PROBLEM != 0).then_some(problem),
    )
}

/// The service of a device's parent. A device that only its bus driver serves has none itself.
fn parent_service(device: u32) -> Option<String> {
    let mut parent = 0;
    // SAFETY: the instance handle of a listed device.
    if unsafe { CM_Get_Parent(&raw mut parent, device, 0) } != CR_SUCCESS {
        return None;
    }
    let mut kind = 0;
    let mut text = vec![0u16; TEXT];
    let mut bytes = TEXT_BYTES;
    // SAFETY: the parent's instance handle, and a buffer of that many bytes.
    let result = unsafe {
        CM_Get_DevNode_Registry_PropertyW(
            parent,
            CM_DRP_SERVICE,
            &raw mut kind,
            text.as_mut_ptr().cast(),
            &raw mut bytes,
            0,
        )
    };
    (result == CR_SUCCESS && kind == REG_SZ).then(|| narrow(&text))
}

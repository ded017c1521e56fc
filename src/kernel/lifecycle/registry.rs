//! The registry keys that the kernel gives out for a device or the driver.

use core::{marker::PhantomData, ptr};

use wdk_sys::{
    _KEY_VALUE_INFORMATION_CLASS, DEVICE_OBJECT, DEVICE_REGISTRY_PROPERTY, DEVPROP_TYPE_STRING,
    DEVPROPKEY, DRIVER_OBJECT, GUID, HANDLE, KEY_READ, KEY_SET_VALUE,
    KEY_VALUE_PARTIAL_INFORMATION, NTSTATUS, PLUGPLAY_PROPERTY_PERSISTENT, PLUGPLAY_REGKEY_DEVICE,
    PLUGPLAY_REGKEY_DRIVER, REG_DWORD, REG_SZ, ULONG,
    ntddk::{
        IoGetDeviceProperty, IoOpenDeviceRegistryKey, IoSetDevicePropertyData, ZwClose,
        ZwQueryValueKey, ZwSetValueKey,
    },
};

use crate::ioctl::Status;
use crate::kernel::{Buffer, Driver, Passive, PhysicalDevice, Role, Wide, check, size};

unsafe extern "C" {
    /// wdm.h, from Windows 10 1803; not in every set of headers.
    fn IoOpenDriverRegistryKey(
        driver: *mut DRIVER_OBJECT,
        kind: i32,
        access: ULONG,
        flags: ULONG,
        key: *mut HANDLE,
    ) -> NTSTATUS;
}

/// `DriverRegKeyParameters` of `DRIVER_REGKEY_TYPE`.
const DRIVER_REG_KEY_PARAMETERS: i32 = 0;

/// The longest text value that is read, in units.
const TEXT_UNITS: usize = 64;

/// A registry key of a device or of the driver. Only the handles that the kernel gives out for
/// them are used: driver package isolation forbids paths.
pub(crate) struct Key<'irql> {
    handle: HANDLE,
    _passive: PhantomData<Passive<'irql>>,
}

/// A `REG_SZ`, without its NULs.
pub(crate) type Text = Wide<TEXT_UNITS>;

impl<'irql> Key<'irql> {
    /// The hardware key of a device ("Device Parameters").
    ///
    /// # Errors
    /// What `IoOpenDeviceRegistryKey` says.
    pub(crate) fn of_device(
        pdo: PhysicalDevice,
        write: bool,
        _: Passive<'irql>,
    ) -> Result<Self, Status> {
        let access = if write {
            KEY_READ | KEY_SET_VALUE
        } else {
            KEY_READ
        };
        let mut handle = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL, with a PDO.
        check(unsafe {
            IoOpenDeviceRegistryKey(pdo.raw(), PLUGPLAY_REGKEY_DEVICE, access, &raw mut handle)
        })?;
        Ok(Self::new(handle))
    }

    /// The software key of a device, which its class and its programs share, to be written.
    ///
    /// # Errors
    /// What `IoOpenDeviceRegistryKey` says.
    pub(crate) fn of_software(pdo: PhysicalDevice, _: Passive<'irql>) -> Result<Self, Status> {
        let mut handle = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL, with a PDO.
        check(unsafe {
            IoOpenDeviceRegistryKey(
                pdo.raw(),
                PLUGPLAY_REGKEY_DRIVER,
                KEY_SET_VALUE,
                &raw mut handle,
            )
        })?;
        Ok(Self::new(handle))
    }

    /// The `Parameters` key of the driver's service, which the INF fills: read-only.
    ///
    /// # Errors
    /// What `IoOpenDriverRegistryKey` says.
    pub(crate) fn of_parameters<R: Role>(
        driver: Driver<R>,
        _: Passive<'irql>,
    ) -> Result<Self, Status> {
        let mut handle = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL, with our driver object.
        check(unsafe {
            IoOpenDriverRegistryKey(
                driver.raw(),
                DRIVER_REG_KEY_PARAMETERS,
                KEY_READ,
                0,
                &raw mut handle,
            )
        })?;
        Ok(Self::new(handle))
    }

    const fn new(handle: HANDLE) -> Self {
        Self {
            handle,
            _passive: PhantomData,
        }
    }

    /// The bytes of a value of the type, if it is there and not too long. Whatever else the
    /// registry holds is not an answer.
    fn query(&self, name: &Wide<32>, kind: u32, value: &mut Value) -> Option<usize> {
        let mut name = name.unicode();
        let mut length = 0;
        // SAFETY: at PASSIVE_LEVEL; the buffer is as long as is said.
        let status = unsafe {
            ZwQueryValueKey(
                self.handle,
                &raw mut name,
                _KEY_VALUE_INFORMATION_CLASS::KeyValuePartialInformation,
                ptr::from_mut(value).cast(),
                size::<Value>(),
                &raw mut length,
            )
        };
        check(status).ok()?;
        let bytes = value.length as usize;
        (value.kind == kind && bytes <= size_of_val(&value.data)).then_some(bytes)
    }

    /// A `REG_DWORD`. `None`, if there is none, or something else of that name.
    pub(crate) fn dword(&self, name: &Wide<32>) -> Option<u32> {
        let mut value = Value::EMPTY;
        let bytes = self.query(name, REG_DWORD, &mut value)?;
        let [low, high, ..] = value.data;
        (bytes == 4).then_some(u32::from(low) | u32::from(high) << 16)
    }

    /// A `REG_SZ`, up to its first NUL. `None`, if there is none, or something else of that name,
    /// or one that is too long.
    pub(crate) fn text(&self, name: &Wide<32>) -> Option<Text> {
        let mut value = Value::EMPTY;
        let bytes = self.query(name, REG_SZ, &mut value)?;
        Some(Wide::from_units(value.data.get(..bytes / 2)?))
    }

    /// Sets a `REG_DWORD`.
    ///
    /// # Errors
    /// What `ZwSetValueKey` says.
    pub(crate) fn set_dword(&self, name: &Wide<32>, value: u32) -> Result<(), Status> {
        let mut name = name.unicode();
        let mut data = value;
        // SAFETY: at PASSIVE_LEVEL; the data is four bytes.
        check(unsafe {
            ZwSetValueKey(
                self.handle,
                &raw mut name,
                0,
                REG_DWORD,
                (&raw mut data).cast(),
                4,
            )
        })
    }
}

impl Key<'_> {
    /// Sets a `REG_SZ`.
    ///
    /// # Errors
    /// What `ZwSetValueKey` says.
    pub(crate) fn set_text(&self, name: &Wide<32>, text: &Wide<32>) -> Result<(), Status> {
        let mut name = name.unicode();
        // With its NUL.
        let mut data = [0u16; 33];
        for (place, unit) in data.iter_mut().zip(text.units()) {
            *place = *unit;
        }
        let bytes = u32::from(text.unicode().Length).saturating_add(2);
        // SAFETY: at PASSIVE_LEVEL; the data is at least that long.
        check(unsafe {
            ZwSetValueKey(
                self.handle,
                &raw mut name,
                0,
                REG_SZ,
                data.as_mut_ptr().cast(),
                bytes,
            )
        })
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, closed once; the lifetime keeps us at PASSIVE_LEVEL.
        let _ = unsafe { ZwClose(self.handle) };
    }
}

/// `KEY_VALUE_PARTIAL_INFORMATION` with room for a value.
#[repr(C)]
struct Value {
    title: u32,
    kind: u32,
    length: u32,
    data: [u16; TEXT_UNITS],
}

const _: () = assert!(
    core::mem::offset_of!(Value, data)
        == core::mem::offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data)
);

impl Value {
    const EMPTY: Self = Self {
        title: 0,
        kind: 0,
        length: 0,
        data: [0; TEXT_UNITS],
    };
}

/// What a PCI device says of itself, as far as its first hardware ID tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PciIdentity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    /// The subsystem's device and vendor, as in the ID; 0, if there is none.
    pub(crate) subsystem: u32,
}

/// Units that are enough for the hardware IDs of a PCI device.
const HARDWARE_ID_UNITS: usize = 1024;

/// Text properties of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Property {
    /// The setup class, as `{GUID}`.
    ClassGuid,
    /// The bus driver's name for itself: `ACPI`, `PCI`, `USB`.
    Enumerator,
    /// What the INF calls the device.
    Description,
    /// The name under which Windows lists it, if it has one of its own.
    FriendlyName,
}

/// `DEVPKEY_Device_FriendlyName` of devpkey.h.
static FRIENDLY_NAME: DEVPROPKEY = DEVPROPKEY {
    fmtid: GUID {
        Data1: 0xA45C_254E,
        Data2: 0xDF1C,
        Data3: 0x4EFD,
        Data4: [0x80, 0x20, 0x67, 0xD1, 0x46, 0xA8, 0x50, 0xE0],
    },
    pid: 14,
};
/// `LOCALE_NEUTRAL` of winnt.h.
const LOCALE_NEUTRAL: u32 = 0;

impl PhysicalDevice {
    /// Vendor, device and subsystem of a PCI device: of `PCI\VEN_v(4)&DEV_d(4)&SUBSYS_s(8)...`.
    /// `None`, if the device is none, or there is no memory.
    pub(crate) fn pci_identity(self, _: Passive) -> Option<PciIdentity> {
        let mut bytes = Buffer::try_zeroed(HARDWARE_ID_UNITS.saturating_mul(2)).ok()?;
        let mut length: ULONG = 0;
        let object: *mut DEVICE_OBJECT = self.raw();
        // SAFETY: at PASSIVE_LEVEL, with a PDO; the buffer is as long as is said.
        check(unsafe {
            IoGetDeviceProperty(
                object,
                DEVICE_REGISTRY_PROPERTY::DevicePropertyHardwareID,
                u32::try_from(bytes.len()).ok()?,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        })
        .ok()?;
        let (units, _) = bytes.get(..length as usize)?.as_chunks::<2>();
        let mut id = units
            .iter()
            .map(|unit| u16::from_le_bytes(*unit))
            .take_while(|unit| *unit != 0)
            .map(|unit| u8::try_from(unit).unwrap_or(b'?').to_ascii_uppercase());
        let vendor = after(&mut id, b"PCI\\VEN_", 4)?;
        let device = after(&mut id, b"&DEV_", 4)?;
        let subsystem = after(&mut id, b"&SUBSYS_", 8).unwrap_or(0);
        Some(PciIdentity {
            vendor: u16::try_from(vendor).ok()?,
            device: u16::try_from(device).ok()?,
            subsystem,
        })
    }

    /// A text property. `None`, if the device has none, or a longer one.
    pub(crate) fn property<const N: usize>(
        self,
        property: Property,
        _: Passive,
    ) -> Option<Wide<N>> {
        let property = match property {
            Property::ClassGuid => DEVICE_REGISTRY_PROPERTY::DevicePropertyClassGuid,
            Property::Enumerator => DEVICE_REGISTRY_PROPERTY::DevicePropertyEnumeratorName,
            Property::Description => DEVICE_REGISTRY_PROPERTY::DevicePropertyDeviceDescription,
            Property::FriendlyName => DEVICE_REGISTRY_PROPERTY::DevicePropertyFriendlyName,
        };
        let mut units = [0u16; N];
        let mut length: ULONG = 0;
        let object: *mut DEVICE_OBJECT = self.raw();
        // SAFETY: at PASSIVE_LEVEL, with a PDO; the buffer is as long as is said.
        check(unsafe {
            IoGetDeviceProperty(
                object,
                property,
                size::<[u16; N]>(),
                units.as_mut_ptr().cast(),
                &raw mut length,
            )
        })
        .ok()?;
        Some(Wide::from_units(units.get(..length as usize / 2)?))
    }

    /// Sets the name under which Windows lists the device. The page of `IoSetDevicePropertyData`
    /// lets kernel-mode drivers set properties of the unified device property model, of which this
    /// is one.
    ///
    /// # Errors
    /// What `IoSetDevicePropertyData` says.
    pub(crate) fn set_friendly_name<const N: usize>(
        self,
        name: &Wide<N>,
        _: Passive,
    ) -> Result<(), Status> {
        // With its NUL; a name that leaves no room for it loses its last unit.
        let mut units = [0u16; N];
        let text = units.iter_mut().take(N.saturating_sub(1));
        let length = text.zip(name.units()).fold(1_u32, |length, (place, unit)| {
            *place = *unit;
            length.saturating_add(1)
        });
        // SAFETY: at PASSIVE_LEVEL, with a PDO; the data is at least that long, and is copied.
        check(unsafe {
            IoSetDevicePropertyData(
                self.raw(),
                &raw const FRIENDLY_NAME,
                LOCALE_NEUTRAL,
                PLUGPLAY_PROPERTY_PERSISTENT,
                DEVPROP_TYPE_STRING,
                length.saturating_mul(2),
                units.as_mut_ptr().cast(),
            )
        })
    }
}

/// A number of so many hexadecimal digits, if `word` comes next, and it.
fn after(text: &mut impl Iterator<Item = u8>, word: &[u8], digits: usize) -> Option<u32> {
    if !word.iter().all(|byte| text.next() == Some(*byte)) {
        return None;
    }
    (0..digits).try_fold(0_u32, |number, _| {
        let digit = char::from(text.next()?).to_digit(16)?;
        Some(number << 4 | digit)
    })
}

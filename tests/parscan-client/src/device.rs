use std::fmt;

/// A class of device interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceClass {
    /// `GUID_DEVINTERFACE_PARCLASS`: devices on parallel ports, which programs open
    ParallelDevice,
    /// `GUID_DEVINTERFACE_IMAGE`: still-image devices
    Image,
}

impl InterfaceClass {
    /// The GUID.
    #[must_use]
    pub const fn guid(self) -> u128 {
        match self {
            Self::ParallelDevice => 0x811F_C6A5_F728_11D0_A537_0000_F875_3ED1,
            Self::Image => SetupClass::Image.guid(),
        }
    }
}

impl fmt::Display for InterfaceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ParallelDevice => "parallel port",
            Self::Image => "scanner",
        })
    }
}

/// A class of devices, as INF files name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupClass {
    /// `Ports`: serial and parallel ports
    Ports,
    /// `Image`: scanners and cameras
    Image,
}

impl SetupClass {
    /// The GUID (devguid.h).
    #[must_use]
    pub const fn guid(self) -> u128 {
        match self {
            Self::Ports => 0x4D36_E978_E325_11CE_BFC1_0800_2BE1_0318,
            Self::Image => 0x6BDD_1FC6_810F_11D0_BEC7_0800_2BE2_092F,
        }
    }
}

/// What Windows knows of a device, whichever driver it has. A part that it does not know, or does not
/// tell this user, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNode {
    /// The device instance ID, `ACPI\PNP0400\1`
    pub instance_id: String,
    /// The name for people
    pub description: Option<String>,
    /// The hardware IDs, the best first
    pub hardware_ids: Vec<String>,
    /// The compatible IDs, `USB\Class_06`
    pub compatible_ids: Vec<String>,
    /// The service of the driver; of a device that needs none of its own, that of its parent
    pub service: Option<String>,
    /// What its driver came in
    pub package: Package,
    /// The name of the device object, `\Device\Parallel0`
    pub object_name: Option<String>,
    /// `CreateFileName` of the software key, `\\.\Usbscan0`: still-image devices
    pub create_file_name: Option<String>,
    /// `ParscanProbe` of the hardware key: whether looks at a parallel port ask its devices, 0 or 1.
    /// Without it they do
    pub parscan_probe: Option<u32>,
    /// Whether it is started
    pub started: Option<bool>,
    /// Why not: `CM_PROB_*` of cfg.h
    pub problem: Option<u32>,
}

/// A driver package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its INF, `oem12.inf`
    pub inf: Option<String>,
    /// Who made it, by the INF
    pub provider: Option<String>,
    /// Its version
    pub version: Option<String>,
}

/// A device that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What `CreateFileW` takes
    pub path: String,
    /// The device behind it
    pub node: DeviceNode,
}

impl Interface {
    /// The short name: `LPT1`, `LPT1.0`, `Usbscan0`; else the path.
    ///
    /// A parallel device `\Device\ParallelM` has the link `LPTn` with n = M + 1.
    #[must_use]
    pub fn name(&self) -> String {
        self.short_name().unwrap_or_else(|| self.path.clone())
    }

    /// The short name, if it is known without opening the device.
    pub(crate) fn short_name(&self) -> Option<String> {
        if let Some(name) = &self.node.create_file_name {
            return Some(name.trim_start_matches(r"\\.\").to_owned());
        }
        let rest = self
            .node
            .object_name
            .as_deref()?
            .strip_prefix(r"\Device\Parallel")?;
        let (number, chain) = rest.find('.').map_or((rest, ""), |dot| rest.split_at(dot));
        let number: u32 = number.parse().ok()?;
        Some(format!("LPT{}{chain}", number.checked_add(1)?))
    }
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// `SERVICE_RUNNING`: for a driver, it is loaded
    Running,
    /// `SERVICE_STOPPED`
    Stopped,
    /// On its way between the two
    Changing,
}

/// A service of Windows; drivers are services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Whether it runs
    pub state: ServiceState,
    /// The file
    pub image: String,
    /// `SERVICE_DISABLED`: it may not be started
    pub disabled: bool,
}

impl Service {
    /// A service that may be started.
    #[must_use]
    pub fn enabled(image: &str, state: ServiceState) -> Self {
        Self {
            state,
            image: image.to_owned(),
            disabled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(object: Option<&str>, file: Option<&str>) -> String {
        Interface {
            path: r"\\?\x".to_owned(),
            node: DeviceNode {
                object_name: object.map(str::to_owned),
                create_file_name: file.map(str::to_owned),
                ..DeviceNode::default()
            },
        }
        .name()
    }

    #[test]
    fn parallel_m_is_lpt_m_plus_one() {
        assert_eq!(name(Some(r"\Device\Parallel0"), None), "LPT1");
        assert_eq!(name(Some(r"\Device\Parallel11.4"), None), "LPT12.4");
        for other in [r"\Device\ParallelPort0", r"\Device\Parallel4294967295", ""] {
            assert_eq!(name(Some(other), None), r"\\?\x", "{other}");
        }
    }

    #[test]
    fn a_scanner_is_called_what_its_driver_wrote() {
        assert_eq!(name(None, Some(r"\\.\Usbscan3")), "Usbscan3");
        assert_eq!(name(Some(r"\Device\0000007a"), None), r"\\?\x");
    }
}

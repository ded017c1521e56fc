use parscan_client::{Interface, InterfaceClass, list};
use serde::Serialize;

use crate::{
    Host,
    complaint::Complaint,
    render::{report, table},
};

#[derive(Serialize)]
pub(super) struct All {
    ports: Vec<Device>,
    scanners: Vec<Device>,
}

#[derive(Serialize)]
pub(super) struct Scanners {
    scanners: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    /// `LPT1` or `Usbscan0`; `null` if only the device knows
    name: Option<String>,
    description: Option<String>,
    /// The service of its driver
    driver: Option<String>,
    instance_id: String,
    path: String,
}

report!(All);
report!(Scanners);

/// `parscanctl list`
pub(super) fn all(host: &Host) -> Result<All, Complaint> {
    Ok(All {
        ports: devices(host, InterfaceClass::ParallelDevice)?,
        scanners: devices(host, InterfaceClass::Image)?,
    })
}

/// `parscanctl scanner list`
pub(super) fn scanners(host: &Host) -> Result<Scanners, Complaint> {
    Ok(Scanners {
        scanners: devices(host, InterfaceClass::Image)?,
    })
}

fn devices(host: &Host, class: InterfaceClass) -> Result<Vec<Device>, Complaint> {
    let found = list(host.system, class)?;
    Ok(found.into_iter().map(Device::from).collect())
}

impl From<Interface> for Device {
    fn from(interface: Interface) -> Self {
        let name = interface.name();
        Self {
            name: (name != interface.path).then_some(name),
            description: interface.node.description,
            driver: interface.node.service,
            instance_id: interface.node.instance_id,
            path: interface.path,
        }
    }
}

impl All {
    fn lines(&self) -> String {
        let devices: Vec<&Device> = self.ports.iter().chain(&self.scanners).collect();
        lines(
            &devices,
            "no parallel port and no scanner; `parscanctl doctor` says why\n",
        )
    }
}

impl Scanners {
    fn lines(&self) -> String {
        let devices: Vec<&Device> = self.scanners.iter().collect();
        lines(&devices, "no scanner; `parscanctl doctor` says why\n")
    }
}

/// The table, or `none`.
fn lines(devices: &[&Device], none: &str) -> String {
    if devices.is_empty() {
        return none.to_owned();
    }
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![
        ["NAME", "DRIVER", "DESCRIPTION", "DEVICE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(devices.iter().map(|device| {
        vec![
            // Without a name the path is what --port takes.
            device.name.clone().unwrap_or_else(|| device.path.clone()),
            or_dash(&device.driver),
            or_dash(&device.description),
            device.instance_id.clone(),
        ]
    }));
    table(&rows)
}

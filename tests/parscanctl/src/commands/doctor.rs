use std::{collections::BTreeMap, fmt::Write as _};

use parscan_client::{
    DeviceNode, Error, Interface, InterfaceClass, Service, ServiceState, SetupClass, list,
};
use serde::Serialize;

use crate::{
    Host,
    complaint::{Complaint, Exit},
    render::report,
};

use super::diagnosis::{Finding, Kind, Verdict, by_bus, diagnose, is_parallel, without_driver};

#[derive(Serialize)]
pub(super) struct Report {
    healthy: bool,
    /// Whether the steps can be done from here
    elevated: bool,
    devices: Vec<Device>,
    /// What can be opened: `parscanctl list`
    interfaces: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Device {
    kind: Kind,
    instance_id: String,
    description: Option<String>,
    driver: Option<Driver>,
    inf: Option<String>,
    provider: Option<String>,
    driver_version: Option<String>,
    started: Option<bool>,
    problem: Option<u32>,
    /// Whether Windows' looks ask the devices on a port of parscan: `ParscanProbe`
    probes: Option<bool>,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
struct Driver {
    service: String,
    image: Option<String>,
    running: Option<bool>,
    disabled: Option<bool>,
}

report!(Report);

/// `parscanctl doctor`
pub(super) fn examine(host: &Host) -> Result<Report, Complaint> {
    let mut notes = Vec::new();
    let mut services = Services::default();
    let mut devices = Vec::new();
    for (kind, class) in [
        (Kind::Port, SetupClass::Ports),
        (Kind::Scanner, SetupClass::Image),
    ] {
        for node in host.system.devices(class)? {
            let ours = match kind {
                Kind::Port => is_parallel(&node),
                Kind::Scanner => node.instance_id.to_ascii_uppercase().starts_with("USB\\"),
            };
            if ours {
                let service = services.look_up(host, node.service.as_deref(), &mut notes);
                let finding = diagnose(kind, &node, service.as_ref());
                devices.push(Device::new(kind, node, service, finding));
            }
        }
    }
    // What never had a driver is in no class.
    for node in host.system.devices_without_class()? {
        if let Some(kind) = by_bus(&node) {
            let finding = without_driver(kind, &node);
            devices.push(Device::new(kind, node, None, finding));
        }
    }
    let mut interfaces = Vec::new();
    for class in [InterfaceClass::ParallelDevice, InterfaceClass::Image] {
        interfaces.extend(list(host.system, class)?.iter().map(Interface::name));
    }
    if !devices.iter().any(|device| device.kind == Kind::Port) {
        notes.push(
            "Windows knows no parallel port. If the computer has one, enable it in the firmware's \
             setup; then `pnputil /scan-devices`."
                .to_owned(),
        );
    }
    let running = |service: Option<Service>| {
        service.is_some_and(|service| service.state == ServiceState::Running)
    };
    if running(services.look_up(host, Some("Spooler"), &mut notes)) {
        notes.push(
            "The print spooler runs: \\\\.\\LPT1 to \\\\.\\LPT3 lead to it. parscanctl opens the \
             devices themselves, which is not affected."
                .to_owned(),
        );
    }
    let healthy = devices
        .iter()
        .any(|device| device.finding.verdict == Verdict::Parscan)
        && !devices
            .iter()
            .any(|device| device.finding.verdict == Verdict::Broken);
    Ok(Report {
        healthy,
        elevated: host.system.is_elevated(),
        devices,
        interfaces,
        notes,
    })
}

/// What is known of services, each asked for once.
#[derive(Default)]
struct Services(BTreeMap<String, Option<Service>>);

impl Services {
    /// A service, if there is one. A refusal becomes a note.
    fn look_up(
        &mut self,
        host: &Host,
        name: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Option<Service> {
        let name = name?;
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let service = host.system.service(name).unwrap_or_else(|error: Error| {
            notes.push(format!("Service {name}: {error}."));
            None
        });
        self.0.insert(name.to_owned(), service.clone());
        service
    }
}

impl Device {
    fn new(kind: Kind, node: DeviceNode, service: Option<Service>, finding: Finding) -> Self {
        let is_ours = kind == Kind::Port && finding.verdict == Verdict::Parscan;
        Self {
            kind,
            probes: is_ours.then(|| node.parscan_probe != Some(0)),
            driver: node.service.map(|name| Driver {
                service: name,
                running: service
                    .as_ref()
                    .map(|service| service.state == ServiceState::Running),
                disabled: service.as_ref().map(|service| service.disabled),
                image: service.map(|service| service.image),
            }),
            instance_id: node.instance_id,
            description: node.description,
            inf: node.package.inf,
            provider: node.package.provider,
            driver_version: node.package.version,
            started: node.started,
            problem: node.problem,
            finding,
        }
    }

    fn lines(&self) -> String {
        let mut text = format!(
            "{} ({})\n",
            self.description.as_deref().unwrap_or("unknown device"),
            self.instance_id
        );
        if let Some(driver) = &self.driver {
            let state = match (driver.disabled, driver.running) {
                (Some(true), _) => ", disabled",
                (_, Some(true)) => ", loaded",
                (_, Some(false)) => ", not loaded",
                (_, None) => "",
            };
            let image = driver.image.as_deref().map(|image| format!(", {image}"));
            let _ = writeln!(
                text,
                "  driver   {}{state}{}",
                driver.service,
                image.unwrap_or_default()
            );
        }
        if let Some(inf) = &self.inf {
            let mut parts = vec![inf.as_str()];
            parts.extend(self.driver_version.as_deref());
            parts.extend(self.provider.as_deref());
            let _ = writeln!(text, "  package  {}", parts.join(", "));
        }
        if let Some(probes) = self.probes {
            let probes = if probes {
                "1: Windows' looks ask a device that rests for its ID"
            } else {
                "0: Windows' looks move no line, and find no device"
            };
            let _ = writeln!(text, "  probe    {probes} (ParscanProbe)");
        }
        let mark = match self.finding.verdict {
            Verdict::Parscan => "ok",
            Verdict::OtherDriver => "note",
            Verdict::NoDriver | Verdict::Broken => "problem",
        };
        let _ = writeln!(text, "  {mark:7}  {}", self.finding.what);
        for step in &self.finding.next {
            let _ = writeln!(text, "  next     {step}");
        }
        text
    }
}

impl Report {
    /// How the program ends.
    pub(super) const fn exit(&self) -> Exit {
        if self.healthy {
            Exit::Done
        } else {
            Exit::Unhealthy
        }
    }

    fn lines(&self) -> String {
        let mut text: String = self.devices.iter().map(Device::lines).collect();
        if !self.interfaces.is_empty() {
            let _ = writeln!(text, "Can be opened: {}", self.interfaces.join(", "));
        }
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}");
        }
        if !self.elevated
            && self
                .devices
                .iter()
                .any(|device| !device.finding.next.is_empty())
        {
            text.push_str("The next steps need an elevated prompt (Run as administrator).\n");
        }
        text.push_str(if self.healthy {
            "parscan is installed and works\n"
        } else {
            "parscan does not serve a device here, or one of its devices does not work\n"
        });
        text
    }
}

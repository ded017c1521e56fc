//! What a device's state means, and what an administrator does about it. Nothing here asks the
//! computer.

use parscan_client::{DeviceNode, Service, ServiceState};
use serde::Serialize;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Port,
    Scanner,
}

impl Kind {
    /// Our driver package for it.
    const fn inf(self) -> &'static str {
        match self {
            Self::Port => "parscan_lpt.inf",
            Self::Scanner => "parscan_usb.inf",
        }
    }
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// parscan serves it.
    Parscan,
    /// Another driver serves it.
    OtherDriver,
    /// It has no driver.
    NoDriver,
    /// It does not work.
    Broken,
}

/// What is wrong or could be otherwise, and the next step.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) what: String,
    /// Commands, for an elevated prompt, or what else to do
    pub(super) next: Vec<String>,
}

/// Device problems: number, name (cfg.h), meaning, and what to do. `{id}` is the device instance ID
/// and `{inf}` our INF. After Microsoft's list "Error codes in Device Manager".
const PROBLEMS: &[(u32, &str, &str, &str)] = &[
    (
        1,
        "CM_PROB_NOT_CONFIGURED",
        "no driver is configured for it",
        INSTALL,
    ),
    (
        10,
        "CM_PROB_FAILED_START",
        "it could not be started: its resources are missing or unusable, or the hardware does not answer",
        RESTART,
    ),
    (
        14,
        "CM_PROB_NEED_RESTART",
        "it works after a restart of Windows",
        "shutdown /r /t 0",
    ),
    (
        18,
        "CM_PROB_REINSTALL",
        "its driver has to be installed again",
        INSTALL,
    ),
    (
        21,
        "CM_PROB_WILL_BE_REMOVED",
        "Windows is removing it",
        "pnputil /scan-devices",
    ),
    (
        22,
        "CM_PROB_DISABLED",
        "it is disabled",
        r#"pnputil /enable-device "{id}""#,
    ),
    (
        24,
        "CM_PROB_DEVICE_NOT_THERE",
        "the hardware is not there",
        "pnputil /scan-devices",
    ),
    (
        28,
        "CM_PROB_FAILED_INSTALL",
        "no driver is installed for it",
        INSTALL,
    ),
    (
        29,
        "CM_PROB_HARDWARE_DISABLED",
        "the firmware has disabled it",
        "Enable it in the firmware's setup.",
    ),
    (31, "CM_PROB_FAILED_ADD", "the driver refused it", RESTART),
    (
        32,
        "CM_PROB_DISABLED_SERVICE",
        "the service of its driver is disabled",
        "sc.exe config {service} start= demand",
    ),
    (
        37,
        "CM_PROB_FAILED_DRIVER_ENTRY",
        "the driver could not be initialised",
        RESTART,
    ),
    (
        38,
        "CM_PROB_DRIVER_FAILED_PRIOR_UNLOAD",
        "an older copy of the driver is still loaded",
        "shutdown /r /t 0",
    ),
    (
        39,
        "CM_PROB_DRIVER_FAILED_LOAD",
        "the driver's file is missing, damaged, or not allowed by memory integrity",
        INSTALL,
    ),
    (
        43,
        "CM_PROB_FAILED_POST_START",
        "the driver has reported a failure of the device",
        RESTART,
    ),
    (
        47,
        "CM_PROB_HELD_FOR_EJECT",
        "it is about to be ejected",
        "Unplug it and plug it in again.",
    ),
    (
        48,
        "CM_PROB_DRIVER_BLOCKED",
        "Windows blocks this driver",
        "Install a newer version of the driver.",
    ),
    (
        52,
        "CM_PROB_UNSIGNED_DRIVER",
        "Windows does not trust the driver's signature",
        "bcdedit -set TESTSIGNING ON, with Secure Boot off and the test certificate in the stores Root and TrustedPublisher; then restart Windows",
    ),
    (
        54,
        "CM_PROB_DEVICE_RESET",
        "it is being reset",
        "Wait, then look again.",
    ),
];

const INSTALL: &str = "pnputil /add-driver {inf} /install";
const RESTART: &str = r#"pnputil /restart-device "{id}""#;

/// What to say of a device. `service` is that of its driver, if Windows tells.
pub(super) fn diagnose(kind: Kind, node: &DeviceNode, service: Option<&Service>) -> Finding {
    let next = |step: &str| {
        step.replace("{id}", &node.instance_id)
            .replace("{inf}", kind.inf())
            .replace("{service}", node.service.as_deref().unwrap_or("<service>"))
    };
    let finding = |verdict, what: String, steps: &[&str]| Finding {
        verdict,
        what,
        next: steps.iter().map(|step| next(step)).collect(),
    };
    let parscan = is_parscan(node, service);
    if let Some(problem) = node.problem {
        let known = PROBLEMS.iter().find(|(number, ..)| *number == problem);
        let verdict = if node.service.is_none() {
            Verdict::NoDriver
        } else {
            Verdict::Broken
        };
        return match known {
            Some((number, name, meaning, step)) => finding(
                verdict,
                format!("{meaning} (code {number}, {name})"),
                &[step],
            ),
            None => finding(
                verdict,
                format!("it has problem code {problem}"),
                &[r#"pnputil /enum-devices /instanceid "{id}" /drivers"#],
            ),
        };
    }
    let Some(name) = &node.service else {
        return finding(Verdict::NoDriver, "it has no driver".to_owned(), &[INSTALL]);
    };
    if node.started == Some(false) {
        return finding(
            Verdict::Broken,
            format!("{name} is its driver, but it is not started"),
            &[RESTART],
        );
    }
    if !parscan {
        return finding(
            Verdict::OtherDriver,
            format!("{name} serves it, not parscan"),
            &[INSTALL],
        );
    }
    match service.map(|service| service.state) {
        Some(ServiceState::Stopped) => finding(
            Verdict::Broken,
            format!("{name} is its driver, but it is not loaded"),
            &[RESTART],
        ),
        _ => finding(Verdict::Parscan, "parscan serves it".to_owned(), &[]),
    }
}

/// Whether the driver is parscan: by its file, or by the name of its service where Windows does not
/// tell the file.
fn is_parscan(node: &DeviceNode, service: Option<&Service>) -> bool {
    let lower = |text: &str| text.to_ascii_lowercase();
    match service {
        Some(service) => lower(&service.image).ends_with("parscan.sys"),
        None => node
            .service
            .as_deref()
            .is_some_and(|name| lower(name).starts_with("parscan")),
    }
}

/// The scanners that our INF lists, by their lines.
const SCANNERS: &str = include_str!("../../../../inf/parscan_usb.inx");

/// What a device without a class is to us, by its bus; `None`: nothing of ours.
pub(super) fn by_bus(node: &DeviceNode) -> Option<Kind> {
    if is_parallel(node) {
        return Some(Kind::Port);
    }
    let is_usb = node.instance_id.to_ascii_uppercase().starts_with("USB\\");
    let is_image = node
        .compatible_ids
        .iter()
        .any(|id| id.to_ascii_uppercase().starts_with("USB\\CLASS_06"));
    (is_usb && (is_image || is_listed(node))).then_some(Kind::Scanner)
}

/// Whether our INF has a line for a scanner.
fn is_listed(node: &DeviceNode) -> bool {
    let listed = |id: &str| {
        SCANNERS
            .lines()
            .filter_map(|line| line.split_once("Scan_Inst,"))
            .any(|(_, line)| line.trim().eq_ignore_ascii_case(id))
    };
    node.hardware_ids.iter().any(|id| listed(id))
}

/// What to say of a device of no class, which has no driver.
pub(super) fn without_driver(kind: Kind, node: &DeviceNode) -> Finding {
    let what = match kind {
        Kind::Port => "a parallel port without any driver".to_owned(),
        Kind::Scanner if is_listed(node) => "a scanner without any driver".to_owned(),
        Kind::Scanner => {
            "a scanner or camera without any driver, which parscan's INF does not list".to_owned()
        }
    };
    let step = if kind == Kind::Scanner && !is_listed(node) {
        "Install its vendor's driver; or add its line to a copy of parscan_usb.inx (tests/windows/README.md)"
    } else {
        INSTALL
    };
    Finding {
        verdict: Verdict::NoDriver,
        what,
        next: vec![step.replace("{inf}", kind.inf())],
    }
}

/// Whether a device of the class Ports is a parallel port: by its hardware ID, or by its driver
/// (cards have hardware IDs of their own).
pub(super) fn is_parallel(node: &DeviceNode) -> bool {
    let by_id = node.hardware_ids.iter().any(|id| {
        let id = id.to_ascii_uppercase();
        ["PNP0400", "PNP0401", "DEV_0400", "DEV_0401"]
            .iter()
            .any(|port| id.ends_with(port))
            && !id.starts_with("PCI")
    });
    let by_driver = node.service.as_deref().is_some_and(|name| {
        ["parport", "parscanport"].contains(&name.to_ascii_lowercase().as_str())
    });
    by_id || by_driver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(service: Option<&str>, started: bool, problem: Option<u32>) -> DeviceNode {
        DeviceNode {
            instance_id: r"ACPI\PNP0400\1".to_owned(),
            service: service.map(str::to_owned),
            started: Some(started),
            problem,
            ..DeviceNode::default()
        }
    }

    #[test]
    fn the_file_says_which_driver_it_is() {
        let ours = Service::enabled(
            r"\SystemRoot\System32\DriverStore\x\Parscan.SYS",
            ServiceState::Running,
        );
        let inbox = Service::enabled(
            r"\SystemRoot\System32\drivers\parport.sys",
            ServiceState::Running,
        );
        for (service, verdict) in [
            (Some(&ours), Verdict::Parscan),
            (Some(&inbox), Verdict::OtherDriver),
            (None, Verdict::Parscan),
        ] {
            let finding = diagnose(Kind::Port, &node(Some("ParscanPort"), true, None), service);
            assert_eq!(finding.verdict, verdict);
            assert_eq!(finding.next.is_empty(), verdict == Verdict::Parscan);
        }
    }

    #[test]
    fn every_state_that_is_not_well_has_a_next_step() {
        let ours = Service::enabled("parscan.sys", ServiceState::Stopped);
        for (node, verdict) in [
            (node(None, false, None), Verdict::NoDriver),
            (node(None, false, Some(28)), Verdict::NoDriver),
            (node(Some("ParscanPort"), false, Some(52)), Verdict::Broken),
            (
                node(Some("ParscanPort"), false, Some(4711)),
                Verdict::Broken,
            ),
            (node(Some("ParscanPort"), false, None), Verdict::Broken),
            (node(Some("ParscanPort"), true, None), Verdict::Broken),
        ] {
            let finding = diagnose(Kind::Scanner, &node, Some(&ours));
            assert_eq!(finding.verdict, verdict, "{node:?}");
            assert_eq!(finding.next.len(), 1, "{node:?}");
            assert!(!finding.next[0].contains('{'), "{node:?}");
        }
    }

    #[test]
    fn a_device_without_a_class_is_known_by_its_bus() {
        let node = |instance: &str, hardware: &str, compatible: &str| DeviceNode {
            instance_id: instance.to_owned(),
            hardware_ids: vec![hardware.to_owned()],
            compatible_ids: vec![compatible.to_owned()],
            ..DeviceNode::default()
        };
        let port = node(r"ACPI\PNP0400\1", r"ACPI\PNP0400", "*PNP0400");
        let listed = node(r"USB\VID_04A9&PID_1909\5", r"usb\vid_04a9&pid_1909", "");
        let camera = node(
            r"USB\VID_1234&PID_5678\5",
            r"USB\VID_1234&PID_5678",
            r"USB\Class_06&SubClass_01",
        );
        let mouse = node(
            r"USB\VID_046D&PID_C077\5",
            r"USB\VID_046D&PID_C077",
            r"USB\Class_03",
        );
        assert_eq!(by_bus(&port), Some(Kind::Port));
        assert_eq!(by_bus(&listed), Some(Kind::Scanner));
        assert_eq!(by_bus(&camera), Some(Kind::Scanner));
        assert_eq!(by_bus(&mouse), None);
        let next = |kind, node| without_driver(kind, node).next.remove(0);
        assert_eq!(
            next(Kind::Port, &port),
            "pnputil /add-driver parscan_lpt.inf /install"
        );
        assert_eq!(
            next(Kind::Scanner, &listed),
            "pnputil /add-driver parscan_usb.inf /install"
        );
        assert!(next(Kind::Scanner, &camera).contains("vendor"));
    }

    #[test]
    fn serial_ports_are_not_parallel_ports() {
        let with = |ids: &[&str], service: &str| DeviceNode {
            hardware_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            service: Some(service.to_owned()),
            ..DeviceNode::default()
        };
        assert!(is_parallel(&with(&[r"ACPI\PNP0401", "*PNP0401"], "")));
        assert!(is_parallel(&with(&[r"ACPI\VEN_PNP&DEV_0400"], "")));
        assert!(is_parallel(&with(&[r"MF\PCI9710_00"], "Parport")));
        assert!(!is_parallel(&with(
            &[r"ACPI\PNP0501", "*PNP0501"],
            "Serial"
        )));
        assert!(!is_parallel(&with(&[r"PCI\VEN_8086&DEV_0400"], "Serial")));
    }
}

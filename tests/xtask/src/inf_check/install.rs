//! Rules about install sections, services, and what may stand where: D, I, X.

use super::{
    Check, Rule,
    map::{Kind, is_of},
    parse::Section,
};

/// `AddService` flag `SPSVCINST_ASSOCSERVICE`: the device's function driver.
const ASSOCIATED: u32 = 0x2;

/// What the name of our services begins with, and no service of Windows or of a sample.
const PREFIX: &str = "Parscan";

/// Sections that a universal INF may not have, by their ending.
const FORBIDDEN_SECTIONS: &[&str] = &[
    "ClassInstall32",
    ".ClassInstall32",
    "InterfaceInstall32",
    ".CoInstallers",
    ".FactDef",
    ".LogConfigOverride",
    "DefaultInstall",
    "DefaultInstall.Services",
];

/// Directives that a universal INF may not have.
const FORBIDDEN: &[&str] = &[
    "BitReg",
    "DelFiles",
    "DelProperty",
    "DelReg",
    "DelService",
    "Ini2Reg",
    "LogConfig",
    "ProfileItems",
    "RegisterDlls",
    "RenFiles",
    "UnregisterDlls",
    "UpdateIniFields",
    "UpdateInis",
];

/// Directives and how many arguments they take.
type Directives = &'static [(&'static str, usize)];

const MANY: usize = usize::MAX;

const VERSION: Directives = &[
    ("Signature", 1),
    ("Class", 1),
    ("ClassGuid", 1),
    ("Provider", 1),
    ("CatalogFile", 1),
    ("DriverVer", 2),
    ("PnpLockdown", 1),
];

/// `DDInstall`, with the lines of the Image class.
const INSTALL: Directives = &[
    ("CopyFiles", MANY),
    ("AddReg", MANY),
    ("AddProperty", MANY),
    ("Include", MANY),
    ("Needs", MANY),
    ("FeatureScore", 1),
    ("SubClass", 1),
    ("DeviceType", 1),
    ("DeviceSubType", 1),
    ("Capabilities", 1),
    ("Events", 1),
    ("DeviceData", 1),
    ("ICMProfiles", MANY),
];

const HARDWARE: Directives = &[("AddReg", MANY), ("Include", MANY), ("Needs", MANY)];

const SERVICES: Directives = &[("AddService", 6), ("Include", MANY), ("Needs", MANY)];

const INTERFACES: Directives = &[("AddInterface", 4), ("Include", MANY), ("Needs", MANY)];

const FILTERS: Directives = &[("AddFilter", 3), ("Include", MANY), ("Needs", MANY)];

const INTERFACE: Directives = &[("AddReg", MANY), ("AddProperty", MANY)];

const SERVICE: Directives = &[
    ("DisplayName", 1),
    ("Description", 1),
    ("ServiceType", 1),
    ("StartType", 1),
    ("ErrorControl", 1),
    ("ServiceBinary", 1),
    ("LoadOrderGroup", 1),
    ("Dependencies", MANY),
    ("Security", 1),
    ("AddReg", MANY),
];

/// The rules.
pub(super) fn check(check: &mut Check<'_>) {
    check_installs(check);
    for section in check.map.of(Kind::Services) {
        check_services(check, section);
    }
    for section in check.map.of(Kind::Service) {
        check_service(check, section);
    }
    check_interfaces(check);
    check_needs(check);
    check_sections(check);
    check_directives(check);
}

fn check_installs(check: &mut Check<'_>) {
    for model in &check.map.models {
        let line = model.entry.line;
        let name = model.install_name();
        let Some(install) = model.install else {
            check.report(Rule::D1, line, format!("there is no [{name}.NT]"));
            continue;
        };
        let services = format!("{}.Services", install.name);
        check.expect(
            check.inf.section(&services).is_some(),
            Rule::D1,
            install.line,
            || format!("there is no [{services}]"),
        );
    }
}

fn check_services(check: &mut Check<'_>, section: &Section) {
    let services = section
        .entries
        .iter()
        .filter(|entry| entry.is("AddService"));
    let associated = services
        .clone()
        .filter(|entry| number(entry.value(1)).is_some_and(|flags| flags & ASSOCIATED != 0))
        .count();
    check.expect(
        associated == 1 && services.clone().count() == 1,
        Rule::D2,
        section.line,
        || format!("{associated} services with flag 2, not one"),
    );
    for entry in services {
        let name = entry.value(0);
        let own = name.len() > PREFIX.len()
            && name
                .get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        let localised = entry.raw(0).contains('%');
        check.expect(own && !localised, Rule::D5, entry.line, || {
            format!("service {name:?} is not named {PREFIX}...")
        });
    }
}

fn check_service(check: &mut Check<'_>, section: &Section) {
    for (directive, right) in [("ServiceType", 1), ("ErrorControl", 1)] {
        let value = section.value(directive);
        check.expect(number(value) == Some(right), Rule::D3, section.line, || {
            format!("{directive} is {value:?}, not {right}")
        });
    }
    let start = section.value("StartType");
    let rule = if start.is_empty() { Rule::D3 } else { Rule::D4 };
    check.expect(number(start) == Some(3), rule, section.line, || {
        format!("StartType is {start:?}, not 3")
    });
    let binary = section.value("ServiceBinary");
    let file = binary.strip_prefix(r"%13%\");
    check.expect(file.is_some(), Rule::D3, section.line, || {
        format!(r"ServiceBinary is {binary:?}, not in %13%\")
    });
    if let Some(file) = file {
        let copied = check.map.copied();
        check.expect(
            copied
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(file)),
            Rule::D6,
            section.line,
            || format!("{file} is not copied"),
        );
    }
}

fn check_interfaces(check: &mut Check<'_>) {
    for entry in check
        .map
        .of(Kind::Interfaces)
        .flat_map(|section| &section.entries)
    {
        if !entry.is("AddInterface") {
            continue;
        }
        let flags = entry.value(3);
        let plain = flags.is_empty() || number(flags) == Some(0);
        check.expect(
            is_guid(entry.value(0)) && plain,
            Rule::I1,
            entry.line,
            || format!("AddInterface {} with flags {flags:?}", entry.value(0)),
        );
    }
}

/// `{8-4-4-4-12}` hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let groups: Vec<&str> = inner.unwrap_or_default().split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn check_needs(check: &mut Check<'_>) {
    for (kind, section) in &check.map.sections {
        let ending = match kind {
            Kind::Install => "",
            Kind::Hardware => ".HW",
            Kind::Services => ".Services",
            Kind::Interfaces => ".Interfaces",
            Kind::Filters => ".Filters",
            _ => continue,
        };
        let include = section.entry("Include");
        if let Some(needs) = section.entry("Needs") {
            let endings = [".HW", ".Services", ".Interfaces", ".Filters"];
            for name in needs.values() {
                let its = endings.iter().find(|end| {
                    name.to_ascii_lowercase()
                        .ends_with(&end.to_ascii_lowercase())
                });
                check.expect(
                    include.is_some() && *its.unwrap_or(&"") == ending,
                    Rule::I2,
                    needs.line,
                    || format!("Needs = {name} in [{}]", section.name),
                );
            }
        }
        let default = check
            .inf
            .section("DestinationDirs")
            .is_some_and(|folders| folders.entry("DefaultDestDir").is_some());
        if let Some(include) = include.filter(|_| default) {
            check.report(Rule::I2, include.line, "Include, with a DefaultDestDir");
        }
    }
}

fn check_sections(check: &mut Check<'_>) {
    for section in &check.inf.sections {
        let name = section.name.to_ascii_lowercase();
        let forbidden = FORBIDDEN_SECTIONS.iter().any(|bad| {
            let bad = bad.to_ascii_lowercase();
            name == bad || (bad.starts_with('.') && name.ends_with(&bad))
        }) || is_of(&name, "classinstall32");
        check.expect(!forbidden, Rule::X1, section.line, || {
            format!("[{}] is not universal", section.name)
        });
        if is_of(&name, "classinstall32") {
            check.report(
                Rule::V4,
                section.line,
                "a class of Microsoft is installed anew",
            );
        }
    }
}

fn check_directives(check: &mut Check<'_>) {
    if let Some(version) = check.inf.section("Version") {
        check_known(check, version, VERSION);
    }
    for (kind, section) in &check.map.sections {
        match kind {
            Kind::Install => check_known(check, section, INSTALL),
            Kind::Hardware => check_known(check, section, HARDWARE),
            Kind::Services => check_known(check, section, SERVICES),
            Kind::Interfaces => check_known(check, section, INTERFACES),
            Kind::Filters => check_known(check, section, FILTERS),
            Kind::Service => check_known(check, section, SERVICE),
            Kind::EventLog | Kind::Interface | Kind::Filter => {
                check_known(check, section, INTERFACE);
            }
            Kind::Models => check_keys(check, section, true, MANY),
            Kind::Files => check_keys(check, section, false, 5),
            Kind::Registry(_) => check_keys(check, section, false, MANY),
            Kind::Other | Kind::Data => {}
        }
    }
    for section in &check.inf.sections {
        let name = section.name.to_ascii_lowercase();
        let most = match name.as_str() {
            "manufacturer" => MANY,
            "destinationdirs" => 2,
            _ if is_of(&name, "strings") => 1,
            _ if is_of(&name, "sourcedisksfiles") => 3,
            _ if is_of(&name, "sourcedisksnames") => 6,
            _ => continue,
        };
        check_keys(check, section, true, most);
        if most != MANY {
            check_repeated(check, section, &[]);
        }
    }
}

/// Only these directives, with no more arguments, and none twice that takes one argument.
fn check_known(check: &mut Check<'_>, section: &Section, known: Directives) {
    for entry in &section.entries {
        let name = entry.key();
        if FORBIDDEN.iter().any(|bad| entry.is(bad)) {
            check.report(Rule::X2, entry.line, format!("{name} is not universal"));
            continue;
        }
        let Some((_, most)) = known.iter().find(|(known, _)| entry.is(known)) else {
            check.report(
                Rule::X3,
                entry.line,
                format!("[{}] has no directive {name:?}", section.name),
            );
            continue;
        };
        check.expect(entry.len() <= *most, Rule::X3, entry.line, || {
            format!("{name} has {} arguments, not {most}", entry.len())
        });
    }
    let many: Vec<&str> = known
        .iter()
        .filter(|(_, most)| *most > 2)
        .map(|(name, _)| *name)
        .collect();
    check_repeated(check, section, &many);
}

fn check_repeated(check: &mut Check<'_>, section: &Section, many: &[&str]) {
    for (index, entry) in section.entries.iter().enumerate() {
        let earlier = section.entries.iter().take(index);
        let twice = !many.iter().any(|name| entry.is(name))
            && earlier.into_iter().any(|other| other.is(entry.key()));
        check.expect(!twice, Rule::X3, entry.line, || {
            format!("{} stands twice", entry.key())
        });
    }
}

/// Lines with a key, or without one, and no more values than this.
fn check_keys(check: &mut Check<'_>, section: &Section, keys: bool, most: usize) {
    for entry in &section.entries {
        let right = entry.has_key() == keys && (1..=most).contains(&entry.len());
        check.expect(right, Rule::X3, entry.line, || {
            format!("no line for [{}]", section.name)
        });
    }
}

/// A number of an INF: decimal, or hexadecimal after 0x.
pub(super) fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    lower.strip_prefix("0x").map_or_else(
        || lower.parse().ok(),
        |digits| u32::from_str_radix(digits, 16).ok(),
    )
}

//! Rules of this project: P.

use super::{
    Check, Finding, Rule,
    install::number,
    map::{Kind, Map, Place},
    parse::{Entry, Inf, is_strings},
};

/// `FILE_DEVICE_SECURE_OPEN`: names behind the device are guarded as the device is.
const SECURE_OPEN: u32 = 0x100;

/// Who may be given rights: the system, administrators, who is logged on, `LocalService`.
const TRUSTEES: &[&str] = &["SY", "BA", "IU", "LS"];

/// What says whether a scanner is suspended and wakes up, each with the highest value that it can
/// have: users find all of them in the registry, where they change what the INF wrote.
const SUSPENSION: [(&str, u32); 5] = [
    ("DeviceIdleEnabled", 1),
    ("DefaultIdleState", 1),
    ("DefaultIdleTimeout", u32::MAX),
    ("DeviceIdleIgnoreWakeEnable", 1),
    ("SystemWakeEnabled", 1),
];

/// The rules for one file.
pub(super) fn check(check: &mut Check<'_>) {
    check_used(check);
    check_security(check);
    check_image(check);
    check_role(check);
    check_processor(check);
    check_messages(check);
    let ids = ids(check.map);
    for (index, (line, id)) in ids.iter().enumerate() {
        let twice = ids.iter().take(index).any(|(_, other)| other == id);
        check.expect(!twice, Rule::P6, *line, || format!("{id} stands twice"));
    }
}

/// Hardware IDs in upper case, with their lines.
fn ids(map: &Map<'_>) -> Vec<(usize, String)> {
    map.models
        .iter()
        .flat_map(|model| model.ids().map(move |id| (model.entry.line, id)))
        .map(|(line, id)| (line, id.to_ascii_uppercase()))
        .collect()
}

fn check_used(check: &mut Check<'_>) {
    let inf = check.inf;
    for section in &inf.sections {
        check.expect(!section.entries.is_empty(), Rule::P2, section.line, || {
            format!("[{}] is empty", section.name)
        });
        for entry in section.entries.iter().filter(|_| is_strings(&section.name)) {
            let name = entry.key().to_ascii_lowercase();
            check.expect(inf.used.contains(&name), Rule::P1, entry.line, || {
                format!("string {} is not used", entry.key())
            });
        }
    }
}

fn check_messages(check: &mut Check<'_>) {
    /// `EVENTLOG_ERROR_TYPE`, `_WARNING_TYPE`, `_INFORMATION_TYPE`
    const TYPES: u32 = 7;
    let files = value(check.map, Place::EventLog, "", "EventMessageFile");
    let named = files.is_some_and(|entry| {
        let files = entry.value(4).to_ascii_lowercase();
        files.contains("iologmsg.dll;") && files.ends_with(r"%13%\parscan.sys")
    });
    check.expect(named, Rule::P9, files.map_or(0, |it| it.line), || {
        "EventMessageFile does not name IoLogMsg.dll and the driver".to_owned()
    });
    let types = value(check.map, Place::EventLog, "", "TypesSupported");
    check.expect(
        types.is_some_and(|entry| number(entry.value(4)) == Some(TYPES)),
        Rule::P9,
        types.map_or(0, |it| it.line),
        || "TypesSupported is not 7".to_owned(),
    );
}

/// The first registry value of the name in the key.
fn value<'a>(map: &Map<'a>, place: Place, key: &str, name: &str) -> Option<&'a Entry> {
    map.registry()
        .find(|(its, entry)| {
            *its == place
                && entry.value(1).eq_ignore_ascii_case(key)
                && entry.value(2).eq_ignore_ascii_case(name)
        })
        .map(|(_, entry)| entry)
}

fn check_security(check: &mut Check<'_>) {
    let map = check.map;
    match value(map, Place::Hardware, "", "Security") {
        Some(entry) => {
            let text = entry.value(4);
            let image = check.class().eq_ignore_ascii_case("Image");
            check.expect(is_protected(text, image), Rule::P3, entry.line, || {
                format!("{text} is not the descriptor of a device")
            });
        }
        None => check.report(Rule::P3, 0, "the device has no Security"),
    }
    let characteristics = value(map, Place::Hardware, "", "DeviceCharacteristics")
        .and_then(|entry| number(entry.value(4)));
    check.expect(
        characteristics.is_some_and(|bits| bits & SECURE_OPEN != 0),
        Rule::P3,
        0,
        || "DeviceCharacteristics lacks FILE_DEVICE_SECURE_OPEN".to_owned(),
    );
}

/// Is it a protected DACL that gives all to the system and administrators, something to who is
/// logged on (and to the WIA service, for an image device), and nothing to other users?
fn is_protected(sddl: &str, image: bool) -> bool {
    let Some(list) = sddl
        .strip_prefix("D:P(")
        .and_then(|list| list.strip_suffix(')'))
    else {
        return false;
    };
    let entries: Vec<Vec<&str>> = list
        .split(")(")
        .map(|entry| entry.split(';').collect())
        .collect();
    let given = |trustee: &str| {
        entries.iter().find_map(|entry| match entry[..] {
            ["A", "", rights, "", "", to] if to == trustee => Some(rights),
            _ => None,
        })
    };
    entries
        .iter()
        .all(|entry| entry.len() == 6 && entry.last().is_some_and(|to| TRUSTEES.contains(to)))
        && given("SY") == Some("GA")
        && given("BA") == Some("GA")
        && given("IU") == Some("GRGW")
        && given("LS") == image.then_some("GRGWGX")
}

fn check_image(check: &mut Check<'_>) {
    let class = check.class();
    if class.eq_ignore_ascii_case("Ports") {
        if let Some(entry) = value(check.map, Place::Hardware, "", "PortName") {
            check.report(Rule::P4, entry.line, "PortName is the class installer's");
        }
        return;
    }
    for section in check.map.of(Kind::Install) {
        for (directive, right) in [
            ("Include", "sti.inf"),
            ("Needs", "STI.USBSection"),
            ("SubClass", "StillImage"),
            ("DeviceType", "1"),
            ("Capabilities", "0x01"),
        ] {
            let its = section.value(directive);
            check.expect(
                its.eq_ignore_ascii_case(right),
                Rule::P4,
                section.line,
                || format!("{directive} is {its:?}, not {right}"),
            );
        }
    }
    let config = value(check.map, Place::Software, "", "HardwareConfig");
    check.expect(
        config.is_some_and(|entry| u8::from_str_radix(entry.value(4), 16) == Ok(4)),
        Rule::P4,
        0,
        || "HardwareConfig is not 4, USB".to_owned(),
    );
    for (name, most) in SUSPENSION {
        let entry = value(check.map, Place::Hardware, "", name);
        let is_set = entry
            .and_then(|entry| number(entry.value(4)))
            .is_some_and(|it| it <= most);
        check.expect(is_set, Rule::P10, entry.map_or(0, |it| it.line), || {
            format!("{name} has no value, or one that it cannot have")
        });
    }
    for (line, id) in ids(check.map) {
        check.expect(is_product(&id), Rule::P4, line, || {
            format!(r"{id} is not USB\VID_xxxx&PID_xxxx")
        });
    }
}

/// `USB\VID_xxxx&PID_xxxx` with hexadecimal digits.
fn is_product(id: &str) -> bool {
    let numbers = id
        .strip_prefix(r"USB\VID_")
        .and_then(|rest| rest.split_once("&PID_"));
    numbers.is_some_and(|(vendor, product)| {
        [vendor, product]
            .iter()
            .all(|number| number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

fn check_role(check: &mut Check<'_>) {
    let right = if check.class().eq_ignore_ascii_case("Image") {
        2
    } else {
        1
    };
    let entry = value(check.map, Place::Service, "Parameters", "Role");
    let role = entry.and_then(|entry| number(entry.value(4)));
    check.expect(
        role == Some(right),
        Rule::P5,
        entry.map_or(0, |entry| entry.line),
        || format!("Role is {role:?}, not {right}"),
    );
}

/// The architectures in the decorations are those that the driver of the role is built for.
fn check_processor(check: &mut Check<'_>) {
    let built: &[&str] = if check.class().eq_ignore_ascii_case("Image") {
        &["ntamd64", "ntarm64"]
    } else {
        &["ntamd64"]
    };
    for target in &check.map.targets {
        let system = target.decoration.split('.').next().unwrap_or_default();
        let system = system.to_ascii_lowercase();
        // Without one, M4 is broken.
        let none = system.is_empty() || system == "nt";
        check.expect(
            none || built.contains(&system.as_str()),
            Rule::P8,
            target.line,
            || format!("{} is not served", target.decoration),
        );
    }
}

/// The rules for the INFs of one folder: file and finding.
pub(super) fn check_together(infs: &[(&str, &Inf)]) -> Vec<(String, Finding)> {
    let mut found = Vec::new();
    let mut seen: Vec<(String, &str)> = Vec::new();
    for (file, inf) in infs {
        for (line, what) in own(inf) {
            match seen
                .iter()
                .find(|(known, other)| *known == what && other != file)
            {
                Some((_, other)) => found.push((
                    (*file).to_owned(),
                    Finding {
                        line,
                        rule: Rule::P7,
                        message: format!("{what} is in {other} too"),
                    },
                )),
                None => seen.push((what, file)),
            }
        }
    }
    found
}

/// What an INF must have for itself: services, catalog, hardware IDs.
fn own(inf: &Inf) -> Vec<(usize, String)> {
    let map = Map::new(inf);
    let services = map.of(Kind::Services).flat_map(|section| &section.entries);
    let catalog = inf
        .section("Version")
        .into_iter()
        .flat_map(|version| &version.entries);
    let named = services
        .filter(|entry| entry.is("AddService"))
        .chain(catalog.filter(|entry| entry.is("CatalogFile")))
        .map(|entry| (entry.line, entry.value(0).to_ascii_lowercase()));
    named.chain(ids(&map)).collect()
}

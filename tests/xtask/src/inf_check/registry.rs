//! Rules about registry values: R, D7, D8.

use super::{Check, Rule, install::number, map::Place, parse::Entry};

/// `AddReg` types, the part of the flags that is no modifier (inf-addreg-directive).
const TYPES: &[(u32, Type)] = &[
    (0x0000_0000, Type::Text),
    (0x0000_0001, Type::Binary),
    (0x0001_0000, Type::MultiText),
    (0x0002_0000, Type::ExpandText),
    (0x0001_0001, Type::Dword),
    (0x0002_0001, Type::None),
    (0x000B_0001, Type::Qword),
];

/// No clobber, key only, overwrite only.
const MODIFIERS: u32 = 0x2 | 0x10 | 0x20;

/// Delete and append: what a universal INF may not do.
const NOT_UNIVERSAL: u32 = 0x4 | 0x8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Binary,
    MultiText,
    ExpandText,
    Dword,
    None,
    Qword,
}

/// Values that Windows looks for: where, and of which type.
const KNOWN: &[(&str, Place, Type)] = &[
    ("CLSID", Place::Software, Type::Text),
    ("CreateFileName", Place::Software, Type::Text),
    ("DefaultIdleState", Place::Hardware, Type::Dword),
    ("DefaultIdleTimeout", Place::Hardware, Type::Dword),
    ("DeviceCharacteristics", Place::Hardware, Type::Dword),
    ("DeviceIdleEnabled", Place::Hardware, Type::Dword),
    ("DeviceIdleIgnoreWakeEnable", Place::Hardware, Type::Dword),
    ("DeviceType", Place::Hardware, Type::Dword),
    ("EnableConnectInterruptIoctl", Place::Hardware, Type::Dword),
    ("EnumPropPages32", Place::Software, Type::Text),
    ("EventMessageFile", Place::EventLog, Type::ExpandText),
    ("Exclusive", Place::Hardware, Type::Dword),
    ("HardwareConfig", Place::Software, Type::Binary),
    ("LowerFilters", Place::Hardware, Type::MultiText),
    ("PortName", Place::Hardware, Type::Text),
    ("Role", Place::Service, Type::Dword),
    ("Security", Place::Hardware, Type::Text),
    ("SystemWakeEnabled", Place::Hardware, Type::Dword),
    ("TypesSupported", Place::EventLog, Type::Dword),
    ("UpperFilters", Place::Hardware, Type::MultiText),
    ("USDClass", Place::Software, Type::Text),
];

/// What directives of a service section set.
const INTRINSIC: &[&str] = &[
    "DependOnGroup",
    "DependOnService",
    "Description",
    "DisplayName",
    "ErrorControl",
    "Group",
    "ImagePath",
    "ObjectName",
    "Security",
    "Start",
    "Tag",
    "Type",
];

/// The rules.
pub(super) fn check(check: &mut Check<'_>) {
    for (place, entry) in check.map.registry() {
        let line = entry.line;
        let (root, key, name) = (entry.value(0), entry.value(1), entry.value(2));
        check.expect(root.eq_ignore_ascii_case("HKR"), Rule::R1, line, || {
            format!("root {root}, not HKR")
        });
        let kind = check_flags(check, entry);
        if place == Place::Service {
            let first = key.split('\\').next().unwrap_or_default();
            check.expect(
                first.eq_ignore_ascii_case("Parameters"),
                Rule::D7,
                line,
                || format!("{name} is not below Parameters"),
            );
            let intrinsic = key.is_empty() && contains(INTRINSIC, name)
                || key.to_ascii_lowercase().starts_with("triggerinfo");
            check.expect(!intrinsic, Rule::D8, line, || {
                format!("{name} is set by a directive")
            });
        }
        if contains(&["UpperFilters", "LowerFilters"], name) {
            check.report(Rule::R5, line, format!("{name}: use [DDInstall.Filters]"));
        }
        if name.eq_ignore_ascii_case("Security") {
            let right = place == Place::Hardware && key.is_empty();
            check.expect(right, Rule::R6, line, || {
                "security outside HKR of .HW".to_owned()
            });
        }
        let known = KNOWN
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name));
        if let Some((_, its, typed)) = known {
            check.expect(place == *its, Rule::R2, line, || {
                format!("{name} belongs into the {its:?} key, this is the {place:?} key")
            });
            check.expect(
                kind.is_none_or(|kind| kind == *typed),
                Rule::R4,
                line,
                || format!("{name} is {typed:?}"),
            );
        }
    }
}

/// Checks flags and value of a line. Its type, if there is one.
fn check_flags(check: &mut Check<'_>, entry: &Entry) -> Option<Type> {
    let text = entry.value(3);
    let flags = if text.is_empty() {
        Some(0)
    } else {
        number(text)
    };
    let kind = flags.and_then(|flags| {
        TYPES
            .iter()
            .find(|(bits, _)| *bits == flags & !(MODIFIERS | NOT_UNIVERSAL))
            .map(|(_, kind)| *kind)
    });
    let universal = flags.is_none_or(|flags| flags & NOT_UNIVERSAL == 0);
    check.expect(kind.is_some() && universal, Rule::R3, entry.line, || {
        format!("flags {text} are unknown, delete or append")
    });
    let key_only = flags.is_some_and(|flags| flags & 0x10 != 0);
    if let Some(kind) = kind.filter(|_| !key_only) {
        let values: Vec<&str> = entry.values().skip(4).collect();
        check.expect(fits(kind, &values), Rule::R3, entry.line, || {
            format!("{values:?} is no {kind:?}")
        });
    }
    kind
}

fn fits(kind: Type, values: &[&str]) -> bool {
    let byte = |text: &&str| u8::from_str_radix(text, 16).is_ok();
    match kind {
        Type::Text | Type::ExpandText => values.len() == 1,
        Type::MultiText => !values.is_empty(),
        Type::Binary => !values.is_empty() && values.iter().all(byte),
        Type::Dword => match values {
            [one] => number(one).is_some(),
            four => four.len() == 4 && four.iter().all(byte),
        },
        Type::Qword => values.len() == 8 && values.iter().all(byte),
        Type::None => true,
    }
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

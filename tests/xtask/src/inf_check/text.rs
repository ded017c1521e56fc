//! Rules about the file as text, its strings, and `[Version]`: F, V, X4.

use super::{
    Check, Finding, Rule, Stage,
    parse::{Section, is_strings},
};

/// Class names that are Microsoft's own.
const RESERVED_CLASSES: &[&str] = &["Sample"];

/// The classes that devices of this project belong to (devguid.h).
const CLASSES: &[(&str, &str)] = &[
    ("Ports", "{4D36E978-E325-11CE-BFC1-08002BE10318}"),
    ("Image", "{6BDD1FC6-810F-11D0-BEC7-08002BE2092F}"),
];

/// Reads the characters of a file. Where it is a template, as if its architecture were stamped.
pub(super) fn read(data: &[u8], stage: Stage) -> (String, Vec<Finding>) {
    let mut found = Vec::new();
    let mut text = if let Some(rest) = data.strip_prefix(&[0xFF, 0xFE]) {
        let units: Vec<u16> = rest
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            .collect();
        String::from_utf16_lossy(&units)
    } else {
        for (index, line) in data.split(|&byte| byte == b'\n').enumerate() {
            if !line.is_ascii() {
                found.push(Finding {
                    line: index + 1,
                    rule: Rule::F1,
                    message: "a character that is not ASCII".to_owned(),
                });
            }
        }
        String::from_utf8_lossy(data).into_owned()
    };
    if stage == Stage::Template {
        text = text.replace("$ARCH$", "amd64");
    }
    for (index, line) in text.lines().enumerate() {
        let code = line.split(';').next().unwrap_or_default();
        if let Some(token) = stamp_token(code) {
            found.push(Finding {
                line: index + 1,
                rule: Rule::X4,
                message: format!("{token} is not stamped"),
            });
        }
    }
    (text, found)
}

/// A `$NAME$` in the line, which only the signature may be.
fn stamp_token(line: &str) -> Option<String> {
    let token = line.split('$').nth(1)?;
    let closed = line.matches('$').count() >= 2;
    let name = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let signature = ["Chicago", "Windows NT"]
        .iter()
        .any(|known| token.eq_ignore_ascii_case(known));
    (closed && name && !signature).then(|| format!("${token}$"))
}

/// The rules.
pub(super) fn check(check: &mut Check<'_>) {
    check_lines(check);
    check_strings(check);
    match check.inf.section("Version") {
        Some(version) => check_version(check, version),
        None => check.report(Rule::V1, 0, "there is no [Version]"),
    }
}

fn check_lines(check: &mut Check<'_>) {
    let inf = check.inf;
    for (line, error) in &inf.errors {
        check.report(Rule::F2, *line, error.clone());
    }
    for (index, section) in inf.sections.iter().enumerate() {
        let twice = inf
            .sections
            .iter()
            .take(index)
            .any(|earlier| earlier.is(&section.name));
        check.expect(!twice, Rule::F3, section.line, || {
            format!("[{}] stands twice", section.name)
        });
    }
    for (name, line) in &check.map.unreached {
        check.report(Rule::F4, *line, format!("nothing names [{name}]"));
    }
    for (name, line) in &check.map.missing {
        check.report(Rule::F7, *line, format!("there is no section [{name}]"));
    }
    for entry in inf.sections.iter().flat_map(|section| &section.entries) {
        let long = entry.values().any(|value| value.chars().count() > 4095);
        check.expect(!long, Rule::F6, entry.line, || {
            "a string of more than 4095 characters".to_owned()
        });
    }
}

fn check_strings(check: &mut Check<'_>) {
    let inf = check.inf;
    for (token, line) in &inf.undefined {
        check.report(Rule::F5, *line, format!("%{token}% has no string"));
    }
    let Some(strings) = inf.section("Strings") else {
        return check.report(Rule::F5, 0, "there is no [Strings]");
    };
    for other in inf.sections.iter().filter(|other| is_strings(&other.name)) {
        for (one, two) in [(strings, other), (other, strings)] {
            for entry in &one.entries {
                check.expect(two.entry(entry.key()).is_some(), Rule::F5, two.line, || {
                    format!("[{}] lacks {}", two.name, entry.key())
                });
            }
        }
    }
}

fn check_version(check: &mut Check<'_>, version: &Section) {
    let line = version.line;
    let signature = version.value("Signature");
    check.expect(
        ["$Windows NT$", "$Chicago$"]
            .iter()
            .any(|known| signature.eq_ignore_ascii_case(known)),
        Rule::V1,
        line,
        || format!("Signature is {signature:?}, not \"$Windows NT$\""),
    );
    let needed: &[&str] = match check.stage {
        Stage::Template => &["Class", "ClassGuid", "Provider"],
        Stage::Stamped => &["Class", "ClassGuid", "Provider", "CatalogFile", "DriverVer"],
    };
    for name in needed {
        let there = !version.value(name).is_empty();
        check.expect(there, Rule::V2, line, || format!("{name} is missing"));
    }
    check_class(check, version);
    if let Some(provider) = version.entry("Provider") {
        let (raw, text) = (provider.raw(0), provider.value(0));
        let token = raw.starts_with('%') && raw.ends_with('%');
        let microsoft = text.to_ascii_lowercase().starts_with("microsoft");
        check.expect(token && !microsoft, Rule::V5, provider.line, || {
            format!("Provider is {text:?}")
        });
    }
    if let Some(catalog) = version.entry("CatalogFile") {
        let name = catalog.value(0);
        let ends = name.to_ascii_lowercase().ends_with(".cat") && name.len() > 4;
        let plain = !name.contains(['\\', '/']);
        check.expect(ends && plain, Rule::V6, catalog.line, || {
            format!("CatalogFile is {name:?}")
        });
    }
    if let Some(entry) = version.entry("DriverVer") {
        let right = is_date(entry.value(0)) && is_version(entry.value(1));
        check.expect(right, Rule::V7, entry.line, || {
            format!("DriverVer is {},{}", entry.value(0), entry.value(1))
        });
    }
    let lockdown = version.value("PnpLockdown");
    check.expect(lockdown == "1", Rule::V8, line, || {
        format!("PnpLockdown is {lockdown:?}, not 1")
    });
}

fn check_class(check: &mut Check<'_>, version: &Section) {
    let (Some(class), Some(guid)) = (version.entry("Class"), version.entry("ClassGuid")) else {
        return;
    };
    let name = class.value(0);
    check.expect(
        !RESERVED_CLASSES
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known)),
        Rule::V4,
        class.line,
        || format!("class {name} is reserved"),
    );
    let known = CLASSES.iter().any(|(known, its)| {
        known.eq_ignore_ascii_case(name) && its.eq_ignore_ascii_case(guid.value(0))
    });
    check.expect(known, Rule::V3, guid.line, || {
        format!("class {name} is not {}", guid.value(0))
    });
}

/// Is it `mm/dd/yyyy`, a day that there is?
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let [month, day, year] = parts[..] else {
        return false;
    };
    let number = |text: &str, digits| {
        (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (Some(month), Some(day), Some(year)) = (number(month, 2), number(day, 2), number(year, 4))
    else {
        return false;
    };
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Is it `w.x.y.z`, parts of 16 bits, not all zero?
fn is_version(text: &str) -> bool {
    let parts: Vec<Option<u16>> = text.split('.').map(|part| part.parse().ok()).collect();
    parts.len() == 4
        && parts.iter().all(Option::is_some)
        && parts.iter().any(|&part| part != Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_versions() {
        for good in ["01/31/2026", "02/29/2024", "12/01/1999"] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "1/31/2026",
            "02/29/2026",
            "13/01/2026",
            "2026-01-31",
            "04/31/2026",
            "",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
        for good in ["0.1.0.0", "10.0.65535.1"] {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "1.2.3",
            "1.2.3.65536",
            "1.2.3.4.5",
            "a.b.c.d",
            "",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}

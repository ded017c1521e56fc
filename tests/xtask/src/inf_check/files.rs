//! Rules about files and where they go: S.

use super::{
    Check, Rule,
    map::{Kind, is_of},
    parse::{Entry, Section},
};

/// The rules.
pub(super) fn check(check: &mut Check<'_>) {
    check_destinations(check);
    check_copies(check);
    check_sources(check);
}

fn check_destinations(check: &mut Check<'_>) {
    let Some(folders) = check.inf.section("DestinationDirs") else {
        return check.report(Rule::S1, 0, "there is no [DestinationDirs]");
    };
    for entry in &folders.entries {
        check.expect(entry.value(0) == "13", Rule::S1, entry.line, || {
            format!("{} goes to {}, not to 13", entry.key(), entry.value(0))
        });
        let files = entry.is("DefaultDestDir")
            || check
                .map
                .of(Kind::Files)
                .any(|section| section.is(entry.key()));
        check.expect(files, Rule::S1, entry.line, || {
            format!("{} is no section of files", entry.key())
        });
    }
    if folders.entry("DefaultDestDir").is_none() {
        for section in check.map.of(Kind::Files) {
            check.expect(
                folders.entry(&section.name).is_some(),
                Rule::S1,
                section.line,
                || format!("[{}] has no folder", section.name),
            );
        }
    }
}

/// The folder below 13 that a section of files goes to.
fn destination<'a>(check: &Check<'a>, section: &str) -> &'a str {
    let folders = check.inf.section("DestinationDirs");
    folders
        .and_then(|folders| {
            folders
                .entry(section)
                .or_else(|| folders.entry("DefaultDestDir"))
        })
        .map_or("", |entry| entry.value(1))
}

fn check_copies(check: &mut Check<'_>) {
    let mut targets: Vec<(String, String)> = Vec::new();
    for section in check.map.of(Kind::Files) {
        let folder = destination(check, &section.name);
        check.expect(
            check
                .inf
                .section(&format!("{}.Security", section.name))
                .is_none(),
            Rule::S2,
            section.line,
            || format!("files of [{}] have a descriptor", section.name),
        );
        for entry in &section.entries {
            let (to, from) = (entry.value(0), entry.value(1));
            let same = from.is_empty() || from.eq_ignore_ascii_case(to);
            let plain = entry.values().skip(2).all(str::is_empty);
            let source = if from.is_empty() { to } else { from };
            let beside = sources(check)
                .filter(|file| file.is(source))
                .all(|file| file.value(1).eq_ignore_ascii_case(folder));
            check.expect(same && plain && beside, Rule::S2, entry.line, || {
                format!("{to} is renamed, moved, or copied with flags")
            });
            let target = format!(r"{folder}\{to}").to_ascii_lowercase();
            let source = source.to_ascii_lowercase();
            let clash = targets.iter().any(|(t, s)| *t == target && *s != source);
            check.expect(!clash, Rule::S4, entry.line, || {
                format!("{to} comes from two files")
            });
            targets.push((target, source));
        }
    }
}

/// `[SourceDisksFiles]` or `[SourceDisksNames]`, for all processors or for one that the driver is
/// built for.
fn is_source(section: &Section, base: &str) -> bool {
    ["", ".amd64", ".arm64"]
        .iter()
        .any(|ending| section.is(&format!("{base}{ending}")))
}

/// Lines of `[SourceDisksFiles]`.
fn sources<'a>(check: &Check<'a>) -> impl Iterator<Item = &'a Entry> + use<'a> {
    check
        .inf
        .sections
        .iter()
        .filter(|section| is_source(section, "SourceDisksFiles"))
        .flat_map(|section| &section.entries)
}

fn check_sources(check: &mut Check<'_>) {
    for section in &check.inf.sections {
        let name = section.name.to_ascii_lowercase();
        let odd = ["sourcedisksnames", "sourcedisksfiles"]
            .iter()
            .any(|base| is_of(&name, base) && name.contains(".nt"));
        check.expect(!odd, Rule::S3, section.line, || {
            format!("[{}]: the ending is .amd64 or .arm64", section.name)
        });
    }
    let disks: Vec<&str> = check
        .inf
        .sections
        .iter()
        .filter(|section| is_source(section, "SourceDisksNames"))
        .flat_map(|section| section.entries.iter().map(Entry::key))
        .collect();
    let copied = check.map.copied();
    for (name, entry) in &copied {
        let from = if entry.has_key() || entry.value(1).is_empty() {
            name
        } else {
            entry.value(1)
        };
        check.expect(
            sources(check).any(|file| file.is(from)),
            Rule::S3,
            entry.line,
            || format!("{from} is not in [SourceDisksFiles]"),
        );
    }
    for file in sources(check) {
        let (name, line) = (file.key(), file.line);
        check.expect(disks.contains(&file.value(0)), Rule::S3, line, || {
            format!("{name}: there is no disk {:?}", file.value(0))
        });
        let ending = name.rsplit('.').next().unwrap_or_default();
        let odd = ending.ends_with('_')
            || ["inf", "cat"]
                .iter()
                .any(|bad| ending.eq_ignore_ascii_case(bad));
        check.expect(!odd, Rule::S3, line, || {
            format!("{name} is compressed, an INF or a catalog")
        });
        let used = copied.iter().any(|(copy, entry)| {
            copy.eq_ignore_ascii_case(name) || entry.value(1).eq_ignore_ascii_case(name)
        });
        check.expect(used, Rule::S3, line, || format!("{name} is not copied"));
    }
}

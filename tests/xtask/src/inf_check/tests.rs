//! Every rule is broken by an INF, the project's own INFs break none, and no line of them is idle.

use std::{collections::BTreeSet, fs};

use super::*;
use crate::shell::Workspace;

mod broken;

use broken::{BROKEN, LPT, USB};

/// An INX of the project.
fn inx(name: &str) -> String {
    let path = Workspace::find()
        .unwrap()
        .root
        .join(format!("inf/{name}.inx"));
    fs::read_to_string(path).unwrap()
}

/// The INF that is made of it, for x64.
fn inf(name: &str) -> String {
    inf_for(Arch::X64, name)
}

/// The INF that is made of it.
fn inf_for(arch: Arch, name: &str) -> String {
    let inf = stamp(inx(name).as_bytes(), name, arch, &Stamp::sample()).unwrap();
    String::from_utf8(inf).unwrap().replace("\r\n", "\n")
}

/// What a file by itself breaks.
fn check(data: &[u8], stage: Stage) -> Vec<Finding> {
    check_file(data, stage).found
}

/// The rules that a text breaks.
fn broken(text: &str, stage: Stage) -> Vec<Rule> {
    check(text.as_bytes(), stage)
        .iter()
        .map(|finding| finding.rule)
        .collect()
}

#[test]
fn the_projects_infs_break_no_rule() {
    for name in INFS {
        assert_eq!(check(inx(name).as_bytes(), Stage::Template), []);
        assert_eq!(check(inf(name).as_bytes(), Stage::Stamped), []);
        let units: Vec<u8> = inf(name)
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(
            check(&[&[0xFF, 0xFE], &units[..]].concat(), Stage::Stamped),
            []
        );
    }
    assert!(run(&Workspace::find().unwrap(), &[]).is_ok());
}

#[test]
fn a_scanner_is_served_on_arm64_and_a_port_is_not() {
    assert_eq!(infs(Arch::Arm64), [USB]);
    let scanner = inf_for(Arch::Arm64, USB);
    assert!(scanner.contains("= Scan,NTarm64.10.0...19041\n"));
    assert_eq!(check(scanner.as_bytes(), Stage::Stamped), []);
    let port = inf_for(Arch::Arm64, LPT);
    assert_eq!(broken(&port, Stage::Stamped), [Rule::P8]);
}

/// Comments and empty lines do nothing and may go. Any other line is needed.
#[test]
fn no_line_can_be_left_out() {
    for name in INFS {
        for (text, stage) in [(inx(name), Stage::Template), (inf(name), Stage::Stamped)] {
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                // One card less is no fault of the INF; but see `the_cards_are_those_of_the_driver`.
                if line.is_empty() || line.starts_with(';') || line.contains(r"PCI\VEN_") {
                    continue;
                }
                let without = [&lines[..index], &lines[index + 1..]].concat().join("\n");
                let found = broken(&without, stage);
                assert!(!found.is_empty(), "{name}:{} may go: {line}", index + 1);
            }
        }
    }
}

/// The driver has a table of where cards have their ports; the INF lists these, and no others. Of a
/// chip that comes with serial ports alone, too, it lists the subsystems that have a printer port.
#[test]
fn the_cards_are_those_of_the_driver() {
    let source = include_str!("../../../../src/parallel/cards.rs");
    let number = |text: &str| {
        let digits = text.trim().trim_start_matches("0x").replace('_', "");
        u32::from_str_radix(&digits, 16).expect("a number")
    };
    let vendors: Vec<(&str, u32)> = source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.split_once(": u16 = "))
        .map(|(name, value)| (name, number(value.trim_end_matches(';'))))
        .collect();
    let cards: BTreeSet<String> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("card("))
        .map(|line| {
            let mut fields = line.split(',');
            let mut next = || fields.next().expect("a field").trim();
            let name = next();
            let vendor = vendors.iter().find(|(known, _)| *known == name);
            let vendor = vendor.expect("a vendor").1;
            let (device, subsystem) = (number(next()), number(next()));
            match subsystem {
                0 => format!(r"PCI\VEN_{vendor:04X}&DEV_{device:04X}"),
                _ => format!(r"PCI\VEN_{vendor:04X}&DEV_{device:04X}&SUBSYS_{subsystem:08X}"),
            }
        })
        .collect();
    let listed: BTreeSet<String> = inx(LPT)
        .lines()
        .filter_map(|line| Some(line[line.find(r"PCI\VEN_")?..].trim().to_owned()))
        .collect();
    let covers = |card: &String, listed: &String| {
        listed == card || listed.starts_with(&format!("{card}&SUBSYS_"))
    };
    for id in &listed {
        assert!(cards.iter().any(|card| covers(card, id)), "{id} of the INF");
    }
    for card in &cards {
        assert!(
            listed.iter().any(|id| covers(card, id)),
            "{card} of the table"
        );
    }
    assert!(cards.len() > 40, "{}", cards.len());
}

#[test]
fn every_rule_is_broken_by_an_inf() {
    for (rule, name, edits) in BROKEN {
        let mut text = inf(name);
        for (from, to) in *edits {
            assert_eq!(text.matches(from).count(), 1, "{rule:?}: {from} in {name}");
            text = text.replace(from, to);
        }
        let found = check(text.as_bytes(), Stage::Stamped);
        assert!(
            found.iter().any(|finding| finding.rule == *rule),
            "{rule:?}, {edits:?}: {found:?}"
        );
    }
    let covered: BTreeSet<Rule> = BROKEN.iter().map(|(rule, ..)| *rule).collect();
    let missing: Vec<&Rule> = Rule::ALL
        .iter()
        .filter(|rule| !covered.contains(rule))
        .collect();
    // P7 is about two files.
    assert_eq!(missing, [&Rule::P7]);
}

#[test]
fn an_inx_may_lack_only_what_is_stamped() {
    // As an INF, it lacks date, catalog and architecture.
    let found = broken(&inx(LPT), Stage::Stamped);
    assert!(
        found.contains(&Rule::V2) && found.contains(&Rule::X4),
        "{found:?}"
    );
    // stampinf tells upper from lower case, and fills in no framework's version for WDM.
    for token in ["$arch$", "$KMDFVERSION$"] {
        let text = inx(LPT).replacen("$ARCH$", token, 1);
        assert!(
            broken(&text, Stage::Template).contains(&Rule::X4),
            "{token}"
        );
    }
}

#[test]
fn infs_of_a_folder_share_nothing() {
    let together = |other: &str| {
        let (one, other) = (Inf::parse(&inf(USB)), Inf::parse(other));
        project::check_together(&[("a.inf", &one), ("b.inf", &other)])
            .iter()
            .map(|(file, finding)| finding.shown(file))
            .collect::<Vec<_>>()
    };
    assert_eq!(together(&inf(LPT)), [""; 0]);
    for (from, to, shared) in [
        ("ParscanPort", "ParscanSCAN", "parscanscan"),
        ("parscan_lpt.cat", "parscan_usb.cat", "parscan_usb.cat"),
        (
            "ACPI\\PNP0401",
            "USB\\VID_04A9&PID_2213",
            "USB\\VID_04A9&PID_2213",
        ),
    ] {
        let found = together(&inf(LPT).replace(from, to));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(&format!("P7: {shared} is in a.inf too")),
            "{found:?}"
        );
    }
}

#[test]
fn findings_name_file_line_rule_and_code() {
    let text = inf(LPT).replace("StartType     = 3", "StartType     = 2");
    let found = check(text.as_bytes(), Stage::Stamped);
    let section = 1 + text
        .lines()
        .position(|line| line == "[Lpt_Service]")
        .unwrap();
    let shown: Vec<String> = found.iter().map(|finding| finding.shown("x.inf")).collect();
    assert_eq!(
        shown,
        [format!(
            "x.inf:{section}: D4 (InfVerif 1251): StartType is \"2\", not 3"
        )]
    );
}

/// Nothing that a file may hold stops the program.
#[test]
fn any_bytes_can_be_checked() {
    let text = inf(USB);
    for end in (0..text.len()).step_by(7) {
        let _ = check(&text.as_bytes()[..end], Stage::Stamped);
        let _ = check(&text.as_bytes()[end..], Stage::Template);
    }
    for bytes in [
        &b""[..],
        &[0xFF, 0xFE, 0],
        &[0xFF; 9],
        b"=\n[",
        b"[]\n=,%%%\n\"",
        b"[Version",
    ] {
        assert!(!check(bytes, Stage::Stamped).is_empty());
    }
}

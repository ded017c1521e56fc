//! What needs no Wine: that everything which is to be shown is in a transcript.

use std::{ffi::OsString, fs, io, time::Duration};

use parscan_client::{Cancel, Native};
use parscan_transcript::words;
use parscanctl::Host;

use super::*;

/// A file of the project.
fn project(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    fs::read_to_string(file).unwrap()
}

/// All command lines of all transcripts, without the `&` of the background.
fn played() -> Vec<String> {
    chosen(&[])
        .unwrap()
        .iter()
        .flat_map(|file| {
            let text = parscan_transcript::read(file).unwrap();
            parscan_transcript::commands(&text)
                .map(|line| line.trim_end_matches(" &").to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Fails for a line that parscanctl would not understand, or that no transcript has.
fn check(line: &str, played: &[String]) {
    check_understood(line);
    assert!(
        played.iter().any(|known| known == line),
        "`{line}` is in no transcript"
    );
}

/// Fails for a line that parscanctl would not understand.
fn check_understood(line: &str) {
    let code = parscanctl::run(
        words(line).into_iter().map(OsString::from),
        &mut Host {
            system: &Native,
            input: &mut io::empty(),
            out: &mut io::sink(),
            err: &mut io::sink(),
            cancel: Cancel::default(),
            clock: &|| Duration::ZERO,
            progress: false,
        },
    );
    assert_ne!(code, 2, "`{line}` is no command line of parscanctl");
}

/// The command line of a scenario, and what the script does with it: `None`, or the word behind `!`.
fn scenario(line: &str) -> (Option<&str>, String) {
    let (action, line) = match line.strip_prefix('!') {
        Some(rest) => {
            let mut parts = rest.splitn(3, ' ');
            let action = parts.next();
            if let Some(time) = parts.next() {
                let _: u32 = time.parse().expect("milliseconds");
            }
            (action, parts.next().unwrap_or_default())
        }
        None => (None, line),
    };
    let line = line
        .replace("{file}", "Cargo.toml")
        .replace("{out}", "scenario.out");
    (action, line)
}

#[test]
fn what_is_done_on_windows_is_done_here() {
    let scenarios = project("tests/windows/scenarios.txt");
    let mut lines = Vec::new();
    for line in scenarios.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (action, command) = scenario(line);
        match action {
            None | Some("cancel" | "close") => check_understood(&format!("parscanctl {command}")),
            Some("restart" | "sleep") => assert_eq!(command, "", "{line}"),
            Some(other) => panic!("{other} is no action: {line}"),
        }
        lines.push(line.to_owned());
    }
    // All that the file says that it exercises.
    for what in [
        "init",
        "write {file} --mode centronics",
        "write {file} --mode compat",
        "write {file} --mode epp-hw",
        "write {file} --mode epp-sw",
        "write {file} --mode ecp-hw-noirq",
        "write {file} --mode ecp-sw",
        "read --mode nibble",
        "read --mode byte",
        "read --mode epp-hw",
        "read --mode epp-sw",
        "read --mode ecp-hw-noirq",
        "read --mode ecp-sw",
        "mode --read",
        "scanner regs read 0x10",
        "scanner regs read 0xffff --length 65535",
        "scanner request 0xff",
        "scanner read",
        "scanner watch",
        "!cancel",
        "!close",
        "!restart",
        "!sleep",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(what)),
            "no scenario {what}"
        );
    }
}

#[test]
fn what_the_pages_show_is_done_here() {
    let played = played();
    for page in ["README.md", "tests/parscanctl/README.md"] {
        let text = project(page);
        let examples: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("> "))
            .filter(|line| line.starts_with("parscanctl"))
            .collect();
        assert!(!examples.is_empty(), "{page} has no examples");
        for example in examples {
            check(example, &played);
        }
    }
}

#[test]
fn every_command_is_done_here() {
    let played = played();
    for command in [
        "list",
        "status",
        "init",
        "id",
        "caps",
        "mode",
        "write",
        "read",
        "scanner list",
        "scanner info",
        "scanner regs read",
        "scanner regs write",
        "scanner request",
        "scanner read",
        "scanner write",
        "scanner watch",
        "doctor",
    ] {
        let line = format!("parscanctl {command}");
        assert!(
            played.iter().any(|known| known.starts_with(&line)),
            "no transcript has `{line}`"
        );
    }
}

#[test]
fn a_difference_has_the_lines_around_it() {
    assert_eq!(
        difference("a\nb\nc\nd\n", "a\nb\nx\ny\nd\n"),
        "    a\n    b\n  - c\n  + x\n  + y"
    );
}

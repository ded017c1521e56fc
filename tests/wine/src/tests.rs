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
    assert!(
        played.iter().any(|known| known == line),
        "`{line}` is in no transcript"
    );
}

#[test]
fn what_is_done_on_windows_is_done_here() {
    let played = played();
    let scenarios = project("tests/windows/scenarios.txt");
    let mut count = 0;
    for line in scenarios.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            check(&format!("parscanctl {line}"), &played);
            count += 1;
        }
    }
    assert_ne!(count, 0);
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

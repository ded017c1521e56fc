//! One search for the documented name of a request finds its code, its parser, the arm that does it
//! and a test of what its sender sees.
#![cfg(not(miri))]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Of this device.
const FUNCTION_BASE: &str = "IOCTL_INDEX";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lines of every source file below a folder of the project, without indentation.
fn lines(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(path).unwrap();
                lines.extend(text.lines().map(|line| line.trim_start().to_owned()));
            }
        }
    }
    assert!(!lines.is_empty(), "{folder}");
    lines
}

/// The names of requests in a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("IOCTL_"))
}

/// How often each name stands in lines that `is` accepts.
fn count(lines: &[String], is: impl Fn(&str) -> bool) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in lines
        .iter()
        .filter(|line| is(line))
        .flat_map(|it| names(it))
    {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[test]
fn a_name_leads_to_parser_arm_and_test() {
    let ioctl = lines("src/ioctl");
    let roles = [lines("src/parallel"), lines("src/usbscan")].concat();
    let tests = lines("tests/parscan-tests/tests");
    let codes = count(&ioctl, |line| {
        line.trim_start_matches("pub ").starts_with("const IOCTL_")
    });
    let parsers = count(&ioctl, |line| {
        line.starts_with("IOCTL_") && line.contains(" =>")
    });
    // A comment in code, before what it names.
    let arms = count(&roles, |line| line.starts_with("// IOCTL_"));
    let tests = count(&tests, |_| true);
    let requests: Vec<&str> = codes
        .keys()
        .copied()
        .filter(|it| *it != FUNCTION_BASE)
        .collect();
    assert_eq!(requests.len(), 52, "{requests:?}");
    for name in requests {
        let counts = [&codes, &parsers, &arms].map(|counts| counts.get(name).copied());
        assert_eq!(counts, [Some(1); 3], "{name}: code, parser, arm");
        assert!(tests.contains_key(name), "{name}: a test");
    }
}

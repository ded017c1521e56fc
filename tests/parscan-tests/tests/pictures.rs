//! The pictures of the documents show what the current code does.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use parscan_tests::{US, negotiation, register_write::RegisterWrite, scanner::ScannerPc, trigger};

/// Set, the pictures are made anew instead.
const UPDATE: &str = "PARSCAN_UPDATE_PICTURES";

#[test]
fn the_negotiation_is_the_recorded_one() {
    let pc = negotiation::pc();
    let recording = negotiation::record(&pc);
    pc.finish();
    let path = root().join("tests/parscan-tests/pictures/negotiation.svg");
    same(&path, &recording.svg());
}

#[test]
fn the_trigger_is_the_recorded_one() {
    let pc = trigger::pc();
    let recording = trigger::record(&pc, 20);
    pc.finish();
    let right = trigger::WIDTH..=trigger::WIDTH + US;
    assert!(recording.atomic.iter().all(|width| right.contains(width)));
    let path = root().join("tests/parscan-tests/pictures/trigger.svg");
    same(&path, &recording.svg());
}

/// The text of the page of requests between the comment with this name and the end of its code block.
#[test]
fn the_register_write_is_the_recorded_one() {
    let pc = ScannerPc::new();
    let file = pc.open();
    let write = RegisterWrite::record(&pc, file, 0x30, 0x01, &[0x11, 0x22, 0x33, 0x44]);
    pc.close_and_finish(file);
    assert_eq!(write.check(), Ok(()));
    let path = root().join("src/ioctl/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme
        .split_once("<!-- register-write -->\n```text\n")
        .expect("the page has the register write");
    let (_, after) = rest.split_once("```").expect("and its end");
    let made = format!(
        "{before}<!-- register-write -->\n```text\n{}```{after}",
        write.table()
    );
    same(&path, &made);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn same(path: &Path, made: &str) {
    if env::var_os(UPDATE).is_some() {
        fs::write(path, made).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == made,
        "{} is not what the code does now. To make it anew: {UPDATE}=1 cargo test -p parscan-tests \
         --test pictures",
        path.display()
    );
}

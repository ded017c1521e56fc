//! Whole runs of parscanctl against computers that are not there: every command with what it
//! prints, what it asks the device, and its exit code, as files in `tests/transcripts`
//! (`tests/transcript` has their form).
//!
//! A computer is one of `fake/world.rs`. Requests to the device are shown after `> `. `parscanctl`
//! below `tmp/` finds `page.bin`, 40000 bytes, and programs of line accesses. `hex FILE` shows a file.
//!
//! They are compared on hosts other than Windows, whose own messages about files are in them.
#![cfg(not(windows))]

mod fake;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Read},
    path::Path,
};

use parscan_client::{Native, System};
use parscan_transcript::{Verdict, below, files, read, replay, settle, words};
use parscanctl::Host;

use fake::world;

/// Bytes of page.bin.
const PAGE: usize = 40_000;

/// Files with programs of line accesses.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "step.txt",
        "bytes 1 0 1\nloop 3\n  next data\n  control 1 1\n  delay 2us\n  control 0 1\n  get data\nend\n",
    ),
    ("wrong.txt", "data 1\ndata 256\n"),
    ("endless.txt", "loop 16777215\nloop 16777215\nend\nend\n"),
];

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = files(&folder).unwrap();
    assert!(!files.is_empty());
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(place).unwrap();
    let page: Vec<u8> = (0..=255).cycle().take(PAGE).collect();
    fs::write(place.join("page.bin"), page).unwrap();
    for (name, text) in PROGRAMS {
        fs::write(place.join(name), text).unwrap();
    }
    let mut wrong = Vec::new();
    for file in files {
        let found = replay(&read(&file).unwrap(), |computer, command| {
            run(computer, command, place)
        });
        if let Verdict::Different(found) = settle(&file, found).unwrap() {
            wrong.push(format!("{}:\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "what was found:\n{}", wrong.join("\n"));
}

/// What a command prints.
fn run(computer: &str, line: &str, folder: &Path) -> String {
    let place = format!("{}/", folder.display());
    let words: Vec<String> = words(line)
        .into_iter()
        .map(|word| match word.strip_prefix("tmp/") {
            Some(name) => format!("{place}{name}"),
            None => word,
        })
        .collect();
    if words[0] == "hex" {
        let bytes = fs::read(&words[1]).unwrap();
        return format!("{} bytes, from {:02x?}\n", bytes.len(), &bytes[..8]);
    }
    let world = world(computer);
    let system: &dyn System = match &world {
        Some(world) => world,
        None if computer == "this one" => &Native,
        None => panic!("there is no computer '{computer}'"),
    };
    let shared = world
        .as_ref()
        .map(|world| world.shared.clone())
        .unwrap_or_default();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = parscanctl::run(
        words.iter().map(OsString::from),
        &mut Host {
            system,
            input: &mut io::repeat(b'x').take(1000),
            out: &mut out,
            err: &mut err,
            cancel: shared.cancel.clone(),
            clock: &|| shared.now(),
            progress: false,
        },
    );
    let edit = |line: &str| line.replace(&place, "tmp/");
    let mut text = below(&out, &err, 0, edit);
    for request in shared.requests() {
        let _ = writeln!(text, "> {request}");
    }
    text + &below(b"", b"", code.into(), edit)
}

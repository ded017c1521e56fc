//! Whole runs of parscanctl against computers that are not there: every command with what it
//! prints, what it asks the device, and its exit code, as files in `tests/transcripts`.
//!
//! A file names its computer (`fake/world.rs`), then has commands as one types them. Below each
//! comes what is printed: standard output as it is, standard error after `! `, requests to the
//! device after `> `, an exit code other than 0 after `? `. `parscanctl` below `tmp/` finds
//! `page.bin`, 40000 bytes. `hex FILE` shows a file.
//!
//! They are compared on hosts other than Windows, whose own messages about files are in them.
//!
//! With `UPDATE_TRANSCRIPTS=1` the files are written instead of compared: look at the difference.
#![cfg(not(windows))]

mod fake;

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Read},
    path::Path,
};

use parscan_client::{Native, System};
use parscanctl::Host;

use fake::world;

/// Bytes of page.bin.
const PAGE: usize = 40_000;

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap().replace("\r\n", "\n");
        let found = replay(&expected);
        if found == expected {
            continue;
        }
        if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            fs::write(&file, found).unwrap();
        } else {
            wrong.push(format!("{}:\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "what was found:\n{}", wrong.join("\n"));
}

/// The file with what really comes below each command.
fn replay(file: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder).unwrap();
    let page: Vec<u8> = (0..=255).cycle().take(PAGE).collect();
    fs::write(folder.join("page.bin"), page).unwrap();
    let mut name = "";
    let mut found = String::new();
    for line in file.lines() {
        if let Some(world) = line.strip_prefix("computer: ") {
            name = world;
            found.push('\n');
        } else if let Some(command) = line.strip_prefix("$ ") {
            let _ = write!(found, "\n{line}\n{}", run(name, command, folder));
            continue;
        } else if !line.starts_with("# ") {
            continue;
        }
        let _ = writeln!(found, "{line}");
    }
    found
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
    let mut text = lines(&out, "", &place);
    text += &lines(&err, "! ", &place);
    for request in shared.requests() {
        let _ = writeln!(text, "> {request}");
    }
    if code != 0 {
        let _ = writeln!(text, "? {code}");
    }
    text
}

/// Words as a shell makes them, with single quotes.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| -> Vec<String> {
            if index % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

/// Lines with a prefix, and with the folder's name as `tmp/`. Bytes that are no text are shown as
/// the place of a letter.
fn lines(bytes: &[u8], prefix: &str, place: &str) -> String {
    String::from_utf8_lossy(bytes)
        .replace(place, "tmp/")
        .lines()
        .map(|line| format!("{prefix}{line}").trim_end().to_owned() + "\n")
        .collect()
}

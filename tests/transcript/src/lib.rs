//! Transcripts: files of command lines as one types them, after `$ `, each with what it printed
//! below it. A line `computer: NAME` says what the next commands run on, `# ` begins a remark.
//!
//! Below a command, standard output is as it is, standard error is after `! `, an exit code other
//! than 0 after `? `.
//!
//! A file is replayed: all of its commands are run, and the text that comes out is compared with
//! the file. With `UPDATE_TRANSCRIPTS=1` it is written instead: look at the difference.
#![forbid(unsafe_code)]

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was.
    Same,
    /// It was written anew.
    Updated,
    /// It is not what came out, which is here.
    Different(String),
}

/// The transcripts in a folder, sorted by name.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A transcript's text.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(file)?.replace("\r\n", "\n"))
}

/// The commands of a transcript, without `$ `.
pub fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("$ "))
}

/// Compares a file with what came out, or writes that.
///
/// # Errors
/// The file cannot be read or written.
pub fn settle(file: &Path, found: String) -> io::Result<Verdict> {
    if read(file)? == found {
        Ok(Verdict::Same)
    } else if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(file, found)?;
        Ok(Verdict::Updated)
    } else {
        Ok(Verdict::Different(found))
    }
}

/// The text with what really comes below each command. `run` gets the computer's name and the
/// command line, and gives whole lines.
pub fn replay(text: &str, mut run: impl FnMut(&str, &str) -> String) -> String {
    let mut computer = "";
    let mut found = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("computer: ") {
            computer = name;
            found.push('\n');
        } else if let Some(command) = line.strip_prefix("$ ") {
            let _ = write!(found, "\n{line}\n{}", run(computer, command));
            continue;
        } else if !line.starts_with("# ") {
            continue;
        } else if found
            .lines()
            .last()
            .is_some_and(|last| !last.starts_with("# "))
        {
            found.push('\n');
        }
        let _ = writeln!(found, "{line}");
    }
    found
}

/// What a program printed and its exit code, as it stands below a command. `edit` takes out of each
/// line what differs from run to run.
#[must_use]
pub fn below(out: &[u8], err: &[u8], code: i32, edit: impl Fn(&str) -> String) -> String {
    let mut text = lines(out, "", &edit) + &lines(err, "! ", &edit);
    if code != 0 {
        let _ = writeln!(text, "? {code}");
    }
    text
}

/// Lines with a prefix. Bytes that are no text are shown as the place of a letter.
fn lines(bytes: &[u8], prefix: &str, edit: impl Fn(&str) -> String) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| format!("{prefix}{}", edit(line)).trim_end().to_owned() + "\n")
        .collect()
}

/// Words as a shell makes them, with single quotes.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_keeps_remarks_and_replaces_what_was_printed() {
        let text = "# About.\n\ncomputer: one\n\n$ a 'b c'\nold\n! old\n# Then.\n# And.\n\n$ d\n";
        assert_eq!(
            replay(text, |computer, command| format!(
                "{computer} {:?}\n",
                words(command)
            )),
            "# About.\n\ncomputer: one\n\n$ a 'b c'\none [\"a\", \"b c\"]\n\n# Then.\n# And.\n\n$ d\none [\"d\"]\n"
        );
        assert_eq!(commands(text).collect::<Vec<_>>(), ["a 'b c'", "d"]);
    }

    #[test]
    fn streams_and_exit_code_can_be_told_apart() {
        assert_eq!(
            below(b"a \r\n\xff", b"b\n\n", 5, str::to_uppercase),
            "A\n\u{fffd}\n! B\n!\n? 5\n"
        );
    }
}

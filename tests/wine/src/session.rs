//! Transcripts: what is typed, and what comes.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use parscan_transcript::{Verdict, below, read, replay, settle, words};

use crate::{
    Options,
    machine::Machine,
    name, package,
    prefix::{self, Wine},
    process::{Output, Running},
};

/// The folder on drive C: where everything is.
const FOLDER: &str = "parscan";
/// Bytes of the page that is printed.
const PAGE: usize = 0x1_0000;
/// Bytes of the image that is scanned.
const IMAGE: usize = 50_000;
/// What lines of the simulated devices begin with in the log.
const DEVICES: &str = "parscan bench: ";
/// How long a command may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of a session.
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// Processes that still ran when the machine was off.
    pub(crate) left_over: Vec<String>,
    /// What Wine and the drivers said.
    pub(crate) log: String,
}

/// Plays a transcript on a machine of its own.
pub(crate) fn play(
    wine: &Wine,
    template: &Path,
    work: &Path,
    file: &Path,
    options: &Options,
) -> Result<Ended> {
    let home = work.join(name(file));
    let machine = Machine::boot(wine, template, &home)?;
    furnish(&machine, options)?;
    let mut session = Session {
        machine: &machine,
        x86: options.x86.is_some(),
        background: None,
        told: 0,
    };
    let mut trouble = None;
    let found = replay(&read(file)?, |_, line| {
        if trouble.is_some() {
            return String::new();
        }
        session.run(line).unwrap_or_else(|error| {
            trouble = Some(error.context(format!("$ {line}")));
            String::new()
        })
    });
    let forgotten = session.background.is_some();
    let (left_over, log) = machine.shut_down()?;
    if let Some(trouble) = trouble {
        bail!("{trouble:#}\nwhat Wine said:\n{log}");
    }
    if forgotten {
        bail!("no `wait` for the command in the background");
    }
    prefix::remove(&home)?;
    Ok(Ended {
        verdict: settle(file, found)?,
        left_over,
        log,
    })
}

/// Puts the package, the programs, a page to print and an image to scan on drive C:.
fn furnish(machine: &Machine, options: &Options) -> Result<()> {
    let folder = machine.folder(FOLDER);
    package::copy(&options.package, &folder.join("package"))?;
    for entry in fs::read_dir(&options.programs)
        .with_context(|| format!("cannot read {}", options.programs.display()))?
    {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    // No run of 256 bytes is like another one.
    let page: Vec<u8> = (0..PAGE)
        .map(|index| index.wrapping_add(index >> 8).to_le_bytes()[0])
        .collect();
    // Ends within a packet.
    fs::write(folder.join("image.raw"), &page[..IMAGE])?;
    fs::write(folder.join("page.pcl"), page)?;
    Ok(())
}

/// What is being played.
struct Session<'a> {
    machine: &'a Machine<'a>,
    /// The clients of the DLLs have 32 bits.
    x86: bool,
    background: Option<Running>,
    /// Lines of the simulated devices' log that were shown.
    told: usize,
}

impl Session<'_> {
    /// Waits for the command in the background. With exit codes, what it printed is told only if it
    /// has ended with none of them.
    fn wait(&mut self, codes: &[String]) -> Result<String> {
        let running = self.background.take().context("nothing to wait for")?;
        let output = running.wait(PATIENCE)?;
        let told = output.code.map(|code| code.to_string());
        if told.is_some_and(|code| codes.contains(&code)) {
            return Ok(String::new());
        }
        printed(&output)
    }

    /// What the simulated devices have said since this was last asked.
    fn log(&mut self) -> Result<String> {
        let log = self.machine.log()?;
        let said = log.lines().filter_map(|line| line.split_once(DEVICES));
        let lines: Vec<String> = said.map(|(_, text)| timeless(text) + "\n").collect();
        let new = lines[self.told..].concat();
        self.told = lines.len();
        Ok(new)
    }

    /// What comes of a command line. With ` &` at its end nothing yet: `wait` tells it later.
    fn run(&mut self, line: &str) -> Result<String> {
        let mut words = words(line);
        let background = words.pop_if(|word| word == "&").is_some();
        if self.x86 {
            for word in words.iter_mut().filter(|word| *word == "inpoutx64.dll") {
                "inpout32.dll".clone_into(word);
            }
        }
        let program = match words.first().map(String::as_str) {
            Some("parscanctl") => "parscanctl.exe",
            Some("bench") => "wine-bench.exe",
            Some("patterns") => "patterns.exe",
            Some("stream") => "stream.exe",
            Some("wait") => return self.wait(&words[1..]),
            Some("log") => return self.log(),
            _ => bail!("neither parscanctl, bench, patterns, stream, wait nor log"),
        };
        let running = self.machine.start(FOLDER, program, &words[1..])?;
        if !background {
            return printed(&running.wait(PATIENCE)?);
        }
        if self.background.replace(running).is_some() {
            bail!("there is a command in the background already");
        }
        Ok(String::new())
    }
}

/// What a program has printed, as it stands below its command.
fn printed(output: &Output) -> Result<String> {
    let Some(code) = output.code else {
        bail!(
            "it did not end in {} s, and had said:\n{}{}",
            PATIENCE.as_secs(),
            String::from_utf8_lossy(&output.out),
            String::from_utf8_lossy(&output.err)
        );
    };
    Ok(below(&output.out, &output.err, code, timeless))
}

/// A line without what differs from time to time: how long something took, and for how many of its
/// imports Wine needs another function.
fn timeless(line: &str) -> String {
    let mut line = line.to_owned();
    for (before, after) in [
        ("    ", " s  "),
        (" loaded, ", " imports "),
        (" in ", " s, "),
        (" s, ", " bytes/s"),
        ("\"seconds\":", ","),
        ("\"bytes_per_second\":", ","),
        ("\"bytes_per_second\":", "}"),
    ] {
        let Some(start) = line.find(before).map(|at| at + before.len()) else {
            continue;
        };
        let digits = line[start..]
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(line.len() - start);
        if digits > 0 && line[start + digits..].starts_with(after) {
            line.replace_range(start..start + digits, "N");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_not_compared() {
        assert_eq!(
            timeless("LPT1: 65536 bytes in 1.5 s, 20000 bytes/s, to a"),
            "LPT1: 65536 bytes in N s, N bytes/s, to a"
        );
        assert_eq!(
            timeless(r#"{"bytes":1,"seconds":0.25,"bytes_per_second":4.5}"#),
            r#"{"bytes":1,"seconds":N,"bytes_per_second":N}"#
        );
        assert_eq!(timeless("    0.020 s  10 20"), "    N s  10 20");
        assert_eq!(
            timeless("parscan.sys loaded, 26 imports replaced"),
            "parscan.sys loaded, N imports replaced"
        );
        assert_eq!(timeless("3 in 4 bytes"), "3 in 4 bytes");
    }
}

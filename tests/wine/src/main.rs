//! The driver in Wine: a service manager of other authors, device installation, PnP manager and
//! I/O requests, with the shipping `parscan.sys`, its INFs, and `parscanctl.exe`.
//!
//! Devices are simulated by a driver of the tests, `bus`, which lives in the same process of Wine
//! as parscan. Each file in `transcripts` is a session on a Windows of its own: what is typed, and
//! what comes. `bench` is the other hand: it installs drivers and plugs devices in and out.
//!
//! | module | what is in it |
//! |---|---|
//! | `machine` | a Windows: made, used, and gone without a trace |
//! | `prefix` | the folders that it lives in |
//! | `process` | programs that end in time |
//! | `package` | what is installed |
//! | `session` | transcripts |
//!
//! What Wine does not have it cannot be evidence for: IRQL, several processors, paging, power,
//! signatures, Driver Verifier.
#![forbid(unsafe_code)]

mod machine;
mod package;
mod prefix;
mod process;
mod session;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, bail};
use clap::Parser;
use parscan_transcript::Verdict;

use prefix::Wine;
use session::Ended;

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// The Wine of the transcripts: messages and names of others differ.
const VERSION: &str = "wine-8.";

/// Plays the transcripts in Wine. `cargo xtask wine` builds what it needs and calls it.
#[derive(Parser)]
struct Options {
    /// The driver package
    #[arg(long, value_name = "FOLDER")]
    package: PathBuf,
    /// parscanctl.exe, wine-bench.exe, stream.exe, bcryptprimitives.dll and the simulated devices
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where Wine lives; what is there is replaced
    #[arg(long, value_name = "FOLDER")]
    work: PathBuf,
    /// Play them this often
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
    /// The clients of the DLLs have 32 bits; Wine's own 32-bit DLLs are here
    #[arg(long, value_name = "FOLDER")]
    x86: Option<PathBuf>,
    /// Transcripts, by their names [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("{RED}error{RED:#}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays what was asked for. True if everything was as it should be.
fn run(options: &Options) -> Result<bool> {
    let files = chosen(&options.names)?;
    fs::create_dir_all(&options.work)?;
    let work = options.work.canonicalize()?;
    // One run at a time in this folder.
    let lock = File::create(work.join("lock"))?;
    lock.lock().context("cannot lock the work folder")?;
    machine::clear(&work)?;

    let start = Instant::now();
    let wine = Wine::find(options.x86.as_deref())?;
    let template = prefix::template(&wine, &work)?;
    anstream::println!(
        "{} in {}, made in {:.1} s",
        wine.version,
        template.display(),
        start.elapsed().as_secs_f64()
    );
    if !wine.version.starts_with(VERSION) {
        anstream::println!("the transcripts are those of {VERSION}");
    }
    let (mut good, mut bad) = (0, 0);
    for round in 1..=options.repeat {
        if options.repeat > 1 {
            anstream::println!("round {round} of {}", options.repeat);
        }
        for file in &files {
            let name = name(file);
            let start = Instant::now();
            let ended = session::play(&wine, &template, &work, file, options);
            let well = match ended {
                Ok(ended) => report(file, ended)?,
                Err(error) => {
                    anstream::println!("{error:#}");
                    false
                }
            };
            let time = start.elapsed().as_secs_f64();
            if well {
                anstream::println!("  {GREEN}ok{GREEN:#}      {time:5.1} s  {name}");
                good += 1;
            } else {
                anstream::println!("  {RED}failed{RED:#}  {time:5.1} s  {name}");
                bad += 1;
            }
        }
    }
    prefix::remove(&template)?;
    anstream::println!(
        "{good} as expected, {bad} not, {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(bad == 0)
}

/// Says what is wrong with a transcript. True if it is well.
fn report(file: &Path, ended: Ended) -> Result<bool> {
    let mut well = ended.left_over.is_empty();
    match ended.verdict {
        Verdict::Same => {}
        Verdict::Updated => anstream::println!("  {} is new", file.display()),
        Verdict::Different(found) => {
            well = false;
            anstream::println!("{}", difference(&parscan_transcript::read(file)?, &found));
        }
    }
    for process in &ended.left_over {
        anstream::println!("  still ran afterwards: {process}");
    }
    if !well {
        anstream::println!("what Wine said:\n{}", ended.log.trim_end());
    }
    Ok(well)
}

/// Lines that are in one text only, between the lines around them: `-` what was expected, `+` what
/// came.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let before = expected
        .iter()
        .zip(&found)
        .take_while(|(a, b)| a == b)
        .count();
    let after = expected[before..]
        .iter()
        .rev()
        .zip(found[before..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut lines = Vec::new();
    for line in &expected[before.saturating_sub(3)..before] {
        lines.push(format!("    {line}"));
    }
    for line in &expected[before..expected.len() - after] {
        lines.push(format!("  - {line}"));
    }
    for line in &found[before..found.len() - after] {
        lines.push(format!("  + {line}"));
    }
    lines.join("\n")
}

fn name(file: &Path) -> &str {
    file.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// The transcripts of these names; all of them without any.
fn chosen(names: &[String]) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files = parscan_transcript::files(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    if let Some(unknown) = names
        .iter()
        .find(|wanted| files.iter().all(|file| name(file) != *wanted))
    {
        let known: Vec<&str> = files.iter().map(|file| name(file)).collect();
        bail!(
            "there is no transcript {unknown}. There are: {}",
            known.join(", ")
        );
    }
    files.retain(|file| names.is_empty() || names.iter().any(|wanted| name(file) == wanted));
    Ok(files)
}

#[cfg(test)]
mod tests;

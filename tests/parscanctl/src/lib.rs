//! `parscanctl`: everything but the computer that it runs on, which is [`Host`]. So all of it runs
//! in tests on any host.
//!
//! [`run`] parses the command line, lets a command in `commands` do its work through
//! `parscan-client`, and prints its report as text or as JSON. What went wrong becomes a complaint
//! with a remedy and an exit code.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod complaint;
mod program_text;
mod render;

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    time::Duration,
};

use clap::Parser as _;
use parscan_client::{Cancel, System};

use cli::Cli;
use complaint::Exit;
use render::Report;

/// What the program runs on.
pub struct Host<'a> {
    /// Windows
    pub system: &'a dyn System,
    /// Standard input
    pub input: &'a mut dyn Read,
    /// Standard output
    pub out: &'a mut dyn Write,
    /// Standard error
    pub err: &'a mut dyn Write,
    /// What Ctrl-C cancels
    pub cancel: Cancel,
    /// The time since some moment
    pub clock: &'a dyn Fn() -> Duration,
    /// Whether progress bars may be drawn on standard error
    pub progress: bool,
}

impl Host<'_> {
    /// Prints a report.
    fn print(&mut self, json: bool, report: &dyn Report) -> io::Result<()> {
        let text = if json { report.json() } else { report.text() };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// Runs the program with these arguments, of which the first is its name, and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, host: &mut Host) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            let place = if error.use_stderr() {
                &mut *host.err
            } else {
                &mut *host.out
            };
            // Where no reader is left nothing can be said.
            let _ = place.write_all(text.as_bytes());
            return if error.use_stderr() {
                Exit::Usage.code()
            } else {
                Exit::Done.code()
            };
        }
    };
    match commands::run(&cli, host) {
        Ok(exit) => exit.code(),
        Err(complaint) => {
            let _ = if cli.json {
                host.out.write_all(complaint.json().as_bytes())
            } else {
                host.err.write_all(complaint.text().as_bytes())
            };
            complaint.exit().code()
        }
    }
}

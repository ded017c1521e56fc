//! Parallel ports and USB still-image devices from the command line.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Instant,
};

use parscan_client::{Native, cancel_on_ctrl_c};
use parscanctl::Host;

fn main() -> ExitCode {
    let start = Instant::now();
    let mut host = Host {
        system: &Native,
        input: &mut io::stdin().lock(),
        out: &mut io::stdout().lock(),
        err: &mut io::stderr().lock(),
        cancel: cancel_on_ctrl_c(),
        clock: &|| start.elapsed(),
        progress: io::stderr().is_terminal(),
    };
    ExitCode::from(parscanctl::run(std::env::args_os(), &mut host))
}

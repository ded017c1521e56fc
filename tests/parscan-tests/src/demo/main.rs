//! The demo: `cargo xtask demo`.

mod model;
mod qemu;
mod scanner;
mod show;
mod trigger;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

/// Runs parscan.sys on a simulated PC and shows what it does to a printer and a scanner.
#[derive(Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Cli {
    /// What sits on the printer port.
    #[arg(long, value_enum, default_value = "model")]
    port: Port,
    /// Where waveforms and the scanner's trace go.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Port {
    /// This project's model of a port chip, with a printer that can get into trouble; then its
    /// model of a USB scanner.
    Model,
    /// The parallel port of QEMU's PC, in place of the model.
    Qemu,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    std::fs::create_dir_all(&cli.out)
        .with_context(|| format!("cannot make {}", cli.out.display()))?;
    match cli.port {
        Port::Model => {
            model::run(&cli.out)?;
            trigger::run();
            scanner::run(&cli.out)
        }
        Port::Qemu => qemu::run(&cli.out),
    }
}

//! `cargo xtask arm64`: the driver for ARM64, run.
//!
//! There is no ARM64 machine here, and no Windows for it. QEMU runs the simulated machine as an ARM64
//! process, and the shipping image in it: its instructions, calling convention, unwind data and
//! exception table are those that Windows would see; the kernel around it is this project's.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    driver,
    setup::{self, Tool},
    shell::{ARM64_HOST_TARGET, Arch, Workspace, good, headline, read, say},
};

/// Runs a scanner's whole life on ARM64 and on x64, prints it, and compares.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Tool::Arm64])?;
    let mut lives = Vec::new();
    for arch in Arch::ALL {
        let sys = driver::build(workspace, arch, false)?;
        headline(format!("a scanner's life, {}", arch.name()));
        lives.push(life(workspace, arch, sys)?);
    }
    let [x64, arm64] = &lives[..] else {
        bail!("two processors are expected");
    };
    say(arm64.trim_end());
    if steps(x64) != steps(arm64) {
        bail!("on x64 it is another:\n{x64}");
    }
    good("  ok  ", "every step came out as on x64");
    Ok(())
}

/// What the program prints.
fn life(workspace: &Workspace, arch: Arch, sys: PathBuf) -> Result<String> {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "-q", "--locked"]);
    if arch == Arch::Arm64 {
        cargo.args(["--target", ARM64_HOST_TARGET]);
    }
    read(
        cargo
            .args(["-p", "parscan-tests", "--bin", "life"])
            .env("PARSCAN_SYS", sys),
    )
    .with_context(|| format!("the driver does not live on {}", arch.name()))
}

/// Begins what the program says of one processor only.
const ALONE: &str = "On this processor alone";

/// The part of it that no processor may change.
fn steps(text: &str) -> Vec<&str> {
    let common = text.split_once(ALONE).map_or(text, |(common, _)| common);
    common.trim_end().lines().skip(1).collect()
}

/// The commands that run the still-image role's tests on ARM64, and clippy on what is for that alone.
pub(crate) fn tests(workspace: &Workspace) -> [Command; 2] {
    /// Tests of the driver on the simulated machine that need no port.
    const TESTS: &[&str] = &[
        "usb_bulk",
        "usb_clients",
        "usb_control",
        "usb_end",
        "usb_scan",
        "usb_vendor",
    ];

    let cargo = |subcommand: &str| {
        let mut cargo = workspace.cargo();
        cargo.args([subcommand, "--locked", "--target", ARM64_HOST_TARGET]);
        cargo
    };
    let mut clippy = cargo("clippy");
    clippy.args(["-p", "ntsim", "--", "-D", "warnings"]);
    let mut test = cargo("test");
    test.args(["-p", "parscan-tests"]);
    for name in TESTS {
        test.args(["--test", name]);
    }
    test.env(
        "PARSCAN_SYS",
        Arch::Arm64
            .below(workspace.target().join("parscan"))
            .join("parscan.sys"),
    );
    [clippy, test]
}

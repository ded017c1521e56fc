//! `cargo xtask wine`: the driver in Wine.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use crate::{
    driver::copy,
    inpout, package, program,
    setup::{self, Tool},
    shell::{Arch, PROGRAM_TARGET, TARGET, Workspace, holds, remove, run},
};

/// The simulated devices: a driver.
const DEVICES: &str = "parscan-wine-bus";
/// mingw-w64's, of the package that links programs.
const C_COMPILER: &str = "x86_64-w64-mingw32-gcc";
/// What the tests run in Wine, beside parscanctl.
const PROGRAMS: &[&str] = &["parscan-wine-bench", "bcryptprimitives"];
/// Clients in C, each of one source file.
const CLIENTS: [(&str, &str); 2] = [
    ("patterns.exe", "tests/inpout/clients/patterns.c"),
    ("stream.exe", "tests/wine/clients/stream.c"),
];

/// Builds everything and plays the transcripts. True if all came out as they are written.
pub(crate) fn play(workspace: &Workspace, repeat: u32, names: &[String]) -> Result<bool> {
    if cfg!(windows) {
        bail!("Wine is for hosts that are not Windows; there, see tests/windows");
    }
    setup::ensure(workspace, &[Tool::Programs, Tool::Wine])?;
    let package = package::run(workspace, Arch::X64)?;
    let parscanctl = program::build(workspace)?;
    let inpout = inpout::build(workspace)?.join("x64");
    let work = workspace.target().join("wine");
    let programs = work.join("programs");
    remove(&programs)?;
    fs::create_dir_all(&programs)?;
    for (target, packages) in [(PROGRAM_TARGET, PROGRAMS), (TARGET, &[DEVICES][..])] {
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--locked", "--release", "--target", target]);
        for package in packages {
            cargo.args(["-p", package]);
        }
        run(&mut cargo)?;
    }
    let built =
        |target: &str, file: &str| workspace.target().join(target).join("release").join(file);
    let inf = workspace.root.join("tests/wine/bus/bus.inf");
    for (from, to) in [
        (parscanctl, "parscanctl.exe"),
        (built(PROGRAM_TARGET, "wine-bench.exe"), "wine-bench.exe"),
        (
            built(PROGRAM_TARGET, "bcryptprimitives.dll"),
            "bcryptprimitives.dll",
        ),
        (built(TARGET, "parscan_wine_bus.dll"), "bus.sys"),
        (inf, "bus.inf"),
        (inpout.join("inpoutx64.dll"), "inpoutx64.dll"),
        (inpout.join("dlportio.dll"), "dlportio.dll"),
    ] {
        copy(&from, &programs.join(to))?;
    }
    for (program, source) in CLIENTS {
        run(Command::new(C_COMPILER)
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-o"])
            .arg(programs.join(program))
            .arg(workspace.root.join(source)))?;
    }
    // Wine takes an INF only if its catalog is there.
    fs::write(programs.join("bus.cat"), "")?;
    let mut cargo = workspace.cargo();
    cargo
        .args(["run", "-q", "--locked", "-p", "parscan-wine", "--"])
        .arg("--package")
        .arg(package)
        .arg("--programs")
        .arg(programs)
        .arg("--work")
        .arg(work)
        .args(["--repeat", &repeat.to_string()])
        .args(names);
    holds(&mut cargo)
}

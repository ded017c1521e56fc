//! Building parscanctl, the program for users.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use object::read::pe::PeFile64;

use crate::{
    gate,
    setup::{self, Tool},
    shell::{PROGRAM_TARGET, Workspace, good, run, say},
};

/// Modules that every Windows has. The program must need no other, so that it can be copied alone.
pub(crate) const WINDOWS: &[&str] = &[
    "advapi32.dll",
    "api-ms-win-core-synch-l1-2-0.dll",
    "bcryptprimitives.dll",
    "cfgmgr32.dll",
    "kernel32.dll",
    "msvcrt.dll",
    "ntdll.dll",
    "setupapi.dll",
    "userenv.dll",
    "ws2_32.dll",
];

/// Builds parscanctl.exe for Windows, checks that it needs nothing beside Windows, and gives its
/// absolute path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "-p", "parscanctl"]);
    let mut built = workspace.target();
    if !cfg!(windows) {
        setup::ensure(workspace, &[Tool::Programs])?;
        cargo.args(["--target", PROGRAM_TARGET]);
        built.push(PROGRAM_TARGET);
    }
    run(&mut cargo)?;
    let built = built.join("release/parscanctl.exe");
    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    check(&image)?;
    let folder = workspace.target().join("parscan");
    fs::create_dir_all(&folder)?;
    let program = folder.join("parscanctl.exe");
    fs::write(&program, image).with_context(|| format!("cannot write {}", program.display()))?;
    good("  ok  ", "parscanctl.exe needs no module but Windows' own");
    say(format!("{}", program.display()));
    Ok(program)
}

/// Fails if an image imports from a module that is not part of Windows.
fn check(image: &[u8]) -> Result<()> {
    let file = PeFile64::parse(image).context("parscanctl.exe is no 64-bit image")?;
    let foreign: BTreeSet<String> = gate::imports(&file)?
        .into_iter()
        .map(|(module, _)| module.to_ascii_lowercase())
        .filter(|module| !WINDOWS.contains(&module.as_str()))
        .collect();
    if !foreign.is_empty() {
        let foreign: Vec<String> = foreign.into_iter().collect();
        bail!("parscanctl.exe needs {}", foreign.join(", "));
    }
    Ok(())
}

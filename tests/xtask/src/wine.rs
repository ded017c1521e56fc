//! `cargo xtask wine`: the driver in Wine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    driver::copy,
    inpout, package, program,
    setup::{self, Tool},
    shell::{Arch, PROGRAM_TARGET, TARGET, Workspace, headline, holds, read, remove, run},
};

/// The simulated devices: a driver.
const DEVICES: &str = "parscan-wine-bus";
/// What the tests run in Wine, beside parscanctl.
const PROGRAMS: &[&str] = &["parscan-wine-bench", "bcryptprimitives"];
/// Clients in C, each of one source file.
const CLIENT_SOURCES: [(&str, &str); 2] = [
    ("patterns.exe", "tests/inpout/clients/patterns.c"),
    ("stream.exe", "tests/wine/clients/stream.c"),
];
/// The clients in C: for which processor, what compiles them, and the name of their DLL.
const CLIENTS: (&str, &str, &str) = ("x64", "x86_64-w64-mingw32-gcc", "inpoutx64.dll");
/// The same with 32 bits.
const CLIENTS_32: (&str, &str, &str) = ("x86", "i686-w64-mingw32-gcc", "inpout32.dll");
/// The transcript of the clients.
const CLIENTS_TRANSCRIPT: &str = "inpout";

/// Builds everything and plays the transcripts; with `x86` that of the DLLs' clients, with 32 bits.
/// True if all came out as they are written.
pub(crate) fn play(
    workspace: &Workspace,
    repeat: u32,
    x86: bool,
    names: &[String],
) -> Result<bool> {
    if cfg!(windows) {
        bail!("Wine is for hosts that are not Windows; there, see tests/windows");
    }
    setup::ensure(workspace, &[Tool::Programs, Tool::Wine])?;
    let package = package::run(workspace, Arch::X64)?;
    let parscanctl = program::build(workspace, Arch::X64)?;
    let (folder, compiler, dll) = if x86 { CLIENTS_32 } else { CLIENTS };
    let inpout = inpout::build(workspace)?.join(folder);
    let wine_32 = if x86 { Some(wine_32(workspace)?) } else { None };
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
        (inpout.join(dll), dll),
        (inpout.join("dlportio.dll"), "dlportio.dll"),
    ] {
        copy(&from, &programs.join(to))?;
    }
    for (program, source) in CLIENT_SOURCES {
        run(Command::new(compiler)
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-o"])
            .arg(programs.join(program))
            .arg(workspace.root.join(source)))?;
    }
    readme_compiles(workspace, &work, compiler)?;
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
    if let Some(folder) = wine_32 {
        cargo.arg("--x86").arg(folder);
        if names.is_empty() {
            cargo.arg(CLIENTS_TRANSCRIPT);
        }
    }
    holds(&mut cargo)
}

/// The folder with Wine's DLLs for 32-bit programs, of the version that is installed. They are Debian's of another
/// architecture, and are unpacked, not installed: this host does not get that architecture. (apt
/// has its lists of it in a folder of this project.)
fn wine_32(workspace: &Workspace) -> Result<PathBuf> {
    let query = ["-W", "-f=${Version}", "libwine"];
    let version = read(Command::new("dpkg-query").args(query))?;
    let folder = workspace.target().join("wine-i386");
    let wanted = format!("libwine:i386={version}");
    let stamp = folder.join("stamp");
    let dlls = "i386-windows";
    let had = fs::read_to_string(&stamp).is_ok_and(|had| had == wanted);
    if had && folder.join(dlls).is_dir() {
        return Ok(folder);
    }
    headline(format!(
        "fetching Debian's {wanted}, 95 MB, into target/wine-i386"
    ));
    remove(&folder)?;
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::create_dir_all(folder.join("cache/archives/partial"))?;
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&folder)
            .args(["-q", "-o", "APT::Architecture=amd64"])
            .args(["-o", "APT::Architectures::=amd64"])
            .args(["-o", "APT::Architectures::=i386", "-o"])
            .arg(format!(
                "Dir::State::lists={}",
                folder.join("lists").display()
            ))
            .arg("-o")
            .arg(format!("Dir::Cache={}", folder.join("cache").display()))
            .args(args);
        run(&mut apt)
    };
    // A list that is missing can still do.
    let updated = apt(&["update"]);
    apt(&["download", &wanted]).or_else(|error| updated.and(Err(error)))?;
    let package = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get has left no package")?;
    let all = folder.join("all");
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&all))?;
    fs::rename(
        all.join("usr/lib/i386-linux-gnu/wine").join(dlls),
        folder.join(dlls),
    )?;
    for rest in [all, package, folder.join("lists"), folder.join("cache")] {
        remove(&rest)?;
    }
    fs::write(stamp, wanted)?;
    Ok(folder)
}

/// The README's program in C compiles as it stands there.
fn readme_compiles(workspace: &Workspace, work: &Path, compiler: &str) -> Result<()> {
    let readme = fs::read_to_string(workspace.root.join("README.md"))?;
    let (_, rest) = readme
        .split_once("```c\n")
        .context("the README has no program in C")?;
    let (program, _) = rest.split_once("```").context("nor its end")?;
    let source = work.join("readme.c");
    fs::write(&source, program)?;
    run(Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
        .arg(source))
}

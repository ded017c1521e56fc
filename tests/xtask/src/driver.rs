//! Building the driver.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::{
    exports::Exports,
    gate, package,
    setup::{self, Tool},
    shell::{Arch, TARGET, Workspace, good, headline, holds, mirror, remove, run, say},
};

/// The driver's build script may use the kit, which is there. Nothing else on Windows.
pub(crate) const KIT: &str = "--features=parscan/linux-kit";

/// The build command, but for the profile. One run for all processors: their bindings to the kernel,
/// which take longest and use one processor each, are made at the same time.
fn command(workspace: &Workspace, archs: &[Arch]) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "-p", "parscan", KIT]);
    for arch in archs {
        cargo.args(["--target", arch.target()]);
    }
    cargo
}

/// Builds the driver for each of `archs` and checks it.
pub(crate) fn build_all(workspace: &Workspace, archs: &[Arch], debug: bool) -> Result<()> {
    setup::ensure(workspace, &[])?;
    let mut cargo = command(workspace, archs);
    if !debug {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    for arch in archs {
        check(workspace, *arch, debug)?;
    }
    Ok(())
}

/// Builds the driver, checks it, and gives the absolute path of parscan.sys.
pub(crate) fn build(workspace: &Workspace, arch: Arch, debug: bool) -> Result<PathBuf> {
    build_all(workspace, &[arch], debug)?;
    Ok(image(workspace, arch, debug))
}

/// The folder of `arch` for what was built.
fn folder(workspace: &Workspace, arch: Arch, debug: bool) -> PathBuf {
    let mut folder = arch.below(workspace.target().join("parscan"));
    if debug {
        folder.push("debug");
    }
    folder
}

/// Where the driver is when it was built.
fn image(workspace: &Workspace, arch: Arch, debug: bool) -> PathBuf {
    folder(workspace, arch, debug).join("parscan.sys")
}

/// Puts what was built where users look for it, and checks it.
fn check(workspace: &Workspace, arch: Arch, debug: bool) -> Result<()> {
    let profile = if debug { "debug" } else { "release" };
    let built = workspace.target().join(arch.target()).join(profile);
    let folder = folder(workspace, arch, debug);
    fs::create_dir_all(&folder)?;
    let sys = image(workspace, arch, debug);
    copy(&built.join("parscan.dll"), &sys)?;
    let map = folder.join("parscan.map");
    remove(&map)?;
    if let Some(linked) = find_map(&built) {
        copy(&linked, &map)?;
    }
    // Unoptimised code keeps checks that the optimiser proves needless, so it has panic paths.
    let deny_panic = gate::DENY_PANIC && !debug;
    gate::run(&sys, Some(arch), &Exports::load(workspace)?, deny_panic)?;
    let image = fs::read(&sys).with_context(|| format!("cannot read {}", sys.display()))?;
    let resources = gate::resources::check(&image, env!("CARGO_PKG_VERSION"))?;
    good("  ok  ", format!("resources: {resources}"));
    say(format!("{}", sys.display()));
    Ok(())
}

/// Builds the drivers again from a copy of the sources in another folder, and compares the bytes.
pub(crate) fn reproduce(workspace: &Workspace) -> Result<()> {
    // Outside the project, with a kit of its own: cargo would apply this project's configuration
    // to folders below it, too, and names crates by where they lie in their workspace.
    let name = sha256(workspace.root.as_os_str().as_encoded_bytes());
    let copy = Workspace {
        root: std::env::temp_dir().join(format!("parscan-repro-{}", &name[..16])),
    };
    let hash = |path: &Path| {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>(sha256(&data))
    };
    build_all(workspace, &Arch::ALL, false)?;
    headline(format!("building a copy in {}", copy.root.display()));
    mirror(
        &workspace.root,
        &copy.root,
        Path::new(""),
        &["target", ".git", "linux-host.toml", "linux-kit"],
    )?;
    setup::ensure(&copy, &[])?;
    run(command(&copy, &Arch::ALL).arg("--release"))?;
    for arch in Arch::ALL {
        let first = image(workspace, arch, false);
        let second = copy
            .target()
            .join(arch.target())
            .join("release/parscan.dll");
        let (one, other) = (hash(&first)?, hash(&second)?);
        if one != other {
            bail!(
                "two builds of the same sources differ:\n  {one}  {}\n  {other}  {}",
                first.display(),
                second.display()
            );
        }
        good(
            "  ok  ",
            format!(
                "two builds for {} in two folders are identical: sha256 {one}",
                arch.name()
            ),
        );
        package::compare(arch, (workspace, &first), (&copy, &second))?;
    }
    Ok(())
}

/// What sits on the demo's printer port.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum DemoPort {
    /// This project's models of parallel ports, and of a scanner
    Model,
    /// The parallel port of a PC emulated by QEMU, without a scanner; installs qemu-system-x86 if
    /// needed
    Qemu,
}

/// Runs the demo on a fresh build of the driver.
pub(crate) fn demo(workspace: &Workspace, port: DemoPort, out: &Path) -> Result<()> {
    let (name, tools): (_, &[Tool]) = match port {
        DemoPort::Model => ("model", &[]),
        DemoPort::Qemu => ("qemu", &[Tool::Qemu]),
    };
    setup::ensure(workspace, tools)?;
    let sys = build(workspace, Arch::X64, false)?;
    // The path is the caller's.
    run(test_program(workspace, "demo")
        .current_dir(env::current_dir()?)
        .args(["--port", name, "--out"])
        .arg(out)
        .env("PARSCAN_SYS", &sys))
}

/// The drivers of the tests. The image of `a-driver` is named in `A_DRIVER_SYS`, without "parscan".
pub(crate) const TEST_DRIVERS: [&str; 3] = ["faulty-driver", "parscan-class-driver", "null-driver"];

/// What to measure.
#[derive(Args)]
pub(crate) struct BenchOptions {
    /// Print one JSON object a line, and no table; write nothing. Messages of the build go to
    /// standard error.
    #[arg(long)]
    json: bool,
    /// Only the cost sheet: compare it with tests/parscan-tests/costs.txt, and write nothing.
    #[arg(long, conflicts_with = "json")]
    check: bool,
    /// Only the cost sheet: print it, with the functions of the rows whose name has this in it, and
    /// write nothing.
    #[arg(long, value_name = "ROW", conflicts_with_all = ["json", "check"])]
    profile: Option<String>,
}

/// Runs the bench on fresh builds of the drivers. True if every limit is kept.
pub(crate) fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<bool> {
    // Only the bench's own lines go to standard output.
    run(
        Command::new(env::current_exe().context("where is this program?")?)
            .current_dir(&workspace.root)
            .arg("build")
            .stdout(io::stderr()),
    )?;
    run(test_drivers_build(workspace).stdout(io::stderr()))?;
    let mut bench = test_program(workspace, "bench");
    bench
        .args(options.json.then_some("--json"))
        .args(options.check.then_some("--check"));
    name_images(workspace, &mut bench, false);
    if let Some(row) = &options.profile {
        bench.args(["--profile", row]);
    }
    holds(&mut bench)
}

/// One of the programs of parscan-tests, to which arguments are added.
pub(crate) fn test_program(workspace: &Workspace, name: &str) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "-q", "--locked", "-p", "parscan-tests", "--bin"]);
    cargo.args([name, "--"]);
    cargo
}

/// Builds the driver and the drivers of the tests, and gives one of the programs of parscan-tests
/// that runs them.
pub(crate) fn test_program_with_drivers(
    workspace: &Workspace,
    name: &str,
    debug: bool,
) -> Result<Command> {
    build(workspace, Arch::X64, debug)?;
    run(&mut test_drivers_build(workspace))?;
    let mut program = test_program(workspace, name);
    name_images(workspace, &mut program, debug);
    Ok(program)
}

/// Builds the faulty driver, the class driver above parscan and the driver that does nothing.
pub(crate) fn test_drivers_build(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "--target", TARGET]);
    cargo.args(TEST_DRIVERS.map(|name| ["-p", name]).as_flattened());
    cargo
}

/// Tells a program of the tests where the images are: the driver's, and those of the tests.
pub(crate) fn name_images(workspace: &Workspace, program: &mut Command, debug: bool) {
    program.env("PARSCAN_SYS", image(workspace, Arch::X64, debug));
    let release = workspace.target().join(TARGET).join("release");
    for driver in TEST_DRIVERS {
        let image = driver.replace('-', "_");
        let variable = driver.trim_start_matches("parscan-").replace('-', "_");
        program.env(
            format!("{}_SYS", variable.to_uppercase()),
            release.join(format!("{image}.dll")),
        );
    }
}

/// The linker puts the map beside its own output; cargo copies only the image from there.
fn find_map(built: &Path) -> Option<PathBuf> {
    [built.join("parscan.map"), built.join("deps/parscan.map")]
        .into_iter()
        .find(|path| path.is_file())
}

/// Copies a file.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

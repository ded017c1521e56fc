//! What a host needs before it can build: installed where missing, left alone where there.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::UNIX_EPOCH,
};

use anyhow::{Context, Result, bail};

use crate::{
    driver::sha256,
    exports::Exports,
    shell::{
        ARM64_HOST_TARGET, Arch, PROGRAM_32_TARGET, PROGRAM_ARM64_TARGET, PROGRAM_TARGET,
        Workspace, clean, headline, in_path, read, remove, run, say, shown, write_if_changed,
    },
};

pub(crate) mod crates;
mod headers;
mod kit;
pub(crate) mod zig;

/// Tools that only some commands need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The emulator of the demo's second machine: Debian package qemu-system-x86.
    Qemu,
    /// The interpreter that finds undefined behaviour: components of a nightly toolchain.
    Miri,
    /// rustfmt and clippy.
    Lints,
    /// What links programs for Windows: Debian package gcc-mingw-w64-x86-64, and a Rust target.
    Programs,
    /// What links 32-bit programs: Debian package gcc-mingw-w64-i686, and a Rust target.
    Programs32,
    /// What links programs for ARM64: Zig, from `PyPI`, and a Rust target.
    ProgramsArm64,
    /// Windows as Wine's authors built it: Debian package wine64.
    Wine,
    /// What runs the simulated machine on ARM64: Debian package qemu-user, and a Rust target.
    Arm64,
}

/// A Debian package and the files by which it is recognised.
struct Package {
    name: &'static str,
    what: &'static str,
    files: &'static [&'static str],
}

/// Headers and import lists of the Windows kernel.
const MINGW_INCLUDE: &str = "/usr/share/mingw-w64/include";
const MINGW_LIB: &str = "/usr/x86_64-w64-mingw32/lib";
/// Makes the bindings and import libraries. The same release of both, so that they agree.
const LLVM: &str = "/usr/lib/llvm-19";
const CLANG_RESOURCES: &str = "/usr/lib/llvm-19/lib/clang/19";

const KIT_PACKAGES: &[Package] = &[
    Package {
        name: "mingw-w64-common",
        what: "C headers of the Windows kernel",
        files: &[
            "/usr/share/mingw-w64/include/ddk/wdm.h",
            "/usr/share/mingw-w64/include/ddk/parallel.h",
            "/usr/share/mingw-w64/include/ntdef.h",
        ],
    },
    Package {
        name: "mingw-w64-x86-64-dev",
        what: "lists of the kernel's exports",
        files: &[
            "/usr/x86_64-w64-mingw32/lib/libntoskrnl.a",
            "/usr/x86_64-w64-mingw32/lib/libhal.a",
            "/usr/x86_64-w64-mingw32/lib/libusbd.a",
            "/usr/x86_64-w64-mingw32/lib/libwmilib.a",
        ],
    },
    Package {
        name: "llvm-19",
        what: "llvm-nm, llvm-dlltool and llvm-ar, which make import libraries",
        files: &[
            "/usr/lib/llvm-19/bin/llvm-nm",
            "/usr/lib/llvm-19/bin/llvm-dlltool",
            "/usr/lib/llvm-19/bin/llvm-ar",
        ],
    },
    Package {
        name: "libclang-19-dev",
        what: "libclang, which reads the headers for bindgen",
        files: &[
            "/usr/lib/llvm-19/lib/libclang.so",
            "/usr/lib/llvm-19/lib/clang/19/include/stddef.h",
        ],
    },
];

const QEMU_PACKAGES: &[Package] = &[Package {
    name: "qemu-system-x86",
    what: "QEMU, the emulated PC of the demo and its tests",
    files: &["/usr/bin/qemu-system-x86_64"],
}];

const PROGRAM_PACKAGES: &[Package] = &[Package {
    name: "gcc-mingw-w64-x86-64",
    what: "the linker for Windows programs",
    files: &[
        "/usr/bin/x86_64-w64-mingw32-gcc",
        "/usr/bin/x86_64-w64-mingw32-dlltool",
    ],
}];

const PROGRAM_32_PACKAGES: &[Package] = &[Package {
    name: "gcc-mingw-w64-i686",
    what: "the linker for 32-bit Windows programs",
    files: &[
        "/usr/bin/i686-w64-mingw32-gcc",
        "/usr/bin/i686-w64-mingw32-dlltool",
    ],
}];

const WINE_PACKAGES: &[Package] = &[Package {
    name: "wine64",
    what: "Wine, a Windows by others that the driver is installed in",
    files: &["/usr/lib/wine/wine64", "/usr/lib/wine/wineserver64"],
}];

const ARM64_PACKAGES: &[Package] = &[Package {
    name: "qemu-user",
    what: "QEMU, which runs an ARM64 process",
    files: &["/usr/bin/qemu-aarch64"],
}];

/// Makes sure that the driver can be built here, and that `extra` is there. True if anything had to
/// be done. Does nothing for the driver on Windows, where the installed WDK is used.
pub(crate) fn ensure(workspace: &Workspace, extra: &[Tool]) -> Result<bool> {
    refuse_flags()?;
    let mut changed = false;
    if !cfg!(windows) {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!("the driver is built on x86-64 Linux or on Windows with Microsoft's WDK");
        }
        // One at a time: others may run the same command in this tree.
        let lock = workspace.target().join("linux-kit.lock");
        fs::create_dir_all(workspace.target())?;
        let lock =
            File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
        lock.lock().context("cannot lock target/linux-kit.lock")?;

        for arch in Arch::ALL {
            changed |= ensure_target(arch.target())?;
        }
        let mut packages: Vec<&'static Package> = KIT_PACKAGES.iter().collect();
        if extra.contains(&Tool::Qemu) {
            packages.extend(QEMU_PACKAGES);
        }
        if extra.contains(&Tool::Programs) {
            changed |= ensure_target(PROGRAM_TARGET)?;
            packages.extend(PROGRAM_PACKAGES);
        }
        if extra.contains(&Tool::Programs32) {
            changed |= ensure_target(PROGRAM_32_TARGET)?;
            packages.extend(PROGRAM_32_PACKAGES);
        }
        if extra.contains(&Tool::ProgramsArm64) {
            changed |= ensure_target(PROGRAM_ARM64_TARGET)?;
            changed |= zig::ensure(workspace)?;
        }
        if extra.contains(&Tool::Wine) {
            packages.extend(WINE_PACKAGES);
        }
        if extra.contains(&Tool::Arm64) {
            changed |= ensure_target(ARM64_HOST_TARGET)?;
            packages.extend(ARM64_PACKAGES);
        }
        changed |= ensure_packages(&packages)?;
        changed |= ensure_kit(workspace)?;
    }
    if extra.contains(&Tool::Lints) {
        changed |= ensure_lints()?;
    }
    if extra.contains(&Tool::Miri) {
        changed |= ensure_miri()?;
    }
    Ok(changed)
}

/// cargo takes flags from one place only: those of the environment would replace the project's.
fn refuse_flags() -> Result<()> {
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        if env::var_os(name).is_some_and(|value| !value.is_empty()) {
            bail!(
                "{name} is set. It would replace the flags in .cargo/config.toml that the driver \
                 needs.\nRun `unset {name}` and try again."
            );
        }
    }
    Ok(())
}

/// Folder of the toolchain that builds the driver.
fn sysroot() -> Result<PathBuf> {
    let path = read(clean("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim_end()))
}

/// Step 1: the Rust libraries of a target.
fn ensure_target(target: &str) -> Result<bool> {
    if sysroot()?
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir()
    {
        return Ok(false);
    }
    headline(format!("setup: installing the Rust target {target}"));
    rustup(&["target", "add", target])?;
    Ok(true)
}

/// rustfmt and clippy of the toolchain in use.
fn ensure_lints() -> Result<bool> {
    let bin = sysroot()?.join("bin");
    let present = |name: &str| {
        bin.join(format!("{name}{}", env::consts::EXE_SUFFIX))
            .is_file()
    };
    if present("cargo-fmt") && present("cargo-clippy") {
        return Ok(false);
    }
    headline("setup: installing rustfmt and clippy");
    rustup(&["component", "add", "rustfmt", "clippy"])?;
    Ok(true)
}

/// Folder of the nightly toolchain, if there is one.
fn nightly() -> Option<PathBuf> {
    let output = clean("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(path.trim_end()))
}

/// A nightly toolchain, whatever it is for. True if it had to be installed.
pub(crate) fn ensure_nightly(for_what: &str) -> Result<bool> {
    if nightly().is_some() {
        return Ok(false);
    }
    headline(format!(
        "setup: installing a nightly Rust toolchain, which {for_what} needs"
    ));
    rustup(&["toolchain", "install", "nightly", "--profile", "minimal"])?;
    Ok(true)
}

/// Miri and the library sources that it interprets, in a nightly toolchain.
fn ensure_miri() -> Result<bool> {
    ensure_nightly("Miri")?;
    let complete = |sysroot: &Path| {
        sysroot
            .join(format!("bin/cargo-miri{}", env::consts::EXE_SUFFIX))
            .is_file()
            && sysroot.join("lib/rustlib/src/rust/library").is_dir()
    };
    if nightly().is_some_and(|sysroot| complete(&sysroot)) {
        return Ok(false);
    }
    headline("setup: installing Miri and the library sources for the nightly toolchain");
    rustup(&[
        "component",
        "add",
        "--toolchain",
        "nightly",
        "miri",
        "rust-src",
    ])?;
    Ok(true)
}

/// Runs rustup, or says how to get what it would have brought.
fn rustup(args: &[&str]) -> Result<()> {
    let line = format!("rustup {}", args.join(" "));
    say(format!("  $ {line}"));
    run(clean("rustup").args(args)).with_context(|| {
        format!(
            "could not run `{line}`. Rust toolchains are managed by rustup (https://rustup.rs): \
             install it or put it into PATH, check the network, and run that command"
        )
    })
}

/// Step 2: Debian packages, recognised by their files so that other ways of installing them work.
fn ensure_packages(packages: &[&'static Package]) -> Result<bool> {
    let missing: Vec<(&Package, &str)> = packages.iter().filter_map(|p| missing_file(p)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| package.name).collect();
    headline(format!(
        "setup: installing Debian packages: {}",
        names.join(" ")
    ));
    for (package, file) in &missing {
        say(format!(
            "  {}: {} (there is no {file})",
            package.name, package.what
        ));
    }
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if !in_path("apt-get") {
        bail!(
            "there is no apt-get on this host. Install what these Debian packages hold:\n  {}",
            names.join("\n  ")
        );
    }
    if !is_root() && !in_path("sudo") {
        bail!("not root, and there is no sudo. Run this as root, then try again:\n  {by_hand}");
    }
    let apt = |args: &[&str]| {
        let mut command = if is_root() {
            Command::new("env")
        } else {
            Command::new("sudo")
        };
        if !is_root() {
            command.arg("env");
        }
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])
            .args(args);
        say(format!("  $ {}", shown(&command)));
        run(&mut command)
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&names);
    // An outdated list can still do, and an offline mirror may serve `install` alone.
    let updated = apt(&["update"]);
    apt(&install)
        .or_else(|error| updated.and(Err(error)))
        .with_context(|| {
            format!("could not install packages. Run this as root, then try again:\n  {by_hand}")
        })?;
    let still: Vec<String> = packages
        .iter()
        .filter_map(|p| missing_file(p))
        .map(|(package, file)| format!("  {file} (expected from {})", package.name))
        .collect();
    if !still.is_empty() {
        bail!(
            "installed, but these files are still missing:\n{}",
            still.join("\n")
        );
    }
    Ok(true)
}

fn missing_file(package: &'static Package) -> Option<(&'static Package, &'static str)> {
    let file = package
        .files
        .iter()
        .find(|file| !Path::new(file).exists())?;
    Some((package, file))
}

/// Is the effective user root?
fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Steps 3 to 6: crates, their edited copies, the kit, and cargo's settings for it.
fn ensure_kit(workspace: &Workspace) -> Result<bool> {
    let folder = workspace.root.join(".cargo/linux-kit");
    let stamp = folder.join("stamp");
    let config = config(workspace, &folder)?;
    let inputs = inputs(workspace, &config)?;
    let outputs = [
        folder.join("wdk-build/Cargo.toml"),
        folder.join("windows-future/Cargo.toml"),
        folder.join("kit/Lib"),
        config_path(workspace),
    ];
    if fs::read_to_string(&stamp).is_ok_and(|old| old == inputs)
        && outputs.iter().all(|path| path.exists())
    {
        return Ok(false);
    }
    remove(&stamp)?;
    // Not in target/: after `cargo clean`, .cargo/linux-host.toml would name folders that are not
    // there, and cargo would stop before it could run this program.
    write_if_changed(&folder.join(".gitignore"), b"*\n")?;

    headline("setup: fetching the crates of Cargo.lock");
    run(workspace.cargo_outside("fetch").args(["--locked", "--quiet"])).context(
        "could not fetch crates. Check the network; if a Cargo.toml was edited, bring Cargo.lock up \
         to date first with `cargo metadata --format-version 1 >/dev/null`",
    )?;

    headline("setup: making the build kit in .cargo/linux-kit");
    let kit_hash = kit::make(&folder.join("kit"), &Exports::load(workspace)?)?;
    crates::copy_edited(workspace, &folder, &kit_hash)?;
    if write_if_changed(&config_path(workspace), config.as_bytes())? {
        say("  wrote .cargo/linux-host.toml");
    }
    // Last, so that an interrupted run is repeated.
    write_if_changed(&stamp, inputs.as_bytes())?;
    Ok(true)
}

fn config_path(workspace: &Workspace) -> PathBuf {
    workspace.root.join(".cargo/linux-host.toml")
}

/// cargo's settings on this host.
fn config(workspace: &Workspace, folder: &Path) -> Result<String> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder is known")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let mut text = format!(
        "# Written by `cargo xtask setup` for building without Microsoft's WDK. Do not edit.\n\
         # Edited copies of two crates that otherwise build on Windows only.\n\
         paths = [\n    {},\n    {},\n]\n\n\
         [env]\n\
         # Headers and import libraries, laid out as wdk-build expects the WDK's.\n\
         WDKContentRoot = {{ value = {}, force = true }}\n\
         LIBCLANG_PATH = {{ value = \"{LLVM}/lib\", force = true }}\n\
         # wdk-build tells clang to search no folder by itself, so its own headers are named here.\n",
        quoted(&folder.join("wdk-build")),
        quoted(&folder.join("windows-future")),
        quoted(&folder.join("kit")),
    );
    for arch in Arch::ALL {
        let _ = writeln!(
            text,
            "BINDGEN_EXTRA_CLANG_ARGS_{} = {{ value = \"-resource-dir {CLANG_RESOURCES}\", force = true }}",
            arch.target().replace('-', "_"),
        );
    }
    for arch in Arch::ALL {
        let _ = write!(
            text,
            "\n[target.{}]\n\
             linker = \"rust-lld\"\n\
             # The same bytes wherever the project and cargo's home are: no debug directory, whose\n\
             # identifier depends on paths, and no folder names of this host in messages.\n\
             rustflags = [\n    \
                 \"-C\", \"link-arg=/DEBUG:NONE\",\n    \
                 {},\n    {},\n]\n",
            arch.target(),
            quoted(Path::new(&remap(&home, "cargo"))),
            quoted(Path::new(&remap(&workspace.root, "parscan"))),
        );
    }
    Ok(text)
}

/// Everything that the kit is made from. If this text is the same, so is the kit.
fn inputs(workspace: &Workspace, config: &str) -> Result<String> {
    let lock = workspace.root.join("Cargo.lock");
    let lock = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let mut text = format!(
        "{config}\nlock {}\nkit {}\n",
        sha256(&lock),
        sha256(format!("{}{}", kit::sources(), crates::sources()).as_bytes()),
    );
    for file in KIT_PACKAGES.iter().flat_map(|package| package.files) {
        let data = fs::metadata(file).with_context(|| format!("cannot read {file}"))?;
        let time = data
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let _ = writeln!(text, "{file} {} {}", data.len(), time.as_secs());
    }
    Ok(text)
}

//! The linker of programs for Windows on ARM64. Debian 12 has no MinGW for that processor, and rustup
//! brings no C runtime for it. Zig carries the sources of MinGW's, and LLVM's linker.
//!
//! It is a package of `PyPI`, with its programs inside: pip fetches one version of it, by its hash, into
//! target/zig. Nothing of it is installed on the host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use super::{Package, ensure_packages};
use crate::shell::{Workspace, clean, headline, remove, run, say, shown, write_if_changed};

/// The package.
const VERSION: &str = "0.17.1";
/// Of the file for Linux on x86-64.
const SHA256: &str = "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54";

/// The Python that Debian's pip belongs to.
const DEBIAN_PYTHON: &str = "/usr/bin/python3";

const PIP_PACKAGES: &[Package] = &[Package {
    name: "python3-pip",
    what: "pip, which fetches Zig",
    files: &[
        DEBIAN_PYTHON,
        "/usr/lib/python3/dist-packages/pip/__main__.py",
    ],
}];

/// The libraries that rustc names, of the MinGW that it expects. Zig links its own without a word:
/// those, but with the Universal C Runtime in place of msvcrt.dll, which it does not build for ARM64.
const DROPPED: &str = "-nolibc|-lmingw32|-lmingwex|-lmsvcrt";

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("zig")
}

/// What cargo is to call as the linker of [`crate::shell::PROGRAM_ARM64_TARGET`].
pub(crate) fn linker(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("link-arm64")
}

/// Makes sure that the linker is there. True if anything had to be done.
pub(super) fn ensure(workspace: &Workspace) -> Result<bool> {
    let folder = folder(workspace);
    let package = folder.join(VERSION);
    let zig = package.join("ziglang/zig");
    let fetched = !zig.is_file();
    if fetched {
        fetch(&folder, &package)?;
        if !zig.is_file() {
            bail!("there is no {} in what pip fetched", zig.display());
        }
    }
    let written = write_if_changed(
        &linker(workspace),
        script(&zig, &folder.join("cache"))?.as_bytes(),
    )?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(linker(workspace), fs::Permissions::from_mode(0o755))?;
    }
    Ok(fetched || written)
}

/// Fetches the package.
fn fetch(folder: &Path, package: &Path) -> Result<()> {
    headline(format!("setup: fetching Zig {VERSION} from PyPI (100 MB)"));
    let python = python()?;
    let wanted = folder.join("requirements.txt");
    let line = format!("ziglang=={VERSION} --hash=sha256:{SHA256}\n");
    write_if_changed(&wanted, line.as_bytes())?;
    // Whole or not at all.
    let unpacked = folder.join("new");
    remove(&unpacked)?;
    let mut pip = clean(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--only-binary", ":all:", "--no-compile", "--require-hashes"])
        .arg("--disable-pip-version-check")
        .arg("--target")
        .arg(&unpacked)
        .arg("-r")
        .arg(&wanted);
    let line = shown(&pip);
    say(format!("  $ {line}"));
    run(&mut pip)
        .with_context(|| format!("could not run `{line}`. Check the network, and try again"))?;
    remove(package)?;
    fs::rename(&unpacked, package).with_context(|| format!("cannot make {}", package.display()))
}

/// A Python that has pip.
fn python() -> Result<&'static str> {
    let has_pip = |python: &str| {
        clean(python)
            .args(["-m", "pip", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if has_pip("python3") {
        return Ok("python3");
    }
    let packages: Vec<&Package> = PIP_PACKAGES.iter().collect();
    ensure_packages(&packages)?;
    Ok(DEBIAN_PYTHON)
}

/// The linker: Zig's, without [`DROPPED`]. Symbols stay out, so that no .pdb belongs to the program.
fn script(zig: &Path, cache: &Path) -> Result<String> {
    let quoted = |path: &Path| -> Result<String> {
        let path = path.to_str().context("the project's path is no text")?;
        Ok(format!("'{}'", path.replace('\'', r"'\''")))
    };
    Ok(format!(
        "#!/bin/sh\n\
         # Written by `cargo xtask parscanctl --arch arm64`. Do not edit.\n\
         for it in \"$@\"; do\n    \
             shift\n    \
             case \"$it\" in\n        \
                 {DROPPED}) ;;\n        \
                 *) set -- \"$@\" \"$it\" ;;\n    \
             esac\n\
         done\n\
         cache={}\n\
         export ZIG_GLOBAL_CACHE_DIR=\"$cache\" ZIG_LOCAL_CACHE_DIR=\"$cache\"\n\
         exec {} cc -target aarch64-windows-gnu -s \"$@\"\n",
        quoted(cache)?,
        quoted(zig)?,
    ))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::shell::read;

    #[test]
    fn the_linker_gets_all_but_the_names_of_another_mingw() {
        // In place of Zig a program that prints what it was given.
        let script = script(Path::new("/bin/echo"), Path::new("/it's here")).unwrap();
        assert!(script.contains(r"cache='/it'\''s here'"));
        let output = read(clean("sh").args(["-c", &script, "linker"]).args([
            "a b.o",
            "-nolibc",
            "-lkernel32",
            "-lmingwex",
            "-lmsvcrt",
            "-lunwind",
        ]));
        assert_eq!(
            output.unwrap(),
            "cc -target aarch64-windows-gnu -s a b.o -lkernel32 -lunwind\n"
        );
    }
}

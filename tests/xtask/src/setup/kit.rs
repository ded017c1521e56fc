//! A stand-in for the WDK's folder, made from mingw-w64's DDK headers and import lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{LLVM, MINGW_INCLUDE, MINGW_LIB, headers};
use crate::{
    exports::Exports,
    shell::{Arch, read, remove, run, say, write_if_changed},
};

/// The version whose folder names the kit bears. wdk-build takes the highest that it finds.
const VERSION: &str = "10.0.26100.0";

/// Headers that wdk-sys includes and mingw-w64 lacks or has differently. Each says why it is there.
const SHIMS: &[(&str, &str)] = &[
    ("ntifs.h", include_str!("../../kit/include/ntifs.h")),
    ("intrin.h", include_str!("../../kit/include/intrin.h")),
    ("Usbpmapi.h", include_str!("../../kit/include/Usbpmapi.h")),
    (
        "usbfnattach.h",
        include_str!("../../kit/include/usbfnattach.h"),
    ),
    ("usbfnbase.h", include_str!("../../kit/include/usbfnbase.h")),
    (
        "usbfnioctl.h",
        include_str!("../../kit/include/usbfnioctl.h"),
    ),
];

/// An import library: the names of a module that mingw-w64 or Microsoft's metadata has, and those
/// that both lack.
struct Library {
    name: &'static str,
    module: &'static str,
    /// For x64 only.
    more: &'static [&'static str],
}

/// The libraries that wdk-sys and the driver link. Names are not trusted: `cargo xtask gate` checks
/// what the driver imports.
const LIBRARIES: &[Library] = &[
    Library {
        name: "ntoskrnl",
        module: "ntoskrnl.exe",
        // The compiler's stack probe.
        more: &["__chkstk"],
    },
    Library {
        name: "hal",
        module: "HAL.dll",
        more: &[],
    },
    Library {
        name: "wmilib",
        module: "WMILIB.SYS",
        more: &[],
    },
    Library {
        name: "usbd",
        module: "USBD.SYS",
        more: &[],
    },
];

/// The kit's sources as text, for the stamp.
pub(super) fn sources() -> String {
    let mut text = format!("{VERSION}\n{MINGW_INCLUDE}\n{MINGW_LIB}\n");
    for (name, content) in SHIMS {
        let _ = writeln!(text, "{name}\n{content}");
    }
    for library in LIBRARIES {
        let _ = writeln!(
            text,
            "{} {} {:?}",
            library.name, library.module, library.more
        );
    }
    text
}

/// Makes or completes the kit in `root`. Gives a hash that changes when headers or libraries do.
pub(super) fn make(root: &Path, exports: &Exports) -> Result<String> {
    let include = root.join("Include").join(VERSION);

    // wdk-build searches km/crt, km, shared, in this order.
    say("  headers: mingw-w64's DDK and the shims of tests/xtask/kit");
    let mut linked = BTreeMap::new();
    let ddk = Path::new(MINGW_INCLUDE).join("ddk");
    for entry in fs::read_dir(&ddk).with_context(|| format!("cannot read {}", ddk.display()))? {
        let path = entry?.path();
        if let (Some(name), Some("h")) =
            (path.file_name(), path.extension().and_then(|e| e.to_str()))
        {
            linked.insert(PathBuf::from(name), path.clone());
        }
    }
    let km = include.join("km");
    for (name, target) in linked.iter().filter(|(name, _)| !headers::is_edited(name)) {
        link(target, &km.join(name))?;
    }
    headers::copy_edited(&km)?;
    link(Path::new(MINGW_INCLUDE), &include.join("shared"))?;
    for (name, content) in SHIMS {
        write_if_changed(&km.join("crt").join(name), content.as_bytes())?;
    }

    say("  import libraries: ntoskrnl, hal, wmilib, usbd; for x64 and for ARM64");
    let mut hashed = sources();
    for arch in Arch::ALL {
        let libraries = root.join("Lib").join(VERSION).join("km").join(arch.kit());
        fs::create_dir_all(&libraries)
            .with_context(|| format!("cannot create {}", libraries.display()))?;
        for library in LIBRARIES {
            hashed.push_str(&import_library(library, arch, exports, &libraries)?);
        }
        // Support for C objects, which wdk-sys names and Rust code asks for none of: stack cookies,
        // and on ARM64 the compiler's helpers.
        for name in ["BufferOverflowFastFailK", "arm64rt"] {
            let empty = libraries.join(format!("{name}.lib"));
            if !empty.exists() && (name != "arm64rt" || arch == Arch::Arm64) {
                run(Command::new(format!("{LLVM}/bin/llvm-ar"))
                    .arg("crs")
                    .arg(&empty))?;
            }
        }
    }

    // Time and size of a header tell of a new release of the packages.
    for path in linked.values() {
        let data = fs::metadata(path)?;
        let _ = writeln!(
            hashed,
            "{} {} {:?}",
            path.display(),
            data.len(),
            data.modified()?
        );
    }
    Ok(crate::driver::sha256(hashed.as_bytes()))
}

/// Makes NAME.lib, and gives its definition file.
fn import_library(
    library: &Library,
    arch: Arch,
    exports: &Exports,
    folder: &Path,
) -> Result<String> {
    let archive = format!("{MINGW_LIB}/lib{}.a", library.name);
    let symbols = read(
        Command::new(format!("{LLVM}/bin/llvm-nm"))
            .args(["--no-sort", "--quiet"])
            .arg(&archive),
    )?;
    let definition = definition(library, arch, exports, &symbols);
    let def = folder.join(format!("{}.def", library.name));
    let lib = folder.join(format!("{}.lib", library.name));
    if write_if_changed(&def, definition.as_bytes())? || !lib.exists() {
        remove(&lib)?;
        let unfinished = folder.join(format!("{}.lib.new", library.name));
        run(Command::new(format!("{LLVM}/bin/llvm-dlltool"))
            .args(["-m", arch.dlltool(), "-d"])
            .arg(&def)
            .arg("-l")
            .arg(&unfinished))?;
        fs::rename(&unfinished, &lib)?;
    }
    Ok(definition)
}

/// The definition file for the symbols that llvm-nm lists. A name without a thunk (`T`) is data:
/// then only `__imp_NAME` exists, as in Microsoft's libraries.
///
/// mingw-w64 lacks newer functions and has some in the wrong module; there the metadata decides. Its
/// list is that of x64, and no list of ARM64's exports is public: a name too many is found by the
/// gate, if the driver takes it.
fn definition(library: &Library, arch: Arch, exports: &Exports, symbols: &str) -> String {
    let more = match arch {
        Arch::X64 => library.more,
        Arch::Arm64 => &[],
    };
    let mut code: BTreeSet<&str> = more.iter().copied().collect();
    code.extend(exports.declared(library.module));
    let mut imported = BTreeSet::new();
    let elsewhere = |name: &str| {
        LIBRARIES
            .iter()
            .any(|other| exports.has(other.module, name))
            && !exports.has(library.module, name)
    };
    for line in symbols.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(kind), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let plain = |name: &str| {
            !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if kind == "T" && plain(name) && !elsewhere(name) {
            code.insert(name);
        } else if let ("I", Some(name)) = (kind, name.strip_prefix("__imp_"))
            && plain(name)
            && !elsewhere(name)
        {
            imported.insert(name);
        }
    }
    let mut text = format!("LIBRARY {}\nEXPORTS\n", library.module);
    for name in &code {
        let _ = writeln!(text, "{name}");
    }
    for name in imported.difference(&code) {
        let _ = writeln!(text, "{name} DATA");
    }
    text
}

/// A symbolic link, replaced if it leads elsewhere.
fn link(target: &Path, path: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    remove(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, path)
        .with_context(|| format!("cannot link {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: Library = Library {
        name: "ntoskrnl",
        module: "ntoskrnl.exe",
        more: &["Extra"],
    };

    #[test]
    fn names_without_a_thunk_are_data() {
        let symbols = "\nobject.o:\n0000000000000000 I __imp_Function\n0000000000000000 T Function\n\
                       0000000000000000 I __imp_Variable\n                 U _head\n0000000000000000 t .text\n";
        assert_eq!(
            definition(&LIBRARY, Arch::X64, &Exports::of(""), symbols),
            "LIBRARY ntoskrnl.exe\nEXPORTS\nExtra\nFunction\nVariable DATA\n"
        );
    }

    #[test]
    fn the_metadata_adds_names_and_decides_the_module() {
        let exports = Exports::of(
            "link!(\"ntoskrnl.exe\" \"system\" fn New(\nlink!(\"hal.dll\" \"system\" fn Moved(\n",
        );
        let symbols = "0000000000000000 I __imp_Moved\n0000000000000000 T Moved\n\
                       0000000000000000 I __imp_Old\n0000000000000000 T Old\n";
        assert_eq!(
            definition(&LIBRARY, Arch::X64, &exports, symbols),
            "LIBRARY ntoskrnl.exe\nEXPORTS\nExtra\nNew\nOld\n"
        );
    }
}

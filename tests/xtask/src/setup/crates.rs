//! Edited copies of two crates that otherwise build on Windows only.
//!
//! They are used through cargo's `paths` override, which leaves Cargo.toml and Cargo.lock as they
//! are on Windows. (`[patch]` would drop source and checksum from Cargo.lock.)

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::shell::{Workspace, read, remove, say, write_if_changed};

/// A replacement that must match exactly once.
pub(super) struct Edit {
    pub(super) file: &'static str,
    /// What it is for.
    pub(super) why: &'static str,
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
}

/// A crate to copy, and its edits.
struct Crate {
    name: &'static str,
    edits: &'static [Edit],
}

/// An edit of `src/utils.rs`: what begins so, with that indentation, is for Windows alone.
macro_rules! windows_only {
    ($why:literal, $indent:literal, $code:literal) => {
        Edit {
            file: "src/utils.rs",
            why: $why,
            find: concat!("\n", $indent, $code),
            replace: concat!("\n", $indent, "#[cfg(windows)]\n", $indent, $code),
        }
    };
}

const CRATES: &[Crate] = &[
    Crate {
        name: "wdk-build",
        edits: &[
            Edit {
                file: "src/lib.rs",
                ..windows_only!(
                    "the cargo-make helpers are for Windows hosts",
                    "",
                    "pub mod cargo_make;\n"
                )
            },
            Edit {
                file: "src/utils.rs",
                why: "only the registry and cargo-make helpers use CStr and OsStr",
                find: "\nuse std::{\n    env,\n    ffi::{CStr, OsStr},\n    io,\n",
                replace: "\n#[cfg(windows)]\nuse std::ffi::{CStr, OsStr};\nuse std::{\n    env,\n    io,\n",
            },
            windows_only!(
                "the windows crate is there on Windows only",
                "",
                "use windows::{\n    Win32::System::Registry::{"
            ),
            windows_only!(
                "no registry to look in for the WDK (first place)",
                "    ",
                "if let Some(path) = read_registry_key_string_value(\n        \
                 HKEY_LOCAL_MACHINE,\n        s!(r\"SOFTWARE\\Microsoft"
            ),
            windows_only!(
                "no registry to look in for the WDK (second place)",
                "    ",
                "if let Some(path) = read_registry_key_string_value(\n        \
                 HKEY_LOCAL_MACHINE,\n        s!(r\"SOFTWARE\\Wow6432Node"
            ),
            windows_only!(
                "no registry to read",
                "",
                "fn read_registry_key_string_value(\n    key_handle: HKEY,"
            ),
            Edit {
                file: "src/utils.rs",
                why: "set_var stops the build on other hosts, and nothing here calls it",
                find: concat!(
                    "#[cfg(not(target_os = \"windows\"))]\n",
                    "pub fn set_var<K, V>(_key: K, _value: V)\n",
                    "where\n    K: AsRef<OsStr>,\n    V: AsRef<OsStr>,\n{\n",
                    "    compile_error!(\n",
                    "        \"windows-drivers-rs is designed to be run on a Windows host machine in a WDK environment. \\\n",
                    "         Please build using a Windows target.\"\n    );\n}\n"
                ),
                replace: "",
            },
            Edit {
                file: "src/utils.rs",
                why: "remove_var stops the build on other hosts, and nothing here calls it",
                find: concat!(
                    "#[allow(dead_code)]\n",
                    "#[cfg(not(target_os = \"windows\"))]\n",
                    "pub fn remove_var<K>(_key: K)\n",
                    "where\n    K: AsRef<OsStr>,\n{\n",
                    "    compile_error!(\n",
                    "        \"windows-drivers-rs is designed to be run on a Windows host machine in a WDK environment. \\\n",
                    "         Please build using a Windows target.\"\n    );\n}\n"
                ),
                replace: "",
            },
        ],
    },
    Crate {
        name: "windows-future",
        edits: &[Edit {
            file: "src/lib.rs",
            why: "the crate is for Windows, but is compiled as a dependency of `windows` everywhere",
            find: "#![expect(\n    missing_docs,",
            replace: "#![cfg(windows)]\n#![expect(\n    missing_docs,",
        }],
    },
];

/// The edits as text, for the stamp.
pub(super) fn sources() -> String {
    let mut text = String::new();
    let edits = CRATES.iter().flat_map(|krate| krate.edits);
    for edit in edits.chain(super::headers::edits()) {
        let _ = writeln!(text, "{}\n{}\n{}", edit.file, edit.find, edit.replace);
    }
    text
}

/// Copies the crates into `folder`, edited. Only changed files are written, so that cargo does not
/// rebuild without need. `kit_hash` goes into wdk-build: cargo cannot see that the kit's headers
/// changed, but it sees that, and then makes all bindings anew.
pub(super) fn copy_edited(workspace: &Workspace, folder: &Path, kit_hash: &str) -> Result<()> {
    let found = locate(workspace)?;
    for krate in CRATES {
        let (version, source) = found
            .get(krate.name)
            .with_context(|| format!("crate {} is not among the dependencies", krate.name))?;
        say(format!("  {} {version}: edited copy", krate.name));
        let mut files = BTreeMap::new();
        collect(source, Path::new(""), &mut files)?;
        for edit in krate.edits {
            let content = files.get_mut(Path::new(edit.file)).with_context(|| {
                format!("crate {} {version} has no file {}", krate.name, edit.file)
            })?;
            apply(edit, content).with_context(|| {
                format!(
                    "crate {} {version} is not the one that tests/xtask/src/setup/crates.rs knows. \
                     Edit of {} that no longer fits: {}",
                    krate.name, edit.file, edit.why
                )
            })?;
        }
        if krate.name == "wdk-build"
            && let Some(content) = files.get_mut(Path::new("src/lib.rs"))
        {
            content.extend_from_slice(format!("\n// linux-kit {kit_hash}\n").as_bytes());
        }
        let copy = folder.join(krate.name);
        remove_others(&copy, Path::new(""), &files)?;
        for (path, content) in &files {
            write_if_changed(&copy.join(path), content)?;
        }
    }
    Ok(())
}

/// Where cargo keeps the crates, and their versions.
fn locate(workspace: &Workspace) -> Result<BTreeMap<String, (String, PathBuf)>> {
    let mut found = BTreeMap::new();
    for package in packages(workspace)? {
        if CRATES.iter().any(|krate| krate.name == package.name) {
            let twice = found.insert(package.name.clone(), (package.version, package.folder));
            if twice.is_some() {
                bail!(
                    "Cargo.lock holds two versions of {}, one is expected",
                    package.name
                );
            }
        }
    }
    Ok(found)
}

/// A package that the workspace depends on.
pub(crate) struct Package {
    /// Name in the registry.
    pub(crate) name: String,
    /// Version in Cargo.lock.
    pub(crate) version: String,
    /// Folder of its sources.
    pub(crate) folder: PathBuf,
    /// Does this program itself depend on it?
    pub(crate) used_here: bool,
}

/// All packages of Cargo.lock, as they come from the registry.
pub(crate) fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let text =
        read(
            workspace
                .cargo_outside("metadata")
                .args(["--format-version", "1", "--locked"]),
        )?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("cannot read the output of `cargo metadata`")?;
    let list = |value: &serde_json::Value, key: &str| {
        value[key]
            .as_array()
            .cloned()
            .with_context(|| format!("no {key} in `cargo metadata`"))
    };
    let text = |value: &serde_json::Value, key: &str| {
        value[key]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {key} in `cargo metadata`"))
    };
    // Two versions of a package can be in the tree: this tells which one this program names.
    let packages = list(&metadata, "packages")?;
    let own = packages
        .iter()
        .find(|package| package["name"] == env!("CARGO_PKG_NAME"))
        .context("xtask is not in `cargo metadata`")?;
    let nodes = list(&metadata["resolve"], "nodes")?;
    let own = nodes
        .iter()
        .find(|node| node["id"] == own["id"])
        .context("xtask is not in `cargo metadata`")?;
    let dependencies = list(own, "dependencies")?;
    packages
        .iter()
        .map(|package| {
            let mut folder = PathBuf::from(text(package, "manifest_path")?);
            folder.pop();
            Ok(Package {
                name: text(package, "name")?,
                version: text(package, "version")?,
                folder,
                used_here: dependencies.contains(&package["id"]),
            })
        })
        .collect()
}

/// Reads a crate's files, with LF line ends in Rust sources and manifests.
fn collect(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let folder = root.join(below);
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        let mut content = fs::read(entry.path())?;
        if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "toml")
        {
            content.retain(|byte| *byte != b'\r');
        }
        files.insert(path, content);
    }
    Ok(())
}

/// Makes one edit, if it fits.
pub(super) fn apply(edit: &Edit, content: &mut Vec<u8>) -> Result<()> {
    let text = std::str::from_utf8(content)?;
    let count = text.matches(edit.find).count();
    if count != 1 {
        bail!("expected one match, found {count}, of:\n{}", edit.find);
    }
    *content = text.replacen(edit.find, edit.replace, 1).into_bytes();
    Ok(())
}

/// Removes what an older version left in the copy.
fn remove_others(root: &Path, below: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if files.contains_key(&path) {
            continue;
        }
        if entry.file_type()?.is_dir() && files.keys().any(|file| file.starts_with(&path)) {
            remove_others(root, &path, files)?;
        } else {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDIT: Edit = Edit {
        file: "x.rs",
        why: "test",
        find: "old",
        replace: "new",
    };

    #[test]
    fn an_edit_matches_exactly_once() {
        let mut content = b"an old text".to_vec();
        apply(&EDIT, &mut content).unwrap();
        assert_eq!(content, b"an new text");
        assert!(apply(&EDIT, &mut content).is_err());
        assert!(apply(&EDIT, &mut b"old old".to_vec()).is_err());
    }
}

//! What dependencies may be: their licences and sources, by `deny.toml`, as `cargo deny` would say
//! it, but from what is on disk. Advisories need a network, and are cargo-deny's.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{Arch, Workspace, bad, good, read};

/// Where dependencies may come from, besides this project.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// What may be in the image that users install.
const IN_IMAGE: &[&str] = &["MIT", "Apache-2.0"];

/// Checks all packages of Cargo.lock, and those in the driver's image.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let allowed = allowed(&workspace.root.join("deny.toml"))?;
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    let metadata = read(workspace.cargo().args([
        "metadata",
        "--locked",
        "--offline",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("output of `cargo metadata`")?;
    let image = in_image(workspace)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut wrong = 0;
    let mut linked = 0;
    for package in packages {
        let text = |name: &str| package[name].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        let of_project = package["source"].is_null();
        let licence = text("license");
        let mut complain = |what: String| {
            bad("  FAIL", format!("{name} {version}: {what}"));
            wrong += 1;
        };
        if !of_project && text("source") != REGISTRY {
            complain(format!("comes from {}", text("source")));
        }
        if !satisfies(licence, &allowed)? {
            complain(format!("licence {licence:?} is not in deny.toml"));
        }
        if image.contains(&format!("{name} v{version}")) {
            linked += 1;
            if !satisfies(licence, IN_IMAGE)? {
                complain(format!("licence {licence:?} must not be in the image"));
            }
        }
    }
    if linked == 0 {
        bail!("no package is in the image: `cargo tree` has another form");
    }
    if wrong != 0 {
        bail!("{wrong} dependencies are not as deny.toml wants them");
    }
    good(
        "  ok  ",
        format!(
            "{} packages, of which {linked} are in the image: licences and sources",
            packages.len()
        ),
    );
    Ok(())
}

/// Name and version of what is linked into the driver, on either processor.
fn in_image(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for arch in Arch::ALL {
        let tree = read(workspace.cargo().args([
            "tree",
            "--locked",
            "--offline",
            "-p",
            "parscan",
            "-e",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--target",
            arch.target(),
        ]))?;
        // `name v1.2.3 (path) (*)`
        found.extend(tree.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            words.join(" ")
        }));
    }
    Ok(found)
}

/// The licences that deny.toml allows.
fn allowed(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list = text
        .split_once("\n[licenses]")
        .and_then(|(_, section)| section.split_once("allow = ["))
        .and_then(|(_, list)| list.split_once(']'))
        .context("deny.toml allows no licences")?
        .0;
    Ok(list
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect())
}

/// Whether an SPDX expression can be fulfilled with these licences. `/` is an old `OR`.
fn satisfies(expression: &str, allowed: &[&str]) -> Result<bool> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let result = either(&mut rest, allowed);
    match result {
        Some(result) if rest.is_empty() => Ok(result),
        _ => bail!("licence {expression:?} cannot be read"),
    }
}

/// `a OR b`
fn either(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut result = both(words, allowed)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        result |= both(words, allowed)?;
    }
    Some(result)
}

/// `a AND b`
fn both(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        result &= one(words, allowed)?;
    }
    Some(result)
}

/// A licence, one with an exception, or an expression in parentheses.
fn one(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = either(words, allowed)?;
            let [")", rest @ ..] = *words else {
                return None;
            };
            *words = rest;
            Some(result)
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allowed.contains(&format!("{name} WITH {exception}").as_str()))
        }
        ["OR" | "AND" | "WITH" | ")", ..] | [] => None,
        [name, rest @ ..] => {
            *words = rest;
            Some(allowed.contains(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_fulfilled_or_not() {
        let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        for (expression, right) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(
                satisfies(expression, &allowed).unwrap(),
                right,
                "{expression}"
            );
        }
        for broken in ["", "MIT OR", "(MIT", "MIT GPL-3.0", "AND MIT"] {
            assert!(satisfies(broken, &allowed).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_projects_own_list_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deny.toml");
        let allowed = allowed(&path).unwrap();
        assert!(
            allowed.contains(&"MIT".to_owned()) && allowed.len() == 7,
            "{allowed:?}"
        );
    }
}

//! `cargo xtask fuzz`: the fuzz targets in tests/fuzz.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    setup,
    shell::{Workspace, bad, clean, good, headline, in_path, run, say},
};

/// How to run.
pub(crate) struct Options {
    /// For each target.
    pub(crate) seconds: u32,
    /// Targets; all if empty.
    pub(crate) targets: Vec<String>,
}

/// Runs the targets one after the other. True if none found anything.
pub(crate) fn run_targets(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.root.join("tests/fuzz");
    let targets = choose(targets(&folder)?, &options.targets)?;
    setup::ensure_nightly("fuzzing")?;
    ensure_cargo_fuzz()?;
    let mut results = Vec::new();
    for target in &targets {
        headline(format!("{target}: {} s", options.seconds));
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        let mut fuzz = cargo_fuzz(workspace);
        fuzz.args(["run", "--fuzz-dir"])
            .arg(&folder)
            .arg(target)
            // What is found new is kept in the first.
            .args([&corpus, &folder.join("seeds").join(target)])
            .args(["--", "-print_final_stats=1"])
            .arg(format!("-max_total_time={}", options.seconds));
        results.push((target, run(&mut fuzz)));
    }
    headline("Summary");
    for (target, result) in &results {
        match result {
            Ok(()) => good("  passed", target),
            Err(_) => bad(
                "  failed",
                format!("{target}: see above; inputs are in tests/fuzz/artifacts/{target}"),
            ),
        }
    }
    Ok(results.iter().all(|(_, result)| result.is_ok()))
}

/// cargo-fuzz with the nightly toolchain, which it needs.
fn cargo_fuzz(workspace: &Workspace) -> Command {
    let mut command = clean("rustup");
    command
        .current_dir(workspace.root.join("tests/fuzz"))
        .args(["run", "nightly", "cargo", "fuzz"])
        .env("CARGO_TARGET_DIR", workspace.target().join("fuzz"))
        // Set by the cargo that started this program, for its own toolchain.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Installs cargo-fuzz if it is not there.
fn ensure_cargo_fuzz() -> Result<()> {
    if in_path(&format!("cargo-fuzz{}", std::env::consts::EXE_SUFFIX)) {
        return Ok(());
    }
    headline("fuzz: installing cargo-fuzz, which runs the targets");
    let line = "cargo install cargo-fuzz --locked";
    say(format!("  $ {line}"));
    // Not in the project: its configuration is for the driver.
    run(clean("cargo")
        .current_dir(std::env::temp_dir())
        .args(line.split(' ').skip(1)))
    .with_context(|| format!("could not install cargo-fuzz. Run `{line}` and try again"))
}

/// The names of all targets.
fn targets(folder: &std::path::Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path: PathBuf = entry?.path();
        let stem = path.file_stem().unwrap_or_default();
        names.push(stem.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The targets to run.
fn choose(all: Vec<String>, only: &[String]) -> Result<Vec<String>> {
    if let Some(name) = only.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no target {name}. The targets are: {}",
            all.join(", ")
        );
    }
    if only.is_empty() {
        Ok(all)
    } else {
        Ok(only.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn unknown_targets_are_refused() {
        let all = strings(&["engine", "request"]);
        assert!(choose(all.clone(), &strings(&["nothing"])).is_err());
        assert_eq!(choose(all.clone(), &[]).unwrap(), all);
        let one = strings(&["request"]);
        assert_eq!(choose(all, &one).unwrap(), one);
    }

    #[test]
    fn targets_are_found() {
        let folder = Workspace::find().unwrap().root.join("tests/fuzz");
        let found = targets(&folder).unwrap();
        assert!(found.contains(&"engine".to_owned()), "{found:?}");
    }
}

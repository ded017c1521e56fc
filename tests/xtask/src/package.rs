//! `cargo xtask package`: the driver package, but for its catalogs and signatures, which only tools
//! of Windows make.
//!
//! The same commit gives the same bytes: the date in the INFs is the commit's, the version is
//! Cargo.toml's.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{
    driver::{self, sha256},
    inf_check::{self, Stage, Stamp, infs, stamp},
    shell::{Arch, Workspace, clean, good, remove, say, warn},
};

/// Builds the driver and puts it with the stamped and checked INFs into `parscan_package` in
/// `target/package` (ARM64: `target/package/arm64`), whose absolute path it gives.
pub(crate) fn run(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let sys = driver::build(workspace, arch, false)?;
    let folder = folder(workspace, arch);
    let stamp = stamp_of(&workspace.root)?;
    assemble(&workspace.root, arch, &sys, &stamp, &folder)?;
    for (name, data) in content(&folder)? {
        say(format!("{}  {name}", sha256(&data)));
    }
    say(format!("{}", folder.display()));
    say("no catalogs, no signatures: `cargo make` on Windows adds them");
    Ok(folder)
}

/// Makes the packages of two builds and compares them byte for byte. Both get the date of the
/// first one's commit; the second may be no checkout.
pub(crate) fn compare(
    arch: Arch,
    one: (&Workspace, &Path),
    other: (&Workspace, &Path),
) -> Result<()> {
    let stamp = stamp_of(&one.0.root)?;
    let mut packages = Vec::new();
    for (workspace, sys) in [one, other] {
        let folder = folder(workspace, arch);
        assemble(&workspace.root, arch, sys, &stamp, &folder)?;
        packages.push(content(&folder)?);
    }
    if packages.first() != packages.last() {
        bail!("the packages of two builds differ");
    }
    good("  ok  ", "their packages are identical");
    Ok(())
}

/// The package's folder, named as wdk-build names its own.
fn folder(workspace: &Workspace, arch: Arch) -> PathBuf {
    arch.below(workspace.target().join("package"))
        .join("parscan_package")
}

/// Makes the folder anew.
fn assemble(root: &Path, arch: Arch, sys: &Path, values: &Stamp, folder: &Path) -> Result<()> {
    let mut stamped = Vec::new();
    for name in infs(arch) {
        let path = root.join(format!("inf/{name}.inx"));
        let inx = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let inf = stamp(&inx, name, arch, values)
            .with_context(|| format!("cannot stamp {}", path.display()))?;
        stamped.push((format!("{name}.inf"), Stage::Stamped, inf));
    }
    inf_check::report(&stamped)?;
    remove(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(sys, folder.join("parscan.sys"))
        .with_context(|| format!("cannot copy {}", sys.display()))?;
    for (name, _, inf) in stamped {
        let path = folder.join(name);
        fs::write(&path, inf).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The files of a folder, by name.
fn content(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, fs::read(entry.path())?))
        })
        .collect()
}

/// Date and version of the sources.
fn stamp_of(root: &Path) -> Result<Stamp> {
    let seconds = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds"))?,
        Err(_) => commit_time(root)?,
    };
    Ok(Stamp {
        date: date(seconds),
        // Windows' versions have four parts.
        version: concat!(env!("CARGO_PKG_VERSION"), ".0").to_owned(),
    })
}

/// When the commit was made that is checked out, in seconds since 1970 UTC.
fn commit_time(root: &Path) -> Result<i64> {
    let git = |args: &[&str]| {
        let output = clean("git")
            .current_dir(root)
            // Also where the checkout is another user's, as in containers: cargo runs its code
            // anyway.
            .args(["-c", "safe.directory=*"])
            .args(args)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let seconds = git(&["log", "-1", "--format=%ct"])
        .and_then(|text| text.parse().ok())
        .context(
            "git knows no commit here, which dates the package: set SOURCE_DATE_EPOCH to \
             seconds since 1970",
        )?;
    if git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty()) {
        warn(
            "  note",
            "there are changes that are not committed; the date is that of the last commit",
        );
    }
    Ok(seconds)
}

/// The day, in UTC, as `mm/dd/yyyy`.
fn date(seconds: i64) -> String {
    // Days since 1 March of the year 0, in years that end with February: the leap day comes last.
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{month:02}/{day:02}/{year:04}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inf_check::INFS;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "01/01/1970"),
            (951_782_399, "02/28/2000"),
            (951_782_400, "02/29/2000"),
            (951_868_800, "03/01/2000"),
            (1_709_164_800, "02/29/2024"),
            (1_767_225_599, "12/31/2025"),
            (1_767_225_600, "01/01/2026"),
            (4_107_542_400, "03/01/2100"),
        ] {
            assert_eq!(date(seconds), day, "{seconds}");
        }
    }

    /// Runs git without the user's settings. Dates are 2026-02-03 23:30 in a zone where UTC is a
    /// day ahead.
    fn git(folder: &Path, args: &[&str]) {
        let status = clean("git")
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(
                ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"]
                    .map(|name| (name, "2026-02-03T23:30:00-0500")),
            )
            .args(["-c", "user.name=x", "-c", "user.email=x@localhost"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "git {args:?}");
    }

    #[test]
    fn two_clones_give_the_same_package() {
        let root = Workspace::find().unwrap().root;
        let place = env::temp_dir().join(format!("parscan-package-{}", std::process::id()));
        remove(&place).unwrap();
        let origin = place.join("origin");
        fs::create_dir_all(origin.join("inf")).unwrap();
        for name in INFS {
            let inx = format!("inf/{name}.inx");
            fs::copy(root.join(&inx), origin.join(&inx)).unwrap();
        }
        git(&origin, &["init", "-q"]);
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", "x"]);
        git(&place, &["clone", "-q", "origin", "one"]);
        // As git for Windows does.
        git(
            &place,
            &["-c", "core.autocrlf=true", "clone", "-q", "origin", "two"],
        );
        let sys = place.join("image");
        fs::write(&sys, "image").unwrap();
        let mut packages = Vec::new();
        for clone in ["one", "two"] {
            let seconds = commit_time(&place.join(clone)).unwrap();
            let stamp = Stamp {
                date: date(seconds),
                version: "1.2.3.0".to_owned(),
            };
            let folder = place.join(format!("package of {clone}"));
            // What was there before does not stay.
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(clone), "old").unwrap();
            assemble(&place.join(clone), Arch::X64, &sys, &stamp, &folder).unwrap();
            packages.push(content(&folder).unwrap());
        }
        assert_eq!(packages[0], packages[1]);
        let names: Vec<&str> = packages[0].keys().map(String::as_str).collect();
        assert_eq!(names, ["parscan.sys", "parscan_lpt.inf", "parscan_usb.inf"]);
        let inf = String::from_utf8(packages[0]["parscan_usb.inf"].clone()).unwrap();
        assert!(
            inf.contains("DriverVer   = 02/04/2026,1.2.3.0\r\n"),
            "{inf}"
        );
        assert!(inf.contains("CatalogFile = parscan_usb.cat\r\n"));
        remove(&place).unwrap();
    }

    #[test]
    fn a_folder_without_commits_is_refused() {
        assert!(commit_time(Path::new("/")).is_err());
    }

    /// Makefile.toml has the version and the INFs once more.
    #[test]
    fn both_hosts_make_one_package() {
        let root = Workspace::find().unwrap().root;
        let makefile = fs::read_to_string(root.join("Makefile.toml")).unwrap();
        let line = concat!("PARSCAN_VERSION = \"", env!("CARGO_PKG_VERSION"), ".0\"");
        assert!(makefile.lines().any(|its| its == line), "no line {line}");
        for name in INFS {
            for ending in ["inx", "inf", "cat"] {
                let file = format!("{name}.{ending}");
                assert!(makefile.contains(&file), "{file} is not made");
            }
        }
    }
}

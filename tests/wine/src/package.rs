//! What is installed: the driver package as `cargo xtask package` makes it, but for what Wine 8
//! cannot read.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// How a models section names the oldest Windows that it is for. Wine looks for the section
/// without it.
const OLDEST: &str = ".10.0...19041]";

/// Copies the package. Wine takes an INF only if its catalog is there; it does not look into it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let target = to.join(name);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("inf") => {
                let inf = fs::read_to_string(&path)?;
                let folder = path.file_stem().unwrap_or_default().to_string_lossy();
                let inf = for_wine(&inf, &folder)
                    .with_context(|| format!("{} cannot be made fit", path.display()))?;
                fs::write(&target, inf)?;
                fs::write(target.with_extension("cat"), "")?;
            }
            _ => {
                fs::copy(&path, &target)?;
            }
        }
    }
    Ok(())
}

/// The INF with the two changes that Wine 8 needs:
/// - the models section without the Windows that it is for;
/// - a folder in place of the driver store, where Windows gives each package one. Without it both
///   packages would have the same file, and Wine would load it once for both services.
fn for_wine(inf: &str, folder: &str) -> Result<String> {
    let mut inf = inf.to_owned();
    for (old, times, new) in [
        (OLDEST, 1, "]".to_owned()),
        // Of all files, or of those of a section.
        (" = 13\r\n", 1, format!(" = 13,{folder}\r\n")),
        // The service's image, and its messages in the event log.
        (
            r"%13%\parscan.sys",
            2,
            format!(r"%13%\{folder}\parscan.sys"),
        ),
    ] {
        let there = inf.matches(old).count();
        if there != times {
            bail!("{old:?} is there {there} times, not {times}");
        }
        inf = inf.replace(old, &new);
    }
    Ok(inf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_wine_cannot_read_is_changed() {
        for name in ["parscan_lpt", "parscan_usb"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../inf/{name}.inx"));
            let inf = fs::read_to_string(path)
                .unwrap()
                .replace("\r\n", "\n")
                .replace('\n', "\r\n");
            let fit = for_wine(&inf, name).unwrap();
            let changed: Vec<(&str, &str)> = inf
                .lines()
                .zip(fit.lines())
                .filter(|(old, new)| old != new)
                .collect();
            assert_eq!(inf.lines().count(), fit.lines().count());
            assert_eq!(changed.len(), 4, "{changed:?}");
            assert!(for_wine(&fit, name).is_err(), "it is fit already");
        }
    }
}

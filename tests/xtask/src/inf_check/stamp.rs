//! What Microsoft's stampinf makes of an INX.

use anyhow::{Context, Result, bail};

use crate::shell::Arch;

/// What is filled in.
pub(crate) struct Stamp {
    /// Date of the driver, `mm/dd/yyyy`.
    pub(crate) date: String,
    /// Version of the driver, `w.x.y.z`.
    pub(crate) version: String,
}

impl Stamp {
    /// Values for a check, where no date is known.
    pub(crate) fn sample() -> Self {
        Self {
            date: "01/01/2026".to_owned(),
            version: "1.0.0.0".to_owned(),
        }
    }
}

/// The INF `<name>.inf` of an INX, as
/// `stampinf -f <name>.inf -d <date> -a <architecture> -c <name>.cat -v <version>` makes it, with CRLF.
///
/// # Errors
/// When the INX is not ASCII or has no `[Version]`.
pub(crate) fn stamp(inx: &[u8], name: &str, arch: Arch, stamp: &Stamp) -> Result<Vec<u8>> {
    if !inx.is_ascii() {
        bail!("it has characters that are not ASCII");
    }
    let text = std::str::from_utf8(inx)?.replace("$ARCH$", arch.inf());
    let mut lines: Vec<String> = Vec::new();
    let mut inside = false;
    // Where the lines of [Version] end.
    let mut end = None;
    for line in text.lines() {
        let code = line.trim();
        if code.starts_with('[') {
            inside = code.to_ascii_lowercase().starts_with("[version]");
        }
        let key = code.split('=').next().unwrap_or_default().trim();
        let replaced = ["DriverVer", "CatalogFile"]
            .iter()
            .any(|stamped| key.eq_ignore_ascii_case(stamped));
        if inside && replaced {
            continue;
        }
        lines.push(line.to_owned());
        if inside && !code.is_empty() && !code.starts_with(';') {
            end = Some(lines.len());
        }
    }
    let end = end.context("there is no [Version]")?;
    let Stamp { date, version } = stamp;
    let stamped = [
        format!("CatalogFile = {name}.cat"),
        format!("DriverVer   = {date},{version}"),
    ];
    lines.splice(end..end, stamped);
    lines.push(String::new());
    Ok(lines.join("\r\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_version_catalog_and_architecture_are_filled_in() {
        let inx =
            b"; x\n[Version]\nClass = Ports\ndriverver = 1\n; y\n\n[A.NT$ARCH$]\nDriverVer=2\n";
        let inf = stamp(inx, "n", Arch::X64, &Stamp::sample()).unwrap();
        assert_eq!(
            String::from_utf8(inf).unwrap(),
            "; x\r\n[Version]\r\nClass = Ports\r\nCatalogFile = n.cat\r\n\
             DriverVer   = 01/01/2026,1.0.0.0\r\n; y\r\n\r\n[A.NTamd64]\r\nDriverVer=2\r\n"
        );
        let inf = stamp(inx, "n", Arch::Arm64, &Stamp::sample()).unwrap();
        assert!(String::from_utf8(inf).unwrap().contains("[A.NTarm64]\r\n"));
    }

    #[test]
    fn line_ends_of_a_checkout_do_not_matter() {
        let unix = b"[Version]\nA = B\n";
        let windows = b"[Version]\r\nA = B\r\n";
        let sample = Stamp::sample();
        assert_eq!(
            stamp(unix, "n", Arch::X64, &sample).unwrap(),
            stamp(windows, "n", Arch::X64, &sample).unwrap()
        );
    }

    #[test]
    fn what_is_no_inx_is_refused() {
        assert!(stamp(b"[Strings]\n", "n", Arch::X64, &Stamp::sample()).is_err());
        assert!(
            stamp(
                "[Version]\n; \u{e9}\n".as_bytes(),
                "n",
                Arch::X64,
                &Stamp::sample()
            )
            .is_err()
        );
    }
}

//! `cargo xtask inf-check`: what Windows' INF checker and this project demand of an INF.
//!
//! InfVerif runs on Windows only. These are its rules as far as Microsoft's documentation states
//! them and INFs like ours can break them, and rules of this project (P). They are evidence for the
//! documented rules, not for what `infverif /w` says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::shell::{Arch, Workspace, bad, good, say};

mod device;
mod files;
mod install;
mod map;
mod parse;
mod project;
mod registry;
mod stamp;
mod text;

pub(crate) use stamp::{Stamp, stamp};

use map::Map;
use parse::Inf;

/// The INFs of the package, without `.inx`.
pub(crate) const INFS: [&str; 2] = ["parscan_lpt", "parscan_usb"];

/// Those of the package for a processor: a machine with ARM64 has no port for the driver.
pub(crate) fn infs(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X64 => &INFS,
        Arch::Arm64 => &INFS[1..],
    }
}

/// Makes the enum of the rules and their texts from one table.
macro_rules! rules {
    ($($id:ident $codes:literal $what:literal)*) => {
        /// The rules.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule {
            $($id,)*
        }

        impl Rule {
            /// All of them.
            const ALL: &[Self] = &[$(Self::$id),*];

            /// InfVerif's numbers for it; empty if it has none.
            const fn codes(self) -> &'static str {
                match self { $(Self::$id => $codes,)* }
            }

            /// What it demands.
            const fn what(self) -> &'static str {
                match self { $(Self::$id => $what,)* }
            }
        }
    };
}

rules! {
    F1 "1003" "the file is ASCII, or UTF-16 LE with its byte order mark"
    F2 "1002" "every line can be read"
    F3 "1209" "no section stands twice"
    F4 "2083" "every section is reached"
    F5 "1235, 1295" "every %token% has a string, in every language"
    F6 "" "no string is longer than 4095 characters"
    F7 "1203" "every section that a line names is there"
    V1 "1001" "[Version] has the signature of Windows NT"
    V2 "1233, 1234, 1289" "[Version] has Class, ClassGuid, Provider, CatalogFile and DriverVer"
    V3 "1010, 1280, 1281, 1286" "Class and ClassGuid belong together"
    V4 "1284, 1285" "the class may be used, and a class of Microsoft is not installed anew"
    V5 "1204" "Provider is a %token%, and not Microsoft"
    V6 "1213, 1214" "CatalogFile is a .cat beside the INF"
    V7 "1217, 1218" "DriverVer is mm/dd/yyyy,w.x.y.z, and not 0.0.0.0"
    V8 "1324" "PnpLockdown is 1"
    M1 "1203, 1287" "[Manufacturer] names the models sections that are there, each once"
    M2 "1288" "a decoration is NT, architecture, version and build 14310 or later"
    M3 "" "a decoration has no product type and no suite"
    M4 "2010" "a decoration has an architecture"
    M5 "1261, 1271" "a model has an install section and an ID"
    M6 "1199" "the build has what the INF uses"
    M7 "" "the build is 19041 or later: ExAllocatePool2"
    M8 "" "a port is matched by ACPI\\VEN_PNP&DEV_x and then ACPI\\PNPx, never by *PNPx"
    D1 "1296" "a model has an install section for .NT and its .Services"
    D2 "1211" "a device has exactly one service"
    D3 "1252, 1254, 2006, 2085" "a service has type 1, start, error control 1 and a binary in %13%"
    D4 "1251" "a service starts on demand (3)"
    D5 "1017, 1293" "a service has a name of its own: Parscan..., not localised"
    D6 "2084" "a service's binary is copied"
    D7 "1323" "a service's values lie below Parameters"
    D8 "" "what a directive sets is not set in the registry"
    R1 "1304, 1320, 1321" "the registry is reached by HKR only"
    R2 "" "a value that Windows knows is set in the key where Windows looks for it"
    R3 "1262 to 1268, 1305" "AddReg has known flags, a value that fits, and neither appends nor deletes"
    R4 "1431" "a value that Windows knows has its type"
    R5 "1329" "filters are not set in the registry"
    R6 "1226" "security is set by HKR,,Security in .HW"
    S1 "1275, 1322, 1340, 1341" "all files go to folder 13"
    S2 "1100 to 1103" "a file keeps its name and folder, and is copied without flags"
    S3 "1008, 1016, 1230, 1231, 1273" "all files that are copied have their source, and only they"
    S4 "1330" "no two files are copied to one place"
    I1 "1019, 1081" "AddInterface has a GUID and no flags"
    I2 "1202, 1220, 1310 to 1319" "Needs comes with Include and fits its section"
    X1 "1300 to 1303, 1421" "no section that a universal INF may not have"
    X2 "1300 to 1302, 1307 to 1309" "no directive that a universal INF may not have"
    X3 "1201, 1290" "no unknown directive, no repeated one, no argument too many"
    X4 "1274" "no $token$ of stampinf is left"
    P1 "" "every string is used"
    P2 "" "no section is empty"
    P3 "" "the device has a protected descriptor and FILE_DEVICE_SECURE_OPEN"
    P4 "" "a scanner has what the class installer demands, and is matched by vendor and product"
    P5 "" "the service knows its role: 1 for ports, 2 for still image"
    P6 "" "no hardware ID stands twice"
    P7 "" "the INFs of a folder share no service, catalog and hardware ID"
    P8 "" "the driver is built for what the INF names: ports amd64, still image amd64 and arm64"
    P9 "" "the event viewer finds the driver's messages in its image"
    P10 "" "a scanner's five values of selective suspend and wake-up are in its hardware key"
}

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Line, from 1; 0 for the whole file.
    line: usize,
    rule: Rule,
    message: String,
}

impl Finding {
    /// As printed: `file:line: id (InfVerif code): message`.
    pub(crate) fn shown(&self, file: &str) -> String {
        let Self {
            line,
            rule,
            message,
        } = self;
        let place = match line {
            0 => file.to_owned(),
            line => format!("{file}:{line}"),
        };
        match rule.codes() {
            "" => format!("{place}: {rule:?}: {message}"),
            codes => format!("{place}: {rule:?} (InfVerif {codes}): {message}"),
        }
    }
}

/// What kind of file is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// An INX, as `infverif /stampinf`: architecture, date, version and catalog come later.
    Template,
    /// An INF.
    Stamped,
}

impl Stage {
    /// By the ending of its name.
    fn of(path: &Path) -> Self {
        if path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("inx"))
        {
            Self::Template
        } else {
            Self::Stamped
        }
    }
}

/// What the rules look at, and what they found.
struct Check<'a> {
    inf: &'a Inf,
    map: &'a Map<'a>,
    stage: Stage,
    found: Vec<Finding>,
}

impl Check<'_> {
    /// Notes a broken rule.
    fn report(&mut self, rule: Rule, line: usize, message: impl Into<String>) {
        self.found.push(Finding {
            line,
            rule,
            message: message.into(),
        });
    }

    /// Notes a broken rule unless `right`.
    fn expect(&mut self, right: bool, rule: Rule, line: usize, message: impl FnOnce() -> String) {
        if !right {
            self.report(rule, line, message());
        }
    }

    /// The class in `[Version]`.
    fn class(&self) -> &str {
        self.inf
            .section("Version")
            .map_or("", |section| section.value("Class"))
    }
}

/// A checked file.
struct Checked {
    inf: Inf,
    found: Vec<Finding>,
}

/// Checks a file by itself: what is broken, by line.
fn check_file(data: &[u8], stage: Stage) -> Checked {
    let (text, mut found) = text::read(data, stage);
    let inf = Inf::parse(&text);
    {
        let map = Map::new(&inf);
        let mut check = Check {
            inf: &inf,
            map: &map,
            stage,
            found: Vec::new(),
        };
        text::check(&mut check);
        device::check(&mut check);
        install::check(&mut check);
        files::check(&mut check);
        registry::check(&mut check);
        project::check(&mut check);
        found.append(&mut check.found);
    }
    found.sort();
    found.dedup();
    Checked { inf, found }
}

/// `cargo xtask inf-check`: checks the files; without any, those of the package, as they are and
/// stamped.
pub(crate) fn run(workspace: &Workspace, files: &[PathBuf]) -> Result<()> {
    let mut all = Vec::new();
    if files.is_empty() {
        for name in INFS {
            let inx = read(&workspace.root.join(format!("inf/{name}.inx")))?;
            all.push((format!("{name}.inx"), Stage::Template, inx));
        }
        report(&all)?;
        for arch in Arch::ALL {
            all.clear();
            for name in infs(arch) {
                let path = workspace.root.join(format!("inf/{name}.inx"));
                let inf = stamp(&read(&path)?, name, arch, &Stamp::sample())
                    .with_context(|| format!("cannot stamp {}", path.display()))?;
                let shown = format!("{name}.inf, stamped for {}", arch.inf());
                all.push((shown, Stage::Stamped, inf));
            }
            report(&all)?;
        }
        return Ok(());
    }
    for path in files {
        all.push((path.display().to_string(), Stage::of(path), read(path)?));
    }
    report(&all)
}

/// Prints what the files break, alone and together. Fails if there is anything.
pub(crate) fn report(files: &[(String, Stage, Vec<u8>)]) -> Result<()> {
    let mut count = 0;
    let checked: Vec<(&str, Stage, Checked)> = files
        .iter()
        .map(|(name, stage, data)| (name.as_str(), *stage, check_file(data, *stage)))
        .collect();
    for (name, _, checked) in &checked {
        if checked.found.is_empty() {
            good("  ok  ", format!("{name}: {} rules", Rule::ALL.len()));
        }
        for finding in &checked.found {
            bad("  FAIL", finding.shown(name));
            count += 1;
        }
    }
    for stage in [Stage::Template, Stage::Stamped] {
        let group: Vec<(&str, &Inf)> = checked
            .iter()
            .filter(|(_, its, _)| *its == stage)
            .map(|(name, _, checked)| (*name, &checked.inf))
            .collect();
        for (name, finding) in project::check_together(&group) {
            bad("  FAIL", finding.shown(&name));
            count += 1;
        }
    }
    if count != 0 {
        bail!("{count} rule(s) broken (`cargo xtask inf-check --list` has them all)");
    }
    Ok(())
}

/// Prints the rules.
pub(crate) fn list() {
    for rule in Rule::ALL {
        let codes = match rule.codes() {
            "" => String::new(),
            codes => format!(" (InfVerif {codes})"),
        };
        say(format!("{rule:?}  {}{codes}", rule.what()));
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests;

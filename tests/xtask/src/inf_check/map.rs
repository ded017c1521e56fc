//! How the sections of an INF hang together: models, install sections, and what these name.

use super::parse::{Entry, Inf, Section, is_strings};

/// What a section is, by how it is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Models of a manufacturer.
    Models,
    /// `DDInstall`.
    Install,
    /// `DDInstall.HW`.
    Hardware,
    /// `DDInstall.Services`.
    Services,
    /// `DDInstall.Interfaces`.
    Interfaces,
    /// `DDInstall.Filters`.
    Filters,
    /// Any other section of `DDInstall`.
    Other,
    /// What an `AddService` names.
    Service,
    /// What an `AddService` names for the event log.
    EventLog,
    /// What an `AddInterface` names.
    Interface,
    /// What an `AddFilter` names.
    Filter,
    /// Files to copy.
    Files,
    /// Registry values, in the key of the place.
    Registry(Place),
    /// Anything else that is named.
    Data,
}

/// The key that HKR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The driver key, from `DDInstall`.
    Software,
    /// The device key, from `DDInstall.HW`.
    Hardware,
    /// The service's key.
    Service,
    /// The service's key in the event log.
    EventLog,
    /// The key of a device interface.
    Interface,
    /// The key of a filter's instance.
    Filter,
}

/// What `DDInstall` sections may be followed by.
const SUFFIXES: &[(&str, Kind)] = &[
    (".HW", Kind::Hardware),
    (".Services", Kind::Services),
    (".Interfaces", Kind::Interfaces),
    (".Filters", Kind::Filters),
    (".Components", Kind::Other),
    (".CoInstallers", Kind::Other),
    (".Events", Kind::Other),
    (".FactDef", Kind::Other),
    (".LogConfigOverride", Kind::Other),
    (".Software", Kind::Other),
    (".WMI", Kind::Other),
    (".Wdf", Kind::Other),
];

/// Sections that Windows looks for by name.
const ROOTS: &[&str] = &["Version", "Manufacturer", "DestinationDirs", "ControlFlags"];

/// A line of `[Manufacturer]` with one of its decorations.
pub(super) struct Target<'a> {
    pub(super) line: usize,
    /// `NTamd64.10.0...19041`; empty where there is none.
    pub(super) decoration: &'a str,
    /// The models section's full name.
    pub(super) section: String,
}

/// A line of a models section.
pub(super) struct Model<'a> {
    pub(super) entry: &'a Entry,
    /// The install section that it takes, if there is one for .NT.
    pub(super) install: Option<&'a Section>,
}

impl<'a> Model<'a> {
    /// The install section's name, undecorated.
    pub(super) fn install_name(&self) -> &'a str {
        self.entry.value(0)
    }

    /// Hardware ID and compatible IDs.
    pub(super) fn ids(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entry.values().skip(1)
    }
}

/// The map.
pub(super) struct Map<'a> {
    pub(super) targets: Vec<Target<'a>>,
    pub(super) models: Vec<Model<'a>>,
    /// All sections that are reached, once for each way.
    pub(super) sections: Vec<(Kind, &'a Section)>,
    /// Names of sections that are not there: name and line.
    pub(super) missing: Vec<(String, usize)>,
    /// Sections that nothing reaches: name and line.
    pub(super) unreached: Vec<(String, usize)>,
}

impl<'a> Map<'a> {
    pub(super) fn new(inf: &'a Inf) -> Self {
        let mut map = Self {
            targets: targets(inf),
            models: Vec::new(),
            sections: Vec::new(),
            missing: Vec::new(),
            unreached: Vec::new(),
        };
        for index in 0..map.targets.len() {
            // One that is not there breaks a rule of [Manufacturer].
            if let Some(section) = inf.section(&map.targets[index].section) {
                map.reach(inf, Kind::Models, section);
            }
        }
        for section in &inf.sections {
            let name = section.name.to_ascii_lowercase();
            let root = ROOTS.iter().any(|root| section.is(root))
                || is_strings(&name)
                || is_of(&name, "sourcedisksnames")
                || is_of(&name, "sourcedisksfiles");
            if !root && !map.reached(section) {
                map.unreached.push((section.name.clone(), section.line));
            }
        }
        map
    }

    /// Sections of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &'a Section> {
        self.sections
            .iter()
            .filter(move |(its, _)| *its == kind)
            .map(|(_, section)| *section)
    }

    /// Lines of `AddReg` sections with the key that they are for.
    pub(super) fn registry(&self) -> impl Iterator<Item = (Place, &'a Entry)> {
        self.sections.iter().flat_map(|(kind, section)| {
            let place = match kind {
                Kind::Registry(place) => Some(*place),
                _ => None,
            };
            place
                .into_iter()
                .flat_map(|place| section.entries.iter().map(move |entry| (place, entry)))
        })
    }

    /// Names of the files that are copied, with their lines.
    pub(super) fn copied(&self) -> Vec<(&'a str, &'a Entry)> {
        let mut files: Vec<(&str, &Entry)> = self
            .of(Kind::Files)
            .flat_map(|section| &section.entries)
            .map(|entry| (entry.value(0), entry))
            .collect();
        for entry in self.of(Kind::Install).flat_map(|section| &section.entries) {
            if entry.is("CopyFiles") {
                let direct = entry.values().filter_map(|name| name.strip_prefix('@'));
                files.extend(direct.map(|name| (name, entry)));
            }
        }
        files
    }

    fn reached(&self, section: &Section) -> bool {
        self.sections
            .iter()
            .any(|(_, known)| std::ptr::eq(*known, section))
    }

    /// Notes a section, and what it names.
    fn reach(&mut self, inf: &'a Inf, kind: Kind, section: &'a Section) {
        let known = |(its, known): &(Kind, &Section)| *its == kind && std::ptr::eq(*known, section);
        if self.sections.iter().any(known) {
            return;
        }
        self.sections.push((kind, section));
        for entry in &section.entries {
            if kind == Kind::Models {
                self.reach_install(inf, entry);
            }
            for (next, name) in named(kind, entry) {
                match inf.section(name) {
                    Some(section) => self.reach(inf, next, section),
                    None => self.missing.push((name.to_owned(), entry.line)),
                }
            }
        }
    }

    /// Notes a model, its install section and what belongs to that.
    fn reach_install(&mut self, inf: &'a Inf, entry: &'a Entry) {
        let name = entry.value(0);
        let install = [".NTamd64", ".NTarm64", ".NT"]
            .iter()
            .find_map(|decoration| inf.section(&format!("{name}{decoration}")));
        self.models.push(Model { entry, install });
        let Some(install) = install else {
            return;
        };
        self.reach(inf, Kind::Install, install);
        for (suffix, kind) in SUFFIXES {
            if let Some(section) = inf.section(&format!("{}{suffix}", install.name)) {
                self.reach(inf, *kind, section);
            }
        }
    }
}

/// Is the name, in lower case, the section's or that with an architecture?
pub(super) fn is_of(name: &str, section: &str) -> bool {
    name.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn targets(inf: &Inf) -> Vec<Target<'_>> {
    let mut targets = Vec::new();
    let lines = inf.section("Manufacturer");
    for entry in lines.iter().flat_map(|section| &section.entries) {
        let models = entry.value(0);
        let decorations: Vec<&str> = entry.values().skip(1).collect();
        if decorations.is_empty() {
            targets.push(Target {
                line: entry.line,
                decoration: "",
                section: models.to_owned(),
            });
        }
        for decoration in decorations {
            targets.push(Target {
                line: entry.line,
                decoration,
                section: format!("{models}.{decoration}"),
            });
        }
    }
    targets
}

/// The sections that a line names.
fn named(kind: Kind, entry: &Entry) -> Vec<(Kind, &str)> {
    let place = match kind {
        Kind::Install => Some(Place::Software),
        Kind::Hardware => Some(Place::Hardware),
        Kind::Service => Some(Place::Service),
        Kind::EventLog => Some(Place::EventLog),
        Kind::Interface => Some(Place::Interface),
        Kind::Filter => Some(Place::Filter),
        _ => None,
    };
    let all = |kind| entry.values().map(|name| (kind, name)).collect();
    let at =
        |index: usize, kind| Some((kind, entry.value(index))).filter(|(_, name)| !name.is_empty());
    if let Some(place) = place.filter(|_| entry.is("AddReg")) {
        return all(Kind::Registry(place));
    }
    let install = kind == Kind::Install;
    if install && entry.is("CopyFiles") {
        let mut named: Vec<(Kind, &str)> = all(Kind::Files);
        named.retain(|(_, name)| !name.starts_with('@'));
        return named;
    }
    let data = [
        "AddProperty",
        "AddTrigger",
        "AddComponent",
        "AddEventProvider",
    ];
    if data.iter().any(|directive| entry.is(directive)) && kind != Kind::Models {
        return at(entry.len().saturating_sub(1), Kind::Data)
            .into_iter()
            .collect();
    }
    let found = match kind {
        Kind::Install if entry.is("Events") || entry.is("DeviceData") => [at(0, Kind::Data), None],
        Kind::Services if entry.is("AddService") => [at(2, Kind::Service), at(3, Kind::EventLog)],
        Kind::Interfaces if entry.is("AddInterface") => [at(2, Kind::Interface), None],
        Kind::Filters if entry.is("AddFilter") => [at(2, Kind::Filter), None],
        _ => [None, None],
    };
    found.into_iter().flatten().collect()
}

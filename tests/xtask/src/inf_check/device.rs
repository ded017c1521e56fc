//! Rules about manufacturers, models and hardware IDs: M.

use super::{
    Check, Rule,
    map::{Model, Target},
};

/// The first build that allows a build number in a decoration.
const DECORATED: u32 = 14310;

/// The first build whose drivers run from the driver store, folder 13: Windows 10 1709.
const DRIVER_STORE: u32 = 16299;

/// The first build with `ExAllocatePool2`: Windows 10 2004.
const POOL2: u32 = 19041;

/// The rules.
pub(super) fn check(check: &mut Check<'_>) {
    let map = check.map;
    if map.targets.is_empty() {
        check.report(Rule::M1, 0, "[Manufacturer] names no models");
    }
    for (index, target) in map.targets.iter().enumerate() {
        let there = check.inf.section(&target.section).is_some();
        check.expect(there, Rule::M1, target.line, || {
            format!("there is no section [{}]", target.section)
        });
        let earlier = map.targets.iter().take(index);
        let twice = earlier.into_iter().any(|other| {
            other.line != target.line && base(other).eq_ignore_ascii_case(base(target))
        });
        check.expect(!twice, Rule::M1, target.line, || {
            format!("decorations of {} go on one line", base(target))
        });
        check_decoration(check, target);
    }
    for model in &map.models {
        let ids = model.ids().filter(|id| !id.is_empty()).count();
        let whole = !model.install_name().is_empty() && ids != 0 && ids + 1 == model.entry.len();
        check.expect(whole, Rule::M5, model.entry.line, || {
            "a model without an install section or an ID".to_owned()
        });
    }
    if check.class().eq_ignore_ascii_case("Ports") {
        check_ports(check, &map.models);
    }
}

/// The models section's name without its decoration.
fn base<'a>(target: &'a Target<'_>) -> &'a str {
    target
        .section
        .strip_suffix(target.decoration)
        .unwrap_or(&target.section)
}

/// `NT[arch][.[major][.[minor][.[product][.[suite][.[build]]]]]]`.
fn check_decoration(check: &mut Check<'_>, target: &Target<'_>) {
    let line = target.line;
    let decoration = target.decoration;
    let mut parts = decoration.split('.');
    let system = parts.next().unwrap_or_default().to_ascii_lowercase();
    let architecture = system.strip_prefix("nt").unwrap_or_default();
    check.expect(!architecture.is_empty(), Rule::M4, line, || {
        format!(
            "[{}] names no architecture, which means x86",
            target.section
        )
    });
    let mut part = || parts.next().unwrap_or_default();
    let (major, minor, product, suite, build) = (part(), part(), part(), part(), part());
    let number = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
    let known = decoration.is_empty()
        || (system.starts_with("nt")
            && ["", "x86", "ia64", "amd64", "arm", "arm64"].contains(&architecture)
            && number(major)
            && number(minor)
            && parts.next().is_none());
    let floor = build.parse::<u32>().ok();
    let exact = (major, minor) == ("10", "0");
    let later = build.is_empty() || floor.is_some_and(|floor| floor >= DECORATED && exact);
    check.expect(known && later, Rule::M2, line, || {
        format!("{decoration} is no decoration: NT, architecture, 10.0...build")
    });
    check.expect(
        product.is_empty() && suite.is_empty(),
        Rule::M3,
        line,
        || format!("{decoration} has a product type or a suite"),
    );
    let floor = floor.filter(|_| exact).unwrap_or(0);
    let store = check.inf.sections.iter().any(|section| {
        section.is("DestinationDirs") && section.entries.iter().any(|entry| entry.value(0) == "13")
    });
    check.expect(!store || floor >= DRIVER_STORE, Rule::M6, line, || {
        format!("folder 13 needs build {DRIVER_STORE}, {decoration} has {floor}")
    });
    check.expect(floor >= POOL2, Rule::M7, line, || {
        format!("the driver needs build {POOL2}, {decoration} has {floor}")
    });
}

/// Both forms of an ACPI ID, the one that Windows lists first before the other.
fn check_ports(check: &mut Check<'_>, models: &[Model<'_>]) {
    let mut ids = models
        .iter()
        .flat_map(|model| model.ids().map(move |id| (model.entry.line, id)))
        .map(|(line, id)| (line, id.to_ascii_uppercase()));
    let ids: Vec<(usize, String)> = ids.by_ref().collect();
    for (index, (line, id)) in ids.iter().enumerate() {
        let (earlier, later) = ids.split_at(index);
        let stands = |ids: &[(usize, String)], wanted: &str| ids.iter().any(|(_, id)| id == wanted);
        if id.starts_with('*') {
            check.report(
                Rule::M8,
                *line,
                format!("{id}: the in-box driver's own form"),
            );
        } else if let Some(number) = id.strip_prefix(r"ACPI\VEN_PNP&DEV_") {
            let short = format!(r"ACPI\PNP{number}");
            check.expect(stands(later, &short), Rule::M8, *line, || {
                format!("{id} without {short} after it")
            });
        } else if let Some(number) = id.strip_prefix(r"ACPI\PNP") {
            let long = format!(r"ACPI\VEN_PNP&DEV_{number}");
            check.expect(stands(earlier, &long), Rule::M8, *line, || {
                format!("{id} without {long} before it")
            });
        }
    }
}

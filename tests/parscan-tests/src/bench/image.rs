//! How large the image is, by module.

use std::{collections::BTreeMap, fs, path::Path};

use super::sheet::{Column, Row, Table, held, told};

const HELD: &[Column] = &[held("bytes")];
const TOLD: &[Column] = &[told("bytes")];

/// The modules of the crate, as `src/lib.rs` names them.
const MODULES: [&str; 7] = [
    "kernel", "ioctl", "ieee1284", "usb", "sharing", "parallel", "usbscan",
];

/// The sizes.
///
/// # Panics
/// If there is no image.
#[allow(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
pub(crate) fn sizes(image: &Path) -> [Table; 2] {
    let size = fs::metadata(image).expect("the image").len();
    let text = fs::read_to_string(image.with_extension("map")).unwrap_or_default();
    let mut code = 0;
    let mut places: Vec<(u64, &str)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            [_, length, ".text", "CODE"] => {
                let hex = length.trim_end_matches('H');
                code = u64::from_str_radix(hex, 16).unwrap_or(0);
            }
            [place, name, ..] if place.starts_with("0001:") => {
                let at = u64::from_str_radix(&place[5..], 16);
                places.extend(at.ok().map(|at| (at, name)));
            }
            _ => {}
        }
    }
    places.sort_unstable();
    places.dedup_by_key(|(at, _)| *at);
    let ends = places.iter().skip(1).map(|(at, _)| *at).chain([code]);
    let mut modules: BTreeMap<&str, u64> = BTreeMap::new();
    for ((at, name), end) in places.iter().zip(ends) {
        *modules.entry(module(name)).or_default() += end.saturating_sub(*at);
    }
    let row = |name: &str, bytes: u64| Row {
        name: name.to_owned(),
        cells: vec![Some(bytes as f64)],
    };
    [
        Table {
            title: "The image",
            about: "Bytes of parscan.sys, and of its code.",
            columns: HELD,
            rows: vec![row("parscan.sys", size), row(".text", code)],
        },
        Table {
            title: "Code by module",
            about: "Bytes of functions, by the module that they are of; what is generic is in the \
                    module that wrote it.",
            columns: TOLD,
            rows: modules
                .into_iter()
                .map(|(name, bytes)| row(name, bytes))
                .collect(),
        },
    ]
}

/// The module of a mangled name: the first that it names.
fn module(name: &str) -> &'static str {
    MODULES
        .into_iter()
        .filter_map(|module| {
            let path = name.find(&format!("parscan{}{module}", module.len()));
            let other = name.find(&format!("parscan..{module}.."));
            let at = match (path, other) {
                (Some(path), Some(other)) => path.min(other),
                (path, other) => path.or(other)?,
            };
            Some((at, module))
        })
        .min()
        .map_or("others, and the compiler's", |(_, module)| module)
}

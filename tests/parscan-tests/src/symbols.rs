//! Names for places in the driver, from the map that the linker leaves beside the image.

use std::{fmt::Write as _, fs, path::Path};

/// The functions of an image, by their offset.
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Those of the map beside `image`; none if there is no map.
    #[must_use]
    pub fn beside(image: &Path) -> Self {
        let text = fs::read_to_string(image.with_extension("map")).unwrap_or_default();
        let base = text
            .lines()
            .find_map(|line| line.split("load address is ").nth(1))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let mut symbols: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let place = words.next()?;
                let name = words.next()?;
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                (place.len() == 13 && place.as_bytes()[4] == b':')
                    .then(|| (address.wrapping_sub(base), readable(name)))
            })
            .collect();
        symbols.sort();
        Self(symbols)
    }

    /// The function around an offset.
    #[must_use]
    pub fn name(&self, offset: u64) -> Option<String> {
        let after = self.0.partition_point(|(start, _)| *start <= offset);
        let (start, name) = self.0.get(after.checked_sub(1)?)?;
        Some(format!("{name}+{:#x}", offset - start))
    }

    /// A text with names behind the places of this driver in it, which are `driver+0xoffset`.
    #[must_use]
    pub fn explain(&self, text: &str, driver: &str) -> String {
        let mark = format!("{driver}+0x");
        let mut parts = text.split(&mark);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part
                .find(|c: char| !c.is_ascii_hexdigit())
                .unwrap_or(part.len());
            let name = u64::from_str_radix(&part[..end], 16)
                .ok()
                .and_then(|offset| self.name(offset));
            out.push_str(&mark);
            out.push_str(&part[..end]);
            if let Some(name) = name {
                let _ = write!(out, " ({name})");
            }
            out.push_str(&part[end..]);
        }
        out
    }
}

/// The identifiers of a mangled Rust name, which are there with their lengths.
fn readable(name: &str) -> String {
    if !name.starts_with("_R") && !name.starts_with("_ZN") {
        return name.to_owned();
    }
    let mut words: Vec<&str> = Vec::new();
    let mut at = 0;
    let bytes = name.as_bytes();
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let digits = name[at..]
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(name.len() - at);
        let length: usize = name[at..at + digits].parse().unwrap_or(0);
        let mut start = at + digits;
        // Of the new mangling: a separator before names that begin with a digit or an underscore.
        if name.starts_with("_R") && bytes.get(start) == Some(&b'_') {
            start += 1;
        }
        match name.get(start..start + length) {
            Some(word) if length > 1 => {
                words.push(word);
                at = start + length;
            }
            _ => at += digits,
        }
    }
    words.retain(|word| {
        let hash = word.len() == 17 && word.starts_with('h');
        !hash && !matches!(*word, "parscan" | "core" | "kernel")
    });
    let tail = words.len().saturating_sub(4);
    words[tail..].join("::")
}

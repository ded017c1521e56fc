use std::fmt;

use crate::IeeeModes;

/// Short forms and groups, beside the names of ntddpar.h.
const ALIASES: &[(&str, IeeeModes)] = &[
    ("compat", IeeeModes::IEEE_COMPATIBILITY),
    ("byte", IeeeModes::BYTE_BIDIR),
    ("epp", IeeeModes::EPP_ANY),
    ("ecp", IeeeModes::ECP_ANY),
    ("any", IeeeModes::all()),
];

/// A name that is no mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeError(String);

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no mode. The modes are ", self.0)?;
        for (name, _) in IeeeModes::all().iter_names() {
            write!(f, "{}, ", spelled(name))?;
        }
        let aliases: Vec<&str> = ALIASES.iter().map(|(name, _)| *name).collect();
        write!(f, "and for short {}", aliases.join(", "))
    }
}

impl std::error::Error for ModeError {}

/// `BYTE_BIDIR` as `byte-bidir`.
fn spelled(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Parses modes, separated by commas: the names of ntddpar.h in any case, with `-` or `_`, the
/// short forms `compat`, `byte`, `epp`, `ecp` and `any`, or a mask in hexadecimal (`0x0124`).
///
/// # Errors
/// The first name that is no mode.
pub fn parse_modes(text: &str) -> Result<IeeeModes, ModeError> {
    let mut modes = IeeeModes::empty();
    for part in text.split(',') {
        let name = spelled(part.trim());
        let mask = name
            .strip_prefix("0x")
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        modes |= IeeeModes::all()
            .iter_names()
            .find(|(known, _)| spelled(known) == name)
            .map(|(_, mode)| mode)
            .or_else(|| {
                ALIASES
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, mode)| *mode)
            })
            .or(mask.map(IeeeModes::from_bits_retain))
            .ok_or_else(|| ModeError(part.trim().to_owned()))?;
    }
    Ok(modes)
}

/// The names of the modes in a mask, as [`parse_modes`] takes them. Bits without a name come last,
/// in hexadecimal.
#[must_use]
pub fn mode_names(modes: IeeeModes) -> Vec<String> {
    let mut names: Vec<String> = modes.iter_names().map(|(name, _)| spelled(name)).collect();
    let rest = modes.difference(IeeeModes::all());
    if !rest.is_empty() {
        names.push(format!("0x{:04x}", rest.bits()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_masks_and_groups() {
        for (text, bits) in [
            ("centronics", 0x0001),
            ("compat", 0x0002),
            ("NIBBLE", 0x0004),
            ("byte", 0x0010),
            ("BYTE_BIDIR, epp-hw", 0x0030),
            ("epp", 0x0060),
            ("ecp", 0x0780),
            ("0x0124", 0x0124),
            ("any", 0x07FF),
        ] {
            assert_eq!(
                parse_modes(text).map(|modes| modes.bits()),
                Ok(bits),
                "{text}"
            );
        }
        for text in ["", "nibble,", "0x", "0x12345", "spp"] {
            assert!(parse_modes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        for bits in 0..=u16::MAX {
            let names = mode_names(IeeeModes::from_bits_retain(bits)).join(",");
            if bits == 0 {
                assert_eq!(names, "");
            } else {
                assert_eq!(parse_modes(&names).map(|modes| modes.bits()), Ok(bits));
            }
        }
    }
}

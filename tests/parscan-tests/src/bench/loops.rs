//! The instructions that a byte takes, as the image has them.
//!
//! They are those that ran for each byte of a long transfer, found by counting and not by reading:
//! whatever the compiler made of the source, this is what the processor does.

use std::{fmt::Write as _, fs, path::Path};

use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};
use ntsim::Counts;

/// The transfers whose loops are shown, and how often an instruction ran for a byte, at least: EPP
/// moves blocks, with one repeated instruction each.
pub(crate) const SHOWN: [(&str, f64); 3] = [
    ("Centronics, write", 0.5),
    ("EPP, write", 0.02),
    ("EPP, read", 0.02),
];

/// The code of an image.
pub(crate) struct Code {
    /// Where it is in the image, and its bytes.
    text: (u32, Vec<u8>),
}

impl Code {
    /// # Panics
    /// If the file is no image.
    pub(crate) fn of(image: &Path) -> Self {
        let file = fs::read(image).expect("the image");
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let header = word(0x3C) as usize;
        // The section headers follow the optional header, whose size is told; .text is the first.
        let optional = usize::from(u16::from_le_bytes([file[header + 20], file[header + 21]]));
        let section = header + 24 + optional;
        assert_eq!(&file[section..section + 6], b".text\0", "the first section");
        let (size, start, from) = (word(section + 8), word(section + 12), word(section + 20));
        let bytes = file[from as usize..][..size as usize].to_vec();
        Self {
            text: (start, bytes),
        }
    }

    /// The instruction at an offset of the image.
    fn instruction(&self, place: u32) -> String {
        let (start, bytes) = &self.text;
        let at = place
            .checked_sub(*start)
            .and_then(|at| bytes.get(at as usize..));
        let mut decoder = Decoder::with_ip(
            64,
            at.unwrap_or_default(),
            u64::from(place),
            DecoderOptions::NONE,
        );
        let instruction = decoder.decode();
        let mut text = String::new();
        if instruction.near_branch_target() == 0 {
            IntelFormatter::new().format(&instruction, &mut text);
        } else {
            // Where to is another build's business.
            let _ = write!(text, "{:?}", instruction.mnemonic());
            text.make_ascii_lowercase();
            let back = instruction.near_branch_target() < u64::from(place);
            text.push_str(if back { " back" } else { " on" });
        }
        text
    }

    /// What ran `bytes` times more often in the longer of two transfers.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn shown(
        &self,
        (name, often): (&str, f64),
        [some, more]: [&Counts; 2],
        bytes: f64,
    ) -> String {
        let count = |counts: &Counts, place: u32| {
            let found = counts.places.iter().find(|(its, _)| *its == place);
            found.map_or(0, |(_, count)| *count) as f64
        };
        let mut text = format!("\n## {name}\n\n");
        for (place, _) in &more.places {
            let each = (count(more, *place) - count(some, *place)) / bytes;
            if each >= often {
                let _ = writeln!(text, "{each:>6.2}  {}", self.instruction(*place));
            }
        }
        text
    }
}

//! Reports as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What a command has found out.
pub(crate) trait Report {
    /// For people; whole lines.
    fn text(&self) -> String;
    /// For programs: one object, on one line.
    fn json(&self) -> String;
}

/// One line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    // None of the reports has a map whose keys are not text, the only thing that can fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Implements [`Report`] for a type that can be serialised and has a method `lines`.
macro_rules! report {
    ($type:ty) => {
        impl $crate::render::Report for $type {
            fn text(&self) -> String {
                self.lines()
            }

            fn json(&self) -> String {
                $crate::render::json_line(self)
            }
        }
    };
}
pub(crate) use report;

/// Rows in columns as wide as their longest cell, with two blanks between.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes in hexadecimal, `01 a2`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Bytes as text, with everything that is not printable ASCII as `\xNN`. Devices choose them, and a
/// terminal must not obey them.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
}

/// `1 byte`, `2 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    if count == 1 {
        "1 byte".to_owned()
    } else {
        format!("{count} bytes")
    }
}

/// Modes, or a dash.
pub(crate) fn or_dash(names: &[String]) -> String {
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_their_end() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["a", "b"]), row(["long", ""]), row(["ü", "x"])]),
            "a     b\nlong\nü     x\n"
        );
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn a_device_cannot_move_the_cursor() {
        assert_eq!(printable(b"MFG:A\x1b[2J\xff;"), "MFG:A\\x1b[2J\\xff;");
    }
}

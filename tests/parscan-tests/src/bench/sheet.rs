//! The cost sheet: tables of exact counts, as a file in the repository.
//!
//! `tests/parscan-tests/costs.txt` has what was measured last. A measurement is compared with it row by row;
//! one that is more than a hundredth worse in any column that is held is named.

use std::{fmt::Write as _, fs, path::PathBuf};

/// How much worse a count may be than in the file, as a factor.
const TOLERANCE: f64 = 1.01;

/// All tables.
#[derive(Default)]
pub(crate) struct Sheet {
    pub(crate) tables: Vec<Table>,
    /// The instructions of some loops, a file of its own.
    pub(crate) loops: String,
}

/// What is measured in a column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The smaller, the better, and it must not become worse.
    pub(crate) held: bool,
}

/// A column that must not become worse.
pub(crate) const fn held(name: &'static str) -> Column {
    Column { name, held: true }
}

/// A column that tells something.
pub(crate) const fn told(name: &'static str) -> Column {
    Column { name, held: false }
}

/// A table: a topic.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// What is counted, in lines of the file.
    pub(crate) about: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
}

/// What was measured for one thing.
pub(crate) struct Row {
    pub(crate) name: String,
    /// One for each column; `None` where there is nothing to say.
    pub(crate) cells: Vec<Option<f64>>,
}

/// A cell as the file has it.
fn cell(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.fract().abs() < 1e-9 => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
    }
}

impl Sheet {
    /// Where the file is.
    pub(crate) fn path() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/costs.txt"))
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "# What parscan costs: written by `cargo xtask bench`, held by the test `costs`.\n\
             #\n\
             # Exact counts of the shipping image on the simulated machine, the same on every host.\n\
             # Columns with a * must not become worse than here by more than 1 %.\n",
        );
        for table in &self.tables {
            let _ = write!(text, "\n## {}\n\n{}\n\n", table.title, table.about);
            let names: Vec<String> = table
                .columns
                .iter()
                .map(|column| format!("{}{}", column.name, if column.held { "*" } else { "" }))
                .collect();
            let first = table.rows.iter().map(|row| row.name.len()).max();
            let first = first.unwrap_or(0).max(3);
            let mut line = format!("{:<first$}", "row");
            for name in &names {
                let _ = write!(line, "  {name:>9}");
            }
            let _ = writeln!(text, "{}", line.trim_end());
            for row in &table.rows {
                let mut line = format!("{:<first$}", row.name);
                for (value, name) in row.cells.iter().zip(&names) {
                    let width = name.len().max(9);
                    let _ = write!(line, "  {:>width$}", cell(*value));
                }
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text
    }

    /// Every value as a line of JSON: topic, row, unit, value.
    pub(crate) fn print_lines(
        &self,
        line: impl Fn(&str, &str, &str, f64, Option<f64>, Option<f64>),
    ) {
        for table in &self.tables {
            for row in &table.rows {
                for (column, value) in table.columns.iter().zip(&row.cells) {
                    if let Some(value) = value {
                        line(table.title, &row.name, column.name, *value, None, None);
                    }
                }
            }
        }
    }

    /// Where the instructions of the loops are.
    pub(crate) fn loops_path() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/loops.txt"))
    }

    /// The instructions of the loops, as text.
    pub(crate) fn loops_text(&self) -> String {
        format!(
            "# What the processor does for a byte: written by `cargo xtask bench`, held by the test \
             `costs`.\n\
             #\n\
             # The instructions of the shipping image that ran for each byte of a long transfer, or \
             for each block of\n\
             # EPP, in the order of their addresses, and how often for a byte; those that run once \
             for many more bytes\n\
             # are left out. The accesses are `in`, `out`, and `rep ins` and `rep outs`, which count \
             once for a block.\n{}",
            self.loops
        )
    }

    /// Writes the files.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        fs::write(Self::loops_path(), self.loops_text())?;
        fs::write(Self::path(), self.text())
    }

    /// What is worse than in the text of a file, or is not in it, a line each.
    pub(crate) fn worse_than(&self, file: &str) -> Vec<String> {
        let known = parse(file);
        let mut worse = Vec::new();
        for table in &self.tables {
            for row in &table.rows {
                for (column, value) in table.columns.iter().zip(&row.cells) {
                    let (Some(value), true) = (value, column.held) else {
                        continue;
                    };
                    let what = format!("{}: {}: {}", table.title, row.name, column.name);
                    let before = known
                        .iter()
                        .find(|it| {
                            it.table == table.title
                                && it.row == row.name
                                && it.column == column.name
                        })
                        .map(|it| it.value);
                    let now = cell(Some(*value));
                    match before {
                        None => worse.push(format!("{what}: {now}, and no value in the file")),
                        Some(before) if *value > before * TOLERANCE + 1e-3 => {
                            let before = cell(Some(before));
                            worse.push(format!("{what}: {now}, was {before}"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        worse
    }
}

/// A value in a file.
struct Known<'a> {
    table: &'a str,
    row: &'a str,
    column: &'a str,
    value: f64,
}

/// The parts of a line, which are two or more spaces apart.
fn parts(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect()
}

fn parse(file: &str) -> Vec<Known<'_>> {
    let mut all = Vec::new();
    let mut table = "";
    let mut columns: Vec<&str> = Vec::new();
    for line in file.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            table = title;
            columns.clear();
            continue;
        }
        let parts = parts(line);
        let Some((row, cells)) = parts.split_first() else {
            continue;
        };
        if *row == "row" {
            columns = cells.iter().map(|it| it.trim_end_matches('*')).collect();
            continue;
        }
        for (column, cell) in columns.iter().copied().zip(cells) {
            if let Ok(value) = cell.parse() {
                all.push(Known {
                    table,
                    row,
                    column,
                    value,
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(value: f64) -> Sheet {
        Sheet {
            tables: vec![Table {
                title: "Requests",
                about: "Of all kinds.",
                columns: const { &[held("instructions"), told("ratio")] },
                rows: vec![Row {
                    name: "GET_MODE, at once".into(),
                    cells: vec![Some(value), Some(value / 3.0)],
                }],
            }],
            loops: String::new(),
        }
    }

    #[test]
    fn what_is_worse_is_named() {
        let file = sheet(200.0).text();
        assert_eq!(sheet(200.0).worse_than(&file), [""; 0]);
        assert_eq!(sheet(202.0).worse_than(&file), [""; 0]);
        assert_eq!(sheet(100.0).worse_than(&file), [""; 0]);
        assert_eq!(
            sheet(203.0).worse_than(&file),
            ["Requests: GET_MODE, at once: instructions: 203, was 200"]
        );
    }

    #[test]
    fn what_is_new_is_named() {
        assert_eq!(
            sheet(5.0).worse_than("## Other\n\nrow  instructions*\nGET_MODE, at once  5\n"),
            ["Requests: GET_MODE, at once: instructions: 5, and no value in the file"]
        );
    }
}

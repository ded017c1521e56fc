//! The SVG picture.

use std::fmt::Write as _;

use super::{
    Signal,
    diagram::{Stretch, exact_time, label, lay_out, stretches},
};
use crate::{LineTrace, Nanos, Side};

/// The width of a column, in pixels like all sizes here.
const COLUMN: usize = 7;
/// How many columns a picture has, unless there are too many changes.
const COLUMNS: usize = 130;
/// The most columns of a stretch that is cut.
const CUT_COLUMNS: usize = 20;
/// The width of an edge.
const EDGE: usize = 4;
/// Half the gap of a cut.
const CUT: usize = 3;
/// The distance between two rows.
const ROW: usize = 32;
/// The height of a signal.
const SWING: usize = 18;
/// The height of a line of marks.
const MARK_ROW: usize = 15;
/// The width of a character of the small text, about.
const SMALL: usize = 7;
/// The width of a character of a signal's name, about.
const NAME: usize = 8;
/// The room around it all.
const BORDER: usize = 12;

/// Colours that can be read on white and on black, with better ones where the reader's choice is
/// known.
const STYLE: &str = "\
.wf text{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:11px;fill:#6e7781}
.wf .title{font-size:14px;font-weight:bold}
.wf .name{font-size:12px}
.wf path{fill:none;stroke:#6e7781;stroke-width:1.5;stroke-linejoin:round}
.wf .host{stroke:#3b7dd8}
.wf .peripheral{stroke:#c0672b}
.wf text.host{fill:#3b7dd8;stroke:none}
.wf text.peripheral{fill:#c0672b;stroke:none}
.wf path.grid{stroke-width:1;stroke-opacity:.35;stroke-dasharray:2 3}
.wf path.mark{stroke-width:1;stroke-opacity:.8}
.wf path.axis{stroke-width:1}
@media(prefers-color-scheme:dark){.wf text{fill:#9aa4ae}.wf .host{stroke:#6aa6f0}\
.wf text.host{fill:#6aa6f0}.wf .peripheral{stroke:#e0935c}.wf text.peripheral{fill:#e0935c}}
";

/// A timing diagram of `signals` between `from` and `to` as an SVG document, for a page in light or
/// dark colours: the host's lines in one colour, the peripheral's in another, the names on the
/// left, the times of changes below, counted from `from`.
///
/// Every change gets its place, even when that stretches the time between two near changes; changes
/// at the same time stand side by side in their order. Long stretches without a change are cut, with
/// a gap between two strokes. Each of `marks`, in any order, is a label above a line at its time;
/// those outside the picture are left out.
#[must_use]
pub fn svg(
    trace: &LineTrace,
    signals: &[Signal],
    from: Nanos,
    to: Nanos,
    marks: &[(Nanos, &str)],
    title: &str,
) -> String {
    let mut stretches = stretches(trace, signals, from, to);
    lay_out(&mut stretches, COLUMNS);
    for stretch in stretches.iter_mut().filter(|stretch| stretch.drawn.cut) {
        stretch.drawn.width = stretch.drawn.width.min(CUT_COLUMNS);
    }
    let names = signals.iter().map(|signal| signal.name().len());
    let left = BORDER + (names.max().unwrap_or(0) + 2) * NAME;
    let picture = Picture::new(&stretches, left);
    let marks = place_marks(&picture, marks, from, to);
    let mark_rows = marks.iter().map(|mark| mark.row + 1).max().unwrap_or(0);
    let first_row = BORDER + 24 + mark_rows * MARK_ROW + 8;
    let axis = first_row + signals.len() * ROW + 2;
    let height = axis + 24 + BORDER;
    let mark_end = marks.iter().map(Mark::end).max();
    let title_end = BORDER + title.chars().count() * 9;
    let end = picture.end() + 10 * SMALL;
    let width = end.max(title_end).max(mark_end.unwrap_or(0)) + BORDER;

    let mut out = String::new();
    let title = escape(title);
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"wf\" role=\"img\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n\
         <text class=\"title\" x=\"{BORDER}\" y=\"{}\">{title}</text>",
        BORDER + 12
    );
    for mark in &marks {
        let y = BORDER + 24 + mark.row * MARK_ROW;
        let _ = writeln!(
            out,
            "<path class=\"mark\" d=\"M{x} {}V{axis}\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            y,
            mark.x + SMALL / 2,
            y + 10,
            escape(mark.label),
            x = mark.x,
        );
    }
    draw_axis(&mut out, &picture, from, first_row, axis);
    for (index, signal) in signals.iter().enumerate() {
        let top = first_row + index * ROW + (ROW - SWING) / 2;
        let class = match signal {
            Signal::Line(line) if line.side() == Side::Peripheral => "peripheral",
            Signal::Data | Signal::Line(_) => "host",
        };
        let _ = writeln!(
            out,
            "<text class=\"name {class}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            left - NAME,
            top + SWING / 2 + 4,
            signal.name()
        );
        match signal {
            Signal::Data => draw_bus(&mut out, &picture, *signal, top),
            Signal::Line(_) => draw_line(&mut out, &picture, *signal, top, class),
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The stretches with their places.
struct Picture<'a> {
    /// Each with its first column's x.
    stretches: Vec<(&'a Stretch, usize)>,
}

impl<'a> Picture<'a> {
    fn new(stretches: &'a [Stretch], left: usize) -> Self {
        let mut x = left;
        let place = |stretch: &'a Stretch| {
            let start = x;
            x += stretch.drawn.width * COLUMN;
            (stretch, start)
        };
        Self {
            stretches: stretches.iter().map(place).collect(),
        }
    }

    fn end(&self) -> usize {
        let last = self.stretches.last();
        last.map_or(0, |(stretch, x)| x + stretch.drawn.width * COLUMN)
    }

    /// Where a time is: the first place of those that have it.
    fn x(&self, time: Nanos) -> usize {
        let after = self.stretches.partition_point(|(s, _)| s.start < time);
        match self.stretches.get(after) {
            Some((stretch, x)) if stretch.start == time => return *x,
            _ => {}
        }
        let Some((stretch, x)) = self.stretches[..after].last() else {
            return self.stretches.first().map_or(0, |(_, x)| *x);
        };
        let width = stretch.drawn.width * COLUMN;
        let part =
            u128::from(time - stretch.start) * width as u128 / u128::from(stretch.duration.max(1));
        x + usize::try_from(part).unwrap_or(width).min(width)
    }
}

/// A label and where it stands.
struct Mark<'a> {
    x: usize,
    row: usize,
    label: &'a str,
}

impl Mark<'_> {
    /// Where its text ends, with some room.
    fn end(&self) -> usize {
        self.x + (self.label.chars().count() + 1) * SMALL
    }
}

/// Gives the marks rows, from the top down, so that neither a label nor the line of one crosses
/// another label.
fn place_marks<'a>(
    picture: &Picture<'_>,
    marks: &[(Nanos, &'a str)],
    from: Nanos,
    to: Nanos,
) -> Vec<Mark<'a>> {
    let mut inside: Vec<_> = marks
        .iter()
        .filter(|(time, _)| (from..=to).contains(time))
        .collect();
    inside.sort_by_key(|(time, _)| *time);
    // For every row where its last label ends.
    let mut ends: Vec<usize> = Vec::new();
    let place = |(time, label): &(Nanos, &'a str)| {
        let x = picture.x(*time);
        // Below the last label that reaches this place.
        let row = ends
            .iter()
            .rposition(|end| *end > x)
            .map_or(0, |row| row + 1);
        let mark = Mark { x, row, label };
        ends.truncate(row);
        ends.push(mark.end());
        mark
    };
    inside.into_iter().map(place).collect()
}

/// The time axis with a tick and a grid line at every change, and the times that fit.
fn draw_axis(out: &mut String, picture: &Picture<'_>, from: Nanos, top: usize, axis: usize) {
    let mut grid = String::new();
    let mut ticks = String::new();
    let mut line = String::new();
    let mut free = 0;
    let mut labelled = None;
    for (stretch, x) in &picture.stretches {
        let _ = write!(grid, "M{x} {top}V{axis}");
        let _ = write!(ticks, "M{x} {axis}v4");
        dash(&mut line, stretch, *x, *x, axis, true);
        if *x >= free {
            let time = stretch.start - from;
            let text = if labelled.is_none() {
                exact_time(from)
            } else {
                label(time, labelled)
            };
            labelled = Some(time);
            let _ = writeln!(
                out,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"start\">{text}</text>",
                axis + 16
            );
            free = x + (text.chars().count() + 1) * SMALL;
        }
    }
    let _ = writeln!(
        out,
        "<path class=\"grid\" d=\"{grid}\"/><path class=\"axis\" d=\"{ticks}{line}\"/>"
    );
}

/// A level from `start` to the end of a stretch that begins at `x`, with a gap if the stretch is
/// cut.
fn dash(path: &mut String, stretch: &Stretch, x: usize, start: usize, y: usize, strokes: bool) {
    let width = stretch.drawn.width * COLUMN;
    let end = x + width;
    let _ = write!(path, "M{start} {y}");
    if stretch.drawn.cut {
        let middle = x + width / 2;
        let (before, after) = (middle - CUT, middle + CUT);
        let _ = write!(path, "H{before}");
        if strokes {
            for place in [before, after] {
                let _ = write!(path, "M{} {}L{} {}", place - 2, y + 5, place + 2, y - 5);
            }
        }
        let _ = write!(path, "M{after} {y}");
    }
    let _ = write!(path, "H{end}");
}

fn draw_line(out: &mut String, picture: &Picture<'_>, signal: Signal, top: usize, class: &str) {
    let y = |high: bool| if high { top } else { top + SWING };
    let mut path = String::new();
    let mut last = None;
    for (stretch, x) in &picture.stretches {
        let high = signal.value(stretch.levels) != 0;
        let mut start = *x;
        if last.is_some_and(|last| last != high) {
            start += EDGE;
            let _ = write!(path, "M{x} {}L{start} {}", y(!high), y(high));
        }
        dash(&mut path, stretch, *x, start, y(high), true);
        last = Some(high);
    }
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
}

fn draw_bus(out: &mut String, picture: &Picture<'_>, signal: Signal, top: usize) {
    let bottom = top + SWING;
    let mut path = String::new();
    let mut texts = String::new();
    let mut last = None;
    for (index, (stretch, x)) in picture.stretches.iter().enumerate() {
        let value = signal.value(stretch.levels);
        let changed = last.is_some_and(|last| last != value);
        let mut start = *x;
        if changed {
            start += EDGE;
            let _ = write!(
                path,
                "M{x} {top}L{start} {bottom}M{x} {bottom}L{start} {top}"
            );
        }
        dash(&mut path, stretch, *x, start, top, true);
        dash(&mut path, stretch, *x, start, bottom, true);
        if changed || index == 0 {
            let _ = write!(
                texts,
                "<text x=\"{}\" y=\"{}\">{value:02X}</text>",
                x + EDGE + 2,
                top + SWING / 2 + 4
            );
        }
        last = Some(value);
    }
    let _ = writeln!(out, "<path class=\"host\" d=\"{path}\"/>{texts}");
}

/// Text for XML, without the characters that it cannot have.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\0'..=' ' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waveform::tests::{strobe_bytes, window};
    use crate::{Line, PortDevice, Printer, Spp};
    use proptest::prelude::*;

    fn session(bytes: u8) -> Spp {
        let mut port = Spp::new(Box::new(Printer::new()));
        strobe_bytes(&mut port, 1_000_000, bytes);
        port
    }

    /// The values of an attribute, as numbers.
    fn numbers(picture: &str, name: &str) -> Vec<usize> {
        let start = format!(" {name}=\"");
        let values = picture.split(&start).skip(1);
        values
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn a_picture_has_names_bytes_marks_and_times() {
        let port = session(2);
        let marks = [
            (1_001_000, "nStrobe <low>"),
            (1_022_000, "done"),
            (9_000_000, "outside"),
        ];
        let signals = [Signal::Data, Line::NStrobe.into(), Line::Busy.into()];
        let trace = port.trace().unwrap();
        let picture = svg(trace, &signals, 999_000, 1_070_000, &marks, "A & B");
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        for text in [
            "<title>A &amp; B</title>",
            ">data</text>",
            ">nStrobe</text>",
            ">Busy</text>",
            ">41</text>",
            ">42</text>",
            ">nStrobe &lt;low&gt;</text>",
            ">done</text>",
            ">999 µs</text>",
        ] {
            assert!(picture.contains(text), "{text} in {picture}");
        }
        assert!(!picture.contains("outside"));
    }

    #[test]
    fn every_edge_is_drawn() {
        let port = session(1);
        let trace = port.trace().unwrap();
        let picture = svg(trace, &[Line::NStrobe.into()], 999_500, 1_003_000, &[], "");
        let rows: Vec<_> = picture.lines().collect();
        let name = rows.iter().position(|row| row.contains(">nStrobe</text>"));
        // Nothing is cut here, so the only slanted strokes are edges.
        assert_eq!(rows[name.unwrap() + 1].matches('L').count(), 2, "{picture}");
    }

    #[test]
    fn nothing_to_show_is_still_a_picture() {
        let port = session(0);
        let trace = port.trace().unwrap();
        for signals in [&[][..], &Signal::CONNECTOR[..]] {
            let picture = svg(trace, signals, 5, 0, &[(5, "x"), (0, "y")], "");
            assert!(picture.ends_with("</svg>\n"));
        }
    }

    proptest! {
        /// Everything lies within the picture, and no two labels on one height overlap.
        #[test]
        fn all_is_inside(
            bytes in 0u8..20,
            (from, to) in window(900_000..1_200_000),
            marks in proptest::collection::vec((0u64..1_000_000, "[a-z<&]{0,12}"), 0..20),
        ) {
            let port = session(bytes);
            let marks: Vec<_> = marks.iter().map(|(at, name)| (from + at, name.as_str())).collect();
            let trace = port.trace().unwrap();
            let picture = svg(trace, &Signal::CONNECTOR, from, to, &marks, "t");
            let (width, height) = (numbers(&picture, "width")[0], numbers(&picture, "height")[0]);
            prop_assert!(numbers(&picture, "x").iter().all(|x| *x < width));
            prop_assert!(numbers(&picture, "y").iter().all(|y| *y < height));
            let stretches = stretches(trace, &Signal::CONNECTOR, from, to);
            let mut stretches = stretches;
            lay_out(&mut stretches, COLUMNS);
            let placed = place_marks(&Picture::new(&stretches, 0), &marks, from, to);
            for (index, mark) in placed.iter().enumerate() {
                for other in &placed[..index] {
                    let apart = other.end() <= mark.x;
                    prop_assert!(apart || other.row < mark.row, "the line of {}", mark.label);
                }
            }
        }
    }
}

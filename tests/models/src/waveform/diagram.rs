//! The text diagram.

use std::fmt::Write as _;

use super::Signal;
use crate::{Levels, LineTrace, Nanos};

/// The narrowest stretch between two changes: an edge, and room for a byte's two digits.
const MIN_WIDTH: usize = 3;
/// The least room for a stretch that is cut short.
const MIN_CUT: usize = 6;
/// The least room for the picture, however few columns were asked for.
const MIN_PICTURE: usize = 24;

/// A stretch of the picture in which nothing changes.
pub(super) struct Stretch {
    /// The levels throughout.
    pub(super) levels: Levels,
    /// When it begins.
    pub(super) start: Nanos,
    /// How long it is.
    pub(super) duration: Nanos,
    /// How it is drawn.
    pub(super) drawn: Drawn,
}

/// How a stretch is drawn.
#[derive(Clone, Copy, Default)]
pub(super) struct Drawn {
    /// How many columns it takes, with the edge at its beginning.
    pub(super) width: usize,
    /// Whether it is drawn shorter than the scale says.
    pub(super) cut: bool,
}

/// A timing diagram of `signals` between `from` and `to`, at most `columns` characters wide, for a
/// terminal with a fixed-width font and box characters.
///
/// Every change gets its place, even when that stretches the time between two near changes. Long
/// stretches without a change are cut short and marked `≈`. When there are too many changes for
/// one band, further bands follow. Times count from `from`; one with `+` counts from the time
/// before it.
#[must_use]
pub fn ascii(
    trace: &LineTrace,
    signals: &[Signal],
    from: Nanos,
    to: Nanos,
    columns: usize,
) -> String {
    let names = signals.iter().map(|signal| signal.name().len());
    let margin = names.max().unwrap_or(0) + 2;
    let room = columns.saturating_sub(margin).max(MIN_PICTURE);
    let mut stretches = stretches(trace, signals, from, to);
    let scale = lay_out(&mut stretches, room);

    let mut text = String::new();
    let cut = stretches.iter().any(|stretch| stretch.drawn.cut);
    let _ = write!(text, "from {}, ", exact_time(from));
    match scale {
        Some(scale) => {
            let _ = write!(text, "one column is about {}", exact_time(scale));
        }
        None => text.push_str("not to scale"),
    }
    text.push_str(if cut {
        ", ≈ marks time left out\n"
    } else {
        "\n"
    });
    let mut before = None;
    for band in bands(&stretches, room) {
        text.push('\n');
        ruler(&mut text, band, from, margin);
        for signal in signals {
            match signal {
                Signal::Data => bus_row(&mut text, *signal, band, before, margin),
                Signal::Line(_) => line_rows(&mut text, *signal, band, before, margin),
            }
        }
        before = band.last().map(|stretch| stretch.levels);
    }
    text
}

/// Cuts the time from `from` to `to` at every change of one of the signals.
pub(super) fn stretches(
    trace: &LineTrace,
    signals: &[Signal],
    from: Nanos,
    to: Nanos,
) -> Vec<Stretch> {
    let mut stretches = vec![Stretch {
        levels: trace.levels_at(from),
        start: from,
        duration: to.saturating_sub(from),
        drawn: Drawn::default(),
    }];
    let inside = |time: Nanos| from < time && time < to;
    for sample in trace.samples().iter().filter(|sample| inside(sample.time)) {
        let last = stretches.last_mut().expect("never empty");
        let differs = |signal: &Signal| signal.value(last.levels) != signal.value(sample.levels);
        if signals.iter().any(differs) {
            last.duration = sample.time - last.start;
            stretches.push(Stretch {
                levels: sample.levels,
                start: sample.time,
                duration: to - sample.time,
                drawn: Drawn::default(),
            });
        }
    }
    stretches
}

/// Gives every stretch its width, and returns the time of one column, if any stretch follows it.
///
/// Among the round scales, takes the one that draws the most stretches true to scale; for each, as
/// much of the long ones as there is room for.
pub(super) fn lay_out(stretches: &mut [Stretch], room: usize) -> Option<Nanos> {
    let crowded = stretches.len() * MIN_WIDTH > room;
    let longest = stretches.iter().map(|stretch| stretch.duration).max();
    let longest = longest.unwrap_or(0).max(1);
    let mut best: Option<(usize, Nanos, usize)> = None;
    for scale in round_scales().take_while(|scale| !crowded && *scale <= longest) {
        let Some(limit) = (MIN_CUT..=room).rev().find(|limit| {
            stretches
                .iter()
                .map(|s| width(s.duration, scale, *limit).0)
                .sum::<usize>()
                <= room
        }) else {
            continue;
        };
        let untrue = stretches
            .iter()
            .filter(|s| !is_true(s, scale, limit))
            .count();
        if best.is_none_or(|(least, ..)| untrue < least) {
            best = Some((untrue, scale, limit));
        }
    }
    // Too much for one band: all stretches about equal.
    let (scale, limit) = best.map_or_else(
        || {
            let mut durations: Vec<_> = stretches.iter().map(|s| s.duration).collect();
            durations.sort_unstable();
            let typical = durations[durations.len() / 2] / 4;
            let scale = round_scales().find(|scale| *scale >= typical);
            (scale.unwrap_or(1), 2 * MIN_CUT)
        },
        |(_, scale, limit)| (scale, limit),
    );
    let mut any_true = false;
    for stretch in stretches {
        any_true |= is_true(stretch, scale, limit);
        (stretch.drawn.width, stretch.drawn.cut) = width(stretch.duration, scale, limit);
    }
    any_true.then_some(scale)
}

/// Whether a stretch follows the scale.
fn is_true(stretch: &Stretch, scale: Nanos, limit: usize) -> bool {
    stretch.duration >= 2 * scale && !width(stretch.duration, scale, limit).1
}

/// 1, 2, 5, 10, 20, 50 … ns.
fn round_scales() -> impl Iterator<Item = Nanos> {
    (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u64.pow(power)))
}

/// The columns for `duration`, and whether `limit` cuts it.
fn width(duration: Nanos, scale: Nanos, limit: usize) -> (usize, bool) {
    let exact = usize::try_from((duration + scale / 2) / scale).unwrap_or(usize::MAX);
    (exact.clamp(MIN_WIDTH, limit), exact > limit)
}

/// Groups the stretches so that each group fits into the room.
fn bands(stretches: &[Stretch], room: usize) -> Vec<&[Stretch]> {
    let mut bands = Vec::new();
    let (mut first, mut used) = (0, 0);
    for (index, stretch) in stretches.iter().enumerate() {
        if used + stretch.drawn.width > room && index > first {
            bands.push(&stretches[first..index]);
            (first, used) = (index, 0);
        }
        used += stretch.drawn.width;
    }
    bands.push(&stretches[first..]);
    bands
}

/// The times of the changes, as far as they fit, over a rule with a tick at every change.
fn ruler(text: &mut String, band: &[Stretch], from: Nanos, margin: usize) {
    let mut labels = String::new();
    let mut rule = String::new();
    let mut column = 0;
    let mut free = 0;
    let mut labelled = None;
    for stretch in band {
        if column >= free {
            let label = label(stretch.start - from, labelled);
            labelled = Some(stretch.start - from);
            let used = labels.chars().count();
            let _ = write!(labels, "{:1$}{label}", "", column - used);
            free = column + label.chars().count() + 2;
            rule.push('┼');
        } else {
            rule.push('┴');
        }
        rule.extend((1..stretch.drawn.width).map(|at| dash(stretch, at, '─')));
        column += stretch.drawn.width;
    }
    let _ = writeln!(text, "{:margin$}{labels}", "");
    let _ = writeln!(text, "{:margin$}{rule}", "");
}

/// The label of a tick: its time where three decimals say it, else how far it is from the tick
/// labelled before.
pub(super) fn label(time: Nanos, before: Option<Nanos>) -> String {
    let (digits, _) = unit(time);
    let fine = !time.is_multiple_of(10u64.pow(digits.saturating_sub(3)));
    match before {
        Some(before) if fine => format!("+{}", exact_time(time - before)),
        _ => exact_time(time),
    }
}

/// What column `at` of a stretch shows: `plain`, or the mark of a cut.
fn dash(stretch: &Stretch, at: usize, plain: char) -> char {
    let middle = stretch.drawn.width / 2;
    if stretch.drawn.cut && (middle..=middle + 1).contains(&at) {
        '≈'
    } else {
        plain
    }
}

/// One row: the byte between the changes of the bus.
fn bus_row(
    text: &mut String,
    signal: Signal,
    band: &[Stretch],
    before: Option<Levels>,
    margin: usize,
) {
    let mut row = String::new();
    let mut last = before.map(|levels| signal.value(levels));
    for (index, stretch) in band.iter().enumerate() {
        let value = signal.value(stretch.levels);
        let changed = last.is_some_and(|last| last != value);
        row.push(if changed { '╳' } else { '═' });
        let mut drawn = 1;
        if changed || index == 0 {
            let _ = write!(row, "{value:02X}");
            drawn += 2;
        }
        row.extend((drawn..stretch.drawn.width).map(|at| dash(stretch, at, '═')));
        last = Some(value);
    }
    let _ = writeln!(text, "{:margin$}{row}", signal.name());
}

/// Two rows: the upper for high, the lower for low, joined at the edges.
fn line_rows(
    text: &mut String,
    signal: Signal,
    band: &[Stretch],
    before: Option<Levels>,
    margin: usize,
) {
    let mut upper = String::new();
    let mut lower = String::new();
    let mut last = before.map(|levels| signal.value(levels) != 0);
    for stretch in band {
        let high = signal.value(stretch.levels) != 0;
        let (top, bottom) = match (last.unwrap_or(high), high) {
            (false, true) => ('┌', '┘'),
            (true, false) => ('┐', '└'),
            (true, true) => ('─', ' '),
            (false, false) => (' ', '─'),
        };
        upper.push(top);
        lower.push(bottom);
        for at in 1..stretch.drawn.width {
            let dash = dash(stretch, at, '─');
            upper.push(if high { dash } else { ' ' });
            lower.push(if high { ' ' } else { dash });
        }
        last = Some(high);
    }
    for (name, row) in [(signal.name(), upper), ("", lower)] {
        let row = format!("{name:margin$}{row}");
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

/// A time in the unit that suits it, with all its decimals.
pub(super) fn exact_time(time: Nanos) -> String {
    if time == 0 {
        return "0".into();
    }
    let (digits, name) = unit(time);
    let unit = 10u64.pow(digits);
    let decimals = format!(".{:01$}", time % unit, digits as usize);
    let decimals = decimals.trim_end_matches('0').trim_end_matches('.');
    format!("{}{decimals} {name}", time / unit)
}

/// The unit that suits a time: how many decimal digits it has over 1 ns, and its name.
const fn unit(time: Nanos) -> (u32, &'static str) {
    match time {
        0..1_000 => (0, "ns"),
        1_000..1_000_000 => (3, "µs"),
        1_000_000..1_000_000_000 => (6, "ms"),
        _ => (9, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waveform::tests::{strobe_bytes, window};
    use crate::{Line, PortDevice, Printer, Spp, Width};
    use proptest::prelude::*;

    /// A reset of 100 us after five seconds, then two bytes a second later.
    fn session() -> Spp {
        let mut port = Spp::new(Box::new(Printer::new()));
        port.write(5_000_000_000, 0, 2, Width::Byte, 0x08);
        port.write(5_000_100_000, 0, 2, Width::Byte, 0x0C);
        strobe_bytes(&mut port, 6_100_000_000, 2);
        port
    }

    #[test]
    fn a_byte_looks_like_this() {
        let port = session();
        let signals = [
            Signal::Data,
            Line::NStrobe.into(),
            Line::Busy.into(),
            Line::NAck.into(),
        ];
        let trace = port.trace().unwrap();
        let diagram = ascii(trace, &signals, 6_100_000_000, 6_100_040_000, 70);
        let expected = "\
from 6.1 s, one column is about 100 ns, ≈ marks time left out

         0         1 µs       2 µs       22 µs      27 µs
         ┼─────────┼──┴───────┼────≈≈────┼────≈≈────┼────┴────≈≈────
data     ═41═══════════════════════≈≈═════════≈≈══════════════≈≈════
nStrobe  ──────────┐          ┌────≈≈─────────≈≈──────────────≈≈────
                   └──────────┘
Busy                  ┌────────────≈≈─────────≈≈─────────┐
         ─────────────┘                                  └────≈≈────
nAck     ──────────────────────────≈≈────┐          ┌─────────≈≈────
                                         └────≈≈────┘
";
        assert_eq!(diagram, expected, "\n{diagram}");
    }

    #[test]
    fn a_reset_looks_like_this() {
        let port = session();
        let signals = [Line::NInit.into(), Line::Busy.into()];
        let trace = port.trace().unwrap();
        let diagram = ascii(trace, &signals, 4_999_900_000, 6_100_000_000, 80);
        let expected = "\
from 4.9999 s, one column is about 10 µs, ≈ marks time left out

       0         100 µs    200 µs                    +1 s
       ┼─────────┼────┴────┼────────────≈≈───────────┼────────────≈≈───────────
nInit  ──────────┐         ┌────────────≈≈────────────────────────≈≈───────────
                 └─────────┘
Busy                  ┌─────────────────≈≈───────────┐
       ───────────────┘                              └────────────≈≈───────────
";
        assert_eq!(diagram, expected, "\n{diagram}");
    }

    #[test]
    fn many_changes_take_several_bands() {
        let port = session();
        let trace = port.trace().unwrap();
        let signals = [Signal::Data, Line::NStrobe.into(), Line::NAck.into()];
        let diagram = ascii(trace, &signals, 6_099_999_000, 6_100_080_000, 40);
        let expected = "\
from 6.099999 s, one column is about 2 µs

         0  1 µs  3 µs      23 µs
         ┼──┼──┴──┼─────────┼──┴──────
data     ═00╳41═══════════════════════
nStrobe  ──────┐  ┌───────────────────
               └──┘
nAck     ───────────────────┐  ┌──────
                            └──┘

         41 µs           63 µs
         ┼──┴──┴─────────┼──┴──────
data     ╳42═══════════════════════
nStrobe  ───┐  ┌───────────────────
            └──┘
nAck     ────────────────┐  ┌──────
                         └──┘
";
        assert_eq!(diagram, expected, "\n{diagram}");
    }

    #[test]
    fn nothing_to_show_is_still_a_picture() {
        let port = session();
        let trace = port.trace().unwrap();
        let diagram = ascii(trace, &[Signal::Data], 7_000_000_000, 0, 0);
        assert_eq!(
            diagram,
            "from 7 s, not to scale\n\n      0\n      ┼──\ndata  ═42\n"
        );
        assert_eq!(ascii(trace, &[], 0, 100, 40).lines().count(), 4);
    }

    #[test]
    fn times_have_a_fitting_unit() {
        for (time, text) in [
            (0, "0"),
            (750, "750 ns"),
            (1_500, "1.5 µs"),
            (50_000, "50 µs"),
            (35_000_000, "35 ms"),
            (5_000_100_000, "5.0001 s"),
        ] {
            assert_eq!(exact_time(time), text);
        }
        assert_eq!(label(5_000_100_000, None), "5.0001 s");
        assert_eq!(label(5_000_100_000, Some(5_000_000_000)), "+100 µs");
        assert_eq!(label(5_001_000_000, Some(5_000_000_000)), "5.001 s");
    }

    proptest! {
        /// Whatever is asked for: no panic, no line wider than the picture, and every edge in it.
        #[test]
        fn every_edge_is_drawn(
            count in 0u8..12,
            (from, to) in window(6_090_000_000..6_100_600_000),
            columns in 0usize..160,
        ) {
            let mut port = session();
            strobe_bytes(&mut port, 6_100_100_000, count);
            let trace = port.trace().unwrap();
            let text = ascii(trace, &[Line::NStrobe.into()], from, to, columns);
            let widest = text.lines().skip(1).map(|line| line.chars().count()).max();
            prop_assert!(widest.unwrap_or(0) <= columns.max(MIN_PICTURE + 9) + 12, "{}", text);
            let drawn = text.matches(['┌', '┐']).count();
            let there = trace.edges(Line::NStrobe).filter(|e| from < e.time && e.time < to).count();
            prop_assert_eq!(drawn, there, "{}", text);
        }
    }
}

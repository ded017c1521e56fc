//! What a logic analyser on the connector records.

use alloc::vec::Vec;

use crate::{Levels, Line, Nanos};

/// The levels from `time` until the next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the levels became so.
    pub time: Nanos,
    /// All lines from then on.
    pub levels: Levels,
}

/// A time during which a line held one level, between two edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The first edge.
    pub start: Nanos,
    /// From the first edge to the second.
    pub duration: Nanos,
}

/// One line changing its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// When.
    pub time: Nanos,
    /// The level after the edge: `true` is high.
    pub level: bool,
}

/// Every change of a line or of the data bus, with its time.
///
/// Two changes at the same time are kept as two samples, in the order in which they happened.
#[derive(Clone, Debug)]
pub struct LineTrace {
    start: Nanos,
    initial: Levels,
    samples: Vec<Sample>,
    end: Nanos,
}

impl LineTrace {
    /// An empty trace that begins at `start` with the levels `initial`.
    #[must_use]
    pub const fn new(start: Nanos, initial: Levels) -> Self {
        Self {
            start,
            initial,
            samples: Vec::new(),
            end: start,
        }
    }

    /// Notes that the levels are `levels` at `time`; keeps a sample only when something changed.
    /// A time before the end of the trace counts as its end.
    pub fn record(&mut self, time: Nanos, levels: Levels) {
        self.end = self.end.max(time);
        if levels != self.last() {
            self.samples.push(Sample {
                time: self.end,
                levels,
            });
        }
    }

    /// Forgets everything up to the end of the trace, which goes on from there.
    pub fn restart(&mut self) {
        *self = Self::new(self.end, self.last());
    }

    /// When the recording began.
    #[must_use]
    pub const fn start(&self) -> Nanos {
        self.start
    }

    /// Up to when the lines are known.
    #[must_use]
    pub const fn end(&self) -> Nanos {
        self.end
    }

    /// The levels at the start.
    #[must_use]
    pub const fn initial(&self) -> Levels {
        self.initial
    }

    /// The levels at the end.
    #[must_use]
    pub fn last(&self) -> Levels {
        self.samples
            .last()
            .map_or(self.initial, |sample| sample.levels)
    }

    /// Every change since the start, oldest first.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The levels at `time`, after all changes of that moment. Before the start: the first levels;
    /// after the end: the last.
    #[must_use]
    pub fn levels_at(&self, time: Nanos) -> Levels {
        match self.samples.partition_point(|sample| sample.time <= time) {
            0 => self.initial,
            after => self.samples[after - 1].levels,
        }
    }

    /// The level of one line at `time`: `true` is high.
    #[must_use]
    pub fn level_at(&self, line: Line, time: Nanos) -> bool {
        self.levels_at(time).get(line)
    }

    /// Every edge of one line, oldest first.
    pub fn edges(&self, line: Line) -> impl Iterator<Item = Edge> + '_ {
        let mut level = self.initial.get(line);
        self.samples.iter().filter_map(move |sample| {
            let now = sample.levels.get(line);
            (core::mem::replace(&mut level, now) != now).then_some(Edge {
                time: sample.time,
                level: now,
            })
        })
    }

    /// Every time that `line` held `level` between two edges. A level held since the start of the
    /// trace, or still held at its end, is not a pulse.
    #[must_use]
    pub fn pulses(&self, line: Line, level: bool) -> Vec<Pulse> {
        let mut pulses = Vec::new();
        let mut start = None;
        for edge in self.edges(line) {
            if edge.level == level {
                start = Some(edge.time);
            } else if let Some(start) = start.take() {
                pulses.push(Pulse {
                    start,
                    duration: edge.time - start,
                });
            }
        }
        pulses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostLines, PeripheralLines};
    use alloc::vec;
    use proptest::prelude::*;

    fn idle() -> Levels {
        Levels::new(HostLines::IDLE, PeripheralLines::from_dsr(0xD8))
    }

    #[test]
    fn an_unchanged_level_is_no_sample() {
        let mut trace = LineTrace::new(5, idle());
        trace.record(10, idle());
        assert!(trace.samples().is_empty());
        assert_eq!((trace.start(), trace.end()), (5, 10));
    }

    #[test]
    fn pulses_lie_between_two_edges() {
        let low = idle().with(Line::NInit, false);
        let mut trace = LineTrace::new(0, low);
        trace.record(100, idle());
        trace.record(200, low);
        trace.record(250, low.with(Line::D3, true));
        trace.record(300, idle());
        trace.record(400, low);
        trace.record(500, low);
        let pulse = |start, duration| Pulse { start, duration };
        assert_eq!(trace.pulses(Line::NInit, false), vec![pulse(200, 100)]);
        assert_eq!(
            trace.pulses(Line::NInit, true),
            vec![pulse(100, 100), pulse(300, 100)]
        );
        assert_eq!(trace.pulses(Line::D3, true), vec![pulse(250, 50)]);
        assert!(trace.level_at(Line::NInit, 199));
        assert!(!trace.level_at(Line::NInit, 200));
        assert_eq!(trace.levels_at(260).data(), 0x08);
    }

    #[test]
    fn two_changes_at_one_time_are_both_kept() {
        let mut trace = LineTrace::new(0, idle());
        trace.record(10, idle().with(Line::NStrobe, false));
        trace.record(10, idle());
        assert_eq!(
            trace.pulses(Line::NStrobe, false),
            vec![Pulse {
                start: 10,
                duration: 0
            }]
        );
        assert!(trace.level_at(Line::NStrobe, 10));
    }

    #[test]
    fn restart_keeps_the_levels() {
        let mut trace = LineTrace::new(0, idle());
        trace.record(10, idle().with(Line::D0, true));
        trace.restart();
        assert_eq!(trace.start(), 10);
        assert_eq!(trace.initial().data(), 1);
        assert!(trace.samples().is_empty());
    }

    proptest! {
        #[test]
        fn level_at_agrees_with_the_recording(
            steps in proptest::collection::vec((1u64..50, any::<u8>(), any::<u8>()), 0..40)
        ) {
            let mut trace = LineTrace::new(0, idle());
            let mut all = vec![(0, idle())];
            let mut now = 0;
            for (wait, data, dsr) in steps {
                now += wait;
                let host = HostLines { data, ..HostLines::IDLE };
                let levels = Levels::new(host, PeripheralLines::from_dsr(dsr));
                trace.record(now, levels);
                all.push((now, levels));
            }
            for (index, (time, levels)) in all.iter().enumerate() {
                let until = all.get(index + 1).map_or(now, |next| next.0 - 1);
                prop_assert_eq!(trace.levels_at(*time), *levels);
                prop_assert_eq!(trace.levels_at(until.max(*time)), *levels);
            }
            for line in Line::ALL {
                // High and low pulses and the two open ends make up the whole trace.
                let high: u64 = trace.pulses(line, true).iter().map(|p| p.duration).sum();
                let low: u64 = trace.pulses(line, false).iter().map(|p| p.duration).sum();
                let edges: Vec<_> = trace.edges(line).collect();
                let inside = edges.last().map_or(0, |e| e.time) - edges.first().map_or(0, |e| e.time);
                prop_assert_eq!(high + low, inside);
            }
        }
    }
}

//! A trigger of 10 us on a machine under load, as the connector sees it.
//!
//! The demo shows it, and the picture in `pictures/` is made from it.

use ntsim::{Config, NtStatus};
use parscan_models::{
    Line, LineTrace, Nanos, PortDevice,
    waveform::{Signal, ascii, svg},
};

use crate::{
    MS, Setup, US, check,
    port_programs::{LinesPc, Ran, data, delay, lines_pc, request},
};

/// What the trigger is to last.
pub const WIDTH: Nanos = 10 * US;
/// How long a thread is away that loses its processor.
pub const AWAY: Nanos = 2 * MS;
/// Between two triggers.
const PAUSE: Nanos = 50 * US;
/// Before and after what a picture shows.
const MARGIN: Nanos = 10 * US;
/// The rows of a picture: the trigger, and the plug's way back of it.
const SIGNALS: [Signal; 2] = [Signal::Line(Line::DATA[0]), Signal::Line(Line::NFault)];

/// Triggers, and what the connector saw.
pub struct Recording {
    /// How long each was, of those that may be interrupted.
    pub plain: Vec<Nanos>,
    /// How long each was with `ATOMIC`.
    pub atomic: Vec<Nanos>,
    trace: LineTrace,
    from: Nanos,
    to: Nanos,
    marks: Vec<(Nanos, &'static str)>,
}

/// A PC whose processors have much else to do: a thread loses its own at every fifth call of the
/// kernel or access to the port, for two milliseconds, if its IRQL lets it.
#[must_use]
pub fn pc() -> LinesPc {
    let pc = lines_pc(Setup {
        config: Config {
            preempt_per_mille: 0,
            preempted_ns: AWAY,
            max_steps: u64::MAX,
            ..Config::default()
        },
        ..Setup::default()
    });
    pc.machine.reseed(11, 200);
    pc
}

/// Sends so many triggers either way.
///
/// # Panics
/// If the driver fails, or a trigger has other edges than its own.
#[must_use]
pub fn record(pc: &LinesPc, count: usize) -> Recording {
    let lpt1 = pc.open();
    assert_eq!(pc.claim(lpt1), NtStatus::SUCCESS);
    let delay_ns = u32::try_from(WIDTH).expect("short");
    let code = [data(1), delay(delay_ns), data(0)];
    let mut widths = [const { Vec::new() }; 2];
    let mut shown = None;
    for _ in 0..count {
        let mut pulses = Vec::new();
        for (place, atomic) in [false, true].into_iter().enumerate() {
            let from = pc.machine.now();
            let ran = Ran::of(&pc.run(lpt1, &request(&code, &[], atomic), 0));
            assert_eq!(ran.accesses, 2);
            check(pc.machine.run_for(PAUSE));
            let chip = pc.chip.borrow();
            let trace = chip.trace().expect("the model keeps a trace");
            let all = trace.pulses(Line::DATA[0], true).into_iter();
            let new: Vec<_> = all.filter(|pulse| pulse.start >= from).collect();
            let [pulse] = new[..] else {
                panic!("{} pulses", new.len());
            };
            widths[place].push(pulse.duration);
            pulses.push((pulse.start, pulse.duration));
        }
        // The picture shows the first one that the load has stretched, and the one after it.
        if shown.is_none() && pulses[0].1 > 2 * WIDTH {
            shown = Some((pulses[0], pulses[1]));
        }
    }
    check(pc.machine.close(lpt1));
    let (plain, atomic) = shown.expect("the load stretches some");
    let (from, to) = (plain.0 - MARGIN, atomic.0 + atomic.1 + MARGIN);
    let chip = pc.chip.borrow();
    let all = chip.trace().expect("the model keeps a trace");
    // When it was does not matter.
    let mut trace = LineTrace::new(0, all.levels_at(from));
    for sample in all.samples() {
        if from < sample.time && sample.time < to {
            trace.record(sample.time - from, sample.levels);
        }
    }
    let [plain_widths, atomic_widths] = widths;
    Recording {
        plain: plain_widths,
        atomic: atomic_widths,
        trace,
        from: 0,
        to: to - from,
        marks: vec![(plain.0 - from, "interrupted"), (atomic.0 - from, "ATOMIC")],
    }
}

impl Recording {
    /// The picture: a trigger that the load has stretched, and an atomic one.
    #[must_use]
    pub fn svg(&self) -> String {
        svg(
            &self.trace,
            &SIGNALS,
            self.from,
            self.to,
            &self.marks,
            "A trigger of 10 us under load: as it comes, and ATOMIC",
        )
    }

    /// The same as text, at most `columns` wide.
    #[must_use]
    pub fn text(&self, columns: usize) -> String {
        ascii(&self.trace, &SIGNALS, self.from, self.to, columns)
    }
}

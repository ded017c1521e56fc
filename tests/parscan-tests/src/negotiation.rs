//! A program asks for the device ID: the negotiation on the lines, with the standard's events.
//!
//! The demo shows it, and the picture in `pictures/` is made from it.

use std::iter;

use ntsim::{IoResult, NtStatus};
use parscan_models::{
    Line, LineTrace, Nanos, Peripheral1284, PortDevice, Spp,
    waveform::{Signal, ascii, svg},
};

use crate::{MS, Pc, Setup, US, check, ntddpar::IOCTL_PAR_QUERY_DEVICE_ID};

/// What the printer says it is, in the form of many of its time.
pub const DEVICE_ID: &str = "MFG:Hewlett-Packard;MDL:LaserJet 1200 Series;\
     CMD:MLC,PCL,POSTSCRIPT;CLS:PRINTER;DES:Hewlett-Packard LaserJet 1200 Series;";

/// What the printer takes for an answer, so that cause and effect can be told apart.
const RESPONSE: Nanos = 3 * US;
/// Before and after the negotiation.
const MARGIN: Nanos = 2 * US;

/// An event of IEEE 1284.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was.
    pub time: Nanos,
    /// Its number in the standard; two if they came at once.
    pub number: &'static str,
    /// What happened.
    pub what: &'static str,
}

/// The device ID and how it was asked for.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What came of the request.
    pub result: IoResult,
    /// All of the request on the lines.
    pub trace: LineTrace,
    /// The events of the negotiation, in their order.
    pub events: Vec<Event>,
    /// Where a picture of the negotiation begins,
    pub from: Nanos,
    /// and ends.
    pub to: Nanos,
}

/// A PC with a printer that has IEEE 1284 and a device ID.
///
/// # Panics
/// If the port does not start.
#[must_use]
pub fn pc() -> Pc<Spp, Peripheral1284> {
    let length = u16::try_from(DEVICE_ID.len() + 2).expect("short");
    let id = [&length.to_be_bytes(), DEVICE_ID.as_bytes()].concat();
    let printer = Peripheral1284::new()
        .with_response(RESPONSE)
        .with_device_id(&id);
    Setup::default().started_with(Spp::new(Box::new(printer.clone())), printer)
}

/// Asks for the device ID.
///
/// # Panics
/// If the driver fails, or does not negotiate as the standard says.
#[must_use]
pub fn record(pc: &Pc<Spp, Peripheral1284>) -> Recording {
    let lpt1 = pc.open();
    // Windows asked for the ID when it looked for devices: the data lines show that request still.
    assert_eq!(
        check(pc.machine.write(lpt1, &[0])).status,
        NtStatus::SUCCESS
    );
    check(pc.machine.run_for(MS));
    pc.chip.borrow_mut().advance(pc.machine.now());
    pc.chip.borrow_mut().restart_trace();
    let result = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 1024);
    assert_eq!(result.status, NtStatus::SUCCESS);
    check(pc.machine.close(lpt1));
    pc.chip.borrow_mut().advance(pc.machine.now());
    let chip = pc.chip.borrow();
    let trace = chip.trace().expect("the model keeps a trace").clone();
    let events = events(&trace);
    let (first, last) = (events[0].time, events[events.len() - 1].time);
    Recording {
        result,
        events,
        from: first - MARGIN,
        to: last + MARGIN,
        trace,
    }
}

/// Finds the events of the first negotiation.
fn events(trace: &LineTrace) -> Vec<Event> {
    let edge = |line, level, after| {
        trace
            .edges(line)
            .find(|edge| edge.level == level && edge.time >= after)
            .unwrap_or_else(|| panic!("{} never becomes {level}", Line::name(line)))
            .time
    };
    let request = trace
        .samples()
        .iter()
        .find(|sample| sample.levels.data() == 0x04)
        .expect("the request is on the data lines");
    let asked = edge(Line::NSelectIn, true, request.time);
    let answered = edge(Line::NAck, false, asked);
    let strobed = edge(Line::NStrobe, false, answered);
    let released = edge(Line::NStrobe, true, strobed);
    let flagged = edge(Line::PError, false, released);
    let acknowledged = edge(Line::NAck, true, released);
    let mut events = vec![
        Event {
            time: request.time,
            number: "0",
            what: "host: 04, the device ID in nibble mode",
        },
        Event {
            time: asked,
            number: "1",
            what: "host: nSelectIn high, nAutoFd low: who knows IEEE 1284?",
        },
        Event {
            time: answered,
            number: "2",
            what: "printer: PError high, nAck low: I do",
        },
        Event {
            time: strobed,
            number: "3",
            what: "host: nStrobe low: take the request",
        },
        Event {
            time: released,
            number: "4",
            what: "host: nStrobe and nAutoFd high",
        },
    ];
    let flags = "printer: Select (XFlag) high: yes; nFault low: there are data";
    if flagged == acknowledged {
        events.push(Event {
            time: flagged,
            number: "5, 6",
            what: flags,
        });
    } else {
        events.push(Event {
            time: flagged,
            number: "5",
            what: flags,
        });
        events.push(Event {
            time: acknowledged,
            number: "6",
            what: "printer: nAck high: the answer is valid",
        });
    }
    events
}

impl Recording {
    /// The negotiation alone, with the beginning of the picture as its time 0: when it was does not
    /// matter.
    fn extract(&self) -> LineTrace {
        let mut extract = LineTrace::new(0, self.trace.levels_at(self.from));
        let inside = |time: Nanos| self.from < time && time < self.to;
        for sample in self.trace.samples() {
            if inside(sample.time) {
                extract.record(sample.time - self.from, sample.levels);
            }
        }
        extract
    }

    /// The events and their times in the picture.
    fn marks(&self) -> impl Iterator<Item = (Nanos, &'static str)> {
        self.events
            .iter()
            .map(|event| (event.time - self.from, event.number))
    }

    /// The negotiation as a picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let marks: Vec<_> = self.marks().collect();
        svg(
            &self.extract(),
            &Signal::CONNECTOR,
            0,
            self.to - self.from,
            &marks,
            "IEEE 1284 negotiation: parscan.sys asks a printer for its device ID",
        )
    }

    /// The negotiation as text, at most `columns` wide, with the numbers of the events above their
    /// times.
    #[must_use]
    pub fn text(&self, columns: usize) -> String {
        let extract = self.extract();
        let plain = ascii(
            &extract,
            &Signal::CONNECTOR,
            0,
            self.to - self.from,
            columns,
        );
        // Every change has a tick in a ruler, in the order of time.
        let changes = extract.samples().iter().map(|sample| sample.time);
        let mut times = iter::once(0).chain(changes);
        let mut marks = self.marks().peekable();
        let mut lines: Vec<String> = Vec::new();
        for line in plain.lines() {
            if line.trim_start().starts_with('┼') {
                let mut numbers = "event".to_owned();
                let ticks = line.chars().enumerate();
                for (column, _) in ticks.filter(|(_, tick)| matches!(tick, '┼' | '┴')) {
                    let Some(time) = times.next() else { break };
                    if let Some((_, number)) = marks.next_if(|(at, _)| *at == time) {
                        let gap = column.saturating_sub(numbers.chars().count());
                        numbers.push_str(&" ".repeat(gap));
                        numbers.push_str(number);
                    }
                }
                // Above the times.
                lines.insert(lines.len().saturating_sub(1), numbers);
            }
            lines.push(line.trim_end().to_owned());
        }
        lines.join("\n")
    }
}

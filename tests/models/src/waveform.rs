//! A [`LineTrace`] for the eye: as a VCD file, which `GTKWave`, Surfer and `PulseView` open, as a
//! text diagram for a terminal, and as an SVG picture for a document.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use vcd::{IdCode, SimulationCommand, TimescaleUnit, Value, VarType};

use crate::{Levels, Line, LineTrace, Side};

mod diagram;
mod svg;

pub use diagram::ascii;
pub use svg::svg;

/// One row of a diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// D7 to D0 as one bus.
    Data,
    /// One line.
    Line(Line),
}

impl Signal {
    /// The whole connector: the data bus, the host's four lines, the peripheral's five.
    pub const CONNECTOR: [Self; 10] = [
        Self::Data,
        Self::Line(Line::NStrobe),
        Self::Line(Line::NAutoFd),
        Self::Line(Line::NInit),
        Self::Line(Line::NSelectIn),
        Self::Line(Line::Busy),
        Self::Line(Line::NAck),
        Self::Line(Line::PError),
        Self::Line(Line::Select),
        Self::Line(Line::NFault),
    ];

    /// The name of the row: the line's, or `data`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Line(line) => line.name(),
        }
    }

    /// What the row shows for `levels`: the byte, or 0 or 1.
    fn value(self, levels: Levels) -> u8 {
        match self {
            Self::Data => levels.data(),
            Self::Line(line) => levels.get(line).into(),
        }
    }
}

impl From<Line> for Signal {
    fn from(line: Line) -> Self {
        Self::Line(line)
    }
}

/// Writes the trace as VCD with a time scale of 1 ns. Scope `host` has the bus `data`, its lines D0
/// to D7, and the host's control lines; scope `peripheral` has the peripheral's. Nothing in the file
/// depends on the day or the machine, so equal traces give equal files.
///
/// # Errors
/// What `writer` reports.
pub fn write_vcd(trace: &LineTrace, title: &str, writer: impl Write) -> io::Result<()> {
    let mut vcd = vcd::Writer::new(writer);
    // A comment ends at the word $end, so no title may contain one.
    vcd.comment(&title.replace('$', " "))?;
    vcd.version(concat!("parscan-models ", env!("CARGO_PKG_VERSION")))?;
    vcd.timescale(1, TimescaleUnit::NS)?;
    let mut rows = Vec::new();
    vcd.add_module("host")?;
    let data = vcd.add_var(
        VarType::Wire,
        8,
        "data",
        Some(vcd::ReferenceIndex::Range(7, 0)),
    )?;
    rows.push((Signal::Data, data));
    for line in lines_of(Side::Host) {
        rows.push((line.into(), vcd.add_wire(1, line.name())?));
    }
    vcd.upscope()?;
    vcd.add_module("peripheral")?;
    for line in lines_of(Side::Peripheral) {
        rows.push((line.into(), vcd.add_wire(1, line.name())?));
    }
    vcd.upscope()?;
    vcd.enddefinitions()?;

    let mut levels = trace.initial();
    let mut time = trace.start();
    vcd.timestamp(time)?;
    vcd.begin(SimulationCommand::Dumpvars)?;
    for row in &rows {
        change(&mut vcd, *row, levels)?;
    }
    vcd.end()?;
    for sample in trace.samples() {
        if sample.time != time {
            time = sample.time;
            vcd.timestamp(time)?;
        }
        for row in &rows {
            if row.0.value(sample.levels) != row.0.value(levels) {
                change(&mut vcd, *row, sample.levels)?;
            }
        }
        levels = sample.levels;
    }
    if trace.end() != time {
        // Viewers end the picture at the last time in the file.
        vcd.timestamp(trace.end())?;
    }
    vcd.flush()
}

/// [`write_vcd`] to the file `path`, which is created or replaced.
///
/// # Errors
/// When the file cannot be created or written.
pub fn save_vcd(trace: &LineTrace, title: &str, path: impl AsRef<Path>) -> io::Result<()> {
    write_vcd(trace, title, BufWriter::new(File::create(path)?))
}

fn lines_of(side: Side) -> impl Iterator<Item = Line> {
    Line::ALL
        .into_iter()
        .filter(move |line| line.side() == side)
}

fn change<W: Write>(
    vcd: &mut vcd::Writer<W>,
    (signal, id): (Signal, IdCode),
    levels: Levels,
) -> io::Result<()> {
    let value = signal.value(levels);
    match signal {
        Signal::Data => {
            let bits = (0..8).rev().map(|bit| Value::from(value >> bit & 1 != 0));
            vcd.change_vector(id, bits)
        }
        Signal::Line(_) => vcd.change_scalar(id, Value::from(value != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostLines, Nanos, PeripheralLines, PortDevice, Printer, Spp, Width};
    use core::ops::Range;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use vcd::Command;

    /// A host sends so many bytes, the first at `start`.
    pub(super) fn strobe_bytes(port: &mut Spp, start: Nanos, count: u8) {
        let mut now = start;
        for byte in 0..count {
            port.write(now, 0, 0, Width::Byte, u32::from(0x41 + byte));
            port.write(now + 1_000, 0, 2, Width::Byte, 0x0D);
            port.write(now + 2_000, 0, 2, Width::Byte, 0x0C);
            now += 40_000;
        }
        port.advance(now);
    }

    /// A stretch of time, of up to a millisecond.
    pub(super) fn window(from: Range<Nanos>) -> impl Strategy<Value = (Nanos, Nanos)> {
        (from, 0..1_000_000u64).prop_map(|(from, length)| (from, from + length))
    }

    /// Reads a VCD back into a trace, by the names in it.
    fn parse(bytes: &[u8]) -> LineTrace {
        let mut parser = vcd::Parser::new(bytes);
        let header = parser.parse_header().unwrap();
        assert_eq!(header.timescale, Some((1, TimescaleUnit::NS)));
        let mut ids = HashMap::new();
        for line in Line::ALL {
            let scope = match line.side() {
                Side::Host => "host",
                Side::Peripheral => "peripheral",
            };
            ids.insert(header.find_var(&[scope, line.name()]).unwrap().code, line);
        }
        let data = header.find_var(&["host", "data"]).unwrap();
        assert_eq!(data.size, 8);
        let data = data.code;

        let mut levels = Levels::new(HostLines::IDLE, PeripheralLines::from_dsr(0));
        let mut bus = 0;
        let mut time = 0;
        let mut trace: Option<LineTrace> = None;
        let mut commands = parser.map(Result::unwrap).peekable();
        while let Some(command) = commands.next() {
            match command {
                Command::Timestamp(next) => time = next,
                Command::ChangeScalar(id, value) => {
                    levels = levels.with(ids[&id], value == Value::V1);
                }
                Command::ChangeVector(id, value) => {
                    assert_eq!(id, data);
                    bus = value
                        .iter()
                        .fold(0, |bus, bit| bus << 1 | u8::from(bit == Value::V1));
                }
                _ => {}
            }
            if matches!(commands.peek(), Some(Command::Timestamp(_)) | None) && time > 0 {
                assert_eq!(bus, levels.data(), "bus and lines agree at {time}");
                match &mut trace {
                    None => trace = Some(LineTrace::new(time, levels)),
                    Some(trace) => trace.record(time, levels),
                }
            }
        }
        trace.unwrap()
    }

    #[test]
    fn a_vcd_has_its_title_scopes_and_times() {
        let mut port = Spp::new(Box::new(Printer::new()));
        port.write(1_000, 0, 0, Width::Byte, 0x41);
        port.write(2_000, 0, 2, Width::Byte, 0x0D);
        port.write(3_000, 0, 2, Width::Byte, 0x0C);
        port.advance(50_000);
        let mut file = Vec::new();
        write_vcd(port.trace().unwrap(), "one byte $end", &mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        assert!(text.contains("one byte  end"), "{text}");
        assert!(text.contains("b01000001"), "{text}");
        assert!(text.ends_with("#50000\n"), "{text}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("byte.vcd");
        save_vcd(port.trace().unwrap(), "one byte $end", &path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }

    proptest! {
        #[test]
        fn a_vcd_reads_back(
            steps in proptest::collection::vec((1u64..1_000_000, 0u8..64, any::<u8>()), 0..40),
        ) {
            let mut port = Spp::new(Box::new(Printer::new().with_reset_time(100_000)));
            port.advance(1);
            port.restart_trace();
            let mut now = 1;
            for (wait, dcr, data) in steps {
                now += wait;
                port.write(now, 0, 0, Width::Byte, data.into());
                port.write(now + 1, 0, 2, Width::Byte, dcr.into());
                now += 1;
            }
            port.advance(now + 5);
            let trace = port.trace().unwrap();
            let mut file = Vec::new();
            write_vcd(trace, "random", &mut file).unwrap();
            let back = parse(&file);
            prop_assert_eq!(back.samples(), trace.samples());
            prop_assert_eq!(back.initial(), trace.initial());
            prop_assert_eq!((back.start(), back.end()), (trace.start(), trace.end()));
        }
    }
}

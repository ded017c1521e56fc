//! Raw lines: `lines`, `pulse` and `run`.

use std::{fmt::Write as _, fs, io, path::Path, time::Duration};

use parscan_client::{
    Error, Port, PortProgram, PortProgramRun,
    ioctl::parallel::port_programs::{GetRegister, Instruction, RunEnd, RunResult},
};
use serde::Serialize;

use crate::{
    Host,
    complaint::Complaint,
    program_text::{CONTROL, DIRECTION, Setting, parse},
    render::{hex, report},
};

/// Between two looks at the lines.
const LOOK: Duration = Duration::from_millis(100);
/// The longest pulse that nothing stretches: with its accesses, what the driver allows.
const LONGEST_ATOMIC: Duration = Duration::from_micros(45);

/// The registers of a port.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Registers {
    data: u8,
    status: u8,
    control: u8,
}

#[derive(Serialize)]
pub(super) struct Lines {
    port: String,
    #[serde(flatten)]
    registers: Registers,
    /// The names of the lines that are high
    high: Vec<String>,
    /// Whether the host drives the data lines
    output: bool,
}

#[derive(Serialize)]
pub(super) struct Ran {
    port: String,
    end: &'static str,
    instruction: u32,
    accesses: u32,
    missed: u32,
    elapsed_ns: u64,
    /// The bytes that were read, unless they went to a file
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    bytes: usize,
}

report!(Lines);
report!(Ran);

/// Status bits by the names of their lines, their pins, and whether the bit is inverted.
const STATUS: [(&str, u8, u8, bool); 5] = [
    ("nAck", 0x40, 10, false),
    ("Busy", 0x80, 11, true),
    ("PError", 0x20, 12, false),
    ("Select", 0x10, 13, false),
    ("nFault", 0x08, 15, false),
];
/// Pins of the control lines, as [`CONTROL`] has them.
const CONTROL_PINS: [u8; 4] = [1, 14, 16, 17];

impl Registers {
    /// Every line: its name, pin and level.
    fn levels(self) -> Vec<(String, u8, bool)> {
        let data = (0..8).map(|bit| (format!("D{bit}"), 2 + bit, self.data >> bit & 1 == 1));
        let control = CONTROL
            .iter()
            .zip(CONTROL_PINS)
            .map(|((name, bit, inverted), pin)| {
                (
                    (*name).to_owned(),
                    pin,
                    (self.control & bit != 0) != *inverted,
                )
            });
        let status = STATUS.iter().map(|(name, bit, pin, inverted)| {
            (
                (*name).to_owned(),
                *pin,
                (self.status & bit != 0) != *inverted,
            )
        });
        data.chain(control).chain(status).collect()
    }
}

impl Lines {
    fn new(port: &Port, registers: Registers) -> Self {
        Self {
            port: port.name().to_owned(),
            registers,
            high: registers
                .levels()
                .into_iter()
                .filter(|(.., high)| *high)
                .map(|(name, ..)| name)
                .collect(),
            output: registers.control & DIRECTION == 0,
        }
    }

    fn lines(&self) -> String {
        let Registers {
            data,
            status,
            control,
        } = self.registers;
        let direction = if self.output { "out" } else { "in" };
        let mut text = format!(
            "{}: data {data:#04x} {direction}, status {status:#04x}, control {control:#04x}\n",
            self.port
        );
        let levels = self.registers.levels();
        for part in [&levels[..8], &levels[8..12], &levels[12..]] {
            for (name, pin, high) in part {
                let _ = write!(
                    text,
                    "  {name}({pin}) {}",
                    if *high { '\u{25cf}' } else { '\u{25cb}' }
                );
            }
            text.push('\n');
        }
        text
    }
}

impl Ran {
    fn new(port: &Port, run: &PortProgramRun, shown: bool) -> Self {
        let RunResult {
            end,
            instruction,
            accesses,
            missed,
            elapsed_ns,
            ..
        } = run.result;
        Self {
            port: port.name().to_owned(),
            end: match end {
                RunEnd::Done => "done",
                RunEnd::TimeOut => "time-out",
                RunEnd::Cancelled => "cancelled",
                RunEnd::PowerLost => "power lost",
                RunEnd::Removed => "removed",
            },
            instruction,
            accesses,
            missed,
            elapsed_ns,
            output: shown.then(|| hex(&run.output)),
            bytes: run.output.len(),
        }
    }

    fn lines(&self) -> String {
        let mut text = format!("{}: {}", self.port, self.end);
        if self.end != "done" {
            let _ = write!(text, " at instruction {}", self.instruction);
        }
        let us = self.elapsed_ns / 1000;
        let _ = writeln!(text, ", {} accesses in {us} us", self.accesses);
        if self.missed > 0 {
            let _ = writeln!(text, "  {} slots missed", self.missed);
        }
        match &self.output {
            Some(output) if self.bytes > 0 => {
                let _ = writeln!(text, "  {output}");
            }
            _ if self.bytes > 0 => {
                let _ = writeln!(text, "  {} bytes read", self.bytes);
            }
            _ => {}
        }
        text
    }
}

fn look(program: PortProgram) -> PortProgram {
    program
        .then(Instruction::Get(GetRegister::Data))
        .then(Instruction::Get(GetRegister::Status))
        .then(Instruction::Get(GetRegister::Control))
}

fn registers(port: &Port, program: &PortProgram) -> Result<Option<Registers>, Complaint> {
    let run = port.run(program)?;
    Ok(match run.output[..] {
        [.., data, status, control] => Some(Registers {
            data,
            status,
            control,
        }),
        // It ended early.
        _ => None,
    })
}

/// `lines`: shows them again whenever one has changed.
pub(super) fn watch(
    host: &mut Host,
    port: &Port,
    count: Option<u64>,
    json: bool,
) -> Result<(), Complaint> {
    let mut before = None;
    let mut program = look(PortProgram::new());
    for _ in 0..count.unwrap_or(u64::MAX) {
        if host.cancel.is_cancelled() {
            break;
        }
        let Some(now) = registers(port, &program)? else {
            break;
        };
        if before != Some(now) {
            host.print(json, &Lines::new(port, now))?;
            before = Some(now);
        }
        // The driver waits.
        program = look(PortProgram::new().delay(LOOK));
    }
    Ok(())
}

/// `lines set`
pub(super) fn set(port: &Port, settings: &[Setting]) -> Result<Lines, Complaint> {
    // Lines of the data register that are not named keep what they have.
    let partial = settings
        .iter()
        .any(|it| matches!(it, Setting::Data { mask, .. } if *mask != 0xFF));
    let mut data = if partial {
        let look = look(PortProgram::new());
        registers(port, &look)?.map_or(0, |registers| registers.data)
    } else {
        0
    };
    let mut program = PortProgram::new();
    for setting in settings {
        program = match *setting {
            Setting::Data { value, mask } => {
                data = data & !mask | value;
                program.data(data)
            }
            Setting::Control { value, mask } => program.control(value, mask),
        };
    }
    let registers = registers(port, &look(program))?;
    let registers = registers.ok_or(Error::ShortAnswer {
        request: "IOCTL_PARSCAN_RUN",
        bytes: RunResult::SIZE,
    })?;
    Ok(Lines::new(port, registers))
}

/// `pulse`
pub(super) fn pulse(port: &Port, line: Setting, width: Duration) -> Result<Ran, Complaint> {
    let program = PortProgram::new();
    let mut program = match line {
        Setting::Data { value, .. } => program.data(value).delay(width).data(0),
        Setting::Control { value, mask } => program
            .control(value, mask)
            .delay(width)
            .control(value ^ mask, mask),
    };
    if width <= LONGEST_ATOMIC {
        program = program.atomic();
    }
    port.claim()?;
    Ok(Ran::new(port, &port.run(&program)?, true))
}

/// A program from a file.
pub(super) fn load(host: &mut Host, file: &Path) -> Result<PortProgram, Complaint> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        host.input.read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(file).map(|found| text = found)
    };
    let name = file.display().to_string();
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let program = read
        .and_then(|()| parse(&text).map_err(wrong))
        .map_err(Complaint::file(&name))?;
    program.check().map_err(Error::Program)?;
    Ok(program)
}

/// `run`
pub(super) fn run(
    port: &Port,
    program: &PortProgram,
    out: Option<&Path>,
) -> Result<Ran, Complaint> {
    port.claim()?;
    let run = port.run(program)?;
    if let Some(out) = out {
        fs::write(out, &run.output).map_err(Complaint::file(&out.display().to_string()))?;
    }
    Ok(Ran::new(port, &run, out.is_none()))
}

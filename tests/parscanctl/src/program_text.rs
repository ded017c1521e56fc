//! Lines and port programs as text.

use std::{str::FromStr, time::Duration};

use parscan_client::{
    PortProgram,
    ioctl::parallel::port_programs::{EppRegister, GetRegister, Instruction},
};

/// The text form of programs, for `parscanctl run --help`.
pub(crate) const GRAMMAR: &str = "\
A program is text, one instruction a line; # begins a comment. Numbers are decimal or 0x….
Times are a number with ns, us, ms or s, up to 8.388 s.

  data V                    writes the data register
  control V MASK            changes control bits: 1 nStrobe, 2 nAutoFd, 4 nInit, 8 nSelectIn (a 1
                            pulls the line low, but for nInit), 0x20 direction
  get data|status|control   appends the register to the output
  next data                 the next of the bytes to the data register
  next control MASK         the same to control bits
  wait MASK V TIME [go-on]  until (status & MASK) is V. After TIME the program ends, or goes on;
                            with go-on the status is appended to the output
  delay TIME                since the last access
  pace TIME                 from here, writes of data are so far apart
  loop N … end              four deep at most
  epp-out data|address V    one EPP cycle
  epp-in data|address       the same, its byte is appended to the output
  bytes V …                 what next takes, one after the other
  atomic                    nothing interrupts the program, which takes 50 us at the most

Example:
  # eight clock pulses, a bit with each
  bytes 1 0 1 1 0 0 1 0
  loop 8
    next data
    control 1 1
    delay 2us
    control 0 1
    get status
  end";

/// Control bits by the names of their lines, and whether a 1 pulls the line low.
pub(crate) const CONTROL: [(&str, u8, bool); 4] = [
    ("nStrobe", 0x01, true),
    ("nAutoFd", 0x02, true),
    ("nInit", 0x04, false),
    ("nSelectIn", 0x08, true),
];
/// The direction bit.
pub(crate) const DIRECTION: u8 = 0x20;

/// What a line is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Data lines: the bits of the mask.
    Data { value: u8, mask: u8 },
    /// Control bits, as the register has them.
    Control { value: u8, mask: u8 },
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("LINE=VALUE, such as data=0x55 or nInit=0")?;
        let level = || match value {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(format!("{name} is 0 or 1")),
        };
        if name == "data" {
            let value = number(value)?;
            return Ok(Self::Data { value, mask: 0xFF });
        }
        if name == "direction" {
            let value = match value {
                "in" => DIRECTION,
                "out" => 0,
                _ => return Err("direction is in or out".to_owned()),
            };
            return Ok(Self::Control {
                value,
                mask: DIRECTION,
            });
        }
        if let Some(bit) = name
            .strip_prefix('d')
            .and_then(|bit| bit.parse::<u8>().ok())
            && bit < 8
        {
            let mask = 1 << bit;
            let value = if level()? { mask } else { 0 };
            return Ok(Self::Data { value, mask });
        }
        let control = CONTROL
            .iter()
            .find(|(line, ..)| line.eq_ignore_ascii_case(name));
        let (_, mask, inverted) = control.ok_or_else(|| {
            format!("there is no line {name} that a host sets: data, d0 to d7, nStrobe, nAutoFd, nInit, nSelectIn, direction")
        })?;
        let value = if level()? == *inverted { 0 } else { *mask };
        Ok(Self::Control { value, mask: *mask })
    }
}

fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{text} is no number that fits"))
}

/// A time: a number with its unit.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000_u64,
        _ => return Err("a number with ns, us, ms or s".to_owned()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut ns = whole
        .parse::<u64>()
        .ok()
        .and_then(|whole| whole.checked_mul(unit))
        .ok_or("a number with ns, us, ms or s")?;
    let mut part = unit;
    for digit in fraction.chars() {
        part /= 10;
        let digit = digit.to_digit(10).ok_or("a number with ns, us, ms or s")?;
        ns = ns.saturating_add(u64::from(digit) * part);
    }
    Ok(Duration::from_nanos(ns))
}

/// Reads a program.
///
/// # Errors
/// The first line that is none, with its number.
pub(crate) fn parse(text: &str) -> Result<PortProgram, String> {
    let mut program = PortProgram::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        program =
            instruction(program, &words).map_err(|why| format!("line {}: {why}", index + 1))?;
    }
    Ok(program)
}

fn instruction(program: PortProgram, words: &[&str]) -> Result<PortProgram, String> {
    let epp = |register: &str| match register {
        "data" => Ok(EppRegister::Data),
        "address" => Ok(EppRegister::Address),
        other => Err(format!("{other} is not data or address")),
    };
    Ok(match words {
        [] => program,
        ["data", value] => program.data(number(value)?),
        ["control", value, mask] => program.control(number(value)?, number(mask)?),
        ["get", "data"] => program.then(Instruction::Get(GetRegister::Data)),
        ["get", "status"] => program.then(Instruction::Get(GetRegister::Status)),
        ["get", "control"] => program.then(Instruction::Get(GetRegister::Control)),
        ["next", "data"] => program.then(Instruction::NextData),
        ["next", "control", mask] => program.then(Instruction::NextControl {
            mask: number(mask)?,
        }),
        ["wait", mask, value, limit] => {
            program.wait(number(mask)?, number(value)?, time(limit)?, false)
        }
        ["wait", mask, value, limit, "go-on"] => {
            program.wait(number(mask)?, number(value)?, time(limit)?, true)
        }
        ["delay", length] => program.delay(time(length)?),
        ["pace", length] => program.pace(time(length)?),
        ["loop", times] => match number(times)? {
            times @ 1..=0xFF_FFFF => program.then(Instruction::Loop(times)),
            _ => return Err("loop 1 to 16777215 times".to_owned()),
        },
        ["end"] => program.then(Instruction::End),
        ["epp-out", register, value] => {
            program.then(Instruction::EppOut(epp(register)?, number(value)?))
        }
        ["epp-in", register] => program.then(Instruction::EppIn(epp(register)?)),
        ["bytes", values @ ..] => {
            let values: Result<Vec<u8>, _> =
                values.iter().map(|value| number::<u8>(value)).collect();
            program.bytes(&values?)
        }
        ["atomic"] => program.atomic(),
        [other, ..] => {
            return Err(format!(
                "`{other}` is no instruction, or has other operands"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_levels_of_lines() {
        let control = |value, mask| Ok(Setting::Control { value, mask });
        assert_eq!("nInit=0".parse(), control(0, 4));
        assert_eq!("ninit=1".parse(), control(4, 4));
        assert_eq!("nStrobe=0".parse(), control(1, 1));
        assert_eq!("nSelectIn=1".parse(), control(0, 8));
        assert_eq!("direction=in".parse(), control(0x20, 0x20));
        assert_eq!(
            "data=0x55".parse(),
            Ok(Setting::Data {
                value: 0x55,
                mask: 0xFF
            })
        );
        assert_eq!(
            "d7=1".parse(),
            Ok(Setting::Data {
                value: 0x80,
                mask: 0x80
            })
        );
        for wrong in [
            "nAck=1",
            "data=256",
            "d8=1",
            "nInit=2",
            "data",
            "direction=1",
        ] {
            assert!(wrong.parse::<Setting>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time("10us"), Ok(Duration::from_micros(10)));
        assert_eq!(time("22.676us"), Ok(Duration::from_nanos(22_676)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["10", "us", "-1us", "1.xms", "1h", "99999999999999999999s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_example_of_the_grammar_is_a_program() {
        let (_, example) = GRAMMAR.split_once("Example:").unwrap();
        assert_eq!(parse(example).unwrap().check(), Ok(8));
        for (wrong, why) in [
            ("data 1\ndta 2", "line 2: `dta` is no instruction"),
            ("data 256", "line 1: 256 is no number"),
            ("wait 0x80 0", "line 1: `wait`"),
            ("loop 0", "line 1: loop 1 to"),
        ] {
            assert!(parse(wrong).unwrap_err().starts_with(why), "{wrong}");
        }
    }
}

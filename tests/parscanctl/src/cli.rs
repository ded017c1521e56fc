//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use parscan_client::{IeeeModes, parse_modes};

use crate::{
    complaint::EXIT_CODES,
    program_text::{GRAMMAR, Setting, time},
};

/// Look at and use parallel ports and USB still-image devices.
///
/// Works with the parscan driver, and for what it documents with Windows' own drivers. Devices are
/// found by their interfaces; LPT1 to LPT3 work also while the print spooler runs. No command needs
/// an administrator's rights, except where the device's security descriptor says so.
#[derive(Debug, Parser)]
#[command(name = "parscanctl", bin_name = "parscanctl", version, after_long_help = EXIT_CODES,
    after_help = "`parscanctl --help` lists the exit codes, `parscanctl <COMMAND> --help` has examples.")]
pub(crate) struct Cli {
    /// Print JSON: one object, or one a line where things happen one after another. Errors, too,
    /// then go to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List parallel ports and scanners. Opens none of them
    #[command(after_help = "Examples:\n  parscanctl list\n  parscanctl list --json")]
    List,
    /// Show what a printer's status lines say
    #[command(after_help = "Examples:\n  parscanctl status\n  parscanctl status --port LPT2")]
    Status(PortArg),
    /// Reset a printer and wait until it is ready
    #[command(after_help = "Examples:\n  parscanctl init\n  parscanctl init -p LPT1 --json")]
    Init(PortArg),
    /// Show the IEEE 1284 device ID
    #[command(after_help = "Examples:\n  parscanctl id\n  parscanctl id --raw")]
    Id {
        #[command(flatten)]
        port: PortArg,
        /// Also show all bytes, with the length prefix as the device sent it
        #[arg(long)]
        raw: bool,
    },
    /// Show the IEEE 1284 modes that port and device have
    #[command(after_help = "Examples:\n  parscanctl caps\n  parscanctl caps --exclude ecp,epp")]
    Caps {
        #[command(flatten)]
        port: PortArg,
        /// Modes that must not be tried
        #[arg(long, value_name = "MODES", value_parser = parse_modes)]
        exclude: Option<IeeeModes>,
    },
    /// Show the modes in use, or see which ones a negotiation chooses
    ///
    /// What is chosen here ends with the program: `write` and `read` have --mode.
    #[command(
        after_help = "Modes: centronics, compat, nibble, byte, epp, epp-hw, epp-sw, ecp,\n  \
                      ecp-hw-noirq, ecp-hw-irq, ecp-sw, any, or a mask like 0x0124\n\n\
                      Examples:\n  parscanctl mode\n  parscanctl mode --read byte,nibble --write ecp,epp,centronics"
    )]
    Mode {
        #[command(flatten)]
        port: PortArg,
        /// Modes to choose from for reading
        #[arg(long, value_name = "MODES", value_parser = parse_modes)]
        read: Option<IeeeModes>,
        /// Modes to choose from for writing
        #[arg(long, value_name = "MODES", value_parser = parse_modes)]
        write: Option<IeeeModes>,
    },
    /// Send a file to a port
    #[command(after_help = "Examples:\n  parscanctl write page.pcl\n  \
                            parscanctl write - --port LPT2 --mode ecp,centronics <page.pcl\n  \
                            parscanctl write image.bin --mode epp --address 3 --timeout 10")]
    Write {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        port: PortArg,
        #[command(flatten)]
        transfer: TransferArgs,
    },
    /// Take what a device sends
    ///
    /// Reads until the device has nothing more at the moment; with --timeout, until nothing came
    /// for that long; with --bytes, that many at most.
    #[command(after_help = "Examples:\n  parscanctl read --out answer.bin\n  \
                            parscanctl read --mode ecp --timeout 5 --bytes 4096 --json")]
    Read {
        /// Where to write it to [default: standard output; with --json, into the object]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Stop after this many bytes
        #[arg(long, short = 'n', value_name = "N", value_parser = number::<u64>)]
        bytes: Option<u64>,
        #[command(flatten)]
        port: PortArg,
        #[command(flatten)]
        transfer: TransferArgs,
    },
    /// Show the lines of a port, like a breakout box, until Ctrl-C; or set some
    ///
    /// The levels of the data, control and status lines, again whenever one has changed. Needs the
    /// parscan driver.
    #[command(
        args_conflicts_with_subcommands = false,
        after_help = "Examples:\n  parscanctl lines\n  parscanctl lines --count 1 --json\n  \
                      parscanctl lines set data=0x55 nInit=0"
    )]
    Lines {
        #[command(flatten)]
        port: PortArg,
        /// Stop after this many looks
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        #[command(subcommand)]
        command: Option<Lines>,
    },
    /// Set lines for a moment, timed by the driver
    ///
    /// Data lines are 0 again afterwards, a control line has the other level. Up to 48 us nothing
    /// stretches the pulse. Needs the parscan driver.
    #[command(after_help = "Examples:\n  parscanctl pulse data=1 --width 10us\n  \
                            parscanctl pulse nInit=0 --width 50ms -p LPT2")]
    Pulse {
        /// What is set: `data=VALUE`, or a control line and its level
        #[arg(value_name = "LINE=VALUE")]
        line: Setting,
        /// How long: a number with ns, us, ms or s
        #[arg(long, value_name = "TIME", value_parser = time)]
        width: Duration,
        #[command(flatten)]
        port: PortArg,
    },
    /// Run a program of line accesses, timed by the driver. Needs the parscan driver
    #[command(after_long_help = GRAMMAR,
        after_help = "`parscanctl run --help` has the instructions.\n\n\
                      Example:\n  parscanctl run step.txt --out bytes.bin")]
    Run {
        /// The program; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to write the bytes that it reads [default: shown in hexadecimal]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        port: PortArg,
    },
    /// Wait until nAck (pin 10) rises, and say when it did, until Ctrl-C
    ///
    /// By the port's interrupt: nobody polls. Times are those of the performance counter, taken in
    /// the interrupt. Needs the parscan driver, an interrupt, and `ParscanWaitEdge` = 1 in the
    /// port's hardware key.
    #[command(
        after_help = "Examples:\n  parscanctl wait-edge\n  parscanctl wait-edge --count 1 --timeout 5s\n  \
                      parscanctl wait-edge --count 100 --json"
    )]
    WaitEdge {
        /// Stop after this many edges
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Fail if there is none for this long: a number with ns, us, ms or s
        #[arg(long, value_name = "TIME", value_parser = time)]
        timeout: Option<Duration>,
        #[command(flatten)]
        port: PortArg,
    },
    /// Use a USB still-image device
    #[command(subcommand)]
    Scanner(Scanner),
    /// Say which drivers serve the devices, whether they run, and what to do next
    #[command(after_help = "Examples:\n  parscanctl doctor\n  parscanctl doctor --json")]
    Doctor,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lines {
    /// Set lines; they stay so
    #[command(
        after_help = "Lines: data (a byte), d0 to d7, nStrobe, nAutoFd, nInit, nSelectIn (levels), and\n  \
                      direction (in or out)\n\n\
                      Example:\n  parscanctl lines set data=0x55 nInit=0"
    )]
    Set {
        /// What is set
        #[arg(value_name = "LINE=VALUE", required = true)]
        lines: Vec<Setting>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scanner {
    /// List the scanners. Opens none of them
    #[command(after_help = "Example:\n  parscanctl scanner list")]
    List,
    /// Show the driver's version, the device's makers and its pipes
    #[command(after_help = "Example:\n  parscanctl scanner info -s Usbscan0")]
    Info(ScannerArg),
    /// Read or write the device's registers
    #[command(subcommand)]
    Regs(Registers),
    /// Send a vendor request on the control pipe
    #[command(
        after_help = "Examples:\n  parscanctl scanner request 0x9a --value 1 --in 4\n  \
                            parscanctl scanner request 0x40 --out '01 02'\n  \
                            parscanctl scanner request 0x0c"
    )]
    Request {
        /// bRequest
        #[arg(value_name = "REQUEST", value_parser = number::<u8>)]
        request: u8,
        /// wValue
        #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u16>)]
        value: u16,
        /// wIndex
        #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u16>)]
        index: u16,
        /// Read this many bytes
        #[arg(long = "in", value_name = "N", value_parser = number::<u16>)]
        input: Option<u16>,
        /// Send these bytes, in hexadecimal
        #[arg(long = "out", value_name = "HEX", value_parser = hex_bytes, conflicts_with = "input")]
        output: Option<Bytes>,
        #[command(flatten)]
        scanner: ScannerArg,
    },
    /// Take image data from the bulk IN pipe
    ///
    /// Reads until the device ends its transfer with a short packet, or --bytes are there.
    #[command(after_help = "Examples:\n  parscanctl scanner read --out page.raw\n  \
                            parscanctl scanner read --bytes 0x10000 --timeout 30 --out page.raw")]
    Read {
        /// Where to write it to [default: standard output; with --json, into the object]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Stop after this many bytes
        #[arg(long, short = 'n', value_name = "N", value_parser = number::<u64>)]
        bytes: Option<u64>,
        /// Seconds that a part may take, 214 at most; 0 is for ever [default: the driver's, 120]
        #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=214))]
        timeout: Option<u32>,
        #[command(flatten)]
        scanner: ScannerArg,
    },
    /// Send a file of commands to the bulk OUT pipe
    #[command(after_help = "Example:\n  parscanctl scanner write start.bin")]
    Write {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Seconds that a part may take, 214 at most; 0 is for ever [default: the driver's, 120]
        #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=214))]
        timeout: Option<u32>,
        #[command(flatten)]
        scanner: ScannerArg,
    },
    /// Show the packets of the interrupt pipe, such as buttons, until Ctrl-C
    #[command(after_help = "Examples:\n  parscanctl scanner watch\n  \
                            parscanctl scanner watch --count 1 --json")]
    Watch {
        /// Stop after this many packets
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        #[command(flatten)]
        scanner: ScannerArg,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Registers {
    /// Read registers
    #[command(after_help = "Example:\n  parscanctl scanner regs read 0x10 --length 4")]
    Read {
        /// The first register: wValue
        #[arg(value_name = "OFFSET", value_parser = number::<u16>)]
        offset: u16,
        /// How many bytes
        #[arg(long, value_name = "N", default_value = "1", value_parser = number::<u16>)]
        length: u16,
        /// wIndex
        #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u16>)]
        index: u16,
        #[command(flatten)]
        scanner: ScannerArg,
    },
    /// Write registers
    #[command(after_help = "Example:\n  parscanctl scanner regs write 0x10 '0a ff'")]
    Write {
        /// The first register: wValue
        #[arg(value_name = "OFFSET", value_parser = number::<u16>)]
        offset: u16,
        /// The bytes, in hexadecimal
        #[arg(value_name = "HEX", value_parser = hex_bytes)]
        data: Bytes,
        /// wIndex
        #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u16>)]
        index: u16,
        #[command(flatten)]
        scanner: ScannerArg,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PortArg {
    /// The port: LPT1, or a path as `list --json` shows it [default: the only one]
    #[arg(long, short, value_name = "PORT")]
    pub(crate) port: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ScannerArg {
    /// The scanner: Usbscan0, or a path as `list --json` shows it [default: the only one]
    #[arg(long, short, value_name = "SCANNER")]
    pub(crate) scanner: Option<String>,
    /// Use the pipe of this index in `scanner info` in place of its kind's default
    #[arg(long, value_name = "N")]
    pub(crate) pipe: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Modes to choose from [default: what the driver uses by itself]
    #[arg(long, short, value_name = "MODES", value_parser = parse_modes)]
    pub(crate) mode: Option<IeeeModes>,
    /// The ECP channel or EPP address
    #[arg(long, value_name = "N", value_parser = number::<u8>)]
    pub(crate) address: Option<u8>,
    /// Seconds that a part may take [default: as long as it wants]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Bytes of a part, which is one request to the driver
    #[arg(long, value_name = "N", default_value = "16384", value_parser = chunk)]
    pub(crate) chunk: usize,
}

/// Bytes that were given in hexadecimal. (A type of its own: clap takes a `Vec` for several
/// arguments.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// A number, decimal or hexadecimal after `0x`.
fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = parsed.map_err(|error| error.to_string())?;
    T::try_from(number).map_err(|_| format!("{number} is too large"))
}

/// Bytes of a part: 1 to a mebibyte.
fn chunk(text: &str) -> Result<usize, String> {
    match number(text)? {
        bytes @ 1..=0x10_0000 => Ok(bytes),
        _ => Err("1 to 1048576".to_owned()),
    }
}

/// Seconds, with a fraction; more than 0, and no more than 1000000.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.001..=1_000_000.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "seconds from 0.001 to 1000000".to_owned())
}

/// Bytes in hexadecimal, with or without blanks between them.
fn hex_bytes(text: &str) -> Result<Bytes, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or("hexadecimal digits")?;
    match digits.as_chunks() {
        (_, [_]) => Err("two digits a byte".to_owned()),
        (pairs, _) => Ok(Bytes(
            pairs.iter().map(|[high, low]| high << 4 | low).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers() {
        assert_eq!(number::<u8>("255"), Ok(255));
        assert_eq!(number::<u16>("0xFfFf"), Ok(0xFFFF));
        for wrong in ["256", "0x100", "", "-1", "0x", "1k"] {
            assert!(number::<u8>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(chunk("0x100000"), Ok(1 << 20));
        for wrong in ["0", "1048577", "0x"] {
            assert!(chunk(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_bytes() {
        assert_eq!(hex_bytes("01 aF"), Ok(Bytes(vec![1, 0xAF])));
        assert_eq!(hex_bytes("01af"), Ok(Bytes(vec![1, 0xAF])));
        assert_eq!(hex_bytes(""), Ok(Bytes(Vec::new())));
        for wrong in ["0", "0x01", "gg", "01 2"] {
            assert!(hex_bytes(wrong).is_err(), "{wrong}");
        }
    }
}

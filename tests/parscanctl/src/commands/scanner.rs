use std::time::Duration;

use parscan_client::{
    Condition, Data, Limits, Scanner,
    usbscan::{PipeInformation, RawPipeType, Timeouts},
};
use serde::Serialize;

use crate::{
    Host,
    cli::{self, Registers, ScannerArg},
    complaint::{Complaint, Exit},
    render::{Report, bytes, hex, report, table},
};

use super::{
    list,
    transfer::{End, Target, receive, send},
};

/// Bytes of one `ReadFile` or `WriteFile`: a multiple of every packet size.
const CHUNK: usize = 0x1_0000;

#[derive(Serialize)]
struct Info {
    scanner: String,
    vendor_id: u16,
    product_id: u16,
    /// The device's release in BCD
    release: u16,
    driver_version: [u32; 3],
    /// The largest packets of the pipes in use; 0 where there is none
    packet_sizes: PacketSizes,
    pipes: Vec<PipeLine>,
}

#[derive(Serialize)]
struct PacketSizes {
    interrupt: u32,
    bulk_in: u32,
    bulk_out: u32,
}

#[derive(Serialize)]
struct PipeLine {
    index: usize,
    kind: &'static str,
    direction: &'static str,
    endpoint: u8,
    packet_size: u16,
    interval: u8,
}

/// What came back from a control request.
#[derive(Serialize)]
struct Answer {
    scanner: String,
    bytes: usize,
    data: String,
}

/// What was sent by a control request.
#[derive(Serialize)]
struct Sent {
    scanner: String,
    bytes: usize,
}

#[derive(Serialize)]
struct Event {
    scanner: String,
    /// Since the program began to wait
    seconds: f64,
    data: String,
}

report!(Info);
report!(Answer);
report!(Sent);
report!(Event);

/// `parscanctl scanner …`
pub(super) fn run(command: &cli::Scanner, json: bool, host: &mut Host) -> Result<Exit, Complaint> {
    let report: Box<dyn Report> = match command {
        cli::Scanner::List => Box::new(list::scanners(host)?),
        cli::Scanner::Info(scanner) => Box::new(info(&open(host, scanner)?)?),
        cli::Scanner::Regs(Registers::Read {
            offset,
            length,
            index,
            scanner,
        }) => {
            let scanner = open(host, scanner)?;
            let data = scanner.read_registers(*offset, *index, (*length).into())?;
            Box::new(Answer::new(&scanner, &data))
        }
        cli::Scanner::Regs(Registers::Write {
            offset,
            data,
            index,
            scanner,
        }) => {
            let scanner = open(host, scanner)?;
            scanner.write_registers(*offset, *index, &data.0)?;
            Box::new(Sent::new(&scanner, &data.0))
        }
        cli::Scanner::Request {
            request,
            value,
            index,
            input,
            output,
            scanner,
        } => {
            let scanner = open(host, scanner)?;
            let data = match (input, output) {
                (Some(length), _) => Data::In((*length).into()),
                (None, Some(bytes)) => Data::Out(&bytes.0),
                (None, None) => Data::None,
            };
            let answer = scanner.request(*request, *value, *index, data)?;
            match output {
                Some(bytes) => Box::new(Sent::new(&scanner, &bytes.0)),
                None => Box::new(Answer::new(&scanner, &answer)),
            }
        }
        cli::Scanner::Read {
            out,
            bytes,
            timeout,
            scanner,
        } => {
            let scanner = open_with(host, scanner, *timeout)?;
            let target = Target::new(out.as_deref(), *bytes, json);
            receive(host, scanner.name(), &target, CHUNK, End::Short, |buffer| {
                scanner.read(buffer)
            })?;
            return Ok(Exit::Done);
        }
        cli::Scanner::Write {
            file,
            timeout,
            scanner,
        } => {
            let scanner = open_with(host, scanner, *timeout)?;
            Box::new(send(host, scanner.name(), file, CHUNK, |part| {
                scanner.write(part)
            })?)
        }
        cli::Scanner::Watch { count, scanner } => {
            let scanner = open(host, scanner)?;
            return watch(&scanner, *count, json, host);
        }
    };
    host.print(json, &*report)?;
    Ok(Exit::Done)
}

/// Opens a scanner. Ctrl-C ends its requests.
fn open(host: &Host, argument: &ScannerArg) -> Result<Scanner, Complaint> {
    let mut scanner = Scanner::open_on(host.system, argument.scanner.as_deref(), argument.pipe)?;
    scanner.set_limits(Limits {
        timeout: None,
        cancel: host.cancel.clone(),
    });
    Ok(scanner)
}

/// The same; reads and writes may take so many seconds. Events stay without a limit.
fn open_with(
    host: &Host,
    argument: &ScannerArg,
    timeout: Option<u32>,
) -> Result<Scanner, Complaint> {
    let scanner = open(host, argument)?;
    if let Some(seconds) = timeout {
        scanner.set_timeouts(Timeouts {
            read: seconds,
            write: seconds,
            event: 0,
        })?;
    }
    Ok(scanner)
}

/// Prints packets until there were enough, or Ctrl-C, which is how one ends this.
fn watch(
    scanner: &Scanner,
    count: Option<u64>,
    json: bool,
    host: &mut Host,
) -> Result<Exit, Complaint> {
    let start = (host.clock)();
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let packet = match scanner.wait_event() {
            Err(error)
                if error.condition() == Some(Condition::Cancelled)
                    && host.cancel.is_cancelled() =>
            {
                break;
            }
            packet => packet?,
        };
        let time: Duration = (host.clock)().saturating_sub(start);
        host.print(
            json,
            &Event {
                scanner: scanner.name().to_owned(),
                seconds: time.as_secs_f64(),
                data: hex(&packet),
            },
        )?;
        seen += 1;
    }
    Ok(Exit::Done)
}

fn info(scanner: &Scanner) -> Result<Info, Complaint> {
    let version = scanner.version()?;
    let device = scanner.descriptor()?;
    let sizes = scanner.packet_sizes()?;
    Ok(Info {
        scanner: scanner.name().to_owned(),
        vendor_id: device.vendor_id,
        product_id: device.product_id,
        release: device.bcd_device,
        driver_version: [version.major, version.minor, version.internal],
        packet_sizes: PacketSizes {
            interrupt: sizes.event,
            bulk_in: sizes.read_data,
            bulk_out: sizes.write_data,
        },
        pipes: scanner
            .pipes()?
            .into_iter()
            .enumerate()
            .map(PipeLine::new)
            .collect(),
    })
}

impl PipeLine {
    fn new((index, pipe): (usize, PipeInformation)) -> Self {
        Self {
            index,
            kind: match pipe.pipe_type {
                RawPipeType::CONTROL => "control",
                RawPipeType::ISOCHRONOUS => "isochronous",
                RawPipeType::BULK => "bulk",
                RawPipeType::INTERRUPT => "interrupt",
                _ => "unknown",
            },
            direction: if pipe.endpoint_address & 0x80 == 0 {
                "out"
            } else {
                "in"
            },
            endpoint: pipe.endpoint_address,
            packet_size: pipe.max_packet_size,
            interval: pipe.interval,
        }
    }
}

impl Info {
    fn lines(&self) -> String {
        let [major, minor, internal] = self.driver_version;
        let PacketSizes {
            interrupt,
            bulk_in,
            bulk_out,
        } = self.packet_sizes;
        let mut text = format!(
            "{}: USB\\VID_{:04X}&PID_{:04X}, release {:x}.{:02x}\n  \
             driver   {major}.{minor}.{internal}\n  \
             packets  interrupt {interrupt}, bulk in {bulk_in}, bulk out {bulk_out} bytes\n",
            self.scanner,
            self.vendor_id,
            self.product_id,
            self.release >> 8,
            self.release & 0xFF,
        );
        let rows: Vec<Vec<String>> = self
            .pipes
            .iter()
            .map(|pipe| {
                vec![
                    format!("  pipe {}", pipe.index),
                    format!("{} {}", pipe.kind, pipe.direction),
                    format!("endpoint 0x{:02x}", pipe.endpoint),
                    format!("{} bytes", pipe.packet_size),
                    format!("interval {}", pipe.interval),
                ]
            })
            .collect();
        text.push_str(&table(&rows));
        text
    }
}

impl Answer {
    fn new(scanner: &Scanner, data: &[u8]) -> Self {
        Self {
            scanner: scanner.name().to_owned(),
            bytes: data.len(),
            data: hex(data),
        }
    }

    fn lines(&self) -> String {
        if self.bytes == 0 {
            "no data\n".to_owned()
        } else {
            format!("{}\n", self.data)
        }
    }
}

impl Sent {
    fn new(scanner: &Scanner, data: &[u8]) -> Self {
        Self {
            scanner: scanner.name().to_owned(),
            bytes: data.len(),
        }
    }

    fn lines(&self) -> String {
        format!("{}: sent {}\n", self.scanner, bytes(self.bytes as u64))
    }
}

impl Event {
    fn lines(&self) -> String {
        format!("{:9.3} s  {}\n", self.seconds, self.data)
    }
}

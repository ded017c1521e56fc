//! Files to devices and back, with progress bars and rates.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parscan_client::{Condition, Error, Port};
use serde::Serialize;

use crate::{
    Host,
    cli::TransferArgs,
    complaint::{Complaint, Progress},
    render::{Report, bytes, hex, report},
};

use super::port::negotiate;

/// What was moved.
#[derive(Serialize)]
pub(super) struct Moved {
    device: String,
    bytes: u64,
    seconds: f64,
    /// `null` where it took no time
    bytes_per_second: Option<f64>,
    /// The file that was written
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<String>,
    /// What was read, in hexadecimal, where no file was named
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

report!(Moved);

impl Moved {
    fn new(device: &str, bytes: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        #[allow(
            clippy::cast_precision_loss,
            reason = "a rate needs no more than 52 bits"
        )]
        let rate = bytes as f64 / seconds;
        Self {
            device: device.to_owned(),
            bytes,
            seconds,
            bytes_per_second: (seconds > 0.0).then_some(rate),
            out: None,
            data: None,
        }
    }

    fn lines(&self) -> String {
        let mut text = format!(
            "{}: {} in {:.1} s",
            self.device,
            bytes(self.bytes),
            self.seconds
        );
        if let Some(rate) = self.bytes_per_second {
            let _ = write!(text, ", {rate:.0} bytes/s");
        }
        if let Some(out) = &self.out {
            let _ = write!(text, ", to {out}");
        }
        text.push('\n');
        text
    }
}

/// `parscanctl write`
pub(super) fn write_port(
    host: &mut Host,
    port: &Port,
    file: &Path,
    args: &TransferArgs,
) -> Result<Moved, Complaint> {
    if let Some(modes) = args.mode {
        negotiate(port, None, Some(modes))?;
    }
    if let Some(address) = args.address {
        port.set_write_address(address)?;
    }
    send(host, port.name(), file, args.chunk, |part| port.write(part))
}

/// `parscanctl read`
pub(super) fn read_port(
    host: &mut Host,
    port: &Port,
    target: &Target,
    args: &TransferArgs,
) -> Result<(), Complaint> {
    if let Some(modes) = args.mode {
        negotiate(port, Some(modes), None)?;
    }
    if let Some(address) = args.address {
        port.set_read_address(address)?;
    }
    if let Some(timeout) = args.timeout {
        let mut timeouts = port.timeouts()?;
        timeouts.read_interval = 0;
        timeouts.read_multiplier = 0;
        timeouts.read_constant = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX - 1);
        port.set_timeouts(timeouts)?;
    }
    receive(
        host,
        port.name(),
        target,
        args.chunk,
        End::Nothing,
        |buffer| port.read(buffer),
    )
}

/// Sends a file, or standard input for `-`, in parts.
pub(super) fn send(
    host: &mut Host,
    device: &str,
    file: &Path,
    chunk: usize,
    write: impl Fn(&[u8]) -> Result<usize, Error>,
) -> Result<Moved, Complaint> {
    let name = file.display().to_string();
    let complain = Complaint::file(&name);
    let (mut source, total): (Box<dyn Read + '_>, _) = if name == "-" {
        (Box::new(&mut *host.input), None)
    } else {
        let file = File::open(file).map_err(&complain)?;
        let length = file.metadata().map_err(&complain)?.len();
        (Box::new(file), Some(length))
    };
    let bar = bar(host.progress, total);
    let start = (host.clock)();
    let mut moved = 0;
    let mut buffer = vec![0; chunk];
    loop {
        let length = fill(&mut source, &mut buffer).map_err(&complain)?;
        let mut rest = &buffer[..length];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let outcome = match write(rest) {
                // It would never end.
                Ok(0) => Err(Error::ShortAnswer {
                    request: "WriteFile",
                    bytes: 0,
                }),
                outcome => outcome,
            };
            let count = match &outcome {
                Ok(count) => *count,
                Err(error) => error.transferred(),
            };
            moved += count as u64;
            bar.set_position(moved);
            rest = rest.get(count..).unwrap_or_default();
            if let Err(error) = outcome {
                bar.abandon();
                return Err(Complaint::Device {
                    error,
                    progress: Some(Progress {
                        bytes: moved,
                        total,
                    }),
                });
            }
        }
    }
    bar.finish_and_clear();
    Ok(Moved::new(
        device,
        moved,
        (host.clock)().saturating_sub(start),
    ))
}

/// Reads until the buffer is full or there is no more.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Where what is read goes, and how much is wanted.
pub(super) struct Target {
    file: Option<PathBuf>,
    wanted: Option<u64>,
    json: bool,
}

impl Target {
    pub(super) fn new(file: Option<&Path>, wanted: Option<u64>, json: bool) -> Self {
        Self {
            file: file.map(Path::to_path_buf),
            wanted,
            json,
        }
    }

    /// Whether standard output takes the bytes, so that the report has to go elsewhere.
    fn is_standard_output(&self) -> bool {
        self.file.is_none() && !self.json
    }
}

/// How one sees that a device has no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing comes.
    Nothing,
    /// Less comes than was asked for: a short packet.
    Short,
}

/// Takes what a device sends, in parts, and prints the report: on standard error, if standard
/// output has the bytes.
pub(super) fn receive(
    host: &mut Host,
    device: &str,
    target: &Target,
    chunk: usize,
    end: End,
    read: impl Fn(&mut [u8]) -> Result<usize, Error>,
) -> Result<(), Complaint> {
    let name = target.file.as_ref().map(|path| path.display().to_string());
    let complain = Complaint::file(name.as_deref().unwrap_or("standard output"));
    let mut file = match &target.file {
        Some(path) => Some(File::create(path).map_err(&complain)?),
        None => None,
    };
    let bar = bar(host.progress && !target.is_standard_output(), target.wanted);
    let start = (host.clock)();
    let (mut moved, mut data) = (0, Vec::new());
    let mut buffer = vec![0; chunk];
    let ended = loop {
        let left = target.wanted.map_or(u64::MAX, |wanted| wanted - moved);
        let asked = usize::try_from(left).map_or(chunk, |left| left.min(chunk));
        if asked == 0 {
            break Ok(());
        }
        let outcome = read(&mut buffer[..asked]);
        let count = match &outcome {
            Ok(count) => *count,
            Err(error) => error.transferred(),
        };
        let came = buffer.get(..count.min(asked)).unwrap_or_default();
        match &mut file {
            Some(file) => file.write_all(came).map_err(&complain)?,
            None if target.json => data.extend_from_slice(came),
            None => host.out.write_all(came).map_err(&complain)?,
        }
        moved += came.len() as u64;
        bar.set_position(moved);
        match outcome {
            Err(error) => break Err(error),
            Ok(0) => break Ok(()),
            Ok(count) if end == End::Short && count < asked => break Ok(()),
            Ok(_) => {}
        }
    };
    bar.finish_and_clear();
    host.out.flush().map_err(&complain)?;
    if let Err(error) = ended {
        // With a time-out the device has had its time. That is a failure only if more was asked
        // for.
        let enough = end == End::Nothing
            && error.condition() == Some(Condition::TimedOut)
            && moved > 0
            && target.wanted.is_none();
        if !enough {
            return Err(Complaint::Device {
                error,
                progress: Some(Progress {
                    bytes: moved,
                    total: target.wanted,
                }),
            });
        }
    }
    let mut report = Moved::new(device, moved, (host.clock)().saturating_sub(start));
    report.data = (target.file.is_none() && target.json).then(|| hex(&data));
    report.out = name;
    if target.is_standard_output() {
        host.err.write_all(report.text().as_bytes())?;
        Ok(())
    } else {
        Ok(host.print(target.json, &report)?)
    }
}

/// A progress bar, drawn on standard error or not at all.
fn bar(draw: bool, total: Option<u64>) -> ProgressBar {
    let target = if draw {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} to go",
        ),
        None => (
            ProgressBar::with_draw_target(None, target),
            "{spinner} {bytes}, {binary_bytes_per_sec}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_time() {
        let moved = Moved::new("LPT1", 1, Duration::ZERO);
        assert_eq!(moved.lines(), "LPT1: 1 byte in 0.0 s\n");
        let moved = Moved::new("LPT1", 3000, Duration::from_millis(1500));
        assert_eq!(moved.lines(), "LPT1: 3000 bytes in 1.5 s, 2000 bytes/s\n");
    }
}

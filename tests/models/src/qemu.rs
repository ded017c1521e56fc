//! QEMU's isa-parallel as a [`PortDevice`]: a chip that was written by others.
//!
//! QEMU runs with its processor stopped (`-accel tcg -S`); the accesses come over its qtest
//! protocol (`inb`, `outb` … on standard input and output), and a file takes the place of the
//! printer. What QEMU 7.2 (Debian 12) shows with a file behind the port:
//!
//! - At power-on DATA reads 0xFF, DCR 0xCC (bits 7 and 6 read 1), DSR **0xD9**: ready, with the EPP
//!   time-out bit set although no EPP cycle ran.
//! - nInit low takes effect at once, whatever the length of the pulse: DSR becomes 0xD8. DATA keeps
//!   its value.
//! - A byte goes to the file when nStrobe falls while nInit is high. Busy and nAck then follow the
//!   *reads* of DSR and no clock: the three reads after nStrobe has risen give 0x59 (busy), 0x19
//!   (busy, nAck low) and 0xD9 (ready).
//! - Offsets 3 to 7 and the ECP block read 0xFF. 16-bit accesses are split into bytes; a 32-bit
//!   read at offset 0 gives 0xFFFFFFFF.
//! - Virtual time does not reach it, and it has no view of its lines.
//!
//! The DSR depends on the character device: with a real `/dev/parport` behind it QEMU passes every
//! access on to that port.

use std::{
    env, fmt, fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Nanos, PortDevice, Width};

/// The port's base address in QEMU's machine.
const BASE: u16 = 0x378;
/// The ECP block's distance from the base.
const ECP_BLOCK: u16 = 0x400;
/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Names another QEMU than the one on the path.
const PROGRAM_VARIABLE: &str = "PARSCAN_QEMU";

/// Why QEMU cannot be used.
#[derive(Debug)]
pub enum QemuError {
    /// The program is not there. The text says where it was looked for and how to install it.
    NotInstalled(String),
    /// Starting it or talking to it failed.
    Io(io::Error),
    /// It gave no answer within 20 s.
    NoAnswer(String),
    /// It refused a command, or ended. The text has what it said.
    Refused(String),
}

impl fmt::Display for QemuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(program) => write!(
                f,
                "{program} is not installed (Debian: apt install qemu-system-x86; or set \
                 {PROGRAM_VARIABLE})"
            ),
            Self::Io(error) => write!(f, "talking to QEMU failed: {error}"),
            Self::NoAnswer(command) => write!(f, "QEMU did not answer '{command}'"),
            Self::Refused(text) => write!(f, "QEMU refused: {text}"),
        }
    }
}

impl std::error::Error for QemuError {}

impl From<io::Error> for QemuError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running QEMU with one isa-parallel. Dropping it ends QEMU and removes its files.
pub struct QemuPort {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    files: TempDir,
}

impl QemuPort {
    /// Starts QEMU: `$PARSCAN_QEMU`, or `qemu-system-x86_64` on the path.
    ///
    /// # Errors
    /// [`QemuError::NotInstalled`] when there is no such program; the others when it does not run.
    pub fn start() -> Result<Self, QemuError> {
        let program = env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "qemu-system-x86_64".into());
        Self::start_program(&program)
    }

    fn start_program(program: &str) -> Result<Self, QemuError> {
        let files = tempfile::Builder::new().prefix("parscan-qemu-").tempdir()?;
        // QEMU runs in that folder, so the names of the files need no quoting.
        let mut child = Command::new(program)
            .args(["-machine", "isapc", "-accel", "tcg", "-S"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-m",
                "1",
            ])
            .args(["-chardev", "file,id=printer,path=output"])
            .args([
                "-device",
                &format!("isa-parallel,chardev=printer,iobase={BASE:#x}"),
            ])
            .args(["-qtest", "stdio", "-qtest-log", "none"])
            .args(["-trace", "enable=parallel_ioport_*", "-D", "log"])
            .current_dir(files.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(files.path().join("errors"))?)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => QemuError::NotInstalled(program.into()),
                _ => QemuError::Io(error),
            })?;
        let (commands, output) = child.stdin.take().zip(child.stdout.take()).expect("piped");
        let (sender, answers) = mpsc::channel();
        // A thread of its own, because a read from a pipe knows no time limit. It ends with QEMU.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut port = Self {
            child,
            commands,
            answers,
            files,
        };
        // Wrong options end QEMU before its first answer. This reads a place that no chip decodes.
        port.command("inb 0x80")?;
        Ok(port)
    }

    /// One 8-bit `in` from `port`, an absolute address.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn inb(&mut self, port: u16) -> Result<u8, QemuError> {
        self.input("inb", port).map(|value| value.to_le_bytes()[0])
    }

    /// One 8-bit `out` to `port`, an absolute address.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn outb(&mut self, port: u16, value: u8) -> Result<(), QemuError> {
        self.command(&format!("outb {port:#x} {value:#x}"))
            .map(drop)
    }

    /// QEMU's own log of the accesses that its chip saw, oldest first, such as
    /// `parallel_ioport_write write [SW] addr 0x02 val 0x0c`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn trace_lines(&self) -> io::Result<Vec<String>> {
        let log = fs::read_to_string(self.files.path().join("log"))?;
        Ok(log.lines().map(Into::into).collect())
    }

    /// What the chip sent to its printer.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn output(&self) -> io::Result<Vec<u8>> {
        fs::read(self.files.path().join("output"))
    }

    fn input(&mut self, instruction: &str, port: u16) -> Result<u32, QemuError> {
        let command = format!("{instruction} {port:#x}");
        let answer = self.command(&command)?;
        let value = answer
            .strip_prefix("0x")
            .map(|hex| u32::from_str_radix(hex, 16));
        match value {
            Some(Ok(value)) => Ok(value),
            _ => Err(QemuError::Refused(format!("'{command}' gave '{answer}'"))),
        }
    }

    /// Sends one qtest command and returns what follows OK in the answer.
    fn command(&mut self, command: &str) -> Result<String, QemuError> {
        // A broken pipe means that QEMU ended; the missing answer tells why.
        let sent = writeln!(self.commands, "{command}");
        loop {
            let line = match self.answers.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(QemuError::NoAnswer(command.into()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            };
            sent.as_ref()
                .map_err(|error| io::Error::from(error.kind()))?;
            if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().into());
            }
            // Lines that begin with IRQ come unasked.
            if !line.starts_with("IRQ") {
                return Err(QemuError::Refused(format!("'{command}': {line}")));
            }
        }
    }

    fn ended(&mut self) -> QemuError {
        let errors = fs::read_to_string(self.files.path().join("errors")).unwrap_or_default();
        QemuError::Refused(format!("it ended: {}", errors.trim()))
    }
}

/// Where an access goes in QEMU's I/O space; `None` beyond its end.
fn address(block: usize, offset: u16) -> Option<u16> {
    let base = match block {
        0 => BASE,
        1 => BASE + ECP_BLOCK,
        _ => return None,
    };
    base.checked_add(offset)
}

impl PortDevice for QemuPort {
    /// # Panics
    /// When QEMU does not answer.
    fn read(&mut self, _now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
        let Some(port) = address(block, offset) else {
            return width.floating();
        };
        let instruction = match width {
            Width::Byte => "inb",
            Width::Word => "inw",
            Width::Dword => "inl",
        };
        match self.input(instruction, port) {
            Ok(value) => value & width.floating(),
            Err(error) => panic!("{error}"),
        }
    }

    /// # Panics
    /// When QEMU does not answer.
    fn write(&mut self, _now: Nanos, block: usize, offset: u16, width: Width, value: u32) {
        let Some(port) = address(block, offset) else {
            return;
        };
        let instruction = match width {
            Width::Byte => "outb",
            Width::Word => "outw",
            Width::Dword => "outl",
        };
        let value = value & width.floating();
        if let Err(error) = self.command(&format!("{instruction} {port:#x} {value:#x}")) {
            panic!("{error}");
        }
    }
}

impl Drop for QemuPort {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Printer, Spp};

    /// `None`, with the reason printed, where QEMU is not installed.
    fn start() -> Option<QemuPort> {
        match QemuPort::start() {
            Ok(port) => Some(port),
            Err(error @ QemuError::NotInstalled(_)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn read(port: &mut QemuPort, offset: u16) -> u32 {
        port.read(0, 0, offset, Width::Byte)
    }

    fn write(port: &mut QemuPort, offset: u16, value: u32) {
        port.write(0, 0, offset, Width::Byte, value);
    }

    #[test]
    fn power_on_is_as_documented() {
        let Some(mut port) = start() else { return };
        assert_eq!(
            [0, 1, 2].map(|offset| read(&mut port, offset)),
            [0xFF, 0xD9, 0xCC]
        );
        for offset in 3..8 {
            assert_eq!(read(&mut port, offset), 0xFF);
        }
        assert_eq!(port.read(0, 1, 2, Width::Byte), 0xFF);
        assert_eq!(port.read(0, 2, 0, Width::Byte), 0xFF);
        assert_eq!(port.read(0, 0, 0, Width::Word), 0xD9FF);
        assert_eq!(port.read(0, 0, 0, Width::Dword), 0xFFFF_FFFF);
        assert!(port.trace().is_none());
    }

    #[test]
    fn a_byte_reaches_the_file() {
        let Some(mut port) = start() else { return };
        write(&mut port, 0, 0x41);
        write(&mut port, 2, 0x0C);
        assert_eq!(port.output().unwrap(), b"");
        write(&mut port, 2, 0x0D);
        assert_eq!(port.output().unwrap(), b"A");
        write(&mut port, 2, 0x0C);
        assert_eq!(port.output().unwrap(), b"A");
        // Busy, then nAck low with Busy, then ready: one step for each read.
        let status = [(); 4].map(|()| read(&mut port, 1));
        assert_eq!(status, [0x59, 0x19, 0xD9, 0xD9]);
        assert_eq!(
            port.trace_lines().unwrap()[..4],
            [
                "parallel_ioport_write write [SW] addr 0x00 val 0x41",
                "parallel_ioport_write write [SW] addr 0x02 val 0x0c",
                "parallel_ioport_write write [SW] addr 0x02 val 0x0d",
                "parallel_ioport_write write [SW] addr 0x02 val 0x0c",
            ]
        );
    }

    #[test]
    fn a_reset_is_seen_at_once() {
        let Some(mut port) = start() else { return };
        write(&mut port, 0, 0x41);
        write(&mut port, 2, 0x08);
        assert_eq!(read(&mut port, 2), 0xC8);
        assert_eq!(read(&mut port, 1), 0xD8);
        assert_eq!(read(&mut port, 0), 0x41);
        write(&mut port, 2, 0x0C);
        assert_eq!(read(&mut port, 1), 0xD8);
        assert_eq!(port.inb(BASE + 2).unwrap(), 0xCC);
        port.outb(BASE, 0x55).unwrap();
        assert_eq!(read(&mut port, 0), 0x55);
    }

    /// Where the two chips must agree: DATA, DCR's bits and the ready status.
    #[test]
    fn our_chip_agrees_with_qemu() {
        let Some(mut qemu) = start() else { return };
        let mut ours = Spp::new(Box::new(Printer::new()));
        for (now, value) in (0..).step_by(1_000_000_000).zip(0..=0xFF) {
            for chip in [&mut qemu as &mut dyn PortDevice, &mut ours] {
                chip.write(now, 0, 0, Width::Byte, value);
                assert_eq!(chip.read(now, 0, 0, Width::Byte), value);
                // Without nStrobe and without the direction bit: nothing is printed or turned round.
                let dcr = value & 0x1E;
                chip.write(now, 0, 2, Width::Byte, dcr);
                assert_eq!(chip.read(now, 0, 2, Width::Byte), dcr | 0xC0);
                chip.write(now + 1_000_000, 0, 2, Width::Byte, 0x0C);
            }
        }
        let now = 300_000_000_000;
        assert_eq!(qemu.read(now, 0, 1, Width::Byte) & 0xF8, 0xD8);
        assert_eq!(ours.read(now, 0, 1, Width::Byte) & 0xF8, 0xD8);
        assert_eq!(qemu.output().unwrap(), b"");
    }

    #[test]
    fn dropping_ends_qemu_and_removes_its_files() {
        let Some(port) = start() else { return };
        let process = format!("/proc/{}", port.child.id());
        let folder = port.files.path().to_owned();
        assert!(fs::exists(&process).unwrap() && folder.exists());
        drop(port);
        assert!(!fs::exists(&process).unwrap() && !folder.exists());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = QemuPort::start_program("/nowhere/qemu").err().unwrap();
        assert!(matches!(error, QemuError::NotInstalled(_)));
        assert!(error.to_string().contains("/nowhere/qemu"), "{error}");
        assert!(error.to_string().contains("apt install"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_qemu_is_an_error() {
        let error = QemuPort::start_program("true").err().unwrap();
        assert!(error.to_string().contains("it ended"), "{error}");
    }
}

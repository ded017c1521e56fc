//! The other hand of the tests in Wine: installs drivers as `pnputil` and `devcon` do, which Wine
//! does not have, tells the simulated devices what to do, and makes the requests that parscanctl
//! does not make.
//!
//! | command | what it does |
//! |---|---|
//! | `root INF ID` | makes a root device with this hardware ID and installs a driver on it |
//! | `device INF INSTANCE ID` | makes a device known before it is plugged in, and installs a driver on it: Wine cannot install one whose file is in use |
//! | `add INF` | puts an INF among those that Windows looks through for a new device |
//! | `update INF ID` | installs a driver on the devices with this hardware ID |
//! | `do COMMAND` | a command of the simulated devices (`tests/wine/bus`), and its answer |
//! | `wait port`, `wait port2`, `wait scanner`, `wait-gone …` | until parscanctl can find a device of this kind, or no more |
//! | `printed FILE`, `printed FILE N` | whether the printer got these bytes, or the first N of them, and no more |
//! | `driven PORT FILE` | whether these bytes were written to a port's data register, and no more |
//! | `feed FILE` | lets the scanner send a file as image data |
//! | `written FILE` | whether the scanner got these bytes on its bulk pipe |
//! | `grown FILE N` | until a file has N bytes |
//! | `same FILE FILE` | whether two files have the same bytes |
//! | `cancel FILE` | prints a file, and cancels that once the printer has got some of it |
//! | `bad-pointer` | writes registers from memory, and from where there is none |
#![cfg_attr(not(windows), forbid(unsafe_code))]

#[cfg(windows)]
mod windows;
#[cfg(not(windows))]
#[path = "other.rs"]
mod windows;

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use parscan_client::{
    Cancel, InterfaceClass, Limits, Native, Port, System, Transport, list, usbscan,
};

/// `CTL_CODE(0x8000, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`: a command of the simulated devices.
const COMMAND: u32 = 0x8000_2000;
/// The longest answer to one command that is taken.
const ANSWER: usize = 0x10_0000;
/// Bytes of image data that are queued at once: whole packets.
const PART: usize = 0x1000;
/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(text) => {
            if !text.is_empty() {
                println!("{}", text.trim_end());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command and gives what it says.
fn run(words: &[&str]) -> Result<String> {
    let silent = String::new();
    Ok(match words {
        ["root", inf, id] => windows::root(inf, id).map(|()| silent)?,
        ["device", inf, instance, id] => windows::device(inf, instance, id).map(|()| silent)?,
        ["add", inf] => windows::add(inf)?,
        ["update", inf, id] => windows::update(inf, id).map(|()| silent)?,
        ["do", command @ ..] => {
            let answer = Bench::open()?.command(&command.join(" "))?;
            String::from_utf8_lossy(&answer).into_owned()
        }
        ["wait", name] => wait(name, true).map(|()| silent)?,
        ["wait-gone", name] => wait(name, false).map(|()| silent)?,
        ["printed", file] => printed(&read(file)?, file)?,
        ["printed", file, count] => {
            let page = read(file)?;
            let part = page.get(..count.parse()?).ok_or("the file is shorter")?;
            printed(part, file)?
        }
        ["driven", port, file] => {
            let data = Bench::open()?.command(&format!("data {port}"))?;
            compare(&data, &read(file)?, file)?
        }
        ["feed", file] => feed(file).map(|()| silent)?,
        ["written", file] => {
            let written = Bench::open()?.command("scanner written 0x02")?;
            compare(&written, &read(file)?, file)?
        }
        ["grown", file, length] => {
            let length = length.parse()?;
            until(|| Ok(fs::metadata(file).is_ok_and(|data| data.len() >= length)))?
                .then_some(silent)
                .ok_or("it has not")?
        }
        ["same", one, other] => same(one, other)?,
        ["cancel", file] => cancel(file)?,
        ["bad-pointer"] => bad_pointer()?,
        _ => return Err(format!("there is no command {words:?}").into()),
    })
}

/// The simulated devices.
struct Bench(Box<dyn Transport>);

impl Bench {
    fn open() -> Result<Self> {
        Ok(Self(Native.open(r"\\.\ParscanBench")?))
    }

    fn command(&self, line: &str) -> Result<Vec<u8>> {
        let mut answer = vec![0; ANSWER];
        let length = self
            .0
            .control(COMMAND, line.as_bytes(), &mut answer, &Limits::default())
            .map_err(|failure| format!("{line}: {failure}"))?;
        answer.truncate(length);
        Ok(answer)
    }

    /// What the printer has got, once it is `length` bytes or no more come.
    fn printed(&self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        until(|| {
            bytes.extend(self.command("printed")?);
            Ok(bytes.len() >= length)
        })?;
        Ok(bytes)
    }
}

fn read(file: &str) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| format!("{file}: {error}").into())
}

/// Waits until something is so. False if it does not become so.
fn until(mut so: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    while !so()? {
        if start.elapsed() > PATIENCE {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
    Ok(true)
}

/// Waits until there is a device of this kind (a second port), or none.
fn wait(kind: &str, there: bool) -> Result<()> {
    let (class, number) = match kind {
        "port" => (InterfaceClass::ParallelDevice, 1),
        "port2" => (InterfaceClass::ParallelDevice, 2),
        "scanner" => (InterfaceClass::Image, 1),
        _ => return Err("port, port2 or scanner".into()),
    };
    if until(|| Ok((list(&Native, class)?.len() >= number) == there))? {
        return Ok(());
    }
    let state = if there { "not there" } else { "still there" };
    Err(format!("the {kind} is {state}").into())
}

/// How one run of bytes differs from another.
fn compare(found: &[u8], wanted: &[u8], name: &str) -> Result<String> {
    if found == wanted {
        return Ok(format!("{} bytes, as in {name}", found.len()));
    }
    let same = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    Err(format!(
        "{} bytes, expected {} of {name}; the first {same} are the same",
        found.len(),
        wanted.len()
    )
    .into())
}

/// Waits until the printer has got as many bytes, and compares them.
fn printed(wanted: &[u8], name: &str) -> Result<String> {
    compare(&Bench::open()?.printed(wanted.len())?, wanted, name)
}

/// Queues a file on the scanner's bulk IN endpoint.
fn feed(file: &str) -> Result<()> {
    let bench = Bench::open()?;
    for part in read(file)?.chunks(PART) {
        let mut line = "scanner send 0x81 ".to_owned();
        for byte in part {
            write!(line, "{byte:02x}")?;
        }
        bench.command(&line)?;
    }
    Ok(())
}

fn same(one: &str, other: &str) -> Result<String> {
    compare(&read(one)?, &read(other)?, other)
}

/// Prints a file in one request, and cancels it from another thread when some of it has arrived.
fn cancel(file: &str) -> Result<String> {
    let bytes = read(file)?;
    let bench = Bench::open()?;
    let mut port = Port::open(None)?;
    let cancel = Cancel::default();
    port.set_limits(Limits {
        timeout: None,
        cancel: cancel.clone(),
    });
    let writer = thread::spawn(move || {
        let outcome = port.write(&bytes);
        (outcome, bytes)
    });
    let mut arrived = bench.printed(1)?;
    cancel.cancel();
    let (outcome, bytes) = writer.join().map_err(|_| "the writer has panicked")?;
    let error = outcome
        .err()
        .ok_or("all of it was printed before it was cancelled")?;
    arrived.extend(bench.printed(0)?);
    if arrived.is_empty() {
        return Err(format!("nothing was printed: {error}").into());
    }
    if arrived.len() != error.transferred() {
        return Err(format!(
            "{} bytes arrived, but {} are told: {error}",
            arrived.len(),
            error.transferred()
        )
        .into());
    }
    compare(&arrived, &bytes[..arrived.len()], file)?;
    Ok(format!("{error}\nas many bytes arrived as are told"))
}

/// Writes registers with a `pbyData` of every kind, which the driver reads in this program's
/// memory.
fn bad_pointer() -> Result<String> {
    let scanners = list(&Native, InterfaceClass::Image)?;
    let [scanner] = scanners.as_slice() else {
        return Err(format!("{} scanners", scanners.len()).into());
    };
    let device = Native.open(&scanner.path)?;
    let page = [0xB0u8, 0xB1, 0xB2, 0xB3];
    let memory = page.as_ptr().expose_provenance() as u64;
    let mut lines = Vec::new();
    for (name, pointer) in [
        ("memory", memory),
        ("null", 0),
        ("no memory", 0x1000),
        ("the end of what programs can have", 0x7FFF_FFFF_FFFE),
        ("the kernel's half", 0xFFFF_8000_0000_1000),
        ("no address", 0x8000_0000_0000_0000),
    ] {
        // IO_BLOCK: offset, length, pbyData, index, and its padding.
        let mut block = Vec::new();
        block.extend(0x10u32.to_le_bytes());
        block.extend(4u32.to_le_bytes());
        block.extend(pointer.to_le_bytes());
        block.extend([0; 8]);
        let request = usbscan::IOCTL_WRITE_REGISTERS;
        let outcome = match device.control(request, &block, &mut [], &Limits::default()) {
            Ok(_) => "done".to_owned(),
            Err(failure) => failure.to_string(),
        };
        lines.push(format!("{name}: {outcome}"));
    }
    Ok(lines.join("\n"))
}

//! How the transcript looks.

use anstream::println;
use anstyle::{AnsiColor, Style};
use ntsim::{IoResult, Machine, NtStatus};
use parscan_tests::{MS, US, assert_nothing_left, driver_image, ntddpar};

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const ERROR: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

/// A headline with space above.
pub(crate) fn title(text: &str) {
    println!("\n{TITLE}{text}{TITLE:#}\n");
}

/// A line of small print.
pub(crate) fn note(text: &str) {
    println!("  {DIM}{text}{DIM:#}");
}

/// A table or diagram.
pub(crate) fn indented(text: &str) {
    for line in text.lines() {
        println!("{}", format!("  {line}").trim_end());
    }
}

/// A status with its colour, name and value, padded for a table.
pub(crate) fn status(status: NtStatus) -> String {
    let style = match status.0 >> 30 {
        0 | 1 => GOOD,
        2 => WARNING,
        _ => ERROR,
    };
    let name = status
        .name()
        .map_or_else(String::new, |name| format!("STATUS_{name}"));
    format!("{style}{name:<28}{style:#} 0x{:08X}", status.0)
}

/// A duration of virtual time, with the unit that suits it.
pub(crate) fn duration(nanoseconds: u64) -> String {
    if nanoseconds >= 10_000 * MS {
        format!("{} s", nanoseconds / (1000 * MS))
    } else if nanoseconds >= 10 * MS {
        format!("{} ms", nanoseconds / MS)
    } else if nanoseconds >= 10 * US {
        format!("{} us", nanoseconds / US)
    } else {
        format!("{nanoseconds} ns")
    }
}

/// A line of a table: how a request ended.
pub(crate) fn result(what: &str, result: &IoResult) {
    println!(
        "  {what:<13} {} {:<5} {}",
        status(result.status),
        result.information,
        duration(result.took)
    );
}

/// The names of `PAR_QUERY_INFORMATION` flags.
pub(crate) fn flags(flags: u8) -> String {
    let names: Vec<_> = ntddpar::FLAGS
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| *name)
        .collect();
    names.join(" ")
}

/// What was loaded and what Windows made of it.
pub(crate) fn machine(machine: &Machine, hardware: &str) {
    let image = driver_image();
    let size = std::fs::metadata(&image).map_or(0, |file| file.len());
    let image = image.canonicalize().unwrap_or(image);
    let shown = std::env::current_dir()
        .ok()
        .and_then(|here| {
            image
                .strip_prefix(here)
                .ok()
                .map(std::path::Path::to_path_buf)
        })
        .unwrap_or(image);
    title("A PC with parscan.sys, the file that Windows would load");
    println!("  image    {} ({size} bytes)", shown.display());
    println!("  hardware {hardware}");
    for device in machine.devices() {
        let Some(name) = device.name.filter(|_| is_parscan(&device.driver)) else {
            continue;
        };
        let links = machine.links();
        let link = links.iter().find(|(_, target)| *target == name);
        let link = link.map_or(String::new(), |(link, _)| {
            format!(r"  = \\.\{}", link.rsplit('\\').next().unwrap_or(link))
        });
        println!("  device   {name}{link}, service {}", device.driver);
    }
}

/// Whether the driver of a device object is parscan, by its service.
fn is_parscan(driver: &str) -> bool {
    ["ParscanPort", "ParscanScan"].contains(&driver)
}

/// The end: everything went, and what it took.
pub(crate) fn goodbye(machine: &Machine, what: &str) {
    let times = machine.times();
    title(&format!("The {what} is removed and the driver unloaded"));
    assert_nothing_left(machine);
    println!(
        "  left: {} devices, {} links, {} threads, {} IRPs; every rule of the simulated kernel held",
        machine
            .devices()
            .iter()
            .filter(|device| is_parscan(&device.driver))
            .count(),
        machine.links().len(),
        machine.threads(),
        machine.live_irps()
    );
    println!(
        "  simulated time {}, of which the processor worked {}; {} port accesses, {} URBs",
        duration(times.now),
        duration(times.cpu),
        times.port_accesses,
        machine.urb_count()
    );
}

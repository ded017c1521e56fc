//! The bench: `cargo xtask bench`.
//!
//! What a transfer costs, counted by the simulated machine: the numbers are exact, and the same on
//! every host. The real driver image does the transfers.

mod image;
mod loops;
mod requests;
mod run;
mod scale;
mod sheet;
mod trigger;

use std::{fs, process::ExitCode};

use clap::Parser;
use parscan_models::Nanos;
use parscan_tests::{
    US, driver_image,
    modes::Chip::{self, Ecp, Epp, Ps2, Spp},
    ntddpar::modes,
};

use requests::Meter;
use run::{Cost, Transfer, Way};
use sheet::Sheet;

/// Counts what a byte costs in every mode: port accesses, and processor time; and the driver's
/// instructions of a trigger.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    /// Print one JSON object a line, and no table.
    #[arg(long)]
    json: bool,
    /// Measure what tests/parscan-tests/costs.txt has, and compare; write nothing.
    #[arg(long)]
    check: bool,
    /// Only the cost sheet: print it, with the functions of the rows whose name has this in it, and
    /// write nothing.
    #[arg(long, value_name = "ROW")]
    profile: Option<String>,
}

/// One line of the table of port accesses.
struct Row {
    name: &'static str,
    mode: u16,
    chip: Chip,
    way: Way,
    epp_32: bool,
    kib: usize,
    /// Accesses a byte that the protocol needs at least.
    floor: f64,
    /// What Linux (`parport_pc`) was measured to need.
    peer: Option<f64>,
    /// What this driver must reach.
    limit: f64,
}

const ROW: Row = Row {
    name: "",
    mode: 0,
    chip: Spp,
    way: Way::Write,
    epp_32: false,
    kib: 256,
    floor: 0.0,
    peer: None,
    limit: 0.0,
};

/// Every mode. The floors: SPP, a look at Busy, the byte, nStrobe low, nStrobe high; nibble, twice
/// nAutoFd low, nibble, nAutoFd high, nAck; byte, nAutoFd low, nAck, the byte, nAutoFd high, nAck,
/// and the strobe; EPP and ECP by software, the byte, a strobe and its answer, both ways.
const ROWS: [Row; 15] = [
    Row {
        name: "SPP",
        mode: modes::CENTRONICS,
        floor: 4.0,
        peer: Some(4.0006),
        limit: 4.01,
        ..ROW
    },
    Row {
        name: "fast Centronics",
        mode: modes::IEEE_COMPATIBILITY,
        chip: Ecp,
        floor: 1.0,
        limit: 1.2,
        ..ROW
    },
    Row {
        name: "nibble",
        mode: modes::NIBBLE,
        way: Way::Read,
        floor: 8.0,
        peer: Some(11.0),
        limit: 8.1,
        ..ROW
    },
    Row {
        name: "byte",
        mode: modes::BYTE_BIDIR,
        chip: Ps2,
        way: Way::Read,
        floor: 7.0,
        peer: Some(9.0),
        limit: 7.1,
        ..ROW
    },
    Row {
        name: "EPP, 8 bits",
        mode: modes::EPP_HW,
        chip: Epp,
        floor: 1.0,
        peer: Some(2.0),
        limit: 1.05,
        ..ROW
    },
    Row {
        name: "EPP, 8 bits",
        mode: modes::EPP_HW,
        chip: Epp,
        way: Way::Read,
        floor: 1.0,
        limit: 1.05,
        ..ROW
    },
    Row {
        name: "EPP, 32 bits",
        mode: modes::EPP_HW,
        chip: Epp,
        epp_32: true,
        floor: 0.25,
        peer: Some(0.25),
        limit: 0.30,
        ..ROW
    },
    Row {
        name: "EPP, 32 bits",
        mode: modes::EPP_HW,
        chip: Epp,
        way: Way::Read,
        epp_32: true,
        floor: 0.25,
        limit: 0.30,
        ..ROW
    },
    Row {
        name: "ECP by FIFO",
        mode: modes::ECP_HW_NOIRQ,
        chip: Ecp,
        floor: 1.0,
        limit: 1.2,
        ..ROW
    },
    Row {
        name: "ECP by FIFO",
        mode: modes::ECP_HW_NOIRQ,
        chip: Ecp,
        way: Way::Read,
        floor: 1.0,
        limit: 1.2,
        ..ROW
    },
    Row {
        name: "EPP by software",
        mode: modes::EPP_SW,
        chip: Ps2,
        kib: 64,
        floor: 5.0,
        limit: 5.1,
        ..ROW
    },
    Row {
        name: "EPP by software",
        mode: modes::EPP_SW,
        chip: Ps2,
        way: Way::Read,
        kib: 64,
        floor: 5.0,
        limit: 5.1,
        ..ROW
    },
    Row {
        name: "ECP by software",
        mode: modes::ECP_SW,
        chip: Ps2,
        kib: 64,
        floor: 5.0,
        limit: 5.1,
        ..ROW
    },
    Row {
        name: "ECP by software",
        mode: modes::ECP_SW,
        chip: Ps2,
        way: Way::Read,
        kib: 64,
        floor: 5.0,
        limit: 5.1,
        ..ROW
    },
    Row {
        name: "SPP, on an ECP chip",
        mode: modes::CENTRONICS,
        chip: Ecp,
        floor: 4.0,
        limit: 4.01,
        ..ROW
    },
];

/// What an access takes on ISA, and on PCI Express.
const SLOW_ACCESS: Nanos = US;
const FAST_ACCESS: Nanos = 100;
/// How much is transferred on the latter.
const FAST_BYTES: usize = 32 << 10;

/// What a slow peripheral takes for a byte.
const SLOW: Nanos = 50 * US;
/// How much it gets.
const SLOW_BYTES: usize = 16 << 10;
/// The modes that it has: not EPP, in which a byte must not take longer than 10 us.
const SLOW_ROWS: [(&str, u16, Chip, Way); 6] = [
    ("SPP", modes::CENTRONICS, Spp, Way::Write),
    (
        "fast Centronics",
        modes::IEEE_COMPATIBILITY,
        Ecp,
        Way::Write,
    ),
    ("nibble", modes::NIBBLE, Spp, Way::Read),
    ("byte", modes::BYTE_BIDIR, Ps2, Way::Read),
    ("ECP by FIFO", modes::ECP_HW_NOIRQ, Ecp, Way::Write),
    ("ECP by FIFO", modes::ECP_HW_NOIRQ, Ecp, Way::Read),
];

fn main() -> ExitCode {
    let Cli {
        json,
        check,
        profile,
    } = Cli::parse();
    if check || profile.is_some() {
        return costs(check, profile);
    }
    if !json {
        println!(
            "Port accesses a byte, peripheral always ready. Counted with negotiation and \
             termination. And nanoseconds a byte on a port that takes {FAST_ACCESS} ns an \
             access.\n"
        );
        println!(
            "  {:<20} {:<6} {:<6} {:>7} {:>9} {:>7} {:>8} {:>7} {:>8}",
            "mode", "chip", "", "amount", "accesses", "floor", "Linux", "limit", "ns, fast"
        );
    }
    let mut missed = 0;
    for row in &ROWS {
        missed += u32::from(!accesses(row, json));
    }
    if !json {
        println!(
            "\n  Linux: parport_pc, measured; its 0.25 is a mode that does not check for time-outs.\n\n\
             Processor time with a peripheral that takes {} us a byte, {} KiB.\n",
            SLOW / US,
            SLOW_BYTES >> 10
        );
        println!(
            "  {:<20} {:<6} {:<6} {:>9} {:>10} {:>12}",
            "mode", "chip", "", "us/byte", "processor", "of it stalls"
        );
    }
    for (name, mode, chip, way) in SLOW_ROWS {
        processor(name, mode, chip, way, json);
    }
    missed += trigger::print(json);
    let sheet = measure(None);
    if json {
        sheet.print_lines(line);
    } else {
        println!("\n{}", sheet.text());
        if let Err(error) = sheet.write() {
            eprintln!("cannot write {}: {error}", Sheet::path().display());
            return ExitCode::FAILURE;
        }
    }
    if missed == 0 {
        if !json {
            println!(
                "\nEvery limit is kept. Written: {}",
                Sheet::path().display()
            );
        }
        return ExitCode::SUCCESS;
    }
    eprintln!("{missed} rows miss their limit");
    ExitCode::FAILURE
}

/// The cost sheet, measured.
fn measure(profile: Option<String>) -> Sheet {
    let image = driver_image();
    let mut sheet = Sheet::default();
    Meter::new(&image, profile).measure(&mut sheet);
    sheet.tables.extend(image::sizes(&image));
    sheet
}

/// Measures the cost sheet, and compares it with the file or prints it.
fn costs(check: bool, profile: Option<String>) -> ExitCode {
    let sheet = measure(profile);
    if !check {
        println!("{}", sheet.text());
        return ExitCode::SUCCESS;
    }
    let path = Sheet::path();
    let file = match fs::read_to_string(&path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("cannot read {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let mut worse = sheet.worse_than(&file);
    let loops = fs::read_to_string(Sheet::loops_path()).unwrap_or_default();
    if loops != sheet.loops_text() {
        let path = Sheet::loops_path();
        worse.push(format!("{} shows other instructions", path.display()));
    }
    for row in &worse {
        eprintln!("{row}");
    }
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "{} counts are worse than in {} by more than 1 %, or not in it. If that is meant, `cargo xtask bench` \
         writes the new ones.",
        worse.len(),
        path.display()
    );
    ExitCode::FAILURE
}

/// Measures and prints one row. True if it is within its limit.
fn accesses(row: &Row, json: bool) -> bool {
    let bytes = row.kib << 10;
    let transfer = Transfer {
        mode: row.mode,
        chip: row.chip,
        way: row.way,
        epp_32: row.epp_32,
        bytes,
        byte_time: 0,
        access: SLOW_ACCESS,
    };
    let fast = Transfer {
        bytes: FAST_BYTES,
        access: FAST_ACCESS,
        ..transfer
    };
    let fast = Cost::a_byte(fast.cost().time, FAST_BYTES);
    let value = transfer.cost().accesses_a_byte(bytes);
    let good = value <= row.limit;
    if json {
        line(
            "port-accesses",
            &format!("{} {}", row.name, row.way.name()),
            "accesses/byte",
            value,
            Some(row.floor),
            row.peer,
        );
        line(
            "fast-port",
            &format!("{} {}", row.name, row.way.name()),
            "ns/byte",
            fast,
            None,
            None,
        );
    } else {
        println!(
            "  {:<20} {:<6} {:<6} {:>3} KiB {value:>9.4} {:>7.2} {:>8} {:>7.2} {fast:>8.0}{}",
            row.name,
            format!("{:?}", row.chip),
            row.way.name(),
            row.kib,
            row.floor,
            row.peer.map_or("-".into(), |peer| format!("{peer:.4}")),
            row.limit,
            if good { "" } else { "  MISSED" }
        );
    }
    good
}

/// Measures and prints the processor time of a slow transfer.
fn processor(name: &str, mode: u16, chip: Chip, way: Way, json: bool) {
    let transfer = Transfer {
        mode,
        chip,
        way,
        epp_32: false,
        bytes: SLOW_BYTES,
        byte_time: SLOW,
        access: SLOW_ACCESS,
    };
    let cost = transfer.cost();
    let (cpu, stalled) = (cost.share(cost.cpu), cost.share(cost.stalled));
    if json {
        let row = format!("{name} {}", way.name());
        line("cpu-share", &row, "%", cpu, None, None);
        let row = format!("{row}, stalled");
        line("cpu-share", &row, "%", stalled, None, None);
    } else {
        println!(
            "  {name:<20} {:<6} {:<6} {:>9.1} {cpu:>8.1} % {stalled:>10.1} %",
            format!("{chip:?}"),
            way.name(),
            Cost::a_byte(cost.time, SLOW_BYTES) / 1000.0,
        );
    }
}

/// One line of JSON.
fn line(topic: &str, row: &str, unit: &str, value: f64, floor: Option<f64>, peer: Option<f64>) {
    let value = serde_json::json!({
        "topic": topic,
        "row": row,
        "unit": unit,
        "value": value,
        "floor": floor,
        "peer": peer,
    });
    println!("{value}");
}

//! The program's options, its sessions side by side, and what it prints.

use std::{process::ExitCode, time::Instant};

use anstream::println;
use anstyle::{AnsiColor, Style};
use clap::Parser;
use ntsim::Coverage;
use parscan_tests::{driver_image, fork, symbols::Symbols};

use super::{
    counters::{self, Counter},
    life, session,
};

/// Seconds of real time for a process: the driver may spin without a kernel call.
const PATIENCE: u32 = 120;

/// Programs, devices and the system do what they should not.
#[derive(Parser)]
struct Options {
    /// How many requests.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    requests: u64,
    /// The seed of the first session.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Processes at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Replay the session with this seed alone, and print what happens.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// List every block that was not reached, not only their functions.
    #[arg(long)]
    blocks: bool,
    /// No attack: a thousand lives of both roles, and a day in an office.
    #[arg(long)]
    life: bool,
    /// How many lives.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    cycles: u64,
    /// How long the day is.
    #[arg(long, value_name = "N", default_value_t = 24)]
    hours: u64,
}

/// Requests of a session.
const SESSION: usize = 2000;
/// Violations after which it stops.
const ENOUGH: u64 = 20;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    fork::keep_panics();
    counters::install();
    let report = if options.life {
        lives(&options)
    } else {
        attack(&options)
    };
    let symbols = Symbols::beside(&driver_image());
    for finding in &report.findings {
        let what = symbols.explain(&finding.what, "Parscan");
        println!("  {BAD}{}{BAD:#}: {what}", finding.point);
        if !options.life {
            println!("      cargo xtask attack --replay {}", finding.point);
        }
    }
    let style = if report.violations == 0 { GOOD } else { BAD };
    println!("{style}{} violations{style:#}", report.violations);
    if report.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn attack(options: &Options) -> fork::Report {
    let coverage = Coverage::of(&driver_image()).unwrap_or_else(|error| panic!("{error}"));
    if let Some(seed) = options.replay {
        return fork::apart(1, PATIENCE, |_| {
            session::play(seed, SESSION, Some(coverage), true);
        });
    }
    let began = Instant::now();
    counters::set(Counter::Next, options.seed);
    let mut report = fork::Report::default();
    // A process of its own for each session, so that what breaks one breaks no other.
    let all = fork::apart(options.jobs, PATIENCE, |forker| {
        while counters::of(Counter::Requests) < options.requests
            && forker.borrow().report.violations < ENOUGH
        {
            let seed = counters::add(Counter::Next, 1);
            let child = forker.borrow_mut().fork(&seed.to_string());
            if child {
                session::play(seed, SESSION, Some(coverage), false);
                fork::leave(forker);
            }
            counters::add(Counter::Sessions, 1);
        }
    });
    report.merge(&all);
    unreached(coverage, options.blocks);
    let blocks = coverage.blocks().len();
    let reached = coverage.reached();
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let share = 100.0 * reached as f64 / blocks.max(1) as f64;
    let of = counters::of;
    println!(
        "{} requests in {} sessions, {} opens, {} cancels, {} hostile acts of devices, {} times \
         little memory, {} sleeps, {} stops, {} unplugs; {:.0} s\n{reached} of {blocks} basic \
         blocks reached ({share:.1} %)",
        of(Counter::Requests),
        of(Counter::Sessions),
        of(Counter::Opens),
        of(Counter::Cancels),
        of(Counter::Hostile),
        of(Counter::Faults),
        of(Counter::Sleeps),
        of(Counter::Stops),
        of(Counter::Unplugs),
        began.elapsed().as_secs_f64()
    );
    report
}

/// Lists the functions with blocks that nobody came to.
fn unreached(coverage: &Coverage, each: bool) {
    let symbols = Symbols::beside(&driver_image());
    let mut functions: Vec<(String, usize, Vec<u32>)> = Vec::new();
    for block in coverage.blocks() {
        let place = symbols.name(u64::from(block.start)).unwrap_or_default();
        let name = place.rsplit_once('+').map_or("", |(name, _)| name);
        if functions.last().is_none_or(|(last, ..)| last != name) {
            functions.push((name.to_owned(), 0, Vec::new()));
        }
        if let Some((_, all, missing)) = functions.last_mut() {
            *all += 1;
            if !coverage.is_reached(*block) {
                missing.push(block.start);
            }
        }
    }
    println!("never reached:");
    for (name, all, missing) in functions.iter().filter(|it| !it.2.is_empty()) {
        println!("  {:>4} of {all:>4} blocks of {name}", missing.len());
        if each {
            for start in missing {
                println!("         +{start:#x}");
            }
        }
    }
}

/// A long life's part: how much of it, and its seed.
type Part = fn(u64, u64) -> (life::Told, ntsim::Held);

fn lives(options: &Options) -> fork::Report {
    let mut report = fork::Report::default();
    let parts: [(&str, Part, u64); 2] = [
        ("cycles", life::cycles, options.cycles),
        ("day", life::day, options.hours),
    ];
    for (name, part, count) in parts {
        let began = Instant::now();
        let mut of_part = fork::apart(1, PATIENCE, |forker| {
            let (told, held) = part(count, options.seed);
            let mut forker = forker.borrow_mut();
            for (what, number) in told {
                forker.report.counts.insert(what.to_owned(), number);
            }
            forker
                .report
                .counts
                .insert("~bytes held".to_owned(), held.bytes as u64);
            forker
                .report
                .counts
                .insert("~blocks held".to_owned(), held.blocks as u64);
            forker
                .report
                .counts
                .insert("~handles".to_owned(), held.handles as u64);
            forker
                .report
                .counts
                .insert("~threads".to_owned(), held.threads as u64);
            forker
                .report
                .counts
                .insert("~links".to_owned(), held.links as u64);
        });
        println!("{name} ({:.0} s)", began.elapsed().as_secs_f64());
        for (what, number) in &of_part.counts {
            match what.strip_prefix('~') {
                Some(what) => println!("  {number:>10} {what}, as at first"),
                None => println!("  {number:>10} {what}"),
            }
        }
        for finding in &mut of_part.findings {
            name.clone_into(&mut finding.point);
        }
        report.merge(&of_part);
    }
    report
}

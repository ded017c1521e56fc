//! The program's options, its sessions side by side, and what it prints.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anstream::println;
use anstyle::{AnsiColor, Style};
use clap::Parser;
use ntsim::{COVERAGE_FILE, Coverage};
use parscan_tests::{driver_image, fork, symbols::Symbols};

use super::{
    counters::{self, Counter},
    life,
    report::{self, Machine},
    session::{self, Seed},
};

/// Seconds of real time for a process: the driver may spin without a kernel call.
const PATIENCE: u32 = 120;

/// Programs, devices and the system do what they should not.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "options of a command line")]
struct Options {
    /// How many requests.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    requests: u64,
    /// The seed of the first machine.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Processes at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Replay this session alone, and print what happens.
    #[arg(long, value_name = "MACHINE:ACTS")]
    replay: Option<Seed>,
    /// The sessions of the corpus alone.
    #[arg(long)]
    quick: bool,
    /// Print the sessions that reached most, as the corpus has them.
    #[arg(long)]
    keep: bool,
    /// List every block that was not reached, not only their functions.
    #[arg(long)]
    blocks: bool,
    /// No attack: what these machines reached together, each as NAME=FILE with the file that
    /// `NTSIM_COVERAGE_FILE` named for it.
    #[arg(long, value_name = "NAME=FILE", num_args = 1.., value_parser = Machine::parse)]
    merge: Vec<(String, PathBuf)>,
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

/// Sessions that reached most: each a line, its seeds and how many blocks it was the first to reach.
/// `cargo xtask attack --keep` prints them; they are only good for the attack that found them.
const CORPUS: &str = include_str!("corpus.txt");
/// How many there are.
const KEPT: usize = 20;
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
    if !options.merge.is_empty() {
        return merge(&options);
    }
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

/// Which session comes next: those of the corpus, then new machines, and, every other time, one on
/// which something new was reached, with other acts.
struct Seeds {
    corpus: Vec<Seed>,
    next: u32,
    /// Machines on which something new was reached.
    fertile: Vec<u32>,
    turn: u32,
}

impl Seeds {
    fn new(first: u32) -> Self {
        let mut corpus: Vec<Seed> = CORPUS
            .lines()
            .filter_map(|line| line.split_once(' ')?.0.parse().ok())
            .collect();
        corpus.reverse();
        Self {
            corpus,
            next: first,
            fertile: Vec::new(),
            turn: 0,
        }
    }

    fn next(&mut self, only_corpus: bool) -> Option<Seed> {
        if let Some(seed) = self.corpus.pop() {
            return Some(seed);
        }
        if only_corpus {
            return None;
        }
        self.turn += 1;
        let count = u32::try_from(self.fertile.len()).unwrap_or(0);
        if self.turn.is_multiple_of(2) && count > 0 {
            // The last ones first: what they reached is rare.
            let back = (self.turn / 2 % count.min(FERTILE)) as usize;
            let place = self.fertile.len() - 1 - back;
            return Some(Seed {
                machine: self.fertile[place],
                acts: self.turn,
            });
        }
        let machine = self.next;
        self.next += 1;
        Some(Seed {
            machine,
            acts: machine,
        })
    }

    fn learn(&mut self, marks: &BTreeMap<String, usize>) {
        for seed in marks.keys().filter_map(|it| it.parse::<Seed>().ok()) {
            if !self.fertile.contains(&seed.machine) {
                self.fertile.push(seed.machine);
            }
        }
    }
}

/// So many of the machines on which something new was reached get other acts.
const FERTILE: u32 = 40;

/// Prints what several machines reached.
fn merge(options: &Options) -> ExitCode {
    let image = driver_image();
    let machines = options.merge.iter().map(|(name, file)| Machine {
        name: name.clone(),
        coverage: Coverage::shared(&image, file).unwrap_or_else(|error| panic!("{error}")),
    });
    report::print(&image, &machines.collect::<Vec<_>>(), options.blocks);
    ExitCode::SUCCESS
}

/// The image's blocks; what is reached is noted in the file that the environment names, if any.
fn coverage() -> &'static Coverage {
    let image = driver_image();
    let coverage = env::var_os(COVERAGE_FILE).map_or_else(
        || Coverage::of(&image),
        |file| Coverage::shared(&image, Path::new(&file)),
    );
    coverage.unwrap_or_else(|error| panic!("{error}"))
}

fn attack(options: &Options) -> fork::Report {
    let coverage = coverage();
    if let Some(seed) = options.replay {
        return fork::apart(1, PATIENCE, |_| {
            session::play(seed, SESSION, Some(coverage), true);
        });
    }
    let began = Instant::now();
    let mut found = Vec::new();
    // A process of its own for each session, so that what breaks one breaks no other.
    let mut report = fork::apart(options.jobs, PATIENCE, |forker| {
        let mut seeds = Seeds::new(options.seed);
        loop {
            let violations = forker.borrow().report.violations;
            let enough = !options.quick && counters::of(Counter::Requests) >= options.requests;
            let Some(seed) = seeds
                .next(options.quick)
                .filter(|_| !enough && violations < ENOUGH)
            else {
                break;
            };
            let child = forker.borrow_mut().fork(&seed.to_string());
            if child {
                let before = Coverage::found();
                session::play(seed, SESSION, Some(coverage), false);
                let new = Coverage::found() - before;
                if new > 0 {
                    forker.borrow_mut().report.mark(&seed.to_string(), new);
                }
                fork::leave(forker);
            }
            counters::add(Counter::Sessions, 1);
            seeds.learn(&forker.borrow().report.marks);
        }
    });
    for (seed, new) in std::mem::take(&mut report.marks) {
        found.extend(seed.parse::<Seed>().map(|seed| (new, seed)));
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    if options.keep {
        for (new, seed) in found.iter().take(KEPT) {
            println!("{seed} {new}");
        }
    }
    let of = counters::of;
    println!(
        "{} requests in {} sessions, {} opens, {} cancels, {} hostile acts of devices, {} times \
         little memory, {} sleeps, {} stops, {} unplugs; {:.0} s",
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
    let name = "attack".to_owned();
    report::print(
        &driver_image(),
        &[Machine { name, coverage }],
        options.blocks,
    );
    report
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
            let (told, held) = part(count, u64::from(options.seed));
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

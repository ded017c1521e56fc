//! `verify`: what can come between comes between, everywhere.
//!
//! `cargo xtask verify` builds what it needs and runs it. See [`mod@run`] for how, and [`scenarios`]
//! for what.
#![allow(missing_docs, reason = "a program")]

use std::{process::ExitCode, time::Instant};

use anstream::{eprint, println};
use anstyle::{AnsiColor, Style};
use clap::Parser;
use parscan_tests::{
    driver_image,
    fork::{self, Extent},
    symbols::Symbols,
};

mod run;
mod scenarios;

use run::{Disturbance, Only, Run};

/// A call fails, a device is pulled out, requests are cancelled, the system sleeps: at every point of
/// every scenario.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    extent: Extent,
    /// Only the scenarios whose name begins with this, or one of these, with commas between.
    #[arg(long, default_value = "")]
    scenario: String,
    /// Replay one point of one scenario, as a violation tells it, and print what happens.
    #[arg(long, value_name = "DISTURBANCE:POINT:K", requires = "scenario")]
    at: Option<String>,
}

/// Processes at once.
const AT_ONCE: usize = 2;
/// Seconds of real time for one of them.
const PATIENCE: u32 = 120;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

fn main() -> ExitCode {
    let options = Options::parse();
    fork::keep_panics();
    let wanted = |name: &str| options.scenario.split(',').any(|it| name.starts_with(it));
    let all: Vec<_> = scenarios::all()
        .into_iter()
        .filter(|it| wanted(&it.name))
        .collect();
    if options.extent.list {
        for scenario in &all {
            println!("{:<40} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let only = options.at.as_deref().map(Only::parse);
    if all.is_empty() || only == Some(None) {
        println!("no scenario is called so, or no point; see --list");
        return ExitCode::FAILURE;
    }
    let only = only.flatten();
    let symbols = Symbols::beside(&driver_image());
    let began = Instant::now();
    let mut total = fork::Report::default();
    let names = Disturbance::ALL.map(Disturbance::name);
    let [a, b, c, d] = names;
    println!("{:<40} {a:>7} {b:>7} {c:>7} {d:>7} violations", "scenario");
    for scenario in &all {
        eprint!("{} ...\r", scenario.name);
        let report = fork::apart(AT_ONCE, PATIENCE, |forker| {
            let run = Run::new(forker, only.as_ref(), options.extent.quick);
            (scenario.play)(&run);
        });
        let of = |name: &str| report.counts.get(name).copied().unwrap_or(0);
        let [a, b, c, d] = names.map(of);
        let style = if report.violations == 0 { GOOD } else { BAD };
        println!(
            "{:<40} {a:>7} {b:>7} {c:>7} {d:>7} {style}{:>10}{style:#}",
            scenario.name, report.violations
        );
        for finding in &report.findings {
            let what = symbols.explain(&finding.what, "ParscanPort");
            let what = symbols.explain(&what, "ParscanScan");
            let point = options.at.as_ref().unwrap_or(&finding.point);
            let label = if point.is_empty() {
                "undisturbed"
            } else {
                point
            };
            println!("    {label}: {what}");
            if !point.is_empty() {
                println!(
                    "      cargo xtask verify --scenario {} --at {point}",
                    scenario.name
                );
            }
        }
        total.merge(&report);
    }
    let of = |name: &str| total.counts.get(name).copied().unwrap_or(0);
    println!(
        "\n{} rules, {} scenarios, {} faults, {} unplugs, {} cancels, {} sleeps ({} left out), {} \
         violations, {:.0} s",
        ntsim::rules::CATALOGUE.len(),
        all.len(),
        of("fault"),
        of("unplug"),
        of("cancel"),
        of("sleep"),
        of("left out"),
        total.violations,
        began.elapsed().as_secs_f64()
    );
    total.exit_code()
}

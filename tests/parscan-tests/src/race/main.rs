//! `race`: every preemption that a scene can have.
//!
//! `cargo xtask race` builds what it needs and runs it. See [`mod@explore`] for how, and [`scenes`] for
//! what.
#![allow(missing_docs, reason = "a program")]

use std::{process::ExitCode, time::Instant};

use anstream::{eprint, println};
use anstyle::{AnsiColor, Style};
use clap::Parser;
use ntsim::Config;
use parscan_tests::{
    driver_image,
    fork::{self, Extent, Report},
    symbols::Symbols,
};

mod explore;
mod scenes;

use explore::{Kind, LEFT_OUT, POINTS, RUNS, Scene, Way, explore};

/// Preempt the driver at every instruction.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    extent: Extent,
    /// How the image was built, for the commands that this prints.
    #[arg(long, default_value = "release")]
    image: String,
    /// Only the scenes whose name begins with this, or one of these, with commas between. With --point also the way, after a colon, as a
    /// violation tells it.
    #[arg(long)]
    scenario: Option<String>,
    /// Decides every other choice of the machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replay this point alone, and print what happens.
    #[arg(long)]
    point: Option<String>,
}

/// So many points of a path are explored in the quick form before every 16th.
const QUICK_RUNS: u64 = 200;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

fn config(options: &Options) -> Config {
    let replay = options.point.is_some();
    Config {
        seed: options.seed,
        // Threads change places where they wait, and where this program says.
        preempt_per_mille: 0,
        patch_ports: false,
        measure_stacks: true,
        several_processors: true,
        trace_ports: replay,
        trace_calls: replay,
        echo: replay,
        trace_limit: if replay { 200_000 } else { 0 },
        max_time: 120_000_000_000,
        ..Config::default()
    }
}

/// The ways that a scene is gone through.
fn ways(scene: &Scene, actors: usize, quick: bool) -> Vec<(String, Way)> {
    let mut all = Vec::new();
    for first in 0..actors {
        for kind in Kind::ALL {
            let name = format!("{first}{}", kind.name());
            all.push((name, Way::Hold(first, kind)));
        }
    }
    for first in 0..actors {
        for second in 0..actors {
            if first != second && !quick {
                all.push((format!("{first}x{second}"), Way::Pairs(first, second)));
            }
        }
    }
    let _ = scene;
    all.push((
        "random".to_owned(),
        Way::Random(if quick { 20 } else { 400 }),
    ));
    all
}

fn main() -> ExitCode {
    let options = Options::parse();
    fork::keep_panics();
    if options.extent.list {
        for scene in scenes::SCENES {
            println!("{:<26} {}", scene.name, scene.about);
        }
        return ExitCode::SUCCESS;
    }
    let symbols = Symbols::beside(&driver_image());
    let config = config(&options);
    let (wanted, way) =
        options
            .scenario
            .as_deref()
            .map_or(("", None), |text| match text.split_once(':') {
                Some((scene, way)) => (scene, Some(way)),
                None => (text, None),
            });
    let chosen: Vec<&Scene> = scenes::SCENES
        .iter()
        .filter(|scene| wanted.split(',').any(|name| scene.name.starts_with(name)))
        .collect();
    if chosen.is_empty() {
        println!("no scene is called so; see --list");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let mut total = Report::default();
    println!(
        "{:<36} {:>8} {:>8} {:>10}",
        "scene", "points", "runs", "violations"
    );
    for scene in &chosen {
        let actors = explore::actors(scene, &config);
        for (name, it) in ways(scene, actors, options.extent.quick) {
            if way.is_some_and(|way| way != name) {
                continue;
            }
            eprint!("{}:{name} ...\r", scene.name);
            let thinned = options.extent.quick.then_some(QUICK_RUNS);
            let outcome = explore(scene, it, &config, options.point.as_deref(), thinned);
            total.merge(&outcome);
            if outcome.of(POINTS) == 0 && outcome.violations == 0 && options.point.is_none() {
                continue;
            }
            let style = if outcome.violations == 0 { GOOD } else { BAD };
            println!(
                "{:<36} {:>8} {:>8} {style}{:>10}{style:#}",
                format!("{}:{name}", scene.name),
                outcome.of(POINTS),
                outcome.of(RUNS),
                outcome.violations
            );
            for finding in &outcome.findings {
                let what = symbols.explain(&finding.what, "ParscanPort");
                let what = symbols.explain(&what, "ParscanScan");
                println!("    point {}: {what}", finding.point);
                let image = if options.image == "release" {
                    String::new()
                } else {
                    format!(" --image {}", options.image)
                };
                println!(
                    "      cargo xtask race{image} --scenario {}:{name} --seed {} --point {}",
                    scene.name, options.seed, finding.point
                );
            }
        }
    }
    if options.point.is_none() {
        println!("\nkernel stack, most bytes of 24576 (Windows' part counted in):");
        for (entry, used) in &total.marks {
            println!("  {used:>6}  {entry}");
        }
    }
    println!(
        "\n{} scenes, {} points ({} runs; {} left out; the others make no difference to the next \
         one), {} violations, {:.0} s",
        chosen.len(),
        total.of(POINTS),
        total.of(RUNS),
        total.of(LEFT_OUT),
        total.violations,
        began.elapsed().as_secs_f64()
    );
    total.exit_code()
}

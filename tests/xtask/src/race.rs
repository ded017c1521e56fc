//! `cargo xtask race`: the driver is preempted at every instruction.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    driver::test_program_with_drivers,
    shell::{Workspace, holds},
};

/// What to explore.
#[derive(Args)]
pub(crate) struct Options {
    /// What fits into a few minutes: no two preemptions, fewer seeds, and of a long path every 16th
    /// point after the first 200. It names what it left out.
    #[arg(long)]
    quick: bool,
    /// List the scenes and stop.
    #[arg(long)]
    list: bool,
    /// Only scenes whose name begins so; with a colon, one way through them, as the table names it.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Decides every other choice of the machine.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Replay this one point of one way, and print every event.
    #[arg(long, value_name = "N", requires = "scenario")]
    point: Option<String>,
    /// Which build of the driver.
    #[arg(long, value_enum, default_value_t = Image::Release)]
    image: Image,
}

/// A build of the driver.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Image {
    Release,
    Debug,
}

/// Builds what is needed and explores. True if nothing was broken.
pub(crate) fn explore(workspace: &Workspace, options: &Options) -> Result<bool> {
    let debug = options.image == Image::Debug;
    let mut race = test_program_with_drivers(workspace, "race", debug)?;
    race.args(options.quick.then_some("--quick"))
        .args(options.list.then_some("--list"));
    if debug {
        race.args(["--image", "debug"]);
    }
    if let Some(scenario) = &options.scenario {
        race.args(["--scenario", scenario]);
    }
    if let Some(seed) = options.seed {
        race.args(["--seed", &seed.to_string()]);
    }
    if let Some(point) = &options.point {
        race.args(["--point", point]);
    }
    holds(&mut race)
}

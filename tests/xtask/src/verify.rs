//! `cargo xtask verify` and `cargo xtask attack`: what can go wrong goes wrong.

use anyhow::Result;
use clap::Args;

use crate::{
    driver::test_program_with_drivers,
    shell::{Workspace, headline, holds},
};

/// What to disturb.
#[derive(Args)]
pub(crate) struct Verify {
    /// What fits into a minute: of the points of a scenario only some, and no races.
    #[arg(long)]
    quick: bool,
    /// List the scenarios and stop.
    #[arg(long)]
    list: bool,
    /// Only scenarios whose name begins so, or one of several, with commas between; no races.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Replay one point, such as unplug:port:17, and print every event.
    #[arg(long, value_name = "DISTURBANCE:POINT:K", requires = "scenario")]
    at: Option<String>,
}

/// Whom to attack.
#[derive(Args)]
pub(crate) struct Attack {
    /// How many requests at least.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    requests: u64,
    /// The seed of the first session.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Replay the session with this seed alone, and print every event.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// List every basic block that was not reached, not only the functions.
    #[arg(long)]
    blocks: bool,
    /// A long life instead: devices that come and go under load, and a day in an office.
    #[arg(long)]
    life: bool,
    /// How many devices of each kind come and go.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    cycles: u64,
    /// How many hours the day has.
    #[arg(long, value_name = "N", default_value_t = 24)]
    hours: u64,
}

/// Disturbs, and looks for races if all is asked for. True if nothing was broken.
pub(crate) fn verify(workspace: &Workspace, options: &Verify) -> Result<bool> {
    let mut verify = test_program_with_drivers(workspace, "verify", false)?;
    verify
        .args(options.quick.then_some("--quick"))
        .args(options.list.then_some("--list"));
    if let Some(scenario) = &options.scenario {
        verify.args(["--scenario", scenario]);
    }
    if let Some(at) = &options.at {
        verify.args(["--at", at]);
    }
    let mut fine = holds(&mut verify)?;
    if !options.quick && !options.list && options.scenario.is_none() {
        headline("races");
        fine &= holds(&mut test_program_with_drivers(workspace, "race", false)?)?;
    }
    Ok(fine)
}

/// Attacks. True if nothing was broken.
pub(crate) fn attack(workspace: &Workspace, options: &Attack) -> Result<bool> {
    let mut attack = test_program_with_drivers(workspace, "attack", false)?;
    for (name, number) in [
        ("--requests", options.requests),
        ("--seed", options.seed),
        ("--cycles", options.cycles),
        ("--hours", options.hours),
    ] {
        attack.args([name, &number.to_string()]);
    }
    attack
        .args(options.blocks.then_some("--blocks"))
        .args(options.life.then_some("--life"));
    if let Some(seed) = options.replay {
        attack.args(["--replay", &seed.to_string()]);
    }
    holds(&mut attack)
}

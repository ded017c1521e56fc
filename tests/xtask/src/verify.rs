//! `cargo xtask verify` and `cargo xtask attack`: what can go wrong goes wrong.

use std::{fs, process::Command};

use anyhow::Result;
use clap::Args;

use crate::{
    driver::{name_images, test_program, test_program_with_drivers},
    shell::{Workspace, headline, holds, remove},
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
#[allow(clippy::struct_excessive_bools, reason = "options of a command line")]
pub(crate) struct Attack {
    /// How many requests at least.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    requests: u64,
    /// The seed of the first machine.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Replay this session alone, and print every event.
    #[arg(long, value_name = "MACHINE:ACTS")]
    replay: Option<String>,
    /// What fits into seconds: the sessions of the corpus.
    #[arg(long)]
    quick: bool,
    /// Print the sessions that reached most, for tests/parscan-tests/src/attack/corpus.txt.
    #[arg(long)]
    keep: bool,
    /// Count, too, what verify, race and the tests reach, each in its quick form.
    #[arg(long)]
    coverage: bool,
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
        ("--seed", options.seed.into()),
        ("--cycles", options.cycles),
        ("--hours", options.hours),
    ] {
        attack.args([name, &number.to_string()]);
    }
    attack
        .args(options.quick.then_some("--quick"))
        .args(options.keep.then_some("--keep"))
        .args(options.life.then_some("--life"));
    if let Some(session) = &options.replay {
        attack.args(["--replay", session]);
    }
    if !options.coverage {
        attack.args(options.blocks.then_some("--blocks"));
        return holds(&mut attack);
    }
    coverage(workspace, options, attack)
}

/// The programs of parscan-tests and its tests, each with the blocks of the image that it reaches
/// noted; then what they reached together.
fn coverage(workspace: &Workspace, options: &Attack, attack: Command) -> Result<bool> {
    let program = |name: &str| {
        let mut program = test_program(workspace, name);
        name_images(workspace, &mut program, false);
        program.arg("--quick");
        program
    };
    let mut tests = workspace.cargo();
    tests.args(["test", "--locked", "-p", "parscan-tests", "--no-fail-fast"]);
    name_images(workspace, &mut tests, false);
    let machines = [
        ("attack", attack),
        ("verify", program("verify")),
        ("race", program("race")),
        ("tests", tests),
    ];
    let folder = workspace.target().join("coverage");
    fs::create_dir_all(&folder)?;
    let mut merge = test_program(workspace, "attack");
    name_images(workspace, &mut merge, false);
    merge
        .args(options.blocks.then_some("--blocks"))
        .arg("--merge");
    let mut fine = true;
    for (name, mut machine) in machines {
        headline(name);
        let noted = folder.join(name);
        remove(&noted)?;
        machine
            .env(
                "NTSIM_COVERAGE_IMAGE",
                workspace.target().join("parscan/parscan.sys"),
            )
            .env("NTSIM_COVERAGE_FILE", &noted);
        fine &= holds(&mut machine)?;
        merge.arg(format!("{name}={}", noted.display()));
    }
    headline("coverage");
    Ok(fine & holds(&mut merge)?)
}

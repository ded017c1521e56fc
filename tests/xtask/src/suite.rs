//! `cargo xtask test`: everything that must hold before a change is taken.

use std::{
    env, fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    arm64, driver,
    shell::{Arch, PROGRAM_TARGET, TARGET, Workspace, bad, clean, good, headline, say, shown},
};

/// How to run the steps.
pub(crate) struct Options {
    /// Steps to run, with those that they need; all if empty.
    pub(crate) only: Vec<String>,
    /// Stop at the first failure.
    pub(crate) fail_fast: bool,
    /// Show all output.
    pub(crate) verbose: bool,
}

/// A step: one or more commands that must all succeed.
struct Step {
    name: &'static str,
    what: &'static str,
    /// Steps without which this one cannot run.
    needs: &'static [&'static str],
    /// Its output is for who waits: it is always shown.
    shown: bool,
    commands: fn(&Workspace) -> Result<Vec<Command>>,
}

/// What the whole takes.
const COST: &str = "All steps take about half an hour on two processors and 8 GB of disk; the first \
                    time some minutes more, for downloads and first builds.";
/// So often a step that says nothing shows that it goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What of parscan-tests runs on the debug image, too: every kind of request, PnP, power, and
/// the class driver.
const DEBUG_TESTS: &[&str] = &[
    "cancel",
    "client",
    "client_lifecycle",
    "device_id",
    "interrupts",
    "pnp",
    "port_object",
    "power",
    "quiet",
    "requests",
    "usb_clients",
    "usb_control",
    "usb_end",
    "usb_scan",
];

/// Scenes of race for the debug image.
const DEBUG_SCENES: &str = "requests-end,deferred-checks,connections,scanner-read";

/// What is a driver, or a part of one: built for Windows only.
const DRIVERS: [&str; 6] = [
    "parscan",
    "faulty-driver",
    "parscan-class-driver",
    "null-driver",
    "kernel-declarations",
    "parscan-wine-bus",
];

const STEPS: &[Step] = &[
    Step {
        name: "setup",
        what: "tools and build kit are in place",
        needs: &[],
        shown: true,
        commands: |workspace| Ok(vec![xtask(workspace, &["setup", "--all"])?]),
    },
    Step {
        name: "format",
        what: "rustfmt finds nothing to change",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![cargo(workspace, &["fmt", "--all", "--check"])]),
    },
    Step {
        name: "deny",
        what: "dependencies have allowed licences and sources",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["deny"])?]),
    },
    Step {
        name: "clippy-host",
        what: "clippy on what runs on this host",
        needs: &[],
        shown: false,
        commands: |workspace| {
            let mut clippy = cargo(workspace, &["clippy", "--workspace"]);
            clippy.args(each("--exclude", &DRIVERS)).args([
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]);
            Ok(vec![clippy])
        },
    },
    Step {
        name: "clippy-driver",
        what: "clippy on the drivers",
        needs: &[],
        shown: false,
        commands: |workspace| {
            let clippy = |targets: &[&str], packages: &[&str]| {
                let mut command = cargo(workspace, &["clippy", "--locked", driver::KIT]);
                command.args(each("--target", targets));
                command.args(each("-p", packages));
                command.args(["--", "-D", "warnings"]);
                command
            };
            // The bindings of both at the same time, then the rest.
            let both = [TARGET, Arch::Arm64.target()];
            Ok(vec![
                clippy(&both, &["parscan"]),
                clippy(&[TARGET], &DRIVERS),
            ])
        },
    },
    Step {
        name: "xtask",
        what: "tests of these commands and of the gate",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![cargo(workspace, &["test", "--locked", "-p", "xtask"])]),
    },
    Step {
        name: "core",
        what: "tests of the driver's parts that need no kernel",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![cargo(workspace, &["test", "--locked"])]),
    },
    Step {
        name: "miri",
        what: "the same tests under Miri, which finds undefined behaviour; threads in several orders",
        needs: &[],
        shown: false,
        commands: |workspace| {
            let miri = |flags: &str, filter: &[&str]| {
                let mut command = clean("rustup");
                command
                    .current_dir(&workspace.root)
                    .args(["run", "nightly", "cargo", "miri", "test", "--locked"])
                    .args(["-p", "parscan-core"])
                    .args(filter)
                    .env("MIRIFLAGS", flags)
                    .env("CARGO_TARGET_DIR", workspace.target().join("miri"));
                command
            };
            // A seed is one order of the threads; only these tests have some.
            let threads = ["--lib", "kernel::tests"];
            Ok(vec![
                miri("", &[]),
                miri("-Zmiri-many-seeds=1..17", &threads),
            ])
        },
    },
    Step {
        name: "interleavings",
        what: "what processors share, in every order of two and three of them",
        needs: &[],
        shown: false,
        commands: |workspace| {
            Ok(vec![cargo(
                workspace,
                &["test", "--locked", "-p", "parscan-interleavings"],
            )])
        },
    },
    Step {
        name: "parscanctl",
        what: "tests of parscanctl and its library; parscanctl.exe builds and stands alone",
        needs: &[],
        shown: false,
        commands: |workspace| {
            Ok(vec![
                cargo(
                    workspace,
                    &[
                        "test",
                        "--locked",
                        "-p",
                        "parscan-client",
                        "-p",
                        "parscanctl",
                        "-p",
                        "parscan-transcript",
                        "-p",
                        "parscan-wine",
                    ],
                ),
                xtask(workspace, &["parscanctl"])?,
            ])
        },
    },
    Step {
        name: "inpout",
        what: "tests of the DLLs for programs that know InpOut; they build for x64 and x86",
        needs: &[],
        shown: false,
        commands: |workspace| {
            Ok(vec![
                cargo(workspace, &["test", "--locked", "-p", "parscan-inpout"]),
                xtask(workspace, &["inpout"])?,
            ])
        },
    },
    Step {
        name: "clippy-programs",
        what: "clippy on the programs for users, as Windows gets them",
        needs: &["parscanctl", "inpout"],
        shown: false,
        commands: |workspace| {
            let mut command = cargo(workspace, &["clippy"]);
            if !cfg!(windows) {
                command.args(["--target", PROGRAM_TARGET]);
            }
            command.args([
                "-p",
                "parscan-client",
                "-p",
                "parscanctl",
                "-p",
                "parscan-inpout",
                "-p",
                "parscan-wine-bench",
                "-p",
                "bcryptprimitives",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]);
            Ok(vec![command])
        },
    },
    Step {
        name: "build",
        what: "parscan.sys builds for x64 and ARM64 and passes the gate",
        needs: &[],
        shown: false,
        commands: |workspace| {
            Ok(vec![xtask(
                workspace,
                &["build", "--arch", "x64", "--arch", "arm64"],
            )?])
        },
    },
    Step {
        name: "reproducible",
        what: "two builds in two folders give the same bytes",
        needs: &["build"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["repro"])?]),
    },
    Step {
        name: "inf-check",
        what: "the INFs keep the rules of InfVerif and of this project",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["inf-check"])?]),
    },
    Step {
        name: "package",
        what: "the driver package, but for catalogs and signatures",
        needs: &["build"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["package"])?]),
    },
    Step {
        name: "test-drivers",
        what: "the drivers of the tests build: a faulty one, a class driver above parscan, a null driver",
        needs: &[],
        shown: false,
        commands: |workspace| Ok(vec![driver::test_drivers_build(workspace)]),
    },
    Step {
        name: "ntsim",
        what: "tests of the simulated machine, the models, and the driver on them",
        needs: &["build", "test-drivers"],
        shown: false,
        commands: |workspace| {
            let mut command = cargo(
                workspace,
                &[
                    "test",
                    "--locked",
                    "-p",
                    "ntsim",
                    "-p",
                    "parscan-models",
                    "-p",
                    "parscan-tests",
                ],
            );
            driver::name_images(workspace, &mut command, false);
            Ok(vec![command])
        },
    },
    Step {
        name: "arm64",
        what: "the driver for ARM64 in an emulated process: its whole life, and the scanner's tests",
        needs: &["build"],
        shown: false,
        commands: |workspace| {
            let mut commands = vec![xtask(workspace, &["arm64"])?];
            commands.extend(arm64::tests(workspace));
            Ok(commands)
        },
    },
    Step {
        name: "race",
        what: "the driver preempted at every instruction, in the quick form",
        needs: &["build", "test-drivers"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["race", "--quick"])?]),
    },
    Step {
        name: "verify",
        what: "a call fails, a device is pulled out, requests are cancelled, sleep; an attack: quick forms",
        needs: &["build", "test-drivers"],
        shown: false,
        commands: |workspace| {
            Ok(vec![
                xtask(workspace, &["verify", "--quick"])?,
                xtask(workspace, &["attack", "--quick"])?,
            ])
        },
    },
    Step {
        name: "debug-image",
        what: "the core of the tests and of race on the driver as the dev profile builds it",
        needs: &["test-drivers"],
        shown: false,
        commands: |workspace| {
            let mut command = cargo(workspace, &["test", "--locked", "-p", "parscan-tests"]);
            for test in DEBUG_TESTS {
                command.args(["--test", test]);
            }
            driver::name_images(workspace, &mut command, true);
            let race = [
                "race",
                "--quick",
                "--image",
                "debug",
                "--scenario",
                DEBUG_SCENES,
            ];
            Ok(vec![
                xtask(workspace, &["build", "--debug"])?,
                command,
                xtask(workspace, &race)?,
            ])
        },
    },
    Step {
        name: "wine",
        what: "the driver in Wine, installed from its INFs and used by parscanctl and by the DLLs",
        needs: &["build", "package", "parscanctl", "inpout"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["wine"])?]),
    },
    Step {
        name: "demo-model",
        what: "the demo on the model of the port",
        needs: &["build"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["demo", "--port", "model"])?]),
    },
    Step {
        name: "demo-qemu",
        what: "the demo on the port of a PC emulated by QEMU",
        needs: &["build"],
        shown: false,
        commands: |workspace| Ok(vec![xtask(workspace, &["demo", "--port", "qemu"])?]),
    },
    Step {
        name: "docs",
        what: "the documentation builds without warnings",
        needs: &[],
        shown: false,
        commands: |workspace| {
            let doc = ["doc", "--no-deps", "--locked"];
            let mut host = cargo(workspace, &doc);
            host.arg("--workspace").args(each("--exclude", &DRIVERS));
            let mut driver = cargo(workspace, &doc);
            driver
                .args(["--target", TARGET, driver::KIT])
                .args(each("-p", &DRIVERS));
            host.env("RUSTDOCFLAGS", "-D warnings");
            driver.env("RUSTDOCFLAGS", "-D warnings");
            Ok(vec![host, driver])
        },
    },
];

fn cargo(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = workspace.cargo();
    command.args(args);
    command
}

/// The packages as arguments, with this option before each.
fn each<'a>(option: &'a str, packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .flat_map(|package| [option, package])
        .collect()
}

/// This program with another command line.
fn xtask(workspace: &Workspace, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("where is this program?")?);
    command.current_dir(&workspace.root).args(args);
    Ok(command)
}

/// Prints the steps.
pub(crate) fn list() {
    for (index, step) in STEPS.iter().enumerate() {
        say(format!("{:2} {:14} {}", index + 1, step.name, step.what));
    }
}

/// What became of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// A step that it needs has failed. Counts as failed.
    Blocked,
}

/// Runs the steps. True if all passed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let chosen = choose(&options.only)?;
    let logs = workspace.target().join("test-logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    if options.only.is_empty() {
        say(format!("{COST} Logs are in {}.", logs.display()));
    }
    let mut results: Vec<(&Step, Outcome, Duration)> = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        headline(format!(
            "[{}/{}] {}: {}",
            index + 1,
            chosen.len(),
            step.name,
            step.what
        ));
        let start = Instant::now();
        let unmet = results.iter().find(|(done, outcome, _)| {
            *outcome != Outcome::Passed && step.needs.contains(&done.name)
        });
        let outcome = if let Some((failed, ..)) = unmet {
            bad("  not run", format!("{} has failed", failed.name));
            Outcome::Blocked
        } else {
            let log = logs.join(format!("{}.log", step.name));
            match run_step(workspace, step, &log, options.verbose || step.shown) {
                Ok(()) => {
                    good("  passed", seconds(start.elapsed()));
                    Outcome::Passed
                }
                Err(error) => {
                    bad(
                        "  failed",
                        format!("{}: {error:#}", seconds(start.elapsed())),
                    );
                    Outcome::Failed
                }
            }
        };
        results.push((step, outcome, start.elapsed()));
        if outcome != Outcome::Passed && options.fail_fast {
            break;
        }
    }
    Ok(summary(&results))
}

/// The steps to run, in their order.
fn choose(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(name) = only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != *name))
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!(
            "there is no step {name}. The steps are: {}",
            names.join(", ")
        );
    }
    let asked = |step: &Step| only.is_empty() || only.iter().any(|name| name == step.name);
    let needed = |name: &str| {
        STEPS
            .iter()
            .any(|step| asked(step) && step.needs.contains(&name))
    };
    Ok(STEPS
        .iter()
        .filter(|step| asked(step) || needed(step.name))
        .collect())
}

/// Runs the commands of a step with their output in a file, which is shown if one fails.
fn run_step(workspace: &Workspace, step: &Step, log: &Path, verbose: bool) -> Result<()> {
    let mut file =
        fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    for mut command in (step.commands)(workspace)? {
        let line = shown(&command);
        writeln!(file, "$ {line}")?;
        if !verbose {
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file.try_clone()?);
        }
        let status = wait(&mut command, (!verbose).then_some(log))
            .with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            if !verbose {
                let output = fs::read(log)?;
                io::stdout().write_all(&output)?;
            }
            bail!("`{line}` ({status}), log in {}", log.display());
        }
    }
    Ok(())
}

/// Runs a command. While it writes to `log`, a line from time to time says how far it is.
fn wait(command: &mut Command, log: Option<&Path>) -> io::Result<ExitStatus> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let Some(log) = log else { return child.wait() };
    thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        scope.spawn(move || {
            // The sender's end is the command's.
            while over.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                let last = last_line(log);
                say(format!("  ... {:3} s  {last}", start.elapsed().as_secs()));
            }
        });
        let status = child.wait();
        drop(done);
        status
    })
}

/// The end of what a step has said so far, shortened.
fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or_default().trim().chars().take(90).collect()
}

/// Prints a table, and as the last line the counts. True if all passed.
fn summary(results: &[(&Step, Outcome, Duration)]) -> bool {
    headline("Summary");
    for (step, outcome, time) in results {
        let line = format!("{:14} {:>8}  {}", step.name, seconds(*time), step.what);
        match outcome {
            Outcome::Passed => good("  passed ", line),
            Outcome::Failed => bad("  failed ", line),
            Outcome::Blocked => bad("  not run", line),
        }
    }
    let passed = results
        .iter()
        .filter(|(_, outcome, _)| *outcome == Outcome::Passed)
        .count();
    let failed = results.len() - passed;
    say(format!("{passed} passed, {failed} failed"));
    failed == 0
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        choose(&only)
            .unwrap()
            .iter()
            .map(|step| step.name)
            .collect()
    }

    #[test]
    fn needed_steps_come_first() {
        assert_eq!(names(&["ntsim"]), ["build", "test-drivers", "ntsim"]);
        assert_eq!(names(&[]).len(), STEPS.len());
        for (index, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(STEPS[..index].iter().any(|earlier| earlier.name == *need));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_step_that_runs_shows_the_end_of_its_log() {
        let log = env::temp_dir().join(format!("parscan-suite-{}", std::process::id()));
        fs::write(&log, "one\n  two  \n\n").unwrap();
        assert_eq!(last_line(&log), "two");
        let mut command = Command::new("true");
        command.stdout(Stdio::null());
        assert!(wait(&mut command, Some(&log)).unwrap().success());
        fs::remove_file(&log).unwrap();
        assert_eq!(last_line(&log), "");
    }

    #[test]
    fn unknown_steps_are_refused() {
        assert!(choose(&["nothing".to_owned()]).is_err());
    }
}

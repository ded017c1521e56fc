//! Developer commands of parscan, run as `cargo xtask <command>`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod arm64;
mod deny;
mod driver;
mod exports;
mod fuzz;
mod gate;
mod inf_check;
mod inpout;
mod package;
#[cfg(test)]
mod pages;
mod program;
mod race;
mod setup;
mod shell;
mod suite;
mod verify;
mod wine;

use exports::Exports;
use setup::Tool;
use shell::{Arch, Workspace, say};

/// Developer commands of parscan.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::doc_markdown, reason = "these comments are printed as help")]
enum Command {
    /// Prepare this host for building the driver.
    ///
    /// On Windows nothing is done: Microsoft's WDK is used as installed.
    ///
    /// On Linux it installs, where missing, the Rust targets x86_64-pc-windows-msvc and
    /// aarch64-pc-windows-msvc (by rustup) and
    /// the Debian packages mingw-w64-common, mingw-w64-x86-64-dev, llvm-19 and libclang-19-dev
    /// (by apt-get, with sudo when not root), fetches the crates of Cargo.lock, and writes a kit of
    /// headers and import libraries into .cargo/linux-kit and its settings
    /// into .cargo/linux-host.toml. Both are ignored by git. Each step says what it does. What is there
    /// already is left alone, so the command can be repeated at any time.
    ///
    /// Every other command does this by itself.
    #[command(after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --all")]
    Setup {
        /// Also install what only the demo, the tests and parscanctl use: Debian packages
        /// qemu-system-x86, qemu-user, gcc-mingw-w64-x86-64, gcc-mingw-w64-i686 and wine64, the Rust
        /// targets x86_64-pc-windows-gnu, i686-pc-windows-gnu and aarch64-unknown-linux-musl, rustfmt
        /// and clippy, and Miri with a nightly Rust toolchain.
        #[arg(long)]
        all: bool,
    },

    /// Build parscan.sys and check the image.
    ///
    /// Sets up the host as `cargo xtask setup` does, builds the driver for
    /// x86_64-pc-windows-msvc or aarch64-pc-windows-msvc, copies it to target/parscan/parscan.sys or
    /// target/parscan/arm64/parscan.sys (with parscan.map) and runs the checks of
    /// `cargo xtask gate` on it.
    #[command(
        after_help = "Examples:\n  cargo xtask build\n  cargo xtask build --arch arm64\n  \
                            cargo xtask build --debug"
    )]
    Build {
        /// The processor that it is for; may be given for each [default: x64].
        #[arg(long, value_enum)]
        arch: Vec<Arch>,
        /// Build with the release profile (the default).
        #[arg(long, conflicts_with = "debug")]
        release: bool,
        /// Build with the dev profile, into a folder debug beside.
        #[arg(long)]
        debug: bool,
    },

    /// Check a built driver image.
    ///
    /// Checks that it is a native image for x64 or ARM64 with relocations, a valid checksum and the flags
    /// NX_COMPAT, DYNAMIC_BASE and FORCE_INTEGRITY; that it keeps the rules of memory integrity
    /// (HVCI); that it has no INIT and PAGE sections; that every import exists on Windows 10
    /// for its processor, by Microsoft's metadata in the windows-sys crate or the reviewed list in
    /// tests/xtask/src/exports.rs; and that no panic and no failing allocation can stop the
    /// machine. All violations are listed. Installs nothing.
    #[command(after_help = "Examples:\n  cargo xtask gate\n  \
                            cargo xtask gate --deny-panic other.sys")]
    Gate {
        /// The image; a .map file beside it is used if there is one [default: what
        /// `cargo xtask build` made, target/parscan/parscan.sys].
        file: Option<PathBuf>,
        /// The processor that it must be for [default: either].
        #[arg(long, value_enum)]
        arch: Option<Arch>,
        /// A panic path is a violation, not just a note. (Always so for the default image.)
        #[arg(long)]
        deny_panic: bool,
    },

    /// Build parscanctl.exe, the program for users.
    ///
    /// Builds it for Windows with the release profile, copies it to target/parscan/parscanctl.exe or
    /// target/parscan/arm64/parscanctl.exe and checks it: that it is for that processor and has the
    /// flags NX_COMPAT and DYNAMIC_BASE; imports from Windows' own DLLs only, by names that
    /// Microsoft's metadata has.
    ///
    /// On Linux it is linked by mingw-w64: installs, where missing, the Rust target
    /// x86_64-pc-windows-gnu and the Debian package gcc-mingw-w64-x86-64. For ARM64 it is linked by
    /// Zig: installs the Rust target aarch64-pc-windows-gnullvm, and fetches the package ziglang
    /// from PyPI (100 MB, by pip; the Debian package python3-pip if there is none) into target/zig.
    /// The first time Zig builds a C runtime, which takes minutes. Not part of `cargo xtask test`.
    #[command(
        after_help = "Examples:\n  cargo xtask parscanctl\n  cargo xtask parscanctl --arch arm64"
    )]
    Parscanctl {
        /// The processor that it is for.
        #[arg(long, value_enum, default_value_t = Arch::X64)]
        arch: Arch,
    },

    /// Build inpoutx64.dll, inpout32.dll and dlportio.dll.
    ///
    /// Programs that drive lines by Out32 and Inp32, or by the functions of DLPortIO, load these in
    /// place of the ones that open the whole machine: see tests/parscanctl/from-inpout.md. Builds
    /// them for x64 and x86 with the release profile, puts them into target/parscan/inpout/x64 and
    /// target/parscan/inpout/x86, each under both of its names, and checks them: exactly the
    /// functions that programs look for; on x86, that each pops its arguments; imports from Windows'
    /// own DLLs only, by names that Microsoft's metadata has. On Linux: installs, where missing, the
    /// Rust targets x86_64-pc-windows-gnu and i686-pc-windows-gnu and the Debian packages
    /// gcc-mingw-w64-x86-64 and gcc-mingw-w64-i686.
    #[command(after_help = "Example:\n  cargo xtask inpout")]
    Inpout,

    /// Build the driver a second time, in another folder, and compare the bytes.
    ///
    /// Builds as `cargo xtask build` does, for x64 and for ARM64, then from a copy of the sources and
    /// a kit of its own in the system's folder for temporary files. Fails if the two images, or the
    /// packages made of them, differ in any byte.
    #[command(after_help = "Example:\n  cargo xtask repro")]
    Repro,

    /// Check the INFs of the driver package.
    ///
    /// Checks INX and INF files by the documented rules of Windows' InfVerif (mode /w, which demands
    /// driver package isolation) and by rules of this project. A message names the rule and
    /// InfVerif's number for it. It does not replace `infverif /v /w`, which runs on Windows only.
    /// All that is broken is listed. Installs nothing.
    #[command(
        after_help = "Examples:\n  cargo xtask inf-check\n  cargo xtask inf-check --list\n  \
                      cargo xtask inf-check other.inf"
    )]
    InfCheck {
        /// List the rules and stop.
        #[arg(long)]
        list: bool,
        /// Files to check [default: those in inf, as they are and as stamped].
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },

    /// Make the driver package, without catalogs and signatures.
    ///
    /// Builds as `cargo xtask build` does, stamps the INFs as Windows' stampinf does, with the date
    /// of the commit (or SOURCE_DATE_EPOCH) and the version of Cargo.toml, checks them, and puts all
    /// into target/package/parscan_package: for x64 the driver and both INFs, and below it in arm64
    /// the driver for ARM64 and the INF of scanners. The same commit gives the same bytes. What
    /// Windows installs needs catalogs and signatures, too: `cargo make` on Windows makes all of it.
    #[command(after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --arch arm64")]
    Package {
        /// The processor that it is for [default: both, each with a package of its own].
        #[arg(long, value_enum)]
        arch: Option<Arch>,
    },

    /// Run the driver on a simulated machine and show what it does.
    ///
    /// Sets up the host, builds parscan.sys, loads that very image into the simulated kernel and
    /// works a printer and a USB scanner through it.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --port qemu\n  \
                      cargo xtask demo --out /tmp/demo"
    )]
    Demo {
        /// What sits on the printer port.
        #[arg(long, value_enum, default_value = "model")]
        port: driver::DemoPort,
        /// Where waveforms and the scanner's trace go.
        #[arg(long, value_name = "DIR", default_value = "target/demo")]
        out: PathBuf,
    },

    /// Count what everything costs.
    ///
    /// Sets up the host, builds parscan.sys and runs that very image on the simulated machine. For
    /// every mode: port accesses a byte, beside what the protocol needs at least, what Linux needs,
    /// and the limit that the driver must keep; then processor time with a slow peripheral. Then the
    /// cost sheet: of every request the instructions of the driver, beside a driver that completes
    /// the request and does nothing else, memory, kernel calls, locks and switches; of a byte, of
    /// START and its kin, of stacks and of the image. It is written to tests/parscan-tests/costs.txt, which
    /// the suite holds it to. All numbers are exact counts and virtual time, the same on every host.
    /// The exit code is 1 if a limit is missed.
    #[command(
        after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json >bench.jsonl\n  \
                      cargo xtask bench --profile GET_MODE"
    )]
    Bench(driver::BenchOptions),

    /// Run the driver for ARM64 through a scanner's whole life.
    ///
    /// Builds parscan.sys for ARM64 and runs that very image on the simulated machine, as an ARM64
    /// process in QEMU: DriverEntry, AddDevice, start, requests with good and bad pointers, a scan,
    /// sleep, removal, unload. Prints every step, and compares with what the driver for x64 does.
    /// Installs, where missing, the Debian package qemu-user and the Rust target
    /// aarch64-unknown-linux-musl.
    #[command(after_help = "Example:\n  cargo xtask arm64")]
    Arm64,

    /// Preempt the driver at every instruction.
    ///
    /// Builds parscan.sys and loads it into the simulated kernel of tests/ntsim, once for each scene
    /// of tests/parscan-tests/src/race: requests, completions, cancels, closes, interrupts, power and removal
    /// at the same time. The path of one of the threads is run by single step; at every instruction
    /// the process forks, and in the child that thread stays where it is, for seconds of virtual time,
    /// until the others have come to their end or can go no further; then it goes on. So
    /// every point of the path is seen with everything the others can do there. Then two preemptions, at every pair
    /// of kernel calls, and hundreds of seeds at random. A violation is told with the command that
    /// replays it; the exit code is 1.
    ///
    /// Nothing but interrupts takes the processor of a thread at DISPATCH_LEVEL: such a thread is held
    /// as long as any other, but beyond 100 us that does not count for the length of a pulse.
    ///
    /// The table of kernel stacks says how much of 24 KB each kind of entry used.
    #[command(
        after_help = "Examples:\n  cargo xtask race\n  cargo xtask race --quick --image debug\n  \
                            cargo xtask race --scenario requests-end:0 --point 202"
    )]
    Race(race::Options),

    /// Let go wrong what can go wrong, everywhere.
    ///
    /// Builds parscan.sys and loads it into the simulated kernel of tests/ntsim, for each scenario of
    /// tests/parscan-tests/src/verify: the whole life of a port and of a scanner with a use of it, by programs,
    /// port programs and kernel clients. A scenario is played once; at each of its points the process
    /// forks, and in the child the k-th call that can fail fails, or, before a port access, a URB or
    /// an IRP, the device is pulled out, its requests are cancelled, or the system sleeps and wakes
    /// up. Then the scenario goes on: every request ends with a documented status, the device works as
    /// before if it is still there, and nothing is left at the end. A violation is told with the
    /// command that replays it; the exit code is 1. All but the quick form explores the races, too, as
    /// `cargo xtask race` does.
    #[command(
        after_help = "Examples:\n  cargo xtask verify --quick\n  cargo xtask verify\n  \
                            cargo xtask verify --scenario scanner-scan --at unplug:urb:3"
    )]
    Verify(verify::Verify),

    /// Attack the driver with programs and devices that do what they should not.
    ///
    /// Builds parscan.sys and loads it into the simulated kernel. Each session is a machine with a
    /// port and a scanner of any kind, any values in the registry, several 64- and 32-bit programs
    /// that send any request with any buffers, cancel and close in the midst of it, a class driver,
    /// devices that break their protocols and describe themselves wrongly, little memory, sleep, stop,
    /// disable and removal. Two seeds decide all of it: one the machine, one what happens. Counts
    /// requests and the basic blocks of the image that were reached, and lists the functions with
    /// others. The sessions of the corpus come first, which reached most when it was made.
    ///
    /// With --coverage it counts as well what verify, race and the tests reach, in their quick forms,
    /// and prints what each of them reached and what none did.
    ///
    /// With --life: devices that come and go under load, and a day of virtual time in an office;
    /// memory, handles, threads and links must be back at their first level every time.
    #[command(after_help = "Examples:\n  cargo xtask attack --requests 10000000\n  \
                            cargo xtask attack --replay 17:17\n  cargo xtask attack --coverage\n  \
                            cargo xtask attack --life")]
    Attack(verify::Attack),

    /// Install the driver in Wine and use it with parscanctl.
    ///
    /// Makes the driver package and parscanctl.exe, installs the Debian package wine64 if it is
    /// missing, and plays the transcripts of tests/wine: each in a new Windows in target/wine, which
    /// is gone afterwards. Devices are simulated. Needs no display and touches no other prefix. With
    /// UPDATE_TRANSCRIPTS=1 the transcripts are written anew instead of compared.
    ///
    /// With --x86 the clients of inpout32.dll have 32 bits, in Wine's experimental WoW64 mode. For
    /// that it fetches Debian's libwine of the i386 architecture (95 MB) into target/wine-i386, by
    /// apt-get, and installs nothing of it. It is not a part of `cargo xtask test`.
    #[command(
        after_help = "Examples:\n  cargo xtask wine\n  cargo xtask wine print scan\n  \
                            cargo xtask wine --repeat 20\n  cargo xtask wine --x86"
    )]
    Wine {
        /// 32-bit clients: plays inpout.
        #[arg(long)]
        x86: bool,
        /// Play them this often.
        #[arg(long, value_name = "N", default_value_t = 1)]
        repeat: u32,
        /// Transcripts, by the names of their files [default: all].
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },

    /// Fuzz the driver's parts that need no kernel.
    ///
    /// Runs the targets of tests/fuzz with cargo-fuzz: any request, any device ID, any USB
    /// descriptors, a session on registers that read as they want, and one with a device that
    /// breaks the protocols. Installs cargo-fuzz and a nightly Rust toolchain if they are missing. What was found is kept in
    /// tests/fuzz/artifacts, what was learnt in tests/fuzz/corpus; both are ignored by git. Not
    /// part of `cargo xtask test`.
    #[command(after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz --seconds 60 engine")]
    Fuzz {
        /// How long each target runs.
        #[arg(long, value_name = "N", default_value_t = 600)]
        seconds: u32,
        /// Targets [default: all].
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },

    /// Check the licences and sources of all dependencies.
    ///
    /// By deny.toml, and from what is on disk; in the driver's image only MIT and Apache-2.0 may be.
    /// `cargo deny check` says the same, and asks for advisories, which needs a network.
    Deny,

    /// Run all checks and tests.
    ///
    /// Sets up the host with everything that the tests use (as `cargo xtask setup --all`), then
    /// runs numbered steps: format, lints, unit tests natively and under Miri, the driver's build,
    /// its gate and package, the driver on the simulated machine, on ARM64 and in Wine, the demos,
    /// the documentation.
    /// Output of a step is shown when it fails and kept in target/test-logs. All steps run even if
    /// one fails; the last line counts them, and the exit code is 0 only if all passed.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --list\n  \
                            cargo xtask test --only build --only ntsim"
    )]
    Test {
        /// List the steps and stop.
        #[arg(long)]
        list: bool,
        /// Run this step only, and those that it needs. May be given more than once.
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
        /// Stop at the first step that fails.
        #[arg(long)]
        fail_fast: bool,
        /// Show the output of all steps as it comes.
        #[arg(long)]
        verbose: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Not anyhow's own form, which adds a backtrace when RUST_BACKTRACE is set.
            shell::fail(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn code(fine: bool) -> ExitCode {
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup { all } => {
            let extra: &[Tool] = if all {
                &[
                    Tool::Qemu,
                    Tool::Lints,
                    Tool::Miri,
                    Tool::Programs,
                    Tool::Programs32,
                    Tool::Wine,
                    Tool::Arm64,
                ]
            } else {
                &[]
            };
            if cfg!(windows) {
                say("setup: the build uses the installed WDK, nothing else is needed on Windows");
            }
            if !setup::ensure(&workspace, extra)? {
                say("setup: everything is in place");
            }
        }
        Command::Build {
            arch,
            release: _,
            debug,
        } => {
            let archs = if arch.is_empty() {
                &[Arch::X64]
            } else {
                arch.as_slice()
            };
            driver::build_all(&workspace, archs, debug)?;
        }
        Command::Gate {
            file,
            arch,
            deny_panic,
        } => {
            let deny = deny_panic || (gate::DENY_PANIC && file.is_none());
            let made = arch.unwrap_or(Arch::X64);
            let file = file.unwrap_or_else(|| {
                made.below(workspace.target().join("parscan"))
                    .join("parscan.sys")
            });
            gate::run(&file, arch, &Exports::load(&workspace)?, deny)?;
        }
        Command::InfCheck { list: true, .. } => inf_check::list(),
        Command::InfCheck { list: false, files } => inf_check::run(&workspace, &files)?,
        Command::Package { arch } => {
            for arch in arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]) {
                let _: PathBuf = package::run(&workspace, arch)?;
            }
        }
        Command::Parscanctl { arch } => {
            let _: PathBuf = program::build(&workspace, arch)?;
        }
        Command::Inpout => {
            let _: PathBuf = inpout::build(&workspace)?;
        }
        Command::Arm64 => arm64::run(&workspace)?,
        Command::Repro => driver::reproduce(&workspace)?,
        Command::Deny => deny::check(&workspace)?,
        Command::Demo { port, out } => driver::demo(&workspace, port, &out)?,
        Command::Bench(options) => return Ok(code(driver::bench(&workspace, &options)?)),
        Command::Race(options) => return Ok(code(race::explore(&workspace, &options)?)),
        Command::Verify(options) => return Ok(code(verify::verify(&workspace, &options)?)),
        Command::Attack(options) => return Ok(code(verify::attack(&workspace, &options)?)),
        Command::Fuzz { seconds, targets } => {
            let options = fuzz::Options { seconds, targets };
            return Ok(code(fuzz::run_targets(&workspace, &options)?));
        }
        Command::Wine { x86, repeat, names } => {
            return Ok(code(wine::play(&workspace, repeat, x86, &names)?));
        }
        Command::Test {
            list,
            only,
            fail_fast,
            verbose,
        } => {
            let options = suite::Options {
                only,
                fail_fast,
                verbose,
            };
            if list {
                suite::list();
            } else if !suite::run(&workspace, &options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_there_are_not_are_refused_before_anything_is_built() {
        for line in [
            &["xtask", "demo", "--nonsense"][..],
            &["xtask", "demo", "--port", "nothing"],
            &["xtask", "demo", "more"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
        for line in [
            &["xtask", "demo"][..],
            &["xtask", "demo", "--port=qemu", "--out", "/tmp/demo"],
        ] {
            assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
        }
    }
}

//! Many want one port: kernel clients of the port object, and programs on two devices. First come,
//! first served; one owner at a time.

use std::{
    env,
    time::{Duration, Instant},
};

use ntsim::{Caller, Config, Handle, NtStatus, Pending};
use parscan_models::Peripheral1284;
use parscan_tests::{
    Setup, US, check,
    client::{Client, END_OF_CHAIN, PORT},
    modes::{Chip, ModesPc, pc_with},
};

/// Grants to kernel clients in a run.
const GRANTS: u64 = 10_000;
/// Seeds of the scheduler, and of what the clients do: so many long runs, unless the environment
/// says otherwise.
const SEEDS: u64 = 4;
/// The environment's number of long runs. A thousand take about a quarter of an hour.
const SEEDS_VARIABLE: &str = "PARSCAN_ARBITRATION_SEEDS";
/// Seeds of short runs, and grants in one.
const SHORT: (u64, u64) = (1000, 200);
/// Kernel clients.
const CLIENTS: usize = 8;
/// What a program writes, again and again. Each writes letters of its own.
const WRITES: [&[u8]; 2] = [b"aaaaa", b"bbbbb"];
/// The most grants to kernel clients that a program's write may see: one to each who was there
/// before it, and what is granted until the device's worker has taken the write up. The worker
/// takes part in the scheduler's lot like ten other threads.
const PROGRAMS_PATIENCE: u64 = CLIENTS as u64 + 60;

/// A program that writes all the time.
struct Program {
    handle: Handle,
    text: &'static [u8],
    under_way: Option<(Pending, u64)>,
    writes: usize,
    longest_wait: u64,
}

impl Program {
    fn new(pc: &ModesPc, name: &str, text: &'static [u8]) -> Self {
        let handle = check(pc.machine.open(name, Caller::User64))
            .unwrap_or_else(|status| panic!("{name}: {status}"));
        Self {
            handle,
            text,
            under_way: None,
            writes: 0,
            longest_wait: 0,
        }
    }

    /// Starts a write if none is under way.
    fn write(&mut self, pc: &ModesPc, progress: u64) {
        if self.under_way.is_none() {
            let pending = pc.machine.start_write(self.handle, self.text);
            self.under_way = Some((pending, progress));
        }
    }

    /// Takes a write's result.
    fn take(&mut self, pc: &ModesPc, progress: impl FnOnce() -> u64, must: bool) {
        let Some((pending, before)) = &self.under_way else {
            return;
        };
        if !must && !pc.machine.is_done(pending) {
            return;
        }
        let result = check(pc.machine.finish(pending));
        assert_eq!(result.status, NtStatus::SUCCESS);
        assert_eq!(result.information, self.text.len());
        self.longest_wait = self.longest_wait.max(progress() - before);
        self.writes += 1;
        self.under_way = None;
    }
}

/// One run; gives the host's time.
fn run(seed: u64, grants: u64) -> Duration {
    let setup = Setup::with_config(Config {
        seed,
        preempt_per_mille: 200,
        trace_ports: false,
        trace_limit: 0,
        max_steps: u64::MAX,
        keep_paged: true,
        ..Config::default()
    });
    // A device with an ID, so that there is one at the end of the chain.
    let peripheral = Peripheral1284::new();
    let pc = pc_with(Chip::Spp, &peripheral, setup);
    let client = Client::load(&pc);
    let mut programs = [
        Program::new(&pc, r"\\.\LPT1", WRITES[0]),
        Program::new(&pc, END_OF_CHAIN, WRITES[1]),
    ];
    let began = Instant::now();
    let contention = client.start_contention(PORT, CLIENTS, grants, seed);
    while !contention.is_done() {
        let progress = contention.progress();
        for program in &mut programs {
            program.write(&pc, progress);
        }
        check(pc.machine.run_for(50 * US));
        for program in &mut programs {
            program.take(&pc, || contention.progress(), false);
        }
    }
    for program in &mut programs {
        program.take(&pc, || contention.progress(), true);
    }
    let found = contention.finish();
    let took = began.elapsed();
    println!(
        "seed {seed}: {} a grant; writes {} and {}, longest waits {} and {}; {found:?}",
        format_args!("{:.1?}", took / u32::try_from(grants).expect("few")),
        programs[0].writes,
        programs[1].writes,
        programs[0].longest_wait,
        programs[1].longest_wait,
    );
    assert_eq!((found.failed, found.status), (0, NtStatus::SUCCESS));
    assert_eq!(found.grants, grants);
    assert_eq!(
        found.two_owners, 0,
        "grants while another client had the port"
    );
    assert_eq!(found.intrusions, 0, "accesses to a port that a client had");
    assert_eq!(found.out_of_order, 0, "grants out of order");
    // Each of the others was there before it, once.
    let places = CLIENTS as u64 - 1;
    assert!(found.longest_wait <= places, "{}", found.longest_wait);
    assert!(found.grants_of.iter().all(|it| *it > 0), "{found:?}");
    assert_ne!(found.at_dispatch, 0, "no grant came at DISPATCH_LEVEL");
    for program in &programs {
        assert_ne!(program.writes, 0);
        assert!(
            program.longest_wait <= PROGRAMS_PATIENCE,
            "{}",
            program.longest_wait
        );
        check(pc.machine.close(program.handle));
    }
    // Every write arrived whole, undivided by another.
    let printed = peripheral.received();
    let all: usize = programs.iter().map(|it| it.writes * it.text.len()).sum();
    assert_eq!(printed.len(), all);
    for part in printed.chunks(WRITES[0].len()) {
        assert!(
            WRITES.contains(&part),
            "{:?}",
            String::from_utf8_lossy(part)
        );
    }
    client.unload();
    pc.finish();
    took
}

#[test]
fn ten_thousand_grants_in_order() {
    let seeds = env::var(SEEDS_VARIABLE).map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        run(seed, GRANTS);
    }
}

/// Fewer grants, but many ways of the scheduler.
#[test]
fn a_thousand_seeds() {
    let (seeds, grants) = SHORT;
    for seed in 0..seeds {
        run(seed, grants);
    }
}

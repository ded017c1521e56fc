//! Every point of a path, by `fork`.
//!
//! The path is run once, by single step. At every point the process forks: in the child the thread
//! is held there, the others run to their end, it goes on, and the scene's end checks are made; the
//! parent goes on stepping. So no part of a path is run twice, and each point costs what comes
//! after it.
//!
//! An instruction that does nothing outside the registers and private stack slots of its thread
//! makes no difference to the others: a thread held before it and one held behind it are the same
//! to them. Such a point is counted, and explored with the next one.

use std::rc::Rc;

use ntsim::{Config, DriverId, Machine, Nanos, Running, Stop, Where, Who};

use parscan_tests::{
    MS, check,
    fork::{self, Report, Shared},
};

/// How long a thread is held at most while others run, in virtual time: longer than a request waits
/// for the port, and than `PARALLEL_INIT` waits for a printer.
pub(crate) const LONG: Nanos = 12_000 * MS;
/// After that everything must end by itself.
const BOUND: Nanos = 60_000 * MS;
/// Seconds of real time for a child: the driver may spin without a kernel call.
const PATIENCE: u32 = 60;

/// A scene, ready to begin.
pub(crate) struct Cast {
    pub(crate) machine: Machine,
    /// The driver whose code is looked at.
    pub(crate) driver: DriverId,
    pub(crate) actors: Vec<Actor>,
    /// How long the first actor is watched; what it began may go on in other threads.
    pub(crate) window: Nanos,
    /// How long a thread is held at most while the others have not come to their end.
    pub(crate) held: Nanos,
    /// What must hold at the end, and the way there: removal, unload, nothing left.
    pub(crate) end: Box<dyn FnOnce()>,
}

impl Cast {
    /// A scene whose first actor is watched for 50 ms and whose threads are held for long.
    pub(crate) fn new(machine: &Machine, driver: DriverId) -> Self {
        Self {
            machine: machine.clone(),
            driver,
            actors: Vec::new(),
            window: 50 * MS,
            held: LONG,
            end: Box::new(|| {}),
        }
    }

    /// Another thread, and what it does.
    pub(crate) fn actor(self, name: &'static str, part: impl FnOnce(&Machine) + 'static) -> Self {
        self.with(actor(name, part))
    }

    /// Another thread.
    pub(crate) fn with(mut self, actor: Actor) -> Self {
        self.actors.push(actor);
        self
    }

    /// What must hold at the end.
    pub(crate) fn end(mut self, end: impl FnOnce() + 'static) -> Self {
        self.end = Box::new(end);
        self
    }

    /// The first actor is watched for so long.
    pub(crate) const fn within(mut self, window: Nanos) -> Self {
        self.window = window;
        self
    }

    /// A thread is held at most for so long.
    pub(crate) const fn held_for(mut self, held: Nanos) -> Self {
        self.held = held;
        self
    }
}

type Part = Box<dyn FnOnce(&Machine)>;

/// What one thread does.
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    pub(crate) part: Part,
}

/// Makes an [`Actor`].
pub(crate) fn actor(name: &'static str, part: impl FnOnce(&Machine) + 'static) -> Actor {
    Actor {
        name,
        part: Box::new(part),
    }
}

/// A scene.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) build: fn(Config) -> Cast,
}

/// Which thread is held, in which of the scene's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The actor's own.
    Caller,
    /// The driver's system threads.
    Worker,
    /// Its DPCs.
    Dpc,
    /// Its work items.
    WorkItem,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Caller, Self::Worker, Self::Dpc, Self::WorkItem];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Caller => "",
            Self::Worker => "/worker",
            Self::Dpc => "/dpc",
            Self::WorkItem => "/work-item",
        }
    }
}

/// What is done with a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The first actor's thread of this kind is held at every instruction.
    Hold(usize, Kind),
    /// Two preemptions: the first actor at each of its kernel calls, the second at each of its own
    /// while the first is held; then the first goes on.
    Pairs(usize, usize),
    /// All at once, chosen by so many seeds.
    Random(u64),
}

/// Points of the path, in a [`Report`].
pub(crate) const POINTS: &str = "points";
/// Of them explored each by itself.
pub(crate) const RUNS: &str = "runs";
/// Left out by the quick form.
pub(crate) const LEFT_OUT: &str = "left out";

/// Explores a scene in one way, in a process of its own. `thinned`: after so many runs every 16th
/// only.
pub(crate) fn explore(
    scene: &Scene,
    way: Way,
    config: &Config,
    only: Option<&str>,
    thinned: Option<u64>,
) -> Report {
    fork::apart(2, PATIENCE, |forker| {
        perform(scene, way, config, forker, only, thinned);
    })
}

/// Watches a thread; at each stop a child is made in which it is held.
fn split(
    machine: &Machine,
    driver: DriverId,
    who: Who,
    place: Where,
    forker: &Shared,
    only: Option<u64>,
    thinned: Option<u64>,
) {
    let forker = Rc::clone(forker);
    machine.watch(who, place, driver, move |stop: Stop| {
        if let Some(only) = only {
            return stop.number == only;
        }
        let forker = &mut *forker.borrow_mut();
        forker.report.count(POINTS);
        if stop.private {
            return false;
        }
        let report = &mut forker.report;
        let far = thinned.is_some_and(|runs| report.of(RUNS) >= runs);
        if far && !stop.number.is_multiple_of(16) {
            report.count(LEFT_OUT);
            return false;
        }
        report.count(RUNS);
        let is_child = forker.fork(&stop.number.to_string());
        if is_child {
            ntsim::after_fork();
        }
        is_child
    });
}

#[allow(clippy::too_many_lines, reason = "the three ways in full")]
fn perform(
    scene: &Scene,
    way: Way,
    config: &Config,
    forker: &Shared,
    only: Option<&str>,
    thinned: Option<u64>,
) {
    let cast = (scene.build)(config.clone());
    let machine = cast.machine.clone();
    let start = |actor: Actor| machine.start_thread(actor.name, actor.part);
    let mut actors: Vec<Option<Actor>> = cast.actors.into_iter().map(Some).collect();
    let mut numbers = only
        .into_iter()
        .flat_map(|text| text.split('.'))
        .map(|number| number.parse().expect("a number of a point"));
    let split = |who, place, only, thinned| {
        split(&machine, cast.driver, who, place, forker, only, thinned);
    };
    let mut threads: Vec<Running> = Vec::new();
    match way {
        Way::Hold(first, kind) => {
            let thread = start(actors[first].take().expect("an actor"));
            threads.push(thread);
            let who = match kind {
                Kind::Caller => Who::Thread(thread),
                Kind::Worker => Who::System,
                Kind::Dpc => Who::Dpc,
                Kind::WorkItem => Who::WorkItem,
            };
            split(who, Where::Instructions, numbers.next(), thinned);
            let over = check(machine.run_threads(&[thread], cast.window));
            if over && kind != Kind::Caller && !machine.is_held() {
                check(machine.run_until_held(cast.window));
            }
            machine.end_watch();
            threads.extend(actors.into_iter().flatten().map(start));
        }
        Way::Pairs(first, second) => {
            let a = start(actors[first].take().expect("an actor"));
            threads.push(a);
            split(Who::Thread(a), Where::Calls, numbers.next(), thinned);
            check(machine.run_threads(&[a], cast.window));
            machine.end_watch();
            let b = start(actors[second].take().expect("an actor"));
            threads.push(b);
            if machine.is_held() {
                // The first one stays as it is while the second comes to its own point; then the
                // first is let go, to its end or as far as it can, before the second.
                split(Who::Thread(b), Where::Calls, numbers.next(), None);
                check(machine.run_threads(&[b], cast.held));
                machine.end_watch();
                machine.let_first_go();
                check(machine.run_threads(&[a], cast.held));
            }
            threads.extend(actors.into_iter().flatten().map(start));
        }
        Way::Random(seeds) => {
            let chosen: Option<u64> = numbers.next();
            let mut child = false;
            for seed in 1..=seeds {
                if let Some(chosen) = chosen {
                    machine.reseed(chosen, 300);
                    child = true;
                    break;
                }
                let mut forker = forker.borrow_mut();
                forker.report.count(POINTS);
                forker.report.count(RUNS);
                if forker.fork(&seed.to_string()) {
                    ntsim::after_fork();
                    machine.reseed(seed, 300);
                    child = true;
                    break;
                }
            }
            if !child {
                return;
            }
            threads.extend(actors.into_iter().flatten().map(start));
        }
    }
    check(machine.run_threads(&threads, cast.held));
    machine.let_go();
    let over = check(machine.run_threads(&threads, BOUND));
    assert!(over, "nothing goes on: {}", machine.waits());
    (cast.end)();
    let mut forker = forker.borrow_mut();
    for (name, used) in machine.stack_marks() {
        forker.report.mark(&name, used);
    }
}

/// How many actors a scene has.
pub(crate) fn actors(scene: &Scene, config: &Config) -> usize {
    let report = fork::apart(1, PATIENCE, |forker| {
        let is_child = forker.borrow_mut().fork("");
        if is_child {
            let mut quiet = config.clone();
            quiet.echo = false;
            for _ in (scene.build)(quiet).actors {
                forker.borrow_mut().report.count("actors");
            }
        }
    });
    usize::try_from(report.of("actors")).unwrap_or(0)
}

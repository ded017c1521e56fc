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

use std::{
    any::Any, cell::RefCell, collections::BTreeMap, fmt::Write as _, io::Write as _, panic, rc::Rc,
};

use ntsim::{Config, DriverId, Machine, Nanos, Running, Stop, Where, Who};

use parscan_lab::{MS, check};

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

/// What a child found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// `3` or, with two preemptions, `3.7`.
    pub(crate) point: String,
    pub(crate) what: String,
}

/// What came of a scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Points of the path.
    pub(crate) points: u64,
    /// Of them explored each by itself.
    pub(crate) runs: u64,
    /// Left out by the quick form.
    pub(crate) left_out: u64,
    pub(crate) violations: u64,
    /// The first ones.
    pub(crate) findings: Vec<Finding>,
    pub(crate) marks: BTreeMap<String, usize>,
}

impl Outcome {
    fn add(&mut self, finding: Finding) {
        self.violations += 1;
        // Not ten times the same.
        let known = |f: &Finding| same(&f.what, &finding.what);
        if self.findings.len() < 8 && !self.findings.iter().any(known) {
            self.findings.push(finding);
        }
    }

    /// As lines for a pipe.
    fn text(&self) -> String {
        let mut text = format!(
            "{} {} {} {}\n",
            self.points, self.runs, self.left_out, self.violations
        );
        for (name, used) in &self.marks {
            let _ = writeln!(text, "mark {used} {name}");
        }
        for finding in &self.findings {
            let what = finding.what.replace('\n', "\u{1}");
            let _ = writeln!(text, "found {}. {what}", finding.point);
        }
        text
    }

    fn merge(&mut self, text: &str, prefix: &str) {
        let mut lines = text.lines();
        let mut sums = lines
            .next()
            .unwrap_or_default()
            .split(' ')
            .map(|word| word.parse::<u64>().unwrap_or(0));
        self.points += sums.next().unwrap_or(0);
        self.runs += sums.next().unwrap_or(0);
        self.left_out += sums.next().unwrap_or(0);
        let all = sums.next().unwrap_or(0);
        let mut listed = 0;
        for line in lines {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("mark"), Some(used), Some(name)) => {
                    let used = used.parse().unwrap_or(0);
                    let mark = self.marks.entry(name.to_owned()).or_default();
                    *mark = used.max(*mark);
                }
                (Some("found"), Some(point), Some(what)) => {
                    listed += 1;
                    self.add(Finding {
                        point: join(prefix, point),
                        what: what.replace('\u{1}', "\n"),
                    });
                }
                _ => {}
            }
        }
        self.violations += all.saturating_sub(listed);
    }
}

/// The name of a child's point; that of a grandchild behind it.
fn join(outer: &str, inner: &str) -> String {
    let inner = inner.trim_end_matches('.');
    match (outer, inner) {
        ("", point) | (point, "") => point.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

/// Whether two findings differ in numbers only.
fn same(a: &str, b: &str) -> bool {
    let plain =
        |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_hexdigit()).collect() };
    plain(a) == plain(b)
}

/// A child under way.
struct Child {
    pid: i32,
    pipe: i32,
    point: String,
}

/// Forks, and hears what children say.
struct Forker {
    outcome: Outcome,
    children: Vec<Child>,
    at_once: usize,
    /// After so many runs every 16th only.
    thinned: Option<u64>,
    /// Where this process tells its outcome, in a child.
    up: Option<i32>,
}

thread_local! {
    /// Of the process that plays a scene.
    static FORKER: RefCell<Option<Rc<RefCell<Forker>>>> = const { RefCell::new(None) };
}

/// Panics of a process that plays a scene are findings, and its end.
pub(crate) fn keep_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let Some(forker) = FORKER.with(|it| it.borrow().clone()) else {
            return usual(info);
        };
        let place = info.location().map_or_else(String::new, |place| {
            let file = place.file().rsplit('/').next().unwrap_or_default();
            format!(" ({file}:{})", place.line())
        });
        let what = format!("{}{place}", message(info.payload()));
        forker.borrow_mut().outcome.add(Finding {
            point: String::new(),
            what,
        });
        leave(&forker);
    }));
}

fn message(payload: &dyn Any) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned())
}

impl Forker {
    fn new(at_once: usize) -> Self {
        Self {
            outcome: Outcome::default(),
            children: Vec::new(),
            at_once,
            thinned: None,
            up: None,
        }
    }

    /// Gives whether this is the child.
    fn fork(&mut self, point: String) -> bool {
        while self.children.len() >= self.at_once {
            self.reap();
        }
        let mut pipe = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0, "pipe");
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: a plain system call.
                unsafe { libc::close(pipe[0]) };
                // SAFETY: a plain system call; the signal's default ends the process.
                unsafe { libc::alarm(PATIENCE) };
                *self = Self {
                    up: Some(pipe[1]),
                    ..Self::new(1)
                };
                true
            }
            pid => {
                assert!(pid > 0, "fork");
                // SAFETY: a plain system call.
                unsafe { libc::close(pipe[1]) };
                self.children.push(Child {
                    pid,
                    pipe: pipe[0],
                    point,
                });
                false
            }
        }
    }

    /// Hears the oldest child out.
    fn reap(&mut self) {
        let child = self.children.remove(0);
        let mut text = Vec::new();
        let mut part = [0_u8; 4096];
        loop {
            // SAFETY: as many bytes as there is room.
            let count = unsafe { libc::read(child.pipe, part.as_mut_ptr().cast(), part.len()) };
            let Ok(count) = usize::try_from(count) else {
                break;
            };
            if count == 0 {
                break;
            }
            text.extend_from_slice(&part[..count]);
        }
        // SAFETY: a descriptor of this process.
        unsafe { libc::close(child.pipe) };
        let mut status = 0;
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(child.pid, &raw mut status, 0) };
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            let what = if signal == libc::SIGALRM {
                format!("no progress for {PATIENCE} seconds: an endless loop without a kernel call")
            } else {
                format!("the process died of signal {signal}")
            };
            self.outcome.add(Finding {
                point: child.point,
                what,
            });
            return;
        }
        let text = String::from_utf8_lossy(&text);
        self.outcome.merge(&text, &child.point);
    }

    fn reap_all(&mut self) {
        while !self.children.is_empty() {
            self.reap();
        }
    }
}

/// The end of a child: tells its outcome and goes, without any destructor.
fn leave(forker: &Rc<RefCell<Forker>>) -> ! {
    let mut forker = forker.borrow_mut();
    forker.reap_all();
    let text = forker.outcome.text();
    let mut rest = text.as_bytes();
    while let (false, Some(up)) = (rest.is_empty(), forker.up) {
        // SAFETY: as many bytes as there are.
        let count = unsafe { libc::write(up, rest.as_ptr().cast(), rest.len()) };
        let Ok(count) = usize::try_from(count) else {
            break;
        };
        rest = &rest[count..];
    }
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(0) }
}

/// Explores a scene in one way, in a process of its own.
pub(crate) fn explore(
    scene: &Scene,
    way: Way,
    config: &Config,
    only: Option<&str>,
    thinned: Option<u64>,
) -> Outcome {
    let mut top = Forker::new(1);
    let _ = std::io::stdout().flush();
    if top.fork(String::new()) {
        // SAFETY: a plain system call: only what is below has a limit.
        unsafe { libc::alarm(0) };
        top.at_once = 2;
        top.thinned = thinned;
        let forker = Rc::new(RefCell::new(top));
        FORKER.with(|it| *it.borrow_mut() = Some(Rc::clone(&forker)));
        perform(scene, way, config, &forker, only);
        leave(&forker);
    }
    top.reap_all();
    top.outcome
}

/// Watches a thread; at each stop a child is made in which it is held.
fn split(
    machine: &Machine,
    driver: DriverId,
    who: Who,
    place: Where,
    forker: &Rc<RefCell<Forker>>,
    only: Option<u64>,
) {
    let forker = Rc::clone(forker);
    machine.watch(who, place, driver, move |stop: Stop| {
        if let Some(only) = only {
            return stop.number == only;
        }
        let forker = &mut *forker.borrow_mut();
        forker.outcome.points += 1;
        if stop.private {
            return false;
        }
        let outcome = &mut forker.outcome;
        let far = forker.thinned.is_some_and(|runs| outcome.runs >= runs);
        if far && !stop.number.is_multiple_of(16) {
            outcome.left_out += 1;
            return false;
        }
        outcome.runs += 1;
        let is_child = forker.fork(format!("{}", stop.number));
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
    forker: &Rc<RefCell<Forker>>,
    only: Option<&str>,
) {
    let cast = (scene.build)(config.clone());
    let machine = cast.machine.clone();
    let start = |actor: Actor| machine.start_thread(actor.name, actor.part);
    let mut actors: Vec<Option<Actor>> = cast.actors.into_iter().map(Some).collect();
    let mut numbers = only
        .into_iter()
        .flat_map(|text| text.split('.'))
        .map(|number| number.parse().expect("a number of a point"));
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
            let only = numbers.next();
            split(
                &machine,
                cast.driver,
                who,
                Where::Instructions,
                forker,
                only,
            );
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
            let only = numbers.next();
            split(
                &machine,
                cast.driver,
                Who::Thread(a),
                Where::Calls,
                forker,
                only,
            );
            check(machine.run_threads(&[a], cast.window));
            machine.end_watch();
            let b = start(actors[second].take().expect("an actor"));
            threads.push(b);
            if machine.is_held() {
                // The first one stays as it is while the second comes to its own point; then the
                // first is let go, to its end or as far as it can, before the second.
                let only = numbers.next();
                split(
                    &machine,
                    cast.driver,
                    Who::Thread(b),
                    Where::Calls,
                    forker,
                    only,
                );
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
                forker.outcome.points += 1;
                forker.outcome.runs += 1;
                if forker.fork(format!("{seed}")) {
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
    let marks = machine.stack_marks();
    let mut forker = forker.borrow_mut();
    for (name, used) in marks {
        let mark = forker.outcome.marks.entry(name).or_default();
        *mark = used.max(*mark);
    }
}

/// How many actors a scene has.
pub(crate) fn actors(scene: &Scene, config: &Config) -> usize {
    let mut top = Forker::new(1);
    if top.fork(String::new()) {
        let forker = Rc::new(RefCell::new(top));
        let mut quiet = config.clone();
        quiet.echo = false;
        FORKER.with(|it| *it.borrow_mut() = Some(Rc::clone(&forker)));
        let count = (scene.build)(quiet).actors.len();
        forker.borrow_mut().outcome.points = count as u64;
        leave(&forker);
    }
    top.reap_all();
    usize::try_from(top.outcome.points).unwrap_or(0)
}

//! Processes that try something each and tell what came of it.
//!
//! A process forks in the midst of what it does; the child goes another way from there, to its end,
//! while the parent goes on. A panic of a child, a signal that ends it, and no progress for so many
//! seconds are findings.

use std::{any::Any, cell::RefCell, collections::BTreeMap, panic, process::ExitCode, rc::Rc};

/// So many findings are kept.
const KEPT: usize = 8;

/// What a program that goes through many things may be told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Extent {
    /// The quick form, which leaves much out.
    #[arg(long)]
    pub quick: bool,
    /// List what there is.
    #[arg(long)]
    pub list: bool,
}

/// What a child found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Where it left its parent; of a grandchild `3.7`, with where its own parent had left before.
    pub point: String,
    /// What went wrong.
    pub what: String,
}

/// What came of a process and of all that it forked.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was done how often.
    pub counts: BTreeMap<String, u64>,
    /// The highest marks that were reached.
    pub marks: BTreeMap<String, usize>,
    /// What went wrong how often.
    pub violations: u64,
    /// The first ones of each kind.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Counts one more.
    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// How often it was done.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// A mark was reached.
    pub fn mark(&mut self, name: &str, reached: usize) {
        let mark = self.marks.entry(name.to_owned()).or_default();
        *mark = reached.max(*mark);
    }

    /// Notes a finding.
    pub fn add(&mut self, point: &str, what: &str) {
        self.violations += 1;
        let plain =
            |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_hexdigit()).collect() };
        let known = |it: &Finding| plain(&it.what) == plain(what);
        if self.findings.len() < KEPT && !self.findings.iter().any(known) {
            self.findings.push(Finding {
                point: point.to_owned(),
                what: what.to_owned(),
            });
        }
    }

    /// How a program ends whose report this is.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.violations == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Takes over what another one has.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
        for (name, reached) in &other.marks {
            self.mark(name, *reached);
        }
        let told = other.findings.len() as u64;
        for finding in &other.findings {
            self.add(&finding.point, &finding.what);
        }
        self.violations += other.violations.saturating_sub(told);
    }

    /// As lines for a pipe.
    fn text(&self) -> String {
        let counts = self.counts.iter();
        let mut lines: Vec<String> = counts
            .map(|(what, n)| format!("count\t{n}\t{what}"))
            .collect();
        let marks = self.marks.iter();
        lines.extend(marks.map(|(name, reached)| format!("mark\t{reached}\t{name}")));
        lines.push(format!("violations\t{}\t", self.violations));
        for finding in &self.findings {
            let what = finding.what.replace('\n', "\u{1}");
            lines.push(format!("found\t{}\t{what}", finding.point));
        }
        lines.join("\n")
    }

    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, '\t');
            let (Some(kind), Some(first), Some(rest)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            match kind {
                "count" => {
                    report
                        .counts
                        .insert(rest.to_owned(), first.parse().unwrap_or(0));
                }
                "mark" => report.mark(rest, first.parse().unwrap_or(0)),
                "violations" => report.violations = first.parse().unwrap_or(0),
                _ => report.findings.push(Finding {
                    point: first.to_owned(),
                    what: rest.replace('\u{1}', "\n"),
                }),
            }
        }
        report
    }
}

/// The name of a child's point; that of a grandchild behind it.
fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", point) | (point, "") => point.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

/// A child under way.
struct Child {
    pid: i32,
    pipe: i32,
    point: String,
}

/// A process that forks.
pub struct Forker {
    /// What is known so far.
    pub report: Report,
    children: Vec<Child>,
    at_once: usize,
    /// Seconds of real time for a child: the driver may spin without a kernel call.
    patience: u32,
    /// Where this process tells its report, in a child.
    up: Option<i32>,
}

/// A [`Forker`] that closures share.
pub type Shared = Rc<RefCell<Forker>>;

thread_local! {
    static FORKER: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Panics of a process that [`apart`] or [`Forker::fork`] made are findings from now on.
pub fn keep_panics() {
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
        forker.borrow_mut().report.add("", &what);
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
    fn new(at_once: usize, patience: u32) -> Self {
        Self {
            report: Report::default(),
            children: Vec::new(),
            at_once,
            patience,
            up: None,
        }
    }

    /// Gives whether this is the child. What it finds will be told with `point`.
    ///
    /// # Panics
    /// If there can be no more processes.
    pub fn fork(&mut self, point: &str) -> bool {
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
                unsafe { libc::alarm(self.patience) };
                *self = Self {
                    up: Some(pipe[1]),
                    ..Self::new(1, self.patience)
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
                    point: point.to_owned(),
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
                format!("no progress for {} seconds", self.patience)
            } else {
                format!("the process died of signal {signal}")
            };
            self.report.add(&child.point, &what);
            return;
        }
        let mut report = Report::parse(&String::from_utf8_lossy(&text));
        for finding in &mut report.findings {
            finding.point = join(&child.point, &finding.point);
        }
        self.report.merge(&report);
    }

    fn reap_all(&mut self) {
        while !self.children.is_empty() {
            self.reap();
        }
    }
}

/// The end of a child: tells its report and goes, without any destructor.
pub fn leave(forker: &Shared) -> ! {
    let mut forker = forker.borrow_mut();
    forker.reap_all();
    let text = forker.report.text();
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

/// Runs `f` in a process of its own, and gives its report. It may have so many children at once, for
/// so many seconds each.
pub fn apart(at_once: usize, patience: u32, f: impl FnOnce(&Shared)) -> Report {
    let mut top = Forker::new(1, patience);
    let _ = std::io::Write::flush(&mut std::io::stdout());
    if top.fork("") {
        // SAFETY: a plain system call: only what is below has a limit.
        unsafe { libc::alarm(0) };
        top.at_once = at_once;
        let forker = Rc::new(RefCell::new(top));
        FORKER.with(|it| *it.borrow_mut() = Some(Rc::clone(&forker)));
        f(&forker);
        leave(&forker);
    }
    top.reap_all();
    top.report
}

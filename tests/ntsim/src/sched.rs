//! Threads and virtual time.
//!
//! Every NT thread, DPC and work item is a coroutine; one runs at a time and they change places at
//! kernel calls and port accesses only, chosen by the seed. IRQL belongs to the thread, as if each
//! had a processor of its own, so a spin lock can really be contended. When no thread can run, time
//! jumps to the next timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corosensei::stack::{DefaultStack, Stack as _};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::cpu::Stacks;
use crate::mem::Va;
use crate::rules;
use crate::stack::{Context, Stack};
use crate::state::{Kernel, with};
use crate::watch::Watch;
use crate::{Bugcheck, Machine, Nanos};

pub(crate) type Tid = u32;

/// The priority of a thread whose priority was not changed.
pub(crate) const NORMAL_PRIORITY: i32 = 8;

const STACK_SIZE: usize = 256 << 10;

enum Suspend {
    Wait,
    Dead,
}

type Co = Coroutine<(), Suspend, ()>;
type Ready = Box<dyn Fn(&Kernel) -> bool>;

thread_local! {
    static YIELDER: Cell<*const Yielder<(), Suspend>> = const { Cell::new(core::ptr::null()) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// A caller of the machine's interface, in a user process or a system thread of the machine.
    Caller,
    /// `PsCreateSystemThread`.
    System,
    Dpc,
    WorkItem,
}

struct Waiting {
    ready: Ready,
    deadline: Option<Nanos>,
    why: &'static str,
}

pub(crate) struct Thread {
    pub name: String,
    /// The thread of the machine's interface for which it runs: itself, if for none.
    pub root: Tid,
    pub kind: ThreadKind,
    pub irql: u8,
    /// `KeSetPriorityThread`: what [`NORMAL_PRIORITY`] is when it begins.
    pub priority: i32,
    /// `KeEnterCriticalRegion` count.
    pub critical: i32,
    /// Fast mutexes held: special kernel APCs are off.
    pub guarded: i32,
    pub locks: Vec<crate::nt::ke::Held>,
    /// Return address of the kernel call now running.
    pub call: Va,
    /// Stack and frame pointer there.
    pub call_place: crate::walk::Place,
    /// The driver that made it.
    pub caller: Option<crate::DriverId>,
    /// The same three for the kernel calls around it, from which driver code was called again.
    pub outer: Vec<(Va, crate::walk::Place, Option<crate::DriverId>)>,
    /// Dispatcher objects that it waits for.
    pub waits_on: Vec<Va>,
    /// Thread object, if a driver can have a handle to it.
    pub object: Va,
    /// Dispatch routines now running, innermost last.
    pub frames: Vec<crate::iomgr::Running>,
    pub owner: Option<crate::DriverId>,
    co: Option<Co>,
    waiting: Option<Waiting>,
    yielder: *const Yielder<(), Suspend>,
    /// The machine's part of it runs on this stack.
    host_stack: (Va, Va),
    /// The driver's part on this one; none once the thread is done.
    driver_stack: Option<Stack>,
    /// What it began with, for the stack's marks.
    pub entry: Option<String>,
    done: bool,
}

impl Thread {
    /// Bounds of the stack that drivers see.
    pub(crate) fn stack(&self) -> (Va, Va) {
        if cfg!(target_arch = "aarch64") {
            return self.host_stack;
        }
        self.driver_stack.as_ref().map_or((0, 0), Stack::bounds)
    }

    /// Where its two stacks continue.
    pub(crate) fn context(&self) -> *mut Context {
        self.driver_stack
            .as_ref()
            .map_or(core::ptr::null_mut(), Stack::context)
    }

    /// Bytes of the driver's stack that are left below what is in use.
    pub(crate) fn stack_left(&self) -> usize {
        self.driver_stack.as_ref().map_or(0, Stack::left)
    }

    /// Where the driver's part of the stack begins that is in use: what lies below is left.
    pub(crate) fn floor(&self) -> Va {
        let inner = (self.call, self.call_place, self.caller);
        core::iter::once(&inner)
            .chain(self.outer.iter().rev())
            .find(|(call, ..)| *call != 0)
            .map_or(self.stack().1, |(_, place, _)| place.rsp)
    }

    /// Whether a special kernel APC can run in it now.
    pub(crate) fn takes_apcs(&self) -> bool {
        self.done || self.irql == 0 && self.guarded == 0
    }
}

/// When a test's closure runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this virtual time.
    Time(Nanos),
    /// Just before the access with this number (see [`Machine::port_accesses`]) returns.
    PortAccess(u64),
    /// Just before the kernel call of a driver with this number (see [`Machine::kernel_calls`]).
    KernelCall(u64),
    /// At the submission of the URB with this number (see [`Machine::urb_count`]), before it does
    /// anything on the bus.
    Urb(u64),
}

type Hook = (When, Box<dyn FnOnce(&Machine)>);

pub(crate) struct Sched {
    pub threads: BTreeMap<Tid, Thread>,
    pub current: Tid,
    pub steps: u64,
    next: Tid,
    stacks: Vec<(DefaultStack, Stack)>,
    hooks: Vec<Hook>,
    running_co: bool,
    /// Which thread is stopped where, and what then.
    pub watch: Option<Watch>,
    /// How many threads are held.
    pub held: u32,
    /// The one that was held first goes on.
    pub let_go_first: bool,
    /// From when to when threads were held that nothing preempts.
    pub unpreempted: Vec<(Nanos, Nanos)>,
    /// Most bytes of a driver's stack that a thread has used, by what it began with.
    pub marks: Option<BTreeMap<String, usize>>,
}

impl Sched {
    pub(crate) fn new(measure: bool) -> Self {
        Self {
            threads: BTreeMap::new(),
            current: 0,
            steps: 0,
            next: 1,
            stacks: Vec::new(),
            hooks: Vec::new(),
            running_co: false,
            watch: None,
            held: 0,
            let_go_first: false,
            unpreempted: Vec::new(),
            marks: measure.then(BTreeMap::new),
        }
    }

    pub(crate) fn current_call(&self) -> Option<Va> {
        self.threads
            .get(&self.current)
            .map(|t| t.call)
            .filter(|c| *c != 0)
    }

    pub(crate) fn thread(&mut self) -> &mut Thread {
        let current = self.current;
        self.threads.get_mut(&current).expect("a thread runs")
    }

    /// End of the running thread's stack.
    pub(crate) fn stack_top(&self) -> Va {
        self.threads.get(&self.current).map_or(0, |t| t.stack().1)
    }

    pub(crate) fn is_done(&self, tid: Tid) -> bool {
        self.threads.get(&tid).is_none_or(|t| t.done)
    }

    /// All stacks that drivers run or ran on.
    pub(crate) fn stack_ranges(&self) -> impl Iterator<Item = (Va, Va)> {
        let free = self.stacks.iter().map(|(_, driver)| driver.bounds());
        self.threads.values().map(Thread::stack).chain(free)
    }

    /// Whether a range is on a thread's stack.
    pub(crate) fn in_stack(&self, va: Va, len: usize) -> bool {
        self.threads.values().any(|t| {
            let (limit, top) = t.stack();
            !t.done && (limit..top).contains(&va) && len <= top - va
        })
    }

    /// Whether a hook waits for this URB.
    pub(crate) fn hook_at_urb(&self, number: u64) -> bool {
        self.hooks
            .iter()
            .any(|(when, _)| matches!(when, When::Urb(n) if *n <= number))
    }

    /// Whether this is called from a coroutine.
    pub(crate) fn inside(&self) -> bool {
        self.running_co
    }

    pub(crate) fn add_hook(&mut self, when: When, f: Box<dyn FnOnce(&Machine)>) {
        self.hooks.push((when, f));
    }

    /// Tells a thread that is about to run whether it runs with the trap flag.
    fn arm(&self, tid: Tid, counting: bool) {
        let Some(thread) = self.threads.get(&tid) else {
            return;
        };
        let step = counting || self.watch.as_ref().is_some_and(|w| w.steps(thread));
        let context = thread.context();
        if !context.is_null() {
            // SAFETY: the thread's own; it does not run now.
            unsafe { (*context).step = u64::from(step) };
        }
    }

    /// Whether the running thread runs with the trap flag.
    pub(crate) fn is_stepping(&self) -> bool {
        self.threads.get(&self.current).is_some_and(|t| {
            let context = t.context();
            // SAFETY: as in `arm`.
            !context.is_null() && unsafe { (*context).step } != 0
        })
    }

    /// The watch is over.
    pub(crate) fn disarm(&mut self) {
        self.watch = None;
        let tids: Vec<Tid> = self.threads.keys().copied().collect();
        for tid in tids {
            self.arm(tid, false);
        }
        crate::cpu::set_watched((0, 0));
    }

    /// Notes how much of its stack a thread has used that has ended.
    fn take_mark(&mut self, tid: Tid) {
        let Some(marks) = &mut self.marks else {
            return;
        };
        let Some(thread) = self.threads.get(&tid) else {
            return;
        };
        let (limit, top) = thread.stack();
        let used = top - crate::stack::take_mark(limit, top);
        let name = thread.entry.as_deref().unwrap_or(&thread.name);
        if used > 0 {
            let mark = marks.entry(name.to_owned()).or_default();
            *mark = used.max(*mark);
        }
    }

    /// Abandons every coroutine without unwinding: driver frames cannot be unwound.
    pub(crate) fn abandon(&mut self) {
        for thread in self.threads.values_mut() {
            if let Some(co) = &mut thread.co {
                // SAFETY: the machine ends; nothing refers to what lives on these stacks.
                unsafe { co.force_reset() };
            }
        }
    }

    pub(crate) fn spawn(
        &mut self,
        name: impl Into<String>,
        kind: ThreadKind,
        irql: u8,
        body: Box<dyn FnOnce()>,
    ) -> Tid {
        let (stack, driver_stack) = self.stacks.pop().unwrap_or_else(|| {
            let stack = DefaultStack::new(STACK_SIZE).expect("a stack");
            (stack, Stack::new())
        });
        driver_stack.renew();
        let host_stack = (stack.limit().get(), stack.base().get());
        let co = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Suspend>, ()| {
            YIELDER.set(yielder);
            with(|k| k.sched.thread().yielder = yielder);
            body();
        });
        let tid = self.next;
        self.next += 1;
        let maker = self.threads.get(&self.current);
        let root = maker
            .filter(|maker| kind == ThreadKind::Caller && maker.kind == kind)
            .map_or(tid, |maker| maker.root);
        self.threads.insert(
            tid,
            Thread {
                name: name.into(),
                root,
                kind,
                irql,
                priority: NORMAL_PRIORITY,
                critical: 0,
                guarded: 0,
                locks: Vec::new(),
                call: 0,
                call_place: crate::walk::Place::default(),
                caller: None,
                outer: Vec::new(),
                waits_on: Vec::new(),
                object: 0,
                frames: Vec::new(),
                owner: None,
                co: Some(co),
                waiting: None,
                yielder: core::ptr::null(),
                host_stack,
                driver_stack: Some(driver_stack),
                entry: None,
                done: false,
            },
        );
        tid
    }
}

fn suspend(how: Suspend) {
    let yielder = YIELDER.get();
    assert!(!yielder.is_null(), "not in a coroutine");
    // SAFETY: set at the coroutine's start and after every switch; it lives as long as the stack.
    unsafe { &*yielder }.suspend(how);
}

/// Ends the running thread for good, without unwinding.
pub(crate) fn die() -> ! {
    if !with(|k| k.sched.inside()) {
        let check = with(|k| k.bugcheck.clone());
        panic!("rule broken outside any thread: {check:?}");
    }
    loop {
        suspend(Suspend::Dead);
    }
}

/// Waits until `ready` holds or `deadline` passes. Returns whether `ready` held.
pub(crate) fn wait(
    why: &'static str,
    deadline: Option<Nanos>,
    ready: impl Fn(&Kernel) -> bool + 'static,
) -> bool {
    let ready: Ready = Box::new(ready);
    let tid = with(|k| {
        let tid = k.sched.current;
        k.sched.thread().waiting = Some(Waiting {
            ready,
            deadline,
            why,
        });
        tid
    });
    suspend(Suspend::Wait);
    with(|k| {
        debug_assert_eq!(tid, k.sched.current);
        let waiting = k.sched.thread().waiting.take();
        waiting.is_none_or(|w| (w.ready)(k))
    })
}

/// A point where another thread may run, and where limits and hooks are looked at.
pub(crate) fn tick() {
    let (switch, away, over) = with(|k| {
        k.sched.steps += 1;
        let due = k.sched.hooks.iter().any(|(w, _)| is_due(k, *w));
        let timer = crate::nt::ke::timer_due(k);
        let chance = u64::from(k.config.preempt_per_mille);
        let preempted = !due && !timer && k.rng.below(1000) < chance;
        let until = k.now + k.config.preempted_ns;
        let spinner = k.config.several_processors && spinner_waits(k);
        let thread = k.sched.thread();
        // Every other thread comes before one with a lower priority.
        let switch = due || timer || preempted || spinner || thread.priority < NORMAL_PRIORITY;
        // Threads of its processor, which get none at DISPATCH_LEVEL.
        let away = preempted && thread.irql < crate::nt::DISPATCH && until > k.now;
        (
            switch,
            away.then_some(until),
            k.sched.steps > k.config.max_steps,
        )
    });
    if over {
        crate::state::fail(rules::HANG, "step limit reached: endless loop?");
    }
    if away.is_some() {
        wait("its processor", away, |_| false);
    } else if switch {
        wait("its turn", None, |_| true);
    }
}

/// Whether a thread spins for a lock that is free: its processor goes on at once.
fn spinner_waits(k: &Kernel) -> bool {
    let mut waiting = k.sched.threads.values().filter_map(|t| t.waiting.as_ref());
    waiting.any(|w| w.why == LOCK && (w.ready)(k))
}

/// What a thread waits for that spins.
pub(crate) const LOCK: &str = "a lock";

fn is_due(k: &Kernel, when: When) -> bool {
    match when {
        When::Time(t) => t <= k.now,
        When::PortAccess(n) => n <= k.ports.accesses,
        When::KernelCall(n) => n <= k.calls,
        When::Urb(n) => n <= k.usb.count,
    }
}

/// Makes threads of the hooks that are due. Gives one that must run at once: a kernel call waits
/// for it.
fn start_hooks(k: &mut Kernel) -> Option<Tid> {
    let mut first = None;
    let mut i = 0;
    while i < k.sched.hooks.len() {
        let when = k.sched.hooks[i].0;
        if is_due(k, when) {
            let (_, f) = k.sched.hooks.remove(i);
            let tid = k.sched.spawn(
                "hook",
                ThreadKind::Caller,
                0,
                Box::new(move || f(&Machine::current())),
            );
            if matches!(when, When::KernelCall(_)) {
                first.get_or_insert(tid);
            }
        } else {
            i += 1;
        }
    }
    first
}

/// What the scheduler does next.
enum Next {
    Run(Tid),
    Stop,
}

fn choose(k: &mut Kernel, until: &dyn Fn(&Kernel) -> bool, limit: Nanos) -> Result<Next, String> {
    loop {
        if until(k) {
            return Ok(Next::Stop);
        }
        if let Some(hook) = start_hooks(k) {
            return Ok(Next::Run(hook));
        }
        crate::nt::ke::fire_timers(k);
        crate::nt::ke::start_dpcs(k);
        let now = k.now;
        let mut ready: Vec<Tid> = Vec::new();
        for (tid, t) in &k.sched.threads {
            let can = !t.done
                && t.co.is_some()
                && t.waiting
                    .as_ref()
                    .is_none_or(|w| w.deadline.is_some_and(|d| d <= now) || (w.ready)(k));
            if can {
                ready.push(*tid);
            }
        }
        if let Some(next) = k.next_counted(&ready) {
            return Ok(Next::Run(next));
        }
        if !ready.is_empty() {
            #[allow(clippy::cast_possible_truncation, reason = "an index")]
            let pick = k.rng.below(ready.len() as u64) as usize;
            return Ok(Next::Run(ready[pick]));
        }
        let deadlines = k
            .sched
            .threads
            .values()
            .filter_map(|t| t.waiting.as_ref()?.deadline);
        let hooks = k.sched.hooks.iter().filter_map(|(w, _)| match w {
            When::Time(t) => Some(*t),
            When::PortAccess(_) | When::KernelCall(_) | When::Urb(_) => None,
        });
        let next = deadlines
            .chain(hooks)
            .chain(crate::nt::ke::next_timer(k))
            .min();
        match next {
            Some(at) if at <= limit => k.now = k.now.max(at),
            Some(_) if limit < Nanos::MAX => {
                k.now = k.now.max(limit);
                return Ok(Next::Stop);
            }
            _ => {
                if limit < Nanos::MAX {
                    k.now = k.now.max(limit);
                }
                return Err(describe_waits(k));
            }
        }
    }
}

pub(crate) fn describe_waits(k: &Kernel) -> String {
    let list: Vec<String> = k
        .sched
        .threads
        .iter()
        .filter(|(_, t)| !t.done)
        .filter_map(|(tid, t)| {
            let w = t.waiting.as_ref()?;
            Some(format!("thread {tid} ({}) waits for {}", t.name, w.why))
        })
        .collect();
    list.join("; ")
}

fn step(tid: Tid) {
    let (mut co, yielder, stacks) = with(|k| {
        k.sched.current = tid;
        k.sched.running_co = true;
        let counting = k.is_counting();
        k.sched.arm(tid, counting);
        if k.sched.thread().kind != ThreadKind::Dpc {
            k.count_switch(tid);
        }
        let t = k.sched.thread();
        let co = t.co.take().expect("a coroutine");
        let stacks = Stacks {
            host: t.host_stack,
            driver: t.stack(),
        };
        let result = (co, t.yielder, stacks);
        let irql = t.irql;
        k.mem.page_out(irql >= 2);
        result
    });
    YIELDER.set(yielder);
    let outer = crate::cpu::set_stacks(stacks);
    let attempt = std::panic::AssertUnwindSafe(|| co.resume(()));
    let result = std::panic::catch_unwind(attempt);
    crate::cpu::set_stacks(outer);
    let result = match result {
        Ok(result) => result,
        Err(panic) => {
            // A hook's or caller's own panic: the thread is finished.
            with(|k| {
                k.panic = Some(panic);
                k.sched.running_co = false;
                k.sched.current = 0;
                k.sched.threads.remove(&tid);
            });
            return;
        }
    };
    with(|k| {
        k.sched.running_co = false;
        k.sched.current = 0;
        k.mem.page_out(false);
        let t = k.sched.threads.get_mut(&tid).expect("a thread");
        match result {
            CoroutineResult::Yield(Suspend::Wait) => t.co = Some(co),
            CoroutineResult::Yield(Suspend::Dead) => {
                t.done = true;
                // SAFETY: the thread is abandoned for good; what its stack owns is leaked.
                unsafe { co.force_reset() };
                k.sched.take_mark(tid);
            }
            CoroutineResult::Return(()) => {
                t.done = true;
                let (object, kind) = (t.object, t.kind);
                k.sched.take_mark(tid);
                let t = k.sched.threads.get_mut(&tid).expect("a thread");
                if let Some(driver) = t.driver_stack.take() {
                    k.sched.stacks.push((co.into_stack(), driver));
                }
                let alone = object == 0 || k.refs.get(&object) == Some(&1);
                if alone && kind != ThreadKind::System {
                    k.sched.threads.remove(&tid);
                    k.refs.remove(&object);
                    k.mem.free(object, crate::state::Site::default());
                }
            }
        }
    });
}

/// Runs threads until `until` holds, nothing can run any more, or `limit` is reached.
/// `Ok(true)`: `until` held or the time came; `Ok(false)`: everything waits for ever.
pub(crate) fn run(until: &dyn Fn(&Kernel) -> bool, limit: Nanos) -> Result<bool, Bugcheck> {
    loop {
        if let Some(check) = with(|k| k.bugcheck.clone()) {
            return Err(check);
        }
        match with(|k| choose(k, until, limit)) {
            Ok(Next::Run(tid)) => {
                step(tid);
                if let Some(panic) = with(|k| k.panic.take()) {
                    std::panic::resume_unwind(panic);
                }
            }
            Ok(Next::Stop) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
}

/// Runs `f` as a thread of the machine and gives its result; inside a thread, just runs it.
pub(crate) fn call<R: 'static>(name: &str, f: impl FnOnce() -> R + 'static) -> Result<R, Bugcheck> {
    if with(|k| k.sched.inside()) {
        return Ok(f());
    }
    if let Some(check) = with(|k| k.bugcheck.clone()) {
        return Err(check);
    }
    let slot: Rc<RefCell<Option<R>>> = Rc::default();
    let out = Rc::clone(&slot);
    let (tid, limit) = with(|k| {
        k.sched.steps = 0;
        let body = Box::new(move || {
            let result = f();
            *out.borrow_mut() = Some(result);
        });
        let tid = k.sched.spawn(name, ThreadKind::Caller, 0, body);
        (tid, k.now + k.config.max_time)
    });
    run(&move |k| k.sched.is_done(tid), limit)?;
    let result = slot.borrow_mut().take();
    if let Some(result) = result {
        return Ok(result);
    }
    let check = with(|k| {
        let cancelled = crate::iomgr::cancelled_left(k);
        let check = Bugcheck {
            rule: if cancelled {
                rules::CANCEL_TIMEOUT
            } else {
                rules::HANG
            },
            what: format!("{name} does not finish: {}", describe_waits(k)),
            frames: Vec::new(),
            at: k.now,
        };
        k.note(format!("BUGCHECK {check}"));
        k.bugcheck = Some(check.clone());
        check
    });
    Err(check)
}

/// Ends the running thread without returning to its routine.
pub(crate) fn end_thread() -> ! {
    loop {
        suspend(Suspend::Dead);
    }
}

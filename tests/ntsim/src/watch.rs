//! Preemption: a thread is stopped at an instruction or a kernel call, and stays so.
//!
//! A watch names threads, and tells for each of their stops whether the thread goes on. One that
//! does not is held: it is not ready, whatever the others do and however much virtual time goes by,
//! until the test lets it go. It keeps its IRQL and its locks, as a thread does whose processor is
//! slow or was taken away by a hypervisor.
//!
//! Others run beside a thread that is held at `DISPATCH_LEVEL` or above as beside any other, so that
//! no order is left out; and for as long, for a timer may be set at any time before. But a real
//! processor comes back to such a thread soon: nothing takes it away but interrupts. So what is
//! wrong there about the length of a pulse only, is wrong beyond [`INTERRUPTED`] by the hold alone:
//! [`Machine::unpreempted_delay`] tells how much.

use crate::mem::Va;
use crate::sched::{Thread, ThreadKind, Tid};
use crate::state::with;
use crate::{DriverId, Machine, Nanos};

/// For how long at most the processor of a thread at `DISPATCH_LEVEL` or above does something else,
/// which is interrupts: four routines in a row that take the 25 us each that Microsoft recommends at
/// most ("Example 15: Measuring DPC/ISR Time"). Threads and DPCs of that processor wait. Firmware
/// (system management mode) and hypervisors can take longer, but no driver can do anything about it.
pub const INTERRUPTED: Nanos = 100_000;

/// Whose stops are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One thread of the machine's interface, with those that its requests are made in.
    Thread(Running),
    /// System threads of drivers.
    System,
    /// DPCs.
    Dpc,
    /// Work items.
    WorkItem,
}

/// Where it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Before every instruction of the driver.
    Instructions,
    /// Before every kernel call of the driver takes effect.
    Calls,
}

/// A stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Its number since the watch began, from 1.
    pub number: u64,
    /// Offset in the driver's image: the instruction, or behind the call.
    pub place: u32,
    /// The kernel function, at a call.
    pub call: Option<&'static str>,
    /// The thread's IRQL: from `DISPATCH_LEVEL` on no other thread takes its processor away.
    pub irql: u8,
    /// Whether the instruction does nothing outside the registers and the private stack slots of its
    /// thread: held before it or after it, the others cannot tell the difference.
    pub private: bool,
}

/// A thread that [`Machine::start_thread`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running(pub(crate) Tid);

type Decide = Box<dyn FnMut(Stop) -> bool>;

pub(crate) struct Watch {
    who: Who,
    place: Where,
    driver: DriverId,
    count: u64,
    /// Whether the thread is held there. Taken out while it is asked.
    decide: Option<Decide>,
}

impl Watch {
    fn is_of(&self, thread: &Thread) -> bool {
        match self.who {
            Who::Thread(Running(wanted)) => thread.root == wanted,
            Who::System => thread.kind == ThreadKind::System,
            Who::Dpc => thread.kind == ThreadKind::Dpc,
            Who::WorkItem => thread.kind == ThreadKind::WorkItem,
        }
    }

    /// Whether a thread runs driver code with the trap flag.
    pub(crate) fn steps(&self, thread: &Thread) -> bool {
        self.place == Where::Instructions && self.is_of(thread)
    }
}

/// A watched thread is about to run an instruction.
pub(crate) fn at_instruction(rip: Va) {
    let Some(place) = with(|k| Some(k.locate(rip)?.1)) else {
        return;
    };
    let private = !crate::cpu::touches_memory(rip);
    stop(place, None, private);
}

/// A thread is about to run a kernel function.
pub(crate) fn at_call(name: &'static str) {
    let place = with(|k| {
        let watch = k.sched.watch.as_ref()?;
        let thread = k.sched.threads.get(&k.sched.current)?;
        let mine = watch.place == Where::Calls
            && watch.is_of(thread)
            && thread.caller == Some(watch.driver);
        mine.then(|| k.locate(thread.call).map_or(0, |(_, rva)| rva))
    });
    if let Some(place) = place {
        stop(place, Some(name), false);
    }
}

fn stop(place: u32, call: Option<&'static str>, private: bool) {
    let asked = with(|k| {
        let watch = k.sched.watch.as_mut()?;
        watch.count += 1;
        Some((watch.decide.take()?, watch.count))
    });
    let Some((mut decide, number)) = asked else {
        return;
    };
    let hold = decide(Stop {
        number,
        place,
        call,
        irql: crate::nt::ke::current_irql(),
        private,
    });
    with(|k| {
        if let Some(watch) = &mut k.sched.watch {
            watch.decide = Some(decide);
        }
        if hold {
            k.sched.disarm();
            k.sched.held += 1;
            let what = call.unwrap_or("an instruction");
            k.note(format!("held at {what}, +{place:#x}"));
        }
    });
    if hold {
        let (place, since) = with(|k| (k.sched.held, k.now));
        crate::sched::wait("being let go", None, move |k| {
            k.sched.held < place || k.sched.let_go_first && place == 1
        });
        with(|k| {
            if k.sched.thread().irql >= crate::nt::DISPATCH {
                let until = k.now;
                k.sched.unpreempted.push((since, until));
            }
        });
    }
}

impl Machine {
    /// Watches threads while they run this driver's code: `decide` says at each stop whether the
    /// thread is held there, and ends the watch by that. Ports are to be unpatched
    /// ([`Config::patch_ports`](crate::Config::patch_ports)), or their instructions are not seen.
    pub fn watch(
        &self,
        who: Who,
        place: Where,
        driver: DriverId,
        decide: impl FnMut(Stop) -> bool + 'static,
    ) {
        with(|k| {
            let image = k.driver(driver).image.as_ref();
            let code = image.map_or((0, 0), |i| (i.base, i.base + i.size));
            crate::cpu::set_watched(code);
            k.sched.watch = Some(Watch {
                who,
                place,
                driver,
                count: 0,
                decide: Some(Box::new(decide)),
            });
        });
    }

    /// Ends the watch.
    pub fn end_watch(&self) {
        with(|k| k.sched.disarm());
    }

    /// Whether a thread is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        with(|k| k.sched.held != 0)
    }

    /// Lets all held threads go on.
    pub fn let_go(&self) {
        with(|k| {
            k.sched.held = 0;
            k.sched.let_go_first = false;
            k.note("let go");
        });
    }

    /// Lets the one go on that was held first; one that was held later stays.
    pub fn let_first_go(&self) {
        with(|k| {
            k.sched.let_go_first = true;
            k.note("the first is let go");
        });
    }

    /// How much longer than [`INTERRUPTED`] threads at `DISPATCH_LEVEL` or above were held in this
    /// span of time: so much less it would have been on a real processor, if one of them is why.
    #[must_use]
    pub fn unpreempted_delay(&self, since: Nanos, until: Nanos) -> Nanos {
        with(|k| {
            let holds = k.sched.unpreempted.iter();
            holds
                .map(|(from, to)| (*to).min(until).saturating_sub((*from).max(since)))
                .map(|held| held.saturating_sub(INTERRUPTED))
                .sum()
        })
    }

    /// Makes a thread that runs `f` when the machine runs. Inside, the methods of [`Machine`] wait as
    /// calls of the system do.
    pub fn start_thread(&self, name: &str, f: impl FnOnce(&Self) + 'static) -> Running {
        with(|k| {
            let body = Box::new(move || f(&Self::current()));
            Running(k.sched.spawn(name, ThreadKind::Caller, 0, body))
        })
    }

    /// Whether a thread's closure has returned.
    #[must_use]
    pub fn is_over(&self, thread: Running) -> bool {
        with(|k| k.sched.is_done(thread.0))
    }

    /// Runs the machine until all of these threads are over, a thread is held, nothing can run any
    /// more, or `time` has passed. Gives whether they are over.
    ///
    /// # Errors
    /// A broken rule.
    pub fn run_threads(&self, threads: &[Running], time: Nanos) -> Result<bool, crate::Bugcheck> {
        let limit = with(|k| {
            k.sched.steps = 0;
            k.now + time
        });
        let was_held = with(|k| k.sched.held);
        let wanted = threads.to_vec();
        let over = move |k: &crate::state::Kernel| wanted.iter().all(|t| k.sched.is_done(t.0));
        let until = over.clone();
        crate::sched::run(
            &move |k| k.now >= limit || k.sched.held != was_held || until(k),
            limit,
        )?;
        Ok(with(|k| over(k)))
    }

    /// Runs the machine for some virtual time, or until a thread is held.
    ///
    /// # Errors
    /// A broken rule.
    pub fn run_until_held(&self, time: Nanos) -> Result<(), crate::Bugcheck> {
        let limit = with(|k| {
            k.sched.steps = 0;
            k.now + time
        });
        let until = move |k: &crate::state::Kernel| k.now >= limit || k.sched.held != 0;
        crate::sched::run(&until, limit)?;
        Ok(())
    }

    /// What every unfinished thread waits for.
    #[must_use]
    pub fn waits(&self) -> String {
        with(|k| crate::sched::describe_waits(k))
    }

    /// Begins the choices of the scheduler anew, from this seed, with this chance of a switch at a
    /// kernel call or port access, out of 1000.
    pub fn reseed(&self, seed: u64, preempt_per_mille: u16) {
        with(|k| {
            k.rng = crate::state::Rng::new(seed);
            k.config.preempt_per_mille = preempt_per_mille;
        });
    }

    /// The most bytes of a kernel stack that threads which have ended used, by what they began with;
    /// with [`Config::measure_stacks`](crate::Config::measure_stacks). Windows' part at the top and
    /// for nested calls is counted in.
    #[must_use]
    pub fn stack_marks(&self) -> Vec<(String, usize)> {
        with(|k| {
            let marks = k.sched.marks.iter().flatten();
            marks.map(|(name, used)| (name.clone(), *used)).collect()
        })
    }
}

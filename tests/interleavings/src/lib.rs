//! What processors of the driver share, run in every order that two and three of them can bring
//! about.
//!
//! The state machines are the driver's own: `src/sharing`, by way of `parscan-core`. This crate has
//! what the kernel puts around them, made of loom's locks and atomics: spin locks, events, queues of
//! IRPs and of threads. Each test in `tests` is a small scene with two or three threads; loom runs
//! it again and again, until no order of their steps is left that makes a difference. A wait that
//! nothing ends any more is a deadlock, which loom reports.

#![allow(
    clippy::missing_panics_doc,
    reason = "what is wrong with the driver is a panic here"
)]

pub mod line;

use std::sync::{Arc, atomic::AtomicU32};

use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering},
};
use loom::thread::{JoinHandle, spawn};
use parscan_core::sharing;

/// Runs a scene in every order of its steps.
pub fn every_order(scene: impl Fn() + Send + Sync + 'static) {
    loom::model(scene);
}

/// Runs a scene in every order in which threads are stopped against their will four times at the
/// most: for three threads with so many steps that all orders would take hours.
pub fn four_preemptions(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(scene);
}

/// Runs a part of a scene in a thread of its own.
pub fn beside<S: 'static, T: 'static>(
    scene: &Arc<S>,
    part: impl FnOnce(&S) -> T + 'static,
) -> JoinHandle<T> {
    let scene = Arc::clone(scene);
    spawn(move || part(&scene))
}

/// A value that loom watches.
macro_rules! watched {
    ($($name:ident($atomic:ty) of $value:ty, $what:literal;)*) => {
        $(
            #[doc = concat!($what, " that loom watches.")]
            #[derive(Debug)]
            pub struct $name($atomic);

            impl $name {
                #[doc = concat!($what, " with this value.")]
                #[must_use]
                pub fn new(value: $value) -> Self {
                    Self(<$atomic>::new(value))
                }
            }
        )*
    };
}

watched! {
    Flag(AtomicBool) of bool, "A flag";
    Stage(AtomicU8) of u8, "A stage";
    Word(AtomicUsize) of usize, "A word";
    Note(AtomicI32) of i32, "A status";
}

impl sharing::Flag for Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn replace(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }

    fn clear(&self) {
        // A store that releases. Of a plain one loom does not know that it comes after an exchange
        // which did not see it.
        self.0.swap(false, Ordering::Release);
    }
}

/// Values that are replaced and compared in one step.
macro_rules! exchanged {
    ($($name:ident of $value:ty;)*) => {
        $(impl sharing::$name for $name {
            fn replace(&self, value: $value) -> $value {
                self.0.swap(value, Ordering::AcqRel)
            }

            fn change(&self, from: $value, to: $value) -> bool {
                self.0
                    .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            }

            fn read(&self) -> $value {
                self.0.load(Ordering::Acquire)
            }
        })*
    };
}

exchanged! {
    Stage of u8;
    Word of usize;
}

impl sharing::Note for Note {
    fn read(&self) -> i32 {
        self.0.load(Ordering::Acquire)
    }

    fn write(&self, value: i32) {
        self.0.store(value, Ordering::Release);
    }
}

/// Rundown protection that loom watches.
#[derive(Debug)]
pub struct RundownCounter {
    state: Mutex<Holders>,
    changed: Condvar,
}

#[derive(Debug)]
struct Holders {
    count: u32,
    run_down: bool,
}

impl RundownCounter {
    /// One that is run down.
    #[must_use]
    pub fn finished() -> Self {
        Self {
            state: Mutex::new(Holders {
                count: 0,
                run_down: true,
            }),
            changed: Condvar::new(),
        }
    }
}

impl sharing::RundownCounter for RundownCounter {
    fn acquire(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.count += u32::from(!state.run_down);
        !state.run_down
    }

    fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.count -= 1;
        if state.count == 0 {
            self.changed.notify_all();
        }
    }

    fn run_down(&self) {
        let mut state = self.state.lock().unwrap();
        assert!(!state.run_down, "run down twice");
        state.run_down = true;
        while state.count != 0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn renew(&self) {
        let mut state = self.state.lock().unwrap();
        assert!(
            state.run_down && state.count == 0,
            "renewed while it is used"
        );
        state.run_down = false;
    }
}

/// What events and waits for several of them go through, as through the kernel's dispatcher.
#[derive(Debug, Default)]
struct Dispatcher {
    /// The events that are set, a bit each.
    set: Mutex<u32>,
    changed: Condvar,
    /// The same, for assertions: no step that loom would try in every order.
    shown: AtomicU32,
}

/// An event. Those who wait for it look at it again each time something is set, so an event that is
/// set and reset at once may wake no thread: events of the kernel wake at least as many.
#[derive(Clone, Debug)]
pub struct Event {
    dispatcher: Arc<Dispatcher>,
    bit: u32,
    /// One wait resets it.
    synchronization: bool,
}

impl Event {
    /// Events that can be waited for together, none of which is set: as many as `kinds`, `true` for
    /// a synchronization event.
    #[must_use]
    pub fn together<const N: usize>(kinds: [bool; N]) -> [Self; N] {
        let dispatcher = Arc::new(Dispatcher::default());
        let mut bit = 1;
        kinds.map(|synchronization| {
            let event = Self {
                dispatcher: Arc::clone(&dispatcher),
                bit,
                synchronization,
            };
            bit <<= 1;
            event
        })
    }

    /// Whether it is set now.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.dispatcher.shown.load(Ordering::Relaxed) & self.bit != 0
    }

    /// Waits until one of the events is set: which, the first if there are several.
    ///
    /// # Panics
    /// There are no events.
    #[must_use]
    pub fn wait_any(events: &[&Self]) -> usize {
        let dispatcher = &events[0].dispatcher;
        let mut set = dispatcher.set.lock().unwrap();
        loop {
            if let Some(index) = events.iter().position(|event| *set & event.bit != 0) {
                if events[index].synchronization {
                    *set &= !events[index].bit;
                    dispatcher.shown.store(*set, Ordering::Relaxed);
                }
                return index;
            }
            set = dispatcher.changed.wait(set).unwrap();
        }
    }
}

impl Event {
    fn change(&self, change: impl FnOnce(u32) -> u32) {
        let mut set = self.dispatcher.set.lock().unwrap();
        *set = change(*set);
        self.dispatcher.shown.store(*set, Ordering::Relaxed);
    }
}

impl sharing::Signal for Event {
    fn set(&self) {
        self.change(|set| set | self.bit);
        self.dispatcher.changed.notify_all();
    }

    fn reset(&self) {
        self.change(|set| set & !self.bit);
    }
}

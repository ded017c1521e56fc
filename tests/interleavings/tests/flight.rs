//! The request that the USB stack has, and those who look at it meanwhile.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicU32, Ordering},
};

use loom::{
    cell::UnsafeCell,
    sync::{Mutex, atomic::AtomicBool},
    thread::spawn,
};
use parscan_core::{ioctl::Status, sharing::Flight};
use parscan_interleavings::{every_order, four_preemptions};

struct Scene {
    flight: Mutex<Flight<u32>>,
    /// The IRP's `Cancel`.
    cancelled: AtomicBool,
    /// The IRP, which its holders may look at, and which the one with the runner completes.
    irp: UnsafeCell<()>,
    /// A thread has told the request to end.
    told: AtomicU32,
    /// How often the USB stack has had the request, and how often it was completed.
    sent: AtomicU32,
    ended: AtomicU32,
    /// Why it was ended, 0: not at all.
    why: AtomicI32,
}

/// Of how many transfers the request is.
const TRANSFERS: u32 = 2;

impl Scene {
    fn new() -> Arc<Self> {
        let scene = Arc::new(Self {
            flight: Mutex::new(Flight::IDLE),
            cancelled: AtomicBool::new(false),
            irp: UnsafeCell::new(()),
            told: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            why: AtomicI32::new(0),
        });
        scene.with(Flight::announce);
        scene
    }

    fn with<T>(&self, section: impl FnOnce(&mut Flight<u32>) -> T) -> T {
        section(&mut self.flight.lock().unwrap())
    }

    /// Who has the runner goes on: with the next transfer, or to the end of the request.
    fn go_on(this: &Arc<Self>, why: Option<Status>) {
        let last = this.sent.load(Ordering::Relaxed) == TRANSFERS;
        if let (None, false) = (why, last) {
            let departed = this.with(|flight| {
                let departed = flight.depart(7, |_| this.cancelled.load(Ordering::Acquire));
                let told = this.told.load(Ordering::Relaxed) != 0;
                assert!(!(told && departed.is_ok()), "sent after it was told to end");
                departed
            });
            match departed {
                Ok(()) => Self::sent(this),
                Err((_, why)) => this.finish(Some(why)),
            }
        } else {
            this.finish(why);
        }
    }

    /// The USB stack has the request.
    fn sent(this: &Arc<Self>) {
        let first = this.sent.fetch_add(1, Ordering::Relaxed) == 0;
        let completion = {
            let this = Arc::clone(this);
            move || {
                this.irp.with(|_| ());
                Self::let_go(&this);
            }
        };
        // The second transfer comes back at once, in the call.
        let thread = if first {
            Some(spawn(completion))
        } else {
            completion();
            None
        };
        this.irp.with(|_| ());
        Self::let_go(this);
        if let Some(thread) = thread {
            thread.join().unwrap();
        }
    }

    /// The request ends, and its IRP with it.
    fn finish(&self, why: Option<Status>) {
        self.with(Flight::retire);
        self.why
            .store(why.map_or(0, |why| why.0), Ordering::Relaxed);
        self.irp.with_mut(|_| ());
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// A holder lets go.
    fn let_go(this: &Arc<Self>) {
        if let Some((irp, why)) = this.with(Flight::release) {
            assert_eq!(irp, 7);
            Self::go_on(this, why);
        }
    }

    /// Ends the request, if its time is over by `now`. Whether it was told to end.
    fn end(this: &Arc<Self>, status: Status, now: u64) -> bool {
        let mut told = false;
        let holder = this.with(|flight| {
            let holder = flight
                .end(status, |flight| {
                    told = flight.is_over(now);
                    told
                })
                .is_some();
            this.told.fetch_add(u32::from(told), Ordering::Relaxed);
            holder
        });
        if holder {
            this.irp
                .with(|_| this.cancelled.store(true, Ordering::Release));
            Self::let_go(this);
        }
        told
    }
}

/// A request, over at `deadline`, goes on to its one end, while threads end it for these reasons: at
/// 10, all of them. Which of them told it.
fn ended_beside<const N: usize>(deadline: u64, reasons: [Status; N]) -> (Arc<Scene>, [bool; N]) {
    let scene = Scene::new();
    scene.with(|flight| flight.set_deadline(deadline));
    let enders = reasons.map(|status| {
        let scene = Arc::clone(&scene);
        spawn(move || Scene::end(&scene, status, 10))
    });
    Scene::go_on(&scene, None);
    let told = enders.map(|ender| ender.join().unwrap());
    assert_eq!(scene.ended.load(Ordering::Relaxed), 1);
    (scene, told)
}

#[test]
fn the_last_holder_goes_on_with_the_request_once() {
    every_order(|| {
        let (scene, [told]) = ended_beside(10, [Status::CANCELLED]);
        let why = scene.why.load(Ordering::Relaxed);
        assert!(why == 0 || told && why == Status::CANCELLED.0);
        let sent = scene.sent.load(Ordering::Relaxed);
        assert!(
            why != 0 || sent == TRANSFERS,
            "succeeds with all transfers only"
        );
    });
}

#[test]
fn a_time_out_and_a_cancellation_are_one_end() {
    four_preemptions(|| {
        let reasons = [Status::IO_TIMEOUT, Status::CANCELLED];
        let (scene, [timed_out, cancelled]) = ended_beside(10, reasons);
        assert!(!(timed_out && cancelled), "the first one's reason stands");
        let why = scene.why.load(Ordering::Relaxed);
        assert!(
            why == 0
                || timed_out && why == Status::IO_TIMEOUT.0
                || cancelled && why == Status::CANCELLED.0
        );
    });
}

#[test]
fn a_time_out_is_for_the_request_that_it_was_set_for() {
    every_order(|| {
        // The timer of the request before.
        let (scene, told) = ended_beside(20, [Status::IO_TIMEOUT]);
        assert_eq!(told, [false]);
        assert_eq!(scene.why.load(Ordering::Relaxed), 0);
    });
}

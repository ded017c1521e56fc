//! Something that one processor does for all: the checks after a port was freed.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::{
    cell::UnsafeCell,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use parscan_core::sharing::{IDLE, Rounds};
use parscan_interleavings::{Flag, Stage, beside, every_order, four_preemptions};

/// How often one thread calls the routines in a row: here as rarely as possible.
const ROUNDS: u32 = 1;

struct Scene {
    rounds: Rounds<Stage, Flag>,
    /// What each thread has done before it asked.
    freed: [AtomicBool; 3],
    /// What the routine saw; one processor at a time calls it.
    seen: UnsafeCell<[bool; 3]>,
    /// What it has ever seen.
    told: std::sync::Mutex<[bool; 3]>,
    /// There are clients.
    used: AtomicBool,
    dpc: Mutex<bool>,
}

impl Scene {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rounds: Rounds::new(Stage::new(IDLE), Flag::new(false)),
            freed: [(); 3].map(|()| AtomicBool::new(false)),
            seen: UnsafeCell::new([false; 3]),
            told: std::sync::Mutex::new([false; 3]),
            used: AtomicBool::new(true),
            dpc: Mutex::new(false),
        })
    }

    /// `Interrupt::call_deferred` after a free.
    fn free(&self, number: usize) {
        self.freed[number].store(true, Ordering::Relaxed);
        if self.used.load(Ordering::Acquire) && self.rounds.ask() {
            self.tell();
        }
    }

    fn tell(&self) {
        for _ in 0..ROUNDS {
            self.rounds.begin();
            self.seen.with_mut(|_| {
                let seen = self.freed.each_ref().map(|it| it.load(Ordering::Relaxed));
                let mut told = self.told.lock().unwrap();
                for (told, seen) in told.iter_mut().zip(seen) {
                    *told |= seen;
                }
            });
            if self.rounds.end() {
                return;
            }
        }
        self.rounds.hand_over(|| self.request());
    }

    /// `Interrupt::request_later`
    fn request(&self) -> bool {
        let used = self.used.load(Ordering::Acquire);
        if used {
            *self.dpc.lock().unwrap() = true;
        }
        used
    }

    /// The DPC, if it is queued.
    fn run_dpc(&self) {
        while std::mem::take(&mut *self.dpc.lock().unwrap()) {
            if self.rounds.take_over() {
                self.tell();
            }
        }
    }
}

#[test]
fn a_free_beside_the_calls_is_told() {
    every_order(|| {
        let scene = Scene::new();
        let other = beside(&scene, |scene| scene.free(1));
        scene.free(0);
        scene.run_dpc();
        other.join().unwrap();
        scene.run_dpc();
        assert_eq!(*scene.told.lock().unwrap(), [true, true, false]);
        assert!(scene.rounds.ask(), "no thread is at it any more");
    });
}

#[test]
fn every_free_is_told() {
    four_preemptions(|| {
        let scene = Scene::new();
        let others = [1, 2].map(|number| beside(&scene, move |scene| scene.free(number)));
        scene.free(0);
        scene.run_dpc();
        for other in others {
            other.join().unwrap();
        }
        scene.run_dpc();
        assert_eq!(*scene.told.lock().unwrap(), [true; 3]);
        assert!(scene.rounds.ask(), "no thread is at it any more");
    });
}

#[test]
fn the_last_client_goes_and_the_next_one_comes() {
    four_preemptions(|| {
        let scene = Scene::new();
        let other = beside(&scene, |scene| scene.free(1));
        let clients = beside(&scene, |scene| {
            scene.used.store(false, Ordering::Release);
            // The disconnection waits for the DPC.
            scene.run_dpc();
            scene.used.store(true, Ordering::Release);
        });
        scene.free(0);
        for thread in [other, clients] {
            thread.join().unwrap();
        }
        scene.run_dpc();
        // The new client is told of what comes now.
        scene.free(2);
        scene.run_dpc();
        assert!(scene.told.lock().unwrap()[2], "the new client is not told");
    });
}

//! A worker's queue, and the end of the requests of an open: none is left when its CLEANUP is over.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use loom::{
    cell::UnsafeCell,
    sync::Mutex,
    thread::{JoinHandle, spawn, yield_now},
};
use parscan_core::sharing::{Flag as _, Serving, Signal as _};
use parscan_interleavings::{Event, Flag, four_preemptions};

/// The open that is cleaned up, and another.
const OPEN: u32 = 1;
const OTHER: u32 = 2;

struct Scene {
    queue: Mutex<VecDeque<u32>>,
    /// The worker shall stop when the queue is empty.
    stop: Flag,
    wake: Event,
    serving: Mutex<Serving<u32>>,
    changed: Event,
    /// The request that is served shall end.
    cancelled: Event,
    /// The open was cleaned up.
    cleaned_up: Flag,
    /// What a request of the open uses, and its CLEANUP takes away.
    open: UnsafeCell<()>,
    /// Requests that came back.
    served: AtomicU32,
    refused: AtomicU32,
}

impl Scene {
    fn new() -> Arc<Self> {
        // wake is a synchronization event, as the kernel's.
        let [wake, changed, cancelled] = Event::together([true, false, false]);
        Arc::new(Self {
            queue: Mutex::new(VecDeque::new()),
            stop: Flag::new(false),
            wake,
            serving: Mutex::new(Serving::Nothing),
            changed,
            cancelled,
            cleaned_up: Flag::new(false),
            open: UnsafeCell::new(()),
            served: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        })
    }

    /// `Worker::queue`, in the dispatch routine.
    fn queue(&self, open: u32) {
        let admitted = {
            let mut queue = self.queue.lock().unwrap();
            // `admit_of`, under the queue's lock.
            let admitted = open != OPEN || !self.cleaned_up.is_set();
            if admitted {
                queue.push_back(open);
            }
            admitted
        };
        if !admitted {
            self.refused.fetch_add(1, Relaxed);
        }
        self.wake.set();
    }

    fn set_serving(&self, what: Serving<u32>) {
        let mut serving = self.serving.lock().unwrap();
        serving.set(what, &self.changed, || self.cancelled.reset());
    }

    /// `Worker::run`. Each request of `OPEN` waits until it is told to end, if `waits`.
    fn work(&self, waits: bool) {
        loop {
            loop {
                self.set_serving(Serving::Next);
                let next = self.queue.lock().unwrap().pop_front();
                self.set_serving(next.map_or(Serving::Nothing, Serving::Request));
                let Some(open) = next else {
                    break;
                };
                if open == OPEN {
                    self.open.with(|_| ());
                    if waits {
                        let _ = Event::wait_any(&[&self.cancelled]);
                    }
                    self.open.with(|_| ());
                }
                self.served.fetch_add(1, Relaxed);
                self.set_serving(Serving::Nothing);
            }
            if self.stop.is_set() {
                return;
            }
            let _ = Event::wait_any(&[&self.wake]);
            yield_now();
        }
    }

    /// `Worker::clean_up`, after the dispatch routine has noted it.
    fn clean_up(&self) {
        self.cleaned_up.replace(true);
        loop {
            let mut queue = self.queue.lock().unwrap();
            let Some(index) = queue.iter().position(|open| *open == OPEN) else {
                break;
            };
            queue.remove(index);
            self.refused.fetch_add(1, Relaxed);
        }
        loop {
            let soon = {
                let serving = self.serving.lock().unwrap();
                serving.ends_soon(&OPEN, &self.changed, || self.cancelled.set())
            };
            if !soon {
                break;
            }
            let _ = Event::wait_any(&[&self.changed]);
            yield_now();
        }
        // No request of the open is left, and none will be.
        self.open.with_mut(|_| ());
    }

    fn end(&self) {
        self.stop.replace(true);
        self.wake.set();
    }
}

fn worker(scene: &Arc<Scene>, waits: bool) -> JoinHandle<()> {
    let scene = Arc::clone(scene);
    spawn(move || scene.work(waits))
}

#[test]
fn no_request_of_an_open_is_left_after_its_clean_up() {
    four_preemptions(|| {
        let scene = Scene::new();
        scene.queue(OPEN);
        let worker = worker(&scene, true);
        scene.clean_up();
        scene.end();
        worker.join().unwrap();
        let left = scene.queue.lock().unwrap().len();
        assert_eq!(left, 0, "a request of the open");
        assert_eq!(scene.served.load(Relaxed) + scene.refused.load(Relaxed), 1);
    });
}

#[test]
fn a_request_that_arrives_beside_the_clean_up_ends() {
    four_preemptions(|| {
        let scene = Scene::new();
        let worker = worker(&scene, true);
        let sender = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.queue(OPEN))
        };
        scene.clean_up();
        sender.join().unwrap();
        scene.end();
        worker.join().unwrap();
        let left = scene.queue.lock().unwrap().len();
        assert_eq!(left, 0, "a request of the open");
        assert_eq!(scene.served.load(Relaxed) + scene.refused.load(Relaxed), 1);
    });
}

#[test]
fn requests_of_other_opens_go_on() {
    four_preemptions(|| {
        let scene = Scene::new();
        scene.queue(OTHER);
        let worker = worker(&scene, true);
        let sender = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.queue(OTHER))
        };
        scene.clean_up();
        sender.join().unwrap();
        scene.end();
        worker.join().unwrap();
        // What the worker leaves when it stops is its stop's to end.
        let left = u32::try_from(scene.queue.lock().unwrap().len()).unwrap();
        assert_eq!(scene.served.load(Relaxed) + left, 2);
        assert_eq!(scene.refused.load(Relaxed), 0);
    });
}

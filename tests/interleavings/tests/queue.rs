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
    thread::{JoinHandle, yield_now},
};
use parscan_core::sharing::{Flag as _, Serving, Signal as _};
use parscan_interleavings::{Event, Flag, Word, beside, four_preemptions};

/// The open that is cleaned up, and another.
const OPEN: usize = 0x10;
const OTHER: usize = 0x20;

struct Scene {
    queue: Mutex<VecDeque<usize>>,
    /// How many there are: changed under the queue's lock, and looked at without.
    length: loom::sync::atomic::AtomicUsize,
    /// The worker shall stop when the queue is empty.
    stop: Flag,
    wake: Event,
    serving: Serving<Word>,
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
            length: loom::sync::atomic::AtomicUsize::new(0),
            stop: Flag::new(false),
            wake,
            serving: Serving::new(Word::new(0)),
            changed,
            cancelled,
            cleaned_up: Flag::new(false),
            open: UnsafeCell::new(()),
            served: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        })
    }

    /// `Worker::queue`, in the dispatch routine.
    fn queue(&self, open: usize) {
        let admitted = {
            let mut queue = self.queue.lock().unwrap();
            // `admit_of`, under the queue's lock.
            let admitted = open != OPEN || !self.cleaned_up.is_set();
            if admitted {
                queue.push_back(open);
                self.length.store(queue.len(), Relaxed);
            }
            admitted
        };
        if !admitted {
            self.refused.fetch_add(1, Relaxed);
        }
        self.wake.set();
    }

    /// `Worker::next`: the request is served from the moment it leaves the queue.
    fn next(&self) -> Option<usize> {
        if self.length.load(Relaxed) == 0 {
            return None;
        }
        let mut queue = self.queue.lock().unwrap();
        let open = queue.pop_front()?;
        self.length.store(queue.len(), Relaxed);
        self.serving.begin(open, || self.cancelled.reset());
        Some(open)
    }

    /// `Worker::run`. Each request of `OPEN` waits until it is told to end.
    fn work(&self) {
        loop {
            while let Some(open) = self.next() {
                if open == OPEN {
                    self.open.with(|_| ());
                    let _ = Event::wait_any(&[&self.cancelled]);
                    self.open.with(|_| ());
                }
                self.served.fetch_add(1, Relaxed);
                if self.serving.end() {
                    self.changed.set();
                }
            }
            if self.stop.is_set() {
                return;
            }
            let _ = Event::wait_any(&[&self.wake]);
            yield_now();
        }
    }

    /// `Worker::ends_soon`, for `OPEN`.
    fn ends_soon(&self) -> bool {
        let _lock = self.queue.lock().unwrap();
        self.serving
            .ends_soon(OPEN, &self.changed, || self.cancelled.set())
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
            self.length.store(queue.len(), Relaxed);
            self.refused.fetch_add(1, Relaxed);
        }
        self.wait_for_served();
        // No request of the open is left, and none will be.
        self.open.with_mut(|_| ());
    }

    /// Waits until no request of the open is served that ends soon.
    fn wait_for_served(&self) {
        while self.ends_soon() {
            let _ = Event::wait_any(&[&self.changed]);
            yield_now();
        }
    }

    /// The one request of the open has ended, and none waits.
    fn assert_ended(&self) {
        let left = self.queue.lock().unwrap().len();
        assert_eq!(left, 0, "a request of the open");
        assert_eq!(self.served.load(Relaxed) + self.refused.load(Relaxed), 1);
    }

    /// Stops the worker.
    fn end(&self, worker: JoinHandle<()>) {
        self.stop.replace(true);
        self.wake.set();
        worker.join().unwrap();
    }
}

/// A worker that has these requests to serve, and waits for more.
fn served(requests: &[usize]) -> (Arc<Scene>, JoinHandle<()>) {
    let scene = Scene::new();
    for open in requests {
        scene.queue(*open);
    }
    let worker = beside(&scene, Scene::work);
    (scene, worker)
}

#[test]
fn no_request_of_an_open_is_left_after_its_clean_up() {
    four_preemptions(|| {
        let (scene, worker) = served(&[OPEN]);
        scene.clean_up();
        scene.end(worker);
        scene.assert_ended();
    });
}

#[test]
fn a_request_that_arrives_beside_the_clean_up_ends() {
    four_preemptions(|| {
        let (scene, worker) = served(&[]);
        let sender = beside(&scene, |scene| scene.queue(OPEN));
        scene.clean_up();
        sender.join().unwrap();
        scene.end(worker);
        scene.assert_ended();
    });
}

#[test]
fn requests_of_other_opens_go_on() {
    four_preemptions(|| {
        let (scene, worker) = served(&[OTHER]);
        let sender = beside(&scene, |scene| scene.queue(OTHER));
        scene.clean_up();
        sender.join().unwrap();
        scene.end(worker);
        // What the worker leaves when it stops is its stop's to end.
        let left = u32::try_from(scene.queue.lock().unwrap().len()).unwrap();
        assert_eq!(scene.served.load(Relaxed) + left, 2);
        assert_eq!(scene.refused.load(Relaxed), 0);
    });
}

#[test]
fn a_late_note_does_not_end_the_request_of_another_open() {
    four_preemptions(|| {
        let scene = Scene::new();
        scene.queue(OPEN);
        scene.queue(OTHER);
        let worker = beside(&scene, |scene| {
            // One of the open, which ends by itself, and the other after it.
            while let Some(open) = scene.next() {
                assert!(open == OPEN || !scene.cancelled.is_set(), "another's note");
                scene.served.fetch_add(1, Relaxed);
                if scene.serving.end() {
                    scene.changed.set();
                }
            }
        });
        scene.clean_up();
        worker.join().unwrap();
        assert_eq!(scene.served.load(Relaxed) + scene.refused.load(Relaxed), 2);
    });
}

#[test]
fn two_threads_that_clean_up_both_go_on() {
    four_preemptions(|| {
        let (scene, worker) = served(&[OPEN]);
        let other = beside(&scene, Scene::wait_for_served);
        scene.wait_for_served();
        other.join().unwrap();
        scene.clean_up();
        scene.end(worker);
        assert_eq!(scene.served.load(Relaxed) + scene.refused.load(Relaxed), 1);
    });
}

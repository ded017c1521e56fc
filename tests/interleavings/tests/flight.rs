//! The request that the USB stack has, and those who look at it meanwhile.

use loom::{
    cell::UnsafeCell,
    model,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, spawn, yield_now},
};
use parscan_rooms::{ioctl::Status, sharing::Flight};

struct Scene {
    flight: Mutex<Flight<u32>>,
    /// The IRP's `Cancel`.
    cancelled: AtomicBool,
    /// The IRP, which those who are its holders may look at, and who has the runner completes.
    irp: UnsafeCell<()>,
    /// How often the request was gone on with, and why it was told to end.
    ended: AtomicU32,
    why: Mutex<Option<i32>>,
}

impl Scene {
    fn new() -> Arc<Self> {
        let scene = Arc::new(Self {
            flight: Mutex::new(Flight::IDLE),
            cancelled: AtomicBool::new(false),
            irp: UnsafeCell::new(()),
            ended: AtomicU32::new(0),
            why: Mutex::new(None),
        });
        scene.with(Flight::announce);
        scene
    }

    fn with<T>(&self, section: impl FnOnce(&mut Flight<u32>) -> T) -> T {
        section(&mut self.flight.lock().unwrap())
    }

    /// The runner's: the request ends, and its IRP with it.
    fn finish(&self, why: Option<Status>) {
        self.with(Flight::retire);
        *self.why.lock().unwrap() = why.map(|why| why.0);
        self.irp.with_mut(|_| yield_now());
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// A holder lets go.
    fn let_go(&self) {
        if let Some((irp, why)) = self.with(Flight::let_go) {
            assert_eq!(irp, 7);
            self.finish(why);
        }
    }

    /// Sends the request. The completion, if the USB stack has it.
    fn send(this: &Arc<Self>) -> Option<JoinHandle<()>> {
        let cancelled = |_: &u32| this.cancelled.load(Ordering::Acquire);
        if let Err((_, why)) = this.with(|flight| flight.depart(7, cancelled)) {
            this.finish(Some(why));
            return None;
        }
        let scene = Arc::clone(this);
        let completion = spawn(move || {
            scene.irp.with(|_| yield_now());
            scene.let_go();
        });
        this.irp.with(|_| yield_now());
        this.let_go();
        Some(completion)
    }

    /// Ends the request: whether it was told to.
    fn end(&self, status: Status) -> bool {
        let (told, holder) = self.with(|flight| {
            let mut told = false;
            let holder = flight
                .end(status, |_| {
                    told = true;
                    true
                })
                .is_some();
            (told, holder)
        });
        if holder {
            self.irp
                .with(|_| self.cancelled.store(true, Ordering::Release));
            self.let_go();
        }
        told
    }
}

#[test]
fn the_last_holder_goes_on_with_the_request_once() {
    model(|| {
        let scene = Scene::new();
        let end = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.end(Status::CANCELLED))
        };
        let completion = Scene::send(&scene);
        let told = end.join().unwrap();
        if let Some(completion) = completion {
            completion.join().unwrap();
        }
        assert_eq!(scene.ended.load(Ordering::Relaxed), 1);
        let why = *scene.why.lock().unwrap();
        assert_eq!(why.is_some(), told, "one who ends it is heard");
    });
}

#[test]
fn a_time_out_and_a_cancellation_are_one_end() {
    model(|| {
        let scene = Scene::new();
        let end = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.end(Status::IO_TIMEOUT))
        };
        let other = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.end(Status::CANCELLED))
        };
        let completion = Scene::send(&scene);
        let timed_out = end.join().unwrap();
        let cancelled = other.join().unwrap();
        if let Some(completion) = completion {
            completion.join().unwrap();
        }
        assert_eq!(scene.ended.load(Ordering::Relaxed), 1);
        assert!(!(timed_out && cancelled), "the first one's reason stands");
        let expected = timed_out
            .then_some(Status::IO_TIMEOUT.0)
            .or(cancelled.then_some(Status::CANCELLED.0));
        assert_eq!(*scene.why.lock().unwrap(), expected);
    });
}

#[test]
fn a_time_out_is_for_the_request_that_it_was_set_for() {
    model(|| {
        let scene = Scene::new();
        scene.with(|flight| flight.set_deadline(10));
        let timer = {
            let scene = Arc::clone(&scene);
            spawn(move || {
                let over = scene.with(|flight| {
                    flight
                        .end(Status::IO_TIMEOUT, |flight| flight.is_over(11))
                        .is_some()
                });
                if over {
                    scene.let_go();
                }
            })
        };
        let completion = Scene::send(&scene);
        if let Some(completion) = completion {
            completion.join().unwrap();
        }
        // The next one has more time.
        timer.join().unwrap();
        assert_eq!(scene.ended.load(Ordering::Relaxed), 1);
        scene.with(Flight::announce);
        scene.with(|flight| {
            assert!(
                flight
                    .end(Status::IO_TIMEOUT, |flight| flight.is_over(11))
                    .is_none()
            );
            assert!(flight.depart(7, |_| false).is_ok(), "not told to end");
        });
    });
}

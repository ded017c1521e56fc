//! Waits that are told to end.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::{
    cell::UnsafeCell,
    thread::{JoinHandle, yield_now},
};
use parscan_core::{
    ioctl::Status,
    sharing::{Signal as _, Stop},
};
use parscan_interleavings::{Event, Note, beside, every_order, four_preemptions};

struct Scene {
    stop: Stop<Note, Event>,
    /// What is waited for: a turn.
    turn: Event,
    thing: UnsafeCell<()>,
}

impl Scene {
    fn new() -> Arc<Self> {
        let [stop, turn] = Event::together([false, true]);
        Arc::new(Self {
            stop: Stop::new(Note::new(Status::SUCCESS.0), stop),
            turn,
            thing: UnsafeCell::new(()),
        })
    }

    /// `Turn::take` by way of `Waits::wait_for`.
    fn take(&self) -> Result<(), Status> {
        loop {
            self.stop.check()?;
            if Event::wait_any(&[&self.turn, self.stop.event()]) == 0 {
                return Ok(());
            }
            yield_now();
        }
    }
}

fn taker(scene: &Arc<Scene>) -> JoinHandle<Result<(), i32>> {
    beside(scene, |scene| {
        scene.take().map_err(|status| status.0)?;
        scene.thing.with_mut(|_| ());
        scene.turn.set();
        Ok(())
    })
}

#[test]
fn a_stop_ends_waits_that_nothing_else_ends() {
    every_order(|| {
        let scene = Scene::new();
        let waits = [taker(&scene), taker(&scene)];
        scene.stop.stop(Status::DELETE_PENDING);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(Status::DELETE_PENDING.0));
        }
        assert!(scene.stop.event().is_set());
    });
}

#[test]
fn one_at_a_time_has_the_turn_and_a_stop_loses_none() {
    four_preemptions(|| {
        let scene = Scene::new();
        scene.turn.set();
        let waits = [taker(&scene), taker(&scene)];
        scene.stop.stop(Status::CANCELLED);
        for wait in waits {
            let _ = wait.join().unwrap();
        }
        scene.stop.resume();
        assert!(scene.take().is_ok(), "the turn came back");
    });
}

//! The gate in front of the hardware: a thread that is inside finds it, and closing waits for all of them.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::{
    cell::UnsafeCell,
    thread::{JoinHandle, yield_now},
};
use parscan_core::sharing::{LeaveReason, RundownEvents, RundownGate, Signal as _};
use parscan_interleavings::{
    Event, Flag, RundownCounter, Stage, beside, every_order, four_preemptions,
};

type Gate = RundownGate<RundownCounter, Flag, Stage, Event>;

struct Scene {
    gate: Gate,
    /// The power that is waited for will not come.
    lost: Event,
    /// What is behind the gate. Written while no thread is inside.
    hardware: UnsafeCell<()>,
}

impl Scene {
    fn new() -> Arc<Self> {
        let [opened, leave, lost] = Event::together([false; 3]);
        let events = Some(RundownEvents { opened, leave });
        let flags = [false; 2].map(Flag::new);
        Arc::new(Self {
            gate: RundownGate::closed(RundownCounter::finished(), flags, Stage::new(0), events),
            lost,
            hardware: UnsafeCell::new(()),
        })
    }

    /// One that is open.
    fn opened() -> Arc<Self> {
        let scene = Self::new();
        scene.open();
        scene
    }

    /// `RundownGate::open`
    fn open(&self) {
        self.gate.close();
        self.hardware.with_mut(|_| ());
        self.gate.let_in();
    }

    /// Uses the hardware, if it is there. Whether it is.
    fn visit(&self) -> bool {
        let entered = self.gate.enter();
        if entered {
            self.hardware.with(|_| ());
            let _ = self.gate.must_leave();
            self.gate.exit();
        }
        entered
    }

    /// `Waits::enter`: whether the gate was entered before the hope was lost.
    fn visit_when_there(&self) -> bool {
        loop {
            if self.visit() {
                return true;
            }
            if self.lost.is_set() {
                return false;
            }
            let events = self.gate.events().expect("events");
            let _ = Event::wait_any(&[&events.opened, &self.lost]);
            yield_now();
        }
    }

    /// In a wait inside the gate, which nothing ends but the request to leave.
    fn stay(&self) -> Option<LeaveReason> {
        if !self.gate.enter() {
            return None;
        }
        let events = self.gate.events().expect("events");
        let _ = Event::wait_any(&[&events.leave]);
        self.hardware.with(|_| ());
        let why = self.gate.must_leave();
        self.gate.exit();
        assert!(why.is_some(), "told to leave, and not why");
        why
    }
}

/// Two threads with the same part.
fn two<T: 'static>(scene: &Arc<Scene>, part: fn(&Scene) -> T) -> [JoinHandle<T>; 2] {
    [(); 2].map(|()| beside(scene, part))
}

/// What two threads with this part come to while the gate is closed in this way, for good.
fn closed_beside_two<T: 'static>(close: fn(&Gate), part: fn(&Scene) -> T) -> [T; 2] {
    let scene = Scene::opened();
    let threads = two(&scene, part);
    close(&scene.gate);
    // It is another one's now.
    scene.hardware.with_mut(|_| ());
    assert!(!scene.visit(), "closed");
    results(threads)
}

/// What came of them.
fn results<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().unwrap())
}

#[test]
fn nobody_is_inside_a_gate_that_is_closed() {
    every_order(|| {
        closed_beside_two(Gate::close, Scene::visit);
    });
}

#[test]
fn who_waits_inside_is_told_to_leave() {
    four_preemptions(|| {
        // Would wait for ever for those inside, who wait for this.
        for why in closed_beside_two(Gate::evict, Scene::stay) {
            assert!(matches!(why, None | Some(LeaveReason::Gone)));
        }
    });
}

#[test]
fn who_waits_for_the_gate_is_told_that_it_is_open() {
    four_preemptions(|| {
        let scene = Scene::new();
        let waits = two(&scene, Scene::visit_when_there);
        scene.open();
        assert_eq!(results(waits), [true; 2]);
    });
}

#[test]
fn a_sleep_in_between_is_waited_for() {
    four_preemptions(|| {
        let scene = Scene::opened();
        let waits = two(&scene, Scene::visit_when_there);
        let alone = || scene.hardware.with_mut(|_| ());
        scene.gate.suspend(alone);
        // A second one is a no-operation.
        scene.gate.suspend(|| unreachable!("it is closed"));
        scene.gate.resume(alone);
        assert_eq!(results(waits), [true; 2]);
        assert_eq!(scene.gate.must_leave(), None, "after the sleep");
    });
}

#[test]
fn a_wait_for_power_that_does_not_come_ends() {
    four_preemptions(|| {
        let scene = Scene::opened();
        let wait = beside(&scene, Scene::visit_when_there);
        let other = beside(&scene, Scene::stay);
        scene.gate.suspend(|| scene.hardware.with_mut(|_| ()));
        scene.lost.set();
        wait.join().unwrap();
        assert!(matches!(
            other.join().unwrap(),
            None | Some(LeaveReason::Suspended)
        ));
    });
}

#[test]
fn a_port_that_vanishes_while_it_sleeps_does_not_come_back() {
    every_order(|| {
        let scene = Scene::opened();
        let visit = beside(&scene, Scene::visit);
        scene.gate.suspend(|| ());
        scene.gate.evict();
        scene.gate.resume(|| unreachable!("it is gone"));
        assert!(!scene.visit());
        visit.join().unwrap();
    });
}

//! The URBs that are out, and the end of them.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::{cell::UnsafeCell, sync::Mutex, thread::yield_now};
use parscan_core::{ioctl::Status, sharing::UrbGate};
use parscan_interleavings::{Event, beside, every_order};

struct Scene {
    /// The gate, and how many URBs are out.
    gate: Mutex<(UrbGate, u32)>,
    idle: Event,
    shut: Event,
    /// What URBs use, and what the thread that has waited for the last one takes away.
    device: UnsafeCell<()>,
}

impl Scene {
    fn new() -> Arc<Self> {
        let [idle, shut] = Event::together([false; 2]);
        parscan_core::sharing::Signal::set(&idle);
        parscan_core::sharing::Signal::set(&shut);
        let scene = Self {
            gate: Mutex::new((UrbGate::CLOSED, 0)),
            idle,
            shut,
            device: UnsafeCell::new(()),
        };
        scene.with(|gate, _| gate.open(&scene.shut));
        Arc::new(scene)
    }

    /// A section under the lock, after which both events say what is so.
    fn with<T>(&self, section: impl FnOnce(&mut UrbGate, &mut u32) -> T) -> T {
        let mut guard = self.gate.lock().unwrap();
        let (gate, out) = &mut *guard;
        let result = section(gate, out);
        assert_eq!(self.idle.is_set(), *out == 0, "{out} URBs");
        assert_eq!(self.shut.is_set(), gate.check().is_err(), "shut");
        result
    }

    /// A URB goes out and comes back. Whether it did.
    fn send(&self) -> Result<(), Status> {
        self.with(|gate, out| {
            gate.enter(&self.idle)?;
            *out += 1;
            Ok(())
        })?;
        self.device.with(|_| ());
        self.with(|gate, out| {
            *out -= 1;
            gate.leave(&self.idle);
        });
        Ok(())
    }

    /// No URB is out any more, and none goes out.
    fn wait_idle(&self) {
        let _ = Event::wait_any(&[&self.idle]);
        self.device.with_mut(|_| ());
    }
}

#[test]
fn the_last_urb_ends_the_wait() {
    every_order(|| {
        let scene = Scene::new();
        let senders = [(); 2].map(|()| beside(&scene, |scene| scene.send().is_ok()));
        scene.with(|gate, _| {
            gate.close(
                Status::DEVICE_NOT_READY,
                Status::DELETE_PENDING,
                &scene.shut,
            );
        });
        scene.wait_idle();
        assert_eq!(
            scene.send().map_err(|it| it.0),
            Err(Status::DELETE_PENDING.0)
        );
        for sender in senders {
            sender.join().unwrap();
        }
        scene.with(|gate, out| assert!(*out == 0 && gate.check().is_err()));
    });
}

#[test]
fn a_device_sleeps_wakes_and_loses_its_power_beside_requests() {
    every_order(|| {
        let scene = Scene::new();
        let sender = beside(&scene, |scene| scene.send().is_ok());
        let power = beside(&scene, |scene| {
            let asleep = Status::DEVICE_NOT_READY;
            scene.with(|gate, _| gate.sleep(asleep, asleep, &scene.shut));
            scene.wait_idle();
            scene.with(|gate, _| gate.resume_requests(&scene.shut));
            scene.with(|gate, _| assert!(gate.wake(&scene.shut)));
        });
        // Whether it was let in or not: it ends.
        let _ = scene.send();
        sender.join().unwrap();
        power.join().unwrap();
        assert!(scene.send().is_ok(), "awake again");
    });
}

#[test]
fn a_thread_that_waits_is_told_that_the_gate_is_shut() {
    every_order(|| {
        let scene = Scene::new();
        let waits = beside(&scene, |scene| {
            // As a thread with a request to the USB stack that never answers.
            loop {
                let _ = Event::wait_any(&[&scene.shut]);
                if scene.with(|gate, _| gate.check()).is_err() {
                    return;
                }
                yield_now();
            }
        });
        let asleep = Status::DEVICE_NOT_READY;
        scene.with(|gate, _| gate.sleep(asleep, asleep, &scene.shut));
        scene.with(|gate, _| gate.resume_requests(&scene.shut));
        scene.with(|gate, _| assert!(gate.lose(asleep, &scene.shut)));
        waits.join().unwrap();
    });
}

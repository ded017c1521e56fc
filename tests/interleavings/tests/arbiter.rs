//! Who has the port: one at a time, and every client in the end.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::thread::{JoinHandle, spawn};
use parscan_core::ioctl::Status;
use parscan_interleavings::{
    every_order, four_preemptions,
    line::{Line, Owner},
};

/// A thread waits for the thing, uses it and frees it.
fn client(line: &Arc<Line>, number: u32) -> JoinHandle<()> {
    let line = Arc::clone(line);
    spawn(move || {
        line.enter(number, true).unwrap();
        line.use_it();
        assert!(line.leave(Owner::Thread(number)));
    })
}

fn end<const N: usize>(threads: [JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn two_threads_have_it_one_after_the_other() {
    every_order(|| {
        let line = Arc::new(Line::free());
        let other = client(&line, 1);
        line.enter(0, true).unwrap();
        line.use_it();
        assert!(line.leave(Owner::Thread(0)));
        end([other]);
        line.assert_at_rest();
    });
}

#[test]
fn a_thread_beside_an_irp() {
    every_order(|| {
        let line = Arc::new(Line::free());
        let thread = client(&line, 1);
        line.acquire(1);
        end([thread]);
        assert_eq!(line.completed(), (1, 1));
        line.assert_at_rest();
    });
}

#[test]
fn an_interrupt_beside_a_thread() {
    every_order(|| {
        let line = Arc::new(Line::free());
        let thread = client(&line, 1);
        if line.try_take_at_interrupt() {
            line.use_it();
            assert!(line.claim_for_interrupt(), "it is the interrupt's");
            assert!(line.leave(Owner::Interrupt));
        }
        end([thread]);
        line.assert_at_rest();
    });
}

#[test]
fn a_reservation_beside_a_thread() {
    every_order(|| {
        let line = Arc::new(Line::free());
        let thread = client(&line, 1);
        line.reserve();
        if line.end_reservation() {
            line.use_it();
            assert!(line.leave(Owner::System));
        }
        end([thread]);
        line.assert_at_rest();
    });
}

#[test]
fn three_threads_have_it_one_after_the_other() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        let others = [client(&line, 1), client(&line, 2)];
        line.enter(0, true).unwrap();
        line.use_it();
        assert!(line.leave(Owner::Thread(0)));
        end(others);
        line.assert_at_rest();
    });
}

#[test]
fn an_irp_frees_it_in_its_completion() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        let thread = client(&line, 1);
        let irps = spawn({
            let line = Arc::clone(&line);
            move || line.acquire(1)
        });
        line.acquire(2);
        end([thread, irps]);
        assert_eq!(line.completed(), (2, 2));
        line.assert_at_rest();
    });
}

#[test]
fn an_irp_is_cancelled_while_it_is_passed_on() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        assert!(line.try_acquire(Owner::Thread(0)));
        line.acquire(1);
        let thread = client(&line, 1);
        let cancel = spawn({
            let line = Arc::clone(&line);
            move || line.cancel()
        });
        line.use_it();
        assert!(line.leave(Owner::Thread(0)));
        end([thread, cancel]);
        assert_eq!(line.completed().0, 1);
        line.assert_at_rest();
    });
}

#[test]
fn an_interrupt_takes_it_without_a_lock() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        let interrupt = spawn({
            let line = Arc::clone(&line);
            move || {
                if line.try_take_at_interrupt() {
                    line.use_it();
                    assert!(line.claim_for_interrupt(), "it is the interrupt's");
                    assert!(line.leave(Owner::Interrupt));
                }
            }
        });
        let thread = client(&line, 1);
        line.acquire(1);
        end([interrupt, thread]);
        assert_eq!(line.completed(), (1, 1));
        line.assert_at_rest();
    });
}

#[test]
fn a_claim_of_what_no_interrupt_has_is_refused() {
    every_order(|| {
        let line = Arc::new(Line::free());
        let claim = spawn({
            let line = Arc::clone(&line);
            move || assert!(!line.claim_for_interrupt())
        });
        let thread = client(&line, 1);
        line.acquire(1);
        end([claim, thread]);
        line.assert_at_rest();
    });
}

#[test]
fn the_system_has_it_next() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        assert!(line.try_acquire(Owner::Thread(0)));
        let threads = [
            client(&line, 1),
            spawn({
                let line = Arc::clone(&line);
                move || {
                    line.use_it();
                    assert!(line.leave(Owner::Thread(0)));
                }
            }),
        ];
        line.reserve();
        if line.end_reservation() {
            line.use_it();
            assert!(line.leave(Owner::System));
        }
        end(threads);
        line.assert_at_rest();
    });
}

#[test]
fn what_the_system_has_comes_back_to_those_who_wait() {
    four_preemptions(|| {
        let line = Arc::new(Line::of_system());
        let threads = [client(&line, 1), client(&line, 2)];
        line.use_it();
        assert!(line.leave(Owner::System));
        end(threads);
        line.assert_at_rest();
    });
}

#[test]
fn a_refusal_reaches_all() {
    every_order(|| {
        let line = Arc::new(Line::free());
        assert!(line.try_acquire(Owner::Thread(0)));
        let thread = spawn({
            let line = Arc::clone(&line);
            move || match line.enter(1, true) {
                Ok(()) => assert!(line.leave(Owner::Thread(1))),
                Err(refusal) => assert_eq!(refusal.0, Status::DELETE_PENDING.0),
            }
        });
        let irp = spawn({
            let line = Arc::clone(&line);
            move || line.acquire(1)
        });
        // No client frees the thing: what waits ends all the same.
        line.close(Status::DELETE_PENDING);
        end([thread, irp]);
        assert_eq!(line.completed(), (1, 0));
        assert!(!line.try_acquire(Owner::Thread(2)), "closed");
        assert!(line.leave(Owner::Thread(0)));
        line.assert_at_rest();
    });
}

#[test]
fn a_refusal_beside_a_free() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        assert!(line.try_acquire(Owner::Thread(0)));
        line.acquire(1);
        let thread = spawn({
            let line = Arc::clone(&line);
            move || {
                if line.enter(1, true).is_ok() {
                    line.use_it();
                    assert!(line.leave(Owner::Thread(1)));
                }
            }
        });
        let close = spawn({
            let line = Arc::clone(&line);
            move || line.close(Status::DELETE_PENDING)
        });
        assert!(line.leave(Owner::Thread(0)));
        end([thread, close]);
        assert_eq!(line.completed().0, 1);
        line.assert_at_rest();
    });
}

#[test]
fn one_who_gives_up_at_the_last_moment_has_it_or_not() {
    four_preemptions(|| {
        let line = Arc::new(Line::free());
        assert!(line.try_acquire(Owner::Thread(0)));
        let impatient = spawn({
            let line = Arc::clone(&line);
            move || {
                if line.enter(1, false).is_ok() {
                    line.use_it();
                    assert!(line.leave(Owner::Thread(1)));
                }
            }
        });
        let patient = client(&line, 2);
        line.use_it();
        assert!(line.leave(Owner::Thread(0)));
        end([impatient, patient]);
        line.assert_at_rest();
    });
}

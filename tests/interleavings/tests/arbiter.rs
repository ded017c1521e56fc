//! Who has the port: one at a time, and every client in the end.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "threads of loom are no threads"
)]

use std::sync::Arc;

use loom::thread::JoinHandle;
use parscan_core::ioctl::Status;
use parscan_interleavings::{
    beside, every_order, four_preemptions,
    line::{Line, Owner},
};

/// A scene with a line that this makes, which is at rest in the end.
fn with_line(
    make: fn() -> Line,
    scene: impl Fn(&Arc<Line>) + Send + Sync + 'static,
) -> impl Fn() + Send + Sync + 'static {
    move || {
        let line = Arc::new(make());
        scene(&line);
        line.assert_at_rest();
    }
}

/// A line whose thing thread 0 has.
fn taken() -> Line {
    let line = Line::free();
    assert!(line.try_acquire(Owner::Thread(0)));
    line
}

/// Who has the thing uses it and frees it.
fn use_up(line: &Line, owner: Owner) {
    line.use_it();
    assert!(line.leave(owner));
}

/// A thread waits for the thing, uses it and frees it.
fn use_in_turn(line: &Line, number: u32) {
    line.enter(number, true).unwrap();
    use_up(line, Owner::Thread(number));
}

/// The same in a thread of its own.
fn client(line: &Arc<Line>, number: u32) -> JoinHandle<()> {
    beside(line, move |line| use_in_turn(line, number))
}

/// Thread 1 waits for the thing, and may not get it.
fn client_in_doubt(line: &Arc<Line>, patient: bool) -> JoinHandle<()> {
    beside(line, move |line| {
        if line.enter(1, patient).is_ok() {
            use_up(line, Owner::Thread(1));
        }
    })
}

/// An interrupt takes the thing, if it is free.
fn interrupt(line: &Line) {
    if line.try_take_at_interrupt() {
        line.use_it();
        assert!(line.claim_for_interrupt(), "it is the interrupt's");
        assert!(line.leave(Owner::Interrupt));
    }
}

/// The system wants the thing next, and may get it.
fn system(line: &Line) {
    line.reserve();
    if line.end_reservation() {
        use_up(line, Owner::System);
    }
}

fn end<const N: usize>(threads: [JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A client's thread, and this beside it.
fn beside_a_client(part: fn(&Line)) -> impl Fn() + Send + Sync + 'static {
    with_line(Line::free, move |line| {
        let thread = client(line, 1);
        part(line);
        end([thread]);
    })
}

#[test]
fn two_threads_have_it_one_after_the_other() {
    every_order(beside_a_client(|line| use_in_turn(line, 0)));
}

#[test]
fn a_thread_beside_an_irp() {
    every_order(with_line(Line::free, |line| {
        let thread = client(line, 1);
        line.acquire(1);
        end([thread]);
        assert_eq!(line.completed(), (1, 1));
    }));
}

#[test]
fn an_interrupt_beside_a_thread() {
    every_order(beside_a_client(interrupt));
}

#[test]
fn a_reservation_beside_a_thread() {
    every_order(beside_a_client(system));
}

#[test]
fn three_threads_have_it_one_after_the_other() {
    four_preemptions(with_line(Line::free, |line| {
        let others = [client(line, 1), client(line, 2)];
        use_in_turn(line, 0);
        end(others);
    }));
}

#[test]
fn an_irp_frees_it_in_its_completion() {
    four_preemptions(with_line(Line::free, |line| {
        let thread = client(line, 1);
        let irps = beside(line, |line| line.acquire(1));
        line.acquire(2);
        end([thread, irps]);
        assert_eq!(line.completed(), (2, 2));
    }));
}

#[test]
fn an_irp_is_cancelled_while_it_is_passed_on() {
    four_preemptions(with_line(taken, |line| {
        line.acquire(1);
        let thread = client(line, 1);
        let cancel = beside(line, Line::cancel);
        use_up(line, Owner::Thread(0));
        end([thread, cancel]);
        assert_eq!(line.completed().0, 1);
    }));
}

#[test]
fn an_interrupt_takes_it_without_a_lock() {
    four_preemptions(with_line(Line::free, |line| {
        let interrupt = beside(line, interrupt);
        let thread = client(line, 1);
        line.acquire(1);
        end([interrupt, thread]);
        assert_eq!(line.completed(), (1, 1));
    }));
}

#[test]
fn a_claim_of_what_no_interrupt_has_is_refused() {
    every_order(with_line(Line::free, |line| {
        let claim = beside(line, |line| assert!(!line.claim_for_interrupt()));
        let thread = client(line, 1);
        line.acquire(1);
        end([claim, thread]);
    }));
}

#[test]
fn the_system_has_it_next() {
    four_preemptions(with_line(taken, |line| {
        let holder = |line: &Line| use_up(line, Owner::Thread(0));
        let threads = [client(line, 1), beside(line, holder)];
        system(line);
        end(threads);
    }));
}

#[test]
fn what_the_system_has_comes_back_to_those_who_wait() {
    four_preemptions(with_line(Line::of_system, |line| {
        let threads = [client(line, 1), client(line, 2)];
        use_up(line, Owner::System);
        end(threads);
    }));
}

#[test]
fn a_refusal_reaches_all() {
    every_order(with_line(taken, |line| {
        let thread = beside(line, |line| match line.enter(1, true) {
            Ok(()) => assert!(line.leave(Owner::Thread(1))),
            Err(refusal) => assert_eq!(refusal.0, Status::DELETE_PENDING.0),
        });
        let irp = beside(line, |line| line.acquire(1));
        // No client frees the thing: what waits ends all the same.
        line.close(Status::DELETE_PENDING);
        end([thread, irp]);
        assert_eq!(line.completed(), (1, 0));
        assert!(!line.try_acquire(Owner::Thread(2)), "closed");
        assert!(line.leave(Owner::Thread(0)));
    }));
}

#[test]
fn a_refusal_beside_a_free() {
    four_preemptions(with_line(taken, |line| {
        line.acquire(1);
        let thread = client_in_doubt(line, true);
        let close = beside(line, |line| line.close(Status::DELETE_PENDING));
        assert!(line.leave(Owner::Thread(0)));
        end([thread, close]);
        assert_eq!(line.completed().0, 1);
    }));
}

#[test]
fn one_who_gives_up_at_the_last_moment_has_it_or_not() {
    four_preemptions(with_line(taken, |line| {
        let impatient = client_in_doubt(line, false);
        let patient = client(line, 2);
        use_up(line, Owner::Thread(0));
        end([impatient, patient]);
    }));
}

//! Two and three threads each, and the kernel's own.

use core::{
    ptr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
};
use std::thread::{scope, yield_now};

use super::{
    Buffer, Device, Passive, Role, Shared, SpinLock,
    cancel::Cancellation,
    irp::{FileId, Sent},
    irql::Routine,
    open::{OpenList, OpenRef},
    pool::{PoolBox, release_raw},
    queue::{Admission, Pick, Queue, admit_of},
    sync::{Event, Rundown},
};
use crate::ioctl::Status;

/// How often a scene runs: each time the threads meet elsewhere.
const TIMES: u32 = if cfg!(miri) { 4 } else { 400 };

struct Nothing;

impl Role for Nothing {}

const DEVICE: Device<'static, Nothing> = Device(core::marker::PhantomData);

fn routine() -> Routine {
    // SAFETY: a test is one that is called, and keeps it.
    unsafe { Routine::new() }
}

fn passive(routine: &Routine) -> Passive<'_> {
    // SAFETY: tests begin at PASSIVE_LEVEL.
    unsafe { Passive::of(routine) }
}

/// Counts its drops.
struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn pool_is_given_back_by_the_last_owner() {
    static DROPS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..TIMES {
        DROPS.store(0, SeqCst);
        let shared = Shared::try_new(Counted(&DROPS)).unwrap();
        let raw = shared.clone().into_raw();
        scope(|scope| {
            for _ in 0..2 {
                let own = shared.clone();
                scope.spawn(move || drop(own.clone()));
            }
            let kept = ptr::NonNull::new(raw).unwrap();
            // SAFETY: the owner that `raw` is stays until below.
            let again = unsafe { Shared::<Counted<'static>>::from_kept(kept) };
            assert!(again.is_some());
            // SAFETY: likewise.
            assert!(unsafe { Shared::<u32>::from_kept(kept) }.is_none());
            drop((shared, again));
            // SAFETY: made above, and not used again.
            unsafe { release_raw(kept) };
        });
        assert_eq!(DROPS.load(SeqCst), 1);
    }
    let mut buffer = Buffer::try_zeroed(5).unwrap();
    buffer[4] = 7;
    assert_eq!(*buffer, [0, 0, 0, 0, 7]);
    let place = PoolBox::try_new(Box::new(3)).unwrap().into_raw();
    // SAFETY: made above.
    assert_eq!(**unsafe { PoolBox::from_raw(place) }, 3);
}

#[test]
fn a_spin_lock_guards_its_value_while_others_spin() {
    let lock = SpinLock::new(Vec::new());
    scope(|scope| {
        for thread in 0..3 {
            let lock = &lock;
            scope.spawn(move || {
                for _ in 0..TIMES {
                    lock.with(|it| it.push(thread));
                }
            });
        }
    });
    assert_eq!(lock.with(|it| it.len()), 3 * TIMES as usize);
}

#[test]
fn an_event_wakes_those_who_wait() {
    let routine = routine();
    let (asked, answered) = (
        Event::synchronization().unwrap(),
        Event::notification().unwrap(),
    );
    assert!(!asked.take());
    scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this thread is at PASSIVE_LEVEL.
            let own = unsafe { Routine::new() };
            for _ in 0..TIMES {
                asked.wait(passive(&own).blocking());
                answered.set();
            }
        });
        for _ in 0..TIMES {
            asked.set();
            answered.wait(passive(&routine).blocking());
            answered.reset();
        }
    });
}

/// What is behind the gate is freed when the gate has closed.
#[derive(Clone, Copy)]
struct Behind(*const AtomicUsize);

// SAFETY: the number is atomic.
unsafe impl Send for Behind {}
// SAFETY: likewise.
unsafe impl Sync for Behind {}

#[test]
fn whoever_is_inside_a_gate_finds_what_is_behind_it() {
    let routine = routine();
    let passive = passive(&routine);
    let gate = Rundown::<Behind>::try_closed(passive).unwrap();
    let over = AtomicBool::new(false);
    scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    if let Some(inside) = gate.enter() {
                        // SAFETY: it lives while the gate is open, and a thread inside.
                        unsafe { &*inside.value().0 }.fetch_add(1, SeqCst);
                        let _ = inside.must_leave();
                    }
                    yield_now();
                }
            });
        }
        for time in 0..TIMES {
            let behind = Box::into_raw(Box::new(AtomicUsize::new(0)));
            gate.open(Behind(behind), passive);
            yield_now();
            match time % 3 {
                0 => gate.close(passive),
                1 => gate.evict(passive),
                _ => {
                    let count = |it: &Behind| {
                        // SAFETY: it is freed below.
                        unsafe { &*it.0 }.load(SeqCst);
                    };
                    gate.suspend(count, passive);
                    gate.resume(count, passive);
                    gate.suspend(count, passive);
                    gate.close(passive);
                }
            }
            // SAFETY: no thread is inside.
            drop(unsafe { Box::from_raw(behind) });
        }
        over.store(true, SeqCst);
    });
}

#[test]
fn opens_come_are_found_and_go() {
    static DROPS: AtomicU32 = AtomicU32::new(0);
    DROPS.store(0, SeqCst);
    // SAFETY: an empty list is all zero.
    let list = unsafe { PoolBox::<OpenList>::try_zeroed() }.unwrap();
    scope(|scope| {
        for thread in 1..4 {
            let list = &*list;
            scope.spawn(move || {
                for time in 0..TIMES as usize {
                    let file = FileId(ptr::without_provenance_mut(16 * thread + 64 * time));
                    let open = list.add(file).unwrap();
                    open.set_context(&Shared::try_new(Counted(&DROPS)).unwrap());
                    let found = list.find(file).unwrap();
                    assert!(found.context::<Counted<'static>>().is_some());
                    open.set_cleaned_up();
                    assert!(found.is_cleaned_up());
                    // SAFETY: in the list, and not used again.
                    unsafe { list.remove(open) };
                    assert!(list.find(file).is_none());
                }
            });
        }
    });
    assert_eq!(DROPS.load(SeqCst), 3 * TIMES);
}

/// Lets IRPs in while it is a success; beside it, how many were taken to be served, and the last
/// one's open.
struct Door(Status);

impl Admission for Door {
    type Arriving = Option<OpenRef>;
    type Carried = (u64, Buffer);
    type Aside = [AtomicUsize; 2];

    fn admit(
        &mut self,
        program: &mut Option<OpenRef>,
        _: &mut (u64, Buffer),
    ) -> Result<(), Status> {
        if self.0.is_success() {
            admit_of(*program)
        } else {
            Err(self.0)
        }
    }

    fn taken([count, last]: &[AtomicUsize; 2], file: FileId) {
        count.fetch_add(1, SeqCst);
        last.store(file.0.addr(), SeqCst);
    }
}

/// A queue with IRPs of two opens: a thread serves them, one cancels, one cleans an open up, the
/// other's go on; each carries memory.
#[test]
fn each_irp_of_a_queue_is_completed_once() {
    let files = [16, 32].map(|address| FileId(ptr::without_provenance_mut(address)));
    for _ in 0..TIMES {
        let beside = [const { AtomicUsize::new(0) }; 2];
        let queue = Queue::try_new(DEVICE, Door(Status::SUCCESS), beside).unwrap();
        let mut served = 0;
        let sent: Vec<Sent> = (0..6).map(|index| Sent::new(files[index % 2])).collect();
        scope(|scope| {
            scope.spawn(|| {
                for irp in &sent {
                    let carried = (7_u64, Buffer::try_zeroed(8).unwrap());
                    match queue.insert(irp.arrive(), &mut None, carried) {
                        Ok(_) => {}
                        Err((irp, carried, refusal)) => {
                            assert_eq!((carried.0, carried.1.len()), (7, 8));
                            let _ = irp.complete(refusal);
                        }
                    }
                }
            });
            scope.spawn(|| {
                for irp in sent.iter().rev() {
                    irp.cancel();
                }
            });
            for pick in [
                Pick::Oldest,
                Pick::ToServe,
                Pick::Of(files[1]),
                Pick::Before(1),
                Pick::ToServe,
            ] {
                let _ = queue.is_empty();
                let _ = queue.with(|_, queued| (queued.count(), queued.first()));
                while let Some((irp, (number, buffer))) = queue.next(pick) {
                    assert_eq!((number, buffer.len()), (7, 8));
                    if let Pick::ToServe = pick {
                        served += 1;
                        let last = queue.aside()[1].load(SeqCst);
                        assert!(files.iter().any(|file| file.0.addr() == last));
                    }
                    let _ = irp.complete(Status::SUCCESS);
                }
                yield_now();
            }
            queue.with(|refusal, _| refusal.0 = Status::DELETE_PENDING);
        });
        while let Some((irp, _)) = queue.next(Pick::Oldest) {
            let _ = irp.complete(Status::SUCCESS);
        }
        assert_eq!(queue.with(|_, queued| queued.count()), 0);
        assert_eq!(queue.aside()[0].load(SeqCst), served);
        for irp in sent {
            let status = irp.free();
            let ends = [Status::SUCCESS, Status::CANCELLED, Status::DELETE_PENDING];
            assert!(ends.contains(&status), "{status:?}");
        }
    }
}

#[test]
fn an_irp_that_is_served_is_followed_until_its_end() {
    for _ in 0..TIMES {
        let sent = Sent::new(FileId(ptr::without_provenance_mut(16)));
        let cancellation = Cancellation::try_new().unwrap();
        scope(|scope| {
            scope.spawn(|| sent.cancel());
            let irp = sent.arrive();
            cancellation.begin();
            // SAFETY: it stays, and `let_go` comes before the end of the IRP.
            unsafe { cancellation.follow(&irp) };
            yield_now();
            let _ = cancellation.requested().load(SeqCst);
            Cancellation::let_go(&irp);
            // The routine touches neither any more.
            drop(cancellation);
            let _ = irp.complete(Status::SUCCESS);
        });
        assert_eq!(sent.free(), Status::SUCCESS);
    }
}

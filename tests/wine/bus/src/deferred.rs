//! Timers and their DPCs, on a thread of their own.
//!
//! Wine's timers call DPCs at IRQL 0, and cannot say when the last one is done.

use alloc::vec::Vec;

use crate::{clock, irql, lock::Lock, nt::Ptr, thread};

/// `KDPC`
#[repr(C)]
pub(crate) struct Dpc {
    head: [usize; 3],
    routine: Option<unsafe extern "system" fn(*mut Dpc, Ptr, Ptr, Ptr)>,
    context: Ptr,
    arguments: [Ptr; 2],
}

impl Dpc {
    pub(crate) const fn new(
        routine: unsafe extern "system" fn(*mut Self, Ptr, Ptr, Ptr),
        context: Ptr,
    ) -> Self {
        Self {
            head: [0; 3],
            routine: Some(routine),
            context,
            arguments: [core::ptr::null_mut(); 2],
        }
    }
}

struct Timer {
    /// The address of the `KTIMER`.
    address: usize,
    due: u64,
    dpc: usize,
}

struct Timers {
    set: Vec<Timer>,
    running: bool,
}

static TIMERS: Lock<Timers> = Lock::new(Timers {
    set: Vec::new(),
    running: false,
});

/// Has a DPC called at this time; gives whether the timer was set already.
pub(crate) fn set_timer(timer: usize, due: u64, dpc: usize) -> bool {
    let mut timers = TIMERS.lock();
    let before = timers.set.len();
    timers.set.retain(|it| it.address != timer);
    let was_set = timers.set.len() != before;
    timers.set.push(Timer {
        address: timer,
        due,
        dpc,
    });
    TIMERS.notify();
    was_set
}

/// Gives whether it was set.
pub(crate) fn cancel_timer(timer: usize) -> bool {
    let mut timers = TIMERS.lock();
    let before = timers.set.len();
    timers.set.retain(|it| it.address != timer);
    timers.set.len() != before
}

/// Waits until no DPC runs.
pub(crate) fn flush() {
    let mut timers = TIMERS.lock();
    while timers.running {
        timers.wait(None);
    }
}

/// Starts the thread. Whether it could.
pub(crate) fn start() -> bool {
    thread::start(run)
}

fn run() {
    let mut timers = TIMERS.lock();
    loop {
        let now = clock::now();
        if let Some(at) = timers.set.iter().position(|it| it.due <= now) {
            let dpc = timers.set.swap_remove(at).dpc;
            timers.running = true;
            drop(timers);
            call(dpc);
            timers = TIMERS.lock();
            timers.running = false;
            TIMERS.notify();
        } else {
            let next = timers.set.iter().map(|it| it.due - now).min();
            let milliseconds =
                |time: u64| u32::try_from(time / 1_000_000 + 1).unwrap_or(u32::MAX - 1);
            timers.wait(next.map(milliseconds));
        }
    }
}

fn call(dpc: usize) {
    let dpc = core::ptr::with_exposed_provenance_mut::<Dpc>(dpc);
    // SAFETY: a timer without a DPC has none; else the driver's, which keeps it until it has
    // cancelled the timer and flushed.
    let Some(it) = (unsafe { dpc.as_ref() }) else {
        return;
    };
    if let Some(routine) = it.routine {
        // SAFETY: as KeInitializeDpc was told.
        irql::at(irql::DISPATCH, || unsafe {
            routine(dpc, it.context, it.arguments[0], it.arguments[1]);
        });
    }
}

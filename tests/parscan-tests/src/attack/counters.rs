//! Figures that the processes of an attack share.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    Requests,
    Sessions,
    Opens,
    Cancels,
    Hostile,
    Faults,
    Sleeps,
    Stops,
    Unplugs,
    /// How many there are.
    Count,
}

static PLACE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// Makes them, before the first process is forked.
pub(crate) fn install() {
    // SAFETY: a new mapping of our own.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(place, libc::MAP_FAILED, "no memory");
    PLACE.store(place.cast(), Ordering::Relaxed);
}

fn place(counter: Counter) -> &'static AtomicU64 {
    let first = PLACE.load(Ordering::Relaxed);
    assert!(!first.is_null(), "counters are not there yet");
    // SAFETY: the page has room for all of them.
    let at = unsafe { first.add(counter as usize) };
    // SAFETY: the page is never unmapped, and zeroed counters are counters.
    unsafe { &*at }
}

const _: () = assert!((Counter::Count as usize) * 8 <= 4096);

/// Adds, and gives what was there before.
pub(crate) fn add(counter: Counter, n: u64) -> u64 {
    place(counter).fetch_add(n, Ordering::Relaxed)
}

/// What is there.
pub(crate) fn of(counter: Counter) -> u64 {
    place(counter).load(Ordering::Relaxed)
}

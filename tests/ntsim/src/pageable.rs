//! Pageable memory: what is taken away at `DISPATCH_LEVEL`.
//!
//! It is given back when it is touched, not when the level falls: a range that no code has touched
//! since it was taken away costs nothing at the next raise. The signal handlers ask [`give_back`]
//! before anything else, so what is here is not in the machine's state, which may be borrowed then.

use std::cell::RefCell;

use crate::mem::Va;

#[derive(Clone, Copy)]
struct Range {
    start: Va,
    len: usize,
    /// Its protection while it is there.
    prot: i32,
    taken: bool,
}

struct Pageable {
    ranges: Vec<Range>,
    /// Whether a touch is an error now.
    out: bool,
}

thread_local! {
    /// What the machine of this host thread has of it.
    static PAGEABLE: RefCell<Pageable> = const {
        RefCell::new(Pageable { ranges: Vec::new(), out: false })
    };
}

/// Lets the host's processor at a range of the machine's own memory, or not.
pub(crate) fn protect(va: Va, len: usize, prot: i32) {
    // SAFETY: the callers name ranges of this machine's own: its reservation or a driver's section.
    let r = unsafe { libc::mprotect(core::ptr::with_exposed_provenance_mut(va), len, prot) };
    assert_eq!(r, 0, "mprotect failed");
}

/// Forgets all ranges: a machine begins or has ended.
pub(crate) fn reset() {
    PAGEABLE.with_borrow_mut(|pageable| {
        pageable.ranges.clear();
        pageable.out = false;
    });
}

/// Another range, whose protection is `prot` now. While a touch is an error, it is taken at once.
pub(crate) fn add(start: Va, len: usize, prot: i32) {
    PAGEABLE.with_borrow_mut(|pageable| {
        let taken = pageable.out;
        pageable.ranges.push(Range {
            start,
            len,
            prot,
            taken,
        });
        if taken {
            protect(start, len, libc::PROT_NONE);
        }
    });
}

/// The ranges that begin here are pageable no more. Their protection is left as it is.
pub(crate) fn remove(here: core::ops::Range<Va>) {
    PAGEABLE.with_borrow_mut(|pageable| {
        pageable.ranges.retain(|range| !here.contains(&range.start));
    });
}

/// From now on a touch is an error, or not.
pub(crate) fn take(out: bool) {
    PAGEABLE.with_borrow_mut(|pageable| {
        if out && !pageable.out {
            for range in pageable.ranges.iter_mut().filter(|range| !range.taken) {
                range.taken = true;
                protect(range.start, range.len, libc::PROT_NONE);
            }
        }
        pageable.out = out;
    });
}

/// Whether a touch is an error now.
pub(crate) fn is_out() -> bool {
    PAGEABLE.with_borrow(|pageable| pageable.out)
}

/// The processor has refused an access at `va`. Whether that was for a range that had been taken,
/// and may be touched: it is there again, and the access is to be tried once more.
pub(crate) fn give_back(va: Va) -> bool {
    PAGEABLE.with(|pageable| {
        let Ok(mut pageable) = pageable.try_borrow_mut() else {
            return false;
        };
        if pageable.out {
            return false;
        }
        let mut taken = pageable.ranges.iter_mut().filter(|range| range.taken);
        let Some(range) = taken.find(|r| (r.start..r.start + r.len).contains(&va)) else {
            return false;
        };
        range.taken = false;
        protect(range.start, range.len, range.prot);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_comes_back_by_a_touch_alone() {
        const LEN: usize = 4096;
        // SAFETY: a fresh mapping, no address given.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(core::ptr::null_mut(), LEN, libc::PROT_READ, flags, -1, 0)
        };
        assert!(start != libc::MAP_FAILED);
        let start = start.expose_provenance();
        reset();
        add(start, LEN, libc::PROT_READ);
        assert!(!give_back(start), "it is there");
        take(true);
        assert!(!give_back(start), "a touch is an error");
        take(false);
        assert!(!give_back(start + LEN), "another page");
        assert!(give_back(start + LEN - 1));
        assert_eq!(crate::mem::peek::<u8>(start), 0);
        assert!(!give_back(start), "it is there again");
        take(true);
        take(false);
        remove(start..start + 1);
        assert!(!give_back(start), "no more");
        // SAFETY: the mapping made above.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(start), LEN) };
    }
}

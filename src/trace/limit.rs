//! How many events of a kind go out.

use core::sync::atomic::{AtomicU64, Ordering};

/// A window of time, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// So many events of a kind go out in each.
pub const MOST: u64 = 16;

/// The limit of one kind of event: [`MOST`] in each window of ten seconds.
///
/// The window's number is the upper half; below it 16 bits of what went out, and 16 bits of what
/// did not.
pub struct Limit(AtomicU64);

const COUNT: u64 = 0xFFFF;

impl Limit {
    /// Nothing went out yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "for statics alone")]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// An event is about to go out at `now`, in milliseconds. `None`: it must not. Else how many
    /// were left out before it and not told of yet, at most 65,535. From any thread, at any IRQL.
    #[must_use]
    pub fn admit(&self, now: u64) -> Option<u16> {
        let window = (now / WINDOW_MS).wrapping_add(1) << 32;
        let mut told = None;
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                let (sent, lost) = (state >> 16 & COUNT, state & COUNT);
                // One that left no mark goes out with the next window, so it is not forgotten.
                let is_new = state >> 32 != window >> 32;
                if is_new || sent < MOST {
                    told = u16::try_from(lost).ok();
                    let sent = if is_new { 1 } else { sent + 1 };
                    Some(window | sent << 16)
                } else {
                    told = None;
                    Some(window | sent << 16 | (lost + 1).min(COUNT))
                }
            });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_each_window_and_the_next_one_tells_of_the_rest() {
        let limit = Limit::new();
        for _ in 0..MOST {
            assert_eq!(limit.admit(0), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(limit.admit(WINDOW_MS - 1), None);
        }
        assert_eq!(limit.admit(WINDOW_MS), Some(5));
        assert_eq!(limit.admit(WINDOW_MS), Some(0));
    }

    #[test]
    #[cfg_attr(
        miri,
        ignore = "minutes of counting, which touch no memory in a new way"
    )]
    fn what_is_left_out_is_counted_to_the_end_of_the_counter() {
        let limit = Limit::new();
        for _ in 0..MOST + 70_000 {
            let _ = limit.admit(5);
        }
        assert_eq!(limit.admit(3 * WINDOW_MS), Some(u16::MAX));
    }

    #[test]
    fn the_clock_may_begin_anywhere() {
        let limit = Limit::new();
        assert_eq!(limit.admit(u64::MAX), Some(0));
        assert_eq!(limit.admit(u64::MAX), Some(0));
    }
}

//! Whose request a thread serves that takes requests out of a queue, for those who end the requests
//! of an open.

use super::{Signal, Word};

/// No request is served.
const NOTHING: usize = 0;
/// A request is served; the other bits are its open.
const REQUEST: usize = 2;
/// Likewise, and a thread waits for its end.
const AWAITED: usize = 1;

/// The request that the thread serves, as its open: an address, which is a multiple of 4, or 0 for a
/// request that came through none.
///
/// A request is served from the moment it leaves the queue, under whose lock [`Serving::begin`] and
/// [`Serving::ends_soon`] run. So a thread that has emptied the queue of an open's requests finds
/// every other one of them here. [`Serving::end`] needs no lock.
pub struct Serving<W>(W);

impl<W: Word> Serving<W> {
    /// Of a word of 0.
    pub const fn new(word: W) -> Self {
        Self(word)
    }

    /// A request of `open` leaves the queue. `begin` clears the note that the one before was to
    /// end.
    pub fn begin(&self, open: usize, begin: impl FnOnce()) {
        begin();
        self.0.replace(open | REQUEST);
    }

    /// The request is about to be completed. Whether a thread waits for that, which is to be told.
    pub fn end(&self) -> bool {
        self.0.replace(NOTHING) & AWAITED != 0
    }

    /// Whether a request of this open is being served. It shall `end`, and the caller waits for
    /// `changed` before it asks again.
    pub fn ends_soon(&self, open: usize, changed: &impl Signal, end: impl FnOnce()) -> bool {
        let served = open | REQUEST;
        if self.0.read() & !AWAITED != served {
            return false;
        }
        // Before the thread is asked to signal it.
        changed.reset();
        if self.0.change(served, served | AWAITED) || self.0.read() == served | AWAITED {
            end();
            return true;
        }
        // It has ended meanwhile, and another thread that waits may have missed its signal.
        changed.set();
        false
    }
}

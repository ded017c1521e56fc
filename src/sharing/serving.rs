//! What a thread serves that takes requests out of a queue, for those who end the requests of an
//! open.

use super::Signal;

/// What the thread is about. Its methods run under one lock.
///
/// `changed` is the same event every time. A thread that waits for the end of a request looks with
/// [`Serving::ends_soon`] and waits for the event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Serving<O> {
    /// Nothing, or a request that has ended.
    Nothing,
    /// It is taking a request out of the queue: of whom is not known yet.
    Next,
    /// A request of this open.
    Request(O),
}

impl<O: PartialEq> Serving<O> {
    /// The thread is about something else. Before a request is served, `begin` clears the note that
    /// the one before was to end.
    pub fn set(&mut self, what: Self, changed: &impl Signal, begin: impl FnOnce()) {
        if let Self::Request(_) = what {
            begin();
        }
        *self = what;
        changed.set();
    }

    /// Whether a request is being served, or will be in a moment, that is of this open. One that is
    /// being served shall `end`.
    pub fn ends_soon(&self, open: &O, changed: &impl Signal, end: impl FnOnce()) -> bool {
        match self {
            Self::Next => {}
            Self::Request(other) if other == open => end(),
            Self::Nothing | Self::Request(_) => return false,
        }
        changed.reset();
        true
    }
}

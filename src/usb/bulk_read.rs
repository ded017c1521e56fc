//! The transfers of a `ReadFile`.

use core::num::NonZeroU16;

use super::whole_packets;

/// What a read does next. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkReadStep {
    /// Copy from the bounce buffer to the caller's, then call [`BulkRead::copied`].
    Copy {
        /// Where the bytes are in the bounce buffer.
        from: usize,
        /// Where they go in the caller's buffer.
        to: usize,
        /// How many, at least 1.
        length: usize,
    },
    /// Transfer whole packets into the caller's buffer, then call [`BulkRead::received`].
    Direct {
        /// Where they go in the caller's buffer.
        to: usize,
        /// How many bytes: a multiple of the packet size, 64 KiB at most.
        length: usize,
    },
    /// Transfer one packet to the start of the bounce buffer, then call [`BulkRead::received`].
    Bounce {
        /// Its length: the packet size.
        length: usize,
    },
    /// The read is complete.
    Done {
        /// Bytes in the caller's buffer: `Information`.
        information: usize,
    },
}

/// The reads of one handle on its bulk IN pipe, one after the other.
///
/// A host must ask for whole packets, or a device that sends a full one overruns the buffer. A
/// caller may ask for anything. So whole packets go straight to the caller's buffer, and the rest
/// of a read comes by a bounce buffer of one packet; what the caller did not ask for is kept for
/// the next read. To the caller it is a stream, in which each short packet ends a read (also when
/// its last bytes come out of the bounce buffer), and a packet of length zero where nothing else
/// came ends it with 0 bytes.
///
/// A read whose transfer ends early ([`BulkRead::interrupted`]) ends with what has arrived by then;
/// the stream goes on behind that, unless it is [discarded](BulkRead::discard).
///
/// The machine needs no memory of its own: the caller has the bounce buffer, of one packet.
#[derive(Clone, Copy, Debug)]
pub struct BulkRead {
    max_packet_size: NonZeroU16,
    /// The current read: what was asked for, what is there.
    length: usize,
    done: usize,
    /// It ends with what is there.
    is_over: bool,
    /// What is in the bounce buffer and not yet copied.
    surplus_start: usize,
    surplus_end: usize,
    /// The last packet was a short one, and no read has ended with it yet.
    short: bool,
}

impl BulkRead {
    /// A pipe from which nothing was read. It is done, until [`BulkRead::begin`].
    #[must_use]
    pub const fn new(max_packet_size: NonZeroU16) -> Self {
        Self {
            max_packet_size,
            length: 0,
            done: 0,
            is_over: false,
            surplus_start: 0,
            surplus_end: 0,
            short: false,
        }
    }

    /// Begins a read of `length` bytes. One that was going on is given up: what it has is lost to
    /// the stream.
    pub const fn begin(&mut self, length: usize) {
        self.length = length;
        self.done = 0;
        self.is_over = false;
    }

    /// Forgets the surplus: what was going on in the pipe was aborted, or the pipe was reset.
    pub const fn discard(&mut self) {
        self.surplus_start = 0;
        self.surplus_end = 0;
        self.short = false;
    }

    /// What to do now. A transfer stays the answer until [`BulkRead::received`] or
    /// [`BulkRead::interrupted`], a copy until [`BulkRead::copied`], [`BulkReadStep::Done`] until
    /// [`BulkRead::begin`].
    #[allow(
        clippy::should_implement_trait,
        reason = "a step is not an item: it is the answer until it is done"
    )]
    pub fn next(&mut self) -> BulkReadStep {
        let length = self.copy();
        if length != 0 {
            return BulkReadStep::Copy {
                from: self.surplus_start,
                to: self.done,
                length,
            };
        }
        if let Some(transfer) = self.transfer() {
            return transfer;
        }
        if self.surplus() == 0 {
            self.length = self.done;
            self.short = false;
        }
        BulkReadStep::Done {
            information: self.done,
        }
    }

    /// The bytes were copied. Where no copy is due it does nothing.
    pub fn copied(&mut self) {
        let length = self.copy();
        self.surplus_start = self.surplus_start.saturating_add(length);
        self.done = self.done.saturating_add(length);
    }

    /// The transfer brought `count` bytes: fewer than its length, if it ended with a short packet.
    /// Where no transfer is due it does nothing.
    pub fn received(&mut self, count: usize) {
        match self.transfer() {
            Some(BulkReadStep::Direct { length, .. }) => {
                self.short = count < length;
                self.done = self.done.saturating_add(count.min(length));
            }
            Some(BulkReadStep::Bounce { length }) => {
                self.short = count < length;
                self.surplus_start = 0;
                self.surplus_end = count.min(length);
            }
            _ => {}
        }
    }

    /// The transfer ended early, with an error, and had brought `count` bytes by then. The read
    /// ends with them: no transfer follows, but perhaps a copy. Where no transfer is due, or it was
    /// not sent (0 bytes), the read ends likewise.
    pub fn interrupted(&mut self, count: usize) {
        match self.transfer() {
            Some(BulkReadStep::Direct { length, .. }) => {
                self.done = self.done.saturating_add(count.min(length));
            }
            Some(BulkReadStep::Bounce { length }) if count != 0 => {
                self.short = count < length;
                self.surplus_start = 0;
                self.surplus_end = count.min(length);
            }
            _ => {}
        }
        self.is_over = true;
    }

    /// Bytes in the caller's buffer.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }

    /// How many bytes can be copied now.
    fn copy(&self) -> usize {
        self.surplus().min(self.left())
    }

    /// The transfer that is due, if one is.
    fn transfer(&self) -> Option<BulkReadStep> {
        if self.is_over || self.left() == 0 || self.surplus() != 0 || self.short {
            return None;
        }
        Some(match whole_packets(self.left(), self.max_packet_size) {
            0 => BulkReadStep::Bounce {
                length: self.max_packet_size.get().into(),
            },
            length => BulkReadStep::Direct {
                to: self.done,
                length,
            },
        })
    }

    /// Bytes that the read still wants.
    const fn left(&self) -> usize {
        self.length.saturating_sub(self.done)
    }

    /// Bytes in the bounce buffer.
    const fn surplus(&self) -> usize {
        self.surplus_end.saturating_sub(self.surplus_start)
    }
}

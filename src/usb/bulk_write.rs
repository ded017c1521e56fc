//! The transfers of a `WriteFile`.

use core::{num::NonZeroU16, ops::Range};

use super::{MAX_TRANSFER, whole_packets};

/// A `WriteFile` on a bulk OUT pipe, in transfers of at most 64 KiB, one after the other. All but
/// the last are whole packets, so that the device sees one stream.
///
/// No packet of length zero follows data that ends with a full packet: where a protocol wants one,
/// only its client knows.
#[derive(Clone, Copy, Debug)]
pub struct BulkWrite {
    length: usize,
    done: usize,
    max_packet_size: NonZeroU16,
}

impl BulkWrite {
    /// A write of `length` bytes.
    #[must_use]
    pub const fn new(length: usize, max_packet_size: NonZeroU16) -> Self {
        Self {
            length,
            done: 0,
            max_packet_size,
        }
    }

    /// The part of the caller's buffer to be sent now; the same one until [`BulkWrite::sent`].
    /// `None`: all is sent, and `Information` is [`BulkWrite::done`].
    #[must_use]
    #[inline(never)]
    pub fn next(&self) -> Option<Range<usize>> {
        let left = self.length.saturating_sub(self.done);
        let length = if left <= MAX_TRANSFER {
            left
        } else {
            whole_packets(left, self.max_packet_size)
        };
        (length != 0).then(|| self.done..self.done.saturating_add(length))
    }

    /// The part was sent.
    pub fn sent(&mut self) {
        if let Some(part) = self.next() {
            self.done = part.end;
        }
    }

    /// The part was not sent as a whole: the first `count` bytes of it went.
    pub fn interrupted(&mut self, count: usize) {
        if let Some(part) = self.next() {
            self.done = part.end.min(self.done.saturating_add(count));
        }
    }

    /// Bytes that were sent.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }
}

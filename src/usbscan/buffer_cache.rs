//! Memory that is put by for the data of vendor requests.

use crate::{
    ioctl::Status,
    kernel::{Buffer, SpinLock},
};

/// Data up to this length, in bytes, is short: registers, mostly.
const SHORT: usize = 64;
/// How many requests with short data can wait.
const PLACES: usize = 4;

/// Memory for the data of vendor requests. While few of them wait, short data needs none from the
/// pool.
pub(super) struct BufferCache(SpinLock<[Option<Buffer>; PLACES]>);

impl BufferCache {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new() -> Result<Self, Status> {
        let mut places = [const { None }; PLACES];
        for place in &mut places {
            *place = Some(Buffer::try_zeroed(SHORT)?);
        }
        Ok(Self(SpinLock::new(places)))
    }

    /// Memory for `length` bytes at least. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn take(&self, length: usize) -> Result<Buffer, Status> {
        if length > SHORT {
            return Buffer::try_zeroed(length);
        }
        match self
            .0
            .with(|places| places.iter_mut().find_map(Option::take))
        {
            Some(buffer) => Ok(buffer),
            None => Buffer::try_zeroed(SHORT),
        }
    }

    /// Gives back what [`BufferCache::take`] gave. At <= `DISPATCH_LEVEL`.
    pub(super) fn put(&self, buffer: Buffer) {
        if buffer.len() != SHORT {
            return;
        }
        // Freed after the lock, if there is no place for it.
        let _left =
            self.0.with(
                move |places| match places.iter_mut().find(|place| place.is_none()) {
                    Some(place) => place.replace(buffer),
                    None => Some(buffer),
                },
            );
    }
}

//! A set whose members come and go.

use crate::ioctl::Status;
use crate::kernel::{Shared, SpinLock, pool::PoolBox};

/// Values that come and go, such as the opens of a device.
pub(crate) struct SharedList<T>(SpinLock<List<T>>);

struct List<T> {
    /// The newest.
    first: Option<PoolBox<SharedListEntry<T>>>,
    next_number: u64,
}

struct SharedListEntry<T> {
    /// Rises with time, so the list falls.
    number: u64,
    value: Shared<T>,
    next: Option<PoolBox<SharedListEntry<T>>>,
}

impl<T: Send + Sync> SharedList<T> {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(List {
            first: None,
            next_number: 0,
        }))
    }

    /// Adds a member. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn add(&self, value: Shared<T>) -> Result<(), Status> {
        let mut member = PoolBox::try_new(SharedListEntry {
            number: 0,
            value,
            next: None,
        })?;
        self.0.with(move |list| {
            member.number = list.next_number;
            list.next_number += 1;
            member.next = list.first.take();
            list.first = Some(member);
        });
        Ok(())
    }

    /// Takes out the first member that `is` accepts. At <= `DISPATCH_LEVEL`.
    pub(crate) fn remove(&self, is: impl Fn(&T) -> bool + Send) {
        let gone = self.0.with(move |list| {
            let mut link = &mut list.first;
            while link.as_ref().is_some_and(|member| !is(&member.value)) {
                link = &mut link.as_mut()?.next;
            }
            let mut gone = link.take()?;
            *link = gone.next.take();
            Some(gone)
        });
        // Not under the lock.
        drop(gone);
    }

    /// Takes out all members. At <= `DISPATCH_LEVEL`.
    pub(crate) fn clear(&self) {
        let gone = self.0.with(|list| List {
            first: list.first.take(),
            next_number: 0,
        });
        // Not under the lock.
        drop(gone);
    }

    /// Calls `each` for every member that is there all the time, and perhaps for others. Not under
    /// the lock. At <= `DISPATCH_LEVEL`.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&T)) {
        let mut before = u64::MAX;
        while let Some((number, value)) = self.older_than(before) {
            each(&value);
            before = number;
        }
    }

    fn older_than(&self, before: u64) -> Option<(u64, Shared<T>)> {
        self.0.with(move |list| {
            let mut each = list.first.as_deref();
            while let Some(member) = each {
                if member.number < before {
                    return Some((member.number, member.value.clone()));
                }
                each = member.next.as_deref();
            }
            None
        })
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        // One by one: a long list must not be a deep recursion.
        while let Some(mut member) = self.first.take() {
            self.first = member.next.take();
        }
    }
}

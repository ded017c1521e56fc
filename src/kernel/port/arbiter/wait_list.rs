//! The threads in a line, each by a place on its own stack.
//!
//! A place is reached through raw pointers only, from the moment it is in the list until its thread
//! takes it back: other threads write to it, so no reference to it may live meanwhile. Nothing here
//! needs a kernel, so `tests/parscan-core` runs it, under Miri, too.

use core::ptr;

/// The place of one thread, which waits as `T` says.
pub(super) struct WaitEntry<T> {
    /// While it is in the list.
    waiting: Option<T>,
    next: *mut Self,
    /// It was the first, and left the list by [`WaitList::take_first`].
    served: bool,
}

impl<T> WaitEntry<T> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: None,
            next: ptr::null_mut(),
            served: false,
        }
    }
}

/// A pointer to a place, for critical sections.
pub(super) struct WaitEntryRef<T>(*mut WaitEntry<T>);

impl<T> Clone for WaitEntryRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for WaitEntryRef<T> {}

// SAFETY: it is used under the lock of its list only, as `new` was promised.
unsafe impl<T: Send> Send for WaitEntryRef<T> {}

impl<T> WaitEntryRef<T> {
    /// # Safety
    /// Until the pointer is used for the last time the place stays where it is, is used through
    /// this pointer only, and that only under the lock of one list.
    pub(super) const unsafe fn new(place: *mut WaitEntry<T>) -> Self {
        Self(place)
    }

    /// Whether the place was the first, and left its list by [`WaitList::take_first`]. Under the
    /// lock.
    pub(super) fn is_served(self) -> bool {
        // SAFETY: `new` was promised that it lives.
        unsafe { (*self.0).served }
    }
}

/// Waiting threads in the order of arrival, kept under a lock.
pub(super) struct WaitList<T> {
    first: *mut WaitEntry<T>,
    last: *mut WaitEntry<T>,
}

// SAFETY: the places are alive while they are in the list, and used under its lock only.
unsafe impl<T: Send> Send for WaitList<T> {}

impl<T: Copy> WaitList<T> {
    pub(super) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    /// Appends a place, whose thread waits so.
    ///
    /// # Safety
    /// It is in no list, and lives until it has left this one.
    pub(super) unsafe fn push(&mut self, place: WaitEntryRef<T>, waiting: T) {
        // SAFETY: the caller's promise.
        unsafe { (*place.0).waiting = Some(waiting) };
        if self.last.is_null() {
            self.first = place.0;
        } else {
            // SAFETY: a place in the list is alive.
            unsafe { (*self.last).next = place.0 };
        }
        self.last = place.0;
    }

    /// How the first thread waits.
    pub(super) fn first(&self) -> Option<T> {
        if self.first.is_null() {
            return None;
        }
        // SAFETY: a place in the list is alive.
        unsafe { (*self.first).waiting }
    }

    /// Takes the first thread out of the list: it is served.
    pub(super) fn take_first(&mut self) -> Option<T> {
        let waiting = self.first()?;
        let first = self.first;
        // SAFETY: a place in the list is alive.
        unsafe { (*first).served = true };
        self.unlink(ptr::null_mut(), first);
        Some(waiting)
    }

    /// Takes a place out of the list. Whether it was there.
    pub(super) fn take_out(&mut self, place: WaitEntryRef<T>) -> bool {
        let mut before = ptr::null_mut();
        let mut each = self.first;
        while !each.is_null() {
            if each == place.0 {
                self.unlink(before, each);
                return true;
            }
            before = each;
            // SAFETY: a place in the list is alive.
            each = unsafe { (*each).next };
        }
        false
    }

    /// Takes out `place`, which is in the list after `before`; null: the first.
    fn unlink(&mut self, before: *mut WaitEntry<T>, place: *mut WaitEntry<T>) {
        // SAFETY: a place in the list is alive.
        let next = unsafe { (*place).next };
        if before.is_null() {
            self.first = next;
        } else {
            // SAFETY: likewise.
            unsafe { (*before).next = next };
        }
        if next.is_null() {
            self.last = before;
        }
    }

    /// Calls `each` for every thread that waits, the oldest first.
    pub(super) fn for_each(&self, each: impl Fn(T)) {
        let mut place = self.first;
        while !place.is_null() {
            // SAFETY: a place in the list is alive.
            if let Some(waiting) = unsafe { (*place).waiting } {
                each(waiting);
            }
            // SAFETY: likewise.
            place = unsafe { (*place).next };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        thread,
    };

    use super::{WaitEntry, WaitEntryRef, WaitList};

    /// The numbers of those who wait.
    fn order(places: &WaitList<u32>) -> Vec<u32> {
        let all = std::cell::RefCell::new(Vec::new());
        places.for_each(|waiting| all.borrow_mut().push(waiting));
        all.into_inner()
    }

    #[test]
    fn places_leave_from_the_front_the_middle_and_the_end() {
        let mut storage = [(); 4].map(|()| WaitEntry::new());
        let base = storage.as_mut_ptr();
        // SAFETY: the array stays, and is used through these only, in one thread.
        let at = [0, 1, 2, 3].map(|index| unsafe { WaitEntryRef::new(base.wrapping_add(index)) });
        let mut places = WaitList::new();
        for (place, number) in at.into_iter().zip(1..) {
            // SAFETY: in no list; it outlives this one.
            unsafe { places.push(place, number) };
        }
        assert_eq!(order(&places), [1, 2, 3, 4]);
        assert!(places.take_out(at[1]), "from the middle");
        assert!(!places.take_out(at[1]), "not twice");
        assert!(places.take_out(at[3]), "from the end");
        assert_eq!(order(&places), [1, 3]);
        let again = WaitEntryRef(&raw mut *Box::leak(Box::new(WaitEntry::new())));
        // SAFETY: in no list; it is never freed before the list.
        unsafe { places.push(again, 5) };
        assert_eq!(
            order(&places),
            [1, 3, 5],
            "the end is known after a removal"
        );
        assert_eq!(places.take_first(), Some(1));
        assert!(at[0].is_served());
        assert!(!at[1].is_served() && !at[2].is_served());
        assert_eq!(places.take_first(), Some(3));
        assert_eq!(places.take_first(), Some(5));
        assert_eq!(places.take_first(), None);
        assert_eq!(places.first(), None);
        // SAFETY: leaked above, and in no list any more.
        drop(unsafe { Box::from_raw(again.0) });
    }

    /// As a line uses it: the places lie on the stacks of threads, which wait there; another thread
    /// serves them, and some give up.
    #[test]
    fn threads_wait_by_places_on_their_stacks() {
        const THREADS: u32 = 3;
        const TIMES: u32 = if cfg!(miri) { 20 } else { 2000 };
        let line = Mutex::new((WaitList::new(), 0_u32));
        let told = Condvar::new();
        let enter = &|number: u32, patient: bool| {
            let mut place = WaitEntry::new();
            // SAFETY: this thread stays here until the place has left the list, and uses it by
            // this pointer only, under the lock.
            let place = unsafe { WaitEntryRef::new(&raw mut place) };
            {
                let mut guard = line.lock().unwrap();
                // SAFETY: in no list yet.
                unsafe { guard.0.push(place, number) };
                guard.1 += 1;
            }
            told.notify_all();
            let mut guard = line.lock().unwrap();
            while patient && !place.is_served() {
                guard = told.wait(guard).unwrap();
            }
            let left = guard.0.take_out(place);
            assert_ne!(left, place.is_served(), "in the list, or served");
            guard.1 -= u32::from(left);
            left
        };
        let gave_up = thread::scope(|scope| {
            let threads = [0, 1, 2].map(|number| {
                scope.spawn(move || {
                    let impatient = (0..TIMES).filter(|time| enter(number, time % 2 == 0));
                    u32::try_from(impatient.count()).unwrap()
                })
            });
            let mut served = 0;
            // The patient half of them cannot leave alone.
            while served < THREADS * TIMES / 2 || threads.iter().any(|it| !it.is_finished()) {
                let mut guard = line.lock().unwrap();
                if guard.0.take_first().is_some() {
                    guard.1 -= 1;
                    served += 1;
                    told.notify_all();
                }
                drop(guard);
                thread::yield_now();
            }
            let gave_up: u32 = threads.map(|it| it.join().unwrap()).iter().sum();
            assert_eq!(served + gave_up, THREADS * TIMES);
            gave_up
        });
        assert!(gave_up <= THREADS * TIMES / 2, "{gave_up}");
        let guard = line.lock().unwrap();
        assert!(guard.0.first().is_none());
        assert_eq!(guard.1, 0);
    }
}

//! A lock for threads of any IRQL: here they all are threads of a process.

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
};

use windows_sys::Win32::System::Threading::{
    AcquireSRWLockExclusive, CONDITION_VARIABLE, CONDITION_VARIABLE_INIT, INFINITE,
    ReleaseSRWLockExclusive, SRWLOCK, SRWLOCK_INIT, SleepConditionVariableSRW,
    WakeAllConditionVariable,
};

/// A value for one thread at a time, which is not to take the lock twice.
pub(crate) struct Lock<T> {
    taken: UnsafeCell<SRWLOCK>,
    changed: UnsafeCell<CONDITION_VARIABLE>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time. The models in such values share parts
// without counting them atomically, but all that share a part are in the same lock.
unsafe impl<T> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            taken: UnsafeCell::new(SRWLOCK_INIT),
            changed: UnsafeCell::new(CONDITION_VARIABLE_INIT),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_, T> {
        // SAFETY: initialised; given back by `Locked`.
        unsafe { AcquireSRWLockExclusive(self.taken.get()) };
        Locked(self)
    }

    /// Wakes each thread that waits for a change.
    pub(crate) fn notify(&self) {
        // SAFETY: initialised.
        unsafe { WakeAllConditionVariable(self.changed.get()) };
    }
}

/// The value, locked.
pub(crate) struct Locked<'a, T>(&'a Lock<T>);

impl<T> Locked<'_, T> {
    /// Gives the lock back until a thread notifies, or for so many milliseconds (`None`: as long as
    /// it takes).
    pub(crate) fn wait(&mut self, milliseconds: Option<u32>) {
        let milliseconds = milliseconds.unwrap_or(INFINITE);
        // SAFETY: this thread has the lock, and has it again afterwards.
        unsafe {
            SleepConditionVariableSRW(self.0.changed.get(), self.0.taken.get(), milliseconds, 0)
        };
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: under the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: under the lock, and `self` is borrowed alone.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread has the lock.
        unsafe { ReleaseSRWLockExclusive(self.0.taken.get()) };
    }
}

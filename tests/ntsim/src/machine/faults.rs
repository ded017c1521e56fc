//! Calls that fail because the test wants them to.

use std::cell::RefCell;
use std::rc::Rc;

use super::Machine;
use crate::DriverId;

/// The call stacks that systematic fault injection has failed once.
#[derive(Clone, Debug, Default)]
pub struct SeenStacks(Rc<RefCell<std::collections::BTreeSet<Vec<u32>>>>);

impl SeenStacks {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a stack. Returns whether it is new.
    pub(crate) fn note(&self, stack: Vec<u32>) -> bool {
        self.0.borrow_mut().insert(stack)
    }
}

impl Machine {
    /// Makes the `k`-th failable kernel call from now fail (1 = the next one).
    pub fn inject_failure(&self, k: u64) {
        self.with(|kernel| {
            let at = kernel.failable.saturating_add(k);
            kernel.fail_at.push(at);
        });
    }

    /// The failures that [`Machine::inject_failure`] asked for and that did not come yet do not come.
    pub fn inject_no_failure(&self) {
        self.with(|kernel| kernel.fail_at.clear());
    }

    /// Fault injection counts and fails the calls of this driver only, from now on.
    pub fn inject_into(&self, driver: DriverId) {
        self.with(|k| k.inject_into = Some(driver));
    }

    /// Systematic fault injection as Windows does it: a failable call fails if the stack inside the
    /// driver that leads to it is new to `seen`, and passes from then on. Boot machines with the
    /// same `seen` until it does not grow any more.
    pub fn fail_new_stacks(&self, seen: &SeenStacks) {
        self.with(|k| k.seen_stacks = Some(seen.clone()));
    }

    /// How many calls that can fail were made since boot.
    #[must_use]
    pub fn failable_calls(&self) -> u64 {
        self.with(|k| k.failable)
    }

    /// The calls that were made to fail, with their place in the driver.
    #[must_use]
    pub fn failed_calls(&self) -> Vec<String> {
        self.with(|k| k.failed_calls.clone())
    }
}

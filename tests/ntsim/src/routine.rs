//! Routines whose addresses drivers gave away, called as another driver would.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::nt::{self, ke};
use crate::sched::{self, ThreadKind};
use crate::{Bugcheck, Machine};

/// A call under way.
#[derive(Clone)]
pub struct RoutineCall(Rc<RefCell<Option<usize>>>);

impl fmt::Debug for RoutineCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutineCall").finish_non_exhaustive()
    }
}

impl Machine {
    /// Calls a routine whose address a driver gave away (a callback table), as another driver at
    /// this IRQL and in a thread of its own, with up to six integer or pointer arguments. Gives rax:
    /// for a routine that returns less, the upper bits mean nothing.
    ///
    /// # Errors
    /// A broken rule.
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn call_routine(
        &self,
        routine: usize,
        arguments: &[usize],
        irql: u8,
    ) -> Result<usize, Bugcheck> {
        let call = self.start_routine(routine, arguments, irql);
        self.finish_routine(&call)
    }

    /// Starts such a call and comes back at once. Nothing runs before [`Machine::run_for`],
    /// [`Machine::run_until_idle`] or [`Machine::finish_routine`].
    ///
    /// # Panics
    /// With more than six arguments.
    #[must_use]
    pub fn start_routine(&self, routine: usize, arguments: &[usize], irql: u8) -> RoutineCall {
        assert!(arguments.len() <= 6, "at most six arguments");
        let arguments = arguments.to_vec();
        let slot = Rc::new(RefCell::new(None));
        let out = Rc::clone(&slot);
        let body = Box::new(move || {
            ke::set_irql(irql);
            let entry = nt::Entry::now();
            let result = nt::guest(routine, &arguments);
            entry.check("a driver's routine");
            ke::set_irql(nt::PASSIVE);
            *out.borrow_mut() = Some(result);
        });
        self.with(|k| {
            if !k.sched.inside() {
                k.sched.steps = 0;
            }
            k.sched
                .spawn("routine", ThreadKind::Caller, nt::PASSIVE, body);
        });
        RoutineCall(slot)
    }

    /// Whether the routine has returned.
    #[must_use]
    pub fn is_returned(&self, call: &RoutineCall) -> bool {
        call.0.borrow().is_some()
    }

    /// Runs the machine until the routine returns. Gives rax.
    ///
    /// # Errors
    /// A broken rule; [`crate::rules::HANG`] if it never returns.
    pub fn finish_routine(&self, call: &RoutineCall) -> Result<usize, Bugcheck> {
        let wait = Rc::clone(&call.0);
        sched::call("a routine", move || {
            let done = Rc::clone(&wait);
            if done.borrow().is_none() {
                sched::wait("the end of a routine", None, move |_| {
                    wait.borrow().is_some()
                });
            }
            let result = *done.borrow();
            result.unwrap_or_default()
        })
    }
}

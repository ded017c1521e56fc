//! What becomes of a driver's touch of user memory: judged, then let through for one instruction.

use core::cell::Cell;

use super::{Hook, is_user, open_page};
use crate::mem::{PAGE, Va};
use crate::rules;
use crate::state::{fail, with};
use crate::{Machine, NtStatus};

/// What a driver does at a user address.
#[derive(Clone, Copy)]
pub(crate) struct Touch {
    pub va: Va,
    pub len: usize,
    pub write: bool,
    /// Whether an exception handler of the driver is around it.
    pub guarded: bool,
}

/// Judges one touch by the running thread: a broken rule, an exception, or nothing wrong.
pub(crate) fn judge(touch: Touch) -> Result<(), (NtStatus, Va)> {
    let Touch {
        va,
        len,
        write,
        guarded,
    } = touch;
    if let Some(hook) = with(|k| k.user.count(va & !(PAGE - 1))) {
        run_hook(hook);
    }
    let (result, broken) = with(|k| {
        let thread = k.sched.current;
        let irql = k.sched.thread().irql;
        let mapped = k.user.is_mapped(va);
        let word = if write { "write" } else { "read" };
        let what = format!("{word} of {len} bytes at user address {va:#x}");
        if irql >= crate::nt::DISPATCH && (mapped || guarded) {
            return (
                Ok(()),
                Some((rules::USER_IRQL, format!("{what} at IRQL {irql}"))),
            );
        }
        if !k.user.is_own(thread, va) {
            return (Ok(()), Some((rules::USER_CONTEXT, what)));
        }
        if mapped && !guarded {
            return (Ok(()), Some((rules::USER_UNGUARDED, what)));
        }
        let result = k.user.access(va, len, write);
        if result.is_ok() && !write && k.user.fetch(thread, va, len) {
            return (result, Some((rules::USER_FETCHED_TWICE, what)));
        }
        (result, None)
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
    result
}

/// Runs a test's hook in the midst of the driver's instruction.
fn run_hook(hook: Hook) {
    let machine = Machine::current();
    let attempt = std::panic::AssertUnwindSafe(|| hook(&machine));
    if let Err(panic) = std::panic::catch_unwind(attempt) {
        drop(machine);
        with(|k| k.panic = Some(panic));
        crate::sched::end_thread();
    }
}

/// One byte of the driver's address space, wherever it is.
pub(crate) fn copy_byte(from: Va, to: Va) {
    let place = |va: Va| {
        if is_user(va) {
            with(|k| k.user.alias(va)).unwrap_or(va)
        } else {
            va
        }
    };
    let byte: u8 = crate::mem::peek(place(from));
    crate::mem::poke(place(to), byte);
}

/// An instruction that is let through once, with the pages that were opened for it.
#[derive(Clone, Copy)]
struct Step {
    rip: Va,
    /// The first page's faulting address.
    first: Va,
    pages: [Va; 2],
    started: bool,
}

thread_local! {
    static STEP: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Where the instruction that is being let through began to touch user memory.
pub(crate) fn stepping_from(rip: Va) -> Option<Va> {
    STEP.get().filter(|s| s.rip == rip).map(|s| s.first)
}

/// Opens the page for the instruction at `rip`, which must run with the trap flag.
pub(crate) fn let_through(rip: Va, va: Va, write: bool) {
    let page = va & !(PAGE - 1);
    let prot = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
    open_page(page, prot);
    let step = match STEP.get().filter(|s| s.rip == rip) {
        Some(before) => Step {
            pages: [before.pages[0], page],
            started: false,
            ..before
        },
        None => Step {
            rip,
            first: va,
            pages: [page; 2],
            started: false,
        },
    };
    STEP.set(Some(step));
}

/// A debug trap of the trap flag: `Some(true)`, if the instruction is done; `Some(false)`, if it
/// has yet to run; `None`, if the trap is not ours. Called by the signal handler.
pub(crate) fn stepped(rip: Va) -> Option<bool> {
    let mut step = STEP.get()?;
    if step.rip == rip && !step.started {
        step.started = true;
        STEP.set(Some(step));
        return Some(false);
    }
    for page in step.pages {
        open_page(page, libc::PROT_NONE);
    }
    STEP.set(None);
    Some(true)
}

/// Forgets an instruction that never ended.
pub(crate) fn reset() {
    STEP.set(None);
}

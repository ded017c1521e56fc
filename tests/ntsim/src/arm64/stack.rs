//! Kernel stacks on ARM64: drivers run on the machine's own, and nothing is measured.

use crate::mem::Va;

/// Bytes that a kernel function needs at least.
pub(crate) const LEAF: usize = 1 << 10;

/// What a thread's stack says to the scheduler.
pub(crate) struct Context {
    /// Never set: there is no single step here.
    pub step: u64,
}

/// The place of a thread's [`Context`].
pub(crate) struct Stack(Box<core::cell::UnsafeCell<Context>>);

impl Stack {
    pub(crate) fn new() -> Self {
        Self(Box::new(core::cell::UnsafeCell::new(Context { step: 0 })))
    }

    #[allow(clippy::unused_self, reason = "as on x64")]
    pub(crate) const fn renew(&self) {}

    pub(crate) fn context(&self) -> *mut Context {
        self.0.get()
    }

    /// Not known.
    #[allow(clippy::unused_self, reason = "as on x64")]
    pub(crate) const fn left(&self) -> usize {
        usize::MAX
    }

    #[allow(clippy::unused_self, reason = "as on x64")]
    pub(crate) const fn bounds(&self) -> (Va, Va) {
        (0, 0)
    }
}

/// Nothing is measured.
pub(crate) const fn take_mark(_limit: Va, top: Va) -> Va {
    top
}

/// Calls a routine of a driver, with at most seven arguments.
pub(crate) fn enter(routine: Va, args: &[usize], _context: *mut Context) -> usize {
    type Routine = extern "C" fn(usize, usize, usize, usize, usize, usize, usize) -> usize;
    let pointer: *const () = core::ptr::with_exposed_provenance(routine);
    // SAFETY: the driver registered this address as a routine; arguments that it does not have are
    // in registers that it does not read. If it is not code, the fault is reported.
    let routine = unsafe { core::mem::transmute::<*const (), Routine>(pointer) };
    let arg = |n: usize| args.get(n).copied().unwrap_or_default();
    routine(arg(0), arg(1), arg(2), arg(3), arg(4), arg(5), arg(6))
}

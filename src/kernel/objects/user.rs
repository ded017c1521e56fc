//! The one door to user memory.
//!
//! A pointer inside a request is good only in the thread and process of who sent it, may be bad in
//! every way, and what it points to may change at any time. So it is looked at once, in the
//! dispatch routine, and only by [`Requester::capture`], into memory of the kernel.

mod guard;

use core::marker::PhantomData;

use crate::ioctl::Status;
use crate::kernel::{Irp, Request};

unsafe extern "C" {
    /// wdm.h: the end of user space, an exported variable. This is the import's slot, which holds
    /// the variable's address.
    #[link_name = "__imp_MmUserProbeAddress"]
    static USER_PROBE_ADDRESS: *const u64;
}

/// Proof that the code runs in the context of a request's sender: in the dispatch routine, before
/// the request is queued or handed on.
///
/// It is made of the [`Request`] that only a dispatch routine is given; its lifetime keeps it from
/// being stored. Not being `Send`, it stays out of a [`SpinLock`](crate::kernel::SpinLock)'s
/// critical section, out of work items and out of other threads.
#[derive(Clone, Copy)]
pub(crate) struct Requester<'irql> {
    from_user: bool,
    _irql: PhantomData<Request<'irql>>,
}

impl<'irql> Requester<'irql> {
    /// The sender of `irp`, which `_request` came with.
    pub(crate) fn of(irp: &Irp, _request: &Request<'irql>) -> Self {
        Self {
            from_user: irp.is_from_user(),
            _irql: PhantomData,
        }
    }

    /// Fills `into` with the bytes at the sender's `address`, each read once. `into` must be
    /// nonpaged or on the stack, if the sender may be at `DISPATCH_LEVEL`.
    ///
    /// A sender in user mode may name its own readable memory only. A sender in kernel mode is
    /// trusted; at `DISPATCH_LEVEL` its memory must be nonpaged.
    ///
    /// # Errors
    /// * `STATUS_ACCESS_VIOLATION`: the range wraps, reaches beyond user space, or is not readable.
    /// * `STATUS_IN_PAGE_ERROR`: it is in a file that cannot be read.
    pub(crate) fn capture(self, address: u64, into: &mut [u8]) -> Result<(), Status> {
        let probe = self.from_user.then(user_probe_address);
        guard::copy_in(probe, address, into).map_err(Status)
    }
}

/// `MmUserProbeAddress`: user buffers end there or below.
fn user_probe_address() -> u64 {
    // SAFETY: the loader filled the slot before DriverEntry.
    let variable = unsafe { USER_PROBE_ADDRESS };
    // SAFETY: a variable of the kernel that never changes after boot.
    unsafe { variable.read() }
}

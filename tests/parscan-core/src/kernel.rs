//! The files of `src/kernel` whose memory several processors change, on a double of the kernel:
//! spin locks and gates, pool with several owners, lists of opens, queues of IRPs, their
//! cancellation. What they need of the rest of it is here in short.
//!
//! For Miri: nothing is used after its end or before its beginning, no reference lies over what
//! another thread writes, and no two threads use one place without an order between them.
#![allow(dead_code, reason = "the driver uses the rest")]

mod irp;
mod tests;

#[path = "../../../src/kernel/objects/cancel.rs"]
mod cancel;
#[path = "../../../src/kernel/base/irql.rs"]
mod irql;
#[path = "../../../src/kernel/objects/open.rs"]
mod open;
#[path = "../../../src/kernel/base/pool.rs"]
mod pool;
#[path = "../../../src/kernel/objects/queue.rs"]
mod queue;
#[path = "../../../src/kernel/base/sync.rs"]
mod sync;

use core::marker::PhantomData;

use crate::ioctl::Status;
use device::RemoveLock;
use irp::{Disposition, Irp};
use irql::{Blocking, Passive};
use pool::{Buffer, Shared};
use sync::SpinLock;

const TAG: u32 = u32::from_le_bytes(*b"Pscn");

const KERNEL_MODE: i8 = 0;

fn check(status: wdk_sys::NTSTATUS) -> Result<(), Status> {
    if status >= 0 {
        Ok(())
    } else {
        Err(Status(status))
    }
}

/// What a device object is.
trait Role {}

/// A device object, whose end no test here sees.
#[derive(Clone, Copy)]
struct Device<'d, R>(PhantomData<&'d R>);

impl<R: Role> Device<'_, R> {
    #[allow(clippy::unused_self, reason = "no test sees the end of a device")]
    const fn remove_lock(self) -> RemoveLock {
        RemoveLock
    }
}

mod device {
    #[derive(Clone, Copy)]
    pub(super) struct RemoveLock;
}

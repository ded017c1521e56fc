//! Event tracing, which Wine 8.0 lacks, and the error log, which is empty there: no session listens, and
//! what is logged goes to Wine's own routines.

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::{
    irql,
    nt::{NOT_SUPPORTED, Ptr, SUCCESS, Status},
    report::broken,
};

/// How many providers were registered so far: each driver is one.
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
/// What handles are: not zero, and not small.
const HANDLE: usize = 0xE7_0000;

fn at_passive_level(function: &str) {
    let level = irql::current();
    if level != irql::PASSIVE {
        broken!("{function} at IRQL {level}");
    }
}

pub(super) unsafe extern "system" fn etw_register(
    _provider: Ptr,
    _callback: Ptr,
    _context: Ptr,
    handle: *mut usize,
) -> Status {
    at_passive_level("EtwRegister");
    let number = REGISTERED.fetch_add(1, SeqCst);
    // SAFETY: the driver's variable.
    unsafe { handle.write(HANDLE + number) };
    SUCCESS
}

pub(super) unsafe extern "system" fn etw_unregister(handle: usize) -> Status {
    at_passive_level("EtwUnregister");
    let known = handle >= HANDLE && handle - HANDLE < REGISTERED.load(SeqCst);
    if !known {
        broken!("EtwUnregister with {handle:#x}, which is not registered");
    }
    SUCCESS
}

pub(super) unsafe extern "system" fn etw_set_information(
    _handle: usize,
    _class: u32,
    _information: Ptr,
    _length: u32,
) -> Status {
    at_passive_level("EtwSetInformation");
    SUCCESS
}

pub(super) unsafe extern "system" fn etw_write_transfer(
    _handle: usize,
    _descriptor: Ptr,
    _activity: Ptr,
    _related: Ptr,
    _count: u32,
    _data: Ptr,
) -> Status {
    broken!("EtwWriteTransfer, and no session listens");
    NOT_SUPPORTED
}

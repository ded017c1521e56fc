//! The routines that parallel.h promises to kernel clients: C functions with a context pointer,
//! and what they mean to the rest of the driver.
//!
//! The prototypes are those of parallel.h (the five-parameter form of `PNEGOTIATE_IEEE_MODE`). A
//! client's open of the device keeps the context alive ([`Irp::set_open_context`]). Clients are
//! kernel code and trusted in what memory they pass, but not in when they call.

use core::{
    ffi::c_void,
    ptr::{self, NonNull},
    slice,
};

use crate::ioctl::{
    Status,
    parallel::{DeviceRoutines, IeeeModes, PortRoutines, SelectCommand},
};
#[cfg(doc)]
use crate::kernel::Irp;
use crate::kernel::{Blocking, irql::Routine};

/// What `PARCLASS_INFORMATION` lets a client call.
///
/// A routine that may wait is called at <= `APC_LEVEL` only; above, the client gets
/// `STATUS_INVALID_DEVICE_STATE` without it.
pub(crate) trait DeviceCallbacks: Send + Sync + 'static {
    /// `DetermineIeeeModes`, at <= `DISPATCH_LEVEL`: `blocking`, if it may wait.
    fn determine_modes(&self, blocking: Option<Blocking<'_>>) -> IeeeModes;
    /// `NegotiateIeeeMode`
    fn negotiate(
        &self,
        write: IeeeModes,
        read: IeeeModes,
        forward: bool,
        blocking: Blocking<'_>,
    ) -> Status;
    /// `TerminateIeeeMode`
    fn terminate(&self, blocking: Blocking<'_>) -> Status;
    /// `IeeeFwdToRevMode`
    fn forward_to_reverse(&self, blocking: Blocking<'_>) -> Status;
    /// `IeeeRevToFwdMode`
    fn reverse_to_forward(&self, blocking: Blocking<'_>) -> Status;
    /// `ParallelRead`: how many bytes, and how it ended.
    fn read(&self, buffer: &mut [u8], blocking: Blocking<'_>) -> (usize, Status);
    /// `ParallelWrite`: how many bytes, and how it ended.
    fn write(&self, data: &[u8], blocking: Blocking<'_>) -> (usize, Status);
    /// `ParallelTryselect`
    fn try_select(&self, command: SelectCommand, blocking: Blocking<'_>) -> Status;
    /// `ParallelDeSelect`
    fn deselect(&self, command: SelectCommand, blocking: Blocking<'_>) -> Status;
}

/// What the structures of a port object let a client call, at <= `DISPATCH_LEVEL` but for the two
/// that say otherwise.
pub(crate) trait PortCallbacks: Send + Sync + 'static {
    /// `TryAllocatePort`
    fn try_allocate(&self) -> bool;
    /// `FreePort`
    fn free(&self);
    /// `QueryNumWaiters`
    fn waiters(&self) -> u32;
    /// `TrySetChipMode`
    fn set_chip_mode(&self, mode: u8) -> Status;
    /// `ClearChipMode`
    fn clear_chip_mode(&self, mode: u8) -> Status;
    /// `TrySelectDevice`
    fn try_select(&self, command: SelectCommand) -> Status;
    /// `DeselectDevice`
    fn deselect(&self, command: SelectCommand) -> Status;
    /// `TryAllocatePortAtInterruptLevel`, in an interrupt service routine.
    fn try_allocate_at_interrupt(&self) -> bool;
    /// `FreePortFromInterruptLevel`, in an interrupt service routine.
    fn free_from_interrupt(&self);
}

/// `SAFE_MODE` of `PARALLEL_SAFETY`.
const SAFE_MODE: i32 = 0;

/// `PARALLEL_1284_COMMAND`: eight bytes, which x64 passes in a register.
#[repr(C)]
#[derive(Clone, Copy)]
struct Command {
    id: u8,
    port: u8,
    flags: u32,
}

const _: () = assert!(size_of::<Command>() == SelectCommand::SIZE);

impl From<Command> for SelectCommand {
    fn from(command: Command) -> Self {
        Self::new(command.id, command.flags)
    }
}

/// The address of a routine, as a table tells it.
fn address(routine: *const ()) -> u64 {
    routine.expose_provenance() as u64
}

/// The context that a client hands back.
fn address_of<T>(context: &T) -> u64 {
    ptr::from_ref(context).expose_provenance() as u64
}

/// The routines of `PARCLASS_INFORMATION`, with `context` as their context: it lives as long as a
/// client may call them.
pub(crate) fn device_routines<T: DeviceCallbacks>(context: &T) -> DeviceRoutines {
    DeviceRoutines {
        determine_modes: address(determine_modes::<T> as *const ()),
        negotiate: address(negotiate::<T> as *const ()),
        terminate: address(terminate::<T> as *const ()),
        forward_to_reverse: address(forward_to_reverse::<T> as *const ()),
        reverse_to_forward: address(reverse_to_forward::<T> as *const ()),
        read: address(read::<T> as *const ()),
        write: address(write::<T> as *const ()),
        context: address_of(context),
        try_select: address(try_select::<T> as *const ()),
        deselect: address(deselect::<T> as *const ()),
    }
}

/// The routines of the structures of a port object, with `context` as their context: it lives as
/// long as a client may call them.
pub(crate) fn port_routines<T: PortCallbacks>(context: &T) -> PortRoutines {
    PortRoutines {
        try_allocate: address(try_allocate_port::<T> as *const ()),
        free: address(free_port::<T> as *const ()),
        waiters: address(query_waiters::<T> as *const ()),
        set_chip_mode: address(set_chip_mode::<T> as *const ()),
        clear_chip_mode: address(clear_chip_mode::<T> as *const ()),
        try_select: address(try_select_device::<T> as *const ()),
        deselect: address(deselect_device::<T> as *const ()),
        try_allocate_at_interrupt: address(try_allocate_at_interrupt::<T> as *const ()),
        free_from_interrupt: address(free_from_interrupt::<T> as *const ()),
        context: address_of(context),
    }
}

/// What a context points to.
///
/// # Safety
/// `context` is null, or a `T` that the client's open keeps alive.
unsafe fn shared<'a, T>(context: *mut c_void) -> Option<&'a T> {
    let context = NonNull::new(context)?.cast::<T>();
    // SAFETY: the caller's promise.
    Some(unsafe { context.as_ref() })
}

/// Calls a routine that may wait.
///
/// # Safety
/// As for [`shared`].
unsafe fn low<T>(context: *mut c_void, routine: impl FnOnce(&T, Blocking<'_>) -> Status) -> i32 {
    // SAFETY: the caller's promise.
    let Some(shared) = (unsafe { shared::<T>(context) }) else {
        return Status::INVALID_PARAMETER.0;
    };
    // SAFETY: the client calls the routine that calls this, and no token leaves it.
    let own = unsafe { Routine::new() };
    Blocking::now(&own)
        .map_or(Status::INVALID_DEVICE_STATE, |blocking| {
            routine(shared, blocking)
        })
        .0
}

unsafe extern "C" fn determine_modes<T: DeviceCallbacks>(context: *mut c_void) -> u16 {
    // SAFETY: the client calls this.
    let own = unsafe { Routine::new() };
    // SAFETY: the client passes the context of its table.
    unsafe { shared::<T>(context) }.map_or(0, |shared| {
        shared.determine_modes(Blocking::now(&own)).bits()
    })
}

unsafe extern "C" fn negotiate<T: DeviceCallbacks>(
    context: *mut c_void,
    write: u16,
    read: u16,
    safety: i32,
    forward: u8,
) -> i32 {
    if safety != SAFE_MODE {
        return Status::INVALID_PARAMETER.0;
    }
    let (write, read) = (
        IeeeModes::from_bits_truncate(write),
        IeeeModes::from_bits_truncate(read),
    );
    // SAFETY: the client passes the context of its table.
    unsafe {
        low::<T>(context, |it, low| {
            it.negotiate(write, read, forward != 0, low)
        })
    }
}

unsafe extern "C" fn terminate<T: DeviceCallbacks>(context: *mut c_void) -> i32 {
    // SAFETY: the client passes the context of its table.
    unsafe { low::<T>(context, T::terminate) }
}

unsafe extern "C" fn forward_to_reverse<T: DeviceCallbacks>(context: *mut c_void) -> i32 {
    // SAFETY: the client passes the context of its table.
    unsafe { low::<T>(context, T::forward_to_reverse) }
}

unsafe extern "C" fn reverse_to_forward<T: DeviceCallbacks>(context: *mut c_void) -> i32 {
    // SAFETY: the client passes the context of its table.
    unsafe { low::<T>(context, T::reverse_to_forward) }
}

/// Calls a routine that moves bytes, and tells the client how many it was, whatever happens.
///
/// # Safety
/// As for [`shared`]; `count` is null or a variable of the client's.
unsafe fn moving<T>(
    context: *mut c_void,
    count: *mut u32,
    routine: impl FnOnce(&T, Blocking<'_>) -> (usize, Status),
) -> i32 {
    let mut moved = 0;
    // SAFETY: the caller's promise.
    let status = unsafe {
        low::<T>(context, |it, low| {
            let (bytes, status) = routine(it, low);
            moved = bytes;
            status
        })
    };
    if !count.is_null() {
        // A transfer is no longer than the client's ULONG said.
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        // SAFETY: the caller's promise.
        unsafe { count.write(moved) };
    }
    status
}

unsafe extern "C" fn read<T: DeviceCallbacks>(
    context: *mut c_void,
    buffer: *mut u8,
    length: u32,
    count: *mut u32,
    _channel: u8,
) -> i32 {
    let buffer = match NonNull::new(buffer) {
        // SAFETY: the client's buffer has that length, and is ours for the call.
        Some(buffer) => unsafe { slice::from_raw_parts_mut(buffer.as_ptr(), length as usize) },
        None => &mut [],
    };
    let missing = buffer.len() != length as usize;
    // SAFETY: the client passes the context of its table, and its variable.
    unsafe {
        moving::<T>(context, count, |it, low| {
            if missing {
                (0, Status::INVALID_PARAMETER)
            } else {
                it.read(buffer, low)
            }
        })
    }
}

unsafe extern "C" fn write<T: DeviceCallbacks>(
    context: *mut c_void,
    buffer: *mut u8,
    length: u32,
    count: *mut u32,
    _channel: u8,
) -> i32 {
    let data = match NonNull::new(buffer) {
        // SAFETY: the client's buffer has that length, and stays as it is for the call.
        Some(buffer) => unsafe { slice::from_raw_parts(buffer.as_ptr(), length as usize) },
        None => &[],
    };
    let missing = data.len() != length as usize;
    // SAFETY: the client passes the context of its table, and its variable.
    unsafe {
        moving::<T>(context, count, |it, low| {
            if missing {
                (0, Status::INVALID_PARAMETER)
            } else {
                it.write(data, low)
            }
        })
    }
}

unsafe extern "C" fn try_select<T: DeviceCallbacks>(context: *mut c_void, command: Command) -> i32 {
    // SAFETY: the client passes the context of its table.
    unsafe { low::<T>(context, |it, low| it.try_select(command.into(), low)) }
}

unsafe extern "C" fn deselect<T: DeviceCallbacks>(context: *mut c_void, command: Command) -> i32 {
    // SAFETY: the client passes the context of its table.
    unsafe { low::<T>(context, |it, low| it.deselect(command.into(), low)) }
}

unsafe extern "C" fn try_allocate_port<T: PortCallbacks>(context: *mut c_void) -> u8 {
    // SAFETY: the client passes the context of its structure.
    u8::from(unsafe { shared::<T>(context) }.is_some_and(T::try_allocate))
}

unsafe extern "C" fn free_port<T: PortCallbacks>(context: *mut c_void) {
    // SAFETY: the client passes the context of its structure.
    if let Some(port) = unsafe { shared::<T>(context) } {
        port.free();
    }
}

unsafe extern "C" fn query_waiters<T: PortCallbacks>(context: *mut c_void) -> u32 {
    // SAFETY: the client passes the context of its structure.
    unsafe { shared::<T>(context) }.map_or(0, T::waiters)
}

unsafe extern "C" fn set_chip_mode<T: PortCallbacks>(context: *mut c_void, mode: u8) -> i32 {
    // SAFETY: the client passes the context of its structure.
    let port = unsafe { shared::<T>(context) };
    port.map_or(Status::INVALID_PARAMETER, |port| port.set_chip_mode(mode))
        .0
}

unsafe extern "C" fn clear_chip_mode<T: PortCallbacks>(context: *mut c_void, mode: u8) -> i32 {
    // SAFETY: the client passes the context of its structure.
    let port = unsafe { shared::<T>(context) };
    port.map_or(Status::INVALID_PARAMETER, |port| port.clear_chip_mode(mode))
        .0
}

/// Calls a routine with the command that a client's pointer points to.
///
/// # Safety
/// As for [`shared`]; `command` is null or a command of the client's.
unsafe fn with_command<T>(
    context: *mut c_void,
    command: *const Command,
    routine: impl FnOnce(&T, SelectCommand) -> Status,
) -> i32 {
    if command.is_null() {
        return Status::INVALID_PARAMETER.0;
    }
    // SAFETY: the client's command.
    let command = unsafe { ptr::read_unaligned(command) };
    // SAFETY: the caller's promise.
    unsafe { shared::<T>(context) }
        .map_or(Status::INVALID_PARAMETER, |port| {
            routine(port, command.into())
        })
        .0
}

unsafe extern "C" fn try_select_device<T: PortCallbacks>(
    context: *mut c_void,
    command: *const Command,
) -> i32 {
    // SAFETY: the client passes the context of its structure, and its command.
    unsafe { with_command::<T>(context, command, T::try_select) }
}

unsafe extern "C" fn deselect_device<T: PortCallbacks>(
    context: *mut c_void,
    command: *const Command,
) -> i32 {
    // SAFETY: the client passes the context of its structure, and its command.
    unsafe { with_command::<T>(context, command, T::deselect) }
}

unsafe extern "C" fn try_allocate_at_interrupt<T: PortCallbacks>(context: *mut c_void) -> u8 {
    // SAFETY: the client passes the context of its structure.
    u8::from(unsafe { shared::<T>(context) }.is_some_and(T::try_allocate_at_interrupt))
}

unsafe extern "C" fn free_from_interrupt<T: PortCallbacks>(context: *mut c_void) {
    // SAFETY: the client passes the context of its structure.
    if let Some(port) = unsafe { shared::<T>(context) } {
        port.free_from_interrupt();
    }
}

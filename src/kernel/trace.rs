//! The ETW provider of the driver, and its entries in the event log.
//!
//! While no session listens an event costs the look at [`LISTENED`], a byte. All memory that is
//! handed to ETW is resident: the image has no paged section, and the rest is on the stack.
//!
//! Sources: the pages of `EtwRegister`, `EtwSetInformation`, `EtwWriteTransfer`,
//! `IoAllocateErrorLogEntry` and `IO_ERROR_LOG_PACKET` of the Windows driver documentation;
//! `EVENT_INFO_CLASS` and `EVENT_DATA_DESCRIPTOR` of that of ETW.

use core::{
    ffi::c_void,
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use wdk_sys::{
    DRIVER_OBJECT, GUID, IO_ERROR_LOG_PACKET, NTSTATUS,
    ntddk::{IoAllocateErrorLogEntry, IoWriteErrorLogEntry},
};

use super::{Device, Guid, Passive, Role, milliseconds};
use crate::{
    ioctl::Status,
    trace::{self, KINDS, Label, Level, Limit, Step, TraceEvent, status_letters},
};

// wdm.h has them, but mingw-w64's lacks two.
unsafe extern "system" {
    fn EtwRegister(
        provider: *const GUID,
        callback: Option<EnableCallback>,
        context: *mut c_void,
        handle: *mut u64,
    ) -> NTSTATUS;
    fn EtwUnregister(handle: u64) -> NTSTATUS;
    fn EtwSetInformation(
        handle: u64,
        class: i32,
        information: *const c_void,
        length: u32,
    ) -> NTSTATUS;
    fn EtwWriteTransfer(
        handle: u64,
        descriptor: *const EventDescriptor,
        activity: *const GUID,
        related: *const GUID,
        count: u32,
        data: *const EventData,
    ) -> NTSTATUS;
}

/// `ETWENABLECALLBACK`
type EnableCallback =
    unsafe extern "system" fn(*const GUID, u32, u8, u64, u64, *mut c_void, *mut c_void);

/// `EVENT_DESCRIPTOR`
#[repr(C)]
struct EventDescriptor {
    id: u16,
    version: u8,
    channel: u8,
    level: u8,
    opcode: u8,
    task: u16,
    keyword: u64,
}

/// The channel of events that describe themselves.
const CHANNEL_TRACE_LOGGING: u8 = 11;

/// `EVENT_DATA_DESCRIPTOR`
#[repr(C)]
struct EventData {
    address: u64,
    size: u32,
    kind: u8,
    reserved: [u8; 3],
}

const _: () = {
    assert!(size_of::<EventDescriptor>() == 16);
    assert!(size_of::<EventData>() == 16);
    assert!(offset_of!(IO_ERROR_LOG_PACKET, DumpData) == 0x28);
};

/// `EVENT_DATA_DESCRIPTOR_TYPE_NONE`, `_EVENT_METADATA` and `_PROVIDER_METADATA`
const VALUES: u8 = 0;
const EVENT_METADATA: u8 = 1;
const PROVIDER_METADATA: u8 = 2;
/// The blocks of an event.
const BLOCKS: u32 = 3;
/// `EventProviderSetTraits`
const SET_TRAITS: i32 = 2;
/// `EVENT_CONTROL_CODE_DISABLE_PROVIDER` and `EVENT_CONTROL_CODE_ENABLE_PROVIDER`
const DISABLE: u32 = 0;
const ENABLE: u32 = 1;

impl EventData {
    fn new(bytes: &[u8], kind: u8) -> Self {
        Self {
            address: bytes.as_ptr().expose_provenance() as u64,
            // Less than a kilobyte.
            size: u32::try_from(bytes.len()).unwrap_or(0),
            kind,
            reserved: [0; 3],
        }
    }
}

/// The highest level that a session listens to; 0: none does.
static LISTENED: AtomicU8 = AtomicU8::new(0);
/// `REGHANDLE`; 0: not registered.
static HANDLE: AtomicU64 = AtomicU64::new(0);
static LIMITS: [Limit; KINDS] = [const { Limit::new() }; KINDS];

const PROVIDER: Guid = {
    let (data1, data2, data3, data4) = trace::PROVIDER_GUID;
    Guid::new(data1, data2, data3, data4)
};

/// Registers the provider, at the end of `DriverEntry`. Without it the driver works, too.
pub(super) fn register(_: Passive) {
    let mut handle = 0;
    // SAFETY: at PASSIVE_LEVEL; the routine stays until `unregister`, in the driver's unload.
    let status = unsafe {
        EtwRegister(
            PROVIDER.raw(),
            Some(enabled),
            ptr::null_mut(),
            &raw mut handle,
        )
    };
    if !wdk::nt_success(status) {
        return;
    }
    // SAFETY: registered just now; the traits are the image's. At PASSIVE_LEVEL.
    let _ = unsafe {
        EtwSetInformation(
            handle,
            SET_TRAITS,
            trace::TRAITS.as_ptr().cast(),
            u32::try_from(trace::TRAITS.len()).unwrap_or(0),
        )
    };
    HANDLE.store(handle, Ordering::Release);
}

/// The end of [`register`], in the driver's unload: no event goes out any more.
pub(super) fn unregister(_: Passive) {
    LISTENED.store(0, Ordering::Release);
    let handle = HANDLE.swap(0, Ordering::AcqRel);
    if handle != 0 {
        // SAFETY: registered, at PASSIVE_LEVEL, and all of the driver's other routines are over.
        unsafe { EtwUnregister(handle) };
    }
}

/// `EtwEnableCallback`: what all sessions together listen to. At `PASSIVE_LEVEL`, also within
/// `EtwRegister`.
unsafe extern "system" fn enabled(
    _source: *const GUID,
    control: u32,
    level: u8,
    _any: u64,
    _all: u64,
    _filter: *mut c_void,
    _context: *mut c_void,
) {
    match (control, level) {
        (DISABLE, _) => LISTENED.store(0, Ordering::Release),
        // 0 is every level.
        (ENABLE, 0) => LISTENED.store(u8::MAX, Ordering::Release),
        (ENABLE, level) => LISTENED.store(level, Ordering::Release),
        _ => {}
    }
}

/// Whether a session listens to events of this level. At any IRQL.
#[inline]
fn is_listened(level: Level) -> bool {
    LISTENED.load(Ordering::Relaxed) >= level as u8
}

/// Writes an event of a device, if a session listens to it, and not too many of its kind went out
/// lately. At <= `DISPATCH_LEVEL`.
#[inline]
pub(crate) fn event(device: Label, event: &TraceEvent) {
    if is_listened(event.kind().level) {
        write(device, event);
    }
}

#[cold]
#[inline(never)]
fn write(device: Label, event: &TraceEvent) {
    let kind = event.kind();
    let admitted = LIMITS
        .get(kind.index)
        .and_then(|limit| limit.admit(milliseconds()));
    let Some(left_out) = admitted else {
        return;
    };
    let payload = event.payload(device, left_out);
    let descriptor = EventDescriptor {
        id: 0,
        version: 0,
        channel: CHANNEL_TRACE_LOGGING,
        level: kind.level as u8,
        opcode: 0,
        task: 0,
        keyword: kind.keyword,
    };
    let data: [EventData; BLOCKS as usize] = [
        EventData::new(&trace::TRAITS, PROVIDER_METADATA),
        EventData::new(kind.metadata, EVENT_METADATA),
        EventData::new(payload.as_bytes(), VALUES),
    ];
    // SAFETY: registered, for a session listens; all blocks are resident and live as long as the
    // call.
    let _ = unsafe {
        EtwWriteTransfer(
            HANDLE.load(Ordering::Acquire),
            &raw const descriptor,
            ptr::null(),
            ptr::null(),
            BLOCKS,
            data.as_ptr(),
        )
    };
}

/// Why a device could not be started, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    step: Step,
    pub(super) status: Status,
}

/// A result whose failure is that of a step of a start.
pub(crate) trait At<T> {
    /// The step that failed, if one did.
    ///
    /// # Errors
    /// Those of the step.
    fn at(self, step: Step) -> Result<T, StartFailure>;
}

impl<T> At<T> for Result<T, Status> {
    fn at(self, step: Step) -> Result<T, StartFailure> {
        self.map_err(|status| StartFailure { step, status })
    }
}

/// Tells that a device has started, or why not: an event, and of a failure an entry in the event
/// log.
pub(super) fn start_ended<R: Role>(
    device: Device<'_, R>,
    label: Label,
    result: Result<(), StartFailure>,
) {
    match result {
        Ok(()) => event(label, &TraceEvent::Started),
        Err(failure) => failed(device.raw().cast(), label, failure),
    }
}

/// The same of an `AddDevice`, which leaves no device.
pub(super) fn add_failed(driver: *mut DRIVER_OBJECT, status: Status) {
    let failure = StartFailure {
        step: Step::AddDevice,
        status,
    };
    failed(driver.cast(), Label::NEW, failure);
}

#[cold]
#[inline(never)]
fn failed(object: *mut c_void, label: Label, failure: StartFailure) {
    let StartFailure { step, status } = failure;
    event(label, &TraceEvent::StartFailed { step, status });
    log(object, label, step, status);
}

/// UTF-16 units of the strings of a log entry, with their NULs: the label and the status.
const STRING_UNITS: usize = 13 + 11;
/// Where they begin in the entry.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked below; try_from is not const"
)]
const STRINGS: u8 = offset_of!(IO_ERROR_LOG_PACKET, DumpData) as u8;
/// `EntrySize`: below `ERROR_LOG_MAXIMUM_SIZE`, which is more than 100 on 64-bit Windows, and not
/// less than the structure as it is declared.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked below; try_from is not const"
)]
const ENTRY: u8 = STRINGS + 2 * STRING_UNITS as u8;
const _: () = assert!(ENTRY as usize >= size_of::<IO_ERROR_LOG_PACKET>() && ENTRY <= 100);

/// An entry in the event log. `%2` of the message is the device, `%3` the status.
fn log(object: *mut c_void, label: Label, step: Step, status: Status) {
    // SAFETY: a live device object or driver object of ours, at <= DISPATCH_LEVEL.
    let entry = unsafe { IoAllocateErrorLogEntry(object, ENTRY) };
    // There may be no room for it, which is no failure.
    if entry.is_null() {
        return;
    }
    let packet = IO_ERROR_LOG_PACKET {
        NumberOfStrings: 2,
        StringOffset: STRINGS.into(),
        ErrorCode: step.error_code().cast_signed(),
        UniqueErrorValue: step as u32,
        FinalStatus: status.0,
        ..Default::default()
    };
    let mut strings = [0u16; STRING_UNITS];
    let mut places = strings.iter_mut();
    let mut put = |letter: u8| {
        if let Some(place) = places.next() {
            *place = letter.into();
        }
    };
    label.letters(&mut put);
    put(0);
    for letter in status_letters(status) {
        put(letter);
    }
    // SAFETY: the entry has room for the structure, and is ours until it is written.
    unsafe { entry.cast::<IO_ERROR_LOG_PACKET>().write(packet) };
    // SAFETY: a place in it.
    let behind = unsafe { entry.byte_add(STRINGS.into()) };
    // SAFETY: the entry has room for the strings there; pool is aligned.
    unsafe {
        behind
            .cast::<[u16; STRING_UNITS]>()
            .write_unaligned(strings);
    };
    // SAFETY: filled, and given away.
    unsafe { IoWriteErrorLogEntry(entry) };
}

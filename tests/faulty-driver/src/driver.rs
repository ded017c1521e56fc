//! The well-behaved driver: DriverEntry, AddDevice, PnP, requests, a child device.

use core::ptr::{null, null_mut};

use crate::api::*;
use crate::{client, power, server, sins, user};

#[allow(clippy::cast_possible_truncation, reason = "a small structure")]
const EXTENSION_SIZE: u32 = size_of::<Extension>() as u32;

/// Base of the port range that the tests map.
pub(crate) const PORT: u16 = 0x378;

#[repr(C)]
pub(crate) struct Extension {
    pub(crate) is_child: bool,
    pub(crate) pdo: *mut DEVICE_OBJECT,
    pub(crate) own: *mut DEVICE_OBJECT,
    pub(crate) lower: *mut DEVICE_OBJECT,
    pub(crate) remove_lock: [u64; 4],
    pub(crate) locks: Locks,
    pub(crate) queue: Queue,
    pub(crate) event: KEVENT,
    pub(crate) delay: Delay,
    pub(crate) interface: UNICODE_STRING,
    pub(crate) child: *mut DEVICE_OBJECT,
    twin: *mut DEVICE_OBJECT,
    former: *mut DEVICE_OBJECT,
    pub(crate) server: server::Server,
    pub(crate) kept: *mut IRP,
}

/// Two spin locks, to be taken in this order.
pub(crate) struct Locks {
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// What finishes a request after a while.
pub(crate) struct Delay {
    pub(crate) timer: KTIMER,
    pub(crate) dpc: KDPC,
    irp: *mut IRP,
}

/// A queue of waiting requests.
pub(crate) struct Queue {
    pub(crate) csq: IO_CSQ,
    lock: usize,
    list: LIST_ENTRY,
}

tracelogging::define_provider!(PROVIDER, "Misbehave");

pub(crate) static mut SIN: u32 = 0;
static mut LINK_KEPT: bool = false;

/// Whether the service's `Sin` parameter asks for this one.
pub(crate) fn sin(number: u32) -> bool {
    (unsafe { SIN }) == number
}

pub(crate) fn extension(device: *mut DEVICE_OBJECT) -> *mut Extension {
    unsafe { (*device).DeviceExtension.cast() }
}

pub(crate) fn remove_lock(device: *mut DEVICE_OBJECT) -> Ptr {
    unsafe { (&raw mut (*extension(device)).remove_lock).cast() }
}

/// The image's entry point.
///
/// # Safety
/// Called once by the kernel.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    path: *const UNICODE_STRING,
) -> Status {
    unsafe { SIN = read_parameter(path, w!("Sin")) };
    if sin(30) {
        return UNSUCCESSFUL;
    }
    let role = unsafe { read_parameter(path, w!("Client")) };
    if role != 0 {
        return unsafe { client::entry(driver, role == 2) };
    }
    let entries: [(u8, Dispatch); 10] = [
        (IRP_MJ_READ, read_write),
        (IRP_MJ_WRITE, read_write),
        (IRP_MJ_CREATE, create_close),
        (IRP_MJ_CLOSE, create_close),
        (IRP_MJ_CLEANUP, cleanup),
        (IRP_MJ_DEVICE_CONTROL, control),
        (IRP_MJ_INTERNAL_DEVICE_CONTROL, server::internal),
        (IRP_MJ_POWER, power::power),
        (IRP_MJ_SYSTEM_CONTROL, wmi),
        (IRP_MJ_PNP, pnp),
    ];
    for (major, routine) in entries {
        if !(sin(21) && major == IRP_MJ_POWER) {
            unsafe { (*driver).MajorFunction[usize::from(major)] = Some(routine) };
        }
    }
    unsafe {
        (*driver).DriverUnload = Some(unload);
        (*(*driver).DriverExtension).AddDevice = Some(add_device);
    }
    SUCCESS
}

/// A number from the service's `Parameters` key, 0 if it is not there.
unsafe fn read_parameter(path: *const UNICODE_STRING, wanted: *const u16) -> u32 {
    let attributes = |root: Ptr, name: *const UNICODE_STRING| ObjectAttributes {
        Length: 48,
        RootDirectory: root,
        ObjectName: name,
        Attributes: 0x240,
        SecurityDescriptor: null_mut(),
        SecurityQualityOfService: null_mut(),
    };
    let mut service = null_mut();
    let mut parameters = null_mut();
    let mut data = [0_u32; 8];
    let mut len = 0;
    unsafe {
        if ZwOpenKey(&raw mut service, 0x2_0019, &attributes(null_mut(), path)) < 0 {
            return 0;
        }
        let name = ustr(w!("Parameters"));
        let opened = ZwOpenKey(
            &raw mut parameters,
            0x2_0019,
            &attributes(service, &raw const name),
        );
        if opened >= 0 {
            let value = ustr(wanted);
            let got = ZwQueryValueKey(
                parameters,
                &raw const value,
                2,
                (&raw mut data).cast(),
                32,
                &raw mut len,
            );
            if got < 0 {
                data[3] = 0;
            }
            ZwClose(parameters);
        }
        ZwClose(service);
    }
    data[3]
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    if unsafe { LINK_KEPT } {
        unsafe { LINK_KEPT = false };
    }
}

unsafe extern "C" fn add_device(driver: *mut DRIVER_OBJECT, pdo: *mut DEVICE_OBJECT) -> Status {
    let mut device = null_mut();
    let name = ustr(w!("\\Device\\Misbehave0"));
    let size = EXTENSION_SIZE;
    let status = unsafe {
        IoCreateDevice(
            driver,
            size,
            &raw const name,
            0x22,
            0x100,
            0,
            &raw mut device,
        )
    };
    if status < 0 {
        return status;
    }
    let ext = extension(device);
    unsafe {
        (*ext).pdo = pdo;
        (*ext).own = device;
        let made = init(device);
        if made < 0 {
            IoDeleteDevice(device);
            return made;
        }
        let class = [0x42_u8; 16];
        let registered =
            IoRegisterDeviceInterface(pdo, class.as_ptr(), null(), &raw mut (*ext).interface);
        if registered < 0 {
            IoDeleteDevice(device);
            return registered;
        }
        let link = ustr(w!("\\DosDevices\\MISB"));
        let linked = IoCreateSymbolicLink(&raw const link, &raw const name);
        if linked < 0 {
            RtlFreeUnicodeString(&raw mut (*ext).interface);
            IoDeleteDevice(device);
            return linked;
        }
        let lower = IoAttachDeviceToDeviceStack(device, pdo);
        if lower.is_null() {
            IoDeleteSymbolicLink(&raw const link);
            RtlFreeUnicodeString(&raw mut (*ext).interface);
            IoDeleteDevice(device);
            return INSUFFICIENT_RESOURCES;
        }
        (*ext).lower = lower;
        // Not sins: 50 makes it a device for direct I/O, 51 for neither direct nor buffered.
        let io = if sin(50) {
            0x10
        } else if sin(51) {
            0
        } else {
            4
        };
        let mut flags = (*device).Flags | io | (*lower).Flags & 0x2000;
        if sin(13) {
            flags |= 0x10;
        }
        if sin(14) {
            flags &= !0x2000;
        }
        if !sin(7) {
            flags &= !0x80;
        }
        (*device).Flags = flags;
    }
    SUCCESS
}

/// Locks, queue, timer: what both devices have.
unsafe fn init(device: *mut DEVICE_OBJECT) -> Status {
    let ext = extension(device);
    unsafe {
        IoInitializeRemoveLockEx(remove_lock(device), TAG, 0, 0, 32);
        let list = &raw mut (*ext).queue.list;
        (*list).Flink = list;
        (*list).Blink = list;
        let made = IoCsqInitialize(
            &raw mut (*ext).queue.csq,
            csq_insert as *const () as Ptr,
            csq_remove as *const () as Ptr,
            csq_peek as *const () as Ptr,
            csq_acquire as *const () as Ptr,
            csq_release as *const () as Ptr,
            csq_cancelled as *const () as Ptr,
        );
        KeInitializeEvent(&raw mut (*ext).event, 0, 0);
        KeInitializeTimerEx(&raw mut (*ext).delay.timer, 0);
        KeInitializeDpc(&raw mut (*ext).delay.dpc, timer_dpc, ext.cast());
        made
    }
}

// ---- the queue ----

fn of_csq(csq: *mut IO_CSQ) -> *mut Extension {
    unsafe {
        csq.cast::<u8>()
            .sub(core::mem::offset_of!(Extension, queue.csq))
            .cast()
    }
}

unsafe extern "C" fn csq_insert(csq: *mut IO_CSQ, irp: *mut IRP) {
    let entry = list_entry(irp);
    unsafe {
        let head = &raw mut (*of_csq(csq)).queue.list;
        let last = (*head).Blink;
        (*entry).Flink = head;
        (*entry).Blink = last;
        (*last).Flink = entry;
        (*head).Blink = entry;
    }
}

unsafe extern "C" fn csq_remove(_csq: *mut IO_CSQ, irp: *mut IRP) {
    let entry = list_entry(irp);
    unsafe {
        (*(*entry).Blink).Flink = (*entry).Flink;
        (*(*entry).Flink).Blink = (*entry).Blink;
    }
}

unsafe extern "C" fn csq_peek(csq: *mut IO_CSQ, irp: *mut IRP, context: Ptr) -> *mut IRP {
    unsafe {
        let head = &raw mut (*of_csq(csq)).queue.list;
        let mut at = if irp.is_null() {
            (*head).Flink
        } else {
            (*list_entry(irp)).Flink
        };
        while at != head {
            let candidate = irp_of(at);
            // Context: a file object, or null for any.
            if context.is_null() || (*current(candidate)).FileObject == context {
                return candidate;
            }
            at = (*at).Flink;
        }
    }
    null_mut()
}

unsafe extern "C" fn csq_acquire(csq: *mut IO_CSQ, irql: *mut u8) {
    unsafe { *irql = KeAcquireSpinLockRaiseToDpc(&raw mut (*of_csq(csq)).queue.lock) };
}

unsafe extern "C" fn csq_release(csq: *mut IO_CSQ, irql: u8) {
    unsafe { KeReleaseSpinLock(&raw mut (*of_csq(csq)).queue.lock, irql) };
}

unsafe extern "C" fn csq_cancelled(csq: *mut IO_CSQ, irp: *mut IRP) {
    let device = unsafe { (*of_csq(csq)).own };
    finish(irp, CANCELLED, 0);
    unsafe { IoReleaseRemoveLockEx(remove_lock(device), irp.cast(), 32) };
}

fn flush(device: *mut DEVICE_OBJECT, file: Ptr, status: Status) {
    let csq = unsafe { &raw mut (*extension(device)).queue.csq };
    loop {
        let irp = unsafe { IoCsqRemoveNextIrp(csq, file) };
        if irp.is_null() {
            return;
        }
        finish(irp, status, 0);
        unsafe { IoReleaseRemoveLockEx(remove_lock(device), irp.cast(), 32) };
    }
}

// ---- requests ----

pub(crate) fn enter(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    unsafe { IoAcquireRemoveLockEx(remove_lock(device), irp.cast(), null(), 0, 32) }
}

pub(crate) fn leave(device: *mut DEVICE_OBJECT, tag: Ptr) {
    unsafe { IoReleaseRemoveLockEx(remove_lock(device), tag, 32) };
}

pub(crate) unsafe extern "C" fn create_close(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    finish(irp, SUCCESS, 0)
}

unsafe extern "C" fn cleanup(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let file = unsafe { (*current(irp)).FileObject };
    flush(device, file, CANCELLED);
    finish(irp, SUCCESS, 0)
}

/// Reads give 0x5A, writes go nowhere; both buffered, by `DO_BUFFERED_IO`, unless told otherwise.
unsafe extern "C" fn read_write(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let length = argument_low(irp, 0) as usize;
    let major = unsafe { (*current(irp)).MajorFunction };
    if sin(50) || sin(51) {
        let read = major == IRP_MJ_READ;
        let status = unsafe { user::transfer(irp, read, length) };
        return finish(irp, status, if status < 0 { 0 } else { length });
    }
    if major == IRP_MJ_READ && length > 0 {
        unsafe { memset(buffer(irp).cast(), 0x5A, length) };
    }
    finish(irp, SUCCESS, length)
}

unsafe extern "C" fn control(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let status = enter(device, irp);
    if status < 0 {
        return finish(irp, status, 0);
    }
    #[allow(clippy::cast_possible_truncation, reason = "a ULONG")]
    let code = argument(irp, 2) as u32;
    let (output, input) = (
        argument(irp, 0) & 0xFFFF_FFFF,
        argument(irp, 1) & 0xFFFF_FFFF,
    );
    let ext = extension(device);
    let tag: Ptr = irp.cast();
    if code >= crate::CODE_SIN {
        return unsafe { sins::commit((code - crate::CODE_SIN) / 4, device, irp, output) };
    }
    let status = match (code & 0x3FFF) / 4 {
        // Echo.
        0x800 => finish(irp, SUCCESS, input.min(output)),
        // Wait in the queue.
        0x801 => {
            unsafe { IoCsqInsertIrp(&raw mut (*ext).queue.csq, irp, null_mut()) };
            return PENDING;
        }
        // Finish one that waits.
        0x802 => {
            let waiting = unsafe { IoCsqRemoveNextIrp(&raw mut (*ext).queue.csq, null_mut()) };
            if !waiting.is_null() {
                finish(waiting, SUCCESS, 0);
                leave(device, waiting.cast());
            }
            finish(irp, SUCCESS, 0)
        }
        // A work item finishes it.
        0x803 => {
            let item = unsafe { IoAllocateWorkItem(device) };
            if item.is_null() {
                finish(irp, INSUFFICIENT_RESOURCES, 0)
            } else {
                mark_pending(irp);
                unsafe { IoQueueWorkItemEx(item, work, 1, irp.cast()) };
                return PENDING;
            }
        }
        // A timer's DPC finishes it.
        0x804 => {
            mark_pending(irp);
            unsafe {
                (*ext).delay.irp = irp;
                KeSetTimer(
                    &raw mut (*ext).delay.timer,
                    -50_000,
                    &raw mut (*ext).delay.dpc,
                );
            }
            return PENDING;
        }
        // Everything else.
        0x805 => finish(irp, unsafe { sins::everything(device) }, 0),
        // Interrupts.
        0x820..=0x823 => unsafe { server::interrupts(code, device, irp, input, output) },
        // An answer with leaks.
        0x824 => unsafe { server::leaky(device, irp, output) },
        // The device object's own DPC finishes it.
        0x825 => return unsafe { sins::request_dpc(device, irp) },
        // The child that is not reported any more is deleted.
        0x826 => {
            unsafe { IoDeleteDevice((*ext).former) };
            finish(irp, SUCCESS, 0)
        }
        // The child comes or goes.
        // An event that Microsoft's crate writes, with every kind of field.
        0x80C => {
            unsafe { PROVIDER.register() };
            tracelogging::write_event!(
                PROVIDER,
                "Everything",
                level(Warning),
                keyword(0x20),
                str8("Text", "eight"),
                cstr8("Ended", "nine"),
                u8("Byte", &0x12),
                u16("Word", &0x3456),
                u32("Number", &0x789A_BCDE),
                u32_hex("Hex", &0xC000_0004),
                win_ntstatus("Status", &-1),
                u64("Long", &0x0123_4567_89AB_CDEF),
            );
            PROVIDER.unregister();
            finish(irp, SUCCESS, 0)
        }
        0x806 => {
            unsafe { toggle_child(device) };
            finish(irp, SUCCESS, 0)
        }
        // A URB to the USB bus.
        0x807 => return crate::usb::submit(device, irp, input),
        // An idle request, or a wait/wake IRP.
        0x808 => crate::usb::idle(device, irp),
        function @ 0x810..0x820 => {
            let (status, information) = unsafe { user::serve(function, irp, input, output) };
            finish(irp, status, information)
        }
        _ => finish(irp, INVALID_DEVICE_REQUEST, 0),
    };
    leave(device, tag);
    status
}

unsafe extern "C" fn work(device: Ptr, irp: Ptr, item: Ptr) {
    sleep(5);
    finish(irp.cast(), SUCCESS, 0);
    leave(device.cast(), irp);
    unsafe { IoFreeWorkItem(item) };
}

unsafe extern "C" fn timer_dpc(_dpc: *mut KDPC, context: Ptr, _a: Ptr, _b: Ptr) {
    let ext: *mut Extension = context.cast();
    let irp = unsafe { core::mem::replace(&mut (*ext).delay.irp, null_mut()) };
    if !irp.is_null() {
        finish(irp, SUCCESS, 0);
        leave(unsafe { (*ext).own }, irp.cast());
    }
}

// ---- PnP, power, WMI ----

pub(crate) fn pass(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    skip(irp);
    unsafe { IofCallDriver((*extension(device)).lower, irp) }
}

unsafe extern "C" fn wmi(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    if unsafe { (*extension(device)).is_child } {
        return finish(irp, status(irp), 0);
    }
    if sin(17) {
        return finish(irp, SUCCESS, 0);
    }
    pass(device, irp)
}

/// A completion routine that keeps the IRP.
pub(crate) unsafe extern "C" fn set_event(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    event: Ptr,
) -> Status {
    unsafe { KeSetEvent(event.cast(), 0, 0) };
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn not_marking(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    _event: Ptr,
) -> Status {
    SUCCESS
}

unsafe extern "C" fn marking(_device: *mut DEVICE_OBJECT, irp: *mut IRP, _context: Ptr) -> Status {
    if unsafe { (*irp).PendingReturned } {
        mark_pending(irp);
    }
    SUCCESS
}

/// Passes down and waits; the IRP is ours again.
fn pass_and_wait(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let mut event: KEVENT = unsafe { core::mem::zeroed() };
    unsafe { KeInitializeEvent(&raw mut event, 0, 0) };
    copy(irp);
    set_completion(irp, set_event, (&raw mut event).cast());
    let status = unsafe { IofCallDriver((*extension(device)).lower, irp) };
    if status == PENDING {
        unsafe { KeWaitForSingleObject((&raw mut event).cast(), 0, 0, 0, null()) };
    }
    crate::api::status(irp)
}

unsafe extern "C" fn pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let ext = extension(device);
    if unsafe { (*ext).is_child } {
        return unsafe { child_pnp(device, irp) };
    }
    let minor = unsafe { (*current(irp)).MinorFunction };
    match minor {
        0 => {
            let status = pass_and_wait(device, irp);
            if status < 0 {
                return finish(irp, status, 0);
            }
            unsafe { start(device) };
            power::started(device);
            return finish(irp, SUCCESS, 0);
        }
        2 => return unsafe { remove(device, irp) },
        3 | 6 => {
            set_status(irp, SUCCESS, 0);
            if sin(19) {
                skip(irp);
                // Writes over the location that belongs to the driver above.
                set_completion(irp, not_marking, null_mut());
                return unsafe { IofCallDriver((*ext).lower, irp) };
            }
            if sin(20) {
                copy(irp);
                set_completion(irp, not_marking, null_mut());
                return unsafe { IofCallDriver((*ext).lower, irp) };
            }
        }
        1 if sin(12) => {}
        1 if sin(18) => {
            set_status(irp, SUCCESS, 0);
            skip(irp);
            return unsafe { IofCallDriver((*ext).pdo, irp) };
        }
        // No sin: a driver may refuse.
        1 | 5 if sin(43) => return finish(irp, UNSUCCESSFUL, 0),
        1 if sin(6) => set_status(irp, UNSUCCESSFUL, 0),
        1 if sin(26) => {
            set_status(irp, SUCCESS, 0);
            set_cancel(irp, not_marking as *const () as usize);
        }
        1 | 5 => set_status(irp, SUCCESS, 0),
        4 => {
            unsafe { server::disconnect(device) };
            set_status(irp, SUCCESS, 0);
        }
        0x17 => {
            unsafe { silence(device) };
            if sin(15) {
                unsafe { IoDetachDevice((*ext).lower) };
            }
            set_status(irp, SUCCESS, 0);
        }
        7 if argument_low(irp, 0) == 0 => return unsafe { relations(device, irp) },
        9 if sin(39) => {
            // Completes what a lower driver still has.
            copy(irp);
            mark_pending(irp);
            unsafe { IofCallDriver((*ext).lower, irp) };
            return finish(irp, SUCCESS, 0);
        }
        9 if sin(40) => {
            // Neither copied nor skipped.
            return unsafe { IofCallDriver((*ext).lower, irp) };
        }
        9 if sin(4) => return finish(irp, SUCCESS, 0),
        9 if sin(44) => {
            // The lower driver pends it; this one says that it has succeeded.
            copy(irp);
            set_completion(irp, marking, null_mut());
            unsafe { IofCallDriver((*ext).lower, irp) };
            return SUCCESS;
        }
        0x14 if sin(45) => set_status(irp, NOT_SUPPORTED, 0),
        9 => {
            copy(irp);
            set_completion(irp, marking, null_mut());
            return unsafe { IofCallDriver((*ext).lower, irp) };
        }
        m if sin(5) && m > 0x20 => set_status(irp, SUCCESS, 0),
        _ => {}
    }
    pass(device, irp)
}

unsafe fn start(device: *mut DEVICE_OBJECT) {
    let ext = extension(device);
    outb(PORT, 0x55);
    let _ = inb(PORT + 1);
    unsafe {
        IoSetDeviceInterfaceState(&raw const (*ext).interface, 1);
        if (*ext).child.is_null() {
            toggle_child(device);
        }
        if sin(42) {
            server::connect(device, CONNECT_LINE_BASED, 0, 0);
        }
        if sin(1) {
            ExAllocatePool2(NON_PAGED, 24, TAG);
        }
        if sin(2) {
            let mut handle = null_mut();
            PsCreateSystemThread(
                &raw mut handle,
                0x1F_FFFF,
                null(),
                null_mut(),
                null_mut(),
                idle,
                null_mut(),
            );
            ZwClose(handle);
        }
        if sin(9) {
            let mut key = null_mut();
            IoOpenDeviceRegistryKey((*ext).pdo, 1, 0x2_0019, &raw mut key);
        }
        if sin(25) {
            IoAllocateWorkItem(device);
        }
        if sin(28) {
            IoAllocateIrp(2, 0);
        }
        if sin(29) {
            IoGetAttachedDeviceReference(device);
        }
    }
}

unsafe extern "C" fn idle(_context: Ptr) {
    loop {
        sleep(1000);
    }
}

/// No more hardware, no more interface, no request left.
unsafe fn silence(device: *mut DEVICE_OBJECT) {
    let ext = extension(device);
    unsafe {
        if !(*ext).interface.Buffer.is_null() && !sin(22) {
            IoSetDeviceInterfaceState(&raw const (*ext).interface, 0);
        }
        if !sin(42) {
            server::disconnect(device);
        }
        if KeCancelTimer(&raw mut (*ext).delay.timer) != 0 {
            timer_dpc(null_mut(), ext.cast(), null_mut(), null_mut());
        }
    }
    flush(device, null_mut(), UNSUCCESSFUL);
}

unsafe fn remove(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let ext = extension(device);
    let tag: Ptr = irp.cast();
    if sin(10) {
        return finish(irp, UNSUCCESSFUL, 0);
    }
    unsafe {
        IoAcquireRemoveLockEx(remove_lock(device), tag, null(), 0, 32);
        silence(device);
        if !sin(3) {
            let link = ustr(w!("\\DosDevices\\MISB"));
            IoDeleteSymbolicLink(&raw const link);
        }
        let lower = (*ext).lower;
        power::removed(device);
        set_status(irp, SUCCESS, 0);
        let status = pass(device, irp);
        if sin(31) {
            leave(device, tag);
        }
        IoReleaseRemoveLockAndWaitEx(remove_lock(device), tag, 32);
        KeFlushQueuedDpcs();
        RtlFreeUnicodeString(&raw mut (*ext).interface);
        let child = (*ext).child;
        if !child.is_null() {
            IoDeleteDevice(child);
        }
        if sin(11) {
            IoDetachDevice(lower);
            return status;
        }
        if !sin(8) {
            IoDetachDevice(lower);
        }
        IoDeleteDevice(device);
        if sin(27) {
            (*ext).child = null_mut();
        }
        status
    }
}

// ---- the child ----

/// A new child device, or null.
unsafe fn make_child(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
    let mut child = null_mut();
    unsafe {
        let driver = (*device).DriverObject;
        let status = IoCreateDevice(
            driver,
            EXTENSION_SIZE,
            null(),
            0x22,
            0x180,
            0,
            &raw mut child,
        );
        if status < 0 {
            return null_mut();
        }
        let c = extension(child);
        (*c).is_child = true;
        (*c).own = child;
        (*c).pdo = device;
        if init(child) < 0 {
            IoDeleteDevice(child);
            return null_mut();
        }
        let pageable = if sin(76) { 0 } else { (*device).Flags & 0x2000 };
        (*child).Flags = (*child).Flags & !0x80 | pageable;
    }
    child
}

unsafe fn toggle_child(device: *mut DEVICE_OBJECT) {
    let ext = extension(device);
    unsafe {
        (*ext).former = (*ext).child;
        (*ext).child = if (*ext).child.is_null() {
            make_child(device)
        } else {
            null_mut()
        };
        IoInvalidateDeviceRelations((*ext).pdo, 0);
    }
}

unsafe fn relations(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let ext = extension(device);
    let child = unsafe { (*ext).child };
    let mut count = usize::from(!child.is_null());
    if sin(41) && unsafe { (*ext).twin.is_null() } {
        unsafe {
            let twin = make_child(device);
            (*ext).twin = twin;
        }
    }
    let twin = unsafe { (*ext).twin };
    count += usize::from(!twin.is_null());
    let list = unsafe { ExAllocatePool2(PAGED, 24, TAG) }.cast::<usize>();
    if list.is_null() {
        return finish(irp, INSUFFICIENT_RESOURCES, 0);
    }
    unsafe {
        list.write(count);
        if count > 0 {
            if !sin(32) {
                ObfReferenceObject(child.cast());
            }
            list.add(1).write(if sin(33) {
                (*ext).own as usize
            } else {
                child as usize
            });
            if sin(33) {
                ObfReferenceObject((*ext).own.cast());
            }
        }
    }
    if !twin.is_null() {
        unsafe {
            ObfReferenceObject(twin.cast());
            list.add(2).write(twin as usize);
        }
    }
    set_status(irp, SUCCESS, list as usize);
    pass(device, irp)
}

fn string(text: &[u16]) -> usize {
    let p = unsafe { ExAllocatePool2(PAGED, text.len() * 2, TAG) };
    if !p.is_null() {
        unsafe { memcpy(p, text.as_ptr().cast(), text.len() * 2) };
    }
    p as usize
}

/// Finishes with a text from [`string`], if there was memory for it.
fn finish_with_text(irp: *mut IRP, text: usize) -> Status {
    let status = if text == 0 {
        INSUFFICIENT_RESOURCES
    } else {
        SUCCESS
    };
    finish(irp, status, text)
}

unsafe fn child_pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let minor = unsafe { (*current(irp)).MinorFunction };
    let kind = argument(irp, 0) & 0xFFFF_FFFF;
    match minor {
        0..=6 | 0x17 => {
            if minor == 0 {
                power::started(device);
            }
            if minor == 2 {
                power::removed(device);
                flush(device, null_mut(), UNSUCCESSFUL);
                let ext = extension(device);
                let parent = unsafe { (*ext).pdo };
                let listed = unsafe { (*extension(parent)).child } == device;
                let status = finish(irp, if sin(34) { UNSUCCESSFUL } else { SUCCESS }, 0);
                if !listed || sin(35) {
                    unsafe { IoDeleteDevice(device) };
                }
                return status;
            }
            if sin(36) && minor == 5 {
                return finish(irp, status(irp), 0);
            }
            finish(irp, SUCCESS, 0)
        }
        7 if kind == 4 => {
            let list = unsafe { ExAllocatePool2(PAGED, 16, TAG) }.cast::<usize>();
            if list.is_null() {
                return finish(irp, INSUFFICIENT_RESOURCES, 0);
            }
            unsafe {
                list.write(1);
                list.add(1).write(device as usize);
                ObfReferenceObject(device.cast());
            }
            finish(irp, SUCCESS, list as usize)
        }
        9 => {
            let caps = argument(irp, 0) as *mut u32;
            // UniqueID, RawDeviceOK
            unsafe { *caps.add(1) |= 0x140 };
            finish(irp, SUCCESS, 0)
        }
        0x0C => {
            let text = string(&utf16::<6>("Child"));
            finish_with_text(irp, text)
        }
        0x13 => {
            let text = match kind {
                0 if sin(37) => string(&utf16::<12>("MISB\\CH ILD")),
                0 => string(&utf16::<11>("MISB\\CHILD")),
                2 => string(&utf16::<14>("MISB\\GENERIC\0")),
                5 => string(&utf16::<39>("{01234567-89AB-cdef-0123-456789abcdef}")),
                1 => string(&utf16::<12>("MISB\\CHILD\0")),
                3 => string(&utf16::<2>("0")),
                _ => return finish(irp, status(irp), 0),
            };
            finish_with_text(irp, text)
        }
        _ => {
            let information = unsafe { (*irp).IoStatus.Information };
            if sin(38) && minor > 0x20 {
                return finish(irp, SUCCESS, 0);
            }
            finish(irp, status(irp), information)
        }
    }
}

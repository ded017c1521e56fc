//! The kernel's objects as this driver handles them.
//!
//! `windows-sys` has the structures. Its metadata does not carry the `POINTER_ALIGNMENT` of members
//! of `IO_STACK_LOCATION.Parameters`, so that structure is here.
#![allow(non_snake_case, reason = "Windows' names")]

use core::{
    ffi::{CStr, c_char, c_void},
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::SeqCst},
};

pub(crate) use windows_sys::Wdk::Foundation::{
    DEVICE_OBJECT, DRIVER_OBJECT, FILE_OBJECT, IRP, KEVENT, MDL,
};
use windows_sys::{
    Wdk::{
        Foundation::NonPagedPoolNx,
        System::SystemServices::{
            ExAllocatePoolWithTag, IoAllocateIrp, IoAttachDeviceToDeviceStack, IoCreateDevice,
            IoDeleteDevice, IoDetachDevice, IoFreeIrp, IofCallDriver, IofCompleteRequest,
            KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, MmGetSystemRoutineAddress,
        },
    },
    Win32::{
        Foundation::UNICODE_STRING,
        System::IO::{IO_STATUS_BLOCK, IO_STATUS_BLOCK_0},
    },
};

/// `NTSTATUS`
pub(crate) type Status = i32;
/// `PVOID`
pub(crate) type Ptr = *mut c_void;
pub(crate) type Completion = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut IRP, Ptr) -> Status;
pub(crate) type Cancel = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut IRP);

pub(crate) const SUCCESS: Status = 0;
pub(crate) const PENDING: Status = 0x103;
pub(crate) const UNSUCCESSFUL: Status = 0xC000_0001_u32.cast_signed();
pub(crate) const INVALID_PARAMETER: Status = 0xC000_000D_u32.cast_signed();
pub(crate) const NO_SUCH_DEVICE: Status = 0xC000_000E_u32.cast_signed();
pub(crate) const INVALID_DEVICE_REQUEST: Status = 0xC000_0010_u32.cast_signed();
pub(crate) const MORE_PROCESSING_REQUIRED: Status = 0xC000_0016_u32.cast_signed();
pub(crate) const BUFFER_TOO_SMALL: Status = 0xC000_0023_u32.cast_signed();
pub(crate) const INSUFFICIENT_RESOURCES: Status = 0xC000_009A_u32.cast_signed();
pub(crate) const NOT_SUPPORTED: Status = 0xC000_00BB_u32.cast_signed();
pub(crate) const CANCELLED: Status = 0xC000_0120_u32.cast_signed();

pub(crate) mod major {
    pub(crate) const CREATE: u8 = 0;
    pub(crate) const CLOSE: u8 = 2;
    pub(crate) const DEVICE_CONTROL: u8 = 0x0E;
    pub(crate) const INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
    pub(crate) const CLEANUP: u8 = 0x12;
    pub(crate) const POWER: u8 = 0x16;
    pub(crate) const PNP: u8 = 0x1B;
}

/// `IRP_MN_` codes of `IRP_MJ_PNP`.
pub(crate) mod pnp {
    pub(crate) const START_DEVICE: u8 = 0x00;
    pub(crate) const QUERY_REMOVE_DEVICE: u8 = 0x01;
    pub(crate) const REMOVE_DEVICE: u8 = 0x02;
    pub(crate) const CANCEL_REMOVE_DEVICE: u8 = 0x03;
    pub(crate) const STOP_DEVICE: u8 = 0x04;
    pub(crate) const QUERY_STOP_DEVICE: u8 = 0x05;
    pub(crate) const CANCEL_STOP_DEVICE: u8 = 0x06;
    pub(crate) const QUERY_DEVICE_RELATIONS: u8 = 0x07;
    pub(crate) const QUERY_CAPABILITIES: u8 = 0x09;
    pub(crate) const QUERY_DEVICE_TEXT: u8 = 0x0C;
    pub(crate) const QUERY_ID: u8 = 0x13;
    pub(crate) const QUERY_BUS_INFORMATION: u8 = 0x15;
    pub(crate) const SURPRISE_REMOVAL: u8 = 0x17;
}

/// `IRP_MN_SET_POWER`
pub(crate) const SET_POWER: u8 = 2;
/// `SystemPowerState`, `DevicePowerState`
pub(crate) const SYSTEM_POWER: usize = 0;
pub(crate) const DEVICE_POWER: usize = 1;

/// `DO_DEVICE_INITIALIZING`
const INITIALIZING: u32 = 0x80;

/// `IO_STACK_LOCATION`
#[repr(C)]
struct Location {
    major: u8,
    minor: u8,
    flags: u8,
    control: u8,
    parameters: [usize; 4],
    device: *mut DEVICE_OBJECT,
    file: *mut FILE_OBJECT,
    completion: Option<Completion>,
    context: Ptr,
}

const _: () = {
    assert!(size_of::<IRP>() == 0xD0);
    assert!(size_of::<Location>() == 0x48);
    assert!(offset_of!(Location, parameters) == 8);
    assert!(offset_of!(Location, completion) == 0x38);
    assert!(offset_of!(DEVICE_OBJECT, DeviceExtension) == 0x40);
    assert!(offset_of!(DRIVER_OBJECT, MajorFunction) == 0x70);
    assert!(size_of::<MDL>() == 0x30);
};

// What `windows-sys` does not have, or has from ntdll.dll only.
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub(crate) fn DbgPrint(format: *const c_char, ...) -> u32;
    pub(crate) fn ZwCreateKey(
        key: *mut Ptr,
        access: u32,
        attributes: *const c_void,
        index: u32,
        class: *const UNICODE_STRING,
        options: u32,
        disposition: *mut u32,
    ) -> Status;
    pub(crate) fn KeGetCurrentThread() -> Ptr;
    pub(crate) fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize);
    pub(crate) fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize);
}

#[allow(dead_code, reason = "what the compiler calls")]
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn memcpy(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    fn memmove(to: Ptr, from: *const c_void, length: usize) -> Ptr;
    fn memset(to: Ptr, value: i32, length: usize) -> Ptr;
    fn memcmp(left: *const c_void, right: *const c_void, length: usize) -> i32;
    fn strlen(string: *const c_char) -> usize;
    fn __chkstk();
}

/// A string without its zero, for a call.
pub(crate) fn unicode(units: &[u16]) -> UNICODE_STRING {
    let length = u16::try_from(size_of_val(units)).unwrap_or(0);
    UNICODE_STRING {
        Length: length,
        MaximumLength: length,
        Buffer: units.as_ptr().cast_mut(),
    }
}

/// The units of a string.
///
/// # Safety
/// It is null or a live string.
pub(crate) unsafe fn units<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: the caller's promise.
    match unsafe { string.as_ref() } {
        Some(it) if !it.Buffer.is_null() => {
            // SAFETY: Length is in bytes.
            unsafe { core::slice::from_raw_parts(it.Buffer, usize::from(it.Length) / 2) }
        }
        _ => &[],
    }
}

/// Memory that Wine's kernel may free.
pub(crate) fn pool(length: usize) -> Option<ptr::NonNull<u8>> {
    // SAFETY: no requirements.
    let memory =
        unsafe { ExAllocatePoolWithTag(NonPagedPoolNx, length, u32::from_le_bytes(*b"PBus")) };
    ptr::NonNull::new(memory.cast())
}

/// What a device object of this driver is; kept in its extension.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// The control device.
    Bench,
    /// The root device's function, above this device.
    Bus(Device),
    /// A device on the bus.
    Child(Which),
    /// The filter above a device of the driver under test.
    Filter(Filter),
}

/// The devices on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Port,
    Port2,
    Scanner,
}

impl Which {
    /// Which of the parallel ports.
    pub(crate) const fn port(self) -> Option<usize> {
        match self {
            Self::Port => Some(0),
            Self::Port2 => Some(1),
            Self::Scanner => None,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Filter {
    /// What it is attached to.
    pub(crate) lower: Device,
    /// The device on the bus at the bottom, and which it is; `None`: it is attached to a child of
    /// the driver under test.
    pub(crate) bottom: Option<(Device, Which)>,
}

/// A live device object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device(*mut DEVICE_OBJECT);

impl Device {
    /// # Safety
    /// A device object that lives as long as the value is used.
    pub(crate) const unsafe fn from_raw(device: *mut DEVICE_OBJECT) -> Self {
        Self(device)
    }

    /// Makes a device of this driver. `named`: Wine reaches PDOs by a name.
    pub(crate) fn create(
        driver: *const DRIVER_OBJECT,
        role: Role,
        name: Option<&[u16]>,
        named: bool,
    ) -> Result<Self, Status> {
        const FILE_DEVICE_UNKNOWN: u32 = 0x22;
        /// `FILE_AUTOGENERATED_DEVICE_NAME`
        const AUTOGENERATED_NAME: u32 = 0x80;

        let name = name.map(unicode);
        let mut device = ptr::null_mut();
        let extension = u32::try_from(size_of::<Role>()).unwrap_or(0);
        // SAFETY: this driver's object; the name is only read.
        let status = unsafe {
            IoCreateDevice(
                driver,
                extension,
                name.as_ref().map_or(ptr::null(), ptr::from_ref),
                FILE_DEVICE_UNKNOWN,
                if named { AUTOGENERATED_NAME } else { 0 },
                false,
                &raw mut device,
            )
        };
        if status < 0 {
            return Err(status);
        }
        let device = Self(device);
        device.set_role(role);
        Ok(device)
    }

    pub(crate) const fn raw(self) -> *mut DEVICE_OBJECT {
        self.0
    }

    /// What it is. For devices of this driver only.
    pub(crate) fn role(self) -> Role {
        // SAFETY: `create` wrote it.
        unsafe { (*self.0).DeviceExtension.cast::<Role>().read_unaligned() }
    }

    pub(crate) fn set_role(self, role: Role) {
        // SAFETY: the extension is that long.
        unsafe {
            (*self.0)
                .DeviceExtension
                .cast::<Role>()
                .write_unaligned(role);
        };
    }

    /// Attaches it above a stack; gives the device below.
    pub(crate) fn attach(self, stack: Self) -> Option<Self> {
        // SAFETY: two live devices.
        let lower = unsafe { IoAttachDeviceToDeviceStack(self.0, stack.0) };
        (!lower.is_null()).then_some(Self(lower))
    }

    /// Detaches what is attached to it.
    pub(crate) fn detach_upper(self) {
        // SAFETY: a live device.
        unsafe { IoDetachDevice(self.0) };
    }

    pub(crate) fn delete(self) {
        // SAFETY: a device of this driver; no thread uses it afterwards.
        unsafe { IoDeleteDevice(self.0) };
    }

    /// It can be used now.
    pub(crate) fn finish(self) {
        // SAFETY: a live device of this driver.
        unsafe { (*self.0).Flags &= !INITIALIZING };
    }

    /// Its driver is still making it, as Windows says of every new device.
    pub(crate) fn begin(self) {
        // SAFETY: a live device.
        unsafe { (*self.0).Flags |= INITIALIZING };
    }

    pub(crate) fn is_initializing(self) -> bool {
        // SAFETY: a live device.
        unsafe { (*self.0).Flags & INITIALIZING != 0 }
    }

    /// Wants its requests' buffers as the device below does.
    pub(crate) fn inherit(self, lower: Self) {
        /// `DO_BUFFERED_IO`, `DO_DIRECT_IO`, `DO_POWER_PAGABLE`
        const INHERITED: u32 = 0x4 | 0x10 | 0x2000;

        // SAFETY: two live devices.
        unsafe { (*self.0).Flags |= (*lower.0).Flags & INHERITED };
    }

    /// What is attached to it.
    pub(crate) fn upper(self) -> Option<Self> {
        // SAFETY: a live device.
        let upper = unsafe { (*self.0).AttachedDevice };
        (!upper.is_null()).then_some(Self(upper))
    }

    /// The highest device of its stack.
    pub(crate) fn top(self) -> Self {
        core::iter::successors(Some(self), |it| it.upper())
            .last()
            .unwrap_or(self)
    }

    pub(crate) fn driver(self) -> *mut DRIVER_OBJECT {
        // SAFETY: a live device.
        unsafe { (*self.0).DriverObject }
    }

    /// Sends it a request of this driver's own, filled in by `fill`, and waits for the result.
    pub(crate) fn request(self, fill: impl FnOnce(Irp)) -> (Status, usize) {
        // SAFETY: a live device.
        let size = unsafe { (*self.0).StackSize };
        // One more: where the request is filled in, as forwarding does.
        // SAFETY: no requirements.
        let irp = unsafe { IoAllocateIrp(size.saturating_add(1), false) };
        if irp.is_null() {
            return (INSUFFICIENT_RESOURCES, 0);
        }
        let irp = Irp(irp);
        irp.enter();
        irp.set_result(NOT_SUPPORTED, 0);
        // SAFETY: the thread that sends it.
        unsafe { (*irp.0).Tail.Overlay.Thread = KeGetCurrentThread() as isize };
        fill(irp);
        let status = irp.forward_and_wait(self);
        let information = irp.information();
        // SAFETY: allocated above, and back.
        unsafe { IoFreeIrp(irp.0) };
        (status, information)
    }
}

/// An IRP that is with this driver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Irp(*mut IRP);

impl Irp {
    /// # Safety
    /// The IRP is with this driver until the value says that it is not.
    pub(crate) const unsafe fn from_raw(irp: *mut IRP) -> Self {
        Self(irp)
    }

    pub(crate) const fn raw(self) -> *mut IRP {
        self.0
    }

    fn location(self) -> *mut Location {
        // SAFETY: a live IRP; its location is a pointer.
        unsafe {
            (*self.0)
                .Tail
                .Overlay
                .Anonymous2
                .Anonymous
                .CurrentStackLocation
                .cast()
        }
    }

    /// Moves on by so many locations: -1 to the next lower driver's.
    fn step(self, by: i8) {
        let to = self.location().wrapping_offset(isize::from(by));
        // SAFETY: a live IRP with a location there.
        unsafe {
            (*self.0).CurrentLocation += by;
            (*self.0)
                .Tail
                .Overlay
                .Anonymous2
                .Anonymous
                .CurrentStackLocation = to.cast();
        }
    }

    /// `IoSetNextIrpStackLocation`
    fn enter(self) {
        self.step(-1);
    }

    pub(crate) fn major(self) -> u8 {
        // SAFETY: the present location.
        unsafe { (*self.location()).major }
    }

    pub(crate) fn minor(self) -> u8 {
        // SAFETY: the present location.
        unsafe { (*self.location()).minor }
    }

    pub(crate) fn set_function(self, major: u8, minor: u8) {
        // SAFETY: the present location.
        unsafe {
            (*self.location()).major = major;
            (*self.location()).minor = minor;
        }
    }

    /// A member of `Parameters`, each of which starts on 8 bytes.
    pub(crate) fn parameter(self, index: usize) -> usize {
        // SAFETY: the present location.
        unsafe { (*self.location()).parameters }
            .get(index)
            .copied()
            .unwrap_or(0)
    }

    /// The lower half of one: a ULONG.
    pub(crate) fn parameter_u32(self, index: usize) -> u32 {
        let bytes = self.parameter(index).to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    pub(crate) fn set_parameter(self, index: usize, value: usize) {
        // SAFETY: the present location.
        let parameters = unsafe { &mut (*self.location()).parameters };
        if let Some(place) = parameters.get_mut(index) {
            *place = value;
        }
    }

    pub(crate) fn file(self) -> *mut FILE_OBJECT {
        // SAFETY: the present location.
        unsafe { (*self.location()).file }
    }

    pub(crate) fn set_file(self, file: *mut FILE_OBJECT) {
        // SAFETY: the present location, and the IRP's own member.
        unsafe {
            (*self.location()).file = file;
            (*self.0).Tail.Overlay.OriginalFileObject = file;
        }
    }

    pub(crate) fn set_user_mode(self) {
        // SAFETY: a live IRP.
        unsafe { (*self.0).RequestorMode = 1 };
    }

    pub(crate) fn system_buffer(self) -> *mut u8 {
        // SAFETY: plain pointers.
        unsafe { (*self.0).AssociatedIrp.SystemBuffer.cast() }
    }

    pub(crate) fn information(self) -> usize {
        // SAFETY: a live IRP.
        unsafe { (*self.0).IoStatus.Information }
    }

    pub(crate) fn status(self) -> Status {
        // SAFETY: plain members.
        unsafe { (*self.0).IoStatus.Anonymous.Status }
    }

    pub(crate) fn set_result(self, status: Status, information: usize) {
        // SAFETY: a live IRP.
        unsafe {
            (*self.0).IoStatus.Anonymous.Status = status;
            (*self.0).IoStatus.Information = information;
        }
    }

    /// Whether it is an IRP that some driver has.
    pub(crate) fn is_live(self) -> bool {
        /// `IO_TYPE_IRP`
        const TYPE_IRP: i16 = 6;

        // SAFETY: memory of an IRP, perhaps one that is done.
        unsafe { (*self.0).Type == TYPE_IRP && (*self.0).CurrentLocation <= (*self.0).StackCount }
    }

    /// It is gone then.
    pub(crate) fn complete(self, status: Status, information: usize) -> Status {
        self.set_result(status, information);
        // SAFETY: with this driver until now.
        unsafe { IofCompleteRequest(self.0, 0) };
        status
    }

    /// As its last owner left it.
    pub(crate) fn complete_as_is(self) -> Status {
        self.complete(self.status(), self.information())
    }

    /// Hands it on, out of this driver's hands.
    pub(crate) fn forward(self, lower: Device) -> Status {
        // IoSkipCurrentIrpStackLocation
        self.step(1);
        // SAFETY: with this driver until now.
        unsafe { IofCallDriver(lower.0, self.0) }
    }

    /// Hands it on and waits until it is back, with the result in it. At `PASSIVE_LEVEL`.
    pub(crate) fn forward_and_wait(self, lower: Device) -> Status {
        /// `SL_INVOKE_ON_CANCEL`, `_SUCCESS`, `_ERROR`
        const INVOKE_ALWAYS: u8 = 0xE0;

        // SAFETY: zeros are a KEVENT that is to be initialised.
        let mut event: KEVENT = unsafe { core::mem::zeroed() };
        // SAFETY: local; a notification event.
        unsafe { KeInitializeEvent(&raw mut event, 0, false) };
        let present = self.location();
        let next = present.wrapping_sub(1);
        // SAFETY: IoCopyCurrentIrpStackLocationToNext: the IRP has a location for the lower device.
        unsafe {
            ptr::copy_nonoverlapping(
                present.cast::<u8>(),
                next.cast::<u8>(),
                offset_of!(Location, completion),
            );
            (*next).control = INVOKE_ALWAYS;
            (*next).completion = Some(signal);
            (*next).context = (&raw mut event).cast();
        }
        // SAFETY: the completion routine keeps the IRP.
        if unsafe { IofCallDriver(lower.0, self.0) } == PENDING {
            // SAFETY: initialised; the completion routine sets it.
            unsafe { KeWaitForSingleObject((&raw const event).cast(), 0, 0, false, ptr::null()) };
        }
        self.status()
    }

    pub(crate) fn mark_pending(self) {
        /// `SL_PENDING_RETURNED`
        const PENDING_RETURNED: u8 = 1;

        // SAFETY: the present location.
        unsafe { (*self.location()).control |= PENDING_RETURNED };
    }

    /// The slot of the cancel routine.
    fn cancel_slot(&self) -> &AtomicPtr<c_void> {
        // SAFETY: a live IRP; the member is only exchanged.
        unsafe { AtomicPtr::from_ptr((&raw mut (*self.0).CancelRoutine).cast()) }
    }

    pub(crate) fn set_cancel_routine(self, routine: Cancel) {
        self.cancel_slot().store(routine as Ptr, SeqCst);
    }

    /// Whether there was one: if not, it has been called or will be.
    pub(crate) fn take_cancel_routine(self) -> bool {
        !self.cancel_slot().swap(ptr::null_mut(), SeqCst).is_null()
    }

    pub(crate) fn has_cancel_routine(self) -> bool {
        !self.cancel_slot().load(SeqCst).is_null()
    }

    pub(crate) fn is_cancelled(self) -> bool {
        // SAFETY: a live IRP; another thread may set it any time.
        unsafe { (&raw const (*self.0).Cancel).read_volatile() }
    }

    pub(crate) fn cancel_irql(self) -> u8 {
        // SAFETY: a live IRP.
        unsafe { (*self.0).CancelIrql }
    }

    /// The last word of `DriverContext`, which belongs to the cancel-safe queue that has the IRP.
    pub(crate) fn queue_slot(self) -> *mut Ptr {
        // SAFETY: a live IRP; nothing is read.
        unsafe {
            (&raw mut (*self.0).Tail.Overlay.Anonymous1.Anonymous.DriverContext)
                .cast::<Ptr>()
                .add(3)
        }
    }
}

/// Completion routine: the one who waits goes on with the IRP.
unsafe extern "system" fn signal(_device: *mut DEVICE_OBJECT, irp: *mut IRP, event: Ptr) -> Status {
    // The waiter must not miss the event when the status was not PENDING at first.
    let _ = irp;
    // SAFETY: `forward_and_wait` passed it, and waits if the request was pending.
    unsafe { KeSetEvent(event.cast(), 0, false) };
    MORE_PROCESSING_REQUIRED
}

/// `ZwUnloadDriver`. Asked for by name: linked, it would be the function of ntdll.dll.
pub(crate) fn unload_driver(service: &str) -> Status {
    type ZwUnloadDriver = unsafe extern "system" fn(*const UNICODE_STRING) -> Status;
    let (name, path) = (wide("ZwUnloadDriver"), wide(service));
    let (name, path) = (unicode(&name), unicode(&path));
    // SAFETY: the name is only read.
    let routine = unsafe { MmGetSystemRoutineAddress(&raw const name) };
    if routine.is_null() {
        return NOT_SUPPORTED;
    }
    // SAFETY: Wine's function of this name.
    let routine = unsafe { core::mem::transmute::<Ptr, ZwUnloadDriver>(routine) };
    // SAFETY: the name is only read.
    unsafe { routine(&raw const path) }
}

/// An ASCII text in UTF-16.
pub(crate) fn wide(text: &str) -> alloc::vec::Vec<u16> {
    text.encode_utf16().collect()
}

/// `IO_STATUS_BLOCK`
pub(crate) fn status_block(status: Status) -> IO_STATUS_BLOCK {
    IO_STATUS_BLOCK {
        Anonymous: IO_STATUS_BLOCK_0 { Status: status },
        Information: 0,
    }
}

/// Whether a C string is this name.
///
/// # Safety
/// It is a C string.
pub(crate) unsafe fn is_name(string: *const c_char, name: &str) -> bool {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_bytes() == name.as_bytes()
}

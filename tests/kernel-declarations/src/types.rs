//! wdm.h's structures with the members that the drivers of the tests use, at their x64 places.
#![allow(
    missing_docs,
    non_snake_case,
    non_camel_case_types,
    clippy::upper_case_acronyms,
    reason = "Windows' names, which its documentation explains"
)]

use core::{ffi::c_void, mem::offset_of};

/// Where Microsoft's headers have these members.
macro_rules! offsets {
    ($($structure:ty { $($member:ident: $offset:literal),* })*) => {
        $($(const _: () = assert!(offset_of!($structure, $member) == $offset);)*)*
    };
}

/// `NTSTATUS`
pub type Status = i32;
/// `PVOID`
pub type Ptr = *mut c_void;

pub const SUCCESS: Status = 0;
pub const PENDING: Status = 0x103;
pub const UNSUCCESSFUL: Status = 0xC000_0001_u32.cast_signed();
pub const ACCESS_VIOLATION: Status = 0xC000_0005_u32.cast_signed();
pub const INVALID_PARAMETER: Status = 0xC000_000D_u32.cast_signed();
pub const INVALID_DEVICE_REQUEST: Status = 0xC000_0010_u32.cast_signed();
pub const MORE_PROCESSING_REQUIRED: Status = 0xC000_0016_u32.cast_signed();
pub const INSUFFICIENT_RESOURCES: Status = 0xC000_009A_u32.cast_signed();
pub const NOT_SUPPORTED: Status = 0xC000_00BB_u32.cast_signed();
pub const CANCELLED: Status = 0xC000_0120_u32.cast_signed();
pub const INVALID_DEVICE_STATE: Status = 0xC000_0184_u32.cast_signed();

/// `POOL_FLAG_NON_PAGED`
pub const NON_PAGED: u64 = 0x40;
/// `POOL_FLAG_UNINITIALIZED`
pub const UNINITIALIZED: u64 = 0x2;
/// `POOL_FLAG_NON_PAGED_EXECUTE`
pub const EXECUTE: u64 = 0x80;
/// `POOL_FLAG_PAGED`
pub const PAGED: u64 = 0x100;

/// `EX_TIMER_HIGH_RESOLUTION`
pub const HIGH_RESOLUTION: u32 = 4;
/// `EX_TIMER_NO_WAKE`
pub const NO_WAKE: u32 = 8;

pub const PASSIVE_LEVEL: u8 = 0;
pub const DISPATCH_LEVEL: u8 = 2;

pub const FILE_DEVICE_UNKNOWN: u32 = 0x22;
pub const FILE_DEVICE_SECURE_OPEN: u32 = 0x100;
pub const DO_DEVICE_INITIALIZING: u32 = 0x80;
/// `SL_INVOKE_ON_CANCEL`, `_SUCCESS`, `_ERROR`
pub const INVOKE_ALWAYS: u8 = 0xE0;

pub const IRP_MJ_CREATE: u8 = 0;
pub const IRP_MJ_CLOSE: u8 = 2;
pub const IRP_MJ_READ: u8 = 3;
pub const IRP_MJ_WRITE: u8 = 4;
pub const IRP_MJ_DEVICE_CONTROL: u8 = 0x0E;
pub const IRP_MJ_INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
pub const IRP_MJ_CLEANUP: u8 = 0x12;
pub const IRP_MJ_POWER: u8 = 0x16;
pub const IRP_MJ_SYSTEM_CONTROL: u8 = 0x17;
pub const IRP_MJ_PNP: u8 = 0x1B;

/// `IO_REMOVE_LOCK` of the free kernel, in bytes.
pub const REMOVE_LOCK: u32 = 0x20;

pub type Dispatch = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP) -> Status;
pub type AddDevice = unsafe extern "C" fn(*mut DRIVER_OBJECT, *mut DEVICE_OBJECT) -> Status;
pub type Unload = unsafe extern "C" fn(*mut DRIVER_OBJECT);
pub type Completion = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP, Ptr) -> Status;
pub type DpcRoutine = unsafe extern "C" fn(*mut KDPC, Ptr, Ptr, Ptr);
pub type WorkRoutine = unsafe extern "C" fn(Ptr, Ptr, Ptr);
pub type Isr = unsafe extern "C" fn(Ptr, Ptr) -> u8;

/// An object that only the kernel looks into, `N` pointers long.
#[repr(C)]
pub struct Opaque<const N: usize>(pub [usize; N]);

pub type KEVENT = Opaque<3>;
pub type KSEMAPHORE = Opaque<4>;
pub type KMUTANT = Opaque<7>;
pub type KTIMER = Opaque<8>;
pub type KDPC = Opaque<8>;
pub type IO_CSQ = Opaque<8>;

#[repr(C)]
pub struct UNICODE_STRING {
    pub Length: u16,
    pub MaximumLength: u16,
    pub Buffer: *mut u16,
}

#[repr(C)]
pub struct LIST_ENTRY {
    pub Flink: *mut Self,
    pub Blink: *mut Self,
}

#[repr(C)]
pub struct DEVICE_OBJECT {
    head: usize,
    pub DriverObject: *mut DRIVER_OBJECT,
    links: [usize; 4],
    pub Flags: u32,
    characteristics: u32,
    vpb: usize,
    pub DeviceExtension: Ptr,
    device_type: u32,
    pub StackSize: i8,
}

#[repr(C)]
pub struct DRIVER_OBJECT {
    head: usize,
    pub FirstDevice: *mut DEVICE_OBJECT,
    flags: usize,
    pub DriverStart: usize,
    pub DriverSize: u32,
    section: usize,
    pub DriverExtension: *mut DRIVER_EXTENSION,
    middle: [usize; 6],
    pub DriverUnload: Option<Unload>,
    pub MajorFunction: [Option<Dispatch>; 28],
}

#[repr(C)]
pub struct DRIVER_EXTENSION {
    driver: usize,
    pub AddDevice: Option<AddDevice>,
}

#[repr(C)]
pub struct FILE_OBJECT {
    head: usize,
    pub DeviceObject: *mut DEVICE_OBJECT,
}

/// `Parameters` of a stack location.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Parameters {
    pub DeviceIoControl: DeviceIoControl,
    pub Others: [usize; 4],
}

/// `Parameters.DeviceIoControl`: padding is behind each ULONG.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceIoControl {
    pub OutputBufferLength: u32,
    padding: u32,
    pub InputBufferLength: u32,
    more_padding: u32,
    pub IoControlCode: u32,
    rest: u32,
    type3: usize,
}

#[repr(C)]
pub struct IO_STACK_LOCATION {
    pub MajorFunction: u8,
    pub MinorFunction: u8,
    flags: u8,
    pub Control: u8,
    pub Parameters: Parameters,
    device: usize,
    pub FileObject: Ptr,
    pub CompletionRoutine: Option<Completion>,
    pub Context: Ptr,
}

impl IO_STACK_LOCATION {
    /// The parameters of a control request.
    #[must_use]
    pub fn device_io_control(&self) -> DeviceIoControl {
        // SAFETY: they are integers, of which every value is valid.
        unsafe { self.Parameters.DeviceIoControl }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct IO_STATUS_BLOCK {
    pub Status: Status,
    high: u32,
    pub Information: usize,
}

#[repr(C)]
pub struct IRP {
    head: usize,
    pub MdlAddress: *mut MDL,
    flags: u32,
    /// `AssociatedIrp.SystemBuffer`
    pub SystemBuffer: *mut u8,
    thread_list: [usize; 2],
    pub IoStatus: IO_STATUS_BLOCK,
    pub RequestorMode: u8,
    pub PendingReturned: bool,
    stack_count: i8,
    pub CurrentLocation: i8,
    pub Cancel: bool,
    pub CancelIrql: u8,
    rest: [u8; 2],
    iosb: usize,
    event: usize,
    overlay: [usize; 2],
    pub CancelRoutine: usize,
    pub UserBuffer: usize,
    driver_context: [usize; 4],
    thread: usize,
    auxiliary: usize,
    pub ListEntry: LIST_ENTRY,
    pub CurrentStackLocation: *mut IO_STACK_LOCATION,
    file: usize,
}

#[repr(C)]
pub struct MDL {
    next: usize,
    size: i16,
    pub MdlFlags: i16,
    process: usize,
    pub MappedSystemVa: *mut u8,
}

offsets! {
    MDL { MdlFlags: 0xA, MappedSystemVa: 0x18 }
    DEVICE_OBJECT { DriverObject: 0x08, Flags: 0x30, DeviceExtension: 0x40, StackSize: 0x4C }
    DRIVER_OBJECT {
        DriverStart: 0x18, DriverExtension: 0x30, DriverUnload: 0x68, MajorFunction: 0x70
    }
    FILE_OBJECT { DeviceObject: 0x08 }
    IO_STACK_LOCATION { Parameters: 0x08, FileObject: 0x30, CompletionRoutine: 0x38 }
    DeviceIoControl { IoControlCode: 0x10 }
    IRP {
        SystemBuffer: 0x18, IoStatus: 0x30, RequestorMode: 0x40, CancelRoutine: 0x68,
        UserBuffer: 0x70, ListEntry: 0xA8, CurrentStackLocation: 0xB8
    }
}

const _: () = assert!(size_of::<Parameters>() == 0x20);

/// `OBJECT_ATTRIBUTES`
#[repr(C)]
pub struct ObjectAttributes {
    pub Length: u32,
    pub RootDirectory: Ptr,
    pub ObjectName: *const UNICODE_STRING,
    pub Attributes: u32,
    pub SecurityDescriptor: Ptr,
    pub SecurityQualityOfService: Ptr,
}

pub const CONNECT_FULLY_SPECIFIED: u32 = 1;
pub const CONNECT_LINE_BASED: u32 = 2;

/// `IO_CONNECT_INTERRUPT_PARAMETERS`: the fully specified form; line-based ones end earlier.
#[repr(C)]
pub struct ConnectInterrupt {
    pub Version: u32,
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    pub InterruptObject: *mut Ptr,
    pub ServiceRoutine: Isr,
    pub ServiceContext: Ptr,
    pub SpinLock: *mut usize,
    pub SynchronizeIrql: u8,
    pub FloatingSave: u8,
    pub ShareVector: u8,
    pub Vector: u32,
    pub Irql: u8,
    pub InterruptMode: u32,
    pub ProcessorEnableMask: usize,
}

/// `IO_DISCONNECT_INTERRUPT_PARAMETERS`
#[repr(C)]
pub struct DisconnectInterrupt {
    pub Version: u32,
    pub InterruptObject: Ptr,
}

offsets! {
    ConnectInterrupt {
        SynchronizeIrql: 0x30, Vector: 0x34, Irql: 0x38, InterruptMode: 0x3C,
        ProcessorEnableMask: 0x40
    }
}

//! Layouts that 64-bit Windows fixes, the same on x64 and ARM64. Checked at compile time against
//! whatever headers made the bindings: Microsoft's on Windows, mingw-w64's elsewhere.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use core::mem::{align_of, offset_of, size_of};

#[allow(
    clippy::wildcard_imports,
    reason = "a list of the types would repeat the file"
)]
use wdk_sys::*;

macro_rules! layout {
    ($t:ty, $size:literal $(, $($f:ident).+ = $off:literal)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$t>() == $size, concat!("size of ", stringify!($t)));
            $(assert!(offset_of!($t, $($f).+) == $off, concat!(stringify!($t), ".", stringify!($($f).+)));)*
        };
    };
}

layout!(
    UNICODE_STRING,
    0x10,
    Length = 0,
    MaximumLength = 2,
    Buffer = 8
);
layout!(LIST_ENTRY, 0x10);
layout!(IO_STATUS_BLOCK, 0x10, Information = 8);
layout!(KEVENT, 0x18);
layout!(KSEMAPHORE, 0x20);
layout!(KDPC, 0x40, DeferredRoutine = 0x18, DeferredContext = 0x20);
layout!(KTIMER, 0x40);
layout!(KMUTANT, 0x38);
layout!(FAST_MUTEX, 0x38);
layout!(KAPC, 0x58);
layout!(KDEVICE_QUEUE, 0x28);
layout!(WORK_QUEUE_ITEM, 0x20);
layout!(
    MDL,
    0x30,
    Size = 0x08,
    MdlFlags = 0x0a,
    Process = 0x10,
    MappedSystemVa = 0x18,
    StartVa = 0x20,
    ByteCount = 0x28,
    ByteOffset = 0x2c
);
layout!(
    DEVICE_OBJECT,
    0x150,
    Type = 0,
    Size = 2,
    ReferenceCount = 4,
    DriverObject = 8,
    NextDevice = 0x10,
    AttachedDevice = 0x18,
    CurrentIrp = 0x20,
    Timer = 0x28,
    Flags = 0x30,
    Characteristics = 0x34,
    Vpb = 0x38,
    DeviceExtension = 0x40,
    DeviceType = 0x48,
    StackSize = 0x4c,
    Queue = 0x50,
    AlignmentRequirement = 0x98,
    DeviceQueue = 0xa0,
    Dpc = 0xc8,
    ActiveThreadCount = 0x108,
    SecurityDescriptor = 0x110,
    DeviceLock = 0x118,
    SectorSize = 0x130,
    DeviceObjectExtension = 0x138
);
layout!(
    DRIVER_OBJECT,
    0x150,
    DeviceObject = 8,
    Flags = 0x10,
    DriverStart = 0x18,
    DriverSize = 0x20,
    DriverExtension = 0x30,
    DriverName = 0x38,
    HardwareDatabase = 0x48,
    FastIoDispatch = 0x50,
    DriverInit = 0x58,
    DriverStartIo = 0x60,
    DriverUnload = 0x68,
    MajorFunction = 0x70
);
layout!(DRIVER_EXTENSION, 0x28, AddDevice = 0x08);
layout!(
    FILE_OBJECT,
    0xd8,
    DeviceObject = 0x08,
    FsContext = 0x18,
    FsContext2 = 0x20,
    FileName = 0x58,
    CurrentByteOffset = 0x68
);
layout!(
    IRP,
    0xd0,
    MdlAddress = 0x08,
    Flags = 0x10,
    AssociatedIrp = 0x18,
    ThreadListEntry = 0x20,
    IoStatus = 0x30,
    RequestorMode = 0x40,
    PendingReturned = 0x41,
    StackCount = 0x42,
    CurrentLocation = 0x43,
    Cancel = 0x44,
    CancelIrql = 0x45,
    UserIosb = 0x48,
    UserEvent = 0x50,
    Overlay = 0x58,
    CancelRoutine = 0x68,
    UserBuffer = 0x70,
    Tail = 0x78,
    Tail.Overlay.__bindgen_anon_1 = 0x78,
    Tail.Overlay.Thread = 0x98,
    Tail.Overlay.AuxiliaryBuffer = 0xa0,
    Tail.Overlay.__bindgen_anon_2 = 0xa8,
    Tail.Overlay.__bindgen_anon_2.ListEntry = 0xa8,
    Tail.Overlay
        .__bindgen_anon_2
        .__bindgen_anon_1
        .CurrentStackLocation = 0xb8,
    Tail.Overlay.OriginalFileObject = 0xc0
);
layout!(
    IO_STACK_LOCATION,
    0x48,
    MajorFunction = 0,
    MinorFunction = 1,
    Flags = 2,
    Control = 3,
    Parameters = 0x08,
    DeviceObject = 0x28,
    FileObject = 0x30,
    CompletionRoutine = 0x38,
    Context = 0x40,
    Parameters.DeviceIoControl.OutputBufferLength = 0x08,
    Parameters.DeviceIoControl.InputBufferLength = 0x10,
    Parameters.DeviceIoControl.IoControlCode = 0x18,
    Parameters.DeviceIoControl.Type3InputBuffer = 0x20,
    Parameters.Read.Length = 0x08,
    Parameters.Read.Key = 0x10,
    Parameters.Read.ByteOffset = 0x18,
    Parameters.Write.Length = 0x08,
    Parameters.Write.Key = 0x10,
    Parameters.Write.ByteOffset = 0x18,
    Parameters.Create.SecurityContext = 0x08,
    Parameters.Create.Options = 0x10,
    Parameters.Create.FileAttributes = 0x18,
    Parameters.Create.ShareAccess = 0x1a,
    Parameters.Create.EaLength = 0x20,
    Parameters.QueryDeviceRelations.Type = 0x08,
    Parameters.QueryInterface.InterfaceType = 0x08,
    Parameters.QueryInterface.Size = 0x10,
    Parameters.QueryInterface.Version = 0x12,
    Parameters.QueryInterface.Interface = 0x18,
    Parameters.QueryInterface.InterfaceSpecificData = 0x20,
    Parameters.DeviceCapabilities.Capabilities = 0x08,
    Parameters.QueryId.IdType = 0x08,
    Parameters.QueryDeviceText.DeviceTextType = 0x08,
    Parameters.QueryDeviceText.LocaleId = 0x10,
    Parameters.Power.Type = 0x10,
    Parameters.Power.State = 0x18,
    Parameters.Power.ShutdownType = 0x20,
    Parameters.StartDevice.AllocatedResources = 0x08,
    Parameters.StartDevice.AllocatedResourcesTranslated = 0x10,
    Parameters.UsageNotification.InPath = 0x08,
    Parameters.UsageNotification.Type = 0x10,
    Parameters.WMI.ProviderId = 0x08,
    Parameters.WMI.DataPath = 0x10,
    Parameters.WMI.BufferSize = 0x18,
    Parameters.WMI.Buffer = 0x20,
    Parameters.Others.Argument1 = 0x08,
    Parameters.Others.Argument4 = 0x20
);
layout!(
    DEVICE_CAPABILITIES,
    0x40,
    Address = 0x08,
    UINumber = 0x0c,
    DeviceState = 0x10,
    SystemWake = 0x2c,
    DeviceWake = 0x30,
    D1Latency = 0x34
);
layout!(
    INTERFACE,
    0x20,
    Version = 2,
    Context = 8,
    InterfaceReference = 0x10
);
layout!(CM_PARTIAL_RESOURCE_DESCRIPTOR, 0x14, u = 4);
layout!(CM_RESOURCE_LIST, 0x28);
layout!(IO_RESOURCE_DESCRIPTOR, 0x20);
const _: () = assert!(align_of::<KSPIN_LOCK>() == 8);

layout!(
    _URB_HEADER,
    0x18,
    Length = 0,
    Function = 2,
    Status = 4,
    UsbdDeviceHandle = 8,
    UsbdFlags = 0x10
);
layout!(_URB_HCD_AREA, 0x40);
layout!(
    _URB_CONTROL_VENDOR_OR_CLASS_REQUEST,
    0x88,
    Hdr = 0,
    Reserved = 0x18,
    TransferFlags = 0x20,
    TransferBufferLength = 0x24,
    TransferBuffer = 0x28,
    TransferBufferMDL = 0x30,
    UrbLink = 0x38,
    hca = 0x40,
    RequestTypeReservedBits = 0x80,
    Request = 0x81,
    Value = 0x82,
    Index = 0x84,
    Reserved1 = 0x86
);
layout!(
    _URB_CONTROL_TRANSFER,
    0x88,
    PipeHandle = 0x18,
    TransferFlags = 0x20,
    TransferBufferLength = 0x24,
    TransferBuffer = 0x28,
    TransferBufferMDL = 0x30,
    UrbLink = 0x38,
    hca = 0x40,
    SetupPacket = 0x80
);
layout!(
    _URB_CONTROL_DESCRIPTOR_REQUEST,
    0x88,
    TransferBufferLength = 0x24,
    TransferBuffer = 0x28,
    TransferBufferMDL = 0x30,
    UrbLink = 0x38,
    hca = 0x40,
    Index = 0x82,
    DescriptorType = 0x83,
    LanguageId = 0x84
);
layout!(
    _URB_BULK_OR_INTERRUPT_TRANSFER,
    0x80,
    PipeHandle = 0x18,
    TransferFlags = 0x20,
    TransferBufferLength = 0x24,
    TransferBuffer = 0x28,
    TransferBufferMDL = 0x30,
    UrbLink = 0x38,
    hca = 0x40
);
layout!(
    _URB_SELECT_CONFIGURATION,
    0x58,
    ConfigurationDescriptor = 0x18,
    ConfigurationHandle = 0x20,
    Interface = 0x28
);
layout!(
    USBD_INTERFACE_INFORMATION,
    0x30,
    InterfaceHandle = 0x08,
    NumberOfPipes = 0x10,
    Pipes = 0x18
);
layout!(
    USBD_PIPE_INFORMATION,
    0x18,
    PipeType = 4,
    PipeHandle = 0x08,
    MaximumTransferSize = 0x10,
    PipeFlags = 0x14
);
layout!(_URB_PIPE_REQUEST, 0x28, PipeHandle = 0x18);
layout!(USB_DEVICE_DESCRIPTOR, 18);
layout!(USB_CONFIGURATION_DESCRIPTOR, 9);

layout!(
    PARCLASS_INFORMATION,
    0x78,
    Controller = 0,
    EcrController = 8,
    SpanOfController = 0x10,
    DetermineIeeeModes = 0x18,
    NegotiateIeeeMode = 0x20,
    TerminateIeeeMode = 0x28,
    IeeeFwdToRevMode = 0x30,
    IeeeRevToFwdMode = 0x38,
    ParallelRead = 0x40,
    ParallelWrite = 0x48,
    ParclassContext = 0x50,
    HardwareCapabilities = 0x58,
    FifoDepth = 0x5c,
    FifoWidth = 0x60,
    ParallelTryselect = 0x68,
    ParallelDeSelect = 0x70
);
layout!(PAR_SET_INFORMATION, 1);
layout!(PAR_QUERY_INFORMATION, 1);
layout!(PARALLEL_PORT_INFORMATION, 0x38);

layout!(IO_REMOVE_LOCK, 0x20);
layout!(KWAIT_BLOCK, 0x30);
layout!(IO_CSQ, 0x40, CsqInsertIrp = 8, ReservePointer = 0x38);
layout!(EX_RUNDOWN_REF, 8);
layout!(
    OBJECT_ATTRIBUTES,
    0x30,
    RootDirectory = 8,
    ObjectName = 0x10,
    Attributes = 0x18,
    SecurityDescriptor = 0x20,
    SecurityQualityOfService = 0x28
);
layout!(POWER_STATE, 4);
layout!(PNP_BUS_INFORMATION, 0x18, LegacyBusType = 0x10);
layout!(DEVICE_RELATIONS, 0x10, Objects = 8);
layout!(CM_FULL_RESOURCE_DESCRIPTOR, 0x24, PartialResourceList = 8);
layout!(
    CM_PARTIAL_RESOURCE_LIST,
    0x1c,
    Count = 4,
    PartialDescriptors = 8
);
layout!(
    KEY_VALUE_PARTIAL_INFORMATION,
    0x10,
    Type = 4,
    DataLength = 8,
    Data = 0x0c
);

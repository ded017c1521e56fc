//! Windows' structures as they lie in memory, and accessors for them.
//!
//! Offsets come from `windows-sys`, which is made from Microsoft's metadata. That metadata does not
//! carry `POINTER_ALIGNMENT`, so the members of `IO_STACK_LOCATION.Parameters` that have it in
//! wdm.h are given here by hand: each starts on an 8-byte boundary.

use core::mem::{offset_of, size_of};

use windows_sys::Wdk::Foundation::{
    DEVICE_OBJECT, DRIVER_EXTENSION, DRIVER_OBJECT, FILE_OBJECT, IO_STACK_LOCATION, IRP, KDPC,
    KEVENT, KMUTANT, MDL,
};
use windows_sys::Wdk::System::SystemServices::{IO_CSQ, KSEMAPHORE, KTIMER};

use crate::NtStatus;
use crate::mem::{Va, peek, poke};

pub(crate) const IRP_SIZE: usize = size_of::<IRP>();
pub(crate) const SL_SIZE: usize = size_of::<IO_STACK_LOCATION>();
pub(crate) const DEVICE_SIZE: usize = size_of::<DEVICE_OBJECT>().next_multiple_of(16);
pub(crate) const DRIVER_SIZE: usize = size_of::<DRIVER_OBJECT>();
pub(crate) const DRIVER_EXTENSION_SIZE: usize = size_of::<DRIVER_EXTENSION>();
pub(crate) const FILE_SIZE: usize = size_of::<FILE_OBJECT>();
pub(crate) const MDL_SIZE: usize = size_of::<MDL>();

// Facts of wdm.h for x64 on which this crate relies.
const _: () = {
    assert!(IRP_SIZE == 0xD0);
    assert!(SL_SIZE == 0x48);
    assert!(offset_of!(IRP, IoStatus) == 0x30);
    assert!(offset_of!(IRP, CurrentLocation) == 0x43);
    assert!(offset_of!(IRP, CancelRoutine) == 0x68);
    assert!(offset_of!(IRP, Tail.Overlay.Anonymous2.Anonymous.CurrentStackLocation) == 0xB8);
    assert!(offset_of!(IO_STACK_LOCATION, Control) == 3);
    assert!(offset_of!(IO_STACK_LOCATION, DeviceObject) == 0x28);
    assert!(offset_of!(IO_STACK_LOCATION, CompletionRoutine) == 0x38);
    assert!(offset_of!(DEVICE_OBJECT, DeviceExtension) == 0x40);
    assert!(offset_of!(DEVICE_OBJECT, StackSize) == 0x4C);
    assert!(offset_of!(DRIVER_OBJECT, MajorFunction) == 0x70);
    assert!(DRIVER_SIZE == 0x150);
    assert!(size_of::<KEVENT>() == 0x18);
    assert!(size_of::<KTIMER>() == 0x40);
    assert!(size_of::<KSEMAPHORE>() == 0x20);
    assert!(size_of::<KMUTANT>() == 0x38);
    assert!(size_of::<KDPC>() == 0x40);
    assert!(offset_of!(KDPC, DeferredRoutine) == 0x18);
    assert!(MDL_SIZE == 0x30);
    assert!(size_of::<IO_CSQ>() == 0x40);
    assert!(offset_of!(FILE_OBJECT, FileName) == 0x58);
};

macro_rules! fields {
    ($($get:ident $set:ident: $t:ty = $at:expr;)*) => {
        $(
            #[allow(dead_code, reason = "a complete set of accessors")]
            pub(crate) fn $get(self) -> $t { peek(self.0 + $at) }
            #[allow(dead_code, reason = "a complete set of accessors")]
            pub(crate) fn $set(self, value: $t) { poke(self.0 + $at, value); }
        )*
    };
}

/// A structure at an address, with accessors for members of it, by their types.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident of $structure:ident {
        $($t:ty { $($get:ident $set:ident => $($member:ident).+ $(+ $more:literal)?,)* })*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub Va);

        impl $name {
            $(fields! {
                $($get $set: $t = offset_of!($structure, $($member).+) $(+ $more)?;)*
            })*
        }
    };
}

object! {
    /// An IRP at an address.
    Irp of IRP {
        u16 {
            kind set_kind => Type,
        }
        u32 {
            flags set_flags => Flags,
            raw_status set_raw_status => IoStatus,
        }
        u8 {
            requestor_mode set_requestor_mode => RequestorMode,
            pending_returned set_pending_returned => PendingReturned,
            cancel set_cancel => Cancel,
            cancel_irql set_cancel_irql => CancelIrql,
        }
        i8 {
            stack_count set_stack_count => StackCount,
            location set_location => CurrentLocation,
        }
        usize {
            mdl set_mdl => MdlAddress,
            system_buffer set_system_buffer => AssociatedIrp,
            information set_information => IoStatus + 8,
            user_iosb set_user_iosb => Anonymous,
            user_event set_user_event => UserEvent,
            cancel_routine set_cancel_routine => CancelRoutine,
            user_buffer set_user_buffer => UserBuffer,
            thread set_thread => Tail.Overlay.Thread,
            csq_context set_csq_context => Tail.Overlay.Anonymous1 + 24,
            file set_file => Tail.Overlay.OriginalFileObject,
            sl_pointer set_sl_pointer
                => Tail.Overlay.Anonymous2.Anonymous.CurrentStackLocation,
        }
    }
}

impl Irp {
    pub(crate) fn status(self) -> NtStatus {
        NtStatus(self.raw_status())
    }

    pub(crate) fn set_status(self, status: NtStatus) {
        self.set_raw_status(status.0);
    }

    /// The stack location with number `n` (1 = the lowest device's).
    pub(crate) fn sl_at(self, n: i8) -> Sl {
        Sl(self.0 + IRP_SIZE + usize::try_from(n - 1).unwrap_or(0) * SL_SIZE)
    }

    /// The location that `CurrentStackLocation` points to.
    pub(crate) fn sl(self) -> Sl {
        Sl(self.sl_pointer())
    }

    pub(crate) fn move_location(self, by: i8) {
        let n = self.location() + by;
        self.set_location(n);
        self.set_sl_pointer(
            (self.0 + IRP_SIZE).wrapping_add_signed((isize::from(n) - 1) * SL_SIZE.cast_signed()),
        );
    }

    /// What `IoAllocateIrp` does with fresh memory.
    pub(crate) fn initialise(self, stack_size: i8) {
        let locations = usize::try_from(stack_size).unwrap_or(0);
        crate::mem::poke_bytes(self.0, &vec![0; IRP_SIZE + locations * SL_SIZE]);
        self.set_kind(6);
        #[allow(clippy::cast_possible_truncation, reason = "at most 127 locations")]
        poke(
            self.0 + offset_of!(IRP, Size),
            (IRP_SIZE + locations * SL_SIZE) as u16,
        );
        self.set_stack_count(stack_size);
        self.set_location(stack_size);
        self.move_location(1);
        let list = self.0 + offset_of!(IRP, ThreadListEntry);
        poke(list, list);
        poke(list + 8, list);
    }
}

object! {
    /// A stack location at an address.
    Sl of IO_STACK_LOCATION {
        u8 {
            major set_major => MajorFunction,
            minor set_minor => MinorFunction,
            sl_flags set_sl_flags => Flags,
            control set_control => Control,
        }
        usize {
            device set_device => DeviceObject,
            file set_file => FileObject,
            routine set_routine => CompletionRoutine,
            context set_context => Context,
        }
    }
}

impl Sl {
    fields! {
        arg1 set_arg1: usize = 8;
        arg2 set_arg2: usize = 16;
        arg3 set_arg3: usize = 24;
        arg4 set_arg4: usize = 32;
    }

    /// The low half of `Parameters.Others.Argument1`, and so on.
    pub(crate) fn low(self, argument: usize) -> u32 {
        peek(self.0 + 8 + 8 * argument)
    }

    pub(crate) fn pending(self) -> bool {
        self.control() & SL_PENDING_RETURNED != 0
    }

    pub(crate) fn clear(self) {
        crate::mem::poke_bytes(self.0, &[0; SL_SIZE]);
    }
}

pub(crate) const SL_PENDING_RETURNED: u8 = 1;
pub(crate) const SL_INVOKE_ON_CANCEL: u8 = 0x20;
pub(crate) const SL_INVOKE_ON_SUCCESS: u8 = 0x40;
pub(crate) const SL_INVOKE_ON_ERROR: u8 = 0x80;

object! {
    /// A device object at an address.
    Dev of DEVICE_OBJECT {
        u16 {
            kind set_kind => Type,
        }
        i8 {
            stack_size set_stack_size => StackSize,
        }
        i32 {
            reference_count set_reference_count => ReferenceCount,
        }
        u32 {
            flags set_flags => Flags,
            characteristics set_characteristics => Characteristics,
            device_type set_device_type => DeviceType,
        }
        usize {
            driver set_driver => DriverObject,
            next set_next => NextDevice,
            attached set_attached => AttachedDevice,
            extension set_extension => DeviceExtension,
            security set_security => SecurityDescriptor,
        }
    }
}

numbers! { pub(crate) u32:
    DO_BUFFERED_IO => 0x4,
    DO_DIRECT_IO => 0x10,
    DO_EXCLUSIVE => 0x8,
    DO_DEVICE_INITIALIZING => 0x80,
    DO_DEVICE_HAS_NAME => 0x40,
    DO_BUS_ENUMERATED_DEVICE => 0x1000,
    DO_POWER_PAGABLE => 0x2000,
}

object! {
    /// A driver object at an address.
    Drv of DRIVER_OBJECT {
        u16 {
            kind set_kind => Type,
        }
        u32 {
            size set_size => DriverSize,
        }
        usize {
            first_device set_first_device => DeviceObject,
            start set_start => DriverStart,
            extension set_extension => DriverExtension,
            name set_name => DriverName,
            init set_init => DriverInit,
            unload set_unload => DriverUnload,
        }
    }
}

impl Drv {
    pub(crate) fn major(self, major: u8) -> Va {
        peek(self.0 + offset_of!(DRIVER_OBJECT, MajorFunction) + 8 * usize::from(major))
    }

    pub(crate) fn set_major(self, major: u8, routine: Va) {
        poke(
            self.0 + offset_of!(DRIVER_OBJECT, MajorFunction) + 8 * usize::from(major),
            routine,
        );
    }

    pub(crate) fn add_device(self) -> Va {
        peek(self.extension() + offset_of!(DRIVER_EXTENSION, AddDevice))
    }
}

pub(crate) const DRIVER_NAME: usize = offset_of!(DRIVER_OBJECT, DriverName);
pub(crate) const SERVICE_KEY_NAME: usize = offset_of!(DRIVER_EXTENSION, ServiceKeyName);
pub(crate) const FILE_NAME: usize = offset_of!(FILE_OBJECT, FileName);
pub(crate) const FILE_DEVICE: usize = offset_of!(FILE_OBJECT, DeviceObject);
pub(crate) const FILE_FLAGS: usize = offset_of!(FILE_OBJECT, Flags);

/// A dispatcher object (event, timer, mutex, semaphore, thread) at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header(pub Va);

impl Header {
    fields! {
        kind set_kind: u8 = 0;
        inserted set_inserted: u8 = 3;
        signal set_signal: i32 = 4;
    }

    pub(crate) fn initialise(self, kind: u8, size: usize, signal: i32) {
        #[allow(clippy::cast_possible_truncation, reason = "in dwords, small")]
        poke(self.0, [kind, 0, (size / 4) as u8, 0]);
        self.set_signal(signal);
        poke(self.0 + 8, self.0 + 8);
        poke(self.0 + 16, self.0 + 8);
    }
}

pub(crate) const TIMER_PERIOD: usize = offset_of!(KTIMER, Period);
pub(crate) const TIMER_DPC: usize = offset_of!(KTIMER, Dpc);
pub(crate) const TIMER_DUE: usize = offset_of!(KTIMER, DueTime);
pub(crate) const SEMAPHORE_LIMIT: usize = offset_of!(KSEMAPHORE, Limit);
pub(crate) const MUTANT_OWNER: usize = offset_of!(KMUTANT, OwnerThread);
pub(crate) const DPC_ROUTINE: usize = offset_of!(KDPC, DeferredRoutine);
pub(crate) const DPC_CONTEXT: usize = offset_of!(KDPC, DeferredContext);
pub(crate) const DPC_ARG1: usize = offset_of!(KDPC, SystemArgument1);
pub(crate) const DPC_ARG2: usize = offset_of!(KDPC, SystemArgument2);
pub(crate) const DPC_DATA: usize = offset_of!(KDPC, DpcData);

/// The text of a counted string. Malformed ones break a rule.
pub(crate) fn unicode(va: Va) -> String {
    if va == 0 {
        return String::new();
    }
    let length = usize::from(peek::<u16>(va));
    let maximum = usize::from(peek::<u16>(va + 2));
    if length % 2 != 0 || length > maximum {
        crate::state::fail(
            crate::rules::STRING_MALFORMED,
            format!("Length {length}, MaximumLength {maximum}"),
        );
    }
    let buffer = peek::<usize>(va + 8);
    let units: Vec<u16> = (0..length / 2).map(|i| peek(buffer + 2 * i)).collect();
    String::from_utf16_lossy(&units)
}

/// Text up to the first NUL.
pub(crate) fn wide_z(va: Va) -> String {
    let mut units = Vec::new();
    loop {
        let unit: u16 = peek(va + 2 * units.len());
        if unit == 0 || units.len() > 0x8000 {
            return String::from_utf16_lossy(&units);
        }
        units.push(unit);
    }
}

/// Writes a `UNICODE_STRING` header.
pub(crate) fn set_unicode(va: Va, buffer: Va, length: usize, maximum: usize) {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "counted strings have 16-bit lengths"
    )]
    {
        poke(va, length as u16);
        poke(va + 2, maximum as u16);
    }
    poke(va + 8, buffer);
}

pub(crate) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

//! URBs: the requests of the USB stack.

use core::{
    mem::offset_of,
    ptr::{self, NonNull},
};

use wdk_sys::{
    _URB_BULK_OR_INTERRUPT_TRANSFER, _URB_CONTROL_DESCRIPTOR_REQUEST,
    _URB_CONTROL_VENDOR_OR_CLASS_REQUEST, _URB_HEADER, _URB_PIPE_REQUEST,
    _URB_SELECT_CONFIGURATION, PMDL, PVOID, URB_FUNCTION_BULK_OR_INTERRUPT_TRANSFER,
    URB_FUNCTION_GET_DESCRIPTOR_FROM_DEVICE, URB_FUNCTION_SYNC_RESET_PIPE_AND_CLEAR_STALL,
    URB_FUNCTION_VENDOR_DEVICE, USBD_SHORT_TRANSFER_OK,
};

use crate::ioctl::usbscan::{USBD_TRANSFER_DIRECTION_IN, USBD_TRANSFER_DIRECTION_OUT};

/// `USBD_PIPE_HANDLE`: an open pipe of the selected configuration. A number; only the USB stack
/// knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PipeHandle(usize);

impl PipeHandle {
    pub(super) fn from_raw(handle: PVOID) -> Self {
        Self(handle.expose_provenance())
    }

    fn raw(self) -> PVOID {
        ptr::with_exposed_provenance_mut(self.0)
    }
}

/// A transfer, but for its data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UrbTransfer {
    /// `URB_FUNCTION_BULK_OR_INTERRUPT_TRANSFER`
    Pipe {
        /// The pipe.
        pipe: PipeHandle,
        /// From the device; fewer bytes than asked for are welcome.
        is_in: bool,
    },
    /// `URB_FUNCTION_VENDOR_DEVICE`
    Vendor(VendorTransfer),
    /// `URB_FUNCTION_GET_DESCRIPTOR_FROM_DEVICE`
    Descriptor {
        /// `DescriptorType`
        kind: u8,
        /// `Index`
        index: u8,
        /// `LanguageId`
        language: u16,
    },
}

/// The members of `_URB_CONTROL_VENDOR_OR_CLASS_REQUEST`, but for the data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VendorTransfer {
    /// `TransferFlags`
    pub(crate) flags: u32,
    /// `RequestTypeReservedBits`
    pub(crate) request_type: u8,
    /// `Request`
    pub(crate) request: u8,
    /// `Value`
    pub(crate) value: u16,
    /// `Index`
    pub(crate) index: u16,
}

/// Where the data of a transfer is. Lengths and offsets are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    /// In the buffer of a read or write.
    Caller { offset: usize, length: usize },
    /// In the output buffer of a device control request, from its start.
    Output { length: usize },
    /// In the pipe queue's own memory, from its start.
    Bounce { length: usize },
    /// In the memory that came with the request, from its start.
    Carried { length: usize },
}

impl Data {
    /// How much.
    pub(super) const fn length(self) -> usize {
        let (Self::Caller { length, .. }
        | Self::Output { length }
        | Self::Bounce { length }
        | Self::Carried { length }) = self;
        length
    }
}

/// The same as the USB stack wants it: nonpaged memory, or an MDL of locked pages.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    buffer: PVOID,
    mdl: PMDL,
    length: u32,
}

impl Memory {
    /// Nonpaged memory. No length, no buffer.
    pub(super) fn buffer(start: *mut u8, length: usize) -> Self {
        Self {
            buffer: if length == 0 {
                ptr::null_mut()
            } else {
                start.cast()
            },
            mdl: ptr::null_mut(),
            length: whole(length),
        }
    }

    /// What an MDL describes.
    pub(super) fn pages(mdl: NonNull<wdk_sys::MDL>, length: usize) -> Self {
        Self {
            buffer: ptr::null_mut(),
            mdl: mdl.as_ptr(),
            length: whole(length),
        }
    }

    pub(super) const fn length(self) -> usize {
        self.length as usize
    }
}

/// A length as URBs have it. Requests are no longer than their `ULONG`s say.
fn whole(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The structures of URBs.
///
/// # Safety
/// It begins with its `UrbHeader`, and may be all zero.
pub(super) unsafe trait UrbStructure {}

macro_rules! urb_structures {
    ($($structure:ident)*) => {$(
        const _: () = {
            assert!(offset_of!($structure, Hdr) == 0);
            assert!(size_of::<$structure>() <= u16::MAX as usize);
        };
        // SAFETY: it begins with its header; of numbers and pointers alone.
        unsafe impl UrbStructure for $structure {}
    )*};
}

urb_structures! {
    _URB_BULK_OR_INTERRUPT_TRANSFER
    _URB_CONTROL_DESCRIPTOR_REQUEST
    _URB_CONTROL_VENDOR_OR_CLASS_REQUEST
    _URB_PIPE_REQUEST
    _URB_SELECT_CONFIGURATION
}

/// Makes a URB in zeroed room: its header's `Length` and `Function`, and what `set` sets. Member by
/// member: the bytes between the members of a whole structure could be anything.
///
/// # Safety
/// `room` is zeroed, large enough and aligned, and nothing else refers to it.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked at compile time, and a function code is a USHORT"
)]
#[inline]
pub(super) unsafe fn fill<T: UrbStructure>(
    mut room: NonNull<T>,
    function: u32,
    set: impl FnOnce(&mut T),
) {
    // SAFETY: the caller's promise; it begins with its header.
    let header = unsafe { room.cast::<_URB_HEADER>().as_mut() };
    header.Length = size_of::<T>() as u16;
    header.Function = function as u16;
    // SAFETY: likewise; all zero is a value of it.
    set(unsafe { room.as_mut() });
}

/// Room for a URB of any kind but those that select. What is not set is zero, as usb.h wants
/// of its reserved members.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Urb([u64; 17]);

// `Hdr.Status` is the upper half of the first word, `TransferBufferLength` of the fifth.
const STATUS_WORD: usize = 0;
const LENGTH_WORD: usize = 4;
const _: () = {
    assert!(offset_of!(_URB_HEADER, Function) == 2);
    assert!(offset_of!(_URB_HEADER, Status) == 4);
    assert!(offset_of!(_URB_BULK_OR_INTERRUPT_TRANSFER, TransferBufferLength) == 0x24);
    assert!(offset_of!(_URB_CONTROL_VENDOR_OR_CLASS_REQUEST, TransferBufferLength) == 0x24);
    assert!(offset_of!(_URB_CONTROL_DESCRIPTOR_REQUEST, TransferBufferLength) == 0x24);
};

impl Urb {
    pub(super) const EMPTY: Self = Self([0; 17]);

    /// See [`fill`].
    #[inline]
    fn of<T: UrbStructure>(function: u32, set: impl FnOnce(&mut T)) -> Self {
        const {
            assert!(size_of::<T>() <= size_of::<Self>() && align_of::<T>() <= align_of::<Self>());
        }
        let mut room = Self::EMPTY;
        let place = NonNull::from(&mut room.0).cast::<T>();
        // SAFETY: zeroed, large enough and aligned, and this function's own.
        unsafe { fill(place, function, set) };
        room
    }

    /// The URB of a transfer.
    pub(super) fn transfer(transfer: UrbTransfer, data: Memory) -> Self {
        match transfer {
            UrbTransfer::Pipe { pipe, is_in } => Self::of(
                URB_FUNCTION_BULK_OR_INTERRUPT_TRANSFER,
                |urb: &mut _URB_BULK_OR_INTERRUPT_TRANSFER| {
                    urb.PipeHandle = pipe.raw();
                    urb.TransferFlags = if is_in {
                        USBD_TRANSFER_DIRECTION_IN | USBD_SHORT_TRANSFER_OK
                    } else {
                        USBD_TRANSFER_DIRECTION_OUT
                    };
                    urb.TransferBufferLength = data.length;
                    urb.TransferBuffer = data.buffer;
                    urb.TransferBufferMDL = data.mdl;
                },
            ),
            UrbTransfer::Vendor(vendor) => Self::of(
                URB_FUNCTION_VENDOR_DEVICE,
                |urb: &mut _URB_CONTROL_VENDOR_OR_CLASS_REQUEST| {
                    urb.TransferFlags = vendor.flags;
                    urb.TransferBufferLength = data.length;
                    urb.TransferBuffer = data.buffer;
                    urb.TransferBufferMDL = data.mdl;
                    urb.RequestTypeReservedBits = vendor.request_type;
                    urb.Request = vendor.request;
                    urb.Value = vendor.value;
                    urb.Index = vendor.index;
                },
            ),
            UrbTransfer::Descriptor {
                kind,
                index,
                language,
            } => Self::of(
                URB_FUNCTION_GET_DESCRIPTOR_FROM_DEVICE,
                |urb: &mut _URB_CONTROL_DESCRIPTOR_REQUEST| {
                    urb.TransferBufferLength = data.length;
                    urb.TransferBuffer = data.buffer;
                    urb.TransferBufferMDL = data.mdl;
                    urb.Index = index;
                    urb.DescriptorType = kind;
                    urb.LanguageId = language;
                },
            ),
        }
    }

    /// `URB_FUNCTION_SYNC_RESET_PIPE_AND_CLEAR_STALL`
    pub(super) fn reset_pipe(pipe: PipeHandle) -> Self {
        Self::of(
            URB_FUNCTION_SYNC_RESET_PIPE_AND_CLEAR_STALL,
            |urb: &mut _URB_PIPE_REQUEST| urb.PipeHandle = pipe.raw(),
        )
    }

    /// `TransferBufferLength` of a transfer that came back: how many bytes were moved.
    pub(super) fn moved(&self) -> usize {
        usize::try_from(self.upper_half(LENGTH_WORD)).unwrap_or(0)
    }

    /// Whether `Hdr.Status` is an error (`USBD_ERROR`). It is a success until the USB stack writes
    /// it.
    pub(super) fn has_failed(&self) -> bool {
        self.upper_half(STATUS_WORD) >> 31 != 0
    }

    /// `Hdr.Status`, a `USBD_STATUS`.
    pub(super) fn usbd_status(&self) -> u32 {
        u32::try_from(self.upper_half(STATUS_WORD)).unwrap_or(0)
    }

    /// `Hdr.Function`
    pub(super) fn function(&self) -> u16 {
        u16::try_from(self.0.first().map_or(0, |word| word >> 16 & 0xFFFF)).unwrap_or(0)
    }

    fn upper_half(&self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |word| word >> 32)
    }
}

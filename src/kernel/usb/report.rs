//! What events say of a URB that did not go well.

use super::{super::event, urb::Urb};
use crate::{
    ioctl::Status,
    trace::{Cause, Label, TraceEvent},
};

/// A URB failed, or was not over in time, for the reason `why`. One that was cancelled did neither.
pub(super) fn failure(
    label: Label,
    pipe_mask: u32,
    urb: &Urb,
    status: Status,
    why: Option<Status>,
    moved: usize,
) {
    match why {
        Some(Status::IO_TIMEOUT) if moved == 0 => timed_out(label, urb.function()),
        None if status != Status::CANCELLED => {
            // An index is less than eight.
            let pipe = match pipe_mask {
                0 => CONTROL_PIPE,
                pipe_mask => u8::try_from(pipe_mask.trailing_zeros()).unwrap_or(CONTROL_PIPE),
            };
            failed(label, pipe, urb.function(), urb.usbd_status(), status);
        }
        _ => {}
    }
}

/// In events: the default control pipe.
pub(super) const CONTROL_PIPE: u8 = u8::MAX;

/// A URB came back, or would not, and its time was over.
pub(super) fn timed_out(device: Label, function: u16) {
    let mode = match function {
        0x09 => "USB bulk or interrupt transfer",
        0x0B => "USB descriptor request",
        0x17 => "USB vendor request",
        0x1E => "USB reset of a pipe",
        _ => "USB select configuration",
    };
    let what = TraceEvent::TimedOut {
        cause: Cause::Usb,
        mode,
        event: 0,
    };
    event(device, &what);
}

/// A URB failed.
pub(super) fn failed(device: Label, pipe: u8, function: u16, usbd_status: u32, status: Status) {
    let what = TraceEvent::UsbError {
        pipe,
        function,
        usbd_status,
        status,
    };
    event(device, &what);
}

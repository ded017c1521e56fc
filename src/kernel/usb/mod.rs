//! URBs: requests to the USB stack below, with the request of a program ([`PipeQueue`]) or for the
//! driver itself ([`UsbDevice`]).
//!
//! Sources: usb.h and usbioctl.h, and the pages of the `URB` structures in the Windows driver
//! documentation.

mod call;
mod device_urb_gate;
mod mdl;
mod pipe_queue;
mod report;
mod timer;
mod urb;

pub(crate) use call::{PowerCapabilities, SelectedPipe, UsbDevice};
pub(crate) use device_urb_gate::DeviceUrbGate;
pub(crate) use pipe_queue::{
    PipeQueue, PipeQueueOptions, PlanEnd, PlanStep, TimeLimit, TransferPlan,
};
pub(super) use timer::Timer;
pub(crate) use timer::flush_deferred;
pub(crate) use urb::{Data, PipeHandle, UrbTransfer, VendorTransfer};

use mdl::PartialMdl;
use urb::{Memory, Urb};

/// `IOCTL_INTERNAL_USB_SUBMIT_URB` (usbioctl.h): `CTL_CODE(FILE_DEVICE_USB, 0, METHOD_NEITHER,
/// FILE_ANY_ACCESS)`.
pub(super) const IOCTL_INTERNAL_USB_SUBMIT_URB: u32 = 0x0022_0003;

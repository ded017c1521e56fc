//! Device control requests that become one transfer on the default control pipe.

use super::{BufferCache, Limits};
use crate::{
    ioctl::{Status, usbscan::ControlRequest},
    kernel::{Buffer, Data, PlanEnd, PlanStep, Shared, TimeLimit, UrbTransfer, VendorTransfer},
};

/// A request as it travels to the control pipe, with the data that it sends.
pub(super) struct ControlTransfer {
    request: ControlRequest,
    captured: Option<Buffer>,
}

impl ControlTransfer {
    pub(super) const fn new(request: ControlRequest, captured: Option<Buffer>) -> Self {
        Self { request, captured }
    }

    /// The transfer on the wire, but for its data.
    const fn transfer(&self) -> UrbTransfer {
        match self.request {
            // IOCTL_GET_USB_DESCRIPTOR
            ControlRequest::GetUsbDescriptor(descriptor) => UrbTransfer::Descriptor {
                kind: descriptor.descriptor_type,
                index: descriptor.index,
                language: descriptor.language_id,
            },
            // IOCTL_READ_REGISTERS, IOCTL_WRITE_REGISTERS, IOCTL_SEND_USB_REQUEST
            ControlRequest::Vendor(vendor) => UrbTransfer::Vendor(VendorTransfer {
                flags: vendor.flags(),
                request_type: vendor.request_type(),
                request: vendor.request,
                value: vendor.value,
                index: vendor.index,
            }),
        }
    }

    /// Where its data is.
    fn data(&self) -> Data {
        let length = self.request.length();
        if self.request.is_in() {
            Data::Output { length }
        } else {
            Data::Carried { length }
        }
    }
}

/// The requests that become one transfer on the default control pipe. Its methods are those of
/// [`TransferPlan`](crate::kernel::TransferPlan).
pub(super) struct Controls {
    state: ControlState,
    buffer_cache: Shared<BufferCache>,
    limits: Shared<Limits>,
}

enum ControlState {
    /// The transfer is to be sent, or was.
    Transfer(ControlTransfer),
    /// It is done. Status and Information.
    Done(Status, usize),
}

impl Controls {
    /// The memory of short data goes back to `buffer_cache`.
    pub(super) const fn new(buffer_cache: Shared<BufferCache>, limits: Shared<Limits>) -> Self {
        Self {
            state: ControlState::Done(Status::SUCCESS, 0),
            buffer_cache,
            limits,
        }
    }

    /// The transfer is over. What it carried goes back.
    #[inline]
    fn end(&mut self, information: usize) {
        let before = core::mem::replace(
            &mut self.state,
            ControlState::Done(Status::SUCCESS, information),
        );
        if let ControlState::Transfer(ControlTransfer {
            captured: Some(captured),
            ..
        }) = before
        {
            self.buffer_cache.put(captured);
        }
    }

    pub(super) fn begin(&mut self, request: Option<ControlTransfer>) -> TimeLimit {
        let is_in = request.as_ref().is_some_and(|it| it.request.is_in());
        self.state = request.map_or(
            ControlState::Done(Status::INVALID_PARAMETER, 0),
            ControlState::Transfer,
        );
        self.limits.of_control(is_in)
    }

    pub(super) fn next(&self) -> PlanStep {
        match &self.state {
            ControlState::Transfer(transfer) => {
                PlanStep::Transfer(transfer.transfer(), transfer.data())
            }
            ControlState::Done(status, information) => {
                PlanStep::End(PlanEnd::With(*status, *information))
            }
        }
    }

    pub(super) fn carried(&mut self) -> &mut [u8] {
        match &mut self.state {
            ControlState::Transfer(transfer) => {
                transfer.captured.as_deref_mut().unwrap_or_default()
            }
            ControlState::Done(..) => &mut [],
        }
    }

    pub(super) fn moved(&mut self, count: usize) {
        // With more than 0 the request block would be copied over the caller's buffer.
        let is_in = match &self.state {
            ControlState::Transfer(transfer) => transfer.request.is_in(),
            ControlState::Done(..) => false,
        };
        self.end(if is_in { count } else { 0 });
    }

    pub(super) fn ended(&mut self) {
        // A transfer that failed is over, too.
        self.end(0);
    }
}

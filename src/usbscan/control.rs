//! Device control requests that become one transfer on the default control pipe.

use super::{BufferCache, Limits};
use crate::{
    ioctl::{
        Status,
        usbscan::{Bitness, UsbscanRequest, VendorDirection, VendorRequest},
    },
    kernel::{
        Buffer, Data, Irp, PlanEnd, PlanStep, Shared, TimeLimit, TransferPlan, UrbTransfer,
        VendorTransfer,
    },
};

/// The requests that become one transfer on the default control pipe. What a vendor request sends
/// came with it.
pub(super) struct Controls {
    state: ControlState,
    buffer_cache: Shared<BufferCache>,
    limits: Shared<Limits>,
}

enum ControlState {
    /// The request that was parsed.
    Parsed(Result<UsbscanRequest, Status>),
    /// The transfer is done. Information.
    Done(usize),
}

impl Controls {
    /// The memory of short data goes back to `buffer_cache`.
    pub(super) const fn new(buffer_cache: Shared<BufferCache>, limits: Shared<Limits>) -> Self {
        Self {
            state: ControlState::Done(0),
            buffer_cache,
            limits,
        }
    }

    /// Whether the request sends data to the device.
    const fn is_out(&self) -> bool {
        matches!(
            self.state,
            ControlState::Parsed(Ok(UsbscanRequest::Vendor(VendorRequest {
                direction: VendorDirection::Out { .. },
                ..
            })))
        )
    }
}

/// Parses the request of an `IRP_MJ_DEVICE_CONTROL`.
///
/// # Errors
/// As [`UsbscanRequest::parse`].
pub(super) fn parse(irp: &Irp) -> Result<UsbscanRequest, Status> {
    let bitness = if irp.is_from_32_bit_process() {
        Bitness::Bits32
    } else {
        Bitness::Native
    };
    UsbscanRequest::parse(irp.code(), irp.input(), irp.output_length(), bitness)
}

/// The transfer of a vendor request, but for its data.
const fn vendor(request: VendorRequest) -> UrbTransfer {
    UrbTransfer::Vendor(VendorTransfer {
        flags: request.flags(),
        request_type: request.request_type(),
        request: request.request,
        value: request.value,
        index: request.index,
    })
}

impl TransferPlan for Controls {
    fn begin(&mut self, irp: &Irp) -> TimeLimit {
        // It was parsed before it was queued, and its buffer is ours: the same comes out. The
        // answer will overwrite it.
        self.state = ControlState::Parsed(parse(irp));
        self.limits.of_control(!self.is_out())
    }

    fn next(&mut self, _irp: &mut Irp, _bounce: &mut [u8]) -> PlanStep {
        match self.state {
            ControlState::Done(information) => {
                PlanStep::End(PlanEnd::With(Status::SUCCESS, information))
            }
            ControlState::Parsed(Err(status)) => PlanStep::End(PlanEnd::With(status, 0)),
            ControlState::Parsed(Ok(UsbscanRequest::Vendor(request))) => {
                let length = usize::from(request.length);
                let data = match request.direction {
                    VendorDirection::In => Data::Output { length },
                    VendorDirection::Out { .. } => Data::Carried { length },
                };
                PlanStep::Transfer(vendor(request), data)
            }
            ControlState::Parsed(Ok(UsbscanRequest::GetUsbDescriptor(request))) => {
                PlanStep::Transfer(
                    UrbTransfer::Descriptor {
                        kind: request.descriptor_type,
                        index: request.index,
                        language: request.language_id,
                    },
                    Data::Output {
                        length: request.length.into(),
                    },
                )
            }
            // Others are answered without the device.
            ControlState::Parsed(Ok(_)) => {
                PlanStep::End(PlanEnd::With(Status::INVALID_DEVICE_REQUEST, 0))
            }
        }
    }

    fn moved(&mut self, count: usize) {
        // With more than 0 the request block would be copied over the caller's buffer.
        self.state = ControlState::Done(if self.is_out() { 0 } else { count });
    }

    fn give_back(&mut self, carried: Buffer) {
        self.buffer_cache.put(carried);
    }
}

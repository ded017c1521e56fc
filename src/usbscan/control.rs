//! Device control requests that become one transfer on the default control pipe.

use super::{Limits, Stock};
use crate::{
    ioctl::{
        Status,
        usbscan::{Bitness, Direction, UsbscanRequest, VendorRequest},
    },
    kernel::{Buffer, Data, End, Exchange, Irp, Next, Shared, Time, Transfer, VendorTransfer},
};

/// The requests that become one transfer on the default control pipe. What a vendor request sends
/// came with it.
pub(super) struct Controls {
    state: State,
    stock: Shared<Stock>,
    limits: Shared<Limits>,
}

enum State {
    /// The request that was parsed.
    Parsed(Result<UsbscanRequest, Status>),
    /// The transfer is done. Information.
    Done(usize),
}

impl Controls {
    /// The memory of short data goes back to `stock`.
    pub(super) const fn new(stock: Shared<Stock>, limits: Shared<Limits>) -> Self {
        Self {
            state: State::Done(0),
            stock,
            limits,
        }
    }

    /// Whether the request sends data to the device.
    const fn is_out(&self) -> bool {
        matches!(
            self.state,
            State::Parsed(Ok(UsbscanRequest::Vendor(VendorRequest {
                direction: Direction::Out { .. },
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
const fn vendor(request: VendorRequest) -> Transfer {
    Transfer::Vendor(VendorTransfer {
        flags: request.flags(),
        request_type: request.request_type(),
        request: request.request,
        value: request.value,
        index: request.index,
    })
}

impl Exchange for Controls {
    fn begin(&mut self, irp: &Irp) -> Time {
        // It was parsed before it was queued, and its buffer is ours: the same comes out. The
        // answer will overwrite it.
        self.state = State::Parsed(parse(irp));
        self.limits.of_control(!self.is_out())
    }

    fn next(&mut self, _irp: &mut Irp, _own: &mut [u8]) -> Next {
        match self.state {
            State::Done(information) => Next::End(End::With(Status::SUCCESS, information)),
            State::Parsed(Err(status)) => Next::End(End::With(status, 0)),
            State::Parsed(Ok(UsbscanRequest::Vendor(request))) => {
                let length = usize::from(request.length);
                let data = match request.direction {
                    Direction::In => Data::Output { length },
                    Direction::Out { .. } => Data::Carried { length },
                };
                Next::Transfer(vendor(request), data)
            }
            State::Parsed(Ok(UsbscanRequest::GetUsbDescriptor(request))) => Next::Transfer(
                Transfer::Descriptor {
                    kind: request.descriptor_type,
                    index: request.index,
                    language: request.language_id,
                },
                Data::Output {
                    length: request.length.into(),
                },
            ),
            // Others are answered without the device.
            State::Parsed(Ok(_)) => Next::End(End::With(Status::INVALID_DEVICE_REQUEST, 0)),
        }
    }

    fn moved(&mut self, count: usize) {
        // With more than 0 the request block would be copied over the caller's buffer.
        self.state = State::Done(if self.is_out() { 0 } else { count });
    }

    fn give_back(&mut self, carried: Buffer) {
        self.stock.put(carried);
    }
}

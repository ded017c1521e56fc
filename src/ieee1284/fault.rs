//! Why an operation ended without success.

use super::{Condition, Interrupted};
use crate::ioctl::Status;

/// Why an operation ended without success. The port is back in compatibility mode then, unless the
/// operation was refused before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The port's owner ended it: [`Interrupted`].
    Interrupted,
    /// No answer to the request for a mode (event 2): no IEEE 1284 peripheral, or none at all.
    NotIeee1284,
    /// The peripheral does not have the mode (`XFlag`).
    Refused,
    /// The peripheral did not answer within the standard's limit. The number is the event that
    /// did not come.
    NoAnswer(u8),
    /// An EPP cycle ended without the peripheral.
    EppTimeOut,
    /// The status lines say why: off-line, out of paper, not there.
    Condition(Condition),
    /// A mode is connected, and the operation needs compatibility mode.
    Connected,
    /// The port's hardware cannot do it.
    Unsupported,
    /// The address does not exist in the mode: ECP channels are 0 to 127.
    Address,
}

impl Fault {
    /// The status of a request that ended so. For [`Fault::Interrupted`] the caller knows better.
    #[must_use]
    #[inline(never)]
    pub const fn status(self) -> Status {
        match self {
            Self::Interrupted => Status::CANCELLED,
            Self::NotIeee1284 | Self::Refused | Self::NoAnswer(_) | Self::EppTimeOut => {
                Status::IO_DEVICE_ERROR
            }
            Self::Condition(condition) => match condition.status() {
                // Lines that changed their mind: it was a fault when it was looked at.
                Status::SUCCESS => Status::IO_DEVICE_ERROR,
                status => status,
            },
            Self::Connected => Status::DEVICE_PROTOCOL_ERROR,
            Self::Unsupported => Status::NOT_SUPPORTED,
            Self::Address => Status::INVALID_PARAMETER,
        }
    }
}

impl From<Interrupted> for Fault {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ieee1284::Dsr;

    #[test]
    fn statuses() {
        let condition = |dsr| Fault::Condition(Condition::of(Dsr::from_bits_retain(dsr)));
        for (fault, status) in [
            (Fault::Interrupted, Status::CANCELLED),
            (Fault::NotIeee1284, Status::IO_DEVICE_ERROR),
            (Fault::Refused, Status::IO_DEVICE_ERROR),
            (Fault::NoAnswer(36), Status::IO_DEVICE_ERROR),
            (Fault::EppTimeOut, Status::IO_DEVICE_ERROR),
            (condition(0x70), Status::DEVICE_PAPER_EMPTY),
            (condition(0xC8), Status::DEVICE_OFF_LINE),
            (condition(0x78), Status::DEVICE_NOT_CONNECTED),
            (condition(0x00), Status::DEVICE_POWERED_OFF),
            (condition(0xD8), Status::IO_DEVICE_ERROR),
            (Fault::Connected, Status::DEVICE_PROTOCOL_ERROR),
            (Fault::Unsupported, Status::NOT_SUPPORTED),
            (Fault::Address, Status::INVALID_PARAMETER),
        ] {
            assert_eq!(fault.status(), status, "{fault:?}");
        }
    }
}

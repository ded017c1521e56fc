//! `NTSTATUS` values, by their names.

use core::fmt;

/// An `NTSTATUS`.
///
/// The names and values are those of ntstatus.h; only the ones this driver answers with are named.
/// The two top bits are the severity: success, informational, warning, error. Three of the four
/// printer conditions are *warnings*, which are neither a success nor an error: for them the I/O
/// manager still copies the output buffer to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(pub i32);

/// Declares the named statuses once, for the constants and for [`Status::name`].
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self(($value as u32).cast_signed());)*

            /// The name in ntstatus.h, if this driver uses the status.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0.cast_unsigned() {
                    $($value => Some(concat!("STATUS_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// The request was carried out.
    SUCCESS = 0x0000_0000;
    /// The request was queued and completes later.
    PENDING = 0x0000_0103;
    /// The time for it was over; what was done until then counts. A success, by its number.
    TIMEOUT = 0x0000_0102;
    /// The printer is out of paper. A warning.
    DEVICE_PAPER_EMPTY = 0x8000_000E;
    /// The printer has no power. A warning.
    DEVICE_POWERED_OFF = 0x8000_000F;
    /// The printer is off-line or reports a fault. A warning.
    DEVICE_OFF_LINE = 0x8000_0010;
    /// Another client has the port, and did not give it back in time. A warning.
    DEVICE_BUSY = 0x8000_0011;
    /// No more specific answer fits.
    UNSUCCESSFUL = 0xC000_0001;
    /// Memory of the caller cannot be read or written.
    ACCESS_VIOLATION = 0xC000_0005;
    /// The code is unknown, or an argument is out of its range.
    INVALID_PARAMETER = 0xC000_000D;
    /// The device went away.
    NO_SUCH_DEVICE = 0xC000_000E;
    /// The device does not serve this kind of request at all.
    INVALID_DEVICE_REQUEST = 0xC000_0010;
    /// The device is already open, or the caller may not open it.
    ACCESS_DENIED = 0xC000_0022;
    /// A buffer is shorter than its structure.
    BUFFER_TOO_SMALL = 0xC000_0023;
    /// There is no object of that name.
    OBJECT_NAME_NOT_FOUND = 0xC000_0034;
    /// An object of that name is there already.
    OBJECT_NAME_COLLISION = 0xC000_0035;
    /// The device is being removed.
    DELETE_PENDING = 0xC000_0056;
    /// There was not enough memory.
    INSUFFICIENT_RESOURCES = 0xC000_009A;
    /// Nothing is attached to the port.
    DEVICE_NOT_CONNECTED = 0xC000_009D;
    /// The device is not started.
    DEVICE_NOT_READY = 0xC000_00A3;
    /// The device did not answer in time. An error, unlike `STATUS_TIMEOUT`.
    IO_TIMEOUT = 0xC000_00B5;
    /// The driver does not serve this kind of device.
    NOT_SUPPORTED = 0xC000_00BB;
    /// A directory was asked for.
    NOT_A_DIRECTORY = 0xC000_0103;
    /// The request was cancelled.
    CANCELLED = 0xC000_0120;
    /// The request does not fit the state of things: the port is not locked, or it is already.
    INVALID_DEVICE_STATE = 0xC000_0184;
    /// The device did not answer as it should.
    IO_DEVICE_ERROR = 0xC000_0185;
    /// The device is in a mode in which the request has no meaning.
    DEVICE_PROTOCOL_ERROR = 0xC000_0186;
    /// The resources that Windows assigned do not fit the device.
    DEVICE_CONFIGURATION_ERROR = 0xC000_0182;
    /// The device was pulled out.
    DEVICE_REMOVED = 0xC000_02B6;
    /// The device's power went in the middle of the operation.
    POWER_STATE_INVALID = 0xC000_02D3;
}

impl Status {
    /// Whether this is a success or informational status: `NT_SUCCESS` of ntdef.h.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// Whether this is an error: `NT_ERROR` of ntdef.h. A warning is neither.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0.cast_unsigned() >> 30 == 3
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "NTSTATUS 0x{:08X}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn severities_are_those_of_ntstatus_h() {
        assert!(Status::SUCCESS.is_success());
        assert!(Status::PENDING.is_success());
        for warning in [
            Status::DEVICE_PAPER_EMPTY,
            Status::DEVICE_POWERED_OFF,
            Status::DEVICE_OFF_LINE,
        ] {
            assert!(!warning.is_success() && !warning.is_error(), "{warning:?}");
        }
        for error in [Status::DEVICE_NOT_CONNECTED, Status::BUFFER_TOO_SMALL] {
            assert!(!error.is_success() && error.is_error(), "{error:?}");
        }
    }

    #[test]
    fn names_come_with_their_values() {
        assert_eq!(
            Status(0x8000_000Eu32.cast_signed()).name(),
            Some("STATUS_DEVICE_PAPER_EMPTY")
        );
        assert_eq!(format!("{:?}", Status(1)), "NTSTATUS 0x00000001");
    }
}

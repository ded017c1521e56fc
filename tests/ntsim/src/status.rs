//! NTSTATUS values.

use core::fmt;

/// An NTSTATUS.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtStatus(pub u32);

macro_rules! statuses {
    ($($name:ident = $value:literal;)*) => {
        #[allow(missing_docs, reason = "the names are Windows' own")]
        impl NtStatus {
            $(pub const $name: Self = Self($value);)*

            /// The name without `STATUS_`, if it is one of those known here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0;
    TIMEOUT = 0x102;
    PENDING = 0x103;
    OBJECT_NAME_EXISTS = 0x4000_0000;
    DATATYPE_MISALIGNMENT = 0x8000_0002;
    BUFFER_OVERFLOW = 0x8000_0005;
    DEVICE_PAPER_EMPTY = 0x8000_000E;
    DEVICE_POWERED_OFF = 0x8000_000F;
    DEVICE_OFF_LINE = 0x8000_0010;
    DEVICE_BUSY = 0x8000_0011;
    NO_MORE_ENTRIES = 0x8000_001A;
    UNSUCCESSFUL = 0xC000_0001;
    NOT_IMPLEMENTED = 0xC000_0002;
    INFO_LENGTH_MISMATCH = 0xC000_0004;
    ACCESS_VIOLATION = 0xC000_0005;
    IN_PAGE_ERROR = 0xC000_0006;
    INVALID_HANDLE = 0xC000_0008;
    INVALID_PARAMETER = 0xC000_000D;
    NO_SUCH_DEVICE = 0xC000_000E;
    NO_SUCH_FILE = 0xC000_000F;
    INVALID_DEVICE_REQUEST = 0xC000_0010;
    END_OF_FILE = 0xC000_0011;
    MORE_PROCESSING_REQUIRED = 0xC000_0016;
    NO_MEMORY = 0xC000_0017;
    ACCESS_DENIED = 0xC000_0022;
    BUFFER_TOO_SMALL = 0xC000_0023;
    OBJECT_TYPE_MISMATCH = 0xC000_0024;
    OBJECT_NAME_INVALID = 0xC000_0033;
    OBJECT_NAME_NOT_FOUND = 0xC000_0034;
    OBJECT_NAME_COLLISION = 0xC000_0035;
    OBJECT_PATH_NOT_FOUND = 0xC000_003A;
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B;
    DELETE_PENDING = 0xC000_0056;
    CONFLICTING_ADDRESSES = 0xC000_0018;
    INSUFFICIENT_RESOURCES = 0xC000_009A;
    DEVICE_NOT_CONNECTED = 0xC000_009D;
    DEVICE_NOT_READY = 0xC000_00A3;
    IO_TIMEOUT = 0xC000_00B5;
    NOT_SUPPORTED = 0xC000_00BB;
    INVALID_PARAMETER_1 = 0xC000_00EF;
    INVALID_PARAMETER_2 = 0xC000_00F0;
    INVALID_PARAMETER_10 = 0xC000_00F8;
    NOT_A_DIRECTORY = 0xC000_0103;
    CANCELLED = 0xC000_0120;
    INVALID_DEVICE_STATE = 0xC000_0184;
    IO_DEVICE_ERROR = 0xC000_0185;
    DEVICE_PROTOCOL_ERROR = 0xC000_0186;
    NOT_FOUND = 0xC000_0225;
    DEVICE_REMOVED = 0xC000_02B6;
    POWER_STATE_INVALID = 0xC000_02D3;
}

impl NtStatus {
    /// `NT_SUCCESS`: success or informational.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 < 0x8000_0000
    }

    /// `NT_ERROR`: the highest severity; nothing is copied back to the caller.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >= 0xC000_0000
    }

    pub(crate) const fn raw(self) -> i32 {
        self.0.cast_signed()
    }
}

impl From<i32> for NtStatus {
    fn from(value: i32) -> Self {
        Self(value.cast_unsigned())
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "STATUS_{name}"),
            None => write!(f, "STATUS {:#010X}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

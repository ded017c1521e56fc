//! ntddpar.h, as a program that includes it sees it. Written from the documentation, not taken
//! from the driver.

use crate::header::numbers;

/// The `Init` of `PAR_SET_INFORMATION`.
pub const PARALLEL_INIT: u8 = 0x01;

/// `PARALLEL_PAPER_EMPTY`
pub const PARALLEL_PAPER_EMPTY: u8 = 0x04;
/// `PARALLEL_OFF_LINE`
pub const PARALLEL_OFF_LINE: u8 = 0x08;
/// `PARALLEL_POWER_OFF`
pub const PARALLEL_POWER_OFF: u8 = 0x10;
/// `PARALLEL_NOT_CONNECTED`
pub const PARALLEL_NOT_CONNECTED: u8 = 0x20;
/// `PARALLEL_BUSY`
pub const PARALLEL_BUSY: u8 = 0x40;
/// `PARALLEL_SELECTED`
pub const PARALLEL_SELECTED: u8 = 0x80;

/// Name and flag of each bit of `PAR_QUERY_INFORMATION.Status`.
pub const FLAGS: [(u8, &str); 6] = [
    (PARALLEL_SELECTED, "SELECTED"),
    (PARALLEL_BUSY, "BUSY"),
    (PARALLEL_PAPER_EMPTY, "PAPER_EMPTY"),
    (PARALLEL_OFF_LINE, "OFF_LINE"),
    (PARALLEL_POWER_OFF, "POWER_OFF"),
    (PARALLEL_NOT_CONNECTED, "NOT_CONNECTED"),
];

/// `GUID_DEVINTERFACE_PARALLEL`, of ports.
pub const GUID_DEVINTERFACE_PARALLEL: &str = "{97F76EF0-F883-11D0-AF1F-0000F800845C}";
/// `GUID_DEVINTERFACE_PARCLASS`, of devices.
pub const GUID_DEVINTERFACE_PARCLASS: &str = "{811FC6A5-F728-11D0-A537-0000F8753ED1}";

/// `SERIAL_TIMEOUTS`, in milliseconds: `ReadIntervalTimeout`, `ReadTotalTimeoutMultiplier` and
/// `Constant`, `WriteTotalTimeoutMultiplier` and `Constant`.
#[must_use]
pub fn timeouts(fields: [u32; 5]) -> Vec<u8> {
    fields.into_iter().flat_map(u32::to_le_bytes).collect()
}

numbers! {
    /// Every request that the device answers.
    REQUESTS: [u32];
    /// Asks for the status lines.
    IOCTL_PAR_QUERY_INFORMATION = 0x0016_0004;
    /// Resets and initialises the device.
    IOCTL_PAR_SET_INFORMATION = 0x0016_0008;
    /// Asks for the device ID.
    IOCTL_PAR_QUERY_DEVICE_ID = 0x0016_000C;
    /// Asks how long it is.
    IOCTL_PAR_QUERY_DEVICE_ID_SIZE = 0x0016_0010;
    /// Asks for the modes in use.
    IOCTL_IEEE1284_GET_MODE = 0x0016_0014;
    /// Chooses modes.
    IOCTL_IEEE1284_NEGOTIATE = 0x0016_0018;
    /// Sets the ECP channel or EPP address for writing.
    IOCTL_PAR_SET_WRITE_ADDRESS = 0x0016_001C;
    /// Sets it for reading.
    IOCTL_PAR_SET_READ_ADDRESS = 0x0016_0020;
    /// Asks for the modes that the device has.
    IOCTL_PAR_GET_DEVICE_CAPS = 0x0016_0024;
    /// Asks for the default modes.
    IOCTL_PAR_GET_DEFAULT_MODES = 0x0016_0028;
    /// Asks for the device ID as the device sent it.
    IOCTL_PAR_QUERY_RAW_DEVICE_ID = 0x0016_0030;
    /// Asks whether the port is free.
    IOCTL_PAR_IS_PORT_FREE = 0x0016_0054;
    /// Asks for the name.
    IOCTL_PAR_QUERY_LOCATION = 0x0016_0058;
    /// Sets time-outs.
    IOCTL_SERIAL_SET_TIMEOUTS = 0x001B_001C;
    /// Asks for them.
    IOCTL_SERIAL_GET_TIMEOUTS = 0x001B_0020;
}

/// The modes as masks.
pub mod modes {
    use crate::header::numbers;

    numbers! {
        /// All that this driver knows, with their names.
        ALL: [(u16, &str)];
        /// Centronics write, the default.
        CENTRONICS = 0x0001;
        /// IEEE 1284 compatibility write.
        IEEE_COMPATIBILITY = 0x0002;
        /// Nibble read, the default.
        NIBBLE = 0x0004;
        /// Byte read.
        BYTE_BIDIR = 0x0010;
        /// EPP by hardware.
        EPP_HW = 0x0020;
        /// EPP by software.
        EPP_SW = 0x0040;
        /// ECP by hardware.
        ECP_HW_NOIRQ = 0x0100;
        /// ECP by software.
        ECP_SW = 0x0400;
    }

    /// `PARCLASS_NEGOTIATION_MASK`: modes for reading, modes for writing.
    #[must_use]
    pub fn mask(read: u16, write: u16) -> [u8; 4] {
        let ([r0, r1], [w0, w1]) = (read.to_le_bytes(), write.to_le_bytes());
        [r0, r1, w0, w1]
    }
}

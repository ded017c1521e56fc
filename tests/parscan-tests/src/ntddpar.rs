//! ntddpar.h, as a program that includes it sees it. Written from the documentation, not taken
//! from the driver.

/// Resets and initialises the device.
pub const IOCTL_PAR_SET_INFORMATION: u32 = 0x0016_0008;
/// Asks for the status lines.
pub const IOCTL_PAR_QUERY_INFORMATION: u32 = 0x0016_0004;

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

/// Asks for the device ID.
pub const IOCTL_PAR_QUERY_DEVICE_ID: u32 = 0x0016_000C;
/// Asks how long it is.
pub const IOCTL_PAR_QUERY_DEVICE_ID_SIZE: u32 = 0x0016_0010;
/// Asks for the modes in use.
pub const IOCTL_IEEE1284_GET_MODE: u32 = 0x0016_0014;
/// Chooses modes.
pub const IOCTL_IEEE1284_NEGOTIATE: u32 = 0x0016_0018;
/// Sets the ECP channel or EPP address for writing.
pub const IOCTL_PAR_SET_WRITE_ADDRESS: u32 = 0x0016_001C;
/// Sets it for reading.
pub const IOCTL_PAR_SET_READ_ADDRESS: u32 = 0x0016_0020;
/// Asks for the modes that the device has.
pub const IOCTL_PAR_GET_DEVICE_CAPS: u32 = 0x0016_0024;
/// Asks for the default modes.
pub const IOCTL_PAR_GET_DEFAULT_MODES: u32 = 0x0016_0028;
/// Asks for the device ID as the device sent it.
pub const IOCTL_PAR_QUERY_RAW_DEVICE_ID: u32 = 0x0016_0030;
/// Asks whether the port is free.
pub const IOCTL_PAR_IS_PORT_FREE: u32 = 0x0016_0054;
/// Asks for the name.
pub const IOCTL_PAR_QUERY_LOCATION: u32 = 0x0016_0058;
/// Sets time-outs.
pub const IOCTL_SERIAL_SET_TIMEOUTS: u32 = 0x001B_001C;
/// Asks for them.
pub const IOCTL_SERIAL_GET_TIMEOUTS: u32 = 0x001B_0020;

/// Every request that the device answers.
pub const REQUESTS: [u32; 15] = [
    IOCTL_PAR_QUERY_INFORMATION,
    IOCTL_PAR_SET_INFORMATION,
    IOCTL_PAR_QUERY_DEVICE_ID,
    IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
    IOCTL_IEEE1284_GET_MODE,
    IOCTL_IEEE1284_NEGOTIATE,
    IOCTL_PAR_SET_WRITE_ADDRESS,
    IOCTL_PAR_SET_READ_ADDRESS,
    IOCTL_PAR_GET_DEVICE_CAPS,
    IOCTL_PAR_GET_DEFAULT_MODES,
    IOCTL_PAR_QUERY_RAW_DEVICE_ID,
    IOCTL_PAR_IS_PORT_FREE,
    IOCTL_PAR_QUERY_LOCATION,
    IOCTL_SERIAL_SET_TIMEOUTS,
    IOCTL_SERIAL_GET_TIMEOUTS,
];

/// `SERIAL_TIMEOUTS`, in milliseconds: `ReadIntervalTimeout`, `ReadTotalTimeoutMultiplier` and
/// `Constant`, `WriteTotalTimeoutMultiplier` and `Constant`.
#[must_use]
pub fn timeouts(fields: [u32; 5]) -> Vec<u8> {
    fields.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The modes as masks.
pub mod modes {
    /// Centronics write, the default.
    pub const CENTRONICS: u16 = 0x0001;
    /// IEEE 1284 compatibility write.
    pub const IEEE_COMPATIBILITY: u16 = 0x0002;
    /// Nibble read, the default.
    pub const NIBBLE: u16 = 0x0004;
    /// Byte read.
    pub const BYTE_BIDIR: u16 = 0x0010;
    /// EPP by hardware.
    pub const EPP_HW: u16 = 0x0020;
    /// EPP by software.
    pub const EPP_SW: u16 = 0x0040;
    /// ECP by hardware.
    pub const ECP_HW_NOIRQ: u16 = 0x0100;
    /// ECP by software.
    pub const ECP_SW: u16 = 0x0400;

    /// All that this driver knows, with their names.
    pub const ALL: [(u16, &str); 8] = [
        (CENTRONICS, "CENTRONICS"),
        (IEEE_COMPATIBILITY, "IEEE_COMPATIBILITY"),
        (NIBBLE, "NIBBLE"),
        (BYTE_BIDIR, "BYTE_BIDIR"),
        (EPP_HW, "EPP_HW"),
        (EPP_SW, "EPP_SW"),
        (ECP_HW_NOIRQ, "ECP_HW_NOIRQ"),
        (ECP_SW, "ECP_SW"),
    ];

    /// `PARCLASS_NEGOTIATION_MASK`: modes for reading, modes for writing.
    #[must_use]
    pub fn mask(read: u16, write: u16) -> [u8; 4] {
        let ([r0, r1], [w0, w1]) = (read.to_le_bytes(), write.to_le_bytes());
        [r0, r1, w0, w1]
    }
}

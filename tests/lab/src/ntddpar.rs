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

//! The steps in which a start can fail, and what the event log says of each. Also read by build.rs,
//! which puts the messages into the image: so this file uses nothing of the crate.

/// Where the start of a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Step {
    /// `AddDevice`: there is no name left for the device object, or no memory, or the device is of
    /// another kind.
    AddDevice = 1,
    /// `START_DEVICE`: the drivers below refused it.
    LowerDrivers = 2,
    /// The I/O ranges that Windows assigned are not those of a parallel port.
    Resources = 3,
    /// The worker thread, or memory.
    Worker = 4,
    /// The USB device descriptor could not be read.
    DeviceDescriptor = 5,
    /// The USB configuration descriptor could not be read.
    ConfigurationDescriptor = 6,
    /// The descriptors contradict themselves, or are not those of a scanner.
    Descriptors = 7,
    /// The USB stack did not select the configuration, or opened other pipes than it has.
    SelectConfiguration = 8,
}

/// `ErrorCode` of a log entry: an error (two bits), of a driver that is not Microsoft's (one bit).
/// The event viewer shows the lower half, the step, as the event's ID.
const ERROR_OF_CUSTOMER: u32 = 0xE000_0000;

impl Step {
    /// Every step.
    pub const ALL: [Self; 8] = [
        Self::AddDevice,
        Self::LowerDrivers,
        Self::Resources,
        Self::Worker,
        Self::DeviceDescriptor,
        Self::ConfigurationDescriptor,
        Self::Descriptors,
        Self::SelectConfiguration,
    ];

    /// `ErrorCode` of the event log's entry, which is the message's ID, too.
    #[must_use]
    pub const fn error_code(self) -> u32 {
        ERROR_OF_CUSTOMER | self as u32
    }

    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddDevice => "AddDevice",
            Self::LowerDrivers => "START_DEVICE of the drivers below",
            Self::Resources => "I/O ranges",
            Self::Worker => "worker thread",
            Self::DeviceDescriptor => "USB device descriptor",
            Self::ConfigurationDescriptor => "USB configuration descriptor",
            Self::Descriptors => "contents of the USB descriptors",
            Self::SelectConfiguration => "select the USB configuration",
        }
    }

    /// What an administrator can do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::AddDevice => {
                "Restart Windows. If the status is 0xC00000BB the INF assigned parscan to a device that it does not serve: choose another driver."
            }
            Self::LowerDrivers => {
                "Look in Device Manager at the port's or hub's own drivers; they refused the device before parscan saw it."
            }
            Self::Resources => {
                "Device Manager, Resources: give the port its standard I/O range, or enable it in the firmware setup."
            }
            Self::Worker => {
                "Windows is short of memory: close programs, and disable and enable the device."
            }
            Self::DeviceDescriptor | Self::ConfigurationDescriptor => {
                "Unplug the device, wait, and plug it into another USB port with another cable. If it happens again the device is defective."
            }
            Self::Descriptors => {
                "The device describes itself wrongly or is no scanner: delete parscan's package for it, or report the device to the project."
            }
            Self::SelectConfiguration => {
                "Connect the device without a hub, or unplug other devices: the bus may lack bandwidth or power for it."
            }
        }
    }
}

use super::{Place, PortNumber};
use crate::{
    ieee1284::{DeviceId, PlugAndPlayId},
    ioctl::Status,
    kernel::{ID_UNITS, Shared, Wide},
};

/// What Windows knows a device on a port by.
#[derive(PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device_id: Text,
    /// Each followed by a NUL.
    pub(super) hardware_ids: Text,
    /// Each followed by a NUL; the best first.
    pub(super) compatible_ids: Text,
    pub(super) description: Text,
}

type Text = Wide<ID_UNITS>;

/// The enumerator, before every ID of it.
const ENUMERATOR: &str = r"LPTENUM\";

impl Identity {
    /// The raw device of a port; 958A is the CRC of the name.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn raw() -> Result<Shared<Self>, Status> {
        Shared::try_new(Self {
            device_id: Wide::new(r"LPTENUM\MicrosoftRawPort"),
            hardware_ids: Wide::new("LPTENUM\\MicrosoftRawPort958A\0MicrosoftRawPort958A\0"),
            compatible_ids: Wide::new(""),
            description: Wide::new("Printer Port Logical Interface"),
        })
    }

    /// A device with an IEEE 1284 device ID. `None`: the ID does not say who it is.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn of(id: DeviceId<'_>) -> Result<Option<Shared<Self>>, Status> {
        let Some(id) = PlugAndPlayId::of(id) else {
            return Ok(None);
        };
        let hardware_id = id.hardware_id();
        let mut compatible_ids = Wide::new("");
        for compatible in id.compatible_ids() {
            let compatible = compatible.as_str();
            // A part of an ID would be another ID.
            if compatible.len() < compatible_ids.room() {
                compatible_ids = compatible_ids.push(compatible).push("\0");
            }
        }
        Shared::try_new(Self {
            device_id: Wide::new(ENUMERATOR).push(id.device_id().as_str()),
            hardware_ids: Wide::new(ENUMERATOR)
                .push(hardware_id.as_str())
                .push("\0")
                .push(hardware_id.as_str())
                .push("\0"),
            compatible_ids,
            description: Wide::new(id.description().as_str()),
        })
        .map(Some)
    }

    /// The instance ID, unique on the port's bus.
    pub(super) fn instance_id(place: Place, number: PortNumber) -> Text {
        place.lpt(number)
    }
}

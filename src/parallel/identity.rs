//! What Windows knows a device on a port by: its IDs and its description.

use super::{Place, PortNumber};
use crate::{
    ieee1284::{DeviceId, PlugAndPlayId},
    ioctl::Status,
    kernel::{ID_UNITS, Shared, Texts, Wide},
};

/// What Windows knows a device on a port by.
pub(super) struct Identity {
    /// Device ID; hardware IDs, each followed by a NUL; compatible IDs, each followed by a NUL, the
    /// best first; description.
    texts: Texts<4, ID_UNITS>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        *self.texts == *other.texts
    }
}

impl Eq for Identity {}

type IdText = Wide<ID_UNITS>;

/// The enumerator, before every ID of it.
const ENUMERATOR: &str = r"LPTENUM\";

impl Identity {
    /// The raw device of a port; 958A is the CRC of the name.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn raw() -> Result<Shared<Self>, Status> {
        let mut texts = Texts::try_empty()?;
        let [device_id, hardware_ids, _, description] = &mut *texts;
        device_id.append(r"LPTENUM\MicrosoftRawPort");
        hardware_ids.append("LPTENUM\\MicrosoftRawPort958A\0MicrosoftRawPort958A\0");
        description.append("Printer Port Logical Interface");
        Shared::try_new(Self { texts })
    }

    /// A device with an IEEE 1284 device ID. `None`: the ID does not say who it is.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn of(id: DeviceId<'_>) -> Result<Option<Shared<Self>>, Status> {
        let Some(id) = PlugAndPlayId::of(id) else {
            return Ok(None);
        };
        let mut texts = Texts::try_empty()?;
        let [device_id, hardware_ids, compatible_ids, description] = &mut *texts;
        device_id.append(ENUMERATOR);
        device_id.append(id.device_id());
        let hardware_id = id.hardware_id();
        hardware_ids.append(ENUMERATOR);
        for _ in 0..2 {
            hardware_ids.append(hardware_id);
            hardware_ids.append("\0");
        }
        id.each_compatible_id(|compatible| {
            // A part of an ID would be another ID.
            if compatible.as_ref().len() < compatible_ids.room() {
                compatible_ids.append(compatible);
                compatible_ids.append("\0");
            }
        });
        description.append(id.description());
        Shared::try_new(Self { texts }).map(Some)
    }

    pub(super) fn device_id(&self) -> IdText {
        let [device_id, ..] = &*self.texts;
        *device_id
    }

    /// Each followed by a NUL.
    pub(super) fn hardware_ids(&self) -> IdText {
        let [_, hardware_ids, ..] = &*self.texts;
        *hardware_ids
    }

    /// Each followed by a NUL; the best first.
    pub(super) fn compatible_ids(&self) -> IdText {
        let [_, _, compatible_ids, _] = &*self.texts;
        *compatible_ids
    }

    pub(super) fn description(&self) -> IdText {
        let [.., description] = &*self.texts;
        *description
    }

    /// The instance ID, unique on the port's bus.
    pub(super) fn instance_id(place: Place, number: PortNumber) -> IdText {
        place.lpt(number)
    }
}

//! The endpoints of the interface that the driver uses.

use super::descriptor::{Descriptors, ENDPOINT, INTERFACE, Malformed, members, total_length};
use crate::ioctl::usbscan::{MAX_NUM_PIPES, PipeInformation, RawPipeType};

/// bInterfaceClass of a still-image device (USB-IF class codes).
const CLASS_STILL_IMAGE: u8 = 0x06;
/// bInterfaceClass of what its vendor defines, which most scanners are.
const CLASS_VENDOR: u8 = 0xFF;

/// wMaxPacketSize: bits 10:0 are the size (USB 2.0, table 9-13).
const PACKET_SIZE: u16 = 0x07FF;
/// The largest packet of any speed (USB 2.0, 5.6.3; USB 3.2, table 9-26).
const MAX_PACKET_SIZE: u16 = 1024;
/// bEndpointAddress: the number, bits 3:0, and IN, bit 7. The others are reserved.
const ENDPOINT_NUMBER: u8 = 0x0F;
const ENDPOINT_IN: u8 = 0x80;

/// The endpoints of the interface that is used, in the order of their descriptors.
///
/// It is the first interface of class 6 (still image) or FF (vendor); if there is none, the first
/// interface. Of it, alternate setting 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipes {
    interface: u8,
    endpoint_count: u8,
    first: [PipeInformation; MAX_NUM_PIPES],
}

impl Pipes {
    /// Checks a whole configuration, as it came from the device: the configuration descriptor and
    /// all that follows it, wTotalLength bytes. More bytes are ignored.
    ///
    /// Sizes of packets are not compared with the speed that the device runs at: there are devices
    /// with an odd one, and they work.
    ///
    /// # Errors
    /// The first thing that is wrong: see [`Malformed`].
    pub fn parse(configuration: &[u8]) -> Result<Self, Malformed> {
        let total = total_length(configuration)?;
        let set = configuration.get(..total).ok_or(Malformed::Truncated)?;
        let (interface, rest) = choose(Descriptors(set))?;
        let mut pipes = Self {
            interface: interface.number,
            endpoint_count: interface.endpoint_count,
            first: [PipeInformation::default(); MAX_NUM_PIPES],
        };
        let mut seen = 0;
        let mut count = 0usize;
        for descriptor in rest {
            let descriptor = descriptor?;
            match descriptor.get(1) {
                Some(&INTERFACE) => break,
                Some(&ENDPOINT) => {}
                // Of a class, of a vendor, or a companion.
                _ => continue,
            }
            let endpoint = endpoint(descriptor)?;
            let bit = address_bit(endpoint.endpoint_address);
            if seen & bit != 0 {
                return Err(Malformed::EndpointAddress);
            }
            seen |= bit;
            if let Some(place) = pipes.first.get_mut(count) {
                *place = endpoint;
            }
            count = count.saturating_add(1);
        }
        if count == usize::from(interface.endpoint_count) {
            Ok(pipes)
        } else {
            Err(Malformed::EndpointCount)
        }
    }

    /// bInterfaceNumber of the interface.
    #[must_use]
    pub const fn interface_number(&self) -> u8 {
        self.interface
    }

    /// How many endpoints the interface has, 30 at most: more, perhaps, than [`Pipes::table`]
    /// tells. `URB_FUNCTION_SELECT_CONFIGURATION` needs room for all.
    #[must_use]
    pub const fn endpoint_count(&self) -> u8 {
        self.endpoint_count
    }

    /// The endpoints that can be used: the first eight. An index of a pipe is a place in here, and
    /// in the `Pipes` member of `USBD_INTERFACE_INFORMATION`.
    #[must_use]
    pub fn table(&self) -> &[PipeInformation] {
        self.first
            .get(..self.endpoint_count.into())
            .unwrap_or(&self.first)
    }
}

/// What matters of an interface descriptor (USB 2.0, table 9-12).
#[derive(Clone, Copy)]
struct ChosenInterface {
    number: u8,
    alternate: u8,
    endpoint_count: u8,
    class: u8,
}

/// The interface that is used, and the descriptors after its own.
///
/// # Errors
/// Those of all descriptors of the configuration, also where another interface is chosen.
fn choose(mut set: Descriptors<'_>) -> Result<(ChosenInterface, Descriptors<'_>), Malformed> {
    let mut chosen: Option<(ChosenInterface, &[u8])> = None;
    while let Some(descriptor) = set.next() {
        let descriptor = descriptor?;
        if descriptor.get(1) != Some(&INTERFACE) {
            continue;
        }
        let [_, _, number, alternate, endpoint_count, class, ..] =
            members::<9>(descriptor, INTERFACE)?;
        let interface = ChosenInterface {
            number,
            alternate,
            endpoint_count,
            class,
        };
        let is_better = chosen.is_none_or(|(other, _)| !other.is_image() && interface.is_image());
        if interface.alternate == 0 && is_better {
            chosen = Some((interface, set.0));
        }
    }
    let (interface, rest) = chosen.ok_or(Malformed::NoInterface)?;
    Ok((interface, Descriptors(rest)))
}

impl ChosenInterface {
    const fn is_image(self) -> bool {
        matches!(self.class, CLASS_STILL_IMAGE | CLASS_VENDOR)
    }
}

/// Checks an endpoint descriptor (USB 2.0, table 9-13).
fn endpoint(descriptor: &[u8]) -> Result<PipeInformation, Malformed> {
    let [_, _, address, attributes, m0, m1, interval] = members(descriptor, ENDPOINT)?;
    if address & ENDPOINT_NUMBER == 0 || address & !(ENDPOINT_NUMBER | ENDPOINT_IN) != 0 {
        return Err(Malformed::EndpointAddress);
    }
    let endpoint = PipeInformation {
        max_packet_size: u16::from_le_bytes([m0, m1]) & PACKET_SIZE,
        endpoint_address: address,
        interval,
        pipe_type: RawPipeType(u32::from(attributes & 3)),
    };
    let least = u16::from(endpoint.pipe().is_some());
    if (least..=MAX_PACKET_SIZE).contains(&endpoint.max_packet_size) {
        Ok(endpoint)
    } else {
        Err(Malformed::PacketSize)
    }
}

/// A bit for each address: OUT endpoints, then IN endpoints.
const fn address_bit(address: u8) -> u32 {
    let number = address & ENDPOINT_NUMBER;
    let out = 1u32.wrapping_shl(number as u32);
    if address & ENDPOINT_IN == 0 {
        out
    } else {
        out << 16
    }
}

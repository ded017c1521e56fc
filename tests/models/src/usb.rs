//! What is on the other end of a USB cable.

use alloc::vec::Vec;

use crate::Nanos;

/// The eight bytes of a SETUP stage [USB 2.0, 9.3].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Setup {
    /// bmRequestType: bit 7 = IN, bits 6 and 5 = standard, class, vendor, the others = recipient.
    pub request_type: u8,
    /// bRequest.
    pub request: u8,
    /// wValue.
    pub value: u16,
    /// wIndex.
    pub index: u16,
    /// wLength, in bytes.
    pub length: u16,
}

impl Setup {
    /// As it goes over the wire: 16-bit members low byte first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.request_type, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// From the wire.
    #[must_use]
    pub const fn from_bytes(b: [u8; 8]) -> Self {
        Self {
            request_type: b[0],
            request: b[1],
            value: u16::from_le_bytes([b[2], b[3]]),
            index: u16::from_le_bytes([b[4], b[5]]),
            length: u16::from_le_bytes([b[6], b[7]]),
        }
    }

    /// Whether the data stage goes from the device to the host.
    #[must_use]
    pub const fn is_in(self) -> bool {
        self.request_type & 0x80 != 0
    }
}

/// How fast the cable is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Speed {
    /// 12 Mbit/s, frames of 1 ms.
    Full,
    /// 480 Mbit/s, microframes of 125 us.
    #[default]
    High,
    /// 5 Gbit/s, microframes of 125 us; bulk packets of 1024 bytes.
    Super,
}

/// How a device answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Data of an IN transaction (empty = a zero-length packet); for OUT, an ACK, and nothing in it.
    Data(Vec<u8>),
    /// Not now.
    Nak,
    /// STALL handshake.
    Stall,
}

impl Answer {
    /// The ACK of an OUT transaction.
    pub const ACK: Self = Self::Data(Vec::new());
}

/// A USB device, as the host controller sees it.
///
/// Times never go back from call to call. Endpoints are named by `bEndpointAddress`: bit 7 = IN.
/// A host calls [`UsbFunction::ready_at`] and [`UsbFunction::attached`] very often and at any
/// moment: they only look.
pub trait UsbFunction {
    /// The speed after the bus reset.
    fn speed(&self) -> Speed;

    /// Whether the device still is on the cable.
    fn attached(&self) -> bool {
        true
    }

    /// Whether its configuration says that it can signal remote wake-up while it is suspended.
    fn can_wake(&self) -> bool {
        false
    }

    /// When `endpoint` (0 = the control endpoint) will answer something else than NAK: a time,
    /// which may be past, or `None`: not before something else happens.
    ///
    /// A device that always says "now" and answers NAK is asked again in every frame.
    fn ready_at(&self, now: Nanos, endpoint: u8) -> Option<Nanos> {
        let _ = endpoint;
        Some(now)
    }

    /// A control transfer on endpoint 0. `data` is the whole OUT data stage. An IN answer may be
    /// shorter than `setup.length`; a longer one is an error of the device, which hosts detect.
    fn control(&mut self, now: Nanos, setup: Setup, data: &[u8]) -> Answer;

    /// The status stage of the control transfer that [`UsbFunction::control`] has answered: whether
    /// the device acknowledges it, or answers STALL.
    fn status_stage(&mut self, now: Nanos) -> bool {
        let _ = now;
        true
    }

    /// An IN token on a bulk or interrupt endpoint: one packet.
    fn packet_in(&mut self, now: Nanos, endpoint: u8) -> Answer;

    /// One OUT packet on a bulk or interrupt endpoint.
    fn packet_out(&mut self, now: Nanos, endpoint: u8, data: &[u8]) -> Answer;

    /// A bus reset: back to the default state, not configured.
    fn bus_reset(&mut self, now: Nanos) {
        let _ = now;
    }
}

/// An endpoint descriptor [USB 2.0, 9.6.6].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// bEndpointAddress: bit 7 = IN, bits 3 to 0 = number.
    pub address: u8,
    /// bmAttributes: bits 1 and 0 = control 0, isochronous 1, bulk 2, interrupt 3.
    pub attributes: u8,
    /// wMaxPacketSize, in bytes.
    pub max_packet: u16,
    /// bInterval: full speed in frames, high speed as a power of two of microframes.
    pub interval: u8,
}

impl Endpoint {
    /// A bulk endpoint.
    #[must_use]
    pub const fn bulk(address: u8, max_packet: u16) -> Self {
        Self {
            address,
            attributes: 2,
            max_packet,
            interval: 0,
        }
    }

    /// An interrupt endpoint.
    #[must_use]
    pub const fn interrupt(address: u8, max_packet: u16, interval: u8) -> Self {
        Self {
            address,
            attributes: 3,
            max_packet,
            interval,
        }
    }

    /// The descriptor's bytes.
    #[must_use]
    pub const fn descriptor(self) -> [u8; 7] {
        let [p0, p1] = self.max_packet.to_le_bytes();
        [7, 5, self.address, self.attributes, p0, p1, self.interval]
    }
}

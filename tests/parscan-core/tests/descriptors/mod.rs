//! A device's configuration, put together by hand.
#![allow(dead_code, reason = "each test uses its part")]

use parscan_core::usb::{Malformed, Pipes};

/// A configuration descriptor, and what follows it.
pub(crate) struct Set(Vec<u8>);

impl Set {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn interface(self, number: u8, alternate: u8, endpoints: u8, class: u8) -> Self {
        self.raw(&[9, 4, number, alternate, endpoints, class, 1, 1, 0])
    }

    pub(crate) fn endpoint(self, address: u8, attributes: u8, packet: u16, interval: u8) -> Self {
        let [p0, p1] = packet.to_le_bytes();
        self.raw(&[7, 5, address, attributes, p0, p1, interval])
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// All bytes, with the right wTotalLength, or the largest one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.with_total(u16::try_from(9 + self.0.len()).unwrap_or(u16::MAX))
    }

    /// All bytes, with this wTotalLength.
    pub(crate) fn with_total(&self, total: u16) -> Vec<u8> {
        let [t0, t1] = total.to_le_bytes();
        [&[9, 2, t0, t1, 1, 1, 0, 0xC0, 50], &self.0[..]].concat()
    }

    pub(crate) fn parse(&self) -> Result<Pipes, Malformed> {
        Pipes::parse(&self.bytes())
    }
}

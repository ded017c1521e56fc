//! Device, configuration and string descriptors of a scanner [USB 2.0, 9.6].

use alloc::{vec, vec::Vec};

use crate::{Endpoint, Scanner, Speed};

/// What a device says of itself, byte for byte as it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorSet {
    /// What is special about it.
    pub name: &'static str,
    /// Device descriptor, 18 bytes if it is in order.
    pub device: Vec<u8>,
    /// Configuration descriptor with all that follows it.
    pub configuration: Vec<u8>,
    /// String descriptors by index; 0 has the languages.
    pub strings: Vec<Vec<u8>>,
}

impl DescriptorSet {
    /// A set in order: one interface of class 6 (still image), subclass 1, protocol 1.
    #[must_use]
    pub fn new(speed: Speed, endpoints: &[Endpoint]) -> Self {
        let usb: u16 = match speed {
            Speed::Full => 0x0110,
            Speed::High => 0x0200,
            Speed::Super => 0x0300,
        };
        // bMaxPacketSize0; of SuperSpeed, its logarithm.
        let control = if speed == Speed::Super { 9 } else { 64 };
        let mut device = vec![18, 1];
        device.extend(usb.to_le_bytes());
        // Class, subclass and protocol are the interface's.
        device.extend([0, 0, 0, control]);
        device.extend(Scanner::VENDOR.to_le_bytes());
        device.extend(Scanner::PRODUCT.to_le_bytes());
        device.extend(Scanner::RELEASE.to_le_bytes());
        // iManufacturer, iProduct, iSerialNumber, bNumConfigurations.
        device.extend([1, 2, 3, 1]);
        let count = u8::try_from(endpoints.len()).unwrap_or(u8::MAX);
        let mut body = vec![9, 4, 0, 0, count, 6, 1, 1, 0];
        for endpoint in endpoints {
            body.extend(endpoint.descriptor());
            if speed == Speed::Super {
                // SUPERSPEED_USB_ENDPOINT_COMPANION [USB 3.2, 9.6.7]: no bursts; wBytesPerInterval.
                let periodic = endpoint.attributes & 3 == 3;
                let [b0, b1] = if periodic { endpoint.max_packet } else { 0 }.to_le_bytes();
                body.extend([6, 0x30, 0, 0, b0, b1]);
            }
        }
        Self {
            name: "in order",
            device,
            configuration: configuration(1, &body),
            strings: vec![
                vec![4, 3, 0x09, 0x04],
                string("parscan"),
                string("Model scanner"),
                string("0001"),
            ],
        }
    }
}

/// A configuration descriptor with `bConfigurationValue` 1 in front of `body`.
pub(super) fn configuration(interfaces: u8, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(9 + body.len()).unwrap_or(u16::MAX);
    let [t0, t1] = total.to_le_bytes();
    // iConfiguration, bmAttributes: self-powered, bMaxPower.
    let mut bytes = vec![9, 2, t0, t1, interfaces, 1, 0, 0xC0, 0];
    bytes.extend(body);
    bytes
}

/// A string descriptor.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, 3];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes[0] = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    bytes
}

//! usbscan.h, as a program that includes it sees it. Written from the documentation, not taken
//! from the driver.

use ntsim::Caller;

/// Asks for the driver's version: [`DrvVersion`].
pub const IOCTL_GET_VERSION: u32 = 0x8000_2000;
/// Ends what goes on in one of the handle's pipes; input [`pipe_type`].
pub const IOCTL_CANCEL_IO: u32 = 0x8000_2004;
/// Waits for a packet of the interrupt pipe.
pub const IOCTL_WAIT_ON_DEVICE_EVENT: u32 = 0x8000_2008;
/// Reads device registers; input [`IoBlock`].
pub const IOCTL_READ_REGISTERS: u32 = 0x8000_200C;
/// Writes them; input [`IoBlock`].
pub const IOCTL_WRITE_REGISTERS: u32 = 0x8000_2010;
/// Asks for the largest packets of the handle's pipes: [`ChannelInfo`].
pub const IOCTL_GET_CHANNEL_ALIGN_RQST: u32 = 0x8000_2014;
/// Asks for vendor, product and release: [`DeviceDescriptor`].
pub const IOCTL_GET_DEVICE_DESCRIPTOR: u32 = 0x8000_2018;
/// Resets one of the handle's pipes; input [`pipe_type`].
pub const IOCTL_RESET_PIPE: u32 = 0x8000_201C;
/// Asks for a descriptor as the device sends it; input [`get_descriptor`].
pub const IOCTL_GET_USB_DESCRIPTOR: u32 = 0x8000_2020;
/// Sends any vendor request; input [`IoBlockEx`].
pub const IOCTL_SEND_USB_REQUEST: u32 = 0x8000_2024;
/// Asks for all endpoints: [`PipeInformation`].
pub const IOCTL_GET_PIPE_CONFIGURATION: u32 = 0x8000_2028;
/// Sets time-outs; input [`timeout`].
pub const IOCTL_SET_TIMEOUT: u32 = 0x8000_202C;

/// Every request.
pub const REQUESTS: [u32; 12] = [
    IOCTL_GET_VERSION,
    IOCTL_CANCEL_IO,
    IOCTL_WAIT_ON_DEVICE_EVENT,
    IOCTL_READ_REGISTERS,
    IOCTL_WRITE_REGISTERS,
    IOCTL_GET_CHANNEL_ALIGN_RQST,
    IOCTL_GET_DEVICE_DESCRIPTOR,
    IOCTL_RESET_PIPE,
    IOCTL_GET_USB_DESCRIPTOR,
    IOCTL_SEND_USB_REQUEST,
    IOCTL_GET_PIPE_CONFIGURATION,
    IOCTL_SET_TIMEOUT,
];

/// `EVENT_PIPE`
pub const EVENT_PIPE: u32 = 0;
/// `READ_DATA_PIPE`
pub const READ_DATA_PIPE: u32 = 1;
/// `WRITE_DATA_PIPE`
pub const WRITE_DATA_PIPE: u32 = 2;
/// `ALL_PIPE`
pub const ALL_PIPE: u32 = 3;

/// `MAX_NUM_PIPES`
pub const MAX_NUM_PIPES: usize = 8;
/// `GUID_DEVINTERFACE_IMAGE`, also the setup class.
pub const GUID_DEVINTERFACE_IMAGE: &str = "{6BDD1FC6-810F-11D0-BEC7-08002BE2092F}";

/// `PIPE_TYPE` as an input buffer.
#[must_use]
pub fn pipe_type(pipe: u32) -> [u8; 4] {
    pipe.to_le_bytes()
}

/// `IO_BLOCK`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoBlock {
    /// `uOffset`: first register; its low 16 bits go to the device.
    pub offset: u32,
    /// `uLength`, bytes.
    pub length: u32,
    /// `pbyData`, an address of the caller; 32-bit callers send its low half.
    pub data: u64,
    /// `uIndex`; its low 16 bits go to the device.
    pub index: u32,
}

impl IoBlock {
    /// As the compiler lays it out for this caller: 24 bytes, 16 for a 32-bit one.
    #[must_use]
    pub fn bytes(self, caller: Caller) -> Vec<u8> {
        let mut bytes = head(self, caller);
        align(&mut bytes, caller);
        bytes
    }
}

/// `IO_BLOCK_EX`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoBlockEx {
    /// The members that it shares with `IO_BLOCK`.
    pub block: IoBlock,
    /// `bRequest`
    pub request: u8,
    /// `bmRequestType`, documented as not used.
    pub request_type: u8,
    /// `fTransferDirectionIn`: zero = to the device.
    pub direction_in: u8,
}

impl IoBlockEx {
    /// As the compiler lays it out for this caller: 24 bytes, 20 for a 32-bit one.
    #[must_use]
    pub fn bytes(self, caller: Caller) -> Vec<u8> {
        let mut bytes = head(self.block, caller);
        bytes.extend([self.request, self.request_type, self.direction_in, 0]);
        align(&mut bytes, caller);
        bytes
    }
}

/// `uOffset`, `uLength`, `pbyData`, `uIndex`.
fn head(block: IoBlock, caller: Caller) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(block.offset.to_le_bytes());
    bytes.extend(block.length.to_le_bytes());
    let pointer = if caller == Caller::User32 { 4 } else { 8 };
    bytes.extend(&block.data.to_le_bytes()[..pointer]);
    bytes.extend(block.index.to_le_bytes());
    bytes
}

/// Pads to the alignment of the structure, which is that of its pointer.
fn align(bytes: &mut Vec<u8>, caller: Caller) {
    let pointer = if caller == Caller::User32 { 4 } else { 8 };
    bytes.resize(bytes.len().next_multiple_of(pointer), 0);
}

/// `USBSCAN_GET_DESCRIPTOR` as an input buffer; type 1 device, 2 configuration, 3 string.
#[must_use]
pub fn get_descriptor(kind: u8, index: u8, language: u16) -> [u8; 4] {
    let [low, high] = language.to_le_bytes();
    [kind, index, low, high]
}

/// `USBSCAN_TIMEOUT` as an input buffer, seconds.
#[must_use]
pub fn timeout(read: u32, write: u32, event: u32) -> Vec<u8> {
    [read, write, event]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// A 32-bit member of an output buffer.
///
/// # Panics
/// If the buffer is shorter.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let member = bytes[at..at + 4].try_into();
    u32::from_le_bytes(member.expect("four bytes"))
}

/// A 16-bit member of an output buffer.
///
/// # Panics
/// If the buffer is shorter.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// `DRV_VERSION`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrvVersion {
    /// `major`
    pub major: u32,
    /// `minor`
    pub minor: u32,
    /// `internal`
    pub internal: u32,
}

impl DrvVersion {
    /// Size in bytes.
    pub const SIZE: usize = 12;

    /// Reads an output buffer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            major: u32_at(bytes, 0),
            minor: u32_at(bytes, 4),
            internal: u32_at(bytes, 8),
        }
    }
}

/// `CHANNEL_INFO`: largest packets, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// `EventChannelSize`, of the interrupt pipe.
    pub event: u32,
    /// `uReadDataAlignment`, of the bulk IN pipe.
    pub read: u32,
    /// `uWriteDataAlignment`, of the bulk OUT pipe.
    pub write: u32,
}

impl ChannelInfo {
    /// Size in bytes.
    pub const SIZE: usize = 12;

    /// Reads an output buffer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            event: u32_at(bytes, 0),
            read: u32_at(bytes, 4),
            write: u32_at(bytes, 8),
        }
    }
}

/// `DEVICE_DESCRIPTOR`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDescriptor {
    /// `usVendorId`
    pub vendor: u16,
    /// `usProductId`
    pub product: u16,
    /// `usBcdDevice`
    pub release: u16,
    /// `usLanguageId`, not used.
    pub language: u16,
}

impl DeviceDescriptor {
    /// Size in bytes.
    pub const SIZE: usize = 8;

    /// Reads an output buffer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            vendor: u16_at(bytes, 0),
            product: u16_at(bytes, 2),
            release: u16_at(bytes, 4),
            language: u16_at(bytes, 6),
        }
    }
}

/// `USBSCAN_PIPE_INFORMATION`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeInformation {
    /// `MaximumPacketSize`, bytes.
    pub max_packet: u16,
    /// `EndpointAddress`; bit 7 = IN.
    pub endpoint: u8,
    /// `Interval`
    pub interval: u8,
    /// `PipeType`: control 0, isochronous 1, bulk 2, interrupt 3.
    pub kind: u32,
}

/// Size of `USBSCAN_PIPE_CONFIGURATION` in bytes.
pub const PIPE_CONFIGURATION_SIZE: usize = 4 + MAX_NUM_PIPES * 8;

/// Reads a `USBSCAN_PIPE_CONFIGURATION`: `NumberOfPipes` and all eight places.
#[must_use]
pub fn pipe_configuration(bytes: &[u8]) -> (u32, Vec<PipeInformation>) {
    let pipes = (0..MAX_NUM_PIPES).map(|i| {
        let at = 4 + 8 * i;
        PipeInformation {
            max_packet: u16_at(bytes, at),
            endpoint: bytes[at + 2],
            interval: bytes[at + 3],
            kind: u32_at(bytes, at + 4),
        }
    });
    (u32_at(bytes, 0), pipes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: IoBlock = IoBlock {
        offset: 0x1122_3344,
        length: 0x10,
        data: 0x5566_7788_99AA_BBCC,
        index: 7,
    };

    #[test]
    fn blocks_have_the_caller_s_layout() {
        // Offsets and sizes of usbscan.h compiled for x64 and x86.
        let native = BLOCK.bytes(Caller::User64);
        assert_eq!((native.len(), native[8], native[0x10]), (24, 0xCC, 7));
        let narrow = BLOCK.bytes(Caller::User32);
        assert_eq!((narrow.len(), narrow[8], narrow[0xC]), (16, 0xCC, 7));
        let block = IoBlockEx {
            block: BLOCK,
            request: 0xA1,
            request_type: 0xA2,
            direction_in: 1,
        };
        let native = block.bytes(Caller::User64);
        assert_eq!(
            (native.len(), &native[0x14..]),
            (24, &[0xA1, 0xA2, 1, 0][..])
        );
        let narrow = block.bytes(Caller::User32);
        assert_eq!(
            (narrow.len(), &narrow[0x10..]),
            (20, &[0xA1, 0xA2, 1, 0][..])
        );
    }

    #[test]
    fn codes_are_in_order() {
        for (n, code) in (0..).zip(REQUESTS) {
            assert_eq!(code, 0x8000_2000 + 4 * n);
        }
        assert_eq!(PIPE_CONFIGURATION_SIZE, 68);
    }
}

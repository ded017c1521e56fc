//! Control codes and layouts of usbscan.h, as a program sees them: requests are written, answers
//! are read.

pub use parscan_core::ioctl::usbscan::{
    IOCTL_CANCEL_IO, IOCTL_GET_CHANNEL_ALIGN_RQST, IOCTL_GET_DEVICE_DESCRIPTOR,
    IOCTL_GET_PIPE_CONFIGURATION, IOCTL_GET_USB_DESCRIPTOR, IOCTL_GET_VERSION,
    IOCTL_READ_REGISTERS, IOCTL_RESET_PIPE, IOCTL_SEND_USB_REQUEST, IOCTL_SET_TIMEOUT,
    IOCTL_WAIT_ON_DEVICE_EVENT, IOCTL_WRITE_REGISTERS,
};

/// `PIPE_TYPE`: a pipe of this handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Pipe {
    /// `EVENT_PIPE`, interrupt
    Event = 0,
    /// `READ_DATA_PIPE`, bulk IN
    ReadData = 1,
    /// `WRITE_DATA_PIPE`, bulk OUT
    WriteData = 2,
    /// `ALL_PIPE`: every pipe of the device, also those of other programs
    All = 3,
}

/// `DRV_VERSION`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverVersion {
    /// `major`
    pub major: u32,
    /// `minor`
    pub minor: u32,
    /// `internal`
    pub internal: u32,
}

/// `CHANNEL_INFO`: the largest packets of this handle's pipes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// `EventChannelSize`
    pub event: u32,
    /// `uReadDataAlignment`
    pub read_data: u32,
    /// `uWriteDataAlignment`
    pub write_data: u32,
}

/// `DEVICE_DESCRIPTOR`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDescriptor {
    /// `usVendorId`
    pub vendor_id: u16,
    /// `usProductId`
    pub product_id: u16,
    /// `usBcdDevice`
    pub bcd_device: u16,
}

/// `USBSCAN_PIPE_INFORMATION`: an endpoint of the device, all but endpoint 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeInformation {
    /// `MaximumPacketSize`, in bytes
    pub maximum_packet_size: u16,
    /// `EndpointAddress`; bit 7 is IN
    pub endpoint_address: u8,
    /// `Interval`
    pub interval: u8,
    /// `PipeType`
    pub kind: PipeKind,
}

/// `RAW_PIPE_TYPE`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeKind {
    /// `USBSCAN_PIPE_CONTROL`
    Control,
    /// `USBSCAN_PIPE_ISOCHRONOUS`
    Isochronous,
    /// `USBSCAN_PIPE_BULK`
    Bulk,
    /// `USBSCAN_PIPE_INTERRUPT`
    Interrupt,
    /// A number that the header does not have
    Unknown(u32),
}

/// `USBSCAN_TIMEOUT`: seconds, 0 for ever, 214 at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// `TimeoutRead`
    pub read: u32,
    /// `TimeoutWrite`
    pub write: u32,
    /// `TimeoutEvent`
    pub event: u32,
}

impl Timeouts {
    /// The structure.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (fields, _) = bytes.as_chunks_mut();
        for (field, value) in fields.iter_mut().zip([self.read, self.write, self.event]) {
            *field = u32::to_le_bytes(value);
        }
        bytes
    }
}

/// `IO_BLOCK`, or `IO_BLOCK_EX` where `request` is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoBlock {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// `pbyData`
    pub(crate) data: u64,
    pub(crate) index: u32,
    pub(crate) extension: Option<Extension>,
}

/// What `IO_BLOCK_EX` adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) request: u8,
    pub(crate) direction_in: bool,
}

impl IoBlock {
    /// The structure, with pointers of `pointer` bytes (8 or 4) and its padding.
    pub(crate) fn to_bytes(self, pointer: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(self.data.to_le_bytes().iter().take(pointer));
        bytes.extend(self.index.to_le_bytes());
        if let Some(extension) = self.extension {
            // bmRequestType: the documentation says both that it is used and that it is not. This
            // is what it would be.
            let request_type = if extension.direction_in { 0xC0 } else { 0x40 };
            bytes.extend([
                extension.request,
                request_type,
                u8::from(extension.direction_in),
                0,
            ]);
        }
        bytes.resize(bytes.len().next_multiple_of(pointer), 0);
        bytes
    }
}

/// Three `ULONG`s.
fn three(bytes: [u8; 12]) -> [u32; 3] {
    let (fields, _) = bytes.as_chunks();
    let mut values = [0; 3];
    for (value, field) in values.iter_mut().zip(fields) {
        *value = u32::from_le_bytes(*field);
    }
    values
}

impl DriverVersion {
    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Self {
        let [major, minor, internal] = three(bytes);
        Self {
            major,
            minor,
            internal,
        }
    }
}

impl ChannelInfo {
    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Self {
        let [event, read_data, write_data] = three(bytes);
        Self {
            event,
            read_data,
            write_data,
        }
    }
}

impl DeviceDescriptor {
    pub(crate) fn from_bytes([v0, v1, p0, p1, b0, b1, ..]: [u8; 8]) -> Self {
        Self {
            vendor_id: u16::from_le_bytes([v0, v1]),
            product_id: u16::from_le_bytes([p0, p1]),
            bcd_device: u16::from_le_bytes([b0, b1]),
        }
    }
}

impl PipeInformation {
    fn from_bytes([s0, s1, endpoint_address, interval, t0, t1, t2, t3]: [u8; 8]) -> Self {
        Self {
            maximum_packet_size: u16::from_le_bytes([s0, s1]),
            endpoint_address,
            interval,
            kind: match u32::from_le_bytes([t0, t1, t2, t3]) {
                0 => PipeKind::Control,
                1 => PipeKind::Isochronous,
                2 => PipeKind::Bulk,
                3 => PipeKind::Interrupt,
                other => PipeKind::Unknown(other),
            },
        }
    }

    /// `USBSCAN_PIPE_CONFIGURATION`: `NumberOfPipes`, and room for eight.
    pub(crate) fn list(bytes: [u8; 68]) -> Vec<Self> {
        let (count, pipes) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let (pipes, _) = pipes.as_chunks();
        pipes
            .iter()
            .take(count)
            .map(|pipe| Self::from_bytes(*pipe))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_usbscan_h() {
        assert_eq!(IOCTL_GET_VERSION, 0x8000_2000);
        assert_eq!(IOCTL_READ_REGISTERS, 0x8000_200C);
        assert_eq!(IOCTL_RESET_PIPE, 0x8000_201C);
        assert_eq!(IOCTL_SET_TIMEOUT, 0x8000_202C);
    }

    const BLOCK: IoBlock = IoBlock {
        offset: 0x1122_3344,
        length: 5,
        data: 0x7FFE_DCBA_9876,
        index: 0x0A0B_0C0D,
        extension: None,
    };
    const EXTENSION: Extension = Extension {
        request: 0x9A,
        direction_in: true,
    };

    /// Sizes and offsets as compiled from usbscan.h: uOffset 0, uLength 4, pbyData 8, uIndex 0x10
    /// (0x0C), bRequest 0x14 (0x10), bmRequestType, fTransferDirectionIn.
    #[test]
    fn blocks_have_the_layout_of_a_64_bit_program() {
        let block = BLOCK.to_bytes(8);
        assert_eq!(
            block,
            [
                0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x7F, 0, 0, 0x0D,
                0x0C, 0x0B, 0x0A, 0, 0, 0, 0
            ]
        );
        let extended = IoBlock {
            extension: Some(EXTENSION),
            ..BLOCK
        }
        .to_bytes(8);
        assert_eq!(extended[..20], block[..20]);
        assert_eq!(extended[20..], [0x9A, 0xC0, 1, 0]);
    }

    #[test]
    fn blocks_have_the_layout_of_a_32_bit_program() {
        let block = BLOCK.to_bytes(4);
        assert_eq!(
            block,
            [
                0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0, 0x76, 0x98, 0xBA, 0xDC, 0x0D, 0x0C, 0x0B, 0x0A
            ]
        );
        let extended = IoBlock {
            extension: Some(Extension {
                direction_in: false,
                ..EXTENSION
            }),
            ..BLOCK
        }
        .to_bytes(4);
        assert_eq!(extended[16..], [0x9A, 0x40, 0, 0]);
    }

    #[test]
    fn the_pipe_table_has_eight_places() {
        let mut bytes = [0xEE; 68];
        bytes[..12].copy_from_slice(&[1, 0, 0, 0, 0, 2, 0x82, 0, 2, 0, 0, 0]);
        assert_eq!(
            PipeInformation::list(bytes),
            [PipeInformation {
                maximum_packet_size: 512,
                endpoint_address: 0x82,
                interval: 0,
                kind: PipeKind::Bulk,
            }]
        );
        bytes[..4].fill(0xFF);
        assert_eq!(PipeInformation::list(bytes).len(), 8);
    }

    #[test]
    fn timeouts_are_read_write_event() {
        let timeouts = Timeouts {
            read: 1,
            write: 0x0203,
            event: 214,
        };
        assert_eq!(timeouts.to_bytes(), [1, 0, 0, 0, 3, 2, 0, 0, 214, 0, 0, 0]);
    }
}

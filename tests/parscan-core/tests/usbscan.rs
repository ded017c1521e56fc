//! The requests of usbscan.h, as 64- and 32-bit programs send them.

mod cases;

use cases::cases;
use parscan_core::ioctl::{
    Status,
    usbscan::{
        Bitness, ControlRequest, GetDescriptor, IOCTL_CANCEL_IO, IOCTL_GET_CHANNEL_ALIGN_RQST,
        IOCTL_GET_DEVICE_DESCRIPTOR, IOCTL_GET_PIPE_CONFIGURATION, IOCTL_GET_USB_DESCRIPTOR,
        IOCTL_GET_VERSION, IOCTL_READ_REGISTERS, IOCTL_RESET_PIPE, IOCTL_SEND_USB_REQUEST,
        IOCTL_SET_TIMEOUT, IOCTL_WAIT_ON_DEVICE_EVENT, IOCTL_WRITE_REGISTERS,
        ImmediateUsbscanRequest as Now, Pipe, PipeType, UsbscanRequest, VendorDirection,
        VendorRequest,
    },
};
use proptest::prelude::*;

const BOTH: [Bitness; 2] = [Bitness::Native, Bitness::Bits32];

/// A caller's `IO_BLOCK` or `IO_BLOCK_EX`.
#[derive(Clone, Copy, Debug)]
struct Block {
    bitness: Bitness,
    offset: u32,
    length: u32,
    data: u64,
    index: u32,
    /// `bRequest`, `bmRequestType`, `fTransferDirectionIn`
    extension: Option<[u8; 3]>,
}

impl Block {
    /// The structure as a compiler lays it out, its padding full of noise.
    fn bytes(self) -> Vec<u8> {
        let (size, data, index) = match (self.bitness, self.extension) {
            (Bitness::Native, _) => (24, 8..16, 16),
            (Bitness::Bits32, None) => (16, 8..12, 12),
            (Bitness::Bits32, Some(_)) => (20, 8..12, 12),
        };
        let mut bytes = vec![0xCC; size];
        let mut put = |at: usize, member: &[u8]| {
            bytes[at..at + member.len()].copy_from_slice(member);
        };
        put(0, &self.offset.to_le_bytes());
        put(4, &self.length.to_le_bytes());
        put(data.start, &self.data.to_le_bytes()[..data.len()]);
        put(index, &self.index.to_le_bytes());
        if let Some(extension) = self.extension {
            put(index + 4, &extension);
        }
        bytes
    }

    /// The request, and where its data is.
    fn send(self, code: u32, output_length: usize) -> Result<(VendorRequest, Option<u64>), Status> {
        match UsbscanRequest::parse(code, &self.bytes(), output_length, self.bitness)? {
            UsbscanRequest::Control {
                request: ControlRequest::Vendor(request),
                data,
            } => Ok((request, data)),
            other => panic!("{other:?}"),
        }
    }
}

const fn write(bitness: Bitness) -> Block {
    Block {
        bitness,
        offset: 0x0010,
        length: 4,
        data: 0x7FFF_0000,
        index: 0,
        extension: None,
    }
}

const fn out(bitness: Bitness) -> Block {
    Block {
        extension: Some([0x55, 0, 0]),
        ..write(bitness)
    }
}

/// Code, shortest input and output of each request, for a 64- and a 32-bit caller.
const SIZES: [(u32, [usize; 2], usize); 9] = [
    (IOCTL_GET_VERSION, [0, 0], 12),
    (IOCTL_CANCEL_IO, [4, 4], 0),
    (IOCTL_WRITE_REGISTERS, [24, 16], 0),
    (IOCTL_GET_CHANNEL_ALIGN_RQST, [0, 0], 12),
    (IOCTL_GET_DEVICE_DESCRIPTOR, [0, 0], 8),
    (IOCTL_RESET_PIPE, [4, 4], 0),
    (IOCTL_SEND_USB_REQUEST, [24, 20], 0),
    (IOCTL_GET_PIPE_CONFIGURATION, [0, 0], 68),
    (IOCTL_SET_TIMEOUT, [12, 12], 0),
];

#[test]
fn short_buffers_are_refused() {
    for (code, inputs, output) in SIZES {
        for (bitness, input) in BOTH.into_iter().zip(inputs) {
            // Zeros are a valid structure of each request.
            let zeros = [0; 64];
            for length in 0..zeros.len() {
                let result = UsbscanRequest::parse(code, &zeros[..length], output, bitness);
                if length < input {
                    let expected = Err(Status::INVALID_PARAMETER);
                    assert_eq!(result, expected, "{code:#x}: {length} bytes in");
                } else {
                    assert!(result.is_ok(), "{code:#x}: {length} bytes in: {result:?}");
                }
                let result = UsbscanRequest::parse(code, &zeros, length, bitness);
                if length < output {
                    let expected = Err(Status::BUFFER_TOO_SMALL);
                    assert_eq!(result, expected, "{code:#x}: {length} bytes out");
                } else {
                    assert!(result.is_ok(), "{code:#x}: {length} bytes out: {result:?}");
                }
            }
        }
    }
}

#[test]
fn an_event_needs_no_room() {
    for length in [0, 1, 8, 0x1_0000] {
        for bitness in BOTH {
            assert_eq!(
                UsbscanRequest::parse(IOCTL_WAIT_ON_DEVICE_EVENT, &[], length, bitness),
                Ok(UsbscanRequest::WaitOnDeviceEvent)
            );
        }
    }
}

#[test]
fn codes_are_not_confused() {
    let input = [2, 0, 0, 0];
    let parse = |code| UsbscanRequest::parse(code, &input, 255, Bitness::Native);
    let pipe = PipeType::One(Pipe::WriteData);
    let now = |request| Ok(UsbscanRequest::Immediate(request));
    assert_eq!(parse(IOCTL_CANCEL_IO), now(Now::CancelIo(pipe)));
    assert_eq!(parse(IOCTL_RESET_PIPE), Ok(UsbscanRequest::ResetPipe(pipe)));
    assert_eq!(parse(IOCTL_GET_VERSION), now(Now::GetVersion));
    assert_eq!(
        parse(IOCTL_GET_CHANNEL_ALIGN_RQST),
        now(Now::GetChannelAlign)
    );
    assert_eq!(
        parse(IOCTL_GET_DEVICE_DESCRIPTOR),
        now(Now::GetDeviceDescriptor)
    );
    assert_eq!(
        parse(IOCTL_GET_PIPE_CONFIGURATION),
        now(Now::GetPipeConfiguration)
    );
    assert_eq!(
        parse(IOCTL_GET_USB_DESCRIPTOR),
        Ok(UsbscanRequest::Control {
            request: ControlRequest::GetUsbDescriptor(GetDescriptor {
                descriptor_type: 2,
                index: 0,
                language_id: 0,
                length: 255,
            }),
            data: None,
        })
    );
}

#[test]
fn a_read_has_exactly_the_room_that_it_says() {
    for bitness in BOTH {
        let block = Block {
            // The client's pointer does not matter.
            data: 0,
            ..write(bitness)
        };
        assert!(block.send(IOCTL_READ_REGISTERS, 4).is_ok());
        for room in [0, 3, 5, 0x1_0004] {
            assert_eq!(
                block.send(IOCTL_READ_REGISTERS, room),
                Err(Status::INVALID_PARAMETER)
            );
        }
    }
}

#[test]
fn a_length_has_sixteen_bits() {
    for bitness in BOTH {
        for length in [0x1_0000, 0x1_0001, 0xFFFF_FFFF] {
            let room = length as usize;
            let block = Block {
                length,
                ..write(bitness)
            };
            let refused = Err(Status::INVALID_PARAMETER);
            assert_eq!(block.send(IOCTL_READ_REGISTERS, room), refused);
            assert_eq!(block.send(IOCTL_WRITE_REGISTERS, 0), refused);
            for direction in [0, 1] {
                let block = Block {
                    extension: Some([1, 0, direction]),
                    ..block
                };
                assert_eq!(block.send(IOCTL_SEND_USB_REQUEST, room), refused);
            }
        }
    }
}

#[test]
fn a_pointer_is_not_null_and_does_not_wrap() {
    let end = |bitness| match bitness {
        Bitness::Native => u64::MAX,
        Bitness::Bits32 => 0xFFFF_FFFF,
    };
    for (code, block) in BOTH.into_iter().flat_map(|bitness| {
        [
            (IOCTL_WRITE_REGISTERS, write(bitness)),
            (IOCTL_SEND_USB_REQUEST, out(bitness)),
        ]
    }) {
        let at = |data, length| {
            Block {
                length,
                data,
                ..block
            }
            .send(code, 0)
        };
        let end = end(block.bitness);
        assert_eq!(at(0, 1), Err(Status::INVALID_PARAMETER));
        assert!(at(0, 0).is_ok(), "no data needs no pointer");
        assert!(at(end, 0).is_ok());
        assert!(at(end, 1).is_ok(), "the last byte of all");
        assert!(at(end - 0xFFFE, 0xFFFF).is_ok());
        assert_eq!(at(end, 2), Err(Status::ACCESS_VIOLATION));
        assert_eq!(at(end - 0xFFFD, 0xFFFF), Err(Status::ACCESS_VIOLATION));
    }
}

/// Bytes at `pbyData` of a 32-bit caller are not taken for the upper half of a pointer.
#[test]
fn a_32_bit_pointer_is_zero_extended() {
    for (code, block) in [
        (IOCTL_WRITE_REGISTERS, write(Bitness::Bits32)),
        (IOCTL_SEND_USB_REQUEST, out(Bitness::Bits32)),
    ] {
        let block = Block {
            data: 0xFFFE_1000,
            index: 0xDEAD_BEEF,
            ..block
        };
        let (request, data) = block.send(code, 0).unwrap();
        assert_eq!(request.direction, VendorDirection::Out);
        assert_eq!(data, Some(0xFFFE_1000));
        assert_eq!(request.index, 0xBEEF);
    }
}

#[test]
fn a_longer_input_is_no_harm() {
    for bitness in BOTH {
        let mut bytes = out(bitness).bytes();
        let expected = UsbscanRequest::parse(IOCTL_SEND_USB_REQUEST, &bytes, 0, bitness);
        assert!(expected.is_ok());
        bytes.extend([0xFF; 40]);
        assert_eq!(
            UsbscanRequest::parse(IOCTL_SEND_USB_REQUEST, &bytes, 0, bitness),
            expected
        );
    }
}

#[test]
fn the_urb_of_each_vendor_request() {
    for bitness in BOTH {
        let block = Block {
            offset: 0x0001_0203,
            index: 0x0004_0506,
            extension: Some([0x77, 0x80, 0]),
            ..write(bitness)
        };
        let registers = Block {
            extension: None,
            ..block
        };
        let read = Block {
            extension: Some([0x77, 0x00, 2]),
            ..block
        };
        let out = VendorDirection::Out;
        for (code, block, room, direction, flags, setup) in [
            (IOCTL_WRITE_REGISTERS, registers, 0, out, 0, [0x40, 0x04]),
            (
                IOCTL_READ_REGISTERS,
                registers,
                4,
                VendorDirection::In,
                1,
                [0xC0, 0x04],
            ),
            (IOCTL_SEND_USB_REQUEST, block, 0, out, 0, [0x40, 0x77]),
            (
                IOCTL_SEND_USB_REQUEST,
                read,
                4,
                VendorDirection::In,
                1,
                [0xC0, 0x77],
            ),
        ] {
            let (request, data) = block.send(code, room).unwrap();
            assert_eq!(request.direction, direction);
            assert_eq!(data, (direction == out).then_some(0x7FFF_0000));
            assert_eq!(request.flags(), flags);
            assert_eq!(request.request_type(), setup[0]);
            let packet = request.setup_packet();
            assert_eq!(packet[..2], setup);
            assert_eq!(packet[2..], [0x03, 0x02, 0x06, 0x05, 4, 0]);
        }
    }
}

proptest! {
    #![proptest_config(cases(2_000, 8))]

    /// Section 9.3 of USB 2.0 and the rules of the pages, for any block.
    #[test]
    fn any_block_becomes_its_setup_packet(
        wide: bool,
        offset: u32,
        length in prop_oneof![0..4u32, 0..0x1_0000u32],
        data: u64,
        index: u32,
        request: u8,
        request_type: u8,
        direction_in: u8,
    ) {
        let block = Block {
            bitness: BOTH[usize::from(wide)],
            offset,
            length,
            // Neither null nor near the end.
            data: (data & 0x7FFF_FFFF) | 1,
            index,
            extension: None,
        };
        let room = length as usize;
        let [o0, o1, ..] = offset.to_le_bytes();
        let [i0, i1, ..] = index.to_le_bytes();
        let [l0, l1, ..] = length.to_le_bytes();
        let fixed = if length > 1 { 0x04 } else { 0x0C };

        let packet = block.send(IOCTL_WRITE_REGISTERS, 0).unwrap().0.setup_packet();
        prop_assert_eq!(packet, [0x40, fixed, o0, o1, i0, i1, l0, l1]);
        let packet = block.send(IOCTL_READ_REGISTERS, room).unwrap().0.setup_packet();
        prop_assert_eq!(packet, [0xC0, fixed, o0, o1, i0, i1, l0, l1]);

        let extended = Block {
            extension: Some([request, request_type, direction_in]),
            ..block
        };
        let (sent, data) = extended.send(IOCTL_SEND_USB_REQUEST, room).unwrap();
        let (wire, direction, expected) = if direction_in == 0 {
            (0x40, VendorDirection::Out, (length != 0).then_some(block.data))
        } else {
            (0xC0, VendorDirection::In, None)
        };
        prop_assert_eq!(data, expected);
        prop_assert_eq!(sent.setup_packet(), [wire, request, o0, o1, i0, i1, l0, l1]);
        prop_assert_eq!(sent.direction, direction);
    }
}

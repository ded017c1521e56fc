//! Every layout, both ways: what is written is read as it was, and every byte is a member's, at its
//! place, or zero.
#![cfg(not(miri))]

mod cases;

use cases::cases;
use parscan_core::ioctl::{
    parallel::{
        DeviceIdSize, IOCTL_PAR_SET_INFORMATION, IeeeModes, InterruptInformation,
        InterruptServiceRoutine, MoreParallelPortInformation, NegotiationMask, ParStatus,
        ParallelPnpInformation, ParallelPortInformation, ParclassInformation, QueuedRequest,
        SelectCommand, SerialTimeouts, SetInformation, UserRequest,
        port_programs::{
            Edge, EdgesHeader, PortDescription, PortFeatures, RunEnd, RunHeader, RunResult,
        },
    },
    usbscan::{
        Bitness, ChannelInfo, ControlRequest, DeviceDescriptor, DriverVersion, GetDescriptor,
        IOCTL_CANCEL_IO, IOCTL_GET_USB_DESCRIPTOR, ImmediateUsbscanRequest, IoBlock, IoBlockEx,
        MAX_NUM_PIPES, Pipe, PipeConfiguration, PipeInformation, PipeType, Timeouts,
        UsbscanRequest,
    },
};
use proptest::{collection::vec, prelude::*};

/// Structures of a fixed size, of which any bytes are one: with as many bytes of members.
macro_rules! structures {
    ($($test:ident: $name:ident, $members:literal;)*) => {
        proptest! {
            #![proptest_config(cases(64, 64))]
            $(#[test]
            fn $test(bytes in vec(any::<u8>(), $name::SIZE)) {
                let bytes = bytes.try_into().unwrap();
                let value = $name::from_bytes(&bytes);
                let written = value.to_bytes();
                prop_assert_eq!($name::from_bytes(&written), value);
                let strange = written.iter().zip(bytes).filter(|(to, from)| **to != *from);
                prop_assert!(strange.clone().all(|(to, _)| *to == 0), "padding is zero");
                prop_assert!(strange.count() <= $name::SIZE - $members, "each member is kept");
            })*
        }
    };
}

structures! {
    serial_timeouts: SerialTimeouts, 20;
    device_id_size: DeviceIdSize, 4;
    parclass_information: ParclassInformation, 112;
    parallel_port_information: ParallelPortInformation, 52;
    more_parallel_port_information: MoreParallelPortInformation, 28;
    parallel_pnp_information: ParallelPnpInformation, 88;
    parallel_interrupt_service_routine: InterruptServiceRoutine, 32;
    parallel_interrupt_information: InterruptInformation, 32;
    parallel_1284_command: SelectCommand, 5;
    drv_version: DriverVersion, 12;
    channel_info: ChannelInfo, 12;
    device_descriptor: DeviceDescriptor, 6;
    usbscan_pipe_information: PipeInformation, 8;
    usbscan_timeout: Timeouts, 12;
}

/// A structure of any members.
fn endpoint() -> impl Strategy<Value = PipeInformation> {
    any::<[u8; PipeInformation::SIZE]>().prop_map(|bytes| PipeInformation::from_bytes(&bytes))
}

proptest! {
    #![proptest_config(cases(64, 64))]

    #[test]
    fn modes_and_status(read: u16, write: u16, status: u8) {
        let mask = NegotiationMask {
            read: IeeeModes::from_bits_retain(read),
            write: IeeeModes::from_bits_retain(write),
        };
        prop_assert_eq!(NegotiationMask::from_bytes(mask.to_bytes()), mask);
        prop_assert_eq!(IeeeModes::from_bytes(mask.read.to_bytes()), mask.read);
        let status = ParStatus::from_bits_retain(status);
        prop_assert_eq!(ParStatus::from_bytes(status.to_bytes()), status);
    }

    #[test]
    fn a_pipe_configuration(pipes in vec(endpoint(), 0..12)) {
        let bytes = PipeConfiguration { pipes: &pipes }.to_bytes();
        let mut table = [PipeInformation::default(); MAX_NUM_PIPES];
        let read = PipeConfiguration::from_bytes(&bytes, &mut table);
        prop_assert_eq!(read.pipes, &pipes[..pipes.len().min(MAX_NUM_PIPES)]);
    }

    #[test]
    fn io_blocks(
        wide: bool,
        offset: u32,
        length: u32,
        data: u64,
        index: u32,
        request: u8,
        request_type: u8,
        direction_in: bool,
    ) {
        let (bitness, data, sizes) = if wide {
            (Bitness::Native, data, (24, 24))
        } else {
            (Bitness::Bits32, data & 0xFFFF_FFFF, (16, 20))
        };
        let block = IoBlock { offset, length, data, index };
        let bytes = block.to_bytes(bitness);
        prop_assert_eq!(bytes.as_bytes().len(), sizes.0);
        prop_assert_eq!(IoBlock::parse(bytes.as_bytes(), bitness), Ok(block));
        let extended = IoBlockEx { block, request, request_type, direction_in };
        let bytes = extended.to_bytes(bitness);
        prop_assert_eq!(bytes.as_bytes().len(), sizes.1);
        prop_assert_eq!(IoBlockEx::parse(bytes.as_bytes(), bitness), Ok(extended));
    }

    #[test]
    fn a_descriptor_request(descriptor_type: u8, index: u8, language_id: u16, length in 1u16..) {
        let descriptor = GetDescriptor { descriptor_type, index, language_id, length };
        let (code, input) = (IOCTL_GET_USB_DESCRIPTOR, descriptor.to_bytes());
        let parsed = UsbscanRequest::parse(code, &input, length.into(), Bitness::Native);
        let request = ControlRequest::GetUsbDescriptor(descriptor);
        prop_assert_eq!(parsed, Ok(UsbscanRequest::Control { request, data: None }));
    }

    #[test]
    fn what_port_programs_say(
        base: u64,
        ecp_base: u64,
        elapsed_ns: u64,
        numbers: [u32; 4],
        end in prop::sample::select(vec![
            RunEnd::Done,
            RunEnd::TimeOut,
            RunEnd::Cancelled,
            RunEnd::PowerLost,
            RunEnd::Removed,
        ]),
        status: u8,
    ) {
        let [a, b, c, d] = numbers;
        let port = PortDescription {
            base,
            ecp_base,
            span: a,
            features: PortFeatures::from_bits_retain(b),
            access_ns: c,
        };
        prop_assert_eq!(PortDescription::parse(&port.to_bytes()), Some(port));
        let header = RunHeader { flags: a, instructions: b, data: c };
        prop_assert_eq!(RunHeader::from_bytes(&header.to_bytes()), Some(header));
        let result = RunResult {
            end,
            instruction: a,
            accesses: b,
            output: c,
            missed: d,
            elapsed_ns,
        };
        prop_assert_eq!(RunResult::parse(&result.to_bytes()), Some(result));
        let edges = EdgesHeader { edges: a, lost: b, left: c, frequency: base };
        prop_assert_eq!(EdgesHeader::parse(&edges.to_bytes()), Some(edges));
        let edge = Edge { stamp: base, status };
        prop_assert_eq!(Edge::parse(&edge.to_bytes()), Some(edge));
    }
}

/// The inputs that have few values.
#[test]
fn every_pipe_type_and_initialization() {
    let pipes = [Pipe::Event, Pipe::ReadData, Pipe::WriteData].map(PipeType::One);
    for pipe in pipes.into_iter().chain([PipeType::All]) {
        let parsed =
            UsbscanRequest::parse(IOCTL_CANCEL_IO, &pipe.to_bytes(), 0, Bitness::Native).unwrap();
        let expected = ImmediateUsbscanRequest::CancelIo(pipe);
        assert_eq!(parsed, UsbscanRequest::Immediate(expected));
    }
    let input = SetInformation.to_bytes();
    assert_eq!(
        UserRequest::parse(IOCTL_PAR_SET_INFORMATION, &input, 0),
        Ok(UserRequest::Queued(QueuedRequest::SetInformation(
            SetInformation
        )))
    );
}

//! Any device control request: it is refused, or what it needs has been checked.

use arbitrary::Arbitrary;
use parscan_core::ioctl::{
    Status,
    parallel::{
        IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEFAULT_MODES,
        IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_DEVICE_ID,
        IOCTL_PAR_QUERY_DEVICE_ID_SIZE, IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_QUERY_LOCATION,
        IOCTL_PAR_QUERY_RAW_DEVICE_ID, IOCTL_PAR_SET_INFORMATION, IOCTL_PAR_SET_READ_ADDRESS,
        IOCTL_PAR_SET_WRITE_ADDRESS, IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_GET_PORT,
        IOCTL_PARSCAN_RELEASE, IOCTL_PARSCAN_RUN, IOCTL_PARSCAN_WAIT_EDGE,
        IOCTL_SERIAL_GET_TIMEOUTS, IOCTL_SERIAL_SET_TIMEOUTS, ImmediateRequest as Now,
        NegotiationMask, ParStatus, QueuedRequest as Later, UserRequest,
        port_programs::{Edge, EdgesHeader, PortDescription, RunResult},
    },
};

use super::Code;

/// Every code of the table.
const CODES: [u32; 20] = [
    IOCTL_PAR_QUERY_INFORMATION,
    IOCTL_PAR_SET_INFORMATION,
    IOCTL_PAR_QUERY_DEVICE_ID,
    IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
    IOCTL_PAR_QUERY_RAW_DEVICE_ID,
    IOCTL_IEEE1284_GET_MODE,
    IOCTL_IEEE1284_NEGOTIATE,
    IOCTL_PAR_GET_DEFAULT_MODES,
    IOCTL_PAR_GET_DEVICE_CAPS,
    IOCTL_PAR_SET_WRITE_ADDRESS,
    IOCTL_PAR_SET_READ_ADDRESS,
    IOCTL_PAR_IS_PORT_FREE,
    IOCTL_PAR_QUERY_LOCATION,
    IOCTL_SERIAL_SET_TIMEOUTS,
    IOCTL_SERIAL_GET_TIMEOUTS,
    IOCTL_PARSCAN_GET_PORT,
    IOCTL_PARSCAN_CLAIM,
    IOCTL_PARSCAN_RELEASE,
    IOCTL_PARSCAN_RUN,
    IOCTL_PARSCAN_WAIT_EDGE,
];

/// A request.
#[derive(Arbitrary, Clone, Debug)]
pub struct Input<'a> {
    code: Code,
    output_length: usize,
    bytes: &'a [u8],
}

/// Parses it.
///
/// # Panics
/// If the answer would not fit, bytes were misread, or a status is not a documented one.
pub fn run(input: &Input) {
    let code = match input.code {
        Code::Known(index) => CODES[usize::from(index) % CODES.len()],
        Code::Any(code) => code,
    };
    let (bytes, room) = (input.bytes, input.output_length);
    let result = UserRequest::parse(code, bytes, room);
    let request = match result {
        Ok(request) => request,
        Err(status) => {
            assert!(
                [Status::INVALID_PARAMETER, Status::BUFFER_TOO_SMALL].contains(&status),
                "{status:?}"
            );
            return;
        }
    };
    assert!(CODES.contains(&code), "{code:#x}");
    // `Information` of the answer, where its length does not depend on the peripheral.
    let information = match request {
        UserRequest::Queued(Later::QueryInformation) => ParStatus::all().to_bytes().len(),
        UserRequest::Queued(Later::SetInformation(_)) => {
            assert_eq!(bytes[0], 1);
            0
        }
        // The ID has its own check, when it is there.
        UserRequest::Queued(Later::QueryDeviceId | Later::QueryRawDeviceId) => 0,
        UserRequest::Queued(Later::QueryDeviceIdSize) => size_of::<u32>(),
        UserRequest::Immediate(Now::GetMode | Now::GetDefaultModes) => {
            NegotiationMask::DEFAULT.to_bytes().len()
        }
        UserRequest::Queued(Later::Negotiate(offered)) => {
            assert_eq!(offered.to_bytes(), bytes[..4]);
            offered.to_bytes().len()
        }
        UserRequest::Queued(Later::GetDeviceCaps(excluded)) => {
            let expected = bytes
                .first_chunk()
                .map_or(0, |two| u16::from_le_bytes(*two));
            assert_eq!(excluded.bits(), expected);
            size_of::<u16>()
        }
        UserRequest::Queued(Later::SetWriteAddress(address) | Later::SetReadAddress(address)) => {
            assert_eq!(address, bytes[0]);
            0
        }
        UserRequest::Immediate(Now::IsPortFree | Now::QueryLocation) => 1,
        UserRequest::Immediate(Now::SetTimeouts(timeouts)) => {
            assert_eq!(timeouts.to_bytes(), bytes[..20]);
            let length = bytes.len();
            let none = timeouts.write_multiplier == 0 && timeouts.write_constant == 0;
            assert_eq!(timeouts.write_limit(length).is_none(), none);
            assert!(timeouts.read_limit(length) <= timeouts.read_limit(usize::MAX));
            0
        }
        UserRequest::Immediate(Now::GetTimeouts) => 20,
        UserRequest::Immediate(Now::GetPort) => PortDescription::SIZE,
        UserRequest::Queued(Later::Claim) => {
            assert_eq!(bytes, [0; 4]);
            0
        }
        UserRequest::Queued(Later::Release { restore }) => {
            assert_eq!(bytes, [u8::from(restore), 0, 0, 0]);
            0
        }
        UserRequest::Queued(Later::Run(run)) => {
            let parts = run.parts(bytes);
            assert_eq!(16 + parts.code.len() * 4 + parts.data.len(), bytes.len());
            RunResult::SIZE
        }
        UserRequest::Queued(Later::WaitEdge(milliseconds)) => {
            assert_eq!(bytes, milliseconds.to_le_bytes());
            EdgesHeader::SIZE + Edge::SIZE
        }
    };
    assert!(information <= room, "{request:?}: {information} of {room}");
}

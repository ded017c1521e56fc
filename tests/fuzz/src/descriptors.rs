//! A device that says anything of itself, and a program that opens any name behind it.

use arbitrary::Arbitrary;
use parscan_core::{
    ioctl::{
        Status,
        usbscan::{Pipe, PipeConfiguration, PipeType},
    },
    usb::{MAX_TOTAL_LENGTH, Pipes, device_descriptor, total_length},
};

use super::set::Set;

/// A piece of a configuration.
#[derive(Arbitrary, Clone, Debug)]
pub enum Part<'a> {
    /// An interface that has as many endpoints as follow it, but for this.
    Interface {
        /// bInterfaceNumber
        number: u8,
        /// bAlternateSetting
        alternate: u8,
        /// bInterfaceClass
        class: u8,
        /// What bNumEndpoints says too much.
        more: u8,
    },
    /// An endpoint.
    Endpoint {
        /// bEndpointAddress
        address: u8,
        /// bmAttributes
        attributes: u8,
        /// wMaxPacketSize
        packet: u16,
    },
    /// An endpoint that most devices could have: its address and whether it is bulk.
    Plain(u8, bool),
    /// Anything.
    Raw(&'a [u8]),
}

/// What the device sends.
#[derive(Arbitrary, Clone, Debug)]
pub struct Input<'a> {
    parts: Vec<Part<'a>>,
    /// A wTotalLength other than the right one.
    total: Option<u16>,
    /// How many bytes do not come.
    missing: u8,
    name: Vec<u16>,
    /// The index in `\N`, where the name is not any.
    index: Option<u8>,
}

/// Takes it apart.
///
/// # Panics
/// If something is taken for good that cannot be used.
pub fn run(input: &Input) {
    for part in &input.parts {
        if let Part::Raw(bytes) = part
            && let Ok(device) = device_descriptor(bytes)
        {
            assert_eq!(device.to_bytes()[..6], bytes[8..14]);
        }
    }
    let bytes = configuration(input);
    let Ok(pipes) = Pipes::parse(&bytes) else {
        return;
    };
    let total = total_length(&bytes).unwrap();
    assert!((9..=MAX_TOTAL_LENGTH.min(bytes.len())).contains(&total));
    let table = pipes.table();
    assert_eq!(table.len(), usize::from(pipes.endpoint_count()).min(8));
    for (index, endpoint) in table.iter().enumerate() {
        assert!((1..=15).contains(&(endpoint.endpoint_address & 0x7F)));
        assert!(endpoint.max_packet_size <= 1024);
        assert!(endpoint.pipe().is_none() || endpoint.max_packet_size != 0);
        let same = |other: &&_| *other == endpoint;
        assert_eq!(table.iter().filter(same).count(), 1, "{index}");
    }
    let answer = PipeConfiguration { pipes: table }.to_bytes();
    assert_eq!(usize::from(answer[0]), table.len());
    assert!(answer[4 + table.len() * 8..].iter().all(|byte| *byte == 0));
    let name = match input.index {
        Some(index) => format!("\\{index}").encode_utf16().collect(),
        None => input.name.clone(),
    };
    check_handle(&pipes, &name, input.index);
}

/// The bytes that come.
fn configuration(input: &Input) -> Vec<u8> {
    let mut set = Set::new();
    for (place, part) in input.parts.iter().enumerate() {
        set = match part {
            Part::Interface {
                number,
                alternate,
                class,
                more,
            } => {
                let endpoints = input.parts[place + 1..]
                    .iter()
                    .take_while(|part| !matches!(part, Part::Interface { .. }))
                    .filter(|part| matches!(part, Part::Endpoint { .. } | Part::Plain(..)))
                    .count();
                let endpoints = u8::try_from(endpoints).unwrap_or(u8::MAX);
                set.interface(*number, *alternate, endpoints.wrapping_add(*more), *class)
            }
            Part::Endpoint {
                address,
                attributes,
                packet,
            } => set.endpoint(*address, *attributes, *packet, 1),
            Part::Plain(address, is_bulk) => {
                set.endpoint(address & 0x8F, 3 - u8::from(*is_bulk), 64, 1)
            }
            Part::Raw(bytes) => set.raw(bytes),
        };
    }
    let mut bytes = match input.total {
        Some(total) => set.with_total(total),
        None => set.bytes(),
    };
    bytes.truncate(bytes.len().saturating_sub(input.missing.into()));
    bytes
}

/// Opens a name: what comes of it has pipes of the right types.
fn check_handle(pipes: &Pipes, name: &[u16], index: Option<u8>) {
    let table = pipes.table();
    let plain = pipes.open(&[]).unwrap();
    let handle = match pipes.open(name) {
        Ok(handle) => handle,
        Err(status) => {
            assert_eq!(status, Status::OBJECT_NAME_NOT_FOUND);
            let endpoint = index.and_then(|index| table.get(usize::from(index)));
            assert!(endpoint.and_then(|endpoint| endpoint.pipe()).is_none());
            return;
        }
    };
    let info = pipes.channel_info(handle);
    let mut differ = 0;
    for (pipe, size) in [
        (Pipe::Event, info.event),
        (Pipe::ReadData, info.read_data),
        (Pipe::WriteData, info.write_data),
    ] {
        let selected = pipes.select(handle, PipeType::One(pipe));
        let highest = table.iter().rposition(|other| other.pipe() == Some(pipe));
        assert_eq!(plain.get(pipe), highest);
        differ += usize::from(handle.get(pipe) != highest);
        if let Some(place) = handle.get(pipe) {
            assert_eq!(table[place].pipe(), Some(pipe));
            assert_eq!(u32::from(table[place].max_packet_size), size);
            assert_eq!(selected, Ok(place..place + 1));
        } else {
            assert_eq!(size, 0);
            assert_eq!(selected, Err(Status::INVALID_PARAMETER));
        }
    }
    assert!(differ <= 1, "the name is of one endpoint");
    assert_eq!(pipes.select(handle, PipeType::All), Ok(0..table.len()));
}

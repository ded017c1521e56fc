//! Descriptors of devices that are not trusted, and the pipes of a handle.

mod cases;
mod descriptors;

use cases::cases;
use descriptors::Set;
use parscan_core::{
    ioctl::{
        Status,
        usbscan::{ChannelInfo, Pipe, PipeConfiguration, PipeType},
    },
    usb::{Malformed, OpenEndpoints, Pipes},
};
use proptest::prelude::*;

/// bmAttributes of the four kinds of endpoints (USB 2.0, table 9-13).
const CONTROL: u8 = 0;
const ISOCHRONOUS: u8 = 1;
const BULK: u8 = 2;
const INTERRUPT: u8 = 3;

fn open(pipes: &Pipes, name: &str) -> Result<OpenEndpoints, Status> {
    let units: Vec<u16> = name.encode_utf16().collect();
    pipes.open(&units)
}

/// Interrupt, bulk IN and bulk OUT of a handle.
fn indices(handle: OpenEndpoints) -> [Option<usize>; 3] {
    [Pipe::Event, Pipe::ReadData, Pipe::WriteData].map(|pipe| handle.get(pipe))
}

fn addresses(pipes: &Pipes) -> Vec<u8> {
    pipes
        .table()
        .iter()
        .map(|endpoint| endpoint.endpoint_address)
        .collect()
}

/// The example of Microsoft's page, with the IN bit that its interrupt endpoints lack.
fn example() -> Set {
    Set::new()
        .interface(0, 0, 6, 6)
        .endpoint(0x81, INTERRUPT, 8, 16)
        .endpoint(0x82, BULK, 512, 0)
        .endpoint(0x83, BULK, 256, 0)
        .endpoint(0x04, BULK, 128, 0)
        .endpoint(0x05, BULK, 64, 0)
        .endpoint(0x86, INTERRUPT, 1, 8)
}

#[test]
fn the_example_of_the_documentation() {
    let pipes = example().parse().unwrap();
    assert_eq!(addresses(&pipes), [0x81, 0x82, 0x83, 0x04, 0x05, 0x86]);
    assert_eq!(pipes.interface_number(), 0);
    assert_eq!(pipes.endpoint_count(), 6);
    let plain = open(&pipes, "").unwrap();
    assert_eq!(indices(plain), [Some(5), Some(2), Some(4)]);
    let info = ChannelInfo {
        event: 1,
        read_data: 256,
        write_data: 64,
    };
    assert_eq!(pipes.channel_info(plain), info);
    for (name, expected) in [
        (r"\0", [0, 2, 4]),
        (r"\1", [5, 1, 4]),
        (r"\2", [5, 2, 4]),
        (r"\3", [5, 2, 3]),
        (r"\4", [5, 2, 4]),
        (r"\5", [5, 2, 4]),
    ] {
        let handle = open(&pipes, name).unwrap();
        assert_eq!(indices(handle), expected.map(Some), "{name}");
    }
    for name in [r"\6", r"\7", r"\8", r"\", r"\x", "0", r"\\1"] {
        let refused = Err(Status::OBJECT_NAME_NOT_FOUND);
        assert_eq!(open(&pipes, name), refused, "{name}");
    }
}

#[test]
fn the_table_as_a_program_gets_it() {
    let pipes = example().parse().unwrap();
    let pipes = pipes.table();
    let bytes = PipeConfiguration { pipes }.to_bytes();
    assert_eq!(bytes[..4], [6, 0, 0, 0]);
    assert_eq!(bytes[4..12], [8, 0, 0x81, 16, 3, 0, 0, 0]);
    assert_eq!(bytes[12..20], [0x00, 0x02, 0x82, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[44..52], [1, 0, 0x86, 8, 3, 0, 0, 0]);
    assert_eq!(bytes[52..], [0; 16]);
}

#[test]
fn a_request_selects_a_pipe_or_all() {
    let pipes = Set::new()
        .interface(0, 0, 2, 0xFF)
        .endpoint(0x01, ISOCHRONOUS, 0, 1)
        .endpoint(0x82, BULK, 64, 0)
        .parse()
        .unwrap();
    let handle = open(&pipes, "").unwrap();
    let select = |pipe| pipes.select(handle, pipe);
    assert_eq!(select(PipeType::One(Pipe::ReadData)), Ok(1..2));
    assert_eq!(select(PipeType::All), Ok(0..2));
    for absent in [Pipe::Event, Pipe::WriteData] {
        assert_eq!(
            select(PipeType::One(absent)),
            Err(Status::INVALID_PARAMETER)
        );
    }
    let info = pipes.channel_info(handle);
    assert_eq!((info.event, info.read_data, info.write_data), (0, 64, 0));
}

#[test]
fn only_three_kinds_of_endpoints_can_be_opened() {
    let endpoints = [
        (0x01, ISOCHRONOUS, 1023, 1, false),
        (0x81, ISOCHRONOUS, 1023, 1, false),
        (0x02, INTERRUPT, 8, 1, false),
        (0x03, CONTROL, 8, 0, false),
        (0x82, INTERRUPT, 8, 1, true),
        (0x04, BULK, 8, 0, true),
    ];
    let set = Set::new().interface(0, 0, 6, 6);
    let set = endpoints
        .into_iter()
        .fold(set, |set, (address, kind, size, interval, _)| {
            set.endpoint(address, kind, size, interval)
        });
    let pipes = set.parse().unwrap();
    for (index, (address, .., can)) in endpoints.into_iter().enumerate() {
        let name = format!(r"\{index}");
        assert_eq!(open(&pipes, &name).is_ok(), can, "{name}: {address:#x}");
    }
    let plain = open(&pipes, "").unwrap();
    assert_eq!(indices(plain), [Some(4), None, Some(5)]);
}

#[test]
fn a_device_without_endpoints_has_no_pipes() {
    let pipes = Set::new().interface(0, 0, 0, 0xFF).parse().unwrap();
    assert_eq!(pipes.table(), []);
    assert_eq!(
        indices(open(&pipes, "").unwrap()),
        [None::<usize>; 3],
        "the control pipe is there all the same"
    );
    assert!(open(&pipes, r"\0").is_err());
}

#[test]
fn the_first_eight_of_many_are_used() {
    let mut set = Set::new().interface(0, 0, 30, 6);
    for number in 1..=15 {
        set = set
            .endpoint(number, BULK, 64, 0)
            .endpoint(0x80 | number, BULK, 64, 0);
    }
    let pipes = set.parse().unwrap();
    assert_eq!(pipes.endpoint_count(), 30);
    assert_eq!(addresses(&pipes), [1, 0x81, 2, 0x82, 3, 0x83, 4, 0x84]);
    let plain = open(&pipes, "").unwrap();
    assert_eq!(indices(plain), [None, Some(7), Some(6)]);
    assert!(open(&pipes, r"\8").is_err());
    // The ninth is checked like the others.
    let late = |address, size| {
        let mut set = Set::new().interface(0, 0, 9, 6);
        for number in 1..=8 {
            set = set.endpoint(number, BULK, 64, 0);
        }
        set.endpoint(address, BULK, size, 0).parse()
    };
    assert!(late(0x89, 64).is_ok());
    assert_eq!(late(0x89, 0), Err(Malformed::PacketSize));
    assert_eq!(late(0x08, 64), Err(Malformed::EndpointAddress));
}

#[test]
fn the_image_interface_is_found() {
    const PRINTER: u8 = 7;
    // Number, alternate setting and class of each interface; the number of the chosen one. The
    // endpoint of each has its place as address.
    for (interfaces, chosen) in [
        (&[(0, 0, 0x06)][..], 1),
        (&[(0, 0, PRINTER), (1, 0, 0x06)], 2),
        (&[(0, 0, PRINTER), (1, 0, 0xFF), (2, 0, 0x06)], 2),
        (&[(0, 0, 0x06), (1, 0, 0xFF)], 1),
        (&[(0, 0, PRINTER), (1, 0, 0x08)], 1),
        // Alternate settings come in any order; only 0 counts.
        (&[(0, 0, 0xFF), (0, 1, 0xFF)], 1),
        (&[(0, 1, 0xFF), (0, 0, 0xFF)], 2),
        (&[(0, 0, PRINTER), (1, 1, 0x06), (1, 0, 0x06)], 3),
        (&[(0, 0, PRINTER), (1, 1, 0x06)], 1),
        // A device that says the same twice.
        (&[(3, 0, 0xFF), (3, 0, 0xFF)], 1),
    ] {
        let mut set = Set::new();
        for ((number, alternate, class), address) in interfaces.iter().zip(1..) {
            set = set
                .interface(*number, *alternate, 1, *class)
                .endpoint(address, BULK, 64, 0);
        }
        let pipes = set.parse().unwrap();
        assert_eq!(addresses(&pipes), [chosen], "{interfaces:?}");
        let (number, ..) = interfaces[usize::from(chosen) - 1];
        assert_eq!(pipes.interface_number(), number);
    }
    assert_eq!(Set::new().parse(), Err(Malformed::NoInterface));
    assert_eq!(
        Set::new().interface(0, 1, 0, 0xFF).parse(),
        Err(Malformed::NoInterface)
    );
}

#[test]
fn other_descriptors_are_passed_over() {
    let pipes = Set::new()
        // Interface association, class-specific, endpoint companion, of a vendor, longer ones.
        .raw(&[8, 0x0B, 0, 1, 6, 1, 1, 0])
        .raw(&[12, 4, 0, 0, 2, 6, 1, 1, 0, 0xEE, 0xEE, 0xEE])
        .raw(&[9, 0x21, 0x10, 1, 0, 1, 0x22, 0, 0])
        .raw(&[9, 5, 0x81, BULK, 64, 0, 0, 0xEE, 0xEE])
        .raw(&[6, 0x30, 0, 0, 0, 0])
        .raw(&[2, 0xFF])
        .endpoint(0x02, BULK, 1024, 0)
        .parse()
        .unwrap();
    assert_eq!(addresses(&pipes), [0x81, 0x02]);
}

#[test]
fn packet_sizes_are_checked() {
    let one = |address, kind, size| {
        Set::new()
            .interface(0, 0, 1, 6)
            .endpoint(address, kind, size, 1)
            .parse()
            .map(|pipes| pipes.table()[0].max_packet_size)
    };
    for (address, kind) in [(0x81, INTERRUPT), (0x81, BULK), (0x01, BULK)] {
        for size in [1, 8, 64, 100, 512, 1024] {
            assert_eq!(one(address, kind, size), Ok(size));
        }
        // Bits 12:11 are further transactions in a microframe.
        assert_eq!(one(address, kind, 0x1400), Ok(1024));
        for size in [0, 0x0800, 0xF800, 1025, 0x07FF, 0xFFFF] {
            assert_eq!(one(address, kind, size), Err(Malformed::PacketSize));
        }
    }
    for (address, kind) in [(0x81, ISOCHRONOUS), (0x01, INTERRUPT), (0x01, CONTROL)] {
        assert_eq!(one(address, kind, 0), Ok(0), "not used");
        assert_eq!(one(address, kind, 1025), Err(Malformed::PacketSize));
    }
}

#[test]
fn endpoint_addresses_are_checked() {
    for addresses in [
        &[0x00][..],
        &[0x80],
        &[0x91],
        &[0x71],
        &[1, 1],
        &[1, 0x81, 0x81],
    ] {
        let count = u8::try_from(addresses.len()).unwrap();
        let mut set = Set::new().interface(0, 0, count, 6);
        for address in addresses {
            set = set.endpoint(*address, BULK, 64, 0);
        }
        assert_eq!(
            set.parse(),
            Err(Malformed::EndpointAddress),
            "{addresses:?}"
        );
    }
}

#[test]
fn endpoints_are_counted() {
    for said in [0, 1, 3, 255] {
        let set = Set::new()
            .interface(0, 0, said, 6)
            .endpoint(0x81, BULK, 64, 0)
            .endpoint(0x02, BULK, 64, 0);
        assert_eq!(set.parse(), Err(Malformed::EndpointCount), "{said}");
    }
}

#[test]
fn lengths_are_checked() {
    for (bad, error) in [
        // bLength of nothing, of half a header, more than there is.
        (&[0, 5, 0x82, BULK, 64, 0, 0][..], Malformed::Length),
        (&[1, 5, 0x82, BULK, 64, 0, 0], Malformed::Length),
        (&[8, 5, 0x82, BULK, 64, 0, 0], Malformed::Length),
        (&[255, 5], Malformed::Length),
        (&[7], Malformed::Length),
        // Shorter than its type.
        (&[6, 5, 0x82, BULK, 64, 0], Malformed::Length),
        (&[2, 5], Malformed::Length),
        (&[8, 4, 1, 0, 0, 6, 1, 1], Malformed::Length),
    ] {
        let set = Set::new()
            .interface(0, 0, 2, 6)
            .endpoint(0x81, BULK, 64, 0)
            .raw(bad);
        assert_eq!(set.parse(), Err(error), "{bad:?}");
    }
    let whole = example().bytes();
    for length in 0..whole.len() {
        let error = if length < 9 {
            Malformed::Length
        } else {
            Malformed::Truncated
        };
        assert_eq!(Pipes::parse(&whole[..length]), Err(error), "{length}");
    }
    let longer = [&whole[..], &[0; 7]].concat();
    assert_eq!(Pipes::parse(&longer), Pipes::parse(&whole));
    for total in [0, 8, 4097, 0xFFFF] {
        assert_eq!(
            Pipes::parse(&example().with_total(total)),
            Err(Malformed::TotalLength)
        );
    }
    // Only the header.
    assert_eq!(
        Pipes::parse(&example().with_total(9)),
        Err(Malformed::NoInterface)
    );
}

proptest! {
    #![proptest_config(cases(5_000, 8))]

    /// A set with some bytes changed is refused, or what it gives can be used.
    #[test]
    fn a_damaged_set_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
        name in r"(\\[0-9]{0,2})?",
    ) {
        let mut bytes = example().bytes();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Ok(pipes) = Pipes::parse(&bytes) else {
            return Ok(());
        };
        prop_assert!(pipes.table().len() <= 8);
        prop_assert!(pipes.table().len() <= usize::from(pipes.endpoint_count()));
        if let Ok(handle) = open(&pipes, &name) {
            for pipe in [Pipe::Event, Pipe::ReadData, Pipe::WriteData] {
                if let Some(index) = handle.get(pipe) {
                    let endpoint = pipes.table()[index];
                    prop_assert_eq!(endpoint.pipe(), Some(pipe));
                    prop_assert!((1..=1024).contains(&endpoint.max_packet_size));
                }
            }
        }
    }
}

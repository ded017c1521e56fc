//! A scanner's start, its names, and the requests that go to it by the control pipe.

use ntsim::{
    Caller, NtStatus, Protection, RegValue,
    usb::{Urb, layout::function},
};
use parscan_models::{DescriptorSet, Endpoint, Scanner, Speed};
use parscan_tests::{
    assert_link, check,
    register_write::RegisterWrite,
    scanner::{Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        self, ChannelInfo, DeviceDescriptor, DrvVersion, GUID_DEVINTERFACE_IMAGE, IoBlock,
        IoBlockEx, PIPE_CONFIGURATION_SIZE, PipeInformation, get_descriptor, pipe_configuration,
    },
};

/// The scanner's software key: that of its class, with its number.
const SOFTWARE_KEY: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Control\Class\{6bdd1fc6-810f-11d0-bec7-08002be2092f}\0000";

/// An `IO_BLOCK` whose data lies at `address`.
fn block(offset: u32, length: u32, address: usize) -> IoBlock {
    IoBlock {
        offset,
        length,
        data: u64::try_from(address).unwrap(),
        index: 0,
    }
}

/// What a URB of a vendor request must be, by the tables of the usbscan pages.
#[track_caller]
fn assert_vendor(urb: &Urb, flags: u32, setup: [u8; 8]) {
    let [kind, request, v0, v1, i0, i1, l0, l1] = setup;
    assert_eq!(urb.function, function::VENDOR_DEVICE);
    assert_eq!(urb.length(), 136);
    assert_eq!(urb.transfer_flags(), flags);
    assert_eq!(urb.request_type_reserved_bits(), kind);
    assert_eq!(urb.request(), request);
    assert_eq!(urb.value(), u16::from_le_bytes([v0, v1]));
    assert_eq!(urb.index(), u16::from_le_bytes([i0, i1]));
    assert_eq!(
        urb.transfer_buffer_length(),
        u16::from_le_bytes([l0, l1]).into()
    );
    assert_eq!(urb.transfer_buffer_mdl(), 0);
    assert_eq!(urb.setups, [setup]);
}

#[test]
fn a_started_scanner_has_its_documented_names() {
    let pc = ScannerPc::new();
    assert_link(&pc.machine, r"\Usbscan0", r"\Device\Usbscan0");
    let interfaces = pc.machine.interfaces();
    assert_eq!(interfaces.len(), 1, "{interfaces:?}");
    let (class, name, enabled) = &interfaces[0];
    assert!(class.eq_ignore_ascii_case(GUID_DEVINTERFACE_IMAGE));
    assert!(enabled);
    let file = pc.open_as(name, Caller::User64);
    pc.close(file);
    let device = pc
        .machine
        .devices()
        .into_iter()
        .find(|device| device.name.as_deref() == Some(r"\Device\Usbscan0"))
        .unwrap();
    assert_ne!(device.characteristics & 0x100, 0, "FILE_DEVICE_SECURE_OPEN");
    assert_eq!(device.security[2..4], [0x04, 0x90], "a protected DACL");
    let name = pc
        .machine
        .registry(|registry| registry.get(SOFTWARE_KEY, "CreateFileName"));
    assert_eq!(name, Some(RegValue::Sz(r"\\.\Usbscan0".into())));
    assert_eq!(pc.scanner.configuration(), 1);
    pc.finish();
}

#[test]
fn handles_know_version_descriptor_and_pipes() {
    ScannerPc::new().with_open(|pc, file| {
        let version = pc.control(file, usbscan_h::IOCTL_GET_VERSION, &[], DrvVersion::SIZE);
        assert_eq!(version.outcome(), (NtStatus::SUCCESS, 12));
        assert_ne!(DrvVersion::parse(&version.output).minor, 0);
        let who = pc.control(file, usbscan_h::IOCTL_GET_DEVICE_DESCRIPTOR, &[], 8);
        assert_eq!(who.outcome(), (NtStatus::SUCCESS, 8));
        assert_eq!(
            DeviceDescriptor::parse(&who.output),
            DeviceDescriptor {
                vendor: Scanner::VENDOR,
                product: Scanner::PRODUCT,
                release: Scanner::RELEASE,
                language: 0,
            }
        );
        let sizes = pc.control(file, usbscan_h::IOCTL_GET_CHANNEL_ALIGN_RQST, &[], 12);
        assert_eq!(sizes.outcome(), (NtStatus::SUCCESS, 12));
        assert_eq!(
            ChannelInfo::parse(&sizes.output),
            ChannelInfo {
                event: 8,
                read: 512,
                write: 512,
            }
        );
        let pipes = pc.control(
            file,
            usbscan_h::IOCTL_GET_PIPE_CONFIGURATION,
            &[],
            PIPE_CONFIGURATION_SIZE,
        );
        assert_eq!(pipes.outcome(), (NtStatus::SUCCESS, 68));
        let (count, table) = pipe_configuration(&pipes.output);
        assert_eq!(count, 3);
        let pipe = |max_packet, endpoint, interval, kind| PipeInformation {
            max_packet,
            endpoint,
            interval,
            kind,
        };
        assert_eq!(table[1], pipe(512, 0x02, table[1].interval, 2));
        assert_eq!(table[2], pipe(8, 0x83, 7, 3));
        assert!(table[3..].iter().all(|it| *it == pipe(0, 0, 0, 0)));
        for (code, size) in [
            (usbscan_h::IOCTL_GET_VERSION, 12),
            (usbscan_h::IOCTL_GET_DEVICE_DESCRIPTOR, 8),
            (usbscan_h::IOCTL_GET_CHANNEL_ALIGN_RQST, 12),
            (usbscan_h::IOCTL_GET_PIPE_CONFIGURATION, 68),
        ] {
            let short = pc.control(file, code, &[], size - 1);
            assert_eq!(short.status, NtStatus::BUFFER_TOO_SMALL, "{code:#x}");
            assert_eq!(short.information, 0);
        }
        let unknown = pc.control(file, 0x8000_2030, &[0; 24], 24);
        assert_eq!(unknown.status, NtStatus::INVALID_DEVICE_REQUEST);
    });
}

#[test]
fn a_name_behind_the_device_chooses_the_pipes() {
    // The example of the usb-driver page, with interrupt IN endpoints.
    let endpoints = [
        Endpoint::interrupt(0x81, 8, 4),
        Endpoint::bulk(0x82, 64),
        Endpoint::bulk(0x83, 512),
        Endpoint::bulk(0x04, 64),
        Endpoint::bulk(0x05, 512),
        Endpoint::interrupt(0x86, 16, 4),
    ];
    let pc = ScannerSetup {
        scanner: Scanner::with_endpoints(Speed::High, &endpoints),
        ..ScannerSetup::default()
    }
    .started();
    for (name, sizes) in [
        ("", (16, 512, 512)),
        (r"\0", (8, 512, 512)),
        (r"\1", (16, 64, 512)),
        (r"\2", (16, 512, 512)),
        (r"\3", (16, 512, 64)),
        (r"\005", (16, 512, 512)),
    ] {
        let file = pc.open_as(&format!(r"\\.\Usbscan0{name}"), Caller::User64);
        let result = pc.control(file, usbscan_h::IOCTL_GET_CHANNEL_ALIGN_RQST, &[], 12);
        let info = ChannelInfo::parse(&result.output);
        assert_eq!((info.event, info.read, info.write), sizes, "{name:?}");
        pc.close(file);
    }
    for name in [
        r"\6",
        r"\x",
        r"\1\1",
        r"\-1",
        r"\",
        r"\18446744073709551617",
    ] {
        let open = pc.try_open(&format!(r"\\.\Usbscan0{name}"), Caller::User64);
        assert_eq!(open, Err(NtStatus::OBJECT_NAME_NOT_FOUND), "{name:?}");
    }
    pc.finish();
}

/// `uLength` 0 and 1 have bRequest 0x0C, more has 0x04.
#[test]
fn registers_are_written_from_memory_of_every_caller() {
    for caller in [Caller::User64, Caller::User32] {
        let pc = ScannerPc::new();
        let file = pc.open_as(r"\\.\Usbscan0", caller);
        let data: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let address = pc.machine.user_alloc(caller, &data);
        for (length, request) in [
            (0u16, 0x0C),
            (1, 0x0C),
            (2, 0x04),
            (64, 0x04),
            (65, 0x04),
            (4096, 0x04),
        ] {
            let before = pc.machine.urb_count();
            let touched = pc.machine.touches(address);
            let written = pc.write_registers(
                file,
                IoBlock {
                    index: 0xABCD_0007,
                    ..block(0x1234_0100, length.into(), address)
                },
            );
            assert_eq!(written.status, NtStatus::SUCCESS, "{length} bytes");
            assert_eq!(written.information, 0);
            let urbs = pc.urbs_since(before);
            assert_eq!(urbs.len(), 1);
            let [l0, l1] = length.to_le_bytes();
            assert_vendor(&urbs[0], 0, [0x40, request, 0, 1, 7, 0, l0, l1]);
            assert_eq!(urbs[0].data, data[..length.into()]);
            assert_ne!(urbs[0].transfer_buffer(), address, "a captured copy");
            assert!(
                pc.machine.touches(address) - touched <= u64::from(length),
                "each byte is read once"
            );
            assert_eq!(pc.scanner.registers(0x100, length.into()), urbs[0].data);
        }
        pc.close_and_finish(file);
    }
}

/// What the demo and the page of requests show of a register write is compared, byte for byte.
#[test]
fn no_byte_of_a_register_write_may_differ() {
    ScannerPc::new().with_open(|pc, file| {
        let write = RegisterWrite::record(pc, file, 0x1234, 0x0605, &[0x11, 0x22]);
        assert_eq!(write.check(), Ok(()));
        // All but the header's padding and the address of the copy.
        for at in (0..0x14).chain(0x18..0x28).chain(0x30..0x88) {
            let mut other = write.clone();
            other.urb.sent[at] ^= 0x80;
            assert!(other.check().is_err(), "byte {at:#x} of the URB");
        }
        for at in 0..8 {
            let mut other = write.clone();
            other.urb.setups[0][at] ^= 0x80;
            assert!(other.check().is_err(), "byte {at} of the SETUP packet");
        }
        let with_address = |address: u64| {
            let mut other = write.clone();
            other.urb.sent[0x28..0x30].copy_from_slice(&address.to_le_bytes());
            other.check()
        };
        assert!(with_address(0).is_err(), "no buffer");
        assert!(with_address(write.block.data).is_err(), "the program's own");
        let mut other = write.clone();
        other.urb.data[0] ^= 1;
        assert!(other.check().is_err(), "the data stage");
        let mut other = write.clone();
        other.registers[0] ^= 1;
        assert!(other.check().is_err(), "the registers");
        let mut other = write;
        other.result.information = 2;
        assert!(other.check().is_err(), "Information");
    });
}

#[test]
fn registers_are_read() {
    for caller in [Caller::User64, Caller::User32] {
        let pc = ScannerPc::new();
        let file = pc.open_as(r"\\.\Usbscan0", caller);
        pc.scanner.set_registers(0x2000, &[1, 2, 3, 4, 5, 6, 7, 8]);
        for (length, request) in [(0u16, 0x0C), (1, 0x0C), (2, 0x04), (8, 0x04)] {
            let before = pc.machine.urb_count();
            let read = pc.read_registers(file, 0x2000, length.into());
            assert_eq!(read.status, NtStatus::SUCCESS);
            assert_eq!(read.information, length.into());
            assert_eq!(
                read.output,
                (1..=8).take(length.into()).collect::<Vec<u8>>()
            );
            let [l0, l1] = length.to_le_bytes();
            let urbs = pc.urbs_since(before);
            assert_vendor(&urbs[0], 1, [0xC0, request, 0, 0x20, 0, 0, l0, l1]);
        }
        // The output must have the length of the request.
        for output in [3, 5] {
            let input = block(0, 4, 0).bytes(caller);
            let result = pc.control(file, usbscan_h::IOCTL_READ_REGISTERS, &input, output);
            assert_eq!(result.status, NtStatus::INVALID_PARAMETER);
        }
        // A short answer: what came, and no more.
        pc.scanner.answer_vendor(0x04, &[9, 8, 7]);
        let read = pc.read_registers(file, 0, 16);
        assert_eq!(read.outcome(), (NtStatus::SUCCESS, 3));
        assert_eq!(read.output[..3], [9, 8, 7]);
        pc.close_and_finish(file);
    }
}

#[test]
fn any_vendor_request_is_sent_and_never_another_type() {
    for caller in [Caller::User64, Caller::User32] {
        let pc = ScannerPc::new();
        let file = pc.open_as(r"\\.\Usbscan0", caller);
        let data = [0x11, 0x22, 0x33];
        let address = pc.machine.user_alloc(caller, &data);
        let request = |direction_in, length| IoBlockEx {
            block: IoBlock {
                index: 0x0605,
                ..block(0x0403, length, address)
            },
            request: 0x9A,
            // A standard request, if the driver honoured it.
            request_type: 0x00,
            direction_in,
        };
        let before = pc.machine.urb_count();
        let sent = pc.send_request(file, request(0, 3), 0);
        assert_eq!(sent.outcome(), (NtStatus::SUCCESS, 0));
        assert_eq!(pc.scanner.vendor_data(), data);
        pc.scanner.answer_vendor(0x9A, &[5, 6, 7, 8]);
        let got = pc.send_request(file, request(0xFF, 4), 4);
        assert_eq!(got.outcome(), (NtStatus::SUCCESS, 4));
        assert_eq!(got.output, [5, 6, 7, 8]);
        let none = pc.send_request(file, request(0, 0), 0);
        assert_eq!(none.outcome(), (NtStatus::SUCCESS, 0));
        let urbs = pc.urbs_since(before);
        assert_eq!(urbs.len(), 3);
        assert_vendor(&urbs[0], 0, [0x40, 0x9A, 3, 4, 5, 6, 3, 0]);
        assert_vendor(&urbs[1], 1, [0xC0, 0x9A, 3, 4, 5, 6, 4, 0]);
        assert_vendor(&urbs[2], 0, [0x40, 0x9A, 3, 4, 5, 6, 0, 0]);
        let short = pc.send_request(file, request(1, 4), 3);
        assert_eq!(short.status, NtStatus::INVALID_PARAMETER);
        // The write's output buffer is the same memory: nothing may be copied over it.
        let sent = pc.send_request(file, request(0, 3), 64);
        assert_eq!(sent.outcome(), (NtStatus::SUCCESS, 0));
        pc.close_and_finish(file);
    }
}

#[test]
fn bad_requests_reach_no_device() {
    let pc = ScannerPc::new();
    let file = pc.open();
    let narrow = pc.open_as(r"\\.\Usbscan0", Caller::User32);
    let address = pc.machine.user_alloc(Caller::User64, &[0; 4096]);
    let locked = pc.machine.user_alloc(Caller::User64, &[0; 4096]);
    pc.machine.user_protect(locked, 4096, Protection::None);
    let before = pc.machine.urb_count();
    let write = |file: Opened, block: IoBlock| pc.write_registers(file, block).status;
    assert_eq!(
        write(file, block(0, 1, 0)),
        NtStatus::INVALID_PARAMETER,
        "null"
    );
    assert_eq!(
        write(file, block(0, 0x1_0000, address)),
        NtStatus::INVALID_PARAMETER,
        "longer than wLength"
    );
    for (file, data) in [
        (file, locked),
        (file, 0xFFFF_8000_0000_0000),
        (file, usize::MAX),
        (narrow, 0xFFFF_FFFF),
    ] {
        for length in [1, 2, 65] {
            assert_eq!(
                write(file, block(0, length, data)),
                NtStatus::ACCESS_VIOLATION,
                "{data:#x}"
            );
        }
    }
    for (code, native, bits32) in [
        (usbscan_h::IOCTL_READ_REGISTERS, 24, 16),
        (usbscan_h::IOCTL_WRITE_REGISTERS, 24, 16),
        (usbscan_h::IOCTL_SEND_USB_REQUEST, 24, 20),
    ] {
        for (file, least) in [(file, native), (narrow, bits32)] {
            let result = pc.control(file, code, &vec![0; least - 1], 0);
            assert_eq!(result.status, NtStatus::INVALID_PARAMETER, "{code:#x}");
            assert_eq!(result.information, 0);
        }
    }
    assert_eq!(pc.machine.urb_count(), before);
    // The pipe is as good as before.
    assert_eq!(write(file, block(0, 4, address)), NtStatus::SUCCESS);
    pc.close(file);
    pc.close_and_finish(narrow);
}

#[test]
fn descriptors_are_read_as_they_are() {
    ScannerPc::new().with_open(|pc, file| {
        let set = pc.scanner.descriptors();
        for (input, room, expected) in [
            (get_descriptor(1, 0, 0), 18, &set.device),
            (get_descriptor(1, 0, 0), 64, &set.device),
            (get_descriptor(2, 0, 0), 4096, &set.configuration),
            (get_descriptor(3, 0, 0), 255, &set.strings[0]),
            (get_descriptor(3, 1, 0x0409), 255, &set.strings[1]),
        ] {
            let got = pc.control(file, usbscan_h::IOCTL_GET_USB_DESCRIPTOR, &input, room);
            assert_eq!(got.status, NtStatus::SUCCESS);
            assert_eq!(&got.output[..expected.len()], expected);
            assert_eq!(got.information, expected.len());
        }
        let stall = pc.control(
            file,
            usbscan_h::IOCTL_GET_USB_DESCRIPTOR,
            &get_descriptor(3, 200, 0),
            255,
        );
        assert_eq!(stall.outcome(), (NtStatus::UNSUCCESSFUL, 0));
    });
}

#[test]
fn a_control_request_is_given_two_minutes() {
    ScannerPc::new().with_open(|pc, file| {
        pc.scanner.set_silent(0, true);
        let read = pc.read_registers(file, 0, 8);
        assert_eq!(read.outcome(), (NtStatus::IO_TIMEOUT, 0));
        assert!((120_000..120_100).contains(&(read.took / 1_000_000)));
        pc.scanner.set_silent(0, false);
        assert_eq!(pc.read_registers(file, 0, 8).status, NtStatus::SUCCESS);
    });
}

/// What a program sets for reads and writes is for control requests, too, by the direction of their
/// data; but none waits for ever.
#[test]
fn a_control_request_is_given_the_time_that_was_set() {
    for (set, read, write) in [
        ((3, 5, 1), 3, 5),
        ((0, 0, 0), 120, 120),
        ((300, 1, 0), 214, 1),
    ] {
        ScannerPc::new().with_open(|pc, file| {
            let input = usbscan_h::timeout(set.0, set.1, set.2);
            let result = pc.control(file, usbscan_h::IOCTL_SET_TIMEOUT, &input, 0);
            assert_eq!(result.status, NtStatus::SUCCESS);
            let address = pc.machine.user_alloc(Caller::User64, &[0; 16]);
            pc.scanner.set_silent(0, true);
            let input = get_descriptor(1, 0, 0);
            for (result, seconds) in [
                (pc.read_registers(file, 0, 8), read),
                (
                    pc.control(file, usbscan_h::IOCTL_GET_USB_DESCRIPTOR, &input, 18),
                    read,
                ),
                (pc.write_registers(file, block(0, 8, address)), write),
            ] {
                let ended = result.outcome();
                assert_eq!(ended, (NtStatus::IO_TIMEOUT, 0));
                assert_eq!(result.took / 1_000_000_000, seconds, "{set:?}");
            }
            pc.scanner.set_silent(0, false);
            assert_eq!(pc.read_registers(file, 0, 8).status, NtStatus::SUCCESS);
        });
    }
}

/// `IOCTL_CANCEL_IO` of all pipes ends control requests of every handle, under way or waiting; of
/// one pipe, none.
#[test]
fn control_requests_end_when_all_pipes_are_cancelled() {
    ScannerPc::new().with_open(|pc, file| {
        let other = pc.open();
        pc.scanner.set_silent(0, true);
        let input = block(0, 8, 0).bytes(Caller::User64);
        let requests: Vec<_> = [file, file, other]
            .into_iter()
            .map(|file| pc.start(file, usbscan_h::IOCTL_READ_REGISTERS, &input, 8))
            .collect();
        for pipe in [
            usbscan_h::EVENT_PIPE,
            usbscan_h::READ_DATA_PIPE,
            usbscan_h::WRITE_DATA_PIPE,
            usbscan_h::ALL_PIPE,
        ] {
            check(pc.machine.run_for(parscan_tests::MS));
            assert!(requests.iter().all(|request| !pc.machine.is_done(request)));
            let input = usbscan_h::pipe_type(pipe);
            let cancel = pc.control(file, usbscan_h::IOCTL_CANCEL_IO, &input, 0);
            assert_eq!(cancel.status, NtStatus::SUCCESS);
        }
        for request in &requests {
            let result = pc.finish_request(request);
            let ended = result.outcome();
            assert_eq!(ended, (NtStatus::CANCELLED, 0));
        }
        pc.scanner.set_silent(0, false);
        assert_eq!(pc.read_registers(file, 0, 8).status, NtStatus::SUCCESS);
        pc.close(other);
    });
}

/// Requests that wait behind another one keep the data that they had when they were sent.
#[test]
fn queued_writes_keep_their_data_and_their_order() {
    ScannerPc::new().with_open(|pc, file| {
        pc.scanner.set_silent(0, true);
        let address = pc.machine.user_alloc(Caller::User64, &[0; 16]);
        let mut requests = Vec::new();
        for number in 0..8u8 {
            pc.machine.user_write(address, &[number; 16]);
            let input = block(0x10, 16, address).bytes(Caller::User64);
            requests.push(pc.start(file, usbscan_h::IOCTL_WRITE_REGISTERS, &input, 0));
        }
        pc.machine.user_free(address);
        check(pc.machine.cancel(&requests[3]));
        check(pc.machine.cancel(&requests[7]));
        let before = pc.machine.urb_count();
        pc.scanner.set_silent(0, false);
        for (number, request) in requests.iter().enumerate() {
            let expected = match number {
                3 | 7 => NtStatus::CANCELLED,
                _ => NtStatus::SUCCESS,
            };
            assert_eq!(pc.finish_request(request).status, expected, "{number}");
        }
        let sent: Vec<u8> = pc
            .urbs_since(before)
            .iter()
            .map(|urb| urb.data[0])
            .collect();
        assert_eq!(sent, [1, 2, 4, 5, 6]);
    });
}

/// A device of several functions: the first interface of a scanner's class is used, wherever it is.
#[test]
fn the_interface_of_the_scanner_is_used_among_others() {
    const OTHER_CLASS: u8 = 3;
    let pipes = |interfaces: &[bool]| {
        let setup = ScannerSetup::default();
        let mut set = setup.scanner.descriptors();
        let (header, own) = set.configuration.split_at(9);
        let mut header = header.to_vec();
        let mut body = Vec::new();
        for (number, is_scanner) in (0..).zip(interfaces) {
            let mut interface = match is_scanner {
                true => own.to_vec(),
                false => vec![9, 4, 0, 0, 0, OTHER_CLASS, 0, 0, 0],
            };
            interface[2] = number;
            body.extend(interface);
        }
        let total = u16::try_from(9 + body.len()).unwrap();
        header[2..4].copy_from_slice(&total.to_le_bytes());
        header[4] = u8::try_from(interfaces.len()).unwrap();
        set.configuration = [header, body].concat();
        setup.scanner.set_descriptors(set);
        let pc = setup.started();
        let file = pc.open();
        let answer = pc.control(file, usbscan_h::IOCTL_GET_PIPE_CONFIGURATION, &[], 68);
        assert_eq!(answer.status, NtStatus::SUCCESS, "{interfaces:?}");
        pc.close(file);
        pc.finish();
        answer.output
    };
    let alone = pipes(&[true]);
    for among in [
        &[false, true][..],
        &[true, false],
        &[false, false, true],
        &[false, true, false],
    ] {
        assert_eq!(pipes(among), alone, "{among:?}");
    }
}

/// Whatever a device says of itself, it starts, or it does not; and nothing is left.
#[test]
fn hostile_descriptors_are_survived() {
    for seed in 0..300 {
        let setup = ScannerSetup::default();
        setup.scanner.set_descriptors(DescriptorSet::hostile(seed));
        let pc = setup.loaded();
        assert_eq!(
            check(pc.machine.add_device(pc.node, pc.driver)),
            NtStatus::SUCCESS
        );
        let started = check(pc.machine.start(pc.node));
        if started == NtStatus::SUCCESS {
            let file = pc.open();
            let _ = pc.control(file, usbscan_h::IOCTL_GET_PIPE_CONFIGURATION, &[], 68);
            pc.close(file);
        }
        check(pc.machine.remove(pc.node));
        pc.unload();
    }
}

/// Eight endpoints, two of them of a kind that no transfer uses: the table has them all.
#[test]
fn endpoints_of_every_kind_are_in_the_table() {
    let odd = |address, attributes| Endpoint {
        address,
        attributes,
        max_packet: 64,
        interval: 1,
    };
    let endpoints = [
        odd(0x01, 0),
        odd(0x82, 0),
        Endpoint::bulk(0x83, 512),
        Endpoint::bulk(0x04, 512),
        Endpoint::interrupt(0x85, 16, 4),
        Endpoint::bulk(0x86, 512),
        Endpoint::bulk(0x07, 512),
        Endpoint::interrupt(0x88, 16, 4),
    ];
    let pc = ScannerSetup {
        scanner: Scanner::with_endpoints(Speed::High, &endpoints),
        ..ScannerSetup::default()
    }
    .started();
    pc.with_open(|pc, file| {
        let code = usbscan_h::IOCTL_GET_PIPE_CONFIGURATION;
        let got = pc.control(file, code, &[], PIPE_CONFIGURATION_SIZE);
        let (count, table) = pipe_configuration(&got.output);
        assert_eq!(count, 8);
        let told: Vec<_> = table
            .iter()
            .map(|pipe| (pipe.endpoint, pipe.kind))
            .collect();
        let expected: Vec<_> = endpoints
            .iter()
            .map(|it| (it.address, u32::from(it.attributes & 3)))
            .collect();
        assert_eq!(told, expected);
    });
}

//! What real devices and hubs do to a scanner's requests: packets of every size, short ones where
//! URBs end, refusals in every stage, too many bytes, a device that comes back as another one.

use std::{cell::RefCell, rc::Rc};

use ntsim::{Caller, IoResult, NtStatus};
use parscan_models::{Scanner, Speed, UsbFunction};
use parscan_tests::{
    MS, check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        self, ChannelInfo, IOCTL_GET_CHANNEL_ALIGN_RQST, IOCTL_GET_USB_DESCRIPTOR,
        IOCTL_RESET_PIPE, IoBlock, READ_DATA_PIPE, WRITE_DATA_PIPE, get_descriptor, pipe_type,
    },
};

/// The longest URB, bytes.
const CHUNK: usize = 0x1_0000;

fn ended(result: &IoResult) -> (NtStatus, usize) {
    result.outcome()
}

fn at(speed: Speed) -> ScannerPc {
    ScannerSetup {
        scanner: Scanner::new(speed),
        ..ScannerSetup::default()
    }
    .started()
}

fn reset(pc: &ScannerPc, file: Opened, pipe: u32) {
    let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(pipe), 0);
    assert_eq!(reset.status, NtStatus::SUCCESS);
}

const SPEEDS: [(Speed, usize); 3] = [(Speed::Full, 64), (Speed::High, 512), (Speed::Super, 1024)];

/// At every speed: an image in pieces around the packet and the URB, a write, a button.
#[test]
fn a_scanner_works_at_every_speed() {
    for (speed, packet) in SPEEDS {
        at(speed).with_open(|pc, file| {
            let sizes = pc.control(file, IOCTL_GET_CHANNEL_ALIGN_RQST, &[], ChannelInfo::SIZE);
            let bulk = u32::try_from(packet).unwrap();
            let sizes = ChannelInfo::parse(&sizes.output);
            assert_eq!((sizes.event, sizes.read, sizes.write), (8, bulk, bulk));
            for piece in [
                1,
                packet - 1,
                packet,
                packet + 1,
                CHUNK - 1,
                CHUNK,
                CHUNK + packet + 1,
            ] {
                let length = 150_000.min(piece * 300);
                let image = Scanner::image(9, length);
                pc.scanner.send(BULK_IN, &image, false);
                let before = pc.machine.urb_count();
                let mut got: Vec<u8> = Vec::new();
                while got.len() < length {
                    let read = pc.read(file, piece.min(length - got.len()));
                    assert_eq!(read.status, NtStatus::SUCCESS, "{speed:?}, {piece}");
                    got.extend(&read.output[..read.information]);
                }
                assert!(got == image, "{speed:?}, pieces of {piece}");
                for urb in pc.urbs_since(before) {
                    let length = urb.transfer_buffer_length();
                    assert!(length % bulk == 0 && length <= 0x1_0000, "{length} bytes");
                }
            }
            let data = Scanner::image(10, 3 * CHUNK + 7);
            assert_eq!(
                ended(&pc.write(file, &data)),
                (NtStatus::SUCCESS, data.len())
            );
            assert!(pc.scanner.written(BULK_OUT) == data);
            let event = pc.wait_on_event(file, 8);
            pc.scanner.press(&[1, 2, 3]);
            assert_eq!(ended(&pc.finish_request(&event)), (NtStatus::SUCCESS, 3));
        });
    }
}

/// A message that ends about where a URB does ends the read there and nowhere else; one that ends
/// with a full packet ends none, unless an empty packet follows.
#[test]
fn short_packets_at_the_ends_of_urbs_end_a_read() {
    for (speed, packet) in SPEEDS {
        at(speed).with_open(|pc, file| {
            for whole in [CHUNK, 2 * CHUNK] {
                for length in [whole - packet - 1, whole - 1, whole + 1, whole + packet - 1] {
                    let message = Scanner::image(11, length);
                    pc.scanner.send(BULK_IN, &message, false);
                    pc.scanner.send(BULK_IN, b"the next one", false);
                    let read = pc.read(file, 4 * CHUNK);
                    assert_eq!(ended(&read), (NtStatus::SUCCESS, length), "{speed:?}");
                    assert!(read.output[..length] == message);
                    let next = pc.read(file, 4 * CHUNK);
                    assert_eq!(next.output[..next.information], *b"the next one");
                }
                let message = Scanner::image(12, whole);
                for with_empty in [true, false] {
                    pc.scanner.send(BULK_IN, &message, with_empty);
                    pc.scanner.send(BULK_IN, b"behind", false);
                    let read = pc.read(file, 4 * CHUNK);
                    let all = if with_empty { whole } else { whole + 6 };
                    assert_eq!(ended(&read), (NtStatus::SUCCESS, all), "{speed:?}");
                    if with_empty {
                        assert_eq!(pc.read(file, 64).information, 6);
                    }
                    // A read of just as many bytes: the empty packet is the next one's.
                    pc.scanner.send(BULK_IN, &message, with_empty);
                    let read = pc.read(file, whole);
                    assert_eq!(ended(&read), (NtStatus::SUCCESS, whole));
                    if with_empty {
                        assert_eq!(ended(&pc.read(file, 64)), (NtStatus::SUCCESS, 0));
                    }
                }
            }
        });
    }
}

/// A device that is busy for minutes is waited for as long as the program has said.
#[test]
fn a_device_may_say_nak_for_long() {
    ScannerPc::new().with_open(|pc, file| {
        let forever = usbscan_h::timeout(0, 0, 0);
        let set = pc.control(file, usbscan_h::IOCTL_SET_TIMEOUT, &forever, 0);
        assert_eq!(set.status, NtStatus::SUCCESS);
        let until = pc.machine.now() + 1800 * 1000 * MS;
        for endpoint in [BULK_IN, BULK_OUT] {
            pc.scanner.hold_at(endpoint, 100, until);
        }
        let image = Scanner::image(13, 2 * CHUNK);
        pc.scanner.send(BULK_IN, &image, false);
        let read = pc.machine.start_read(file.handle, 2 * CHUNK);
        let write = pc.machine.start_write(file.handle, &image);
        for request in [&read, &write] {
            let result = pc.finish_request(request);
            assert_eq!(ended(&result), (NtStatus::SUCCESS, 2 * CHUNK));
            assert!(result.took >= 1800 * 1000 * MS - MS);
        }
    });
}

/// Makes the next control transfer go wrong.
type Fault = fn(&Scanner);

/// Requests of the control pipe that the device refuses: in the data stage, in the status stage,
/// when it has got or sent the data, or with more data than was asked for. Nothing reaches the
/// program, and the next request is served.
#[test]
fn a_control_request_is_refused_in_any_stage() {
    let faults: [(&str, Fault); 3] = [
        ("data stage", |scanner| scanner.stall_at(0, 1)),
        ("status stage", |scanner| scanner.stall_status_at(1)),
        ("babble", |scanner| scanner.babble_at(0, 1, 7)),
    ];
    for (what, fault) in faults {
        ScannerPc::new().with_open(|pc, file| {
            let address = pc.machine.user_alloc(Caller::User64, &[0x55; 8]);
            let block = IoBlock {
                offset: 0x40,
                length: 8,
                data: u64::try_from(address).unwrap(),
                index: 0,
            };
            let refused = (NtStatus::UNSUCCESSFUL, 0);
            pc.scanner.set_registers(0x40, &[1; 8]);
            fault(&pc.scanner);
            let read = pc.read_registers(file, 0x40, 8);
            assert_eq!(ended(&read), refused, "{what}");
            let from_device = [1, 0xBB];
            assert!(!read.output.iter().any(|byte| from_device.contains(byte)));
            fault(&pc.scanner);
            let input = get_descriptor(1, 0, 0);
            let descriptor = pc.control(file, IOCTL_GET_USB_DESCRIPTOR, &input, 18);
            assert_eq!(ended(&descriptor), refused, "{what}");
            if what != "babble" {
                fault(&pc.scanner);
                assert_eq!(ended(&pc.write_registers(file, block)), refused, "{what}");
            }
            assert_eq!(pc.read_registers(file, 0x40, 8).information, 8, "{what}");
            assert_eq!(pc.write_registers(file, block).status, NtStatus::SUCCESS);
            assert_eq!(pc.scanner.registers(0x40, 8), [0x55; 8]);
        });
    }
}

/// A packet that is too long halts the pipe; what came before it counts.
#[test]
fn babble_halts_the_pipe() {
    for (speed, packet) in SPEEDS {
        for k in [1, 2, CHUNK / packet, CHUNK / packet + 1, CHUNK / packet + 3] {
            at(speed).with_open(|pc, file| {
                let image = Scanner::image(14, 2 * CHUNK);
                pc.scanner.send(BULK_IN, &image, false);
                pc.scanner.babble_at(BULK_IN, u32::try_from(k).unwrap(), 1);
                let read = pc.read(file, 2 * CHUNK);
                let came = (k - 1) * packet;
                assert_eq!(ended(&read), (NtStatus::UNSUCCESSFUL, came), "{speed:?}");
                assert!(read.output[..came] == image[..came]);
                assert_eq!(ended(&pc.read(file, 64)), (NtStatus::UNSUCCESSFUL, 0));
                reset(pc, file, READ_DATA_PIPE);
                let read = pc.read(file, CHUNK / 2);
                assert_eq!(ended(&read), (NtStatus::SUCCESS, CHUNK / 2));
                assert!(read.output == image[came..came + CHUNK / 2]);
            });
        }
    }
}

/// A stall of the bulk OUT pipe at any packet of three URBs.
#[test]
fn a_stall_of_a_write_tells_what_went() {
    for k in [1, 2, 128, 129, 200, 257, 384] {
        ScannerPc::new().with_open(|pc, file| {
            let data = Scanner::image(15, 3 * CHUNK);
            pc.scanner.stall_at(BULK_OUT, k);
            let write = pc.write(file, &data);
            let went = (usize::try_from(k).unwrap() - 1) * 512;
            assert_eq!(ended(&write), (NtStatus::UNSUCCESSFUL, went));
            assert!(pc.scanner.written(BULK_OUT) == data[..went]);
            assert_eq!(pc.write(file, &data).information, 0, "halted yet");
            reset(pc, file, WRITE_DATA_PIPE);
            let rest = pc.write(file, &data[went..]);
            assert_eq!(ended(&rest), (NtStatus::SUCCESS, data.len() - went));
            assert!(pc.scanner.written(BULK_OUT) == data);
        });
    }
}

/// The device resets itself in the middle of a request and comes back, as after loading firmware:
/// for the hub it is gone, and another one there. What came is told; the new one works while the
/// old handle is still open.
#[test]
fn a_device_that_enumerates_again_ends_its_requests() {
    for packet in [1, 64, 129, 300] {
        let pc = ScannerPc::new();
        let file = pc.open();
        let image = Scanner::image(16, 4 * CHUNK);
        pc.scanner.send(BULK_IN, &image, false);
        pc.scanner.silence_at(BULK_IN, packet);
        let event = pc.wait_on_event(file, 8);
        let read = pc.machine.start_read(file.handle, 4 * CHUNK);
        check(pc.machine.run_for(100 * MS));
        check(pc.machine.unplug(pc.node));
        let came = (usize::try_from(packet).unwrap() - 1) * 512;
        let read = pc.finish_request(&read);
        assert_eq!(ended(&read), (NtStatus::NO_SUCH_DEVICE, came));
        assert!(read.output[..came] == image[..came]);
        let event = pc.finish_request(&event);
        assert_eq!(ended(&event), (NtStatus::NO_SUCH_DEVICE, 0));

        pc.scanner.forget(BULK_IN);
        pc.scanner.set_silent(BULK_IN, false);
        let mut function = pc.scanner.clone();
        function.bus_reset(pc.machine.now());
        let spec = ScannerSetup::default().device("1");
        let node = pc.machine.plug_usb(spec, Rc::new(RefCell::new(function)));
        let added = check(pc.machine.add_device(node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.start(node)), NtStatus::SUCCESS);
        // The old one has its name until its last handle is closed.
        let new = pc.open_as(r"\\.\Usbscan1", Caller::User64);
        pc.scanner.send(BULK_IN, b"fresh", false);
        assert_eq!(pc.read(new, 64).information, 5);
        assert_eq!(pc.read(file, 64).status, NtStatus::DELETE_PENDING);
        pc.close(file);
        pc.close(new);
        assert_eq!(check(pc.machine.remove(node)), NtStatus::SUCCESS);
        check(pc.machine.run_until_idle());
        pc.unload();
    }
}

/// There are 256 names for scanners: the next one has none, and works when one is free again.
#[test]
fn the_257th_scanner_has_no_name() {
    let setup = ScannerSetup::default();
    let pc = setup.clone().loaded();
    let add = |node| check(pc.machine.add_device(node, pc.driver));
    assert_eq!(add(pc.node), NtStatus::SUCCESS);
    let mut nodes = vec![pc.node];
    let refused = loop {
        let scanner = Rc::new(RefCell::new(Scanner::default()));
        let instance = format!("{}", nodes.len() + 1);
        let node = pc.machine.plug_usb(setup.device(&instance), scanner);
        match add(node) {
            NtStatus::SUCCESS => nodes.push(node),
            other => {
                assert_eq!(other, NtStatus::OBJECT_NAME_COLLISION);
                break node;
            }
        }
        assert!(nodes.len() < 1000, "there is an end");
    };
    assert_eq!(nodes.len(), 256);
    assert_eq!(check(pc.machine.remove(nodes[3])), NtStatus::SUCCESS);
    assert_eq!(add(refused), NtStatus::SUCCESS);
    assert_eq!(check(pc.machine.start(refused)), NtStatus::SUCCESS);
    let opened = pc.try_open(r"\\.\Usbscan3", Caller::User64);
    pc.close(opened.expect("it has the name that was free"));
    nodes.push(refused);
    for (place, node) in nodes.into_iter().enumerate() {
        if place != 3 {
            assert_eq!(check(pc.machine.remove(node)), NtStatus::SUCCESS);
        }
    }
    check(pc.machine.unload(pc.driver));
}

//! `ReadFile` and `WriteFile` on a scanner: one stream each, in transfers that suit the bus.

use ntsim::{
    Caller, Config, NtStatus, Protection, When,
    usb::{Urb, layout::function},
};
use parscan_models::{Scanner, Speed};
use parscan_tests::{
    MS, check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{self, IoBlock},
};

/// Makes the scanner send an image.
fn scan(pc: &ScannerPc, file: Opened, length: u32, seed: u32) {
    let command = Scanner::scan_command(length, seed);
    let sent = pc.write(file, &command);
    assert_eq!(sent.outcome(), (NtStatus::SUCCESS, command.len()));
}

fn lengths(urbs: &[Urb], endpoint: u8) -> Vec<u32> {
    urbs.iter()
        .filter(|urb| urb.endpoint == endpoint)
        .map(Urb::transfer_buffer_length)
        .collect()
}

fn setups() -> impl Iterator<Item = (u64, ScannerSetup)> {
    (0..6).map(|seed| {
        let speed = [Speed::High, Speed::Full][usize::from(seed % 2 == 1)];
        let setup = ScannerSetup {
            config: Config {
                seed,
                filter: seed % 3 == 2,
                preempt_per_mille: 100,
                ..Config::default()
            },
            scanner: Scanner::new(speed),
            ..ScannerSetup::default()
        };
        (seed, setup)
    })
}

#[test]
fn an_image_is_read_in_pieces_of_any_length() {
    for (seed, setup) in setups() {
        setup.started().with_open(|pc, file| {
            let image = Scanner::image(7, 100_000);
            for piece in [
                1, 7, 63, 64, 511, 512, 513, 4096, 65_535, 65_536, 65_537, 200_000,
            ] {
                // Few single bytes.
                let image = &image[..100_000.min(piece * 700)];
                scan(pc, file, u32::try_from(image.len()).unwrap(), 7);
                let mut got: Vec<u8> = Vec::new();
                while got.len() < image.len() {
                    let read = pc.read(file, piece);
                    assert_eq!(read.status, NtStatus::SUCCESS, "seed {seed}, {piece}");
                    assert!(read.information > 0 && read.information <= piece);
                    got.extend(&read.output[..read.information]);
                }
                assert!(got == image, "seed {seed}, pieces of {piece}");
            }
        });
    }
}

/// Whole packets go to the caller's pages, 64 KiB at most; the rest by a packet of the driver's.
#[test]
fn a_read_is_made_of_whole_packets() {
    ScannerPc::new().with_open(|pc, file| {
        for (length, transfers) in [
            (1u16, vec![512]),
            (512, vec![512]),
            (513, vec![512, 512]),
            (1024, vec![1024]),
            (0xFFFF, vec![0xFE00, 512]),
        ] {
            scan(pc, file, 0x2_0000, 1);
            let before = pc.machine.urb_count();
            let read = pc.read(file, length.into());
            assert_eq!(read.information, length.into());
            let urbs = pc.urbs_since(before);
            assert_eq!(lengths(&urbs, BULK_IN), transfers);
            for urb in &urbs {
                assert_eq!(urb.function, function::BULK_OR_INTERRUPT_TRANSFER);
                assert_eq!((urb.length(), urb.transfer_flags()), (128, 3));
                let bounced = length % 512 != 0 && urb.number == urbs[urbs.len() - 1].number;
                assert_eq!(urb.transfer_buffer_mdl() == 0, bounced);
            }
            // The rest of the image.
            let rest = 0x2_0000 - usize::from(length);
            let mut left = rest;
            while left > 0 {
                let read = pc.read(file, left.min(0x1_0000));
                assert_eq!(read.status, NtStatus::SUCCESS);
                left -= read.information;
            }
        }
        scan(pc, file, 300_000, 1);
        let before = pc.machine.urb_count();
        let read = pc.read(file, 300_000);
        assert_eq!(read.information, 300_000);
        assert!(read.output == Scanner::image(1, 300_000));
        assert_eq!(
            lengths(&pc.urbs_since(before), BULK_IN),
            [0x1_0000, 0x1_0000, 0x1_0000, 0x1_0000, 0x9200, 512]
        );
    });
}

#[test]
fn a_short_packet_ends_a_read() {
    ScannerPc::new().with_open(|pc, file| {
        for (bytes, zlp) in [
            (0, false),
            (1, false),
            (511, false),
            (512, true),
            (1000, false),
        ] {
            let data: Vec<u8> = Scanner::image(3, bytes);
            pc.scanner.send(BULK_IN, &data, zlp);
            let read = pc.read(file, 0x2_0000);
            assert_eq!(read.outcome(), (NtStatus::SUCCESS, bytes), "{bytes} bytes");
            assert_eq!(read.output[..bytes], data);
        }
        // What a read did not want is the next one's.
        pc.scanner.send(BULK_IN, b"abcdef", false);
        for part in [&b"ab"[..], b"cd", b"ef"] {
            let read = pc.read(file, 2);
            assert_eq!(read.output[..read.information], *part);
        }
        let nothing = pc.machine.urb_count();
        let read = pc.read(file, 0);
        assert_eq!(read.outcome(), (NtStatus::SUCCESS, 0));
        let write = pc.write(file, &[]);
        assert_eq!(write.outcome(), (NtStatus::SUCCESS, 0));
        assert_eq!(pc.machine.urb_count(), nothing, "no URB for no bytes");
    });
}

#[test]
fn writes_arrive_whole_and_in_order() {
    for (seed, setup) in setups() {
        setup.started().with_open(|pc, file| {
            let mut all = Vec::new();
            for length in [1, 63, 64, 512, 513, 65_536, 65_537, 200_000] {
                let data = Scanner::image(u32::try_from(length).unwrap(), length);
                let before = pc.machine.urb_count();
                let write = pc.write(file, &data);
                assert_eq!(write.outcome(), (NtStatus::SUCCESS, length), "seed {seed}");
                let urbs = pc.urbs_since(before);
                assert!(urbs.iter().all(|urb| urb.transfer_flags() == 0));
                // No packet of length zero.
                assert_eq!(urbs.len(), length.div_ceil(0x1_0000));
                all.extend(data);
            }
            assert!(pc.scanner.written(BULK_OUT) == all, "seed {seed}");
        });
    }
}

/// Memory that a program may not write to, or read from, is the I/O manager's to refuse; memory that
/// can only be read can be sent.
#[test]
fn buffers_that_are_not_the_caller_s_reach_no_device() {
    for caller in [Caller::User64, Caller::User32] {
        let pc = ScannerPc::new();
        let file = pc.open_as(r"\\.\Usbscan0", caller);
        let address = pc.machine.user_alloc(caller, &[7; 4096]);
        let before = pc.machine.urb_count();
        let read = |length| check(pc.machine.read_to(file.handle, address, length)).status;
        let write = |length| check(pc.machine.write_from(file.handle, address, length)).status;
        pc.scanner.send(BULK_IN, &[1; 4096], false);
        // One byte more than there is.
        assert_eq!(read(4097), NtStatus::ACCESS_VIOLATION);
        assert_eq!(write(4097), NtStatus::ACCESS_VIOLATION);
        pc.machine.user_protect(address, 4096, Protection::None);
        assert_eq!(read(4096), NtStatus::ACCESS_VIOLATION);
        assert_eq!(write(4096), NtStatus::ACCESS_VIOLATION);
        pc.machine.user_protect(address, 4096, Protection::Read);
        assert_eq!(read(4096), NtStatus::ACCESS_VIOLATION);
        assert_eq!(pc.machine.urb_count(), before);
        assert_eq!(write(4096), NtStatus::SUCCESS);
        assert_eq!(pc.scanner.written(BULK_OUT), [7; 4096]);
        pc.machine
            .user_protect(address, 4096, Protection::ReadWrite);
        assert_eq!(read(4096), NtStatus::SUCCESS);
        assert_eq!(pc.machine.user_read(address, 4096), [1; 4096]);
        assert_eq!(pc.machine.touches(address), 0, "the device's business");
        pc.close_and_finish(file);
    }
}

/// Reads, writes, events and control requests do not wait for one another.
#[test]
fn pipes_are_independent() {
    ScannerPc::new().with_open(|pc, file| {
        let event = pc.wait_on_event(file, 8);
        let read = pc.machine.start_read(file.handle, 4096);
        check(pc.machine.run_for(10 * MS));
        assert_eq!(pc.read_registers(file, 0, 4).status, NtStatus::SUCCESS);
        assert!(!pc.machine.is_done(&event) && !pc.machine.is_done(&read));
        scan(pc, file, 4096, 5);
        let read = pc.finish_request(&read);
        assert_eq!(read.outcome(), (NtStatus::SUCCESS, 4096));
        assert!(!pc.machine.is_done(&event));
        pc.scanner.press(&[1, 2, 3]);
        let event = pc.finish_request(&event);
        assert_eq!(event.outcome(), (NtStatus::SUCCESS, 3));
        assert_eq!(event.output[..3], [1, 2, 3]);
    });
}

#[test]
fn queued_reads_are_served_in_order() {
    ScannerPc::new().with_open(|pc, file| {
        let reads: Vec<_> = (0..20)
            .map(|_| {
                let read = pc.machine.start_read(file.handle, 1000);
                check(pc.machine.run_for(MS));
                read
            })
            .collect();
        scan(pc, file, 20_000, 11);
        let mut got: Vec<u8> = Vec::new();
        for read in &reads {
            let read = pc.finish_request(read);
            assert_eq!(read.outcome(), (NtStatus::SUCCESS, 1000));
            got.extend(&read.output[..1000]);
        }
        assert!(got == Scanner::image(11, 20_000));
    });
}

/// An error tells the bytes before it; the pipe stays halted until it is reset.
#[test]
fn a_stall_ends_the_transfer_and_a_reset_heals_the_pipe() {
    for k in [1, 2, 129, 200] {
        ScannerPc::new().with_open(|pc, file| {
            scan(pc, file, 200_000, 2);
            pc.scanner.stall_at(BULK_IN, k);
            let read = pc.read(file, 200_000);
            let came = usize::try_from(k - 1).unwrap() * 512;
            let ended = read.outcome();
            assert_eq!(ended, (NtStatus::UNSUCCESSFUL, came));
            assert!(read.output[..came] == Scanner::image(2, 200_000)[..came]);
            let read = pc.read(file, 512);
            assert_eq!(read.status, NtStatus::UNSUCCESSFUL, "halted yet");
            let before = pc.machine.urb_count();
            let reset = pc.control(
                file,
                usbscan_h::IOCTL_RESET_PIPE,
                &usbscan_h::pipe_type(usbscan_h::READ_DATA_PIPE),
                0,
            );
            assert_eq!(reset.outcome(), (NtStatus::SUCCESS, 0));
            let urbs = pc.urbs_since(before);
            let functions: Vec<_> = urbs
                .iter()
                .map(|urb| (urb.function, urb.endpoint))
                .collect();
            assert_eq!(
                functions,
                [(function::SYNC_RESET_PIPE_AND_CLEAR_STALL, BULK_IN)]
            );
            assert!(!pc.scanner.is_halted(BULK_IN));
            assert_eq!(pc.read(file, 512).status, NtStatus::SUCCESS);
        });
    }
}

/// The cable comes out at every URB of a scan: requests end, and nothing is left.
#[test]
fn the_scanner_can_be_pulled_out_at_every_urb() {
    for k in 1..=24 {
        let pc = ScannerPc::new();
        let file = pc.open();
        let event = pc.wait_on_event(file, 8);
        let node = pc.node;
        pc.machine
            .at(When::Urb(pc.machine.urb_count() + k), move |machine| {
                check(machine.unplug(node));
            });
        for round in 0.. {
            let command = Scanner::scan_command(150_000, round);
            let write = pc.write(file, &command);
            let read = pc.machine.start_read(file.handle, 150_000);
            let read = pc.finish_request(&read);
            let registers = pc.control(
                file,
                usbscan_h::IOCTL_READ_REGISTERS,
                &IoBlock {
                    length: 4,
                    ..IoBlock::default()
                }
                .bytes(file.caller),
                4,
            );
            for status in [write.status, read.status, registers.status] {
                assert!(
                    status.is_success()
                        || [NtStatus::NO_SUCH_DEVICE, NtStatus::DELETE_PENDING].contains(&status),
                    "URB {k}: {status}"
                );
            }
            if !registers.status.is_success() {
                break;
            }
        }
        let event = pc.finish_request(&event);
        assert_eq!(event.status, NtStatus::NO_SUCH_DEVICE, "URB {k}");
        pc.close(file);
        check(pc.machine.run_until_idle());
        pc.unload();
    }
}

/// A USB stack that maps the pages of a transfer itself leaves the mapping to the driver, whose next
/// transfer describes others.
#[test]
fn pages_that_the_usb_stack_maps_are_given_back() {
    ScannerPc::new().with_open(|pc, file| {
        pc.machine.map_transfers(true);
        for length in [512, 300_000] {
            scan(pc, file, length, 7);
            let size = usize::try_from(length).expect("it fits");
            let read = pc.read(file, size);
            assert_eq!(read.outcome(), (NtStatus::SUCCESS, size));
            assert!(read.output == Scanner::image(7, size), "{length}");
        }
        let sent = vec![0xFF; 200_000];
        assert_eq!(
            pc.write(file, &sent).outcome(),
            (NtStatus::SUCCESS, sent.len())
        );
        pc.machine.map_transfers(false);
        scan(pc, file, 1000, 9);
        assert!(pc.read(file, 1000).output == Scanner::image(9, 1000));
    });
}

//! However a transfer of a scanner ends, no byte of it is lost: what is told, and what is kept for
//! the next one, is what went over the bus.

use ntsim::{IoResult, NtStatus};
use parscan_models::Scanner;
use parscan_tests::{
    MS, SECOND, check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        ALL_PIPE, EVENT_PIPE, IOCTL_CANCEL_IO, IOCTL_RESET_PIPE, IOCTL_SET_TIMEOUT, READ_DATA_PIPE,
        pipe_type, timeout,
    },
};

/// The packets of the default scanner's bulk pipes.
const PACKET: usize = 512;
/// The longest URB, in bytes and packets.
const CHUNK: usize = 0x1_0000;
const PACKETS: usize = CHUNK / PACKET;

/// What ends a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The device refuses.
    Stall,
    /// The device says no more, and the time of the request is over.
    TimeOut,
    /// `CancelIo`.
    CancelIo,
    /// `IOCTL_CANCEL_IO`
    CancelPipe,
}

const ENDS: [End; 4] = [End::Stall, End::TimeOut, End::CancelIo, End::CancelPipe];

impl End {
    /// How a read ends that has got so many bytes.
    fn of_read(self, bytes: usize) -> (NtStatus, usize) {
        match self {
            Self::Stall => (NtStatus::UNSUCCESSFUL, bytes),
            Self::TimeOut if bytes == 0 => (NtStatus::IO_TIMEOUT, 0),
            Self::TimeOut => (NtStatus::SUCCESS, bytes),
            Self::CancelIo | Self::CancelPipe => (NtStatus::CANCELLED, bytes),
        }
    }

    /// How a write ends that has sent so many bytes.
    fn of_write(self, bytes: usize) -> (NtStatus, usize) {
        let status = match self {
            Self::TimeOut => NtStatus::IO_TIMEOUT,
            _ => self.of_read(bytes).0,
        };
        (status, bytes)
    }
}

fn set_timeout(pc: &ScannerPc, file: Opened, seconds: u32) {
    let input = timeout(seconds, seconds, seconds);
    let set = pc.control(file, IOCTL_SET_TIMEOUT, &input, 0);
    assert_eq!(set.status, NtStatus::SUCCESS);
}

fn on_pipe(pc: &ScannerPc, file: Opened, code: u32, pipe: u32) {
    let result = pc.control(file, code, &pipe_type(pipe), 0);
    assert_eq!(result.status, NtStatus::SUCCESS);
}

fn ended(result: &IoResult) -> (NtStatus, usize) {
    result.outcome()
}

/// The end comes with the packet number `packet` of the request that `start` begins.
fn end_at(
    pc: &ScannerPc,
    file: Opened,
    (end, pipe, endpoint): (End, u32, u8),
    packet: usize,
    start: impl FnOnce() -> ntsim::Pending,
) -> IoResult {
    let packet = u32::try_from(packet).unwrap();
    match end {
        End::Stall => pc.scanner.stall_at(endpoint, packet),
        _ => pc.scanner.silence_at(endpoint, packet),
    }
    let request = start();
    // 8 MiB take a sixth of that at high speed.
    check(pc.machine.run_for(SECOND));
    match end {
        End::Stall | End::TimeOut => {}
        End::CancelIo => assert!(check(pc.machine.cancel(&request))),
        End::CancelPipe => on_pipe(pc, file, IOCTL_CANCEL_IO, pipe),
    }
    let result = pc.finish_request(&request);
    pc.scanner.set_silent(endpoint, false);
    if end == End::Stall {
        on_pipe(pc, file, IOCTL_RESET_PIPE, pipe);
    }
    result
}

const MEBIBYTES_8: usize = 0x80_0000;

/// Where in the URB the end comes: with its first packet, its last, or in between.
fn packet_of(urb: usize) -> usize {
    let within = [1, PACKETS, PACKETS / 2, 2][urb % 4];
    (urb - 1) * PACKETS + within
}

/// A scanner whose requests have two seconds, for every end.
fn for_every_end(test: impl Fn(&ScannerPc, Opened, End)) {
    for end in ENDS {
        ScannerPc::new().with_open(|pc, file| {
            set_timeout(pc, file, 2);
            test(pc, file, end);
        });
    }
}

/// A scan of 8 MiB that is ended in every URB of it, and read on. The device counts what it sent: at
/// every moment that is what was told and what is kept, and nothing is there twice.
#[test]
fn a_scan_of_eight_mebibytes_loses_nothing_at_any_urb() {
    let image = Scanner::image(2, MEBIBYTES_8);
    for_every_end(|pc, file, end| {
        pc.scanner.send(BULK_IN, &image, false);
        let sent = || MEBIBYTES_8 - pc.scanner.unsent(BULK_IN);
        let (mut told, mut rounds) = (0, 0);
        while told < MEBIBYTES_8 {
            // Of its last packet a part is kept, which the next read begins with.
            let some = pc.read(file, 1000.min(MEBIBYTES_8 - told));
            assert_eq!(some.status, NtStatus::SUCCESS);
            let next = told + some.information;
            assert!(some.output[..some.information] == image[told..next]);
            told = next;
            assert!((0..PACKET).contains(&(sent() - told)), "kept");
            let packet = (rounds * 37) % PACKETS + 2;
            let left = (MEBIBYTES_8 - sent()) / PACKET;
            let ending = (end, READ_DATA_PIPE, BULK_IN);
            let read = end_at(pc, file, ending, packet.min(left + 1), || {
                pc.machine.start_read(file.handle, 3 * CHUNK)
            });
            let bytes = sent() - told;
            assert_eq!(ended(&read), end.of_read(bytes), "{end:?} at {told:#x}");
            let next = told + bytes;
            assert!(read.output[..bytes] == image[told..next], "at {told:#x}");
            (told, rounds) = (next, rounds + 1);
        }
        assert!(rounds > MEBIBYTES_8 / CHUNK, "{end:?}: {rounds} times");
    });
}

/// One read of 8 MiB, which ends in its first URBs, in the middle, or in its last.
#[test]
fn a_read_of_eight_mebibytes_tells_what_came() {
    let image = Scanner::image(1, MEBIBYTES_8);
    for_every_end(|pc, file, end| {
        for urb in [1, 2, 3, 4, 37, 128] {
            let packet = packet_of(urb);
            pc.scanner.send(BULK_IN, &image, false);
            let ending = (end, READ_DATA_PIPE, BULK_IN);
            let read = end_at(pc, file, ending, packet, || {
                pc.machine.start_read(file.handle, MEBIBYTES_8)
            });
            let sent = MEBIBYTES_8 - pc.scanner.unsent(BULK_IN);
            assert_eq!(sent, (packet - 1) * PACKET, "the device");
            assert_eq!(ended(&read), end.of_read(sent), "{end:?} at URB {urb}");
            assert!(read.output[..sent] == image[..sent], "{end:?} at URB {urb}");
            pc.scanner.forget(BULK_IN);
        }
    });
}

/// A write tells what went, in whichever URB it ends.
#[test]
fn a_write_that_ends_early_tells_what_went() {
    let data = Scanner::image(3, 4 * CHUNK);
    for end in ENDS {
        for urb in 1..=4 {
            ScannerPc::new().with_open(|pc, file| {
                set_timeout(pc, file, 2);
                let packet = packet_of(urb);
                let write = end_at(pc, file, (end, 2, BULK_OUT), packet, || {
                    pc.machine.start_write(file.handle, &data)
                });
                let went = (packet - 1) * PACKET;
                assert_eq!(ended(&write), end.of_write(went), "{end:?} at URB {urb}");
                assert!(pc.scanner.written(BULK_OUT) == data[..went]);
            });
        }
    }
}

/// What a packet has beyond a read is the next read's after a success and after a time-out, for
/// reads of any length.
#[test]
fn what_is_left_of_a_packet_is_kept_after_a_time_out() {
    for length in [1, 100, 511, 513, 700, 1023, 3000] {
        ScannerPc::new().with_open(|pc, file| {
            set_timeout(pc, file, 1);
            let image = Scanner::image(4, 8 * PACKET);
            pc.scanner.send(BULK_IN, &image, false);
            // One packet after the other comes late: each read that began has got something or not.
            let (mut got, mut timeouts) = (Vec::new(), 0);
            pc.scanner.silence_at(BULK_IN, 3);
            while got.len() < image.len() {
                let read = pc.read(file, length);
                match read.status {
                    NtStatus::SUCCESS => got.extend(&read.output[..read.information]),
                    status => {
                        assert_eq!(status, NtStatus::IO_TIMEOUT);
                        assert_eq!(read.information, 0);
                    }
                }
                if read.took >= SECOND {
                    timeouts += 1;
                    pc.scanner.set_silent(BULK_IN, false);
                    pc.scanner.silence_at(BULK_IN, 3);
                }
                assert!(image.starts_with(&got), "reads of {length}");
            }
            assert!(timeouts >= 2, "reads of {length}: {timeouts} time-outs");
        });
    }
}

/// A read that leaves a part of a packet behind.
fn leave_some(pc: &ScannerPc, file: Opened) {
    pc.scanner.send(BULK_IN, &[0xAA; 2 * PACKET], false);
    let read = pc.read(file, 700);
    assert_eq!(ended(&read), (NtStatus::SUCCESS, 700));
    assert_eq!(pc.scanner.unsent(BULK_IN), 0, "324 bytes are kept");
}

/// Whether the next read begins with the device's next message.
fn begins_afresh(pc: &ScannerPc, file: Opened) -> bool {
    pc.scanner.send(BULK_IN, &[0xBB; 100], false);
    let read = pc.read(file, 4096);
    assert_eq!(read.status, NtStatus::SUCCESS);
    read.output[..read.information] == [0xBB; 100]
}

/// What a program, or the system, does to a handle's pipes.
type Abort = fn(&ScannerPc, Opened);

/// `IRP_MN_SET_POWER`, `DevicePowerState`
const SET_POWER: u8 = 2;
const DEVICE: u8 = 1;

/// When a program or the system aborts what goes on in a pipe, what is left of a packet is dropped:
/// the next scan does not begin with the last one's bytes.
#[test]
fn what_is_left_of_a_packet_is_dropped_by_an_abort() {
    let aborts: [(&str, Abort); 7] = [
        ("CANCEL_IO", |pc, file| {
            // No request on the bus: the endpoint's toggle is as it was.
            let before = pc.machine.urb_count();
            on_pipe(pc, file, IOCTL_CANCEL_IO, READ_DATA_PIPE);
            assert_eq!(pc.machine.urb_count(), before);
        }),
        ("CANCEL_IO of all pipes", |pc, file| {
            on_pipe(pc, file, IOCTL_CANCEL_IO, ALL_PIPE);
        }),
        ("CANCEL_IO of all pipes by another handle", |pc, _| {
            let other = pc.open();
            on_pipe(pc, other, IOCTL_CANCEL_IO, ALL_PIPE);
            pc.close(other);
        }),
        ("CancelIo", |pc, file| {
            let read = pc.machine.start_read(file.handle, 4096);
            check(pc.machine.run_for(10 * MS));
            check(pc.machine.cancel(&read));
            let read = pc.finish_request(&read);
            // They stand in the caller's buffer.
            assert_eq!(ended(&read), (NtStatus::CANCELLED, 324));
            assert_eq!(read.output[..324], [0xAA; 324]);
        }),
        ("RESET_PIPE", |pc, file| {
            on_pipe(pc, file, IOCTL_RESET_PIPE, READ_DATA_PIPE);
        }),
        ("sleep", |pc, _| {
            for state in [4, 1] {
                let sent =
                    pc.machine
                        .send_power_irp(pc.node, SET_POWER, [0, DEVICE.into(), state, 0]);
                assert_eq!(check(sent).0, NtStatus::SUCCESS);
            }
        }),
        ("stop", |pc, _| {
            assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
            assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
            assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        }),
    ];
    for (what, abort) in aborts {
        ScannerPc::new().with_open(|pc, file| {
            leave_some(pc, file);
            abort(pc, file);
            assert!(begins_afresh(pc, file), "{what}");
        });
    }
    // Of another pipe, or another handle's: not this one's.
    let pc = ScannerPc::new();
    let (file, other) = (pc.open(), pc.open());
    for (by, pipe) in [(file, EVENT_PIPE), (other, READ_DATA_PIPE)] {
        leave_some(&pc, file);
        on_pipe(&pc, by, IOCTL_CANCEL_IO, pipe);
        let rest = pc.read(file, 324);
        assert_eq!(ended(&rest), (NtStatus::SUCCESS, 324));
    }
    pc.close(file);
    pc.close_and_finish(other);
}

/// A transfer that is done in the frame in which it is cancelled succeeds. The request, whose time
/// is over all the same, ends with the time-out.
#[test]
fn a_time_out_that_meets_the_end_of_a_urb_is_a_time_out() {
    let data = vec![7; 2 * CHUNK];
    let pc = ScannerPc::new();
    pc.machine.cancel_late(true);
    let file = pc.open();
    set_timeout(&pc, file, 1);
    // The last packet of the first URB goes as the time is over.
    let last = u32::try_from(PACKETS).unwrap();
    pc.scanner.silence_at(BULK_OUT, last);
    let write = pc.machine.start_write(file.handle, &data);
    let write = pc.finish_request(&write);
    assert_eq!(ended(&write), (NtStatus::IO_TIMEOUT, CHUNK));
    assert_eq!(pc.scanner.written(BULK_OUT).len(), CHUNK);
    let urbs = pc.machine.urbs();
    let sent: Vec<_> = urbs.iter().filter(|urb| urb.endpoint == BULK_OUT).collect();
    assert_eq!(sent.len(), 1, "the second one was not sent");
    assert_eq!(sent[0].status, NtStatus::SUCCESS);
    pc.close_and_finish(file);
}

/// The time that no program has set is that of a device which says nothing. A slow scan is none.
#[test]
fn the_default_time_begins_anew_with_each_urb_that_moved_bytes() {
    let length = 5 * CHUNK;
    let image = Scanner::image(5, length);
    for set in [false, true] {
        ScannerPc::new().with_open(|pc, file| {
            if set {
                set_timeout(pc, file, 120);
            }
            pc.scanner.send(BULK_IN, &image, false);
            let start = pc.machine.now();
            // Each URB waits 100 seconds.
            for urb in 0..5 {
                let until = start + (u64::from(urb) + 1) * 100 * SECOND;
                let packet = urb * u32::try_from(PACKETS).unwrap() + 1;
                // The transaction that is refused is one more.
                pc.scanner.hold_at(BULK_IN, packet + urb, until);
            }
            let read = pc.read(file, length);
            let (came, seconds) = if set { (CHUNK, 120) } else { (length, 500) };
            assert_eq!(ended(&read), (NtStatus::SUCCESS, came), "set: {set}");
            assert!(read.output[..came] == image[..came]);
            let took = read.took / SECOND;
            assert!((seconds..seconds + 2).contains(&took), "{took} s");
        });
    }
    // A device that says nothing more.
    ScannerPc::new().with_open(|pc, file| {
        pc.scanner.send(BULK_IN, &image[..CHUNK], false);
        for (status, came) in [(NtStatus::SUCCESS, CHUNK), (NtStatus::IO_TIMEOUT, 0)] {
            let read = pc.read(file, length);
            assert_eq!(ended(&read), (status, came));
            assert_eq!(read.took / SECOND, 120);
        }
        // The same for writes.
        let start = pc.machine.now();
        for urb in 0..3 {
            let until = start + (u64::from(urb) + 1) * 100 * SECOND;
            let packet = urb * u32::try_from(PACKETS).unwrap() + 1;
            pc.scanner.hold_at(BULK_OUT, packet + urb, until);
        }
        let write = pc.write(file, &image[..3 * CHUNK]);
        assert_eq!(ended(&write), (NtStatus::SUCCESS, 3 * CHUNK));
        assert_eq!(write.took / SECOND, 300);
    });
}

/// A bus driver of KMDF has `DO_BUFFERED_IO` unless it says otherwise: the data is in the I/O
/// manager's own memory then, and of a read that fails the program gets none.
#[test]
fn a_device_with_buffered_io_reads_and_writes() {
    let setup = ScannerSetup {
        is_buffered: true,
        ..ScannerSetup::default()
    };
    setup.started().with_open(|pc, file| {
        set_timeout(pc, file, 2);
        for length in [1, 511, 512, 513, 65_535, 65_537, 200_000] {
            let data = Scanner::image(6, length);
            pc.scanner.send(BULK_IN, &data, length % PACKET == 0);
            let read = pc.read(file, length);
            assert_eq!(ended(&read), (NtStatus::SUCCESS, length));
            assert!(read.output == data);
            if length % PACKET == 0 {
                assert_eq!(pc.read(file, PACKET).information, 0, "its empty packet");
            }
            let before = pc.scanner.written(BULK_OUT).len();
            assert_eq!(ended(&pc.write(file, &data)), (NtStatus::SUCCESS, length));
            assert!(pc.scanner.written(BULK_OUT)[before..] == data);
        }
        let image = Scanner::image(8, 4 * CHUNK);
        for end in ENDS {
            let packet = packet_of(2);
            pc.scanner.send(BULK_IN, &image, false);
            let read = end_at(pc, file, (end, READ_DATA_PIPE, BULK_IN), packet, || {
                pc.machine.start_read(file.handle, 4 * CHUNK)
            });
            let came = (packet - 1) * PACKET;
            let told = if end == End::TimeOut { came } else { 0 };
            assert_eq!(ended(&read), (end.of_read(came).0, told), "{end:?}");
            assert!(read.output[..told] == image[..told]);
            pc.scanner.forget(BULK_IN);
            let before = pc.scanner.written(BULK_OUT).len();
            let write = end_at(pc, file, (end, 2, BULK_OUT), packet, || {
                pc.machine.start_write(file.handle, &image)
            });
            assert_eq!(ended(&write), end.of_write(came), "{end:?}");
            assert_eq!(pc.scanner.written(BULK_OUT).len() - before, came);
        }
    });
}

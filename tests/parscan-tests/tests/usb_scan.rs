//! A whole scan: an image by `ReadFile` while commands, registers and a button wait go on; what it
//! costs, and how it ends at every point of it.

use ntsim::{
    IoResult, NtStatus, Pending, When,
    usb::{Urb, layout::function},
};
use parscan_models::Scanner;
use parscan_tests::{
    check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc},
    usbscan_h::{self, IOCTL_READ_REGISTERS, IOCTL_WRITE_REGISTERS, IoBlock},
};

/// A command that does nothing but arrive.
const LAMP_ON: [u8; 24] = *b"LAMP ON, AND KEEP IT ON!";

fn registers(offset: u32, length: usize, data: usize) -> IoBlock {
    IoBlock {
        offset,
        length: u32::try_from(length).unwrap(),
        data: u64::try_from(data).unwrap(),
        index: 0,
    }
}

/// What a program has under way at once for a part of the image.
struct Chunk {
    read: Pending,
    command: Pending,
    /// Three writes of registers, one after the other on the control pipe, and what they bring.
    writes: [(Pending, Vec<u8>); 3],
    registers: Pending,
}

impl Chunk {
    /// Lengths of the writes of registers: one, some, and the longest that is short.
    const WRITES: [usize; 3] = [1, 10, 64];

    fn start(pc: &ScannerPc, file: Opened, number: u32, length: usize, memory: usize) -> Self {
        let input = |block: IoBlock| block.bytes(file.caller);
        let start = |code, block, output| {
            pc.machine
                .start_io_control(file.handle, code, &input(block), output)
        };
        let read = pc.machine.start_read(file.handle, length);
        let command = pc.machine.start_write(file.handle, &LAMP_ON);
        let mut at = 0;
        let writes = Self::WRITES.map(|length| {
            let data = Scanner::image(number, length);
            let address = memory + at;
            let offset = 0x1000 + u32::try_from(at).unwrap();
            at += 64;
            pc.machine.user_write(address, &data);
            let block = registers(offset, length, address);
            (start(IOCTL_WRITE_REGISTERS, block, 0), data)
        });
        let registers = start(IOCTL_READ_REGISTERS, registers(0x2000, 16, 0), 16);
        Self {
            read,
            command,
            writes,
            registers,
        }
    }

    fn requests(&self) -> Vec<&Pending> {
        let writes = self.writes.iter().map(|(write, _)| write);
        [&self.read, &self.command]
            .into_iter()
            .chain(writes)
            .chain([&self.registers])
            .collect()
    }

    /// All went well: the piece of the image.
    #[track_caller]
    fn finish(&self, pc: &ScannerPc) -> Vec<u8> {
        let [read, command, w0, w1, w2, registers] = &self
            .requests()
            .into_iter()
            .map(|request| pc.finish_request(request))
            .collect::<Vec<IoResult>>()[..]
        else {
            panic!("six requests");
        };
        let ended = |result: &IoResult| result.outcome();
        assert_eq!(ended(command), (NtStatus::SUCCESS, LAMP_ON.len()));
        for write in [w0, w1, w2] {
            assert_eq!(ended(write), (NtStatus::SUCCESS, 0));
        }
        for ((_, data), from) in self.writes.iter().zip([0x1000, 0x1040, 0x1080]) {
            assert_eq!(pc.scanner.registers(from, data.len()), *data);
        }
        assert_eq!(ended(registers), (NtStatus::SUCCESS, 16));
        assert_eq!(registers.output, SIXTEEN);
        assert_eq!(read.status, NtStatus::SUCCESS);
        assert_eq!(read.information, read.output.len());
        read.output.clone()
    }
}

/// What the registers from 0x2000 on hold.
const SIXTEEN: [u8; 16] = *b"sixteen bytes ok";

/// A program that scans.
struct Scan {
    pc: ScannerPc,
    file: Opened,
    button: Pending,
    memory: usize,
}

impl Scan {
    fn start(pc: ScannerPc, length: usize) -> Self {
        let file = pc.open();
        pc.scanner.set_registers(0x2000, &SIXTEEN);
        let command = Scanner::scan_command(u32::try_from(length).unwrap(), 1);
        assert_eq!(pc.write(file, &command).status, NtStatus::SUCCESS);
        let button = pc.wait_on_event(file, 8);
        let memory = pc.machine.user_alloc(file.caller, &[0; 192]);
        Self {
            pc,
            file,
            button,
            memory,
        }
    }

    fn chunk(&self, number: u32, length: usize) -> Chunk {
        Chunk::start(&self.pc, self.file, number, length, self.memory)
    }
}

/// 8 MiB in pieces of 64 KiB. The driver needs no memory for any of it once the handle is open.
#[test]
fn eight_megabytes_arrive_while_all_else_goes_on() {
    const PIECE: usize = 0x1_0000;
    const PIECES: u32 = 128;
    let length = PIECE * usize::try_from(PIECES).unwrap();
    let scan = Scan::start(ScannerPc::new(), length);
    let Scan { pc, file, .. } = &scan;
    let (before, sent) = (pc.machine.urb_count(), pc.scanner.written(BULK_OUT).len());
    let memory = pc.machine.allocations(pc.driver);
    let mut image = Vec::new();
    for number in 0..PIECES {
        image.extend(scan.chunk(number, PIECE).finish(pc));
        assert!(!pc.machine.is_done(&scan.button), "it was not pressed");
    }
    assert!(image == Scanner::image(1, length));
    let commands = &pc.scanner.written(BULK_OUT)[sent..];
    assert!(commands == LAMP_ON.repeat(usize::try_from(PIECES).unwrap()));
    pc.scanner.press(&[1, 2, 3]);
    let button = pc.finish_request(&scan.button);
    assert_eq!(button.outcome(), (NtStatus::SUCCESS, 3));

    let urbs = pc.urbs_since(before);
    let pieces = u64::from(PIECES);
    let count = |is: fn(&Urb) -> bool| urbs.iter().filter(|urb| is(urb)).count() as u64;
    assert_eq!(count(|urb| urb.endpoint == BULK_IN), pieces);
    assert_eq!(count(|urb| urb.endpoint == BULK_OUT), pieces);
    assert_eq!(
        count(|urb| urb.function == function::VENDOR_DEVICE),
        4 * pieces
    );
    // The I/O manager's IRP carries the URB, and the rest was there before.
    assert_eq!(pc.machine.allocations(pc.driver) - memory, 0);

    // Only data that is longer takes a block for itself.
    let long = pc.machine.user_alloc(file.caller, &[7; 65]);
    for _ in 0..3 {
        let memory = pc.machine.allocations(pc.driver);
        let written = pc.write_registers(*file, registers(0, 65, long));
        assert_eq!(written.status, NtStatus::SUCCESS);
        assert_eq!(pc.machine.allocations(pc.driver) - memory, 1);
    }
    pc.close(*file);
    scan.pc.finish();
}

/// What happens at a URB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything that is under way is cancelled.
    Cancel,
    /// The device says no more.
    Silence,
    /// The cable comes out.
    Unplug,
}

impl End {
    /// How requests end by it.
    fn statuses(self) -> &'static [NtStatus] {
        match self {
            Self::Cancel => &[NtStatus::CANCELLED],
            Self::Silence => &[NtStatus::IO_TIMEOUT],
            Self::Unplug => &[NtStatus::NO_SUCH_DEVICE, NtStatus::DELETE_PENDING],
        }
    }
}

const SMALL_PIECE: usize = 4096;
const SMALL_PIECES: u32 = 8;

/// Whether a small scan gets as far as its URB `k`, where it ends; sees that it ends well.
fn ends_at(k: u64, end: End) -> bool {
    let pc = ScannerPc::new();
    let scan = Scan::start(pc, SMALL_PIECE * usize::try_from(SMALL_PIECES).unwrap());
    let Scan { pc, file, .. } = &scan;
    let at = When::Urb(pc.machine.urb_count() + k);
    let under_way = std::rc::Rc::new(std::cell::RefCell::new(Vec::<Pending>::new()));
    let happened = std::rc::Rc::new(std::cell::Cell::new(false));
    let (requests, seen) = (under_way.clone(), happened.clone());
    let (node, scanner) = (pc.node, pc.scanner.clone());
    pc.machine.at(at, move |machine| {
        seen.set(true);
        match end {
            End::Cancel => {
                for request in requests.borrow().iter() {
                    check(machine.cancel(request));
                }
            }
            End::Silence => {
                for endpoint in [0, BULK_IN, BULK_OUT] {
                    scanner.set_silent(endpoint, true);
                }
            }
            End::Unplug => {
                check(machine.unplug(node));
            }
        }
    });
    let mut ended = 0;
    for number in 0..SMALL_PIECES {
        let chunk = scan.chunk(number, SMALL_PIECE);
        under_way.replace(chunk.requests().into_iter().cloned().collect());
        for request in chunk.requests() {
            let result = pc.finish_request(request);
            if !result.status.is_success() {
                let status = result.status;
                assert!(
                    happened.get() && end.statuses().contains(&status),
                    "{status}"
                );
                // A piece is one URB, and each request of the control pipe, too.
                assert_eq!(result.information, 0, "{end:?} at URB {k}");
                ended += 1;
            }
        }
        if happened.get() {
            break;
        }
    }
    if !happened.get() {
        pc.close(*file);
        scan.pc.finish();
        return false;
    }
    assert!(ended > 0, "{end:?} at URB {k}: its request, at least");
    if end == End::Unplug {
        let button = pc.finish_request(&scan.button);
        assert_eq!(button.status, NtStatus::NO_SUCH_DEVICE, "URB {k}");
        pc.close(*file);
        check(pc.machine.run_until_idle());
        pc.unload();
        return true;
    }
    // It was not among them, and has no time-out.
    assert!(!pc.machine.is_done(&scan.button), "{end:?} at URB {k}");
    // The scanner goes on with whatever it is asked.
    for endpoint in [0, BULK_IN, BULK_OUT] {
        pc.scanner.set_silent(endpoint, false);
    }
    assert_eq!(pc.write(*file, &LAMP_ON).status, NtStatus::SUCCESS);
    assert_eq!(pc.read_registers(*file, 0x2000, 16).output, SIXTEEN);
    let reset = pc.control(
        *file,
        usbscan_h::IOCTL_RESET_PIPE,
        &usbscan_h::pipe_type(usbscan_h::ALL_PIPE),
        0,
    );
    assert_eq!(reset.status, NtStatus::SUCCESS);
    pc.scanner.send(BULK_IN, b"and again", false);
    assert_eq!(pc.read(*file, 512).status, NtStatus::SUCCESS);
    let button = pc.finish_request(&scan.button);
    // A reset ends what is under way on the pipe.
    assert_eq!(button.status, NtStatus::CANCELLED);
    pc.close(*file);
    scan.pc.finish();
    true
}

#[track_caller]
fn ends_at_every_urb(end: End) {
    let mut urbs = 0;
    while ends_at(urbs + 1, end) {
        urbs += 1;
    }
    // A read, a command and four requests by the control pipe for each piece.
    assert_eq!(urbs, 6 * u64::from(SMALL_PIECES), "{end:?}");
}

#[test]
fn a_scan_can_be_cancelled_at_every_urb() {
    ends_at_every_urb(End::Cancel);
}

#[test]
fn a_scan_can_run_out_of_time_at_every_urb() {
    ends_at_every_urb(End::Silence);
}

#[test]
fn a_scan_can_be_unplugged_at_every_urb() {
    ends_at_every_urb(End::Unplug);
}

/// `IRP_MN_SET_POWER`; `SystemPowerState`, with working and S3; `DevicePowerState`, D0 and D3.
const SET_POWER: u8 = 2;
const POWER: [[usize; 3]; 2] = [[0, 1, 4], [1, 1, 4]];

/// Whether a scan gets as far as its URB `k`, at which the machine goes to sleep and wakes up again.
/// The program begins each request again that this ends: the image is whole.
fn sleeps_at(k: u64, [kind, up, down]: [usize; 3]) -> bool {
    /// Whole packets, in two URBs.
    const PIECE: usize = 195 * 512;
    let pc = ScannerPc::new();
    let file = pc.open();
    let length = 5 * PIECE;
    let image = Scanner::image(21, length);
    let command = Scanner::scan_command(u32::try_from(length).unwrap(), 21);
    assert_eq!(pc.write(file, &command).information, command.len());
    let button = pc.wait_on_event(file, 8);
    let slept = std::rc::Rc::new(std::cell::Cell::new(false));
    let (seen, node) = (slept.clone(), pc.node);
    let at = When::Urb(pc.machine.urb_count() + k);
    pc.machine.at(at, move |machine| {
        for state in [down, up] {
            let sent = machine.send_power_irp(node, SET_POWER, [0, kind, state, 0]);
            assert_eq!(check(sent).0, NtStatus::SUCCESS);
        }
        seen.set(true);
    });
    let may_fail = [NtStatus::CANCELLED, NtStatus::DEVICE_NOT_READY];
    let mut got: Vec<u8> = Vec::new();
    while got.len() < length {
        let read = pc.read(file, PIECE.min(length - got.len()));
        let ended = read.status.is_success() || may_fail.contains(&read.status);
        assert!(ended, "URB {k}: {}", read.status);
        got.extend(&read.output[..read.information]);
        assert!(image.starts_with(&got), "URB {k}");
        assert_eq!(length - pc.scanner.unsent(BULK_IN), got.len(), "URB {k}");
        // The program works with the scanner all the time.
        let registers = pc.read_registers(file, 0x2000, 16);
        let ended = registers.status.is_success() || may_fail.contains(&registers.status);
        assert!(ended, "URB {k}: {}", registers.status);
        if !(read.status.is_success() && registers.status.is_success()) {
            check(pc.machine.run_for(parscan_tests::MS));
        }
    }
    let slept = slept.get();
    if slept {
        // Documented: the wait for a button ends, and is begun again.
        assert_eq!(pc.finish_request(&button).status, NtStatus::CANCELLED);
        let button = pc.wait_on_event(file, 8);
        pc.scanner.press(&[1]);
        assert_eq!(pc.finish_request(&button).status, NtStatus::SUCCESS);
    }
    pc.close_and_finish(file);
    slept
}

#[test]
fn a_scan_can_be_suspended_at_every_urb() {
    for power in POWER {
        let mut urbs = 0;
        while sleeps_at(urbs + 1, power) {
            urbs += 1;
        }
        // Two URBs of the image and one of the control pipe for each piece.
        assert_eq!(urbs, 15, "{power:?}");
    }
}

//! The vendor requests of a scanner, bit for bit: as URBs, as SETUP packets, and when the caller's
//! pointer is bad or goes bad on the way.

use std::{cell::Cell, rc::Rc};

use ntsim::{
    Caller, Config, IoResult, NtStatus, Protection, When,
    usb::{Urb, layout::function},
};
use parscan_models::{Scanner, Speed};
use parscan_tests::{
    scanner::{Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        IOCTL_READ_REGISTERS, IOCTL_SEND_USB_REQUEST, IOCTL_WRITE_REGISTERS, IoBlock, IoBlockEx,
    },
};

const USERS: [Caller; 2] = [Caller::User64, Caller::User32];
/// `uLength` around every boundary of the page: of the two request numbers, of a byte, of a page
/// of memory, of wLength.
const LENGTHS: [u16; 7] = [0, 1, 2, 255, 256, 4096, 65_535];
/// `uOffset` and `uIndex`, of which the low 16 bits reach the device.
const NUMBERS: [(u32, u32); 4] = [
    (0, 0),
    (0x0000_8001, 0x0000_FF00),
    (0x7FFF_0100, 0x8000_00FF),
    (0xFFFF_FFFF, 0xFFFF_7FFE),
];
/// bRequest of `IOCTL_SEND_USB_REQUEST`: a number that is no register request.
const REQUEST: u8 = 0x9A;

fn low(number: u32) -> [u8; 2] {
    let [b0, b1, ..] = number.to_le_bytes();
    [b0, b1]
}

fn bytes(length: u16) -> Vec<u8> {
    Scanner::image(u32::from(length) + 1, length.into())
}

/// A vendor request, as the pages have it.
struct Asked {
    is_in: bool,
    request: u8,
    offset: u32,
    index: u32,
    length: u16,
}

impl Asked {
    /// The SETUP packet: `40 rq vv vv ii ii ll ll`, or `C0 …`.
    fn setup(&self) -> [u8; 8] {
        let kind = if self.is_in { 0xC0 } else { 0x40 };
        let ([v0, v1], [i0, i1]) = (low(self.offset), low(self.index));
        let [l0, l1] = self.length.to_le_bytes();
        [kind, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// The whole `_URB_CONTROL_VENDOR_OR_CLASS_REQUEST`, by the table of the pages. Where the data
    /// lies is the driver's choice.
    fn urb(&self, buffer: usize) -> Vec<u8> {
        let mut urb = vec![0; 136];
        let mut put = |at: usize, bytes: &[u8]| urb[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &136_u16.to_le_bytes());
        put(0x02, &function::VENDOR_DEVICE.to_le_bytes());
        put(0x20, &u32::from(self.is_in).to_le_bytes());
        put(0x24, &u32::from(self.length).to_le_bytes());
        put(0x28, &buffer.to_le_bytes());
        let [kind, request, v0, v1, i0, i1, ..] = self.setup();
        put(0x80, &[kind, request, v0, v1, i0, i1]);
        urb
    }

    #[track_caller]
    fn assert_sent(&self, pc: &ScannerPc, before: u64, data: &[u8]) {
        let [urb] = &pc.urbs_since(before)[..] else {
            panic!("one URB");
        };
        assert_eq!(urb.transfer_buffer() == 0, self.length == 0);
        assert_eq!(urb.sent, self.urb(urb.transfer_buffer()));
        assert_eq!(urb.setups, [self.setup()], "on the bus");
        assert!(urb.data == data, "{} bytes on the bus", urb.data.len());
        let seen = pc.scanner.take_setups();
        let [seen] = &seen[..] else {
            panic!("one SETUP packet, {seen:?}");
        };
        assert_eq!(seen.to_bytes(), self.setup(), "at the device");
    }
}

fn register_request(length: u16) -> u8 {
    if length > 1 { 0x04 } else { 0x0C }
}

fn block(offset: u32, length: u32, data: usize, index: u32) -> IoBlock {
    IoBlock {
        offset,
        length,
        data: u64::try_from(data).unwrap(),
        index,
    }
}

/// A scanner, and an open of it by a program of each kind.
fn for_users(test: impl Fn(&ScannerPc, Opened, Caller)) {
    for caller in USERS {
        let pc = ScannerPc::new();
        let file = pc.open_as(r"\\.\Usbscan0", caller);
        let _ = pc.scanner.take_setups();
        test(&pc, file, caller);
        pc.close_and_finish(file);
    }
}

/// The same with data of each length, and where a program has them.
fn for_lengths(test: impl Fn(&ScannerPc, Opened, u16, usize)) {
    for_users(|pc, file, caller| {
        for length in LENGTHS {
            let address = pc.machine.user_alloc(caller, &bytes(length));
            test(pc, file, length, address);
            pc.machine.user_free(address);
        }
    });
}

#[test]
fn registers_of_every_length_are_the_urbs_of_the_pages() {
    for_lengths(|pc, file, length, address| {
        let data = bytes(length);
        for (offset, index) in NUMBERS {
            let mut asked = Asked {
                is_in: false,
                request: register_request(length),
                offset,
                index,
                length,
            };
            let before = pc.machine.urb_count();
            let written = pc.write_registers(file, block(offset, length.into(), address, index));
            let ended = written.outcome();
            assert_eq!(ended, (NtStatus::SUCCESS, 0), "{length} bytes");
            asked.assert_sent(pc, before, &data);

            asked.is_in = true;
            let before = pc.machine.urb_count();
            let input = block(offset, length.into(), 0, index).bytes(file.caller);
            let read = pc.control(file, IOCTL_READ_REGISTERS, &input, length.into());
            let ended = read.outcome();
            assert_eq!(ended, (NtStatus::SUCCESS, length.into()), "{length} bytes");
            assert!(read.output == data, "{length} bytes");
            asked.assert_sent(pc, before, &data);
        }
    });
}

#[test]
fn any_request_of_every_length_is_the_urb_of_the_page() {
    for_lengths(|pc, file, length, address| {
        let data = bytes(length);
        pc.scanner.answer_vendor(REQUEST, &data);
        // Both directions as zero and not, and a request type that the driver may not honour.
        for ((offset, index), direction_in) in NUMBERS.into_iter().zip([0, 1, 0xFF, 0]) {
            let is_in = direction_in != 0;
            let asked = Asked {
                is_in,
                request: REQUEST,
                offset,
                index,
                length,
            };
            let before = pc.machine.urb_count();
            let request = IoBlockEx {
                block: block(offset, length.into(), address, index),
                request: REQUEST,
                request_type: 0x80,
                direction_in,
            };
            let (output, moved) = match (is_in, usize::from(length)) {
                (true, length) => (length, length),
                (false, length) => (length, 0),
            };
            let sent = pc.send_request(file, request, output);
            let ended = sent.outcome();
            assert_eq!(ended, (NtStatus::SUCCESS, moved), "{length} bytes");
            asked.assert_sent(pc, before, &data);
            if is_in {
                assert!(sent.output == data, "{length} bytes");
            } else {
                assert!(pc.scanner.vendor_data() == data, "{length} bytes");
            }
        }
    });
}

/// A full-speed host has no more than 4 KiB for a control transfer: what it says is the answer.
#[test]
fn a_length_that_the_host_cannot_do_ends_with_its_status() {
    let pc = ScannerSetup {
        scanner: Scanner::new(Speed::Full),
        ..ScannerSetup::default()
    }
    .started();
    let file = pc.open();
    for (length, status) in [
        (4096, NtStatus::SUCCESS),
        (4097, NtStatus::INVALID_PARAMETER),
    ] {
        let read = pc.read_registers(file, 0, length);
        assert_eq!(read.status, status, "{length} bytes");
        assert_eq!(read.information != 0, status.is_success());
    }
    pc.close_and_finish(file);
}

/// What a caller sends, in all three requests that have a length.
fn inputs(caller: Caller, length: u32, data: usize) -> [(u32, bool, Vec<u8>); 4] {
    let block = block(0, length, data, 0);
    let send = |direction_in| {
        IoBlockEx {
            block,
            request: REQUEST,
            direction_in,
            ..IoBlockEx::default()
        }
        .bytes(caller)
    };
    [
        (IOCTL_READ_REGISTERS, true, block.bytes(caller)),
        (IOCTL_WRITE_REGISTERS, false, block.bytes(caller)),
        (IOCTL_SEND_USB_REQUEST, true, send(1)),
        (IOCTL_SEND_USB_REQUEST, false, send(0)),
    ]
}

#[track_caller]
fn assert_refused(result: &IoResult, what: &str) {
    let refused = (NtStatus::INVALID_PARAMETER, 0);
    assert_eq!(result.outcome(), refused, "{what}");
}

#[test]
fn lengths_beyond_those_of_usb_reach_no_device() {
    for_users(|pc, file, caller| {
        let address = pc.machine.user_alloc(caller, &[0; 64]);
        let before = pc.machine.urb_count();
        let most = 0x1_0000_usize;
        for length in [0x1_0000_u32, 0x1_0001, 0x1_0004, 0x8000_0000, u32::MAX] {
            for data in [address, 0] {
                for (code, _, input) in inputs(caller, length, data) {
                    // The output as long as the request says, where there is as much.
                    let output = usize::try_from(length).unwrap().min(most + 4);
                    let result = pc.control(file, code, &input, output);
                    assert_refused(&result, &format!("{length:#x}"));
                }
            }
        }
        assert_eq!(pc.machine.urb_count(), before);
    });
}

#[test]
fn buffers_one_byte_short_reach_no_device() {
    for_users(|pc, file, caller| {
        let address = pc.machine.user_alloc(caller, &[7; 64]);
        let before = pc.machine.urb_count();
        for (code, is_in, input) in inputs(caller, 64, address) {
            for length in [0, 1, input.len() - 1] {
                let result = pc.control(file, code, &input[..length], 64);
                assert_refused(&result, &format!("{code:#x}"));
            }
            if is_in {
                // One byte less, one more, and the block itself as output.
                for output in [0, 63, 65, input.len()] {
                    let result = pc.control(file, code, &input, output);
                    assert_refused(&result, &format!("{output}"));
                }
            }
        }
        assert_eq!(pc.machine.urb_count(), before);
    });
}

/// Every pointer that a caller may not have, for short data and for long.
#[test]
fn bad_pointers_reach_no_device() {
    const PAGE: usize = 4096;
    for_users(|pc, file, caller| {
        let end = match caller {
            Caller::User32 => 0xFFFF_FFFF,
            _ => usize::MAX,
        };
        let whole = pc.machine.user_alloc(caller, &[1; 3 * PAGE]);
        let locked = pc.machine.user_alloc(caller, &[2; PAGE]);
        pc.machine.user_protect(locked, PAGE, Protection::None);
        let lost = pc.machine.user_alloc(caller, &[3; PAGE]);
        pc.machine.user_protect(lost, PAGE, Protection::Lost);
        let hole = pc.machine.user_alloc(caller, &[4; 2 * PAGE]);
        pc.machine.user_protect(hole + PAGE, PAGE, Protection::None);
        let freed = pc.machine.user_alloc(caller, &[5; PAGE]);
        pc.machine.user_free(freed);
        let before = pc.machine.urb_count();
        for length in [1_u32, 2, 64, 65, 4096] {
            let bytes = usize::try_from(length).unwrap();
            let violation = NtStatus::ACCESS_VIOLATION;
            let mut bad = vec![
                (0, NtStatus::INVALID_PARAMETER),
                (1, violation),
                (locked, violation),
                (freed, violation),
                (lost, NtStatus::IN_PAGE_ERROR),
                // Into the page after it, by one byte.
                (whole + 3 * PAGE - bytes + 1, violation),
                (hole + PAGE - bytes + 1, violation),
                (end, violation),
                (end - (bytes - 1), violation),
            ];
            if bytes > 1 {
                bad.push((end - (bytes - 2), violation));
            }
            if caller == Caller::User64 {
                bad.extend([
                    // The end of user space, and what lies behind it.
                    (0x0000_7FFF_FFFF_0000 - bytes + 1, violation),
                    (0x0000_7FFF_FFFF_0000, violation),
                    (0x0000_8000_0000_0000, violation),
                    (0xFFFF_8000_0000_0000, violation),
                    (pc.machine.allocate(bytes), violation),
                ]);
            }
            for (data, status) in bad {
                for (code, is_in, input) in inputs(caller, length, data) {
                    // `pbyData` of what comes from the device is not looked at.
                    if is_in {
                        continue;
                    }
                    let result = pc.control(file, code, &input, 0);
                    let ended = result.outcome();
                    assert_eq!(ended, (status, 0), "{length} bytes at {data:#x}");
                }
            }
        }
        assert_eq!(pc.machine.urb_count(), before);
        // Where there are no bytes no pointer is bad.
        for data in [0, 1, locked, freed, end] {
            for (code, _, input) in inputs(caller, 0, data) {
                pc.scanner.answer_vendor(REQUEST, &[]);
                let result = pc.control(file, code, &input, 0);
                let ended = result.outcome();
                assert_eq!(ended, (NtStatus::SUCCESS, 0), "{data:#x}");
            }
        }
        // Memory that can only be read is enough, wherever it begins, up to its last byte.
        pc.machine.user_protect(whole, 3 * PAGE, Protection::Read);
        for data in [whole, whole + 1, whole + 4095, whole + 2 * PAGE] {
            let written = pc.write_registers(file, block(0x100, 4096, data, 0));
            assert_eq!(written.status, NtStatus::SUCCESS, "{data:#x}");
            assert_eq!(pc.scanner.registers(0x100, 4096), [1; 4096]);
        }
    });
}

/// `pbyData` of a request that takes from the device is never touched, good or bad.
#[test]
fn the_pointer_of_a_read_is_not_looked_at() {
    for_users(|pc, file, caller| {
        let address = pc.machine.user_alloc(caller, &[9; 64]);
        pc.scanner.answer_vendor(REQUEST, &[1; 64]);
        for data in [0, address, 0xFFFF_FFFF] {
            for (code, is_in, input) in inputs(caller, 64, data) {
                if is_in {
                    let result = pc.control(file, code, &input, 64);
                    let ended = result.outcome();
                    assert_eq!(ended, (NtStatus::SUCCESS, 64));
                }
            }
        }
        assert_eq!(pc.machine.touches(address), 0);
    });
}

/// What another thread of the program does to the memory.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Free,
    Lock,
    Lose,
    Overwrite,
}

impl Mischief {
    const ALL: [Self; 4] = [Self::Free, Self::Lock, Self::Lose, Self::Overwrite];

    fn happen(self, machine: &ntsim::Machine, address: usize, length: usize) {
        match self {
            Self::Free => machine.user_free(address),
            Self::Lock => machine.user_protect(address, length, Protection::None),
            Self::Lose => machine.user_protect(address, length, Protection::Lost),
            Self::Overwrite => machine.user_write(address, &vec![NEW; length]),
        }
    }

    /// The status of a request whose data it made unreadable.
    fn status(self) -> NtStatus {
        match self {
            Self::Lose => NtStatus::IN_PAGE_ERROR,
            _ => NtStatus::ACCESS_VIOLATION,
        }
    }
}

/// The bytes before and after [`Mischief::Overwrite`].
const OLD: u8 = 0x11;
const NEW: u8 = 0x22;

/// The data of the URB of a write during which `mischief` happened: `None`, if it failed as it must
/// then.
#[track_caller]
fn data_sent(
    pc: &ScannerPc,
    before: u64,
    ended: &ntsim::IoResult,
    mischief: Mischief,
) -> Option<Vec<u8>> {
    assert_eq!(ended.information, 0);
    let urbs = pc.urbs_since(before);
    if ended.status.is_success() {
        let [Urb { data, .. }] = &urbs[..] else {
            panic!("one URB");
        };
        return Some(data.clone());
    }
    assert_eq!(ended.status, mischief.status());
    assert!(urbs.is_empty(), "nothing reaches the device");
    None
}

/// Between any two bytes: the request fails as a whole, or the device gets each byte as it was when
/// it was read, once.
#[test]
fn memory_that_changes_at_any_byte_is_read_once() {
    // Short data and long, which are captured to different places.
    for (length, steps) in [(16_u32, [1, 2, 9, 16]), (200, [1, 64, 65, 200])] {
        for mischief in Mischief::ALL {
            for_users(|pc, file, _| {
                for step in steps {
                    changes_at_byte(pc, file, length, mischief, step);
                }
            });
        }
    }
}

fn changes_at_byte(pc: &ScannerPc, file: Opened, length: u32, mischief: Mischief, step: usize) {
    let bytes = usize::try_from(length).unwrap();
    // Both requests that send data.
    for which in [1, 3] {
        let address = pc.machine.user_alloc(file.caller, &vec![OLD; bytes]);
        let done = Rc::new(Cell::new(false));
        let seen = Rc::clone(&done);
        let touch = u64::try_from(step).unwrap();
        pc.machine.on_touch(address, touch, move |machine| {
            mischief.happen(machine, address, bytes);
            seen.set(true);
        });
        let before = pc.machine.urb_count();
        let (code, _, input) = &inputs(file.caller, length, address)[which];
        let ended = pc.control(file, *code, input, 0);
        assert!(done.get(), "each byte is a touch");
        let data = data_sent(pc, before, &ended, mischief);
        let mut expected = vec![OLD; step - 1];
        expected.resize(bytes, NEW);
        let expected = matches!(mischief, Mischief::Overwrite).then_some(expected);
        assert_eq!(data, expected, "{mischief:?} at byte {step}");
    }
}

/// At every kernel call of a request, from its arrival to its completion, by another thread.
#[test]
fn memory_that_changes_at_any_kernel_call_is_read_once() {
    for caller in USERS {
        for length in [16, 200] {
            for mischief in Mischief::ALL {
                happens_at_every_kernel_call(caller, length, mischief);
            }
        }
    }
}

fn happens_at_every_kernel_call(caller: Caller, length: usize, mischief: Mischief) {
    let pc = ScannerSetup::with_config(Config {
        preempt_per_mille: 0,
        ..Config::default()
    })
    .started();
    let file = pc.open_as(r"\\.\Usbscan0", caller);
    // Requests in which it came in time, and too late.
    let (mut early, mut late) = (0, 0);
    for k in 1.. {
        let address = pc.machine.user_alloc(caller, &vec![OLD; length]);
        let done = Rc::new(Cell::new(false));
        let seen = Rc::clone(&done);
        let call = pc.machine.kernel_calls() + k;
        pc.machine.at(When::KernelCall(call), move |machine| {
            mischief.happen(machine, address, length);
            seen.set(true);
        });
        let before = pc.machine.urb_count();
        let request = block(0, u32::try_from(length).unwrap(), address, 0);
        let ended = pc.write_registers(file, request);
        if !done.get() {
            // The request has fewer calls.
            break;
        }
        match data_sent(&pc, before, &ended, mischief) {
            None => early += 1,
            Some(data) if data == vec![OLD; length] => late += 1,
            // All of it, or nothing: no other thread runs while it is captured.
            Some(data) => {
                assert!(matches!(mischief, Mischief::Overwrite));
                assert_eq!(data, vec![NEW; length]);
                early += 1;
            }
        }
    }
    assert!(early > 0 && late > 0, "{mischief:?}: {early}, {late}");
    pc.close_and_finish(file);
}

//! Requests as programs make them, good, nearly good, and bad.

use ntsim::Caller;
use parscan_tests::{ntddpar, port_programs as lines, usbscan_h};

use crate::dice::Dice;
pub(crate) use crate::lines::program;

/// A control request.
pub(crate) struct Request {
    pub(crate) code: u32,
    pub(crate) input: Vec<u8>,
    pub(crate) output: usize,
}

/// Sizes that something may have a limit at.
const SIZES: [usize; 20] = [
    0, 1, 2, 3, 4, 7, 8, 12, 16, 18, 20, 24, 32, 33, 64, 200, 512, 4096, 5000, 70_000,
];

/// Any of the requests of both roles: a program may send each to each device.
pub(crate) fn any(dice: &mut Dice, caller: Caller, memory: &[usize], of_port: bool) -> Request {
    let lines = [
        lines::IOCTL_PARSCAN_GET_PORT,
        lines::IOCTL_PARSCAN_CLAIM,
        lines::IOCTL_PARSCAN_RELEASE,
        lines::IOCTL_PARSCAN_RUN,
        lines::IOCTL_PARSCAN_WAIT_EDGE,
    ];
    let of_port = if dice.one_in(20) { !of_port } else { of_port };
    let mut code = if of_port {
        if dice.one_in(3) {
            dice.of(&lines)
        } else {
            dice.of(&ntddpar::REQUESTS)
        }
    } else {
        dice.of(&usbscan_h::REQUESTS)
    };
    let (mut input, right) = good(dice, code, caller, memory);
    match dice.below(8) {
        0 => {
            let length = dice.of(&SIZES).min(5000);
            input = dice.bytes(length);
        }
        1 => {
            let length = dice.of(&SIZES).min(5000);
            input.resize(length, 0x11);
        }
        2 | 3 if !input.is_empty() => {
            for _ in 0..=dice.below(4) {
                let at = dice.below(input.len());
                input[at] = dice.of(&[0, 1, 0x7F, 0x80, 0xFF, 0x55])
                    ^ if dice.one_in(2) { dice.byte() } else { 0 };
            }
        }
        _ => {}
    }
    // Another method, access, function or device type.
    match dice.below(40) {
        0 => code ^= 1 << dice.below(2),
        1 => code ^= 1 << (2 + dice.below(12)),
        2 => code ^= 1 << (14 + dice.below(2)),
        3 => code = dice.word(),
        _ => {}
    }
    let output = if dice.one_in(3) {
        dice.of(&SIZES)
    } else {
        right
    };
    Request {
        code,
        input,
        output,
    }
}

/// A good input for a request, and the room that its answer needs.
fn good(dice: &mut Dice, code: u32, caller: Caller, memory: &[usize]) -> (Vec<u8>, usize) {
    match code {
        ntddpar::IOCTL_SERIAL_SET_TIMEOUTS => {
            let fields = [(); 5].map(|()| dice.of(&[0, 1, 10, 200, 2000, u32::MAX]));
            (ntddpar::timeouts(fields), 0)
        }
        ntddpar::IOCTL_IEEE1284_NEGOTIATE => {
            let [a, b, c, d] = dice.word().to_le_bytes();
            let every = [
                0x0001, 0x0002, 0x0004, 0x0010, 0x0020, 0x0040, 0x0100, 0x0400,
            ];
            let (read, write) = if dice.one_in(3) {
                (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
            } else {
                (dice.of(&every), dice.of(&every))
            };
            (ntddpar::modes::mask(read, write).to_vec(), 4)
        }
        ntddpar::IOCTL_PAR_SET_INFORMATION => (vec![dice.of(&[1, 0, 0x80, 0x20])], 0),
        ntddpar::IOCTL_PAR_SET_WRITE_ADDRESS | ntddpar::IOCTL_PAR_SET_READ_ADDRESS => {
            (vec![dice.of(&[0, 1, 5, 0x7F, 0x80])], 0)
        }
        lines::IOCTL_PARSCAN_CLAIM | lines::IOCTL_PARSCAN_RELEASE => {
            (vec![dice.of(&[0, 1]), 0, 0, 0], 0)
        }
        lines::IOCTL_PARSCAN_RUN => program(dice),
        lines::IOCTL_PARSCAN_WAIT_EDGE => {
            let wait = dice.of(&[0, 1, 20, 1000, lines::FOREVER]);
            let room = dice.of(&[lines::EDGES, lines::EDGES + lines::EDGE, 500]);
            (wait.to_le_bytes().to_vec(), room)
        }
        usbscan_h::IOCTL_CANCEL_IO | usbscan_h::IOCTL_RESET_PIPE => {
            (usbscan_h::pipe_type(dice.of(&[0, 1, 2, 3, 4])).to_vec(), 0)
        }
        usbscan_h::IOCTL_READ_REGISTERS | usbscan_h::IOCTL_WRITE_REGISTERS => {
            let block = block(dice, memory);
            (
                block.bytes(caller),
                usize::try_from(block.length).unwrap_or(0).min(70_000),
            )
        }
        usbscan_h::IOCTL_SEND_USB_REQUEST => {
            let block = usbscan_h::IoBlockEx {
                block: block(dice, memory),
                request: dice.byte(),
                request_type: dice.byte(),
                direction_in: dice.of(&[0, 1, 2]),
            };
            let room = usize::try_from(block.block.length).unwrap_or(0).min(70_000);
            (block.bytes(caller), room)
        }
        usbscan_h::IOCTL_GET_USB_DESCRIPTOR => {
            let kind = dice.of(&[1, 2, 3, 4, 5, 6, 0x21, 0xFF]);
            let room = dice.of(&[8, 9, 18, 255, 4096]);
            (
                usbscan_h::get_descriptor(kind, dice.of(&[0, 1, 4]), 0x0409).to_vec(),
                room,
            )
        }
        usbscan_h::IOCTL_SET_TIMEOUT => {
            let times = [(); 3].map(|()| dice.of(&[0, 1, 2, 120, u32::MAX]));
            (usbscan_h::timeout(times[0], times[1], times[2]), 0)
        }
        usbscan_h::IOCTL_GET_PIPE_CONFIGURATION => (vec![], usbscan_h::PIPE_CONFIGURATION_SIZE),
        _ => (vec![], dice.of(&[4, 8, 12, 20, 64, 256, 1024])),
    }
}

/// A block that points to memory of the program, or elsewhere.
fn block(dice: &mut Dice, memory: &[usize]) -> usbscan_h::IoBlock {
    let data = match dice.below(8) {
        0 => 0,
        1 => u64::from(dice.word()),
        2 => 0xFFFF_8000_0000_0000,
        3 => u64::MAX - 2,
        _ => {
            let base = dice.of(memory);
            (base + dice.below(5000)) as u64
        }
    };
    usbscan_h::IoBlock {
        offset: dice.of(&[0, 0x40, 0x8B, 0xFFFF, 0x1_0000]),
        length: dice.of(&[0, 1, 4, 64, 255, 4096, 5000, 65_535, 65_536, u32::MAX]),
        data,
        index: dice.of(&[0, 1, 0xFFFF, 0x1_0000]),
    }
}

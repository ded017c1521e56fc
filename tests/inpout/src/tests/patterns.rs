//! Call patterns of public programs, on a double of the device. Clients in C make the same calls in
//! Wine, through the DLL and the driver (`clients/patterns.c`).

use super::double::{Computer, Hardware, Plug};
use crate::Width::Uchar;

/// Data of the loopback plug, as its status register shows it.
fn looped(data: u8) -> u32 {
    u32::from((data << 3) ^ 0x80) & 0xF8 | 7
}

/// An experiment package: the ECR to byte mode, the direction cleared, then triggers.
#[test]
fn an_experiment_sends_triggers_and_reads_pins() {
    let computer = Computer::with([Hardware::at(0xD100)]);
    let mut port = computer.process();
    let base = 0xD100_u16;
    // Address arithmetic in a signed short.
    let at =
        |offset: u16| u32::from_ne_bytes(i32::from((base + offset).cast_signed()).to_ne_bytes());
    assert!(port.is_driver_open());
    let ecr = port.read(at(0x402), Uchar);
    assert_eq!(ecr, 0x35);
    port.write(at(0x402), Uchar, ecr & 0x1F | 0x20);
    let control = port.read(at(2), Uchar);
    port.write(at(2), Uchar, control & !0x20);
    computer.written(0);
    for value in [1, 0, 0x2A, 0, 0xFF, 0] {
        port.write(at(0), Uchar, value);
        let byte = value.to_le_bytes()[0];
        assert_eq!(port.read(at(1), Uchar), looped(byte));
        assert_eq!(port.read(at(0), Uchar), value);
    }
    let data: Vec<u8> = computer.written(0).iter().map(|(_, it)| *it).collect();
    assert_eq!(data, [1, 0, 0x2A, 0, 0xFF, 0]);
}

/// A text display: eight data lines, nStrobe as its clock, nInit as its register select. The
/// emulator of it sets bit 4 in every write.
#[test]
fn a_display_gets_its_bytes_with_every_clock() {
    let computer = Computer::with([Hardware::at(0x378)]);
    let mut port = computer.process();
    let text = b"\x38\x0C\x01\x06parscan";
    for (index, byte) in text.iter().enumerate() {
        let select = if index < 4 { 0 } else { 4 };
        port.write(0x37A, Uchar, 0x10 | select | 1);
        port.write(0x378, Uchar, u32::from(*byte));
        port.write(0x37A, Uchar, 0x10 | select);
        port.write(0x37A, Uchar, 0x10 | select | 1);
    }
    // Where nStrobe's bit goes from 1 to 0 the display takes the byte.
    let (mut data, mut clock, mut taken) = (0, 1, Vec::new());
    for (register, value) in computer.written(0) {
        if register == 0 {
            data = value;
        } else {
            assert_eq!(value & 0xF0, 0);
            if clock == 1 && value & 1 == 0 {
                taken.push(data);
            }
            clock = value & 1;
        }
    }
    assert_eq!(taken, text);
}

/// A programmer: bits out on D0 with the clock on D1, each bit back on nFault, tens of thousands of
/// accesses, every one alone.
#[test]
fn a_programmer_clocks_tens_of_thousands_of_bits() {
    let computer = Computer::with([Hardware::at(0x378)]);
    let mut port = computer.process();
    let image: Vec<u8> = (0..1000_u32)
        .map(|it| it.wrapping_mul(151).to_le_bytes()[0])
        .collect();
    let mut back = Vec::new();
    for byte in &image {
        let mut got = 0;
        for bit in (0..8).rev() {
            let d0 = u32::from(byte >> bit & 1);
            port.write(0x378, Uchar, d0);
            port.write(0x378, Uchar, d0 | 2);
            got = got << 1 | u8::from(port.read(0x379, Uchar) & 0x08 != 0);
            port.write(0x378, Uchar, d0);
        }
        back.push(got);
    }
    assert_eq!(back, image);
    assert_eq!(computer.counts(0).runs, 1000 * 8 * 4);
}

/// A button box: the status lines are polled, and compared as a whole byte.
#[test]
fn a_button_box_is_polled() {
    let pressed = Plug::Device {
        status: 0x3F,
        data: 0,
    };
    let computer = Computer::with_device(0x7F, 0);
    let mut port = computer.process();
    let mut polls = 0;
    while port.read(0x379, Uchar) == 0x7F {
        polls += 1;
        if polls == 5000 {
            computer.port(0, |it| it.plug = pressed);
        }
    }
    assert_eq!((polls, port.read(0x379, Uchar)), (5000, 0x3F));
    assert!(computer.written(0).is_empty(), "polling moves no line");
}

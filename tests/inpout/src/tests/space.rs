//! What programs see of the I/O space: registers, addresses, widths, and ports that others have.

use super::double::{Computer, Hardware};
use crate::Width::{self, Uchar, Ulong, Ushort};
use parscan_client::Status;

const BASE: u32 = 0x378;
const ECR: u32 = BASE + 0x402;

fn one() -> Computer {
    Computer::with([Hardware::at(0x378)])
}

#[test]
fn loading_opens_nothing_and_the_first_access_claims_once() {
    let computer = one();
    let mut process = computer.process();
    assert_eq!((computer.lists(), computer.counts(0).opens), (0, 0));
    for value in 0..100 {
        process.write(BASE, Uchar, value);
    }
    let counts = computer.counts(0);
    assert_eq!((counts.claims, counts.runs), (1, 100));
    assert_eq!(computer.lists(), 1);
    let expected: Vec<(u16, u8)> = (0..100).map(|value| (0, value)).collect();
    assert_eq!(computer.written(0), expected);
}

#[test]
fn lines_stay_when_it_is_unloaded_and_a_reload_works() {
    let computer = one();
    for value in 1..=50 {
        let mut process = computer.process();
        process.write(BASE, Uchar, value);
        assert!(computer.port(0, |it| it.is_open));
        drop(process);
        assert!(!computer.port(0, |it| it.is_open), "the handle is closed");
    }
    assert_eq!(computer.port(0, |it| it.outputs.data), 50);
    assert_eq!(computer.written(0).len(), 50);
}

#[test]
fn only_low_bits_count() {
    let computer = Computer::with([Hardware::at(0xD100)]);
    let mut process = computer.process();
    for address in [0xD100, 0xFFFF_D100, 0x1234_D100] {
        process.write(address, Uchar, 0xFFFF_FF55);
        assert_eq!(process.read(address, Uchar), 0x55);
        assert_eq!(
            process.read(address + 1, Uchar),
            0x55 << 3 & 0xF8 ^ 0x80 | 7
        );
    }
    assert_eq!(computer.written(0), [(0, 0x55); 3]);
}

#[test]
fn addresses_of_no_port_read_all_ones_and_are_cheap() {
    let computer = one();
    let mut process = computer.process();
    for _ in 0..1000 {
        for address in [
            0x64,
            0x377,
            BASE + 3,
            BASE + 7,
            BASE + 0x400,
            BASE + 0x401,
            0xFFFF,
        ] {
            process.write(address, Uchar, 0);
            assert_eq!(process.read(address, Uchar), 0xFF);
        }
        assert_eq!(process.read(0x60, Ushort), 0xFFFF);
        assert_eq!(process.read(0xFFFF, Ulong), 0xFFFF_FFFF);
    }
    assert_eq!(computer.lists(), 1);
    let counts = computer.counts(0);
    assert_eq!((counts.opens, counts.claims), (1, 0));
    assert!(computer.written(0).is_empty());
}

#[test]
fn a_machine_without_ports_has_nothing() {
    let computer = Computer::with([]);
    let mut process = computer.process();
    assert!(!process.is_driver_open());
    process.write(BASE, Uchar, 1);
    assert_eq!(process.read(BASE + 1, Uchar), 0xFF);
    // One comes.
    computer.plug(Hardware::at(0x378));
    assert_eq!(
        process.read(BASE, Uchar),
        0xFF,
        "no trace looks at every access"
    );
    computer.pass(2000);
    process.write(BASE, Uchar, 2);
    assert_eq!(computer.port(0, |it| it.outputs.data), 2);
    assert!(process.is_driver_open());
}

#[test]
fn control_writes_drop_interrupt_and_undefined_bits() {
    let computer = one();
    let mut process = computer.process();
    process.write(BASE + 2, Uchar, 0xDB);
    assert_eq!(computer.written(0), [(2, 0x0B)]);
    assert_eq!(process.read(BASE + 2, Uchar), 0xCB, "the raw byte");
    process.write(BASE + 1, Uchar, 0x55);
    assert!(computer.written(0).is_empty(), "status is not written");
}

#[test]
fn direction_works_in_byte_mode_only() {
    let computer = Computer::with_device(0x5F, 0xA7);
    let mut process = computer.process();
    // A first use is in 001: many programs reverse without a word to the ECR.
    process.write(BASE + 2, Uchar, 0x20);
    assert_eq!(process.read(BASE, Uchar), 0xA7);
    assert_eq!(process.read(BASE + 2, Uchar) & 0x20, 0x20);
    assert_eq!(process.read(ECR, Uchar), 0x35);
    // To 000 while reversed: forward first.
    process.write(ECR, Uchar, 0x14);
    assert_eq!(computer.written(0), [(2, 0x20), (2, 0x00)]);
    assert_eq!(process.read(ECR, Uchar), 0x15);
    process.write(BASE + 2, Uchar, 0x2C);
    assert_eq!(computer.written(0), [(2, 0x0C)]);
    assert_eq!(process.read(BASE + 2, Uchar) & 0x20, 0);
    // Modes of a FIFO, EPP, test, configuration: nothing.
    for mode in 2..8 {
        process.write(ECR, Uchar, mode << 5 | 0x14);
        assert_eq!(process.read(ECR, Uchar), 0x15);
    }
    process.write(ECR, Uchar, 0x34);
    process.write(BASE + 2, Uchar, 0x2C);
    assert_eq!(computer.written(0), [(2, 0x2C)]);
    process.write(BASE + 2, Uchar, 0x0C);
    process.write(ECR, Uchar, 0x14);
    assert_eq!(computer.written(0), [(2, 0x0C)], "forward already");
}

#[test]
fn what_an_earlier_process_left_reversed_is_turned_by_mode_000() {
    let computer = one();
    computer.process().write(BASE + 2, Uchar, 0x2C);
    assert_eq!(computer.port(0, |it| it.outputs.control), 0x2C);
    let mut process = computer.process();
    process.write(ECR, Uchar, 0x14);
    assert_eq!(computer.port(0, |it| it.outputs.control), 0x0C);
}

#[test]
fn a_port_without_direction_or_ecp_block_has_none() {
    let computer = Computer::with([Hardware {
        has_direction: false,
        ecp_base: None,
        ..Hardware::at(0x378)
    }]);
    let mut process = computer.process();
    process.write(ECR, Uchar, 0x34);
    assert_eq!(process.read(ECR, Uchar), 0xFF);
    process.write(BASE + 2, Uchar, 0x2C);
    assert_eq!(computer.written(0), [(2, 0x0C)]);
    assert_eq!(process.read(BASE + 2, Uchar) & 0x20, 0);
}

#[test]
fn an_ecp_block_elsewhere_answers_there_too() {
    let computer = Computer::with([Hardware {
        ecp_base: Some(0xE800),
        ..Hardware::at(0xE000)
    }]);
    let mut process = computer.process();
    assert_eq!(process.read(0xE802, Uchar), 0x35);
    assert_eq!(process.read(0xE402, Uchar), 0x35);
    process.write(0xE802, Uchar, 0x15);
    assert_eq!(process.read(0xE402, Uchar), 0x15);
    assert_eq!(process.read(0xE800, Uchar), 0xFF);
}

#[test]
fn a_real_register_comes_before_anothers_ecr() {
    let computer = Computer::with([Hardware::at(0xC000), Hardware::at(0xC402)]);
    let mut process = computer.process();
    process.write(0xC402, Uchar, 0x55);
    assert_eq!(process.read(0xC402, Uchar), 0x55);
    assert_eq!(computer.written(1), [(0, 0x55)]);
    assert_eq!(computer.counts(0).claims, 0);
}

#[test]
fn wide_accesses_are_bytes_from_the_lowest_address_across_edges() {
    let computer = one();
    let mut process = computer.process();
    process.write(BASE, Ulong, 0x1122_3344);
    assert_eq!(computer.written(0), [(0, 0x44), (2, 0x22)]);
    process.write(BASE - 1, Ushort, 0x5566);
    assert_eq!(computer.written(0), [(0, 0x55)]);
    process.write(BASE + 2, Ushort, 0x7708);
    assert_eq!(computer.written(0), [(2, 0x08)]);
    let status = u32::from(0x55_u8 << 3 & 0xF8 ^ 0x80 | 7);
    assert_eq!(process.read(BASE, Ushort), status << 8 | 0x55);
    assert_eq!(process.read(BASE, Ulong), 0xFFC8_0055 | status << 8);
    assert_eq!(process.read(BASE - 1, Ulong), 0xC800_55FF | status << 16);
    // The last address, and then the first one.
    assert_eq!(process.read(0xFFFE, Ulong), 0xFFFF_FFFF);
}

#[test]
fn buffers_are_one_address_again_and_again() {
    let computer = one();
    let mut process = computer.process();
    let bytes: Vec<u8> = (0..1000_u32).map(|it| it.to_le_bytes()[0]).collect();
    process.write_buffer(BASE, Uchar, &bytes);
    let written: Vec<u8> = computer
        .written(0)
        .iter()
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(written, bytes);
    let mut read = [0; 100];
    process.read_buffer(BASE, Uchar, &mut read);
    assert_eq!(read, [231; 100]);
    process.write_buffer(BASE + 1, Ushort, &[0xAA, 0x01, 0xBB, 0x02]);
    assert_eq!(computer.written(0), [(2, 0x01), (2, 0x02)]);
    let mut wide = [0; 8];
    process.read_buffer(BASE, Ushort, &mut wide[..4]);
    assert_eq!(wide[..2], wide[2..4]);
    process.read_buffer(0x60, Ulong, &mut wide);
    assert_eq!(wide, [0xFF; 8]);
    process.write_buffer(BASE + 2, Uchar, &[0x2C, 0xFF, 0x01]);
    assert_eq!(computer.written(0), [(2, 0x2C), (2, 0x2F), (2, 0x01)]);
}

#[test]
fn a_port_that_another_process_has_is_tried_again_every_100_ms() {
    let computer = one();
    let mut one = computer.process();
    let mut other = computer.process();
    one.write(BASE, Uchar, 1);
    computer.written(0);
    assert!(one.is_driver_open() && !other.is_driver_open());
    for _ in 0..10 {
        other.write(BASE, Uchar, 2);
        assert_eq!(other.read(BASE + 1, Uchar), 0xFF);
        assert_eq!(other.read(ECR, Uchar), 0xFF);
    }
    assert!(computer.written(0).is_empty());
    drop(one);
    assert_eq!(other.read(BASE, Uchar), 0xFF, "not before its time");
    computer.pass(100);
    assert_eq!(other.read(BASE, Uchar), 1);
    assert_eq!(computer.counts(0).claims, 2);
}

#[test]
fn a_port_that_was_known_is_tried_no_more_often() {
    let computer = one();
    let mut process = computer.process();
    assert!(process.is_driver_open(), "it looks, and keeps nothing");
    assert!(!computer.port(0, |it| it.is_open || it.claimed));
    assert!(computer.written(0).is_empty());
    computer.port(0, |it| it.is_open = true);
    for _ in 0..1000 {
        process.write(BASE, Uchar, 2);
    }
    assert_eq!(computer.lists(), 1);
    computer.port(0, |it| it.is_open = false);
    process.write(BASE, Uchar, 3);
    computer.pass(100);
    process.write(BASE, Uchar, 4);
    assert_eq!(computer.written(0), [(0, 4)]);
}

#[test]
fn nobody_waits_for_a_kernel_client() {
    let computer = one();
    computer.port(0, |it| it.is_locked = true);
    let mut process = computer.process();
    assert!(!process.is_driver_open());
    assert_eq!(process.read(BASE, Uchar), 0xFF);
    assert_eq!(computer.counts(0).claims, 0);
    computer.port(0, |it| it.is_locked = false);
    assert!(process.is_driver_open(), "evaluated at each call");
    computer.pass(100);
    assert_eq!(process.read(BASE, Uchar), 0);
}

#[test]
fn a_port_that_is_pulled_out_comes_back() {
    let computer = one();
    let mut process = computer.process();
    process.write(BASE, Uchar, 1);
    computer.unplug(0);
    process.write(BASE, Uchar, 2);
    assert_eq!(process.read(BASE, Uchar), 0xFF);
    assert!(!process.is_driver_open());
    computer.plug(Hardware::at(0x378));
    assert!(process.is_driver_open());
    computer.pass(100);
    process.write(BASE, Uchar, 3);
    assert_eq!(computer.port(1, |it| it.outputs.data), 3);
}

#[test]
fn a_port_that_sleeps_is_kept() {
    let computer = one();
    let mut process = computer.process();
    process.write(BASE, Uchar, 1);
    computer.port(0, |it| it.ends_with = Some(Status::DEVICE_NOT_READY));
    assert_eq!(process.read(BASE, Uchar), 0xFF);
    computer.port(0, |it| it.ends_with = None);
    assert_eq!(process.read(BASE, Uchar), 1);
    assert_eq!(computer.counts(0).claims, 1);
}

#[test]
fn another_drivers_port_is_asked_once() {
    let computer = Computer::with([
        Hardware {
            ends_with: Some(Status::INVALID_PARAMETER),
            ..Hardware::at(0x278)
        },
        Hardware::at(0x378),
    ]);
    let mut process = computer.process();
    for _ in 0..10 {
        assert_eq!(process.read(0x278, Uchar), 0xFF);
        computer.pass(2000);
    }
    assert!(process.is_driver_open());
    assert_eq!(computer.counts(0).opens, 1);
}

#[test]
fn threads_make_one_claim() {
    let computer = one();
    let process = std::sync::Mutex::new(computer.process());
    std::thread::scope(|scope| {
        for value in 0..8 {
            let process = &process;
            scope.spawn(move || process.lock().unwrap().write(BASE, Width::Uchar, value));
        }
    });
    assert_eq!(computer.counts(0).claims, 1);
    assert_eq!(computer.written(0).len(), 8);
}

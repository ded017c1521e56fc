//! The FIFO of the ECP chip.

use std::{cell::RefCell, rc::Rc};

use parscan_models::{
    Channel, ChipViolationKind, Ecp, Line, Misbehaviour, Peripheral1284, PortDevice, Printer,
    Width, extensibility,
};
use proptest::prelude::*;

use crate::host::{Answer, Host, MS, Missing, Shared, US};

const FULL: u8 = 0x02;
const EMPTY: u8 = 0x01;

fn setup(chip: Ecp) -> (Shared<Ecp>, Host) {
    let chip = Rc::new(RefCell::new(chip.with_ecr(0x34)));
    (chip.clone(), Host::shared(chip))
}

fn kinds(chip: &Shared<Ecp>) -> Vec<ChipViolationKind> {
    chip.borrow().violations().iter().map(|v| v.kind).collect()
}

/// Writes all bytes through the FIFO, whose mode is set, and waits until it is empty.
fn write_fifo(host: &mut Host, bytes: &[u8]) -> Answer<()> {
    for byte in bytes {
        let end = host.now + 35 * MS;
        while host.read_ecr() & FULL != 0 {
            if host.now > end {
                return Err(Missing(36));
            }
        }
        host.fifo(*byte);
    }
    let end = host.now + 35 * MS;
    while host.read_ecr() & EMPTY == 0 {
        if host.now > end {
            return Err(Missing(36));
        }
    }
    Ok(())
}

/// Reads through the FIFO what the device sends.
fn read_fifo(host: &mut Host, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = host.now + 35 * MS;
    while bytes.len() < count && host.now < end {
        if host.read_ecr() & EMPTY == 0 {
            bytes.push(host.read_fifo());
        }
    }
    bytes
}

fn reverse(host: &mut Host) {
    host.ecr(0x34);
    host.dcr(0x24);
    host.ecr(0x74);
    host.dcr(0x20);
    host.expect(40, 0x20, 0x00).unwrap();
}

fn forward(host: &mut Host) {
    host.dcr(0x24);
    host.expect(49, 0x20, 0x20).unwrap();
    host.ecr(0x34);
    host.dcr(0x04);
}

#[test]
fn fast_centronics_feeds_a_printer() {
    let printer = Printer::new();
    let (chip, mut host) = setup(Ecp::new(Box::new(printer.clone())).with_trace());
    host.ecr(0x54);
    let sent: Vec<u8> = (0..=255).collect();
    write_fifo(&mut host, &sent).unwrap();
    host.ecr(0x34);
    assert_eq!(printer.received(), sent);
    assert_eq!(printer.violations(), []);
    assert_eq!(kinds(&chip), []);
    let chip = chip.borrow();
    let strobes = chip.trace().unwrap().pulses(Line::NStrobe, false);
    assert_eq!(strobes.len(), 256);
    assert!(strobes.iter().all(|pulse| pulse.duration == 600));
}

#[test]
fn the_ecp_fifo_sends_data_and_commands() {
    for response in [0, 200, 3 * US] {
        let device = Peripheral1284::new().with_response(response);
        let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())).with_cnfg_a(0xA4));
        host.enter(extensibility::ECP_RLE).unwrap();
        host.ecr(0x74);
        write_fifo(&mut host, &[1, 2, 3]).unwrap();
        host.data(0x83); // channel 3
        write_fifo(&mut host, &[4]).unwrap();
        host.data(2); // three times
        write_fifo(&mut host, &[5, 6]).unwrap();
        host.output(1, 0, Width::Dword, 0x0A09_0807);
        host.sleep(100 * US);
        host.ecr(0x34);
        assert_eq!(device.received_on(Channel::Ecp(0)), [1, 2, 3]);
        assert_eq!(
            device.received_on(Channel::Ecp(3)),
            [4, 5, 5, 5, 6, 7, 8, 9, 10]
        );
        host.terminate().unwrap();
        assert_eq!(device.violations(), []);
        assert_eq!(kinds(&chip), []);
    }
}

#[test]
fn the_ecp_fifo_fills_in_reverse_and_expands_runs() {
    let mut sent: Vec<u8> = (0..100).collect();
    sent.extend([7; 500]);
    sent.extend([1, 1, 2, 2, 2]);
    for (request, response) in [(0x10, 0), (0x30, 0), (0x30, 200), (0x30, 3 * US)] {
        let device = Peripheral1284::new().with_response(response);
        device.give(&sent);
        let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())));
        host.enter(request).unwrap();
        reverse(&mut host);
        host.sleep(MS);
        assert_eq!(host.read_ecr() & 0x03, FULL);
        assert_eq!(read_fifo(&mut host, sent.len()), sent);
        assert_eq!(host.read_ecr() & 0x03, EMPTY);
        forward(&mut host);
        host.terminate().unwrap();
        assert_eq!(device.to_send(), 0);
        assert_eq!(device.violations(), []);
        assert_eq!(kinds(&chip), []);
    }
    // A chip that leaves runs to software.
    let device = Peripheral1284::new();
    device.give(&[7; 50]);
    let (_, mut host) = setup(Ecp::new(Box::new(device.clone())).without_decompression());
    host.enter(0x30).unwrap();
    reverse(&mut host);
    assert_eq!(read_fifo(&mut host, 2), [49, 7]);
}

#[test]
fn the_fifo_takes_time() {
    let device = Peripheral1284::new();
    let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())).with_byte_time(10 * US));
    host.enter(0x10).unwrap();
    host.ecr(0x74);
    for byte in 0..16 {
        host.fifo(byte);
    }
    // 15 us went by: the first byte is through, the second on its way.
    assert_eq!(device.received(), [0, 1]);
    assert_eq!(chip.borrow().ecr() & 0x03, 0);
    host.fifo(16);
    assert_eq!(chip.borrow().ecr() & 0x03, FULL);
    host.fifo(17);
    assert_eq!(kinds(&chip), [ChipViolationKind::FifoOverrun]);
    host.sleep(100 * US);
    assert_eq!(host.read_ecr() & 0x03, 0);
    host.sleep(100 * US);
    assert_eq!(host.read_ecr() & 0x03, EMPTY);
    assert_eq!(device.received(), (0..17).collect::<Vec<u8>>());
}

#[test]
fn the_byte_in_the_transmitter_may_or_may_not_count() {
    for (cnfg_a, ecr) in [(0x94, 0x74), (0x90, 0x75)] {
        let device = Peripheral1284::new();
        device.misbehave(Misbehaviour::StallForward);
        let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())).with_cnfg_a(cnfg_a));
        host.enter(0x10).unwrap();
        host.ecr(0x74);
        host.fifo(1);
        host.sleep(MS);
        assert_eq!(host.read_ecr(), ecr, "{cnfg_a:02X}");
        let room = (0..100).take_while(|_| {
            let full = host.read_ecr() & FULL != 0;
            host.fifo(0);
            !full
        });
        let expected = if cnfg_a & 4 != 0 { 15 } else { 16 };
        assert_eq!(room.count(), expected, "{cnfg_a:02X}");
        host.ecr(0x34);
        assert_eq!(
            kinds(&chip),
            [
                ChipViolationKind::FifoOverrun,
                ChipViolationKind::BytesLost(expected + 1)
            ]
        );
        assert_eq!(device.received(), []);
    }
}

#[test]
fn a_stalled_fifo_is_emptied_recovered_and_sent_again() {
    let device = Peripheral1284::new();
    device.misbehave_at_byte(2, Misbehaviour::StallForward);
    let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())));
    host.enter(0x10).unwrap();
    host.ecr(0x74);
    assert_eq!(write_fifo(&mut host, &[0, 1, 2, 3]), Err(Missing(36)));
    assert_eq!(chip.borrow().fifo_len(), 1, "and one in the transmitter");
    // The host clears the FIFO with nInit and nStrobe in hand, as the table has it.
    host.dcr(0x01);
    host.expect(73, 0x20, 0x00).unwrap();
    host.ecr(0x34);
    host.dcr(0x04);
    host.expect(75, 0x20, 0x20).unwrap();
    host.ecr(0x74);
    write_fifo(&mut host, &[2, 3]).unwrap();
    host.ecr(0x34);
    assert_eq!(device.received(), [0, 1, 2, 3]);
    assert_eq!(device.recoveries(), 1);
    host.terminate().unwrap();
    assert_eq!(device.violations(), []);
    assert_eq!(kinds(&chip), [ChipViolationKind::BytesLost(2)]);
}

#[test]
fn the_test_fifo_reaches_no_line() {
    let device = Peripheral1284::new();
    let (chip, mut host) = setup(Ecp::new(Box::new(device.clone())).with_trace());
    host.ecr(0xD4);
    chip.borrow_mut().restart_trace();
    assert_eq!(host.read_ecr() & 3, EMPTY);
    for byte in 0..16 {
        host.fifo(byte);
    }
    assert_eq!(host.read_ecr() & 3, FULL);
    host.fifo(16);
    for byte in 0..16 {
        assert_eq!(host.read_fifo(), byte);
    }
    assert_eq!(host.read_fifo(), 15, "read again");
    assert_eq!(host.read_ecr() & 3, EMPTY);
    assert_eq!(
        kinds(&chip),
        [
            ChipViolationKind::FifoOverrun,
            ChipViolationKind::FifoUnderrun
        ]
    );
    assert!(chip.borrow().trace().unwrap().samples().is_empty());
    assert_eq!(device.received(), []);
}

#[test]
fn configuration_registers_show_in_their_mode() {
    let (_, mut host) = setup(Ecp::new(Box::new(Printer::new())).with_cnfg_b(0xCB));
    assert_eq!(host.input(1, 1, Width::Byte), 0xFF);
    host.ecr(0xF4);
    assert_eq!(host.input(1, 0, Width::Byte), 0x94);
    assert_eq!(host.input(1, 1, Width::Byte), 0x4B);
    host.output(1, 0, Width::Byte, 0x00);
    host.output(1, 1, Width::Byte, 0xFF);
    assert_eq!(host.input(1, 0, Width::Word), 0x7F94, "bit 6 is read only");
    host.ecr(0x34);
    assert_eq!(host.input(1, 0, Width::Byte), 0xFF);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn broken_rules_are_noted() {
    use ChipViolationKind::{
        BytesLost, ControlHeld, DataNotOwned, DirectionChange, FifoDirection, ModeChange,
        NoSuchMode,
    };
    type Act = fn(&mut Host);
    let cases: [(&str, Act, &[ChipViolationKind]); 12] = [
        (
            "modes through 000 or 001",
            |host| {
                for mode in [
                    0x54, 0x14, 0x74, 0x34, 0xD4, 0x14, 0xF4, 0x34, 0x94, 0x74, 0x34,
                ] {
                    host.ecr(mode);
                }
            },
            &[],
        ),
        (
            "ECP to test",
            |host| {
                host.ecr(0x74);
                host.ecr(0xD4);
            },
            &[ModeChange { from: 3, to: 6 }],
        ),
        (
            "test to configuration",
            |host| {
                host.ecr(0xD4);
                host.ecr(0xF4);
            },
            &[ModeChange { from: 6, to: 7 }],
        ),
        (
            "Centronics to EPP",
            |host| {
                host.ecr(0x54);
                host.ecr(0x94);
            },
            &[ModeChange { from: 2, to: 4 }],
        ),
        ("the reserved mode", |host| host.ecr(0xB4), &[NoSuchMode(5)]),
        (
            "direction in 001",
            |host| {
                host.dcr(0x2C);
                host.dcr(0x0C);
            },
            &[],
        ),
        (
            "direction in 000",
            |host| {
                host.ecr(0x14);
                host.dcr(0x2C);
            },
            &[DirectionChange],
        ),
        (
            "direction in 011",
            |host| {
                host.ecr(0x74);
                host.dcr(0x2C);
            },
            &[DirectionChange],
        ),
        (
            "bytes left",
            |host| {
                host.ecr(0x74);
                host.dcr(0x04);
                host.fifo(1);
                host.fifo(2);
                host.ecr(0x34);
            },
            &[BytesLost(2)],
        ),
        (
            "the wrong way",
            |host| {
                host.ecr(0x74);
                host.read_fifo();
                host.ecr(0x34);
                host.dcr(0x24);
                host.ecr(0x74);
                host.fifo(1);
                host.data(1);
            },
            &[FifoDirection; 3],
        ),
        (
            "DATA in another's hands",
            |host| {
                host.ecr(0x54);
                host.data(1);
            },
            &[DataNotOwned],
        ),
        (
            "nAutoFd held low",
            |host| {
                host.ecr(0x74);
                host.dcr(0x06);
                host.fifo(1);
            },
            &[ControlHeld],
        ),
    ];
    for (name, act, expected) in cases {
        let (chip, mut host) = setup(Ecp::new(Box::new(Peripheral1284::new())).with_epp());
        act(&mut host);
        assert_eq!(kinds(&chip), expected, "{name}");
    }
}

#[test]
fn mode_000_is_always_forward() {
    let (_, mut host) = setup(Ecp::new(Box::new(Printer::new())));
    host.data(0x5A);
    host.dcr(0x2C);
    assert_eq!(host.read_data(), 0xFF);
    host.ecr(0x14);
    assert_eq!(host.read_data(), 0x5A);
}

#[test]
fn service_is_asked_for_at_the_thresholds() {
    let device = Peripheral1284::new();
    let chip = Ecp::new(Box::new(device.clone()))
        .with_thresholds(5, 12)
        .with_byte_time(20 * US);
    let (_, mut host) = setup(chip);
    host.enter(0x10).unwrap();
    host.ecr(0x74);
    for byte in 0..10 {
        host.fifo(byte);
    }
    host.ecr(0x70);
    assert_eq!(host.read_ecr() & 4, 0, "6 are free");
    host.sleep(130 * US);
    assert_eq!(host.read_ecr() & 4, 4, "12 are free");
    host.sleep(200 * US);
    device.give(&[1; 20]);
    reverse(&mut host);
    host.ecr(0x70);
    assert_eq!(host.read_ecr() & 4, 0);
    host.sleep(50 * US);
    assert_eq!(host.read_ecr() & 4, 0);
    host.sleep(60 * US);
    assert_eq!(host.read_ecr() & 4, 4, "5 are there");
    // With DMA enabled the thresholds do nothing.
    host.ecr(0x78);
    assert_eq!(host.read_ecr() & 4, 0);
}

proptest! {
    /// Whatever the sizes and times, a chip and a device bring every byte across, in both
    /// directions, without breaking a rule.
    #[test]
    fn every_byte_arrives(
        bytes in proptest::collection::vec(0u8..4, 0..200),
        depth in 1usize..40,
        byte_time in 0u64..5_000,
        response in 0u64..20_000,
        busy in 0u64..20_000,
        rle: bool,
    ) {
        let device = Peripheral1284::new().with_response(response).with_byte_time(busy);
        let (chip, mut host) = setup(
            Ecp::new(Box::new(device.clone())).with_fifo_depth(depth).with_byte_time(byte_time));
        host.enter(if rle { 0x30 } else { 0x10 }).unwrap();
        host.ecr(0x74);
        write_fifo(&mut host, &bytes).unwrap();
        prop_assert_eq!(device.received(), &bytes[..]);
        device.give(&bytes);
        reverse(&mut host);
        prop_assert_eq!(read_fifo(&mut host, bytes.len()), &bytes[..]);
        host.sleep(MS);
        forward(&mut host);
        host.terminate().unwrap();
        prop_assert_eq!(device.violations(), []);
        prop_assert_eq!(kinds(&chip), []);
    }
}

//! The scanner model, asked as a host controller asks.

use std::collections::BTreeSet;

use parscan_models::{Answer, DescriptorSet, Endpoint, Scanner, Setup, Speed, UsbFunction};

fn control(scanner: &mut Scanner, bytes: [u8; 8], data: &[u8]) -> Answer {
    scanner.control(0, Setup::from_bytes(bytes), data)
}

#[test]
fn setup_bytes_are_little_endian() {
    let setup = Setup {
        request_type: 0xC0,
        request: 4,
        value: 0x1234,
        index: 0x5678,
        length: 0x9ABC,
    };
    let wire = [0xC0, 4, 0x34, 0x12, 0x78, 0x56, 0xBC, 0x9A];
    assert_eq!(setup.to_bytes(), wire);
    assert_eq!(Setup::from_bytes(wire), setup);
    assert!(setup.is_in());
}

#[test]
fn descriptors_are_cut_to_what_was_asked_for() {
    let mut s = Scanner::default();
    let device = control(&mut s, [0x80, 6, 0, 1, 0, 0, 64, 0], &[]);
    let Answer::Data(device) = device else {
        panic!("{device:?}");
    };
    assert_eq!(device.len(), 18);
    assert_eq!(device[8..14], [0x09, 0x12, 0x01, 0x00, 0x02, 0x01]);
    let head = control(&mut s, [0x80, 6, 0, 2, 0, 0, 9, 0], &[]);
    assert_eq!(head, Answer::Data(vec![9, 2, 39, 0, 1, 1, 0, 0xC0, 0]));
    let all = control(&mut s, [0x80, 6, 0, 2, 0, 0, 0xFF, 0], &[]);
    let Answer::Data(all) = all else {
        panic!("{all:?}");
    };
    assert_eq!(all.len(), 39);
    assert_eq!(all[9..18], [9, 4, 0, 0, 3, 6, 1, 1, 0]);
    assert_eq!(all[18..25], [7, 5, 0x81, 2, 0, 2, 0]);
    assert_eq!(
        control(&mut s, [0x80, 6, 9, 3, 9, 4, 255, 0], &[]),
        Answer::Stall
    );
}

#[test]
fn registers_keep_what_is_written_and_wrap() {
    let mut s = Scanner::default();
    let write = control(&mut s, [0x40, 4, 0xFF, 0xFF, 0, 0, 2, 0], &[0xAA, 0xBB]);
    assert_eq!(write, Answer::ACK);
    assert_eq!(s.registers(0xFFFF, 2), [0xAA, 0xBB]);
    assert_eq!(s.registers(0, 1), [0xBB]);
    let read = control(&mut s, [0xC0, 0x0C, 0, 0, 7, 0, 1, 0], &[]);
    assert_eq!(read, Answer::Data(vec![0xBB]));
    assert_eq!(
        control(&mut s, [0xC0, 0x55, 0, 0, 0, 0, 4, 0], &[]),
        Answer::Stall
    );
    s.answer_vendor(0x55, b"hello");
    assert_eq!(
        control(&mut s, [0xC0, 0x55, 0, 0, 0, 0, 4, 0], &[]),
        Answer::Data(b"hell".to_vec())
    );
    assert_eq!(s.take_setups().len(), 4);
}

#[test]
fn an_image_comes_after_its_command() {
    let mut s = Scanner::new(Speed::Full);
    assert_eq!(s.ready_at(5, 0x81), None);
    assert_eq!(s.packet_in(5, 0x81), Answer::Nak);
    assert_eq!(
        s.packet_out(5, 0x02, &Scanner::scan_command(100, 7)),
        Answer::ACK
    );
    assert_eq!(s.ready_at(6, 0x81), Some(6));
    let mut got = Vec::new();
    while let Answer::Data(packet) = s.packet_in(6, 0x81) {
        got.push(packet);
    }
    let lengths: Vec<usize> = got.iter().map(Vec::len).collect();
    assert_eq!(lengths, [64, 36]);
    assert_eq!(got.concat(), Scanner::image(7, 100));
    assert_eq!(s.written(0x02), Scanner::scan_command(100, 7));
}

/// A scanner with so many bytes of 1 to send.
fn sending(count: usize) -> Scanner {
    let s = Scanner::default();
    s.send(0x81, &vec![1; count], false);
    s
}

/// What so many requests for a packet give.
fn answers<const N: usize>(s: &mut Scanner) -> [Answer; N] {
    [(); N].map(|()| s.packet_in(0, 0x81))
}

/// A full packet of them.
fn full() -> Answer {
    Answer::Data(vec![1; 512])
}

#[test]
fn a_whole_number_of_packets_ends_with_or_without_a_zlp() {
    let mut s = Scanner::new(Speed::Full);
    s.send(0x81, &[1; 64], false);
    s.send(0x81, &[2; 64], true);
    let mut lengths = Vec::new();
    while let Answer::Data(packet) = s.packet_in(0, 0x81) {
        lengths.push(packet.len());
    }
    assert_eq!(lengths, [64, 64, 0]);
}

#[test]
fn a_halt_lasts_until_it_is_cleared() {
    let mut s = sending(1500);
    s.stall_at(0x81, 2);
    assert_eq!(answers(&mut s), [full(), Answer::Stall, Answer::Stall]);
    assert!(s.is_halted(0x81));
    let status = control(&mut s, [0x82, 0, 0, 0, 0x81, 0, 2, 0], &[]);
    assert_eq!(status, Answer::Data(vec![1, 0]));
    let clear = control(&mut s, [0x02, 1, 0, 0, 0x81, 0, 0, 0], &[]);
    assert_eq!(clear, Answer::ACK);
    assert_eq!(s.packet_in(0, 0x81), full());
}

#[test]
fn misbehaviour_is_what_was_asked_for() {
    let mut s = sending(20);
    s.limit_packets(0x81, 8);
    assert_eq!(s.packet_in(0, 0x81), Answer::Data(vec![1; 8]));
    s.babble_at(0x81, 1, 3);
    let Answer::Data(packet) = s.packet_in(0, 0x81) else {
        panic!("no packet");
    };
    assert_eq!(packet.len(), 515);
    s.set_silent(0x81, true);
    assert_eq!(s.ready_at(0, 0x81), None);
    s.set_silent(0x81, false);
    s.hold(0x81, 1000);
    assert_eq!(s.ready_at(0, 0x81), Some(1000));
    s.unplug_at(0x81, 1);
    assert!(s.attached());
    assert_eq!(s.packet_in(0, 0x81), Answer::Nak);
    assert!(!s.attached());
    s.plug();
    assert!(s.attached());
    assert_eq!(s.unsent(0x81), 0);
}

#[test]
fn a_second_pair_of_pipes_has_images_of_its_own() {
    let endpoints = [
        Endpoint::bulk(0x82, 64),
        Endpoint::bulk(0x83, 64),
        Endpoint::bulk(0x04, 64),
        Endpoint::bulk(0x05, 64),
    ];
    let mut s = Scanner::with_endpoints(Speed::Full, &endpoints);
    s.packet_out(0, 0x05, &Scanner::scan_command(10, 1));
    assert_eq!((s.unsent(0x82), s.unsent(0x83)), (0, 10));
}

#[test]
fn hostile_sets_are_many_and_reproducible() {
    let sets: Vec<DescriptorSet> = (0..512).map(DescriptorSet::hostile).collect();
    let again: Vec<DescriptorSet> = (0..512).map(DescriptorSet::hostile).collect();
    assert_eq!(sets, again);
    let different: BTreeSet<(Vec<u8>, Vec<u8>)> = sets
        .iter()
        .map(|s| (s.device.clone(), s.configuration.clone()))
        .collect();
    assert!(different.len() > 256, "{}", different.len());
    let names: BTreeSet<&str> = sets.iter().map(|s| s.name).collect();
    assert_eq!(names.len(), 16, "{names:?}");
    let ordinary = Scanner::default().descriptors();
    for set in &sets[..16] {
        let same = set.device == ordinary.device && set.configuration == ordinary.configuration;
        // A number from the generator may be the right one by chance.
        assert!(!same || set.name.contains("twice"), "{}", set.name);
    }
}

#[test]
fn a_device_falls_silent_where_it_was_asked_to() {
    let mut s = sending(2048);
    s.silence_at(0x81, 2);
    assert_eq!(answers(&mut s), [full(), Answer::Nak]);
    assert_eq!(s.ready_at(0, 0x81), None);
    s.set_silent(0x81, false);
    s.hold_at(0x81, 2, 1000);
    assert_eq!(answers(&mut s), [full(), Answer::Nak]);
    assert_eq!(s.ready_at(0, 0x81), Some(1000));
    assert_eq!(s.unsent(0x81), 1024, "nothing was lost");
    s.forget(0x81);
    assert_eq!(s.unsent(0x81), 0);
}

#[test]
fn control_transfers_are_refused_in_their_status_stage() {
    let mut s = Scanner::default();
    s.stall_status_at(1);
    s.babble_at(0, 2, 3);
    let write = control(&mut s, [0x40, 0x0C, 0x10, 0, 0, 0, 1, 0], &[7]);
    assert_eq!((write, s.status_stage(0)), (Answer::ACK, false));
    assert_eq!(s.registers(0x10, 1), [7], "the data stage was fine");
    let read = control(&mut s, [0xC0, 0x0C, 0x10, 0, 0, 0, 1, 0], &[]);
    assert_eq!(
        (read, s.status_stage(0)),
        (Answer::Data(vec![0xBB; 4]), true)
    );
}

#[test]
fn super_speed_endpoints_have_companions() {
    let set = Scanner::new(Speed::Super).descriptors();
    assert_eq!((set.device[2..4].to_vec(), set.device[7]), (vec![0, 3], 9));
    // Configuration, interface, three endpoints with their companions.
    assert_eq!(set.configuration.len(), 9 + 9 + 3 * (7 + 6));
    assert_eq!(
        set.configuration[18..31],
        [7, 5, 0x81, 2, 0, 4, 0, 6, 0x30, 0, 0, 0, 0]
    );
    assert_eq!(set.configuration[51..], [6, 0x30, 0, 0, 8, 0]);
}

//! Reads and writes on bulk pipes: which transfers they are made of, and what the caller gets.

mod cases;

use std::{collections::VecDeque, num::NonZeroU16};

use cases::cases;
use parscan_core::usb::{BulkRead, BulkReadStep, BulkWrite};
use proptest::prelude::*;

const KIB_64: usize = 0x1_0000;

fn packet(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap()
}

/// A device that sends these packets, and a caller with a bounce buffer.
struct Pipe {
    size: usize,
    packets: VecDeque<Vec<u8>>,
    read: BulkRead,
    bounce: Vec<u8>,
    steps: Vec<BulkReadStep>,
}

impl Pipe {
    fn new(size: u16, packets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            size: size.into(),
            packets: packets.into_iter().collect(),
            read: BulkRead::new(packet(size)),
            bounce: vec![0xEE; size.into()],
            steps: Vec::new(),
        }
    }

    /// What a host controller does: whole packets until the buffer is full or one is short. `None`:
    /// the device has nothing more to send.
    fn transfer(&mut self, length: usize) -> Option<Vec<u8>> {
        assert_ne!(length, 0);
        assert_eq!(length % self.size, 0, "a full packet would overrun it");
        assert!(length <= KIB_64);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let packet = self.packets.pop_front()?;
            let is_short = packet.len() < self.size;
            bytes.extend(packet);
            if is_short {
                break;
            }
        }
        Some(bytes)
    }

    /// A `ReadFile`. `None`: it pends.
    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0xEE; length];
        self.read.begin(length);
        self.steps.clear();
        loop {
            let step = self.read.next();
            self.steps.push(step);
            match step {
                BulkReadStep::Copy { from, to, length } => {
                    assert_ne!(length, 0);
                    buffer[to..to + length].copy_from_slice(&self.bounce[from..from + length]);
                    assert_eq!(self.read.next(), step, "until it is done");
                    self.read.copied();
                }
                BulkReadStep::Direct { to, length } => {
                    let bytes = self.transfer(length)?;
                    buffer[to..to + length][..bytes.len()].copy_from_slice(&bytes);
                    assert_eq!(self.read.next(), step, "until it is done");
                    self.read.received(bytes.len());
                }
                BulkReadStep::Bounce { length } => {
                    assert_eq!(length, self.size);
                    let bytes = self.transfer(length)?;
                    self.bounce[..bytes.len()].copy_from_slice(&bytes);
                    assert_eq!(self.read.next(), step, "until it is done");
                    self.read.received(bytes.len());
                }
                BulkReadStep::Done { information } => {
                    assert_eq!(self.read.next(), step);
                    self.read.received(1);
                    assert_eq!(self.read.next(), step, "no transfer was due");
                    assert!(buffer[information..].iter().all(|byte| *byte == 0xEE));
                    buffer.truncate(information);
                    return Some(buffer);
                }
            }
        }
    }
}

/// What a caller should see: bytes, and the ends of short packets among them.
#[derive(Default)]
struct Stream(VecDeque<Item>);

enum Item {
    Byte(u8),
    /// The last byte of a short packet.
    Last(u8),
    /// A packet of length zero.
    Empty,
}

impl Stream {
    fn new(size: u16, packets: &[Vec<u8>]) -> Self {
        let mut items = VecDeque::new();
        for packet in packets {
            match packet.split_last() {
                None => items.push_back(Item::Empty),
                Some((last, rest)) => {
                    items.extend(rest.iter().copied().map(Item::Byte));
                    items.push_back(if packet.len() < size.into() {
                        Item::Last(*last)
                    } else {
                        Item::Byte(*last)
                    });
                }
            }
        }
        Self(items)
    }

    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            match self.0.pop_front()? {
                Item::Byte(byte) => bytes.push(byte),
                Item::Last(byte) => {
                    bytes.push(byte);
                    break;
                }
                Item::Empty => break,
            }
        }
        Some(bytes)
    }
}

fn numbered(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut numbers = (0..=250u8).cycle();
    lengths
        .iter()
        .map(|length| numbers.by_ref().take(*length).collect())
        .collect()
}

#[test]
fn a_read_of_nothing_is_done_at_once() {
    let mut pipe = Pipe::new(64, numbered(&[64]));
    assert_eq!(pipe.read(0), Some(vec![]));
    assert_eq!(pipe.steps, [BulkReadStep::Done { information: 0 }]);
    // Also with a surplus, which stays.
    assert_eq!(pipe.read(60).unwrap().len(), 60);
    assert_eq!(pipe.read(0), Some(vec![]));
    assert_eq!(pipe.read(4), Some(vec![60, 61, 62, 63]));
}

#[test]
fn whole_packets_go_straight_to_the_caller() {
    let mut pipe = Pipe::new(64, numbered(&[64, 64]));
    assert_eq!(pipe.read(128).unwrap().len(), 128);
    assert_eq!(
        pipe.steps,
        [
            BulkReadStep::Direct { to: 0, length: 128 },
            BulkReadStep::Done { information: 128 }
        ]
    );
}

#[test]
fn a_surplus_is_kept_for_the_next_read() {
    let mut pipe = Pipe::new(64, numbered(&[64, 64, 64]));
    assert_eq!(pipe.read(100).unwrap().len(), 100);
    assert_eq!(
        pipe.steps,
        [
            BulkReadStep::Direct { to: 0, length: 64 },
            BulkReadStep::Bounce { length: 64 },
            BulkReadStep::Copy {
                from: 0,
                to: 64,
                length: 36
            },
            BulkReadStep::Done { information: 100 }
        ]
    );
    assert_eq!(pipe.read(92).unwrap(), (100..192).collect::<Vec<u8>>());
    assert_eq!(
        pipe.steps,
        [
            BulkReadStep::Copy {
                from: 36,
                to: 0,
                length: 28
            },
            BulkReadStep::Direct { to: 28, length: 64 },
            BulkReadStep::Done { information: 92 }
        ]
    );
}

#[test]
fn a_short_packet_ends_a_read() {
    for (packets, reads) in [
        (&[10][..], &[(64, Some(10)), (64, None)][..]),
        (&[64, 10, 64], &[(256, Some(74)), (64, Some(64))]),
        (&[64, 0, 64], &[(256, Some(64)), (64, Some(64))]),
        (&[0, 64], &[(1, Some(0)), (64, Some(64))]),
        // The caller takes exactly what there is: the empty packet is the next read's.
        (&[64, 0], &[(64, Some(64)), (64, Some(0))]),
        // The rest of a short packet ends the next read, and only that one.
        (&[30, 64], &[(10, Some(10)), (64, Some(20)), (64, Some(64))]),
        (&[30, 64], &[(10, Some(10)), (20, Some(20)), (64, Some(64))]),
        (&[30, 64], &[(30, Some(30)), (64, Some(64))]),
        (&[5, 64], &[(10, Some(5)), (64, Some(64))]),
        // What is left of a full one does not.
        (&[64, 64], &[(10, Some(10)), (118, Some(118))]),
        (&[64, 3], &[(10, Some(10)), (118, Some(57))]),
    ] {
        let mut pipe = Pipe::new(64, numbered(packets));
        for (length, expected) in reads {
            let got = pipe.read(*length).map(|bytes| bytes.len());
            assert_eq!(got, *expected, "{packets:?}: {length}");
        }
    }
}

#[test]
fn a_failed_read_leaves_the_next_one_intact() {
    let mut pipe = Pipe::new(8, numbered(&[8]));
    assert_eq!(pipe.read(16), None);
    pipe.packets.extend(numbered(&[8, 3]));
    assert_eq!(pipe.read(16).unwrap().len(), 11);
}

/// Where a transfer ends early, what it brought counts, and the next read goes on behind it.
#[test]
fn a_read_that_is_interrupted_ends_with_what_came() {
    let mut read = BulkRead::new(packet(8));
    // In the middle of a transfer to the caller's buffer.
    read.begin(20);
    assert_eq!(read.next(), BulkReadStep::Direct { to: 0, length: 16 });
    read.interrupted(8);
    assert_eq!(read.next(), BulkReadStep::Done { information: 8 });
    assert_eq!(read.done(), 8);
    // In the packet of the bounce buffer: what does not fit is the next read's.
    read.begin(3);
    assert_eq!(read.next(), BulkReadStep::Bounce { length: 8 });
    read.interrupted(8);
    let copy = |from, length| BulkReadStep::Copy {
        from,
        to: 0,
        length,
    };
    assert_eq!(read.next(), copy(0, 3));
    read.copied();
    assert_eq!(read.next(), BulkReadStep::Done { information: 3 });
    // Before a transfer was sent: what is kept is not lost.
    read.begin(16);
    assert_eq!(read.next(), copy(3, 5));
    read.copied();
    assert_eq!(read.next(), BulkReadStep::Direct { to: 5, length: 8 });
    read.interrupted(0);
    assert_eq!(read.next(), BulkReadStep::Done { information: 5 });
    // A host that tells too much is not believed.
    read.begin(8);
    read.interrupted(usize::MAX);
    assert_eq!(read.next(), BulkReadStep::Done { information: 8 });
    // A copy that is not done stays due; with nothing due nothing is copied.
    read.begin(2);
    read.received(8);
    assert_eq!(read.next(), copy(0, 2));
    read.interrupted(0);
    assert_eq!(read.next(), copy(0, 2));
    read.copied();
    read.copied();
    assert_eq!(read.next(), BulkReadStep::Done { information: 2 });
    read.discard();
    read.begin(8);
    assert_eq!(read.next(), BulkReadStep::Direct { to: 0, length: 8 });
}

#[test]
fn a_write_that_is_interrupted_tells_what_went() {
    let mut write = BulkWrite::new(3 * KIB_64, packet(512));
    write.sent();
    write.interrupted(1024);
    assert_eq!(write.done(), KIB_64 + 1024);
    let mut write = BulkWrite::new(100, packet(512));
    write.interrupted(usize::MAX);
    assert_eq!(write.done(), 100);
}

#[test]
fn a_reset_pipe_has_no_surplus() {
    let mut pipe = Pipe::new(8, numbered(&[8, 5]));
    assert_eq!(pipe.read(3).unwrap(), [0, 1, 2]);
    pipe.read.discard();
    assert_eq!(pipe.read(8).unwrap(), [8, 9, 10, 11, 12]);
}

#[test]
fn a_host_that_tells_too_much_is_not_believed() {
    let mut read = BulkRead::new(packet(8));
    read.begin(12);
    assert_eq!(read.next(), BulkReadStep::Direct { to: 0, length: 8 });
    read.received(usize::MAX);
    assert_eq!(read.next(), BulkReadStep::Bounce { length: 8 });
    read.received(usize::MAX);
    let copy = BulkReadStep::Copy {
        from: 0,
        to: 8,
        length: 4,
    };
    assert_eq!(read.next(), copy);
    read.copied();
    assert_eq!(read.next(), BulkReadStep::Done { information: 12 });
}

#[test]
fn long_transfers_are_cut() {
    for (size, chunk) in [(64, KIB_64), (512, KIB_64), (1000, 65_000), (1024, KIB_64)] {
        let mut write = BulkWrite::new(3 * KIB_64, packet(size));
        assert_eq!(write.next(), Some(0..chunk));
        assert_eq!(write.next(), Some(0..chunk), "until it was sent");
        write.sent();
        assert_eq!(write.next(), Some(chunk..2 * chunk));
        let mut read = BulkRead::new(packet(size));
        read.begin(3 * KIB_64);
        let length = chunk;
        assert_eq!(read.next(), BulkReadStep::Direct { to: 0, length });
        read.received(length);
        assert_eq!(read.next(), BulkReadStep::Direct { to: chunk, length });
    }
}

#[test]
fn a_write_ends_with_whatever_is_left() {
    for (length, ends) in [
        (0, &[][..]),
        (1, &[1]),
        (64, &[64]),
        (KIB_64, &[KIB_64]),
        (KIB_64 + 1, &[KIB_64, KIB_64 + 1]),
    ] {
        let mut write = BulkWrite::new(length, packet(64));
        for end in ends {
            assert_eq!(write.next(), Some(write.done()..*end));
            write.sent();
        }
        assert_eq!(write.next(), None);
        write.sent();
        assert_eq!(write.done(), length);
    }
}

/// Packets of a device: runs of full ones, each followed by a short one, by chance.
fn packets(size: u16) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let size = usize::from(size);
    let most = if cfg!(miri) { 3 } else { 4 + 0x2_0000 / size };
    let run = (0..most, prop::option::of(0..size));
    prop::collection::vec(run, 0..4).prop_map(move |runs| {
        let lengths: Vec<usize> = runs
            .into_iter()
            .flat_map(|(full, short)| std::iter::repeat_n(size, full).chain(short))
            .collect();
        numbered(&lengths)
    })
}

fn traffic() -> impl Strategy<Value = (u16, Vec<Vec<u8>>, Vec<usize>)> {
    let size = prop_oneof![
        Just(1u16),
        Just(8),
        Just(64),
        Just(512),
        Just(1024),
        1u16..=1024
    ];
    let size = if cfg!(miri) {
        prop_oneof![Just(8u16)].boxed()
    } else {
        size.boxed()
    };
    size.prop_flat_map(|size| {
        let around = usize::from(size) * 3;
        let length = prop_oneof![0..around, 0..=2 * usize::from(size), 0..0x3_0000usize];
        let length = if cfg!(miri) {
            (0..around).boxed()
        } else {
            length.boxed()
        };
        (
            Just(size),
            packets(size),
            prop::collection::vec(length, 1..20),
        )
    })
}

proptest! {
    #![proptest_config(cases(300, 8))]

    /// However a caller cuts its reads, it gets what the device sent, and each short packet ends
    /// one.
    #[test]
    fn a_stream_is_what_was_sent((size, packets, lengths) in traffic()) {
        let mut stream = Stream::new(size, &packets);
        let mut pipe = Pipe::new(size, packets);
        for length in lengths {
            let expected = stream.read(length);
            let pends = expected.is_none();
            prop_assert_eq!(pipe.read(length), expected);
            if pends {
                break;
            }
        }
    }

    /// A write is sent once, in order; only its last transfer may end with a short packet.
    #[test]
    fn a_write_is_sent_once(size in 1u16..=1024, length in 0..0x8_0000usize) {
        let mut write = BulkWrite::new(length, packet(size));
        let mut sent = 0;
        while let Some(part) = write.next() {
            prop_assert_eq!(part.start, sent);
            prop_assert!(!part.is_empty() && part.len() <= KIB_64);
            prop_assert!(part.end == length || part.len() % usize::from(size) == 0);
            sent = part.end;
            write.sent();
            prop_assert_eq!(write.done(), sent);
        }
        prop_assert_eq!(sent, length);
    }
}

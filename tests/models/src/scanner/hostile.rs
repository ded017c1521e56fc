//! Descriptors that a driver must survive.

use alloc::{vec, vec::Vec};

use super::{DescriptorSet, Rng, descriptors::configuration};
use crate::{Endpoint, Speed};

/// Offset of the first endpoint descriptor in a set of ours.
const FIRST_ENDPOINT: usize = 18;

type Change = fn(&mut DescriptorSet, &mut Rng);

/// Every way in which a set can be wrong; each also takes numbers from the generator.
const CHANGES: [(&str, Change); 16] = [
    ("wTotalLength 0", |s, _| set_total(s, 0)),
    ("wTotalLength below the header", |s, r| {
        set_total(s, u16::from(r.byte()) % 9);
    }),
    ("wTotalLength larger than what is sent", |s, r| {
        let real = s.configuration.len();
        set_total(
            s,
            u16::try_from(real + 1 + r.below(0x400)).unwrap_or(u16::MAX),
        );
    }),
    ("wTotalLength 0xFFFF", |s, _| set_total(s, u16::MAX)),
    ("nine endpoints and more", |s, r| {
        let count = 9 + r.below(22);
        let list: Vec<Endpoint> = (0..count).map(|i| any_endpoint(i, r)).collect();
        *s = DescriptorSet::new(Speed::High, &list);
    }),
    ("packet size 0", |s, r| {
        let at = FIRST_ENDPOINT + 7 * r.below(3) + 4;
        s.configuration[at..at + 2].fill(0);
    }),
    ("packet size with reserved bits", |s, r| {
        let at = FIRST_ENDPOINT + 7 * r.below(3) + 4;
        s.configuration[at..at + 2].fill(0xFF);
    }),
    ("truncated", |s, r| {
        let keep = r.below(s.configuration.len());
        s.configuration.truncate(keep);
    }),
    ("bLength 0", |s, r| {
        let at = start_of_one(r);
        s.configuration[at] = 0;
    }),
    ("bLength 1", |s, r| {
        let at = start_of_one(r);
        s.configuration[at] = 1;
    }),
    ("bLength beyond the end", |s, r| {
        let at = start_of_one(r);
        s.configuration[at] = 0x80 | r.byte();
    }),
    ("wrong types", |s, r| {
        let at = start_of_one(r);
        s.configuration[at + 1] = r.byte();
    }),
    ("one endpoint twice", |s, r| {
        let (from, to) = (r.below(3), r.below(3));
        let address = s.configuration[FIRST_ENDPOINT + 7 * from + 2];
        s.configuration[FIRST_ENDPOINT + 7 * to + 2] = address;
    }),
    ("counts that are not true", |s, r| {
        // bNumInterfaces or bNumEndpoints.
        let at = if r.below(2) == 0 { 4 } else { 9 + 4 };
        s.configuration[at] = r.byte();
    }),
    ("a device descriptor that is none", |s, r| {
        let keep = r.below(s.device.len());
        s.device.truncate(keep);
        s.strings = vec![vec![2, 3], vec![0xFF, 3, 0x41], vec![0], Vec::new()];
    }),
    ("noise", |s, r| {
        let length = r.below(300);
        let noise: Vec<u8> = (0..length).map(|_| r.byte()).collect();
        s.configuration = configuration(r.byte(), &noise);
    }),
];

fn set_total(set: &mut DescriptorSet, total: u16) {
    set.configuration[2..4].copy_from_slice(&total.to_le_bytes());
}

/// Where one of the five descriptors of an ordinary set starts.
fn start_of_one(rng: &mut Rng) -> usize {
    [0, 9, 18, 25, 32][rng.below(5)]
}

fn any_endpoint(i: usize, rng: &mut Rng) -> Endpoint {
    let number = u8::try_from(i % 15 + 1).unwrap_or(1);
    let input = if rng.below(2) == 0 { 0x80 } else { 0 };
    if rng.below(3) == 0 {
        Endpoint::interrupt(number | input, 64, 4)
    } else {
        Endpoint::bulk(number | input, 512)
    }
}

impl DescriptorSet {
    /// A set with something wrong in it: the first sixteen seeds give each kind once, all later
    /// ones combine two.
    #[must_use]
    pub fn hostile(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let endpoints = [
            Endpoint::bulk(0x81, 512),
            Endpoint::bulk(0x02, 512),
            Endpoint::interrupt(0x83, 8, 7),
        ];
        let mut set = Self::new(Speed::High, &endpoints);
        let count = CHANGES.len();
        let kind = usize::try_from(seed).unwrap_or(0) % count;
        // The bytes that a second change wants must still be there.
        let ordinary = set.configuration.len();
        if seed >= 16 {
            let (_, change) = CHANGES[rng.below(count)];
            change(&mut set, &mut rng);
        }
        if set.configuration.len() < ordinary {
            return Self {
                name: "truncated",
                ..set
            };
        }
        let (name, change) = CHANGES[kind];
        change(&mut set, &mut rng);
        Self { name, ..set }
    }
}

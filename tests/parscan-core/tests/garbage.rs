//! A port that reads anything at all: whatever it shows, operations end, at rest, and no count is
//! beyond its buffer.
// There is no unsafe code here; under Miri the tests of `session` are enough.
#![cfg(not(miri))]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod cases;

use cases::cases;
use parscan_core::{
    ieee1284::{Capabilities, Direction, Fifo, Interrupted, Port, Register, Session, detect},
    ioctl::parallel::{IeeeModes, NegotiationMask},
};
use proptest::prelude::*;

struct Garbage {
    seed: u64,
    /// Bits that are stuck at 1, and those that are stuck at 0.
    ones: u8,
    zeros: u8,
    us: u64,
    limit: u64,
    dcr: u8,
    ecr: u8,
}

impl Garbage {
    const fn tick(&mut self, us: u64) {
        self.us += us;
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }
}

impl Port for Garbage {
    fn read(&mut self, register: Register) -> u8 {
        self.tick(1);
        if register == Register::Dcr {
            // The chip's own.
            return self.dcr;
        }
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z >> 40) as u8 | self.ones) & !self.zeros
    }
    fn write(&mut self, register: Register, value: u8) {
        self.tick(1);
        match register {
            Register::Dcr => self.dcr = value,
            Register::Ecr => self.ecr = value,
            _ => {}
        }
    }
    fn stall(&mut self, microseconds: u32) {
        assert!(microseconds <= 50);
        self.tick(microseconds.into());
    }
    fn yield_now(&mut self) -> Result<(), Interrupted> {
        if self.us < self.limit {
            Ok(())
        } else {
            Err(Interrupted)
        }
    }
    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.tick(u64::from(milliseconds) * 1000);
        self.yield_now()
    }
    fn now(&mut self) -> u64 {
        self.us / 1000
    }
    parscan_core::chip_has! { ecp: true, epp: true }
}

proptest! {
    #![proptest_config(cases(500, 500))]

    #[test]
    fn every_operation_ends(
        seed: u64,
        ones: u8,
        zeros: u8,
        depth in 1u16..40,
        counts_transmitter: bool,
        limit in 0u64..20_000_000,
        operations in proptest::collection::vec((0u8..10, any::<u16>()), 1..6),
    ) {
        let mut port = Garbage { seed, ones, zeros: zeros & !ones, us: 0, limit, dcr: 0x0C, ecr: 0 };
        let found = detect(&mut port);
        prop_assert!(port.us < 100_000);
        // The chip itself is right; what is behind it is not.
        let fifo = Fifo {
            depth,
            width: 8,
            counts_transmitter,
        };
        let capabilities = Capabilities {
            spp: true,
            byte: Some(true),
            epp: true,
            ecr: true,
            fifo: Some(fifo),
            ..found
        };
        let mut session = Session::new(capabilities);
        for (operation, argument) in operations {
            let mask = NegotiationMask {
                write: IeeeModes::from_bits_retain(argument),
                read: IeeeModes::from_bits_retain(argument),
            };
            let mut buffer = vec![7; usize::from(argument % 300)];
            let begin = port.us;
            let failed = match operation {
                0 => session.negotiate(&mut port, mask).is_err(),
                1 => session.connect(&mut port, Direction::Forward).is_err(),
                2 => session.connect(&mut port, Direction::Reverse).is_err(),
                3 | 4 => {
                    let transfer = session.write(&mut port, &buffer);
                    prop_assert!(transfer.bytes <= buffer.len());
                    prop_assert!(transfer.result.is_err() || transfer.bytes == buffer.len());
                    transfer.result.is_err()
                }
                5 | 6 => {
                    let transfer = session.read(&mut port, &mut buffer);
                    prop_assert!(transfer.bytes <= buffer.len());
                    transfer.result.is_err()
                }
                7 => {
                    let id = session.device_id(&mut port, &mut buffer);
                    prop_assert!(id.is_ok() || !session.is_connected());
                    if let Ok(length) = id {
                        prop_assert!(length.stored <= buffer.len() && length.total <= 0xFFFF);
                    }
                    true
                }
                8 => session.device_modes(&mut port, mask.read).is_err(),
                _ => session.initialize(&mut port).is_err(),
            };
            if failed && !session.is_connected() {
                prop_assert_eq!(port.dcr, 0x0C);
                prop_assert_eq!(port.ecr >> 5, 0);
            }
            // Interrupted at the limit, and then soon at an end.
            prop_assert!(port.us < begin.max(limit) + 1_000_000, "{} us", port.us - begin);
        }
        session.terminate(&mut port);
        prop_assert_eq!(port.dcr, 0x0C);
        prop_assert_eq!(port.ecr >> 5, 0);
    }
}

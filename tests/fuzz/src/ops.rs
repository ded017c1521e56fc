//! What a program may ask of a session, in any order.

use arbitrary::Arbitrary;
use parscan_core::{
    ieee1284::{Direction, Fault, Port, Session, Transfer},
    ioctl::parallel::{IeeeModes, NegotiationMask},
};

/// The longest transfer.
const LONGEST: u16 = 600;

/// One request. Masks are any bits at all.
#[derive(Arbitrary, Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of the session's functions")]
pub enum Op {
    Negotiate { read: u16, write: u16 },
    DeviceModes(u16),
    Connect { reverse: bool },
    Write(u16),
    Read(u16),
    Address { reverse: bool, address: u8 },
    Terminate,
    DeviceId { room: u16 },
    Initialize,
    Condition,
}

const fn direction(reverse: bool) -> Direction {
    if reverse {
        Direction::Reverse
    } else {
        Direction::Forward
    }
}

/// Carries it out.
///
/// # Panics
/// If it claims to have moved more bytes than it was given, or a mode stays connected where none
/// may.
pub fn apply(op: Op, session: &mut Session, port: &mut impl Port) {
    let was_connected = session.is_connected();
    let mut stays = false;
    let transferred = |transfer: Transfer, length: usize| {
        assert!(transfer.bytes <= length, "{transfer:?} of {length}");
        assert!(transfer.result.is_err() || !was_connected || length > 0 || transfer.bytes == 0);
        transfer.result
    };
    let result = match op {
        Op::Negotiate { read, write } => {
            let offered = NegotiationMask {
                read: IeeeModes::from_bits_retain(read),
                write: IeeeModes::from_bits_retain(write),
            };
            let before = session.modes();
            let result = session.negotiate(port, offered);
            match result {
                Ok(chosen) => {
                    assert_eq!(chosen, session.modes());
                    // EPP stays, for its end would reset many peripherals.
                    stays = (chosen.read | chosen.write).intersects(IeeeModes::EPP_ANY);
                    for (chosen, offered, before) in [
                        (chosen.read, offered.read, before.read),
                        (chosen.write, offered.write, before.write),
                    ] {
                        assert_eq!(chosen.bits().count_ones(), 1);
                        assert!(offered.contains(chosen) || offered.is_empty() && chosen == before);
                    }
                }
                Err(_) => assert_eq!(session.modes(), before),
            }
            result.map(drop)
        }
        Op::DeviceModes(without) => {
            let without = IeeeModes::from_bits_retain(without);
            let result = session.device_modes(port, without);
            if let Ok(modes) = result {
                assert!(!modes.intersects(without));
                assert!(session.capabilities().modes().contains(modes));
            }
            // The second answer needs no peripheral.
            stays = true;
            result.map(drop)
        }
        Op::Connect { reverse } => {
            stays = true;
            session.connect(port, direction(reverse))
        }
        Op::Write(length) => {
            stays = true;
            let data: Vec<u8> = (0..length % LONGEST)
                .map(|n| n.to_le_bytes()[0] / 5)
                .collect();
            transferred(session.write(port, &data), data.len())
        }
        Op::Read(length) => {
            stays = true;
            let mut buffer = vec![0; (length % LONGEST).into()];
            transferred(session.read(port, &mut buffer), buffer.len())
        }
        Op::Address { reverse, address } => {
            stays = true;
            session.set_address(direction(reverse), address)
        }
        Op::Terminate => {
            session.terminate(port);
            Ok(())
        }
        Op::DeviceId { room } => {
            let mut sink = vec![0xA5; room.into()];
            let result = session.device_id(port, &mut sink);
            if let Ok(length) = result {
                assert!(length.total <= 0xFFFF);
                assert_eq!(length.stored, length.total.min(room.into()));
                assert!(sink[length.stored..].iter().all(|byte| *byte == 0xA5));
            }
            result.map(drop)
        }
        Op::Initialize => {
            let result = session.initialize(port);
            assert_eq!(session.modes(), NegotiationMask::DEFAULT);
            result.map(drop)
        }
        Op::Condition => session.condition(port).map(drop),
    };
    let unchanged = match result {
        // Nothing was done, or the mode is all right.
        Err(Fault::Address | Fault::Unsupported | Fault::Connected) => true,
        Ok(()) => stays,
        Err(_) => false,
    };
    assert!(
        unchanged || !session.is_connected(),
        "{op:?}: {result:?}, still connected"
    );
}

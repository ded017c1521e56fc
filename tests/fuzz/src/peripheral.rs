//! A session on the models of port chips, with a device that knows the protocols and breaks them at
//! any moment.

use arbitrary::Arbitrary;
use parscan_core::ieee1284::{Session, detect};
use parscan_models::{
    ChipViolationKind, Condition, Ecp, Epp, HostLines, Misbehaviour, Nanos, Peripheral,
    Peripheral1284, PeripheralLines, Ps2, Spp,
};

use super::{
    ops::{Op, apply},
    wire::{Chip, Wire},
};

/// A chip.
#[derive(Arbitrary, Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of the models")]
pub enum Kind {
    Spp,
    Ps2,
    Epp,
    Ecp,
    EcpEpp,
}

/// What a device does wrong, and what that is to the model.
macro_rules! misdeeds {
    ($($name:ident $(($argument:ident: $t:ty))? => $misbehaviour:expr,)*) => {
        /// What a device does wrong.
        #[derive(Arbitrary, Clone, Copy, Debug)]
        #[allow(missing_docs, reason = "the names of the model")]
        pub enum Misdeed {
            $($name $(($t))?,)*
        }

        impl Misdeed {
            fn misbehaviour(self) -> Misbehaviour {
                match self {
                    $(Self::$name $(($argument))? => $misbehaviour,)*
                }
            }
        }
    };
}

misdeeds! {
    NoNegotiation => Misbehaviour::NoNegotiation,
    Late(us: u16) => Misbehaviour::Late(Nanos::from(us) * 1000),
    Silent => Misbehaviour::Silent,
    Dead => Misbehaviour::Dead,
    WrongXFlag => Misbehaviour::WrongXFlag,
    StallForward => Misbehaviour::StallForward,
    StallForwardForever => Misbehaviour::StallForwardForever,
    StallReverse => Misbehaviour::StallReverse,
    AckLow => Misbehaviour::AckLow,
    WaitStuck(level: bool) => Misbehaviour::WaitStuck(level),
    OffLine => Misbehaviour::Condition(Condition::OffLine),
    PaperEmpty => Misbehaviour::Condition(Condition::PaperEmpty),
    Unplugged => Misbehaviour::Condition(Condition::Unplugged),
    PoweredOff => Misbehaviour::Condition(Condition::PoweredOff),
    Busy => Misbehaviour::Condition(Condition::Busy),
}

/// What happens between two requests, or later.
#[derive(Arbitrary, Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of the model")]
pub enum Act {
    Ask {
        op: Op,
        accesses: u16,
        milliseconds: u16,
    },
    Give {
        length: u8,
    },
    Misbehave(Misdeed),
    AtByte(u8, Misdeed),
    AtEvent(u8, Misdeed),
    Behave,
    Wait {
        milliseconds: u8,
    },
}

/// A machine and what is done with it.
#[derive(Arbitrary, Clone, Debug)]
pub struct Input {
    chip: Kind,
    response_us: u8,
    byte_us: u8,
    acts: Vec<Act>,
    /// Lines that are not as the device sets them: at which look, and which.
    flips: Vec<(u8, u8)>,
}

/// More find nothing new.
const MOST_ACTS: usize = 24;
/// The longest patience of a program here.
const PATIENCE_MS: u64 = 10_000;
/// Accesses after the end of the patience.
const GRACE_ACCESSES: u64 = 10_000;

/// The device on a bad cable.
struct Flipping {
    device: Peripheral1284,
    flips: std::vec::IntoIter<(u8, u8)>,
    left: u8,
    mask: u8,
}

impl Peripheral for Flipping {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.device.host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
        } else {
            (self.left, self.mask) = self.flips.next().unwrap_or((u8::MAX, 0));
        }
        let lines = self.device.lines(now).to_dsr();
        // Most looks see what is there.
        let mask = if self.left == 0 { self.mask & 0xF8 } else { 0 };
        PeripheralLines::from_dsr(lines ^ mask)
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        self.device.data(now)
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.device.next_change(now)
    }
}

/// Does everything, then ends.
///
/// # Panics
/// If an operation does not end, or not at rest, moves more than there is, or breaks a rule of the
/// chip.
pub fn run(input: &Input) {
    let device = Peripheral1284::new()
        .with_response(Nanos::from(input.response_us) * 1000)
        .with_byte_time(Nanos::from(input.byte_us) * 1000);
    let attached = Box::new(Flipping {
        device: device.clone(),
        flips: input.flips.clone().into_iter(),
        left: 0,
        mask: 0,
    });
    let chip: Box<dyn Chip> = match input.chip {
        Kind::Spp => Box::new(Spp::new(attached).without_trace()),
        Kind::Ps2 => Box::new(Ps2::new(attached).without_trace()),
        Kind::Epp => Box::new(Epp::new(attached).without_trace()),
        Kind::Ecp => Box::new(Ecp::new(attached).without_trace()),
        Kind::EcpEpp => Box::new(Ecp::new(attached).with_epp().without_trace()),
    };
    let mut wire = Wire::new(chip, matches!(input.chip, Kind::Ecp | Kind::EcpEpp));
    let capabilities = detect(&mut wire);
    assert!(wire.is_at_rest(), "after the detection");
    let mut session = Session::new(capabilities);
    for act in input.acts.iter().take(MOST_ACTS) {
        match *act {
            Act::Ask {
                op,
                accesses,
                milliseconds,
            } => {
                let end = wire.meter.accesses + u64::from(accesses);
                wire.meter.interrupt.at = Some(end);
                let patience = u64::from(milliseconds).min(PATIENCE_MS);
                wire.meter.interrupt.time = Some(wire.milliseconds() + patience);
                apply(op, &mut session, &mut wire);
                assert!(
                    wire.meter.accesses <= end + GRACE_ACCESSES,
                    "{op:?}: no end"
                );
                assert!(session.is_connected() || wire.is_at_rest(), "{op:?}");
            }
            Act::Give { length } => device.give(&vec![length; length.into()]),
            Act::Misbehave(misdeed) => device.misbehave(misdeed.misbehaviour()),
            Act::AtByte(count, misdeed) => {
                device
                    .misbehave_at_byte(device.moved() + usize::from(count), misdeed.misbehaviour());
            }
            Act::AtEvent(event, misdeed) => {
                device.misbehave_at_event(event, misdeed.misbehaviour());
            }
            Act::Behave => device.behave(),
            Act::Wait { milliseconds } => wire.now += Nanos::from(milliseconds) * 1_000_000,
        }
    }
    wire.meter.interrupt.at = Some(0);
    session.terminate(&mut wire);
    assert!(!session.is_connected() && wire.is_at_rest(), "at the end");
    // What a FIFO still held when the device failed is lost, and a byte that the device offers
    // before the link is turned round meets control lines that are not ready. Other rules hold.
    for broken in wire.chip.broken() {
        assert!(
            matches!(
                broken.kind,
                ChipViolationKind::BytesLost(_) | ChipViolationKind::ControlHeld
            ),
            "{broken:?}"
        );
    }
}

//! A device with every IEEE 1284 mode.

mod device;

use alloc::{rc::Rc, vec::Vec};
use core::cell::RefCell;

use self::device::{Device, Trigger};
use crate::{Condition, Nanos, Violation};

/// What a device is asked for in a negotiation, as a number: the extensibility byte.
///
/// Bit 2 asks for the device ID through the mode that the other bits name.
pub mod extensibility {
    macro_rules! requests {
        ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
            $($(#[$doc])* pub const $name: u8 = $value;)*

            /// All that [`Peripheral1284`](crate::Peripheral1284) can do.
            pub const ALL: [u8; 9] = [$($name),*];
        };
    }

    requests! {
        /// Nibble mode. The one request whose acceptance is XFlag low.
        NIBBLE = 0x00,
        /// Byte mode.
        BYTE = 0x01,
        /// The device ID in nibble mode.
        ID_NIBBLE = 0x04,
        /// The device ID in byte mode.
        ID_BYTE = 0x05,
        /// ECP mode without run-length encoding.
        ECP = 0x10,
        /// The device ID in ECP mode.
        ID_ECP = 0x14,
        /// ECP mode with run-length encoding.
        ECP_RLE = 0x30,
        /// The device ID in ECP mode with run-length encoding.
        ID_ECP_RLE = 0x34,
        /// EPP mode.
        EPP = 0x40,
    }

    /// Another extensibility byte follows. No device here knows it.
    pub const LINK: u8 = 0x80;
}

/// Where the bytes of a mode go to or come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Compatibility mode.
    Compatibility,
    /// EPP data while the address register has this value.
    Epp(u8),
    /// ECP data while this channel, 0 to 127, is selected.
    Ecp(u8),
}

/// Where a device is in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Compatibility mode.
    Compatibility,
    /// From event 1 to event 6.
    Negotiation,
    /// A request was refused: the host has to terminate.
    Refused,
    /// Nibble mode.
    Nibble,
    /// Byte mode.
    Byte,
    /// EPP mode.
    Epp,
    /// ECP mode, with its setup phase and the forward phases.
    EcpForward,
    /// ECP mode between event 39 and event 49.
    EcpReverse,
    /// From event 22 to event 28.
    Termination,
}

/// What a device does that it should not. All but `Condition`, `Dead` and `AckLow` concern the 1284
/// modes; for compatibility mode there are the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misbehaviour {
    /// Never answers a negotiation, like a device from before 1284.
    NoNegotiation,
    /// Every answer takes this long. The standard allows 35 ms.
    Late(Nanos),
    /// Answers nothing more until the host leaves the mode (nSelectIn low; EPP: nInit low). Then it
    /// is well again.
    Silent,
    /// Answers nothing more, ever: the lines stay as they are. Only the data lines are released
    /// when nSelectIn is low.
    Dead,
    /// Answers negotiations with the opposite of the right XFlag.
    WrongXFlag,
    /// Takes no ECP byte (no event 36) until the host has made a transfer recovery (events 72 to
    /// 75) or left the mode.
    StallForward,
    /// Takes no ECP byte, and does not answer a transfer recovery.
    StallForwardForever,
    /// Offers no ECP byte (no event 43), although nFault shows that there are some.
    StallReverse,
    /// nAck stays low.
    AckLow,
    /// In EPP mode nWait stays at this level, `true` being high, and no cycle is taken.
    WaitStuck(bool),
    /// Goes into a printer's condition: out of paper, off line, unplugged … In 1284 modes a device
    /// that is not ready takes no forward data, and shows it in the mode's way.
    Condition(Condition),
}

impl Misbehaviour {
    /// One of each kind, with answers that are just in time and ones that are not; of the conditions
    /// those in which a device takes nothing.
    pub const EXAMPLES: [Self; 16] = [
        Self::NoNegotiation,
        Self::Late(34_000_000),
        Self::Late(60_000_000),
        Self::Silent,
        Self::Dead,
        Self::WrongXFlag,
        Self::StallForward,
        Self::StallForwardForever,
        Self::StallReverse,
        Self::AckLow,
        Self::WaitStuck(true),
        Self::WaitStuck(false),
        Self::Condition(Condition::PaperEmpty),
        Self::Condition(Condition::OffLine),
        Self::Condition(Condition::PoweredOff),
        Self::Condition(Condition::Unplugged),
    ];
}

/// A device with the IEEE 1284 modes, as a handle: clones share one device, so a test keeps one and
/// gives the other to the chip.
///
/// In compatibility mode it is a [`Printer`](crate::Printer), with the same conditions, resets and
/// checks. From there the host negotiates:
///
/// - nibble and byte mode send what the test [`give`](Self::give)s, or the device ID;
/// - EPP has an address register, and for every address a sink and a source of data. A read finds
///   what was given for the address, else what was given for all, else 0xFF;
/// - ECP takes data for the selected channel, with run-length encoding if negotiated, and sends in
///   the reverse phase.
///
/// It answers at once unless told otherwise. It watches that the host keeps the order of events,
/// the 0.5 us of set-up and pulses, and the direction of the data lines; see
/// [`violations`](Self::violations). A host that has waited the 35 ms of the standard is forgiven
/// what it does next.
#[derive(Clone, Debug)]
pub struct Peripheral1284(Rc<RefCell<Device>>);

impl Peripheral1284 {
    /// A ready device with all modes that answers at once. Its device ID is
    /// `MFG:Parscan;MDL:Model 1284;CLS:PRINTER;DES:Model of an IEEE 1284 device;`.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Device::new())))
    }

    /// Changes the condition; see [`Misbehaviour::Condition`].
    pub fn set_condition(&self, condition: Condition) {
        self.0.borrow_mut().set_condition(condition);
    }

    /// Changes the condition at a time to come; a past time means now.
    pub fn set_condition_at(&self, time: Nanos, condition: Condition) {
        self.0
            .borrow_mut()
            .printer
            .set_condition_at(time, condition);
    }

    /// Misbehaves from now on.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.0.borrow_mut().misbehave(misbehaviour);
    }

    /// Misbehaves when `count` more bytes have been moved, in either direction and any mode. They
    /// still arrive; the next one meets the trouble.
    pub fn misbehave_at_byte(&self, count: usize, misbehaviour: Misbehaviour) {
        let mut device = self.0.borrow_mut();
        let trigger = Trigger::Bytes(device.moved + count);
        device.misbehave_later(trigger, misbehaviour);
    }

    /// Misbehaves when the device is about to answer with the standard's event `event` for the next
    /// time: 2, 6, 9, 11, 18, 19, 24, 27, 31, 32, 36, 40, 43, 45, 49, 58, 60, 73 or 75. XFlag is
    /// part of event 6; 58 and 60 stand for all EPP cycles.
    pub fn misbehave_at_event(&self, event: u8, misbehaviour: Misbehaviour) {
        let trigger = Trigger::Event(event);
        self.0.borrow_mut().misbehave_later(trigger, misbehaviour);
    }

    /// Ends all misbehaviour, and what was to come of it. The condition stays.
    pub fn behave(&self) {
        self.0.borrow_mut().behave();
    }

    /// Gives the device bytes to send in a reverse mode.
    pub fn give(&self, bytes: &[u8]) {
        self.0.borrow_mut().give(None, bytes);
    }

    /// Gives the device bytes to send: in EPP mode for one address only, in ECP mode after a
    /// command that selects the channel. [`Channel::Compatibility`] has no reverse, and is as
    /// [`give`](Self::give).
    pub fn give_on(&self, channel: Channel, bytes: &[u8]) {
        self.0.borrow_mut().give(Some(channel), bytes);
    }

    /// Forgets the bytes taken.
    pub fn clear_received(&self) {
        self.0.borrow_mut().clear_received();
    }
}

options! { Peripheral1284, Device:
    /// Supports only the requests with these [extensibility bytes](extensibility).
    with_requests(requests: &[u8]) = |state, requests| state.requests = requests.to_vec();
    /// How long the device takes for every answer; 0 unless set.
    with_response(time: Nanos) = |state, time| state.response = time;
    /// How long the device takes for a byte, in every mode; 0 unless set.
    with_byte_time(time: Nanos) = |state, time| {
        state.byte_time = time;
        state.printer.byte_time = time;
    };
    /// How long a reset takes; 1 s unless set.
    with_reset_time(time: Nanos) = |state, time| state.printer.reset_time = time;
    /// The device is reset by the nInit pulse that ends EPP mode, as many are.
    with_reset_at_epp_exit() = |state| state.epp_exit_resets = true;
    /// What the device sends as its ID: exactly these bytes, with their length prefix.
    with_device_id(bytes: &[u8]) = |state, bytes| state.id = bytes.to_vec();
    /// Starts in `condition`.
    with_condition(condition: Condition) = |state, condition| state.set_condition(condition);
}

views! { Peripheral1284, Device:
    /// The condition at the chip's last look, or as set since.
    condition() -> Condition = |state| state.printer.condition;
    /// How many given bytes are still to be sent.
    to_send() -> usize = |state| state.to_send();
    /// Every byte taken, in whatever mode, oldest first; runs are expanded.
    received() -> Vec<u8> = |state| state.received.clone();
    /// Every byte taken on `channel`, oldest first.
    received_on(channel: Channel) -> Vec<u8> = |state, channel| state.received_on(channel);
    /// How many bytes were moved since power-on, in both directions and with the device ID's.
    moved() -> usize = |state| state.moved;
    /// Where the protocol is.
    phase() -> Phase = |state| state.phase();
    /// The extensibility byte of every negotiation that reached event 6, oldest first.
    negotiations() -> Vec<u8> = |state| state.negotiations.clone();
    /// How many times a mode ended as it should: events 22 to 28, or an nInit pulse in EPP mode.
    terminations() -> usize = |state| state.terminations;
    /// How many times a mode ended by nSelectIn low where that may lose data, or by a termination
    /// that the host did not finish.
    immediate_terminations() -> usize = |state| state.immediate_terminations;
    /// How many resets began in compatibility mode.
    resets() -> usize = |state| state.printer.resets;
    /// How many ECP transfer recoveries the device answered.
    recoveries() -> usize = |state| state.recoveries;
    /// The EPP address register.
    epp_address() -> u8 = |state| state.epp_address;
    /// The selected ECP channel.
    ecp_channel() -> u8 = |state| state.channel;
    /// The rules that the host broke, oldest first; at most 4096 of the 1284 modes'.
    violations() -> Vec<Violation> = |state| state.violations();
}

shared_peripheral!(
    Peripheral1284,
    fn data(&mut self, now: Nanos) -> Option<u8> {
        let mut device = self.0.borrow_mut();
        device.advance(now);
        device.data()
    }
);

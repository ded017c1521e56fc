//! The daisy chain of IEEE 1284.3: devices with a connector for the next one, of which the host
//! selects one at a time. With none selected, the device at the end of the chain is connected.
//!
//! The host speaks to the chain by command packets (CPP): a row of bytes on the data lines that no
//! transfer makes, as nStrobe does not move; devices answer on the status lines. Then follow a
//! command and a pulse of nStrobe. Bytes, answers and commands are in Linux's `daisy.c` and
//! `imm.c`; the latter also quotes the times of the standard's diagram.
//!
//! **A printer outside of the chain never sees that pulse**, which it would take for a byte. The
//! pulse comes only after three answers that no such printer gives: PError high, low and high
//! again, one byte apart, with Busy the other way round. A printer does not look at the data lines
//! without nStrobe, so its lines do not follow them, and a paper sensor does not change twice in 20
//! us. A printer at the end of a chain is kept from it by the last device, which says that it is
//! the last. Should it not say so, the printer's own lines are seen next; a further address is sent
//! only to lines with PError, Select and nFault high, which show an empty connector, never a
//! printer that takes bytes.
//!
//! Everything here only stalls, so it may run at `DISPATCH_LEVEL`. The port must be owned and at
//! rest, an ECP chip in SPP or PS/2 mode; it is at rest afterwards, with 0 on the data lines.

use super::{Dcr, Dsr, Port, Register};

/// Addresses that there are: 0 to 3.
const ADDRESSES: u8 = 4;
/// How many devices Windows counts on a port from XP on, with the IDs 0 and 1.
const MOST_DEVICES: u8 = 2;

/// The bytes before the first answer.
const ATTENTION: [u8; 4] = [0xAA, 0x55, 0x00, 0xFF];
/// Asks for the second answer.
const SECOND: u8 = 0x87;
/// Asks for the third answer. The command follows.
const THIRD: u8 = 0x78;
/// Ends a packet.
const END: u8 = 0xFF;
/// Command: take this address (plus the address).
const ASSIGN: u8 = 0x00;
/// Command: all devices off.
const DESELECT_ALL: u8 = 0x30;
/// Command: on, in compatibility mode (plus the address).
const SELECT: u8 = 0xE0;

/// The lines of an answer; nAck may be anything.
const ANSWER: Dsr = Dsr::NOT_BUSY
    .union(Dsr::P_ERROR)
    .union(Dsr::SELECT)
    .union(Dsr::N_FAULT);
/// The lines of the second answer that are high, with Busy.
const SECOND_ANSWER: Dsr = Dsr::SELECT.union(Dsr::N_FAULT);
/// The lines of the third answer that are high. Busy high: the last device of the chain. nFault
/// low: selected.
const THIRD_ANSWER: Dsr = Dsr::P_ERROR.union(Dsr::SELECT);
/// The same of a device that is not selected.
const UNSELECTED: Dsr = THIRD_ANSWER.union(Dsr::N_FAULT);

/// How long a byte stays on the data lines at least, and the lines from nStrobe to the end, in
/// microseconds.
const BYTE_US: u32 = 7;
/// How long a command is there before nStrobe, and nStrobe low, at least, in microseconds.
const STROBE_US: u32 = 1;

/// Gives the devices of the chain their addresses (`IOCTL_INTERNAL_INIT_1284_3_BUS`), counted from
/// 0 at the host, and returns how many of them can be selected: 2 at most, as Windows counts,
/// though the chain may have 4. All are deselected first. 10 port accesses and 60 us at most where
/// there is no chain, 48 and 200 us with 4 devices. IRQL: `DISPATCH_LEVEL` or below.
pub fn assign(port: &mut impl Port) -> u8 {
    if command(port, DESELECT_ALL).is_none() {
        return 0;
    }
    let mut devices = 0_u8;
    let mut answer = open(port);
    for address in 0..ADDRESSES {
        let Some(device) = answer.filter(|dsr| dsr.contains(UNSELECTED)) else {
            break;
        };
        strobe(port, ASSIGN | address);
        devices = devices.saturating_add(1);
        if !device.contains(Dsr::NOT_BUSY) {
            // It said that it is the last.
            break;
        }
        // It lets the status lines through now: the next device, or the end of the chain.
        answer = Some(dsr(port));
    }
    close(port);
    devices.min(MOST_DEVICES)
}

/// Selects a device of the chain in compatibility mode and says whether it took it. Every other
/// device, and the one at the end of the chain, is cut off until [`deselect_all`]. An address that
/// cannot exist is not tried. Without a chain as cheap as [`assign`]; else 32 port accesses and
/// 160 us. IRQL: `DISPATCH_LEVEL` or below.
pub fn select(port: &mut impl Port, address: u8) -> bool {
    // With no device selected before it, nFault low can only mean this device.
    address < ADDRESSES
        && command(port, DESELECT_ALL).is_some()
        && command(port, SELECT | address).is_some_and(|dsr| !dsr.contains(Dsr::N_FAULT))
}

/// Deselects all devices of the chain, which connects the one at its end. Half the cost of
/// [`select`]. IRQL: `DISPATCH_LEVEL` or below.
pub fn deselect_all(port: &mut impl Port) {
    // Without a chain there is nothing to deselect.
    let _ = command(port, DESELECT_ALL);
}

/// A whole packet; gives the status lines in the pulse of nStrobe. `None`: no device answered, and
/// there was no pulse.
fn command(port: &mut impl Port, command: u8) -> Option<Dsr> {
    let answer = open(port);
    let seen = answer.map(|_| strobe(port, command));
    close(port);
    seen
}

/// Begins a packet; gives the third answer. `None`: the devices did not answer as they should.
fn open(port: &mut impl Port) -> Option<Dsr> {
    port.write(Register::Dcr, Dcr::IDLE.bits());
    for byte in ATTENTION {
        data(port, byte);
    }
    if dsr(port) & ANSWER != ANSWER {
        return None;
    }
    data(port, SECOND);
    if dsr(port) & ANSWER != SECOND_ANSWER {
        return None;
    }
    data(port, THIRD);
    Some(dsr(port)).filter(|dsr| dsr.contains(THIRD_ANSWER))
}

/// Gives a command; returns the status lines while nStrobe is low.
fn strobe(port: &mut impl Port, command: u8) -> Dsr {
    port.write(Register::Data, command);
    port.stall(STROBE_US);
    let seen = port.unpreempted(|port| {
        port.write(Register::Dcr, (Dcr::IDLE | Dcr::STROBE).bits());
        port.stall(STROBE_US);
        let seen = port.read(Register::Dsr);
        port.write(Register::Dcr, Dcr::IDLE.bits());
        seen
    });
    port.stall(BYTE_US);
    Dsr::from_bits_retain(seen)
}

/// Ends a packet, however far it came.
fn close(port: &mut impl Port) {
    data(port, END);
    port.write(Register::Data, 0);
}

fn data(port: &mut impl Port, byte: u8) {
    port.write(Register::Data, byte);
    port.stall(BYTE_US);
}

fn dsr(port: &mut impl Port) -> Dsr {
    Dsr::from_bits_retain(port.read(Register::Dsr))
}

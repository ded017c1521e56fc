//! The parallel ports: an ECP chip at the usual place with a printer that knows IEEE 1284, and one
//! above 0x7FFF, as cards have them, with a loopback plug.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt::Write as _;

use parscan_models::{Condition, Ecp, Loopback, Misbehaviour, Peripheral1284, PortDevice, Width};

use crate::{clock, lock::Lock};

/// Base and length of registers.
pub(crate) type Range = (u16, u16);

/// Of each port the standard and EPP registers, and the ECP registers.
pub(crate) const RANGES: [(Range, Range); 2] =
    [((0x378, 8), (0x778, 3)), ((0xD100, 8), (0xD500, 3))];

/// The most accesses that are remembered.
const REMEMBERED: usize = 1 << 17;

/// What the printer says it is.
const DEVICE_ID: &str = "MFG:Hewlett-Packard;MDL:LaserJet 1200 Series;\
     CMD:MLC,PCL,POSTSCRIPT;CLS:PRINTER;DES:Hewlett-Packard LaserJet 1200 Series;";
/// How long a reset of the printer takes.
const RESET_TIME: u64 = 300_000_000;

/// An access: its register, from the port's base, and the byte.
#[derive(Clone, Copy)]
struct Access {
    offset: u16,
    writes: bool,
    byte: u8,
}

struct Port {
    chip: Ecp,
    /// Off the bus its registers do not answer.
    plugged: bool,
    /// Since they were asked for.
    accesses: Vec<Access>,
}

struct Hardware {
    ports: [Port; RANGES.len()],
    /// On the first port.
    printer: Peripheral1284,
    accesses: u64,
}

static HARDWARE: Lock<Option<Hardware>> = Lock::new(None);

/// Builds the hardware.
pub(crate) fn initialize() {
    let length = u16::try_from(DEVICE_ID.len() + 2).unwrap_or(0);
    let id = [&length.to_be_bytes(), DEVICE_ID.as_bytes()].concat();
    let printer = Peripheral1284::new()
        .with_reset_time(RESET_TIME)
        .with_device_id(&id);
    let port = |chip: Ecp| Port {
        chip: chip.with_epp(),
        plugged: false,
        accesses: Vec::new(),
    };
    *HARDWARE.lock() = Some(Hardware {
        ports: [
            port(Ecp::new(Box::new(printer.clone()))),
            port(Ecp::new(Box::new(Loopback::default()))),
        ],
        printer,
        accesses: 0,
    });
}

/// The port, the block and the offset in it of an address.
fn find(address: u16) -> Option<(usize, usize, u16)> {
    let inside = |(base, length): Range| {
        let offset = address.wrapping_sub(base);
        (offset < length).then_some(offset)
    };
    let mut ranges = RANGES.into_iter().enumerate();
    ranges.find_map(|(port, (registers, ecp_registers))| {
        inside(registers)
            .map(|offset| (port, 0, offset))
            .or_else(|| inside(ecp_registers).map(|offset| (port, 1, offset)))
    })
}

/// One access: the value read, or the one written.
pub(crate) fn access(address: u16, width: Width, write: Option<u32>) -> u32 {
    let floating = write.unwrap_or(width.floating());
    let mut hardware = HARDWARE.lock();
    let Some(hardware) = hardware.as_mut() else {
        return floating;
    };
    hardware.accesses += 1;
    let found = find(address).and_then(|(index, block, offset)| {
        let port = hardware.ports.get_mut(index)?;
        let base = RANGES.get(index)?.0.0;
        port.plugged.then_some((port, base, block, offset))
    });
    let Some((port, base, block, offset)) = found else {
        return floating;
    };
    let now = clock::now();
    let value = match write {
        None => port.chip.read(now, block, offset, width),
        Some(value) => {
            port.chip.write(now, block, offset, width, value);
            value
        }
    };
    if port.accesses.len() < REMEMBERED {
        port.accesses.push(Access {
            offset: address - base,
            writes: write.is_some(),
            byte: value.to_le_bytes()[0],
        });
    }
    clock::busy_until(port.chip.held_until());
    value
}

fn with<R>(f: impl FnOnce(&mut Hardware) -> R) -> Option<R> {
    HARDWARE.lock().as_mut().map(f)
}

fn with_port<R>(port: usize, f: impl FnOnce(&mut Port) -> R) -> Option<R> {
    with(|it| it.ports.get_mut(port).map(f)).flatten()
}

pub(crate) fn set_plugged(port: usize, plugged: bool) {
    with_port(port, |it| it.plugged = plugged);
}

pub(crate) fn accesses() -> u64 {
    with(|it| it.accesses).unwrap_or(0)
}

/// Accesses to a port are remembered from here on.
pub(crate) fn forget(port: usize) {
    with_port(port, |it| it.accesses.clear());
}

/// The accesses that are remembered: the register from the port's base, `>` if it was written, `<` if
/// it was read, and the byte. They are forgotten. `None`: they are longer than `room`, and stay.
pub(crate) fn take_accesses(port: usize, room: usize) -> Option<String> {
    /// In a line.
    const ACCESSES: usize = 10;
    with_port(port, |it| {
        let mut text = String::new();
        for (index, access) in it.accesses.iter().enumerate() {
            if index > 0 {
                text.push(if index % ACCESSES == 0 { '\n' } else { ' ' });
            }
            let sign = if access.writes { '>' } else { '<' };
            let _ = write!(text, "+{:x}{sign}{:02x}", access.offset, access.byte);
        }
        (text.len() <= room).then(|| {
            it.accesses.clear();
            text
        })
    })
    .flatten()
}

/// What of them was written to the data register, likewise.
pub(crate) fn take_data(port: usize, room: usize) -> Option<Vec<u8>> {
    with_port(port, |it| {
        let written = it.accesses.iter();
        let data: Vec<u8> = written
            .filter(|access| access.writes && access.offset == 0)
            .map(|access| access.byte)
            .collect();
        (data.len() <= room).then(|| {
            it.accesses.clear();
            data
        })
    })
    .flatten()
}

pub(crate) fn set_condition(condition: Condition) {
    with(|it| it.printer.set_condition(condition));
}

pub(crate) fn misbehave(misbehaviour: Misbehaviour) {
    with(|it| it.printer.misbehave(misbehaviour));
}

/// Goes busy for ever when so many more bytes have arrived.
pub(crate) fn stall(bytes: usize) {
    let busy = Misbehaviour::Condition(Condition::Busy);
    with(|it| match bytes {
        0 => it.printer.misbehave(busy),
        _ => it.printer.misbehave_at_byte(bytes, busy),
    });
}

pub(crate) fn behave() {
    with(|it| it.printer.behave());
}

pub(crate) fn give(bytes: &[u8]) {
    with(|it| it.printer.give(bytes));
}

/// What the printer took, if it is no more than `room`; then it is forgotten.
pub(crate) fn take_received(room: usize) -> Option<Vec<u8>> {
    with(|it| {
        let received = it.printer.received();
        (received.len() <= room).then(|| {
            it.printer.clear_received();
            received
        })
    })
    .flatten()
}

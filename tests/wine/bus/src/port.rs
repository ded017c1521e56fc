//! The parallel port: an ECP chip at the usual place, and a printer with IEEE 1284 behind it.

use alloc::{boxed::Box, vec::Vec};

use parscan_models::{Condition, Ecp, Misbehaviour, Peripheral1284, PortDevice, Width};

use crate::{clock, lock::Lock};

/// Base and length of the standard and EPP registers.
pub(crate) const REGISTERS: (u16, u16) = (0x378, 8);
/// Base and length of the ECP registers.
pub(crate) const ECP_REGISTERS: (u16, u16) = (0x778, 3);

/// What the printer says it is.
const DEVICE_ID: &str = "MFG:Hewlett-Packard;MDL:LaserJet 1200 Series;\
     CMD:MLC,PCL,POSTSCRIPT;CLS:PRINTER;DES:Hewlett-Packard LaserJet 1200 Series;";
/// How long a reset of the printer takes.
const RESET_TIME: u64 = 300_000_000;

struct Port {
    chip: Ecp,
    printer: Peripheral1284,
    /// Off the bus its registers do not answer.
    plugged: bool,
    accesses: u64,
}

static PORT: Lock<Option<Port>> = Lock::new(None);

/// Builds the hardware.
pub(crate) fn initialize() {
    let length = u16::try_from(DEVICE_ID.len() + 2).unwrap_or(0);
    let id = [&length.to_be_bytes(), DEVICE_ID.as_bytes()].concat();
    let printer = Peripheral1284::new()
        .with_reset_time(RESET_TIME)
        .with_device_id(&id);
    let chip = Ecp::new(Box::new(printer.clone())).with_epp();
    *PORT.lock() = Some(Port {
        chip,
        printer,
        plugged: false,
        accesses: 0,
    });
}

/// One access: the value read, or the one written.
pub(crate) fn access(address: u16, width: Width, write: Option<u32>) -> u32 {
    let floating = write.unwrap_or(width.floating());
    let mut port = PORT.lock();
    let Some(port) = port.as_mut() else {
        return floating;
    };
    port.accesses += 1;
    let inside = |(base, length): (u16, u16)| {
        let offset = address.wrapping_sub(base);
        (offset < length).then_some(offset)
    };
    let found = inside(REGISTERS)
        .map(|offset| (0, offset))
        .or_else(|| inside(ECP_REGISTERS).map(|offset| (1, offset)));
    let Some((block, offset)) = found.filter(|_| port.plugged) else {
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
    clock::busy_until(port.chip.held_until());
    value
}

fn with<R>(f: impl FnOnce(&mut Port) -> R) -> Option<R> {
    PORT.lock().as_mut().map(f)
}

pub(crate) fn set_plugged(plugged: bool) {
    with(|it| it.plugged = plugged);
}

pub(crate) fn accesses() -> u64 {
    with(|it| it.accesses).unwrap_or(0)
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

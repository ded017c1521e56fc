//! The machine's I/O space: who answers on which port.

use std::cell::RefCell;
use std::rc::Rc;

use parscan_models::{Nanos, PortDevice, Width};

/// A device model that the test keeps a hand on.
pub type SharedPort = Rc<RefCell<dyn PortDevice>>;

struct Range {
    base: u16,
    len: u16,
    block: usize,
    device: SharedPort,
}

/// Ranges of ports with the models behind them.
#[derive(Default)]
pub(crate) struct Ports {
    ranges: Vec<Range>,
    /// How many accesses there were.
    pub(crate) accesses: u64,
    /// How many of them no device answered.
    pub(crate) unanswered: u64,
}

impl Ports {
    pub(crate) fn map(&mut self, base: u16, len: u16, block: usize, device: SharedPort) {
        self.ranges.push(Range {
            base,
            len,
            block,
            device,
        });
    }

    pub(crate) fn unmap(&mut self, base: u16) {
        self.ranges.retain(|r| r.base != base);
    }

    /// The model behind `port`, with its block and the offset in it.
    pub(crate) fn find(&self, port: u16) -> Option<(SharedPort, usize, u16)> {
        self.ranges
            .iter()
            .find(|r| port.wrapping_sub(r.base) < r.len)
            .map(|r| (Rc::clone(&r.device), r.block, port - r.base))
    }
}

/// One access, with no borrow of the machine held: a model may be a test's own. Gives the value,
/// and until when the device kept the processor waiting.
pub(crate) fn access(
    found: Option<(SharedPort, usize, u16)>,
    now: Nanos,
    width: Width,
    write: Option<u32>,
) -> (u32, Nanos) {
    let Some((device, block, offset)) = found else {
        return (write.unwrap_or(width.floating()), now);
    };
    let mut device = device.borrow_mut();
    let value = match write {
        None => device.read(now, block, offset, width),
        Some(value) => {
            device.write(now, block, offset, width, value);
            value
        }
    };
    (value, device.held_until())
}

//! A daisy chain of IEEE 1284.3 devices in front of another peripheral.

mod packet;

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::RefCell;

use self::packet::{Packet, Stage};
use crate::{HostLines, Nanos, Peripheral, PeripheralLines};

/// The most devices that a chain may have.
const MOST: usize = 4;

/// A rule of the command packets that the host broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CppViolation {
    /// When the devices noticed.
    pub time: Nanos,
    /// Which rule.
    pub kind: CppViolationKind,
}

/// The rules of the command packets. A packet with a broken rule is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CppViolationKind {
    /// A byte was on the data lines for less than 7 us. (One of the first four: there is no packet.)
    ByteTooShort,
    /// The command was there for less than 1 us before nStrobe fell.
    SetUpTooShort,
    /// nStrobe was low for less than 1 us. The command does not count.
    StrobeTooShort,
    /// The command changed while nStrobe was low, or less than 7 us after it rose.
    HoldTooShort,
    /// A line moved that the packet does not move, or a byte came that does not belong there.
    OutOfOrder,
    /// There is no such command.
    UnknownCommand(u8),
}

/// What a device of the chain does that it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DaisyMisbehaviour {
    /// Gives only the first so many of the three answers of a packet, then lets the lines through.
    /// With 0 it is deaf: a plain cable.
    Answers(u8),
    /// Gives this instead of the answer with that number, 0 to 2.
    WrongAnswer(u8, PeripheralLines),
    /// Does not know that it is the last of the chain: neither says so nor keeps nStrobe from what
    /// is behind it.
    NeverLast,
    /// Takes its address, but not a selection.
    NeverSelected,
}

/// A daisy chain, as a handle: clones share one chain, so a test keeps one and gives the other to
/// the chip.
///
/// Each device is an adapter with a [`Peripheral`] behind it. With none selected the host has `end`,
/// the peripheral at the end, on its lines. A device selected: its peripheral. All others see a
/// port at rest.
///
/// The adapters watch the data lines in compatibility mode. After AA 55 00 FF, 87 and 78, with
/// nothing else moved, they answer and keep nStrobe for themselves. A command is taken when nStrobe
/// rises:
///
/// - 00 + address: the first device that has not got one in this packet takes it. From then on it
///   lets the status lines and commands to the next device through.
/// - 30 to 3F: no device is selected.
/// - E0 + address: that device is selected, and shows it from the moment when nStrobe falls.
///
/// Every byte must be there for 7 us, a command for 1 us before nStrobe, and nStrobe be low for 1 us.
///
/// Selections in EPP and ECP mode (20, D0) and the multiplexer's commands are not modelled, nor a
/// global reset by nInit.
pub struct DaisyChain<E>(Rc<RefCell<Chain<E>>>);

impl<E> Clone for DaisyChain<E> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct Chain<E> {
    devices: Vec<Device>,
    end: E,
    packet: Packet,
    host: HostLines,
    commands: Vec<u8>,
    violations: Vec<CppViolation>,
}

struct Device {
    peripheral: Box<dyn Peripheral>,
    misbehaviour: Option<DaisyMisbehaviour>,
    address: Option<u8>,
    /// It got its address in this packet.
    done: bool,
    selected: bool,
}

impl Device {
    fn is_deaf(&self) -> bool {
        self.misbehaviour == Some(DaisyMisbehaviour::Answers(0))
    }
}

impl<E: Peripheral> DaisyChain<E> {
    /// A chain without devices: a cable to `end`.
    #[must_use]
    pub fn new(end: E) -> Self {
        Self(Rc::new(RefCell::new(Chain {
            devices: Vec::new(),
            end,
            packet: Packet::default(),
            host: HostLines::IDLE,
            commands: Vec::new(),
            violations: Vec::new(),
        })))
    }

    /// Adds a device behind those that are there.
    ///
    /// # Panics
    /// If there are four.
    #[must_use]
    pub fn with_device(self, peripheral: impl Peripheral + 'static) -> Self {
        let mut chain = self.0.borrow_mut();
        assert!(chain.devices.len() < MOST, "a chain has four devices");
        chain.devices.push(Device {
            peripheral: Box::new(peripheral),
            misbehaviour: None,
            address: None,
            done: false,
            selected: false,
        });
        drop(chain);
        self
    }

    /// The device at `position`, counted from 0 at the host, misbehaves from now on.
    ///
    /// # Panics
    /// If there is none.
    pub fn misbehave(&self, position: usize, misbehaviour: DaisyMisbehaviour) {
        self.0.borrow_mut().devices[position].misbehaviour = Some(misbehaviour);
    }

    /// The address of each device, from the host on.
    #[must_use]
    pub fn addresses(&self) -> Vec<Option<u8>> {
        let chain = self.0.borrow();
        chain.devices.iter().map(|device| device.address).collect()
    }

    /// The position of the selected device.
    #[must_use]
    pub fn selected(&self) -> Option<usize> {
        self.0.borrow().selected()
    }

    /// Every command that the devices saw, oldest first.
    #[must_use]
    pub fn commands(&self) -> Vec<u8> {
        self.0.borrow().commands.clone()
    }

    /// The rules that the host broke, oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<CppViolation> {
        self.0.borrow().violations.clone()
    }
}

impl<E: Peripheral> Chain<E> {
    fn selected(&self) -> Option<usize> {
        self.devices.iter().position(|device| device.selected)
    }

    /// The peripheral that the host is connected to.
    fn active(&self) -> &dyn Peripheral {
        match self.selected() {
            Some(position) => &*self.devices[position].peripheral,
            None => &self.end,
        }
    }

    fn active_mut(&mut self) -> &mut dyn Peripheral {
        match self.selected() {
            Some(position) => &mut *self.devices[position].peripheral,
            None => &mut self.end,
        }
    }

    /// Devices that take part in packets.
    fn listens(&self) -> bool {
        self.devices.iter().any(|device| !device.is_deaf())
    }

    /// Whether `position` is the last device that listens, and knows it.
    fn knows_it_is_last(&self, position: usize) -> bool {
        let behind = self.devices.iter().skip(position + 1);
        behind.clone().all(Device::is_deaf)
            && self.devices[position].misbehaviour != Some(DaisyMisbehaviour::NeverLast)
    }

    /// Whether nStrobe stays with the devices: in a packet, while one of them waits for an address,
    /// or the last one knows what is behind it.
    fn keeps_strobe(&self) -> bool {
        self.packet.stage() == Stage::Command
            && self.devices.iter().enumerate().any(|(position, device)| {
                !device.is_deaf() && (!device.done || self.knows_it_is_last(position))
            })
    }

    /// What the host's lines are for the connected peripheral.
    fn passed(&self) -> HostLines {
        HostLines {
            n_strobe: self.host.n_strobe || self.keeps_strobe(),
            ..self.host
        }
    }

    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.host = host;
        let before = self.packet.stage();
        let step = if self.listens() {
            self.packet.step(now, host)
        } else {
            packet::Step::default()
        };
        if let Some(kind) = step.broken {
            self.violations.push(CppViolation { time: now, kind });
        }
        if before != Stage::Command {
            for device in &mut self.devices {
                device.done = false;
            }
        }
        // Kept from the peripheral that was connected, too, if the command changes that.
        let passed = self.passed();
        self.active_mut().host_changed(now, passed);
        if let Some(command) = step.command {
            self.commands.push(command);
            self.obey(now, command);
        }
    }

    fn obey(&mut self, now: Nanos, command: u8) {
        let before = self.selected();
        match command {
            0x00..=0x03 => {
                let mut waiting = self.devices.iter_mut();
                if let Some(device) = waiting.find(|device| !device.is_deaf() && !device.done) {
                    device.address = Some(command);
                    device.done = true;
                }
            }
            0x30..=0x3F => {
                for device in &mut self.devices {
                    device.selected = false;
                }
            }
            0xE0..=0xE3 => {
                for device in &mut self.devices {
                    device.selected = takes(device, command);
                }
            }
            _ => self.violations.push(CppViolation {
                time: now,
                kind: CppViolationKind::UnknownCommand(command),
            }),
        }
        if self.selected() != before {
            // Cut off: a port at rest. Connected: the port as it is.
            let left: &mut dyn Peripheral = match before {
                Some(position) => &mut *self.devices[position].peripheral,
                None => &mut self.end,
            };
            left.host_changed(now, HostLines::IDLE);
            let passed = self.passed();
            self.active_mut().host_changed(now, passed);
        }
    }

    /// What the devices show in a packet; `None` while the connected peripheral's lines are seen.
    fn answer(&self) -> Option<PeripheralLines> {
        let number = match self.packet.stage() {
            Stage::Watching => return None,
            Stage::First => 0,
            Stage::Second => 1,
            Stage::Third | Stage::Command => 2,
        };
        let command = self.packet.given();
        let listening = || self.devices.iter().enumerate().filter(|d| !d.1.is_deaf());
        // The addressed device, else the first that has not got its address.
        let addressed = listening().find(|(_, device)| command.is_some_and(|c| takes(device, c)));
        let (position, device) = addressed.or_else(|| listening().find(|d| !d.1.done))?;
        match device.misbehaviour {
            Some(DaisyMisbehaviour::Answers(count)) if number >= count => return None,
            Some(DaisyMisbehaviour::WrongAnswer(wrong, lines)) if wrong == number => {
                return Some(lines);
            }
            _ => {}
        }
        let lines = PeripheralLines {
            busy: false,
            // May be anything.
            n_ack: false,
            p_error: true,
            select: true,
            n_fault: true,
        };
        Some(match number {
            0 => lines,
            1 => PeripheralLines {
                busy: true,
                p_error: false,
                ..lines
            },
            _ => PeripheralLines {
                busy: self.knows_it_is_last(position),
                n_fault: !(device.selected || addressed.is_some()),
                ..lines
            },
        })
    }
}

/// Whether the command selects this device.
fn takes(device: &Device, command: u8) -> bool {
    command & 0xFC == 0xE0
        && device.address == Some(command & 0x03)
        && device.misbehaviour != Some(DaisyMisbehaviour::NeverSelected)
}

impl<E: Peripheral> Peripheral for DaisyChain<E> {
    fn host_changed(&mut self, now: Nanos, host: HostLines) {
        self.0.borrow_mut().host_changed(now, host);
    }

    fn lines(&mut self, now: Nanos) -> PeripheralLines {
        let mut chain = self.0.borrow_mut();
        let lines = chain.active_mut().lines(now);
        chain.answer().unwrap_or(lines)
    }

    fn data(&mut self, now: Nanos) -> Option<u8> {
        self.0.borrow_mut().active_mut().data(now)
    }

    fn next_change(&self, now: Nanos) -> Option<Nanos> {
        self.0.borrow().active().next_change(now)
    }
}

//! One peripheral on one port: which mode it is in, and how bytes get there and back.

use super::{
    Capabilities, Condition, Dcr, Ecr, Extensibility, Fault, IdLength, Port, byte, compatibility,
    device_id,
    ecp::Ecp,
    epp,
    epp::Space,
    initialize,
    lines::Lines,
    negotiate::{leave_epp, negotiate, terminate},
    nibble, read_condition,
};
use crate::ioctl::parallel::{IeeeModes, NegotiationMask};

/// Modes for writing, fastest first, and for reading.
const WRITE_MODES: &[IeeeModes] = &[
    IeeeModes::ECP_HW_NOIRQ,
    IeeeModes::EPP_HW,
    IeeeModes::EPP_SW,
    IeeeModes::ECP_SW,
    IeeeModes::IEEE_COMPATIBILITY,
    IeeeModes::CENTRONICS,
];
const READ_MODES: &[IeeeModes] = &[
    IeeeModes::ECP_HW_NOIRQ,
    IeeeModes::EPP_HW,
    IeeeModes::EPP_SW,
    IeeeModes::ECP_SW,
    IeeeModes::BYTE_BIDIR,
    IeeeModes::NIBBLE,
];
/// The highest ECP channel.
const LAST_CHANNEL: u8 = 127;
/// An ID without a text is none.
const SHORTEST_ID: usize = 3;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the peripheral.
    Forward,
    /// From the peripheral.
    Reverse,
}

/// How far a transfer got. `bytes` is right whatever `result` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transfer {
    /// Bytes that arrived: at the peripheral, or in the caller's buffer.
    pub bytes: usize,
    /// Why it ended before all of them did.
    pub result: Result<(), Fault>,
}

/// The mode that the lines are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Compatibility,
    Nibble,
    Byte,
    EppHardware,
    EppSoftware,
    EcpHardware,
    EcpSoftware,
}

impl Link {
    /// The link that a mode needs.
    const fn of(mode: IeeeModes) -> Self {
        if mode.contains(IeeeModes::NIBBLE) {
            Self::Nibble
        } else if mode.contains(IeeeModes::BYTE_BIDIR) {
            Self::Byte
        } else if mode.contains(IeeeModes::EPP_HW) {
            Self::EppHardware
        } else if mode.contains(IeeeModes::EPP_SW) {
            Self::EppSoftware
        } else if mode.contains(IeeeModes::ECP_HW_NOIRQ) {
            Self::EcpHardware
        } else if mode.contains(IeeeModes::ECP_SW) {
            Self::EcpSoftware
        } else {
            Self::Compatibility
        }
    }
}

/// One peripheral on one port.
///
/// It connects a mode when a transfer needs it, and leaves one that is in the way. Whatever ends
/// an operation without success also ends the mode: the port is in compatibility mode then, at
/// rest, and the next transfer connects again.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    capabilities: Capabilities,
    modes: NegotiationMask,
    /// What the peripheral was found to have.
    device_modes: Option<IeeeModes>,
    link: Link,
    dcr: Dcr,
    ecp: Ecp,
    write_address: Option<u8>,
    read_address: Option<u8>,
    /// The address that the connected peripheral was sent last.
    address: Option<u8>,
}

impl Session {
    /// A peripheral in compatibility mode, on a port at rest.
    #[must_use]
    pub const fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            modes: NegotiationMask::DEFAULT,
            device_modes: None,
            link: Link::Compatibility,
            dcr: Dcr::IDLE,
            ecp: Ecp::NONE,
            write_address: None,
            read_address: None,
            address: None,
        }
    }

    /// What the port's hardware can do.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The modes that transfers use (`IOCTL_IEEE1284_GET_MODE`).
    #[must_use]
    pub const fn modes(&self) -> NegotiationMask {
        self.modes
    }

    /// The modes that port and peripheral both have, if the peripheral has been asked.
    #[must_use]
    pub const fn known_device_modes(&self) -> Option<IeeeModes> {
        self.device_modes
    }

    /// Whether a mode other than compatibility mode is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link != Link::Compatibility
    }

    /// Chooses the modes of later transfers: in each direction the fastest in the mask that port
    /// and peripheral have. A direction whose mask is empty keeps its mode. Nothing is connected
    /// afterwards.
    ///
    /// Finding out whether a peripheral has EPP includes leaving it, which resets many printers;
    /// so do not offer EPP without need.
    ///
    /// # Errors
    /// The modes stay as they are then.
    /// * [`Fault::Connected`]: a mode is connected; terminate it first.
    /// * [`Fault::Unsupported`]: the port has none of the modes.
    /// * [`Fault::Refused`], [`Fault::NotIeee1284`], [`Fault::NoAnswer`]: the peripheral has none.
    /// * [`Fault::Interrupted`]
    pub fn negotiate(
        &mut self,
        port: &mut impl Port,
        offered: NegotiationMask,
    ) -> Result<NegotiationMask, Fault> {
        if self.is_connected() {
            return Err(Fault::Connected);
        }
        let chosen = self.on(port, |session, lines| {
            Ok(NegotiationMask {
                write: session.choose(lines, WRITE_MODES, offered.write, session.modes.write)?,
                read: session.choose(lines, READ_MODES, offered.read, session.modes.read)?,
            })
        })?;
        self.modes = chosen;
        self.ecp = Ecp::NONE;
        Ok(chosen)
    }

    /// The modes that port and peripheral both have (`IOCTL_PAR_GET_DEVICE_CAPS`). The peripheral
    /// is asked once; a connected mode is terminated for that. `without` are not tried.
    ///
    /// # Errors
    /// [`Fault::Interrupted`]
    pub fn device_modes(
        &mut self,
        port: &mut impl Port,
        without: IeeeModes,
    ) -> Result<IeeeModes, Fault> {
        if let Some(modes) = self.device_modes {
            return Ok(modes - without);
        }
        let candidates = self.capabilities.modes() - without;
        let modes = self.on(port, |session, lines| {
            session.leave(lines);
            let mut modes = IeeeModes::empty();
            for mode in candidates.iter() {
                match session.try_mode(lines, mode) {
                    Ok(()) => modes |= mode,
                    Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                    // Nor will it answer the other requests.
                    Err(Fault::NotIeee1284) => {
                        modes |=
                            candidates & (IeeeModes::CENTRONICS | IeeeModes::IEEE_COMPATIBILITY);
                        break;
                    }
                    Err(_) => {}
                }
            }
            Ok(modes)
        })?;
        if without.is_empty() {
            self.device_modes = Some(modes);
        }
        Ok(modes)
    }

    /// Connects the mode of a direction now, rather than with the next transfer.
    ///
    /// # Errors
    /// [`Fault::NotIeee1284`], [`Fault::Refused`], [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub fn connect(&mut self, port: &mut impl Port, direction: Direction) -> Result<(), Fault> {
        self.on(port, |session, lines| {
            session.enter(lines, session.mode(direction))?;
            match (direction, session.link) {
                (Direction::Forward, Link::EcpHardware | Link::EcpSoftware) => {
                    session.ecp.turn_forward(lines)
                }
                // By hardware it turns round with the read.
                (Direction::Reverse, Link::EcpSoftware) => session.ecp.turn_reverse(lines),
                _ => Ok(()),
            }
        })
    }

    /// Writes bytes in the mode for writing.
    pub fn write(&mut self, port: &mut impl Port, data: &[u8]) -> Transfer {
        let mut bytes = 0;
        let result = if data.is_empty() {
            Ok(())
        } else {
            self.on(port, |session, lines| {
                session.enter(lines, session.modes.write)?;
                session.send_address(lines, session.write_address)?;
                session.write_on(lines, data, &mut bytes)
            })
        };
        Transfer { bytes, result }
    }

    /// Reads bytes in the mode for reading: as many as the peripheral has, and the buffer room
    /// for. A success with fewer bytes, or none, means that it has no more at this moment.
    pub fn read(&mut self, port: &mut impl Port, buffer: &mut [u8]) -> Transfer {
        let mut bytes = 0;
        let result = if buffer.is_empty() {
            Ok(())
        } else {
            self.on(port, |session, lines| {
                session.enter(lines, session.modes.read)?;
                session.send_address(lines, session.read_address)?;
                session.read_on(lines, buffer, &mut bytes)
            })
        };
        Transfer { bytes, result }
    }

    /// Sets the ECP channel or EPP address of later writes or reads. It is sent with them.
    ///
    /// # Errors
    /// [`Fault::Address`]: the mode of that direction is ECP, and the address beyond 127.
    pub fn set_address(&mut self, direction: Direction, address: u8) -> Result<(), Fault> {
        if IeeeModes::ECP_ANY.intersects(self.mode(direction)) && address > LAST_CHANNEL {
            return Err(Fault::Address);
        }
        match direction {
            Direction::Forward => self.write_address = Some(address),
            Direction::Reverse => self.read_address = Some(address),
        }
        Ok(())
    }

    /// Ends a connected mode and forgets what it had to remember. Never fails: a peripheral that
    /// does not take part is left.
    pub fn terminate(&mut self, port: &mut impl Port) {
        self.release(port);
        self.ecp = Ecp::NONE;
    }

    /// The port was put at rest by somebody else: a mode that was connected is not any more.
    pub fn disconnected(&mut self) {
        if self.is_connected() {
            self.link = Link::Compatibility;
            self.ecp = Ecp::NONE;
            self.address = None;
        }
        self.dcr = Dcr::IDLE;
    }

    /// Gives the port back in compatibility mode between two requests of one program. Bytes that
    /// the chip's FIFO took from the peripheral and nobody has asked for yet wait for the next
    /// read. Never fails.
    pub fn release(&mut self, port: &mut impl Port) {
        // There is no way for this to fail.
        let _ = self.on(port, |session, lines| {
            session.leave(lines);
            Ok(())
        });
    }

    /// Reads the device ID into `sink`, with its prefix; see [`super::DeviceId`]. A connected mode
    /// is terminated first. Nibble mode, byte mode and ECP are tried in this order.
    ///
    /// # Errors
    /// [`Fault::NotIeee1284`], [`Fault::Refused`], [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub fn device_id(&mut self, port: &mut impl Port, sink: &mut [u8]) -> Result<IdLength, Fault> {
        self.on(port, |session, lines| {
            session.leave(lines);
            for request in [
                Extensibility::ID_NIBBLE,
                Extensibility::ID_BYTE,
                Extensibility::ID_ECP,
            ] {
                if request != Extensibility::ID_NIBBLE && !session.capabilities.byte {
                    break;
                }
                match read_id(lines, request, sink) {
                    Ok(length) if length.total >= SHORTEST_ID => return Ok(length),
                    Ok(_) | Err(Fault::Refused) => {}
                    Err(fault) => return Err(fault),
                }
            }
            Err(Fault::Refused)
        })
    }

    /// Resets the peripheral (`IOCTL_PAR_SET_INFORMATION`): [`super::initialize()`]. A connected mode
    /// is terminated first, and modes and addresses are the default ones again.
    ///
    /// # Errors
    /// [`Fault::Interrupted`]
    pub fn initialize(&mut self, port: &mut impl Port) -> Result<Condition, Fault> {
        self.terminate(port);
        *self = Self::new(self.capabilities);
        Ok(initialize(port, &self.capabilities)?)
    }

    /// Reads the condition of the peripheral: [`super::read_condition()`]. In another mode the lines
    /// mean other things, so a connected one is terminated first.
    ///
    /// # Errors
    /// [`Fault::Interrupted`]
    pub fn condition(&mut self, port: &mut impl Port) -> Result<Condition, Fault> {
        self.on(port, |session, lines| {
            session.leave(lines);
            Ok(read_condition(lines.port)?)
        })
    }

    const fn mode(&self, direction: Direction) -> IeeeModes {
        match direction {
            Direction::Forward => self.modes.write,
            Direction::Reverse => self.modes.read,
        }
    }

    /// Runs an operation on the lines. If it fails, the port is at rest afterwards.
    fn on<P: Port, T>(
        &mut self,
        port: &mut P,
        operation: impl FnOnce(&mut Self, &mut Lines<'_, P>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let capabilities = self.capabilities;
        let mut lines = Lines::new(port, self.dcr, &capabilities);
        let result = operation(self, &mut lines);
        match result {
            Ok(_) | Err(Fault::Address | Fault::Unsupported | Fault::Connected) => {}
            // Between two bytes, mostly: the peripheral gets its chance to take part.
            Err(Fault::Interrupted) => self.leave(&mut lines),
            Err(_) => self.drop_link(&mut lines),
        }
        self.dcr = lines.dcr();
        result
    }

    /// Chooses the first of `order` that is offered, and that port and peripheral have.
    fn choose<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        order: &[IeeeModes],
        offered: IeeeModes,
        current: IeeeModes,
    ) -> Result<IeeeModes, Fault> {
        if offered.is_empty() {
            return Ok(current);
        }
        let mut why = Fault::Unsupported;
        let possible = offered & self.capabilities.modes();
        for mode in order.iter().filter(|mode| possible.contains(**mode)) {
            match self.try_mode(lines, *mode) {
                Ok(()) => return Ok(*mode),
                Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                Err(fault) => why = fault,
            }
        }
        Err(why)
    }

    /// Enters a mode to see whether the peripheral has it, and leaves it.
    fn try_mode<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        mode: IeeeModes,
    ) -> Result<(), Fault> {
        let result = self.enter(lines, mode);
        if result.is_ok() {
            self.leave(lines);
        } else {
            self.drop_link(lines);
        }
        result
    }

    /// Connects a mode, if it is not.
    fn enter<P: Port>(&mut self, lines: &mut Lines<'_, P>, mode: IeeeModes) -> Result<(), Fault> {
        let link = Link::of(mode);
        if self.link == link {
            return Ok(());
        }
        if !self.capabilities.modes().contains(mode) {
            return Err(Fault::Unsupported);
        }
        self.leave(lines);
        match link {
            Link::Compatibility => {}
            Link::Nibble => negotiate(lines, Extensibility::NIBBLE)?,
            Link::Byte => negotiate(lines, Extensibility::BYTE)?,
            Link::EppHardware => {
                negotiate(lines, Extensibility::EPP)?;
                epp::enter(lines);
            }
            Link::EppSoftware => {
                negotiate(lines, Extensibility::EPP)?;
                lines.mode(Ecr::PS2);
            }
            Link::EcpHardware => {
                // Runs are no gain where a byte costs one access.
                negotiate(lines, Extensibility::ECP)?;
                self.link = link;
                self.ecp
                    .set_up(lines, self.capabilities.byte_fifo(), false)?;
            }
            Link::EcpSoftware => {
                let rle = match negotiate(lines, Extensibility::ECP_RLE) {
                    Ok(()) => true,
                    Err(Fault::Refused) => {
                        negotiate(lines, Extensibility::ECP)?;
                        false
                    }
                    Err(fault) => return Err(fault),
                };
                self.link = link;
                self.ecp.set_up(lines, None, rle)?;
            }
        }
        self.link = link;
        Ok(())
    }

    /// Leaves the connected mode for compatibility mode, as the standard wants it.
    fn leave<P: Port>(&mut self, lines: &mut Lines<'_, P>) {
        match self.link {
            Link::Compatibility => {}
            Link::Nibble | Link::Byte => {
                terminate(lines);
            }
            Link::EppHardware | Link::EppSoftware => leave_epp(lines),
            Link::EcpHardware | Link::EcpSoftware => {
                if self.ecp.turn_forward(lines).is_ok() {
                    terminate(lines);
                } else {
                    lines.idle();
                }
            }
        }
        self.link = Link::Compatibility;
        self.address = None;
    }

    /// Brings the port to rest at once, after a failure: an immediate termination.
    fn drop_link<P: Port>(&mut self, lines: &mut Lines<'_, P>) {
        if matches!(self.link, Link::EppHardware | Link::EppSoftware) {
            leave_epp(lines);
        } else if self.is_connected() || lines.dcr() != Dcr::IDLE {
            lines.idle();
        }
        self.link = Link::Compatibility;
        self.address = None;
    }

    /// Sends an address to the connected peripheral, if the mode has any, and it is another one.
    fn send_address<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        address: Option<u8>,
    ) -> Result<(), Fault> {
        let Some(new) = address else { return Ok(()) };
        if self.address == address {
            return Ok(());
        }
        let mut sent = 0;
        match self.link {
            Link::Compatibility | Link::Nibble | Link::Byte => return Ok(()),
            Link::EppHardware => {
                epp::write(lines, &self.capabilities, Space::Address, &[new], &mut sent)?;
            }
            Link::EppSoftware => {
                epp::write_by_software(lines, Space::Address, &[new], &mut sent)?;
            }
            Link::EcpHardware | Link::EcpSoftware if new > LAST_CHANNEL => {
                return Err(Fault::Address);
            }
            Link::EcpHardware | Link::EcpSoftware => self.ecp.set_channel(lines, new)?,
        }
        self.address = address;
        Ok(())
    }

    fn write_on<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        data: &[u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        match self.link {
            Link::EppHardware => epp::write(lines, &self.capabilities, Space::Data, data, done),
            Link::EppSoftware => epp::write_by_software(lines, Space::Data, data, done),
            Link::EcpHardware | Link::EcpSoftware => self.ecp.write(lines, data, done),
            Link::Compatibility | Link::Nibble | Link::Byte => {
                // Plain Centronics is the default that works everywhere; who asks for IEEE 1284
                // compatibility mode gets the chip's help.
                match self.capabilities.byte_fifo() {
                    Some(fifo) if self.modes.write == IeeeModes::IEEE_COMPATIBILITY => {
                        compatibility::write_fifo(lines, fifo, data, done)
                    }
                    _ => compatibility::write(lines, data, done),
                }
            }
        }
    }

    fn read_on<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        buffer: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        match self.link {
            Link::Nibble => nibble::read(lines, buffer, done),
            Link::Byte => byte::read(lines, buffer, done),
            Link::EppHardware => epp::read(lines, &self.capabilities, Space::Data, buffer, done),
            Link::EppSoftware => epp::read_by_software(lines, Space::Data, buffer, done),
            Link::EcpHardware | Link::EcpSoftware => self.ecp.read(lines, buffer, done),
            Link::Compatibility => Err(Fault::Unsupported),
        }
    }
}

/// Reads the device ID in one mode. Whatever happens, the mode is left.
fn read_id<P: Port>(
    lines: &mut Lines<'_, P>,
    request: Extensibility,
    sink: &mut [u8],
) -> Result<IdLength, Fault> {
    negotiate(lines, request)?;
    let mut ecp = Ecp::NONE;
    let result = if request == Extensibility::ID_ECP {
        ecp.set_up(lines, None, false).and_then(|()| {
            device_id::collect(sink, |bytes| {
                let mut done = 0;
                ecp.read(lines, bytes, &mut done).map(|()| done)
            })
        })
    } else {
        device_id::collect(sink, |bytes| {
            let mut done = 0;
            if request == Extensibility::ID_BYTE {
                byte::read(lines, bytes, &mut done)?;
            } else {
                nibble::read(lines, bytes, &mut done)?;
            }
            Ok(done)
        })
    };
    match result {
        // Valid after whole bytes only; the rest of the ID is not asked for.
        Ok(_) | Err(Fault::Interrupted) if ecp.turn_forward(lines).is_ok() => {
            terminate(lines);
        }
        _ => lines.idle(),
    }
    result
}

//! One peripheral on one port: which mode it is in, and how bytes get there and back.

use super::{
    Before, Capabilities, Condition, Dcr, Dsr, Extensibility, Fault, IdLength, Port, byte,
    compatibility,
    detect::{has_byte, makes_epp_cycles},
    device_id,
    ecp::Ecp,
    epp,
    epp::Space,
    initialize,
    lines::Lines,
    negotiate::{leave_epp, negotiate, terminate},
    nibble, read_condition, steady_condition,
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
/// What a peripheral has that does not speak IEEE 1284.
const WITHOUT_IEEE_1284: IeeeModes = IeeeModes::CENTRONICS.union(IeeeModes::IEEE_COMPATIBILITY);
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

/// The last operation that the peripheral did not take part in as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why it ended. Of [`Fault::Interrupted`] the port's owner knows more.
    pub fault: Fault,
    /// The mode, in words.
    pub mode: &'static str,
    /// The number of the standard's event that was waited for; 0: none that has one.
    pub event: u8,
}

/// The event that ends an EPP cycle: nWait high.
const EPP_ANSWER: u8 = 58;
/// The event that answers the request for a mode.
const MODE_ANSWER: u8 = 2;

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
    /// Whether the peripheral is in EPP.
    const fn is_epp(self) -> bool {
        matches!(self, Self::EppHardware | Self::EppSoftware)
    }

    /// In words.
    const fn name(self) -> &'static str {
        match self {
            Self::Compatibility => "Centronics",
            Self::Nibble => "nibble",
            Self::Byte => "byte",
            Self::EppHardware => "EPP by hardware",
            Self::EppSoftware => "EPP by software",
            Self::EcpHardware => "ECP by hardware",
            Self::EcpSoftware => "ECP by software",
        }
    }

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
/// rest, and the next transfer connects again. EPP is not that costly to keep, and costly to leave:
/// its end is an nInit pulse, which resets many peripherals. So it stays connected between requests
/// ([`Session::release`]), and when one is interrupted, until another mode is needed.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Copy, Debug)]
pub struct Session {
    capabilities: Capabilities,
    modes: NegotiationMask,
    /// What the peripheral was found to have.
    device_modes: Option<IeeeModes>,
    /// Whether the peripheral has EPP, if it was asked.
    device_epp: Option<bool>,
    /// The EPP registers were seen to make cycles.
    epp_proved: bool,
    /// A write waits for a peripheral that shows a fault, too.
    patient: bool,
    link: Link,
    /// The one that was entered, or tried, last.
    wanted: Link,
    trouble: Option<Trouble>,
    /// The link is EPP, and was kept for the next request only.
    held: bool,
    /// It was kept after a negotiation, in which it was chosen.
    chosen: bool,
    dcr: Dcr,
    ecp: Ecp,
    write_address: Option<u8>,
    read_address: Option<u8>,
    /// The address that the connected peripheral was sent last.
    address: Option<u8>,
}

impl Session {
    /// A peripheral in compatibility mode. What is on the port's lines is not changed before an
    /// operation has to.
    #[must_use]
    pub const fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            modes: NegotiationMask::DEFAULT,
            device_modes: None,
            device_epp: None,
            epp_proved: capabilities.ecr,
            patient: false,
            link: Link::Compatibility,
            wanted: Link::Compatibility,
            trouble: None,
            held: false,
            chosen: false,
            dcr: Dcr::UNKNOWN,
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

    /// The mode that was entered, or tried, last, in words.
    #[must_use]
    pub const fn mode_name(&self) -> &'static str {
        self.wanted.name()
    }

    /// What went wrong in the last operations, if anything did. It is forgotten then.
    pub const fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Whether a write waits for a peripheral that shows a fault as it does for a busy one, or ends
    /// with [`Fault::Condition`].
    pub const fn set_patient(&mut self, patient: bool) {
        self.patient = patient;
    }

    /// Others may have used the port: what is on its lines in compatibility mode is not known.
    pub fn forget_lines(&mut self) {
        if !self.is_connected() {
            self.dcr = Dcr::UNKNOWN;
        }
    }

    /// Whether EPP is connected, and kept for the next request.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether a mode other than compatibility mode is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link != Link::Compatibility
    }

    /// Chooses the modes of later transfers: in each direction the fastest in the mask that port
    /// and peripheral have. A direction whose mask is empty keeps its mode. If EPP was chosen it is
    /// connected afterwards, for leaving it would reset many peripherals; no other mode is.
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
        if self.is_connected() && !self.held && !self.chosen {
            return Err(Fault::Connected);
        }
        let chosen = self.on(port, |session, lines| {
            session.learn(lines, true);
            session.choose_both(lines, offered)
        })?;
        self.modes = chosen;
        self.ecp = Ecp::NONE;
        self.chosen = self.link.is_epp();
        Ok(chosen)
    }

    /// The modes that port and peripheral both have (`IOCTL_PAR_GET_DEVICE_CAPS`). The peripheral
    /// is asked once, if it has power and rests; a connected mode is terminated for that. `without`
    /// are not tried. The lines are as they were afterwards.
    ///
    /// EPP is not tried: the way to find out is to enter it, and its end resets many peripherals. A
    /// peripheral that speaks IEEE 1284 is taken to have it, until it refuses it in a negotiation.
    ///
    /// # Errors
    /// [`Fault::Interrupted`]
    pub fn device_modes(
        &mut self,
        port: &mut impl Port,
        without: IeeeModes,
    ) -> Result<IeeeModes, Fault> {
        if let Some(modes) = self.device_modes {
            return Ok(self.but_refused_epp(modes) - without);
        }
        let asked = self.on(port, |session, lines| {
            session.leave(lines);
            session.ask(lines, |session, lines| {
                let candidates = session.capabilities.modes() - without;
                let mut modes = IeeeModes::empty();
                for mode in (candidates - IeeeModes::EPP_ANY).iter() {
                    match session.try_mode(lines, mode) {
                        Ok(()) => modes |= mode,
                        Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                        // Nor will it answer the other requests.
                        Err(Fault::NotIeee1284) => {
                            return Ok(candidates & WITHOUT_IEEE_1284);
                        }
                        Err(_) => {}
                    }
                }
                Ok(modes | candidates & IeeeModes::EPP_ANY)
            })
        });
        let modes = match asked {
            // It may answer later.
            Err(Fault::NotIeee1284) => {
                return Ok(self.capabilities.modes() & WITHOUT_IEEE_1284.difference(without));
            }
            asked => asked?,
        };
        if without.is_empty() {
            self.device_modes = Some(modes);
        }
        Ok(self.but_refused_epp(modes))
    }

    fn but_refused_epp(&self, modes: IeeeModes) -> IeeeModes {
        if self.device_epp == Some(false) {
            modes - IeeeModes::EPP_ANY
        } else {
            modes
        }
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
    pub fn terminate<P: Port>(&mut self, port: &mut P) {
        // There is no way for this to fail.
        let _ = self.on(port, |session, lines| {
            session.leave(lines);
            Ok(())
        });
        self.ecp = Ecp::NONE;
    }

    /// The port was put at rest meanwhile: a mode that was connected is not any more.
    pub fn disconnected(&mut self) {
        if self.is_connected() {
            self.is_left();
            self.ecp = Ecp::NONE;
        }
        self.dcr = Dcr::UNKNOWN;
    }

    /// Gives the port back between two requests of one program, in compatibility mode, or in EPP
    /// ([`Session::is_held`]): then it is the port's owner that ends it with [`end_epp`] before
    /// others use the port. Bytes that the chip's FIFO took from the peripheral and no read has
    /// asked for yet wait for the next read. Never fails.
    ///
    /// [`end_epp`]: super::end_epp
    pub fn release(&mut self, port: &mut impl Port) {
        // There is no way for this to fail.
        let _ = self.on(port, |session, lines| {
            if session.link.is_epp() {
                session.held = true;
                epp::forward(lines, session.link == Link::EppHardware);
            } else {
                session.leave(lines);
            }
            Ok(())
        });
    }

    /// Reads the device ID into `sink`, with its prefix; see [`super::DeviceId`]. A connected mode
    /// is terminated first. Nibble mode, byte mode and ECP are tried in this order, if the status
    /// lines show a peripheral that has power and rests. The lines are as they were afterwards.
    ///
    /// # Errors
    /// [`Fault::NotIeee1284`], also where no line was moved; [`Fault::Refused`],
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub fn device_id(&mut self, port: &mut impl Port, sink: &mut [u8]) -> Result<IdLength, Fault> {
        self.on(port, |session, lines| {
            session.leave(lines);
            session.ask(lines, |session, lines| {
                for (request, link) in [
                    (Extensibility::ID_NIBBLE, Link::Nibble),
                    (Extensibility::ID_BYTE, Link::Byte),
                    (Extensibility::ID_ECP, Link::EcpSoftware),
                ] {
                    session.wanted = link;
                    if request != Extensibility::ID_NIBBLE && !session.capabilities.reads_data() {
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
        })
    }

    /// Asks a peripheral in compatibility mode, if its status lines show that it has power and
    /// rests: else [`Fault::NotIeee1284`], and no line moves. Afterwards they are as they were.
    fn ask<P: Port, T>(
        &mut self,
        lines: &mut Lines<'_, P>,
        question: impl FnOnce(&mut Self, &mut Lines<'_, P>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let condition = steady_condition(lines.port)?;
        if !condition.is_some_and(Condition::is_at_rest) {
            return Err(Fault::NotIeee1284);
        }
        let before = Before::of(lines.port);
        self.learn(lines, false);
        let answer = question(self, lines);
        match answer {
            Ok(_) | Err(Fault::Interrupted) => self.leave(lines),
            Err(_) => self.drop_link(lines),
        }
        before.restore(lines.port);
        lines.forget();
        answer
    }

    /// Finds out whether the data lines can be read, if that is not known.
    fn learn<P: Port>(&mut self, lines: &mut Lines<'_, P>, patterns: bool) {
        if self.capabilities.byte.is_none() && !self.is_connected() {
            lines.control_is(Dcr::IDLE);
            if let Some(byte) = has_byte(lines.port, patterns) {
                self.capabilities = self.capabilities.with_byte(byte);
            }
        }
    }

    /// Resets the peripheral (`IOCTL_PAR_SET_INFORMATION`): [`super::initialize()`]. A connected
    /// mode is terminated first, and modes and addresses are the default ones again.
    ///
    /// # Errors
    /// [`Fault::Interrupted`]
    pub fn initialize(&mut self, port: &mut impl Port) -> Result<Condition, Fault> {
        self.terminate(port);
        *self = Self::new(self.capabilities);
        Ok(initialize(port, &self.capabilities)?)
    }

    /// Reads the condition of the peripheral: [`super::read_condition()`]. In another mode the
    /// lines mean other things, so a connected one is terminated first, EPP included. Else no line
    /// moves.
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
        if let Err(fault) = result {
            self.failed(fault, &mut lines);
        }
        self.dcr = lines.dcr();
        result
    }

    /// Keeps what a failure says of the peripheral, and puts the port at rest, unless no line moved.
    #[cold]
    #[inline(never)]
    fn failed<P: Port>(&mut self, fault: Fault, lines: &mut Lines<'_, P>) {
        self.note(fault, lines.awaited());
        match fault {
            Fault::Address | Fault::Unsupported | Fault::Connected => {}
            // Between two cycles.
            Fault::Interrupted if self.link.is_epp() => {
                epp::forward(lines, self.link == Link::EppHardware);
            }
            // Between two bytes, mostly: the peripheral gets its chance to take part.
            Fault::Interrupted => self.leave(lines),
            _ => self.drop_link(lines),
        }
    }

    /// Keeps what a failed operation says of the peripheral.
    const fn note(&mut self, fault: Fault, awaited: u8) {
        let event = match fault {
            Fault::NotIeee1284 => MODE_ANSWER,
            Fault::NoAnswer(event) => event,
            Fault::EppTimeOut => EPP_ANSWER,
            Fault::Interrupted => awaited,
            // The peripheral answered, or was not asked.
            Fault::Refused
            | Fault::Condition(_)
            | Fault::Connected
            | Fault::Unsupported
            | Fault::Address => return,
        };
        self.trouble = Some(Trouble {
            fault,
            mode: self.wanted.name(),
            event,
        });
    }

    /// Chooses the modes of both directions.
    ///
    /// EPP is tried last, and once for both, as what is tried after it would meet a peripheral that
    /// is being reset. So each direction first tries what is faster than EPP, and what is slower if
    /// EPP is not among its modes.
    fn choose_both<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        offered: NegotiationMask,
    ) -> Result<NegotiationMask, Fault> {
        let mut write = Choice::new(self, WRITE_MODES, offered.write, self.modes.write);
        let mut read = Choice::new(self, READ_MODES, offered.read, self.modes.read);
        for (until_epp, choice) in [(true, &mut write), (true, &mut read)] {
            choice.go_on(self, lines, until_epp)?;
        }
        // In EPP, and it is the choice of both; or it is not, and the slower modes follow.
        for choice in [&mut write, &mut read] {
            choice.go_on(self, lines, false)?;
        }
        Ok(NegotiationMask {
            write: write.end()?,
            read: read.end()?,
        })
    }

    /// Enters a mode to see whether the peripheral has it, and leaves it, unless it is EPP.
    fn try_mode<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        mode: IeeeModes,
    ) -> Result<(), Fault> {
        let result = self.enter(lines, mode);
        match result {
            Ok(()) if self.link.is_epp() => {}
            Ok(()) => self.leave(lines),
            Err(_) => self.drop_link(lines),
        }
        result
    }

    /// Connects a mode, if it is not.
    fn enter<P: Port>(&mut self, lines: &mut Lines<'_, P>, mode: IeeeModes) -> Result<(), Fault> {
        let link = Link::of(mode);
        self.wanted = link;
        self.held = false;
        self.chosen = false;
        if self.link == link {
            return Ok(());
        }
        if !self.capabilities.modes().contains(mode) {
            return Err(Fault::Unsupported);
        }
        if self.link.is_epp() && link.is_epp() {
            // It is the chip that changes, not the peripheral.
            if link == Link::EppHardware {
                self.prove_epp(lines)?;
            }
            epp::enter(lines, link == Link::EppHardware);
            self.link = link;
            return Ok(());
        }
        self.leave(lines);
        match link {
            Link::Compatibility => {}
            Link::Nibble => negotiate(lines, Extensibility::NIBBLE)?,
            Link::Byte => negotiate(lines, Extensibility::BYTE)?,
            Link::EppHardware | Link::EppSoftware => {
                if link == Link::EppHardware {
                    self.prove_epp(lines)?;
                }
                let answer = negotiate(lines, Extensibility::EPP);
                match answer {
                    Ok(()) => self.device_epp = Some(true),
                    Err(Fault::Refused) => self.device_epp = Some(false),
                    Err(_) => {}
                }
                answer?;
                epp::enter(lines, link == Link::EppHardware);
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

    /// Sees that EPP registers, which a port without an ECR only seems to have, make cycles. Where
    /// the lines do not let it see, they are believed.
    fn prove_epp<P: Port>(&mut self, lines: &mut Lines<'_, P>) -> Result<(), Fault> {
        if self.epp_proved || self.is_connected() {
            return Ok(());
        }
        lines.control_is(Dcr::IDLE);
        // A cycle may begin only while nWait is low, which is Busy.
        if lines.dsr().contains(Dsr::NOT_BUSY) {
            if !makes_epp_cycles(lines.port) {
                self.capabilities.epp = false;
                return Err(Fault::Unsupported);
            }
            self.epp_proved = true;
        }
        Ok(())
    }

    /// No mode is connected any more.
    const fn is_left(&mut self) {
        self.link = Link::Compatibility;
        self.held = false;
        self.chosen = false;
        self.address = None;
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
        self.is_left();
    }

    /// Brings the port to rest at once, after a failure: an immediate termination.
    fn drop_link<P: Port>(&mut self, lines: &mut Lines<'_, P>) {
        if self.link.is_epp() {
            leave_epp(lines);
        } else if self.is_connected() || !matches!(lines.dcr(), Dcr::IDLE | Dcr::UNKNOWN) {
            lines.idle();
        }
        self.is_left();
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
                        compatibility::write_fifo(lines, fifo, data, done, self.patient)
                    }
                    _ => compatibility::write(lines, data, done, self.patient),
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

/// The choice of a mode for one direction.
struct Choice {
    order: core::slice::Iter<'static, IeeeModes>,
    possible: IeeeModes,
    chosen: Option<IeeeModes>,
    why: Fault,
}

impl Choice {
    /// From `order` the first that is `offered`; without an offer, what is `current`.
    fn new(
        session: &Session,
        order: &'static [IeeeModes],
        offered: IeeeModes,
        current: IeeeModes,
    ) -> Self {
        Self {
            order: order.iter(),
            possible: offered & session.capabilities.modes(),
            chosen: offered.is_empty().then_some(current),
            why: Fault::Unsupported,
        }
    }

    /// Tries one mode after the other, up to EPP if that is among the possible ones.
    fn go_on<P: Port>(
        &mut self,
        session: &mut Session,
        lines: &mut Lines<'_, P>,
        until_epp: bool,
    ) -> Result<(), Fault> {
        while self.chosen.is_none() {
            let next = self.order.as_slice().first().copied();
            if until_epp
                && next.is_some_and(|next| (IeeeModes::EPP_ANY & self.possible).contains(next))
            {
                break;
            }
            let Some(mode) = self.order.next().copied() else {
                break;
            };
            if !self.possible.contains(mode) {
                continue;
            }
            match session.try_mode(lines, mode) {
                Ok(()) => self.chosen = Some(mode),
                Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                Err(fault) => self.why = fault,
            }
        }
        Ok(())
    }

    fn end(self) -> Result<IeeeModes, Fault> {
        self.chosen.ok_or(self.why)
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
    let ready = if request == Extensibility::ID_ECP {
        ecp.set_up(lines, None, false)
    } else {
        Ok(())
    };
    let result = ready.and_then(|()| {
        device_id::collect(sink, |bytes| {
            let mut done = 0;
            match request {
                Extensibility::ID_ECP => ecp.read(lines, bytes, &mut done)?,
                Extensibility::ID_BYTE => byte::read(lines, bytes, &mut done)?,
                _ => nibble::read(lines, bytes, &mut done)?,
            }
            Ok(done)
        })
    });
    match result {
        // Valid after whole bytes only; the rest of the ID is not asked for.
        Ok(_) | Err(Fault::Interrupted) if ecp.turn_forward(lines).is_ok() => {
            terminate(lines);
        }
        _ => lines.idle(),
    }
    result
}

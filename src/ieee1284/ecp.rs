//! ECP: both directions over the data lines, by software or by the chip's FIFO.
//!
//! Between two calls the port is in PS/2 mode, and the link in forward idle or in reverse. Bytes
//! that the FIFO has taken in reverse are kept in [`Ecp`] until they are asked for.

use super::{
    Dcr, Dsr, Ecr, Fault, Fifo, Port, Register,
    fifo::{self, Drained, FifoPace},
    lines::{GRACE, Lines, TL},
};

/// How long a peripheral may leave a byte untaken (event 36) before the host tries to recover, in
/// milliseconds. The standard allows that after TS, 35 ms; nothing is gained by disturbing a slow
/// peripheral. Linux waits 3.5 s. For the next byte (event 32) it may let the host wait as long as
/// it wants: it is out of paper, or draws a page.
const STALL_MS: u64 = 3500;
/// How long the last byte's event 36 may take where the chip does not show it, in microseconds.
const ANSWER_US: u32 = 500;
/// TR: a peripheral's answer to the host's recovery, in milliseconds.
const TR: u64 = 58;
/// From data lines that turn round to nInit low (event 39), in microseconds.
const TURN_US: u32 = 1;
/// Bytes that [`Ecp`] can keep: those of a FIFO, and those that come while it is emptied. A FIFO
/// deeper than half of it is not used in reverse.
const KEPT: usize = 64;
/// Pauses while a FIFO fills, in microseconds, before it is emptied byte by byte, and the
/// peripheral is taken for a slow one until the FIFO is found full again.
const FILL_US: [u32; 4] = [2, 4, 8, 16];
/// The most bytes that one run-length command stands for.
const LONGEST_RUN: usize = 128;
/// The shortest run that two bytes on the line are better for.
const SHORTEST_RUN: usize = 3;
/// In a command byte: a channel address, not a run length.
const CHANNEL: u8 = 0x80;

/// Host to peripheral, at rest. nAutoFd (`HostAck`) high: the next byte is data.
const FORWARD: Dcr = Dcr::ACTIVE;
/// The same with `HostAck` low: the next byte is a command.
const COMMAND: Dcr = Dcr::ACTIVE.union(Dcr::AUTO_FD);
/// Peripheral to host (nInit low), ready for a byte (`HostAck` low).
const REVERSE: Dcr = Dcr::REVERSE.union(Dcr::AUTO_FD);
/// The same while `HostAck` is high, or the chip's.
const CHIP_REVERSE: Dcr = Dcr::REVERSE;

/// What a connected ECP link has to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ecp {
    /// The FIFO, if hardware does the work.
    fifo: Option<Fifo>,
    /// Run-length encoding was negotiated.
    rle: bool,
    reverse: bool,
    /// Channels are in use. The peripheral names its own in commands, which a FIFO mixes with data.
    channels: bool,
    /// In a run from the peripheral: how many more bytes the next one stands for.
    run: u8,
    /// Bytes that came and were not asked for yet: the run's rest, or the FIFO's.
    kept: [u8; KEPT],
    first: usize,
    end: usize,
    /// More of `kept`'s last byte, after it.
    repeats: u8,
    repeated: u8,
}

impl Ecp {
    /// No link, and nothing kept.
    pub(super) const NONE: Self = Self {
        fifo: None,
        rle: false,
        reverse: false,
        channels: false,
        run: 0,
        kept: [0; KEPT],
        first: 0,
        end: 0,
        repeats: 0,
        repeated: 0,
    };

    /// The setup phase after a negotiation, with or without run-length encoding: forward idle.
    /// With a FIFO, it does the work. Bytes kept from an earlier link stay.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn set_up<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        fifo: Option<Fifo>,
        rle: bool,
    ) -> Result<(), Fault> {
        self.fifo = fifo;
        self.rle = rle;
        self.reverse = false;
        self.channels = false;
        self.run = 0;
        lines.mode(Ecr::PS2);
        // 30: nAutoFd low.
        lines.control(COMMAND);
        // 31: PError high.
        lines.answer(31, Dsr::P_ERROR, Dsr::P_ERROR)?;
        Ok(())
    }

    /// Writes bytes. `done` counts those that the peripheral took.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn write<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        data: &[u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        lines.check()?;
        self.turn_forward(lines)?;
        match self.fifo {
            Some(fifo) => write_fifo(lines, fifo, data, done),
            None => write_lines(lines, self.rle, data, done),
        }
    }

    /// Selects the channel of the data that follow.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn set_channel<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        channel: u8,
    ) -> Result<(), Fault> {
        lines.check()?;
        self.turn_forward(lines)?;
        self.channels = true;
        send(lines, COMMAND, CHANNEL | channel, STALL_MS)
    }

    /// Reads bytes until `bytes` is full or the peripheral has sent none for TL. `done` counts
    /// them.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn read<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        bytes: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        lines.check()?;
        self.take_kept(bytes, done);
        if bytes.len() <= *done {
            return Ok(());
        }
        let fifo = self
            .fifo
            .filter(|fifo| !self.channels && usize::from(fifo.depth) <= KEPT / 2);
        if let Some(fifo) = fifo {
            self.read_fifo(lines, fifo, bytes, done)
        } else {
            self.turn_reverse(lines)?;
            self.read_lines(lines, bytes, done)
        }
    }

    /// Turns the link to the host's sending. Bytes that came meanwhile are kept.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn turn_forward<P: Port>(&mut self, lines: &mut Lines<'_, P>) -> Result<(), Fault> {
        if !self.reverse {
            return Ok(());
        }
        // 47: nInit high.
        lines.control(REVERSE | Dcr::N_INIT);
        // 49: PError high; the peripheral has released the data lines (48).
        lines.answer(49, Dsr::P_ERROR, Dsr::P_ERROR)?;
        self.reverse = false;
        lines.control(COMMAND);
        Ok(())
    }

    /// Turns the link to the peripheral's sending.
    ///
    /// # Errors
    /// [`Fault::NoAnswer`], [`Fault::Interrupted`]
    pub(super) fn turn_reverse<P: Port>(&mut self, lines: &mut Lines<'_, P>) -> Result<(), Fault> {
        if self.reverse {
            return Ok(());
        }
        // 38: nAutoFd low, data lines to input.
        lines.control(REVERSE | Dcr::N_INIT);
        lines.port.stall(TURN_US);
        // 39: nInit low.
        lines.control(REVERSE);
        self.reverse = true;
        // 40: PError low.
        lines.answer(40, Dsr::P_ERROR, Dsr::empty())?;
        Ok(())
    }

    /// Hands out bytes that came before.
    #[inline(never)]
    fn take_kept(&mut self, bytes: &mut [u8], done: &mut usize) {
        let room = bytes.iter_mut().skip(*done);
        for byte in room {
            if let Some(kept) = self.kept.get(self.first..self.end).and_then(<[u8]>::first) {
                *byte = *kept;
                self.first = self.first.saturating_add(1);
            } else if let Some(repeats) = self.repeats.checked_sub(1) {
                *byte = self.repeated;
                self.repeats = repeats;
            } else {
                break;
            }
            *done = done.saturating_add(1);
        }
    }

    /// Reads with the control lines: five accesses a byte.
    fn read_lines<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        bytes: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        while *done < bytes.len() {
            lines.proceed(1)?;
            // 43: nAck low. It comes when there are data.
            let Some(dsr) = lines.wait(TL, Dsr::N_ACK, Dsr::empty())? else {
                return Ok(());
            };
            lines.settle();
            let byte = lines.read_data();
            // 44: nAutoFd (HostAck) high.
            lines.control(CHIP_REVERSE);
            // 45: nAck high.
            lines.answer(45, Dsr::N_ACK, Dsr::N_ACK)?;
            // 46: HostAck low.
            lines.control(REVERSE);
            // Busy (PeriphAck) low: a command.
            if dsr.contains(Dsr::NOT_BUSY) {
                if byte & CHANNEL == 0 {
                    self.run = byte;
                }
                // A channel address names a channel that this driver does not distinguish.
            } else {
                self.repeated = byte;
                // A byte after no command is a run of one; a run of 128 has 127 more.
                self.repeats = self.run.saturating_add(1);
                self.run = 0;
                self.take_kept(bytes, done);
            }
        }
        Ok(())
    }

    /// Reads with the FIFO: little more than one access a byte, as long as the peripheral is as
    /// fast as the port. The chip expands runs.
    fn read_fifo<P: Port>(
        &mut self,
        lines: &mut Lines<'_, P>,
        fifo: Fifo,
        bytes: &mut [u8],
        done: &mut usize,
    ) -> Result<(), Fault> {
        // 38: nAutoFd low, data lines to input.
        lines.control(REVERSE | Dcr::N_INIT);
        // The chip moves HostAck now, before the peripheral may send; its bit in the DCR must be
        // clear.
        lines.mode(Ecr::ECP);
        lines.control(CHIP_REVERSE | Dcr::N_INIT);
        lines.settle();
        // 39: nInit low.
        lines.control(CHIP_REVERSE);
        self.reverse = true;
        // 40: PError low.
        if let Err(fault) = lines.answer(40, Dsr::P_ERROR, Dsr::empty()) {
            // The way back is by the control lines, and the direction changes in PS/2 mode only.
            lines.mode(Ecr::PS2);
            return Err(fault);
        }
        let result = empty_fifo(lines, fifo, bytes, done);
        let kept = self.leave_fifo(lines, fifo);
        result.and(kept)
    }

    /// Stops the peripheral, takes what the FIFO has left, and turns the link to forward idle.
    /// Leaving the mode first would lose what arrives at the last moment.
    fn leave_fifo<P: Port>(&mut self, lines: &mut Lines<'_, P>, fifo: Fifo) -> Result<(), Fault> {
        // 47: nInit high.
        lines.control(CHIP_REVERSE | Dcr::N_INIT);
        // A full FIFO holds the peripheral in the middle of a byte.
        self.keep(lines, fifo);
        // 49: PError high.
        let answer = lines.answer(49, Dsr::P_ERROR, Dsr::P_ERROR);
        self.keep(lines, fifo);
        lines.mode(Ecr::PS2);
        self.reverse = false;
        lines.control(COMMAND);
        answer.map(drop)
    }

    /// Empties the FIFO into `kept`.
    #[inline]
    fn keep<P: Port>(&mut self, lines: &mut Lines<'_, P>, fifo: Fifo) {
        if self.first >= self.end {
            self.first = 0;
            self.end = 0;
        }
        for _ in 0..fifo.depth {
            if fifo::ecr(lines.port).contains(Ecr::EMPTY) {
                break;
            }
            let Some(slot) = self.kept.get_mut(self.end) else {
                break;
            };
            *slot = lines.port.read(Register::EcpFifo);
            self.end = self.end.saturating_add(1);
        }
    }
}

/// Moves bytes out of the FIFO until `bytes` is full or none has come for TL.
fn empty_fifo<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    bytes: &mut [u8],
    done: &mut usize,
) -> Result<(), Fault> {
    let depth = usize::from(fifo.depth);
    // Whether the peripheral fills the FIFO faster than it is worth to empty it byte by byte.
    let mut fast = true;
    loop {
        let rest = bytes.get_mut(*done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let mut state = fifo::ecr(lines.port);
        if let Some(block) = rest.get_mut(..depth) {
            // Worth a wait: a full FIFO is read in one go.
            for pause in FILL_US {
                if state.contains(Ecr::FULL) || !fast {
                    break;
                }
                lines.port.stall(pause);
                state = fifo::ecr(lines.port);
            }
            fast = state.contains(Ecr::FULL);
            if fast {
                lines.port.read_block(Register::EcpFifo, block);
                *done = done.saturating_add(depth);
                lines.proceed(u32::from(fifo.depth))?;
                continue;
            }
        }
        if state.contains(Ecr::EMPTY) {
            let filled = lines.poll(TL, |port| {
                (!fifo::ecr(port).contains(Ecr::EMPTY)).then_some(())
            })?;
            if filled.is_none() {
                return Ok(());
            }
            continue;
        }
        for byte in rest.iter_mut().take(depth) {
            *byte = lines.port.read(Register::EcpFifo);
            *done = done.saturating_add(1);
            if fifo::ecr(lines.port).contains(Ecr::EMPTY) {
                break;
            }
        }
        lines.proceed(u32::from(fifo.depth))?;
    }
}

/// Writes with the control lines: five accesses a byte.
fn write_lines<P: Port>(
    lines: &mut Lines<'_, P>,
    rle: bool,
    data: &[u8],
    done: &mut usize,
) -> Result<(), Fault> {
    let mut rest = data.iter();
    while let Some(byte) = rest.next() {
        lines.proceed(1)?;
        let mut run = 1;
        if rle {
            let more = rest.as_slice().iter().take(LONGEST_RUN.saturating_sub(1));
            let more = more.take_while(|next| *next == byte).count();
            if more >= SHORTEST_RUN.saturating_sub(1) {
                // At most 127.
                let count = u8::try_from(more).unwrap_or(0);
                send(lines, COMMAND, count, STALL_MS)?;
                if more > 0 {
                    rest.nth(more.saturating_sub(1));
                }
                run = more.saturating_add(1);
            }
        }
        send(lines, FORWARD, *byte, STALL_MS)?;
        *done = done.saturating_add(run);
    }
    Ok(())
}

/// Writes with the FIFO: little more than one access a byte.
fn write_fifo<P: Port>(
    lines: &mut Lines<'_, P>,
    fifo: Fifo,
    data: &[u8],
    done: &mut usize,
) -> Result<(), Fault> {
    let start = *done;
    loop {
        let rest = data.get(done.saturating_sub(start)..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        // 32: Busy low. From here on Busy means that the byte on the lines was taken.
        lines.wait_for_event(32, Dsr::NOT_BUSY, Dsr::NOT_BUSY)?;
        // HostAck and HostClk are the chip's now; their bits in the DCR must be clear.
        lines.control_is(FORWARD);
        lines.mode(Ecr::ECP);
        let end = bursts(lines, fifo, rest, done);
        lines.mode(Ecr::PS2);
        match end {
            Drained::Interrupted => return Err(Fault::Interrupted),
            Drained::Empty => {}
            Drained::TimeUp | Drained::Noticed => {
                // The byte that stalled goes once more, by hand.
                if let Some(byte) = data.get(done.saturating_sub(start)) {
                    send(lines, FORWARD, *byte, TL)?;
                    *done = done.saturating_add(1);
                }
            }
        }
    }
}

fn bursts<P: Port>(lines: &mut Lines<'_, P>, fifo: Fifo, data: &[u8], done: &mut usize) -> Drained {
    let mut pace = FifoPace::default();
    let mut rest = data;
    while !rest.is_empty() {
        let chunk;
        (chunk, rest) = fifo.split(rest);
        if lines.proceed(u32::from(fifo.depth)).is_err() {
            return Drained::Interrupted;
        }
        lines.port.write_block(Register::EcpFifo, chunk);
        let drained = loop {
            let mut drained = fifo::drain(lines, &mut pace, STALL_MS, |_| false);
            if matches!(drained, Drained::Empty) && rest.is_empty() {
                drained = fifo::finish(lines, fifo, ANSWER_US, STALL_MS, |_| false);
            }
            // Held at event 32, and not stalled at 36: it has the byte, and wants no other yet.
            if !(matches!(drained, Drained::TimeUp) && is_taken(lines.port)) {
                break drained;
            }
        };
        if !matches!(drained, Drained::Empty) {
            if matches!(drained, Drained::Interrupted) {
                // The byte on the lines gets its chance to be taken.
                let _ = lines.grace(GRACE, |port| is_taken(port).then_some(()));
            }
            let left = fifo::residue(lines, fifo, rest, is_taken);
            let written = chunk.len().saturating_add(left.filled);
            *done = done.saturating_add(written.saturating_sub(left.unsent));
            return drained;
        }
        *done = done.saturating_add(chunk.len());
    }
    Drained::Empty
}

/// Busy high: the byte on the lines was taken (event 36), and the next one is not wanted yet.
fn is_taken(port: &mut impl Port) -> bool {
    !Dsr::from_bits_retain(port.read(Register::Dsr)).contains(Dsr::NOT_BUSY)
}

/// Sends one byte, `kind` being [`FORWARD`] for data and [`COMMAND`] for a command. A peripheral
/// that does not take it within `limit` milliseconds is recovered, and then waited for again: while
/// it answers that, it is alive.
///
/// # Errors
/// [`Fault::NoAnswer`], [`Fault::Interrupted`]
fn send<P: Port>(
    lines: &mut Lines<'_, P>,
    kind: Dcr,
    byte: u8,
    mut limit: u64,
) -> Result<(), Fault> {
    loop {
        // 32: Busy (PeriphAck) low, whenever that is.
        lines.wait_for_event(32, Dsr::NOT_BUSY, Dsr::NOT_BUSY)?;
        // 34: the byte, and HostAck for its kind.
        lines.data(byte);
        lines.control_is(kind);
        lines.settle();
        // 35: nStrobe low.
        lines.control(kind | Dcr::STROBE);
        // 36: Busy high.
        match lines.answer_within(limit, 36, Dsr::NOT_BUSY, Dsr::empty()) {
            Ok(_) => {
                // 37: nStrobe high. Event 32 is waited for before the next byte.
                lines.control(kind);
                return Ok(());
            }
            Err(Fault::NoAnswer(_)) => recover(lines, kind)?,
            Err(fault) => return Err(fault),
        }
        limit = STALL_MS;
    }
}

/// The host's recovery of a stalled transfer, with nStrobe low: otherwise it would ask for the
/// other direction. The byte that stalled was not taken.
///
/// # Errors
/// [`Fault::NoAnswer`]: the peripheral does not take part. [`Fault::Interrupted`]
fn recover<P: Port>(lines: &mut Lines<'_, P>, kind: Dcr) -> Result<(), Fault> {
    lines.check()?;
    // 72: nInit low.
    lines.control(lines.dcr() - Dcr::N_INIT);
    // 73: PError low.
    lines.answer_within(TR, 73, Dsr::P_ERROR, Dsr::empty())?;
    // 74: nStrobe and nInit high.
    lines.control(kind);
    // 75: PError high.
    lines.answer_within(TR, 75, Dsr::P_ERROR, Dsr::P_ERROR)?;
    Ok(())
}

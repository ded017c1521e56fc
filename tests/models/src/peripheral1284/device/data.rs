//! Bytes to send, with run-length encoding, and bytes that came.

use super::super::{Channel, Phase};
use super::{Device, Given, Latched, Offer, Trigger};
use crate::ViolationKind;

/// A run of so many bytes is worth a count.
const SHORTEST_RUN: usize = 3;
/// The most bytes that one count stands for.
const LONGEST_RUN: usize = 128;

impl Device {
    /// Whether there is something to send.
    pub(super) fn has_data(&self) -> bool {
        match self.id_next {
            Some(next) => next < self.id.len(),
            None => !self.source.is_empty(),
        }
    }

    /// What to send next.
    pub(super) fn next_offer(&mut self) -> Option<Offer> {
        let data = |byte, takes| Offer {
            byte,
            command: false,
            takes,
        };
        if let Some(next) = self.id_next {
            return self.id.get(next).map(|byte| data(*byte, 1));
        }
        let is_ecp = self.phase() == Phase::EcpReverse;
        loop {
            match *self.source.front()? {
                Given::Channel(channel) if is_ecp => {
                    return Some(Offer {
                        byte: 0x80 | channel,
                        command: true,
                        takes: 1,
                    });
                }
                Given::Channel(_) => {
                    self.source.pop_front();
                }
                Given::Data(byte) => {
                    if let Some(count) = self.run_out {
                        return Some(data(byte, count));
                    }
                    let same = |given: &&Given| **given == Given::Data(byte);
                    let longest = self.source.iter().take(LONGEST_RUN);
                    let count = if is_ecp && self.has_rle() {
                        longest.take_while(same).count()
                    } else {
                        1
                    };
                    return Some(match u8::try_from(count) {
                        Ok(count) if usize::from(count) >= SHORTEST_RUN => Offer {
                            byte: count - 1,
                            command: true,
                            takes: 0,
                        },
                        _ => data(byte, 1),
                    });
                }
            }
        }
    }

    /// The host has the offered byte.
    pub(super) fn sent(&mut self) {
        let Offer {
            byte,
            command,
            takes,
        } = self.offer;
        if let Some(next) = &mut self.id_next {
            *next += 1;
            self.moved += 1;
        } else if takes == 0 {
            self.run_out = Some(usize::from(byte) + 1);
        } else {
            self.run_out = None;
            let takes = takes.min(self.source.len());
            self.source.drain(..takes);
            if !command {
                self.moved += takes;
            }
        }
    }

    /// A forward ECP byte has come.
    pub(super) fn take_ecp(&mut self) {
        let Latched { byte, command, .. } = self.latched;
        if !command {
            let count = usize::from(self.run.take().unwrap_or(0)) + 1;
            self.take(Channel::Ecp(self.channel), byte, count);
        } else if byte & 0x80 != 0 {
            self.channel = byte & 0x7F;
        } else if self.has_rle() {
            self.run = Some(byte);
        } else {
            self.violation(ViolationKind::RunNotNegotiated);
        }
    }

    pub(super) fn take(&mut self, channel: Channel, byte: u8, count: usize) {
        if self
            .sections
            .last()
            .is_none_or(|(last, _)| *last != channel)
        {
            self.sections.push((channel, self.received.len()));
        }
        for _ in 0..count {
            self.received.push(byte);
        }
        self.moved += count;
    }

    /// A byte is through: the time for trouble that waits for the number of bytes.
    pub(super) fn byte_done(&mut self) {
        if !self.triggers.is_empty() {
            let moved = self.moved;
            self.begin_trouble(|trigger| matches!(trigger, Trigger::Bytes(n) if n <= moved));
        }
    }
}

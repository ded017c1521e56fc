//! Where a command packet is.

use super::CppViolationKind;
use crate::{HostLines, Nanos};

/// The bytes that begin a packet.
const ATTENTION: [u8; 4] = [0xAA, 0x55, 0x00, 0xFF];
/// How long a byte must be on the data lines.
const BYTE: Nanos = 7_000;
/// How long a command must be there before nStrobe, and nStrobe be low.
const STROBE: Nanos = 1_000;

/// What was seen last, or is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// No packet: the first bytes may come.
    #[default]
    Watching,
    /// AA 55 00 FF: the first answer is given.
    First,
    /// 87: the second.
    Second,
    /// 78: the third.
    Third,
    /// Commands, each with nStrobe, up to FF.
    Command,
}

/// What a change of the host's lines means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// nStrobe rose for this command.
    pub(super) command: Option<u8>,
    pub(super) broken: Option<CppViolationKind>,
}

#[derive(Debug)]
pub(super) struct Packet {
    stage: Stage,
    /// How many of the bytes that begin a packet were there.
    bytes: usize,
    /// nStrobe fell for the byte on the data lines.
    strobed: bool,
    host: HostLines,
    data_since: Nanos,
    strobe_since: Nanos,
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            stage: Stage::Watching,
            bytes: 0,
            strobed: false,
            host: HostLines::IDLE,
            data_since: 0,
            strobe_since: 0,
        }
    }
}

impl Packet {
    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// The command for which nStrobe fell last, until the data lines change.
    pub(super) fn given(&self) -> Option<u8> {
        (self.stage == Stage::Command && self.strobed).then_some(self.host.data)
    }

    /// The host's lines are `host` from `now` on.
    pub(super) fn step(&mut self, now: Nanos, host: HostLines) -> Step {
        let before = core::mem::replace(&mut self.host, host);
        let at_rest = HostLines {
            data: host.data,
            n_strobe: host.n_strobe,
            ..HostLines::IDLE
        };
        let mut command = None;
        let next = if host != at_rest || !(host.n_strobe || self.stage == Stage::Command) {
            // Another mode, a reset, a byte for a printer.
            if self.stage == Stage::Watching {
                Ok(Stage::Watching)
            } else {
                Err(CppViolationKind::OutOfOrder)
            }
        } else if host.n_strobe != before.n_strobe {
            self.strobe(now, host, &mut command)
        } else if host.data != before.data {
            self.data(now, host.data)
        } else {
            Ok(self.stage)
        };
        if host.n_strobe != before.n_strobe {
            self.strobe_since = now;
        }
        if host.data != before.data {
            self.data_since = now;
        }
        self.stage = next.unwrap_or_default();
        if self.stage != Stage::Watching || host != at_rest || !host.n_strobe {
            self.bytes = 0;
        }
        Step {
            command,
            broken: next.err(),
        }
    }

    fn strobe(
        &mut self,
        now: Nanos,
        host: HostLines,
        command: &mut Option<u8>,
    ) -> Result<Stage, CppViolationKind> {
        if self.stage != Stage::Command {
            // The end of a byte for a printer.
            return Ok(Stage::Watching);
        }
        self.strobed = true;
        if !host.n_strobe {
            if now - self.data_since < STROBE {
                return Err(CppViolationKind::SetUpTooShort);
            }
        } else if now - self.strobe_since < STROBE {
            return Err(CppViolationKind::StrobeTooShort);
        } else {
            *command = Some(host.data);
        }
        Ok(Stage::Command)
    }

    fn data(&mut self, now: Nanos, byte: u8) -> Result<Stage, CppViolationKind> {
        let short = now - self.data_since < BYTE;
        let strobed = core::mem::take(&mut self.strobed);
        match (self.stage, byte) {
            (Stage::Watching, _) => Ok(self.attention(byte, short)),
            (Stage::Command, _)
                if !self.host.n_strobe || strobed && now - self.strobe_since < BYTE =>
            {
                Err(CppViolationKind::HoldTooShort)
            }
            (Stage::First | Stage::Second | Stage::Third, _) if short => {
                Err(CppViolationKind::ByteTooShort)
            }
            (Stage::First, 0x87) => Ok(Stage::Second),
            (Stage::Second, 0x78) => Ok(Stage::Third),
            // The end, or given up.
            (_, 0xFF) | (Stage::First, 0x00) => Ok(Stage::Watching),
            (Stage::Third | Stage::Command, _) => Ok(Stage::Command),
            (Stage::First | Stage::Second, _) => Err(CppViolationKind::OutOfOrder),
        }
    }

    /// The bytes that begin a packet. Those that are too short begin none.
    fn attention(&mut self, byte: u8, short: bool) -> Stage {
        if self.bytes > 0 && !short && ATTENTION.get(self.bytes) == Some(&byte) {
            self.bytes += 1;
        } else {
            self.bytes = usize::from(byte == ATTENTION[0]);
        }
        if self.bytes == ATTENTION.len() {
            Stage::First
        } else {
            Stage::Watching
        }
    }
}

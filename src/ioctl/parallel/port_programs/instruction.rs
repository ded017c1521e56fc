//! The instructions of port programs: four bytes each, an operation and its operands.

/// A time in an instruction: 24 bits, of which the highest says that it is in microseconds, not
/// nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(u32);

impl Time {
    const MICROSECONDS: u32 = 1 << 23;
    /// The longest, in nanoseconds: 8.388607 s.
    pub const LONGEST_NS: u64 = (Self::MICROSECONDS as u64 - 1) * 1000;

    /// A time. Above 8.388607 ms it is rounded up to microseconds. `None`: longer than
    /// [`Time::LONGEST_NS`].
    #[must_use]
    pub fn from_ns(ns: u64) -> Option<Self> {
        if ns < u64::from(Self::MICROSECONDS) {
            return u32::try_from(ns).ok().map(Self);
        }
        let us = u32::try_from(ns.div_ceil(1000)).ok()?;
        (us < Self::MICROSECONDS).then_some(Self(us | Self::MICROSECONDS))
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn ns(self) -> u64 {
        let value = self.0 & (Self::MICROSECONDS - 1);
        if self.0 & Self::MICROSECONDS == 0 {
            value as u64
        } else {
            value as u64 * 1000
        }
    }

    const fn of([low, middle, high]: [u8; 3]) -> Self {
        Self(u32::from_le_bytes([low, middle, high, 0]))
    }

    const fn bytes(self) -> [u8; 3] {
        three(self.0)
    }
}

/// The lower three bytes.
const fn three(value: u32) -> [u8; 3] {
    let [low, middle, high, _] = value.to_le_bytes();
    [low, middle, high]
}

/// What GET reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GetRegister {
    /// The data register: the lines, if they are turned round.
    Data = 0,
    /// The status register, all eight bits.
    Status = 1,
    /// The control register, all eight bits.
    Control = 2,
}

/// What an EPP cycle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EppRegister {
    /// A data cycle.
    Data = 0,
    /// An address cycle.
    Address = 1,
}

impl EppRegister {
    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::Address),
            _ => None,
        }
    }
}

/// An instruction. Operand bytes that it does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// 1: writes the data register.
    Data(u8),
    /// 2: changes the control bits of the mask.
    Control {
        /// Their values.
        value: u8,
        /// Bits 0 to 3, and 5 (direction) where the chip has it.
        mask: u8,
    },
    /// 3: appends a register to the output.
    Get(GetRegister),
    /// 4: writes the next byte of the data area to the data register.
    NextData,
    /// 5: changes the control bits of the mask to those of the next byte of the data area, whose
    /// other bits are not used.
    NextControl {
        /// As in [`Instruction::Control`].
        mask: u8,
    },
    /// 6: waits until (status & mask) == value. [`Instruction::Until`] follows it.
    Wait {
        /// Status bits, 3 to 7.
        mask: u8,
        /// What they shall be.
        value: u8,
        /// A time-out does not end the program; the status as it was seen last is appended to the
        /// output in any case.
        go_on: bool,
    },
    /// 7: the time-out of the WAIT before it.
    Until(Time),
    /// 8: the next access is over at least this long after the last one.
    Delay(Time),
    /// 9: from here, DATA and `NEXT_DATA` are this far apart, on a grid that begins with the first
    /// of them. 0: not any more.
    Pace(Time),
    /// 10: what follows, up to its END, is done so many times: 1 to 2^24 - 1.
    Loop(u32),
    /// 11: the end of the innermost LOOP.
    End,
    /// 12: one EPP write cycle.
    EppOut(EppRegister, u8),
    /// 13: one EPP read cycle, whose byte is appended to the output.
    EppIn(EppRegister),
}

impl Instruction {
    /// The instruction of four bytes. `None`: there is no such instruction.
    #[must_use]
    pub const fn decode([operation, a, b, c]: [u8; 4]) -> Option<Self> {
        Some(match (operation, a, b, c) {
            (1, value, 0, 0) => Self::Data(value),
            (2, value, mask, 0) => Self::Control { value, mask },
            (3, 0, 0, 0) => Self::Get(GetRegister::Data),
            (3, 1, 0, 0) => Self::Get(GetRegister::Status),
            (3, 2, 0, 0) => Self::Get(GetRegister::Control),
            (4, 0, 0, 0) => Self::NextData,
            (5, mask, 0, 0) => Self::NextControl { mask },
            (6, mask, value, flags @ (0 | 1)) => Self::Wait {
                mask,
                value,
                go_on: flags == 1,
            },
            (7, ..) => Self::Until(Time::of([a, b, c])),
            (8, ..) => Self::Delay(Time::of([a, b, c])),
            (9, ..) => Self::Pace(Time::of([a, b, c])),
            (10, ..) => Self::Loop(u32::from_le_bytes([a, b, c, 0])),
            (11, 0, 0, 0) => Self::End,
            (12, register, value, 0) => match EppRegister::of(register) {
                Some(register) => Self::EppOut(register, value),
                None => return None,
            },
            (13, register, 0, 0) => match EppRegister::of(register) {
                Some(register) => Self::EppIn(register),
                None => return None,
            },
            _ => return None,
        })
    }

    /// Its four bytes. Of a LOOP, the lower 24 bits of its number count.
    #[must_use]
    pub const fn encode(self) -> [u8; 4] {
        match self {
            Self::Data(value) => [1, value, 0, 0],
            Self::Control { value, mask } => [2, value, mask, 0],
            Self::Get(register) => [3, register as u8, 0, 0],
            Self::NextData => [4, 0, 0, 0],
            Self::NextControl { mask } => [5, mask, 0, 0],
            Self::Wait { mask, value, go_on } => [6, mask, value, go_on as u8],
            Self::Until(time) => long_of(7, time.bytes()),
            Self::Delay(time) => long_of(8, time.bytes()),
            Self::Pace(time) => long_of(9, time.bytes()),
            Self::Loop(times) => long_of(10, three(times)),
            Self::End => [11, 0, 0, 0],
            Self::EppOut(register, value) => [12, register as u8, value, 0],
            Self::EppIn(register) => [13, register as u8, 0, 0],
        }
    }
}

/// An instruction with a long operand.
const fn long_of(operation: u8, [a, b, c]: [u8; 3]) -> [u8; 4] {
    [operation, a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_mean_one_instruction() {
        for operation in 0..=u8::MAX {
            for operands in [
                [0, 0, 0],
                [1, 0, 0],
                [2, 0, 0],
                [3, 0, 0],
                [0x55, 0x2F, 0],
                [0xF8, 0x80, 1],
                [0xF8, 0x80, 2],
                [1, 2, 0xFF],
            ] {
                let bytes = [operation, operands[0], operands[1], operands[2]];
                if let Some(instruction) = Instruction::decode(bytes) {
                    assert_eq!(instruction.encode(), bytes);
                    assert!((1..=13).contains(&operation));
                }
            }
        }
    }

    #[test]
    fn times_are_exact_to_eight_milliseconds_and_never_shorter() {
        for ns in [0, 1, 999, 22_676, 8_388_607] {
            assert_eq!(Time::from_ns(ns).map(Time::ns), Some(ns));
        }
        assert_eq!(
            Time::from_ns(8_388_608).map(Time::ns),
            Some(8_389_000),
            "rounded up"
        );
        assert_eq!(
            Time::from_ns(Time::LONGEST_NS).map(Time::ns),
            Some(8_388_607_000)
        );
        assert_eq!(Time::from_ns(Time::LONGEST_NS + 1), None);
        assert_eq!(Time::from_ns(u64::MAX), None);
    }
}

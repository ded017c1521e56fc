//! `IOCTL_SET_TIMEOUT`: how long a handle's transfers may take.

use super::{Pipe, Status, take, usbscan_code};
use crate::ioctl::layout::layout;

/// 0x8000202C. Input: `USBSCAN_TIMEOUT`, 12 bytes. No output.
pub const IOCTL_SET_TIMEOUT: u32 = usbscan_code(11);

/// How long something may take: whole seconds up to 214, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// 0: for ever.
    seconds: u32,
}

impl Timeout {
    /// The longest one. Of more, the documentation says that it makes transfers time out, as a
    /// signed 32-bit number of 100 ns units does at 214.7 seconds.
    pub const MAXIMUM: Self = Self { seconds: 214 };
    /// What a read, a write or a control request may take before a program sets it.
    pub const DEFAULT: Self = Self { seconds: 120 };
    /// No limit.
    pub const FOR_EVER: Self = Self { seconds: 0 };

    /// From a member of `USBSCAN_TIMEOUT`. 0 is for ever. More than the maximum is the maximum:
    /// old clients keep working, and no transfer ends too early.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Self {
        Self {
            seconds: seconds.min(Self::MAXIMUM.seconds),
        }
    }

    /// In milliseconds. `None`: for ever.
    #[must_use]
    pub fn milliseconds(self) -> Option<u64> {
        self.units(1_000)
    }

    /// In units of 100 ns, as timers of the kernel take it. `None`: for ever.
    #[must_use]
    pub fn hundred_nanoseconds(self) -> Option<u64> {
        self.units(10_000_000)
    }

    fn units(self, per_second: u64) -> Option<u64> {
        (self.seconds != 0).then(|| u64::from(self.seconds).saturating_mul(per_second))
    }
}

/// `USBSCAN_TIMEOUT`: three `ULONG`s, in seconds; what they mean says [`Timeout::from_seconds`]. It
/// belongs to a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `TimeoutRead`: a whole `ReadFile`, or a control request that takes from the device
    pub read: u32,
    /// `TimeoutWrite`: a whole `WriteFile`, or a control request that sends to the device
    pub write: u32,
    /// `TimeoutEvent`: a whole `IOCTL_WAIT_ON_DEVICE_EVENT`
    pub event: u32,
}

layout! { Timeouts, 12: {
    0x00 => read: u32,
    0x04 => write: u32,
    0x08 => event: u32,
} }

impl Timeouts {
    /// That of the transfers on this pipe.
    #[must_use]
    pub fn of(self, pipe: Pipe) -> Timeout {
        Timeout::from_seconds(match pipe {
            Pipe::Event => self.event,
            Pipe::ReadData => self.read,
            Pipe::WriteData => self.write,
        })
    }

    /// That of a control request, whose data comes from the device (`is_in`) or goes to it. The
    /// documentation speaks of reads, writes and events only; these are the same for the client.
    /// One that waits for ever would keep all that follow it from the device, so where that is set
    /// it is the default.
    #[must_use]
    pub fn of_control(self, is_in: bool) -> Timeout {
        let set = Timeout::from_seconds(if is_in { self.read } else { self.write });
        if set == Timeout::FOR_EVER {
            Timeout::DEFAULT
        } else {
            set
        }
    }

    /// Checks the input.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: it is shorter than 12 bytes.
    pub(super) fn parse(input: &[u8]) -> Result<Self, Status> {
        take(input)
            .map(|bytes| Self::from_bytes(&bytes))
            .ok_or(Status::INVALID_PARAMETER)
    }
}

/// What a handle begins with. Events have no limit, other than the documentation's "default is 120
/// seconds" says: a client waits for a button once, for as long as the device is there.
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            read: Timeout::DEFAULT.seconds,
            write: Timeout::DEFAULT.seconds,
            event: Timeout::FOR_EVER.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_write_event() {
        let input = [1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 9];
        let timeouts = Timeouts::parse(&input).unwrap();
        assert_eq!(timeouts.of(Pipe::ReadData).milliseconds(), Some(1_000));
        assert_eq!(timeouts.of(Pipe::WriteData), Timeout::FOR_EVER);
        assert_eq!(timeouts.of(Pipe::Event), Timeout::MAXIMUM);
        assert_eq!(
            Timeouts::parse(&input[..11]),
            Err(Status::INVALID_PARAMETER)
        );
    }

    #[test]
    fn the_default_is_two_minutes_and_for_ever_for_events() {
        let timeouts = Timeouts::default();
        for timeout in [Pipe::ReadData, Pipe::WriteData].map(|pipe| timeouts.of(pipe)) {
            assert_eq!(timeout.milliseconds(), Some(120_000));
            assert_eq!(timeout.hundred_nanoseconds(), Some(1_200_000_000));
        }
        let event = timeouts.of(Pipe::Event);
        assert_eq!(event.milliseconds(), None);
        assert_eq!(event.hundred_nanoseconds(), None);
    }

    #[test]
    fn a_control_request_ends() {
        let input = [7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let set = Timeouts::parse(&input).unwrap();
        assert_eq!(set.of_control(true).milliseconds(), Some(7_000));
        assert_eq!(set.of_control(false).milliseconds(), Some(9_000));
        for never in [Timeouts::default(), Timeouts::parse(&[0; 12]).unwrap()] {
            for is_in in [true, false] {
                assert_eq!(never.of_control(is_in), Timeout::DEFAULT);
            }
        }
    }

    #[test]
    fn seconds_beyond_214_are_214() {
        for (seconds, milliseconds) in [
            (0, None),
            (1, Some(1_000)),
            (213, Some(213_000)),
            (214, Some(214_000)),
            (215, Some(214_000)),
            (u32::MAX, Some(214_000)),
        ] {
            let timeout = Timeout::from_seconds(seconds);
            assert_eq!(timeout.milliseconds(), milliseconds, "{seconds}");
            assert_eq!(
                timeout.hundred_nanoseconds(),
                milliseconds.map(|milliseconds| milliseconds * 10_000)
            );
        }
    }
}

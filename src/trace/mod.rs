//! What the driver tells an administrator: the events of its ETW provider, and the entries in the
//! event log. The words; `kernel` sends them.
//!
//! | part | what it is |
//! |---|---|
//! | [`TraceEvent`] | what can happen, with its level, its keyword, its fields and what to do about it |
//! | [`wire`] | TraceLogging's format, in which events describe themselves |
//! | [`Limit`] | how many of a kind go out |
//! | [`Step`] | where a start failed, and what the event log says of it |
//!
//! No event has data of a user, an address of memory, or an I/O address. All are listed in
//! `tests/windows/README.md`.
#![forbid(unsafe_code)]

mod limit;
pub mod message;
pub mod wire;

use crate::ioctl::Status;
pub use limit::{Limit, MOST};
pub use message::Step;
pub use wire::Payload;
use wire::{Field, Type, metadata, metadata_size, traits};

/// The provider's name.
pub const PROVIDER: &str = "Parscan";
/// Its GUID, `{5d67e879-5dd6-56ae-75b1-ef3dd824ae50}`: what ETW tools make of the name by
/// themselves.
pub const PROVIDER_GUID: (u32, u16, u16, u64) =
    (0x5d67_e879, 0x5dd6, 0x56ae, 0x75b1_ef3d_d824_ae50);
/// Its traits, for `EtwSetInformation` and as the first block of every event.
pub static TRAITS: [u8; 2 + PROVIDER.len() + 1] = traits(PROVIDER);

/// `Level` of an event (winmeta.h): what is as urgent, or more, goes to a session that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// `WINEVENT_LEVEL_ERROR`
    Error = 2,
    /// `WINEVENT_LEVEL_WARNING`
    Warning = 3,
    /// `WINEVENT_LEVEL_INFO`
    Info = 4,
    /// `WINEVENT_LEVEL_VERBOSE`
    Verbose = 5,
}

/// Which device: `LPT1`, `Usbscan0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    name: &'static str,
    number: u32,
}

impl Label {
    /// A device that has no name yet.
    pub const NEW: Self = Self {
        name: "new device",
        number: u32::MAX,
    };

    /// A parallel port and its devices: `LPTn`.
    #[must_use]
    pub const fn port(number: u32) -> Self {
        Self {
            name: "LPT",
            number,
        }
    }

    /// A scanner: `UsbscanN`.
    #[must_use]
    pub const fn scanner(number: u32) -> Self {
        Self {
            name: "Usbscan",
            number,
        }
    }

    /// Hands its letters to `take`.
    pub fn letters(self, mut take: impl FnMut(u8)) {
        for byte in self.name.bytes() {
            take(byte);
        }
        let Self { number, .. } = self;
        if number == u32::MAX {
            return;
        }
        // Three digits: the highest number of either kind is 255.
        for (digit, least) in [(number / 100, 100), (number / 10, 10), (number, 0)] {
            if number >= least {
                take(b'0' + (digit % 10) as u8);
            }
        }
    }
}

const DIGITS: [u8; 16] = *b"0123456789ABCDEF";

/// The letters of a status, `0xC0000182`.
#[must_use]
pub fn status_letters(status: Status) -> [u8; 10] {
    let mut letters = *b"0x00000000";
    let mut rest = status.0.cast_unsigned();
    for letter in letters.iter_mut().rev().take(8) {
        *letter = DIGITS.get((rest & 0xF) as usize).copied().unwrap_or(b'?');
        rest >>= 4;
    }
    letters
}

/// Why a device did not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It did not answer the request for a mode.
    NotIeee1284,
    /// It did not answer within the standard's limit in the middle of a mode.
    NoAnswer,
    /// An EPP cycle ended without it.
    Epp,
    /// It did not take what the program sent within the program's own time-out.
    WriteTime,
    /// It had nothing to read within the program's own time-out.
    ReadTime,
    /// A USB device did not end a transfer in time.
    Usb,
}

impl Cause {
    /// What an administrator can do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotIeee1284 => {
                "The device is off, or has no IEEE 1284 mode, or the cable lacks lines for it: use Centronics mode, or another cable."
            }
            Self::NoAnswer => {
                "The device stopped in the middle of this mode: switch it off and on, use an IEEE 1284 cable, or choose a slower mode."
            }
            Self::Epp => {
                "No answer in an EPP cycle: see that the device is on and speaks EPP, and that the firmware setup has the port in EPP mode."
            }
            Self::WriteTime => {
                "The device stayed busy or showed a fault: look at its panel for paper, cover and on-line, or let the program wait longer."
            }
            Self::ReadTime => {
                "The device had nothing to say: see that it is on and was told to answer, or let the program wait longer."
            }
            Self::Usb => {
                "The scanner did not answer in time: wait until it has warmed up, unplug and plug it, or let the program wait longer."
            }
        }
    }
}

/// What went wrong with a transfer on USB, by its `USBD_STATUS`.
#[must_use]
pub const fn usb_remedy(usbd_status: u32) -> &'static str {
    match usbd_status {
        // STALL_PID, ENDPOINT_HALTED
        0xC000_0004 | 0xC000_0030 => {
            "The scanner refused the request (STALL). If it stays so, the program must reset the pipe; or unplug and plug the scanner."
        }
        // CRC, BTSTUFF, DATA_TOGGLE_MISMATCH, DEV_NOT_RESPONDING, PID_CHECK_FAILURE, XACT_ERROR
        0xC000_0001..=0xC000_0003 | 0xC000_0005 | 0xC000_0006 | 0xC000_0011 => {
            "The bus lost packets: use a shorter cable and another port, without a hub."
        }
        // DATA_OVERRUN, BUFFER_OVERRUN
        0xC000_0008 | 0xC000_000C => {
            "The scanner sent more than was asked for: its firmware errs, or the program asks for the wrong length."
        }
        // DEVICE_GONE
        0xC000_7000 => {
            "The scanner was unplugged, or lost its power: see its plug and its power supply."
        }
        _ => {
            "Unplug and plug the scanner. If it happens again try another port; and report this status to the project."
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// A device was started.
    Started,
    /// A device could not be started.
    StartFailed {
        /// Where.
        step: Step,
        /// What the PnP manager is told.
        status: Status,
    },
    /// A device did not answer.
    TimedOut {
        /// Why.
        cause: Cause,
        /// The mode, or what was asked of it.
        mode: &'static str,
        /// The number of IEEE 1284's event that did not come; 0: none that has one.
        event: u8,
    },
    /// A port has a new owner.
    PortTaken {
        /// Whether it is a kernel client, or a device object.
        by_client: bool,
    },
    /// A client kept the port for longer than a request waits.
    PortBusy {
        /// In milliseconds.
        waited: u32,
    },
    /// A device got another power state.
    Power {
        /// `PowerDeviceD0`: whether it works now.
        works: bool,
    },
    /// A device was refused its power.
    PowerRefused,
    /// A URB failed.
    UsbError {
        /// Index of the endpoint, or 255: the default control pipe.
        pipe: u8,
        /// `URB_FUNCTION_*`
        function: u16,
        /// `USBD_STATUS`
        usbd_status: u32,
        /// That of the IRP.
        status: Status,
    },
}

/// What is the same for all events of a kind.
pub struct EventKind {
    /// Its place among all of them.
    pub index: usize,
    /// `Level`
    pub level: Level,
    /// `Keyword`
    pub keyword: u64,
    /// Its metadata.
    pub metadata: &'static [u8],
}

/// How many kinds of event there are.
pub const KINDS: usize = 8;

/// Declares the kinds: each one's place, level, keyword, name and fields. Every event begins with
/// the device and ends with how many of its kind were left out before it.
macro_rules! kinds {
    ($($place:literal $constant:ident = $level:ident, $keyword:literal, $name:literal, [$($field:literal $type:ident),*];)*) => {
        $(
            const $constant: EventKind = {
                const FIELDS: &[Field] = &[
                    ("Device", Type::Text),
                    $(($field, Type::$type),)*
                    ("LeftOut", Type::U16),
                ];
                static METADATA: [u8; metadata_size($name, FIELDS)] = metadata($name, FIELDS);
                assert!($place < KINDS);
                EventKind {
                    index: $place,
                    level: Level::$level,
                    keyword: $keyword,
                    metadata: &METADATA,
                }
            };
        )*
    };
}

kinds! {
    0 STARTED = Info, 0x01, "Started", [];
    1 START_FAILED = Error, 0x01, "StartFailed", ["Step" Text, "Status" NtStatus, "Remedy" Text];
    2 TIMED_OUT = Warning, 0x02, "TimedOut", ["Mode" Text, "Ieee1284Event" U8, "Remedy" Text];
    3 PORT_TAKEN = Verbose, 0x04, "PortTaken", ["Owner" Text];
    4 PORT_BUSY = Warning, 0x04, "PortBusy", ["WaitedMilliseconds" U32, "Remedy" Text];
    5 POWER = Info, 0x08, "Power", ["State" Text];
    6 POWER_REFUSED = Warning, 0x08, "PowerRefused", ["Remedy" Text];
    7 USB_ERROR = Warning, 0x10, "UsbError", ["Pipe" U8, "UrbFunction" U16, "UsbdStatus" Hex32, "Status" NtStatus, "Remedy" Text];
}

const BUSY_REMEDY: &str = "Another program or driver keeps the port: end it (parscanctl doctor shows who has it), or raise ParscanPortTimeout.";
const REFUSED_REMEDY: &str = "The bus did not give the device its power back: unplug and plug it, or disable and enable it in Device Manager.";

impl TraceEvent {
    /// What is the same for all events of its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static EventKind {
        match self {
            Self::Started => &STARTED,
            Self::StartFailed { .. } => &START_FAILED,
            Self::TimedOut { .. } => &TIMED_OUT,
            Self::PortTaken { .. } => &PORT_TAKEN,
            Self::PortBusy { .. } => &PORT_BUSY,
            Self::Power { .. } => &POWER,
            Self::PowerRefused => &POWER_REFUSED,
            Self::UsbError { .. } => &USB_ERROR,
        }
    }

    /// The values of its fields.
    #[must_use]
    pub fn payload(&self, device: Label, left_out: u16) -> Payload {
        // In place: a kernel stack is small.
        let mut payload = Payload::EMPTY;
        payload.label(device);
        match *self {
            Self::Started => &mut payload,
            Self::StartFailed { step, status } => {
                payload.text(step.name()).status(status).text(step.remedy())
            }
            Self::TimedOut { cause, mode, event } => {
                payload.text(mode).u8(event).text(cause.remedy())
            }
            Self::PortTaken { by_client } => payload.text(if by_client {
                "kernel client"
            } else {
                "device object"
            }),
            Self::PortBusy { waited } => payload.u32(waited).text(BUSY_REMEDY),
            Self::Power { works } => payload.text(if works { "D0" } else { "D3" }),
            Self::PowerRefused => payload.text(REFUSED_REMEDY),
            Self::UsbError {
                pipe,
                function,
                usbd_status,
                status,
            } => payload
                .u8(pipe)
                .u16(function)
                .u32(usbd_status)
                .status(status)
                .text(usb_remedy(usbd_status)),
        };
        payload.u16(left_out);
        payload
    }
}

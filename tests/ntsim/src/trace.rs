//! What happened, in order, with virtual time.

use core::fmt;

use crate::{Nanos, NtStatus};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A driver called a kernel function (only with [`Config::trace_calls`](crate::Config)).
    Call {
        /// Name of the function.
        name: &'static str,
        /// Return address, relative to the driver's image.
        rva: u32,
    },
    /// An IRP reached a driver's dispatch routine.
    Dispatch {
        /// Serial number of the IRP.
        irp: u64,
        /// Major and minor function.
        function: (u8, u8),
        /// I/O control code, 0 for other requests.
        code: u32,
        /// Name of the driver.
        driver: String,
    },
    /// A dispatch routine returned.
    Returned {
        /// Serial number of the IRP.
        irp: u64,
        /// What it returned.
        status: NtStatus,
    },
    /// An IRP was completed.
    Completed {
        /// Serial number of the IRP.
        irp: u64,
        /// `IoStatus.Status`.
        status: NtStatus,
        /// `IoStatus.Information`.
        information: usize,
    },
    /// One port access.
    Port {
        /// `true` for `out`.
        write: bool,
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        bytes: u8,
        /// Value read or written.
        value: u32,
    },
    /// A URB: `->` what it asks for, `<-` what came of it.
    Urb {
        /// Its number since boot.
        number: u64,
        /// Function, members, SETUP packets and the first bytes of the data.
        text: String,
    },
    /// `DbgPrint`.
    Debug(String),
    /// A remark of the machine.
    Note(String),
}

/// An event with its time and thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Virtual time since boot, nanoseconds.
    pub at: Nanos,
    /// Serial number of the thread.
    pub thread: u32,
    /// What happened.
    pub kind: EventKind,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12}.{:03} us  t{:<3} ",
            self.at / 1000,
            self.at % 1000,
            self.thread
        )?;
        match &self.kind {
            EventKind::Call { name, rva } => write!(f, "call  {name} from +{rva:#x}"),
            EventKind::Dispatch {
                irp,
                function,
                code,
                driver,
            } => {
                write!(f, "irp{irp:<4} -> {driver} {}", major_name(function.0))?;
                match (function.0, *code) {
                    (0x1B, _) => write!(f, " {}", pnp_minor_name(function.1)),
                    (0x16 | 0x17, _) => write!(f, " minor {:#04x}", function.1),
                    (_, 0) => Ok(()),
                    (_, code) => write!(f, " {code:#010x}"),
                }
            }
            EventKind::Returned { irp, status } => write!(f, "irp{irp:<4} returned {status}"),
            EventKind::Completed {
                irp,
                status,
                information,
            } => write!(
                f,
                "irp{irp:<4} completed {status}, Information {information:#x}"
            ),
            EventKind::Port {
                write,
                port,
                bytes,
                value,
            } => {
                let digits = usize::from(*bytes) * 2;
                if *write {
                    write!(f, "out   {port:#06x} <- {value:0digits$x}")
                } else {
                    write!(f, "in    {port:#06x} -> {value:0digits$x}")
                }
            }
            EventKind::Urb { number, text } => write!(f, "urb{number:<4} {text}"),
            EventKind::Debug(text) => write!(f, "dbg   {}", text.trim_end()),
            EventKind::Note(text) => write!(f, "--    {text}"),
        }
    }
}

/// `IRP_MJ_` name of a major function.
#[must_use]
pub fn major_name(major: u8) -> &'static str {
    match major {
        0 => "CREATE",
        2 => "CLOSE",
        3 => "READ",
        4 => "WRITE",
        5 => "QUERY_INFORMATION",
        6 => "SET_INFORMATION",
        9 => "FLUSH_BUFFERS",
        0x0E => "DEVICE_CONTROL",
        0x0F => "INTERNAL_DEVICE_CONTROL",
        0x10 => "SHUTDOWN",
        0x12 => "CLEANUP",
        0x16 => "POWER",
        0x17 => "SYSTEM_CONTROL",
        0x1B => "PNP",
        _ => "OTHER",
    }
}

/// `IRP_MN_` name of a PnP minor function.
#[must_use]
pub fn pnp_minor_name(minor: u8) -> &'static str {
    match minor {
        0x00 => "START_DEVICE",
        0x01 => "QUERY_REMOVE_DEVICE",
        0x02 => "REMOVE_DEVICE",
        0x03 => "CANCEL_REMOVE_DEVICE",
        0x04 => "STOP_DEVICE",
        0x05 => "QUERY_STOP_DEVICE",
        0x06 => "CANCEL_STOP_DEVICE",
        0x07 => "QUERY_DEVICE_RELATIONS",
        0x08 => "QUERY_INTERFACE",
        0x09 => "QUERY_CAPABILITIES",
        0x0A => "QUERY_RESOURCES",
        0x0B => "QUERY_RESOURCE_REQUIREMENTS",
        0x0C => "QUERY_DEVICE_TEXT",
        0x0D => "FILTER_RESOURCE_REQUIREMENTS",
        0x13 => "QUERY_ID",
        0x14 => "QUERY_PNP_DEVICE_STATE",
        0x15 => "QUERY_BUS_INFORMATION",
        0x16 => "DEVICE_USAGE_NOTIFICATION",
        0x17 => "SURPRISE_REMOVAL",
        0x19 => "DEVICE_ENUMERATED",
        _ => "unknown minor",
    }
}

//! What is shared by all who use a port: its device objects, their requests, and kernel clients.
//!
//! | module | what it does with it |
//! |---|---|
//! | `lifecycle` | PnP and power: the hardware comes and goes |
//! | `arbitration` | one owner at a time, and what its end undoes |
//! | `chip_mode` | the ECR mode that a client has chosen |
//! | `chain` | the IEEE 1284.3 chain, and what the port can do |
//! | `clients` | the internal requests and routines of parallel.h |

mod arbitration;
mod chain;
mod chip_mode;
mod clients;
mod lifecycle;

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};

use super::{Hardware, PortNumber, edges::EdgeWatch, lines::LinesState};
use crate::{
    DeviceRole,
    ieee1284::Before,
    ioctl::Status,
    kernel::{
        Device, Interrupt, Passive, PhysicalDevice, PortArbiter, PowerSupply, Rundown, Shared,
        SpinLock, Waiter, Waits, Wide,
    },
};

/// `REG_DWORD` in the hardware key of a port: how long a request of a device object waits for the
/// port, in milliseconds.
const PORT_TIMEOUT: &str = "ParscanPortTimeout";
/// The time without it.
const DEFAULT_TIMEOUT_MS: u32 = 5000;
/// `REG_DWORD` in the hardware key of a port: not 0 lets kernel clients connect to its interrupt.
const CONNECT_INTERRUPT: &str = "EnableConnectInterruptIoctl";

/// `REG_DWORD` in the hardware key of a port: 0 leaves the lines alone until a program uses the
/// port, so that Windows does not learn what is on it.
const PROBE: &str = "ParscanProbe";

/// No device of the chain is selected.
const NONE: u8 = u8::MAX;

/// It was not found out.
const UNKNOWN: u8 = u8::MAX;

/// What everybody shares who uses a port: its device objects, their requests, and the kernel
/// clients that have the port object open, for as long as one of them is there.
pub(crate) struct PortCore {
    number: PortNumber,
    pdo: PhysicalDevice,
    hardware: Rundown<Hardware>,
    /// What was found at the last start, which a sleep does not change. Nothing while the port is
    /// stopped.
    found: SpinLock<Option<Hardware>>,
    power: Shared<PowerSupply>,
    /// The port should have power, and was refused it.
    lost: Waiter,
    arbiter: PortArbiter,
    /// For waits of the driver itself: they end when the port vanishes.
    waiter: Waiter,
    /// The port is the system's, now or next, for its power went.
    sleeps: AtomicBool,
    /// How often the port was put at rest after its power came back.
    wakes: AtomicU32,
    /// A look at the devices on the port did not find out who is there.
    unknown: AtomicBool,
    /// How long a request waits for the port, in milliseconds.
    acquire_timeout: AtomicU32,
    /// Registers answer behind the resources.
    present: AtomicBool,
    /// Peripherals may be asked who they are.
    probes: AtomicBool,
    /// The chain was looked for.
    surveyed: AtomicBool,
    /// Whether the data lines can be read, as far as it was found out: [`UNKNOWN`], 0 or 1.
    byte: AtomicU8,
    /// The device object that has left EPP connected, while it does not have the port; 0: none.
    held: AtomicUsize,
    /// The lines before the power went.
    lines: SpinLock<Option<Before>>,
    /// Lines that programs set.
    raw: LinesState,
    /// Edges that a program watches.
    edges: EdgeWatch,
    /// The ECR value that a client has set; 0: none.
    chip_mode: AtomicU8,
    /// For the thread that writes it to the chip.
    chip: SpinLock<()>,
    /// Devices in the IEEE 1284.3 chain.
    chain: AtomicU8,
    /// The one that is selected.
    selected: AtomicU8,
    /// Opens of the port object.
    opens: AtomicU32,
    /// Connections of class drivers (`IOCTL_INTERNAL_PARCLASS_CONNECT`).
    connections: AtomicU32,
    interrupt: Interrupt,
    interrupt_allowed: AtomicBool,
    /// The symbolic link's name, whose address clients are told, and a NUL.
    link: Wide<32>,
}

impl PortCore {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(
        device: Device<'_, DeviceRole>,
        pdo: PhysicalDevice,
        number: PortNumber,
        power: Shared<PowerSupply>,
        passive: Passive,
    ) -> Result<Self, Status> {
        Ok(Self {
            number,
            pdo,
            hardware: Rundown::try_closed(passive)?,
            found: SpinLock::new(None),
            power,
            lost: Waiter::try_new()?,
            arbiter: PortArbiter::try_new(device)?,
            waiter: Waiter::try_new()?,
            sleeps: AtomicBool::new(false),
            wakes: AtomicU32::new(0),
            unknown: AtomicBool::new(false),
            acquire_timeout: AtomicU32::new(DEFAULT_TIMEOUT_MS),
            present: AtomicBool::new(true),
            probes: AtomicBool::new(true),
            surveyed: AtomicBool::new(false),
            byte: AtomicU8::new(UNKNOWN),
            held: AtomicUsize::new(0),
            lines: SpinLock::new(None),
            raw: LinesState::new(),
            edges: EdgeWatch::new(),
            chip_mode: AtomicU8::new(0),
            chip: SpinLock::new(()),
            chain: AtomicU8::new(0),
            selected: AtomicU8::new(NONE),
            opens: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            interrupt: Interrupt::try_new(passive)?,
            interrupt_allowed: AtomicBool::new(false),
            link: number.link_name().push("\0"),
        })
    }

    pub(super) const fn number(&self) -> PortNumber {
        self.number
    }

    /// The physical device object below the port object.
    pub(super) const fn pdo(&self) -> PhysicalDevice {
        self.pdo
    }

    /// The lines that programs set.
    pub(super) const fn raw(&self) -> &LinesState {
        &self.raw
    }

    /// The watch on edges.
    pub(super) const fn edges(&self) -> &EdgeWatch {
        &self.edges
    }

    /// The interrupt line.
    pub(super) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The waits of something that the driver does for itself.
    pub(super) fn waits<'a>(&'a self, passive: Passive<'a>) -> Waits<'a> {
        Waits::new(&self.waiter, passive.blocking())
    }
}

//! parscan: a Windows kernel driver (WDM) for parallel ports and USB still-image devices.
//!
//! # The map
//! A request travels one way: IRP → dispatch → parsed request → role → protocol → completion. It is
//! parsed once, in dispatch; what waits in a queue has the parsed request with its IRP.
//!
//! | module | what lives there |
//! |---|---|
//! | `kernel` | safe types over `wdk-sys`: IRPs, devices, PnP, queues, workers, registry, port I/O, URBs. The only module with `unsafe`; it knows nothing of printers, but has the C side of the routines that parallel.h promises |
//! | [`ioctl`] | control codes and layouts, parsed from and written to bytes. Runs on any host |
//! | [`ieee1284`] | registers, status lines and what a host does with them, over a small `Port` trait. Runs on any host |
//! | [`usb`] | descriptors, pipes and bulk transfers of USB devices. Runs on any host |
//! | [`sharing`] | what several processors ask for at once: who has the port, which URBs are out. State machines that `kernel` keeps under its locks. Runs on any host |
//! | [`trace`] | what the driver tells an administrator: events and the event log's messages, in TraceLogging's format. Runs on any host |
//! | `parallel` | the parallel role: the port object, the device objects `LPTn`, who has the port, their requests |
//! | `usbscan` | the still-image role: the device object `UsbscanN`, its opens, their requests |
//!
//! `kernel` is generic over a `Role`, the enum below: what a device object of this driver is.
//! `AddDevice` chooses from the device itself; the INF's `Role` parameter only overrides that. On
//! ARM64, which has no I/O space, it knows the still-image role alone.
//!
//! To add a request, see [`ioctl`]. What Windows documents, and how its contradictions are decided,
//! is told where it is implemented.
#![no_std]

pub mod ieee1284;
pub mod ioctl;
mod kernel;
mod parallel;
pub mod sharing;
pub mod trace;
pub mod usb;
mod usbscan;

extern crate wdk_panic;

use ioctl::Status;
use kernel::{
    Device, Disposition, Driver, Irp, Key, Passive, PhysicalDevice, Pnp, PortSpace, Property,
    Request, Wide,
};

/// What serves `alloc`, should the driver need it: nonpaged pool, through `try_` functions only.
#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

/// What a device object of this driver is.
#[allow(
    clippy::large_enum_variant,
    reason = "one value in each device extension, which is never moved"
)]
enum DeviceRole {
    /// A parallel port: a function device object.
    Port(parallel::ParallelPort),
    /// A device on a parallel port, `LPTn`: a child of a port.
    ParallelDevice(parallel::ParallelDevice),
    /// A scanner or camera: a function device object.
    StillImage(usbscan::Scanner),
}

/// The entry point of the driver, called once by the I/O manager at `PASSIVE_LEVEL`.
///
/// The service's registry path is not used: driver package isolation forbids it.
// The one function of this name in the image.
#[unsafe(export_name = "DriverEntry")]
extern "system" fn driver_entry(
    driver: &mut wdk_sys::DRIVER_OBJECT,
    _registry_path: wdk_sys::PCUNICODE_STRING,
) -> wdk_sys::NTSTATUS {
    kernel::initialize::<DeviceRole>(driver)
}

/// The kinds of hardware that Windows may hand to this driver.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On processors that have an I/O space.
    Parallel(PortSpace),
    StillImage,
}

/// The setup class of ports, `Ports` (devguid.h).
const PORTS_CLASS: &str = "{4D36E978-E325-11CE-BFC1-08002BE10318}";

impl Kind {
    /// What a device is: `Role` of the INF, if it is there; else by bus and setup class.
    fn of(driver: Driver<DeviceRole>, pdo: PhysicalDevice, passive: Passive) -> Option<Self> {
        let parameter = Key::of_parameters(driver, passive)
            .ok()
            .and_then(|key| key.dword(&Wide::new("Role")));
        match parameter {
            Some(1) => return PortSpace::here().map(Self::Parallel),
            Some(2) => return Some(Self::StillImage),
            _ => {}
        }
        let property = |property| pdo.property::<64>(property, passive);
        if property(Property::Enumerator)?.is("USB") {
            return Some(Self::StillImage);
        }
        property(Property::ClassGuid)?
            .is(PORTS_CLASS)
            .then(PortSpace::here)?
            .map(Self::Parallel)
    }
}

impl kernel::Role for DeviceRole {
    fn add_device(
        driver: Driver<Self>,
        pdo: PhysicalDevice,
        passive: Passive,
    ) -> Result<(), Status> {
        match Kind::of(driver, pdo, passive) {
            Some(Kind::Parallel(space)) => parallel::add_port(driver, pdo, space, passive),
            Some(Kind::StillImage) => usbscan::add_scanner(driver, pdo, passive),
            None => Err(Status::NOT_SUPPORTED),
        }
    }

    #[inline(never)]
    fn pnp(&self) -> Pnp<'_, Self> {
        match self {
            Self::Port(port) => Pnp::Function(port),
            Self::ParallelDevice(device) => Pnp::Child(device),
            Self::StillImage(scanner) => Pnp::Function(scanner),
        }
    }

    #[inline(never)]
    fn label(&self) -> trace::Label {
        match self {
            Self::Port(port) => port.label(),
            Self::ParallelDevice(device) => device.label(),
            Self::StillImage(scanner) => scanner.label(),
        }
    }

    fn request(&self, device: Device<'_, Self>, irp: Irp, request: Request) -> Disposition {
        match self {
            Self::Port(port) => port.request(device.state(), irp, request),
            Self::ParallelDevice(parallel) => parallel.request(device.state(), irp, request),
            Self::StillImage(scanner) => scanner.request(device, irp, request),
        }
    }
}

//! A computer that is not there: devices that answer by the documentation, and a log of what they
//! were asked.

mod port;
mod scanner;
mod wire;
mod world;

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parscan_client::{
    Cancel, DeviceNode, Error, Failure, Interface, InterfaceClass, Moved, Service, SetupClass,
    Status, System, Transport,
};

pub(crate) use port::Printer;
pub(crate) use scanner::ScannerModel;
pub(crate) use world::world;

/// What all parts of a computer share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    log: Arc<Mutex<Vec<String>>>,
    milliseconds: Arc<AtomicU64>,
    /// What Ctrl-C cancels.
    pub(crate) cancel: Cancel,
}

impl Shared {
    pub(crate) fn log(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// What was asked, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Lets time go by.
    pub(crate) fn pass(&self, milliseconds: u64) {
        self.milliseconds.fetch_add(milliseconds, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}

/// What is behind an interface.
#[derive(Clone)]
pub(crate) enum Model {
    Printer(Printer),
    Scanner(ScannerModel),
    /// It cannot be opened.
    Closed(Status),
}

/// A computer.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) shared: Shared,
    pub(crate) ports: Vec<(Interface, Model)>,
    pub(crate) scanners: Vec<(Interface, Model)>,
    pub(crate) ports_class: Vec<DeviceNode>,
    pub(crate) image_class: Vec<DeviceNode>,
    pub(crate) without_class: Vec<DeviceNode>,
    pub(crate) services: Vec<(&'static str, Service)>,
    pub(crate) elevated: bool,
}

/// The failure that Windows makes of a status: the table of ntdll.
pub(crate) fn failure(status: u32, transferred: usize) -> Failure {
    let win32 = match status {
        0x0000_0102 => 1460,
        0x8000_000E => 28,
        0x8000_000F | 0x8000_0010 | 0xC000_00A3 => 21,
        0x8000_0011 => 170,
        0xC000_000D => 87,
        0xC000_000E | 0xC000_0034 => 2,
        0xC000_0010 => 1,
        0xC000_0022 => 5,
        0xC000_0023 => 122,
        0xC000_009D => 1167,
        0xC000_00B5 => 121,
        0xC000_0120 => 995,
        0xC000_0185 => 1117,
        0xC000_02B6 => 1617,
        _ => 31,
    };
    Failure {
        win32,
        status: Some(Status(status.cast_signed())),
        transferred,
    }
}

/// Puts an answer into the caller's buffer, as far as the I/O manager would.
fn answer(output: &mut [u8], bytes: &[u8]) -> Moved {
    match output.get_mut(..bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(bytes.len())
        }
        None => Err(failure(0xC000_0023, 0)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, " {byte:02x}");
        text
    })
}

impl System for World {
    fn interfaces(&self, class: InterfaceClass) -> Result<Vec<Interface>, Error> {
        let list = match class {
            InterfaceClass::ParallelDevice => &self.ports,
            InterfaceClass::Image => &self.scanners,
        };
        Ok(list
            .iter()
            .map(|(interface, _)| interface.clone())
            .collect())
    }

    fn devices(&self, class: SetupClass) -> Result<Vec<DeviceNode>, Error> {
        Ok(match class {
            SetupClass::Ports => self.ports_class.clone(),
            SetupClass::Image => self.image_class.clone(),
        })
    }

    fn devices_without_class(&self) -> Result<Vec<DeviceNode>, Error> {
        Ok(self.without_class.clone())
    }

    fn service(&self, name: &str) -> Result<Option<Service>, Error> {
        Ok(self
            .services
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, service)| service.clone()))
    }

    fn is_elevated(&self) -> bool {
        self.elevated
    }

    fn open(&self, path: &str) -> Result<Box<dyn Transport>, Error> {
        let model = self
            .ports
            .iter()
            .chain(&self.scanners)
            .find(|(interface, _)| path.starts_with(&interface.path))
            .map_or(
                Model::Closed(Status::OBJECT_NAME_NOT_FOUND),
                |(interface, model)| {
                    let below = &path[interface.path.len()..];
                    if !below.is_empty() {
                        self.shared.log(format!("open {below}"));
                    }
                    model.clone()
                },
            );
        match model {
            Model::Printer(printer) => Ok(Box::new(port::Open::new(printer, self.shared.clone()))),
            Model::Scanner(scanner) => {
                Ok(Box::new(scanner::Open::new(scanner, self.shared.clone())))
            }
            Model::Closed(status) => Err(Error::Failed {
                request: "CreateFileW",
                failure: failure(status.0.cast_unsigned(), 0),
            }),
        }
    }
}
